//! [`Codec`]: a guidance method's view of a model.

use super::{Conditioning, Offer, Texts};
use crate::color::Rgb;
use crate::error::{Error, Result};
use crate::prompt::Prompt;
use crate::raster::Raster;
use crate::step::Grid;
use tch::{Device, Tensor};

/// The parts of a model that every guidance method can use: tokenizer, text encoder, and the VAE in both directions. A
/// [`Model`](crate::Model) is a codec; guidance methods get one in
/// [`Setup::codec`](crate::guidance::Setup::codec). Other parts, which only some models have, are asked for by type
/// (`dyn Codec::capability`).
///
/// ```
/// use impasto::testing::ToyModel;
/// use impasto::{Codec, Grid, Rgb};
///
/// let codec = ToyModel::new(1)?;
/// assert_eq!(codec.prompt("a red boat".into())?.find("boat")?[0].len(), 1); // tokens of a phrase
/// assert_eq!(codec.text("a red boat".into())?.context.size()[0], 1); // [1, tokens, width]
/// let teal = codec.flat(Rgb(0, 128, 128), Grid::new(8, 12))?; // latent of a color, [1, 4, 8, 12]
/// assert_eq!(codec.decode(&teal)?.size(), [1, 3, 8, 12]); // one pixel per cell in this codec
/// # Ok::<(), impasto::Error>(())
/// ```
pub trait Codec {
    /// Returns the prompt with its tokens, in which phrases can be looked up. A string is turned into texts by `into`.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a different second text if the model has one text encoder ([`Texts::only`]).
    fn prompt(&self, texts: Texts<'_>) -> Result<Prompt>;

    /// Encodes a prompt with the text encoders.
    ///
    /// # Errors
    /// The errors of [`prompt`](Self::prompt).
    fn text(&self, texts: Texts<'_>) -> Result<Conditioning>;

    /// Returns the context of an empty chunk, [1, tokens, dim]. The context of a shorter prompt becomes longer by any
    /// number of such chunks ([`Conditioning::equalize`]). By default, an empty chunk is the context of a space.
    ///
    /// # Errors
    /// The errors of [`text`](Self::text).
    fn empty_chunk(&self) -> Result<Tensor> {
        Ok(self.text(NO_WORDS.into())?.context)
    }

    /// Encodes a picture on any device to its latent: [n, 3, cell·h, cell·w] in -1..=1 → [n, c, h, w] f32. The latent
    /// is the posterior's mode, in sampler units (scaled).
    fn encode(&self, picture: &Tensor) -> Result<Tensor>;

    /// Returns the Gaussian of a picture's latents: its mean, as from [`Codec::encode`], and its standard deviation, of
    /// the same shape. By default the deviation is 0, for a codec without randomness.
    fn posterior(&self, picture: &Tensor) -> Result<(Tensor, Tensor)> {
        let mean = self.encode(picture)?;
        let std = mean.f_zeros_like()?;
        Ok((mean, std))
    }

    /// Returns true if a run that begins with a picture draws the latent from [`posterior`](Self::posterior), before it
    /// draws noise. A run takes the mean if false. Default: true.
    fn draws(&self) -> bool {
        true
    }

    /// Decodes a latent to a picture, the reverse of [`Codec::encode`]; values may leave -1..=1.
    fn decode(&self, latent: &Tensor) -> Result<Tensor>;

    /// Returns the latent of a picture of one `color`, [1, c, h, w] f32 for a `grid` of h × w cells. A codec may cache
    /// the latent.
    ///
    /// # Errors
    /// [`Error::Shape`] if the shape from [`Codec::encode`] contradicts [`Codec::cell`].
    fn flat(&self, color: Rgb, grid: Grid) -> Result<Tensor> {
        flat(self, color, grid)
    }

    /// Returns the side of a latent cell in pixels.
    fn cell(&self) -> i64 {
        8
    }

    /// Gives the parts that only some models have, such as a [`VisionEncoder`](crate::vision::VisionEncoder), by
    /// [`Offer::give`]. The default gives none.
    fn offer<'a>(&'a self, offer: &mut Offer<'a>) {
        let _ = offer;
    }
}

impl<'c> dyn Codec + 'c {
    /// Returns the part of the model that has the type `T`; `None` for a model without such a part.
    ///
    /// ```
    /// use impasto::testing::ToyModel;
    /// use impasto::vision::{View, VisionEncoder};
    /// use impasto::{Codec, Raster, Rgb};
    ///
    /// let codec: &dyn Codec = &ToyModel::new(1)?;
    /// if let Some(encoder) = codec.capability::<dyn VisionEncoder>() {
    ///     let seen = encoder.vision(&Raster::flat(Rgb(255, 215, 0), (96, 64)), View::default())?;
    /// }
    /// # Ok::<(), impasto::Error>(())
    /// ```
    pub fn capability<T: ?Sized + 'static>(&self) -> Option<&T> {
        let mut offer = Offer::of::<T>();
        self.offer(&mut offer);
        offer.take()
    }
}

/// A text of one chunk without words: a space, which is as empty as no prompt. SDXL's empty prompt itself is replaced
/// by zeros, and rows of zeros beside words would take weight in every softmax.
pub(crate) const NO_WORDS: &str = " ";

/// Encodes a flat picture: [`Codec::flat`] without a cache.
pub(crate) fn flat(codec: &(impl Codec + ?Sized), color: Rgb, grid: Grid) -> Result<Tensor> {
    let Grid { h, w } = grid;
    let picture = Raster::flat(color, ((w * codec.cell()) as u32, (h * codec.cell()) as u32));
    let latent = codec.encode(&picture.to_tensor(Device::Cpu)?)?;
    match latent.size().as_slice() {
        [1, _, rows, columns] if (*rows, *columns) == (h, w) => Ok(latent),
        got => {
            let expected = format!("[1, channels, {h}, {w}], the picture's size divided by Codec::cell");
            Err(Error::Shape { what: "the latent from Codec::encode", got: got.to_vec(), expected })
        }
    }
}

impl Conditioning {
    /// Makes all contexts equally long in all their parts, by appending chunks of the empty prompt to shorter ones. All
    /// contexts of a batch must have the same length. A run equalizes all branches at once, so that the result of a
    /// branch does not depend on the branches that are evaluated with it.
    ///
    /// # Errors
    /// The errors of [`Codec::text`]; [`Error::Shape`] if two lengths differ by a part of a chunk.
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
        let empty = codec.empty_chunk()?;
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
}
