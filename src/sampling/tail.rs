//! [`TailSampler`]: a policy made ready to decide, without any state.

use std::collections::{BTreeMap, HashMap};
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

    /// Whether a rule leaves out rows, as [`drops_row`](Self::drops_row) tells.
    #[must_use]
    #[inline]
    pub fn drops_rows(&self) -> bool {
        self.overrides.as_ref().is_some_and(|it| it.drops)
    }

    /// Whether a rule leaves out the row of this request: `drop`, where it succeeded. Its trace asks
    /// for nothing then.
    #[must_use]
    pub fn drops_row(&self, request: &Finished<'_>) -> bool {
        let drops = |it: &Overrides| {
            it.drops
                && (it.ekinds.rules_for(request.ekind).drops
                    || it.routes.rules_for(request.route).drops)
        };
        request.outcome == Outcome::Success && self.overrides.as_deref().is_some_and(drops)
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
    drops: bool,
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
            drops: self.drops || other.drops,
        }
    }
}

/// The overrides, by what they look at.
#[derive(Debug, Clone)]
struct Overrides {
    ekinds: Selectors,
    routes: Selectors,
    /// Some rule leaves out rows.
    drops: bool,
}

/// The overrides of one column. Whole texts are found by hash, beginnings by halving, so that many
/// rules cost a request no more than few.
#[derive(Debug, Clone, Default)]
struct Selectors {
    whole: HashMap<Box<str>, Rules>,
    /// In the order of their texts.
    beginnings: Vec<Beginning>,
}

/// A beginning of texts, and what is said of those that begin so, be it by a shorter beginning.
#[derive(Debug, Clone)]
struct Beginning {
    text: Box<str>,
    rules: Rules,
    /// The longest shorter beginning that this one begins with.
    shorter: Option<usize>,
}

impl Overrides {
    fn new(policy: &SamplingPolicy) -> Self {
        let [mut ekinds, mut routes] = [Builder::default(), Builder::default()];
        for given in &policy.overrides {
            let builder = match given.selector.column {
                SelectorColumn::Ekind => &mut ekinds,
                SelectorColumn::Route => &mut routes,
            };
            let rules = builder.rules(&given.selector);
            match given.rule {
                OverrideRule::Always => rules.fate = Some(Fate::Always),
                OverrideRule::Never => rules.fate = Some(Fate::Never),
                OverrideRule::Slow(limit) => rules.slow_mut().slow = Some(limit),
                OverrideRule::Start(limit) => rules.slow_mut().start = Some(limit),
                OverrideRule::Total(limit) => rules.slow_mut().total = Some(limit),
                OverrideRule::Rate(rate) => rules.rate = Some(Rate::new(rate)),
                OverrideRule::Drop => rules.drops = true,
            }
        }
        let drops = policy.overrides.iter().any(|it| it.rule == OverrideRule::Drop);
        Self { ekinds: ekinds.build(), routes: routes.build(), drops }
    }

    #[inline(never)]
    fn resolve(&self, request: &Finished<'_>, base: Resolved) -> Resolved {
        let (ekind, route) = (request.ekind, request.route);
        let rules = self.ekinds.whole(ekind).or(self.routes.whole(route));
        let rules = rules.or(self.ekinds.beginning(ekind)).or(self.routes.beginning(route));
        Resolved {
            fate: rules.fate,
            slow: rules.slow.unwrap_or(base.slow),
            rate: rules.rate.unwrap_or(base.rate),
        }
    }
}

/// The overrides of one column as they are given.
#[derive(Default)]
struct Builder<'a> {
    whole: HashMap<Box<str>, Rules>,
    beginnings: BTreeMap<&'a str, Rules>,
}

impl<'a> Builder<'a> {
    /// Where the rules of a selector are kept.
    fn rules(&mut self, selector: &'a Selector) -> &mut Rules {
        let text = selector.text.as_str();
        if selector.prefix {
            self.beginnings.entry(text).or_default()
        } else {
            self.whole.entry(text.into()).or_default()
        }
    }

    fn build(self) -> Selectors {
        let mut beginnings: Vec<Beginning> = Vec::with_capacity(self.beginnings.len());
        for (text, rules) in self.beginnings {
            // Whatever this one begins with came before, and so did what that begins with.
            let mut shorter = beginnings.len().checked_sub(1);
            while let Some(at) = shorter {
                if text.starts_with(&*beginnings[at].text) {
                    break;
                }
                shorter = beginnings[at].shorter;
            }
            let said = shorter.map_or_else(Rules::default, |at| beginnings[at].rules);
            beginnings.push(Beginning { text: text.into(), rules: rules.or(said), shorter });
        }
        Selectors { whole: self.whole, beginnings }
    }
}

impl Selectors {
    fn is_used(&self) -> bool {
        !(self.whole.is_empty() && self.beginnings.is_empty())
    }

    /// What is said of this text, by whatever selector.
    fn rules_for(&self, text: &str) -> Rules {
        self.whole(text).or(self.beginning(text))
    }

    fn whole(&self, text: &str) -> Rules {
        if self.whole.is_empty() {
            return Rules::default();
        }
        self.whole.get(text).copied().unwrap_or_default()
    }

    /// What the beginnings of this text say, the longest first.
    ///
    /// Between the longest of them and the text itself stand, in the order of texts, only such as begin
    /// with it. So the last that is no greater than the text is it, or leads to it.
    fn beginning(&self, text: &str) -> Rules {
        let mut at = self.beginnings.partition_point(|it| *it.text <= *text).checked_sub(1);
        while let Some(beginning) = at.map(|at| &self.beginnings[at]) {
            if text.starts_with(&*beginning.text) {
                return beginning.rules;
            }
            at = beginning.shorter;
        }
        Rules::default()
    }
}

#[cfg(test)]
#[path = "tail_tests.rs"]
mod tests;
