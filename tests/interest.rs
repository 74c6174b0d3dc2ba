//! What `tracing` asks of the other layers, alone in its process: the worker's silence is a second
//! subscriber, and where two disagree `tracing` asks both, at every span and event.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tracing::{Metadata, Subscriber, info, info_span, trace};
use tracing_activity::config::Config;
use tracing_activity::sink::{Batch, BoxFuture, Sink, SinkError};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// How often it was asked whether a callsite is enabled.
static ASKED: AtomicUsize = AtomicUsize::new(0);

/// Wants everything, and counts how often it is asked again.
struct Counting;

impl<S: Subscriber> Layer<S> for Counting {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        if metadata.target() == "asked" {
            ASKED.fetch_add(1, Ordering::Relaxed);
        }
        true
    }
}

/// Meets callsites of the application on the worker's thread.
struct Meets;

impl Sink for Meets {
    fn name(&self) -> &'static str {
        "meets"
    }

    fn write<'a>(&'a mut self, _: &'a Batch) -> BoxFuture<'a, Result<(), SinkError>> {
        request();
        Box::pin(std::future::ready(Ok(())))
    }
}

fn request() {
    info_span!(target: "asked", "request", activity.title = "asked").in_scope(|| {
        info!(target: "asked", "event");
        trace!(target: "asked", "detail");
    });
}

#[test]
fn the_workers_silence_changes_no_layers_interest() {
    let guard = tracing_activity::builder()
        .config(Config::default())
        .layer(Counting)
        .sink(Meets)
        .install()
        .unwrap();
    info_span!("request", activity.title = "first").in_scope(|| ());
    // The worker has met the callsites in its silence: they are not off for everyone.
    assert!(guard.flush(Duration::from_secs(20)));
    assert_eq!(guard.stats().created, 1);
    // Once or more for each callsite, to register it.
    let asked = ASKED.load(Ordering::Relaxed);
    for _ in 0..100 {
        request();
    }
    assert_eq!(ASKED.load(Ordering::Relaxed), asked, "asked at every span");
    assert!(guard.flush(Duration::from_secs(20)));
    assert_eq!(guard.stats().created, 101);
}
