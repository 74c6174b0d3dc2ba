//! poem behind its own tracing.

use poem::endpoint::make;
use poem::http::StatusCode;
use poem::listener::TcpAcceptor;
use poem::middleware::Tracing;
use poem::{Body, EndpointExt as _, Error, Request, Response, Route, Server};
use tokio::net::TcpListener;

use crate::app;

async fn user(request: Request) -> poem::Result<String> {
    let id = request.path_params::<u32>()?;
    app::user(id).await.ok_or_else(|| Error::from_status(StatusCode::NOT_FOUND))
}

fn broken() -> poem::Result<String> {
    Err(Error::from_status(StatusCode::INTERNAL_SERVER_ERROR))
}

fn slow() -> Response {
    let parts = futures_util::StreamExt::map(app::parts(), |part| match part {
        Ok(part) => Ok::<_, std::io::Error>(part),
        Err(never) => match never {},
    });
    Response::builder().body(Body::from_bytes_stream(parts))
}

pub(super) async fn tracing(listener: TcpListener) -> anyhow::Result<()> {
    let app = Route::new()
        .at("/users/:id", make(user))
        .at("/broken", make(async |_| broken()))
        .at("/panic", make(async |_| app::panics()))
        .at("/slow", make(async |_| slow()))
        .at("/hang", make(|_| app::hangs()))
        .at("/nested", make(|_| app::checkout()))
        .at("/spawned", make(|_| app::spawns()))
        .with(Tracing);
    let acceptor = TcpAcceptor::from_tokio(listener)?;
    Ok(Server::new_with_acceptor(acceptor).run(app).await?)
}
