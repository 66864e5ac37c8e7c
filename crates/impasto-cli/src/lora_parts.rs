//! Options for LoRAs that act in a part of the steps, or in a part of the picture.

use crate::failure::Failure;
use crate::loading::Loading;
use crate::outputs::Named;
use clap::Args;
use impasto::mask::Region;
use impasto::methods::UnmergedLora;
use impasto::{Raster, Window};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The steps and places of the LoRAs of --lora-apart. A LoRA without steps and place acts everywhere in all steps.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "LoRAs in parts")]
pub struct LoraParts {
    /// Lets a LoRA act in a part of the steps alone, in shares of the run: ink=0.4..1 for the end. NAME is the name of
    /// a file of --lora-apart, without the ending.
    #[arg(long, value_name = "NAME=FROM..TO", requires = "lora_apart")]
    lora_steps: Vec<Pair<Shares>>,
    /// Lets a LoRA act only where the picture shows the thing that a phrase of the prompt names.
    #[arg(long, value_name = "NAME=PHRASE", requires = "lora_apart")]
    lora_on: Vec<Pair<String>>,
    /// Lets a LoRA act only in the white part of a mask. In gray it acts by the share of white.
    #[arg(long, value_name = "NAME=PICTURE", requires = "lora_apart")]
    lora_mask: Vec<Pair<PathBuf>>,
}

/// The name of a LoRA, and what belongs to it.
#[derive(Clone, Debug, PartialEq)]
struct Pair<T> {
    name: String,
    value: T,
}

impl<T: FromStr<Err: ToString>> FromStr for Pair<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once('=').ok_or("expected NAME=, with the name of a file of --lora-apart")?;
        Ok(Self { name: name.trim().into(), value: value.trim().parse().map_err(|error: T::Err| error.to_string())? })
    }
}

/// A part of a run, in shares of its steps.
#[derive(Clone, Debug, PartialEq)]
struct Shares(RangeInclusive<f64>);

impl FromStr for Shares {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let ends = text.split_once("..");
        let ends = ends.and_then(|(from, to)| Some((from.trim().parse().ok()?, to.trim().parse().ok()?)));
        let inside = ends.filter(|&(from, to): &(f64, f64)| 0.0 <= from && from <= to && to <= 1.0);
        inside
            .map(|(from, to)| Self(from..=to))
            .ok_or("expected FROM..TO in shares of the run from 0 to 1, such as 0.4..1")
    }
}

impl LoraParts {
    /// Returns the guidance methods of all LoRAs of --lora-apart.
    pub fn methods(&self, loading: &Loading) -> Result<Vec<UnmergedLora>, Failure> {
        let stem = |file: &Path| file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let names: Vec<String> = loading.lora_apart.iter().map(|lora| stem(&lora.file)).collect();
        let named = self.lora_steps.iter().map(|pair| ("--lora-steps", &pair.name));
        let named = named.chain(self.lora_on.iter().map(|pair| ("--lora-on", &pair.name)));
        let mut named = named.chain(self.lora_mask.iter().map(|pair| ("--lora-mask", &pair.name)));
        if let Some((option, name)) = named.find(|(_, name)| !names.contains(name)) {
            let known = names.join(", ");
            return Err(Failure::Message(format!(
                "{option}: no file of --lora-apart is named {name}; expected {known}"
            )));
        }
        let mut methods = Vec::new();
        for name in &names {
            let mut method = UnmergedLora::new(name, 1.0);
            if let Some(Pair { value: Shares(shares), .. }) = of(&self.lora_steps, name, "--lora-steps")? {
                method = method.window(Window::progress(shares.clone()));
            }
            match (of(&self.lora_on, name, "--lora-on")?, of(&self.lora_mask, name, "--lora-mask")?) {
                (Some(_), Some(_)) => {
                    let problem = "--lora-on and --lora-mask give the LoRA two places; leave one of them out";
                    return Err(Failure::Message(format!("{name}: {problem}")));
                }
                (Some(phrase), None) => method = method.on(&phrase.value),
                (None, Some(mask)) => method = method.within(Region::gray(&Raster::open(&mask.value)?)),
                (None, None) => {}
            }
            methods.push(method);
        }
        Ok(methods)
    }

    /// Returns the files that the options name.
    pub fn files(&self) -> impl Iterator<Item = Named> {
        self.lora_mask.iter().map(|mask| Named::new("--lora-mask", &mask.value))
    }
}

/// Returns the value of an option for a LoRA.
fn of<'a, T>(all: &'a [Pair<T>], name: &str, option: &str) -> Result<Option<&'a Pair<T>>, Failure> {
    let mut own = all.iter().filter(|pair| pair.name == name);
    match (own.next(), own.next()) {
        (_, Some(_)) => Err(Failure::Message(format!("{option} is given twice for {name}; give it once"))),
        (first, None) => Ok(first),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use clap::Parser;
    use impasto::Rgb;

    #[derive(Debug, Parser)]
    struct Alone {
        #[command(flatten)]
        parts: LoraParts,
        #[command(flatten)]
        loading: Loading,
    }

    fn methods(options: &[&str]) -> Result<Vec<UnmergedLora>, String> {
        let Alone { parts, loading } =
            Alone::try_parse_from([&["impasto"], options].concat()).map_err(|error| error.to_string())?;
        parts.methods(&loading).map_err(|failure| failure.to_string())
    }

    #[test]
    fn each_lora_apart_has_its_steps_and_place() {
        let folder = tempfile::tempdir().unwrap();
        let mask = folder.path().join("mask.png");
        Raster::flat(Rgb(255, 255, 255), (8, 8)).save(&mask).unwrap();
        let mask = format!("glow={}", mask.display());
        let two = ["--lora-apart", "a/ink.safetensors:0.8", "--lora-apart", "glow.pt"];
        let places = ["--lora-steps", "ink=0.4..1", "--lora-on", "ink=long hair", "--lora-mask", &mask];
        let made = methods(&[&two[..], &places].concat()).unwrap();
        let ink = UnmergedLora::new("ink", 1.0).window(Window::progress(0.4..=1.0)).on("long hair");
        let glow = UnmergedLora::new("glow", 1.0).within(Region::gray(&Raster::flat(Rgb(255, 255, 255), (8, 8))));
        assert_eq!(made, [ink, glow]);
        assert_eq!(methods(&[]).unwrap(), []);
    }

    #[test]
    fn options_that_do_not_fit_are_told() {
        let refused = |options: &[&str]| methods(&[&["--lora-apart", "ink.pt"], options].concat()).unwrap_err();
        assert!(refused(&["--lora-on", "oil=hair"]).contains("no file of --lora-apart is named oil; expected ink"));
        assert!(refused(&["--lora-steps", "ink=0.4..2"]).contains("from 0 to 1"));
        assert!(refused(&["--lora-steps", "0.4..1"]).contains("expected NAME="));
        assert!(refused(&["--lora-on", "ink=hair", "--lora-on", "ink=eyes"]).contains("given twice for ink"));
        assert!(refused(&["--lora-on", "ink=hair", "--lora-mask", "ink=m.png"]).contains("two places"));
        assert!(methods(&["--lora-on", "ink=hair"]).unwrap_err().contains("--lora-apart"));
    }
}
