//! Anima's files in ComfyUI's layout: the transformer with the text conditioner, the text encoder, and the VAE, under
//! the names of Cosmos, Qwen3 and Wan. The parts are in files of their own, or in one file with a prefix for each part.

use super::names::{Storage, UNET};
use super::shapes::Shapes;
use serde_json::{Value, json};

/// Tensor by which a transformer of Cosmos-Predict2 is recognized.
pub(super) const PATCHES: &str = "x_embedder.proj.1.weight";
/// Prefix of the text conditioner's names in the transformer's file.
pub(super) const CONDITIONER: &str = "llm_adapter.";
/// Tensor by which a VAE of Wan and Qwen-Image is recognized.
pub(super) const VAE: &str = "decoder.middle.0.residual.0.gamma";
/// Tensor of Qwen3 with a row for each token.
pub(super) const TOKENS: &str = "embed_tokens.weight";
/// Prefixes of the transformer's tensors: in a model's file, and in a file of its own.
pub(super) const PREFIXES: [&str; 3] = ["model.diffusion_model.net.", UNET, ""];
/// Prefixes of Qwen3's tensors: in a model's file, and in a file of its own. Z-Image has the larger encoder.
pub(super) const TEXT_PREFIXES: [&str; 4] = [
    "text_encoders.qwen3_06b.transformer.model.",
    "cond_stage_model.qwen3_06b.transformer.model.",
    "text_encoders.qwen3_4b.transformer.model.",
    "",
];
/// Prefixes of the VAE's tensors: in a model's file, and in a file of its own.
pub(super) const VAE_PREFIXES: [&str; 3] = ["first_stage_model.", "vae.", ""];

/// Returns diffusers' name of a transformer's tensor, from its name without prefix; `None` for one that diffusers does
/// not have: tables of positions and counters of the training.
pub(super) fn transformer(name: &str) -> Option<(String, Storage)> {
    let parts: Vec<&str> = name.split('.').collect();
    let attention = |kind: &str| match kind {
        "self_attn" => Some("attn1"),
        "cross_attn" => Some("attn2"),
        _ => None,
    };
    let renamed = match parts.as_slice() {
        ["blocks", i, "mlp", "layer1", last] => format!("transformer_blocks.{i}.ff.net.0.proj.{last}"),
        ["blocks", i, "mlp", "layer2", last] => format!("transformer_blocks.{i}.ff.net.2.{last}"),
        ["blocks", i, kind, layer, last] => {
            let at = || Some(format!("transformer_blocks.{i}.{}", attention(kind)?));
            match (kind.strip_prefix("adaln_modulation_"), *layer) {
                (Some(part), number) => {
                    let norm = match part {
                        "self_attn" => "norm1",
                        "cross_attn" => "norm2",
                        "mlp" => "norm3",
                        _ => return None,
                    };
                    format!("transformer_blocks.{i}.{norm}.linear_{number}.{last}")
                }
                (None, "output_proj") => format!("{}.to_out.0.{last}", at()?),
                (None, "q_norm" | "k_norm") => format!("{}.norm_{}.{last}", at()?, layer.get(..1)?),
                (None, "q_proj" | "k_proj" | "v_proj") => format!("{}.to_{}.{last}", at()?, layer.get(..1)?),
                _ => return None,
            }
        }
        ["x_embedder", "proj", "1", last] => format!("patch_embed.proj.{last}"),
        ["t_embedder", "1", layer, last] => format!("time_embed.t_embedder.{layer}.{last}"),
        ["t_embedding_norm", last] => format!("time_embed.norm.{last}"),
        ["final_layer", "linear", last] => format!("proj_out.{last}"),
        ["final_layer", "adaln_modulation", number, last] => format!("norm_out.linear_{number}.{last}"),
        _ => return None,
    };
    Some((renamed, Storage::Same))
}

/// Returns the name in Cosmos of a transformer's layer, from its path in diffusers; `None` for a layer that LoRAs do
/// not change.
pub(super) fn original(path: &str) -> Option<String> {
    let parts: Vec<&str> = path.split('.').collect();
    let attention = |kind: &str| match kind {
        "attn1" => Some("self_attn"),
        "attn2" => Some("cross_attn"),
        _ => None,
    };
    Some(match parts.as_slice() {
        ["transformer_blocks", i, "ff", "net", "0", "proj"] => format!("blocks.{i}.mlp.layer1"),
        ["transformer_blocks", i, "ff", "net", "2"] => format!("blocks.{i}.mlp.layer2"),
        ["transformer_blocks", i, kind, "to_out", "0"] => format!("blocks.{i}.{}.output_proj", attention(kind)?),
        ["transformer_blocks", i, norm, layer] if norm.starts_with("norm") => {
            let part = match *norm {
                "norm1" => "self_attn",
                "norm2" => "cross_attn",
                _ => "mlp",
            };
            format!("blocks.{i}.adaln_modulation_{part}.{}", layer.strip_prefix("linear_")?)
        }
        ["transformer_blocks", i, kind, layer] => {
            format!("blocks.{i}.{}.{}_proj", attention(kind)?, layer.strip_prefix("to_")?)
        }
        ["patch_embed", "proj"] => "x_embedder.proj.1".into(),
        ["time_embed", "t_embedder", layer] => format!("t_embedder.1.{layer}"),
        ["proj_out"] => "final_layer.linear".into(),
        ["norm_out", layer] => format!("final_layer.adaln_modulation.{}", layer.strip_prefix("linear_")?),
        _ => return None,
    })
}

/// Returns true for a tensor of a LoRA that changes Anima, by its name.
pub(super) fn changes(name: &str) -> bool {
    let joined = name.replace('.', "_");
    let of_transformer = ["q", "k", "v", "output"].iter().any(|layer| {
        joined.contains(&format!("_attn_{layer}_proj"))
            && (joined.starts_with("blocks_") || joined.starts_with("lora_unet_blocks_"))
    });
    let in_diffusers = joined.starts_with("transformer_transformer_blocks_")
        && (joined.contains("_attn1_to_") || joined.contains("_attn2_to_"));
    let of_text = joined.contains("llm_adapter_") || joined.starts_with("text_conditioner_");
    of_transformer || in_diffusers || of_text || joined.contains("qwen3_06b_")
}

/// Returns diffusers' name of a VAE's tensor. `per_block` is the number of layers that `decoder.upsamples` has for each
/// block.
pub(super) fn vae(name: &str, per_block: usize) -> Option<(String, Storage)> {
    let parts: Vec<&str> = name.split('.').collect();
    // Layers 0, 2, 3 and 6 of a residual block have weights: norm, convolution, norm, convolution.
    let inner = |rest: &[&str]| {
        Some(match rest {
            ["residual", "0", last] => format!("norm1.{last}"),
            ["residual", "2", last] => format!("conv1.{last}"),
            ["residual", "3", last] => format!("norm2.{last}"),
            ["residual", "6", last] => format!("conv2.{last}"),
            ["shortcut", last] => format!("conv_shortcut.{last}"),
            ["resample" | "time_conv" | "norm" | "to_qkv" | "proj", ..] => rest.join("."),
            _ => return None,
        })
    };
    let renamed = match parts.as_slice() {
        ["conv1", last] => format!("quant_conv.{last}"),
        ["conv2", last] => format!("post_quant_conv.{last}"),
        [half, "conv1", last] => format!("{half}.conv_in.{last}"),
        [half, "head", "0", last] => format!("{half}.norm_out.{last}"),
        [half, "head", "2", last] => format!("{half}.conv_out.{last}"),
        [half, "middle", "0", rest @ ..] => format!("{half}.mid_block.resnets.0.{}", inner(rest)?),
        [half, "middle", "1", rest @ ..] => format!("{half}.mid_block.attentions.0.{}", inner(rest)?),
        [half, "middle", "2", rest @ ..] => format!("{half}.mid_block.resnets.1.{}", inner(rest)?),
        ["encoder", "downsamples", i, rest @ ..] => format!("encoder.down_blocks.{i}.{}", inner(rest)?),
        ["decoder", "upsamples", i, rest @ ..] => {
            let (block, layer) = (i.parse::<usize>().ok()? / per_block, i.parse::<usize>().ok()? % per_block);
            match rest {
                ["resample" | "time_conv", ..] => format!("decoder.up_blocks.{block}.upsamplers.0.{}", inner(rest)?),
                _ => format!("decoder.up_blocks.{block}.resnets.{layer}.{}", inner(rest)?),
            }
        }
        _ => return None,
    };
    Some((renamed, Storage::Same))
}

/// Returns the number of layers that `decoder.upsamples` has for each block, from the names of a VAE's tensors.
pub(super) fn layers_per_block<'n>(names: impl Iterator<Item = &'n str>) -> usize {
    let samplers = names.filter_map(|name| {
        let (layer, rest) = name.strip_prefix("decoder.upsamples.")?.split_once('.')?;
        rest.starts_with("resample.").then(|| layer.parse::<usize>().ok()).flatten()
    });
    samplers.min().map_or(1, |first| first.saturating_add(1))
}

/// Derives the transformer's configuration.
pub(super) fn transformer_config(shapes: &Shapes<'_>) -> Value {
    let block = "transformer_blocks.0";
    let head = shapes.side(&format!("{block}.attn1.norm_q.weight"), 0);
    let width = shapes.side("patch_embed.proj.weight", 0);
    // A patch has four cells; the last channel marks padding.
    let (inputs, outputs) = (shapes.side("patch_embed.proj.weight", 1) / 4, shapes.side("proj_out.weight", 0) / 4);
    let padded = inputs == outputs + 1;
    json!({
        "_class_name": "CosmosTransformer3DModel", "in_channels": inputs - i64::from(padded), "out_channels": outputs,
        "concat_padding_mask": padded, "num_attention_heads": width / head.max(1), "attention_head_dim": head,
        "num_layers": shapes.count("transformer_blocks."),
        "mlp_ratio": shapes.side(&format!("{block}.ff.net.0.proj.weight"), 0) as f64 / width.max(1) as f64,
        "text_embed_dim": shapes.side(&format!("{block}.attn2.to_k.weight"), 1),
        "adaln_lora_dim": shapes.side(&format!("{block}.norm1.linear_1.weight"), 0),
    })
}

/// Derives the text conditioner's configuration.
pub(super) fn conditioner_config(shapes: &Shapes<'_>) -> Value {
    let (width, head) = (shapes.side("norm.weight", 0), shapes.side("blocks.0.self_attn.q_norm.weight", 0));
    let hidden = shapes.side("blocks.0.mlp.0.weight", 0);
    json!({
        "_class_name": "AnimaTextConditioner", "model_dim": shapes.side("out_proj.weight", 1),
        "num_attention_heads": shapes.side("out_proj.weight", 1) / head.max(1), "num_layers": shapes.count("blocks."),
        "mlp_ratio": hidden as f64 / shapes.side("out_proj.weight", 1).max(1) as f64,
        "source_dim": shapes.side("blocks.0.cross_attn.k_proj.weight", 1), "target_dim": width,
        "target_vocab_size": shapes.side("embed.weight", 0),
    })
}

/// Derives the configuration of Qwen3.
pub(super) fn text_encoder_config(shapes: &Shapes<'_>) -> Value {
    let layer = "layers.0.self_attn";
    let head = shapes.side(&format!("{layer}.q_norm.weight"), 0);
    let heads = |of: &str| shapes.side(&format!("{layer}.{of}.weight"), 0) / head.max(1);
    json!({
        "architectures": ["Qwen3Model"], "vocab_size": shapes.side(TOKENS, 0), "hidden_size": shapes.side(TOKENS, 1),
        "intermediate_size": shapes.side("layers.0.mlp.gate_proj.weight", 0),
        "num_hidden_layers": shapes.count("layers."), "num_attention_heads": heads("q_proj"),
        "num_key_value_heads": heads("k_proj"), "head_dim": head, "rms_norm_eps": 1e-6, "rope_theta": 1e6,
    })
}

/// Derives the VAE's configuration, with the default means and deviations of latents, which tensors do not show.
pub(super) fn vae_config(shapes: &Shapes<'_>) -> Value {
    let (base, levels) = (shapes.side("encoder.conv_in.weight", 0), shapes.count("decoder.up_blocks."));
    let widths = (0..levels).rev().map(|i| {
        let conv = format!("decoder.up_blocks.{i}.resnets.0.conv2.weight");
        shapes.side(&conv, 0) / base.max(1)
    });
    json!({
        "_class_name": "AutoencoderKLQwenImage", "base_dim": base, "z_dim": shapes.side("decoder.conv_in.weight", 1),
        "dim_mult": widths.collect::<Vec<_>>(),
        "num_res_blocks": shapes.count("decoder.up_blocks.0.resnets.").saturating_sub(1),
        "attn_scales": [],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_transformer_become_those_of_diffusers() {
        let of = |name: &str| transformer(name).map(|(name, _)| name);
        for (name, want) in [
            ("blocks.3.self_attn.output_proj.weight", "transformer_blocks.3.attn1.to_out.0.weight"),
            ("blocks.0.cross_attn.k_norm.weight", "transformer_blocks.0.attn2.norm_k.weight"),
            ("blocks.0.adaln_modulation_mlp.2.weight", "transformer_blocks.0.norm3.linear_2.weight"),
            ("final_layer.adaln_modulation.1.weight", "norm_out.linear_1.weight"),
            ("t_embedder.1.linear_2.weight", "time_embed.t_embedder.linear_2.weight"),
        ] {
            assert_eq!(of(name).as_deref(), Some(want));
        }
        let path = |name: &str| name.trim_end_matches(".weight").to_owned();
        for name in
            ["blocks.3.self_attn.output_proj.weight", "blocks.0.adaln_modulation_mlp.2.weight", "blocks.1.mlp.layer1"]
        {
            let renamed = of(&format!("{}.weight", path(name))).expect("a name");
            assert_eq!(original(&path(&renamed)), Some(path(name)));
        }
        assert_eq!((of("pos_embedder.seq"), of("blocks.0.self_attn._extra_state")), (None, None));
    }

    #[test]
    fn layers_of_the_decoder_belong_to_blocks() {
        let names = ["decoder.upsamples.3.resample.1.weight", "decoder.upsamples.7.resample.1.weight"];
        let per_block = layers_per_block(names.into_iter());
        assert_eq!(per_block, 4);
        let of = |name: &str| vae(name, per_block).map(|(name, _)| name);
        assert_eq!(of(names[1]).as_deref(), Some("decoder.up_blocks.1.upsamplers.0.resample.1.weight"));
        assert_eq!(
            of("decoder.upsamples.4.residual.6.bias").as_deref(),
            Some("decoder.up_blocks.1.resnets.0.conv2.bias")
        );
        assert_eq!(of("encoder.middle.1.to_qkv.bias").as_deref(), Some("encoder.mid_block.attentions.0.to_qkv.bias"));
    }
}
