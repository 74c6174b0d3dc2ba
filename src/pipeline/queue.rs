//! [`Queue`]: the bounded hand-over between threads.
//!
//! Everything that has to agree is one word: how many rows and bytes are taken, whether the queue
//! is closed, and how the worker sleeps. A push is one compare-and-swap on that word, then one
//! store into a slot that is certain to be free.
//!
//! Why no wake-up is lost: the worker goes to sleep by a compare-and-swap that succeeds only while
//! nothing waits, and leaves the mark of its sleep in the word. Whatever push comes next changes
//! the same word, sees the mark, takes it away, and wakes the worker after its store. There is no
//! second variable whose order would matter, and exactly one push pays for the wake-up.

use std::mem::size_of;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_queue::ArrayQueue;
use tokio::sync::Notify;

use crate::config::PipelineConfig;
use crate::model::{Activity, Value};

/// What a request hands over: cheap to make, turned into an [`Activity`] on the worker.
pub trait Seed: Send {
    /// About how many bytes of memory this holds.
    fn bytes(&self) -> usize;

    /// The queue refused it: whatever it holds may be used again.
    fn discard(self: Box<Self>) {}

    /// Makes the activity; `None` when a filter leaves it out.
    ///
    /// Runs on the worker's thread. A panic counts the activity as failed.
    fn into_activity(self: Box<Self>) -> Option<Activity>;
}

impl Seed for Activity {
    fn bytes(&self) -> usize {
        let texts = [
            &self.method,
            &self.route,
            &self.url,
            &self.referer,
            &self.title,
            &self.okind,
            &self.oid,
            &self.ekind,
            &self.data,
            &self.error,
            &self.error_kind,
            &self.user_id,
            &self.session_id,
            &self.visit_id,
            &self.tracker_id,
            &self.user_agent,
            &self.app,
            &self.app_version,
            &self.service,
            &self.host,
            &self.site_revision,
            &self.response,
        ];
        let attributes = |list: &[(std::borrow::Cow<'static, str>, Value)]| {
            list.iter()
                .map(|(_, value)| match value {
                    Value::Str(text) => 48 + text.len(),
                    _ => 48,
                })
                .sum::<usize>()
        };
        let trace = self.trace.as_ref().map_or(0, |trace| {
            let spans = trace.spans.iter().map(|span| 128 + attributes(&span.attributes));
            let events = trace
                .events
                .iter()
                .map(|event| 128 + event.message.len() + attributes(&event.attributes));
            spans.chain(events).sum()
        });
        size_of::<Self>() + texts.iter().map(|text| text.len()).sum::<usize>() + trace
    }

    fn into_activity(self: Box<Self>) -> Option<Activity> {
        Some(*self)
    }
}

/// Why an activity was left out on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DropReason {
    /// As many rows waited as may.
    QueueFull,
    /// As many bytes waited as may.
    QueueBytes,
    /// The application's filter left it out.
    Filtered,
    /// A rule of the sampling policy left it out: `drop:route:/healthz`.
    Rule,
    /// As many requests were being captured as may.
    InFlight,
    /// The process was ending.
    Shutdown,
    /// The process is a fork of the one that captures, and nothing delivers in it. In its counters this
    /// is also the fate of what waited at the fork, which the other process delivers.
    Forked,
}

impl DropReason {
    /// All reasons.
    pub const ALL: [Self; 7] = [
        Self::QueueFull,
        Self::QueueBytes,
        Self::Filtered,
        Self::Rule,
        Self::InFlight,
        Self::Shutdown,
        Self::Forked,
    ];

    /// The reason's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::QueueBytes => "queue_bytes",
            Self::Filtered => "filtered",
            Self::Rule => "rule",
            Self::InFlight => "in_flight",
            Self::Shutdown => "shutdown",
            Self::Forked => "forked",
        }
    }
}

const BYTES: u64 = (1 << 35) - 1;
const ROW: u64 = 1 << 35;
const ROWS: u64 = ((1 << 25) - 1) * ROW;
/// Wake the worker at the next push.
const IDLE: u64 = 1 << 60;
/// Wake the worker when a batch is full.
const GATHERING: u64 = 1 << 61;
/// Wake the worker when an activity begins, too: it sleeps without a timer.
const UNTIMED: u64 = 1 << 62;
const ASLEEP: u64 = IDLE | GATHERING | UNTIMED;
const CLOSED: u64 = 1 << 63;

/// How the worker sleeps, that is, what wakes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sleep {
    /// Nothing waits: the next push wakes it.
    Idle,
    /// Nothing waits and nothing has been captured for a while: also [`Queue::nudge`] wakes it.
    Untimed,
    /// A batch is filling: the push that fills it wakes it.
    Gathering,
}

/// A bounded queue of [`Seed`]s from any number of threads to one worker.
pub struct Queue {
    word: AtomicU64,
    slots: ArrayQueue<(usize, Box<dyn Seed>)>,
    max_rows: usize,
    max_bytes: usize,
    batch_rows: usize,
    batch_bytes: usize,
    wake: Notify,
}

impl Queue {
    /// A queue with the bounds of `config`.
    #[must_use]
    pub fn new(config: &PipelineConfig) -> Self {
        let max_rows = config.queue_rows.clamp(1, (ROWS / ROW) as usize);
        let max_bytes = config.queue_bytes.clamp(1, BYTES as usize);
        Self {
            word: AtomicU64::new(0),
            slots: ArrayQueue::new(max_rows),
            max_rows,
            max_bytes,
            // The worker comes when the queue is half full at the latest, not when it overflows.
            batch_rows: config.batch_rows.min(max_rows / 2).max(1),
            batch_bytes: config.batch_bytes.min(max_bytes / 2).max(1),
            wake: Notify::new(),
        }
    }

    /// Hands `seed` to the worker.
    ///
    /// Never blocks and never allocates. [`Seed::bytes`] is asked once.
    ///
    /// # Errors
    /// The seed itself and why it was not taken: the queue is full or closed. The caller counts
    /// it.
    pub fn push(&self, seed: Box<dyn Seed>) -> Result<(), (DropReason, Box<dyn Seed>)> {
        let bytes = seed.bytes().clamp(1, BYTES as usize);
        let mut word = self.word.load(Ordering::Relaxed);
        let wake = loop {
            if word & CLOSED != 0 {
                return Err((DropReason::Shutdown, seed));
            }
            if rows(word) >= self.max_rows {
                return Err((DropReason::QueueFull, seed));
            }
            if bytes > self.max_bytes - bytes_of(word) {
                return Err((DropReason::QueueBytes, seed));
            }
            let mut next = word + ROW + bytes as u64;
            let wake = word & IDLE != 0 || (word & GATHERING != 0 && self.fills_batch(next));
            if wake {
                next &= !ASLEEP;
            }
            match self.word.compare_exchange_weak(word, next, Ordering::SeqCst, Ordering::Relaxed) {
                Ok(_) => break wake,
                Err(current) => word = current,
            }
        };
        if let Err((_, seed)) = self.slots.push((bytes, seed)) {
            // Rows are taken before the slot and given back after it, so there is a free slot.
            debug_assert!(false, "a reserved slot was taken");
            self.release(bytes);
            return Err((DropReason::QueueFull, seed));
        }
        if wake {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Tells that an activity began and was counted as created, so that the worker ticks while it
    /// is under way. Usually one load.
    pub fn nudge(&self) {
        if self.word.load(Ordering::SeqCst) & UNTIMED != 0 {
            let before = self.word.fetch_and(!ASLEEP, Ordering::SeqCst);
            if before & ASLEEP != 0 {
                self.wake.notify_one();
            }
        }
    }

    /// Number of seeds waiting.
    #[must_use]
    pub fn len(&self) -> usize {
        rows(self.word.load(Ordering::SeqCst))
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of the seeds waiting.
    #[must_use]
    pub fn bytes(&self) -> usize {
        bytes_of(self.word.load(Ordering::SeqCst))
    }

    /// Whether pushes are refused.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.word.load(Ordering::SeqCst) & CLOSED != 0
    }

    /// Refuses pushes from now on. What was taken before still comes out.
    pub fn close(&self) {
        self.word.fetch_or(CLOSED, Ordering::SeqCst);
        self.wake.notify_one();
    }

    /// The same where no worker is left to be told.
    pub(crate) fn cut_off(&self) {
        self.word.fetch_or(CLOSED, Ordering::SeqCst);
        self.awake();
    }

    /// Takes the next seed and the bytes it was counted with.
    pub(crate) fn pop(&self) -> Option<(usize, Box<dyn Seed>)> {
        for _ in 0..1000 {
            if let Some((bytes, seed)) = self.slots.pop() {
                self.release(bytes);
                return Some((bytes, seed));
            }
            if self.is_empty() {
                return None;
            }
            // Another thread is between taking the row and storing the seed.
            std::thread::yield_now();
        }
        None
    }

    /// Marks the worker as asleep, unless there is something to do for it.
    pub(super) fn sleep(&self, how: Sleep) -> bool {
        let mark = match how {
            Sleep::Idle => IDLE,
            Sleep::Untimed => IDLE | UNTIMED,
            Sleep::Gathering => GATHERING,
        };
        self.word
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |word| {
                let busy = match how {
                    Sleep::Idle | Sleep::Untimed => rows(word) > 0,
                    Sleep::Gathering => self.fills_batch(word),
                };
                (!busy && word & CLOSED == 0).then_some((word & !ASLEEP) | mark)
            })
            .is_ok()
    }

    /// Takes the mark of sleep away.
    pub(super) fn awake(&self) {
        self.word.fetch_and(!ASLEEP, Ordering::SeqCst);
    }

    /// Waits for a wake-up. One that came before the call counts.
    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Wakes the worker whatever it does.
    pub(super) fn poke(&self) {
        self.wake.notify_one();
    }

    /// Whether the worker sleeps until a batch is full, or its timer is over.
    #[cfg(test)]
    pub(super) fn is_gathering(&self) -> bool {
        self.word.load(Ordering::SeqCst) & GATHERING != 0
    }

    fn fills_batch(&self, word: u64) -> bool {
        rows(word) >= self.batch_rows || bytes_of(word) >= self.batch_bytes
    }

    fn release(&self, bytes: usize) {
        self.word.fetch_sub(ROW + bytes as u64, Ordering::SeqCst);
    }
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue")
            .field("rows", &self.len())
            .field("bytes", &self.bytes())
            .field("closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}

fn rows(word: u64) -> usize {
    ((word & ROWS) / ROW) as usize
}

fn bytes_of(word: u64) -> usize {
    (word & BYTES) as usize
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
