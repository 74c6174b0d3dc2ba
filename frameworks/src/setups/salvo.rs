//! salvo, behind its own logger, and behind the middleware by its bridge to tower.

use salvo::conn::tcp::TcpAcceptor;
use salvo::logging::Logger;
use salvo::prelude::*;
use tokio::net::TcpListener;

use crate::app;

#[handler]
async fn user(request: &mut Request) -> Result<String, StatusError> {
    let id = request.param::<u32>("id").ok_or_else(StatusError::bad_request)?;
    app::user(id).await.ok_or_else(StatusError::not_found)
}

#[handler]
async fn broken() -> Result<String, StatusError> {
    Err(StatusError::internal_server_error())
}

#[handler]
async fn panics() -> String {
    app::panics()
}

#[handler]
async fn slow(response: &mut Response) {
    response.stream(app::parts());
}

#[handler]
async fn hangs() -> String {
    app::hangs().await
}

#[handler]
async fn nested() -> String {
    app::checkout().await
}

#[handler]
async fn spawned() -> String {
    app::spawns().await
}

fn router() -> Router {
    Router::new()
        .push(Router::with_path("users/{id}").get(user))
        .push(Router::with_path("broken").get(broken))
        .push(Router::with_path("panic").get(panics))
        .push(Router::with_path("slow").get(slow))
        .push(Router::with_path("hang").get(hangs))
        .push(Router::with_path("nested").get(nested))
        .push(Router::with_path("spawned").get(spawned))
}

pub(super) async fn logger(listener: TcpListener) -> anyhow::Result<()> {
    let acceptor = TcpAcceptor::try_from(listener)?;
    Server::new(acceptor).serve(Service::new(router()).hoop(Logger::new())).await;
    Ok(())
}
