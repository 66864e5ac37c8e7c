//! `impasto look`: where in a picture the model attends to each word of the prompt.

use crate::again::Recipe;
use crate::console;
use crate::failure::Failure;
use crate::interrupt;
use crate::loading::Loading;
use crate::notes::Notes;
use crate::outputs::{self, OutputFile};
use crate::progress;
use clap::Args;
use impasto::Raster;
use impasto::guidance::Guidance;
use impasto::saliency::{Daam, DaamRun, WordMapsRun};
use impasto_report::Sheet;
use std::path::PathBuf;

/// Arguments of `impasto look`.
#[derive(Args, Debug)]
pub struct Look {
    /// A picture with the settings of its run, as `impasto again` reads it. The run is repeated to read the attention.
    #[arg(value_name = "PICTURE")]
    file: PathBuf,
    /// Phrases of the prompt. Without one, every word of the prompt is shown.
    #[arg(value_name = "PHRASE")]
    phrases: Vec<String>,
    /// File of the sheet, or a folder for the sheet. The default is the picture's name with `-look` added, and with a
    /// count if a file has that name.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replaces a file that exists already. The picture itself is never replaced.
    #[arg(long)]
    overwrite: bool,
    /// Opacity of the overlays, 0 to 1.
    #[arg(long, value_name = "SHARE", default_value_t = 0.7, allow_negative_numbers = true)]
    opacity: f64,
    #[command(flatten)]
    recipe: Recipe,
    #[command(flatten)]
    loading: Loading,
}

/// Maximum number of columns of a sheet.
const COLUMNS: usize = 4;

/// Draws a sheet of the picture and an overlay for each phrase.
pub fn look(arguments: &Look) -> Result<(), Failure> {
    let Look { file, recipe, loading, opacity, .. } = arguments;
    if !(0.0..=1.0).contains(opacity) {
        return Err(Failure::CommandLine(format!("--opacity is {opacity}; expected 0 to 1")));
    }
    let sheet_file = OutputFile::new(arguments.output.as_deref(), outputs::beside(file, "-look"), arguments.overwrite);
    outputs::check_extension(&sheet_file.named, &outputs::PICTURES)?;
    outputs::check(std::slice::from_ref(&sheet_file), &recipe.files(file, loading))?;
    let token = interrupt::token()?;
    let (loaded, mut notes) = (recipe.load(file, loading)?, Notes::default());
    notes.tell_before(loaded.notes());
    let image = loaded.image;
    let mut request = loaded.request(file)?.cancel(&token);
    if arguments.phrases.is_empty() {
        request = request.guide(Daam::words());
    }
    for phrase in &arguments.phrases {
        request = request.guide(Daam::of(phrase));
    }
    notes.tell_before(&request.notes()?);
    let output = progress::run(request, "picture", None).map_err(Failure::of_unwritten)?;
    let picture = output.image(image)?;
    let maps = if arguments.phrases.is_empty() {
        output.details::<WordMapsRun>(&Daam::words().label())?.heat_maps(image)?
    } else {
        let map = |phrase: &String| output.details::<DaamRun>(phrase)?.heat_map(image);
        arguments.phrases.iter().map(map).collect::<impasto::Result<_>>()?
    };
    let overlays: Vec<(String, Raster)> = maps
        .iter()
        .map(|map| Ok((map.label.clone(), map.overlay(picture, *opacity)?)))
        .collect::<impasto::Result<_>>()?;
    let columns = (overlays.len() + 1).min(COLUMNS);
    let sheet = overlays
        .iter()
        .fold(Sheet::new(columns).add("picture", picture), |sheet, (phrase, overlay)| sheet.add(phrase, overlay))
        .draw()?;
    let saved = sheet_file.save(|file| sheet.save(file), |file| sheet.save_new(file))?;
    notes.tell_after(&output.notes);
    console::print(saved.display())
}
