//! [`FewSteps`]: how a network that was distilled to few steps is sampled.

use crate::diffusion::{Prediction, SchedulerConfig};
use crate::wording::Note;
use std::borrow::Cow;
use std::path::Path;

/// Settings for sampling a network that was distilled to few steps. Files of distilled networks hold the tensors of
/// ordinary networks, so the name of the file tells them apart.
///
/// Sources: the descriptions that SD-Turbo, LCM, SDXL-Lightning, Hyper-SD, TCD, DMD2, SD 3.5 Large Turbo, TurboX,
/// Z-Image-Turbo, Z-Image-Fun and Anima Turbo were published with. Networks that others merged from these are sampled
/// as most of their authors advise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct FewSteps {
    /// Name of the method of distillation.
    method: &'static str,
    sampling: Sampling,
    pub steps: usize,
    pub guidance_scale: f64,
    /// Side of pictures in pixels, if it is not the side that the network's configuration says.
    pub side: Option<u32>,
    /// True if the network predicts the clean picture.
    predicts_sample: bool,
}

/// A solver and the spacing of its noise levels.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Sampling {
    Lcm,
    Tcd,
    /// Euler with trailing timesteps.
    Euler,
    /// Ancestral Euler with trailing timesteps.
    EulerAncestral,
    /// DDIM with trailing timesteps.
    Ddim,
    /// Stochastic DPM++ with Karras levels.
    DpmppSde,
}

impl Sampling {
    /// Returns the scheduler's class in diffusers, and the sampler's name in the AUTOMATIC1111 web UI.
    const fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Lcm => ("LCMScheduler", "LCM"),
            Self::Tcd => ("TCDScheduler", "TCD"),
            Self::Euler => ("EulerDiscreteScheduler", "Euler"),
            Self::EulerAncestral => ("EulerAncestralDiscreteScheduler", "Euler a"),
            Self::Ddim => ("DDIMScheduler", "DDIM"),
            Self::DpmppSde => ("DPMSolverSDEScheduler", "DPM++ SDE Karras"),
        }
    }
}

impl FewSteps {
    /// Returns how a network is sampled that embeds its guidance scale.
    pub(super) const fn with_embedded_guidance() -> Self {
        Self::new("LCM", Sampling::Lcm, 4, 8.5)
    }

    /// Returns how a checkpoint with this name is sampled; `None` if the name tells of no distillation.
    pub(super) fn of_checkpoint(name: &str, is_xl: bool) -> Option<Self> {
        let words = words(name);
        // The authors' own files are named "sd…", as no file of a merged network is.
        let is_own = words.first().is_some_and(|first| first.starts_with("sd"));
        let of_merged = |method| Some(Self::new(method, Sampling::DpmppSde, 6, 2.0));
        let named = |word: &str| words.iter().any(|own| own.starts_with(word));
        match () {
            () if let Some(own) = Self::of_either(&words, is_xl) => Some(own),
            () if named("turbo") && is_own && is_xl => {
                Some(Self { side: Some(512), ..Self::new("SDXL-Turbo", Sampling::EulerAncestral, 4, 1.0) })
            }
            () if named("turbo") && is_own => Some(Self::new("SD-Turbo", Sampling::Euler, 4, 1.0)),
            () if named("turbo") && is_xl => of_merged("SDXL-Turbo"),
            () if named("lightning") && is_xl => of_merged("SDXL-Lightning"),
            () if is_hyper(&words) => of_merged("Hyper-SD"),
            () => None,
        }
    }

    /// Returns how a checkpoint of Z-Image with this name is sampled; `None` if the name tells of no distillation.
    pub(super) fn of_z_image(name: &str) -> Option<Self> {
        is_turbo(&words(name)).then_some(Self::new("Z-Image-Turbo", Sampling::Euler, 8, 1.0))
    }

    /// Returns how a checkpoint of Anima with this name is sampled; `None` if the name tells of no distillation.
    pub(super) fn of_anima(name: &str) -> Option<Self> {
        let words = words(name);
        is_turbo(&words).then(|| Self::of_anima_turbo(&words))
    }

    /// Returns how Anima Turbo is sampled; its files, which have these words, are published without a number of steps.
    fn of_anima_turbo(words: &[String]) -> Self {
        Self::new("Anima Turbo", Sampling::Euler, steps_of(words).unwrap_or(10), 1.0)
    }

    /// Returns how a checkpoint of Stable Diffusion 3 with this name is sampled; `None` if the name tells of no
    /// distillation.
    pub(super) fn of_sd3(name: &str) -> Option<Self> {
        let words = words(name);
        let steps = steps_of(&words).unwrap_or(4);
        is_turbo(&words).then_some(Self::new("SD 3.5 Turbo", Sampling::Euler, steps, 1.0))
    }

    /// Returns how a flow with a LoRA of this file is sampled; `None` if the file's name tells of no distillation. The
    /// noise levels and the solver stay those of the flow.
    pub(super) fn of_lora_of_flow(file: &str) -> Option<Self> {
        let words = words(&stem_of(file));
        // Other LoRAs have "turbo" in their names too, so Anima's own ones are known by three words.
        if ["anima", "turbo", "lora"].iter().all(|word| words.iter().any(|own| own == word)) {
            return Some(Self::of_anima_turbo(&words));
        }
        let steps = steps_of(&words)?;
        let has = |word: &str| words.iter().any(|own| own.starts_with(word));
        match () {
            () if is_hyper(&words) && has("cfg") => {
                let scale = match steps {
                    ..=4 => 3.0,
                    5..=8 => 5.0,
                    _ => 7.0,
                };
                Some(Self::new("Hyper-SD", Sampling::Euler, steps, scale))
            }
            () if is_hyper(&words) => Some(Self::new("Hyper-SD", Sampling::Euler, steps, 1.0)),
            () if has("turbo") || has("lightning") => Some(Self::new("Turbo", Sampling::Euler, steps, 1.0)),
            () if has("distill") => Some(Self::new("distillation", Sampling::Euler, steps, 1.0)),
            () => None,
        }
    }

    /// Returns how a model with a LoRA of this file is sampled; `None` if the file's name tells of no distillation.
    pub(super) fn of_lora(file: &str, is_xl: bool) -> Option<Self> {
        let words = words(&stem_of(file));
        let has = |word: &str| words.iter().any(|own| own == word);
        let turbo = is_xl && has("turbo") && (has("xl") || has("sdxl"));
        Self::of_either(&words, is_xl).or(turbo.then_some(Self::new("SDXL-Turbo", Sampling::EulerAncestral, 4, 1.0)))
    }

    /// Reads what names of checkpoints and of LoRAs have in common. Names such as "lightning" and "hyper" also stand
    /// for pictures of lightning and for detail, so a number of steps must be beside them.
    fn of_either(words: &[String], is_xl: bool) -> Option<Self> {
        let has = |word: &str| words.iter().any(|own| own == word);
        match steps_of(words) {
            _ if has("lcm") => Some(Self::new("LCM", Sampling::Lcm, 4, 1.0)),
            _ if has("tcd") => Some(Self::new("TCD", Sampling::Tcd, 4, 1.0)),
            _ if has("dmd2") => Some(Self::new("DMD2", Sampling::Lcm, 4, 1.0)),
            Some(steps) if has("lightning") && is_xl => {
                let predicts_sample = steps == 1 && has("x0");
                Some(Self { predicts_sample, ..Self::new("SDXL-Lightning", Sampling::Euler, steps, 1.0) })
            }
            // Hyper-SD's network for one step begins below the highest noise level; in TCD it takes several steps.
            Some(1) if is_hyper(words) => Some(Self::new("Hyper-SD", Sampling::Tcd, 4, 1.0)),
            Some(steps) if is_hyper(words) => {
                Some(Self::new("Hyper-SD", Sampling::Ddim, steps, if has("cfg") { 5.0 } else { 1.0 }))
            }
            _ => None,
        }
    }

    const fn new(method: &'static str, sampling: Sampling, steps: usize, guidance_scale: f64) -> Self {
        Self { method, sampling, steps, guidance_scale, side: None, predicts_sample: false }
    }

    /// Sets the sampler of a scheduler, and leaves the noise levels of the training.
    pub(super) fn apply(self, scheduler: &mut SchedulerConfig) {
        scheduler.class_name = self.sampling.names().0.into();
        scheduler.timestep_spacing = match self.sampling {
            Sampling::Lcm | Sampling::Tcd => None,
            Sampling::DpmppSde => scheduler.timestep_spacing.take(),
            _ => Some("trailing".into()),
        };
        scheduler.use_karras_sigmas = self.sampling == Sampling::DpmppSde;
        (scheduler.use_exponential_sigmas, scheduler.use_beta_sigmas, scheduler.use_lu_lambdas) = (false, false, false);
        scheduler.algorithm_type = None;
        if self.predicts_sample {
            scheduler.prediction_type = Prediction::Sample;
        }
    }

    /// Tells what runs do unless they set otherwise. `name` is the name that tells of the distillation.
    pub(super) fn note(self, name: &str) -> Note {
        let Self { method, steps, guidance_scale, .. } = self;
        let sampler = self.sampling.names().1;
        let plural = if steps == 1 { "" } else { "s" };
        Note::from(format!(
            "{name} was distilled to few steps ({method}, by its name), so its own settings are {steps} step{plural} of \
             {sampler} and a guidance scale of {guidance_scale}"
        ))
    }
}

/// Returns the name of a file without its folder and its ending.
fn stem_of(file: &str) -> Cow<'_, str> {
    Path::new(file).file_stem().map_or_else(|| file.into(), |stem| stem.to_string_lossy())
}

/// Splits a name into words in small letters: at signs, and before capital letters after small ones and digits.
fn words(name: &str) -> Vec<String> {
    let (mut words, mut before) = (vec![String::new()], ' ');
    for letter in name.rsplit('/').next().unwrap_or(name).chars() {
        let begins = letter.is_uppercase() && (before.is_lowercase() || before.is_ascii_digit());
        if begins || !letter.is_alphanumeric() {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut().filter(|_| letter.is_alphanumeric()) {
            word.extend(letter.to_lowercase());
        }
        before = letter;
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Returns the number of steps that a name tells, as in "4step", "8steps" and "4 steps".
fn steps_of(words: &[String]) -> Option<usize> {
    let number = |word: &str| word.parse().ok().filter(|steps| (1..=32).contains(steps));
    let bare = |word: &str| number(word.strip_suffix("steps").or(word.strip_suffix("step"))?);
    let pair = |pair: &[String]| match pair {
        [count, unit] if unit == "step" || unit == "steps" => number(count),
        _ => None,
    };
    words.iter().find_map(|word| bare(word)).or_else(|| words.windows(2).find_map(pair))
}

/// Returns true if a name tells of a turbo. A "De-Turbo" was trained again to be sampled as the network before the
/// distillation.
fn is_turbo(words: &[String]) -> bool {
    words.iter().any(|word| word.starts_with("turbo")) && !words.iter().any(|word| word == "de")
}

/// Returns true if a name tells of Hyper-SD. Other uses of "hyper", such as "hyper realistic", go on with another word.
fn is_hyper(words: &[String]) -> bool {
    let follows = |next: &String| ["sd", "vae", "lora", "unet"].iter().any(|start| next.starts_with(start));
    words
        .iter()
        .enumerate()
        .any(|(at, word)| word.starts_with("hypersd") || word == "hyper" && words.get(at + 1).is_none_or(follows))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diffusion::Spacing;

    #[test]
    fn names_tell_steps_sampler_and_scale() {
        let told = |name, is_xl| {
            let told = FewSteps::of_checkpoint(name, is_xl)?;
            Some((told.sampling.names().1, told.steps, told.guidance_scale))
        };
        for (name, is_xl, expected) in [
            ("sd_turbo", false, ("Euler", 4, 1.0)),
            ("stabilityai/sdxl-turbo", true, ("Euler a", 4, 1.0)),
            ("sd_xl_turbo_1.0_fp16", true, ("Euler a", 4, 1.0)),
            ("dreamshaperXL_v21TurboDPMSDE", true, ("DPM++ SDE Karras", 6, 2.0)),
            ("turbovisionxlSuperFastXLBased", true, ("DPM++ SDE Karras", 6, 2.0)),
            ("sdxl_lightning_8step", true, ("Euler", 8, 1.0)),
            ("realvisxlV40_v40LightningBakedvae", true, ("DPM++ SDE Karras", 6, 2.0)),
            ("Hyper-SDXL-8steps-CFG-unet", true, ("DDIM", 8, 5.0)),
            ("realisticVisionV60B1_v51HyperVAE", false, ("DPM++ SDE Karras", 6, 2.0)),
            ("LCM_Dreamshaper_v7", false, ("LCM", 4, 1.0)),
            ("dmd2_sdxl_4step_unet_fp16", true, ("LCM", 4, 1.0)),
        ] {
            assert_eq!(told(name, is_xl), Some(expected), "{name}");
        }
        for name in ["v1-5-pruned-emaonly", "hyper_realistic_v2", "turbo", "deliberate_v2 lightning"] {
            assert_eq!(told(name, false), None, "{name}");
        }
    }

    #[test]
    fn names_tell_a_distilled_z_image() {
        let told = |name| FewSteps::of_z_image(name).map(|told| (told.steps, told.guidance_scale));
        for name in ["Tongyi-MAI/Z-Image-Turbo", "z_image_turbo_bf16"] {
            assert_eq!(told(name), Some((8, 1.0)), "{name}");
        }
        for name in ["Tongyi-MAI/Z-Image", "ostris/Z-Image-De-Turbo", "zimage_deturbo"] {
            assert_eq!(told(name), None, "{name}");
        }
    }

    #[test]
    fn names_tell_a_distilled_anima() {
        let told = |told: Option<FewSteps>| told.map(|told| (told.sampling, told.steps, told.guidance_scale));
        for (name, steps) in [
            ("anima-turbo-v1.0", 10),
            ("anima-turbo-v1.1", 10),
            ("animaTurbo_v11", 10),
            ("studio/Anima-Turbo-8steps", 8),
        ] {
            assert_eq!(told(FewSteps::of_anima(name)), Some((Sampling::Euler, steps, 1.0)), "{name}");
        }
        for name in ["anima-base-v1.0", "anima-de-turbo", "circlestone-labs/Anima-Base-v1.0-Diffusers"] {
            assert_eq!(FewSteps::of_anima(name), None, "{name}");
        }
        for file in ["anima-turbo-lora-v0.1.safetensors", "anima-turbo-lora-v0.2"] {
            assert_eq!(told(FewSteps::of_lora_of_flow(file)), Some((Sampling::Euler, 10, 1.0)), "{file}");
        }
        for file in ["anima_turbo_car.safetensors", "turbo_car_lora.safetensors", "anima_lora.safetensors"] {
            assert_eq!(FewSteps::of_lora_of_flow(file), None, "{file}");
        }
    }

    #[test]
    fn names_tell_a_distilled_flow() {
        let told = |told: Option<FewSteps>| told.map(|told| (told.sampling, told.steps, told.guidance_scale));
        for (name, steps) in [
            ("stabilityai/stable-diffusion-3.5-large-turbo", 4),
            ("sd3.5_large_turbo", 4),
            ("TensorArt-TurboX-SD3.5Large-8Steps", 8),
            ("TensorArt_TurboX_SD3.5Large_8steps", 8),
        ] {
            assert_eq!(told(FewSteps::of_sd3(name)), Some((Sampling::Euler, steps, 1.0)), "{name}");
        }
        assert_eq!(FewSteps::of_sd3("stabilityai/stable-diffusion-3.5-large"), None);
        for (file, steps, scale) in [
            ("Hyper-SD3-4steps-CFG-lora.safetensors", 4, 3.0),
            ("Hyper-SD3-8steps-CFG-lora.safetensors", 8, 5.0),
            ("Hyper-SD3-16steps-CFG-lora.safetensors", 16, 7.0),
            ("lora_sd3.5m_turbo_8steps.safetensors", 8, 1.0),
            ("Z-Image-Fun-Lora-Distill-8-Steps-2603-ComfyUI.safetensors", 8, 1.0),
            ("z_image_distilled_lora_4steps.safetensors", 4, 1.0),
        ] {
            assert_eq!(told(FewSteps::of_lora_of_flow(file)), Some((Sampling::Euler, steps, scale)), "{file}");
        }
        for file in ["lcm_style.safetensors", "turbo_car.safetensors", "tcd.safetensors", "distillery.safetensors"] {
            assert_eq!(FewSteps::of_lora_of_flow(file), None, "{file}");
        }
    }

    #[test]
    fn loras_of_a_subject_are_not_taken_for_distilled() {
        let method = |file, is_xl| FewSteps::of_lora(file, is_xl).map(|told| (told.method, told.steps));
        assert_eq!(method("loras/lcm-lora-sdv1-5.safetensors", false), Some(("LCM", 4)));
        assert_eq!(method("sdxl_lightning_4step_lora.safetensors", true), Some(("SDXL-Lightning", 4)));
        assert_eq!(method("Hyper-SD15-2steps-lora.safetensors", false), Some(("Hyper-SD", 2)));
        assert_eq!(method("Hyper-SDXL-1step-lora.safetensors", true), Some(("Hyper-SD", 4)));
        assert_eq!(method("sd_xl_turbo_lora_v1.safetensors", true), Some(("SDXL-Turbo", 4)));
        for file in ["lightning_storm.safetensors", "turbo_car.safetensors", "hyper_detail.safetensors"] {
            assert_eq!(method(file, true), None, "{file}");
        }
    }

    #[test]
    fn sampler_replaces_that_of_the_scheduler() {
        let mut scheduler = SchedulerConfig::stable_diffusion("PNDMScheduler", Prediction::Epsilon);
        let betas = scheduler.beta_end;
        FewSteps::of_checkpoint("sdxl_lightning_1step_x0", true).unwrap().apply(&mut scheduler);
        assert_eq!((scheduler.solver().unwrap().name(), scheduler.spacing().unwrap()), ("Euler", Spacing::Trailing));
        assert_eq!((scheduler.prediction_type, scheduler.beta_end), (Prediction::Sample, betas));
        FewSteps::of_checkpoint("juggernautXL_v9Rdphoto2Lightning", true).unwrap().apply(&mut scheduler);
        assert_eq!((scheduler.solver().unwrap().name(), scheduler.spacing().unwrap()), ("DpmppSde", Spacing::Karras));
        for name in ["lcm", "tcd"] {
            FewSteps::of_checkpoint(name, true).unwrap().apply(&mut scheduler);
            assert_eq!(scheduler.schedule(4).unwrap().steps().len(), 4);
        }
    }
}
