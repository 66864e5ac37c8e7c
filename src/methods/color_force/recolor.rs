//! Recoloring: a picture in which an object's material has another color and the same shades.

use crate::color::{Lab, Rgb, labs};
use crate::error::Result;
use crate::mask::{Material, Matte};
use tch::{Device, Kind, Tensor};

/// Recolors an object's material in a picture, [n or 1, 3, H, W] in -1..=1 → [n, 3, H, W].
pub(super) fn recolor(picture: &Tensor, matte: &Matte, asked: Rgb) -> Result<Tensor> {
    let (n, _, h, w) = matte.material.size4()?;
    let pictures = picture.size4()?.0;
    let asked = asked.lab();
    let mut images = Vec::new();
    for image in 0..n {
        let picture = picture.f_select(0, image.min(pictures - 1))?.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?;
        let floats = |x: &Tensor| -> Result<Vec<f32>> { Ok(Vec::try_from(&x.f_select(0, image)?.f_flatten(0, -1)?)?) };
        let (shares, materials) = (floats(&matte.share)?, floats(&matte.material)?);
        let pixels = (h * w) as usize;
        let channel = |c: usize, at: usize| materials.get(c * pixels + at).copied().map_or(0.0, f64::from);
        let mut change = vec![0f32; 3 * pixels];
        for (at, (color, share)) in labs(&picture)?.iter().zip(&shares).enumerate() {
            if *share <= 0.0 {
                continue;
            }
            let material = Lab { l: channel(0, at), a: channel(1, at), b: channel(2, at) };
            let moved = moved(*color, material, asked, f64::from(*share));
            for (c, moved) in moved.into_iter().enumerate() {
                change.get_mut(c * pixels + at).into_iter().for_each(|change| *change = 2.0 * share * moved as f32);
            }
        }
        let change = Tensor::f_from_slice(&change)?.f_reshape([3, h, w])?;
        images.push(picture.f_add(&change)?.f_clamp(-1.0, 1.0)?);
    }
    Ok(Tensor::f_stack(&images, 0)?)
}

/// Largest factor by which shades are stronger in the new color.
const CONTRAST: f64 = 2.0;

/// Share of a pixel that is the material up to which the pixel's color is a mixture, and from which it is a shade.
const MIXED: (f64, f64) = (0.5, 0.9);

/// Returns the change of the material's color in a pixel, in sRGB of 0..=1, if the material becomes `asked`. A pixel
/// with other things has the material's own color in its `share`, because a mixture tells nothing of shades.
fn moved(color: Lab, material: Lab, asked: Lab, share: f64) -> [f64; 3] {
    let is_pure = ((share - MIXED.0) / (MIXED.1 - MIXED.0)).clamp(0.0, 1.0);
    let is_shade = is_pure * ((1.6 - Material(material).distance(&color)) / 0.6).clamp(0.0, 1.0);
    let change = |from: Lab, to: Lab| {
        let ([r, g, b], [to_r, to_g, to_b]) = (from.to_srgb(), to.to_srgb());
        [to_r - r, to_g - g, to_b - b]
    };
    let mixed = |own: f64, plain: f64| is_shade * own + (1.0 - is_shade) * plain;
    let ([r, g, b], [plain_r, plain_g, plain_b]) =
        (change(color, shade(color, material, asked)), change(material, asked));
    [mixed(r, plain_r), mixed(g, plain_g), mixed(b, plain_b)]
}

/// Returns `asked` in the light that falls on `color`, a shade of `material`.
fn shade(color: Lab, material: Lab, asked: Lab) -> Lab {
    let light = Material(material).light(&color);
    let gain = (CONTRAST * (material.l + 16.0) / (asked.l + 16.0)).min(1.0);
    let l = if light <= 1.0 { light.powf(gain) * (asked.l + 16.0) - 16.0 } else { asked.l + color.l - material.l };
    let l = l.clamp(0.0, 100.0);
    let chroma =
        if l <= asked.l { (l + 16.0) / (asked.l + 16.0) } else { ((100.0 - l) / (100.0 - asked.l)).max(0.0).sqrt() };
    Lab { l, a: asked.a * chroma, b: asked.b * chroma }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLUE: Rgb = Rgb(40, 70, 190);
    const GOLD: Rgb = Rgb(255, 215, 0);

    /// Recolors one row of pixels, whose material is `material`, to gold.
    fn gold(pixels: &[Rgb], shares: &[f32], material: Rgb) -> Result<Vec<Rgb>> {
        let w = pixels.len() as i64;
        let colors: Vec<f32> = pixels.iter().flat_map(|Rgb(r, g, b)| [*r, *g, *b]).map(f32::from).collect();
        let picture = (Tensor::from_slice(&colors) / 127.5 - 1.0).reshape([w, 3]).transpose(0, 1).reshape([1, 3, 1, w]);
        let Lab { l, a, b } = material.lab();
        let material = Tensor::from_slice(&[l as f32, a as f32, b as f32]).reshape([1, 3, 1, 1]);
        let share = Tensor::from_slice(shares).reshape([1, 1, 1, w]);
        let material = material.expand([1, 3, 1, w], false).contiguous();
        let matte = Matte { share, material, unclear: vec![false] };
        let painted = recolor(&picture, &matte, GOLD)?;
        let bytes = ((painted + 1.0) * 127.5).round().reshape([3, w]).transpose(0, 1).contiguous().flatten(0, -1);
        let bytes = Vec::<f32>::try_from(bytes).map_err(crate::error::Error::from)?;
        Ok(bytes.chunks_exact(3).map(|c| Rgb(c[0] as u8, c[1] as u8, c[2] as u8)).collect())
    }

    #[test]
    fn material_becomes_the_color_asked_for() -> Result<()> {
        let found = gold(&[BLUE, BLUE], &[1.0, 0.0], BLUE)?;
        assert!(found[0].lab().delta_e(GOLD.lab()) < 0.5, "{found:?}");
        assert_eq!(found[1], BLUE, "nothing else changes");
        Ok(())
    }

    #[test]
    fn shades_stay_shades() -> Result<()> {
        let (shade, light) = (Rgb(25, 45, 130), Rgb(110, 135, 225));
        let found: Vec<Lab> = gold(&[shade, BLUE, light], &[1.0; 3], BLUE)?.iter().map(|color| color.lab()).collect();
        assert!(found[0].l < found[1].l - 5.0 && found[2].l > found[1].l + 2.0, "{found:?}");
        let hue = |lab: &Lab| lab.b.atan2(lab.a).to_degrees();
        assert!((hue(&found[0]) - hue(&found[1])).abs() < 8.0, "a shade of gold has gold's hue: {found:?}");
        let chroma = |lab: &Lab| lab.a.hypot(lab.b);
        assert!(chroma(&found[0]) < chroma(&found[1]) && chroma(&found[2]) < chroma(&found[1]), "{found:?}");
        Ok(())
    }

    #[test]
    fn pixels_between_two_colors_stay_between_them() -> Result<()> {
        // Half material, half skin: the skin's half keeps its color.
        let half = |Rgb(r, g, b): Rgb, Rgb(x, y, z): Rgb| {
            let mean = |a: u8, b: u8| a.midpoint(b);
            Rgb(mean(r, x), mean(g, y), mean(b, z))
        };
        let skin = Rgb(240, 190, 160);
        let found = gold(&[half(BLUE, skin)], &[0.5], BLUE)?;
        assert!(found[0].lab().delta_e(half(GOLD, skin).lab()) < 3.0, "{found:?}");
        Ok(())
    }

    #[test]
    fn black_and_white_stay_within_the_gamut() -> Result<()> {
        for (material, pixels) in [
            (Rgb(8, 8, 10), [Rgb(0, 0, 0), Rgb(40, 40, 44)]),
            (Rgb(250, 250, 250), [Rgb(255, 255, 255), Rgb(200, 200, 204)]),
        ] {
            let found = gold(&[material, pixels[0], pixels[1]], &[1.0; 3], material)?;
            assert!(found[0].lab().delta_e(GOLD.lab()) < 0.6, "{material:?}: {found:?}");
        }
        Ok(())
    }
}
