//! The tail decision: whether a finished request keeps its trace. Every request is a row whatever
//! is decided.
//!
//! [`TailSampler`] is pure: it looks at the policy and at what the request turned out to be, so it
//! can run on the request's thread, and without a budget anyone can recompute it from the row, but
//! for names that secrets were taken out of, and for answers that were streams. [`Budget`] is the
//! only state: it counts what asks to be kept and answers with the [`Shares`] that may be. [`Sampler`]
//! puts the two together.
//!
//! What is random follows OpenTelemetry's consistent probability sampling
//! (`trace/tracestate-probability-sampling.md`): a trace is kept when R, the low 56 bits of its id
//! or the `rv` of its trace state, is at least the rejection threshold T. So services that share a
//! trace id agree. The layer knows `rv` where OpenTelemetry's spans stand beside its
//! own (feature `otlp`). The trace then stands for 2^56 / (2^56 - T) requests.
//!
//! Invariants:
//! - T never depends on R: the budget looks at what was *offered*, never at what was kept. So the
//!   sum of the weights is an unbiased estimate, with a budget as without one.
//! - Every request that any rule could keep has a chance above 0, however small the rate or the
//!   budget.
//! - No lock, no allocation, no clock: the time is passed in.
//!
//! `drop` is about the row and comes before all else: what it leaves out asks the budget for nothing, so
//! that the weights of the others stand for rows.
//!
//! Order of the rules, first match wins:
//! 1. faults of the server, where the policy keeps them: kept, weight 1;
//! 2. `never`: dropped; `always`: kept, weight 1;
//! 3. faults of the client (`faults`) and what is slow: kept, with a budget a share of them;
//! 4. at random, by rate.
//!
//! A request is slow when it took longer than `slow` says, its answer began later than `start`, or
//! ended later than `total`. Of an answer that is a stream, `slow` means its beginning, too: how long
//! it goes on says nothing of the service.
//!
//! Of several overrides that match, the most specific one has the word, for each of: always or
//! never, slow by whatever measure, rate. An event kind is more specific than a route, a whole name than a beginning, a
//! longer beginning than a shorter one: whole ekind, whole route, beginning of the ekind, beginning
//! of the route, the policy's own.

mod budget;
mod tail;

use std::sync::Arc;
use std::time::Duration;

pub use budget::{Budget, Shares};
pub use tail::{Claim, Rate, TailSampler};

use crate::config::SamplingPolicy;
use crate::model::{KeepReason, Outcome, TraceId};

/// 2^56: the number of values that R can take.
const RANDOM_SPACE: u64 = 1 << 56;

/// What becomes of a trace.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Decision {
    /// It is kept.
    Keep {
        /// Why.
        reason: KeepReason,
        /// With what chance; `None` when nobody knows it.
        rate: Option<Rate>,
    },
    /// Its spans are dropped; the row remains.
    Drop,
}

impl Decision {
    /// How many requests the kept trace stands for; 0 for one that is dropped, and for one that was
    /// kept with a chance that nobody knows. So the weights always add up to the requests.
    #[must_use]
    pub fn weight(self) -> f32 {
        match self {
            Self::Keep { rate: Some(rate), .. } => rate.weight(),
            Self::Keep { rate: None, .. } | Self::Drop => 0.0,
        }
    }

    /// This decision about a trace that its caller keeps, with this chance where it tells one. Both
    /// draw the same lot, so the larger chance is the chance.
    #[must_use]
    pub fn with_caller(self, caller: Option<Rate>) -> Self {
        match (self, caller) {
            (Self::Keep { rate: Some(_), .. }, None) => self,
            (Self::Keep { rate: Some(own), .. }, Some(caller)) if own >= caller => self,
            _ => Self::Keep { reason: KeepReason::ParentSampled, rate: caller },
        }
    }
}

/// What a request turned out to be, as far as it matters for its trace.
#[derive(Debug, Clone, Copy, Default)]
pub struct Finished<'a> {
    /// How it went.
    pub outcome: Outcome,
    /// How long it took.
    pub duration: Duration,
    /// How long it took until the head of the answer was there; zero where nobody tells, which the
    /// duration stands in for.
    pub response_start: Duration,
    /// The answer is a stream, whose end is the client's to choose: `slow` means its start.
    pub is_stream: bool,
    /// The trace that it belongs to.
    pub trace_id: TraceId,
    /// `rv` of the trace state, which takes the place of the trace id's low 56 bits.
    pub random_value: Option<u64>,
    /// The column `ekind`; matters only to a policy that [reads](TailSampler::reads_ekind) it.
    pub ekind: &'a str,
    /// The column `route`, likewise.
    pub route: &'a str,
}

impl Finished<'_> {
    /// How long it took until the answer began, as far as it is known.
    pub(crate) fn start(&self) -> Duration {
        if self.response_start.is_zero() { self.duration } else { self.response_start }
    }

    /// R: 56 random bits that all services of one trace agree on.
    #[must_use]
    pub fn randomness(&self) -> u64 {
        let given = self.random_value.map(|value| value & (RANDOM_SPACE - 1));
        given.unwrap_or_else(|| randomness(self.trace_id))
    }
}

/// The low 56 bits of a trace id.
#[inline]
pub(crate) fn randomness(trace_id: TraceId) -> u64 {
    let mut low = [0; 8];
    low.copy_from_slice(&trace_id.to_bytes()[8..]);
    u64::from_be_bytes(low) & (RANDOM_SPACE - 1)
}

/// A policy at work: the pure decision, and the state of the budget where there is one.
#[derive(Debug)]
pub struct Sampler {
    policy: SamplingPolicy,
    tail: TailSampler,
    budget: Option<Arc<Budget>>,
    /// A success that took at most so many nanoseconds and whose R is below this is dropped, as
    /// nearly every request is. 0 where it cannot be told so easily.
    usual: (u64, u64),
}

impl Sampler {
    /// A sampler for this policy, its budget untouched.
    #[must_use]
    pub fn new(policy: SamplingPolicy) -> Self {
        let budget = policy.budget.map(|per_second| Arc::new(Budget::new(per_second)));
        Self::with_budget(policy, budget)
    }

    /// A sampler for this policy that takes the place of another. Where the budget is the same, it
    /// goes on counting.
    #[must_use]
    pub fn after(policy: SamplingPolicy, previous: &Self) -> Self {
        if policy.budget == previous.policy.budget {
            Self::with_budget(policy, previous.budget.clone())
        } else {
            Self::new(policy)
        }
    }

    fn with_budget(policy: SamplingPolicy, budget: Option<Arc<Budget>>) -> Self {
        let tail = TailSampler::new(&policy);
        let usual = if budget.is_none() { tail.usual() } else { (0, 0) };
        Self { policy, tail, budget, usual }
    }

    /// The policy.
    #[must_use]
    pub fn policy(&self) -> &SamplingPolicy {
        &self.policy
    }

    /// The pure part.
    #[must_use]
    pub fn tail(&self) -> &TailSampler {
        &self.tail
    }

    /// Whether [`decide`](Self::decide) would drop the trace of a request with this R that took so
    /// many nanoseconds, where that can be told in a few instructions.
    #[inline]
    pub(crate) fn drops_at_once(&self, outcome: Outcome, nanos: u64, randomness: u64) -> bool {
        let (slow, threshold) = self.usual;
        randomness < threshold && outcome == Outcome::Success && nanos <= slow
    }

    /// Whether a rule leaves out rows.
    #[inline]
    pub(crate) fn drops_rows(&self) -> bool {
        self.tail.drops_rows()
    }

    /// Decides about one finished request. `nanos` gives the nanoseconds since some fixed point; it
    /// is asked only where there is a budget.
    #[inline]
    pub fn decide(&self, request: &Finished<'_>, nanos: impl FnOnce() -> u64) -> Decision {
        let claim = self.tail.claim(request);
        match &self.budget {
            None => claim.settle(request, Shares::ALL),
            Some(budget) => claim.settle(request, budget.offer(&claim, nanos())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_at_once_would_be_dropped_anyway() {
        let mut random = fastrand::Rng::with_seed(4);
        for (policy, drops) in [
            ("errors,slow>500ms,rate=0.01", true),
            ("faults,rate=0.5", true),
            ("slow>1ns", true),
            ("slow>1s,start>500ms,total>1h,rate=0.5", true),
            ("all", false),
            ("errors,rate=0.01,budget=1/s", false),
            ("errors,rate=0.01,always:route:*", false),
        ] {
            let sampler = Sampler::new(policy.parse().unwrap());
            let mut dropped = 0;
            for _ in 0..20_000 {
                let outcomes = [Outcome::Success, Outcome::ClientFault, Outcome::ServerFault];
                // Around the thresholds of the policies, and the extremes.
                let nanos = [0, 1, 2, 500_000_000, 500_000_001, u64::MAX][random.usize(..6)];
                let finished = Finished {
                    outcome: outcomes[random.usize(..3)],
                    duration: Duration::from_nanos(nanos),
                    response_start: Duration::from_nanos(nanos / random.u64(1..4)),
                    is_stream: random.bool(),
                    trace_id: TraceId::from_bytes(random.u128(..).to_be_bytes()),
                    ..Finished::default()
                };
                let randomness = randomness(finished.trace_id);
                assert_eq!(randomness, finished.randomness());
                if sampler.drops_at_once(finished.outcome, nanos, randomness) {
                    dropped += 1;
                    assert_eq!(sampler.decide(&finished, || 0), Decision::Drop, "{finished:?}");
                }
            }
            assert_eq!(dropped > 500, drops, "{policy}: {dropped}");
        }
    }

    #[test]
    fn a_policy_set_again_and_again_does_not_fill_its_budget_up() {
        let policy: SamplingPolicy = "all,budget=100/s".parse().unwrap();
        let mut random = fastrand::Rng::with_seed(5);
        let mut kept = |again: bool| {
            let mut sampler = Sampler::new(policy.clone());
            let mut kept = 0;
            for request in 0..100_000 {
                if again && request % 100 == 0 {
                    sampler = Sampler::after(policy.clone(), &sampler);
                }
                let finished = Finished {
                    trace_id: TraceId::from_bytes(random.u128(..).to_be_bytes()),
                    ..Finished::default()
                };
                // Ten seconds in all.
                let decision = sampler.decide(&finished, || request * 100_000);
                kept += u32::from(decision != Decision::Drop);
            }
            kept
        };
        let (once, again) = (kept(false), kept(true));
        assert!((800..1_500).contains(&once), "{once}");
        assert!(again < 1_500, "{again} against {once}");
    }
}
