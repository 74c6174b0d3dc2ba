//! A real ClickHouse server on loopback, for development, the demo and the tests.
//!
//! The server comes out of `libchdb.so`, one library that holds the whole of `clickhouse local`,
//! which opens ClickHouse's own HTTP and native listeners. Nothing is installed and nothing runs
//! as a service: [`connect_or_start`] gives a [`Server`], and the server ends with the process
//! that asked for it.
//!
//! ```text
//!  test, demo, xtask                      embedded-clickhouse (a process of its own)
//!  ┌────────────────────┐   stdin: a pipe  ┌──────────────────────────────────────┐
//!  │ Server -> Engine   │ ───────────────> │ host ── pipes ──> program ─> library │
//!  │                    │ <─────────────── │  └ folder, config        └ confine   │
//!  └────────────────────┘  readiness line  └──────────────────────────────────────┘
//! ```
//!
//! Reading order: [`server`] (which server), [`engine`] (a started one), [`locate`] (the binary),
//! [`host`] (what the binary does), `program` and `library` (the call), `folder`, `config` and
//! `confine` (what the engine may do), [`fetch`] (how its library gets here).
//!
//! Invariants of the crate:
//! - the engine listens on loopback alone, and its users may not reach files or other machines;
//! - it never outlives the process that started it: its standard input is a pipe held here, and
//!   the kernel closes that pipe whichever way this process ends;
//! - no name of a package registry appears here: npm knows where its packages are;
//! - `unsafe` is confined to `library`, and to the time zone set at the top of `main`.
//!
//! Linux only in practice, and Unix to compile: there is no engine elsewhere, see [`fetch`].

pub mod engine;
pub mod env;
mod error;
pub mod fetch;
#[doc(hidden)]
pub mod host;
pub mod http;
pub mod limits;
pub mod locate;
pub mod proxy;
pub mod server;

mod config;
mod confine;
mod folder;
mod hex;
mod library;
mod program;
mod ready;
mod words;

pub use engine::{Engine, Options};
pub use error::Error;
pub use limits::Limits;
pub use program::Program;
pub use server::{Server, connect_or_start};

/// The user that makes databases, tables and views, and writes.
pub const WRITER: &str = "activity";

/// The user that reads, with limits and without the right to change a setting.
pub const READER: &str = "activity_reader";
