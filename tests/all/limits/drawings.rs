//! Lines of large drawings.

use cpu_time::ThreadTime;
use impasto::hint::{Canny, LineArt, Sketch, standard_line_art};
use impasto::{Raster, Result, Rgb};
use std::time::Duration;

/// Returns a drawing of the largest size to which a JPEG file of a few hundred bytes unfolds.
fn large() -> Raster {
    let mut drawing = Raster::flat(Rgb(240, 240, 230), (2364, 2364));
    drawing.paste(&Raster::flat(Rgb(30, 30, 40), (2000, 3)), 100, 1200);
    drawing
}

#[test]
fn lines_of_a_large_drawing_are_drawn_in_seconds() -> Result<()> {
    let (drawing, begun) = (large(), ThreadTime::now());
    let standard = standard_line_art(&drawing)?;
    let drawn = LineArt::default().of(&drawing)?;
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    let at = |lines: &Raster, y| lines.pixel(1000, y).expect("inside").0;
    assert!(at(&standard, 1201) > 100 && at(&standard, 900) == 0);
    assert!(at(&drawn, 1201) < 100 && at(&drawn, 900) == 255);
    Ok(())
}

#[test]
fn edges_of_a_large_drawing_take_few_bytes_a_pixel() {
    let drawing = large();
    let pixels = u64::from(drawing.size().width) * u64::from(drawing.size().height);
    let mut edges = None;
    let work = allocation_counter::measure(|| edges = Canny::default().edges(&drawing).ok());
    assert!(work.bytes_max < 8 * pixels, "{} bytes for {pixels} pixels", work.bytes_max);
    assert!(edges.is_some_and(|edges: Sketch| edges.is_line(1000, 1199) && !edges.is_line(1000, 900)));
}

#[test]
fn drawings_above_the_limit_are_refused() {
    let drawing = Raster::flat(Rgb(255, 255, 255), (8193, 8192));
    for error in [
        standard_line_art(&drawing).expect_err("too large"),
        LineArt::default().of(&drawing).expect_err("too large"),
        Canny::default().edges(&drawing).expect_err("too large"),
    ] {
        let error = error.to_string();
        assert!(error.contains("8193×8192") && error.contains("at most 8192×8192 pixels"), "{error}");
    }
}
