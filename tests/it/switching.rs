//! The sampling policy changes while requests run.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tracing::{Instrument as _, error, info, info_span};
use tracing_activity::config::SamplingPolicy;
use tracing_activity::model::{KeepReason, Outcome};
use tracing_activity::with_activity;

use crate::support::{self, Fixture, request, tree};

fn fixture(policy: SamplingPolicy) -> Fixture {
    let mut config = support::config();
    config.sample = policy;
    Fixture::new(config)
}

fn serve(title: &'static str) {
    request!("http.response.status_code" = 200, activity.title = title).in_scope(|| {
        info_span!("child").in_scope(|| info!("event"));
    });
}

const WHOLE: &str = "request\n  child!event\n";

#[test]
fn the_policy_in_force_is_the_last_one_set() {
    let fixture = fixture("rate=0.25".parse().unwrap());
    assert_eq!(fixture.guard.sampling().to_string(), "rate=0.25");
    fixture.guard.handle().set_sampling("all,budget=5/s".parse().unwrap());
    assert_eq!(fixture.guard.sampling().to_string(), "errors,rate=1,budget=5/s");
    drop(fixture.finish());
}

#[test]
fn a_policy_applies_to_requests_that_end_after_it_was_set() {
    let fixture = fixture("errors".parse().unwrap());
    let guard = &fixture.guard;
    fixture.run(|| {
        serve("before");
        let span = request!("http.response.status_code" = 200, activity.title = "across");
        span.in_scope(|| guard.set_sampling("always:route:*".parse().unwrap()));
        drop(span);
    });
    let (rows, _) = fixture.finish();
    let kept: Vec<_> = rows.iter().map(|it| (it.title.as_str(), it.kept_because)).collect();
    assert_eq!(kept, [("before", None), ("across", Some(KeepReason::AlwaysSample))]);
}

#[test]
fn from_off_to_all_and_back_the_requests_that_begin_later_have_what_they_should() {
    let fixture = fixture(SamplingPolicy::OFF);
    let guard = &fixture.guard;
    fixture.run(|| {
        for _ in 0..3 {
            serve("off");
            guard.set_sampling(SamplingPolicy::ALL);
            serve("all");
            guard.set_sampling(SamplingPolicy::OFF);
        }
        serve("off");
    });
    let (rows, stats) = fixture.finish();
    assert_eq!((rows.len(), stats.panics, stats.truncated), (7, 0, 0));
    for row in rows {
        let collected = row.title == "all";
        assert_eq!((row.trace.is_some(), row.trace_hash.is_some()), (collected, collected));
        if collected {
            assert_eq!(tree(&row), WHOLE);
        }
    }
}

#[test]
fn a_request_that_was_under_way_ends_as_a_row_without_a_trace() {
    for (before, after) in
        [(SamplingPolicy::OFF, SamplingPolicy::ALL), (SamplingPolicy::ALL, SamplingPolicy::OFF)]
    {
        let fixture = fixture(before.clone());
        let guard = &fixture.guard;
        fixture.run(|| {
            let span = request!(
                "http.response.status_code" = tracing::field::Empty,
                activity.title = "across"
            );
            span.in_scope(|| {
                info_span!("child").in_scope(|| {
                    guard.set_sampling(after);
                    error!("broken");
                    info!("event");
                    // One that looks like a request is still part of this one.
                    request!(activity.data.inner = 1).in_scope(|| error!("again"));
                    info_span!("later").in_scope(|| with_activity(|a| a.event("said")));
                });
                // And back: nothing that happened in between is made up.
                guard.set_sampling(before);
            });
            // Elsewhere, by a future and on another thread.
            let inside = span.clone();
            let dispatch = fixture.dispatch.clone();
            let elsewhere = std::thread::spawn(move || {
                tracing::dispatcher::with_default(&dispatch, || {
                    inside.in_scope(|| info_span!("elsewhere").in_scope(|| ()));
                    let future = async { inside.record("http.response.status_code", 503) };
                    let mut future = std::pin::pin!(future.instrument(inside.clone()));
                    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
                    assert!(future.as_mut().poll(&mut context).is_ready());
                });
            });
            elsewhere.join().unwrap();
        });
        let (rows, stats) = fixture.finish();
        assert_eq!((rows.len(), stats.panics, stats.truncated), (1, 0, 0), "{rows:#?}");
        let row = &rows[0];
        assert_eq!((row.ekind.as_str(), row.error.as_str()), ("said", "broken"));
        assert_eq!((row.status, row.outcome), (503, Outcome::ServerFault));
        assert!(row.trace.is_none() && row.trace_hash.is_none() && row.kept_because.is_none());
        assert_eq!(row.dropped_spans, 0);
        assert!(row.data.contains("inner"), "{}", row.data);
    }
}

#[test]
fn while_threads_serve_every_request_is_a_row_and_every_trace_is_whole() {
    const THREADS: u64 = 4;
    const SWITCHES: u64 = 60;
    for born in [SamplingPolicy::OFF, SamplingPolicy::ALL] {
        let fixture = fixture(born.clone());
        let (done, served) = (AtomicBool::new(false), AtomicU64::new(0));
        let barrier = Barrier::new(THREADS as usize + 1);
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    fixture.run(|| {
                        barrier.wait();
                        while !done.load(Ordering::Relaxed) {
                            serve("one");
                            served.fetch_add(1, Ordering::Relaxed);
                        }
                    });
                });
            }
            barrier.wait();
            for switch in 0..SWITCHES {
                let enough = served.load(Ordering::Relaxed) + 50;
                support::wait_for("requests", || served.load(Ordering::Relaxed) > enough);
                let policy =
                    if switch % 2 == 0 { SamplingPolicy::ALL } else { SamplingPolicy::OFF };
                fixture.guard.set_sampling(policy);
            }
            done.store(true, Ordering::Relaxed);
        });
        // What begins after the last switch is as if it had never been otherwise.
        fixture.guard.set_sampling(SamplingPolicy::ALL);
        fixture.run(|| serve("last"));
        let (rows, stats) = fixture.finish();
        assert_eq!(rows.len() as u64, served.into_inner() + 1, "{stats}");
        let traces = rows.iter().filter(|it| it.trace.is_some());
        assert!(traces.clone().all(|it| tree(it) == WHOLE));
        let hashes: std::collections::BTreeSet<_> =
            rows.iter().filter_map(|it| it.trace_hash).collect();
        assert_eq!(hashes.len(), 1, "one path is one hash");
        let without = rows.iter().filter(|it| it.trace.is_none()).count();
        assert!(traces.count() > 500 && without > 500, "{without} without");
        assert!(rows.iter().any(|it| it.title == "last" && it.trace.is_some()));
    }
}
