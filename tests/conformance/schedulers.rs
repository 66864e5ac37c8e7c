//! Noise, schedules and solvers: kinds `torch_rng`, `scheduler`, `scheduler_math` and `scheduler_refused`.

use super::comparison::{DpmSolver, Dpmpp3MSdeOfDiffusers};
use super::{Case, Outputs, Result};
use impasto::diffusion::solver::{Ddim, Eval, Solver};
use impasto::diffusion::{Noise, Prediction, Schedule, SchedulerConfig, TorchRng, relabel};
use serde_json::Value;
use tch::{Kind, Tensor};

fn runs(case: &Case) -> impl Iterator<Item = &Value> {
    case.params["runs"].as_array().into_iter().flatten()
}

fn kind(name: Option<&str>) -> Kind {
    match name {
        None | Some("float32") => Kind::Float,
        Some("float64") => Kind::Double,
        Some("float16") => Kind::Half,
        Some("bfloat16") => Kind::BFloat16,
        Some(other) => panic!("{other}"),
    }
}

fn shape(value: &Value) -> Vec<i64> {
    value.as_array().unwrap().iter().map(|side| side.as_i64().unwrap()).collect()
}

/// torch's CPU generator.
pub fn torch_rng(case: &Case) -> Result<Outputs> {
    let mut out = Outputs::new();
    for stream in case.params["streams"].as_array().unwrap() {
        let mut rng = TorchRng::seeded(stream["seed"].as_u64().unwrap());
        for (k, draw) in stream["draws"].as_array().unwrap().iter().enumerate() {
            let (shape, kind) = (shape(&draw["shape"]), kind(draw["dtype"].as_str()));
            let drawn = if draw["op"] == "rand" { rng.uniform(&shape, kind) } else { rng.normal(&shape, kind) };
            out.push((format!("{}.{k}", stream["id"].as_str().unwrap()), drawn.unwrap()));
        }
    }
    for batch in case.params["batches"].as_array().unwrap() {
        let seeds: Vec<u64> = batch["seeds"].as_array().unwrap().iter().map(|seed| seed.as_u64().unwrap()).collect();
        let drawn = Noise::seeds(&seeds).draw(&shape(&batch["shape"])).unwrap();
        out.push((batch["id"].as_str().unwrap().into(), drawn));
    }
    Ok(out)
}

fn config(run: &Value) -> SchedulerConfig {
    let mut config = run["config"].clone();
    config["_class_name"] = run["class"].clone();
    SchedulerConfig::from_json(&config.to_string()).unwrap()
}

/// Does the class keep latents in variance-preserving form?
fn preserves_variance(class: &str) -> bool {
    !["Euler", "Heun", "LMS", "KDPM2"].iter().any(|start| class.starts_with(start))
}

/// The fixtures' model: sin(0.7·x·c_in + t/1000), whatever is predicted.
struct Sine<'a> {
    schedule: &'a Schedule,
    prediction: Prediction,
    /// Latents it was asked about, with their levels.
    seen: Vec<(f64, Tensor)>,
}

impl Eval for Sine<'_> {
    fn x0(&mut self, x: &Tensor, sigma: f64) -> impasto::Result<Tensor> {
        let out = (x * (0.7 * Prediction::input_scale(sigma)) + self.schedule.timestep(sigma) / 1000.0).sin();
        self.seen.push((sigma, x.shallow_clone()));
        self.prediction.x0(&out, x, sigma)
    }
    fn noise(&mut self) -> impasto::Result<Tensor> {
        unimplemented!("no solver here draws inside a step")
    }
}

fn scheduler_run(case: &Case, run: &Value) -> Result<Outputs> {
    let (id, class, config) = (run["id"].as_str().unwrap(), run["class"].as_str().unwrap(), config(run));
    let mut solver: Box<dyn Solver> = match (run["eta"].as_f64(), config.algorithm_type.as_deref()) {
        (Some(eta), _) => Box::new(Ddim { eta }),
        (_, Some("dpmsolver" | "sde-dpmsolver")) => Box::new(DpmSolver::new(&config)),
        (_, Some("sde-dpmsolver++")) if config.solver_order == 3 => Box::new(Dpmpp3MSdeOfDiffusers::new(&config)),
        _ => config.solver()?,
    };
    let whole = match run["set_timesteps"]["timesteps"].as_array() {
        Some(timesteps) => {
            let timesteps: Vec<f64> = timesteps.iter().map(|timestep| timestep.as_f64().unwrap()).collect();
            Schedule::from_timesteps(&config.table()?, &timesteps, &config.spacing_options()?)?
        }
        None => config.schedule(run["num_inference_steps"].as_u64().unwrap() as usize)?,
    };
    let vp = preserves_variance(class);
    let coordinates = |sigma: f64| if vp { Prediction::input_scale(sigma) } else { 1.0 };
    let mut out = Outputs::new();
    let mut add = |name: &str, value: Tensor| out.push((format!("{id}.{name}"), value));
    // Heun's tables have every level between the ends twice.
    let calls = |i: usize| if class.starts_with("Heun") && i > 0 { 2 } else { 1 };
    let table = |values: Vec<f64>| {
        let all: Vec<f64> =
            values.into_iter().enumerate().flat_map(|(i, v)| std::iter::repeat_n(v, calls(i))).collect();
        Tensor::from_slice(&all)
    };
    let timesteps = |schedule: &Schedule| table(schedule.steps().map(|step| step.timestep).collect());
    add("timesteps", timesteps(&whole));
    add("init_noise_sigma", Tensor::from_slice(&[whole.initial_scale() * coordinates(whole.sigma_max())]));
    let end = Tensor::from_slice(&whole.steps().last().map(|step| step.to).into_iter().collect::<Vec<_>>());
    add("sigmas", Tensor::cat(&[table(whole.steps().map(|step| step.from).collect()), end], 0));

    let (schedule, mut x) = match run["strength"].as_f64() {
        Some(strength) => {
            let n = whole.steps().len();
            let inside = whole.last(((n as f64 * strength) as usize).min(n))?;
            add("start_timesteps", timesteps(&inside));
            let x = case.input("original")? + case.input("sample")? * inside.sigma_max();
            (inside, x)
        }
        None => {
            let x = case.input("sample")? * whole.initial_scale();
            (whole, x)
        }
    };
    let mut eval = Sine { schedule: &schedule, prediction: config.prediction_type, seen: Vec::new() };
    let (mut latents, mut draws) = (vec![&x * coordinates(schedule.sigma_max())], Vec::new());
    let mut reached = schedule.sigma_max();
    for step in schedule.steps() {
        x = relabel(&x, reached, step.from)?;
        let transition = solver.step(&step, &x, &mut eval)?;
        // Some classes also draw where the noise has no effect.
        let idle = match class {
            "EulerAncestralDiscreteScheduler" => true,
            "DDPMScheduler" => step.timestep > 0.0,
            "DDIMScheduler" => run["eta"].as_f64().is_some_and(|eta| eta > 0.0),
            _ => config.algorithm_type.as_ref().is_some_and(|algorithm| algorithm.starts_with("sde")),
        };
        // Each call of the model is a step of diffusers.
        for (sigma, inner) in eval.seen.drain(..).skip(1) {
            latents.push(inner * coordinates(sigma));
            draws.push(0);
        }
        let noise = case.input("noise")?.get(draws.iter().sum());
        draws.push(i64::from(idle || transition.std > 0.0));
        x = transition.resolve()? + noise * transition.std;
        latents.push(&x * coordinates(step.to));
        reached = step.to;
    }
    add("latents", Tensor::stack(&latents, 0));
    add("noise_draws", Tensor::from_slice(&draws));
    Ok(out)
}

/// Every run of a scheduler class.
pub fn scheduler(case: &Case) -> Result<Outputs> {
    let mut out = Outputs::new();
    for run in runs(case) {
        out.extend(scheduler_run(case, run)?);
    }
    Ok(out)
}

/// Tables, and noising by them.
pub fn scheduler_math(case: &Case) -> Result<Outputs> {
    let mut out = Outputs::new();
    for run in runs(case) {
        let (id, class, config) = (run["id"].as_str().unwrap(), run["class"].as_str().unwrap(), config(run));
        let table = config.table().unwrap();
        let mut add = |name: &str, value: Tensor| out.push((format!("{id}.{name}"), value));
        add("betas", Tensor::from_slice(table.betas()));
        add("alphas_cumprod", Tensor::from_slice(table.abars()));
        let timesteps: Vec<f64> = match run["at"].as_array() {
            None => run["timesteps"].as_array().unwrap().iter().map(|t| t.as_f64().unwrap()).collect(),
            Some(at) => {
                // not `config.schedule`, which minds that some of these predict noise where there is nothing else
                let steps = run["num_inference_steps"].as_u64().unwrap() as usize;
                let (spacing, options) = (config.spacing().unwrap(), config.spacing_options().unwrap());
                let schedule = Schedule::with_options(&table, steps, spacing, &options).unwrap();
                // Heun's table has every entry but the first twice.
                let times = |i: usize| if class.starts_with("Heun") && i > 0 { 2 } else { 1 };
                let all = schedule.steps().map(|step| step.timestep).enumerate();
                let all: Vec<f64> = all.flat_map(|(i, t)| std::iter::repeat_n(t, times(i))).collect();
                at.iter().map(|i| all[i.as_u64().unwrap() as usize]).collect()
            }
        };
        if run["at"].is_array() {
            add("timesteps", Tensor::from_slice(&timesteps));
        }
        let sigmas = timesteps.iter().map(|&t| table.sigma_of(t)).collect::<Vec<_>>();
        let sigmas = Tensor::from_slice(&sigmas).reshape([-1, 1, 1, 1]);
        let (original, noise) = (case.input("original")?, case.input("noise")?);
        let total = (&sigmas * &sigmas + 1.0).sqrt();
        let noisy = original + &sigmas * noise;
        add("noisy", if preserves_variance(class) { noisy / &total } else { noisy });
        if case.wanted.contains_key(&format!("{id}.velocity")) {
            // diffusers' Euler classes take the place in the schedule for the timestep
            let sigmas = match run["at"].as_array() {
                Some(at) => at.iter().map(|i| table.sigma_of(i.as_f64().unwrap())).collect(),
                None => timesteps.iter().map(|&t| table.sigma_of(t)).collect::<Vec<_>>(),
            };
            let sigmas = Tensor::from_slice(&sigmas).reshape([-1, 1, 1, 1]);
            add("velocity", (noise - &sigmas * original) / (&sigmas * &sigmas + 1.0).sqrt());
        }
    }
    Ok(out)
}

/// What is not supported is refused by name; classes that do not exist here yet may be refused as such.
pub fn scheduler_refused(case: &Case) -> Result<Outputs> {
    for run in runs(case) {
        let config = config(run);
        let refused = config.solver().err().or_else(|| config.schedule(10).err());
        let error = refused.ok_or_else(|| format!("{} is accepted", run["id"]))?.to_string();
        let field = run["field"].as_str().unwrap();
        assert!(error.contains(field), "{}: \"{error}\" does not say {field}", run["id"]);
    }
    Ok(Vec::new())
}
