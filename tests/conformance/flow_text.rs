//! Networks beside a flow's transformer: kinds `qwen3_text`, `anima_conditioner`, `qwen_vae`, `vae_shift`, `t5_text` and
//! `real_configs_flow`.

use super::networks::load;
use super::{Case, Outputs, Result, device};
use impasto::Error;
use impasto::nn::anima_conditioner::{AnimaConditioner, AnimaConditionerConfig};
use impasto::nn::cosmos::{CosmosConfig, CosmosTransformer};
use impasto::nn::qwen_vae::{QwenVae, QwenVaeConfig};
use impasto::nn::qwen3::{Qwen3, Qwen3Config};
use impasto::nn::t5::{T5, T5Config};
use impasto::nn::{ConfigFile, Vae, VaeConfig};
use impasto::weights::{Tensors, Weights};
use std::collections::BTreeMap;
use std::path::Path;
use tch::{Kind, Tensor};

/// Loads Qwen3 from a model's folder.
pub fn load_qwen3(folder: &Path) -> Result<Qwen3> {
    let (config, w) = load(folder)?;
    let network = Qwen3::new(&w, &Qwen3Config::from_json("config.json", &config)?)?;
    assert_eq!(w.report().unused, []);
    Ok(network)
}

/// Loads Anima's text conditioner from a model's folder.
pub fn load_conditioner(folder: &Path) -> Result<AnimaConditioner> {
    let (config, w) = load(folder)?;
    let network = AnimaConditioner::new(&w, &AnimaConditionerConfig::from_json("config.json", &config)?)?;
    assert_eq!(w.report().unused, []);
    Ok(network)
}

/// Returns the numbers of tokens of texts from a mask, [b, t], whose padding follows the tokens.
fn lengths(mask: &Tensor) -> Result<Vec<i64>> {
    let lengths = Vec::<i64>::try_from(mask.sum_dim_intlist([1i64].as_slice(), false, Kind::Int64))?;
    for (row, length) in lengths.iter().enumerate() {
        assert_eq!(mask.get(row as i64).narrow(0, 0, *length).sum(Kind::Int64).int64_value(&[]), *length);
    }
    Ok(lengths)
}

/// Computes Qwen3's states.
pub fn qwen3_text(case: &Case) -> Result<Outputs> {
    let states = load_qwen3(case.model("model")?)?
        .forward(case.input("input_ids")?, &lengths(case.input("attention_mask")?)?)?;
    Ok(vec![
        ("hidden_states".into(), Tensor::stack(&states, 0)),
        ("last_hidden_state".into(), states.last().ok_or("no states")?.shallow_clone()),
    ])
}

/// Computes the contexts of Anima's text conditioner, with and without masks.
pub fn anima_conditioner(case: &Case) -> Result<Outputs> {
    let conditioner = load_conditioner(case.model("model")?)?;
    let (source, ids) = (case.input("source")?, case.input("target_ids")?);
    let (b, tokens) = ids.size2()?;
    let states = source.size3()?.1;
    let context = conditioner.forward(
        source,
        &lengths(case.input("source_mask")?)?,
        ids,
        &lengths(case.input("target_mask")?)?,
    )?;
    let unmasked = conditioner.forward(source, &vec![states; b as usize], ids, &vec![tokens; b as usize])?;
    for padded in [&context, &unmasked] {
        let rows = padded.size3()?.1;
        assert_eq!(padded.narrow(1, tokens, rows - tokens).count_nonzero(None).int64_value(&[]), 0);
    }
    Ok(vec![
        ("length".into(), Tensor::from_slice(&[context.size3()?.1])),
        ("context".into(), context.narrow(1, 0, tokens)),
        ("unmasked".into(), unmasked.narrow(1, 0, tokens)),
    ])
}

/// Computes Qwen-Image's autoencoder.
pub fn qwen_vae(case: &Case) -> Result<Outputs> {
    let (config, w) = load(case.model("model")?)?;
    let vae = QwenVae::new(&w, &QwenVaeConfig::from_json("config.json", &config)?)?;
    assert_eq!(w.report().unused, []);
    let posterior = vae.encode(case.input("image")?)?;
    let latent = vae.unscaled(case.input("latents")?)?;
    Ok(vec![
        ("normalised".into(), vae.scaled(&posterior.mean)?),
        ("decoded".into(), vae.decode(&latent)?),
        ("decoded_unclamped".into(), vae.decode_unclamped(&latent)?),
        ("mean".into(), posterior.mean),
        ("logvar".into(), posterior.logvar),
    ])
}

/// Computes VAEs whose latents are shifted.
pub fn vae_shift(case: &Case) -> Result<Outputs> {
    let (config, w) = load(case.model("model")?)?;
    let vae = Vae::new(&w, &VaeConfig::from_json("config.json", &config)?)?;
    assert_eq!(w.report().unused, []);
    let posterior = vae.encode(case.input("image")?)?;
    let sampled = posterior.sample(case.input("posterior_noise")?)?;
    Ok(vec![
        ("sampled_scaled".into(), vae.scaled(&sampled)?),
        ("mean_scaled".into(), vae.scaled(&posterior.mean)?),
        ("decoded".into(), vae.decode(&vae.unscaled(case.input("latents")?)?)?),
        ("mean".into(), posterior.mean),
        ("logvar".into(), posterior.logvar),
    ])
}

/// Computes T5's states.
pub fn t5_text(case: &Case) -> Result<Outputs> {
    let (config, w) = load(case.model("model")?)?;
    let t5 = T5::new(&w, &T5Config::from_json("config.json", &config)?)?;
    assert_eq!(w.report().unused, []);
    let states = t5.forward(case.input("input_ids")?)?;
    Ok(vec![
        ("hidden_states".into(), Tensor::stack(&states, 0)),
        ("last_hidden_state".into(), states.last().ok_or("no states")?.shallow_clone()),
    ])
}

/// Compares the names and shapes of the tensors that networks of published sizes ask for.
pub fn real_configs_flow(case: &Case) -> Result<Outputs> {
    let config = String::from_utf8(case.read("config.json")?)?;
    let manifest: Vec<(String, Vec<i64>, String)> = case.json("manifest.json.gz")?;
    // The weights are empty, so that the report of missing tensors lists what the network asks for.
    let w = Weights::new("nothing", Tensors::new(), Kind::Float, device());
    let has = |name: &str| manifest.iter().any(|(parameter, ..)| parameter == name);
    let made = if has("embed_tokens.weight") {
        Qwen3::new(&w, &Qwen3Config::from_json("", &config)?).map(drop)
    } else if has("blocks.0.cross_attn.k_norm.weight") {
        AnimaConditioner::new(&w, &AnimaConditionerConfig::from_json("", &config)?).map(drop)
    } else if has("patch_embed.proj.weight") {
        CosmosTransformer::new(&w, &CosmosConfig::from_json("", &config)?).map(drop)
    } else if has("decoder.norm_out.gamma") {
        QwenVae::new(&w, &QwenVaeConfig::from_json("", &config)?).map(drop)
    } else if has("decoder.conv_norm_out.weight") {
        Vae::new(&w, &VaeConfig::from_json("", &config)?).map(drop)
    } else if has("shared.weight") {
        T5::new(&w, &T5Config::from_json("", &config)?).map(drop)
    } else {
        return Err("no network for these parameters".into());
    };
    let Err(Error::Weights(report)) = made else { return Err(format!("{made:?}").into()) };
    // T5's embedding has two names. A single picture needs no tensor that joins frames, and the last frame of a kernel.
    let needed = |name: &str| name != "encoder.embed_tokens.weight" && !name.contains(".time_conv.");
    let of_picture = |shape: Vec<i64>| match shape.as_slice() {
        [outputs, inputs, _, h, w] => vec![*outputs, *inputs, *h, *w],
        _ => shape,
    };
    let wanted = manifest.into_iter().filter(|(name, ..)| needed(name));
    let wanted: BTreeMap<_, _> = wanted.map(|(name, shape, _)| (name, of_picture(shape))).collect();
    assert_eq!(report.missing.len(), wanted.len());
    let asked: BTreeMap<_, _> = report.missing.into_iter().map(|missing| (missing.name, missing.shape)).collect();
    assert_eq!(asked, wanted);
    Ok(Vec::new())
}
