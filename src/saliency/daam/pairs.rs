//! Comparison of the maps of words, pair by pair: two words that show one object, or two objects.

use super::maps::floor;
use crate::error::Result;
use tch::{Device, Kind, Tensor};

/// Minimum correlation of two maps that may show the same object.
const SAME: f64 = 0.82;
/// Share of a map's cells outside the cells of a louder map, above which the map has a place of its own. A map's cells
/// are those above its Otsu threshold.
const OWN_PLACE: f64 = 0.5;
/// Least ratio of the peak of a small object's map to the peak of the map of a large object around it.
const SHARPER: f64 = 1.5;
/// Correlation of two maps within the cells of the larger object's map, below which the sharper map shows another
/// object there.
const WITHIN: f64 = 0.3;

/// The maps of a picture's words, compared with each other.
pub(super) struct Pairs {
    /// Number of words.
    words: usize,
    /// True for each pair of a word and a louder word if both show the same object; rows of `words`.
    same: Vec<bool>,
    /// Largest value of each map, in standard deviations.
    peaks: Vec<f64>,
}

impl Pairs {
    /// Compares maps of deviations, [words, cells].
    ///
    /// Two words show the same object if their maps are alike, with two exceptions: the fainter word has a place of its
    /// own, or shows a small object within a large one, such as a bow in hair of the bow's color. The map of a small
    /// object is sharper, and within the large object it does not follow that object's map.
    pub(super) fn of(maps: &Tensor) -> Result<Self> {
        let maps = maps.f_to_device(Device::Cpu)?.f_to_kind(Kind::Double)?;
        let (words, cells) = maps.size2()?;
        let floors =
            maps.f_unbind(0)?.iter().map(|map| floor(&map.f_reshape([1, 1, 1, -1])?)).collect::<Result<Vec<_>>>()?;
        let places = maps.f_ge_tensor(&Tensor::f_cat(&floors, 0)?.f_reshape([-1, 1])?)?.f_to_kind(Kind::Double)?;
        let with = |x: &Tensor, y: &Tensor| -> Result<Tensor> { Ok(x.f_matmul(&y.f_transpose(0, 1)?)?) };
        // All are [words, words]: a row per word, a column per louder word.
        let alike = with(&maps, &maps)?.f_div_scalar(cells as f64)?.f_ge(SAME)?;
        let shared = with(&places, &places)?;
        let own = shared.f_diag(0)?.f_unsqueeze(1)?;
        let no_place = own.f_sub(&shared)?.f_le_tensor(&own.f_mul_scalar(OWN_PLACE)?)?;
        // Moments within the louder word's cells.
        let count = shared.f_diag(0)?.f_clamp_min(1.0)?.f_unsqueeze(0)?;
        let mean = with(&maps, &places)?.f_div(&count)?;
        let spread = with(&maps.f_square()?, &places)?.f_div(&count)?.f_sub(&mean.f_square()?)?.f_clamp_min(0.0)?;
        let [louder_mean, louder_spread] = [&mean, &spread].map(|x| x.f_diag(0)).map(|x| x?.f_unsqueeze(0));
        let together = with(&maps, &maps.f_mul(&places)?)?.f_div(&count)?.f_sub(&mean.f_mul(&louder_mean?)?)?;
        let follows = together
            .f_ge_tensor(&spread.f_mul(&louder_spread?)?.f_sqrt()?.f_mul_scalar(WITHIN)?.f_sub_scalar(1e-9)?)?;
        let peaks = maps.f_amax([1i64], false)?;
        let sharper = peaks.f_unsqueeze(1)?.f_ge_tensor(&peaks.f_unsqueeze(0)?.f_mul_scalar(SHARPER)?)?;
        let is_within = sharper.f_logical_and(&follows.f_logical_not()?)?;
        let same = alike.f_logical_and(&no_place)?.f_logical_and(&is_within.f_logical_not()?)?;
        let same = Vec::<bool>::try_from(&same.f_flatten(0, -1)?)?;
        Ok(Self { words: words as usize, same, peaks: Vec::try_from(&peaks)? })
    }

    /// Returns true if a word shows the same object as a louder word.
    pub(super) fn same(&self, word: usize, louder: usize) -> bool {
        self.same.get(word * self.words + louder) == Some(&true)
    }

    /// Returns true if a word's map is sharper than another word's, as the map of a smaller object is.
    pub(super) fn is_sharper(&self, word: usize, than: usize) -> bool {
        let peak = |word: usize| self.peaks.get(word).copied().unwrap_or_default();
        peak(word) >= SHARPER * peak(than)
    }
}

#[cfg(test)]
mod tests {
    use super::super::maps::deviations;
    use super::*;

    /// Returns maps of 16×16 cells in deviations, [words, cells]; each is a function of row and column.
    fn drawn(maps: &[&dyn Fn(i64, i64) -> f64]) -> Result<Tensor> {
        let cells = |map: &&dyn Fn(i64, i64) -> f64| (0..256).map(|i| map(i / 16, i % 16)).collect::<Vec<f64>>();
        let maps = Tensor::from_slice(&maps.iter().map(cells).collect::<Vec<_>>().concat());
        Ok(deviations(&maps.reshape([1, -1, 16, 16]))?.flatten(2, 3).squeeze_dim(0))
    }

    #[test]
    fn bow_in_hair_of_its_color_is_another_object() -> Result<()> {
        let hair = |y: i64, x: i64| if y < 8 { 1.0 - 0.02 * ((x - 8) as f64).abs() } else { 0.0 };
        let bow = |y: i64, x: i64| (1..3).contains(&y) && (13..15).contains(&x);
        // Self-attention carries the attention to "bow" into the hair around the bow.
        let spread = |y: i64, x: i64| if bow(y, x) { 1.0 } else { 0.5 * hair(y, x) };
        let shine = |y: i64, x: i64| hair(y, x).powi(8);
        let pairs = Pairs::of(&drawn(&[&hair, &spread, &shine])?)?;
        assert!(!pairs.same(1, 0) && pairs.is_sharper(1, 0), "the bow");
        assert!(pairs.same(2, 0), "the same hair again");
        assert!(!pairs.is_sharper(0, 1));
        Ok(())
    }
}
