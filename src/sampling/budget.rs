//! [`Budget`]: how many of those that ask to be kept may be.
//!
//! Time is cut into windows: as long as the budget takes for twelve traces, but at least an eighth
//! of a second and at most a minute. In each window the budget allows B traces, and is counted
//! what is *offered*, by class: what is certain, what a rule would keep, what would be kept at
//! random (the sum of the rates). A forecast - half the last window, half the forecast before - says
//! what the window will bring. Of a class that n were offered so far where f were forecast, and to
//! which b is left, this share is kept:
//!
//! ```text
//! share = min(1, b / max(f, n))
//! ```
//!
//! - What is certain is kept and uses up the budget; rules share what is left; the random ones get
//!   the rest. To each of the two at least a sixteenth of the budget is left, so that nothing has a
//!   chance of 0 and weights stay true.
//! - Where traffic is steady, f is about n and b are kept. Where it jumps from f to n within one
//!   window, n takes the place of f as it grows, and b * (1 + ln(n / max(f, b))) are kept: a thousand
//!   times the traffic costs eight times the budget, in that one window.
//! - Nothing here looks at what was kept or at R: the shares, and with them the weights, do not
//!   depend on the lot.
//!
//! Counts are relaxed atomics. Threads that meet at the end of a window may count for the next or
//! miss one another's: that moves a forecast by a hair, and no weight, as each request is weighed by
//! the share that it was decided with.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Claim;

/// The shares of a class that may be kept, from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shares {
    /// Of those that a rule keeps.
    pub rules: f64,
    /// Of those that would be kept at random.
    pub random: f64,
}

impl Shares {
    /// Everything: there is no budget.
    pub const ALL: Self = Self { rules: 1.0, random: 1.0 };
}

/// Traces that a window is meant for, and its bounds in nanoseconds.
const TRACES: f64 = 12.0;
const SHORTEST: f64 = 0.125e9;
const LONGEST: f64 = 60e9;

/// The part of the budget that is left to each class whatever the others take.
const RESERVE: f64 = 1.0 / 16.0;

/// The unit in which rates are summed.
const RATE_UNIT: f64 = (1_u64 << 32) as f64;

const CLASSES: usize = 3;
const CERTAIN: usize = 0;
const RULES: usize = 1;
const RANDOM: usize = 2;

/// A budget of traces per second.
#[derive(Debug)]
pub struct Budget {
    /// Length of a window in nanoseconds.
    window: u64,
    /// Traces in a window.
    traces: f64,
    /// Number of the window that is being counted.
    number: AtomicU64,
    /// By class, what was offered in it; rates are in units.
    counts: [AtomicU64; CLASSES],
    /// By class, what it is expected to bring, as the bits of an `f64`.
    forecasts: [AtomicU64; CLASSES],
}

impl Budget {
    /// A budget of this many traces per second.
    #[must_use]
    pub fn new(per_second: f64) -> Self {
        // What came from code may be anything.
        let per_second = if per_second > 0.0 { per_second.min(1e12) } else { 0.0 };
        let window = (TRACES * 1e9 / per_second).clamp(SHORTEST, LONGEST);
        Self {
            window: window as u64,
            traces: per_second * window / 1e9,
            number: AtomicU64::new(0),
            counts: Default::default(),
            forecasts: Default::default(),
        }
    }

    /// Counts a request that asks on this ground, at this time in nanoseconds since any fixed
    /// point, and tells what may be kept.
    pub fn offer(&self, claim: &Claim, nanos: u64) -> Shares {
        let number = nanos / self.window;
        let known = self.number.load(Ordering::Relaxed);
        if number > known {
            self.turn(known, number);
        }
        match claim {
            Claim::Never => return Shares::ALL,
            Claim::Certain(_) => {
                self.counts[CERTAIN].fetch_add(1, Ordering::Relaxed);
                return Shares::ALL;
            }
            Claim::Rule(..) => self.counts[RULES].fetch_add(1, Ordering::Relaxed),
            Claim::Random(rate) => {
                let units = (rate.probability() * RATE_UNIT) as u64;
                self.counts[RANDOM].fetch_add(units, Ordering::Relaxed)
            }
        };
        self.shares()
    }

    fn shares(&self) -> Shares {
        let offered = |class: usize, unit: f64| {
            let count = self.counts[class].load(Ordering::Relaxed) as f64 / unit;
            count.max(f64::from_bits(self.forecasts[class].load(Ordering::Relaxed)))
        };
        let least = self.traces * RESERVE;
        let for_rules = (self.traces - offered(CERTAIN, 1.0)).max(least);
        let rules = offered(RULES, 1.0);
        let for_random = (for_rules - rules).max(least);
        let random = offered(RANDOM, RATE_UNIT);
        // Nothing offered divides by 0, which gives more than 1. A budget of 0 keeps nothing.
        let share = |left: f64, offered: f64| if left < offered { left / offered } else { 1.0 };
        Shares { rules: share(for_rules, rules), random: share(for_random, random) }
    }

    /// Begins the window `number`. Of the threads that come for it one does it.
    #[cold]
    fn turn(&self, known: u64, number: u64) {
        let exchanged =
            self.number.compare_exchange(known, number, Ordering::Relaxed, Ordering::Relaxed);
        if exchanged.is_err() {
            return;
        }
        // Windows in which nothing was asked for halve the forecast, too.
        let halved = 0.5_f64.powi(i32::try_from(number - known).unwrap_or(i32::MAX));
        for class in 0..CLASSES {
            let unit = if class == RANDOM { RATE_UNIT } else { 1.0 };
            let count = self.counts[class].swap(0, Ordering::Relaxed) as f64 / unit;
            let forecast = f64::from_bits(self.forecasts[class].load(Ordering::Relaxed));
            let next = (forecast + count) * halved;
            self.forecasts[class].store(next.to_bits(), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::KeepReason;
    use crate::sampling::Rate;

    const SECOND: u64 = 1_000_000_000;
    const ERROR: Claim = Claim::Certain(KeepReason::StatusCode);

    fn slow() -> Claim {
        Claim::Rule(KeepReason::Latency, Rate::new(0.01))
    }

    fn random() -> Claim {
        Claim::Random(Rate::ALL)
    }

    /// Offers `per_second` requests of every claim for some seconds; gives what is kept of each in
    /// the mean, by second.
    fn run(budget: &Budget, from: u64, seconds: u64, traffic: &[(Claim, u64)]) -> Vec<Vec<f64>> {
        let mut kept = vec![vec![0.0; traffic.len()]; seconds as usize];
        let mut arrivals: Vec<(u64, usize)> = Vec::new();
        for (index, (_, per_second)) in traffic.iter().enumerate() {
            let all = per_second * seconds;
            arrivals.extend((0..all).map(|n| (n * SECOND * seconds / all, index)));
        }
        arrivals.sort_unstable();
        for (at, index) in arrivals {
            let claim = traffic[index].0;
            let shares = budget.offer(&claim, from * SECOND + at);
            kept[(at / SECOND) as usize][index] += match claim {
                Claim::Certain(_) => 1.0,
                Claim::Rule(_, rate) => shares.rules.max(shares.random * rate.probability()),
                Claim::Random(rate) => shares.random * rate.probability(),
                Claim::Never => 0.0,
            };
        }
        kept
    }

    #[test]
    fn below_the_budget_everything_is_kept() {
        let budget = Budget::new(100.0);
        let kept = run(&budget, 1, 5, &[(ERROR, 20), (slow(), 30), (random(), 40)]);
        assert!(kept.iter().all(|second| *second == [20.0, 30.0, 40.0]), "{kept:?}");
    }

    #[test]
    fn steady_traffic_keeps_the_budget_whatever_its_rate() {
        for (per_second, offered) in [(100.0, 1_000), (100.0, 20_000), (7.0, 5_000), (0.5, 400)] {
            let budget = Budget::new(per_second);
            // The first seconds, windows long, are for getting to know it.
            run(&budget, 0, 300, &[(random(), offered)]);
            let kept = run(&budget, 300, 120, &[(random(), offered)]);
            let mean = kept.iter().map(|second| second[0]).sum::<f64>() / 120.0;
            assert!((mean / per_second - 1.0).abs() < 0.02, "{per_second} of {offered}: {mean}");
        }
    }

    #[test]
    fn errors_come_first_then_the_slow_and_then_the_random_ones() {
        let budget = Budget::new(100.0);
        let traffic = [(ERROR, 40), (slow(), 30), (random(), 5_000)];
        run(&budget, 1, 3, &traffic);
        let kept = run(&budget, 4, 1, &traffic).remove(0);
        assert!((kept[0], kept[1]) == (40.0, 30.0), "{kept:?}");
        assert!((kept[2] - 30.0).abs() < 2.0, "{kept:?}");
    }

    #[test]
    fn more_errors_than_the_budget_are_all_kept_and_leave_a_reserve_to_the_others() {
        let budget = Budget::new(100.0);
        let traffic = [(ERROR, 500), (slow(), 300), (random(), 5_000)];
        run(&budget, 1, 3, &traffic);
        let kept = run(&budget, 4, 1, &traffic).remove(0);
        assert!((kept[0] - 500.0).abs() < f64::EPSILON, "{kept:?}");
        for reserve in &kept[1..] {
            assert!((reserve - 100.0 / 16.0).abs() < 1.0, "{kept:?}");
        }
    }

    #[test]
    fn a_jump_costs_what_the_essay_says_and_only_in_its_window() {
        let budget = Budget::new(100.0);
        run(&budget, 1, 3, &[(random(), 100)]);
        let kept = run(&budget, 4, 4, &[(random(), 100_000)]);
        // A window is an eighth: 12.5 traces, of 12500 offered.
        let in_window = 12.5 * (1.0 + (12_500.0_f64 / 12.5).ln());
        let bound = in_window + 12.5 * (1.0 + 2.0_f64.ln()) + 6.0 * 12.5 * 1.2;
        assert!(kept[0][0] > 100.0 && kept[0][0] < bound, "{kept:?}, at most {bound}");
        assert!(kept[1..].iter().all(|second| (second[0] - 100.0).abs() < 3.0), "{kept:?}");
    }

    #[test]
    fn bursts_now_and_then_stay_about_the_budget() {
        let budget = Budget::new(100.0);
        let mut kept = 0.0;
        for second in 0..100 {
            // All within the first window of the second.
            for n in 0..10_000 {
                kept += budget.offer(&random(), second * SECOND + n).random;
            }
        }
        assert!(kept / 100.0 < 130.0, "{} a second", kept / 100.0);
    }

    #[test]
    fn a_budget_that_makes_no_sense_keeps_nothing_of_what_it_may_refuse() {
        for per_second in [0.0, -1.0, f64::NAN] {
            let shares = Budget::new(per_second).offer(&random(), 0);
            assert!(shares.random.abs() < f64::EPSILON, "{per_second}: {shares:?}");
        }
        let endless = Budget::new(f64::INFINITY).offer(&random(), 0);
        assert_eq!(endless, Shares::ALL);
    }
}
