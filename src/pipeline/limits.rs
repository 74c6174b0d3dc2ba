//! [`Limits`]: how large batches may be, and how often they go, by what the sink bore.
//!
//! A batch that was too large teaches a size, which grows again while batches of about that size are
//! stored. A sink that is busy, or slow, is asked less often: batches gather longer, so that many
//! small services make fewer and larger inserts together, and come back when it is calm.

use std::time::Duration;

use crate::config::PipelineConfig;

/// Batches of about the largest size that are stored before a larger one is tried.
const PATIENCE: u32 = 16;
/// Batches that are stored at once before they go more often again.
const CALM: u32 = 4;
/// How many times the interval doubles at most.
const STRETCHES: u32 = 5;
/// An interval does not grow beyond this.
const LONGEST: Duration = Duration::from_secs(30);
/// An answer that takes longer, and longer than the interval, is slow.
const SLOW: Duration = Duration::from_secs(1);
/// No size below this is learned.
pub(super) const SMALLEST: usize = 16 << 10;

/// What was learned of the sink.
#[derive(Debug)]
pub(super) struct Limits {
    configured: usize,
    interval: Duration,
    largest: Option<usize>,
    /// Batches of about the largest size that were stored since it changed.
    stored: u32,
    stretch: u32,
    calm: u32,
}

impl Limits {
    pub(super) fn new(config: &PipelineConfig) -> Self {
        Self {
            configured: config.batch_bytes,
            interval: config.batch_interval,
            largest: None,
            stored: 0,
            stretch: 0,
            calm: 0,
        }
    }

    /// How many bytes a batch may have.
    pub(super) fn batch_bytes(&self) -> usize {
        self.largest.unwrap_or(self.configured).min(self.configured)
    }

    /// Whether batches are smaller than they are configured to be.
    pub(super) fn is_small(&self) -> bool {
        self.largest.is_some()
    }

    /// How long a batch gathers.
    pub(super) fn interval(&self) -> Duration {
        let stretched = self.interval.saturating_mul(1 << self.stretch);
        stretched.min(LONGEST).max(self.interval)
    }

    /// A batch of `bytes` was too large.
    pub(super) fn too_large(&mut self, bytes: usize) {
        self.largest = Some(self.batch_bytes().min((bytes / 2).max(SMALLEST)));
        self.stored = 0;
    }

    /// A batch of `bytes` was stored.
    pub(super) fn stored(&mut self, bytes: usize) {
        let Some(largest) = self.largest.filter(|largest| bytes >= largest / 2) else { return };
        self.stored += 1;
        if self.stored >= PATIENCE {
            self.stored = 0;
            let larger = largest + largest / 4;
            self.largest = (larger < self.configured).then_some(larger);
        }
    }

    /// The sink asked for less.
    pub(super) fn busy(&mut self) {
        self.stretch = (self.stretch + 1).min(STRETCHES);
        self.calm = 0;
    }

    /// The sink took a batch at the first attempt, and `took` so long.
    pub(super) fn calm(&mut self, took: Duration) {
        if took > SLOW.max(self.interval) {
            return self.busy();
        }
        self.calm += 1;
        if self.calm >= CALM {
            self.calm = 0;
            self.stretch = self.stretch.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits::new(&PipelineConfig {
            batch_bytes: 16 << 20,
            batch_interval: Duration::from_secs(1),
            ..PipelineConfig::default()
        })
    }

    #[test]
    fn a_size_that_works_is_kept_and_grows_slowly_to_what_is_configured() {
        let mut it = limits();
        it.too_large(16 << 20);
        it.too_large(8 << 20);
        assert_eq!(it.batch_bytes(), 4 << 20);
        for _ in 0..1000 {
            it.stored(1 << 10);
        }
        assert_eq!(it.batch_bytes(), 4 << 20, "small ones prove nothing");
        let mut batches = 0;
        while it.is_small() {
            it.stored(it.batch_bytes());
            batches += 1;
            assert!(batches < 1000);
        }
        assert_eq!((it.batch_bytes(), batches % PATIENCE), (16 << 20, 0));
        assert!(batches >= 6 * PATIENCE, "{batches}");
        it.too_large(0);
        assert_eq!(it.batch_bytes(), SMALLEST);
    }

    #[test]
    fn a_busy_or_slow_sink_is_asked_less_often_until_it_is_calm() {
        let (mut it, brief) = (limits(), Duration::from_millis(5));
        let seconds = |it: &Limits| it.interval().as_secs();
        it.busy();
        it.calm(Duration::from_secs(3));
        assert_eq!(seconds(&it), 4);
        for _ in 0..100 {
            it.busy();
        }
        assert_eq!(it.interval(), LONGEST);
        for _ in 0..CALM {
            it.calm(brief);
        }
        assert_eq!(seconds(&it), 16);
        for _ in 0..CALM * STRETCHES {
            it.calm(brief);
        }
        assert_eq!(seconds(&it), 1);
        let mut long = Limits::new(&PipelineConfig {
            batch_interval: Duration::from_mins(5),
            ..PipelineConfig::default()
        });
        long.busy();
        assert_eq!(long.interval(), Duration::from_mins(5), "never shorter than configured");
    }
}
