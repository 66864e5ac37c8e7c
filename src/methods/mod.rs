//! Guidance methods. Each method is one value that is attached to a run.
//!
//! A method has its own file or folder, and one row in `registry.rs`, which reads the method from a recipe. Types that
//! belong to one method are exported by its module.

mod away;
mod changed_attention;
pub mod color_force;
pub mod colorize;
mod free_u;
pub mod image_guidance;
pub mod ip_adapter;
pub mod paint_with_words;
pub mod palette;
mod perturbed_attention;
mod place;
mod prompt_blend;
mod reference_color;
pub(crate) mod region_prompts;
pub(crate) mod registry;
mod skip_layers;
mod smoothed_energy;
mod unmerged_lora;

pub use color_force::ColorForce;
pub use colorize::Colorize;
pub use free_u::FreeU;
pub use image_guidance::ImageGuidance;
pub use ip_adapter::IpAdapter;
pub use paint_with_words::PaintWithWords;
pub use palette::Palette;
pub use perturbed_attention::PerturbedAttention;
pub use prompt_blend::PromptBlend;
pub use reference_color::ReferenceColor;
pub use region_prompts::{RegionPrompt, RegionPrompts};
pub use skip_layers::SkipLayers;
pub use smoothed_energy::SmoothedEnergy;
pub use unmerged_lora::UnmergedLora;
