//! Every way in which an answer ends.

use std::convert::Infallible;
use std::io::{Read as _, Write as _};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Path, Request};
use axum::http::{Response, StatusCode, header};
use axum::routing::get;
use axum::{Router, response::IntoResponse};
use futures_util::{StreamExt as _, stream};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Frame, SizeHint};
use tower::{Layer as _, ServiceExt as _};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::timeout::TimeoutLayer;
use tower_http::trace::TraceLayer;
use tracing::{Dispatch, instrument};
use tracing_activity::config::{Database, SamplingPolicy};
use tracing_activity::middleware::RequestSpanLayer;
use tracing_activity::model::Activity;
use tracing_activity::model::Outcome::{self, ClientFault, ServerFault, Success};
use tracing_activity::sink::MemorySink;
use tracing_activity::with_activity;
use tracing_subscriber::Registry;
use tracing_subscriber::layer::SubscriberExt as _;

use crate::server::{ON_PURPOSE, Server, config, endless};

#[instrument]
async fn load(id: u32) -> Option<u32> {
    tokio::task::yield_now().await;
    (id < 100).then_some(id)
}

async fn user(Path(id): Path<u32>) -> Result<String, StatusCode> {
    load(id).await.map(|id| id.to_string()).ok_or(StatusCode::NOT_FOUND)
}

async fn panics() -> &'static str {
    panic!("{ON_PURPOSE}");
}

async fn hang() -> &'static str {
    std::future::pending().await
}

/// Ten parts, 5 ms apart, and a word to the activity in the midst of them.
async fn slow() -> Body {
    Body::from_stream(stream::unfold(0, |n| async move {
        tokio::time::sleep(Duration::from_millis(5)).await;
        with_activity(|a| a.data("parts", n));
        (n < 10).then(|| (Ok::<_, Infallible>(Bytes::from_static(b"part ")), n + 1))
    }))
}

/// Two parts, of which the second goes wrong.
async fn breaks() -> Body {
    let parts = [Ok(Bytes::from_static(b"part ")), Err(std::io::Error::other("the disk is gone"))];
    Body::from_stream(stream::iter(parts))
}

async fn panics_midway() -> Body {
    Body::from_stream(stream::unfold(0, |n| async move {
        assert!(n < 1, "{ON_PURPOSE}");
        Some((Ok::<_, Infallible>(Bytes::from_static(b"part ")), n + 1))
    }))
}

async fn events() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/event-stream")], endless())
}

/// Becomes an echo.
async fn upgrade(request: Request) -> Response<Body> {
    tokio::spawn(async move {
        let upgraded = hyper::upgrade::on(request).await.unwrap();
        let (mut read, mut write) = tokio::io::split(hyper_util::rt::TokioIo::new(upgraded));
        tokio::io::copy(&mut read, &mut write).await.unwrap();
    });
    let response = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
    response
        .header(header::CONNECTION, "upgrade")
        .header(header::UPGRADE, "echo")
        .body(Body::empty())
        .unwrap()
}

/// A body that tells its length, and its end only to those who ask once more.
struct Sized(Option<&'static str>);

impl hyper::body::Body for Sized {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|text| Ok(Frame::data(text.into()))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.map_or(0, str::len) as u64)
    }
}

/// Says so when it is dropped.
struct Guard;

impl Drop for Guard {
    fn drop(&mut self) {
        tracing::info!("the guard was dropped");
    }
}

/// So many parts, or parts without end.
async fn guarded(Path(parts): Path<usize>) -> Body {
    let guard = Guard;
    Body::from_stream(stream::repeat(()).take(parts).then(move |()| {
        let _kept = &guard;
        async {
            tokio::task::yield_now().await;
            Ok::<_, Infallible>(Bytes::from_static(b"part "))
        }
    }))
}

/// A stream of which only the head tells the length, as of a file.
async fn announced(Path(text): Path<String>) -> impl IntoResponse {
    let text = text.trim_start_matches("nothing").to_owned();
    let length = [(header::CONTENT_LENGTH, text.len().to_string())];
    let parts = [Ok::<_, Infallible>(Bytes::from(text))];
    (length, Body::from_stream(stream::iter(parts).chain(stream::pending())))
}

fn routes() -> Router {
    Router::new()
        .route("/", get(|| async { "index" }))
        .route("/users/{id}", get(user))
        .route("/empty", get(|| async { StatusCode::NO_CONTENT }))
        .route("/sized", get(|| async { Body::new(Sized(Some("five!"))) }))
        .route("/announced/{text}", get(announced))
        .route("/fails-at-length", get(|| async { (StatusCode::BAD_GATEWAY, endless()) }))
        .route("/guarded/{parts}", get(guarded))
        .route("/boom", get(|| async { StatusCode::BAD_GATEWAY }))
        .route("/panic", get(panics))
        .route("/hang", get(hang))
        .route("/slow", get(slow))
        .route("/breaks", get(breaks))
        .route("/panics-midway", get(panics_midway))
        .route("/events", get(events))
        .route("/endless", get(|| async { endless() }))
        .route("/upgrade", get(upgrade))
}

fn server() -> Server {
    Server::axum(config(), || routes().layer(RequestSpanLayer::new()))
}

fn essence(activity: &Activity) -> (&str, u16, Outcome, &str) {
    let Activity { ekind, status, outcome, error_kind, .. } = activity;
    (ekind, *status, *outcome, error_kind)
}

fn span_names(activity: &Activity) -> Vec<&str> {
    activity.trace.as_ref().unwrap().spans.iter().map(|span| &*span.name).collect()
}

#[test]
fn method_route_status_and_outcome_are_right() {
    for (method, target, expected) in [
        ("GET", "/users/7?token=s3cret", ("GET /users/{id}", 200, Success, "")),
        ("HEAD", "/users/7", ("HEAD /users/{id}", 200, Success, "")),
        ("GET", "/users/700", ("GET /users/{id}", 404, ClientFault, "")),
        ("GET", "/nowhere/at/all", ("GET", 404, ClientFault, "")),
        ("DELETE", "/users/7", ("DELETE /users/{id}", 405, ClientFault, "")),
        ("BREW", "/", ("_OTHER /", 405, ClientFault, "")),
        ("GET", "/empty", ("GET /empty", 204, Success, "")),
        ("GET", "/boom", ("GET /boom", 502, ServerFault, "502")),
        ("GET", "/panic", ("GET /panic", 0, ServerFault, "panic")),
        ("GET", "/breaks", ("GET /breaks", 200, ServerFault, "body_error")),
        ("GET", "/panics-midway", ("GET /panics-midway", 200, ServerFault, "panic")),
    ] {
        let server = server();
        server.request(method, target, "");
        let activity = server.one();
        assert_eq!(essence(&activity), expected, "{method} {target}");
    }
}

#[test]
fn the_span_has_opentelemetrys_fields_and_no_secret() {
    let server = server();
    server.request(
        "GET",
        "/users/7?token=s3cret",
        "user-agent: test/1\r\nreferer: https://u:s3cret@a.example/b?c=s3cret\r\n",
    );
    let activity = server.one();
    assert_eq!(activity.url, "/users/7?token=?");
    assert_eq!((&*activity.user_agent, &*activity.referer), ("test/1", "a.example/b?c=?"));
    assert_eq!(activity.ip.unwrap().to_canonical().to_string(), "127.0.0.0");
    assert_eq!(span_names(&activity), ["HTTP request", "load"]);
    let root = &activity.trace.as_ref().unwrap().spans[0];
    let value = |name: &str| {
        let found = root.attributes.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.to_string())
    };
    for (name, expected) in [
        ("otel.name", "GET /users/{id}"),
        ("otel.kind", "server"),
        ("http.request.method", "GET"),
        ("http.route", "/users/{id}"),
        ("url.path", "/users/7"),
        ("url.query", "token=?"),
        ("network.protocol.version", "1.1"),
        ("http.response.status_code", "200"),
    ] {
        assert_eq!(value(name).as_deref(), Some(expected), "{name}");
    }
    let everything = format!("{activity:?}");
    assert!(!everything.contains("s3cret"), "{everything}");
}

#[test]
fn the_span_of_a_request_that_failed_is_marked() {
    for (target, error) in [("/boom", "error"), ("/panic", "panic"), ("/", ""), ("/nowhere", "")] {
        let server = server();
        server.get(target);
        assert_eq!(server.one().trace.unwrap().spans[0].error, error, "{target}");
    }
}

#[test]
fn a_stream_lasts_until_its_last_part() {
    let server = server();
    let answer = server.get("/slow");
    assert_eq!(answer.matches("part ").count(), 10);
    let activity = server.one();
    assert_eq!(essence(&activity), ("GET /slow", 200, Success, ""));
    assert!(activity.duration >= 50_000, "ten parts, 5 ms apart: {} us", activity.duration);
    assert_eq!(activity.data, r#"{"parts":10}"#, "the stream runs inside of the request");
}

#[test]
fn an_answer_of_known_length_ends_although_nobody_asks_for_its_end() {
    let server = server();
    let answer = server.get("/sized");
    assert!(answer.contains("content-length: 5") && answer.ends_with("five!"), "{answer}");
    assert_eq!(essence(&server.one()), ("GET /sized", 200, Success, ""));
}

#[test]
fn an_answer_whose_head_tells_its_length_ends_with_its_last_byte() {
    for text in ["five!", "nothing"] {
        let server = server();
        let answer = server.get(&format!("/announced/{text}"));
        let sent = text.trim_start_matches("nothing");
        assert!(answer.contains(&format!("content-length: {}", sent.len())), "{answer}");
        assert!(answer.ends_with(&format!("\r\n\r\n{sent}")), "{answer}");
        let activity = server.one();
        assert_eq!(essence(&activity), ("GET /announced/{text}", 200, Success, ""));
    }
}

#[test]
fn a_client_that_leaves_before_the_answer_is_a_client_fault() {
    let server = server();
    let connection = server.send("GET", "/hang", "");
    connection.shutdown(std::net::Shutdown::Both).unwrap();
    drop(connection);
    let activity = server.one();
    assert_eq!(essence(&activity), ("GET /hang", 0, ClientFault, "client_disconnected"));
    assert!(!activity.incomplete);
}

#[test]
fn a_client_that_leaves_in_the_middle_of_a_body_is_a_client_fault() {
    let server = server();
    server.leave_after("/endless", "part");
    let activity = server.one();
    assert_eq!(essence(&activity), ("GET /endless", 200, ClientFault, "client_disconnected"));
}

#[test]
fn a_client_that_leaves_an_error_is_not_its_cause() {
    let server = server();
    server.leave_after("/fails-at-length", "part");
    assert_eq!(essence(&server.one()), ("GET /fails-at-length", 502, ServerFault, "502"));
}

#[test]
fn a_client_that_has_heard_enough_events_did_no_wrong() {
    let server = server();
    server.leave_after("/events", "data: part");
    assert_eq!(essence(&server.one()), ("GET /events", 200, Success, ""));
}

#[test]
fn an_upgrade_is_answered_at_once_and_works() {
    let server = server();
    let mut stream = server.send("GET", "/upgrade", "upgrade: echo\r\nconnection: upgrade\r\n");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    // The row is there while the connection lives on.
    assert_eq!(essence(&server.one()), ("GET /upgrade", 101, Success, ""));
    stream.write_all(b"echo").unwrap();
    let mut echo = [0; 4];
    stream.read_exact(&mut echo).unwrap();
    assert_eq!(&echo, b"echo");
}

#[test]
fn what_a_body_says_when_it_is_dropped_is_in_the_trace() {
    let events = |activity: &Activity| {
        let trace = activity.trace.as_ref().unwrap();
        let said = trace.events.iter().filter(|it| it.message == "the guard was dropped");
        said.map(|it| it.span).collect::<Vec<_>>()
    };
    let server = server();
    server.get("/guarded/3");
    server.leave_after(&format!("/guarded/{}", u32::MAX), "part");
    let activities = server.activities(2);
    let outcomes: Vec<_> = activities.iter().map(|it| it.outcome).collect();
    assert_eq!(outcomes, [Success, ClientFault]);
    assert!(activities.iter().all(|it| events(it) == [0]), "{activities:#?}");
}

#[test]
fn the_answer_shows_in_the_trace_and_not_in_its_hash() {
    let server = Server::axum(config(), || {
        let said = |outcome| get(move || async move { with_activity(|a| a.outcome(outcome)) });
        routes()
            .route("/said", said(ServerFault))
            .route("/fine", said(Success))
            .layer(RequestSpanLayer::new())
    });
    for target in ["/", "/boom", "/nowhere", "/fine", "/said"] {
        server.get(target);
    }
    let activities = server.activities(5);
    let outcomes: Vec<Outcome> = activities.iter().map(|it| it.outcome).collect();
    assert_eq!(outcomes, [Success, ServerFault, ClientFault, Success, ServerFault]);
    let marks: Vec<&str> =
        activities.iter().map(|it| &*it.trace.as_ref().unwrap().spans[0].error).collect();
    assert_eq!(marks, ["", "error", "", "", "error"]);
    assert!(activities.iter().all(|it| it.trace_hash == activities[0].trace_hash));
    assert!(activities[0].trace_hash.is_some());
}

#[test]
fn the_message_of_a_broken_body_is_kept() {
    let server = server();
    server.get("/breaks");
    assert_eq!(server.one().error, "the disk is gone");
}

#[test]
fn layers_inside_answer_for_the_service() {
    let server = Server::axum(config(), || {
        routes()
            .layer(CatchPanicLayer::new())
            .layer(TimeoutLayer::with_status_code(
                StatusCode::GATEWAY_TIMEOUT,
                Duration::from_millis(5),
            ))
            .layer(RequestSpanLayer::new())
    });
    assert!(server.get("/hang").contains("504"));
    assert!(server.get("/panic").contains("500"));
    let activities = server.activities(2);
    assert_eq!(essence(&activities[0]), ("GET /hang", 504, ServerFault, "504"));
    assert_eq!(activities[1].outcome, ServerFault);
    assert_eq!(activities[1].status, 500);
}

#[test]
fn a_panic_that_is_caught_outside_is_no_client_that_left() {
    let server = Server::axum(config(), || {
        routes().layer(RequestSpanLayer::new()).layer(CatchPanicLayer::new())
    });
    assert!(server.get("/panic").contains("500"));
    assert_eq!(essence(&server.one()), ("GET /panic", 0, ServerFault, "panic"));
}

#[test]
fn beside_tower_https_layer_a_request_is_one_row_in_either_order() {
    let ours_outside = || routes().layer(TraceLayer::new_for_http()).layer(RequestSpanLayer::new());
    let ours_inside = || routes().layer(RequestSpanLayer::new()).layer(TraceLayer::new_for_http());
    for (apps, names) in [
        (ours_outside as fn() -> Router, ["HTTP request", "request", "load"]),
        (ours_inside, ["request", "HTTP request", "load"]),
    ] {
        let server = Server::axum(
            {
                let mut config = config();
                config.capture.filter = "debug".parse().unwrap();
                config
            },
            apps,
        );
        server.get("/users/7?x=1");
        server.get("/boom");
        server.leave_after("/endless", "part");
        server.wait_for(3);
        let (activities, stats) = server.stop();
        assert_eq!(stats.created, 3, "{stats}");
        let essences: Vec<_> = activities.iter().map(essence).collect();
        assert_eq!(
            essences,
            [
                ("GET /users/{id}", 200, Success, ""),
                ("GET /boom", 502, ServerFault, "502"),
                ("GET /endless", 200, ClientFault, "client_disconnected"),
            ]
        );
        assert_eq!(activities[0].url, "/users/7?x=?");
        assert!(names.iter().all(|name| span_names(&activities[0]).contains(name)));
    }
}

#[test]
fn two_layers_of_ours_make_one_row_of_the_outer_ones_end() {
    let server = Server::axum(config(), || {
        routes().layer(RequestSpanLayer::new()).layer(RequestSpanLayer::new())
    });
    server.get("/slow");
    let (activities, stats) = {
        server.wait_for(1);
        server.stop()
    };
    assert_eq!(stats.created, 1, "{stats}");
    assert_eq!(essence(&activities[0]), ("GET /slow", 200, Success, ""));
    assert!(activities[0].duration >= 50_000);
}

#[test]
fn a_request_to_itself_is_a_part_of_the_request() {
    let server = Server::axum(config(), || {
        let asks_itself = || async {
            let inner = routes().layer(RequestSpanLayer::new());
            let request = Request::builder().uri("/nowhere").body(Body::empty()).unwrap();
            assert_eq!(inner.oneshot(request).await.unwrap().status(), StatusCode::NOT_FOUND);
            with_activity(|a| a.data("after", true));
            StatusCode::CREATED
        };
        Router::new().route("/ask", get(asks_itself)).layer(RequestSpanLayer::new())
    });
    server.get("/ask");
    server.wait_for(1);
    let (activities, stats) = server.stop();
    assert_eq!(stats.created, 1, "{stats}");
    assert_eq!(essence(&activities[0]), ("GET /ask", 201, Success, ""));
    assert_eq!((&*activities[0].url, &*activities[0].data), ("/ask", r#"{"after":true}"#));
}

#[test]
fn a_job_that_asks_its_own_service_goes_on() {
    let sink = MemorySink::new();
    let (layer, guard) =
        tracing_activity::builder().config(config()).sink(sink.clone()).build().unwrap();
    let subscriber = Dispatch::new(Registry::default().with(layer));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    tracing::dispatcher::with_default(&subscriber, || {
        let job = tracing::info_span!(
            "clean up",
            otel.kind = "consumer",
            otel.status_code = tracing::field::Empty
        );
        let work = async {
            let request = Request::builder().uri("/boom").body(Body::empty()).unwrap();
            let response = routes().layer(RequestSpanLayer::new()).oneshot(request).await.unwrap();
            assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
            drop(response);
            with_activity(|a| a.data("after", true));
        };
        runtime.block_on(tracing::Instrument::instrument(work, job));
    });
    assert!(guard.shutdown(crate::server::DEADLINE).complete);
    let activities = sink.activities();
    let [job] = &*activities else { panic!("{activities:#?}") };
    assert_eq!(essence(job), ("clean up", 0, Success, ""));
    assert_eq!((&*job.method, &*job.url, &*job.data), ("", "", r#"{"after":true}"#));
    assert!(span_names(job).contains(&"HTTP request"), "what it asked is a part of it");
}

#[test]
fn a_request_is_over_although_a_task_of_it_goes_on() {
    let released = Arc::new(AtomicBool::new(false));
    let release = Arc::clone(&released);
    let server = Server::axum(config(), move || {
        let spawns = move || async move {
            let task = async move {
                while !release.load(Ordering::Relaxed) {
                    tokio::task::yield_now().await;
                }
            };
            tokio::spawn(tracing::Instrument::instrument(task, tracing::Span::current()));
            "spawned"
        };
        Router::new().route("/spawn", get(spawns)).layer(RequestSpanLayer::new())
    });
    server.get("/spawn");
    assert_eq!(essence(&server.one()), ("GET /spawn", 200, Success, ""));
    released.store(true, Ordering::Relaxed);
    server.stop();
}

#[test]
fn traces_switched_off_change_nothing_of_the_row() {
    let mut config = config();
    config.sample = SamplingPolicy::OFF;
    config.capture.filter = "off".parse().unwrap();
    for app in [
        || routes().layer(RequestSpanLayer::new()),
        || routes().layer(RequestSpanLayer::new()).layer(TraceLayer::new_for_http()),
    ] {
        let server = Server::axum(config.clone(), app);
        server.get("/users/7");
        server.get("/panic");
        server.leave_after("/endless", "part");
        let activities = server.activities(3);
        let essences: Vec<_> = activities.iter().map(essence).collect();
        assert_eq!(
            essences,
            [
                ("GET /users/{id}", 200, Success, ""),
                ("GET /panic", 0, ServerFault, "panic"),
                ("GET /endless", 200, ClientFault, "client_disconnected"),
            ]
        );
    }
}

/// The answer to a request that is served under `subscriber`, its size hint before it is read, and
/// what it is.
fn served_under(subscriber: &Dispatch, target: &str) -> (u16, Option<u64>, Bytes) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tracing::dispatcher::with_default(subscriber, || {
        runtime.block_on(async {
            let request = Request::builder().uri(target).body(Body::empty()).unwrap();
            // Not a layer of the router, which would box what it gives.
            let service = RequestSpanLayer::new().layer(routes());
            let response = service.oneshot(request).await.unwrap();
            let (status, size) = (response.status().as_u16(), response.body().size_hint().exact());
            let body = response.into_body().collect().await.unwrap();
            (status, size, body.to_bytes())
        })
    })
}

#[test]
fn whoever_listens_or_nobody_requests_and_answers_pass_untouched() {
    let mut off = config();
    off.database = Database::Off;
    let (off, guard) = tracing_activity::builder().config(off).build().unwrap();
    let (layer, disabled) = tracing_activity::builder().sink(MemorySink::new()).build().unwrap();
    disabled.set_enabled(false);
    for subscriber in [
        Dispatch::none(),
        Dispatch::new(Registry::default()),
        Dispatch::new(Registry::default().with(off)),
        Dispatch::new(Registry::default().with(layer)),
    ] {
        let answer = served_under(&subscriber, "/");
        assert_eq!(answer, (200, Some(5), Bytes::from_static(b"index")));
        assert_eq!(served_under(&subscriber, "/empty"), (204, Some(0), Bytes::new()));
        let (status, size, body) = served_under(&subscriber, "/slow");
        assert_eq!((status, size, body.len()), (200, None, 50));
    }
    assert_eq!((guard.stats().created, disabled.stats().created), (0, 0));
}

#[test]
fn a_body_that_is_at_its_end_says_so() {
    let server = server();
    let answer = server.get("/empty");
    assert!(!answer.contains("transfer-encoding"), "{answer}");
    assert!(server.get("/users/700").contains("content-length: 0"));
}
