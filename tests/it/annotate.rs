//! What the application adds to its requests.

use std::collections::BTreeMap;

use tracing::{info_span, warn_span};
use tracing_activity::{CurrentActivity, with_activity};

use crate::support::{self, capture, capture_one, capture_with, request};

#[test]
fn several_functions_add_to_one_row_and_the_last_wins_by_key() {
    fn deep() {
        with_activity(|a| a.data("total", 2).data("note", "deep").object("order", 17));
    }
    let activity = capture_one(|| {
        request!("http.response.status_code" = 200).in_scope(|| {
            with_activity(|a| a.title("Checkout").event("checkout").data("total", 1));
            info_span!("service").in_scope(|| info_span!("db").in_scope(deep));
            with_activity(|a| a.user("u1").session("s1").app("ios", "3.2").data("last", true));
        });
    });
    assert_eq!((activity.title.as_str(), activity.ekind.as_str()), ("Checkout", "checkout"));
    assert_eq!((activity.okind.as_str(), activity.oid.as_str()), ("order", "17"));
    assert_eq!(activity.data, r#"{"total":2,"note":"deep","last":true}"#);
    assert_eq!((activity.user_id.as_str(), activity.session_id.as_str()), ("u1", "s1"));
    assert_eq!((activity.app.as_str(), activity.app_version.as_str()), ("ios", "3.2"));
}

#[test]
fn outside_of_a_request_nothing_happens_but_a_count() {
    let (activities, stats) = capture_with(support::config(), || {
        with_activity(|_| panic!("it is not called"));
        info_span!("background").in_scope(|| with_activity(|_| panic!("it is not called")));
        assert!(CurrentActivity::get().is_none());
    });
    assert!(activities.is_empty());
    assert!(stats.outside >= 2, "{stats}");
}

#[test]
fn the_closure_may_log_open_spans_and_annotate() {
    let activity = capture_one(|| {
        request!("http.response.status_code" = 200).in_scope(|| {
            with_activity(|a| {
                info_span!("inside").in_scope(|| tracing::info!("hello"));
                with_activity(|a| a.title("inner"));
                a.data("outer", 1)
            });
        });
    });
    assert_eq!(support::tree(&activity), "request\n  inside!hello\n");
    assert_eq!((activity.title.as_str(), activity.data.as_str()), ("inner", r#"{"outer":1}"#));
}

#[test]
fn reserved_fields_annotate_without_a_dependency_on_this_crate() {
    let activities = capture(|| {
        request!("http.response.status_code" = 200).in_scope(|| {
            warn_span!(
                "store.save",
                "activity.okind" = "document",
                "activity.oid" = 42,
                "activity.ekind" = "save",
                "activity.title" = "Save",
                "activity.user_id" = "u9",
                "activity.data.pages" = 3,
                "activity.data" = r#"{"lang":"en"}"#,
            )
            .in_scope(|| ());
        });
        // Reserved fields make a span of its own a request.
        info_span!("import", "activity.ekind" = "import", "activity.outcome" = "client_fault")
            .in_scope(|| ());
    });
    let [saved, imported] = activities.as_slice() else { panic!("{activities:#?}") };
    assert_eq!((saved.okind.as_str(), saved.oid.as_str()), ("document", "42"));
    assert_eq!((saved.ekind.as_str(), saved.title.as_str()), ("save", "Save"));
    assert_eq!((saved.user_id.as_str(), saved.data.as_str()), ("u9", r#"{"pages":3,"lang":"en"}"#));
    assert_eq!((imported.ekind.as_str(), imported.outcome.as_str()), ("import", "client_fault"));
}

#[test]
fn malformed_reserved_fields_flag_the_row_and_lose_nothing_else() {
    let activity = capture_one(|| {
        request!(
            "http.response.status_code" = 200,
            "activity.data" = "{not json",
            "activity.outcome" = "splendid",
            "activity.title" = "kept"
        )
        .in_scope(|| ());
    });
    assert!(activity.incomplete);
    assert_eq!((activity.title.as_str(), activity.data.as_str()), ("kept", ""));
}

#[test]
fn a_value_that_is_no_json_is_left_out_and_flagged() {
    let activity = capture_one(|| {
        request!("http.response.status_code" = 200).in_scope(|| {
            let by_pair = BTreeMap::from([((1, 2), 3)]);
            with_activity(|a| a.data("bad", by_pair).data("nan", f64::NAN).data("good", 1));
        });
    });
    assert!(activity.incomplete);
    assert_eq!(activity.data, r#"{"nan":null,"good":1}"#);
}

#[test]
fn the_id_that_the_application_prints_is_the_rows_id() {
    let mut printed = None;
    let activity = capture_one(|| {
        request!("http.response.status_code" = 500).in_scope(|| {
            printed = CurrentActivity::get().map(|it| it.id());
        });
    });
    assert_eq!(printed, Some(activity.activity_id));
}

#[test]
fn a_handle_reaches_the_activity_from_elsewhere_until_it_ends() {
    let activity = capture_one(|| {
        let root = request!("http.response.status_code" = 200);
        let handle = root.in_scope(|| CurrentActivity::get().unwrap());
        std::thread::scope(|scope| {
            scope.spawn(|| handle.patch(|a| a.data("elsewhere", 1)));
        });
        drop(root);
        handle.patch(|a| a.data("too late", 1));
    });
    assert_eq!(activity.data, r#"{"elsewhere":1}"#);
}

#[test]
fn the_filter_may_leave_an_activity_out_and_a_filter_that_panics_fails_only_its_own() {
    let sink = tracing_activity::sink::MemorySink::new();
    let builder = tracing_activity::builder()
        .config(support::config())
        .sink(sink.clone())
        .log_allowed(|it| match it.route.as_str() {
            "/panics" => panic!("a defect of the application"),
            route => route != "/healthz",
        });
    let (layer, guard) = builder.build().unwrap();
    let registry = tracing_subscriber::layer::SubscriberExt::with(
        tracing_subscriber::Registry::default(),
        layer,
    );
    tracing::subscriber::with_default(registry, || {
        for route in ["/a", "/healthz", "/panics", "/b"] {
            request!("http.route" = route, "http.response.status_code" = 200).in_scope(|| ());
        }
    });
    let stats = guard.shutdown(support::DEADLINE).stats;
    let routes: Vec<_> = sink.activities().into_iter().map(|it| it.route).collect();
    assert_eq!(routes, ["/a", "/b"]);
    assert_eq!((stats.created, stats.stored, stats.dropped.filtered, stats.failed), (4, 2, 1, 1));
}

#[test]
fn capture_can_be_switched_off_and_on_again() {
    let fixture = support::Fixture::new(support::config());
    for (enabled, title) in [(true, "a"), (false, "b"), (true, "c")] {
        fixture.guard.set_enabled(enabled);
        fixture.run(|| {
            request!("http.response.status_code" = 200, "activity.title" = title).in_scope(|| ());
        });
    }
    let (activities, stats) = fixture.finish();
    let titles: Vec<_> = activities.into_iter().map(|it| it.title).collect();
    assert_eq!((titles, stats.created), (vec!["a".to_owned(), "c".to_owned()], 2));
}

#[test]
fn a_service_can_ask_whether_its_database_is_ready() {
    let fixture = support::Fixture::new(support::config());
    assert!(fixture.guard.prepared(support::DEADLINE).unwrap().is_ok());
    let nobody = tracing_activity::Config::from_lookup(|name| {
        Ok((name == "ACTIVITY_DB").then(|| "http://127.0.0.1:1/activity".to_owned()))
    });
    let (_layer, guard) = tracing_activity::builder().config(nobody.unwrap()).build().unwrap();
    let error = guard.prepared(support::DEADLINE).unwrap().unwrap_err();
    assert!(error.is_database(), "{error}");
    guard.shutdown(std::time::Duration::ZERO);
}
