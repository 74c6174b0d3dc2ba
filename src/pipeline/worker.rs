//! [`Worker`]: the thread that makes batches of what waits.
//!
//! It sleeps without a timer where nothing has been captured for a while, and with one while something
//! is, so that its tick can age out requests that never end. It leaves seeds in the queue until they
//! fill a batch or the interval is over, and only then turns them into activities.
//!
//! Waking a thread costs who wakes it some microseconds, more than a whole request. So while activities
//! come and go it looks by itself once an interval, and only the seed that fills a batch wakes it; the
//! first seed does where the interval is so short that looking would cost more.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;
use std::{io, thread};

use tokio::time::Instant;

use super::backoff::Pace;
use super::delivery::{Delivery, YEAR};
use super::handle::Shared;
use super::queue::Sleep;
use super::silence;
use super::warnings::About;
use super::{Counters, DropReason, Queue, WorkerHandle};
use crate::config::PipelineConfig;
use crate::model::Activity;
use crate::sink::{Batch, Sink};

/// How long to wait for a thread that is in the middle of a push.
const MOMENT: Duration = Duration::from_millis(1);

/// The shortest interval for which the worker looks by itself.
const LOOKED: Duration = Duration::from_millis(100);

/// The thread that delivers activities.
pub struct Worker {
    shared: Arc<Shared>,
    config: PipelineConfig,
    delivery: Delivery,
    /// An activity that did not fit into the last batch.
    carry: Option<(usize, Activity)>,
    /// When the last batch was frozen: what waits now waits since then at most.
    frozen: Instant,
    /// Activities that had begun when it last went to sleep with nothing to do.
    begun: u64,
}

impl Worker {
    /// Starts the worker's thread, named `activity-worker`.
    ///
    /// `tick` is called about twice a second while anything is in flight. It may panic.
    ///
    /// # Errors
    /// When the thread or its runtime cannot be started.
    pub fn spawn(
        queue: Arc<Queue>,
        counters: Arc<Counters>,
        sink: Box<dyn Sink>,
        config: PipelineConfig,
        tick: Box<dyn FnMut() + Send>,
    ) -> io::Result<WorkerHandle> {
        Self::spawn_paced(queue, counters, sink, config, tick, Pace::default())
    }

    pub(super) fn spawn_paced(
        queue: Arc<Queue>,
        counters: Arc<Counters>,
        sink: Box<dyn Sink>,
        config: PipelineConfig,
        tick: Box<dyn FnMut() + Send>,
        pace: Pace,
    ) -> io::Result<WorkerHandle> {
        let runtime = silence::runtime()?;
        let shared = Arc::new(Shared::new(queue, counters));
        let handle = WorkerHandle::new(Arc::clone(&shared));
        thread::Builder::new().name("activity-worker".to_owned()).spawn(move || {
            let end = Finish(Arc::clone(&shared));
            silence::begin();
            runtime.block_on(async {
                let delivery = Delivery::new(Arc::clone(&shared), sink, tick, pace, &config);
                let frozen = Instant::now();
                Self { shared, config, delivery, carry: None, frozen, begun: 0 }.run().await;
            });
            // Not waiting for a host name that is still being looked up.
            runtime.shutdown_background();
            silence::end();
            drop(end);
        })?;
        Ok(handle)
    }

    async fn run(&mut self) {
        self.delivery.prepare().await;
        loop {
            if self.shared.queue.is_closed() {
                return self.drain().await;
            }
            if let Some(ticket) = self.shared.flush_asked() {
                self.flush().await;
                self.shared.flushed(ticket);
            } else if self.gather().await {
                let (_, batch) = self.freeze();
                self.deliver(batch).await;
            }
        }
    }

    /// Sleeps until a batch is due. `false` when something else is to be done first.
    async fn gather(&mut self) -> bool {
        let mut since = self.frozen;
        let interval = self.delivery.limits().interval();
        loop {
            let queue = &self.shared.queue;
            if queue.is_closed() || self.shared.flush_asked().is_some() {
                return false;
            }
            if self.carry.is_none() && queue.is_empty() {
                // Where activities come and go, the timer stays: the next one need not wake anyone.
                let stats = self.shared.counters.snapshot(0);
                let busy = stats.created != std::mem::replace(&mut self.begun, stats.created);
                let timed = busy || stats.in_flight() > 0;
                if timed && interval >= LOOKED {
                    // What is pushed from now on waits since now at most.
                    since = Instant::now();
                    if queue.sleep(Sleep::Gathering) {
                        let due = since + interval.min(YEAR);
                        self.delivery.rest(Some(due), true).await;
                        self.shared.queue.awake();
                    }
                    continue;
                }
                if !queue.sleep(if timed { Sleep::Idle } else { Sleep::Untimed }) {
                    continue;
                }
                // An activity that began before the mark was set nudged in vain: look again.
                if timed || !self.shared.counters.is_unfinished() {
                    self.delivery.rest(None, timed).await;
                }
                self.shared.queue.awake();
                since = Instant::now();
                continue;
            }
            let due = since + interval.min(YEAR);
            if Instant::now() >= due || self.fills_a_small_batch() || !queue.sleep(Sleep::Gathering)
            {
                return true;
            }
            self.delivery.rest(Some(due), true).await;
            self.shared.queue.awake();
        }
    }

    /// Whether what waits fills a batch of the size that the sink bears, of which the queue knows
    /// nothing.
    fn fills_a_small_batch(&self) -> bool {
        let limits = self.delivery.limits();
        let carried = self.carry.as_ref().map_or(0, |(size, _)| *size);
        limits.is_small() && self.shared.queue.bytes() + carried >= limits.batch_bytes()
    }

    /// Delivers what waits now.
    async fn flush(&mut self) {
        let mut left = self.shared.queue.len() + usize::from(self.carry.is_some());
        while left > 0 {
            let (taken, batch) = self.freeze();
            left = left.saturating_sub(taken);
            if !self.deliver(batch).await {
                return;
            }
            if taken == 0 {
                tokio::time::sleep(MOMENT).await;
            }
        }
    }

    /// Delivers what waits in a closed queue, until the deadline.
    async fn drain(&mut self) {
        while self.carry.is_some() || !self.shared.queue.is_empty() {
            if self.delivery.is_over() {
                break;
            }
            let (taken, batch) = self.freeze();
            self.deliver(batch).await;
            if taken == 0 {
                tokio::time::sleep(MOMENT).await;
            }
        }
        if self.carry.take().is_some() {
            self.shared.cut();
            self.delivery.drop_rows(1);
        }
    }

    async fn deliver(&mut self, batch: Option<Batch>) -> bool {
        match batch {
            Some(batch) => self.delivery.deliver(batch).await,
            None => true,
        }
    }

    /// Turns what waits into a batch, as far as one reaches; also answers how many seeds that
    /// took.
    fn freeze(&mut self) -> (usize, Option<Batch>) {
        self.frozen = Instant::now();
        let expected = self.shared.queue.len().min(self.config.batch_rows);
        let most = self.delivery.limits().batch_bytes();
        let (mut rows, mut bytes, mut taken) = (Vec::with_capacity(expected), 0, 0);
        while taken < self.config.batch_rows {
            let before = rows.len();
            let size = match self.carry.take() {
                Some((size, activity)) => {
                    rows.push(activity);
                    size
                }
                None => match self.next(&mut rows) {
                    Some(size) => size,
                    None => break,
                },
            };
            if rows.len() == before {
                taken += 1;
                continue;
            }
            if before > 0 && bytes + size > most {
                self.carry = rows.pop().map(|activity| (size, activity));
                break;
            }
            taken += 1;
            bytes += size;
        }
        (taken, (!rows.is_empty()).then(|| Batch::new(rows, bytes)))
    }

    /// Takes a seed and appends its activity, unless it met its fate on the way. An activity is
    /// large: it is not passed from hand to hand.
    fn next(&mut self, rows: &mut Vec<Activity>) -> Option<usize> {
        let (size, seed) = self.shared.queue.pop()?;
        let counters = &self.shared.counters;
        if !self.shared.hold() {
            counters.count_dropped(DropReason::Shutdown);
            return Some(size);
        }
        let make = || {
            let activity = seed.into_activity();
            let made = activity.is_some();
            rows.extend(activity);
            made
        };
        match catch_unwind(AssertUnwindSafe(make)) {
            Ok(true) => {}
            Ok(false) => {
                if self.shared.settle(1) {
                    counters.count_dropped(DropReason::Filtered);
                }
            }
            Err(_) => {
                counters.count_panic();
                if self.shared.settle(1) {
                    counters.count_failed(1);
                }
                self.delivery
                    .warn(About::Panic, "making an activity panicked: it is counted as failed");
            }
        }
        Some(size)
    }
}

/// Tells the handles that the worker ended, even if it panicked.
struct Finish(Arc<Shared>);

impl Drop for Finish {
    fn drop(&mut self) {
        self.0.finish();
    }
}

#[cfg(test)]
#[path = "worker_tests.rs"]
mod tests;
