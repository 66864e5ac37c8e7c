//! The tool `look`: the recipe of a picture, and where the model attends to words.

use super::answer::{fail, image};
use super::pictures::{Painted, Pictures};
use super::words::Agent;
use crate::fields::{self, Fields};
use crate::finished::Finished;
use crate::options::Options;
use crate::queue::{Api, Submission};
use crate::refusal::Refusal;
use crate::request::{JobRequest, Restored};
use impasto::pipeline::Infotext;
use impasto::raster::Filter;
use impasto::{Error, Raster};
use rmcp::model::{CallToolResult, ContentBlock};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// Share of brightness that a picture keeps where the model does not attend to a word.
const DIM: f64 = 0.15;
/// Largest number of words of a call.
const MOST_WORDS: usize = 8;

/// A picture to look at, and the words whose attention is shown.
pub(super) struct Look {
    words: Vec<String>,
    recipe: Restored,
    infotext: String,
    painted: Option<Painted>,
}

impl Look {
    /// Reads the arguments of a call, and the recipe of its picture.
    ///
    /// # Errors
    /// A refusal that names the field, its value and what is expected.
    pub(super) fn read(arguments: Map<String, Value>, pictures: &Pictures, options: &Options) -> Result<Self, Refusal> {
        let mut fields = Fields::from(arguments);
        let missing = || Refusal::field("picture", "picture is missing; look needs it");
        let picture = fields.word("picture")?.ok_or_else(missing)?;
        let words = fields.list("words")?.into_iter().map(|word| fields::text("words", word));
        let words = words.collect::<Result<Vec<_>, _>>()?;
        if words.len() > MOST_WORDS {
            let sentence = format!("words has {} words; expected at most {MOST_WORDS}", words.len());
            return Err(Refusal::field("words", sentence));
        }
        if let Some(unknown) = fields.names().next() {
            return Err(Refusal::wrong(format!("unknown field {unknown:?}; expected picture and words")));
        }
        let painted = pictures.painted("picture", &picture)?;
        let file = match &painted {
            Some(Painted { finished, index }) => finished.png(*index).map_err(fail)?.unwrap_or_default(),
            None => pictures.upload("picture", &picture)?.into_file(),
        };
        let recipe = JobRequest::from_picture(&file, options)
            .map_err(|sentence| Refusal::field("picture", format!("picture: {sentence}")))?;
        let infotext = Raster::texts_named(&file, Infotext::KEYWORDS, options.file());
        let infotext = infotext.ok().and_then(|texts| Infotext::of(&texts));
        let infotext = infotext.map(|info| info.to_string()).unwrap_or_default();
        Ok(Self { words, recipe, infotext, painted })
    }

    /// Returns the job that paints the picture again, if its attention must be read again.
    ///
    /// # Errors
    /// A refusal of a recipe that is no job within the limits.
    pub(super) fn submission(&self, options: &Options) -> Result<Option<Submission>, Refusal> {
        if self.words.is_empty() || self.painted.is_some() {
            return Ok(None);
        }
        let mut request = self.recipe.request.clone();
        request.job.config.images = 1;
        let json = serde_json::to_value(&request).map_err(|error| Refusal::wrong(error.to_string()))?;
        let bytes = json.to_string().into_bytes();
        JobRequest::read_worded(json, options, &Agent).map_err(Refusal::wrong)?;
        let prompt = request.job.config.prompt;
        Ok(Some(Submission { json: bytes, prompt, api: Api::Mcp, ..Submission::default() }))
    }

    /// Returns the run whose attention is shown, if it is kept.
    pub(super) fn kept(&self) -> Option<Painted> {
        self.painted.clone()
    }

    /// Writes the result. `run` is the run whose attention is shown.
    ///
    /// # Errors
    /// A refusal of words that the prompt does not have.
    pub(super) fn write(&self, run: Option<&Painted>) -> Result<CallToolResult, Refusal> {
        let (mut content, mut lines, mut words) = (Vec::new(), vec![self.infotext.clone()], Vec::new());
        if let Some(Painted { finished, index }) = run {
            for word in &self.words {
                let (picture, map) = find(finished, *index, word)?;
                let shown = overlay(picture, &map).and_then(|shown| shown.to_png(&[])).map_err(fail)?;
                content.push(image(&shown));
                let [left, top, right, bottom] = bounds(&map);
                lines.push(format!("{word}: the model attends to the box {left}, {top} to {right}, {bottom}"));
                words.push(json!({ "word": word, "box": [left, top, right, bottom] }));
            }
        }
        let notes = &self.recipe.notes;
        lines.extend(notes.iter().map(|note| format!("note: {note}")));
        content.push(ContentBlock::text(lines.join("\n")));
        let mut result = CallToolResult::success(content);
        result.structured_content = Some(json!({ "recipe": self.settings(), "words": words, "notes": notes }));
        Ok(result)
    }

    /// Returns the settings of the picture's job that are not the usual ones, without pictures.
    fn settings(&self) -> Value {
        let settings = |request: &JobRequest| serde_json::to_value(request).unwrap_or_default();
        let (mut own, usual) = (settings(&self.recipe.request), settings(&JobRequest::default()));
        if let Value::Object(fields) = &mut own {
            fields.retain(|name, value| usual.get(name) != Some(value));
        }
        leave_out_pictures(&mut own);
        own
    }
}

/// Replaces the pictures in a value by words, because an agent cannot read them there.
fn leave_out_pictures(value: &mut Value) {
    match value {
        Value::String(text) if text.starts_with("data:image/") => *text = "(a picture)".into(),
        Value::Array(values) => values.iter_mut().for_each(leave_out_pictures),
        Value::Object(fields) => fields.values_mut().for_each(leave_out_pictures),
        _ => {}
    }
}

/// Returns a picture of a run, and the map of the attention to a word at the picture's size.
///
/// # Errors
/// A refusal of a word that the prompt does not have, with those that it has.
fn find<'f>(finished: &'f Finished, index: usize, word: &str) -> Result<(&'f Raster, Raster), Refusal> {
    let maps = finished.result.get("words").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let is_of_picture = |map: &&Value| map.get("image").and_then(Value::as_u64) == Some(index as u64);
    let named = |map: &'f Value| Some((map.get("word")?.as_str()?, map.get("map")?));
    let maps: Vec<(&str, &Value)> = maps.iter().filter(is_of_picture).filter_map(named).collect();
    let found = maps.iter().find(|(known, _)| *known == word);
    let (Some((_, map)), Some(picture)) = (found, finished.pictures().get(index)) else {
        let known: Vec<&str> = maps.iter().map(|(known, _)| *known).collect();
        let known = if known.is_empty() { "none, because the run read no words".into() } else { known.join(", ") };
        return Err(Refusal::field("words", format!("words has {word:?}; expected words of the prompt: {known}")));
    };
    let map = Raster::deserialize(*map).map_err(|error| fail(Error::custom(error)))?;
    Ok((picture, map.resize(picture.size(), Filter::Bilinear).map_err(fail)?))
}

/// Returns a picture, dark where a map of its size is dark.
fn overlay(picture: &Raster, map: &Raster) -> impasto::Result<Raster> {
    let light =
        |(color, gray): (&u8, &u8)| (f64::from(*color) * (DIM + (1.0 - DIM) * f64::from(*gray) / 255.0)).round() as u8;
    Raster::from_bytes(picture.bytes().iter().zip(map.bytes()).map(light).collect(), picture.size())
}

/// Returns the box of the pixels that have at least half of a map's largest value: left, top, right and bottom, where
/// right and bottom lie outside.
fn bounds(map: &Raster) -> [usize; 4] {
    let width = map.size().width.max(1) as usize;
    let (pixels, _) = map.bytes().as_chunks::<3>();
    let most = pixels.iter().map(|[gray, ..]| *gray).max().unwrap_or_default();
    let bright = pixels.iter().enumerate().filter(|(_, [gray, ..])| u16::from(*gray) * 2 >= u16::from(most));
    let places = bright.map(|(at, _)| (at % width, at / width));
    let grown = places.fold(None, |grown: Option<[usize; 4]>, (x, y)| {
        let [left, top, right, bottom] = grown.unwrap_or([x, y, x + 1, y + 1]);
        Some([left.min(x), top.min(y), right.max(x + 1), bottom.max(y + 1)])
    });
    grown.unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use impasto::Rgb;

    #[test]
    fn bounds_hold_the_bright_pixels() {
        let mut map = Raster::flat(Rgb(0, 0, 0), (8, 6));
        map.set(2, 3, Rgb(200, 200, 200));
        map.set(4, 5, Rgb(100, 100, 100));
        map.set(7, 0, Rgb(99, 99, 99));
        assert_eq!(bounds(&map), [2, 3, 5, 6]);
    }

    #[test]
    fn overlay_darkens_what_is_not_attended_to() {
        let picture = Raster::flat(Rgb(200, 100, 0), (2, 1));
        let mut map = Raster::flat(Rgb(0, 0, 0), (2, 1));
        map.set(0, 0, Rgb(255, 255, 255));
        assert_eq!(overlay(&picture, &map).unwrap().bytes(), [200, 100, 0, 30, 15, 0]);
    }
}
