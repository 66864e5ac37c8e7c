//! The request for the pictures of a [`Job`].

use super::nets::Nets;
use super::{Area, Follow, Force, Image, Job, Like, PaletteColor, SameColor};
use crate::color::Rgb;
use crate::conditioning::Codec;
use crate::diffusion::Denoiser;
use crate::error::{Error, Result};
use crate::guidance::Guidance;
use crate::hint::{Drawing, Sketch, Strokes};
use crate::mask::Region;
use crate::methods::ip_adapter::ImagePrompt;
use crate::methods::{ColorForce, Colorize, IpAdapter, PaintWithWords, Palette, ReferenceColor};
use crate::model::Control;
use crate::pipeline::{Pipeline, Request};
use crate::raster::{Layer, Raster};
use crate::reference::SketchColorizer;
use crate::size::Size;
use crate::wording::Remedy;
use ndarray::Array2;

/// Default share of a run that changes the picture to start from.
const STRENGTH: f64 = 0.6;
/// Number of colors that are taken from a picture.
const SWATCHES: usize = 6;
/// Number of hint channels of a ControlNet for lines and strokes.
const DRAWING: i64 = 5;
/// Least brightness of a white pixel of a mask, 0..=255.
const WHITE: u8 = 128;

impl Job {
    /// Opens the pictures that are given by path. The job holds the pictures themselves from then on, so that several
    /// requests read each file once.
    ///
    /// # Errors
    /// The errors of [`Raster::open`].
    pub fn open(&mut self) -> Result<()> {
        let pictures = [&mut self.map, &mut self.start, &mut self.line_art, &mut self.reference, &mut self.palette_of];
        for picture in pictures.into_iter().flatten() {
            *picture = picture.open()?.into_owned().into();
        }
        let likes = self.ip_adapter_pictures.iter_mut();
        let (pictures, masks): (Vec<_>, Vec<_>) = likes.map(|like| (&mut like.picture, like.mask.as_mut())).unzip();
        for picture in pictures {
            *picture = picture.open()?.into_owned().into();
        }
        let masks = masks.into_iter().flatten().chain(self.areas.iter_mut().filter_map(|area| area.mask.as_mut()));
        for mask in self.mask.iter_mut().chain(masks) {
            *mask = mask.open()?.into_owned().into();
        }
        if let Some(strokes) = &mut self.strokes {
            *strokes = open_strokes(strokes)?.layer().clone().into();
        }
        for follow in &mut self.controls {
            follow.picture = follow.picture.open()?.into_owned().into();
        }
        Ok(())
    }

    /// Returns the request for the job's pictures. `nets` has the ControlNets that the job names, and the IP-Adapter
    /// for its pictures to draw like.
    ///
    /// # Errors
    /// The errors of [`check`](Self::check) and [`open`](Self::open); [`Error::Parameter`] for a ControlNet or an
    /// IP-Adapter that `nets` lacks, and for pictures that the model cannot follow; [`Error::NotRepeatable`] for a
    /// recipe that the pipeline's registry does not know.
    pub fn request<'p, M>(&self, pipeline: &'p Pipeline<M>, nets: &'p Nets) -> Result<Request<'p>>
    where
        M: Denoiser + Codec,
    {
        self.check()?;
        let methods = self.guidances.iter().map(|recipe| pipeline.registry.make::<dyn Guidance>(recipe.clone()));
        let methods = methods.collect::<Result<Vec<_>>>()?;
        let codec: &dyn Codec = pipeline.model();
        let colorizes = codec.capability::<dyn SketchColorizer>().is_some();
        let defaults = pipeline.view().defaults();
        let size = self.config.size.unwrap_or(Size::new(defaults.width, defaults.height));
        let mut request = pipeline.request("").tune(|config| config.clone_from(&self.config));
        let scale = self.config.guidance_scale.unwrap_or(defaults.guidance_scale);
        for guider in &self.guiders {
            request = guider.guide(request, scale);
        }
        if let Some(palette) = self.palette()? {
            request = request.guide(palette); // before the forces, which correct the finished latent after it
        }
        for Force { phrase, color } in &self.forces {
            request = request.guide(ColorForce::exact(phrase, *color));
        }
        for SameColor { phrase, thing } in &self.same_color {
            request = request.guide(ColorForce::same_as(phrase, thing));
        }
        if let Some(paint) = self.paint()? {
            request = request.guide(paint);
        }
        if let Some(like) = self.like(nets)? {
            request = request.guide(like);
        }
        if let Some(start) = &self.start {
            request = request.start(start.open()?.into_owned(), self.strength.unwrap_or(STRENGTH.into()));
        }
        if let Some(mask) = &self.mask {
            request = request.mask(mask.open()?.mask());
        }
        for control in self.controls(nets, colorizes, size)? {
            request = request.control(control);
        }
        request = match (&self.line_art, &self.reference) {
            (Some(sketch), Some(reference)) if colorizes => {
                request.guide(Colorize::new(&*sketch.open()?, &*reference.open()?))
            }
            (Some(sketch), None) if colorizes => request.guide(Colorize::freely(&*sketch.open()?)),
            (None, _) if colorizes => {
                let expected = Remedy::Sketch.after("dark lines on white paper, because this model colors line art");
                return Err(Error::parameter("line_art", "missing", expected));
            }
            (_, Some(reference)) => request.guide(ReferenceColor::new(&*reference.open()?)),
            (_, None) => request,
        };
        if let Some(strokes) = self.strokes.as_ref().filter(|_| self.exact_strokes) {
            for force in ColorForce::painted(&open_strokes(strokes)?)? {
                request = request.guide(force);
            }
        }
        Ok(methods.into_iter().fold(request, Request::guide))
    }

    /// Returns true if the job has line art or strokes that the embedded ControlNet follows, on a model that colors
    /// sketches itself or not.
    pub(super) const fn needs_embedded_net(&self, colorizes: bool) -> bool {
        let drawn =
            self.line_art.is_some() || self.strokes.is_some() && !self.exact_strokes && self.controls.is_empty();
        drawn && !colorizes
    }

    /// Returns the error for line art or strokes that no ControlNet of the model follows.
    pub(super) fn no_net_for_drawing(&self) -> Error {
        let (field, expected) = match &self.line_art {
            Some(_) => ("line_art", "no line art, because this model has no ControlNet that follows it"),
            None => ("strokes", "exact strokes, because this model has no ControlNet that follows strokes"),
        };
        Error::parameter(field, "given", expected)
    }

    /// Returns the palette of the whole picture; `None` if there is none.
    fn palette(&self) -> Result<Option<Palette>> {
        if let Some(picture) = &self.palette_of {
            return Palette::of(&*picture.open()?, SWATCHES).map(Some);
        }
        let swatches = self.palette.iter().map(|PaletteColor { color, share }| (*color, *share));
        Ok((!self.palette.is_empty()).then(|| Palette::new(swatches)))
    }

    /// Returns the painted areas; `None` if there are none.
    fn paint(&self) -> Result<Option<PaintWithWords>> {
        if self.areas.is_empty() {
            return Ok(None);
        }
        let mut paint = match &self.map {
            Some(map) => PaintWithWords::new(&*map.open()?)
                .tune(|options| options.tolerance = self.tolerance.unwrap_or_default()),
            None => PaintWithWords::default(),
        };
        for Area { phrase, color, mask, strength } in &self.areas {
            paint = match (color, mask) {
                (Some(color), _) => paint.color(*color, phrase, *strength),
                (None, Some(mask)) => paint.mask(white(&mask.open()?.mask()), phrase, *strength),
                (None, None) => paint, // refused by the checks
            };
        }
        Ok(Some(paint))
    }

    /// Returns the pictures that the run draws like; `None` if there are none.
    fn like(&self, nets: &Nets) -> Result<Option<IpAdapter>> {
        if self.ip_adapter_pictures.is_empty() {
            return Ok(None);
        }
        let net = nets.ip_adapter()?;
        let mut pictures = Vec::with_capacity(self.ip_adapter_pictures.len());
        for Like { picture, phrase, mask, strength } in &self.ip_adapter_pictures {
            let prompt = ImagePrompt::new(&*picture.open()?).strength(*strength);
            pictures.push(match (phrase, mask) {
                (Some(phrase), _) => prompt.on(phrase),
                (None, Some(mask)) => prompt.within(white(&mask.open()?.mask())),
                (None, None) => prompt,
            });
        }
        let like = IpAdapter::pictures(net, pictures);
        Ok(Some(self.ip_adapter_strength.into_iter().fold(like, IpAdapter::strength)))
    }

    /// Returns the controls of the job. Line art and strokes of their own are followed by the embedded ControlNet.
    fn controls<'p>(&self, nets: &'p Nets, colorizes: bool, size: Size) -> Result<Vec<Control<'p>>> {
        let mut controls = Vec::new();
        for Follow { net: name, picture, scale, window, control_type, guess } in &self.controls {
            let (net, picture) = (nets.get(name)?, picture.open()?.into_owned());
            let mut control = if net.channels() == DRAWING {
                Control::drawing(net, self.drawing(name, &picture)?)
            } else {
                Control::picture(net, picture)
            };
            if let Some(scale) = scale {
                control = control.scale(*scale);
            }
            if let Some(window) = window {
                control = control.window(*window);
            }
            if let Some(control_type) = control_type {
                control = control.control_type(*control_type);
            }
            controls.push(if guess.is_some() { control.guess(*guess) } else { control });
        }
        if self.needs_embedded_net(colorizes) {
            let net = nets.get(Nets::EMBEDDED).map_err(|_| self.no_net_for_drawing())?;
            let drawing = match &self.line_art {
                Some(lines) => self.drawing(Nets::EMBEDDED, &*lines.open()?)?,
                None => Drawing { sketch: Sketch::blank(size), strokes: self.strokes(size)? },
            };
            controls.push(Control::drawing(net, drawing));
        }
        Ok(controls)
    }

    /// Returns the drawing of some lines and the job's strokes, for the ControlNet with a name.
    fn drawing(&self, net: &str, lines: &Raster) -> Result<Drawing> {
        // The embedded net was trained on the edges of pictures, so line art is converted to edges too.
        let sketch = if net == Nets::EMBEDDED { Sketch::of_edges(lines)? } else { Sketch::of_line_art(lines)? };
        Ok(Drawing { sketch, strokes: self.strokes(lines.size())? })
    }

    /// Returns the job's strokes, or none on a layer of `size`.
    fn strokes(&self, size: Size) -> Result<Strokes> {
        self.strokes.as_ref().map_or_else(|| Ok(Strokes::new(size)), open_strokes)
    }
}

/// Returns strokes. Those of a file have to be on a transparent ground; a layer that was painted may be covered.
fn open_strokes(strokes: &Image<Layer>) -> Result<Strokes> {
    match strokes {
        Image::Path(path) => Strokes::open(path),
        Image::Value(layer) => Ok(Strokes::of(layer.clone())),
    }
}

/// Returns the region of a mask's white pixels.
fn white(mask: &Raster) -> Region {
    let Size { width, height } = mask.size();
    let is_white = |x: usize, y: usize| mask.pixel(x as u32, y as u32).is_some_and(|Rgb(_, green, _)| green >= WHITE);
    let share = |(y, x)| f32::from(u8::from(is_white(x, y)));
    Region::new(Array2::from_shape_fn((height as usize, width as usize), share))
}
