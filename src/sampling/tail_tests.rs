//! What a policy decides, request by request.

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
