//! The program `impasto`: Stable Diffusion with exact colors in exact places, in the terminal.
//!
//! ```text
//! impasto paint "1girl, #ffd700 eyes, hair" -o out.png --seed 7
//! impasto again out.png --steps 40
//! impasto look out.png hair eyes
//! ```
//!
//! The exit status is 0 after success, 1 after an error, 2 for a wrong command line, and 130 after Ctrl-C.

// The program prints through `console` alone, and does not panic; its tests may.
#![deny(clippy::print_stdout, clippy::print_stderr, clippy::dbg_macro)]
#![warn(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::unreachable)]

mod adapters;
mod again;
mod arguments;
mod bench;
mod changes;
mod choice;
mod console;
#[cfg(all(not(test), target_os = "linux", target_env = "gnu"))] // a test binary has a command line of its own
mod early;
mod estimated;
mod failure;
mod info;
mod interrupt;
mod jobs;
mod limits;
mod lines;
mod loading;
mod log;
mod look;
mod lora_parts;
mod mcp;
mod metrics;
mod models;
mod notes;
mod outputs;
mod paint;
mod progress;
mod queue;
mod result;
mod studio;
mod submit;
#[cfg(feature = "otel")]
mod traces;
mod wording;
mod worker;

use arguments::{Arguments, Command, present_command};
use clap::CommandFactory;
use failure::Failure;
use std::env;
use std::ffi::OsString;
use std::process::ExitCode;
use wording::Terminal;

fn main() -> ExitCode {
    carry_out(&env::args_os().collect::<Vec<_>>(), |_| true).unwrap_or_default().into()
}

/// Carries out a command line and returns the exit status. Returns `None` for a command that is not wanted.
fn carry_out(words: &[OsString], wanted: impl Fn(&Command) -> bool) -> Option<u8> {
    Terminal::begin(present_command(words));
    let ended = match Arguments::read(words) {
        Ok(Arguments { command }) => wanted(&command).then(|| run(command))?,
        Err(error) if error.use_stderr() => {
            console::tell(error.render().to_string().trim_end());
            return Some(Failure::CommandLine(String::new()).status());
        }
        Err(help) => console::print(help.render().to_string().trim_end()),
    };
    let Err(failure) = ended else { return Some(0) };
    if !matches!(failure, Failure::Closed) {
        console::tell(format_args!("impasto: {failure}"));
    }
    Some(failure.status())
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Paint(arguments) => paint::paint(&arguments),
        Command::Again(arguments) => again::again(&arguments),
        Command::Look(arguments) => look::look(&arguments),
        Command::Info(arguments) => info::info(&arguments),
        Command::Models(arguments) => models::models(&arguments),
        Command::Bench(arguments) => bench::bench(&arguments),
        Command::Studio(arguments) => studio::studio(&arguments),
        Command::Mcp(arguments) => mcp::mcp(&arguments),
        Command::Submit(arguments) => submit::submit(&arguments),
        Command::Jobs(arguments) => jobs::jobs(&arguments),
        Command::Cancel(arguments) => jobs::cancel(&arguments),
        Command::Worker(arguments) => worker::worker(&arguments),
        Command::Completions { shell } => {
            let mut script = Vec::new(); // `generate` panics if it cannot write
            clap_complete::generate(shell, &mut Arguments::command(), "impasto", &mut script);
            console::print(String::from_utf8_lossy(&script).trim_end())
        }
        Command::Man { folder: None } => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Arguments::command()).render(&mut page).map_err(Failure::output)?;
            console::print(String::from_utf8_lossy(&page).trim_end())
        }
        Command::Man { folder: Some(folder) } => clap_mangen::generate_to(Arguments::command(), &folder)
            .map_err(|error| Failure::Message(format!("{}: {error}", folder.display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    #[test]
    fn generated_texts_have_nothing_to_escape() {
        let mut texts: Vec<Vec<u8>> = vec![Vec::new()];
        clap_mangen::Man::new(Arguments::command()).render(&mut texts[0]).unwrap();
        for shell in clap_complete::Shell::value_variants() {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Arguments::command(), "impasto", &mut script);
            texts.push(script);
        }
        for text in texts.into_iter().map(|text| String::from_utf8(text).unwrap()) {
            assert_eq!(console::escaped(&text), text);
        }
    }
}
