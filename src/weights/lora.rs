//! [`Lora`]: low-rank changes to the weights of a model, from one file.

use super::Tensors;
use super::family::ModelFamily;
use super::file::{Header, read_safetensors};
use super::kernel_layout::dense;
use super::names::{self, Layout};
use super::recognize::Contents;
use crate::error::{Error, Result};
use crate::files;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use tch::{Kind, Tensor};

/// The tensors of a model's networks, by part: `unet`, `text_encoder`, `text_encoder_2`, `vae`.
pub type Parts = BTreeMap<String, Tensors>;

/// A LoRA (low-rank adaptation): some weights W of a model become W + scale · α/r · up · down, where r is the rank.
///
/// Supported tensor names are those of PEFT, of diffusers (today's names and two older forms) and of kohya's trainer
/// (with diffusers' or SGM's numbers of blocks). Linear layers and convolutions, LoCon's middle matrix and full
/// differences (`diff`) are supported. LoHa, LoKr, DoRA and other algorithms are refused with an error that names the
/// algorithm.
///
/// ```no_run
/// # fn main() -> impasto::Result<()> {
/// use impasto::weights::Lora;
/// use impasto::{Model, Source};
///
/// let model = Model::load(&Source::file("model.safetensors"))?;
/// let ink = model.with_lora(&[Lora::open("ink.safetensors")?.scale(0.8)])?; // unchanged weights are shared
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use]
pub struct Lora {
    file: String,
    modules: BTreeMap<String, Module>,
    family: Option<ModelFamily>,
    /// Width of the context in the model that the LoRA was trained on.
    context: Option<i64>,
    adapter: Value,
    /// Words whose embeddings the file also contains.
    words: BTreeSet<String>,
    scale: f64,
    text_scale: Option<f64>,
}

/// Tensors that change the weight and the bias of one layer.
#[derive(Debug, Default)]
struct Module {
    down: Option<Tensor>,
    up: Option<Tensor>,
    mid: Option<Tensor>,
    alpha: Option<f64>,
    diff: Option<Tensor>,
    diff_b: Option<Tensor>,
}

/// Parts of tensor names that only other algorithms have, and the names of these algorithms.
const OTHERS: [(&str, &str); 10] = [
    (".hada_", "LoHa"),
    (".lokr_", "LoKr"),
    (".dora_scale", "DoRA"),
    (".lora_magnitude_vector", "DoRA"),
    (".oft_", "OFT"),
    (".on_input", "IA3"),
    (".a1.weight", "GLoRA"),
    (".b1.weight", "GLoRA"),
    (".w_norm", "a difference of norm weights"),
    (".b_norm", "a difference of norm weights"),
];

/// Selects the field of a module for a tensor.
type Field = fn(&mut Module) -> &mut Option<Tensor>;

/// Endings of the tensor names of a module, each with its field.
const ENDS: [(&str, Field); 12] = [
    (".lora_down.weight", |module| &mut module.down),
    (".lora_up.weight", |module| &mut module.up),
    (".lora_mid.weight", |module| &mut module.mid),
    (".lora_A.weight", |module| &mut module.down),
    (".lora_B.weight", |module| &mut module.up),
    (".lora.down.weight", |module| &mut module.down),
    (".lora.up.weight", |module| &mut module.up),
    (".lora_linear_layer.down.weight", |module| &mut module.down),
    (".lora_linear_layer.up.weight", |module| &mut module.up),
    ("_lora.down.weight", |module| &mut module.down),
    ("_lora.up.weight", |module| &mut module.up),
    (".diff", |module| &mut module.diff),
];

impl Lora {
    /// Reads a LoRA from a `.safetensors` file. For a file named `adapter_model.safetensors`, PEFT's scales are also
    /// read from `adapter_config.json` in the same folder.
    ///
    /// # Errors
    /// The errors of [`read_safetensors`](super::read_safetensors); [`Error::Malformed`] if the file is not a LoRA, or
    /// is a LoRA of an unsupported algorithm, which the error names.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let mut lora = Self::new(Header::open(path)?, read_safetensors(path)?)?;
        if lora.adapter.is_null() && path.file_name().is_some_and(|name| name == "adapter_model.safetensors") {
            lora.adapter = beside(&path.with_file_name("adapter_config.json"))?;
        }
        Ok(lora)
    }

    /// Wraps tensors that are in memory already; `file` names them in messages.
    ///
    /// # Errors
    /// The errors of [`open`](Self::open).
    pub fn of(file: impl Into<String>, tensors: Tensors) -> Result<Self> {
        Self::new(Header::of(file, &tensors), tensors)
    }

    fn new(header: Header, tensors: Tensors) -> Result<Self> {
        let malformed = |problem: String| Error::Malformed { file: header.file.clone(), problem };
        let family = match Contents::of(&header)? {
            Contents::Lora { family } => family,
            other => return Err(malformed(format!("the file is {other}, not a LoRA"))),
        };
        let (mut modules, mut strange) = (BTreeMap::<String, Module>::new(), Vec::new());
        let mut context = None;
        for (name, x) in tensors {
            if let Some((_, algorithm)) = OTHERS.iter().find(|(part, _)| name.contains(part)) {
                return Err(malformed(format!(
                    "the file uses {algorithm} ({name}), which is not supported; only LoRA is supported"
                )));
            }
            if let Some(key) = name.strip_suffix(".alpha") {
                modules.entry(key.into()).or_default().alpha = Some(x.f_sum(Kind::Double)?.f_double_value(&[])?);
                continue;
            }
            if let Some(key) = name.strip_suffix(".diff_b") {
                modules.entry(key.into()).or_default().diff_b = Some(x);
                continue;
            }
            let plain = without_adapter(&name);
            let Some((key, field)) = ENDS.iter().find_map(|(end, field)| Some((plain.strip_suffix(end)?, field)))
            else {
                strange.push(name);
                continue;
            };
            let module = modules.entry(key.into()).or_default();
            *field(module) = Some(x);
            let key = key.replace('.', "_").replace("_processor", "");
            if key.ends_with("attn2_to_k") || key.ends_with("attn2_to_v") {
                let width = module.down.as_ref().and_then(|down| down.size().get(1).copied());
                context = context.or(width);
            }
        }
        let mut words = BTreeSet::new();
        strange.retain(|name| {
            let word = name.strip_prefix("bundle_emb.").map(|rest| rest.split('.').next().unwrap_or(rest).to_owned());
            word.map(|word| words.insert(word)).is_none()
        });
        if let Some(name) = strange.first() {
            return Err(malformed(format!(
                "the file has the tensor {name}, which is not part of any known LoRA format"
            )));
        }
        let adapter = header.metadata.get("lora_adapter_metadata");
        let adapter = adapter.and_then(|text| serde_json::from_str(text).ok()).unwrap_or(Value::Null);
        Ok(Self { file: header.file, modules, family, context, adapter, words, scale: 1.0, text_scale: None })
    }

    /// Sets the strength of the LoRA in the model: 1 as trained, 0 not at all. Default: 1.
    pub fn scale(mut self, scale: f64) -> Self {
        self.scale = scale;
        self
    }

    /// Sets the strength of the LoRA in text encoders. Default: the strength in the UNet.
    pub fn text_scale(mut self, scale: f64) -> Self {
        self.text_scale = Some(scale);
        self
    }

    /// Adds the changes of several LoRAs to the tensors of a model. The changes are summed in f32 and cast once.
    /// Tensors that no LoRA changes stay the same objects. Returns notes, in whole sentences: one for each LoRA with
    /// modules that the model lacks, and one for each LoRA with learned words, which are not loaded.
    ///
    /// # Errors
    /// [`Error::Malformed`] for a LoRA that does not fit the model, with the reason; [`Error::Parameter`] for a scale
    /// that is not finite.
    pub fn merge(loras: &[Self], parts: &mut Parts) -> Result<Vec<String>> {
        let index = Index::of(parts);
        let mut notes = Vec::new();
        let mut changes = BTreeMap::<(&str, &str), Vec<(&Self, &str, &Module)>>::new();
        for lora in loras {
            if let Some(scale) = [Some(lora.scale), lora.text_scale].into_iter().flatten().find(|x| !x.is_finite()) {
                return Err(Error::parameter("the LoRA's scale", scale, "a finite number; 0 to 1 is usual"));
            }
            lora.check_context(parts)?;
            if !lora.words.is_empty() {
                let words = lora.words.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
                let way = "load these words from separate files, as embeddings";
                notes.push(format!("{}: the LoRA's learned words are not loaded ({words}); {way}", lora.file));
            }
            let mut unmatched = Vec::new();
            for (key, module) in &lora.modules {
                match index.find(key) {
                    Some(place) => changes.entry(place).or_default().push((lora, key, module)),
                    None => unmatched.push(key),
                }
            }
            match unmatched.first() {
                Some(first) if unmatched.len() == lora.modules.len() => {
                    let problem = format!(
                        "none of the LoRA's {} modules is in this model; one of the modules is {first}",
                        unmatched.len()
                    );
                    return Err(Error::Malformed { file: lora.file.clone(), problem });
                }
                Some(first) => {
                    let (file, lost, all) = (&lora.file, unmatched.len(), lora.modules.len());
                    notes.push(format!(
                        "{file}: {lost} of the LoRA's {all} modules are not in this model, such as {first}"
                    ));
                }
                None => {}
            }
        }
        let mut changed = Vec::new();
        for ((part, path), all) in changes {
            for suffix in ["weight", "bias"] {
                let name = format!("{path}.{suffix}");
                let Some(w) = parts.get(part).and_then(|tensors| tensors.get(&name)) else { continue };
                let mut sum = dense(w)?.f_to_kind(Kind::Float)?;
                let mut touched = false;
                for (lora, key, module) in &all {
                    let delta = if suffix == "weight" {
                        module.weight()?
                    } else {
                        module.diff_b.as_ref().map(Tensor::shallow_clone)
                    };
                    let Some(delta) = delta else { continue };
                    if delta.numel() != w.numel() {
                        return Err(lora.misfit(key, &delta.size(), &w.size()));
                    }
                    let delta = delta.f_reshape(w.size())?.f_to_device(w.device())?;
                    sum = sum.f_add(&delta.f_mul_scalar(lora.factor(part, key, module, suffix == "weight"))?)?;
                    touched = true;
                }
                if touched {
                    changed.push((part.to_owned(), name, sum.f_to_kind(w.f_kind()?)?));
                }
            }
        }
        drop(index);
        for (part, name, x) in changed {
            parts.entry(part).or_default().insert(name, x);
        }
        Ok(notes)
    }

    /// Returns the factor for a module's change: the scale times α/r (α/√r with rsLoRA) for the low-rank change of a
    /// weight, and the scale alone for full differences and biases.
    fn factor(&self, part: &str, key: &str, module: &Module, weight: bool) -> f64 {
        let scale = if part == "unet" { self.scale } else { self.text_scale.unwrap_or(self.scale) };
        let Some(rank) = module.down.as_ref().and_then(|down| down.size().first().copied()).filter(|_| weight) else {
            return scale;
        };
        let rank = (rank as f64).max(1.0);
        let told = |field: &str| self.adapter.get(format!("{part}.{field}")).or_else(|| self.adapter.get(field));
        let pattern = || {
            let patterns = told("alpha_pattern")?.as_object()?;
            patterns.iter().find(|(path, _)| key.ends_with(path.as_str())).and_then(|(_, alpha)| alpha.as_f64())
        };
        let alpha = module.alpha.or_else(pattern).or_else(|| told("lora_alpha")?.as_f64()).unwrap_or(rank);
        let root = told("use_rslora").and_then(Value::as_bool).unwrap_or(false);
        scale * alpha / if root { rank.sqrt() } else { rank }
    }

    /// Checks that the LoRA was trained with a context as wide as this model's.
    fn check_context(&self, parts: &Parts) -> Result<()> {
        let mut widths = parts.get("unet").into_iter().flatten();
        let width = widths.find(|(name, _)| name.ends_with("attn2.to_k.weight"));
        let (Some(own), Some(width)) = (self.context, width.and_then(|(_, x)| x.size().get(1).copied())) else {
            return Ok(());
        };
        if own == width {
            return Ok(());
        }
        let name = |width| ModelFamily::of_context(width).map_or("another model".into(), |family| family.to_string());
        let (trained, here, count) = (name(own), name(width), self.modules.len());
        let problem = format!(
            "the file is a LoRA for {trained} (cross-attention width {own}, {count} modules); this model is {here} \
             (width {width})"
        );
        Err(Error::Malformed { file: self.file.clone(), problem })
    }

    fn misfit(&self, key: &str, got: &[i64], want: &[i64]) -> Error {
        let family = self.family.map_or("another model".into(), |family| family.to_string());
        let problem = format!(
            "the LoRA is for {family}: {key} changes a weight of shape {got:?}, which has shape {want:?} in this model"
        );
        Error::Malformed { file: self.file.clone(), problem }
    }
}

impl Module {
    /// Returns the change of the weight as trained, without the factor α/r; `None` if the module does not change the
    /// weight. The result is f32, of any shape with as many numbers as the weight.
    fn weight(&self) -> Result<Option<Tensor>> {
        if let Some(diff) = &self.diff {
            return Ok(Some(diff.f_to_kind(Kind::Float)?));
        }
        let (Some(down), Some(up)) = (&self.down, &self.up) else { return Ok(None) };
        let rows = |x: &Tensor| -> Result<Tensor> { Ok(x.f_to_kind(Kind::Float)?.f_flatten(1, -1)?) };
        let mut down = rows(down)?; // [r, in·k·k]
        if let Some(mid) = &self.mid {
            // Σ over q of mid[p, q, y, x]·down[q, i], as [p, i·y·x]
            let (p, q, h, w) = mid.size4()?;
            let mid = mid.f_to_kind(Kind::Float)?.f_permute([0, 2, 3, 1])?.f_reshape([-1, q])?;
            down = mid.f_matmul(&down)?.f_view([p, h, w, -1])?.f_permute([0, 3, 1, 2])?.f_reshape([p, -1])?;
        }
        Ok(Some(rows(up)?.f_matmul(&down)?))
    }
}

/// Reads PEFT's `adapter_config.json`; returns `Null` if there is none.
fn beside(config: &Path) -> Result<Value> {
    let Some(json) = files::read_if_there(config, files::LARGEST_CONFIG)? else { return Ok(Value::Null) };
    serde_json::from_slice(&json).map_err(|error| Error::Malformed {
        file: config.display().to_string(),
        problem: format!("the file is not a valid adapter configuration: {error}"),
    })
}

/// Removes the adapter's name from a name such as `….lora_A.default.weight`.
fn without_adapter(name: &str) -> String {
    for letter in [".lora_A.", ".lora_B."] {
        if let Some((path, rest)) = name.split_once(letter)
            && rest.ends_with("weight")
        {
            return format!("{path}{letter}weight");
        }
    }
    name.to_owned()
}

/// The modules of a model, by their paths in the notation of kohya's trainer, with `_` for `.`. Paths contain other `_`
/// too, so the notation cannot be converted back, and every path of the model is converted instead.
struct Index<'p> {
    parts: BTreeMap<&'p str, BTreeMap<String, &'p str>>,
    layout: Layout,
}

impl<'p> Index<'p> {
    fn of(parts: &'p Parts) -> Self {
        let joined = |path: &str| path.replace('.', "_");
        let mut index = BTreeMap::new();
        for (part, tensors) in parts.iter().filter(|(part, _)| *part != "vae") {
            let paths = tensors.keys().filter_map(|name| name.strip_suffix(".weight"));
            let named = |path: &'p str| match part.starts_with("text") && !path.starts_with("text_") {
                true => (format!("text_model_{}", joined(path)), path), // some files omit the prefix
                false => (joined(path), path),
            };
            index.insert(part.as_str(), paths.map(named).collect());
        }
        let unet = parts.get("unet");
        let resnet = |name: &String| Some(name.strip_prefix("down_blocks.0.resnets.")?.split('.').next()?.to_owned());
        let resnets: BTreeSet<String> = unet.into_iter().flatten().filter_map(|(name, _)| resnet(name)).collect();
        let usual = Layout::default();
        let unet_blocks = if resnets.is_empty() { usual.unet_blocks } else { resnets.len() + 1 };
        Self { parts: index, layout: Layout { unet_blocks, ..usual } }
    }

    /// Returns part and path of the module that a file calls `key`.
    fn find(&self, key: &str) -> Option<(&'p str, &'p str)> {
        const STARTS: [(&str, &str); 10] = [
            ("lora_unet_", "unet"),
            ("lora_te1_", "text_encoder"),
            ("lora_te2_", "text_encoder_2"),
            ("lora_te_", "text_encoder"),
            // Names as ComfyUI saves them.
            ("diffusion_model.", "unet"),
            ("text_encoders.clip_l.transformer.", "text_encoder"),
            ("text_encoders.clip_g.transformer.", "text_encoder_2"),
            ("unet.", "unet"),
            ("text_encoder.", "text_encoder"),
            ("text_encoder_2.", "text_encoder_2"),
        ];
        let key = key.strip_prefix("base_model.model.").unwrap_or(key);
        match STARTS.iter().find_map(|(start, part)| Some((*part, key.strip_prefix(start)?))) {
            Some((part, path)) => self.within(part, path),
            None => self.parts.keys().find_map(|part| self.within(part, key)),
        }
    }

    fn within(&self, part: &str, path: &str) -> Option<(&'p str, &'p str)> {
        let (part, modules) = self.parts.get_key_value(part)?;
        let path = path.replace('.', "_").replace("_processor_to_", "_to_");
        let found = |path: &str| modules.get(path).map(|path| (*part, *path));
        let old = |from: &str, to: &str| found(&format!("{}{to}", path.strip_suffix(from)?));
        found(&path)
            .or_else(|| found(&format!("text_model_{path}")))
            .or_else(|| old("_attn_to_q", "_attn_q_proj"))
            .or_else(|| old("_attn_to_k", "_attn_k_proj"))
            .or_else(|| old("_attn_to_v", "_attn_v_proj"))
            .or_else(|| old("_attn_to_out", "_attn_out_proj"))
            .or_else(|| old("_to_out", "_to_out_0"))
            .or_else(|| found(&names::unet_joined(&path, self.layout)?.replace('.', "_")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    fn parts(shape: &[i64]) -> Parts {
        let x =
            |shape: &[i64]| Tensor::arange(shape.iter().product::<i64>(), (Kind::Float, Device::Cpu)).reshape(shape);
        let tensors = [
            ("mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight", x(&[6, 8])),
            ("mid_block.resnets.0.conv1.weight", x(shape)),
            ("mid_block.resnets.0.conv1.bias", x(&shape[..1])),
        ];
        Parts::from([("unet".into(), tensors.map(|(name, x)| (name.to_owned(), x)).into())])
    }

    fn lora(tensors: &[(&str, Tensor)]) -> Result<Lora> {
        Lora::of("ink.safetensors", tensors.iter().map(|(name, x)| ((*name).into(), x.shallow_clone())).collect())
    }

    fn wave(shape: &[i64]) -> Tensor {
        Tensor::arange(shape.iter().product::<i64>(), (Kind::Float, Device::Cpu)).sin().reshape(shape)
    }

    const CONV: &str = "lora_unet_mid_block_resnets_0_conv1";
    const KEY: &str = "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k";

    #[test]
    fn locon_middle_matrix_sums_over_both_ranks() -> Result<()> {
        let (mut model, before) = (parts(&[4, 5, 3, 3]), parts(&[4, 5, 3, 3]));
        let (up, mid, down) = (wave(&[4, 2, 1, 1]), wave(&[2, 2, 3, 3]), wave(&[2, 5, 1, 1]));
        let names =
            ["lora_up.weight", "lora_mid.weight", "lora_down.weight", "alpha"].map(|end| format!("{CONV}.{end}"));
        let [a, b, c, d] = &names;
        let lora = lora(&[
            (a, up.shallow_clone()),
            (b, mid.shallow_clone()),
            (c, down.shallow_clone()),
            (d, Tensor::from(1.0f32)),
        ])?;
        assert_eq!(Lora::merge(&[lora.scale(3.0)], &mut model)?, [""; 0]);
        let [up, down] = [up.reshape([4, 2]), down.reshape([2, 5])];
        let delta = Tensor::einsum("op,pqyx,qi->oiyx", &[up, mid, down], None::<&[i64]>);
        let name = "mid_block.resnets.0.conv1.weight";
        let apart = (&model["unet"][name] - &before["unet"][name] - delta * 1.5).abs().max().double_value(&[]);
        assert!(apart < 1e-5, "{apart}");
        Ok(())
    }

    #[test]
    fn comfyui_module_names_are_recognized() -> Result<()> {
        let mut model = parts(&[4, 5, 3, 3]);
        let text = "text_model.encoder.layers.0.mlp.fc1.weight";
        model.insert("text_encoder".into(), Tensors::from([(text.to_owned(), wave(&[6, 8]))]));
        let (unet, clip) = (
            "diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_k",
            "text_encoders.clip_l.transformer.text_model.encoder.layers.0.mlp.fc1",
        );
        let mut tensors = Tensors::new();
        for key in [unet, clip] {
            tensors.insert(format!("{key}.lora_down.weight"), Tensor::ones([1, 8], (Kind::Float, Device::Cpu)));
            tensors.insert(format!("{key}.lora_up.weight"), Tensor::ones([6, 1], (Kind::Float, Device::Cpu)));
        }
        Lora::merge(&[Lora::of("comfy.safetensors", tensors)?], &mut model)?;
        let name = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight";
        assert_eq!(model["unet"][name], &parts(&[4, 5, 3, 3])["unet"][name] + 1.0);
        assert_eq!(model["text_encoder"][text], wave(&[6, 8]) + 1.0);
        Ok(())
    }

    #[test]
    fn learned_words_in_a_lora_are_noted() -> Result<()> {
        let lora = lora(&[
            (&format!("{KEY}.lora_A.weight"), wave(&[2, 8])),
            (&format!("{KEY}.lora_B.weight"), wave(&[6, 2])),
            ("bundle_emb.badhands.string_to_param.*", wave(&[3, 8])),
            ("bundle_emb.ink.clip_l", wave(&[1, 8])),
        ])?;
        let notes = Lora::merge(&[lora], &mut parts(&[4, 5, 3, 3]))?;
        assert_eq!(notes.len(), 1);
        assert!(
            notes[0].contains("ink.safetensors: the LoRA's learned words are not loaded (badhands, ink)"),
            "{notes:?}"
        );
        Ok(())
    }

    #[test]
    fn weights_outside_a_lora_stay_the_same_tensor() -> Result<()> {
        let mut model = parts(&[4, 5, 3, 3]);
        let pointer = |model: &Parts, name: &str| model["unet"][name].data_ptr();
        let conv = "mid_block.resnets.0.conv1.weight";
        let before = pointer(&model, conv);
        let lora = lora(&[
            (&format!("{KEY}.lora_A.x.weight"), wave(&[2, 8])),
            (&format!("{KEY}.lora_B.x.weight"), wave(&[6, 2])),
        ])?;
        Lora::merge(&[lora], &mut model)?;
        assert_eq!(pointer(&model, conv), before);
        Ok(())
    }

    #[test]
    fn full_differences_are_added() -> Result<()> {
        let mut model = parts(&[4, 5, 3, 3]);
        let lora = lora(&[(&format!("{CONV}.diff"), wave(&[4, 5, 3, 3])), (&format!("{CONV}.diff_b"), wave(&[4]))])?;
        Lora::merge(&[lora.scale(2.0)], &mut model)?;
        assert_eq!(
            model["unet"]["mid_block.resnets.0.conv1.bias"].double_value(&[1]),
            1.0 + 2.0 * f64::from(1f32.sin())
        );
        Ok(())
    }

    #[test]
    fn a_lora_of_another_model_is_refused_with_both_names() -> Result<()> {
        let merge = |down: &[i64], key: &str| {
            let lora = lora(&[
                (&format!("{key}.lora_A.weight"), wave(down)),
                (&format!("{key}.lora_B.weight"), wave(&[6, 2])),
            ]);
            Lora::merge(&[lora.unwrap()], &mut parts(&[4, 5, 3, 3])).unwrap_err().to_string()
        };
        let message = merge(&[2, 2048], KEY);
        assert!(
            message.contains("ink.safetensors: the file is a LoRA for SDXL (cross-attention width 2048, 1 modules)"),
            "{message}"
        );
        assert!(
            merge(&[2, 7], "unet.mid_block.resnets.0.conv1")
                .contains("changes a weight of shape [6, 7], which has shape [4, 5, 3, 3]")
        );
        assert!(
            merge(&[2, 7], "unet.mid_block.resnets.7.conv1").contains("none of the LoRA's 1 modules is in this model")
        );
        let lora = lora(&[(&format!("{KEY}.lora_A.weight"), wave(&[2, 8]))])?.scale(f64::NAN);
        assert!(Lora::merge(&[lora], &mut parts(&[1, 1])).unwrap_err().to_string().contains("scale is NaN"));
        Ok(())
    }

    #[test]
    fn other_algorithms_are_refused_by_name() {
        for (end, algorithm) in
            [("hada_w1_a", "LoHa"), ("lokr_w1", "LoKr"), ("dora_scale", "DoRA"), ("oft_blocks", "OFT")]
        {
            let down = (&*format!("{CONV}.lora_down.weight"), wave(&[2, 5]));
            let message = lora(&[down, (&format!("{CONV}.{end}"), wave(&[2, 2]))]).unwrap_err().to_string();
            assert!(message.contains(&format!("uses {algorithm} ({CONV}.{end})")), "{message}");
        }
        assert!(lora(&[("emb_params", wave(&[2, 768]))]).unwrap_err().to_string().contains("not a LoRA"));
    }
}
