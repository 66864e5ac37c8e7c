//! Weights of a prompt's tokens.

use super::pairing::Pair;
use super::params::{Compat, GuidanceParams};

/// Returns weights that equal `gain` at each peak of the similarities that is at least `floor`. Weights are 0 half-way
/// between two peaks and at both ends, and linear in between. A plateau is one peak, at its beginning. Returns `None`
/// without a peak.
pub(super) fn cluster_ramp(similarities: &[f64], floor: f64, gain: f64) -> Option<Vec<f64>> {
    let mut peaks: Vec<usize> = Vec::new();
    let mut plateau = false; // true while the last peak continues
    for (at, window) in (1..).zip(similarities.windows(3)) {
        let &[before, here, after] = window else { continue };
        plateau &= before == here;
        if here >= floor && before <= here && here >= after && !plateau {
            peaks.push(at);
            plateau = true;
        }
    }
    let (first, last) = (*peaks.first()?, *peaks.last()?);
    let mut knots = vec![(0, 0.0), (first, 1.0)];
    for (p, q) in peaks.iter().zip(peaks.iter().skip(1)) {
        knots.extend([(p + (q - p).div_ceil(2), 0.0), (*q, 1.0)]);
    }
    knots.push((similarities.len().saturating_sub(1).max(last), 0.0));
    let ramp = |at: usize| {
        let between = knots.windows(2).find_map(|pair| match pair {
            &[(a, from), (b, to)] if (a..=b).contains(&at) => Some((a, from, b, to)),
            _ => None,
        });
        // If two knots share one position, the later knot counts.
        between.map_or(
            0.0,
            |(a, from, b, to)| if a == b { to } else { from + (to - from) * ((at - a) as f64 / (b - a) as f64) },
        )
    };
    Some((0..similarities.len()).map(|at| gain * ramp(at)).collect())
}

impl Compat {
    /// Blends two kinds of weights. [`Aligned`](Self::Aligned) takes the weight of larger magnitude at each token, and
    /// 0 for opposite weights of equal magnitude. [`Upstream`](Self::Upstream) blends like FlexDiffuse's code.
    pub(super) fn blend(self, a: &[f64], b: &[f64]) -> Vec<f64> {
        let negative = |values: &[f64]| !values.iter().any(|value| *value >= 0.0);
        let each = |choose: fn(f64, f64) -> f64| a.iter().zip(b).map(|(a, b)| choose(*a, *b)).collect();
        match self {
            Self::Aligned => each(|a, b| {
                if a == -b {
                    0.0
                } else if a.abs() >= b.abs() {
                    a
                } else {
                    b
                }
            }),
            Self::Upstream if negative(a) => each(f64::min),
            Self::Upstream if negative(b) => each(|a, b| a + b),
            Self::Upstream => each(f64::max),
        }
    }
}

/// Returns the numbers at positions `numbers` of a line of `count` numbers from `start` to `end`.
pub(super) fn line((start, end): (f64, f64), numbers: std::ops::Range<usize>, count: usize) -> Vec<f64> {
    let last = count.saturating_sub(1).max(1) as f64;
    numbers.map(|at| start + (end - start) * (at as f64 / last)).collect()
}

/// Returns the weight of each token of a chunk from its `linear` weights and the pairs. The first token is the chunk's
/// `header`, if the chunk has one.
pub(super) fn weights(pairs: &[Pair], params: &GuidanceParams, linear: Vec<f64>, header: bool) -> Vec<f64> {
    let GuidanceParams { threshold: (mult, floor), clustered, header_max, compat, .. } = *params;
    let similarities: Vec<f64> = pairs.iter().map(|pair| pair.similarity).collect();
    let mut all = linear;
    if clustered != 0.0 {
        // The header's similarity is 0, so the header does not count in the mean.
        let counted = pairs.len() - usize::from(header && compat == Compat::Aligned && !pairs.is_empty());
        let mean = similarities.iter().sum::<f64>() / counted.max(1) as f64;
        if let Some(ramp) = cluster_ramp(&similarities, mean, clustered) {
            all = compat.blend(&all, &ramp);
        }
    }
    if mult != 0.0 {
        let above: Vec<f64> = similarities.iter().map(|value| if *value < floor { 0.0 } else { mult }).collect();
        all = compat.blend(&all, &above);
    }
    if let Some(header) = all.first_mut().filter(|_| header && header_max < 1.0) {
        *header = header.clamp(-header_max, header_max);
    }
    all
}

/// Returns the share by which each token is moved towards its partner. 0 leaves the token in place, 1 moves it all the
/// way, and a share below 0 moves it away.
pub(super) fn shares(pairs: &[Pair], weights: &[f64], params: &GuidanceParams) -> Vec<f64> {
    let &GuidanceParams { max_guidance: most, snap, compat, .. } = params;
    let share = |(at, (pair, weight)): (usize, (&Pair, &f64))| {
        let least = if compat == Compat::Upstream { f64::NEG_INFINITY } else { -most };
        let weight = weight.max(least).min(most);
        let reaches = |weight: f64| snap && weight >= 1.0 - pair.similarity;
        match compat {
            _ if pair.alternate.is_none() || weight == 0.0 => 0.0,
            Compat::Aligned if at > 0 && weight > 0.0 && reaches(weight) => 1.0,
            Compat::Upstream if reaches(weight.abs()) => 1.0,
            _ => weight,
        }
    };
    pairs.iter().zip(weights).enumerate().map(share).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_continues_from_chunk_to_chunk() {
        assert_eq!(line((0.0, 1.0), 0..5, 5), [0.0, 0.25, 0.5, 0.75, 1.0]);
        let chunks = [line((-1.0, 1.0), 0..3, 5), line((-1.0, 1.0), 2..5, 5)];
        assert_eq!(chunks, [[-1.0, -0.5, 0.0], [0.0, 0.5, 1.0]]);
        assert_eq!(line((0.3, 1.0), 0..1, 1), [0.3]);
    }
}
