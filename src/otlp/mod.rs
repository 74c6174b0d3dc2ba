//! The same requests as OpenTelemetry's spans, kept by the same decision as their rows.
//!
//! With this feature and an endpoint (`OTEL_EXPORTER_OTLP_ENDPOINT`) [`init`](crate::init) also
//! installs `tracing-opentelemetry` and exports over OTLP. A set-up of your own keeps its tracer
//! provider and takes the pieces of a [`Link`].
//!
//! How a request's spans travel:
//!
//! 1. `tracing-opentelemetry` starts a span for each span of `tracing`. [`ActivityIds`] gives the
//!    root the activity's own id for its trace id and its span id, so both sides can be joined without
//!    a column; [`HeadSampler`] records every span, and says in the flags and in `tracestate` what the
//!    services that are called should do.
//! 2. [`Gate`] follows which spans belong together (`groups`) and holds those that ended.
//! 3. The request ends; `capture` decides about its trace and tells it through its `bridge`. The
//!    spans go on, marked as sampled and with the threshold that they were kept by (`state`), or are
//!    dropped. Spans that end later follow.
//! 4. A batch processor of the SDK sends them, on a runtime of ours (`transport`), and
//!    [`CountedExporter`] takes out of them what is taken out of rows (`cleaning`), and counts what
//!    really arrived.
//!
//! The layer's own counters go the same way where `OTEL_METRICS_EXPORTER` asks for it (`meters`).
//!
//! What begins outside of any request - a job, a span made by OpenTelemetry's own interface - is
//! decided by the same policy when its local root ends.
//!
//! Invariants:
//! - Every started span meets one fate, counted in [`SpanStats`]: exported, failed, sampled out or
//!   dropped for a reason.
//! - Memory is bounded: by bytes of held spans, by spans of a trace, by open traces, by their age.
//! - The inner processor is called under no lock of ours.
//! - Exporting is silent: it makes no spans and no activities.
//!
//! Absent on purpose: any decision about a request, and types of OpenTelemetry in signatures of
//! other rooms. It is 0.x, and so is what is public here.

mod cleaning;
mod exporter;
mod exporters;
mod gate;
mod groups;
mod head;
mod ids;
mod layer;
mod link;
mod meters;
mod provider;
mod state;
mod stats;
mod transport;

pub use exporter::CountedExporter;
pub use gate::Gate;
pub use head::HeadSampler;
pub use ids::ActivityIds;
pub use layer::SpansOfInterest;
pub use link::Link;
pub(crate) use meters::Metering;
pub(crate) use provider::{Ending, Exporting};
pub use stats::{SpanStats, SpansDropped};
