//! Requests that are given up, at their age or because the process ends, and those of them that end
//! after all.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, SystemTime};

use tracing::field::Empty;
use tracing::{Span, info_span};
use tracing_activity::config::{Config, SamplingPolicy};
use tracing_activity::model::Activity;
use tracing_activity::model::Outcome::{self, ClientFault, ServerFault, Success};
use tracing_activity::sink::MemorySink;
use tracing_activity::{CurrentActivity, with_activity};
use tracing_subscriber::Registry;
use tracing_subscriber::layer::SubscriberExt as _;

use crate::support::{self, Fixture, request, spin, wait_for};

const WAIT: Duration = Duration::from_millis(20);

/// Panics and prints nothing.
fn panic<T>() -> T {
    std::panic::resume_unwind(Box::new(()))
}

fn http(status: Option<u16>) -> Span {
    request!("http.response.status_code" = status)
}

fn call() -> Span {
    info_span!(
        "call",
        "rpc.system" = "grpc",
        "otel.kind" = "server",
        "rpc.grpc.status_code" = Empty
    )
}

fn job() -> Span {
    info_span!("job", "otel.kind" = "consumer", "otel.status_code" = Empty)
}

/// With traces and without.
fn policies() -> [Config; 2] {
    [SamplingPolicy::ALL, SamplingPolicy::OFF].map(|policy| {
        let mut config = support::config();
        config.sample = policy;
        config
    })
}

/// The same, for which a request is old at once.
fn impatient() -> [Config; 2] {
    policies().map(|mut config| {
        config.capture.max_lifetime = Duration::from_millis(1);
        config
    })
}

fn told(it: &Activity) -> (Outcome, &str, bool, bool) {
    (it.outcome, &it.error_kind, it.incomplete, it.late_end)
}

#[test]
fn what_is_under_way_at_shutdown_lasts_until_then_and_is_nobodys_fault() {
    for config in policies() {
        for open in [|| http(Some(200)), || http(None), call, job] as [fn() -> Span; 4] {
            let fixture = Fixture::new(config.clone());
            // Others of its kind were answered.
            fixture.run(|| http(Some(200)).in_scope(|| ()));
            let held = fixture.run(|| {
                let span = open();
                span.in_scope(|| ());
                spin(WAIT);
                span
            });
            let (activities, stats) = fixture.finish();
            let it = &activities[1];
            assert_eq!(told(it), (Success, "abandoned", true, false), "{it:?}");
            assert!(Duration::from_micros(it.duration) >= WAIT, "{it:?}");
            assert_eq!((stats.created, stats.late_ends), (2, 0));
            drop(held);
        }
    }
}

#[test]
fn what_went_wrong_by_then_is_a_fault() {
    for config in policies() {
        let fixture = Fixture::new(config);
        let held = fixture.run(|| {
            let failed = job();
            failed.record("otel.status_code", "ERROR");
            let panicked = http(Some(200));
            let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                panicked.in_scope(panic::<()>);
            }));
            assert!(caught.is_err());
            let code = call();
            code.record("rpc.grpc.status_code", 13);
            [http(Some(502)), http(Some(404)), failed, panicked, code]
        });
        let (mut activities, _) = fixture.finish();
        activities.sort_by_key(|it| it.activity_id);
        let mut seen: Vec<_> = activities.iter().map(|it| (it.status, told(it))).collect();
        seen.sort_by_key(|it| it.0);
        let expected = [
            (0, (ServerFault, "", true, false)),
            (13, (ServerFault, "13", true, false)),
            (200, (ServerFault, "panic", true, false)),
            (404, (ClientFault, "", true, false)),
            (502, (ServerFault, "502", true, false)),
        ];
        assert_eq!(seen, expected);
        drop(held);
    }
}

#[test]
fn a_request_that_ends_after_its_age_has_a_second_row_that_tells_the_whole() {
    for config in impatient() {
        let traced = config.sample != SamplingPolicy::OFF;
        for (status, outcome) in [(200, Success), (404, ClientFault), (503, ServerFault)] {
            let fixture = Fixture::new(config.clone());
            let upload = fixture.run(|| {
                let span = http(None);
                span.in_scope(|| with_activity(|a| a.title("upload").data("parts", 1)));
                span
            });
            wait_for("the age", || fixture.sink.activities().len() == 1);
            fixture.run(|| {
                upload.in_scope(|| {
                    info_span!("store").in_scope(|| ());
                    with_activity(|a| a.data("parts", 2));
                });
                spin(WAIT);
                upload.record("http.response.status_code", status);
                upload.in_scope(|| ());
                drop(upload);
            });
            let (activities, stats) = fixture.finish();
            let [given_up, ended] = &*activities else { panic!("{activities:#?}") };
            assert_eq!(told(given_up), (Success, "abandoned", true, false));
            assert_eq!((given_up.status, &*given_up.data), (0, r#"{"parts":1}"#));
            assert_eq!((ended.outcome, ended.status), (outcome, status));
            assert_eq!((ended.incomplete, ended.late_end), (false, true));
            assert_eq!((&*ended.title, &*ended.data), ("upload", r#"{"parts":2}"#));
            assert_eq!((given_up.activity_id, given_up.when), (ended.activity_id, ended.when));
            assert!(Duration::from_micros(ended.duration) >= WAIT);
            assert!(ended.duration > given_up.duration);
            assert_eq!((stats.created, stats.stored, stats.late_ends), (2, 2, 1), "{stats}");
            assert_eq!(ended.trace.is_some(), traced);
            if let Some(trace) = &ended.trace {
                assert_eq!(trace.spans[1].name, "store");
            }
        }
    }
}

#[test]
fn a_job_that_ends_after_its_age_tells_how() {
    for config in impatient() {
        for (fails, outcome) in [(false, Success), (true, ServerFault)] {
            let fixture = Fixture::new(config.clone());
            let job = fixture.run(job);
            wait_for("the age", || fixture.sink.activities().len() == 1);
            fixture.run(|| {
                if fails {
                    job.record("otel.status_code", "ERROR");
                }
                job.in_scope(|| CurrentActivity::get().expect("it goes on").finish());
            });
            drop(job);
            let (activities, stats) = fixture.finish();
            let rows: Vec<_> = activities.iter().map(told).collect();
            assert_eq!(rows[0], (Success, "abandoned", true, false));
            assert_eq!(rows[1..], [(outcome, "", false, true)]);
            assert_eq!((stats.created, stats.late_ends), (2, 1));
        }
    }
}

#[test]
fn as_many_requests_as_may_be_captured_go_on_after_their_age() {
    let [mut config, _] = impatient();
    config.capture.max_in_flight = 2;
    let fixture = Fixture::new(config);
    let mut open = Vec::new();
    for count in 1..=5 {
        open.push(fixture.run(|| http(Some(200))));
        wait_for("the age", || fixture.sink.activities().len() == count);
    }
    drop(open);
    let (activities, stats) = fixture.finish();
    assert_eq!((stats.created, stats.late_ends, stats.dropped.total()), (7, 2, 0), "{stats}");
    assert_eq!(activities.iter().filter(|it| !it.late_end).count(), 5);
}

#[test]
fn a_handler_that_blocks_its_thread_is_given_up_at_its_age_and_told_of_when_it_ends() {
    for config in impatient() {
        let fixture = Fixture::new(config);
        let (go, is_free) = channel::<()>();
        let (inside, is_inside) = channel();
        let dispatch = fixture.dispatch.clone();
        let blocked = std::thread::spawn(move || {
            tracing::dispatcher::with_default(&dispatch, || {
                http(Some(200)).in_scope(|| {
                    inside.send(CurrentActivity::get().unwrap().id()).unwrap();
                    let _ = is_free.recv();
                    with_activity(|a| a.title("after all"));
                });
            });
        });
        let id = is_inside.recv().unwrap();
        wait_for("the age", || fixture.sink.activities().len() == 1);
        assert_eq!(fixture.guard.stats().in_flight(), 0, "its place is free");
        drop(go);
        blocked.join().unwrap();
        let (activities, stats) = fixture.finish();
        let [given_up, ended] = &*activities else { panic!("{activities:#?}") };
        assert_eq!(told(given_up), (Success, "abandoned", true, false));
        assert_eq!(told(ended), (Success, "", false, true));
        assert_eq!((given_up.activity_id, ended.activity_id), (id, id));
        assert_eq!(given_up.when, ended.when);
        assert_eq!((ended.status, &*ended.method, &*ended.title), (200, "GET", "after all"));
        assert_eq!((stats.created, stats.stored), (2, 2), "{stats}");
    }
}

#[test]
fn shutdown_does_not_wait_for_a_handler_that_blocks_its_thread() {
    for config in policies() {
        let fixture = Fixture::new(config);
        let (go, is_free) = channel::<()>();
        let (inside, is_inside) = channel();
        let dispatch = fixture.dispatch.clone();
        let blocked = std::thread::spawn(move || {
            tracing::dispatcher::with_default(&dispatch, || {
                http(Some(200)).in_scope(|| {
                    inside.send(()).unwrap();
                    let _ = is_free.recv();
                    // A callback while it is over, and a child.
                    info_span!("late").in_scope(|| tracing::info!("late"));
                });
                http(Some(200)).in_scope(|| ());
            });
        });
        is_inside.recv().unwrap();
        let handle = fixture.guard.handle();
        let (activities, stats) = fixture.finish();
        let [it] = &*activities else { panic!("{activities:#?}") };
        assert_eq!(told(it), (Success, "abandoned", true, false));
        assert_eq!((stats.created, stats.stored), (1, 1), "{stats}");
        drop(go);
        blocked.join().unwrap();
        assert_eq!((handle.stats().created, handle.stats().in_flight()), (1, 0));
    }
}

#[test]
fn what_the_thread_that_shuts_down_is_inside_of_is_told_in_full() {
    for config in policies() {
        let Fixture { dispatch, guard, sink } = Fixture::new(config);
        tracing::dispatcher::with_default(&dispatch, || {
            let span = http(Some(200));
            let inner = span.in_scope(|| info_span!("inner"));
            let (_outer, _inner) = (span.enter(), inner.enter());
            with_activity(|a| a.title("the last"));
            let report = guard.shutdown(support::DEADLINE);
            assert!(report.complete && report.stats.in_flight() == 0, "{}", report.stats);
        });
        let activities = sink.activities();
        let [it] = &*activities else { panic!("{activities:#?}") };
        assert_eq!(told(it), (Success, "abandoned", true, false));
        assert_eq!((it.status, &*it.method, &*it.title), (200, "GET", "the last"));
    }
}

#[test]
fn spans_that_a_thread_entered_and_leaked_leave_their_places_to_others() {
    for mut config in impatient() {
        config.capture.max_in_flight = 4;
        let fixture = Fixture::new(config);
        let (go, is_free) = channel::<()>();
        let (leaked, is_leaked) = channel();
        let dispatch = fixture.dispatch.clone();
        let thread = std::thread::spawn(move || {
            tracing::dispatcher::with_default(&dispatch, || {
                for _ in 0..4 {
                    let root = info_span!(parent: None, "request", "http.request.method" = "GET");
                    std::mem::forget(root.entered());
                }
            });
            leaked.send(()).unwrap();
            let _ = is_free.recv();
        });
        is_leaked.recv().unwrap();
        wait_for("a free place", || {
            let before = fixture.guard.stats().dropped.in_flight;
            fixture.run(|| http(Some(200)).in_scope(|| ()));
            fixture.guard.stats().dropped.in_flight == before
        });
        wait_for("all rows", || fixture.guard.stats().in_flight() == 0);
        let given_up = fixture.sink.activities();
        assert_eq!(given_up.iter().filter(|it| it.error_kind == "abandoned").count(), 4);
        drop(go);
        thread.join().unwrap();
        fixture.finish();
    }
}

#[test]
fn a_request_that_was_finished_while_another_thread_blocks_in_it_is_accounted_for() {
    for config in policies() {
        let fixture = Fixture::new(config);
        let (go, is_free) = channel::<()>();
        let (inside, is_inside) = channel();
        let dispatch = fixture.dispatch.clone();
        let blocked = std::thread::spawn(move || {
            tracing::dispatcher::with_default(&dispatch, || {
                http(Some(200)).in_scope(|| {
                    inside.send(CurrentActivity::get().unwrap()).unwrap();
                    let _ = is_free.recv();
                });
            });
        });
        is_inside.recv().unwrap().finish();
        let (activities, stats) = fixture.finish();
        assert_eq!((activities.len(), stats.created, stats.stored), (1, 1, 1), "{stats}");
        drop(go);
        blocked.join().unwrap();
    }
}

#[test]
fn a_request_that_begins_while_the_layer_ends_shows_in_the_report() {
    let begins = Arc::new(AtomicBool::new(false));
    let (reached, is_reached) = channel();
    let (go, is_free) = channel::<()>();
    let (is_free, asked) = (std::sync::Mutex::new(is_free), Arc::clone(&begins));
    // The clock is asked after a request was begun and before it is counted.
    let clock = move || {
        if asked.load(Ordering::SeqCst) {
            reached.send(()).ok();
            let _ = is_free.lock().unwrap().recv();
        }
        SystemTime::now()
    };
    let sink = MemorySink::new();
    let builder = tracing_activity::builder().config(support::config()).clock(clock);
    let (layer, guard) = builder.sink(sink.clone()).build().unwrap();
    let dispatch = tracing::Dispatch::new(Registry::default().with(layer));
    begins.store(true, Ordering::SeqCst);
    let late = std::thread::spawn(move || {
        tracing::dispatcher::with_default(&dispatch, || {
            let span = http(Some(200));
            drop(span);
        });
    });
    is_reached.recv_timeout(support::DEADLINE).unwrap();
    let handle = guard.handle();
    let report = guard.shutdown(support::DEADLINE);
    assert!(report.complete && report.stats.created == 0, "{}", report.stats);
    drop(go);
    late.join().unwrap();
    // It came too late for a row, and is counted.
    let stats = handle.stats();
    assert_eq!((stats.created, stats.dropped.shutdown, stats.in_flight()), (1, 1, 0), "{stats}");
}

#[test]
fn a_clock_and_an_observer_that_panic_cost_no_row() {
    let sink = MemorySink::new();
    let builder = tracing_activity::builder().config(support::config()).sink(sink.clone());
    let (layer, guard) = builder.clock(panic).on_shape(|_, _| panic()).build().unwrap();
    let before = SystemTime::now();
    let dispatch = tracing::Dispatch::new(Registry::default().with(layer));
    tracing::dispatcher::with_default(&dispatch, || {
        for _ in 0..40 {
            http(Some(200)).in_scope(|| ());
        }
    });
    let stats = guard.shutdown(support::DEADLINE).stats;
    assert_eq!((stats.created, stats.stored, stats.failed), (40, 40, 0), "{stats}");
    assert!(stats.panics >= 80, "{stats}");
    let begin = tracing_activity::model::Timestamp::from(before);
    assert!(sink.activities().iter().all(|it| it.when >= begin), "the system's time");
}
