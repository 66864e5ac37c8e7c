//! [`Pipeline`]: a model with guidance methods that apply to every picture, and [`Request`]s for pictures.

mod adapted;
mod canvas;
mod color_words;
mod config;
mod detail;
mod detailing;
mod embedded_scale;
mod estimate;
mod folders;
mod foreign;
mod from_infotext;
mod from_recipe;
mod hires;
mod infotext;
mod input;
pub mod job;
mod mask_where;
mod measured;
mod memory;
mod model_view;
mod networks;
mod output;
mod pictures;
mod preview;
mod recipe;
mod reference;
mod registry;
mod request;
mod run;
mod sampling;
mod seed;
mod stored;
mod text_forms;
mod things;
mod watch;

pub use crate::nn::seamless::Seamless;
pub use crate::recipe::KeptPictures;
pub use color_words::ColorWords;
pub use config::RequestConfig;
pub use detail::{Detail, Thing};
pub use estimate::Estimate;
pub use hires::{Enlarge, Hires};
pub use infotext::Infotext;
pub use mask_where::MaskWhere;
pub use output::{Output, Timing};
pub use preview::Preview;
pub use recipe::{RunRecipe, StartRecipe};
pub use request::Request;

use crate::color::Rgb;
use crate::conditioning::Codec;
use crate::diffusion::Denoiser;
use crate::error::{Result, blame};
use crate::guidance::Guidance;
use crate::latent_colors::LatentColors;
use crate::methods::ColorForce;
use crate::model::{LoadOptions, Model, Precision};
use crate::recipe::Registry;
use crate::weights::Source;
use adapted::Adapted;
use folders::Folders;
use measured::Measured;
use model_view::ModelView;
use std::cell::OnceCell;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use tch::Device;

/// A model with the guidance methods that are attached to every picture it makes.
///
/// ```
/// # fn main() -> impasto::Result<()> {
/// use impasto::{Pipeline, Rgb};
/// let pipeline = Pipeline::builder().color_force("eyes", Rgb(255, 215, 0)).build()?;
/// let output = pipeline.request("1girl, eyes, hair, shirt").steps(8).seed(7).run()?;
/// assert_eq!(output.image(0)?.size().width, 256);
/// # Ok(()) }
/// ```
///
/// The model is a [`Model`], or a network of your own that implements [`Denoiser`] and [`Codec`]. Prompts with exact
/// colors, image to image, batches, previews and recipes work with each. A network that offers a
/// [`ModelInfo`](crate::model::ModelInfo) sets the default size, the scheduler and its name in files.
///
/// ```
/// # fn main() -> impasto::Result<()> {
/// use impasto::Pipeline;
/// use impasto::testing::ToyModel;
/// let pipeline = Pipeline::new(ToyModel::new(1)?);
/// let output = pipeline.request("a #c01020 boat").steps(4).seed(7).run()?;
/// assert_eq!(output.image(0)?.size().width, 16);
/// # Ok(()) }
/// ```
pub struct Pipeline<M = Model> {
    model: M,
    guidances: Vec<Arc<dyn Guidance>>,
    /// Colors of the model's latents, fitted for the first preview.
    colors: OnceCell<LatentColors>,
    registry: Registry,
    /// Times of the model's work, measured for the first estimate.
    measured: Measured,
    folders: Folders,
    adapted: Adapted,
}

impl<M: fmt::Debug> fmt::Debug for Pipeline<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.guidances.iter().map(|guidance| guidance.name()).collect();
        f.debug_struct("Pipeline").field("model", &self.model).field("guidances", &names).finish_non_exhaustive()
    }
}

impl Pipeline {
    /// Returns a builder with the embedded model on the CPU and nothing attached.
    pub fn builder() -> Builder {
        Builder { source: None, options: LoadOptions::default(), guidances: Vec::new() }
    }
}

impl<M: Denoiser + Codec> Pipeline<M> {
    /// Creates a pipeline with a model that is already loaded, for example with a LoRA, and nothing attached.
    ///
    /// ```no_run
    /// # fn main() -> impasto::Result<()> {
    /// use impasto::{Model, Pipeline, Source, weights::Lora};
    /// let model = Model::load(&Source::file("sd15.safetensors"))?;
    /// let pipeline = Pipeline::new(model.with_lora(&[Lora::open("ink.safetensors")?.scale(0.8)])?);
    /// # Ok(()) }
    /// ```
    pub fn new(model: M) -> Self {
        Self {
            model,
            guidances: Vec::new(),
            colors: OnceCell::new(),
            registry: Registry::default(),
            measured: Measured::default(),
            folders: Folders::NONE,
            adapted: Adapted::default(),
        }
    }

    /// Attaches a guidance method to every picture, as [`Builder::guide`] does.
    #[must_use]
    pub fn guide(mut self, guidance: impl Guidance + 'static) -> Self {
        self.guidances.push(Arc::new(guidance));
        self
    }

    /// Adds a folder of LoRAs. The tag `<lora:ink:0.8>` in a prompt adds the file `ink.safetensors` of the folder, or
    /// of a folder inside, to the model of the request. The name in a tag may also be the path below the folder. The
    /// last adapted model is kept for the next request with the same tags.
    ///
    /// ```no_run
    /// # fn main() -> impasto::Result<()> {
    /// use impasto::{Pipeline, Source};
    /// let pipeline = Pipeline::builder().source(Source::file("sd15.safetensors")).build()?.lora_folder("loras");
    /// let output = pipeline.request("a boat <lora:ink:0.8>").seed(7).run()?;
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn lora_folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folders.loras.push(folder.into());
        self
    }

    /// Returns the names of the LoRAs in these folders, as tags of prompts name them. A name that several files have is
    /// replaced by the files' paths below their folders.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) for a folder that cannot be read; [`Error::Parameter`](crate::Error::Parameter)
    /// for more than 20,000 files.
    pub fn lora_names(&self) -> Result<Vec<String>> {
        self.folders.lora_names()
    }

    /// Adds a folder of learned words (textual inversion). A word of a prompt that is the name of a file in the folder,
    /// without its ending, is read with the file's rows; `embedding:name` means the same. If the file does not fit the
    /// model's text encoders, the word is ordinary text, and a note of the output says so.
    #[must_use]
    pub fn embedding_folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folders.embeddings.push(folder.into());
        self
    }

    /// Creates a request for pictures of `prompt`, to be refined and then run.
    pub fn request(&self, prompt: impl Into<String>) -> Request<'_> {
        Request::new(self.view(), &self.guidances, prompt.into())
    }

    /// Returns the model.
    pub const fn model(&self) -> &M {
        &self.model
    }

    /// Returns the readers of recipes, by which [`Request::from_png`] makes the parts of a run again. Add those of your
    /// own guidance methods, saliencies, solvers and combinations.
    pub const fn registry_mut(&mut self) -> &mut Registry {
        &mut self.registry
    }

    /// Returns the model as requests see it.
    fn view(&self) -> ModelView<'_> {
        let named = (&self.folders, &self.adapted);
        ModelView::new(&self.model, &self.colors, &self.registry, &self.measured, named)
    }
}

/// Builder of a [`Pipeline`]. Setters cannot fail; [`Builder::build`] reports invalid settings.
#[must_use]
pub struct Builder {
    /// Source of the checkpoint; `None`: the embedded model.
    source: Option<Source>,
    options: LoadOptions,
    guidances: Vec<Arc<dyn Guidance>>,
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
    /// The errors of the guidance methods, with the method's name; the errors of [`Model::load`].
    pub fn build(self) -> Result<Pipeline> {
        for guidance in &self.guidances {
            blame(guidance.check(), guidance.name(), "check", None)?;
        }
        let model = Model::load_with(&self.source.unwrap_or_else(Source::embedded), self.options)?;
        Ok(Pipeline { guidances: self.guidances, ..Pipeline::new(model) })
    }
}

/// # The checkpoint
impl Builder {
    /// Sets the source of the checkpoint. Default: the embedded model.
    pub fn source(mut self, source: Source) -> Self {
        self.source = Some(source);
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
    /// let pipeline = builder.build()?;
    /// # Ok(()) }
    /// ```
    pub fn tune(mut self, change: impl FnOnce(&mut LoadOptions)) -> Self {
        change(&mut self.options);
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

/// # Guidance methods of every picture
impl Builder {
    /// Attaches a guidance method to every picture. [`Output::details`] has what the method found in a picture.
    pub fn guide(mut self, guidance: impl Guidance + 'static) -> Self {
        self.guidances.push(Arc::new(guidance));
        self
    }

    /// Forces the object that `phrase` names to exactly `color`. Short for `.guide(ColorForce::exact(phrase, color))`,
    /// which costs two passes and a few decodings.
    pub fn color_force(self, phrase: impl Into<String>, color: Rgb) -> Self {
        self.guide(ColorForce::exact(phrase, color))
    }
}
