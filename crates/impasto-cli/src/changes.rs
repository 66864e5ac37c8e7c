//! [`Changes`]: settings that replace those of a picture.

use crate::failure::Failure;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};
use impasto::job::Job;
use impasto::pipeline::{Request, RequestConfig};
use serde_json::{Map, Value};

/// Settings of a request that the command line gives. They replace those of a picture.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    config: RequestConfig,
    /// The fields of `config` that the command line gives.
    given: Map<String, Value>,
}

impl Changes {
    /// Returns true if nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.given.is_empty()
    }

    /// Checks that each setting is in its range.
    pub fn check(&self) -> Result<(), Failure> {
        if self.given.contains_key("images") {
            return Err(Failure::CommandLine(
                "--images is given; a picture is repeated in the batch of its run".into(),
            ));
        }
        // Whether a mask or a picture to start from is there, the request of the picture knows.
        let mut job = Job::default();
        job.config = self.config.clone();
        job.config.mask_where = None;
        job.config.soften = None;
        job.config.feather = None;
        job.config.keep_colors = false;
        job.check().map_err(Failure::of_command_line)
    }

    /// Changes the request of the picture at index `image` of its batch.
    pub fn change<'p>(&self, request: Request<'p>, image: usize) -> Result<Request<'p>, Failure> {
        let mut changed = Ok(());
        let request = request.tune(|config| changed = self.merge(config, image));
        changed.map_err(|error| Failure::Message(error.to_string()))?;
        Ok(match &self.config.solver_named {
            Some(sampler) => request.solver_named(sampler),
            None => request,
        })
    }

    fn merge(&self, config: &mut RequestConfig, image: usize) -> serde_json::Result<()> {
        let mut whole = serde_json::to_value(&*config)?;
        if let Some(whole) = whole.as_object_mut() {
            whole.extend(self.given.clone());
        }
        *config = serde_json::from_value(whole)?;
        if self.given.contains_key("seed") {
            // The seed of the batch's first picture.
            config.seed = self.config.seed.map(|seed| seed.wrapping_sub(image as u64));
        }
        Ok(())
    }
}

/// The options of a request's settings. The prompt is an option too, because the picture has its place.
fn options() -> Vec<Arg> {
    let changed = |option: &Arg| {
        let option = option.clone().help_heading("Changes");
        if option.get_id() == "prompt" { option.long("prompt").index(None).value_name("TEXT") } else { option }
    };
    RequestConfig::augment_args(Command::new("changes")).get_arguments().map(changed).collect()
}

impl Args for Changes {
    fn augment_args(command: Command) -> Command {
        command.args(options())
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Changes {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let config = RequestConfig::from_arg_matches(matches)?;
        let Ok(Value::Object(whole)) = serde_json::to_value(&config) else {
            return Err(clap::Error::raw(clap::error::ErrorKind::InvalidValue, "a setting cannot be repeated"));
        };
        let is_given = |(name, _): &(String, Value)| matches.value_source(name) == Some(ValueSource::CommandLine);
        let options = options();
        let known = |(name, _): &(String, Value)| options.iter().any(|option| option.get_id() == name.as_str());
        Ok(Self { given: whole.into_iter().filter(known).filter(is_given).collect(), config })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
