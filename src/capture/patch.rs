//! [`ActivityPatch`]: what the application adds to the activity of the current request.

use std::fmt::Display;

use serde::Serialize;
use serde_json::Value as Json;

use super::bodies::Captured;
use super::fields::FieldLimits;
use crate::model::Outcome;

/// What the application knows about a request and its spans do not.
///
/// It is filled detached from everything - the closure of [`with_activity`](super::with_activity)
/// may take its time, log or panic - and merged afterwards. Of what several functions say about
/// one thing, the last wins.
///
/// ```
/// use tracing_activity::with_activity;
/// # let order = 17;
/// with_activity(|a| {
///     a.title("Checkout").object("order", order).event("checkout").data("total_cents", 1290)
/// });
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ActivityPatch {
    pub(super) title: Option<String>,
    pub(super) object: Option<(String, String)>,
    pub(super) event: Option<String>,
    pub(super) data: Vec<(String, Json)>,
    pub(super) error: Option<(String, String)>,
    pub(super) outcome: Option<Outcome>,
    pub(super) user: Option<String>,
    pub(super) session: Option<String>,
    pub(super) app: Option<(String, String)>,
    /// Bodies and headers, where their capture is switched on.
    pub(super) captured: Option<Box<Captured>>,
    pub(super) truncated: bool,
    pub(super) incomplete: bool,
    /// Bytes of data merged into it.
    pub(super) data_bytes: usize,
    /// Something is in it.
    pub(super) touched: bool,
}

#[allow(clippy::needless_pass_by_value, reason = "a call reads better without `&`")]
impl ActivityPatch {
    /// A title for people: column `title`.
    #[must_use]
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = Some(title.into());
        self
    }

    /// The object acted on, by kind and identity: columns `okind` and `oid`.
    #[must_use]
    pub fn object(mut self, okind: impl Into<String>, oid: impl Display) -> Self {
        self.object = Some((okind.into(), oid.to_string()));
        self
    }

    /// What was done to the object: column `ekind`. It replaces the event made of method and
    /// route, so that one request stays one row.
    #[must_use]
    pub fn event(mut self, ekind: impl Into<String>) -> Self {
        self.event = Some(ekind.into());
        self
    }

    /// A key of the JSON object in column `data`. A value that cannot be written as JSON is left
    /// out and the row flagged `incomplete`.
    #[must_use]
    pub fn data(mut self, key: impl Into<String>, value: impl Serialize) -> Self {
        match serde_json::to_value(value) {
            Ok(value) => set(&mut self.data, key.into(), value),
            Err(_) => self.incomplete = true,
        }
        self
    }

    /// What went wrong: columns `error_kind` and `error`. A request that ends without a status by
    /// nature - a consumed message, a job - then counts as a server fault; where the status does not
    /// tell whose fault it was, say it with [`outcome`](Self::outcome).
    #[must_use]
    pub fn error(mut self, kind: impl Into<String>, message: impl Display) -> Self {
        self.error = Some((kind.into(), message.to_string()));
        self
    }

    /// How it went, where the status does not tell: column `outcome`.
    #[must_use]
    pub fn outcome(mut self, outcome: Outcome) -> Self {
        self.outcome = Some(outcome);
        self
    }

    /// Who did it: column `user_id`.
    #[must_use]
    pub fn user(mut self, user_id: impl Display) -> Self {
        self.user = Some(user_id.to_string());
        self
    }

    /// The session it was done in: column `session_id`.
    #[must_use]
    pub fn session(mut self, session_id: impl Display) -> Self {
        self.session = Some(session_id.to_string());
        self
    }

    /// The client program and its version: columns `app` and `app_version`.
    #[must_use]
    pub fn app(mut self, app: impl Into<String>, version: impl Into<String>) -> Self {
        self.app = Some((app.into(), version.into()));
        self
    }

    #[cfg(feature = "tower")]
    pub(super) fn captured(mut self, captured: Captured) -> Self {
        self.captured = Some(Box::new(captured));
        self
    }

    pub(super) fn merge(&mut self, mut newer: Self, limits: &FieldLimits) {
        newer.limit(limits);
        self.touched = true;
        take(&mut self.title, newer.title);
        take(&mut self.object, newer.object);
        take(&mut self.event, newer.event);
        take(&mut self.error, newer.error);
        take(&mut self.outcome, newer.outcome);
        take(&mut self.user, newer.user);
        take(&mut self.session, newer.session);
        take(&mut self.app, newer.app);
        match (&mut self.captured, newer.captured) {
            (Some(old), Some(new)) => old.merge(*new),
            (old, new) => take(old, new),
        }
        self.truncated |= newer.truncated;
        self.incomplete |= newer.incomplete;
        for (key, value) in newer.data {
            let known = self.data.iter().any(|(known, _)| *known == key);
            let bytes = key.len() + json_bytes(&value);
            if !known && self.data.len() >= limits.fields
                || self.data_bytes.saturating_add(bytes) > limits.row_bytes
            {
                self.truncated = true;
                continue;
            }
            // Values that are replaced count on: the bound is on what is merged in all.
            self.data_bytes += bytes;
            set(&mut self.data, key, value);
        }
    }

    /// Cuts every text to the cap of a field.
    pub(super) fn limit(&mut self, limits: &FieldLimits) {
        self.touched = true;
        let truncated = &mut self.truncated;
        let texts = [&mut self.title, &mut self.event, &mut self.user, &mut self.session];
        let pairs = [&mut self.object, &mut self.error, &mut self.app];
        let pairs = pairs.into_iter().flatten().flat_map(|(a, b)| [a, b]);
        for text in texts.into_iter().flatten().chain(pairs) {
            if text.len() > limits.field_bytes {
                text.truncate(text.floor_char_boundary(limits.field_bytes));
                *truncated = true;
            }
        }
        for (key, value) in &mut self.data {
            if key.len() > limits.field_bytes {
                key.truncate(key.floor_char_boundary(limits.field_bytes));
                *truncated = true;
            }
            match value {
                Json::String(text) if text.len() > limits.field_bytes => {
                    text.truncate(text.floor_char_boundary(limits.field_bytes));
                    *truncated = true;
                }
                Json::Array(_) | Json::Object(_) if json_bytes(value) > limits.field_bytes => {
                    *value = Json::Null;
                    *truncated = true;
                }
                _ => {}
            }
        }
    }

    /// Memory held, about.
    pub(super) fn bytes(&self) -> usize {
        if !self.touched {
            return 0;
        }
        let texts = [&self.title, &self.event, &self.user, &self.session];
        let pairs = [&self.object, &self.error, &self.app];
        let data = self.data.iter().map(|(key, value)| 64 + key.len() + json_bytes(value));
        texts.into_iter().flatten().map(String::len).sum::<usize>()
            + pairs.into_iter().flatten().map(|(a, b)| a.len() + b.len()).sum::<usize>()
            + data.sum::<usize>()
            + self.captured.as_ref().map_or(0, |captured| captured.bytes())
    }
}

fn set(data: &mut Vec<(String, Json)>, key: String, value: Json) {
    match data.iter_mut().find(|(known, _)| *known == key) {
        Some((_, old)) => *old = value,
        None => data.push((key, value)),
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
