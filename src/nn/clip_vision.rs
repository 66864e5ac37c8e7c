//! CLIP's vision tower, which embeds pictures in the same space as texts.

use super::clip_encoder::{Activation, Encoder, EncoderConfig};
use super::config::{ConfigFile, Fixed, divides, in_file, layers, read, refuse, sizes};
use super::layers::{Conv, Conv2d, LayerNorm, Linear, cells};
use crate::error::{Error, Result};
use crate::weights::Weights;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tch::{Device, Kind, Tensor};

/// Name in errors of a configuration that does not come from a file.
const NAME: &str = "ClipVisionConfig";

/// The configuration of an image encoder, `image_encoder/config.json`; the names and the defaults are transformers'.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ClipVisionConfig {
    /// `CLIPVisionModel`, or `CLIPVisionModelWithProjection` if the pooled state is projected.
    pub architectures: Vec<String>,
    /// Width of the hidden states.
    pub hidden_size: i64,
    /// Width of the feed-forward layers.
    pub intermediate_size: i64,
    /// Width of the projected state, equal to the text tower's.
    pub projection_dim: i64,
    /// Number of layers.
    pub num_hidden_layers: i64,
    /// Number of attention heads; divides the width.
    pub num_attention_heads: i64,
    /// Channels of a picture.
    pub num_channels: i64,
    /// Side of a picture, in pixels.
    pub image_size: i64,
    /// Side of a patch, in pixels. Pixels on the right and below that fill no patch are ignored.
    pub patch_size: i64,
    /// Activation of the feed-forward layers.
    pub hidden_act: Activation,
    /// Epsilon of the layer norms.
    pub layer_norm_eps: f64,
}

impl Default for ClipVisionConfig {
    fn default() -> Self {
        Self {
            architectures: vec!["CLIPVisionModel".into()],
            hidden_size: 768,
            intermediate_size: 3072,
            projection_dim: 512,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            num_channels: 3,
            image_size: 224,
            patch_size: 32,
            hidden_act: Activation::QuickGelu,
            layer_norm_eps: 1e-5,
        }
    }
}

/// The fields that are read from the configuration of a whole CLIP model, with text and vision tower.
#[derive(Deserialize)]
struct WholeClip {
    vision_config: Option<Map<String, Value>>,
    #[serde(default = "usual_projection")]
    projection_dim: Value,
}

fn usual_projection() -> Value {
    ClipVisionConfig::default().projection_dim.into()
}

/// Fields that change the result, and the values that are implemented.
const FIXED: &[Fixed] = &[
    ("architectures", &["\"CLIPVisionModel\"", "\"CLIPVisionModelWithProjection\""]),
    ("hidden_act", &["\"quick_gelu\"", "\"gelu\""]),
];

impl ConfigFile for ClipVisionConfig {
    /// Parses the `config.json` of a vision tower or of a whole CLIP model (`vision_config`).
    fn from_json(file: &str, text: &str) -> Result<Self> {
        let whole: WholeClip = read(file, text, &[])?;
        let config: Self = match whole.vision_config {
            Some(mut tower) => {
                tower.insert("architectures".into(), json!(["CLIPVisionModelWithProjection"]));
                tower.insert("projection_dim".into(), whole.projection_dim);
                read(file, &Value::Object(tower).to_string(), FIXED)?
            }
            None => read(file, text, FIXED)?,
        };
        in_file(config.check(), file)?;
        Ok(config)
    }
}

/// Published towers by the width of their states: number of heads, and activation. OpenAI trained ViT-B and ViT-L, and
/// LAION trained ViT-H and bigG.
const PUBLISHED: [(i64, i64, Activation); 4] = [
    (768, 12, Activation::QuickGelu),
    (1024, 16, Activation::QuickGelu),
    (1280, 16, Activation::Gelu),
    (1664, 16, Activation::Gelu),
];

impl ClipVisionConfig {
    /// Returns the configuration of a published tower from the sizes of its tensors.
    ///
    /// # Errors
    /// [`Error::Malformed`] if the weights are not those of a published tower.
    pub(crate) fn of_weights(w: &Weights) -> Result<Self> {
        let model = if w.has("embeddings.class_embedding") { w.clone() } else { w.at("vision_model") };
        let unknown = || {
            w.fault(
                "the file is no image encoder of CLIP with transformers' names and a known size (ViT-B, ViT-L, ViT-H, \
                 bigG); give the folder of an image encoder, with config.json and model.safetensors",
            )
        };
        let shape = |name: &str| model.shape(name).ok_or_else(unknown);
        let (patch, positions) =
            (shape("embeddings.patch_embedding.weight")?, shape("embeddings.position_embedding.weight")?);
        let inner = shape("encoder.layers.0.mlp.fc1.weight")?;
        let (&[width, num_channels, patch_size, _], &[positions, _], &[intermediate_size, _]) =
            (patch.as_slice(), positions.as_slice(), inner.as_slice())
        else {
            return Err(unknown());
        };
        let published = PUBLISHED.into_iter().find(|(own, ..)| *own == width);
        let (hidden_size, num_attention_heads, hidden_act) = published.ok_or_else(unknown)?;
        let layers = (0..).take_while(|i| model.has(&format!("encoder.layers.{i}.layer_norm1.weight"))).count();
        let projection = w.shape("visual_projection.weight").and_then(|shape| shape.first().copied());
        let config = Self {
            architectures: vec!["CLIPVisionModel".into()],
            hidden_size,
            intermediate_size,
            projection_dim: projection.unwrap_or(hidden_size),
            num_hidden_layers: layers as i64,
            num_attention_heads,
            num_channels,
            image_size: (1..).find(|side| side * side >= positions - 1).unwrap_or(1) * patch_size,
            patch_size,
            hidden_act,
            ..Self::default()
        };
        config.check()?;
        Ok(config)
    }

    /// Returns true if the configuration asks for a projected pooled state, independent of the weights.
    pub(crate) fn projects(&self) -> bool {
        self.architectures.iter().any(|name| name.ends_with("WithProjection"))
    }

    /// Returns the number of patches of a picture.
    fn patches(&self) -> i64 {
        self.image_size.checked_div(self.patch_size).unwrap_or(0).saturating_pow(2)
    }

    fn encoder(&self) -> EncoderConfig {
        EncoderConfig {
            width: self.hidden_size,
            inner: self.intermediate_size,
            layers: self.num_hidden_layers,
            heads: self.num_attention_heads,
            activation: self.hidden_act,
            eps: self.layer_norm_eps,
            causal: false,
        }
    }

    fn check(&self) -> Result<()> {
        sizes(NAME, "hidden_size", &[self.hidden_size])?;
        sizes(NAME, "intermediate_size", &[self.intermediate_size])?;
        sizes(NAME, "projection_dim", &[self.projection_dim])?;
        layers(NAME, "num_hidden_layers", &[self.num_hidden_layers])?;
        sizes(NAME, "num_channels", &[self.num_channels])?;
        sizes(NAME, "image_size", &[self.image_size])?;
        sizes(NAME, "patch_size", &[self.patch_size])?;
        if self.patch_size > self.image_size {
            return Err(refuse(NAME, "patch_size", self.patch_size, "it must not exceed image_size"));
        }
        divides(NAME, "num_attention_heads", self.num_attention_heads, self.hidden_size)
    }
}

/// States of the vision tower for pictures [b, 3, s, s], in the kind of the pictures. The first row of a state is the
/// class token, which stands for the whole picture. One row for each patch follows, in row-major order.
#[derive(Debug)]
#[non_exhaustive]
pub struct VisionStates {
    /// The embeddings and every layer's output, [b, 1 + patches, width] each, before the final norm.
    pub hidden_states: Vec<Tensor>,
    /// The last layer's output. As in transformers, this state lacks the final norm, unlike the text tower's.
    pub last_hidden_state: Tensor,
    /// First row of `last_hidden_state` after the final norm, [b, width].
    pub pooler_output: Tensor,
    /// Projection of `pooler_output`, [b, projection_dim], if the checkpoint has a projection.
    pub image_embeds: Option<Tensor>,
}

/// transformers' `CLIPVisionModel`, with or without projection.
///
/// ```
/// use impasto::nn::{ClipVision, ClipVisionConfig, ConfigFile};
/// use impasto::weights::Weights;
/// use tch::{Device, Kind, Tensor};
///
/// let config = ClipVisionConfig::from_json("config.json", r#"{
///     "architectures": ["CLIPVisionModelWithProjection"], "hidden_size": 8, "intermediate_size": 16,
///     "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 8, "patch_size": 4, "projection_dim": 6
/// }"#)?;
/// let tower = ClipVision::new(&Weights::random(7, Kind::Float, Device::Cpu), &config)?;
/// let pixels = Tensor::f_ones([1, 3, 8, 8], (Kind::Float, Device::Cpu))?;
/// let states = tower.forward(&pixels)?;
/// assert_eq!(states.last_hidden_state.size(), [1, 1 + 4, 8]);
/// assert_eq!(states.image_embeds.expect("there is a projection").size(), [1, 6]);
/// # Ok::<(), impasto::Error>(())
/// ```
#[derive(Debug)]
pub struct ClipVision {
    class_embedding: Tensor,
    patch_embedding: Conv2d,
    position_embedding: Tensor,
    pre_layrnorm: LayerNorm,
    encoder: Encoder,
    post_layernorm: LayerNorm,
    visual_projection: Option<Linear>,
    config: ClipVisionConfig,
    options: (Kind, Device),
}

impl ClipVision {
    /// Builds a vision tower from the weights `w`. The prefix `vision_model.` of their names is optional.
    ///
    /// # Errors
    /// [`Error::Config`] if the configuration contradicts itself, [`Error::Weights`] if the weights do not fit it.
    pub fn new(w: &Weights, config: &ClipVisionConfig) -> Result<Self> {
        config.check()?;
        let &ClipVisionConfig { hidden_size: width, num_channels, patch_size, layer_norm_eps, .. } = config;
        let project = || w.at("visual_projection").linear_without_bias(width, config.projection_dim);
        let projects = config.projects() || w.has("visual_projection.weight");
        let model = if w.has("embeddings.class_embedding") { w.clone() } else { w.at("vision_model") };
        let embeddings = model.at("embeddings");
        let patch = Conv { kernel: patch_size, stride: patch_size, padding: 0 };
        let tower = Self {
            class_embedding: embeddings.tensor("class_embedding", &[width])?,
            patch_embedding: embeddings.at("patch_embedding").conv2d_without_bias(num_channels, width, patch)?,
            position_embedding: embeddings.at("position_embedding").tensor("weight", &[1 + config.patches(), width])?,
            pre_layrnorm: model.at("pre_layrnorm").layer_norm(width, layer_norm_eps)?,
            encoder: Encoder::new(&model.at("encoder"), config.encoder())?,
            post_layernorm: model.at("post_layernorm").layer_norm(width, layer_norm_eps)?,
            visual_projection: projects.then(project).transpose()?,
            config: config.clone(),
            options: (w.kind(), w.device()),
        };
        w.finish()?;
        Ok(tower)
    }

    /// Returns the configuration of the network.
    pub(crate) fn config(&self) -> &ClipVisionConfig {
        &self.config
    }

    /// Computes all states of pictures, [b, 3, s, s] with s = `image_size`.
    /// [`ClipImageProcessor::pixels`](super::ClipImageProcessor::pixels) prepares such pictures: normalized, not
    /// −1..=1.
    ///
    /// # Errors
    /// [`Error::Shape`] if the pictures have another size.
    pub fn forward(&self, pixels: &Tensor) -> Result<VisionStates> {
        let (channels, side) = (self.config.num_channels, self.config.image_size);
        let b = match pixels.size().as_slice() {
            &[b, c, h, w] if b > 0 && (c, h, w) == (channels, side, side) => b,
            got => {
                let expected = format!("[b, {channels}, {side}, {side}]");
                return Err(Error::Shape { what: "pixels", got: got.to_vec(), expected });
            }
        };
        let pixels_here = pixels.f_to_device(self.options.1)?.f_to_kind(self.options.0)?;
        let patches = cells(&self.patch_embedding.forward(&pixels_here)?)?; // [b, patches, width]
        let class = self.class_embedding.f_expand([b, 1, self.config.hidden_size], false)?;
        let x = Tensor::f_cat(&[class, patches], 1)?.f_add(&self.position_embedding)?;
        let (hidden_states, last) = self.encoder.forward(self.pre_layrnorm.forward(&x)?)?;

        let pooled = self.normed(&last.f_select(1, 0)?)?;
        let embeds = self.projected(&pooled)?;
        let back = |x: Tensor| -> Result<Tensor> { Ok(x.f_to_kind(pixels.kind())?) };
        Ok(VisionStates {
            hidden_states: hidden_states.into_iter().map(back).collect::<Result<_>>()?,
            last_hidden_state: back(last)?,
            pooler_output: back(pooled)?,
            image_embeds: embeds.map(back).transpose()?,
        })
    }

    /// Applies the final norm to hidden states, [.., width]. The class token's row of the last state, normed, is the
    /// pooled state.
    pub fn normed(&self, states: &Tensor) -> Result<Tensor> {
        let here = states.f_to_device(self.options.1)?.f_to_kind(self.options.0)?;
        Ok(self.post_layernorm.forward(&here)?.f_to_kind(states.kind())?)
    }

    /// Projects normed states into the space of the texts, [.., width] → [.., projection_dim]; `None` if the checkpoint
    /// has no projection. The whole last state, normed, gives one embedding for the picture and one for each patch.
    pub fn projected(&self, normed: &Tensor) -> Result<Option<Tensor>> {
        let Some(projection) = &self.visual_projection else { return Ok(None) };
        let here = normed.f_to_device(self.options.1)?.f_to_kind(self.options.0)?;
        Ok(Some(projection.forward(&here)?.f_to_kind(normed.kind())?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> ClipVisionConfig {
        ClipVisionConfig {
            architectures: vec!["CLIPVisionModelWithProjection".into()],
            hidden_size: 8,
            intermediate_size: 16,
            projection_dim: 6,
            num_hidden_layers: 2,
            num_attention_heads: 2,
            image_size: 11,
            patch_size: 4,
            ..ClipVisionConfig::default()
        }
    }

    fn tower(kind: Kind) -> Result<ClipVision> {
        ClipVision::new(&Weights::random(3, kind, Device::Cpu), &config())
    }

    fn picture(kind: Kind) -> Tensor {
        (Tensor::arange(2 * 3 * 11 * 11, (Kind::Float, Device::Cpu)) * 0.1).sin().reshape([2, 3, 11, 11]).to_kind(kind)
    }

    #[test]
    fn patches_see_each_other_and_ignore_the_edge() -> Result<()> {
        let tower = tower(Kind::Float)?;
        let changed = |y: i64, x: i64| -> Result<f64> {
            let other = picture(Kind::Float);
            let _ = other.narrow(2, y, 1).narrow(3, x, 1).fill_(3.0);
            let [a, b] = [picture(Kind::Float), other].map(|x| tower.forward(&x).unwrap().last_hidden_state);
            Ok((a - b).abs().amin([0, 2], false).min().double_value(&[])) // the row that changed least
        };
        assert!(changed(0, 0)? > 1e-6 && changed(7, 7)? > 1e-6);
        assert_eq!((changed(8, 0)?, changed(0, 10)?), (0.0, 0.0));
        Ok(())
    }

    #[test]
    fn class_token_is_pooled_and_all_tokens_project() -> Result<()> {
        let tower = tower(Kind::Float)?;
        let states = tower.forward(&picture(Kind::Float))?;
        assert_eq!(states.hidden_states.len(), 3);
        assert_eq!(states.last_hidden_state.size(), [2, 1 + 4, 8]);
        assert_eq!(states.hidden_states.last(), Some(&states.last_hidden_state));
        assert_eq!(states.hidden_states.len(), 3);
        let all = tower.projected(&tower.normed(&states.last_hidden_state)?)?.unwrap();
        let embeds = states.image_embeds.unwrap();
        assert_eq!((all.size(), embeds.size()), (vec![2, 5, 6], vec![2, 6]));
        assert!((all.select(1, 0) - embeds).abs().max().double_value(&[]) < 1e-6);
        Ok(())
    }

    #[test]
    fn states_have_the_pictures_kind() -> Result<()> {
        let states = tower(Kind::Double)?.forward(&picture(Kind::Half))?;
        let VisionStates { hidden_states, last_hidden_state, pooler_output, image_embeds } = states;
        for state in hidden_states.iter().chain([&last_hidden_state, &pooler_output]).chain(&image_embeds) {
            assert_eq!(state.kind(), Kind::Half);
        }
        Ok(())
    }

    #[test]
    fn projection_in_the_weights_is_used() -> Result<()> {
        let plain = ClipVisionConfig { architectures: vec!["CLIPVisionModel".into()], ..config() };
        let without = ClipVision::new(&Weights::random(3, Kind::Float, Device::Cpu), &plain)?;
        let states = without.forward(&picture(Kind::Float))?;
        assert!(states.image_embeds.is_none() && without.projected(&states.pooler_output)?.is_none());

        // A file holds the same tensors, with and without the prefix, and a projection that the configuration omits.
        let nothing = Weights::new("nothing", [].into(), Kind::Float, Device::Cpu);
        let Err(Error::Weights(report)) = ClipVision::new(&nothing, &config()) else { panic!("nothing is there") };
        let random = Weights::random(3, Kind::Float, Device::Cpu);
        for prefix in ["vision_model.", ""] {
            let named = report.missing.iter().map(|missing| {
                let tensor = random.tensor(&missing.name, &missing.shape)?;
                Ok((missing.name.replacen("vision_model.", prefix, 1), tensor))
            });
            let w = Weights::new("file", named.collect::<Result<_>>()?, Kind::Float, Device::Cpu);
            let states = ClipVision::new(&w, &plain)?.forward(&picture(Kind::Float))?;
            assert_eq!(states.image_embeds, tower(Kind::Float)?.forward(&picture(Kind::Float))?.image_embeds);
            assert_eq!(w.report().unused, []);
        }
        Ok(())
    }

    #[test]
    fn sizes_tell_a_published_tower() -> Result<()> {
        let sizes = ClipVisionConfig { hidden_size: 768, num_attention_heads: 12, intermediate_size: 8, ..config() };
        let drawn = |config: &ClipVisionConfig| -> Result<Weights> {
            let random = Weights::random(3, Kind::Float, Device::Cpu);
            let _ = ClipVision::new(&random, config)?;
            Ok(Weights::new("tower.safetensors", random.drawn()?, Kind::Float, Device::Cpu))
        };
        let sizes = ClipVisionConfig { num_hidden_layers: 1, image_size: 8, ..sizes };
        let found = ClipVisionConfig::of_weights(&drawn(&sizes)?)?;
        assert_eq!(found, ClipVisionConfig { architectures: vec!["CLIPVisionModel".into()], ..sizes });
        let other = ClipVisionConfig::of_weights(&drawn(&config())?).unwrap_err().to_string();
        assert!(other.contains("tower.safetensors: ") && other.contains("give the folder"), "{other}");
        Ok(())
    }

    #[cfg(feature = "tiny")]
    #[test]
    fn the_embedded_tower_tells_pictures_apart() -> Result<()> {
        use crate::color::Rgb;
        use crate::nn::ClipImageProcessor;
        use crate::raster::Raster;
        use crate::weights::{Checkpoint, Reading, Source};

        let source = Checkpoint::open(&Source::embedded(), Reading::default())?;
        let text = |file| -> Result<String> { Ok(source.text(file)?.unwrap()) };
        let w = source.weights("image_encoder", Kind::Float, Device::Cpu)?;
        let config = ClipVisionConfig::from_json("config.json", &text("image_encoder/config.json")?)?;
        let tower = ClipVision::new(&w, &config)?;
        assert_eq!(w.report().unused, []);
        let file = "feature_extractor/preprocessor_config.json";
        let processor = ClipImageProcessor::from_json(file, &text(file)?)?;

        let house = |color, h, w| -> Result<Tensor> {
            let mut picture = Raster::flat(Rgb(0, 0, 128), (w, h));
            picture.paste(&Raster::flat(color, (w / 2, h / 2)), w / 4, h / 4);
            processor.pixels(&picture)
        };
        let (red, yellow) = (Rgb(255, 0, 0), Rgb(255, 255, 0));
        let pixels = Tensor::f_cat(&[house(red, 128, 128)?, house(red, 200, 200)?, house(yellow, 128, 128)?], 0)?;
        let embeds = tower.forward(&pixels)?.image_embeds.unwrap();
        assert_eq!(embeds.size(), [3, config.projection_dim]);
        let cosine = |i, j| Tensor::cosine_similarity(&embeds.get(i), &embeds.get(j), 0, 1e-8).double_value(&[]);
        assert!(cosine(0, 1) > 0.99 && cosine(0, 2) < 0.9, "{} {}", cosine(0, 1), cosine(0, 2));
        Ok(())
    }

    #[test]
    fn invalid_pictures_and_settings_are_errors() -> Result<()> {
        let wrong = Tensor::zeros([1, 3, 11, 12], (Kind::Float, Device::Cpu));
        let message = tower(Kind::Float)?.forward(&wrong).unwrap_err().to_string();
        assert!(message.contains("pixels has shape [1, 3, 11, 12]; expected [b, 3, 11, 11]"), "{message}");
        let message = |json| ClipVisionConfig::from_json("config.json", json).expect_err(json).to_string();
        let whole = r#"{ "architectures": ["CLIPModel"], "projection_dim": 6,
                         "vision_config": { "architectures": null, "hidden_size": 24, "projection_dim": 512 } }"#;
        let whole = ClipVisionConfig::from_json("config.json", whole)?;
        assert!(whole.projects() && (whole.projection_dim, whole.hidden_size) == (6, 24), "{whole:?}");
        assert!(message(r#"{ "patch_size": 225 }"#).contains("config.json: patch_size is 225; it must not exceed"));
        assert!(message(r#"{ "patch_size": 0 }"#).contains("patch_size is 0; expected a size of at least 1"));
        assert!(message(r#"{ "num_attention_heads": 5 }"#).contains("it must divide 768 channels"));
        assert!(message(r#"{ "architectures": ["CLIPTextModel"] }"#).contains("only \"CLIPVisionModel\" or"));
        assert!(message(r#"{ "hidden_act": "relu" }"#).contains("hidden_act is \"relu\""));
        Ok(())
    }
}
