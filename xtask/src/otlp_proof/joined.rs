//! The tables, joined: are the kept rows and the kept traces the same, span by span?

use std::path::Path;

use anyhow::Result;
use embedded_clickhouse::Server;
use serde_json::{Value, json};

use super::traced::{self, Ran};
use super::{arrive, ask, environment};

/// The database of the rows.
const ROWS: &str = "traced";

/// What a run's tables say.
pub(super) struct Joined {
    ran: Ran,
    found: Found,
}

impl Joined {
    pub(super) fn run(
        binary: &Path,
        requests: u32,
        threads: u32,
        server: &Server,
        endpoint: &str,
    ) -> Result<Self> {
        let plan = [("requests", requests), ("threads", threads)];
        let ran = traced::run(binary, &plan, &environment(server, ROWS, endpoint))?;
        let found = compare(server, &ran)?;
        Ok(Self { ran, found })
    }

    /// Prints it.
    pub(super) fn tell(&self, threads: u32) -> Result<()> {
        let found = &self.found;
        println!(
            "{} requests at {threads} threads, half of them called by another service, {} by one that \
             keeps the trace",
            self.ran.number("/requests")?,
            found.parents
        );
        println!(
            "{} kept rows, {} kept traces, {} spans; {} traces differ, {} spans without their parent, \
             {} left in the buffer",
            found.kept_rows,
            found.kept_traces,
            found.spans,
            found.span_mismatches,
            found.orphans,
            self.ran.number("/leftovers")?
        );
        println!(
            "requests estimated from rows {:.1}, from the spans' th {:.1}",
            found.weight_of_rows, found.weight_of_spans
        );
        Ok(())
    }

    pub(super) fn figures(&self) -> Result<Value> {
        let found = &self.found;
        Ok(json!({
            "requests": self.ran.number("/requests")?,
            "kept_rows": found.kept_rows,
            "kept_traces": found.kept_traces,
            "span_mismatches": found.span_mismatches,
            "orphans": found.orphans,
            "leftovers": self.ran.number("/leftovers")?,
            "spans": found.spans,
            "ledger": self.ran.ledger()?,
            "weight_of_rows": found.weight_of_rows,
            "weight_of_spans": found.weight_of_spans,
        }))
    }

    /// What is wrong with it.
    pub(super) fn problem(&self) -> Result<Option<String>> {
        let found = &self.found;
        let requests = self.ran.number("/requests")? as f64;
        let estimate_off = (found.weight_of_rows / requests - 1.0).abs();
        let off = (found.weight_of_rows - found.weight_of_spans).abs();
        let same = found.kept_rows == found.kept_traces
            && found.span_mismatches + found.orphans + self.ran.number("/leftovers")? == 0
            && found.kept_rows > 0
            && self.ran.ledger()?.is_balanced()
            // Rows hold their weights as 32 bits.
            && off / found.weight_of_rows.max(1.0) < 1e-5
            // Four standard deviations for 20,000 requests of which a tenth are kept.
            && estimate_off < 0.09 * (20_000.0 / requests).sqrt();
        Ok(if same {
            None
        } else {
            Some(format!("rows and spans are not the same requests: {}", self.figures()?))
        })
    }
}

/// What the tables say.
#[derive(Debug)]
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
    arrive(server, ROWS, exported)?;
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
