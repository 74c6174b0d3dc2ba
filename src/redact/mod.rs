//! What must not leave a request, and how it is taken out.
//!
//! One [`Redactor`] serves the whole crate: every text of a row has passed it, and so has what the
//! middleware tells other subscribers about an address. Queries lose their values (`url`), names
//! that announce a secret lose theirs (`assignments`, `markup`), and secrets are known by their looks
//! (`secrets`, `cards`). `nature` knows which names say how a value is kept.
//!
//! Invariants:
//! - Time is linear in the text, also for one made to be slow.
//! - A text without secrets costs one look and no memory. Rows are looked at on the worker's
//!   thread, all texts of one at a time.
//! - When in doubt a text goes: a token cut in half, a quote that never ends.
//!
//! Absent on purpose: what is a column, and when this runs. That is `capture`'s and `middleware`'s.

mod assignments;
mod cards;
#[cfg(test)]
mod corpus;
mod glance;
mod issuers;
mod literals;
#[cfg(test)]
mod look_tests;
mod markup;
mod nature;
mod schemes;
mod secrets;
#[cfg(test)]
mod speed;
mod unescape;
mod url;
mod userinfo;
mod values;

use std::borrow::Cow;
use std::fmt;

use regex::{Captures, Regex};
use serde_json::Value as Json;

pub(crate) use nature::{Nature, ip};
use secrets::Patterns;
pub(crate) use secrets::is_secret_name;
#[cfg(feature = "tower")]
pub(crate) use url::path;
pub(crate) use url::{path_and_query, path_of, without_mark};

use crate::config::{JsonPointer, RedactConfig, RedactPattern};

/// What stands in the place of a value whose name announces a secret.
pub(crate) const SECRET: &str = "[secret]";
/// What stands in the place of a number of a payment card.
pub(crate) const CARD: &str = "[card]";

/// What stands in the place of a value that a JSON pointer names.
const HIDDEN: &str = RedactPattern::MARK;

/// Takes secrets out of texts.
#[derive(Debug, Clone)]
pub(crate) struct Redactor {
    config: RedactConfig,
}

impl Default for Redactor {
    fn default() -> Self {
        Self::new(&RedactConfig::default())
    }
}

impl Redactor {
    pub(crate) fn new(config: &RedactConfig) -> Self {
        Self { config: config.clone() }
    }

    /// The address without scheme, user, password and fragment, and with every value of its query
    /// replaced by `?`, unless it is listed.
    pub(crate) fn url(&self, url: &str) -> String {
        url::scrubbed(url, &self.config.keep_query)
    }

    /// The target of a request: as sent where it is a path, else like an address.
    pub(crate) fn target(&self, target: &str) -> String {
        url::scrubbed_target(target, &self.config.keep_query)
    }

    /// An address with its scheme.
    #[cfg(feature = "otlp")]
    pub(crate) fn url_with_scheme(&self, url: &str) -> String {
        format!("{}{}", url::scheme(url), self.url(url))
    }

    /// A target with its scheme, where it has one.
    #[cfg(feature = "otlp")]
    pub(crate) fn target_with_scheme(&self, target: &str) -> String {
        let scheme = if target.starts_with('/') { "" } else { url::scheme(target) };
        format!("{scheme}{}", self.target(target))
    }

    /// A query, without its `?`, whose values are replaced likewise.
    pub(crate) fn query<'a>(&'a self, query: &'a str) -> impl fmt::Display + 'a {
        url::Query { text: query, keep: &self.config.keep_query }
    }

    /// Whether values are hidden that their names call secret.
    pub(crate) fn hides_by_name(&self) -> bool {
        self.config.secrets
    }

    fn patterns(&self) -> impl Iterator<Item = &'static Patterns> {
        let secrets = self.config.secrets.then(Patterns::secrets);
        secrets.into_iter().chain(self.config.emails.then(Patterns::emails))
    }

    /// `false` when there is certainly no secret in this text, nor in any part of it. An expression of
    /// the application's own may match a part and not the whole: `^`, `\b`.
    pub(crate) fn may_change(&self, text: &str) -> bool {
        self.patterns().any(|patterns| patterns.may_match(text))
            || self.config.secrets && url::may_hold_query(text)
            || self.config.cards && self.may_hold_card(text)
            || self.config.pattern.is_some()
    }

    fn may_hold_card(&self, text: &str) -> bool {
        // JSON may escape digits. The patterns have looked for that, where secrets are looked for.
        cards::may_hold(text) || !self.config.secrets && text.contains(secrets::ESCAPE)
    }

    /// Takes the secrets out of a text. Where it is JSON, it stays JSON.
    pub(crate) fn text(&self, text: &mut String) {
        self.named_text(text, None);
    }

    /// The same of a value whose field or key has this name.
    pub(crate) fn named_text(&self, text: &mut String, name: Option<&str>) {
        if self.may_change(text) {
            self.take_out(text, name);
        }
    }

    /// Takes the secrets out of what the application calls an id. It names an object, so it stays as it
    /// is but for what is a credential by its looks: no number of it is taken for a card's.
    pub(crate) fn id(&self, text: &mut String) {
        if self.may_change(text) {
            // An address may be an id; its query is none.
            if self.config.secrets {
                url::scrub_queries(text, &self.config.keep_query);
            }
            for patterns in self.patterns() {
                patterns.replace_looks(text);
            }
            if let Some(own) = &self.config.pattern {
                replace(own.regex(), RedactPattern::MARK, text);
            }
        }
    }

    /// The same behind the first look.
    fn take_out(&self, text: &mut String, name: Option<&str>) {
        if text.trim_start().starts_with(['{', '['])
            && let Ok(mut json) = serde_json::from_str::<Json>(text)
        {
            self.json(&mut json);
            // Whether or not it changed: of a repeated key the text has what was not looked at.
            *text = json.to_string();
            return;
        }
        self.take_out_written(text, name);
        if self.config.secrets
            && let Some(mut plain) = unescape::plain(text)
        {
            let before = plain.clone();
            self.take_out_written(&mut plain, name);
            if plain != before {
                *text = plain;
            }
        }
    }

    /// The same of a text as it is written.
    fn take_out_written(&self, text: &mut String, name: Option<&str>) {
        if self.config.secrets {
            userinfo::replace(text);
            url::scrub_queries(text, &self.config.keep_query);
        }
        for patterns in self.patterns() {
            patterns.replace(text);
        }
        if self.config.cards {
            cards::replace(text, name);
        }
        if let Some(own) = &self.config.pattern {
            replace(own.regex(), RedactPattern::MARK, text);
        }
    }

    /// Whether this integer is one that must not be kept; `name` is that of its field or key.
    #[inline]
    pub(crate) fn hides_number(&self, name: &str, number: u64) -> bool {
        const LEAST: u64 = 10_000_000_000_000;
        number >= LEAST && self.config.cards && cards::is_card(number, Some(name))
    }

    /// Whether the value of this key is hidden.
    pub(crate) fn hides_key(&self, key: &str) -> bool {
        self.config.secrets && is_secret_name(key)
    }

    /// Whether this text, whose name announces a secret, is one: `null` and "is too short" are none.
    pub(crate) fn is_secret(text: &str) -> bool {
        !values::is_harmless(text)
    }

    /// Takes the secrets out of a value; it stays JSON. Nesting is the parser's to bound.
    pub(crate) fn json(&self, value: &mut Json) {
        self.named_json(value, None);
    }

    fn named_json(&self, value: &mut Json, name: Option<&str>) {
        match value {
            Json::String(text) => self.named_text(text, name),
            Json::Number(number)
                if number
                    .as_u64()
                    .is_some_and(|it| self.hides_number(name.unwrap_or_default(), it)) =>
            {
                *value = CARD.into();
            }
            Json::Array(items) => {
                self.pair(items);
                for item in items {
                    self.named_json(item, name);
                }
            }
            Json::Object(map) => {
                self.named_by_a_value(map);
                for (key, value) in std::mem::take(map) {
                    let (key, value) = self.entry(key, value);
                    map.insert(key, value);
                }
            }
            _ => {}
        }
    }

    /// `["password", "x"]`, as headers and fields of forms are listed.
    fn pair(&self, items: &mut [Json]) {
        if let [Json::String(name), Json::String(text)] = items
            && (self.hides_key(name) || self.config.secrets && is_secret_option(name))
            && !values::is_field(text)
            && Self::is_secret(text)
        {
            SECRET.clone_into(text);
        }
    }

    /// `{"name": "password", "value": "x"}`.
    fn named_by_a_value(&self, map: &mut serde_json::Map<String, Json>) {
        const NAMES: [&str; 9] =
            ["name", "key", "field", "header", "k", "id", "label", "Name", "Key"];
        const VALUES: [&str; 7] = ["value", "val", "v", "content", "text", "data", "Value"];
        let is_secret =
            |key: &&str| map.get(*key).and_then(Json::as_str).is_some_and(|it| self.hides_key(it));
        if !NAMES.iter().any(is_secret) {
            return;
        }
        for key in VALUES {
            if let Some(value) = map.get_mut(key)
                && !values::is_harmless_json(value)
            {
                *value = SECRET.into();
            }
        }
    }

    /// Hides the value at a place of a document, where there is one.
    pub(crate) fn hide(value: &mut Json, pointer: &JsonPointer) {
        let mut places = vec![value];
        for segment in pointer.segments() {
            let within = places.into_iter().flat_map(|place| -> Vec<&mut Json> {
                match (place, segment) {
                    (Json::Array(items), "*") => items.iter_mut().collect(),
                    (Json::Object(map), "*") => map.values_mut().collect(),
                    (Json::Array(items), _) => {
                        let item = segment.parse::<usize>().ok();
                        item.and_then(|index| items.get_mut(index)).into_iter().collect()
                    }
                    (Json::Object(map), _) => map.get_mut(segment).into_iter().collect(),
                    _ => Vec::new(),
                }
            });
            places = within.collect();
        }
        for place in places {
            *place = HIDDEN.into();
        }
    }

    /// Takes the secrets out of a key and its value.
    pub(crate) fn entry(&self, mut key: String, mut value: Json) -> (String, Json) {
        if !self.hides_key(&key) {
            self.named_json(&mut value, Some(&key));
        } else if !values::is_harmless_json(&value) {
            value = SECRET.into();
        }
        self.text(&mut key);
        (key, value)
    }
}

/// `--password`.
fn is_secret_option(name: &str) -> bool {
    name.strip_prefix("--").is_some_and(is_secret_name)
}

/// Puts `mark` where `rule` matches, but for a `?`: that is no value any more.
fn replace(rule: &Regex, mark: &str, text: &mut String) {
    let replaced = rule.replace_all(text, |found: &Captures<'_>| {
        let mut out = String::new();
        if found[0].ends_with("=?") || found[0].ends_with("= ?") {
            out.push_str(&found[0]);
        } else {
            found.expand(mark, &mut out);
        }
        out
    });
    if let Cow::Owned(replaced) = replaced {
        *text = replaced;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn redactor(change: impl FnOnce(&mut RedactConfig)) -> Redactor {
        let mut config = RedactConfig::default();
        change(&mut config);
        Redactor::new(&config)
    }

    fn out(redactor: &Redactor, text: &str) -> String {
        let mut text = text.to_owned();
        redactor.text(&mut text);
        text
    }

    #[test]
    fn what_is_looked_for_can_be_chosen() {
        let text = "ana@shop.example paid with 4111111111111111, password=hunter2, ticket T-77";
        for (redactor, expected) in [
            (redactor(|_| {}), "ana@shop.example paid with [card], password=[secret], ticket T-77"),
            (
                redactor(|it| it.emails = true),
                "[email] paid with [card], password=[secret], ticket T-77",
            ),
            (redactor(|it| (it.secrets, it.cards) = (false, false)), text),
            (
                redactor(|it| it.pattern = Some("T-[0-9]+".parse().unwrap())),
                "ana@shop.example paid with [card], password=[secret], ticket [redacted]",
            ),
        ] {
            assert_eq!(out(&redactor, text), expected);
        }
    }

    #[test]
    fn json_stays_json() {
        let mut value = serde_json::json!({
            "password": {"old": "hunter1", "new": "hunter2"},
            "card": 4_111_111_111_111_111_u64,
            "list": ["Bearer hunter2hunter2", 1, null],
            "note": "fine",
            "token": null,
        });
        let redactor = redactor(|_| {});
        redactor.json(&mut value);
        let expected = serde_json::json!({
            "password": "[secret]",
            "card": "[card]",
            "list": ["Bearer [secret]", 1, null],
            "note": "fine",
            "token": null,
        });
        assert_eq!(value, expected);
    }

    #[test]
    fn queries_of_addresses_inside_of_texts_lose_their_values() {
        let redactor = redactor(|it| it.keep_query = vec!["page".to_owned()]);
        for (text, expected) in [
            (
                "GET https://h.example/p?key=c4n4ry&sig=c4n4ry&page=2: 502",
                "GET https://h.example/p?key=?&sig=?&page=2: 502",
            ),
            (
                "(see http://h?c4n4ry), or ws://h/?a=c4n4ry#c4n4ry.",
                "(see http://h??), or ws://h/?a=?.",
            ),
            (r#"{:?}: "https://h/p?password=c4n4ry","#, r#"{:?}: "https://h/p?password=?","#),
            (
                r#"cut {"u":"https:\/\/h\/p?to=\/a&key=c4n4ry","v":"#,
                r#"cut {"u":"https:\/\/h\/p?to=?&key=?","v":"#,
            ),
            ("is it http://h? Yes, a=b", "is it http://h? Yes, a=b"),
        ] {
            assert_eq!(out(&redactor, text), expected);
            assert_eq!(out(&redactor, expected), expected, "once is enough");
        }
    }

    #[test]
    fn a_repeated_or_escaped_key_hides_nothing() {
        for (text, expected) in [
            (r#"{"password":"c4n4ry","password":null}"#, r#"{"password":null}"#),
            (r#"{"a":{"card":4111111111111111,"card":1}}"#, r#"{"a":{"card":1}}"#),
            (r#"{"p\u0061ssword":"c4n4ry"}"#, r#"{"password":"[secret]"}"#),
            ("\n {\"p\\u0061ssword\":\"c4n4ry\"}", r#"{"password":"[secret]"}"#),
        ] {
            assert_eq!(out(&redactor(|_| {}), text), expected);
        }
    }

    #[test]
    fn a_pointer_hides_what_it_points_at_and_nothing_else() {
        let document = serde_json::json!({
            "user": {"name": "ana", "age": 7},
            "items": [{"price": 1, "id": "a"}, {"price": {"net": 2}, "id": "b"}, 3],
        });
        for (pointer, hidden) in [
            ("/user/name", vec!["/user/name"]),
            ("/items/*/price", vec!["/items/0/price", "/items/1/price"]),
            ("/items/1", vec!["/items/1"]),
            ("/*/name", vec!["/user/name"]),
            ("/nowhere/at/all", vec![]),
            ("/items/x", vec![]),
        ] {
            let mut expected = document.clone();
            for place in hidden {
                *expected.pointer_mut(place).unwrap() = HIDDEN.into();
            }
            let mut value = document.clone();
            Redactor::hide(&mut value, &pointer.parse().unwrap());
            assert_eq!(value, expected, "{pointer}");
        }
    }

    proptest! {
        #[test]
        fn any_text_can_be_redacted_and_once_is_enough(text in "(\\PC|[a-z:=\"'\\\\ ]|password|<token>|</|eyJ|4111 ){0,40}") {
            let redactor = redactor(|it| it.emails = true);
            let once = out(&redactor, &text);
            prop_assert_eq!(out(&redactor, &once), once);
        }
    }
}
