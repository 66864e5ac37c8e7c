//! [`Finished`]: the pictures and the report of a job.

use crate::embedded::{INFOTEXT, KEYWORD, RECIPE, REPORT, share_pictures};
use crate::options::Options;
use crate::request::JobRequest;
use impasto::guidance::{Guidance, Picture, Report};
use impasto::pipeline::{Infotext, Output, RunRecipe};
use impasto::saliency::{Daam, WordMapsRun};
use impasto::wording::Wording;
use impasto::{Error, Raster, Result};
use serde_json::{Map, Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

/// The pictures and the report of a job. The pictures share one request and one recipe in memory. Each file gets both
/// when a client asks for it.
#[derive(Debug)]
pub struct Finished {
    pictures: Vec<Raster>,
    /// Seed of the first picture.
    seed: Option<u64>,
    /// Time at which the run ended, in milliseconds since 1970.
    time: u64,
    recipe: RunRecipe,
    /// Fields of the request that made one picture, except its seed.
    request: Map<String, Value>,
    /// The result as the API shows it.
    pub result: Value,
    /// Memory that the pictures, the recipe, the request and the result take, in bytes.
    pub bytes: usize,
}

impl Finished {
    /// Describes the run of a request, with the maps of the prompt's words if there are any. `url` returns the address
    /// of a picture. The notes are in `words`.
    ///
    /// # Errors
    /// The errors of the maps, and of serde.
    pub fn of(url: impl Fn(usize) -> String, asked: &JobRequest, output: Output, words: &dyn Wording) -> Result<Self> {
        let time = now();
        let result = describe(url, time, &output, words)?;
        // Each file holds the request for its picture alone.
        let Value::Object(mut request) = serde_json::to_value(asked).map_err(Error::custom)? else {
            return Err(Error::custom("a request is no JSON object; please report this fault"));
        };
        request.insert("images".into(), 1.into());
        request.insert("live".into(), Value::Null);
        let recipe = serde_json::to_value(output.recipe()).map_err(Error::custom)?;
        share_pictures(&mut request, &recipe);
        let written = serde_json::to_string(&request).map_err(Error::custom)?;
        let texts = [recipe.to_string(), written, result.to_string()].iter().map(String::len).sum::<usize>();
        let pixels = output.images.iter().map(|picture| picture.bytes().len()).sum::<usize>();
        let recipe = output.recipe().clone();
        let Output { images: pictures, seed, .. } = output;
        Ok(Self { pictures, seed, time, recipe, request, result, bytes: texts + pixels })
    }

    /// Reads the files of a run's pictures that [`png`](Self::png) wrote elsewhere, and the run's result. `url` returns
    /// the address of a picture.
    ///
    /// # Errors
    /// [`Error::Custom`] if a file is no picture of the studio's, and the errors of the image codec.
    pub(crate) fn read(
        url: impl Fn(usize) -> String,
        files: &[Vec<u8>],
        mut result: Value,
        options: &Options,
    ) -> Result<Self> {
        let wrong =
            || Error::custom("a picture of the queue has no request or no recipe; do all workers have this version?");
        let texts = Raster::texts_named(files.first().ok_or_else(wrong)?, &[KEYWORD, RECIPE], options.file())?;
        let text = |keyword: &str| texts.iter().find(|(known, _)| known == keyword).map(|(_, text)| text);
        let (own, settings) = text(KEYWORD).zip(text(RECIPE)).ok_or_else(wrong)?;
        let Value::Object(request) = impasto::json::parse(own).map_err(Error::custom)? else { return Err(wrong()) };
        let recipe: RunRecipe = impasto::json::parse(settings).map_err(Error::custom)?;
        let pictures = files.iter().map(|file| {
            let picture = impasto::image::load_from_memory(file).map_err(Error::custom)?.into_rgb8();
            let size = picture.dimensions();
            Raster::from_bytes(picture.into_raw(), size)
        });
        let pictures = pictures.collect::<Result<Vec<_>>>()?;
        let painted = result.get_mut("pictures").and_then(Value::as_array_mut).into_iter().flatten();
        painted.enumerate().filter_map(|(index, part)| Some((index, part.get_mut("url")?))).for_each(
            |(index, place)| {
                *place = url(index).into();
            },
        );
        let seed = result.pointer("/pictures/0/seed").and_then(Value::as_u64);
        let time = result.get("time").and_then(Value::as_u64).unwrap_or_default();
        let bytes = files.iter().map(Vec::len).sum::<usize>() + result.to_string().len();
        let pixels = pictures.iter().map(|picture| picture.bytes().len()).sum::<usize>();
        Ok(Self { pictures, seed, time, recipe, request, result, bytes: bytes + pixels })
    }

    /// Returns the number of pictures.
    pub const fn count(&self) -> usize {
        self.pictures.len()
    }

    /// Returns the time at which the run ended, in milliseconds since 1970.
    pub(crate) const fn time(&self) -> u64 {
        self.time
    }

    /// Returns the seed of a picture; `None` if the run began with noise from elsewhere.
    pub(crate) fn seed_of(&self, index: usize) -> Option<u64> {
        seed(self.seed, index)
    }

    /// Adds a note to those of the run.
    pub(crate) fn note(&mut self, note: String) {
        if let Some(Value::Array(notes)) = self.result.get_mut("notes") {
            notes.push(note.into());
        }
    }

    /// Returns the pictures without the texts of their files.
    pub fn pictures(&self) -> &[Raster] {
        &self.pictures
    }

    /// Returns the text of the AUTOMATIC1111 web UI about a picture.
    pub fn infotext(&self, index: usize) -> Infotext {
        self.recipe_of(index).infotext()
    }

    /// Returns the recipe of a picture.
    fn recipe_of(&self, index: usize) -> RunRecipe {
        let mut recipe = self.recipe.clone();
        recipe.image = index;
        recipe
    }

    /// Returns the notes of the run and its report without pictures, as the answers of other programs' APIs have them
    /// under the studio's name. `notes` are those on the request.
    pub fn summary(&self, mut notes: Vec<String>) -> Value {
        let field = |name: &str| self.result.get(name).cloned().unwrap_or_default();
        let told: Vec<String> = serde_json::from_value(field("notes")).unwrap_or_default();
        notes.extend(told);
        let mut colors = field("colors");
        for color in colors.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
            color.remove("mask");
            color.remove("report");
        }
        let [pictures, seams, seconds] = ["pictures", "seams", "seconds"].map(field);
        let report = json!({ "pictures": pictures, "colors": colors, "seams": seams, "seconds": seconds });
        json!({ "notes": notes, "report": report })
    }

    /// Returns a picture as PNG, with the recipe and the report of its run, and the request that made the picture.
    /// `None` if there is no picture at `index`.
    ///
    /// # Errors
    /// [`Error::Parameter`] if the texts are too large for a file.
    pub fn png(&self, index: usize) -> Result<Option<Vec<u8>>> {
        let Some(picture) = self.pictures.get(index) else { return Ok(None) };
        let mut request = self.request.clone();
        request.insert("seed".into(), self.seed_of(index).into());
        let recipe = self.recipe_of(index);
        let request = serde_json::to_string(&request).map_err(Error::custom)?;
        let settings = serde_json::to_string(&recipe).map_err(Error::custom)?;
        let infotext = recipe.infotext().to_string();
        let report = self.report_of(index).to_string();
        let texts = [(INFOTEXT, &infotext), (RECIPE, &settings), (KEYWORD, &request), (REPORT, &report)];
        picture.to_png(&texts.map(|(keyword, text)| (keyword, text.as_str()))).map(Some)
    }

    /// Returns the result as far as it is about a picture, and the picture's index. The times are left out, so that the
    /// same request makes the same file.
    fn report_of(&self, index: usize) -> Value {
        let Value::Object(mut report) = self.result.clone() else { return Value::Null };
        for name in ["pictures", "time", "seconds"] {
            report.remove(name);
        }
        for name in ["colors", "words"] {
            let parts = report.get_mut(name).and_then(Value::as_array_mut);
            let is_of = |part: &Value| part.get("image").is_none_or(|image| image.is_null() || *image == index);
            parts.into_iter().for_each(|parts| parts.retain(is_of));
        }
        report.insert("image".into(), index.into());
        report.into()
    }
}

/// Returns the time in milliseconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64)
}

/// Returns the seed of a picture, from that of the first one.
fn seed(first: Option<u64>, index: usize) -> Option<u64> {
    first.map(|seed| seed.wrapping_add(index as u64))
}

/// Describes a run as the API shows it.
fn describe(url: impl Fn(usize) -> String, time: u64, output: &Output, wording: &dyn Wording) -> Result<Value> {
    let (mut painted, mut maps) = (Vec::new(), Vec::new());
    // A model that reads no words, and a picture that is kept as it is, have no maps.
    let words = output.details::<WordMapsRun>(&Daam::words().label()).ok();
    for (index, picture) in output.images.iter().enumerate() {
        painted.push(json!({
            "url": url(index),
            "seed": seed(output.seed, index),
            "width": picture.size().width,
            "height": picture.size().height,
        }));
        for map in words.map(|words| words.heat_maps(index)).transpose()?.unwrap_or_default() {
            maps.push(json!({ "word": map.label, "image": index, "map": map.raster()?.data_url()? }));
        }
    }
    let mut colors = Vec::new();
    let reports = output.reports.iter().enumerate();
    let swatches =
        reports.flat_map(|(index, report)| report.swatches.iter().map(move |swatch| (index, report, swatch)));
    for (index, report, swatch) in swatches {
        colors.push(json!({
            "label": swatch.label,
            "image": swatch.image,
            "asked": swatch.asked.to_string(),
            "painted": swatch.painted.to_string(),
            "delta_e": swatch.delta_e,
            "report": index,
            "mask": mean_map(report, swatch.image)?.map(|mask| mask.data_url()).transpose()?,
        }));
    }
    let repaint = output.reports.iter().find(|report| report.name == "repaint");
    let seams = repaint.and_then(|report| report.data.get("seams").cloned()).unwrap_or_else(|| json!([]));
    let reports = output.reports.iter().map(
        |report| json!({ "name": report.name, "data": report.data, "curves": report.curves, "strips": report.strips }),
    );
    Ok(json!({
        "pictures": painted,
        "colors": colors,
        "words": maps,
        "seams": seams,
        "reports": reports.collect::<Vec<Value>>(),
        "notes": output.notes.iter().map(|note| note.worded(wording)).collect::<Vec<_>>(),
        "time": time,
        "seconds": output.timing.total().as_secs_f64(),
    }))
}

/// Returns the mean over the run of the maps that a report has of an image, in gray; `None` without maps.
fn mean_map(report: &Report, image: Option<usize>) -> Result<Option<Raster>> {
    let maps = report.pictures.iter().filter(|picture| picture.is_map() && picture.image == image);
    let maps = maps.map(Picture::raster).collect::<Result<Vec<_>>>()?;
    let Some(size) = maps.first().map(Raster::size) else { return Ok(None) };
    let mut sums = vec![0; size.width as usize * size.height as usize * 3];
    for map in &maps {
        sums.iter_mut().zip(map.bytes()).for_each(|(sum, byte)| *sum += usize::from(*byte));
    }
    Raster::from_bytes(sums.into_iter().map(|sum| (sum / maps.len()) as u8).collect(), size).map(Some)
}
