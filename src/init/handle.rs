//! [`Handle`] and [`ShutdownGuard`]: what the application holds of a running layer and worker.

use std::fmt;
use std::sync::Arc;
#[cfg(feature = "otlp")]
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::capture::{Shared, outside};
use crate::config::SamplingPolicy;
use crate::error::Error;
use crate::metrics::{self, Metric};
#[cfg(feature = "otlp")]
use crate::otlp::{self, Ending, Exporting, Metering};
use crate::pipeline::{Counters, Queue, ShutdownReport, Stats, WorkerHandle};

/// Longest wait that a time can be computed for.
const YEAR: Duration = Duration::from_hours(365 * 24);

/// What stands for the export of spans in a build that has none.
#[cfg(not(feature = "otlp"))]
mod without_otlp {
    use std::time::{Duration, Instant};

    pub(in crate::init) enum Exporting {}

    impl Exporting {
        pub(in crate::init) fn flush(&self, _end: Instant) -> bool {
            match *self {}
        }

        pub(in crate::init) fn begin_shutdown(&self, _deadline: Duration) -> Ending {
            match *self {}
        }
    }

    pub(in crate::init) enum Ending {}

    impl Ending {
        pub(in crate::init) fn wait(self) -> bool {
            match self {}
        }
    }
}
#[cfg(not(feature = "otlp"))]
pub(super) use without_otlp::{Ending, Exporting};

/// What the guard and its handles hold.
pub(super) struct Running {
    pub(super) shared: Arc<Shared>,
    pub(super) worker: WorkerHandle,
    pub(super) queue: Arc<Queue>,
    pub(super) counters: Arc<Counters>,
    pub(super) shutdown_timeout: Duration,
    pub(super) queue_rows: usize,
    pub(super) exporting: Option<Exporting>,
    #[cfg(feature = "otlp")]
    pub(super) link: Option<otlp::Link>,
    /// The export of metrics, where one is asked for: it asks this for its numbers.
    #[cfg(feature = "otlp")]
    pub(super) metering: OnceLock<Metering>,
}

/// A view on the running delivery: counters, flush, the switch. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    pub(super) running: Option<Arc<Running>>,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Handle").field(&self.stats()).finish()
    }
}

impl Handle {
    pub(super) fn off() -> Self {
        Self { running: None }
    }

    #[cfg(feature = "otlp")]
    pub(super) fn exporting(&self) -> Option<&Exporting> {
        self.running.as_ref()?.exporting.as_ref()
    }

    #[cfg(feature = "otlp")]
    pub(super) fn metering(&self) -> Option<&Metering> {
        self.running.as_ref()?.metering.get()
    }

    /// Exports the metrics by this from now on.
    #[cfg(feature = "otlp")]
    pub(super) fn meter(&self, metering: Metering) {
        let Some(running) = &self.running else { return };
        // The provider keeps this for good: it must not keep what holds the provider.
        let running_weak = Arc::downgrade(running);
        metering.observe(move || {
            let running = running_weak.upgrade();
            running.map(|it| Self { running: Some(it) }.metrics()).unwrap_or_default()
        });
        let _ = running.metering.set(metering);
    }

    /// What happened to every activity so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        if let Some(running) = &self.running {
            running.shared.is_forked();
            stats = running.counters.snapshot(running.queue.len());
        }
        stats.outside = outside();
        stats
    }

    /// The counters and gauges of rows and spans, for [`prometheus`](crate::metrics::prometheus),
    /// [`statsd`](crate::metrics::statsd) and OpenTelemetry.
    #[must_use]
    pub fn metrics(&self) -> Vec<Metric> {
        let running = self.running.as_ref();
        let capacity = running.map_or(0, |running| running.queue_rows as u64);
        #[cfg(feature = "otlp")]
        let spans = self.span_stats().map(|it| it.figures());
        #[cfg(not(feature = "otlp"))]
        let spans = None;
        metrics::metrics(&self.stats(), capacity, spans.as_ref())
    }

    /// What happened to every exported span so far; `None` where none are exported.
    #[cfg(feature = "otlp")]
    #[cfg_attr(docsrs, doc(cfg(feature = "otlp")))]
    #[must_use]
    pub fn span_stats(&self) -> Option<otlp::SpanStats> {
        Some(self.running.as_ref()?.link.as_ref()?.stats())
    }

    /// Waits until everything that ended before the call has met its fate, at most for
    /// `deadline`. Tells whether it did.
    ///
    /// It blocks the thread: in async code, call it in `spawn_blocking`. In a fork of the process it
    /// says `false` at once.
    #[must_use]
    pub fn flush(&self, deadline: Duration) -> bool {
        let Some(running) = &self.running else { return true };
        if running.shared.is_forked() {
            return false;
        }
        let end = Instant::now() + deadline.min(YEAR);
        let stored = running.worker.flush(deadline);
        // A request that ended before has been decided, so its spans wait already.
        let exported = running.exporting.as_ref().is_none_or(|exporting| exporting.flush(end));
        stored && exported
    }

    /// Waits for the sink's first answer to whether it is ready - the database reached, the tables
    /// there - at most for `deadline`. `None` when there is none yet.
    ///
    /// An error is not the end: activities wait in the queue, and the worker goes on trying. A
    /// service that would rather not start without its database asks this after `init`.
    ///
    /// # Errors
    /// What is wrong and how to mend it: a wrong password, a missing right, another schema.
    ///
    /// It blocks the thread: in async code, call it in `spawn_blocking`.
    #[must_use]
    pub fn prepared(&self, deadline: Duration) -> Option<Result<(), Error>> {
        let Some(running) = &self.running else { return Some(Ok(())) };
        if running.shared.is_forked() {
            return None;
        }
        running.worker.prepared(deadline).map(|answer| answer.map_err(Error::from))
    }

    /// Switches capture on or off. Requests under way keep going.
    pub fn set_enabled(&self, enabled: bool) {
        if let Some(running) = &self.running {
            running.shared.set_enabled(enabled);
        }
    }

    /// Puts another sampling policy in force, for requests that end from now on.
    ///
    /// Where the old policy or the new one keeps no trace at all, requests under way during the
    /// change keep none, and have no `trace_hash`: part of their spans may be missing.
    ///
    /// ```
    /// # let (_layer, activities) = tracing_activity::builder()
    /// #     .config(tracing_activity::Config::default())
    /// #     .sink(tracing_activity::sink::MemorySink::new())
    /// #     .build()?;
    /// let handle = activities.handle();
    /// // A look at everything, say behind an admin page:
    /// let usual = handle.sampling();
    /// handle.set_sampling("all,budget=50/s".parse()?);
    /// handle.set_sampling(usual);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set_sampling(&self, policy: SamplingPolicy) {
        if let Some(running) = &self.running {
            running.shared.set_sampling(policy);
        }
    }

    /// The sampling policy in force; [`OFF`](SamplingPolicy::OFF) where nothing is captured.
    #[must_use]
    pub fn sampling(&self) -> SamplingPolicy {
        let running = self.running.as_ref();
        running.map_or(SamplingPolicy::OFF, |running| running.shared.sampling())
    }

    /// Ends capture in a fork of the process. Nobody is waited for: no other thread was taken over.
    fn end_fork(&self, running: &Arc<Running>) -> ShutdownReport {
        running.shared.settle_fork();
        // What exports spans and metrics would wait for its threads when it is dropped.
        std::mem::forget(Arc::clone(running));
        ShutdownReport::of_fork(self.stats())
    }

    pub(super) fn shutdown(&self, deadline: Option<Duration>) -> ShutdownReport {
        let Some(running) = &self.running else { return ShutdownReport::of_nothing() };
        if running.shared.is_forked() {
            return self.end_fork(running);
        }
        running.shared.set_enabled(false);
        running.shared.say_notices();
        // Requests that nobody will finish any more are rows too.
        running.shared.abandon_all();
        let deadline = deadline.unwrap_or(running.shutdown_timeout);
        #[cfg(feature = "otlp")]
        let end = Instant::now() + deadline.min(YEAR);
        #[cfg(feature = "otlp")]
        if let Some(metering) = self.metering() {
            metering.begin_shutdown();
        }
        // Both at the same time, under one deadline.
        let ending = running.exporting.as_ref().map(|it| it.begin_shutdown(deadline));
        let mut report = running.worker.shutdown(deadline);
        report.complete &= ending.is_none_or(Ending::wait);
        report.stats.outside = outside();
        running.shared.close();
        // After all else: it tells how that went.
        #[cfg(feature = "otlp")]
        if let Some(metering) = self.metering() {
            metering.shutdown(end);
        }
        report
    }
}

/// Delivers what is waiting when it goes away. Keep it until the process ends.
///
/// Prefer [`shutdown`](Self::shutdown) over dropping: it says how long it may take and tells how
/// it went. A `let _ = init()` would drop it at once; name it.
#[derive(Debug)]
#[must_use = "dropping the guard ends the capture of activities"]
pub struct ShutdownGuard {
    pub(super) handle: Handle,
}

impl ShutdownGuard {
    /// A view to give to others, such as a metrics page.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// What happened to every activity so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.handle.stats()
    }

    /// See [`Handle::flush`].
    #[must_use]
    pub fn flush(&self, deadline: Duration) -> bool {
        self.handle.flush(deadline)
    }

    /// See [`Handle::prepared`].
    ///
    /// # Errors
    /// What is wrong and how to mend it.
    #[must_use]
    pub fn prepared(&self, deadline: Duration) -> Option<Result<(), Error>> {
        self.handle.prepared(deadline)
    }

    /// See [`Handle::set_enabled`].
    pub fn set_enabled(&self, enabled: bool) {
        self.handle.set_enabled(enabled);
    }

    /// See [`Handle::set_sampling`].
    pub fn set_sampling(&self, policy: SamplingPolicy) {
        self.handle.set_sampling(policy);
    }

    /// See [`Handle::sampling`].
    #[must_use]
    pub fn sampling(&self) -> SamplingPolicy {
        self.handle.sampling()
    }

    /// A future that is ready when the process is asked to end, by SIGTERM or Ctrl-C: for the graceful
    /// shutdown of a server. It works under any executor.
    ///
    /// A server ends its requests before it ends, and one that holds a stream open may take for ever.
    /// So, `patience` after the signal, capture ends and everything is delivered, as
    /// [`shutdown`](Self::shutdown) does within `ACTIVITY_SHUTDOWN_TIMEOUT`, unless that was called
    /// before: requests still open then are rows, too. Choose a time after which the process would be
    /// killed otherwise.
    ///
    /// Others that listen to these signals by tokio are told as well, and earlier handlers are called.
    /// From the call on a signal does not end the process by itself any more: what waits for the future
    /// has to.
    ///
    /// ```no_run
    /// # async fn serve(app: axum::Router, listener: tokio::net::TcpListener)
    /// #     -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    ///
    /// let activities = tracing_activity::init()?;
    /// axum::serve(listener, app)
    ///     .with_graceful_shutdown(activities.shutdown_on_signal(Duration::from_secs(20)))
    ///     .await?;
    /// activities.shutdown(Duration::from_secs(5));
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "signal")]
    #[cfg_attr(docsrs, doc(cfg(feature = "signal")))]
    pub fn shutdown_on_signal(
        &self,
        patience: Duration,
    ) -> impl Future<Output = ()> + Send + use<> {
        super::signal::asked_to_end(&self.handle, patience)
    }

    /// Ends capture and delivers what is waiting, at most for `deadline`.
    ///
    /// In a process that was forked after `init` there is nothing to deliver with: it returns at once,
    /// and what the process began counts as dropped.
    ///
    /// Requests still running have a row that tells what is known of them: `incomplete`, of the
    /// `error_kind` `abandoned`, and nobody's fault unless something went wrong by then. What could not
    /// be delivered in time is counted and reported. It blocks the thread: in async code, call it in `spawn_blocking` or
    /// at the end of `main`.
    #[allow(clippy::must_use_candidate, reason = "the report is for those who want it")]
    pub fn shutdown(self, deadline: Duration) -> ShutdownReport {
        self.handle.shutdown(Some(deadline))
    }
}

impl Drop for ShutdownGuard {
    fn drop(&mut self) {
        self.handle.shutdown(None);
    }
}
