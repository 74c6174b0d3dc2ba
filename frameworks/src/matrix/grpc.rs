//! The client of gRPC: tonic's.

use std::error::Error as _;
use std::net::SocketAddr;
use std::time::Instant;

use anyhow::{Context as _, Result};
use http::uri::PathAndQuery;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

use super::Behaviour;
use super::http::PATIENCE;
use super::observe::{Answer, hanging, wait_for_hanging};
use crate::setups::tonic::NAME;

/// A call, on a connection of its own.
pub(super) fn call(address: SocketAddr, behaviour: Behaviour) -> Result<Answer> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
        let (begin, before) = (Instant::now(), hanging());
        let channel = endpoint.connect().await.context("no connection")?;
        let call = tokio::spawn(ask(channel, behaviour));
        if behaviour == Behaviour::Leaves {
            tokio::task::spawn_blocking(move || wait_for_hanging(before)).await??;
            tokio::time::sleep(PATIENCE).await;
            let took = begin.elapsed();
            call.abort();
            return Ok(Answer { status: 0, took });
        }
        let status = match call.await? {
            Ok(()) => 0,
            // Made up by the client, since the server told none.
            Err(status) if status.source().is_some() => 0,
            Err(status) => status.code() as u16,
        };
        Ok(Answer { status, took: begin.elapsed() })
    })
}

async fn ask(channel: Channel, behaviour: Behaviour) -> Result<(), Status> {
    let (method, argument) = behaviour.call();
    let path = PathAndQuery::try_from(format!("/{NAME}/{method}"))
        .map_err(|error| Status::internal(error.to_string()))?;
    let codec = ProstCodec::<String, String>::default();
    let mut client = Grpc::new(channel);
    client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let request = Request::new(argument.to_owned());
    if behaviour == Behaviour::Slow {
        let mut parts = client.server_streaming(request, path, codec).await?.into_inner();
        while parts.message().await?.is_some() {}
        return Ok(());
    }
    if behaviour == Behaviour::LeavesMidway {
        client.server_streaming(request, path, codec).await?.into_inner().message().await?;
        return Ok(());
    }
    client.unary(request, path, codec).await.map(|_| ())
}
