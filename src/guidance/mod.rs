//! Guidance methods: values that steer a run.
//!
//! A guidance method is settings, which implement the trait [`Guidance`]. Each run makes a state of its own from them,
//! which implements the trait [`GuidanceRun`]. The state may add branches to the evaluation, hook attention, edit
//! predictions, and shift the Gaussian that the next latent is drawn from. It sees named branches, sites and phases,
//! and the model only through [`Codec`](crate::conditioning::Codec). Guidance methods do not depend on each other, and
//! all can be combined.

mod apg;
mod attached;
mod cfg;
mod cfg_plus_plus;
mod combinations;
mod details;
mod frequency;
#[cfg(test)]
mod guiders;
mod method;
mod pair;
mod plan;
mod report;
mod run;
mod setup;
mod zero_star;

pub use apg::Apg;
pub(crate) use attached::Attached;
pub(crate) use cfg::check_rescale;
pub use cfg::{Cfg, Combine, RescaledCfg};
pub use cfg_plus_plus::CfgPlusPlus;
pub(crate) use combinations::add_combinations;
pub use details::Details;
pub use frequency::FrequencyDecoupled;
pub use method::Guidance;
pub(crate) use method::forward_guidance;
pub(crate) use pair::{Pair, SUM};
pub use plan::Plan;
pub use report::{Curve, Picture, Report, Strip, Swatch};
pub use run::GuidanceRun;
pub use setup::Setup;
pub use zero_star::CfgZeroStar;

/// Upper clamp for σ where a weight depends on the noise level. Zero-terminal-SNR schedules start at huge levels; this
/// value is Stable Diffusion's usual largest.
pub(crate) const LARGEST_LEVEL: f64 = 14.6146;
