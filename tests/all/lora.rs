//! LoRAs in the spellings of all programs that write them.

use super::checkpoints::key_map;
use impasto::weights::{Contents, Lora, ModelFamily, Parts, SingleFile, Tensors};
use impasto::{Model, Result, Source};
use std::collections::BTreeMap;
use tch::{Device, Kind, Tensor};

const CPU: (Kind, Device) = (Kind::Float, Device::Cpu);

/// A layer by its two names, such as `mid_block.resnets.0.conv1` and `middle_block.0.in_layers.2`.
struct Layer {
    part: String,
    path: String,
    single: String,
}

impl Layer {
    fn is_in_unet(&self) -> bool {
        self.part == "unet"
    }

    fn joined(&self) -> String {
        self.path.replace('.', "_")
    }
}

/// Sizes of a model's layers and of the LoRA: outputs, inputs and rank.
type Sizes = (i64, i64, i64);

/// The names of SD 1.5 with tensors of small sizes.
fn model((outputs, inputs, _): Sizes) -> (Vec<Layer>, Parts) {
    let (mut layers, mut parts) = (Vec::new(), Parts::new());
    let map = key_map("sd15");
    for part in ["unet", "text_encoder"] {
        for (single, shape, name, ..) in &map[part] {
            let small: Vec<i64> = match shape.as_slice() {
                [_] => vec![outputs],
                [_, _, kernel @ ..] => [&[outputs, inputs], kernel].concat(),
                [] => continue,
            };
            let count: i64 = small.iter().product();
            let values = (Tensor::arange(count, CPU) * 0.7 + name.len() as f64).cos().reshape(small);
            parts.entry(part.into()).or_default().insert(name.clone(), values);
            if let Some(path) = name.strip_suffix(".weight") {
                let prefixes = ["model.diffusion_model.", "cond_stage_model.transformer."];
                let single = prefixes.iter().find_map(|prefix| single.strip_prefix(prefix)).expect("a known prefix");
                let single = single.trim_end_matches(".weight").to_owned();
                layers.push(Layer { part: part.into(), path: path.into(), single });
            }
        }
    }
    (layers, parts)
}

/// A writer of LoRAs: names of modules, and the endings of the down and up matrices.
type Writer = (fn(&Layer) -> String, [&'static str; 2]);

const KOHYA: [&str; 2] = ["lora_down.weight", "lora_up.weight"];
const PEFT: [&str; 2] = ["lora_A.weight", "lora_B.weight"];
const DIFFUSERS: [&str; 2] = ["lora.down.weight", "lora.up.weight"];

fn kohya(layer: &Layer) -> String {
    format!("{}{}", if layer.is_in_unet() { "lora_unet_" } else { "lora_te_" }, layer.joined())
}

fn diffusers(layer: &Layer) -> String {
    format!("{}.{}", layer.part, layer.path)
}

/// The path as OpenCLIP names the layer.
fn open_clip(path: &str) -> String {
    let mut name = path.replace("text_model.encoder.layers", "transformer.resblocks");
    for (from, to) in [("self_attn", "attn"), ("fc1", "c_fc"), ("fc2", "c_proj"), ("layer_norm", "ln_")] {
        name = name.replace(from, to);
    }
    if path.contains("encoder.layers") { name } else { path.into() }
}

/// The path with the attention processors of old diffusers.
fn with_processors(path: &str) -> String {
    path.replace("attn1.to_", "attn1.processor.to_").replace("attn2.to_", "attn2.processor.to_")
}

const WRITERS: &[Writer] = &[
    (kohya, KOHYA),
    (
        |layer| {
            format!("{}{}", if layer.is_in_unet() { "lora_unet_" } else { "lora_te1_" }, layer.single.replace('.', "_"))
        },
        KOHYA,
    ),
    (kohya, PEFT),
    (|layer| format!("lycoris_{}", layer.joined()), KOHYA),
    (
        |layer| {
            if layer.is_in_unet() { kohya(layer) } else { format!("lora_te_wrapped_transformer_{}", layer.joined()) }
        },
        KOHYA,
    ),
    (
        |layer| match layer.is_in_unet() {
            true => kohya(layer),
            false => format!("lora_te_wrapped_model_{}", open_clip(&layer.path).replace('.', "_")),
        },
        KOHYA,
    ),
    (diffusers, PEFT),
    (diffusers, ["lora_A.default.weight", "lora_B.default.weight"]),
    (diffusers, DIFFUSERS),
    (diffusers, ["lora_linear_layer.down.weight", "lora_linear_layer.up.weight"]),
    (|layer| layer.path.clone(), PEFT),
    (|layer| with_processors(&layer.path), DIFFUSERS),
    (|layer| format!("{}.{}", layer.part, with_processors(&layer.path)), DIFFUSERS),
    (|layer| format!("{0}.{0}.{1}", layer.part, layer.path), DIFFUSERS),
    (|layer| format!("base_model.model.{}", layer.path), PEFT),
    (|layer| format!("base_model.model.{}", diffusers(layer)), PEFT),
    (|layer| format!("{}.base_model.model.{}", layer.part, layer.path), PEFT),
    (|layer| format!("base_model.model.base_model.model.{}", diffusers(layer)), PEFT),
    (
        |layer| {
            format!(
                "{}.{}",
                if layer.is_in_unet() { "diffusion_model" } else { "text_encoders.clip_l.transformer" },
                layer.single
            )
        },
        KOHYA,
    ),
    (
        |layer| {
            format!(
                "{}.{}",
                if layer.is_in_unet() { "model.diffusion_model" } else { "clip_l.transformer" },
                layer.single
            )
        },
        KOHYA,
    ),
    (|layer| format!("{}.{}", if layer.is_in_unet() { "unet" } else { "clip_l" }, layer.single), KOHYA),
    (|layer| format!("{}.{}", if layer.is_in_unet() { "lora_unet" } else { "lora_te" }, layer.path), KOHYA),
    (|layer| format!("state_dict.{}", kohya(layer)), KOHYA),
    (|layer| format!("state_dict.model.{}", diffusers(layer)), PEFT),
    (|layer| format!("model.{}", layer.path), PEFT),
    (|layer| format!("module.{}", diffusers(layer)), PEFT),
    (|layer| format!("{}._orig_mod.{}", layer.part, layer.path), PEFT),
];

/// Writes the same changes in one writer's names: pairs with α for matrices and kernels, and differences for norms.
fn write(layers: &[Layer], parts: &Parts, rank: i64, (module, [down, up]): Writer) -> Tensors {
    let mut tensors = Tensors::new();
    for (i, layer) in layers.iter().enumerate() {
        let (name, weight) = (module(layer), &parts[&layer.part][&format!("{}.weight", layer.path)]);
        let value = |shape: &[i64], offset: f64| {
            let count: i64 = shape.iter().product();
            (Tensor::arange(count, CPU) + i as f64 + offset).sin().reshape(shape)
        };
        match weight.size().as_slice() {
            &[outputs, ref inside @ ..] if !inside.is_empty() => {
                let ones = vec![1; inside.len() - 1];
                tensors.insert(format!("{name}.{down}"), value(&[&[rank], inside].concat(), 0.1));
                tensors.insert(format!("{name}.{up}"), value(&[&[outputs, rank], &*ones].concat(), 0.2));
                tensors.insert(format!("{name}.alpha"), Tensor::from(1.5f32));
            }
            norm => {
                tensors.insert(format!("{name}.w_norm"), value(norm, 0.3));
                tensors.insert(format!("{name}.b_norm"), value(norm, 0.4));
            }
        }
    }
    tensors
}

fn copy(parts: &Parts) -> Parts {
    let share = |tensors: &Tensors| tensors.iter().map(|(name, x)| (name.clone(), x.shallow_clone())).collect();
    parts.iter().map(|(part, tensors)| (part.clone(), share(tensors))).collect()
}

#[test]
fn every_spelling_merges_to_the_same_bits() -> Result<()> {
    for sizes in [(4, 5, 2), (6, 3, 1)] {
        let (layers, parts) = model(sizes);
        let merge = |writer: Writer| -> Result<Parts> {
            let lora = Lora::of("ink", write(&layers, &parts, sizes.2, writer))?;
            let mut merged = copy(&parts);
            assert_eq!(Lora::merge(&[lora.scale(0.8)], &mut merged)?, [""; 0], "{}", writer.0(&layers[0]));
            Ok(merged)
        };
        let first = merge(WRITERS[0])?;
        for (part, tensors) in &first {
            let unchanged = tensors.iter().filter(|(name, x)| **x == parts[part][*name]).count();
            let biases = tensors.keys().filter(|name| name.ends_with("bias") && !name.contains("norm")).count();
            assert_eq!(unchanged, biases, "all weights and norms of {part} change");
        }
        for writer in &WRITERS[1..] {
            for (part, tensors) in merge(*writer)? {
                for (name, x) in tensors {
                    assert_eq!(x, first[&part][&name], "{name} by {}", writer.0(&layers[0]));
                }
            }
        }
    }
    Ok(())
}

/// Returns the shapes of the embedded model's UNet, by layer.
fn shapes(model: &Model) -> Result<BTreeMap<String, Vec<i64>>> {
    let tensors = model.tensors("unet").expect("a UNet").into_iter();
    Ok(tensors.filter_map(|(name, x)| Some((name.strip_suffix(".weight")?.to_owned(), x.size()))).collect())
}

#[test]
fn trained_norms_and_half_pairs_reach_the_model() -> Result<()> {
    let model = Model::load(&Source::embedded())?;
    let shapes = shapes(&model)?;
    let norm = shapes.keys().find(|path| path.ends_with("norm1")).expect("a norm").clone();
    let mut tensors = Tensors::from([
        (format!("unet.{norm}.w_norm"), Tensor::ones(&shapes[&norm], CPU)),
        (format!("unet.{norm}.b_norm"), Tensor::ones(&shapes[&norm], CPU)),
    ]);
    for (path, shape) in shapes.iter().filter(|(path, _)| path.ends_with("attn1.to_q")) {
        tensors.insert(format!("unet.{path}.lora_B.weight"), Tensor::ones([shape[0], 2], CPU));
    }
    let halves = tensors.len() - 2;
    let inked = model.with_lora(&[Lora::of("ink", tensors)?])?;
    for kind in ["weight", "bias"] {
        let [before, after] = [&model, &inked].map(|model| model.tensors("unet"));
        let name = format!("{norm}.{kind}");
        assert_eq!(after.expect("a UNet")[&name], &before.expect("a UNet")[&name] + 1.0);
    }
    let notes = inked.notes().iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    let told = format!("{halves} of the LoRA's {} modules are incomplete and not used", halves + 1);
    assert!(notes.contains(&told) && notes.contains("has an up matrix, but no down matrix"), "{notes}");
    Ok(())
}

/// Tensors of one LoKr module with trained lengths (DoRA) for a matrix of this shape, which both sizes divide by 2.
fn lokr_with_lengths(key: &str, shape: &[i64]) -> Tensors {
    let wave = |shape: [i64; 2]| Tensor::arange(shape[0] * shape[1], CPU).cos().reshape(shape);
    Tensors::from([
        (format!("{key}.lokr_w1"), wave([2, 2])),
        (format!("{key}.lokr_w2_a"), wave([shape[0] / 2, 1])),
        (format!("{key}.lokr_w2_b"), wave([1, shape[1] / 2])),
        (format!("{key}.alpha"), Tensor::from(0.5f32)),
        (format!("{key}.dora_scale"), wave([shape[0], 1]) + 2.0),
    ])
}

/// Returns the path and the shape of a square matrix of the embedded model's UNet.
fn query(model: &Model) -> Result<(String, Vec<i64>)> {
    let found = shapes(model)?.into_iter().find(|(path, _)| path.ends_with("attn1.to_q"));
    Ok(found.expect("a self-attention"))
}

fn weight(model: &Model, path: &str) -> Tensor {
    model.tensors("unet").expect("a UNet")[&format!("{path}.weight")].to_kind(Kind::Float)
}

#[test]
fn strength_moves_a_weight_towards_the_trained_one() -> Result<()> {
    let model = Model::load(&Source::embedded())?;
    let (path, shape) = query(&model)?;
    let at = |strength: f64| -> Result<Tensor> {
        let lora = Lora::of("ink", lokr_with_lengths(&format!("unet.{path}"), &shape))?;
        Ok(weight(&model.with_lora(&[lora.scale(strength)])?, &path))
    };
    let (plain, trained) = (weight(&model, &path), at(1.0)?);
    assert_eq!(at(0.0)?, plain);
    let lengths = trained.square().sum_dim_intlist(&[1i64][..], false, None).sqrt();
    let wanted = &lokr_with_lengths("", &shape)[".dora_scale"].reshape([-1]);
    assert!((lengths - wanted).abs().max().double_value(&[]) < 0.02, "rows have the trained lengths");
    let apart = (at(0.25)? - (&plain + (&trained - &plain) * 0.25)).abs().max().double_value(&[]);
    assert!(apart < 0.01, "{apart}");
    Ok(())
}

#[test]
fn files_change_what_earlier_files_left() -> Result<()> {
    let model = Model::load(&Source::embedded())?;
    let (path, shape) = query(&model)?;
    let key = format!("unet.{path}");
    let double = || {
        let scale = (format!("{key}.weight"), Tensor::ones([shape[0]], CPU));
        Lora::of("double", Tensors::from([scale, (format!("{key}.on_input"), Tensor::from(0i64))]))
    };
    let add = || Lora::of("add", Tensors::from([(format!("{key}.diff"), Tensor::ones(&shape, CPU))]));
    let merge = |loras: [Lora; 2]| Ok::<_, impasto::Error>(weight(&model.with_lora(&loras)?, &path));
    let near = |got: Tensor, want: Tensor| assert!((got - want).abs().max().double_value(&[]) < 0.01);
    near(merge([double()?, add()?])?, weight(&model, &path) * 2.0 + 1.0);
    near(merge([add()?, double()?])?, weight(&model, &path) * 2.0 + 2.0);
    Ok(())
}

#[test]
fn text_encoders_have_a_strength_of_their_own() -> Result<()> {
    let (mut parts, ones) = (Parts::new(), Tensor::ones([4, 4], CPU));
    let paths = [
        ("unet", "mid_block.attentions.0.proj_in", "lora_unet_mid_block_attentions_0_proj_in"),
        ("text_encoder", "text_model.encoder.layers.0.mlp.fc1", "lora_te1_text_model_encoder_layers_0_mlp_fc1"),
        ("text_encoder_2", "text_model.encoder.layers.0.mlp.fc1", "lora_te2_text_model_encoder_layers_0_mlp_fc1"),
    ];
    let mut tensors = Tensors::new();
    for (part, path, key) in paths {
        parts.insert(part.into(), Tensors::from([(format!("{path}.weight"), Tensor::zeros([4, 4], CPU))]));
        tensors.insert(format!("{key}.diff"), ones.shallow_clone());
    }
    let lora = Lora::of("ink", tensors)?.scale(0.75).text_scale(-0.5);
    Lora::merge(&[lora], &mut parts)?;
    for ((part, path, _), strength) in paths.into_iter().zip([0.75, -0.5, -0.5]) {
        assert_eq!(parts[part][&format!("{path}.weight")], &ones * strength, "{part}");
    }
    Ok(())
}

#[test]
fn summary_tells_algorithms_ranks_and_parts() -> Result<()> {
    let key = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k";
    let mut tensors = lokr_with_lengths(key, &[640, 2048]);
    for (name, shape) in [("hada_w1_a", [8, 3]), ("hada_w1_b", [3, 8]), ("hada_w2_a", [8, 3]), ("hada_w2_b", [3, 8])] {
        for encoder in ["lora_te1", "lora_te2"] {
            let key = format!("{encoder}_text_model_encoder_layers_0_mlp_fc1");
            tensors.insert(format!("{key}.{name}"), Tensor::ones(shape, CPU));
        }
    }
    tensors.insert("text_encoder.text_model.final_layer_norm.w_norm".into(), Tensor::ones([8], CPU));
    let copy: Tensors = tensors.iter().map(|(name, x)| (name.clone(), x.shallow_clone())).collect();
    let contents = SingleFile::of("ink", copy).contents()?;
    assert_eq!(contents, Contents::Lora { family: Some(ModelFamily::Sdxl) }, "2 · 1024 columns");
    let summary = Lora::of("ink", tensors)?.summary();
    let counted = |pairs: &[(&str, usize)]| pairs.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
    assert_eq!(summary.algorithms, counted(&[("LoHa", 2), ("LoKr with DoRA", 1), ("full difference", 1)]));
    assert_eq!(summary.modules, counted(&[("text_encoder", 2), ("text_encoder_2", 1), ("unet", 1)]));
    assert_eq!(summary.ranks, [1, 3].into());
    assert!(summary.trigger_words.is_empty() && summary.resolution.is_none());
    Ok(())
}
