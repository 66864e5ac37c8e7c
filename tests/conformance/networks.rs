//! Networks: kinds `clip_text`, `clip_text_sdxl`, `clip_vision`, `clip_preprocess`, `unet`, `controlnet`,
//! `controlnet_union`, `t2i_adapter`, `color_palette`, `vae`, `taesd`, `single_file`, `lora`, `lora_refused`,
//! `textual_inversion`, `pickle_refused` and `real_configs`.

use super::{Case, Outputs, Result, device, kind};
use impasto::attention::{
    At, AttentionSite, Call, CrossAttentionHook, HookTable, Interest, KvCache, Probs, Scores, Tap,
};
use impasto::hint::color_palette as palette;
use impasto::nn::t2i_adapter::{T2iAdapter, T2iAdapterConfig};
use impasto::nn::union::{ControlType, UnionHint};
use impasto::nn::{
    AddedConditions, ClipImageProcessor, ClipText, ClipTextConfig, ClipVision, ClipVisionConfig, ConfigFile,
};
use impasto::nn::{ControlNet, ControlNetConfig, Residuals, Taesd, TaesdConfig, UNet, UnetConfig, Vae, VaeConfig};
use impasto::raster::{Layer, Raster};
use impasto::weights::{Contents, Embedding, Lora, Parts, SingleFile, Tensors, Weights, read_folder};
use impasto::{Branch, Error, Grid, Model, Rgb, Size, Source, Step};
use std::collections::BTreeMap;
use std::path::Path;
use tch::{Kind, Tensor};

/// Loads the configuration and the weights of a model's folder.
pub fn load(folder: &Path) -> Result<(String, Weights)> {
    let mut files = std::fs::read_dir(folder)?.filter_map(|entry| Some(entry.ok()?.path()));
    let file = files.find(|path| path.extension().is_some_and(|extension| extension == "safetensors"));
    let file = file.ok_or_else(|| format!("no safetensors in {}", folder.display()))?;
    let config = std::fs::read_to_string(folder.join("config.json"))?;
    Ok((config, Weights::open(&file, kind(), device())?))
}

/// Computes CLIP text towers.
pub fn clip_text(case: &Case) -> Result<Outputs> {
    let (config, w) = load(case.model("model")?)?;
    let tower = ClipText::new(&w, &ClipTextConfig::from_json("config.json", &config)?)?;
    assert_eq!(w.report().unused, []);
    let states = tower.forward(case.input("input_ids")?)?;
    let penultimate = tower.normed(states.before_last(1).unwrap())?;
    let mut outputs = vec![
        ("hidden_states".into(), Tensor::stack(&states.hidden_states, 0)),
        ("last_hidden_state".into(), states.last_hidden_state),
        ("penultimate_normed".into(), penultimate),
    ];
    outputs.push(match states.text_embeds {
        Some(embeds) => ("text_embeds".into(), embeds),
        None => ("pooler_output".into(), states.pooler_output),
    });
    Ok(outputs)
}

/// Computes SDXL's two text towers, which encode a prompt.
pub fn clip_text_sdxl(case: &Case) -> Result<Outputs> {
    let states = |role, ids| -> Result<_> {
        let (config, w) = load(case.model(role)?)?;
        let tower = ClipText::new(&w, &ClipTextConfig::from_json("config.json", &config)?)?;
        assert_eq!(w.report().unused, []);
        Ok(tower.forward(case.input(ids)?)?)
    };
    let (first, second) = (states("text_encoder", "input_ids")?, states("text_encoder_2", "input_ids_2")?);
    let penultimate = [&first, &second].map(|states| states.before_last(1).unwrap());
    Ok(vec![
        ("prompt_embeds".into(), Tensor::cat(&penultimate, -1)),
        ("pooled_prompt_embeds".into(), second.text_embeds.ok_or("the second tower has no projection")?),
    ])
}

/// Computes CLIP vision towers.
pub fn clip_vision(case: &Case) -> Result<Outputs> {
    let (config, w) = load(case.model("model")?)?;
    let tower = ClipVision::new(&w, &ClipVisionConfig::from_json("config.json", &config)?)?;
    assert_eq!(w.report().unused, []);
    let states = tower.forward(case.input("pixel_values")?)?;
    Ok(vec![
        ("hidden_states".into(), Tensor::stack(&states.hidden_states, 0)),
        ("last_hidden_state".into(), states.last_hidden_state),
        ("image_embeds".into(), states.image_embeds.ok_or("the tower has no projection")?),
    ])
}

/// Computes the pixels of pictures that a vision tower sees.
pub fn clip_preprocess(case: &Case) -> Result<Outputs> {
    #[derive(serde::Deserialize)]
    struct Picture {
        id: String,
        file: String,
    }
    let processor = case.param::<serde_json::Value>("processor")?.to_string();
    let processor = ClipImageProcessor::from_json("params.processor", &processor)?;
    let pictures = case.param::<Vec<Picture>>("images")?.into_iter();
    // Transparent pixels become white, as in the reference's code.
    let open = |file| -> Result<Raster> { Ok(Layer::open(case.dir.join(file))?.on(Rgb(255, 255, 255))) };
    pictures.map(|Picture { id, file }| Ok((id, processor.pixels(&open(file)?)?))).collect()
}

/// Records probabilities and saliency of some sites and adds biases at others.
#[derive(Default)]
struct Spy {
    record: Vec<String>,
    compare: Vec<String>,
    saliency: BTreeMap<String, Tensor>,
    biases: BTreeMap<String, Tensor>,
    probs: BTreeMap<String, Tensor>,
    /// Attention of the prompt's tokens to the picture, and the mean sums of rows in the four blocks.
    joint: BTreeMap<String, [Tensor; 2]>,
}

impl CrossAttentionHook for Spy {
    fn interest(&self, site: &AttentionSite, _: Branch) -> Interest {
        let record = if self.record.contains(&site.name) { Interest::PROBS } else { Interest::NONE };
        let bias = if self.biases.contains_key(&site.name) { Interest::BIAS } else { Interest::NONE };
        let compare = if self.compare.contains(&site.name) { Interest::OUTPUT } else { Interest::NONE };
        record | bias | compare
    }
    fn output(&mut self, at: &At<'_>, output: &mut Tensor) -> impasto::Result<()> {
        let text = at.text_output().expect("joint attention");
        self.saliency.insert(at.site.name.clone(), output.matmul(&text.transpose(1, 2)));
        Ok(())
    }
    fn bias(&mut self, at: &At<'_>, _: &Scores<'_>) -> impasto::Result<Option<Tensor>> {
        Ok(self.biases.get(&at.site.name).map(Tensor::shallow_clone))
    }
    fn probs(&mut self, at: &At<'_>, probs: &Probs<'_>) -> impasto::Result<()> {
        let of_picture = probs.columns(probs.tokens())?;
        if let Some([to_picture, to_prompt]) = probs.of_prompt()? {
            let mass = |block: &Tensor| {
                block.sum_dim_intlist([3i64].as_slice(), false, Kind::Float).mean_dim(
                    [2i64].as_slice(),
                    false,
                    Kind::Float,
                )
            };
            let blocks = [mass(&of_picture), mass(&to_picture), mass(&to_prompt)];
            let [to_words, from_words, among_words] = &blocks;
            let all = Tensor::stack(&[&(1.0 - to_words), to_words, from_words, among_words], -1);
            self.joint.insert(at.site.name.clone(), [to_picture, all]);
        }
        self.probs.insert(at.site.name.clone(), of_picture);
        Ok(())
    }
}

/// Computes UNets, with hooks that read and bias attention.
pub fn unet(case: &Case) -> Result<Outputs> {
    let (config, w) = load(case.model("model")?)?;
    let unet = UNet::new(&w, &UnetConfig::from_json("config.json", &config)?)?;
    assert_eq!(w.report().unused, []);
    let (sample, timestep) = (case.input("sample")?, case.input("timestep")?);
    let context = case.input("encoder_hidden_states")?;
    let optional = |name| case.inputs.get(name).map(Tensor::shallow_clone);
    let added = AddedConditions {
        text_embeds: optional("text_embeds"),
        time_ids: optional("time_ids"),
        timestep_cond: optional("timestep_cond"),
        ..AddedConditions::default()
    };
    run_with_hooks(case, unet.sites(), "eps", |tap| Ok(unet.forward(sample, timestep, context, Some(&added), tap)?))
}

/// Computes a network's output `name` plainly, with a hook that reads the case's sites, and with the case's biases.
pub fn run_with_hooks(
    case: &Case,
    sites: &[AttentionSite],
    name: &str,
    forward: impl Fn(&mut Tap<'_>) -> Result<Tensor>,
) -> Result<Outputs> {
    let (b, _, h, w) = case.input("sample")?.size4()?;
    let run = |spy: &mut Spy| -> Result<Tensor> {
        let step = Step::new(0, 1, 1.0, 0.0, 500.0);
        let call = Call { step: &step, branches: &[Branch::Cond], images: 0..b, grid: Grid::new(h, w) };
        let hooks: Vec<&mut dyn CrossAttentionHook> = vec![spy];
        let mut cache = KvCache::default();
        let table = HookTable::new(&hooks, sites, &[Branch::Cond])?;
        forward(&mut Tap::new(call, hooks, &table, &mut cache)?)
    };

    let record: Vec<String> = case.param::<Option<Vec<String>>>("record_probs")?.unwrap_or_default();
    for name in &record {
        assert!(sites.iter().any(|site| site.name == *name), "no site {name}");
    }
    let mut plain = Spy { record, ..Spy::default() };
    let mut outputs = vec![(name.to_owned(), run(&mut plain)?)];
    let bare = forward(&mut Tap::none())?;
    assert_eq!(bare, outputs[0].1, "a hook that reads changes no bit");
    outputs.extend(plain.probs.into_iter().map(|(site, probs)| (format!("probs.{site}"), probs)));
    for (site, [to_picture, mass]) in plain.joint {
        outputs.extend([(format!("probs.{site}.text_picture"), to_picture), (format!("mass.{site}"), mass)]);
    }

    let compare: Vec<String> = case.param::<Option<Vec<String>>>("saliency")?.unwrap_or_default();
    let mut comparing = Spy { compare, ..Spy::default() };
    assert_eq!(run(&mut comparing)?, bare, "a hook that changes no output changes no bit");
    for (site, saliency) in comparing.saliency {
        outputs.push((format!("saliency_softmax.{site}"), saliency.softmax(-1, Kind::Float)));
        outputs.push((format!("saliency.{site}"), saliency));
    }

    let biases: BTreeMap<String, Tensor> = case
        .inputs
        .iter()
        .filter_map(|(name, bias)| Some((name.strip_prefix("bias.")?.to_string(), bias.shallow_clone())))
        .collect();
    if !biases.is_empty() {
        let mut biased = Spy { record: biases.keys().cloned().collect(), biases, ..Spy::default() };
        outputs.push((format!("{name}_biased"), run(&mut biased)?));
        outputs.extend(biased.probs.into_iter().map(|(site, probs)| (format!("probs_biased.{site}"), probs)));
    }
    Ok(outputs)
}

/// Loads the ControlNet and the UNet of a case.
fn load_controlnet(case: &Case) -> Result<(ControlNet, UNet)> {
    let (config, w) = load(case.model("controlnet")?)?;
    let net = ControlNet::new(&w, &ControlNetConfig::from_json("config.json", &config)?)?;
    assert_eq!(w.report().unused, []);
    let (config, w) = load(case.model("unet")?)?;
    let unet = UNet::new(&w, &UnetConfig::from_json("config.json", &config)?)?;
    Ok((net, unet))
}

/// Computes ControlNets, and the UNet with their residuals.
pub fn controlnet(case: &Case) -> Result<Outputs> {
    #[derive(serde::Deserialize)]
    struct Strength {
        id: String,
        conditioning_scale: f64,
        guess_mode: bool,
    }
    let (net, unet) = load_controlnet(case)?;
    let (sample, timestep) = (case.input("sample")?, case.input("timestep")?);
    let context = case.input("encoder_hidden_states")?;
    let optional = |name| case.inputs.get(name).map(Tensor::shallow_clone);
    let added = |residuals| {
        let (text_embeds, time_ids) = (optional("text_embeds"), optional("time_ids"));
        AddedConditions { text_embeds, time_ids, residuals, ..AddedConditions::default() }
    };
    let hint = net.embed(case.input("controlnet_cond")?)?;
    let residuals = net.forward(sample, timestep, context, Some(&added(None)), &hint, &mut Tap::none())?;
    let n = residuals.skips.len() as f64;
    let mut outputs = Outputs::new();
    for Strength { id, conditioning_scale, guess_mode } in case.param::<Vec<Strength>>("runs")? {
        let weight = |i: usize| if guess_mode { 10f64.powf(i as f64 / n - 1.0) } else { 1.0 };
        let weighed = residuals.map(|i, x| Ok(x * (conditioning_scale * weight(i))))?;
        for (i, skip) in weighed.skips.iter().enumerate() {
            outputs.push((format!("{id}.down.{i}"), skip.shallow_clone()));
        }
        outputs.push((format!("{id}.mid"), weighed.mid.shallow_clone()));
        let run = |sample: &Tensor, context: &Tensor, residuals: Residuals| {
            unet.forward(sample, timestep, context, Some(&added(Some(residuals))), &mut Tap::none())
        };
        let twice = |x: &Tensor, first: &Tensor| Tensor::cat(&[first, x], 0);
        outputs.push((
            format!("{id}.eps"),
            match guess_mode {
                true => run(
                    &twice(sample, sample),
                    &twice(context, &context.zeros_like()),
                    weighed.map(|_, x| Ok(twice(x, &x.zeros_like())))?,
                )?,
                false => run(sample, context, weighed)?,
            },
        ));
    }
    Ok(outputs)
}

/// Computes ControlNet unions at batch 1, and the UNet with their residuals.
pub fn controlnet_union(case: &Case) -> Result<Outputs> {
    #[derive(serde::Deserialize)]
    struct Mixed {
        id: String,
        types: Vec<usize>,
        conds: Vec<usize>,
        scales: Vec<f64>,
        #[serde(default)]
        guess_mode: bool,
    }
    let (net, unet) = load_controlnet(case)?;
    let (sample, timestep) = (case.input("sample")?, case.input("timestep")?);
    let context = case.input("encoder_hidden_states")?;
    let optional = |name| case.inputs.get(name).map(Tensor::shallow_clone);
    let mut outputs = Outputs::new();
    for Mixed { id, types, conds, scales, guess_mode } in case.param::<Vec<Mixed>>("runs")? {
        let added = |residuals| AddedConditions {
            text_embeds: optional("text_embeds"),
            time_ids: optional("time_ids"),
            control_types: types.iter().map(|number| ControlType::ALL[*number]).collect(),
            residuals,
            ..AddedConditions::default()
        };
        let mut hints = Vec::new();
        for ((number, cond), scale) in types.iter().zip(&conds).zip(&scales) {
            let hint = case.input(&format!("cond.{cond}"))?;
            hints.push(UnionHint { hint, control_type: ControlType::ALL[*number], scale: *scale });
        }
        let embedded = net.embed_union(&hints)?;
        let residuals = net.forward(sample, timestep, context, Some(&added(None)), &embedded, &mut Tap::none())?;
        let n = residuals.skips.len() as f64;
        let whole = if scales.len() == 1 { scales[0] } else { 1.0 };
        let weight = |i: usize| if guess_mode { 10f64.powf(i as f64 / n - 1.0) } else { 1.0 };
        let weighed = residuals.map(|i, x| Ok(x * (whole * weight(i))))?;
        for (i, skip) in weighed.skips.iter().enumerate() {
            outputs.push((format!("{id}.down.{i}"), skip.shallow_clone()));
        }
        outputs.push((format!("{id}.mid"), weighed.mid.shallow_clone()));
        let eps = unet.forward(sample, timestep, context, Some(&added(Some(weighed))), &mut Tap::none())?;
        outputs.push((format!("{id}.eps"), eps));
    }
    Ok(outputs)
}

/// Returns a T2I adapter from a model's folder, or from a file in the original layout, whose configuration must be that
/// of the folder.
fn adapter(case: &Case, role: &str, file: Option<&String>) -> Result<T2iAdapter> {
    let (config, w) = load(case.model(role)?)?;
    let config = T2iAdapterConfig::from_json("config.json", &config)?;
    let Some(file) = file else {
        let adapter = T2iAdapter::new(&w, &config)?;
        assert_eq!(w.report().unused, []);
        return Ok(adapter);
    };
    let file = SingleFile::open(&case.dir.join(file))?;
    let Contents::T2iAdapter { family, .. } = file.contents()? else {
        return Err(format!("{file:?} is not a T2I adapter").into());
    };
    let derived = file.config("t2i_adapter", family)?.ok_or("no adapter in the file")?;
    assert_eq!(T2iAdapterConfig::from_json("the file", &derived)?, config);
    let tensors = file.part("t2i_adapter")?.ok_or("no adapter in the file")?;
    let w = Weights::new("the file", tensors, kind(), device());
    let adapter = T2iAdapter::new(&w, &config)?;
    assert_eq!(w.report().unused, []);
    Ok(adapter)
}

/// Computes the features of T2I adapters, and the UNet with their sums.
pub fn t2i_adapter(case: &Case) -> Result<Outputs> {
    #[derive(serde::Deserialize)]
    struct Scaled {
        id: String,
        scales: Vec<f64>,
    }
    let files = case.param::<Option<Vec<String>>>("files")?.unwrap_or_default();
    let roles = (0..).map(|k| format!("adapter_{k}")).take_while(|role| case.models.contains_key(role));
    let mut all: Vec<Vec<Tensor>> = Vec::new();
    for (k, role) in roles.enumerate() {
        let adapter = adapter(case, &role, files.get(k))?;
        all.push(adapter.features(case.input(&format!("image.{k}"))?)?);
    }
    let mut outputs = Outputs::new();
    for (k, features) in all.iter().enumerate() {
        let named = features.iter().enumerate().map(|(j, x)| (format!("features.{k}.{j}"), x.shallow_clone()));
        outputs.extend(named);
    }
    let (config, w) = load(case.model("unet")?)?;
    let unet = UNet::new(&w, &UnetConfig::from_json("config.json", &config)?)?;
    let (sample, timestep) = (case.input("sample")?, case.input("timestep")?);
    let optional = |name| case.inputs.get(name).map(Tensor::shallow_clone);
    for Scaled { id, scales } in case.param::<Vec<Scaled>>("runs")? {
        let sum = |j: usize| -> Tensor { all.iter().zip(&scales).map(|(features, scale)| &features[j] * *scale).sum() };
        let added = AddedConditions {
            text_embeds: optional("text_embeds"),
            time_ids: optional("time_ids"),
            adapter: (0..all[0].len()).map(sum).collect(),
            ..AddedConditions::default()
        };
        let context = case.input("encoder_hidden_states")?;
        let eps = unet.forward(sample, timestep, context, Some(&added), &mut Tap::none())?;
        outputs.push((format!("{id}.eps"), eps));
    }
    Ok(outputs)
}

/// Computes the hints of T2I adapters for colors, as bytes.
pub fn color_palette(case: &Case) -> Result<Outputs> {
    #[derive(serde::Deserialize)]
    struct Picture {
        id: String,
        file: String,
    }
    let mut outputs = Outputs::new();
    for Picture { id, file } in case.param::<Vec<Picture>>("images")? {
        let hint = palette(&Raster::open(case.dir.join(file))?)?;
        let Size { width, height } = hint.size();
        let bytes = Tensor::from_slice(hint.bytes()).reshape([height.into(), width.into(), 3]).permute([2, 0, 1]);
        // The cells are the palette's pixels at the middle of each cell.
        let places = |side: u32| -> Tensor {
            let cells = i64::from(side / 64);
            let places: Vec<i64> = (0..cells).map(|cell| (2 * cell + 1) * i64::from(side) / (2 * cells)).collect();
            Tensor::from_slice(&places)
        };
        let cells = bytes.index_select(1, &places(height)).index_select(2, &places(width));
        outputs.extend([(format!("{id}.cells"), cells), (id, bytes)]);
    }
    Ok(outputs)
}

/// Computes autoencoders.
pub fn vae(case: &Case) -> Result<Outputs> {
    let (config, w) = load(case.model("model")?)?;
    let vae = Vae::new(&w, &VaeConfig::from_json("config.json", &config)?)?;
    assert_eq!(w.report().unused, []);
    let posterior = vae.encode(case.input("image")?)?;
    let sampled = posterior.sample(case.input("posterior_noise")?)?;
    Ok(vec![
        ("std".into(), posterior.std()?),
        ("sampled_scaled".into(), vae.scaled(&sampled)?),
        ("decoded".into(), vae.decode(&vae.unscaled(case.input("latents")?)?)?),
        ("roundtrip".into(), vae.decode(&posterior.mean)?),
        ("mean".into(), posterior.mean),
        ("logvar".into(), posterior.logvar),
    ])
}

/// Computes tiny autoencoders.
pub fn taesd(case: &Case) -> Result<Outputs> {
    let (config, w) = load(case.model("model")?)?;
    let taesd = Taesd::new(&w, &TaesdConfig::from_json("config.json", &config)?)?;
    assert_eq!(w.report().unused, []);
    let encoded = taesd.encode(case.input("image")?)?;
    let latents = case.input("latents")?;
    Ok(vec![
        ("decoded".into(), taesd.decode(latents)?),
        ("scaled".into(), taesd.compressed(latents)?),
        ("unscaled".into(), taesd.expanded(&taesd.compressed(&encoded)?)?),
        ("encoded".into(), encoded),
    ])
}

/// Computes networks for a case's inputs. `tensors` gives the weights of a part; the case's `models` give the
/// configurations.
fn outputs(case: &Case, mut tensors: impl FnMut(&str) -> Result<Tensors>) -> Result<Outputs> {
    let mut outputs = Outputs::new();
    let roles: Vec<&String> = case.models.keys().filter(|role| *role != "tokenizer").collect();
    for role in roles {
        let config = std::fs::read_to_string(case.model(role)?.join("config.json"))?;
        let w = Weights::new(role.as_str(), tensors(role)?, Kind::Float, device());
        match role.as_str() {
            "unet" => {
                let unet = UNet::new(&w, &UnetConfig::from_json("config.json", &config)?)?;
                outputs.push(("eps".into(), eps(case, &unet)?));
            }
            "vae" => {
                let vae = Vae::new(&w, &VaeConfig::from_json("config.json", &config)?)?;
                outputs.push(("mean".into(), vae.encode(case.input("image")?)?.mean));
                outputs.push(("decoded".into(), vae.decode(case.input("latents")?)?));
            }
            _ => {
                let tower = ClipText::new(&w, &ClipTextConfig::from_json("config.json", &config)?)?;
                let (ids, name) = match role.as_str() {
                    "text_encoder" => ("input_ids", "text"),
                    _ => ("input_ids_2", "text_2"),
                };
                let states = tower.forward(case.input(ids)?)?;
                outputs.push((format!("{name}.penultimate"), states.before_last(1).unwrap().shallow_clone()));
                outputs.push((format!("{name}.last_hidden_state"), states.last_hidden_state));
                outputs.extend(states.text_embeds.map(|embeds| (format!("{name}.text_embeds"), embeds)));
            }
        }
        // SD 2.x files have a last layer that is not read, and some towers have a projection that is not read.
        let unused = w.report().unused.into_iter().map(|unused| unused.name);
        let unused: Vec<String> =
            unused.filter(|name| !name.contains(".layers.") && !name.starts_with("text_projection")).collect();
        assert!(unused.is_empty(), "{role}: {unused:?}");
    }
    Ok(outputs)
}

/// Computes a UNet for the inputs of a case.
fn eps(case: &Case, unet: &UNet) -> Result<Tensor> {
    let optional = |name| case.inputs.get(name).map(Tensor::shallow_clone);
    let added = AddedConditions {
        text_embeds: optional("text_embeds"),
        time_ids: optional("time_ids"),
        ..AddedConditions::default()
    };
    let (sample, context) = (case.input("sample")?, case.input("encoder_hidden_states")?);
    Ok(unet.forward(sample, case.input("timestep")?, context, Some(&added), &mut Tap::none())?)
}

/// Computes the networks of a checkpoint in another layout than today's diffusers folders.
pub fn single_file(case: &Case) -> Result<Outputs> {
    let folder: Option<String> = case.param("directory")?;
    if let Some(folder) = folder {
        return outputs(case, |_| Ok(read_folder(&case.dir.join(&folder), None)?.ok_or("no weights")?.1));
    }
    if case.param::<String>("format")? == "diffusers-bin" {
        return outputs(case, |_| Ok(read_folder(&case.dir, None)?.ok_or("no weights")?.1));
    }
    let files: Vec<String> = case.param("files")?;
    let file = SingleFile::open(&case.dir.join(&files[0]))?;
    outputs(case, |part| {
        let tensors = file.part(part)?.ok_or_else(|| format!("no {part} in the file"))?;
        same_tensors(case, part, &tensors)?;
        Ok(tensors)
    })
}

/// Checks that a file in another layout holds the tensors of the folder it was made from, apart from their precision.
fn same_tensors(case: &Case, part: &str, tensors: &Tensors) -> Result<()> {
    let (_, folder, _) = read_folder(case.model(part)?, None)?.ok_or("no weights")?;
    for (name, wanted) in folder.iter().filter(|(name, _)| !name.ends_with("position_ids")) {
        let got = tensors.get(name).ok_or_else(|| format!("{part} has no {name}"))?;
        assert_eq!(got.size(), wanted.size(), "{name}");
        assert_eq!(*got, wanted.to_kind(got.kind()), "{name}");
    }
    Ok(())
}

/// Reads the tensors of a case's models, by part.
fn read_parts(case: &Case) -> Result<Parts> {
    let mut parts = Parts::new();
    for (role, folder) in &case.models {
        let (_, mut tensors, _) = read_folder(folder, None)?.ok_or("no weights")?;
        tensors.retain(|name, _| !name.ends_with("position_ids"));
        parts.insert(role.clone(), tensors);
    }
    Ok(parts)
}

/// Computes models changed by LoRAs.
pub fn lora(case: &Case) -> Result<Outputs> {
    #[derive(serde::Deserialize)]
    struct Scaled {
        file: String,
        scale: f64,
        text_scale: Option<f64>,
    }
    let mut parts = read_parts(case)?;
    let mut loras = Vec::new();
    for Scaled { file, scale, text_scale } in case.param::<Vec<Scaled>>("files")? {
        loras.push(Lora::open(case.dir.join(file))?.scale(scale).text_scale(text_scale.unwrap_or(scale)));
    }
    assert_eq!(Lora::merge(&loras, &mut parts)?, [""; 0]);
    outputs(case, |part| Ok(parts.remove(part).ok_or("no such part")?))
}

/// Checks that a LoRA with a wrong module is refused with the name of the tensor or module, and that the model then is
/// unchanged.
pub fn lora_refused(case: &Case) -> Result<Outputs> {
    #[derive(serde::Deserialize)]
    struct Refused {
        id: String,
        file: String,
        named: String,
    }
    for Refused { id, file, named } in case.param::<Vec<Refused>>("runs")? {
        let (mut parts, before) = (read_parts(case)?, read_parts(case)?);
        let merged = Lora::open(case.dir.join(file)).and_then(|lora| Lora::merge(&[lora], &mut parts));
        let message = merged.err().ok_or_else(|| format!("{id} is merged"))?.to_string();
        assert!(message.contains(&named), "{id}: {message}");
        assert_eq!(parts, before, "{id}");
    }
    Ok(Vec::new())
}

/// Computes a text encoder with learned words.
pub fn textual_inversion(case: &Case) -> Result<Outputs> {
    #[derive(serde::Deserialize)]
    struct Learned {
        file: String,
        token: String,
    }
    let (_, mut tensors, _) = read_folder(case.model("text_encoder")?, None)?.ok_or("no weights")?;
    let folder = case.model("tokenizer")?;
    let mut tokenizer = super::tokenize::open(folder, folder)?;
    let config = std::fs::read_to_string(case.model("text_encoder")?.join("config.json"))?;
    let mut config = ClipTextConfig::from_json("config.json", &config)?;
    for Learned { file, token } in case.param::<Vec<Learned>>("embeddings")? {
        let embedding = Embedding::open(case.dir.join(file))?.called(token);
        let rows = embedding.append(&mut tensors)?.ok_or("the embedding has another width than the text encoder")?;
        config.vocab_size = rows.end;
        tokenizer = tokenizer.with_word(embedding.word(), rows)?;
    }
    let tower = ClipText::new(&Weights::new("text", tensors, Kind::Float, device()), &config)?;
    let ids = case
        .param::<Vec<String>>("texts")?
        .iter()
        .map(|text| Ok(Tensor::from_slice(&tokenizer.padded_to(text, 77)?)))
        .collect::<Result<Vec<_>>>()?;
    let ids = Tensor::stack(&ids, 0).to_device(device());
    let states = tower.forward(&ids)?;
    Ok(vec![
        ("input_ids".into(), ids),
        ("last_hidden_state".into(), states.last_hidden_state),
        ("pooler_output".into(), states.pooler_output),
    ])
}

/// Checks that damaged and harmful checkpoints of PyTorch are refused in every place that opens one, and run nothing.
pub fn pickle_refused(case: &Case) -> Result<Outputs> {
    #[derive(serde::Deserialize)]
    struct Refused {
        file: String,
        named: String,
    }
    for Refused { file, named } in case.param::<Vec<Refused>>("runs")? {
        let path = case.dir.join(&file);
        let refusals = [
            Model::load(&Source::file(&path)).map(drop),
            SingleFile::open(&path).map(drop),
            Weights::open(&path, Kind::Float, device()).map(drop),
            Lora::open(&path).map(drop),
            Embedding::open(&path).map(drop),
        ];
        for refusal in refusals {
            let message = refusal.err().ok_or_else(|| format!("{file} was read"))?.to_string();
            assert!(message.contains(&named) && message.contains(&file), "{file}: {message}");
        }
        assert!(!Path::new("impasto_was_here").exists(), "{file} was run");
    }
    Ok(Vec::new())
}

/// Checks that a full-size network asks for every parameter of the case's manifest, in its shape, and for no other.
/// `make` builds the network from empty weights and the text of its configuration; its last argument says whether the
/// manifest has a parameter. `adapt` says which parameters a network for pictures needs, and in which shape.
pub fn check_parameters(
    case: &Case,
    make: impl Fn(&Weights, &str, &dyn Fn(&str) -> bool) -> impasto::Result<()>,
    adapt: impl Fn(&str, Vec<i64>) -> Option<Vec<i64>>,
) -> Result<Outputs> {
    let config = String::from_utf8(case.read("config.json")?)?;
    let manifest: Vec<(String, Vec<i64>, String)> = case.json("manifest.json.gz")?;
    // The weights are empty, so that the report of missing tensors lists what the network asks for.
    let w = Weights::new("nothing", Tensors::new(), Kind::Float, device());
    let made = make(&w, &config, &|name| manifest.iter().any(|(parameter, ..)| parameter == name));
    let Err(Error::Weights(report)) = made else { return Err(format!("{made:?}").into()) };
    let needed = |(name, shape, _): (String, Vec<i64>, String)| Some((adapt(&name, shape)?, name));
    let wanted: BTreeMap<_, _> = manifest.into_iter().filter_map(needed).map(|(shape, name)| (name, shape)).collect();
    assert_eq!(report.missing.len(), wanted.len());
    let asked: BTreeMap<_, _> = report.missing.into_iter().map(|missing| (missing.name, missing.shape)).collect();
    assert_eq!(asked, wanted);
    Ok(Vec::new())
}

/// Compares the parameters of full-size networks.
pub fn real_configs(case: &Case) -> Result<Outputs> {
    let make = |w: &Weights, config: &str, has: &dyn Fn(&str) -> bool| {
        if has("controlnet_mid_block.weight") {
            ControlNet::new(w, &ControlNetConfig::from_json("", config)?).map(drop)
        } else if has("time_embedding.linear_1.weight") {
            UNet::new(w, &UnetConfig::from_json("", config)?).map(drop)
        } else if has("decoder.layers.0.weight") {
            Taesd::new(w, &TaesdConfig::from_json("", config)?).map(drop)
        } else if has("decoder.conv_in.weight") {
            Vae::new(w, &VaeConfig::from_json("", config)?).map(drop)
        } else if has("vision_model.embeddings.class_embedding") {
            ClipVision::new(w, &ClipVisionConfig::from_json("", config)?).map(drop)
        } else {
            ClipText::new(w, &ClipTextConfig::from_json("", config)?).map(drop)
        }
    };
    check_parameters(case, make, |_, shape| Some(shape))
}
