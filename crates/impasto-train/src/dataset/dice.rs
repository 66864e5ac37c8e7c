//! Random decisions that are the same on every machine. They use integers from PCG and no function whose rounding
//! depends on the system's mathematics library.

use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;

/// A stream of random decisions.
pub(super) struct Dice(Pcg64Mcg);

impl Dice {
    pub(super) fn seeded(seed: u64) -> Self {
        Self(Pcg64Mcg::seed_from_u64(seed))
    }

    /// Returns true with probability `p`.
    pub(super) fn chance(&mut self, p: f64) -> bool {
        self.unit() < p
    }

    /// Returns a uniform number in 0..1.
    pub(super) fn unit(&mut self) -> f64 {
        self.0.random()
    }

    /// Returns a uniform number in `low..high`.
    pub(super) fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit() as f32
    }

    /// Returns -1 or 1.
    pub(super) fn sign(&mut self) -> f32 {
        if self.chance(0.5) { 1.0 } else { -1.0 }
    }

    /// Returns a nearly normal number with mean 0 and this standard deviation, never beyond six deviations. The number
    /// is a sum of twelve uniform numbers, which needs no logarithm.
    pub(super) fn bell(&mut self, deviation: f64) -> f64 {
        deviation * ((0..12).map(|_| self.unit()).sum::<f64>() - 6.0)
    }

    /// Returns one of `choices`, each with the same probability.
    pub(super) fn pick<T: Copy, const N: usize>(&mut self, choices: [T; N]) -> T {
        const { assert!(N > 0, "nothing to choose from") };
        #[expect(clippy::indexing_slicing, reason = "drawn below N")]
        choices[self.0.random_range(0..N as u32) as usize]
    }

    /// Returns a uniform number in `0..count`, or 0 for a count of 0.
    pub(super) fn below(&mut self, count: u32) -> u32 {
        self.0.random_range(0..count.max(1))
    }

    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.0.random_range(0..=last as u32) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_decisions() {
        let decisions = |seed| {
            let mut dice = Dice::seeded(seed);
            (dice.unit(), dice.between(3.0, 5.0), dice.bell(9.0), dice.pick(["a", "b", "c"]))
        };
        assert_eq!(decisions(7), decisions(7));
        assert_ne!(decisions(7), decisions(8));
    }

    #[test]
    fn bell_has_the_given_deviation() {
        let mut dice = Dice::seeded(1);
        let squares: f64 = (0..20_000).map(|_| dice.bell(9.0).powi(2)).sum();
        assert!((squares / 20_000.0 - 81.0).abs() < 3.0);
    }
}
