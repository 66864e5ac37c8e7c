//! Random choices that a label determines.

use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{RngCore, SeedableRng};

/// Returns the FNV-1a hash of 64 bits.
pub fn fnv(bytes: impl AsRef<[u8]>) -> u64 {
    let bytes = bytes.as_ref().iter();
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The random generator SplitMix64, seeded by a label.
pub struct Rng(SplitMix64);

impl Rng {
    pub fn new(label: &str) -> Self {
        Self(SplitMix64::seed_from_u64(fnv(label)))
    }

    pub fn u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Draws a whole number uniformly from 0..n.
    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.u64()) * u128::from(n)) >> 64) as u64
    }

    /// Draws a number uniformly from 0..1.
    pub fn unit(&mut self) -> f64 {
        (self.u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }
}

/// Returns true if a number belongs to a split. Even numbers are public and odd numbers are not, so no other split
/// shares a number with the public split.
pub fn on_side(split: &str, number: u64) -> bool {
    (number & 1 == 0) == (split == "public")
}
