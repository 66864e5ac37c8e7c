//! The judges, which find the parts of a picture, and the view that they get of the picture.

mod choice;
mod evaluator;
mod mask_file;
mod masks;
mod program;
mod saliency;
mod view;

pub use choice::Choice;
pub use evaluator::Evaluator;
pub use masks::Masks;
pub use program::Program;
pub use saliency::Saliency;
pub use view::{Judge, Seen, View, class};
