//! [`Window`]: the part of a run in which a method acts.

use crate::error::{Error, Result};
use crate::step::Step;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::RangeInclusive;

/// The part of a run in which a method acts, such as a guidance method or a ControlNet. A window is a range of training
/// timesteps, of noise levels, or of the run's progress. Both ends of the range belong to the window.
///
/// ```
/// use impasto::Window;
/// # use impasto::saliency::Daam;
/// let early = Daam::of("eyes").window(Window::timesteps(700..=999));
/// let detail = Daam::of("eyes").window(Window::sigmas(0.5..=8.0));
/// let first_half = Daam::of("eyes").window(Window::progress(0.0..=0.5));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Window(Range);

/// The two ends of a window, with their unit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Range {
    Timesteps(#[serde(with = "ends")] (f64, f64)),
    Sigmas(#[serde(with = "ends")] (f64, f64)),
    Progress(#[serde(with = "ends")] (f64, f64)),
}

impl Window {
    /// The whole run.
    pub const WHOLE: Self = Self(Range::Progress((0.0, 1.0)));

    /// Selects evaluations at these training timesteps, 0..=999. A run begins near 999 and ends near 0.
    pub fn timesteps<T: Into<f64> + Copy>(range: RangeInclusive<T>) -> Self {
        Self(Range::Timesteps(of(range)))
    }

    /// Selects evaluations at these noise levels σ, 0 or more; the upper end may be infinite. A run of Stable Diffusion
    /// begins near 14.6 and ends at 0.
    pub fn sigmas<T: Into<f64> + Copy>(range: RangeInclusive<T>) -> Self {
        Self(Range::Sigmas(of(range)))
    }

    /// Selects steps in these shares of the whole run, 0..=1. Step i of n lies between i/n and (i + 1)/n, as in
    /// diffusers' `control_guidance_start` and `control_guidance_end`.
    pub fn progress<T: Into<f64> + Copy>(range: RangeInclusive<T>) -> Self {
        Self(Range::Progress(of(range)))
    }

    /// Returns true if an evaluation lies in the window.
    pub fn contains(&self, step: &Step) -> bool {
        let inside = |(from, to): (f64, f64), value: f64| (from..=to).contains(&value);
        match self.0 {
            Range::Timesteps(ends) => inside(ends, step.sd_timestep),
            Range::Sigmas(ends) => inside(ends, step.sigma),
            Range::Progress((from, to)) => {
                let (i, n) = (step.index as f64, steps(step) as f64);
                from <= i / n && (i + 1.0) / n <= to
            }
        }
    }

    /// Returns true if a step begins in the window: a window of shares contains the step i of n if i/n lies between its
    /// ends, both excluded, except that a window from 0 on contains the first step. Other windows are those of
    /// [`contains`](Self::contains).
    pub(crate) fn has_start_of(&self, step: &Step) -> bool {
        let Range::Progress((from, to)) = self.0 else { return self.contains(step) };
        let share = step.index as f64 / steps(step) as f64;
        (share > from || from == 0.0) && share < to
    }

    /// Returns the share of the window that has passed at an evaluation: 0 before the window, 1 after it, linear in
    /// between. The run's last step has progress 1 here, so a window over the whole run ends with 1. A window of one
    /// value jumps from 0 to 1.
    pub(crate) fn elapsed(&self, step: &Step) -> f64 {
        // Timesteps and noise levels decrease during a run.
        let (from, to, value) = match self.0 {
            Range::Timesteps((low, high)) => (-high, -low, -step.sd_timestep),
            Range::Sigmas((low, high)) => (-high, -low, -step.sigma),
            Range::Progress((from, to)) => (from, to, step.index as f64 / steps(step).saturating_sub(1).max(1) as f64),
        };
        if to > from { ((value - from) / (to - from)).clamp(0.0, 1.0) } else { f64::from(value >= to) }
    }

    /// Checks that the ends are in their range and in order.
    ///
    /// # Errors
    /// [`Error::Parameter`] if an end is out of its range, or the ends are not in order.
    pub fn check(&self) -> Result<()> {
        let ((from, to), largest, expected) = match self.0 {
            Range::Timesteps(ends) => (ends, 999.0, "training timesteps in 0..=999, the smaller one first"),
            Range::Sigmas(ends) => (ends, f64::INFINITY, "noise levels of 0 or more, the smaller one first"),
            Range::Progress(ends) => (ends, 1.0, "shares of the run in 0..=1, the smaller one first"),
        };
        if 0.0 <= from && from <= to && to <= largest {
            return Ok(());
        }
        Err(Error::parameter("window", self, expected))
    }
}

impl Default for Window {
    fn default() -> Self {
        Self::WHOLE
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, (from, to)) = match self.0 {
            Range::Timesteps(ends) => ("timesteps", ends),
            Range::Sigmas(ends) => ("sigmas", ends),
            Range::Progress(ends) => ("progress", ends),
        };
        write!(f, "{unit} {from}..={to}")
    }
}

/// Returns the number of steps of a run plus the steps that another run takes after it, as diffusers counts.
fn steps(step: &Step) -> usize {
    (step.count + step.after).max(1)
}

/// Returns the two ends of a range.
fn of<T: Into<f64> + Copy>(range: RangeInclusive<T>) -> (f64, f64) {
    ((*range.start()).into(), (*range.end()).into())
}

/// Serializes the ends of a window. JSON has no infinity, so an infinite end is `null`.
mod ends {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(&(from, to): &(f64, f64), serializer: S) -> Result<S::Ok, S::Error> {
        (from, to.is_finite().then_some(to)).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(f64, f64), D::Error> {
        let (from, to) = <(f64, Option<f64>)>::deserialize(deserializer)?;
        Ok((from, to.unwrap_or(f64::INFINITY)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns step `index` of four, from σ 8, 4, 2, 1 at timesteps 900, 600, 300, 0.
    fn step(index: usize) -> Step {
        let sigma = 8.0 / f64::from(1 << index);
        Step::new(index, 4, sigma, sigma / 2.0, 900.0 - 300.0 * index as f64)
    }

    fn inside(window: Window) -> Vec<usize> {
        (0..4).filter(|&index| window.contains(&step(index))).collect()
    }

    #[test]
    fn ends_belong_to_a_window() {
        assert_eq!(inside(Window::timesteps(300..=600)), [1, 2]);
        assert_eq!(inside(Window::sigmas(2..=4)), [1, 2]);
        assert_eq!(inside(Window::sigmas(1.5..=f64::INFINITY)), [0, 1, 2]);
        assert_eq!(inside(Window::progress(0.25..=0.75)), [1, 2]);
        assert_eq!(inside(Window::WHOLE), [0, 1, 2, 3]);
    }

    #[test]
    fn progress_takes_whole_steps_only() {
        assert_eq!(inside(Window::progress(0.2..=0.9)), [1, 2]);
        assert_eq!(inside(Window::progress(0.3..=0.7)), [2; 0]);
    }

    #[test]
    fn two_halves_cover_each_step_once() {
        let halves = [Window::progress(0.0..=0.5), Window::progress(0.5..=1.0)].map(inside);
        assert_eq!(halves, [vec![0, 1], vec![2, 3]]);
    }

    #[test]
    fn elapsed_runs_from_0_to_1() {
        let elapsed = |window: Window| [0, 1, 2, 3].map(|index| window.elapsed(&step(index)));
        assert_eq!(elapsed(Window::WHOLE), [0.0, 1.0 / 3.0, 2.0 / 3.0, 1.0]);
        assert_eq!(elapsed(Window::timesteps(0..=600)), [0.0, 0.0, 0.5, 1.0]);
        assert_eq!(elapsed(Window::sigmas(2..=4)), [0.0, 0.0, 1.0, 1.0]);
        assert_eq!(elapsed(Window::progress(0.5..=0.5)), [0.0, 0.0, 1.0, 1.0]);
    }

    #[test]
    fn json_keeps_a_window() -> serde_json::Result<()> {
        for window in [Window::WHOLE, Window::timesteps(0..=700), Window::sigmas(1.0..=f64::INFINITY)] {
            assert_eq!(serde_json::from_str::<Window>(&serde_json::to_string(&window)?)?, window);
        }
        assert_eq!(serde_json::to_string(&Window::sigmas(1.0..=f64::INFINITY))?, r#"{"sigmas":[1.0,null]}"#);
        Ok(())
    }

    #[test]
    fn wrong_ends_are_named() {
        let says = |window: Window| window.check().unwrap_err().to_string();
        assert!(says(Window::timesteps(0..=1200)).contains("window is timesteps 0..=1200"));
        assert!(says(Window::sigmas(f64::NAN..=1.0)).contains("sigmas NaN..=1"));
        let backward = Window::progress(0.8..=0.2);
        assert!(says(backward).contains("the smaller one first"));
        assert!(Window::WHOLE.check().is_ok());
    }
}
