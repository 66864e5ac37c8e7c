//! Types that reproduce the published code of another project, so that results can be compared with this crate's.
//!
//! New work does not need these types: every default of the crate is the corrected behavior.

pub use crate::diffusion::solver::dpmpp_sde::SdeNoise;
pub use crate::diffusion::solver::multistep::Taylor;
pub use crate::methods::image_guidance::params::Compat;
pub use crate::vision::view::ClipRange;
