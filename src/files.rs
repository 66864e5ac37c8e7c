//! Files on disk: read within size limits, and written completely or not at all.
//!
//! Programs around this crate read and write their own files as this crate does:
//!
//! ```
//! use impasto::files;
//!
//! # let folder = std::env::temp_dir().join("impasto-files");
//! # std::fs::create_dir_all(&folder).expect("a folder");
//! let path = folder.join("prompts.txt");
//! files::write_whole(&path, b"a red boat")?;
//! assert_eq!(files::read(&path, 1 << 20)?, b"a red boat");
//! assert!(files::write_new(&path, b"a blue boat").is_err(), "the file stays");
//! # std::fs::remove_dir_all(folder).ok();
//! # Ok::<(), impasto::Error>(())
//! ```

use crate::error::{Error, Result};
use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Largest size of a configuration in bytes; published configurations have hundreds to thousands of bytes.
pub(crate) const LARGEST_CONFIG: u64 = 1 << 20;
/// Largest size of a vocabulary, index or other text in bytes; CLIP's `tokenizer.json` has 3.6 MB.
pub(crate) const LARGEST_TEXT: u64 = 16 << 20;

/// Opens a regular file. FIFOs and devices are refused, because opening or reading a FIFO or device may wait forever.
///
/// # Errors
/// [`Error::Io`] if there is no such file, if it may not be read, or if it is a folder, a FIFO, a socket or a device.
pub(crate) fn open(path: &Path) -> Result<File> {
    let at = |source| Error::io(path, source);
    // The kind is checked by path, because opening a FIFO waits for its writer.
    let kind = fs::metadata(path).map_err(at)?;
    if !kind.is_file() {
        let what = if kind.is_dir() { "a folder" } else { "a FIFO, a socket or a device" };
        let problem = format!("this path is {what}; expected a regular file; give the path of a file");
        return Err(at(io::Error::new(io::ErrorKind::InvalidInput, problem)));
    }
    File::open(path).map_err(at)
}

/// Reads a regular file of at most `most` bytes.
///
/// # Errors
/// [`Error::Io`] if there is no such file, if it may not be read, or if it is a folder, a FIFO, a socket or a device;
/// [`Error::Malformed`] with the limit if the file is larger.
pub fn read(path: &Path, most: u64) -> Result<Vec<u8>> {
    bytes(open(path)?, path, most)
}

/// Reads at most `most` bytes. Errors name `path`.
fn bytes(file: impl Read, path: &Path, most: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes).map_err(|source| Error::io(path, source))?;
    if bytes.len() as u64 > most {
        let problem =
            format!("the file has more than {most} bytes, the limit for such a file; check that the path is right");
        return Err(Error::Malformed { file: path.display().to_string(), problem });
    }
    Ok(bytes)
}

/// Reads a file as [`read`] does; `None` if there is no such file.
///
/// # Errors
/// The errors of [`read`].
pub(crate) fn read_if_there(path: &Path, most: u64) -> Result<Option<Vec<u8>>> {
    match read(path, most) {
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    }
}

/// Reads a UTF-8 text as [`read`] does. A byte-order mark before the text is left out.
///
/// # Errors
/// The errors of [`read`]; [`Error::Malformed`] if the text is not UTF-8.
pub(crate) fn read_text(path: &Path, most: u64) -> Result<String> {
    text(open(path)?, path, most)
}

/// Reads a UTF-8 text of at most `most` bytes from `file`, which may be a pipe. A byte-order mark before the text is
/// left out. Errors name `path`.
///
/// # Errors
/// [`Error::Io`] if reading fails; [`Error::Malformed`] if the text is longer or not UTF-8.
pub fn text(file: impl Read, path: &Path, most: u64) -> Result<String> {
    let malformed = |error: std::string::FromUtf8Error| Error::Malformed {
        file: path.display().to_string(),
        problem: format!("the text is not UTF-8 ({}); save the file as UTF-8", error.utf8_error()),
    };
    let text = String::from_utf8(bytes(file, path, most)?).map_err(malformed)?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// A function that writes bytes to a file: [`write_whole`] or [`write_new`].
pub(crate) type Write = fn(&Path, &[u8]) -> Result<()>;

/// Writes a file completely or not at all: a temporary file in the same folder replaces `path`. After a failure the
/// temporary file is removed.
///
/// # Errors
/// [`Error::Io`] if the folder does not exist or the file cannot be written.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    write_part(path, |part, mut file| file.write_all(bytes).map_err(|source| Error::io(part, source)), rename)
}

/// Writes a file as [`write_whole`] does, but never replaces a file.
///
/// A hard link gives the file its name. On file systems without hard links, an empty file first reserves the name. A
/// process that is killed at this moment leaves the empty file behind.
///
/// # Errors
/// The errors of [`write_whole`]; [`Error::Io`] with [`AlreadyExists`](io::ErrorKind::AlreadyExists) if a file has the
/// name already.
pub fn write_new(path: &Path, bytes: &[u8]) -> Result<()> {
    write_part(path, |part, mut file| file.write_all(bytes).map_err(|source| Error::io(part, source)), name_new)
}

/// Writes a file as [`write_whole`] does. `write` gets the path and handle of the temporary file.
///
/// The first call for a folder also removes temporary files that killed processes left there.
///
/// # Errors
/// [`Error::Io`] if the folder does not exist or the file cannot be written; other errors of `write` unchanged.
pub(crate) fn write_whole_with(path: &Path, write: impl FnOnce(&Path, &File) -> Result<()>) -> Result<()> {
    write_part(path, write, rename)
}

/// Writes a temporary file, which `name` then gives the name `path`.
fn write_part(
    path: &Path,
    write: impl FnOnce(&Path, &File) -> Result<()>,
    name: fn(&Path, &Path) -> io::Result<()>,
) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        let missing = io::Error::new(io::ErrorKind::NotFound, "this folder does not exist; create it first");
        return Err(Error::io(folder, missing));
    }
    remove_stale(folder);
    let (part, file) = create_part(folder).map_err(|source| Error::io(path, source))?;
    let at = |source| Error::io(path, source);
    let written =
        write(&part, &file).and_then(|()| file.sync_all().map_err(at)).and_then(|()| name(&part, path).map_err(at));
    written.map_err(|error| {
        fs::remove_file(&part).ok(); // if this fails too, the first error says more
        match error {
            Error::Io { path: failed, source } if failed == part => at(source),
            other => other,
        }
    })
}

/// Gives a temporary file its name, and replaces a file that has the name already.
fn rename(part: &Path, path: &Path) -> io::Result<()> {
    fs::rename(part, path)
}

/// Gives a temporary file its name, unless a file has the name already.
fn name_new(part: &Path, path: &Path) -> io::Result<()> {
    let named = match fs::hard_link(part, path) {
        Ok(()) => {
            fs::remove_file(part).ok(); // the next write removes a leftover
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
        Err(_) => reserve_and_rename(part, path),
    };
    named.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            io::Error::new(error.kind(), "a file has this name already and stays unchanged; give another name")
        }
        _ => error,
    })
}

/// Gives a temporary file its name as [`name_new`] does, on file systems without hard links. An empty file reserves the
/// name until it is replaced, so that no other process can take the name.
fn reserve_and_rename(part: &Path, path: &Path) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).open(path)?;
    fs::rename(part, path).inspect_err(|_| {
        fs::remove_file(path).ok(); // the first error says more
    })
}

const PART_START: &str = ".impasto-";
const PART_END: &str = ".part";

/// Creates a temporary file. The file stays locked while this process writes to it; files of killed processes are
/// unlocked.
fn create_part(folder: &Path) -> io::Result<(PathBuf, File)> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    loop {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let part = folder.join(format!("{PART_START}{}-{count}{PART_END}", std::process::id()));
        match OpenOptions::new().write(true).create_new(true).open(&part) {
            Ok(file) => {
                file.lock().ok(); // some network file systems have no locks
                // Another process may have removed the file as stale before it was locked.
                if part.exists() {
                    return Ok((part, file));
                }
            }
            // The name belongs to a leftover file, or to a process with the same id in another container.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
}

/// Removes the temporary files in a folder that no process is writing. Each folder is searched only once, as listing a
/// large folder takes time.
fn remove_stale(folder: &Path) {
    static LOOKED: Mutex<Option<HashSet<PathBuf>>> = Mutex::new(None);
    let whole = folder.canonicalize().unwrap_or_else(|_| folder.into());
    let is_new = LOOKED.lock().is_ok_and(|mut looked| looked.get_or_insert_default().insert(whole));
    let entries = is_new.then(|| fs::read_dir(folder)).into_iter().flatten().flatten().flatten();
    for entry in entries {
        let name = entry.file_name();
        let is_part = name.to_str().is_some_and(|name| name.starts_with(PART_START) && name.ends_with(PART_END));
        if !is_part || !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            continue;
        }
        let Ok(file) = File::open(entry.path()) else { continue };
        if file.try_lock().is_ok() {
            fs::remove_file(entry.path()).ok(); // a leftover file does no harm
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn stale_part_is_removed_by_next_save() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(".impasto-1-0.part"), b"of a killed process").unwrap();
        let busy = folder.path().join(".impasto-2-0.part");
        let writing = File::create(&busy).unwrap();
        writing.lock().unwrap();
        write_whole(&folder.path().join("a"), b"whole")?;
        let mut left = names(folder.path());
        left.sort();
        assert_eq!(left, [".impasto-2-0.part", "a"]);
        Ok(())
    }

    #[test]
    fn failed_write_leaves_old_file_and_no_part() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        write_whole(&path, b"old").unwrap();
        let full = |part: &Path, mut file: &File| {
            file.write_all(b"half").unwrap();
            Err(Error::io(part, io::Error::new(io::ErrorKind::StorageFull, "no space left")))
        };
        let error = write_whole_with(&path, full).unwrap_err();
        assert!(matches!(&error, Error::Io { path: named, .. } if *named == path), "{error}");
        assert_eq!((names(folder.path()), fs::read(&path).unwrap()), (vec!["a".into()], b"old".to_vec()));
    }

    #[test]
    fn new_file_replaces_no_other() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        write_new(&path, b"first")?;
        let error = write_new(&path, b"second").unwrap_err();
        assert!(matches!(&error, Error::Io { source, .. } if source.kind() == io::ErrorKind::AlreadyExists), "{error}");
        assert_eq!((names(folder.path()), fs::read(&path).unwrap()), (vec!["a".into()], b"first".to_vec()));
        Ok(())
    }

    #[test]
    fn new_file_needs_no_hard_links() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let [part, path] = ["part", "a"].map(|name| folder.path().join(name));
        write_whole(&part, b"first")?;
        reserve_and_rename(&part, &path).unwrap();
        assert_eq!((names(folder.path()), fs::read(&path).unwrap()), (vec!["a".into()], b"first".to_vec()));
        write_whole(&part, b"second")?;
        assert_eq!(reserve_and_rename(&part, &path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"first");
        fs::remove_file(&part).unwrap();
        assert!(reserve_and_rename(&part, &folder.path().join("b")).is_err());
        assert_eq!(names(folder.path()), ["a"], "the reserved name is free again");
        Ok(())
    }

    #[test]
    fn new_file_of_many_writers_has_one_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let write = |writer: u8| write_new(&path, &[writer; 1000]).is_ok();
        let written = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..8).map(|writer| scope.spawn(move || write(writer))).collect();
            writers.into_iter().map(|writer| writer.join().unwrap()).collect::<Vec<bool>>()
        });
        let content = fs::read(&path).unwrap();
        let winner = written.iter().position(|written| *written).unwrap();
        assert_eq!((written.iter().filter(|written| **written).count(), content), (1, vec![winner as u8; 1000]));
    }

    #[test]
    fn large_file_is_refused_with_its_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        fs::write(&path, [b' '; 101]).unwrap();
        assert_eq!(read(&path, 101).unwrap().len(), 101);
        let error = read_text(&path, 100).unwrap_err().to_string();
        assert!(error.contains("config.json: the file has more than 100 bytes, the limit"), "{error}");
        assert!(read(folder.path(), 100).unwrap_err().to_string().contains("is a folder; expected a regular file"));
    }

    #[test]
    fn byte_order_mark_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("composition.json");
        fs::write(&path, "\u{feff}{}").unwrap();
        assert_eq!(read_text(&path, 100).unwrap(), "{}");
    }

    #[test]
    #[cfg(unix)]
    fn fifo_and_device_are_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("config.json");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        for path in [fifo.as_path(), Path::new("/dev/zero")] {
            let error = read(path, 100).unwrap_err().to_string();
            assert!(error.contains("is a FIFO, a socket or a device; expected a regular file"), "{error}");
        }
    }
}
