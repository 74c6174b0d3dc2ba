//! One request on several threads that take turns: what each does stands in the order it was done,
//! and nothing after the end. The random programs of `tests/model` found what these tests keep.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::{Sender, channel};
use std::time::SystemTime;

use tracing::field::{Empty, Value};
use tracing::span::Attributes;
use tracing::{Dispatch, Span, debug_span, info, info_span};
use tracing_activity::config::SamplingPolicy;
use tracing_activity::model::Outcome;
use tracing_activity::sink::MemorySink;
use tracing_activity::{CurrentActivity, with_activity};
use tracing_subscriber::Registry;
use tracing_subscriber::layer::SubscriberExt as _;

use crate::support::{self, Fixture, capture_one, request, tree};

/// Another thread, under the subscriber of this one, that does what it is told.
struct Elsewhere {
    todo: Sender<Box<dyn FnOnce() + Send>>,
    thread: std::thread::JoinHandle<()>,
}

impl Elsewhere {
    fn new() -> Self {
        let dispatch = tracing::dispatcher::get_default(Clone::clone);
        let (todo, tasks) = channel::<Box<dyn FnOnce() + Send>>();
        let thread = std::thread::spawn(move || {
            tracing::dispatcher::with_default(&dispatch, || tasks.into_iter().for_each(|it| it()));
        });
        Self { todo, thread }
    }

    /// Has the other thread do this, and waits.
    fn run(&self, task: impl FnOnce() + Send + 'static) {
        let (done, is_done) = channel();
        let task = move || {
            task();
            done.send(()).unwrap();
        };
        self.todo.send(Box::new(task)).unwrap();
        is_done.recv().unwrap();
    }

    fn end(self) {
        drop(self.todo);
        self.thread.join().unwrap();
    }
}

/// Panics and prints nothing.
fn panic() {
    resume_unwind(Box::new(()));
}

fn panics(f: impl FnOnce()) {
    assert!(catch_unwind(AssertUnwindSafe(f)).is_err());
}

#[test]
fn a_span_of_the_middleware_that_begins_after_the_end_is_left_out_and_harms_nothing() {
    let activity = capture_one(|| {
        let elsewhere = Elsewhere::new();
        let root = request!("activity.outcome" = "server_fault");
        root.in_scope(|| {
            let current = CurrentActivity::get().unwrap();
            elsewhere.run(move || current.finish());
            // This thread learns of the end when it next leaves a span.
            info_span!(target: "tracing_activity::request", "late", status = 200).in_scope(|| ());
        });
        elsewhere.end();
    });
    assert_eq!(tree(&activity), "request\n");
    assert_eq!(activity.outcome, Outcome::ServerFault);
}

#[test]
fn what_threads_do_in_turns_stands_in_the_order_it_was_done() {
    let activity = capture_one(|| {
        let elsewhere = Elsewhere::new();
        let root = request!("http.response.status_code" = 200, n = 0);
        let _entered = root.enter();
        for turn in 0..3 {
            let there = root.clone();
            elsewhere.run(move || {
                info_span!(parent: &there, "there");
                info!(parent: &there, "there {turn}");
                there.record("n", 2 * turn);
                there.in_scope(|| with_activity(|a| a.title(format!("there {turn}"))));
            });
            info_span!("here");
            info!("here {turn}");
            root.record("n", 2 * turn + 1);
            with_activity(|a| a.title(format!("here {turn}")));
        }
        elsewhere.end();
    });
    let trace = activity.trace.as_ref().unwrap();
    let spans: Vec<_> = trace.spans.iter().map(|span| &*span.name).collect();
    assert_eq!(spans, ["request", "there", "here", "there", "here", "there", "here"]);
    let events: Vec<_> = trace.events.iter().map(|event| event.message.as_str()).collect();
    assert_eq!(events, ["there 0", "here 0", "there 1", "here 1", "there 2", "here 2"]);
    let n = trace.spans[0].attributes.iter().find(|(name, _)| name == "n").unwrap();
    assert_eq!((n.1.to_string().as_str(), activity.title.as_str()), ("5", "here 2"));
}

#[test]
fn a_span_begun_elsewhere_has_the_children_that_are_begun_here() {
    let activity = capture_one(|| {
        let elsewhere = Elsewhere::new();
        let root = request!("http.response.status_code" = 200);
        let _entered = root.enter();
        let (give, take) = channel();
        let there = root.clone();
        elsewhere.run(move || give.send(info_span!(parent: &there, "there")).unwrap());
        take.recv().unwrap().in_scope(|| info_span!("here").in_scope(|| info!("event")));
        elsewhere.end();
    });
    assert_eq!(tree(&activity), "request\n  there\n    here!event\n");
}

#[test]
fn a_panic_is_told_of_a_span_on_a_thread_that_does_not_hold_the_request() {
    let activity = capture_one(|| {
        let elsewhere = Elsewhere::new();
        let root = request!("http.response.status_code" = 200);
        let _entered = root.enter();
        let there = root.clone();
        elsewhere.run(move || {
            panics(|| there.in_scope(|| info_span!("child").in_scope(panic)));
        });
        elsewhere.end();
    });
    let spans = &activity.trace.as_ref().unwrap().spans;
    assert_eq!(spans.iter().map(|span| &*span.error).collect::<Vec<_>>(), ["panic", "panic"]);
}

#[test]
fn after_the_finish_nothing_reaches_the_activity_whoever_is_inside() {
    let fixture = Fixture::new(support::config());
    fixture.run(|| {
        let elsewhere = Elsewhere::new();
        let root = request!("http.response.status_code" = 200, n = 1);
        let _entered = root.enter();
        let child = info_span!("child", n = 1).entered();
        let activity = CurrentActivity::get().unwrap();
        elsewhere.run(move || activity.finish());
        // This thread is inside, and was not told.
        root.record("n", 2);
        child.record("n", 2);
        info!("late");
        with_activity(|a| a.title("late"));
        info_span!("late").in_scope(|| info!("late"));
        panics(|| {
            let _left_by_a_panic = child;
            panic();
        });
        elsewhere.end();
    });
    let (activities, stats) = fixture.finish();
    let [activity] = activities.as_slice() else { panic!("{activities:#?}") };
    assert_eq!((tree(activity).as_str(), activity.title.as_str()), ("request\n  child\n", ""));
    let spans = &activity.trace.as_ref().unwrap().spans;
    for span in spans {
        let n = span.attributes.iter().find(|(name, _)| name == "n").unwrap();
        assert_eq!((n.1.to_string().as_str(), &*span.error), ("1", ""));
    }
    assert_eq!(stats.late_spans, 1);
}

#[test]
fn a_panic_after_the_finish_is_not_the_activitys() {
    let activity = capture_one(|| {
        let elsewhere = Elsewhere::new();
        let root = request!("http.response.status_code" = 200);
        panics(|| {
            let _entered = root.enter();
            let activity = CurrentActivity::get().unwrap();
            elsewhere.run(move || activity.finish());
            panic();
        });
        elsewhere.end();
    });
    assert_eq!(activity.trace.as_ref().unwrap().spans[0].error, "");
    assert_eq!(activity.outcome, Outcome::Success);
}

#[test]
fn a_finish_from_within_is_delivered_while_the_thread_is_inside() {
    let fixture = Fixture::new(support::config());
    fixture.run(|| {
        let root = request!("http.response.status_code" = 200);
        let _entered = root.enter();
        CurrentActivity::get().unwrap().finish();
        assert!(fixture.guard.flush(support::DEADLINE));
        assert_eq!(fixture.sink.activities().len(), 1);
        with_activity(|a| a.title("late"));
    });
    assert_eq!(fixture.finish().0[0].title, "");
}

#[test]
fn a_span_outside_of_any_activity_hides_the_one_around_it_from_with_activity() {
    let activity = capture_one(|| {
        request!("http.response.status_code" = 200).in_scope(|| {
            info_span!(parent: None, "apart").in_scope(|| {
                assert!(CurrentActivity::get().is_none());
                with_activity(|a| a.title("apart"));
                info!("apart");
            });
            with_activity(|a| a.data("inside", true));
        });
    });
    assert_eq!(tree(&activity), "request\n");
    assert_eq!((activity.title.as_str(), activity.data.as_str()), ("", r#"{"inside":true}"#));
}

#[test]
fn of_two_requests_entered_with_activity_reaches_the_one_that_is_current() {
    let fixture = Fixture::new(support::config());
    fixture.run(|| {
        let first = request!("http.response.status_code" = 200);
        let second = info_span!(parent: None, "second", http.response.status_code = 200, method = "GET", uri = "/");
        let (_a, _b, _again) = (first.enter(), second.enter(), first.enter());
        // The registry does not count the second entry of the first.
        with_activity(|a| a.title("second"));
    });
    let (mut activities, _) = fixture.finish();
    activities.sort_by_key(|activity| activity.title.clone());
    let titles: Vec<_> = activities
        .iter()
        .map(|it| (&*it.trace.as_ref().unwrap().spans[0].name, it.title.as_str()))
        .collect();
    assert_eq!(titles, [("request", ""), ("second", "second")]);
}

#[test]
fn a_span_left_out_that_reuses_the_id_of_a_closed_one_is_not_taken_for_it() {
    let activity = capture_one(|| {
        request!("http.response.status_code" = 200).in_scope(|| {
            let closed = info_span!("closed").id();
            // The registry numbers the uses of a slot by 13 bits.
            let reused = (0..100_000).find_map(|_| {
                let span = debug_span!("left out");
                (span.id() == closed).then_some(span)
            });
            let reused = reused.expect("ids are reused");
            reused.in_scope(|| info_span!("child").in_scope(|| info!("event")));
            info!(parent: &reused, "explicit");
        });
    });
    assert_eq!(tree(&activity), "request!explicit\n  closed\n  child!event\n");
}

#[test]
fn requests_that_take_turns_on_a_thread_keep_what_is_each_ones() {
    for sample in [SamplingPolicy::ALL, SamplingPolicy::OFF] {
        let mut config = support::config();
        config.sample = sample;
        let (mut activities, _) = support::capture_with(config, || {
            let begin = || request!("http.response.status_code" = Empty, "user.id" = Empty);
            let says = |span: &Span, status: u16| {
                span.in_scope(|| ());
                span.record("http.response.status_code", status);
                span.record("user.id", status.to_string());
            };
            let (first, second) = (begin(), begin());
            says(&first, 501);
            says(&second, 502);
            drop(first);
            let third = begin();
            says(&second, 503);
            drop(second);
            says(&third, 504);
        });
        activities.sort_by_key(|activity| activity.status);
        let told: Vec<_> = activities.iter().map(|it| (it.status, &*it.user_id)).collect();
        assert_eq!(told, [(501, "501"), (503, "503"), (504, "504")]);
    }
}

#[test]
fn a_span_that_reuses_the_id_of_a_request_closed_elsewhere_is_not_taken_for_it() {
    for sample in [SamplingPolicy::ALL, SamplingPolicy::OFF] {
        let mut config = support::config();
        config.sample = sample;
        let (activities, _) = support::capture_with(config, || {
            let elsewhere = Elsewhere::new();
            let request = request!("http.response.status_code" = 200);
            let closed = request.id();
            elsewhere.run(move || drop(request));
            // A slot that another thread freed comes last: after all of the first page.
            let spans = || {
                let span = || info_span!("no request", "http.response.status_code" = Empty);
                std::iter::repeat_with(span).take(33).collect::<Vec<_>>()
            };
            let mut pages = std::iter::repeat_with(spans).take(10_000);
            let reused = pages.find_map(|page| page.into_iter().find(|it| it.id() == closed));
            let reused = reused.expect("ids are reused");
            reused.in_scope(|| with_activity(|a| a.title("of no request")));
            reused.record("http.response.status_code", 500);
            drop(reused);
            elsewhere.end();
        });
        let told: Vec<_> = activities.iter().map(|it| (it.status, &*it.title)).collect();
        assert_eq!(told, [(200, "")]);
    }
}

#[test]
fn a_registry_that_goes_away_ends_its_requests_as_abandoned() {
    let Fixture { dispatch, guard, sink } = Fixture::new(support::config());
    let enabled = tracing::dispatcher::with_default(&dispatch, || request!().metadata());
    let metadata = enabled.expect("the span is enabled");
    let fields = metadata.fields();
    let method = fields.field("http.request.method").expect("the macro has it");
    let values = [(&method, Some(&"GET" as &dyn Value))];
    // By its id alone, which keeps no subscriber as a `Span` does.
    dispatch.new_span(&Attributes::new_root(metadata, &fields.value_set(&values)));
    drop(dispatch);
    // At once, and not when the layer ends.
    assert!(guard.flush(support::DEADLINE), "{}", guard.stats());
    assert_eq!(guard.stats().stored, 2);
    let kinds: Vec<_> = sink.activities().into_iter().map(|it| it.error_kind).collect();
    assert!(kinds.contains(&"abandoned".to_owned()), "{kinds:?}");
}

/// Of the application, in a closure that it gave to the layer.
struct Loud(Sender<()>);

impl Drop for Loud {
    fn drop(&mut self) {
        self.0.send(()).ok();
        panic();
    }
}

#[test]
fn a_thread_that_ends_after_its_layer_survives_what_the_application_gave_that() {
    let (dropped, is_dropped) = channel();
    let loud = Loud(dropped);
    let clock = move || {
        let _given = &loud;
        SystemTime::now()
    };
    let builder = tracing_activity::builder().config(support::config()).clock(clock);
    let (layer, guard) = builder.sink(MemorySink::new()).build().unwrap();
    let dispatch = Dispatch::new(Registry::default().with(layer));
    let elsewhere = tracing::dispatcher::with_default(&dispatch, Elsewhere::new);
    drop(dispatch);
    elsewhere.run(|| drop(request!("http.response.status_code" = 200)));
    guard.shutdown(support::DEADLINE);
    // The thread leaves its subscriber and ends, and the last of the layer with it.
    elsewhere.end();
    is_dropped.recv_timeout(support::DEADLINE).expect("nothing of the layer is left");
}
