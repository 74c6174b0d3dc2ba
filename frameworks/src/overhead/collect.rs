//! A service that takes spans over OTLP, counts them and drops them, in a process of its own.

use std::io::{Read as _, stdin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

#[derive(Debug, Clone, Default)]
struct Drops {
    spans: Arc<AtomicU64>,
}

#[tonic::async_trait]
impl TraceService for Drops {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let scopes = request.get_ref().resource_spans.iter().flat_map(|it| &it.scope_spans);
        let spans: usize = scopes.map(|it| it.spans.len()).sum();
        self.spans.fetch_add(spans as u64, Ordering::Relaxed);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// Takes spans until standard input ends, then says how many there were.
pub(crate) fn run() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let drops = Drops::default();
    let service = TraceServiceServer::new(drops.clone());
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        eprintln!("{}", listener.local_addr()?);
        let until = tokio::task::spawn_blocking(|| stdin().read_to_end(&mut Vec::new()));
        let server =
            Server::builder().add_service(service).serve_with_incoming(TcpIncoming::from(listener));
        tokio::select! {
            ended = server => anyhow::Ok(ended?),
            _ = until => Ok(()),
        }
    })?;
    eprintln!("{}", drops.spans.load(Ordering::Relaxed));
    Ok(())
}
