//! The tail decision: whether a finished request keeps its trace.
//!
//! [`TailSampler::decide`] is a pure function of the policy and of what the request turned out to
//! be, so it can run on the request's thread and anyone can recompute it from the row. Every
//! request is a row whatever is decided.
//!
//! The random share follows OpenTelemetry's consistent probability sampling
//! (`trace/tracestate-probability-sampling.md`): a trace is kept when the low 56 bits of its id
//! are at least the rejection threshold, so services that share a trace id agree. A trace kept by
//! a rule would always have been kept, hence it stands for itself alone: weight 1.
//!
//! Absent on purpose: clocks, counters, state.

use std::time::Duration;

use crate::config::SamplingPolicy;
use crate::model::{KeepReason, Outcome, TraceId};

/// 2^56: the number of values that the random part of a trace id can take.
const RANDOM_SPACE: u64 = 1 << 56;

/// What becomes of a trace.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Decision {
    /// It is kept.
    Keep {
        /// Why.
        reason: KeepReason,
        /// How many requests it stands for.
        weight: f32,
    },
    /// Its spans are dropped; the row remains.
    Drop,
}

/// A sampling policy, ready to decide.
#[derive(Debug, Clone)]
pub struct TailSampler {
    policy: SamplingPolicy,
    threshold: u64,
    weight: f32,
}

impl TailSampler {
    /// A sampler for this policy.
    #[must_use]
    pub fn new(policy: SamplingPolicy) -> Self {
        let rate = policy.rate.clamp(0.0, 1.0);
        let kept = (rate * RANDOM_SPACE as f64) as u64;
        let weight = if kept == 0 { 0.0 } else { (RANDOM_SPACE as f64 / kept as f64) as f32 };
        Self { policy, threshold: RANDOM_SPACE - kept, weight }
    }

    /// Whether any request at all could keep its trace. If not, spans need not be collected.
    #[must_use]
    pub fn can_keep(&self) -> bool {
        self.policy.errors || self.policy.slow.is_some() || self.threshold < RANDOM_SPACE
    }

    /// Decides about one finished request.
    #[must_use]
    pub fn decide(&self, outcome: Outcome, duration: Duration, trace_id: TraceId) -> Decision {
        if self.policy.errors && outcome == Outcome::ServerFault {
            return Decision::Keep { reason: KeepReason::StatusCode, weight: 1.0 };
        }
        if self.policy.slow.is_some_and(|threshold| duration > threshold) {
            return Decision::Keep { reason: KeepReason::Latency, weight: 1.0 };
        }
        if randomness(trace_id) >= self.threshold {
            return Decision::Keep { reason: KeepReason::Probabilistic, weight: self.weight };
        }
        Decision::Drop
    }
}

/// The low 56 bits of a trace id.
fn randomness(trace_id: TraceId) -> u64 {
    let mut low = [0; 8];
    low.copy_from_slice(&trace_id.to_bytes()[8..]);
    u64::from_be_bytes(low) & (RANDOM_SPACE - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAST: Duration = Duration::from_millis(1);

    fn trace(low: u64) -> TraceId {
        let mut bytes = [0xff; 16];
        bytes[8..].copy_from_slice(&low.to_be_bytes());
        TraceId::from_bytes(bytes)
    }

    fn decide(policy: &str, outcome: Outcome, duration: Duration, low: u64) -> Decision {
        TailSampler::new(policy.parse().unwrap()).decide(outcome, duration, trace(low))
    }

    #[test]
    fn a_server_fault_is_kept_and_a_client_fault_is_not() {
        let keep = Decision::Keep { reason: KeepReason::StatusCode, weight: 1.0 };
        assert_eq!(decide("errors", Outcome::ServerFault, FAST, 0), keep);
        assert_eq!(decide("errors", Outcome::ClientFault, FAST, 0), Decision::Drop);
    }

    #[test]
    fn only_a_request_above_the_threshold_is_slow() {
        let keep = Decision::Keep { reason: KeepReason::Latency, weight: 1.0 };
        let at = Duration::from_millis(500);
        assert_eq!(decide("slow>500ms", Outcome::Success, at, 0), Decision::Drop);
        assert_eq!(decide("slow>500ms", Outcome::Success, at + Duration::from_nanos(1), 0), keep);
    }

    #[test]
    fn a_quarter_is_kept_by_the_highest_quarter_of_the_ids_and_weighs_four() {
        let keep = Decision::Keep { reason: KeepReason::Probabilistic, weight: 4.0 };
        let edge = RANDOM_SPACE / 4 * 3;
        assert_eq!(decide("rate=0.25", Outcome::Success, FAST, edge), keep);
        assert_eq!(decide("rate=0.25", Outcome::Success, FAST, edge - 1), Decision::Drop);
        // Bits above the 56 do not count.
        assert_eq!(decide("rate=0.25", Outcome::Success, FAST, 0xff << 56), Decision::Drop);
    }

    #[test]
    fn all_keeps_everything_and_off_collects_nothing() {
        let all = TailSampler::new(SamplingPolicy::ALL);
        assert!(all.can_keep());
        assert_ne!(all.decide(Outcome::Success, FAST, trace(0)), Decision::Drop);
        let off = TailSampler::new(SamplingPolicy::OFF);
        assert!(!off.can_keep());
        assert_eq!(off.decide(Outcome::ServerFault, FAST, trace(u64::MAX)), Decision::Drop);
    }
}
