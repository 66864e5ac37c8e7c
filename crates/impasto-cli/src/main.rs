//! The program `impasto`: Stable Diffusion with exact colors in exact places, in the terminal.
//!
//! ```text
//! impasto paint "1girl, #ffd700 eyes, hair" -o out.png --seed 7
//! impasto again out.png --steps 40
//! impasto look out.png hair eyes
//! ```
//!
//! The exit status is 0 after success, 1 after an error, 2 for a wrong command line, and 130 after Ctrl-C.

mod again;
mod arguments;
mod bench;
mod failure;
mod files;
mod info;
mod interrupt;
mod loading;
mod look;
mod models;
mod paint;
mod painting;
mod pictures;
mod progress;
mod result;
mod studio;
mod values;
mod wording;

use arguments::{Arguments, Command};
use clap::{CommandFactory, Parser};
use failure::Failure;
use std::io;
use std::process::ExitCode;

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("impasto: {failure}");
            ExitCode::from(failure.status())
        }
    }
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
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Arguments::command(), "impasto", &mut io::stdout());
            Ok(())
        }
        Command::Man { folder: None } => {
            clap_mangen::Man::new(Arguments::command()).render(&mut io::stdout()).map_err(Failure::output)
        }
        Command::Man { folder: Some(folder) } => clap_mangen::generate_to(Arguments::command(), &folder)
            .map_err(|error| Failure::Message(format!("{}: {error}", folder.display()))),
    }
}
