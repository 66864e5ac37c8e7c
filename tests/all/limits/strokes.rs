//! Strokes of many colors on large layers.

use cpu_time::ThreadTime;
use impasto::hint::Strokes;
use impasto::methods::ColorForce;
use impasto::pipeline::Request;
use impasto::raster::Layer;
use impasto::{Pipeline, Result, Rgb};
use std::time::Duration;

/// Side in pixels of the largest layer whose colors are found.
const SIDE: u32 = 8192;

/// Returns a layer with 64 squares, each of another color.
fn squares(side: u32) -> Layer {
    let color = |number: u32| Rgb((number % 4 * 80) as u8, (number / 4 % 4 * 80) as u8, (number / 16 * 80) as u8);
    let mut bytes = vec![0; 4 * (side * side) as usize];
    let each = side / 8;
    for (y, row) in bytes.chunks_exact_mut(4 * side as usize).enumerate() {
        for column in 0..8 {
            let Rgb(red, green, blue) = color(y as u32 / each * 8 + column);
            let inside = 4 * (column * each + each / 4) as usize..4 * (column * each + each / 2) as usize;
            row[inside].chunks_exact_mut(4).for_each(|pixel| pixel.copy_from_slice(&[red, green, blue, 255]));
        }
    }
    Layer::from_bytes(bytes, (side, side)).expect("4 bytes a pixel")
}

#[test]
fn strokes_of_64_colors_take_one_byte_a_pixel() -> Result<()> {
    let strokes = Strokes::of(squares(SIDE));
    let mut forces = Vec::new();
    let work = allocation_counter::measure(|| forces = ColorForce::painted(&strokes).expect("64 colors"));
    assert_eq!(forces.len(), 64);
    let pixels = u64::from(SIDE).pow(2);
    assert!(work.bytes_max < pixels + (1 << 20), "{} bytes for {pixels} pixels", work.bytes_max);
    Ok(())
}

#[test]
fn picture_of_64_stroke_colors_is_saved_and_repeated() -> Result<()> {
    let (side, pixels) = (2048, 2048 * 2048);
    let forces = ColorForce::painted(&Strokes::of(squares(side)))?;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("strokes.png");
    let pipeline = Pipeline::builder().build()?;
    let mut output = None;
    let work = allocation_counter::measure(|| {
        // A small picture, because each of the many forces decodes it several times.
        let request = pipeline.request("1girl, hair, shirt").seed(7).steps(1).size((128, 128));
        // Trimming takes most of the time of many forces, and none of their memory.
        let forces = forces.into_iter().map(|force| force.tune(|options| options.trim = 0));
        let painted = forces.fold(request, Request::guide).run().expect("a picture");
        painted.save(0, &path).expect("saved");
        output = Some(painted);
    });
    assert!(work.bytes_max < 16 * pixels, "{} bytes for {pixels} pixels", work.bytes_max);
    let output = output.expect("painted");
    assert!(output.notes.iter().all(|note| !note.text.contains("will not repeat")), "{:?}", output.notes);
    let again = Request::from_png(&pipeline, &path)?.run()?;
    assert_eq!(again.image(0)?, output.image(0)?);
    Ok(())
}

#[test]
fn colors_of_noise_are_found_in_seconds() {
    // Fewer than 64 colors of many pixels, and as many other colors as pixels.
    let mut layer = squares(512);
    for (number, (x, y)) in (0..512).flat_map(|y| (0..512).map(move |x| (x, y))).enumerate() {
        if layer.pixel(x, y).is_some_and(|(_, alpha)| alpha == 0) {
            let [_, red, green, blue] = (number as u32).wrapping_mul(2_654_435_761).to_be_bytes();
            layer.set(x, y, Rgb(red, green, blue), 255);
        }
    }
    let begun = ThreadTime::now();
    assert_eq!(Strokes::of(layer).colors().expect("64 colors").len(), 64);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[test]
fn layers_above_the_limit_are_refused() {
    let error = Strokes::new((SIDE + 1, SIDE)).colors().expect_err("too large").to_string();
    assert!(error.contains("a layer of 8193×8192 pixels; expected at most 8192×8192 pixels"), "{error}");
}
