//! The same requests as rows and as OpenTelemetry's spans: with the real SDK, in memory and over the
//! wire.

mod cleaning;
mod decision;
mod delivery;
#[cfg(feature = "otlp-grpc")]
mod grpc;
#[cfg(feature = "otlp-grpc")]
mod grpc_service;
mod identity;
mod limits;
mod meters;
mod metrics;
mod receiver;
mod registration;
mod support;
