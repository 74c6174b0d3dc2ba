//! Real axum behind tower-http's `TraceLayer` - no code of ours in the handlers - and rows in a
//! real ClickHouse.
//!
//! One engine and one application per process: the application installs the global subscriber as
//! a service does. Each test asks for paths of its own and finds its rows by them.

mod app;
mod http;
mod rows;
mod weights;
