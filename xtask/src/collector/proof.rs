//! `cargo xtask collector check`: what the shipped configurations promise, held against the real
//! Collector and a real ClickHouse.
//!
//! 1. Both configurations are valid in the Collector's eyes.
//! 2. Development: it makes its tables, and `otel.sql` has their columns; spans and a counter of
//!    statsd arrive.
//! 3. Production: spans are accepted while ClickHouse is stopped, the Collector is killed by
//!    SIGKILL twice, and once more while it delivers. Then every span that was accepted is in the
//!    table, and the queue is empty.
//! 4. Production with a small queue, which fills up: the sender is made to wait, and what was
//!    accepted before is stored once ClickHouse is back.
//!
//! Invariant: what was "accepted" is what the Collector answered with success, and nothing else.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use embedded_clickhouse::{Options, Server};
use serde_json::json;

use super::settings::{DATABASE, temporary_folder};
use super::signals::{Sender, statsd};
use super::{Collector, Configuration, Settings, Target, clickhouse, make_tables, validate};

/// How much is sent.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Requests of OTLP to send while ClickHouse is stopped
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(4..=10_000))]
    requests: u32,
    /// Spans in each
    #[arg(long, default_value_t = 250, value_parser = clap::value_parser!(u64).range(1..=5_000))]
    spans: u64,
    /// Write the figures to this file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// How long what was accepted may take to arrive.
const ARRIVAL: Duration = Duration::from_mins(2);
/// Who may do what in ClickHouse.
const USERS: &str = include_str!("../../../docker/clickhouse/users.xml");
/// Everybody's password in this proof.
const PASSWORD: &str = "check";
/// Database in which the Collector makes its tables itself.
const MADE: &str = "otel_made";

pub(super) fn run(binary: &Path, args: &Args) -> Result<()> {
    let began = Instant::now();
    validate(binary)?;
    let folder = temporary_folder("check")?;
    let done = development(&folder).and_then(|()| {
        let figures = production(&folder, args)?;
        full_queue(&folder, args.spans)?;
        Ok(figures)
    });
    let figures = done.inspect_err(|_| eprintln!("the logs are in {}", folder.display()))?;
    std::fs::remove_dir_all(&folder).ok();
    println!(
        "production.yaml: {} spans accepted, {} stored, {} stored twice; ClickHouse stopped once, \
         the Collector killed {} times",
        figures.accepted, figures.stored, figures.duplicates, figures.kills
    );
    if let Some(path) = &args.json {
        let figures = json!({
            "accepted": figures.accepted,
            "stored": figures.stored,
            "lost": figures.accepted - figures.stored,
            "duplicates": figures.duplicates,
            "kills": figures.kills,
            "seconds": began.elapsed().as_secs(),
        });
        std::fs::write(path, format!("{figures}\n"))
            .with_context(|| format!("{} cannot be written", path.display()))?;
    }
    Ok(())
}

/// The configuration that makes its own tables.
fn development(folder: &Path) -> Result<()> {
    let server = clickhouse(Options::default())?;
    make_tables(&server)?;
    let target = Target { database: MADE.to_owned(), ..Target::of(&server) };
    let settings = Settings::new(Configuration::Development, target, folder.join("development"));
    let collector = Collector::start(&settings)?;
    let columns = same_columns(&server)?;
    let mut sender = Sender::new("development");
    sender.send(&collector, 25)?;
    arrive(&server, &format!("SELECT count() FROM {MADE}.otel_traces"), 25)?;
    for _ in 0..3 {
        statsd(&collector, "shop.orders:2|c|#city:ghent")?;
    }
    let orders = "FROM {db}.otel_metrics_sum WHERE MetricName = 'shop.orders' AND Attributes['city'] = 'ghent'";
    arrive(&server, &format!("SELECT toUInt64(sum(Value)) {}", orders.replace("{db}", MADE)), 6)?;
    collector.stop()?;
    println!(
        "development.yaml: spans and statsd arrived; otel.sql has the exporter's {columns} columns"
    );
    stop(server)
}

/// Compares the tables of `otel.sql` with those the exporter made; the number of columns.
fn same_columns(server: &Server) -> Result<usize> {
    let columns = |database: &str| {
        server.query(&format!(
            "SELECT table, name, type FROM system.columns WHERE database = '{database}' \
             AND startsWith(table, 'otel_') AND NOT endsWith(table, '_mv') \
             AND default_kind NOT IN ('ALIAS', 'MATERIALIZED') ORDER BY ALL"
        ))
    };
    let (shipped, made) = (columns(DATABASE)?, columns(MADE)?);
    let missing = |from: &str, of: &str| {
        let lines = of.lines().filter(|line| !from.lines().any(|it| it == *line));
        lines.map(|line| line.replace('\t', " ")).collect::<Vec<_>>().join(", ")
    };
    ensure!(
        shipped == made,
        "otel.sql lacks [{}] of the exporter's columns, and has [{}] beside them",
        missing(&shipped, &made),
        missing(&made, &shipped)
    );
    ensure!(shipped.lines().count() > 20, "no tables to compare: {shipped}");
    Ok(shipped.lines().count())
}

/// What became of the spans.
struct Figures {
    accepted: u64,
    stored: u64,
    duplicates: u64,
    kills: u32,
}

/// The configuration that loses nothing.
fn production(folder: &Path, args: &Args) -> Result<Figures> {
    let data = folder.join("clickhouse");
    add_users(&data)?;
    let server = clickhouse(Options { data: Some(data.clone()), ..Options::default() })?;
    make_tables(&server)?;
    let target = as_collector(&server);
    let mut settings = Settings::new(Configuration::Production, target, folder.join("production"));
    settings.environment.push(("COLLECTOR_STATSD_INTERVAL", "1s".to_owned()));
    let mut collector = Collector::start(&settings)?;
    let mut sender = Sender::new("production");
    sender.send(&collector, args.spans)?;
    arrive(&server, SPANS, sender.accepted)?;
    statsd(&collector, "shop.wait:320|ms")?;
    let waits = format!(
        "SELECT sum(Count) FROM {DATABASE}.otel_metrics_exponential_histogram WHERE MetricName = 'shop.wait'"
    );
    arrive(&server, &waits, 1)?;

    let server = Paused::stop(server, data)?;
    let quarter = args.requests / 4;
    for _ in 0..quarter {
        sender.send(&collector, args.spans)?;
    }
    collector.kill();
    // ClickHouse is still away: the queue is read from disk, and grows.
    collector.restart().context("restarting without ClickHouse")?;
    for _ in 0..quarter {
        sender.send(&collector, args.spans)?;
    }
    collector.kill();

    let server = server.resume()?;
    collector.restart()?;
    for _ in 0..args.requests - 2 * quarter {
        sender.send(&collector, args.spans)?;
    }
    // In the middle of its deliveries.
    collector.kill();
    collector.restart()?;

    let stored = arrive(&server, SPANS, sender.accepted)?;
    let rows = number(&server, &format!("SELECT count() FROM {DATABASE}.otel_traces"))?;
    collector.wait_until_empty(ARRIVAL)?;
    collector.stop()?;
    stop(server)?;
    Ok(Figures { accepted: sender.accepted, stored, duplicates: rows - stored, kills: 3 })
}

/// A queue that fills up while ClickHouse is stopped.
fn full_queue(folder: &Path, spans: u64) -> Result<()> {
    /// As small as the size of a batch allows.
    const ITEMS: u64 = 5_000;
    let data = folder.join("clickhouse");
    let server = clickhouse(Options { data: Some(data.clone()), ..Options::default() })?;
    let target = as_collector(&server);
    let mut settings = Settings::new(Configuration::Production, target, folder.join("full"));
    settings.environment.push(("COLLECTOR_QUEUE_ITEMS", ITEMS.to_string()));
    let collector = Collector::start(&settings)?;
    let server = Paused::stop(server, data)?;
    let mut sender = Sender::new("full");
    sender.patience = Duration::from_secs(3);
    while sender.send(&collector, spans).is_ok() {
        ensure!(sender.accepted < ITEMS + spans, "a queue of {ITEMS} takes {}", sender.accepted);
    }
    ensure!(sender.accepted >= ITEMS, "a queue of {ITEMS} takes {}", sender.accepted);
    let server = server.resume()?;
    let arrived = "SELECT uniqExact(SpanId) FROM otel.otel_traces WHERE ServiceName = 'full'";
    // The request that had no answer may have been taken all the same.
    let refused = spans;
    let stored = at_least(&server, arrived, sender.accepted)?;
    ensure!(stored <= sender.accepted + refused, "{stored} stored, {} accepted", sender.accepted);
    sender.patience = ARRIVAL;
    sender.send(&collector, spans).context("the queue has room again")?;
    at_least(&server, arrived, sender.accepted)?;
    collector.stop()?;
    println!(
        "production.yaml: a full queue of {ITEMS} took {} spans and lost none",
        sender.accepted - spans
    );
    stop(server)
}

/// A ClickHouse that is away, and comes back where it was.
struct Paused(Options);

impl Paused {
    fn stop(server: Server, data: PathBuf) -> Result<Self> {
        let tcp_port = server.engine.as_ref().and_then(embedded_clickhouse::Engine::tcp_port);
        stop(server)?;
        Ok(Self(Options { data: Some(data), tcp_port, ..Options::default() }))
    }

    fn resume(self) -> Result<Server> {
        clickhouse(self.0)
    }
}

/// The user that the Collector is in docker-compose.yml.
fn as_collector(server: &Server) -> Target {
    Target { user: "collector".to_owned(), password: PASSWORD.to_owned(), ..Target::of(server) }
}

/// Gives the engine in `data` the users of docker-compose.yml: what the Collector may do there is
/// all that it needs.
fn add_users(data: &Path) -> Result<()> {
    let folder = data.join("users.d");
    std::fs::create_dir_all(&folder)?;
    let mut users = String::new();
    for line in USERS.lines() {
        match line.split_once("<password ") {
            Some((indent, _)) => users.extend([indent, "<password>", PASSWORD, "</password>"]),
            None => users.push_str(line),
        }
        users.push('\n');
    }
    std::fs::write(folder.join("collector.xml"), users).context("the users cannot be written")
}

/// Spans that are in the table, however often.
const SPANS: &str = "SELECT uniqExact(SpanId) FROM otel.otel_traces";

/// Waits until `sql` gives `expected`, and gives it.
fn arrive(server: &Server, sql: &str, expected: u64) -> Result<u64> {
    let arrived = at_least(server, sql, expected)?;
    ensure!(arrived == expected, "{arrived} arrived, not {expected}: {sql}");
    Ok(arrived)
}

/// Waits until `sql` gives `expected` or more, and gives it.
fn at_least(server: &Server, sql: &str, expected: u64) -> Result<u64> {
    let deadline = Instant::now() + ARRIVAL;
    loop {
        let arrived = number(server, sql)?;
        if arrived >= expected {
            return Ok(arrived);
        }
        ensure!(Instant::now() < deadline, "{arrived} arrived, not {expected}: {sql}");
        thread::sleep(Duration::from_millis(50));
    }
}

fn number(server: &Server, sql: &str) -> Result<u64> {
    let text = server.query(sql)?;
    text.trim().parse().with_context(|| format!("{text:?} is no number: {sql}"))
}

fn stop(server: Server) -> Result<()> {
    Ok(server.engine.map_or(Ok(()), embedded_clickhouse::Engine::stop)?)
}
