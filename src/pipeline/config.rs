//! [`RequestConfig`]: the settings of a request that a file can hold.

use super::Seamless;
use super::color_words::ColorWords;
use super::detail::Detail;
use super::hires::Hires;
use super::mask_where::MaskWhere;
use crate::diffusion::{Noise, NoiseKind, Spacing};
use crate::micro_conditioning::MicroConditioning;
use crate::sampler::Batching;
use crate::size::Size;
use serde::{Deserialize, Serialize};

/// Settings of a [`Request`](super::Request) that are plain values. If a field has a setter of the same name, the
/// setter's documentation says more.
///
/// [`RunRecipe`](super::RunRecipe) stores these settings beside the picture. [`Request::tune`](super::Request::tune)
/// changes some of them or replaces all of them.
///
/// ```
/// use impasto::pipeline::RequestConfig;
/// let config = RequestConfig { prompt: "1girl, red hair".into(), seed: Some(7), ..RequestConfig::default() };
/// assert_eq!((config.steps, config.images), (28, 1));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RequestConfig {
    /// Description of the pictures.
    pub prompt: String,
    /// Negative prompt: description of what the pictures should not show.
    pub negative: String,
    /// Prompt of a second text encoder; `None`: the same as `prompt`.
    pub second_prompt: Option<String>,
    /// Negative prompt of a second text encoder; `None`: the same as `negative`.
    pub second_negative: Option<String>,
    /// Sizes, crop and score that SDXL reads beside the prompt; `None`: the picture's own size, without a crop.
    pub micro_conditioning: Option<MicroConditioning>,
    /// Sizes, crop and score that SDXL reads beside the negative prompt; `None`: those of the prompt, with a score of
    /// 2.5.
    pub negative_micro_conditioning: Option<MicroConditioning>,
    /// Words that the text encoder reads in place of an exact color in the prompt.
    pub color_words: ColorWords,
    /// Size of the pictures; `None`: the size of the picture to start from, or else the model's default size.
    pub size: Option<Size>,
    /// Number of steps, 1..=1000.
    pub steps: usize,
    /// Seed of the first image; `None`: a random one.
    pub seed: Option<u64>,
    /// Noise that replaces the seed's noise; [`Output::seed`](super::Output::seed) is then `None`.
    pub noise: Option<Noise>,
    /// Floating-point kind that the seed's noise is drawn in; f32 by default. Torch draws other numbers in f16 and
    /// bf16. To repeat a seed of a diffusers pipeline in half precision, therefore use [`NoiseKind::Half`] or
    /// [`NoiseKind::BFloat16`]. The kind that the model computes in does not change the noise.
    pub noise_kind: NoiseKind,
    /// Number of images in the batch, 1..=1024.
    pub images: usize,
    /// Number of seeds to compare by their first passes, 1..=1024. The run finishes the best seed.
    pub best_of: usize,
    /// Name of the solver (sampling method); `None`: the solver set with [`solver`](super::Request::solver), or else
    /// the checkpoint's.
    pub solver_named: Option<String>,
    /// Spacing of the noise levels; `None`: the spacing in the solver's name, or else the checkpoint's.
    pub spacing: Option<Spacing>,
    /// Classifier-free guidance scale, 0 or more; `None`: the model's default.
    pub guidance_scale: Option<f64>,
    /// Share, 0..=1, by which the contrast of the guided prediction is scaled back to that of the unguided prediction:
    /// see [`RescaledCfg`](crate::guidance::RescaledCfg). Ignored if [`combine`](super::Request::combine) sets another
    /// combination.
    pub guidance_rescale: f64,
    /// Thing whose place in the picture to start from is the mask; `None`: the mask that
    /// [`mask`](super::Request::mask) sets, or no mask.
    pub mask_where: Option<MaskWhere>,
    /// Width in pixels, 0..=4096, of a soft edge that a mask gets around its lighter half; `None`: 8 for things that
    /// are found, and 0 for drawn masks.
    pub soften: Option<f64>,
    /// Width in pixels of the band inside a mask in which new and kept pixels are blended; `None`: 8. See
    /// [`mask`](super::Request::mask).
    pub feather: Option<f64>,
    /// True if the tone of new pixels is matched to the kept pixels beside a mask, except where a method gave an exact
    /// color. The default is true.
    pub match_tone: bool,
    /// True if image to image without a mask keeps the mean and the spread of the given picture's colors, channel by
    /// channel, so that they do not drift over many rounds. Exact colors stay. The default is false, because a prompt
    /// that asks for other colors changes the mean.
    pub keep_colors: bool,
    /// Second run at a larger size; `None`: one run.
    pub hires: Option<Hires>,
    /// Parts of the finished picture that are repainted at full size, one after the other.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<Detail>,
    /// Edges at which the picture continues on its opposite side; none by default.
    pub seamless: Seamless,
    /// Seed of a variation, and the share of the way from the first seed's noise to the noise of that seed, 0..=1;
    /// `None`: no variation.
    pub variation: Option<(u64, f64)>,
    /// Share of the training timesteps, 0..=1, after which the run ends; `None`: the run ends with the last step.
    pub until: Option<f64>,
    /// Batching of branches and images.
    pub batching: Batching,
}

impl Default for RequestConfig {
    fn default() -> Self {
        Self {
            prompt: String::new(),
            negative: String::new(),
            second_prompt: None,
            second_negative: None,
            micro_conditioning: None,
            negative_micro_conditioning: None,
            color_words: ColorWords::default(),
            size: None,
            steps: 28,
            seed: None,
            noise: None,
            noise_kind: NoiseKind::default(),
            images: 1,
            best_of: 1,
            solver_named: None,
            spacing: None,
            guidance_scale: None,
            guidance_rescale: 0.0,
            mask_where: None,
            soften: None,
            feather: None,
            match_tone: true,
            keep_colors: false,
            hires: None,
            details: Vec::new(),
            seamless: Seamless::No,
            variation: None,
            until: None,
            batching: Batching::default(),
        }
    }
}
