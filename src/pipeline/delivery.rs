//! [`Delivery`]: one batch until it has met its fate.
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
use super::warnings::{About, Warnings};
use crate::sink::{Batch, Sink, SinkError};

const TICK: Duration = Duration::from_millis(500);
/// How often an error that nobody knows is met before the batch is taken as refused.
const PATIENCE: u32 = 5;
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
    /// Activities lost when that was last told.
    lost: u64,
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
    Refused(SinkError),
    Closed(SinkError),
    Over,
}

impl Delivery {
    pub(super) fn new(
        shared: Arc<Shared>,
        sink: Box<dyn Sink>,
        tick: Box<dyn FnMut() + Send>,
        pace: Pace,
        timeout: Duration,
    ) -> Self {
        let watch = Watch {
            shared,
            tick,
            next_tick: Instant::now(),
            warnings: Warnings::default(),
            limit: timeout.min(YEAR) + SLACK,
            hurried: false,
            lost: 0,
        };
        Self { sink, ready: false, pace, watch }
    }

    /// Asks the sink once whether it is ready; the next batch asks again if it is not.
    pub(super) async fn prepare(&mut self) {
        if let Call::Answered(Err(error)) = self.make_ready().await {
            self.watch.warn_of(&error);
        }
    }

    /// Sends `batch` until it has met its fate. `false` when the deadline came first.
    pub(super) async fn deliver(&mut self, batch: Batch) -> bool {
        let mut parts = vec![batch];
        let (mut patience, mut refusals) = (PATIENCE, REFUSALS);
        while let Some(part) = parts.pop() {
            let rows = part.len() as u64;
            match self.send(&part, &mut patience).await {
                Sent::Stored => self.watch.settle(rows, |it| it.count_stored(rows)),
                Sent::Refused(_) if part.len() > 1 && refusals > 0 => {
                    refusals -= 1;
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

    async fn send(&mut self, batch: &Batch, patience: &mut u32) -> Sent {
        let mut backoff = Backoff::new(self.pace);
        loop {
            let error = match self.attempt(batch).await {
                Call::Answered(Ok(())) => {
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
            if error.is_configuration() {
                self.ready = false;
            } else if error.is_rejected() {
                return Sent::Refused(error);
            } else if !error.is_retryable() {
                *patience = patience.saturating_sub(1);
                if *patience == 0 {
                    return Sent::Refused(error);
                }
            }
            self.watch.warn_of(&error);
            if !self.watch.pause(backoff.next(&error)).await {
                return Sent::Over;
            }
            self.watch.shared.counters.count_retry();
        }
    }

    async fn attempt(&mut self, batch: &Batch) -> Call<Result<(), SinkError>> {
        match self.make_ready().await {
            Call::Answered(Ok(())) => {}
            other => return other,
        }
        let sink = &mut self.sink;
        self.watch.call(async move { sink.write(batch).await }).await
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
        let lost = stats.dropped.lost();
        if lost > self.lost {
            self.lost = lost;
            self.warnings.warn(
                About::Dropped,
                "activities are being dropped: the sink is slower than they come, or away; the total comes at the end",
            );
        }
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
