//! The application, as a user of axum and tower-http writes it, with two lines for activities.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use axum::routing::{get, post};
use embedded_clickhouse::Server;
use tower_http::trace::TraceLayer;
use tracing::{info, instrument};
use tracing_activity::{Config, ShutdownGuard};

/// Long enough for anything that is going to happen.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) struct App {
    pub(crate) address: SocketAddr,
    pub(crate) guard: ShutdownGuard,
    server: Server,
}

#[instrument]
async fn load(id: u32) -> Option<&'static str> {
    tokio::task::yield_now().await;
    price(id).await
}

#[instrument]
async fn price(id: u32) -> Option<&'static str> {
    info!(id, "looked up");
    (id < 100).then_some("9.90")
}

async fn product(axum::extract::Path(id): axum::extract::Path<u32>) -> (StatusCode, String) {
    match load(id).await {
        Some(price) => (StatusCode::OK, price.to_owned()),
        None => (StatusCode::NOT_FOUND, String::new()),
    }
}

async fn slow_stream() -> Body {
    let parts = futures_util::stream::unfold(0, |n| async move {
        tokio::time::sleep(Duration::from_millis(20)).await;
        (n < 10).then(|| (Ok::<_, Infallible>(Bytes::from_static(b"part ")), n + 1))
    });
    Body::from_stream(parts)
}

/// Whether a request is inside of the handler that never answers.
pub(crate) static HANGING: AtomicBool = AtomicBool::new(false);

async fn hang() {
    HANGING.store(true, Ordering::Relaxed);
    std::future::pending::<()>().await;
}

async fn out_of_ink() {
    panic!("out of ink");
}

fn router() -> Router {
    Router::new()
        .route("/", get(|| async { "index" }))
        .route("/products/{id}", get(product))
        .route("/orders", post(|| async { StatusCode::CREATED }))
        .route("/boom", get(|| async { StatusCode::INTERNAL_SERVER_ERROR }))
        .route("/panic", get(out_of_ink))
        .route("/stream", get(slow_stream))
        .route("/hang", get(hang))
        .layer(TraceLayer::new_for_http())
}

/// The running application.
pub(crate) fn app() -> &'static App {
    static APP: OnceLock<App> = OnceLock::new();
    APP.get_or_init(|| {
        let server = embedded_clickhouse::connect_or_start().unwrap();
        let config = Config::from_lookup(|name| {
            Ok(match name {
                "ACTIVITY_DB" => Some(format!("{}/frameworks", server.url)),
                "ACTIVITY_USER" => Some(server.user.clone()),
                "ACTIVITY_PASSWORD" => Some(server.password.clone()),
                "ACTIVITY_SAMPLE" => Some("all".to_owned()),
                "ACTIVITY_BATCH_INTERVAL" => Some("10ms".to_owned()),
                "OTEL_SERVICE_NAME" => Some("shop".to_owned()),
                "ACTIVITY_SITE_VERSION" => Some("2026-11-21T18:30:00Z".to_owned()),
                _ => None,
            })
        });
        server.query("DROP DATABASE IF EXISTS frameworks").unwrap();
        let guard = tracing_activity::builder().config(config.unwrap()).install().unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                tell.send(listener.local_addr().unwrap()).unwrap();
                axum::serve(listener, router()).await.unwrap();
            });
        });
        App { address: told.recv().unwrap(), guard, server }
    })
}

impl App {
    /// The rows that `sql`, which begins behind `SELECT`, gives of the table.
    pub(crate) fn rows(&self, sql: &str) -> Vec<serde_json::Value> {
        assert!(self.guard.flush(DEADLINE));
        let sql = format!("SELECT {sql} FORMAT JSONEachRow");
        let body = self.server.query(&sql).unwrap();
        body.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The one row of the request that asked for `url`, once it is there.
    pub(crate) fn row_of(&self, url: &str) -> serde_json::Value {
        let end = Instant::now() + DEADLINE;
        loop {
            let mut rows = self.rows(&format!(
                "*, trace_id FROM frameworks.activities WHERE url = '{url}' ORDER BY when"
            ));
            assert!(rows.len() <= 1, "{rows:#?}");
            if let Some(row) = rows.pop() {
                return row;
            }
            assert!(Instant::now() < end, "no row for {url}: {}", self.guard.stats());
            std::thread::yield_now();
        }
    }
}
