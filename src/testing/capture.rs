//! [`Capture`]: a subscriber for one test, and what it saw.

use std::fmt;
use std::future::Future;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tracing::Dispatch;
use tracing::dispatcher::{DefaultGuard, set_default};
use tracing::instrument::WithSubscriber as _;
use tracing_subscriber::Registry;
use tracing_subscriber::layer::SubscriberExt as _;

use super::follow::Following;
use crate::config::{Config, PipelineConfig, SamplingPolicy};
use crate::init::{ShutdownGuard, builder};
use crate::model::Activity;
use crate::shape::Shape;
use crate::sink::{Batch, BoxFuture, Sink, SinkError};

/// How long a capture waits for activities that have not ended.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between two looks at whether all have ended.
const MOMENT: Duration = Duration::from_millis(1);

/// Runs `f` under a subscriber of its own and gives the activities that began in it.
///
/// What `f` spawned is seen as far as it carries a span of `f`'s: see [`Capture`].
///
/// # Panics
/// If `f` does, or if an activity has not ended ten seconds after it.
///
/// ```
/// # use tracing::info_span;
/// # use tracing_activity::testing::capture;
/// let captured = capture(|| {
///     info_span!("request", http.request.method = "GET").in_scope(|| ());
/// });
/// assert_eq!(captured.only().method, "GET");
/// ```
pub fn capture(f: impl FnOnce()) -> Captured {
    let capture = Capture::begin();
    f();
    capture.finish()
}

/// Runs a future under a subscriber of its own; gives the activities that began in it and what the
/// future gives.
///
/// The subscriber is the default while the future itself is polled, on whatever thread. Tasks that
/// it spawns are seen as far as they carry a span of it, and those with a span of their own only
/// under [`Capture::begin`]. The future may be spawned.
///
/// # Panics
/// If an activity has not ended ten seconds after the future.
///
/// ```
/// # use tracing::{Instrument as _, info_span};
/// # use tracing_activity::testing::capture_async;
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let (captured, answer) = capture_async(async {
///     let request = info_span!("request", http.request.method = "GET");
///     async { 42 }.instrument(request).await
/// })
/// .await;
/// assert_eq!((captured.only().method.as_str(), answer), ("GET", 42));
/// # }
/// ```
pub async fn capture_async<F: Future>(future: F) -> (Captured, F::Output) {
    let running = Running::new(config());
    let output = future.with_subscriber(running.dispatch.clone()).await;
    let captured = running.finish_async(PATIENCE).await;
    (captured.unwrap_or_else(|unfinished| panic!("{unfinished}")), output)
}

/// A subscriber for one test: what begins until it finishes is captured.
///
/// What is seen, exactly:
/// - everything on this thread, from [`begin`](Self::begin) to [`finish`](Self::finish). Held over
///   awaits in a `#[tokio::test]`, whose runtime has one thread, that is everything the runtime
///   does, spawned tasks included;
/// - on other threads, what runs inside of a span of the capture: a task spawned with
///   `.instrument(span)`, a blocking task that calls `span.in_scope(..)`, and all that begins in
///   them. It is what belongs to the activity in production, too;
/// - not seen is what runs on other threads with no such span, as a server on a runtime with
///   several threads does. Call such a service in the test itself, or give its tasks the
///   [`dispatch`](Self::dispatch).
///
/// ```
/// # use tracing_activity::testing::Capture;
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let capture = Capture::begin();
/// // .. start a server, send requests, stop it ..
/// let captured = capture.finish_async().await;
/// assert!(captured.is_empty());
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a capture that is dropped ends"]
pub struct Capture {
    /// First of the fields: the thread's former default returns before the subscriber goes.
    default: DefaultGuard,
    running: Running,
}

impl Capture {
    /// Captures from now on.
    pub fn begin() -> Self {
        Self::with_config(config())
    }

    /// Captures with other limits, roots or filters. The database and the sampling are not used:
    /// activities stay in memory, with their traces.
    ///
    /// # Panics
    /// If the thread that makes activities cannot be started.
    pub fn with_config(mut config: Config) -> Self {
        let own = self::config();
        (config.sample, config.pipeline) = (own.sample, own.pipeline);
        let running = Running::new(config);
        Self { default: set_default(&running.dispatch), running }
    }

    /// The subscriber, for tasks that begin activities on other threads:
    /// `server.with_subscriber(capture.dispatch())`.
    #[must_use]
    pub fn dispatch(&self) -> Dispatch {
        self.running.dispatch.clone()
    }

    /// Waits for the activities under way and gives all.
    ///
    /// It blocks the thread: in async code use [`finish_async`](Self::finish_async).
    ///
    /// # Panics
    /// If an activity has not ended after ten seconds.
    #[must_use]
    pub fn finish(self) -> Captured {
        self.finish_within(PATIENCE).unwrap_or_else(|unfinished| panic!("{unfinished}"))
    }

    /// Waits at most for `patience`.
    ///
    /// # Errors
    /// Activities that have not ended by then.
    pub fn finish_within(self, patience: Duration) -> Result<Captured, Unfinished> {
        let Self { default, running } = self;
        drop(default);
        running.finish(patience)
    }

    /// Waits for the activities under way while other tasks go on, and gives all. It needs no
    /// particular runtime.
    ///
    /// # Panics
    /// If an activity has not ended after ten seconds.
    pub async fn finish_async(self) -> Captured {
        let captured = self.finish_async_within(PATIENCE).await;
        captured.unwrap_or_else(|unfinished| panic!("{unfinished}"))
    }

    /// Waits at most for `patience`, while other tasks go on.
    ///
    /// # Errors
    /// Activities that have not ended by then.
    pub async fn finish_async_within(self, patience: Duration) -> Result<Captured, Unfinished> {
        let Self { default, running } = self;
        let finished = running.finish_async(patience).await;
        // Until here this thread's tasks belonged to the capture.
        drop(default);
        finished
    }
}

/// A capture's own layer and worker.
#[derive(Debug)]
struct Running {
    dispatch: Dispatch,
    guard: ShutdownGuard,
    seen: Seen,
}

type Seen = Arc<Mutex<Vec<CapturedActivity>>>;

impl Running {
    fn new(config: Config) -> Self {
        let seen = Seen::default();
        let (layer, guard) = builder()
            .config(config)
            .sink(Nowhere)
            .on_shape({
                let seen = Arc::clone(&seen);
                move |activity, shape| {
                    let activity =
                        CapturedActivity { activity: activity.clone(), shape: shape.clone() };
                    seen.lock().unwrap_or_else(PoisonError::into_inner).push(activity);
                }
            })
            .build()
            .unwrap_or_else(|error| panic!("the capture cannot begin: {error}"));
        let dispatch = Dispatch::new(Following::new(Registry::default().with(layer)));
        Self { dispatch, guard, seen }
    }

    fn finish(self, patience: Duration) -> Result<Captured, Unfinished> {
        let end = Instant::now() + patience;
        let running = || {
            let stats = self.guard.stats();
            let over = stats.stored + stats.failed + stats.dropped.total();
            stats.created.saturating_sub(over)
        };
        while running() > 0 && Instant::now() < end {
            let _ = self.guard.flush(end.saturating_duration_since(Instant::now()));
            if running() > 0 {
                thread::sleep(MOMENT);
            }
        }
        let under_way = running();
        let report = self.guard.shutdown(PATIENCE);
        let seen = std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner));
        let mut captured = Captured { all: seen };
        // They arrive as they end. Those of one microsecond stay as they are.
        captured.all.sort_by_key(|captured| captured.activity.when);
        let (failed, lost) = (report.stats.failed, report.stats.dropped.total());
        if under_way > 0 || failed + lost > 0 {
            return Err(Unfinished { under_way, lost: failed + lost, patience, captured });
        }
        Ok(captured)
    }

    /// As `finish`, on a thread of its own, so that the tasks of this one go on.
    async fn finish_async(self, patience: Duration) -> Result<Captured, Unfinished> {
        let (sender, finished) = tokio::sync::oneshot::channel();
        thread::spawn(move || sender.send(self.finish(patience)));
        finished.await.expect("waiting does not panic")
    }
}

/// What captures are made with: an environment that is the same everywhere, and every trace.
fn config() -> Config {
    let pipeline = PipelineConfig { batch_interval: MOMENT, ..PipelineConfig::default() };
    Config { sample: SamplingPolicy::ALL, pipeline, ..Config::default() }
}

/// Where captured activities are delivered to: they were seen already.
#[derive(Debug)]
struct Nowhere;

impl Sink for Nowhere {
    fn name(&self) -> &'static str {
        "nowhere"
    }

    fn write<'a>(&'a mut self, _: &'a Batch) -> BoxFuture<'a, Result<(), SinkError>> {
        Box::pin(async { Ok(()) })
    }
}

/// The activities of a capture, in the order in which they began.
#[derive(Debug, Clone, PartialEq)]
pub struct Captured {
    all: Vec<CapturedActivity>,
}

/// An activity, its fields and its shape.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct CapturedActivity {
    /// The row, with its trace.
    pub activity: Activity,
    /// Its code path.
    pub shape: Shape,
}

impl Captured {
    /// The only activity.
    ///
    /// # Panics
    /// If there are none, or several.
    #[must_use]
    #[track_caller]
    pub fn only(&self) -> &CapturedActivity {
        match self.all.as_slice() {
            [only] => only,
            [] => panic!(
                "no activity was captured: is there a span that a request is recognised by, and did it begin on this thread?"
            ),
            several => panic!("{} activities were captured, not one:\n{self}", several.len()),
        }
    }

    /// The activities by themselves.
    #[must_use]
    pub fn into_vec(self) -> Vec<CapturedActivity> {
        self.all
    }
}

impl Deref for Captured {
    type Target = [CapturedActivity];

    fn deref(&self) -> &Self::Target {
        &self.all
    }
}

impl Deref for CapturedActivity {
    type Target = Activity;

    fn deref(&self) -> &Activity {
        &self.activity
    }
}

impl fmt::Display for Captured {
    /// The shapes, one after the other.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, captured) in self.all.iter().enumerate() {
            let between = if at == 0 { "" } else { "\n\n" };
            write!(f, "{between}{}", captured.shape)?;
        }
        Ok(())
    }
}

/// Activities had not ended when a capture was to finish, or were lost.
#[derive(Debug, Clone, PartialEq)]
pub struct Unfinished {
    under_way: u64,
    lost: u64,
    patience: Duration,
    captured: Captured,
}

impl Unfinished {
    /// What was captured anyway. Activities that had not ended are marked as `abandoned`.
    #[must_use]
    pub fn into_captured(self) -> Captured {
        self.captured
    }
}

impl fmt::Display for Unfinished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { under_way, lost, patience, captured } = self;
        if *under_way == 0 {
            return write!(f, "{lost} activities were lost, by a limit of the configuration");
        }
        let all = captured.len();
        write!(f, "{under_way} of {all} activities had not ended after {patience:?}: ")?;
        f.write_str("something still holds their span, such as a task that was not waited for")?;
        for captured in captured.iter().filter(|it| it.error_kind == "abandoned") {
            write!(f, "\n\n{}", captured.shape)?;
        }
        Ok(())
    }
}

impl std::error::Error for Unfinished {}
