//! [`SpanStats`]: what became of every span.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::metrics::SpanFigures;

/// Why a span was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// Memory, spans of a trace, or open traces.
    Limit,
    /// Its trace was forgotten when it began.
    Late,
    /// Its trace never came to an end.
    Age,
    /// As many waited for export as may.
    QueueFull,
    /// The process was ending.
    Shutdown,
}

const REASONS: usize = 5;

/// The counters of one [`Link`](super::Link).
#[derive(Debug, Default)]
pub(super) struct Tally {
    started: AtomicU64,
    sampled_out: AtomicU64,
    dropped: [AtomicU64; REASONS],
    kept_traces: AtomicU64,
    exported: AtomicU64,
    failed: AtomicU64,
    exports: AtomicU64,
    /// Spans of the export under way that the endpoint said it did not take.
    rejected: AtomicU64,
    /// Handed to the inner processor so far, and of these settled.
    admitted: AtomicU64,
    settled: AtomicU64,
    /// Handed to the inner processor and not settled; [`GIVEN_UP`] when nobody waits any more.
    waiting: AtomicU64,
    /// An exporter reports here.
    pub(super) counted: AtomicBool,
    warned: AtomicBool,
}

/// What is not settled was counted as dropped.
const GIVEN_UP: u64 = 1 << 63;

impl Tally {
    pub(super) fn started(&self) {
        self.started.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn sampled_out(&self, spans: u64) {
        self.sampled_out.fetch_add(spans, Ordering::Relaxed);
    }

    pub(super) fn kept(&self) {
        self.kept_traces.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn dropped(&self, why: Why, spans: u64) {
        self.dropped[why as usize].fetch_add(spans, Ordering::Relaxed);
    }

    /// Makes room for one more span that waits for export; counts it as dropped where there is none.
    pub(super) fn admit(&self, capacity: u64) -> bool {
        if !self.counted.load(Ordering::Relaxed) {
            self.exported.fetch_add(1, Ordering::Relaxed);
            return true;
        }
        let before = self.waiting.fetch_add(1, Ordering::SeqCst);
        if before & GIVEN_UP == 0 && before < capacity {
            self.admitted.fetch_add(1, Ordering::SeqCst);
            return true;
        }
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        let given_up = before & GIVEN_UP != 0;
        self.dropped(if given_up { Why::Shutdown } else { Why::QueueFull }, 1);
        false
    }

    /// The endpoint answered that it took all spans of the export under way but these.
    pub(super) fn reject(&self, spans: u64) {
        self.rejected.fetch_add(spans, Ordering::SeqCst);
    }

    /// An export of so many spans came to its end. Tells whether this is the first from which
    /// something is missing.
    pub(super) fn settle(&self, spans: u64, arrived: bool) -> bool {
        // The processor's exports come one after the other.
        let rejected = self.rejected.swap(0, Ordering::SeqCst).min(spans);
        if self.waiting.fetch_sub(spans, Ordering::SeqCst) & GIVEN_UP != 0 {
            return false;
        }
        self.exports.fetch_add(1, Ordering::Relaxed);
        let failed = if arrived { rejected } else { spans };
        self.exported.fetch_add(spans - failed, Ordering::SeqCst);
        self.failed.fetch_add(failed, Ordering::SeqCst);
        self.settled.fetch_add(spans, Ordering::SeqCst);
        failed > 0 && !self.warned.swap(true, Ordering::Relaxed)
    }

    /// Nobody waits any more: what is not settled is lost. Tells whether nothing was.
    pub(super) fn give_up(&self) -> bool {
        let before = self.waiting.fetch_or(GIVEN_UP, Ordering::SeqCst);
        if before & GIVEN_UP != 0 {
            return true;
        }
        self.dropped(Why::Shutdown, before);
        before == 0
    }

    /// Whether everything handed on was settled, or given up.
    pub(super) fn is_settled(&self) -> bool {
        let waiting = self.waiting.load(Ordering::SeqCst);
        waiting == 0 || waiting & GIVEN_UP != 0
    }

    /// How many were handed on so far.
    pub(super) fn admitted(&self) -> u64 {
        self.admitted.load(Ordering::SeqCst)
    }

    /// Whether so many were settled, or all given up. They are settled in the order in which they
    /// were handed on.
    pub(super) fn is_settled_up_to(&self, admitted: u64) -> bool {
        self.settled.load(Ordering::SeqCst) >= admitted || self.is_given_up()
    }

    /// Whether nobody waits any more.
    pub(super) fn is_given_up(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) & GIVEN_UP != 0
    }

    pub(super) fn snapshot(&self) -> SpanStats {
        let get = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
        let dropped = |why: Why| get(&self.dropped[why as usize]);
        let waiting = get(&self.waiting);
        let stats = SpanStats {
            sampled_out: get(&self.sampled_out),
            exported: get(&self.exported),
            failed: get(&self.failed),
            exports: get(&self.exports),
            kept_traces: get(&self.kept_traces),
            waiting: if waiting & GIVEN_UP == 0 { waiting } else { 0 },
            dropped: SpansDropped {
                limit: dropped(Why::Limit),
                late: dropped(Why::Late),
                age: dropped(Why::Age),
                queue_full: dropped(Why::QueueFull),
                shutdown: dropped(Why::Shutdown),
            },
            ..SpanStats::default()
        };
        SpanStats { started: get(&self.started), ..stats }
    }
}

/// What became of every span so far.
///
/// `started = exported + failed + sampled_out + dropped.total() + in_flight()`, exactly, once
/// nothing is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct SpanStats {
    /// Spans that began.
    pub started: u64,
    /// Spans that the endpoint took. Where no exporter is counted, those handed on.
    pub exported: u64,
    /// Spans of exports that failed, and those that the endpoint rejected of others: it says so over
    /// HTTP; what it says over gRPC, or to an exporter of your own, is not known here.
    pub failed: u64,
    /// Spans of traces that were not kept.
    pub sampled_out: u64,
    /// Spans left out, by reason.
    pub dropped: SpansDropped,
    /// Exports that came to an end.
    pub exports: u64,
    /// Traces that were kept.
    pub kept_traces: u64,
    /// Spans waiting for export or being exported.
    pub waiting: u64,
    /// Finished spans whose trace is not decided.
    pub held: u64,
    /// Their memory in bytes, about.
    pub held_bytes: u64,
    /// Traces that are not over.
    pub open_traces: u64,
}

/// Spans left out, by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct SpansDropped {
    /// Memory, the spans of one trace or the open traces were as many as may be.
    pub limit: u64,
    /// Their trace was over and forgotten when they began.
    pub late: u64,
    /// Their trace did not come to an end.
    pub age: u64,
    /// As many waited for export as may.
    pub queue_full: u64,
    /// The process was ending.
    pub shutdown: u64,
}

impl SpansDropped {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.limit + self.late + self.age + self.queue_full + self.shutdown
    }
}

impl SpanStats {
    /// As the metrics take them.
    pub(crate) fn figures(&self) -> SpanFigures {
        let dropped = &self.dropped;
        SpanFigures {
            started: self.started,
            exported: self.exported,
            failed: self.failed,
            sampled_out: self.sampled_out,
            dropped: [
                ("limit", dropped.limit),
                ("late", dropped.late),
                ("age", dropped.age),
                ("queue_full", dropped.queue_full),
                ("already_shutdown", dropped.shutdown),
            ],
            waiting: self.waiting,
            held: self.held,
            held_bytes: self.held_bytes,
            open_traces: self.open_traces,
        }
    }

    /// Spans that began and have not met their fate.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        let met = self.exported + self.failed + self.sampled_out + self.dropped.total();
        self.started.saturating_sub(met)
    }
}

impl fmt::Display for SpanStats {
    /// `9 spans: 4 exported in 1 exports, 0 failed, 4 sampled out, 1 dropped, 0 in flight`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { started, exported, failed, sampled_out, exports, .. } = self;
        write!(
            f,
            "{started} spans: {exported} exported in {exports} exports, {failed} failed, \
             {sampled_out} sampled out, {} dropped, {} in flight",
            self.dropped.total(),
            self.in_flight()
        )
    }
}
