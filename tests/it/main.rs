//! The behaviour of the crate through its public API, under subscribers of each test's own.
//!
//! What must hold under the *global* subscriber stands in `tests/global.rs`, what needs a real
//! ClickHouse in `tests/engine`.

mod annotate;
mod caps;
mod columns;
mod docs;
mod handoff;
mod outcomes;
mod overload;
mod pitfalls;
mod policy;
mod sampling;
mod shape;
mod switching;
#[macro_use]
mod support;
