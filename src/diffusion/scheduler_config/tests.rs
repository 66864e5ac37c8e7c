//! Tests of published configuration files, and of options that are refused.

use super::*;
use crate::diffusion::prediction::Prediction;
use crate::diffusion::spacing::{SchedulerFamily, Spacing, Terminal, TimestepRule};
use serde_json::{Value, json};

fn config(value: Value) -> SchedulerConfig {
    SchedulerConfig::from_json(&value.to_string()).unwrap()
}

#[test]
fn published_files_give_their_solver_and_spacing() {
    let golden: Value = serde_json::from_str(include_str!("../../../tests/golden/specs/sampling.json")).unwrap();
    let mut known = 0;
    for pair in golden["configs"].as_array().unwrap() {
        let config = config(pair[0].clone());
        match config.solver() {
            Ok(solver) => {
                let spacing = format!("{:?}", config.spacing().unwrap());
                // The reference for these files does not know flows.
                let want = if config.is_flow() { json!(["Euler", "Linspace"]) } else { pair[1].clone() };
                assert_eq!(json!([solver.name(), spacing]), want);
                known += 1;
            }
            Err(error) => {
                let (class, error) = (config.class_name.as_str(), error.to_string());
                assert!(error.contains("_class_name") && error.contains(class) && error.contains("choose a solver"));
                assert!(config.training_schedule().is_ok());
            }
        }
    }
    assert_eq!(known, 10);
}

#[test]
fn unsupported_options_are_refused_by_name() {
    let refusals = [
        ("clip_sample", json!(true)),
        ("thresholding", json!(true)),
        ("variance_type", json!("fixed_small_log")),
        ("interpolation_type", json!("log_linear")),
        ("timestep_type", json!("continuous")),
        ("sigma_max", json!(700.0)),
        ("timestep_spacing", json!("random")),
        ("final_sigmas_type", json!("other")),
        ("beta_schedule", json!("sigmoid")),
    ];
    for (field, value) in refusals {
        let config = config(json!({ "_class_name": "DDPMScheduler", field: value }));
        let error = config.solver().err().or_else(|| config.schedule(5).err()).unwrap().to_string();
        assert!(error.starts_with("scheduler_config.json") && error.contains(field), "{error}");
    }
    let text = r#"{ "beta_start": "small" }"#;
    assert!(SchedulerConfig::from_json(text).unwrap_err().to_string().starts_with("scheduler_config.json: "));
}

#[test]
fn unsupported_fields_of_a_solver_are_refused() {
    let refusals = [
        ("algorithm_type", json!("dpmsolver")),
        ("algorithm_type", json!("sde-dpmsolver")),
        ("solver_type", json!("euler")),
        ("solver_order", json!(0)),
        ("solver_order", json!(4)),
        ("lambda_min_clipped", json!(-5.1)),
        ("use_flow_sigmas", json!(true)),
    ];
    for (field, value) in refusals {
        let config = config(json!({ "_class_name": "DPMSolverMultistepScheduler", field: value }));
        let error = config.solver().err().unwrap().to_string();
        assert!(error.starts_with("scheduler_config.json") && error.contains(field), "{error}");
    }
    let other = config(json!({ "_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 500 }));
    let other = other.training_schedule().unwrap_err().to_string();
    assert!(other.contains("num_train_timesteps is 500; expected 1000 for a flow"), "{other}");
    let both = config(json!({ "use_karras_sigmas": true, "use_beta_sigmas": true })).spacing().unwrap_err();
    assert!(both.to_string().contains("use_karras_sigmas is true too"), "{both}");
}

#[test]
fn classes_give_a_solver_or_name_the_refused_field() {
    let classes = [
        ("LMSDiscreteScheduler", "Lms", Spacing::Linspace, Terminal::Zero),
        ("KDPM2DiscreteScheduler", "Dpm2", Spacing::Linspace, Terminal::Zero),
        ("DPMSolverSinglestepScheduler", "Dpmpp2S", Spacing::Linspace, Terminal::Zero),
        ("DPMSolverSDEScheduler", "DpmppSde", Spacing::Linspace, Terminal::Zero),
        ("DEISMultistepScheduler", "Deis", Spacing::Linspace, Terminal::Lowest),
        ("PNDMScheduler", "Pndm", Spacing::Leading, Terminal::Lowest),
        ("TCDScheduler", "Tcd", Spacing::Leading, Terminal::Lowest),
        ("LCMScheduler", "Lcm", Spacing::Leading, Terminal::Zero),
    ];
    for (class, name, spacing, terminal) in classes {
        let config = config(json!({ "_class_name": class }));
        assert_eq!((config.solver().unwrap().name(), config.spacing().unwrap()), (name, spacing));
        assert_eq!(config.spacing_options().unwrap().terminal, terminal, "{class}");
        assert_eq!(config.schedule(5).unwrap().steps().len(), 5);
    }
    let refusals = [
        ("PNDMScheduler", "skip_prk_steps", json!(false)),
        ("PNDMScheduler", "timestep_spacing", json!("linspace")),
        ("UniPCMultistepScheduler", "predict_x0", json!(false)),
        ("UniPCMultistepScheduler", "solver_type", json!("bh3")),
        ("UniPCMultistepScheduler", "solver_order", json!(4)),
        ("DEISMultistepScheduler", "algorithm_type", json!("sde-dpmsolver++")),
        ("DEISMultistepScheduler", "solver_type", json!("euler")),
        ("DPMSolverSinglestepScheduler", "algorithm_type", json!("dpmsolver")),
        ("SASolverScheduler", "algorithm_type", json!("noise_prediction")),
        ("SASolverScheduler", "predictor_order", json!(5)),
        ("SASolverScheduler", "corrector_order", json!(0)),
    ];
    for (class, field, value) in refusals {
        let error = config(json!({ "_class_name": class, field: value })).solver().err().unwrap().to_string();
        assert!(error.starts_with("scheduler_config.json") && error.contains(field), "{error}");
    }
}

#[test]
fn dpmpp_fields_are_read_as_python_writes_them() {
    let config = SchedulerConfig::from_json(
        r#"{ "_class_name": "DPMSolverMultistepScheduler", "lambda_min_clipped": -Infinity, "solver_type": "heun",
             "algorithm_type": "sde-dpmsolver++", "use_lu_lambdas": true, "final_sigmas_type": "sigma_min" }"#,
    );
    let config = config.unwrap();
    assert_eq!((config.solver().unwrap().name(), config.spacing().unwrap()), ("Dpmpp2MSdeHeun", Spacing::Exponential));
    let options = config.spacing_options().unwrap();
    assert_eq!((options.timesteps, options.terminal), (TimestepRule::Rounded, Terminal::Lowest));
    let first = |order: usize, algorithm: &str| {
        SchedulerConfig { solver_order: order, algorithm_type: Some(algorithm.into()), ..config.clone() }.solver()
    };
    assert_eq!(first(1, "dpmsolver++").unwrap().name(), "Euler");
    assert_eq!(first(1, "sde-dpmsolver++").unwrap().name(), "EulerAncestral");
    let cosine = SchedulerConfig { beta_schedule: "squaredcos_cap_v2".into(), ..config.clone() };
    assert_eq!(cosine.spacing_options().unwrap().timesteps, TimestepRule::Truncated);
}

#[test]
fn sa_solver_has_the_orders_of_its_file() {
    let config = config(json!({ "_class_name": "SASolverScheduler", "predictor_order": 3, "corrector_order": 4 }));
    let settings = config.solver().unwrap().recipe().unwrap().settings;
    assert_eq!((&settings["predictor_order"], &settings["corrector_order"]), (&json!(3), &json!(4)));
    assert_eq!(config.spacing_options().unwrap().terminal, Terminal::Lowest);
}

#[test]
fn absent_betas_have_the_defaults_of_the_class() {
    let heun = config(json!({ "_class_name": "HeunDiscreteScheduler" }));
    assert_eq!((heun.beta_start, heun.beta_end), (0.00085, 0.012));
    let given = config(json!({ "_class_name": "HeunDiscreteScheduler", "beta_start": 0.001 }));
    assert_eq!((given.beta_start, given.beta_end), (0.001, 0.012));
    assert_eq!(config(json!({ "_class_name": "EulerDiscreteScheduler" })).beta_end, 0.02);
}

#[test]
fn noise_prediction_refuses_pure_noise() {
    let mut config = SchedulerConfig::stable_diffusion("EulerDiscreteScheduler", Prediction::Epsilon);
    config.rescale_betas_zero_snr = true;
    assert!(config.schedule(10).is_ok());
    config.timestep_spacing = Some("trailing".into());
    assert!(config.schedule(10).unwrap_err().to_string().contains("use v-prediction"));
    config.prediction_type = Prediction::V;
    assert!((config.schedule(10).unwrap().sigma_max() - 4096.0).abs() < 1.0);
}

#[test]
fn highest_level_follows_the_solver_family() {
    let mut config = SchedulerConfig::stable_diffusion("DDIMScheduler", Prediction::V);
    config.rescale_betas_zero_snr = true;
    let first =
        |family| config.schedule_for_another(family, 20, Some(Spacing::Karras)).unwrap().steps().next().unwrap().from;
    assert!((first(SchedulerFamily::Euler) - 4096.0).abs() < 1.0, "{}", first(SchedulerFamily::Euler));
    assert!(first(SchedulerFamily::Ddim) > 1e6);
}

#[test]
fn missing_file_gives_stable_diffusion_noise() {
    let config = SchedulerConfig::stable_diffusion("DDIMScheduler", Prediction::Epsilon);
    assert_eq!(config.training_schedule().unwrap(), TrainingSchedule::stable_diffusion());
    let last = config.schedule(10).unwrap().steps().last().unwrap();
    assert_eq!((last.timestep, last.to), (1.0, TrainingSchedule::stable_diffusion().sigma_min()));
}

#[test]
fn dynamic_shift_of_a_picture_is_the_golden_s() {
    let golden: Value = serde_json::from_str(include_str!("../../../tests/golden/specs/flow.json")).unwrap();
    let class = "FlowMatchEulerDiscreteScheduler";
    let config = config(json!({ "_class_name": class, "use_dynamic_shifting": true }));
    for row in golden["mu"].as_array().unwrap() {
        let number = |name: &str| row[name].as_f64().unwrap();
        assert!((config.mu(number("tokens") as usize) - number("mu")).abs() < 1e-12, "{row}");
        let grid = Grid { h: (number("height") / 8.0) as i64, w: (number("width") / 8.0) as i64 };
        let shifted = config.on(grid).unwrap();
        let fixed = self::config(json!({ "_class_name": class, "shift": number("shift") }));
        let levels = |config: &SchedulerConfig| -> Vec<_> {
            // The list of a pipeline: both shift it once.
            let schedule = config.schedule_of_times(&[1.0, 0.75, 0.5, 0.25]).unwrap();
            schedule.steps().map(|step| step.to).collect()
        };
        for (got, want) in levels(&shifted).iter().zip(levels(&fixed)) {
            assert!((got - want).abs() <= 1e-9 * want.max(1.0), "{row}: {got} {want}");
        }
    }
}
