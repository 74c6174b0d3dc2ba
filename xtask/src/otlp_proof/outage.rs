//! The Collector is killed under traffic, stays away and comes back.
//!
//! What the service calls exported was taken by the Collector, whose queue is on disk: it must be in
//! the table. What it calls failed may be there, too, where the answer was lost by the kill: an export
//! of one batch at most. Stored twice is only what had been stored when the Collector was killed, and was
//! delivered again.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use embedded_clickhouse::Server;
use serde_json::{Value, json};

use super::traced::{self, Ledger, Ran};
use super::{ARRIVAL, PACE, THREADS, arrive, ask, environment, set, stored};
use crate::collector::Collector;

/// The database of the rows, and the service's name.
const NAME: &str = "outage";

/// How long requests go on.
const SECONDS: u32 = 12;

/// How long the Collector is away.
const AWAY: Duration = Duration::from_secs(4);

/// Spans of one export: the SDK's default.
const BATCH: u64 = 512;

/// What became of the requests of that time.
pub(super) struct Outage {
    ran: Ran,
    ledger: Ledger,
    rows: u64,
    /// Spans in the table: while the Collector was away, and at the end.
    before: u64,
    arrived: u64,
    /// Beyond the first of each.
    again: u64,
    away_ms: u64,
}

impl Outage {
    pub(super) fn run(binary: &Path, server: &Server, collector: &mut Collector) -> Result<Self> {
        let mut environment = environment(server, NAME, &collector.otlp_http());
        set(&mut environment, "ACTIVITY_SAMPLE", "errors,rate=0.5");
        let plan = [("requests", SECONDS * PACE), ("threads", THREADS), ("pace", PACE)];
        let service = traced::start(binary, &plan, &environment)?;
        let deadline = Instant::now() + ARRIVAL;
        while stored(server, NAME)? == 0 {
            ensure!(Instant::now() < deadline, "no span arrived before the Collector was killed");
            thread::sleep(Duration::from_millis(50));
        }
        collector.kill();
        let killed = Instant::now();
        thread::sleep(AWAY);
        let before = stored(server, NAME)?;
        collector.restart()?;
        let away_ms = killed.elapsed().as_millis() as u64;
        let ran = service.wait()?;
        let ledger = ran.ledger()?;
        arrive(server, NAME, ledger.exported)?;
        collector.wait_until_empty(ARRIVAL)?;
        let arrived = stored(server, NAME)?;
        let all: u64 = ask(
            server,
            &format!("SELECT count() FROM otel.otel_traces WHERE ServiceName = '{NAME}'"),
        )?;
        let rows = ask(server, &format!("SELECT count() FROM {NAME}.activities"))?;
        Ok(Self { ran, ledger, rows, before, arrived, again: all - arrived, away_ms })
    }

    /// Spans that failed in the service's eyes, and arrived: their answer was lost.
    fn unanswered(&self) -> u64 {
        self.arrived.saturating_sub(self.ledger.exported)
    }

    pub(super) fn tell(&self) -> Result<()> {
        let Ledger { started, exported, failed, sampled_out, dropped, .. } = self.ledger;
        println!(
            "Collector killed and {} ms away: {} requests, {} rows; {started} spans = {exported} \
             exported + {failed} failed + {sampled_out} sampled out + {dropped} dropped; {} in the \
             table ({} of them unanswered), {} stored twice, shutdown within {} ms",
            self.away_ms,
            self.ran.number("/requests")?,
            self.rows,
            self.arrived,
            self.unanswered(),
            self.again,
            self.ran.number("/shutdown_ms")?
        );
        Ok(())
    }

    pub(super) fn figures(&self) -> Result<Value> {
        Ok(json!({
            "requests": self.ran.number("/requests")?,
            "rows": self.rows,
            "away_ms": self.away_ms,
            "spans": self.ledger,
            "arrived_before": self.before,
            "arrived": self.arrived,
            "unanswered": self.unanswered(),
            "stored_twice": self.again,
            "p99_us": self.ran.number("/p99_us")?,
            "shutdown_ms": self.ran.number("/shutdown_ms")?,
            "deadline_ms": self.ran.number("/deadline_ms")?,
        }))
    }

    pub(super) fn problem(&self) -> Result<Option<String>> {
        let requests = self.ran.number("/requests")?;
        let ledger = &self.ledger;
        let wrong = if self.rows != requests || self.ran.number("/rows/stored")? != requests {
            "rows are lost"
        } else if !ledger.is_balanced() {
            "spans are not accounted for"
        } else if self.arrived < ledger.exported {
            "spans that were called exported did not arrive"
        } else if self.unanswered() > BATCH.min(ledger.failed) {
            "more arrived than was exported and than one lost answer explains"
        } else if self.again > self.before {
            "what the killed Collector had not stored was stored twice"
        } else if ledger.failed + ledger.dropped == 0 || self.arrived == self.before {
            "the Collector was not away in the middle of the traffic"
        } else if !self.ran.ended_in_time()? {
            "the shutdown took longer than its deadline"
        } else {
            return Ok(None);
        };
        Ok(Some(format!("while the Collector was away: {wrong}: {}", self.figures()?)))
    }
}
