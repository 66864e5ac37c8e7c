//! The training loop: batches over workers, training steps, checkpoints, figures.

use super::checkpoint::{Checkpoint, halved};
use super::{AdamW, Journal, Loss, Muon, Optimizer, Parameters, Rate, Shard, Task, clip, curves};
use crate::Error as TrainingError;
use impasto::weights::{Tensors, write_safetensors};
use impasto::{Error, Result};
use std::fs;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};
use tch::{Device, Tensor};

/// Time for which each picture of an animation stays.
const FRAME: Duration = Duration::from_millis(700);

/// The settings of a training run and the folder of its files.
///
/// The folder has these files:
///
/// * `checkpoint.safetensors`: everything that the run needs to continue,
/// * `ema.safetensors`: the weights to use, in f16,
/// * `journal.jsonl` and `curves.png`: the figures,
/// * `sheet.png` and `animation.png`: samples, if the task has them.
///
/// A training run that finds its checkpoint continues from there. A run that is killed at any moment and started again
/// takes the same steps. All randomness comes from the seed and the number of the step.
#[derive(Clone, Debug)]
pub struct Training {
    /// Folder of the run's files.
    pub folder: PathBuf,
    /// Seed of all randomness.
    pub seed: u64,
    /// Number of threads that each take a shard of every batch. Libtorch then computes in one thread for each, because
    /// on small networks its way of splitting every operation is much slower.
    pub workers: usize,
    /// Number of batches that each worker takes in a step, at least 1. Their gradients are averaged (gradient
    /// accumulation).
    pub accumulate: usize,
    /// Device of the weights, and of all computations with the weights.
    pub device: Device,
    /// The course of the learning rates, and the number of steps.
    pub rate: Rate,
    /// Learning rate and weight decay of matrices and kernels; see [`Muon`].
    pub muon: (f64, f64),
    /// Learning rate and weight decay of the rest; see [`AdamW`].
    pub adamw: (f64, f64),
    /// Maximum joint norm of the gradients, which are clipped to it.
    pub clip: f64,
    /// Decay of the exponential moving average of the weights, about 0.999.
    pub ema: f64,
    /// Time between two checkpoints.
    pub checkpoint: Duration,
    /// Number of training steps between two evaluations.
    pub evaluate: u64,
    /// Time at which the training stops with a checkpoint, even if steps are left.
    pub until: Option<Instant>,
}

/// The progress of a training run, for a callback.
#[derive(Debug)]
pub struct TrainingProgress<'a> {
    /// Number of training steps done.
    pub step: u64,
    /// Number of training steps in all.
    pub steps: u64,
    /// Training steps per second since the start of this process.
    pub speed: f64,
    /// Time left at this speed.
    pub left: Duration,
    /// Figures of the step, or of an evaluation; the names of an evaluation's figures begin with `held-out`.
    pub figures: &'a [(&'static str, f64)],
}

/// Gradients and figures of a shard, or the error of its worker.
type Share = Result<(Vec<Tensor>, Vec<(&'static str, f64)>)>;

impl Training {
    /// Trains until the last step, or until `until`, and returns the exponential moving average of the weights.
    /// `initial` gives the weights to start from if there is no checkpoint. `make` makes a task for each worker and one
    /// for evaluation. `watch` is called after each step and each evaluation. If the checkpoint has all steps already,
    /// `watch` is called once, without figures and with the number of the checkpoint's steps.
    ///
    /// # Errors
    /// [`Error::Stopped`](TrainingError::Stopped), with the step and the last good checkpoint, if a loss is not finite,
    /// a task fails or a file cannot be written; [`impasto::Error::Io`] if the folder cannot be made or the journal
    /// cannot be read.
    pub fn run<T: Task>(
        &self,
        initial: impl FnOnce() -> Result<Tensors>,
        make: impl Fn() -> Result<T> + Sync,
        mut watch: impl FnMut(&TrainingProgress<'_>),
    ) -> std::result::Result<Tensors, TrainingError> {
        fs::create_dir_all(&self.folder).map_err(|source| Error::Io { path: self.folder.clone(), source })?;
        let threads = tch::get_num_threads();
        tch::set_num_threads(1);
        let result = self.stepping(initial, &make, &mut watch);
        tch::set_num_threads(threads);
        result
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn stepping<T: Task>(
        &self,
        initial: impl FnOnce() -> Result<Tensors>,
        make: &(impl Fn() -> Result<T> + Sync),
        watch: &mut impl FnMut(&TrainingProgress<'_>),
    ) -> std::result::Result<Tensors, TrainingError> {
        let saved = self.file("checkpoint.safetensors");
        let found = saved.exists().then(|| Checkpoint::load(&saved)).transpose()?;
        let start = match &found {
            Some(checkpoint) => checkpoint.weights.iter().map(|(name, x)| (name.clone(), x.shallow_clone())).collect(),
            None => initial()?,
        };
        let parameters = Parameters::new(&start, self.device)?;
        let task = make()?;
        let (muon, adamw) = (Muon::new(self.muon.0, self.muon.1), AdamW::new(self.adamw.0, self.adamw.1));
        let mut optimizer = Optimizer::new(muon, adamw, &parameters, |name, shape| task.rule(name, shape))?;
        let (mut step, ema) = match found {
            Some(checkpoint) => {
                optimizer.restore(&checkpoint.optimizer)?;
                (checkpoint.step, Parameters::new(&checkpoint.ema, self.device)?)
            }
            None => (0, Parameters::new(&start, self.device)?),
        };
        let mut journal = Journal::resume(&self.file("journal.jsonl"), step)?;
        if step > 0 && step >= self.rate.steps {
            let (speed, left) = (0.0, Duration::ZERO);
            watch(&TrainingProgress { step, steps: self.rate.steps, speed, left, figures: &[] });
        }
        let (begun, first, mut last_saved) = (Instant::now(), step, Instant::now());
        std::thread::scope(|scope| {
            let mut workers = Vec::new();
            for _ in 0..self.workers.max(1) {
                let (orders, inbox) = channel();
                let (outbox, shares) = channel();
                let own = parameters.share()?;
                scope.spawn(move || work(own, make, &inbox, &outbox));
                workers.push((orders, shares));
            }
            while step < self.rate.steps {
                let figures = self
                    .step(step, &workers, &parameters, &mut optimizer)
                    .map_err(|source| self.stopped(step, source))?;
                average(&ema, &parameters, self.ema.min((1 + step) as f64 / (10 + step) as f64))?;
                step += 1;
                journal.write(step, &figures).map_err(|source| self.stopped(step, source))?;
                let mut report = |figures: &[(&'static str, f64)]| {
                    let speed = (step - first) as f64 / begun.elapsed().as_secs_f64().max(1e-9);
                    let left = Duration::from_secs_f64((self.rate.steps - step) as f64 / speed.max(1e-9));
                    watch(&TrainingProgress { step, steps: self.rate.steps, speed, left, figures });
                };
                report(&figures);
                let over = step == self.rate.steps || self.until.is_some_and(|until| Instant::now() >= until);
                if over || step % self.evaluate.max(1) == 0 {
                    let figures = self.evaluate(&task, &ema).map_err(|source| self.stopped(step, source))?;
                    journal.write(step, &figures).map_err(|source| self.stopped(step, source))?;
                    report(&figures);
                }
                if over || last_saved.elapsed() >= self.checkpoint {
                    let checkpoint = Checkpoint::of(step, &parameters, ema.tensors(), &optimizer);
                    let save = || {
                        checkpoint.save(&saved)?;
                        write_safetensors(&halved(ema.tensors())?, &self.file("ema.safetensors"))
                    };
                    save().map_err(|source| self.stopped(step, source))?;
                    last_saved = Instant::now();
                }
                if over {
                    break;
                }
            }
            Ok(ema.tensors().iter().map(|(name, x)| (name.clone(), x.detach())).collect())
        })
    }

    fn step(
        &self,
        step: u64,
        workers: &[(Sender<Shard>, Receiver<Share>)],
        parameters: &Parameters,
        optimizer: &mut Optimizer,
    ) -> Result<Vec<(&'static str, f64)>> {
        let progress = step as f64 / self.rate.steps.max(1) as f64;
        let parts = workers.len() * self.accumulate.max(1);
        for (part, (orders, _)) in (0..parts as u64).zip(workers.iter().cycle()) {
            // A worker that has ended has left its error in the other channel.
            let _ = orders.send(Shard { seed: self.seed, step, part, parts: parts as u64, progress });
        }
        // Shares are added in the order of the parts, not as they arrive, because sums of floats depend on the order.
        let order = (0..parts).filter_map(|part| workers.get(part % workers.len().max(1)));
        let mut shares = order.map(|(_, shares)| shares.recv().unwrap_or(Err(Error::Cancelled)));
        let (mut gradients, mut figures) = shares.next().unwrap_or(Err(Error::Cancelled))?;
        let part = 1.0 / parts as f64;
        for share in shares {
            let (others, more) = share?;
            for (gradient, other) in gradients.iter_mut().zip(&others) {
                let _ = gradient.f_add_(other)?;
            }
            figures.iter_mut().zip(more).for_each(|(figure, other)| figure.1 += other.1);
        }
        for gradient in &mut gradients {
            let _ = gradient.f_mul_scalar_(part)?;
        }
        figures.iter_mut().for_each(|figure| figure.1 *= part);
        let norm = clip(&mut gradients, self.clip)?;
        figures.push(("gradient", norm));
        if let Some((name, _)) = figures.iter().find(|figure| !figure.1.is_finite()) {
            return Err(Error::NonFinite { what: format!("the training's {name}"), step: step as usize });
        }
        optimizer.step(parameters, &gradients, step, self.rate.at(step))?;
        Ok(figures)
    }

    fn evaluate<T: Task>(&self, task: &T, ema: &Parameters) -> Result<Vec<(&'static str, f64)>> {
        let _no_grad = tch::no_grad_guard();
        if let Some(sheet) = task.sheet(ema)? {
            sheet.save(self.file("sheet.png"))?;
        }
        let frames = task.animation(ema)?;
        if !frames.is_empty() {
            impasto_report::animation(&frames, FRAME, self.file("animation.png"))?;
        }
        curves(&self.file("journal.jsonl"))?.save(self.file("curves.png"))?;
        task.evaluate(ema)
    }

    fn stopped(&self, step: u64, source: Error) -> TrainingError {
        let saved = self.file("checkpoint.safetensors");
        let checkpoint = saved.exists().then_some(saved);
        TrainingError::Stopped { step, checkpoint, source: Box::new(source) }
    }
}

/// Runs a worker, which takes shards and sends gradients.
fn work<T: Task>(
    parameters: Parameters,
    make: impl Fn() -> Result<T>,
    inbox: &Receiver<Shard>,
    outbox: &Sender<Share>,
) {
    tch::set_num_threads(1);
    let task = match make() {
        Ok(task) => task,
        Err(error) => return drop(outbox.send(Err(error))),
    };
    while let Ok(shard) = inbox.recv() {
        let share = task.loss(&parameters, &shard).and_then(|Loss { total, parts }| {
            let loss = total.f_double_value(&[])?;
            Ok((parameters.gradients(&total)?, [vec![("loss", loss)], parts].concat()))
        });
        if outbox.send(share).is_err() {
            return;
        }
    }
}

/// Updates the exponential moving average in place: mean ← decay·mean + (1 − decay)·weights.
fn average(ema: &Parameters, parameters: &Parameters, decay: f64) -> Result<()> {
    let _no_grad = tch::no_grad_guard();
    for (mean, x) in ema.tensors().values().zip(parameters.tensors().values()) {
        let _ = mean.shallow_clone().f_lerp_(x, 1.0 - decay)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use impasto::Raster;
    use tch::Kind;

    /// A task that learns the matrix 3·I from noisy products. Its loss at step `broken` is not a number.
    struct Matrix {
        broken: u64,
    }

    impl Task for Matrix {
        fn loss(&self, parameters: &Parameters, shard: &Shard) -> Result<Loss> {
            let x = shard.noise().draw(&[16, 4])?;
            let w = parameters.weights("", Kind::Float);
            let y = x.f_matmul(&w.tensor("matrix", &[4, 4])?)?.f_add(&w.tensor("bias", &[4])?)?;
            let total = y.f_sub(&x.f_mul_scalar(3.0)?)?.f_square()?.f_mean(Kind::Float)?;
            let total = if shard.step == self.broken { total.f_log()?.f_mul_scalar(f64::NAN)? } else { total };
            Ok(Loss { total, parts: vec![("part", shard.part as f64)] })
        }

        fn evaluate(&self, parameters: &Parameters) -> Result<Vec<(&'static str, f64)>> {
            let off = parameters.weights("", Kind::Float).tensor("matrix", &[4, 4])?
                - Tensor::eye(4, tch::kind::FLOAT_CPU) * 3.0;
            Ok(vec![("held-out off", off.abs().max().double_value(&[]))])
        }

        fn sheet(&self, _: &Parameters) -> Result<Option<Raster>> {
            Ok(None)
        }
    }

    fn zeros() -> Result<Tensors> {
        let zeros = |shape: &[i64]| Tensor::zeros(shape, tch::kind::FLOAT_CPU);
        Ok(Tensors::from([("matrix".into(), zeros(&[4, 4])), ("bias".into(), zeros(&[4]))]))
    }

    fn training(folder: &std::path::Path) -> Training {
        Training {
            folder: folder.into(),
            seed: 3,
            workers: 2,
            accumulate: 1,
            device: Device::Cpu,
            rate: Rate { warm_up: 5, hold: 0.3, steps: 240 },
            muon: (0.06, 0.0),
            adamw: (0.02, 0.0),
            clip: 10.0,
            ema: 0.9,
            checkpoint: Duration::ZERO,
            evaluate: 120,
            until: None,
        }
    }

    fn losses(folder: &std::path::Path) -> Vec<f64> {
        let lines = Journal::read(&folder.join("journal.jsonl")).unwrap();
        lines.iter().filter_map(|line| line.get("loss")?.as_f64()).collect()
    }

    #[test]
    fn training_learns_and_resumes_with_the_same_steps() -> std::result::Result<(), TrainingError> {
        let (whole, cut) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let make = || Ok(Matrix { broken: u64::MAX });
        let mut held_out = Vec::new();
        let ema = training(whole.path()).run(zeros, make, |progress| {
            held_out.extend(progress.figures.iter().filter(|(name, _)| *name == "held-out off").map(|figure| figure.1));
        })?;
        assert!(held_out.len() == 2 && held_out[1] < 0.1, "{held_out:?}");
        let whole_losses = losses(whole.path());
        assert_eq!(whole_losses.len(), 240);

        // A kill leaves a checkpoint of some step, a journal that is ahead of the checkpoint, and half a line.
        training(cut.path()).run(zeros, || Ok(Matrix { broken: 50 }), |_| {}).unwrap_err();
        let journal = cut.path().join("journal.jsonl");
        let ahead = std::fs::read_to_string(&journal).unwrap() + "{\"step\":51,\"loss\":9.0}\n{\"step\":52,\"lo";
        std::fs::write(&journal, ahead).unwrap();
        let again = training(cut.path()).run(|| panic!("there is a checkpoint"), make, |_| {})?;
        assert_eq!(losses(cut.path()), whole_losses);
        assert_eq!(again, ema);
        Ok(())
    }

    #[test]
    fn finished_run_tells_the_steps_of_its_checkpoint() -> std::result::Result<(), TrainingError> {
        let folder = tempfile::tempdir().unwrap();
        let run = |steps| {
            let mut told = Vec::new();
            let rate = Rate { warm_up: 1, hold: 0.5, steps };
            let training = Training { rate, evaluate: 9, ..training(folder.path()) };
            let watch = |progress: &TrainingProgress<'_>| told.push((progress.step, progress.figures.is_empty()));
            training.run(zeros, || Ok(Matrix { broken: u64::MAX }), watch).map(|ema| (told, ema))
        };
        let (told, ema) = run(2)?;
        assert_eq!(told, [(1, false), (2, false), (2, false)], "two steps and an evaluation");
        for fewer in [1, 2] {
            let (told, again) = run(fewer)?;
            assert_eq!((told, &again), (vec![(2, true)], &ema));
        }
        assert_eq!(run(3)?.0, [(3, false), (3, false)], "more steps train on");
        Ok(())
    }

    #[test]
    fn failed_save_names_the_last_good_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("ema.safetensors")).unwrap(); // a folder blocks the file of this name
        let error = training(folder.path()).run(zeros, || Ok(Matrix { broken: u64::MAX }), |_| {}).unwrap_err();
        let message = error.to_string();
        assert!(message.contains("stopped at step 1:") && message.contains("ema.safetensors"), "{message}");
        assert!(
            message.contains("the last good checkpoint is") && message.contains("checkpoint.safetensors"),
            "{message}"
        );
        assert_eq!(Checkpoint::load(&folder.path().join("checkpoint.safetensors")).unwrap().step, 1);
    }

    #[test]
    fn loss_that_is_nan_names_step_and_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        let error = training(folder.path()).run(zeros, || Ok(Matrix { broken: 7 }), |_| {}).unwrap_err();
        let message = error.to_string();
        assert!(message.contains("stopped at step 7: the training's loss is not finite"), "{message}");
        assert!(message.contains("checkpoint.safetensors"), "{message}");
        assert_eq!(Checkpoint::load(&folder.path().join("checkpoint.safetensors")).unwrap().step, 7);
    }
}
