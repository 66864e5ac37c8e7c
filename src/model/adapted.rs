//! T2I adapters in a run: their features, and the check that an adapter belongs to a model.

use super::Model;
use super::control::Control;
use super::read_config::{check_report, read_config};
use super::rows::rows_of;
use crate::error::{Error, Result};
use crate::nn::ConfigFile;
use crate::nn::t2i_adapter::{T2iAdapter, T2iAdapterConfig};
use crate::size::Size;
use crate::step::Step;
use crate::weights::{Checkpoint, Source};
use crate::window::Window;
use std::ops::Range;
use tch::Tensor;

/// Name in errors of an adapter's hint.
const HINT: &str = "the T2I adapter's hint";

/// A [`Control`] of a T2I adapter with its features.
#[derive(Debug)]
pub(super) struct Adapting {
    /// Features times the scale, [1 or n, channels, h, w] each.
    features: Vec<Tensor>,
    acts: bool,
    window: Window,
}

impl Adapting {
    /// Computes the features of a control's hint. Rows are computed one by one, so that an image's features do not
    /// depend on its batch.
    pub(super) fn new(adapter: &T2iAdapter, control: &Control<'_>, size: Option<Size>) -> Result<Self> {
        if let Some(guess) = control.guess {
            let expected = "none; all branches share the features of a T2I adapter";
            return Err(Error::parameter("guess", format!("{guess:?}"), expected));
        }
        if control.control_type.is_some() || !control.others.is_empty() {
            let expected = "none; only the hints of a ControlNet union have types";
            return Err(Error::parameter("control_type", "given", expected));
        }
        let _no_grad = tch::no_grad_guard();
        let hint = control.hint(size)?;
        let rows = (0..hint.size4()?.0).map(|row| adapter.features(&hint.f_narrow(0, row, 1)?));
        let rows = rows.collect::<Result<Vec<_>>>()?;
        let level = |i: usize| -> Result<Tensor> {
            let each: Vec<&Tensor> = rows.iter().filter_map(|features| features.get(i)).collect();
            Ok(Tensor::f_cat(&each, 0)?.f_mul_scalar(control.scale)?)
        };
        let count = rows.first().map_or(0, Vec::len);
        let features = (0..count).map(level).collect::<Result<_>>()?;
        Ok(Self { features, acts: control.scale != 0.0, window: control.window })
    }
}

/// Returns the sums of the features of all adapters that act at this step, with a row for each of the `n` images, or
/// one for all; empty if none acts. `images` is the range of the images among the run's.
pub(super) fn features(all: &[Adapting], step: &Step, n: i64, images: Option<Range<i64>>) -> Result<Vec<Tensor>> {
    let mut sums: Vec<Tensor> = Vec::new();
    for adapting in all.iter().filter(|adapting| adapting.acts && adapting.window.contains(step)) {
        for (i, feature) in adapting.features.iter().enumerate() {
            let feature = match feature.size4()?.0 {
                1 => feature.shallow_clone(),
                _ => rows_of(feature, n, images.clone(), HINT)?,
            };
            match sums.get_mut(i) {
                Some(sum) => *sum = sum.f_add(&feature)?,
                None => sums.push(feature),
            }
        }
    }
    Ok(sums)
}

/// Checks that a T2I adapter belongs to a model. Errors name `file`.
pub(super) fn adapter_fits(config: &T2iAdapterConfig, model: &Model, file: &str) -> Result<()> {
    let factor = model.vae.config().factor();
    let levels = model.backbone.unet_for("t2i_adapter")?.config().levels()?;
    let count = levels.len();
    // A level without attention takes the feature after its downsampling.
    let taken = levels.iter().enumerate().map(|(i, level)| {
        let halvings = level.halvings + u32::from(!level.down_attends && i + 1 < count);
        (level.channels, factor << halvings)
    });
    let (own, wanted): (Vec<_>, Vec<_>) = (config.features(), taken.collect());
    if own.get(..count) == Some(&wanted) {
        return Ok(());
    }
    let expected = format!(
        "expected {wanted:?}, channels and pixels of the hint per cell for each level of the model; this T2I adapter is \
         for another model"
    );
    let (file, field, value) = (file.into(), "channels".into(), format!("{own:?}"));
    Err(Error::Config { file, field, value, expected: expected.into() })
}

impl Model {
    /// Loads a T2I adapter for this model, in the model's kind and on its device. The source is a diffusers folder, or
    /// a file in diffusers' or the original layout.
    ///
    /// ```no_run
    /// # fn main() -> impasto::Result<()> {
    /// use impasto::hint::color_palette;
    /// use impasto::{Control, Pipeline, Raster, Source};
    ///
    /// let pipeline = Pipeline::builder().source(Source::file("sd15.safetensors")).build()?;
    /// let colors = pipeline.model().t2i_adapter(&Source::file("t2iadapter_color_sd14v1.pth"))?;
    /// let sketch = pipeline.model().t2i_adapter(&Source::file("t2iadapter_sketch_sd14v1.pth"))?;
    /// let palette = color_palette(&Raster::open("sunset.png")?)?;
    /// let lines = Raster::open("lines.png")?; // white lines on black
    /// let output = pipeline
    ///     .request("a fox in a garden")
    ///     .size((512, 512))
    ///     .control(Control::picture(&colors, &palette).scale(0.8))
    ///     .control(Control::picture(&sketch, &lines))
    ///     .run()?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// The errors of [`Model::load`]; [`Error::Config`] if the adapter belongs to another model; [`Error::OtherKind`]
    /// for a file such as a ControlNet.
    pub fn t2i_adapter(&self, source: &Source) -> Result<T2iAdapter> {
        const PART: &str = "t2i_adapter";
        let _no_grad = tch::no_grad_guard();
        let checkpoint = Checkpoint::open_t2i_adapter(source)?;
        let config = read_config(&checkpoint, PART, T2iAdapterConfig::from_json)?;
        adapter_fits(&config, self, &checkpoint.name("t2i_adapter/config.json"))?;
        let w = checkpoint.weights(PART, self.kind, self.device)?.offload(self.offload);
        let adapter = T2iAdapter::new(&w, &config)?;
        check_report(w.report(), "a T2I adapter")?;
        Ok(adapter)
    }
}
