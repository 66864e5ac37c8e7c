//! Medians and quantiles with their confidence intervals.

use crate::random::Rng;
use serde::{Deserialize, Serialize};

/// Number of rounds of the bootstrap.
pub const ROUNDS: usize = 2000;

/// A figure with its 95 % confidence interval and the number of its values.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// Value of the figure. `None` stands for +∞: so many runs failed that the quantile lies among them.
    pub value: Option<f64>,
    pub low: Option<f64>,
    pub high: Option<f64>,
    pub n: usize,
}

impl std::fmt::Display for Figure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let number = |x: Option<f64>| x.map_or("∞".into(), short);
        write!(f, "{} [{}, {}] n={}", number(self.value), number(self.low), number(self.high), self.n)
    }
}

/// Formats a number with three significant digits, at most two after the point.
pub fn short(x: f64) -> String {
    match x.abs() {
        f64::INFINITY => "∞".into(),
        100.0.. => format!("{x:.0}"),
        10.0.. => format!("{x:.1}"),
        _ => format!("{x:.2}"),
    }
}

/// A statistic of the values of all runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Statistic {
    Mean,
    Quantile(f64),
}

impl Statistic {
    pub const MEDIAN: Self = Self::Quantile(0.5);

    fn of(self, values: &mut [f64]) -> f64 {
        match self {
            Self::Mean => values.iter().sum::<f64>() / values.len() as f64,
            Self::Quantile(p) => quantile(values, p),
        }
    }
}

/// Quantile of type 7, numpy's default; NaN without values. Changes the order of the values.
pub fn quantile(values: &mut [f64], p: f64) -> f64 {
    let Some(last) = values.len().checked_sub(1) else { return f64::NAN };
    let place = last as f64 * p;
    let (_, low, above) = values.select_nth_unstable_by(place as usize, f64::total_cmp);
    let high = above.iter().copied().min_by(f64::total_cmp).unwrap_or(*low);
    let share = place.fract();
    // Zero times infinity would be NaN.
    if share == 0.0 || *low == high { *low } else { *low + share * (high - *low) }
}

pub fn median(mut values: Vec<f64>) -> f64 {
    quantile(&mut values, 0.5)
}

/// The 95 % confidence interval of a statistic by the bootstrap, which resamples whole groups (seeds).
pub fn bootstrap(groups: &[Vec<f64>], statistic: Statistic, label: &str, rounds: usize) -> (f64, f64) {
    let first = groups.iter().flatten().next().copied();
    if let Some(all) = first.filter(|first| groups.iter().flatten().all(|value| value == first)) {
        return (all, all); // the result of every sample
    }
    let mut rng = Rng::new(label);
    let mut results: Vec<f64> = (0..rounds)
        .map(|_| {
            let mut values: Vec<f64> =
                groups.iter().flat_map(|_| groups[rng.below(groups.len() as u64) as usize].iter().copied()).collect();
            statistic.of(&mut values)
        })
        .filter(|value| !value.is_nan())
        .collect();
    (quantile(&mut results, 0.025), quantile(&mut results, 0.975))
}

/// A statistic of all values with its confidence interval; `None` without values.
pub fn figure(groups: &[Vec<f64>], statistic: Statistic) -> Option<Figure> {
    let mut all: Vec<f64> = groups.concat();
    if all.is_empty() {
        return None;
    }
    let (low, high) = bootstrap(groups, statistic, "yardstick-1/boot", ROUNDS);
    let finite = |x: f64| x.is_finite().then_some(x);
    Some(Figure { n: all.len(), value: finite(statistic.of(&mut all)), low: finite(low), high: finite(high) })
}
