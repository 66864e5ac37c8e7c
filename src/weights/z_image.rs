//! The transformer of Z-Image in single files: its names, and the configuration that its tensors show.

use super::names::Storage;
use super::shapes::Shapes;
use serde_json::{Value, json};

/// Tensor by which a transformer is recognized, in both layouts. Lumina-Image 2.0, which has other names in common,
/// counts its modulation's layers from 1.
pub(super) const LAYER: &str = "layers.0.adaLN_modulation.0.weight";

/// Layers of attention in both layouts, inside `attention`. Queries, keys and values are thirds of one original layer.
const ATTENTION: [(&str, &str, Storage); 6] = [
    ("to_q", "qkv", Storage::Third(0)),
    ("to_k", "qkv", Storage::Third(1)),
    ("to_v", "qkv", Storage::Third(2)),
    ("norm_q", "q_norm", Storage::Same),
    ("norm_k", "k_norm", Storage::Same),
    ("to_out.0", "out", Storage::Same),
];

/// Beginnings of names outside of the layers in both layouts.
const OUTSIDE: [(&str, &str); 2] = [("all_x_embedder.2-1", "x_embedder"), ("all_final_layer.2-1", "final_layer")];

/// Returns diffusers' names of a transformer's tensor, from its name without prefix in either layout, and the forms in
/// which the tensor has them; none for a tensor that diffusers does not have.
pub(super) fn transformer(name: &str) -> Vec<(String, Storage)> {
    if name.starts_with("norm_final.") {
        return Vec::new(); // left from the training, and unused
    }
    if let Some((start, rest)) = name.split_once(".attention.") {
        let Some((inside, end)) = rest.rsplit_once('.') else { return Vec::new() };
        let named = |layer: &str| format!("{start}.attention.{layer}.{end}");
        let layers = ATTENTION.iter().filter(|(_, original, _)| *original == inside);
        let renamed: Vec<_> = layers.map(|(layer, _, storage)| (named(layer), *storage)).collect();
        return if renamed.is_empty() { vec![(name.into(), Storage::Same)] } else { renamed };
    }
    let outside = OUTSIDE.iter().find_map(|(own, original)| {
        let rest = name.strip_prefix(original)?;
        rest.starts_with('.').then(|| format!("{own}{rest}"))
    });
    vec![(outside.unwrap_or_else(|| name.into()), Storage::Same)]
}

/// Returns the original path of a transformer's layer, from its path in diffusers, and the form in which the original
/// layer has it; `None` for a layer with one name.
pub(super) fn original(path: &str) -> Option<(String, Storage)> {
    if let Some((start, inside)) = path.split_once(".attention.") {
        let (_, original, storage) = ATTENTION.iter().find(|(layer, ..)| *layer == inside)?;
        return Some((format!("{start}.attention.{original}"), *storage));
    }
    OUTSIDE.iter().find_map(|(own, original)| Some((format!("{original}{}", path.strip_prefix(own)?), Storage::Same)))
}

/// Returns true for a tensor of a LoRA that changes Z-Image, by its name. Lumina-Image 2.0 has the same names, and
/// layers of another width.
pub(super) fn changes(name: &str) -> bool {
    const OWN: [&str; 4] = ["attention_to_", "attention_qkv", "attention_out", "feed_forward_w"];
    let joined = name.replace('.', "_");
    let in_layer = |stack: &str| {
        joined.split(stack).skip(1).any(|rest| {
            let inside = rest.trim_start_matches(|letter: char| letter.is_ascii_digit());
            inside.len() < rest.len()
                && OWN.iter().any(|layer| inside.strip_prefix('_').is_some_and(|i| i.starts_with(layer)))
        })
    };
    ["layers_", "noise_refiner_", "context_refiner_"].iter().any(|stack| in_layer(stack))
        || joined.contains("qwen3_4b_")
}

/// Derives the transformer's configuration. Three of eight parts of a head rotate by rows, three by columns, and two by
/// the place in the caption.
pub(super) fn transformer_config(shapes: &Shapes<'_>) -> Value {
    let (width, head) = (shapes.side("cap_embedder.1.weight", 0), shapes.side("layers.0.attention.norm_q.weight", 0));
    let heads = width / head.max(1);
    let of_grid = head * 3 / 8;
    json!({
        "_class_name": "ZImageTransformer2DModel", "dim": width, "n_heads": heads, "n_kv_heads": heads,
        "in_channels": shapes.side("all_x_embedder.2-1.weight", 1) / 4, // a patch has four cells
        "n_layers": shapes.count("layers."), "n_refiner_layers": shapes.count("noise_refiner."),
        "cap_feat_dim": shapes.side("cap_embedder.1.weight", 1),
        "axes_dims": [head - 2 * of_grid, of_grid, of_grid],
        "time_width": shapes.side("t_embedder.mlp.0.weight", 0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn original_names_are_found_again() {
        for (name, want) in [
            ("layers.3.attention.qkv.weight", "layers.3.attention.to_q.weight"),
            ("noise_refiner.0.attention.out.weight", "noise_refiner.0.attention.to_out.0.weight"),
            ("context_refiner.1.attention.k_norm.weight", "context_refiner.1.attention.norm_k.weight"),
            ("final_layer.adaLN_modulation.1.bias", "all_final_layer.2-1.adaLN_modulation.1.bias"),
            ("x_embedder.weight", "all_x_embedder.2-1.weight"),
        ] {
            let names = transformer(name);
            assert_eq!(names.first().map(|(name, _)| name.as_str()), Some(want));
            let path = |name: &str| name.rsplit_once('.').unwrap().0.to_owned();
            for (renamed, stored) in &names {
                assert_eq!(original(&path(renamed)), Some((path(name), *stored)));
                assert_eq!(transformer(renamed), [(renamed.clone(), Storage::Same)], "diffusers' names stay");
            }
        }
        assert_eq!(
            (transformer("layers.0.attention.qkv.weight").len(), transformer("norm_final.weight").len()),
            (3, 0)
        );
        assert_eq!(transformer("x_pad_token"), [("x_pad_token".to_owned(), Storage::Same)]);
    }

    #[test]
    fn loras_are_told_by_their_layers() {
        let own = [
            "transformer.layers.0.attention.to_q.lora_A.weight",
            "diffusion_model.layers.12.attention.qkv.lora_down.weight",
            "lora_unet_layers_29_feed_forward_w1.lora_up.weight",
            "diffusion_model.context_refiner.0.attention.out.alpha",
            "lora_unet__layers_0_attention_to_q.lora_down.weight",
            "text_encoders.qwen3_4b.transformer.model.layers.0.mlp.up_proj.lora_A.weight",
        ];
        let others = [
            "lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight",
            "transformer.transformer_blocks.0.attn.to_q.lora_A.weight",
            "lora_unet_layers_attention_to_q.alpha",
        ];
        assert!(own.iter().all(|name| changes(name)) && !others.iter().any(|name| changes(name)));
    }
}
