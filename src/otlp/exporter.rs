//! [`CountedExporter`]: hands an exporter spans without secrets, and counts what it really delivers.

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};

use super::cleaning::Cleaner;
use super::stats::Tally;
use crate::pipeline::silence;
use crate::warn;

/// Wraps a span exporter: takes out of spans what is taken out of rows, counts the spans of exports
/// that succeed and of those that fail, and exports in silence, so that its HTTP client makes no spans.
/// The first failure is told on standard
/// error.
///
/// The SDK's processors say `Ok` to a flush although a refused connection lost everything.
pub struct CountedExporter<E> {
    inner: E,
    tally: Arc<Tally>,
    cleaner: Cleaner,
}

impl<E> fmt::Debug for CountedExporter<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CountedExporter").field(&self.tally.snapshot()).finish()
    }
}

impl<E: SpanExporter> CountedExporter<E> {
    pub(super) fn new(inner: E, tally: Arc<Tally>, cleaner: Cleaner) -> Self {
        tally.counted.store(true, std::sync::atomic::Ordering::Relaxed);
        Self { inner, tally, cleaner }
    }
}

/// An export under way. One that is given up or panics has failed.
struct Export<'a> {
    tally: &'a Tally,
    spans: u64,
    arrived: bool,
    problem: String,
}

impl Drop for Export<'_> {
    fn drop(&mut self) {
        if self.tally.settle(self.spans, self.arrived) {
            let problem = match (self.problem.as_str(), self.arrived) {
                ("", true) => "the endpoint rejected some of an export",
                ("", false) => "it was given up",
                (problem, _) => problem,
            };
            warn::print(&format!("spans cannot be exported: {problem}; they are lost and counted"));
        }
    }
}

impl<E: SpanExporter> SpanExporter for CountedExporter<E> {
    async fn export(&self, mut batch: Vec<SpanData>) -> OTelSdkResult {
        let mut export = Export {
            tally: &self.tally,
            spans: batch.len() as u64,
            arrived: false,
            problem: String::new(),
        };
        for span in &mut batch {
            self.cleaner.clean(span);
        }
        let mut inner = pin!(self.inner.export(batch));
        let result = std::future::poll_fn(|cx| silence::during(|| inner.as_mut().poll(cx))).await;
        export.arrived = result.is_ok();
        if let Err(error) = &result {
            export.problem = error.to_string();
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        silence::during(|| self.inner.shutdown_with_timeout(timeout))
    }

    fn force_flush(&self) -> OTelSdkResult {
        silence::during(|| self.inner.force_flush())
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}
