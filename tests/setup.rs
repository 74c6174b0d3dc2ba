//! A service in a process of its own, whose environment, files and signals are not what they should be.
//!
//! What it prints on standard error is for an operator: one line for each thing, with its remedy.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tracing_activity::config::env::VARIABLES;

/// Long enough for anything that is going to happen.
const DEADLINE: Duration = Duration::from_mins(1);

/// Tells the test program which of its tests is to be a service.
const ROLE: &str = "ACTIVITY_TEST_ROLE";

/// The test program as the service `role`, without what else the environment says.
fn service(program: &Path, role: &str) -> Command {
    let mut command = Command::new(program);
    command.args(["--exact", role, "--nocapture"]).env(ROLE, role);
    command.env_remove("RUST_BACKTRACE").env_remove("SOURCE_DATE_EPOCH");
    for var in VARIABLES {
        command.env_remove(var.name);
    }
    command
}

fn this_program() -> PathBuf {
    std::env::current_exe().unwrap()
}

#[allow(clippy::disallowed_methods, reason = "the test program's own variable")]
fn is_role(role: &str) -> bool {
    std::env::var(ROLE).is_ok_and(|it| it == role)
}

/// A service that starts, serves one request, and ends.
#[test]
fn serve_one() {
    if !is_role("serve_one") {
        return;
    }
    match tracing_activity::init() {
        Ok(activities) => {
            drop(tracing::info_span!("request", http.request.method = "GET").entered());
            let handle = activities.handle();
            drop(activities);
            println!("started, stored {}", handle.stats().stored);
        }
        Err(error) => println!("refused: {error}"),
    }
}

/// What a service with this environment writes: to standard output, and to standard error.
fn written(program: &Path, vars: &[(&str, &str)]) -> (String, String) {
    let output = service(program, "serve_one").envs(vars.iter().copied()).output();
    let Output { stdout, stderr, status } = output.unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{stdout}{stderr}");
    (stdout.into_owned(), stderr.into_owned())
}

#[test]
fn whatever_opentelemetrys_variables_hold_a_service_starts_and_prints_one_line_of_each() {
    let given: Vec<_> =
        VARIABLES.iter().map(|it| it.name).filter(|it| it.starts_with("OTEL_")).collect();
    let vars: Vec<_> = given.iter().map(|name| (*name, "no\nsuch\u{1b}[31m <value> (")).collect();
    let (stdout, stderr) = written(&this_program(), &vars);
    assert!(stdout.contains("started, stored 1"), "{stdout}{stderr}");
    for name in given.into_iter().filter(|it| *it != "OTEL_SERVICE_NAME") {
        let begins = |line: &&str| {
            line.strip_prefix("tracing-activity: ").is_some_and(|line| {
                line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['=', ':']))
            })
        };
        let lines: Vec<_> = stderr.lines().filter(begins).collect();
        assert_eq!(lines.len(), 1, "{name}: {lines:?}\n{stderr}");
        assert!(lines[0].contains("it counts as not set; default: "), "{}", lines[0]);
    }
    assert!(!stderr.contains('\u{1b}'), "{stderr}");
    let strange = stderr.lines().find(|line| !line.starts_with("tracing-activity: "));
    assert_eq!(strange, None, "every line is ours");
}

#[test]
fn an_export_that_this_build_cannot_do_stops_nothing() {
    for (vars, remedy) in [
        #[cfg(not(feature = "otlp-grpc"))]
        (
            [("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"), ("OTEL_TRACES_EXPORTER", "otlp")],
            "spans are not exported: OTEL_EXPORTER_OTLP_PROTOCOL: this build has no gRPC",
        ),
        #[cfg(not(feature = "otlp-grpc"))]
        (
            [("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"), ("OTEL_METRICS_EXPORTER", "otlp")],
            "metrics are not exported: OTEL_EXPORTER_OTLP_PROTOCOL: this build has no gRPC",
        ),
        #[cfg(not(feature = "otlp-tls"))]
        (
            [
                ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://ana:hunter2@localhost:1"),
                ("OTEL_TRACES_EXPORTER", "otlp,console"),
            ],
            "spans are not exported: OTEL_EXPORTER_OTLP_ENDPOINT: this build has no TLS",
        ),
        (
            [("OTEL_PROPAGATORS", "b3"), ("OTEL_TRACES_SAMPLER", "xray")],
            "OTEL_TRACES_SAMPLER=\"xray\": expected always_on",
        ),
        (
            [("OTEL_TRACES_EXPORTER", "zipkin"), ("OTEL_BSP_SCHEDULE_DELAY", "soon")],
            "OTEL_BSP_SCHEDULE_DELAY=\"soon\": expected milliseconds",
        ),
    ] {
        let (stdout, stderr) = written(&this_program(), &vars);
        assert!(stdout.contains("started, stored 1"), "{stdout}{stderr}");
        assert_eq!(stderr.matches(remedy).count(), 1, "{remedy}: {stderr}");
        assert!(!stderr.contains("hunter2"), "{stderr}");
    }
}

#[test]
fn what_is_hardly_meant_gets_a_hint_and_what_is_wrong_an_error_without_the_password() {
    let (stdout, stderr) = written(
        &this_program(),
        &[("ACTIVITY_DB", "http://localhost:9000/x"), ("ACTIVITY_SHUTDOWN_TIMEOUT", "0s")],
    );
    assert!(stdout.contains("started"), "{stdout}{stderr}");
    assert!(stderr.contains("port 9000 is by default that of ClickHouse's native"), "{stderr}");
    let typo = [("ACTIVITY_SAMPEL", "a"), ("ACTIVITY_\u{1b}[2J\nX\u{202e}", "a")];
    let (_, stderr) = written(&this_program(), &typo);
    for line in ["ACTIVITY_SAMPEL is not a variable", "ACTIVITY_ [2J X  is not a variable"] {
        assert!(stderr.lines().any(|it| it.contains(line)), "{line}: {stderr:?}");
    }
    assert!(!stderr.contains(['\u{1b}', '\u{202e}']), "{stderr:?}");
    for address in ["clickhouse:///hunter2", "http://ana:hunt/er2@h", "ftp://ana:hunter2@h/x"] {
        let (stdout, stderr) = written(&this_program(), &[("ACTIVITY_DB", address)]);
        assert!(stdout.contains("refused: ACTIVITY_DB: "), "{stdout}{stderr}");
        assert!(!format!("{stdout}{stderr}").contains("hunt"), "{stdout}{stderr}");
    }
}

/// The system has no certificates: an image built from scratch.
#[test]
#[cfg(all(feature = "tls", feature = "otlp-tls"))]
fn certificates_are_asked_for_where_an_address_wants_them_and_nowhere_else() {
    let with = |vars: &[(&'static str, &'static str)]| {
        let none = [("SSL_CERT_FILE", "/no/such/file"), ("SSL_CERT_DIR", "/no/such/folder")];
        let all: Vec<_> = none.into_iter().chain(vars.iter().copied()).collect();
        written(&this_program(), &all)
    };
    let end = ("ACTIVITY_SHUTDOWN_TIMEOUT", "0s");
    let plain = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1");
    let (stdout, stderr) = with(&[("ACTIVITY_DB", "http://127.0.0.1:1/x"), plain, end]);
    assert!(stdout.contains("started"), "{stdout}{stderr}");
    assert!(!stderr.contains("certificates"), "{stderr}");
    let (stdout, stderr) = with(&[("ACTIVITY_DB", "https://127.0.0.1:1/x")]);
    let refusal = "refused: ACTIVITY_DB: the system's certificates cannot be read";
    assert!(stdout.contains(refusal) && stdout.contains("SSL_CERT_FILE"), "{stdout}{stderr}");
    let encrypted = ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://127.0.0.1:1");
    let (stdout, stderr) = with(&[encrypted, end]);
    assert!(stdout.contains("started"), "{stdout}{stderr}");
    let line = "spans are not exported: OTEL_EXPORTER_OTLP_ENDPOINT: the system's certificates";
    assert!(stderr.contains(line), "{stderr}");
}

/// A copy of the test program: a deploy.
struct Deploy(PathBuf);

impl Deploy {
    fn new(more: &[u8]) -> Self {
        let name = format!("activity-deploy-{:016x}", fastrand::u64(..));
        let path = std::env::temp_dir().join(name);
        std::fs::copy(this_program(), &path).unwrap();
        let mut file = std::fs::File::options().append(true).open(&path).unwrap();
        file.write_all(more).unwrap();
        Self(path)
    }

    /// What the column `site_version` holds where the file has this time, and what is printed.
    fn version(&self, modified: u64, vars: &[(&str, &str)]) -> (String, String) {
        let file = std::fs::File::options().append(true).open(&self.0).unwrap();
        file.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(modified)).unwrap();
        drop(file);
        let (stdout, stderr) = written(&self.0, vars);
        let (_, rest) = stdout.split_once("\"site_version\":\"").expect("a row");
        (rest.split('"').next().unwrap().to_owned(), stderr)
    }
}

impl Drop for Deploy {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn deploys_whose_files_have_no_time_are_told_apart_and_their_replicas_are_not() {
    const HINT: &str = "set ACTIVITY_SITE_VERSION";
    let (first, replica, second) = (Deploy::new(b""), Deploy::new(b""), Deploy::new(b"2"));
    // 1970, and the first day that an archive of type zip can hold.
    for constant in [1, 315_532_800] {
        let [(first, told), (replica, _), (second, _)] =
            [&first, &replica, &second].map(|it| it.version(constant, &[]));
        assert_eq!(first, replica, "two replicas of a deploy");
        assert_ne!(first, second, "two deploys");
        assert_eq!(told.matches(HINT).count(), 1, "{told}");
    }
    let (said, told) = first.version(1, &[("ACTIVITY_SITE_VERSION", "1790000000")]);
    assert!(said.starts_with("2026-09-21") && !told.contains(HINT), "{said} {told}");
    let (real, told) = first.version(1_790_000_000, &[]);
    assert!(real.starts_with("2026-09-21") && !told.contains(HINT), "{real} {told}");
}

async fn endless() {
    println!("an endless request");
    std::future::pending::<()>().await;
}

/// A server as the quick start has it, and a route whose answer never ends.
#[test]
#[cfg(unix)]
fn serve_until_a_signal() {
    use axum::routing::get;
    use tracing_activity::middleware::RequestSpanLayer;

    if !is_role("serve_until_a_signal") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let activities = tracing_activity::init().unwrap();
        let mut host =
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
        tokio::spawn(async move {
            host.recv().await;
            println!("the host was told");
        });
        let app = axum::Router::new()
            .route("/users/{id}", get(|| async { "ana" }))
            .route("/endless", get(endless))
            .layer(RequestSpanLayer::new());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("port={}=", listener.local_addr().unwrap().port());
        axum::serve(listener, app)
            .with_graceful_shutdown(activities.shutdown_on_signal(Duration::from_millis(300)))
            .await
            .unwrap();
        let report = activities.shutdown(DEADLINE);
        println!("ended, complete {}: {}", report.complete, report.stats);
    });
}

/// A running server. It is killed when this goes away.
struct Server {
    child: Child,
    stdout: BufReader<std::process::ChildStdout>,
    port: u16,
    written: String,
}

impl Server {
    fn start() -> Self {
        // Without the shutdown nothing would be delivered for an hour.
        let mut child = service(&this_program(), "serve_until_a_signal")
            .env("ACTIVITY_BATCH_INTERVAL", "1h")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut server = Self { child, stdout, port: 0, written: String::new() };
        server.read_until("port=");
        let (_, port) = server.written.rsplit_once("port=").unwrap();
        server.port = port.split('=').next().unwrap().parse().unwrap();
        server
    }

    /// Reads lines until one contains `text`.
    fn read_until(&mut self, text: &str) {
        let end = Instant::now() + DEADLINE;
        let mut line = String::new();
        while !line.contains(text) {
            assert!(Instant::now() < end, "waited in vain for {text}: {}", self.written);
            line.clear();
            let bytes = self.stdout.read_line(&mut line).unwrap();
            assert!(bytes > 0, "it ended without {text}: {}", self.written);
            self.written.push_str(&line);
        }
    }

    fn send(&self, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n\r\n").unwrap();
        stream
    }

    fn get(&self, path: &str) {
        let mut answer = String::new();
        self.send(path).read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }

    fn rows(&self) -> usize {
        self.written.matches("\"activity_id\":").count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
#[cfg(unix)]
fn a_signal_ends_a_server_whose_rows_are_all_stored() {
    for signal in ["TERM", "INT"] {
        let mut server = Server::start();
        for n in 0..50 {
            server.get(&format!("/users/{n}"));
        }
        server.signal(signal);
        server.read_until("ended, complete");
        assert!(server.child.wait().unwrap().success(), "{}", server.written);
        assert_eq!(server.rows(), 50, "{signal}: {}", server.written);
        assert!(server.written.contains("ended, complete true: 50 created: 50 stored"));
        assert_eq!(server.written.contains("the host was told"), signal == "TERM");
    }
}

#[test]
#[cfg(unix)]
fn a_signal_stores_the_rows_of_a_server_that_never_ends() {
    let mut server = Server::start();
    for n in 0..7 {
        server.get(&format!("/users/{n}"));
    }
    let _open = server.send("/endless");
    server.read_until("an endless request");
    server.signal("TERM");
    while server.rows() < 8 {
        server.read_until("\"activity_id\":");
    }
    assert!(server.child.try_wait().unwrap().is_none(), "the request is still open");
    assert!(server.written.contains("\"/endless\""), "{}", server.written);
}
