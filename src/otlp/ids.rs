//! [`ActivityIds`]: ids that a row knows without storing them.

use std::sync::Arc;

use opentelemetry::trace::{SpanId, TraceId};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator};

use crate::capture::bridge::Requests;

/// Gives a request's root the ids that its row has anyway: the activity's id for its trace id, the
/// lower half of that for its span id. Everything else gets random ids.
#[derive(Debug, Clone)]
pub struct ActivityIds {
    requests: Arc<Requests>,
    random: RandomIdGenerator,
}

impl ActivityIds {
    pub(super) fn new(requests: Arc<Requests>) -> Self {
        Self { requests, random: RandomIdGenerator::default() }
    }
}

impl IdGenerator for ActivityIds {
    fn new_trace_id(&self) -> TraceId {
        match self.requests.unnamed_root() {
            Some(id) => TraceId::from_bytes(id.to_bytes()),
            None => self.random.new_trace_id(),
        }
    }

    fn new_span_id(&self) -> SpanId {
        let Some(id) = self.requests.unnamed_root() else { return self.random.new_span_id() };
        let mut low = [0; 8];
        low.copy_from_slice(&id.to_bytes()[8..]);
        SpanId::from_bytes(low)
    }
}
