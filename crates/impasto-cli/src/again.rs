//! `impasto again`: the run of a picture, repeated or changed.

use crate::adapters::Adapter;
use crate::changes::Changes;
use crate::console;
use crate::failure::Failure;
use crate::interrupt;
use crate::loading::{Loading, source};
use crate::notes::Notes;
use crate::outputs::{self, Named, OutputFile};
use crate::progress;
use crate::result::Finished;
use clap::Args;
use impasto::job::Nets;
use impasto::pipeline::{Infotext, Request};
use impasto::weights::Hub;
use impasto::wording::Note;
use impasto::{Pipeline, Raster, Source};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// Arguments of `impasto again`.
#[derive(Args, Debug)]
pub struct Again {
    /// A PNG that impasto wrote, or a picture with the text of the AUTOMATIC1111 web UI, ComfyUI, Fooocus, InvokeAI,
    /// NovelAI or SwarmUI.
    #[arg(value_name = "PICTURE")]
    file: PathBuf,
    /// File of the new picture, or a folder for the picture. The default is the picture's name with `-again` added, and
    /// with a count if a file has that name.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replaces files that exist already. The picture itself is never replaced.
    #[arg(long)]
    overwrite: bool,
    #[command(flatten)]
    recipe: Recipe,
    #[command(flatten)]
    changes: Changes,
    /// Writes an HTML page with the pictures, masks, colors and times of the run.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Prints the result as one line of JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    loading: Loading,
}

/// Parts of a run that its picture does not hold.
#[derive(Args, Clone, Debug)]
pub struct Recipe {
    /// A ControlNet of the run. For several ControlNets, repeat the option in the order of the run.
    #[arg(long, value_name = "NET")]
    net: Vec<String>,
    /// A picture that the run used, if the file has only its thumbnail. May be given several times.
    #[arg(long, value_name = "PICTURE")]
    picture: Vec<PathBuf>,
    #[command(flatten)]
    adapter: Adapter,
}

/// The parts of a repeated run that are loaded before its request is made.
pub struct Loaded {
    pipeline: Pipeline,
    /// Index of the picture in the batch that is repeated.
    pub image: usize,
    /// Names of the networks, in the order of the file's hints.
    names: Vec<String>,
    nets: Nets,
    pictures: Vec<Raster>,
}

impl Recipe {
    /// Returns the files that the run reads: the picture and the parts that the picture lacks.
    pub fn files(&self, file: &Path, loading: &Loading) -> Vec<Named> {
        let pictures = self.picture.iter().map(|picture| Named::new("--picture", picture));
        let nets = self.net.iter().map(|net| Named::new("--net", net)).filter(|net| net.file.exists());
        let picture = std::iter::once(Named::new("the picture", file));
        picture.chain(pictures).chain(nets).chain(self.adapter.files()).chain(loading.files()).collect()
    }

    /// Loads the model that made the picture, unless the options name another, and the parts that the picture lacks.
    pub fn load(&self, file: &Path, loading: &Loading) -> Result<Loaded, Failure> {
        let told = Told::by(file)?;
        let otherwise = if loading.model.is_some() { Source::embedded() } else { told.source(file)? };
        let mut pipeline = loading.pipeline(otherwise)?;
        self.adapter.add_to(&mut pipeline)?;
        let mut nets = Nets::default();
        for name in &self.net {
            nets.open(name, &source("--net", name)?, pipeline.model())?;
        }
        let pictures = self.picture.iter().map(Raster::open).collect::<impasto::Result<_>>()?;
        Ok(Loaded { pipeline, image: told.image, names: self.net.clone(), nets, pictures })
    }
}

impl Loaded {
    /// Returns remarks from loading the model.
    pub fn notes(&self) -> &[Note] {
        self.pipeline.model().notes()
    }

    /// Returns the request that repeats the run of `file`.
    pub fn request(&self, file: &Path) -> Result<Request<'_>, Failure> {
        let request = Request::from_png_with(&self.pipeline, file, &self.pictures)?;
        Ok(self.names.iter().try_fold(request, |request, name| request.net(self.nets.get(name)?))?)
    }
}

/// Facts about a run that can be read from its picture before the model is loaded.
struct Told {
    /// Name of the model.
    model: Option<String>,
    /// Index of the picture in its batch.
    image: usize,
}

impl Told {
    fn by(file: &Path) -> Result<Self, Failure> {
        /// The only field of a recipe that this function reads.
        #[derive(Deserialize)]
        struct InBatch {
            image: usize,
        }
        let texts = Raster::texts_of(file)?;
        let text = |keyword| texts.iter().find(|(known, _)| known == keyword).map(|(_, text)| text.as_str());
        let model = Infotext::of(&texts).and_then(|info| info.field("Model").map(str::to_owned));
        let image = text("impasto").and_then(|text| impasto::json::parse::<InBatch>(text).ok());
        Ok(Self { model, image: image.map_or(0, |InBatch { image }| image) })
    }

    /// Returns the source of the model. A picture may come from a stranger, so its text opens only the embedded models
    /// and repositories that are in the cache of the hub, and sends no request. Other names give an error.
    fn source(&self, file: &Path) -> Result<Source, Failure> {
        let Some(name) = self.model.as_deref() else {
            return Ok(Source::embedded()); // A file without a recipe is refused later, with the reason.
        };
        let embedded = [
            (Source::embedded(), "embedded"),
            (Source::embedded_fast(), "embedded-fast"),
            (Source::embedded_flow(), "embedded-flow"),
            (Source::embedded_colorizer(), "embedded-colorizer"),
        ];
        let named = |(source, short): &(Source, &str)| name == *short || name == source.to_string();
        if let Some((source, _)) = embedded.into_iter().find(named) {
            return Ok(source);
        }
        let mut hub = Hub::new(name);
        hub.offline = Some(true);
        if hub.fetch(None).is_ok() {
            return Ok(hub.into());
        }
        let (file, name) = (file.display(), name.chars().take(LONGEST_NAME).collect::<String>());
        Err(Failure::Message(format!(
            "{file} was made with the model \"{name}\"; expected an embedded model or a repository in the cache of the \
             hub, because the text of a picture opens and fetches nothing else; name the model with --model"
        )))
    }
}

/// Largest number of characters of a model's name in a message.
const LONGEST_NAME: usize = 100;

/// Repeats the run of a picture.
pub fn again(arguments: &Again) -> Result<(), Failure> {
    let Again { file, recipe, loading, overwrite, changes, .. } = arguments;
    changes.check()?;
    let output_file = OutputFile::new(arguments.output.as_deref(), outputs::beside(file, "-again"), *overwrite);
    let report_file = arguments.report.as_ref().map(|report| OutputFile::given("--report", report, *overwrite));
    outputs::check_extension(&output_file.named, &["png"])?;
    let written: Vec<OutputFile> = [Some(output_file.clone()), report_file.clone()].into_iter().flatten().collect();
    outputs::check(&written, &recipe.files(file, loading))?;
    let token = interrupt::token()?;
    let (loaded, mut notes) = (recipe.load(file, loading)?, Notes::default());
    notes.tell_before(loaded.notes());
    // The picture is read now, because another program may replace its file during the run.
    let before = if changes.is_empty() { Some(Raster::open(file)?) } else { None };
    let image = loaded.image;
    let request = changes.change(loaded.request(file)?.cancel(&token), image)?;
    notes.tell_before(&request.notes()?);
    let output = progress::run(request, "picture", None).map_err(Failure::of_unwritten)?;
    let saved = output_file.save(|file| output.save(image, file), |file| output.save_new(image, file))?;
    if let Some(report) = &report_file {
        report.save(|file| impasto_report::save(&output, file), |file| impasto_report::save_new(&output, file))?;
    }
    Finished::new(&saved, &output, image)?.print(arguments.json, &notes)?;
    match before {
        Some(before) if before == *output.image(image)? => {
            console::tell(format_args!("  equal to {} in every pixel", file.display()));
        }
        Some(_) => console::tell(format_args!("  differs from {}; the notes say why", file.display())),
        None => {}
    }
    Ok(())
}
