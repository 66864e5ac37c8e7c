//! [`ModelView`]: the model of a pipeline, as the pipeline's requests see it.

use super::adapted::Adapted;
use super::folders::Folders;
use super::measured::Measured;
use crate::conditioning::Codec;
use crate::diffusion::{Network, SchedulerConfig};
use crate::error::{Error, Result};
use crate::latent_colors::LatentColors;
use crate::model::{Defaults, Model, ModelInfo, NoInfo};
use crate::recipe::{Kind, Recipe, Registry};
use std::cell::OnceCell;

/// Levels of the flat colors that previews are fitted to. A latent of 16 channels needs more than 3³ colors for its 17
/// unknowns per color channel.
const LEVELS: usize = 4;

/// Longest side in pixels of the pictures of any model.
pub(super) const LONGEST: u32 = 4096;

/// The model of a pipeline, as the pipeline's requests see it.
#[derive(Clone, Copy)]
pub(super) struct ModelView<'p> {
    pub network: &'p dyn Network,
    pub info: &'p dyn ModelInfo,
    /// Colors of the model's latents, fitted for the first preview.
    colors: &'p OnceCell<LatentColors>,
    pub registry: &'p Registry,
    /// Times that were measured for estimates.
    pub measured: &'p Measured,
    /// Folders of LoRAs and learned words that prompts name.
    pub folders: &'p Folders,
    pub adapted: &'p Adapted,
}

impl<'p> ModelView<'p> {
    pub(super) fn new(
        network: &'p dyn Network,
        colors: &'p OnceCell<LatentColors>,
        registry: &'p Registry,
        measured: &'p Measured,
        (folders, adapted): (&'p Folders, &'p Adapted),
    ) -> Self {
        let codec: &'p dyn Codec = network;
        let info = codec.capability::<dyn ModelInfo>().unwrap_or(&NoInfo);
        Self { network, info, colors, registry, measured, folders, adapted }
    }

    /// Returns this view with a model that is adapted to a request, whose prompts name nothing more.
    pub(super) fn on<'s>(self, model: &'s Model) -> ModelView<'s>
    where
        'p: 's,
    {
        static NONE: Folders = Folders::NONE;
        ModelView { network: model, info: model, folders: &NONE, ..self }
    }

    /// Returns the settings of requests that set none.
    pub(super) fn defaults(self) -> Defaults {
        self.info.defaults()
    }

    /// Returns the noise levels and the solver of requests that set none.
    pub(super) fn scheduler(self) -> SchedulerConfig {
        self.info.scheduler()
    }

    /// Returns a recipe if the registry can read it, or if no reader has its name. Numbers that are not finite cannot
    /// be read.
    pub(super) fn check_readable<T: ?Sized + Kind>(self, recipe: Recipe) -> Result<Recipe> {
        match self.registry.make::<T>(recipe.clone()) {
            Ok(_) | Err(Error::NotRepeatable { .. }) => Ok(recipe),
            Err(error) => Err(error),
        }
    }

    /// Returns the side of a latent cell in pixels.
    pub(super) fn cell(self) -> i64 {
        self.network.cell()
    }

    /// Returns the longest side in pixels of the pictures that the model paints, 4096 or less.
    pub(super) fn longest_side(self) -> u32 {
        let patch = self.network.patch().max(1);
        let pixels = |cells: i64| (cells / patch).saturating_mul(patch).saturating_mul(self.cell());
        let own = self.network.longest_side().map(pixels);
        own.and_then(|own| u32::try_from(own).ok()).map_or(LONGEST, |own| own.min(LONGEST))
    }

    /// Returns true if prompts can be read from this layer of CLIP, counted from the last one.
    pub(super) fn reads_clip_layer(self, layer: usize) -> bool {
        let codec: &dyn Codec = self.network;
        self.info.clip_skip() == Some(layer)
            || codec.capability::<Model>().is_some_and(|model| model.has_clip_layer(layer))
    }

    /// Returns true if the network is a UNet of this crate, which can merge cells, use deep layers again and paint
    /// seamless pictures.
    pub(super) fn has_unet(self) -> bool {
        let codec: &dyn Codec = self.network;
        codec.capability::<Model>().is_some_and(Model::has_unet)
    }

    /// Returns the colors of the model's latents, which are fitted once.
    pub(super) fn latent_colors(self) -> Result<&'p LatentColors> {
        match self.colors.get() {
            Some(colors) => Ok(colors),
            None => {
                let _no_grad = tch::no_grad_guard();
                let colors = LatentColors::fit(self.network, LEVELS, 32)?;
                Ok(self.colors.get_or_init(|| colors))
            }
        }
    }
}
