//! The judge that is a program: SAM 2, or any segmenter, behind a pipe.
//!
//! The program gets a line `{"picture": "/path.png", "phrases": ["car", "road"]}` for each picture. It answers with a
//! line `{"car": "/mask.png", "road": null}`. Masks have the picture's size and are white inside. An object that is not
//! in the picture has `null` or is left out. The program ends when its input does.

use super::mask_file::{name, read_mask};
use super::view::{Judge, Seen, View};
use crate::failure::Failure;
use crate::picture::raster;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

pub struct Program {
    command: String,
    child: Child,
    /// Input of the program; `None` after the input was closed to end the program.
    to: Option<ChildStdin>,
    from: BufReader<ChildStdout>,
    /// Folder in which the program finds the pictures.
    folder: PathBuf,
}

impl Program {
    /// Starts `command`: a program and its arguments, with spaces between them.
    pub fn start(command: &str) -> Result<Self, Failure> {
        let mut words = command.split_whitespace();
        let program = words.next().ok_or("cmd: no program is given; expected one, as in --judge cmd:./segment")?;
        let mut child = Command::new(program)
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cmd {program}: {error}"))?;
        let (to, from) = (child.stdin.take(), child.stdout.take().ok_or("cmd: the program has no output")?);
        let folder = std::env::temp_dir().join(format!("yardstick-{}-{}", std::process::id(), child.id()));
        std::fs::create_dir_all(&folder)?;
        Ok(Self { command: command.to_owned(), child, to, from: BufReader::new(from), folder })
    }

    fn ask(&mut self, line: &str) -> std::io::Result<String> {
        if let Some(to) = &mut self.to {
            writeln!(to, "{line}")?;
            to.flush()?;
        }
        let mut answer = String::new();
        let _ = self.from.read_line(&mut answer)?;
        Ok(answer)
    }
}

impl Judge for Program {
    fn look(&mut self, view: &View<'_>) -> Result<Option<Seen>, Failure> {
        let path = self.folder.join(format!("{}.png", name(view.picture)));
        raster(view.picture)?.save(&path)?;
        let question = serde_json::json!({ "picture": path, "phrases": view.phrases }).to_string();
        let answer = self.ask(&question).map_err(|error| format!("cmd {}: {error}", self.command))?;
        if answer.is_empty() {
            return Err(format!("cmd {}: the program ended without an answer to {question}", self.command).into());
        }
        let masks: BTreeMap<String, Option<PathBuf>> = serde_json::from_str(&answer).map_err(|error| {
            let answer = answer.trim();
            format!("cmd {}: {error} in the answer {answer}; expected {{\"phrase\": \"mask.png\"}}", self.command)
        })?;
        let mut regions = Vec::new();
        for (phrase, mask) in &masks {
            if !view.phrases.contains(phrase) {
                return Err(format!(
                    "cmd {}: the answer has a mask for \"{phrase}\", which was not asked for",
                    self.command
                )
                .into());
            }
            if let Some(mask) = mask {
                regions.push((phrase.as_str(), read_mask(mask, view.picture.dim())?));
            }
        }
        std::fs::remove_file(&path)?;
        Ok(Some(Seen::of(view, regions)))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.to = None; // closes the input, so that the program ends
        let _ = self.child.wait();
        std::fs::remove_dir_all(&self.folder).ok();
    }
}
