//! Whether the runtime that this thread works for is shutting down.
//!
//! A request's future is dropped by a client that left, and by a runtime that goes away with the
//! process: a closed span looks the same. tokio tells it by one thing only, that it takes no more
//! tasks. So it is asked by one that would never end, and only where a request was dropped.

use tokio::runtime::Handle;

use super::panics;

/// Whether this thread is in a runtime that is shutting down.
pub(super) fn is_ending() -> bool {
    is_refused(|| Handle::try_current().ok()).unwrap_or(false)
}

/// The same, of what a task of tokio's began: one that is dropped outside of any runtime was torn
/// down with its executor.
#[cfg(feature = "tower")]
pub(crate) fn is_ending_for(began_in_task: bool) -> bool {
    is_refused(|| Handle::try_current().ok()).unwrap_or(began_in_task)
}

/// Whether this thread works on a task of tokio's. Its id is all that is read.
#[cfg(feature = "tower")]
pub(crate) fn is_in_task() -> bool {
    tokio::task::try_id().is_some()
}

/// `None` where there is no runtime.
fn is_refused(runtime: impl FnOnce() -> Option<Handle>) -> Option<bool> {
    // Hooks of the application's may stand behind a spawn.
    panics::caught(|| {
        let probe = runtime()?.spawn(std::future::pending::<()>());
        let refused = probe.is_finished();
        probe.abort();
        Some(refused)
    })
    .flatten()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    /// Says at its end what it is told of the runtime.
    struct Asks(Sender<bool>);

    impl Drop for Asks {
        fn drop(&mut self) {
            let _ = self.0.send(is_ending());
        }
    }

    #[test]
    fn a_task_that_is_dropped_with_its_runtime_knows_it_and_one_that_is_aborted_does_not() {
        for threads in [0, 2] {
            let mut builder = match threads {
                0 => tokio::runtime::Builder::new_current_thread(),
                _ => tokio::runtime::Builder::new_multi_thread(),
            };
            let runtime = builder.worker_threads(threads.max(1)).build().unwrap();
            let (told, answers) = channel();
            let spawn = |asks: Asks| {
                runtime.spawn(async move {
                    let _asks = asks;
                    std::future::pending::<()>().await;
                })
            };
            let aborted = spawn(Asks(told.clone()));
            runtime.block_on(async {
                aborted.abort();
                let _ = aborted.await;
            });
            assert_eq!(answers.recv(), Ok(false), "{threads} threads");
            let _left = spawn(Asks(told.clone()));
            drop(runtime);
            assert_eq!(answers.recv(), Ok(true), "{threads} threads");
        }
        assert!(!is_ending(), "there is none");
    }
}
