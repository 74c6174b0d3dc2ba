//! tonic: the same application as calls of gRPC. The service is written as `tonic-build` would
//! write it, so that no compiler of protocol buffers is needed.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use tokio::net::TcpListener;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::server::{Grpc, NamedService};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;
use tonic_tracing_opentelemetry::middleware::server::OtelGrpcLayer;
use tonic_web::GrpcWebLayer;
use tower::service_fn;
use tower_http::trace::TraceLayer;
use tracing_activity::middleware::RequestSpanLayer;

use crate::app;

/// The service's name.
pub(crate) const NAME: &str = "frameworks.Shop";

#[derive(Clone)]
struct Shop;

impl NamedService for Shop {
    const NAME: &'static str = NAME;
}

/// What `method` answers to `asked`.
async fn answer(method: &str, asked: &str) -> Result<String, Status> {
    match method {
        "User" => {
            let id = asked.parse().map_err(|_| Status::invalid_argument("not a number"))?;
            app::user(id).await.ok_or_else(|| Status::not_found("no such user"))
        }
        "Broken" => Err(Status::internal("the disk is gone")),
        "Panic" => Ok(app::panics()),
        "Hang" => Ok(app::hangs().await),
        "Nested" => Ok(app::checkout().await),
        "Spawned" => Ok(app::spawns().await),
        _ => Err(Status::unimplemented("no such method")),
    }
}

/// The slow answer.
fn parts() -> Response<BoxStream<'static, Result<String, Status>>> {
    let parts = app::parts().map(|part| match part {
        Ok(part) => Ok(String::from_utf8_lossy(&part).into_owned()),
        Err(never) => match never {},
    });
    Response::new(parts.boxed())
}

impl Service<http::Request<Body>> for Shop {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async move {
            let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
            let mut grpc = Grpc::new(ProstCodec::<String, String>::default());
            if method == "Slow" {
                let call = service_fn(async |_: Request<String>| Ok(parts()));
                return Ok(grpc.server_streaming(call, request).await);
            }
            let call = service_fn(move |asked: Request<String>| {
                let method = method.clone();
                async move { Ok(Response::new(answer(&method, asked.get_ref()).await?)) }
            });
            Ok(grpc.unary(call, request).await)
        })
    }
}

pub(super) async fn ours(listener: TcpListener) -> anyhow::Result<()> {
    let mut server = Server::builder().layer(RequestSpanLayer::new().grpc());
    Ok(server.add_service(Shop).serve_with_incoming(TcpIncoming::from(listener)).await?)
}

/// Over HTTP/1.1, as browsers call.
pub(super) async fn web(listener: TcpListener) -> anyhow::Result<()> {
    let mut server = Server::builder()
        .accept_http1(true)
        .layer(RequestSpanLayer::new().grpc())
        .layer(GrpcWebLayer::new());
    Ok(server.add_service(Shop).serve_with_incoming(TcpIncoming::from(listener)).await?)
}

pub(super) async fn trace_layer(listener: TcpListener) -> anyhow::Result<()> {
    let mut server = Server::builder().layer(TraceLayer::new_for_grpc());
    Ok(server.add_service(Shop).serve_with_incoming(TcpIncoming::from(listener)).await?)
}

pub(super) async fn opentelemetry(listener: TcpListener) -> anyhow::Result<()> {
    let mut server = Server::builder().layer(OtelGrpcLayer::default());
    Ok(server.add_service(Shop).serve_with_incoming(TcpIncoming::from(listener)).await?)
}
