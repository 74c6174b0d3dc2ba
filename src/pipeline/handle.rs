//! [`WorkerHandle`]: what the rest of the process says to the worker, and the ledger by which both
//! agree on the fate of what the worker holds.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::warnings::print;
use super::{Counters, DropReason, Queue, Stats};
use crate::sink::SinkError;

/// How much later than the deadline a caller returns at most, so that the worker can settle what
/// it holds by itself.
const GRACE: Duration = Duration::from_millis(100);

/// The running worker.
///
/// Dropping the handle stops nothing: call [`shutdown`](Self::shutdown).
#[derive(Debug, Clone)]
pub struct WorkerHandle {
    shared: Arc<Shared>,
}

/// How a shutdown went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Whether everything was delivered or refused before the deadline, and nothing is in flight.
    pub complete: bool,
    /// The counters at the end.
    pub stats: Stats,
}

impl ShutdownReport {
    /// The report of a fork, in which nothing delivers.
    pub(crate) fn of_fork(stats: Stats) -> Self {
        Self { complete: stats.dropped.forked == 0, stats }
    }

    /// The report where nothing was captured.
    pub(crate) fn of_nothing() -> Self {
        Self { complete: true, stats: Stats::default() }
    }
}

impl WorkerHandle {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Delivers what waits and stops the worker, at `deadline` from now at the latest.
    ///
    /// From the call on, pushes are refused. What is not acknowledged at the deadline is counted:
    /// the batch being sent as failed, since nobody knows whether it arrived, the rest as dropped.
    /// Another call, from whatever thread, waits for the same end, at the earlier deadline.
    ///
    /// Blocks the calling thread, and does not need the application's runtime to make progress. In
    /// async code call it in `spawn_blocking` where other tasks share the thread.
    #[allow(clippy::must_use_candidate, reason = "the counters need not interest the caller")]
    pub fn shutdown(&self, deadline: Duration) -> ShutdownReport {
        let shared = &*self.shared;
        let asked = Instant::now().checked_add(deadline);
        let mut control = shared.lock();
        control.deadline = match (control.deadline, asked) {
            (Some(earlier), Some(asked)) => Some(earlier.min(asked)),
            (earlier, asked) => earlier.or(asked),
        };
        let end = control.deadline.and_then(|it| it.checked_add(GRACE));
        drop(control);
        shared.queue.close();
        let control = shared.wait(end, |control| control.finished);
        let finished = control.finished;
        drop(control);
        if !finished {
            shared.give_up();
        }
        let stats = shared.stats();
        if (stats.failed > 0 || stats.dropped.lost() > 0)
            && !shared.reported.swap(true, Ordering::Relaxed)
        {
            print(&format!("not every activity was stored: {stats}"));
        }
        let complete = !shared.cut.load(Ordering::SeqCst) && stats.in_flight() == 0;
        ShutdownReport { complete, stats }
    }

    /// Waits until everything pushed before the call has met its fate, `deadline` from now at the
    /// latest; answers whether it has.
    ///
    /// Blocks the calling thread, as [`shutdown`](Self::shutdown) does.
    #[must_use]
    pub fn flush(&self, deadline: Duration) -> bool {
        let shared = &*self.shared;
        let end = Instant::now().checked_add(deadline);
        let mut control = shared.lock();
        control.flush_asked += 1;
        let ticket = control.flush_asked;
        drop(control);
        shared.queue.poke();
        let control = shared.wait(end, |control| control.flushed >= ticket || control.finished);
        control.flushed >= ticket || control.finished
    }

    /// Waits for the sink's first answer to whether it is ready, `deadline` from now at the latest.
    ///
    /// `None` when there is none yet. An error is not the end: the worker goes on trying.
    #[must_use]
    pub fn prepared(&self, deadline: Duration) -> Option<Result<(), SinkError>> {
        let end = Instant::now().checked_add(deadline);
        let control =
            self.shared.wait(end, |control| control.prepared.is_some() || control.finished);
        control.prepared.clone()
    }

    /// The counters now.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }
}

/// What the worker and its handles share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) queue: Arc<Queue>,
    pub(super) counters: Arc<Counters>,
    control: Mutex<Control>,
    changed: Condvar,
    /// Activities the worker took from the queue that have not met their fate, and `GIVEN_UP`.
    held: AtomicU64,
    /// The deadline came before the end.
    cut: AtomicBool,
    reported: AtomicBool,
}

#[derive(Debug, Default)]
struct Control {
    flush_asked: u64,
    flushed: u64,
    deadline: Option<Instant>,
    prepared: Option<Result<(), SinkError>>,
    finished: bool,
}

/// A caller no longer waits for the worker and has counted what it held.
const GIVEN_UP: u64 = 1 << 63;

impl Shared {
    pub(super) fn new(queue: Arc<Queue>, counters: Arc<Counters>) -> Self {
        Self {
            queue,
            counters,
            control: Mutex::default(),
            changed: Condvar::new(),
            held: AtomicU64::new(0),
            cut: AtomicBool::new(false),
            reported: AtomicBool::new(false),
        }
    }

    /// The worker took an activity from the queue. `false` when nobody waits for it any more: then
    /// its fate is to be dropped.
    pub(super) fn hold(&self) -> bool {
        let before = self.held.fetch_add(1, Ordering::SeqCst);
        if before & GIVEN_UP != 0 {
            self.held.fetch_sub(1, Ordering::SeqCst);
        }
        before & GIVEN_UP == 0
    }

    /// `rows` that the worker held met their fate. `false` when a caller counted them already.
    pub(super) fn settle(&self, rows: u64) -> bool {
        self.held.fetch_sub(rows, Ordering::SeqCst) & GIVEN_UP == 0
    }

    /// The worker reached the deadline with activities left.
    pub(super) fn cut(&self) {
        self.cut.store(true, Ordering::SeqCst);
    }

    /// Counts what the worker holds as failed and what waits as dropped. Whatever the worker does
    /// with it later is no longer counted.
    pub(super) fn give_up(&self) {
        let held = self.held.fetch_or(GIVEN_UP, Ordering::SeqCst);
        if held & GIVEN_UP == 0 && held > 0 {
            self.cut();
            self.counters.count_failed(held);
        }
        while let Some((_, seed)) = self.queue.pop() {
            self.cut();
            self.counters.count_dropped(DropReason::Shutdown);
            drop(seed);
        }
    }

    /// The worker ended, by whatever way.
    pub(super) fn finish(&self) {
        self.queue.close();
        self.give_up();
        self.lock().finished = true;
        self.changed.notify_all();
    }

    /// A flush that was asked for and not answered.
    pub(super) fn flush_asked(&self) -> Option<u64> {
        let control = self.lock();
        (control.flush_asked > control.flushed).then_some(control.flush_asked)
    }

    /// Every flush up to `ticket` is done.
    pub(super) fn flushed(&self, ticket: u64) {
        self.lock().flushed = ticket;
        self.changed.notify_all();
    }

    /// The sink answered whether it is ready. The first answer stays.
    pub(super) fn prepared(&self, answer: Result<(), SinkError>) {
        self.lock().prepared.get_or_insert(answer);
        self.changed.notify_all();
    }

    /// When the worker has to end, if it was asked to.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.lock().deadline
    }

    fn stats(&self) -> Stats {
        self.counters.snapshot(self.queue.len())
    }

    fn lock(&self) -> MutexGuard<'_, Control> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(
        &self,
        end: Option<Instant>,
        done: impl Fn(&Control) -> bool,
    ) -> MutexGuard<'_, Control> {
        let mut control = self.lock();
        while !done(&control) {
            let left = match end {
                Some(end) => end.saturating_duration_since(Instant::now()),
                None => Duration::from_hours(1),
            };
            if left.is_zero() {
                break;
            }
            control =
                self.changed.wait_timeout(control, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        control
    }
}
