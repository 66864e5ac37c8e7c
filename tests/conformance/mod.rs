//! The kinds of conformance cases, and how this crate computes them. `tests/golden/README.md` describes the cases,
//! `tests/golden.rs` runs them.

mod case;
mod comparison;
mod device;
mod flow;
mod flow_text;
mod ip_adapter;
mod networks;
mod package_daam;
mod prompts;
mod runs;
mod schedulers;
mod tokenize;

pub use case::{Case, Result, Stance, Wanted};
pub use device::{choose, choose_kind, device, kind};
use tch::Tensor;

/// Outputs of a kind by name, `<name>` for the case's `out.<name>`.
pub type Outputs = Vec<(String, Tensor)>;

/// Computes the outputs of a case. The error says which expectation of the case's other files (`expected.json`, a
/// manifest) is not met.
pub type Run = fn(&Case) -> Result<Outputs>;

/// Kinds without a network, which stay on the CPU.
pub const ON_CPU: &[&str] = &[
    "tokenize",
    "tokenize_flow",
    "torch_rng",
    "scheduler",
    "flow_solver",
    "scheduler_math",
    "scheduler_refused",
    "clip_preprocess",
    "color_palette",
    "real_configs",
    "real_configs_flow",
    "lora_refused",
    "pickle_refused",
    "prompt_schedule",
];

/// Kinds of one network and its outputs, which can be computed in half precision.
pub const NETWORKS: &[&str] = &[
    "clip_text",
    "clip_text_sdxl",
    "clip_vision",
    "unet",
    "controlnet",
    "vae",
    "taesd",
    "anima_transformer",
    "qwen3_text",
    "anima_conditioner",
    "qwen_vae",
    "vae_shift",
    "t5_text",
];

/// Outputs that the public interface cannot reach, by kind. Unit tests in `src` compare them.
pub const UNREACHABLE: &[(&str, &[&str])] =
    &[("torch_rng", &["mixed.3", "mixed.4", "mixed.5", "mixed.6"]), ("daam", &["expanded_absolute"])];

/// Cases that their kind does not extend to yet, by name, each with what it needs.
pub const NOT_YET: &[(&str, &str)] = &[("real_sd35-medium-transformer", "the transformer of SD 3.5")];

/// All kinds: the name, the function that runs the kind, and the [`CAPABILITIES`] that do not extend to the kind yet.
pub const KINDS: &[(&str, Run, &[&str])] = &[
    ("tokenize", tokenize::run, &[]),
    ("tokenize_flow", flow_text::tokenize_flow, &[]),
    ("torch_rng", schedulers::torch_rng, &[]),
    ("scheduler", schedulers::scheduler, &[]),
    ("flow_solver", flow::flow_solver, &[]),
    ("scheduler_math", schedulers::scheduler_math, &[]),
    ("scheduler_refused", schedulers::scheduler_refused, &[]),
    ("clip_text", networks::clip_text, &[]),
    ("clip_text_sdxl", networks::clip_text_sdxl, &[]),
    ("clip_vision", networks::clip_vision, &[]),
    ("clip_preprocess", networks::clip_preprocess, &[]),
    ("unet", networks::unet, &[]),
    ("controlnet", networks::controlnet, &[]),
    ("controlnet_union", networks::controlnet_union, &[]),
    ("t2i_adapter", networks::t2i_adapter, &[]),
    ("anima_transformer", flow::anima_transformer, &[]),
    ("qwen3_text", flow_text::qwen3_text, &[]),
    ("anima_conditioner", flow_text::anima_conditioner, &[]),
    ("anima_weights", flow_text::anima_weights, &[]),
    ("qwen_vae", flow_text::qwen_vae, &[]),
    ("vae_shift", flow_text::vae_shift, &[]),
    ("t5_text", flow_text::t5_text, &[]),
    ("color_palette", networks::color_palette, &[]),
    ("vae", networks::vae, &[]),
    ("taesd", networks::taesd, &[]),
    ("single_file", networks::single_file, &[]),
    ("lora", networks::lora, &[]),
    ("lora_refused", networks::lora_refused, &[]),
    ("textual_inversion", networks::textual_inversion, &[]),
    ("pickle_refused", networks::pickle_refused, &[]),
    ("ip_adapter", ip_adapter::ip_adapter, &[]),
    ("real_configs", networks::real_configs, &[]),
    ("real_configs_flow", flow_text::real_configs_flow, &[]),
    ("pipeline", runs::pipeline, &[]),
    ("pipeline_ip_adapter", runs::pipeline, &[]),
    ("pipeline_prompt", prompts::pipeline_prompt, &[]),
    ("prompt_schedule", prompts::prompt_schedule, &[]),
    ("pipeline_t2i_adapter", runs::pipeline_t2i_adapter, &[]),
    ("daam", runs::daam, &[]),
    ("color_force", runs::color_force, &[]),
];

/// Capabilities that a case's `needs` may name. A case that needs more is skipped.
pub const CAPABILITIES: &[&str] = &[
    "aesthetic_score",
    "anima:weights",
    "attention:bias",
    "attention:probs",
    "attention:self_probs",
    "beta_sigmas",
    "betas:cosine",
    "betas:linear",
    "center_input_sample",
    "clip_skip",
    "control_window",
    "custom_timesteps",
    "eta",
    "exponential",
    "family:anima",
    "family:sd15",
    "family:sd21",
    "family:sd35",
    "family:sdxl",
    "family:sdxl-refiner",
    "flow",
    "flow:comfy_spacing",
    "flow:custom_levels",
    "flow:dynamic_shift",
    "flow:shift_terminal",
    "flow:stochastic",
    "format:diffusers-bin",
    "format:diffusers-legacy-vae",
    "format:diffusers-sharded",
    "format:ldm-sd1",
    "format:ldm-sd2",
    "format:sgm-sdxl",
    "format:vae",
    "guess_mode",
    "guidance:color_force",
    "guidance:differential",
    "guidance:several_forces",
    "guidance_rescale",
    "hint:5ch",
    "images_per_prompt",
    "inpaint:4ch",
    "inpaint:9ch",
    "inpaint:differential",
    "ip_adapter:blocks",
    "ip_adapter:full",
    "ip_adapter:images",
    "ip_adapter:masks",
    "ip_adapter:plain",
    "ip_adapter:plus",
    "ip_adapter:several",
    "karras",
    "long_context",
    "lora:boft",
    "lora:conv",
    "lora:diffusers_legacy",
    "lora:dora",
    "lora:dora_input",
    "lora:full",
    "lora:glora",
    "lora:half",
    "lora:ia3",
    "lora:kohya",
    "lora:kohya_blocks",
    "lora:loha",
    "lora:lokr",
    "lora:lycoris_names",
    "lora:mid",
    "lora:norm",
    "lora:oft",
    "lora:peft",
    "lora:several",
    "lora:text_encoder",
    "lora:text_scale",
    "lora:tucker",
    "lu_lambdas",
    "micro_conditioning",
    "module:clip_text",
    "module:clip_vision",
    "module:controlnet",
    "module:flow",
    "module:taesd",
    "module:unet",
    "module:vae",
    "guidance:free_u",
    "guidance:pag",
    "guidance:seg",
    "observe:embeds",
    "observe:steps",
    "odd_size",
    "per_item_timestep",
    "pickle:big_endian",
    "pickle:legacy",
    "pickle:zip",
    "prompt:and",
    "prompt:schedule",
    "prompt_list",
    "quirk:lms_strength",
    "quirk:pndm_strength",
    "quirk:pndm_v",
    "quirk:unipc_noise",
    "rng:bfloat16",
    "rng:float16",
    "rng:float64",
    "rng:uniform",
    "sample_prediction",
    "second_prompt",
    "seed_list",
    "sigma_min",
    "solver:ddim",
    "solver:ddpm",
    "solver:deis",
    "solver:dpm2",
    "solver:dpm2_ancestral",
    "solver:dpmpp_2m",
    "solver:dpmpp_2m_sde",
    "solver:dpmpp_2s",
    "solver:dpmpp_2m_sde_flow",
    "solver:dpmpp_3m",
    "solver:dpmpp_3m_sde",
    "solver:dpmpp_3s",
    "solver:dpmsolver",
    "solver:dpmsolver_2s",
    "solver:dpmsolver_sde",
    "solver:euler",
    "solver:er_sde",
    "solver:euler_ancestral",
    "solver:euler_ancestral_rf",
    "solver:flow_euler",
    "solver:flow_heun",
    "solver:flow_lcm",
    "solver:heun",
    "solver:lcm",
    "solver:lms",
    "solver:pndm",
    "solver:tcd",
    "solver:unipc_bh1",
    "solver:unipc_bh2",
    "spacing:leading",
    "spacing:linspace",
    "spacing:trailing",
    "strength",
    "t2i:full",
    "t2i:light",
    "t2i:original",
    "t2i:several",
    "t2i:xl",
    "task:adapter",
    "task:controlnet",
    "task:img2img",
    "task:inpaint",
    "task:txt2img",
    "time_embedding_variants",
    "timestep_cond",
    "token_merging",
    "tokenizer:pad0",
    "tokenizer:qwen",
    "tokenizer:special_tokens",
    "tokenizer:t5",
    "union:several",
    "v_prediction",
    "vae:decode",
    "zero_snr",
];

/// Returns the `needs` that the crate does not meet for a case of `kind`.
pub fn missing(kind: &str, needs: &[String]) -> Vec<String> {
    let Some((.., lacks)) = KINDS.iter().find(|(known, ..)| *known == kind) else {
        return vec![format!("kind {kind}")];
    };
    let met = |need: &str| CAPABILITIES.contains(&need) && !lacks.contains(&need);
    needs.iter().filter(|need| !met(need)).cloned().collect()
}
