//! Conditioning of a branch, and [`Codec`], a guidance method's view of a model.

use crate::color::Rgb;
use crate::error::{Error, Result};
use crate::micro_conditioning::MicroConditioning;
use crate::prompt::Prompt;
use crate::raster::Raster;
use crate::reference::{Feature, Part, ReferenceFeatures};
use crate::step::Grid;
use crate::vision::{View, Vision};
use std::ops::Range;
use tch::{Device, Tensor};

/// Conditioning of one branch. A tensor with one row applies to every image of a batch.
#[derive(Debug)]
#[non_exhaustive]
pub struct Conditioning {
    /// States of the text encoder, [1 or n, tokens, dim] f32.
    pub context: Tensor,
    /// Pooled text as one vector, [1 or n, width] f32, for models that read one (SDXL and its refiner).
    pub pooled: Option<Tensor>,
    /// Sizes and quality for models with a pooled text. `None`: the picture's own size, not cropped, and a score of 6,
    /// or 2.5 for `Branch::Uncond`. A run sets this field.
    pub micro: Option<MicroConditioning>,
    /// Additional input channels beside the latent, [1 or n, channels, h, w] f32. For an inpainting network: the mask,
    /// 1 in the repainted area, and the latent of the picture without that area. `None` for most networks; a run sets
    /// this field.
    pub concat: Option<Tensor>,
    /// Sketch features that are added in the network's downsampling half, as [`Codec::sketch`] returns them; empty for
    /// most models. If one branch of a run has features, the features of a branch without any count as zeros.
    pub features: Vec<Tensor>,
    /// Reference features for the network's upsampling half; `None` for most models. The features of one branch act in
    /// all branches evaluated with it.
    pub reference: Option<ReferenceFeatures>,
    /// Guidance scale to imitate, minus 1, for a network that embeds the scale (LCM). `None`: 0.
    pub guidance: Option<f64>,
    /// True for the negative prompt's branch and its variations. Methods that skip the negative prompt, such as a
    /// ControlNet in guess mode, skip such a branch too. A run sets this field.
    pub(crate) against: bool,
    /// Parts of the conditioning that begin at later steps, sorted by step. The other fields apply before the first of
    /// these steps.
    later: Vec<(usize, Conditioning)>,
}

impl Conditioning {
    /// Creates a conditioning with a context alone.
    pub const fn new(context: Tensor) -> Self {
        Self {
            context,
            pooled: None,
            micro: None,
            concat: None,
            features: Vec::new(),
            reference: None,
            guidance: None,
            against: false,
            later: Vec::new(),
        }
    }

    /// Edits the conditioning during `steps` of the run; the conditioning of other steps stays the same. Earlier calls
    /// may have split these steps into parts. `edit` is called for each part in order, at least once unless `steps` is
    /// empty. Parts share tensors, so replace a tensor instead of changing its values.
    ///
    /// Keys and values of the context are recomputed where a part begins, and cached otherwise.
    ///
    /// # Errors
    /// The errors of `edit`.
    pub fn during(&mut self, steps: Range<usize>, mut edit: impl FnMut(&mut Self) -> Result<()>) -> Result<()> {
        if steps.is_empty() {
            return Ok(());
        }
        let mut later = std::mem::take(&mut self.later);
        for border in [steps.start, steps.end].into_iter().filter(|border| (1..usize::MAX).contains(border)) {
            let at = later.partition_point(|(from, _)| *from < border);
            if later.get(at).is_none_or(|(from, _)| *from != border) {
                let before = at.checked_sub(1).and_then(|before| later.get(before)).map_or(&*self, |(_, part)| part);
                let part = before.share();
                later.insert(at, (border, part));
            }
        }
        if steps.start == 0 {
            edit(self)?;
        }
        later.iter_mut().filter(|(from, _)| steps.contains(from)).try_for_each(|(_, part)| edit(part))?;
        self.later = later;
        Ok(())
    }

    /// Makes all contexts equally long in all their parts, by appending chunks of the empty prompt to shorter ones. All
    /// contexts of a batch must have the same length. A run equalizes all branches at once, so that the result of a
    /// branch does not depend on the branches that are evaluated with it.
    ///
    /// # Errors
    /// The errors of [`Codec::text_pair`]; [`Error::Shape`] if two lengths differ by a part of a chunk.
    pub fn equalize(all: &mut [Self], codec: &dyn Codec) -> Result<()> {
        let tokens = |part: &Self| -> Result<i64> { Ok(part.context.size3()?.1) };
        let mut lengths = Vec::new();
        for conditioning in all.iter_mut() {
            conditioning.during(0..usize::MAX, |part| {
                lengths.push(tokens(part)?);
                Ok(())
            })?;
        }
        let longest = lengths.iter().copied().max().unwrap_or_default();
        if lengths.iter().all(|length| *length == longest) {
            return Ok(());
        }
        let empty = padding(codec)?;
        let (_, chunk, _) = empty.size3()?;
        for conditioning in all {
            conditioning.during(0..usize::MAX, |part| {
                let (rows, length, _) = part.context.size3()?;
                let chunks = (longest - length) / chunk.max(1);
                if length + chunks * chunk != longest {
                    let expected =
                        format!("{longest} tokens like the longest branch, or fewer by a multiple of {chunk}");
                    return Err(Error::Shape { what: "Conditioning::context", got: part.context.size(), expected });
                }
                let mut rest = empty.f_to_device(part.context.device())?.f_expand([rows, -1, -1], false)?;
                if part.context.f_any()?.f_int64_value(&[])? == 0 {
                    rest = rest.f_zeros_like()?;
                }
                part.context = Tensor::f_cat(&[&part.context, &rest.f_repeat([1, chunks, 1])?], 1)?;
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Returns the conditioning that applies at a step.
    pub fn at(&self, step: usize) -> &Self {
        self.later.iter().rev().find(|(from, _)| *from <= step).map_or(self, |(_, part)| part)
    }

    /// Returns true if a later part of the conditioning begins at this step.
    pub(crate) fn changes(&self, step: usize) -> bool {
        self.later.iter().any(|(from, _)| *from == step)
    }

    /// Returns a second handle on the same tensors.
    #[must_use]
    pub fn share(&self) -> Self {
        let share = |tensor: &Option<Tensor>| tensor.as_ref().map(Tensor::shallow_clone);
        Self {
            context: self.context.shallow_clone(),
            pooled: share(&self.pooled),
            micro: self.micro,
            concat: share(&self.concat),
            features: self.features.iter().map(Tensor::shallow_clone).collect(),
            reference: self.reference.as_ref().map(ReferenceFeatures::share),
            guidance: self.guidance,
            against: self.against,
            later: self.later.iter().map(|(from, part)| (*from, part.share())).collect(),
        }
    }

    /// Returns the conditioning of some images of a batch, as views.
    ///
    /// # Errors
    /// [`Error::Torch`] if `images` reaches beyond the batch.
    pub(crate) fn images(&self, images: Range<i64>) -> Result<Self> {
        let cut = |tensor: &Tensor| -> Result<Tensor> {
            Ok(match tensor.size().first() {
                Some(1) => tensor.shallow_clone(),
                _ => tensor.f_narrow(0, images.start, images.end - images.start)?,
            })
        };
        let optional = |tensor: &Option<Tensor>| tensor.as_ref().map(cut).transpose();
        let mut reference = self.reference.as_ref().map(ReferenceFeatures::share);
        if let Some((figure, _)) = reference.as_mut().and_then(|reference| reference.figure.as_mut()) {
            *figure = cut(figure)?;
        }
        Ok(Self {
            context: cut(&self.context)?,
            pooled: optional(&self.pooled)?,
            micro: self.micro,
            concat: optional(&self.concat)?,
            features: self.features.iter().map(cut).collect::<Result<_>>()?,
            reference,
            guidance: self.guidance,
            against: self.against,
            later: self
                .later
                .iter()
                .map(|(from, part)| Ok((*from, part.images(images.clone())?)))
                .collect::<Result<_>>()?,
        })
    }
}

/// The parts of a model that a guidance method can use: tokenizer, text encoder, and the VAE in both directions. A
/// [`Model`](crate::Model) is a codec; guidance methods get one in
/// [`Setup::codec`](crate::guidance::Setup::codec).
///
/// ```
/// use impasto::testing::ToyModel;
/// use impasto::{Codec, Grid, Rgb};
///
/// let codec = ToyModel::new(1)?;
/// assert_eq!(codec.prompt("a red boat")?.find("boat")?[0].len(), 1); // tokens of a phrase
/// assert_eq!(codec.text("a red boat")?.context.size()[0], 1); // [1, tokens, width]
/// let teal = codec.flat(Rgb(0, 128, 128), Grid::new(8, 12))?; // latent of a color, [1, 4, 8, 12]
/// assert_eq!(codec.decode(&teal)?.size(), [1, 3, 8, 12]); // one pixel per cell in this codec
/// # Ok::<(), impasto::Error>(())
/// ```
pub trait Codec {
    /// Returns the prompt with its tokens, in which phrases can be looked up.
    fn prompt(&self, text: &str) -> Result<Prompt>;

    /// Encodes a prompt with the text encoder.
    fn text(&self, text: &str) -> Result<Conditioning>;

    /// Returns the prompt as [`prompt`](Self::prompt) does, with a separate prompt for a second text encoder (SDXL).
    ///
    /// # Errors
    /// [`Error::Parameter`] for a different second prompt if there is only one encoder, which is the default.
    fn prompt_pair(&self, first: &str, second: &str) -> Result<Prompt> {
        if first == second { self.prompt(first) } else { Err(one_encoder(second)) }
    }

    /// Encodes a prompt as [`text`](Self::text) does, with a separate prompt for a second text encoder (SDXL).
    ///
    /// # Errors
    /// The errors of [`prompt_pair`](Self::prompt_pair).
    fn text_pair(&self, first: &str, second: &str) -> Result<Conditioning> {
        if first == second { self.text(first) } else { Err(one_encoder(second)) }
    }

    /// Encodes a picture on any device to its latent: [n, 3, cell·h, cell·w] in -1..=1 → [n, 4, h, w] f32. The latent
    /// is the posterior's mode, in sampler units (scaled).
    fn encode(&self, picture: &Tensor) -> Result<Tensor>;

    /// Returns the Gaussian of a picture's latents: its mean, as from [`Codec::encode`], and its standard deviation, of
    /// the same shape. By default the deviation is 0, for a codec without randomness.
    fn posterior(&self, picture: &Tensor) -> Result<(Tensor, Tensor)> {
        let mean = self.encode(picture)?;
        let std = mean.f_zeros_like()?;
        Ok((mean, std))
    }

    /// Decodes a latent to a picture, the reverse of [`Codec::encode`]; values may leave -1..=1.
    fn decode(&self, latent: &Tensor) -> Result<Tensor>;

    /// Returns the latent of a picture of one `color`, [1, 4, h, w] f32 for a `grid` of h × w cells. A codec may cache
    /// the latent.
    ///
    /// # Errors
    /// [`Error::Shape`] if the shape from [`Codec::encode`] contradicts [`Codec::cell`].
    fn flat(&self, color: Rgb, grid: Grid) -> Result<Tensor> {
        flat(self, color, grid)
    }

    /// Encodes a picture with the vision tower that belongs to the text encoder.
    ///
    /// # Errors
    /// [`Error::MissingFile`] without a tower, as by default; [`Error::Parameter`] for a picture without pixels.
    fn vision(&self, _picture: &Raster, _view: View) -> Result<Vision> {
        let (file, place) = ("the image encoder".into(), "this model".into());
        let hint = "use a model with an image encoder, or implement `Codec::vision`".into();
        Err(Error::MissingFile { file, place, hint })
    }

    /// Encodes a whole text to a unit vector, f32, in the space of a picture's tokens ([`Codec::vision`]), with as many
    /// numbers as a token.
    ///
    /// # Errors
    /// [`Error::MissingFile`] without a text encoder that has a projection, as by default.
    fn text_vector(&self, _text: &str) -> Result<Tensor> {
        let (file, place) = ("the text encoder".into(), "this model".into());
        let hint = "use a model whose text encoder has a projection, or implement `Codec::text_vector`".into();
        Err(Error::MissingFile { file, place, hint })
    }

    /// Computes the features that a sketch adds in the network's downsampling half. The sketch is
    /// [n, 3, cell·h, cell·w] in -1..=1, with lines of 1 on a ground of -1. The result has a tensor for the network's
    /// first layer, [n, channels, h, w], and one for each level.
    ///
    /// # Errors
    /// [`Error::MissingFile`] for a model that reads no sketches, as by default; [`Error::Shape`] for another shape.
    fn sketch(&self, _sketch: &Tensor) -> Result<Vec<Tensor>> {
        let (file, place) = ("the sketch encoder".into(), "this model".into());
        let hint = "use a model that reads sketches, such as ColorizeDiffusion; with other models, use a ControlNet";
        Err(Error::MissingFile { file, place, hint: hint.into() })
    }

    /// Marks tokens of a reference, [1, tokens, width], as tokens of one part of the picture, for a model that
    /// distinguishes parts. `threshold`, 0..=1, is the value at which the part's mask was cut. Other models use tokens
    /// unchanged, which is the default.
    ///
    /// # Errors
    /// [`Error::Shape`] for tokens of another width.
    fn part_tokens(&self, tokens: &Tensor, _part: Part, _threshold: f64) -> Result<Tensor> {
        Ok(tokens.shallow_clone())
    }

    /// Computes the features of a reference for the network's upsampling half, f32, the smallest grid first. `latent`
    /// is the latent of the reference at the run's size. `tokens` are the vision tower's tokens of the reference.
    /// `ratios` are the reference's own height and width, divided by those of the run. The result is empty for a model
    /// that reads no such features, which is the default.
    ///
    /// # Errors
    /// [`Error::Shape`] for tensors that do not fit the model.
    fn reference_features(
        &self,
        _of: Feature,
        _latent: &Tensor,
        _tokens: &Tensor,
        _ratios: [f64; 2],
    ) -> Result<Vec<Tensor>> {
        Ok(Vec::new())
    }

    /// Returns the side of a latent cell in pixels.
    fn cell(&self) -> i64 {
        8
    }
}

/// Returns the error for a second prompt that no text encoder reads.
pub(crate) fn one_encoder(second: &str) -> Error {
    Error::parameter(
        "second prompt",
        format!("{second:?}"),
        "no second prompt, because this model has one text encoder; use the prompt alone",
    )
}

/// Returns the context of an empty chunk for both text encoders, since a second prompt may be many chunks long. The
/// chunk encodes a space, which is as empty as no prompt. SDXL's empty prompt itself is replaced by zeros, and rows of
/// zeros beside words would take weight in every softmax.
pub(crate) fn padding(codec: &dyn Codec) -> Result<Tensor> {
    Ok(codec.text_pair(" ", " ")?.context)
}

/// Encodes a flat picture: [`Codec::flat`] without a cache.
pub(crate) fn flat(codec: &(impl Codec + ?Sized), color: Rgb, grid: Grid) -> Result<Tensor> {
    let Grid { h, w } = grid;
    let picture = Raster::flat(color, ((w * codec.cell()) as u32, (h * codec.cell()) as u32));
    let latent = codec.encode(&picture.to_tensor(Device::Cpu)?)?;
    match latent.size().as_slice() {
        [1, _, rows, columns] if (*rows, *columns) == (h, w) => Ok(latent),
        got => {
            let expected = format!("[1, 4, {h}, {w}], the picture's size divided by Codec::cell");
            Err(Error::Shape { what: "the latent from Codec::encode", got: got.to_vec(), expected })
        }
    }
}
