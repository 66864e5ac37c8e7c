//! Texts of other programs about their runs, read as [`Infotext`]s.

mod comfy_ui;
mod fooocus;
mod invoke_ai;
mod novel_ai;
mod settings;
mod swarm_ui;

use super::infotext::Infotext;
use serde_json::Value;
use settings::object;

/// Keyword of the web UI's text in a PNG file.
pub(super) const PARAMETERS: &str = "parameters";
/// Tag of the web UI's text in EXIF metadata.
const USER_COMMENT: &str = "UserComment";
/// Keyword of ComfyUI's graph in a PNG file, and its label in EXIF metadata.
const PROMPT: &str = "prompt";

impl Infotext {
    /// Keywords of all texts that [`Infotext::of`] reads.
    pub const KEYWORDS: &[&str] = &[
        PARAMETERS,
        USER_COMMENT,
        PROMPT,
        invoke_ai::METADATA,
        invoke_ai::OLD_METADATA,
        novel_ai::COMMENT,
        novel_ai::DESCRIPTION,
        novel_ai::SOFTWARE,
        novel_ai::SOURCE,
        "ImageDescription",
        "Make",
        "Model",
    ];

    /// Reads the text about a run among the texts of a picture ([`Raster::texts`](crate::Raster::texts)), as far as the
    /// text describes the run. `None` if no text is known.
    ///
    /// The known texts are those of the AUTOMATIC1111 web UI and of programs that write the same text, Fooocus,
    /// InvokeAI, NovelAI, SwarmUI and ComfyUI. Settings without an equivalent in the web UI become fields under their
    /// own names.
    ///
    /// ```
    /// use impasto::pipeline::Infotext;
    /// use impasto::{Raster, Rgb};
    ///
    /// let fooocus = r#"{"prompt": "1girl", "negative_prompt": "hat", "steps": 30, "resolution": "(256, 256)"}"#;
    /// let png = Raster::flat(Rgb(255, 215, 0), (8, 8)).to_png(&[("parameters", fooocus)])?;
    /// let info = Infotext::of(&Raster::texts(&png)?).expect("the text of Fooocus");
    /// assert_eq!((info.prompt.as_str(), info.field("Size")), ("1girl", Some("256x256")));
    /// # Ok::<(), impasto::Error>(())
    /// ```
    pub fn of(texts: &[(String, String)]) -> Option<Self> {
        let text = |keyword: &str| texts.iter().find(|(known, _)| known == keyword).map(|(_, text)| text.as_str());
        // Each keyword belongs to one program, except those of the web UI, which many programs use.
        text(invoke_ai::METADATA)
            .and_then(|text| invoke_ai::read(object(text)?))
            .or_else(|| invoke_ai::read_old(object(text(invoke_ai::OLD_METADATA)?)?))
            .or_else(|| novel_ai::read(text))
            .or_else(|| read(text(PARAMETERS)?))
            .or_else(|| read(text(USER_COMMENT)?).filter(|info| !info.fields.is_empty())) // cameras write comments, too
            .or_else(|| comfy_ui::read(object(text(PROMPT)?)?))
            .or_else(|| texts.iter().find_map(|(_, text)| comfy_ui::read(object(text.strip_prefix("prompt:")?)?)))
    }

    /// Parses a text in the web UI's format, or the JSON that other programs write in its place; see [`of`](Self::of).
    /// Parsing never fails: a text without a line of fields is a prompt.
    pub fn parse(text: &str) -> Self {
        read(text).unwrap_or_else(|| Self::of_web_ui(text))
    }
}

/// Reads a text in the web UI's format, or the JSON of another program; `None` for the JSON of an unknown program.
fn read(text: &str) -> Option<Infotext> {
    let Some(mut json) = object(text) else { return Some(Infotext::of_web_ui(text)) };
    if json.contains_key(swarm_ui::PARAMETERS) {
        swarm_ui::read(json)
    } else if json.contains_key(novel_ai::COMMENT) {
        novel_ai::read(|keyword| json.get(keyword)?.as_str())
    } else if json.contains_key(invoke_ai::PROMPT) {
        invoke_ai::read(json)
    } else if let Some(Value::Object(graph)) = json.get_mut(PROMPT) {
        comfy_ui::read(std::mem::take(graph))
    } else if json.values().any(|node| node.get(comfy_ui::CLASS).is_some()) {
        comfy_ui::read(json)
    } else {
        fooocus::read(json)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(texts: &[(&str, &str)]) -> Option<Infotext> {
        let texts: Vec<_> = texts.iter().map(|(keyword, text)| ((*keyword).to_owned(), (*text).to_owned())).collect();
        Infotext::of(&texts)
    }

    /// Returns the text in the web UI's form.
    fn told(texts: &[(&str, &str)]) -> String {
        of(texts).expect("a known text").to_string()
    }

    #[test]
    fn fooocus_is_read() {
        let text = r##"{"adm_guidance": "(1.5, 0.8, 0.3)", "base_model": "juggernautXL_v8", "base_model_hash": "aeb7e9e689",
            "full_negative_prompt": ["(worst quality)", "hat"], "full_prompt": ["cinematic 1girl", "1girl, sharp"],
            "guidance_scale": 4, "loras": [["offset", 0.1, "x"]], "lora_combined_1": "offset : 0.1", "negative_prompt": "hat",
            "metadata_scheme": "fooocus", "prompt": "1girl, #fab fanart, {red} dress", "resolution": "(1152, 896)",
            "sampler": "dpmpp_2m_sde_gpu", "scheduler": "karras", "seed": "77", "steps": 30, "styles": "['Fooocus V2']",
            "version": "Fooocus v2.5.5"}"##;
        assert_eq!(
            told(&[("parameters", text), ("fooocus_scheme", "fooocus")]),
            "1girl, #fab fanart, {red} dress\nNegative prompt: hat\nSteps: 30, Sampler: dpmpp_2m_sde_gpu, \
             Schedule type: karras, CFG scale: 4, Seed: 77, Size: 1152x896, Model: juggernautXL_v8, Model hash: aeb7e9e689, \
             Version: Fooocus v2.5.5, adm_guidance: \"(1.5, 0.8, 0.3)\", lora_combined_1: \"offset : 0.1\", \
             styles: ['Fooocus V2']"
        );
        assert_eq!(Infotext::parse(text).sampler().as_deref(), Some("dpmpp_2m_sde_gpu karras"));
        // The scheme "a1111" is the text of the web UI with a field of its own.
        let text = "1girl\nSteps: 30, Sampler: DPM++ 2M SDE, Seed: 77, Scheduler: exponential, Version: Fooocus v2.5.5";
        assert_eq!(of(&[("parameters", text)]).unwrap().sampler().as_deref(), Some("DPM++ 2M SDE exponential"));
        let ruined = r#"{"Prompt": "a cat", "Negative": "dog", "steps": 9, "cfg": 2.5, "width": 64, "height": 32,
            "sampler_name": "euler", "scheduler": "beta", "base_model_name": "sd.safetensors"}"#;
        assert_eq!(
            told(&[("UserComment", ruined)]),
            "a cat\nNegative prompt: dog\nSteps: 9, Sampler: euler, Schedule type: Beta timesteps, CFG scale: 2.5, \
             Size: 64x32, Model: sd.safetensors"
        );
    }

    #[test]
    fn swarm_ui_is_read() {
        let text = r#"{"sui_image_params": {"prompt": "a {teal} cat", "negativeprompt": "dog", "model": "Official/sd_xl",
            "images": 1, "seed": 1234567890123, "steps": 20, "cfgscale": 7.0, "aspectratio": "1:1", "width": 1024,
            "height": 832, "sampler": "euler_ancestral", "scheduler": "beta", "loras": ["x"], "swarm_version": "0.9.3"},
            "sui_extra_data": {"date": "2025-01-25"}}"#;
        assert_eq!(
            told(&[("parameters", text)]),
            "a {teal} cat\nNegative prompt: dog\nSteps: 20, Sampler: euler_ancestral, Schedule type: Beta timesteps, \
             CFG scale: 7, Seed: 1234567890123, Size: 1024x832, Model: Official/sd_xl, RNG: CPU, Version: 0.9.3, \
             loras: [\"x\"]"
        );
        let text = r#"{"sui_image_params": {"prompt": "a cat", "steps": 20}}"#;
        assert_eq!(of(&[("UserComment", text)]).unwrap().sampler().as_deref(), Some("euler normal"));
        assert_eq!(of(&[("parameters", r#"{"sui_image_params": {"steps": 20}}"#)]), None);
    }

    #[test]
    fn novel_ai_is_read() {
        let comment = r##"{"prompt": "1girl, {rain}, #f00 hat", "steps": 28, "height": 1216, "width": 832, "scale": 5.5,
            "uncond_scale": 0.0, "seed": 3071474384, "n_samples": 1, "noise_schedule": "karras",
            "sampler": "k_euler_ancestral", "sm": false, "uc": "lowres, bad", "request_type": "PromptGenerateRequest"}"##;
        let texts = [
            ("Title", "NovelAI generated image"),
            ("Description", "1girl, {rain}"),
            ("Software", "NovelAI"),
            ("Source", "NovelAI Diffusion V3 0123"),
            ("Comment", comment),
        ];
        let want = "1girl, {rain}, #f00 hat\nNegative prompt: lowres, bad\nSteps: 28, Sampler: k_euler_ancestral, \
                    Schedule type: karras, CFG scale: 5.5, Seed: 3071474384, Size: 832x1216, \
                    Model: NovelAI Diffusion V3 0123, uncond_scale: 0";
        assert_eq!(told(&texts), want);
        // A WebP has the same texts as one JSON.
        let all: serde_json::Map<String, Value> =
            texts.into_iter().map(|(keyword, text)| (keyword.to_owned(), text.into())).collect();
        assert_eq!(told(&[("UserComment", &Value::Object(all).to_string())]), want);
        // Older pictures have the prompt in the description alone, and the native spacing.
        let old = r#"{"steps": 28, "sampler": "k_dpmpp_2m", "seed": 1, "uc": "bad", "noise_schedule": "native"}"#;
        let info = of(&[("Description", "a cat"), ("Software", "NovelAI"), ("Comment", old)]).unwrap();
        assert_eq!((info.prompt.as_str(), info.sampler().as_deref()), ("a cat", Some("k_dpmpp_2m Normal")));
        // A comment is a common keyword.
        assert_eq!(of(&[("Comment", "Created with GIMP")]), None);
        assert_eq!(of(&[("Comment", r#"{"prompt": "a"}"#), ("Software", "Other")]), None);
    }

    #[test]
    fn invoke_ai_is_read() {
        let text = r##"{"generation_mode": "txt2img", "positive_prompt": "a #f00 cat++", "negative_prompt": "dog",
            "width": 512, "height": 768, "seed": 42, "rand_device": "cpu", "cfg_scale": 7.5, "steps": 30,
            "scheduler": "dpmpp_2m_k", "clip_skip": 1, "model": {"key": "k", "hash": "h", "name": "Dreamshaper", "type": "main"},
            "vae": null, "loras": [], "controlnets": [{"weight": 1}], "app_version": "5.0.0"}"##;
        assert_eq!(
            told(&[("invokeai_metadata", text)]),
            "a #f00 cat++\nNegative prompt: dog\nSteps: 30, Sampler: dpmpp_2m, Schedule type: Karras, CFG scale: 7.5, \
             Seed: 42, Size: 512x768, Model: Dreamshaper, Clip skip: 2, RNG: CPU, Version: 5.0.0, \
             controlnets: \"[{\\\"weight\\\":1}]\""
        );
        let sampler = |name: &str| {
            let text = format!(r#"{{"positive_prompt": "a", "scheduler": "{name}"}}"#);
            of(&[("invokeai_metadata", &text)]).unwrap().sampler().unwrap()
        };
        let names = ["euler", "euler_a", "kdpm_2_a_k", "dpmpp_2m_sde", "heun_k", "ddim", "pndm", "unipc", "lms_k"];
        for name in names {
            assert!(crate::diffusion::solver::by_name(&sampler(name)).is_ok(), "{name}");
        }
        assert_eq!(sampler("kdpm_2_a_k"), "dpm_2_a Karras");

        let old = r#"{"model": "stable diffusion", "model_weights": "stable-diffusion-1.5", "app_version": "2.3",
            "image": {"prompt": [{"prompt": "an owl [blurry, text] at night", "weight": 1.0}], "steps": 50, "cfg_scale": 7.5,
            "seed": 7, "height": 512, "width": 512, "sampler": "k_lms", "type": "txt2img", "hires_fix": false}}"#;
        assert_eq!(
            told(&[("sd-metadata", old)]),
            "an owl  at night\nNegative prompt: blurry, text\nSteps: 50, Sampler: k_lms, CFG scale: 7.5, Seed: 7, \
             Size: 512x512, Model: stable-diffusion-1.5"
        );
        assert_eq!(of(&[("invokeai_metadata", "{}"), ("sd-metadata", "[]")]), None);
    }

    /// A graph with a picture that is enlarged and painted again.
    const GRAPH: &str = r##"{
        "3": {"class_type": "KSampler", "inputs": {"seed": 5, "steps": 20, "cfg": 8.0, "sampler_name": "dpmpp_2m",
            "scheduler": "beta", "denoise": 1.0, "model": ["10", 0], "positive": ["6", 0], "negative": ["7", 0],
            "latent_image": ["5", 0]}, "is_changed": [NaN]},
        "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sd15.safetensors"}},
        "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 512, "height": ["14", 0], "batch_size": 1}},
        "6": {"class_type": "CLIPTextEncode", "inputs": {"text": ["12", 0], "clip": ["11", 1]}},
        "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "dog", "clip": ["11", 1]}},
        "10": {"class_type": "LoraLoader", "inputs": {"lora_name": "ink", "strength_model": 0.8, "model": ["4", 0], "clip": ["4", 1]}},
        "11": {"class_type": "CLIPSetLastLayer", "inputs": {"stop_at_clip_layer": -2, "clip": ["10", 1]}},
        "12": {"class_type": "PrimitiveString", "inputs": {"value": "a cat, #f00 hat"}},
        "14": {"class_type": "PrimitiveInt", "inputs": {"value": 768}},
        "2": {"class_type": "KSampler", "inputs": {"seed": 6, "steps": 9, "cfg": 8, "sampler_name": "euler", "scheduler": "normal",
            "denoise": 0.5, "model": ["10", 0], "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["13", 0]}},
        "13": {"class_type": "LatentUpscale", "inputs": {"samples": ["3", 0], "width": 1024, "height": 1024}}
    }"##;

    #[test]
    fn comfy_ui_is_read() {
        let want = "a cat, #f00 hat\nNegative prompt: dog\nSteps: 20, Sampler: dpmpp_2m, Schedule type: Beta timesteps, \
                    CFG scale: 8, Seed: 5, Size: 512x768, Model: sd15.safetensors, Clip skip: 2, RNG: CPU, LoRA: ink 0.8, \
                    Other samplers: 1";
        assert_eq!(told(&[("workflow", "{}"), ("prompt", GRAPH)]), want);
        assert_eq!(told(&[("Make", &format!("prompt:{GRAPH}"))]), want);
        for comment in [format!(r#"{{"prompt": {GRAPH}}}"#), GRAPH.replacen('{', r#"{"extra": {}, "#, 1)] {
            assert_eq!(told(&[("UserComment", &comment)]), want);
        }
        // A saver node writes the text of the web UI beside the graph.
        assert!(told(&[("prompt", GRAPH), ("parameters", "a dog\nSteps: 1, Seed: 2, Size: 8x8")]).starts_with("a dog"));
        let advanced = GRAPH.replace("\"seed\": 5", "\"noise_seed\": 5, \"start_at_step\": 0, \"end_at_step\": 15");
        assert!(told(&[("prompt", &advanced)]).contains("Seed: 5,"));
        assert!(told(&[("prompt", &advanced)]).contains("start_at_step: 0, end_at_step: 15"));
        let combined = GRAPH.replace(r#""positive": ["6", 0]"#, r#""positive": ["20", 0]"#).replacen(
            '{',
            r#"{"20": {"class_type": "ControlNetApplyAdvanced", "inputs": {"positive": ["21", 0], "negative": ["7", 0],
                "control_net": ["4", 0]}}, "21": {"class_type": "ConditioningCombine", "inputs": {
                "conditioning_1": ["6", 0], "conditioning_2": ["22", 0]}},
                "22": {"class_type": "CLIPTextEncodeSDXL", "inputs": {"text_g": "red", "text_l": "r", "clip": ["4", 1]}},"#,
            1,
        );
        assert!(told(&[("prompt", &combined)]).starts_with("a cat, #f00 hat, red\nNegative prompt: dog\n"));
        for unknown in ["a plain prompt", "{}", r#"{"1": {"class_type": "LoadImage", "inputs": {}}}"#, "{\"1\": 2}"] {
            assert_eq!(of(&[("prompt", unknown)]), None, "{unknown}");
        }
    }

    #[test]
    fn graph_of_stable_diffusion_3_is_read() {
        let graph = r##"{
            "1": {"class_type": "KSampler", "inputs": {"seed": 3, "steps": 28, "cfg": 4.5, "sampler_name": "euler",
                "scheduler": "simple", "denoise": 1, "model": ["2", 0], "positive": ["4", 0], "negative": ["5", 0],
                "latent_image": ["6", 0]}},
            "2": {"class_type": "ModelSamplingSD3", "inputs": {"shift": 6.0, "model": ["3", 0]}},
            "3": {"class_type": "UNETLoader", "inputs": {"unet_name": "sd35.safetensors", "weight_dtype": "default"}},
            "4": {"class_type": "CLIPTextEncodeSD3", "inputs": {"clip_l": "an owl", "clip_g": "an owl", "t5xxl": ["7", 0],
                "empty_padding": "none", "clip": ["8", 0]}},
            "5": {"class_type": "ConditioningZeroOut", "inputs": {"conditioning": ["4", 0]}},
            "6": {"class_type": "EmptySD3LatentImage", "inputs": {"width": 832, "height": 1216, "batch_size": 1}},
            "7": {"class_type": "PrimitiveString", "inputs": {"value": "an owl at night"}},
            "8": {"class_type": "TripleCLIPLoader", "inputs": {"clip_name1": "l", "clip_name2": "g", "clip_name3": "t5"}}
        }"##;
        let read = told(&[("prompt", graph)]);
        assert!(read.starts_with("an owl at night\nSteps: 28, Sampler: euler, Schedule type: simple,"), "{read}");
        assert!(read.contains("Seed: 3, Size: 832x1216, Model: sd35.safetensors, RNG: CPU, Shift: 6"), "{read}");
        // The texts of CLIP are told if T5 reads another one, and are the prompt if T5 reads none.
        assert!(read.contains("clip_g: an owl, clip_l: an owl"), "{read}");
        let read = told(&[("prompt", &graph.replace("an owl at night", ""))]);
        assert!(read.starts_with("an owl\nSteps: 28,") && !read.contains("clip_"), "{read}");
    }

    #[test]
    fn sampler_of_parts_is_read() {
        let graph = r##"{
            "1": {"class_type": "SamplerCustomAdvanced", "inputs": {"noise": ["2", 0], "guider": ["3", 0], "sampler": ["4", 0],
                "sigmas": ["5", 0], "latent_image": ["6", 0]}},
            "2": {"class_type": "RandomNoise", "inputs": {"noise_seed": 77}},
            "3": {"class_type": "CFGGuider", "inputs": {"cfg": 5.5, "model": ["8", 0], "positive": ["9", 0], "negative": ["10", 0]}},
            "4": {"class_type": "KSamplerSelect", "inputs": {"sampler_name": "dpmpp_2m"}},
            "5": {"class_type": "BasicScheduler", "inputs": {"scheduler": "sgm_uniform", "steps": 20, "denoise": 0.5, "model": ["8", 0]}},
            "6": {"class_type": "EmptyLatentImage", "inputs": {"width": 512, "height": 768, "batch_size": 1}},
            "8": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sd15.safetensors"}},
            "9": {"class_type": "CLIPTextEncode", "inputs": {"text": "a cat", "clip": ["8", 1]}},
            "10": {"class_type": "CLIPTextEncode", "inputs": {"text": "dog", "clip": ["8", 1]}}
        }"##;
        assert_eq!(
            told(&[("prompt", graph)]),
            "a cat\nNegative prompt: dog\nSteps: 20, Sampler: dpmpp_2m, Schedule type: sgm_uniform, CFG scale: 5.5, \
             Seed: 77, Size: 512x768, Model: sd15.safetensors, Denoising strength: 0.5, RNG: CPU"
        );
        // Parts that are not read become fields.
        let other = graph
            .replace(r#""CFGGuider", "inputs": {"cfg": 5.5, "#, r#""BasicGuider", "inputs": {"#)
            .replace(r#""positive": ["9", 0], "negative": ["10", 0]"#, r#""conditioning": ["9", 0]"#)
            .replace(
                r#""KSamplerSelect", "inputs": {"sampler_name": "dpmpp_2m"}"#,
                r#""SamplerLMS", "inputs": {"order": 4}"#,
            )
            .replace(r#""sigmas": ["5", 0]"#, r#""sigmas": ["11", 0]"#)
            .replace(
                r#""BasicScheduler", "inputs": {"scheduler": "sgm_uniform", "#,
                r#""KarrasScheduler", "inputs": {"rho": 7.0, "#,
            )
            .replacen('{', r#"{"11": {"class_type": "SplitSigmas", "inputs": {"sigmas": ["5", 0], "step": 9}}, "#, 1);
        assert_eq!(
            told(&[("prompt", &other)]),
            "a cat\nSteps: 20, Schedule type: Karras, CFG scale: 1, Seed: 77, Size: 512x768, Model: sd15.safetensors, \
             Denoising strength: 0.5, RNG: CPU, rho: 7, sampler: SamplerLMS, sigmas: SplitSigmas"
        );
        let own = r#""add_noise": false, "noise_seed": 7, "cfg": 8.0, "positive": ["9", 0], "negative": ["10", 0]"#;
        let custom = graph.replace(r#""noise": ["2", 0], "guider": ["3", 0]"#, own);
        assert!(told(&[("prompt", &custom)]).contains("CFG scale: 8, Seed: 7, Size: 512x768"));
        assert!(told(&[("prompt", &custom)]).ends_with("add_noise: false"));
    }

    #[test]
    fn circles_in_a_graph_end() {
        let circle = r#"{
            "1": {"class_type": "KSampler", "inputs": {"seed": ["1", 0], "steps": ["2", 0], "sampler_name": ["2", 0],
                "positive": ["3", 0], "negative": ["2", 0], "model": ["2", 0], "latent_image": ["2", 0]}},
            "2": {"class_type": "Reroute", "inputs": {"": ["2", 0], "value": ["2", 0], "model": ["1", 0]}},
            "3": {"class_type": "CLIPTextEncode", "inputs": {"text": "a cat", "clip": ["2", 0]}}
        }"#;
        assert_eq!(told(&[("prompt", circle)]), "a cat\nRNG: CPU");
        let lost = circle.replace(r#""positive": ["3", 0]"#, r#""positive": ["2", 0]"#);
        assert_eq!(of(&[("prompt", &lost)]), None);
        // A long way is left after some hundred nodes.
        let behind = |nodes: usize| {
            let way = (2..nodes).map(|id| format!(r#""{id}": {{"inputs": {{"": ["{}", 0]}}}}, "#, id + 1));
            let way: String = way.collect();
            let sampler = r#""1": {"inputs": {"sampler_name": "euler", "steps": 1, "positive": ["2", 0]}}"#;
            let graph = format!(r#"{{{way}{sampler}, "{nodes}": {{"inputs": {{"text": "a cat"}}}}}}"#);
            of(&[("prompt", &graph)]).map(|info| info.prompt)
        };
        assert_eq!((behind(100).as_deref(), behind(50_000)), (Some("a cat"), None));
    }

    #[test]
    fn json_of_unknown_programs_is_no_prompt() {
        assert_eq!(of(&[("parameters", r#"{"version": 3, "nodes": []}"#)]), None);
        assert_eq!(
            of(&[("parameters", "{red|blue} hair\nSteps: 1, Seed: 2, Size: 8x8")]).unwrap().prompt,
            "{red|blue} hair"
        );
        assert_eq!(of(&[("Software", "GIMP"), ("Title", "a cat"), ("UserComment", "Screenshot")]), None);
        assert_eq!(Infotext::parse("{}").prompt, "{}");
    }
}
