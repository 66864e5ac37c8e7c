//! [`Pipeline`]: a model with guidance methods that apply to every picture, and [`Request`]s for pictures.

mod canvas;
mod color_words;
mod config;
mod detail;
mod detailing;
mod embedded_scale;
mod foreign;
mod from_infotext;
mod from_recipe;
mod hires;
mod infotext;
mod input;
mod mask_where;
mod output;
mod pictures;
mod preview;
mod recipe;
mod reference;
mod request;
mod run;
mod sampling;
mod stored;
mod things;
mod watch;

pub use crate::nn::seamless::Seamless;
pub use crate::recipe::KeptPictures;
pub use color_words::ColorWords;
pub use config::RequestConfig;
pub use detail::{Detail, Thing};
pub use hires::{Enlarge, Hires};
pub use infotext::Infotext;
pub use mask_where::MaskWhere;
pub use output::{Output, Timing};
pub use preview::Preview;
pub use recipe::{RunRecipe, StartRecipe};
pub use request::Request;

use crate::attention::CrossAttentionHook;
use crate::color::Rgb;
use crate::error::{Error, Result, blame};
use crate::guidance::{Guidance, HookOnly};
use crate::methods::ColorForce;
use crate::model::{LoadOptions, Model, Precision};
use crate::weights::Source;
use std::fmt;
use tch::Device;

/// A model with the guidance methods that are attached to every picture it makes.
///
/// ```
/// # fn main() -> impasto::Result<()> {
/// use impasto::{Pipeline, Rgb};
/// let mut pipeline = Pipeline::builder().color_force("eyes", Rgb(255, 215, 0)).build()?;
/// let output = pipeline.request("1girl, eyes, hair, shirt").steps(8).seed(7).run()?;
/// assert_eq!(output.image(0)?.size().width, 256);
/// # Ok(()) }
/// ```
pub struct Pipeline {
    model: Model,
    guidances: Vec<Box<dyn Guidance>>,
}

impl fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.guidances.iter().map(|guidance| guidance.name()).collect();
        f.debug_struct("Pipeline").field("model", &self.model).field("guidances", &names).finish_non_exhaustive()
    }
}

impl Pipeline {
    /// Returns a builder with the embedded model on the CPU and nothing attached.
    pub fn builder() -> Builder {
        Builder { source: None, model: None, options: None, guidances: Vec::new() }
    }

    /// Creates a request for pictures of `prompt`, to be refined and then run.
    pub fn request(&mut self, prompt: impl Into<String>) -> Request<'_> {
        Request::new(&self.model, &mut self.guidances, prompt.into())
    }

    /// Returns the model.
    pub const fn model(&self) -> &Model {
        &self.model
    }
}

/// Builder of a [`Pipeline`]. Setters cannot fail; [`Builder::build`] reports invalid settings.
#[must_use]
pub struct Builder {
    /// Source of the checkpoint; `None`: the embedded model.
    source: Option<Source>,
    model: Option<Model>,
    /// Settings for loading; `None` if none was set.
    options: Option<LoadOptions>,
    guidances: Vec<Box<dyn Guidance>>,
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.guidances.iter().map(|guidance| guidance.name()).collect();
        f.debug_struct("Builder")
            .field("source", &self.source)
            .field("options", &self.options)
            .field("guidances", &names)
            .finish_non_exhaustive()
    }
}

impl Builder {
    /// Checks the attached guidance methods, then loads the model.
    ///
    /// # Errors
    /// - [`Error::Parameter`] if a loaded model is given and also a source, a device or another setting for loading.
    /// - The errors of the guidance methods, with the method's name; the errors of [`Model::load`].
    pub fn build(self) -> Result<Pipeline> {
        for guidance in &self.guidances {
            blame(guidance.check(), guidance.name(), "check", None)?;
        }
        let model = match (self.model, self.source, self.options) {
            (Some(model), None, None) => model,
            (Some(_), ..) => {
                let expected = "no source, device, precision or other setting for loading; set these where the model \
                                is loaded";
                return Err(Error::parameter("model", "loaded already", expected));
            }
            (None, source, options) => {
                Model::load_with(&source.unwrap_or_else(Source::embedded), options.unwrap_or_default())?
            }
        };
        Ok(Pipeline { model, guidances: self.guidances })
    }
}

/// # The checkpoint
impl Builder {
    /// Sets the source of the checkpoint. Default: the embedded model.
    pub fn source(mut self, source: Source) -> Self {
        self.source = Some(source);
        self
    }

    /// Sets a model that is already loaded, for example with a LoRA. The builder then takes no source, no device and no
    /// other setting for loading.
    ///
    /// ```no_run
    /// # fn main() -> impasto::Result<()> {
    /// use impasto::{Model, Pipeline, Source, weights::Lora};
    /// let model = Model::load(&Source::file("sd15.safetensors"))?;
    /// let model = model.with_lora(&[Lora::open("ink.safetensors")?.scale(0.8)])?;
    /// let mut pipeline = Pipeline::builder().model(model).build()?;
    /// # Ok(()) }
    /// ```
    pub fn model(mut self, model: Model) -> Self {
        self.model = Some(model);
        self
    }

    /// Changes how the checkpoint is loaded; [`LoadOptions`] describes the settings.
    ///
    /// ```no_run
    /// # fn main() -> impasto::Result<()> {
    /// use impasto::nn::Tiling;
    /// use impasto::{Pipeline, Source};
    /// let builder = Pipeline::builder().source(Source::file("sd15.safetensors")).tune(|options| {
    ///     options.vae = Some(Source::dir("taesd"));
    ///     options.tiling = Tiling::whole();
    /// });
    /// let mut pipeline = builder.build()?;
    /// # Ok(()) }
    /// ```
    pub fn tune(mut self, change: impl FnOnce(&mut LoadOptions)) -> Self {
        change(self.options.get_or_insert_default());
        self
    }
}

/// # Device and precision
impl Builder {
    /// Sets the device that the model runs on. Default: the CPU.
    pub fn device(self, device: Device) -> Self {
        self.tune(|options| options.device = device)
    }

    /// Sets the precision of the computation: [`Precision::Fastest`] or a `tch::Kind`. Default: f16 on CUDA, f32
    /// elsewhere.
    pub fn precision(self, precision: impl Into<Precision>) -> Self {
        self.tune(|options| options.precision = precision.into())
    }
}

/// # Guidance methods and hooks of every picture
impl Builder {
    /// Attaches a guidance method to every picture. To read results of a method after a run, pass `&mut method` to
    /// [`Request::guide`] instead.
    pub fn guide(mut self, guidance: impl Guidance + 'static) -> Self {
        self.guidances.push(Box::new(guidance));
        self
    }

    /// Forces the object that `phrase` names to exactly `color`. Short for `.guide(ColorForce::exact(phrase, color))`,
    /// which costs two passes and a few decodings.
    pub fn color_force(self, phrase: impl Into<String>, color: Rgb) -> Self {
        self.guide(ColorForce::exact(phrase, color))
    }

    /// Attaches an attention hook to every picture. To read results of a hook after a run, pass `&mut hook` to
    /// [`Request::hook`] instead.
    pub fn hook(self, hook: impl CrossAttentionHook + 'static) -> Self {
        self.guide(HookOnly(hook))
    }
}
