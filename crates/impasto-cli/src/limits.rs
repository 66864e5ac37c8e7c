//! [`Limits`]: the limits of a server's runs, or a worker's.

use clap::Args;
use impasto::model::Defaults;
use impasto_studio::Options;
use std::time::Duration;

/// The limits of a server's runs, or a worker's.
#[derive(Args, Clone, Copy, Debug)]
pub struct Limits {
    /// Largest width and height of a picture in pixels; larger ones are refused. The default is twice the longest side
    /// of the model's own pictures, and at least 1024.
    #[arg(long, value_name = "PIXELS")]
    side: Option<u32>,
    /// Time in seconds after which a run ends with an error.
    #[arg(long, value_name = "SECONDS", default_value_t = 3600, value_parser = clap::value_parser!(u64).range(1..))]
    time_limit: u64,
}

impl Limits {
    /// Returns options with these limits, for a program that starts with a model of the given defaults.
    pub fn options(&self, model: Defaults) -> Options {
        let options = Options::default();
        let twice = model.width.max(model.height).saturating_mul(2);
        let side = self.side.unwrap_or_else(|| options.side.max(twice));
        Options { side, run: Duration::from_secs(self.time_limit), ..options }
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

    /// Returns the options by these words for a model of pictures of this size.
    fn options(words: &[&str], width: u32, height: u32) -> Options {
        let Alone { limits } = Alone::parse_from([&["impasto"], words].concat());
        limits.options(Defaults::new(width, height, 7.5))
    }

    #[test]
    fn side_grows_with_the_model_unless_it_is_given() {
        assert_eq!(options(&[], 256, 256).side, 1024);
        assert_eq!(options(&[], 832, 1216).side, 2432);
        assert_eq!(options(&["--side", "512"], 1024, 1024).side, 512);
    }

    #[test]
    fn time_limit_is_an_hour_unless_it_is_given() {
        let hour = Duration::from_secs(3600);
        assert_eq!((options(&[], 256, 256).run, Options::default().run), (hour, hour));
        assert_eq!(options(&["--time-limit", "7"], 256, 256).run, Duration::from_secs(7));
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
