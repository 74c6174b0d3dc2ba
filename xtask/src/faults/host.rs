//! One scenario: a worker of the library, a proxy, a server, and what came of it.

use std::fmt;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use embedded_clickhouse::proxy::Proxy;
use embedded_clickhouse::{Limits, Options, Server};
use serde::Serialize;
use tracing_activity::config::{ClickHouse, Database, PipelineConfig, Secret};
use tracing_activity::model::{Activity, ActivityId, Timestamp};
use tracing_activity::pipeline::{Counters, Queue, Stats, Worker};
use tracing_activity::sink::{ClickHouseSink, Sink as _};

use super::scenarios::{End, Scenario};

/// How long a scenario may take until everything has met its fate.
const PATIENCE: Duration = Duration::from_mins(3);
/// How much memory this process may gain in a scenario, whatever is answered.
const MEMORY: u64 = 128 << 20;

/// A server to go to.
pub(super) struct Site {
    server: Server,
}

impl Site {
    pub(super) fn start(limits: Limits) -> anyhow::Result<Self> {
        let server = Server::start(Options { limits, ..Options::default() })?;
        Ok(Self { server })
    }

    fn upstream(&self) -> &str {
        self.server.url.strip_prefix("http://").unwrap_or(&self.server.url)
    }

    fn config(&self, url: &str) -> anyhow::Result<ClickHouse> {
        let Ok(Database::ClickHouse(mut config)) = url.parse() else {
            return Err(anyhow!("{url} is no address"));
        };
        config.user.clone_from(&self.server.user);
        config.password = Secret::new(&*self.server.password);
        config.database = format!("faults_{:016x}", fastrand::u64(..));
        Ok(config)
    }

    fn number(&self, sql: &str) -> anyhow::Result<u64> {
        let text = self.server.query(sql)?;
        text.trim().parse().with_context(|| text)
    }
}

/// What came of a scenario.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    pub(super) scenario: &'static str,
    pub(super) ok: bool,
    /// Why it is not.
    why: Vec<String>,
    created: u64,
    stored: u64,
    failed: u64,
    dropped: u64,
    in_flight: u64,
    /// Rows of `activities`, how many different ones, and the requests of `activity_minutes`.
    rows: u64,
    distinct: u64,
    minutes: u64,
    /// Inserts that the proxy saw.
    inserts: u64,
    retries: u64,
    memory_mib: u64,
    seconds: f64,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.ok { "ok  " } else { "BAD " };
        write!(
            f,
            "{word} {:<46} {} created, {} stored, {} failed, {} dropped, {} in flight; {} rows, {} in minutes; {} inserts, +{} MiB, {:.1} s{}{}",
            self.scenario,
            self.created,
            self.stored,
            self.failed,
            self.dropped,
            self.in_flight,
            self.rows,
            self.minutes,
            self.inserts,
            self.memory_mib,
            self.seconds,
            if self.ok { "" } else { ": " },
            self.why.join("; ")
        )
    }
}

pub(super) fn run(scenario: Scenario, shared: &Site) -> anyhow::Result<Outcome> {
    let own = scenario.limits.clone().map(Site::start).transpose()?;
    let site = own.as_ref().unwrap_or(shared);
    let proxy = Proxy::start(site.upstream(), scenario.rule)?;
    // Tables are made past the proxy, unless it is the making that is looked at.
    let config = site.config(&site.server.url)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(make_tables(&config))?;
    if !scenario.sql.is_empty() {
        site.server.query(&scenario.sql.replace("{db}", &config.database))?;
    }
    let config = {
        let mut past = site.config(&proxy.url())?;
        past.database.clone_from(&config.database);
        past
    };
    let mut pipeline = PipelineConfig::default();
    pipeline.batch_interval = Duration::from_millis(100);
    pipeline.timeout = scenario.timeout;
    let (queue, counters) = (Arc::new(Queue::new(&pipeline)), Arc::new(Counters::new()));
    let before = resident();
    let start = Instant::now();
    let handle = Worker::spawn(
        Arc::clone(&queue),
        Arc::clone(&counters),
        Box::new(ClickHouseSink::new(&config, scenario.timeout)),
        pipeline,
        Box::new(|| {}),
    )?;
    let mut memory = 0;
    let waves = 20;
    for wave in 0..waves {
        for n in 0..scenario.rows / waves {
            counters.count_created();
            let activity = activity(wave * scenario.rows / waves + n, scenario.text);
            if let Err((reason, _)) = queue.push(Box::new(activity)) {
                counters.count_dropped(reason);
            }
        }
        thread::sleep(scenario.time / waves as u32);
        memory = memory.max(resident().saturating_sub(before));
    }
    let stats = match scenario.end {
        End::Settled => loop {
            let flushed = handle.flush(Duration::from_millis(200));
            memory = memory.max(resident().saturating_sub(before));
            if flushed || start.elapsed() > PATIENCE {
                break handle.stats();
            }
        },
        End::Waiting => handle.stats(),
    };
    let seconds = start.elapsed().as_secs_f64();
    let count = |what: &str| site.number(&what.replace("{db}", &config.database));
    let mut outcome = Outcome {
        scenario: scenario.name,
        ok: false,
        why: Vec::new(),
        created: stats.created,
        stored: stats.stored,
        failed: stats.failed,
        dropped: stats.dropped.total(),
        in_flight: stats.in_flight(),
        rows: count("SELECT count() FROM {db}.activities")?,
        distinct: count("SELECT uniqExact(activity_id) FROM {db}.activities")?,
        minutes: count("SELECT sum(requests) FROM {db}.activity_minutes")?,
        inserts: proxy.inserts(),
        retries: stats.retries,
        memory_mib: memory >> 20,
        seconds,
    };
    outcome.judge(&stats, scenario.end, scenario.failed, scenario.most_inserts, memory);
    handle.shutdown(Duration::ZERO);
    site.server.query(&format!("DROP DATABASE {}", config.database))?;
    Ok(outcome)
}

/// Makes the tables, also within a quota.
async fn make_tables(config: &ClickHouse) -> anyhow::Result<()> {
    let end = Instant::now() + PATIENCE;
    let mut sink = ClickHouseSink::new(config, PATIENCE);
    loop {
        match sink.prepare().await {
            Err(error) if error.is_busy() && Instant::now() < end => {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            done => return Ok(done?),
        }
    }
}

impl Outcome {
    fn judge(&mut self, stats: &Stats, end: End, failed: u64, most_inserts: u64, memory: u64) {
        let fates = self.stored + self.failed + self.dropped + self.in_flight;
        let mut check = |holds: bool, why: &str| {
            if !holds {
                self.why.push(why.to_owned());
            }
        };
        check(self.created == fates, "not every activity has one fate");
        check(self.failed == failed, "other rows are given up than should be");
        check(stats.dropped.total() == 0, "rows were dropped");
        // A batch that is stored but not yet known to be is in flight.
        check(self.rows == self.stored, "what counts as stored is not what is there");
        check(self.distinct == self.rows, "rows are there twice");
        check(self.minutes == self.rows, "the rollup counts other requests");
        check(self.inserts <= most_inserts, "the server was asked too often");
        check(memory <= MEMORY, "too much memory");
        match end {
            End::Settled => check(self.in_flight == 0, "rows are still under way"),
            End::Waiting => check(self.in_flight > 0, "no row waits"),
        }
        self.ok = self.why.is_empty();
    }
}

fn activity(n: u64, text: usize) -> Activity {
    let when: Timestamp = std::time::SystemTime::now().into();
    // Text that does not compress to nothing, as that of real requests.
    let noise: String = (0..text).map(|_| fastrand::alphanumeric()).collect();
    Activity {
        when,
        activity_id: ActivityId::new(when, fastrand::u64(..)),
        status: (n % 60_000) as u16,
        duration: n,
        okind: "thing".to_owned(),
        url: noise,
        ..Activity::default()
    }
}

/// Resident memory of this process in bytes; 0 where that is not told.
fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    pages.split(' ').nth(1).and_then(|it| it.parse::<u64>().ok()).unwrap_or(0) * 4096
}
