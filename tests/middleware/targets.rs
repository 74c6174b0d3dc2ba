//! What was asked for is stored as it was sent, and headers as far as they are text.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use axum::Router;
use axum::routing::get;
use tower_http::trace::TraceLayer;
use tracing_activity::config::Visits;
use tracing_activity::middleware::RequestSpanLayer;
use tracing_activity::model::{Activity, ClientKind};

use crate::server::{DEADLINE, Server, config};

fn app() -> Router {
    Router::new().route("/healthz", get(async || "fine")).fallback(async || "anything")
}

fn ours() -> Router {
    app().layer(RequestSpanLayer::new())
}

fn tower_http() -> Router {
    app().layer(TraceLayer::new_for_http())
}

fn asked(app: fn() -> Router, head: &[u8]) -> Activity {
    let server = Server::axum(config(), app);
    send(&server, head);
    server.one()
}

/// Sends a head of whatever bytes, and reads the answer.
fn send(server: &Server, head: &[u8]) -> String {
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(head).unwrap();
    stream.write_all(b"host: shop\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn a_target_is_stored_as_it_was_sent() {
    for app in [ours, tower_http] {
        for (method, target, url) in [
            ("GET", "/healthz", "/healthz"),
            ("GET", "//admin", "//admin"),
            ("GET", "//x/healthz", "//x/healthz"),
            ("GET", "///", "///"),
            ("GET", "//", "//"),
            ("GET", "//evil.example/healthz?a=1", "//evil.example/healthz?a=?"),
            ("GET", "//ana:s3cret@host/p", "//[secret]@host/p"),
            ("GET", "/a//b", "/a//b"),
            ("GET", "/%2F%2Fadmin", "/%2F%2Fadmin"),
            ("OPTIONS", "*", "*"),
            ("CONNECT", "a.b:443", "a.b:443"),
            ("GET", "http://ana:s3cret@shop//x/healthz", "//x/healthz"),
            ("GET", "http://shop", "/"),
            ("GET", "/x#s3cret", "/x"),
        ] {
            let it = asked(app, format!("{method} {target} HTTP/1.1\r\n").as_bytes());
            assert_eq!(it.url, url, "{method} {target}");
            assert!(!format!("{it:?}").contains("s3cret"), "{it:#?}");
        }
    }
}

#[test]
fn the_names_of_a_query_stay_and_their_values_do_not() {
    for app in [ours, tower_http] {
        for (target, url) in [
            ("/x?flag", "/x?flag"),
            ("/x?flag&b=1", "/x?flag&b=?"),
            ("/x?b=1&flag", "/x?b=?&flag"),
            ("/x?a=b=c", "/x?a=?"),
            ("/x?", "/x"),
            ("/x?&&", "/x"),
            ("/x?a=&b=1", "/x?a=&b=?"),
            ("/x?=1", "/x?=?"),
            ("/x?a=1;b=2", "/x?a=?"),
            ("/x?pass%77ord=s3cret", "/x?pass%77ord=?"),
            ("/x?a=1#s3cret", "/x?a=?"),
            ("/x?s3cret", "/x??"),
            ("/x?s3cret&b=1", "/x??&b=?"),
        ] {
            let it = asked(app, format!("GET {target} HTTP/1.1\r\n").as_bytes());
            assert_eq!(it.url, url, "{target}");
            assert!(!format!("{it:?}").contains("s3cret"), "{it:#?}");
        }
    }
}

#[test]
fn headers_beyond_ascii_are_kept_as_far_as_they_are_text() {
    let mut config = config();
    config.http.capture.headers = "x-city,x-town".parse().unwrap();
    config.http.capture.response = "text/*".parse().unwrap();
    let server = Server::axum(config, || {
        let answer = async || {
            let kind = axum::http::HeaderValue::from_bytes(b"text/plain; name=\xfc").unwrap();
            ([(axum::http::header::CONTENT_TYPE, kind)], "gut")
        };
        Router::new().route("/", get(answer)).layer(RequestSpanLayer::new())
    });
    let head: &[u8] = b"GET / HTTP/1.1\r\nuser-agent: Caf\xc3\xa9/1.0\r\n\
        referer: https://shop.example/gr\xc3\xbcn?a=1\r\n\
        x-city: K\xc3\xb6ln\r\nx-town: M\xfcnchen\r\n";
    send(&server, head);
    let it = server.one();
    assert_eq!((&*it.user_agent, it.client_kind), ("Café/1.0", ClientKind::Other));
    assert_eq!(it.referer, "shop.example/grün?a=?");
    assert_eq!(it.response, "gut");
    assert!(it.data.contains("Köln") && it.data.contains("M\u{fffd}nchen"), "{}", it.data);
}

#[test]
fn bytes_that_are_no_utf8_are_replaced_and_the_rest_tells() {
    let head =
        b"GET /healthz HTTP/1.1\r\nuser-agent: Mozilla/5.0 (X11; M\xfcller) Firefox/143.0\r\n\
        referer: https://shop.example/m\xfcll\r\n";
    let it = asked(ours, head);
    let agent = "Mozilla/5.0 (X11; M\u{fffd}ller) Firefox/143.0";
    assert_eq!((&*it.user_agent, it.client_kind), (agent, ClientKind::Browser));
    assert_eq!(it.referer, "shop.example/m\u{fffd}ll");
}

#[test]
fn a_browser_that_calls_itself_by_more_than_ascii_makes_a_visit() {
    let mut config = config();
    let keys = "a-key-of-at-least-thirty-two-characters".parse().unwrap();
    config.http.visits = Visits::Cookie(keys);
    let server = Server::axum(config, ours);
    let head = b"GET / HTTP/1.1\r\naccept: text/html; name=\"\xfc\"\r\n\
        cookie: theirs=\xfc\r\nuser-agent: Mozilla/5.0 (Caf\xc3\xa9) Firefox/143.0\r\n";
    let answer = send(&server, head);
    assert!(answer.contains("__Host-av="), "{answer}");
    assert!(server.one().visit_created);
}

#[test]
fn an_answer_that_is_shared_sets_no_cookie_whatever_its_bytes() {
    let mut config = config();
    let keys = "a-key-of-at-least-thirty-two-characters".parse().unwrap();
    config.http.visits = Visits::Cookie(keys);
    let server = Server::axum(config, || {
        let answer = async || {
            let control =
                axum::http::HeaderValue::from_bytes(b"public, max-age=60, x=\"\xfc\"").unwrap();
            ([(axum::http::header::CACHE_CONTROL, control)], "for all")
        };
        Router::new().route("/", get(answer)).layer(RequestSpanLayer::new())
    });
    let head = b"GET / HTTP/1.1\r\naccept: text/html\r\nuser-agent: Mozilla/5.0 Firefox/143.0\r\n";
    let answer = send(&server, head);
    assert!(!answer.contains("set-cookie"), "{answer}");
}
