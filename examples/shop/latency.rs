//! How long things take, and how often they fail: drawn from a seeded generator.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// A source of delays and misfortunes.
pub(crate) struct Latency(Mutex<fastrand::Rng>);

impl Latency {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Mutex::new(fastrand::Rng::with_seed(seed)))
    }

    /// Waits about `typical`: never much less, and at times several times as long.
    pub(crate) async fn pause(&self, typical: Duration) {
        // A fixed part and an exponential tail, as the answers of real services have them.
        let tail = -self.draw(fastrand::Rng::f64).max(1e-9).ln();
        tokio::time::sleep(typical.mul_f64(0.6 + 0.4 * tail)).await;
    }

    /// Whether something of probability `p` happens this time.
    pub(crate) fn chance(&self, p: f64) -> bool {
        self.draw(fastrand::Rng::f64) < p
    }

    /// A number that is not asked for its meaning.
    pub(crate) fn number(&self) -> u64 {
        self.draw(|rng| rng.u64(..))
    }

    fn draw<T>(&self, draw: impl FnOnce(&mut fastrand::Rng) -> T) -> T {
        draw(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
