//! `cargo xtask schema-bench`: the same requests in `activities` and in the table of the
//! OpenTelemetry Collector's exporter, side by side.
//!
//! ```text
//! traffic ── batch ──> sink ──> activities + views
//!               └────> feed ──> activity_spans ── Native ──> otel_traces + view
//! ```
//!
//! Our side is loaded by the sink that services use. The peer gets the same spans in the format
//! `Native` over the same client, one insert for each of ours: neither side is slowed by a client,
//! both hold the same, and what an insert costs by itself is shared by as many requests. A sample is
//! inserted once more in batches as the Collector makes them, to tell what that costs.
//!
//! Every trace is kept. Nothing is merged while the tables are loaded; then each side is merged
//! once, to one part for each partition. In the end all rows are as old as most rows of a table are:
//! three days, when ours are compressed once more. Inserts and merges are measured in processor time,
//! views included; queries by the server's clock, the best of interleaved rounds, and both sides must
//! answer the same.

mod database;
mod paths;
mod peer;
mod queries;
pub(crate) mod traffic;

use std::path::PathBuf;
use std::time::SystemTime;

use anyhow::{Context as _, Result, bail, ensure};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Map, Value, json};

use database::{ACTIVITIES, Answer, COLLECTOR, Cost, Databases, OTEL};
use queries::{NEW_SHAPES, QUESTIONS, Question, VALUES};
use traffic::Traffic;

/// Batches that the peer is given in the Collector's size, too.
const SAMPLED: u32 = 6;

/// In a round a question is asked until it has taken this long, but so many times at most: what takes
/// a few milliseconds is soon made twice as long by whatever else the machine does.
const ROUND_MS: f64 = 1500.0;
const ROUND_TURNS: u32 = 10;

/// Measures the tables beside those of the OpenTelemetry Collector's exporter.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Requests to load
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1000..=20_000_000))]
    requests: u32,
    /// Rows of one insert
    #[arg(long, default_value_t = 5000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    batch: u32,
    /// Rounds of asking every question
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Write the figures to this file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// A line of the table: both sides, and how many times better ours is.
struct Line {
    key: &'static str,
    says: &'static str,
    ours: f64,
    theirs: f64,
    bar: Option<f64>,
}

impl Line {
    fn ratio(&self) -> f64 {
        self.theirs / self.ours
    }

    fn text(&self) -> String {
        let bar = match self.bar {
            Some(bar) if self.ratio() < bar => format!(">= {bar} (missed)"),
            Some(bar) => format!(">= {bar}"),
            None => String::new(),
        };
        format!(
            "| {:<12} | {:<47} | {:>10.2} | {:>11.2} | {:>7.2} | {bar} |",
            self.key,
            self.says,
            self.ours,
            self.theirs,
            self.ratio()
        )
    }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let mut databases = Databases::start()?;
    let measured = measure(args, &mut databases);
    let finished = databases.finish();
    let (lines, new_shapes) = measured?;
    finished?;
    println!(
        "\n| figure       | what it is                                      | activities | otel_traces | times   | bar |"
    );
    println!("|---|---|---|---|---|---|");
    for line in &lines {
        println!("{}", line.text());
    }
    let verdict = if new_shapes <= 10.0 { "" } else { " (missed)" };
    println!(
        "\nnew shapes since the last deploy, from trace_shapes: {new_shapes:.1} ms, bar <= 10{verdict}"
    );
    if let Some(path) = &args.json {
        let mut figures: Map<String, Value> =
            lines.iter().map(|it| (it.key.to_owned(), json!(rounded(it.ratio())))).collect();
        let sides = lines.iter().map(|it| {
            let (ours, theirs) = (rounded(it.ours), rounded(it.theirs));
            (
                it.key.to_owned(),
                json!({ "activities": ours, "otel_traces": theirs, "what": it.says }),
            )
        });
        figures.insert("sides".to_owned(), Value::Object(sides.collect()));
        figures.insert("new_shapes_ms".to_owned(), json!(rounded(new_shapes)));
        figures.insert("requests".to_owned(), json!(args.requests));
        figures.insert("batch".to_owned(), json!(args.batch));
        std::fs::write(path, format!("{}\n", Value::Object(figures)))
            .with_context(|| format!("{} cannot be written", path.display()))?;
    }
    Ok(())
}

fn rounded(figure: f64) -> f64 {
    (figure * 100.0).round() / 100.0
}

fn measure(args: &Args, databases: &mut Databases) -> Result<(Vec<Line>, f64)> {
    let sampled = load(args, databases)?;
    let requests = f64::from(args.requests);
    let stored = databases.number(&format!("SELECT count() FROM {ACTIVITIES}.activities"))?;
    ensure!(stored as u32 == args.requests, "{stored} of {requests} requests were stored");
    let spans =
        databases.number(&format!("SELECT sum(length(span_name)) FROM {ACTIVITIES}.activities"))?;
    let peers = databases.number(&format!("SELECT count() FROM {OTEL}.otel_traces"))?;
    ensure!(spans as u64 == peers as u64, "{spans} spans on our side, {peers} on the other");
    let (ours, theirs) = (databases.cost(ACTIVITIES)?, databases.cost(OTEL)?);
    print_state(databases, requests, spans, ours, theirs)?;
    let cost = |key, says, ours: f64, theirs: f64, bar| Line {
        key,
        says,
        ours: ours / requests,
        theirs: theirs / requests,
        bar,
    };
    let mut lines = vec![
        cost("bytes", "bytes a request, views included", ours.bytes, theirs.bytes, Some(5.0)),
        cost(
            "insert_cpu",
            "insert, us of processor a request",
            ours.insert_us,
            theirs.insert_us,
            Some(8.0),
        ),
        cost(
            "merge_cpu",
            "merges, us of processor a request",
            ours.merge_us,
            theirs.merge_us,
            Some(8.0),
        ),
    ];
    if sampled > 0 {
        let us_a_span = databases.insert_us(COLLECTOR)? / f64::from(sampled);
        lines.push(cost(
            "insert_8192",
            "the same, the peer's in batches of 8,192 spans",
            ours.insert_us,
            us_a_span * spans,
            None,
        ));
    }
    lines.extend(ask(args, databases)?);
    let new_shapes = new_shapes(args, databases)?;
    Ok((lines, new_shapes))
}

/// Loads and merges; answers with how many spans the peer was given in the Collector's batches.
fn load(args: &Args, databases: &mut Databases) -> Result<u32> {
    let mut traffic = Traffic::new(args.requests, SystemTime::now().into(), 1)?;
    let progress =
        ProgressBar::with_draw_target(Some(u64::from(args.requests)), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template(
        "{msg} [{bar:40}] {pos} of {len} requests, {per_sec:.0}, {elapsed}, {eta} left",
    ) {
        progress.set_style(style.progress_chars("#> "));
    }
    progress.set_message("loading");
    let (mut left, mut stored, mut sampled) = (args.requests, 0, 0);
    while left > 0 {
        let count = left.min(args.batch);
        let rows = (0..count).map(|_| traffic.request()).collect();
        sampled += databases.store(rows, stored < SAMPLED)?;
        stored += 1;
        left -= count;
        progress.inc(u64::from(count));
    }
    progress.set_message("merging");
    databases.merge()?;
    progress.set_message("ageing");
    databases.age()?;
    progress.finish();
    Ok(sampled)
}

fn print_state(
    databases: &Databases,
    requests: f64,
    spans: f64,
    ours: Cost,
    theirs: Cost,
) -> Result<()> {
    println!(
        "{requests} requests of {:.1} spans; {} parts of activities and its views, {} of otel_traces and its view",
        spans / requests,
        ours.parts,
        theirs.parts
    );
    for table in ["activities", "activity_minutes", "trace_shapes"] {
        println!("  {table}: {:.2} bytes a request", databases.bytes_of(table)? / requests);
    }
    for (database, table) in [(ACTIVITIES, "activities"), (OTEL, "otel_traces")] {
        let largest = databases.largest(database, table)?.into_iter();
        let words = largest.map(|(name, bytes)| format!("{name} {:.2}", bytes / requests));
        println!("  of {table}: {}", words.collect::<Vec<_>>().join(", "));
    }
    Ok(())
}

/// Every question, in turns; the best time of each side, of as many questions for the one as for the
/// other.
fn ask(args: &Args, databases: &Databases) -> Result<Vec<Line>> {
    let values = Values::of(databases)?;
    let mut lines: Vec<Line> = QUESTIONS
        .iter()
        .map(|it| Line {
            key: it.key,
            says: it.says,
            ours: f64::MAX,
            theirs: f64::MAX,
            bar: it.bar,
        })
        .collect();
    for _ in 0..args.rounds {
        for (question, line) in QUESTIONS.iter().zip(&mut lines) {
            let (ours, theirs) = (values.fill(question.activities), values.fill(question.otel));
            let (mut spent, mut turns) = (0.0, 0);
            while turns == 0 || spent < ROUND_MS && turns < ROUND_TURNS {
                let (ours, theirs) = (databases.ask(&ours)?, databases.ask(&theirs)?);
                check(question, &ours, &theirs)?;
                line.ours = line.ours.min(ours.millis);
                line.theirs = line.theirs.min(theirs.millis);
                spent += ours.millis + theirs.millis;
                turns += 1;
            }
        }
    }
    Ok(lines)
}

/// Both sides answer the same, and something.
fn check(question: &Question, ours: &Answer, theirs: &Answer) -> Result<()> {
    if ours.rows != theirs.rows {
        bail!("{}: the sides disagree: {} and {}", question.key, ours.rows, theirs.rows);
    }
    let empty = ours.rows.as_array().is_none_or(Vec::is_empty);
    ensure!(!empty || question.key == "errors", "{}: no answer", question.key);
    if question.key == "trace_fetch" {
        ensure!(ours.read <= 2 * 8192, "a trace was found in {} rows", ours.read);
    }
    Ok(())
}

/// The best time of asking `trace_shapes`, which must know what the rows tell.
fn new_shapes(args: &Args, databases: &Databases) -> Result<f64> {
    let values = Values::of(databases)?;
    let from_rows = QUESTIONS.iter().find(|it| it.key == "new_paths").map(|it| it.activities);
    let expected = databases.ask(&values.fill(from_rows.unwrap_or_default()))?;
    let mut best = f64::MAX;
    for _ in 0..args.rounds * ROUND_TURNS {
        let answer = databases.ask(&values.fill(NEW_SHAPES))?;
        ensure!(answer.rows == expected.rows, "trace_shapes says {}", answer.rows);
        best = best.min(answer.millis);
    }
    Ok(best)
}

/// What the questions are asked about.
struct Values(Vec<(String, String)>);

impl Values {
    fn of(databases: &Databases) -> Result<Self> {
        let answer = databases.ask(&VALUES.replace("{a}", ACTIVITIES))?;
        let row = answer.rows[0].as_object().context("no values to ask about")?;
        let quoted = |value: &Value| {
            let text = value.as_str().unwrap_or_default();
            format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
        };
        Ok(Self(row.iter().map(|(key, value)| (format!("{{{key}}}"), quoted(value))).collect()))
    }

    fn fill(&self, sql: &str) -> String {
        let sql = sql.replace("{a}", ACTIVITIES).replace("{o}", OTEL);
        self.0.iter().fold(sql, |sql, (key, value)| sql.replace(key, value))
    }
}
