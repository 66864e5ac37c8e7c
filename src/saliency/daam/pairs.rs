//! Comparison of the maps of words, pair by pair: two words that show one object, or two objects.

use super::maps::floor;
use crate::error::Result;
use tch::{Device, Kind, Tensor};

/// Minimum correlation of two maps that may show the same object.
const SAME: f64 = 0.82;
/// Share of a map's cells outside the cells of a louder map, above which the map has a place of its own. A map's cells
/// are those above its Otsu threshold.
const OWN_PLACE: f64 = 0.5;
/// Difference of a small object's map from the map of a large object around it, for any two words and for words of one
/// compound, such as "hair" and "bow" in "hair bow".
const WITHIN: (Within, Within) = (Within { sharper: 1.5, follows: 0.3 }, Within { sharper: 1.1, follows: 0.95 });

/// Difference of the maps of a small object and of a large object around it.
struct Within {
    /// Least ratio of the small object's peak to the large object's peak.
    sharper: f64,
    /// Correlation of the two maps within the large object's cells, below which the small object is another object.
    follows: f64,
}

/// The maps of a picture's words, compared with each other.
pub(super) struct Pairs {
    /// Number of words.
    words: usize,
    /// True for each pair of a word and a louder word if their maps are alike and the word has no place of its own, in
    /// rows of `words`.
    alike: Vec<bool>,
    /// Correlation of each word's map with another word's map within the cells of the other map, in rows of `words`.
    within: Vec<f64>,
    /// Largest value of each map, in standard deviations.
    peaks: Vec<f64>,
}

impl Pairs {
    /// Compares maps of deviations, [words, cells].
    pub(super) fn of(maps: &Tensor) -> Result<Self> {
        let maps = maps.f_to_device(Device::Cpu)?.f_to_kind(Kind::Double)?;
        let (words, cells) = maps.size2()?;
        let floors =
            maps.f_unbind(0)?.iter().map(|map| floor(&map.f_reshape([1, 1, 1, -1])?)).collect::<Result<Vec<_>>>()?;
        let places = maps.f_ge_tensor(&Tensor::f_cat(&floors, 0)?.f_reshape([-1, 1])?)?.f_to_kind(Kind::Double)?;
        let with = |x: &Tensor, y: &Tensor| -> Result<Tensor> { Ok(x.f_matmul(&y.f_transpose(0, 1)?)?) };
        // All are [words, words]: a row per word, a column per other word.
        let alike = with(&maps, &maps)?.f_div_scalar(cells as f64)?.f_ge(SAME)?;
        let shared = with(&places, &places)?;
        let own = shared.f_diag(0)?.f_unsqueeze(1)?;
        let no_place = own.f_sub(&shared)?.f_le_tensor(&own.f_mul_scalar(OWN_PLACE)?)?;
        // Moments within the other word's cells.
        let count = shared.f_diag(0)?.f_clamp_min(1.0)?.f_unsqueeze(0)?;
        let mean = with(&maps, &places)?.f_div(&count)?;
        let spread = with(&maps.f_square()?, &places)?.f_div(&count)?.f_sub(&mean.f_square()?)?.f_clamp_min(0.0)?;
        let [other_mean, other_spread] = [&mean, &spread].map(|x| x.f_diag(0)).map(|x| x?.f_unsqueeze(0));
        let together = with(&maps, &maps.f_mul(&places)?)?.f_div(&count)?.f_sub(&mean.f_mul(&other_mean?)?)?;
        let spread = spread.f_mul(&other_spread?)?.f_sqrt()?;
        // Flat maps follow each other.
        let within = together.f_div(&spread)?.f_where_self(&spread.f_gt(1e-9)?, &spread.f_ones_like()?)?;
        Ok(Self {
            words: words as usize,
            alike: Vec::try_from(&alike.f_logical_and(&no_place)?.f_flatten(0, -1)?)?,
            within: Vec::try_from(&within.f_flatten(0, -1)?)?,
            peaks: Vec::try_from(&maps.f_amax([1i64], false)?)?,
        })
    }

    /// Returns true if a word shows the same object as a louder word. `compound` is true for words of one compound,
    /// such as "hair" and "bow" in "hair bow".
    ///
    /// The maps of such words are alike, with two exceptions: the word has a place of its own, or one of the two words
    /// shows a small object within a large one, such as a bow in hair of the bow's color. The map of a small object is
    /// sharper, and within the large object it does not follow that object's map.
    pub(super) fn same(&self, word: usize, louder: usize, compound: bool) -> bool {
        let Within { sharper, follows } = if compound { WITHIN.1 } else { WITHIN.0 };
        let is_within = |small: usize, large: usize| {
            let follows = self.at(&self.within, small, large).is_none_or(|together| *together >= follows);
            self.is_sharper(small, large, sharper) && !follows
        };
        self.at(&self.alike, word, louder) == Some(&true) && !is_within(word, louder) && !is_within(louder, word)
    }

    fn at<'a, T>(&self, pairs: &'a [T], word: usize, other: usize) -> Option<&'a T> {
        pairs.get(word * self.words + other)
    }

    /// Returns true if a word shows a smaller object than another word.
    pub(super) fn is_smaller(&self, word: usize, than: usize) -> bool {
        self.is_sharper(word, than, WITHIN.0.sharper)
    }

    fn is_sharper(&self, word: usize, than: usize, by: f64) -> bool {
        let peak = |word: usize| self.peaks.get(word).copied().unwrap_or_default();
        peak(word) >= by * peak(than)
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
        assert!(!pairs.same(1, 0, false) && pairs.is_smaller(1, 0), "the bow");
        assert!(pairs.same(2, 0, false) && pairs.same(2, 0, true), "the same hair again");
        assert!(!pairs.is_smaller(0, 1));
        Ok(())
    }

    #[test]
    fn words_of_a_compound_are_told_apart_by_less() -> Result<()> {
        let hair = |y: i64, x: i64| if y < 8 { 1.0 - 0.04 * ((x - 8) as f64).abs() } else { 0.0 };
        let faint = |y: i64, x: i64| hair(y, x) + if (1..3).contains(&y) && (13..15).contains(&x) { 0.3 } else { 0.0 };
        let pairs = Pairs::of(&drawn(&[&hair, &faint, &|y, x| 2.0 * hair(y, x)])?)?;
        assert_eq!([pairs.same(1, 0, false), pairs.same(1, 0, true)], [true, false]);
        assert!(pairs.same(2, 0, true), "an equal map");
        Ok(())
    }
}
