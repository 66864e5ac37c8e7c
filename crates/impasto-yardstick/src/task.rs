//! [`Task`], [`Method`] and [`Style`]: what a run asks for, with the parts, colors and places asked for.

use clap::ValueEnum;
use impasto::Rgb;
use serde::{Deserialize, Serialize};

use Task::{Binding, Edges, Many, Named, Numeric, Place, Reference, Saliency, Same, Swap};

/// The label of this version of the yardstick. The label must change if the meaning of any figure changes, because old
/// and new figures must not share a table.
pub const LABEL: &str = "yardstick-1";

/// The parts of a portrait that acceptance covers, in the order in which a prompt's tags are chosen.
pub const PARTS: [&str; 6] = ["eyes", "hair bow", "hair", "skin", "shirt", "background"];

/// The objects of scenes.
pub const OBJECTS: [&str; 10] = ["house", "tree", "boat", "star", "fish", "flower", "moon", "sun", "car", "cup"];

/// The kind of a prompt: a portrait without (`Plain`) or with (`Dressed`) color words, a scene, or a prompt of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Style {
    Plain,
    Dressed,
    /// A scene instead of a portrait.
    Scene,
    /// A prompt of a file.
    Listed,
}

impl Style {
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Dressed => "dressed",
            Self::Scene => "scene",
            Self::Listed => "listed",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// One part of the picture in a color with a CSS name.
    Named,
    /// One part of the picture in a color given as a number, such as #1e90ff.
    Numeric,
    /// One part of the picture in a color, with a prompt that gives the other parts color words.
    Binding,
    /// Two to four parts of the picture, each in a color of its own.
    Many,
    /// Two parts of the picture, both in the same color.
    Same,
    /// Attention compared with the judge's regions.
    Saliency,
    /// One object painted in one quadrant.
    Place,
    /// Two objects painted left and right, then mirrored.
    Swap,
    /// A drawing as a guide, at rising strength.
    Image,
    /// A picture that follows the lines and strokes of a drawing of its kind.
    Edges,
    /// A picture that takes the colors of a drawing and keeps the lines of the unforced picture.
    Reference,
}

impl Task {
    pub const ALL: [Self; 11] = [
        Self::Named,
        Self::Numeric,
        Self::Binding,
        Self::Many,
        Self::Same,
        Self::Saliency,
        Self::Place,
        Self::Swap,
        Self::Image,
        Self::Edges,
        Self::Reference,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Named => "named",
            Self::Numeric => "numeric",
            Self::Binding => "binding",
            Self::Many => "many",
            Self::Same => "same",
            Self::Saliency => "saliency",
            Self::Place => "place",
            Self::Swap => "swap",
            Self::Image => "image",
            Self::Edges => "edges",
            Self::Reference => "reference",
        }
    }

    /// Tasks that ask for colors.
    pub(crate) const COLORS: &'static [Self] = &[Self::Named, Self::Numeric, Self::Binding, Self::Many, Self::Same];

    /// Returns true if the task asks for colors.
    pub fn colors(self) -> bool {
        Self::COLORS.contains(&self)
    }

    /// Returns true if methods of the task follow lines by the embedded ControlNet, which needs a UNet.
    pub(crate) const fn needs_controlnet(self) -> bool {
        matches!(self, Self::Edges | Self::Reference)
    }
}

/// The facts about a method: a row of the table of methods.
pub(crate) struct MethodRow {
    /// Name on the command line, in records and in reports.
    pub(crate) name: &'static str,
    /// Tasks that the method can do.
    tasks: &'static [Task],
    /// Color in plots. Methods of one task have different colors.
    pub(crate) color: Rgb,
    /// Source of the masks with which the method forces the colors of parts.
    pub(crate) mask: Mask,
    /// True if the method reports whether it met a color.
    pub(crate) reports: bool,
    /// Largest CIEDE2000 of a part that counts as hit; `None` if the report explains no errors of the method.
    pub(crate) good: Option<f64>,
    /// Text about the method's attention, which the task `saliency` compares with the judge.
    pub(crate) attention: Option<&'static str>,
    /// True if the method is measured unless `--method` says otherwise.
    pub(crate) usual: bool,
}

/// The source of a part's mask.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Mask {
    /// The model's attention to the part's phrase.
    Attention,
    /// The judge's region of the unforced picture.
    Judge,
    /// The method forces no part by a mask.
    None,
}

impl MethodRow {
    const fn new(name: &'static str, tasks: &'static [Task], color: Rgb) -> Self {
        let (mask, reports, good, attention, usual) = (Mask::None, false, None, None, true);
        Self { name, tasks, color, mask, reports, good, attention, usual }
    }

    /// A method that forces colors of parts.
    const fn force(name: &'static str, color: Rgb, mask: Mask) -> Self {
        Self { mask, ..Self::new(name, Task::COLORS, color) }
    }
}

/// Defines [`Method`] from the table of methods.
macro_rules! methods {
    ($($(#[$doc:meta])* $method:ident = $row:expr;)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
        #[serde(rename_all = "kebab-case")]
        pub enum Method {
            $($(#[$doc])* $method,)*
        }

        impl Method {
            pub const ALL: [Self; [$(stringify!($method)),*].len()] = [$(Self::$method),*];

            /// Returns the facts about the method.
            pub(crate) const fn row(self) -> MethodRow {
                match self {
                    $(Self::$method => $row,)*
                }
            }
        }
    };
}

const GRAY: Rgb = Rgb(138, 138, 138);
const GREEN: Rgb = Rgb(60, 160, 80);
const PINK: Rgb = Rgb(200, 90, 140);
const VIOLET: Rgb = Rgb(120, 110, 210);
/// Tasks that are also measured without guidance, for comparison.
const UNFORCED: &[Task] = &[Named, Numeric, Binding, Many, Same, Saliency, Edges, Reference];

methods! {
    /// No guidance: the reference picture of every other method.
    Unforced = MethodRow {
        attention: Some("Unprocessed attention"),
        ..MethodRow::new("unforced", UNFORCED, GRAY)
    };
    /// No force: the prompt with the nearest of the model's color words before the part.
    Word = MethodRow::new("word", Task::COLORS, Rgb(176, 122, 72));
    /// `ColorForce::published` with its own settings.
    Doc = MethodRow { good: Some(5.0), ..MethodRow::force("doc", Rgb(66, 133, 200), Mask::Attention) };
    /// `ColorForce` with the document's settings for each part.
    DocParts = MethodRow { good: Some(5.0), ..MethodRow::force("doc-parts", Rgb(235, 130, 30), Mask::Attention) };
    /// The method `doc`, along the directions of flat colors alone (`ForceOptions::color_subspace`).
    Subspace = MethodRow {
        usual: false,
        good: Some(5.0),
        ..MethodRow::force("subspace", Rgb(110, 190, 225), Mask::Attention)
    };
    /// The shift of "Latent Color Subspace": in one step, all cells of the judge's region by the same amount.
    SubspaceShift =
        MethodRow { usual: false, ..MethodRow::force("subspace-shift", Rgb(60, 90, 160), Mask::Judge) };
    /// The best of 32 settings for each part, which the command `tune` finds.
    Tuned = MethodRow { usual: false, ..MethodRow::force("tuned", Rgb(220, 70, 85), Mask::Attention) };
    /// `ColorForce::exact`, which has no settings.
    Exact = MethodRow {
        tasks: &[Named, Numeric, Binding, Many, Same, Saliency],
        reports: true,
        good: Some(2.0),
        attention: Some("Attention with competition and along outlines, as in <code>exact</code>"),
        ..MethodRow::force("exact", GREEN, Mask::Attention)
    };
    /// No guidance, with the maps of `ConceptAttention`, which needs joint attention.
    Concept = MethodRow {
        usual: false,
        attention: Some("Outputs of attention (<code>ConceptAttention</code>)"),
        ..MethodRow::new("concept", &[Saliency], VIOLET)
    };
    /// `exact` with the judge's region of the unforced picture as its mask.
    Oracle = MethodRow::force("oracle", Rgb(60, 170, 175), Mask::Judge);
    /// `ColorForce::painted` with a stroke in each piece of the judge's region of the unforced picture.
    Strokes = MethodRow { reports: true, ..MethodRow::new("strokes", Task::COLORS, PINK) };
    /// No model: the judge's region of the unforced picture recolored as an editor would.
    Recolor = MethodRow { usual: false, ..MethodRow::new("recolor", Task::COLORS, Rgb(170, 105, 180)) };
    /// No model: the judge's region of the unforced picture filled with the color.
    Paste = MethodRow { usual: false, ..MethodRow::new("paste", Task::COLORS, Rgb(150, 160, 60)) };
    /// The pictures of `pww` without its guidance.
    PwwOff = MethodRow::new("pww-off", &[Place, Swap], GRAY);
    /// `PaintWithWords` with a map of the objects' places.
    Pww = MethodRow::new("pww", &[Place, Swap], GREEN);
    /// `ImageGuidance` with the token of the whole picture.
    Image = MethodRow::new("image", &[Task::Image], VIOLET);
    /// The embedded model's ControlNet, with lines and strokes as its hint.
    Control = MethodRow::new("control", &[Edges], VIOLET);
    /// The ControlNet of `Control`, with `ColorForce::painted` on the strokes.
    ControlStrokes = MethodRow::new("control-strokes", &[Edges], PINK);
    /// `ReferenceColor` with a drawing as its reference, over the edges of the unforced picture.
    Reference = MethodRow::new("reference", &[Task::Reference], VIOLET);
    /// The method `reference`, and `ColorForce::like` for each part that the drawing shows.
    ReferenceLike = MethodRow::new("reference-like", &[Task::Reference], PINK);
}

impl Method {
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// Returns true if the method can do this task.
    pub fn does(self, task: Task) -> bool {
        self.row().tasks.contains(&task)
    }
}

/// A part of the picture and the color that is asked for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    pub part: String,
    pub rgb: Rgb,
}

/// An object and the area of its place, as shares of the picture: left, top, right, bottom.
#[derive(Clone, Debug, PartialEq)]
pub struct Painted {
    pub object: &'static str,
    pub area: [f64; 4],
}
