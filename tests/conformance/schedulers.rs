//! Noise, schedules and solvers: kinds `torch_rng`, `scheduler`, `scheduler_math` and `scheduler_refused`.

use super::comparison::{
    Dpm2AncestralInSingle, DpmSolver, Dpmpp3MSdeOfDiffusers, LmsFromInside, PndmOnV, SinglestepOfNoise, UniPcOfNoise,
};
use super::{Case, Outputs, Result};
use impasto::Step;
use impasto::diffusion::solver::{Ddim, Eval, Solver, Tcd};
use impasto::diffusion::{Noise, Prediction, Schedule, SchedulerConfig, Strength, TrainingSchedule};
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
        Some(other) => panic!("dtype is {other:?}; expected float16, bfloat16, float32 or float64"),
    }
}

fn shape(value: &Value) -> Vec<i64> {
    value.as_array().unwrap().iter().map(|side| side.as_i64().unwrap()).collect()
}

/// Returns the noise with another number format. Its generators go on where they are.
fn in_format(noise: &Noise, kind: Kind) -> Noise {
    let mut written = serde_json::to_value(noise).unwrap();
    written["format"] = format!("{kind:?}").into();
    serde_json::from_value(written).unwrap()
}

/// Computes the numbers of torch's CPU generator, in the kind of each draw. A stream with uniform numbers ends before
/// the first of them, because `Noise` draws no uniform numbers.
pub fn torch_rng(case: &Case) -> Result<Outputs> {
    let mut out = Outputs::new();
    for stream in case.params["streams"].as_array().unwrap() {
        let mut noise = Noise::shared(stream["seed"].as_u64().unwrap());
        let draws = stream["draws"].as_array().unwrap().iter().enumerate();
        for (k, draw) in draws.take_while(|(_, draw)| draw["op"] != "rand") {
            let kind = kind(draw["dtype"].as_str());
            noise = in_format(&noise, kind);
            let drawn = noise.draw(&shape(&draw["shape"])).unwrap();
            out.push((format!("{}.{k}", stream["id"].as_str().unwrap()), drawn.to_kind(kind)));
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
    if let Some(original) = run["set_timesteps"].get("original_inference_steps") {
        config["original_inference_steps"] = original.clone();
    }
    let config = SchedulerConfig::from_json(&config.to_string()).unwrap();
    match run["set_timesteps"]["mu"].as_f64() {
        Some(mu) => config.with_mu(mu).unwrap(),
        None => config,
    }
}

/// Returns the crate's solver, or a solver of `comparison` for numbers of diffusers that the crate's solvers do not
/// give. `skipped` has the levels of the schedule before the first level of the run.
fn solver_of(run: &Value, config: &SchedulerConfig, skipped: &[f64]) -> impasto::Result<Box<dyn Solver>> {
    let (class, algorithm) = (config.class_name.as_str(), config.algorithm_type.as_deref());
    Ok(match (class, run["eta"].as_f64(), algorithm) {
        ("TCDScheduler", eta, _) => Box::new(Tcd { gamma: eta.unwrap_or(0.3), table: config.training_schedule()? }),
        (_, Some(eta), _) => Box::new(Ddim { eta }),
        ("DPMSolverSinglestepScheduler", _, Some("dpmsolver")) => Box::new(SinglestepOfNoise::new(config)),
        ("DPMSolverMultistepScheduler", _, Some("dpmsolver" | "sde-dpmsolver")) => Box::new(DpmSolver::new(config)),
        (_, _, Some("sde-dpmsolver++")) if config.solver_order == 3 => Box::new(Dpmpp3MSdeOfDiffusers::new(config)),
        ("LMSDiscreteScheduler", ..) if !skipped.is_empty() => Box::new(LmsFromInside::new(skipped)),
        ("PNDMScheduler", ..) if config.prediction_type == Prediction::V => Box::new(PndmOnV::default()),
        ("UniPCMultistepScheduler", ..) if !config.predict_x0 => Box::new(UniPcOfNoise::new(config)),
        _ => config.solver()?,
    })
}

/// Returns how often diffusers' tables repeat an entry: second-order classes double all entries but the first, PNDM
/// doubles the second.
fn times(class: &str, index: usize) -> usize {
    match index {
        0 => 1,
        _ if class.contains("Heun") => 2,
        1 if class.starts_with("PNDM") => 2,
        _ => 1,
    }
}

/// Returns the timesteps as diffusers lists them, one per call of the model.
fn timesteps(class: &str, schedule: &Schedule, table: &TrainingSchedule, torch: &Dpm2AncestralInSingle) -> Vec<f64> {
    let steps: Vec<Step> = schedule.steps().collect();
    let mut all = Vec::new();
    for (i, step) in steps.iter().enumerate() {
        all.extend(std::iter::repeat_n(step.timestep, times(class, i)));
        if class.starts_with("KDPM2") && i + 1 < steps.len() {
            all.push(table.timestep_of(match class.contains("Ancestral") {
                true => torch.split(step.from, step.to).0,
                false => (step.from * step.to).sqrt(),
            }));
        }
    }
    all
}

/// Returns the steps of PNDM started inside its schedule. PNDM's list has the second entry twice and is cut by index.
/// The first step therefore goes to the next level, and the second step begins one level further.
fn pndm_inside(whole: &Schedule, count: usize) -> Vec<Step> {
    let steps: Vec<Step> = whole.steps().collect();
    let list: Vec<usize> = [0, 1].into_iter().chain(1..steps.len()).skip(steps.len() - count).collect();
    if list[0] == 0 {
        return steps;
    }
    let kept: Vec<Step> = list.iter().take(1).chain(&list[2..]).map(|&i| steps[i]).collect();
    // A run of one step also has two calls.
    let (count, second) = (list.len(), steps[list[1]].from);
    let numbered = kept.into_iter().enumerate().map(|(index, mut step)| {
        (step.index, step.count) = (index, count);
        if index == 0 {
            step.to = second;
        }
        step
    });
    numbered.collect()
}

/// Returns true if a class keeps latents in variance-preserving form.
pub fn preserves_variance(class: &str) -> bool {
    !["Euler", "Heun", "LMS", "KDPM2"].iter().any(|start| class.starts_with(start))
}

/// The model of the fixtures: sin(0.7·x·c_in + t/1000), for every prediction type.
struct Sine<'a> {
    schedule: &'a Schedule,
    table: &'a TrainingSchedule,
    prediction: Prediction,
    /// Latents that the model was called with, and their levels.
    seen: Vec<(f64, Tensor)>,
}

impl Sine<'_> {
    fn ask(&mut self, x: &Tensor, sigma: f64, timestep: f64) -> impasto::Result<Tensor> {
        let out = (x * (0.7 * self.prediction.input_scale(sigma)) + timestep / 1000.0).sin();
        self.seen.push((sigma, x.shallow_clone()));
        self.prediction.x0(&out, x, sigma)
    }
}

impl Eval for Sine<'_> {
    fn x0(&mut self, x: &Tensor, sigma: f64) -> impasto::Result<Tensor> {
        self.ask(x, sigma, self.schedule.timestep(sigma))
    }
    fn x0_between(&mut self, x: &Tensor, sigma: f64) -> impasto::Result<Tensor> {
        self.ask(x, sigma, self.table.timestep_of(sigma))
    }
    fn noise(&mut self) -> impasto::Result<Tensor> {
        unimplemented!("no solver here draws noise inside a step")
    }
}

fn scheduler_run(case: &Case, run: &Value) -> Result<Outputs> {
    let (id, class, config) = (run["id"].as_str().unwrap(), run["class"].as_str().unwrap(), config(run));
    let whole = match run["set_timesteps"]["timesteps"].as_array() {
        Some(timesteps) => {
            let timesteps: Vec<f64> = timesteps.iter().map(|timestep| timestep.as_f64().unwrap()).collect();
            Schedule::from_timesteps(&config.training_schedule()?, &timesteps, &config.spacing_options()?)?
        }
        None => match run["set_timesteps"]["sigmas"].as_array() {
            Some(times) => {
                let times: Vec<f64> = times.iter().map(|time| time.as_f64().unwrap()).collect();
                config.schedule_of_times(&times)?
            }
            None => config.schedule(run["num_inference_steps"].as_u64().unwrap() as usize)?,
        },
    };
    let flow = config.is_flow();
    let vp = preserves_variance(class);
    let coordinates = |sigma: f64| if vp { config.prediction_type.input_scale(sigma) } else { 1.0 };
    let mut out = Outputs::new();
    let mut add = |name: &str, value: Tensor| out.push((format!("{id}.{name}"), value));
    let table = config.training_schedule()?;
    let torch = case.wanted.get(&format!("{id}.sigmas")).map(|wanted| Vec::<f32>::try_from(&wanted.tensor));
    let torch = Dpm2AncestralInSingle::new(torch.transpose()?.unwrap_or_default());
    add("timesteps", Tensor::from_slice(&timesteps(class, &whole, &table, &torch)));
    add("init_noise_sigma", Tensor::from_slice(&[whole.initial_scale() * coordinates(whole.sigma_max())]));
    let levels: Vec<f64> = whole.steps().map(|step| step.from).collect();
    let end = whole.steps().last().map(|step| step.to);
    let mut sigmas: Vec<f64> =
        levels.iter().enumerate().flat_map(|(i, sigma)| std::iter::repeat_n(*sigma, times(class, i))).collect();
    if class.starts_with("KDPM2") {
        let twice = levels[1..].iter().copied().chain(end).flat_map(|sigma| [sigma; 2]);
        sigmas = levels[..1].iter().copied().chain(twice).collect();
    }
    sigmas.extend(end);
    if flow {
        sigmas.iter_mut().for_each(|sigma| *sigma /= 1.0 + *sigma); // diffusers' are times of the flow
    }
    add("sigmas", Tensor::from_slice(&sigmas));

    let n = levels.len();
    let (schedule, mut x) = match run["strength"].as_f64() {
        Some(strength) => {
            let strength = Strength::from(strength);
            let count = if class.starts_with("FlowMatch") { strength.flow_steps(n)?.1 } else { strength.steps(n)?.1 };
            let all = timesteps(class, &whole, &table, &torch);
            let inside = whole.last(count)?;
            let order = if ["Heun", "KDPM2"].iter().any(|name| class.contains(name)) { 2 } else { 1 };
            add("start_timesteps", Tensor::from_slice(&all[(n - count) * order..]));
            let x = case.input("original")? + case.input("sample")? * inside.sigma_max();
            (inside, x)
        }
        None => {
            let x = case.input("sample")? * whole.initial_scale();
            (whole.clone(), x)
        }
    };
    let steps: Vec<Step> = match run["strength"].as_f64() {
        Some(_) if class.starts_with("PNDM") => pndm_inside(&whole, schedule.steps().len()),
        _ => schedule.steps().collect(),
    };
    // The run may skip the first level.
    x = match (run["strength"].is_number(), steps.first()) {
        (true, Some(first)) => case.input("original")? + case.input("sample")? * first.from,
        _ => x,
    };
    let long = schedule.steps().any(|step| step.to > 0.0 && step.to < step.from / 100.0);
    let mut solver: Box<dyn Solver> = match class.contains("KDPM2A") && long {
        true => Box::new(torch),
        false => solver_of(run, &config, &levels[..n - schedule.steps().len()])?,
    };
    let mut eval = Sine { schedule: &whole, table: &table, prediction: config.prediction_type, seen: Vec::new() };
    let mut reached = steps.first().map_or(0.0, |step| step.from);
    let (mut latents, mut draws) = (vec![&x * coordinates(reached)], Vec::new());
    for step in steps {
        x = whole.rescale_level(&x, reached, step.from)?;
        let transition = solver.step(&step, &x, &mut eval)?;
        // Some classes also draw noise where the noise has no effect.
        let idle = match class {
            "EulerAncestralDiscreteScheduler" => true,
            "DDPMScheduler" => step.timestep > 0.0,
            "FlowMatchLCMScheduler" => true,
            "FlowMatchEulerDiscreteScheduler" => config.stochastic_sampling,
            "DDIMScheduler" => run["eta"].as_f64().is_some_and(|eta| eta > 0.0),
            _ => config.algorithm_type.as_ref().is_some_and(|algorithm| algorithm.starts_with("sde")),
        };
        // diffusers counts each call of the model as a step.
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

/// Computes every run of a scheduler class.
pub fn scheduler(case: &Case) -> Result<Outputs> {
    let mut out = Outputs::new();
    for run in runs(case) {
        out.extend(scheduler_run(case, run)?);
    }
    Ok(out)
}

/// Computes tables, and latents noised by them.
pub fn scheduler_math(case: &Case) -> Result<Outputs> {
    let mut out = Outputs::new();
    for run in runs(case) {
        let (id, class, config) = (run["id"].as_str().unwrap(), run["class"].as_str().unwrap(), config(run));
        let table = config.training_schedule().unwrap();
        let mut add = |name: &str, value: Tensor| out.push((format!("{id}.{name}"), value));
        add("betas", Tensor::from_slice(table.betas()));
        add("alphas_cumprod", Tensor::from_slice(table.alphas_cumprod()));
        let timesteps: Vec<f64> = match run["at"].as_array() {
            None => run["timesteps"].as_array().unwrap().iter().map(|t| t.as_f64().unwrap()).collect(),
            Some(at) => {
                // Some of these configurations predict the noise of a sample that is noise alone, which is refused. The
                // levels do not depend on the prediction type.
                let steps = run["num_inference_steps"].as_u64().unwrap() as usize;
                let mut config = config.clone();
                config.prediction_type = Prediction::V;
                let schedule = config.schedule(steps).unwrap();
                let all = timesteps(class, &schedule, &table, &Dpm2AncestralInSingle::new(Vec::new()));
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
            // diffusers' Euler classes take the index in the schedule as the timestep.
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

/// Checks that unsupported settings are refused with an error that names the setting.
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
