//! The tables: their SQL, their versions and the block of rows that goes into them.
//!
//! This room is the only one that knows columns. A migration is a numbered file in `sql/`; the
//! [`Block`] states each column with its type once more, because the wire format needs it, and a
//! test compares the two on the real engine. `docs/schema.md` tells why the tables are as they are
//! and what was measured.
//!
//! Invariants:
//! - A migration can be applied again, and by two processes at once, without harm.
//! - A published migration never changes; what is to change is another one.
//! - Whatever an activity holds, its row is accepted: values are brought into the columns' ranges
//!   here, because one bad row makes the server refuse a whole batch.
//! - Every table that an insert reaches, through views too, has a deduplication window from its
//!   first insert on.
//! - No row makes a question fail that is about others: columns and views for people are of
//!   functions that answer something for any text.
//! - Rules of others in a table's TTL stay: ours are told by their very words.
//!
//! Absent on purpose: a connection. `sink` runs the statements.

mod migrations;
mod objects;
mod retention;
mod row;
mod savings;
mod wire;

pub use migrations::{
    HIST_QUANTILE, LATEST_VERSION, Migration, OLDEST_SERVER, SHAPES_AT_ONCE, SHAPES_CAP,
    SchemaOptions, VERSION_TABLE, migrations,
};
pub use objects::{Column, Object, is_outdated, objects};
pub use retention::Retained;
pub use row::{Block, COLUMNS};
pub use savings::{Saving, leave_out};
