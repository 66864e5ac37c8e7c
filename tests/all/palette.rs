//! Pictures in the colors of a palette.

use impasto::methods::color_force::ColorReport;
use impasto::methods::palette::PaletteReport;
use impasto::methods::{ColorForce, Palette};
use impasto::{Pipeline, Raster, Result, Rgb};

const NAVY: Rgb = Rgb(11, 20, 55);
const BLUE: Rgb = Rgb(39, 64, 139);
const YELLOW: Rgb = Rgb(245, 213, 118);
const TOMATO: Rgb = Rgb(255, 99, 71);

fn night() -> Palette {
    Palette::new([(NAVY, 3.0), (BLUE, 2.0), (YELLOW, 1.0)])
}

#[test]
fn pixels_have_the_colors_of_the_palette() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let request = || pipeline.request("a house, a tree, blue sky, green ground").seed(5).steps(8);
    let output = request().guide(night()).run()?;
    let painted = &output.details::<PaletteReport>("Palette")?.painted[0];
    assert!(painted.distance < 4.0, "{painted:?}");
    assert!((painted.shares.iter().sum::<f64>() - 1.0).abs() < 1e-9 && painted.shares.iter().all(|share| *share > 0.0));
    let near = |color: Rgb| [NAVY, BLUE, YELLOW].iter().map(|swatch| swatch.delta_e(color)).fold(f64::MAX, f64::min);
    let sky = |picture: &Raster| picture.pixel(128, 20).expect("a pixel");
    assert!(near(sky(output.image(0)?)) < 3.0, "the sky is {}", sky(output.image(0)?));
    assert!(near(sky(request().run()?.image(0)?)) > 10.0, "the prompt's own sky has another color");
    Ok(())
}

#[test]
fn exact_color_stays_beside_a_palette() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let request = || pipeline.request("1girl, eyes, hair, shirt, background").seed(7).steps(12);
    let force = || ColorForce::exact("hair", TOMATO);
    for request in [request().guide(night()).guide(force()), request().guide(force()).guide(night())] {
        let output = request.run()?;
        let hair = &output.details::<ColorReport>("hair")?.painted[0];
        assert!(hair.delta_e < 4.0, "{hair:?}");
        let corner = output.image(0)?.pixel(8, 8).expect("a pixel");
        let near = [NAVY, BLUE, YELLOW].iter().map(|swatch| swatch.delta_e(corner)).fold(f64::MAX, f64::min);
        assert!(near < 5.0, "the background is {corner}");
    }
    Ok(())
}

#[test]
fn palette_of_a_picture_has_its_main_colors() -> Result<()> {
    let mut picture = Raster::flat(NAVY, (40, 40));
    picture.paste(&Raster::flat(YELLOW, (40, 10)), 0, 0);
    let mut swatches = Palette::of(&picture, 2)?.swatches();
    swatches.sort_by(|a, b| a.1.total_cmp(&b.1));
    let [(light, few), (dark, many)] = swatches.as_slice() else { panic!("{swatches:?}") };
    assert!(light.delta_e(YELLOW) < 1.0 && dark.delta_e(NAVY) < 1.0, "{swatches:?}");
    assert!((few - 0.25).abs() < 1e-6 && (many - 0.75).abs() < 1e-6);
    for count in [0, 65] {
        let error = Palette::of(&picture, count).expect_err("refused").to_string();
        assert!(error.starts_with("the number of colors of a palette is"), "{error}");
    }
    let wrong = Palette::new([(NAVY, -1.0)]);
    let error = Pipeline::builder().build()?.request("a boat").guide(wrong).run().expect_err("refused").to_string();
    assert!(error.contains("the share of a palette's color is -1"), "{error}");
    Ok(())
}
