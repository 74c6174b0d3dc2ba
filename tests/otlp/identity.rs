//! Which trace and which span a row is.

use opentelemetry::trace::{Span as _, SpanId, TraceContextExt as _, TraceId, Tracer as _};
use tracing::info_span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::support::{Fixture, called, config, request};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// The span id of a row's request: the lower half of its activity's id.
fn root_id(row: &tracing_activity::model::Activity) -> SpanId {
    SpanId::from_bytes(row.activity_id.to_bytes()[8..].try_into().unwrap())
}

#[test]
fn a_request_without_a_caller_has_its_activity_id_for_its_trace_id() {
    let fixture = Fixture::new(config("all"));
    fixture.run(|| {
        let root = request("a", 200);
        let _in = root.enter();
        info_span!("child").in_scope(|| ());
    });
    let outcome = fixture.finish();
    let row = outcome.row("a");
    assert_eq!(row.remote_trace_id, None);
    let spans = outcome.spans_of(row);
    assert_eq!(spans.len(), 2);
    let root = spans.iter().find(|span| span.name == "request").unwrap();
    assert_eq!(root.span_context.span_id(), root_id(row));
    assert_eq!(root.parent_span_id, SpanId::INVALID);
    let child = spans.iter().find(|span| span.name == "child").unwrap();
    assert_eq!(child.parent_span_id, root_id(row));
}

#[test]
fn a_callers_span_is_the_roots_parent_and_its_trace_the_rows() {
    let fixture = Fixture::new(config("all"));
    called(&fixture, "a", &[("traceparent", PARENT)], || ());
    let outcome = fixture.finish();
    let row = outcome.row("a");
    assert_eq!(row.trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
    assert!(row.parent_sampled);
    let [root] = outcome.spans_of(row)[..] else { panic!("{:?}", outcome.spans) };
    assert_eq!(root.parent_span_id.to_string(), "b7ad6b7169203331");
    assert!(root.parent_span_is_remote);
    assert_eq!(root.span_context.span_id(), root_id(row));
}

#[test]
fn a_caller_who_is_not_believed_has_no_part_in_the_trace() {
    let mut config = config("all");
    config.http.traceparent = tracing_activity::config::TraceparentTrust::Never;
    let fixture = Fixture::new(config);
    called(&fixture, "a", &[("traceparent", PARENT)], || ());
    let outcome = fixture.finish();
    let row = outcome.row("a");
    assert_eq!((row.remote_trace_id, row.parent_sampled), (None, false));
    let [root] = outcome.spans_of(row)[..] else { panic!("{:?}", outcome.spans) };
    assert_eq!(root.parent_span_id, SpanId::INVALID);
}

#[test]
fn a_span_that_began_before_it_was_entered_gives_its_row_the_trace() {
    let fixture = Fixture::new(config("all"));
    let trace_id = fixture.run(|| {
        let root = request("a", 200);
        // Whoever asks for the context begins the span.
        let trace_id = root.context().span().span_context().trace_id();
        root.in_scope(|| info_span!("child").in_scope(|| ()));
        trace_id
    });
    let outcome = fixture.finish();
    let row = outcome.row("a");
    assert_eq!(row.trace_id().to_bytes(), trace_id.to_bytes());
    assert_eq!(outcome.spans_of(row).len(), 2);
}

#[test]
fn what_starts_in_a_root_that_began_before_it_was_entered_is_not_taken_for_the_root() {
    let fixture = Fixture::new(config("errors,rate=0"));
    let started = fixture.run(|| {
        let root = request("a", 500);
        // As a `make_span_with` does that reads the caller's headers and then asks for the context.
        let parent = opentelemetry::trace::SpanContext::new(
            TraceId::from_hex("0af7651916cd43dd8448eb211c80319c").unwrap(),
            SpanId::from_hex("b7ad6b7169203331").unwrap(),
            opentelemetry::trace::TraceFlags::default(),
            true,
            opentelemetry::trace::TraceState::NONE,
        );
        let around = opentelemetry::Context::new().with_remote_span_context(parent);
        root.set_parent(around).unwrap();
        let started = root.context().span().span_context().clone();
        root.in_scope(|| {
            fixture.tracer.start("by hand").end();
            info_span!("child").in_scope(|| ());
        });
        started
    });
    let outcome = fixture.finish();
    let row = outcome.row("a");
    assert_eq!(row.trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(row.remote_parent_id.unwrap().to_string(), "b7ad6b7169203331");
    let spans = outcome.spans_of(row);
    let mut names: Vec<_> = spans.iter().map(|span| span.name.as_ref()).collect();
    names.sort_unstable();
    assert_eq!(names, ["by hand", "child", "request"], "{:?}", outcome.stats);
    for span in spans {
        if span.name == "request" {
            assert_eq!(span.span_context.span_id(), started.span_id());
        } else {
            assert_eq!(span.parent_span_id, started.span_id(), "{span:?}");
        }
    }
}

#[test]
fn a_request_that_is_never_entered_has_a_row_and_a_span_of_one_trace() {
    let fixture = Fixture::new(config("all"));
    fixture.run(|| drop(request("a", 200)));
    let outcome = fixture.finish();
    assert_eq!(outcome.spans_of(outcome.row("a")).len(), 1);
}

#[test]
fn a_request_finished_by_hand_has_the_trace_of_its_span() {
    let fixture = Fixture::new(config("all"));
    fixture.run(|| {
        let root = request("a", 200);
        let started = root.context();
        root.in_scope(|| tracing_activity::CurrentActivity::get().unwrap().finish());
        drop(started);
    });
    let outcome = fixture.finish();
    assert_eq!(outcome.spans_of(outcome.row("a")).len(), 1);
}

#[test]
fn a_link_to_another_trace_goes_with_the_span() {
    let fixture = Fixture::new(config("all"));
    let other = fixture.run(|| {
        let other = request("other", 200);
        let root = request("a", 200);
        root.follows_from(&other);
        other.in_scope(|| ());
        root.in_scope(|| ());
        other.context().span().span_context().clone()
    });
    let outcome = fixture.finish();
    let [root] = outcome.spans_of(outcome.row("a"))[..] else { panic!("{:?}", outcome.spans) };
    assert_eq!(root.links.links[0].span_context.span_id(), other.span_id());
}
