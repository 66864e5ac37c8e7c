//! [`Painting`]: the settings of a picture, from the command line or a line of a file of prompts.

use crate::outputs::Named;
use crate::values::{Area, DetailOf, Edges, Enlarged, Force, Hint, Seed};
use crate::wording::Terminal;
use clap::Args;
use impasto::Size;
use impasto::diffusion::solver;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;

/// The settings of a picture. A missing setting has its default.
#[derive(Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Painting {
    /// Description of the picture. A color before a word is painted exactly: "1girl, #ffd700 eyes, hair".
    #[arg(value_name = "PROMPT")]
    pub prompt: Option<String>,
    /// Description of what the picture should not show.
    #[arg(long, value_name = "TEXT", alias = "negative-prompt")]
    pub negative: Option<String>,
    /// Seed of the first picture. The default, or -1, is a random seed, which is printed. The last of several counts.
    #[arg(long, allow_negative_numbers = true, overrides_with = "seed")]
    pub seed: Option<Seed>,
    /// Number of pictures. Each takes the next seed, or with --best-of the next seeds.
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub images: Option<u64>,
    /// Number of seeds that are compared for each picture; the best one is finished.
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub best_of: Option<u64>,
    /// Number of steps, 1 to 1000.
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub steps: Option<usize>,
    /// Sampler by its name in diffusers, the AUTOMATIC1111 web UI or ComfyUI, such as "DPM++ 2M Karras".
    #[arg(long, value_name = "NAME")]
    pub sampler: Option<String>,
    /// Classifier-free guidance scale, 0 or more.
    #[arg(long, value_name = "NUMBER", aliases = ["cfg", "cfg-scale", "guidance-scale"], allow_negative_numbers = true)]
    pub scale: Option<f64>,
    /// Size in pixels.
    #[arg(long, value_name = "WIDTHxHEIGHT")]
    #[serde(with = "size")]
    pub size: Option<Size>,

    /// A phrase of the prompt and the exact color of the thing that it names. May be given several times.
    #[arg(long, value_name = "PHRASE=COLOR", help_heading = "Colors and places")]
    pub force: Vec<Force>,
    /// A painted map of where things are. Each --area names the phrase of one color of the map.
    #[arg(long, value_name = "PICTURE", help_heading = "Colors and places")]
    pub map: Option<PathBuf>,
    /// A color of the map, and the phrase that is painted there. May be given several times.
    #[arg(long, value_name = "COLOR=PHRASE[:STRENGTH]", help_heading = "Colors and places")]
    pub area: Vec<Area>,
    /// Largest distance in RGB, 0 to 100, between a color of the map and the color of its --area. The default is 0; 30
    /// suits maps with smooth edges and maps in JPEG files.
    #[arg(long, value_name = "DISTANCE", allow_negative_numbers = true, help_heading = "Colors and places")]
    pub tolerance: Option<f64>,

    /// A picture to start from.
    #[arg(long, value_name = "PICTURE", help_heading = "Pictures to follow")]
    pub start: Option<PathBuf>,
    /// Share of the run that changes the picture to start from, above 0 and up to 1. The default is 0.6.
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true, help_heading = "Pictures to follow")]
    pub strength: Option<f64>,
    /// A mask, white where the picture to start from is repainted. Gray is repainted by a share of the last steps.
    #[arg(long, value_name = "PICTURE", help_heading = "Repainting")]
    pub mask: Option<PathBuf>,
    /// The thing in the picture to start from that is repainted. Several things have commas between them.
    #[arg(long, value_name = "PHRASE", help_heading = "Repainting")]
    pub mask_where: Option<String>,
    /// Pixels by which the mask of --mask-where is larger than the thing. The default is 8.
    #[arg(long, value_name = "PIXELS", allow_negative_numbers = true, help_heading = "Repainting")]
    pub grow: Option<f64>,
    /// Width in pixels of a soft edge around the mask. The default is 8 for --mask-where and 0 for --mask.
    #[arg(long, value_name = "PIXELS", allow_negative_numbers = true, help_heading = "Repainting")]
    pub soften: Option<f64>,
    /// Pixels inside a mask in which new and kept pixels are blended. The default is 8; 0 gives a hard border.
    #[arg(long, value_name = "PIXELS", allow_negative_numbers = true, help_heading = "Repainting")]
    pub feather: Option<f64>,
    /// Keeps the colors of the picture to start from as a whole, so that they do not drift over many rounds.
    #[arg(long, help_heading = "Repainting")]
    pub keep_colors: bool,
    /// A thing that is repainted at full size in the finished picture. May be given several times. With --start and
    /// --strength 0, nothing else changes.
    #[arg(long, value_name = "PHRASE[=PROMPT][:STRENGTH]", help_heading = "Repainting")]
    pub detail: Vec<DetailOf>,

    /// A second run at a larger size, over the enlarged picture. The strength is 0.5 unless it is given.
    #[arg(long, value_name = "SCALE[:STRENGTH]", help_heading = "Large pictures")]
    pub hires: Option<Enlarged>,
    /// Edges at which the picture continues on its opposite side, so that copies of it make a pattern.
    #[arg(long, value_name = "EDGES", help_heading = "Large pictures")]
    pub seamless: Option<Edges>,

    /// A ControlNet and the picture it follows. The net `embedded` follows lines and strokes. Repeatable.
    #[arg(long, value_name = "NET=PICTURE[:SCALE]", help_heading = "Pictures to follow")]
    pub control: Vec<Hint>,
    /// Color strokes on a transparent picture, for ControlNets that read lines and strokes.
    #[arg(long, value_name = "PICTURE", help_heading = "Pictures to follow")]
    pub strokes: Option<PathBuf>,
    /// A picture from which the colors are taken.
    #[arg(long, value_name = "PICTURE", help_heading = "Pictures to follow")]
    pub reference: Option<PathBuf>,
    /// Line art to color, for a model that colors sketches (`--model embedded-colorizer`).
    #[arg(long, value_name = "PICTURE", help_heading = "Pictures to follow")]
    pub sketch: Option<PathBuf>,
}

/// Largest number of seeds of a command: the number of pictures, or with --best-of the number of compared seeds.
pub const MOST_SEEDS: u64 = 100_000;
/// Name of the embedded ControlNet.
pub const EMBEDDED: &str = "embedded";
impl Painting {
    /// Returns this painting with the settings of a line of JSON in place of its own.
    pub fn with_line(&self, line: &str) -> Result<Self, String> {
        let own: Value = impasto::json::parse(line).map_err(|error| error.to_string())?;
        let Value::Object(own) = own else {
            return Err(format!("expected a JSON object such as {{\"prompt\": \"a red boat\"}}, found {own}"));
        };
        let mut whole = serde_json::to_value(self).map_err(|error| error.to_string())?;
        if let Some(whole) = whole.as_object_mut() {
            whole.extend(own);
        }
        serde_json::from_value(whole).map_err(|error| error.to_string())
    }

    /// Checks that each setting is in its range and has the other setting that it needs, such as areas their map. Also
    /// checks that there is a prompt.
    pub fn check(&self) -> Result<(), String> {
        self.check_ranges()?;
        let needs = [
            ("--map", self.map.is_some(), "--area", !self.area.is_empty()),
            ("--area", !self.area.is_empty(), "--map", self.map.is_some()),
            ("--tolerance", self.tolerance.is_some(), "--map", self.map.is_some()),
            ("--strength", self.strength.is_some(), "--start", self.start.is_some()),
            ("--mask", self.mask.is_some(), "--start", self.start.is_some()),
            ("--mask-where", self.mask_where.is_some(), "--start", self.start.is_some()),
            ("--grow", self.grow.is_some(), "--mask-where", self.mask_where.is_some()),
            ("--soften", self.soften.is_some(), "--mask, --mask-where or --detail", self.has_borders()),
            ("--feather", self.feather.is_some(), "--mask, --mask-where or --detail", self.has_borders()),
            ("--keep-colors", self.keep_colors, "--start", self.start.is_some()),
            ("--strokes", self.strokes.is_some(), "--control", !self.control.is_empty()),
        ];
        if let Some((name, _, other, _)) = needs.iter().find(|(_, given, _, there)| *given && !there) {
            return Err(format!("{name} is given without {other}; add {other}"));
        }
        if self.prompt.is_none() && self.sketch.is_none() {
            return Err(
                "no prompt is given; expected a prompt, such as impasto paint \"a red boat\", or --prompts FILE".into(),
            );
        }
        Ok(())
    }

    /// Returns true if a part of a picture is repainted.
    const fn has_borders(&self) -> bool {
        self.mask.is_some() || self.mask_where.is_some() || !self.detail.is_empty()
    }

    /// Checks that each setting is in its range.
    pub fn check_ranges(&self) -> Result<(), String> {
        check_range("--images", self.images, 1..=MOST_SEEDS, "1 to 100000")?;
        check_range("--best-of", self.best_of, 1..=1024, "1 to 1024; 4 to 16 is usual")?;
        check_range("--steps", self.steps, 1..=1000, "1 to 1000; 20 to 50 is usual")?;
        check_range("--scale", self.scale, 0.0..=f64::MAX, "0 or more; 7.5 is usual")?;
        check_range("--tolerance", self.tolerance, 0.0..=100.0, "0 to 100; 30 also accepts smooth edges")?;
        let least = if self.detail.is_empty() { f64::MIN_POSITIVE } else { 0.0 };
        check_range("--strength", self.strength, least..=1.0, "more than 0, up to 1; 0.5 to 0.8 is usual")?;
        for (option, pixels) in [("--grow", self.grow), ("--soften", self.soften), ("--feather", self.feather)] {
            check_range(option, pixels, 0.0..=4096.0, "0 to 4096 pixels; 8 is usual")?;
        }
        let step = if self.start.is_some() { 1 } else { 8 };
        for (side, name) in self.size.iter().flat_map(|size| [(size.width, "width"), (size.height, "height")]) {
            if side % step != 0 || !(step..=4096).contains(&side) {
                return Err(format!(
                    "the {name} of --size is {side}; expected a multiple of 8 from 8 to 4096, such as 512x768"
                ));
            }
        }
        match &self.sampler {
            Some(sampler) => solver::by_name(sampler).map(drop).map_err(|error| error.worded(&Terminal::present())),
            None => Ok(()),
        }
    }

    /// Returns the number of pictures.
    pub fn images(&self) -> u64 {
        self.images.unwrap_or(1)
    }

    /// Returns the number of seeds that each picture takes. A search for the best seed takes as many as it compares.
    pub fn seeds_each(&self) -> u64 {
        self.best_of.unwrap_or(1)
    }

    /// Returns the pictures and files of ControlNets that the painting reads.
    pub fn files(&self) -> Vec<Named> {
        let pictures = [
            ("--map", &self.map),
            ("--start", &self.start),
            ("--mask", &self.mask),
            ("--strokes", &self.strokes),
            ("--reference", &self.reference),
            ("--sketch", &self.sketch),
        ];
        let named = pictures.into_iter().filter_map(|(option, file)| Some(Named::new(option, file.as_ref()?)));
        let hints = self.control.iter().map(|hint| Named::new("--control", &hint.picture));
        // Other nets are embedded or repositories.
        let nets = self.control.iter().map(|hint| Named::new("--control", &hint.net)).filter(|net| net.file.exists());
        named.chain(hints).chain(nets).collect()
    }
}

/// Checks that the value of an option is in its range, which `expected` describes.
fn check_range<N: Display + PartialOrd>(
    option: &str,
    value: Option<N>,
    range: RangeInclusive<N>,
    expected: &str,
) -> Result<(), String> {
    match value {
        Some(value) if !range.contains(&value) => Err(format!("{option} is {value}; expected {expected}")),
        _ => Ok(()),
    }
}

/// A size as text in a file of prompts.
mod size {
    use impasto::Size;
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

    #[allow(clippy::ref_option)] // serde's signature
    pub fn serialize<S: Serializer>(size: &Option<Size>, to: S) -> Result<S::Ok, S::Error> {
        size.map(|size| size.to_string()).serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Size>, D::Error> {
        let text: Option<String> = Option::deserialize(from)?;
        text.map(|text| text.parse()).transpose().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_replaces_settings_and_keeps_others() {
        let command = Painting {
            steps: Some(20),
            seed: Some(Seed::Number(7)),
            size: Some((256, 128).into()),
            ..Painting::default()
        };
        let line = r#"{"prompt": "1girl, eyes", "seed": 9, "force": ["eyes=gold"], "best-of": 2}"#;
        let painting = command.with_line(line).unwrap();
        assert_eq!(painting.prompt.as_deref(), Some("1girl, eyes"));
        assert_eq!((painting.seed, painting.steps, painting.best_of), (Some(Seed::Number(9)), Some(20), Some(2)));
        assert_eq!(painting.size, Some((256, 128).into()));
        assert_eq!(painting.force, ["eyes=gold".parse().unwrap()]);
    }

    #[test]
    fn wrong_line_names_the_fault() {
        let error = |line| Painting::default().with_line(line).unwrap_err();
        assert!(error(r#"{"sed": 7}"#).contains("unknown field `sed`"));
        assert!(error(r#"{"force": ["eyes"]}"#).contains("PHRASE=COLOR"));
        assert!(error(r#"{"size": "wide"}"#).contains("512x768"));
        let unused = |line| Painting::default().with_line(line).unwrap().check().unwrap_err();
        assert_eq!(unused(r#"{"prompt": "a", "area": ["red=a"]}"#), "--area is given without --map; add --map");
        assert_eq!(unused(r#"{"prompt": "a", "mask": "m.png"}"#), "--mask is given without --start; add --start");
        assert_eq!(unused(r#"{"prompt": "a", "tolerance": 9}"#), "--tolerance is given without --map; add --map");
        assert!(unused(r#"{"prompt": "a", "images": 0}"#).contains("--images is 0; expected 1 to 100000"));
        assert!(unused(r#"{"prompt": "a", "steps": 1001}"#).contains("--steps is 1001; expected 1 to 1000"));
        assert!(unused(r#"{"prompt": "a", "scale": -1}"#).contains("--scale is -1; expected 0 or more"));
        assert!(unused(r#"{"prompt": "a", "size": "65x64"}"#).contains("the width of --size is 65"));
        let sampler = unused(r#"{"prompt": "a", "sampler": "Eulr"}"#);
        assert!(sampler.starts_with("--sampler \"Eulr\" is not known; did you mean \"Euler"), "{sampler}");
        assert!(unused("{}").contains("no prompt is given"));
        assert!(error(r#"["a red boat"]"#).contains("expected a JSON object"));
    }
}
