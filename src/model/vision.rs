//! The vision tower beside a model's text encoder, loaded when it is first used.

use super::read_config::read_config;
use crate::error::{Error, Result};
use crate::nn::{ClipImageProcessor, ClipVision, ClipVisionConfig, ConfigFile};
use crate::raster::Raster;
use crate::vision::{View, Vision};
use crate::weights::{Checkpoint, Reading, Source, Weights};
use std::cell::OnceCell;
use tch::{Device, Kind, Tensor};

const PART: &str = "image_encoder";
/// Paths of the preprocessor's configuration: in a folder of a whole model, and in a folder of a tower alone.
const PROCESSORS: [&str; 2] = ["feature_extractor/preprocessor_config.json", "image_encoder/preprocessor_config.json"];
const TEXTS: [&str; 2] = ["text_encoder", "text_encoder_2"];
const PROJECTION: &str = "text_projection.weight";

/// The vision tower and its source. The tower is loaded on first use, since most pictures are made without it.
#[derive(Debug)]
pub(super) struct VisionTower {
    place: Place,
    /// Sources of the model's text encoders, in order.
    texts: [Place; 2],
    kind: Kind,
    device: Device,
    loaded: OnceCell<Loaded>,
}

/// A source with its reading options.
pub(super) type Place = (Source, Reading);

#[derive(Debug)]
struct Loaded {
    /// Name of the tower's configuration, for messages.
    file: String,
    tower: ClipVision,
    processor: ClipImageProcessor,
    /// Projection of the text encoder, if the tower's checkpoint or the model's has one.
    text_projection: Option<Tensor>,
}

impl VisionTower {
    pub(super) const fn new(place: Place, texts: [Place; 2], kind: Kind, device: Device) -> Self {
        Self { place, texts, kind, device, loaded: OnceCell::new() }
    }

    /// Creates an unloaded tower for another model of the same source.
    pub(super) fn again(&self) -> Self {
        Self::new(self.place.clone(), self.texts.clone(), self.kind, self.device)
    }

    /// Encodes a picture. `widths` are the widths of the text encoders' states.
    pub(super) fn see(&self, picture: &Raster, view: View, widths: &[i64]) -> Result<Vision> {
        let Loaded { file, tower, processor, text_projection } = self.load_once()?;
        let width = tower.config().projection_dim;
        let refused = |field: &str, value: String, expected: String| {
            Err(Error::Config { file: file.clone(), field: field.into(), value, expected: expected.into() })
        };
        let Some(encoder) = widths.iter().position(|own| *own == width) else {
            let expected = format!("expected the width of the text encoder's states, {widths:?}");
            return refused("projection_dim", width.to_string(), expected);
        };
        let start: i64 = widths.iter().take(encoder).sum();
        let pixels = processor.apply_view(picture, view)?;
        let states = tower.forward(&pixels)?;
        let Some(tokens) = tower.projected(&tower.normed(&states.last_hidden_state)?)? else {
            let expected =
                "expected CLIPVisionModelWithProjection, which projects image tokens to the width of text tokens"
                    .into();
            return refused("architectures", "CLIPVisionModel, without visual_projection".into(), expected);
        };
        let mut vision = Vision::new(tokens.f_to_device(self.device)?.f_to_kind(Kind::Float)?, start..start + width);
        vision.text_projection = text_projection.as_ref().map(Tensor::shallow_clone);
        Ok(vision)
    }

    /// Returns the projection of the text encoder's states into the space of the tokens, [projection_dim, width] f32,
    /// if a checkpoint has it.
    pub(super) fn text_projection(&self) -> Result<Option<Tensor>> {
        Ok(self.load_once()?.text_projection.as_ref().map(Tensor::shallow_clone))
    }

    fn load_once(&self) -> Result<&Loaded> {
        match self.loaded.get() {
            Some(loaded) => Ok(loaded),
            None => {
                let loaded = self.load()?;
                Ok(self.loaded.get_or_init(|| loaded))
            }
        }
    }

    fn load(&self) -> Result<Loaded> {
        let (source, reading) = &self.place;
        let checkpoint = Checkpoint::open(source, reading.clone())?;
        let (tower, processor) = read_tower(&checkpoint, self.kind, self.device)?;
        let text_projection = self.find_text_projection(&checkpoint, tower.config().projection_dim)?;
        Ok(Loaded { file: checkpoint.name("image_encoder/config.json"), tower, processor, text_projection })
    }

    /// Finds the text projection. A whole CLIP has the projection beside the tower, and a diffusion model has it in the
    /// text encoder of the tower's width. A tower alone has no projection; the model's own text encoders are then
    /// searched.
    fn find_text_projection(&self, checkpoint: &Checkpoint, width: i64) -> Result<Option<Tensor>> {
        let of = |checkpoint: &Checkpoint, part: &str| match checkpoint.weights(part, self.kind, self.device) {
            Ok(w) => projection(&w, width),
            Err(_) => Ok(None),
        };
        for part in [PART].into_iter().chain(TEXTS) {
            if let Some(found) = of(checkpoint, part)? {
                return Ok(Some(found));
            }
        }
        for (part, (source, reading)) in TEXTS.into_iter().zip(&self.texts) {
            if let Some(found) = of(&Checkpoint::open(source, reading.clone())?, part)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

/// Loads a tower by itself, with its preprocessor: the tower of a folder, or a file of weights alone, whose sizes tell
/// the configuration.
///
/// # Errors
/// The errors of [`Checkpoint::open`]; [`Error::Malformed`] for a file of an unknown tower.
pub(super) fn open_tower(
    source: &Source,
    offload: bool,
    kind: Kind,
    device: Device,
) -> Result<(ClipVision, ClipImageProcessor)> {
    let Source::File(path) = source else {
        let reading = Reading { offload, ..Reading::default() };
        return read_tower(&Checkpoint::open(source, reading)?, kind, device);
    };
    let w = Weights::open(path, kind, device)?.offload(offload);
    let config = ClipVisionConfig::of_weights(&w)?;
    let processor = ClipImageProcessor::of_side(side(&config));
    Ok((ClipVision::new(&w, &config)?, processor))
}

/// Reads the tower and the preprocessor of a checkpoint.
fn read_tower(checkpoint: &Checkpoint, kind: Kind, device: Device) -> Result<(ClipVision, ClipImageProcessor)> {
    let config = read_config(checkpoint, PART, ClipVisionConfig::from_json)?;
    let w = checkpoint.weights(PART, kind, device)?;
    let processor = PROCESSORS.into_iter().find_map(|file| Some((file, checkpoint.text(file).transpose()?)));
    let processor = match processor {
        Some((file, text)) => ClipImageProcessor::from_json(&checkpoint.name(file), &text?)?,
        None => ClipImageProcessor::of_side(side(&config)),
    };
    Ok((ClipVision::new(&w, &config)?, processor))
}

/// Returns the side of a tower's pictures in pixels.
fn side(config: &ClipVisionConfig) -> u32 {
    u32::try_from(config.image_size).unwrap_or(u32::MAX)
}

/// Returns a square text projection of the given width from some weights, f32; `None` if there is none.
fn projection(w: &Weights, width: i64) -> Result<Option<Tensor>> {
    let found = w.optional(PROJECTION, &[width, width])?.filter(|_| w.report().misshapen.is_empty());
    Ok(found.map(|found| found.f_to_kind(Kind::Float)).transpose()?)
}
