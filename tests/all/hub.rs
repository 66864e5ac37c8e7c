//! Checkpoints from a hub. A local server behaves like the Hugging Face Hub, or fails in one way.

use crate::with;
use impasto::weights::Hub;
use impasto::{Codec, Model, Result, Source};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const COMMIT: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// The behavior of the server.
#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Fine,
    /// `Range` is ignored.
    NoRanges,
    /// The host of large files refuses requests.
    Refused,
    /// The content is shorter than announced, and the server reports no error.
    Short,
    /// The first download ends at 30 %.
    Dropped,
    /// Every download sends 30 % and no more.
    Silent,
    /// The content does not match its hash.
    Altered,
    /// The name of the content is a path out of the cache.
    Traversing,
    /// The header X-Repo-Commit is missing.
    Mirror,
    /// The repository is gated.
    Gated,
    /// The hub answers that there were too many requests.
    Busy,
    /// The content of small files does not match their hash.
    AlteredConfig,
    /// The name of the weights' content is no hash.
    Unhashed,
    /// The content continues past its end forever.
    Endless,
    /// The headers of the content come letter by letter.
    SlowHeaders,
    /// The content comes byte by byte.
    SlowBody,
    /// The repository was renamed. The hub redirects the old name to a path on the same host.
    Renamed,
    /// The hub redirects its first answer to an address, in which `PORT` is the server's.
    Elsewhere(&'static str),
}

struct Server {
    port: u16,
    /// Requests in order, each as `METHOD host path range auth`.
    log: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Serves `files` as `owner/name`. The hub is 127.0.0.1, and large files are at localhost.
    fn start(files: BTreeMap<String, Vec<u8>>, mode: Mode) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (shared, files, cut) = (Arc::clone(&log), Arc::new(files), Arc::new(Mutex::new(0)));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, files, cut) = (Arc::clone(&shared), Arc::clone(&files), Arc::clone(&cut));
                std::thread::spawn(move || answer(stream, port, &files, mode, &log, &cut));
            }
        });
        Self { port, log }
    }

    fn hub(&self, cache: &Path) -> Hub {
        let mut hub = Hub::new("owner/name");
        hub.endpoint = Some(format!("http://127.0.0.1:{}", self.port));
        hub.cache = Some(cache.into());
        hub.offline = Some(false);
        hub.token = Some("secret".into());
        hub.patience = Duration::from_millis(500);
        hub
    }

    /// Returns the requests since the last call that contain `part`.
    fn requests(&self, part: &str) -> Vec<String> {
        let all = std::mem::take(&mut *self.log.lock().unwrap());
        all.into_iter().filter(|line| line.contains(part)).collect()
    }
}

fn sha(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The hash by which git names a small file.
fn git_hash(content: &[u8]) -> String {
    let mut hash = sha1::Sha1::new_with_prefix(format!("blob {}\0", content.len()));
    hash.update(content);
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Sends a letter every 20 ms for a minute.
fn drip(mut out: TcpStream) -> Option<()> {
    for _ in 0..3000 {
        std::thread::sleep(Duration::from_millis(20));
        out.write_all(b"a").and_then(|()| out.flush()).ok()?;
    }
    Some(())
}

fn answer(
    stream: TcpStream,
    port: u16,
    files: &BTreeMap<String, Vec<u8>>,
    mode: Mode,
    log: &Mutex<Vec<String>>,
    cut: &Mutex<u32>,
) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        let _ = reader.read_line(&mut line).ok()?;
        if line.trim().is_empty() {
            break;
        }
        lines.push(line.trim().to_owned());
    }
    let header = |name: &str| {
        let of = |line: &String| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        };
        lines.iter().skip(1).find_map(of)
    };
    let mut words = lines.first()?.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let (host, range) = (header("host")?, header("range"));
    let auth = if header("authorization").is_some() { "auth" } else { "-" };
    log.lock().unwrap().push(format!("{method} {host} {path} {} {auth}", range.as_deref().unwrap_or("-")));
    let mut out = stream;
    let mut send = |status: u16, headers: &[(&str, String)], body: &[u8], announced: usize| -> Option<()> {
        let mut head = format!("HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {announced}\r\n");
        headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
        out.write_all(format!("{head}\r\n").as_bytes()).ok()?;
        if method != "HEAD" { out.write_all(body).ok() } else { Some(()) }
    };
    let json = |value: serde_json::Value| value.to_string().into_bytes();
    if mode == Mode::Renamed && path.contains("owner/name") {
        return send(307, &[("Location", path.replace("owner/name", "owner/renamed"))], b"", 0);
    }
    if let Mode::Elsewhere(place) = mode {
        return send(307, &[("Location", place.replace("PORT", &port.to_string()))], b"", 0);
    }
    let path = path.replace("owner/renamed", "owner/name");

    if mode == Mode::Gated {
        return send(401, &[("X-Error-Code", "GatedRepo".into())], b"", 0);
    }
    if mode == Mode::Busy {
        return send(429, &[("Retry-After", "30".into())], b"", 0);
    }
    if path.starts_with("/api/models/owner/name/revision/main") {
        let body = json(serde_json::json!({ "sha": COMMIT }));
        return send(200, &[], &body, body.len());
    }
    if path.starts_with("/api/models/owner/name/tree/") {
        // The list has two pages.
        let entries: Vec<serde_json::Value> = files
            .iter()
            .map(|(path, content)| serde_json::json!({ "type": "file", "path": path, "size": content.len(), "oid": "0" }))
            .collect();
        let half = entries.len() / 2;
        let second = path.contains("cursor");
        let body = json(if second { entries[half..].into() } else { entries[..half].into() });
        let next = format!("</api/models/owner/name/tree/{COMMIT}?recursive=true&cursor=1>; rel=\"next\"");
        let headers = if second { vec![] } else { vec![("Link", next)] };
        return send(200, &headers, &body, body.len());
    }
    let is_content = path.starts_with("/cdn/");
    let name = path.strip_prefix("/cdn/").or_else(|| path.strip_prefix(&format!("/owner/name/resolve/{COMMIT}/")));
    let Some(content) = name.and_then(|name| files.get(name)) else {
        return send(404, &[("X-Error-Code", "EntryNotFound".into())], b"", 0);
    };
    let commit = if mode == Mode::Mirror { vec![] } else { vec![("X-Repo-Commit", COMMIT.to_owned())] };
    if !is_content && name?.ends_with(".safetensors") {
        let etag = match mode {
            Mode::Traversing => "\"../../escaped\"".to_owned(),
            Mode::Unhashed => "\"v1.0-final\"".to_owned(),
            _ => format!("\"{}\"", sha(content)),
        };
        let place = ("Location", format!("http://localhost:{port}/cdn/{}", name?));
        let linked = [("X-Linked-ETag", etag), ("X-Linked-Size", content.len().to_string()), place];
        return send(302, &[commit, linked.into()].concat(), b"", 0);
    }
    if !is_content {
        let etag = ("ETag", format!("W/\"{}\"", git_hash(content)));
        let altered: Vec<u8> = content.iter().map(|byte| byte ^ 1).collect();
        let content = if mode == Mode::AlteredConfig { &altered } else { content };
        return send(200, &[commit, vec![etag]].concat(), content, content.len());
    }
    let altered: Vec<u8> = content.iter().map(|byte| byte ^ 1).collect();
    let content = if mode == Mode::Altered { &altered } else { content };
    let cuts = {
        let mut cut = cut.lock().unwrap();
        *cut += 1;
        *cut
    };
    let third = content.len() * 3 / 10;
    match mode {
        Mode::Refused => return send(403, &[], b"<Error>expired</Error>", 22),
        Mode::Short => return send(200, &[], &content[..third], third),
        Mode::Dropped if cuts == 1 => return send(200, &[], &content[..third], content.len()),
        Mode::Endless => {
            out.write_all(b"HTTP/1.1 200 X\r\nConnection: close\r\n\r\n").ok()?;
            loop {
                out.write_all(content).ok()?;
                log.lock().unwrap().push("whole".into());
            }
        }
        Mode::SlowHeaders => {
            out.write_all(b"HTTP/1.1 200 X\r\nServer: ").ok()?;
            return drip(out);
        }
        Mode::SlowBody => {
            send(200, &[], &content[..1000], content.len())?;
            return drip(out);
        }
        Mode::Silent => {
            send(200, &[], &content[..third], content.len())?;
            std::thread::sleep(Duration::from_secs(10));
            return Some(());
        }
        _ => {}
    }
    match range.filter(|_| mode != Mode::NoRanges) {
        Some(range) => {
            let from: usize = range.trim_start_matches("bytes=").trim_end_matches('-').parse().ok()?;
            let total = ("Content-Range", format!("bytes {from}-{}/{}", content.len() - 1, content.len()));
            send(206, &[total], &content[from..], content.len() - from)
        }
        None => send(200, &[], content, content.len()),
    }
}

/// A file that is large enough to be cut in pieces.
fn one_file() -> BTreeMap<String, Vec<u8>> {
    BTreeMap::from([("one.safetensors".to_owned(), (0..1_000_000u32).map(|i| (i % 251) as u8).collect())])
}

fn fetched(source: Source) -> Vec<u8> {
    let Source::File(path) = source else { panic!("{source}") };
    std::fs::read(path).expect("the file")
}

/// Names of the blobs in the cache.
fn blobs(cache: &Path) -> Vec<String> {
    let files = std::fs::read_dir(cache.join("models--owner--name/blobs"));
    files.into_iter().flatten().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// The embedded model's files, and a file that no model needs.
fn model_files() -> BTreeMap<String, Vec<u8>> {
    let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/impasto-tiny/model");
    let mut files = BTreeMap::from([("README.md".to_owned(), b"not needed".to_vec())]);
    for part in ["", "unet", "vae", "text_encoder", "tokenizer", "scheduler"] {
        for entry in
            std::fs::read_dir(tiny.join(part)).expect("a folder").flatten().filter(|entry| entry.path().is_file())
        {
            let path = Path::new(part).join(entry.file_name()).display().to_string();
            files.insert(path, std::fs::read(entry.path()).expect("a file"));
        }
    }
    files
}

#[test]
fn model_from_a_hub_equals_the_embedded_model() -> Result<()> {
    let (server, cache) = (Server::start(model_files(), Mode::Fine), tempfile::tempdir().expect("a folder"));
    let hub = server.hub(cache.path());
    let text = |model: &Model| model.text("a red boat".into()).map(|text| text.context);
    let model = Model::load(&hub.clone().into())?;
    assert_eq!(text(&model)?, text(&Model::load(&Source::embedded())?)?);

    // Only the hub receives the token.
    let requests = server.requests("");
    assert!(requests.iter().all(|line| line.contains("127.0.0.1") == line.ends_with(" auth")), "{requests:#?}");
    assert!(!requests.iter().any(|line| line.contains("README")));
    // The cache has the layout of the Python library.
    let repository = cache.path().join("models--owner--name");
    assert_eq!(std::fs::read_to_string(repository.join("refs/main")).expect("a reference"), COMMIT);
    let pointer = repository.join(format!("snapshots/{COMMIT}/unet/diffusion_pytorch_model.safetensors"));
    #[cfg(unix)]
    assert!(std::fs::read_link(&pointer).expect("a link").starts_with("../../../blobs"));
    assert!(pointer.is_file());

    // Files in the cache are not requested again, and load without any hub.
    Model::load(&hub.clone().into())?;
    assert_eq!(server.requests("resolve"), [""; 0]);
    let mut offline = hub.clone();
    offline.endpoint = Some("http://127.0.0.1:9".into());
    offline.offline = Some(true);
    assert_eq!(text(&Model::load(&offline.clone().into())?)?, text(&model)?);
    let message = with(offline, |hub| hub.revision = "v2".into()).fetch(None).unwrap_err().to_string();
    assert!(
        message.contains("revision v2 is not in the cache") && message.contains("hf download owner/name"),
        "{message}"
    );
    Ok(())
}

/// Returns the notes of a model in one text.
fn told(model: &Model) -> String {
    model.notes().iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[test]
fn model_in_the_cache_needs_no_network() -> Result<()> {
    let (server, cache) = (Server::start(model_files(), Mode::Fine), tempfile::tempdir().expect("a folder"));
    server.hub(cache.path()).fetch(None)?;
    let busy = Server::start(model_files(), Mode::Busy);
    // Nothing listens at port 9, and a busy hub answers no request.
    let mut away = server.hub(cache.path());
    away.endpoint = Some("http://127.0.0.1:9".into());
    for hub in [away.clone(), busy.hub(cache.path())] {
        let notes = told(&Model::load(&hub.into())?);
        let says = |words: &str| notes.contains(words);
        assert!(says("the hub cannot be reached") && says("in the cache") && says("HF_HUB_OFFLINE"), "{notes}");
    }
    assert!(!told(&Model::load(&server.hub(cache.path()).into())?).contains("cannot be reached"));

    let snapshot = cache.path().join(format!("models--owner--name/snapshots/{COMMIT}"));
    let fails = |removed: &str, missing: &str| {
        let path = snapshot.join(removed);
        let content = std::fs::read(&path).expect("a file");
        std::fs::remove_file(&path).expect("removed");
        let message = away.fetch(None).unwrap_err().to_string();
        assert!(message.contains(missing) && message.contains("cannot be reached"), "{message}");
        let mut offline = away.clone();
        offline.offline = Some(true);
        let message = offline.fetch(None).unwrap_err().to_string();
        assert!(message.contains(missing) && message.contains("HF_HUB_OFFLINE"), "{message}");
        std::fs::write(&path, content).expect("written");
    };
    fails("unet/diffusion_pytorch_model.safetensors", "unet/*.safetensors is not in the cache");
    fails("scheduler/scheduler_config.json", "scheduler/* is not in the cache");
    fails("model_index.json", "model_index.json is not in the cache");
    let message = away.fetch(Some("fp16")).unwrap_err().to_string();
    assert!(message.contains("variant fp16 is not in the cache, and the hub cannot be reached"), "{message}");
    std::fs::copy(
        snapshot.join("vae/diffusion_pytorch_model.safetensors"),
        snapshot.join("vae/diffusion_pytorch_model.fp16.safetensors"),
    )
    .expect("copied");
    away.fetch(Some("fp16"))?;
    let message = server.hub(cache.path()).fetch(Some("bf16")).unwrap_err().to_string();
    assert!(message.contains("the repository has no bf16 files; its weights are"), "{message}");
    let message = with(away, |hub| hub.revision = "v2".into()).fetch(None).unwrap_err().to_string();
    assert!(message.contains("revision v2 is not in the cache, and the hub cannot be reached"), "{message}");
    Ok(())
}

#[test]
fn download_is_whole_from_an_unreliable_server() -> Result<()> {
    let whole = one_file()["one.safetensors"].clone();
    for (mode, gets, ranges) in
        [(Mode::Fine, 1, 0), (Mode::Dropped, 2, 1), (Mode::NoRanges, 1, 0), (Mode::Renamed, 1, 0)]
    {
        let (server, cache) = (Server::start(one_file(), mode), tempfile::tempdir().expect("a folder"));
        assert_eq!(fetched(server.hub(cache.path()).fetch(None)?), whole);
        let requests = server.requests("GET localhost");
        assert_eq!(requests.len(), gets, "{requests:#?}");
        let ranged: Vec<&String> = requests.iter().filter(|line| line.contains("bytes=300000-")).collect();
        assert_eq!(ranged.len(), ranges, "{requests:#?}");
        assert_eq!(blobs(cache.path()), [sha(&whole)]);
    }
    Ok(())
}

#[test]
fn repository_of_another_family_is_not_downloaded() {
    let index =
        br#"{ "_class_name": "FluxPipeline", "transformer": ["diffusers", "FluxTransformer2DModel"] }"#.to_vec();
    let mut files = one_file();
    files.insert("model_index.json".into(), index);
    let large = files.remove("one.safetensors").expect("the file");
    files.insert("transformer/diffusion_pytorch_model.safetensors".into(), large);
    let (server, cache) = (Server::start(files, Mode::Fine), tempfile::tempdir().expect("a folder"));
    let error = server.hub(cache.path()).fetch(None).expect_err("no UNet").to_string();
    assert!(error.contains("the repository is of FluxPipeline, whose network is not supported"), "{error}");
    assert_eq!(server.requests("transformer"), [""; 0]);
}

#[test]
fn split_files_are_named_and_fetched() -> Result<()> {
    let whole = one_file()["one.safetensors"].clone();
    let path = "split_files/diffusion_models/one.safetensors";
    let files = BTreeMap::from([("README.md".to_owned(), vec![1]), (path.to_owned(), whole.clone())]);
    let (server, cache) = (Server::start(files, Mode::Fine), tempfile::tempdir().expect("a folder"));
    let hub = server.hub(cache.path());
    let error = Model::load(&hub.clone().into()).map(drop).expect_err("no model").to_string();
    assert!(error.contains(&format!("lie in folders: {path}; name one of them with `Hub::file`")), "{error}");
    let fetch = |file: &str| with(hub.clone(), |hub| hub.file = Some(file.into())).fetch(None);
    let error = fetch("one.safetensors").map(drop).expect_err("another folder").to_string();
    assert!(error.contains(&format!("has no one.safetensors; its files of weights are {path};")), "{error}");
    assert_eq!(server.requests("GET localhost"), [""; 0]);
    assert_eq!(fetched(fetch(path)?), whole);
    Ok(())
}

#[test]
fn redirect_with_a_user_name_is_refused() {
    for place in [
        "http://127.0.0.1@localhost:PORT/cdn/one.safetensors",
        "http://127.0.0.1:PORT@localhost:PORT/cdn/one.safetensors",
        "http://user:word@localhost:PORT/",
        "//user@localhost:PORT/",
    ] {
        let (server, cache) =
            (Server::start(one_file(), Mode::Elsewhere(place)), tempfile::tempdir().expect("a folder"));
        let error = server.hub(cache.path()).fetch(None).expect_err(place).to_string();
        assert!(error.contains("has a user name or a password"), "{place}: {error}");
        assert_eq!(server.requests("localhost"), [""; 0], "{place}");
    }
    // A location without a host stays on the host.
    let (server, cache) =
        (Server::start(one_file(), Mode::Elsewhere("@localhost:PORT/")), tempfile::tempdir().unwrap());
    assert!(server.hub(cache.path()).fetch(None).is_err());
    let requests = server.requests("");
    assert!(requests.len() > 1 && requests.iter().all(|line| line.starts_with("GET 127.0.0.1")), "{requests:#?}");
}

#[test]
fn a_download_goes_on_where_another_process_stopped() -> Result<()> {
    let whole = one_file()["one.safetensors"].clone();
    for mode in [Mode::Fine, Mode::NoRanges] {
        let (server, cache) = (Server::start(one_file(), mode), tempfile::tempdir().expect("a folder"));
        let folder = cache.path().join("models--owner--name/blobs");
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join(format!("{}.incomplete", sha(&whole))), &whole[..1000]).expect("written");
        assert_eq!(fetched(server.hub(cache.path()).fetch(None)?), whole);
        assert_eq!(server.requests("bytes=1000-").iter().filter(|line| line.contains("localhost")).count(), 1);
    }
    Ok(())
}

#[test]
fn bad_download_is_an_error_and_is_not_kept() {
    for (mode, words) in [
        (Mode::Refused, "answered 403"),
        (Mode::Short, "300000 bytes arrived, but the hub announced 1000000"),
        (Mode::Altered, "its SHA-256 is"),
        (Mode::Traversing, "\"../../escaped\", which is not valid"),
        (Mode::Mirror, "does not send the header X-Repo-Commit; use another"),
        (Mode::Unhashed, "the etag \"v1.0-final\", which is not a hash to check weights with"),
        (Mode::Gated, "gated or private"),
        (Mode::Busy, "answered 429 X; try again in 30 s"),
    ] {
        let (server, cache) = (Server::start(one_file(), mode), tempfile::tempdir().expect("a folder"));
        let message = server.hub(cache.path()).fetch(None).unwrap_err().to_string();
        assert!(message.contains("owner/name") && message.contains(words), "{message}");
        assert!(!message.contains("secret"));
        assert_eq!(blobs(cache.path()), [""; 0], "{words}");
    }
}

#[test]
fn silent_server_is_given_up_and_bytes_are_kept() {
    let (server, cache) = (Server::start(one_file(), Mode::Silent), tempfile::tempdir().expect("a folder"));
    let begun = Instant::now();
    let mut hub = server.hub(cache.path());
    hub.patience = Duration::from_millis(100);
    let message = hub.fetch(None).unwrap_err().to_string();
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    assert!(message.contains("cut off") && message.contains("300000 of 1000000 bytes are kept"), "{message}");
    assert_eq!(blobs(cache.path()).len(), 1);
}

#[test]
fn endless_answer_ends_at_the_announced_size() -> Result<()> {
    let (server, cache) = (Server::start(one_file(), Mode::Endless), tempfile::tempdir().expect("a folder"));
    assert_eq!(fetched(server.hub(cache.path()).fetch(None)?), one_file()["one.safetensors"]);
    // The sockets hold a few megabytes at most, so the server sends no more.
    assert!(server.requests("whole").len() < 20);
    Ok(())
}

#[test]
fn dripping_server_is_given_up() {
    for (mode, words) in [(Mode::SlowHeaders, "no complete answer within 0.4 s"), (Mode::SlowBody, "bytes in 0.2 s")] {
        let (server, cache) = (Server::start(one_file(), mode), tempfile::tempdir().expect("a folder"));
        let begun = Instant::now();
        let mut hub = server.hub(cache.path());
        hub.patience = Duration::from_millis(200);
        let message = hub.fetch(None).unwrap_err().to_string();
        assert!(message.contains(words) && message.contains("the next attempt continues from them"), "{message}");
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    }
}

#[test]
fn small_file_is_checked_by_its_git_hash() {
    // `git hash-object` gives this hash for a file with these letters.
    assert_eq!(git_hash(b"hello\n"), "ce013625030ba8dba906f756967f9e9ca394464a");
    let mut files = one_file();
    files.insert("config.json".into(), b"{}".to_vec());
    files.insert("model.safetensors".into(), vec![0; 10]);
    let (server, cache) = (Server::start(files, Mode::AlteredConfig), tempfile::tempdir().expect("a folder"));
    let message = server.hub(cache.path()).fetch(None).unwrap_err().to_string();
    assert!(
        message.contains("config.json: its git hash is") && message.contains("the downloaded file was deleted"),
        "{message}"
    );
}

#[test]
fn download_progress_is_reported() -> Result<()> {
    let (server, cache) = (Server::start(one_file(), Mode::Dropped), tempfile::tempdir().expect("a folder"));
    let mut told = Vec::new();
    server.hub(cache.path()).fetch_with(None, |download| {
        assert_eq!((download.file.as_str(), download.size), ("one.safetensors", Some(1_000_000)));
        told.push(download.bytes);
    })?;
    assert!(told.is_sorted() && told.len() > 10 && told.contains(&300_000), "{told:?}");
    assert_eq!(told.last(), Some(&1_000_000));
    Ok(())
}

/// Environment variable with a port and a cache folder. The processes that the tests below start fetch from the hub at
/// that port.
const PLACE: &str = "IMPASTO_TEST_HUB";

#[test]
#[ignore = "other tests run this test in a process of its own"]
fn fetch_for_another_test() {
    let Ok(place) = std::env::var(PLACE) else { return };
    let (port, cache) = place.split_once(' ').expect("a port and a cache");
    let server = Server { port: port.parse().expect("a port"), log: Arc::default() };
    let mut hub = server.hub(Path::new(cache));
    hub.patience = Duration::from_secs(5);
    match hub.fetch(None) {
        Ok(source) => println!("fetched {} bytes", fetched(source).len()),
        Err(error) => println!("failed: {error}"),
    }
}

/// Starts a process that fetches; a shell runs `before` first.
fn process(server: &Server, cache: &Path, before: &str) -> std::process::Child {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{before} exec \"$0\" \"$@\"")]).arg(std::env::current_exe().expect("this program"));
    command.args(["--exact", "hub::fetch_for_another_test", "--ignored", "--nocapture"]);
    command.env(PLACE, format!("{} {}", server.port, cache.display())).stdout(Stdio::piped());
    command.spawn().expect("started")
}

/// Returns the output of a process after its end.
fn said(process: std::process::Child) -> String {
    String::from_utf8(process.wait_with_output().expect("an end").stdout).expect("text")
}

#[test]
#[cfg(unix)]
fn two_processes_at_once_download_once() {
    let (server, cache) = (Server::start(one_file(), Mode::Fine), tempfile::tempdir().expect("a folder"));
    for process in [0, 1].map(|_| process(&server, cache.path(), "")) {
        let said = said(process);
        assert!(said.contains("fetched 1000000 bytes"), "{said}");
    }
    assert_eq!(server.requests("GET localhost").len(), 1);
    assert_eq!(blobs(cache.path()).len(), 1);
}

#[test]
fn two_threads_at_once_download_once() {
    let (server, cache) = (Server::start(one_file(), Mode::Fine), tempfile::tempdir().expect("a folder"));
    std::thread::scope(|scope| {
        let both = [0, 1].map(|_| scope.spawn(|| server.hub(cache.path()).fetch(None).map(fetched)));
        for each in both {
            assert_eq!(each.join().expect("no panic").expect("fetched"), one_file()["one.safetensors"]);
        }
    });
    assert_eq!(server.requests("GET localhost").len(), 1);
}

#[test]
#[cfg(unix)]
fn download_continues_after_a_killed_process() -> Result<()> {
    let (silent, cache) = (Server::start(one_file(), Mode::Silent), tempfile::tempdir().expect("a folder"));
    let mut process = process(&silent, cache.path(), "");
    let part =
        cache.path().join(format!("models--owner--name/blobs/{}.incomplete", sha(&one_file()["one.safetensors"])));
    let begun = Instant::now();
    while std::fs::metadata(&part).map_or(0, |part| part.len()) < 300_000 {
        assert!(begun.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(5));
    }
    process.kill().expect("killed");
    process.wait().expect("an end");
    let (server, begun) = (Server::start(one_file(), Mode::Fine), Instant::now());
    assert_eq!(fetched(server.hub(cache.path()).fetch(None)?), one_file()["one.safetensors"]);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let ranged = server.requests("bytes=300000-");
    assert_eq!(ranged.iter().filter(|line| line.contains("localhost")).count(), 1, "{ranged:?}");
    Ok(())
}

#[test]
#[cfg(target_os = "linux")]
fn full_disk_leaves_no_file_and_is_reported() {
    let (server, cache) = (Server::start(one_file(), Mode::Fine), tempfile::tempdir().expect("a folder"));
    let repository = cache.path().join("models--owner--name");
    let part = repository.join(format!("blobs/{}.incomplete", sha(&one_file()["one.safetensors"])));
    std::fs::create_dir_all(part.parent().expect("a folder")).expect("a folder");
    std::os::unix::fs::symlink("/dev/full", &part).expect("a link"); // every write there finds the disk full
    let message = server.hub(cache.path()).fetch(None).unwrap_err().to_string();
    assert!(message.contains("the disk is full") && message.contains("free some space"), "{message}");
    assert_eq!(blobs(cache.path()).len(), 1, "only the incomplete file");
    assert!(!repository.join(format!("snapshots/{COMMIT}/one.safetensors")).exists());
    assert!(!repository.join("refs/main").exists());
}

#[test]
#[cfg(unix)]
fn bytes_before_a_write_limit_are_kept() -> Result<()> {
    let (server, cache) = (Server::start(one_file(), Mode::Fine), tempfile::tempdir().expect("a folder"));
    // 800 blocks are 409600 or 819200 bytes, depending on the shell.
    let said = said(process(&server, cache.path(), "trap '' XFSZ; ulimit -f 800;"));
    assert!(
        said.contains("does not allow a file of this size") && said.contains("the downloaded bytes are kept"),
        "{said}"
    );
    let part = blobs(cache.path());
    assert!(part.len() == 1 && part[0].ends_with(".incomplete"), "{part:?}");
    drop(server.requests(""));
    assert_eq!(fetched(server.hub(cache.path()).fetch(None)?), one_file()["one.safetensors"]);
    assert_eq!(server.requests("bytes=").iter().filter(|line| line.contains("localhost")).count(), 1);
    assert_eq!(blobs(cache.path()).len(), 1);
    Ok(())
}

#[test]
fn missing_file_or_revision_is_named() {
    let (server, cache) = (Server::start(one_file(), Mode::Fine), tempfile::tempdir().expect("a folder"));
    let message = |hub: Hub| hub.fetch(None).unwrap_err().to_string();
    let message_of_revision = message(with(server.hub(cache.path()), |hub| hub.revision = "v9".into()));
    assert!(
        message_of_revision.contains("revision/v9; check the repository's name and revision"),
        "{message_of_revision}"
    );
    let mut none = server.hub(cache.path());
    none.repository = "owner/none".into();
    let message_of_name = message(none);
    assert!(message_of_name.starts_with("owner/none: the server answered EntryNotFound for"), "{message_of_name}");
    let message_of_file = message(with(server.hub(cache.path()), |hub| hub.file = Some("two.safetensors".into())));
    assert!(
        message_of_file.contains("has no two.safetensors; its files of weights are one.safetensors"),
        "{message_of_file}"
    );
    assert_eq!(std::fs::read_dir(cache.path()).expect("a folder").count(), 0, "nothing is left behind");
}

#[test]
fn invalid_names_are_refused_before_a_request() {
    let names = ["one", "a/b/c", "a/../b", "../b", "a b/c", "/b", "a/", "a/.."];
    for mut hub in names.map(Hub::new).into_iter().chain([
        with(Hub::new("a/b"), |hub| hub.revision = "../x".into()),
        with(Hub::new("a/b"), |hub| hub.revision = "".into()),
        with(Hub::new("a/b"), |hub| hub.file = Some("../x.safetensors".into())),
        with(Hub::new("a/b"), |hub| hub.file = Some("model.json".into())),
    ]) {
        hub.endpoint = Some("http://127.0.0.1:9".into());
        hub.offline = Some(false);
        let message = hub.fetch(None).unwrap_err().to_string();
        assert!(message.contains(" is not "), "{message}");
    }
    let mut nobody = Hub::new("a/b");
    nobody.endpoint = Some("http://127.0.0.1:9".into());
    nobody.cache = Some("/nowhere".into());
    nobody.offline = Some(false);
    let nobody = nobody.fetch(None);
    assert!(nobody.unwrap_err().to_string().starts_with("a/b: "));
    assert!(!format!("{:?}", with(Hub::new("a/b"), |hub| hub.token = Some("secret".into()))).contains("secret"));
}
