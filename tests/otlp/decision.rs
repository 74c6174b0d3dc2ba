//! What is kept: the same of rows and of spans, and what `tracestate` says of it.

use std::collections::BTreeMap;

use opentelemetry::trace::{Span as _, TraceContextExt as _, Tracer as _};
use tracing::info_span;
use tracing_activity::model::KeepReason;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::support::{Fixture, Outcome, called, config, request, threshold};
/// Every kept row has its trace with as many spans, and no other trace was exported.
fn assert_same(outcome: &Outcome) {
    let mut by_trace: BTreeMap<_, usize> = BTreeMap::new();
    for span in &outcome.spans {
        assert!(span.span_context.is_sampled(), "{span:?}");
        *by_trace.entry(span.span_context.trace_id().to_bytes()).or_default() += 1;
    }
    for row in &outcome.rows {
        let spans = by_trace.remove(&row.trace_id().to_bytes()).unwrap_or(0);
        let recorded = row.trace.as_ref().map_or(0, |trace| trace.spans.len());
        assert_eq!(spans, recorded, "{row:?}");
    }
    assert!(by_trace.is_empty(), "{by_trace:?}");
}

#[test]
fn rows_and_traces_are_kept_by_the_same_decision() {
    let fixture = Fixture::new(config("errors,slow>1h,rate=0.25"));
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let fixture = &fixture;
            scope.spawn(move || {
                fixture.run(|| {
                    for n in 0..250 {
                        let failed = (n + thread) % 10 == 0;
                        let root = request("a", if failed { 500 } else { 200 });
                        let detached = root.in_scope(|| {
                            info_span!("child").in_scope(|| info_span!("leaf").in_scope(|| ()));
                            info_span!("detached")
                        });
                        drop(root);
                        // It holds the root open.
                        detached.in_scope(|| ());
                    }
                });
            });
        }
    });
    let outcome = fixture.finish();
    assert_eq!(outcome.rows.len(), 1000);
    let kept = outcome.rows.iter().filter(|row| row.kept_because.is_some()).count();
    assert!((200..500).contains(&kept), "{kept}");
    assert_same(&outcome);
    assert_eq!(outcome.stats.kept_traces, kept as u64);
    assert_eq!(outcome.stats.exported, outcome.spans.len() as u64);
    assert_eq!(outcome.stats.sampled_out, 4 * 1000 - outcome.stats.exported);
}

#[test]
fn the_thresholds_of_the_spans_tell_what_the_weights_of_the_rows_tell() {
    let fixture = Fixture::new(config("errors,rate=0.125"));
    fixture.run(|| {
        for n in 0..400 {
            request("a", if n % 20 == 0 { 500 } else { 200 }).in_scope(|| ());
        }
    });
    let outcome = fixture.finish();
    assert_same(&outcome);
    for row in outcome.rows.iter().filter(|row| row.kept_because.is_some()) {
        let [root] = outcome.spans_of(row)[..] else { panic!() };
        let weight = match threshold(root) {
            Some("0") => 1.0,
            Some("e") => 8.0,
            other => panic!("{other:?}"),
        };
        assert!((row.sample_weight - weight).abs() < f32::EPSILON, "{row:?}");
        assert_eq!(row.kept_because == Some(KeepReason::StatusCode), threshold(root) == Some("0"));
    }
}

#[test]
fn what_the_next_service_is_told_is_decided_by_the_trace_id() {
    let fixture = Fixture::new(config("errors,rate=0.5"));
    let mut sampled = 0;
    fixture.run(|| {
        for _ in 0..200 {
            let root = request("a", 500);
            let context = root.in_scope(|| info_span!("call").context());
            let span = context.span().span_context().clone();
            let bytes = span.trace_id().to_bytes();
            // R is the lower 56 bits; T is half of their range.
            assert_eq!(span.is_sampled(), bytes[9] >= 0x80, "{span:?}");
            let ot = span.trace_state().get("ot");
            assert_eq!(ot, span.is_sampled().then_some("th:8"), "{span:?}");
            sampled += u32::from(span.is_sampled());
        }
    });
    assert!((50..150).contains(&sampled), "{sampled}");
    // Kept because they failed, whatever was said at their beginning.
    let outcome = fixture.finish();
    assert_eq!(outcome.spans.len(), 400);
    assert!(outcome.spans.iter().all(|span| threshold(span) == Some("0")));
    assert_same(&outcome);
}

/// Low random bits: no policy below keeps this trace by chance.
const LOW: &str = "0af7651916cd43dd84000000000000ff-b7ad6b7169203331";

#[test]
fn what_a_caller_keeps_is_kept_and_counts_as_often_as_the_caller_tells() {
    let fixture = Fixture::new(config("errors,rate=0.25"));
    let parent = format!("00-{LOW}-01");
    let state = ("tracestate", "ot=th:8;rv:90000000000000,vendor=x");
    called(&fixture, "told", &[("traceparent", &parent), state], || ());
    let outcome = fixture.finish();
    assert_same(&outcome);
    let row = outcome.row("told");
    assert_eq!(row.kept_because, Some(KeepReason::ParentSampled));
    assert!((row.sample_weight - 2.0).abs() < f32::EPSILON, "{row:?}");
    let state = outcome.spans[0].span_context.trace_state();
    assert_eq!(state.get("ot"), Some("th:8;rv:90000000000000"));
    assert_eq!(state.get("vendor"), Some("x"));
}

#[test]
fn what_a_caller_keeps_with_a_chance_that_it_does_not_tell_counts_for_nothing() {
    for state in ["vendor=x", "ot=th:8", "ot=th:8;rv:10000000000000"] {
        let fixture = Fixture::new(config("errors,rate=0.25"));
        let parent = format!("00-{LOW}-01");
        let headers = [("traceparent", parent.as_str()), ("tracestate", state)];
        called(&fixture, "untold", &headers, || ());
        let outcome = fixture.finish();
        assert_same(&outcome);
        let row = outcome.row("untold");
        assert_eq!(row.kept_because, Some(KeepReason::ParentSampled));
        assert!(row.sample_weight.abs() < f32::EPSILON, "{row:?}");
        // A threshold above the random value was a lie, or another's.
        assert_eq!(threshold(&outcome.spans[0]), None, "{state}");
    }
}

#[test]
fn a_caller_who_drops_the_trace_does_not_hide_a_failure() {
    let fixture = Fixture::new(config("errors,rate=0"));
    let parent = format!("00-{LOW}-00");
    called(&fixture, "fine", &[("traceparent", &parent)], || ());
    called(&fixture, "failed", &[("traceparent", &parent)], || {
        tracing_activity::with_activity(|a| {
            a.outcome(tracing_activity::model::Outcome::ServerFault)
        });
    });
    let outcome = fixture.finish();
    assert_eq!(outcome.row("fine").kept_because, None);
    assert!(!outcome.row("failed").parent_sampled);
    // Both are of one trace; one is kept.
    let [span] = &outcome.spans[..] else { panic!("{:?}", outcome.spans) };
    assert_eq!(threshold(span), Some("0"));
    assert!(span.span_context.is_sampled());
}

#[test]
fn the_callers_random_value_decides_instead_of_the_trace_id() {
    let fixture = Fixture::new(config("errors,rate=0.25"));
    let parent = format!("00-{LOW}-00");
    let high = [("traceparent", parent.as_str()), ("tracestate", "ot=rv:f0000000000000")];
    called(&fixture, "high", &high, || ());
    called(&fixture, "low", &[("traceparent", parent.as_str())], || ());
    let outcome = fixture.finish();
    assert_eq!(outcome.row("high").kept_because, Some(KeepReason::Probabilistic));
    assert_eq!(outcome.row("low").kept_because, None);
    let [span] = &outcome.spans[..] else { panic!("{:?}", outcome.spans) };
    assert_eq!(span.span_context.trace_state().get("ot"), Some("th:c;rv:f0000000000000"));
}

#[test]
fn where_callers_do_not_count_the_policy_alone_decides() {
    let mut config = config("errors,rate=0.25");
    config.otlp.head = tracing_activity::config::HeadSampling::default();
    config.otlp.head.parent_based = false;
    let fixture = Fixture::new(config);
    let parent = format!("00-{LOW}-01");
    called(&fixture, "a", &[("traceparent", &parent)], || ());
    let outcome = fixture.finish();
    assert_eq!(outcome.row("a").kept_because, None);
    assert!(outcome.row("a").parent_sampled);
    assert!(outcome.spans.is_empty());
}

#[test]
fn spans_that_end_after_the_request_share_its_fate() {
    for (status, exported) in [(500, 3), (200, 0)] {
        let fixture = Fixture::new(config("errors,rate=0"));
        let (root, held) = fixture.run(|| {
            let root = request("a", status);
            let held = root.in_scope(|| info_span!("held"));
            root.in_scope(|| tracing_activity::CurrentActivity::get().unwrap().finish());
            (root, held)
        });
        assert!(fixture.exported().is_empty());
        let context = root.context();
        fixture.run(move || {
            held.in_scope(|| ());
            drop((held, root));
        });
        // Below a root that is over, by OpenTelemetry's own interface.
        fixture.tracer.start_with_context("late", &context).end();
        let outcome = fixture.finish();
        assert_eq!(outcome.spans.len(), exported, "{:?}", outcome.spans);
        assert_eq!(outcome.stats.sampled_out, 3 - exported as u64);
    }
}

#[test]
fn spans_made_by_opentelemetrys_own_interface_belong_to_the_request() {
    for (status, exported) in [(500, 3), (200, 0)] {
        let fixture = Fixture::new(config("errors,rate=0"));
        fixture.run(|| {
            let root = request("a", status);
            let _in = root.enter();
            let mut outer = fixture.tracer.start("by hand");
            info_span!("child").in_scope(|| ());
            outer.end();
        });
        let outcome = fixture.finish();
        assert_eq!(outcome.spans.len(), exported, "{:?}", outcome.spans);
        let root = outcome.row("a").trace_id().to_bytes();
        assert!(outcome.spans.iter().all(|it| it.span_context.trace_id().to_bytes() == root));
    }
}

#[test]
fn what_runs_outside_of_requests_is_decided_when_it_ends() {
    let fixture = Fixture::new(config("errors,slow>1h,rate=0"));
    let job = |name: &'static str, failed: bool| {
        let mut span = fixture.tracer.start(name);
        if failed {
            span.set_status(opentelemetry::trace::Status::error("broken"));
        }
        span.end();
    };
    job("fine", false);
    job("failed", true);
    fixture.run(|| {
        let job = info_span!("nightly");
        job.in_scope(|| info_span!("step").in_scope(|| tracing::error!("broken")));
        job.in_scope(|| tracing::error!("broken"));
        info_span!("quiet").in_scope(|| info_span!("step").in_scope(|| ()));
    });
    let outcome = fixture.finish();
    assert!(outcome.rows.is_empty());
    let mut names: Vec<_> = outcome.spans.iter().map(|span| span.name.as_ref()).collect();
    names.sort_unstable();
    assert_eq!(names, ["failed", "nightly", "step"]);
}

#[test]
fn requests_of_one_trace_have_fates_of_their_own() {
    let fixture = Fixture::new(config("errors,rate=0"));
    let parent = format!("00-{LOW}-00");
    for n in 0..20 {
        let failed = n % 4 == 0;
        called(&fixture, "a", &[("traceparent", &parent)], move || {
            info_span!("child").in_scope(|| ());
            if failed {
                tracing::info_span!("broken", activity.outcome = "server_fault").in_scope(|| ());
            }
        });
    }
    let outcome = fixture.finish();
    // Five failed: a root, a child and what broke.
    assert_eq!(outcome.spans.len(), 15);
    for row in outcome.rows.iter().filter(|row| row.kept_because.is_some()) {
        let root = opentelemetry::trace::SpanId::from_bytes(
            row.activity_id.to_bytes()[8..].try_into().unwrap(),
        );
        let below = outcome.spans.iter().filter(|span| span.parent_span_id == root).count();
        assert_eq!(below, 2, "{row:?}");
    }
}

#[test]
fn a_request_inside_of_a_job_is_decided_by_itself() {
    let fixture = Fixture::new(config("errors,rate=0"));
    fixture.run(|| {
        let job = info_span!("job");
        let _in = job.enter();
        request("fine", 200).in_scope(|| info_span!("child").in_scope(|| ()));
        request("failed", 500).in_scope(|| info_span!("child").in_scope(|| ()));
    });
    let outcome = fixture.finish();
    let names: Vec<_> = outcome.spans.iter().map(|span| span.name.as_ref()).collect();
    assert_eq!(names, ["child", "request"], "{:?}", outcome.spans);
}

#[test]
fn a_provider_of_ones_own_keeps_its_own_words_where_a_policy_keeps_nothing() {
    let fixture = Fixture::new(config("off"));
    fixture.run(|| request("a", 500).in_scope(|| info_span!("child").in_scope(|| ())));
    let outcome = fixture.finish();
    assert_eq!(outcome.rows.len(), 1);
    assert!(outcome.spans.is_empty());
}

#[test]
fn what_a_rule_leaves_out_is_neither_row_nor_trace_unless_the_caller_keeps_it() {
    let fixture = Fixture::new(config("all,drop:ekind:GET"));
    fixture.run(|| {
        for n in 0..40 {
            request("own", if n % 4 == 0 { 500 } else { 200 })
                .in_scope(|| info_span!("child").in_scope(|| ()));
        }
    });
    for (title, flag) in [("kept by its caller", "01"), ("dropped by its caller", "00")] {
        called(&fixture, title, &[("traceparent", &format!("00-{LOW}-{flag}"))], || ());
    }
    let outcome = fixture.finish();
    assert_same(&outcome);
    let titled = |title: &str| outcome.rows.iter().filter(|row| row.title == title).count();
    assert_eq!((titled("own"), titled("kept by its caller")), (10, 1));
    assert_eq!(outcome.rows.len(), 11);
    assert_eq!(outcome.row("kept by its caller").kept_because, Some(KeepReason::ParentSampled));
    assert_eq!(outcome.stats.exported, 10 * 2 + 1);
}
