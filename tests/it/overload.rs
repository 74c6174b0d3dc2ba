//! A sink that does not keep up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tracing::info_span;
use tracing_activity::model::Activity;
use tracing_activity::sink::{Batch, BoxFuture, MemorySink, Sink, SinkError};
use tracing_subscriber::layer::SubscriberExt as _;

use crate::support::{self, request, tree};

/// A sink that answers only once it is released.
struct Stalled {
    released: Arc<AtomicBool>,
    inner: MemorySink,
}

impl Sink for Stalled {
    fn name(&self) -> &'static str {
        "stalled"
    }

    fn write<'a>(&'a mut self, batch: &'a Batch) -> BoxFuture<'a, Result<(), SinkError>> {
        Box::pin(async move {
            while !self.released.load(Ordering::Relaxed) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            self.inner.write(batch).await
        })
    }
}

const THREADS: u64 = 8;
const REQUESTS: u64 = 20_000;

/// Sends requests; the longest time one took.
fn run_requests() -> Duration {
    let mut longest = Duration::ZERO;
    for _ in 0..REQUESTS {
        let start = Instant::now();
        request!("http.response.status_code" = 200).in_scope(|| {
            info_span!("child").in_scope(|| info_span!("grandchild").in_scope(|| ()));
        });
        longest = longest.max(start.elapsed());
    }
    longest
}

#[test]
fn pitfall_13_under_overload_whole_activities_are_dropped_and_never_parts() {
    let mut config = support::config();
    config.pipeline.queue_rows = 5_000;
    config.pipeline.batch_rows = 1_000;
    config.pipeline.queue_bytes = 64 << 20;
    let released = Arc::new(AtomicBool::new(false));
    let memory = MemorySink::new();
    let sink = Stalled { released: Arc::clone(&released), inner: memory.clone() };
    let (layer, guard) = tracing_activity::builder().config(config).sink(sink).build().unwrap();
    let dispatch = tracing::Dispatch::new(tracing_subscriber::Registry::default().with(layer));
    let longest = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                let dispatch = dispatch.clone();
                scope.spawn(move || tracing::dispatcher::with_default(&dispatch, run_requests))
            })
            .collect();
        threads.into_iter().map(|it| it.join().unwrap()).max().unwrap()
    });
    let stats = guard.stats();
    assert_eq!(stats.created, THREADS * REQUESTS);
    assert_eq!(stats.stored, 0);
    assert_eq!(stats.in_flight() + stats.dropped.total(), stats.created);
    // The queue, and at most what the worker had taken for its batch.
    assert!(stats.in_flight() <= 5_000 + 2 * 1_000, "{stats}");
    // The sink is stalled for good: had a request waited for it, it would still.
    assert!(longest < Duration::from_secs(10), "a request took {longest:?}");
    released.store(true, Ordering::Relaxed);
    let stats = guard.shutdown(support::DEADLINE).stats;
    assert_eq!(stats.created, stats.stored + stats.dropped.total(), "{stats}");
    let activities: Vec<Activity> = memory.activities();
    assert_eq!(activities.len() as u64, stats.stored);
    assert!(activities.iter().all(|it| tree(it) == "request\n  child\n    grandchild\n"));
}

#[test]
fn the_queue_is_bounded_by_bytes_too() {
    let mut config = support::config();
    config.pipeline.queue_bytes = 1 << 20;
    let released = Arc::new(AtomicBool::new(false));
    let sink = Stalled { released: Arc::clone(&released), inner: MemorySink::new() };
    let (layer, guard) = tracing_activity::builder().config(config).sink(sink).build().unwrap();
    let registry = tracing_subscriber::Registry::default().with(layer);
    tracing::subscriber::with_default(registry, || {
        for _ in 0..5_000 {
            let text = "x".repeat(4 << 10);
            request!(text, "http.response.status_code" = 200).in_scope(|| ());
        }
    });
    let stats = guard.stats();
    assert!(stats.dropped.queue_bytes > 0, "{stats}");
    // Every one of them holds more than 4 KiB.
    assert!(stats.queued <= 256, "{stats}");
    released.store(true, Ordering::Relaxed);
    let stats = guard.shutdown(support::DEADLINE).stats;
    assert_eq!(stats.created, stats.stored + stats.dropped.total(), "{stats}");
}

#[test]
fn a_shutdown_at_its_deadline_accounts_for_everything() {
    let sink = Stalled { released: Arc::default(), inner: MemorySink::new() };
    let (layer, guard) =
        tracing_activity::builder().config(support::config()).sink(sink).build().unwrap();
    let registry = tracing_subscriber::Registry::default().with(layer);
    tracing::subscriber::with_default(registry, || {
        for _ in 0..1_000 {
            request!("http.response.status_code" = 200).in_scope(|| ());
        }
    });
    let report = guard.shutdown(Duration::from_millis(50));
    let stats = report.stats;
    assert!(!report.complete);
    assert_eq!((stats.stored, stats.in_flight()), (0, 0), "{stats}");
    assert_eq!(stats.created, stats.failed + stats.dropped.total(), "{stats}");
}
