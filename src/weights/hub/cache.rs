//! [`CachedModel`]: the checkpoints that the cache of the Hugging Face hub holds.

use super::repository::Hub;
use super::settings::Settings;
use crate::error::{Error, Result};
use crate::files;
use crate::json;
use crate::weights::file::is_weights;
use crate::weights::single::SingleFile;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A checkpoint in the cache of the Hugging Face hub.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CachedModel {
    /// `owner/name`.
    pub repository: String,
    /// Folder of the newest commit in the cache.
    pub folder: PathBuf,
    /// Size of the commit's files in bytes.
    pub bytes: u64,
    /// Class that `model_index.json` or `config.json` names, else the contents of the `.safetensors` files; empty if
    /// neither is known.
    pub kind: String,
}

impl CachedModel {
    /// Returns the checkpoints in the cache that Python's `huggingface_hub` uses too, sorted by repository; none if the
    /// cache does not exist. Environment variables (`HF_HUB_CACHE`, `HF_HOME`) choose the cache.
    ///
    /// # Errors
    /// [`Error::Io`] if the cache cannot be read.
    pub fn all() -> Result<Vec<Self>> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        match Settings::of(&Hub::new(""), variable).cache {
            Some(cache) => Self::all_in(&cache),
            None => Ok(Vec::new()),
        }
    }

    /// Returns the checkpoints in a folder that has the layout of the hub's cache, sorted by repository.
    ///
    /// # Errors
    /// [`Error::Io`] if the folder exists and cannot be read.
    fn all_in(cache: &Path) -> Result<Vec<Self>> {
        if !cache.exists() {
            return Ok(Vec::new());
        }
        let mut models = Vec::new();
        for (name, folder) in entries(cache)? {
            let Some(repository) = name.strip_prefix("models--") else { continue };
            // A repository whose download was cut off may have no snapshot yet.
            let Some(snapshot) = newest(&folder) else { continue };
            let files = below(&snapshot)?;
            let bytes = files.iter().filter_map(|file| Some(fs::metadata(file).ok()?.len())).sum();
            models.push(Self {
                repository: repository.replacen("--", "/", 1),
                bytes,
                kind: kind(&snapshot, &files),
                folder: snapshot,
            });
        }
        models.sort_by(|a, b| a.repository.cmp(&b.repository));
        Ok(models)
    }
}

/// Returns the names and paths of the entries in a folder.
fn entries(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let read = || -> std::io::Result<Vec<(String, PathBuf)>> {
        let entries = fs::read_dir(folder)?.collect::<std::io::Result<Vec<_>>>()?;
        Ok(entries.into_iter().map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path())).collect())
    };
    read().map_err(|error| Error::io(folder, error))
}

/// Returns the snapshot of a repository that was changed last; `None` if the repository has none.
fn newest(repository: &Path) -> Option<PathBuf> {
    let snapshots = fs::read_dir(repository.join("snapshots")).ok()?.flatten().map(|entry| entry.path());
    snapshots.filter(|path| path.is_dir()).max_by_key(|path| fs::metadata(path).and_then(|found| found.modified()).ok())
}

/// Returns the files of a snapshot that are there whole, with their sizes in bytes.
pub(super) fn files_of(snapshot: &Path) -> Result<BTreeMap<String, u64>> {
    let named = |path: PathBuf| {
        let kind = fs::metadata(&path).ok().filter(fs::Metadata::is_file)?;
        let parts = path.strip_prefix(snapshot).ok()?.iter().map(|part| part.to_str());
        Some((parts.collect::<Option<Vec<_>>>()?.join("/"), kind.len()))
    };
    Ok(below(snapshot)?.into_iter().filter_map(named).collect())
}

/// Returns all files below a folder. Links to folders are not followed, because they may form a circle.
fn below(folder: &Path) -> Result<Vec<PathBuf>> {
    let (mut files, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for (_, path) in entries(&folder)? {
            match fs::symlink_metadata(&path) {
                Ok(found) if found.is_dir() => folders.push(path),
                _ => files.push(path),
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Describes a snapshot by the first of its files that tells its kind.
fn kind(snapshot: &Path, files: &[PathBuf]) -> String {
    #[derive(Deserialize)]
    struct Class {
        #[serde(rename = "_class_name")]
        name: Option<String>,
        architectures: Option<Vec<String>>,
    }
    let class = |file: &str| {
        let text = files::read_text(&snapshot.join(file), files::LARGEST_CONFIG).ok()?;
        let class: Class = json::parse(&text).ok()?;
        class.name.or_else(|| class.architectures?.into_iter().next())
    };
    let single = || {
        let file = files.iter().find(|file| is_weights(file))?;
        Some(SingleFile::open(file).ok()?.contents().ok()?.to_string())
    };
    let index = class("model_index.json").or_else(|| class("modular_model_index.json"));
    index.or_else(|| class("config.json")).or_else(single).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cached_models_are_listed_with_sizes() {
        let cache = tempfile::tempdir().unwrap();
        let snapshot = cache.path().join("models--owner--some--name/snapshots/abc");
        fs::create_dir_all(snapshot.join("unet")).unwrap();
        fs::write(snapshot.join("model_index.json"), r#"{"_class_name": "StableDiffusionPipeline"}"#).unwrap();
        fs::write(snapshot.join("unet/weights"), [0; 1000]).unwrap();
        fs::create_dir_all(cache.path().join("models--owner--cut-off/blobs")).unwrap();
        fs::create_dir_all(cache.path().join("datasets--owner--pictures/snapshots/abc")).unwrap();
        let [model] = &CachedModel::all_in(cache.path()).unwrap()[..] else { panic!("one model") };
        assert_eq!(model.repository, "owner/some--name");
        assert_eq!((model.kind.as_str(), model.bytes), ("StableDiffusionPipeline", 1000 + 42));
        assert_eq!(model.folder, snapshot);
    }

    #[test]
    fn a_modular_folder_has_the_kind_of_its_index() {
        let cache = tempfile::tempdir().unwrap();
        let snapshot = cache.path().join("models--owner--anima/snapshots/abc");
        fs::create_dir_all(&snapshot).unwrap();
        fs::write(snapshot.join("modular_model_index.json"), r#"{"_class_name": "AnimaModularPipeline"}"#).unwrap();
        let [model] = &CachedModel::all_in(cache.path()).unwrap()[..] else { panic!("one model") };
        assert_eq!(model.kind, "AnimaModularPipeline");
    }

    #[test]
    fn cache_that_does_not_exist_is_empty() {
        assert_eq!(CachedModel::all_in(Path::new("/does/not/exist")).unwrap(), []);
    }
}
