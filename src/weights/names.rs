//! Names of tensors in single files (LDM and SGM layout), and diffusers' names for the same tensors.
//!
//! Each part has a rule instead of a table. `tests/all/checkpoints.rs` checks the rules against every name of the
//! published files.

use super::Tensors;
use crate::error::Result;
use std::collections::{BTreeMap, BTreeSet};
use tch::Tensor;

/// Prefix of a UNet's tensor names in single files; some files omit the prefix.
pub(super) const UNET: &str = "model.diffusion_model.";

/// Prefixes that training programs and converters leave before tensor names: the names of dictionaries, and of modules
/// around a network.
const WRAPPERS: [&str; 7] = ["state_dict.", "module.", "_orig_mod.", "model.", "net.", "diffusion_model.", "unet."];

/// Returns a tensor's name without [`WRAPPERS`]. The prefix [`UNET`] stays, because it tells a UNet from other networks
/// of the file.
pub(super) fn unwrapped(mut name: &str) -> &str {
    while let Some(rest) = WRAPPERS.iter().find_map(|wrapper| name.strip_prefix(wrapper))
        && !name.starts_with(UNET)
    {
        name = rest;
    }
    name
}

/// Returns the entries of a file by their [unwrapped] names. An entry keeps its own name if another entry has the
/// unwrapped one.
pub(super) fn unwrap_all<T>(entries: BTreeMap<String, T>) -> BTreeMap<String, T> {
    let (wrapped, mut plain): (BTreeMap<_, _>, _) =
        entries.into_iter().partition(|(name, _)| unwrapped(name).len() < name.len());
    for (name, entry) in wrapped {
        let short = unwrapped(&name);
        let name = if plain.contains_key(short) { name } else { short.to_owned() };
        plain.insert(name, entry);
    }
    plain
}

/// Form in which a single file stores a tensor of diffusers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Storage {
    /// Stored unchanged.
    Same,
    /// A matrix stored as a 1×1 convolution.
    Cell,
    /// Stored as the transposed matrix.
    Transposed,
    /// Stored as a third of another tensor's rows: 0 is the query, 1 the key and 2 the value.
    Third(i64),
    /// Stored with the two halves of its rows exchanged.
    Exchanged,
}

impl Storage {
    /// Returns the tensor in diffusers' form, as a view unless halves are exchanged.
    pub(super) fn take(self, x: &Tensor) -> Result<Tensor> {
        Ok(match (self, x.size().as_slice()) {
            (Self::Cell, &[o, i, 1, 1] | &[o, i, 1]) => x.f_view([o, i])?,
            (Self::Transposed, &[_, _]) => x.f_transpose(0, 1)?,
            (Self::Third(third), &[rows, ..]) => x.f_narrow(0, third * (rows / 3), rows / 3)?,
            (Self::Exchanged, &[rows, ..]) => x.f_roll([rows / 2], [0])?,
            _ => x.shallow_clone(),
        })
    }
}

/// Numbers of blocks and levels, on which the numbers in a single file's tensor names depend.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    /// Blocks per level of a UNet: the residual blocks, and one for the downsampling to the next level.
    pub unet_blocks: usize,
    /// Levels of a VAE.
    pub vae_levels: usize,
}

impl Default for Layout {
    /// Returns the numbers that all published models have.
    fn default() -> Self {
        Self { unet_blocks: 3, vae_levels: 4 }
    }
}

impl Layout {
    /// Derives the numbers of a file from its tensor names, prefixes included.
    pub(super) fn of<'n>(names: impl Iterator<Item = &'n str>) -> Self {
        // A ControlNet in the same file repeats the numbers of the UNet's blocks, so each number is counted once.
        let (mut blocks, mut halvings, mut levels) = (0, BTreeSet::new(), 0);
        for name in names {
            let number = |after: &str| {
                let (_, rest) = name.split_once(after)?;
                rest.split('.').next()?.parse::<usize>().ok().filter(|&number| number < 1000)
            };
            blocks = blocks.max(number("input_blocks.").map_or(0, |i| i + 1));
            halvings.extend(number("input_blocks.").filter(|_| name.ends_with(".op.weight")));
            levels = levels.max(number("decoder.up.").map_or(0, |i| i + 1));
        }
        let (usual, halvings) = (Self::default(), halvings.len());
        let unet_blocks = if blocks > halvings { blocks / (halvings + 1) } else { usual.unet_blocks };
        Self { unet_blocks: unet_blocks.max(1), vae_levels: if levels > 0 { levels } else { usual.vae_levels } }
    }
}

/// Joins the parts of a name with dots: `a.b.c`.
fn join(start: impl AsRef<str>, rest: &[&str]) -> String {
    let mut name = start.as_ref().to_owned();
    for part in rest {
        name.push('.');
        name.push_str(part);
    }
    name
}

/// Returns diffusers' name of a UNet's or ControlNet's tensor, from its name without prefix; `None` if there is none.
pub(super) fn unet(name: &str, layout: Layout) -> Option<String> {
    let parts: Vec<&str> = name.split('.').collect();
    let per_level = layout.unet_blocks;
    let at = |index: &str| index.parse::<usize>().ok();
    let down = |index: &str| at(index)?.checked_sub(1).map(|i| (i / per_level, i % per_level));
    let up = |index: &str| at(index).map(|i| (i / per_level, i % per_level));
    Some(match parts.as_slice() {
        ["time_embed", "0", rest @ ..] => join("time_embedding.linear_1", rest),
        ["time_embed", "2", rest @ ..] => join("time_embedding.linear_2", rest),
        ["label_emb", "0", "0", rest @ ..] => join("add_embedding.linear_1", rest),
        ["label_emb", "0", "2", rest @ ..] => join("add_embedding.linear_2", rest),
        ["input_blocks", "0", "0", rest @ ..] => join("conv_in", rest),
        ["out", "0", rest @ ..] => join("conv_norm_out", rest),
        ["out", "2", rest @ ..] => join("conv_out", rest),
        ["input_blocks", index, "0", "op", rest @ ..] => {
            join(format!("down_blocks.{}.downsamplers.0.conv", down(index)?.0), rest)
        }
        ["input_blocks", index, "0", rest @ ..] => {
            let (level, i) = down(index)?;
            resnet(format!("down_blocks.{level}.resnets.{i}"), rest)?
        }
        ["input_blocks", index, "1", rest @ ..] => {
            let (level, i) = down(index)?;
            join(format!("down_blocks.{level}.attentions.{i}"), rest)
        }
        ["middle_block", "0", rest @ ..] => resnet("mid_block.resnets.0", rest)?,
        ["middle_block", "1", rest @ ..] => join("mid_block.attentions.0", rest),
        ["middle_block", "2", rest @ ..] => resnet("mid_block.resnets.1", rest)?,
        ["output_blocks", index, "1" | "2", "conv", rest @ ..] => {
            join(format!("up_blocks.{}.upsamplers.0.conv", up(index)?.0), rest)
        }
        ["output_blocks", index, "0", rest @ ..] => {
            let (level, i) = up(index)?;
            resnet(format!("up_blocks.{level}.resnets.{i}"), rest)?
        }
        ["output_blocks", index, "1", rest @ ..] => {
            let (level, i) = up(index)?;
            join(format!("up_blocks.{level}.attentions.{i}"), rest)
        }
        ["zero_convs", index, "0", rest @ ..] => join(format!("controlnet_down_blocks.{index}"), rest),
        ["middle_block_out", "0", rest @ ..] => join("controlnet_mid_block", rest),
        ["input_hint_block", "0", rest @ ..] => join("controlnet_cond_embedding.conv_in", rest),
        ["input_hint_block", "14", rest @ ..] => join("controlnet_cond_embedding.conv_out", rest),
        ["input_hint_block", index, rest @ ..] => {
            join(format!("controlnet_cond_embedding.blocks.{}", (at(index)? / 2).checked_sub(1)?), rest)
        }
        _ => return None,
    })
}

/// Returns diffusers' path of a UNet's module, from a single file's path with `_` for `.`; `None` if there is none. A
/// number after `in_layers`, `emb_layers` or `out_layers` is split off; other layer names stay as they are.
pub(super) fn unet_joined(path: &str, layout: Layout) -> Option<String> {
    // Numbers directly after the place belong to the place; later numbers belong to the layer's name.
    const PLACES: [&str; 6] = ["input_blocks", "output_blocks", "middle_block", "time_embed", "label_emb", "out"];
    let place = PLACES.iter().find(|place| path.strip_prefix(**place).is_some_and(|rest| rest.starts_with('_')))?;
    let mut rest = path.get(place.len()..)?;
    let mut name = (*place).to_owned();
    while let Some(next) = rest.strip_prefix('_') {
        let digits = next.len() - next.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        if digits == 0 {
            let (layer, number) = next.rsplit_once('_').unwrap_or((next, ""));
            let splits = ["in_layers", "emb_layers", "out_layers"].contains(&layer);
            name = if splits { join(name, &[layer, number]) } else { join(name, &[next]) };
            break;
        }
        let (number, after) = next.split_at_checked(digits)?;
        (name, rest) = (join(name, &[number]), after);
    }
    unet(&name, layout)
}

/// Returns diffusers' name of a tensor inside a UNet's residual block.
fn resnet(at: impl AsRef<str>, rest: &[&str]) -> Option<String> {
    let (layer, rest) = match rest {
        ["in_layers", "0", rest @ ..] => ("norm1", rest),
        ["in_layers", "2", rest @ ..] => ("conv1", rest),
        ["emb_layers", "1", rest @ ..] => ("time_emb_proj", rest),
        ["out_layers", "0", rest @ ..] => ("norm2", rest),
        ["out_layers", "3", rest @ ..] => ("conv2", rest),
        ["skip_connection", rest @ ..] => ("conv_shortcut", rest),
        _ => return None,
    };
    Some(join(join(at, &[layer]), rest))
}

/// Returns diffusers' name and the storage of a VAE's tensor, from its name without prefix.
pub(super) fn vae(name: &str, layout: Layout) -> Option<(String, Storage)> {
    let parts: Vec<&str> = name.split('.').collect();
    let (half, inside) = match parts.as_slice() {
        [half @ ("encoder" | "decoder"), inside @ ..] => (*half, inside),
        ["quant_conv" | "post_quant_conv", ..] => return Some((name.into(), Storage::Same)),
        _ => return None,
    };
    let same = |name: String| Some((join(half, &[&name]), Storage::Same));
    let level = |index: &str| match half {
        "encoder" => Some(format!("down_blocks.{index}")),
        // Single files count a decoder's levels from the picture to the latent, diffusers from the latent to the
        // picture.
        _ => Some(format!("up_blocks.{}", layout.vae_levels.checked_sub(1 + index.parse::<usize>().ok()?)?)),
    };
    match inside {
        ["conv_in" | "conv_out", ..] => same(inside.join(".")),
        ["norm_out", rest @ ..] => same(join("conv_norm_out", rest)),
        ["down" | "up", index, "block", i, rest @ ..] => {
            same(join(format!("{}.resnets.{i}", level(index)?), &shortcut(rest)))
        }
        ["down", index, "downsample", rest @ ..] => same(join(format!("{}.downsamplers.0", level(index)?), rest)),
        ["up", index, "upsample", rest @ ..] => same(join(format!("{}.upsamplers.0", level(index)?), rest)),
        ["mid", "block_1", rest @ ..] => same(join("mid_block.resnets.0", &shortcut(rest))),
        ["mid", "block_2", rest @ ..] => same(join("mid_block.resnets.1", &shortcut(rest))),
        ["mid", "attn_1", layer, rest @ ..] => {
            let layer = match *layer {
                "norm" => "group_norm",
                "q" => "to_q",
                "k" => "to_k",
                "v" => "to_v",
                "proj_out" => "to_out.0",
                _ => return None,
            };
            let stored = if rest == ["weight"] && layer != "group_norm" { Storage::Cell } else { Storage::Same };
            Some((join(half, &[&join(join("mid_block.attentions.0", &[layer]), rest)]), stored))
        }
        _ => None,
    }
}

/// Returns the parts of diffusers' name for a tensor inside a VAE's residual block.
fn shortcut<'n>(rest: &[&'n str]) -> Vec<&'n str> {
    rest.iter().map(|part| if *part == "nin_shortcut" { "conv_shortcut" } else { part }).collect()
}

/// Returns transformers' names of the tensors that OpenCLIP stores under `name` (without prefix), and their storage.
pub(super) fn open_clip(name: &str) -> Vec<(String, Storage)> {
    let parts: Vec<&str> = name.split('.').collect();
    let same = |name: String| vec![(name, Storage::Same)];
    match parts.as_slice() {
        ["token_embedding", "weight"] => same("text_model.embeddings.token_embedding.weight".into()),
        ["positional_embedding"] => same("text_model.embeddings.position_embedding.weight".into()),
        ["ln_final", rest @ ..] => same(join("text_model.final_layer_norm", rest)),
        ["text_projection"] => vec![("text_projection.weight".into(), Storage::Transposed)],
        ["text_projection", "weight"] => same(name.into()),
        ["transformer", "resblocks", layer, inside @ ..] => {
            let layer = format!("text_model.encoder.layers.{layer}");
            let at = |inner: &str, rest: &[&str]| same(join(join(&layer, &[inner]), rest));
            match inside {
                ["ln_1", rest @ ..] => at("layer_norm1", rest),
                ["ln_2", rest @ ..] => at("layer_norm2", rest),
                ["mlp", "c_fc", rest @ ..] => at("mlp.fc1", rest),
                ["mlp", "c_proj", rest @ ..] => at("mlp.fc2", rest),
                ["attn", "out_proj", rest @ ..] => at("self_attn.out_proj", rest),
                ["attn", all @ ("in_proj_weight" | "in_proj_bias")] => {
                    let kind = all.trim_start_matches("in_proj_");
                    let third = |(i, name)| (format!("{layer}.self_attn.{name}_proj.{kind}"), Storage::Third(i));
                    [(0, "q"), (1, "k"), (2, "v")].map(third).into()
                }
                _ => Vec::new(),
            }
        }
        _ => Vec::new(),
    }
}

/// Returns transformers' path of a layer inside OpenCLIP's transformer, both with `_` for `.`; `None` if there is none.
pub(super) fn open_clip_joined(path: &str) -> Option<String> {
    let (layer, inside) = path.strip_prefix("resblocks_")?.split_once('_')?;
    let inside = match inside {
        "ln_1" => "layer_norm1",
        "ln_2" => "layer_norm2",
        "mlp_c_fc" => "mlp_fc1",
        "mlp_c_proj" => "mlp_fc2",
        // Trainers name the three parts of `in_proj` as transformers does.
        _ => return Some(format!("text_model_encoder_layers_{layer}_self_{inside}")),
    };
    Some(format!("text_model_encoder_layers_{layer}_{inside}"))
}

/// Returns the tensors whose names begin with `prefix`, under the names that `rename` gives for the rest of the name.
/// Tensors without a new name are left out.
pub(super) fn rename_all<I: IntoIterator<Item = (String, Storage)>>(
    tensors: &Tensors,
    prefix: &str,
    rename: impl Fn(&str) -> I,
) -> Result<Tensors> {
    let mut renamed = Tensors::new();
    for (name, x) in tensors {
        for (name, stored) in name.strip_prefix(prefix).into_iter().flat_map(&rename) {
            renamed.insert(name, stored.take(x)?);
        }
    }
    Ok(renamed)
}
