//! What a panicking handler said.
//!
//! A span that is left by a panic shows only that it happened; the message goes to the panic
//! hook. [`install_hook`] adds a hook before the present one that remembers the message for the
//! thread, so that the row can tell it. [`caught`] runs what may panic and must not be heard of.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

/// Bytes of a message that are remembered.
const MAX_MESSAGE: usize = 1024;

/// Whether any thread ever panicked: most programs never ask further.
static HEARD: AtomicBool = AtomicBool::new(false);

thread_local! {
    static MESSAGE: RefCell<Option<Box<str>>> = const { RefCell::new(None) };
}

/// Remembers the messages of panics from now on, then calls the hook that was installed before.
pub(crate) fn install_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let payload = info.payload_as_str().unwrap_or("(no message)");
            let cut = payload.floor_char_boundary(MAX_MESSAGE.min(payload.len()));
            let message = match info.location() {
                Some(place) => format!("{} at {}:{}", &payload[..cut], place.file(), place.line()),
                None => payload[..cut].to_owned(),
            };
            HEARD.store(true, Ordering::Relaxed);
            // No thread-local any more: the thread is ending.
            let _ = MESSAGE.try_with(|last| {
                if let Ok(mut last) = last.try_borrow_mut() {
                    *last = Some(message.into_boxed_str());
                }
            });
            previous(info);
        }));
    });
}

/// Runs `f`; `None` where it panicked.
#[inline]
pub(crate) fn caught<T>(f: impl FnOnce() -> T) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(result) => Some(result),
        Err(payload) => {
            // Dropping the payload could panic again.
            std::mem::forget(payload);
            None
        }
    }
}

/// A panic that leaves a span.
#[derive(Debug)]
pub(super) struct Panic {
    /// What it said, where the hook is installed and no inner span has taken it.
    pub(super) message: Option<Box<str>>,
}

/// The panic that this thread is unwinding by.
#[inline]
pub(super) fn current() -> Option<Panic> {
    if std::thread::panicking() { Some(taken()) } else { None }
}

/// Forgets the message of a panic that was caught before this request.
#[inline]
pub(super) fn forget() {
    if HEARD.load(Ordering::Relaxed) {
        forget_now();
    }
}

#[cold]
fn forget_now() {
    if std::thread::panicking() {
        return;
    }
    let _ = MESSAGE.try_with(|last| last.try_borrow_mut().map(|mut last| last.take()));
}

#[cold]
#[inline(never)]
fn taken() -> Panic {
    let message = MESSAGE.try_with(|last| last.try_borrow_mut().ok()?.take());
    Panic { message: message.ok().flatten() }
}
