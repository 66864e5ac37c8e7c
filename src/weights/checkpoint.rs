//! Opened sources, which give access to files by their paths in a diffusers folder.

use super::file::{is_weights, note_fp8, read_tensors, read_with_header};
use super::recognize::{Contents, refuse_scaled};
use super::single::SingleFile;
use super::source::{EmbeddedFile, Source, colorizer, fast, flow, tiny};
use super::{Tensors, Weights, parse_safetensors};
use crate::error::{Error, Result};
use crate::family::ModelFamily;
use crate::files;
use crate::json;
use crate::wording::{Note, Remedy};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};
use tch::{Device, Kind};

/// File names of a part's weights, without variant and extension.
const STEMS: [&str; 2] = ["diffusion_pytorch_model", "model"];
/// Extension of safetensors files, and [`STEMS`].
const SAFETENSORS: (&str, [&str; 2]) = ("safetensors", STEMS);
/// Extension of checkpoints of PyTorch, and their [`STEMS`].
const PICKLES: (&str, [&str; 2]) = ("bin", ["diffusion_pytorch_model", "pytorch_model"]);
/// Variants that are read, in this order, if a part has neither weights of the requested variant nor plain ones.
const VARIANTS: [&str; 2] = ["fp16", "bf16"];

/// Names that the weights of a part may have in its folder.
pub(super) struct WeightNames<'v> {
    /// Variant of the weights.
    #[cfg_attr(not(feature = "hub"), expect(dead_code, reason = "only the hub is asked for a variant"))]
    pub variant: Option<&'v str>,
    /// Name of one file with all weights.
    pub whole: String,
    /// Names of an index, which lists several files.
    pub indices: [String; 3],
}

impl<'v> WeightNames<'v> {
    /// Lists the names in the order in which they are searched: weights of `variant`, then plain ones, then those of
    /// `fp16` and `bf16`. Safetensors come first.
    pub(super) fn all(variant: Option<&'v str>) -> impl Iterator<Item = Self> {
        let wanted = variant.into_iter().flat_map(|variant| [(SAFETENSORS, Some(variant)), (PICKLES, Some(variant))]);
        let others = [SAFETENSORS, PICKLES]
            .into_iter()
            .flat_map(|format| std::iter::once(None).chain(VARIANTS.map(Some)).map(move |variant| (format, variant)));
        wanted.chain(others).flat_map(|((extension, stems), variant)| {
            let mark = variant.map(|variant| format!(".{variant}")).unwrap_or_default();
            stems.map(|stem| Self {
                variant,
                whole: format!("{stem}{mark}.{extension}"),
                indices: [
                    format!("{stem}.{extension}.index{mark}.json"),
                    format!("{stem}.{extension}{mark}.index.json"),
                    format!("{stem}{mark}.{extension}.index.json"),
                ],
            })
        })
    }
}

/// Options of the caller for reading a checkpoint.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reading {
    /// Family of a single file, instead of the recognized one.
    pub family: Option<ModelFamily>,
    /// Variant of a folder's files, such as `fp16`.
    pub variant: Option<String>,
    /// Reads the moving averages of a single file's UNet instead of its weights.
    pub averages: bool,
    /// Copies weights out of their mapped files.
    pub in_memory: bool,
    /// Leaves matrices and kernels as their files store them; see [`Weights::offload`].
    pub offload: bool,
}

/// An opened source: the embedded model, a folder or a single file.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    place: Place,
    reading: Reading,
    notes: RefCell<Vec<String>>,
}

#[derive(Debug)]
enum Place {
    Embedded {
        name: &'static str,
        file: EmbeddedFile,
    },
    Folder {
        path: PathBuf,
        /// True if the folder holds a single part, such as a VAE, instead of a whole model.
        alone: bool,
    },
    File {
        file: Box<SingleFile>,
        family: ModelFamily,
    },
}

impl Checkpoint {
    /// Opens a source of a whole model.
    pub(crate) fn open(source: &Source, reading: Reading) -> Result<Self> {
        #[cfg(feature = "hub")]
        if let Source::Hub(hub) = source {
            let (source, note) = hub.fetch_with_note(reading.variant.as_deref(), &mut |_| {})?;
            let checkpoint = Self::open(&source, reading)?;
            checkpoint.notes.borrow_mut().extend(note);
            return Ok(checkpoint);
        }
        let mut notes = Vec::new();
        let place = match source {
            Source::Embedded => Place::Embedded { name: "the embedded model", file: tiny },
            Source::EmbeddedColorizer => Place::Embedded { name: "the embedded colorizer", file: colorizer },
            Source::EmbeddedFast => Place::Embedded { name: "the embedded fast model", file: fast },
            Source::EmbeddedFlow => Place::Embedded { name: "the embedded flow model", file: flow },
            Source::Dir(path) => {
                let alone = path.join("config.json").is_file() && !path.join("model_index.json").is_file();
                Place::Folder { path: path.clone(), alone }
            }
            Source::File(path) => {
                let file = SingleFile::open(path)?;
                // A file of a given family is not recognized, but may have scaled weights too.
                refuse_scaled(&file.header().file, file.header().tensors.keys())?;
                let family = match (reading.family, file.contents()) {
                    (Some(family), _) => family,
                    (None, Ok(Contents::Model { family, .. })) => family,
                    (None, Ok(Contents::Colorizer)) => ModelFamily::Colorizer,
                    // VAEs and text encoders in files of their own become parts of another model.
                    (None, Ok(Contents::Vae)) => ModelFamily::Sd1,
                    (None, Ok(Contents::TextEncoder { width })) => {
                        ModelFamily::of_context(width).unwrap_or(ModelFamily::Sd1)
                    }
                    (None, Ok(other)) => return Err(wrong_kind(&file.header().file, other)),
                    (None, Err(error)) => return Err(error),
                };
                notes.extend(disagreement(&file, family));
                notes.extend(file.header().notes());
                Place::File { file: Box::new(file), family }
            }
            #[cfg(feature = "hub")]
            Source::Hub(hub) => return Err(hub.error("the repository could not be fetched")), // fetched above
        };
        let checkpoint = Self { place, reading, notes: RefCell::new(notes) };
        checkpoint.check()?;
        Ok(checkpoint)
    }

    /// Opens the source of a ControlNet: the ControlNet's own folder, or a file that contains one.
    pub(crate) fn open_controlnet(source: &Source) -> Result<Self> {
        #[cfg(feature = "hub")]
        if let Source::Hub(hub) = source {
            return Self::open_controlnet(&hub.fetch(None)?);
        }
        if let Source::Dir(path) = source
            && Self::is_t2i_adapter(source)?
        {
            let (file, contents) = (path.display().to_string(), "a T2I adapter".into());
            return Err(Error::OtherKind { file, contents, remedy: Remedy::T2iAdapter });
        }
        let Source::File(path) = source else { return Self::open(source, Reading::default()) };
        let file = SingleFile::open(path)?;
        match file.contents()? {
            Contents::ControlNet { family, .. } | Contents::ControlNetUnion { family, .. } => {
                Self::open(source, Reading { family: Some(family), ..Reading::default() })
            }
            other => Err(wrong_kind(&file.header().file, other)),
        }
    }

    /// Opens the source of a T2I adapter: the adapter's own folder, or its file.
    pub(crate) fn open_t2i_adapter(source: &Source) -> Result<Self> {
        #[cfg(feature = "hub")]
        if let Source::Hub(hub) = source {
            return Self::open_t2i_adapter(&hub.fetch(None)?);
        }
        let Source::File(path) = source else { return Self::open(source, Reading::default()) };
        let file = SingleFile::open(path)?;
        match file.contents()? {
            Contents::T2iAdapter { family, .. } => {
                Self::open(source, Reading { family: Some(family), ..Reading::default() })
            }
            other => Err(wrong_kind(&file.header().file, other)),
        }
    }

    /// Returns true if the source is a T2I adapter, as its tensors or its `config.json` show.
    pub(crate) fn is_t2i_adapter(source: &Source) -> Result<bool> {
        #[cfg(feature = "hub")]
        if let Source::Hub(hub) = source {
            return Self::is_t2i_adapter(&hub.fetch(None)?);
        }
        Ok(match source {
            Source::File(path) => matches!(SingleFile::open(path)?.contents(), Ok(Contents::T2iAdapter { .. })),
            Source::Dir(path) => {
                let text = files::read_text(&path.join("config.json"), files::LARGEST_CONFIG).unwrap_or_default();
                json::parse::<serde_json::Value>(&text).is_ok_and(|config| config.get("adapter_type").is_some())
            }
            _ => false,
        })
    }

    /// Checks that the source exists and has files of the requested variant.
    fn check(&self) -> Result<()> {
        match (&self.place, &self.reading.variant) {
            (Place::Embedded { file, .. }, _) if file("model_index.json").is_none() => {
                let hint = "build with the default features `tiny`, `tiny-colorizer`, `tiny-fast` and `tiny-flow`, or \
                            name a source";
                Err(self.missing("model_index.json", hint))
            }
            (Place::Folder { path, .. }, _) if !path.is_dir() => {
                let hint = "name a folder with model_index.json, unet/, vae/, text_encoder/ and tokenizer/";
                Err(self.missing("the folder", hint))
            }
            (Place::Folder { path, .. }, Some(variant)) => {
                let files = weight_files(path);
                let marks = [format!(".{variant}."), format!(".{variant}-")];
                if files.iter().any(|file| marks.iter().any(|mark| file.contains(mark))) {
                    return Ok(());
                }
                Err(Error::Parameter {
                    name: "variant",
                    value: variant.clone(),
                    expected: format!(
                        "the variant of one of the files in {self} ({}), or none, because weights are \
                         converted on loading",
                        files.join(", ")
                    )
                    .into(),
                })
            }
            _ => Ok(()),
        }
    }

    /// Returns the family of a single file; `None` for other sources, because their configuration files state all that
    /// depends on the family.
    pub(crate) fn family(&self) -> Option<ModelFamily> {
        match &self.place {
            Place::File { family, .. } => Some(*family),
            _ => None,
        }
    }

    /// Returns the prediction type of a single file and the evidence for it, as text; `None` for other sources, because
    /// their configuration files state the type.
    pub(crate) fn prediction(&self) -> Result<Option<String>> {
        match &self.place {
            Place::File { file, .. } => Ok(Some(file.prediction()?.because)),
            _ => Ok(None),
        }
    }

    /// Returns the notes collected so far, one sentence each.
    pub(crate) fn notes(&self) -> Vec<String> {
        self.notes.borrow().clone()
    }

    /// Returns true if the checkpoint has the file.
    pub(crate) fn has(&self, file: &str) -> Result<bool> {
        match &self.place {
            Place::Folder { .. } => Ok(self.path(file).is_some_and(|path| path.is_file())),
            _ => Ok(self.read(file)?.is_some()),
        }
    }

    /// Reads a file by its path inside the checkpoint; `None` if there is no such file.
    pub(crate) fn read(&self, file: &str) -> Result<Option<Cow<'static, [u8]>>> {
        match &self.place {
            Place::Embedded { file: embedded, .. } => Ok(embedded(file).map(Cow::Borrowed)),
            Place::Folder { .. } => {
                let Some(path) = self.path(file) else { return Ok(None) };
                let name = file.rsplit('/').next().unwrap_or(file);
                let is_config = name.ends_with("config.json") || name == "model_index.json";
                let most = if is_config { files::LARGEST_CONFIG } else { files::LARGEST_TEXT };
                Ok(files::read_if_there(&path, most)?.map(Cow::Owned))
            }
            Place::File { file: single, family } => single.text(file, *family),
        }
    }

    /// Returns true if all parts are in one file, whose configurations are those of its family.
    pub(crate) const fn is_single_file(&self) -> bool {
        matches!(self.place, Place::File { .. })
    }

    /// Reads and parses a JSON file; `None` if there is no such file.
    pub(crate) fn json<T: DeserializeOwned>(&self, file: &str) -> Result<Option<T>> {
        let Some(bytes) = self.read(file)? else { return Ok(None) };
        let parsed = json::parse(&bytes);
        parsed.map(Some).map_err(|error| Error::Malformed { file: self.name(file), problem: error.to_string() })
    }

    /// Reads a UTF-8 text file; `None` if there is no such file.
    pub(crate) fn text(&self, file: &str) -> Result<Option<String>> {
        let Some(bytes) = self.read(file)? else { return Ok(None) };
        let text = String::from_utf8(bytes.into_owned());
        text.map(Some).map_err(|error| Error::Malformed { file: self.name(file), problem: error.to_string() })
    }

    /// Returns the weights of a part, such as `unet`, as tensors of `kind` on `device`.
    ///
    /// # Errors
    /// [`Error::MissingFile`] if the part is missing; [`Error::Malformed`] if a file of the
    /// part is invalid.
    pub(crate) fn weights(&self, part: &str, kind: Kind, device: Device) -> Result<Weights> {
        let (file, tensors) = match &self.place {
            Place::Embedded { file, .. } => self.read_embedded_tensors(part, *file)?,
            Place::Folder { .. } => self.folder_tensors(part)?,
            Place::File { file, .. } => {
                let averages = if self.reading.averages && part == "unet" { file.averages()? } else { None };
                let tensors = averages.map_or_else(|| file.part(part), |averages| Ok(Some(averages)))?;
                (file.header().file.clone(), tensors.ok_or_else(|| self.lacks(part))?)
            }
        };
        let weights = Weights::new(file, tensors, kind, device).offload(self.reading.offload);
        Ok(if self.reading.in_memory { weights.in_memory() } else { weights })
    }

    fn read_embedded_tensors(&self, part: &str, embedded: EmbeddedFile) -> Result<(String, Tensors)> {
        for stem in STEMS {
            let file = format!("{part}/{stem}.safetensors");
            if let Some(bytes) = embedded(&file) {
                return Ok((self.name(&file), parse_safetensors(&self.name(&file), bytes)?));
            }
        }
        Err(self.lacks(part))
    }

    fn folder_tensors(&self, part: &str) -> Result<(String, Tensors)> {
        let Some(folder) = self.path(part) else { return Err(self.lacks(part)) };
        let wanted = self.reading.variant.as_deref();
        if let Some((path, tensors, notes)) = read_folder(&folder, wanted)? {
            let mut said = self.notes.borrow_mut();
            said.extend(notes);
            if let Some(variant) = wanted.filter(|variant| !path.to_string_lossy().contains(&format!(".{variant}"))) {
                said.push(format!("{part} has no {variant} files; {} was read instead", path.display()));
            }
            return Ok((path.display().to_string(), tensors));
        }
        Err(self.lacks(part))
    }

    /// Returns true for the folder of a single part, such as `text_encoder` or a repository of one text encoder.
    pub(crate) const fn is_part(&self) -> bool {
        matches!(self.place, Place::Folder { alone: true, .. })
    }

    /// Returns the path on disk of `file`, such as `unet/config.json`; `None` if the checkpoint is not a folder. In the
    /// folder of a single part, the part's name is dropped from the path.
    fn path(&self, file: &str) -> Option<PathBuf> {
        match &self.place {
            Place::Folder { path, alone: true } => match file.split_once('/') {
                Some((_, inside)) => Some(path.join(inside)),
                None => Some(path.clone()),
            },
            Place::Folder { path, alone: false } => Some(path.join(file)),
            _ => None,
        }
    }

    /// Returns the name of a file for messages.
    pub(crate) fn name(&self, file: &str) -> String {
        match &self.place {
            Place::Embedded { name, .. } => format!("{file} of {name}"),
            Place::Folder { path, .. } => self.path(file).unwrap_or_else(|| path.join(file)).display().to_string(),
            Place::File { file: single, .. } => format!("{file} derived from {}", single.header().file),
        }
    }

    /// The error for a missing file.
    pub(crate) fn missing(&self, file: &str, hint: impl Into<Note>) -> Error {
        Error::MissingFile { file: file.into(), place: self.to_string(), hint: hint.into() }
    }

    /// The error for a missing part.
    pub(crate) fn lacks(&self, part: &str) -> Error {
        let Place::File { file, .. } = &self.place else {
            let files = STEMS.map(|stem| format!("{part}/{stem}.safetensors")).join(" or ");
            return self.missing(&files, way(part));
        };
        match (part, file.contents()) {
            (_, Err(error)) => error,
            // A file of a model may lack any of these parts.
            ("vae", Ok(Contents::Model { .. } | Contents::Colorizer)) => self.missing("the VAE", way(part)),
            ("text_encoder", Ok(Contents::Model { .. })) => self.missing("the text encoder", way(part)),
            ("text_encoder_2", Ok(Contents::Model { .. })) => self.missing("the second text encoder", way(part)),
            ("text_encoder_3", Ok(Contents::Model { .. })) => self.missing("T5, the third text encoder", way(part)),
            ("image_encoder", Ok(Contents::Model { .. } | Contents::Colorizer)) => {
                self.missing("the image encoder", way(part))
            }
            (_, Ok(contents)) => wrong_kind(&file.header().file, contents),
        }
    }
}

impl std::fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.place {
            Place::Embedded { name, .. } => f.write_str(name),
            Place::Folder { path, .. } => path.display().fmt(f),
            Place::File { file, .. } => f.write_str(&file.header().file),
        }
    }
}

/// Returns advice on how to supply a part that a checkpoint lacks.
pub(crate) fn way(part: &str) -> Note {
    let without = "the checkpoint was written without this part";
    match part {
        "vae" => Remedy::Vae.after(without),
        "text_encoder" => Remedy::TextEncoder.after(without),
        "text_encoder_2" => Remedy::SecondTextEncoder.after(without),
        "text_encoder_3" => Remedy::ThirdTextEncoder.after(without),
        "image_encoder" => Remedy::ImageEncoder.after(
            "for SD 1.x it is in a folder of openai/clip-vit-large-patch14, for ColorizeDiffusion in one of \
             laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
        ),
        "unet" => {
            "name a complete model as diffusers writes it: model_index.json, unet/, vae/, text_encoder/, tokenizer/"
                .into()
        }
        _ => "a complete folder of diffusers has this file".into(),
    }
}

/// The error for a file that is not a model.
pub(super) fn wrong_kind(file: &str, contents: Contents) -> Error {
    let remedy = match contents {
        Contents::Lora { .. } => Remedy::Lora,
        Contents::TextualInversion { .. } => Remedy::Embedding,
        Contents::ControlNet { .. } | Contents::ControlNetUnion { .. } => Remedy::ControlNet,
        Contents::T2iAdapter { .. } => Remedy::T2iAdapter,
        Contents::Vae | Contents::Taesd => Remedy::Vae,
        Contents::TextEncoder { .. } => Remedy::TextEncoder,
        Contents::Model { .. } | Contents::Colorizer => Remedy::Model,
    };
    Error::OtherKind { file: file.into(), contents: contents.to_string(), remedy }
}

/// Returns a note if the architecture in a file's metadata contradicts the shapes of its tensors.
fn disagreement(file: &SingleFile, family: ModelFamily) -> Option<String> {
    let said = file.header().metadata.get("modelspec.architecture")?;
    let name = &file.header().file;
    let agrees = family.spec().architectures.iter().any(|start| said.starts_with(start));
    (!agrees).then(|| format!("the metadata of {name} says {said}, but its tensors are those of {family}"))
}

/// Lists the files of weights in a folder and its direct subfolders, as sorted paths relative to the folder.
fn weight_files(folder: &Path) -> Vec<String> {
    let list = |folder: &Path| -> Vec<PathBuf> {
        std::fs::read_dir(folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())).collect()
    };
    let inside = list(folder).into_iter().flat_map(|path| if path.is_dir() { list(&path) } else { vec![path] });
    let weights = inside.filter(|path| is_weights(path));
    let names: BTreeSet<String> =
        weights.map(|path| path.strip_prefix(folder).unwrap_or(&path).display().to_string()).collect();
    names.into_iter().collect()
}

/// Contents of a `*.safetensors.index.json` or `*.bin.index.json`, which lists the files of sharded weights.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Index {
    /// Parses `text`, the contents of `path`, and checks that the listed files are in the same folder.
    fn parse(path: &Path, text: &[u8]) -> Result<Self> {
        let malformed = |problem: String| Error::Malformed { file: path.display().to_string(), problem };
        let index: Self = json::parse(text).map_err(|error| malformed(error.to_string()))?;
        for file in index.weight_map.values() {
            let inside: Vec<Component<'_>> = Path::new(file).components().collect();
            if !matches!(inside.as_slice(), [Component::Normal(_)]) {
                return Err(malformed(format!("the index names {file}, which is not a file in the same folder")));
            }
        }
        Ok(index)
    }

    fn files(&self) -> BTreeSet<&String> {
        self.weight_map.values().collect()
    }
}

/// Returns the files that an index names, which are in the same folder.
///
/// # Errors
/// [`Error::Malformed`] if `text` is not an index, or names files elsewhere.
#[cfg(feature = "hub")]
pub(super) fn shards(path: &Path, text: &[u8]) -> Result<Vec<String>> {
    Ok(Index::parse(path, text)?.files().into_iter().cloned().collect())
}

/// Reads the weights in a part's folder, from one file or from several that an index lists. Weights of `variant` come
/// first, then weights without a variant, then those of `fp16` and `bf16`. Safetensors are preferred to `.bin` files,
/// except to those of `variant`.
///
/// Also returns the path of the weights file or index, and notes: about tensors that an index does not list, about
/// skipped objects, and about weights in fp8. Returns `None` if the folder has no weights.
///
/// # Errors
/// [`Error::Malformed`] if an index and its files contradict each other, or if weights are quantized with scales, as in
/// scaled fp8; the errors of [`read_tensors`].
pub fn read_folder(folder: &Path, variant: Option<&str>) -> Result<Option<(PathBuf, Tensors, Vec<String>)>> {
    for WeightNames { whole, indices, .. } in WeightNames::all(variant) {
        let whole = folder.join(whole);
        if whole.is_file() {
            let (tensors, header) = read_with_header(&whole)?;
            refuse_scaled(&header.file, header.tensors.keys())?;
            return Ok(Some((whole, tensors, header.notes())));
        }
        if let Some(index) = indices.iter().map(|name| folder.join(name)).find(|path| path.is_file()) {
            let (tensors, notes) = read_shards(folder, &index)?;
            return Ok(Some((index, tensors, notes)));
        }
    }
    Ok(None)
}

/// Reads the tensors of several files, which an index lists. Also returns notes about tensors that the index does not
/// list, and about weights in fp8.
fn read_shards(folder: &Path, index: &Path) -> Result<(Tensors, Vec<String>)> {
    let malformed = |problem: String| Error::Malformed { file: index.display().to_string(), problem };
    let text = files::read(index, files::LARGEST_TEXT)?;
    let listed = Index::parse(index, &text)?;
    let (mut tensors, mut extra) = (Tensors::new(), 0);
    for file in listed.files() {
        let path = folder.join(file);
        if !path.is_file() {
            return Err(malformed(format!("the index names {file}, which is missing; download it")));
        }
        let mut shard = read_tensors(&path)?;
        let stored = shard.len();
        let names = listed.weight_map.iter().filter(|(_, other)| *other == file).map(|(name, _)| name);
        let before = tensors.len();
        for name in names {
            let tensor = shard.remove(name).ok_or_else(|| {
                malformed(format!("the index places {name} in {file}, which does not have this tensor"))
            })?;
            tensors.insert(name.clone(), tensor);
        }
        extra += stored + before - tensors.len();
    }
    let name = index.display().to_string();
    refuse_scaled(&name, tensors.keys())?;
    let unlisted = format!("{name}: the files of the index have {extra} tensors that the index does not list");
    let fp8 = note_fp8(&name, tensors.values().filter_map(|x| x.f_kind().ok()));
    Ok((tensors, (extra > 0).then_some(unlisted).into_iter().chain(fp8).collect()))
}

#[cfg(test)]
mod tests {
    use super::super::pickle::tests::checkpoint;
    use super::*;
    use std::fs;
    use tch::Tensor;

    fn write(path: &Path, names: &[&str]) {
        let tensors: Vec<_> = names.iter().map(|name| (*name, Tensor::from_slice(&[1f32]))).collect();
        Tensor::write_safetensors(&tensors, path).unwrap();
    }

    #[test]
    fn error_names_the_missing_part_and_the_remedy() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let weights = || {
            let checkpoint = Checkpoint::open(&Source::dir(folder.path()), Reading::default())?;
            checkpoint.weights("unet", Kind::Float, Device::Cpu)
        };
        fs::create_dir(folder.path().join("unet")).expect("a folder");
        let error = weights().expect_err("empty").to_string();
        assert!(error.contains("unet/diffusion_pytorch_model.safetensors"), "{error}");
        let nowhere = Checkpoint::open(&Source::dir("nowhere"), Reading::default()).expect_err("no folder");
        assert!(nowhere.to_string().contains("nowhere"));
    }

    #[test]
    fn index_that_contradicts_its_files_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let index = folder.path().join("model.safetensors.index.json");
        let problem = |map: &str| {
            fs::write(&index, format!(r#"{{"weight_map": {map}}}"#)).unwrap();
            read_folder(folder.path(), None).map(|found| found.unwrap().1.len()).map_err(|error| error.to_string())
        };
        write(&folder.path().join("a.safetensors"), &["x", "y"]);
        assert_eq!(problem(r#"{"x": "a.safetensors", "y": "a.safetensors"}"#), Ok(2));
        assert!(problem(r#"{"x": "b.safetensors"}"#).unwrap_err().contains("b.safetensors, which is missing"));
        assert!(problem(r#"{"x": "../a.safetensors"}"#).unwrap_err().contains("is not a file in the same folder"));
        assert!(problem(r#"{"z": "a.safetensors"}"#).unwrap_err().contains("places z in a.safetensors"));
        assert!(problem("3").unwrap_err().contains("invalid type"));
        problem(r#"{"x": "a.safetensors"}"#).unwrap();
        let (_, _, notes) = read_folder(folder.path(), None).unwrap().unwrap();
        assert!(notes[0].contains("have 1 tensors that the index does not list"), "{notes:?}");
    }

    #[test]
    fn safetensors_are_preferred_to_pickles() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str| fs::write(folder.path().join(name), checkpoint(&[name])).unwrap();
        let found = |variant: Option<&str>| -> Result<Vec<String>> {
            Ok(read_folder(folder.path(), variant)?.unwrap().1.into_keys().collect())
        };
        fs::write(folder.path().join("pytorch_model.bin.index.json"), r#"{"weight_map": {"b": "b.bin"}}"#).unwrap();
        fs::write(folder.path().join("b.bin"), checkpoint(&["b"])).unwrap();
        assert_eq!(found(None)?, ["b"]);
        put("pytorch_model.bin");
        put("pytorch_model.fp16.bin");
        assert_eq!(
            (found(None)?, found(Some("fp16"))?),
            (vec!["pytorch_model.bin".into()], vec!["pytorch_model.fp16.bin".into()])
        );
        put("diffusion_pytorch_model.bin");
        assert_eq!(found(None)?, ["diffusion_pytorch_model.bin"]);
        write(&folder.path().join("model.fp16.safetensors"), &["half"]);
        assert_eq!((found(None)?, found(Some("fp16"))?), (vec!["half".into()], vec!["half".into()]));
        assert_eq!(found(Some("bf16"))?, ["half"]);
        Ok(())
    }

    #[test]
    fn fp8_is_noted_and_scaled_fp8_is_refused() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let put = |name: &str| {
            let json = format!(r#"{{"{name}":{{"dtype":"F8_E4M3","shape":[4],"data_offsets":[0,4]}}}}"#);
            // The byte 0x38 is the number 1.
            fs::write(&path, [&(json.len() as u64).to_le_bytes()[..], json.as_bytes(), &[0x38; 4]].concat()).unwrap();
        };
        // The family of a part's file is known from the model.
        let reading = || Reading { family: Some(ModelFamily::Sd3), ..Reading::default() };
        put("a.weight");
        let (_, tensors, notes) = read_folder(folder.path(), None)?.unwrap();
        assert_eq!(tensors["a.weight"].to_kind(Kind::Float), Tensor::from_slice(&[1f32; 4]));
        assert!(notes[0].contains("1 of 1 tensors are stored in fp8"), "{notes:?}");
        assert_eq!(Checkpoint::open(&Source::file(&path), reading())?.notes(), notes);
        put("a.scale_weight");
        let refused = |read: Result<()>| {
            let message = read.unwrap_err().to_string();
            assert!(message.contains("scaled fp8") && message.contains("a.scale_weight"), "{message}");
        };
        refused(read_folder(folder.path(), None).map(drop));
        refused(Checkpoint::open(&Source::file(&path), reading()).map(drop));
        refused(Checkpoint::open(&Source::file(&path), Reading::default()).map(drop));
        fs::rename(&path, folder.path().join("a.safetensors")).unwrap();
        let index = folder.path().join("model.safetensors.index.json");
        fs::write(index, r#"{"weight_map": {"a.scale_weight": "a.safetensors"}}"#).unwrap();
        refused(read_folder(folder.path(), None).map(drop));
        Ok(())
    }

    #[test]
    fn quantized_parts_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        for name in ["a.qweight", "a.wscales", "a.smooth_factor", "a.weight.absmax", "a.weight.quant_map", "a.SCB"] {
            write(&path, &["a.weight", name]);
            let reading = Reading { family: Some(ModelFamily::Sd3), ..Reading::default() };
            for read in [
                read_folder(folder.path(), None).map(drop),
                Checkpoint::open(&Source::file(&path), reading).map(drop),
                Checkpoint::open(&Source::file(&path), Reading::default()).map(drop),
            ] {
                let message = read.unwrap_err().to_string();
                assert!(message.contains(&format!("as its tensor {name} shows")), "{message}");
                assert!(message.contains("use the f16 or bf16 file of the same model"), "{message}");
            }
        }
    }

    #[test]
    fn architecture_of_another_family_is_noted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let notes = |said: &str, family: ModelFamily| {
            let json = format!(
                r#"{{"__metadata__":{{"modelspec.architecture":"{said}"}},"a":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}}}"#
            );
            fs::write(&path, [&(json.len() as u64).to_le_bytes()[..], json.as_bytes()].concat()).unwrap();
            let reading = Reading { family: Some(family), ..Reading::default() };
            Checkpoint::open(&Source::file(&path), reading).unwrap().notes()
        };
        for said in ["stable-diffusion-v3-medium", "stable-diffusion-3.5-large"] {
            assert_eq!(notes(said, ModelFamily::Sd3), [""; 0]);
            let told = notes(said, ModelFamily::Sdxl);
            assert!(told[0].contains(&format!("says {said}, but its tensors are those of SDXL")), "{told:?}");
        }
    }

    #[test]
    fn part_without_the_variant_is_read_with_a_note() {
        let folder = tempfile::tempdir().unwrap();
        for part in ["unet", "vae"] {
            fs::create_dir(folder.path().join(part)).unwrap();
            write(&folder.path().join(part).join("diffusion_pytorch_model.safetensors"), &["plain"]);
        }
        let open = |variant: &str| {
            let reading = Reading { variant: Some(variant.into()), ..Reading::default() };
            Checkpoint::open(&Source::dir(folder.path()), reading)
        };
        let error = open("fp16").unwrap_err().to_string();
        assert!(error.contains("variant is fp16") && error.contains("unet/diffusion_pytorch_model.safetensors"));
        write(&folder.path().join("unet/diffusion_pytorch_model.fp16.safetensors"), &["half"]);
        let checkpoint = open("fp16").unwrap();
        assert!(checkpoint.weights("unet", Kind::Float, Device::Cpu).unwrap().has("half"));
        assert!(checkpoint.weights("vae", Kind::Float, Device::Cpu).unwrap().has("plain"));
        assert!(checkpoint.notes()[0].contains("vae has no fp16 files"), "{:?}", checkpoint.notes());
    }
}
