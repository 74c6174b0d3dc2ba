//! [`ActivityPatch`]: what the application adds to the activity of the current request.

use std::error::Error;
use std::fmt::Display;

use serde::Serialize;
use serde_json::Value as Json;

use super::bodies::Captured;
use super::event::{ActivityEvent, Event};
use super::failure::{class_of, told};
use super::limits::Cut;
use crate::model::Outcome;
use crate::visits::Mark;

/// What the application knows about a request and its spans do not.
///
/// It is filled detached from everything - the closure of [`with_activity`](super::with_activity)
/// may take its time, log or panic - and merged afterwards. Of what several functions say about
/// one thing, the last wins.
///
/// ```
/// use tracing_activity::with_activity;
/// # let (order, shop) = (17, 3);
/// with_activity(|a| {
///     a.title("Checkout")
///         .object("order", order)           // what it was done to
///         .target("shop", shop)             // what else took part
///         .event("checkout")                // what was done
///         .user("u17")                      // who did it
///         .on_behalf_of("u4")               // and for whom
///         .data("total_cents", 1290)
/// });
/// ```
///
/// # How long a text may be
///
/// | what | bytes |
/// |---|---|
/// | kinds: of object, target, actor, event and error; the client program | 256 |
/// | identities: of object, target, user and session; the program's version | 1024 |
/// | title | 1024 |
/// | a key of `data` | 256 |
/// | a value of `data`, the error's message | `ACTIVITY_MAX_FIELD_BYTES` |
/// | all data | `ACTIVITY_MAX_ROW_BYTES` |
///
/// A longer text is cut, a longer list or object in `data` becomes `null`. The row is then flagged
/// `truncated`, and its `data` tells what was cut, under `activity.truncated`: the length that each
/// thing had, in bytes, such as `{"title":5000,"data.note":90000}`. [`Stats`](crate::Stats) counts
/// them all: `cut`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ActivityPatch {
    pub(super) title: Option<String>,
    pub(super) object: Option<(String, String)>,
    pub(super) target: Option<(String, String)>,
    pub(super) event: Option<Event>,
    pub(super) data: Vec<(String, Json)>,
    pub(super) error: Option<String>,
    pub(super) error_kind: Option<String>,
    pub(super) outcome: Option<Outcome>,
    /// Kind and identity of who did it; a user has no kind.
    pub(super) actor: Option<(String, String)>,
    pub(super) on_behalf_of: Option<String>,
    pub(super) session: Option<String>,
    pub(super) app: Option<(String, String)>,
    /// Bodies and headers, where their capture is switched on.
    pub(super) captured: Option<Box<Captured>>,
    /// The visit, where the middleware follows them.
    pub(super) visit: Option<Box<Mark>>,
    /// The visit ends with this request.
    pub(super) ends_visit: bool,
    pub(super) cut: Cut,
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

    /// What else took part, by kind and identity: the folder that a document was moved to, the
    /// member that a role was given to. Columns `target_kind` and `target_id`.
    #[must_use]
    pub fn target(mut self, kind: impl Into<String>, id: impl Display) -> Self {
        self.target = Some((kind.into(), id.to_string()));
        self
    }

    /// What was done to the object: column `ekind`. It replaces the event made of method and
    /// route, so that one request stays one row; and it replaces an event said before, with the
    /// data that a typed one brought.
    #[must_use]
    pub fn event(mut self, ekind: impl Into<String>) -> Self {
        self.event = Some(Event { ekind: ekind.into(), fields: Vec::new() });
        self
    }

    /// What was done, as a type of your own: its kind becomes column `ekind`, its fields keys of
    /// `data`. As [`event`](Self::event), it replaces what was said before. See [`ActivityEvent`].
    ///
    /// Its fields keep their meaning: where [`data`](Self::data) has a key of the same name, the
    /// event's stands. A value that cannot be written as a JSON object leaves `data` without it and
    /// the row flagged `incomplete`.
    #[must_use]
    pub fn record<E: ActivityEvent>(mut self, event: &E) -> Self {
        let fields = match serde_json::to_value(event) {
            Ok(Json::Object(map)) => map.into_iter().collect(),
            Ok(Json::Null) => Vec::new(),
            _ => {
                self.incomplete = true;
                Vec::new()
            }
        };
        self.event = Some(Event { ekind: E::EKIND.to_owned(), fields });
        event.annotate(self)
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

    /// What went wrong: column `error` gets the error and its sources, `error_kind` the name of its
    /// type, as `PayError` or `io::Error`. An error whose type is not known any more - behind
    /// `dyn Error` - has no name; give it one with [`error_kind`](Self::error_kind).
    ///
    /// A request that ends without a status by nature - a consumed message, a job - then counts as a
    /// server fault; where the status does not tell whose fault it was, say it with
    /// [`outcome`](Self::outcome).
    ///
    /// ```
    /// use tracing_activity::with_activity;
    /// # fn load() -> std::io::Result<()> { Ok(()) }
    /// if let Err(error) = load() {
    ///     with_activity(|a| a.error(&error));
    /// }
    /// ```
    #[must_use]
    pub fn error<E: Error + ?Sized>(mut self, error: &E) -> Self {
        self.error = Some(told(error));
        if let Some(class) = class_of::<E>() {
            self.error_kind = Some(class);
        }
        self
    }

    /// The class of what went wrong, where the error's type does not tell it: column `error_kind`.
    #[must_use]
    pub fn error_kind(mut self, kind: impl Into<String>) -> Self {
        self.error_kind = Some(kind.into());
        self
    }

    /// What went wrong, where there is no value of an error type: class and message.
    #[must_use]
    pub fn failure(mut self, kind: impl Into<String>, message: impl Display) -> Self {
        self.error_kind = Some(kind.into());
        self.error = Some(message.to_string());
        self
    }

    /// How it went, where the status does not tell: column `outcome`.
    #[must_use]
    pub fn outcome(mut self, outcome: Outcome) -> Self {
        self.outcome = Some(outcome);
        self
    }

    /// The user who did it: column `user_id`.
    #[must_use]
    pub fn user(self, user_id: impl Display) -> Self {
        self.actor("", user_id)
    }

    /// Who did it, where it is no user: a job, a key, another service. Columns `actor_kind` and
    /// `user_id`.
    #[must_use]
    pub fn actor(mut self, kind: impl Into<String>, id: impl Display) -> Self {
        self.actor = Some((kind.into(), id.to_string()));
        self
    }

    /// For whom it was done, where that is not who did it: the customer as whom somebody of the
    /// support is logged in. Column `on_behalf_of`.
    #[must_use]
    pub fn on_behalf_of(mut self, user_id: impl Display) -> Self {
        self.on_behalf_of = Some(user_id.to_string());
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

    /// The visit ends with this request, as it does when somebody logs out: what comes next from
    /// this browser is another visit. Where visits are followed by cookies, see `ACTIVITY_VISITS`;
    /// else it does nothing.
    #[must_use]
    pub fn end_visit(mut self) -> Self {
        self.ends_visit = true;
        self
    }

    #[cfg(feature = "tower")]
    pub(super) fn captured(mut self, captured: Captured) -> Self {
        self.captured = Some(Box::new(captured));
        self
    }

    #[cfg(feature = "tower")]
    pub(super) fn visit(mut self, visit: Mark) -> Self {
        self.visit = Some(Box::new(visit));
        self
    }
}

/// Of a repeated key the last value stands, at the place of the first.
pub(super) fn set(data: &mut Vec<(String, Json)>, key: String, value: Json) {
    match data.iter_mut().find(|(known, _)| *known == key) {
        Some((_, old)) => *old = value,
        None => data.push((key, value)),
    }
}
