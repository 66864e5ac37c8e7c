//! [`Scribble`]: random strokes of color over a picture.

use super::splitmix::SplitMix64;
use impasto::hint::Strokes;
use impasto::raster::Layer;
use impasto::{Error, Raster, Result, Size};
use std::ops::RangeInclusive;

/// Largest number of pixels that scribbles paint, about a second of work. A pixel that is painted twice counts twice.
const MOST_WORK: u64 = 1 << 26;

/// Random strokes over a picture, each a random walk in the picture's own colors: training data for a ControlNet.
#[derive(Clone, Debug)]
pub(super) struct Scribble {
    /// Range of the number of strokes, up to 10,000.
    pub(super) strokes: RangeInclusive<u32>,
    /// Range of the number of steps of a stroke, 1 to 1,000,000. A stroke ends at the border of the picture.
    pub(super) length: RangeInclusive<u32>,
    /// Thicknesses in pixels, up to 64; each stroke gets one of them at random. 0 and 1 are the same.
    pub(super) thickness: Vec<u32>,
    /// Probability that the strokes are blurred, 0..=1.
    pub(super) blurred: f64,
    /// Smallest and largest deviation of the blur in pixels, above 0 and up to 64.
    pub(super) blur: (f64, f64),
}

impl Scribble {
    /// Returns settings for pictures whose shorter side is `side` pixels: 1 to 8 strokes. Strokes have 200 to 1000
    /// steps for a side of 512 pixels or more, and 35 to 177 steps for a side of 128 pixels.
    pub(super) fn for_side(side: u32) -> Self {
        // The area of a random walk grows with its length.
        let share = (f64::from(side) / 512.0).powf(1.25).min(1.0);
        let steps = |most: f64| ((most * share).round() as u32).max(1);
        Self {
            strokes: 1..=8,
            length: steps(200.0)..=steps(1000.0),
            thickness: vec![0, 1, 2, 3],
            blurred: 0.3,
            blur: (0.5, 2.0),
        }
    }

    /// Draws strokes over a picture. A seed makes the same strokes on every machine.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a setting out of its range, or a picture without pixels.
    ///
    /// Source: "Coloring with ControlNet" (2024); number, length and blur of strokes are this crate's own.
    pub(super) fn draw(&self, picture: &Raster, seed: u64) -> Result<Strokes> {
        self.check(picture.size())?;
        let Size { width, height } = picture.size();
        let mut random = SplitMix64::new(seed);
        let between = |random: &mut SplitMix64, range: &RangeInclusive<u32>| {
            range.start() + random.below(range.end() - range.start() + 1)
        };
        let mut layer = Layer::new(picture.size());
        for _ in 0..between(&mut random, &self.strokes) {
            let walk = walk(&mut random, picture.size(), &self.length);
            let number = random.below(self.thickness.len() as u32) as usize;
            let thickness = self.thickness.get(number).copied().unwrap_or(1).max(1);
            // A square with an even side reaches one pixel further down and to the right.
            let (before, after) = (thickness - 1 - thickness / 2, thickness / 2);
            for (x, y) in walk {
                for y in y.saturating_sub(before)..(y + after + 1).min(height) {
                    for x in x.saturating_sub(before)..(x + after + 1).min(width) {
                        picture.pixel(x, y).into_iter().for_each(|color| layer.set(x, y, color, 255));
                    }
                }
            }
        }
        let (low, high) = self.blur;
        let blur = (random.unit() < self.blurred).then(|| low + (high - low) * random.unit());
        let strokes = Strokes::of(layer);
        Ok(match blur {
            Some(sigma) => strokes.blur(sigma),
            None => strokes,
        })
    }

    fn check(&self, size: Size) -> Result<()> {
        let Self { strokes, length, thickness, blurred, blur: (low, high) } = self;
        if size.width == 0 || size.height == 0 {
            return Err(Error::parameter("the picture's size", size, "at least one pixel"));
        }
        if strokes.is_empty() || *strokes.end() > 10_000 {
            let expected = "a range of counts that is not empty and ends at 10,000 or less";
            return Err(Error::parameter("strokes", format!("{strokes:?}"), expected));
        }
        if length.is_empty() || *length.start() == 0 || *length.end() > 1_000_000 {
            let expected = "a range of steps that is not empty, begins at 1 or more and ends at 1,000,000 or less";
            return Err(Error::parameter("length", format!("{length:?}"), expected));
        }
        if thickness.is_empty() || thickness.iter().any(|pixels| *pixels > 64) {
            return Err(Error::parameter(
                "thickness",
                format!("{thickness:?}"),
                "at least one thickness, each 0 to 64 pixels",
            ));
        }
        // Each pixel of a walk is painted as a square.
        let square = thickness.iter().max().map_or(1, |pixels| u64::from(*pixels).pow(2).max(1));
        let work = u64::from(*strokes.end()) * u64::from(*length.end()) * square;
        if work > MOST_WORK {
            let value = format!("{strokes:?} of {length:?} steps, {square} pixels each");
            let expected = format!("at most {MOST_WORK} pixels to paint in all; lower strokes, length or thickness");
            return Err(Error::parameter("strokes", value, expected));
        }
        if !(0.0..=1.0).contains(blurred) {
            return Err(Error::parameter("blurred", blurred, "a probability in 0..=1; .3 is usual"));
        }
        if !(*low > 0.0 && low <= high && *high <= 64.0) {
            let expected = "two deviations above 0 and up to 64 pixels, the smaller one first; .5 and 2 are usual";
            return Err(Error::parameter("blur", format!("{low} to {high}"), expected));
        }
        Ok(())
    }
}

/// Steps to the eight neighbors, (dy, dx).
const DIRECTIONS: [(i64, i64); 8] = [(-1, 0), (0, -1), (0, 1), (1, 0), (-1, -1), (-1, 1), (1, -1), (1, 1)];

/// Returns the pixels (x, y) of a random walk from a random pixel, without the start. The walk ends at the border, or
/// after a random number of steps in `length`. The random numbers for all steps are drawn, even for steps beyond the
/// border. A stroke therefore does not depend on where an earlier stroke ended.
fn walk(random: &mut SplitMix64, size: Size, length: &RangeInclusive<u32>) -> Vec<(u32, u32)> {
    let (mut y, mut x) = (i64::from(random.below(size.height)), i64::from(random.below(size.width)));
    let (mut points, mut inside) = (Vec::new(), true);
    for _ in 0..length.start() + random.below(length.end() - length.start() + 1) {
        let (dy, dx) = DIRECTIONS.get(random.below(8) as usize).copied().unwrap_or_default();
        (y, x) = (y + dy, x + dx);
        inside &= (0..i64::from(size.height)).contains(&y) && (0..i64::from(size.width)).contains(&x);
        if inside {
            points.push((x as u32, y as u32));
        }
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;
    use impasto::Rgb;
    use impasto::hint::{Drawing, Sketch};
    use serde_json::Value;
    use tch::{Kind, Tensor};

    fn golden() -> Value {
        serde_json::from_str(include_str!("../../../tests/golden/specs/strokes.json")).unwrap()
    }

    /// A picture with r = 8x, g = 10y, b = 255 − 4x − 3y.
    fn slope() -> Raster {
        let mut picture = Raster::flat(Rgb(0, 0, 0), (32, 24));
        for (x, y) in (0..24).flat_map(|y| (0..32).map(move |x| (x, y))) {
            picture.set(x, y, Rgb(8 * x as u8, (10 * y) as u8, (255 - 4 * x - 3 * y) as u8));
        }
        picture
    }

    fn scribble(params: &Value) -> Scribble {
        let number = |value: &Value| value.as_u64().unwrap() as u32;
        let range = |value: &Value| number(&value[0])..=number(&value[1]);
        Scribble {
            strokes: range(&params["strokes"]),
            length: range(&params["length"]),
            thickness: params["thickness"].as_array().unwrap().iter().map(number).collect(),
            blurred: params["blur_prob"].as_f64().unwrap(),
            blur: (params["blur_sigma"][0].as_f64().unwrap(), params["blur_sigma"][1].as_f64().unwrap()),
        }
    }

    #[test]
    fn scribbles_equal_the_reference() -> Result<()> {
        for case in golden()["cases"].as_array().unwrap() {
            let strokes = scribble(&case["params"]).draw(&slope(), case["seed"].as_u64().unwrap())?;
            let sharp = Strokes::of(strokes.layer().clone());
            let want = match case["blur_sigma"].as_f64() {
                Some(sigma) => sharp.blur(sigma),
                None => sharp,
            };
            assert!(strokes == want, "the strokes have another blur than {}", case["blur_sigma"]);
            for (y, row) in case["alpha_rows"].as_array().unwrap().iter().enumerate() {
                let alpha = |x| if strokes.layer().pixel(x, y as u32).unwrap().1 == 255 { '#' } else { '.' };
                assert_eq!((0..32).map(alpha).collect::<String>(), row.as_str().unwrap(), "row {y}");
            }
            for (channel, sum) in case["rgba_sum"].as_array().unwrap().iter().enumerate() {
                let got: u64 =
                    strokes.layer().bytes().iter().skip(channel).step_by(4).map(|value| u64::from(*value)).sum();
                assert_eq!(got, sum.as_u64().unwrap());
            }
            if case["blur_sigma"].is_null() {
                continue;
            }
            let size = Size::new(32, 24);
            let seen = Drawing { sketch: Sketch::blank(size), strokes }.hint(size)?.narrow(1, 1, 4);
            let near = |got: &Tensor, want: &Value| {
                let got = Vec::<f64>::try_from(got.to_kind(Kind::Double).contiguous().view(-1)).unwrap();
                let want: Vec<f64> = want.as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect();
                assert_eq!(got.len(), want.len());
                got.iter()
                    .zip(&want)
                    .for_each(|(got, want)| assert!((got - want).abs() < 1e-6 * (1.0 + want), "{got} {want}"));
            };
            near(&seen.select(2, 0).permute([0, 2, 1]), &case["blurred_first_row"]);
            near(&seen.select(2, 12).permute([0, 2, 1]), &case["blurred_mid_row"]);
            near(
                &seen.to_kind(Kind::Double).sum_dim_intlist([0i64, 2, 3].as_slice(), false, Kind::Double),
                &case["blurred_sum"],
            );
        }
        Ok(())
    }

    #[test]
    fn walks_equal_the_reference() {
        for case in golden()["cases"].as_array().unwrap() {
            let scribble = scribble(&case["params"]);
            let mut random = SplitMix64::new(case["seed"].as_u64().unwrap());
            let _ = random.below(scribble.strokes.end() - scribble.strokes.start() + 1);
            for stroke in case["strokes"].as_array().unwrap() {
                let walk = walk(&mut random, Size::new(32, 24), &scribble.length);
                assert_eq!(walk.len() as u64, stroke["kept"].as_u64().unwrap());
                for (point, head) in walk.iter().zip(stroke["head"].as_array().unwrap()) {
                    assert_eq!(
                        (u64::from(point.1), u64::from(point.0)),
                        (head[0].as_u64().unwrap(), head[1].as_u64().unwrap())
                    );
                }
                let thickness = scribble.thickness[random.below(scribble.thickness.len() as u32) as usize];
                assert_eq!(u64::from(thickness), stroke["thickness"].as_u64().unwrap());
            }
        }
    }

    #[test]
    fn usual_lengths_follow_the_size() {
        assert_eq!(Scribble::for_side(512).length, 200..=1000);
        assert_eq!(Scribble::for_side(2048).length, 200..=1000);
        let small = Scribble::for_side(128).length;
        assert!((30..=40).contains(small.start()) && (170..=200).contains(small.end()), "{small:?}");
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let usual = || Scribble::for_side(64);
        let says = |scribble: Scribble, name: &str| {
            let error = scribble.draw(&slope(), 1).unwrap_err().to_string();
            assert!(error.starts_with(name), "{error}");
        };
        #[allow(clippy::reversed_empty_ranges)]
        says(Scribble { strokes: 3..=2, ..usual() }, "strokes");
        says(Scribble { length: 0..=9, ..usual() }, "length");
        says(Scribble { thickness: vec![], ..usual() }, "thickness");
        says(Scribble { thickness: vec![65], ..usual() }, "thickness");
        says(Scribble { strokes: 1..=9_999, length: 1..=999_999, ..usual() }, "strokes");
        says(Scribble { blurred: 1.5, ..usual() }, "blurred");
        says(Scribble { blur: (0.0, 1.0), ..usual() }, "blur");
        says(Scribble { blur: (2.0, f64::NAN), ..usual() }, "blur");
        let empty = usual().draw(&Raster::flat(Rgb(0, 0, 0), (0, 4)), 1).unwrap_err().to_string();
        assert!(empty.contains("at least one pixel"), "{empty}");
    }
}
