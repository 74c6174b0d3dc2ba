//! What does not leave in a row leaves in no span.

use opentelemetry::trace::{Span as _, Status, Tracer as _};
use opentelemetry::{Array, KeyValue, StringValue, Value};
use opentelemetry_sdk::trace::SpanData;
use tracing::{error, info_span};
use tracing_activity::config::StoredAddress;

use crate::support::{Fixture, Outcome, config};

const JWT: &str = "eyJhbGciOiJIUzI1NiJ9.c4n4ry.c4n4ry";

fn run(fixture: Fixture) -> Outcome {
    fixture.run(|| {
        let root = info_span!(
            "request",
            http.request.method = "GET",
            http.response.status_code = 500,
            url.query = "token=c4n4ry",
            url.path = "/orders/17",
            client.address = "192.0.2.77",
            note = "fine",
            otel.name = "GET https://ana:c4n4ry@shop.example",
        );
        root.in_scope(|| {
            info_span!(
                "pay",
                password = "c4n4ry",
                uri = "/pay?c4n4ry",
                card = 4_111_111_111_111_111_u64
            )
            .in_scope(|| error!(error = "postgres://shop:c4n4ry@db/shop", "refused {JWT}"));
            info_span!(
                "call",
                otel.kind = "client",
                network.peer.address = "198.51.100.8",
                url.full = "https://ana:c4n4ry@pay.example/charge?card=c4n4ry"
            )
            .in_scope(|| ());
            let mut own = fixture.tracer.start("own");
            own.set_attribute(KeyValue::new("card", 4_111_111_111_111_111_i64));
            let list = vec![StringValue::from(JWT), "fine".into()];
            own.set_attribute(KeyValue::new("list", Value::Array(Array::String(list))));
            own.set_status(Status::error("Bearer c4n4ryc4n4ry"));
            own.end();
        });
    });
    fixture.finish()
}

fn attribute<'a>(spans: &'a [SpanData], name: &str) -> Option<&'a Value> {
    let mut all = spans.iter().flat_map(|span| &span.attributes);
    all.find(|it| it.key.as_str() == name).map(|it| &it.value)
}

#[test]
fn spans_are_exported_without_the_secrets_that_rows_are_stored_without() {
    let outcome = run(Fixture::new(config("all")));
    assert_eq!(outcome.spans.len(), 4);
    let shown = format!("{:?}", outcome.spans);
    for secret in ["c4n4ry", "4111111111111111", "192.0.2.77"] {
        assert!(!shown.contains(secret), "{secret}: {shown}");
    }
    for (name, expected) in [
        ("url.query", "token=?"),
        ("url.path", "/orders/17"),
        ("client.address", "192.0.2.0"),
        ("note", "fine"),
        ("password", "[secret]"),
        ("uri", "/pay??"),
        // That of another service.
        ("network.peer.address", "198.51.100.8"),
        ("url.full", "https://pay.example/charge?card=?"),
    ] {
        let found = attribute(&outcome.spans, name).map(|it| it.as_str().into_owned());
        assert_eq!(found.as_deref(), Some(expected), "{name}");
    }
}

#[test]
fn what_is_not_looked_for_stays_in_spans_too() {
    let mut config = config("all");
    (config.redact.secrets, config.redact.cards) = (false, false);
    config.http.address = StoredAddress::Full;
    let outcome = run(Fixture::new(config));
    let shown = format!("{:?}", outcome.spans);
    for kept in [JWT, "4111111111111111", "192.0.2.77"] {
        assert!(shown.contains(kept), "{kept}: {shown}");
    }
}

#[test]
fn what_was_asked_for_is_exported_as_it_was_sent() {
    let fixture = Fixture::new(config("all"));
    fixture.run(|| {
        let root = info_span!(
            "request",
            http.request.method = "GET",
            http.response.status_code = 200,
            url.path = "//admin",
            url.query = "flag&b=c4n4ry&c4n4ry",
            http.target = "//x/healthz?flag&b=c4n4ry#c4n4ry",
            uri = "http://ana:c4n4ry@shop//x",
            path = "//ana:c4n4ry@host/p",
            url.full = "a.b:443",
            http.url = "*",
        );
        root.in_scope(|| ());
    });
    let outcome = fixture.finish();
    for (name, expected) in [
        ("url.path", "//admin"),
        ("url.query", "flag&b=?&?"),
        ("http.target", "//x/healthz?flag&b=?"),
        ("uri", "http://shop//x"),
        ("path", "//[secret]@host/p"),
        ("url.full", "a.b:443"),
        ("http.url", "*"),
    ] {
        let found = attribute(&outcome.spans, name).map(|it| it.as_str().into_owned());
        assert_eq!(found.as_deref(), Some(expected), "{name}");
    }
    let row = &outcome.rows[0];
    assert_eq!(row.url, "//admin?flag&b=?&?");
}
