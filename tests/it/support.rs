//! A layer that delivers to memory, and a printer of traces.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use tracing::Dispatch;
use tracing_activity::config::{Config, SamplingPolicy};
use tracing_activity::model::{Activity, Trace};
use tracing_activity::sink::MemorySink;
use tracing_activity::{ShutdownGuard, Stats};
use tracing_subscriber::Registry;
use tracing_subscriber::layer::SubscriberExt as _;

/// Long enough for anything that is going to happen.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// A configuration that keeps every trace and delivers at once.
pub(crate) fn config() -> Config {
    let mut config = Config::default();
    config.sample = SamplingPolicy::ALL;
    config.pipeline.batch_interval = Duration::from_millis(1);
    config
}

/// A subscriber with an activity layer, and where its activities go.
pub(crate) struct Fixture {
    pub(crate) dispatch: Dispatch,
    pub(crate) guard: ShutdownGuard,
    pub(crate) sink: MemorySink,
}

impl Fixture {
    pub(crate) fn new(config: Config) -> Self {
        let sink = MemorySink::new();
        let builder = tracing_activity::builder().config(config).sink(sink.clone());
        let (layer, guard) = builder.build().unwrap();
        Self { dispatch: Dispatch::new(Registry::default().with(layer)), guard, sink }
    }

    /// Runs `f` under the subscriber.
    pub(crate) fn run<R>(&self, f: impl FnOnce() -> R) -> R {
        tracing::dispatcher::with_default(&self.dispatch, f)
    }

    /// Ends delivery; gives what arrived, and the counters, which must add up.
    pub(crate) fn finish(self) -> (Vec<Activity>, Stats) {
        let report = self.guard.shutdown(DEADLINE);
        let stats = report.stats;
        assert!(report.complete, "{stats}");
        assert_eq!(stats.created, stats.stored + stats.failed + stats.dropped.total(), "{stats}");
        (self.sink.activities(), stats)
    }
}

/// The activities that `f` makes.
pub(crate) fn capture(f: impl FnOnce()) -> Vec<Activity> {
    capture_with(config(), f).0
}

pub(crate) fn capture_with(config: Config, f: impl FnOnce()) -> (Vec<Activity>, Stats) {
    let fixture = Fixture::new(config);
    fixture.run(f);
    fixture.finish()
}

/// The only activity that `f` makes.
pub(crate) fn capture_one(f: impl FnOnce()) -> Activity {
    let mut activities = capture(f);
    assert_eq!(activities.len(), 1, "{activities:#?}");
    activities.remove(0)
}

/// Span names, indented by nesting, each with its events behind it: `root!message`.
pub(crate) fn tree(activity: &Activity) -> String {
    fn print(trace: &Trace, index: usize, depth: usize, out: &mut String) {
        let span = &trace.spans[index];
        let _ = write!(out, "{:1$}{2}", "", depth * 2, span.name);
        for event in trace.events.iter().filter(|event| event.span as usize == index) {
            let _ = write!(out, "!{}", event.message);
        }
        out.push('\n');
        for child in 1..trace.spans.len() {
            if trace.spans[child].parent as usize == index {
                print(trace, child, depth + 1, out);
            }
        }
    }
    let mut out = String::new();
    print(activity.trace.as_ref().expect("the trace was kept"), 0, 0, &mut out);
    out
}

/// Waits until `condition` holds.
pub(crate) fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < end, "waited in vain: {what}");
        std::thread::yield_now();
    }
}

/// Spends at least this long.
pub(crate) fn spin(time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        std::hint::spin_loop();
    }
}

/// A request's root span.
macro_rules! request {
    ($($fields:tt)*) => {
        tracing::info_span!("request", http.request.method = "GET", $($fields)*)
    };
}
pub(crate) use request;
