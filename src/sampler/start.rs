//! [`Start`]: the input that a run starts from, and the part of a picture that the run keeps.

use super::masked_content::MaskedContent;
use crate::diffusion::{Network, Noise, Schedule};
use crate::error::{Error, Result};
use crate::micro_conditioning::MicroConditioning;
use crate::prompt::PromptSyntax;
use crate::step::{Grid, Step};
use crate::wording::Remedy;
use tch::{Device, Kind, Tensor};

/// The prompt, the noise and the optional picture that a run starts from. Other fields are set after [`Start::new`]:
///
/// ```
/// use impasto::Grid;
/// use impasto::diffusion::Noise;
/// use impasto::sampler::Start;
///
/// let mut start = Start::new("a red boat", Grid::new(32, 32), Noise::seeded(7));
/// start.negative = "blurry";
/// start.images = 2;
/// ```
///
/// Text to image starts from noise alone. [`Origin::Picture`] is for image to image. Give the sampler the last steps of
/// a schedule ([`Schedule::last`]); the run then begins with the picture noised to the level of the first of these
/// steps. An additional [`mask`](Self::mask) is for inpainting. [`Origin::Unfinished`] continues from the latent of
/// another run.
#[derive(Clone, Debug)]
#[non_exhaustive]
#[must_use]
pub struct Start<'a> {
    /// Description of the pictures.
    pub prompt: &'a str,
    /// Prompt of a second text encoder (SDXL, SD 3); `None`: the same as `prompt`.
    pub second_prompt: Option<&'a str>,
    /// Prompt of a third text encoder (SD 3); `None`: the same as `prompt`.
    pub third_prompt: Option<&'a str>,
    /// Description of what the pictures should not show; empty by default.
    pub negative: &'a str,
    /// Negative prompt of a second text encoder; `None`: the same as `negative`.
    pub second_negative: Option<&'a str>,
    /// Negative prompt of a third text encoder; `None`: the same as `negative`.
    pub third_negative: Option<&'a str>,
    /// Syntax beyond weights of all prompts; [`PromptSyntax::Plain`] by default. Tags of LoRAs are plain text here,
    /// because a run cannot change its model; [`networks`](crate::prompt::networks) takes them out of a prompt.
    pub syntax: PromptSyntax,
    /// Steps of the first run, if this run is the second one of a picture: numbers in `[a:b:1.5]` count through both.
    pub first_steps: Option<usize>,
    /// Sizes, crop and score that SDXL receives beside the prompt. Models of other families ignore them.
    pub micro_conditioning: MicroConditioning,
    /// Sizes, crop and score that SDXL receives beside the negative prompt. `None`: those of the prompt, with a score
    /// of 2.5.
    pub negative_micro_conditioning: Option<MicroConditioning>,
    /// Size of the latent in cells.
    pub grid: Grid,
    /// Number of images, 1..=1024.
    pub images: usize,
    /// Number of first passes, 1..=1024, each over the noise of another image. The run finishes the pass with the best
    /// rating ([`GuidanceRun::outlook`](crate::guidance::GuidanceRun::outlook)). More than 1 requires one image, a
    /// method that wants a first pass, and noise with a seed for each image.
    pub best_of: usize,
    /// Noise of the run, and of the first latent.
    pub noise: Noise,
    /// Picture or latent that the run begins with; noise alone by default.
    pub origin: Origin<'a>,
    /// Mask, [1 or n, 1, H, W] of the picture's size in 0..=1: how much of each place is repainted. Each cell of the
    /// latent has the gray of its first pixel.
    ///
    /// - A cell of 0 keeps the picture.
    /// - A cell of 1 is repainted by all steps.
    /// - A cell of gray g between 0 and 1 is repainted by the last share g of the run's steps, and by one step at
    ///   least. Before these steps, the run puts the picture back into the cell, at the noise level of each step.
    ///
    /// Inpainting networks ([`Denoiser::inpaints`](crate::diffusion::Denoiser::inpaints)) receive the mask, as the
    /// places of .5 and more. With a whole noise schedule, the run begins with noise alone.
    ///
    /// Source of the gray values: Levin and Fried, "Differential Diffusion" (arXiv 2306.00950), at a strength of 1.
    /// With a part of the schedule, the share counts the steps of this part, as in ComfyUI.
    pub mask: Option<&'a Tensor>,
    /// Content under the mask at the beginning; the picture by default.
    pub masked_content: MaskedContent,
    /// Second noise, and the share of the way to it from the run's own noise, 0..=1. Small shares make variations of a
    /// picture. The interpolation follows a circle, image by image, so that the variance stays the same.
    pub variation: Option<(Noise, f64)>,
}

/// The picture or latent that a run begins with, in addition to its noise.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub enum Origin<'a> {
    /// Noise alone: text to image.
    #[default]
    Noise,
    /// A picture, [1 or n, 3, H, W] in -1..=1 of the grid's size in pixels. The picture's latent is drawn from the
    /// VAE's posterior, before any other noise.
    Picture(&'a Tensor),
    /// A clean latent, [1 or n, c, h, w] in sampler units, such as that of another run.
    Latent(&'a Tensor),
    /// The latent, [1 or n, c, h, w], of an earlier run that stopped at the noise level at which this run's schedule
    /// begins. Both models must have the same latents. The earlier run takes the first steps of a schedule
    /// ([`Schedule::until`]), this run the others ([`Schedule::after`]). The latent is variance-preserving, as
    /// [`Run::finish`](super::Run::finish) returns it. The start draws no noise.
    Unfinished(&'a Tensor),
}

/// Largest number of images, more than any real batch has. The limit keeps sizes from overflowing.
pub(super) const MOST_IMAGES: i64 = 1024;

/// Default micro-conditioning, as a constant that [`Start::new`] can use.
const NONE: MicroConditioning =
    MicroConditioning { original_size: None, crop: None, target_size: None, aesthetic_score: None };

impl<'a> Start<'a> {
    /// Creates a start of one image of `prompt` on a latent of `grid` cells, from `noise`.
    pub const fn new(prompt: &'a str, grid: Grid, noise: Noise) -> Self {
        Self {
            prompt,
            second_prompt: None,
            third_prompt: None,
            negative: "",
            second_negative: None,
            third_negative: None,
            syntax: PromptSyntax::Plain,
            first_steps: None,
            micro_conditioning: NONE,
            negative_micro_conditioning: None,
            grid,
            images: 1,
            best_of: 1,
            noise,
            origin: Origin::Noise,
            mask: None,
            masked_content: MaskedContent::Picture,
            variation: None,
        }
    }

    /// Checks the sizes that no later part of the run checks, and returns the number of images.
    pub(super) fn check(&self) -> Result<i64> {
        self.micro_conditioning.check()?;
        self.negative_micro_conditioning.iter().try_for_each(MicroConditioning::check)?;
        let images = match i64::try_from(self.images) {
            Ok(count) if (1..=MOST_IMAGES).contains(&count) => count,
            _ => return Err(Error::parameter("images", self.images, format!("1 to {MOST_IMAGES}"))),
        };
        let Grid { h, w } = self.grid;
        if h < 1 || w < 1 {
            return Err(Error::parameter("grid", format!("{h} × {w} cells"), "at least one row and one column"));
        }
        Ok(images)
    }

    /// Returns a start with every candidate as an image of one batch.
    pub(super) fn all_candidates(&self) -> Self {
        Self { images: self.images.max(self.best_of), ..self.clone() }
    }

    /// Returns a start with candidate `image` alone.
    pub(super) fn candidate(self, image: usize) -> Result<Self> {
        let variation = self.variation.map(|(noise, strength)| Ok::<_, Error>((noise.of_image(image)?, strength)));
        Ok(Self { noise: self.noise.of_image(image)?, variation: variation.transpose()?, ..self })
    }

    /// Draws the first latent, in diffusers' order: picture, noise, masked picture. Returns the noise generator in its
    /// later state. `edit` may edit the first noise.
    pub(super) fn begin(
        self,
        model: &dyn Network,
        schedule: &Schedule,
        images: i64,
        edit: impl FnOnce(&mut Tensor) -> Result<()>,
    ) -> Result<Begun> {
        let Self { grid, mut noise, origin, mask, masked_content, variation, .. } = self;
        let shape = [images, model.channels(), grid.h, grid.w];
        if let Origin::Unfinished(latent) = origin {
            if mask.is_some() || variation.is_some() {
                let expected =
                    "no mask and no variation, because a resumed run begins with the latent that it was given";
                return Err(Error::parameter("start", "an unfinished latent", expected));
            }
            let x = schedule.rescale_level(&given(latent, model, grid, images)?, 0.0, schedule.sigma_max())?;
            let concat = if model.inpaints() { Some(all_repainted(model, grid)?) } else { None };
            return Ok(Begun { x: x.f_expand(shape, false)?, kept: None, concat, noise });
        }
        let mask = mask.map(|mask| Mask::new(mask, grid, model, images)).transpose()?;
        if mask.is_some() && matches!(origin, Origin::Noise) {
            let expected = Remedy::Start.after("a picture to repaint");
            return Err(Error::parameter("mask", "given without a picture", expected));
        }
        let whole = schedule.steps().next().is_none_or(|first| first.before == 0);
        let afresh = mask.is_some() && whole;
        let clean = match origin {
            _ if afresh && model.inpaints() && !mask.as_ref().is_some_and(|mask| mask.is_soft) => None,
            Origin::Noise => None,
            Origin::Picture(picture) => Some(drawn(model, picture, grid, images, &mut noise)?),
            Origin::Latent(latent) | Origin::Unfinished(latent) => Some(given(latent, model, grid, images)?),
        };
        let mut drawn = noise.draw(&shape)?;
        if let Some((mut other, strength)) = variation {
            drawn = slerp(&drawn, &other.draw(&shape)?, strength)?;
        }
        edit(&mut drawn)?;
        let drawn = drawn.f_to_device(model.device())?;
        let x = match &clean {
            Some(clean) if !afresh => {
                let cells = mask.as_ref().map(|mask| &mask.cells);
                let found = cells.map(|cells| masked_content.put(clean, cells, &drawn)).transpose()?;
                found.as_ref().unwrap_or(clean).f_add(&drawn.f_mul_scalar(schedule.sigma_max())?)?
            }
            _ => drawn.f_mul_scalar(schedule.initial_scale())?,
        };
        let concat = match (model.inpaints(), &mask, origin) {
            (true, Some(mask), _) => Some(mask.beside(origin, model, grid, images, &mut noise)?),
            (true, None, _) => Some(all_repainted(model, grid)?),
            (false, Some(_), Origin::Picture(_)) if model.draws() => {
                // diffusers draws noise for the masked picture without using it, so the generator must advance here too
                let _ = noise.draw(&of_pictures(&noise, images, model.channels(), grid))?;
                None
            }
            _ => None,
        };
        let kept = mask.zip(clean).map(|(mask, latent)| Kept::new(latent, drawn, mask.cells, model.inpaints()));
        let kept = kept.transpose()?.flatten();
        Ok(Begun { x, kept, concat, noise })
    }
}

/// The result of [`Start::begin`].
pub(super) struct Begun {
    /// The first latent.
    pub(super) x: Tensor,
    pub(super) kept: Option<Kept>,
    /// Channels that the network sees beside every latent, [1 or n, 5, h, w].
    pub(super) concat: Option<Tensor>,
    pub(super) noise: Noise,
}

/// The part of a picture to keep.
pub(super) struct Kept {
    /// The clean latent, [1 or n, c, h, w].
    latent: Tensor,
    /// The first noise.
    noise: Tensor,
    /// Share of the run's steps that repaint each cell, [1 or n, 1, h, w] in 0..=1.
    gray: Tensor,
    /// Cells that the whole run keeps, [1 or n, 1, h, w] booleans.
    always: Tensor,
}

impl Kept {
    /// Returns the part of the picture `latent` to keep; `None` if the network does everything. A network that takes a
    /// mask keeps the cells of 0 by itself.
    fn new(latent: Tensor, noise: Tensor, gray: Tensor, inpaints: bool) -> Result<Option<Self>> {
        if !inpaints {
            let always = gray.f_le(0.0)?;
            return Ok(Some(Self { latent, noise, gray, always }));
        }
        let is_soft = gray.f_gt(0.0)?.f_logical_and(&gray.f_lt(1.0)?)?;
        if is_soft.f_any()?.f_int64_value(&[])? == 0 {
            return Ok(None);
        }
        let always = gray.f_zeros_like()?.f_to_kind(Kind::Bool)?;
        let gray = gray.f_where_self(&is_soft, &gray.f_ones_like()?)?;
        Ok(Some(Self { latent, noise, gray, always }))
    }

    /// Puts the kept part back into the latent after `step`, at the noise level that the latent has reached.
    pub(super) fn after(&self, step: &Step, x: &Tensor) -> Result<Tensor> {
        let known = if step.left() == 1 {
            self.latent.f_mul_scalar(step.process.size(step.to))? // finishing divides by √(1 + σ²) or 1 + σ
        } else {
            self.latent.f_add(&self.noise.f_mul_scalar(step.to)?)?
        };
        // A cell waits while 1 − g > i/n, where i of n steps are taken.
        let taken = (step.index + 1) as f64 / step.count.max(1) as f64;
        let waits = self.gray.f_neg()?.f_add_scalar(1.0)?.f_gt(taken)?;
        Ok(known.f_where_self(&waits.f_logical_or(&self.always)?, x)?)
    }

    /// Puts the cells that the whole run keeps back into the finished latent, bit for bit.
    pub(super) fn at_end(&self, x: &Tensor) -> Result<Tensor> {
        Ok(self.latent.f_where_self(&self.always, x)?)
    }
}

/// Returns a latent that the caller gave, [1 or n, c, h, w], on the model's device.
fn given(latent: &Tensor, model: &dyn Network, grid: Grid, images: i64) -> Result<Tensor> {
    has_size("the latent to start from", latent, model.channels(), (grid.h, grid.w), images)?;
    Ok(latent.f_to_device(model.device())?.f_to_kind(Kind::Float)?)
}

/// The area to repaint.
struct Mask {
    /// Pixels that an inpainting network repaints, [1 or n, 1, H, W] booleans.
    pixels: Tensor,
    /// The gray of each cell's first pixel, [1 or n, 1, h, w] in 0..=1 on the model's device.
    cells: Tensor,
    /// True if a cell is neither 0 nor 1.
    is_soft: bool,
}

impl Mask {
    fn new(mask: &Tensor, grid: Grid, model: &dyn Network, images: i64) -> Result<Self> {
        has_size("the mask", mask, 1, pixels(model, grid), images)?;
        let mask = mask.f_to_kind(Kind::Float)?;
        let (low, high) = (mask.f_min()?.f_double_value(&[])?, mask.f_max()?.f_double_value(&[])?);
        if !(0.0..=1.0).contains(&low) || !(0.0..=1.0).contains(&high) {
            return Err(Error::parameter("mask", format!("values from {low} to {high}"), "values in 0..=1"));
        }
        let cells = mask.f_upsample_nearest2d([grid.h, grid.w], None, None)?;
        let is_soft = cells.f_gt(0.0)?.f_logical_and(&cells.f_lt(1.0)?)?.f_any()?.f_int64_value(&[])? != 0;
        Ok(Self { pixels: mask.f_ge(0.5)?, cells: cells.f_to_device(model.device())?, is_soft })
    }

    /// Returns the extra channels of an inpainting network: the mask, and the latent of the kept area on gray.
    fn beside(
        &self,
        origin: Origin<'_>,
        model: &dyn Network,
        grid: Grid,
        images: i64,
        noise: &mut Noise,
    ) -> Result<Tensor> {
        let Origin::Picture(picture) = origin else {
            let expected = Remedy::Start.after("a picture, because this network reads the masked picture");
            return Err(Error::parameter("start", "a latent with a mask", expected));
        };
        let stays = self.pixels.f_logical_not()?.f_to_kind(Kind::Float)?.f_to_device(picture.device())?;
        let latent = drawn(model, &picture.f_mul(&stays)?, grid, images, noise)?;
        beside(&self.cells.f_ge(0.5)?.f_to_kind(Kind::Float)?, &latent)
    }
}

/// Returns the extra channels of an inpainting network without a mask: everything is repainted.
fn all_repainted(model: &dyn Network, grid: Grid) -> Result<Tensor> {
    let (height, width) = pixels(model, grid);
    let gray = model.encode(&Tensor::f_zeros([1, 3, height, width], (Kind::Float, Device::Cpu))?)?;
    beside(&Tensor::f_ones([1, 1, grid.h, grid.w], (Kind::Float, model.device()))?, &gray)
}

/// Joins a mask, [1 or n, 1, h, w], and a latent, [1 or n, c, h, w] → [n, 1 + c, h, w].
fn beside(mask: &Tensor, latent: &Tensor) -> Result<Tensor> {
    let images = mask.size4()?.0.max(latent.size4()?.0);
    let (mask, latent) = (mask.f_expand([images, -1, -1, -1], false)?, latent.f_expand([images, -1, -1, -1], false)?);
    Ok(Tensor::f_cat(&[mask, latent], 1)?)
}

/// Draws the latent of a picture from the VAE's posterior, if the codec draws.
fn drawn(model: &dyn Network, picture: &Tensor, grid: Grid, images: i64, noise: &mut Noise) -> Result<Tensor> {
    has_size("the picture to start from", picture, 3, pixels(model, grid), images)?;
    let (mean, std) = model.posterior(picture)?;
    if !model.draws() {
        return Ok(mean.f_to_device(model.device())?);
    }
    let channels = model.channels();
    let rows = of_pictures(noise, images, channels, grid);
    let shape = if picture.size4()?.0 > 1 { [images, channels, grid.h, grid.w] } else { rows };
    let noise = noise.draw(&shape)?.f_to_device(mean.device())?;
    Ok(mean.f_add(&std.f_mul(&noise)?)?.f_to_device(model.device())?)
}

/// Returns the shape of the noise for one picture that all images share. If each image has its own generator, the noise
/// has a row for each image.
fn of_pictures(noise: &Noise, images: i64, channels: i64, grid: Grid) -> [i64; 4] {
    [if noise.is_shared() { 1 } else { images }, channels, grid.h, grid.w]
}

/// Returns the grid's height and width in pixels.
fn pixels(codec: &dyn Network, grid: Grid) -> (i64, i64) {
    (grid.h * codec.cell(), grid.w * codec.cell())
}

/// Checks that a tensor is [1 or n, channels, h, w].
fn has_size(what: &'static str, tensor: &Tensor, channels: i64, size: (i64, i64), images: i64) -> Result<()> {
    let (height, width) = size;
    match *tensor.size() {
        [n, c, h, w] if (n == 1 || n == images) && c == channels && (h, w) == size => Ok(()),
        _ => {
            let expected = format!("[1 or {images}, {channels}, {height}, {width}]");
            Err(Error::Shape { what, got: tensor.size(), expected })
        }
    }
}

/// Interpolates from `a` to `b`, both [n, …], along the circle through them, image by image: sin((1 − s)·ω)/sin ω·a +
/// sin(s·ω)/sin ω·b. ω is the angle between them.
fn slerp(a: &Tensor, b: &Tensor, strength: f64) -> Result<Tensor> {
    if !(0.0..=1.0).contains(&strength) {
        return Err(Error::parameter("variation", strength, "0 (the seed) to 1 (the other seed)"));
    }
    let sum = |product: Tensor| product.f_sum_dim_intlist([1i64, 2, 3].as_slice(), true, Kind::Double);
    let length = |x: &Tensor| sum(x.f_mul(x)?)?.f_sqrt();
    let cosine = sum(a.f_mul(b)?)?.f_div(&length(a)?.f_mul(&length(b)?)?)?.f_clamp(-1.0, 1.0)?;
    let angle = cosine.f_acos()?;
    let sine = angle.f_sin()?;
    // Nearly parallel noise, such as noise of the same seed, defines no circle. Linear interpolation is as good there.
    let line = sine.f_lt(1e-4)?;
    let weight = |way: f64| -> Result<Tensor> {
        let bent = angle.f_mul_scalar(way)?.f_sin()?.f_div(&sine)?;
        Ok(sine.f_full_like(way)?.f_where_self(&line, &bent)?.f_to_kind(Kind::Float)?)
    };
    Ok(a.f_mul(&weight(1.0 - strength)?)?.f_add(&b.f_mul(&weight(strength)?)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slerp_keeps_ends_and_variance_of_noise() {
        let [a, b] = [1, 2].map(|seed| Noise::seeded(seed).draw(&[2, 4, 8, 8]).unwrap());
        let near = |x: &Tensor, y: &Tensor| x.allclose(y, 1e-5, 1e-5, false);
        assert!(near(&slerp(&a, &b, 0.0).unwrap(), &a) && near(&slerp(&a, &b, 1.0).unwrap(), &b));
        let half = slerp(&a, &b, 0.5).unwrap();
        let variance = half.var(true).double_value(&[]);
        assert!((variance - (a.var(true) + b.var(true)).double_value(&[]) / 2.0).abs() < 0.05, "{variance}");
        // Each image is interpolated by itself, and equal noise stays as it is.
        let first = slerp(&a.narrow(0, 0, 1), &b.narrow(0, 0, 1), 0.5).unwrap();
        assert!(near(&half.narrow(0, 0, 1), &first));
        assert!(near(&slerp(&a, &a, 0.3).unwrap(), &a));
        for strength in [-0.1, 1.1, f64::NAN] {
            assert!(matches!(slerp(&a, &b, strength), Err(Error::Parameter { name: "variation", .. })));
        }
    }
}
