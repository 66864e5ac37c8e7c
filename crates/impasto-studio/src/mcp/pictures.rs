//! [`Pictures`]: the pictures that a call may name.

use crate::embedded::FIELDS;
use crate::finished::Finished;
use crate::options::Options;
use crate::queue::{Event, Queue};
use crate::refusal::Refusal;
use crate::upload::Upload;
use impasto::files;
use serde_json::{Map, Value};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Beginning of the name of a picture that the server painted: `picture:JOB/INDEX`.
const PAINTED: &str = "picture:";
/// Beginning of a PNG in base64.
const PNG: &str = "iVBORw0KGgo";
/// Longest path in bytes; a longer text is a file in base64.
const LONGEST_PATH: usize = 4096;

/// Returns the name of a picture that the server painted.
pub(super) fn name(job: u64, index: usize) -> String {
    format!("{PAINTED}{job}/{index}")
}

/// A picture that the server painted and still keeps.
#[derive(Clone)]
pub(super) struct Painted {
    pub(super) finished: Arc<Finished>,
    pub(super) index: usize,
}

/// The pictures that a call may name: those that the server painted, files in some folders, and data URLs.
pub(super) struct Pictures {
    queue: Arc<Queue>,
    options: Options,
    folders: Vec<PathBuf>,
}

impl Pictures {
    /// Takes the folders in which files may be read.
    ///
    /// # Errors
    /// The folder that is none, with the reason.
    pub(super) fn new(
        queue: Arc<Queue>,
        options: Options,
        folders: Vec<PathBuf>,
    ) -> Result<Self, (PathBuf, io::Error)> {
        let real = |folder: PathBuf| match folder.canonicalize() {
            Ok(real) if real.is_dir() => Ok(real),
            Ok(_) => Err((folder, io::ErrorKind::NotADirectory.into())),
            Err(error) => Err((folder, error)),
        };
        let folders = folders.into_iter().map(real).collect::<Result<_, _>>()?;
        Ok(Self { queue, options, folders })
    }

    /// Returns the picture that a text names, if the text is the name of a picture that the server painted.
    ///
    /// # Errors
    /// A refusal of the name of a picture that the server does not keep.
    pub(super) fn painted(&self, field: &'static str, text: &str) -> Result<Option<Painted>, Refusal> {
        let Some(numbers) = text.strip_prefix(PAINTED) else { return Ok(None) };
        let (job, index) = numbers.split_once('/').unwrap_or((numbers, "0"));
        let found = || {
            let (job, index): (u64, usize) = (job.parse().ok()?, index.parse().ok()?);
            let Event::Finished(finished) = self.queue.job(job)?.event else { return None };
            (index < finished.count()).then_some(Painted { finished, index })
        };
        found().map(Some).ok_or_else(|| {
            let expected = "expected the name of one of the latest pictures; paint it again";
            Refusal::field(field, format!("{field} is {text:?}; {expected}"))
        })
    }

    /// Returns the file of a picture that is given by path, as a data URL or in base64.
    ///
    /// # Errors
    /// A refusal of a path outside of the folders, and of a file that is no picture or too large.
    pub(super) fn upload(&self, field: &'static str, text: &str) -> Result<Upload, Refusal> {
        let is_encoded = ["data:", "http://", "https://", PNG].iter().any(|beginning| text.starts_with(beginning));
        if is_encoded || text.len() > LONGEST_PATH {
            return Upload::from_base64(field, text, &self.options);
        }
        let file = files::read(&self.find(field, text)?, self.options.file() as u64)
            .map_err(|_| Refusal::field(field, format!("{field} is {text:?}, which cannot be read")))?;
        Upload::from_file(field, file, &self.options)
    }

    /// Returns the real path of a file in the folders. A path that leads out of them, also by a link, is refused in the
    /// same words as one without a file, so that a client learns nothing about other folders.
    fn find(&self, field: &'static str, text: &str) -> Result<PathBuf, Refusal> {
        let tried = self.folders.iter().filter_map(|folder| folder.join(Path::new(text)).canonicalize().ok());
        let is_inside = |path: &PathBuf| self.folders.iter().any(|folder| path.starts_with(folder));
        tried.into_iter().find(is_inside).ok_or_else(|| {
            let expected = if self.folders.is_empty() {
                "expected the name of a painted picture, such as picture:1/0, or a data URL; the user can start the \
                 server with --folder FOLDER, so that it reads files there"
            } else {
                "expected a file in the folders that the user named with --folder, the name of a painted picture, such \
                 as picture:1/0, or a data URL"
            };
            Refusal::field(field, format!("{field} is {text:?}; {expected}"))
        })
    }

    /// Puts pictures into the place of their names in the fields of a job.
    ///
    /// # Errors
    /// The refusals of [`painted`](Self::painted) and [`upload`](Self::upload).
    pub(super) fn fill_in(&self, job: &mut Map<String, Value>) -> Result<(), Refusal> {
        for field in FIELDS {
            self.replace(field, job.get_mut(field))?;
        }
        const LIKE: &str = "ip_adapter_pictures";
        for (list, part) in [("areas", "mask"), ("controls", "picture"), (LIKE, "picture"), (LIKE, "mask")] {
            for value in job.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
                self.replace(list, value.get_mut(part))?;
            }
        }
        Ok(())
    }

    /// Puts a picture into the place of its name.
    fn replace(&self, field: &'static str, value: Option<&mut Value>) -> Result<(), Refusal> {
        let Some(Value::String(text)) = value else { return Ok(()) };
        *text = match self.painted(field, text)? {
            Some(Painted { finished, index }) => {
                let picture = finished.pictures().get(index).map(|picture| picture.data_url()).transpose();
                picture.map_err(|error| Refusal::field(field, error.to_string()))?.unwrap_or_default()
            }
            None => self.upload(field, text)?.data_url()?,
        };
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use impasto::{Raster, Rgb};
    use serde_json::json;

    fn pictures(folders: &[&Path]) -> Pictures {
        let options = Options::default();
        let folders = folders.iter().map(|folder| (*folder).to_owned()).collect();
        Pictures::new(Arc::new(Queue::new(&options)), options, folders).unwrap()
    }

    fn refused(pictures: &Pictures, text: &str) -> String {
        let mut job = json!({ "start": text });
        pictures.fill_in(job.as_object_mut().unwrap()).unwrap_err().sentence
    }

    #[test]
    fn files_are_read_in_the_folders_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (inside, outside) = (folder.path().join("inside"), folder.path().join("outside"));
        for folder in [&inside, &outside] {
            std::fs::create_dir(folder).unwrap();
            Raster::flat(Rgb(9, 8, 7), (8, 8)).save(folder.join("a.png")).unwrap();
        }
        let url = Raster::flat(Rgb(9, 8, 7), (8, 8)).data_url().unwrap();
        let pictures = pictures(&[&inside]);
        let absolute = inside.join("a.png").display().to_string();
        let mut job = json!({ "start": "a.png", "areas": [{ "phrase": "a", "mask": absolute }, "red=house"] });
        pictures.fill_in(job.as_object_mut().unwrap()).unwrap();
        let read = |text: &Value| serde_json::from_value::<Raster>(text.clone()).unwrap();
        assert_eq!([read(&job["start"]), read(&job["areas"][0]["mask"])], [read(&json!(url)), read(&json!(url))]);
        let absolute = outside.join("a.png").display().to_string();
        for path in ["../outside/a.png", &absolute, "missing.png", "/etc/passwd"] {
            let sentence = refused(&pictures, path);
            assert_eq!(sentence, refused(&pictures, "none.png").replace("none.png", path));
        }
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(outside.join("a.png"), inside.join("link.png")).unwrap();
            assert!(refused(&pictures, "link.png").contains("expected a file in the folders"));
        }
        assert!(refused(&self::pictures(&[]), "a.png").contains("start the server with --folder"));
    }

    #[test]
    fn unfit_texts_are_named() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.txt"), "no picture").unwrap();
        let pictures = pictures(&[folder.path()]);
        assert!(refused(&pictures, "a.txt").contains("start is no picture"));
        assert!(refused(&pictures, "picture:7/0").contains("expected the name of one of the latest pictures"));
        assert!(refused(&pictures, "https://example.com/a.png").contains("loads nothing from elsewhere"));
        assert!(refused(&pictures, "data:image/png;base64,!").contains("no base64"));
        assert!(refused(&pictures, "").contains("start is"));
    }

    #[test]
    fn base64_is_told_from_a_path() {
        let url = Raster::flat(Rgb(9, 8, 7), (8, 8)).data_url().unwrap();
        let mut job = json!({ "start": url.rsplit(',').next().unwrap() });
        pictures(&[]).fill_in(job.as_object_mut().unwrap()).unwrap();
        assert_eq!(job["start"], url);
    }
}
