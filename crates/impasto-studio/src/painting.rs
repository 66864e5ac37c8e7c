//! [`Painter`]: the model in use, and the run of a request.

use crate::described::{Board, Described};
use crate::engine::{Choice, Engine, Models, is_embedded};
use crate::finished::now;
use crate::options::Options;
use crate::request::{JobRequest, wrong_side};
use impasto::job::Job;
use impasto::pipeline::Preview;
use impasto::saliency::Daam;
use impasto::sampler::CancelToken;
use impasto::wording::shortened;
use impasto::{Error, Model, Output, Pipeline, Result, Size, Source};
use std::sync::Arc;
use std::time::Instant;

/// An engine in use, and the pipeline of its live views if that is another.
struct Loaded {
    engine: Engine,
    live: Option<Pipeline>,
}

/// The engine of a studio, which takes another model when a request asks for it.
pub struct Painter {
    /// `None` while no model is loaded.
    loaded: Option<Loaded>,
    choice: Option<Choice>,
    board: Arc<Board>,
    /// True if the studio has live views.
    is_live: bool,
    options: Options,
    /// Time at which the studio was started, in milliseconds since 1970.
    started: u64,
}

impl Painter {
    /// Takes the engine, and loads what a studio needs beside it.
    pub fn new(engine: Engine, is_live: bool, options: &Options) -> Result<Self> {
        let (started, choice) = (now(), engine.choice.clone());
        let loaded = Loaded::new(engine, is_live)?;
        let board = Arc::new(Board::new(loaded.describe(options, started)?));
        Ok(Self { loaded: Some(loaded), choice, board, is_live, options: options.clone(), started })
    }

    /// Returns the place where the painter shows which model is in use.
    pub(crate) fn board(&self) -> Arc<Board> {
        Arc::clone(&self.board)
    }

    /// Returns the models that clients can choose; `None` if there is no choice.
    pub(crate) fn models(&self) -> Option<Arc<dyn Models>> {
        self.choice.as_ref().map(|choice| Arc::clone(&choice.models))
    }

    /// Returns the name of the model in use among those that clients can choose.
    pub(crate) fn chosen(&self) -> Option<String> {
        self.choice.as_ref().map(|choice| choice.name.clone())
    }

    /// Returns the largest side that a request may name.
    pub(crate) fn side_to_read(&self) -> u32 {
        self.board.read().side
    }

    /// Takes the model of a name, or the last one without a name. The former model is dropped before another is
    /// loaded, because the memory may hold only one. It is loaded again if the other one fails.
    ///
    /// # Errors
    /// [`Error::Parameter`] for an unknown name; the errors of [`Models::check`] and [`Models::load`].
    pub(crate) fn choose(&mut self, name: Option<&str>) -> Result<()> {
        let Some(Choice { name: current, models }) = self.choice.clone() else {
            let refuse = |name| Err(Error::parameter("model", format!("{name:?}"), "none, because there is no choice"));
            return name.map_or(Ok(()), refuse);
        };
        let wanted = name.unwrap_or(&current);
        if self.loaded.is_some() && wanted == current {
            return Ok(());
        }
        let names = models.names();
        if !names.iter().any(|known| known == wanted) {
            let expected = format!("one of {}", shortened(&names.join(", ")));
            return Err(Error::parameter("model", format!("{:?}", shortened(wanted)), expected));
        }
        models.check(wanted)?;
        self.loaded = None;
        if let Err(error) = self.load(&models, wanted) {
            let _ = self.load(&models, &current); // without it the next job tries again
            return Err(error);
        }
        self.choice = Some(Choice { name: wanted.to_owned(), models });
        Ok(())
    }

    /// Loads the model of a name, and shows it.
    fn load(&mut self, models: &Arc<dyn Models>, name: &str) -> Result<()> {
        let engine = models.load(name)?.with_models(name, Arc::clone(models));
        let loaded = Loaded::new(engine, self.is_live)?;
        self.board.write(loaded.describe(&self.options, self.started)?);
        self.loaded = Some(loaded);
        Ok(())
    }

    /// Runs the request with its model, and calls `tell` after each step, with the number of the job's parts.
    pub fn paint(
        &mut self,
        asked: &JobRequest,
        token: &CancelToken,
        mut tell: impl FnMut(&Preview<'_>, usize) -> Result<()>,
    ) -> Result<Output> {
        self.choose(asked.model.as_deref())?;
        let Self { loaded, options, .. } = self;
        let Some(Loaded { engine: Engine { pipeline, nets, .. }, live }) = loaded else {
            return Err(Error::custom("no model is loaded; choose one"));
        };
        let most = options.side_of(pipeline.model().defaults());
        let pipeline = live.as_ref().filter(|_| asked.live.is_some()).unwrap_or(pipeline);
        let colorizes = pipeline.model().colorizes();
        let (job, limit) = (&asked.job, options.run);
        if let Some((field, side, expected)) = wrong_side(job.config.size, most) {
            return Err(Error::parameter(field, side, expected));
        }
        check_enlarged(pipeline, job, most)?;
        let begun = Instant::now();
        let parts = 1 + usize::from(job.config.hires.is_some()) + job.config.details.len();
        let mut request = job.request(pipeline, nets)?.cancel(token).on_preview(1, |preview| {
            if begun.elapsed() > limit {
                let longer = "ask for fewer steps; the program's option --time-limit allows more time";
                return Err(Error::custom(format!("the run took longer than {} s; {longer}", limit.as_secs())));
            }
            tell(preview, parts)
        });
        if !colorizes {
            request = request.guide(Daam::words());
        }
        request.run()
    }
}

/// Checks that a second run makes no larger picture than a side of `most` pixels.
fn check_enlarged(pipeline: &Pipeline, job: &Job, most: u32) -> Result<()> {
    let defaults = pipeline.model().defaults();
    let size = job.config.size.unwrap_or(Size::new(defaults.width, defaults.height));
    let longest = f64::from(size.width.max(size.height));
    let Some(hires) = job.config.hires.as_ref().filter(|hires| longest * hires.scale > f64::from(most)) else {
        return Ok(());
    };
    // Rounded down, so that the named scale is allowed. A scale of 1 enlarges nothing.
    let scale = (100.0 * f64::from(most) / longest).floor() / 100.0;
    let expected = if scale > 1.0 {
        format!("at most {scale:.2}, so that no side is longer than {most} pixels")
    } else {
        format!(
            "none for {size} pixels, because no side may be longer than {most}; the program's option --side allows \
             longer ones"
        )
    };
    Err(Error::parameter("hires.scale", hires.scale, expected))
}

impl Loaded {
    fn new(engine: Engine, is_live: bool) -> Result<Self> {
        let engine = engine.with_drawing()?;
        let live = if is_live { live(engine.pipeline.model())? } else { None };
        Ok(Self { engine, live })
    }

    fn describe(&self, options: &Options, started: u64) -> Result<Described> {
        Described::of(&self.engine, self.live.as_ref(), options, started)
    }
}

/// Returns the pipeline that paints live views in place of `model`: a model of the same pictures in a few steps. `None`
/// for any model but the embedded one, which alone has such a twin.
fn live(model: &Model) -> Result<Option<Pipeline>> {
    if !is_embedded(model) || Model::load(&Source::embedded())?.identity()? != model.identity()? {
        return Ok(None);
    }
    Pipeline::builder().source(Source::embedded_fast()).build().map(Some)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    /// A folder of a model and a VAE, which counts the models that were loaded.
    #[derive(Default)]
    struct Folder {
        loads: AtomicUsize,
    }

    impl Models for Folder {
        fn names(&self) -> Vec<String> {
            ["first", "vae"].map(String::from).into()
        }

        fn check(&self, name: &str) -> Result<()> {
            if name == "vae" { Err(Error::custom("the file is a VAE")) } else { Ok(()) }
        }

        fn load(&self, _: &str) -> Result<Engine> {
            self.loads.fetch_add(1, Ordering::Relaxed);
            Pipeline::builder().build().map(Engine::from)
        }
    }

    #[test]
    fn file_that_is_no_model_leaves_the_loaded_one() {
        let folder = Arc::new(Folder::default());
        let models: Arc<dyn Models> = Arc::<Folder>::clone(&folder);
        let engine = Engine::from(Pipeline::builder().build().unwrap()).with_models("first", models);
        let mut painter = Painter::new(engine, false, &Options::default()).unwrap();
        let error = painter.choose(Some("vae")).unwrap_err().to_string();
        assert_eq!((error.as_str(), folder.loads.load(Ordering::Relaxed)), ("the file is a VAE", 0));
        assert!(painter.loaded.is_some());
        assert_eq!(painter.chosen().as_deref(), Some("first"));
    }

    #[test]
    fn run_beyond_its_time_names_the_time_limit() {
        let options = Options { run: Duration::ZERO, ..Options::default() };
        let pipeline = Pipeline::builder().build().unwrap();
        let mut painter = Painter::new(pipeline.into(), false, &options).unwrap();
        let job = json!({ "prompt": "a boat", "seed": 7, "steps": 2, "size": "64x64" });
        let request = JobRequest::read(job, &options).unwrap();
        let painted = painter.paint(&request, &CancelToken::new(), |_, _| Ok(()));
        let error = painted.map(drop).unwrap_err().to_string();
        assert!(error.contains("longer than 0 s; ask for fewer steps") && error.contains("--time-limit"), "{error}");
    }
}
