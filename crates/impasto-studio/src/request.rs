//! [`JobRequest`]: a request for pictures, as JSON.

use crate::embedded::{KEYWORD, RECIPE, take_pictures};
use crate::options::Options;
use crate::wording::Page;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use impasto::diffusion::solver;
use impasto::pipeline::{Hires, Infotext, Seamless};
use impasto::raster::Layer;
use impasto::wording::Wording;
use impasto::{Raster, Size};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// A request for pictures. Every field may be missing. Pictures are data URLs of PNG.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JobRequest {
    /// Description of the pictures. A color before a word is painted exactly: `#ffd700 eyes`.
    pub prompt: String,
    /// Description of what the pictures should not show.
    pub negative: String,
    /// Seed of the first picture; `None`: a random one.
    pub seed: Option<u64>,
    /// Number of pictures, of consecutive seeds.
    pub images: usize,
    /// Number of steps; `None`: the default.
    pub steps: Option<usize>,
    /// Name of the sampler; `None`: the model's own.
    pub sampler: Option<String>,
    /// Classifier-free guidance scale; `None`: the model's own.
    pub guidance_scale: Option<f64>,
    /// Width in pixels; `None`: the model's own.
    pub width: Option<u32>,
    /// Height in pixels; `None`: the model's own.
    pub height: Option<u32>,
    /// Dark lines on white paper.
    pub line_art: Option<Raster>,
    /// Strokes of color on a transparent picture.
    pub strokes: Option<Layer>,
    /// True if the objects under strokes get exactly the strokes' colors.
    pub exact_strokes: bool,
    /// Phrases of the prompt and where they are painted.
    pub areas: Vec<Area>,
    /// Picture to start from.
    pub start: Option<Raster>,
    /// Share of the run that changes the picture to start from, above 0 and up to 1.
    pub strength: f64,
    /// Mask, white where the picture to start from is repainted. The shape may also be in the transparency.
    #[serde(deserialize_with = "mask_if_given")]
    pub mask: Option<Raster>,
    /// Thing in the picture to start from that is repainted, in place of a mask; several have commas between them.
    pub mask_where: Option<String>,
    /// Width in pixels of a soft edge around the mask; `None`: 8 for things that are found, and 0 for masks.
    pub soften: Option<f64>,
    /// Width in pixels of the band inside the mask in which new and kept pixels are blended; `None`: 8.
    pub feather: Option<f64>,
    /// True if the colors of the picture to start from are kept as a whole.
    pub keep_colors: bool,
    /// Things that are repainted at full size in the finished picture.
    pub details: Vec<DetailRequest>,
    /// Second run at a larger size.
    pub hires: Option<Hires>,
    /// Edges at which the picture continues on its opposite side.
    pub seamless: Seamless,
    /// Picture from which the colors are taken.
    pub reference: Option<Raster>,
    /// Name of a live view. A later job of the same view cancels the earlier ones.
    pub live: Option<String>,
}

/// A phrase of the prompt, and where it is painted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Area {
    /// The phrase.
    pub phrase: String,
    /// Strength, 0 to 10.
    #[serde(default = "usual")]
    pub strength: f64,
    /// Mask, white where the phrase is painted. The shape may also be in the transparency.
    #[serde(deserialize_with = "mask")]
    pub mask: Raster,
}

/// A thing that is repainted at full size in the finished picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DetailRequest {
    /// The phrase that names the thing; several have commas between them.
    pub phrase: String,
    /// Description of the repainted part; `None`: the prompt of the request.
    #[serde(default)]
    pub prompt: Option<String>,
    /// Share of the steps that change the part, above 0 and up to 1; `None`: the usual share.
    #[serde(default)]
    pub strength: Option<f64>,
}

/// Reads a mask, whose shape may be in its transparency.
fn mask<'de, D: Deserializer<'de>>(from: D) -> Result<Raster, D::Error> {
    Layer::deserialize(from).map(|layer| layer.mask())
}

/// Reads a mask as [`mask`] does, or null.
fn mask_if_given<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Raster>, D::Error> {
    Option::<Layer>::deserialize(from).map(|layer| layer.map(|layer| layer.mask()))
}

const fn usual() -> f64 {
    1.0
}

/// Largest seed, 2⁵³ − 1. JavaScript's numbers are exact for integers up to this value.
const LARGEST_SEED: u64 = (1 << 53) - 1;
/// Maximum number of areas of a request.
const MOST_AREAS: usize = 16;
/// Maximum number of details of a request.
const MOST_DETAILS: usize = 8;
/// Maximum number of pixels of all pictures of a request together, as a multiple of the square of [`Options::side`].
const MOST_PIXELS: u64 = 32;
/// Longest prompt in bytes.
const LONGEST_PROMPT: usize = 4096;
/// Longest phrase or name in bytes.
const LONGEST_NAME: usize = 256;

impl Default for JobRequest {
    fn default() -> Self {
        Self {
            prompt: String::new(),
            negative: String::new(),
            seed: None,
            images: 1,
            steps: None,
            sampler: None,
            guidance_scale: None,
            width: None,
            height: None,
            line_art: None,
            strokes: None,
            exact_strokes: true,
            areas: Vec::new(),
            start: None,
            strength: 0.6,
            mask: None,
            mask_where: None,
            soften: None,
            feather: None,
            keep_colors: false,
            details: Vec::new(),
            hires: None,
            seamless: Seamless::No,
            reference: None,
            live: None,
        }
    }
}

impl JobRequest {
    /// Parses the JSON text of a request, as [`read`](Self::read) does.
    ///
    /// # Errors
    /// The errors of [`read`](Self::read); a sentence about a text that is no JSON, or has too many values.
    pub(crate) fn parse(text: &[u8], options: &Options) -> Result<Self, String> {
        Self::read(impasto::json::parse(text).map_err(|error| error.to_string())?, options)
    }

    /// Reads a request. The sizes of its pictures are checked in their headers first, because a small PNG may decode
    /// to a large picture.
    ///
    /// # Errors
    /// A sentence that names the field, its value, and what is expected.
    pub(crate) fn read(json: Value, options: &Options) -> Result<Self, String> {
        let areas = json.get("areas").and_then(Value::as_array).into_iter().flatten();
        let fields = areas.chain([&json]).filter_map(Value::as_object).flat_map(|fields| fields.values());
        let sizes = fields.filter_map(Value::as_str).filter_map(header_size);
        let pixels = sizes.fold(0u64, |sum, (width, height)| sum.saturating_add(u64::from(width) * u64::from(height)));
        let most = u64::from(options.side).saturating_pow(2).saturating_mul(MOST_PIXELS);
        if pixels > most {
            return Err(format!("the pictures have {pixels} pixels together; expected at most {most}"));
        }
        let request: Self = serde_path_to_error::deserialize(json).map_err(|error| error.to_string())?;
        request.check(options)?;
        Ok(request)
    }

    /// Checks the request against the studio's limits. The rest is checked by the library when the job runs.
    ///
    /// # Errors
    /// A sentence that names the field, its value, and what is expected.
    fn check(&self, options: &Options) -> Result<(), String> {
        let within = |field: &str, value: usize, least: usize, most: usize| {
            if (least..=most).contains(&value) {
                Ok(())
            } else {
                Err(format!("{} is {value}; expected {least} to {most}", Page.name(field)))
            }
        };
        self.check_texts()?;
        within("images", self.images, 1, options.images)?;
        within("steps", self.steps.unwrap_or(1), 1, options.steps)?;
        within("steps", self.hires.as_ref().and_then(|hires| hires.steps).unwrap_or(1), 1, options.steps)?;
        within("areas", self.areas.len(), 0, MOST_AREAS)?;
        within("details", self.details.len(), 0, MOST_DETAILS)?;
        for (field, side) in [("width", self.width), ("height", self.height)] {
            within(field, side.unwrap_or(1) as usize, 1, options.side as usize)?;
        }
        if let Some(seed) = self.seed.filter(|seed| *seed > LARGEST_SEED) {
            return Err(format!("{} is {seed}; expected 0 to {LARGEST_SEED}", Page.name("seed")));
        }
        self.check_pictures(options)?;
        let needs_start = [("mask", self.mask.is_some()), ("mask_where", self.mask_where.is_some())];
        let needs_start = needs_start.into_iter().find(|(_, is_given)| *is_given && self.start.is_none());
        if let Some((field, _)) = needs_start {
            return Err(format!("{} is given without Start picture; give the picture to repaint", Page.name(field)));
        }
        if self.width.is_some() != self.height.is_some() {
            return Err("only one of Width and Height is given; give both or neither".into());
        }
        Ok(())
    }

    /// Checks the sizes of the request's pictures. A side may be twice as long as the limit for a run, because pictures
    /// are resized.
    ///
    /// # Errors
    /// A sentence that names the field, its size, and what is expected.
    fn check_pictures(&self, options: &Options) -> Result<(), String> {
        let most = options.side.saturating_mul(2);
        let picture = |field: &'static str, picture: &Option<Raster>| Some((field, picture.as_ref()?.size()));
        let pictures = [
            picture("line_art", &self.line_art),
            self.strokes.as_ref().map(|strokes| ("strokes", strokes.size())),
            picture("start", &self.start),
            picture("mask", &self.mask),
            picture("reference", &self.reference),
        ];
        let areas = self.areas.iter().map(|area| ("the area's mask", area.mask.size()));
        let is_within = |size: Size| size.width.max(size.height) <= most && size.width.min(size.height) > 0;
        match pictures.into_iter().flatten().chain(areas).find(|(_, size)| !is_within(*size)) {
            Some((field, size)) => {
                Err(format!("{} has {size} pixels; expected sides of 1 to {most}", Page.name(field)))
            }
            None => Ok(()),
        }
    }

    /// Checks the lengths of the request's texts.
    ///
    /// # Errors
    /// A sentence that names the field, its length, and what is expected.
    fn check_texts(&self) -> Result<(), String> {
        let name = |name: &Option<String>| name.as_ref().map_or(0, String::len);
        let fields = [
            ("prompt", self.prompt.len(), LONGEST_PROMPT),
            ("negative", self.negative.len(), LONGEST_PROMPT),
            ("sampler", name(&self.sampler), LONGEST_NAME),
            ("mask_where", name(&self.mask_where), LONGEST_NAME),
            ("live", name(&self.live), LONGEST_NAME / 4),
        ];
        let phrases = self.areas.iter().map(|area| ("the area's phrase", area.phrase.len(), LONGEST_NAME));
        let details = self.details.iter().flat_map(|detail| {
            [("detail", detail.phrase.len(), LONGEST_NAME), ("detail", name(&detail.prompt), LONGEST_PROMPT)]
        });
        match fields.into_iter().chain(phrases).chain(details).find(|(_, length, most)| length > most) {
            Some((field, length, most)) => {
                Err(format!("{} has {length} bytes; expected at most {most}", Page.name(field)))
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
        let size = info.field("Size").and_then(|size| size.parse::<Size>().ok());
        let request = Self {
            seed: info.field("Seed").and_then(|seed| seed.parse().ok()),
            steps: info.field("Steps").and_then(|steps| steps.parse().ok()),
            sampler: info.sampler().filter(|sampler| solver::by_name(sampler).is_ok()),
            guidance_scale: info.field("CFG scale").and_then(|scale| scale.parse().ok()),
            width: size.map(|size| size.width),
            height: size.map(|size| size.height),
            prompt: info.request_prompt(),
            negative: info.negative.clone(),
            ..Self::default()
        };
        request.check_texts()?;
        let notes = info.notes(|name| match name {
            "Seed" => request.seed.is_some(),
            "Steps" => request.steps.is_some(),
            "CFG scale" => request.guidance_scale.is_some(),
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

    fn refused(json: &str) -> String {
        JobRequest::read(serde_json::from_str(json).unwrap(), &Options::default()).unwrap_err()
    }

    #[test]
    fn values_out_of_range_are_named() {
        assert_eq!(refused(r#"{"images": 9}"#), "Pictures is 9; expected 1 to 4");
        assert_eq!(refused(r#"{"steps": 0}"#), "Steps is 0; expected 1 to 150");
        assert!(refused(r#"{"width": 4096, "height": 64}"#).contains("Width is 4096"));
        assert!(refused(r#"{"width": 64}"#).contains("give both"));
        assert!(refused(r#"{"seed": 9007199254740992}"#).contains("Seed is 9007199254740992; expected 0 to 9"));
        let long = format!(r#"{{"prompt": "{}"}}"#, "a".repeat(5000));
        assert!(refused(&long).contains("Prompt has 5000 bytes"));
        let mask = JobRequest { mask: Some(Raster::flat(Rgb(0, 0, 0), (8, 8))), ..JobRequest::default() };
        assert!(mask.check(&Options::default()).unwrap_err().contains("Start picture"));
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
        for mask in [request.mask.as_ref().unwrap(), &request.areas[0].mask] {
            assert_eq!(mask.bytes(), [255, 255, 255, 0, 0, 0]);
        }
        // A request in a PNG keeps the mask that was read.
        let json = serde_json::to_value(&request).unwrap();
        assert_eq!(JobRequest::read(json, &Options::default()).unwrap(), request);
    }

    #[test]
    fn request_survives_in_a_png() {
        let picture = Raster::flat(Rgb(9, 9, 9), (8, 8));
        let area = Area { phrase: "house".into(), strength: 1.5, mask: picture.clone() };
        let request = JobRequest {
            prompt: "a house, naïve 猫".into(),
            areas: vec![area],
            seed: Some(7),
            ..JobRequest::default()
        };
        let text = serde_json::to_string(&request).unwrap();
        let png = picture.to_png(&[(KEYWORD, &text)]).unwrap();
        assert_eq!(
            JobRequest::from_picture(&png, &Options::default()).unwrap(),
            Restored { request, notes: Vec::new() }
        );
        let other = picture.to_png(&[("parameters", "a boat\nSteps: 9, Seed: 3, Size: 64x32")]).unwrap();
        let read = JobRequest::from_picture(&other, &Options::default()).unwrap().request;
        assert_eq!((read.prompt.as_str(), read.steps, read.seed, read.width), ("a boat", Some(9), Some(3), Some(64)));
        let automatic = "a {red} boat\nSteps: 9, Sampler: DPM++ 2M, Schedule type: Automatic";
        let fooocus = r#"{"prompt": "a {red} boat", "steps": 9, "sampler": "dpmpp_2m", "scheduler": "karras"}"#;
        for (words, sampler) in [(automatic, "DPM++ 2M Karras"), (fooocus, "dpmpp_2m karras")] {
            let other = picture.to_png(&[("parameters", words)]).unwrap();
            let read = JobRequest::from_picture(&other, &Options::default()).unwrap().request;
            assert_eq!((read.prompt.as_str(), read.sampler.as_deref()), (r"a \{red} boat", Some(sampler)));
        }
        let lora = "a boat\nSteps: 9, Sampler: Unheard, Seed: -1, Hires upscale: 2, RNG: CPU";
        let other = picture.to_png(&[("parameters", lora)]).unwrap();
        let Restored { request, notes } = JobRequest::from_picture(&other, &Options::default()).unwrap();
        assert_eq!((request.steps, request.sampler, request.seed), (Some(9), None, None));
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
