//! Combines independent methods in one run: two forced colors (one found by attention and a second prompt), a painted
//! map, a heat map of the attention, and a custom hook.

use impasto::attention::{At, AttentionSite, CrossAttentionHook, Interest, Probs};
use impasto::methods::color_force::ColorReport;
use impasto::methods::paint_with_words::WeightFn;
use impasto::methods::{ColorForce, PaintWithWords};
use impasto::raster::Filter;
use impasto::saliency::{Daam, DaamRun, Differential};
use impasto::{Branch, Pipeline, Raster, Result, Rgb, Window};
use impasto_report::Sheet;

const PROMPT: &str = "a house and a star, green ground, navy sky";
const TEAL: Rgb = Rgb(0, 150, 150);
const PINK: Rgb = Rgb(255, 105, 180);

/// A custom hook that measures how much attention goes to the start token, which has no meaning.
#[derive(Default)]
struct Idle {
    share: f64,
    calls: f64,
}

impl CrossAttentionHook for Idle {
    fn interest(&self, site: &AttentionSite, branch: Branch) -> Interest {
        if site.is_cross() && branch == Branch::Cond { Interest::PROBS } else { Interest::NONE }
    }
    fn probs(&mut self, _: &At, probs: &Probs) -> Result<()> {
        let first = probs.columns(impasto::TokenSpan { start: 0, end: 1 })?;
        self.share += first.f_mean(tch::Kind::Double)?.f_double_value(&[])?;
        self.calls += 1.0;
        Ok(())
    }
}

fn main() -> Result<()> {
    // The star is above on the right, the house below on the left.
    let (sky, ground, house, star) = (Rgb(40, 50, 120), Rgb(60, 130, 60), Rgb(200, 60, 50), Rgb(250, 220, 90));
    let mut map = Raster::flat(sky, (16, 16));
    map.paste(&Raster::flat(ground, (16, 6)), 0, 10);
    map.paste(&Raster::flat(house, (7, 7)), 1, 7);
    map.paste(&Raster::flat(star, (5, 5)), 10, 1);
    let map = map.resize((256, 256), Filter::Nearest)?;

    let paint = PaintWithWords::new(&map)
        .color(house, "house", 1.5)
        .color(star, "star", 1.5)
        .color(sky, "navy sky", 1.0)
        .color(ground, "green ground", 1.0)
        .weight(WeightFn::LogMax(0.4))
        .window(Window::sigmas(1.0..=f64::INFINITY));
    let teal = ColorForce::published("house", TEAL).color_var(15.0).saliency_cutoff(0.8);
    let teal = teal.saliency((Daam::of("house"), Differential::of("house", "pink")));
    let pink = ColorForce::published("star", PINK).color_var(15.0).saliency_cutoff(0.4);
    let mut idle = Idle::default();

    let pipeline = Pipeline::builder().build()?;
    let plain = pipeline.request(PROMPT).seed(7).run()?;
    let request = pipeline.request(PROMPT).seed(7).guide(paint).guide(teal).guide(pink);
    let output = request.guide(Daam::of("house")).hook(&mut idle).run()?; // the run borrows the hook

    for phrase in ["house", "star"] {
        let details = output.details::<ColorReport>(phrase)?;
        for painted in &details.painted {
            let (asked, color) = (details.asked, painted.color);
            println!("{phrase}: asked for {asked}, painted {color} (CIEDE2000 {:.1})", painted.delta_e);
        }
    }
    println!("{:.0} % of the attention goes to the start token", 100.0 * idle.share / idle.calls);
    output.notes.iter().for_each(|note| println!("{note}"));
    let overlay = output.details::<DaamRun>("house")?.heat_map(0)?.overlay(output.image(0)?, 0.7)?;
    let sheet = Sheet::new(4).add("alone", plain.image(0)?).add("the map", &map);
    let sheet = sheet.add("all at once", output.image(0)?).add("attention to the house", &overlay);
    sheet.draw()?.save("compose.png")?;
    println!("compose.png");
    Ok(())
}
