//! Watches a picture while it is made. One sheet shows the colors of the latent and the attention to a word, every
//! seven steps.
//!
//! `cargo run --release --example watch`

use impasto::Pipeline;
use impasto::raster::Raster;
use impasto::saliency::Daam;
use impasto_report::Sheet;

fn main() -> impasto::Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let mut frames: Vec<(String, Raster)> = Vec::new();
    let request = pipeline.request("1girl, blue eyes, hair bow, red hair, skin, green shirt, background").seed(7);
    let output = request
        .guide(Daam::of("hair bow"))
        .on_preview(7, |preview| {
            let progress = preview.progress;
            println!("{} of {} steps, {:.0?} each", progress.done, progress.total, progress.took);
            let caption = format!("step {}", progress.done);
            frames.push((caption.clone(), preview.pictures()?.remove(0))); // from the latent, at once
            let decoded = preview.decoded()?.remove(0); // takes as long as decoding at the end
            for report in preview.reports()? {
                for picture in &report.pictures {
                    frames.push((picture.caption.clone(), picture.over(&decoded)?));
                }
            }
            frames.push((format!("{caption}, by the VAE"), decoded));
            Ok(())
        })
        .run()?;
    frames.push(("the picture".into(), output.image(0)?.clone()));
    let sheet = frames.iter().fold(Sheet::new(3), |sheet, (caption, picture)| sheet.add(caption, picture));
    sheet.draw()?.save("watch.png")
}
