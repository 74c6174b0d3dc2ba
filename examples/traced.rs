//! A service whose requests are rows and OpenTelemetry's spans, and its customers, in one process.
//!
//! `tracing_activity::init` sets up both by the environment:
//!
//! ```sh
//! OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 cargo run --example traced --features otlp
//! ```
//!
//! Half of the requests come from another service, with a `traceparent`. It prints what became of
//! them as JSON: `cargo xtask otlp-proof` compares it with what arrived.

use std::convert::Infallible;
use std::error::Error;
use std::time::{Duration, Instant};

use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use tower::{Layer as _, Service, service_fn};
use tracing::{Instrument as _, error, info_span};
use tracing_activity::config::TraceparentTrust;
use tracing_activity::middleware::RequestSpanLayer;

/// What the process is asked to do.
struct Plan {
    requests: usize,
    threads: usize,
    /// How long a request waits for its database.
    wait: Duration,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: usize| arguments.next().map_or(Ok(default), |it| it.parse());
    let plan = Plan {
        requests: number(20_000)?,
        threads: number(8)?,
        wait: Duration::from_micros(number(0)? as u64),
    };
    let activities = tracing_activity::init()?;
    let began = Instant::now();
    let mut times = serve(&plan);
    let took = began.elapsed();
    let flushed = activities.flush(Duration::from_mins(1));
    let handle = activities.handle();
    let before = handle.span_stats().unwrap_or_default();
    let ending = Instant::now();
    let report = activities.shutdown(Duration::from_secs(if flushed { 30 } else { 2 }));
    let ending = ending.elapsed();
    let spans = handle.span_stats().unwrap_or_default();
    times.sort_unstable();
    let quantile = |q: f64| times[((times.len() - 1) as f64 * q) as usize].as_micros() as u64;
    println!(
        "{}",
        serde_json::json!({
            "requests": times.len(),
            "seconds": took.as_secs_f64(),
            "p50_us": quantile(0.5),
            "p99_us": quantile(0.99),
            "leftovers": before.held + before.open_traces,
            "complete": report.complete,
            "shutdown_ms": ending.as_millis() as u64,
            "rows": { "created": report.stats.created, "stored": report.stats.stored },
            "spans": {
                "started": spans.started,
                "exported": spans.exported,
                "failed": spans.failed,
                "sampled_out": spans.sampled_out,
                "dropped": spans.dropped.total(),
                "in_flight": spans.in_flight(),
                "kept_traces": spans.kept_traces,
            },
        })
    );
    Ok(())
}

/// Sends every request, on many threads; how long each took.
fn serve(plan: &Plan) -> Vec<Duration> {
    let each = plan.requests / plan.threads;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..plan.threads)
            .map(|thread| scope.spawn(move || customer(thread as u64, each, plan.wait)))
            .collect();
        threads.into_iter().flat_map(|it| it.join().expect("a customer panicked")).collect()
    })
}

fn customer(seed: u64, requests: usize, wait: Duration) -> Vec<Duration> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut service = RequestSpanLayer::new()
        // The customers are services of ours.
        .traceparent(TraceparentTrust::Always)
        .layer(service_fn(move |request| handle(request, wait)));
    (0..requests)
        .map(|nth| {
            let request = request(nth, &mut random);
            let start = Instant::now();
            runtime.block_on(async {
                let answer = service.call(request).await.expect("the service is infallible");
                answer.into_body().collect().await.expect("a body in memory")
            });
            start.elapsed()
        })
        .collect()
}

/// Every other request has a caller: one that keeps the trace or not, that tells with what chance or
/// not. Some call twice in one trace.
fn request(nth: usize, random: &mut fastrand::Rng) -> Request<u64> {
    let seed = random.u64(..);
    let builder = Request::builder().uri("/orders/7");
    if nth.is_multiple_of(2) {
        return builder.body(seed).expect("a request");
    }
    // The same trace for the two requests of a caller.
    let mut caller = fastrand::Rng::with_seed(seed % 100_000 / 2);
    let trace = caller.u128(1..);
    let random_value = caller.u64(..1 << 56);
    let (sampled, state) = match caller.u8(..3) {
        0 => (caller.u8(..10) == 0, "vendor=x".to_owned()),
        1 => (caller.u8(..10) == 0, format!("ot=rv:{random_value:014x}")),
        // One in sixteen, by the random value.
        _ if random_value >= 0xf << 52 => (true, format!("ot=th:f;rv:{random_value:014x}")),
        _ => (false, format!("ot=rv:{random_value:014x}")),
    };
    builder
        .header(
            "traceparent",
            format!("00-{trace:032x}-{:016x}-0{}", caller.u64(1..), u8::from(sampled)),
        )
        .header("tracestate", state)
        .body(seed)
        .expect("a request")
}

async fn handle(request: Request<u64>, wait: Duration) -> Result<Response<String>, Infallible> {
    let mut random = fastrand::Rng::with_seed(*request.body());
    for table in ["orders", "customers", "stock"].iter().take(random.usize(..4)) {
        let query = info_span!("query", table);
        async {
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
            info_span!("decode", rows = 3).in_scope(|| ());
        }
        .instrument(query)
        .await;
    }
    // What goes on after the answer holds the request's span open.
    let detached = (random.u8(..4) == 0).then(|| info_span!("notify"));
    if let Some(span) = detached {
        drop(tokio::spawn(async {}.instrument(span)));
    }
    let mut answer = Response::new("fine".to_owned());
    if random.u8(..50) == 0 {
        error!("the stock does not answer");
        *answer.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    }
    Ok(answer)
}
