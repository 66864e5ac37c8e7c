//! The command line.

use crate::again::Again;
use crate::bench::Bench;
use crate::info::Info;
use crate::jobs::{Cancel, Jobs};
use crate::look::Look;
use crate::mcp::McpArguments;
use crate::models::Models;
use crate::paint::Paint;
use crate::studio::StudioArguments;
use crate::submit::Submit;
use crate::worker::WorkerArguments;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use std::ffi::OsString;
use std::path::PathBuf;

/// Paints with Stable Diffusion, with exact colors in exact places.
///
/// Without --model, a tiny embedded model paints portraits and simple scenes of 256×256 pixels, offline.
///
/// The exit status is 0 after success, 1 after an error, 2 for a wrong command line, and 130 after Ctrl-C. The studio,
/// the server for agents, and a worker end with 0 after Ctrl-C.
#[derive(Debug, Parser)]
#[command(name = "impasto", version, arg_required_else_help = true)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

/// Options of other programs that have no alias here: the options, an option that does the same, and a tip.
const OF_OTHERS: [(&[&str], &str, &str); 5] = [
    (&["--width", "--height", "-W", "-H"], "size", "--size WIDTHxHEIGHT sets the size"),
    (&["-s"], "steps", "--steps NUMBER sets the number of steps, --seed NUMBER the seed"),
    (&["-n"], "images", "--images NUMBER sets the number of pictures, --negative TEXT the negative prompt"),
    (&["--batch-count", "--batch-size", "--n-iter", "-b"], "images", "--images NUMBER sets the number of pictures"),
    (&["--prompt", "-p"], "prompts", "the prompt has no option: impasto paint \"a red boat\""),
];

impl Arguments {
    /// Reads a command line, which begins with the program. The error for an option of another program says what to use
    /// instead.
    pub fn read(words: &[OsString]) -> Result<Self, clap::Error> {
        Self::try_parse_from(words).map_err(|mut error| {
            if let Some(ContextValue::String(option)) = error.get(ContextKind::InvalidArg)
                && let Some(tip) = tip(words, option).filter(|_| error.kind() == ErrorKind::UnknownArgument)
            {
                error.remove(ContextKind::SuggestedArg);
                error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
            }
            error
        })
    }
}

/// Returns the command of a command line; `None` if the line names none.
pub fn present_command(words: &[OsString]) -> Option<clap::Command> {
    Arguments::command().find_subcommand(words.get(1)?).cloned()
}

/// Returns what to use in place of an option of another program, if the command has an option for that.
fn tip(words: &[OsString], option: &str) -> Option<&'static str> {
    let command = present_command(words)?;
    let has = |long: &str| command.get_arguments().any(|argument| argument.get_long() == Some(long));
    let (.., tip) = OF_OTHERS.iter().find(|(options, long, _)| options.contains(&option) && has(long))?;
    Some(tip)
}

/// The command to carry out.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Paints pictures of a prompt, or of a file of prompts.
    Paint(Box<Paint>),
    /// Repeats the run of a picture, unchanged or with other settings.
    Again(Box<Again>),
    /// Shows where in a picture the model attends to each word of the prompt.
    Look(Look),
    /// Describes models, files of weights, and pictures with the settings of their run.
    Info(Info),
    /// Lists the models in the cache of the Hugging Face hub.
    Models(Models),
    /// Measures how long a model takes to load, to step and to decode.
    Bench(Bench),
    /// Serves a page for painting in the browser, by default at http://127.0.0.1:7860.
    Studio(StudioArguments),
    /// Serves an agent, which paints by the Model Context Protocol over the standard input and output.
    Mcp(McpArguments),
    /// Adds a job to a queue, which workers on many machines paint.
    Submit(Box<Submit>),
    /// Lists the jobs of a queue, the latest first.
    Jobs(Jobs),
    /// Cancels jobs of a queue.
    Cancel(Cancel),
    /// Paints the jobs of a queue.
    Worker(WorkerArguments),
    /// Prints completions for a shell: impasto completions bash > ~/.local/share/bash-completion/completions/impasto
    Completions {
        /// The shell that the completions are for.
        shell: Shell,
    },
    /// Prints the man page, or writes a page for each command into a folder, where a page of
    /// the same name is replaced: impasto man ~/.local/share/man/man1
    Man {
        /// Folder for the man pages. Without a folder, the main page is printed.
        folder: Option<PathBuf>,
    },
}
