//! [`Batch`]: rows that travel, and are repeated, together.

use std::time::SystemTime;

use uuid::Uuid;

use crate::model::{Activity, Timestamp};

/// Activities that are stored in one insert.
///
/// Frozen: id and rows belong together from the beginning, because the server silently drops a
/// second insert with the same token whatever rows it holds.
#[derive(Debug, PartialEq)]
pub struct Batch {
    id: Uuid,
    rows: Vec<Activity>,
    bytes: usize,
}

impl Batch {
    /// Freezes `rows`, which take about `bytes` in memory, under an id of their own.
    #[must_use]
    pub fn new(rows: Vec<Activity>, bytes: usize) -> Self {
        Self { id: new_id(), rows, bytes }
    }

    /// The batch's identity: the deduplication token and the column `batch_id`.
    #[must_use]
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// The rows, in the order they finished.
    #[must_use]
    pub fn rows(&self) -> &[Activity] {
        &self.rows
    }

    /// About how many bytes the rows take in memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The two halves as batches of their own, to find out which row is refused.
    ///
    /// Both have new ids: under the old one the server would take them for the whole.
    #[must_use]
    pub fn split(mut self) -> (Self, Self) {
        let right = self.rows.split_off(self.rows.len() / 2);
        let total = self.rows.len() + right.len();
        let left_bytes = self.bytes.checked_div(total).unwrap_or(0) * self.rows.len();
        let right_bytes = self.bytes - left_bytes;
        (Self::new(self.rows, left_bytes), Self::new(right, right_bytes))
    }
}

/// A `UUIDv7`: by time, so that the column compresses, and 74 random bits.
fn new_id() -> Uuid {
    let millis = Timestamp::from(SystemTime::now()).as_micros().max(0) as u64 / 1000;
    let random: [u8; 10] = std::array::from_fn(|_| fastrand::u8(..));
    uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_keep_every_row_in_order_under_ids_of_their_own() {
        let rows: Vec<_> = (0..5).map(|n| Activity { status: n, ..Activity::default() }).collect();
        let batch = Batch::new(rows.clone(), 1003);
        let id = batch.id();
        let (left, right) = batch.split();
        assert_eq!([left.rows(), right.rows()].concat(), rows);
        assert_eq!((left.len(), right.len()), (2, 3));
        assert_eq!(left.bytes() + right.bytes(), 1003);
        assert!(left.id() != id && right.id() != id && left.id() != right.id());
    }
}
