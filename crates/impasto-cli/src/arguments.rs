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
/// The exit status is 0 if everything was painted, 1 after an error, 2 for a wrong command line, and 130 after Ctrl-C.
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
    /// Shows where the picture of a PNG attends to words of its prompt.
    Look(Look),
    /// Describes models, files of weights, and PNGs with a recipe.
    Info(Info),
    /// Lists the models in the cache of the Hugging Face hub.
    Models(Models),
    /// Measures how long a model takes to load, to step and to decode.
    Bench(Bench),
    /// Opens a page in the browser on which one paints: http://127.0.0.1:7860.
    Studio(StudioArguments),
    /// Prints completions for a shell: impasto completions bash > ~/.local/share/bash-completion/completions/impasto
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Prints the man page, or writes a page for each command into a folder: impasto man ~/.local/share/man/man1
    Man {
        /// The folder.
        folder: Option<PathBuf>,
    },
}
