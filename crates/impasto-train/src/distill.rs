//! Distillation of a UNet to few steps.

use super::dataset::{Cluttered, Dataset, Wording};
use super::denoising::noise;
use super::export::ModelFolder;
use super::unet::{Captions, OFFSET, rule};
use super::vae::HELD_OUT;
use super::{Loss, Parameters, Rule, Shard, Task};
use impasto::attention::Tap;
use impasto::diffusion::solver::{Eval, Multistep, Solver, euler_step};
use impasto::diffusion::{Prediction, Schedule, Spacing, TrainingSchedule};
use impasto::nn::{ConfigFile, UNet, UnetConfig};
use impasto::weights::{Tensors, Weights, parse_safetensors};
use impasto::{Error, Model, Pipeline, Raster, Result, Source, Step};
use impasto_report::Sheet;
use rand::Rng;
use tch::{Device, Kind, Tensor};

/// Shape of a latent: channels, rows, columns.
const LATENT: [i64; 3] = [4, 32, 32];
/// Number of the student's steps.
const STEPS: usize = 4;
/// Number of the teacher's steps for each step of the student. Sixteen steps of DPM++ 2M look like 28 Euler steps.
const TEACHER_STEPS: usize = 4;
/// Share of captions among words that show nothing.
const CLUTTERED: f64 = 0.3;
/// Number of held-out pictures of an evaluation.
const EVALUATED: u64 = 16;
/// Variance below which errors of a latent count the same. Latents have a variance of about 1.
const FINE: f64 = 0.25;
/// Prompts of the sample sheet.
const PROMPTS: [&str; 8] = [
    "1girl, gold eyes, pink hair bow, red hair, pale skin, blue shirt, green background",
    "portrait of a girl with long black hair and green eyes",
    "1boy, blue eyes, brown hair, orange shirt",
    "1girl, smile, looking at viewer, silver hair, purple eyes, white shirt, best quality",
    "a red house and a yellow moon, green ground, navy sky",
    "a blue car, tan ground, white sky",
    "a gold fish and a purple flower",
    "a boat on the sea at night",
];

/// Trains a copy of the embedded UNet, the student, to paint in four steps and without a second branch.
///
/// The student walks its own way from noise to a picture, with Euler steps. At each of its steps the teacher, which
/// stays unchanged, starts from the same latent and goes to the same noise level, in several steps of DPM++ 2M with
/// classifier-free guidance. The student learns to arrive at the teacher's latent. Because the student meets the
/// latents that it makes itself, its errors do not add up, and training needs captions alone.
///
/// Sources: progressive distillation (Salimans and Ho 2022), with guidance in the student's weights (Meng et al. 2023).
pub struct DistillTask {
    config: UnetConfig,
    /// Text of the file of `config`.
    json: String,
    /// Folder with the student, and the other parts of the embedded model, which sample pictures need.
    model: ModelFolder,
    teacher: UNet,
    guidance_scale: f64,
    captions: Captions,
    dataset: Dataset,
    table: TrainingSchedule,
    batch: usize,
    kind: Kind,
}

/// The teacher: the network with classifier-free guidance.
struct Guided<'a> {
    task: &'a DistillTask,
    /// Contexts of the empty prompt and of the captions, [2·n, tokens, width].
    contexts: &'a Tensor,
}

impl Eval for Guided<'_> {
    fn x0(&mut self, x: &Tensor, sigma: f64) -> Result<Tensor> {
        let Self { task, contexts } = *self;
        let x0 = task.x0(&task.teacher, &Tensor::f_cat(&[x, x], 0)?, sigma, contexts, Kind::Float)?;
        let n = x.size4()?.0;
        let (uncond, cond) = (x0.f_narrow(0, 0, n)?, x0.f_narrow(0, n, n)?);
        Ok(uncond.f_lerp(&cond, task.guidance_scale)?)
    }

    fn noise(&mut self) -> Result<Tensor> {
        Err(Error::parameter("the teacher's solver", "one with noise", "a solver without noise"))
    }
}

impl DistillTask {
    /// Creates a task whose shards have `batch` captions. The student is computed in `kind`. Every evaluation writes
    /// the student to the diffusers folder `model`.
    ///
    /// # Errors
    /// [`Error::Io`] if the folder cannot be written.
    pub fn new(model: ModelFolder, batch: usize, kind: Kind) -> Result<Self> {
        model.write_embedded(|part| part != "unet")?;
        let json = String::from_utf8_lossy(impasto_tiny::file("unet/config.json").unwrap_or_default()).into_owned();
        let config = UnetConfig::from_json("unet/config.json", &json)?;
        let weights = Weights::new("the embedded UNet", Self::initial()?, Kind::Float, Device::Cpu);
        Ok(Self {
            teacher: UNet::new(&weights, &config)?,
            guidance_scale: Model::load(&Source::embedded())?.defaults().guidance_scale,
            config,
            json,
            captions: Captions::new(&model)?,
            model,
            dataset: Dataset::new(64)?,
            table: TrainingSchedule::stable_diffusion(),
            batch,
            kind,
        })
    }

    /// Returns the initial weights: those of the embedded UNet.
    ///
    /// # Errors
    /// [`Error::Torch`] only, such as out of memory.
    pub fn initial() -> Result<Tensors> {
        let file = "unet/diffusion_pytorch_model.safetensors";
        parse_safetensors("the embedded UNet", impasto_tiny::file(file).unwrap_or_default())
    }

    /// Returns the clean pictures that a network predicts for latents [n, c, h, w] of a noise level, f32.
    fn x0(&self, unet: &UNet, x: &Tensor, sigma: f64, contexts: &Tensor, kind: Kind) -> Result<Tensor> {
        let sample = x.f_mul_scalar(Prediction::Epsilon.input_scale(sigma))?.f_to_kind(kind)?;
        let timestep = Tensor::f_from_slice(&[self.table.timestep_of(sigma) as f32])?;
        let out = unet.forward(&sample, &timestep, &contexts.f_to_kind(kind)?, None, &mut Tap::none())?;
        Prediction::Epsilon.x0(&out.f_to_kind(Kind::Float)?, x, sigma)
    }

    /// Returns the contexts of captions, and those contexts after as many of the empty prompt, which is what the
    /// teacher's two branches read.
    fn contexts(&self, captions: &[String]) -> Result<(Tensor, Tensor)> {
        let captions: Vec<&str> = captions.iter().map(String::as_str).collect();
        let context = self.captions.context(&captions)?;
        let both = Tensor::f_cat(&[&self.captions.context(&vec![""; captions.len()])?, &context], 0)?;
        Ok((context, both))
    }

    fn caption(&self, drawing: u64, seed: u64, cluttered: bool) -> Result<String> {
        let caption = self.dataset.draw(drawing)?.record.caption(Wording::default(), seed);
        Ok(if cluttered { Cluttered::of(&caption, seed).text } else { caption })
    }

    /// Returns the student's steps.
    fn steps(&self) -> Result<Vec<Step>> {
        Ok(Schedule::new(&self.table, STEPS, Spacing::Trailing)?.steps().collect())
    }

    /// Returns the latents where the teacher arrives, from the latents `x` at the start of the student's step `index`.
    fn taught(&self, x: &Tensor, index: usize, contexts: &Tensor) -> Result<Tensor> {
        let _no_grad = tch::no_grad_guard();
        let schedule = Schedule::new(&self.table, STEPS * TEACHER_STEPS, Spacing::Trailing)?;
        let (mut solver, mut eval) = (Multistep::default(), Guided { task: self, contexts });
        let mut x = x.shallow_clone();
        for step in schedule.steps().skip(index * TEACHER_STEPS).take(TEACHER_STEPS) {
            x = solver.step(&step, &x, &mut eval)?.mean;
        }
        Ok(x)
    }

    /// Returns initial latents of `n` pictures, with offset noise as in the teacher's training, so that the student
    /// learns to paint from shifted means, too.
    fn start(&self, shard: &Shard, n: usize, offset: f64) -> Result<Tensor> {
        let [channels, rows, columns] = LATENT;
        let shape = Tensor::f_zeros([n as i64, channels, rows, columns], (Kind::Float, Device::Cpu))?;
        let scale = Schedule::new(&self.table, STEPS, Spacing::Trailing)?.initial_scale();
        Ok(noise(&mut shard.noise(), &shape, offset)?.f_mul_scalar(scale)?)
    }
}

impl Task for DistillTask {
    fn loss(&self, parameters: &Parameters, shard: &Shard) -> Result<Loss> {
        let mut rng = shard.rng();
        let mut caption = || self.caption(rng.random_range(0..HELD_OUT), rng.random(), rng.random_bool(CLUTTERED));
        let captions = (0..self.batch).map(|_| caption()).collect::<Result<Vec<_>>>()?;
        let (context, both) = self.contexts(&captions)?;
        let student = UNet::new(&parameters.weights("", self.kind), &self.config)?;
        let (mut x, mut total, mut parts) = (self.start(shard, self.batch, OFFSET)?, Tensor::from(0.0f32), Vec::new());
        for (index, (step, name)) in self.steps()?.iter().zip(["first", "second", "third", "fourth"]).enumerate() {
            let arrived = euler_step(&x, &self.x0(&student, &x, step.from, &context, self.kind)?, step.from, step.to)?;
            let error = arrived.f_sub(&self.taught(&x, index, &both)?)?.f_square()?.f_mean(Kind::Float)?;
            parts.push((name, error.f_double_value(&[])?));
            total = total.f_add(&error.f_div_scalar(step.to * step.to + FINE)?)?;
            x = arrived.f_detach()?;
        }
        Ok(Loss { total, parts })
    }

    fn evaluate(&self, parameters: &Parameters) -> Result<Vec<(&'static str, f64)>> {
        let student = UNet::new(&parameters.weights("", Kind::Float), &self.config)?;
        let (mut distance, mut variance) = (0.0, 0.0);
        for i in 0..EVALUATED {
            let shard = Shard { seed: 5, step: i, part: 0, parts: 1, progress: 0.0 };
            let (context, both) = self.contexts(&[self.caption(HELD_OUT + i, i, false)?])?;
            let start = self.start(&shard, 1, 0.0)?;
            let (mut x, mut taught) = (start.shallow_clone(), start);
            for (index, step) in self.steps()?.iter().enumerate() {
                x = euler_step(&x, &self.x0(&student, &x, step.from, &context, Kind::Float)?, step.from, step.to)?;
                taught = self.taught(&taught, index, &both)?;
            }
            distance += x.f_sub(&taught)?.f_square()?.f_mean(Kind::Float)?.f_double_value(&[])?;
            variance += taught.f_square()?.f_mean(Kind::Float)?.f_double_value(&[])?;
        }
        Ok(vec![("held-out distance", distance / variance)])
    }

    fn sheet(&self, parameters: &Parameters) -> Result<Option<Raster>> {
        self.model.put("unet", &self.json, parameters.tensors())?;
        let pipeline = Pipeline::builder().source(Source::dir(self.model.path())).build()?;
        let mut sheet = Sheet::new(4);
        for prompt in PROMPTS {
            let request = pipeline.request(prompt).steps(STEPS).guidance_scale(1.0);
            for picture in &request.seed(0).images(2).run()?.images {
                sheet = sheet.add(prompt, picture);
            }
        }
        sheet.draw().map(Some)
    }

    fn rule(&self, name: &str, shape: &[i64]) -> Rule {
        rule(name, shape)
    }
}
