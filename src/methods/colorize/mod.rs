//! Coloring of sketches like reference pictures, with models that were trained for this.

mod attention;
mod dual_cfg;
mod figure;
mod injection;
mod manipulation;
mod options;
mod preparation;
mod reading;
#[cfg(test)]
mod tests;

pub use attention::{FigureAndGround, ReferenceScales};
pub use dual_cfg::DualCfg;
pub use injection::Injection;
pub use manipulation::Manipulation;
pub use options::ColorizeOptions;
pub use preparation::Ink;

use crate::attention::CrossAttentionHook;
use crate::branch::{Branch, BranchInfo};
use crate::conditioning::{Codec, Conditioning};
use crate::diffusion::Noise;
use crate::error::{Error, Result};
use crate::guidance::{Guidance, GuidanceRun, Picture, Plan, Report, Setup};
use crate::prompt::Prompt;
use crate::raster::{Filter, Raster};
use crate::recipe::Recipe;
use crate::reference::{ReferenceFeatures, SketchColorizer, SketchFeatures};
use crate::size::Size;
use crate::step::Step;
use crate::window::Window;
use crate::wording::Note;
use attention::Scaling;
use dual_cfg::WITHOUT_SKETCH;
use injection::Injecting;
use reading::{Read, Reading, pieces, shown};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use tch::Tensor;

/// Seed of the noise of an injected reference, independent of the run's seed.
const NOISE_SEED: u64 = 0x0c01_0122;
/// Largest number of names that a prompt may have for parts of the reference.
const MOST_NAMES: usize = 256;

/// Colors a sketch like a reference picture, with a model that was trained for this task
/// ([`Model::colorizes`](crate::Model::colorizes)): ColorizeDiffusion of version 1, 1.5 or 2.
///
/// The network reads no words. Words of the prompt name parts of the reference, so that other guidance methods find
/// these parts. With the prompt "eyes, hair, shirt, background", a color force on "hair" acts where the picture attends
/// to the "hair" patches of the reference. Of all names, these patches resemble "hair" most. Names need the text
/// encoder that belongs to the vision tower; an empty prompt needs no text encoder.
///
/// The sketch's lines enter the network as separate features. The network reads one token for each patch of the
/// reference. The branch of the negative prompt does not read the reference, so a request's guidance scale sets how
/// strongly the reference's colors count. [`DualCfg`] guides by the sketch too. Words can
/// change the tokens before the run ([`manipulate`](Self::manipulate)).
///
/// ```no_run
/// # fn main() -> impasto::Result<()> {
/// use impasto::methods::Colorize;
/// use impasto::{Pipeline, Raster, Source};
///
/// let clip = Source::dir("CLIP-ViT-H-14-laion2B-s32B-b79K"); // which reads the reference
/// let source = Source::file("mult.safetensors");
/// let pipeline = Pipeline::builder().source(source).tune(|options| options.image_encoder = Some(clip)).build()?;
/// let (sketch, reference) = (Raster::open("lines.png")?, Raster::open("colors.png")?);
/// let output = pipeline.request("").size((512, 512)).guide(Colorize::new(&sketch, &reference)).run()?;
/// output.image(0)?.save("colored.png")?;
/// # Ok(()) }
/// ```
///
/// Source: Yan et al. (2024), "ColorizeDiffusion: Adjustable Sketch Colorization with Reference Image and Text" (arXiv
/// 2401.01456).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[must_use]
pub struct Colorize {
    sketch: Raster,
    reference: Option<Raster>,
    window: Window,
    manipulations: Vec<Manipulation>,
    #[serde(flatten)]
    options: ColorizeOptions,
}

/// The state of one run.
#[derive(Debug)]
struct Coloring {
    settings: Colorize,
    read: Read,
    /// Features of the sketch.
    features: SketchFeatures,
    /// Features of a blank sheet.
    blank: SketchFeatures,
    /// Steps without the reference.
    off: Vec<Range<usize>>,
    /// True if at least one step reads the reference.
    acts: bool,
    /// True if there is a negative prompt, which the network does not read.
    negative: bool,
    scaling: Scaling,
    injected: Option<Injected>,
    /// Features for the expanding half of the network.
    features_up: Option<ReferenceFeatures>,
}

/// The reference as a picture that also goes through the network.
#[derive(Debug)]
struct Injected {
    hook: Injecting,
    /// Features of the reference's own lines.
    features: SketchFeatures,
    /// Latent of the reference, [1, 4, h, w]; `noise` has the same shape and is added to the latent.
    latent: Tensor,
    noise: Tensor,
    images: i64,
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
            reference: None,
            window: Window::WHOLE,
            manipulations: Vec::new(),
            options: ColorizeOptions::default(),
        }
    }
}

impl Colorize {
    /// Changes the reference by words before the run. Manipulations act in order, each on the result of the one before.
    /// The model needs the text encoder that belongs to its vision tower.
    pub fn manipulate(mut self, manipulations: impl IntoIterator<Item = Manipulation>) -> Self {
        self.manipulations.extend(manipulations);
        self
    }

    /// Reads the reference only in this window, while the sketch acts in the whole run. Default: the whole run.
    pub const fn window(mut self, window: Window) -> Self {
        self.window = window;
        self
    }

    /// Changes the other settings in place; [`ColorizeOptions`] describes them.
    ///
    /// ```
    /// use impasto::methods::Colorize;
    /// use impasto::methods::colorize::Ink;
    /// use impasto::{Raster, Rgb};
    /// let sketch = Raster::flat(Rgb(0, 0, 0), (64, 64));
    /// let colors = Colorize::freely(&sketch).tune(|options| options.ink = Ink::Light);
    /// ```
    pub fn tune(mut self, change: impl FnOnce(&mut ColorizeOptions)) -> Self {
        change(&mut self.options);
        self
    }
}

impl Colorize {
    /// Reads the reference; returns `None` if there is none.
    fn read(&self, codec: &dyn Codec) -> Result<Option<Read>> {
        self.reference.as_ref().map(|reference| self.read_of(reference, codec)).transpose()
    }

    /// Reads a picture as a reference.
    /// Returns the prompt with the places of its names among the tokens of the reference; `None` if the prompt has no
    /// names.
    fn placed(&self, prompt: &Prompt, read: &Read, codec: &dyn Codec) -> Result<Option<Prompt>> {
        let text = prompt.text();
        let pieces = pieces(text);
        if pieces.is_empty() || self.options.whole {
            return Ok(None);
        }
        if pieces.len() > MOST_NAMES {
            let expected =
                format!("at most {MOST_NAMES}, because each name is compared with every patch of the reference");
            return Err(Error::parameter("number of names in the prompt", pieces.len(), expected));
        }
        let names: Vec<&str> = pieces.iter().filter_map(|piece| text.get(piece.clone())).collect();
        let places = shown(&read.tokens, &names, codec)?;
        Ok(Some(Prompt::naming(text, &pieces.into_iter().zip(places).collect::<Vec<_>>())))
    }

    fn read_of(&self, reference: &Raster, codec: &dyn Codec) -> Result<Read> {
        let &ColorizeOptions { padding, whole, .. } = &self.options;
        Reading { padding, whole, manipulations: &self.manipulations }.read(reference, codec)
    }
}

impl Colorize {
    /// Prepares the reference to be evaluated as a picture, in branches of its own.
    fn inject(&self, setup: &mut Setup<'_>, empty: &Conditioning) -> Result<Option<Injected>> {
        let (Some(injection), Some(reference)) = (self.options.injection, &self.reference) else { return Ok(None) };
        let (grid, cell) = (setup.grid, setup.codec.cell());
        let size = ((grid.w * cell) as u32, (grid.h * cell) as u32);
        let picture = reference.resize(size, Filter::Bicubic)?.to_tensor(setup.device)?;
        let latent = setup.codec.encode(&picture)?.f_to_device(setup.device)?;
        let noise = Noise::seeded(NOISE_SEED).draw(&latent.size())?.f_to_device(setup.device)?;
        let lines = <dyn SketchColorizer>::of(setup.codec)?.sketch(&picture.f_neg()?)?.scale(injection.sketch)?;
        let with = setup.add_alone("injected reference", "", empty.share())?;
        let also = || setup.add_alone("injected reference without tokens", "", empty.share());
        let without = (injection.reference < 1.0).then(also).transpose()?;
        let hook = Injecting::new((with, without), injection.reference);
        Ok(Some(Injected { hook, features: lines, latent, noise, images: setup.images }))
    }
}

impl Guidance for Colorize {
    fn check(&self) -> Result<()> {
        self.options.check()?;
        self.manipulations.iter().try_for_each(Manipulation::check)?;
        self.window.check()
    }

    fn replaces_context(&self) -> bool {
        true
    }

    fn begin(&self, setup: &mut Setup<'_>, _: Option<Box<dyn GuidanceRun>>) -> Result<Box<dyn GuidanceRun>> {
        let looked = self.read(setup.codec)?;
        if let Some(prompt) = looked.as_ref().map(|read| self.placed(setup.prompt, read, setup.codec)).transpose()? {
            prompt.into_iter().for_each(|prompt| setup.replace_prompt(prompt));
        }
        let options = &self.options;
        let (grid, cell) = (setup.grid, setup.codec.cell());
        let size = Size::new((grid.w * cell) as u32, (grid.h * cell) as u32);
        let sketch = preparation::sketch(&self.sketch, options.ink, size)?;
        let colorizer = <dyn SketchColorizer>::of(setup.codec)?;
        let features = colorizer.sketch(&sketch)?.scale(options.sketch_strength)?;
        let blank = colorizer.sketch(&Tensor::f_full_like(&sketch, -1.0)?)?.scale(options.sketch_strength)?;
        let empty = setup.codec.text("".into())?;
        let without = || Read { tokens: empty.context.shallow_clone(), pictures: Vec::new() };
        let mut read = looked.unwrap_or_else(without);
        let features_up = self.features_up(setup, &read.tokens)?;

        let cross: Vec<_> = setup.sites.iter().filter(|site| site.is_cross()).collect();
        let own = options.sites.clone().unwrap_or_else(|| vec![1.0; cross.len()]);
        if own.len() != cross.len() {
            let expected = format!("{}, one factor for each of the model's cross-attention sites", cross.len());
            return Err(Error::parameter("number of sites", own.len(), expected));
        }
        let factors = cross.iter().zip(own).map(|(site, own)| (site.index, own * options.scales.of(site)));
        let factors = factors.collect();

        let paused = |step: Step| options.pause.is_some_and(|pause| pause.contains(&step));
        let reads = |step: Step| self.window.contains(&step) && !paused(step);
        let on: Vec<bool> = setup.schedule.steps().map(reads).collect();
        let off: Vec<_> = on.iter().enumerate().filter(|(_, on)| !**on).map(|(at, _)| at..at + 1).collect();
        let acts = on.contains(&true);
        let scaling = Scaling { factors, parted: self.parted(setup, &off, &mut read)?, readers: Vec::new() };
        let injected = self.inject(setup, &empty)?;
        let _ = setup.add(WITHOUT_SKETCH, Branch::Cond, "", empty)?;
        let (settings, negative) = (self.clone(), false);
        Ok(Box::new(Coloring { settings, read, features, blank, off, acts, negative, scaling, injected, features_up }))
    }

    fn recipe(&self) -> Result<Recipe> {
        Recipe::of("Colorize", self)
    }

    fn name(&self) -> &'static str {
        "Colorize"
    }
}

impl GuidanceRun for Coloring {
    fn condition(&mut self, branch: &BranchInfo, conditioning: &mut Conditioning, _: &dyn Codec) -> Result<()> {
        if let Some(injected) = self.injected.as_mut().filter(|_| [Branch::Cond, Branch::Uncond].contains(&branch.like))
        {
            injected.hook.readers.push((branch.branch, branch.like == Branch::Uncond));
        }
        self.negative |= branch.branch == Branch::Uncond && !branch.prompt.trim().is_empty();
        if branch.like == Branch::Cond {
            self.scaling.readers.push(branch.branch);
        }
        let run = &*self;
        let injected = run.injected.as_ref().map(|injected| (&injected.features, injected.hook.writers));
        let (features, reads) = match injected {
            Some((lines, (writer, _))) if writer == branch.branch => (lines, true),
            Some((lines, (_, Some(writer)))) if writer == branch.branch => (lines, false),
            _ if branch.role == WITHOUT_SKETCH => (&run.blank, true),
            _ => (&run.features, branch.like == Branch::Cond),
        };
        let zeros = run.read.tokens.f_zeros_like()?;
        conditioning.during(0..usize::MAX, |part| {
            part.context = if reads { run.read.tokens.shallow_clone() } else { zeros.shallow_clone() };
            part.extras.set(features.share());
            if let Some(features) = &run.features_up {
                part.extras.set(features.share());
            }
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
        let acts = self.settings.options.injection.is_some_and(|injection| injection.window.contains(step));
        let Some(injected) = &mut self.injected else { return Ok(()) };
        injected.hook.begin(acts);
        if acts {
            let noised = injected.latent.f_add(&injected.noise.f_mul_scalar(step.sigma)?)?;
            let (_, channels, h, w) = noised.size4()?;
            // An image must be the same to the bit alone and in a batch, but libtorch chooses kernels by strides. The
            // rows are therefore a contiguous copy, not a view.
            let rows = noised.f_expand([injected.images, channels, h, w], false)?.f_contiguous()?;
            let (with, without) = injected.hook.writers;
            plan.evaluate_at(with, rows.shallow_clone());
            without.into_iter().for_each(|without| plan.evaluate_at(without, rows.shallow_clone()));
        }
        Ok(())
    }

    fn hooks(&mut self) -> Vec<&mut dyn CrossAttentionHook> {
        let injecting = self.injected.iter_mut().map(|injected| &mut injected.hook as &mut dyn CrossAttentionHook);
        injecting.chain([&mut self.scaling as &mut dyn CrossAttentionHook]).collect()
    }

    fn notes(&self) -> Vec<Note> {
        let Colorize { reference, window, .. } = &self.settings;
        let never = !self.acts && reference.is_some();
        let never = never.then(|| {
            Note::from(format!(
                "no step of this run reads the reference in the window ({window}); widen the window or shorten the pause"
            ))
        });
        let negative = self.negative.then(|| {
            Note::from(
                "the negative prompt was not read, because this model reads no words; leave the negative prompt empty",
            )
        });
        never.into_iter().chain(negative).collect()
    }

    fn report(&self) -> Result<Option<Report>> {
        let Colorize { sketch, reference, window, manipulations, options } = &self.settings;
        let manipulations: Vec<String> = manipulations.iter().map(ToString::to_string).collect();
        let data = serde_json::json!({
            "ink": options.ink, "sketch strength": options.sketch_strength, "padding": options.padding,
            "scales": options.scales, "window": window, "manipulations": manipulations,
        });
        let mut pictures = vec![Picture::new("the sketch", sketch.clone())];
        pictures.extend(reference.iter().map(|reference| Picture::new("the reference", reference.clone())));
        pictures.extend(self.read.pictures.iter().map(|(caption, shown)| Picture::new(caption, shown.clone())));
        Ok(Some(Report { data, pictures, ..Report::new("Colorize") }))
    }
}
