//! Flow matching: kinds `flow_solver`, `anima_transformer`, `sd3_transformer` and `z_image_transformer`.

use super::networks::{load, run_with_hooks};
use super::{Case, Outputs, Result};
use impasto::Step;
use impasto::attention::{SiteKind, Tap};
use impasto::diffusion::solver::{self, Correction, ErSde, EulerAncestral, Eval, Multistep, Solver};
use impasto::diffusion::{Prediction, Process, Schedule, Spacing, TrainingSchedule};
use impasto::nn::ConfigFile;
use impasto::nn::cosmos::{CosmosConfig, CosmosTransformer};
use impasto::nn::mmdit::{Sd3Config, Sd3Transformer};
use impasto::nn::z_image::{ZImageConfig, ZImageTransformer};
use serde_json::Value;
use tch::Tensor;

/// Computes Anima's transformer, with hooks that read and bias attention.
pub fn anima_transformer(case: &Case) -> Result<Outputs> {
    let (config, w) = load(case.model("model")?)?;
    let transformer = CosmosTransformer::new(&w, &CosmosConfig::from_json("config.json", &config)?)?;
    assert_eq!(w.report().unused, []);
    let [sample, timestep, context] = ["sample", "timestep", "encoder_hidden_states"].map(|name| case.input(name));
    let (sample, timestep, context) = (sample?, timestep?, context?);
    run_with_hooks(
        case,
        transformer.sites(),
        "velocity",
        |tap| Ok(transformer.forward(sample, timestep, context, tap)?),
    )
}

/// Computes transformers of Stable Diffusion 3, with hooks that read and bias joint attention.
pub fn sd3_transformer(case: &Case) -> Result<Outputs> {
    let (config, w) = load(case.model("model")?)?;
    let transformer = Sd3Transformer::new(&w, &Sd3Config::from_json("config.json", &config)?)?;
    assert_eq!(w.report().unused, []);
    let [sample, timestep, context, pooled] =
        ["sample", "timestep", "encoder_hidden_states", "pooled"].map(|name| case.input(name));
    let (sample, timestep, context, pooled) = (sample?, timestep?, context?, pooled?);
    let skip: Vec<usize> = case.param::<Option<Vec<usize>>>("skip_layers")?.unwrap_or_default();
    let sites = transformer.sites();
    let outputs = run_with_hooks(case, sites, "velocity", |tap| {
        Ok(transformer.forward(sample, timestep, context, pooled, &skip, tap)?)
    })?;
    // The probabilities of a joint site are those of text tokens for the picture.
    let is_joint = |name: &str| sites.iter().any(|site| site.kind == SiteKind::Joint && name.ends_with(&site.name));
    let named = |(name, tensor): (String, Tensor)| match name.starts_with("probs") && is_joint(&name) {
        true => (format!("{name}.picture_text"), tensor),
        false => (name, tensor),
    };
    Ok(outputs.into_iter().map(named).collect())
}

/// Computes Z-Image's transformer: without hooks, or with hooks that read and bias joint attention.
pub fn z_image_transformer(case: &Case) -> Result<Outputs> {
    let (config, w) = load(case.model("model")?)?;
    let transformer = ZImageTransformer::new(&w, &ZImageConfig::from_json("config.json", &config)?)?;
    assert_eq!(w.report().unused, []);
    let [sample, timestep, context] = ["sample", "timestep", "encoder_hidden_states"].map(|name| case.input(name));
    let (sample, timestep, context) = (sample?, timestep?, context?);
    if case.param::<Option<Vec<String>>>("record_probs")?.is_none() {
        let velocity = transformer.forward(sample, timestep, context, &mut Tap::none())?;
        return Ok(vec![("velocity".into(), velocity)]);
    }
    run_with_hooks(
        case,
        transformer.sites(),
        "velocity",
        |tap| Ok(transformer.forward(sample, timestep, context, tap)?),
    )
}

/// The model of the fixtures: the velocity sin(0.7·x_t + t), and for a diffusion the noise sin(0.7·x + σ).
struct Sine(Process);

impl Eval for Sine {
    fn x0(&mut self, x: &Tensor, sigma: f64) -> impasto::Result<Tensor> {
        let size = size(self.0, sigma);
        match self.0 {
            Process::Flow => Prediction::Flow.x0(&(x * (0.7 / size) + sigma / size).sin(), x, sigma),
            _ => Prediction::Epsilon.x0(&(x * 0.7 + sigma).sin(), x, sigma),
        }
    }
    fn noise(&mut self) -> impasto::Result<Tensor> {
        unimplemented!("no solver here draws noise inside a step")
    }
}

/// Returns the size of a latent of sigma space in the unit of the fixture's latents.
fn size(process: Process, sigma: f64) -> f64 {
    if process == Process::Flow { process.size(sigma) } else { 1.0 }
}

/// Returns the solver of a run. The names are those of ComfyUI's samplers.
fn solver(run: &Value) -> Box<dyn Solver> {
    let number = |name: &str, usual: f64| run["args"][name].as_f64().unwrap_or(usual);
    let (eta, s_noise) = (number("eta", 1.0), number("s_noise", 1.0));
    match run["solver"].as_str() {
        // By its name, the solver has ComfyUI's sums.
        Some("er_sde") if ["max_stage", "s_noise"].iter().all(|name| run["args"][*name].is_null()) => {
            solver::by_name("er_sde").expect("a solver").0
        }
        Some("er_sde") => {
            Box::new(ErSde { order: number("max_stage", 3.0) as usize, s_noise, summed: Some(200), ..ErSde::default() })
        }
        Some("euler_ancestral_rf") => Box::new(EulerAncestral { eta, s_noise }),
        Some("dpmpp_2m_sde") => {
            let heun = run["args"]["heun"] == true;
            let correction = if heun { Correction::Heun } else { Correction::Midpoint };
            Box::new(Multistep { eta, s_noise, correction, lower_order_final: false, ..Multistep::default() })
        }
        other => panic!("unknown solver {other:?}"),
    }
}

/// Returns the schedule of a run, before its solver asks for a finite start.
fn schedule(run: &Value) -> Result<Schedule> {
    let shift = run["shift"].as_f64().or(run["args"]["s"].as_f64()).unwrap_or(1.0);
    let flow = TrainingSchedule::flow(shift, 1000.0)?;
    let Some(levels) = run["levels"].as_array() else {
        let spacing = match run["spacing"].as_str() {
            Some("simple") => Spacing::Simple,
            Some("normal") => Spacing::Normal,
            Some("sgm_uniform") => Spacing::SgmUniform,
            Some("beta") => Spacing::BetaTimesteps,
            other => panic!("unknown spacing {other:?}"),
        };
        return Ok(Schedule::new(&flow, run["steps"].as_u64().unwrap() as usize, spacing)?);
    };
    let levels: Vec<f64> = levels.iter().map(|level| level.as_f64().unwrap()).collect();
    if run["args"]["flow"] == false {
        return Ok(Schedule::from_sigmas(&TrainingSchedule::stable_diffusion(), &levels)?);
    }
    let sigmas: Vec<f64> = levels.iter().map(|t| flow.sigma_of(1000.0 * t)).collect();
    Ok(Schedule::from_sigmas(&flow, &sigmas)?)
}

/// Computes runs of ComfyUI's solvers for flows.
pub fn flow_solver(case: &Case) -> Result<Outputs> {
    let mut out = Outputs::new();
    for run in case.param::<Vec<Value>>("runs")? {
        let id = run["id"].as_str().ok_or("a run without id")?;
        let (mut solver, whole) = (solver(&run), schedule(&run)?);
        let schedule = if solver.needs_finite_start() { whole.clone().below_start() } else { whole.clone() };
        let steps: Vec<Step> = schedule.steps().collect();
        let process = steps[0].process;
        let level = |sigma: f64| if process == Process::Flow { sigma / size(process, sigma) } else { sigma };
        let ends = steps.iter().map(|step| step.to);
        let levels: Vec<f64> = std::iter::once(whole.sigma_max()).chain(ends).map(level).collect();
        let mut x = case.input("sample")? * levels[0];
        if run["from_original"] == true {
            x += case.input("original")? * (1.0 - levels[0]);
        }
        let (mut latents, mut stds, mut draws) = (vec![x.copy()], Vec::new(), 0);
        x *= size(process, steps[0].from);
        for step in &steps {
            let transition = solver.step(step, &x, &mut Sine(process))?;
            if step.to > 0.0 || run["solver"] != "dpmpp_2m_sde" {
                stds.push(transition.std / size(process, step.to));
            }
            x = transition.resolve()?;
            if transition.std > 0.0 {
                x += case.input("noise")?.get(draws) * transition.std;
                draws += 1;
            }
            latents.push(&x / size(process, step.to));
        }
        let mut add = |name: &str, value: Tensor| out.push((format!("{id}.{name}"), value));
        add("levels", Tensor::from_slice(&levels));
        add("latents", Tensor::stack(&latents, 0));
        if stds.iter().any(|std| *std > 0.0) {
            add("std", Tensor::from_slice(&stds));
        }
        add("draws", Tensor::from_slice(&[draws]));
    }
    Ok(out)
}
