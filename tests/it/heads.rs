//! When the head of the answer was there, by what frameworks tell of it.

use std::time::Duration;

use tracing::field::Empty;
use tracing::{Level, event, info_span};
use tracing_activity::model::{Activity, KeepReason};

use crate::support::{capture, capture_one, capture_with, config, request, spin};

const WORK: Duration = Duration::from_millis(3);

/// A head after the first of three pieces of work, and an end after the third.
#[track_caller]
fn assert_between(activity: &Activity) {
    let work = WORK.as_micros() as u64;
    let start = activity.response_start;
    assert!(start >= work && activity.duration - start >= 2 * work, "{activity:#?}");
}

#[test]
fn the_status_is_told_with_the_head() {
    let activity = capture_one(|| {
        let root = request!("http.response.status_code" = Empty, "user.id" = Empty);
        root.in_scope(|| spin(WORK));
        root.record("http.response.status_code", 200);
        root.in_scope(|| spin(WORK));
        root.record("user.id", "u1");
        root.in_scope(|| spin(WORK));
    });
    assert_between(&activity);
}

#[test]
fn the_event_of_a_framework_tells_the_head_and_the_one_about_the_end_does_not() {
    let activities = capture(|| {
        for target in ["response", "end", "failure"] {
            let root = info_span!("request", method = "GET", uri = "/", version = "HTTP/1.1");
            root.in_scope(|| {
                spin(WORK);
                if target == "response" {
                    event!(target: "tower_http::trace::on_response", Level::DEBUG, latency = 1, status = 200);
                }
                spin(WORK);
                spin(WORK);
                match target {
                    "end" => event!(target: "tower_http::trace::on_eos", Level::DEBUG, stream_duration = 1, status = 0),
                    "failure" => event!(target: "tower_http::trace::on_failure", Level::ERROR, classification = "500", latency = 1),
                    _ => {}
                }
            });
        }
    });
    assert_between(&activities[0]);
    assert_eq!([activities[1].response_start, activities[2].response_start], [0, 0]);
}

#[test]
fn a_span_that_ends_with_the_head_lasts_as_long_as_it_takes() {
    macro_rules! ends_with_head {
        ($target:literal) => {{
            let root = info_span!(
                target: $target,
                "HTTP request",
                "http.request.method" = "GET",
                "http.response.status_code" = Empty,
                "otel.kind" = "server",
            );
            root.in_scope(|| spin(WORK));
            root.record("http.response.status_code", 200);
            spin(WORK);
            drop(root);
            // Nobody answered.
            info_span!(
                target: $target,
                "HTTP request",
                "http.request.method" = "GET",
                "http.response.status_code" = Empty,
                "otel.kind" = "server",
            )
            .in_scope(|| spin(WORK));
        }};
    }
    let activities = capture(|| {
        ends_with_head!("otel::tracing");
        ends_with_head!("warp::filters::trace");
        ends_with_head!("poem::middleware::tracing_mw");
        ends_with_head!("salvo_extra::logging");
    });
    for pair in activities.chunks(2) {
        assert_eq!(pair[0].response_start, pair[0].duration, "{:#?}", pair[0]);
        assert!(pair[0].response_start > 0);
        assert_eq!((pair[1].status, pair[1].response_start), (0, 0), "{:#?}", pair[1]);
    }
}

#[test]
fn what_is_no_answer_has_no_beginning() {
    let activities = capture(|| {
        info_span!("work", "otel.kind" = "consumer", "messaging.system" = "nats").in_scope(|| ());
        // A status that stands there from the first tells no time.
        let root = request!("http.response.status_code" = 200, "user.id" = Empty);
        root.in_scope(|| spin(WORK));
        root.record("user.id", "u1");
        // That of a call that the request makes is another's.
        request!("http.response.status_code" = Empty).in_scope(|| {
            let call =
                info_span!("call", "otel.kind" = "client", "http.response.status_code" = Empty);
            call.record("http.response.status_code", 200);
        });
    });
    for activity in &activities {
        assert_eq!(activity.response_start, 0, "{activity:#?}");
    }
}

#[test]
fn a_beginning_is_not_that_of_the_request_before() {
    let activities = capture(|| {
        for told in [true, false, true, false] {
            let root = request!("http.response.status_code" = Empty);
            root.in_scope(|| spin(Duration::from_micros(10)));
            if told {
                root.record("http.response.status_code", 200);
            }
        }
    });
    let told: Vec<_> = activities.iter().map(|it| it.response_start > 0).collect();
    assert_eq!(told, [true, false, true, false]);
}

#[test]
fn a_policy_about_the_beginning_reads_what_frameworks_tell() {
    let mut config = config();
    config.sample = "start>2ms".parse().unwrap();
    let (activities, _) = capture_with(config, || {
        for early in [true, false] {
            let root = request!("http.response.status_code" = Empty);
            if early {
                root.record("http.response.status_code", 200);
            }
            root.in_scope(|| spin(WORK));
            root.record("http.response.status_code", 200);
        }
    });
    let kept: Vec<_> = activities.iter().map(|it| it.kept_because).collect();
    assert_eq!(kept, [None, Some(KeepReason::Latency)]);
}
