//! warp, behind its own tracing, and as a tower service behind the middleware.

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tower::Layer as _;
use tracing_activity::middleware::RequestSpanLayer;
use warp::http::StatusCode;
use warp::reply::{Reply, Response};
use warp::{Filter, Rejection};

use crate::app;

async fn user(id: u32) -> Result<Response, Rejection> {
    match app::user(id).await {
        Some(name) => Ok(name.into_response()),
        None => Err(warp::reject::not_found()),
    }
}

async fn panics() -> Result<Response, Rejection> {
    Ok(app::panics().into_response())
}

async fn hangs() -> Result<Response, Rejection> {
    Ok(app::hangs().await.into_response())
}

async fn nested() -> Result<Response, Rejection> {
    Ok(app::checkout().await.into_response())
}

async fn spawned() -> Result<Response, Rejection> {
    Ok(app::spawns().await.into_response())
}

fn filters() -> impl Filter<Extract = (impl Reply,), Error = Rejection> + Clone {
    let user = warp::path!("users" / u32).and_then(user);
    let broken = warp::path!("broken").map(|| StatusCode::INTERNAL_SERVER_ERROR.into_response());
    let slow = warp::path!("slow").map(|| warp::reply::stream(app::parts()).into_response());
    let panics = warp::path!("panic").and_then(panics);
    let hangs = warp::path!("hang").and_then(hangs);
    let nested = warp::path!("nested").and_then(nested);
    let spawned = warp::path!("spawned").and_then(spawned);
    let all = user.or(broken).unify().or(slow).unify().or(panics).unify();
    all.or(hangs).unify().or(nested).unify().or(spawned).unify()
}

pub(super) async fn trace(listener: TcpListener) -> anyhow::Result<()> {
    warp::serve(filters().with(warp::trace::request())).incoming(listener).run().await;
    Ok(())
}

pub(super) async fn ours(listener: TcpListener) -> anyhow::Result<()> {
    let service = RequestSpanLayer::new().layer(warp::service(filters()));
    loop {
        let (stream, _) = listener.accept().await?;
        let service = TowerToHyperService::new(service.clone());
        tokio::spawn(async move {
            let server = Builder::new(TokioExecutor::new());
            // What becomes of one connection is its client's concern.
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
