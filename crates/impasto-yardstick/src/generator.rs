//! The generator that makes the pictures of every method with a real model.

use crate::edges;
use crate::failure::Failure;
use crate::guides::{self, Guide, STRENGTHS, Subject};
use crate::picture::{self, Picture};
use crate::picture::{picture, raster};
use crate::placement::painted;
use crate::random::fnv;
use crate::reference;
use crate::regions::Mask;
use crate::shot::{Generator, Own, Request, Shot};
use crate::strokes;
use crate::task::{self, Asked, Method, PARTS};
use impasto::color::linear_mean;
use impasto::guidance::Guidance;
use impasto::hint::Strokes;
use impasto::job::{Force, Job, Nets};
use impasto::mask::Region;
use impasto::methods::color_force::{ColorReport, ForceRun, ForceTarget, Texture};
use impasto::methods::image_guidance::GuidanceParams;
use impasto::methods::paint_with_words::{Area, WeightFn};
use impasto::methods::{ColorForce, ImageGuidance, PaintWithWords, ReferenceColor};
use impasto::nn::ControlNet;
use impasto::saliency::{ConceptAttention, ConceptAttentionRun, Daam, DaamRun, Differential, SaliencyRun};
use impasto::vision::{View, VisionEncoder};
use impasto::{Codec, Control, Grid, Lab, Pipeline, Raster, Rgb, Size, Source, Window};
use impasto_train::dataset::{Class, Dataset};
use ndarray::Array2;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use tch::{Kind, Tensor};

/// Settings with which a part is forced.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Preset {
    pub color_var: f64,
    pub cutoff: f64,
    /// Adds the saliency of a second prompt with "pink" before the phrase.
    pub differential: bool,
}

/// Noise levels of the one step at which the method `subspace-shift` acts. The paper's step, 9 of 50, has the level
/// 8.6.
const SHIFTED: (f64, f64) = (8.0, 9.5);
/// Color variance at which a step takes the whole shift.
const WHOLE_SHIFT: f64 = 1e-4;
/// Settings of the first example in the document that describes color forcing.
const DOC: Preset = Preset { color_var: 40.0, cutoff: 0.15, differential: false };
/// Least share of a latent cell that a region must cover so that `oracle` forces the cell.
const MOST_OF_A_CELL: f64 = 0.5;
/// The folders in which a model has its weights and its noise levels.
const FOLDERS: [&str; 9] = [
    "scheduler",
    "unet",
    "transformer",
    "vae",
    "text_encoder",
    "text_encoder_2",
    "text_encoder_3",
    "text_conditioner",
    "image_encoder",
];
/// Weights of `pww`: an object's weights inside and outside its area, and the weights of the surroundings for one
/// object and for several.
const PAINT: ([f64; 2], [f64; 2]) = ([1.5, -0.5], [0.5, 1.0]);

/// Returns the settings of the document's example for a part. Shirt and background have the settings of hair.
pub fn doc_parts(part: &str) -> Preset {
    match part {
        "eyes" => DOC,
        "hair bow" => Preset { color_var: 15.0, cutoff: 0.17, differential: false },
        "skin" => Preset { color_var: 20.0, cutoff: 0.12, differential: true },
        _ => Preset { color_var: 25.0, cutoff: 0.20, differential: true },
    }
}

/// Settings with which pictures are made.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub model: Source,
    pub solver: String,
    pub steps: usize,
    pub scale: Option<f64>,
    pub size: Option<(u32, u32)>,
    /// Settings of parts that `tune` found.
    pub tuned: BTreeMap<String, Preset>,
    /// The unsteady parts of [`crate::runner::Plan::unsteady`].
    pub unsteady: Vec<String>,
    /// The name of the wording of prompts; empty for the suite's own wording.
    pub wording: String,
    /// Number of seeds from which `exact` chooses one by its first pass. With 1 the suite's seed is taken.
    pub best_of: usize,
}

impl Default for Settings {
    fn default() -> Self {
        let solver = "Euler a".to_owned();
        Self {
            model: Source::embedded(),
            solver,
            steps: 28,
            scale: None,
            size: None,
            tuned: BTreeMap::new(),
            unsteady: Vec::new(),
            wording: String::new(),
            best_of: 1,
        }
    }
}

impl Settings {
    /// Returns the job of a picture without methods.
    fn job(&self, prompt: &str, seed: u64) -> Job {
        let mut job = Job::default();
        job.config.prompt = prompt.into();
        job.config.seed = Some(seed);
        job.config.steps = Some(self.steps);
        job.config.solver_named = Some(self.solver.clone());
        job.config.guidance_scale = self.scale;
        job.config.size = self.size.map(Size::from);
        job
    }

    /// Returns a hash of everything that the figures depend on, except the model.
    pub fn hash(&self, judge: &str) -> String {
        let parts: Vec<Preset> = PARTS.map(doc_parts).to_vec();
        let methods = format!("{DOC:?}|{parts:?}|{:?}|{PAINT:?}|{STRENGTHS:?}", self.tuned);
        let run = format!("{}|{}|{:?}|{:?}|batch 1", self.solver, self.steps, self.scale, self.size);
        let unsteady = self.unsteady.concat();
        let chosen = if self.best_of > 1 { format!("|best of {}", self.best_of) } else { String::new() };
        format!("{:016x}", fnv(format!("{run}|{methods}|{judge}{unsteady}{}{chosen}", self.wording)))
    }

    /// Returns a fingerprint of the weights, from the size, the header and samples of every file. Embedded files are
    /// read whole.
    pub fn fingerprint(&self) -> Result<String, Failure> {
        let folder = match &self.model {
            Source::File(path) => return fingerprint(path),
            Source::Dir(folder) => folder.clone(),
            source => {
                let own = match source {
                    Source::EmbeddedFast => impasto_tiny_fast::FILES,
                    Source::EmbeddedFlow => impasto_tiny_flow::FILES,
                    _ => &[],
                };
                let files = impasto_tiny::FILES.iter().chain(own);
                return Ok(hash(files.map(|(_, bytes)| format!("{:016x}", fnv(bytes)))));
            }
        };
        let mut files = Vec::new();
        for part in FOLDERS.map(|part| folder.join(part)) {
            if part.is_dir() {
                files.extend(std::fs::read_dir(&part)?.filter_map(|entry| Some(entry.ok()?.path())));
            }
        }
        files.sort();
        let of_files = files.iter().filter(|file| file.is_file()).map(|file| fingerprint(file));
        Ok(hash(of_files.collect::<Result<Vec<_>, _>>()?))
    }
}

/// Combines several hashes into one.
fn hash(hashes: impl IntoIterator<Item = String>) -> String {
    hashes.into_iter().fold(String::new(), |all, one| format!("{:016x}", fnv(format!("{all}{one}"))))
}

/// The model that `--model` names: `embedded`, a folder, a file, or a repository of the hub, which is fetched.
pub fn model(name: &str) -> Result<Source, Failure> {
    let source: Source = name.parse()?;
    #[cfg(feature = "hub")]
    if let Source::Hub(hub) = &source {
        return Ok(hub.fetch(None)?);
    }
    Ok(source)
}

/// Hash of a file's size, its first 64 KiB and sixteen samples of 4 KiB.
pub fn fingerprint(file: &Path) -> Result<String, Failure> {
    let mut open = std::fs::File::open(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let size = open.metadata()?.len();
    let mut bytes = vec![0; 65536];
    let mut text = format!("{size}");
    for place in 0..=16 {
        let _ = open.seek(SeekFrom::Start(size * place / 17))?;
        let piece = if place == 0 { 65536 } else { 4096 };
        let read = open.by_ref().take(piece).read(&mut bytes)?;
        text.extend(bytes[..read].iter().map(|byte| char::from(*byte)));
    }
    Ok(format!("{:016x}", fnv(text)))
}

/// A model with everything that the methods need.
pub struct Real {
    pipeline: Pipeline,
    settings: Settings,
    round_trips: HashMap<Rgb, f64>,
    /// The ControlNet for drawings, loaded when a run first needs the net.
    net: Option<ControlNet>,
    /// ControlNets that jobs name: none, as the methods with a ControlNet draw their hints.
    nets: Nets,
}

impl Real {
    pub fn new(settings: &Settings) -> Result<Self, Failure> {
        let pipeline = Pipeline::builder().source(settings.model.clone()).build()?;
        settings.job("", 0).check()?;
        let (round_trips, nets) = (HashMap::new(), Nets::default());
        Ok(Self { pipeline, settings: settings.clone(), round_trips, net: None, nets })
    }

    /// Returns the force of a method on a part.
    fn force(&self, method: Method, asked: &Asked, region: &Mask) -> Result<ColorForce, Failure> {
        let Asked { part, rgb } = asked;
        match method {
            Method::Doc => Ok(force(part, *rgb, DOC)),
            Method::DocParts => Ok(force(part, *rgb, doc_parts(part))),
            Method::Subspace => Ok(force(part, *rgb, DOC).tune(|options| options.color_subspace = true)),
            Method::SubspaceShift => Ok(subspace_shift(part, *rgb, region)),
            Method::Oracle => Ok(ColorForce::exact(part, *rgb).saliency(drawn(region)).saliency_cutoff(MOST_OF_A_CELL)),
            Method::Tuned => match self.settings.tuned.get(part) {
                Some(preset) => Ok(force(part, *rgb, *preset)),
                None => Err(format!("the method tuned has no settings for {part}; run `tune` first").into()),
            },
            Method::Exact => Ok(ColorForce::exact(part, *rgb)),
            _ => Err(format!("the method {} forces no color", method.name()).into()),
        }
    }

    /// Returns all forces of a method.
    fn forces(&self, asked: &Request<'_>) -> Result<Forces, Failure> {
        match asked.method {
            Method::ControlStrokes => match asked.guide {
                Some((original, _)) => {
                    let strokes = edges::drawing(original, asked.seed)?.strokes;
                    Ok(Forces { all: ColorForce::painted(&strokes)?, of_asked: Vec::new(), strokes: None })
                }
                None => Err("the method control-strokes needs a drawing, but the run has none".into()),
            },
            Method::Strokes => {
                let size = asked.regions.first().map_or((0, 0), Mask::dim);
                let strokes = strokes::strokes(asked.asked, asked.regions, size);
                let colors: Vec<Rgb> = strokes.colors()?.into_iter().map(|(color, _)| color).collect();
                // Parts of one color share a force, and a part too small for a stroke has none.
                let of = |each: &Asked| colors.iter().position(|color| *color == each.rgb);
                let of_asked = asked.asked.iter().map(of).collect();
                Ok(Forces { all: ColorForce::painted(&strokes)?, of_asked, strokes: Some(strokes) })
            }
            method if method.row().mask == task::Mask::None => Ok(Forces::default()),
            method => {
                let each = asked.asked.iter().zip(asked.regions);
                let all: Vec<_> =
                    each.map(|(each, region)| self.force(method, each, region)).collect::<Result<_, _>>()?;
                Ok(Forces { of_asked: (0..all.len()).map(Some).collect(), all, strokes: None })
            }
        }
    }

    /// Makes a picture for no method, with `force` if it is given.
    pub fn picture(&mut self, prompt: &str, seed: u64, force: Option<ColorForce>) -> Result<Picture, Failure> {
        let Self { pipeline, settings, nets, .. } = self;
        let mut request = settings.job(prompt, seed).request(pipeline, nets)?;
        if let Some(force) = force {
            request = request.guide(force);
        }
        picture(request.run()?.image(0)?)
    }
}

/// The forces of a run.
#[derive(Default)]
struct Forces {
    all: Vec<ColorForce>,
    /// Index in `all` of the force of each asked color; `None` without a force.
    of_asked: Vec<Option<usize>>,
    /// Strokes with which the forces were painted.
    strokes: Option<Strokes>,
}

/// A force on a part with these settings.
pub fn force(part: &str, color: Rgb, preset: Preset) -> ColorForce {
    let force = ColorForce::published(part, color).color_var(preset.color_var).saliency_cutoff(preset.cutoff);
    match preset.differential {
        true => force.saliency((Daam::of(part), Differential::of(part, "pink"))),
        false => force,
    }
}

/// The shift of the paper "Latent Color Subspace" (arXiv 2603.12261) in a region: at one step, the mean of the clean
/// latent's color moves to the color.
fn subspace_shift(part: &str, color: Rgb, region: &Mask) -> ColorForce {
    let (low, high) = SHIFTED;
    ColorForce::published(part, color)
        .saliency(drawn(region))
        .saliency_cutoff(MOST_OF_A_CELL)
        .window(Window::sigmas(low..=high))
        .color_var(WHOLE_SHIFT)
        .tune(|options| {
            options.target = ForceTarget::Denoised;
            options.texture = Texture::MaskedMean;
            options.color_subspace = true;
        })
}

impl Generator for Real {
    fn make(&mut self, asked: &Request<'_>) -> Result<Shot, Failure> {
        let Forces { mut all, of_asked, strokes } = self.forces(asked)?;
        let paint = (asked.method == Method::Pww).then(|| paint(asked));
        let mut guided = None;
        let mut hint = None;
        let mut colors = None;
        match (asked.method, asked.guide) {
            (Method::Image, Some((drawing, strength))) => guided = Some(follow(drawing, strength)?),
            (Method::Control | Method::ControlStrokes, Some((original, _))) => {
                hint = Some(edges::drawing(original, asked.seed)?);
            }
            (method @ (Method::Reference | Method::ReferenceLike), Some((drawing, _))) => {
                let drawing = raster(drawing)?;
                if method == Method::ReferenceLike {
                    let reference = self.pipeline.reference(&drawing, &PARTS.join(", "), PARTS)?;
                    let shown = PARTS.into_iter().filter(|part| reference.color(part).is_ok());
                    let named = shown.filter(|part| guides::names(asked.prompt, part));
                    let forces = named.map(|part| ColorForce::like(&reference, part));
                    all.extend(forces.collect::<Result<Vec<_>, _>>()?);
                }
                colors = Some(ReferenceColor::new(&drawing));
                hint = asked.unforced.map(reference::lines).transpose()?;
            }
            _ => {}
        }
        if hint.is_some() && self.net.is_none() {
            self.net = Some(self.pipeline.model().controlnet(&Source::embedded())?);
        }

        let Self { pipeline, settings, net, nets, .. } = self;
        let mut request = settings.job(asked.prompt, asked.seed).request(pipeline, nets)?;
        let labels: Vec<String> = all.iter().map(Guidance::label).collect();
        for force in all {
            request = request.guide(force);
        }
        for phrase in asked.phrases {
            request = match asked.method {
                Method::Exact => request.guide(competing(phrase)),
                Method::Concept => request.guide(ConceptAttention::of(phrase)),
                _ => request.guide(Daam::of(phrase)),
            };
        }
        if let Some(paint) = paint {
            request = request.guide(paint);
        }
        if let Some(guided) = guided {
            request = request.guide(guided);
        }
        if let Some(colors) = colors {
            request = request.guide(colors);
        }
        if let (Some(net), Some(hint)) = (net, &hint) {
            let strokes = matches!(asked.method, Method::Control | Method::ControlStrokes);
            let control = Control::drawing(&*net, hint);
            // Lines alone are followed as closely by both branches.
            request = request.control(if strokes { control } else { control.scale(1.0).guess(None) });
        }
        let output = request.run()?;
        let picture = picture(output.image(0)?)?;

        let reports = asked.method.row().reports;
        let mut own = Vec::new();
        for (each, force) in asked.asked.iter().zip(of_asked) {
            let Some(label) = force.and_then(|force| labels.get(force)) else {
                own.push(Own::default());
                continue;
            };
            let details = output.details::<ColorReport>(label)?;
            let delta_e = details.painted.first().map(|painted| painted.delta_e);
            let under_stroke = strokes.as_ref().and_then(|strokes| strokes::delta_e(strokes, &picture, each.rgb));
            let mask = Some(last_mask(output.details(label)?, picture.dim())?);
            own.push(Own { delta_e, converged: reports.then_some(details.converged), mask, under_stroke });
        }
        let mut maps = Vec::new();
        for phrase in asked.phrases {
            let map = match asked.method {
                Method::Exact => along_outlines(output.details(phrase)?, output.image(0)?)?,
                Method::Concept => output.details::<ConceptAttentionRun>(phrase)?.heat_map(0)?.expand((64, 64))?,
                _ => output.details::<DaamRun>(phrase)?.heat_map(0)?.expand((64, 64))?,
            };
            let values = Vec::<f32>::try_from(&map.f_flatten(0, -1)?)?;
            maps.push((phrase.clone(), Array2::from_shape_vec((64, 64), values)?));
        }
        Ok(Shot { picture, own, maps })
    }

    fn chosen(&mut self, asked: &Request<'_>) -> Result<u64, Failure> {
        let candidates = self.settings.best_of;
        if candidates == 1 || asked.method != Method::Exact || asked.asked.is_empty() {
            return Ok(asked.seed);
        }
        let Self { pipeline, settings, nets, .. } = self;
        let mut job = settings.job(asked.prompt, asked.seed);
        job.config.best_of = candidates;
        job.forces =
            asked.asked.iter().map(|Asked { part, rgb }| Force { phrase: part.clone(), color: *rgb }).collect();
        Ok(job.request(pipeline, nets)?.run()?.seed.unwrap_or(asked.seed))
    }

    fn drawing(&mut self, guide: &Guide) -> Result<Picture, Failure> {
        drawing(guide, self.pipeline.model().defaults().width)
    }

    fn likeness(&mut self, a: &Picture, b: &Picture) -> Result<f64, Failure> {
        // CLIP was trained to compare the token of the whole picture.
        let seen = |picture: &Picture| -> Result<Tensor, Failure> {
            let tokens = self.pipeline.model().vision(&raster(picture)?, View::default())?.tokens;
            Ok(tokens.f_select(0, 0)?.f_select(0, 0)?.f_to_kind(Kind::Double)?)
        };
        let (a, b) = (seen(a)?, seen(b)?);
        Ok(a.f_dot(&b)?.f_double_value(&[])? / (a.f_norm()?.f_double_value(&[])? * b.f_norm()?.f_double_value(&[])?))
    }

    fn round_trip(&mut self, color: Rgb) -> Option<f64> {
        if let Some(known) = self.round_trips.get(&color) {
            return Some(*known);
        }
        let model = self.pipeline.model();
        let shown = || -> Result<f64, Failure> {
            let own = model.defaults();
            let (width, height) = self.settings.size.unwrap_or((own.width, own.height));
            let grid = Grid::new(i64::from(height) / model.cell(), i64::from(width) / model.cell());
            let decoded = model.decode(&model.flat(color, grid)?)?;
            let (_, _, h, w) = decoded.size4()?;
            let middle = decoded.f_slice(2, h / 4, h - h / 4, 1)?.f_slice(3, w / 4, w - w / 4, 1)?;
            let light = linear_mean(&middle.f_reshape([3, -1])?.f_to_kind(Kind::Float)?)?;
            Ok(Lab::from_linear(light).delta_e(picture::lab(color)))
        };
        let shown = shown().ok()?;
        let _ = self.round_trips.insert(color, shown);
        Some(shown)
    }
}

/// The saliency with which `ColorForce::exact` finds a phrase.
fn competing(phrase: &String) -> Daam {
    Daam::competing(phrase)
        .tune(|options| options.changes = ["red", "green", "blue"].map(|word| Differential::of(phrase, word)).into())
}

/// Returns the map of `look` along the picture's outlines, as `ColorForce::exact` uses it, on 64 × 64 cells.
fn along_outlines(look: &DaamRun, picture: &Raster) -> Result<Tensor, Failure> {
    let map = look.map()?.ok_or("no step recorded attention")?;
    let region = Region::along_outlines(&map, picture)?;
    let values = region.values().ok_or("the region along the outlines has no values")?;
    let (h, w) = values.dim();
    let values = Tensor::f_from_slice(&values.iter().copied().collect::<Vec<f32>>())?;
    Ok(values.f_reshape([1, 1, h as i64, w as i64])?.f_adaptive_avg_pool2d([64, 64])?)
}

/// A part's mask as a saliency.
fn drawn(mask: &Mask) -> Region {
    Region::new(mask.mapv(|inside| f32::from(u8::from(inside))))
}

/// Paints every object in its area, in a color of its own, on the white of ground and sky.
fn paint(asked: &Request<'_>) -> PaintWithWords {
    const SIDE: f64 = 128.0;
    const WHITE: Rgb = Rgb(255, 255, 255);
    let color = |i: usize| Rgb(200, 40 * i as u8, 30);
    let mut map = Raster::flat(WHITE, (SIDE as u32, SIDE as u32));
    for (i, each) in asked.painted.iter().enumerate() {
        let [left, top, right, bottom] = painted(each.area).map(|share| (SIDE * share) as u32);
        map.paste(&Raster::flat(color(i), (right - left, bottom - top)), left, top);
    }
    let ([strength, outside], [one, several]) = PAINT;
    let around = if asked.painted.len() > 1 { several } else { one };
    let paint = PaintWithWords::new(&map).weight(WeightFn::LogMax(0.4));
    let each = asked.painted.iter().enumerate();
    let paint = each
        .fold(paint, |paint, (i, each)| paint.area(Area { strength, outside, ..Area::color(color(i), each.object) }));
    ["ground", "sky"].into_iter().fold(paint, |paint, word| paint.color(WHITE, word, around))
}

/// Guidance that moves every word towards the guide's token that resembles the word most.
fn follow(drawing: &Picture, strength: f64) -> Result<ImageGuidance, Failure> {
    Ok(ImageGuidance::new(&raster(drawing)?).tune(|params| {
        *params = GuidanceParams::off();
        params.linear = (1.0, 1.0);
        params.snap = false;
        params.max_guidance = strength;
    }))
}

/// Draws a guide at the size of the model's pictures. Seeds are tried until the drawing has the guide's subject.
fn drawing(guide: &Guide, side: u32) -> Result<Picture, Failure> {
    let dataset = Dataset::new(side)?;
    let mut seed = guide.seed;
    loop {
        let drawing = dataset.draw(seed)?;
        let has = |class: Class| drawing.record.color_of(class).is_some();
        let fits = match guide.subject {
            Subject::Portrait => has(Class::Hair),
            Subject::Scene => !has(Class::Hair),
            Subject::SceneOf(object) => Class::ALL.into_iter().any(|class| class.name() == object && has(class)),
        };
        if fits {
            return picture(&drawing.picture);
        }
        seed += 2;
    }
}

/// The mask of the last forced step at the picture's size.
fn last_mask(force: &ForceRun, (h, w): (usize, usize)) -> Result<Mask, Failure> {
    let masks = force.masks()?; // [steps, 1, h, w]
    let last: Tensor =
        masks.f_narrow(0, masks.size()[0] - 1, 1)?.f_upsample_nearest2d([h as i64, w as i64], None, None)?;
    let values = Vec::<f32>::try_from(&last.f_flatten(0, -1)?)?;
    Ok(Array2::from_shape_vec((h, w), values.into_iter().map(|value| value >= 0.5).collect())?)
}
