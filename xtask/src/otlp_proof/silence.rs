//! A subscriber that sees everything, at TRACE: exporting must not see itself.
//!
//! The service counts the spans that it makes. As many reach the subscriber, as many become
//! OpenTelemetry's, as many are in the table, and each row is a request: nothing of what the exporters
//! trace - hyper, h2 and tonic, and the client of ClickHouse - is among them. Any span without a parent
//! would be an activity, and what is silent is silent for any other layer, too.

use std::path::Path;

use anyhow::Result;
use embedded_clickhouse::Server;
use serde_json::{Value, json};

use super::traced::{self, Ledger, Ran};
use super::{PACE, THREADS, arrive, ask, environment, set, stored};
use crate::collector::Collector;

/// What a service recorded at TRACE.
pub(super) struct Silence {
    protocol: &'static str,
    ran: Ran,
    ledger: Ledger,
    rows: u64,
    spans_of_rows: u64,
    arrived: u64,
    /// Spans in the table that no request has.
    strange: u64,
}

impl Silence {
    /// Both protocols, so many seconds each.
    pub(super) fn run(
        binary: &Path,
        seconds: u32,
        server: &Server,
        collector: &Collector,
    ) -> Result<Vec<Self>> {
        let over = |protocol, name, endpoint: &str| {
            Self::over(binary, seconds, server, protocol, name, endpoint)
        };
        Ok(vec![
            over("http/protobuf", "silence_http", &collector.otlp_http())?,
            over("grpc", "silence_grpc", &collector.otlp_grpc())?,
        ])
    }

    fn over(
        binary: &Path,
        seconds: u32,
        server: &Server,
        protocol: &'static str,
        name: &str,
        endpoint: &str,
    ) -> Result<Self> {
        let mut environment = environment(server, name, endpoint);
        set(&mut environment, "ACTIVITY_SAMPLE", "all");
        set(&mut environment, "ACTIVITY_FILTER", "trace");
        set(&mut environment, "ACTIVITY_ROOTS", "all");
        set(&mut environment, "OTEL_EXPORTER_OTLP_PROTOCOL", protocol);
        let plan =
            [("requests", seconds * PACE), ("threads", THREADS), ("pace", PACE), ("witness", 1)];
        let ran = traced::run(binary, &plan, &environment)?;
        let ledger = ran.ledger()?;
        arrive(server, name, ledger.exported)?;
        let rows = format!("{name}.activities");
        Ok(Self {
            protocol,
            ran,
            rows: ask(server, &format!("SELECT count() FROM {rows}"))?,
            spans_of_rows: ask(
                server,
                &format!("SELECT toUInt64(sum(length(span_name))) FROM {rows}"),
            )?,
            arrived: stored(server, name)?,
            strange: ask(
                server,
                &format!(
                    "SELECT count() FROM otel.otel_traces WHERE ServiceName = '{name}' \
                     AND SpanName NOT IN ('query', 'decode', 'notify') \
                     AND (TraceId, SpanId) NOT IN (SELECT trace_id, span_id[1] FROM {rows})"
                ),
            )?,
            ledger,
        })
    }

    pub(super) fn tell(&self) -> Result<()> {
        println!(
            "at TRACE, {}: {} requests in {:.0} s made {} rows; they made {} spans: {} seen, {} \
             started, {} in rows, {} in the table by {} exports; {} of them of no request",
            self.protocol,
            self.ran.number("/requests")?,
            self.ran.seconds()?,
            self.rows,
            self.ledger.made,
            self.ran.number("/seen")?,
            self.ledger.started,
            self.spans_of_rows,
            self.arrived,
            self.ran.number("/spans/exports")?,
            self.strange
        );
        Ok(())
    }

    pub(super) fn figures(&self) -> Result<Value> {
        let requests = self.ran.number("/requests")?;
        let seen = self.ran.number("/seen")?;
        Ok(json!({
            "protocol": self.protocol,
            "seconds": self.ran.seconds()?,
            "requests": requests,
            "activities": self.rows,
            "spans": self.ledger,
            "seen": seen,
            "spans_of_rows": self.spans_of_rows,
            "arrived": self.arrived,
            "exports": self.ran.number("/spans/exports")?,
            "caused_by_exporters": {
                "activities": self.rows as i64 - requests as i64,
                "spans": self.ledger.started as i64 - self.ledger.made as i64,
                "seen": seen as i64 - self.ledger.made as i64,
                "arrived": self.strange,
            },
        }))
    }

    pub(super) fn problem(&self) -> Result<Option<String>> {
        let ledger = &self.ledger;
        let spans = [self.ran.number("/seen")?, ledger.exported, self.spans_of_rows, self.arrived];
        let silent = self.rows == self.ran.number("/requests")?
            && ledger.is_balanced()
            && spans.iter().all(|spans| *spans == ledger.made)
            && self.strange == 0
            // Else there was nothing to be silent about.
            && self.ran.number("/spans/exports")? > 0;
        Ok(if silent {
            None
        } else {
            Some(format!("at TRACE exporting is seen, or spans are lost: {}", self.figures()?))
        })
    }
}
