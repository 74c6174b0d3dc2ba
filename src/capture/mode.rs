//! Whether spans are collected: what the sampling policy says, which may change while requests run.
//!
//! Where no rule can keep a trace, only roots are recorded; and a layer that began so does not even
//! follow which spans a thread is inside of. Two switches, then:
//!
//! - *following* is off in a layer that began with such a policy. The first policy that keeps
//!   something turns it on, for good: spans that a thread entered while it was on must be left
//!   while it is on. A request that began before is never followed: the registry tells what belongs
//!   to it.
//! - *collecting* follows the policy. Its epoch counts the changes. A request remembers the epoch
//!   that it began in: if that is another when it ends, part of its spans may be missing, so it is a
//!   row without a trace and without a fingerprint.
//!
//! The order of a change matters. Before the epoch in which spans are collected begins, every
//! callsite must be wanted again; it must be over before the first callsite is not.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::config::SamplingPolicy;
use crate::sampling::Sampler;

/// The epoch of a request, or of now: its last bit tells whether spans are collected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Epoch(u32);

impl Epoch {
    /// One in which no spans are collected.
    pub(super) const NONE: Self = Self(0);

    pub(super) fn collects(self) -> bool {
        self.0 & 1 != 0
    }
}

/// A sampler, and which of them it is.
#[derive(Debug, Clone)]
pub(super) struct Current {
    version: u32,
    pub(super) sampler: Arc<Sampler>,
}

pub(super) struct Mode {
    follows: AtomicBool,
    /// Requests whose spans are not followed may be under way.
    pub(super) unfollowed: bool,
    epoch: AtomicU32,
    /// 1 where callsites are taken as if spans were not collected, else 0.
    lean: AtomicUsize,
    /// Counts the samplers.
    version: AtomicU32,
    sampler: Mutex<Arc<Sampler>>,
    /// A thread is changing what is collected.
    changing: AtomicBool,
}

impl Mode {
    pub(super) fn new(policy: SamplingPolicy) -> Self {
        let sampler = Sampler::new(policy);
        let collects = sampler.tail().can_keep();
        Self {
            follows: AtomicBool::new(collects),
            unfollowed: !collects,
            epoch: AtomicU32::new(collects.into()),
            lean: AtomicUsize::new((!collects).into()),
            version: AtomicU32::new(0),
            sampler: Mutex::new(Arc::new(sampler)),
            changing: AtomicBool::new(false),
        }
    }

    /// Whether it is followed which spans a thread is inside of.
    #[inline]
    pub(super) fn follows(&self) -> bool {
        !self.unfollowed || self.follows.load(Ordering::Relaxed)
    }

    #[inline]
    pub(super) fn epoch(&self) -> Epoch {
        Epoch(self.epoch.load(Ordering::Acquire))
    }

    /// 1 where callsites are taken as if spans were not collected, else 0.
    #[inline]
    pub(super) fn lean(&self) -> usize {
        // Who sees that spans are no longer wanted sees that the epoch is over.
        self.lean.load(Ordering::Acquire)
    }

    /// The sampler of now.
    pub(super) fn current(&self) -> Current {
        let sampler = self.sampler.lock().unwrap_or_else(PoisonError::into_inner);
        let version = self.version.load(Ordering::Relaxed);
        Current { version, sampler: Arc::clone(&sampler) }
    }

    /// Makes `known` the sampler of now. Nearly always it is, which takes no lock.
    #[inline]
    pub(super) fn refresh(&self, known: &mut Current) {
        if known.version != self.version.load(Ordering::Acquire) {
            *known = self.current();
        }
    }

    /// Puts another policy in force. It asks `tracing` to ask about every callsite again, which may
    /// call other layers.
    pub(super) fn set(&self, policy: SamplingPolicy) {
        let before = {
            let mut sampler = self.sampler.lock().unwrap_or_else(PoisonError::into_inner);
            let next = Arc::new(Sampler::after(policy, &sampler));
            self.version.fetch_add(1, Ordering::Release);
            std::mem::replace(&mut *sampler, next)
        };
        drop(before);
        // One thread changes what is collected, and looks again afterwards; a lock would be held
        // while the code of others runs. The flag is last to go, so that the last policy is heeded.
        while self.collects() != self.epoch().collects() {
            if self.changing.swap(true, Ordering::SeqCst) {
                return;
            }
            // Other layers are asked, and may panic: the next change must still be possible.
            let _changing = Changing(&self.changing);
            let collects = self.collects();
            if collects != self.epoch().collects() {
                self.change(collects);
            }
        }
    }

    /// Whether the policy of now keeps anything.
    fn collects(&self) -> bool {
        self.current().sampler.tail().can_keep()
    }

    fn change(&self, collects: bool) {
        if collects {
            self.follows.store(true, Ordering::Release);
            self.want(collects);
            self.epoch.fetch_add(1, Ordering::Release);
        } else {
            self.epoch.fetch_add(1, Ordering::Release);
            self.want(collects);
        }
    }

    /// Changes which callsites are wanted.
    fn want(&self, collects: bool) {
        self.lean.store((!collects).into(), Ordering::Release);
        tracing_core::callsite::rebuild_interest_cache();
    }
}

/// While it lives, a thread is changing what is collected.
struct Changing<'a>(&'a AtomicBool);

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}
