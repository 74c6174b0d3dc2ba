//! gRPC's statuses, in headers and trailers, on plain hyper: no framework, no route but the path.

use std::convert::Infallible;

use axum::body::Bytes;
use http_body_util::StreamBody;
use hyper::body::{Frame, Incoming};
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tower::{Layer as _, service_fn};
use tracing_activity::middleware::RequestSpanLayer;
use tracing_activity::model::Outcome::{self, ClientFault, ServerFault, Success};

use crate::server::{ON_PURPOSE, Server, config};

type Parts = futures_util::stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, Infallible>>>;

/// Answers as the method's name says: `Headers5`, `Trailers0`, `Plain503`, `Nothing0`; `Http200` as
/// what knows nothing of gRPC, `Late0` until its trailers. `Panic0` panics.
async fn call(request: Request<Incoming>) -> Result<Response<StreamBody<Parts>>, Infallible> {
    let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
    let (place, code) = method.split_at(method.find(|c: char| c.is_ascii_digit()).unwrap());
    let mut frames = vec![Ok(Frame::data(Bytes::from_static(b"message")))];
    let mut response = Response::builder().header("content-type", "application/grpc");
    match place {
        "Headers" => {
            frames.clear();
            response =
                response.header("grpc-status", code).header("grpc-message", "no%20such user");
        }
        "Http" => response = Response::builder().status(code),
        "Trailers" | "Late" => {
            if place == "Late" {
                response = Response::builder();
            }
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", code.parse().unwrap());
            response = response.header("trailer", "grpc-status");
            frames.push(Ok(Frame::trailers(trailers)));
        }
        "Plain" => response = response.status(code),
        "Panic" => panic!("{ON_PURPOSE}"),
        _ => {}
    }
    let body = StreamBody::new(futures_util::stream::iter(frames));
    Ok(response.body(body).unwrap())
}

fn server() -> Server {
    server_of(RequestSpanLayer::new())
}

fn server_of(layer: RequestSpanLayer) -> Server {
    Server::run(config(), |listener| async move {
        let service = layer.layer(service_fn(call));
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = TowerToHyperService::new(service.clone());
            tokio::spawn(async move {
                let connection = hyper::server::conn::http1::Builder::new();
                let _ = connection.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    })
}

fn ask(method: &str) -> (String, u16, Outcome, String) {
    let server = server();
    let headers = "content-type: application/grpc+proto\r\nte: trailers\r\ncontent-length: 0\r\n";
    server.request("POST", &format!("/shop.v1.Users/{method}"), headers);
    let it = server.one();
    assert_eq!(it.method, "", "a call has no method of HTTP's");
    (it.ekind, it.status, it.outcome, it.error)
}

#[test]
fn the_code_of_headers_and_trailers_tells_whose_fault_it_was() {
    for place in ["Headers", "Trailers"] {
        for (code, outcome) in [
            (0, Success),
            (1, ClientFault),
            (2, ServerFault),
            (4, ServerFault),
            (5, ClientFault),
            (13, ServerFault),
            (16, ClientFault),
        ] {
            let method = format!("{place}{code}");
            let (ekind, status, judged, error) = ask(&method);
            assert_eq!((ekind, status, judged), (format!("shop.v1.Users/{method}"), code, outcome));
            let expected = if place == "Headers" && code != 0 { "no such user" } else { "" };
            assert_eq!(error, expected);
        }
    }
}

#[test]
fn what_speaks_no_grpc_is_mapped_and_a_missing_code_is_unknown() {
    for (method, status, outcome) in
        [("Plain503", 14, ServerFault), ("Plain401", 16, ClientFault), ("Nothing0", 2, ServerFault)]
    {
        let (ekind, code, judged, _) = ask(method);
        assert_eq!((ekind, code, judged), (format!("shop.v1.Users/{method}"), status, outcome));
    }
}

#[test]
fn a_call_that_nobody_serves_does_not_name_the_row() {
    let (ekind, status, outcome, _) = ask("Headers12");
    assert_eq!((&*ekind, status, outcome), ("_OTHER/_OTHER", 12, ServerFault));
}

#[test]
fn a_code_that_grpc_does_not_define_is_unknown() {
    for method in ["Headers17", "Trailers99"] {
        let (ekind, code, judged, _) = ask(method);
        assert_eq!((ekind, code, judged), (format!("shop.v1.Users/{method}"), 2, ServerFault));
    }
}

#[test]
fn trailers_alone_tell_that_it_was_a_call() {
    let (ekind, code, judged, _) = ask("Late5");
    assert_eq!((&*ekind, code, judged), ("shop.v1.Users/Late5", 5, ClientFault));
}

const ASKS: &str = "content-type: application/grpc\r\nte: trailers\r\ncontent-length: 0\r\n";

#[test]
fn a_client_cannot_make_a_call_of_any_request() {
    for (method, target, status, outcome) in [
        ("GET", "/shop.v1.Users/Http200", 200, Success),
        ("POST", "/shop.v1.Users/Http200", 200, Success),
        ("POST", "/made/up/Http404", 404, ClientFault),
        ("POST", "/made/up/Http503", 503, ServerFault),
        ("GET", "/shop.v1.Users/Headers2", 200, ServerFault),
        ("GET", "/shop.v1.Users/Trailers2", 200, Success),
    ] {
        let server = server();
        server.request(method, &format!("{target}?token=s3cret"), ASKS);
        let it = server.one();
        assert_eq!((&*it.method, it.status, it.outcome), (method, status, outcome), "{target}");
        assert_eq!((&*it.ekind, &*it.route), (method, ""), "the path names nothing");
        assert_eq!(it.url, format!("{target}?token=?"));
    }
}

#[test]
fn where_nothing_but_grpc_is_served_a_call_is_one_whatever_becomes_of_it() {
    for (method, status, outcome, kind) in [
        ("Panic0", 0, ServerFault, "panic"),
        ("Http200", 2, ServerFault, "2"),
        ("Http503", 14, ServerFault, "14"),
        ("Headers5", 5, ClientFault, ""),
        ("Trailers0", 0, Success, ""),
    ] {
        let server = server_of(RequestSpanLayer::new().grpc());
        server.request("POST", &format!("/shop.v1.Users/{method}"), ASKS);
        let it = server.one();
        let route = format!("shop.v1.Users/{method}");
        assert_eq!((&*it.method, &*it.route, &*it.ekind), ("", &*route, &*route));
        assert_eq!((it.status, it.outcome, &*it.error_kind), (status, outcome, kind), "{method}");
    }
    let server = server_of(RequestSpanLayer::new().grpc());
    server.request("GET", "/shop.v1.Users/Http200", "");
    assert_eq!((&*server.one().method, server.one().status), ("GET", 200), "it asks for no call");
}

#[test]
fn what_asked_for_a_call_and_was_none_has_its_route() {
    let server = Server::axum(config(), || {
        let create = axum::routing::post(|| async { "created" });
        axum::Router::new().route("/orders/{id}", create).layer(RequestSpanLayer::new())
    });
    server.request("POST", "/orders/7", ASKS);
    let it = server.one();
    assert_eq!((&*it.ekind, &*it.route, it.status), ("POST /orders/{id}", "/orders/{id}", 200));
}

#[test]
fn a_request_that_only_looks_like_a_call_is_http() {
    let server = server();
    server.request("GET", "/shop.v1.Users/Nothing0", "content-type: application/grpc-web\r\n");
    let activity = server.one();
    assert_eq!((&*activity.method, activity.status, &*activity.route), ("GET", 200, ""));
}
