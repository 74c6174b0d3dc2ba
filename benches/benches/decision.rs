//! What the tail decision costs: nanoseconds of the thread's processor time.
//!
//! Prints one JSON object: `decision_ns` is of a policy with twenty rules and a budget, asked about
//! requests of which some match by event kind, some by route, some by a beginning and most by
//! nothing; `default_ns` is of the default policy.

use std::hint::black_box;
use std::time::Duration;

use benchmarks::ThreadTime;
use tracing_activity::config::SamplingPolicy;
use tracing_activity::model::{Outcome, TraceId};
use tracing_activity::sampling::{Decision, Finished, Sampler};

const POLICY: &str = "errors,slow>500ms,rate=0.01,budget=100/s,\
    ekind:checkout=1,ekind:signup=1,ekind:search=0.001,ekind:GET /products/{id}=0.005,\
    ekind:admin.*=0.5,ekind:import*>10s,\
    route:/orders/{id}=0.1,route:/orders/{id}>250ms,route:/basket=0.05,route:/search>1s,\
    route:/export/*>30s,route:/api/v1/*=0.002,route:/static/*=0,\
    always:ekind:payment,always:route:/admin/users,never:route:/health";

/// Event kind and route of the requests that are decided about.
const NAMES: [(&str, &str); 8] = [
    ("GET /products/{id}", "/products/{id}"),
    ("checkout", "/checkout"),
    ("GET /api/v1/products/{id}/reviews", "/api/v1/products/{id}/reviews"),
    ("GET /health", "/health"),
    ("POST /orders/{id}", "/orders/{id}"),
    ("GET /", "/"),
    ("GET /account/addresses/{address}", "/account/addresses/{address}"),
    ("admin.users.list", "/admin/users"),
];

const REQUESTS: usize = 4096;
const ROUNDS: usize = 31;
const PASSES: usize = 8;

fn requests() -> Vec<Finished<'static>> {
    let mut random = fastrand::Rng::with_seed(1);
    let request = |_| {
        let (ekind, route) = NAMES[random.usize(..NAMES.len())];
        Finished {
            outcome: if random.u8(..) < 3 { Outcome::ServerFault } else { Outcome::Success },
            duration: Duration::from_micros(random.u64(..600_000)),
            trace_id: TraceId::from_bytes(random.u128(..).to_be_bytes()),
            ekind,
            route,
            ..Finished::default()
        }
    };
    (0..REQUESTS).map(request).collect()
}

/// The median of the rounds, a decision.
fn nanos(policy: &str, requests: &[Finished<'_>]) -> f64 {
    let sampler = Sampler::new(policy.parse::<SamplingPolicy>().expect("a policy"));
    let mut now = 0;
    let mut kept = 0_usize;
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = ThreadTime::now();
            for request in (0..PASSES).flat_map(|_| requests) {
                now += 20_000;
                let decision = sampler.decide(black_box(request), || now);
                kept += usize::from(black_box(decision) != Decision::Drop);
            }
            start.elapsed().as_nanos() as f64 / (PASSES * requests.len()) as f64
        })
        .collect();
    assert!(kept > 0, "nothing is kept");
    rounds.sort_by(f64::total_cmp);
    rounds[ROUNDS / 2]
}

fn main() {
    let requests = requests();
    let twenty = nanos(POLICY, &requests);
    let default = nanos(&SamplingPolicy::default().to_string(), &requests);
    println!("{{\"decision_ns\":{twenty:.1},\"default_ns\":{default:.1}}}");
}
