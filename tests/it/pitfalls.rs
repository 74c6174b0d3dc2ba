//! The pitfalls that others met, one test each, by number. Those that need the global default
//! subscriber stand in `tests/global.rs`.

use std::cell::RefCell;
use std::sync::mpsc;
use std::time::Duration;

use tracing::{Instrument as _, Span, info, info_span};
use tracing_activity::model::Outcome;
use tracing_activity::{CurrentActivity, with_activity};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::{Layer as _, Registry};

use crate::support::{self, Fixture, capture, capture_one, capture_with, request, spin, tree};

#[test]
fn pitfall_01_a_detached_child_that_pins_the_root_does_not_prolong_the_request() {
    let fixture = Fixture::new(support::config());
    let pin = fixture.run(|| {
        let root = request!("http.response.status_code" = 200);
        root.in_scope(|| info_span!("detached"))
    });
    spin(Duration::from_millis(300));
    drop(pin);
    let (activities, _) = fixture.finish();
    assert!(activities[0].duration < 300_000, "{} us", activities[0].duration);
}

#[test]
fn pitfall_01_finishing_explicitly_ends_the_activity_while_children_live() {
    let fixture = Fixture::new(support::config());
    let pin = fixture.run(|| {
        let root = request!("http.response.status_code" = 200);
        let _entered = root.enter();
        let pin = info_span!("detached");
        CurrentActivity::get().unwrap().finish();
        pin
    });
    assert!(fixture.guard.flush(support::DEADLINE));
    assert_eq!(fixture.sink.activities().len(), 1, "it was delivered while a child was open");
    fixture.run(|| pin.in_scope(|| info_span!("late").in_scope(|| ())));
    drop(pin);
    let (activities, stats) = fixture.finish();
    assert_eq!(tree(&activities[0]), "request\n  detached\n");
    assert_eq!((activities.len(), stats.late_spans), (1, 1));
}

#[test]
fn pitfall_02_asking_whether_something_is_enabled_loses_no_span() {
    let sink = tracing_activity::sink::MemorySink::new();
    let builder = tracing_activity::builder().config(support::config()).sink(sink.clone());
    let (layer, guard) = builder.build().unwrap();
    let quiet = tracing_subscriber::fmt::layer()
        .with_writer(std::io::sink)
        .with_filter(tracing_subscriber::filter::LevelFilter::WARN);
    tracing::subscriber::with_default(Registry::default().with(layer).with(quiet), || {
        for _ in 0..100 {
            let root = request!("http.response.status_code" = 200);
            let _entered = root.enter();
            assert!(tracing::enabled!(tracing::Level::INFO));
            let child = info_span!("child");
            let _ = tracing::enabled!(tracing::Level::TRACE);
            let _entered = child.enter();
            info!("event");
        }
    });
    guard.shutdown(support::DEADLINE);
    let activities = sink.activities();
    assert_eq!(activities.len(), 100);
    assert!(activities.iter().all(|it| tree(it) == "request\n  child!event\n"));
}

#[test]
fn pitfall_03_a_parent_that_another_layer_hides_is_still_the_parent() {
    let sink = tracing_activity::sink::MemorySink::new();
    let builder = tracing_activity::builder().config(support::config()).sink(sink.clone());
    let (layer, guard) = builder.build().unwrap();
    let hiding = tracing_subscriber::fmt::layer()
        .with_writer(std::io::sink)
        .with_filter(tracing_subscriber::filter::filter_fn(|meta| meta.name() != "hidden"));
    tracing::subscriber::with_default(Registry::default().with(layer).with(hiding), || {
        request!("http.response.status_code" = 200).in_scope(|| {
            info_span!("hidden").in_scope(|| info_span!("child").in_scope(|| info!("event")));
        });
    });
    guard.shutdown(support::DEADLINE);
    assert_eq!(tree(&sink.activities()[0]), "request\n  hidden\n    child!event\n");
}

#[test]
fn pitfall_03_a_span_that_our_filter_hides_is_transparent() {
    let activity = capture_one(|| {
        request!("http.response.status_code" = 200).in_scope(|| {
            tracing::debug_span!("hidden").in_scope(|| {
                info_span!("child").in_scope(|| ());
                std::thread::scope(|scope| {
                    let (span, dispatch) = (Span::current(), dispatch());
                    scope.spawn(move || {
                        tracing::dispatcher::with_default(&dispatch, || {
                            span.in_scope(|| info_span!("elsewhere").in_scope(|| ()));
                        });
                    });
                });
            });
        });
    });
    assert_eq!(tree(&activity), "request\n  child\n  elsewhere\n");
}

#[test]
fn pitfall_07_reused_registry_ids_never_mix_requests_or_spans() {
    let activities = capture(|| {
        for request in 0..200_u64 {
            request!(request, "http.response.status_code" = 200).in_scope(|| {
                for child in 0..60_u64 {
                    info_span!("child", child).in_scope(|| ());
                }
            });
        }
    });
    assert_eq!(activities.len(), 200);
    for activity in &activities {
        let spans = &activity.trace.as_ref().unwrap().spans;
        assert_eq!(spans.len(), 61);
        for (index, span) in spans.iter().enumerate().skip(1) {
            assert_eq!(span.parent, 0);
            assert_eq!(span.attributes[0].1.to_string(), (index - 1).to_string());
        }
    }
}

#[test]
fn pitfall_08_nothing_of_a_request_stays_behind() {
    let (activities, stats) = capture_with(support::config(), || {
        for _ in 0..10_000 {
            request!("http.response.status_code" = 200)
                .in_scope(|| info_span!("child").in_scope(|| ()));
        }
    });
    assert_eq!((activities.len(), stats.in_flight()), (10_000, 0));
}

#[test]
fn pitfall_09_one_span_entered_on_two_threads_records_the_children_of_both() {
    let activity = capture_one(|| {
        let root = request!("http.response.status_code" = 200);
        let both_inside = std::sync::Barrier::new(2);
        std::thread::scope(|scope| {
            for name in ["one", "two"] {
                let (root, both_inside, dispatch) = (root.clone(), &both_inside, dispatch());
                scope.spawn(move || {
                    tracing::dispatcher::with_default(&dispatch, || {
                        root.in_scope(|| {
                            both_inside.wait();
                            let child = info_span!("child", name);
                            child.in_scope(|| info!("hello"));
                            with_activity(|a| a.data(name, true));
                            both_inside.wait();
                        });
                    });
                });
            }
        });
    });
    assert_eq!(tree(&activity), "request\n  child!hello\n  child!hello\n");
    assert!(activity.data.contains(r#""one":true"#) && activity.data.contains(r#""two":true"#));
}

#[test]
fn pitfall_09_exits_in_another_order_than_entries_nest_by_creation() {
    let activity = capture_one(|| {
        let root = request!("http.response.status_code" = 200);
        let root_entered = root.enter();
        let a = info_span!("a");
        let a_entered = a.enter();
        let b = info_span!("b");
        let b_entered = b.enter();
        drop(a_entered);
        info_span!("in b").in_scope(|| ());
        drop(root_entered);
        info_span!("still in b").in_scope(|| ());
        drop(b_entered);
    });
    assert_eq!(tree(&activity), "request\n  a\n    b\n      in b\n      still in b\n");
}

#[test]
fn pitfall_09_entering_a_span_twice_changes_nothing() {
    let activity = capture_one(|| {
        let root = request!("http.response.status_code" = 200);
        root.in_scope(|| {
            let a = info_span!("a");
            a.in_scope(|| {
                info_span!("b").in_scope(|| {
                    // The registry ignores the second entry: b stays current.
                    a.in_scope(|| info_span!("c").in_scope(|| ()));
                });
            });
            info_span!("d").in_scope(|| ());
        });
    });
    assert_eq!(tree(&activity), "request\n  a\n    b\n      c\n  d\n");
}

#[test]
fn pitfall_09_a_guard_held_across_an_await_bounds_the_walk_and_loses_no_request() {
    let (activities, stats) = capture_with(support::config(), || {
        let mut guards = Vec::new();
        for _ in 0..300 {
            // Each request begins inside of the one before, whose guard was never dropped.
            guards.push(request!("http.response.status_code" = 200).entered());
        }
        while guards.pop().is_some() {}
    });
    assert_eq!(stats.created, activities.len() as u64);
    assert!(activities.iter().map(|it| 1 + it.dropped_spans as usize).sum::<usize>() >= 1);
    let nested: usize = activities.iter().map(|it| it.trace.as_ref().unwrap().spans.len()).sum();
    let left_out: usize = activities.iter().map(|it| it.dropped_spans as usize).sum();
    assert_eq!(nested + left_out, 300);
}

#[test]
fn pitfall_10_of_a_field_recorded_often_the_last_value_stands() {
    let activity = capture_one(|| {
        let root = request!("http.response.status_code" = tracing::field::Empty, n = 1);
        root.record("n", 2);
        root.in_scope(|| {
            let child = info_span!("child", x = "first", y = tracing::field::Empty);
            child.record("x", "second").record("undeclared", "nowhere").record("x", "third");
            child.in_scope(|| ());
            root.record("n", 3);
        });
        root.record("http.response.status_code", 500).record("http.response.status_code", 404);
    });
    assert_eq!(activity.status, 404);
    let spans = &activity.trace.as_ref().unwrap().spans;
    let n: Vec<_> = spans[0].attributes.iter().filter(|(name, _)| name == "n").collect();
    assert_eq!(format!("{n:?}"), r#"[("n", I64(3))]"#);
    assert_eq!(format!("{:?}", spans[1].attributes), r#"[("x", Str("third"))]"#);
}

#[test]
fn pitfall_11_a_parentless_span_is_a_request_only_by_its_fields() {
    let activities = capture(|| {
        info_span!("background job").in_scope(|| info_span!("step").in_scope(|| ()));
        info_span!("call", "http.request.method" = "GET", "otel.kind" = "client").in_scope(|| ());
        info_span!("consume", "otel.kind" = "consumer").in_scope(|| ());
        info_span!("internal", "otel.kind" = "internal").in_scope(|| ());
        info_span!("marked", "activity.ekind" = "import").in_scope(|| ());
    });
    let ekinds: Vec<_> = activities.iter().map(|it| it.ekind.as_str()).collect();
    assert_eq!(ekinds, ["consume", "import"]);
}

#[test]
fn pitfall_11_a_request_inside_of_a_connection_span_is_a_root() {
    let activity = capture_one(|| {
        info_span!("connection", peer = "::1").in_scope(|| {
            request!("http.response.status_code" = 200).in_scope(|| {
                // A marked span inside of an activity is a child.
                request!("http.response.status_code" = 500).in_scope(|| ());
            });
        });
    });
    assert_eq!(tree(&activity), "request\n  request\n");
    assert_eq!((activity.status, activity.outcome), (200, Outcome::Success));
}

#[test]
fn pitfall_11_every_parentless_span_is_a_root_when_asked_for() {
    let mut config = support::config();
    config.capture.roots = tracing_activity::config::Roots::All;
    let (activities, _) = capture_with(config, || {
        info_span!("job").in_scope(|| info_span!("step").in_scope(|| ()));
        tracing::debug_span!("too fine").in_scope(|| ());
        info_span!(target: "hyper::client", "exporting").in_scope(|| ());
    });
    let trees: Vec<_> = activities.iter().map(tree).collect();
    assert_eq!(trees, ["job\n  step\n"]);
}

#[test]
fn pitfall_14_a_span_closed_while_its_thread_ends_harms_nobody() {
    struct LeftBehind(RefCell<Vec<Span>>);
    impl Drop for LeftBehind {
        fn drop(&mut self) {
            // Entering a span here is beyond what the registry itself survives; closing is not.
            self.0.borrow_mut().clear();
            with_activity(|a| a.title("late"));
        }
    }
    thread_local! {
        static LEFT: LeftBehind = const { LeftBehind(RefCell::new(Vec::new())) };
    }
    let (activities, _) = capture_with(support::config(), || {
        for _ in 0..50 {
            let dispatch = dispatch();
            std::thread::spawn(move || {
                // Touched first, so that it is destroyed after the layer's own state.
                LEFT.with(|left| left.0.borrow_mut().clear());
                tracing::dispatcher::with_default(&dispatch, || {
                    let root = request!("http.response.status_code" = 200);
                    root.in_scope(|| info_span!("child").in_scope(|| ()));
                    LEFT.with(|left| left.0.borrow_mut().push(root));
                });
            })
            .join()
            .unwrap();
        }
    });
    assert_eq!(activities.len(), 50);
}

#[test]
fn pitfall_14_a_guard_leaked_by_a_dead_thread_still_gives_a_row() {
    let (activities, _) = capture_with(support::config(), || {
        let dispatch = dispatch();
        let thread = std::thread::spawn(move || {
            tracing::dispatcher::with_default(&dispatch, || {
                std::mem::forget(request!("http.response.status_code" = 200).entered());
            });
        });
        thread.join().unwrap();
    });
    assert_eq!(activities.len(), 1);
    assert_eq!(activities[0].status, 200);
}

#[test]
fn pitfall_15_following_from_a_closed_span_is_no_trouble() {
    let activity = capture_one(|| {
        let gone = info_span!("gone").id();
        request!("http.response.status_code" = 200).in_scope(|| {
            let child = info_span!("child");
            child.follows_from(gone);
            child.in_scope(|| ());
        });
    });
    assert_eq!(tree(&activity), "request\n  child\n");
}

#[test]
fn spawned_tasks_that_carry_the_span_belong_to_the_request() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).build().unwrap();
    let activity = capture_one(|| {
        let root = request!("http.response.status_code" = 200);
        let dispatch = dispatch();
        runtime.block_on(
            async {
                let (tx, rx) = mpsc::channel();
                let mut tasks = Vec::new();
                for n in 0..8 {
                    let (tx, dispatch) = (tx.clone(), dispatch.clone());
                    let task = async move {
                        with_activity(|a| a.data(format!("task {n}"), n));
                        async { info!("work") }.instrument(info_span!("grandchild")).await;
                        tx.send(n).unwrap();
                    };
                    let task = task.instrument(info_span!("child"));
                    tasks.push(tokio::spawn(tracing::instrument::WithSubscriber::with_subscriber(
                        task, dispatch,
                    )));
                }
                for task in tasks {
                    task.await.unwrap();
                }
                drop(tx);
                assert_eq!(rx.iter().count(), 8);
            }
            .instrument(root),
        );
    });
    assert_eq!(tree(&activity), format!("request\n{}", "  child\n    grandchild!work\n".repeat(8)));
    assert_eq!(activity.data.matches("task").count(), 8);
}

fn dispatch() -> tracing::Dispatch {
    tracing::dispatcher::get_default(Clone::clone)
}
