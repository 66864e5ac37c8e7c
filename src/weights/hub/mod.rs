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

use super::file::{EXTENSIONS, is_weights};
use super::source::Source;
use crate::error::{Error, Result};
use crate::files;
use crate::wording::Remedy;
use choice::{Choice, weight_names};
use download::{Client, Progress, Stop};
use repository::{is_inside, is_plain};
use serde::Deserialize;
use settings::Settings;
use std::collections::BTreeMap;
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
    /// If the hub cannot be reached and the cache has all files, this method returns those in the cache. The notes of a
    /// model then say so.
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
        Ok(self.fetch_with_note(variant, &mut progress)?.0)
    }

    /// Fetches as [`fetch_with`](Self::fetch_with) does. Also returns a note if the hub could not be reached and the
    /// files are those in the cache.
    pub(crate) fn fetch_with_note(
        &self,
        variant: Option<&str>,
        progress: &mut Progress<'_>,
    ) -> Result<(Source, Option<String>)> {
        self.check()?;
        let settings = Settings::of(self, |name| std::env::var(name).ok().filter(|value| !value.is_empty()));
        let cache =
            settings.cache.ok_or_else(|| self.error(Remedy::Cache.after("there is no home folder for the cache")))?;
        let repo = hf_hub::Repo::with_revision(self.repository.clone(), hf_hub::RepoType::Model, self.revision.clone());
        let folder = cache.join(repo.folder_name());
        let cached = hf_hub::Cache::new(cache).repo(repo);
        if settings.offline {
            let way = "and downloads are disabled (by HF_HUB_OFFLINE or by the program)";
            return Ok((self.load_cached(&folder, variant, way)?, None));
        }
        let client = Client::new(self, settings.endpoint, settings.token, folder.clone());
        let (sha, listed) = match self.listed(&client) {
            Ok(listed) => listed,
            Err(Stop::Error(error)) => return Err(error),
            Err(Stop::Again(problem)) => {
                let source =
                    self.load_cached(&folder, variant, &format!("and the hub cannot be reached ({problem})"))?;
                let note = format!(
                    "the hub cannot be reached ({problem}); the model is the copy of {} in the cache; set \
                     HF_HUB_OFFLINE=1 to use the cache without a request",
                    self.repository
                );
                return Ok((source, Some(note)));
            }
        };
        let snapshot = folder.join("snapshots").join(&sha);
        let choice = Choice::of(self, &listed, variant, |file| {
            client.fetch(&sha, file, listed.get(file).copied(), progress)?;
            files::read(&snapshot.join(file), files::LARGEST_TEXT)
        })?;
        if let Some(variant) = variant.filter(|_| choice.is_unvaried()) {
            return Err(self.error(format!(
                "the repository has no {variant} files; its weights are {}; name no variant, because weights are \
                 converted on loading",
                weight_names(&listed, "").join(", ")
            )));
        }
        for file in choice.files() {
            client.fetch(&sha, file, listed.get(file).copied(), progress)?;
        }
        if self.revision != sha {
            cached.create_ref(&sha).map_err(|error| Error::io(folder.join("refs"), error))?;
        }
        Ok((choice.source(&snapshot), None))
    }

    /// Asks the hub for the commit of the revision, and for the commit's files with their sizes.
    fn listed(&self, client: &Client<'_>) -> std::result::Result<(String, BTreeMap<String, u64>), Stop> {
        let revision = self.revision.replace('/', "%2F");
        let Revision { sha } = client.json(&format!("api/models/{}/revision/{revision}", self.repository))?;
        if !is_plain(&sha) {
            return Err(Stop::Error(self.error(format!(
                "the hub answered with the commit \"{sha}\", which is not valid; use another endpoint or a folder"
            ))));
        }
        let listed = client.list(&sha)?;
        Ok((sha, listed))
    }

    /// Returns the source that is in the cache already, without any request. `reason` says in an error why nothing is
    /// downloaded.
    fn load_cached(&self, folder: &Path, variant: Option<&str>, reason: &str) -> Result<Source> {
        let missing = |what: String| {
            let command = format!("hf download {} --revision {}", self.repository, self.revision);
            self.error(format!("{what} is not in the cache, {reason}; run `{command}` with a network"))
        };
        let commit = files::read_text(&folder.join("refs").join(&self.revision), files::LARGEST_CONFIG);
        let commit = commit.map_or_else(|_| self.revision.clone(), |commit| commit.trim().to_owned());
        let snapshot = folder.join("snapshots").join(&commit);
        if !is_plain(&commit) || !snapshot.is_dir() {
            return Err(missing(format!("revision {}", self.revision)));
        }
        let listed = cache::files_of(&snapshot)?;
        if let Some(file) = self.file.as_ref().filter(|file| !listed.contains_key(*file)) {
            return Err(missing(file.clone()));
        }
        // The first file of a download is at the root.
        if listed.keys().all(|file| file.contains('/')) && self.file.is_none() {
            return Err(missing("model_index.json".into()));
        }
        let read = |file: &str| files::read(&snapshot.join(file), files::LARGEST_TEXT);
        let choice = Choice::of(self, &listed, variant, read)?;
        if let Some(variant) = variant.filter(|_| choice.is_unvaried()) {
            return Err(missing(format!("variant {variant}")));
        }
        match choice.missing(&listed) {
            Some(what) => Err(missing(what)),
            None => Ok(choice.source(&snapshot)),
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
            Some(file) if !is_inside(file) || !is_weights(file) => {
                let expected = EXTENSIONS.join(", .");
                Err(self.error(format!("\"{file}\" is not the path of a file of weights; expected .{expected}")))
            }
            _ => Ok(()),
        }
    }
}
