//! [`Counters`]: what happened to every activity. [`Stats`]: the same at one moment, for people.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use super::DropReason;

/// Alone on its cache lines: 128 bytes, since processors fetch lines in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Apart<T>(T);

/// Counters that request threads and the worker share.
///
/// What every request touches stands apart from the rest.
#[derive(Debug, Default)]
pub struct Counters {
    created: Apart<AtomicU64>,
    requests: Apart<Requests>,
    worker: Apart<Delivery>,
}

#[derive(Debug, Default)]
struct Requests {
    dropped: [AtomicU64; DropReason::ALL.len()],
    late_spans: AtomicU64,
    hidden: AtomicU64,
    late_ends: AtomicU64,
    panics: AtomicU64,
    truncated: AtomicU64,
    cut: AtomicU64,
}

#[derive(Debug, Default)]
struct Delivery {
    stored: AtomicU64,
    failed: AtomicU64,
    retries: AtomicU64,
    batches: AtomicU64,
}

impl Counters {
    /// All zero.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An activity began. Each one counted here meets exactly one fate.
    pub fn count_created(&self) {
        // Sequentially consistent with `Queue::nudge` after it: see the worker's way to sleep.
        self.created.0.fetch_add(1, Ordering::SeqCst);
    }

    /// An activity was left out: its fate.
    pub fn count_dropped(&self, reason: DropReason) {
        self.count_dropped_many(reason, 1);
    }

    /// A span began after its activity had ended.
    pub fn count_late_span(&self) {
        self.requests.0.late_spans.fetch_add(1, Ordering::Relaxed);
    }

    /// A request was met whose span the layer does not see.
    pub fn count_hidden(&self) {
        self.requests.0.hidden.fetch_add(1, Ordering::Relaxed);
    }

    /// The end of an activity that had been given up is an activity of its own, with a fate of its own.
    pub fn count_late_end(&self) {
        self.requests.0.late_ends.fetch_add(1, Ordering::Relaxed);
        self.count_created();
    }

    /// A panic was caught in this crate's or the application's code.
    pub fn count_panic(&self) {
        self.requests.0.panics.fetch_add(1, Ordering::Relaxed);
    }

    /// An activity was cut to stay within the caps.
    pub fn count_truncated(&self) {
        self.requests.0.truncated.fetch_add(1, Ordering::Relaxed);
    }

    /// So many things that the application said of an activity were cut or left out.
    pub fn count_cut(&self, things: u32) {
        self.requests.0.cut.fetch_add(things.into(), Ordering::Relaxed);
    }

    pub(crate) fn count_dropped_many(&self, reason: DropReason, rows: u64) {
        self.requests.0.dropped[reason as usize].fetch_add(rows, Ordering::SeqCst);
    }

    pub(super) fn count_stored(&self, rows: u64) {
        self.worker.0.stored.fetch_add(rows, Ordering::SeqCst);
        self.worker.0.batches.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn count_failed(&self, rows: u64) {
        self.worker.0.failed.fetch_add(rows, Ordering::SeqCst);
    }

    pub(super) fn count_retry(&self) {
        self.worker.0.retries.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether an activity has begun and not met its fate.
    pub(super) fn is_unfinished(&self) -> bool {
        self.snapshot(0).in_flight() > 0
    }

    /// The counters now, with `queued` activities waiting.
    #[must_use]
    pub fn snapshot(&self, queued: usize) -> Stats {
        let get = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
        let Requests { dropped, late_spans, late_ends, hidden, panics, truncated, cut } =
            &self.requests.0;
        let dropped = |reason: DropReason| get(&dropped[reason as usize]);
        let Delivery { stored, failed, retries, batches } = &self.worker.0;
        // Fates before `created`, so that nothing has met its fate before it began.
        let stats = Stats {
            stored: get(stored),
            failed: get(failed),
            dropped: Dropped {
                queue_full: dropped(DropReason::QueueFull),
                queue_bytes: dropped(DropReason::QueueBytes),
                filtered: dropped(DropReason::Filtered),
                rule: dropped(DropReason::Rule),
                in_flight: dropped(DropReason::InFlight),
                shutdown: dropped(DropReason::Shutdown),
                forked: dropped(DropReason::Forked),
            },
            created: 0,
            queued: queued as u64,
            retries: get(retries),
            batches: get(batches),
            late_spans: get(late_spans),
            late_ends: get(late_ends),
            outside: 0,
            hidden: get(hidden),
            panics: get(panics),
            truncated: get(truncated),
            cut: get(cut),
        };
        Stats { created: get(&self.created.0), ..stats }
    }
}

/// What happened to every activity so far.
///
/// `created = stored + failed + dropped.total() + in_flight()`, exactly, once nothing is under
/// way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Activities that began: requests, and the late ends of those that had been given up.
    pub created: u64,
    /// Activities that the sink acknowledged.
    pub stored: u64,
    /// Activities that could not be made or stored: refused by the sink, or sent without an
    /// answer until the process ended.
    pub failed: u64,
    /// Activities left out, by reason.
    pub dropped: Dropped,
    /// Activities waiting in the queue.
    pub queued: u64,
    /// Times a batch was sent again.
    pub retries: u64,
    /// Batches that the sink acknowledged.
    pub batches: u64,
    /// Spans that began after their activity had ended.
    pub late_spans: u64,
    /// Ends of requests that had been given up at their age: each is a second row.
    pub late_ends: u64,
    /// Calls of `with_activity` in this process where there was no activity.
    pub outside: u64,
    /// Requests without a row: a filter hides their spans from the layer, or another activity layer of
    /// the same subscriber was there first. They do not count as created.
    pub hidden: u64,
    /// Panics caught.
    pub panics: u64,
    /// Activities cut to stay within the caps.
    pub truncated: u64,
    /// Texts and values of `with_activity` and of reserved fields that were cut or left out.
    pub cut: u64,
}

/// Activities left out, by reason: see [`DropReason`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Dropped {
    /// As many rows waited as may.
    pub queue_full: u64,
    /// As many bytes waited as may.
    pub queue_bytes: u64,
    /// The application's filter left them out.
    pub filtered: u64,
    /// A rule of the sampling policy left them out: `drop:route:/healthz`.
    pub rule: u64,
    /// As many requests were being captured as may.
    pub in_flight: u64,
    /// The process was ending.
    pub shutdown: u64,
    /// The process was a fork, in which nothing delivers.
    pub forked: u64,
}

impl Dropped {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.by_reason().into_iter().map(|(_, count)| count).sum()
    }

    /// Those left out against the application's will: all but those that its filter or a rule of its
    /// policy left out.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.total() - self.filtered - self.rule
    }

    /// Those left out since `before`.
    pub(super) fn since(&self, before: &Self) -> impl Iterator<Item = (DropReason, u64)> {
        let both = self.by_reason().into_iter().zip(before.by_reason());
        both.map(|((reason, now), (_, before))| (reason, now.saturating_sub(before)))
    }

    fn by_reason(&self) -> [(DropReason, u64); DropReason::ALL.len()] {
        let Self { queue_full, queue_bytes, filtered, rule, in_flight, shutdown, forked } = *self;
        [
            (DropReason::QueueFull, queue_full),
            (DropReason::QueueBytes, queue_bytes),
            (DropReason::Filtered, filtered),
            (DropReason::Rule, rule),
            (DropReason::InFlight, in_flight),
            (DropReason::Shutdown, shutdown),
            (DropReason::Forked, forked),
        ]
    }
}

impl fmt::Display for Dropped {
    /// The total, with the reasons that occurred: `3 (2 queue_full, 1 shutdown)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.total())?;
        let mut open = " (";
        for (reason, count) in self.by_reason().into_iter().filter(|(_, count)| *count > 0) {
            write!(f, "{open}{count} {}", reason.as_str())?;
            open = ", ";
        }
        f.write_str(if open == ", " { ")" } else { "" })
    }
}

impl Stats {
    /// Activities that have begun and not met their fate: being captured, waiting or being sent.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.created.saturating_sub(self.stored + self.failed + self.dropped.total())
    }
}

impl fmt::Display for Stats {
    /// One line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} created: {} stored in {} batches with {} retries, {} failed, {} dropped, {} in flight of which {} queued",
            self.created,
            self.stored,
            self.batches,
            self.retries,
            self.failed,
            self.dropped,
            self.in_flight(),
            self.queued
        )?;
        for (name, count) in [
            ("truncated", self.truncated),
            ("texts cut", self.cut),
            ("late spans", self.late_spans),
            ("late ends", self.late_ends),
            ("writes outside", self.outside),
            ("requests hidden by a filter or a second layer", self.hidden),
            ("panics", self.panics),
        ] {
            if count > 0 {
                write!(f, "; {count} {name}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_every_reason_that_occurred() {
        let counters = Counters::new();
        for _ in 0..6 {
            counters.count_created();
        }
        counters.count_stored(2);
        counters.count_failed(1);
        counters.count_dropped(DropReason::Shutdown);
        counters.count_dropped(DropReason::QueueFull);
        counters.count_panic();
        let stats = counters.snapshot(1);
        assert_eq!((stats.in_flight(), stats.dropped.total()), (1, 2));
        assert_eq!(
            stats.to_string(),
            "6 created: 2 stored in 1 batches with 0 retries, 1 failed, \
             2 (1 queue_full, 1 shutdown) dropped, 1 in flight of which 1 queued; 1 panics"
        );
        assert!(counters.is_unfinished());
    }
}
