//! Acceptance tests on the embedded model. They set bounds on the pictures that users see, judged by a network that
//! knows nothing of guidance. Ignored tests beside them make the tables of the documentation.

mod color_forcing;
mod half_precision;
mod image_guidance;
mod judge;
mod perturbed_attention;
mod placement;
mod reference_color;
mod saliency;
mod strokes;
