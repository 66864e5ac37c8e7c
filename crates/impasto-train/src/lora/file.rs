//! The file of a LoRA.

use impasto::weights::Tensors;
use impasto::{Error, Result};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use tch::{Device, Kind};
use tempfile::Builder;

/// Multiple of bytes at which the numbers of a safetensors file begin.
const ALIGNMENT: usize = 8;

/// A rule for a file that exists already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Existing {
    /// The file stays, and writing is an error.
    #[default]
    Keep,
    /// The file is replaced.
    Replace,
}

/// Writes tensors, in f32, and metadata into a `.safetensors` file, whole or not at all. Equal contents give equal
/// bytes.
///
/// # Errors
/// [`Error::Io`] with the path, also for an existing file that is to be kept; [`Error::Torch`].
pub fn write_lora(
    path: &Path,
    tensors: &Tensors,
    metadata: &BTreeMap<String, String>,
    existing: Existing,
) -> Result<()> {
    let bytes = safetensors(tensors, metadata)?;
    let at = |source| Error::Io { path: path.into(), source };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(at)?;
    let mut part = Builder::new().prefix(".lora-").make_in(folder, |part| File::create_new(part)).map_err(at)?;
    part.write_all(&bytes).and_then(|()| part.as_file().sync_all()).map_err(at)?;
    let named = match existing {
        Existing::Keep => part.persist_noclobber(path),
        Existing::Replace => part.persist(path),
    };
    named.map(drop).map_err(|failed| at(failed.error))
}

/// Returns the bytes of a safetensors file: the header's length, the header as JSON, and the numbers of all tensors.
fn safetensors(tensors: &Tensors, metadata: &BTreeMap<String, String>) -> Result<Vec<u8>> {
    let (mut header, mut numbers) = (Map::from_iter([("__metadata__".to_owned(), json!(metadata))]), Vec::new());
    for (name, x) in tensors {
        let start = numbers.len();
        let flat = x.f_detach()?.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?.f_flatten(0, -1)?;
        numbers.extend(Vec::<f32>::try_from(&flat)?.into_iter().flat_map(f32::to_le_bytes));
        let entry = json!({"dtype": "F32", "shape": x.size(), "data_offsets": [start, numbers.len()]});
        header.insert(name.clone(), entry);
    }
    let mut header = Value::Object(header).to_string();
    let padded = header.len().next_multiple_of(ALIGNMENT);
    header.extend(std::iter::repeat_n(' ', padded - header.len()));
    Ok([&(header.len() as u64).to_le_bytes(), header.as_bytes(), &numbers].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use impasto::weights::{Header, read_safetensors};
    use tch::Tensor;

    fn tensors() -> Tensors {
        let x = Tensor::from_slice(&[1.0f32, -2.5, 3.0, 0.1, 5.0, 6.0]).view([2, 3]);
        Tensors::from([("b".into(), x.transpose(0, 1)), ("a.alpha".into(), Tensor::from(4.0f32))])
    }

    fn metadata() -> BTreeMap<String, String> {
        BTreeMap::from([("ss_network_dim".into(), "4".into()), ("words".into(), "a \"quoted\" wörd".into())])
    }

    #[test]
    fn file_is_read_back_with_its_metadata() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/lora.safetensors");
        write_lora(&path, &tensors(), &metadata(), Existing::Keep)?;
        assert_eq!(read_safetensors(&path)?, tensors());
        assert_eq!(Header::open(&path)?.metadata, metadata());
        assert_eq!(fs::read(&path).unwrap(), safetensors(&tensors(), &metadata())?, "equal bytes");
        Ok(())
    }

    #[test]
    fn existing_file_stays_unless_it_is_replaced() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lora.safetensors");
        fs::write(&path, "mine").unwrap();
        let write = |existing| write_lora(&path, &tensors(), &metadata(), existing);
        let message = write(Existing::Keep).unwrap_err().to_string();
        assert!(message.contains("lora.safetensors"), "{message}");
        assert_eq!(fs::read(&path).unwrap(), b"mine");
        write(Existing::Replace)?;
        assert_eq!(read_safetensors(&path)?, tensors());
        let names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
        assert_eq!(names, ["lora.safetensors"], "nothing else is left");
        Ok(())
    }
}
