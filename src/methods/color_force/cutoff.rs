//! The cutoff of a force: the smallest saliency at which a cell belongs to an object.

use crate::error::{Error, Result};
use crate::mask::otsu;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

/// The smallest saliency at which a cell is forced.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Cutoff {
    /// A fixed cutoff, 0..=`range()` of the saliency.
    At(f64),
    /// A cutoff that is computed for every map, at .05..=.6 of the range.
    ///
    /// - The cutoff is the value that best separates the map into two groups (Otsu).
    /// - In a map without two groups, the cutoff is the middle of the widest gap between values.
    /// - The cutoff changes slowly from step to step.
    /// - The cutoff is moved, even beyond these limits, if less than .1 % or more than 70 % of the picture would reach
    ///   it.
    ///
    /// Source: Otsu, "A Threshold Selection Method from Gray-Level Histograms" (1979).
    Auto,
}

impl From<f64> for Cutoff {
    fn from(cutoff: f64) -> Self {
        Self::At(cutoff)
    }
}

/// Smallest and largest automatic cutoff, as shares of the range, before the area is limited.
const LIMITS: (f64, f64) = (0.05, 0.6);
/// Smallest and largest share of a picture that may reach an automatic cutoff.
const AREAS: (f64, f64) = (0.001, 0.7);
/// Separability below which a map does not divide into two groups.
const SEPARABLE: f64 = 0.6;
/// The cutoff of a map in which `widest_gap` finds no interval, as a share of the range.
const FALLBACK: f64 = 0.15;
/// Weight of the last step's cutoff in the cutoff of a step.
const INERTIA: f64 = 0.7;

impl Cutoff {
    pub(super) fn check(self) -> Result<()> {
        match self {
            Self::At(cutoff) if !(cutoff.is_finite() && cutoff >= 0.0) => {
                Err(Error::parameter("saliency_cutoff", cutoff, "0 or more; .1 to .3 is useful"))
            }
            _ => Ok(()),
        }
    }

    /// Returns the cutoff of every image, [n, 1, 1, 1] f32, and true if a cutoff was moved because too little or too
    /// much of a picture would have reached it. `map` is [n, 1, h, w] in 0..=`range`; `last` holds the cutoffs of the
    /// step before.
    pub(super) fn levels(self, map: &Tensor, range: f64, last: Option<&Tensor>) -> Result<(Tensor, bool)> {
        let images = map.size4()?.0;
        let (levels, clamped) = match self {
            Self::At(cutoff) => (vec![cutoff as f32; images as usize], false),
            Self::Auto => {
                let before = last.map(|last| Vec::<f32>::try_from(&last.f_flatten(0, -1)?)).transpose()?;
                let (mut levels, mut clamped) = (Vec::new(), false);
                for image in 0..images {
                    let values = map.f_select(0, image)?.f_flatten(0, -1)?.f_to_device(Device::Cpu)?;
                    let mut values = Vec::<f64>::try_from(&values.f_div_scalar(range)?.f_to_kind(Kind::Double)?)?;
                    values.sort_by(f64::total_cmp);
                    let before = before.as_ref().and_then(|before| before.get(image as usize));
                    let here = automatic(&values);
                    let level =
                        before.map_or(here, |before| INERTIA * f64::from(*before) / range + (1.0 - INERTIA) * here);
                    let limited = limit(&values, level);
                    clamped |= limited != level;
                    levels.push((limited * range) as f32);
                }
                (levels, clamped)
            }
        };
        Ok((Tensor::f_from_slice(&levels)?.f_reshape([-1, 1, 1, 1])?.f_to_device(map.device())?, clamped))
    }
}

/// Returns the cutoff of a map's values, which are sorted and in 0..=1.
fn automatic(values: &[f64]) -> f64 {
    let (cutoff, separability) = otsu(values);
    let cutoff = if separability < SEPARABLE { widest_gap(values).unwrap_or(FALLBACK) } else { cutoff };
    cutoff.clamp(LIMITS.0, LIMITS.1)
}

/// Returns the middle of the widest interval without values. The middle must be within the limits, and at least .2 % of
/// the values must lie above the interval. If there is no such interval, the result is `None`.
fn widest_gap(values: &[f64]) -> Option<f64> {
    let gaps = values.windows(2).enumerate().filter_map(|(below, pair)| {
        let &[low, high] = pair else { return None };
        let (middle, above) = ((low + high) / 2.0, 1.0 - (below + 1) as f64 / values.len() as f64);
        ((LIMITS.0..=LIMITS.1).contains(&middle) && above >= 0.002).then_some((high - low, middle))
    });
    // Of equally wide gaps, the first counts.
    gaps.reduce(|widest, gap| if gap.0 > widest.0 { gap } else { widest }).map(|(_, middle)| middle)
}

/// Returns `cutoff`, moved if too little or too much of the picture would reach it. `values` are sorted.
fn limit(values: &[f64], cutoff: f64) -> f64 {
    let above = values.len() - values.partition_point(|value| *value < cutoff);
    let quantile = |share: f64| {
        let place = ((1.0 - share) * values.len() as f64).floor() as usize;
        values.get(place.min(values.len().saturating_sub(1))).copied().unwrap_or(cutoff)
    };
    match above as f64 / values.len().max(1) as f64 {
        area if area < AREAS.0 => quantile(AREAS.0),
        area if area > AREAS.1 => quantile(AREAS.1),
        _ => cutoff,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn golden() -> Value {
        serde_json::from_str(include_str!("../../../tests/golden/specs/saliency.json")).unwrap()
    }

    fn sorted(mut values: Vec<f64>) -> Vec<f64> {
        values.sort_by(f64::total_cmp);
        values
    }

    fn close(got: f64, want: &Value) {
        assert!((got - want.as_f64().unwrap()).abs() < 1e-6, "{got} is not {want}");
    }

    #[test]
    fn cutoffs_equal_the_reference() {
        let golden = golden();
        let map: Vec<Vec<f64>> = serde_json::from_value(golden["minmax"].clone()).unwrap();
        let map = sorted(map.concat());
        let (cutoff, separability) = otsu(&map);
        close(cutoff, &golden["otsu"]["cutoff"]);
        close(separability, &golden["otsu"]["separability"]);
        close(widest_gap(&map).unwrap(), &golden["largest_gap"]["cutoff"]);
        close(automatic(&map), &golden["auto"]["cutoff"]);
    }

    #[test]
    fn automatic_cutoff_finds_a_small_object() {
        let golden = &golden()["small_object_16"];
        let value = |i: usize| {
            let (y, x) = ((i / 16) as f64, (i % 16) as f64);
            (-((y - 5.0).powi(2) + (x - 9.0).powi(2))).exp() + 0.25 * (0.5 + 0.5 * (1.3 * x + 0.9 * y * y).sin())
        };
        let map = sorted((0..256).map(value).collect());
        let (low, high) = (map[0], map[255]);
        let map: Vec<f64> = map.iter().map(|value| (value - low) / (high - low + 1e-8)).collect();
        close(otsu(&map).0, &golden["otsu"][0]);
        close(otsu(&map).1, &golden["otsu"][1]);
        close(automatic(&map), &golden["auto"][0]);
        let area = map.iter().filter(|value| **value >= automatic(&map)).count();
        assert_eq!(area as i64, golden["area_auto"].as_i64().unwrap());
    }

    #[test]
    fn areas_are_limited_and_the_cutoff_changes_slowly() -> Result<()> {
        let ramp: Vec<f64> = (0..1000).map(|i| i as f64 / 1000.0).collect();
        assert_eq!(limit(&ramp, 0.9995), 0.999);
        assert_eq!(limit(&ramp, 0.1), 0.3);
        assert_eq!(limit(&ramp, 0.5), 0.5);
        let map = Tensor::from_slice(&[0.0f32, 0.0, 0.0, 1.0]).reshape([1, 1, 2, 2]);
        let (first, _) = Cutoff::Auto.levels(&(&map * 2.0), 2.0, None)?;
        let before = Tensor::from_slice(&[0.2f32]).reshape([1, 1, 1, 1]);
        let (second, _) = Cutoff::Auto.levels(&(&map * 2.0), 2.0, Some(&before))?;
        let want = 0.7 * 0.2 + 0.3 * first.double_value(&[0, 0, 0, 0]);
        assert!((second.double_value(&[0, 0, 0, 0]) - want).abs() < 1e-6);
        Ok(())
    }
}
