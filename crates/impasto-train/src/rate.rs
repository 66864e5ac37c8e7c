//! The course of the learning rate over a training run.

/// A linear start, a plateau, and half a cosine down to a hundredth of the learning rate. The plateau is a share of all
/// steps, so that the same shape fits short and long runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Number of steps of the linear start.
    pub warm_up: u64,
    /// Share of the steps before the descent, 0..=1. The linear start is included.
    pub hold: f64,
    /// Number of steps in all.
    pub steps: u64,
}

impl Rate {
    /// Returns the factor of the learning rate at `step`, 0 < factor ≤ 1.
    pub fn at(&self, step: u64) -> f64 {
        let start = ((step + 1) as f64 / self.warm_up.max(1) as f64).min(1.0);
        let done = step as f64 / self.steps.max(1) as f64;
        let down = ((done - self.hold) / (1.0 - self.hold).max(f64::EPSILON)).clamp(0.0, 1.0);
        start * (0.01 + 0.99 * 0.5 * (1.0 + (std::f64::consts::PI * down).cos()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_rises_holds_and_falls() {
        let rate = Rate { warm_up: 10, hold: 0.5, steps: 100 };
        assert!((rate.at(0) - 0.1).abs() < 1e-12);
        assert_eq!((rate.at(9), rate.at(50)), (1.0, 1.0));
        assert!((rate.at(75) - 0.505).abs() < 1e-12);
        assert!(rate.at(99) < 0.012 && rate.at(1000) >= 0.01 - 1e-12);
    }
}
