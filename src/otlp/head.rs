//! [`HeadSampler`]: what a request's beginning tells the services that it calls.

use std::sync::Arc;

use opentelemetry::trace::{Link, SpanContext, SpanKind, TraceContextExt, TraceId, TraceState};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{SamplingDecision, SamplingResult, ShouldSample};

use super::state::{Ot, with_threshold};
use crate::capture::bridge::Requests;
use crate::config::HeadSampling;
use crate::sampling::{Rate, randomness};

/// Records every span, since what is kept is decided when the request is over, and marks as sampled
/// what the next services should keep.
///
/// - Below a span of this process: as that one.
/// - Below a caller's span: as that one, by default. A threshold that the caller tells goes on, one
///   that contradicts the trace's random value does not.
/// - Else by chance: the trace is sampled where R is at least T, and `ot=th:T` says so.
#[derive(Debug, Clone)]
pub struct HeadSampler {
    requests: Arc<Requests>,
    head: HeadSampling,
}

impl HeadSampler {
    pub(super) fn new(requests: Arc<Requests>, head: HeadSampling) -> Self {
        Self { requests, head }
    }

    /// The chance of a trace that begins here.
    fn rate(&self) -> Rate {
        let by_policy = || {
            let sampler = self.requests.sampler()?;
            sampler.tail().can_keep().then(|| sampler.policy().rate)
        };
        Rate::new(self.head.rate.or_else(by_policy).unwrap_or(0.0))
    }

    fn by_chance(&self, trace_id: TraceId, state: &TraceState) -> (bool, TraceState) {
        let random = Ot::of(state).random_value;
        let random = random.unwrap_or_else(|| randomness(to_model(trace_id)));
        let rate = self.rate();
        let sampled = rate.keeps(random);
        (sampled, with_threshold(state, sampled.then(|| rate.threshold())))
    }
}

/// The same id as this crate's own type.
pub(super) fn to_model(trace_id: TraceId) -> crate::model::TraceId {
    crate::model::TraceId::from_bytes(trace_id.to_bytes())
}

impl ShouldSample for HeadSampler {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace_id: TraceId,
        _name: &str,
        _kind: &SpanKind,
        _attributes: &[KeyValue],
        _links: &[Link],
    ) -> SamplingResult {
        let parent = parent.map(|parent| parent.span().span_context().clone());
        let (sampled, trace_state) = match parent.filter(SpanContext::is_valid) {
            Some(parent) if !parent.is_remote() => {
                (parent.is_sampled(), parent.trace_state().clone())
            }
            Some(parent) if self.head.parent_based => {
                let (sampled, state) = (parent.is_sampled(), parent.trace_state());
                let ot = Ot::of(state);
                let random = ot.random_value.unwrap_or_else(|| randomness(to_model(trace_id)));
                let consistent = sampled && ot.rate(random).is_some();
                let state = if consistent || ot.threshold.is_none() {
                    state.clone()
                } else {
                    with_threshold(state, None)
                };
                (sampled, state)
            }
            Some(parent) => self.by_chance(trace_id, parent.trace_state()),
            None => self.by_chance(trace_id, &TraceState::NONE),
        };
        let decision =
            if sampled { SamplingDecision::RecordAndSample } else { SamplingDecision::RecordOnly };
        SamplingResult { decision, attributes: Vec::new(), trace_state }
    }
}
