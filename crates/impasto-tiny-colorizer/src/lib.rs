//! A trained model that colors sketches like reference pictures, 6.4 MB, embedded as bytes.
//!
//! The folder `model/` has the networks of ColorizeDiffusion's architecture in diffusers' layout: a UNet, the sketch
//! encoder, and the vision tower that reads the reference. Autoencoder, text encoder and scheduler are those of
//! `impasto-tiny`. The crate [impasto](https://docs.rs/impasto) runs the model as `Source::embedded_colorizer()`. Its
//! [documentation](https://github.com/impasto-rs/impasto/blob/main/docs/colorize.md) says how the model was made and
//! what it can do.
//!
//! ```
//! let config = impasto_tiny_colorizer::file("sketch_encoder/config.json").expect("a colorizer reads sketches");
//! assert!(config.starts_with(b"{"));
//! assert_eq!(impasto_tiny_colorizer::file("no such file"), None);
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
    "impasto.json",
    "image_encoder/config.json",
    "image_encoder/model.safetensors",
    "sketch_encoder/config.json",
    "sketch_encoder/model.safetensors",
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
];

/// Returns the contents of a file by its path inside the diffusers folder, or `None` if the model has no such file.
pub fn file(path: &str) -> Option<&'static [u8]> {
    FILES.iter().find(|(name, _)| *name == path).map(|(_, bytes)| *bytes)
}
