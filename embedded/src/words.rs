//! The engine's own words: what it writes to standard error, for the message of a failed start.
//!
//! The pipe is read to its end whatever comes, or the engine would wait for room in it; the last
//! few kilobytes are kept.

use std::collections::VecDeque;
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// How much is kept.
const KEPT_BYTES: usize = 16 << 10;

/// The last of what the child writes to standard error.
#[derive(Default)]
pub(crate) struct Words {
    kept: Arc<Mutex<VecDeque<u8>>>,
    listener: Option<thread::JoinHandle<()>>,
}

impl Words {
    /// Listens on a thread of its own until the child closes its end.
    pub(crate) fn listen(stderr: Option<impl Read + Send + 'static>) -> Self {
        let mut words = Self::default();
        let Some(mut stderr) = stderr else {
            return words;
        };
        let kept = Arc::clone(&words.kept);
        words.listener = Some(thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = stderr.read(&mut buffer) {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.extend(&buffer[..count]);
                let excess = kept.len().saturating_sub(KEPT_BYTES);
                kept.drain(..excess);
            }
        }));
        words
    }

    /// Everything kept of a child that has ended.
    pub(crate) fn last(mut self) -> String {
        if let Some(listener) = self.listener.take() {
            listener.join().ok();
        }
        self.text()
    }

    /// What is kept so far.
    pub(crate) fn text(&self) -> String {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let (front, back) = kept.as_slices();
        String::from_utf8_lossy(&[front, back].concat()).into_owned()
    }
}
