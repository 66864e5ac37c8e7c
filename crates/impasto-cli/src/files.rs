//! Texts of PNG files, and checks of the files to write, made before a run that may take an hour.

use crate::failure::Failure;
use impasto::{Error, Raster, Result};
use std::path::Path;

/// Returns the texts of a PNG file with their keywords. Errors name the file.
pub fn texts(file: &Path) -> Result<Vec<(String, String)>> {
    // Opening the picture refuses folders, devices and files of gigabytes before they are read.
    let _ = Raster::open(file)?;
    let bytes = std::fs::read(file).map_err(|source| Error::Io { path: file.into(), source })?;
    Raster::texts(&bytes).map_err(|error| match error {
        Error::Malformed { problem, .. } => Error::Malformed { file: file.display().to_string(), problem },
        other => other,
    })
}

/// Checks that the folder of a file exists.
pub fn in_a_folder(file: &Path) -> std::result::Result<(), Failure> {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() && !folder.is_dir() => {
            Err(Failure::Message(format!("{}: this folder does not exist; create it first", folder.display())))
        }
        _ => Ok(()),
    }
}

/// Checks that the folder of a file exists, and that its name ends in `.png`. No other format holds a recipe.
pub fn png(file: &Path) -> std::result::Result<(), Failure> {
    if !file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("png")) {
        let file = file.display();
        return Err(Failure::Message(format!("{file} is not the name of a PNG; expected a name that ends in .png")));
    }
    in_a_folder(file)
}
