//! What an activity *is*, as plain data.
//!
//! One [`Activity`] is one finished request: who did what to which object, how it went, how long
//! it took, under which deploy, and - where it was kept - the [`Trace`] of its spans. Capture
//! builds it, sampling and sinks read it, `schema` turns it into columns.
//!
//! Invariants:
//! - Every type here is owned data without locks, clocks, channels or handles: building, cloning
//!   and dropping one has no effect anywhere else.
//! - Times are whole microseconds: [`Timestamp`] since the Unix epoch, spans since the request
//!   began.
//! - Text is UTF-8 and otherwise unrestricted. Escaping is the business of whoever prints it.
//!
//! Absent on purpose: column types and SQL (`schema`), JSON framing (`sink`), `tracing` types
//! (`capture`). This room imports no other.

mod activity;
mod client;
mod ids;
mod method;
mod text;
mod trace;

pub use activity::{Activity, KeepReason, Outcome, ParseOutcomeError, Timestamp};
pub use client::ClientKind;
pub use ids::{ActivityId, ParseIdError, SpanId, TraceHash, TraceId};
pub(crate) use method::known_method;
pub use text::Text;
pub use trace::{EventRecord, Level, SpanRecord, Trace, Value};
