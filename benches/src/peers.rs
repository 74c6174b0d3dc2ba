//! The subscribers that are compared.

use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{BatchSpanProcessor, SdkTracerProvider, SpanData, SpanExporter};
use tracing::{Dispatch, Subscriber};
use tracing_activity::config::{Config, SamplingPolicy};
use tracing_activity::sink::{Batch, BoxFuture, Sink, SinkError};
use tracing_activity::{ActivityLayer, ShutdownGuard};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, Registry};

use crate::{Shape, fastrace_request};

/// Who listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// A layer that does nothing.
    Floor,
    /// This crate, with the default sampling: all spans collected, few traces kept.
    Activity,
    /// This crate, where no rule can keep a trace.
    RootOnly,
    /// This crate, its sink stalled and its queue full.
    Stalled,
    /// `tracing_subscriber::fmt` as JSON, to nowhere.
    FmtJson,
    /// tracing-opentelemetry with a batch processor and an exporter that drops.
    OpenTelemetry,
    /// This crate inside of tracing-opentelemetry.
    Stacked,
    /// fastrace with values known at run time and a reporter that drops.
    Fastrace,
}

impl Peer {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Floor,
        Self::Activity,
        Self::RootOnly,
        Self::Stalled,
        Self::FmtJson,
        Self::OpenTelemetry,
        Self::Stacked,
        Self::Fastrace,
    ];

    /// The name in tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Activity => "activity",
            Self::RootOnly => "root_only",
            Self::Stalled => "stalled",
            Self::FmtJson => "fmt_json",
            Self::OpenTelemetry => "otel",
            Self::Stacked => "stacked",
            Self::Fastrace => "fastrace",
        }
    }
}

/// A peer, set up.
#[derive(Debug)]
pub struct Session {
    peer: Peer,
    dispatch: Dispatch,
    guard: Option<ShutdownGuard>,
    provider: Option<SdkTracerProvider>,
}

struct Noop;

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Noop {}

/// Takes everything and keeps nothing.
struct Nowhere;

impl Sink for Nowhere {
    fn name(&self) -> &'static str {
        "nowhere"
    }

    fn write<'a>(&'a mut self, _batch: &'a Batch) -> BoxFuture<'a, Result<(), SinkError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// Never answers.
struct Never;

impl Sink for Never {
    fn name(&self) -> &'static str {
        "never"
    }

    fn write<'a>(&'a mut self, _batch: &'a Batch) -> BoxFuture<'a, Result<(), SinkError>> {
        Box::pin(std::future::pending())
    }
}

#[derive(Debug)]
struct DropSpans;

impl SpanExporter for DropSpans {
    async fn export(&self, _batch: Vec<SpanData>) -> OTelSdkResult {
        Ok(())
    }
}

struct DropRecords;

impl fastrace::collector::Reporter for DropRecords {
    fn report(&mut self, _spans: Vec<fastrace::collector::SpanRecord>) {}
}

/// An activity layer over this sink.
fn activity(policy: SamplingPolicy, stalled: bool) -> (ActivityLayer, ShutdownGuard) {
    let mut config = Config::default();
    config.sample = policy;
    let builder = tracing_activity::builder();
    let built = if stalled {
        config.pipeline.batch_rows = 1;
        config.pipeline.batch_interval = Duration::ZERO;
        config.pipeline.queue_rows = 1000;
        config.pipeline.timeout = Duration::from_hours(1);
        builder.config(config).sink(Never).build()
    } else {
        builder.config(config).sink(Nowhere).build()
    };
    built.expect("a configuration in code")
}

fn open_telemetry() -> SdkTracerProvider {
    let processor = BatchSpanProcessor::builder(DropSpans).build();
    SdkTracerProvider::builder().with_span_processor(processor).build()
}

impl Session {
    /// Sets up `peer`.
    #[must_use]
    pub fn new(peer: Peer) -> Self {
        let registry = Registry::default();
        let (mut guard, mut provider) = (None, None);
        let dispatch = match peer {
            Peer::Floor | Peer::Fastrace => Dispatch::new(registry.with(Noop)),
            Peer::Activity | Peer::RootOnly | Peer::Stalled => {
                let policy = match peer {
                    Peer::RootOnly => SamplingPolicy::OFF,
                    _ => SamplingPolicy::default(),
                };
                let (layer, built) = activity(policy, peer == Peer::Stalled);
                guard = Some(built);
                Dispatch::new(registry.with(layer))
            }
            Peer::FmtJson => {
                let layer = tracing_subscriber::fmt::layer()
                    .json()
                    .with_span_events(tracing_subscriber::fmt::format::FmtSpan::CLOSE)
                    .with_writer(std::io::sink);
                Dispatch::new(registry.with(layer))
            }
            Peer::OpenTelemetry => {
                let made = provider.insert(open_telemetry());
                let layer = tracing_opentelemetry::layer().with_tracer(made.tracer("bench"));
                Dispatch::new(registry.with(layer))
            }
            Peer::Stacked => {
                let (inner, built) = activity(SamplingPolicy::default(), false);
                guard = Some(built);
                let made = provider.insert(open_telemetry());
                let outer = tracing_opentelemetry::layer().with_tracer(made.tracer("bench"));
                Dispatch::new(registry.with(inner).with(outer))
            }
        };
        if peer == Peer::Fastrace {
            fastrace::set_reporter(DropRecords, fastrace::collector::Config::default());
        }
        let session = Self { peer, dispatch, guard, provider };
        if peer == Peer::Stalled {
            // Until the queue is full and every request is dropped.
            session.run(Shape::Usual, 3000);
        }
        session
    }

    /// Runs `f` under this subscriber.
    pub fn under<R>(&self, f: impl FnOnce() -> R) -> R {
        tracing::dispatcher::with_default(&self.dispatch, f)
    }

    /// Serves this many requests. fastrace knows the usual shape only.
    pub fn run(&self, shape: Shape, requests: u64) {
        self.under(|| {
            for n in 0..requests {
                self.request(shape, n);
            }
        });
    }

    /// Waits until the worker has dealt with everything, where there is one that does.
    pub fn settle(&self) {
        if let Some(guard) = &self.guard
            && self.peer != Peer::Stalled
        {
            let _ = guard.flush(Duration::from_secs(10));
        }
    }

    /// Serves one request; the subscriber is in place.
    pub fn request(&self, shape: Shape, n: u64) {
        if self.peer == Peer::Fastrace { fastrace_request(n) } else { shape.run(n) }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(guard) = self.guard.take() {
            guard.shutdown(Duration::ZERO);
        }
        if let Some(provider) = self.provider.take() {
            let _ = provider.shutdown();
        }
    }
}
