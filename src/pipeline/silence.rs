//! No subscriber for the worker while it works.
//!
//! What delivery traces - the HTTP client does - must not become activities, nor anything in other
//! layers. A scoped subscriber does that, but while one exists anywhere in the process `tracing`
//! looks for it in every thread, at every span: each request would pay. So it exists only while
//! the worker is awake. It is [`Dispatch::none`], which need not be registered: a new one would
//! have every callsite of the process asked for its interest again.

use std::cell::RefCell;

use tracing_core::Dispatch;
use tracing_core::dispatcher::{DefaultGuard, set_default};

thread_local! {
    static SILENCE: RefCell<Option<DefaultGuard>> = const { RefCell::new(None) };
}

/// From now on nothing that this thread traces is seen.
pub(super) fn begin() {
    // No thread-local any more: the thread is ending.
    let _ = SILENCE.try_with(|silence| {
        let mut silence = silence.borrow_mut();
        if silence.is_none() {
            *silence = Some(set_default(&Dispatch::none()));
        }
    });
}

/// This thread's default subscriber is back.
pub(super) fn end() {
    let _ = SILENCE.try_with(|silence| silence.borrow_mut().take());
}
