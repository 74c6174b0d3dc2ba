//! Every request a row.
pub mod config;
pub mod error;
pub mod model;
pub mod pipeline;
pub mod schema;
pub mod sink;
pub use config::Config;
