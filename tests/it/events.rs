//! Who, to what, for whom; events as types, errors as values; and what is too long.

use std::error::Error;
use std::fmt;

use serde::Serialize;
use serde_json::{Value as Json, json};
use tracing::info_span;
use tracing_activity::model::{Activity, Outcome};
use tracing_activity::{ActivityEvent, ActivityPatch, with_activity};

use crate::support::{self, capture_one, capture_with, request};

/// A request that was answered, and what was said in it.
fn said(patch: impl FnOnce(ActivityPatch) -> ActivityPatch) -> Activity {
    capture_one(|| {
        request!("http.response.status_code" = 200).in_scope(|| with_activity(patch));
    })
}

fn data(activity: &Activity) -> Json {
    serde_json::from_str(&activity.data).unwrap()
}

#[test]
fn who_did_it_for_whom_and_what_else_took_part_are_columns() {
    let activity = said(|a| {
        a.actor("api_key", "k7").on_behalf_of("u4").object("role", "admin").target("member", 9)
    });
    assert_eq!((&*activity.actor_kind, &*activity.user_id), ("api_key", "k7"));
    assert_eq!(activity.on_behalf_of, "u4");
    assert_eq!((&*activity.okind, &*activity.oid), ("role", "admin"));
    assert_eq!((&*activity.target_kind, &*activity.target_id), ("member", "9"));
    // Who turns out to be a user is no key any more.
    let activity = said(|a| a.actor("api_key", "k7").user("u1"));
    assert_eq!((&*activity.actor_kind, &*activity.user_id), ("", "u1"));
}

#[test]
fn a_library_says_the_same_by_reserved_fields() {
    let activity = capture_one(|| {
        request!("http.response.status_code" = 200).in_scope(|| {
            info_span!(
                "grant",
                "activity.actor_kind" = "job",
                "activity.user_id" = "nightly",
                "activity.on_behalf_of" = "u4",
                "activity.target_kind" = "member",
                "activity.target_id" = 9,
            )
            .in_scope(|| with_activity(|a| a.on_behalf_of("u5")));
        });
    });
    assert_eq!((&*activity.actor_kind, &*activity.user_id), ("job", "nightly"));
    assert_eq!((&*activity.target_kind, &*activity.target_id), ("member", "9"));
    assert_eq!(activity.on_behalf_of, "u5", "what the application says wins");
}

#[derive(Serialize)]
struct OrderPaid {
    #[serde(skip)]
    order: u64,
    total_cents: u64,
    coupon: Option<&'static str>,
}

impl ActivityEvent for OrderPaid {
    const EKIND: &'static str = "order_paid";

    fn annotate(&self, activity: ActivityPatch) -> ActivityPatch {
        activity.object("order", self.order)
    }
}

#[derive(Serialize)]
struct OrderRefused {
    reason: &'static str,
}

impl ActivityEvent for OrderRefused {
    const EKIND: &'static str = "order_refused";
}

#[derive(Serialize)]
struct LoggedOut;

impl ActivityEvent for LoggedOut {
    const EKIND: &'static str = "logged_out";
}

const PAID: OrderPaid = OrderPaid { order: 17, total_cents: 1290, coupon: None };

#[test]
fn a_typed_event_replaces_the_automatic_one_and_brings_the_same_keys_whatever_is_in_them() {
    let activities = support::capture(|| {
        for event in [PAID, OrderPaid { coupon: Some("SPRING"), ..PAID }] {
            request!("http.route" = "/pay", "http.response.status_code" = 200)
                .in_scope(|| with_activity(|a| a.record(&event).data("retries", 1)));
        }
    });
    for (activity, coupon) in activities.iter().zip([json!(null), json!("SPRING")]) {
        assert_eq!(activity.ekind, "order_paid");
        assert_eq!((&*activity.okind, &*activity.oid), ("order", "17"));
        let expected = json!({"coupon": coupon, "total_cents": 1290, "retries": 1});
        assert_eq!(data(activity), expected);
    }
    assert_eq!(activities.len(), 2, "one row a request");
}

#[test]
fn of_several_events_the_last_stands_alone_and_its_fields_keep_their_meaning() {
    let activity =
        said(|a| a.data("reason", 7).record(&PAID).record(&OrderRefused { reason: "x" }));
    assert_eq!(activity.ekind, "order_refused");
    assert_eq!(data(&activity), json!({"reason": "x"}));
    let activity = capture_one(|| {
        request!("http.response.status_code" = 200).in_scope(|| {
            with_activity(|a| a.record(&PAID).data("note", "kept"));
            info_span!("deeper").in_scope(|| with_activity(|a| a.event("parked")));
        });
    });
    assert_eq!((&*activity.ekind, data(&activity)), ("parked", json!({"note": "kept"})));
    assert_eq!(said(|a| a.record(&LoggedOut)).data, "");
    assert_eq!(said(|a| a.record(&LoggedOut)).ekind, "logged_out");
}

#[test]
fn an_event_that_is_no_object_is_flagged_and_still_said() {
    #[derive(Serialize)]
    struct Bare(u32);
    impl ActivityEvent for Bare {
        const EKIND: &'static str = "bare";
    }
    let activity = said(|a| a.record(&Bare(7)));
    assert_eq!((&*activity.ekind, &*activity.data, activity.incomplete), ("bare", "", true));
}

#[derive(Debug)]
enum PayError {
    Io(std::io::Error),
    Declined,
}

impl fmt::Display for PayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(_) => f.write_str("the gateway does not answer"),
            Self::Declined => f.write_str("the card was declined"),
        }
    }
}

impl Error for PayError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            Self::Declined => None,
        }
    }
}

#[test]
fn an_error_tells_its_type_and_what_caused_it() {
    let refused = || PayError::Io(std::io::Error::other("connection refused"));
    let activity = said(|a| a.error(&refused()));
    assert_eq!(activity.error_kind, "PayError");
    assert_eq!(activity.error, "the gateway does not answer: connection refused");
    let activity = said(|a| a.error(&std::io::Error::other(PayError::Declined)));
    assert_eq!((&*activity.error_kind, &*activity.error), ("io::Error", "the card was declined"));
    let boxed: Box<dyn Error> = Box::new(refused());
    let activity = said(|a| a.error_kind("gateway").error(&*boxed));
    assert_eq!(activity.error_kind, "gateway", "a type that is not known takes no name away");
    assert_eq!(activity.error, "the gateway does not answer: connection refused");
    let activity = said(|a| a.error(&PayError::Declined).error_kind("declined"));
    assert_eq!((&*activity.error_kind, activity.outcome), ("declined", Outcome::Success));
}

#[test]
fn what_is_too_long_is_cut_counted_and_told_with_the_length_it_had() {
    let (activities, stats) = capture_with(support::config(), || {
        request!("http.response.status_code" = 200).in_scope(|| {
            with_activity(|a| {
                let long = "é".repeat(5000);
                a.title(&*long)
                    .object(&*long, &long)
                    .target("t", &long)
                    .on_behalf_of(&long)
                    .event(&*long)
                    .data("note", &long)
                    .data("list", vec![0; 5000])
                    .data("short", "é")
            });
        });
        request!("http.response.status_code" = 200).in_scope(|| with_activity(|a| a.title("é")));
    });
    let activity = &activities[0];
    let texts = [&activity.title, &activity.okind, &activity.oid, &activity.target_id];
    let lengths = texts.map(String::len);
    assert_eq!((lengths, activity.ekind.len()), ([1024, 256, 1024, 1024], 256));
    let data = data(activity);
    assert_eq!(data["note"], "é".repeat(4096));
    assert_eq!((&data["list"], &data["short"]), (&json!(null), &json!("é")));
    let told = json!({
        "title": 10_000, "okind": 10_000, "oid": 10_000, "target_id": 10_000, "ekind": 10_000,
        "on_behalf_of": 10_000, "data.note": 10_000, "data.list": 65_002,
    });
    assert_eq!(data["activity.truncated"], told);
    assert!(activity.truncated && !activities[1].truncated);
    assert_eq!((stats.truncated, stats.cut), (1, 8), "{stats}");
    assert!(stats.to_string().contains("8 texts cut"), "{stats}");
    assert_eq!(activities[1].data, "");
}

#[test]
fn data_without_measure_is_left_out_counted_and_told_as_far_as_that_is_of_use() {
    let mut config = support::config();
    config.capture.max_row_bytes = 4000;
    let (activities, stats) = capture_with(config, || {
        request!("http.response.status_code" = 200).in_scope(|| {
            for n in 0..100 {
                with_activity(|a| a.data(format!("key{n:02}"), "x".repeat(90)));
            }
        });
    });
    let data = data(&activities[0]);
    let kept = data.as_object().unwrap().len() - 1;
    assert!((30..50).contains(&kept), "{kept}");
    assert_eq!(stats.cut, 100 - kept as u64);
    let told = data["activity.truncated"].as_object().unwrap();
    assert_eq!(told.len(), 16);
    for (name, bytes) in told {
        let key = name.strip_prefix("data.").unwrap();
        assert!(data.get(key).is_none() && *bytes == json!(97), "{name} {bytes}");
    }
}
