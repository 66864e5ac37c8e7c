//! [`Task`], [`Method`] and [`Style`]: what a run asks for, with the parts, colors and places asked for.

use clap::ValueEnum;
use impasto::Rgb;
use serde::{Deserialize, Serialize};

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

    /// Returns true if the task asks for colors.
    pub fn colors(self) -> bool {
        matches!(self, Self::Named | Self::Numeric | Self::Binding | Self::Many | Self::Same)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// No guidance: the reference picture of every other method.
    Unforced,
    /// No force: the prompt with the nearest of the model's color words before the part.
    Word,
    /// `ColorForce::published` with its own settings.
    Doc,
    /// `ColorForce` with the document's settings for each part.
    DocParts,
    /// The best of 32 settings for each part, which the command `tune` finds.
    Tuned,
    /// `ColorForce::exact`, which has no settings.
    Exact,
    /// `exact` with the judge's region of the unforced picture as its mask.
    Oracle,
    /// `ColorForce::painted` with a stroke in each piece of the judge's region of the unforced picture.
    Strokes,
    /// No model: the judge's region of the unforced picture recolored as an editor would.
    Recolor,
    /// No model: the judge's region of the unforced picture filled with the color.
    Paste,
    /// The pictures of `pww` without its guidance.
    PwwOff,
    /// `PaintWithWords` with a map of the objects' places.
    Pww,
    /// `ImageGuidance` with the token of the whole picture.
    Image,
    /// The embedded model's ControlNet, with lines and strokes as its hint.
    Control,
    /// The ControlNet of `Control`, with `ColorForce::painted` on the strokes.
    ControlStrokes,
    /// `ReferenceColor` with a drawing as its reference, over the edges of the unforced picture.
    Reference,
    /// The method `reference`, and `ColorForce::like` for each part that the drawing shows.
    ReferenceLike,
}

impl Method {
    pub const ALL: [Self; 17] = [
        Self::Unforced,
        Self::Word,
        Self::Doc,
        Self::DocParts,
        Self::Tuned,
        Self::Exact,
        Self::Oracle,
        Self::Strokes,
        Self::Recolor,
        Self::Paste,
        Self::PwwOff,
        Self::Pww,
        Self::Image,
        Self::Control,
        Self::ControlStrokes,
        Self::Reference,
        Self::ReferenceLike,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Unforced => "unforced",
            Self::Word => "word",
            Self::Doc => "doc",
            Self::DocParts => "doc-parts",
            Self::Tuned => "tuned",
            Self::Exact => "exact",
            Self::Oracle => "oracle",
            Self::Strokes => "strokes",
            Self::Recolor => "recolor",
            Self::Paste => "paste",
            Self::PwwOff => "pww-off",
            Self::Pww => "pww",
            Self::Image => "image",
            Self::Control => "control",
            Self::ControlStrokes => "control-strokes",
            Self::Reference => "reference",
            Self::ReferenceLike => "reference-like",
        }
    }

    /// Returns true if the method can do this task.
    pub fn does(self, task: Task) -> bool {
        match self {
            Self::Pww | Self::PwwOff => matches!(task, Task::Place | Task::Swap),
            Self::Image => task == Task::Image,
            Self::Control | Self::ControlStrokes => task == Task::Edges,
            Self::Reference | Self::ReferenceLike => task == Task::Reference,
            Self::Unforced => task.colors() || matches!(task, Task::Saliency | Task::Edges | Task::Reference),
            Self::Exact => task.colors() || task == Task::Saliency,
            _ => task.colors(),
        }
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
