//! Chance, and the steps that are drawn by it.

use std::time::Duration;

use super::step::{Call, Step};
use super::zipf::Zipf;

/// Its page panics; the store says why.
const WITHOUT_PICTURE: u32 = 13;

/// Everything that is drawn by chance.
pub(crate) struct Draw {
    pub(crate) rng: fastrand::Rng,
    products: Zipf,
    customers: Zipf,
    spread: Duration,
    bursts: [f64; 3],
}

impl Draw {
    pub(crate) fn new(seed: u64, spread: Duration) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let bursts = std::array::from_fn(|_| 0.1 + 0.7 * rng.f64());
        Self { rng, products: Zipf::new(40, 1.1), customers: Zipf::new(200, 1.0), spread, bursts }
    }

    /// One visit in three comes in a burst: a newsletter went out.
    pub(crate) fn start(&mut self) -> Duration {
        let uniform = self.rng.f64();
        let share = if self.rng.u32(..3) == 0 {
            self.bursts[self.rng.usize(..self.bursts.len())] + uniform * 0.03
        } else {
            uniform
        };
        self.spread.mul_f64(share)
    }

    pub(crate) fn product(&mut self) -> u32 {
        self.products.draw(&mut self.rng)
    }

    /// Anyone but the administrator, `u1`.
    pub(crate) fn customer(&mut self) -> String {
        format!("u{}", self.customers.draw(&mut self.rng).max(2))
    }

    /// `call` after a while of looking at the page, short as in a film.
    pub(crate) fn step(&mut self, call: Call) -> Step {
        let pause = Duration::from_millis(90).mul_f64(-self.rng.f64().max(1e-3).ln());
        Step { pause, call }
    }

    pub(crate) fn get(&mut self, path: impl Into<String>) -> Step {
        self.step(Call::Get(path.into()))
    }

    pub(crate) fn post(&mut self, path: impl Into<String>, json: impl Into<String>) -> Step {
        self.step(Call::Post { path: path.into(), json: json.into() })
    }

    pub(crate) fn view(&mut self) -> Step {
        let id = self.product();
        let path = format!("/products/{id}");
        self.step(if id == WITHOUT_PICTURE { Call::GetBroken(path) } else { Call::Get(path) })
    }

    pub(crate) fn login(&mut self, user: &str, password: &str) -> Step {
        self.post("/login", format!(r#"{{"user":"{user}","password":"{password}"}}"#))
    }

    pub(crate) fn add(&mut self, product: u32, quantity: u32) -> Step {
        self.post("/basket/items", format!(r#"{{"product":{product},"quantity":{quantity}}}"#))
    }

    pub(crate) fn pay(&mut self, card: &str) -> Step {
        self.post("/checkout", format!(r#"{{"card":"{card}"}}"#))
    }
}
