//! Networks that a model for coloring sketches has beside its UNet and VAE.

use super::read_config::read_config;
use super::rows::one;
use crate::conditioning::{Conditioning, Texts};
use crate::diffusion::Input;
use crate::error::{Error, Result};
use crate::nn::{
    AddedConditions, ConfigFile, ReferenceEncoder, ReferenceTokens, SketchEncoder, SketchEncoderConfig, UnetConfig,
};
use crate::prompt::Prompt;
use crate::reference::{Feature, Part, ReferenceFeatures, SketchColorizer, SketchFeatures};
use crate::weights::{Checkpoint, Parts, Weights};
use crate::wording::{Note, Remedy};
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
        let config = read_config(main, SKETCH, SketchEncoderConfig::from_json)?;
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
                parts.insert(part.into(), weights.hand_out());
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

impl Colorizer {
    /// Returns a prompt without tokens: words name parts of a reference, which is unknown here.
    pub(super) fn prompt(texts: Texts<'_>) -> Prompt {
        Prompt::new(texts.first, Vec::new(), 0)
    }

    /// Returns the conditioning of any text: the UNet reads no words, and there is no reference yet. Attention to
    /// tokens of zeros gives the same result for any number of such tokens.
    pub(super) fn text(unet: &UnetConfig, device: Device) -> Result<Conditioning> {
        let width = unet.cross_attention_dim.level(0).unwrap_or_default();
        Ok(Conditioning::new(Tensor::f_zeros([1, 1, width], (Kind::Float, device))?))
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

/// Adds what a colorizer's UNet reads beside the context: the features of the inputs' sketches and of their reference.
/// Returns true if all inputs share one sketch.
///
/// # Errors
/// [`Error::Parameter`] if a colorizer has no sketch.
pub(super) fn add_features(colorizes: bool, inputs: &[Input<'_>], added: &mut Option<AddedConditions>) -> Result<bool> {
    let (features, same) = sketch_features(inputs)?;
    if colorizes && features.is_empty() {
        let expected = Remedy::Sketch.after("a sketch, because this model colors sketches");
        return Err(Error::parameter("sketch", "missing", expected));
    }
    if !features.is_empty() {
        added.get_or_insert_default().features = features;
    }
    if let Some(reference) = inputs.iter().find_map(|input| input.conditioning.extras.get::<ReferenceFeatures>()) {
        added.get_or_insert_default().reference = Some(reference.share());
    }
    Ok(same)
}

/// Returns the sketch features of all inputs, and true if all inputs share them. Shared rows are repeated cyclically;
/// otherwise each input has rows of its own.
fn sketch_features(inputs: &[Input<'_>]) -> Result<(Vec<Tensor>, bool)> {
    let each: Vec<&[Tensor]> = inputs.iter().map(sketch_of).collect();
    let some = each.iter().copied().max_by_key(|features| features.len()).unwrap_or_default();
    let level = |number: usize| each.iter().filter_map(|features| features.get(number)).collect::<Vec<_>>();
    if (0..some.len()).all(|number| level(number).len() == inputs.len() && one(&level(number))) {
        return Ok((some.iter().map(Tensor::shallow_clone).collect(), true));
    }
    let all = some.iter().enumerate().map(|(number, like)| {
        let each = inputs.iter().zip(&each).map(|(input, features)| {
            let (images, (_, c, h, w)) = (input.x.size4()?.0, like.size4()?);
            match features.get(number) {
                Some(features) => Ok(features.f_expand([images, c, h, w], false)?),
                None => Ok(Tensor::f_zeros([images, c, h, w], (like.kind(), like.device()))?),
            }
        });
        Ok(Tensor::f_cat(&each.collect::<Result<Vec<_>>>()?, 0)?)
    });
    Ok((all.collect::<Result<_>>()?, false))
}

/// Returns the sketch features of an input; empty without a sketch.
fn sketch_of<'a>(input: &Input<'a>) -> &'a [Tensor] {
    input.conditioning.extras.get::<SketchFeatures>().map_or(&[], |features| &features.0)
}
