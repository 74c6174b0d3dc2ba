//! [`MemorySink`]: activities kept in memory, for tests.

use std::sync::{Arc, Mutex, PoisonError};

use super::{Batch, BoxFuture, Sink, SinkError};
use crate::model::Activity;

/// Keeps activities in memory. Clones share what they keep.
///
/// ```
/// use tracing_activity::sink::MemorySink;
/// let sink = MemorySink::new();
/// assert!(sink.activities().is_empty());
/// ```
#[derive(Debug, Clone, Default)]
pub struct MemorySink {
    rows: Arc<Mutex<Vec<Activity>>>,
}

impl MemorySink {
    /// An empty sink.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What was stored so far, in order.
    #[must_use]
    pub fn activities(&self) -> Vec<Activity> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes what was stored so far, in order.
    #[must_use]
    pub fn take(&self) -> Vec<Activity> {
        std::mem::take(&mut *self.rows.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Sink for MemorySink {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn write<'a>(&'a mut self, batch: &'a Batch) -> BoxFuture<'a, Result<(), SinkError>> {
        Box::pin(async move {
            let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
            rows.extend_from_slice(batch.rows());
            Ok(())
        })
    }
}
