//! Settings of a hub from environment variables; their names are those of Python's `huggingface_hub`.

use super::repository::Hub;
use crate::files;
use std::path::PathBuf;

/// Settings to reach a hub.
pub(super) struct Settings {
    pub endpoint: String,
    pub token: Option<String>,
    /// Folder of the cache; `None` if there is no home folder.
    pub cache: Option<PathBuf>,
    pub offline: bool,
}

impl Settings {
    /// Collects the settings of `hub`; the environment variables supply settings that `hub` leaves open.
    pub(super) fn of(hub: &Hub, variable: impl Fn(&str) -> Option<String>) -> Self {
        let folder = |name: &str| variable(name).map(|folder| expanded(&folder, variable("HOME")));
        let home = folder("HF_HOME").or_else(|| {
            let cache = folder("XDG_CACHE_HOME").or_else(|| Some(folder("HOME")?.join(".cache")));
            Some(cache?.join("huggingface"))
        });
        let read = |path: PathBuf| {
            let token = files::read_text(&path, files::LARGEST_CONFIG).ok()?.trim().to_owned();
            Some(token).filter(|token| !token.is_empty())
        };
        let implicit = || {
            let path = || folder("HF_TOKEN_PATH").or_else(|| Some(home.as_ref()?.join("token")));
            variable("HF_TOKEN")
                .or_else(|| read(path()?))
                .filter(|_| variable("HF_HUB_DISABLE_IMPLICIT_TOKEN").is_none())
        };
        let caches = || folder("HF_HUB_CACHE").or_else(|| folder("HUGGINGFACE_HUB_CACHE"));
        let yes = |value: String| ["1", "true", "yes", "on"].contains(&value.to_lowercase().as_str());
        let endpoint = hub.endpoint.clone().or_else(|| variable("HF_ENDPOINT"));
        Self {
            endpoint: endpoint.unwrap_or("https://huggingface.co".into()).trim_end_matches('/').into(),
            token: hub.token.clone().or_else(implicit),
            cache: hub.cache.clone().or_else(caches).or_else(|| Some(home.as_ref()?.join("hub"))),
            offline: hub.offline.unwrap_or_else(|| variable("HF_HUB_OFFLINE").is_some_and(yes)),
        }
    }
}

/// Expands `~/folder` to a folder in the home folder.
fn expanded(folder: &str, home: Option<String>) -> PathBuf {
    match (folder.strip_prefix("~/"), home) {
        (Some(inside), Some(home)) => PathBuf::from(home).join(inside),
        _ => PathBuf::from(folder),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> Settings {
        let variable =
            |name: &str| variables.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).into());
        Settings::of(&Hub::new("owner/name"), variable)
    }

    #[test]
    fn cache_folder_is_the_same_as_in_python() {
        let cache = |variables: &[(&str, &str)]| settings(variables).cache.unwrap().display().to_string();
        assert_eq!(cache(&[("HOME", "/h")]), "/h/.cache/huggingface/hub");
        assert_eq!(cache(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")]), "/x/huggingface/hub");
        assert_eq!(cache(&[("HOME", "/h"), ("HF_HOME", "~/f"), ("XDG_CACHE_HOME", "/x")]), "/h/f/hub");
        assert_eq!(cache(&[("HF_HOME", "/f"), ("HUGGINGFACE_HUB_CACHE", "/old")]), "/old");
        assert_eq!(cache(&[("HF_HUB_CACHE", "/c"), ("HUGGINGFACE_HUB_CACHE", "/old")]), "/c");
        assert!(settings(&[]).cache.is_none());
    }

    #[test]
    fn environment_sets_endpoint_offline_and_token() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("token"), "from a file\n").unwrap();
        let home = folder.path().to_str().unwrap();
        let all = settings(&[("HF_HOME", home), ("HF_ENDPOINT", "http://mirror/"), ("HF_HUB_OFFLINE", "ON")]);
        assert_eq!(
            (all.endpoint.as_str(), all.offline, all.token.as_deref()),
            ("http://mirror", true, Some("from a file"))
        );
        let token = |more: (&str, &str)| settings(&[("HF_HOME", home), more]).token;
        assert_eq!(token(("HF_TOKEN", "said")).as_deref(), Some("said"));
        assert_eq!(token(("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")), None);
        assert_eq!(token(("HF_TOKEN_PATH", "/nowhere")), None);
        let none = settings(&[("HF_HUB_OFFLINE", "0")]);
        assert_eq!((none.endpoint.as_str(), none.offline), ("https://huggingface.co", false));
    }
}
