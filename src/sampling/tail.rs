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
mod tests {
    use super::*;
    use crate::model::TraceId;

    const FAST: Duration = Duration::from_millis(1);
    const SLOW: Duration = Duration::from_secs(2);

    fn trace(low: u64) -> TraceId {
        let mut bytes = [0xff; 16];
        bytes[8..].copy_from_slice(&low.to_be_bytes());
        TraceId::from_bytes(bytes)
    }

    fn request(outcome: Outcome, duration: Duration, low: u64) -> Finished<'static> {
        Finished { outcome, duration, trace_id: trace(low), ..Finished::default() }
    }

    fn decide(policy: &str, request: &Finished<'_>) -> Decision {
        TailSampler::new(&policy.parse().unwrap()).decide(request, Shares::ALL)
    }

    fn keep(reason: KeepReason, weight: f32) -> Decision {
        Decision::Keep { reason, rate: Some(Rate::new(1.0 / f64::from(weight))) }
    }

    #[test]
    fn a_rate_above_0_never_becomes_0() {
        let highest = request(Outcome::Success, FAST, u64::MAX);
        assert_ne!(decide("rate=1e-20", &highest), Decision::Drop);
        let tail = TailSampler::new(&"rate=1e-12".parse().unwrap());
        let shares = Shares { rules: 1.0, random: 1e-12 };
        assert_ne!(tail.decide(&highest, shares), Decision::Drop);
    }

    #[test]
    fn a_server_fault_is_kept_and_a_client_fault_where_faults_are() {
        let ours = request(Outcome::ServerFault, FAST, 0);
        let theirs = request(Outcome::ClientFault, FAST, 0);
        assert_eq!(decide("errors", &ours), keep(KeepReason::StatusCode, 1.0));
        assert_eq!(decide("errors", &theirs), Decision::Drop);
        assert_eq!(decide("faults", &ours), keep(KeepReason::StatusCode, 1.0));
        assert_eq!(decide("faults", &theirs), keep(KeepReason::StatusCode, 1.0));
    }

    #[test]
    fn only_a_request_above_the_threshold_is_slow() {
        let at = Duration::from_millis(500);
        let above = at + Duration::from_nanos(1);
        assert_eq!(decide("slow>500ms", &request(Outcome::Success, at, 0)), Decision::Drop);
        let kept = keep(KeepReason::Latency, 1.0);
        assert_eq!(decide("slow>500ms", &request(Outcome::Success, above, 0)), kept);
    }

    /// A request whose answer began after the first time and ended after the second.
    fn answered(start: u64, total: u64, is_stream: bool) -> Finished<'static> {
        let (response_start, total) = (Duration::from_millis(start), Duration::from_millis(total));
        Finished { response_start, is_stream, ..request(Outcome::Success, total, 0) }
    }

    #[test]
    fn a_stream_is_slow_by_its_start_and_everything_else_by_its_end() {
        for (start, total, is_stream, expected) in [
            (10, 3_600_000, true, false),
            (600, 3_600_000, true, true),
            (10, 600, false, true),
            (10, 500, false, false),
            // Nobody told when the stream began: it may have been late.
            (0, 600, true, true),
        ] {
            let kept = decide("slow>500ms", &answered(start, total, is_stream));
            assert_eq!(kept != Decision::Drop, expected, "{start} of {total}, {is_stream}");
        }
    }

    #[test]
    fn start_and_total_mean_what_they_say_of_streams_and_others() {
        for (policy, start, total, expected) in [
            ("start>500ms", 501, 502, true),
            ("start>500ms", 500, 9_000, false),
            ("start>500ms", 0, 501, true),
            ("total>5s", 1, 5_001, true),
            ("total>5s", 1, 5_000, false),
            ("slow>500ms,total>5s", 1, 5_001, true),
            ("slow>10s,start>200ms", 201, 300, true),
        ] {
            for is_stream in [false, true] {
                let kept = decide(policy, &answered(start, total, is_stream));
                assert_eq!(kept != Decision::Drop, expected, "{policy}: {start} of {total}");
            }
        }
    }

    #[test]
    fn the_most_specific_rule_says_by_which_measure_a_request_is_slow() {
        let policy = "slow>500ms,route:/events start>2s,route:/report total>1m,\
            route:/both>1s,route:/both total>1m";
        for (route, start, total, expected) in [
            ("/x", 501, 502, true),
            ("/events", 1_999, 3_600_000, false),
            ("/events", 2_001, 2_002, true),
            ("/report", 59_000, 60_000, false),
            ("/report", 1, 60_001, true),
            ("/both", 1_001, 1_002, true),
            ("/both", 999, 60_001, true),
            ("/both", 999, 60_000, false),
        ] {
            let request = Finished { route, ..answered(start, total, true) };
            let kept = decide(policy, &request);
            assert_eq!(kept != Decision::Drop, expected, "{route}: {start} of {total}");
        }
    }

    #[test]
    fn a_quarter_is_kept_by_the_highest_quarter_of_the_ids_and_weighs_four() {
        let edge = RANDOM_SPACE / 4 * 3;
        let of = |low| decide("rate=0.25", &request(Outcome::Success, FAST, low));
        assert_eq!(of(edge), keep(KeepReason::Probabilistic, 4.0));
        assert_eq!(of(edge - 1), Decision::Drop);
        // Bits above the 56 do not count.
        assert_eq!(of(0xff << 56), Decision::Drop);
    }

    #[test]
    fn the_random_value_takes_the_place_of_the_trace_id() {
        let low = request(Outcome::Success, FAST, 0);
        let given = Finished { random_value: Some(RANDOM_SPACE - 1), ..low };
        assert_eq!(decide("rate=0.25", &given), keep(KeepReason::Probabilistic, 4.0));
        let high = request(Outcome::Success, FAST, u64::MAX);
        let given = Finished { random_value: Some(0), ..high };
        assert_eq!(decide("rate=0.25", &given), Decision::Drop);
    }

    #[test]
    fn what_the_caller_keeps_is_kept_and_the_larger_chance_is_the_chance() {
        let half = Some(Rate::new(0.5));
        let by_caller = |rate| Decision::Keep { reason: KeepReason::ParentSampled, rate };
        assert_eq!(Decision::Drop.with_caller(half), by_caller(half));
        let random = keep(KeepReason::Probabilistic, 8.0);
        assert_eq!(random.with_caller(half), by_caller(half));
        let failed = keep(KeepReason::StatusCode, 1.0);
        assert_eq!(failed.with_caller(half), failed);
        // A chance that nobody knows: it counts for nothing, and what we would keep for itself.
        assert!(Decision::Drop.with_caller(None).weight().abs() < f32::EPSILON);
        assert_eq!(random.with_caller(None), random);
    }

    #[test]
    fn all_keeps_everything_and_off_collects_nothing() {
        let all = TailSampler::new(&SamplingPolicy::ALL);
        assert!(all.can_keep());
        let request = |outcome, low| request(outcome, FAST, low);
        assert_ne!(all.decide(&request(Outcome::Success, 0), Shares::ALL), Decision::Drop);
        let off = TailSampler::new(&SamplingPolicy::OFF);
        assert!(!off.can_keep());
        let failed = request(Outcome::ServerFault, u64::MAX);
        assert_eq!(off.decide(&failed, Shares::ALL), Decision::Drop);
    }

    #[test]
    fn never_drops_the_slow_and_the_random_but_not_a_fault_of_the_server() {
        let policy = "errors,slow>1s,rate=1,never:route:/health";
        let health = |outcome| Finished { route: "/health", ..request(outcome, SLOW, u64::MAX) };
        assert_eq!(decide(policy, &health(Outcome::Success)), Decision::Drop);
        let failed = decide(policy, &health(Outcome::ServerFault));
        assert_eq!(failed, keep(KeepReason::StatusCode, 1.0));
        let off = "slow>1s,rate=1,never:route:/health";
        assert_eq!(decide(off, &health(Outcome::ServerFault)), Decision::Drop);
        let faults = "faults,never:route:/health";
        assert_eq!(decide(faults, &health(Outcome::ClientFault)), Decision::Drop);
    }

    #[test]
    fn the_most_specific_rule_has_the_word_about_each_thing() {
        let policy = "slow>1s,rate=0.5,\
            ekind:pay=1,route:/pay/{id}=0,ekind:pa*=0.125,route:/pay/*>5s,route:/*=0.25,\
            always:route:/pay/*,never:ekind:secret,never:route:/pay/ping";
        let top = u64::MAX;
        let of = |ekind, route, duration| {
            decide(policy, &Finished { ekind, route, ..request(Outcome::Success, duration, top) })
        };
        let always = keep(KeepReason::AlwaysSample, 1.0);
        let random = |weight| keep(KeepReason::Probabilistic, weight);
        // A whole event kind before a whole route, a whole route before a beginning.
        assert_eq!(of("secret", "/pay/x", FAST), Decision::Drop);
        assert_eq!(of("x", "/pay/ping", FAST), Decision::Drop);
        assert_eq!(of("x", "/pay/x", FAST), always);
        // The beginning of the event kind before that of the route, the rest by rate.
        assert_eq!(of("pay", "/a", FAST), random(1.0));
        assert_eq!(of("payment", "/a", FAST), random(8.0));
        assert_eq!(of("x", "/a", FAST), random(4.0));
        assert_eq!(of("x", "", FAST), random(2.0));
        // Slow by the policy where no override says otherwise.
        assert_eq!(of("x", "/a", SLOW), keep(KeepReason::Latency, 1.0));
        let exports = "slow>1s,route:/export/*>5s";
        let export = Finished { route: "/export/1", ..request(Outcome::Success, SLOW, top) };
        assert_eq!(decide(exports, &export), Decision::Drop);
        let export = Finished { duration: Duration::from_secs(6), ..export };
        assert_eq!(decide(exports, &export), keep(KeepReason::Latency, 1.0));
    }

    #[test]
    fn a_share_of_the_slow_weighs_more_and_the_larger_chance_counts() {
        let sampler = TailSampler::new(&"slow>1s,rate=0.5".parse().unwrap());
        let slow = request(Outcome::Success, SLOW, u64::MAX);
        let decide = |rules, random| sampler.decide(&slow, Shares { rules, random });
        assert_eq!(decide(0.25, 0.25), keep(KeepReason::Latency, 4.0));
        assert_eq!(decide(0.125, 0.5), keep(KeepReason::Probabilistic, 4.0));
        let unlucky = Finished { trace_id: trace(RANDOM_SPACE / 4 * 3 - 1), ..slow };
        let shares = Shares { rules: 0.25, random: 0.25 };
        assert_eq!(sampler.decide(&unlucky, shares), Decision::Drop);
    }
}
