//! How a request went, by everything that frameworks tell.

use std::time::{Duration, Instant};

use tracing::field::Empty;
use tracing::{error, info_span};
use tracing_activity::model::Outcome::{ClientFault, ServerFault, Success};
use tracing_activity::with_activity;

use crate::support::{self, capture, capture_one, capture_with, request, spin};

#[test]
fn the_status_decides_whose_fault_it_was() {
    for (status, outcome) in [
        (101, Success),
        (200, Success),
        (304, Success),
        (400, ClientFault),
        (404, ClientFault),
        (499, ClientFault),
        (500, ServerFault),
        (503, ServerFault),
    ] {
        let activity = capture_one(|| {
            request!("http.response.status_code" = status).in_scope(|| ());
        });
        assert_eq!((activity.status, activity.outcome), (status, outcome));
    }
}

#[test]
fn the_conventional_name_wins_over_the_deprecated_whatever_comes_last() {
    let activity = capture_one(|| {
        let root = info_span!(
            "request",
            "http.method" = "GET",
            "http.response.status_code" = Empty,
            "http.status_code" = Empty,
            status = Empty
        );
        root.record("http.response.status_code", 404);
        root.record("http.status_code", 200);
        root.record("status", 500);
    });
    assert_eq!(activity.status, 404);
}

#[test]
fn a_status_may_be_text_or_come_late() {
    for text in ["502 Bad Gateway", "502"] {
        let activity = capture_one(|| {
            let root = request!("http.response.status_code" = Empty);
            root.in_scope(|| ());
            root.record("http.response.status_code", text);
        });
        assert_eq!((activity.status, activity.outcome), (502, ServerFault));
    }
    let activity = capture_one(|| {
        let root = request!("http.response.status_code" = Empty);
        root.record("http.response.status_code", tracing::field::display("201 Created"));
    });
    assert_eq!(activity.status, 201);
}

#[test]
fn frameworks_that_tell_the_status_in_an_event_are_understood() {
    let activities = capture(|| {
        let root = || tracing::debug_span!(target: "tower_http::trace::make_span", "request", method = "GET", uri = "/x?y=1", version = "HTTP/1.1");
        root().in_scope(|| {
            tracing::debug!(target: "tower_http::trace::on_response", latency = "1 ms", status = 404, "finished processing request");
        });
        root().in_scope(|| {
            tracing::debug!(target: "tower_http::trace::on_response", latency = "1 ms", status = 500, "finished processing request");
            tracing::error!(target: "tower_http::trace::on_failure", classification = "Status code: 500 Internal Server Error", latency = "1 ms", "response failed");
        });
        info_span!(target: "poem::middleware::tracing_mw", "request", remote_addr = "10.1.2.3:99", version = "HTTP/1.1", method = "POST", uri = "/p").in_scope(|| {
            tracing::info!(target: "poem::middleware::tracing_mw", status = %"200 OK", duration = "1 ms", "response");
        });
        info_span!(target: "warp::filters::trace", "request", method = "GET", path = "/w", version = "HTTP/1.1").in_scope(|| {
            tracing::error!(target: "warp::filters::trace", status = 503_u64, error = "gone", "unable to process request (internal error)");
        });
        // An event of the application says nothing about the response.
        root().in_scope(|| {
            tracing::debug!(target: "tower_http::trace::on_response", status = 200, "finished processing request");
            tracing::info!(status = 500, "a colleague answered");
        });
    });
    let seen: Vec<_> = activities.iter().map(|it| (it.status, it.outcome)).collect();
    assert_eq!(
        seen,
        [
            (404, ClientFault),
            (500, ServerFault),
            (200, Success),
            (503, ServerFault),
            (200, Success)
        ]
    );
    assert_eq!(
        activities[1].error,
        "Status code: 500 Internal Server Error".to_owned(),
        "{:?}",
        activities[1]
    );
    assert_eq!(activities[2].url, "/p");
}

#[test]
fn a_request_that_ends_without_a_response_is_a_client_that_left() {
    let activities = capture(|| {
        for answered in [true, false] {
            let root = request!("http.response.status_code" = Empty);
            root.in_scope(|| ());
            if answered {
                root.record("http.response.status_code", 200);
            }
        }
    });
    assert_eq!(
        (activities[1].outcome, activities[1].error_kind.as_str()),
        (ClientFault, "cancelled")
    );
    assert_eq!(activities[1].status, 0);
}

#[test]
fn so_is_a_call_that_only_its_kind_tells_to_be_served() {
    let activities = capture(|| {
        for answered in [true, false] {
            let root = info_span!(
                "grpc.request",
                "otel.kind" = "server",
                "rpc.service" = "Shop",
                "rpc.method" = "Find",
                "rpc.grpc.status_code" = Empty,
            );
            root.in_scope(|| ());
            if answered {
                root.record("rpc.grpc.status_code", 0);
            }
        }
    });
    assert_eq!(
        (activities[1].outcome, activities[1].error_kind.as_str()),
        (ClientFault, "cancelled")
    );
}

#[test]
fn a_request_that_was_given_up_lasts_until_then() {
    const WAIT: Duration = Duration::from_millis(20);
    let mut held = Duration::ZERO;
    let activities = capture(|| {
        let request = |status: Option<u16>| request!("http.response.status_code" = status);
        request(Some(200)).in_scope(|| ());
        let root = request(None);
        root.in_scope(|| ());
        spin(WAIT);
        drop(root);
        // The same with a span inside, left as `Instrumented` does it when it is dropped, and with
        // something behind that holds on to the request.
        let begin = Instant::now();
        let root = request(None);
        let child = root.in_scope(|| info_span!("waits"));
        spin(WAIT);
        child.in_scope(|| ());
        drop(child);
        spin(10 * WAIT);
        drop(root);
        held = begin.elapsed();
    });
    let ended: Vec<_> = activities.iter().map(|it| it.error_kind.as_str()).collect();
    assert_eq!(ended, ["", "cancelled", "cancelled"]);
    let duration = |at: usize| Duration::from_micros(activities[at].duration);
    assert!(duration(1) >= WAIT, "{:?}", duration(1));
    assert!(duration(2) >= WAIT && duration(2) + 10 * WAIT <= held, "{:?}", duration(2));
}

#[test]
fn requests_whose_status_was_never_seen_are_not_called_cancelled() {
    let activity = capture_one(|| {
        info_span!("silent", "http.request.method" = "GET").in_scope(|| ());
    });
    assert_eq!((activity.outcome, activity.error_kind.as_str()), (Success, "no_status"));
    assert!(activity.incomplete);
}

#[test]
fn a_panic_is_a_server_fault() {
    let activity = capture_one(|| {
        let caught = std::panic::catch_unwind(|| {
            request!("http.response.status_code" = Empty).in_scope(|| {
                info_span!("child").in_scope(|| panic!("boom"));
            });
        });
        assert!(caught.is_err());
    });
    assert_eq!((activity.outcome, activity.error_kind.as_str()), (ServerFault, "panic"));
    let spans = &activity.trace.as_ref().unwrap().spans;
    assert_eq!((spans[0].error.as_ref(), spans[1].error.as_ref()), ("panic", "panic"));
}

#[test]
fn a_panic_that_the_handler_survives_is_not_the_requests_fault() {
    let activity = capture_one(|| {
        request!("http.response.status_code" = 200).in_scope(|| {
            let caught =
                std::panic::catch_unwind(|| info_span!("child").in_scope(|| panic!("boom")));
            assert!(caught.is_err());
        });
    });
    assert_eq!((activity.outcome, activity.error_kind.as_str()), (Success, ""));
    assert_eq!(activity.trace.as_ref().unwrap().spans[1].error, "panic");
}

#[test]
fn grpc_codes_tell_their_own_story_under_http_200() {
    for (code, outcome) in [(0, Success), (5, ClientFault), (13, ServerFault)] {
        let activity = capture_one(|| {
            info_span!(
                "GRPC request",
                "otel.kind" = "server",
                "rpc.system" = "grpc",
                "rpc.service" = "shop.Basket",
                "rpc.method" = "Add",
                "http.response.status_code" = 200,
                "rpc.grpc.status_code" = code
            )
            .in_scope(|| ());
        });
        assert_eq!(activity.outcome, outcome, "code {code}");
        assert_eq!(activity.route, "shop.Basket/Add");
    }
}

#[test]
fn an_error_event_decides_only_where_no_status_does() {
    let activities = capture(|| {
        request!("http.response.status_code" = 200).in_scope(|| error!("mail was not sent"));
        info_span!("consume", "otel.kind" = "consumer").in_scope(|| error!("bad message"));
        info_span!("consume", "otel.kind" = "consumer", "otel.status_code" = "ERROR")
            .in_scope(|| ());
    });
    let seen: Vec<_> = activities.iter().map(|it| (it.outcome, it.error.as_str())).collect();
    assert_eq!(
        seen,
        [(Success, "mail was not sent"), (ServerFault, "bad message"), (ServerFault, "")]
    );
}

#[test]
fn the_application_has_the_last_word() {
    let activity = capture_one(|| {
        request!("http.response.status_code" = 200).in_scope(|| {
            with_activity(|a| a.failure("card_declined", "no funds").outcome(ClientFault));
        });
    });
    assert_eq!(activity.outcome, ClientFault);
    assert_eq!(
        (activity.error_kind.as_str(), activity.error.as_str()),
        ("card_declined", "no funds")
    );
}

#[test]
fn an_error_carries_message_cause_and_class() {
    let activity = capture_one(|| {
        request!("http.response.status_code" = 500).in_scope(|| {
            let cause = std::io::Error::other("disk on fire");
            error!(
                error = &cause as &dyn std::error::Error,
                "exception.type" = "StoreError",
                "cannot save"
            );
        });
    });
    assert_eq!(activity.error, "cannot save: disk on fire");
    assert_eq!(activity.error_kind, "StoreError");
}

#[test]
fn a_clients_response_inside_of_a_request_is_not_the_requests() {
    let activity = capture_one(|| {
        let server = tracing::debug_span!(target: "tower_http::trace::make_span", "request", method = "GET", uri = "/x", version = "HTTP/1.1");
        server.in_scope(|| {
            // The client's span is finer than the filter: left out, but not the request's.
            let client = tracing::debug_span!(target: "tower_http::trace::make_span", "request", method = "POST", uri = "http://pay.example/", version = "HTTP/1.1");
            client.in_scope(|| {
                tracing::debug!(target: "tower_http::trace::on_response", latency = "1 ms", status = 503, "finished processing request");
                error!(target: "tower_http::trace::on_failure", classification = "Status code: 503", latency = "1 ms", "response failed");
            });
            tracing::debug!(target: "tower_http::trace::on_response", latency = "2 ms", status = 200, "finished processing request");
        });
    });
    assert_eq!((activity.status, activity.outcome), (200, Success));
}

#[test]
fn what_reserved_fields_say_of_the_outcome_decides_about_the_trace() {
    let mut config = support::config();
    config.sample = "errors".parse().unwrap();
    let (activities, _) = capture_with(config, || {
        request!("http.response.status_code" = 200).in_scope(|| {
            info_span!("save", "activity.outcome" = "server_fault").in_scope(|| ());
        });
        info_span!("consume", "otel.kind" = "consumer").in_scope(|| {
            info_span!("save", "activity.error" = "disk full").in_scope(|| ());
        });
    });
    for activity in &activities {
        assert_eq!(activity.outcome, ServerFault);
        assert!(activity.trace.is_some(), "{activity:?}");
    }
    assert_eq!(activities[1].error, "disk full");
}
