//! What bounds the memory of spans that are not decided, and that what is left out is counted; and
//! what happens when a processor of the application panics.

use std::time::Duration;

use opentelemetry::trace::{Span as _, TraceContextExt as _, Tracer as _, TracerProvider as _};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    InMemorySpanExporter, SimpleSpanProcessor, Span, SpanData, SpanProcessor,
};
use tracing::{Dispatch, info_span};
use tracing_activity::otlp::Link;
use tracing_activity::sink::MemorySink;
use tracing_subscriber::layer::SubscriberExt as _;

use crate::support::{DEADLINE, Fixture, config, provider, request};

#[test]
fn spans_beyond_the_cap_of_a_trace_are_left_out_and_counted() {
    let mut config = config("all");
    config.capture.max_spans = 10;
    let fixture = Fixture::new(config);
    fixture.run(|| {
        request("a", 200).in_scope(|| {
            for _ in 0..50 {
                info_span!("child").in_scope(|| ());
            }
        });
    });
    let outcome = fixture.finish();
    assert_eq!((outcome.spans.len(), outcome.stats.dropped.limit), (10, 41));
}

#[test]
fn what_is_below_spans_that_were_left_out_is_left_out_for_the_same_reason() {
    let mut config = config("all");
    config.capture.max_spans = 10;
    config.capture.max_in_flight = 1;
    let fixture = Fixture::new(config);
    fixture.run(|| {
        let nested =
            (0..30).fold(request("a", 200), |outer, _| info_span!(parent: &outer, "child"));
        nested.in_scope(|| ());
        // A job beside it, which is one too many, and a step of it.
        let job = fixture.tracer.start("job");
        let around = opentelemetry::Context::new().with_span(job);
        fixture.tracer.start_with_context("step", &around).end();
    });
    let outcome = fixture.finish();
    let dropped = outcome.stats.dropped;
    assert_eq!((outcome.spans.len(), dropped.limit, dropped.late), (10, 23, 0), "{dropped:?}");
}

#[test]
fn spans_beyond_the_memory_are_left_out_and_counted_and_the_root_is_not() {
    let mut config = config("all");
    config.otlp.buffer_bytes = 4 << 10;
    let fixture = Fixture::new(config);
    fixture.run(|| {
        request("a", 200).in_scope(|| {
            for _ in 0..50 {
                info_span!("child", text = "x".repeat(512)).in_scope(|| ());
            }
            let held = fixture.link.stats();
            assert!(held.held_bytes <= 4 << 10 && held.held > 0, "{held:?}");
        });
    });
    let outcome = fixture.finish();
    assert!(outcome.spans.iter().any(|span| span.name == "request"));
    assert_eq!(outcome.spans.len() as u64 + outcome.stats.dropped.limit, 51);
    assert!(outcome.stats.dropped.limit > 30, "{:?}", outcome.stats);
}

#[test]
fn traces_beyond_the_cap_are_left_out_and_counted() {
    let mut config = config("all");
    config.capture.max_in_flight = 4;
    let fixture = Fixture::new(config);
    let open: Vec<_> = (0..10).map(|_| fixture.tracer.start("job")).collect();
    assert_eq!(fixture.link.stats().open_traces, 4);
    for mut span in open {
        span.end();
    }
    let outcome = fixture.finish();
    assert_eq!((outcome.spans.len(), outcome.stats.dropped.limit), (4, 6));
}

#[test]
fn what_is_not_decided_at_the_end_is_dropped_and_counted() {
    let fixture = Fixture::new(config("all"));
    let open = fixture.tracer.start("job");
    let around = opentelemetry::Context::new().with_span(open);
    let mut inner = fixture.tracer.start_with_context("step", &around);
    inner.end();
    assert_eq!(fixture.link.stats().held, 1);
    let link = fixture.link.clone();
    fixture.shut_down();
    drop(around);
    let stats = link.stats();
    assert_eq!((stats.dropped.shutdown, stats.held, stats.open_traces), (2, 0, 0), "{stats:?}");
    assert_eq!(stats.in_flight(), 0);
}

/// Panics at the end of some spans.
#[derive(Debug)]
struct Moody(SimpleSpanProcessor<InMemorySpanExporter>);

impl SpanProcessor for Moody {
    fn on_start(&self, span: &mut Span, around: &opentelemetry::Context) {
        self.0.on_start(span, around);
    }

    fn on_end(&self, span: SpanData) {
        assert_ne!(span.name, "hated");
        self.0.on_end(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }
}

#[test]
fn a_processor_that_panics_costs_neither_a_row_nor_another_span() {
    let config = config("all");
    let link = Link::new(&config);
    let exporter = InMemorySpanExporter::default();
    let provider = provider(&link, Moody(SimpleSpanProcessor::new(exporter.clone())));
    let sink = MemorySink::new();
    let builder = tracing_activity::builder().config(config).sink(sink.clone()).link(&link);
    let (layer, guard) = builder.build().unwrap();
    let spans = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    let subscriber = Dispatch::new(tracing_subscriber::registry().with(layer).with(spans));
    tracing::dispatcher::with_default(&subscriber, || {
        for title in ["a", "b"] {
            request(title, 200).in_scope(|| {
                info_span!("hated").in_scope(|| ());
                info_span!("liked").in_scope(|| ());
            });
        }
    });
    let report = guard.shutdown(DEADLINE);
    assert!(report.complete && report.stats.panics == 2, "{}", report.stats);
    assert_eq!(sink.activities().len(), 2);
    let mut names: Vec<_> =
        exporter.get_finished_spans().unwrap().into_iter().map(|span| span.name).collect();
    names.sort();
    assert_eq!(names, ["liked", "liked", "request", "request"]);
    provider.shutdown().unwrap();
}
