//! Who calls: address, trace, user.

use std::borrow::Cow;
use std::net::SocketAddr;

use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::get;
use axum::{Extension, Router};
use tracing_activity::config::{ClientAddressHeader, Config, StoredAddress, TraceparentTrust};
use tracing_activity::middleware::{Identity, IdentityLayer, RequestSpanLayer};
use tracing_activity::with_activity;

use crate::server::{Server, config};

const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

fn index() -> Router {
    Router::new().route("/", get(|| async { "index" }))
}

fn trusting_loopback() -> Config {
    let mut config = config();
    config.http.trusted_proxies = "private".parse().unwrap();
    config
}

#[test]
fn the_trace_of_a_caller_is_joined_where_it_is_trusted() {
    let always = || index().layer(RequestSpanLayer::new().traceparent(TraceparentTrust::Always));
    let never = || index().layer(RequestSpanLayer::new().traceparent(TraceparentTrust::Never));
    let trusted = || index().layer(RequestSpanLayer::new());
    for (config, app, joined) in [
        (config(), always as fn() -> Router, true),
        (config(), trusted, false),
        (trusting_loopback(), trusted, true),
        (trusting_loopback(), never, false),
    ] {
        let server = Server::axum(config, app);
        server.request("GET", "/", &format!("traceparent: {TRACEPARENT}\r\n"));
        let remote = server.one().remote_trace_id.map(|id| id.to_string());
        assert_eq!(remote.as_deref(), joined.then_some(TRACE));
        let parent = server.one().remote_parent_id.map(|id| id.to_string());
        assert_eq!(parent.as_deref(), joined.then_some("b7ad6b7169203331"));
    }
}

#[test]
fn a_malformed_traceparent_is_no_trace() {
    let server = Server::axum(trusting_loopback(), || index().layer(RequestSpanLayer::new()));
    for header in [&TRACEPARENT[1..], &TRACEPARENT.to_uppercase(), "x", ""] {
        server.request("GET", "/", &format!("traceparent: {header}\r\n"));
    }
    let activities = server.activities(4);
    assert!(activities.iter().all(|it| it.remote_trace_id.is_none()));
}

#[test]
fn the_clients_address_is_the_peers_unless_a_trusted_proxy_tells_another() {
    let headers = "x-forwarded-for: 198.51.100.1, 203.0.113.99, 10.0.0.1\r\n";
    for (config, network) in [(config(), "127.0.0.0"), (trusting_loopback(), "203.0.113.0")] {
        let server = Server::axum(config, || index().layer(RequestSpanLayer::new()));
        server.request("GET", "/", headers);
        assert_eq!(server.one().ip.unwrap().to_canonical().to_string(), network);
    }
}

#[test]
fn as_much_of_the_address_is_stored_as_was_asked_for() {
    for (stored, expected) in [
        (StoredAddress::Truncated, Some("203.0.113.0")),
        (StoredAddress::Full, Some("203.0.113.99")),
        (StoredAddress::None, None),
    ] {
        let mut config = trusting_loopback();
        config.http.address = stored;
        let server = Server::axum(config, || index().layer(RequestSpanLayer::new()));
        server.request("GET", "/", "x-forwarded-for: 203.0.113.99\r\n");
        let activity = server.one();
        let ip = activity.ip.map(|ip| ip.to_canonical().to_string());
        assert_eq!(ip.as_deref(), expected);
        // Nor does the trace tell more.
        let attributes = &activity.trace.as_ref().unwrap().spans[0].attributes;
        let (_, attribute) = attributes.iter().find(|(name, _)| name == "client.address").unwrap();
        assert_eq!(attribute.to_string(), expected.unwrap_or_default());
    }
}

#[test]
fn one_header_tells_the_client_and_no_other() {
    let headers = "forwarded: for=198.51.100.1\r\nx-forwarded-for: 203.0.113.99\r\n";
    let mut by_setting = trusting_loopback();
    by_setting.http.client_address = ClientAddressHeader::Forwarded;
    let ours = RequestSpanLayer::new;
    let forwarded = ours().client_address_header(ClientAddressHeader::Forwarded);
    for (config, layer, network) in [
        (trusting_loopback(), ours(), "203.0.113.0"),
        (by_setting, ours(), "198.51.100.0"),
        (trusting_loopback(), forwarded, "198.51.100.0"),
    ] {
        let server = Server::axum(config, || index().layer(layer));
        server.request("GET", "/", headers);
        assert_eq!(server.one().ip.unwrap().to_canonical().to_string(), network);
    }
}

#[derive(Clone)]
struct CurrentUser(&'static str);

impl Identity for CurrentUser {
    fn user_id(&self) -> Option<Cow<'_, str>> {
        (!self.0.is_empty()).then_some(self.0.into())
    }

    fn session_id(&self) -> Option<Cow<'_, str>> {
        Some("s7".into())
    }
}

async fn authenticate(mut request: Request, next: Next) -> Response {
    request.extensions_mut().insert(CurrentUser("u17"));
    next.run(request).await
}

async fn tell_in_response(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    response.extensions_mut().insert(CurrentUser("u17"));
    response
}

#[test]
fn the_applications_user_data_fills_user_and_session_wherever_it_is_put() {
    let ours = || RequestSpanLayer::new().identity::<CurrentUser>();
    let outside = move || index().layer(ours()).layer(Extension(CurrentUser("u17")));
    let in_response = move || index().layer(from_fn(tell_in_response)).layer(ours());
    let inside = || {
        let behind = index().layer(IdentityLayer::<CurrentUser>::new());
        behind.layer(from_fn(authenticate)).layer(RequestSpanLayer::new())
    };
    let apps: [Box<dyn FnOnce() -> Router + Send>; 3] =
        [Box::new(outside), Box::new(in_response), Box::new(inside)];
    for app in apps {
        let server = Server::axum(config(), app);
        server.get("/");
        let activity = server.one();
        assert_eq!((&*activity.user_id, &*activity.session_id), ("u17", "s7"));
    }
}

#[test]
fn what_a_handler_says_of_the_user_wins_and_nobody_is_nobody() {
    let server = Server::axum(config(), || {
        let ours = RequestSpanLayer::new().identity::<CurrentUser>();
        let admin = get(|| async { with_activity(|a| a.user("admin")) });
        index().route("/admin", admin).layer(ours).layer(Extension(CurrentUser("")))
    });
    server.get("/");
    server.get("/admin");
    let activities = server.activities(2);
    assert_eq!((&*activities[0].user_id, &*activities[0].session_id), ("", "s7"));
    assert_eq!(activities[1].user_id, "admin");
}

#[test]
fn closures_read_what_other_frameworks_know() {
    let server = Server::axum(config(), || {
        let ours = RequestSpanLayer::new()
            .route(|parts| Some(format!("/v1{}", parts.uri.path())))
            .peer(|_| "192.0.2.77:1".parse::<SocketAddr>().ok().map(|it| it.ip()))
            .on_request(|span, _| {
                span.record("user.id", "set-by-bridge");
            });
        index().layer(ours)
    });
    server.get("/");
    let activity = server.one();
    assert_eq!((&*activity.route, &*activity.user_id), ("/v1/", "set-by-bridge"));
    assert_eq!(activity.ip.unwrap().to_canonical().to_string(), "192.0.2.0");
}

#[test]
fn a_header_of_ones_choice_tells_the_client_by_its_last_line() {
    let headers = "x-forwarded-for: 198.51.100.1\r\ncf-connecting-ip: 192.0.2.1\r\nCF-Connecting-IP: 203.0.113.99\r\n";
    let chosen: ClientAddressHeader = "CF-Connecting-IP".parse().unwrap();
    let mut by_setting = trusting_loopback();
    by_setting.http.client_address = chosen.clone();
    let ours = RequestSpanLayer::new;
    for (config, layer, network) in [
        (by_setting, ours(), "203.0.113.0"),
        (trusting_loopback(), ours().client_address_header(chosen.clone()), "203.0.113.0"),
        (config(), ours().client_address_header(chosen), "127.0.0.0"),
    ] {
        let server = Server::axum(config, || index().layer(layer));
        server.request("GET", "/", headers);
        assert_eq!(server.one().ip.unwrap().to_canonical().to_string(), network);
    }
}

#[test]
fn empty_elements_hide_no_client() {
    let server = Server::axum(trusting_loopback(), || index().layer(RequestSpanLayer::new()));
    server.request("GET", "/", "x-forwarded-for: 203.0.113.9, , 10.0.0.1\r\n");
    assert_eq!(server.one().ip.unwrap().to_canonical().to_string(), "203.0.113.0");
}

#[test]
fn what_comes_by_a_unix_socket_is_believed_where_the_word_unix_is_set() {
    let app = || index().layer(RequestSpanLayer::new().unix_socket());
    for (trusted, expected) in [("unix", Some("203.0.113.0")), ("private", None)] {
        let mut config = config();
        config.http.trusted_proxies = trusted.parse().unwrap();
        // Nobody tells this server who connects.
        let server = Server::run(config, move |listener| async move {
            axum::serve(listener, app()).await.unwrap();
        });
        let headers = format!("x-forwarded-for: 203.0.113.9\r\ntraceparent: {TRACEPARENT}\r\n");
        server.request("GET", "/", &headers);
        let activity = server.one();
        let ip = activity.ip.map(|ip| ip.to_canonical().to_string());
        assert_eq!(ip.as_deref(), expected);
        assert_eq!(activity.remote_trace_id.is_some(), expected.is_some());
    }
}
