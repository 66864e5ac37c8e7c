//! Requests to a hub, and downloads, which enter the cache whole or not at all.

use super::repository::{Hub, is_inside, is_plain};
use crate::error::{Error, Result};
use crate::json;
use crate::weights::file::is_weights;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};
use ureq::{Agent, Request, Response};

/// Number of attempts at a download that is cut off.
const TRIES: u32 = 5;
/// Largest number of redirects that are followed.
const REDIRECTS: usize = 10;
/// Largest number of pages of a file list that are read.
const PAGES: usize = 100;
/// Largest length of an answer that is not a file, in bytes.
const LONGEST: u64 = 64 << 20;
/// Bytes a second, on average over the hub's patience, below which a download is given up.
const LEAST_RATE: f64 = 1024.0;

/// Progress of a download; see [`Hub::fetch_with`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Download {
    /// Path of the file in the repository.
    pub file: String,
    /// Bytes of the file that have arrived.
    pub bytes: u64,
    /// Size of the file in bytes; `None` if the hub does not tell.
    pub size: Option<u64>,
}

pub(super) struct Client<'h> {
    hub: &'h Hub,
    agent: Agent,
    endpoint: String,
    token: Option<String>,
    /// The repository's folder in the cache.
    folder: PathBuf,
}

/// A callback for the progress of downloads.
pub(super) type Progress<'p> = dyn FnMut(&Download) + 'p;

/// An entry of a repository.
#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    #[serde(default)]
    size: u64,
}

/// Content name and size of a file in a repository.
struct Known {
    /// Name of the content, by which the cache stores the file; on the Hugging Face hub, a hash of the content.
    etag: String,
    size: u64,
}

/// A kind of hash by which a hub names content.
enum Hash {
    /// SHA-256 of the content, for large files.
    Sha256,
    /// SHA-1 of git's object, for small files. The object is a line with the length, followed by the content.
    Git,
}

impl Hash {
    /// Returns the kind of hash of an etag; `None` if the etag is another name.
    fn of(etag: &str) -> Option<Self> {
        match etag.len() {
            _ if !etag.bytes().all(|byte| byte.is_ascii_hexdigit()) => None,
            64 => Some(Self::Sha256),
            40 => Some(Self::Git),
            _ => None,
        }
    }

    const fn name(&self) -> &'static str {
        match self {
            Self::Sha256 => "SHA-256",
            Self::Git => "git hash",
        }
    }

    /// Computes the hash of a file of `length` bytes, in hexadecimal.
    fn digest(&self, content: &mut File, length: u64) -> std::io::Result<String> {
        let bytes = match self {
            Self::Sha256 => {
                let mut hash = Sha256::new();
                std::io::copy(content, &mut hash)?;
                hash.finalize().to_vec()
            }
            Self::Git => {
                let mut hash = Sha1::new_with_prefix(format!("blob {length}\0"));
                std::io::copy(content, &mut hash)?;
                hash.finalize().to_vec()
            }
        };
        Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

impl<'h> Client<'h> {
    pub(super) fn new(hub: &'h Hub, endpoint: String, token: Option<String>, folder: PathBuf) -> Self {
        let agent = ureq::builder()
            .try_proxy_from_env(true)
            .redirects(0)
            .timeout_connect(hub.patience)
            .timeout_read(hub.patience)
            .timeout_write(hub.patience)
            .build();
        Self { hub, agent, endpoint, token, folder }
    }

    /// Requests a path below the endpoint and parses the answer as JSON.
    pub(super) fn json<T: DeserializeOwned>(&self, path: &str) -> std::result::Result<T, Stop> {
        self.read_json(self.follow("GET", &format!("{}/{path}", self.endpoint), None)?)
    }

    fn read_json<T: DeserializeOwned>(&self, response: Response) -> std::result::Result<T, Stop> {
        let url = response.get_url().to_owned();
        let mut text = Vec::new();
        let collect = |bytes: &[u8]| {
            text.extend_from_slice(bytes);
            Ok(())
        };
        self.read(response, LONGEST, collect).map_err(|stop| match stop {
            Stop::Again(problem) => Stop::Again(format!("{url}: {problem}")),
            stop => stop,
        })?;
        let foreign = |error| self.hub.error(format!("{url} did not answer like a Hugging Face hub: {error}"));
        json::parse(&text).map_err(|error| Stop::Error(foreign(error)))
    }

    /// Lists all files of a commit with their sizes.
    pub(super) fn list(&self, commit: &str) -> std::result::Result<BTreeMap<String, u64>, Stop> {
        let mut url = format!("{}/api/models/{}/tree/{commit}?recursive=true", self.endpoint, self.hub.repository);
        let mut files = BTreeMap::new();
        for _ in 0..PAGES {
            let response = self.follow("GET", &url, None)?;
            let next = response.header("link").and_then(|link| {
                let (address, _) = link.split(',').find(|link| link.contains("rel=\"next\""))?.split_once('>')?;
                Some(address.trim().trim_start_matches('<').to_owned())
            });
            let entries: Vec<Entry> = self.read_json(response)?;
            let files_of = entries.into_iter().filter(|entry| entry.kind == "file" && is_inside(&entry.path));
            files.extend(files_of.map(|entry| (entry.path, entry.size)));
            match next {
                Some(next) => url = self.absolute(&url, &next).map_err(Stop::Error)?,
                None => break,
            }
        }
        Ok(files)
    }

    /// Puts a file of a commit into the cache, unless it is there already. `size` is the size in the list of files.
    pub(super) fn fetch(&self, commit: &str, file: &str, size: Option<u64>, progress: &mut Progress<'_>) -> Result<()> {
        let pointer = self.folder.join("snapshots").join(commit).join(file);
        if fs::metadata(&pointer).is_ok_and(|there| there.is_file() && size.is_none_or(|size| there.len() == size)) {
            return Ok(());
        }
        let address: Vec<String> = file.split('/').map(encoded).collect();
        let url = format!("{}/{}/resolve/{commit}/{}", self.endpoint, self.hub.repository, address.join("/"));
        let known = self.known(&url, file, size)?;
        let blobs = self.folder.join("blobs");
        fs::create_dir_all(&blobs).map_err(|error| Error::io(&blobs, error))?;
        let blob = blobs.join(&known.etag);
        let _turn = self.turn(&known.etag)?;
        if !fs::metadata(&blob).is_ok_and(|there| there.is_file() && there.len() == known.size) {
            self.download(&url, file, &known, &blob, progress)?;
        }
        link(&blob, &pointer, file)
    }

    /// Waits for the lock of a blob, so that only one of several processes (Python's included) writes the blob. The
    /// lock is released when the returned file is dropped or the process ends.
    fn turn(&self, etag: &str) -> Result<File> {
        let name = self.folder.file_name().unwrap_or_default();
        let locks = self.folder.with_file_name(".locks").join(name);
        fs::create_dir_all(&locks).map_err(|error| Error::io(&locks, error))?;
        let path = locks.join(format!("{etag}.lock"));
        let lock = OpenOptions::new().create(true).append(true).open(&path).map_err(|error| Error::io(&path, error))?;
        match lock.lock() {
            Err(error) if error.kind() != ErrorKind::Unsupported => Err(Error::io(path, error)),
            _ => Ok(lock), // not every file system supports locks
        }
    }

    /// Requests the content name and size of a file, without its content. `listed` is the size in the list of files.
    fn known(&self, url: &str, file: &str, listed: Option<u64>) -> Result<Known> {
        let mut url = url.to_owned();
        for _ in 0..REDIRECTS {
            let response = self.request("HEAD", &url, None).map_err(|stop| self.told(stop))?;
            // A redirect within the hub means a renamed repository; a redirect elsewhere leads to the content.
            if let (300..=399, Some(location)) = (response.status(), response.header("location"))
                && response.header("x-linked-etag").is_none()
            {
                let there = self.absolute(&url, location)?;
                if there.starts_with(&format!("{}/", self.endpoint)) {
                    url = there;
                    continue;
                }
            }
            let header = |name: &str| response.header(name).map(str::to_owned);
            if header("x-repo-commit").is_none() {
                let problem = format!(
                    "{} does not send the header X-Repo-Commit; use another endpoint or a folder",
                    self.endpoint
                );
                return Err(self.hub.error(problem));
            }
            let etag = header("x-linked-etag").or_else(|| header("etag")).unwrap_or_default();
            let etag = etag.trim_start_matches("W/").trim_matches('"').to_owned();
            if !is_plain(&etag) {
                return Err(self.hub.error(format!(
                    "{file} has the etag \"{etag}\", which is not valid; use another endpoint or a folder"
                )));
            }
            if Hash::of(&etag).is_none() && is_weights(file) {
                let problem = format!("{file} has the etag \"{etag}\", which is not a hash to check weights with");
                return Err(self.hub.error(format!("{problem}; use another endpoint or a folder")));
            }
            let redirected = (300..400).contains(&response.status());
            let size = header("x-linked-size").or_else(|| header("content-length").filter(|_| !redirected));
            let Some(size) = size.and_then(|size| size.parse().ok()).or(listed) else {
                return Err(self
                    .hub
                    .error(format!("the server does not send the size of {file}; use another endpoint or a folder")));
            };
            return Ok(Known { etag, size });
        }
        Err(self.hub.error(format!("{file} is redirected too many times; use another endpoint or a folder")))
    }

    /// Fetches a file's content, resumes where an earlier try was cut off, and checks the result.
    fn download(&self, url: &str, file: &str, known: &Known, blob: &Path, progress: &mut Progress<'_>) -> Result<()> {
        let part = PathBuf::from(format!("{}.incomplete", blob.display()));
        let mut last = None;
        for attempt in 0..TRIES {
            if attempt > 0 {
                std::thread::sleep(Duration::from_millis(100 << attempt).min(self.hub.patience));
            }
            let mut tell = |bytes| progress(&Download { file: file.into(), bytes, size: Some(known.size) });
            match self.go_on(url, known, &part, &mut tell) {
                Ok(()) => return self.finish(file, known, &part, blob),
                Err(Stop::Again(problem)) => last = Some(problem),
                Err(Stop::Error(error)) => return Err(error),
            }
        }
        let got = fs::metadata(&part).map_or(0, |part| part.len());
        let problem = last.unwrap_or_default();
        let size = known.size;
        Err(self.hub.error(format!(
            "{file}: {problem}; {got} of {size} bytes are kept, and the next attempt continues from them"
        )))
    }

    /// Makes one attempt at a download. `tell` receives the number of bytes that have arrived.
    fn go_on(&self, url: &str, known: &Known, part: &Path, tell: &mut dyn FnMut(u64)) -> std::result::Result<(), Stop> {
        let io = |error: std::io::Error| {
            let needs = known.size as f64 / 1e9;
            let full = match error.kind() {
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "the disk is full",
                ErrorKind::FileTooLarge => "a limit of the system does not allow a file of this size",
                _ => return Stop::Error(Error::io(part, error)),
            };
            let problem = format!("{full}: {} needs {needs:.1} GB", part.display());
            let way = "free some space or name another cache; the downloaded bytes are kept, and the next attempt \
                       continues from them";
            Stop::Error(self.hub.error(format!("{problem}; {way}")))
        };
        let mut there = fs::metadata(part).map_or(0, |part| part.len());
        if there > known.size {
            fs::remove_file(part).map_err(io)?;
            there = 0;
        }
        if there > 0 && there == known.size {
            return Ok(());
        }
        let response = self.follow("GET", url, (there > 0).then_some(there))?;
        let goes_on = response.status() == 206
            && response.header("content-range").is_some_and(|range| range.starts_with(&format!("bytes {there}-")));
        let mut out = if goes_on {
            OpenOptions::new().append(true).open(part).map_err(io)?
        } else {
            there = 0; // the server ignores ranges and sends everything
            File::create(part).map_err(io)?
        };
        // Bytes beyond the announced size do not belong to the file and would fill the disk.
        self.read(response, known.size - there, |bytes| {
            out.write_all(bytes).map_err(io)?;
            there += bytes.len() as u64;
            tell(there);
            Ok(())
        })
    }

    /// Passes the first `most` bytes of an answer to `take`, piece by piece. Gives up on a server that sends fewer than
    /// [`LEAST_RATE`] bytes a second for as long as the hub's patience.
    fn read(
        &self,
        response: Response,
        most: u64,
        mut take: impl FnMut(&[u8]) -> std::result::Result<(), Stop>,
    ) -> std::result::Result<(), Stop> {
        let (mut content, mut buffer) = (response.into_reader().take(most), vec![0; 1 << 16]);
        // Time spent waiting for the server, without the time in `take`, and the bytes that came in that time.
        let (mut waited, mut came) = (Duration::ZERO, 0);
        loop {
            let begun = Instant::now();
            let count = match content.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(Stop::Again(format!("the download was cut off ({error})"))),
            };
            (waited, came) = (waited + begun.elapsed(), came + count);
            if waited >= self.hub.patience {
                if (came as f64) < LEAST_RATE * waited.as_secs_f64() {
                    let seconds = waited.as_secs_f64();
                    return Err(Stop::Again(format!("the download was cut off (only {came} bytes in {seconds:.1} s)")));
                }
                (waited, came) = (Duration::ZERO, 0);
            }
            take(buffer.get(..count).unwrap_or_default())?;
        }
    }

    /// Checks the downloaded file and renames it to its final name.
    fn finish(&self, file: &str, known: &Known, part: &Path, blob: &Path) -> Result<()> {
        let io = |error| Error::io(part, error);
        let refuse = |problem: String| {
            let _ = fs::remove_file(part);
            Err(self.hub.error(format!("{file}: {problem}; the downloaded file was deleted; try again")))
        };
        let length = fs::metadata(part).map_err(io)?.len();
        if length != known.size {
            return refuse(format!("{length} bytes arrived, but the hub announced {}", known.size));
        }
        if let Some(hash) = Hash::of(&known.etag) {
            let digest = File::open(part).and_then(|mut content| hash.digest(&mut content, length)).map_err(io)?;
            if !digest.eq_ignore_ascii_case(&known.etag) {
                return refuse(format!("its {} is {digest}, but the hub announced {}", hash.name(), known.etag));
            }
        }
        fs::rename(part, blob).map_err(io)
    }

    /// Sends a request and follows redirects.
    fn follow(&self, method: &str, url: &str, from: Option<u64>) -> std::result::Result<Response, Stop> {
        let mut url = url.to_owned();
        for _ in 0..REDIRECTS {
            let response = self.request(method, &url, from)?;
            match (response.status(), response.header("location")) {
                (300..=399, Some(location)) => url = self.absolute(&url, location).map_err(Stop::Error)?,
                _ => return Ok(response),
            }
        }
        let problem = format!("{url} is redirected too many times; use another endpoint or a folder");
        Err(Stop::Error(self.hub.error(problem)))
    }

    /// Sends one request. Only the endpoint receives the token.
    fn request(&self, method: &str, url: &str, from: Option<u64>) -> std::result::Result<Response, Stop> {
        let ours = url.starts_with(&format!("{}/", self.endpoint));
        let mut request = self.agent.request(method, url).set("Accept-Encoding", "identity");
        request = request.set("User-Agent", concat!("impasto/", env!("CARGO_PKG_VERSION")));
        if let Some(from) = from {
            request = request.set("Range", &format!("bytes={from}-"));
        }
        if let Some(token) = self.token.as_ref().filter(|_| ours) {
            request = request.set("Authorization", &format!("Bearer {token}"));
        }
        let (status, response) = match self.call(request)? {
            Ok(response) => return Ok(response),
            Err(error) => match *error {
                ureq::Error::Transport(error) => return Err(Stop::Again(error.to_string())),
                ureq::Error::Status(status, response) => (status, response),
            },
        };
        let answered = format!("{url} answered {status} {}", response.status_text());
        let problem = match status {
            401 | 403 if ours => {
                "the repository is gated or private, or its name is wrong; accept the terms on its page and set \
                 HF_TOKEN"
                    .into()
            }
            404 => {
                let what = response.header("x-error-code").unwrap_or("NotFound");
                format!("the server answered {what} for {url}; check the repository's name and revision")
            }
            416 => {
                "the server's file is smaller than the part that is already here; delete the .incomplete file".into()
            }
            429 | 500..=599 => {
                let wait = response.header("retry-after").map(|wait| format!(" in {wait} s")).unwrap_or_default();
                return Err(Stop::Again(format!("{answered}; try again{wait}")));
            }
            _ => answered,
        };
        Err(Stop::Error(self.hub.error(problem)))
    }

    /// Sends a request and waits for the headers of its answer, for twice the hub's patience at most.
    ///
    /// The agent gives up on a server that is silent, but not on a server that sends a byte now and then. Therefore a
    /// separate thread waits for the answer; the thread ends with the connection.
    fn call(&self, request: Request) -> std::result::Result<std::result::Result<Response, Box<ureq::Error>>, Stop> {
        let (answer, answered) = sync_channel(1);
        let wait = move || drop(answer.send(request.call().map_err(Box::new)));
        let thread = std::thread::Builder::new().name("impasto-hub".into()).spawn(wait);
        thread.map_err(|error| Stop::Again(format!("no thread could be started ({error})")))?;
        let most = 2 * self.hub.patience;
        let given_up =
            |_| Stop::Again(format!("the server sent no complete answer within {:.1} s", most.as_secs_f64()));
        answered.recv_timeout(most).map_err(given_up)
    }

    /// Returns the error for a request that is not tried again.
    fn told(&self, stop: Stop) -> Error {
        match stop {
            Stop::Again(problem) => self.hub.error(problem),
            Stop::Error(error) => error,
        }
    }

    /// Returns the full address that a redirect or a link leads to. `location` may omit the host.
    ///
    /// # Errors
    /// [`Error::Hub`] for an address with a user name or a password, which a request would send as credentials.
    fn absolute(&self, url: &str, location: &str) -> Result<String> {
        // The host stays as the endpoint spells it, because only addresses below the endpoint get the token.
        if location.starts_with('/') && !location.starts_with("//") {
            let host = url
                .split_once("://")
                .map_or(0, |(scheme, rest)| scheme.len() + 3 + rest.find('/').unwrap_or(rest.len()));
            return Ok(format!("{}{location}", url.get(..host).unwrap_or(&self.endpoint)));
        }
        let refused = |what: &str| {
            self.hub.error(format!("{url} leads to an address that {what}; use another endpoint or a folder"))
        };
        let base = self.agent.get(url).request_url().map_err(|_| refused("cannot be read"))?;
        let there = base.as_url().join(location).map_err(|_| refused("cannot be read"))?;
        let with_user = !there.username().is_empty() || there.password().is_some();
        if with_user && there.authority() != base.as_url().authority() {
            return Err(refused("has a user name or a password"));
        }
        Ok(there.into())
    }
}

/// Reason why a request or a download ended.
pub(super) enum Stop {
    /// A problem that another attempt may solve, such as a network that is down.
    Again(String),
    Error(Error),
}

/// Puts a blob under a file's name, as Python's `huggingface_hub` does: as a relative link on Unix, as a copy
/// elsewhere. Concurrent readers find either the old file or the new one.
fn link(blob: &Path, pointer: &Path, file: &str) -> Result<()> {
    let io = |error| Error::io(pointer, error);
    if let Some(parent) = pointer.parent() {
        fs::create_dir_all(parent).map_err(io)?;
    }
    let new = PathBuf::from(format!("{}.new", pointer.display()));
    #[cfg(unix)]
    {
        let up = "../".repeat(file.split('/').count() + 1);
        let name = blob.file_name().unwrap_or_default();
        let _ = fs::remove_file(&new); // left by a process that is gone
        std::os::unix::fs::symlink(Path::new(&up).join("blobs").join(name), &new).map_err(io)?;
    }
    #[cfg(not(unix))]
    {
        let _ = file;
        fs::copy(blob, &new).map_err(io)?;
    }
    fs::rename(&new, pointer).map_err(io)
}

/// Percent-encodes a part of an address: all bytes except letters, digits and `-._~`.
fn encoded(part: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    part.bytes().map(byte).collect()
}
