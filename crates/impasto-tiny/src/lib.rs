//! A trained latent-diffusion model of Stable Diffusion's architecture, 8.5 MB, and a ControlNet for the model, 2.2 MB,
//! embedded as bytes.
//!
//! The folder `model/` has diffusers' layout. The model draws 256×256 cartoon portraits and simple scenes. The crate
//! [impasto](https://docs.rs/impasto) runs the model when a program names no other model. Its
//! [documentation](https://github.com/impasto-rs/impasto/blob/main/docs/tiny-model.md) says how the model was made and
//! what it can do.
//!
//! ```
//! let index = impasto_tiny::file("model_index.json").expect("every diffusers folder has one");
//! assert!(index.starts_with(b"{"));
//! assert_eq!(impasto_tiny::file("no such file"), None);
//! ```

#![warn(missing_docs)]

/// Lists files of the folder `model/` with their contents.
macro_rules! files {
    ($($file:literal),* $(,)?) => {
        &[$(($file, include_bytes!(concat!("../model/", $file)))),*]
    };
}

/// Every file of the model: its path inside the diffusers folder, and its contents.
pub const FILES: &[(&str, &[u8])] = files![
    "model_index.json",
    "impasto.json",
    "controlnet/config.json",
    "controlnet/diffusion_pytorch_model.safetensors",
    "feature_extractor/preprocessor_config.json",
    "image_encoder/config.json",
    "image_encoder/model.safetensors",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "tokenizer/merges.txt",
    "tokenizer/special_tokens_map.json",
    "tokenizer/tokenizer_config.json",
    "tokenizer/vocab.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
];

/// Returns the contents of a file by its path inside the diffusers folder, or `None` if the model has no such file.
pub fn file(path: &str) -> Option<&'static [u8]> {
    FILES.iter().find(|(name, _)| *name == path).map(|(_, bytes)| *bytes)
}
