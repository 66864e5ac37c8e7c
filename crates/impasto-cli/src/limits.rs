//! [`Limits`]: the limits of a server's runs, or a worker's.

use clap::Args;
use impasto_studio::Options;
use std::time::Duration;

/// The limits of a server's runs, or a worker's.
#[derive(Args, Clone, Copy, Debug)]
pub struct Limits {
    /// Largest width and height of a picture in pixels; larger ones are refused. The default is twice the longest side
    /// of the pictures of the model in use, and at least 1024.
    #[arg(long, value_name = "PIXELS")]
    side: Option<u32>,
    /// Time in seconds after which a run ends with an error.
    #[arg(long, value_name = "SECONDS", default_value_t = 3600, value_parser = clap::value_parser!(u64).range(1..))]
    time_limit: u64,
}

impl Limits {
    /// Returns options with these limits. Without `--side`, the largest side grows with the model in use.
    pub fn options(&self) -> Options {
        let options = Options::default();
        let (side, side_grows) = (self.side.unwrap_or(options.side), self.side.is_none());
        Options { side, side_grows, run: Duration::from_secs(self.time_limit), ..options }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::arguments::Arguments;
    use clap::{CommandFactory, Parser};

    #[derive(Debug, Parser)]
    struct Alone {
        #[command(flatten)]
        limits: Limits,
    }

    /// Returns the options by these words.
    fn options(words: &[&str]) -> Options {
        let Alone { limits } = Alone::parse_from([&["impasto"], words].concat());
        limits.options()
    }

    #[test]
    fn side_grows_with_the_model_unless_it_is_given() {
        let side = |words: &[&str]| (options(words).side, options(words).side_grows);
        assert_eq!(side(&[]), (1024, true));
        assert_eq!(side(&["--side", "512"]), (512, false));
    }

    #[test]
    fn time_limit_is_an_hour_unless_it_is_given() {
        let hour = Duration::from_secs(3600);
        assert_eq!((options(&[]).run, Options::default().run), (hour, hour));
        assert_eq!(options(&["--time-limit", "7"]).run, Duration::from_secs(7));
        assert!(Alone::try_parse_from(["impasto", "--time-limit", "0"]).is_err());
    }

    #[test]
    fn servers_and_workers_have_both_limits() {
        for name in ["studio", "mcp", "worker"] {
            let command = Arguments::command().find_subcommand(name).unwrap().clone();
            for option in ["side", "time-limit"] {
                let has = command.get_arguments().any(|argument| argument.get_long() == Some(option));
                assert!(has, "impasto {name} has no --{option}");
            }
        }
    }
}
