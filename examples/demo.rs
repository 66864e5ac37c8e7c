//! Shows the crate's purpose in one command (`make demo`): an unforced portrait, the portrait with gold eyes by the
//! published and by the exact method, and a heat map of the attention to "eyes". Writes to `out/`.

use impasto::methods::ColorForce;
use impasto::methods::color_force::ColorReport;
use impasto::saliency::{Daam, DaamRun};
use impasto::{Pipeline, Result, Rgb};
use impasto_report::Sheet;
use std::time::Instant;

const PROMPT: &str = "1girl, eyes, hair bow, hair, skin, shirt, background";
const SEED: u64 = 7;
const GOLD: Rgb = Rgb(255, 215, 0);

fn main() -> Result<()> {
    std::fs::create_dir_all("out").map_err(|source| impasto::Error::Io { path: "out".into(), source })?;
    let begun = Instant::now();
    let pipeline = Pipeline::builder().build()?;
    println!("\"{PROMPT}\", seed {SEED}: loaded in {:.0?}", begun.elapsed());

    let plain = pipeline.request(PROMPT).seed(SEED).guide(Daam::of("eyes")).run()?;
    println!("first picture after {:.1?}", begun.elapsed());
    let overlay = plain.details::<DaamRun>("eyes")?.heat_map(0)?.overlay(plain.image(0)?, 0.7)?;
    plain.image(0)?.save("out/unforced.png")?;
    overlay.save("out/saliency.png")?;

    let mut forces = Vec::new();
    for (caption, force) in
        [("as published", ColorForce::published("eyes", GOLD)), ("exactly gold", ColorForce::exact("eyes", GOLD))]
    {
        let forced = pipeline.request(PROMPT).seed(SEED).guide(force).run()?;
        let details = forced.details::<ColorReport>("eyes")?;
        let painted = details.painted.first().expect("the portrait has eyes");
        println!(
            "forced \"{}\" to {}, {caption}: painted {}, CIEDE2000 {:.1} from it; mask {:.1} % of the \
             picture, {:.0} % of the mask within CIEDE2000 10; {:.1?} in all ({:.1?} unforced)",
            details.phrase,
            details.asked,
            painted.color,
            painted.delta_e,
            100.0 * painted.area,
            100.0 * painted.coverage,
            forced.timing.total(),
            plain.timing.total(),
        );
        forced.notes.iter().for_each(|note| println!("note: {note}"));
        forces.push((caption, forced.image(0)?.clone()));
    }
    if let Some((_, forced)) = forces.last() {
        forced.save("out/forced.png")?;
    }
    let mut sheet = Sheet::new(4).add("unforced", plain.image(0)?).add("attention to \"eyes\"", &overlay);
    for (caption, picture) in &forces {
        sheet = sheet.add(*caption, picture);
    }
    sheet.draw()?.save("out/sheet.png")?;
    println!("out/unforced.png, out/forced.png, out/saliency.png, out/sheet.png");
    Ok(())
}
