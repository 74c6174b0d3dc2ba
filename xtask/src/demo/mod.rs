//! `cargo xtask demo`: a ClickHouse, two deploys of the shop, their customers, and what landed.
//!
//! ```text
//! plan ──> traffic ──> shop (a, then b) ──> ClickHouse ──> report
//!            │ requests sent                     │ rows stored
//!            └────────────── equal? ─────────────┘
//! ```
//!
//! Invariant: the demo succeeds only when every request it sent is a row. What "sent" means is
//! said in `client`.

mod client;
mod database;
mod draw;
mod journeys;
pub(crate) mod ledger;
pub(crate) mod plan;
mod questions;
mod report;
pub(crate) mod shop;
mod step;
pub(crate) mod traffic;
mod tree;
mod zipf;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use database::{Database, Landed};
use ledger::Ledger;
use plan::Scale;
use shop::{Deploy, Shop};

/// Runs the demonstration: a ClickHouse, a shop in two deploys, and customers.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Requests to send in all
    #[arg(long, default_value_t = 4000, value_parser = clap::value_parser!(u32).range(2..=1_000_000))]
    requests: u32,
    /// Seconds over which the customers come
    #[arg(long, default_value_t = 22, value_parser = clap::value_parser!(u32).range(1..=3600))]
    seconds: u32,
    /// Leave ClickHouse and the shop running until Ctrl-C
    #[arg(long)]
    keep: bool,
    /// Write the figures to this file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write what the customers did and were told to this file, a line of JSON a request
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
    /// Ask every block of SQL in this Markdown file, too
    #[arg(long, value_name = "FILE")]
    sql: Option<PathBuf>,
    /// Draws other customers
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// The revisions of the two deploys.
const REVISIONS: [&str; 2] = ["deploy-a", "deploy-b"];
/// Which traces are kept: enough to look at, few enough to see that not all are.
const SAMPLE: &str = "errors,slow>250ms,rate=0.1";

pub(crate) fn run(args: &Args) -> Result<()> {
    let began = Instant::now();
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("no workspace")?;

    let database = start_database()?;
    eprintln!("ClickHouse is ready at {}", database.url());
    eprintln!("building the shop");
    let executable = shop::build(workspace)?;

    let driven = both_deploys(args, &executable, &database)?;
    let verdict = report(args, &database, &driven, began);
    if verdict.is_err() {
        eprintln!("{}", driven.complaints());
    }

    match driven.running {
        Some(shop) => keep(&database, shop)?,
        None => println!("\nTo ask questions of your own: cargo xtask demo --keep"),
    }
    if let Some(engine) = database.server.engine {
        engine.stop()?;
    }
    verdict
}

/// Prints what landed. An error unless that is every request.
fn report(args: &Args, database: &Database, driven: &Driven, began: Instant) -> Result<()> {
    let sent = driven.sent[0] + driven.sent[1];
    let landed = wait_for_rows(database, sent, driven.running.is_some())?;
    if landed.rows > 0 {
        report::print(database)?;
    }
    if let Some(path) = &args.sql {
        println!("{} questions of {} answered", questions::ask(database, path)?, path.display());
    }
    let seconds = began.elapsed().as_secs_f64();
    if let Some(path) = &args.json {
        let figures = serde_json::json!({
            "requests_sent": sent,
            "rows_stored": landed.rows,
            "traces_kept": landed.traces,
            "database": database.name,
            "seconds": (seconds * 10.0).round() / 10.0,
        });
        std::fs::write(path, format!("{figures}\n"))
            .with_context(|| format!("{} cannot be written", path.display()))?;
    }
    println!(
        "{sent} requests sent, {} rows stored, {} with their trace, {seconds:.1} s",
        landed.rows, landed.traces
    );
    compare(driven.sent, landed)
}

/// Starts ClickHouse, or takes the one named in the environment.
fn start_database() -> Result<Database> {
    let server = embedded_clickhouse::connect_or_start()?;
    server.query("SELECT 1").with_context(|| {
        format!(
            "ClickHouse at {} cannot be used: is it running, are user and password right",
            server.url
        )
    })?;
    // A server of one's own may hold rows of an earlier demo.
    let name = match &server.engine {
        Some(_) => "activity".to_owned(),
        None => format!("activity_demo_{}", seconds_since_1970()),
    };
    Ok(Database { server, name })
}

fn seconds_since_1970() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// What both deploys leave behind.
struct Driven {
    /// Requests sent to each.
    sent: [u64; 2],
    /// What they wrote to standard error until they ended.
    words: Vec<String>,
    /// The second one, if it is to be kept.
    running: Option<Shop>,
}

impl Driven {
    /// What the layer in the shops had to say.
    fn complaints(&self) -> String {
        let running = self.running.as_ref().map(Shop::words);
        let words = self.words.iter().chain(&running).flat_map(|words| words.lines());
        let lines: Vec<&str> = words.filter(|line| line.starts_with("tracing-activity")).collect();
        lines.join("\n")
    }
}

fn both_deploys(args: &Args, executable: &Path, database: &Database) -> Result<Driven> {
    const DAY: u64 = 86_400;
    let runtime = tokio::runtime::Runtime::new()?;
    let half = args.requests / 2;
    let now = seconds_since_1970();
    let progress = progress(u64::from(args.requests));
    let ledger = Ledger::create(args.ledger.as_deref())?;
    let mut driven = Driven { sent: [0; 2], words: Vec::new(), running: None };
    for (nth, (letter, requests, site_version)) in
        [("a", half, now - DAY), ("b", args.requests - half, now)].into_iter().enumerate()
    {
        let environment = environment(database, site_version, REVISIONS[nth]);
        let seed = args.seed.wrapping_mul(2) + nth as u64;
        let shop = Shop::start(
            executable,
            &Deploy { letter, seed, environment: &environment, shapes: None },
        )?;
        progress.set_message(format!("deploy {letter}"));
        progress.suspend(|| eprintln!("deploy {letter} at http://{}", shop.address));
        let visits = plan::visits(Scale {
            requests: requests as usize,
            spread: Duration::from_secs(u64::from(args.seconds)) / 2,
            seed,
        });
        driven.sent[nth] = runtime
            .block_on(traffic::drive(visits, shop.address, &ledger.of(REVISIONS[nth]), &progress))
            .with_context(|| format!("a request failed; the shop said:\n{}", shop.words()))?;
        if args.keep && letter == "b" {
            driven.running = Some(shop);
        } else {
            let words = shop.stop()?;
            progress.suspend(|| eprintln!("deploy {letter} stopped: {}", last_line(&words)));
            driven.words.push(words);
        }
    }
    progress.finish();
    Ok(driven)
}

/// What a deploy is told.
fn environment(
    database: &Database,
    site_version: u64,
    revision: &str,
) -> [(&'static str, String); 8] {
    [
        ("ACTIVITY_DB", format!("{}/{}", database.url(), database.name)),
        ("ACTIVITY_USER", database.server.user.clone()),
        ("ACTIVITY_PASSWORD", database.server.password.clone()),
        ("ACTIVITY_SAMPLE", SAMPLE.to_owned()),
        ("ACTIVITY_SITE_VERSION", site_version.to_string()),
        ("ACTIVITY_SITE_REVISION", revision.to_owned()),
        ("OTEL_SERVICE_NAME", "shop".to_owned()),
        // The one page that panics does so on purpose, and often.
        ("RUST_BACKTRACE", "0".to_owned()),
    ]
}

fn last_line(words: &str) -> &str {
    words.lines().last().unwrap_or_default()
}

pub(crate) fn progress(requests: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(requests), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template(
        "{msg} [{bar:40}] {pos} of {len} requests, {per_sec:.0}, {elapsed}",
    ) {
        bar.set_style(style.progress_chars("#> "));
    }
    bar
}

/// Counts the rows. A shop that has ended has delivered; one that goes on is given time.
fn wait_for_rows(database: &Database, sent: u64, running: bool) -> Result<Landed> {
    let deadline = Instant::now() + Duration::from_secs(if running { 20 } else { 0 });
    loop {
        let landed = database.landed(REVISIONS)?;
        if landed.rows >= sent || Instant::now() >= deadline {
            return Ok(landed);
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// The one thing the demo must prove.
fn compare(sent: [u64; 2], landed: Landed) -> Result<()> {
    let total = sent[0] + sent[1];
    if total == landed.rows && sent == [landed.rows_a, landed.rows_b] {
        return Ok(());
    }
    let difference = total.abs_diff(landed.rows);
    let word = if landed.rows < total { "missing" } else { "too many" };
    bail!(
        "{total} requests were sent and {} rows stored: {difference} {word} (deploy a: {} of {}, deploy b: {} of {})",
        landed.rows,
        landed.rows_a,
        sent[0],
        landed.rows_b,
        sent[1]
    )
}

/// Leaves everything running until Ctrl-C.
fn keep(database: &Database, shop: Shop) -> Result<()> {
    let server = &database.server;
    println!("\nAsk questions of your own:");
    println!(
        "  curl -s -u '{}:{}' '{}/?database={}' --data-binary \"SELECT when, method, url, outcome, error FROM activities ORDER BY when DESC LIMIT 10 FORMAT PrettyCompact\"",
        server.reader, server.reader_password, server.url, database.name
    );
    println!("Make rows of your own:");
    println!("  curl -s http://{}/products/7", shop.address);
    println!("\nThe shop (deploy b) and ClickHouse run until Ctrl-C.");
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(tokio::signal::ctrl_c())?;
    eprintln!("stopping");
    let words = shop.stop()?;
    eprintln!("deploy b stopped: {}", last_line(&words));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn landed(rows_a: u64, rows_b: u64) -> Landed {
        Landed { rows: rows_a + rows_b, rows_a, rows_b, traces: 0 }
    }

    #[test]
    fn only_as_many_rows_as_requests_are_a_success() {
        assert!(compare([10, 20], landed(10, 20)).is_ok());
        let missing = compare([10, 20], landed(10, 17)).unwrap_err().to_string();
        assert!(missing.contains("3 missing") && missing.contains("17 of 20"), "{missing}");
        let many = compare([10, 20], landed(11, 20)).unwrap_err().to_string();
        assert!(many.contains("1 too many"), "{many}");
        assert!(compare([10, 20], landed(11, 19)).is_err());
    }
}
