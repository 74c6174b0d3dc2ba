//! How long to wait before a batch is sent again.
//!
//! Exponential with full jitter: a uniformly random part of a bound that doubles, so that many
//! services do not come back at the same moment (M. Brooker, "Exponential Backoff And Jitter",
//! AWS Architecture Blog, 2015).

use std::time::Duration;

use crate::sink::SinkError;

/// The bounds to begin with, and the largest.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// After the sink could not be reached.
    pub(super) unavailable: Duration,
    /// After the sink asked for less, and after an error that nobody knows.
    pub(super) busy: Duration,
    /// After an error that a person has to repair.
    pub(super) configuration: Duration,
    /// The largest bound.
    pub(super) longest: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            unavailable: Duration::from_millis(100),
            busy: Duration::from_millis(500),
            configuration: Duration::from_secs(5),
            longest: Duration::from_mins(1),
        }
    }
}

/// Counts attempts and answers how long to wait for the next.
#[derive(Debug)]
pub(super) struct Backoff {
    pace: Pace,
    attempts: u32,
}

impl Backoff {
    pub(super) fn new(pace: Pace) -> Self {
        Self { pace, attempts: 0 }
    }

    /// Whether nothing was waited for yet.
    pub(super) fn is_fresh(&self) -> bool {
        self.attempts == 0
    }

    pub(super) fn next(&mut self, error: &SinkError) -> Duration {
        let first = if error.is_configuration() {
            self.pace.configuration
        } else if error.is_retryable() && !error.is_busy() {
            self.pace.unavailable
        } else {
            self.pace.busy
        };
        let bound = first.saturating_mul(1 << self.attempts.min(20)).min(self.pace.longest);
        self.attempts = self.attempts.saturating_add(1);
        let wait = bound.mul_f64(fastrand::f64());
        // Rarely means rarely: a random part near zero would ask again at once.
        if error.is_configuration() {
            wait.max(first)
        } else if error.is_retryable() {
            wait
        } else {
            // Nobody knows whether this passes: more and more slowly, and certainly so.
            wait.max(bound / 2)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_longest_and_are_random() {
        let mut longest_seen = Duration::ZERO;
        for _ in 0..200 {
            let mut backoff = Backoff::new(Pace::default());
            let waits: Vec<_> =
                (0..30).map(|_| backoff.next(&SinkError::busy("too many parts"))).collect();
            for (attempt, wait) in waits.iter().enumerate() {
                let bound = Duration::from_millis(500) * 2_u32.pow(attempt.min(20) as u32);
                assert!(*wait <= bound.min(Duration::from_mins(1)), "{attempt}: {wait:?}");
            }
            longest_seen = longest_seen.max(waits.into_iter().max().unwrap_or_default());
        }
        assert!(longest_seen > Duration::from_secs(50), "{longest_seen:?}");
    }

    #[test]
    fn what_nobody_knows_is_asked_more_and_more_slowly() {
        let mut backoff = Backoff::new(Pace::default());
        for attempt in 0..30_u32 {
            let wait = backoff.next(&SinkError::unknown("odd")).as_secs_f64();
            let bound = (0.5 * 2_f64.powi(attempt.min(20) as i32)).min(60.0);
            assert!((bound / 2.0..=bound).contains(&wait), "{attempt}: {wait}");
        }
    }

    #[test]
    fn what_a_person_has_to_repair_is_asked_rarely() {
        let mut backoff = Backoff::new(Pace::default());
        for _ in 0..30 {
            let wait = backoff.next(&SinkError::configuration("wrong password"));
            assert!((5.0..=60.0).contains(&wait.as_secs_f64()), "{wait:?}");
        }
    }
}
