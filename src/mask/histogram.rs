//! Histograms of colors in CIELAB.

use crate::color::Lab;

/// Side of a bin in CIELAB. Colors of one bin and of the bins around it look alike.
const BIN: f64 = 6.0;
/// Number of bins along lightness, and along green to red and blue to yellow. The outermost bins stay empty, so that
/// every bin has neighbors.
const BINS: [usize; 3] = [20, 47, 47];

/// Weights of colors, counted in bins.
#[derive(Clone)]
pub(super) struct Histogram(Vec<f64>);

impl Histogram {
    /// Counts colors. `colors` pairs bins ([`bin`]) with weights of 0 or more.
    pub(super) fn of(colors: impl Iterator<Item = (usize, f64)>) -> Self {
        let mut counts = vec![0.0; BINS.iter().product()];
        for (bin, weight) in colors {
            counts.get_mut(bin).into_iter().for_each(|count| *count += weight);
        }
        Self(counts)
    }

    /// Adds the counts of the bins around each bin, so that nearly equal colors count together.
    pub(super) fn spread(&self) -> Self {
        let [_, rows, columns] = BINS;
        let along = |counts: Vec<f64>, stride: usize| -> Vec<f64> {
            let at = |i: Option<usize>| i.and_then(|i| counts.get(i)).copied().unwrap_or_default();
            (0..counts.len()).map(|i| at(i.checked_sub(stride)) + at(Some(i)) + at(Some(i + stride))).collect()
        };
        Self([1, columns, rows * columns].into_iter().fold(self.0.clone(), along))
    }

    pub(super) fn at(&self, bin: usize) -> f64 {
        self.0.get(bin).copied().unwrap_or_default()
    }

    /// Returns the total weight.
    pub(super) fn sum(&self) -> f64 {
        self.0.iter().sum()
    }

    /// Returns all bins with their counts.
    pub(super) fn bins(&self) -> impl Iterator<Item = (usize, f64)> {
        self.0.iter().copied().enumerate()
    }
}

/// Returns the bin of a color.
pub(super) fn bin(color: &Lab) -> usize {
    let [deep, rows, columns] = BINS;
    let place = |x: f64, middle: usize, count: usize| {
        ((x / BIN).round() as i64 + middle as i64).clamp(1, count as i64 - 2) as usize
    };
    let (l, a, b) = (place(color.l, 1, deep), place(color.a, rows / 2, rows), place(color.b, columns / 2, columns));
    (l * rows + a) * columns + b
}

/// Returns the color in the middle of a bin.
pub(super) fn middle(bin: usize) -> Lab {
    let [_, rows, columns] = BINS;
    let from = |place: usize, middle: usize| (place as f64 - middle as f64) * BIN;
    Lab {
        l: from(bin / (rows * columns), 1),
        a: from(bin / columns % rows, rows / 2),
        b: from(bin % columns, columns / 2),
    }
}

/// Returns true if a color lies in a bin or in one of the bins around it.
pub(super) fn is_around(color: &Lab, bin: usize) -> bool {
    let middle = middle(bin);
    [color.l - middle.l, color.a - middle.a, color.b - middle.b].iter().all(|apart| apart.abs() <= 1.5 * BIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colors_return_to_the_middle_of_their_bin() {
        for [l, a, b] in [[0.0, 0.0, 0.0], [100.0, 0.0, 0.0], [53.0, 80.0, 67.0], [32.0, 79.0, -107.0]] {
            let color = Lab { l, a, b };
            assert!(is_around(&color, bin(&color)), "{color:?} is in {:?}", middle(bin(&color)));
            let near = middle(bin(&color));
            assert!((near.l - l).abs() <= 3.0 && (near.a - a).abs() <= 3.0 && (near.b - b).abs() <= 3.0, "{near:?}");
        }
    }

    #[test]
    fn spread_counts_the_colors_of_near_bins() {
        let color = Lab { l: 50.0, a: 10.0, b: -20.0 };
        let near = Lab { l: 55.0, a: 15.0, b: -15.0 };
        let far = Lab { l: 70.0, ..color };
        let counts = Histogram::of([(bin(&color), 2.0), (bin(&near), 3.0), (bin(&far), 5.0)].into_iter());
        assert_eq!(counts.sum(), 10.0);
        assert_eq!(counts.at(bin(&color)), 2.0);
        assert_eq!(counts.spread().at(bin(&color)), 5.0);
    }
}
