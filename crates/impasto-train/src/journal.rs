//! The journal of a training run: its figures as lines of JSON.

use impasto::{Error, Result};
use serde_json::{Map, Value};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// A file of lines such as `{"step": 200, "loss": 0.31}`, each written at once.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
}

impl Journal {
    /// Opens the journal at `path` to continue after `step` steps. Lines of later steps are dropped: a kill has undone
    /// these steps.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn resume(path: &Path, step: u64) -> Result<Self> {
        let kept: String = Self::read(path)?
            .iter()
            .filter(|line| line.get("step").and_then(Value::as_u64).is_some_and(|at| at <= step))
            .map(|line| format!("{}\n", Value::Object(line.clone())))
            .collect();
        let at = |source| Error::Io { path: path.into(), source };
        // The lines go to a file of another name first, so that a kill leaves either the old journal or the new one.
        let folder = path.parent().unwrap_or(Path::new("."));
        let mut part = NamedTempFile::new_in(folder).map_err(at)?;
        part.write_all(kept.as_bytes()).map_err(at)?;
        part.as_file().sync_all().map_err(at)?;
        part.persist(path).map_err(|error| at(error.error))?;
        let file = OpenOptions::new().append(true).open(path).map_err(at)?;
        Ok(Self { path: path.into(), file })
    }

    /// Reads the lines of a journal. A last line that was cut off is ignored.
    ///
    /// # Errors
    /// [`Error::Io`], except for a missing file, which has no lines.
    pub fn read(path: &Path) -> Result<Vec<Map<String, Value>>> {
        match fs::read_to_string(path) {
            Ok(text) => Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(source) => Err(Error::Io { path: path.into(), source }),
        }
    }

    /// Adds a line.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(&mut self, step: u64, figures: &[(&'static str, f64)]) -> Result<()> {
        let mut line = Map::from_iter([("step".into(), Value::from(step))]);
        line.extend(figures.iter().map(|&(name, value)| (name.into(), Value::from(value))));
        let text = format!("{}\n", Value::Object(line));
        self.file.write_all(text.as_bytes()).map_err(|source| Error::Io { path: self.path.clone(), source })
    }
}
