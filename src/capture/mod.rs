//! From spans to activities: the `tracing` layer and what the application says to it.
//!
//! How a request becomes an activity:
//!
//! 1. `layer` sees a span begin. `callsite` knows from its metadata whether it is a request, by
//!    the rules of `evidence`; if it is, and no activity encloses it, a `buffer` begins to record it
//!    and a `root` cell is hung on the span: the only extension we ever store.
//! 2. Entering the span moves the buffer into `thread`; child spans, events and fields are
//!    appended to it without a lock. What happens elsewhere - on other threads, inside a `Debug`
//!    that logs - goes through `registry`, reaches the root cell as an operation and is applied in
//!    order.
//!    `head` notes when the head of the answer is there.
//! 3. The request ends: its span closes, or the application says so. `root` seals the buffer:
//!    `outcome` judges how it went, `sampling` decides about its trace, and the buffer goes to the
//!    queue. A request is sealed once; what comes later is counted. One that is given up, at its age or
//!    because the process ends, has its row then, with what is known of it; if it ends after all, a
//!    second row of the same id, marked as a late end, tells the whole.
//! 4. On the worker's thread `mapping` and `trace` turn the buffer into an
//!    [`Activity`](crate::model::Activity), and the buffer returns to the pool.
//!
//! How the layer was set up is `installed`'s and `notices`' concern: which layer a subscriber holds, and
//! what keeps it from its work.
//!
//! What the application says of a request is a `patch`, filled apart and merged: `event` is a kind of
//! activity as a type, `failure` an error's name and words, and `limits` bounds them all and keeps
//! account of what that cuts.
//!
//! Invariants:
//! - The application's code - a `Debug`, a closure given to [`with_activity`] - runs under no lock
//!   of ours and with no span extension held.
//! - No callback blocks, panics into the application or emits `tracing` data of its own. Caps
//!   bound what a request may record; what is left out is flagged and counted.
//! - Registry ids are reused after a span closes: they name open spans only and never leave.
//! - Every request that is counted as created meets exactly one fate.
//!
//! Absent on purpose: I/O, clocks other than `shared`'s, column names.

#[cfg_attr(not(feature = "tower"), allow(dead_code, reason = "the middleware fills it"))]
mod bodies;
pub(crate) mod bridge;
mod buffer;
mod callsite;
mod cleaning;
mod current;
mod event;
mod evidence;
mod failure;
mod fields;
mod fingerprint;
mod fork;
mod head;
mod installed;
mod layer;
mod limits;
mod mapping;
mod mode;
mod names;
mod notices;
mod outcome;
pub(crate) mod panics;
mod patch;
mod registry;
mod root;
mod runtime;
mod shared;
mod sync;
mod thread;
mod trace;

#[cfg(feature = "axum")]
pub(crate) use current::is_public_route;
pub(crate) use current::outside;
#[cfg(feature = "tower")]
pub(crate) use current::{
    Breakage, Captured, CapturedBody, InCharge, Listener, REQUEST_TARGET, guarded, is_ending_for,
    is_in_task,
};
pub use current::{CurrentActivity, with_activity};
pub use event::ActivityEvent;
pub use layer::ActivityLayer;
pub use patch::ActivityPatch;
pub(crate) use shared::{Parts, Shared};
