//! [`IpAdapter`]: pictures as prompts.

mod blocks;
mod decoupled;
mod prompt;
mod run;
mod settings;
mod strength;

pub use prompt::ImagePrompt;

use crate::error::{Error, Result};
use crate::guidance::{Guidance, GuidanceRun, Setup};
use crate::nn::ip_adapter::IpAdapterNet;
use crate::recipe::Recipe;
use crate::vision::View;
use crate::window::Window;
use crate::wording::{QUOTED, excerpt};
use blocks::Blocks;
use run::Prompting;
use settings::Settings;
use std::any::Any;
use strength::check_strength;

/// Largest number of pictures of a method.
const MOST_PICTURES: usize = 64;
/// The block of SDXL that an adapter's style enters by, and the one that its layout enters by.
const STYLE: &str = "up_blocks.0.attentions.1";
const LAYOUT: &str = "down_blocks.2.attentions.1";

/// Draws like one or several pictures, by an IP-Adapter: a small trained net that makes a prompt of a picture.
///
/// An image encoder and the net's projection turn the picture into a few tokens. At every cross-attention site, cells
/// attend to these tokens by the net's own keys and values, and the result, times the strength, is added to the
/// attention to the text. The negative prompt's branch attends to the tokens of no picture. Text and pictures thus act
/// beside each other: the text keeps its words, and the attention to the words, which other methods read, is unchanged.
///
/// - Several pictures of one method share one softmax, so that the run mixes them.
/// - Pictures with a place ([`ImagePrompt::within`], [`ImagePrompt::on`]) have a softmax of their own.
/// - Several methods, also of different nets, are added.
///
/// ```no_run
/// # fn main() -> impasto::Result<()> {
/// use impasto::methods::IpAdapter;
/// use impasto::methods::ip_adapter::ImagePrompt;
/// use impasto::{Pipeline, Raster, Source};
///
/// let pipeline = Pipeline::builder().source(Source::file("sd15.safetensors")).build()?;
/// let net = pipeline.model().ip_adapter("ip-adapter-plus_sd15.safetensors", &Source::dir("image_encoder"))?;
/// let (fox, braid) = (Raster::open("fox.png")?, Raster::open("braid.png")?);
///
/// let like = IpAdapter::new(&net, &fox).strength(0.6);
/// let output = pipeline.request("a fox in a garden").seed(7).guide(like).run()?;
/// let hair = IpAdapter::new(&net, ImagePrompt::new(&braid).on("hair"));
/// let output = pipeline.request("a woman, long hair, blue dress").seed(7).guide(hair).run()?;
/// # Ok(()) }
/// ```
///
/// The file of a picture names the adapter, but does not hold its weights. To repeat the run, add a reader that has the
/// net:
///
/// ```no_run
/// # fn main() -> impasto::Result<()> {
/// # use impasto::methods::IpAdapter;
/// # use impasto::{Pipeline, Source};
/// use impasto::guidance::Guidance;
/// use impasto::pipeline::Request;
///
/// # let mut pipeline = Pipeline::builder().source(Source::file("sd15.safetensors")).build()?;
/// let net = pipeline.model().ip_adapter("ip-adapter-plus_sd15.safetensors", &Source::dir("image_encoder"))?;
/// let read = move |recipe, _: &_| Ok(Box::new(IpAdapter::from_recipe(&net, &recipe)?) as Box<dyn Guidance>);
/// pipeline.registry_mut().add("IpAdapter", read);
/// let output = Request::from_png(&pipeline, "like_a_fox.png")?.run()?;
/// # Ok(()) }
/// ```
///
/// Source: Ye et al., "IP-Adapter" (arXiv 2308.06721); blocks of style and layout: Wang et al., "InstantStyle" (arXiv
/// 2404.02733).
#[derive(Clone, Debug)]
#[must_use]
pub struct IpAdapter {
    net: IpAdapterNet,
    settings: Settings,
}

impl IpAdapter {
    /// Draws like one picture, or like a picture in a place.
    pub fn new(net: &IpAdapterNet, picture: impl Into<ImagePrompt>) -> Self {
        Self::pictures(net, [picture])
    }

    /// Draws like several pictures.
    pub fn pictures(net: &IpAdapterNet, pictures: impl IntoIterator<Item = impl Into<ImagePrompt>>) -> Self {
        let pictures = pictures.into_iter().map(Into::into).collect();
        let (adapter, window) = (net.name().to_owned(), Window::WHOLE);
        let (blocks, view) = (Blocks::default(), View::default());
        Self { net: net.clone(), settings: Settings { adapter, pictures, strength: 1.0, blocks, view, window } }
    }

    /// Adds a picture.
    pub fn picture(mut self, picture: impl Into<ImagePrompt>) -> Self {
        self.settings.pictures.push(picture.into());
        self
    }

    /// Makes the method of a recipe again, with the net, which a recipe only names.
    ///
    /// # Errors
    /// [`Error::Malformed`] if the recipe is not that of an IP-Adapter.
    pub fn from_recipe(net: &IpAdapterNet, recipe: &Recipe) -> Result<Self> {
        Ok(Self { net: net.clone(), settings: recipe.read()? })
    }

    /// The error of a recipe without the net, which names the adapter's file.
    pub(super) fn without_net(recipe: Recipe) -> Error {
        match recipe.into_read::<Settings>() {
            Ok(Settings { adapter, .. }) => {
                let what = format!("IpAdapter with {}, whose weights no picture holds,", excerpt(&adapter, QUOTED));
                Error::NotRepeatable { what }
            }
            Err(error) => error,
        }
    }
}

/// # How strongly it acts
impl IpAdapter {
    /// Sets the strength, -10..=10. Default 1, at which the pictures often outweigh the text; 0.5 to 0.8 is usual. At 0
    /// the pictures have no effect, and below 0 the run avoids them.
    pub fn strength(mut self, strength: f64) -> Self {
        self.settings.strength = strength;
        self
    }

    /// Sets the strength of a block of the network, as a factor of the method's strength. `name` is the beginning of
    /// the names of the block's attention sites, such as `down_blocks`, `mid_block` or `up_blocks.1.attentions.0`. The
    /// longest name that fits a site counts. Once a block is named, blocks without a name have the strength 0.
    pub fn block(mut self, name: impl Into<String>, strength: f64) -> Self {
        self.settings.blocks.push(name.into(), strength);
        self
    }

    /// Takes the style of the pictures and not their contents: acts in one block of SDXL alone.
    ///
    /// Source: Wang et al., "InstantStyle" (arXiv 2404.02733).
    pub fn style(self) -> Self {
        self.block(STYLE, 1.0)
    }

    /// Takes the layout of the pictures: acts in one block of SDXL alone.
    ///
    /// Source: Wang et al., "InstantStyle" (arXiv 2404.02733).
    pub fn layout(self) -> Self {
        self.block(LAYOUT, 1.0)
    }
}

/// # How the pictures are read, and when the method acts
impl IpAdapter {
    /// Sets how pictures become the square that the image encoder reads. Default: the center, as adapters were trained,
    /// so that a picture loses its ends; [`Crop::Stretch`](crate::vision::Crop::Stretch) keeps the whole picture.
    pub fn view(mut self, view: View) -> Self {
        self.settings.view = view;
        self
    }

    /// Acts only in this window. Default: the whole run. A window that begins later leaves more of the layout to the
    /// text, and one that ends earlier leaves more of the details to the text.
    pub fn window(mut self, window: Window) -> Self {
        self.settings.window = window;
        self
    }
}

impl Guidance for IpAdapter {
    fn check(&self) -> Result<()> {
        let Settings { pictures, strength, blocks, window, .. } = &self.settings;
        if pictures.is_empty() {
            return Err(Error::parameter("pictures", "empty", "at least one picture"));
        }
        if pictures.len() > MOST_PICTURES {
            return Err(Error::parameter("pictures", pictures.len(), format!("at most {MOST_PICTURES}")));
        }
        check_strength("strength", *strength)?;
        blocks.check()?;
        pictures.iter().try_for_each(ImagePrompt::check)?;
        window.check()
    }

    fn begin(&self, setup: &mut Setup<'_>, before: Option<Box<dyn GuidanceRun>>) -> Result<Box<dyn GuidanceRun>> {
        let before = before.and_then(|run| (run as Box<dyn Any>).downcast::<Prompting>().ok());
        Ok(Box::new(Prompting::new(&self.net, &self.settings, setup, before.map(|run| *run))?))
    }

    fn recipe(&self) -> Result<Recipe> {
        Recipe::of("IpAdapter", &self.settings)
    }

    fn name(&self) -> &'static str {
        "IpAdapter"
    }
}
