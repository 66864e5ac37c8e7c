//! [`Hub`]: checkpoints of the Hugging Face hub, in the cache that Python uses too.
//!
//! `hf-hub` knows the cache; requests are made here, so that a download goes on where it was cut off, is checked before
//! anybody reads it, gives up on a server that went silent, and tells no other host the token.

mod choice;
mod download;
mod settings;

use super::source::Source;
use crate::error::{Error, Result};
use crate::files;
use choice::Choice;
pub use download::Download;
use download::{Client, Progress};
use serde::Deserialize;
use settings::Settings;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A repository of the Hugging Face hub or of a mirror, and how to get it.
///
/// | setter | default |
/// |---|---|
/// | [`revision`](Self::revision) | `main` |
/// | [`file`](Self::file) | a diffusers folder, or the only `.safetensors` file |
/// | [`token`](Self::token) | `HF_TOKEN`, the file `HF_TOKEN_PATH`, `$HF_HOME/token` |
/// | [`endpoint`](Self::endpoint) | `HF_ENDPOINT`, `https://huggingface.co` |
/// | [`cache`](Self::cache) | `HF_HUB_CACHE`, `$HF_HOME/hub`, `$XDG_CACHE_HOME/huggingface/hub`, `~/.cache/huggingface/hub` |
/// | [`offline`](Self::offline) | whether `HF_HUB_OFFLINE` is 1, true, yes or on |
/// | [`patience`](Self::patience) | 30 s |
#[derive(Clone, PartialEq, Eq)]
pub struct Hub {
    repository: String,
    revision: String,
    file: Option<String>,
    token: Option<String>,
    endpoint: Option<String>,
    cache: Option<PathBuf>,
    offline: Option<bool>,
    patience: Duration,
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { repository, revision, file, endpoint, cache, offline, .. } = self; // and not the token
        let mut hub = f.debug_struct("Hub");
        hub.field("repository", repository).field("revision", revision).field("file", file);
        hub.field("endpoint", endpoint).field("cache", cache).field("offline", offline).finish_non_exhaustive()
    }
}

/// What the hub says about a revision.
#[derive(Deserialize)]
struct Revision {
    sha: String,
}

impl Hub {
    /// `owner/name`.
    pub fn new(repository: impl Into<String>) -> Self {
        Self {
            repository: repository.into(),
            revision: "main".into(),
            file: None,
            token: None,
            endpoint: None,
            cache: None,
            offline: None,
            patience: Duration::from_secs(30),
        }
    }

    /// A branch, a tag or a commit.
    pub fn revision(mut self, revision: impl Into<String>) -> Self {
        self.revision = revision.into();
        self
    }

    /// One `.safetensors` file of the repository.
    pub fn file(mut self, file: impl Into<String>) -> Self {
        self.file = Some(file.into());
        self
    }

    /// Who asks; for repositories that not everybody may read. It is told to the endpoint alone.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Another hub, such as a mirror: `https://host`.
    pub fn endpoint(mut self, endpoint: impl Into<String>) -> Self {
        self.endpoint = Some(endpoint.into());
        self
    }

    /// Another cache.
    pub fn cache(mut self, folder: impl Into<PathBuf>) -> Self {
        self.cache = Some(folder.into());
        self
    }

    /// Only what is in the cache, without asking anybody?
    pub fn offline(mut self, offline: bool) -> Self {
        self.offline = Some(offline);
        self
    }

    /// How long a server may be silent before it is given up. The headers of an answer have to be there within twice that time,
    /// and what follows has to bring 1 KiB a second on average over it.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// `owner/name`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The error for this repository.
    pub(super) fn error(&self, problem: impl Into<String>) -> Error {
        Error::Hub { repository: self.repository.clone(), problem: problem.into() }
    }

    /// Fetches what is needed and is not in the cache yet: the folder or the file there. `variant` is that of
    /// `LoadOptions`. Loading does the same.
    ///
    /// # Errors
    /// [`Error::Hub`] with what the hub said and what to do; [`Error::Io`]. What arrived otherwise than the hub says it is
    /// is deleted; what was cut off stays, and the next call goes on there.
    pub fn fetch(&self, variant: Option<&str>) -> Result<Source> {
        self.fetch_with(variant, |_| {})
    }

    /// As [`fetch`](Self::fetch), and tells how far it has come: some times for every MiB that arrives, file by file.
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
    /// As [`fetch`](Self::fetch).
    pub fn fetch_with(&self, variant: Option<&str>, mut progress: impl FnMut(&Download)) -> Result<Source> {
        let progress: &mut Progress<'_> = &mut progress;
        self.check()?;
        let settings = Settings::of(self, |name| std::env::var(name).ok().filter(|value| !value.is_empty()));
        let cache = settings.cache.ok_or_else(|| self.error("there is no home folder; say where with `cache`"))?;
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
            return Err(self.error(format!("the hub calls its commit \"{sha}\", which is none")));
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

    /// What is in the cache already.
    fn cached(&self, folder: &Path) -> Result<Source> {
        let commit = files::read_text(&folder.join("refs").join(&self.revision), files::LARGEST_CONFIG);
        let commit = commit.map_or_else(|_| self.revision.clone(), |commit| commit.trim().to_owned());
        let snapshot = folder.join("snapshots").join(&commit);
        let missing = |what: String| {
            let command = format!("hf download {} --revision {}", self.repository, self.revision);
            Err(self.error(format!("{what} is not in the cache, and nobody may be asked (offline); run `{command}`")))
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

    /// Names become parts of addresses and paths.
    fn check(&self) -> Result<()> {
        let parts: Vec<&str> = self.repository.split('/').collect();
        if parts.len() != 2 || !parts.iter().all(|part| is_plain(part)) {
            return Err(self.error("is no repository; expected owner/name"));
        }
        if !self.revision.split('/').all(is_plain) {
            return Err(self.error(format!("\"{}\" is no revision", self.revision)));
        }
        match &self.file {
            Some(file) if !is_inside(file) || !file.ends_with(".safetensors") => {
                Err(self.error(format!("\"{file}\" is no .safetensors file of a repository")))
            }
            _ => Ok(()),
        }
    }
}

/// May `name` be a part of a path? Letters, digits, `.`, `_` and `-`, and not only dots.
fn is_plain(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !name.is_empty() && name.chars().all(allowed) && name.chars().any(|c| c != '.')
}

/// Is that the path of a file inside a folder? Spaces and other signs are fine.
fn is_inside(path: &str) -> bool {
    let part = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains(['\\', ':', '\0']);
    path.split('/').all(part)
}
