//! Lines of a file of prompts: jobs in JSON, whose keys are the options of `impasto paint` without dashes in front.

use clap::{Args, Command};
use impasto::job::Job;
use serde_json::Value;

/// Returns a job with the settings of a line in place of its own.
pub fn with_line(job: &Job, line: &str) -> Result<Job, String> {
    let own: Value = impasto::json::parse(line).map_err(|error| error.to_string())?;
    let Value::Object(own) = own else {
        return Err(format!("expected a JSON object such as {{\"prompt\": \"a red boat\"}}, found {own}"));
    };
    let options = Job::augment_args(Command::new("job"));
    let mut whole = serde_json::to_value(job).map_err(|error| error.to_string())?;
    if let Some(whole) = whole.as_object_mut() {
        whole.extend(own.into_iter().map(|(key, value)| (field(&options, &key).to_owned(), value)));
    }
    serde_json::from_value(whole).map_err(|error| error.to_string())
}

/// Returns the field of a job for an option. The id of an option is the name of its field. A key that is no option
/// stays as it is.
fn field<'n>(options: &'n Command, key: &'n str) -> &'n str {
    let named = options.get_arguments().find(|option| {
        let aliases = option.get_all_aliases().unwrap_or_default();
        option.get_long() == Some(key) || aliases.contains(&key)
    });
    named.map_or(key, |option| option.get_id().as_str())
}

/// Checks that a job has a prompt, or line art in its place.
pub fn check_prompt(job: &Job) -> Result<(), String> {
    if job.config.prompt.is_empty() && job.line_art.is_none() {
        return Err(
            "no prompt is given; expected a prompt, such as impasto paint \"a red boat\", or --prompts FILE".into()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_replaces_settings_and_keeps_others() {
        let mut command = Job::default();
        command.config.steps = Some(20);
        command.config.seed = Some(7);
        command.config.size = Some((256, 128).into());
        command.forces = vec!["hair=red".parse().unwrap()];
        let line = r#"{"prompt": "1girl, eyes", "seed": 9, "force": ["eyes=gold"], "best-of": 2, "cfg": 3, "sketch": "a.png"}"#;
        let job = with_line(&command, line).unwrap();
        assert_eq!((job.config.prompt.as_str(), job.config.seed), ("1girl, eyes", Some(9)));
        assert_eq!((job.config.steps, job.config.best_of, job.config.guidance_scale), (Some(20), 2, Some(3.0)));
        assert_eq!((job.config.size, job.forces), (command.config.size, vec!["eyes=gold".parse().unwrap()]));
        assert_eq!(job.line_art, Some("a.png".parse().unwrap()));
    }

    #[test]
    fn every_option_is_a_field() {
        let whole = serde_json::to_value(Job::default()).unwrap();
        let options = Job::augment_args(Command::new("job"));
        // Empty values of these fields are not written.
        let left_out = ["details", "third_prompt", "third_negative"];
        for id in options.get_arguments().map(|option| option.get_id().as_str()) {
            assert!(whole.get(id).is_some() || left_out.contains(&id), "{id}");
        }
    }

    #[test]
    fn wrong_line_names_the_fault() {
        let error = |line| with_line(&Job::default(), line).unwrap_err();
        assert!(error(r#"{"sed": 7}"#).contains("unknown field `sed`"));
        assert!(error(r#"["a red boat"]"#).contains("expected a JSON object"));
        assert!(check_prompt(&with_line(&Job::default(), "{}").unwrap()).unwrap_err().contains("no prompt is given"));
    }
}
