//! A repository, and how it is reached.

use crate::error::Error;
use std::fmt;
use std::path::PathBuf;
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
#[must_use]
pub struct Hub {
    pub(super) repository: String,
    pub(super) revision: String,
    pub(super) file: Option<String>,
    pub(super) token: Option<String>,
    pub(super) endpoint: Option<String>,
    pub(super) cache: Option<PathBuf>,
    pub(super) offline: Option<bool>,
    pub(super) patience: Duration,
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { repository, revision, file, endpoint, cache, offline, .. } = self; // and not the token
        let mut hub = f.debug_struct("Hub");
        hub.field("repository", repository).field("revision", revision).field("file", file);
        hub.field("endpoint", endpoint).field("cache", cache).field("offline", offline).finish_non_exhaustive()
    }
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
    pub(crate) fn repository(&self) -> &str {
        &self.repository
    }

    /// The error for this repository.
    pub(crate) fn error(&self, problem: impl Into<String>) -> Error {
        Error::Hub { repository: self.repository.clone(), problem: problem.into() }
    }
}

/// May `name` be a part of a path? Letters, digits, `.`, `_` and `-`, and not only dots.
pub(super) fn is_plain(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !name.is_empty() && name.chars().all(allowed) && name.chars().any(|c| c != '.')
}

/// Is that the path of a file inside a folder? Spaces and other signs are fine.
pub(super) fn is_inside(path: &str) -> bool {
    let part = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains(['\\', ':', '\0']);
    path.split('/').all(part)
}
