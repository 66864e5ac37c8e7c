//! A model small enough for tests of your own guidance methods: one self-attention and one cross-attention site.
//!
//! The model's pictures show nothing, but the model has everything that a guidance method reads: branches, sites, a
//! schedule, a codec.
//!
//! ```
//! use impasto::diffusion::{Denoised, Noise, Schedule, Spacing, TrainingSchedule, solver::Euler};
//! use impasto::guidance::GuidanceRun;
//! use impasto::sampler::{Sampler, Start};
//! use impasto::testing::ToyModel;
//! use impasto::{Grid, Result, Step};
//!
//! /// The guidance method to test: keeps every number of the clean picture in -1..=1.
//! struct Clamp;
//!
//! impl GuidanceRun for Clamp {
//!     fn denoised(&mut self, _: &Step, denoised: &mut Denoised) -> Result<()> {
//!         denoised.x0 = denoised.x0.f_clamp(-1.0, 1.0)?;
//!         Ok(())
//!     }
//! }
//!
//! # fn main() -> Result<()> {
//! let model = ToyModel::new(1)?;
//! let schedule = Schedule::new(&TrainingSchedule::stable_diffusion(), 4, Spacing::Leading)?;
//! let start = Start::new("a red boat", Grid::new(8, 8), Noise::seeded(7));
//! let mut run = Sampler::new(schedule, Euler).guide(|| Clamp).start(&model, start)?;
//! while run.step()?.is_some() {}
//! // Euler's last step ends at the clean picture, up to rounding.
//! assert!(run.latent().abs().max().double_value(&[]) < 1.001);
//! # Ok(()) }
//! ```

use crate::attention::{AttentionSite, Place, SiteKind, Tap};
use crate::conditioning::{Codec, Conditioning, Offer, Texts};
use crate::diffusion::{Denoiser, Input, Noise, Prediction, Predictions};
use crate::error::Result;
use crate::model::{Defaults, ModelInfo};
use crate::prompt::Prompt;
use crate::raster::{Filter, Raster};
use crate::step::Step;
use crate::vision::{View, Vision, VisionEncoder};
use tch::{Device, Kind, Tensor};

const WIDTH: i64 = 16;
const HEADS: i64 = 2;
/// Number of content tokens of every prompt; one word is one token.
pub(crate) const WORDS: usize = 8;

/// A toy model that predicts x0 = x / (1 + σ²) + attention over x and the context. The decoded picture is three
/// channels of the latent, with a pixel per cell.
#[derive(Debug)]
pub struct ToyModel {
    sites: Vec<AttentionSite>,
    conv_in: Tensor,
    attn1: Attention,
    attn2: Attention,
    conv_out: Tensor,
    patches: Tensor,
}

#[derive(Debug)]
struct Attention {
    to_q: Tensor,
    to_k: Tensor,
    to_v: Tensor,
    to_out: Tensor,
}

impl Attention {
    fn new(draw: &mut impl FnMut(i64, i64) -> Result<Tensor>) -> Result<Self> {
        Ok(Self {
            to_q: draw(WIDTH, WIDTH)?,
            to_k: draw(WIDTH, WIDTH)?,
            to_v: draw(WIDTH, WIDTH)?,
            to_out: draw(WIDTH, WIDTH)?,
        })
    }

    /// Computes attention: hidden [b, queries, WIDTH], context [b, tokens, WIDTH] → [b, queries, WIDTH].
    fn forward(&self, site: &AttentionSite, hidden: &Tensor, context: &Tensor, tap: &mut Tap<'_>) -> Result<Tensor> {
        let heads = |x: &Tensor, weight: &Tensor| -> Result<Tensor> {
            let (b, s, _) = x.size3()?;
            Ok(x.f_linear(weight, None::<Tensor>)?.f_reshape([b, s, HEADS, WIDTH / HEADS])?.f_transpose(1, 2)?)
        };
        let q = heads(hidden, &self.to_q)?;
        let output =
            tap.attend(site, &q, context, |context| Ok((heads(context, &self.to_k)?, heads(context, &self.to_v)?)))?;
        Ok(output.f_linear(&self.to_out, None::<Tensor>)?)
    }
}

impl ToyModel {
    /// Creates a model with random weights from a seed.
    ///
    /// # Errors
    /// Only errors of libtorch.
    pub fn new(seed: u64) -> Result<Self> {
        let mut noise = Noise::shared(seed);
        let mut draw = |out: i64, into: i64| -> Result<Tensor> {
            Ok(noise.draw(&[out, into])?.f_mul_scalar(0.8 / (into as f64).sqrt())?)
        };
        let mut sites = vec![
            AttentionSite::new("block.attn1", SiteKind::SelfAttention, Place::Down, 0, HEADS),
            AttentionSite::new("block.attn2", SiteKind::Cross, Place::Down, 0, HEADS),
        ];
        sites.iter_mut().enumerate().for_each(|(index, site)| site.index = index);
        Ok(Self {
            sites,
            conv_in: draw(WIDTH, 4)?,
            attn1: Attention::new(&mut draw)?,
            attn2: Attention::new(&mut draw)?,
            conv_out: draw(4, WIDTH)?,
            patches: draw(WIDTH, 3)?,
        })
    }
}

impl Denoiser for ToyModel {
    fn sites(&self) -> &[AttentionSite] {
        &self.sites
    }

    fn denoise(&self, step: &Step, inputs: &[Input<'_>], tap: &mut Tap<'_>) -> Result<Predictions> {
        let latents: Vec<&Tensor> = inputs.iter().map(|input| input.x).collect();
        let x = Tensor::f_cat(&latents, 0)?;
        let (b, c, h, w) = x.size4()?;
        let contexts: Vec<Tensor> = inputs
            .iter()
            .map(|input| Ok(input.conditioning.context.f_expand([input.x.size4()?.0, -1, -1], false)?))
            .collect::<Result<_>>()?;
        let context = Tensor::f_cat(&contexts, 0)?;
        let c_in = Prediction::Epsilon.input_scale(step.sigma);
        let cells = x.f_mul_scalar(c_in)?.f_reshape([b, c, h * w])?.f_transpose(1, 2)?;
        let mut hidden = cells.f_linear(&self.conv_in, None::<Tensor>)?;
        let mut sites = self.sites.iter();
        if let (Some(itself), Some(cross)) = (sites.next(), sites.next()) {
            hidden = hidden.f_add(&self.attn1.forward(itself, &hidden, &hidden, tap)?)?;
            hidden = hidden.f_add(&self.attn2.forward(cross, &hidden, &context, tap)?)?;
        }
        let out = hidden.f_linear(&self.conv_out, None::<Tensor>)?.f_transpose(1, 2)?.f_reshape([b, c, h, w])?;
        let x0 = x.f_mul_scalar(c_in * c_in)?.f_add(&out)?;
        Ok(Predictions::new(step, inputs, x0.f_chunk(inputs.len() as i64, 0)?))
    }
}

impl Codec for ToyModel {
    fn prompt(&self, texts: Texts<'_>) -> Result<Prompt> {
        let text = texts.only()?;
        let mut end = 0;
        let words = text.split_whitespace().map(|word| {
            let start = end + text.get(end..).and_then(|rest| rest.find(word)).unwrap_or_default();
            end = start + word.len();
            start..end
        });
        Ok(Prompt::new(text, words.collect(), WORDS))
    }

    fn text(&self, texts: Texts<'_>) -> Result<Conditioning> {
        let words = ["<start>"].into_iter().chain(texts.only()?.split_whitespace());
        let rows: Vec<Tensor> = words
            .chain(std::iter::repeat("<end>"))
            .take(WORDS + 2)
            .map(|word| {
                Noise::shared(word.bytes().fold(7, |seed, byte| seed * 31 % 65_521 + u64::from(byte))).draw(&[WIDTH])
            })
            .collect::<Result<_>>()?;
        Ok(Conditioning::new(Tensor::f_stack(&rows, 0)?.f_unsqueeze(0)?))
    }

    fn encode(&self, picture: &Tensor) -> Result<Tensor> {
        let average = picture.f_mean_dim([1i64].as_slice(), true, Kind::Float)?;
        Ok(Tensor::f_cat(&[picture, &average], 1)?)
    }

    fn decode(&self, latent: &Tensor) -> Result<Tensor> {
        Ok(latent.f_narrow(1, 0, 3)?)
    }

    fn cell(&self) -> i64 {
        1
    }

    fn offer<'a>(&'a self, offer: &mut Offer<'a>) {
        offer.give::<_, dyn VisionEncoder>(self, |model| model);
        offer.give::<_, dyn ModelInfo>(self, |model| model);
    }
}

impl ModelInfo for ToyModel {
    fn defaults(&self) -> Defaults {
        Defaults::new(16, 16, 7.5)
    }
}

impl VisionEncoder for ToyModel {
    /// Returns tokens of the mean color and of the colors of four patches.
    fn vision(&self, picture: &Raster, _: View) -> Result<Vision> {
        let patches =
            picture.resize((2, 2), Filter::Box)?.to_tensor(Device::Cpu)?.f_flatten(2, 3)?.f_transpose(1, 2)?;
        let mean = patches.f_mean_dim([1i64].as_slice(), true, Kind::Float)?;
        let tokens = Tensor::f_cat(&[mean, patches], 1)?.f_linear(&self.patches, None::<Tensor>)?;
        Ok(Vision::new(tokens, 0..WIDTH))
    }
}
