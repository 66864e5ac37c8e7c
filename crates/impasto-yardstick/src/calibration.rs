//! The judge's own error: the figures of a faultless method, on drawings with known colors and regions.

use crate::edges::Followed;
use crate::failure::Failure;
use crate::statistics::short;
use crate::task::OBJECTS;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// Explanation of the calibration's table, for reports.
pub const ABOUT: &str = "A faultless guidance method as this judge sees it: drawings in which one part gets another \
    color. IoU: IoU of the judge's region with the true region. Pair: IoU of the judge's regions in the two pictures \
    of a pair, which have the same true region. ΔE is a median, retry is a share. Decoded: after the model's encoder \
    and decoder. Flip: IoU of the region in a generated picture with the region in its mirror image. Attention: IoU \
    of the model's own attention with the judge's region. Attention ΔE and leakage: increase of the figures of forced \
    pictures if attention is the judge. These floors are shown beside the figures, and never subtracted.";
/// Least IoU of a class that the judge finds well enough to say where an object is.
const WEAK: f64 = 0.7;
/// Least IoU of a steady part between two pictures with the same true region. An unsteady part is measured in the
/// region that both pictures share.
const STEADY: f64 = 0.8;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    pub pairs: usize,
    pub parts: BTreeMap<String, Row>,
    /// Figures of drawings that are compared with themselves after the encoder and the decoder. A faultless ControlNet
    /// would reach these figures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drawn: Option<Followed>,
}

impl Calibration {
    /// Reads the result of `calibrate` from a folder or its parent; `None` if there is no result.
    pub fn near(folder: &Path) -> Result<Option<Self>, Failure> {
        let Some(path) = crate::tuning::near(folder, "calibration.json") else { return Ok(None) };
        let text = std::fs::read(&path)?;
        Ok(Some(serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", path.display()))?))
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Row {
    pub iou: Option<f64>,
    pub iou_decoded: Option<f64>,
    pub pair: Option<f64>,
    pub pair_decoded: Option<f64>,
    pub delta_e: Option<f64>,
    pub delta_e_decoded_truth: Option<f64>,
    pub delta_e_decoded: Option<f64>,
    pub leak_decoded: Option<f64>,
    pub retry: Option<f64>,
    pub retry_decoded: Option<f64>,
    pub flip: Option<f64>,
    pub attention: Option<f64>,
    pub attention_delta_e: Option<f64>,
    pub attention_leak: Option<f64>,
}

impl Row {
    /// Returns the columns of the table in order.
    pub fn cells(&self) -> [(&'static str, Option<f64>); 14] {
        [
            ("IoU", self.iou),
            ("IoU decoded", self.iou_decoded),
            ("pair", self.pair),
            ("pair decoded", self.pair_decoded),
            ("ΔE", self.delta_e),
            ("ΔE decoded, true regions", self.delta_e_decoded_truth),
            ("ΔE decoded", self.delta_e_decoded),
            ("leakage decoded", self.leak_decoded),
            ("retry", self.retry),
            ("retry decoded", self.retry_decoded),
            ("flip", self.flip),
            ("attention", self.attention),
            ("attention ΔE", self.attention_delta_e),
            ("attention leakage", self.attention_leak),
        ]
    }
}

impl Calibration {
    /// Returns a sentence with the figures that a faultless ControlNet would have in the task `edges`.
    pub fn faultless(&self) -> Option<String> {
        let Followed { edge_f1, strokes, objects } = self.drawn?;
        let [strokes, objects] = [strokes, objects].map(|delta_e| delta_e.map_or("–".into(), short));
        Some(format!(
            "Drawings compared with themselves after the model's encoder and decoder have an edge F1 of {edge_f1:.2}, \
             a ΔE of {strokes} under strokes, and a ΔE of {objects} of objects under strokes."
        ))
    }

    /// Returns the unsteady parts: the judge's region of these parts moves if only the color changes.
    pub fn unsteady(&self) -> Vec<String> {
        let unsteady = |row: &Row| row.pair_decoded.is_some_and(|iou| iou < STEADY);
        self.parts.iter().filter(|(_, row)| unsteady(row)).map(|(part, _)| part.clone()).collect()
    }
}

/// Returns the objects that the judge finds badly. `evaluator` is the content of `evaluator.json`.
pub fn weak(evaluator: &str) -> Result<Vec<String>, Failure> {
    #[derive(Deserialize)]
    struct Known {
        iou_held_out: BTreeMap<String, f64>,
    }
    let known: Known = serde_json::from_str(evaluator).map_err(|error| format!("evaluator.json: {error}"))?;
    let found = |object: &&str| known.iou_held_out.get(*object).is_some_and(|iou| *iou >= WEAK);
    Ok(OBJECTS.iter().filter(|object| !found(object)).map(|object| (*object).to_owned()).collect())
}

pub use drawn::run;

mod drawn {
    use super::{Calibration, Row};
    use crate::acceptance::{Acceptance, acceptance};
    use crate::edges::{self, Followed};
    use crate::failure::Failure;
    use crate::generator::{Real, Settings};
    use crate::judge::{Evaluator, Judge, Saliency, Seen, View, class};
    use crate::measure::{Measure, Pair, measure};
    use crate::picture::{Picture, unit};
    use crate::picture::{picture, raster};
    use crate::regions::{Labels, core, iou, of_class};
    use crate::shot::{Generator, Request};
    use crate::statistics::{median, short};
    use crate::suite::Suite;
    use crate::task::{Asked, Method, PARTS};
    use impasto::{Codec, Model, Raster, Rgb};
    use impasto_train::dataset::{Class, Dataset};
    use ndarray::Axis;
    use std::collections::BTreeMap;
    use std::path::Path;
    use tch::Device;

    /// First seed of the drawings, above all seeds that any training used.
    const FIRST: u64 = 940_000_000;
    /// Number of the judge's cells along a side of the picture.
    const CELLS: usize = 64;

    #[derive(Default)]
    struct Values(BTreeMap<&'static str, Vec<f64>>);

    impl Values {
        fn add(&mut self, name: &'static str, value: f64) {
            self.0.entry(name).or_default().push(value);
        }

        fn median(&self, name: &str) -> Option<f64> {
            self.0.get(name).map(|values| median(values.clone()))
        }

        fn mean(&self, name: &str) -> Option<f64> {
            self.0.get(name).map(|values| values.iter().sum::<f64>() / values.len() as f64)
        }
    }

    /// Measures `pairs` pairs of every part and writes `calibration.json`.
    pub fn run(folder: &Path, settings: &Settings, pairs: usize) -> Result<(), Failure> {
        let (model, judge) = (Model::load(&settings.model)?, Evaluator::open()?);
        let suite = Suite::new("public", 0).with_all_colors();
        let dataset = Dataset::new(model.defaults().width)?;
        let mut values: BTreeMap<&str, Values> = BTreeMap::new();
        let mut followed = Values::default();
        let mut done = 0;
        for seed in FIRST.. {
            if done == pairs {
                break;
            }
            let drawing = dataset.draw(seed)?;
            if drawing.record.color_of(Class::Hair).is_none() {
                continue;
            }
            done += 1;
            let u = picture(&drawing.picture)?;
            // The true labels on the judge's grid: the class in the middle of each cell.
            let cell = u.dim().0 / CELLS;
            let middle = |at: usize| at / cell * cell + cell / 2;
            let truth = Labels::from_shape_fn(u.dim(), |(y, x)| drawing.mask[(middle(y), middle(x))]);
            let unit = unit(u.dim());
            let (decoded_u, seen_u) = (decoded(&model, &u)?, judge.see(&u)?.labels);
            let seen_decoded_u = judge.see(&decoded_u)?.labels;
            let Followed { edge_f1, strokes, objects } = edges::followed(&u, &edges::drawing(&u, seed)?, &decoded_u)?;
            followed.add("edges", edge_f1);
            strokes.into_iter().for_each(|strokes| followed.add("strokes", strokes));
            objects.into_iter().for_each(|objects| followed.add("objects", objects));
            for (number, part) in PARTS.iter().enumerate() {
                let class = class(part, &[]);
                let Some(color) = drawing.record.colors().find(|(of, _)| of.index() == class) else { continue };
                if core(&of_class(&truth, class), unit).0 == 0 {
                    continue;
                }
                let target = suite.colors[(done + number) % suite.colors.len()].rgb;
                let repainted = repainted(&drawing.picture, |y, x| drawing.mask[(y, x)] == class, color.1.rgb, target)?;
                let f = picture(&repainted)?;
                let decoded_f = decoded(&model, &f)?;
                let (seen_f, seen_decoded_f) = (judge.see(&f)?.labels, judge.see(&decoded_f)?.labels);
                let all = values.entry(part).or_default();
                let overlap = |a: &Labels, b: &Labels| iou(&of_class(a, class), &of_class(b, class));
                all.add("iou", overlap(&seen_f, &truth));
                all.add("iou decoded", overlap(&seen_decoded_f, &truth));
                all.add("pair", overlap(&seen_f, &seen_u));
                all.add("pair decoded", overlap(&seen_decoded_f, &seen_decoded_u));
                let of = |unforced: &Picture,
                          forced: &Picture,
                          labels_unforced: &Labels,
                          labels_forced: &Labels|
                 -> Option<(Measure, Acceptance)> {
                    let pair = Pair { unforced, forced, labels_unforced, labels_forced, unit };
                    let shown = core(&of_class(labels_unforced, class), unit).0 >= 1;
                    shown.then(|| Some((measure(&pair, class, target, &[]), acceptance(&pair, class, target, &[])?)))?
                };
                if let Some((_, drawn)) = of(&u, &f, &seen_u, &seen_f) {
                    all.add("delta_e", drawn.material.unwrap_or(f64::INFINITY));
                    all.add("retry", f64::from(u8::from(!drawn.accepted)));
                }
                if let Some((_, known)) = of(&decoded_u, &decoded_f, &truth, &truth) {
                    all.add("delta_e decoded truth", known.material.unwrap_or(f64::INFINITY));
                }
                if let Some((measure, judged)) = of(&decoded_u, &decoded_f, &seen_decoded_u, &seen_decoded_f) {
                    all.add("delta_e decoded", judged.material.unwrap_or(f64::INFINITY));
                    all.add("retry decoded", f64::from(u8::from(!judged.accepted)));
                    measure.leak_median.into_iter().for_each(|leak| all.add("leak decoded", leak));
                }
            }
        }
        let row = |values: &Values| Row {
            iou: values.median("iou"),
            iou_decoded: values.median("iou decoded"),
            pair: values.median("pair"),
            pair_decoded: values.median("pair decoded"),
            delta_e: values.median("delta_e"),
            delta_e_decoded_truth: values.median("delta_e decoded truth"),
            delta_e_decoded: values.median("delta_e decoded"),
            leak_decoded: values.median("leak decoded"),
            retry: values.mean("retry"),
            retry_decoded: values.mean("retry decoded"),
            flip: values.median("flip"),
            attention: values.median("attention"),
            attention_delta_e: values.median("attention delta_e"),
            attention_leak: values.median("attention leak"),
        };
        generated(&mut values, settings, &judge, &suite, pairs)?;
        let parts = values.iter().map(|(part, values)| ((*part).to_owned(), row(values))).collect();
        let (strokes, objects) = (followed.median("strokes"), followed.median("objects"));
        let drawn = followed.median("edges").map(|edge_f1| Followed { edge_f1, strokes, objects });
        let calibration = Calibration { pairs, parts, drawn };
        for (part, row) in &calibration.parts {
            let cells = row.cells().map(|(name, value)| format!("{name} {}", value.map_or("–".into(), short)));
            println!("{part}: {}", cells.join(", "));
        }
        calibration.faultless().into_iter().for_each(|line| println!("{line}"));
        let path = folder.join("calibration.json");
        std::fs::write(&path, serde_json::to_vec_pretty(&calibration)?)?;
        println!("{}", path.display());
        Ok(())
    }

    /// Adds the figures that need no truth, on pictures that the model made: mirror images, and attention as the judge.
    fn generated(
        values: &mut BTreeMap<&str, Values>,
        settings: &Settings,
        judge: &Evaluator,
        suite: &Suite,
        pictures: usize,
    ) -> Result<(), Failure> {
        let mut real = Real::new(settings)?;
        let phrases = PARTS.map(str::to_owned);
        for i in 0..pictures.min(suite.pair_count()) {
            let (prompt, seed) = (suite.plain[i].as_str(), suite.seeds[i]);
            let number = i % PARTS.len();
            let asked = [Asked { part: phrases[number].clone(), rgb: suite.colors[i % suite.colors.len()].rgb }];
            let unforced = Request {
                prompt,
                seed,
                method: Method::Unforced,
                asked: &[],
                painted: &[],
                guide: None,
                unforced: None,
                phrases: &phrases,
                regions: &[],
            };
            let u = real.make(&unforced)?;
            let (seen_u, unit) = (judge.see(&u.picture)?.labels, unit(u.picture.dim()));
            let mut mirrored = u.picture.clone();
            mirrored.invert_axis(Axis(1));
            let mut mirrored = judge.see(&mirrored)?.labels;
            mirrored.invert_axis(Axis(1));
            let view = View { picture: &u.picture, phrases: &phrases, attention: &u.maps };
            let Some(Seen { labels: attended, .. }) = Saliency.look(&view)? else { continue };
            for part in PARTS {
                let region = of_class(&seen_u, class(part, &[]));
                if core(&region, unit).0 >= 1 {
                    let all = values.entry(part).or_default();
                    all.add("flip", iou(&region, &of_class(&mirrored, class(part, &[]))));
                    all.add("attention", iou(&region, &of_class(&attended, class(part, &[]))));
                }
            }
            let regions = [of_class(&seen_u, class(&asked[0].part, &[]))];
            if core(&regions[0], unit).0 == 0 {
                continue;
            }
            let method = Method::DocParts;
            let forced = Request { method, asked: &asked, phrases: &[], regions: &regions, ..unforced };
            let f = real.make(&forced)?.picture;
            let seen_f = judge.see(&f)?.labels;
            let of = |labels_unforced: &Labels, labels_forced: &Labels| {
                let pair = Pair { unforced: &u.picture, forced: &f, labels_unforced, labels_forced, unit };
                measure(&pair, class(&asked[0].part, &[]), asked[0].rgb, &[])
            };
            let (judged, own) = (of(&seen_u, &seen_f), of(&attended, &attended));
            let all = values.entry(PARTS[number]).or_default();
            if let (Some(judged), Some(own)) = (&judged.painted, &own.painted) {
                all.add("attention delta_e", own.delta_e - judged.delta_e);
            }
            if let (Some(judged), Some(own)) = (judged.leak_median, own.leak_median) {
                all.add("attention leak", own - judged);
            }
        }
        Ok(())
    }

    /// Repaints one part of a drawing in another color. Each pixel of the part moves as far as the color does.
    fn repainted(
        drawing: &Raster,
        inside: impl Fn(usize, usize) -> bool,
        from: Rgb,
        to: Rgb,
    ) -> Result<Raster, Failure> {
        let mut pixels = picture(drawing)?;
        for (_, pixel) in pixels.indexed_iter_mut().filter(|((y, x), _)| inside(*y, *x)) {
            let moved =
                |pixel: u8, from: u8, to: u8| (i16::from(pixel) + i16::from(to) - i16::from(from)).clamp(0, 255) as u8;
            *pixel = Rgb(moved(pixel.0, from.0, to.0), moved(pixel.1, from.1, to.1), moved(pixel.2, from.2, to.2));
        }
        raster(&pixels)
    }

    /// Passes a picture through the model's encoder and decoder.
    fn decoded(model: &Model, drawn: &Picture) -> Result<Picture, Failure> {
        let _no_grad = tch::no_grad_guard();
        let latent = model.encode(&raster(drawn)?.to_tensor(Device::Cpu)?)?;
        picture(&Raster::from_tensor(&model.decode(&latent)?)?)
    }
}
