//! [`Hub`]: checkpoints of the Hugging Face hub, in the cache that Python's `huggingface_hub` uses too.
//!
//! The crate `hf-hub` supplies the layout of the cache; this module makes the requests itself. A download therefore
//! resumes where it was cut off, and is checked before any use. A request gives up on a server that went silent. Only
//! the hub's endpoint receives the token.

mod cache;
mod choice;
mod download;
mod repository;
mod settings;

pub use cache::CachedModel;
pub use download::Download;
pub use repository::Hub;

use super::source::Source;
use crate::error::{Error, Result};
use crate::files;
use crate::wording::Remedy;
use choice::Choice;
use download::{Client, Progress};
use repository::{is_inside, is_plain};
use serde::Deserialize;
use settings::Settings;
use std::path::Path;

/// The hub's answer about a revision.
#[derive(Deserialize)]
struct Revision {
    sha: String,
}

impl Hub {
    /// Fetches the needed files that are not in the cache yet, and returns their folder or file in the cache. `variant`
    /// means the same as in `LoadOptions`. Loading a model from a hub calls this method.
    ///
    /// # Errors
    /// [`Error::Hub`] with the hub's answer and what to do; [`Error::Io`]. A file that differs from the hub's
    /// description is deleted. A file that was cut off stays, and the next call resumes the download.
    pub fn fetch(&self, variant: Option<&str>) -> Result<Source> {
        self.fetch_with(variant, |_| {})
    }

    /// Fetches as [`fetch`](Self::fetch) does, and reports the progress several times for every MiB that arrives, file
    /// by file.
    ///
    /// ```no_run
    /// # fn main() -> impasto::Result<()> {
    /// use impasto::{Model, weights::Hub};
    ///
    /// let source = Hub::new("owner/name").fetch_with(None, |download| {
    ///     eprint!("\r{}: {:.0} MB", download.file, download.bytes as f64 / 1e6);
    /// })?;
    /// let model = Model::load(&source)?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// The errors of [`fetch`](Self::fetch).
    pub fn fetch_with(&self, variant: Option<&str>, mut progress: impl FnMut(&Download)) -> Result<Source> {
        let progress: &mut Progress<'_> = &mut progress;
        self.check()?;
        let settings = Settings::of(self, |name| std::env::var(name).ok().filter(|value| !value.is_empty()));
        let cache =
            settings.cache.ok_or_else(|| self.error(Remedy::Cache.after("there is no home folder for the cache")))?;
        let repo = hf_hub::Repo::with_revision(self.repository.clone(), hf_hub::RepoType::Model, self.revision.clone());
        let folder = cache.join(repo.folder_name());
        let cached = hf_hub::Cache::new(cache).repo(repo);
        if settings.offline {
            return self.cached(&folder);
        }
        let client = Client::new(self, settings.endpoint, settings.token, folder.clone());
        let revision = self.revision.replace('/', "%2F");
        let Revision { sha } = client.json(&format!("api/models/{}/revision/{revision}", self.repository))?;
        if !is_plain(&sha) {
            return Err(self.error(format!(
                "the hub answered with the commit \"{sha}\", which is not valid; use another endpoint or a folder"
            )));
        }
        let listed = client.list(&sha)?;
        let snapshot = folder.join("snapshots").join(&sha);
        let choice = Choice::of(self, &listed, variant, |file| {
            client.fetch(&sha, file, listed.get(file).copied(), progress)?;
            files::read(&snapshot.join(file), files::LARGEST_TEXT)
        })?;
        for file in choice.files() {
            client.fetch(&sha, file, listed.get(file).copied(), progress)?;
        }
        if self.revision != sha {
            cached.create_ref(&sha).map_err(|error| Error::io(folder.join("refs"), error))?;
        }
        Ok(choice.source(&snapshot))
    }

    /// Returns the source that is in the cache already, without any request.
    fn cached(&self, folder: &Path) -> Result<Source> {
        let commit = files::read_text(&folder.join("refs").join(&self.revision), files::LARGEST_CONFIG);
        let commit = commit.map_or_else(|_| self.revision.clone(), |commit| commit.trim().to_owned());
        let snapshot = folder.join("snapshots").join(&commit);
        let missing = |what: String| {
            let command = format!("hf download {} --revision {}", self.repository, self.revision);
            Err(self
                .error(format!("{what} is not in the cache, and downloads are disabled (offline); run `{command}`")))
        };
        if !is_plain(&commit) || !snapshot.is_dir() {
            return missing(format!("revision {}", self.revision));
        }
        let names = std::fs::read_dir(&snapshot).map_err(|error| Error::io(&snapshot, error))?;
        let single = || {
            let names = names.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
            let mut files = names.filter(|name| name.ends_with(".safetensors"));
            files.next().filter(|_| files.next().is_none())
        };
        match &self.file {
            Some(file) if snapshot.join(file).is_file() => Ok(Source::File(snapshot.join(file))),
            Some(file) => missing(file.clone()),
            None if ["model_index.json", "config.json"].iter().any(|file| snapshot.join(file).is_file()) => {
                Ok(Source::Dir(snapshot))
            }
            None => match single() {
                Some(file) => Ok(Source::File(snapshot.join(file))),
                None => missing("model_index.json".into()),
            },
        }
    }

    /// Checks the names, because they become parts of addresses and paths.
    fn check(&self) -> Result<()> {
        let parts: Vec<&str> = self.repository.split('/').collect();
        if parts.len() != 2 || !parts.iter().all(|part| is_plain(part)) {
            return Err(self.error("the name is not that of a repository; expected owner/name"));
        }
        if !self.revision.split('/').all(is_plain) {
            return Err(
                self.error(format!("\"{}\" is not a revision; expected a branch, a tag or a commit", self.revision))
            );
        }
        match &self.file {
            Some(file) if !is_inside(file) || !file.ends_with(".safetensors") => {
                Err(self.error(format!("\"{file}\" is not the path of a .safetensors file in a repository")))
            }
            _ => Ok(()),
        }
    }
}
