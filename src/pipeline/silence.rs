//! No subscriber for the worker while it works.
//!
//! What delivery traces - the HTTP client does - must not become activities, nor anything in other
//! layers. A scoped subscriber does that, but while one exists anywhere in the process `tracing`
//! looks for it in every thread, at every span: each request would pay. So it exists only while
//! the worker is awake.
//!
//! It is one registered subscriber for the whole process. `Dispatch::none()` would not do: while a
//! program has only one subscriber, `tracing` asks the current one whether a callsite is of interest
//! to anybody, and a callsite first met here would be off for everyone, for good.
//!
//! Nor may it answer for itself when it is asked about a callsite. Subscribers that disagree make
//! `tracing` ask each time, at every span and event of the program. So it answers what the
//! subscribers answer that hold this crate's layer ([`heed`]), and changes nothing.

use std::cell::RefCell;
use std::io;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tracing_core::dispatcher::{DefaultGuard, WeakDispatch, set_default};
use tracing_core::span::{Attributes, Id, Record};
use tracing_core::subscriber::Interest;
use tracing_core::{Dispatch, Event, LevelFilter, Metadata, Subscriber};

thread_local! {
    static SILENCE: RefCell<Option<DefaultGuard>> = const { RefCell::new(None) };
}

/// The subscribers whose interest stands.
static HEEDED: Mutex<Vec<WeakDispatch>> = Mutex::new(Vec::new());

/// The interest of this subscriber, which holds the layer, is not to be changed by the silence.
pub(crate) fn heed(subscriber: &Dispatch) {
    let mut heeded = HEEDED.lock().unwrap_or_else(PoisonError::into_inner);
    let live: Vec<Dispatch> = heeded.iter().filter_map(WeakDispatch::upgrade).collect();
    *heeded = live.iter().chain([subscriber]).map(Dispatch::downgrade).collect();
    // The last reference to a subscriber must not go away under the lock.
    drop(heeded);
}

/// A runtime for one thread, which the caller silences, and whose helpers are silent.
pub(crate) fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // Threads that look up host names are silent, too.
        .max_blocking_threads(2)
        .thread_keep_alive(Duration::from_secs(1))
        .on_thread_start(begin)
        .on_thread_unpark(begin)
        .on_thread_park(end)
        .build()
}

/// Ends a silence, however it is left.
#[cfg_attr(not(feature = "otlp"), allow(dead_code, reason = "`otlp` exports in silence"))]
struct End;

impl Drop for End {
    fn drop(&mut self) {
        end();
    }
}

/// Runs `f` in silence. Where it is silent already, it stays so.
#[cfg_attr(not(feature = "otlp"), allow(dead_code, reason = "`otlp` exports in silence"))]
pub(crate) fn during<R>(f: impl FnOnce() -> R) -> R {
    let was = SILENCE.try_with(|silence| silence.borrow().is_some()).unwrap_or(true);
    if was {
        return f();
    }
    begin();
    let _end = End;
    f()
}

/// From now on nothing that this thread traces is seen.
pub(crate) fn begin() {
    // No thread-local any more: the thread is ending.
    let _ = SILENCE.try_with(|silence| {
        let mut silence = silence.borrow_mut();
        if silence.is_none() {
            *silence = Some(set_default(nobody()));
        }
    });
}

/// The subscriber that sees nothing, registered once.
fn nobody() -> &'static Dispatch {
    static NOBODY: OnceLock<Dispatch> = OnceLock::new();
    NOBODY.get_or_init(|| Dispatch::new(Nobody))
}

/// This thread's default subscriber is back.
pub(crate) fn end() {
    let _ = SILENCE.try_with(|silence| silence.borrow_mut().take());
}

/// Sees nothing, and keeps it from nobody.
struct Nobody;

impl Subscriber for Nobody {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        // Their filters are the application's code: not under the lock.
        let heeded = HEEDED.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut common: Option<Interest> = None;
        for subscriber in heeded.iter().filter_map(WeakDispatch::upgrade) {
            let interest = subscriber.register_callsite(metadata);
            let agrees = common.as_ref().is_none_or(|common| {
                common.is_always() == interest.is_always()
                    && common.is_never() == interest.is_never()
            });
            common = Some(if agrees { interest } else { Interest::sometimes() });
        }
        common.unwrap_or_else(Interest::never)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::OFF)
    }

    fn enabled(&self, _: &Metadata<'_>) -> bool {
        false
    }

    // Ids must not be 0. Nobody looks one up here.
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, _: &Event<'_>) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}
