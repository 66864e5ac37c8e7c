//! Filling the part under a mask with the colors around, as the web UI does.

use impasto::image::imageops::{self, FilterType};
use impasto::image::{DynamicImage, GrayImage, Rgb, RgbImage, Rgba, Rgba32FImage};

/// Deviations of the blurs in pixels, each with the number of times that the blurred picture is laid over the former
/// ones. The last one is the picture itself.
const BLURS: [(f32, usize); 6] = [(256.0, 1), (64.0, 1), (16.0, 2), (4.0, 4), (2.0, 2), (0.0, 1)];

/// Fills the white part of a mask with the colors around it, which are the more blurred the farther they are. A mask of
/// another size is resized. A picture that is masked everywhere becomes black.
///
/// Source: `fill` in `modules/masking.py` of stable-diffusion-webui 1.10.
pub(super) fn fill(picture: &DynamicImage, mask: &GrayImage) -> RgbImage {
    let picture = picture.to_rgba8();
    let (width, height) = picture.dimensions();
    let resized =
        (mask.dimensions() != (width, height)).then(|| imageops::resize(mask, width, height, FilterType::Triangle));
    let mask = resized.as_ref().unwrap_or(mask);
    // Colors are multiplied by their opacity, so that a blur mixes no color of a masked pixel.
    let kept = Rgba32FImage::from_fn(width, height, |x, y| {
        let [r, g, b, a] = picture.get_pixel(x, y).0.map(|channel| f32::from(channel) / 255.0);
        let opacity = a * (1.0 - f32::from(mask.get_pixel(x, y).0[0]) / 255.0);
        Rgba([r * opacity, g * opacity, b * opacity, opacity])
    });
    let mut filled = Rgba32FImage::new(width, height);
    for (deviation, times) in BLURS {
        let blurred = (deviation > 0.0).then(|| imageops::fast_blur(&kept, deviation));
        let over = blurred.as_ref().unwrap_or(&kept);
        for _ in 0..times {
            for (below, above) in filled.pixels_mut().zip(over.pixels()) {
                let [.., opacity] = above.0;
                below.0.iter_mut().zip(above.0).for_each(|(below, above)| *below = above + *below * (1.0 - opacity));
            }
        }
    }
    RgbImage::from_fn(width, height, |x, y| {
        let [r, g, b, opacity] = filled.get_pixel(x, y).0;
        let channel = |value: f32| (255.0 * value / opacity.max(1e-6)).clamp(0.0, 255.0).round() as u8;
        Rgb([channel(r), channel(g), channel(b)])
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use impasto::image::Luma;

    /// A red half and a blue half, with a green square in the middle of the red one.
    fn picture() -> DynamicImage {
        RgbImage::from_fn(64, 64, |x, y| match (x, y) {
            (10..20, 10..20) => Rgb([0, 255, 0]),
            (..32, _) => Rgb([200, 30, 30]),
            _ => Rgb([30, 30, 200]),
        })
        .into()
    }

    #[test]
    fn masked_part_takes_the_colors_around() {
        let mask = |size: u32| {
            let scale = size / 64;
            GrayImage::from_fn(size, size, move |x, y| {
                Luma([if (8..22).contains(&(x / scale)) && (8..22).contains(&(y / scale)) { 255 } else { 0 }])
            })
        };
        for size in [64, 128] {
            let filled = fill(&picture(), &mask(size));
            let Rgb([r, g, b]) = *filled.get_pixel(15, 15);
            assert!(r > 150 && g < 45 && b < 80, "{r} {g} {b}");
            assert_eq!(filled.get_pixel(40, 15), &Rgb([30, 30, 200]), "other pixels stay");
        }
    }

    #[test]
    fn whole_mask_leaves_black() {
        let filled = fill(&picture(), &GrayImage::from_pixel(64, 64, Luma([255])));
        assert!(filled.pixels().all(|pixel| *pixel == Rgb([0, 0, 0])));
    }
}
