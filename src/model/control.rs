//! [`Control`]: a ControlNet or T2I adapter with its hint.

use super::control_network::ControlNetwork;
use crate::error::{Error, Result};
use crate::hint::Drawing;
use crate::nn::ControlNetConfig;
use crate::nn::guess::Guess;
use crate::nn::union::ControlType;
use crate::raster::{Filter, Raster};
use crate::recipe::Recipe;
use crate::size::Size;
use crate::window::Window;
use crate::wording::Remedy;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::borrow::Cow;
use std::fmt;
use tch::{Device, Kind, Tensor};

/// A ControlNet or T2I adapter with its hint, scale and window. Setters cannot fail;
/// [`Controlled::new`](super::Controlled::new) reports invalid values.
///
/// ```no_run
/// # fn main() -> impasto::Result<()> {
/// use impasto::{Control, Pipeline, Raster, Source, Window};
///
/// let pipeline = Pipeline::builder().source(Source::file("sd15.safetensors")).build()?;
/// let canny = pipeline.model().controlnet(&Source::dir("sd-controlnet-canny"))?;
/// let edges = Raster::open("edges.png")?; // white lines on black, as this ControlNet was trained on
/// let control = Control::picture(&canny, &edges).scale(0.9).window(Window::progress(0.0..=0.8));
/// let output = pipeline.request("a fox in a garden").size((512, 512)).control(control).run()?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Control<'c> {
    pub(super) net: ControlNetwork<'c>,
    hint: Hint<'c>,
    pub(super) scale: f64,
    pub(super) window: Window,
    pub(super) guess: Option<Guess>,
    straight: bool,
    /// Type of the hint, for a ControlNet union.
    pub(super) control_type: Option<ControlType>,
    /// Controls whose hints the network reads beside its own.
    pub(super) others: Vec<Self>,
}

/// Formats the settings needed to use the control again.
impl fmt::Display for Control<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { net, scale, window, .. } = self;
        write!(f, "a {} with scale {scale} in the window {window}", net.name())
    }
}

/// The hint of a network.
#[derive(Clone, Debug)]
enum Hint<'c> {
    Tensor(&'c Tensor),
    Picture(Cow<'c, Raster>),
    Drawing(Cow<'c, Drawing>),
}

/// A control as stored in a file, without its net.
#[derive(Serialize, Deserialize)]
struct StoredControl<'c> {
    hint: StoredHint<'c>,
    scale: f64,
    window: Window,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    guess: Option<Guess>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    straight: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    control_type: Option<ControlType>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    others: Vec<StoredControl<'c>>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoredHint<'c> {
    Picture(Cow<'c, Raster>),
    Drawing(Cow<'c, Drawing>),
}

impl<'c> Control<'c> {
    /// Creates a control with a tensor as the hint, [1 or n, channels, H, W] of the picture's size, with values in
    /// 0..=1 and as many channels as `net` reads. One row applies to every image; n rows give each image its own hint.
    pub fn new(net: impl Into<ControlNetwork<'c>>, hint: &'c Tensor) -> Self {
        Self::of(net.into(), Hint::Tensor(hint))
    }

    /// Creates a control with a picture as the hint, for a `net` of three channels, or of one channel, which reads the
    /// picture in gray. A request resizes the picture. With [`Controlled::new`](super::Controlled::new), the picture
    /// must have the output's size.
    pub fn picture(net: impl Into<ControlNetwork<'c>>, picture: impl Into<Cow<'c, Raster>>) -> Self {
        Self::of(net.into(), Hint::Picture(picture.into()))
    }

    /// Creates a control with lines and strokes of color as the hint, for a `net` of five channels. A request resizes
    /// both to the picture's size.
    ///
    /// ```no_run
    /// # fn main() -> impasto::Result<()> {
    /// use impasto::hint::{Drawing, Sketch, Strokes};
    /// use impasto::{Control, Pipeline, Raster, Source};
    ///
    /// let pipeline = Pipeline::builder().source(Source::file("sd15.safetensors")).build()?;
    /// let coloring = pipeline.model().controlnet(&Source::dir("color-controlnet"))?;
    /// let sketch = Sketch::of_line_art(&Raster::open("lines.png")?)?;
    /// let drawing = Drawing { sketch, strokes: Strokes::open("strokes.png")? };
    /// let control = Control::drawing(&coloring, &drawing);
    /// let output = pipeline.request("a fox in a garden").size((512, 512)).control(control).run()?;
    /// # Ok(()) }
    /// ```
    pub fn drawing(net: impl Into<ControlNetwork<'c>>, drawing: impl Into<Cow<'c, Drawing>>) -> Self {
        Self::of(net.into(), Hint::Drawing(drawing.into()))
    }

    const fn of(net: ControlNetwork<'c>, hint: Hint<'c>) -> Self {
        let (scale, guess) = match net {
            ControlNetwork::ControlNet(net) => {
                let ControlNetConfig { conditioning_scale, guess_mode, .. } = *net.config();
                (conditioning_scale, guess_mode)
            }
            ControlNetwork::T2iAdapter(_) => (1.0, None),
        };
        Self { net, hint, scale, window: Window::WHOLE, guess, straight: false, control_type: None, others: Vec::new() }
    }

    /// Sets the factor of all that the network adds. Usual values are 0.5 to 1; 0 skips the network. The default is the
    /// network's own ([`ControlNetConfig::conditioning_scale`]): 1, and 0.7 for the embedded net. The default of a T2I
    /// adapter is 1.
    pub const fn scale(mut self, scale: f64) -> Self {
        self.scale = scale;
        self
    }

    /// Sets guess mode; `None` disables it. A net that averages its residuals
    /// ([`ControlNetConfig::global_pool_conditions`]) always skips `Uncond`, and its residuals keep full weight. The
    /// default is the net's own ([`ControlNetConfig::guess_mode`]): `None`, and [`Guess::Even`] for the embedded net.
    /// In the other modes a prompt is hardly needed, and a guidance scale of 3 to 5 is usual. T2I adapters have no
    /// guess mode.
    pub fn guess(mut self, guess: impl Into<Option<Guess>>) -> Self {
        self.guess = guess.into();
        self
    }

    /// Sets the type of the hint, which a ControlNet union needs and other networks do not have.
    ///
    /// ```no_run
    /// # fn main() -> impasto::Result<()> {
    /// use impasto::model::ControlType;
    /// use impasto::{Control, Pipeline, Raster, Source};
    ///
    /// let pipeline = Pipeline::builder().source(Source::file("sdxl.safetensors")).build()?;
    /// let union = pipeline.model().controlnet(&Source::dir("controlnet-union-sdxl-1.0"))?;
    /// let (depth, pose) = (Raster::open("depth.png")?, Raster::open("pose.png")?);
    /// let depth = Control::picture(&union, &depth).control_type(ControlType::Depth);
    /// let pose = Control::picture(&union, &pose).control_type(ControlType::Pose).scale(0.6);
    /// let output = pipeline.request("a dancer in a garden").control(depth.and(pose)).run()?;
    /// # Ok(()) }
    /// ```
    pub const fn control_type(mut self, control_type: ControlType) -> Self {
        self.control_type = Some(control_type);
        self
    }

    /// Adds the hint of another control of the same ControlNet union, with its type and scale. The net then runs once
    /// for all hints. Window and guess mode are those of this control. Beside other hints, a scale is the factor of the
    /// hint and not of the residuals.
    pub fn and(mut self, mut other: Self) -> Self {
        let others = std::mem::take(&mut other.others);
        self.others.push(other);
        self.others.extend(others);
        self
    }

    /// Limits the network to a window of the run; outside, the network has no effect, and a ControlNet is not
    /// evaluated. Default: the whole run.
    pub const fn window(mut self, window: Window) -> Self {
        self.window = window;
        self
    }

    /// Passes the strokes of a [drawing](Self::drawing) with straight alpha, for a net that was trained with it. By
    /// default, stroke colors are multiplied by alpha, as they are in blurred strokes.
    pub const fn straight_alpha(mut self) -> Self {
        self.straight = true;
        self
    }

    /// Returns the name of the hint in messages.
    pub(super) const fn what(&self) -> &'static str {
        match self.net {
            ControlNetwork::ControlNet(_) => "the ControlNet's hint",
            ControlNetwork::T2iAdapter(_) => "the T2I adapter's hint",
        }
    }

    /// Returns the hints as pictures for reports, without those that are tensors.
    pub(crate) fn shown(&self) -> Result<Vec<Raster>> {
        let picture = |control: &Self| match &control.hint {
            Hint::Tensor(_) => Ok(None),
            Hint::Picture(picture) => Ok(Some(picture.clone().into_owned())),
            Hint::Drawing(drawing) => drawing.raster().map(Some),
        };
        self.each().filter_map(|control| picture(control).transpose()).collect()
    }

    /// Returns this control and the controls whose hints the network reads with it.
    pub(super) fn each(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(&self.others)
    }

    /// Returns the name of the kind of network, for reports.
    pub(crate) const fn network(&self) -> &'static str {
        self.net.name()
    }

    /// Returns scale, window and guess mode, for reports.
    pub(crate) fn figures(&self) -> Value {
        let mut figures = json!({ "scale": self.scale, "window": self.window, "guess": self.guess });
        if let (Some(control_type), Some(figures)) = (self.control_type, figures.as_object_mut()) {
            figures.insert("control_type".into(), json!(control_type));
        }
        figures
    }

    /// Returns a recipe that recreates the control for a given net.
    ///
    /// # Errors
    /// [`Error::NotRepeatable`] for a hint that is a tensor.
    pub(crate) fn to_recipe(&self) -> Result<Recipe> {
        Recipe::of("Control", &self.to_stored()?)
    }

    fn to_stored(&self) -> Result<StoredControl<'_>> {
        let hint = match &self.hint {
            Hint::Tensor(_) => {
                return Err(Error::NotRepeatable { what: format!("{self} and a tensor as its hint") });
            }
            Hint::Picture(picture) => StoredHint::Picture(Cow::Borrowed(picture.as_ref())),
            Hint::Drawing(drawing) => StoredHint::Drawing(Cow::Borrowed(drawing.as_ref())),
        };
        let &Self { scale, window, guess, straight, control_type, .. } = self;
        let others = self.others.iter().map(Self::to_stored).collect::<Result<_>>()?;
        Ok(StoredControl { hint, scale, window, guess, straight, control_type, others })
    }

    /// Creates the control of a recipe, with `net`.
    ///
    /// # Errors
    /// [`Error::Malformed`] if the recipe is not that of a control.
    pub(crate) fn from_recipe(net: ControlNetwork<'c>, recipe: Recipe) -> Result<Self> {
        Ok(Self::from_stored(net, recipe.into_read::<StoredControl<'static>>()?))
    }

    fn from_stored(net: ControlNetwork<'c>, stored: StoredControl<'static>) -> Self {
        let StoredControl { hint, scale, window, guess, straight, control_type, others } = stored;
        let hint = match hint {
            StoredHint::Picture(picture) => Hint::Picture(picture),
            StoredHint::Drawing(drawing) => Hint::Drawing(drawing),
        };
        let others = others.into_iter().map(|other| Self::from_stored(net, other)).collect();
        Self { net, hint, scale, window, guess, straight, control_type, others }
    }

    /// Returns a note about pictures and drawings that are resized to `size`; `None` if there are none.
    pub(crate) fn resized(&self, size: Size) -> Option<String> {
        let net = self.net.name();
        let own = self.each().flat_map(|control| match &control.hint {
            Hint::Tensor(_) => Vec::new(),
            Hint::Picture(picture) => vec![("picture", picture.size())],
            Hint::Drawing(drawing) => {
                vec![("sketch", drawing.sketch.size()), ("layer of strokes", drawing.strokes.layer().size())]
            }
        });
        let other: Vec<String> = own
            .filter(|(_, own)| *own != size)
            .map(|(what, own)| format!("the {net}'s {what} of {own} pixels is resized to the picture's {size} pixels"))
            .collect();
        (!other.is_empty()).then(|| other.join("; "))
    }

    /// Returns the hint as the network reads it, [1 or n, channels, H, W], after checking it. Pictures are resized to
    /// `size` if given.
    pub(super) fn hint(&self, size: Option<Size>) -> Result<Tensor> {
        let (channels, what) = (self.net.channels(), self.what());
        let hint = match (&self.hint, size) {
            (Hint::Tensor(hint), _) => hint.shallow_clone(),
            (Hint::Picture(picture), Some(size)) if picture.size() != size => {
                light(&picture.resize(size, Filter::Lanczos)?, channels)?
            }
            (Hint::Picture(picture), _) => light(picture, channels)?,
            (Hint::Drawing(drawing), size) => {
                let size = size.unwrap_or(drawing.sketch.size());
                if self.straight { drawing.straight_hint(size)? } else { drawing.hint(size)? }
            }
        };
        match (&self.hint, hint.size().as_slice()) {
            (Hint::Picture(_), _) if channels != 3 && channels != 1 => {
                let expected = Remedy::TensorHint.after("3, or 1 for gray, for a picture as the hint");
                return Err(Error::parameter("conditioning_channels", channels, expected));
            }
            (Hint::Drawing(_), _) if channels != 5 => {
                let expected = Remedy::PictureHint.after("5, for lines and strokes of color");
                return Err(Error::parameter("conditioning_channels", channels, expected));
            }
            (_, &[_, c, _, _]) if c == channels => {}
            (_, got) => {
                let expected = format!("[1 or n, {channels}, height, width] for n images");
                return Err(Error::Shape { what, got: got.to_vec(), expected });
            }
        }
        let hint = hint.f_to_kind(Kind::Float)?;
        let [least, most] = [hint.f_min()?, hint.f_max()?].map(|end| end.f_double_value(&[]));
        let (least, most) = (least?, most?);
        if least.is_nan() || most.is_nan() || least < -1e-3 || most > 1.0 + 1e-3 {
            let range = format!("a tensor of values in {least}..={most}");
            return Err(Error::parameter(what, range, "values in 0..=1; divide bytes by 255"));
        }
        Ok(hint)
    }
}

/// Converts a picture to a tensor in 0..=1 of three channels, or of one channel with the bytes of Pillow's gray.
fn light(picture: &Raster, channels: i64) -> Result<Tensor> {
    if channels != 1 {
        return Ok(picture.to_tensor(Device::Cpu)?.f_add_scalar(1.0)?.f_div_scalar(2.0)?);
    }
    // round(0.299·red + 0.587·green + 0.114·blue), in units of 2⁻¹⁶
    let gray = |[red, green, blue]: &[u8; 3]| {
        let sum = 19_595 * u32::from(*red) + 38_470 * u32::from(*green) + 7_471 * u32::from(*blue) + 0x8000;
        (sum >> 16) as f32 / 255.0
    };
    let values: Vec<f32> = picture.bytes().as_chunks().0.iter().map(gray).collect();
    let Size { width, height } = picture.size();
    Ok(Tensor::f_from_slice(&values)?.f_reshape([1, 1, height.into(), width.into()])?)
}
