//! `cargo xtask otlp-proof`: that rows and OpenTelemetry's spans are the same requests.
//!
//! ```text
//!  example `traced` ──> layer ──┬──> rows ───────────────> ClickHouse: activities
//!  (8 threads, half called by   └──> OTLP ──> Collector ──> ClickHouse: otel_traces
//!   another service)
//! ```
//!
//! The tables are joined on the trace's id: the same traces, as many spans of each, every parent there,
//! and the same estimate of the requests from `sample_weight` and from the `th` of `tracestate`. Then
//! the same service exports to an address that never answers: its requests take as long as before, and
//! every lost span is counted.

mod traced;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use embedded_clickhouse::{Options, Server};
use serde_json::json;

use crate::collector::{self, Collector, Configuration, Settings, Target};
use traced::Ran;

/// Compares rows and spans of the same requests, through the real Collector
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Requests to send
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(100..=10_000_000))]
    requests: u32,
    /// Threads that serve them
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=64))]
    threads: u32,
    /// Rounds in which a service that exports is compared with one whose endpoint never answers
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(0..=50))]
    rounds: u32,
    /// Write the figures to this file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// The database of the rows.
const ROWS: &str = "traced";

/// Enough for traces of all kinds: failures, a tenth of the rest.
const SAMPLE: &str = "errors,slow>1h,rate=0.1";

/// How long what was exported may take to arrive.
const ARRIVAL: Duration = Duration::from_mins(2);

pub(crate) fn run(args: &Args) -> Result<()> {
    let binary = traced::build()?;
    let folder = collector::temporary_folder("otlp")?;
    let server = collector::clickhouse(Options::default())?;
    collector::make_tables(&server)?;
    let settings =
        Settings::new(Configuration::Production, Target::of(&server), folder.join("collector"));
    let collector = Collector::start(&settings)?;
    let ran = traced::run(
        &binary,
        args.requests,
        args.threads,
        0,
        &environment(&server, &collector.otlp_http()),
    )?;
    let found = compare(&server, &ran)?;
    let stalls = stalls(&binary, args.rounds, &server, &collector.otlp_http())?;
    collector.stop()?;
    // What it had to say is known; on a busy machine it may take its time.
    if let Some(Err(error)) = server.engine.map(embedded_clickhouse::Engine::stop) {
        eprintln!("{error}");
    }
    std::fs::remove_dir_all(&folder).ok();
    report(args, &ran, &found, &stalls)
}

/// What a service that exports here is told.
fn environment(server: &Server, endpoint: &str) -> Vec<(&'static str, String)> {
    vec![
        ("ACTIVITY_DB", format!("{}/{ROWS}", server.url)),
        ("ACTIVITY_USER", server.user.clone()),
        ("ACTIVITY_PASSWORD", server.password.clone()),
        ("ACTIVITY_SAMPLE", SAMPLE.to_owned()),
        ("OTEL_SERVICE_NAME", "traced".to_owned()),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.to_owned()),
        ("OTEL_BSP_SCHEDULE_DELAY", "200".to_owned()),
        // Nothing is to be lost where everything answers.
        ("OTEL_BSP_MAX_QUEUE_SIZE", "262144".to_owned()),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "30000".to_owned()),
    ]
}

/// What the tables say.
#[derive(Debug, Default)]
struct Found {
    kept_rows: u64,
    kept_traces: u64,
    /// Traces that are on one side only, or have another number of spans there.
    span_mismatches: u64,
    spans: u64,
    orphans: u64,
    parents: u64,
    weight_of_rows: f64,
    weight_of_spans: f64,
}

fn compare(server: &Server, ran: &Ran) -> Result<Found> {
    let exported = ran.number("/spans/exported")?;
    let deadline = Instant::now() + ARRIVAL;
    loop {
        let arrived: u64 = ask(server, "SELECT uniqExact(TraceId, SpanId) FROM otel.otel_traces")?;
        if arrived == exported {
            break;
        }
        ensure!(Instant::now() < deadline, "{arrived} of {exported} exported spans arrived");
        std::thread::sleep(Duration::from_millis(100));
    }
    // The Collector delivers at least once.
    let spans = "(SELECT DISTINCT TraceId, SpanId, ParentSpanId, TraceState FROM otel.otel_traces)";
    let kept = format!("{ROWS}.activities WHERE kept_because != ''");
    Ok(Found {
        kept_rows: ask(server, &format!("SELECT count() FROM {kept}"))?,
        // A trace may have several requests: each has its root.
        kept_traces: ask(
            server,
            &format!(
                "SELECT count() FROM {spans} WHERE (TraceId, SpanId) IN (SELECT trace_id, span_id[1] FROM {ROWS}.activities)"
            ),
        )?,
        span_mismatches: ask(
            server,
            &format!(
                "SELECT countIf(rows.n != spans.n) FROM \
                 (SELECT trace_id AS id, toUInt64(sum(length(span_name))) AS n FROM {kept} GROUP BY id) AS rows \
                 FULL JOIN (SELECT TraceId AS id, count() AS n FROM {spans} GROUP BY id) AS spans \
                 ON rows.id = spans.id"
            ),
        )?,
        spans: exported,
        orphans: ask(
            server,
            &format!(
                "SELECT count() FROM {spans} WHERE ParentSpanId != '' \
                 AND (TraceId, ParentSpanId) NOT IN (SELECT TraceId, SpanId FROM otel.otel_traces) \
                 AND (TraceId, SpanId, ParentSpanId) NOT IN \
                 (SELECT trace_id, span_id[1], lower(hex(remote_parent_id)) FROM {ROWS}.activities)"
            ),
        )?,
        parents: ask(server, &format!("SELECT countIf(parent_sampled) FROM {ROWS}.activities"))?,
        weight_of_rows: ask(server, &format!("SELECT sum(sample_weight) FROM {kept}"))?,
        weight_of_spans: ask(
            server,
            &format!(
                "SELECT sum(if(th = '', 0, exp2(56) / (exp2(56) - reinterpretAsUInt64(reverse(unhex(concat('00', rightPad(th, 14, '0')))))))) \
                 FROM (SELECT extract(TraceState, 'ot=[^,]*th:([0-9a-f]+)') AS th FROM {spans} \
                 WHERE (TraceId, SpanId) IN (SELECT trace_id, span_id[1] FROM {ROWS}.activities))"
            ),
        )?,
    })
}

fn ask<T: std::str::FromStr>(server: &Server, sql: &str) -> Result<T> {
    let text = server.query(sql)?;
    text.trim().parse().ok().with_context(|| format!("{text:?} is no number: {sql}"))
}

/// A service that exports beside one whose endpoint never answers.
#[derive(Debug, Default)]
struct Stalls {
    /// 99th percentiles of each round, in microseconds: exporting, and stalled.
    p99: Vec<(u64, u64)>,
    lost: u64,
    uncounted: u64,
    longest_shutdown_ms: u64,
}

impl Stalls {
    /// The median over the rounds of the stalled one's share.
    fn ratio(&self) -> f64 {
        let mut ratios: Vec<f64> =
            self.p99.iter().map(|(fine, stalled)| *stalled as f64 / *fine as f64).collect();
        ratios.sort_unstable_by(f64::total_cmp);
        ratios.get(ratios.len() / 2).copied().unwrap_or(1.0)
    }
}

fn stalls(binary: &Path, rounds: u32, server: &Server, endpoint: &str) -> Result<Stalls> {
    // Takes connections and never answers, as long as it lives.
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let black_hole = format!("http://{}", listener.local_addr()?);
    let mut stalls = Stalls::default();
    for _ in 0..rounds {
        let round = |endpoint: &str| {
            let mut environment = environment(server, endpoint);
            // The default queue, so that it is full for most of the time.
            environment.retain(|(name, _)| *name != "OTEL_BSP_MAX_QUEUE_SIZE");
            traced::run(binary, 10_000, 1, 0, &environment)
        };
        let (fine, stalled) = (round(endpoint)?, round(&black_hole)?);
        stalls.p99.push((fine.number("/p99_us")?, stalled.number("/p99_us")?));
        ensure!(stalled.number("/spans/exported")? == 0, "the black hole took spans: {stalled:?}");
        stalls.lost += stalled.number("/spans/dropped")? + stalled.number("/spans/failed")?;
        stalls.uncounted += stalled.number("/spans/in_flight")?;
        let took = stalled.number("/shutdown_ms")?;
        stalls.longest_shutdown_ms = stalls.longest_shutdown_ms.max(took);
    }
    Ok(stalls)
}

fn report(args: &Args, ran: &Ran, found: &Found, stalls: &Stalls) -> Result<()> {
    let requests = ran.number("/requests")?;
    let leftovers = ran.number("/leftovers")?;
    println!(
        "{requests} requests at {} threads, half of them called by another service, {} by one that \
         keeps the trace",
        args.threads, found.parents
    );
    println!(
        "{} kept rows, {} kept traces, {} spans; {} traces differ, {} spans without their parent, \
         {leftovers} left in the buffer",
        found.kept_rows, found.kept_traces, found.spans, found.span_mismatches, found.orphans
    );
    println!(
        "requests estimated from rows {:.1}, from the spans' th {:.1}",
        found.weight_of_rows, found.weight_of_spans
    );
    if args.rounds > 0 {
        println!(
            "black hole: p99 {:.3} times that of a service that exports (median of {} rounds), {} \
             spans lost and counted, {} not counted, shutdown within {} ms",
            stalls.ratio(),
            args.rounds,
            stalls.lost,
            stalls.uncounted,
            stalls.longest_shutdown_ms
        );
    }
    let estimate_off = (found.weight_of_rows / requests as f64 - 1.0).abs();
    let off = (found.weight_of_rows - found.weight_of_spans).abs() / found.weight_of_rows.max(1.0);
    if let Some(path) = &args.json {
        let figures = json!({
            "requests": requests,
            "kept_rows": found.kept_rows,
            "kept_traces": found.kept_traces,
            "span_mismatches": found.span_mismatches,
            "orphans": found.orphans,
            "leftovers": leftovers,
            "spans": found.spans,
            "weight_of_rows": found.weight_of_rows,
            "weight_of_spans": found.weight_of_spans,
            "black_hole": {
                "rounds": args.rounds,
                "p99_ratio": stalls.ratio(),
                "p99_us": stalls.p99,
                "lost": stalls.lost,
                "uncounted": stalls.uncounted,
                "shutdown_ms": stalls.longest_shutdown_ms,
            },
        });
        std::fs::write(path, format!("{figures:#}\n"))
            .with_context(|| format!("{} cannot be written", path.display()))?;
    }
    let same = found.kept_rows == found.kept_traces
        && found.span_mismatches + found.orphans + leftovers + stalls.uncounted == 0
        && found.kept_rows > 0
        // Rows hold their weights as 32 bits.
        && off < 1e-5
        // Four standard deviations for 20,000 requests of which a tenth are kept.
        && estimate_off < 0.09 * (20_000.0 / requests as f64).sqrt();
    if !same {
        bail!("rows and spans are not the same requests: {found:?}");
    }
    Ok(())
}
