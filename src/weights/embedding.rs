//! [`Embedding`]: a word that a text encoder learned (textual inversion).

use super::Tensors;
use super::file::{Header, read_with_header};
use super::names::unwrap_all;
use super::recognize::{Contents, OUTPUTS, ROWS, ROWS_OF_XL, rows_of_pt};
use crate::error::{Error, Result};
use crate::family::ModelFamily;
use sha2::{Digest, Sha256};
use std::ops::Range;
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// A word that a text encoder learned (textual inversion): one or more rows for the encoder's token table, and the
/// word's spelling in prompts.
///
/// Files of stable-diffusion-webui (`string_to_param` with a `name`; `emb_params`, the word is the file's name), of
/// diffusers (the word is the tensor's name) and of SDXL (`clip_l`, `clip_g`) are supported. OneTrainer's output
/// embeddings (`clip_l_out`), which replace states that a text encoder returns, are not supported: a note or an error
/// names them.
///
/// ```no_run
/// # fn main() -> impasto::Result<()> {
/// use impasto::weights::Embedding;
/// use impasto::{Model, Source};
///
/// let model = Model::load(&Source::file("model.safetensors"))?;
/// let model = model.with_embedding(&Embedding::open("badhands.pt")?)?; // now "badhands" is a word
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use]
pub struct Embedding {
    file: String,
    word: String,
    /// Rows for each text encoder that the word was made for, [n, width].
    vectors: Vec<Tensor>,
    /// Names of the file's output embeddings, which are not used.
    outputs: Vec<&'static str>,
}

/// Names of a text encoder's token table, with and without the prefix `text_model.`
const TABLES: [&str; 2] = ["text_model.embeddings.token_embedding.weight", "embeddings.token_embedding.weight"];

impl Embedding {
    /// Reads an embedding from a file of weights: a safetensors file, or a `.pt` or `.bin` file of PyTorch.
    ///
    /// # Errors
    /// The errors of [`read_tensors`](super::read_tensors); [`Error::Malformed`] if the file is not an
    /// embedding.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let (tensors, Header { metadata, .. }) = read_with_header(path)?;
        let tensors = unwrap_all(tensors);
        let header = Header::of(path.display().to_string(), &tensors);
        let malformed = |problem: String| Error::Malformed { file: header.file.clone(), problem };
        let outputs: Vec<_> = OUTPUTS.into_iter().filter(|name| tensors.contains_key(*name)).collect();
        let named = |name: &str| tensors.get(name).map(Tensor::shallow_clone);
        let rows = rows_of_pt(tensors.keys());
        let known: Vec<Tensor> = ROWS.into_iter().chain(rows).chain(ROWS_OF_XL).filter_map(named).collect();
        let stem = || path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let stored = metadata.get("name").filter(|name| rows.is_some() && !name.trim().is_empty());
        let word = stored.cloned().unwrap_or_else(stem);
        let (word, vectors) = match (known.is_empty(), tensors.len()) {
            (false, _) => (word, known),
            (true, _) if !outputs.is_empty() => {
                return Err(malformed(format!(
                    "the file is an embedding of a text encoder's outputs ({}), which is not supported; train the word \
                     without OneTrainer's option for output embeddings",
                    outputs.join(", ")
                )));
            }
            (true, 1) => tensors.into_iter().fold((word, Vec::new()), |_, (name, x)| (name, vec![x])),
            _ => (word, Vec::new()),
        };
        let table = |x: &Tensor| match x.size().as_slice() {
            [_] => Ok(x.f_unsqueeze(0)?),
            [1..=75, _] => Ok(x.shallow_clone()),
            got => Err(malformed(format!("the embedding has shape {got:?}; expected [width] or [1 to 75, width]"))),
        };
        let vectors: Vec<Tensor> = vectors.iter().map(table).collect::<Result<_>>()?;
        let same = vectors.windows(2).all(|pair| matches!(pair, [a, b] if a.size().first() == b.size().first()));
        if vectors.is_empty() || !same || vectors.iter().any(|x| !x.is_floating_point()) {
            return Err(malformed(match Contents::of(&header) {
                Ok(contents) => format!("the file is {contents}, not an embedding of a word"),
                Err(_) => {
                    "the file is not an embedding of a word; expected a tensor [n, width], or tensors clip_l and clip_g"
                        .into()
                }
            }));
        }
        Ok(Self { file: header.file, word, vectors, outputs })
    }

    /// Changes the word that stands for the embedding in prompts.
    pub fn called(mut self, word: impl Into<String>) -> Self {
        self.word = word.into();
        self
    }

    /// Returns the word that stands for the embedding in prompts. Upper and lower case letters count as the same.
    pub fn word(&self) -> &str {
        &self.word
    }

    /// Returns a note if the file also has output embeddings, which are not used.
    pub(crate) fn note(&self) -> Option<String> {
        let outputs = self.outputs.join(", ");
        (!outputs.is_empty()).then(|| {
            format!(
                "{}: the embedding's vectors for a text encoder's outputs are not used ({outputs}), only those for its \
                 inputs",
                self.file
            )
        })
    }

    /// Returns the width of the rows for each text encoder that the word was made for.
    pub(crate) fn widths(&self) -> Vec<i64> {
        self.vectors.iter().filter_map(|x| x.size().get(1).copied()).collect()
    }

    /// Returns the SHA-256 of the rows, which identifies them.
    pub(crate) fn digest(&self) -> Result<Vec<u8>> {
        let mut hash = Sha256::new();
        for rows in &self.vectors {
            hash.update(format!("{:?}\n", rows.size()));
            let flat = rows.f_flatten(0, -1)?.f_to_kind(Kind::Float)?.f_to_device(Device::Cpu)?.f_contiguous()?;
            for value in Vec::<f32>::try_from(&flat)? {
                hash.update(value.to_le_bytes());
            }
        }
        Ok(hash.finalize().to_vec())
    }

    /// Adds the rows to a text encoder's token table and returns their range; `None` if the embedding is not made for
    /// an encoder of this width.
    ///
    /// # Errors
    /// [`Error::Malformed`] if the tensors are not those of a text encoder.
    pub fn append(&self, tensors: &mut Tensors) -> Result<Option<Range<i64>>> {
        let Some((name, table)) = TABLES.iter().find_map(|name| Some((*name, tensors.get(*name)?))) else {
            let problem = format!(
                "the text encoder has no token table for the embedding; expected a tensor {}",
                TABLES.join(" or ")
            );
            return Err(self.error(problem));
        };
        let (rows, width) = table.size2()?;
        let Some(vectors) = self.vectors.iter().find(|x| x.size().get(1) == Some(&width)) else { return Ok(None) };
        let added = vectors.f_to_device(table.device())?.f_to_kind(table.f_kind()?)?;
        let longer = Tensor::f_cat(&[table, &added], 0)?;
        let end = rows + added.size2()?.0;
        tensors.insert(name.into(), longer);
        Ok(Some(rows..end))
    }

    /// Returns the reason why none of a model's text encoders, `widths` wide, can read the embedding; `None` if one of
    /// them can.
    pub(crate) fn misfit(&self, widths: &[i64]) -> Option<String> {
        let own = self.widths();
        if own.iter().any(|width| widths.contains(width)) {
            return None;
        }
        if widths.is_empty() {
            return Some("this model has no text encoder; use embeddings with a model that reads text".into());
        }
        let name = |width: &i64| match ModelFamily::of_context(*width) {
            Some(family) => format!("{width} wide ({family})"),
            None => format!("{width} wide"),
        };
        let list = |widths: &[i64]| widths.iter().map(name).collect::<Vec<_>>().join(" and ");
        Some(format!(
            "the embedding is {}; this model's text encoder is {}; use an embedding for this model's family",
            list(&own),
            list(widths)
        ))
    }

    /// The error for this embedding's file.
    pub(crate) fn error(&self, problem: String) -> Error {
        Error::Malformed { file: self.file.clone(), problem }
    }
}
