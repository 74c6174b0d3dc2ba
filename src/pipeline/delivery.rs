//! [`Delivery`]: one batch until it has met its fate.
//!
//! A batch is repeated under its id until it is stored. It is halved only when the sink refuses it, or
//! finds it too large, and holds nothing of it: before that the sink is asked, see
//! [`Delivery::judge`].
//!
//! While a sink is being waited for, the worker still ticks, and still notices that the process
//! ends.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::DropReason;
use super::backoff::{Backoff, Pace};
use super::handle::Shared;
use super::limits::{Limits, SMALLEST};
use super::stats::Dropped;
use super::warnings::{About, Warnings};
use crate::config::PipelineConfig;
use crate::sink::{Batch, Sink, SinkError};

const TICK: Duration = Duration::from_millis(500);
/// How often in a row a refused batch is found to be missing, or to be stored, before that is believed
/// of a batch that an earlier attempt may have stored: that attempt may still be under way.
const LOOKS: u32 = 2;
/// A batch of fewer bytes is not halved for want of memory: it waits.
const FRUGAL: usize = 64 << 10;
/// Refusals in search of bad rows, for one batch. Finding one row among 100,000 takes 35; beyond
/// this many the part in hand fails as a whole.
const REFUSALS: u32 = 1000;
/// What the worker allows a sink beyond the timeout, which the sink keeps by itself.
const SLACK: Duration = Duration::from_secs(1);
/// Longer than anyone waits, and short enough to be added to any time.
pub(super) const YEAR: Duration = Duration::from_hours(365 * 24);

/// Sends batches to the sink, again where that may help, and counts.
pub(super) struct Delivery {
    sink: Box<dyn Sink>,
    ready: bool,
    pace: Pace,
    limits: Limits,
    watch: Watch,
}

/// What goes on while the worker waits.
struct Watch {
    shared: Arc<Shared>,
    tick: Box<dyn FnMut() + Send>,
    next_tick: Instant,
    warnings: Warnings,
    limit: Duration,
    hurried: bool,
    /// Activities dropped when that was last told.
    dropped: Dropped,
}

/// How waiting for a sink's call ended.
enum Call<T> {
    Answered(T),
    Panicked,
    TooLong,
    Over,
}

enum Sent {
    Stored,
    /// Refused or too large, and nothing of it is stored.
    Refused(SinkError),
    Closed(SinkError),
    Over,
}

/// What is known of a batch that the sink refused.
enum Verdict {
    /// Nothing of it is stored.
    Absent,
    /// All of it is.
    Stored,
    /// It may be.
    Unclear,
    Over,
}

/// What became of a batch's attempts so far.
#[derive(Default)]
struct Trail {
    /// It may be stored.
    doubt: bool,
    /// How often in a row a refused batch was found missing, and found stored.
    missing: u32,
    found: u32,
}

impl Delivery {
    pub(super) fn new(
        shared: Arc<Shared>,
        sink: Box<dyn Sink>,
        tick: Box<dyn FnMut() + Send>,
        pace: Pace,
        config: &PipelineConfig,
    ) -> Self {
        let watch = Watch {
            shared,
            tick,
            next_tick: Instant::now(),
            warnings: Warnings::default(),
            limit: config.timeout.min(YEAR) + SLACK,
            hurried: false,
            dropped: Dropped::default(),
        };
        Self { sink, ready: false, pace, limits: Limits::new(config), watch }
    }

    /// What the sink bears.
    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Asks the sink once whether it is ready; the next batch asks again if it is not.
    pub(super) async fn prepare(&mut self) {
        if let Call::Answered(Err(error)) = self.make_ready().await {
            self.watch.warn_of(&error);
        }
    }

    /// Sends `batch` until it has met its fate. `false` when the deadline came first.
    pub(super) async fn deliver(&mut self, batch: Batch) -> bool {
        let whole = batch.id();
        let mut parts = vec![batch];
        let mut refusals = REFUSALS;
        while let Some(part) = parts.pop() {
            let rows = part.len() as u64;
            match self.send(&part, part.id() == whole).await {
                Sent::Stored => {
                    self.limits.stored(part.bytes());
                    self.watch.settle(rows, |it| it.count_stored(rows));
                }
                Sent::Refused(error)
                    if part.len() > 1 && (refusals > 0 || error.is_too_large()) =>
                {
                    if error.is_too_large() {
                        self.limits.too_large(part.bytes());
                        self.watch.warnings.warn(
                            About::TooLarge,
                            &format!("activities are sent in smaller batches: {error}"),
                        );
                    } else {
                        refusals -= 1;
                    }
                    let (left, right) = part.split();
                    parts.extend([right, left]);
                }
                Sent::Refused(error) | Sent::Closed(error) => {
                    self.watch.settle(rows, |it| it.count_failed(rows));
                    self.watch.warnings.warn(
                        About::Failed,
                        &format!("activities were refused and count as failed: {error}"),
                    );
                }
                Sent::Over => {
                    self.watch.shared.cut();
                    self.watch.settle(rows, |it| it.count_failed(rows));
                    self.drop_rows(parts.iter().map(|it| it.len() as u64).sum());
                    return false;
                }
            }
        }
        true
    }

    /// Sends `batch` until it is stored, or refused for certain. `whole`: it is no half of another.
    async fn send(&mut self, batch: &Batch, whole: bool) -> Sent {
        let mut backoff = Backoff::new(self.pace);
        let mut trail = Trail::default();
        let start = Instant::now();
        loop {
            let (call, written) = self.attempt(batch).await;
            let error = match call {
                Call::Answered(Ok(())) => {
                    if backoff.is_fresh() {
                        self.limits.calm(start.elapsed());
                    }
                    self.watch.recovered(self.sink.name());
                    return Sent::Stored;
                }
                Call::Answered(Err(error)) => error,
                Call::Panicked => {
                    self.watch.shared.counters.count_panic();
                    SinkError::unknown(format!("the sink {} panicked", self.sink.name()))
                }
                Call::TooLong => SinkError::retryable("no answer within the timeout"),
                Call::Over => return Sent::Over,
            };
            if error.is_closed() {
                return Sent::Closed(error);
            }
            trail.doubt |= written && !error.is_certain();
            if error.is_configuration() {
                self.ready = false;
            }
            if error.is_busy() {
                self.limits.busy();
            }
            if written && is_refusal(&error, batch) {
                match self.judge(batch, whole, &error, &mut trail).await {
                    Verdict::Absent => return Sent::Refused(error),
                    Verdict::Stored => return Sent::Stored,
                    Verdict::Unclear => {}
                    Verdict::Over => return Sent::Over,
                }
            } else {
                (trail.missing, trail.found) = (0, 0);
            }
            self.watch.warn_of(&error);
            if !self.watch.pause(backoff.next(&error)).await {
                return Sent::Over;
            }
            self.watch.shared.counters.count_retry();
        }
    }

    /// Whether anything of a refused batch is stored.
    ///
    /// The sink is asked before the first refusal of a batch is believed, before one row is given up,
    /// and wherever an attempt may have stored the batch. Then it has to be missing twice, with a pause
    /// between: the earlier attempt may still be under way. A batch that is found complete is
    /// repeated, because its views may lack it, and counts as stored when it is found so again.
    async fn judge(
        &mut self,
        batch: &Batch,
        whole: bool,
        error: &SinkError,
        trail: &mut Trail,
    ) -> Verdict {
        if !(trail.doubt || whole || batch.len() == 1) {
            return Verdict::Absent;
        }
        let sink = &mut self.sink;
        let count = match self.watch.call(async move { sink.stored(batch).await }).await {
            Call::Answered(Ok(count)) => count,
            Call::Over => return Verdict::Over,
            Call::Panicked => {
                self.watch.shared.counters.count_panic();
                return Verdict::Unclear;
            }
            Call::Answered(Err(_)) | Call::TooLong => return Verdict::Unclear,
        };
        match count {
            None if trail.doubt => Verdict::Unclear,
            None => Verdict::Absent,
            Some(0) => {
                (trail.missing, trail.found) = (trail.missing + 1, 0);
                let believed = !trail.doubt || trail.missing >= LOOKS;
                if believed { Verdict::Absent } else { Verdict::Unclear }
            }
            Some(count) => {
                trail.doubt = true;
                let complete = count >= batch.len() && !error.is_too_large();
                (trail.missing, trail.found) = (0, trail.found + u32::from(complete));
                if trail.found > LOOKS { Verdict::Stored } else { Verdict::Unclear }
            }
        }
    }

    /// Prepares the sink where it is not ready, and writes. Also answers whether it came to that.
    async fn attempt(&mut self, batch: &Batch) -> (Call<Result<(), SinkError>>, bool) {
        match self.make_ready().await {
            Call::Answered(Ok(())) => {}
            other => return (other, false),
        }
        let sink = &mut self.sink;
        (self.watch.call(async move { sink.write(batch).await }).await, true)
    }

    async fn make_ready(&mut self) -> Call<Result<(), SinkError>> {
        if self.ready {
            return Call::Answered(Ok(()));
        }
        let sink = &mut self.sink;
        let call = self.watch.call(async move { sink.prepare().await }).await;
        if let Call::Answered(answer) = &call {
            self.watch.shared.prepared(answer.clone());
            self.ready = answer.is_ok();
        }
        match call {
            // No batch is to blame for what happens here.
            Call::Answered(Err(error)) if !error.is_retryable() && !error.is_configuration() => {
                Call::Answered(Err(SinkError::configuration(error.to_string())))
            }
            call => call,
        }
    }

    /// Counts rows that were not sent before the deadline.
    pub(super) fn drop_rows(&mut self, rows: u64) {
        if rows > 0 {
            self.watch.settle(rows, |it| it.count_dropped_many(DropReason::Shutdown, rows));
        }
    }

    /// Sleeps until woken, until `due`, or - when `timed` - until the next tick.
    pub(super) async fn rest(&mut self, due: Option<Instant>, timed: bool) {
        let tick = timed.then_some(self.watch.next_tick);
        match [due, tick].into_iter().flatten().min() {
            Some(until) => {
                let _ = timeout_at(until, self.watch.shared.queue.woken()).await;
            }
            None => self.watch.shared.queue.woken().await,
        }
        self.watch.tick_when_due();
    }

    /// Whether the deadline of a shutdown has passed.
    pub(super) fn is_over(&self) -> bool {
        self.watch.deadline().is_some_and(|it| Instant::now() >= it)
    }

    pub(super) fn warn(&mut self, about: About, text: &str) {
        self.watch.warnings.warn(about, text);
    }
}

impl Watch {
    /// Waits for a sink's call, not longer than its limit or the deadline.
    async fn call<T>(&mut self, call: impl Future<Output = T>) -> Call<T> {
        let mut call = pin!(call);
        let limit = Instant::now() + self.limit;
        loop {
            let deadline = self.deadline();
            let until = limit.min(self.next_tick).min(deadline.unwrap_or(limit));
            let shared = Arc::clone(&self.shared);
            let mut interruption = pin!(timeout_at(until, shared.queue.woken()));
            let polled =
                poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(cx))) {
                    Ok(Poll::Ready(answer)) => Poll::Ready(Some(Call::Answered(answer))),
                    Ok(Poll::Pending) => interruption.as_mut().poll(cx).map(|_| None),
                    Err(_) => Poll::Ready(Some(Call::Panicked)),
                });
            if let Some(end) = polled.await {
                return end;
            }
            self.tick_when_due();
            let now = Instant::now();
            if self.deadline().is_some_and(|it| now >= it) {
                return Call::Over;
            }
            if now >= limit {
                return Call::TooLong;
            }
        }
    }

    /// Waits before the next attempt. `false` when the deadline passed.
    ///
    /// When the process begins to end, the next attempt comes at once: it may be the last.
    async fn pause(&mut self, pause: Duration) -> bool {
        let end = Instant::now() + pause;
        loop {
            let deadline = self.deadline();
            let now = Instant::now();
            if deadline.is_some_and(|it| now >= it) {
                return false;
            }
            if deadline.is_some() && !std::mem::replace(&mut self.hurried, true) || now >= end {
                return true;
            }
            let until = end.min(self.next_tick).min(deadline.unwrap_or(end));
            let _ = timeout_at(until, self.shared.queue.woken()).await;
            self.tick_when_due();
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.shared.deadline().map(Instant::from_std)
    }

    fn tick_when_due(&mut self) {
        let now = Instant::now();
        if now < self.next_tick {
            return;
        }
        self.next_tick = now + TICK;
        let stats = self.shared.counters.snapshot(0);
        if stats.in_flight() > 0 && catch_unwind(AssertUnwindSafe(&mut self.tick)).is_err() {
            self.shared.counters.count_panic();
        }
        for (reason, count) in stats.dropped.since(&self.dropped) {
            if let Some(remedy) = remedy(reason).filter(|_| count > 0) {
                let text =
                    format!("activities are being dropped: {remedy}; the total comes at the end");
                self.warnings.warn(About::Dropped(reason), &text);
            }
        }
        self.dropped = stats.dropped;
    }

    fn settle(&self, rows: u64, count: impl FnOnce(&super::Counters)) {
        if self.shared.settle(rows) {
            count(&self.shared.counters);
        }
    }

    fn warn_of(&mut self, error: &SinkError) {
        let about =
            if error.is_configuration() { About::Configuration } else { About::Unavailable };
        self.warnings.warn(about, &format!("activities wait: {error}"));
    }

    fn recovered(&mut self, sink: &str) {
        let away = self.warnings.over(About::Unavailable);
        if self.warnings.over(About::Configuration) || away {
            super::warnings::print(&format!("{sink} takes activities again"));
        }
    }
}

/// Whether `error` asks for the batch to be halved, or given up.
fn is_refusal(error: &SinkError, batch: &Batch) -> bool {
    let one = batch.len() == 1;
    match (error.is_rejected(), error.is_too_large(), error.is_busy()) {
        (true, ..) => true,
        // For want of memory no row is given up: memory comes back.
        (_, true, true) => !one && batch.bytes() > FRUGAL,
        // Who finds even this too large takes nothing at all, which is no row's fault.
        (_, true, false) => batch.bytes() > SMALLEST,
        _ => false,
    }
}

/// Why activities are dropped, and what to do about it. What was dropped on purpose is no news.
fn remedy(reason: DropReason) -> Option<&'static str> {
    match reason {
        DropReason::QueueFull => Some(
            "as many rows wait as ACTIVITY_QUEUE_ROWS allows, because the sink is slower than they come, or away",
        ),
        DropReason::QueueBytes => Some(
            "as many bytes wait as ACTIVITY_QUEUE_BYTES allows, because the sink is slower than they come, or away",
        ),
        DropReason::InFlight => Some(
            "as many requests are under way as ACTIVITY_MAX_IN_FLIGHT allows: raise it, or look for requests that never end",
        ),
        DropReason::Shutdown => {
            Some("they end after the worker: shut the layer down after the last request")
        }
        DropReason::Forked => {
            Some("this process was forked after the layer was set up: call `init` in the child")
        }
        DropReason::Filtered | DropReason::Rule => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_for_a_loss_has_a_remedy_of_its_own() {
        let remedies: Vec<_> = DropReason::ALL.into_iter().filter_map(remedy).collect();
        assert_eq!(remedies.len(), DropReason::ALL.len() - 2);
        for (at, one) in remedies.iter().enumerate() {
            assert!(!remedies[at + 1..].contains(one), "{one}");
        }
        let in_flight = remedy(DropReason::InFlight).unwrap();
        assert!(in_flight.contains("ACTIVITY_MAX_IN_FLIGHT") && !in_flight.contains("sink"));
    }
}
