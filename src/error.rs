//! The crate's error type. A message says what is wrong, with the value, what was expected, and what to try.

use crate::branch::Branch;
use crate::color::Rgb;
use crate::wording::{Note, Remedy, Wording};
use std::path::PathBuf;
use tch::Tensor;

/// `std::result::Result` with [`enum@Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Any error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// libtorch refused an operation.
    #[error("libtorch: {}", first_line(.0))]
    Torch(#[from] tch::TchError),

    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// A file that a checkpoint needs is missing.
    #[error("{file} is missing in {place}; {hint}")]
    MissingFile {
        /// Path inside the checkpoint.
        file: String,
        /// Checkpoint that was searched.
        place: String,
        /// Advice for the user.
        hint: Note,
    },
    /// A file is of another kind than its place needs, such as a LoRA in place of a model.
    #[error("{file}: the file is {contents}; {remedy}")]
    OtherKind {
        /// The file.
        file: String,
        /// Description of the contents.
        contents: String,
        /// The right use of such a file.
        remedy: Remedy,
    },
    /// The content of a file does not fit its name.
    #[error("{file}: {problem}")]
    Malformed {
        /// The file.
        file: String,
        /// Description of the fault.
        problem: String,
    },
    /// A repository of a hub could not be fetched.
    #[error("{repository}: {problem}")]
    Hub {
        /// `owner/name`.
        repository: String,
        /// Description of the fault, and advice.
        problem: Note,
    },
    /// A configuration asks for something this crate does not support, or contradicts itself.
    #[error("{file}: {field} is {value}; {expected}")]
    Config {
        /// The configuration file.
        file: String,
        /// The field.
        field: String,
        /// Value of the field.
        value: String,
        /// Values that would be accepted.
        expected: Note,
    },
    /// Weights do not fit the model; every problem is listed.
    #[error("{0}")]
    Weights(Box<crate::weights::LoadReport>),
    /// A picture could not be decoded or encoded.
    #[error("{}: {source}", path.display())]
    Image {
        /// The file.
        path: PathBuf,
        /// Error of the image codec.
        source: image::ImageError,
    },

    /// A parameter is out of range.
    #[error("{name} is {value}; expected {expected}")]
    Parameter {
        /// Name of the parameter's setter or field.
        name: &'static str,
        /// Value that was given.
        value: String,
        /// Valid range, and usual values.
        expected: Note,
    },
    /// A tensor has the wrong shape.
    #[error("{what} has shape {got:?}; expected {expected}")]
    Shape {
        /// The tensor.
        what: &'static str,
        /// Shape of the tensor.
        got: Vec<i64>,
        /// Expected shape, in words.
        expected: String,
    },
    /// A number that must be finite is infinite or NaN.
    #[error(
        "{what} is not finite at step {step}; usual causes are an overflow in half precision and a broken checkpoint; \
         {}",
        Remedy::PrecisionOrModel
    )]
    NonFinite {
        /// Name of the number or tensor.
        what: String,
        /// Index of the step.
        step: usize,
    },

    /// The phrase does not occur in the prompt at word boundaries.
    #[error("phrase \"{}\" is not in the prompt \"{}\"{}", shortened(phrase), shortened(prompt), did_you_mean(nearest))]
    PhraseNotFound {
        /// Phrase that was searched for.
        phrase: String,
        /// Prompt that was searched.
        prompt: String,
        /// Up to three words of the prompt, the most similar first.
        nearest: Vec<String>,
    },
    /// The phrase is in the part of the prompt that the text encoder never sees.
    #[error(
        "phrase \"{phrase}\" is in the part of the prompt that is cut off after {limit} tokens; move the phrase forward"
    )]
    PhraseTruncated {
        /// Phrase that was searched for.
        phrase: String,
        /// Number of tokens that reach the text encoder.
        limit: usize,
    },
    /// The phrase has no letter or digit.
    #[error("the phrase has no letter or digit; use words of the prompt")]
    EmptyPhrase,
    /// Colors that phrases were assigned to do not occur in the painted map.
    #[error(
        "{}; the map's colors are {}; {}",
        not_in_map(missing, palette),
        mix(palette),
        way_to_color(*tolerance)
    )]
    ColorNotInMap {
        /// All colors that are missing.
        missing: Vec<MissingColor>,
        /// The map's colors, each with its share of the map in 0..=1, the most frequent first; a message shows twelve.
        palette: Vec<(Rgb, f64)>,
        /// Tolerance at which the nearest color of the map counts as each missing color; `None` if a missing color has
        /// no near color.
        tolerance: Option<f64>,
    },
    /// A text could not be tokenized, or a tokenizer's files are invalid.
    #[error("tokenizer: {0}")]
    Tokenizer(String),

    /// No solver of this crate has that name.
    #[error("solver \"{}\" is not known; {}", shortened(name), did_you_mean_solver(nearest))]
    UnknownSolver {
        /// Name that was asked for.
        name: String,
        /// Up to three names, the most similar first.
        nearest: Vec<String>,
    },

    /// A setting is given without another one that it needs.
    #[error("{name} is given without {needed}; give both or neither")]
    GivenAlone {
        /// Name of the setting.
        name: &'static str,
        /// Name of the setting that is missing.
        needed: &'static str,
    },

    /// A part of a run cannot be written to a file, or not be recreated from one.
    #[error("{what} cannot be stored in a recipe or restored from one")]
    NotRepeatable {
        /// The part.
        what: String,
    },

    /// The requested prediction was not evaluated.
    #[error(
        "branch {0:?} was not evaluated at this step; request the branch in `GuidanceRun::plan` or `Combine::branches`"
    )]
    NoPrediction(Branch),
    /// A branch has no conditioning.
    #[error("branch {0:?} has no conditioning; add a conditioning with `Setup::add`")]
    NoConditioning(Branch),
    /// No attention site passes the filter.
    #[error("no attention site is selected; expected a choice among the model's sites: {}", names.join(", "))]
    NoSites {
        /// Names of the model's sites.
        names: Vec<String>,
    },
    /// Maps were read before anything was recorded.
    #[error("{0} has recorded no attention yet; attach {0} to a run, and read the maps after the first step")]
    NoMaps(&'static str),

    /// A guidance method failed; the source says why.
    #[error("{name}: {source}")]
    Guidance {
        /// Name of the guidance method.
        name: &'static str,
        /// The method of the trait `GuidanceRun` that failed.
        phase: &'static str,
        /// Index of the step; `None` before the first and after the last.
        step: Option<usize>,
        /// The failure.
        source: Box<Error>,
    },
    /// An attention hook failed; the source says why.
    #[error("a hook failed in {phase} of {site} at step {step}: {source}")]
    Hook {
        /// The attention site.
        site: String,
        /// The method that failed.
        phase: &'static str,
        /// Index of the step.
        step: usize,
        /// The failure.
        source: Box<Error>,
    },
    /// `GuidanceRun::hooks` returned a different number of hooks than at the start of the run.
    #[error(
        "`GuidanceRun::hooks` returned {now} hooks, but {before} at the start of the run; to disable a hook, return \
         `false` from `active()`"
    )]
    HooksChanged {
        /// Number of hooks at the start of the run.
        before: usize,
        /// Number of hooks now.
        now: usize,
    },
    /// A run was asked to continue after it had failed.
    #[error("this run ended with an error and cannot continue; start a new run")]
    RunFailed,
    /// The run was cancelled through its token or its progress callback.
    #[error("the run was cancelled")]
    Cancelled,
    /// An error of the user's own hook, guidance method or callback; [`Error::custom`] makes it.
    #[error("{0}")]
    Custom(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A requested color that the map does not have.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct MissingColor {
    /// Color that was asked for.
    pub asked: Rgb,
    /// Nearest color of the map, and its Euclidean distance in RGB.
    pub nearest: Option<(Rgb, f64)>,
}

impl Error {
    /// Returns true if the run was cancelled on request. This includes a cancellation inside an error of a guidance
    /// method or hook.
    pub fn is_cancelled(&self) -> bool {
        match self {
            Self::Cancelled => true,
            Self::Guidance { source, .. } | Self::Hook { source, .. } => source.is_cancelled(),
            _ => false,
        }
    }

    /// Returns the way out that the error offers, apart from a value in the expected range.
    pub fn remedy(&self) -> Option<Remedy> {
        match self {
            Self::MissingFile { hint: note, .. }
            | Self::Hub { problem: note, .. }
            | Self::Config { expected: note, .. }
            | Self::Parameter { expected: note, .. } => note.remedy,
            Self::OtherKind { remedy, .. } => Some(*remedy),
            Self::NonFinite { .. } => Some(Remedy::PrecisionOrModel),
            Self::ColorNotInMap { tolerance, .. } => tolerance.map(|_| Remedy::Tolerance),
            Self::Guidance { source, .. } | Self::Hook { source, .. } => source.remedy(),
            _ => None,
        }
    }

    /// Returns the message in the words of a program. See [`Wording`] for an example. The message leaves out the site
    /// and the step at which a hook failed.
    pub fn worded(&self, words: &dyn Wording) -> String {
        match self {
            Self::Guidance { name, source, .. } => format!("{}: {}", words.name(name), source.worded(words)),
            Self::Hook { source, .. } => source.worded(words),
            Self::Parameter { name, value, expected } => {
                format!("{} is {value}; expected {}", words.name(name), expected.worded(words))
            }
            Self::GivenAlone { name, needed } => {
                format!("{} is given without {}; give both or neither", words.name(name), words.name(needed))
            }
            Self::UnknownSolver { name, nearest } => {
                let (solver, name) = (words.name("solver"), shortened(name));
                format!("{solver} \"{name}\" is not known; {}", did_you_mean_solver(nearest))
            }
            _ => {
                // Every message with a remedy ends with it.
                let (message, remedy) = (self.to_string(), self.remedy());
                let text = remedy.and_then(|remedy| message.strip_suffix(&format!("; {remedy}")));
                Note { remedy: remedy.filter(|_| text.is_some()), ..Note::from(text.unwrap_or(&message).to_owned()) }
                    .worded(words)
            }
        }
    }

    /// Creates an error of your own, for hooks, guidance methods and callbacks. The new error has the message of
    /// `error`, and [`source`](std::error::Error::source) returns `error` itself. A run wraps the error with the place
    /// where it happened.
    ///
    /// ```
    /// use impasto::Error;
    /// use std::error::Error as _;
    ///
    /// let error = Error::custom(std::fmt::Error);
    /// assert!(error.source().is_some_and(|source| source.is::<std::fmt::Error>()));
    /// assert_eq!(Error::custom("no light").to_string(), "no light");
    /// ```
    pub fn custom(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Custom(error.into())
    }

    pub(crate) fn io(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Io { path: path.into(), source }
    }

    /// Creates an error for a parameter out of its range: `name` is its setter or field, followed by the value and the
    /// expected range.
    ///
    /// ```
    /// let error = impasto::Error::parameter("glow", 7, "0..=1; .3 is usual");
    /// assert_eq!(error.to_string(), "glow is 7; expected 0..=1; .3 is usual");
    /// ```
    pub fn parameter(name: &'static str, value: impl std::fmt::Display, expected: impl Into<Note>) -> Self {
        Self::Parameter { name, value: value.to_string(), expected: expected.into() }
    }
}

/// Formats `did you mean "a", "b"?` for similar solvers, or two examples if there are none.
fn did_you_mean_solver(nearest: &[String]) -> String {
    match nearest {
        [] => "use a name such as \"Euler a\" or \"DPM++ 2M Karras\"".into(),
        nearest => format!("did you mean {}?", quote(nearest)),
    }
}

/// Shortens a text to its first 200 characters, followed by `…` if the text is longer.
fn shortened(text: &str) -> String {
    const SHOWN: usize = 200;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.into(),
    }
}

/// Formats `; did you mean "a", "b"?`, or advice if there are no candidates.
fn did_you_mean(nearest: &[String]) -> String {
    if nearest.is_empty() {
        return "; use words of the prompt, in its order".into();
    }
    format!("; did you mean {}?", quote(nearest))
}

/// Formats `color #fa0a00 is not in the map; the nearest color is #ff0000 (22 % of the map), at an RGB distance of
/// 11.2` for each missing color.
fn not_in_map(missing: &[MissingColor], palette: &[(Rgb, f64)]) -> String {
    let sentence = |MissingColor { asked, nearest }: &MissingColor| {
        let Some((nearest, distance)) = nearest else { return format!("color {asked} is not in the map") };
        let share = palette.iter().find(|(color, _)| color == nearest).map_or(0.0, |(_, share)| 100.0 * share);
        format!(
            "color {asked} is not in the map; the nearest color is {nearest} ({share:.0} % of the map), at an RGB \
             distance of {distance:.1}"
        )
    };
    missing.iter().map(sentence).collect::<Vec<_>>().join("; ")
}

/// Formats what to do about missing colors: set a tolerance if one helps, or else use other colors.
fn way_to_color(tolerance: Option<f64>) -> String {
    match tolerance {
        Some(tolerance) => format!("a tolerance of {tolerance} accepts the nearest colors; {}", Remedy::Tolerance),
        None => "use one of these colors".into(),
    }
}

/// Formats at most twelve colors, such as `#808080 (52 %), #ff0000 (22 %)`.
fn mix(palette: &[(Rgb, f64)]) -> String {
    let shown = palette.iter().take(12).map(|(color, share)| format!("{color} ({:.0} %)", 100.0 * share));
    let more = palette.len().saturating_sub(12);
    let more = (more > 0).then(|| format!("{more} more"));
    shown.chain(more).collect::<Vec<_>>().join(", ")
}

/// Returns libtorch's message without the C++ stack that follows.
fn first_line(error: &tch::TchError) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

/// Formats words as `"a", "b"`.
fn quote(words: &[String]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
    quoted.join(", ")
}

/// Returns true if a tensor has neither infinities nor NaNs. If the sum of all elements is finite, so is each element.
/// Only otherwise the elements are checked. The sum is taken in the tensor's own kind, because for another kind
/// libtorch would convert the whole tensor.
pub(crate) fn is_finite(tensor: &Tensor) -> Result<bool> {
    let sum = tensor.f_sum(tensor.f_kind()?)?.f_double_value(&[])?;
    Ok(sum.is_finite() || tensor.f_isfinite()?.f_all()?.f_int64_value(&[])? != 0)
}

/// Adds the guidance method, its phase and the step to an error. A cancellation stays as it is.
pub(crate) fn blame<T>(result: Result<T>, name: &'static str, phase: &'static str, step: Option<usize>) -> Result<T> {
    result.map_err(|source| match source {
        Error::Cancelled => Error::Cancelled,
        source => Error::Guidance { name, phase, step, source: Box::new(source) },
    })
}
