//! [`Link`]: what ties a tracer provider to the activities.

use std::sync::Arc;

use opentelemetry::propagation::{Extractor, TextMapPropagator as _};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SpanExporter, SpanProcessor};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use super::cleaning::Cleaner;
use super::exporter::CountedExporter;
use super::gate::{Core, Gate};
use super::head::HeadSampler;
use super::ids::ActivityIds;
use super::layer::SpansOfInterest;
use super::stats::{SpanStats, Tally};
use crate::capture::bridge::{Bridge, Requests};
use crate::config::{Config, HeadSampling};

/// The pieces for a tracer provider of your own.
///
/// Give all of them to the provider and the link to the [`Builder`](crate::Builder::link), and add
/// the activity layer inside of `tracing-opentelemetry`'s: in the other order nothing can be joined.
///
/// ```
/// use opentelemetry::trace::TracerProvider as _;
/// use opentelemetry_sdk::trace::{BatchSpanProcessor, InMemorySpanExporter, SdkTracerProvider};
/// use tracing_activity::{Config, otlp::Link};
/// use tracing_subscriber::prelude::*;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let config = Config::default();
/// let link = Link::new(&config);
/// let exporter = link.counted(InMemorySpanExporter::default());   // yours
/// let provider = SdkTracerProvider::builder()
///     .with_span_processor(link.gate(BatchSpanProcessor::builder(exporter).build()))
///     .with_sampler(link.sampler())
///     .with_id_generator(link.id_generator())
///     .build();
/// let spans = tracing_opentelemetry::layer()
///     .with_tracer(provider.tracer("shop"))
///     .with_filter(link.filter());
/// let (layer, activities) = tracing_activity::builder().config(config).link(&link).build()?;
/// let subscriber = tracing_subscriber::registry().with(layer).with(spans);
/// # drop((subscriber, activities));
/// # Ok(())
/// # }
/// ```
///
/// A link belongs to one provider and one layer. Shut the activities down before the provider: what
/// is not decided then is dropped.
#[derive(Debug, Clone)]
pub struct Link {
    core: Arc<Core>,
    head: HeadSampling,
    cleaner: Cleaner,
}

impl Link {
    /// A link with the limits and the head sampling of this configuration.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self {
            core: Arc::new(Core::new(config)),
            head: config.otlp.head,
            cleaner: Cleaner::new(config),
        }
    }

    /// The processor that holds back what is not decided. `inner` gets the spans of kept traces, all
    /// of them sampled.
    #[must_use]
    pub fn gate(&self, inner: impl SpanProcessor + 'static) -> Gate {
        Gate::new(Arc::clone(&self.core), Box::new(inner))
    }

    /// Takes out of spans what is taken out of rows, as `ACTIVITY_REDACT` and
    /// `ACTIVITY_CLIENT_ADDRESS` say, and counts what `exporter` delivers. With it the spans waiting for
    /// export are bounded by [`queue_spans`](crate::config::OtlpConfig::queue_spans), which must not be
    /// more than the inner processor holds.
    #[must_use]
    pub fn counted<E: SpanExporter>(&self, exporter: E) -> CountedExporter<E> {
        CountedExporter::new(exporter, Arc::clone(&self.core.tally), self.cleaner.clone())
    }

    /// The sampler: it records everything and tells the next services what to keep.
    #[must_use]
    pub fn sampler(&self) -> HeadSampler {
        HeadSampler::new(Arc::clone(&self.core.requests), self.head)
    }

    /// The generator of ids that rows know without storing them.
    #[must_use]
    pub fn id_generator(&self) -> ActivityIds {
        ActivityIds::new(Arc::clone(&self.core.requests))
    }

    /// The filter for `tracing-opentelemetry`'s layer: the spans that the activities record.
    #[must_use]
    pub fn filter(&self) -> SpansOfInterest {
        SpansOfInterest::new(Arc::clone(&self.core.requests))
    }

    /// What became of every span so far.
    #[must_use]
    pub fn stats(&self) -> SpanStats {
        self.core.stats()
    }

    pub(crate) fn bridge(&self) -> Arc<dyn Bridge> {
        Arc::clone(&self.core) as _
    }

    pub(crate) fn requests(&self) -> &Requests {
        &self.core.requests
    }

    pub(super) fn tally(&self) -> Arc<Tally> {
        Arc::clone(&self.core.tally)
    }

    /// Drops what is not decided, and what comes later.
    pub(super) fn close(&self) {
        self.core.close();
    }

    /// Whether everything handed to the exporter was settled.
    pub(super) fn is_settled(&self) -> bool {
        self.core.tally.is_settled()
    }

    /// How many spans were handed to the exporter so far.
    pub(super) fn admitted(&self) -> u64 {
        self.core.tally.admitted()
    }

    /// Whether as many as these were settled.
    pub(super) fn is_settled_up_to(&self, admitted: u64) -> bool {
        self.core.tally.is_settled_up_to(admitted)
    }

    /// Whether the end was waited for before.
    pub(super) fn is_given_up(&self) -> bool {
        self.core.tally.is_given_up()
    }

    /// What is not exported is lost. Tells whether nothing was.
    pub(super) fn give_up(&self) -> bool {
        self.core.tally.give_up()
    }
}

/// Makes the span of these headers the parent of `span`, unless that has begun.
pub(super) fn set_parent(span: &tracing::Span, traceparent: &str, tracestate: &str) {
    let parent = TraceContextPropagator::new().extract(&Headers { traceparent, tracestate });
    // A span that began keeps the parent it has.
    let _ = span.set_parent(parent);
}

struct Headers<'a> {
    traceparent: &'a str,
    tracestate: &'a str,
}

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            "traceparent" => Some(self.traceparent),
            "tracestate" if !self.tracestate.is_empty() => Some(self.tracestate),
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent", "tracestate"]
    }
}
