//! Where finished activities go.
//!
//! A [`Sink`] takes one frozen [`Batch`] at a time and answers whether it is stored. The pipeline
//! decides when to send, whether to send again and what to count; a sink only tells what happened
//! in the words of [`SinkError`].
//!
//! Invariants:
//! - A batch never changes once it exists. Its id is the insert's deduplication token, so sending
//!   it again is harmless where the sink remembers tokens. A different set of rows has another id,
//!   and a half of a batch always the same one.
//! - `Ok` means stored: durable as far as the sink can tell, not merely sent. A sink that cannot tell
//!   says so with an error that is not certain.
//! - An error names the remedy and never holds a password.
//! - A sink may be dropped in the middle of a write: it runs under a deadline.
//!
//! Absent on purpose: retries, timers between attempts and counters (`pipeline`), columns and SQL
//! (`schema`), and any choice of what is kept (`sampling`).

mod batch;
#[cfg(feature = "clickhouse")]
mod clickhouse;
mod error;
mod memory;
mod stdout;

use std::future::Future;
use std::pin::Pin;

pub use batch::Batch;
#[cfg(feature = "clickhouse")]
pub use clickhouse::ClickHouseSink;
#[cfg(feature = "clickhouse")]
pub(crate) use clickhouse::problem_of;
pub use error::SinkError;
pub use memory::MemorySink;
pub use stdout::StdoutSink;

/// A future that can move between threads, boxed so that [`Sink`] can be a trait object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Where activities go.
///
/// The worker owns the sink and calls it from its own thread, one call at a time, inside a
/// current-thread tokio runtime with I/O and time. Dropping a returned future abandons the call.
pub trait Sink: Send {
    /// A short name for messages.
    fn name(&self) -> &'static str;

    /// Makes the sink ready: connects, checks or creates tables.
    ///
    /// Called before the first batch, and again after an error that
    /// [is a matter of configuration](SinkError::is_configuration).
    fn prepare(&mut self) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Stores `batch`, whole and in order.
    ///
    /// After an error the same batch may come again, with the same id and rows.
    fn write<'a>(&'a mut self, batch: &'a Batch) -> BoxFuture<'a, Result<(), SinkError>>;

    /// How many rows of `batch` are stored already; `None` when the sink cannot tell.
    ///
    /// Asked before rows are given up or sent under other ids. A sink that cannot tell is believed
    /// when it rejects a batch, unless an earlier attempt at it may have been stored: then the batch
    /// is repeated unchanged until it is stored.
    fn stored<'a>(
        &'a mut self,
        batch: &'a Batch,
    ) -> BoxFuture<'a, Result<Option<usize>, SinkError>> {
        let _ = batch;
        Box::pin(std::future::ready(Ok(None)))
    }
}
