//! Input without measure: capped, flagged, counted.

use std::fmt;

use tracing::{error, info, info_span};
use tracing_activity::with_activity;

use crate::support::{self, capture_one, capture_with, request, tree};

#[test]
fn a_huge_field_is_cut_at_a_character() {
    let activity = capture_one(|| {
        let text = "é".repeat(1 << 20);
        request!(text, "http.response.status_code" = 200).in_scope(|| ());
    });
    let (_, value) = &activity.trace.as_ref().unwrap().spans[0].attributes[1];
    assert_eq!(value.to_string(), "é".repeat(4096));
    assert!(activity.truncated);
}

#[test]
fn a_debug_that_never_ends_is_stopped() {
    struct Endless;
    impl fmt::Debug for Endless {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            loop {
                f.write_str("more ")?;
            }
        }
    }
    let activity = capture_one(|| {
        request!(endless = ?Endless, "http.response.status_code" = 200).in_scope(|| ());
    });
    assert!(activity.truncated);
}

#[test]
fn a_debug_that_panics_reaches_neither_host_nor_neighbours() {
    struct Broken;
    impl fmt::Debug for Broken {
        fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
            panic!("a defect of the application")
        }
    }
    let activity = capture_one(|| {
        let root = request!(broken = ?Broken, "http.response.status_code" = 200, fine = 1);
        root.in_scope(|| info!(broken = ?Broken, "event"));
    });
    let attributes = &activity.trace.as_ref().unwrap().spans[0].attributes;
    let names: Vec<_> = attributes.iter().map(|(name, _)| name.as_ref()).collect();
    assert_eq!(names, ["http.request.method", "broken", "http.response.status_code", "fine"]);
    assert!(activity.incomplete);
    assert_eq!(tree(&activity), "request!event\n");
}

#[test]
fn a_closure_that_panics_leaves_the_activity_as_it_was() {
    let activity = capture_one(|| {
        request!("http.response.status_code" = 200).in_scope(|| {
            with_activity(|a| a.title("kept"));
            let caught = std::panic::catch_unwind(|| {
                with_activity(|a| {
                    assert!(a == tracing_activity::ActivityPatch::default(), "filled detached");
                    panic!("a defect of the application")
                });
            });
            assert!(caught.is_err(), "the panic goes to the caller");
            with_activity(|a| a.data("after", 1));
        });
    });
    assert_eq!((activity.title.as_str(), activity.data.as_str()), ("kept", r#"{"after":1}"#));
}

#[test]
fn a_hundred_thousand_spans_in_one_request_are_capped_and_counted() {
    let (activities, stats) = capture_with(support::config(), || {
        request!("http.response.status_code" = 500).in_scope(|| {
            for _ in 0..100_000 {
                info_span!("child").in_scope(|| info!("event"));
            }
            error!("the last word");
        });
    });
    let activity = &activities[0];
    let trace = activity.trace.as_ref().unwrap();
    assert_eq!(trace.spans.len(), 1000);
    assert_eq!(activity.dropped_spans, 100_000 - 999);
    assert!(activity.truncated);
    assert_eq!(activity.error, "the last word", "errors are kept beyond the cap");
    assert_eq!(stats.truncated, 1);
}

#[test]
fn a_tree_deeper_than_the_cap_ends_there() {
    let activity = capture_one(|| {
        let mut entered = vec![request!("http.response.status_code" = 200).entered()];
        for _ in 0..500 {
            entered.push(info_span!("deeper").entered());
        }
        while entered.pop().is_some() {}
    });
    let trace = activity.trace.as_ref().unwrap();
    assert_eq!(trace.spans.len(), 65);
    assert_eq!(activity.dropped_spans, 500 - 64);
    assert!(trace.spans.iter().enumerate().skip(1).all(|(i, span)| span.parent as usize == i - 1));
}

#[test]
fn no_configuration_takes_the_cap_of_the_depth_beyond_its_greatest() {
    let mut config = support::config();
    config.capture.max_depth = 251;
    let refused = tracing_activity::builder().config(config.clone()).build().unwrap_err();
    assert!(refused.is_config(), "{refused}");
    assert_eq!(
        refused.to_string(),
        "capture.max_depth=\"251\": expected a number from 1 to 250, as of ACTIVITY_MAX_DEPTH"
    );
    (config.capture.max_depth, config.capture.max_spans) = (250, 5000);
    let (activities, _) = capture_with(config, || {
        let mut entered = vec![request!("http.response.status_code" = 200).entered()];
        for _ in 0..1500 {
            entered.push(info_span!("deeper").entered());
        }
        while entered.pop().is_some() {}
    });
    assert_eq!(activities[0].trace.as_ref().unwrap().spans.len(), 251);
}

#[test]
fn fields_and_data_beyond_the_row_are_left_out_and_the_json_stays_whole() {
    let activity = capture_one(|| {
        request!("http.response.status_code" = 200).in_scope(|| {
            for n in 0..200 {
                with_activity(|a| a.data(format!("key {n}"), "x".repeat(8 << 10)));
            }
            with_activity(|a| a.data("list", vec!["y".repeat(1 << 10); 100]));
        });
    });
    assert!(activity.truncated);
    assert!(activity.data.len() <= 256 << 10);
    let data: serde_json::Value = serde_json::from_str(&activity.data).unwrap();
    assert!(data.as_object().unwrap().len() > 25);
}

#[test]
fn too_many_requests_at_once_are_counted_and_leave_the_others_alone() {
    let mut config = support::config();
    config.capture.max_in_flight = 3;
    let (activities, stats) = capture_with(config, || {
        let open: Vec<_> = (0..10).map(|_| request!("http.response.status_code" = 200)).collect();
        drop(open);
        request!("http.response.status_code" = 200).in_scope(|| ());
    });
    assert_eq!((activities.len(), stats.created, stats.dropped.in_flight), (4, 11, 7));
}

#[test]
fn a_request_that_never_ends_is_given_up_at_its_age() {
    let mut config = support::config();
    config.capture.max_lifetime = std::time::Duration::from_millis(1);
    let fixture = support::Fixture::new(config);
    let leaked = fixture.run(|| {
        let span = request!("http.response.status_code" = tracing::field::Empty);
        span.in_scope(|| ());
        span
    });
    support::wait_for("the sweep", || fixture.sink.activities().len() == 1);
    drop(leaked);
    let (activities, stats) = fixture.finish();
    assert_eq!((activities.len(), stats.created), (1, 1));
    assert!(activities[0].incomplete);
    assert_eq!(activities[0].error_kind, "abandoned");
}

#[test]
fn what_the_root_says_last_is_kept_although_its_children_filled_the_row() {
    let activity = capture_one(|| {
        let root = request!(
            "http.route" = tracing::field::Empty,
            "user.id" = tracing::field::Empty,
            "http.response.status_code" = tracing::field::Empty
        );
        root.in_scope(|| {
            for n in 0..900 {
                info_span!("child", text = "x".repeat(1000), a = n, b = n, c = n, d = n)
                    .in_scope(|| ());
            }
        });
        root.record("http.route", "/orders/{id}").record("user.id", "u1");
        root.record(
            "http.response.status_code",
            tracing::field::display("500 Internal Server Error"),
        );
    });
    assert_eq!((activity.route.as_str(), activity.user_id.as_str()), ("/orders/{id}", "u1"));
    assert_eq!((activity.status, activity.outcome.as_str()), (500, "server_fault"));
    assert!(activity.truncated);
}

#[test]
fn without_any_field_recorded_the_status_is_known() {
    let mut config = support::config();
    config.capture.max_fields = 0;
    config.capture.max_row_bytes = 0;
    let (activities, _) = capture_with(config, || {
        let root = request!("http.response.status_code" = tracing::field::Empty);
        root.record("http.response.status_code", tracing::field::display("404 Not Found"));
    });
    assert_eq!(activities[0].status, 404);
}

#[test]
fn what_other_threads_send_while_one_holds_the_request_is_bounded_and_flagged() {
    let activity = capture_one(|| {
        let root = request!("http.response.status_code" = 200);
        let dispatch = tracing::dispatcher::get_default(Clone::clone);
        root.in_scope(|| {
            std::thread::scope(|scope| {
                let (root, dispatch) = (root.clone(), &dispatch);
                scope.spawn(move || {
                    tracing::dispatcher::with_default(dispatch, || {
                        root.in_scope(|| {
                            for _ in 0..20_000 {
                                info!(text = "x".repeat(4000), "event");
                            }
                        });
                    });
                });
            });
        });
    });
    assert!(activity.truncated);
    assert!(activity.trace.as_ref().unwrap().events.len() < 1_000);
}
