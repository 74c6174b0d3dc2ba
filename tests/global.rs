//! What must hold under the *global* default subscriber, where `tracing` itself guards against
//! nothing: pitfalls 4 and 6. Pitfall 5 has a process of its own, `tests/reentrancy.rs`. One process, one subscriber; each test knows its rows by title.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tracing::{Instrument as _, info, info_span};
use tracing_activity::config::{Config, SamplingPolicy};
use tracing_activity::model::Activity;
use tracing_activity::sink::{Batch, BoxFuture, MemorySink, Sink, SinkError};
use tracing_activity::{ShutdownGuard, with_activity};

/// A sink that traces as exporters do: spans that look like requests, and events.
#[derive(Default)]
struct Chatty {
    inner: MemorySink,
}

static WRITES: AtomicUsize = AtomicUsize::new(0);

impl Sink for Chatty {
    fn name(&self) -> &'static str {
        "chatty"
    }

    fn write<'a>(&'a mut self, batch: &'a Batch) -> BoxFuture<'a, Result<(), SinkError>> {
        let span = info_span!("export", http.request.method = "POST", activity.title = "recursion");
        Box::pin(
            async move {
                WRITES.fetch_add(1, Ordering::Relaxed);
                info!("sending");
                info_span!(target: "h2::proto", "stream", http.request.method = "POST")
                    .in_scope(|| ());
                self.inner.write(batch).await
            }
            .instrument(span),
        )
    }
}

/// Installs the global subscriber once; gives the guard and where activities go.
fn global() -> &'static (ShutdownGuard, MemorySink) {
    static GLOBAL: OnceLock<(ShutdownGuard, MemorySink)> = OnceLock::new();
    GLOBAL.get_or_init(|| {
        let inner = MemorySink::new();
        let mut config = Config::default();
        config.sample = SamplingPolicy::ALL;
        config.capture.filter = "trace".parse().unwrap();
        config.pipeline.batch_interval = Duration::from_millis(1);
        let builder =
            tracing_activity::builder().config(config).sink(Chatty { inner: inner.clone() });
        (builder.install().unwrap(), inner)
    })
}

/// The rows of this title, once everything that ended is delivered.
fn rows(title: &str) -> Vec<Activity> {
    let (guard, sink) = global();
    assert!(guard.flush(Duration::from_secs(20)));
    sink.activities().into_iter().filter(|it| it.title == title).collect()
}

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
fn pitfall_04_a_debug_that_traces_and_annotates_does_not_deadlock() {
    global();
    let thread = std::thread::spawn(|| {
        let root = info_span!("request", activity.title = "pitfall 4", n = tracing::field::Empty);
        root.in_scope(|| {
            let child = info_span!("child", busy = ?Busy, late = tracing::field::Empty);
            child.record("late", tracing::field::debug(Busy));
            child.in_scope(|| info!(busy = ?Busy, "event"));
            root.record("n", tracing::field::debug(Busy));
        });
        // Not entered: the way through the registry.
        root.record("n", tracing::field::debug(Busy));
    });
    let end = Instant::now() + Duration::from_secs(20);
    while !thread.is_finished() {
        assert!(Instant::now() < end, "deadlock");
        std::thread::yield_now();
    }
    thread.join().unwrap();
    assert_eq!(rows("pitfall 4").len(), 1);
}

#[test]
fn pitfall_06_delivering_activities_makes_no_activities() {
    let (guard, _) = global();
    for _ in 0..100 {
        info_span!("request", activity.title = "pitfall 6").in_scope(|| ());
        assert!(guard.flush(Duration::from_secs(20)));
    }
    assert_eq!(rows("pitfall 6").len(), 100);
    assert!(rows("recursion").is_empty());
    assert!(WRITES.load(Ordering::Relaxed) >= 100);
}

#[test]
fn the_message_of_a_panic_is_on_the_row() {
    global();
    let caught = std::panic::catch_unwind(|| {
        info_span!("request", activity.title = "panics").in_scope(|| panic!("out of {}", "ink"));
    });
    assert!(caught.is_err());
    let rows = rows("panics");
    let error = &rows[0].error;
    assert!(error.starts_with("out of ink at ") && error.contains("global.rs"), "{error}");
}

#[test]
fn the_message_is_that_of_the_panic_by_which_the_request_was_left() {
    global();
    let step = |text: &'static str| info_span!("step").in_scope(|| panic!("{text}"));
    let caught = std::panic::catch_unwind(|| {
        let root = info_span!("request", activity.title = "panics twice");
        let caught = std::panic::catch_unwind(AssertUnwindSafe(|| {
            root.in_scope(|| {
                assert!(std::panic::catch_unwind(|| step("survived")).is_err());
                step("fatal");
            });
        }));
        // What is cleaned up afterwards may panic, too.
        root.in_scope(|| assert!(std::panic::catch_unwind(|| step("late")).is_err()));
        caught.unwrap_or_else(|payload| std::panic::resume_unwind(payload));
    });
    assert!(caught.is_err());
    let rows = rows("panics twice");
    assert!(rows[0].error.starts_with("fatal at "), "{}", rows[0].error);
}

#[test]
fn a_panic_while_unwinding_in_a_formatted_value_does_not_abort_the_host() {
    struct Broken;
    impl fmt::Debug for Broken {
        fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
            panic!("a defect of the application")
        }
    }
    struct LogsOnDrop;
    impl Drop for LogsOnDrop {
        fn drop(&mut self) {
            info!(broken = ?Broken, "dropped while unwinding");
        }
    }
    global();
    let caught = std::panic::catch_unwind(|| {
        let root = info_span!("request", activity.title = "unwinding");
        let _entered = root.enter();
        let _logs = LogsOnDrop;
        panic!("first");
    });
    assert!(caught.is_err());
    assert_eq!(rows("unwinding").len(), 1);
}

#[test]
fn a_second_installation_is_an_error_that_says_what_to_do() {
    global();
    let error = tracing_activity::builder().config(Config::default()).install().unwrap_err();
    assert!(error.is_installed());
    assert!(error.to_string().contains("call tracing_activity::init first"), "{error}");
}
