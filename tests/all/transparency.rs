//! Files with alpha as pictures to start from, as masks and as line art.

use impasto::hint::Sketch;
use impasto::pipeline::Pipeline;
use impasto::raster::Layer;
use impasto::{Raster, Result, Rgb, Size};
use std::path::PathBuf;

const WHITE: Rgb = Rgb(255, 255, 255);
const BLACK: Rgb = Rgb(0, 0, 0);
const SIZE: Size = Size::new(64, 64);

/// A temporary folder with pictures.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    /// Saves a layer whose left half and right half have these colors and alphas.
    fn halves(&self, name: &str, left: (Rgb, u8), right: (Rgb, u8)) -> PathBuf {
        let mut layer = Layer::new(SIZE);
        for (x, y) in (0..SIZE.height).flat_map(|y| (0..SIZE.width).map(move |x| (x, y))) {
            let (color, alpha) = if x < SIZE.width / 2 { left } else { right };
            layer.set(x, y, color, alpha);
        }
        let path = self.0.path().join(name);
        layer.save(&path).expect("saved");
        path
    }
}

/// Returns a mask of white and black, with these colors in its left and its right half.
fn plain(left: Rgb, right: Rgb) -> Raster {
    let mut mask = Raster::flat(right, SIZE);
    mask.paste(&Raster::flat(left, (SIZE.width / 2, SIZE.height)), 0, 0);
    mask
}

/// Returns the picture that repaints `mask`, and the notes on the pictures.
fn repainted(start: &Raster, mask: Option<&Raster>) -> Result<(Raster, String)> {
    let pipeline = Pipeline::builder().build()?;
    let request = pipeline.request("a red boat").seed(7).steps(2).start(start, 1.0);
    let output = match mask {
        Some(mask) => request.mask(mask).run()?,
        None => request.run()?,
    };
    Ok((output.image(0)?.clone(), output.notes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")))
}

#[test]
fn masks_in_alpha_repaint_their_shape() -> Result<()> {
    let (folder, start) = (Folder::new(), Raster::flat(Rgb(90, 130, 60), SIZE));
    let (want, _) = repainted(&start, Some(&plain(WHITE, BLACK)))?;
    let cases = [
        ("white on transparent white", (WHITE, 255), (WHITE, 0), "opaque parts are repainted"),
        ("white on transparent black", (WHITE, 255), (BLACK, 0), "opaque parts are repainted"),
        ("red on transparent white", (Rgb(255, 0, 0), 255), (WHITE, 0), "opaque parts are repainted"),
        ("hole in black", (BLACK, 0), (BLACK, 255), "transparent parts are repainted"),
    ];
    for (name, left, right, note) in cases {
        let mask = Layer::open(folder.halves(&format!("{name}.png"), left, right))?.mask();
        assert_eq!(mask, plain(WHITE, BLACK), "{name}");
        let (picture, notes) = repainted(&start, Some(&mask))?;
        assert!(picture == want, "{name}");
        assert!(notes.contains(note) && !notes.contains("everywhere"), "{name}: {notes}");
    }
    let opened = Raster::open(folder.halves("mask.png", (BLACK, 0), (BLACK, 255)))?;
    let (_, notes) = repainted(&start, Some(&opened))?;
    assert!(notes.contains("opened as a picture") && notes.contains("open the mask as a layer"), "{notes}");
    Ok(())
}

#[test]
fn masks_of_one_color_get_a_note() -> Result<()> {
    let start = Raster::flat(Rgb(90, 130, 60), SIZE);
    for (mask, note) in [(WHITE, "the whole picture is repainted"), (BLACK, "nothing is repainted")] {
        let (_, notes) = repainted(&start, Some(&Raster::flat(mask, SIZE)))?;
        assert!(notes.contains(note), "{notes}");
    }
    // A dot inside a cell repaints its own pixels.
    let mut dot = Raster::flat(BLACK, SIZE);
    dot.paste(&Raster::flat(WHITE, (3, 3)), 18, 18);
    let (picture, notes) = repainted(&start, Some(&dot))?;
    assert!(!notes.contains("repainted") && picture.pixel(19, 19) != start.pixel(19, 19), "{notes}");
    let (_, notes) = repainted(&start, Some(&plain(WHITE, BLACK)))?;
    assert!(!notes.contains("repainted"), "{notes}");
    Ok(())
}

#[test]
fn transparent_start_becomes_white_with_a_note() -> Result<()> {
    let folder = Folder::new();
    let start = Raster::open(folder.halves("start.png", (Rgb(90, 130, 60), 255), (BLACK, 0)))?;
    assert_eq!(start, plain(Rgb(90, 130, 60), WHITE));
    let (picture, notes) = repainted(&start, None)?;
    assert!(notes.contains("transparent parts of the picture to start from became white"), "{notes}");
    let (want, notes) = repainted(&plain(Rgb(90, 130, 60), WHITE), None)?;
    assert!(picture == want && !notes.contains("transparent"), "{notes}");

    let url = serde_json::to_string(&Layer::open(folder.0.path().join("start.png"))?).expect("a data URL");
    assert_eq!(serde_json::from_str::<Raster>(&url).expect("a picture"), start);
    Ok(())
}

#[test]
fn lines_on_transparency_are_found() -> Result<()> {
    let folder = Folder::new();
    for ink in [BLACK, WHITE, Rgb(40, 60, 160)] {
        let mut layer = Layer::new(SIZE);
        (8..56).for_each(|x| layer.set(x, 32, ink, 255));
        let path = folder.0.path().join("lines.png");
        layer.save(&path)?;
        let (art, edges) = (Sketch::of_line_art(&Raster::open(&path)?)?, Sketch::of_edges(&Raster::open(&path)?)?);
        assert!(art.is_line(20, 32) && !art.is_line(20, 20), "{ink}");
        assert!((30..35).any(|y| edges.is_line(20, y)), "{ink}");
    }
    Ok(())
}
