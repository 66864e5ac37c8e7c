//! Choice of the files of a repository that a checkpoint needs.

use super::repository::{Hub, is_inside};
use crate::error::{Error, Result};
use crate::json;
use crate::weights::checkpoint::{WeightNames, shards};
use crate::weights::file::is_weights;
use crate::weights::source::Source;
use crate::wording::Remedy;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::Path;

/// The files to fetch: files of a diffusers folder, or one single file.
pub(super) enum Choice {
    Folder {
        files: Vec<String>,
        /// Folders of the parts of a model; the empty name for the repository itself.
        parts: Vec<String>,
        /// True if some weights are those of the requested variant.
        varied: bool,
    },
    File(String),
}

/// Names of the index of a model's parts: that of a pipeline, and that of a modular one.
const INDICES: [&str; 2] = ["model_index.json", "modular_model_index.json"];
/// Classes of transformers that this crate computes.
const TRANSFORMERS: [&str; 3] = ["CosmosTransformer3DModel", "SD3Transformer2DModel", "ZImageTransformer2DModel"];
/// Parts that this crate does not read.
const IGNORED: [&str; 2] = ["safety_checker", "feature_extractor"];
/// Parts that a model can do without.
const OPTIONAL: [&str; 1] = ["image_encoder"];
/// Largest number of files that a message lists.
const MOST_SHOWN: usize = 8;
/// Names of a part's configuration and tokenizer files.
const SMALL: [&str; 8] = [
    "config.json",
    "scheduler_config.json",
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
];

impl Choice {
    /// Chooses the needed files among `listed`, the repository's files with their sizes in bytes. `read` fetches and
    /// reads a small file.
    pub(super) fn of(
        hub: &Hub,
        listed: &BTreeMap<String, u64>,
        variant: Option<&str>,
        mut read: impl FnMut(&str) -> Result<Vec<u8>>,
    ) -> Result<Self> {
        if let Some(file) = &hub.file {
            return match listed.contains_key(file) {
                true => Ok(Self::File(file.clone())),
                false => Err(no_file(hub, listed, file)),
            };
        }
        if let Some(index) = INDICES.into_iter().find(|index| listed.contains_key(*index)) {
            let parts: Map<String, Value> = json::parse(read(index)?).map_err(|error| Error::Malformed {
                file: format!("{index} of {}", hub.repository),
                problem: error.to_string(),
            })?;
            let class = |part: &str| parts.get(part)?.get(1)?.as_str();
            let is_known =
                class("unet").is_some() || class("transformer").is_some_and(|class| TRANSFORMERS.contains(&class));
            if let Some(class) = parts.get("_class_name").and_then(Value::as_str).filter(|_| !is_known) {
                let problem = format!("the repository is of {class}, whose network is not supported");
                return Err(hub.error(Remedy::Model.after(problem)));
            }
            // A modular index has a description of the part after the library and the class.
            let used = |value: &Value| [0, 1].iter().all(|name| value.get(name).is_some_and(Value::is_string));
            let parts = parts.into_iter().filter(|(part, value)| used(value) && is_inside(part));
            let parts = parts.map(|(part, _)| part).filter(|part| !IGNORED.contains(&part.as_str()));
            let parts: Vec<String> = parts.collect();
            let (mut files, mut varied) = (vec![index.to_owned()], false);
            for part in &parts {
                let start = format!("{part}/");
                let (chosen, other) = weights(listed, &start, variant, &mut read)?;
                varied |= other;
                files.extend(small(listed, &start).chain(chosen));
            }
            return Ok(Self::Folder { files, parts, varied });
        }
        if listed.contains_key("config.json") {
            let (chosen, varied) = weights(listed, "", variant, &mut read)?;
            let files = small(listed, "").chain(chosen).collect();
            return Ok(Self::Folder { files, parts: vec![String::new()], varied });
        }
        match singles(listed).as_slice() {
            [] => Err(no_model(hub, listed)),
            [file] => Ok(Self::File((*file).into())),
            several => {
                let problem = format!("the repository has several files: {}", several.join(", "));
                Err(hub.error(Remedy::RepositoryFile.after(problem)))
            }
        }
    }

    pub(super) fn files(&self) -> &[String] {
        match self {
            Self::Folder { files, .. } => files,
            Self::File(file) => std::slice::from_ref(file),
        }
    }

    /// Returns true for a folder without weights of the requested variant.
    pub(super) const fn is_unvaried(&self) -> bool {
        matches!(self, Self::Folder { varied: false, .. })
    }

    /// Returns what is missing among the files that are there: a file, the weights of a network
    /// (`unet/*.safetensors`) or a whole part (`scheduler/*`). `None` if nothing is missing.
    pub(super) fn missing(&self, there: &BTreeMap<String, u64>) -> Option<String> {
        let (files, parts) = match self {
            Self::Folder { files, parts, .. } => (files, parts.as_slice()),
            Self::File(_) => return None,
        };
        let file = files.iter().find(|file| !there.contains_key(*file)).cloned();
        file.or_else(|| {
            parts.iter().filter(|part| !OPTIONAL.contains(&part.as_str())).find_map(|part| {
                let start = if part.is_empty() { String::new() } else { format!("{part}/") };
                let own = || files.iter().filter_map(|file| file.strip_prefix(&start));
                if own().next().is_none() {
                    return Some(format!("{start}*"));
                }
                let is_network = there.contains_key(&format!("{start}config.json"));
                let has_weights = || own().any(is_weights);
                (is_network && !has_weights()).then(|| format!("{start}*.safetensors"))
            })
        })
    }

    /// Returns the source of the chosen files in the cache.
    pub(super) fn source(&self, snapshot: &Path) -> Source {
        match self {
            Self::Folder { .. } => Source::Dir(snapshot.into()),
            Self::File(file) => Source::File(snapshot.join(file)),
        }
    }
}

/// Lists the files of weights at the root of the repository: the safetensors files, or the checkpoints of PyTorch if
/// there are no safetensors files.
fn singles(listed: &BTreeMap<String, u64>) -> Vec<&str> {
    prefer_safetensors(listed.keys().map(String::as_str).filter(|file| !file.contains('/')))
}

/// Lists the files of weights in the folders of the repository, as [`singles`] does at its root.
fn in_folders(listed: &BTreeMap<String, u64>) -> Vec<&str> {
    prefer_safetensors(listed.keys().map(String::as_str).filter(|file| file.contains('/')))
}

/// Returns the safetensors files among `files`, or the checkpoints of PyTorch if there are no safetensors files.
fn prefer_safetensors<'l>(files: impl Iterator<Item = &'l str>) -> Vec<&'l str> {
    let files = files.filter(|file| is_weights(file));
    let (preferred, others): (Vec<_>, _) = files.partition(|file| file.ends_with(".safetensors"));
    if preferred.is_empty() { others } else { preferred }
}

/// The error for a `file` that the repository does not have.
fn no_file(hub: &Hub, listed: &BTreeMap<String, u64>, file: &str) -> Error {
    let mut files = singles(listed);
    files.extend(in_folders(listed));
    if files.is_empty() {
        return hub.error(format!("the repository has no {file} and no other weights; name another repository"));
    }
    // A wrong folder is a usual mistake, so files of the same name come first.
    let last = |path: &str| path.rsplit('/').next().map(str::to_owned);
    files.sort_by_key(|known| last(known) != last(file));
    let problem = format!("the repository has no {file}; its files of weights are {}", list_first(&files));
    hub.error(Remedy::RepositoryFile.after(problem))
}

/// The error for a repository with neither a model's index nor weights at its root.
fn no_model(hub: &Hub, listed: &BTreeMap<String, u64>) -> Error {
    let files = in_folders(listed);
    if files.is_empty() {
        let way = "name a repository with either";
        return hub.error(format!("the repository has neither model_index.json nor a file of weights; {way}"));
    }
    let files = list_first(&files);
    let problem = format!("the repository has no model_index.json, and its files of weights lie in folders: {files}");
    hub.error(Remedy::RepositoryFile.after(problem))
}

/// Lists the first files for a message.
fn list_first(files: &[&str]) -> String {
    let more = files.len().saturating_sub(MOST_SHOWN);
    let more = (more > 0).then(|| format!("and {more} more"));
    let first = files.iter().take(MOST_SHOWN).map(|file| (*file).to_owned());
    first.chain(more).collect::<Vec<_>>().join(", ")
}

/// Lists the configuration and tokenizer files of the part whose files begin with `start`.
fn small<'l>(listed: &'l BTreeMap<String, u64>, start: &'l str) -> impl Iterator<Item = String> + 'l {
    SMALL.iter().map(move |name| format!("{start}{name}")).filter(|file| listed.contains_key(file))
}

/// Lists the weights at `start`, by names without `start`.
pub(super) fn weight_names<'l>(listed: &'l BTreeMap<String, u64>, start: &str) -> Vec<&'l str> {
    let inside = listed.keys().filter_map(|file| file.strip_prefix(start));
    inside.filter(|name| is_weights(name)).collect()
}

/// Chooses the weights of the part whose files begin with `start`. Also returns true if the chosen weights are those of
/// `variant`.
fn weights(
    listed: &BTreeMap<String, u64>,
    start: &str,
    variant: Option<&str>,
    read: &mut impl FnMut(&str) -> Result<Vec<u8>>,
) -> Result<(Vec<String>, bool)> {
    for WeightNames { variant: found, whole, indices } in WeightNames::all(variant) {
        let same = found == variant && variant.is_some();
        let whole = format!("{start}{whole}");
        if listed.contains_key(&whole) {
            return Ok((vec![whole], same));
        }
        let indices = indices.into_iter().map(|index| format!("{start}{index}"));
        if let Some(index) = indices.into_iter().find(|index| listed.contains_key(index)) {
            let shards = shards(Path::new(&index), &read(&index)?)?;
            return Ok((shards.iter().map(|shard| format!("{start}{shard}")).chain([index]).collect(), same));
        }
    }
    Ok((Vec::new(), false)) // a part without weights, such as a scheduler
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(files: &[&str], variant: Option<&str>, hub: Hub) -> Result<Vec<String>> {
        let listed = files.iter().map(|file| ((*file).to_owned(), 1)).collect();
        let index = r#"{"_class_name": "X", "unet": ["diffusers", "U"], "vae": ["diffusers", "V"], "tokenizer": ["t", "T"],
            "safety_checker": ["s", "S"], "text_encoder_2": [null, null], "force_zeros_for_empty_prompt": true}"#;
        let shards = r#"{"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors",
            "c": "model-00001-of-00002.safetensors"}}"#;
        let read = |file: &str| Ok(if file == "model_index.json" { index.into() } else { shards.into() });
        Choice::of(&hub, &listed, variant, read).map(|choice| choice.files().to_vec())
    }

    const FOLDER: [&str; 10] = [
        "model_index.json",
        "model.safetensors",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "unet/diffusion_pytorch_model.bin",
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
        "tokenizer/vocab.json",
        "safety_checker/model.safetensors",
    ];

    #[test]
    fn only_needed_files_are_chosen() {
        let hub = || Hub::new("owner/name");
        let wanted =
            ["model_index.json", "tokenizer/vocab.json", "unet/config.json", FOLDER[3], "vae/config.json", FOLDER[7]];
        assert_eq!(choose(&FOLDER, None, hub()).unwrap(), wanted);
        let half = choose(&FOLDER, Some("fp16"), hub()).unwrap();
        assert!(half.contains(&FOLDER[4].to_owned()) && half.contains(&FOLDER[7].to_owned()) && half.len() == 6);
        let single = choose(&FOLDER, None, Hub { file: Some("model.safetensors".into()), ..hub() }).unwrap();
        assert_eq!(single, ["model.safetensors"]);
        assert!(
            choose(&FOLDER, None, Hub { file: Some("x.safetensors".into()), ..hub() })
                .unwrap_err()
                .to_string()
                .contains("has no x")
        );
    }

    #[test]
    fn transformers_are_known_by_their_class() {
        let listed = ["modular_model_index.json", "transformer/config.json", "transformer/model.safetensors"];
        let listed = listed.map(|file| (file.to_owned(), 1)).into();
        let choose = |class: &str| {
            let index = format!(
                r#"{{"_class_name": "Pipeline", "transformer": ["diffusers", "{class}", {{"subfolder": "transformer"}}]}}"#
            );
            Choice::of(&Hub::new("owner/name"), &listed, None, |_| Ok(index.clone().into_bytes()))
        };
        let anima = choose("CosmosTransformer3DModel").expect("a known transformer");
        assert_eq!(anima.files(), listed.keys().cloned().collect::<Vec<_>>());
        let flux = choose("FluxTransformer2DModel").map(drop).expect_err("an unknown transformer").to_string();
        assert!(flux.contains("the repository is of Pipeline, whose network is not supported"), "{flux}");
    }

    #[test]
    fn shards_pickles_and_single_files_are_found() {
        let hub = || Hub::new("owner/name");
        let shards = [
            "config.json",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
            "model.fp16-00001-of-00001.safetensors",
        ];
        assert_eq!(choose(&shards, None, hub()).unwrap(), [shards[0], shards[1], shards[2], shards[3]]);
        assert_eq!(
            choose(&["config.json", "pytorch_model.bin"], None, hub()).unwrap(),
            ["config.json", "pytorch_model.bin"]
        );
        assert_eq!(choose(&["a.ckpt", "b.safetensors"], None, hub()).unwrap(), ["b.safetensors"]);
        assert_eq!(choose(&["a.ckpt", "README.md"], None, hub()).unwrap(), ["a.ckpt"]);
        assert_eq!(choose(&["a.safetensors", "README.md"], None, hub()).unwrap(), ["a.safetensors"]);
        let message = choose(&["a.safetensors", "b.safetensors"], None, hub()).unwrap_err().to_string();
        assert!(message.contains("a.safetensors, b.safetensors"), "{message}");
        let message = choose(&["README.md"], None, hub()).unwrap_err().to_string();
        assert!(message.contains("neither model_index.json nor a file of weights"), "{message}");
    }

    #[test]
    fn weights_in_folders_are_listed() {
        let hub = |file: Option<&str>| Hub { file: file.map(str::to_owned), ..Hub::new("owner/name") };
        let split = [
            "README.md",
            "split_files/diffusion_models/anima.safetensors",
            "split_files/text_encoders/qwen.safetensors",
            "split_files/vae/vae.safetensors",
        ];
        let error = choose(&split, None, hub(None)).unwrap_err();
        assert_eq!(error.remedy(), Some(Remedy::RepositoryFile));
        let (message, files) = (error.to_string(), split[1..].join(", "));
        assert!(message.contains(&format!("lie in folders: {files}; name one of them with `Hub::file`")), "{message}");
        assert_eq!(choose(&split, None, hub(Some(split[3]))).unwrap(), [split[3]]);

        let error = choose(&split, None, hub(Some("qwen.safetensors"))).unwrap_err();
        assert_eq!(error.remedy(), Some(Remedy::RepositoryFile));
        let files = [split[2], split[1], split[3]].join(", ");
        assert!(error.to_string().contains(&format!("has no qwen.safetensors; its files of weights are {files};")));
        let message = choose(&["README.md"], None, hub(Some("a.safetensors"))).unwrap_err().to_string();
        assert!(message.contains("has no a.safetensors and no other weights"), "{message}");

        let many: Vec<String> = (0..20).map(|i| format!("steps/{i:02}.safetensors")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let message = choose(&many, None, hub(None)).unwrap_err().to_string();
        assert!(message.contains("steps/07.safetensors, and 12 more;") && !message.contains("steps/08"), "{message}");
    }
}
