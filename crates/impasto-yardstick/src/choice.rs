//! The choice of tasks, methods and parts to measure.

use crate::task::{Method, PARTS, Task};
use crate::values::repeated;
use clap::{ArgAction, Args};

/// The tasks, methods and parts that are measured.
#[derive(Args, Clone, Debug, PartialEq)]
pub struct Choice {
    /// Tasks to measure, with commas between them. The default is every task that the judge can judge and the
    /// model can do.
    #[arg(long = "task", value_delimiter = ',', action = ArgAction::Set)]
    pub tasks: Vec<Task>,
    /// Methods to measure, with commas between them. The default is all but tuned, recolor and paste.
    #[arg(long = "method", value_delimiter = ',', action = ArgAction::Set)]
    #[arg(value_enum, default_values_t = Self::default().methods, hide_default_value = true)]
    pub methods: Vec<Method>,
    /// Parts to measure, with commas between them. The default is all of them.
    #[arg(long = "part", value_delimiter = ',', action = ArgAction::Set, value_parser = PARTS)]
    #[arg(default_values = PARTS, hide_default_value = true)]
    pub parts: Vec<String>,
    /// Measures all colors on all parts and `binding` of all parts, with a time budget of 90 minutes instead of 20.
    #[arg(long)]
    pub full: bool,
}

impl Default for Choice {
    fn default() -> Self {
        // `recolor` and `paste` have no model, and the settings of `tuned` must be found first.
        let usual = |method: &Method| method.row().usual;
        Self {
            tasks: Task::ALL.to_vec(),
            methods: Method::ALL.into_iter().filter(usual).collect(),
            parts: PARTS.map(str::to_owned).to_vec(),
            full: false,
        }
    }
}

impl Choice {
    /// Checks that nothing is listed twice.
    ///
    /// # Errors
    /// A message that names the option and the item.
    pub fn check(&self) -> Result<(), String> {
        let twice = [
            ("task", repeated(&self.tasks).map(|task| task.name())),
            ("method", repeated(&self.methods).map(|method| method.name())),
            ("part", repeated(&self.parts).map(String::as_str)),
        ];
        match twice.into_iter().find_map(|(option, item)| Some((option, item?))) {
            Some((option, item)) => Err(format!("--{option}: {item} is named twice; name it once")),
            None => Ok(()),
        }
    }
}
