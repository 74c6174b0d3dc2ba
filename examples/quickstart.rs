//! The README's quick start, to the letter.

use std::net::SocketAddr;
use std::time::Duration;

use axum::{Router, routing::get};
use tracing_activity::middleware::RequestSpanLayer;
use tracing_subscriber::{Layer as _, filter::LevelFilter};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The program's own log: without a layer that prints it, it goes nowhere.
    let log = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_filter(LevelFilter::INFO);
    // Reads ACTIVITY_*, and installs the subscriber.
    let activities = tracing_activity::builder().layer(log).install()?;
    let app = Router::new()
        .route("/users/{id}", get(|| async { "ana" }))
        // The last layer is the outermost.
        .layer(RequestSpanLayer::new());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>())
        // SIGTERM or Ctrl-C: open requests have 20 seconds to end, then their rows are stored as they are.
        .with_graceful_shutdown(activities.shutdown_on_signal(Duration::from_secs(20)))
        .await?;
    let report = activities.shutdown(Duration::from_secs(5));
    eprintln!("{}", report.stats);
    Ok(())
}
