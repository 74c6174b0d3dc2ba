//! Every way in which an answer ends.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix_web::body::SizedStream;
use actix_web::dev::Service as _;
use actix_web::{Error, HttpResponse, error, web};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use tracing::instrument;
use tracing_activity::model::Activity;
use tracing_activity::model::Outcome::{self, ClientFault, ServerFault, Success};
use tracing_activity::with_activity;

use crate::server::{ON_PURPOSE, Server};

const PART: Bytes = Bytes::from_static(b"part ");

#[instrument]
async fn load(id: u32) -> Option<u32> {
    tokio::task::yield_now().await;
    (id < 100).then_some(id)
}

async fn user(id: web::Path<u32>) -> Result<String, Error> {
    let found = load(*id).await;
    found.map(|id| id.to_string()).ok_or_else(|| error::ErrorNotFound("no such user"))
}

async fn panics() -> &'static str {
    panic!("{ON_PURPOSE}");
}

/// Ten parts, 5 ms apart, and a word to the activity in the midst of them.
async fn slow() -> HttpResponse {
    HttpResponse::Ok().streaming(stream::unfold(0, |n| async move {
        tokio::time::sleep(Duration::from_millis(5)).await;
        with_activity(|a| a.data("parts", n));
        (n < 10).then_some((Ok::<_, Infallible>(PART), n + 1))
    }))
}

async fn breaks() -> HttpResponse {
    let parts = [Ok(PART), Err(io::Error::other("the disk is gone"))];
    // The first part is to leave before the second goes wrong.
    HttpResponse::Ok().streaming(stream::iter(parts).then(async |part| {
        tokio::task::yield_now().await;
        part
    }))
}

async fn panics_midway() -> HttpResponse {
    HttpResponse::Ok().streaming(stream::unfold(0, |n| async move {
        tokio::task::yield_now().await;
        assert!(n < 1, "{ON_PURPOSE}");
        Some((Ok::<_, Infallible>(PART), n + 1))
    }))
}

async fn endless() -> HttpResponse {
    HttpResponse::Ok().streaming(stream::repeat(()).then(async |()| {
        tokio::task::yield_now().await;
        Ok::<_, Infallible>(PART)
    }))
}

/// A body that tells its length; its end comes to nobody's ear.
async fn announced() -> HttpResponse {
    let parts = stream::iter([Ok::<_, io::Error>(PART)]).chain(stream::pending());
    HttpResponse::Ok().body(SizedStream::new(PART.len() as u64, Box::pin(parts)))
}

fn routes(config: &mut web::ServiceConfig) {
    config
        .route("/users/{id}", web::get().to(user))
        .route("/users/{id}", web::head().to(user))
        .route("/empty", web::get().to(HttpResponse::NoContent))
        .route(
            "/broken",
            web::get()
                .to(async || Err::<String, _>(error::ErrorInternalServerError("the disk is gone"))),
        )
        .route("/panic", web::get().to(panics))
        .route("/slow", web::get().to(slow))
        .route("/breaks", web::get().to(breaks))
        .route("/panics-midway", web::get().to(panics_midway))
        .route("/endless", web::get().to(endless))
        .route("/announced", web::get().to(announced))
        .service(
            web::scope("/admin/{area}")
                .wrap_fn(|request, service| {
                    let refused = request.headers().get("x-pass").is_none();
                    let answer = service.call(request);
                    async move {
                        if refused {
                            return Err(error::ErrorForbidden("not without a pass"));
                        }
                        answer.await
                    }
                })
                .route("/orders/{order}", web::get().to(async || "order")),
        );
}

fn one(method: &str, target: &str) -> Activity {
    let server = Server::with(routes);
    server.request(method, target, "");
    server.one()
}

fn told(it: &Activity) -> (&str, u16, Outcome, &str, &str) {
    (&it.ekind, it.status, it.outcome, &it.error_kind, &it.error)
}

#[test]
fn an_answer_is_a_row_with_its_route_and_the_spans_inside() {
    let it = one("GET", "/users/7?token=s3cret");
    assert_eq!(told(&it), ("GET /users/{id}", 200, Success, "", ""));
    assert_eq!((&*it.route, &*it.url), ("/users/{id}", "/users/7?token=?"));
    assert_eq!(it.ip.unwrap().to_canonical().to_string(), "127.0.0.0");
    let names: Vec<_> = it.trace.unwrap().spans.iter().map(|it| it.name.to_string()).collect();
    assert_eq!(names, ["HTTP request", "load"]);
}

#[test]
fn a_refusal_is_the_clients_fault_and_a_failure_the_servers_with_their_words() {
    let it = one("GET", "/users/404");
    assert_eq!(told(&it), ("GET /users/{id}", 404, ClientFault, "", "no such user"));
    let it = one("GET", "/broken");
    assert_eq!(told(&it), ("GET /broken", 500, ServerFault, "500", "the disk is gone"));
}

#[test]
fn what_nobody_serves_has_no_route() {
    let it = one("GET", "/made/up");
    assert_eq!(told(&it), ("GET", 404, ClientFault, "", ""));
    assert_eq!((&*it.route, &*it.url), ("", "/made/up"));
    let it = one("BREW", "/users/7");
    assert_eq!((&*it.method, &*it.route), ("_OTHER", "/users/{id}"));
}

#[test]
fn an_error_of_a_middleware_is_the_answer_that_the_client_gets() {
    let server = Server::with(routes);
    assert!(server.get("/admin/shop/orders/7").starts_with("HTTP/1.1 403"));
    let it = server.one();
    let ekind = "GET /admin/{area}/orders/{order}";
    assert_eq!(told(&it), (ekind, 403, ClientFault, "", "not without a pass"));
}

#[test]
fn a_panic_is_the_servers_fault_before_and_in_the_midst_of_the_answer() {
    for (target, status) in [("/panic", 0), ("/panics-midway", 200)] {
        let it = one("GET", target);
        let (ekind, error) = (format!("GET {target}"), it.error.clone());
        assert_eq!(told(&it), (&*ekind, status, ServerFault, "panic", &*error));
    }
}

#[test]
fn the_request_lasts_as_long_as_its_body() {
    let it = one("GET", "/slow");
    assert_eq!(told(&it), ("GET /slow", 200, Success, "", ""));
    assert!(it.duration >= 50_000, "{} us", it.duration);
    assert!(it.data.contains("\"parts\":10"), "{}", it.data);
}

#[test]
fn a_body_that_breaks_is_the_servers_fault() {
    let it = one("GET", "/breaks");
    assert_eq!(told(&it), ("GET /breaks", 200, ServerFault, "body_error", "the disk is gone"));
}

#[test]
fn a_client_that_leaves_is_the_clients_fault() {
    let server = Server::with(routes);
    server.leave_after("/endless", "part");
    let it = server.one();
    assert_eq!(told(&it), ("GET /endless", 200, ClientFault, "client_disconnected", ""));
}

#[test]
fn a_client_that_leaves_before_the_answer_ends_the_request() {
    let reached = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&reached);
    let server = Server::with(move |config| {
        let reached = Arc::clone(&reached);
        let hang = move || {
            reached.store(true, Ordering::Relaxed);
            std::future::pending::<String>()
        };
        config.route("/hang", web::get().to(hang));
    });
    server.leave_when("/hang", || seen.load(Ordering::Relaxed));
    assert_eq!(told(&server.one()), ("GET /hang", 0, ClientFault, "client_disconnected", ""));
}

#[test]
fn what_has_no_body_ends_with_its_head_and_what_tells_its_length_with_its_last_byte() {
    for (method, target, status) in
        [("HEAD", "/users/7", 200), ("GET", "/empty", 204), ("GET", "/announced", 200)]
    {
        let server = Server::with(routes);
        if target == "/announced" {
            // Whoever waits for more than was announced waits for ever.
            server.leave_after(target, "part");
        } else {
            server.request(method, target, "");
        }
        let it = server.one();
        assert_eq!((it.status, it.outcome, &*it.error_kind), (status, Success, ""), "{target}");
    }
}

#[test]
fn a_thousand_requests_that_end_in_every_way_are_one_right_row_each() {
    let server = Server::with(routes);
    for _ in 0..250 {
        assert!(server.get("/users/7").ends_with('7'));
        assert_eq!(server.get("/panic"), "");
        server.leave_after("/endless", "part");
        assert!(server.get("/admin/a/orders/1").contains("403"));
    }
    server.activities(1000);
    let (activities, stats) = server.stop();
    assert_eq!((stats.created, stats.stored, stats.in_flight()), (1000, 1000, 0), "{stats}");
    let mut counts = BTreeMap::new();
    for it in &activities {
        *counts.entry((it.ekind.clone(), it.status, it.outcome.as_str())).or_insert(0) += 1;
    }
    let key = |ekind: &str, status, outcome| (ekind.to_owned(), status, outcome);
    let expected = BTreeMap::from([
        (key("GET /users/{id}", 200, "success"), 250),
        (key("GET /panic", 0, "server_fault"), 250),
        (key("GET /endless", 200, "client_fault"), 250),
        (key("GET /admin/{area}/orders/{order}", 403, "client_fault"), 250),
    ]);
    assert_eq!(counts, expected);
}
