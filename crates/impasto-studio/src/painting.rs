//! [`Painter`]: the run of a request.

use crate::engine::{Engine, is_embedded};
use crate::options::Options;
use crate::request::JobRequest;
use impasto::job::Job;
use impasto::pipeline::Preview;
use impasto::saliency::Daam;
use impasto::sampler::CancelToken;
use impasto::{Error, Model, Output, Pipeline, Result, Size, Source};
use std::time::Instant;

/// The pipelines of the studio, and the networks of both.
pub struct Painter {
    engine: Engine,
    /// Pipeline of live views, if it is another.
    live: Option<Pipeline>,
}

impl Painter {
    pub fn new(engine: Engine, live: Option<Pipeline>) -> Result<Self> {
        Ok(Self { engine: engine.with_drawing()?, live })
    }

    /// Runs the request, and calls `tell` after each step, with the number of the job's parts.
    pub fn paint(
        &mut self,
        asked: &JobRequest,
        token: &CancelToken,
        options: &Options,
        mut tell: impl FnMut(&Preview<'_>, usize) -> Result<()>,
    ) -> Result<Output> {
        let Engine { pipeline, nets } = &self.engine;
        let pipeline = self.live.as_ref().filter(|_| asked.live.is_some()).unwrap_or(pipeline);
        let colorizes = pipeline.model().colorizes();
        let (job, limit) = (&asked.job, options.run);
        check_enlarged(pipeline, job, options.side)?;
        let begun = Instant::now();
        let parts = 1 + usize::from(job.config.hires.is_some()) + job.config.details.len();
        let mut request = job.request(pipeline, nets)?.cancel(token).on_preview(1, |preview| {
            if begun.elapsed() > limit {
                let problem = format!("the run took longer than {} s; ask for fewer steps", limit.as_secs());
                return Err(Error::custom(problem));
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
    match &job.config.hires {
        Some(hires) if longest * hires.scale > f64::from(most) => {
            let expected =
                format!("at most {:.2}, so that no side is longer than {most} pixels", f64::from(most) / longest);
            Err(Error::parameter("hires.scale", hires.scale, expected))
        }
        _ => Ok(()),
    }
}

/// Returns the pipeline that paints live views in place of `model`: a model of the same pictures in a few steps. `None`
/// for any model but the embedded one, which alone has such a twin.
pub fn live(model: &Model) -> Result<Option<Pipeline>> {
    if !is_embedded(model) || Model::load(&Source::embedded())?.identity()? != model.identity()? {
        return Ok(None);
    }
    Pipeline::builder().source(Source::embedded_fast()).build().map(Some)
}
