//! [`Settings`] of a LoRA's training, which a later call has to repeat.

use crate::arguments::LoraOptions;
use clap::ValueEnum;
use impasto::{Error, Result};
use impasto_train::Checkpoint;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Name of the file of the settings, beside the checkpoint.
const FILE: &str = "settings.json";
/// Options that name a file or a folder.
const PATHS: [&str; 2] = ["--model", "--pictures"];
/// Options that another call may change while steps are left. After the last step, they would only change the metadata.
const FREE: [&str; 5] = ["--accumulate", "--batch", "--offset-noise", "--rate", "--workers"];

/// The options that decide what a LoRA learns, by their names. The file of a LoRA tells most of them, so they have to
/// be those of the checkpoint.
pub(crate) struct Settings(Vec<(&'static str, String)>);

impl Settings {
    /// Returns the settings of a call, with the learning rate and the offset noise that the call uses.
    pub(crate) fn of(lora: &LoraOptions, rate: f64, offset: f64) -> Self {
        let options = &lora.options;
        let whole = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.into()).display().to_string();
        let init: Vec<_> = options.init.iter().map(|path| path.display().to_string()).collect();
        let layers = lora.layers.to_possible_value().map(|value| value.get_name().to_owned());
        Self(vec![
            ("--model", lora.model.as_deref().map_or_else(|| "the embedded model".into(), whole)),
            ("--pictures", whole(lora.pictures.as_path())),
            ("--rank", lora.rank.to_string()),
            ("--alpha", lora.alpha.unwrap_or(lora.rank as f64).to_string()),
            ("--dora", if lora.dora { "on" } else { "off" }.into()),
            ("--layers", layers.unwrap_or_default()),
            ("--trigger", lora.trigger.trim().into()),
            ("--init", init.join(", ")),
            ("--seed", options.seed.to_string()),
            ("--rate", rate.to_string()),
            ("--offset-noise", offset.to_string()),
            ("--batch", options.batch.to_string()),
            ("--accumulate", options.accumulate.to_string()),
            ("--workers", options.workers.to_string()),
        ])
    }

    /// Compares the settings with those of the run in `folder`, if the folder has a checkpoint. Checkpoints of earlier
    /// versions have no settings beside them.
    ///
    /// # Errors
    /// [`Error::Parameter`] for an option with another value; [`Error::Io`] and [`Error::Malformed`] for files that
    /// cannot be read.
    pub(crate) fn check(&self, folder: &Path, steps: u64) -> Result<()> {
        let (path, checkpoint) = (folder.join(FILE), folder.join("checkpoint.safetensors"));
        if !(path.exists() && checkpoint.exists()) {
            return Ok(());
        }
        let is_finished = Checkpoint::load(&checkpoint)?.step >= steps;
        let text = fs::read_to_string(&path).map_err(|source| Error::Io { path: path.clone(), source })?;
        let malformed =
            |e: serde_json::Error| Error::Malformed { file: path.display().to_string(), problem: e.to_string() };
        let before: BTreeMap<String, String> = serde_json::from_str(&text).map_err(malformed)?;
        for &(name, ref now) in &self.0 {
            let Some(then) = before.get(name) else { continue };
            let is_free = FREE.contains(&name) && !is_finished;
            if then != now && !is_free && !(PATHS.contains(&name) && is_moved(then, now)) {
                let (then, folder) = (named(then), folder.display());
                let expected = format!(
                    "{then}, with which the LoRA in {folder} was trained; give the same settings, or another OUT"
                );
                return Err(Error::parameter(name, named(now), expected));
            }
        }
        Ok(())
    }

    /// Writes the settings into the folder of the run, whole or not at all.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        let path = folder.join(FILE);
        let settings: BTreeMap<&str, &str> = self.0.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let text = serde_json::json!(settings).to_string();
        let partial = path.with_extension("partial");
        let written = fs::write(&partial, text).and_then(|()| fs::rename(&partial, &path));
        written.map_err(|source| Error::Io { path, source })
    }
}

/// Returns true if a path that no longer exists has the name of another one, as on another machine.
fn is_moved(then: &str, now: &str) -> bool {
    !Path::new(then).exists() && Path::new(then).file_name() == Path::new(now).file_name()
}

/// Names the value of an option in an error.
fn named(value: &str) -> &str {
    if value.is_empty() { "not given" } else { value }
}
