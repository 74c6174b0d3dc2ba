//! The layer's own counters and gauges, for whatever collects metrics.
//!
//! One list of [`Metric`]s, of which everything else is made: Prometheus' text ([`prometheus`]), lines
//! of statsd ([`statsd`]), and instruments of OpenTelemetry (`observe`, with the feature `metrics`). The
//! names follow OpenTelemetry's `otel.sdk.processor.span.*` and `otel.sdk.exporter.span.*`: what met an
//! error carries `error.type`, what succeeded carries no such attribute.
//!
//! Prometheus' text is written here: it is a page, and the exporter of OpenTelemetry's project would
//! bring its SDK and a registry along for it.
//!
//! Absent on purpose: any clock or thread. Nothing is computed unless somebody asks.

use std::fmt::Write as _;

#[cfg(feature = "metrics")]
mod instruments;

#[cfg(feature = "metrics")]
#[cfg_attr(docsrs, doc(cfg(feature = "metrics")))]
pub use instruments::{RequestDurations, observe};

use crate::pipeline::Stats;

/// How a number changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only grows, from 0 at the start of the process.
    Counter,
    /// It goes up and down.
    Gauge,
}

/// One number at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metric {
    /// Its name, with dots.
    pub name: &'static str,
    /// How it changes.
    pub kind: Kind,
    /// What is counted, as OpenTelemetry writes units.
    pub unit: &'static str,
    /// What it says.
    pub help: &'static str,
    /// `error.type`, where something went wrong.
    pub error_type: Option<&'static str>,
    /// The number.
    pub value: u64,
}

/// What the spans' side adds, where spans are exported.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SpanFigures {
    pub(crate) started: u64,
    pub(crate) exported: u64,
    pub(crate) failed: u64,
    pub(crate) sampled_out: u64,
    pub(crate) dropped: [(&'static str, u64); 5],
    pub(crate) waiting: u64,
    pub(crate) held: u64,
    pub(crate) held_bytes: u64,
    pub(crate) open_traces: u64,
}

const ACTIVITIES: &str = "{activity}";
const SPANS: &str = "{span}";

/// Everything that is counted, names that belong together side by side.
pub(crate) fn metrics(stats: &Stats, capacity: u64, spans: Option<&SpanFigures>) -> Vec<Metric> {
    let metric =
        |name, kind, unit, help, value| Metric { name, kind, unit, help, error_type: None, value };
    let counter = |name, unit, help, value| metric(name, Kind::Counter, unit, help, value);
    let gauge = |name, unit, help, value| metric(name, Kind::Gauge, unit, help, value);
    let erred = |metric: Metric, error, value| Metric { error_type: Some(error), value, ..metric };

    let dropped = &stats.dropped;
    let exported = counter(
        "activity.exporter.activity.exported",
        ACTIVITIES,
        "Activities that the sink took, or with an error type did not",
        stats.stored,
    );
    let processed = counter(
        "activity.processor.activity.processed",
        ACTIVITIES,
        "Activities that came to be delivered, or with an error type were left out",
        stats.stored + stats.failed,
    );
    let mut all = vec![
        counter("activity.created", ACTIVITIES, "Activities that began", stats.created),
        exported,
        erred(exported, "rejected", stats.failed),
        processed,
        erred(processed, "queue_full", dropped.queue_full + dropped.queue_bytes),
        erred(processed, "filtered", dropped.filtered),
        erred(processed, "rule", dropped.rule),
        erred(processed, "in_flight", dropped.in_flight),
        erred(processed, "already_shutdown", dropped.shutdown),
        erred(processed, "forked", dropped.forked),
        gauge("activity.processor.queue.size", ACTIVITIES, "Activities waiting", stats.queued),
        gauge(
            "activity.processor.queue.capacity",
            ACTIVITIES,
            "Activities that may wait",
            capacity,
        ),
        gauge(
            "activity.inflight",
            ACTIVITIES,
            "Activities that began and have not met their fate",
            stats.in_flight(),
        ),
        counter(
            "activity.exporter.batches",
            "{batch}",
            "Batches that the sink took",
            stats.batches,
        ),
        counter("activity.exporter.retries", "{retry}", "Batches sent again", stats.retries),
        counter("activity.truncated", ACTIVITIES, "Activities cut to the caps", stats.truncated),
        counter(
            "activity.late_ends",
            ACTIVITIES,
            "Ends of requests that had been given up",
            stats.late_ends,
        ),
        counter("activity.late_spans", SPANS, "Spans begun after their activity", stats.late_spans),
        counter("activity.outside", "{call}", "Patches that found no activity", stats.outside),
        counter("activity.hidden", "{request}", "Requests not seen by the layer", stats.hidden),
        counter("activity.panics", "{panic}", "Panics caught", stats.panics),
    ];
    if let Some(spans) = spans {
        let exported = counter(
            "activity.exporter.span.exported",
            SPANS,
            "Spans that the endpoint took, or with an error type did not",
            spans.exported,
        );
        let processed = counter(
            "activity.processor.span.processed",
            SPANS,
            "Spans that came to be exported, or with an error type were left out",
            spans.exported + spans.failed,
        );
        all.push(counter("activity.span.started", SPANS, "Spans that began", spans.started));
        all.extend([exported, erred(exported, "rejected", spans.failed), processed]);
        all.extend(spans.dropped.map(|(why, value)| erred(processed, why, value)));
        all.extend([
            counter("activity.span.sampled_out", SPANS, "Spans not kept", spans.sampled_out),
            gauge("activity.processor.span.queue.size", SPANS, "Spans waiting", spans.waiting),
            gauge("activity.span.held", SPANS, "Spans not decided", spans.held),
            gauge("activity.span.held.memory", "By", "Memory of these", spans.held_bytes),
            gauge("activity.trace.open", "{trace}", "Traces not over", spans.open_traces),
        ]);
    }
    all
}

/// The metrics in Prometheus' text format, version 0.0.4: what a page for its scraper answers.
///
/// ```
/// # let (_layer, activities) = tracing_activity::builder()
/// #     .config(tracing_activity::Config::default())
/// #     .sink(tracing_activity::sink::MemorySink::new())
/// #     .build()?;
/// let page = tracing_activity::metrics::prometheus(&activities.handle().metrics());
/// assert!(page.contains("\nactivity_created_total 0\n"));
/// # Ok::<(), tracing_activity::Error>(())
/// ```
#[must_use]
pub fn prometheus(metrics: &[Metric]) -> String {
    let mut page = String::new();
    let mut described = "";
    for metric in metrics {
        let (suffix, kind) = match metric.kind {
            Kind::Counter => ("_total", "counter"),
            Kind::Gauge => ("", "gauge"),
        };
        let name = format!("{}{suffix}", metric.name.replace('.', "_"));
        if metric.name != described {
            described = metric.name;
            let _ = writeln!(page, "# HELP {name} {}\n# TYPE {name} {kind}", metric.help);
        }
        let _ = match metric.error_type {
            Some(error) => writeln!(page, "{name}{{error_type=\"{error}\"}} {}", metric.value),
            None => writeln!(page, "{name} {}", metric.value),
        };
    }
    page
}

/// The metrics as lines of statsd, one for each datagram: gauges with what was counted so far, so that
/// a lost one does no harm. `error.type` becomes a tag, as the Collector's receiver reads it.
///
/// ```
/// # let (_layer, activities) = tracing_activity::builder()
/// #     .config(tracing_activity::Config::default())
/// #     .sink(tracing_activity::sink::MemorySink::new())
/// #     .build()?;
/// let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
/// for line in tracing_activity::metrics::statsd(&activities.handle().metrics()) {
///     // Every ten seconds or so.
///     let _ = socket.send_to(line.as_bytes(), "127.0.0.1:8125");
/// }
/// # Ok::<(), tracing_activity::Error>(())
/// ```
#[must_use]
pub fn statsd(metrics: &[Metric]) -> Vec<String> {
    let line = |metric: &Metric| {
        let tag = metric.error_type.map(|it| format!("|#error.type:{it}")).unwrap_or_default();
        format!("{}:{}|g{tag}", metric.name, metric.value)
    };
    metrics.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> Vec<Metric> {
        let mut stats = Stats::default();
        (stats.created, stats.stored, stats.failed, stats.queued) = (9, 4, 1, 2);
        (stats.dropped.queue_full, stats.dropped.queue_bytes) = (1, 1);
        let spans = SpanFigures {
            exported: 7,
            dropped: [("limit", 1), ("late", 0), ("age", 0), ("queue_full", 3), ("shutdown", 0)],
            ..SpanFigures::default()
        };
        metrics(&stats, 100, Some(&spans))
    }

    #[test]
    fn a_page_for_prometheus_describes_each_name_once_and_tells_errors_by_a_label() {
        let page = prometheus(&some());
        for line in [
            "activity_created_total 9",
            "activity_exporter_activity_exported_total 4",
            "activity_exporter_activity_exported_total{error_type=\"rejected\"} 1",
            "activity_processor_activity_processed_total{error_type=\"queue_full\"} 2",
            "activity_processor_queue_size 2",
            "activity_processor_queue_capacity 100",
            "activity_exporter_span_exported_total 7",
            "activity_processor_span_processed_total{error_type=\"queue_full\"} 3",
        ] {
            assert!(page.lines().any(|it| it == line), "{line} in\n{page}");
        }
        let mut types: Vec<_> = page.lines().filter(|line| line.starts_with("# TYPE")).collect();
        let all = types.len();
        types.sort_unstable();
        types.dedup();
        assert_eq!(types.len(), all, "{page}");
    }

    #[test]
    fn what_met_its_fate_adds_up_to_what_began() {
        let all = some();
        let of =
            |name: &str| all.iter().filter(|it| it.name == name).map(|it| it.value).sum::<u64>();
        let met = of("activity.processor.activity.processed");
        assert_eq!(of("activity.created"), met + of("activity.inflight"));
    }

    #[test]
    fn a_line_of_statsd_is_a_gauge_with_its_tag() {
        let lines = statsd(&some());
        assert!(lines.contains(&"activity.created:9|g".to_owned()), "{lines:?}");
        let tagged = "activity.exporter.activity.exported:1|g|#error.type:rejected";
        assert!(lines.contains(&tagged.to_owned()), "{lines:?}");
    }
}
