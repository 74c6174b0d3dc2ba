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
                slow: Slow { slow: policy.slow, start: policy.start, total: policy.total },
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
    fn claim_by(&self, request: &Finished<'_>, slow: Slow, rate: Rate) -> Claim {
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
struct Slow {
    /// It took longer; of a stream, its answer began later.
    slow: Option<Duration>,
    /// Its answer began later.
    start: Option<Duration>,
    /// Its answer ended later.
    total: Option<Duration>,
}

impl Slow {
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
    slow: Slow,
    rate: Rate,
}

/// What one selector says.
#[derive(Debug, Clone, Copy, Default)]
struct Rules {
    fate: Option<Fate>,
    slow: Option<Slow>,
    rate: Option<Rate>,
    drops: bool,
}

impl Rules {
    fn slow_mut(&mut self) -> &mut Slow {
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

    #[test]
    fn beginnings_among_many_say_what_they_would_say_one_by_one() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut text = |longest: usize| -> String {
            let length = random.usize(..=longest);
            (0..length).map(|_| ['a', 'b', '/', '\u{e4}'][random.usize(..4)]).collect()
        };
        let beginnings: std::collections::BTreeSet<String> = (0..200).map(|_| text(5)).collect();
        let rules = |it: &String| format!("route:\"{it}\"*=0.{}", it.len() + 1);
        let policy = beginnings.iter().map(rules).collect::<Vec<_>>().join(",");
        let policy: SamplingPolicy = policy.parse().unwrap();
        let sampler = TailSampler::new(&policy);
        for _ in 0..2_000 {
            let route = text(8);
            let matching = beginnings.iter().filter(|it| route.starts_with(it.as_str()));
            let longest = matching.max_by_key(|it| it.len());
            let said = longest.map_or(0.0, |it| format!("0.{}", it.len() + 1).parse().unwrap());
            let request = Finished { route: &route, ..Finished::default() };
            assert_eq!(sampler.claim(&request), Claim::Random(Rate::new(said)), "{route}");
        }
    }

    #[test]
    fn a_request_is_decided_as_fast_under_many_beginnings_as_under_few() {
        let policy = |count: usize| -> SamplingPolicy {
            let rules: Vec<_> = (0..count).map(|n| format!("drop:route:/{n}/*")).collect();
            format!("errors,{}", rules.join(",")).parse().unwrap()
        };
        let time = |sampler: &TailSampler| {
            let begin = std::time::Instant::now();
            let mut drops = 0;
            for n in 0..10_000 {
                let route = format!("/{}/x", n % 200);
                let request = Finished { route: &route, ..Finished::default() };
                drops += usize::from(sampler.drops_row(&request));
            }
            (begin.elapsed(), drops)
        };
        let few = TailSampler::new(&policy(100));
        let (few, drops) = (0..3).map(|_| time(&few)).min().unwrap();
        assert_eq!(drops, 5_000);
        let (many, drops) = time(&TailSampler::new(&policy(100_000)));
        assert_eq!(drops, 10_000);
        // A thousand times as many.
        assert!(many < few * 50, "{many:?} against {few:?}");
    }

    #[test]
    fn a_drop_leaves_out_the_row_of_what_succeeds_and_of_nothing_else() {
        let policy = "errors,drop:route:/healthz,drop:ekind:ping*,always:route:/healthz,route:/*=1";
        let sampler = TailSampler::new(&policy.parse().unwrap());
        assert!(sampler.drops_rows() && sampler.reads_route() && sampler.reads_ekind());
        let drops = |outcome, ekind, route| {
            sampler.drops_row(&Finished { ekind, route, ..request(outcome, FAST, 0) })
        };
        assert!(drops(Outcome::Success, "GET /healthz", "/healthz"));
        assert!(drops(Outcome::Success, "ping_all", "/"));
        assert!(!drops(Outcome::Success, "GET /healthz/x", "/healthz/x"));
        for outcome in [Outcome::ClientFault, Outcome::ServerFault] {
            assert!(!drops(outcome, "GET /healthz", "/healthz"), "{outcome:?}");
        }
        assert!(!TailSampler::new(&SamplingPolicy::ALL).drops_rows());
    }
}
