//! Pictures that are encoded and decoded in tiles, compared with the same pictures whole.

use impasto::diffusion::Noise;
use impasto::nn::Tiling;
use impasto::wording::Note;
use impasto::{Codec, LoadOptions, Model, Pipeline, Raster, Result, Rgb, Source};
use tch::{Device, Kind, Tensor};

/// Bytes that decoding with the embedded model takes for a cell: three tensors of 32 channels, 8 × 8 pixels, f32.
const BYTES: u64 = 3 * 32 * 64 * 4;

fn model(tiling: Tiling) -> Result<Model> {
    let mut options = LoadOptions::default();
    options.tiling = tiling;
    Model::load_with(&Source::embedded(), options)
}

/// A picture of flat blocks, where seams between tiles show most.
fn picture(h: u32, w: u32) -> Result<Tensor> {
    let mut picture = Raster::flat(Rgb(90, 140, 200), (w, h));
    picture.paste(&Raster::flat(Rgb(220, 60, 40), (9 * w / 16, 3 * h / 8)), w / 6, h / 4);
    picture.paste(&Raster::flat(Rgb(240, 220, 90), (w / 4, h / 4)), 5 * w / 8, h / 8);
    picture.to_tensor(Device::Cpu)
}

/// The mean and the largest absolute difference of `a` and `b`.
fn off(a: &Tensor, b: &Tensor) -> (f64, f64) {
    let off = (a - b).abs();
    (off.mean(Kind::Float).double_value(&[]), off.max().double_value(&[]))
}

/// Decodes 24 × 20 cells in tiles of 16 × 16 cells, which overlap by 8.
#[test]
fn tiled_picture_nearly_equals_the_whole_picture() -> Result<()> {
    let (whole, tiled) = (model(Tiling::whole())?, model(Tiling::new(16, 8)?)?);
    let small = Noise::seeded(7).draw(&[1, 4, 16, 16])?;
    assert_eq!(tiled.decode(&small)?, whole.decode(&small)?, "a picture of one tile is not changed");
    let mut picture = Raster::flat(Rgb(90, 140, 200), (160, 192));
    picture.paste(&Raster::flat(Rgb(220, 60, 40), (90, 70)), 30, 50);
    let latent = whole.encode(&picture.to_tensor(Device::Cpu)?)?;
    let (mean, most) = off(&tiled.decode(&latent)?.clamp(-1.0, 1.0), &whole.decode(&latent)?.clamp(-1.0, 1.0));
    println!("off by {mean} on average, {most} at most");
    assert!(mean < 0.02 && most < 0.3, "off by {mean} on average, {most} at most");
    Ok(())
}

#[test]
fn picture_within_the_limit_keeps_every_bit() -> Result<()> {
    let (default, whole) = (Model::load(&Source::embedded())?, model(Tiling::whole())?);
    let limited = model(Tiling::above(BYTES * 2 * 24 * 20))?;
    let pictures = Tensor::cat(&[picture(192, 160)?, picture(192, 160)?.flip([3])], 0);
    let (mean, std) = whole.posterior(&pictures)?;
    let decoded = whole.decode(&mean)?;
    for other in [&default, &limited] {
        assert_eq!(other.posterior(&pictures)?, (mean.shallow_clone(), std.shallow_clone()));
        assert_eq!(other.decode(&mean)?, decoded);
    }
    let one_less = model(Tiling::above(BYTES * 24 * 20 - 1))?;
    assert_ne!(one_less.decode(&mean)?, decoded);
    Ok(())
}

/// Encodes and decodes 64 × 48 cells where 36 × 36 fit, so that no tile has more than a third of the picture.
#[test]
fn picture_above_the_limit_is_blended_seamlessly() -> Result<()> {
    let (whole, tiled) = (model(Tiling::whole())?, model(Tiling::above(BYTES * 36 * 36))?);
    let picture = picture(512, 384)?;
    let ((mean, std), (tiled_mean, tiled_std)) = (whole.posterior(&picture)?, tiled.posterior(&picture)?);
    let (latents, deviations) = (off(&tiled_mean, &mean), off(&tiled_std, &std));
    let (decoded, in_tiles) = (whole.decode(&mean)?, tiled.decode(&mean)?);
    let pixels = off(&in_tiles.clamp(-1.0, 1.0), &decoded.clamp(-1.0, 1.0));
    // A seam shows as a jump of the difference from one pixel to the next.
    let difference = &in_tiles - &decoded;
    let jumps = |axis: i64| -> f64 {
        let across = if axis == 2 { [0i64, 1, 3] } else { [0, 1, 2] };
        let last = difference.size()[axis as usize] - 1;
        let steps = (difference.narrow(axis, 1, last) - difference.narrow(axis, 0, last)).abs();
        steps.mean_dim(across.as_slice(), false, Kind::Float).max().double_value(&[])
    };
    let jumps = [jumps(2), jumps(3)];
    println!("latents {latents:?}, deviations {deviations:?}, pixels {pixels:?}, jumps {jumps:?}");
    assert!(latents.0 < 0.05 && deviations.0 < 0.02, "{latents:?} {deviations:?}");
    assert!(pixels.0 < 0.02 && pixels.1 < 0.3, "{pixels:?}");
    assert!(jumps.iter().all(|jump| *jump < 0.03), "{jumps:?}");
    Ok(())
}

#[test]
fn tiles_are_noted() -> Result<()> {
    let notes = |tiling: Tiling| -> Result<Vec<Note>> {
        let pipeline = Pipeline::builder().tune(|options| options.tiling = tiling).build()?;
        let output = pipeline.request("a red boat").seed(7).steps(1).size((192, 128)).run()?;
        Ok(output.notes.to_vec())
    };
    assert_eq!(notes(Tiling::default())?, notes(Tiling::whole())?);
    let told = notes(Tiling::above(BYTES * 16 * 16))?;
    assert!(told.iter().any(|note| note.text.contains("decoded in blended tiles of 112×128 pixels")), "{told:?}");
    Ok(())
}
