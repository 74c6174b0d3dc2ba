//! Whether this process is a fork of the one that made the layer.
//!
//! Of the threads only the one that forks goes on in the child, so nothing delivers there, and what
//! another thread had locked stays locked. Asking for the process's id costs as much as a small
//! request: it is asked when a request begins, but not again for some time.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use crate::pipeline::DropReason;

/// For how long the answer is believed.
const EVERY: Duration = Duration::from_millis(20);

/// This is the process that made the layer.
const NO: u8 = 0;
/// This is another.
const NOTICED: u8 = 1;
/// And whatever it had begun is counted.
const SETTLED: u8 = 2;

#[derive(Debug)]
pub(super) struct Fork {
    /// The process that made the layer.
    process: u32,
    /// In ticks of the clock.
    every: u64,
    asked: AtomicU64,
    state: AtomicU8,
}

impl Fork {
    pub(super) fn new(clock: &quanta::Clock) -> Self {
        const TICKS: u64 = 1 << 32;
        let nanos = u128::from(clock.delta_as_nanos(0, TICKS)).max(1);
        let every = EVERY.as_nanos() * u128::from(TICKS) / nanos;
        Self {
            process: std::process::id(),
            every: u64::try_from(every).unwrap_or(u64::MAX),
            asked: AtomicU64::new(clock.raw()),
            state: AtomicU8::new(NO),
        }
    }

    /// Whether it is time to ask.
    #[inline]
    pub(super) fn is_due(&self, now: u64) -> bool {
        now.wrapping_sub(self.asked.load(Ordering::Relaxed)) > self.every
    }

    /// Asks. `true` once: when it turns out to be a fork.
    #[cold]
    pub(super) fn is_noticed(&self, now: u64) -> bool {
        self.asked.store(now, Ordering::Relaxed);
        !self.is_known()
            && std::process::id() != self.process
            && self.state.swap(NOTICED, Ordering::SeqCst) == NO
    }

    /// Whether it is known to be a fork.
    pub(super) fn is_known(&self) -> bool {
        self.state.load(Ordering::SeqCst) != NO
    }

    /// Why a request is left out; `None` where that is counted already.
    pub(super) fn reason(&self, reason: DropReason) -> Option<DropReason> {
        match (self.state.load(Ordering::SeqCst), reason) {
            (NO, reason) => Some(reason),
            // It began after all was counted.
            (SETTLED, DropReason::InFlight) | (NOTICED, _) => Some(DropReason::Forked),
            _ => None,
        }
    }

    /// Whatever was begun is to be counted now. `true` once.
    pub(super) fn settle(&self) -> bool {
        self.state.swap(SETTLED, Ordering::SeqCst) != SETTLED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_is_put_again_after_some_time_and_not_before() {
        let clock = quanta::Clock::new();
        let fork = Fork::new(&clock);
        let begin = fork.asked.load(Ordering::Relaxed);
        let nanos = |ticks| Duration::from_nanos(clock.delta_as_nanos(begin, begin + ticks));
        assert!(!fork.is_due(begin) && !fork.is_due(begin + fork.every));
        assert!(fork.is_due(begin + fork.every + 1));
        let every = nanos(fork.every);
        assert!(every.abs_diff(EVERY) <= EVERY / 100, "{every:?}");
        let later = begin + 2 * fork.every;
        assert!(!fork.is_noticed(later) && !fork.is_known(), "this is the process that made it");
        assert!(!fork.is_due(later));
    }

    #[test]
    fn every_request_of_a_fork_is_counted_once() {
        let fork = Fork::new(&quanta::Clock::new());
        assert_eq!(fork.reason(DropReason::QueueFull), Some(DropReason::QueueFull));
        fork.state.store(NOTICED, Ordering::SeqCst);
        assert_eq!(fork.reason(DropReason::Shutdown), Some(DropReason::Forked));
        assert_eq!(fork.reason(DropReason::InFlight), Some(DropReason::Forked));
        assert!(fork.settle() && !fork.settle());
        assert_eq!(fork.reason(DropReason::Shutdown), None);
        assert_eq!(fork.reason(DropReason::InFlight), Some(DropReason::Forked));
    }
}
