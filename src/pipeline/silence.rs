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

use std::cell::RefCell;
use std::sync::OnceLock;

use tracing_core::Dispatch;
use tracing_core::dispatcher::{DefaultGuard, set_default};
use tracing_core::subscriber::NoSubscriber;

thread_local! {
    static SILENCE: RefCell<Option<DefaultGuard>> = const { RefCell::new(None) };
}

/// From now on nothing that this thread traces is seen.
pub(super) fn begin() {
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
    NOBODY.get_or_init(|| Dispatch::new(NoSubscriber::default()))
}

/// This thread's default subscriber is back.
pub(super) fn end() {
    let _ = SILENCE.try_with(|silence| silence.borrow_mut().take());
}
