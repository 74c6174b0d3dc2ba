//! The embedded engine, tried for real: every test starts one, or several.
//!
//! The engine is fetched first if this machine has none. Tests share the machine by
//! [`support::shared`]; the few that measure time take it alone by [`support::alone`].

mod confinement;
mod durability;
mod fetching;
mod lifecycle;
mod rights;
mod support;
