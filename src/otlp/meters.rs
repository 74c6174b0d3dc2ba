//! [`Metering`]: the meter provider that [`init`](crate::init) makes, from its configuration to its
//! end. It exports the layer's own counters, and what the program measures by OpenTelemetry's
//! interface.

use std::fmt;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use opentelemetry::global;
use opentelemetry::metrics::MeterProvider as _;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider, Temporality};

use super::exporters;
use super::provider::{SCOPE, in_thread, resource};
use super::transport::Background;
use crate::config::Config;
use crate::error::Error;
use crate::metrics::{self, Metric};
use crate::pipeline::silence;
use crate::warn;

/// A running export of metrics.
#[derive(Debug)]
pub(crate) struct Metering {
    provider: SdkMeterProvider,
    /// Told when the last export is over; taken by who waits for that.
    ended: Mutex<Option<mpsc::Receiver<()>>>,
}

impl Metering {
    /// Sets up the export of this configuration.
    pub(crate) fn start(config: &Config) -> Result<Self, Error> {
        let background = Background::start().map_err(Error::thread)?;
        let wanted = &config.otlp.metrics;
        let inner = exporters::metrics(wanted, &background)?;
        let (end, ended) = mpsc::sync_channel(1);
        let exporter = Exporter {
            inner,
            background,
            // The exporter's own retries end before this.
            timeout: wanted.target.timeout.saturating_add(Duration::from_secs(1)),
            failing: AtomicBool::new(false),
            end,
        };
        let reader = PeriodicReader::builder(exporter).with_interval(wanted.interval).build();
        let provider =
            SdkMeterProvider::builder().with_reader(reader).with_resource(resource(config)).build();
        Ok(Self { provider, ended: Mutex::new(Some(ended)) })
    }

    /// Exports these from now on.
    pub(crate) fn observe(&self, numbers: impl Fn() -> Vec<Metric> + Send + Sync + 'static) {
        metrics::observe(&self.provider.meter(SCOPE), numbers);
    }

    /// Makes this the provider of code that asks OpenTelemetry for one.
    pub(crate) fn install(&self) {
        global::set_meter_provider(self.provider.clone());
    }

    /// Exports what was counted so far, and does not wait for it: should the end of everything else
    /// take all the time there is, that was told at least.
    pub(crate) fn begin_shutdown(&self) {
        if self.ended().is_some() {
            let provider = self.provider.clone();
            drop(in_thread(move || drop(provider.force_flush())));
        }
    }

    /// Exports the last numbers, until `end` at the latest.
    pub(crate) fn shutdown(&self, end: Instant) {
        // Once is enough.
        let Some(ended) = self.ended().take() else { return };
        let provider = self.provider.clone();
        // The reader gives up by itself after five seconds, while its last export goes on.
        drop(in_thread(move || drop(provider.shutdown())));
        let _ = ended.recv_timeout(end.saturating_duration_since(Instant::now()));
    }

    fn ended(&self) -> std::sync::MutexGuard<'_, Option<mpsc::Receiver<()>>> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Exports on the background's runtime, in silence, and tells of failures.
///
/// What is exported is borrowed, so it cannot move to that runtime: the reader's thread waits for the
/// export within it.
struct Exporter<E> {
    inner: E,
    /// Lives as long as anything is exported.
    background: Background,
    timeout: Duration,
    failing: AtomicBool,
    end: mpsc::SyncSender<()>,
}

impl<E> fmt::Debug for Exporter<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exporter").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

impl<E: PushMetricExporter> Exporter<E> {
    async fn in_time(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        let export = tokio::time::timeout(self.timeout, self.inner.export(metrics));
        export.await.unwrap_or(Err(OTelSdkError::Timeout(self.timeout)))
    }

    /// Says once that exports fail, until one does not.
    fn tell(&self, result: &OTelSdkResult) {
        let Err(error) = result else { return self.failing.store(false, Ordering::Relaxed) };
        if !self.failing.swap(true, Ordering::Relaxed) {
            warn::print(&format!(
                "metrics cannot be exported: {error}; the next export tries again"
            ));
        }
    }
}

impl<E: PushMetricExporter> PushMetricExporter for Exporter<E> {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        let mut export = pin!(self.in_time(metrics));
        let result = std::future::poll_fn(|cx| {
            let _inside = self.background.handle().enter();
            silence::during(|| export.as_mut().poll(cx))
        });
        let result = result.await;
        self.tell(&result);
        result
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    /// Called once, after the last export.
    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        let _inside = self.background.handle().enter();
        let result = silence::during(|| self.inner.shutdown_with_timeout(timeout));
        // Nobody may wait any more.
        let _ = self.end.try_send(());
        result
    }

    fn temporality(&self) -> Temporality {
        self.inner.temporality()
    }
}
