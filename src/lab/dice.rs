//! Numbers that look random and are the same in every run (SplitMix64), and the distributions drawn from them.

/// A seeded source of numbers.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// Dice for one purpose: the same `seed` and `purpose` give the same numbers.
    #[must_use]
    pub fn new(seed: u64, purpose: u64) -> Self {
        let mut dice = Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ purpose.wrapping_mul(0xD1B5_4A32_D192_ED03));
        dice.next();
        dice
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Evenly in [0, 1).
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Evenly in [`1 - spread`, `1 + spread`).
    pub fn around(&mut self, spread: f64) -> f64 {
        1.0 + spread * (2.0 * self.unit() - 1.0)
    }

    /// Exponential with this mean.
    pub fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.unit()).ln()
    }

    /// Hyperexponential (two phases, balanced means) with this mean and coefficient of variation: bursts and gaps.
    pub fn bursty(&mut self, mean: f64, variation: f64) -> f64 {
        let square = (variation * variation).max(1.0);
        let short = 0.5 * (1.0 + ((square - 1.0) / (square + 1.0)).sqrt());
        let share = if self.unit() < short { short } else { 1.0 - short };
        self.exponential(mean / (2.0 * share))
    }

    /// Log-normal with this median and this sigma of the logarithm.
    pub fn log_normal(&mut self, median: f64, sigma: f64) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        median * (sigma * radius * (std::f64::consts::TAU * self.unit()).cos()).exp()
    }

    /// One of `count`, the first the most popular (Zipf with exponent 1).
    pub fn zipf(&mut self, count: usize) -> usize {
        let total: f64 = (1..=count).map(|rank| 1.0 / rank as f64).sum();
        let mut left = self.unit() * total;
        for rank in 1..count {
            left -= 1.0 / rank as f64;
            if left < 0.0 {
                return rank - 1;
            }
        }
        count.saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distributions_have_the_moments_they_promise() {
        let mut dice = Dice::new(1, 1);
        let draws: Vec<f64> = (0..200_000).map(|_| dice.bursty(2.0, 4.0)).collect();
        let mean = draws.iter().sum::<f64>() / draws.len() as f64;
        let variance = draws.iter().map(|draw| (draw - mean).powi(2)).sum::<f64>() / draws.len() as f64;
        assert!((mean - 2.0).abs() < 0.1, "mean {mean}");
        assert!((variance.sqrt() / mean - 4.0).abs() < 0.2, "variation {}", variance.sqrt() / mean);
        let first = (0..30_000).filter(|_| dice.zipf(3) == 0).count();
        // 1 ÷ (1 + 1/2 + 1/3) = 54.5 %
        assert!((15_900..16_800).contains(&first), "{first}");
    }
}
