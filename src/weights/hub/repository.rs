//! A repository, and the settings to reach it.

use crate::error::Error;
use crate::wording::Note;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// A repository of the Hugging Face hub or of a mirror, and the way to reach it.
///
/// ```
/// use impasto::weights::Hub;
///
/// let mut older = Hub::new("owner/name");
/// older.revision = "v1.0".into();
/// older.offline = Some(true);
/// ```
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
#[must_use]
pub struct Hub {
    /// Name of the repository, `owner/name`.
    pub repository: String,
    /// Branch, tag or commit; `main` by default.
    pub revision: String,
    /// One file of weights of the repository, by its path such as `split_files/vae/qwen_image_vae.safetensors`. `None`
    /// means a diffusers folder, or the only file of weights at the root; safetensors are preferred.
    pub file: Option<String>,
    /// Access token of the user, for repositories with restricted access. `None` means `HF_TOKEN`, the file
    /// `HF_TOKEN_PATH` or `$HF_HOME/token`. Only the endpoint receives the token, and `Debug` does not show it.
    pub token: Option<String>,
    /// Address of another hub, such as a mirror: `https://host`. `None` means `HF_ENDPOINT`, else
    /// `https://huggingface.co`.
    pub endpoint: Option<String>,
    /// Folder of the cache. `None` means `HF_HUB_CACHE`, `$HF_HOME/hub`, `$XDG_CACHE_HOME/huggingface/hub` or
    /// `~/.cache/huggingface/hub`.
    pub cache: Option<PathBuf>,
    /// Set to true to read only the cache and send no requests. `None` means true if `HF_HUB_OFFLINE` is 1, true, yes
    /// or on.
    pub offline: Option<bool>,
    /// Longest silence of a server before a request is given up; 30 s by default. The headers of an answer have to
    /// arrive within twice that time. The content has to arrive at 1 KiB a second or more, on average over the
    /// `patience`.
    pub patience: Duration,
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { repository, revision, file, endpoint, cache, offline, .. } = self; // without the token
        let mut hub = f.debug_struct("Hub");
        hub.field("repository", repository).field("revision", revision).field("file", file);
        hub.field("endpoint", endpoint).field("cache", cache).field("offline", offline).finish_non_exhaustive()
    }
}

impl Hub {
    /// Describes the repository `owner/name` with the settings of the environment variables.
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

    /// Returns the name of the repository, `owner/name`.
    pub(crate) fn repository(&self) -> &str {
        &self.repository
    }

    /// The error for this repository.
    pub(crate) fn error(&self, problem: impl Into<Note>) -> Error {
        Error::Hub { repository: self.repository.clone(), problem: problem.into() }
    }
}

/// Returns true if `name` may be a part of a path: letters, digits, `.`, `_` and `-`, and not only dots.
pub(super) fn is_plain(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !name.is_empty() && name.chars().all(allowed) && name.chars().any(|c| c != '.')
}

/// Returns true if `path` stays inside its folder. Spaces are allowed, but `\`, `:` and NUL are not.
pub(super) fn is_inside(path: &str) -> bool {
    let part = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains(['\\', ':', '\0']);
    path.split('/').all(part)
}
