//! Progress of a download on standard error: a bar on a terminal, else a line every few seconds.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

const BAR_CELLS: u64 = 30;
const LINE_EVERY: Duration = Duration::from_secs(5);

/// One download being shown.
#[derive(Debug)]
pub(super) struct Progress {
    what: &'static str,
    begun: u64,
    total: u64,
    start: Instant,
    terminal: bool,
    line_due: Instant,
}

impl Progress {
    /// Starts at `begun` of `total` bytes.
    pub(super) fn new(what: &'static str, begun: u64, total: u64) -> Self {
        let start = Instant::now();
        if begun > 0 {
            eprintln!("{what}: going on at {:.1} MB", megabytes(begun));
        }
        Self {
            what,
            begun,
            total,
            start,
            terminal: io::stderr().is_terminal(),
            line_due: start + LINE_EVERY,
        }
    }

    /// Shows that `bytes` are there.
    pub(super) fn show(&mut self, bytes: u64) {
        if self.terminal {
            eprint!("\r{}", self.bar(bytes));
            io::stderr().flush().ok();
        } else if Instant::now() >= self.line_due {
            eprintln!("{}", self.line(bytes));
            self.line_due = Instant::now() + LINE_EVERY;
        }
    }

    /// Shows the last state and leaves the line.
    pub(super) fn finish(&mut self, bytes: u64) {
        if self.terminal {
            eprintln!("\r{}", self.bar(bytes));
        } else {
            eprintln!("{}", self.line(bytes));
        }
    }

    fn bar(&self, bytes: u64) -> String {
        let filled = bytes.min(self.total) * BAR_CELLS / self.total.max(1);
        let cells: String =
            (0..BAR_CELLS).map(|cell| if cell < filled { '#' } else { '.' }).collect();
        format!("[{cells}] {}", self.line(bytes))
    }

    fn line(&self, bytes: u64) -> String {
        let seconds = self.start.elapsed().as_secs_f64().max(0.001);
        format!(
            "{}: {:.1} of {:.1} MB, {:.1} MB/s",
            self.what,
            megabytes(bytes),
            megabytes(self.total),
            megabytes(bytes.saturating_sub(self.begun)) / seconds
        )
    }
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_fills_with_the_bytes_and_never_overflows() {
        let progress = Progress::new("test", 0, 100);
        let filled = |bytes| progress.bar(bytes).matches('#').count();
        assert_eq!([0, 50, 100, 500].map(filled), [0, 15, 30, 30]);
    }
}
