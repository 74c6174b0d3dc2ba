//! A service whose requests are rows and OpenTelemetry's spans, and its customers, in one process.
//!
//! `install`, like `tracing_activity::init`, sets up both by the environment:
//!
//! ```sh
//! OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 cargo run --example traced --features otlp
//! ```
//!
//! Half of the requests come from another service, with a `traceparent`. It prints what became of
//! them as JSON: `cargo xtask otlp-proof` compares it with what arrived. Arguments are `NAME=NUMBER`;
//! the names are the fields of `Plan`.

use std::convert::Infallible;
use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use tower::{Layer as _, Service, service_fn};
use tracing::{Instrument as _, Span, error, info_span};
use tracing_activity::config::TraceparentTrust;
use tracing_activity::middleware::RequestSpanLayer;
use tracing_subscriber::layer::{Context, Layer};

/// What the process is asked to do.
struct Plan {
    requests: usize,
    threads: usize,
    /// Microseconds that a request waits for its database.
    wait: u64,
    /// Requests a second, at fixed times, over all threads; 0 is as many as it can.
    pace: u32,
    /// Seconds in which everything is to be delivered, before the shutdown.
    patience: u64,
    /// 1 adds a layer that counts the spans of whomever.
    witness: u8,
}

impl Plan {
    fn read(arguments: impl Iterator<Item = String>) -> Result<Self, Box<dyn Error>> {
        let mut plan =
            Self { requests: 20_000, threads: 8, wait: 0, pace: 0, patience: 60, witness: 0 };
        for argument in arguments {
            let (name, number) = argument.split_once('=').unwrap_or((&argument, ""));
            let read = match name {
                "requests" => number.parse().map(|it| plan.requests = it),
                "threads" => number.parse().map(|it| plan.threads = it),
                "wait" => number.parse().map(|it| plan.wait = it),
                "pace" => number.parse().map(|it| plan.pace = it),
                "patience" => number.parse().map(|it| plan.patience = it),
                "witness" => number.parse().map(|it| plan.witness = it),
                _ => return Err(format!("{argument:?}: no such argument").into()),
            };
            read.map_err(|error| format!("{argument:?}: {error}; expected {name}=NUMBER"))?;
        }
        if plan.threads == 0 || plan.requests < plan.threads {
            return Err("each thread needs a request".into());
        }
        Ok(plan)
    }

    /// When this request of this thread is due, after the beginning.
    fn due(&self, thread: usize, nth: usize) -> Option<Duration> {
        let before = (nth * self.threads + thread) as f64;
        (self.pace > 0).then(|| Duration::from_secs_f64(before / f64::from(self.pace)))
    }
}

/// Spans that this service made, and none of a library that it uses.
static MADE: AtomicU64 = AtomicU64::new(0);
/// Spans that the [`Witness`] saw.
static SEEN: AtomicU64 = AtomicU64::new(0);

/// Counts every span of the process that a layer can see.
struct Witness;

impl<S: tracing::Subscriber> Layer<S> for Witness {
    fn on_new_span(
        &self,
        _: &tracing::span::Attributes<'_>,
        _: &tracing::span::Id,
        _: Context<'_, S>,
    ) {
        SEEN.fetch_add(1, Ordering::Relaxed);
    }
}

/// Counts a span that was made.
fn made(span: Span) -> Span {
    MADE.fetch_add(1, Ordering::Relaxed);
    span
}

fn main() -> Result<(), Box<dyn Error>> {
    let plan = Plan::read(std::env::args().skip(1))?;
    let mut builder = tracing_activity::builder();
    if plan.witness != 0 {
        builder = builder.layer(Witness);
    }
    let activities = builder.install()?;
    let began = Instant::now();
    let times = serve(&plan);
    let took = began.elapsed();
    let flushed = activities.flush(Duration::from_secs(plan.patience));
    let handle = activities.handle();
    let before = handle.span_stats().unwrap_or_default();
    let deadline = Duration::from_secs(if flushed { 30 } else { 2 });
    let ending = Instant::now();
    let report = activities.shutdown(deadline);
    let ending = ending.elapsed();
    let spans = handle.span_stats().unwrap_or_default();
    let (mut called, mut due): (Vec<_>, Vec<_>) =
        times.into_iter().map(|it| (it.called, it.due)).unzip();
    called.sort_unstable();
    due.sort_unstable();
    println!(
        "{}",
        serde_json::json!({
            "requests": called.len(),
            "seconds": took.as_secs_f64(),
            "p50_us": quantile(&called, 0.5),
            "p99_us": quantile(&called, 0.99),
            "due_p99_us": quantile(&due, 0.99),
            "made": MADE.load(Ordering::Relaxed),
            "seen": SEEN.load(Ordering::Relaxed),
            "leftovers": before.held + before.open_traces,
            "complete": report.complete,
            "shutdown_ms": ending.as_millis() as u64,
            "deadline_ms": deadline.as_millis() as u64,
            "rows": { "created": report.stats.created, "stored": report.stats.stored },
            "spans": {
                "started": spans.started,
                "exported": spans.exported,
                "exports": spans.exports,
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

/// Microseconds that this part of the sorted times did not exceed.
fn quantile(sorted: &[Duration], part: f64) -> u64 {
    sorted[((sorted.len() - 1) as f64 * part) as usize].as_micros() as u64
}

/// How long a request took.
struct Took {
    /// Since it was sent.
    called: Duration,
    /// Since it was due.
    due: Duration,
}

/// Sends every request, on many threads; how long each took.
fn serve(plan: &Plan) -> Vec<Took> {
    let began = Instant::now();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..plan.threads)
            .map(|thread| scope.spawn(move || customer(thread, plan, began)))
            .collect();
        threads.into_iter().flat_map(|it| it.join().expect("a customer panicked")).collect()
    })
}

fn customer(thread: usize, plan: &Plan, began: Instant) -> Vec<Took> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let mut random = fastrand::Rng::with_seed(thread as u64);
    let wait = Duration::from_micros(plan.wait);
    let mut service = RequestSpanLayer::new()
        // The customers are services of ours.
        .traceparent(TraceparentTrust::Always)
        .layer(service_fn(move |request| handle(request, wait)));
    (0..plan.requests / plan.threads)
        .map(|nth| {
            let request = request(nth, &mut random);
            let due = plan.due(thread, nth).map(|due| began + due);
            if let Some(due) = due {
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
            let start = Instant::now();
            // That of the request.
            MADE.fetch_add(1, Ordering::Relaxed);
            runtime.block_on(async {
                let answer = service.call(request).await.expect("the service is infallible");
                answer.into_body().collect().await.expect("a body in memory")
            });
            Took { called: start.elapsed(), due: due.unwrap_or(start).elapsed() }
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
        let query = made(info_span!("query", table));
        async {
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
            made(info_span!("decode", rows = 3)).in_scope(|| ());
        }
        .instrument(query)
        .await;
    }
    // What goes on after the answer holds the request's span open.
    let detached = (random.u8(..4) == 0).then(|| made(info_span!("notify")));
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
