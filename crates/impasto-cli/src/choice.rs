//! Models to choose from: the files and folders of model folders.

use crate::adapters::Networks;
use crate::failure::Failure;
use crate::loading::{Loading, is_model_file};
use clap::Args;
use impasto::{Error, Pipeline, Source};
use impasto_studio::{Engine, Models};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Folders of models that the clients of a server can choose.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Model")]
pub struct ModelFolders {
    /// A folder of models, which the page and other clients can choose by name: .safetensors and .ckpt files, and
    /// folders in diffusers' layout. One model is in memory at a time. May be given several times.
    #[arg(long, value_name = "FOLDER")]
    model_dir: Vec<PathBuf>,
}

/// The model that a server was started with, and those of its folders.
struct Choice {
    /// Name of the first model.
    first: String,
    folders: Vec<PathBuf>,
    loading: Loading,
    networks: Networks,
}

/// Endings of the files that can be models.
const ENDINGS: [&str; 2] = ["safetensors", "ckpt"];
/// Number of files of a folder that are looked at.
const MOST: usize = 10_000;
/// Longest name of a model in bytes, as a request may have it.
const LONGEST: usize = 256;

impl ModelFolders {
    /// Returns true if there is no choice.
    pub const fn is_empty(&self) -> bool {
        self.model_dir.is_empty()
    }

    /// Loads the first model, after a check that all folders can be read.
    pub fn pipeline(&self, loading: &Loading) -> Result<Pipeline, Failure> {
        for folder in &self.model_dir {
            fs::read_dir(folder).map_err(|source| Error::Io { path: folder.clone(), source })?;
        }
        loading.pipeline(Source::embedded())
    }

    /// Loads the networks of the first model, and adds the choice of the folders' models if there are folders.
    pub fn engine(&self, pipeline: Pipeline, loading: &Loading, networks: &Networks) -> Result<Engine, Failure> {
        let engine = networks.engine(pipeline)?;
        if self.is_empty() {
            return Ok(engine);
        }
        let first = loading.model.clone().unwrap_or_else(|| "embedded".into());
        let (loading, networks) = (loading.clone(), networks.clone());
        let mut choice = Choice { first, folders: self.model_dir.clone(), loading, networks };
        // A model of the folders has its short name.
        let given = fs::canonicalize(&choice.first).ok();
        let same = |path: &Path| given.is_some() && fs::canonicalize(path).ok() == given;
        if let Some((name, _)) = choice.found().into_iter().find(|(_, path)| same(path)) {
            choice.first = name;
        }
        Ok(engine.with_models(choice.first.clone(), Arc::new(choice)))
    }
}

impl Choice {
    /// Returns the models of the folders with their names, in the order of the names. Of two models with one name, that
    /// of the earlier folder counts, and in one folder the file of safetensors.
    fn found(&self) -> Vec<(String, PathBuf)> {
        let mut found = BTreeMap::new();
        for folder in self.folders.iter().filter_map(|folder| fs::read_dir(folder).ok()) {
            let mut paths: Vec<PathBuf> = folder.take(MOST).flatten().map(|entry| entry.path()).collect();
            paths.sort_by(|a, b| b.cmp(a)); // .safetensors before .ckpt
            for path in paths {
                if let Some(name) = name_of(&path).filter(|name| name.len() <= LONGEST) {
                    found.entry(name).or_insert(path);
                }
            }
        }
        found.into_iter().collect()
    }

    /// Returns the path of a model that is not the first one.
    fn path(&self, name: &str) -> impasto::Result<PathBuf> {
        let found = self.found().into_iter().find(|(known, _)| known == name);
        let gone = || Error::custom(format!("the model {name} is not there any more"));
        found.map(|(_, path)| path).ok_or_else(gone)
    }
}

/// Returns the name of a model in a folder of models; `None` for other files and folders.
fn name_of(path: &Path) -> Option<String> {
    let is_model = if path.is_dir() {
        ["model_index.json", "unet", "transformer"].iter().any(|part| path.join(part).exists())
    } else {
        path.extension().and_then(|ending| ending.to_str()).is_some_and(|ending| ENDINGS.contains(&ending))
    };
    let name = if path.is_dir() { path.file_name() } else { path.file_stem() };
    name.filter(|_| is_model)?.to_str().map(str::to_owned)
}

impl Models for Choice {
    fn names(&self) -> Vec<String> {
        let found = self.found().into_iter().map(|(name, _)| name).filter(|name| *name != self.first);
        std::iter::once(self.first.clone()).chain(found).collect()
    }

    fn check(&self, name: &str) -> impasto::Result<()> {
        if name == self.first {
            return Ok(());
        }
        let path = self.path(name)?;
        if path.is_dir() || is_model_file(&path) {
            return Ok(());
        }
        // The library refuses such a file by its header, before it reads weights.
        self.load(name).map(drop)
    }

    fn load(&self, name: &str) -> impasto::Result<Engine> {
        let mut loading = self.loading.clone();
        if name != self.first {
            loading = loading.for_another(self.path(name)?.display().to_string());
        }
        let pipeline = loading.pipeline(Source::embedded()).map_err(|failure| match failure {
            Failure::Library(error) => error,
            other => Error::custom(other.to_string()),
        })?;
        Ok(self.networks.fitting(pipeline))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use clap::Parser;
    use impasto::weights::{Tensors, write_safetensors};
    use tch::{Device, Kind, Tensor};

    #[derive(Debug, Parser)]
    struct Alone {
        #[command(flatten)]
        folders: ModelFolders,
        #[command(flatten)]
        loading: Loading,
        #[command(flatten)]
        networks: Networks,
    }

    fn choice(folders: &[&Path]) -> Choice {
        let Alone { loading, networks, .. } = Alone::parse_from(["impasto", "--net", "lines=embedded"]);
        let folders = folders.iter().map(PathBuf::from).collect();
        Choice { first: "embedded".into(), folders, loading, networks }
    }

    #[test]
    fn folders_have_models_by_their_names() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for file in ["b.safetensors", "b.ckpt", "a.ckpt", "notes.txt", "embedded.ckpt"] {
            fs::write(path(file), "").unwrap();
        }
        fs::create_dir_all(path("diffusers/unet")).unwrap();
        fs::create_dir_all(path("pictures")).unwrap();
        let other = tempfile::tempdir().unwrap();
        fs::write(other.path().join("a.safetensors"), "").unwrap();
        let choice = choice(&[folder.path(), other.path()]);
        assert_eq!(choice.names(), ["embedded", "a", "b", "diffusers"]);
        let ending = |name: &str| choice.found().into_iter().find(|(known, _)| known == name).unwrap().1;
        assert_eq!([ending("a"), ending("b")], [path("a.ckpt"), path("b.safetensors")]);
        let error = choice.load("b").unwrap_err().to_string();
        assert!(error.contains("b.safetensors"), "{error}");
        assert!(choice.load("../b").unwrap_err().to_string().contains("is not there any more"));
        assert!(choice.load("embedded").is_ok());
    }

    #[test]
    fn first_model_of_a_folder_has_its_short_name() {
        let folder = tempfile::tempdir().unwrap();
        let arguments = ["impasto", "--model-dir", &folder.path().display().to_string()].map(str::to_owned);
        let Alone { folders, loading, networks } = Alone::parse_from(&arguments);
        let engine = |folders: &ModelFolders| {
            let pipeline = folders.pipeline(&loading).unwrap();
            format!("{:?}", folders.engine(pipeline, &loading, &networks).unwrap())
        };
        assert!(engine(&folders).contains("Some(\"embedded\")"));
        let missing = ModelFolders { model_dir: vec![folder.path().join("missing")] };
        let error = missing.pipeline(&loading).map(drop).unwrap_err().to_string();
        assert!(error.contains("missing"), "{error}");
        assert!(engine(&ModelFolders { model_dir: Vec::new() }).contains("choice: None"));
    }

    #[test]
    fn parts_of_the_first_model_stay_with_it() {
        // The folder has the files of the embedded model, by the name "model".
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../impasto-tiny");
        let load = |options: &[&str]| {
            let Alone { loading, networks, .. } = Alone::parse_from([&["impasto"], options].concat());
            let choice = Choice { first: "first".into(), folders: vec![folder.clone()], loading, networks };
            choice.load("model").map(drop).map_err(|error| error.to_string())
        };
        assert_eq!(load(&["--shift", "3"]), Ok(()));
        for encoder in ["--text-encoder", "--text-encoder-2", "--text-encoder-3"] {
            assert_eq!(load(&[encoder, "nowhere", "--vae", "nowhere"]), Ok(()), "{encoder}");
        }
        let error = load(&["--vae", "nowhere"]).unwrap_err();
        assert!(error.contains("--vae is nowhere"), "a VAE alone is for every model: {error}");
    }

    #[test]
    fn vae_of_another_kind_stays_with_the_first_model() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let vae = here.join("../../tests/golden/models/qwen-vae").display().to_string();
        let Alone { loading, networks, .. } = Alone::parse_from(["impasto", "--vae", &vae]);
        let choice = Choice { first: "first".into(), folders: vec![here.join("../impasto-tiny")], loading, networks };
        let load = |name: &str| choice.load(name).map(drop).map_err(|error| error.to_string());
        assert_eq!(load("model"), Ok(()), "the model has its own VAE");
        let error = load("first").unwrap_err();
        assert!(error.contains("AutoencoderKLQwenImage"), "the first model needs the given VAE: {error}");
    }

    #[test]
    fn file_that_is_no_model_is_refused_by_its_header() {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/models");
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for (part, name) in [("qwen-vae", "vae.safetensors"), ("z-image", "model.safetensors")] {
            fs::copy(golden.join(part).join("diffusion_pytorch_model.safetensors"), path(name)).unwrap();
        }
        let rows = Tensor::ones([1, 768], (Kind::Float, Device::Cpu));
        write_safetensors(&Tensors::from([("emb_params".to_owned(), rows)]), &path("word.safetensors")).unwrap();
        fs::write(path("empty.ckpt"), "").unwrap();
        fs::create_dir_all(path("diffusers/unet")).unwrap();
        let choice = choice(&[folder.path()]);
        let check = |name: &str| choice.check(name).map_err(|error| error.to_string());
        for name in ["embedded", "model", "diffusers"] {
            assert_eq!(check(name), Ok(()), "{name}");
        }
        for (name, told) in [("vae", "a VAE"), ("word", "an embedding"), ("empty", "empty"), ("gone", "not there")] {
            let error = check(name).unwrap_err();
            assert!(error.contains(told), "{name}: {error}");
        }
    }

    #[test]
    fn files_of_one_family_share_their_parts() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let golden = here.join("../../tests/golden/models");
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        for name in ["a.safetensors", "b.safetensors"] {
            fs::copy(golden.join("z-image/diffusion_pytorch_model.safetensors"), path(name)).unwrap();
        }
        fs::create_dir(path("tokenizer")).unwrap();
        for file in ["vocab.json", "merges.txt", "tokenizer_config.json"] {
            fs::copy(golden.join("tokenizer-qwen").join(file), folder.path().join("tokenizer").join(file)).unwrap();
        }
        let rows = Tensor::ones([1, 768], (Kind::Float, Device::Cpu));
        let word = folder.path().join("easynegative.safetensors");
        write_safetensors(&Tensors::from([("emb_params".to_owned(), rows)]), &word).unwrap();

        let qwen = golden.join("anima-qwen3/model.safetensors").display().to_string();
        let (model, vae) = (path("a.safetensors"), golden.join("sd3-vae").display().to_string());
        let split: [&str; 7] = ["impasto", "--model", &model, "--text-encoder", &qwen, "--vae", &vae];
        let choose = |options: &[&str], name: &str| {
            let Alone { loading, networks, .. } = Alone::parse_from([split.as_slice(), options].concat());
            let folders = vec![folder.path().to_owned(), here.join("../impasto-tiny")];
            let choice = Choice { first: "a".into(), folders, loading, networks };
            choice.load(name).map(drop).map_err(|error| error.to_string())
        };
        assert_eq!(choose(&[], "a"), Ok(()));
        assert_eq!(choose(&[], "b"), Ok(()), "a file of the same family has the same parts");
        assert_eq!(choose(&[], "model"), Ok(()), "a model of another family has its own parts");
        let word = word.display().to_string();
        let learned = ["--embedding", word.as_str()];
        assert_eq!((choose(&learned, "b"), choose(&learned, "model")), (Ok(()), Ok(())), "the word fits neither");
        assert!(choose(&learned, "a").unwrap_err().contains("not CLIP"), "the first model needs the word");
    }
}
