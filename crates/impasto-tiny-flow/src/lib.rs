//! A transformer with flow matching for `impasto-tiny`, of the form of Anima's, 8.2 MB, embedded as bytes.
//!
//! The folder `model/` has the transformer in diffusers' layout, its scheduler, and the defaults of its runs. All other
//! parts of the model are those of `impasto-tiny`. The crate [impasto](https://docs.rs/impasto) runs the model as
//! `Source::embedded_flow()`. Its
//! [documentation](https://github.com/impasto-rs/impasto/blob/main/docs/tiny-model.md) says how the transformer was
//! made and what it can do.
//!
//! ```
//! let config = impasto_tiny_flow::file("transformer/config.json").expect("a model has a network");
//! assert!(config.starts_with(b"{"));
//! assert_eq!(impasto_tiny_flow::file("no such file"), None);
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
    "model_index.json",
    "scheduler/scheduler_config.json",
    "transformer/config.json",
    "transformer/diffusion_pytorch_model.safetensors",
];

/// Returns the contents of a file by its path inside the diffusers folder, or `None` if the model has no such file.
pub fn file(path: &str) -> Option<&'static [u8]> {
    FILES.iter().find(|(name, _)| *name == path).map(|(_, bytes)| *bytes)
}
