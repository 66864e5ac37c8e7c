//! The command line.

use crate::again::Again;
use crate::bench::Bench;
use crate::info::Info;
use crate::look::Look;
use crate::models::Models;
use crate::paint::Paint;
use crate::studio::StudioArguments;
use clap::{Parser, Subcommand};
use clap_complete::Shell;
use std::path::PathBuf;

/// Paints with Stable Diffusion, with exact colors in exact places.
///
/// Without --model, a tiny embedded model paints portraits and simple scenes of 256×256 pixels, offline.
///
/// The exit status is 0 after success, 1 after an error, 2 for a wrong command line, and 130 after Ctrl-C.
#[derive(Debug, Parser)]
#[command(name = "impasto", version, arg_required_else_help = true)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

/// The command to carry out.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Paints pictures of a prompt, or of a file of prompts.
    Paint(Box<Paint>),
    /// Repeats the run of a PNG, unchanged or with other settings.
    Again(Again),
    /// Shows where in a PNG's picture the model attends to each word of the prompt.
    Look(Look),
    /// Describes models, files of weights, and PNGs with a recipe.
    Info(Info),
    /// Lists the models in the cache of the Hugging Face hub.
    Models(Models),
    /// Measures how long a model takes to load, to step and to decode.
    Bench(Bench),
    /// Serves a page for painting in the browser, by default at http://127.0.0.1:7860.
    Studio(StudioArguments),
    /// Prints completions for a shell: impasto completions bash > ~/.local/share/bash-completion/completions/impasto
    Completions {
        /// The shell that the completions are for.
        shell: Shell,
    },
    /// Prints the man page, or writes a page for each command into a folder: impasto man ~/.local/share/man/man1
    Man {
        /// Folder for the man pages. Without a folder, the main page is printed.
        folder: Option<PathBuf>,
    },
}
