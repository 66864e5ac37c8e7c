//! Larger pictures than the model's own: a second run at a larger size, a pattern, and a small face at full size.

use impasto::pipeline::{Detail, Seamless};
use impasto::raster::Filter;
use impasto::{Pipeline, Raster, Result, Rgb};
use impasto_report::Sheet;

fn main() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let mut shown = Vec::new();

    // A second run over an enlarged picture draws its details. A run at the large size alone repeats things.
    let boat = "red boat, blue sky, green ground";
    let at_once = pipeline.request(boat).seed(7).steps(28).size((448, 448)).run()?;
    shown.push(("at once".to_owned(), at_once.image(0)?.clone()));
    let hires = pipeline.request(boat).seed(7).steps(28).hires(1.75, 0.3).run()?;
    shown.push(("enlarged and painted again".into(), hires.image(0)?.clone()));

    // A picture whose opposite edges continue each other, twice in each direction.
    let pattern = pipeline
        .request("pink flower, yellow star, teal ground")
        .seed(11)
        .steps(14)
        .size((224, 224))
        .seamless(Seamless::Both)
        .run()?;
    let mut wall = Raster::flat(Rgb(0, 0, 0), (448, 448));
    for (x, y) in [(0, 0), (224, 0), (0, 224), (224, 224)] {
        wall.paste(pattern.image(0)?, x, y);
    }
    shown.push(("a pattern".into(), wall));

    // A small portrait in a large picture is repainted at the model's own size, with an exact color.
    let prompt = "1girl, gold eyes, pink hair bow, red hair, blue shirt, green background";
    let portrait = pipeline.request(prompt).seed(7).steps(28).run()?;
    let mut scene = Raster::flat(Rgb(245, 240, 225), (448, 448));
    scene.paste(&portrait.image(0)?.resize((88, 88), Filter::Box)?, 180, 180);
    let mut frame = Raster::flat(Rgb(0, 0, 0), (448, 448));
    frame.paste(&Raster::flat(Rgb(255, 255, 255), (88, 88)), 180, 180);
    let blue = Some("1girl, #1e90ff eyes, pink hair bow, red hair, skin, blue shirt, green background".into());
    let mut detail = Detail::under(frame);
    detail.padding = 0;
    detail.prompt = blue;
    let detailed = pipeline.request(prompt).seed(7).steps(28).start(&scene, 0.0).detail(detail).run()?;
    let enlarged = |picture: &Raster| picture.crop(180..268, 180..268)?.resize((448, 448), Filter::Bilinear);
    let before = enlarged(&scene)?;
    shown.push(("a large picture".into(), scene));
    shown.push(("its small portrait".into(), before));
    shown.push(("with blue eyes, painted at full size".into(), enlarged(detailed.image(0)?)?));

    let sheet = shown.iter().fold(Sheet::new(3), |sheet, (caption, picture)| sheet.add(caption, picture));
    sheet.draw()?.save("large_pictures.png")?;
    println!("large_pictures.png");
    Ok(())
}
