//! gRPC-Web: what is named and told like native gRPC, though its trailers come in the body.

use std::convert::Infallible;
use std::io::Write as _;

use axum::body::Bytes;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::StreamBody;
use hyper::body::{Frame, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tower::{Layer as _, service_fn};
use tracing_activity::middleware::RequestSpanLayer;
use tracing_activity::model::Activity;
use tracing_activity::model::Outcome::{ClientFault, ServerFault, Success};

use crate::server::{Server, config};

type Parts = futures_util::stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, Infallible>>>;

fn frame(flags: u8, payload: &[u8]) -> Vec<u8> {
    [&[flags][..], &(payload.len() as u32).to_be_bytes(), payload].concat()
}

/// The frames of an answer: two messages and the trailers.
fn frames(code: &str) -> [Vec<u8>; 3] {
    let trailers = format!("Grpc-Status: {code}\r\ngrpc-message: no%20such user\r\n");
    [frame(0, b"a message"), frame(0, &[0x80; 300]), frame(0x80, trailers.as_bytes())]
}

/// Answers as the method's name says, in the type of the request.
async fn call(request: Request<Incoming>) -> Result<Response<StreamBody<Parts>>, Infallible> {
    let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
    let (place, code) = method.split_at(method.find(|c: char| c.is_ascii_digit()).unwrap());
    let kind = request.headers().get("content-type").cloned();
    let is_text =
        kind.as_ref().is_some_and(|it| it.to_str().unwrap().to_lowercase().contains("-text"));
    let kind = kind.unwrap_or_else(|| "application/grpc".parse().unwrap());
    let mut response = Response::builder().header("content-type", kind);
    let mut parts = frames(code).map(|it| if is_text { STANDARD.encode(it).into() } else { it });
    match place {
        "Whole" => {}
        "Bytes" => {
            let bytes = parts.concat();
            return Ok(response.body(body(bytes.chunks(1).map(<[u8]>::to_vec))).unwrap());
        }
        "Sized" => response = response.header("content-length", parts.concat().len()),
        "Squeezed" => {
            let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
            write!(gzip, "grpc-status:{code}\r\n").unwrap();
            let last = frame(0x81, &gzip.finish().unwrap());
            parts[2] = if is_text { STANDARD.encode(last).into() } else { last };
            response = response.header("grpc-encoding", "gzip");
        }
        "Headers" => {
            response = response.header("grpc-status", code).header("grpc-message", "no such user");
            return Ok(response.body(body([].into_iter())).unwrap());
        }
        "Nothing" => return Ok(response.body(body([parts[0].clone()].into_iter())).unwrap()),
        _ => {
            let response = Response::builder().status(code).header("content-type", "text/plain");
            return Ok(response.body(body([b"no".to_vec()].into_iter())).unwrap());
        }
    }
    Ok(response.body(body(parts.into_iter())).unwrap())
}

fn body(parts: impl Iterator<Item = Vec<u8>>) -> StreamBody<Parts> {
    let frames: Vec<_> = parts.map(|part| Ok(Frame::data(part.into()))).collect();
    StreamBody::new(futures_util::stream::iter(frames))
}

fn server() -> Server {
    Server::run(config(), |listener| async move {
        let service = RequestSpanLayer::new().layer(service_fn(call));
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

fn asked(kind: &str, method: &str) -> Activity {
    let server = server();
    let headers = format!("content-type: {kind}\r\ncontent-length: 0\r\n");
    server.request("POST", &format!("/shop.v1.Users/{method}"), &headers);
    server.one()
}

const KINDS: [&str; 5] = [
    "application/grpc-web",
    "application/grpc-web+proto",
    "application/grpc-web-text",
    "application/grpc-web-text+proto",
    "Application/gRPC-Web-Text; charset=utf-8",
];

#[test]
fn a_call_from_the_web_is_told_as_any_other() {
    for kind in KINDS {
        for place in ["Whole", "Bytes", "Sized", "Squeezed", "Headers"] {
            for (code, outcome) in [(0, Success), (5, ClientFault), (13, ServerFault)] {
                let method = format!("{place}{code}");
                let it = asked(kind, &method);
                let name = format!("shop.v1.Users/{method}");
                let seen = (&*it.method, &*it.route, &*it.ekind, it.status, it.outcome);
                assert_eq!(seen, ("", &*name, &*name, code, outcome), "{kind}: {method}");
                let says = if code == 0 || place == "Squeezed" { "" } else { "no such user" };
                assert_eq!(it.error, says, "{kind}: {method}");
                assert!((1..=it.duration).contains(&it.response_start));
            }
        }
    }
}

#[test]
fn a_stream_from_the_web_that_tells_no_code_is_unknown() {
    for kind in KINDS {
        let it = asked(kind, "Nothing0");
        assert_eq!((it.status, it.outcome), (2, ServerFault), "{kind}");
    }
}

#[test]
fn a_call_from_the_web_that_nobody_serves_does_not_name_the_row() {
    let it = asked(KINDS[1], "Headers12");
    assert_eq!((&*it.ekind, it.status, it.outcome), ("_OTHER/_OTHER", 12, ServerFault));
}

#[test]
fn what_speaks_no_grpc_answers_the_web_as_http() {
    for (method, status, outcome) in
        [("Http200", 200, Success), ("Http404", 404, ClientFault), ("Http503", 503, ServerFault)]
    {
        let it = asked(KINDS[0], method);
        assert_eq!((&*it.method, it.status, it.outcome), ("POST", status, outcome), "{method}");
    }
}

#[test]
fn what_is_no_call_and_refused_by_a_service_of_grpc_is_no_success() {
    for (method, target, code) in
        [("GET", "/", "Headers12"), ("GET", "/x/", "Headers13"), ("POST", "/y/", "Headers5")]
    {
        let server = server();
        server.request(method, &format!("{target}{code}?token=s3cret"), "content-length: 0\r\n");
        let it = server.one();
        assert_eq!((&*it.method, it.status, &*it.route), (method, 200, ""));
        let expected = if code == "Headers5" { ClientFault } else { ServerFault };
        assert_eq!((it.outcome, &*it.error), (expected, "no such user"), "{target}");
        let kind = if code == "Headers5" { "" } else { &code[7..] };
        assert_eq!(it.error_kind, kind);
        assert_eq!(it.url, format!("{target}{code}?token=?"));
    }
    let server = server();
    server.get("/x/Headers0");
    assert_eq!(server.one().outcome, Success);
}
