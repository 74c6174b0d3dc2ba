//! Processor time of the worker's thread, and memory of the process.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tracing_activity::sink::{Batch, BoxFuture, Sink, SinkError};

/// Passes everything on and notes on which thread it is called: the worker's.
pub(crate) struct Metered {
    sink: Box<dyn Sink>,
    /// Whether the sink's own preparation is wanted.
    prepares: bool,
    thread: Arc<AtomicU32>,
}

/// The processor time of the thread that a [`Metered`] sink runs on.
#[derive(Clone, Default)]
pub(crate) struct WorkerTime(Arc<AtomicU32>);

impl Metered {
    pub(crate) fn new(sink: Box<dyn Sink>, prepares: bool, time: &WorkerTime) -> Self {
        Self { sink, prepares, thread: Arc::clone(&time.0) }
    }
}

impl Sink for Metered {
    fn name(&self) -> &'static str {
        self.sink.name()
    }

    fn prepare(&mut self) -> BoxFuture<'_, Result<(), SinkError>> {
        let id = rustix::thread::gettid().as_raw_nonzero().get();
        self.thread.store(id.cast_unsigned(), Ordering::SeqCst);
        if self.prepares {
            return self.sink.prepare();
        }
        Box::pin(std::future::ready(Ok(())))
    }

    fn write<'a>(&'a mut self, batch: &'a Batch) -> BoxFuture<'a, Result<(), SinkError>> {
        self.sink.write(batch)
    }
}

impl WorkerTime {
    /// Nanoseconds so far, system time included.
    pub(crate) fn nanos(&self) -> u64 {
        let id = self.0.load(Ordering::SeqCst);
        let text = fs::read_to_string(format!("/proc/self/task/{id}/schedstat"));
        text.ok().and_then(|it| it.split(' ').next()?.parse().ok()).unwrap_or(0)
    }
}

/// Forgets the peak of the resident memory so far.
pub(crate) fn forget_peak() {
    let _ = fs::write("/proc/self/clear_refs", "5");
}

/// The peak of the resident memory, in bytes.
pub(crate) fn peak() -> u64 {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|it| it.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}
