//! [`Job`]: what to paint, as plain data.
//!
//! A program reads a job from its command line, from a file or from a request of its web page, and makes it into a
//! [`Request`](super::Request) by [`Job::request`]. The terminal program and the studio of impasto do so.

mod checks;
mod guider;
mod image;
mod nets;
mod parts;
mod reading;
mod request;

pub use guider::{Guider, GuiderName};
pub use image::Image;
pub use nets::Nets;
pub use parts::{Area, Follow, Force, Like, PaletteColor, SameColor};

use super::config::RequestConfig;
use crate::diffusion::Strength;
use crate::raster::Layer;
use crate::recipe::Recipe;
use serde::Serialize;
use std::path::Path;

/// The settings of a request, its pictures, and its guidance methods: what to paint, as plain data.
///
/// In JSON, the settings of [`RequestConfig`] stand beside the other fields. Each field may be missing or null, and an
/// unknown field is an error that names a similar one. `width` and `height` may stand in place of `size`. Values with
/// parts may be texts or objects, such as `"eyes=gold"` or `{"phrase": "eyes", "color": "gold"}`.
///
/// ```
/// # fn main() -> impasto::Result<()> {
/// use impasto::Pipeline;
/// use impasto::job::{Job, Nets};
///
/// let text = r#"{"prompt": "1girl, eyes, hair", "seed": 7, "steps": 4, "forces": ["eyes=gold"]}"#;
/// let job: Job = impasto::json::parse(text).expect("a job");
/// let pipeline = Pipeline::builder().build()?;
/// let mut nets = Nets::default();
/// nets.load(&job, pipeline.model())?;
/// let output = job.request(&pipeline, &nets)?.run()?;
/// assert_eq!(output.seed, Some(7));
/// # Ok(()) }
/// ```
///
/// With the feature `clap`, a job is also a group of options, which a command line takes by `#[command(flatten)]`. With
/// the feature `schemars`, it has a JSON schema.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schemars", schemars(default))]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[non_exhaustive]
pub struct Job {
    /// A phrase of the prompt and the exact color of the thing that it names. May be given several times.
    #[cfg_attr(feature = "clap", arg(id = "forces", long = "force", value_name = "PHRASE=COLOR"))]
    #[cfg_attr(feature = "clap", arg(help_heading = COLORS))]
    pub forces: Vec<Force>,
    /// A phrase of the prompt, and another thing of the picture whose color the phrase's thing takes. May be given
    /// several times.
    #[cfg_attr(feature = "clap", arg(id = "same_color", long = "same-color", value_name = "PHRASE=THING"))]
    #[cfg_attr(feature = "clap", arg(help_heading = COLORS))]
    pub same_color: Vec<SameColor>,
    /// Colors of the whole picture, each with its share. May be given several times.
    #[cfg_attr(feature = "clap", arg(long, value_name = "COLOR[:SHARE],...", value_delimiter = ','))]
    #[cfg_attr(feature = "clap", arg(help_heading = COLORS))]
    pub palette: Vec<PaletteColor>,
    /// A picture whose six main colors become the colors of the whole picture.
    #[cfg_attr(feature = "clap", arg(long, value_name = "PICTURE", help_heading = COLORS))]
    pub palette_of: Option<Image>,
    /// A painted map of where things are. Each area names the phrase of one color of the map.
    #[cfg_attr(feature = "clap", arg(long, value_name = "PICTURE", help_heading = COLORS))]
    pub map: Option<Image>,
    /// A color of the map, and the phrase that is painted there. May be given several times.
    #[cfg_attr(feature = "clap", arg(id = "areas", long = "area", value_name = "COLOR=PHRASE[:STRENGTH]"))]
    #[cfg_attr(feature = "clap", arg(help_heading = COLORS))]
    pub areas: Vec<Area>,
    /// Largest distance in RGB, 0 to 100, between a color of the map and the color of its area. The default is 0; 30
    /// suits maps with smooth edges and maps in JPEG files.
    #[cfg_attr(feature = "clap", arg(long, value_name = "DISTANCE", help_heading = COLORS))]
    #[cfg_attr(feature = "clap", arg(allow_negative_numbers = true))]
    pub tolerance: Option<f64>,
    /// A picture to start from.
    #[cfg_attr(feature = "clap", arg(long, value_name = "PICTURE", help_heading = FOLLOWED))]
    pub start: Option<Image>,
    /// Share of the run that changes the picture to start from, above 0 and up to 1. The default is 0.6. With details,
    /// 0 changes nothing else.
    #[cfg_attr(feature = "schemars", schemars(with = "Option<f64>"))]
    #[cfg_attr(feature = "clap", arg(long, value_name = "SHARE", help_heading = FOLLOWED))]
    #[cfg_attr(feature = "clap", arg(allow_negative_numbers = true))]
    pub strength: Option<Strength>,
    /// A mask, white where the picture to start from is repainted. Gray is repainted by a share of the last steps. The
    /// shape may also be in the transparency.
    #[cfg_attr(feature = "clap", arg(long, value_name = "PICTURE", help_heading = "Repainting"))]
    pub mask: Option<Image<Layer>>,
    /// A ControlNet and the picture that it follows. The net `embedded` follows lines and strokes. May be given several
    /// times.
    #[cfg_attr(feature = "clap", arg(id = "controls", long = "control", value_name = "NET=PICTURE[:SCALE]"))]
    #[cfg_attr(feature = "clap", arg(help_heading = FOLLOWED))]
    pub controls: Vec<Follow>,
    /// A picture to draw like, by the IP-Adapter that the program was started with. With a phrase of the prompt, only
    /// the phrase's thing is drawn like the picture. May be given several times.
    #[cfg_attr(feature = "clap", arg(id = "ip_adapter_pictures", long = "ip-adapter-picture"))]
    #[cfg_attr(feature = "clap", arg(value_name = "[PHRASE=]PICTURE[:STRENGTH]", help_heading = PROMPTS))]
    pub ip_adapter_pictures: Vec<Like>,
    /// Strength of these pictures beside the text, -10 to 10. The default is 1; 0.5 to 0.8 leaves room for the text.
    #[cfg_attr(feature = "clap", arg(long, value_name = "NUMBER", help_heading = PROMPTS))]
    #[cfg_attr(feature = "clap", arg(allow_negative_numbers = true))]
    pub ip_adapter_strength: Option<f64>,
    /// Dark lines on white paper. A model that colors sketches colors them, and the embedded model follows them.
    #[cfg_attr(feature = "clap", arg(long, value_name = "PICTURE", alias = "sketch", help_heading = FOLLOWED))]
    pub line_art: Option<Image>,
    /// Strokes of color on a transparent picture, for ControlNets that read lines and strokes.
    #[cfg_attr(feature = "clap", arg(long, value_name = "PICTURE", help_heading = FOLLOWED))]
    pub strokes: Option<Image<Layer>>,
    /// Gives the things under strokes exactly the strokes' colors.
    #[cfg_attr(feature = "clap", arg(long, help_heading = FOLLOWED))]
    pub exact_strokes: bool,
    /// A picture from which the colors are taken.
    #[cfg_attr(feature = "clap", arg(long, value_name = "PICTURE", help_heading = FOLLOWED))]
    pub reference: Option<Image>,
    /// Kinds of guidance: pag, seg, slg, free-u, free-u-xl, apg, cfg-zero, cfg++ or fdg, most with a number, such as
    /// pag:3. May be given several times.
    #[cfg_attr(feature = "clap", arg(id = "guiders", long = "guide", value_name = "NAME[:NUMBER]"))]
    #[cfg_attr(feature = "clap", arg(help_heading = "Guidance"))]
    pub guiders: Vec<Guider>,
    /// Recipes of further guidance methods, in their order. The pipeline's registry makes them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schemars", schemars(with = "Vec<serde_json::Value>"))]
    #[cfg_attr(feature = "clap", arg(skip))]
    pub guidances: Vec<Recipe>,
    /// Settings of the request.
    #[serde(flatten)]
    #[cfg_attr(feature = "clap", command(flatten))]
    pub config: RequestConfig,
}

/// Headings of groups of options.
#[cfg(feature = "clap")]
const COLORS: &str = "Colors and places";
#[cfg(feature = "clap")]
const FOLLOWED: &str = "Pictures to follow";
#[cfg(feature = "clap")]
const PROMPTS: &str = "Pictures as prompts";

impl Job {
    /// Returns the paths of the pictures that are not opened, each with the name of its field.
    pub fn paths(&self) -> Vec<(&'static str, &Path)> {
        let pictures = [
            ("map", &self.map),
            ("start", &self.start),
            ("line_art", &self.line_art),
            ("reference", &self.reference),
            ("palette_of", &self.palette_of),
        ];
        let pictures = pictures.into_iter().filter_map(|(name, picture)| Some((name, picture.as_ref()?.path()?)));
        let layers = [("mask", &self.mask), ("strokes", &self.strokes)];
        let layers = layers.into_iter().filter_map(|(name, layer)| Some((name, layer.as_ref()?.path()?)));
        let masks = self.areas.iter().filter_map(|area| Some(("areas", area.mask.as_ref()?.path()?)));
        let hints = self.controls.iter().filter_map(|follow| Some(("controls", follow.picture.path()?)));
        let likes = self.ip_adapter_pictures.iter();
        let likes = likes.flat_map(|like| [like.picture.path(), like.mask.as_ref().and_then(Image::path)]);
        let likes = likes.filter_map(|path| Some(("ip_adapter_pictures", path?)));
        pictures.chain(layers).chain(masks).chain(hints).chain(likes).collect()
    }
}
