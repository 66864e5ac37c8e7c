//! Texts and autoencoders of flow models: kinds `tokenize_flow`, `qwen3_text`, `anima_conditioner`, `anima_weights`,
//! `qwen_vae`, `vae_shift`, `t5_text` and `real_configs_flow`.

use super::case::read;
use super::networks::{check_parameters, load};
use super::{Case, Outputs, Result};
use impasto::nn::anima_conditioner::{AnimaConditioner, AnimaConditionerConfig};
use impasto::nn::cosmos::{CosmosConfig, CosmosTransformer};
use impasto::nn::mmdit::{Sd3Config, Sd3Transformer};
use impasto::nn::qwen_vae::{QwenVae, QwenVaeConfig};
use impasto::nn::qwen3::{Qwen3, Qwen3Config};
use impasto::nn::t5::{T5, T5Config};
use impasto::nn::z_image::{ZImageConfig, ZImageTransformer};
use impasto::nn::{ConfigFile, Vae, VaeConfig};
use impasto::prompt::{Piece, parse};
use impasto::text::anima::AnimaText;
use impasto::text::{SequenceTokenizer, TextOptions};
use impasto::weights::Weights;
use serde::Deserialize;
use std::path::Path;
use tch::{Kind, Tensor};

/// Opens a tokenizer's folder, which has a `tokenizer.json`, or Qwen's vocabulary and merges.
fn open(folder: &Path) -> Result<SequenceTokenizer> {
    let file = |name: &str| read(&folder.join(name));
    if folder.join("tokenizer.json").exists() {
        return Ok(SequenceTokenizer::from_json(&file("tokenizer.json")?)?);
    }
    let (vocab, merges) = (file("vocab.json")?, file("merges.txt")?);
    Ok(SequenceTokenizer::from_vocab(&vocab, &merges, &file("tokenizer_config.json")?)?)
}

/// Splits texts into tokens with the tokenizers of Qwen and T5.
pub fn tokenize_flow(case: &Case) -> Result<Outputs> {
    #[derive(Deserialize)]
    struct Expected {
        text: String,
        ids: Vec<i64>,
        offsets: Vec<(usize, usize)>,
        tokens: Vec<String>,
    }
    let tokenizer = open(&case.dir.join(case.param::<String>("tokenizer")?))?;
    let (texts, length): (Vec<String>, usize) = (case.param("texts")?, case.param("max_length")?);
    let expected: Vec<Expected> = case.json("expected.json")?;
    if expected.iter().map(|expected| &expected.text).ne(&texts) {
        return Err("expected.json has other texts than case.json; make both files by one run".into());
    }
    let (mut rows, mut masks) = (Vec::new(), Vec::new());
    for Expected { text, ids, offsets, tokens } in expected {
        let got = tokenizer.encode(&text)?;
        let mut want = got.clone();
        (want.ids, want.tokens) = (ids, tokens);
        want.offsets = offsets.into_iter().map(|(start, end)| start..end).collect();
        if got != want {
            return Err(format!("{text:?} became\n  {got:?}, expected\n  {want:?}").into());
        }
        rows.push(Tensor::from_slice(&tokenizer.pad_to(&text, length)?));
        let mask: Vec<i64> = (0..length).map(|at| i64::from(at < got.ids.len())).collect();
        masks.push(Tensor::from_slice(&mask));
    }
    Ok(vec![("padded_ids".into(), Tensor::stack(&rows, 0)), ("padded_mask".into(), Tensor::stack(&masks, 0))])
}

/// Loads Qwen3 from a model's folder.
fn load_qwen3(folder: &Path) -> Result<Qwen3> {
    let (config, w) = load(folder)?;
    let network = Qwen3::new(&w, &Qwen3Config::from_json("config.json", &config)?)?;
    assert_eq!(w.report().unused, []);
    Ok(network)
}

/// Loads Anima's text conditioner from a model's folder.
fn load_conditioner(folder: &Path) -> Result<AnimaConditioner> {
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

/// Computes the contexts of prompts with weights.
pub fn anima_weights(case: &Case) -> Result<Outputs> {
    #[derive(Deserialize)]
    struct Weighted {
        id: String,
        segments: Vec<(String, f64)>,
    }
    let text = AnimaText::new(
        load_qwen3(case.model("text_encoder")?)?,
        load_conditioner(case.model("text_conditioner")?)?,
        open(case.model("tokenizer")?)?,
        open(case.model("t5_tokenizer")?)?,
    )?;
    let mut out = Outputs::new();
    for Weighted { id, segments } in case.param::<Vec<Weighted>>("prompts")? {
        let written = segments.iter().map(|(text, weight)| match *weight {
            1.0 => text.clone(),
            weight => format!("({text}:{weight})"),
        });
        let prompt: String = written.collect();
        let pieces = parse(&prompt).into_iter().map(|piece| match piece {
            Piece::Text { text, weight, .. } => (text, weight),
            Piece::Break => panic!("{prompt} has a break"),
        });
        assert_eq!(pieces.collect::<Vec<_>>(), segments, "the markup means the case's segments");
        let tokens = text.read(&prompt, TextOptions::default())?;
        let count = tokens.ids.len() as i64;
        out.push((format!("{id}.context"), text.encode(&tokens)?.narrow(1, 0, count)));
        out.push((format!("{id}.weights"), Tensor::from_slice(&tokens.weights)));
        out.push((format!("{id}.ids"), Tensor::from_slice(&tokens.ids)));
    }
    Ok(out)
}

/// Computes Qwen-Image's autoencoder.
pub fn qwen_vae(case: &Case) -> Result<Outputs> {
    let (config, w) = load(case.model("model")?)?;
    let vae = QwenVae::new(&w, &QwenVaeConfig::from_json("config.json", &config)?)?;
    assert_eq!(w.report().unused, []);
    let posterior = vae.encode(case.input("image")?)?;
    let latent = vae.unscale(case.input("latents")?)?;
    Ok(vec![
        ("normalised".into(), vae.scale(&posterior.mean)?),
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

/// Compares the parameters of full-size networks of flow models.
pub fn real_configs_flow(case: &Case) -> Result<Outputs> {
    let make = |w: &Weights, config: &str, has: &dyn Fn(&str) -> bool| {
        if has("embed_tokens.weight") {
            Qwen3::new(w, &Qwen3Config::from_json("", config)?).map(drop)
        } else if has("blocks.0.cross_attn.k_norm.weight") {
            AnimaConditioner::new(w, &AnimaConditionerConfig::from_json("", config)?).map(drop)
        } else if has("cap_embedder.1.weight") {
            ZImageTransformer::new(w, &ZImageConfig::from_json("", config)?).map(drop)
        } else if has("patch_embed.proj.weight") {
            CosmosTransformer::new(w, &CosmosConfig::from_json("", config)?).map(drop)
        } else if has("pos_embed.pos_embed") {
            Sd3Transformer::new(w, &Sd3Config::from_json("", config)?).map(drop)
        } else if has("decoder.norm_out.gamma") {
            QwenVae::new(w, &QwenVaeConfig::from_json("", config)?).map(drop)
        } else if has("decoder.conv_norm_out.weight") {
            Vae::new(w, &VaeConfig::from_json("", config)?).map(drop)
        } else {
            T5::new(w, &T5Config::from_json("", config)?).map(drop)
        }
    };
    // T5's embedding has two names. A single picture needs no tensor that joins frames, and the last frame of a kernel.
    check_parameters(case, make, |name, shape| {
        let is_needed = name != "encoder.embed_tokens.weight" && !name.contains(".time_conv.");
        is_needed.then(|| match shape.as_slice() {
            [outputs, inputs, _, h, w] => vec![*outputs, *inputs, *h, *w],
            _ => shape,
        })
    })
}
