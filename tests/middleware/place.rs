//! Where the middleware stands: around the router, behind a guard that somebody left, without a peer.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{any, get};
use tokio::sync::Notify;
use tower::{Layer as _, ServiceExt as _};
use tower_http::trace::TraceLayer;
use tracing::{Instrument as _, Span, info_span};
use tracing_activity::config::{Config, SamplingPolicy};
use tracing_activity::middleware::{RequestSpanLayer, ResponseBody, RouteLayer};
use tracing_activity::with_activity;

use crate::server::{ON_PURPOSE, Server, config};

fn users() -> Router {
    Router::new()
        .route("/users/{id}", get(async || "ana"))
        .route("/dav/{*path}", any(async || "ok"))
}

/// Serves a router, and the middleware around it.
fn around(router: Router) -> Server {
    Server::run(config(), |listener| async move {
        let to_axum = |response: Response<ResponseBody<Body>>| response.map(Body::new);
        let service = RequestSpanLayer::new().layer(router);
        let service = tower::ServiceExt::<Request>::map_response(service, to_axum);
        let app = axum::ServiceExt::<Request>::into_make_service(service);
        axum::serve(listener, app).await.unwrap();
    })
}

#[test]
fn a_route_is_told_from_inside_of_the_router() {
    let server = around(users().route_layer(RouteLayer::new()));
    server.get("/users/7");
    server.get("/nowhere/7");
    let activities = server.activities(2);
    let seen: Vec<_> = activities.iter().map(|it| [&*it.route, &*it.oid, &*it.ekind]).collect();
    let users = "/users/{id}";
    assert_eq!(seen, [[users, users, "GET /users/{id}"], ["", "_OTHER", "GET"]]);
    let (_, name) = activities[0].trace.as_ref().unwrap().spans[0]
        .attributes
        .iter()
        .find(|(name, _)| name == "otel.name")
        .unwrap();
    assert_eq!(name.to_string(), "GET /users/{id}");
}

#[test]
fn a_route_is_told_by_a_handler_that_panics_and_by_one_that_is_left() {
    let server = around(
        Router::new()
            .route("/panics/{id}", get(async || -> &'static str { panic!("{ON_PURPOSE}") }))
            .route("/hangs/{id}", get(std::future::pending::<&'static str>))
            .route_layer(RouteLayer::new()),
    );
    server.get("/panics/1");
    server.wait_for(1);
    let stream = server.send("GET", "/hangs/1", "");
    crate::server::wait_until("the request begins", || server.stats().created == 2);
    drop(stream);
    let routes: Vec<_> = server.activities(2).iter().map(|it| it.route.clone()).collect();
    assert_eq!(routes, ["/panics/{id}", "/hangs/{id}"]);
}

#[test]
fn a_closure_tells_the_route_from_inside_and_nobody_hears_it_without_a_middleware() {
    let route = RouteLayer::new().route(|parts| Some(format!("{{{}}}", parts.uri.path().len())));
    let bare = route.layer(users());
    let server = around(Router::new().fallback_service(bare.clone()));
    server.get("/users/7");
    assert_eq!(server.one().route, "{8}");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let request = Request::builder().uri("/users/7").body(Body::empty()).unwrap();
    assert_eq!(runtime.block_on(bare.oneshot(request)).unwrap().status(), StatusCode::OK);
}

#[test]
fn a_scanner_makes_neither_objects_nor_kinds_of_events() {
    let server = Server::axum(config(), || users().layer(RequestSpanLayer::new()));
    for at in 0..50 {
        server.get(&format!("/wp-{at}/admin.php"));
    }
    let activities = server.activities(50);
    assert!(activities.iter().all(|it| it.oid == "_OTHER" && it.ekind == "GET"));
    assert!(activities[7].url.starts_with("/wp-"), "the address tells which it was");
}

#[test]
fn a_method_of_webdav_keeps_its_name() {
    let server = Server::axum(config(), || users().layer(RequestSpanLayer::new()));
    server.request("PROPFIND", "/dav/x", "");
    server.request("BREW", "/dav/x", "");
    let activities = server.activities(2);
    assert_eq!([&*activities[0].method, &*activities[1].method], ["PROPFIND", "_OTHER"]);
    assert_eq!(activities[0].ekind, "PROPFIND /dav/{*path}");
}

/// Leaves a guard of a span behind, as code does that holds one across an `.await`.
fn leave_behind(span: Span) {
    std::mem::forget(span.entered());
}

/// A service whose first request waits for the second, inside of a span that it entered.
fn leaves(guard_of: fn() -> Span) -> Router {
    let (entered, met) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (entered_too, met_too) = (Arc::clone(&entered), Arc::clone(&met));
    let first = async move || {
        leave_behind(guard_of());
        with_activity(|a| a.data("first", true));
        entered.notify_one();
        met.notified().await;
        "first"
    };
    let second = async move || {
        entered_too.notified().await;
        with_activity(|a| a.data("second", true));
        info_span!("of second").in_scope(|| ());
        met_too.notify_one();
        "second"
    };
    Router::new().route("/first", get(first)).route("/second", get(second))
}

/// What the rows tell of two requests, of which the first leaves a guard behind.
fn rows_of_both(config: Config, app: impl FnOnce() -> Router + Send + 'static) -> Vec<[String; 3]> {
    let server = Server::axum(config, app);
    let first = server.send("GET", "/first", "");
    crate::server::wait_until("the first request begins", || server.stats().created == 1);
    assert!(server.get("/second").ends_with("second"));
    server.wait_for(2);
    drop(first);
    let mut rows: Vec<_> = server
        .activities(2)
        .into_iter()
        .map(|it| [it.route, it.status.to_string(), it.data])
        .collect();
    rows.sort();
    rows
}

#[test]
fn a_guard_held_across_an_await_swallows_no_request_of_the_middleware() {
    // Where no spans are collected, too: then the thread does not follow what it is inside of.
    let mut lean = config();
    lean.sample = SamplingPolicy::OFF;
    let guards: [fn() -> Span; 2] = [|| info_span!("work"), Span::current];
    for (config, guard_of) in [config(), lean].iter().flat_map(|it| guards.map(|of| (it, of))) {
        let app = move || leaves(guard_of).layer(RequestSpanLayer::new());
        let rows = rows_of_both(config.clone(), app);
        assert_eq!(
            rows,
            [["/first", "200", r#"{"first":true}"#], ["/second", "200", r#"{"second":true}"#]]
        );
    }
}

#[test]
fn a_guard_swallows_no_request_where_another_emitter_stands_around() {
    let rows = rows_of_both(config(), || {
        leaves(|| info_span!("work"))
            .layer(RequestSpanLayer::new())
            .layer(TraceLayer::new_for_http())
    });
    let data: Vec<_> = rows.iter().map(|row| [&*row[0], &*row[2]]).collect();
    assert_eq!(data, [["/first", r#"{"first":true}"#], ["/second", r#"{"second":true}"#]]);
}

#[test]
fn a_service_that_is_asked_by_a_handler_is_part_of_its_request() {
    let server = Server::axum(config(), || {
        let inner = users().layer(RequestSpanLayer::new());
        let ask = async move || {
            async {
                let request = Request::builder().uri("/users/1").body(Body::empty()).unwrap();
                inner.oneshot(request).await.unwrap().status().to_string()
            }
            .instrument(info_span!("asks"))
            .await
        };
        Router::new().route("/ask", get(ask)).layer(RequestSpanLayer::new())
    });
    server.get("/ask");
    let activity = server.one();
    let names: Vec<_> = activity.trace.as_ref().unwrap().spans.iter().map(|it| &*it.name).collect();
    assert_eq!(names, ["HTTP request", "asks", "HTTP request"]);
    assert_eq!(activity.route, "/ask");
}
