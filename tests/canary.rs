//! Secrets planted wherever a service meets them, and looked for wherever something leaves it: the
//! rows, the log on standard output, what is written to standard error, and every error's text.
//!
//! The service runs in a process of its own, whose environment holds secrets, too.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Output};
use std::time::Duration;

use axum::Router;
use axum::http::header::{CONTENT_TYPE, SET_COOKIE};
use axum::routing::{get, post};
use serde::Serialize;
use tracing_activity::middleware::{RequestBodyLayer, RequestSpanLayer};
use tracing_activity::{ActivityEvent, Config, with_activity};

/// In every secret, and nowhere else.
const CANARY: &str = "c4n4ry";

/// Long enough for anything that is going to happen.
const DEADLINE: Duration = Duration::from_secs(30);

const ANSWER: &str = r#"{"user":"ana","access_token":"c4n4ry-answer","note":"c4n4ry-hidden"}"#;
const FORM: &str = "name=ana&password=c4n4ry-form";
const JSON: &str = r#"{"user":"ana","password":"c4n4ry-body","note":"c4n4ry-hidden-too"}"#;
const HEADERS: &str = "authorization: Bearer c4n4ry-header\r\n\
    proxy-authorization: Basic YzRuNHJ5\r\n\
    x-api-key: c4n4ry-key\r\n\
    x-shop-token: c4n4ry-listed\r\n\
    x-request-id: r7\r\n\
    cookie: sid=c4n4ry-cookie; __Host-at=c4n4ry-tracker; __Host-av=c4n4ry~visit\r\n\
    referer: https://ana:c4n4ry@shop.example/cart?session=c4n4ry-referer\r\n\
    user-agent: Mozilla/5.0 (X11) Firefox/143.0\r\n\
    accept: text/html\r\n\
    tracestate: vendor=c4n4ry\r\n";

/// The environment of the service: all that can hold a secret does.
fn environment() -> BTreeMap<&'static str, &'static str> {
    BTreeMap::from([
        ("ACTIVITY_DB", "stdout"),
        ("ACTIVITY_PASSWORD", "c4n4ry-password"),
        // A slip of the pen: told by its name.
        ("ACTIVITY_PASWORD", "c4n4ry-misspelt"),
        ("ACTIVITY_VISITS", "cookie"),
        (
            "ACTIVITY_VISIT_KEYS",
            "c4n4ry-key-of-thirty-two-characters,c4n4ry-old-key-of-32-characters-too",
        ),
        ("ACTIVITY_SAMPLE", "all"),
        ("ACTIVITY_CAPTURE_RESPONSE", "application/json"),
        ("ACTIVITY_CAPTURE_REQUEST", "application/*"),
        ("ACTIVITY_CAPTURE_HEADERS", "x-request-id,x-shop-token"),
        ("ACTIVITY_REDACT_JSON", "/note"),
        ("DATABASE_URL", "postgres://shop:c4n4ry-application@db/shop"),
    ])
}

#[derive(Serialize)]
struct SignedIn {
    method: &'static str,
    password: &'static str,
}

impl ActivityEvent for SignedIn {
    const EKIND: &'static str = "signed_in";
}

fn app() -> Router {
    let json = [(CONTENT_TYPE, "application/json"), (SET_COOKIE, "sid=c4n4ry-set")];
    Router::new()
        .route(
            "/cart",
            get(move || async move {
                // The log prints the fields of the request's span with it.
                tracing::info!(target: "audit", "looked into the cart");
                (json, ANSWER)
            }),
        )
        .route(
            "/login",
            post(|body: String| async move {
                let failed = std::io::Error::other(
                    "postgres://shop:c4n4ry-error@db/shop refused the password: c4n4ry-said",
                );
                tracing::error!(api_key = "c4n4ry-field", "cannot reach redis://:c4n4ry-log@cache");
                with_activity(|a| {
                    a.record(&SignedIn { method: "form", password: "c4n4ry-typed" })
                        .data("client_secret", "c4n4ry-data")
                        .target("call", "https://pay.example/?key=c4n4ry-target")
                        .on_behalf_of("Bearer c4n4ry-bearer")
                        .error(&failed)
                });
                body
            }),
        )
        .route("/panic", get(|| async { panics() }))
        .layer(RequestBodyLayer::new())
        .layer(RequestSpanLayer::new())
}

fn panics() -> &'static str {
    panic!("no answer from amqp://shop:c4n4ry-panic@queue")
}

/// Sends a request and waits for the end of its answer.
fn send(address: SocketAddr, line: &str, content_type: &str, body: &str) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let request = format!(
        "{line} HTTP/1.1\r\nhost: shop.example\r\nconnection: close\r\ncontent-type: {content_type}\r\n\
         content-length: {}\r\n{HEADERS}\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).unwrap();
    let _ = stream.read_to_end(&mut Vec::new());
}

/// The service. The tests below run it as a process of its own.
#[test]
#[ignore = "the tests below run it, with secrets in its environment"]
fn a_service_with_secrets() {
    // What panics is printed by Rust itself, not by us.
    std::panic::set_hook(Box::new(|_| ()));
    let log = tracing_subscriber::fmt::layer().with_ansi(false);
    let builder = tracing_activity::builder();
    println!("{builder:?}");
    let builder = builder.layer(tracing_subscriber::Layer::with_filter(
        log,
        tracing_subscriber::filter::FilterFn::new(|it| {
            // The application's own words in its own log are its own.
            it.is_span() || !it.target().starts_with("canary")
        }),
    ));
    let activities = match builder.install() {
        Ok(activities) => activities,
        Err(error) => return println!("{error}\n{error:?}"),
    };
    println!("{:?}\n{:?}\n{:?}", Config::from_env(), activities, activities.handle());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let client = std::thread::spawn(move || {
        const JSON_TYPE: &str = "application/json";
        send(address, "GET /cart?token=c4n4ry-query&utm_source=news", JSON_TYPE, "");
        send(address, "POST /login?next=c4n4ry-next", JSON_TYPE, JSON);
        send(address, "POST /login", "application/x-www-form-urlencoded", FORM);
        send(address, "GET /panic?why=c4n4ry-why", JSON_TYPE, "");
    });
    runtime.block_on(async {
        let serve = axum::serve(listener, app());
        let done = tokio::task::spawn_blocking(move || client.join().unwrap());
        tokio::select! {
            result = serve => result.unwrap(),
            result = done => result.unwrap(),
        }
    });
    drop(runtime);
    if let Some(Err(error)) = activities.prepared(Duration::from_secs(2)) {
        println!("{error}\n{error:?}");
    }
    let report = activities.shutdown(Duration::from_secs(5));
    println!("{report:?}\n{}", report.stats);
}

/// Runs the service; what it wrote.
fn run(changes: &[(&'static str, &'static str)]) -> String {
    let mut environment = environment();
    environment.extend(changes.iter().copied());
    let Output { stdout, stderr, status } = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "a_service_with_secrets", "--nocapture"])
        .envs(environment)
        .env_remove("RUST_BACKTRACE")
        .output()
        .unwrap();
    let written =
        format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{written}");
    written
}

fn hits(written: &str) -> Vec<&str> {
    // In base 64, too: that of `proxy-authorization`.
    written.lines().filter(|line| line.contains(CANARY) || line.contains("YzRuNHJ5")).collect()
}

#[test]
fn no_secret_leaves_in_rows_logs_and_messages() {
    let written = run(&[]);
    let rows: Vec<&str> =
        written.lines().filter(|line| line.starts_with("{\"trace_id\"")).collect();
    assert_eq!(rows.len(), 4, "{written}");
    assert_eq!(hits(&written), Vec::<&str>::new());
    // It is not that nothing was there to hide it in.
    for part in [
        r#""x-request-id":"r7""#,
        r#""x-shop-token":"[secret]""#,
        "/cart?token=?&utm_source=?",
        r#""ekind":"signed_in""#,
        r#""password":"[secret]""#,
        r#""note":"[redacted]""#,
        r#"\"access_token\":\"[secret]\""#,
        r#""visit_created":true"#,
        r#""campaign":"utm_source=news""#,
        r#""error_kind":"panic""#,
        r#""error_kind":"io::Error""#,
        "ACTIVITY_PASWORD is not a variable of this crate",
        "url.query=token=?",
        "[***, ***]",
    ] {
        assert!(written.contains(part), "{part} in\n{written}");
    }
}

#[test]
fn no_secret_of_the_environment_stands_in_an_error() {
    for (changes, expected) in [
        (&[("ACTIVITY_DB", "http://ana:c4n4ry@127.0.0.1:1/shop")][..], "cannot reach ClickHouse"),
        (&[("ACTIVITY_DB", "postgres://ana:c4n4ry@db/shop")], "expected stdout, off"),
        (&[("ACTIVITY_DB", "http://ana:c4n4ry@db.example/shop")], "ACTIVITY_INSECURE=true"),
        (&[("ACTIVITY_DB", "http://ana:c4n4ry@db.example/shop?password=c4n4ry")], "no query"),
        (&[("ACTIVITY_DB", "ana:c4n4ry@db.example")], "expected stdout, off"),
        (&[("ACTIVITY_VISIT_KEYS", "c4n4ry")], "key 1 of 1 has 6 characters"),
        (&[("ACTIVITY_VISIT_KEYS", "c4n4ry-key-of-thirty-two-characters,")], "key 2 of 2"),
    ] {
        let written = run(changes);
        assert!(written.contains(expected), "{changes:?}: {expected} in\n{written}");
        assert_eq!(hits(&written), Vec::<&str>::new(), "{changes:?}");
    }
}
