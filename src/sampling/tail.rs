//! [`TailSampler`]: a policy made ready to decide, without any state.

use std::collections::HashMap;
use std::time::Duration;

use super::{Decision, Finished, RANDOM_SPACE, Shares};
use crate::config::{Faults, OverrideRule, SamplingPolicy, Selector, SelectorColumn};
use crate::model::{KeepReason, Outcome};

/// A probability as the number of values of R that are kept, of 2^56.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate(u64);

impl Rate {
    /// Certainty.
    pub const ALL: Self = Self(RANDOM_SPACE);

    /// The nearest rate to a probability; what is outside of 0 to 1 is taken for the nearest end.
    #[must_use]
    pub fn new(probability: f64) -> Self {
        Self::at_least_one(probability.clamp(0.0, 1.0) * RANDOM_SPACE as f64)
    }

    /// The chance of a trace that is kept where its R is at least this; below 2^56.
    #[must_use]
    pub fn from_threshold(threshold: u64) -> Option<Self> {
        (threshold < RANDOM_SPACE).then(|| Self(RANDOM_SPACE - threshold))
    }

    /// T: a trace is kept where its R is at least this. 2^56 for a chance of 0.
    #[must_use]
    pub fn threshold(self) -> u64 {
        RANDOM_SPACE - self.0
    }

    /// The probability.
    #[must_use]
    pub fn probability(self) -> f64 {
        self.0 as f64 / RANDOM_SPACE as f64
    }

    /// This share of it, which keeps the traces with the highest R.
    fn share(self, share: f64) -> Self {
        if share < 1.0 { Self::at_least_one(self.0 as f64 * share) } else { self }
    }

    /// The nearest number of values of R, and one where it is more than none.
    fn at_least_one(values: f64) -> Self {
        Self((values.round() as u64).max(u64::from(values > 0.0)))
    }

    /// Whether a trace with this R is kept.
    #[must_use]
    pub fn keeps(self, randomness: u64) -> bool {
        randomness >= RANDOM_SPACE - self.0
    }

    /// Requests that one of the kept stands for.
    #[must_use]
    pub fn weight(self) -> f32 {
        (RANDOM_SPACE as f64 / self.0 as f64) as f32
    }
}

/// On what ground a trace asks to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// It is kept whatever the budget says: a fault of the server, or `always`.
    Certain(KeepReason),
    /// A rule keeps it, within the budget; failing that it is among the random ones.
    Rule(KeepReason, Rate),
    /// It may be kept at random.
    Random(Rate),
    /// It may not be kept.
    Never,
}

impl Claim {
    /// Decides, given what the budget leaves.
    #[must_use]
    #[inline]
    pub fn settle(self, request: &Finished<'_>, shares: Shares) -> Decision {
        let (reason, rate) = match self {
            Self::Never => return Decision::Drop,
            Self::Certain(reason) => return Decision::Keep { reason, rate: Some(Rate::ALL) },
            Self::Random(rate) => (KeepReason::Probabilistic, rate.share(shares.random)),
            // One R decides for both grounds, so the larger chance is the chance.
            Self::Rule(reason, rate) => {
                let (rule, random) = (Rate::ALL.share(shares.rules), rate.share(shares.random));
                if random > rule { (KeepReason::Probabilistic, random) } else { (reason, rule) }
            }
        };
        if rate.keeps(request.randomness()) {
            Decision::Keep { reason, rate: Some(rate) }
        } else {
            Decision::Drop
        }
    }
}

/// A sampling policy, ready to decide.
///
/// ```
/// use std::time::Duration;
/// use tracing_activity::model::{KeepReason, Outcome};
/// use tracing_activity::sampling::{Decision, Finished, Rate, Shares, TailSampler};
///
/// let sampler = TailSampler::new(&"errors,route:/export/*>30s".parse().unwrap());
/// let export = Finished {
///     route: "/export/{year}",
///     duration: Duration::from_secs(31),
///     ..Finished::default()
/// };
/// let kept = Decision::Keep { reason: KeepReason::Latency, rate: Some(Rate::ALL) };
/// assert_eq!(sampler.decide(&export, Shares::ALL), kept);
/// ```
#[derive(Debug, Clone)]
pub struct TailSampler {
    faults: Faults,
    can_keep: bool,
    base: Resolved,
    overrides: Option<Box<Overrides>>,
}

impl TailSampler {
    /// A sampler for this policy.
    #[must_use]
    pub fn new(policy: &SamplingPolicy) -> Self {
        Self {
            faults: policy.faults,
            can_keep: policy.can_keep(),
            base: Resolved {
                fate: None,
                slow: Limits { slow: policy.slow, start: policy.start, total: policy.total },
                rate: Rate::new(policy.rate),
            },
            overrides: (!policy.overrides.is_empty()).then(|| Box::new(Overrides::new(policy))),
        }
    }

    /// Whether any request at all could keep its trace. If not, spans need not be collected.
    #[must_use]
    pub fn can_keep(&self) -> bool {
        self.can_keep
    }

    /// How long a success may take to be no more than usual, in nanoseconds, and below which R it is
    /// not kept then; 0 where overrides have to be asked.
    pub(super) fn usual(&self) -> (u64, u64) {
        if self.overrides.is_some() {
            return (0, 0);
        }
        // No answer begins after its end.
        let least = self.base.slow.least();
        let slow = least.map_or(u64::MAX, |it| u64::try_from(it.as_nanos()).unwrap_or(u64::MAX));
        (slow, RANDOM_SPACE - self.base.rate.0)
    }

    /// Whether the event kind or the route matters.
    #[must_use]
    #[inline]
    pub fn reads_names(&self) -> bool {
        self.overrides.is_some()
    }

    /// Whether the event kind matters.
    #[must_use]
    pub fn reads_ekind(&self) -> bool {
        self.overrides.as_ref().is_some_and(|it| it.ekinds.is_used())
    }

    /// Whether the route matters.
    #[must_use]
    pub fn reads_route(&self) -> bool {
        self.overrides.as_ref().is_some_and(|it| it.routes.is_used())
    }

    /// On what ground the request asks for its trace to be kept.
    #[must_use]
    #[inline]
    pub fn claim(&self, request: &Finished<'_>) -> Claim {
        if request.outcome == Outcome::ServerFault && self.faults != Faults::None {
            return Claim::Certain(KeepReason::StatusCode);
        }
        let Some(overrides) = &self.overrides else {
            return self.claim_by(request, self.base.slow, self.base.rate);
        };
        let Resolved { fate, slow, rate } = overrides.resolve(request, self.base);
        match fate {
            Some(Fate::Never) => Claim::Never,
            Some(Fate::Always) => Claim::Certain(KeepReason::AlwaysSample),
            None => self.claim_by(request, slow, rate),
        }
    }

    #[inline]
    fn claim_by(&self, request: &Finished<'_>, slow: Limits, rate: Rate) -> Claim {
        if request.outcome == Outcome::ClientFault && self.faults == Faults::All {
            Claim::Rule(KeepReason::StatusCode, rate)
        } else if slow.holds_for(request) {
            Claim::Rule(KeepReason::Latency, rate)
        } else {
            Claim::Random(rate)
        }
    }

    /// Decides about one finished request, given what a budget leaves.
    #[must_use]
    pub fn decide(&self, request: &Finished<'_>, shares: Shares) -> Decision {
        self.claim(request).settle(request, shares)
    }
}

/// When a request is slow: any of these.
#[derive(Debug, Clone, Copy, Default)]
struct Limits {
    /// It took longer; of a stream, its answer began later.
    slow: Option<Duration>,
    /// Its answer began later.
    start: Option<Duration>,
    /// Its answer ended later.
    total: Option<Duration>,
}

impl Limits {
    fn holds_for(&self, request: &Finished<'_>) -> bool {
        let took = if request.is_stream { request.start() } else { request.duration };
        let is_over = |took: Duration, limit: Option<Duration>| limit.is_some_and(|it| took > it);
        is_over(took, self.slow)
            || is_over(request.start(), self.start)
            || is_over(request.duration, self.total)
    }

    /// The least of the limits: what took no longer is not slow.
    fn least(&self) -> Option<Duration> {
        [self.slow, self.start, self.total].into_iter().flatten().min()
    }
}

#[derive(Debug, Clone, Copy)]
enum Fate {
    Always,
    Never,
}

/// What holds for one request.
#[derive(Debug, Clone, Copy)]
struct Resolved {
    fate: Option<Fate>,
    slow: Limits,
    rate: Rate,
}

/// What one selector says.
#[derive(Debug, Clone, Copy, Default)]
struct Rules {
    fate: Option<Fate>,
    slow: Option<Limits>,
    rate: Option<Rate>,
}

impl Rules {
    fn slow_mut(&mut self) -> &mut Limits {
        self.slow.get_or_insert_default()
    }

    /// Takes from a less specific selector what is not said yet.
    fn or(self, other: Self) -> Self {
        Self {
            fate: self.fate.or(other.fate),
            slow: self.slow.or(other.slow),
            rate: self.rate.or(other.rate),
        }
    }
}

/// The overrides, by what they look at.
#[derive(Debug, Clone)]
struct Overrides {
    ekinds: Selectors,
    routes: Selectors,
}

/// The overrides of one column. Whole texts are found by hash; beginnings, of which policies have
/// few, are tried one by one.
#[derive(Debug, Clone, Default)]
struct Selectors {
    whole: HashMap<Box<str>, Rules>,
    /// The longest first.
    beginnings: Vec<(Box<str>, Rules)>,
}

impl Overrides {
    fn new(policy: &SamplingPolicy) -> Self {
        let mut it = Self { ekinds: Selectors::default(), routes: Selectors::default() };
        for given in &policy.overrides {
            let selectors = match given.selector.column {
                SelectorColumn::Ekind => &mut it.ekinds,
                SelectorColumn::Route => &mut it.routes,
            };
            let rules = selectors.rules(&given.selector);
            match given.rule {
                OverrideRule::Always => rules.fate = Some(Fate::Always),
                OverrideRule::Never => rules.fate = Some(Fate::Never),
                OverrideRule::Slow(limit) => rules.slow_mut().slow = Some(limit),
                OverrideRule::Start(limit) => rules.slow_mut().start = Some(limit),
                OverrideRule::Total(limit) => rules.slow_mut().total = Some(limit),
                OverrideRule::Rate(rate) => rules.rate = Some(Rate::new(rate)),
            }
        }
        for selectors in [&mut it.ekinds, &mut it.routes] {
            selectors.beginnings.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
        }
        it
    }

    #[inline(never)]
    fn resolve(&self, request: &Finished<'_>, base: Resolved) -> Resolved {
        let (ekind, route) = (request.ekind, request.route);
        let rules = self.ekinds.whole(ekind).or(self.routes.whole(route));
        let rules = self.ekinds.beginning(ekind, rules);
        let rules = self.routes.beginning(route, rules);
        Resolved {
            fate: rules.fate,
            slow: rules.slow.unwrap_or(base.slow),
            rate: rules.rate.unwrap_or(base.rate),
        }
    }
}

impl Selectors {
    fn is_used(&self) -> bool {
        !(self.whole.is_empty() && self.beginnings.is_empty())
    }

    /// Where the rules of a selector are kept.
    fn rules(&mut self, selector: &Selector) -> &mut Rules {
        let text = selector.text.as_str();
        if !selector.prefix {
            return self.whole.entry(text.into()).or_default();
        }
        let known = self.beginnings.iter().position(|(known, _)| **known == *text);
        let index = known.unwrap_or_else(|| {
            self.beginnings.push((text.into(), Rules::default()));
            self.beginnings.len() - 1
        });
        &mut self.beginnings[index].1
    }

    fn whole(&self, text: &str) -> Rules {
        if self.whole.is_empty() {
            return Rules::default();
        }
        self.whole.get(text).copied().unwrap_or_default()
    }

    fn beginning(&self, text: &str, mut rules: Rules) -> Rules {
        for (beginning, said) in &self.beginnings {
            if text.starts_with(&**beginning) {
                rules = rules.or(*said);
            }
        }
        rules
    }
}

#[cfg(test)]
#[path = "tail_tests.rs"]
mod tests;
