//! [`Batch`]: rows that travel, and are repeated, together.

use std::time::SystemTime;

use uuid::Uuid;

use crate::model::{Activity, Timestamp};

/// Activities that are stored in one insert.
///
/// Frozen: id and rows belong together from the beginning, because the server silently drops a
/// second insert with the same token whatever rows it holds.
#[derive(Debug, Clone, PartialEq)]
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

    /// The two halves as batches of their own, to find out which row is refused, or what size is not.
    ///
    /// Both have ids of their own: under the old one the server would take them for the whole. The
    /// same batch always has halves with the same ids, so halving it again doubles nothing.
    #[must_use]
    pub fn split(mut self) -> (Self, Self) {
        let right = self.rows.split_off(self.rows.len() / 2);
        let total = self.rows.len() + right.len();
        let left_bytes = self.bytes.checked_div(total).unwrap_or(0) * self.rows.len();
        let right_bytes = self.bytes - left_bytes;
        let [left_id, right_id] = [Half::Left, Half::Right].map(|half| half.of(self.id));
        (
            Self { id: left_id, rows: self.rows, bytes: left_bytes },
            Self { id: right_id, rows: right, bytes: right_bytes },
        )
    }
}

/// Which half of a batch: before or after its middle, where an odd row belongs to the right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Half {
    Left,
    Right,
}

impl Half {
    /// The id of this half of the batch `parent`: nothing else decides it. It keeps the parent's time.
    fn of(self, parent: Uuid) -> Uuid {
        let mut hash = blake3::Hasher::new_derive_key("tracing-activity 2026 half of a batch");
        hash.update(parent.as_bytes());
        hash.update(&[self as u8]);
        let (hash, id) = (hash.finalize(), parent.as_bytes());
        let millis = id[..6].iter().fold(0, |millis, byte| millis << 8 | u64::from(*byte));
        let mut random = [0; 10];
        random.copy_from_slice(&hash.as_bytes()[..10]);
        uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
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

    #[test]
    fn a_batch_halved_again_has_the_same_parts() {
        let rows: Vec<_> = (0..5).map(|n| Activity { status: n, ..Activity::default() }).collect();
        let id = Uuid::from_u128(0x0193_0000_0000_7000_8000_0000_0000_0001);
        let halves = || Batch { id, rows: rows.clone(), bytes: 1003 }.split();
        let (again, other) = (halves(), Batch::new(rows.clone(), 1003).split());
        assert_eq!(halves(), again);
        assert!(halves().0.id() != other.0.id() && halves().1.id() != other.1.id());
        let (left, right) = halves();
        let parts = [left.clone().split(), right.clone().split()];
        let mut ids = vec![id, left.id(), right.id()];
        ids.extend(parts.iter().flat_map(|(left, right)| [left.id(), right.id()]));
        for (at, one) in ids.iter().enumerate() {
            assert!(!ids[at + 1..].contains(one), "an id twice: {ids:?}");
            assert_eq!(one.as_bytes()[..6], id.as_bytes()[..6], "the time of the whole");
            assert_eq!(one.get_version_num(), 7);
        }
        // A published id never changes: a spool may hold halves of an older build.
        assert_eq!(left.id().to_string(), "01930000-0000-7226-bfc2-b7b3e056e230");
    }
}
