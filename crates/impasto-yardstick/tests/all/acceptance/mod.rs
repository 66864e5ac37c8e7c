//! Does the crate keep its promises on the embedded model? Bounds on what users see, as a network judges it that knows nothing of
//! guidance. Tables of the documentation are made by the ignored tests beside them.

mod color_forcing;
mod half_precision;
mod image_guidance;
mod judge;
mod perturbed_attention;
mod placement;
mod reference_color;
mod saliency;
mod strokes;
