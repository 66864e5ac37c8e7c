//! [`JobRequest`]: a request for pictures, as JSON.

use crate::embedded::{KEYWORD, RECIPE, take_pictures};
use crate::options::Options;
use crate::wording::Page;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use impasto::diffusion::solver;
use impasto::job::{Image, Job};
use impasto::pipeline::{Infotext, MaskWhere, RequestConfig, Thing};
use impasto::raster::Layer;
use impasto::wording::Wording;
use impasto::{Raster, Size};
use serde::Serialize;
use serde_json::Value;

/// A request for pictures: a [`Job`] whose pictures are data URLs of PNG, beside the names of a model and of a live
/// view. Every field may be missing or null.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "Request"))]
pub struct JobRequest {
    /// The job to paint.
    #[serde(flatten)]
    pub job: Job,
    /// Name of the model among those that the studio can choose. The default is the model in use.
    #[cfg_attr(test, schemars(default))]
    pub model: Option<String>,
    /// Name of a live view. A later job of the same view cancels the earlier ones.
    #[cfg_attr(test, schemars(default))]
    pub live: Option<String>,
}

/// Largest seed, 2⁵³ − 1. JavaScript's numbers are exact for integers up to this value.
const LARGEST_SEED: u64 = (1 << 53) - 1;
/// Maximum number of areas of a request.
const MOST_AREAS: usize = 16;
/// Maximum number of details of a request.
const MOST_DETAILS: usize = 8;
/// Maximum number of forced colors, of ControlNets, and of pictures to draw like, of a request.
const MOST_METHODS: usize = 16;
/// Maximum number of seeds that a request compares. Their first passes run at once.
const MOST_SEEDS: usize = 16;
/// Fields of a job that a studio does not take: values of any size, and a run without a picture.
pub(crate) const REFUSED: [&str; 3] = ["noise", "until", "guidances"];
/// Limits in the description of the API that the types do not have: field, keyword of JSON Schema, and value.
#[cfg(test)]
pub(crate) const LIMITS: [(&str, &str, u64); 15] = [
    ("prompt", "maxLength", LONGEST_PROMPT as u64),
    ("negative", "maxLength", LONGEST_PROMPT as u64),
    ("sampler", "maxLength", LONGEST_NAME as u64),
    ("model", "maxLength", LONGEST_NAME as u64),
    ("live", "maxLength", LONGEST_LIVE as u64),
    ("seed", "maximum", LARGEST_SEED),
    ("best_of", "maximum", MOST_SEEDS as u64),
    ("areas", "maxItems", MOST_AREAS as u64),
    ("details", "maxItems", MOST_DETAILS as u64),
    ("forces", "maxItems", MOST_METHODS as u64),
    ("same_color", "maxItems", MOST_METHODS as u64),
    ("palette", "maxItems", MOST_SWATCHES as u64),
    ("guiders", "maxItems", MOST_METHODS as u64),
    ("controls", "maxItems", MOST_METHODS as u64),
    ("ip_adapter_pictures", "maxItems", MOST_METHODS as u64),
];
/// Maximum number of colors of a palette.
const MOST_SWATCHES: usize = 64;
/// Maximum number of pixels of all pictures of a request together, as a multiple of the square of [`Options::side`].
const MOST_PIXELS: u64 = 32;
/// Longest prompt in bytes.
const LONGEST_PROMPT: usize = 4096;
/// Longest phrase or name in bytes.
const LONGEST_NAME: usize = 256;
/// Longest name of a live view in bytes.
const LONGEST_LIVE: usize = 64;

impl JobRequest {
    /// Parses the JSON text of a request, as [`read_worded`](Self::read_worded) does.
    ///
    /// # Errors
    /// The errors of [`read_worded`](Self::read_worded); a sentence about a text that is no JSON, or has too many
    /// values.
    pub(crate) fn parse(text: &[u8], options: &Options, words: &dyn Wording) -> Result<Self, String> {
        Self::read_worded(impasto::json::parse(text).map_err(|error| error.to_string())?, options, words)
    }

    /// Reads a request. The sizes of its pictures are checked in their headers first, because a small PNG may decode
    /// to a large picture.
    ///
    /// # Errors
    /// A sentence that names the field, its value, and what is expected.
    pub(crate) fn read(json: Value, options: &Options) -> Result<Self, String> {
        Self::read_worded(json, options, &Page)
    }

    /// Reads a request as [`read`](Self::read) does.
    ///
    /// # Errors
    /// A sentence in `words` that names the field, its value, and what is expected.
    pub(crate) fn read_worded(mut json: Value, options: &Options, words: &dyn Wording) -> Result<Self, String> {
        let pixels = header_pixels(&json);
        let most = u64::from(options.side).saturating_pow(2).saturating_mul(MOST_PIXELS);
        if pixels > most {
            return Err(format!("the pictures have {pixels} pixels together; expected at most {most}"));
        }
        let mut take = |name: &str| {
            let own = json.as_object_mut().and_then(|fields| fields.remove(name)).unwrap_or_default();
            serde_json::from_value(own).map_err(|error| format!("{}: {error}", words.name(name)))
        };
        let (model, live) = (take("model")?, take("live")?);
        let job = serde_json::from_value(json).map_err(|error| renamed(&error.to_string(), words))?;
        let request = Self { job, model, live };
        request.check(options, words)?;
        Ok(request)
    }

    /// Checks the request against the studio's limits. The rest is checked by the library when the job runs.
    ///
    /// # Errors
    /// A sentence that names the field, its value, and what is expected.
    fn check(&self, options: &Options, words: &dyn Wording) -> Result<(), String> {
        let within = |field: &str, value: usize, least: usize, most: usize| {
            if (least..=most).contains(&value) {
                Ok(())
            } else {
                Err(format!("{} is {value}; expected {least} to {most}", words.name(field)))
            }
        };
        let Job { config, areas, forces, same_color, palette, guiders, controls, ip_adapter_pictures: likes, .. } =
            &self.job;
        self.check_kinds(words)?;
        self.check_texts(words)?;
        within("images", config.images, 1, options.images)?;
        within("best_of", config.best_of, 1, MOST_SEEDS)?;
        let steps = config
            .details
            .iter()
            .map(|detail| detail.steps)
            .chain([config.hires.as_ref().and_then(|hires| hires.steps)]);
        steps.chain([config.steps]).flatten().try_for_each(|steps| within("steps", steps, 1, options.steps))?;
        within("areas", areas.len(), 0, MOST_AREAS)?;
        within("forces", forces.len(), 0, MOST_METHODS)?;
        within("same_color", same_color.len(), 0, MOST_METHODS)?;
        within("palette", palette.len(), 0, MOST_SWATCHES)?;
        within("guiders", guiders.len(), 0, MOST_METHODS)?;
        within("controls", controls.len(), 0, MOST_METHODS)?;
        within("ip_adapter_pictures", likes.len(), 0, MOST_METHODS)?;
        within("details", config.details.len(), 0, MOST_DETAILS)?;
        if let Some((field, side, expected)) = wrong_side(config.size, options.side) {
            return Err(format!("{} is {side}; expected {expected}", words.name(field)));
        }
        if let Some(seed) = config.seed.filter(|seed| *seed > LARGEST_SEED) {
            return Err(format!("{} is {seed}; expected 0 to {LARGEST_SEED}", words.name("seed")));
        }
        self.check_pictures(options, words)?;
        self.job.check().map_err(|error| error.worded(words))
    }

    /// Refuses what a stranger may not ask for: a file of this computer, and values that take any amount of memory.
    ///
    /// # Errors
    /// A sentence that names the field.
    fn check_kinds(&self, words: &dyn Wording) -> Result<(), String> {
        let Job { config, guidances, .. } = &self.job;
        if let Some((field, _)) = self.job.paths().first() {
            return Err(format!("{} is no picture; expected a PNG in a data URL", words.name(field)));
        }
        let given = [config.noise.is_some(), config.until.is_some(), !guidances.is_empty()];
        match REFUSED.iter().zip(given).find(|(_, is_given)| *is_given) {
            Some((field, _)) => Err(format!("{field} is given; expected none, because a studio does not take it")),
            None => Ok(()),
        }
    }

    /// Checks the sizes of the request's pictures. A side may be twice as long as the limit for a run, because pictures
    /// are resized.
    ///
    /// # Errors
    /// A sentence that names the field, its size, and what is expected.
    fn check_pictures(&self, options: &Options, words: &dyn Wording) -> Result<(), String> {
        let most = options.side.saturating_mul(2);
        let Job { config, areas, palette_of, map, start, mask, controls, line_art, strokes, reference, .. } = &self.job;
        let pictures = [
            ("line_art", line_art),
            ("start", start),
            ("map", map),
            ("reference", reference),
            ("palette_of", palette_of),
        ];
        let pictures = pictures.into_iter().filter_map(|(field, picture)| Some((field, size_of(picture.as_ref()?)?)));
        let likes = &self.job.ip_adapter_pictures;
        let placed = likes.iter().map(|like| ("ip_adapter_pictures", &like.mask));
        let layers = [("strokes", strokes), ("mask", mask)];
        let layers =
            layers.into_iter().chain(placed).filter_map(|(field, layer)| Some((field, layer_size(layer.as_ref()?)?)));
        let shown = likes.iter().filter_map(|like| Some(("ip_adapter_pictures", size_of(&like.picture)?)));
        let pictures = pictures
            .chain(layers)
            .chain(shown)
            .chain(controls.iter().filter_map(|follow| Some(("controls", size_of(&follow.picture)?))));
        let areas = areas.iter().filter_map(|area| Some(("the area's mask", layer_size(area.mask.as_ref()?)?)));
        let details = config.details.iter().filter_map(|detail| match &detail.thing {
            Thing::Under(mask) => Some(("details", mask.size())),
            _ => None,
        });
        let is_within = |size: Size| size.width.max(size.height) <= most && size.width.min(size.height) > 0;
        match pictures.chain(areas).chain(details).find(|(_, size)| !is_within(*size)) {
            Some((field, size)) => {
                Err(format!("{} has {size} pixels; expected sides of 1 to {most}", words.name(field)))
            }
            None => Ok(()),
        }
    }

    /// Checks the lengths of the request's texts.
    ///
    /// # Errors
    /// A sentence that names the field, its length, and what is expected.
    fn check_texts(&self, words: &dyn Wording) -> Result<(), String> {
        let Job { config, areas, forces, same_color, controls, .. } = &self.job;
        let name = |name: &Option<String>| name.as_ref().map_or(0, String::len);
        let thing = |thing: &MaskWhere| thing.phrase.len().max(name(&thing.description));
        let fields = [
            ("prompt", config.prompt.len(), LONGEST_PROMPT),
            ("negative", config.negative.len(), LONGEST_PROMPT),
            ("second_prompt", name(&config.second_prompt), LONGEST_PROMPT),
            ("second_negative", name(&config.second_negative), LONGEST_PROMPT),
            ("third_prompt", name(&config.third_prompt), LONGEST_PROMPT),
            ("third_negative", name(&config.third_negative), LONGEST_PROMPT),
            ("sampler", name(&config.solver_named), LONGEST_NAME),
            ("mask_where", config.mask_where.as_ref().map_or(0, thing), LONGEST_NAME),
            ("model", name(&self.model), LONGEST_NAME),
            ("live", name(&self.live), LONGEST_LIVE),
        ];
        let phrases = areas.iter().map(|area| ("the area's phrase", area.phrase.len(), LONGEST_NAME));
        let forced = forces.iter().map(|force| ("forces", force.phrase.len(), LONGEST_NAME));
        let same = same_color.iter().map(|same| ("same_color", same.phrase.len().max(same.thing.len()), LONGEST_NAME));
        let nets = controls.iter().map(|follow| ("controls", follow.net.len(), LONGEST_NAME));
        let likes = &self.job.ip_adapter_pictures;
        let likes = likes.iter().map(|like| ("ip_adapter_pictures", name(&like.phrase), LONGEST_NAME));
        let details = config.details.iter().flat_map(|detail| {
            let colors = detail.colors.iter().map(|(phrase, _)| phrase.len()).sum();
            let named = if let Thing::Named(named) = &detail.thing { thing(named) } else { 0 };
            let prompts = name(&detail.prompt).max(name(&detail.negative));
            [("details", named, LONGEST_NAME), ("details", prompts.max(colors), LONGEST_PROMPT)]
        });
        match fields
            .into_iter()
            .chain(phrases)
            .chain(forced)
            .chain(same)
            .chain(nets)
            .chain(likes)
            .chain(details)
            .find(|(_, length, most)| length > most)
        {
            Some((field, length, most)) => {
                Err(format!("{} has {length} bytes; expected at most {most}", words.name(field)))
            }
            None => Ok(()),
        }
    }

    /// Reads a request from the texts of a PNG, JPEG or WebP: from the studio's own text, or else from that of another
    /// program. Notes tell which settings of the other program the request does not have.
    ///
    /// # Errors
    /// A sentence that says why the picture holds no request within the limits of `options`.
    pub fn from_picture(file: &[u8], options: &Options) -> Result<Restored, String> {
        let keywords = [&[KEYWORD, RECIPE], Infotext::KEYWORDS].concat();
        let texts = Raster::texts_named(file, &keywords, options.file()).map_err(|error| error.worded(&Page))?;
        let text = |keyword: &str| texts.iter().find(|(known, _)| known == keyword).map(|(_, text)| text.as_str());
        if let Some(own) = text(KEYWORD) {
            let read = || {
                let mut json = impasto::json::parse(own).map_err(|error| error.to_string())?;
                take_pictures(&mut json, text(RECIPE))?;
                Self::read(json, options)
            };
            let request = read().map_err(|error| format!("the picture's request cannot be read: {error}"))?;
            return Ok(Restored { request, notes: Vec::new() });
        }
        let Some(info) = Infotext::of(&texts) else {
            return Err(
                "the picture has no recipe; expected a picture from the studio, impasto or a known program".into()
            );
        };
        let [seed, size, scale, steps] = ["Seed", "Size", "CFG scale", "Steps"].map(|name| info.field(name));
        let seed = seed.and_then(|seed| seed.parse().ok());
        let size = size.and_then(|size| size.parse::<Size>().ok());
        let guidance_scale = scale.and_then(|scale| scale.parse().ok());
        let steps = steps.and_then(|steps| steps.parse().ok());
        let mut config = RequestConfig::default();
        config.seed = seed;
        config.steps = steps.or(config.steps);
        config.solver_named = info.sampler().filter(|sampler| solver::by_name(sampler).is_ok());
        config.guidance_scale = guidance_scale;
        config.size = size;
        config.prompt = info.request_prompt();
        config.negative = info.negative.clone();
        let mut job = Job::default();
        job.config = config;
        let request = Self { job, model: None, live: None };
        request.check_texts(&Page)?;
        let notes = info.notes(|name| match name {
            "Seed" => seed.is_some(),
            "Steps" => steps.is_some(),
            "CFG scale" => guidance_scale.is_some(),
            "Size" => size.is_some(),
            _ => false,
        });
        let notes = notes.iter().map(|note| note.worded(&Page)).collect();
        Ok(Restored { request, notes })
    }
}

/// A request that was read from a picture.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Restored {
    /// The request.
    pub request: JobRequest,
    /// Notes on settings of another program that the request does not have.
    pub notes: Vec<String>,
}

/// Returns the message about a value that a type refuses, with the name of the field in `words`. For the page,
/// `guiders[0]: guiders is "x"` becomes `Kinds of guidance is "x"`. Any other message stays.
fn renamed(message: &str, words: &dyn Wording) -> String {
    let rename = || {
        let (place, rest) = message.split_once(": ")?;
        let field = place.split(['[', '.']).next()?;
        let label = Some(words.name(field)).filter(|label| *label != field)?;
        Some(rest.strip_prefix(field).map_or_else(|| format!("{label}: {rest}"), |rest| format!("{label}{rest}")))
    };
    rename().unwrap_or_else(|| message.to_owned())
}

/// Returns the first side of a picture that is 0 or longer than `most` pixels: its field, its length, and what is
/// expected.
pub(crate) fn wrong_side(size: Option<Size>, most: u32) -> Option<(&'static str, u32, String)> {
    let Size { width, height } = size?;
    let sides = [("width", width), ("height", height)];
    let (field, side) = sides.into_iter().find(|(_, side)| !(1..=most).contains(side))?;
    let longer = if side > most { "; the program's option --side allows longer sides" } else { "" };
    Some((field, side, format!("1 to {most}{longer}")))
}

/// Returns the size of a picture by value.
fn size_of(picture: &Image) -> Option<Size> {
    if let Image::Value(picture) = picture { Some(picture.size()) } else { None }
}

/// Returns the size of a layer by value.
fn layer_size(layer: &Image<Layer>) -> Option<Size> {
    if let Image::Value(layer) = layer { Some(layer.size()) } else { None }
}

/// Returns the number of pixels of all pictures in a value, as their headers say.
fn header_pixels(value: &Value) -> u64 {
    match value {
        Value::String(text) => header_size(text).map_or(0, |(width, height)| u64::from(width) * u64::from(height)),
        Value::Array(values) => values.iter().map(header_pixels).fold(0, u64::saturating_add),
        Value::Object(fields) => fields.values().map(header_pixels).fold(0, u64::saturating_add),
        _ => 0,
    }
}

/// Returns width and height that the header of a PNG in a data URL gives.
fn header_size(url: &str) -> Option<(u32, u32)> {
    // The first 24 bytes hold the signature, the first chunk's length and name, width and height: 32 letters of base64.
    let head = BASE64_STANDARD.decode(url.strip_prefix("data:image/png;base64,")?.get(..32)?).ok()?;
    let number = |at: usize| Some(u32::from_be_bytes(head.get(at..at + 4)?.try_into().ok()?));
    number(16).zip(number(20))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use impasto::Rgb;
    use impasto::job::Area;

    fn refused(json: &str) -> String {
        JobRequest::read(serde_json::from_str(json).unwrap(), &Options::default()).unwrap_err()
    }

    #[test]
    fn values_out_of_range_are_named() {
        assert_eq!(refused(r#"{"images": 9}"#), "Pictures is 9; expected 1 to 4");
        assert_eq!(refused(r#"{"steps": 0}"#), "Steps is 0; expected 1 to 150");
        let longer = "the program's option --side allows longer sides";
        let wide = refused(r#"{"width": 4096, "height": 64}"#);
        assert_eq!(wide, format!("Width is 4096; expected 1 to 1024; {longer}"));
        assert_eq!(refused(r#"{"width": 64, "height": 0}"#), "Height is 0; expected 1 to 1024");
        assert!(refused(r#"{"width": 64}"#).contains("expected both"));
        assert!(refused(r#"{"start": "/etc/passwd"}"#).contains("Start picture is no picture"));
        assert!(refused(r#"{"areas": [{"phrase": "a", "mask": "a.png"}]}"#).contains("is no picture"));
        assert!(refused(r#"{"until": 0.5}"#).contains("until is given"));
        assert!(refused(r#"{"guidances": [{"name": "Daam"}]}"#).contains("guidances is given"));
        assert!(refused(r#"{"best_of": 17}"#).contains("17; expected 1 to 16"));
        assert!(refused(r#"{"seed": 9007199254740992}"#).contains("Seed is 9007199254740992; expected 0 to 9"));
        assert!(refused(r#"{"guiders": ["pog"]}"#).starts_with("Kinds of guidance is \"pog\"; expected one of pag"));
        let long = format!(r#"{{"prompt": "{}"}}"#, "a".repeat(5000));
        assert!(refused(&long).contains("Prompt has 5000 bytes"));
        let url = Raster::flat(Rgb(0, 0, 0), (8, 8)).data_url().unwrap();
        assert!(refused(&format!(r#"{{"mask": "{url}"}}"#)).contains("without Start picture"));
    }

    #[test]
    fn picture_is_refused_by_its_header() {
        let small = Raster::flat(Rgb(0, 0, 0), (2, 2)).data_url().unwrap();
        // The same file with the header of a picture of `side` × `side` pixels.
        let claims = |side: u32| {
            let mut png = BASE64_STANDARD.decode(small.rsplit(',').next().unwrap()).unwrap();
            png[16..24].copy_from_slice(&[side.to_be_bytes(), side.to_be_bytes()].concat());
            format!("data:image/png;base64,{}", BASE64_STANDARD.encode(png))
        };
        let url = claims(65536);
        assert_eq!(header_size(&url), Some((65536, 65536)));
        // The sum of two such numbers of pixels is beyond 64 bits.
        let largest = claims(u32::MAX);
        assert!(refused(&format!(r#"{{"start": "{largest}", "mask": "{largest}"}}"#)).contains("pixels together"));
        assert!(refused(&format!(r#"{{"start": "{url}"}}"#)).contains("pixels together"));
        assert!(refused(&format!(r#"{{"areas": [{{"phrase": "a", "mask": "{url}"}}]}}"#)).contains("pixels together"));
    }

    #[test]
    fn largest_limits_overflow_nowhere() {
        let most = Options { body: usize::MAX, side: u32::MAX, images: usize::MAX, ..Options::default() };
        assert_eq!(most.file(), usize::MAX);
        let url = Raster::flat(Rgb(9, 9, 9), (8, 8)).data_url().unwrap();
        let json = serde_json::json!({ "start": url, "images": 1u64 << 40 });
        assert!(JobRequest::read(json.clone(), &most).is_ok());
        let png = Raster::flat(Rgb(9, 9, 9), (8, 8)).to_png(&[(KEYWORD, &json.to_string())]).unwrap();
        assert!(JobRequest::from_picture(&png, &most).is_ok());
    }

    #[test]
    fn masks_in_alpha_are_read_as_masks() {
        let mut brush = Layer::new((2, 1));
        brush.set(0, 0, Rgb(255, 255, 255), 255);
        brush.set(1, 0, Rgb(255, 255, 255), 0);
        let url = serde_json::to_string(&brush).unwrap();
        let json = format!(r#"{{"start": {url}, "mask": {url}, "areas": [{{"phrase": "a", "mask": {url}}}]}}"#);
        let request = JobRequest::read(serde_json::from_str(&json).unwrap(), &Options::default()).unwrap();
        for mask in [&request.job.mask, &request.job.areas[0].mask] {
            assert_eq!(mask.as_ref().unwrap().open().unwrap().mask().bytes(), [255, 255, 255, 0, 0, 0]);
        }
        // A request in a PNG keeps the mask that was read.
        let json = serde_json::to_value(&request).unwrap();
        assert_eq!(JobRequest::read(json, &Options::default()).unwrap(), request);
    }

    #[test]
    fn request_survives_in_a_png() {
        let picture = Raster::flat(Rgb(9, 9, 9), (8, 8));
        let mask = Layer::new((8, 8));
        let area = Area { phrase: "house".into(), strength: 1.5, color: None, mask: Some(mask.into()) };
        let mut job = Job::default();
        job.config.prompt = "a house, naïve 猫".into();
        job.config.seed = Some(7);
        job.areas = vec![area];
        let request = JobRequest { job, model: None, live: None };
        let text = serde_json::to_string(&request).unwrap();
        let png = picture.to_png(&[(KEYWORD, &text)]).unwrap();
        assert_eq!(
            JobRequest::from_picture(&png, &Options::default()).unwrap(),
            Restored { request, notes: Vec::new() }
        );
        let other = picture.to_png(&[("parameters", "a boat\nSteps: 9, Seed: 3, Size: 64x32")]).unwrap();
        let read = JobRequest::from_picture(&other, &Options::default()).unwrap().request.job.config;
        let size = Some(Size::new(64, 32));
        assert_eq!((read.prompt.as_str(), read.steps, read.seed, read.size), ("a boat", Some(9), Some(3), size));
        let automatic = "a {red} boat\nSteps: 9, Sampler: DPM++ 2M, Schedule type: Automatic";
        let fooocus = r#"{"prompt": "a {red} boat", "steps": 9, "sampler": "dpmpp_2m", "scheduler": "karras"}"#;
        for (words, sampler) in [(automatic, "DPM++ 2M Karras"), (fooocus, "dpmpp_2m karras")] {
            let other = picture.to_png(&[("parameters", words)]).unwrap();
            let read = JobRequest::from_picture(&other, &Options::default()).unwrap().request.job.config;
            assert_eq!((read.prompt.as_str(), read.solver_named.as_deref()), (r"a \{red} boat", Some(sampler)));
        }
        let lora = "a boat\nSteps: 9, Sampler: Unheard, Seed: -1, Hires upscale: 2, RNG: CPU";
        let other = picture.to_png(&[("parameters", lora)]).unwrap();
        let Restored { request, notes } = JobRequest::from_picture(&other, &Options::default()).unwrap();
        let config = request.job.config;
        assert_eq!((config.steps, config.solver_named, config.seed), (Some(9), None, None));
        assert!(notes[0].contains("Unheard") && notes[1].ends_with(": Seed -1; Hires upscale 2"), "{notes:?}");
        let long =
            format!("a boat\nSteps: 9, Seed: 1, RNG: CPU, Model: {}, Other: {}", "猫".repeat(9999), "x".repeat(9999));
        let other = picture.to_png(&[("parameters", &long)]).unwrap();
        let Restored { notes, .. } = JobRequest::from_picture(&other, &Options::default()).unwrap();
        assert!(notes.len() == 2 && notes.iter().all(|note| note.chars().count() < 200), "{notes:?}");
        let refused = |png: &[u8]| JobRequest::from_picture(png, &Options::default()).unwrap_err();
        assert!(refused(&picture.to_png(&[]).unwrap()).contains("no recipe"));
        assert!(!refused(b"no picture").is_empty());
    }
}
