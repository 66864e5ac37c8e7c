//! The model inside the crate.
//!
//! The files under `weights/tiny/` are a diffusers folder like any other: replacing them is all there is to do when a
//! better model comes. `docs/tiny-model.md` tells how it was made.

/// Lists the folder's files with their contents.
macro_rules! files {
    ($($file:literal),* $(,)?) => {
        &[$(($file, include_bytes!(concat!("tiny/", $file)))),*]
    };
}

const FILES: &[(&str, &[u8])] = files![
    "model_index.json",
    "impasto.json",
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

/// A file by its path inside the folder.
pub(super) fn file(path: &str) -> Option<&'static [u8]> {
    FILES.iter().find(|(name, _)| *name == path).map(|(_, bytes)| *bytes)
}
