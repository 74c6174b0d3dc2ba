//! Ten thousand requests, of which three quarters go wrong.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use tower_http::timeout::TimeoutLayer;
use tracing_activity::middleware::RequestSpanLayer;

use crate::server::{ON_PURPOSE, Server, config, endless};

const THREADS: usize = 10;
const EACH: usize = 10_000 / THREADS / 4;

async fn panics() -> &'static str {
    panic!("{ON_PURPOSE}");
}

fn app() -> Router {
    Router::new()
        .route("/fine", get(|| async { "fine" }))
        .route("/panic", get(panics))
        .route("/endless", get(|| async { endless() }))
        .route("/hang", get(std::future::pending::<()>))
        .layer(TimeoutLayer::with_status_code(
            StatusCode::GATEWAY_TIMEOUT,
            Duration::from_millis(2),
        ))
        .layer(RequestSpanLayer::new())
}

#[test]
fn ten_thousand_requests_that_end_in_every_way_are_one_right_row_each() {
    let mut config = config();
    config.sample = tracing_activity::config::SamplingPolicy::OFF;
    let server = Arc::new(Server::axum(config, app));
    let clients: Vec<_> = (0..THREADS)
        .map(|_| {
            let server = Arc::clone(&server);
            std::thread::spawn(move || {
                for _ in 0..EACH {
                    assert!(server.get("/fine").ends_with("fine"));
                    assert_eq!(server.get("/panic"), "");
                    server.leave_after("/endless", "part");
                    assert!(server.get("/hang").contains("504"));
                }
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
    server.wait_for(10_000);
    let Ok(server) = Arc::try_unwrap(server) else { panic!("a client holds the server") };
    let (activities, stats) = server.stop();
    assert_eq!((stats.created, stats.stored), (10_000, 10_000), "{stats}");
    assert_eq!((stats.in_flight(), stats.dropped.total()), (0, 0), "{stats}");
    let mut counts = BTreeMap::new();
    for it in &activities {
        let key = (it.route.clone(), it.status, it.outcome.as_str(), it.error_kind.clone());
        *counts.entry(key).or_insert(0) += 1;
    }
    let key = |route: &str, status, outcome, kind: &str| {
        (route.to_owned(), status, outcome, kind.to_owned())
    };
    let expected = BTreeMap::from([
        (key("/fine", 200, "success", ""), 2500),
        (key("/panic", 0, "server_fault", "panic"), 2500),
        (key("/endless", 200, "client_fault", "client_disconnected"), 2500),
        (key("/hang", 504, "server_fault", "504"), 2500),
    ]);
    assert_eq!(counts, expected);
}
