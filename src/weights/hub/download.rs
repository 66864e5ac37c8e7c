//! Requests to a hub, and files that arrive whole or not at all.

use super::{Hub, is_inside, is_plain};
use crate::error::{Error, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use ureq::{Agent, Response};

/// How often a download that was cut off goes on.
const TRIES: u32 = 5;
/// How many redirects are followed.
const REDIRECTS: usize = 10;
/// Pages of a list of files that are read.
const PAGES: usize = 100;
/// Longest answer that is not a file.
const LONGEST: u64 = 64 << 20;

pub(super) struct Client<'h> {
    hub: &'h Hub,
    agent: Agent,
    endpoint: String,
    token: Option<String>,
    /// The repository's folder in the cache.
    folder: PathBuf,
}

/// An entry of a repository.
#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    #[serde(default)]
    size: u64,
}

/// What a file in a repository is.
struct Known {
    /// Of its content: a SHA-256 if it is a large one.
    etag: String,
    size: Option<u64>,
}

impl<'h> Client<'h> {
    pub fn new(hub: &'h Hub, endpoint: String, token: Option<String>, folder: PathBuf) -> Self {
        let agent = ureq::builder()
            .try_proxy_from_env(true)
            .redirects(0)
            .timeout_connect(hub.patience)
            .timeout_read(hub.patience)
            .timeout_write(hub.patience)
            .build();
        Self { hub, agent, endpoint, token, folder }
    }

    /// An answer as JSON, by its path below the endpoint.
    pub fn json<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.parsed(self.follow("GET", &format!("{}/{path}", self.endpoint), None)?)
    }

    fn parsed<T: DeserializeOwned>(&self, response: Response) -> Result<T> {
        let url = response.get_url().to_owned();
        let mut text = Vec::new();
        let read = response.into_reader().take(LONGEST).read_to_end(&mut text);
        read.map_err(|error| self.hub.error(format!("{url}: {error}")))?;
        serde_json::from_slice(&text).map_err(|error| self.hub.error(format!("{url} is no answer of a hub: {error}")))
    }

    /// All files of a commit with their sizes.
    pub fn list(&self, commit: &str) -> Result<BTreeMap<String, u64>> {
        let mut url = format!("{}/api/models/{}/tree/{commit}?recursive=true", self.endpoint, self.hub.repository);
        let mut files = BTreeMap::new();
        for _ in 0..PAGES {
            let response = self.follow("GET", &url, None)?;
            let next = response.header("link").and_then(|link| {
                let (address, _) = link.split(',').find(|link| link.contains("rel=\"next\""))?.split_once('>')?;
                Some(address.trim().trim_start_matches('<').to_owned())
            });
            let entries: Vec<Entry> = self.parsed(response)?;
            let files_of = entries.into_iter().filter(|entry| entry.kind == "file" && is_inside(&entry.path));
            files.extend(files_of.map(|entry| (entry.path, entry.size)));
            match next {
                Some(next) => url = self.absolute(&url, &next),
                None => break,
            }
        }
        Ok(files)
    }

    /// Puts a file of a commit into the cache, unless it is there. `size` is what the list says.
    pub fn fetch(&self, commit: &str, file: &str, size: Option<u64>) -> Result<()> {
        let pointer = self.folder.join("snapshots").join(commit).join(file);
        if fs::metadata(&pointer).is_ok_and(|there| there.is_file() && size.is_none_or(|size| there.len() == size)) {
            return Ok(());
        }
        let address: Vec<String> = file.split('/').map(encoded).collect();
        let url = format!("{}/{}/resolve/{commit}/{}", self.endpoint, self.hub.repository, address.join("/"));
        let known = self.known(&url, file)?;
        let blobs = self.folder.join("blobs");
        fs::create_dir_all(&blobs).map_err(|error| Error::io(&blobs, error))?;
        let blob = blobs.join(&known.etag);
        let whole =
            |blob: &Path| fs::metadata(blob).is_ok_and(|there| known.size.is_none_or(|size| there.len() == size));
        if !whole(&blob) {
            let turn = Turn::take(&blob, self.hub)?;
            if !whole(&blob) {
                self.download(&url, file, &known, &blob)?;
            }
            drop(turn);
        }
        link(&blob, &pointer, file)
    }

    /// Asks what a file is, without its content.
    fn known(&self, url: &str, file: &str) -> Result<Known> {
        let mut url = url.to_owned();
        for _ in 0..REDIRECTS {
            let response = self.request("HEAD", &url, None)?;
            let location = response.header("location").map(str::to_owned);
            // A redirect within the hub is a renamed repository; one to elsewhere is where the content is.
            if let (300..=399, Some(location)) = (response.status(), &location)
                && response.header("x-linked-etag").is_none()
                && self.absolute(&url, location).starts_with(&format!("{}/", self.endpoint))
            {
                url = self.absolute(&url, location);
                continue;
            }
            let header = |name: &str| response.header(name).map(str::to_owned);
            if header("x-repo-commit").is_none() {
                let problem =
                    format!("{} does not send X-Repo-Commit; use another endpoint or a folder", self.endpoint);
                return Err(self.hub.error(problem));
            }
            let etag = header("x-linked-etag").or_else(|| header("etag")).unwrap_or_default();
            let etag = etag.trim_start_matches("W/").trim_matches('"').to_owned();
            if !is_plain(&etag) {
                return Err(self.hub.error(format!("{file} has the etag \"{etag}\", which is none")));
            }
            let redirected = (300..400).contains(&response.status());
            let size = header("x-linked-size").or_else(|| header("content-length").filter(|_| !redirected));
            return Ok(Known { etag, size: size.and_then(|size| size.parse().ok()) });
        }
        Err(self.hub.error(format!("{file} is redirected in circles")))
    }

    /// Fetches a file's content, going on where an earlier try was cut off, and checks it.
    fn download(&self, url: &str, file: &str, known: &Known, blob: &Path) -> Result<()> {
        let part = PathBuf::from(format!("{}.incomplete", blob.display()));
        let mut last = None;
        for attempt in 0..TRIES {
            if attempt > 0 {
                std::thread::sleep(Duration::from_millis(100 << attempt).min(self.hub.patience));
            }
            match self.go_on(url, known, &part) {
                Ok(()) => return self.finish(file, known, &part, blob),
                Err(Stop::Again(problem)) => last = Some(problem),
                Err(Stop::Error(error)) => return Err(error),
            }
        }
        let got = fs::metadata(&part).map_or(0, |part| part.len());
        let problem = last.unwrap_or_default();
        let size = known.size.map_or(String::new(), |size| format!(" of {size}"));
        Err(self.hub.error(format!("{file}: {problem}; {got}{size} bytes are kept, and the next try goes on there")))
    }

    /// One try.
    fn go_on(&self, url: &str, known: &Known, part: &Path) -> std::result::Result<(), Stop> {
        let io = |error: std::io::Error| match error.kind() {
            ErrorKind::StorageFull => {
                let needs = known.size.map_or("more".into(), |size| format!("{:.1} GB", size as f64 / 1e9));
                Stop::Error(self.hub.error(format!("the disk is full: {} needs {needs}", part.display())))
            }
            _ => Stop::Error(Error::io(part, error)),
        };
        let mut there = fs::metadata(part).map_or(0, |part| part.len());
        if known.size.is_some_and(|size| there > size) {
            fs::remove_file(part).map_err(io)?;
            there = 0;
        }
        if there > 0 && known.size == Some(there) {
            return Ok(());
        }
        let response = self.follow("GET", url, (there > 0).then_some(there))?;
        let goes_on = response.status() == 206
            && response.header("content-range").is_some_and(|range| range.starts_with(&format!("bytes {there}-")));
        let mut out = if goes_on {
            OpenOptions::new().append(true).open(part).map_err(io)?
        } else {
            File::create(part).map_err(io)? // the server knows no ranges: all of it comes
        };
        let (mut content, mut buffer) = (response.into_reader(), vec![0; 1 << 16]);
        loop {
            let count = match content.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(Stop::Again(format!("the download was cut off ({error})"))),
            };
            out.write_all(buffer.get(..count).unwrap_or_default()).map_err(io)?;
        }
    }

    /// Checks what arrived, and gives it its name.
    fn finish(&self, file: &str, known: &Known, part: &Path, blob: &Path) -> Result<()> {
        let io = |error| Error::io(part, error);
        let refuse = |problem: String| {
            let _ = fs::remove_file(part);
            Err(self.hub.error(format!("{file}: {problem}; it was deleted, try again")))
        };
        let length = fs::metadata(part).map_err(io)?.len();
        if let Some(size) = known.size.filter(|size| *size != length) {
            return refuse(format!("{length} bytes arrived, and the hub says {size}"));
        }
        if known.etag.len() == 64 && known.etag.chars().all(|c| c.is_ascii_hexdigit()) {
            let mut hash = Sha256::new();
            std::io::copy(&mut File::open(part).map_err(io)?, &mut hash).map_err(io)?;
            let digest: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
            if !digest.eq_ignore_ascii_case(&known.etag) {
                return refuse(format!("its SHA-256 is {digest}, and the hub says {}", known.etag));
            }
        }
        fs::rename(part, blob).map_err(io)
    }

    /// A request, following redirects.
    fn follow(&self, method: &str, url: &str, from: Option<u64>) -> Result<Response> {
        let mut url = url.to_owned();
        for _ in 0..REDIRECTS {
            let response = self.request(method, &url, from)?;
            match (response.status(), response.header("location")) {
                (300..=399, Some(location)) => url = self.absolute(&url, location),
                _ => return Ok(response),
            }
        }
        Err(self.hub.error(format!("{url} is redirected in circles")))
    }

    /// One request. The token is told to the endpoint alone.
    fn request(&self, method: &str, url: &str, from: Option<u64>) -> Result<Response> {
        let mut request = self.agent.request(method, url).set("Accept-Encoding", "identity");
        request = request.set("User-Agent", concat!("impasto/", env!("CARGO_PKG_VERSION")));
        if let Some(from) = from {
            request = request.set("Range", &format!("bytes={from}-"));
        }
        if let Some(token) = self.token.as_ref().filter(|_| url.starts_with(&format!("{}/", self.endpoint))) {
            request = request.set("Authorization", &format!("Bearer {token}"));
        }
        let problem = match request.call() {
            Ok(response) => return Ok(response),
            Err(ureq::Error::Transport(error)) => format!("{error}"),
            Err(ureq::Error::Status(status, response)) => match status {
                401 | 403 if url.starts_with(&format!("{}/", self.endpoint)) => {
                    "gated or private, or the name is wrong; accept the terms on its page and set HF_TOKEN".into()
                }
                404 => {
                    let what = response.header("x-error-code").unwrap_or("NotFound").to_owned();
                    format!("{what} at {url}; is the name or the revision right?")
                }
                416 => "the server has less of it than is here already; delete the .incomplete file".into(),
                _ => format!("{url} answered {status} {}", response.status_text()),
            },
        };
        Err(self.hub.error(problem))
    }

    /// A redirect's address, which may leave out the host.
    fn absolute(&self, url: &str, location: &str) -> String {
        if location.contains("://") {
            return location.to_owned();
        }
        let host =
            url.split_once("://").map_or(0, |(scheme, rest)| scheme.len() + 3 + rest.find('/').unwrap_or(rest.len()));
        format!("{}{location}", url.get(..host).unwrap_or(&self.endpoint))
    }
}

/// Why a try ended.
enum Stop {
    Again(String),
    Error(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        match error {
            // A server that does not answer may do so next time.
            Error::Hub { problem, .. }
                if problem.contains("Network Error") || problem.contains("Connection Failed") =>
            {
                Self::Again(problem)
            }
            error => Self::Error(error),
        }
    }
}

/// The right to download a blob: of several processes one does.
struct Turn(PathBuf);

impl Turn {
    fn take(blob: &Path, hub: &Hub) -> Result<Self> {
        let (mark, part) =
            (PathBuf::from(format!("{}.turn", blob.display())), format!("{}.incomplete", blob.display()));
        let quiet = |path: &Path| {
            let changed = fs::metadata(path).and_then(|file| file.modified());
            changed.map_or(true, |time| SystemTime::now().duration_since(time).unwrap_or_default() > 2 * hub.patience)
        };
        loop {
            match OpenOptions::new().write(true).create_new(true).open(&mark) {
                Ok(_) => return Ok(Self(mark)),
                // Who took it writes all the time, or is gone.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    if quiet(&mark) && quiet(Path::new(&part)) {
                        let _ = fs::remove_file(&mark);
                    }
                    std::thread::sleep(Duration::from_millis(50));
                }
                Err(error) => return Err(Error::io(mark, error)),
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Puts a blob under a file's name, as Python does: a relative link where links are common.
fn link(blob: &Path, pointer: &Path, file: &str) -> Result<()> {
    let io = |error| Error::io(pointer, error);
    if let Some(parent) = pointer.parent() {
        fs::create_dir_all(parent).map_err(io)?;
    }
    let _ = fs::remove_file(pointer); // of another blob, if there is one
    #[cfg(unix)]
    {
        let up = "../".repeat(file.split('/').count() + 1);
        let name = blob.file_name().unwrap_or_default();
        match std::os::unix::fs::symlink(Path::new(&up).join("blobs").join(name), pointer) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(io(error)),
            _ => Ok(()),
        }
    }
    #[cfg(not(unix))]
    {
        let _ = file;
        fs::copy(blob, pointer).map(drop).map_err(io)
    }
}

/// A part of an address: what is neither letter, digit nor one of `-._~` is written as its bytes.
fn encoded(part: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    part.bytes().map(byte).collect()
}
