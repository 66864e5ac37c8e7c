//! [`Painter`]: the run of a request.

use crate::finished::Finished;
use crate::options::Options;
use crate::queue::{Event, Queue};
use crate::request::{Area, DetailRequest, JobRequest};
use impasto::hint::{Drawing, Sketch, Strokes};
use impasto::mask::Region;
use impasto::methods::{ColorForce, Colorize, PaintWithWords, ReferenceColor};
use impasto::nn::ControlNet;
use impasto::pipeline::{Detail, MaskWhere};
use impasto::raster::Layer;
use impasto::saliency::Daam;
use impasto::sampler::CancelToken;
use impasto::{Control, Error, Model, Pipeline, Raster, Result, Size, Source};
use std::time::Instant;

/// A pipeline, and the ControlNet that follows line art and strokes on its model.
pub struct Painter {
    pipeline: Pipeline,
    net: Option<ControlNet>,
}

/// Least brightness of a white pixel of a mask, 0..=255.
const WHITE: u8 = 128;

impl Painter {
    pub fn new(pipeline: Pipeline) -> Result<Self> {
        let net = if draws(pipeline.model()) { Some(pipeline.model().controlnet(&Source::embedded())?) } else { None };
        Ok(Self { pipeline, net })
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
        let (size, limit) = (asked.width.zip(asked.height).map(Size::from), options.run);
        self.check_enlarged(asked, size, options.side)?;
        let drawing = self.drawing(asked, size)?;
        let mut forces = match &asked.strokes {
            Some(strokes) if asked.exact_strokes => ColorForce::painted(&Strokes::of(strokes.clone()))?,
            _ => Vec::new(),
        };
        let mut words = Daam::words();
        let begun = Instant::now();
        let mut request = self
            .pipeline
            .request(&asked.prompt)
            .negative(&asked.negative)
            .images(asked.images)
            .cancel(token)
            .tune(|config| {
                config.seed = asked.seed;
                config.steps = asked.steps.unwrap_or(config.steps);
                config.solver_named.clone_from(&asked.sampler);
                config.guidance_scale = asked.guidance_scale;
                config.size = size;
                config.mask_where = asked.mask_where.as_ref().map(MaskWhere::new);
                (config.soften, config.feather) = (asked.soften, asked.feather);
                (config.keep_colors, config.seamless) = (asked.keep_colors, asked.seamless);
                config.details = asked.details.iter().map(detail).collect();
                config.hires.clone_from(&asked.hires);
            })
            .on_preview(1, |preview| {
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
            request = request.guide(&mut words);
        }
        if let (Some(net), Some(drawing)) = (&self.net, &drawing) {
            request = request.control(Control::drawing(net, drawing));
        }
        if !asked.areas.is_empty() {
            let areas = asked.areas.iter();
            request = request.guide(areas.fold(PaintWithWords::default(), |paint, Area { phrase, strength, mask }| {
                paint.mask(region(mask), phrase, *strength)
            }));
        }
        if let Some(start) = &asked.start {
            request = request.start(start, asked.strength);
        }
        if let Some(mask) = &asked.mask {
            request = request.mask(mask);
        }
        request = match (&asked.line_art, &asked.reference) {
            (Some(sketch), Some(reference)) if colorizes => request.guide(Colorize::new(sketch, reference)),
            (Some(sketch), None) if colorizes => request.guide(Colorize::freely(sketch)),
            (None, _) if colorizes => {
                let expected = "dark lines on white paper, because this model colors line art";
                return Err(Error::parameter("line_art", "missing", expected));
            }
            (_, Some(reference)) => request.guide(ReferenceColor::new(reference)),
            _ => request,
        };
        for force in &mut forces {
            request = request.guide(force);
        }
        let output = request.run()?;
        Finished::of(id, asked, output, (!colorizes).then_some(&words))
    }

    /// Checks that a second run makes no larger picture than a side of `most` pixels.
    fn check_enlarged(&self, asked: &JobRequest, size: Option<Size>, most: u32) -> Result<()> {
        let defaults = self.pipeline.model().defaults();
        let size = size.unwrap_or(Size::new(defaults.width, defaults.height));
        let longest = f64::from(size.width.max(size.height));
        match &asked.hires {
            Some(hires) if longest * hires.scale > f64::from(most) => {
                let expected =
                    format!("at most {:.2}, so that no side is longer than {most} pixels", f64::from(most) / longest);
                Err(Error::parameter("hires scale", hires.scale, expected))
            }
            _ => Ok(()),
        }
    }

    /// Returns the drawing that the ControlNet follows: the line art with all strokes, or the strokes alone if they are
    /// not exact; otherwise `None`.
    fn drawing(&self, asked: &JobRequest, size: Option<Size>) -> Result<Option<Drawing>> {
        let Some(_) = &self.net else {
            return match &asked.line_art {
                Some(_) if !self.pipeline.model().colorizes() => {
                    let expected = "no line art, because this model has no ControlNet that follows it";
                    Err(Error::parameter("line_art", "given", expected))
                }
                _ => Ok(None),
            };
        };
        let defaults = self.pipeline.model().defaults();
        let size = size.unwrap_or(Size::new(defaults.width, defaults.height));
        let strokes = |strokes: &Layer| Strokes::of(strokes.clone());
        Ok(match (&asked.line_art, &asked.strokes) {
            // The embedded net was trained on the edges of pictures, so line art is converted to edges too.
            (Some(lines), layer) => {
                let strokes = layer.as_ref().map_or_else(|| Strokes::new(lines.size()), strokes);
                Some(Drawing { sketch: Sketch::of_edges(lines)?, strokes })
            }
            (None, Some(layer)) if !asked.exact_strokes => {
                Some(Drawing { sketch: Sketch::blank(size), strokes: strokes(layer) })
            }
            _ => None,
        })
    }
}

/// Returns the detail that a request asks for.
fn detail(asked: &DetailRequest) -> Detail {
    let usual = Detail::of(asked.phrase.as_str());
    Detail { prompt: asked.prompt.clone(), strength: asked.strength.unwrap_or(usual.strength), ..usual }
}

/// Returns true if a ControlNet can follow line art and strokes on this model. The only such ControlNet is made for the
/// embedded model.
pub fn draws(model: &Model) -> bool {
    !model.colorizes() && model.identity().is_ok_and(|identity| identity.name == Source::embedded().to_string())
}

/// Returns the region of a mask's white pixels.
fn region(mask: &Raster) -> Region {
    let [width, height] = [mask.size().width, mask.size().height].map(|side| side as usize);
    Region::new(impasto::ndarray::Array2::from_shape_fn((height, width), |(y, x)| {
        f32::from(u8::from(mask.pixel(x as u32, y as u32).is_some_and(|pixel| pixel.1 >= WHITE)))
    }))
}
