//! Zipf's law: a few products sell all the time, most hardly ever; customers likewise.

/// Draws ranks from 1 to `n`, where rank `k` comes up in proportion to `1 / k^exponent`.
pub(crate) struct Zipf {
    /// Probability of a rank up to and including this one.
    cumulative: Vec<f64>,
}

impl Zipf {
    pub(crate) fn new(n: u32, exponent: f64) -> Self {
        let mut sum = 0.0;
        let mut cumulative: Vec<f64> = (1..=n)
            .map(|rank| {
                sum += f64::from(rank).powf(-exponent);
                sum
            })
            .collect();
        for probability in &mut cumulative {
            *probability /= sum;
        }
        Self { cumulative }
    }

    pub(crate) fn draw(&self, rng: &mut fastrand::Rng) -> u32 {
        let at = rng.f64();
        let below = self.cumulative.partition_point(|&probability| probability <= at);
        // The last probability may round to less than one.
        below.min(self.cumulative.len() - 1) as u32 + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_come_up_in_the_proportion_of_the_law() {
        const DRAWS: u32 = 100_000;
        let zipf = Zipf::new(50, 1.0);
        let mut rng = fastrand::Rng::with_seed(7);
        let mut counts = [0_u32; 51];
        for _ in 0..DRAWS {
            counts[zipf.draw(&mut rng) as usize] += 1;
        }
        assert_eq!(counts[0], 0);
        assert!(counts[1..].iter().all(|&count| count > 0));
        for rank in [2, 4, 8] {
            let ratio = f64::from(counts[1]) / f64::from(counts[rank]);
            assert!((ratio / rank as f64 - 1.0).abs() < 0.1, "rank {rank}: {ratio}");
        }
    }

    #[test]
    fn a_single_rank_is_always_drawn() {
        let mut rng = fastrand::Rng::with_seed(7);
        assert_eq!(Zipf::new(1, 1.0).draw(&mut rng), 1);
    }
}
