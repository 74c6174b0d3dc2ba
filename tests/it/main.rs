//! The behaviour of the crate through its public API, under subscribers of each test's own.
//!
//! What must hold under the *global* subscriber stands in `tests/global.rs`, what needs a real
//! ClickHouse in `tests/engine`.

mod annotate;
mod caps;
mod changes;
mod columns;
mod docs;
mod ends;
mod events;
mod handoff;
mod heads;
mod outcomes;
mod overload;
mod paths;
mod pitfalls;
mod policy;
mod redaction;
mod sampling;
mod serving;
mod settings;
mod shape;
mod switching;
mod testing;
#[macro_use]
mod support;
mod trees;
