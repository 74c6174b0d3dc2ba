//! From the request's thread to the sink: a bounded queue, one worker, batches, retries, counters.
//!
//! A request pushes a [`Seed`] and goes on. The [`Worker`]'s own thread turns seeds into
//! activities, freezes them into batches, and sends each batch until it has met its fate.
//!
//! Invariants:
//! - [`Queue::push`] never blocks, allocates or waits for the worker. What does not fit is handed
//!   back with the reason, and the caller counts it.
//! - Every activity meets exactly one fate: stored, failed or dropped. Once nothing is under way,
//!   `created = stored + failed + dropped` holds exactly; [`Stats`] shows it.
//! - Memory is bounded by the queue's bytes and one batch, however long the sink is away.
//! - A batch is frozen before it is first sent and repeated unchanged, so a sink that remembers
//!   its id stores it once. Its rows travel under other ids, those of its halves, only while it is
//!   certain that nothing of it is stored.
//! - A row is given up only where the sink refuses that row, and is known not to hold it. Whatever else
//!   happens passes, or a person repairs it: the batch waits.
//! - The worker runs under no subscriber, on its own thread and runtime: delivering activities
//!   never makes activities, and never depends on the application's runtime.
//! - Code of others - a seed's conversion, a sink, the tick - may panic: it is caught and counted.
//!
//! Absent on purpose: what an activity holds (`capture`), how it is stored (`sink`), and anything
//! on disk. Warnings go to standard error, few and without `tracing`.

mod backoff;
mod delivery;
mod handle;
mod limits;
mod queue;
pub(crate) mod silence;
mod stats;
pub(crate) mod warnings;
mod worker;

pub use handle::{ShutdownReport, WorkerHandle};
pub use queue::{DropReason, Queue, Seed};
pub use stats::{Counters, Dropped, Stats};
pub use worker::Worker;
