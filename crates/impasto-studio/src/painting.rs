//! [`Painter`]: the run of a request.

use crate::finished::Finished;
use crate::options::Options;
use crate::queue::{Event, Queue};
use crate::request::JobRequest;
use impasto::job::{Job, Nets};
use impasto::saliency::Daam;
use impasto::sampler::CancelToken;
use impasto::{Error, Model, Pipeline, Result, Size, Source};
use std::time::Instant;

/// A pipeline, and the ControlNet that follows line art and strokes on its model.
pub struct Painter {
    pipeline: Pipeline,
    nets: Nets,
}

impl Painter {
    pub fn new(pipeline: Pipeline) -> Result<Self> {
        let mut nets = Nets::default();
        if draws(pipeline.model()) {
            nets.insert(Nets::EMBEDDED, pipeline.model().controlnet(&Source::embedded())?);
        }
        Ok(Self { pipeline, nets })
    }

    /// Runs the request, and tells `queue` of each step of job `id`.
    pub fn paint(
        &mut self,
        id: u64,
        asked: &JobRequest,
        token: &CancelToken,
        options: &Options,
        queue: &Queue,
    ) -> Result<Finished> {
        let colorizes = self.pipeline.model().colorizes();
        let (job, limit) = (&asked.job, options.run);
        self.check_enlarged(job, options.side)?;
        let begun = Instant::now();
        let mut request = job.request(&self.pipeline, &self.nets)?.cancel(token).on_preview(1, |preview| {
            if begun.elapsed() > limit {
                let problem = format!("the run took longer than {} s; ask for fewer steps", limit.as_secs());
                return Err(Error::custom(problem));
            }
            queue.metrics.steps.add(1);
            if !queue.is_watched(id) {
                return Ok(());
            }
            let first = preview.pictures()?.into_iter().next();
            let picture = first.map(|picture| picture.data_url()).transpose()?.unwrap_or_default().into();
            let progress = preview.progress;
            let (part, done, total) = (progress.stage + 1, progress.done, progress.total);
            queue.tell(id, Event::Step { part, done, total, picture });
            Ok(())
        });
        if !colorizes {
            request = request.guide(Daam::words());
        }
        let output = request.run()?;
        Finished::of(id, asked, output)
    }

    /// Checks that a second run makes no larger picture than a side of `most` pixels.
    fn check_enlarged(&self, job: &Job, most: u32) -> Result<()> {
        let defaults = self.pipeline.model().defaults();
        let size = job.config.size.unwrap_or(Size::new(defaults.width, defaults.height));
        let longest = f64::from(size.width.max(size.height));
        match &job.config.hires {
            Some(hires) if longest * hires.scale > f64::from(most) => {
                let expected =
                    format!("at most {:.2}, so that no side is longer than {most} pixels", f64::from(most) / longest);
                Err(Error::parameter("hires.scale", hires.scale, expected))
            }
            _ => Ok(()),
        }
    }
}

/// Returns true if a ControlNet can follow line art and strokes on this model. The only such ControlNet is made for the
/// embedded model.
pub fn draws(model: &Model) -> bool {
    !model.colorizes() && model.identity().is_ok_and(|identity| identity.name == Source::embedded().to_string())
}
