//! The transformer of Stable Diffusion 3 in single files, and T5: their names, and the configurations that their
//! tensors show.

use super::names::Storage;
use super::shapes::Shapes;
use serde_json::{Value, json};

/// Tensor by which a transformer in the original layout is recognized.
pub(super) const JOINT: &str = "joint_blocks.0.x_block.attn.qkv.weight";
/// Tensor by which a transformer in diffusers' layout is recognized, beside [`POSITIONS_OF_DIFFUSERS`].
pub(super) const JOINT_OF_DIFFUSERS: &str = "transformer_blocks.0.attn.add_q_proj.weight";
/// Table of positions in diffusers' layout. Flux and Qwen-Image compute positions instead.
pub(super) const POSITIONS_OF_DIFFUSERS: &str = "pos_embed.pos_embed";
/// Tensor by which an encoder of T5 is recognized.
pub(super) const T5: &str = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight";
/// Prefixes of T5's tensors: in a model's file, and in a file of its own.
pub(super) const T5_PREFIXES: [&str; 2] = ["text_encoders.t5xxl.transformer.", ""];
/// Prefix of the second text encoder in a model's file.
pub(super) const CLIP_G: &str = "text_encoders.clip_g.transformer.";
/// Prefix of the first text encoder in a model's file.
pub(super) const CLIP_L: &str = "text_encoders.clip_l.transformer.";
/// Width of each head, which tensors show only where queries are normed.
const HEAD: i64 = 64;

/// A layer of a transformer in both layouts.
struct Layer {
    diffusers: &'static str,
    original: &'static str,
    storage: Storage,
}

/// Describes a layer that both layouts store alike.
const fn same(diffusers: &'static str, original: &'static str) -> Layer {
    Layer { diffusers, original, storage: Storage::Same }
}

/// Describes a layer that is a third of an original one.
const fn third(diffusers: &'static str, original: &'static str, third: i64) -> Layer {
    Layer { diffusers, original, storage: Storage::Third(third) }
}

/// Layers of a block, inside `transformer_blocks.i` and `joint_blocks.i`.
const OF_BLOCK: [Layer; 24] = [
    third("attn.to_q", "x_block.attn.qkv", 0),
    third("attn.to_k", "x_block.attn.qkv", 1),
    third("attn.to_v", "x_block.attn.qkv", 2),
    same("attn.norm_q", "x_block.attn.ln_q"),
    same("attn.norm_k", "x_block.attn.ln_k"),
    same("attn.to_out.0", "x_block.attn.proj"),
    third("attn2.to_q", "x_block.attn2.qkv", 0),
    third("attn2.to_k", "x_block.attn2.qkv", 1),
    third("attn2.to_v", "x_block.attn2.qkv", 2),
    same("attn2.norm_q", "x_block.attn2.ln_q"),
    same("attn2.norm_k", "x_block.attn2.ln_k"),
    same("attn2.to_out.0", "x_block.attn2.proj"),
    same("ff.net.0.proj", "x_block.mlp.fc1"),
    same("ff.net.2", "x_block.mlp.fc2"),
    same("norm1.linear", "x_block.adaLN_modulation.1"),
    third("attn.add_q_proj", "context_block.attn.qkv", 0),
    third("attn.add_k_proj", "context_block.attn.qkv", 1),
    third("attn.add_v_proj", "context_block.attn.qkv", 2),
    same("attn.norm_added_q", "context_block.attn.ln_q"),
    same("attn.norm_added_k", "context_block.attn.ln_k"),
    same("attn.to_add_out", "context_block.attn.proj"),
    same("ff_context.net.0.proj", "context_block.mlp.fc1"),
    same("ff_context.net.2", "context_block.mlp.fc2"),
    same("norm1_context.linear", "context_block.adaLN_modulation.1"),
];

/// Layers outside of the blocks.
const OUTSIDE: [Layer; 8] = [
    same("pos_embed.proj", "x_embedder.proj"),
    same("time_text_embed.timestep_embedder.linear_1", "t_embedder.mlp.0"),
    same("time_text_embed.timestep_embedder.linear_2", "t_embedder.mlp.2"),
    same("time_text_embed.text_embedder.linear_1", "y_embedder.mlp.0"),
    same("time_text_embed.text_embedder.linear_2", "y_embedder.mlp.2"),
    same("context_embedder", "context_embedder"),
    same("proj_out", "final_layer.linear"),
    // diffusers stores the scale before the shift.
    Layer { diffusers: "norm_out.linear", original: "final_layer.adaLN_modulation.1", storage: Storage::Exchanged },
];

/// Splits the name of a tensor or path at the block's index: prefix `start`, the index, and the rest.
fn in_block<'n>(name: &'n str, start: &str) -> Option<(usize, &'n str)> {
    let (index, inside) = name.strip_prefix(start)?.split_once('.')?;
    Some((index.parse().ok()?, inside))
}

/// Returns the index of the last block, from the names of a transformer's tensors without prefix, or from paths.
pub(super) fn last_block<'n>(names: impl Iterator<Item = &'n str>) -> usize {
    let index =
        |name: &'n str| Some(in_block(name, "joint_blocks.").or_else(|| in_block(name, "transformer_blocks."))?.0);
    names.filter_map(index).max().unwrap_or_default()
}

/// Returns the form in which the original layout stores a layer. The text ends in the last block, where diffusers
/// stores the scale of its norm before the shift.
fn storage(layer: &Layer, is_last: bool) -> Storage {
    if is_last && layer.diffusers == "norm1_context.linear" { Storage::Exchanged } else { layer.storage }
}

/// Returns diffusers' names of a transformer's tensor, from its name without prefix, and the forms in which the tensor
/// has them; none for a tensor that diffusers does not have. `last` is the index of the last block.
pub(super) fn transformer(name: &str, last: usize) -> Vec<(String, Storage)> {
    if name == "pos_embed" {
        return vec![(POSITIONS_OF_DIFFUSERS.into(), Storage::Same)];
    }
    let Some((path, end)) = name.rsplit_once('.') else { return Vec::new() };
    if let Some((index, inside)) = in_block(path, "joint_blocks.") {
        let layers = OF_BLOCK.iter().filter(|layer| layer.original == inside);
        let named = |layer: &Layer| {
            (format!("transformer_blocks.{index}.{}.{end}", layer.diffusers), storage(layer, index == last))
        };
        return layers.map(named).collect();
    }
    let layers = OUTSIDE.iter().filter(|layer| layer.original == path);
    layers.map(|layer| (format!("{}.{end}", layer.diffusers), layer.storage)).collect()
}

/// Returns the original path of a transformer's layer, from its path in diffusers, and the form in which the original
/// layer has it. `last` is the index of the last block.
pub(super) fn original(path: &str, last: usize) -> Option<(String, Storage)> {
    if let Some((index, inside)) = in_block(path, "transformer_blocks.") {
        let layer = OF_BLOCK.iter().find(|layer| layer.diffusers == inside)?;
        return Some((format!("joint_blocks.{index}.{}", layer.original), storage(layer, index == last)));
    }
    let layer = OUTSIDE.iter().find(|layer| layer.diffusers == path)?;
    Some((layer.original.into(), layer.storage))
}

/// Returns true for a tensor of a LoRA that changes Stable Diffusion 3, by its name. Other transformers with joint
/// attention have some of these names.
pub(super) fn changes(name: &str) -> bool {
    /// Layers that Anima, which has other names in common, does not have.
    const OWN: [&str; 4] = ["_attn_to_", "_attn_add_", "_ff_context_", "_norm1_context_"];
    let joined = name.replace('.', "_");
    let in_blocks = joined.contains("transformer_blocks_") && OWN.iter().any(|layer| joined.contains(layer));
    in_blocks || joined.contains("joint_blocks_")
}

/// Derives the transformer's configuration.
pub(super) fn transformer_config(shapes: &Shapes<'_>) -> Value {
    let block = |index: usize| format!("transformer_blocks.{index}");
    let layers = shapes.count("transformer_blocks.");
    let width = shapes.side("pos_embed.proj.weight", 0);
    let normed = shapes.side(&format!("{}.attn.norm_q.weight", block(0)), 0);
    let head = if normed > 0 { normed } else { HEAD };
    let is_dual = |index: &usize| shapes.side(&format!("{}.attn2.to_q.weight", block(*index)), 0) > 0;
    json!({
        "_class_name": "SD3Transformer2DModel", "sample_size": 128, "patch_size": 2, "num_layers": layers,
        "in_channels": shapes.side("pos_embed.proj.weight", 1),
        "out_channels": shapes.side("proj_out.weight", 0) / 4, // a patch has four cells
        "num_attention_heads": width / head, "attention_head_dim": head, "caption_projection_dim": width,
        "joint_attention_dim": shapes.side("context_embedder.weight", 1),
        "pooled_projection_dim": shapes.side("time_text_embed.text_embedder.linear_1.weight", 1),
        "pos_embed_max_size": shapes.side(POSITIONS_OF_DIFFUSERS, 1).max(0).isqrt(),
        "dual_attention_layers": (0..layers).filter(is_dual).collect::<Vec<_>>(),
        "qk_norm": if normed > 0 { json!("rms_norm") } else { Value::Null },
    })
}

/// Derives the configuration of T5.
pub(super) fn t5_config(shapes: &Shapes<'_>) -> Value {
    let layer = "encoder.block.0.layer";
    let heads = shapes.side(T5, 1);
    let table = ["shared.weight", "encoder.embed_tokens.weight"].map(|name| [0, 1].map(|side| shapes.side(name, side)));
    let [vocabulary, width] = table.into_iter().max().unwrap_or_default();
    json!({
        "architectures": ["T5EncoderModel"], "vocab_size": vocabulary, "d_model": width,
        "d_kv": shapes.side(&format!("{layer}.0.SelfAttention.q.weight"), 0) / heads.max(1),
        "d_ff": shapes.side(&format!("{layer}.1.DenseReluDense.wi_0.weight"), 0),
        "num_layers": shapes.count("encoder.block."), "num_heads": heads,
        "relative_attention_num_buckets": shapes.side(T5, 0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn original_names_are_found_again() {
        for (name, want) in [
            ("joint_blocks.3.x_block.attn.qkv.weight", "transformer_blocks.3.attn.to_q.weight"),
            ("joint_blocks.0.context_block.attn.proj.bias", "transformer_blocks.0.attn.to_add_out.bias"),
            ("joint_blocks.1.context_block.mlp.fc2.weight", "transformer_blocks.1.ff_context.net.2.weight"),
            ("y_embedder.mlp.2.weight", "time_text_embed.text_embedder.linear_2.weight"),
        ] {
            let names = transformer(name, 5);
            assert_eq!(names.first().map(|(name, _)| name.as_str()), Some(want));
            let path = |name: &str| name.rsplit_once('.').unwrap().0.to_owned();
            for (renamed, stored) in &names {
                assert_eq!(original(&path(renamed), 5), Some((path(name), *stored)));
            }
        }
        assert_eq!(transformer("joint_blocks.3.x_block.attn.qkv.bias", 5).len(), 3);
        assert!(transformer("model_sampling.sigmas", 5).is_empty());
    }

    #[test]
    fn scale_and_shift_are_exchanged_at_the_end() {
        let stored = |name: &str, last| transformer(name, last).pop().map(|(_, stored)| stored);
        let name = "joint_blocks.5.context_block.adaLN_modulation.1.weight";
        assert_eq!((stored(name, 5), stored(name, 6)), (Some(Storage::Exchanged), Some(Storage::Same)));
        assert_eq!(stored("final_layer.adaLN_modulation.1.bias", 5), Some(Storage::Exchanged));
    }
}
