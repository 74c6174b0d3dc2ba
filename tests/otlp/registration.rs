//! The first use of a span by several threads at once.

use std::sync::{Mutex, mpsc};
use std::time::Duration;

use tracing::subscriber::Interest;
use tracing::{Dispatch, Metadata, Span, Subscriber, info_span};
use tracing_activity::otlp::Link;
use tracing_activity::sink::MemorySink;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::SubscriberExt as _;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::trace::{InMemorySpanExporter, SimpleSpanProcessor};

use crate::support::{DEADLINE, config, provider, request};

/// Holds the registration of one callsite until it is told to go on.
struct Slow {
    begun: mpsc::Sender<()>,
    go_on: Mutex<mpsc::Receiver<()>>,
}

impl<S: Subscriber> Layer<S> for Slow {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if metadata.name() == "contended" {
            self.begun.send(()).ok();
            self.go_on.lock().unwrap().recv_timeout(DEADLINE).ok();
        }
        Interest::always()
    }
}

fn contended() -> Span {
    info_span!("contended")
}

#[test]
fn a_span_that_another_thread_is_registering_is_exported_too() {
    let config = config("all");
    let link = Link::new(&config);
    let exporter = InMemorySpanExporter::default();
    let provider = provider(&link, SimpleSpanProcessor::new(link.counted(exporter.clone())));
    let sink = MemorySink::new();
    let builder = tracing_activity::builder().config(config).sink(sink.clone()).link(&link);
    let (layer, guard) = builder.build().unwrap();
    let spans = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    let (begun, begins) = mpsc::channel();
    let (let_go, go_on) = mpsc::channel::<()>();
    let subscriber = Dispatch::new(
        tracing_subscriber::registry()
            .with(layer)
            .with(spans.with_filter(link.filter()))
            .with(Slow { begun, go_on: Mutex::new(go_on) }),
    );
    let run = |title: &str| {
        tracing::dispatcher::with_default(&subscriber, || {
            request(title, 200).in_scope(|| contended().in_scope(|| ()));
        });
    };
    // The request's own span is not what is contended.
    tracing::dispatcher::with_default(&subscriber, || drop(request("first", 200)));
    std::thread::scope(|scope| {
        scope.spawn(|| run("registers"));
        begins.recv_timeout(DEADLINE).unwrap();
        run("does not wait");
        // A silent subscriber asks, too: everybody goes on.
        drop(let_go);
    });
    assert!(guard.flush(Duration::from_secs(30)));
    let arrived = exporter.get_finished_spans().unwrap();
    assert_eq!(arrived.iter().filter(|span| span.name == "contended").count(), 2);
    guard.shutdown(DEADLINE);
    let recorded: usize =
        sink.activities().iter().map(|row| row.trace.as_ref().map_or(0, |it| it.spans.len())).sum();
    assert_eq!((recorded, arrived.len()), (5, 5));
    provider.shutdown().unwrap();
}
