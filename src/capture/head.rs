//! When the head of the answer was there: the column `response_start`.
//!
//! A middleware says it, and says whether the answer is a stream. Without one it is when the status
//! was first told, which frameworks do with the head; and of spans that end with the head it is their
//! end.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::buffer::Buffer;
use super::callsite::Callsite;
use super::outcome::{End, Verdict};

/// What a middleware says of the head. It needs neither the buffer nor a lock.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// In ticks of the clock; 0 until it is there.
    time: AtomicU64,
    is_stream: AtomicBool,
}

impl Told {
    pub(super) fn forget(&self) {
        self.time.store(0, Ordering::Relaxed);
        self.is_stream.store(false, Ordering::Relaxed);
    }

    #[cfg_attr(not(feature = "tower"), expect(dead_code, reason = "the middleware says it"))]
    pub(super) fn is_there(&self, now: u64) {
        self.time.store(now, Ordering::Release);
    }

    #[cfg_attr(not(feature = "tower"), expect(dead_code, reason = "the middleware says it"))]
    pub(super) fn streams(&self) {
        self.is_stream.store(true, Ordering::Release);
    }

    fn time(&self) -> Option<u64> {
        Some(self.time.load(Ordering::Acquire)).filter(|time| *time != 0)
    }
}

/// The head of a request's answer, when the request is over.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Head {
    /// Nanoseconds from the request's start; 0 when nobody told.
    pub(super) start: u64,
    pub(super) is_stream: bool,
}

impl Head {
    /// The head of the answer to a request of this root that ended so, `duration` nanoseconds after
    /// its start.
    pub(super) fn of(
        told: &Told,
        buffer: &Buffer,
        root: &Callsite,
        (end, verdict): (End, &Verdict),
        duration: u64,
    ) -> Self {
        let is_stream = told.is_stream.load(Ordering::Acquire);
        let since =
            |time| buffer.shared.nanos(buffer.spans[0].start, time).clamp(1, duration.max(1));
        let ends_with_head = root.ends_with_head && end == End::Closed && !verdict.is_cancelled();
        let start = match told.time() {
            Some(time) => since(time),
            None if ends_with_head && buffer.signals.is_answered() => duration,
            None => buffer.head.map_or(0, since),
        };
        Self { start, is_stream }
    }
}

impl Buffer {
    /// The request's status is told from now on, where it was not `before`: a framework tells it with
    /// the head.
    #[inline]
    pub(super) fn note_status(&mut self, before: bool) {
        if !before && self.signals.has_status() {
            self.note_head();
        }
    }

    #[cold]
    #[inline(never)]
    fn note_head(&mut self) {
        self.head = self.head.or_else(|| Some(self.shared.now()));
    }

    /// Frameworks tell by this event that the head is there.
    #[inline]
    pub(super) fn note_answered(&mut self, callsite: &Callsite, now: u64) {
        if callsite.tells_head && self.head.is_none() {
            self.head = Some(now);
        }
    }
}
