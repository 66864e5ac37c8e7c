//! Single files: a whole checkpoint, or a part of one, in one file of weights, read as if it were a diffusers folder.

use super::file::{Header, read_tensors};
use super::names::{self, Layout, Storage, UNET, rename_all, unwrap_all};
use super::recognize::{Contents, SKETCH_ENCODER, UNSHUFFLED, UNSHUFFLED_XL};
use super::shapes::Shapes;
use super::{Tensors, anima, sd3, share, vocabulary, z_image};
use crate::error::{Error, Result};
use crate::family::{Heads, ModelFamily};
use crate::files;
use serde_json::{Value, json};
use std::borrow::Cow;
use std::path::{Path, PathBuf};
use tch::Kind;

/// A single file in LDM, SGM or diffusers layout.
///
/// ```no_run
/// # fn main() -> impasto::Result<()> {
/// use impasto::weights::SingleFile;
///
/// let file = SingleFile::open("model.safetensors".as_ref())?; // reads the header; tensors stay in the file
/// println!("{}", file.contents()?); // a SDXL model
/// let unet = file.part("unet")?.expect("there is one"); // by diffusers' names
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct SingleFile {
    header: Header,
    place: Place,
    layout: Layout,
    /// Text of a file `<name>.yaml` in the same folder.
    beside: Option<String>,
}

/// Location of the tensors.
#[derive(Debug)]
enum Place {
    /// A file that is mapped again for every part, so that the mappings of a part end when the part is dropped.
    File(PathBuf),
    Memory(Tensors),
}

/// Prediction type of a network, and the evidence for it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Evidence {
    /// True if the network predicts v rather than noise.
    pub v: bool,
    /// True if the network was trained with zero terminal SNR, up to pure noise.
    pub zero_snr: bool,
    /// Prediction type and the reason for it, such as `v, from the file's metadata`.
    pub because: String,
}

/// Prefixes of text encoders' tensor names in single files, and true if the rest of the name is OpenCLIP's.
const TEXT: [(&str, bool); 9] = [
    (sd3::CLIP_L, false),
    (sd3::CLIP_G, false),
    ("cond_stage_model.transformer.", false),
    ("cond_stage_model.model.", true),
    ("conditioner.embedders.0.transformer.", false),
    ("conditioner.embedders.0.model.", true),
    ("conditioner.embedders.1.model.", true),
    ("", false),
    ("", true),
];

/// Standard deviation of one layer's biases above which an SD 2.x model is taken to predict v. The threshold is
/// ComfyUI's, found by looking at models.
const SPREAD_OF_V: f64 = 0.09;

impl SingleFile {
    /// Opens a file and reads its header; the tensors stay in the file.
    ///
    /// # Errors
    /// The errors of [`read_tensors`].
    pub fn open(path: &Path) -> Result<Self> {
        let header = Header::open(path)?;
        let beside = files::read_text(&path.with_extension("yaml"), files::LARGEST_CONFIG).ok();
        Ok(Self { beside, ..Self::new(header, Place::File(path.into())) })
    }

    /// Wraps tensors that are in memory already; `file` names them in messages.
    pub fn of(file: impl Into<String>, tensors: Tensors) -> Self {
        Self::new(Header::of(file, &tensors), Place::Memory(tensors))
    }

    fn new(header: Header, place: Place) -> Self {
        let header = Header { tensors: unwrap_all(header.tensors), ..header };
        let layout = Layout::of(header.tensors.keys().map(String::as_str));
        Self { header, place, layout, beside: None }
    }

    /// Returns all tensors under the names of the [`header`](Self::header).
    fn tensors(&self) -> Result<Tensors> {
        Ok(unwrap_all(match &self.place {
            Place::File(path) => read_tensors(path)?,
            Place::Memory(tensors) => share(tensors),
        }))
    }

    /// Returns the names, shapes and metadata of the file. Names are without prefixes that training programs and
    /// converters leave, such as `state_dict.` and `module.`
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// Returns the recognized contents of the file.
    ///
    /// # Errors
    /// [`Error::Malformed`] with a description of the file, if this crate cannot use the file.
    pub fn contents(&self) -> Result<Contents> {
        Contents::of(&self.header)
    }

    /// Returns the tensors of a part under diffusers' names; `None` if the file has no such part.
    ///
    /// Parts are `unet`, `controlnet`, `t2i_adapter`, `vae`, `text_encoder` and `text_encoder_2`. Anima has
    /// `transformer` and `text_conditioner` instead of a UNet; SD 3 has `transformer` and `text_encoder_3`; Z-Image has
    /// `transformer`. A model that colors sketches also has `sketch_encoder`, `reference_tokens`, `background_encoder`
    /// and `style_encoder`.
    ///
    /// # Errors
    /// The errors of [`read_tensors`], if the file was replaced in the meantime.
    pub fn part(&self, part: &str) -> Result<Option<Tensors>> {
        let tensors = match part {
            "unet" => self.unet(&[UNET, ""])?,
            "controlnet" => self.unet(&["control_model.", ""])?,
            "t2i_adapter" => self.t2i_adapter()?,
            "transformer" => self.transformer()?,
            "text_encoder_3" => self.t5()?,
            "text_conditioner" => self.conditioner()?,
            "vae" => self.vae()?,
            "sketch_encoder" => {
                rename_all(&self.tensors()?, SKETCH_ENCODER, |name| [(name.to_owned(), Storage::Same)])?
            }
            "reference_tokens" => self.reference_tokens()?,
            "background_encoder" => self.reference_encoder("bg_encoder.")?,
            "style_encoder" => self.reference_encoder("style_encoder.")?,
            _ => self.text_encoder(part)?,
        };
        Ok(Some(tensors).filter(|tensors| !tensors.is_empty()))
    }

    /// Returns the moving averages of a UNet's weights, which some files have beside the weights; `None` if the file
    /// has none.
    ///
    /// # Errors
    /// The errors of [`part`](Self::part).
    pub(super) fn averages(&self) -> Result<Option<Tensors>> {
        let tensors = self.tensors()?;
        let average = |name: &str| {
            let plain: String = name.strip_prefix("model.").unwrap_or(name).split('.').collect();
            tensors.get(&format!("model_ema.{plain}"))
        };
        let names = tensors.keys().filter(|name| name.starts_with(UNET));
        let found = names.filter_map(|name| Some((name.clone(), average(name)?.shallow_clone())));
        Self { layout: self.layout, ..Self::of("averages", found.collect()) }.part("unet")
    }

    /// Returns true for a ColorizeDiffusion model, which colors sketches like reference pictures.
    fn colorizes(&self) -> bool {
        self.has(&format!("{SKETCH_ENCODER}zero_layer.0.weight"))
    }

    fn has(&self, name: &str) -> bool {
        self.header.tensors.contains_key(name)
    }

    fn unet(&self, prefixes: &[&str]) -> Result<Tensors> {
        for prefix in prefixes {
            if self.has(&format!("{prefix}input_blocks.0.0.weight")) {
                // Tensors without a name in diffusers keep their own name, so that they are reported as unused.
                let own = |name: &str| Some(name.to_owned()).filter(|_| !prefix.is_empty());
                let rename = |name: &str| {
                    let name = names::unet(name, self.layout).or_else(|| own(name));
                    name.map(|name| (name, Storage::Same))
                };
                return rename_all(&self.tensors()?, prefix, rename);
            }
            if self.has(&format!("{prefix}conv_in.weight")) {
                return rename_all(&self.tensors()?, prefix, |name| [(name.to_owned(), Storage::Same)]);
            }
        }
        Ok(Tensors::new())
    }

    /// Returns the tensors of a T2I adapter. The original full adapters count the residual blocks of all levels
    /// together, two for each level; the original light adapters name the residual blocks `body`.
    fn t2i_adapter(&self) -> Result<Tensors> {
        let rename = |name: &str| -> String {
            let parts: Vec<&str> = name.split('.').collect();
            let index = |n: &str| n.parse::<usize>().ok();
            match parts.as_slice() {
                ["body", n, rest @ ("in_conv" | "block1" | "block2"), last] if self.flat() => {
                    let Some(n) = index(n) else { return name.to_owned() };
                    match *rest {
                        "in_conv" => format!("adapter.body.{}.in_conv.{last}", n / 2),
                        block => format!("adapter.body.{}.resnets.{}.{block}.{last}", n / 2, n % 2),
                    }
                }
                ["body", i, "body", j, rest @ ..] => format!("adapter.body.{i}.resnets.{j}.{}", rest.join(".")),
                ["body" | "conv_in", ..] => format!("adapter.{name}"),
                _ => name.to_owned(),
            }
        };
        if !self.header.tensors.keys().any(|name| name.starts_with("adapter.body.") || name.starts_with("body.0.")) {
            return Ok(Tensors::new());
        }
        rename_all(&self.tensors()?, "", |name| [(rename(name), Storage::Same)])
    }

    /// Returns true for an original full T2I adapter.
    fn flat(&self) -> bool {
        self.has("body.0.block1.weight")
    }

    /// Returns the tensors of a colorizer's [`ReferenceTokens`](crate::nn::ReferenceTokens), under their names in the
    /// file.
    fn reference_tokens(&self) -> Result<Tensors> {
        if !self.colorizes() {
            return Ok(Tensors::new());
        }
        let own = |name: &String| name.starts_with("thresh_embedder.") || name.starts_with("transformer.");
        Ok(self.tensors()?.into_iter().filter(|(name, _)| own(name)).collect())
    }

    /// Returns the tensors of one of a colorizer's [reference encoders](crate::nn::ReferenceEncoder), under diffusers'
    /// names.
    fn reference_encoder(&self, prefix: &str) -> Result<Tensors> {
        let rename = |name: &str| {
            let name = names::unet(name, self.layout).unwrap_or_else(|| name.to_owned());
            [(name, Storage::Same)]
        };
        if self.colorizes() { rename_all(&self.tensors()?, prefix, rename) } else { Ok(Tensors::new()) }
    }

    /// Returns the prefix of a transformer of Cosmos-Predict2; `None` if the file has none.
    fn cosmos(&self) -> Option<&'static str> {
        anima::PREFIXES.into_iter().find(|prefix| self.has(&format!("{prefix}{}", anima::PATCHES)))
    }

    /// Returns the prefix of a transformer of Stable Diffusion 3, and true for the original layout; `None` if the file
    /// has none.
    fn mmdit(&self) -> Option<(&'static str, bool)> {
        [UNET, ""].into_iter().find_map(|prefix| {
            let has = |name: &str| self.has(&format!("{prefix}{name}"));
            let original = has(sd3::JOINT);
            (original || has(sd3::JOINT_OF_DIFFUSERS)).then_some((prefix, original))
        })
    }

    /// Returns the prefix of a transformer of Z-Image; `None` if the file has none.
    fn z_image(&self) -> Option<&'static str> {
        [UNET, ""].into_iter().find(|prefix| self.has(&format!("{prefix}{}", z_image::LAYER)))
    }

    fn transformer(&self) -> Result<Tensors> {
        if let Some(prefix) = self.z_image() {
            return rename_all(&self.tensors()?, prefix, z_image::transformer);
        }
        if let Some(prefix) = self.cosmos() {
            return rename_all(&self.tensors()?, prefix, anima::transformer);
        }
        match self.mmdit() {
            Some((prefix, true)) => {
                let names = self.header.tensors.keys().filter_map(|name| name.strip_prefix(prefix));
                let last = sd3::last_block(names);
                rename_all(&self.tensors()?, prefix, |name| sd3::transformer(name, last))
            }
            Some((prefix, false)) => rename_all(&self.tensors()?, prefix, |name| [(name.to_owned(), Storage::Same)]),
            None => Ok(Tensors::new()),
        }
    }

    fn t5(&self) -> Result<Tensors> {
        match sd3::T5_PREFIXES.into_iter().find(|prefix| self.has(&format!("{prefix}{}", sd3::T5))) {
            Some(prefix) => rename_all(&self.tensors()?, prefix, |name| [(name.to_owned(), Storage::Same)]),
            None => Ok(Tensors::new()),
        }
    }

    fn conditioner(&self) -> Result<Tensors> {
        let Some(prefix) = self.cosmos() else { return Ok(Tensors::new()) };
        let prefix = format!("{prefix}{}", anima::CONDITIONER);
        rename_all(&self.tensors()?, &prefix, |name| [(name.to_owned(), Storage::Same)])
    }

    fn vae(&self) -> Result<Tensors> {
        let has_own = |prefix: &&str| self.has(&format!("{prefix}{}", anima::VAE));
        if let Some(prefix) = anima::VAE_PREFIXES.into_iter().find(has_own) {
            let names = self.header.tensors.keys().filter_map(|name| name.strip_prefix(prefix));
            let per_block = anima::layers_per_block(names);
            return rename_all(&self.tensors()?, prefix, |name| anima::vae(name, per_block));
        }
        for prefix in ["first_stage_model.", "vae.", ""] {
            if self.has(&format!("{prefix}decoder.mid.block_1.conv1.weight")) {
                return rename_all(&self.tensors()?, prefix, |name| names::vae(name, self.layout));
            }
            if self.has(&format!("{prefix}decoder.mid_block.resnets.0.conv1.weight")) {
                return rename_all(&self.tensors()?, prefix, |name| [(name.to_owned(), Storage::Same)]);
            }
        }
        self.taesd()
    }

    /// Returns the encoder and the decoder of a tiny autoencoder. TAESD's own files count the decoder's soft limit of
    /// ±3 for latents as the first layer, although it has no weights.
    fn taesd(&self) -> Result<Tensors> {
        let mut all = Tensors::new();
        for (half, first) in [("encoder", 0), ("decoder", 1)] {
            for prefix in [format!("taesd_{half}."), format!("{half}.")] {
                let original = |name: &str| -> Option<(String, Storage)> {
                    let (layer, rest) = name.split_once('.')?;
                    let layer = layer.parse::<usize>().ok()?.checked_sub(first)?;
                    Some((format!("{half}.layers.{layer}.{rest}"), Storage::Same))
                };
                if self.has(&format!("{prefix}layers.0.weight")) {
                    all.extend(rename_all(&self.tensors()?, &prefix, |name| {
                        [(format!("{half}.{name}"), Storage::Same)]
                    })?);
                } else if self.has(&format!("{prefix}{first}.weight")) {
                    all.extend(rename_all(&self.tensors()?, &prefix, original)?);
                }
            }
        }
        Ok(all)
    }

    fn text_encoder(&self, part: &str) -> Result<Tensors> {
        let is_qwen = |prefix: &&str| self.has(&format!("{prefix}{}", anima::TOKENS));
        if part == "text_encoder"
            && let Some(prefix) = anima::TEXT_PREFIXES.into_iter().find(is_qwen)
        {
            let is_own = |name: &str| !name.starts_with("lm_head."); // the same tensor as that of the tokens
            let own = |name: &str| is_own(name).then(|| (name.to_owned(), Storage::Same));
            return rename_all(&self.tensors()?, prefix, own);
        }
        for (prefix, open_clip) in TEXT {
            let names = ["token_embedding.weight", "text_model.embeddings.token_embedding.weight"];
            let names = if open_clip { [names[0], names[0]] } else { [names[1], "embeddings.token_embedding.weight"] };
            let Some(table) = names.iter().find_map(|name| self.header.shape(&format!("{prefix}{name}"))) else {
                continue;
            };
            // bigG is always the second text encoder of SDXL and SD 3, at any position.
            let second =
                ["conditioner.embedders.1.model.", sd3::CLIP_G].contains(&prefix) || matches!(table, [_, 1280]);
            if (part == "text_encoder_2") != second || !part.starts_with("text_encoder") {
                continue;
            }
            return match open_clip {
                true => rename_all(&self.tensors()?, prefix, names::open_clip),
                false => rename_all(&self.tensors()?, prefix, |name| [(name.to_owned(), Storage::Same)]),
            };
        }
        Ok(Tensors::new())
    }

    /// Determines the UNet's prediction type, and whether the UNet was trained with zero terminal SNR.
    ///
    /// # Errors
    /// The errors of [`part`](Self::part).
    pub fn prediction(&self) -> Result<Evidence> {
        let said = |name: &str| self.header.metadata.get(name).map_or("", String::as_str);
        let zero_snr = self.has("ztsnr") || self.last_level()?.is_some_and(|level| level < 1e-4);
        let evidence = |v, because: String| Ok(Evidence { v, zero_snr, because });
        let mut lines = self.beside.iter().flat_map(|text| text.lines()).map(str::trim);
        if let Some((line, value)) = lines.find_map(|line| Some((line, line.strip_prefix("parameterization:")?))) {
            // The value may have quotes of either kind; a comment may follow.
            let value = value.split('#').next().unwrap_or_default().trim().trim_matches(['"', '\'']);
            return evidence(value == "v", format!("{line}, from the .yaml file beside the checkpoint"));
        }
        match (said("modelspec.prediction_type"), said("modelspec.architecture")) {
            (kind @ ("v" | "epsilon"), _) => return evidence(kind == "v", format!("{kind}, from the file's metadata")),
            (_, architecture) if architecture.ends_with("-v") => {
                return evidence(true, format!("v, from the architecture {architecture} in the file's metadata"));
            }
            _ => {}
        }
        if self.cosmos().is_some() || self.mmdit().is_some() || self.z_image().is_some() {
            return evidence(false, "the velocity of a flow".into());
        }
        if self.colorizes() {
            // The publishers state the prediction type in the file's name.
            let name = self.header.file.rsplit(['/', '\\']).next().unwrap_or_default();
            let kind = if name.contains("eps") { "epsilon" } else { "v" };
            return evidence(kind == "v", format!("{kind}, from the file's name"));
        }
        if self.has("v_pred") {
            return evidence(true, "v, because the file has the tensor v_pred".into());
        }
        if let Ok(Contents::Model { family: ModelFamily::Sd2, inpaint: false }) = self.contents() {
            let unet = self.part("unet")?.unwrap_or_default();
            let Some(biases) = unet.get("up_blocks.3.attentions.2.transformer_blocks.0.norm1.bias") else {
                return evidence(false, "epsilon (default; the file lacks the layer that shows the type)".into());
            };
            let spread = biases.f_to_kind(Kind::Double)?.f_std(false)?.f_double_value(&[])?;
            let v = spread > SPREAD_OF_V;
            let kind = if v { "v" } else { "epsilon" };
            return evidence(
                v,
                format!("{kind}, estimated from the standard deviation {spread:.3} of one layer's biases"),
            );
        }
        evidence(false, "epsilon (default; the file does not name a type)".into())
    }

    /// Returns ᾱ of the last timestep, 999; `None` if the file does not contain it.
    fn last_level(&self) -> Result<Option<f64>> {
        if self.header.shape("alphas_cumprod") != Some(&[1000]) {
            return Ok(None);
        }
        let levels = self.tensors()?.remove("alphas_cumprod");
        Ok(levels.map(|levels| levels.f_double_value(&[999])).transpose()?)
    }

    /// Returns the contents of a text file as a diffusers folder of this model, of family `family`, would have it;
    /// `None` if the folder would not have the file.
    pub(super) fn text(&self, file: &str, family: ModelFamily) -> Result<Option<Cow<'static, [u8]>>> {
        let json = |value: Value| Ok(Some(Cow::Owned(value.to_string().into_bytes())));
        match file {
            "model_index.json" => json(json!({
                "force_zeros_for_empty_prompt": family.spec().empty_is_zeros,
                "requires_aesthetics_score": family.spec().reads_score,
            })),
            "scheduler/scheduler_config.json" => json(self.scheduler(family)?),
            // Files of weights have no tokenizers; folders with them may be beside the file.
            _ if [ModelFamily::Anima, ModelFamily::ZImage].contains(&family) && file.contains("tokenizer")
                || file.starts_with("tokenizer_3/") =>
            {
                match &self.place {
                    Place::File(path) => {
                        Ok(files::read_if_there(&path.with_file_name(file), files::LARGEST_TEXT)?.map(Cow::Owned))
                    }
                    Place::Memory(_) => Ok(None),
                }
            }
            "tokenizer/vocab.json" | "tokenizer_2/vocab.json" => vocabulary::vocab().map(|bytes| Some(bytes.into())),
            "tokenizer/merges.txt" | "tokenizer_2/merges.txt" => vocabulary::merges().map(|bytes| Some(bytes.into())),
            "tokenizer_2/special_tokens_map.json" => json(json!({ "pad_token": "!" })),
            "tokenizer/special_tokens_map.json" => match family.spec().pad_token {
                Some(token) => json(json!({ "pad_token": token })),
                None => Ok(None),
            },
            _ => match file.strip_suffix("/config.json") {
                Some(part) => Ok(self.config(part, family)?.map(|config| Cow::Owned(config.into_bytes()))),
                None => Ok(None),
            },
        }
    }

    /// Derives the `config.json` of a part, in a model of `family`, from the shapes of the part's tensors; `None` if
    /// there is no such part.
    ///
    /// # Errors
    /// [`Error::Config`] if the UNet's middle block and last level differ in depth, as in SSD-1B; the errors of
    /// [`part`](Self::part).
    pub fn config(&self, part: &str, family: ModelFamily) -> Result<Option<String>> {
        let Some(tensors) = self.part(part)? else { return Ok(None) };
        let config = match part {
            "unet" => self.unet_config(&tensors, family)?,
            "controlnet" => self.controlnet_config(&tensors, family)?,
            "t2i_adapter" => t2i_adapter_config(&tensors),
            "transformer" if self.cosmos().is_some() => anima::transformer_config(&Shapes(&tensors)),
            "transformer" if self.z_image().is_some() => z_image::transformer_config(&Shapes(&tensors)),
            "transformer" => sd3::transformer_config(&Shapes(&tensors)),
            "text_encoder_3" => sd3::t5_config(&Shapes(&tensors)),
            "text_conditioner" => anima::conditioner_config(&Shapes(&tensors)),
            "text_encoder" if tensors.contains_key(anima::TOKENS) => anima::text_encoder_config(&Shapes(&tensors)),
            "vae" if tensors.contains_key("encoder.mid_block.attentions.0.to_qkv.weight") => {
                anima::vae_config(&Shapes(&tensors))
            }
            "vae" if tensors.contains_key("decoder.layers.0.weight") => taesd_config(&tensors),
            "vae" => vae_config(&tensors, family),
            "sketch_encoder" => sketch_encoder_config(&tensors),
            "reference_tokens" => json!({ "_class_name": "ReferenceTokens" }),
            "background_encoder" | "style_encoder" => json!({ "_class_name": "ReferenceEncoder" }),
            _ => text_config(&tensors, family),
        };
        Ok(Some(config.to_string()))
    }

    /// Returns the configuration of the scheduler that the publishers of a family sample with.
    fn scheduler(&self, family: ModelFamily) -> Result<Value> {
        if let Some(shift) = family.spec().shift {
            return Ok(json!({ "_class_name": family.spec().scheduler, "shift": shift }));
        }
        let Evidence { v, zero_snr, .. } = self.prediction()?;
        let spec = family.spec();
        let class = if v || zero_snr { spec.scheduler_of_v } else { spec.scheduler };
        let prediction = if v { "v_prediction" } else { "epsilon" };
        let spacing = if zero_snr { "trailing" } else { "leading" };
        Ok(json!({
            "_class_name": class, "num_train_timesteps": 1000, "beta_schedule": "scaled_linear", "beta_start": 0.00085,
            "beta_end": 0.012, "clip_sample": false, "set_alpha_to_one": false, "steps_offset": 1, "skip_prk_steps": true,
            "timestep_spacing": spacing, "prediction_type": prediction, "rescale_betas_zero_snr": zero_snr,
        }))
    }

    /// Derives a UNet's configuration from the shapes of its tensors. The number of attention heads comes from the
    /// family, because shapes do not show it.
    fn unet_config(&self, tensors: &Tensors, family: ModelFamily) -> Result<Value> {
        let shapes = Shapes(tensors);
        let levels = shapes.count("down_blocks.");
        let channels: Vec<i64> =
            (0..levels).map(|i| shapes.side(&format!("down_blocks.{i}.resnets.0.conv2.weight"), 0)).collect();
        let depth = |at: String| shapes.count(&format!("{at}.attentions.0.transformer_blocks."));
        let depths: Vec<usize> = (0..levels).map(|i| depth(format!("down_blocks.{i}"))).collect();
        let middle = depth("mid_block".into());
        let types = |cross: bool, half: &str| format!("{}{half}Block2D", if cross { "CrossAttn" } else { "" });
        let downs = depths.iter().map(|&depth| types(depth > 0, "Down"));
        let ups = (0..levels).map(|i| types(depth(format!("up_blocks.{i}")) > 0, "Up"));
        let last = depths.last().copied().unwrap_or_default();
        if middle == 0 || (last != 0 && last != middle) {
            let expected = "expected as many blocks as in the last level; SSD-1B and Vega are not supported".into();
            let field = "number of blocks in mid_block.attentions.0".into();
            return Err(Error::Config { file: self.header.file.clone(), field, value: middle.to_string(), expected });
        }
        // The last level has the middle block's depth, even if the level itself has no attention. The depth of other
        // levels without attention is not used.
        let count = depths.len();
        let whole: Vec<usize> =
            depths.iter().enumerate().map(|(i, &depth)| if i + 1 == count { middle } else { depth.max(1) }).collect();
        let spec = family.spec();
        let heads = match spec.heads {
            Heads::Fixed(heads) => json!(heads),
            Heads::PerChannels(each) => {
                json!(channels.iter().map(|channels| (channels / each).max(1)).collect::<Vec<_>>())
            }
        };
        let context = shapes.side("mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight", 1);
        let linear = tensors.get("mid_block.attentions.0.proj_in.weight").is_some_and(|x| x.dim() == 2);
        let side = match spec.side == spec.side_of_v || !self.prediction()?.v {
            true => spec.side,
            false => spec.side_of_v,
        };
        let mut config = json!({
            "sample_size": side, "in_channels": shapes.side("conv_in.weight", 1), "block_out_channels": channels,
            "layers_per_block": shapes.count("down_blocks.0.resnets."), "cross_attention_dim": context,
            "down_block_types": downs.collect::<Vec<_>>(), "up_block_types": ups.collect::<Vec<_>>(),
            "transformer_layers_per_block": whole, "attention_head_dim": heads, "use_linear_projection": linear,
        });
        if tensors.contains_key("conv_out.weight")
            && let Some(config) = config.as_object_mut()
        {
            config.insert("out_channels".into(), shapes.side("conv_out.weight", 0).into());
        }
        if let (true, Some(config)) = (tensors.contains_key("add_embedding.linear_1.weight"), config.as_object_mut()) {
            config.insert("addition_embed_type".into(), "text_time".into());
            config.insert("addition_time_embed_dim".into(), 256.into());
            let width = shapes.side("add_embedding.linear_1.weight", 1);
            config.insert("projection_class_embeddings_input_dim".into(), width.into());
        }
        Ok(config)
    }
}

impl SingleFile {
    /// Derives a ControlNet's configuration: the settings of a UNet, and the channels of the hint embedding.
    fn controlnet_config(&self, tensors: &Tensors, family: ModelFamily) -> Result<Value> {
        const HINT: &str = "controlnet_cond_embedding";
        let (shapes, mut config) = (Shapes(tensors), self.unet_config(tensors, family)?);
        // Blocks are pairs of convolutions; the second of a pair halves the grid and has the next number of channels.
        let sizes = shapes.count(&format!("{HINT}.blocks.")) / 2;
        let steps = (0..sizes).map(|i| shapes.side(&format!("{HINT}.blocks.{}.weight", 2 * i + 1), 0));
        let first = shapes.side(&format!("{HINT}.conv_in.weight"), 0);
        if let Some(config) = config.as_object_mut() {
            let widths: Vec<i64> = [first].into_iter().chain(steps).collect();
            config.insert("conditioning_embedding_out_channels".into(), widths.into());
            let channels = shapes.side(&format!("{HINT}.conv_in.weight"), 1);
            config.insert("conditioning_channels".into(), channels.into());
            if let types @ 1.. = shapes.side("task_embedding", 0) {
                config.insert("num_control_type".into(), types.into());
                config.insert("num_trans_layer".into(), shapes.count("transformer_layes.").into());
            }
        }
        Ok(config)
    }
}

/// Derives a T2I adapter's configuration.
fn t2i_adapter_config(tensors: &Tensors) -> Value {
    let shapes = Shapes(tensors);
    let levels = shapes.count("adapter.body.");
    let (columns, light) = match shapes.side("adapter.conv_in.weight", 1) {
        0 => (shapes.side("adapter.body.0.in_conv.weight", 1), true),
        columns => (columns, false),
    };
    let xl = !light && columns % UNSHUFFLED_XL == 0;
    let last = if light { "out_conv" } else { "resnets.0.block2" };
    // A light adapter repeats the channels of its last level.
    let channels = (0..levels - usize::from(light && levels > 0))
        .map(|level| shapes.side(&format!("adapter.body.{level}.{last}.weight"), 0));
    json!({
        "_class_name": "T2IAdapter", "in_channels": columns / if xl { UNSHUFFLED_XL } else { UNSHUFFLED },
        "channels": channels.collect::<Vec<_>>(), "num_res_blocks": shapes.count("adapter.body.0.resnets."),
        "downscale_factor": if xl { 16 } else { 8 },
        "adapter_type": if light { "light_adapter" } else if xl { "full_adapter_xl" } else { "full_adapter" },
    })
}

/// Derives a sketch encoder's configuration.
fn sketch_encoder_config(tensors: &Tensors) -> Value {
    let shapes = Shapes(tensors);
    let widths = [0, 4, 8, 12].map(|layer| shapes.side(&format!("model.{layer}.weight"), 0));
    let levels =
        (0..shapes.count("zero_blocks.")).map(|level| shapes.side(&format!("zero_blocks.{level}.0.weight"), 0));
    json!({
        "in_channels": shapes.side("model.0.weight", 1), "widths": widths,
        "block_out_channels": levels.collect::<Vec<_>>(),
    })
}

/// Derives a VAE's configuration. The scaling factor of latents comes from the family, because tensors do not show it.
fn vae_config(tensors: &Tensors, family: ModelFamily) -> Value {
    let shapes = Shapes(tensors);
    let levels = shapes.count("encoder.down_blocks.");
    let channels = (0..levels).map(|i| shapes.side(&format!("encoder.down_blocks.{i}.resnets.0.conv2.weight"), 0));
    json!({
        "block_out_channels": channels.collect::<Vec<_>>(),
        "layers_per_block": shapes.count("encoder.down_blocks.0.resnets."),
        "latent_channels": shapes.side("decoder.conv_in.weight", 1),
        "scaling_factor": family.spec().scaling_factor,
        "shift_factor": Some(family.spec().latent_shift).filter(|shift| *shift != 0.0),
        "use_quant_conv": tensors.contains_key("quant_conv.weight"),
        "use_post_quant_conv": tensors.contains_key("post_quant_conv.weight"),
    })
}

/// Derives a tiny autoencoder's configuration. A convolution without bias marks each change of the grid's size.
fn taesd_config(tensors: &Tensors) -> Value {
    let shapes = Shapes(tensors);
    let blocks = |half: &str| -> Vec<i64> {
        let layers = (0..shapes.count(&format!("{half}.layers.")) as i64 * 2).map(|i| format!("{half}.layers.{i}"));
        let mut blocks = vec![0];
        for layer in layers {
            if tensors.contains_key(&format!("{layer}.conv.0.weight")) {
                blocks.last_mut().into_iter().for_each(|count| *count += 1);
            } else if tensors.contains_key(&format!("{layer}.weight"))
                && !tensors.contains_key(&format!("{layer}.bias"))
            {
                blocks.push(0);
            }
        }
        blocks
    };
    let (encoder, decoder) = (blocks("encoder"), blocks("decoder"));
    let channels = |half: &str, sizes: &[i64]| vec![shapes.side(&format!("{half}.layers.0.weight"), 0); sizes.len()];
    json!({
        "_class_name": "AutoencoderTiny",
        "encoder_block_out_channels": channels("encoder", &encoder), "num_encoder_blocks": encoder,
        "decoder_block_out_channels": channels("decoder", &decoder), "num_decoder_blocks": decoder,
        "latent_channels": shapes.side("decoder.layers.0.weight", 1),
    })
}

/// Derives a text encoder's configuration, without layers that the family does not use.
fn text_config(tensors: &Tensors, family: ModelFamily) -> Value {
    let at = if tensors.contains_key("embeddings.token_embedding.weight") { "" } else { "text_model." };
    let (shapes, table) = (Shapes(tensors), format!("{at}embeddings.token_embedding.weight"));
    let (width, layers) = (shapes.side(&table, 1), shapes.count(&format!("{at}encoder.layers.")));
    let layers = if layers == 24 { family.spec().layers_of_24 } else { layers };
    let projects = (width == 1280 || family.spec().pools_each) && tensors.contains_key("text_projection.weight");
    json!({
        "architectures": [if projects { "CLIPTextModelWithProjection" } else { "CLIPTextModel" }],
        "vocab_size": shapes.side(&table, 0), "hidden_size": width, "num_hidden_layers": layers,
        "intermediate_size": shapes.side(&format!("{at}encoder.layers.0.mlp.fc1.weight"), 0),
        "num_attention_heads": (width / 64).max(1),
        "max_position_embeddings": shapes.side(&format!("{at}embeddings.position_embedding.weight"), 0),
        "hidden_act": if width == 768 { "quick_gelu" } else { "gelu" },
        "projection_dim": shapes.side("text_projection.weight", 0).max(1), "eos_token_id": 49407,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind, Tensor};

    #[test]
    fn moving_averages_are_found_by_dotless_names() -> Result<()> {
        let options = (Kind::Float, Device::Cpu);
        let tensors = Tensors::from([
            ("model.diffusion_model.input_blocks.0.0.weight".to_owned(), Tensor::zeros([2, 4, 3, 3], options)),
            ("model_ema.diffusion_modelinput_blocks00weight".to_owned(), Tensor::ones([2, 4, 3, 3], options)),
        ]);
        let file = SingleFile::of("with averages", tensors);
        let weight = |tensors: Option<Tensors>| tensors.expect("a UNet")["conv_in.weight"].double_value(&[1, 0, 0, 0]);
        assert_eq!((weight(file.part("unet")?), weight(file.averages()?)), (0.0, 1.0));
        assert!(SingleFile::of("without", Tensors::new()).averages()?.is_none());
        Ok(())
    }
}
