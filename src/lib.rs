//! Every request a row.
pub mod config;
pub mod model;
pub use config::Config;
