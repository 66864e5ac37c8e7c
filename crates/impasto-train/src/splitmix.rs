//! SplitMix64: random numbers that depend on the seed alone, the same on every machine.

/// A generator of random 64-bit numbers.
///
/// Source: Steele, Lea and Flood (2014), "Fast Splittable Pseudorandom Number Generators".
pub(super) struct SplitMix64(u64);

impl SplitMix64 {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Returns a random whole number in 0..n.
    pub(super) fn below(&mut self, n: u32) -> u32 {
        ((u128::from(self.next()) * u128::from(n)) >> 64) as u32
    }

    /// Returns a random number in 0..1.
    pub(super) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn numbers_equal_the_reference() {
        let golden: Value = serde_json::from_str(include_str!("../../../tests/golden/specs/strokes.json")).unwrap();
        let mut random = SplitMix64::new(42);
        for number in golden["splitmix64_seed_42"].as_array().unwrap() {
            assert_eq!(number.as_str().unwrap(), random.next().to_string());
        }
        let mut random = SplitMix64::new(7);
        for number in golden["below_10_seed_7"].as_array().unwrap() {
            assert_eq!(number.as_u64().unwrap(), u64::from(random.below(10)));
        }
        let mut random = SplitMix64::new(7);
        for number in golden["unit_seed_7"].as_array().unwrap() {
            assert_eq!(number.as_f64().unwrap(), random.unit());
        }
    }
}
