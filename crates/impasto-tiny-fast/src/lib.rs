//! The UNet of `impasto-tiny`, distilled to paint in four steps, 4.7 MB, embedded as bytes.
//!
//! The folder `model/` has the UNet in diffusers' layout, and the defaults of its runs. All other parts of the model
//! are those of `impasto-tiny`. The crate [impasto](https://docs.rs/impasto) runs the model as
//! `Source::embedded_fast()`. Its
//! [documentation](https://github.com/impasto-rs/impasto/blob/main/docs/tiny-model.md) says how the UNet was made and
//! what it can do.
//!
//! ```
//! let config = impasto_tiny_fast::file("unet/config.json").expect("a model has a UNet");
//! assert!(config.starts_with(b"{"));
//! assert_eq!(impasto_tiny_fast::file("no such file"), None);
//! ```

#![warn(missing_docs)]

/// Lists files of the folder `model/` with their contents.
macro_rules! files {
    ($($file:literal),* $(,)?) => {
        &[$(($file, include_bytes!(concat!("../model/", $file)))),*]
    };
}

/// Every file of the model: its path inside the diffusers folder, and its contents.
pub const FILES: &[(&str, &[u8])] =
    files!["impasto.json", "unet/config.json", "unet/diffusion_pytorch_model.safetensors"];

/// Returns the contents of a file by its path inside the diffusers folder, or `None` if the model has no such file.
pub fn file(path: &str) -> Option<&'static [u8]> {
    FILES.iter().find(|(name, _)| *name == path).map(|(_, bytes)| *bytes)
}
