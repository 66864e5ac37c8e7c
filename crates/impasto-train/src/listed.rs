//! The user's own pictures, from a folder or a list, loaded ahead of the training.

use super::pictures::{Pictures, Sample};
use impasto::raster::Filter;
use impasto::{Error, Raster, Result, Size};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_pcg::Pcg64Mcg;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::any::Any;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::fs;
use std::io::{Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tempfile::NamedTempFile;

/// File name extensions of pictures.
const EXTENSIONS: [&str; 4] = ["png", "jpg", "jpeg", "webp"];
/// Name of a folder's list, as in data sets of the Hugging Face hub.
const METADATA: &str = "metadata.jsonl";
/// Number of pictures that are loaded ahead.
const AHEAD: u64 = 64;
/// Number of threads that load pictures.
const LOADERS: usize = 4;
/// Maximum size of a fetched file, in bytes.
const LARGEST: u64 = 64 << 20;
/// Time after which the loader gives up on a server that sends nothing.
const PATIENCE: Duration = Duration::from_secs(20);
/// Time after which a picture that could not be read is tried again. Servers and network drives fail for a while.
const RETRY: Duration = Duration::from_secs(60);

/// Reads the picture of a file.
type Open = dyn Fn(&Path) -> Result<Raster> + Send + Sync;

/// Pictures of a folder or a list, in an order that a seed shuffles. After all pictures have been used, the order is
/// shuffled anew.
///
/// Each picture is cut around its middle and scaled to one size. Background threads load pictures ahead, and fetch
/// pictures that are named by a URL into a cache folder. A picture that cannot be read is skipped for a minute, and the
/// next picture takes its place.
#[derive(Debug)]
pub struct Listed {
    shelf: Arc<Shelf>,
}

/// A line of a list.
#[derive(Clone, Debug, Deserialize)]
struct Entry {
    #[serde(alias = "file_name", alias = "image", alias = "path", alias = "url")]
    picture: String,
    #[serde(default, alias = "text", alias = "prompt")]
    caption: String,
}

/// State that the loaders and the training share.
struct Shelf {
    entries: Vec<Entry>,
    /// Folder that paths are relative to.
    base: PathBuf,
    cache: PathBuf,
    size: Size,
    seed: u64,
    open: Box<Open>,
    retry: Duration,
    state: Mutex<State>,
    changed: Condvar,
    /// Locks that are held while a picture is fetched or read, one for each entry. Several loaders may want the same
    /// picture.
    busy: Vec<Mutex<()>>,
}

#[derive(Debug, Default)]
struct State {
    /// Samples by number: loading (`None`) or loaded.
    ready: HashMap<u64, Option<Result<Sample>>>,
    /// End of the numbers to load: `AHEAD` numbers beyond the last one that was asked for.
    wanted: u64,
    /// First number that no loader has taken.
    taken: u64,
    /// Entries that could not be read when they were tried last, and the time of that; `reason` is the problem of the
    /// first of them.
    bad: BTreeMap<usize, Instant>,
    reason: Option<String>,
    /// Number of a round, and the order of the entries in this round.
    order: Option<(u64, Arc<Vec<usize>>)>,
    /// Set when the training is over, so that the loaders end.
    over: bool,
}

impl Listed {
    /// Opens `path`, which is one of these:
    ///
    /// * A file of JSON lines such as `{"picture": "cat.png", "caption": "a cat"}`. Paths are relative to the file's
    ///   folder. Names of other programs also work: `file_name`, `image`, `path` and `url` for `picture`, `text` and
    ///   `prompt` for `caption`.
    /// * A folder with such a list as `metadata.jsonl`.
    /// * A folder without a list. All its pictures are used, each with the caption in the text file of the same name
    ///   (`cat.txt` beside `cat.png`), or without a caption.
    ///
    /// Pictures are cut and scaled to `size`. Pictures from URLs are kept in the folder `cache`.
    ///
    /// # Errors
    /// [`Error::Io`] if `path` cannot be read; [`Error::Malformed`] with the number of a line that is no such entry;
    /// [`Error::Parameter`] if there are no pictures.
    pub fn open(path: &Path, cache: &Path, size: Size, seed: u64) -> Result<Self> {
        Self::open_with(path, cache, size, seed, Box::new(|path| Raster::open(path)), RETRY)
    }

    fn open_with(path: &Path, cache: &Path, size: Size, seed: u64, open: Box<Open>, retry: Duration) -> Result<Self> {
        let is_folder = path.is_dir();
        let list = if is_folder { path.join(METADATA) } else { path.to_owned() };
        let base = list.parent().unwrap_or(Path::new(".")).to_owned();
        let entries = if is_folder && !list.exists() { beside(path)? } else { lines(&list)? };
        if entries.is_empty() {
            let expected = format!("at least one picture ({}), or a list of JSON lines", EXTENSIONS.join(", "));
            return Err(Error::parameter("pictures", path.display(), expected));
        }
        fs::create_dir_all(cache).map_err(|source| Error::Io { path: cache.into(), source })?;
        let busy = entries.iter().map(|_| Mutex::default()).collect();
        let (state, changed) = (Mutex::default(), Condvar::new());
        let shelf =
            Arc::new(Shelf { entries, base, cache: cache.into(), size, seed, open, retry, state, changed, busy });
        for _ in 0..LOADERS {
            let shelf = shelf.clone();
            std::thread::spawn(move || shelf.load());
        }
        Ok(Self { shelf })
    }

    /// Returns the reason why the first skipped picture could not be read.
    pub fn problem(&self) -> Option<String> {
        self.shelf.state().reason.clone()
    }

    /// Returns the number of pictures in the list.
    pub fn len(&self) -> usize {
        self.shelf.entries.len()
    }

    /// Returns true if the list is empty, which it never is.
    pub fn is_empty(&self) -> bool {
        self.shelf.entries.is_empty()
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.shelf.state().over = true;
        self.shelf.changed.notify_all();
    }
}

impl Pictures for Listed {
    fn sample(&self, number: u64) -> Result<Sample> {
        let shelf = &self.shelf;
        let mut state = shelf.state();
        if number >= state.wanted {
            state.taken = number; // the first sample, or the first one of a resumed training
        }
        state.wanted = state.wanted.max(number + 1 + AHEAD);
        shelf.changed.notify_all();
        loop {
            match state.ready.remove(&number) {
                Some(Some(sample)) => return sample,
                Some(None) => drop(state.ready.insert(number, None)),
                // The sample was used before, as the samples of an evaluation are.
                None if number < state.taken => {
                    drop(state);
                    return shelf.make(number);
                }
                None => {}
            }
            state = shelf.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn skipped(&self) -> Option<usize> {
        Some(self.shelf.state().bad.len())
    }
}

impl Shelf {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Loads samples until the training is over. Every loader thread runs this function.
    fn load(&self) {
        let mut state = self.state();
        while !state.over {
            if state.taken >= state.wanted {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let number = state.taken;
            state.taken += 1;
            state.ready.insert(number, None);
            drop(state);
            let sample = self.make(number);
            state = self.state();
            state.ready.insert(number, Some(sample));
            // Samples that the training has not taken for a long time are dropped.
            let old = state.wanted.saturating_sub(4 * AHEAD);
            state.ready.retain(|number, sample| *number >= old || sample.is_none());
            self.changed.notify_all();
        }
    }

    /// Returns the sample of a number: the first readable picture from the number's place in the order on.
    fn make(&self, number: u64) -> Result<Sample> {
        let count = self.entries.len();
        let order = self.order(number / count as u64);
        let place = (number % count as u64) as usize;
        for &index in order.iter().cycle().skip(place).take(count) {
            let (Some(entry), Some(busy)) = (self.entries.get(index), self.busy.get(index)) else { continue };
            let _alone = busy.lock().unwrap_or_else(PoisonError::into_inner);
            if self.state().bad.get(&index).is_some_and(|tried| tried.elapsed() < self.retry) {
                continue;
            }
            // A decoder that panics must not end its loader: the training would wait for the sample without end.
            let picture = catch_unwind(AssertUnwindSafe(|| self.read(entry)))
                .unwrap_or_else(|panic| Err(Error::custom(format!("reading panicked: {}", message(&*panic)))));
            match picture {
                Ok(picture) => {
                    self.state().bad.remove(&index);
                    return Ok(Sample { picture, caption: entry.caption.clone(), latent: None });
                }
                Err(error) => {
                    let mut state = self.state();
                    state.bad.insert(index, Instant::now());
                    state.reason.get_or_insert_with(|| format!("{}: {error}", entry.picture));
                }
            }
        }
        let reason = self.state().reason.clone().unwrap_or_default();
        Err(Error::parameter(
            "pictures",
            format!("{count}, none of which can be read"),
            format!("at least one readable picture; {reason}"),
        ))
    }

    /// Returns the order of the entries in a round.
    fn order(&self, round: u64) -> Arc<Vec<usize>> {
        if let Some((_, order)) = self.state().order.as_ref().filter(|(of, _)| *of == round) {
            return order.clone();
        }
        let mut order: Vec<usize> = (0..self.entries.len()).collect();
        order.shuffle(&mut Pcg64Mcg::seed_from_u64(self.seed.wrapping_add(round)));
        let order = Arc::new(order);
        self.state().order = Some((round, order.clone()));
        order
    }

    fn read(&self, entry: &Entry) -> Result<Raster> {
        let path = match entry.picture.split_once("://") {
            Some(("http" | "https", _)) => self.fetched(&entry.picture)?,
            Some((scheme, _)) => {
                return Err(Error::parameter("picture", format!("{scheme}://…"), "a path, or a URL of http or https"));
            }
            None => self.base.join(&entry.picture),
        };
        let picture = (self.open)(&path)?;
        // The longer side is cut off at both ends before the rest is scaled: a picture of 1×60000 pixels, scaled as a
        // whole, would have gigabytes.
        let (own, size) = (picture.size(), self.size);
        let side = |own: u32, across: u32, wanted: u32, wanted_across: u32| {
            let fitting = u64::from(across) * u64::from(wanted) / u64::from(wanted_across.max(1));
            own.min(fitting.max(1) as u32)
        };
        let width = side(own.width, own.height, size.width, size.height);
        let height = side(own.height, own.width, size.height, size.width);
        let (x, y) = ((own.width - width) / 2, (own.height - height) / 2);
        picture.crop(y..y + height, x..x + width)?.resize(size, Filter::Lanczos)
    }

    /// Fetches the picture at a URL into the cache, unless the cache has it, and returns its path.
    fn fetched(&self, url: &str) -> Result<PathBuf> {
        let name: String = Sha256::digest(url).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        let path = self.cache.join(name);
        if path.exists() {
            return Ok(path);
        }
        let refused = |reason: String| Error::custom(format!("{url} cannot be fetched: {reason}"));
        let agent = ureq::AgentBuilder::new().timeout_connect(PATIENCE).timeout_read(PATIENCE).build();
        let response = agent.get(url).call().map_err(|error| refused(error.to_string()))?;
        let at = |source| Error::Io { path: path.clone(), source };
        let mut part = NamedTempFile::new_in(&self.cache).map_err(at)?;
        let mut bytes = response.into_reader().take(LARGEST + 1);
        let length = std::io::copy(&mut bytes, &mut part).map_err(|error| refused(error.to_string()))?;
        if length > LARGEST {
            return Err(refused(format!("the file has more than {LARGEST} bytes")));
        }
        part.flush().map_err(at)?;
        part.persist(&path).map_err(|error| at(error.error))?;
        Ok(path)
    }
}

impl fmt::Debug for Shelf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shelf").field("entries", &self.entries).field("size", &self.size).finish_non_exhaustive()
    }
}

/// Returns the message of a panic.
fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message")
}

/// Reads the entries of a file of JSON lines.
fn lines(path: &Path) -> Result<Vec<Entry>> {
    let text = fs::read_to_string(path).map_err(|source| Error::Io { path: path.into(), source })?;
    let filled = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let entry = |(number, line): (usize, &str)| {
        impasto::json::parse(line).map_err(|error| Error::Malformed {
            file: format!("{}, line {}", path.display(), number + 1),
            problem: format!("{error}; expected a line such as {{\"picture\": \"cat.png\", \"caption\": \"a cat\"}}"),
        })
    };
    filled.map(entry).collect()
}

/// Lists the pictures of a folder, in the order of their names, with captions from text files beside them.
fn beside(folder: &Path) -> Result<Vec<Entry>> {
    let at = |source| Error::Io { path: folder.into(), source };
    let mut entries = Vec::new();
    for file in fs::read_dir(folder).map_err(at)? {
        let path = file.map_err(at)?.path();
        let extension = path.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase());
        if extension.is_none_or(|extension| !EXTENSIONS.contains(&extension.as_str())) {
            continue;
        }
        let caption = fs::read_to_string(path.with_extension("txt")).unwrap_or_default().trim().to_owned();
        let picture = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        entries.push(Entry { picture, caption });
    }
    entries.sort_by(|a, b| a.picture.cmp(&b.picture));
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use impasto::Rgb;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Opens a list of two pictures of 16×24, `0.png` and `1.png`, which `open` reads.
    fn listed(retry: Duration, open: impl Fn(&Path) -> Result<Raster> + Send + Sync + 'static) -> Listed {
        sized(Size::new(16, 24), retry, open)
    }

    fn sized(size: Size, retry: Duration, open: impl Fn(&Path) -> Result<Raster> + Send + Sync + 'static) -> Listed {
        let folder = tempfile::tempdir().unwrap();
        let list = folder.path().join("list.jsonl");
        fs::write(
            &list,
            "{\"picture\": \"0.png\", \"caption\": \"0\"}\n{\"picture\": \"1.png\", \"caption\": \"1\"}\n",
        )
        .unwrap();
        Listed::open_with(&list, &folder.path().join("cache"), size, 7, Box::new(open), retry).unwrap()
    }

    fn picture() -> Raster {
        Raster::flat(Rgb(9, 9, 9), (16, 24))
    }

    #[test]
    fn picture_that_failed_once_comes_back() {
        let failures = AtomicUsize::new(0);
        let listed = listed(Duration::ZERO, move |path| {
            match path.ends_with("1.png") && failures.fetch_add(1, Ordering::Relaxed) < 2 {
                true => Err(Error::custom("the server is busy")),
                false => Ok(picture()),
            }
        });
        let captions: Vec<String> = (0..40).map(|number| listed.sample(number).unwrap().caption).collect();
        assert!(captions.iter().any(|caption| caption == "1"), "{captions:?}");
        assert_eq!(listed.skipped(), Some(0));
        assert!(listed.problem().unwrap().contains("the server is busy"));
    }

    #[test]
    fn picture_that_failed_waits_for_its_retry() {
        let tried = Arc::new(AtomicUsize::new(0));
        let counted = tried.clone();
        let listed = listed(RETRY, move |path| match path.ends_with("1.png") {
            true => {
                counted.fetch_add(1, Ordering::Relaxed);
                Err(Error::custom("the server is busy"))
            }
            false => Ok(picture()),
        });
        assert!((0..40).all(|number| listed.sample(number).unwrap().caption == "0"));
        assert_eq!((tried.load(Ordering::Relaxed), listed.skipped()), (1, Some(1)));
    }

    #[test]
    fn picture_whose_decoder_panics_is_skipped() {
        let listed = listed(RETRY, |path| match path.ends_with("1.png") {
            true => panic!("index out of bounds"),
            false => Ok(picture()),
        });
        assert!((0..8).all(|number| listed.sample(number).unwrap().caption == "0"));
        assert_eq!(listed.skipped(), Some(1));
        let problem = listed.problem().unwrap();
        assert!(problem.contains("1.png: ") && problem.contains("index out of bounds"), "{problem}");
    }

    #[test]
    fn long_picture_is_cut_before_it_is_scaled() {
        // Scaled as a whole, each would have 15 billion pixels.
        for (own, scaled) in [((1, 60_000), (512, 64)), ((60_000, 1), (64, 512))] {
            let size = Size::new(scaled.0, scaled.1);
            let listed = sized(size, RETRY, move |_| Ok(Raster::flat(Rgb(9, 9, 9), own)));
            assert_eq!(listed.sample(0).unwrap().picture, Raster::flat(Rgb(9, 9, 9), scaled));
        }
    }
}
