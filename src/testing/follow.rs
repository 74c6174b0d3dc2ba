//! [`Following`]: the subscriber of a capture goes where its spans go.
//!
//! A test's subscriber is the default of the test's thread alone. Where a span of it is entered on
//! another thread - an instrumented future, `in_scope` in a blocking task - the subscriber becomes
//! the default there until the span is left, so that what begins inside of it is seen as it would
//! be in production. It is the default while a span closes, too: the registry gives up a span's
//! hold on its parent through whatever subscriber is the default at that moment.

use std::cell::RefCell;
use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::dispatcher::{DefaultGuard, WeakDispatch, get_default, set_default};
use tracing_core::span::{Attributes, Current, Id, Record};
use tracing_core::{Dispatch, Event, Interest, LevelFilter, Metadata, Subscriber};

/// Wraps the subscriber of a capture.
pub(super) struct Following<S> {
    inner: S,
    /// Tells this capture from others in the process.
    capture: u64,
    own: OnceLock<WeakDispatch>,
}

/// A subscriber that became this thread's default because a span of it was entered.
struct Visit {
    capture: u64,
    /// How often spans of it were entered and not left.
    entries: u32,
    /// Makes the former default the default again.
    _guard: DefaultGuard,
}

thread_local! {
    static VISITS: RefCell<Vec<Visit>> = const { RefCell::new(Vec::new()) };
}

impl<S> fmt::Debug for Following<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Following").field("capture", &self.capture).finish_non_exhaustive()
    }
}

impl<S: Subscriber> Following<S> {
    pub(super) fn new(inner: S) -> Self {
        static CAPTURES: AtomicU64 = AtomicU64::new(0);
        let capture = CAPTURES.fetch_add(1, Ordering::Relaxed);
        Self { inner, capture, own: OnceLock::new() }
    }

    /// Makes this the default, unless it is.
    fn become_default(&self) -> Option<DefaultGuard> {
        let is_default = get_default(|default| {
            default.downcast_ref::<Self>().is_some_and(|other| other.capture == self.capture)
        });
        if is_default {
            return None;
        }
        self.own.get().and_then(WeakDispatch::upgrade).map(|own| set_default(&own))
    }

    /// A span is entered: counts it, or begins a visit.
    fn arrive(&self) {
        let again = VISITS.try_with(|visits| {
            let mut visits = visits.borrow_mut();
            let visit = visits.iter_mut().rfind(|visit| visit.capture == self.capture)?;
            visit.entries += 1;
            Some(())
        });
        if matches!(again, Ok(Some(()))) {
            return;
        }
        if let Some(guard) = self.become_default() {
            let visit = Visit { capture: self.capture, entries: 1, _guard: guard };
            // A thread that is ending has no list any more: the guard goes at once.
            let _ = VISITS.try_with(|visits| visits.borrow_mut().push(visit));
        }
    }

    /// A span was left.
    fn leave(&self) {
        let over = VISITS.try_with(|visits| {
            let mut visits = visits.borrow_mut();
            let at = visits.iter().rposition(|visit| visit.capture == self.capture)?;
            visits[at].entries -= 1;
            (visits[at].entries == 0).then(|| visits.remove(at))
        });
        // Not while the list is borrowed: dropping the guard may end a subscriber.
        drop(over);
    }
}

impl<S: Subscriber> Subscriber for Following<S> {
    fn on_register_dispatch(&self, subscriber: &Dispatch) {
        // The first is the capture's own.
        let _ = self.own.set(subscriber.downgrade());
        self.inner.on_register_dispatch(subscriber);
    }

    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        self.inner.register_callsite(metadata)
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.inner.enabled(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        self.inner.max_level_hint()
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        self.inner.new_span(span)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        self.inner.record(span, values);
    }

    fn record_follows_from(&self, span: &Id, follows: &Id) {
        self.inner.record_follows_from(span, follows);
    }

    fn event_enabled(&self, event: &Event<'_>) -> bool {
        self.inner.event_enabled(event)
    }

    fn event(&self, event: &Event<'_>) {
        self.inner.event(event);
    }

    fn enter(&self, span: &Id) {
        self.arrive();
        self.inner.enter(span);
    }

    fn exit(&self, span: &Id) {
        self.inner.exit(span);
        self.leave();
    }

    fn clone_span(&self, span: &Id) -> Id {
        self.inner.clone_span(span)
    }

    fn try_close(&self, span: Id) -> bool {
        let _default = self.become_default();
        self.inner.try_close(span)
    }

    fn current_span(&self) -> Current {
        self.inner.current_span()
    }
}
