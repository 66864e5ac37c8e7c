//! [`ReferenceTokens`]: tokens of a reference for its figure and for its background.

use super::layers::Linear;
use super::reading_block::ReadingBlock;
use super::time::Sinusoids;
use crate::error::{Error, Result};
use crate::weights::Weights;
use tch::{Device, Kind, Tensor};

/// Adds the threshold of the figure's mask to the tokens of a reference, and computes the tokens of the background.
///
/// The threshold, in 0..=1, is the mask value that separates the figure (above) from the background (below). The
/// embedding of the threshold is added to all tokens. A transformer with learned queries then computes the background's
/// tokens from the tokens of a picture without the figure.
///
/// Source: `ClusterTransformer` and `ScalarEmbedder` of ColorizeDiffusion v1.5.
#[derive(Debug)]
pub(crate) struct ReferenceTokens {
    waves: Sinusoids,
    embedding: [Linear; 2],
    /// Learned queries, [tokens, width].
    queries: Tensor,
    layers: Vec<ReadingBlock>,
    options: (Kind, Device),
}

impl ReferenceTokens {
    /// Builds the network from the weights `w`, under the names of published files: `thresh_embedder` and
    /// `transformer`. The shapes of the weights determine all sizes.
    ///
    /// # Errors
    /// [`Error::Weights`] if the weights do not fit each other.
    pub(crate) fn new(w: &Weights) -> Result<Self> {
        let embedder = w.at("thresh_embedder.embed_layer");
        let (inputs, width) = match embedder.at(0).shape("weight").as_deref() {
            Some(&[width, inputs]) => (inputs, width),
            _ => (1, 1), // reported as missing
        };
        let transformer = w.at("transformer");
        let count = match transformer.shape("embedding").as_deref() {
            Some(&[count, _]) => count,
            _ => 1,
        };
        let layers = (0..).take_while(|layer| transformer.at("layers").at(layer).at(0).has("weight"));
        let block = |layer: i64| {
            let w = transformer.at("layers").at(layer);
            ReadingBlock::new([w.at(0), w.at(1)], &w.at(2), &w.at(3), width)
        };
        let tokens = Self {
            waves: Sinusoids::new(inputs, false, 0.0, w.device())?,
            embedding: [embedder.at(0).linear(inputs, width)?, embedder.at(2).linear(width, width)?],
            queries: transformer.tensor("embedding", &[count, width])?,
            layers: layers.map(block).collect::<Result<_>>()?,
            options: (w.kind(), w.device()),
        };
        w.finish()?;
        Ok(tokens)
    }

    /// Adds the embedding of a threshold to tokens, [b, tokens, width]. The result has the kind of the tokens.
    ///
    /// # Errors
    /// [`Error::Shape`] for tokens of another width.
    pub(crate) fn marked(&self, tokens: &Tensor, threshold: f64) -> Result<Tensor> {
        let [first, second] = &self.embedding;
        let threshold = Tensor::f_from_slice(&[threshold as f32])?.f_to_device(self.options.1)?;
        let waves = self.waves.of(&threshold)?.f_to_kind(self.options.0)?;
        let embedded = second.forward(&first.forward(&waves)?.f_silu_()?)?;
        Ok(self.fitting(tokens)?.f_add(&embedded.f_unsqueeze(1)?)?.f_to_kind(tokens.kind())?)
    }

    /// Computes the background's tokens, [b, queries, width], from marked tokens, [b, tokens, width]. The result has
    /// the kind of the marked tokens.
    ///
    /// # Errors
    /// [`Error::Shape`] for tokens of another width.
    pub(crate) fn background(&self, marked: &Tensor) -> Result<Tensor> {
        let tokens = self.fitting(marked)?;
        let (count, width) = self.queries.size2()?;
        let mut x = self.queries.f_expand([tokens.size3()?.0, count, width], false)?;
        for layer in &self.layers {
            x = layer.forward(&x, &tokens)?;
        }
        Ok(x.f_to_kind(marked.kind())?)
    }

    /// Checks the width of tokens and converts them to this network's kind and device.
    fn fitting(&self, tokens: &Tensor) -> Result<Tensor> {
        let width = self.queries.size2()?.1;
        match tokens.size().as_slice() {
            &[_, _, own] if own == width => Ok(tokens.f_to_device(self.options.1)?.f_to_kind(self.options.0)?),
            got => {
                let expected = format!("[b, tokens, {width}]");
                Err(Error::Shape { what: "tokens of the reference", got: got.to_vec(), expected })
            }
        }
    }
}
