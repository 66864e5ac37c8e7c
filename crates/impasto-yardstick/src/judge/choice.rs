//! [`Choice`]: the judge that a command names.

use super::{Evaluator, Judge, Masks, Program, Saliency};
use crate::failure::Failure;
use crate::random::fnv;
use crate::task::Task;
use std::path::PathBuf;
use std::str::FromStr;

/// A choice of a judge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The network, for pictures of the embedded model.
    Evaluator,
    /// The model's own attention.
    Saliency,
    /// Masks in a folder, drawn by hand or by any segmenter.
    Masks(PathBuf),
    /// A program with its arguments.
    Program(String),
}

impl FromStr for Choice {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match (text, text.split_once(':')) {
            ("evaluator", _) => Ok(Self::Evaluator),
            ("saliency", _) => Ok(Self::Saliency),
            (_, Some(("masks", folder))) if !folder.is_empty() => Ok(Self::Masks(folder.into())),
            (_, Some(("cmd", program))) if !program.is_empty() => Ok(Self::Program(program.to_owned())),
            _ => Err("expected evaluator, saliency, masks:DIR or cmd:PROGRAM"),
        }
    }
}

impl Choice {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Evaluator => "evaluator",
            Self::Saliency => "saliency",
            Self::Masks(_) => "masks",
            Self::Program(_) => "cmd",
        }
    }

    pub fn open(&self) -> Result<Box<dyn Judge>, Failure> {
        Ok(match self {
            Self::Evaluator => Box::new(Evaluator::open()?),
            Self::Saliency => Box::new(Saliency),
            Self::Masks(folder) => Box::new(Masks::open(folder)?),
            Self::Program(command) => Box::new(Program::start(command)?),
        })
    }

    /// Returns true if the judge can judge a task.
    ///
    /// The attention of the unforced picture does not show where a method put an object. So `saliency` judges only
    /// tasks that ask for colors.
    pub fn judges(&self, task: Task) -> bool {
        if task.needs_controlnet() {
            // Only embedded models have a ControlNet for drawings.
            return *self == Self::Evaluator;
        }
        *self != Self::Saliency || task.colors()
    }

    /// Fingerprint of the judge, which keeps figures of different judges apart.
    pub fn fingerprint(&self) -> Result<String, Failure> {
        Ok(match self {
            Self::Evaluator => format!("{:016x}", fnv(impasto_train::Evaluator::WEIGHTS)),
            Self::Saliency => String::new(),
            Self::Masks(folder) => folder.display().to_string(),
            Self::Program(command) => command.clone(),
        })
    }
}
