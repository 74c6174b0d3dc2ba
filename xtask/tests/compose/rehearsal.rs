//! The demo as compose starts it, without Docker: its environment, its users, its tables.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde_json::Value;

use crate::files::{compose_by_default, environment, root};
use crate::tables::{ask, engine_with_users, run_script};

const REQUESTS: u32 = 150;

/// The example, built by cargo.
fn shop() -> PathBuf {
    let output = Command::new(env!("CARGO"))
        .args(["build", "--package", "tracing-activity", "--package", "xtask", "--example", "shop"])
        .args(["--message-format", "json-render-diagnostics"])
        .current_dir(root())
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    let messages = String::from_utf8(output.stdout).unwrap();
    let messages = messages.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut shops = messages.filter(|message| message["target"]["name"] == "shop");
    shops.find_map(|message| message["executable"].as_str().map(PathBuf::from)).unwrap()
}

/// Stands for the Collector: takes whatever is sent to `/v1/traces`, and counts it.
fn collector() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let exports = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&exports);
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let (mut request, mut part) = (Vec::new(), [0; 16 << 10]);
            while !is_whole(&request) {
                match stream.read(&mut part) {
                    Ok(read) if read > 0 => request.extend_from_slice(&part[..read]),
                    _ => break,
                }
            }
            if request.starts_with(b"POST /v1/traces ") {
                counter.fetch_add(1, Ordering::Relaxed);
            }
            let answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
            stream.write_all(answer).ok();
        }
    });
    (address, exports)
}

/// Whether a request has come to the end of the body that its head announces.
fn is_whole(request: &[u8]) -> bool {
    let Some(end) = request.windows(4).position(|it| it == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&request[..end]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length = length.map_or(0, |length| length.trim().parse::<usize>().unwrap());
    request.len() >= end + 4 + length
}

#[test]
fn the_demo_fills_the_tables_that_grafana_reads() {
    let folder = std::env::temp_dir().join(format!("compose-demo-{}", std::process::id()));
    let server = engine_with_users(&folder);
    run_script(&server);
    let mut env = environment(&compose_by_default(), "demo");
    let database =
        env["ACTIVITY_DB"].replace("clickhouse:8123", server.url.strip_prefix("http://").unwrap());
    env.insert("ACTIVITY_DB".to_owned(), database);
    let (collector, exports) = collector();
    assert!(env["OTEL_EXPORTER_OTLP_ENDPOINT"].contains("collector:4318"));
    env.insert("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), format!("http://{collector}"));
    // In this engine everybody's password is the name.
    env.insert("ACTIVITY_PASSWORD".to_owned(), env["ACTIVITY_USER"].clone());

    let mut demo = Command::new(shop())
        .args(["--host", "0.0.0.0", "--port", "0", "--until-stdin-ends"])
        .envs(&env)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(demo.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let port = line.trim().strip_prefix("listening on http://0.0.0.0:").unwrap();
    let customers = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["customers", "--rounds", "1", "--seconds", "2"])
        .args(["--requests", &REQUESTS.to_string()])
        .args(["--shop", &format!("127.0.0.1:{port}")])
        .output()
        .unwrap();
    // Ends in good order: what waits is delivered.
    drop(demo.stdin.take());
    assert!(demo.wait().unwrap().success());
    let words = String::from_utf8_lossy(&customers.stderr);
    assert!(customers.status.success(), "{words}");

    let number = |sql: &str| {
        let text = ask(&server, "grafana", &[], sql).unwrap();
        text.trim().parse::<u32>().unwrap_or_else(|_| panic!("{sql}: {text}"))
    };
    assert_eq!(number("SELECT count() FROM activity.activities"), REQUESTS);
    assert_eq!(number("SELECT sum(requests) FROM activity.activity_minutes"), REQUESTS);
    assert!(number("SELECT count() FROM activity.trace_shapes FINAL") > 5);
    assert!(number("SELECT count() FROM activity.activity_spans") > REQUESTS);
    assert!(exports.load(Ordering::Relaxed) > 0, "nothing went to the Collector");
    server.engine.unwrap().stop().unwrap();
    std::fs::remove_dir_all(folder).unwrap();
}
