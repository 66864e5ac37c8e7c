//! Coloring sketches like reference pictures, with models made for it.

mod attention;
mod injection;
pub(crate) mod manipulation;
mod preparation;

pub use attention::{FigureAndGround, ReferenceScales};
pub use injection::Injection;
pub use manipulation::{Manipulation, Texts, levels, local_weights};
pub use preparation::Ink;

use crate::attention::CrossAttentionHook;
use crate::branch::{Branch, BranchInfo};
use crate::color::Rgb;
use crate::conditioning::{Codec, Conditioning};
use crate::diffusion::Noise;
use crate::error::{Error, Result};
use crate::guidance::{Guidance, Picture, Plan, Report, Setup, WITHOUT_SKETCH};
use crate::mask::Resample;
use crate::prompt::Prompt;
use crate::raster::{Filter, Raster};
use crate::recipe::Recipe;
use crate::size::Size;
use crate::step::{Grid, Step};
use crate::vision::{ClipRange, Crop, View};
use crate::window::Window;
use attention::{Parted, Scaling};
use injection::Injecting;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use tch::{Kind, Tensor};

/// Seed of the noise that an injected reference gets, whatever the run's.
const NOISE_SEED: u64 = 0x0c01_0122;
/// Most names that a prompt may have for parts of the reference.
const MOST_NAMES: usize = 256;
/// Share of the color in the picture of a manipulation; the rest is the reference.
const COLORED: f64 = 0.7;
/// Colors of the five ranges of resemblance to a control text: deep blue, blue, green, orange, brown.
const RANGES: [[u8; 3]; 5] = [[0, 0, 128], [0, 124, 255], [121, 255, 134], [255, 136, 0], [140, 0, 0]];

/// Colors a sketch like a reference picture, with a model that was made for it ([`Model::colorizes`](crate::Model::colorizes)):
/// ColorizeDiffusion v1.
///
/// The network reads no words. Those of the prompt name parts of the reference, so that other methods find them: with the prompt "eyes,
/// hair, shirt, background" a color force on "hair" acts where the picture attends to the patches of the reference that resemble "hair" more
/// than the other names. That needs the text encoder that belongs to the vision tower; an empty prompt needs none.
///
/// Lines enter the network as features of their own; of the reference it reads a token for each patch. The branch of the negative prompt
/// goes without the reference, so a request's guidance scale says how strongly its colors count; [`DualCfg`](crate::guidance::DualCfg)
/// guides by the sketch too. Words change the tokens before the run ([`manipulate`](Self::manipulate)).
///
/// ```no_run
/// # fn main() -> impasto::Result<()> {
/// use impasto::methods::Colorize;
/// use impasto::{Pipeline, Raster, Source};
///
/// let clip = Source::dir("CLIP-ViT-H-14-laion2B-s32B-b79K"); // which reads the reference
/// let source = Source::file("mult.safetensors");
/// let mut pipeline = Pipeline::builder().source(source).tune(|options| options.image_encoder = Some(clip)).build()?;
/// let (sketch, reference) = (Raster::open("lines.png")?, Raster::open("colors.png")?);
/// let output = pipeline.request("").size((512, 512)).guide(Colorize::new(&sketch, &reference)).run()?;
/// output.image(0)?.save("colored.png")?;
/// # Ok(()) }
/// ```
///
/// Source: Yan et al. (2024), "ColorizeDiffusion: Adjustable Sketch Colorization with Reference Image and Text" (arXiv 2401.01456).
#[derive(Debug, Serialize, Deserialize)]
#[must_use]
pub struct Colorize {
    sketch: Raster,
    ink: Ink,
    strength: f64,
    reference: Option<Raster>,
    padding: f64,
    whole: bool,
    scales: ReferenceScales,
    sites: Option<Vec<f64>>,
    window: Window,
    pause: Option<Window>,
    manipulations: Vec<Manipulation>,
    injection: Option<Injection>,
    parts: Option<FigureAndGround>,
    /// The reference as the prompt's names were compared with it, for the run that begins.
    #[serde(skip)]
    looked: Option<Read>,
    #[serde(skip)]
    run: Option<Coloring>,
}

/// The state of one run.
#[derive(Debug)]
struct Coloring {
    read: Read,
    /// Features of the sketch.
    features: Vec<Tensor>,
    /// Features of a blank sheet.
    blank: Vec<Tensor>,
    /// Steps without the reference.
    off: Vec<Range<usize>>,
    /// Whether there is a step with it.
    acts: bool,
    /// Whether there is a negative prompt, which nothing reads.
    negative: bool,
    scaling: Scaling,
    injected: Option<Injected>,
}

/// The reference as a picture that goes through the network too.
#[derive(Debug)]
struct Injected {
    hook: Injecting,
    /// Features of its own lines.
    features: Vec<Tensor>,
    /// Its latent and the noise that is put into it, [1, 4, h, w].
    latent: Tensor,
    noise: Tensor,
    images: i64,
}

/// A reference as it is read.
#[derive(Debug)]
struct Read {
    /// [1, tokens, width], changed by words.
    tokens: Tensor,
    /// Captions, and the patches that each manipulation took for its control text.
    pictures: Vec<(String, Raster)>,
}

impl Colorize {
    /// Colors `sketch`, dark lines on a light ground of any size, like `reference`, a picture of any size.
    pub fn new(sketch: &Raster, reference: &Raster) -> Self {
        Self { reference: Some(reference.clone()), ..Self::freely(sketch) }
    }

    /// Colors `sketch` in colors of the model's own choice.
    pub fn freely(sketch: &Raster) -> Self {
        Self {
            sketch: sketch.clone(),
            ink: Ink::default(),
            strength: 1.0,
            reference: None,
            padding: 1.0,
            whole: false,
            scales: ReferenceScales::default(),
            sites: None,
            window: Window::WHOLE,
            pause: None,
            manipulations: Vec::new(),
            injection: None,
            parts: None,
            looked: None,
            run: None,
        }
    }
}

/// # How sketch and reference are read
impl Colorize {
    /// Sets how the sketch is drawn. Default: dark lines on a light ground.
    pub const fn ink(mut self, ink: Ink) -> Self {
        self.ink = ink;
        self
    }

    /// Puts the reference between white bars that make it this many times as wide, 1..=4: a tower that reads all of a picture squeezed
    /// takes a wide margin for a plain background. Default 1.
    pub const fn padding(mut self, factor: f64) -> Self {
        self.padding = factor;
        self
    }

    /// Reads one token for the whole reference instead of one for each patch, for models that were trained so. Default: no.
    pub const fn whole(mut self, whole: bool) -> Self {
        self.whole = whole;
        self
    }

    /// Changes the reference by words before the run, one manipulation after the other; each sees what the one before has made. The
    /// model needs the text encoder that belongs to its vision tower.
    pub fn manipulate(mut self, manipulations: impl IntoIterator<Item = Manipulation>) -> Self {
        self.manipulations.extend(manipulations);
        self
    }
}

/// # How strongly it acts
impl Colorize {
    /// Sets the factor of the sketch's features, 0..=3. Default 1.
    pub const fn sketch_strength(mut self, strength: f64) -> Self {
        self.strength = strength;
        self
    }

    /// Sets how strongly the picture attends to the reference, by parts of the network.
    pub const fn scales(mut self, scales: ReferenceScales) -> Self {
        self.scales = scales;
        self
    }

    /// Multiplies that further, one factor for each cross-attention site in the order in which they run (16 in published models), 0..=4.
    pub fn sites(mut self, factors: impl Into<Vec<f64>>) -> Self {
        self.sites = Some(factors.into());
        self
    }
}

/// # Where it acts
impl Colorize {
    /// Parts figure and background: neither takes colors of the other. Default: all of the picture reads all of the reference.
    pub fn parts(mut self, parts: FigureAndGround) -> Self {
        self.parts = Some(parts);
        self
    }
}

/// # The reference as a picture
impl Colorize {
    /// Lets the picture attend to the reference itself too. Default: only to its tokens.
    pub const fn inject(mut self, injection: Injection) -> Self {
        self.injection = Some(injection);
        self
    }
}

/// # When it acts
impl Colorize {
    /// Reads the reference only in this window; the sketch acts in all of the run. Default: the whole run.
    pub const fn window(mut self, window: Window) -> Self {
        self.window = window;
        self
    }

    /// Goes without the reference in this window, inside the other one.
    pub const fn pause(mut self, window: Window) -> Self {
        self.pause = Some(window);
        self
    }
}

impl Colorize {
    /// Reads the reference; `None` if there is none.
    fn read(&self, codec: &dyn Codec) -> Result<Option<Read>> {
        self.reference.as_ref().map(|reference| self.read_of(reference, codec)).transpose()
    }

    /// Reads a picture as a reference.
    fn read_of(&self, reference: &Raster, codec: &dyn Codec) -> Result<Read> {
        if reference.width() == 0 || reference.height() == 0 {
            return Err(Error::parameter("reference", format!("{} pixels", reference.size()), "a picture with pixels"));
        }
        let reference = preparation::padded(reference, self.padding);
        let view = View { crop: Crop::StretchAligned, range: ClipRange::Unit };
        let mut tokens = codec.vision(&reference, view)?.tokens;
        let mut pictures = Vec::new();
        if self.manipulations.iter().any(|manipulation| manipulation.scale > 0.0) {
            for manipulation in &self.manipulations {
                let encode = |text: &String| codec.text_vector(text);
                let texts = Texts {
                    target: encode(&manipulation.target)?,
                    anchor: manipulation.anchor.as_ref().map(encode).transpose()?,
                    control: manipulation.control.as_ref().map(encode).transpose()?,
                };
                if self.whole {
                    tokens = manipulation.global(&tokens.f_narrow(1, 0, 1)?, &texts)?;
                    continue;
                }
                if let (Some(control), Some(text)) = (&texts.control, &manipulation.control) {
                    let shown = correlation(&reference, &tokens, control, manipulation.thresholds)?;
                    pictures.push((format!("patches that resemble \"{text}\""), shown));
                }
                tokens = manipulation.local(&tokens, &texts)?;
            }
        }
        let count = tokens.size3()?.1;
        let read = if self.whole { tokens.f_narrow(1, 0, 1)? } else { tokens.f_narrow(1, 1, count - 1)? };
        Ok(Read { tokens: read, pictures })
    }
}

impl Colorize {
    /// Reads what is behind the reference's figure: the reference, white where the figure is.
    fn parted(&self, setup: &Setup<'_>, off: &[Range<usize>]) -> Result<Option<Parted>> {
        let (Some(parts), Some(reference)) = (&self.parts, &self.reference) else { return Ok(None) };
        let Size { width, height } = reference.size();
        let figure = parts.reference.resampled(Grid::new(height.into(), width.into()), Resample::Area)?;
        let figure = Vec::<f32>::try_from(figure.f_narrow(0, 0, 1)?.f_contiguous()?.f_view([-1])?)?;
        let mut behind = reference.clone();
        for (at, share) in (0..width.saturating_mul(height)).zip(figure) {
            if f64::from(share) >= parts.threshold {
                behind.set(at % width.max(1), at / width.max(1), Rgb(255, 255, 255));
            }
        }
        let ground = self.read_of(&behind, setup.codec)?.tokens;
        let mask = parts.sketch.for_images(setup.grid, setup.images)?;
        let shares = (parts.figure, parts.ground, parts.merge);
        Ok(Some(Parted { ground, mask, threshold: parts.threshold, shares, off: off.to_vec() }))
    }

    /// Prepares the reference to be evaluated as a picture, in branches of its own.
    fn injected(&self, setup: &mut Setup<'_>, empty: &Conditioning) -> Result<Option<Injected>> {
        let (Some(injection), Some(reference)) = (self.injection, &self.reference) else { return Ok(None) };
        let (grid, cell) = (setup.grid, setup.codec.cell());
        let size = ((grid.w * cell) as u32, (grid.h * cell) as u32);
        let picture = reference.resize(size, Filter::Bicubic)?.to_tensor(setup.device)?;
        let latent = setup.codec.encode(&picture)?.f_to_device(setup.device)?;
        let noise = Noise::seeded(NOISE_SEED).draw(&latent.size())?.f_to_device(setup.device)?;
        let lines = setup.codec.sketch(&picture.f_neg()?)?;
        let lines = lines.iter().map(|x| Ok(x.f_mul_scalar(injection.sketch)?)).collect::<Result<_>>()?;
        let with = setup.add_alone("injected reference", "", empty.share())?;
        let also = || setup.add_alone("injected reference without tokens", "", empty.share());
        let without = (injection.reference < 1.0).then(also).transpose()?;
        let hook = Injecting::new((with, without), injection.reference);
        Ok(Some(Injected { hook, features: lines, latent, noise, images: setup.images }))
    }
}

/// The parts of a prompt that commas part, without spaces around them, as bytes.
fn pieces(text: &str) -> Vec<Range<usize>> {
    let mut start = 0;
    let mut pieces = Vec::new();
    for piece in text.split(',') {
        let before = piece.len() - piece.trim_start().len();
        let bytes = start + before..start + before + piece.trim().len();
        start += piece.len() + 1;
        if !bytes.is_empty() {
            pieces.push(bytes);
        }
    }
    pieces
}

/// The patches of a reference that show each of some things: those that resemble its name more than the other names, one at least.
fn shown(tokens: &Tensor, names: &[&str], codec: &dyn Codec) -> Result<Vec<Vec<i64>>> {
    let vectors = names.iter().map(|name| codec.text_vector(name)).collect::<Result<Vec<_>>>()?;
    let vectors = Tensor::f_stack(&vectors, 0)?; // [names, width]
    let patches = tokens.f_select(0, 0)?;
    let lengths = patches.f_square()?.f_sum_dim_intlist([1i64].as_slice(), true, Kind::Float)?.f_sqrt()?;
    let alike = patches.f_div(&lengths.f_clamp_min(f64::MIN_POSITIVE)?)?.f_matmul(&vectors.f_tr()?)?; // [patches, names]
    let nearest = Vec::<i64>::try_from(alike.f_argmax(1, false)?)?;
    let best = Vec::<i64>::try_from(alike.f_argmax(0, false)?)?;
    let of = |(name, best): (i64, i64)| {
        let own: Vec<i64> = (0..).zip(&nearest).filter(|(_, of)| **of == name).map(|(patch, _)| patch).collect();
        if own.is_empty() { vec![best] } else { own }
    };
    Ok((0..).zip(best).map(of).collect())
}

/// The reference under the colors of five ranges of resemblance to a text, with lines between patches.
fn correlation(reference: &Raster, tokens: &Tensor, text: &Tensor, thresholds: [f64; 4]) -> Result<Raster> {
    let (_, count, _) = tokens.size3()?;
    let side = ((count - 1) as f64).sqrt() as i64;
    let Size { width, height } = reference.size();
    let resemblance = tokens.f_narrow(1, 1, count - 1)?.f_matmul(text)?.f_view([1, 1, side, side])?;
    let size = [i64::from(height), i64::from(width)];
    let fine = resemblance.f_upsample_bicubic2d(size, false, None::<f64>, None::<f64>)?;
    let reached = Vec::<u8>::try_from(levels(&fine, thresholds)?.f_contiguous()?.f_view([-1])?)?;
    let cell = |length: u32| (length / u32::try_from(side).unwrap_or(1).max(1)).max(1);
    let mixed = reference.bytes().chunks_exact(3).zip(reached).zip(0..width.saturating_mul(height));
    let bytes = mixed.flat_map(|((pixel, level), at)| {
        let (x, y) = (at % width.max(1), at / width.max(1));
        let line = (x > 0 && x % cell(width) == 0) || (y > 0 && y % cell(height) == 0);
        let color = RANGES.get(usize::from(level)).copied().unwrap_or_default();
        let mix = move |(own, over): (&u8, u8)| (f64::from(*own) * (1.0 - COLORED) + f64::from(over) * COLORED) as u8;
        let pixel: Vec<u8> = pixel.iter().zip(color).map(mix).collect();
        if line { vec![0; 3] } else { pixel }
    });
    Raster::from_bytes(bytes.collect(), reference.size())
}

impl Guidance for Colorize {
    fn check(&self) -> Result<()> {
        if !(0.0..=3.0).contains(&self.strength) {
            return Err(Error::parameter("sketch strength", self.strength, "0..=3; 1 is as trained"));
        }
        if !(1.0..=4.0).contains(&self.padding) {
            return Err(Error::parameter("padding", self.padding, "1..=4 times the reference's width"));
        }
        self.scales.check()?;
        attention::check(self.sites.as_deref().unwrap_or_default())?;
        self.manipulations.iter().try_for_each(Manipulation::check)?;
        self.injection.iter().try_for_each(Injection::check)?;
        self.parts.iter().try_for_each(FigureAndGround::check)?;
        self.pause.iter().try_for_each(Window::check)?;
        self.window.check()
    }

    fn prompt(&mut self, prompt: &Prompt, codec: &dyn Codec) -> Result<Option<Prompt>> {
        self.looked = None;
        let text = prompt.text();
        let pieces = pieces(text);
        if pieces.is_empty() || self.whole {
            return Ok(None);
        }
        if pieces.len() > MOST_NAMES {
            let expected = format!("at most {MOST_NAMES}, as each is compared with every patch of the reference");
            return Err(Error::parameter("names in the prompt", pieces.len(), expected));
        }
        let Some(read) = self.read(codec)? else { return Ok(None) };
        let names: Vec<&str> = pieces.iter().filter_map(|piece| text.get(piece.clone())).collect();
        let places = shown(&read.tokens, &names, codec)?;
        self.looked = Some(read);
        Ok(Some(Prompt::naming(text, &pieces.into_iter().zip(places).collect::<Vec<_>>())))
    }

    fn begin(&mut self, setup: &mut Setup<'_>) -> Result<()> {
        self.run = None;
        let (grid, cell) = (setup.grid, setup.codec.cell());
        let size = Size::new((grid.w * cell) as u32, (grid.h * cell) as u32);
        let sketch = preparation::sketch(&self.sketch, self.ink, size)?;
        let strong = |features: Vec<Tensor>| -> Result<Vec<Tensor>> {
            features.iter().map(|x| Ok(x.f_mul_scalar(self.strength)?)).collect()
        };
        let features = strong(setup.codec.sketch(&sketch)?)?;
        let blank = strong(setup.codec.sketch(&Tensor::f_full_like(&sketch, -1.0)?)?)?;
        let empty = setup.codec.text_pair("", "")?;
        let without = || Read { tokens: empty.context.shallow_clone(), pictures: Vec::new() };
        let looked = self.looked.take().map(Ok);
        let read = looked.or_else(|| self.read(setup.codec).transpose()).transpose()?.unwrap_or_else(without);

        let cross: Vec<_> = setup.sites.iter().filter(|site| site.is_cross()).collect();
        let own = self.sites.clone().unwrap_or_else(|| vec![1.0; cross.len()]);
        if own.len() != cross.len() {
            let expected = format!("{}, one for each of the model's cross-attention sites", cross.len());
            return Err(Error::parameter("number of sites", own.len(), expected));
        }
        let factors = cross.iter().zip(own).map(|(site, own)| (site.index, own * self.scales.of(site)));
        let factors = factors.collect();

        let reads = |step: Step| self.window.contains(&step) && !self.pause.is_some_and(|pause| pause.contains(&step));
        let on: Vec<bool> = setup.schedule.steps().map(reads).collect();
        let off: Vec<_> = on.iter().enumerate().filter(|(_, on)| !**on).map(|(at, _)| at..at + 1).collect();
        let acts = on.contains(&true);
        let scaling = Scaling { factors, parted: self.parted(setup, &off)?, readers: Vec::new() };
        let injected = self.injected(setup, &empty)?;
        let _ = setup.add(WITHOUT_SKETCH, Branch::Cond, "", empty)?;
        self.run = Some(Coloring { read, features, blank, off, acts, negative: false, scaling, injected });
        Ok(())
    }

    fn condition(&mut self, branch: &BranchInfo, conditioning: &mut Conditioning, _: &dyn Codec) -> Result<()> {
        let Some(run) = &mut self.run else { return Ok(()) };
        if let Some(injected) = run.injected.as_mut().filter(|_| [Branch::Cond, Branch::Uncond].contains(&branch.like))
        {
            injected.hook.readers.push((branch.branch, branch.like == Branch::Uncond));
        }
        run.negative |= branch.branch == Branch::Uncond && !branch.prompt.trim().is_empty();
        if branch.like == Branch::Cond {
            run.scaling.readers.push(branch.branch);
        }
        let run = &*run;
        let injected = run.injected.as_ref().map(|injected| (&injected.features, injected.hook.writers));
        let (features, reads) = match injected {
            Some((lines, (writer, _))) if writer == branch.branch => (lines, true),
            Some((lines, (_, Some(writer)))) if writer == branch.branch => (lines, false),
            _ if branch.role == WITHOUT_SKETCH => (&run.blank, true),
            _ => (&run.features, branch.like == Branch::Cond),
        };
        let share = |features: &[Tensor]| features.iter().map(Tensor::shallow_clone).collect();
        let zeros = run.read.tokens.f_zeros_like()?;
        conditioning.during(0..usize::MAX, |part| {
            part.context = if reads { run.read.tokens.shallow_clone() } else { zeros.shallow_clone() };
            part.features = share(features);
            Ok(())
        })?;
        for steps in &run.off {
            conditioning.during(steps.clone(), |part| {
                part.context = zeros.shallow_clone();
                Ok(())
            })?;
        }
        Ok(())
    }

    fn plan(&mut self, step: &Step, plan: &mut Plan) -> Result<()> {
        let acts = self.injection.is_some_and(|injection| injection.window.contains(step));
        let Some(injected) = self.run.as_mut().and_then(|run| run.injected.as_mut()) else { return Ok(()) };
        injected.hook.begin(acts);
        if acts {
            let noised = injected.latent.f_add(&injected.noise.f_mul_scalar(step.sigma)?)?;
            let (_, channels, h, w) = noised.size4()?;
            // Not as a view: kernels choose by strides, and an image is the same to the bit alone and in a batch.
            let rows = noised.f_expand([injected.images, channels, h, w], false)?.f_contiguous()?;
            let (with, without) = injected.hook.writers;
            plan.evaluate_at(with, rows.shallow_clone());
            without.into_iter().for_each(|without| plan.evaluate_at(without, rows.shallow_clone()));
        }
        Ok(())
    }

    fn hooks(&mut self) -> Vec<&mut dyn CrossAttentionHook> {
        let Some(run) = &mut self.run else { return Vec::new() };
        let injecting = run.injected.iter_mut().map(|injected| &mut injected.hook as &mut dyn CrossAttentionHook);
        injecting.chain([&mut run.scaling as &mut dyn CrossAttentionHook]).collect()
    }

    fn notes(&self) -> Vec<String> {
        let Some(run) = &self.run else { return Vec::new() };
        let never = !run.acts && self.reference.is_some();
        let never = never.then(|| format!("no step of this run reads the reference: its window is {}", self.window));
        let negative = run.negative.then(|| "the negative prompt was not read: this model reads no words".to_owned());
        never.into_iter().chain(negative).collect()
    }

    fn report(&self) -> Result<Option<Report>> {
        let Some(run) = &self.run else { return Ok(None) };
        let manipulations: Vec<String> = self.manipulations.iter().map(ToString::to_string).collect();
        let data = serde_json::json!({
            "ink": self.ink, "sketch strength": self.strength, "padding": self.padding, "scales": self.scales,
            "window": self.window, "manipulations": manipulations,
        });
        let mut report = Report::new("Colorize").data(data).picture(Picture::new("the sketch", self.sketch.clone()));
        if let Some(reference) = &self.reference {
            report = report.picture(Picture::new("the reference", reference.clone()));
        }
        let pictures = run.read.pictures.iter().map(|(caption, shown)| Picture::new(caption, shown.clone()));
        Ok(Some(pictures.fold(report, Report::picture)))
    }

    fn recipe(&self) -> Result<Recipe> {
        Recipe::of("Colorize", self)
    }

    fn name(&self) -> &'static str {
        "Colorize"
    }
}
