//! Diffusers folders with random weights.

use impasto::Result;
use impasto::nn::anima_conditioner::{AnimaConditioner, AnimaConditionerConfig};
use impasto::nn::cosmos::{CosmosConfig, CosmosTransformer};
use impasto::nn::mmdit::{Sd3Config, Sd3Transformer};
use impasto::nn::qwen_vae::{QwenVae, QwenVaeConfig};
use impasto::nn::qwen3::{Qwen3, Qwen3Config};
use impasto::nn::{ClipText, ClipTextConfig, ConfigFile, UNet, UnetConfig, Vae, VaeConfig};
use impasto::weights::{Weights, write_safetensors};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};

/// The folder of the embedded model's files.
pub const TINY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/crates/impasto-tiny/model");

/// Returns the path of a part's weights.
pub fn weights_file(folder: &Path, part: &str) -> PathBuf {
    let stem = if part.starts_with("text_encoder") { "model" } else { "diffusion_pytorch_model" };
    folder.join(part).join(format!("{stem}.safetensors"))
}

/// Small tokenizers of Qwen and T5.
const TOKENIZERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/models");

/// Writes a diffusers folder of random f16 weights: the parts with their configurations, and small tokenizers.
pub fn write_folder(folder: &Path, pipeline: &str, parts: &[(&str, String)]) -> Result<()> {
    for (part, config) in parts {
        let random = Weights::random(1, Kind::Half, Device::Cpu);
        let is = |class: &str| config.contains(class);
        match *part {
            "unet" => UNet::new(&random, &UnetConfig::from_json(part, config)?).map(drop)?,
            "transformer" if is("SD3Transformer2DModel") => {
                Sd3Transformer::new(&random, &Sd3Config::from_json(part, config)?).map(drop)?;
            }
            "transformer" => CosmosTransformer::new(&random, &CosmosConfig::from_json(part, config)?).map(drop)?,
            "vae" if is("AutoencoderKLQwenImage") => {
                QwenVae::new(&random, &QwenVaeConfig::from_json(part, config)?).map(drop)?;
            }
            "vae" => Vae::new(&random, &VaeConfig::from_json(part, config)?).map(drop)?,
            "text_conditioner" => {
                AnimaConditioner::new(&random, &AnimaConditionerConfig::from_json(part, config)?).map(drop)?;
            }
            _ if is("Qwen3Model") => Qwen3::new(&random, &Qwen3Config::from_json(part, config)?).map(drop)?,
            _ => ClipText::new(&random, &ClipTextConfig::from_json(part, config)?).map(drop)?,
        }
        fs::create_dir(folder.join(part)).expect("a folder");
        fs::write(folder.join(part).join("config.json"), config).expect("written");
        let mut tensors = random.drawn()?;
        if is("AutoencoderKLQwenImage") {
            tensors = tensors.into_iter().map(of_videos).collect::<Result<_>>()?;
        }
        write_safetensors(&tensors, &weights_file(folder, part))?;
    }
    let (clip, qwen, t5) = (Path::new(TINY).join("tokenizer"), "tokenizer-qwen", "tokenizer-t5");
    let small = |name: &str| Path::new(TOKENIZERS).join(name);
    let tokenizers = match pipeline {
        "AnimaModularPipeline" => [("tokenizer", small(qwen)), ("t5_tokenizer", small(t5))],
        _ => [("tokenizer", clip.clone()), ("tokenizer_2", clip)],
    };
    for (tokenizer, from) in tokenizers {
        fs::create_dir(folder.join(tokenizer)).expect("a folder");
        for file in fs::read_dir(from).expect("a tokenizer").map(|file| file.expect("a file").path()) {
            fs::copy(&file, folder.join(tokenizer).join(file.file_name().expect("a name"))).expect("copied");
        }
    }
    let index = json!({ "_class_name": pipeline, "force_zeros_for_empty_prompt": true });
    fs::write(folder.join("model_index.json"), index.to_string()).expect("written");
    Ok(())
}

/// Gives a kernel of the Qwen-Image VAE the axis of frames that its files have. Frames before a picture have no weight.
fn of_videos((name, x): (String, Tensor)) -> Result<(String, Tensor)> {
    let is_plain = ["resample", "attentions", "gamma"].iter().any(|part| name.contains(part));
    let x = match x.size()[..] {
        [_, _, side, _] if !is_plain => {
            let picture = x.f_unsqueeze(2)?;
            let before = (1..side).map(|_| picture.f_zeros_like()).collect::<std::result::Result<Vec<_>, _>>()?;
            Tensor::f_cat(&before.iter().chain([&picture]).collect::<Vec<_>>(), 2)?
        }
        _ => x,
    };
    Ok((name, x))
}

/// Writes a diffusers folder of random f16 weights in the sizes of Stable Diffusion 1.5 ("sd15", 2.1 GB), SDXL ("sdxl",
/// 6.9 GB), Stable Diffusion 3.5 medium without T5 ("sd35", 6.7 GB) or Anima ("anima", 5.7 GB).
pub fn write_model(folder: &Path, model: &str) -> Result<()> {
    let (pipeline, parts) = match model {
        "anima" => ("AnimaModularPipeline", anima()),
        "sd35" => ("StableDiffusion3Pipeline", sd35()),
        "sdxl" => ("StableDiffusionXLPipeline", unet_model(true)),
        _ => ("StableDiffusionPipeline", unet_model(false)),
    };
    let parts: Vec<_> = parts.into_iter().map(|(part, config)| (part, config.to_string())).collect();
    write_folder(folder, pipeline, &parts)
}

/// Returns the parts of Anima, with their configurations.
fn anima() -> Vec<(&'static str, Value)> {
    let transformer = json!({
        "_class_name": "CosmosTransformer3DModel", "in_channels": 16, "out_channels": 16, "num_layers": 28,
        "num_attention_heads": 16, "attention_head_dim": 128, "mlp_ratio": 4.0, "text_embed_dim": 1024,
        "adaln_lora_dim": 256, "patch_size": [1, 2, 2], "rope_scale": [1.0, 4.0, 4.0], "concat_padding_mask": true,
        "extra_pos_embed_type": null, "max_size": [128, 240, 240],
    });
    let conditioner = json!({
        "_class_name": "AnimaTextConditioner", "source_dim": 1024, "model_dim": 1024, "target_dim": 1024,
        "num_layers": 6, "num_attention_heads": 16, "target_vocab_size": 32128, "mlp_ratio": 4.0,
        "min_sequence_length": 512, "use_layer_norm": false, "use_self_attention": true,
    });
    let qwen = json!({
        "architectures": ["Qwen3Model"], "model_type": "qwen3", "hidden_size": 1024, "intermediate_size": 3072,
        "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128,
        "rms_norm_eps": 1e-6, "rope_theta": 1_000_000, "vocab_size": 151_936, "hidden_act": "silu",
        "attention_bias": false, "tie_word_embeddings": true, "max_position_embeddings": 32768,
    });
    let vae = json!({
        "_class_name": "AutoencoderKLQwenImage", "base_dim": 96, "z_dim": 16, "dim_mult": [1, 2, 4, 4],
        "num_res_blocks": 2, "attn_scales": [], "temperal_downsample": [false, true, true], "input_channels": 3,
        "latents_mean": ([0.0; 16]), "latents_std": ([1.0; 16]),
    });
    vec![("transformer", transformer), ("text_conditioner", conditioner), ("text_encoder", qwen), ("vae", vae)]
}

/// Returns the parts of Stable Diffusion 3.5 medium without T5, with their configurations.
fn sd35() -> Vec<(&'static str, Value)> {
    let transformer = json!({
        "_class_name": "SD3Transformer2DModel", "in_channels": 16, "out_channels": 16, "num_layers": 24,
        "num_attention_heads": 24, "attention_head_dim": 64, "joint_attention_dim": 4096,
        "caption_projection_dim": 1536, "pooled_projection_dim": 2048, "patch_size": 2, "pos_embed_max_size": 384,
        "qk_norm": "rms_norm", "dual_attention_layers": ((0..13).collect::<Vec<_>>()), "sample_size": 128,
    });
    let vae = json!({
        "_class_name": "AutoencoderKL", "block_out_channels": [128, 256, 512, 512], "layers_per_block": 2,
        "latent_channels": 16, "down_block_types": (["DownEncoderBlock2D"; 4]),
        "up_block_types": (["UpDecoderBlock2D"; 4]), "scaling_factor": 1.5305, "shift_factor": 0.0609,
        "use_quant_conv": false, "use_post_quant_conv": false,
    });
    let large = clip(1280, 32, "gelu", "CLIPTextModelWithProjection");
    let clip = clip(768, 12, "quick_gelu", "CLIPTextModelWithProjection");
    vec![("transformer", transformer), ("vae", vae), ("text_encoder", clip), ("text_encoder_2", large)]
}

/// Returns the configuration of a text encoder of CLIP.
fn clip(width: i64, layers: i64, act: &str, class: &str) -> Value {
    json!({
        "architectures": [class], "vocab_size": 49408, "hidden_size": width, "num_attention_heads": width / 64,
        "num_hidden_layers": layers, "intermediate_size": 4 * width, "projection_dim": width, "hidden_act": act,
        "eos_token_id": 778,
    })
}

/// Returns the parts of Stable Diffusion 1.5, or of SDXL if `xl` is true, with their configurations.
fn unet_model(xl: bool) -> Vec<(&'static str, Value)> {
    let vae = json!({
        "block_out_channels": [128, 256, 512, 512], "layers_per_block": 2, "latent_channels": 4, "sample_size": 512,
        "down_block_types": (["DownEncoderBlock2D"; 4]), "up_block_types": (["UpDecoderBlock2D"; 4]),
        "scaling_factor": if xl { 0.13025 } else { 0.18215 },
    });
    let [plain, attends] = [["DownBlock2D", "UpBlock2D"], ["CrossAttnDownBlock2D", "CrossAttnUpBlock2D"]];
    let shared = json!({ "in_channels": 4, "out_channels": 4, "layers_per_block": 2, "norm_num_groups": 32 });
    let own = if xl {
        json!({
            "block_out_channels": [320, 640, 1280], "cross_attention_dim": 2048, "sample_size": 128,
            "down_block_types": [plain[0], attends[0], attends[0]], "up_block_types": [attends[1], attends[1], plain[1]],
            "transformer_layers_per_block": [1, 2, 10], "attention_head_dim": [5, 10, 20],
            "use_linear_projection": true, "addition_embed_type": "text_time", "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 2816,
        })
    } else {
        json!({
            "block_out_channels": [320, 640, 1280, 1280], "cross_attention_dim": 768, "sample_size": 64,
            "down_block_types": [attends[0], attends[0], attends[0], plain[0]],
            "up_block_types": [plain[1], attends[1], attends[1], attends[1]], "attention_head_dim": 8,
        })
    };
    let fields = |value: Value| value.as_object().cloned().unwrap_or_default();
    let unet: Value = fields(shared).into_iter().chain(fields(own)).collect();
    let mut parts = vec![("unet", unet), ("vae", vae), ("text_encoder", clip(768, 12, "quick_gelu", "CLIPTextModel"))];
    if xl {
        parts.push(("text_encoder_2", clip(1280, 32, "gelu", "CLIPTextModelWithProjection")));
    }
    parts
}
