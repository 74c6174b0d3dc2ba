//! axum, behind one emitter or another.

use std::net::SocketAddr;

use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::routing::get;
use axum_tracing_opentelemetry::middleware::OtelAxumLayer;
use tokio::net::TcpListener;
use tower_http::trace::TraceLayer;
use tracing_activity::middleware::RequestSpanLayer;

use crate::app;

async fn user(Path(id): Path<u32>) -> Result<String, StatusCode> {
    app::user(id).await.ok_or(StatusCode::NOT_FOUND)
}

fn router() -> Router {
    Router::new()
        .route("/users/{id}", get(user))
        .route("/broken", get(async || StatusCode::INTERNAL_SERVER_ERROR))
        .route("/panic", get(async || app::panics()))
        .route("/slow", get(async || Body::from_stream(app::parts())))
        .route("/hang", get(app::hangs))
        .route("/nested", get(app::checkout))
        .route("/spawned", get(app::spawns))
}

async fn serve(listener: TcpListener, router: Router) -> anyhow::Result<()> {
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    Ok(axum::serve(listener, service).await?)
}

pub(super) async fn trace_layer(listener: TcpListener) -> anyhow::Result<()> {
    serve(listener, router().layer(TraceLayer::new_for_http())).await
}

pub(super) async fn opentelemetry(listener: TcpListener) -> anyhow::Result<()> {
    serve(listener, router().layer(OtelAxumLayer::default())).await
}

pub(super) async fn ours(listener: TcpListener) -> anyhow::Result<()> {
    serve(listener, router().layer(RequestSpanLayer::new())).await
}
