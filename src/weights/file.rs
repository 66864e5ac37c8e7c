//! Files of weights in any format, recognized by their first bytes.

use super::mapped::{Storage, Tensors, map};
use super::pickle::{self, Flaw};
use super::safetensors;
use crate::error::{Error, Result};
use crate::files;
use crate::wording::excerpt;
use std::collections::BTreeMap;
use std::io::{Read, Seek};
use std::path::Path;
use tch::{Kind, Tensor};

/// The tensors of a model's networks, by part: `unet`, `text_encoder`, `text_encoder_2`, `vae`.
pub type Parts = BTreeMap<String, Tensors>;

/// Endings of the names of files of weights, the preferred one first. The contents, not the name, decide how a file is
/// read.
pub(crate) const EXTENSIONS: [&str; 5] = ["safetensors", "ckpt", "pt", "pth", "bin"];

/// Number of bytes at the start of a file that identify its format.
const START: u64 = 512;

/// Returns true if a path ends as the names of files of weights do.
pub(crate) fn is_weights(path: impl AsRef<Path>) -> bool {
    let extension = path.as_ref().extension().map(|extension| extension.to_ascii_lowercase());
    extension.is_some_and(|extension| EXTENSIONS.iter().any(|known| extension == *known))
}

/// Reads the tensors of a file of weights, on the CPU and in their stored kinds. The file is a safetensors file or a
/// checkpoint of PyTorch (`.ckpt`, `.pt`, `.pth`, `.bin`); its contents tell, and not its name.
///
/// The tensors are views of the mapped file, so reading takes no memory for their values, except for files of
/// big-endian machines. The file must not be shortened while the tensors are used. Tensors that begin in the same
/// 32 MiB of the file share a mapping, which ends when the last of these tensors is dropped.
///
/// A checkpoint of PyTorch is a pickle of Python. Nothing in it is run: objects of classes are skipped, and a pickle
/// that names a function for running programs is refused. The tensors are those in its `state_dict`, if there is one;
/// the names of dictionaries inside each other are joined by dots.
///
/// # Errors
/// [`Error::Io`], or [`Error::Malformed`] with a description of the file: cut off, an HTML page, a git-lfs pointer, a
/// pickle without tensors or with a function that could do harm.
pub fn read_tensors(path: &Path) -> Result<Tensors> {
    map(path, &open(path)?.storages)
}

/// Reads the tensors of a file as [`read_tensors`] does, and its header.
pub(super) fn read_with_header(path: &Path) -> Result<(Tensors, Header)> {
    let contents = open(path)?;
    Ok((map(path, &contents.storages)?, Header::new(path, contents)))
}

/// The header of a file of weights: names, shapes and kinds of the tensors, and the file's metadata.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Header {
    /// Name of the file in messages.
    pub file: String,
    /// Shape and kind of every tensor, by name.
    pub tensors: BTreeMap<String, Stored>,
    /// Metadata of the file, such as `modelspec.architecture`; texts and integers of a checkpoint of PyTorch, such as
    /// `epoch`.
    pub metadata: BTreeMap<String, String>,
    /// Number of objects of a checkpoint of PyTorch that were skipped, by the name of their class. The number is 0 for
    /// a class or function that is only named.
    pub skipped: BTreeMap<String, usize>,
}

/// Shape and kind of a tensor in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stored {
    /// Shape of the tensor.
    pub shape: Vec<i64>,
    /// Kind of the stored numbers.
    pub kind: Kind,
}

impl Header {
    /// Reads and checks the header of a file; the tensors stay in the file.
    ///
    /// # Errors
    /// The errors of [`read_tensors`].
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self::new(path, open(path)?))
    }

    fn new(path: &Path, pickle::Contents { storages, metadata, skipped }: pickle::Contents) -> Self {
        let mut tensors = BTreeMap::new();
        for Storage { kind, views, .. } in storages {
            tensors.extend(views.into_iter().map(|view| (view.name, Stored { shape: view.shape, kind })));
        }
        Self { file: path.display().to_string(), tensors, metadata, skipped }
    }

    /// Describes tensors that are in memory already; `file` names them in messages.
    pub fn of(file: impl Into<String>, tensors: &Tensors) -> Self {
        let stored = |(name, x): (&String, &Tensor)| (name.clone(), Stored { shape: x.size(), kind: x.kind() });
        Self { file: file.into(), tensors: tensors.iter().map(stored).collect(), ..Self::default() }
    }

    /// Returns the shape of a tensor; `None` if no tensor has that name.
    pub(crate) fn shape(&self, name: &str) -> Option<&[i64]> {
        self.tensors.get(name).map(|stored| stored.shape.as_slice())
    }

    /// Returns notes about skipped objects and about weights in fp8, one sentence each.
    pub(super) fn notes(&self) -> Vec<String> {
        let fp8 = note_fp8(&self.file, self.tensors.values().map(|stored| stored.kind));
        self.note().into_iter().chain(fp8).collect()
    }

    /// Returns a note about the objects that were skipped; `None` if there are none.
    pub(crate) fn note(&self) -> Option<String> {
        const SHOWN: usize = 5;
        let (file, count) = (&self.file, self.skipped.len());
        let shown = self.skipped.iter().take(SHOWN).map(|(name, count)| format!("{} ({count})", excerpt(name, 80)));
        let shown = shown.collect::<Vec<_>>().join(", ");
        let more = if count > SHOWN { ", …" } else { "" };
        (count > 0).then(|| format!("{file}: objects of {count} Python classes were skipped: {shown}{more}"))
    }
}

/// Returns a note about tensors of a file that are stored in fp8; `None` if there are none. `kinds` are the kinds of
/// all tensors.
pub(super) fn note_fp8(file: &str, kinds: impl Iterator<Item = Kind>) -> Option<String> {
    let (mut all, mut fp8) = (0, 0);
    for kind in kinds {
        all += 1;
        fp8 += usize::from(matches!(kind, Kind::Float8e4m3fn | Kind::Float8e5m2));
    }
    (fp8 > 0).then(|| {
        format!(
            "{file}: {fp8} of {all} tensors are stored in fp8, which is less exact than f16; prefer the f16 or bf16 \
             file of the same model"
        )
    })
}

/// Opens a file of any format, and reads what it says about its tensors.
fn open(path: &Path) -> Result<pickle::Contents> {
    let io = |source| Error::io(path, source);
    let mut file = files::open(path)?;
    let total = file.metadata().map_err(io)?.len();
    let mut start = Vec::new();
    file.by_ref().take(START).read_to_end(&mut start).map_err(io)?;
    file.rewind().map_err(io)?;
    if safetensors::is_header(&start) || !pickle::is_pickle(&start) {
        let (storages, metadata) = safetensors::read_entries(path)?;
        return Ok(pickle::Contents { storages, metadata, skipped: BTreeMap::new() });
    }
    pickle::read(file, &start, total).map_err(|flaw| match flaw {
        Flaw::Io(source) => io(source),
        Flaw::Problem(problem) => Error::Malformed { file: path.display().to_string(), problem },
    })
}

#[cfg(test)]
mod tests {
    use super::super::pickle::tests::checkpoint;
    use super::*;
    use std::fs;

    #[test]
    fn header_lists_shapes_kinds_and_metadata() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let json = r#"{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]}}"#;
        fs::write(&path, [&(json.len() as u64).to_le_bytes()[..], json.as_bytes(), &[0; 8]].concat()).unwrap();
        let header = Header::open(&path)?;
        assert_eq!((header.shape("a"), header.shape("c")), (Some([2, 1].as_slice()), None));
        assert_eq!((header.tensors["a"].kind, header.metadata["format"].as_str()), (Kind::Float, "pt"));
        assert_eq!((header.skipped.len(), header.note()), (0, None));
        Ok(())
    }

    #[test]
    fn contents_and_not_names_tell_the_format() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let (pickle, plain) = (folder.path().join("a.safetensors"), folder.path().join("a.ckpt"));
        fs::write(&pickle, checkpoint(&["pickled"])).unwrap();
        // The lengths of these headers begin as a pickle and as a zip file do.
        for length in [0x0280, u64::from_le_bytes(*b"PK\x03\x04\0\0\0\0")] {
            let json = r#"{"plain":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
            let spaces = vec![b' '; length as usize - json.len()];
            fs::write(&plain, [&length.to_le_bytes()[..], json.as_bytes(), &spaces, &[0; 4]].concat()).unwrap();
            assert_eq!(read_tensors(&plain)?.keys().collect::<Vec<_>>(), ["plain"]);
        }
        assert_eq!(read_tensors(&pickle)?.keys().collect::<Vec<_>>(), ["pickled"]);
        assert_eq!(
            [&*pickle, &plain, Path::new("a.PTH"), Path::new("a.png")].map(is_weights),
            [true, true, true, false]
        );
        Ok(())
    }
}
