//! What was asked for, in whatever bytes, and when the answer to it began.

use std::convert::Infallible;
use std::time::Duration;

use actix_web::{HttpResponse, web};
use bytes::Bytes;
use futures_util::stream;
use tracing_activity::middleware::actix::RequestSpan;
use tracing_activity::model::{Activity, ClientKind, KeepReason};

use crate::server::{Server, config};

const PAUSE: Duration = Duration::from_millis(60);
const PARTS: u32 = 12;

async fn streams() -> HttpResponse {
    HttpResponse::Ok().streaming(stream::unfold(0, |n| async move {
        if n > 0 {
            tokio::time::sleep(PAUSE).await;
        }
        let part = Ok::<_, Infallible>(Bytes::from_static(b"part "));
        (n <= PARTS).then_some((part, n + 1))
    }))
}

async fn late() -> HttpResponse {
    tokio::time::sleep(PAUSE * PARTS).await;
    streams().await
}

fn routes(config: &mut web::ServiceConfig) {
    config
        .route("/streams", web::get().to(streams))
        .route("/late", web::get().to(late))
        .route("/text", web::get().to(async || "text"))
        .default_service(web::to(async || "anything"));
}

fn asked(head: &[u8]) -> Activity {
    let server = Server::with(routes);
    server.request_bytes(head);
    server.one()
}

#[test]
fn a_target_is_stored_as_it_was_sent() {
    for (target, url) in [
        ("//admin", "//admin"),
        ("//x/text?a=1", "//x/text?a=?"),
        ("///", "///"),
        ("//ana:s3cret@host/p", "//[secret]@host/p"),
        ("/x?flag&b=1", "/x?flag&b=?"),
        ("/x?s3cret", "/x??"),
        ("/%2Fx", "/%2Fx"),
    ] {
        let it = asked(format!("GET {target} HTTP/1.1\r\n").as_bytes());
        assert_eq!(it.url, url, "{target}");
        assert!(!format!("{it:?}").contains("s3cret"), "{it:#?}");
    }
    let it = asked(b"CONNECT a.b:443 HTTP/1.1\r\n");
    assert_eq!((&*it.method, &*it.url), ("CONNECT", "a.b:443"));
}

#[test]
fn headers_beyond_ascii_are_kept_as_far_as_they_are_text() {
    let it = asked(
        b"GET /text HTTP/1.1\r\nuser-agent: Caf\xc3\xa9/1.0\r\nreferer: https://h/m\xfcll\r\n",
    );
    assert_eq!((&*it.user_agent, it.client_kind), ("Café/1.0", ClientKind::Other));
    assert_eq!(it.referer, "h/m\u{fffd}ll");
}

#[test]
fn a_stream_is_slow_only_where_its_answer_began_late() {
    for (target, expected) in [("/streams", None), ("/late", Some(KeepReason::Latency))] {
        let mut config = config();
        config.sample = "slow>500ms".parse().unwrap();
        let server = Server::new(config, RequestSpan::new(), routes);
        server.get(target);
        let it = server.one();
        assert_eq!(it.kept_because, expected, "{target}");
        let body = u64::from(PARTS) * PAUSE.as_micros() as u64;
        assert!(it.response_start > 0 && it.duration - it.response_start >= body, "{it:?}");
    }
    let it = asked(b"GET /text HTTP/1.1\r\n");
    assert!((1..=it.duration).contains(&it.response_start), "{it:?}");
}
