//! [`RequestConfig`]: the settings of a request that a file can hold.

use super::Seamless;
use super::color_words::ColorWords;
use super::detail::Detail;
use super::hires::Hires;
use super::mask_where::MaskWhere;
use super::seed;
use crate::diffusion::{Noise, NoiseKind, Spacing};
use crate::json;
use crate::micro_conditioning::MicroConditioning;
use crate::prompt::PromptSyntax;
use crate::sampler::{Batching, MaskedContent};
use crate::size::Size;
use serde::{Deserialize, Serialize};

/// Settings of a [`Request`](super::Request) that are plain values. If a field has a setter of the same name, the
/// setter's documentation says more.
///
/// [`RunRecipe`](super::RunRecipe) stores these settings beside the picture. [`Request::tune`](super::Request::tune)
/// changes some of them or replaces all of them. A [`Job`](super::job::Job) has them beside its pictures and methods.
/// With the feature `clap`, each setting is an option of a command line; with `schemars`, a property of a JSON schema.
///
/// Related: [`RescaledCfg`](crate::guidance::RescaledCfg) for `guidance_rescale`, which has no effect on another
/// combination set by [`combine`](super::Request::combine); [`Output::seed`](super::Output::seed), which is `None`
/// beside `noise`.
///
/// ```
/// use impasto::pipeline::RequestConfig;
/// let mut config = RequestConfig::default();
/// config.prompt = "1girl, red hair".into();
/// config.seed = Some(7);
/// assert_eq!((config.steps, config.images), (None, 1));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[non_exhaustive]
pub struct RequestConfig {
    /// Description of the picture. A color before a word is painted exactly: "1girl, #ffd700 eyes, hair".
    #[cfg_attr(feature = "clap", arg(value_name = "PROMPT", default_value = "", hide_default_value = true))]
    pub prompt: String,
    /// Negative prompt: description of what the picture should not show.
    #[cfg_attr(feature = "clap", arg(long, value_name = "TEXT", alias = "negative-prompt"))]
    #[cfg_attr(feature = "clap", arg(default_value = "", hide_default_value = true))]
    pub negative: String,
    /// Size of the picture in pixels. The default is the size of the picture to start from, or else the model's own.
    #[cfg_attr(feature = "clap", arg(long, value_name = "WIDTHxHEIGHT"))]
    pub size: Option<Size>,
    /// Number of steps, 1 to 1000. The default is the model's own: 28, or fewer for a model distilled to few steps.
    #[cfg_attr(feature = "clap", arg(long, value_name = "NUMBER", allow_negative_numbers = true))]
    pub steps: Option<usize>,
    /// Seed of the first picture. The default, or -1, is a random seed. The last of several counts.
    #[serde(deserialize_with = "seed::read")]
    #[cfg_attr(feature = "clap", arg(long, value_name = "SEED", value_parser = seed::parse, default_value = "-1"))]
    #[cfg_attr(
        feature = "clap",
        arg(hide_default_value = true, allow_negative_numbers = true, overrides_with = "seed")
    )]
    // clap reads `Option` without a path as an option that may be missing, but a value of -1 is given.
    pub seed: std::option::Option<u64>,
    /// Number of pictures, each of the next seed.
    #[cfg_attr(feature = "clap", arg(long, value_name = "NUMBER", default_value_t = 1))]
    #[cfg_attr(feature = "clap", arg(hide_default_value = true, allow_negative_numbers = true))]
    pub images: usize,
    /// Number of seeds that are compared by their first passes, 1 to 1024. The best one is finished.
    #[cfg_attr(feature = "clap", arg(long, value_name = "NUMBER", default_value_t = 1))]
    #[cfg_attr(feature = "clap", arg(hide_default_value = true, allow_negative_numbers = true))]
    pub best_of: usize,
    /// Sampler (solver) by its name in diffusers, the AUTOMATIC1111 web UI or ComfyUI, such as "DPM++ 2M Karras". The
    /// default is the checkpoint's.
    #[serde(rename = "sampler", alias = "solver_named")]
    #[cfg_attr(feature = "clap", arg(id = "sampler", long = "sampler", value_name = "NAME"))]
    pub solver_named: Option<String>,
    /// Classifier-free guidance scale, 0 or more. The default is the model's own.
    #[cfg_attr(feature = "clap", arg(long = "scale", value_name = "NUMBER", allow_negative_numbers = true))]
    #[cfg_attr(feature = "clap", arg(aliases = ["cfg", "cfg-scale", "guidance-scale"]))]
    pub guidance_scale: Option<f64>,
    /// Thing in the picture to start from that is repainted, in place of a mask. Several things have commas between
    /// them. The mask is larger than the thing by some pixels, 8 by default.
    #[cfg_attr(feature = "clap", arg(long, value_name = "PHRASE[:PIXELS]", help_heading = REPAINTING))]
    // Without a parser, clap would take the phrase whole, by `From<String>`.
    #[cfg_attr(feature = "clap", arg(value_parser = str::parse::<MaskWhere>))]
    pub mask_where: Option<MaskWhere>,
    /// Width in pixels, 0 to 4096, of a soft edge that a mask gets around its lighter half. The default is 8 for things
    /// that are found, and 0 for drawn masks.
    #[cfg_attr(feature = "clap", arg(long, value_name = "PIXELS", help_heading = REPAINTING))]
    #[cfg_attr(feature = "clap", arg(allow_negative_numbers = true))]
    pub soften: Option<f64>,
    /// Width in pixels, 0 to 4096, of the band inside a mask in which new and kept pixels are blended. The default is
    /// 8; 0 gives a hard border.
    #[cfg_attr(feature = "clap", arg(long, value_name = "PIXELS", help_heading = REPAINTING))]
    #[cfg_attr(feature = "clap", arg(allow_negative_numbers = true))]
    pub feather: Option<f64>,
    /// Content under a mask at the beginning of the run: the picture, noise, or nothing. The default is the picture.
    #[cfg_attr(feature = "clap", arg(long, value_name = "CONTENT", value_enum, default_value_t))]
    #[cfg_attr(feature = "clap", arg(help_heading = REPAINTING))]
    pub masked_content: MaskedContent,
    /// True if the tone of new pixels is matched to the kept pixels beside a mask, except where a method gave an exact
    /// color.
    #[cfg_attr(feature = "clap", arg(long, value_name = "BOOL", default_value_t = true, help_heading = REPAINTING))]
    #[cfg_attr(feature = "clap", arg(action = clap::ArgAction::Set))]
    pub match_tone: bool,
    /// Keeps the colors of the picture to start from as a whole, channel by channel, so that they do not drift over
    /// many rounds. Exact colors stay. Not for prompts that ask for other colors.
    #[cfg_attr(feature = "clap", arg(long, help_heading = REPAINTING))]
    pub keep_colors: bool,
    /// Second run at a larger size, over the enlarged picture. The strength is 0.5 unless it is given.
    #[cfg_attr(feature = "clap", arg(long, value_name = "SCALE[:STRENGTH]", help_heading = LARGE))]
    pub hires: Option<Hires>,
    /// Part of the finished picture that is repainted at full size. Several are repainted one after the other.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "clap", arg(id = "details", long = "detail", help_heading = REPAINTING))]
    #[cfg_attr(feature = "clap", arg(value_name = "PHRASE[=PROMPT][:STRENGTH]", value_parser = str::parse::<Detail>))]
    pub details: Vec<Detail>,
    /// Edges at which the picture continues on its opposite side, so that copies of it make a pattern.
    #[cfg_attr(feature = "clap", arg(long, value_name = "EDGES", value_enum, default_value_t, help_heading = LARGE))]
    pub seamless: Seamless,
    /// Prompt of a second text encoder (SDXL, SD 3). The default is the prompt.
    #[cfg_attr(feature = "clap", arg(long, value_name = "TEXT", help_heading = MORE))]
    pub second_prompt: Option<String>,
    /// Negative prompt of a second text encoder. The default is the negative prompt.
    #[cfg_attr(feature = "clap", arg(long, value_name = "TEXT", help_heading = MORE))]
    pub second_negative: Option<String>,
    /// Prompt of a third text encoder (SD 3). The default is the prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "clap", arg(long, value_name = "TEXT", help_heading = MORE))]
    pub third_prompt: Option<String>,
    /// Negative prompt of a third text encoder. The default is the negative prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "clap", arg(long, value_name = "TEXT", help_heading = MORE))]
    pub third_negative: Option<String>,
    /// Sizes, crop and score that SDXL reads beside the prompt, such as "original_size=4096x4096,crop=0x0". The default
    /// is the picture's own size, without a crop.
    #[cfg_attr(feature = "clap", arg(long, value_name = "NAME=VALUE,...", help_heading = MORE))]
    pub micro_conditioning: Option<MicroConditioning>,
    /// Sizes, crop and score that SDXL reads beside the negative prompt. The default is those of the prompt, with a
    /// score of 2.5.
    #[cfg_attr(feature = "clap", arg(long, value_name = "NAME=VALUE,...", help_heading = MORE))]
    pub negative_micro_conditioning: Option<MicroConditioning>,
    /// Syntax of prompts beyond weights: that of the AUTOMATIC1111 web UI by default.
    #[serde(deserialize_with = "json::any_case")]
    #[cfg_attr(feature = "clap", arg(long, value_name = "SYNTAX", value_enum, default_value_t, help_heading = MORE))]
    pub syntax: PromptSyntax,
    /// Words that the text encoder reads in place of an exact color in the prompt.
    #[serde(deserialize_with = "json::any_case")]
    #[cfg_attr(feature = "clap", arg(long, value_name = "WORDS", value_enum, default_value_t, help_heading = MORE))]
    pub color_words: ColorWords,
    /// Spacing of the noise levels. The default is the spacing in the sampler's name, or else the checkpoint's.
    #[serde(deserialize_with = "json::any_case_or_none")]
    #[cfg_attr(feature = "clap", arg(long, value_name = "SPACING", value_enum, help_heading = MORE))]
    pub spacing: Option<Spacing>,
    /// Share, 0 to 1, by which the contrast of the guided prediction is scaled back to that of the unguided prediction.
    #[cfg_attr(feature = "clap", arg(long, value_name = "SHARE", default_value_t = 0.0, help_heading = MORE))]
    #[cfg_attr(feature = "clap", arg(hide_default_value = true, allow_negative_numbers = true))]
    pub guidance_rescale: f64,
    /// Number of steps, 1 to 10, for which the deep layers of the network are computed once. This takes less time, and
    /// changes the picture. The default, 1, computes all layers in every step. A step in which a method reads attention
    /// in these layers is computed whole.
    #[cfg_attr(feature = "clap", arg(long, value_name = "STEPS", default_value_t = 1, help_heading = MORE))]
    #[cfg_attr(feature = "clap", arg(hide_default_value = true, allow_negative_numbers = true))]
    pub reuse: usize,
    /// Share, 0 to 0.75, of the cells that self-attention computes together with similar cells, at the largest grid on
    /// which the network attends. This takes less time, and changes the picture; 0.5 is usual. The default, 0, computes
    /// each cell. A layer in which a method reads or changes self-attention computes each cell.
    #[cfg_attr(feature = "clap", arg(long, value_name = "SHARE", default_value_t = 0.0, help_heading = MORE))]
    #[cfg_attr(feature = "clap", arg(hide_default_value = true, allow_negative_numbers = true))]
    pub merge_tokens: f64,
    /// Layer of CLIP that prompts are read from, counted from the last one, as "Clip skip" of the web UI: 2 suits many
    /// anime models. The default is the model's own.
    #[cfg_attr(feature = "clap", arg(long, value_name = "LAYER", help_heading = MORE))]
    pub clip_skip: Option<usize>,
    /// Seed of a variation, and the share of the way from the first seed's noise to the noise of that seed, 0 to 1.
    #[cfg_attr(feature = "clap", arg(long, value_name = "SEED:SHARE", value_parser = seed::variation))]
    #[cfg_attr(feature = "clap", arg(help_heading = MORE))]
    pub variation: Option<(u64, f64)>,
    /// Number format that the seed's noise is drawn in. Torch draws other numbers in f16 and bf16, so a seed of a
    /// diffusers pipeline in half precision is repeated with `half` or `b-float16`. The kind that the model computes in
    /// does not change the noise.
    #[serde(deserialize_with = "json::any_case")]
    #[cfg_attr(feature = "clap", arg(long, value_name = "FORMAT", value_enum, default_value_t, help_heading = MORE))]
    pub noise_kind: NoiseKind,
    /// Batching of branches and images.
    #[serde(deserialize_with = "json::any_case")]
    #[cfg_attr(feature = "clap", arg(long, value_name = "BATCHING", value_enum, default_value_t, help_heading = MORE))]
    pub batching: Batching,
    /// Largest memory in MiB that a run may hold beside the model. Larger batches are split, which changes pictures as
    /// little as another batching does. The default is no limit.
    #[cfg_attr(feature = "clap", arg(long, value_name = "MIB", help_heading = MORE))]
    pub memory_limit: Option<u64>,
    /// Noise that replaces the seed's noise. Then the run has no seed.
    #[cfg_attr(feature = "clap", arg(skip))]
    #[cfg_attr(feature = "schemars", schemars(with = "Option<serde_json::Value>"))]
    pub noise: Option<Noise>,
    /// Share of the training timesteps, 0 to 1, after which the run ends without a picture. The default is the whole
    /// run.
    #[cfg_attr(feature = "clap", arg(skip))]
    pub until: Option<f64>,
}

/// Headings of groups of options.
#[cfg(feature = "clap")]
const MORE: &str = "More settings of the run";
#[cfg(feature = "clap")]
const REPAINTING: &str = "Repainting";
#[cfg(feature = "clap")]
const LARGE: &str = "Large pictures";

impl Default for RequestConfig {
    fn default() -> Self {
        Self {
            prompt: String::new(),
            negative: String::new(),
            second_prompt: None,
            second_negative: None,
            third_prompt: None,
            third_negative: None,
            micro_conditioning: None,
            negative_micro_conditioning: None,
            syntax: PromptSyntax::default(),
            color_words: ColorWords::default(),
            size: None,
            steps: None,
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
            masked_content: MaskedContent::Picture,
            match_tone: true,
            keep_colors: false,
            hires: None,
            details: Vec::new(),
            seamless: Seamless::No,
            variation: None,
            until: None,
            reuse: 1,
            clip_skip: None,
            merge_tokens: 0.0,
            batching: Batching::default(),
            memory_limit: None,
        }
    }
}
