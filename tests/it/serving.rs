//! Which spans are a request's root: those that serve, by their fields, and none that calls.

use tracing::field::Empty;
use tracing::{debug_span, info_span};
use tracing_activity::config::{Config, Roots};
use tracing_activity::with_activity;

use crate::support::{self, capture, capture_with};

/// The names of the rows' events.
fn ekinds(config: Config, f: impl FnOnce()) -> Vec<String> {
    capture_with(config, f).0.into_iter().map(|it| it.ekind).collect()
}

#[test]
fn what_calls_outside_of_any_request_is_no_row() {
    let activities = capture(|| {
        // The AWS SDK: an operation, and its attempts.
        debug_span!(
            "S3.GetObject",
            "rpc.system" = "aws-api",
            "rpc.service" = "S3",
            "rpc.method" = "GetObject",
            "sdk_invocation_id" = 7
        )
        .in_scope(|| debug_span!("try_attempt", attempt = 1).in_scope(|| ()));
        // Calls of gRPC name the same as those who serve them.
        info_span!(
            "grpc",
            "rpc.system" = "grpc",
            "rpc.service" = "a.B",
            "rpc.method" = "C",
            "rpc.grpc.status_code" = Empty
        )
        .in_scope(|| ());
        info_span!("call", "rpc.service" = "a.B", "rpc.method" = "C").in_scope(|| ());
        info_span!("send", method = "GET", uri = "https://api.example/v1/x").in_scope(|| ());
        info_span!("send", method = %"GET", uri = %"http://10.0.0.1:8080/v1/x").in_scope(|| ());
        info_span!("tunnel", method = "CONNECT", uri = "api.example:443").in_scope(|| ());
        // By OpenTelemetry's conventions for clients, and their deprecated names.
        info_span!(
            "GET",
            "http.request.method" = "GET",
            "url.full" = "https://api.example/x",
            "server.address" = "api.example",
            "server.port" = 443,
            "http.response.status_code" = 200
        )
        .in_scope(|| ());
        info_span!("GET", "http.request.method" = "GET", "server.address" = "api.example")
            .in_scope(|| ());
        info_span!("GET", "http.request.method" = "GET", "http.request.resend_count" = 1)
            .in_scope(|| ());
        info_span!(
            "GET",
            "http.method" = "GET",
            "http.url" = "https://api.example/x",
            "http.status_code" = Empty
        )
        .in_scope(|| ());
        info_span!("GET", "http.method" = "GET", "net.peer.name" = "api.example").in_scope(|| ());
        // A database over HTTP.
        info_span!("search", "db.system.name" = "elasticsearch", "http.request.method" = "POST")
            .in_scope(|| ());
        info_span!("query", "db.system" = "postgresql", "db.statement" = "SELECT 1")
            .in_scope(|| ());
        // Who sends a message serves none.
        for operation in ["send", "publish", "create", "settle"] {
            info_span!(
                "m",
                "messaging.system" = "kafka",
                "messaging.operation" = operation,
                "messaging.destination.name" = "mail"
            )
            .in_scope(|| ());
            info_span!("m", "messaging.operation.type" = operation).in_scope(|| ());
            info_span!("m", "messaging.operation.name" = operation).in_scope(|| ());
        }
        info_span!("m", "messaging.system" = "rabbitmq", "messaging.destination.name" = "mail")
            .in_scope(|| ());
        // Their kind says so, whatever else there is.
        for kind in ["client", "producer", "internal"] {
            info_span!("x", "otel.kind" = kind, "http.request.method" = "GET", "url.path" = "/x")
                .in_scope(|| ());
            info_span!("x", "otel.kind" = kind, "rpc.system" = "grpc").in_scope(|| ());
            info_span!("x", "otel.kind" = kind, "messaging.operation" = "process").in_scope(|| ());
            info_span!("x", "otel.kind" = kind, method = "GET", uri = "/x", version = "HTTP/1.1")
                .in_scope(|| ());
        }
        info_span!("x", "otel.kind" = Empty, "rpc.system" = "grpc").in_scope(|| ());
    });
    let names: Vec<_> = activities.iter().map(|it| (&it.ekind, &it.url)).collect();
    assert!(names.is_empty(), "{names:?}");
}

#[test]
fn what_serves_is_a_row() {
    let activities = capture(|| {
        // tower-http's span over HTTP/1.1, over HTTP/2, and as others write it.
        debug_span!(target: "tower_http::trace::make_span", "request", method = "GET", uri = "/1", version = "HTTP/1.1").in_scope(|| ());
        debug_span!(target: "tower_http::trace::make_span", "request", method = "GET", uri = "http://shop/2", version = "HTTP/2.0").in_scope(|| ());
        info_span!("http-request", method = %"GET", uri = %"/3").in_scope(|| ());
        info_span!("http-request", method = %"GET", uri = %"http://shop/4", version = ?"HTTP/2.0")
            .in_scope(|| ());
        info_span!("options", method = "OPTIONS", uri = "*").in_scope(|| ());
        info_span!(target: "poem::middleware::tracing_mw", "request", remote_addr = "10.1.2.3:9", method = "GET", uri = "http://shop/6").in_scope(|| ());
        info_span!(target: "salvo_extra::logging", "Request", remote_addr = "::1", method = "GET", path = "/7").in_scope(|| ());
        info_span!(target: "warp::filters::trace", "request", method = "GET", path = "/8")
            .in_scope(|| ());
        info_span!(target: "rocket::server", "request", method = "GET", uri = "http://shop/9")
            .in_scope(|| ());
        info_span!("http_request", method = "GET", matched_path = "/10/{id}").in_scope(|| ());
        // By OpenTelemetry's conventions for servers, and their deprecated names.
        info_span!(
            "HTTP request",
            "http.request.method" = "GET",
            "url.path" = "/11",
            "server.address" = "shop"
        )
        .in_scope(|| ());
        info_span!(
            "HTTP request",
            "http.request.method" = "GET",
            "http.route" = Empty,
            "server.address" = "shop"
        )
        .in_scope(|| ());
        info_span!(
            "HTTP request",
            "http.method" = "GET",
            "http.target" = "/13",
            "net.peer.name" = "shop"
        )
        .in_scope(|| ());
        info_span!("HTTP request", "http.request.method" = "GET", "client.address" = "192.0.2.1")
            .in_scope(|| ());
        info_span!("HTTP request", "http.request.method" = "GET").in_scope(|| ());
        // Their kind says so.
        info_span!("x", "otel.kind" = "server", "rpc.system" = "grpc").in_scope(|| ());
        info_span!("x", "otel.kind" = %"Server", method = "GET", uri = "https://shop/17")
            .in_scope(|| ());
        info_span!("x", "otel.kind" = "consumer", "messaging.system" = "kafka").in_scope(|| ());
        for operation in ["process", "deliver", "receive"] {
            info_span!("m", "messaging.operation" = operation).in_scope(|| ());
            info_span!(
                "m",
                "messaging.operation.name" = operation,
                "messaging.operation.type" = "x"
            )
            .in_scope(|| ());
        }
    });
    assert_eq!(activities.len(), 24, "{activities:#?}");
    assert_eq!(activities[9].route, "/10/{id}");
}

#[test]
fn a_span_serves_by_its_values_whatever_the_caps_keep_of_them() {
    let mut config = support::config();
    config.capture.max_fields = 0;
    let (activities, _) = capture_with(config, || {
        info_span!("request", method = "GET", uri = "/x").in_scope(|| ());
        info_span!("send", method = "GET", uri = "https://api.example/x").in_scope(|| ());
    });
    assert_eq!(activities.len(), 1);
}

#[test]
fn a_call_inside_of_a_request_is_its_child() {
    let activity = support::capture_one(|| {
        support::request!("url.path" = "/").in_scope(|| {
            info_span!("S3.GetObject", "rpc.system" = "aws-api").in_scope(|| ());
            info_span!("send", method = "GET", uri = "https://api.example/x").in_scope(|| ());
        });
    });
    assert_eq!(support::tree(&activity), "request\n  S3.GetObject\n  send\n");
}

#[test]
fn only_the_middleware_begins_requests_where_that_is_asked_for() {
    let mut config = support::config();
    config.capture.roots = Roots::Middleware;
    let ekinds = ekinds(config, || {
        support::request!("url.path" = "/").in_scope(|| with_activity(|a| a.title("x")));
        info_span!("x", "otel.kind" = "server").in_scope(|| ());
        debug_span!(target: "tower_http::trace::make_span", "request", method = "GET", uri = "/1", version = "HTTP/1.1").in_scope(|| ());
        info_span!("m", "messaging.operation" = "process").in_scope(|| ());
        info_span!("import", "activity.ekind" = "import").in_scope(|| ());
        info_span!(target: "tracing_activity::request", "HTTP request", "otel.kind" = "server", "http.request.method" = "GET").in_scope(|| ());
    });
    assert_eq!(ekinds, ["import", "GET"]);
}

#[test]
fn every_parentless_span_that_calls_is_a_row_where_all_are_asked_for() {
    let mut config = support::config();
    config.capture.roots = Roots::All;
    let ekinds = ekinds(config, || {
        info_span!("S3.GetObject", "rpc.service" = "S3", "rpc.method" = "GetObject")
            .in_scope(|| ());
    });
    assert_eq!(ekinds, ["S3/GetObject"]);
}

#[test]
fn a_route_of_axums_own_is_no_route() {
    let activities = capture(|| {
        for route in
            ["/{*__private__axum_fallback}", "/api/{*__private__axum_nest_tail_param}", "default"]
        {
            info_span!("HTTP request", "http.request.method" = "GET", "http.route" = route)
                .in_scope(|| ());
        }
    });
    assert!(
        activities.iter().all(|it| it.route.is_empty() && it.ekind == "GET"),
        "{activities:#?}"
    );
}

#[test]
fn registered_methods_keep_their_names() {
    let methods = ["PROPFIND", "REPORT", "MKCOL", "VERSION-CONTROL", "QUERY", "SEARCH"];
    let activities = capture(|| {
        for method in methods {
            info_span!("request", method, uri = "/").in_scope(|| ());
        }
    });
    assert!(activities.iter().map(|it| &*it.method).eq(methods));
}

#[test]
fn paths_that_nothing_serves_are_one_object() {
    let activities = capture(|| {
        for (at, status) in [404, 405, 401, 403, 200].into_iter().enumerate() {
            info_span!("request", method = "GET", uri = format!("/wp-admin/{at}"), status)
                .in_scope(|| ());
        }
        info_span!("request", method = "GET", "http.route" = "/a/{id}", uri = "/a/1", status = 404)
            .in_scope(|| ());
    });
    let oids: Vec<_> = activities.iter().map(|it| &*it.oid).collect();
    assert_eq!(oids, ["_OTHER", "_OTHER", "_OTHER", "_OTHER", "/wp-admin/4", "/a/{id}"]);
}
