//! Which field becomes which column.

use std::time::{Duration, Instant};

use tracing::field::Empty;
use tracing::info_span;
use tracing_activity::config::SamplingPolicy;
use tracing_activity::model::{KeepReason, Timestamp};

use crate::support::{self, capture, capture_one, capture_with, request};

#[test]
fn the_conventional_fields_fill_their_columns() {
    let activity = capture_one(|| {
        info_span!(
            "GET /products/{id}",
            "http.request.method" = "get",
            "http.route" = "/products/{id}",
            "url.path" = "/products/17",
            "url.query" = "token=s3cret&page=2",
            "user_agent.original" = "curl/8",
            "http.request.header.referer" = "https://ana:s3cret@example.org/?q=s3cret",
            "client.address" = "203.0.113.77",
            "user.id" = "u1",
            "session.id" = "s1",
            "http.response.status_code" = 200,
        )
        .in_scope(|| ());
    });
    assert_eq!(activity.method, "GET");
    assert_eq!(activity.route, "/products/{id}");
    assert_eq!(activity.url, "/products/17?token=?&page=?");
    assert_eq!(activity.referer, "example.org/?q=?");
    assert_eq!(activity.user_agent, "curl/8");
    assert_eq!(activity.ip.unwrap().to_canonical().to_string(), "203.0.113.0");
    assert_eq!((activity.user_id.as_str(), activity.session_id.as_str()), ("u1", "s1"));
    assert_eq!(activity.okind, "site");
    assert_eq!(activity.oid, "/products/{id}");
    assert_eq!(activity.ekind, "GET /products/{id}");
}

#[test]
fn deprecated_names_and_those_of_frameworks_serve_as_well() {
    let activities = capture(|| {
        info_span!(
            "HTTP request",
            "http.method" = "POST",
            "http.route" = "/a",
            "http.target" = "/a?x=1",
            "http.client_ip" = "2001:db8:1:2::3",
            "http.user_agent" = "ua",
            "http.status_code" = 201,
        )
        .in_scope(|| ());
        info_span!(
            "request",
            method = "PATCH",
            path = "/w",
            referer = "/from",
            "remote.addr" = "198.51.100.9:1234",
            status = 200
        )
        .in_scope(|| ());
    });
    let [a, b] = activities.as_slice() else { panic!() };
    assert_eq!((a.method.as_str(), a.url.as_str(), a.status), ("POST", "/a?x=?", 201));
    assert_eq!(a.ip.unwrap().to_string(), "2001:db8:1::");
    assert_eq!((b.method.as_str(), b.url.as_str(), b.status), ("PATCH", "/w", 200));
    assert_eq!(b.ip.unwrap().to_canonical().to_string(), "198.51.100.0");
    assert_eq!(b.referer, "/from");
}

#[test]
fn of_an_absolute_address_the_row_has_path_and_query() {
    let activities = capture(|| {
        info_span!(
            "request",
            method = "GET",
            uri = "http://shop/a?x=1",
            version = "2",
            status = 200
        )
        .in_scope(|| ());
        let kind = "server";
        info_span!(
            "request",
            "otel.kind" = kind,
            "http.method" = "GET",
            "http.url" = "https://shop:8443"
        )
        .in_scope(|| ());
    });
    assert_eq!([&*activities[0].url, &*activities[1].url], ["/a?x=?", "/"]);
    assert_eq!(activities[0].oid, "/a");
}

#[test]
fn the_word_for_no_route_is_no_route() {
    let activity = capture_one(|| {
        info_span!("HTTP request", "http.method" = "GET", "http.route" = "default").in_scope(|| ());
    });
    assert_eq!((&*activity.route, &*activity.ekind), ("", "GET"));
}

#[test]
fn a_code_tells_that_a_request_is_a_call_and_the_path_names_it() {
    let activities = capture(|| {
        for (uri, code) in [
            ("http://127.0.0.1:50051/shop.v1.Users/Get", 0),
            ("/shop.v1.Users/Get?x=1", 5),
            ("/made.up/Name", 12),
        ] {
            info_span!("request", method = "POST", uri, version = "HTTP/2.0").in_scope(|| {
                tracing::debug!(
                    target: "tower_http::trace::on_response",
                    status = code,
                    "finished processing request"
                );
            });
        }
    });
    let seen: Vec<_> =
        activities.iter().map(|it| (&*it.method, &*it.route, &*it.ekind, it.status)).collect();
    let get = "shop.v1.Users/Get";
    assert_eq!(
        seen,
        [("", get, get, 0), ("", get, get, 5), ("", "_OTHER/_OTHER", "_OTHER/_OTHER", 12)]
    );
}

#[test]
fn without_a_route_the_path_is_the_object_and_the_method_the_event() {
    let activities = capture(|| {
        for path in ["/", "/products/17?x=1"] {
            info_span!("request", method = "GET", uri = path, status = 200).in_scope(|| ());
        }
    });
    let seen: Vec<_> = activities
        .iter()
        .map(|it| (it.okind.as_str(), it.oid.as_str(), it.ekind.as_str()))
        .collect();
    assert_eq!(seen, [("site", "/", "GET"), ("site", "/products/17", "GET")]);
}

#[test]
fn an_unknown_method_does_not_make_a_new_value() {
    let activity = capture_one(|| {
        info_span!("request", method = "BREW'; DROP", uri = "/", status = 501).in_scope(|| ());
    });
    assert_eq!((activity.method.as_str(), activity.ekind.as_str()), ("_OTHER", "_OTHER"));
}

#[test]
fn a_callers_trace_id_is_the_trace_id_else_the_activity_id_is() {
    let activities = capture(|| {
        request!(trace_id = "4bf92f3577b34da6a3ce929d0e0e4736", "http.response.status_code" = 200)
            .in_scope(|| ());
        request!("http.response.status_code" = 200).in_scope(|| ());
    });
    assert_eq!(activities[0].trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(
        activities[1].trace_id().to_string(),
        activities[1].activity_id.to_string().replace('-', "")
    );
}

#[test]
fn deploy_service_and_host_are_on_every_row() {
    let mut config = support::config();
    config.service = "shop".to_owned();
    config.host = "web-1".to_owned();
    config.site_version = Timestamp::from_micros(1_700_000_000_000_000);
    config.site_revision = "abc123".to_owned();
    let (activities, _) = capture_with(config, || {
        request!("http.response.status_code" = 200).in_scope(|| ());
    });
    let it = &activities[0];
    assert_eq!(
        (it.service.as_str(), it.host.as_str(), it.site_revision.as_str()),
        ("shop", "web-1", "abc123")
    );
    assert_eq!(it.site_version.as_micros(), 1_700_000_000_000_000);
}

#[test]
fn every_request_is_a_row_and_only_kept_ones_have_a_trace() {
    let mut config = support::config();
    config.sample = "errors".parse().unwrap();
    let (activities, _) = capture_with(config, || {
        for status in [200, 500] {
            request!("http.response.status_code" = status)
                .in_scope(|| info_span!("child").in_scope(|| ()));
        }
    });
    let kept: Vec<_> = activities.iter().map(|it| (it.kept_because, it.trace.is_some())).collect();
    assert_eq!(kept, [(None, false), (Some(KeepReason::StatusCode), true)]);
    assert!((activities[1].sample_weight - 1.0).abs() < f32::EPSILON);
}

#[test]
fn without_any_rule_no_span_is_collected_but_errors_and_annotations_arrive() {
    let mut config = support::config();
    config.sample = SamplingPolicy::OFF;
    let (activities, _) = capture_with(config, || {
        request!("http.response.status_code" = 500).in_scope(|| {
            info_span!("child").in_scope(|| tracing::error!("broken"));
            tracing::debug_span!("library", "activity.okind" = "file", "activity.oid" = Empty)
                .record("activity.oid", "f1");
        });
    });
    let it = &activities[0];
    assert_eq!((it.trace.is_none(), it.kept_because), (true, None));
    assert_eq!((it.error.as_str(), it.okind.as_str(), it.oid.as_str()), ("broken", "file", "f1"));
}

#[test]
fn a_request_lasts_until_it_was_last_left_whether_its_spans_are_collected_or_not() {
    for sample in [SamplingPolicy::OFF, SamplingPolicy::ALL] {
        let mut config = support::config();
        config.sample = sample;
        let mut until_left = Duration::ZERO;
        let (activities, _) = capture_with(config, || {
            let begun = Instant::now();
            let span = request!("http.response.status_code" = 200);
            for _ in 0..2 {
                span.in_scope(|| support::spin(Duration::from_millis(2)));
            }
            until_left = begun.elapsed();
            support::spin(Duration::from_millis(10));
        });
        let duration = Duration::from_micros(activities[0].duration);
        assert!(duration >= Duration::from_millis(4), "both times count: {duration:?}");
        let allowed = until_left + Duration::from_millis(5);
        assert!(duration < allowed, "{duration:?}, left after {until_left:?}");
    }
}

#[test]
fn nothing_of_a_row_holds_a_secret_of_an_address_or_a_whole_client_address() {
    let activities = capture(|| {
        let secret = "/p?next=https://app.example/reset/c4n4ry&token=c4n4ry";
        info_span!("request", method = "GET", uri = secret, path = secret, status = 200)
            .in_scope(|| ());
        info_span!(
            "request",
            "http.request.method" = "GET",
            "url.path" = secret,
            "url.query" = "token=c4n4ry",
            "url.full" = "https://ana:c4n4ry@example.org/p?c4n4ry",
            "http.target" = secret,
            "http.request.header.referer" = "//ana:c4n4ry@example.org/?c4n4ry",
            "client.address" = "203.0.113.77",
            "network.peer.address" = "203.0.113.77",
            "http.response.status_code" = 200
        )
        .in_scope(|| {
            info_span!("request", method = "POST", uri = "http://x/?k=c4n4ry").in_scope(|| ());
        });
    });
    for activity in &activities {
        let row = serde_json::to_string(activity).unwrap();
        assert!(!row.contains("c4n4ry"), "{row}");
        assert!(!row.contains("203.0.113.77"), "{row}");
    }
    assert_eq!(activities[0].oid, "/p");
}
