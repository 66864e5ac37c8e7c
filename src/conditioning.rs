//! What a branch is conditioned on, and what a guidance may ask of a model.

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

/// What one branch is conditioned on. One row serves every image.
#[derive(Debug)]
#[non_exhaustive]
pub struct Conditioning {
    /// The text encoder's states, [1 or n, tokens, dim] f32.
    pub context: Tensor,
    /// The whole text as one vector, [1 or n, width] f32, for models that read one (SDXL and its refiner).
    pub pooled: Option<Tensor>,
    /// What such a model is told about sizes and quality. `None`: the picture's own size, not cropped, and a score of 6, or 2.5 for
    /// `Branch::Uncond`. A run fills it in.
    pub micro: Option<MicroConditioning>,
    /// What the network sees beside the latent, [1 or n, channels, h, w] f32: for a network that repaints, the mask, 1 where
    /// it paints, and the latent of the picture without that place. `None` for most; a run fills it in.
    pub concat: Option<Tensor>,
    /// Features that a sketch adds to the network on its way down, as [`Codec::sketch`] makes them; empty for most models. In a run that has
    /// some in one branch, a branch without counts as zeros.
    pub features: Vec<Tensor>,
    /// Features of a reference for the network's way up; `None` for most models. Those of one branch act in all that are evaluated with it.
    pub reference: Option<ReferenceFeatures>,
    /// What a network that embeds its guidance (LCM) is told of it: one less than the scale it is to imitate. `None`: 0.
    pub guidance: Option<f64>,
    /// Whether the branch varies the negative prompt, so that what goes without the negative prompt goes without it too. A run fills
    /// it in.
    pub(crate) against: bool,
    /// What takes over from a step on, by rising steps. The fields above are those of the steps before.
    later: Vec<(usize, Conditioning)>,
}

impl Conditioning {
    /// Conditioning on a context alone.
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

    /// Edits what the branch is conditioned on during `steps` of the run; at the others it stays as it is. `edit` is called
    /// for every part that an earlier call has made, in order, and at least once unless there are no steps. Tensors are shared
    /// between parts: put others in their place.
    ///
    /// Keys and values of the context are made anew where a part begins, and kept otherwise.
    ///
    /// # Errors
    /// What `edit` fails with.
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

    /// Makes contexts equally long, in all their parts: shorter ones are followed by chunks of the empty prompt. What a network
    /// sees at once has to be, and a run does it once for all branches, so that none depends on which others are evaluated
    /// beside it.
    ///
    /// # Errors
    /// Of [`Codec::text_pair`]; [`Error::Shape`] if the difference is no number of whole chunks.
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
                    let expected = format!("{longest} tokens as another branch has, or less by chunks of {chunk}");
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

    /// What the branch is conditioned on at a step.
    pub fn at(&self, step: usize) -> &Self {
        self.later.iter().rev().find(|(from, _)| *from <= step).map_or(self, |(_, part)| part)
    }

    /// Does another part begin at this step?
    pub(crate) fn changes(&self, step: usize) -> bool {
        self.later.iter().any(|(from, _)| *from == step)
    }

    /// A second handle on the same tensors.
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

    /// That of some images of a batch, as views.
    ///
    /// # Errors
    /// [`Error::Torch`] if there are not as many.
    pub fn images(&self, images: Range<i64>) -> Result<Self> {
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

/// A guidance's whole view of a model: tokenizer, text encoder, and the VAE both ways.
pub trait Codec {
    /// The prompt with its tokens, to look phrases up in.
    fn prompt(&self, text: &str) -> Result<Prompt>;

    /// What the text encoder makes of a prompt.
    fn text(&self, text: &str) -> Result<Conditioning>;

    /// As [`prompt`](Self::prompt), where a second text encoder reads a prompt of its own (SDXL).
    ///
    /// # Errors
    /// [`Error::Parameter`] for another second prompt if there is one encoder, as there is by default.
    fn prompt_pair(&self, first: &str, second: &str) -> Result<Prompt> {
        if first == second { self.prompt(first) } else { Err(one_encoder(second)) }
    }

    /// As [`text`](Self::text), likewise.
    ///
    /// # Errors
    /// As [`prompt_pair`](Self::prompt_pair).
    fn text_pair(&self, first: &str, second: &str) -> Result<Conditioning> {
        if first == second { self.text(first) } else { Err(one_encoder(second)) }
    }

    /// The latent of a picture on any device: [n, 3, cell·h, cell·w] in -1..=1 → [n, 4, h, w] f32, the posterior's mode, in
    /// sampler units (scaled).
    fn encode(&self, picture: &Tensor) -> Result<Tensor>;

    /// The Gaussian that a picture's latents are drawn from: its mean, as [`Codec::encode`] gives it, and its standard
    /// deviation, of the same shape. A codec without randomness has 0, which is the default.
    fn posterior(&self, picture: &Tensor) -> Result<(Tensor, Tensor)> {
        let mean = self.encode(picture)?;
        let std = mean.f_zeros_like()?;
        Ok((mean, std))
    }

    /// The picture of a latent, the reverse of [`Codec::encode`]; values may leave -1..=1.
    fn decode(&self, latent: &Tensor) -> Result<Tensor>;

    /// The latent of a picture that is all `color`, [1, 4, h, w] f32 for a `grid` of h × w cells. A codec may keep it.
    ///
    /// # Errors
    /// [`Error::Shape`] if [`Codec::encode`] does not do what [`Codec::cell`] says.
    fn flat(&self, color: Rgb, grid: Grid) -> Result<Tensor> {
        flat(self, color, grid)
    }

    /// What the vision tower that belongs to the text encoder makes of a picture.
    ///
    /// # Errors
    /// [`Error::MissingFile`] without a tower, as by default; [`Error::Parameter`] for a picture without pixels.
    fn vision(&self, _picture: &Raster, _view: View) -> Result<Vision> {
        let (file, place) = ("the image encoder".into(), "this model".into());
        Err(Error::MissingFile { file, place, hint: "pictures are understood by a codec that implements `vision`" })
    }

    /// Makes a unit vector of a whole text, f32, as wide as the tokens of pictures ([`Codec::vision`]) and beside them.
    ///
    /// # Errors
    /// [`Error::MissingFile`] without a text encoder that has a projection, as by default.
    fn text_vector(&self, _text: &str) -> Result<Tensor> {
        let (file, place) = ("the text encoder".into(), "this model".into());
        Err(Error::MissingFile {
            file,
            place,
            hint: "texts are held beside pictures by a codec that implements `text_vector`",
        })
    }

    /// Makes the features that a sketch adds to the network on its way down: [n, 3, cell·h, cell·w] in -1..=1, lines at 1 on a ground of
    /// -1 → a tensor for the network's first layer, [n, channels, h, w], and one for each of its levels.
    ///
    /// # Errors
    /// [`Error::MissingFile`] for a model that reads no sketches, as by default; [`Error::Shape`] for another shape.
    fn sketch(&self, _sketch: &Tensor) -> Result<Vec<Tensor>> {
        let (file, place) = ("the sketch encoder".into(), "this model".into());
        let hint =
            "sketches are read by a model made for them, such as ColorizeDiffusion; other models take a ControlNet";
        Err(Error::MissingFile { file, place, hint })
    }

    /// Marks tokens of a reference as those of a part of it, [1, tokens, width], for a model that tells parts apart. `threshold` is what the
    /// part's mask was cut at, 0..=1. Other models take tokens as they are, which is the default.
    ///
    /// # Errors
    /// [`Error::Shape`] for tokens of another width.
    fn part_tokens(&self, tokens: &Tensor, _part: Part, _threshold: f64) -> Result<Tensor> {
        Ok(tokens.shallow_clone())
    }

    /// Makes the features of a reference for the network's way up, f32, the smallest grid first. `latent` is that of the picture at the run's
    /// size, `tokens` those of the tower, `ratios` the picture's own height and width by the run's. Empty for a model that reads
    /// none, as by default.
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

    /// Side of a latent cell in pixels.
    fn cell(&self) -> i64 {
        8
    }
}

/// The error for a second prompt that nobody reads.
pub(crate) fn one_encoder(second: &str) -> Error {
    Error::parameter("second prompt", format!("{second:?}"), "none: this model has one text encoder")
}

/// The context of a chunk that says nothing, to both text encoders: a second prompt may be many chunks long. A space is read as
/// nothing as no prompt is, but never zeroed as SDXL's empty prompt is: rows of zeros beside words would weigh in every softmax.
pub(crate) fn padding(codec: &dyn Codec) -> Result<Tensor> {
    Ok(codec.text_pair(" ", " ")?.context)
}

/// Encodes a flat picture; what [`Codec::flat`] is without keeping.
pub(crate) fn flat(codec: &(impl Codec + ?Sized), color: Rgb, grid: Grid) -> Result<Tensor> {
    let Grid { h, w } = grid;
    let picture = Raster::flat(color, ((w * codec.cell()) as u32, (h * codec.cell()) as u32));
    let latent = codec.encode(&picture.to_tensor(Device::Cpu)?)?;
    match latent.size().as_slice() {
        [1, _, rows, columns] if (*rows, *columns) == (h, w) => Ok(latent),
        got => {
            let expected = format!("[1, 4, {h}, {w}], as Codec::cell says");
            Err(Error::Shape { what: "what Codec::encode made", got: got.to_vec(), expected })
        }
    }
}
