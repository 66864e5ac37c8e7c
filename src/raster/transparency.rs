//! Transparent pictures without alpha: over a background, or as masks.

use crate::color::Rgb;
use image::{DynamicImage, RgbImage, Rgba, RgbaImage};

/// The treatment of transparency when a picture was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Transparency {
    /// No pixel was visibly transparent.
    #[default]
    None,
    /// Transparent parts became white.
    OverWhite,
    /// Transparent parts became black, because all other parts are white.
    OverBlack,
    /// Opaque parts became the white of a mask.
    OpaqueInMask,
    /// Transparent parts became the white of a mask.
    TransparentInMask,
    /// Transparent parts became the black of a mask, which has white and black of its own.
    TransparentOffMask,
}

/// Smallest alpha that counts as opaque. Programs that resize pictures leave an alpha of 254 where it was 255, and no
/// eye sees the background through such a pixel.
const OPAQUE: u8 = 250;
const WHITE: Rgb = Rgb(255, 255, 255);
const BLACK: Rgb = Rgb(0, 0, 0);
/// Smallest channel value of a color that is lost on white.
const LIGHTEST: u8 = 224;
/// Largest channel value of a dark color.
const DARKEST: u8 = 127;
/// Largest difference of channel values that count as equal.
const SAME: u8 = 32;
/// Smallest difference of the highest and the lowest alpha at which alpha is a shape.
const LEAST_CONTRAST: u8 = 64;

/// Returns the picture mixed with a background of one color.
pub(super) fn over(picture: &RgbaImage, background: Rgb) -> RgbImage {
    let Rgb(red, green, blue) = background;
    let mut mixture = RgbImage::from_pixel(picture.width(), picture.height(), image::Rgb([red, green, blue]));
    for (image::Rgb(below), Rgba([colors @ .., alpha])) in mixture.pixels_mut().zip(picture.pixels()) {
        below.iter_mut().zip(colors).for_each(|(below, above)| *below = mix(*above, *below, *alpha));
    }
    mixture
}

/// Mixes two channel values: (above·α + below·(255 − α))/255, rounded to nearest.
fn mix(above: u8, below: u8, alpha: u8) -> u8 {
    let (above, below, alpha) = (u32::from(above), u32::from(below), u32::from(alpha));
    ((above * alpha + below * (255 - alpha) + 127) / 255) as u8
}

/// Returns the picture without alpha. Transparent parts become white. If all other parts are white, as of white lines,
/// transparent parts become black.
pub(super) fn flatten(picture: DynamicImage) -> (RgbImage, Transparency) {
    if !picture.color().has_alpha() {
        return (picture.into_rgb8(), Transparency::None);
    }
    let picture = picture.into_rgba8();
    let seen = Seen::of(&picture);
    let is_light = seen.count > 0 && seen.least.iter().all(|value| *value >= LIGHTEST);
    let (background, transparency) = match seen.lowest {
        OPAQUE.. => (WHITE, Transparency::None),
        _ if is_light => (BLACK, Transparency::OverBlack),
        _ => (WHITE, Transparency::OverWhite),
    };
    (over(&picture, background), transparency)
}

/// Returns the mask that a picture shows; see [`Layer::mask`](super::Layer::mask).
pub(super) fn read_mask(picture: &RgbaImage) -> (RgbImage, Transparency) {
    let seen = Seen::of(picture);
    let is_shape = seen.highest - seen.lowest >= LEAST_CONTRAST;
    let is_plain = seen.least.iter().zip(seen.most).all(|(least, most)| most.saturating_sub(*least) <= SAME);
    let is_dark = seen.most.iter().all(|value| *value <= DARKEST);
    let transparency = match (is_shape, is_plain, seen.is_gray) {
        (false, ..) if seen.lowest >= OPAQUE => Transparency::None,
        (false, ..) | (true, false, true) => Transparency::TransparentOffMask,
        // A hole: in black, as ComfyUI and GIMP write masks, or in the picture itself.
        (true, true, true) if is_dark => Transparency::TransparentInMask,
        (true, false, false) => Transparency::TransparentInMask,
        (true, true, _) => Transparency::OpaqueInMask,
    };
    let white: &dyn Fn(u8) -> u8 = match transparency {
        Transparency::OpaqueInMask => &|alpha| seen.scaled(alpha),
        Transparency::TransparentInMask => &|alpha| 255 - seen.scaled(alpha),
        _ => return (over(picture, BLACK), transparency),
    };
    let mut mask = RgbImage::new(picture.width(), picture.height());
    for (shade, Rgba([.., alpha])) in mask.pixels_mut().zip(picture.pixels()) {
        *shade = image::Rgb([white(*alpha); 3]);
    }
    (mask, transparency)
}

/// Alpha of a picture, and the colors that are seen: those of pixels with at least half of the highest alpha.
struct Seen {
    /// Lowest alpha.
    lowest: u8,
    /// Highest alpha.
    highest: u8,
    /// Number of pixels that are seen.
    count: usize,
    /// Lowest value of each channel that is seen.
    least: [u8; 3],
    /// Highest value of each channel that is seen.
    most: [u8; 3],
    /// True if no pixel that is seen has a hue.
    is_gray: bool,
}

impl Seen {
    fn of(picture: &RgbaImage) -> Self {
        let alpha = || picture.pixels().map(|Rgba([.., alpha])| *alpha);
        let (lowest, highest) = (alpha().min().unwrap_or(255), alpha().max().unwrap_or(255));
        let mut seen = Self { lowest, highest, count: 0, least: [255; 3], most: [0; 3], is_gray: true };
        let is_seen = |pixel: &&Rgba<u8>| matches!(pixel, Rgba([.., alpha]) if *alpha >= highest.div_ceil(2).max(1));
        for &Rgba([red, green, blue, _]) in picture.pixels().filter(is_seen) {
            let color = [red, green, blue];
            for ((least, most), value) in seen.least.iter_mut().zip(&mut seen.most).zip(color) {
                (*least, *most) = (value.min(*least), value.max(*most));
            }
            seen.is_gray &= red.max(green).max(blue) - red.min(green).min(blue) <= SAME;
            seen.count += 1;
        }
        seen
    }

    /// Returns alpha scaled so that the lowest becomes 0 and the highest 255.
    fn scaled(&self, alpha: u8) -> u8 {
        let [above, range] = [alpha.saturating_sub(self.lowest), self.highest - self.lowest].map(u32::from);
        (above * 255 / range.max(1)).min(255) as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns three pixels: the first is the most transparent, and the last the least.
    fn picture(colors: [[u8; 3]; 3], alpha: [u8; 3]) -> RgbaImage {
        let bytes = colors.iter().zip(alpha).flat_map(|([r, g, b], alpha)| [*r, *g, *b, alpha]).collect();
        RgbaImage::from_raw(3, 1, bytes).unwrap()
    }

    /// Returns the red values of the pixels.
    fn red((picture, transparency): (RgbImage, Transparency)) -> (Vec<u8>, Transparency) {
        (picture.pixels().map(|pixel| pixel.0[0]).collect(), transparency)
    }

    fn opened(colors: [[u8; 3]; 3], alpha: [u8; 3]) -> (Vec<u8>, Transparency) {
        red(flatten(DynamicImage::ImageRgba8(picture(colors, alpha))))
    }

    #[test]
    fn transparent_parts_of_a_picture_become_white() {
        assert_eq!(opened([[0; 3]; 3], [0, 51, 255]), (vec![255, 204, 0], Transparency::OverWhite));
        assert_eq!(opened([[0; 3]; 3], [0; 3]), (vec![255; 3], Transparency::OverWhite));
        assert_eq!(opened([[0; 3], [7; 3], [255; 3]], [255; 3]), (vec![0, 7, 255], Transparency::None));
        assert_eq!(opened([[0; 3], [7; 3], [255; 3]], [254, 253, 255]), (vec![1, 9, 255], Transparency::None));
        let (least, most) = (RgbaImage::new(0, 0), DynamicImage::ImageLuma8(image::GrayImage::new(1, 1)));
        assert_eq!(red(flatten(least.into())), (vec![], Transparency::None));
        assert_eq!(red(flatten(most)), (vec![0], Transparency::None));
    }

    #[test]
    fn white_lines_are_seen_on_black() {
        for hidden in [[0; 3], [255; 3]] {
            let lines = opened([hidden, [255; 3], [250; 3]], [0, 51, 255]);
            assert_eq!(lines, (vec![0, 51, 250], Transparency::OverBlack));
        }
    }

    #[test]
    fn masks_are_read_from_alpha_if_color_is_plain() {
        for (colors, white, transparency) in [
            ([[255; 3]; 3], [0, 102, 255], Transparency::OpaqueInMask),
            ([[0; 3], [255; 3], [255; 3]], [0, 102, 255], Transparency::OpaqueInMask),
            ([[200, 0, 0]; 3], [0, 102, 255], Transparency::OpaqueInMask),
            ([[0; 3]; 3], [255, 153, 0], Transparency::TransparentInMask),
        ] {
            assert_eq!(red(read_mask(&picture(colors, [0, 102, 255]))), (white.to_vec(), transparency), "{colors:?}");
        }
        // The strongest stroke of a faint mask counts as opaque.
        assert_eq!(red(read_mask(&picture([[255; 3]; 3], [0, 40, 80]))).0, [0, 127, 255]);
    }

    #[test]
    fn masks_with_colors_keep_their_meaning() {
        let opaque = read_mask(&picture([[0; 3], [90; 3], [255; 3]], [255; 3]));
        assert_eq!(red(opaque), (vec![0, 90, 255], Transparency::None));
        let nearly_opaque = read_mask(&picture([[0; 3], [90; 3], [255; 3]], [254; 3]));
        assert_eq!(red(nearly_opaque), (vec![0, 90, 254], Transparency::None));
        let black_and_white = read_mask(&picture([[255; 3], [0; 3], [255; 3]], [0, 255, 255]));
        assert_eq!(red(black_and_white), (vec![0, 0, 255], Transparency::TransparentOffMask));
        let picture_with_a_hole = read_mask(&picture([[0; 3], [30, 90, 200], [200, 90, 30]], [0, 255, 255]));
        assert_eq!(red(picture_with_a_hole), (vec![255, 0, 0], Transparency::TransparentInMask));
    }
}
