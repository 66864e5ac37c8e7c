//! The table of this crate's solvers: names, diffusers class and constructor of each.

use super::{
    Correction, Ddim, Ddpm, Deis, Dpm2, Dpmpp2SAncestral, DpmppSde, ErSde, Euler, EulerAncestral, Heun, Lcm, Lms,
    Multistep, Pndm, ResMultistep, Restart, SaSolver, Singlestep, Solver, Tcd, UniPc,
};
use crate::diffusion::scheduler_config::SchedulerConfig;
use crate::diffusion::spacing::{FlowStart, SchedulerFamily, Spacing};
use crate::error::Result;
use crate::recipe::{Kind, Recipe, Registry};
use serde::de::DeserializeOwned;

/// Makes a solver from its recipe.
type Read = fn(Recipe, &Registry) -> Result<Box<dyn Solver>>;

/// A solver of this crate.
pub(in crate::diffusion) struct Row {
    /// The name in the AUTOMATIC1111 web UI, or the crate's own name if the web UI has none.
    pub label: &'static str,
    /// Names that users type, in the form that `names::words` gives.
    pub names: &'static [&'static str],
    /// The classes of diffusers.
    pub classes: &'static [Class],
    /// The solver with its usual settings.
    pub make: fn() -> Box<dyn Solver>,
    /// The name in recipes, which is the same for all settings of a type, and the function that reads a recipe.
    pub recipe: (&'static str, Read),
}

/// A scheduler class of diffusers, and the meaning of a `scheduler_config.json` that names the class.
pub(in crate::diffusion) struct Class {
    /// Name of the class, `_class_name` in the file.
    pub name: &'static str,
    /// The family of the class, which decides the rounding of timesteps.
    pub family: SchedulerFamily,
    /// Makes the solver with the settings of the file.
    pub solver: fn(&SchedulerConfig) -> Result<Box<dyn Solver>>,
    /// JSON of the fields that have other defaults in this class than in most.
    pub defaults: &'static str,
    /// The spacing of a class without a spacing field.
    pub spacing: Option<Spacing>,
    /// A `timestep_spacing` that is refused because the class then misses its own noise levels, and the error's text
    /// about the expected value.
    pub misses: Option<(&'static str, &'static str)>,
    /// True if a step ends a fixed number of timesteps further on instead of at the next level.
    pub strides: bool,
    /// True if the last step of a class with `strides` ends at 0, unless the file says otherwise.
    pub to_zero: bool,
    /// True if the last step always ends at the lowest level, never at 0.
    pub lowest: bool,
    /// True if Karras levels have whole timesteps.
    pub rounds: bool,
    /// First time of a flow's schedule.
    pub flow_start: FlowStart,
    /// True if the last step of a flow ends at the time that equals the lowest level of β, for `sigma_min`.
    pub ends_by_betas: bool,
}

impl Class {
    const fn new(
        name: &'static str,
        family: SchedulerFamily,
        solver: fn(&SchedulerConfig) -> Result<Box<dyn Solver>>,
    ) -> Self {
        let (defaults, spacing, misses) = ("{}", None, None);
        let (strides, to_zero, lowest, rounds) = (false, false, false, false);
        let (flow_start, ends_by_betas) = (FlowStart::Below, false);
        Self {
            name,
            family,
            solver,
            defaults,
            spacing,
            misses,
            strides,
            to_zero,
            lowest,
            rounds,
            flow_start,
            ends_by_betas,
        }
    }
}

/// Stable Diffusion's β as JSON. Some classes have these defaults for files without β.
const STABLE: &str = r#"{ "beta_start": 0.00085, "beta_end": 0.012 }"#;
const STABLE_SCALED: &str = r#"{ "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear" }"#;

/// The prediction type of flow-matching classes as JSON.
const FLOW: &str = r#"{ "prediction_type": "flow_prediction" }"#;

/// Every solver of this crate.
pub(in crate::diffusion) const SOLVERS: &[Row] = &[
    Row {
        label: "Euler",
        names: &["euler"],
        classes: &[
            Class::new("EulerDiscreteScheduler", SchedulerFamily::Euler, |_| Ok(Box::new(Euler))),
            Class {
                defaults: FLOW,
                ..Class::new("FlowMatchEulerDiscreteScheduler", SchedulerFamily::Euler, |config| {
                    Ok(if config.stochastic_sampling { Box::new(Lcm::without_memory()) } else { Box::new(Euler) })
                })
            },
        ],
        make: || Box::new(Euler),
        recipe: ("Euler", read::<Euler>),
    },
    Row {
        label: "Euler a",
        names: &["euler a"],
        classes: &[Class::new("EulerAncestralDiscreteScheduler", SchedulerFamily::Euler, |_| {
            Ok(Box::new(EulerAncestral::default()))
        })],
        make: || Box::new(EulerAncestral::default()),
        recipe: ("EulerAncestral", read::<EulerAncestral>),
    },
    Row {
        label: "Heun",
        names: &["heun"],
        classes: &[
            Class {
                defaults: STABLE,
                ..Class::new("HeunDiscreteScheduler", SchedulerFamily::Euler, |_| Ok(Box::new(Heun)))
            },
            Class {
                defaults: FLOW,
                ..Class::new("FlowMatchHeunDiscreteScheduler", SchedulerFamily::Euler, |_| Ok(Box::new(Heun)))
            },
        ],
        make: || Box::new(Heun),
        recipe: ("Heun", read::<Heun>),
    },
    Row {
        label: "Restart",
        names: &["restart"],
        classes: &[],
        make: || Box::new(Restart::default()),
        recipe: ("Restart", read::<Restart>),
    },
    Row {
        label: "LMS",
        names: &["lms"],
        classes: &[Class::new("LMSDiscreteScheduler", SchedulerFamily::Euler, |_| Ok(Box::new(Lms::default())))],
        make: || Box::new(Lms::default()),
        recipe: ("Lms", read::<Lms>),
    },
    Row {
        label: "DPM2",
        names: &["dpm2", "dpm 2"],
        classes: &[Class {
            defaults: STABLE,
            rounds: true,
            ..Class::new("KDPM2DiscreteScheduler", SchedulerFamily::Euler, |_| Ok(Box::new(Dpm2::default())))
        }],
        make: || Box::new(Dpm2::default()),
        recipe: ("Dpm2", read::<Dpm2>),
    },
    Row {
        label: "DPM2 a",
        names: &["dpm2 a", "dpm 2 a"],
        classes: &[Class {
            defaults: STABLE,
            rounds: true,
            ..Class::new("KDPM2AncestralDiscreteScheduler", SchedulerFamily::Euler, |_| {
                Ok(Box::new(Dpm2 { eta: 1.0, ..Dpm2::default() }))
            })
        }],
        make: || Box::new(Dpm2 { eta: 1.0, ..Dpm2::default() }),
        recipe: ("Dpm2", read::<Dpm2>),
    },
    Row {
        label: "DPM++ 2S a",
        names: &["dpmpp 2s a"],
        classes: &[],
        make: || Box::new(Dpmpp2SAncestral::default()),
        recipe: ("Dpmpp2SAncestral", read::<Dpmpp2SAncestral>),
    },
    Row {
        label: "DPM++ 2S",
        names: &["dpmpp 2s"],
        classes: &[Class {
            defaults: r#"{ "lower_order_final": false }"#,
            spacing: Some(Spacing::Linspace),
            ends_by_betas: true,
            ..Class::new("DPMSolverSinglestepScheduler", SchedulerFamily::Multistep, Singlestep::from_config)
        }],
        make: || Box::new(Singlestep::default()),
        recipe: ("Singlestep", read::<Singlestep>),
    },
    Row {
        label: "DPM++ 2M",
        names: &["dpmpp 2m"],
        classes: &[Class {
            ends_by_betas: true,
            ..Class::new("DPMSolverMultistepScheduler", SchedulerFamily::Multistep, Multistep::from_config)
        }],
        make: || Box::new(Multistep::default()),
        recipe: ("Multistep", read::<Multistep>),
    },
    Row {
        label: "DPM++ 2M SDE",
        names: &["dpmpp 2m sde"],
        classes: &[],
        make: || Box::new(Multistep { eta: 1.0, ..Multistep::default() }),
        recipe: ("Multistep", read::<Multistep>),
    },
    Row {
        label: "DPM++ 2M SDE Heun",
        names: &["dpmpp 2m sde heun"],
        classes: &[],
        make: || Box::new(Multistep { correction: Correction::Heun, eta: 1.0, ..Multistep::default() }),
        recipe: ("Multistep", read::<Multistep>),
    },
    Row {
        label: "DPM++ 3M",
        names: &["dpmpp 3m"],
        classes: &[],
        make: || Box::new(Multistep { order: 3, ..Multistep::default() }),
        recipe: ("Multistep", read::<Multistep>),
    },
    Row {
        label: "DPM++ 3M SDE",
        names: &["dpmpp 3m sde"],
        classes: &[],
        make: || Box::new(Multistep::dpmpp_3m_sde()),
        recipe: ("Multistep", read::<Multistep>),
    },
    Row {
        label: "DPM++ SDE",
        names: &["dpmpp sde"],
        classes: &[Class {
            defaults: STABLE,
            ..Class::new("DPMSolverSDEScheduler", SchedulerFamily::Euler, |_| Ok(Box::new(DpmppSde::default())))
        }],
        make: || Box::new(DpmppSde::default()),
        recipe: ("DpmppSde", read::<DpmppSde>),
    },
    Row {
        label: "DDIM",
        names: &["ddim"],
        classes: &[Class {
            strides: true,
            to_zero: true,
            ..Class::new("DDIMScheduler", SchedulerFamily::Ddim, |_| Ok(Box::new(Ddim::default())))
        }],
        make: || Box::new(Ddim::default()),
        recipe: ("Ddim", read::<Ddim>),
    },
    Row {
        label: "DDPM",
        names: &["ddpm"],
        classes: &[Class::new("DDPMScheduler", SchedulerFamily::Ddim, Ddpm::from_config)],
        make: || Box::new(Ddpm::default()),
        recipe: ("Ddpm", read::<Ddpm>),
    },
    Row {
        label: "PLMS",
        names: &["plms", "pndm"],
        classes: &[Class {
            strides: true,
            misses: Some((
                "linspace",
                "expected leading or trailing, because PNDM with linspace misses its own noise levels",
            )),
            ..Class::new("PNDMScheduler", SchedulerFamily::Ddim, Pndm::from_config)
        }],
        make: || Box::new(Pndm::default()),
        recipe: ("Pndm", read::<Pndm>),
    },
    Row {
        label: "DEIS",
        names: &["deis"],
        classes: &[Class {
            lowest: true,
            ..Class::new("DEISMultistepScheduler", SchedulerFamily::Multistep, Deis::from_config)
        }],
        make: || Box::new(Deis::default()),
        recipe: ("Deis", read::<Deis>),
    },
    Row {
        label: "UniPC",
        names: &["unipc", "uni pc"],
        classes: &[],
        make: || Box::new(UniPc { bh2: false, ..UniPc::default() }),
        recipe: ("UniPc", read::<UniPc>),
    },
    Row {
        label: "Uni PC bh2",
        names: &["uni pc bh2"],
        classes: &[Class {
            flow_start: FlowStart::Whole,
            ..Class::new("UniPCMultistepScheduler", SchedulerFamily::Multistep, UniPc::from_config)
        }],
        make: || Box::new(UniPc::default()),
        recipe: ("UniPc", read::<UniPc>),
    },
    Row {
        label: "RES Multistep",
        names: &["res multistep"],
        classes: &[],
        make: || Box::new(ResMultistep::default()),
        recipe: ("ResMultistep", read::<ResMultistep>),
    },
    Row {
        label: "RES Multistep a",
        names: &["res multistep a"],
        classes: &[],
        make: || Box::new(ResMultistep { eta: 1.0, ..ResMultistep::default() }),
        recipe: ("ResMultistep", read::<ResMultistep>),
    },
    Row {
        label: "SA-Solver",
        names: &["sa solver", "sasolver"],
        classes: &[Class {
            lowest: true,
            ..Class::new("SASolverScheduler", SchedulerFamily::Multistep, SaSolver::from_config)
        }],
        make: || Box::new(SaSolver::default()),
        recipe: ("SaSolver", read::<SaSolver>),
    },
    Row {
        label: "ER SDE",
        names: &["er sde"],
        classes: &[],
        // The name is ComfyUI's, and so are the sums.
        make: || Box::new(ErSde { summed: Some(200), ..ErSde::default() }),
        recipe: ("ErSde", read::<ErSde>),
    },
    Row {
        label: "LCM",
        names: &["lcm"],
        classes: &[
            Class {
                defaults: STABLE_SCALED,
                ..Class::new("LCMScheduler", SchedulerFamily::Lcm, |config| {
                    Ok(Box::new(Lcm { scaling: config.timestep_scaling }))
                })
            },
            Class {
                defaults: FLOW,
                ..Class::new("FlowMatchLCMScheduler", SchedulerFamily::Euler, |_| Ok(Box::new(Lcm::without_memory())))
            },
        ],
        make: || Box::new(Lcm::default()),
        recipe: ("Lcm", read::<Lcm>),
    },
    Row {
        label: "TCD",
        names: &["tcd"],
        classes: &[Class {
            defaults: STABLE_SCALED,
            lowest: true,
            ..Class::new("TCDScheduler", SchedulerFamily::Lcm, |config| {
                let table = config.training_schedule_for(SchedulerFamily::Lcm)?;
                Ok(Box::new(Tcd { table, ..Tcd::default() }))
            })
        }],
        make: || Box::new(Tcd::default()),
        recipe: ("Tcd", |recipe, _| Ok(Box::new(Tcd { gamma: recipe.read()?, ..Tcd::default() }))),
    },
];

/// Creates a solver from a recipe that holds all fields of the solver.
fn read<S: Solver + DeserializeOwned + 'static>(recipe: Recipe, _: &Registry) -> Result<Box<dyn Solver>> {
    Ok(Box::new(recipe.into_read::<S>()?))
}

/// The class of diffusers with this name.
pub(in crate::diffusion) fn class(name: &str) -> Option<&'static Class> {
    SOLVERS.iter().flat_map(|row| row.classes).find(|class| class.name == name)
}

impl Kind for dyn Solver {
    const NAME: &'static str = "solver";
}

/// Adds the readers of this crate's solvers.
pub(crate) fn add_solvers(registry: &mut Registry) {
    for (name, read) in SOLVERS.iter().map(|row| row.recipe) {
        registry.add(name, read);
    }
}

#[cfg(test)]
mod tests {
    use super::super::dpmpp_sde::SdeNoise;
    use super::super::{Eval, NoiseScale, Variance};
    use super::*;
    use crate::diffusion::Transition;
    use crate::step::Step;
    use crate::window::Window;
    use tch::Tensor;

    fn registry() -> Registry {
        let mut registry = Registry::empty();
        add_solvers(&mut registry);
        registry
    }

    fn again(solver: &dyn Solver) -> Box<dyn Solver> {
        let written = serde_json::to_string(&solver.recipe().unwrap()).unwrap();
        registry().make(serde_json::from_str(&written).unwrap()).unwrap()
    }

    #[test]
    fn recipes_recreate_solvers_with_their_settings() {
        let named = SOLVERS.iter().map(|row| (row.make)());
        let set: [Box<dyn Solver>; 14] = [
            Box::new(EulerAncestral { eta: 0.1, s_noise: 1.003 }),
            Box::new(Ddim { eta: 1.0 / 3.0 }),
            Box::new(Ddpm { variance: Variance::Large }),
            Box::new(DpmppSde { r: 0.25, noise: SdeNoise::Independent, ..DpmppSde::default() }),
            Box::new(Multistep {
                order: 3,
                eta: 0.3,
                s_noise: 1.01,
                correction: Correction::Heun,
                ..Multistep::default()
            }),
            Box::new(Singlestep { order: 3, ..Singlestep::default() }),
            Box::new(UniPc { order: 3, ..UniPc::default() }),
            Box::new(Lms { order: 2, ..Lms::default() }),
            Box::new(Deis { order: 3, ..Deis::default() }),
            Box::new(Tcd { gamma: 0.1, ..Tcd::default() }),
            Box::new(SaSolver { tau: 0.3, window: Window::sigmas(1.0..=9.0), ..SaSolver::default() }),
            Box::new(Restart { low: 0.2, times: 2, ..Restart::default() }),
            Box::new(ErSde { scale: NoiseScale::Logarithmic, order: 2, ..ErSde::default() }),
            Box::new(ResMultistep { eta: 0.5, ..ResMultistep::default() }),
        ];
        let mut count = 0;
        for solver in named.chain(set) {
            let made = again(&solver);
            assert_eq!((made.name(), made.recipe().unwrap()), (solver.name(), solver.recipe().unwrap()));
            count += 1;
        }
        assert_eq!(count, 41);
        assert_eq!(again(&Ddim { eta: 0.1 + 0.2 }).recipe().unwrap().settings["eta"], 0.1 + 0.2);
    }

    #[test]
    fn custom_solver_without_a_recipe_is_named() {
        struct Own;
        impl Solver for Own {
            fn step(&mut self, step: &Step, x: &Tensor, eval: &mut dyn Eval) -> Result<Transition> {
                Euler.step(step, x, eval)
            }
            fn name(&self) -> &'static str {
                "Own"
            }
        }
        let error = Own.recipe().unwrap_err().to_string();
        assert_eq!(error, "the solver Own cannot be stored in a recipe or restored from one");
        assert!(registry().make::<dyn Solver>(Recipe::of("Own", &()).unwrap()).is_err());
    }
}
