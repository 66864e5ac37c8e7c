//! Runs that are repeated from their pictures, and notes about what cannot be repeated.
//!
//! A PNG of this crate holds the recipe of its run. This file holds shared parts: a folder, painted areas, and
//! the comparison of a run with its repetition.

mod broken;
mod infotext;
mod methods;
mod missing;
mod requests;

use impasto::mask::{Region, Resample};
use impasto::methods::PaintWithWords;
use impasto::methods::paint_with_words::WeightFn;
use impasto::pipeline::{Output, Pipeline, Request};
use impasto::wording::Note;
use impasto::{Raster, Result, Rgb};
use ndarray::Array2;
use std::path::PathBuf;

const PORTRAIT: &str = "1girl, eyes, hair bow, hair, skin, shirt, background";
const GOLD: Rgb = Rgb(255, 215, 0);
const RED: Rgb = Rgb(200, 30, 30);

/// A temporary folder for pictures.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a PNG with these texts and returns its path.
    fn told(&self, texts: &[(&str, &str)]) -> PathBuf {
        let path = self.file("told.png");
        let png = Raster::flat(GOLD, (8, 8)).to_png(texts).expect("a PNG");
        std::fs::write(&path, png).expect("written");
        path
    }
}

/// Paint with Words with a color map, a mask and settings that differ from the defaults.
fn paint() -> PaintWithWords {
    let mut map = Raster::flat(Rgb(255, 255, 255), (128, 128));
    map.paste(&Raster::flat(RED, (64, 64)), 0, 64);
    let mask = Region::new(Array2::from_shape_fn((16, 16), |(row, _)| row as f32 / 15.0));
    PaintWithWords::new(&map).color(RED, "hair", 1.5).mask(mask, "shirt", -0.7).weight(WeightFn::LogStd(0.3)).tune(
        |options| {
            options.resample = Resample::Cover;
            options.blur = 2.0;
        },
    )
}

/// Saves image `index` of a run, reads the picture back and repeats the run.
///
/// Returns the notes of the repeated request, and its output.
fn again(pipeline: &Pipeline, output: &Output, index: usize) -> Result<(Vec<Note>, Output)> {
    let folder = Folder::new();
    let path = folder.file("run.png");
    output.save(index, &path)?;
    assert_eq!(Raster::open(&path)?, *output.image(index)?);
    let request = Request::from_png(pipeline, &path)?;
    let notes = request.notes()?;
    Ok((notes, request.run()?))
}

/// Returns notes as lines, as a user of the library reads them.
fn told(notes: &[Note]) -> String {
    notes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// Asserts that two runs have the same images, latents and recipes.
#[track_caller]
fn assert_same(once: &Output, twice: &Output) {
    assert_eq!(once.images, twice.images);
    assert_eq!(once.latents, twice.latents);
    let (mut a, mut b) = (once.recipe().clone(), twice.recipe().clone());
    (a.image, b.image) = (0, 0);
    assert_eq!(a, b);
}

/// Asserts that a request's run is repeated from its picture to the bit, with nothing missing and nothing to note.
#[track_caller]
fn repeats(asked: fn(Request<'_>) -> Request<'_>) -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let output = asked(pipeline.request(PORTRAIT).seed(7).steps(6)).run()?;
    assert!(output.recipe().missing.is_empty(), "{:?}", output.recipe().missing);
    let (notes, twice) = again(&pipeline, &output, 0)?;
    assert!(notes.is_empty(), "{notes:?}");
    assert_same(&output, &twice);
    Ok(())
}
