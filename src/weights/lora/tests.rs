//! Tests of changes, names and notes of LoRAs.

use super::paths::Paths;
use super::*;
use crate::weights::Parts;
use tch::{Device, Kind, Tensor};

fn parts(shape: &[i64]) -> Parts {
    let x = |shape: &[i64]| Tensor::arange(shape.iter().product::<i64>(), (Kind::Float, Device::Cpu)).reshape(shape);
    let tensors = [
        ("mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight", x(&[6, 8])),
        ("mid_block.attentions.0.transformer_blocks.0.attn1.to_q.weight", x(&[6, 8])),
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
/// A matrix [6, 8] that does not read the context.
const QUERY: &str = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q";

#[test]
fn locon_middle_matrix_sums_over_both_ranks() -> Result<()> {
    for (p, q) in [(2, 2), (3, 1), (1, 4)] {
        let (mut model, before) = (parts(&[4, 5, 3, 3]), parts(&[4, 5, 3, 3]));
        let (up, mid, down) = (wave(&[4, p, 1, 1]), wave(&[p, q, 3, 3]), wave(&[q, 5, 1, 1]));
        let ends = ["lora_up.weight", "lora_mid.weight", "lora_down.weight", "alpha"];
        let tensors = [up.shallow_clone(), mid.shallow_clone(), down.shallow_clone(), Tensor::from(1.0f32)];
        let tensors = ends.into_iter().zip(tensors).map(|(end, x)| (format!("{CONV}.{end}"), x));
        let lora = Lora::of("ink.safetensors", tensors.collect())?;
        assert_eq!(Lora::merge(&[lora.scale(3.0)], &mut model)?, [""; 0]);
        let [up, down] = [up.reshape([4, p]), down.reshape([q, 5])];
        let delta = Tensor::einsum("op,pqyx,qi->oiyx", &[up, mid, down], None::<&[i64]>) * (3.0 / q as f64);
        let name = "mid_block.resnets.0.conv1.weight";
        let apart = (&model["unet"][name] - &before["unet"][name] - delta).abs().max().double_value(&[]);
        assert!(apart < 2e-5, "{apart} for ranks {p} and {q}");
    }
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
    assert!(notes[0].contains("ink.safetensors: the LoRA's learned words are not loaded (badhands, ink)"), "{notes:?}");
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
    assert_eq!(model["unet"]["mid_block.resnets.0.conv1.bias"].double_value(&[1]), 1.0 + 2.0 * f64::from(1f32.sin()));
    Ok(())
}

#[test]
fn a_lora_of_another_model_is_refused_with_both_names() -> Result<()> {
    let merge = |down: &[i64], key: &str| {
        let lora =
            lora(&[(&format!("{key}.lora_A.weight"), wave(down)), (&format!("{key}.lora_B.weight"), wave(&[6, 2]))]);
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
    assert!(merge(&[2, 7], "unet.mid_block.resnets.7.conv1").contains("none of the LoRA's 1 modules is in this model"));
    let lora = lora(&[(&format!("{KEY}.diff"), wave(&[6, 8]))])?.scale(f64::NAN);
    assert!(Lora::merge(&[lora], &mut parts(&[1, 1])).unwrap_err().to_string().contains("scale is NaN"));
    Ok(())
}

#[test]
fn unsupported_algorithms_are_refused_by_name() {
    for (end, algorithm) in [("oft_R.weight", "PEFT's OFT"), ("ia3_l", "PEFT's IA3"), ("vera_lambda_b", "VeRA")] {
        let down = (&*format!("{CONV}.lora_down.weight"), wave(&[2, 5]));
        let message = lora(&[down, (&format!("{CONV}.{end}"), wave(&[2, 2]))]).unwrap_err().to_string();
        assert!(message.contains(&format!("uses {algorithm} ({CONV}.{end})")), "{message}");
    }
    assert!(lora(&[("emb_params", wave(&[2, 768]))]).unwrap_err().to_string().contains("not a LoRA"));
}

/// Tensors of a whole LoHa module and of a whole LoKr module, for a matrix [6, 8].
const LOHA: [(&str, &[i64]); 4] =
    [("hada_w1_a", &[6, 2]), ("hada_w1_b", &[2, 8]), ("hada_w2_a", &[6, 3]), ("hada_w2_b", &[3, 8])];
const LOKR: [(&str, &[i64]); 3] = [("lokr_w1", &[2, 4]), ("lokr_w2_a", &[3, 1]), ("lokr_w2_b", &[1, 2])];
const GLORA: [(&str, &[i64]); 4] =
    [("a1.weight", &[8, 2]), ("a2.weight", &[2, 8]), ("b1.weight", &[6, 2]), ("b2.weight", &[2, 8])];

/// Merges one module into a matrix [6, 8]; returns the error's text.
fn refuse(tensors: &[(&str, &[i64])]) -> String {
    let named = tensors.iter().map(|(end, shape)| (format!("{QUERY}.{end}"), wave(shape)));
    let mut model = parts(&[4, 5, 3, 3]);
    let merged = Lora::of("ink.safetensors", named.collect()).and_then(|lora| Lora::merge(&[lora], &mut model));
    assert_eq!(model, parts(&[4, 5, 3, 3]));
    let message = merged.expect_err("a refused module").to_string();
    assert!(message.contains(QUERY) && message.contains("ink.safetensors"), "{message}");
    message
}

#[test]
fn module_that_lacks_a_tensor_is_refused() {
    let modules: [&[(&str, &[i64])]; 3] = [&LOHA, &LOKR, &GLORA];
    for module in modules {
        for (at, (lacking, _)) in module.iter().enumerate() {
            let rest: Vec<_> = module.iter().enumerate().filter(|(i, _)| *i != at).map(|(_, piece)| *piece).collect();
            let message = refuse(&rest);
            let lacking = if *lacking == "lokr_w1" { "lokr_w1_a" } else { lacking };
            assert!(message.contains(&format!("lacks the tensor {lacking}")), "{message}");
        }
    }
    let message = refuse(&[&LOHA[..], &[("hada_t1", &[2, 2, 1, 1])]].concat());
    assert!(message.contains("only one of the tensors hada_t1 and hada_t2"), "{message}");
    assert!(refuse(&[("on_input", &[])]).contains("lacks the tensor weight"));
    assert!(refuse(&[("dora_scale", &[6, 1])]).contains("has no change of a weight"));
    assert!(refuse(&[("lora_mid.weight", &[2, 2, 3, 3])]).contains("no down and up matrix"));
}

#[test]
fn tensors_that_exclude_each_other_are_refused() {
    let message = refuse(&[&LOHA[..], &[("lora_down.weight", &[2, 8]), ("lora_up.weight", &[6, 2])]].concat());
    assert!(message.contains("tensors of two algorithms, LoRA and LoHa"), "{message}");
    for (more, shape) in [("lokr_w1_a", &[2, 1][..]), ("rescale", &[6, 1]), ("lora_magnitude_vector", &[6])] {
        let message = refuse(&[&LOKR[..], &[(more, shape), ("dora_scale", &[6, 1])]].concat());
        assert!(message.contains(&format!("has the tensor {more} beside tensors that exclude it")), "{message}");
    }
    assert!(
        refuse(&[&LOHA[..], &[("alpha", &[2])]].concat()).contains("alpha of shape [2], which should be one number")
    );
}

#[test]
fn tensors_of_other_sizes_are_refused_with_shapes() {
    let resized = |module: &[(&'static str, &'static [i64])], name: &str, shape: &'static [i64]| -> String {
        let pieces = module.iter().map(|&(end, own)| (end, if end == name { shape } else { own }));
        refuse(&pieces.collect::<Vec<_>>())
    };
    let together =
        |message: String| assert!(message.contains("are no change of a weight of shape [6, 8]"), "{message}");
    let shape = |message: String, got: &str| {
        assert!(message.contains(&format!("a weight of shape {got}, which has shape [6, 8]")), "{message}");
    };
    together(resized(&LOHA, "hada_w1_a", &[5, 2]));
    together(resized(&LOHA, "hada_w2_b", &[2, 8]));
    shape(resized(&LOKR, "lokr_w1", &[3, 4]), "[9, 8]");
    shape(resized(&LOKR, "lokr_w2_b", &[1, 3]), "[6, 12]");
    together(resized(&LOKR, "lokr_w2_a", &[3, 2]));
    together(resized(&GLORA, "a1.weight", &[6, 2]));
    shape(resized(&GLORA, "b1.weight", &[5, 2]), "[5, 8]");
    let old = refuse(&[("a1.weight", &[2, 8]), ("a2.weight", &[8, 2]), ("b1.weight", &[2, 8]), ("b2.weight", &[6, 2])]);
    assert!(old.contains("LyCORIS before version 2"), "{old}");
    for (end, size) in [("dora_scale", &[8, 1][..]), ("dora_scale", &[1, 6]), ("lora_magnitude_vector", &[8])] {
        let message = refuse(&[&LOHA[..], &[(end, size)]].concat());
        assert!(message.contains(&format!("{end} {size:?}")) && message.contains("a length (DoRA)"), "{message}");
    }
    for blocks in [&[2, 2, 2][..], &[2, 3, 4], &[6], &[3, 2, 3, 3], &[2, 1, 6, 6], &[0, 3, 2, 2]] {
        together(refuse(&[("oft_blocks", blocks)]));
    }
    together(refuse(&[("oft_blocks", &[2, 3, 3]), ("rescale", &[3, 2])]));
}

#[test]
fn too_large_kronecker_product_is_not_computed() {
    let expanded = |shape: [i64; 2]| Tensor::ones([1, 1], (Kind::Float, Device::Cpu)).expand(shape, false);
    for size in [1 << 20, 1 << 40] {
        let tensors = [("lokr_w1", expanded([size, 1])), ("lokr_w2", expanded([size, 1]))];
        let tensors = tensors.map(|(end, x)| (format!("{QUERY}.{end}"), x));
        let merged = Lora::merge(&[Lora::of("ink", tensors.into()).unwrap()], &mut parts(&[4, 5]));
        assert!(merged.unwrap_err().to_string().contains("[6, 8]"));
    }
}

#[test]
fn incomplete_lora_is_refused_with_its_flaw() {
    for (end, flaw) in [("lora_up.weight", "no down matrix"), ("lora_down.weight", "no up matrix")] {
        let message = lora(&[(&format!("{CONV}.{end}"), wave(&[4, 2]))]).unwrap_err().to_string();
        assert!(message.contains("without a complete module") && message.contains(flaw), "{message}");
        assert!(message.contains(CONV), "{message}");
    }
}

#[test]
fn unused_tensors_and_modules_are_noted() -> Result<()> {
    let tensors = [
        (format!("{KEY}.lora_A.weight"), wave(&[2, 8])),
        (format!("{KEY}.lora_B.weight"), wave(&[6, 2])),
        (format!("{KEY}.diff_b"), wave(&[6])),
        ("unet.mid_block.resnets.9.conv1.diff".to_owned(), wave(&[4])),
        ("lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k.diff".to_owned(), wave(&[6, 8])),
        ("step".to_owned(), wave(&[1])),
    ];
    let mut model = parts(&[4, 5, 3, 3]);
    let notes = Lora::merge(&[Lora::of("ink", tensors.into())?], &mut model)?.join("\n");
    for told in [
        "1 of the LoRA's 3 modules are not in this model, such as unet.mid_block.resnets.9.conv1",
        "1 of the LoRA's 3 modules change a bias that this model lacks, such as unet.mid_block",
        "are not used, because another module of the file changes the same layer, such as unet.mid_block",
        "1 tensors are not part of a LoRA and not used, such as step",
    ] {
        assert!(notes.contains(told), "{notes}");
    }
    Ok(())
}

#[test]
fn unknown_tensor_of_a_layer_is_refused() -> Result<()> {
    let (up, down) = (
        (format!("{CONV}.lora_up.weight"), wave(&[4, 2, 1, 1])),
        (format!("{CONV}.lora_down.weight"), wave(&[2, 5, 3, 3])),
    );
    for end in ["lora_sideways.weight", "weight", "lora_B.default.bias"] {
        let name = format!("{CONV}.{end}");
        let lora = Lora::of(
            "ink",
            [(up.0.clone(), up.1.copy()), (down.0.clone(), down.1.copy()), (name.clone(), wave(&[4]))].into(),
        )?;
        let mut model = parts(&[4, 5, 3, 3]);
        let message = Lora::merge(&[lora], &mut model).unwrap_err().to_string();
        assert!(message.contains(&format!("the tensor {name}, which is not part")), "{message}");
        assert_eq!(model, parts(&[4, 5, 3, 3]));
    }
    Ok(())
}

#[test]
fn tensor_that_occurs_twice_is_refused() {
    let pairs = [("lora_A.one", &[2, 8]), ("lora_A.two", &[2, 8]), ("lora_B.one", &[6, 2])];
    let tensors = pairs.map(|(end, shape)| (format!("{KEY}.{end}.weight"), wave(shape)));
    let message = Lora::of("ink", tensors.into()).unwrap_err().to_string();
    assert!(message.contains("several tensors for the place of") && message.contains("lora_A.two"), "{message}");
}

#[test]
fn shapes_are_compared_and_not_their_products() -> Result<()> {
    let merge = |weight: &[i64], tensors: &[(&str, &[i64])]| -> Result<Parts> {
        let tensors = tensors.iter().map(|(end, shape)| (format!("{CONV}.{end}"), wave(shape)));
        let mut model = parts(weight);
        Lora::merge(&[Lora::of("ink", tensors.collect())?], &mut model)?;
        Ok(model)
    };
    let message = |weight: &[i64], tensors: &[(&str, &[i64])]| merge(weight, tensors).unwrap_err().to_string();
    for (weight, diff) in [
        (&[80, 80][..], &[40, 160][..]),
        (&[80, 80], &[160, 40]),
        (&[8, 6], &[6, 8]),
        (&[8, 6, 1, 1], &[6, 8, 1, 1]),
        (&[4, 5, 3, 3], &[4, 45]),
        (&[4, 4, 3, 3], &[4, 9, 2, 2]),
    ] {
        let told = message(weight, &[("diff", diff)]);
        assert!(told.contains(&format!("shape {diff:?}, which has shape {weight:?}")), "{told}");
    }
    let told = message(&[4], &[("diff_b", &[2, 2])]);
    assert!(told.contains("shape [2, 2], which has shape [4]"), "{told}");
    let told = message(&[4, 5, 3, 3], &[("lora_up.weight", &[4, 2, 1, 1]), ("lora_down.weight", &[3, 5, 3, 3])]);
    assert!(told.contains("(lora_down.weight [3, 5, 3, 3], lora_up.weight [4, 2, 1, 1]) are no change"), "{told}");
    let mid: &[(&str, &[i64])] =
        &[("lora_up.weight", &[4, 2]), ("lora_mid.weight", &[2, 3, 3, 3]), ("lora_down.weight", &[2, 5])];
    assert!(message(&[4, 5, 3, 3], mid).contains("lora_mid.weight [2, 3, 3, 3], lora_up.weight [4, 2]) are no"));
    // Matrices and 1×1 convolutions are the same weights.
    for (weight, diff) in [(&[8, 6][..], &[8, 6, 1, 1][..]), (&[8, 6, 1, 1], &[8, 6]), (&[8, 1], &[8, 1])] {
        let merged = &merge(weight, &[("diff", diff)])?["unet"]["mid_block.resnets.0.conv1.weight"];
        assert_eq!(*merged, &parts(weight)["unet"]["mid_block.resnets.0.conv1.weight"] + wave(weight));
    }
    Ok(())
}

#[test]
fn product_larger_than_the_weight_is_not_computed() -> Result<()> {
    let expanded = |shape: [i64; 2]| Tensor::ones([1, 1], (Kind::Float, Device::Cpu)).expand(shape, false);
    let tensors = [("lora_up.weight", expanded([1 << 24, 1])), ("lora_down.weight", expanded([1, 1 << 24]))];
    let lora = Lora::of("ink", tensors.map(|(end, x)| (format!("{CONV}.{end}"), x)).into())?;
    let message = Lora::merge(&[lora], &mut parts(&[4, 5])).unwrap_err().to_string();
    assert!(message.contains("shape [16777216, 16777216]"), "{message}");
    Ok(())
}

#[test]
fn conv_in_of_a_latent_fits_an_inpainting_model() -> Result<()> {
    let conv_in = |inputs: i64| -> Parts {
        let tensors = Tensors::from([("conv_in.weight".to_owned(), wave(&[6, inputs, 3, 3]))]);
        Parts::from([("unet".to_owned(), tensors)])
    };
    let lora = |inputs: i64| {
        let tensors = [("lora_up", wave(&[6, 2, 1, 1])), ("lora_down", wave(&[2, inputs, 3, 3]))];
        Lora::of("ink", tensors.map(|(end, x)| (format!("lora_unet_conv_in.{end}.weight"), x)).into())
    };
    let [mut plain, mut inpaint] = [conv_in(4), conv_in(9)];
    Lora::merge(&[lora(4)?], &mut plain)?;
    Lora::merge(&[lora(4)?], &mut inpaint)?;
    let change =
        |merged: &Parts, inputs| &merged["unet"]["conv_in.weight"] - &conv_in(inputs)["unet"]["conv_in.weight"];
    let apart = (change(&inpaint, 9).narrow(1, 0, 4) - change(&plain, 4)).abs().max().double_value(&[]);
    assert!(apart < 1e-6, "{apart}");
    assert_eq!(change(&inpaint, 9).narrow(1, 4, 5).abs().max().double_value(&[]), 0.0);
    for (own, model) in [(3, 9), (9, 4)] {
        let message = Lora::merge(&[lora(own)?], &mut conv_in(model)).unwrap_err().to_string();
        assert!(message.contains(&format!("[6, {own}, 3, 3], which has shape [6, {model}, 3, 3]")), "{message}");
    }
    Ok(())
}

#[test]
fn alpha_pattern_matches_whole_names() -> Result<()> {
    let added = |pattern: &str| -> Result<f64> {
        let ones = |shape: [i64; 2]| Tensor::ones(shape, (Kind::Float, Device::Cpu));
        let tensors = [("lora_A", ones([2, 8])), ("lora_B", ones([6, 2]))];
        let tensors: Tensors = tensors.map(|(end, x)| (format!("{KEY}.{end}.weight"), x)).into();
        let mut lora = Lora::of("ink", tensors)?;
        lora.adapter = serde_json::json!({ "lora_alpha": 2, "alpha_pattern": { pattern: 6 } });
        let mut model = parts(&[1, 1]);
        Lora::merge(&[lora], &mut model)?;
        let name = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight";
        Ok((&model["unet"][name] - &parts(&[1, 1])["unet"][name]).double_value(&[0, 0]))
    };
    let whole = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k";
    for pattern in ["to_k", "attn2.to_k", whole, &format!("unet.{whole}"), &format!("^{whole}")] {
        assert_eq!(added(pattern)?, 6.0, "{pattern}");
    }
    for pattern in ["k", "_k", "tn2.to_k", "to_q", "^attn2.to_k", ""] {
        assert_eq!(added(pattern)?, 2.0, "{pattern}");
    }
    Ok(())
}

#[test]
fn long_and_repeated_names_take_little_time() -> Result<()> {
    let begun = std::time::Instant::now();
    let model = parts(&[4, 5, 3, 3]);
    let paths = Paths::of(&model);
    for name in ["unet.", "lycoris_", "base_model.model.", "model.module."] {
        assert!(paths.find(&name.repeat(1 << 20)).is_none());
        assert!(paths.find(&name.repeat(50)).is_none());
    }
    assert!(begun.elapsed().as_secs() < 2, "{:?}", begun.elapsed());
    Ok(())
}
