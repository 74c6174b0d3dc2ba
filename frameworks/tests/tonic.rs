//! `RequestSpanLayer` on real tonic: its own limit stands outside of every layer of the user.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::uri::PathAndQuery;
use tokio::net::TcpListener;
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::codegen::Service;
use tonic::server::NamedService;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Endpoint, Server};
use tonic::{Code, Request};
use tonic_prost::ProstCodec;
use tracing_activity::middleware::RequestSpanLayer;
use tracing_activity::model::Activity;
use tracing_activity::model::Outcome::{ServerFault, Success};
use tracing_activity::sink::MemorySink;
use tracing_subscriber::Registry;
use tracing_subscriber::layer::SubscriberExt as _;

const LIMIT: Duration = Duration::from_millis(50);
const DEADLINE: Duration = Duration::from_secs(30);

/// Answers after the limit.
#[derive(Clone)]
struct Late;

impl NamedService for Late {
    const NAME: &'static str = "shop.Late";
}

impl Service<http::Request<Body>> for Late {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Request<Body>) -> Self::Future {
        Box::pin(async {
            tokio::time::sleep(20 * LIMIT).await;
            Ok(http::Response::new(Body::empty()))
        })
    }
}

/// Calls a server that keeps the limit, where there is one; the row of the call, and what its client
/// got.
fn called(server_keeps: bool, client_asks: bool) -> (Activity, Code) {
    let sink = MemorySink::new();
    let mut config = tracing_activity::Config::default();
    config.pipeline.batch_interval = Duration::from_millis(1);
    let builder = tracing_activity::builder().config(config).sink(sink.clone());
    let (layer, guard) = builder.build().unwrap();
    let _default = tracing::subscriber::set_default(Registry::default().with(layer));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let code = runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut server = Server::builder();
        if server_keeps {
            server = server.timeout(LIMIT);
        }
        let mut server = server.layer(RequestSpanLayer::new().grpc());
        tokio::spawn(server.add_service(Late).serve_with_incoming(TcpIncoming::from(listener)));
        let channel =
            Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        let mut request = Request::new("7".to_owned());
        if client_asks {
            request.set_timeout(14 * LIMIT);
        }
        let codec = ProstCodec::<String, String>::default();
        let mut client = Grpc::new(channel);
        client.ready().await.unwrap();
        let path = PathAndQuery::from_static("/shop.Late/Get");
        let status = client.unary(request, path, codec).await.map(|it: tonic::Response<String>| it);
        let code = status.unwrap_err().code();
        // The server goes on until it has noticed.
        let end = std::time::Instant::now() + DEADLINE;
        while guard.stats().stored == 0 {
            assert!(std::time::Instant::now() < end, "no row: {}", guard.stats());
            tokio::task::yield_now().await;
        }
        code
    });
    guard.shutdown(DEADLINE);
    (sink.activities().remove(0), code)
}

#[test]
fn the_limit_of_the_server_is_not_its_clients_fault() {
    let (it, code) = called(true, false);
    assert!(matches!(code, Code::Cancelled | Code::DeadlineExceeded), "{code:?}");
    assert_eq!((it.status, it.outcome, it.incomplete), (1, Success, true), "{it:?}");
    assert_eq!((&*it.route, &*it.error_kind), ("shop.Late/Get", "cancelled"));
    assert!(Duration::from_micros(it.duration) >= LIMIT);
}

#[test]
fn a_deadline_of_the_client_is_one_whether_the_server_keeps_it_or_the_client_leaves() {
    let (it, _) = called(false, true);
    assert_eq!((it.status, it.outcome, it.incomplete), (4, ServerFault, false), "{it:?}");
    assert_eq!(&*it.route, "shop.Late/Get");
}
