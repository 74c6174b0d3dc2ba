#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]
//!
//! # Reading the source
//!
//! [`model`] says what an activity is; the private room `capture` makes one out of spans;
//! [`sampling`] decides about its trace; [`pipeline`] carries it; [`sink`] stores it in the columns
//! of [`schema`]; [`config`] holds the settings. `init` puts them together. Each opens with its
//! invariants. `testing`, behind the feature of that name, is for the tests of applications.

pub mod config;
pub mod metrics;
#[cfg(feature = "tower")]
#[cfg_attr(docsrs, doc(cfg(feature = "tower")))]
pub mod middleware;
pub mod model;
#[cfg(feature = "otlp")]
#[cfg_attr(docsrs, doc(cfg(feature = "otlp")))]
pub mod otlp;
pub mod pipeline;
pub mod sampling;
pub mod schema;
pub mod shape;
pub mod sink;
#[cfg(feature = "testing")]
#[cfg_attr(docsrs, doc(cfg(feature = "testing")))]
pub mod testing;

mod capture;
mod error;
mod init;
mod redact;
mod visits;
mod warn;

pub use capture::{ActivityEvent, ActivityLayer, ActivityPatch, CurrentActivity, with_activity};
pub use config::Config;
pub use error::Error;
pub use init::{Base, Builder, Handle, ShutdownGuard, builder, init};
pub use pipeline::{ShutdownReport, Stats};
