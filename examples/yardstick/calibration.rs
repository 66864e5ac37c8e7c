//! The judge's own error.
use crate::generator::Settings;
use crate::runner::Failure;
use std::path::Path;
pub fn run(_: &Path, _: &Settings, _: usize) -> Result<(), Failure> {
    Err("calibrate: not there".into())
}
