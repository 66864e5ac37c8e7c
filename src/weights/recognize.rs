//! Recognition of files by the names and shapes of their tensors.

use super::file::Header;
use super::lora::piece::{Piece, adapts, reads_context, split};
use super::names::{self, UNET};
use super::{anima, sd3, z_image};
use crate::error::{Error, Result};
use crate::family::ModelFamily;
use crate::wording::Remedy;
use std::fmt;

/// The recognized contents of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Contents {
    /// A network that denoises, usually with VAE and text encoders beside it.
    Model {
        /// Family of the model.
        family: ModelFamily,
        /// True if the UNet also reads a mask and a masked picture.
        inpaint: bool,
    },
    /// A ColorizeDiffusion model of any version, which colors sketches like reference pictures.
    Colorizer,
    /// A ControlNet.
    ControlNet {
        /// Family of the UNet that the ControlNet belongs to.
        family: ModelFamily,
        /// Number of channels of the hint.
        hint: i64,
    },
    /// A ControlNet union, which reads hints of several types.
    ControlNetUnion {
        /// Family of the UNet that the ControlNet belongs to.
        family: ModelFamily,
        /// Number of types: 6, or 8 for ProMax.
        types: i64,
    },
    /// A T2I adapter, full or light.
    T2iAdapter {
        /// Family of the UNet that the adapter belongs to: SD 1.x or SDXL.
        family: ModelFamily,
        /// Number of channels of the hint.
        hint: i64,
    },
    /// A VAE alone.
    Vae,
    /// A tiny autoencoder (TAESD). The tensors do not show whether the autoencoder is for SD 1.x or SDXL.
    Taesd,
    /// A text encoder alone.
    TextEncoder {
        /// Width of the encoder's states: 768 (CLIP-L), 1024 (OpenCLIP-H, Qwen3-0.6B), 1280
        /// (OpenCLIP-bigG), 2560 (Qwen3-4B), 4096 (T5-XXL).
        width: i64,
    },
    /// A LoRA or a related adapter.
    Lora {
        /// Family that the LoRA was trained on; `None` if no change of cross-attention shows the family.
        family: Option<ModelFamily>,
    },
    /// An embedding of a word (textual inversion).
    TextualInversion {
        /// Family that the embedding was trained on.
        family: ModelFamily,
        /// Number of tokens that the word becomes.
        vectors: i64,
    },
}

impl fmt::Display for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Model { family: ModelFamily::Anima, .. } => f.write_str("an Anima model"),
            Self::Model { family, inpaint: false } => write!(f, "a {family} model"),
            Self::Model { family, inpaint: true } => write!(f, "a {family} inpainting model"),
            Self::Colorizer => f.write_str("a ColorizeDiffusion model"),
            Self::ControlNet { family, hint } => write!(f, "a ControlNet for {family} with {hint} hint channels"),
            Self::ControlNetUnion { family, types } => {
                write!(f, "a ControlNet union for {family} with {types} hint types")
            }
            Self::T2iAdapter { family, hint } => write!(f, "a T2I adapter for {family} with {hint} hint channels"),
            Self::Vae => f.write_str("a VAE"),
            Self::Taesd => f.write_str("a tiny autoencoder (TAESD)"),
            Self::TextEncoder { width } => write!(f, "a text encoder of width {width}"),
            Self::Lora { family: Some(family) } => write!(f, "a LoRA for {family}"),
            Self::Lora { family: None } => f.write_str("a LoRA"),
            Self::TextualInversion { family, vectors } => write!(f, "an embedding of {vectors} tokens for {family}"),
        }
    }
}

/// Pixels of a hint that a T2I adapter for SD 1.x moves into channels: 8 × 8.
pub(super) const UNSHUFFLED: i64 = 64;

/// Pixels of a hint that a T2I adapter for SDXL moves into channels: 16 × 16.
pub(super) const UNSHUFFLED_XL: i64 = 256;

/// Prefix of the tensor names of ColorizeDiffusion's sketch encoder.
pub(super) const SKETCH_ENCODER: &str = "control_encoder.";

/// Names of an embedding's tensor, other than the word itself. OneTrainer writes `emp_params`.
pub(super) const ROWS: [&str; 2] = ["emb_params", "emp_params"];

/// Beginning of the name of an embedding's tensor in the web UI's `.pt` files; the rest is a placeholder, usually `*`.
const ROWS_OF_PT: &str = "string_to_param.";

/// Returns the name of an embedding's tensor in a `.pt` file of the web UI; `None` unless there is exactly one.
pub(super) fn rows_of_pt<'n>(mut names: impl Iterator<Item = &'n String>) -> Option<&'n str> {
    let first = names.find(|name| name.starts_with(ROWS_OF_PT))?;
    names.all(|name| !name.starts_with(ROWS_OF_PT)).then_some(first)
}

/// Names of an embedding's tensors for SDXL's two text encoders.
pub(super) const ROWS_OF_XL: [&str; 2] = ["clip_l", "clip_g"];

/// Names of OneTrainer's output embeddings, which replace states that a text encoder returns.
pub(super) const OUTPUTS: [&str; 4] = ["clip_l_out", "clip_g_out", "emb_params_out", "emp_params_out"];

/// A test of tensor names, and the contents of a file in which a name passes the test.
type Sign = (fn(&str) -> bool, &'static str);

/// Parts of tensor names of a ControlNet-XS, in diffusers' and the original layout.
const CROSSED: [&str; 4] = ["base_to_ctrl", "ctrl_to_base", "control_to_base", "enc_zero_convs_"];

/// Signs of files that this crate cannot use, such as adapters; tested before a file is recognized as a ControlNet.
const OTHERS: &[Sign] = &[
    (|name| name == "lora_controlnet", "a Control-LoRA"),
    (|name| name == "difference", "a difference ControlNet"),
    (|name| name == "style_embedding" || name.starts_with("transformer_layers."), "a T2I style adapter"),
    (|name| CROSSED.iter().any(|part| name.contains(part)), "a ControlNet-XS"),
    (|name| name.contains(".motion_modules."), "an AnimateDiff motion module"),
    (|name| OUTPUTS.contains(&name), "an embedding of a text encoder's outputs"),
];

/// Returns true for the name of an IP-Adapter's tensor.
pub(super) fn is_ip_adapter(name: &str) -> bool {
    name.starts_with("ip_adapter.") || name.starts_with("image_proj.")
}

/// Signs of models that this crate cannot use; tested only after a file was not recognized as a ControlNet.
const OTHER_MODELS: &[Sign] = &[
    (|name| name.contains("joint_blocks."), "a part of a Stable Diffusion 3 model"),
    (|name| name.contains("double_blocks."), "a Flux model"),
    (|name| name.contains(".attn.add_k_proj") || name.contains(".txt_in."), "a transformer of another family"),
    (|name| name == "clip_txt_mapper.weight", "a Stable Cascade model"),
    (|name| name.contains("double_layers."), "an AuraFlow model"),
    (|name| name == "head.modulation", "a Wan model"),
    (|name| name == "cap_embedder.0.weight", "a Lumina-Image 2.0 model"),
    (|name| name.starts_with("cond_stage_model.roberta."), "an AltDiffusion model"),
    (|name| name == "edm_mean" || name == "edm_std", "Playground 2.5"),
    (|name| name == "edm_vpred.sigma_max", "CosXL"),
];

/// Last parts of the names of quantized weights, and of tensors with their scales or a description of them. ComfyUI's
/// older scaled fp8 has the first three. ComfyUI's newer formats, which are not all fp8, have the next five, nunchaku's
/// files the next three, and those of bitsandbytes the last three.
const SCALES: [&str; 14] = [
    "scaled_fp8",
    "scale_weight",
    "scale_input",
    "weight_scale",
    "weight_scale_2",
    "input_scale",
    "pre_quant_scale",
    "comfy_quant",
    "qweight",
    "wscales",
    "smooth_factor",
    "absmax",
    "quant_map",
    "SCB",
];

/// Checks that no tensor of a file has scales for quantized weights. Without the scales, which this crate does not
/// apply, such weights have wrong values.
///
/// # Errors
/// [`Error::Malformed`] with the name of such a tensor.
pub(super) fn refuse_scaled<'n>(file: &str, mut names: impl Iterator<Item = &'n String>) -> Result<()> {
    let is_scale = |name: &&String| name.rsplit('.').next().is_some_and(|last| SCALES.contains(&last));
    let Some(name) = names.find(is_scale) else { return Ok(()) };
    let problem = format!(
        "the file's weights are scaled fp8 or quantized in another way, as its tensor {name} shows; expected weights \
         without scales; use the f16 or bf16 file of the same model"
    );
    Err(Error::Malformed { file: file.into(), problem })
}

impl Contents {
    /// Recognizes a file by the names and shapes of its tensors.
    ///
    /// # Errors
    /// [`Error::Malformed`] with a description of the file, if this crate cannot use the file; [`Error::OtherKind`] for
    /// an IP-Adapter, which is no part of a model.
    ///
    /// Source: the tables of diffusers' `single_file_utils`, ComfyUI and stable-diffusion-webui.
    pub(crate) fn of(header: &Header) -> Result<Self> {
        let refuse = |problem: String| Error::Malformed { file: header.file.clone(), problem };
        let is = |what: &str| refuse(format!("the file is {what}, which is not supported"));
        let names = || header.tensors.keys().map(String::as_str);
        let bare = || names().map(|name| anima::PREFIXES.iter().find_map(|at| name.strip_prefix(at)).unwrap_or(name));
        let first = |signs: &[Sign]| signs.iter().find(|(test, _)| bare().any(test)).map(|(_, what)| *what);
        if header.tensors.is_empty() {
            return Err(refuse("the file has no tensors".into()));
        }
        // Any file can have scales, so they are searched before the file is recognized by other tensors.
        refuse_scaled(&header.file, header.tensors.keys())?;
        if names().any(adapts) {
            return Self::adapter(header).ok_or_else(|| refuse("the file is a LoRA for another model family".into()));
        }
        if let Some(contents) = Self::embedding(header) {
            return Ok(contents);
        }
        if let Some(what) = first(OTHERS) {
            return Err(is(what));
        }
        if bare().any(is_ip_adapter) {
            let (file, contents, remedy) = (header.file.clone(), "an IP-Adapter".into(), Remedy::IpAdapter);
            return Err(Error::OtherKind { file, contents, remedy });
        }
        if names().any(|name| name.starts_with("adapter.body.") || name.starts_with("body.0.")) {
            return Self::t2i_adapter(header).ok_or_else(|| is("a T2I adapter without its first layer"));
        }
        for (prefix, hint) in [
            ("control_model.", "control_model.input_hint_block.0.weight"),
            ("", "input_hint_block.0.weight"),
            ("", "controlnet_cond_embedding.conv_in.weight"),
        ] {
            if let Some([_, hint, ..]) = header.shape(hint) {
                let Some(family) = Facts::of(header, prefix).family() else {
                    return Err(is("a ControlNet for an unknown model"));
                };
                return match header.shape("task_embedding") {
                    Some([types, ..]) => Ok(Self::ControlNetUnion { family, types: *types }),
                    _ if names().any(|name| name.starts_with("control_add_embedding.")) => {
                        Err(is("a ControlNet union without types"))
                    }
                    _ => Ok(Self::ControlNet { family, hint: *hint }),
                };
            }
        }
        if bare().any(|name| name == anima::PATCHES) {
            return match bare().any(|name| name.starts_with(anima::CONDITIONER)) {
                true => Ok(Self::Model { family: ModelFamily::Anima, inpaint: false }),
                false => Err(is("a Cosmos-Predict2 model")),
            };
        }
        let has = |wanted: &str| bare().any(|name| name == wanted);
        if has(sd3::JOINT) || has(sd3::JOINT_OF_DIFFUSERS) && has(sd3::POSITIONS_OF_DIFFUSERS) {
            return Ok(Self::Model { family: ModelFamily::Sd3, inpaint: false });
        }
        if has(z_image::LAYER) {
            return Ok(Self::Model { family: ModelFamily::ZImage, inpaint: false });
        }
        if header.shape(anima::VAE).is_some() {
            return Ok(Self::Vae);
        }
        if header.shape(sd3::T5).is_some() {
            let tables = ["shared.weight", "encoder.embed_tokens.weight"];
            let width = tables.iter().find_map(|table| header.shape(table)?.get(1).copied());
            return width.map(|width| Self::TextEncoder { width }).ok_or_else(|| is("a T5 without its embedding"));
        }
        if let Some([_, width]) = header.shape(anima::TOKENS).filter(|_| header.shape("norm.weight").is_some()) {
            return Ok(Self::TextEncoder { width: *width });
        }
        if let Some(what) = first(OTHER_MODELS) {
            return Err(is(what));
        }
        if header.shape(&format!("{SKETCH_ENCODER}zero_layer.0.weight")).is_some() {
            return Ok(Self::Colorizer);
        }
        if let Some(model) = Facts::find(header).model() {
            return model.map_err(|what| is(&what));
        }
        match Self::part(header) {
            Some(part) => part.map_err(|what| is(&what)),
            None => {
                Err(refuse(format!("the file is not a Stable Diffusion file; its tensors include {}", few(header))))
            }
        }
    }

    /// Recognizes a LoRA; `None` if the LoRA is for a model that this crate does not run.
    ///
    /// Flux and Qwen-Image share some names with Stable Diffusion 3. They have other layers too, and another width. The
    /// width is also that of one layer of Stable Diffusion 3 medium: the norm of the text in the last block.
    fn adapter(header: &Header) -> Option<Self> {
        /// Layers that only transformers of other families have.
        const OTHERS: [&str; 6] =
            ["double_blocks", "single_blocks", "single_transformer_blocks", "img_mod", "img_mlp", "txt_mlp"];
        /// Width of transformers of other families.
        const OTHER_WIDTH: i64 = 3072;
        /// Layers that several families have, such as the feed-forward layers of Anima and Stable Diffusion 3.
        const SHARED: [&str; 2] = ["transformer.transformer_blocks.", "lora_transformer_transformer_blocks_"];
        let all = || header.tensors.iter().map(|(name, stored)| (names::unwrapped(name), &stored.shape));
        let is_shared = |name: &str| SHARED.iter().any(|start| name.starts_with(start));
        let shows_width = |name: &str| {
            (sd3::changes(name) && name.contains("attn") || is_shared(name)) && !name.contains("norm1_context")
        };
        let is_other = |(name, shape): (&str, &Vec<i64>)| {
            OTHERS.iter().any(|layer| name.contains(layer)) || shows_width(name) && shape.contains(&OTHER_WIDTH)
        };
        if all().any(is_other) {
            return None;
        }
        if all().any(|(name, _)| sd3::changes(name)) {
            return Some(Self::Lora { family: Some(ModelFamily::Sd3) });
        }
        if all().any(|(name, _)| anima::changes(name)) {
            return Some(Self::Lora { family: Some(ModelFamily::Anima) });
        }
        if all().any(|(name, _)| z_image::changes(name)) {
            return Some(Self::Lora { family: Some(ModelFamily::ZImage) });
        }
        if all().any(|(name, _)| is_shared(name)) {
            return Some(Self::Lora { family: None });
        }
        if all().any(|(name, _)| ["transformer.", "lora_transformer_"].iter().any(|start| name.starts_with(start))) {
            return None;
        }
        Some(Self::Lora { family: Self::context(header).and_then(ModelFamily::of_context) })
    }

    /// Returns the width of the context in the model that a LoRA was trained on; `None` if no change shows the width.
    fn context(header: &Header) -> Option<i64> {
        let columns = |name: String| header.shape(&name)?.get(1).copied();
        header.tensors.iter().find_map(|(name, stored)| {
            let (module, piece) = split(name).filter(|(module, _)| reads_context(module))?;
            let own = stored.shape.get(1).copied()?;
            match piece {
                Piece::Down | Piece::HadaW1B | Piece::Diff | Piece::GloraB2 => Some(own),
                // A Kronecker product has as many columns as both factors multiplied.
                Piece::LokrW2 | Piece::LokrW2B => {
                    let first = columns(format!("{module}.lokr_w1")).or_else(|| columns(format!("{module}.lokr_w1_b")));
                    own.checked_mul(first?)
                }
                _ => None,
            }
        })
    }

    /// Recognizes an embedding of a word (textual inversion), in any of the supported layouts.
    fn embedding(header: &Header) -> Option<Self> {
        if header.tensors.len() > 4 {
            return None;
        }
        let vectors = |shape: &[i64]| match *shape {
            [width] => Some((1, width)),
            [n, width] if (1..=75).contains(&n) => Some((n, width)),
            _ => None,
        };
        if let Some(shape) = ROWS_OF_XL.iter().find_map(|name| header.shape(name)) {
            return vectors(shape).map(|(vectors, _)| Self::TextualInversion { family: ModelFamily::Sdxl, vectors });
        }
        let only = || match header.tensors.first_key_value() {
            Some((name, only)) if header.tensors.len() == 1 && !OUTPUTS.contains(&name.as_str()) => Some(&*only.shape),
            _ => None,
        };
        let rows = rows_of_pt(header.tensors.keys()).and_then(|name| header.shape(name));
        let (vectors, width) = vectors(ROWS.iter().find_map(|name| header.shape(name)).or(rows).or_else(only)?)?;
        Some(Self::TextualInversion { family: ModelFamily::of_context(width).filter(|_| width != 2048)?, vectors })
    }

    /// Recognizes a T2I adapter by its first layer; `None` if the file lacks this layer.
    fn t2i_adapter(header: &Header) -> Option<Self> {
        let columns = |layer: &str| {
            let shape = ["adapter.", ""].iter().find_map(|prefix| header.shape(&format!("{prefix}{layer}")))?;
            shape.get(1).copied()
        };
        if let Some(columns) = columns("conv_in.weight") {
            let xl = columns % UNSHUFFLED_XL == 0;
            let (family, pixels) = if xl { (ModelFamily::Sdxl, UNSHUFFLED_XL) } else { (ModelFamily::Sd1, UNSHUFFLED) };
            return Some(Self::T2iAdapter { family, hint: columns / pixels });
        }
        let light = columns("body.0.in_conv.weight")?;
        Some(Self::T2iAdapter { family: ModelFamily::Sd1, hint: light / UNSHUFFLED })
    }

    /// Recognizes a single part of a model: a VAE, a tiny autoencoder or a text encoder.
    fn part(header: &Header) -> Option<std::result::Result<Self, String>> {
        if anima::VAE_PREFIXES.iter().any(|prefix| header.shape(&format!("{prefix}{}", anima::VAE)).is_some()) {
            return Some(Ok(Self::Vae));
        }
        let tokens = |prefix: &&str| {
            let norm = header.shape(&format!("{prefix}norm.weight"));
            header.shape(&format!("{prefix}{}", anima::TOKENS)).filter(|_| norm.is_some())
        };
        if let Some([_, width]) = anima::TEXT_PREFIXES.iter().find_map(tokens) {
            return Some(Ok(Self::TextEncoder { width: *width }));
        }
        for prefix in ["first_stage_model.", "vae.", ""] {
            if let Some([_, channels, ..]) = header.shape(&format!("{prefix}decoder.conv_in.weight")) {
                return Some(match channels {
                    4 | 16 => Ok(Self::Vae),
                    other => Err(format!("a VAE with {other} latent channels")),
                });
            }
        }
        let tiny = ["decoder.layers.0.weight", "encoder.layers.0.weight", "1.weight", "0.weight"];
        match tiny.iter().find_map(|name| header.shape(name)) {
            Some([64, 3 | 4 | 16, _, _]) => return Some(Ok(Self::Taesd)),
            Some([64, channels, _, _]) => return Some(Err(format!("a tiny VAE with {channels} latent channels"))),
            _ => {}
        }
        let ends = ["embeddings.token_embedding.weight", "model.token_embedding.weight"];
        let is_table = |name: &str| name == "token_embedding.weight" || ends.iter().any(|end| name.ends_with(end));
        let table = header.tensors.iter().find(|(name, _)| is_table(name));
        table.and_then(|(_, stored)| Some(Ok(Self::TextEncoder { width: *stored.shape.get(1)? })))
    }
}

/// Sizes that identify a UNet or ControlNet.
#[derive(Clone, Copy, Debug, Default)]
struct Facts {
    /// Channels of the input.
    inputs: Option<i64>,
    /// Width of the context.
    context: Option<i64>,
    /// Input width of the layer that adds conditions to the timestep.
    added: Option<i64>,
    /// True if the UNet embeds a class, as upscalers do for their noise level.
    classes: bool,
}

impl Facts {
    /// Reads the facts from the tensors whose names begin with `prefix`, in either layout.
    fn of(header: &Header, prefix: &str) -> Self {
        let second = |names: [&str; 2]| {
            let shape = names.iter().find_map(|name| header.shape(&format!("{prefix}{name}")))?;
            shape.get(1).copied()
        };
        let keys = header.tensors.iter().filter(|(name, _)| name.starts_with(prefix));
        let mut contexts = keys.filter(|(name, _)| name.ends_with("attn2.to_k.weight"));
        Self {
            inputs: second(["input_blocks.0.0.weight", "conv_in.weight"]),
            context: contexts.find_map(|(_, stored)| stored.shape.get(1).copied()),
            added: second(["label_emb.0.0.weight", "add_embedding.linear_1.weight"]),
            classes: header.shape(&format!("{prefix}label_emb.weight")).is_some(),
        }
    }

    /// Reads the facts of a single file's UNet.
    fn find(header: &Header) -> Self {
        let prefixed = header.tensors.keys().any(|name| name.starts_with(UNET));
        Self::of(header, if prefixed { UNET } else { "" })
    }

    fn family(&self) -> Option<ModelFamily> {
        let family = ModelFamily::of_context(self.context?)?;
        (self.added == family.spec().added).then_some(family)
    }

    /// Returns the model, or a description of unsupported contents; `None` if there is no UNet.
    fn model(&self) -> Option<std::result::Result<Contents, String>> {
        let (inputs, context) = (self.inputs?, self.context?);
        let inpaint = match inputs {
            _ if self.classes => return Some(Err("an upscaler".into())),
            4 => false,
            9 => true,
            other => return Some(Err(format!("a model with {other} input channels"))),
        };
        Some(match (self.family(), self.added) {
            (Some(family), _) => Ok(Contents::Model { family, inpaint }),
            (None, Some(_)) if matches!(context, 768 | 1024) => Err("an unCLIP model".into()),
            (None, _) => Err(format!("a model of an unknown kind with a context of width {context}")),
        })
    }
}

/// Returns the first three tensor names of a file.
fn few(header: &Header) -> String {
    header.tensors.keys().take(3).map(String::as_str).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::file::Stored;
    use super::*;
    use tch::Kind;

    /// Returns the recognized contents of a file with tensors of these names, all of one shape.
    fn contents(names: &[&str]) -> Result<Contents> {
        let stored = |name: &&str| ((*name).to_owned(), Stored { shape: vec![8, 8, 3, 3], kind: Kind::Float8e4m3fn });
        let tensors = names.iter().map(stored).collect();
        Contents::of(&Header { file: "it".into(), tensors, ..Header::default() })
    }

    #[test]
    fn scales_are_refused_in_every_family() {
        let families: [&[&str]; 8] = [
            &["x_embedder.proj.1.weight", "llm_adapter.embed.weight"],
            &["model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight"],
            &["layers.0.adaLN_modulation.0.weight"],
            &["decoder.middle.0.residual.0.gamma"],
            &["encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", "shared.weight"],
            &["embed_tokens.weight", "norm.weight"],
            &["model.diffusion_model.input_blocks.0.0.weight"],
            &["transformer.layers.0.attention.to_q.lora_A.weight"],
        ];
        let signs = [
            "scaled_fp8",
            "model.diffusion_model.scaled_fp8",
            "text_encoders.t5xxl.transformer.scaled_fp8",
            "layers.0.mlp.scale_weight",
            "layers.0.mlp.scale_input",
            "layers.0.mlp.weight_scale",
            "layers.0.mlp.weight_scale_2",
            "layers.0.mlp.input_scale",
            "layers.0.mlp.pre_quant_scale",
            "layers.0.mlp.comfy_quant",
            "transformer_blocks.0.attn.to_qkv.qweight",
            "transformer_blocks.0.attn.to_qkv.wscales",
            "transformer_blocks.0.attn.to_qkv.smooth_factor",
            "layers.0.mlp.up_proj.weight.absmax",
            "layers.0.mlp.up_proj.weight.quant_map",
            "layers.0.mlp.up_proj.SCB",
        ];
        for family in families {
            for sign in signs {
                let message = contents(&[family, &[sign]].concat()).map(drop).unwrap_err().to_string();
                let says = ["it: the file's weights are scaled fp8", sign, "use the f16 or bf16 file"];
                assert!(says.iter().all(|part| message.contains(part)), "{family:?}: {message}");
            }
            let plain = contents(family).map_err(|error| error.to_string());
            assert!(!plain.is_err_and(|message| message.contains("fp8")), "{family:?}");
        }
        let other = contents(&["double_blocks.0.img_attn.norm.key_norm.scale"]).map(drop).unwrap_err().to_string();
        assert!(other.contains("a Flux model"), "the scale of a norm is no scale of weights: {other}");
    }

    #[test]
    fn animas_names_are_recognized_behind_prefixes() -> Result<()> {
        let model = Contents::Model { family: ModelFamily::Anima, inpaint: false };
        for prefix in ["model.diffusion_model.net.", "model.diffusion_model.", ""] {
            let names = ["x_embedder.proj.1.weight", "llm_adapter.embed.weight"].map(|name| format!("{prefix}{name}"));
            assert_eq!(contents(&names.each_ref().map(String::as_str))?, model, "{prefix}");
        }
        for prefix in ["vae.", "first_stage_model.", ""] {
            let name = format!("{prefix}decoder.middle.0.residual.0.gamma");
            assert_eq!(contents(&[name.as_str()])?, Contents::Vae, "{prefix}");
        }
        let wan = ["model.diffusion_model.head.modulation", "vae.decoder.middle.0.residual.0.gamma"];
        let wan = contents(&wan).map(drop).unwrap_err().to_string();
        assert!(wan.contains("a Wan model"), "{wan}");
        Ok(())
    }
}
