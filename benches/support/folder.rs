//! Diffusers folders with random weights.

use impasto::Result;
use impasto::nn::{ClipText, ClipTextConfig, ConfigFile, UNet, UnetConfig, Vae, VaeConfig};
use impasto::weights::{Weights, write_safetensors};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use tch::{Device, Kind};

/// The folder of the embedded model's files.
pub const TINY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/crates/impasto-tiny/model");

/// Returns the path of a part's weights.
pub fn weights_file(folder: &Path, part: &str) -> PathBuf {
    let stem = if part.starts_with("text_encoder") { "model" } else { "diffusion_pytorch_model" };
    folder.join(part).join(format!("{stem}.safetensors"))
}

/// Writes a diffusers folder of random f16 weights: the parts with their configurations, and the embedded model's
/// tokenizer.
pub fn write_folder(folder: &Path, pipeline: &str, parts: &[(&str, String)]) -> Result<()> {
    for (part, config) in parts {
        let random = Weights::random(1, Kind::Half, Device::Cpu);
        match *part {
            "unet" => UNet::new(&random, &UnetConfig::from_json(part, config)?).map(drop)?,
            "vae" => Vae::new(&random, &VaeConfig::from_json(part, config)?).map(drop)?,
            _ => ClipText::new(&random, &ClipTextConfig::from_json(part, config)?).map(drop)?,
        }
        fs::create_dir(folder.join(part)).expect("a folder");
        fs::write(folder.join(part).join("config.json"), config).expect("written");
        write_safetensors(&random.drawn()?, &weights_file(folder, part))?;
    }
    for tokenizer in ["tokenizer", "tokenizer_2"] {
        fs::create_dir(folder.join(tokenizer)).expect("a folder");
        for file in ["vocab.json", "merges.txt", "special_tokens_map.json", "tokenizer_config.json"] {
            let from = Path::new(TINY).join("tokenizer").join(file);
            fs::copy(from, folder.join(tokenizer).join(file)).expect("copied");
        }
    }
    let index = json!({ "_class_name": pipeline, "force_zeros_for_empty_prompt": true });
    fs::write(folder.join("model_index.json"), index.to_string()).expect("written");
    Ok(())
}

/// Writes a diffusers folder of random f16 weights in the sizes of Stable Diffusion 1.5 (2.1 GB), or of SDXL (6.9 GB)
/// if `xl` is true.
pub fn write_model(folder: &Path, xl: bool) -> Result<()> {
    let text = |width: i64, layers: i64, act: &str| {
        json!({
            "architectures": [if width == 768 { "CLIPTextModel" } else { "CLIPTextModelWithProjection" }],
            "vocab_size": 49408, "hidden_size": width, "num_attention_heads": width / 64, "num_hidden_layers": layers,
            "intermediate_size": 4 * width, "projection_dim": width, "hidden_act": act, "eos_token_id": 778,
        })
    };
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
    let mut parts = vec![("unet", unet), ("vae", vae), ("text_encoder", text(768, 12, "quick_gelu"))];
    if xl {
        parts.push(("text_encoder_2", text(1280, 32, "gelu")));
    }
    let pipeline = if xl { "StableDiffusionXLPipeline" } else { "StableDiffusionPipeline" };
    let parts: Vec<_> = parts.into_iter().map(|(part, config)| (part, config.to_string())).collect();
    write_folder(folder, pipeline, &parts)
}
