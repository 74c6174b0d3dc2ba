//! actix-web, behind tracing-actix-web or the middleware.

use std::net::TcpListener;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::{App, Error, HttpResponse, HttpServer, web};
use tracing_activity::middleware::actix::RequestSpan;
use tracing_actix_web::TracingLogger;

use crate::app;

async fn user(id: web::Path<u32>) -> Result<String, Error> {
    let name = app::user(*id).await;
    name.ok_or_else(|| actix_web::error::ErrorNotFound("no such user"))
}

async fn broken() -> Result<String, Error> {
    Err(actix_web::error::ErrorInternalServerError("the disk is gone"))
}

async fn slow() -> HttpResponse {
    HttpResponse::Ok().streaming(app::parts())
}

fn routes(config: &mut web::ServiceConfig) {
    config
        .route("/users/{id}", web::get().to(user))
        .route("/broken", web::get().to(broken))
        .route("/panic", web::get().to(async || app::panics()))
        .route("/slow", web::get().to(slow))
        .route("/hang", web::get().to(app::hangs))
        .route("/nested", web::get().to(app::checkout))
        .route("/spawned", web::get().to(app::spawns));
}

/// Serves what `app` makes, one worker, on actix-web's own runtime.
fn serve<F, T, B>(listener: TcpListener, app: F) -> anyhow::Result<()>
where
    F: Fn() -> App<T> + Send + Clone + 'static,
    T: ServiceFactory<
            ServiceRequest,
            Config = (),
            Response = ServiceResponse<B>,
            Error = Error,
            InitError = (),
        > + 'static,
    B: MessageBody + 'static,
{
    let system = actix_web::rt::System::new();
    // A client that goes away is noticed while the handler runs.
    let server = HttpServer::new(app).workers(1).disable_signals().h1_allow_half_closed(false);
    Ok(system.block_on(server.listen(listener)?.run())?)
}

pub(super) fn tracing_logger(listener: TcpListener) -> anyhow::Result<()> {
    serve(listener, || App::new().configure(routes).wrap(TracingLogger::default()))
}

pub(super) fn ours(listener: TcpListener) -> anyhow::Result<()> {
    serve(listener, || App::new().configure(routes).wrap(RequestSpan::new()))
}
