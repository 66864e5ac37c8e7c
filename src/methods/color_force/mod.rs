//! Color forcing, which pulls the object that a phrase names toward a flat color.

mod beside;
mod comparison;
mod cutoff;
mod feedback;
mod finder;
mod forcing;
mod gold;
mod maps;
mod measure;
mod method;
mod options;
mod outlook;
mod protect;
mod recipe;
mod recolor;
mod redraw;
mod redrawing;
mod repainting;
mod report;
mod run;
mod seen_color;
mod settings;
mod texture;
mod trim;
mod warning;

pub use cutoff::Cutoff;
pub use gold::GoldMode;
pub use measure::ColorStat;
pub use method::ColorForce;
pub use options::{Feedback, ForceOptions, ForceTarget, MaskEdge, Overlap, StepVariance};
pub use protect::ProtectMode;
pub use report::{ColorReport, ForcedStep, PaintedColor};
pub use run::ForceRun;
pub use texture::Texture;
pub use trim::Trimmed;
pub use warning::ColorWarning;
