//! Canaries in every place where an application may put a secret: none reaches a row.

use tracing::{error, info, info_span};
use tracing_activity::config::RedactPattern;
use tracing_activity::model::Activity;
use tracing_activity::with_activity;

use crate::support::{capture_one, capture_with, config, request};

/// Found in every secret below.
const CANARY: &str = "c4n4ry";
const BEARER: &str = "Bearer c4n4ryc4n4ry";
const JWT: &str = "eyJhbGciOiJIUzI1NiJ9.c4n4ry.c4n4ry";
const ADDRESS: &str = "postgres://shop:c4n4ry@db.example/shop";
const CARD: &str = "4111 1111 1111 1111";

fn assert_clean(activity: &Activity) {
    let shown = format!("{activity:?}");
    let row = serde_json::to_string(activity).unwrap();
    for text in [shown, row] {
        assert!(!text.contains(CANARY), "{text}");
        assert!(!text.contains("4111 1111") && !text.contains("4111111111111111"), "{text}");
    }
}

#[test]
fn no_canary_in_fields_events_annotations_or_errors_reaches_a_row() {
    let activity = capture_one(|| {
        let root = request!(
            "url.path" = "/reset/eyJhbGciOiJIUzI1NiJ9.c4n4ry.c4n4ry",
            "url.query" = "token=c4n4ry&c4n4ry",
            "http.request.header.referer" = "https://a:c4n4ry@b.example/?q=c4n4ry",
            "user_agent.original" = BEARER,
            "http.route" = "/reset/{token}",
        );
        root.in_scope(|| {
            let child = info_span!(
                "login",
                password = "c4n4ry",
                api_key = ?Some("c4n4ry"),
                sql = "SELECT 1 WHERE password = 'c4n4ry'",
                dsn = ADDRESS,
                reply = r#"{"dsn":"amqp:\/\/shop:c4n4ry@mq\/","cvv":"c4n4ry"}"#,
                soap = "<wsse:Password>c4n4ry c4n4ry</wsse:Password>",
                card = 4_111_111_111_111_111_u64,
                session = %JWT
            );
            child.in_scope(|| {
                info!(cookie = "c4n4ry", "paid with {CARD} by {BEARER}");
                error!(error = %std::io::Error::other(ADDRESS), "cannot connect");
            });
            info_span!("said", activity.data = r#"{"secret":{"a":"c4n4ry"},"n":4111111111111111}"#)
                .in_scope(|| ());
            with_activity(|a| {
                a.title(format!("Login with {JWT}"))
                    .object("session", JWT)
                    .event(format!("login {BEARER}"))
                    .user(ADDRESS)
                    .session(JWT)
                    .app("shop", format!("password={CANARY}"))
                    .data("password", CANARY)
                    .data("nested", serde_json::json!([{"authorization": CANARY}, CARD]))
                    .data(format!("key {JWT}"), 1)
            });
        });
    });
    assert_clean(&activity);
    assert!(!activity.trace.as_ref().unwrap().spans[1].attributes.is_empty());
    let data: serde_json::Value = serde_json::from_str(&activity.data).unwrap();
    assert_eq!(data["password"], "[secret]");
    assert_eq!(data["nested"], serde_json::json!([{"authorization": "[secret]"}, "[card]"]));
    assert_eq!((&data["secret"], &data["n"]), (&"[secret]".into(), &"[card]".into()));
    assert_eq!(activity.error, "cannot connect: postgres://[secret]@db.example/shop");
    assert_eq!(activity.url, "/reset/[secret]?token=?&?");
}

#[test]
fn no_canary_in_what_an_application_says_went_wrong_reaches_a_row() {
    let activity = capture_one(|| {
        request!().in_scope(|| {
            with_activity(|a| a.failure("db", format!("{ADDRESS} refused {BEARER} {CARD}")));
        });
    });
    assert_clean(&activity);
    assert_eq!(
        activity.error,
        "postgres://[secret]@db.example/shop refused Bearer [secret] [card]"
    );
}

#[test]
fn a_row_without_secrets_is_left_as_it_is() {
    let activity = capture_one(|| {
        request!("url.path" = "/users/17", token_count = 3).in_scope(|| {
            info!(order = 1_700_000_000_000_000_u64, "the token of gratitude: a key lime pie");
            with_activity(|a| a.title("Reset the password").data("keys", "a, b"));
        });
    });
    let text = serde_json::to_string(&activity).unwrap();
    assert!(!text.contains("[secret]") && !text.contains("[card]"), "{text}");
}

#[test]
fn an_own_pattern_is_held_to_each_text_by_itself() {
    for pattern in ["^ticket-[a-z0-9]+$", r"\bticket-[a-z0-9]+\b"] {
        let mut config = config();
        config.redact.pattern = Some(pattern.parse::<RedactPattern>().unwrap());
        let (activities, _) = capture_with(config, || {
            let root = request!("user.id" = "ticket-c4n4ry", "url.path" = "/a");
            root.in_scope(|| {
                // Texts before and behind it: joined, none of them would be found.
                info_span!("load", a = "x", b = "ticket-c4n4ry", c = "y").in_scope(|| {
                    info!(d = "z", e = "ticket-c4n4ry", "ticket-c4n4ry");
                });
                with_activity(|a| a.data("list", serde_json::json!(["ticket-c4n4ry"])));
                let json = r#"["ticket-c4n4ry"]"#;
                info_span!("json", json).in_scope(|| ());
            });
        });
        assert_clean(&activities[0]);
        assert_eq!(activities[0].user_id, "[redacted]");
    }
}

#[test]
fn an_id_is_never_taken_for_a_card_and_another_integer_is() {
    const NUMBER: u64 = 4_111_111_111_111_111;
    let activity = capture_one(|| {
        request!("user.id" = NUMBER, "session.id" = NUMBER.cast_signed()).in_scope(|| {
            info_span!(
                "said",
                activity.okind = "order",
                activity.oid = NUMBER,
                activity.target_id = "4111111111111111",
                activity.data.card = NUMBER,
                activity.data.order_id = NUMBER,
                order_id = NUMBER,
                pan = NUMBER
            )
            .in_scope(|| with_activity(|a| a.on_behalf_of("4111111111111111")));
        });
    });
    let Activity { user_id, session_id, oid, target_id, on_behalf_of, data, .. } = &activity;
    for id in [user_id, session_id, oid, target_id, on_behalf_of] {
        assert_eq!(id, "4111111111111111");
    }
    assert_eq!(data, r#"{"card":"[card]","order_id":4111111111111111}"#);
    let attributes = &activity.trace.as_ref().unwrap().spans[1].attributes;
    let shown = |name: &str| {
        let found = attributes.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.to_string()).unwrap()
    };
    assert_eq!((shown("order_id").as_str(), shown("pan").as_str()), ("4111111111111111", "[card]"));
}

#[test]
fn what_a_field_says_about_a_secret_stays() {
    let activity = capture_one(|| {
        request!(has_password = true, token = ?None::<&str>).in_scope(|| {
            with_activity(|a| a.data("password", serde_json::json!(["is too short"])));
        });
    });
    assert_eq!(activity.data, r#"{"password":["is too short"]}"#);
    let shown = format!("{:?}", activity.trace.unwrap().spans[0].attributes);
    assert!(!shown.contains("[secret]"), "{shown}");
}

#[test]
fn what_is_taken_out_can_be_configured() {
    let mut config = config();
    config.redact.secrets = false;
    config.redact.cards = false;
    config.redact.emails = true;
    config.redact.pattern = Some("MRN-[0-9]+".parse::<RedactPattern>().unwrap());
    config.redact.keep_query = vec!["page".to_owned()];
    let (activities, _) = capture_with(config, || {
        request!("url.path" = "/a", "url.query" = "page=2&q=x", password = "kept").in_scope(|| {
            with_activity(|a| a.title(format!("{CARD} of ana@shop.example, MRN-77")));
        });
    });
    assert_eq!(activities[0].title, "4111 1111 1111 1111 of [email], [redacted]");
    assert_eq!(activities[0].url, "/a?page=2&q=?");
    assert!(format!("{:?}", activities[0].trace).contains("kept"));
}
