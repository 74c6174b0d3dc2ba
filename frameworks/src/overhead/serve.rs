//! axum's hello-world, watched by one peer or another, in a process of its own.
//!
//! It says its address on standard error; standard output is for the peers that write there, and
//! leads nowhere. When standard input ends, it stops, delivers what is left and says how
//! many rows it has delivered, where it knows.

use std::io::{Read as _, stdin};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::Router;
use axum::routing::get;
use axum_tracing_opentelemetry::middleware::OtelAxumLayer;
use clap::ValueEnum;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::trace::{BatchSpanProcessor, SdkTracerProvider};
use tower_http::trace::{DefaultMakeSpan, DefaultOnResponse, TraceLayer};
use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_activity::middleware::RequestSpanLayer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::prelude::*;

/// Who watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Peer {
    /// Nobody: no subscriber, no middleware.
    Bare,
    /// `RequestSpanLayer` and the layer, rows as JSON lines to nowhere.
    Activity,
    /// tower-http's `TraceLayer` at INFO and `fmt` as JSON, to nowhere.
    TraceJson,
    /// axum-tracing-opentelemetry and a batch exporter over OTLP, to a service that drops.
    Otel,
}

impl Peer {
    pub(super) const ALL: [Self; 4] = [Self::Bare, Self::Activity, Self::TraceJson, Self::Otel];

    /// Its name in the table, in the figures and on the command line.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Activity => "activity",
            Self::TraceJson => "trace-json",
            Self::Otel => "otel",
        }
    }

    pub(super) const fn says(self) -> &'static str {
        match self {
            Self::Bare => "nobody: no subscriber, no middleware",
            Self::Activity => "`RequestSpanLayer` and the layer, rows as JSON to nowhere",
            Self::TraceJson => "tower-http `TraceLayer` at INFO, `fmt` as JSON to nowhere",
            Self::Otel => "axum-tracing-opentelemetry, OTLP batches to a service that drops",
        }
    }
}

/// Serves until standard input ends.
pub(crate) fn run(peer: Peer, collector: Option<&str>) -> Result<()> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(1).enable_all().build()?;
    let router = Router::new().route("/", get(async || "Hello, World!"));
    match peer {
        Peer::Bare => runtime.block_on(serve(router)),
        Peer::Activity => {
            let activities = tracing_activity::builder().install()?;
            runtime.block_on(serve(router.layer(RequestSpanLayer::new())))?;
            let report = activities.shutdown(Duration::from_secs(10));
            eprintln!("{}", report.stats.stored);
            Ok(())
        }
        Peer::TraceJson => {
            let log = tracing_subscriber::fmt::layer().json().with_filter(LevelFilter::INFO);
            tracing_subscriber::registry().with(log).try_init()?;
            let layer = TraceLayer::new_for_http()
                .make_span_with(DefaultMakeSpan::new().level(Level::INFO))
                .on_response(DefaultOnResponse::new().level(Level::INFO));
            runtime.block_on(serve(router.layer(layer)))
        }
        Peer::Otel => {
            let provider = {
                // tonic's channel belongs to the runtime that it is made in.
                let _inside = runtime.enter();
                let collector = collector.context("it needs the address of a collector")?;
                let exporter = SpanExporter::builder().with_tonic();
                let exporter = exporter.with_endpoint(format!("http://{collector}")).build()?;
                let batches = BatchSpanProcessor::builder(exporter).build();
                SdkTracerProvider::builder().with_span_processor(batches).build()
            };
            let wanted = Targets::new()
                .with_target("otel::tracing", LevelFilter::TRACE)
                .with_default(LevelFilter::INFO);
            let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("hello"));
            tracing_subscriber::registry().with(layer.with_filter(wanted)).try_init()?;
            runtime.block_on(serve(router.layer(OtelAxumLayer::default())))?;
            Ok(provider.shutdown()?)
        }
    }
}

async fn serve(router: Router) -> Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    eprintln!("{}", listener.local_addr()?);
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let until = tokio::task::spawn_blocking(|| stdin().read_to_end(&mut Vec::new()));
    tokio::select! {
        served = axum::serve(listener, service) => Ok(served?),
        _ = until => Ok(()),
    }
}
