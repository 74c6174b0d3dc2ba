//! When the answer began, and which traces that keeps.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Router, middleware};
use futures_util::stream;
use tower_http::trace::TraceLayer;
use tracing_activity::config::Config;
use tracing_activity::middleware::RequestSpanLayer;
use tracing_activity::model::{Activity, KeepReason};

use crate::server::{Server, config};

/// Between the parts of a body, and how long a handler may think.
const PAUSE: Duration = Duration::from_millis(60);
const PARTS: u32 = 12;

/// How long a body takes: it must be more than what is called slow.
const WHOLE: Duration = Duration::from_millis(60 * 12);
const SLOW: &str = "slow>500ms";

fn parts() -> Body {
    Body::from_stream(stream::unfold(0, |n| async move {
        if n > 0 {
            tokio::time::sleep(PAUSE).await;
        }
        (n <= PARTS).then(|| (Ok::<_, Infallible>(Bytes::from_static(b"part ")), n + 1))
    }))
}

async fn late() -> Body {
    tokio::time::sleep(WHOLE).await;
    Body::from_stream(stream::iter([Ok::<_, Infallible>(Bytes::from_static(b"part"))]))
}

fn router() -> Router {
    let length = 5 * (PARTS + 1);
    Router::new()
        .route("/stream", get(async || parts()))
        .route("/events", get(async || ([(header::CONTENT_TYPE, "Text/Event-Stream")], parts())))
        .route("/late", get(late))
        .route("/download", get(async move || ([(header::CONTENT_LENGTH, length)], parts())))
        .route("/text", get(async || "text"))
        .route("/empty", get(async || StatusCode::NO_CONTENT))
        .route("/upgrade", get(async || StatusCode::SWITCHING_PROTOCOLS))
        .route("/hang", get(async || std::future::pending::<StatusCode>().await))
}

fn with_policy(policy: &str) -> Config {
    let mut config = config();
    config.sample = policy.parse().unwrap();
    config
}

fn asked(policy: &str, target: &str) -> Activity {
    let server = Server::axum(with_policy(policy), || router().layer(RequestSpanLayer::new()));
    server.get(target);
    server.one()
}

fn micros(duration: Duration) -> u64 {
    duration.as_micros() as u64
}

#[test]
fn an_answer_that_streams_began_before_it_ended() {
    for target in ["/stream", "/events", "/download"] {
        let it = asked("all", target);
        assert!(it.response_start > 0, "{target}");
        let body = it.duration - it.response_start;
        assert!(body >= micros(WHOLE), "{target}: {body} us of {}", it.duration);
    }
    let it = asked("all", "/late");
    assert!(it.response_start >= micros(WHOLE) && it.response_start <= it.duration);
}

#[test]
fn every_answer_began() {
    for target in ["/text", "/empty", "/nowhere"] {
        let it = asked("all", target);
        assert!((1..=it.duration).contains(&it.response_start), "{target}: {it:?}");
    }
    let server = Server::axum(config(), || router().layer(RequestSpanLayer::new()));
    drop(server.send("GET", "/upgrade", "upgrade: echo\r\nconnection: upgrade\r\n"));
    let it = server.one();
    assert_eq!(it.status, 101);
    assert!((1..=it.duration).contains(&it.response_start), "{it:?}");
}

#[test]
fn an_answer_that_never_came_did_not_begin() {
    let server = Server::axum(config(), || router().layer(RequestSpanLayer::new()));
    drop(server.send("GET", "/hang", ""));
    assert_eq!(server.one().response_start, 0);
}

#[test]
fn a_stream_is_slow_only_where_its_answer_began_late() {
    for (target, expected) in [
        ("/stream", None),
        ("/events", None),
        ("/text", None),
        ("/late", Some(KeepReason::Latency)),
        // Its length is known, and so is what is too long.
        ("/download", Some(KeepReason::Latency)),
    ] {
        assert_eq!(asked(SLOW, target).kept_because, expected, "{target}");
    }
}

#[test]
fn a_policy_may_say_otherwise() {
    let latency = Some(KeepReason::Latency);
    for (policy, target, expected) in [
        ("total>500ms", "/stream", latency),
        ("slow>500ms,route:/stream total>500ms", "/stream", latency),
        ("slow>500ms,route:/stream total>500ms", "/events", None),
        ("slow>1h,route:/late start>500ms", "/late", latency),
        ("start>500ms", "/late", latency),
        ("start>500ms", "/download", None),
        ("slow>500ms,route:/late start>1h", "/late", None),
        ("slow>500ms,ekind:GET /download start>1h", "/download", None),
    ] {
        assert_eq!(asked(policy, target).kept_because, expected, "{policy}: {target}");
    }
}

#[test]
fn an_answer_that_a_timeout_gives_began_late() {
    async fn hurry(
        request: axum::extract::Request,
        next: middleware::Next,
    ) -> Result<impl IntoResponse, StatusCode> {
        let answer = tokio::time::timeout(WHOLE, next.run(request)).await;
        answer.map_err(|_| StatusCode::OK)
    }
    let server = Server::axum(with_policy(SLOW), || {
        router().layer(middleware::from_fn(hurry)).layer(RequestSpanLayer::new())
    });
    server.get("/hang");
    assert_eq!(server.one().kept_because, Some(KeepReason::Latency));
}

#[test]
fn tower_http_tells_when_the_answer_began() {
    let server = Server::axum(config(), || router().layer(TraceLayer::new_for_http()));
    server.get("/stream");
    let it = server.one();
    assert!(it.response_start > 0);
    assert!(it.duration - it.response_start >= micros(PAUSE), "{it:?}");
}
