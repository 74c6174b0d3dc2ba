//! Which traces are kept, and that their weights tell how many requests there were.

use std::collections::BTreeMap;
use std::time::Duration;

use tracing::info_span;
use tracing_activity::config::Config;
use tracing_activity::model::{Activity, KeepReason, Outcome, TraceId};
use tracing_activity::sampling::{Decision, Finished, Sampler};
use tracing_activity::with_activity;

use crate::support::{self, capture_with, request, spin};

fn sampled(policy: &str) -> Config {
    let mut config = support::config();
    config.sample = policy.parse().unwrap();
    config
}

/// How many requests there were, and how many the kept traces say there were.
#[derive(Debug, Default)]
struct Estimate {
    requests: f64,
    weights: f64,
    /// Of the estimate: a kept trace of weight w stands for a variance of w * (w - 1).
    variance: f64,
}

impl Estimate {
    fn add(&mut self, weight: Option<f32>) {
        self.requests += 1.0;
        let weight = weight.map_or(0.0, f64::from);
        self.weights += weight;
        self.variance += weight * (weight - 1.0).max(0.0);
    }

    fn sigmas(&self) -> f64 {
        let off = (self.weights - self.requests).abs();
        if off < 0.001 * self.requests { 0.0 } else { off / self.variance.sqrt() }
    }
}

/// By event kind, and over all.
fn check(estimates: &BTreeMap<&str, Estimate>, sigmas: f64) {
    let mut all = Estimate::default();
    for (ekind, estimate) in estimates {
        assert!(estimate.sigmas() <= sigmas, "{ekind}: {estimate:?}");
        all.requests += estimate.requests;
        all.weights += estimate.weights;
        all.variance += estimate.variance;
    }
    assert!(all.sigmas() <= sigmas, "{all:?}");
    assert!(all.requests > 10_000.0 && all.variance > 0.0, "nothing to estimate: {all:?}");
}

const EKINDS: [&str; 4] = ["checkout", "search", "view", "export"];

/// An event kind as traffic has it: some are rare.
fn draw(random: &mut fastrand::Rng) -> &'static str {
    EKINDS[match random.u32(0..100) {
        0..5 => 0,
        5..60 => 1,
        60..98 => 2,
        _ => 3,
    }]
}

fn trace_id(random: &mut fastrand::Rng) -> TraceId {
    TraceId::from_bytes(random.u128(..).to_be_bytes())
}

#[test]
fn the_weights_of_kept_traces_sum_up_to_the_requests_of_every_event_kind() {
    let policy = "errors,slow>1500us,rate=0.05,ekind:checkout=0.5,ekind:ex*=0.2,route:/view=0.1";
    let mut random = fastrand::Rng::with_seed(1);
    let (activities, _) = capture_with(sampled(policy), || {
        for n in 0..20_000 {
            let ekind = draw(&mut random);
            let route = if ekind == "view" { "/view" } else { "/" };
            let status = if random.u32(0..50) == 0 { 500 } else { 200 };
            let span = info_span!(
                "request",
                http.request.method = "GET",
                http.route = route,
                http.response.status_code = status,
                trace_id = %trace_id(&mut random),
            );
            span.in_scope(|| {
                with_activity(|a| a.event(ekind));
                if n % 400 == 0 {
                    spin(Duration::from_millis(2));
                }
            });
        }
    });
    let mut estimates: BTreeMap<&str, Estimate> = BTreeMap::new();
    for it in &activities {
        let kept = it.kept_because.map(|_| it.sample_weight);
        assert_eq!((kept.is_some(), kept.is_some()), (it.trace.is_some(), it.sample_weight > 0.0));
        estimates.entry(it.ekind.as_str()).or_default().add(kept);
    }
    assert_eq!(activities.len(), 20_000, "every request is a row");
    assert_eq!(estimates.len(), EKINDS.len());
    check(&estimates, 3.0);
    let failed = |it: &&Activity| it.outcome == Outcome::ServerFault;
    let failed: Vec<_> = activities.iter().filter(failed).collect();
    assert!(failed.len() > 300);
    assert!(failed.iter().all(|it| it.kept_because == Some(KeepReason::StatusCode)));
    let of = |reason| activities.iter().filter(|it| it.kept_because == Some(reason)).count();
    assert!(of(KeepReason::Latency) >= 40, "{}", of(KeepReason::Latency));
    assert!(of(KeepReason::Probabilistic) > 1000);
}

#[test]
fn under_a_budget_errors_are_kept_the_rest_is_bounded_and_the_estimate_stays_true() {
    // Seeded traffic on a clock of its own, so that the sigmas are the same on every run.
    let policy = "errors,slow>1s,rate=0.5,ekind:checkout=1,budget=60/s";
    let sampler = Sampler::new(policy.parse().unwrap());
    let mut random = fastrand::Rng::with_seed(2);
    let mut estimates: BTreeMap<&str, Estimate> = BTreeMap::new();
    let mut kept = BTreeMap::from([(KeepReason::StatusCode as u8, 0)]);
    let (mut nanos, mut errors) = (0_u64, 0);
    let mut by_second = vec![[0_u32; 2]; 41];
    while nanos < 40_000_000_000 {
        let second = (nanos / 1_000_000_000) as usize;
        // Twenty times the traffic for ten seconds, and twice the budget in errors for the last.
        let (per_second, error_percent) = match second {
            10..20 => (10_000, 0),
            30.. => (500, 24),
            _ => (500, 2),
        };
        nanos += random.u64(0..2_000_000_000 / per_second);
        let failed = random.u32(0..100) < error_percent;
        let slow = random.u32(0..100) < 3;
        let finished = Finished {
            outcome: if failed { Outcome::ServerFault } else { Outcome::Success },
            duration: Duration::from_secs(if slow { 2 } else { 0 }),
            trace_id: trace_id(&mut random),
            ekind: draw(&mut random),
            ..Finished::default()
        };
        let decision = sampler.decide(&finished, || nanos);
        let weight = match decision {
            Decision::Keep { reason, .. } => {
                *kept.entry(reason as u8).or_default() += 1;
                by_second[second][usize::from(!failed)] += 1;
                Some(decision.weight())
            }
            Decision::Drop => None,
        };
        if failed {
            errors += 1;
            assert_eq!(weight, Some(1.0), "an error is kept and stands for itself");
        }
        estimates.entry(finished.ekind).or_default().add(weight);
    }
    check(&estimates, 3.0);
    assert_eq!(kept[&(KeepReason::StatusCode as u8)], errors);
    assert!(kept[&(KeepReason::Latency as u8)] > 500, "{kept:?}");
    // Four standard deviations of 60, and what the documented jump costs.
    for (second, [errors, others]) in by_second[..40].iter().enumerate() {
        let others = f64::from(*others);
        let jump = if second == 10 || second == 0 { 60.0 } else { 0.0 };
        let left = (60.0 - f64::from(*errors)).max(60.0 / 8.0);
        let bound = left + jump + 4.0 * (left + jump).sqrt() + 8.0;
        assert!(others <= bound, "second {second}: {errors} errors, {others} others of {bound}");
    }
    // The budget is used, too.
    let steady: u32 = by_second[12..20].iter().map(|[errors, others]| errors + others).sum();
    assert!((8 * 50..8 * 70).contains(&steady), "{steady} in 8 s");
    assert!(by_second[31..40].iter().all(|[errors, _]| *errors > 60), "{by_second:?}");
}

#[test]
fn a_budget_holds_in_the_layer_and_leaves_every_error() {
    let policy = "errors,rate=1,budget=50/s";
    let mut random = fastrand::Rng::with_seed(3);
    let (activities, _) = capture_with(sampled(policy), || {
        for n in 0..20_000 {
            let status = if n % 100 == 0 { 500 } else { 200 };
            let id = trace_id(&mut random);
            request!("http.response.status_code" = status, trace_id = %id).in_scope(|| ());
        }
    });
    let mut estimates: BTreeMap<&str, Estimate> = BTreeMap::new();
    let mut kept = 0;
    for it in &activities {
        let weight = it.kept_because.map(|_| it.sample_weight);
        let failed = it.outcome == Outcome::ServerFault;
        assert!(!failed || weight == Some(1.0), "{it:?}");
        kept += u32::from(weight.is_some() && !failed);
        estimates.entry("all").or_default().add(weight);
    }
    let times = activities.iter().map(|it| it.when.as_micros());
    let seconds = (times.clone().max().unwrap() - times.min().unwrap()) as f64 / 1e6;
    // 50 a second, and the jump from nothing to 20,000 at once.
    let bound = 50.0 * (seconds + 1.0 / 4.0) + 12.0 * (1.0 + (20_000.0_f64 / 12.0).ln());
    assert!(f64::from(kept) < bound + 4.0 * bound.sqrt(), "{kept} in {seconds} s, {bound}");
    // How fast the requests came is not seeded: sigmas enough for any run.
    check(&estimates, 5.0);
}

/// What is kept of these requests, by why.
fn kept(policy: &str, requests: impl FnOnce()) -> Vec<Option<KeepReason>> {
    let (activities, _) = capture_with(sampled(policy), requests);
    activities.iter().map(|it| it.kept_because).collect()
}

#[test]
fn rules_go_by_the_event_kind_and_the_route_that_the_row_has() {
    let requests = || {
        // Said by a patch; by a field of a child; by both; by nobody.
        request!("http.route" = "/a").in_scope(|| with_activity(|a| a.event("pay")));
        request!("http.route" = "/b").in_scope(|| {
            info_span!("child", activity.ekind = "pay").in_scope(|| ());
        });
        request!("http.route" = "/c", activity.ekind = "pay").in_scope(|| {
            with_activity(|a| a.event("other"));
        });
        request!("http.route" = "/orders/{id}").in_scope(|| ());
        request!("url.path" = "/orders/7").in_scope(|| ());
        info_span!("rpc", otel.kind = "server", rpc.service = "Shop", rpc.method = "Pay")
            .in_scope(|| ());
        info_span!("m", messaging.operation.name = "process", messaging.destination.name = "mail")
            .in_scope(|| ());
        info_span!("job", activity.title = "nightly").in_scope(|| ());
    };
    let (rows, _) = capture_with(sampled("all"), requests);
    let names: Vec<_> = rows.iter().map(|it| (it.ekind.as_str(), it.route.as_str())).collect();
    let expected = [
        ("pay", "/a"),
        ("pay", "/b"),
        ("other", "/c"),
        ("GET /orders/{id}", "/orders/{id}"),
        ("GET", ""),
        ("Shop/Pay", "Shop/Pay"),
        ("process mail", "process mail"),
        ("job", "job"),
    ];
    assert_eq!(names, expected);
    // A rule for each of them keeps it and those of the same name, and no other.
    for (ekind, route) in expected {
        let by_ekind = kept(&format!("always:ekind:{ekind}"), requests);
        let by_route = kept(&format!("always:route:\"{route}\""), requests);
        for (index, row) in expected.iter().enumerate() {
            let always = |matches: bool| matches.then_some(KeepReason::AlwaysSample);
            assert_eq!(by_ekind[index], always(row.0 == ekind), "{ekind}: {row:?}");
            assert_eq!(by_route[index], always(row.1 == route), "{route}: {row:?}");
        }
    }
}

#[test]
fn a_health_check_is_never_kept_unless_the_service_fails() {
    let kept = kept("all,never:route:/health", || {
        for status in [200, 404, 500] {
            let span = request!("http.route" = "/health", "http.response.status_code" = status);
            span.in_scope(|| ());
        }
    });
    assert_eq!(kept, [None, None, Some(KeepReason::StatusCode)]);
}

#[test]
fn a_clients_fault_is_kept_where_the_policy_says_faults() {
    let requests = || request!("http.response.status_code" = 404).in_scope(|| ());
    assert_eq!(kept("faults", requests), [Some(KeepReason::StatusCode)]);
    assert_eq!(kept("errors", requests), [None]);
}
