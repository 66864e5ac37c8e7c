//! The effect of each option of guidance and of speed on pictures: makes the table of docs/guide.md.
//!
//! ```text
//! cargo run --release -p impasto-yardstick --example option_study -- 24 FOLDER
//! ```
//!
//! Paints portraits of the public suite without and with each option, and prints for each option:
//!
//! * found: share of the parts named in the prompt that the judge finds in the picture,
//! * likeness: cosine of CLIP's embeddings of the pictures without and with the option,
//! * accepted: share of the runs with one part in an exact color that a person would keep, by the yardstick's rule,
//! * time: seconds of all pictures without a color, relative to those without the option.
//!
//! A row of pictures of each prompt goes to FOLDER, without the option first.

use impasto::job::{Job, Nets};
use impasto::methods::ColorForce;
use impasto::vision::{View, VisionEncoder};
use impasto::{Pipeline, Raster, Rgb};
use impasto_yardstick::acceptance::acceptance;
use impasto_yardstick::failure::Failure;
use impasto_yardstick::judge::{Evaluator, class};
use impasto_yardstick::measure::Pair;
use impasto_yardstick::picture::{self, picture};
use impasto_yardstick::regions::{area, least_core, of_class};
use impasto_yardstick::suite::{portraits, seeds};
use impasto_yardstick::task::{PARTS, Style};
use serde_json::{Value, json};

use std::path::Path;
use std::time::{Duration, Instant};
use tch::{Kind, Tensor};

/// The options, as fields of a job.
const OPTIONS: [(&str, &str); 12] = [
    ("none", "{}"),
    ("guidance rescale .7", r#"{"guidance_rescale": 0.7}"#),
    ("apg", r#"{"guiders": ["apg"]}"#),
    ("apg, scale 12", r#"{"guiders": ["apg"], "guidance_scale": 12}"#),
    ("cfg-zero", r#"{"guiders": ["cfg-zero"]}"#),
    ("cfg++", r#"{"guiders": ["cfg++"]}"#),
    ("fdg", r#"{"guiders": ["fdg"]}"#),
    ("pag", r#"{"guiders": ["pag"]}"#),
    ("seg", r#"{"guiders": ["seg"]}"#),
    ("free-u", r#"{"guiders": ["free-u"]}"#),
    ("free-u-xl", r#"{"guiders": ["free-u-xl"]}"#),
    ("reuse 2", r#"{"reuse": 2}"#),
];

/// The colors that parts are forced to, in turns.
const COLORS: [Rgb; 5] = [Rgb(255, 215, 0), Rgb(255, 105, 180), Rgb(0, 128, 128), Rgb(72, 61, 139), Rgb(60, 179, 113)];

/// Sums over the pictures of one option.
#[derive(Default)]
struct Sums {
    named: usize,
    found: usize,
    likeness: f64,
    asked: usize,
    accepted: usize,
    time: Duration,
}

/// The model, and the judge of its pictures.
struct Studied {
    pipeline: Pipeline,
    nets: Nets,
    judge: Evaluator,
}

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let count: usize = arguments.next().ok_or("expected a number of prompts")?.parse()?;
    let folder = arguments.next();
    let studied = Studied { pipeline: Pipeline::builder().build()?, nets: Nets::default(), judge: Evaluator::open()? };
    let prompts = portraits("public", 0, count, Style::Plain);
    let mut sums: Vec<Sums> = OPTIONS.iter().map(|_| Sums::default()).collect();
    for (number, (prompt, seed)) in prompts.iter().zip(seeds("public", 0, count)).enumerate() {
        let mut row: Vec<Raster> = Vec::new();
        for ((_, option), sums) in OPTIONS.iter().zip(&mut sums) {
            let plain = row.first().cloned();
            row.push(studied.paint(number, (prompt, seed), option, plain.as_ref(), sums)?);
        }
        if let Some(folder) = &folder {
            strip(&row)?.save(Path::new(folder).join(format!("{number}.png")))?;
        }
    }
    println!("{:20} {:>6} {:>9} {:>9} {:>6}", "option", "found", "likeness", "accepted", "time");
    let usual = sums[0].time.as_secs_f64();
    for ((name, _), sums) in OPTIONS.iter().zip(&sums) {
        let share = |part: usize, all: usize| part as f64 / all.max(1) as f64;
        let (found, accepted) = (share(sums.found, sums.named), share(sums.accepted, sums.asked));
        let (likeness, time) = (sums.likeness / count as f64, sums.time.as_secs_f64() / usual);
        println!("{name:20} {found:6.3} {likeness:9.3} {accepted:6.3} of {} {time:6.2}", sums.asked);
    }
    Ok(())
}

impl Studied {
    /// Paints a prompt with an option, without and with an exact color, adds the figures to `sums`, and returns the
    /// picture without the color. `plain` is the picture without the option.
    fn paint(
        &self,
        number: usize,
        (prompt, seed): (&str, u64),
        option: &str,
        plain: Option<&Raster>,
        sums: &mut Sums,
    ) -> Result<Raster, Failure> {
        let mut job: Value = serde_json::from_str(option)?;
        let fields = json!({ "prompt": prompt, "seed": seed, "sampler": "Euler a", "steps": 28 });
        if let (Some(job), Some(fields)) = (job.as_object_mut(), fields.as_object()) {
            job.extend(fields.clone());
        }
        let job: Job = serde_json::from_value(job)?;
        let begun = Instant::now();
        let free = job.request(&self.pipeline, &self.nets)?.run()?.image(0)?.clone();
        sums.time += begun.elapsed();
        let unforced = picture(&free)?;
        let unit = picture::unit(unforced.dim());
        let labels = self.judge.see(&unforced)?.labels;
        let shows = |part: &str| area(&of_class(&labels, class(part, &[]))) >= least_core(unit);
        sums.named += PARTS.len();
        sums.found += PARTS.iter().filter(|part| shows(part)).count();
        sums.likeness += self.likeness(plain.unwrap_or(&free), &free)?;
        let (part, color) = (PARTS[number % PARTS.len()], COLORS[number % COLORS.len()]);
        let forced = job.request(&self.pipeline, &self.nets)?.guide(ColorForce::exact(part, color)).run()?;
        let forced = picture(forced.image(0)?)?;
        let labels_forced = self.judge.see(&forced)?.labels;
        let pair = Pair {
            unforced: &unforced,
            forced: &forced,
            labels_unforced: &labels,
            labels_forced: &labels_forced,
            unit,
        };
        if let Some(verdict) = acceptance(&pair, class(part, &[]), color, &[]) {
            sums.asked += 1;
            sums.accepted += usize::from(verdict.accepted);
        }
        Ok(free)
    }

    /// Returns the cosine of CLIP's embeddings of two pictures.
    fn likeness(&self, a: &Raster, b: &Raster) -> Result<f64, Failure> {
        let seen = |picture: &Raster| -> impasto::Result<Tensor> {
            let tokens = self.pipeline.model().vision(picture, View::default())?.tokens;
            Ok(tokens.f_select(0, 0)?.f_select(0, 0)?.f_to_kind(Kind::Double)?)
        };
        let (a, b) = (seen(a)?, seen(b)?);
        let length = |x: &Tensor| -> impasto::Result<f64> { Ok(x.f_norm()?.f_double_value(&[])?) };
        Ok(a.f_dot(&b)?.f_double_value(&[])? / (length(&a)? * length(&b)?))
    }
}

/// Returns pictures side by side.
fn strip(pictures: &[Raster]) -> impasto::Result<Raster> {
    let size = pictures[0].size();
    let mut strip = Raster::flat(Rgb(255, 255, 255), (size.width * pictures.len() as u32, size.height));
    for (at, picture) in pictures.iter().enumerate() {
        strip.paste(picture, size.width * at as u32, 0);
    }
    Ok(strip)
}
