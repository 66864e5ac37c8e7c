//! A case on disk: `case.json`, its tensors, and whether it can be run here.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use tch::{Device, Tensor};

/// A result whose error is any failure with its message.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// A case that was read from disk.
#[allow(dead_code, reason = "no kind reads every field")]
pub struct Case {
    pub name: String,
    pub kind: String,
    /// Folder that paths inside `case.json` are relative to.
    pub dir: PathBuf,
    pub params: Value,
    /// Folders of the models by role (`unet`, `tokenizer`, ...).
    pub models: BTreeMap<String, PathBuf>,
    /// Tensors `in.<name>`, by name.
    pub inputs: HashMap<String, Tensor>,
    /// Tensors `out.<name>` with their tolerances, by name.
    pub wanted: BTreeMap<String, Wanted>,
}

/// An expected output.
pub struct Wanted {
    pub tensor: Tensor,
    pub atol: f64,
    pub rtol: f64,
}

/// The decision to run a case or to skip it.
pub enum Stance {
    Run,
    /// Skips the case; the text says what is missing here.
    Skip(String),
}

/// The contents of `case.json`.
#[derive(Deserialize)]
struct Description {
    format: u32,
    name: String,
    kind: String,
    #[serde(default)]
    models: BTreeMap<String, String>,
    #[serde(default)]
    params: Value,
    #[serde(default)]
    outputs: BTreeMap<String, Tolerance>,
    #[serde(default)]
    needs: Vec<String>,
    requires: Option<String>,
    #[serde(default)]
    fingerprint: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Tolerance {
    atol: f64,
    rtol: f64,
}

impl Case {
    /// Reads `dir/case.json`. `missing` says what the crate lacks for a kind and its needs. [`load`](Self::load) reads
    /// the tensors later.
    ///
    /// Returns an error for a stale case: a file that the case requires differs from its fingerprint.
    pub fn open(dir: &Path, missing: fn(&str, &[String]) -> Vec<String>) -> Result<(Self, Stance)> {
        let text = std::fs::read(dir.join("case.json"))?;
        let description: Description = serde_json::from_slice(&text).map_err(|error| format!("case.json: {error}"))?;
        if description.format != 1 {
            return Err(format!("case.json has format {}; expected 1", description.format).into());
        }
        let stance = description.stance(dir, missing)?;
        let wanted = description
            .outputs
            .iter()
            .map(|(name, &Tolerance { atol, rtol })| (name.clone(), Wanted { tensor: Tensor::new(), atol, rtol }));
        let case = Self {
            wanted: wanted.collect(),
            models: description.models.iter().map(|(role, path)| (role.clone(), dir.join(path))).collect(),
            inputs: HashMap::new(),
            name: description.name,
            kind: description.kind,
            dir: dir.into(),
            params: description.params,
        };
        Ok((case, stance))
    }

    /// Reads the tensors, with the inputs on `device`. Every output must have both a tolerance and
    /// a tensor.
    pub fn load(&mut self, device: Device) -> Result<()> {
        let path = self.dir.join("tensors.safetensors");
        let tensors = if path.exists() { Tensor::read_safetensors(path)? } else { Vec::new() };
        for (name, tensor) in tensors {
            if let Some(input) = name.strip_prefix("in.") {
                self.inputs.insert(input.into(), tensor.to_device(device));
            } else if let Some(wanted) = name.strip_prefix("out.").and_then(|name| self.wanted.get_mut(name)) {
                wanted.tensor = tensor;
            } else {
                return Err(format!("tensor {name} is neither an input nor an output of case.json").into());
            }
        }
        match self.wanted.iter().find(|(_, wanted)| !wanted.tensor.defined()) {
            Some((name, _)) => Err(format!("output {name} has a tolerance, but no tensor out.{name}").into()),
            None => Ok(()),
        }
    }

    /// Returns the tensor `in.<name>`.
    pub fn input(&self, name: &str) -> Result<&Tensor> {
        self.inputs.get(name).ok_or_else(|| format!("the case has no input {name}").into())
    }

    /// Returns the folder of a model, by role.
    pub fn model(&self, role: &str) -> Result<&Path> {
        self.models.get(role).map(PathBuf::as_path).ok_or_else(|| format!("the case has no model {role}").into())
    }

    /// Returns `params.<name>`. A parameter that is read as an `Option` may be absent.
    pub fn param<T: DeserializeOwned>(&self, name: &str) -> Result<T> {
        let value = self.params.get(name).cloned().unwrap_or(Value::Null);
        serde_json::from_value(value).map_err(|error| format!("params.{name}: {error}").into())
    }

    /// Reads a file of the case, or its `.gz` unpacked.
    pub fn read(&self, path: impl AsRef<Path>) -> Result<Vec<u8>> {
        read(&self.dir.join(path))
    }

    /// Reads a JSON file of the case, or its `.gz` unpacked.
    pub fn json<T: DeserializeOwned>(&self, path: impl AsRef<Path>) -> Result<T> {
        Ok(serde_json::from_slice(&self.read(path)?)?)
    }
}

impl Description {
    fn stance(&self, dir: &Path, missing: fn(&str, &[String]) -> Vec<String>) -> Result<Stance> {
        let missing = missing(&self.kind, &self.needs);
        if !missing.is_empty() {
            return Ok(Stance::Skip(format!("needs {}", missing.join(", "))));
        }
        let Some(requires) = &self.requires else { return Ok(Stance::Run) };
        let required = dir.join(requires);
        if !required.exists() {
            return Ok(Stance::Skip(format!("needs {requires}, which is not there")));
        }
        for (file, fingerprint) in &self.fingerprint {
            let content = std::fs::read(required.join(file)).map_err(|error| format!("{requires}/{file}: {error}"))?;
            let digest: String = Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
            if digest != *fingerprint {
                return Err(format!("stale: {requires}/{file} is not the file that the case was made with").into());
            }
        }
        Ok(Stance::Run)
    }
}

/// Reads a file, or the same name with `.gz` unpacked. A name that ends in `.gz` is unpacked too.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    let zipped = path.extension().is_some_and(|extension| extension == "gz");
    if path.exists() && !zipped {
        return Ok(std::fs::read(path)?);
    }
    let path = if zipped { path.into() } else { PathBuf::from(format!("{}.gz", path.display())) };
    let file = std::fs::File::open(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut content = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(file), &mut content)?;
    Ok(content)
}
