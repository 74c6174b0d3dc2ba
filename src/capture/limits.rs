//! Bounds on what the application says of a request, and the account of what they cut.

use serde_json::{Map, Value as Json};

use super::fields::FieldLimits;
use super::patch::{ActivityPatch, set};

/// Kinds and names: columns of few values.
const KIND_BYTES: usize = 256;
/// Identities.
const ID_BYTES: usize = 1024;
const TITLE_BYTES: usize = 1024;
const KEY_BYTES: usize = 256;

/// Things that were cut whose names are told.
const NAMED: usize = 16;

/// The key of `data` that tells what was cut.
pub(super) const KEY: &str = "activity.truncated";

/// What was cut or left out: how often, and the first of them by name, with the bytes it had.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Cut {
    pub(super) count: u32,
    named: Vec<(String, usize)>,
}

impl Cut {
    fn note(&mut self, name: &str, bytes: usize) {
        self.count = self.count.saturating_add(1);
        if self.named.len() < NAMED {
            self.named.push((name.to_owned(), bytes));
        }
    }

    /// An entry of `data` was left out.
    pub(super) fn left_out(&mut self, key: &str, bytes: usize) {
        self.note(&in_data(key), bytes);
    }

    fn merge(&mut self, newer: Self) {
        self.count = self.count.saturating_add(newer.count);
        let room = NAMED - self.named.len().min(NAMED);
        self.named.extend(newer.named.into_iter().take(room));
    }

    /// The lengths that things had, by name; nothing where nothing was cut.
    pub(super) fn told(&self) -> Option<Json> {
        let told: Map<_, _> =
            self.named.iter().map(|(name, bytes)| (name.clone(), (*bytes).into())).collect();
        (!told.is_empty()).then_some(Json::Object(told))
    }

    fn text(&mut self, name: &str, text: &mut String, max: usize) {
        if text.len() > max {
            self.note(name, text.len());
            text.truncate(text.floor_char_boundary(max));
        }
    }

    /// Cuts the keys and values of a JSON object.
    fn entries(&mut self, entries: &mut [(String, Json)], limits: &FieldLimits) {
        let max = limits.field_bytes;
        for (key, value) in entries {
            if key.len() > max.min(KEY_BYTES) {
                self.note("data", key.len());
                key.truncate(key.floor_char_boundary(max.min(KEY_BYTES)));
            }
            match value {
                Json::String(text) if text.len() > max => {
                    self.note(&in_data(key), text.len());
                    text.truncate(text.floor_char_boundary(max));
                }
                Json::Array(_) | Json::Object(_) => {
                    let bytes = json_bytes(value);
                    if bytes > max {
                        self.note(&in_data(key), bytes);
                        *value = Json::Null;
                    }
                }
                _ => {}
            }
        }
    }
}

fn in_data(key: &str) -> String {
    format!("data.{key}")
}

impl ActivityPatch {
    /// Takes over what was said later.
    pub(super) fn merge(&mut self, mut newer: Self, limits: &FieldLimits) {
        newer.limit(limits);
        self.touched = true;
        take(&mut self.title, newer.title);
        take(&mut self.object, newer.object);
        take(&mut self.target, newer.target);
        take(&mut self.event, newer.event);
        take(&mut self.error, newer.error);
        take(&mut self.error_kind, newer.error_kind);
        take(&mut self.outcome, newer.outcome);
        take(&mut self.actor, newer.actor);
        take(&mut self.on_behalf_of, newer.on_behalf_of);
        take(&mut self.session, newer.session);
        take(&mut self.app, newer.app);
        take(&mut self.visit, newer.visit);
        match (&mut self.captured, newer.captured) {
            (Some(old), Some(new)) => old.merge(*new),
            (old, new) => take(old, new),
        }
        self.incomplete |= newer.incomplete;
        self.cut.merge(newer.cut);
        for (key, value) in newer.data {
            let known = self.data.iter().any(|(known, _)| *known == key);
            let bytes = key.len() + json_bytes(&value);
            if !known && self.data.len() >= limits.fields
                || self.data_bytes.saturating_add(bytes) > limits.row_bytes
            {
                self.cut.left_out(&key, bytes);
                continue;
            }
            // Values that are replaced count on: the bound is on what is merged in all.
            self.data_bytes += bytes;
            set(&mut self.data, key, value);
        }
    }

    /// Cuts every text to its bound.
    pub(super) fn limit(&mut self, limits: &FieldLimits) {
        self.touched = true;
        let cut = &mut self.cut;
        let max = |bytes: usize| bytes.min(limits.field_bytes);
        let pairs = [
            ("okind", "oid", &mut self.object, ID_BYTES),
            ("target_kind", "target_id", &mut self.target, ID_BYTES),
            ("actor_kind", "user_id", &mut self.actor, ID_BYTES),
            ("app", "app_version", &mut self.app, ID_BYTES),
        ];
        for (first, second, pair, bytes) in pairs {
            if let Some((kind, id)) = pair {
                cut.text(first, kind, max(KIND_BYTES));
                cut.text(second, id, max(bytes));
            }
        }
        let texts = [
            ("title", &mut self.title, max(TITLE_BYTES)),
            ("error", &mut self.error, limits.field_bytes),
            ("error_kind", &mut self.error_kind, max(KIND_BYTES)),
            ("on_behalf_of", &mut self.on_behalf_of, max(ID_BYTES)),
            ("session_id", &mut self.session, max(ID_BYTES)),
        ];
        for (name, text, max) in texts {
            if let Some(text) = text {
                cut.text(name, text, max);
            }
        }
        if let Some(event) = &mut self.event {
            cut.text("ekind", &mut event.ekind, max(KIND_BYTES));
            cut.entries(&mut event.fields, limits);
            let (mut number, mut bytes) = (0, 0_usize);
            event.fields.retain(|(key, value)| {
                let entry = key.len() + json_bytes(value);
                let fits = number < limits.fields && bytes + entry <= limits.row_bytes;
                if fits {
                    (number, bytes) = (number + 1, bytes + entry);
                } else {
                    cut.left_out(key, entry);
                }
                fits
            });
        }
        cut.entries(&mut self.data, limits);
    }

    /// Every text in it but those of `data`.
    pub(super) fn texts(&self) -> impl Iterator<Item = &String> {
        let pairs = [&self.object, &self.target, &self.actor, &self.app];
        let pairs = pairs.into_iter().flatten().flat_map(|(a, b)| [a, b]);
        let texts = [&self.title, &self.error, &self.error_kind, &self.on_behalf_of, &self.session];
        let event = self.event.iter().map(|event| &event.ekind);
        pairs.chain(texts.into_iter().flatten()).chain(event)
    }

    /// Memory held, about.
    pub(super) fn bytes(&self) -> usize {
        if !self.touched {
            return 0;
        }
        let fields = self.event.iter().flat_map(|event| &event.fields);
        let data = self.data.iter().chain(fields);
        let data = data.map(|(key, value)| 64 + key.len() + json_bytes(value));
        let cut = self.cut.named.iter().map(|(name, _)| 32 + name.len());
        self.texts().map(String::len).sum::<usize>()
            + data.sum::<usize>()
            + cut.sum::<usize>()
            + self.captured.as_ref().map_or(0, |captured| captured.bytes())
            + self.visit.as_ref().map_or(0, |visit| visit.bytes())
    }
}

/// The size of a JSON value in text, about: escapes are not counted.
fn json_bytes(value: &Json) -> usize {
    match value {
        Json::Null | Json::Bool(_) => 5,
        Json::Number(_) => 12,
        Json::String(text) => text.len() + 2,
        Json::Array(items) => 2 + items.iter().map(|item| 1 + json_bytes(item)).sum::<usize>(),
        Json::Object(map) => {
            2 + map.iter().map(|(key, value)| 4 + key.len() + json_bytes(value)).sum::<usize>()
        }
    }
}

fn take<T>(old: &mut Option<T>, new: Option<T>) {
    if new.is_some() {
        *old = new;
    }
}
