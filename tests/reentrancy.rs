//! Pitfall 5, alone in its process: `tracing` guards against callbacks inside of callbacks only
//! while some thread has a scoped subscriber, as our worker has while it works. Here it sleeps.

use std::fmt;
use std::time::Duration;

use tracing::{info, info_span};
use tracing_activity::config::{Config, SamplingPolicy};
use tracing_activity::model::Activity;
use tracing_activity::sink::MemorySink;
use tracing_activity::with_activity;

/// Enough to outlast a worker that wakes up late on a busy machine.
const REQUESTS: usize = 5_000;

/// A value whose `Debug` does what no `Debug` should.
struct Busy;

impl fmt::Debug for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        info!("from inside of a Debug");
        info_span!("inside").in_scope(|| info!("deeper"));
        with_activity(|a| a.data("inside", true));
        f.write_str("busy")
    }
}

#[test]
fn pitfall_05_what_is_traced_inside_of_a_callback_is_part_of_the_request() {
    let sink = MemorySink::new();
    let mut config = Config::default();
    config.sample = SamplingPolicy::ALL;
    // Longer than the test: the worker does not wake before the end.
    config.pipeline.batch_interval = Duration::from_mins(10);
    let guard = tracing_activity::builder().config(config).sink(sink.clone()).install().unwrap();
    // The worker announces by its first answer that it is about to sleep.
    assert!(guard.flush(Duration::from_secs(20)));
    for _ in 0..REQUESTS {
        info_span!("request", activity.title = "busy").in_scope(|| {
            info_span!("child").in_scope(|| info!(busy = ?Busy, "event"));
            info_span!("after").in_scope(|| ());
        });
        // Lets the worker, if it is awake, go to sleep.
        std::thread::yield_now();
    }
    guard.shutdown(Duration::from_secs(20));
    let activities = sink.activities();
    assert_eq!(activities.len(), REQUESTS);
    // While the worker is awake `tracing` drops what is traced inside of callbacks: it is when it is
    // told of the first request, and now and then on a busy machine.
    let whole = activities.iter().filter(|activity| is_whole(activity)).count();
    assert!(whole >= REQUESTS / 10, "{whole} are whole: {:#?}", activities.last());
}

fn is_whole(activity: &Activity) -> bool {
    let trace = activity.trace.as_ref().unwrap();
    let mut seen: Vec<_> = trace.spans.iter().map(|span| span.name.as_ref()).collect();
    seen.sort_unstable();
    let of = |name: &str| trace.spans.iter().position(|span| span.name == name).unwrap();
    assert_eq!(trace.spans[of("after")].parent as usize, of("request"));
    if seen != ["after", "child", "inside", "request"] {
        assert_eq!(seen, ["after", "child", "request"]);
        return false;
    }
    let messages = trace.events.iter().map(|event| event.message.as_str());
    trace.spans[of("inside")].parent as usize == of("child")
        && messages.filter(|it| *it == "from inside of a Debug").count() == 1
        && activity.data == r#"{"inside":true}"#
}
