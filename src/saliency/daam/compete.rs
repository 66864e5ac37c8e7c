//! Competition of words: the word that leads in each cell, and the words that take part.
//!
//! The maps of the prompt's words decide which words compete. If two words have alike maps, they name one object, and
//! the fainter word does not compete: this word is *joined* to the other. A word that names no object has a faint map
//! that follows another map, so this word is joined too. A part of an object, such as a ponytail of hair, is mostly
//! joined too.
//!
//! An object with a place of its own is not joined, even if the maps are alike. The map of a face, for example, covers
//! the eyes and other cells around them. Nor is a small object within a large one, such as a bow in hair ([`Pairs`]).

use super::maps::{attend, attend_until_steady, deviations, floor, resized};
use super::pairs::Pairs;
use crate::error::Result;
use crate::saliency::Competition;
use crate::step::Grid;
use tch::{Device, Kind, Tensor};

/// Maximum number of words that are compared with each other, the loudest of the prompt.
const MOST_RIVALS: usize = 255;
/// Share of the cells in which a phrase leads by attention that change with the phrase too: up to the first share,
/// attention looks elsewhere and does not count; from the second share on, it counts fully.
const AGREES: (f64, f64) = (0.4, 0.9);
/// Share of the changed cells in which words of smaller objects lead, from which on change shows these objects.
const SMALLER_CHANGE: f64 = 0.5;
/// Loudness below which attention is doubtful, as a share of the loudest word's.
const FAINT: f64 = 0.01;
/// Largest weight of the lead by attention, relative to the lead by change.
const MOST_TRUST: f64 = 2.0;

/// Numbers of words that have a role. These words follow the phrase, in the order of the fields.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Roles {
    /// Number of words that always compete.
    pub certain: usize,
    /// Number of words that are told from the phrase by small differences, because they make a compound with one of the
    /// phrase's words.
    pub compound: usize,
    /// Number of words that do not compete. Fainter words with maps like those of such words do not compete either.
    pub spared: usize,
}

/// The maps of a prompt's words at one grid, [n, words, cells]. The phrase is the first word.
pub(super) struct Contest {
    /// Maps after the steps of self-attention, in standard deviations.
    scores: Tensor,
    grid: Grid,
    roles: Roles,
    /// Standard deviation of the attention after the steps of self-attention, per image and word.
    loudness: Vec<Vec<f64>>,
}

impl Contest {
    /// Creates a contest. `maps`, [n, words, h, w], are raw attention: to the phrase first, then to the words with a
    /// role, then to the other words. `attention`, [n, cells, cells], is the self-attention, by which the maps
    /// are multiplied `power` times or until they are steady.
    pub(super) fn new(maps: &Tensor, attention: &Tensor, power: u32, roles: Roles) -> Result<Self> {
        let (_, words, h, w) = maps.size4()?;
        let grid = Grid::new(h, w);
        let cells = |x: &Tensor| -> Result<Tensor> { Ok(x.f_flatten(2, 3)?) };
        let mean = maps.f_mean_dim([2i64, 3].as_slice(), true, Kind::Float)?;
        let carried = attend(&maps.f_sub(&mean)?, attention, power)?;
        let loudness = cells(&carried)?.f_std_dim([2i64].as_slice(), false, false)?;
        let flat =
            Vec::<f64>::try_from(&loudness.f_to_kind(Kind::Double)?.f_to_device(Device::Cpu)?.f_flatten(0, -1)?)?;
        let loudness: Vec<Vec<f64>> = flat.chunks(words.max(1) as usize).map(<[f64]>::to_vec).collect();
        let looked_at = deviations(maps)?.f_clamp_max(1.0)?;
        let scores = deviations(&attend_until_steady(&looked_at, attention, power)?)?;
        Ok(Self { scores: cells(&scores)?, grid, roles, loudness })
    }

    /// Returns the competing and the joined words of each image. `names` are the names of all words, the phrase first.
    pub(super) fn competitions(&self, names: &[String]) -> Result<Vec<Competition>> {
        let name = |word: usize| names.get(word).cloned().unwrap_or_default();
        let all = self.sides()?.into_iter().zip(&self.loudness).enumerate();
        Ok(all
            .map(|(image, (sides, loudness))| Competition {
                image,
                loudness: share(loudness),
                rivals: sides.rivals.into_iter().map(name).collect(),
                joined: sides.joined.into_iter().map(|(word, to)| (name(word), name(to))).collect(),
            })
            .collect())
    }

    fn sides(&self) -> Result<Vec<Sides>> {
        let words = self.scores.size3()?.1;
        let sides = |image: usize| -> Result<Sides> {
            let Some(loudness) = self.loudness.get(image) else { return Ok(Sides::default()) };
            let loud = |word: usize| loudness.get(word).copied().unwrap_or_default();
            let Roles { certain, compound, spared } = self.roles;
            let compounds = 1 + certain..=certain + compound;
            let spares = 1 + certain + compound..=certain + compound + spared;
            let mut others: Vec<usize> = (1 + certain..words as usize).collect();
            others.sort_by(|a, b| loud(*b).total_cmp(&loud(*a)));
            let order: Vec<usize> = (0..=certain).chain(others).take(1 + MOST_RIVALS).collect();
            let rows: Vec<i64> = order.iter().map(|word| *word as i64).collect();
            let rows = Tensor::f_from_slice(&rows)?.f_to_device(self.scores.device())?;
            let scores = self.scores.f_select(0, image as i64)?.f_index_select(0, &rows)?.f_to_kind(Kind::Double)?;
            let pairs = Pairs::of(&scores)?;
            let mut sides = Sides::default();
            let mut heard: Vec<usize> = Vec::new(); // indexes into `order`
            for (at, &word) in order.iter().enumerate() {
                let is_compound = |louder: usize| louder == 0 && compounds.contains(&word);
                let like = heard.iter().find(|louder| at > certain && pairs.same(at, **louder, is_compound(**louder)));
                match like.and_then(|other| order.get(*other)) {
                    Some(&other) => sides.joined.push((word, other)),
                    None => {
                        match word {
                            0 => {}
                            word if spares.contains(&word) => sides.joined.push((word, 0)),
                            word => {
                                sides.rivals.push(word);
                                sides.smaller.extend(pairs.is_smaller(at, 0).then_some(word));
                                sides.compounds.extend(compounds.contains(&word).then_some(word));
                            }
                        }
                        heard.push(at);
                    }
                }
            }
            Ok(sides)
        };
        (0..self.loudness.len()).map(sides).collect()
    }

    /// Returns the logistic function of β times the phrase's lead, [n, 1, h, w] in 0..=1 on `to`. The lead by attention
    /// is the lesser of two differences. The first is the phrase's score less the strongest rival's score, after
    /// [`handicapped`] corrected the scores. The second is the phrase's uncorrected score less the Otsu threshold of
    /// these uncorrected scores.
    ///
    /// `change`, [n, 1, H, W], shows where the prediction changes with a color word before the phrase. The lead is then
    /// a weighted mean of the lead by attention and the lead by change ([`confirmed`]).
    pub(super) fn ahead(&self, beta: f64, change: Option<&Tensor>, to: Grid) -> Result<Tensor> {
        let (n, words, _) = self.scores.size3()?;
        let plain = resized(&self.scores.f_reshape([n, words, self.grid.h, self.grid.w])?, to)?;
        let scores = handicapped(&plain)?;
        let change = change.map(|change| resized(change, to)).transpose()?;
        let mut ahead = Vec::new();
        for (image, sides) in (0..n).zip(self.sides()?) {
            let of_phrase = |x: &Tensor| x.f_narrow(0, image, 1)?.f_narrow(1, 0, 1);
            let lead_over = |rivals: &[usize]| -> Result<Option<Tensor>> {
                if rivals.is_empty() {
                    return Ok(None);
                }
                let rivals: Vec<i64> = rivals.iter().map(|word| *word as i64).collect();
                let rivals = Tensor::f_from_slice(&rivals)?.f_to_device(scores.device())?;
                let strongest = scores.f_narrow(0, image, 1)?.f_index_select(1, &rivals)?.f_amax([1i64], true)?;
                Ok(Some(of_phrase(&scores)?.f_sub(&strongest)?))
            };
            let own = of_phrase(&plain)?;
            let mut lead = own.f_sub(&floor(&own)?)?;
            if let Some(over) = lead_over(&sides.rivals)? {
                lead = over.f_minimum(&lead)?;
            }
            if let Some(change) = &change {
                // Faint attention shows no object that change could miss.
                let is_loud = self.loudness.get(image as usize).is_some_and(|loudness| share(loudness) >= FAINT);
                let over_smaller = if is_loud { lead_over(&sides.smaller)? } else { None };
                lead = confirmed(&lead, &change.f_narrow(0, image, 1)?, over_smaller.as_ref())?;
            }
            // A word before "hair bow" is also a word before "hair", so change cannot tell such objects apart.
            if let Some(over) = lead_over(&sides.compounds)? {
                lead = lead.f_minimum(&over)?;
            }
            ahead.push(lead);
        }
        let ahead = Tensor::f_cat(&ahead, 0)?;
        Ok(ahead.f_mul_scalar(beta)?.f_sigmoid()?)
    }
}

/// Combines the lead of a phrase by attention with the change of the prediction, [1, 1, h, w] each.
///
/// The lead by change is the change less its Otsu threshold, in standard deviations. Attention to a word that nothing
/// else in the prompt competes with may look at another object: "shirt" at the hair, if no word names the hair. Change
/// shows the object itself, but also things that follow its color. The result is a weighted mean of both leads, and the
/// weight of attention follows from the share of its cells that change confirms ([`AGREES`]).
///
/// Attention counts alone if change is the same everywhere, or if change mostly shows smaller objects that other words
/// name: "red" before the word "hair" may change a bow in white hair more than the hair. `over_smaller` is the phrase's
/// lead over the words of smaller objects.
fn confirmed(ahead: &Tensor, change: &Tensor, over_smaller: Option<&Tensor>) -> Result<Tensor> {
    let deviation = change.f_std(false)?.f_double_value(&[])?;
    if deviation <= 1e-8 {
        return Ok(ahead.shallow_clone());
    }
    let changed = change.f_sub(&floor(change)?)?.f_div_scalar(deviation)?;
    let (own, moved) = (ahead.f_ge(0.0)?, changed.f_ge(0.0)?);
    let count = |cells: &Tensor| cells.f_sum(Kind::Double)?.f_double_value(&[]);
    if let Some(over) = over_smaller
        && count(&over.f_lt(0.0)?.f_logical_and(&moved)?)? >= SMALLER_CHANGE * count(&moved)?
    {
        return Ok(ahead.shallow_clone());
    }
    let agrees = count(&own.f_logical_and(&moved)?)? / count(&own)?.max(1.0);
    let trust = MOST_TRUST * ((agrees - AGREES.0) / (AGREES.1 - AGREES.0)).clamp(0.0, 1.0);
    Ok(changed.f_add(&ahead.f_mul_scalar(trust)?)?.f_div_scalar(1.0 + trust)?)
}

/// Rivals and joined words of one image, by number. The phrase has number 0.
#[derive(Default)]
struct Sides {
    rivals: Vec<usize>,
    /// Rivals that show smaller objects than the phrase.
    smaller: Vec<usize>,
    /// Rivals that make a compound with one of the phrase's words.
    compounds: Vec<usize>,
    joined: Vec<(usize, usize)>,
}

/// Returns the loudness of the first word, the phrase, as a share of the loudest word's loudness.
fn share(loudness: &[f64]) -> f64 {
    let loudest = loudness.iter().copied().fold(0.0, f64::max);
    loudness.first().map_or(0.0, |own| own / loudest.max(f64::MIN_POSITIVE))
}

/// Subtracts from every map of deviations the logarithm of the map's peak; a peak below 1 counts as 1. An object of few
/// cells leads by many deviations, even in the cells around the object, which belong to other objects. Without this
/// correction small objects' masks leak into their surroundings (eyes into lids, bows into hair).
pub(super) fn handicapped(deviations: &Tensor) -> Result<Tensor> {
    // A map of two equal halves peaks at 1, and a flat map at 0. Neither needs a correction.
    let peaks = deviations.f_amax([2i64, 3], true)?.f_clamp_min(1.0)?;
    Ok(deviations.f_sub(&peaks.f_log()?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRID: Grid = Grid::new(16, 16);

    fn drawn(value: impl Fn(i64, i64) -> f32) -> Tensor {
        let cells: Vec<f32> = (0..256).map(|i| value(i / 16, i % 16)).collect();
        Tensor::from_slice(&cells).reshape([1, 1, 16, 16])
    }

    /// Returns a self-attention in which every cell attends to itself alone.
    fn alone() -> Tensor {
        Tensor::eye(256, (Kind::Float, Device::Cpu)).unsqueeze(0)
    }

    fn left(_: i64, column: i64) -> f32 {
        f32::from(u8::from(column < 8))
    }

    fn names(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn faint_maps_that_follow_another_are_joined() -> Result<()> {
        let (hair, shirt) = (drawn(left), drawn(|y, x| 1.0 - left(y, x)));
        // A word that shows nothing: a thousandth of the shirt's map, plus a wave.
        let nothing = drawn(|y, x| 1e-3 * (1.0 - left(y, x)) + 2e-4 * ((3 * x + 5 * y) as f32).sin());
        let maps = Tensor::cat(&[&hair, &shirt, &nothing], 1);
        let contest = Contest::new(&maps, &alone(), 1, Roles::default())?;
        let told = contest.competitions(&names(&["hair", "shirt", "masterpiece"]))?;
        assert_eq!(told[0].rivals, ["shirt"]);
        assert_eq!(told[0].joined, [("masterpiece".to_owned(), "shirt".to_owned())]);
        assert_eq!(told[0].loudness, 1.0);
        let without = Contest::new(&Tensor::cat(&[&hair, &shirt], 1), &alone(), 1, Roles::default())?;
        assert_eq!(
            contest.ahead(1.5, None, GRID)?,
            without.ahead(1.5, None, GRID)?,
            "a word that shows nothing changes nothing"
        );
        Ok(())
    }

    #[test]
    fn things_with_a_place_of_their_own_compete() -> Result<()> {
        // The eyes fill 31 cells, and faintly 33 cells after them. The face fills all these cells, so the maps are
        // alike.
        let eyes = drawn(|y, x| match 16 * y + x {
            0..31 => 1.0,
            31..64 => 0.2,
            _ => 0.0,
        });
        let told = |cells: i64| -> Result<Competition> {
            let face = drawn(|y, x| if 16 * y + x < cells { 0.1 } else { 0.0 });
            let contest = Contest::new(&Tensor::cat(&[&eyes, &face], 1), &alone(), 1, Roles::default())?;
            Ok(contest.competitions(&names(&["eyes", "face"]))?.remove(0))
        };
        assert_eq!(told(64)?.rivals, ["face"], "33 of the face's 64 cells are outside the eyes");
        assert_eq!(told(60)?.joined.len(), 1, "29 of the face's 60 cells are outside the eyes");
        Ok(())
    }

    #[test]
    fn part_of_the_object_is_joined_to_the_phrase() -> Result<()> {
        let (hair, shirt) = (drawn(left), drawn(|y, x| 1.0 - left(y, x)));
        let ponytail = drawn(|y, x| 0.2 * left(y, x) * if y > 1 { 1.0 } else { 0.5 });
        let contest = Contest::new(&Tensor::cat(&[&hair, &shirt, &ponytail], 1), &alone(), 1, Roles::default())?;
        assert_eq!(
            contest.competitions(&names(&["hair", "shirt", "ponytail"]))?[0].joined,
            [("ponytail".to_owned(), "hair".to_owned())]
        );
        assert_eq!(contest.ahead(1.5, None, GRID)?.ge(0.5).sum(Kind::Int64).int64_value(&[]), 128);
        Ok(())
    }

    #[test]
    fn certain_rivals_compete_even_with_alike_maps() -> Result<()> {
        let (first, second) = (drawn(|y, x| left(y, x) * (y + 1) as f32), drawn(|y, x| left(y, x) * (y + 2) as f32));
        let maps = Tensor::cat(&[&first, &second], 1);
        let words = names(&["hat", "hat"]);
        assert_eq!(Contest::new(&maps, &alone(), 1, Roles::default())?.competitions(&words)?[0].joined.len(), 1);
        let both = Contest::new(&maps, &alone(), 1, Roles { certain: 1, ..Roles::default() })?;
        assert_eq!(both.competitions(&words)?[0].rivals, ["hat"]);
        let swapped =
            Contest::new(&Tensor::cat(&[&second, &first], 1), &alone(), 1, Roles { certain: 1, ..Roles::default() })?;
        let claims = |contest: &Contest| contest.ahead(1.5, None, GRID).unwrap().gt(0.5).to_kind(Kind::Float);
        assert_eq!((claims(&both) * claims(&swapped)).sum(Kind::Float).double_value(&[]), 0.0, "no cell is in both");
        Ok(())
    }

    #[test]
    fn words_that_follow_a_spared_word_are_joined() -> Result<()> {
        let (hair, shirt) = (drawn(left), drawn(|y, x| 1.0 - left(y, x)));
        let collar = drawn(|y, x| 0.1 * (1.0 - left(y, x)) * if y > 1 { 1.0 } else { 0.7 });
        let maps = Tensor::cat(&[&hair, &shirt, &collar], 1);
        let told = Contest::new(&maps, &alone(), 1, Roles { spared: 1, ..Roles::default() })?;
        let told = told.competitions(&names(&["hair", "shirt", "collar"]))?.remove(0);
        assert_eq!(told.rivals, [""; 0]);
        let joined = [("shirt", "hair"), ("collar", "shirt")].map(|(word, to)| (word.to_owned(), to.to_owned()));
        assert_eq!(told.joined, joined);
        // The louder of two words with alike maps competes, even if the fainter word is spared.
        let maps = Tensor::cat(&[&hair, &collar, &shirt], 1);
        let told = Contest::new(&maps, &alone(), 1, Roles { spared: 1, ..Roles::default() })?;
        assert_eq!(told.competitions(&names(&["hair", "collar", "shirt"]))?[0].rivals, ["shirt"]);
        Ok(())
    }

    #[test]
    fn change_finds_what_attention_misses() -> Result<()> {
        // Attention to the word "shirt" looks at the hair, which no word names.
        let (hair, shirt) = (drawn(left), drawn(|y, x| 1.0 - left(y, x)));
        let contest = Contest::new(&hair, &alone(), 1, Roles::default())?;
        let cells = |map: &Tensor, from| map.narrow(3, from, 8).ge(0.5).sum(Kind::Int64).int64_value(&[]);
        let alone = contest.ahead(1.5, None, GRID)?;
        assert_eq!((cells(&alone, 0), cells(&alone, 8)), (128, 0));
        let both = contest.ahead(1.5, Some(&shirt), GRID)?;
        assert_eq!((cells(&both, 0), cells(&both, 8)), (0, 128));
        // Change shows a bow and the hair around it, and attention the bow alone.
        let bow = |y, x| (7..9).contains(&y) && (3..5).contains(&x);
        let attention = drawn(|y, x| if bow(y, x) { 1.0 } else { 0.0 });
        let change = drawn(|y, x| if bow(y, x) { 1.0 } else { 0.8 * left(y, x) });
        let found = Contest::new(&attention, &self::alone(), 1, Roles::default())?;
        let found = found.ahead(1.5, Some(&change), GRID)?;
        assert_eq!((cells(&found, 0), cells(&found, 8)), (4, 0));
        let flat = Tensor::ones([1, 1, 16, 16], (Kind::Float, Device::Cpu));
        assert_eq!(contest.ahead(1.5, Some(&flat), GRID)?, alone, "a flat change says nothing");
        Ok(())
    }

    #[test]
    fn change_that_shows_a_smaller_thing_does_not_count() -> Result<()> {
        // "Red hair" would change the bow more than the hair.
        let is_bow = |y: i64, x: i64| (3..6).contains(&y) && (3..6).contains(&x);
        let hair = drawn(|y, x| if is_bow(y, x) { 0.0 } else { left(y, x) });
        let bow = drawn(|y, x| f32::from(u8::from(is_bow(y, x))));
        let change = drawn(|y, x| if is_bow(y, x) { 1.0 } else { 0.1 * left(y, x) });
        let contest = Contest::new(&Tensor::cat(&[&hair, &bow], 1), &alone(), 1, Roles::default())?;
        assert_eq!(contest.ahead(1.5, Some(&change), GRID)?, contest.ahead(1.5, None, GRID)?);
        // Without the word "bow", change decides.
        let unnamed = Contest::new(&hair, &alone(), 1, Roles::default())?.ahead(1.5, Some(&change), GRID)?.ge(0.5);
        assert_eq!(unnamed.sum(Kind::Int64).int64_value(&[]), 9);
        Ok(())
    }

    #[test]
    fn words_of_a_compound_share_no_cells() -> Result<()> {
        // Attention to "hair bow" is all over the hair, and a little stronger at the bow.
        let is_bow = |y: i64, x: i64| (2..5).contains(&y) && (2..5).contains(&x);
        let hair = drawn(|y, x| left(y, x) * (1.0 - 0.01 * y as f32) * if is_bow(y, x) { 0.9 } else { 1.0 });
        let bow = drawn(|y, x| if is_bow(y, x) { 1.0 } else { 0.4 * left(y, x) });
        let change = drawn(left);
        let cells = |roles: Roles| -> Result<i64> {
            let contest = Contest::new(&Tensor::cat(&[&bow, &hair], 1), &alone(), 0, roles)?;
            Ok(contest.ahead(1.5, Some(&change), GRID)?.ge(0.5).sum(Kind::Int64).int64_value(&[]))
        };
        assert_eq!(cells(Roles::default())?, 128, "any two words with such maps show one object");
        assert_eq!(cells(Roles { compound: 1, ..Roles::default() })?, 9, "\"hair bow\" and \"hair\"");
        Ok(())
    }

    #[test]
    fn only_maps_that_change_take_a_second_step() -> Result<()> {
        // Each cell attends to itself and to the eight cells around it.
        let near = |i: i64, j: i64| (i / 16 - j / 16).abs() <= 1 && (i % 16 - j % 16).abs() <= 1;
        let weights: Vec<f32> = (0..256 * 256).map(|at| f32::from(u8::from(near(at / 256, at % 256)))).collect();
        let attention = Tensor::from_slice(&weights).reshape([1, 256, 256]);
        let attention = &attention / attention.sum_dim_intlist([2i64].as_slice(), true, Kind::Float);
        let same = |map: &Tensor| -> Result<bool> {
            let ahead = |power| Contest::new(map, &attention, power, Roles::default())?.ahead(1.5, None, GRID);
            Ok((ahead(1)? - ahead(2)?).abs().max().double_value(&[]) < 1e-6)
        };
        assert!(same(&drawn(left))?, "a map that covers its object");
        assert!(!same(&drawn(|y, x| f32::from(u8::from((y, x) == (7, 7)))))?, "a spot");
        Ok(())
    }

    #[test]
    fn handicap_keeps_small_things_small() -> Result<()> {
        // An object of 4 × 4 cells with a blurred map, and everything else.
        let thing = Tensor::zeros([1, 1, 16, 16], (Kind::Float, Device::Cpu));
        let _ = thing.narrow(2, 6, 4).narrow(3, 6, 4).fill_(1.0);
        let seen = (0..4).fold(thing, |x, _| x.avg_pool2d([3; 2], [1; 2], [1; 2], false, true, None));
        let scores = deviations(&Tensor::cat(&[&seen, &(1.0 - &seen)], 1))?;
        let ahead = |scores: &Tensor| {
            let ahead = scores.select(1, 0).ge_tensor(&scores.select(1, 1));
            ahead.sum(Kind::Int64).int64_value(&[])
        };
        let (before, after) = (ahead(&scores), ahead(&handicapped(&scores)?));
        assert!(before > 55 && (16..=36).contains(&after), "{after} cells for an object of 16, {before} unhandicapped");
        Ok(())
    }

    #[test]
    fn background_peak_at_a_bow_claims_no_cell_there() -> Result<()> {
        let bow = |y, x| (7..9).contains(&y) && (11..13).contains(&x);
        let background = drawn(|y, x| match () {
            () if bow(y, x) => 4.0,
            () if x < 8 => 0.3,
            () => 0.0,
        });
        let person = drawn(|y, x| if x >= 8 && !bow(y, x) { 1.0 } else { 0.0 });
        let things = Tensor::cat(&[&background, &person, &drawn(|y, x| f32::from(u8::from(bow(y, x))))], 1);
        let found = Contest::new(&things, &alone(), 1, Roles::default())?.ahead(1.5, None, GRID)?.ge(0.5);
        let cells = |from| found.narrow(3, from, 8).sum(Kind::Int64).int64_value(&[]);
        assert_eq!((cells(0), cells(8)), (128, 0));
        Ok(())
    }

    #[test]
    fn floor_is_between_two_levels() -> Result<()> {
        let level = floor(&drawn(|y, x| 3.0 * left(y, x) + 0.1 * (y % 2) as f32))?.double_value(&[]);
        assert!((0.1..3.0).contains(&level), "{level}");
        let flat = Tensor::ones([1, 1, 4, 4], (Kind::Float, Device::Cpu));
        assert_eq!(floor(&flat)?.double_value(&[]), 1.0);
        Ok(())
    }
}
