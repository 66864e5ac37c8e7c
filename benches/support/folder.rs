//! Diffusers folders with random weights.

use impasto::Result;
use impasto::nn::{ClipText, ClipTextConfig, ConfigFile, UNet, UnetConfig, Vae, VaeConfig};
use impasto::weights::{Weights, write_safetensors};
use serde_json::json;
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
