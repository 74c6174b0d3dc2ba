//! [`ActivityEvent`]: what was done, as a type of the application's own.

use serde::Serialize;
use serde_json::Value as Json;

use super::patch::ActivityPatch;

/// A kind of activity as a type: what was done is its name, what belongs to it are its fields.
///
/// Every activity of the kind then has the same keys in `data`, of the same types, whichever
/// function says it. A field that is `None` is `null`; one that is renamed or left out by serde's
/// attributes is so here, too. Changing the type changes what queries find: a field that gets
/// another meaning is better a new field, and a kind that gets another meaning a new kind.
///
/// ```
/// use serde::Serialize;
/// use tracing_activity::{ActivityEvent, ActivityPatch, with_activity};
///
/// #[derive(Serialize)]
/// struct OrderPaid {
///     #[serde(skip)]
///     order: u64,
///     total_cents: u64,
///     coupon: Option<String>,
/// }
///
/// impl ActivityEvent for OrderPaid {
///     const EKIND: &'static str = "order_paid";
///
///     fn annotate(&self, activity: ActivityPatch) -> ActivityPatch {
///         activity.object("order", self.order)
///     }
/// }
///
/// let paid = OrderPaid { order: 17, total_cents: 1290, coupon: None };
/// with_activity(|a| a.record(&paid));
/// // ekind order_paid, okind order, oid 17, data {"coupon":null,"total_cents":1290}
/// ```
pub trait ActivityEvent: Serialize {
    /// What was done: column `ekind`.
    const EKIND: &'static str;

    /// Says what else is known with the event: its object, its target, a title.
    #[must_use]
    fn annotate(&self, activity: ActivityPatch) -> ActivityPatch {
        activity
    }
}

/// What was said of what was done.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Event {
    pub(super) ekind: String,
    /// The fields of a typed event.
    pub(super) fields: Vec<(String, Json)>,
}
