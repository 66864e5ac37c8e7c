//! [`Crop`]: the part of a picture that is repainted at full size.

use crate::size::Size;
use serde::Serialize;

/// A part of a picture, in pixels from the upper left corner. The ends are exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Crop {
    pub(crate) left: u32,
    pub(crate) top: u32,
    pub(crate) right: u32,
    pub(crate) bottom: u32,
}

impl Crop {
    /// Returns the bounding box of pixels, which are numbered row by row in a picture of `width` columns; `None`
    /// without pixels.
    pub(crate) fn around(pixels: &[usize], width: u32) -> Option<Self> {
        let at = |pixel: &usize| ((pixel % width as usize) as u32, (pixel / width as usize) as u32);
        let one = |(x, y): (u32, u32)| Self { left: x, top: y, right: x + 1, bottom: y + 1 };
        pixels.iter().map(|pixel| one(at(pixel))).reduce(Self::with)
    }

    /// Returns the smallest part that contains both parts.
    pub(crate) fn with(self, other: Self) -> Self {
        Self {
            left: self.left.min(other.left),
            top: self.top.min(other.top),
            right: self.right.max(other.right),
            bottom: self.bottom.max(other.bottom),
        }
    }

    /// Returns the size of the part.
    pub(crate) const fn size(self) -> Size {
        Size { width: self.right - self.left, height: self.bottom - self.top }
    }

    /// Returns true if the middle of `other` lies in this part.
    pub(crate) const fn has_middle_of(self, other: Self) -> bool {
        let (x, y) = (u32::midpoint(other.left, other.right), u32::midpoint(other.top, other.bottom));
        self.left <= x && x < self.right && self.top <= y && y < self.bottom
    }

    /// Returns the part with `padding` more pixels on each side, within a picture of the size `all`.
    pub(crate) fn pad(self, padding: u32, all: Size) -> Self {
        Self {
            left: self.left.saturating_sub(padding),
            top: self.top.saturating_sub(padding),
            right: self.right.saturating_add(padding).min(all.width),
            bottom: self.bottom.saturating_add(padding).min(all.height),
        }
    }

    /// Returns the part enlarged to the aspect of `run`, as far as a picture of the size `all` has room.
    ///
    /// Source: "Only masked" of the AUTOMATIC1111 web UI.
    pub(crate) fn in_aspect_of(self, run: Size, all: Size) -> Self {
        let Size { width, height } = self.size();
        let aspect = f64::from(run.width) / f64::from(run.height.max(1));
        let mut crop = self;
        if f64::from(width) / f64::from(height.max(1)) > aspect {
            let wanted = (f64::from(width) / aspect) as u32;
            (crop.top, crop.bottom) = grown(self.top, self.bottom, wanted, all.height);
        } else {
            let wanted = (f64::from(height) * aspect) as u32;
            (crop.left, crop.right) = grown(self.left, self.right, wanted, all.width);
        }
        crop
    }
}

/// Returns an interval enlarged to `wanted` pixels around its middle, and moved and cut to lie in 0..`all`.
fn grown(start: u32, end: u32, wanted: u32, all: u32) -> (u32, u32) {
    let more = i64::from(wanted.saturating_sub(end - start));
    let (mut start, mut end, all) = (i64::from(start) - more / 2, i64::from(end) + more - more / 2, i64::from(all));
    let beyond = (end - all).max(0);
    (start, end) = (start - beyond, end - beyond);
    let before = (-start).max(0);
    (start, end) = (start + before, (end + before).min(all));
    (start as u32, end as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn crop([left, top, right, bottom]: [u32; 4]) -> Crop {
        Crop { left, top, right, bottom }
    }

    /// Numbers of the web UI's rule, and beside them the script that computed them.
    #[test]
    fn crops_equal_those_of_the_web_ui() {
        let golden: Value = serde_json::from_str(include_str!("../../tests/golden/specs/crop.json")).unwrap();
        let cases = golden["cases"].as_array().unwrap();
        assert!(cases.len() > 100);
        for case in cases {
            let numbers = |name: &str| -> Vec<u32> { serde_json::from_value(case[name].clone()).unwrap() };
            let four = |name: &str| crop(numbers(name).try_into().unwrap());
            let size = |name: &str| Size::new(numbers(name)[0], numbers(name)[1]);
            let padding = case["padding"].as_u64().unwrap() as u32;
            let padded = four("box").pad(padding, size("picture"));
            assert_eq!(padded, four("padded"), "{case}");
            assert_eq!(padded.in_aspect_of(size("run"), size("picture")), four("crop"), "{case}");
        }
    }

    #[test]
    fn box_contains_all_pixels() {
        assert_eq!(Crop::around(&[12, 23, 31], 10), Some(crop([1, 1, 4, 4])));
        assert_eq!(Crop::around(&[], 10), None);
    }

    #[test]
    fn middle_of_a_neighbor_is_recognized() {
        let face = crop([10, 10, 30, 30]);
        assert!(face.has_middle_of(crop([25, 10, 31, 20])) && !face.has_middle_of(crop([29, 10, 40, 20])));
    }
}
