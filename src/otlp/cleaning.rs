//! The last look at a span before it is exported: what does not leave in a row leaves in no span.
//!
//! It runs where spans are exported, on the batch processor's thread, and not in requests.

use std::borrow::Cow;

use opentelemetry::trace::{SpanKind, Status};
use opentelemetry::{Array, KeyValue, StringValue, Value};
use opentelemetry_sdk::trace::SpanData;

use crate::config::{Config, StoredAddress};
use crate::redact::{CARD, Nature, Redactor, SECRET, ip, without_mark};

/// Takes out of spans what is taken out of rows.
#[derive(Debug, Clone)]
pub(super) struct Cleaner {
    redactor: Redactor,
    address: StoredAddress,
}

impl Cleaner {
    pub(super) fn new(config: &Config) -> Self {
        Self { redactor: Redactor::new(&config.redact), address: config.http.address }
    }

    pub(super) fn clean(&self, span: &mut SpanData) {
        // The peer of a call that the service itself makes is no client.
        let calls = matches!(span.span_kind, SpanKind::Client | SpanKind::Producer);
        self.name(&mut span.name);
        self.attributes(&mut span.attributes, calls);
        for event in &mut span.events.events {
            self.name(&mut event.name);
            self.attributes(&mut event.attributes, calls);
        }
        for link in &mut span.links.links {
            self.attributes(&mut link.attributes, calls);
        }
        if let Status::Error { description } = &mut span.status {
            self.name(description);
        }
    }

    fn name(&self, name: &mut Cow<'static, str>) {
        if self.redactor.may_change(name) {
            self.redactor.text(name.to_mut());
        }
    }

    fn attributes(&self, attributes: &mut [KeyValue], calls: bool) {
        for KeyValue { key, value, .. } in attributes {
            let address = |text: &str| ip(text, self.address).map(|it| it.to_canonical());
            match (Nature::of(key.as_str()), &mut *value) {
                (Nature::Secret, value) if self.redactor.hides_by_name() => {
                    let is_secret = match &*value {
                        Value::Bool(_) => false,
                        Value::String(text) => Redactor::is_secret(text.as_str()),
                        _ => true,
                    };
                    if is_secret {
                        *value = SECRET.into();
                    }
                }
                (Nature::Ip, Value::String(text)) if !(calls && is_peer(key.as_str())) => {
                    let address = address(text.as_str());
                    *text = address.map(|it| it.to_string()).unwrap_or_default().into();
                }
                (Nature::Query, Value::String(text)) => {
                    let query = without_mark(text.as_str());
                    let query = self.redactor.query(query).to_string();
                    *text = query.into();
                }
                (nature @ (Nature::Address | Nature::Target), Value::String(text)) => {
                    // The conventions want absolute addresses with their scheme.
                    let mut url = if nature == Nature::Target {
                        self.redactor.target_with_scheme(text.as_str())
                    } else {
                        self.redactor.url_with_scheme(text.as_str())
                    };
                    self.redactor.text(&mut url);
                    *text = url.into();
                }
                (_, value) => self.value(key.as_str(), value),
            }
        }
    }

    fn value(&self, name: &str, value: &mut Value) {
        let hides =
            |number: i64| self.redactor.hides_number(name, u64::try_from(number).unwrap_or(0));
        match value {
            Value::String(text) => self.text(name, text),
            Value::Array(Array::String(texts)) => {
                for it in texts {
                    self.text(name, it);
                }
            }
            Value::I64(number) if hides(*number) => *value = CARD.into(),
            Value::Array(Array::I64(numbers)) if numbers.iter().any(|it| hides(*it)) => {
                *value = CARD.into();
            }
            _ => {}
        }
    }

    fn text(&self, name: &str, value: &mut StringValue) {
        if self.redactor.may_change(value.as_str()) {
            let mut text = value.as_str().to_owned();
            self.redactor.named_text(&mut text, Some(name));
            *value = text.into();
        }
    }
}

/// Whether an attribute of this name tells who is at the other end of the connection.
fn is_peer(name: &str) -> bool {
    matches!(name, "network.peer.address" | "net.peer.ip" | "net.sock.peer.addr")
}
