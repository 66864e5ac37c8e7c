//! The request for a picture of a painting.

use crate::failure::Failure;
use crate::painting::Painting;
use crate::pictures::{Nets, Pictures};
use crate::values::{Area, DetailOf, Edges, Enlarged, Force};
use impasto::Pipeline;
use impasto::methods::{ColorForce, Colorize, PaintWithWords, ReferenceColor};
use impasto::pipeline::{Hires, MaskWhere, Request, Seamless};

/// Default share of a run that changes the picture to start from.
const STRENGTH: f64 = 0.6;
impl Painting {
    /// Returns the request for the picture of `seed`.
    pub fn request<'p>(
        &self,
        pipeline: &'p mut Pipeline,
        pictures: &'p Pictures,
        nets: &'p Nets,
        seed: u64,
    ) -> Result<Request<'p>, Failure> {
        let colorizes = pipeline.model().colorizes();
        let mut request = pipeline.request(self.prompt.clone().unwrap_or_default()).tune(|config| {
            config.seed = Some(seed);
            config.negative = self.negative.clone().unwrap_or_default();
            config.solver_named = self.sampler.clone();
            config.guidance_scale = self.scale;
            config.size = self.size;
            config.steps = self.steps.unwrap_or(config.steps);
            config.best_of = self.seeds_each() as usize;
            config.feather = self.feather;
            config.keep_colors = self.keep_colors;
            config.soften = self.soften;
            config.mask_where = self.mask_where.as_ref().map(|phrase| {
                let usual = MaskWhere::new(phrase);
                MaskWhere { grow: self.grow.unwrap_or(usual.grow), ..usual }
            });
            config.details = self.detail.iter().map(DetailOf::detail).collect();
            config.hires = self.hires.map(|Enlarged { scale, strength }| Hires::new(scale, strength.unwrap_or(0.5)));
            config.seamless = self.seamless.map_or(Seamless::No, Edges::seamless);
        });
        for Force { phrase, color } in &self.force {
            request = request.guide(ColorForce::exact(phrase, *color));
        }
        if let Some(map) = &pictures.map {
            let paint = PaintWithWords::new(map).tune(|options| options.tolerance = self.tolerance.unwrap_or_default());
            request = request.guide(
                self.area
                    .iter()
                    .fold(paint, |paint, Area { color, phrase, strength }| paint.color(*color, phrase, *strength)),
            );
        }
        if let Some(start) = &pictures.start {
            request = request.start(start, self.strength.unwrap_or(STRENGTH));
        }
        if let Some(mask) = &pictures.mask {
            request = request.mask(mask);
        }
        for (hint, picture) in self.control.iter().zip(&pictures.hints) {
            let control = picture.control(nets.get(&hint.net)?);
            request = request.control(match hint.scale {
                Some(scale) => control.scale(scale),
                None => control,
            });
        }
        request = match (&pictures.sketch, &pictures.reference) {
            (Some(sketch), Some(reference)) if colorizes => request.guide(Colorize::new(sketch, reference)),
            (Some(sketch), None) if colorizes => request.guide(Colorize::freely(sketch)),
            (Some(_), _) => {
                let expected = "a model that colors sketches, such as --model embedded-colorizer; other models follow \
                                lines with --control";
                return Err(Failure::Message(format!("--sketch is given for this model; expected {expected}")));
            }
            (None, Some(_)) if colorizes => {
                return Err(Failure::Message("no sketch is given for this model; give one with --sketch".into()));
            }
            (None, Some(reference)) => request.guide(ReferenceColor::new(reference)),
            (None, None) => request,
        };
        Ok(request)
    }
}
