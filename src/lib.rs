//! Every request a row.

pub mod config;
pub mod model;
pub mod pipeline;
pub mod sampling;
pub mod schema;
pub mod sink;

mod capture;
mod error;
mod init;

pub use capture::{ActivityLayer, ActivityPatch, CurrentActivity, with_activity};
pub use config::Config;
pub use error::Error;
pub use init::{Base, Builder, Handle, ShutdownGuard, builder, init};
pub use pipeline::{ShutdownReport, Stats};
