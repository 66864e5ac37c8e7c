//! Networks that a model for coloring sketches has beside its UNet and VAE.

use super::configured::configured;
use crate::error::Result;
use crate::nn::{ConfigFile, ReferenceEncoder, ReferenceTokens, SketchEncoder, SketchEncoderConfig, UnetConfig};
use crate::reference::{Feature, Part, SketchColorizer, SketchFeatures};
use crate::weights::{Checkpoint, Parts, Weights};
use crate::wording::Note;
use tch::{Device, Kind, Tensor};

/// Networks of a colorizer, which is a model that colors sketches. The UNet of a colorizer reads no words.
#[derive(Debug)]
pub(super) struct Colorizer {
    /// Encoder of sketches.
    pub sketch: SketchEncoder,
    /// Network that distinguishes a reference's figure from its background (v1.5).
    pub tokens: Option<ReferenceTokens>,
    /// Encoder of a reference's background (v2).
    pub background: Option<ReferenceEncoder>,
    /// Encoder of a reference's style (v2).
    pub style: Option<ReferenceEncoder>,
}

const SKETCH: &str = "sketch_encoder";
const TOKENS: &str = "reference_tokens";
const BACKGROUND: &str = "background_encoder";
const STYLE: &str = "style_encoder";

impl Colorizer {
    /// Returns true if a checkpoint has the encoder of sketches.
    pub(super) fn is_in(main: &Checkpoint) -> Result<bool> {
        main.has(&format!("{SKETCH}/config.json"))
    }

    /// Loads the networks that a checkpoint has, puts their tensors into `parts` and remarks on them into `notes`.
    /// Returns `None` for other models.
    pub(super) fn load(
        main: &Checkpoint,
        unet: &UnetConfig,
        (kind, device): (Kind, Device),
        parts: &mut Parts,
        notes: &mut Vec<Note>,
    ) -> Result<Option<Self>> {
        if !Self::is_in(main)? {
            return Ok(None);
        }
        let has = |part: &str| main.has(&format!("{part}/config.json"));
        let config = configured(main, SKETCH, SketchEncoderConfig::from_json)?;
        let names = [SKETCH, TOKENS, BACKGROUND, STYLE];
        let weights = names.map(|part| -> Result<Option<Weights>> {
            has(part)?.then(|| main.weights(part, kind, device)).transpose()
        });
        let [sketch, tokens, background, style] = weights;
        let weights = [sketch?, tokens?, background?, style?];
        let colorizer = Self::of(&config, unet, weights.each_ref().map(Option::as_ref))?;
        for (part, weights) in names.into_iter().zip(&weights) {
            if let Some(weights) = weights {
                notes.extend(weights.report().notes().into_iter().map(Note::from));
                parts.insert(part.into(), weights.handed_out());
            }
        }
        if main.family().is_some() {
            let licence = "ColorizeDiffusion's published weights are under CC BY-NC-SA 4.0: not for commercial use";
            notes.push(licence.into()); // the published weights come as a single file, which has a family
        }
        Ok(colorizer)
    }

    /// Builds the networks that have weights, given in the order of `names` above.
    fn of(config: &SketchEncoderConfig, unet: &UnetConfig, weights: [Option<&Weights>; 4]) -> Result<Option<Self>> {
        let [sketch, tokens, background, style] = weights;
        let encoder = |w: &Weights| ReferenceEncoder::new(w, unet);
        let Some(sketch) = sketch else { return Ok(None) };
        Ok(Some(Self {
            sketch: SketchEncoder::new(sketch, config)?,
            tokens: tokens.map(ReferenceTokens::new).transpose()?,
            background: background.map(encoder).transpose()?,
            style: style.map(encoder).transpose()?,
        }))
    }

    /// Rebuilds the networks with other tensors.
    pub(super) fn remade(&self, unet: &UnetConfig, weights: impl Fn(&str) -> Weights) -> Result<Option<Self>> {
        let sketch = weights(SKETCH);
        let tokens = self.tokens.as_ref().map(|_| weights(TOKENS));
        let background = self.background.as_ref().map(|_| weights(BACKGROUND));
        let style = self.style.as_ref().map(|_| weights(STYLE));
        Self::of(self.sketch.config(), unet, [Some(&sketch), tokens.as_ref(), background.as_ref(), style.as_ref()])
    }
}

impl SketchColorizer for Colorizer {
    fn sketch(&self, sketch: &Tensor) -> Result<SketchFeatures> {
        let _no_grad = tch::no_grad_guard();
        let features = self.sketch.forward(sketch)?;
        let features: Result<_> = features.iter().map(|x| Ok(x.f_to_kind(Kind::Float)?)).collect();
        Ok(SketchFeatures(features?))
    }

    fn part_tokens(&self, tokens: &Tensor, part: Part, threshold: f64) -> Result<Tensor> {
        let _no_grad = tch::no_grad_guard();
        let Some(parts) = &self.tokens else { return Ok(tokens.shallow_clone()) };
        let marked = parts.marked(tokens, threshold)?;
        if part == Part::Background { parts.background(&marked) } else { Ok(marked) }
    }

    fn features(&self, of: Feature, latent: &Tensor, tokens: &Tensor, ratios: [f64; 2]) -> Result<Vec<Tensor>> {
        let _no_grad = tch::no_grad_guard();
        let encoder = match of {
            Feature::Background => &self.background,
            Feature::Style => &self.style,
        };
        let Some(encoder) = encoder else { return Ok(Vec::new()) };
        encoder.forward(latent, &ReferenceEncoder::label(ratios)?, tokens)
    }
}
