//! Files to read: regular files of bounded size.

use impasto::{Error, Raster, Result};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

/// Largest size of a PNG in bytes, equal to the library's.
const LARGEST_PNG: u64 = 512 << 20;

/// Reads a regular file of at most `most` bytes. Reading a pipe or a device may wait forever or never end.
pub fn read(file: &Path, most: u64) -> Result<Vec<u8>> {
    let at = |source| Error::Io { path: file.into(), source };
    let refuse = |problem: String| at(io::Error::new(io::ErrorKind::InvalidInput, problem));
    // The kind is checked by path, because opening a pipe waits for its writer.
    if !fs::metadata(file).map_err(at)?.is_file() {
        return Err(refuse("expected a regular file, not a folder, a pipe or a device".into()));
    }
    let mut bytes = Vec::new();
    File::open(file).and_then(|file| file.take(most + 1).read_to_end(&mut bytes)).map_err(at)?;
    if bytes.len() as u64 > most {
        return Err(refuse(format!("the file has more than {most} bytes, the limit for such a file")));
    }
    Ok(bytes)
}

/// Returns the texts of a PNG file with their keywords. Errors name the file.
pub fn texts(file: &Path) -> Result<Vec<(String, String)>> {
    Raster::texts(&read(file, LARGEST_PNG)?).map_err(|error| match error {
        Error::Malformed { problem, .. } => Error::Malformed { file: file.display().to_string(), problem },
        other => other,
    })
}
