//! `cargo xtask otlp-proof`: that rows and OpenTelemetry's spans are the same requests, and that
//! exporting is silent, honest about what it loses, and no burden to the requests.
//!
//! ```text
//!  example `traced` ──> layer ──┬──> rows ───────────────> ClickHouse: activities
//!  (half of the requests called └──> OTLP ──> Collector ──> ClickHouse: otel_traces
//!   by another service)
//! ```
//!
//! 1. [`joined`]: as many requests as eight threads can serve. The tables are joined on the trace's id:
//!    the same traces, as many spans of each, every parent there, and the same estimate of the requests
//!    from `sample_weight` and from the `th` of `tracestate`.
//! 2. [`outage`]: the Collector is killed under traffic and comes back. What was called exported is
//!    stored, what was not is counted.
//! 3. [`silence`]: traffic under a subscriber that records everything. No activity and no span is of the
//!    exporters.
//! 4. [`host`]: the requests' p99 with an export, with an endpoint that is stopped or never answers, and
//!    with none.
//!
//! Invariant: each stage has a database and a service's name of its own, tells its figures whatever
//! they are, and fails the command where they are wrong, after all were told.

mod host;
mod joined;
mod outage;
mod silence;
mod traced;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use embedded_clickhouse::{Options, Server};
use serde_json::Value;

use crate::collector::{self, Collector, Configuration, Settings, Target};
use host::Host;
use joined::Joined;
use outage::Outage;
use silence::Silence;

/// Compares rows and spans of the same requests, through the real Collector
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Requests to send
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(100..=10_000_000))]
    requests: u32,
    /// Threads that serve them
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=64))]
    threads: u32,
    /// Seconds of traffic at TRACE, over each of OTLP's protocols; 0 for none
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(0..=3_600))]
    trace_seconds: u32,
    /// Rounds in which services that export, export in vain and do not export are compared
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(0..=200))]
    rounds: u32,
    /// Compare them optimised, which takes some minutes to build
    #[arg(long)]
    release: bool,
    /// Write the figures to this file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Enough for traces of all kinds: failures, a tenth of the rest.
const SAMPLE: &str = "errors,slow>1h,rate=0.1";

/// Requests a second where they come at a pace: far from what two cores can do.
const PACE: u32 = 400;
/// The threads that serve them.
const THREADS: u32 = 2;

/// How long what was exported may take to arrive.
const ARRIVAL: Duration = Duration::from_mins(2);

pub(crate) fn run(args: &Args) -> Result<()> {
    let binary = traced::build(false)?;
    let compared = if args.release && args.rounds > 0 { &traced::build(true)? } else { &binary };
    let folder = collector::temporary_folder("otlp")?;
    let server = collector::clickhouse(Options::default())?;
    collector::make_tables(&server)?;
    let settings =
        Settings::new(Configuration::Production, Target::of(&server), folder.join("collector"));
    let mut collector = Collector::start(&settings)?;
    let mut problems = Vec::new();

    let joined =
        Joined::run(&binary, args.requests, args.threads, &server, &collector.otlp_http())?;
    joined.tell(args.threads)?;
    let mut figures = joined.figures()?;
    problems.extend(joined.problem()?);

    let outage = Outage::run(&binary, &server, &mut collector)?;
    outage.tell()?;
    figures["outage"] = outage.figures()?;
    problems.extend(outage.problem()?);

    if args.trace_seconds > 0 {
        let silences = Silence::run(&binary, args.trace_seconds, &server, &collector)?;
        for silence in &silences {
            silence.tell()?;
            problems.extend(silence.problem()?);
        }
        figures["trace"] = silences.iter().map(Silence::figures).collect::<Result<Value>>()?;
    }

    if args.rounds > 0 {
        let host = Host::run(compared, args.release, args.rounds, &server, &collector.otlp_http())?;
        host.tell();
        figures["black_hole"] = host.figures();
        problems.extend(host.problem());
    }

    collector.stop()?;
    // What it had to say is known; on a busy machine it may take its time.
    if let Some(Err(error)) = server.engine.map(embedded_clickhouse::Engine::stop) {
        eprintln!("{error}");
    }
    std::fs::remove_dir_all(&folder).ok();
    if let Some(path) = &args.json {
        std::fs::write(path, format!("{figures:#}\n"))
            .with_context(|| format!("{} cannot be written", path.display()))?;
    }
    if !problems.is_empty() {
        bail!("{}", problems.join("\n"));
    }
    Ok(())
}

/// What a service that exports here is told; `name` is its own and that of its database.
fn environment(server: &Server, name: &str, endpoint: &str) -> Vec<(&'static str, String)> {
    vec![
        ("ACTIVITY_DB", format!("{}/{name}", server.url)),
        ("ACTIVITY_USER", server.user.clone()),
        ("ACTIVITY_PASSWORD", server.password.clone()),
        ("ACTIVITY_SAMPLE", SAMPLE.to_owned()),
        ("OTEL_SERVICE_NAME", name.to_owned()),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.to_owned()),
        ("OTEL_BSP_SCHEDULE_DELAY", "200".to_owned()),
        // Nothing is to be lost where everything answers.
        ("OTEL_BSP_MAX_QUEUE_SIZE", "262144".to_owned()),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "30000".to_owned()),
    ]
}

/// Gives a variable another value.
fn set(environment: &mut Vec<(&'static str, String)>, name: &'static str, value: &str) {
    environment.retain(|(other, _)| *other != name);
    environment.push((name, value.to_owned()));
}

/// Spans of this service in the table, each once: the Collector delivers at least once.
fn stored(server: &Server, service: &str) -> Result<u64> {
    ask(
        server,
        &format!(
            "SELECT uniqExact(TraceId, SpanId) FROM otel.otel_traces WHERE ServiceName = '{service}'"
        ),
    )
}

/// Waits until so many of them are there, or more.
fn arrive(server: &Server, service: &str, exported: u64) -> Result<()> {
    let deadline = Instant::now() + ARRIVAL;
    loop {
        let arrived = stored(server, service)?;
        if arrived >= exported {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{arrived} of {exported} exported spans arrived");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn ask<T: std::str::FromStr>(server: &Server, sql: &str) -> Result<T> {
    let text = server.query(sql)?;
    text.trim().parse().ok().with_context(|| format!("{text:?} is no number: {sql}"))
}
