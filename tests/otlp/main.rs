//! The same requests as rows and as OpenTelemetry's spans: with the real SDK, in memory and over the
//! wire.

mod cleaning;
mod decision;
mod delivery;
mod identity;
mod limits;
mod meters;
mod metrics;
mod receiver;
mod registration;
mod support;
