//! The arguments that clients of stable-diffusion.cpp write into a prompt.
//!
//! Source: `examples/common` and `examples/server` of stable-diffusion.cpp.

use crate::fields::Fields;
use crate::refusal::Refusal;
use impasto::diffusion::solver;
use serde_json::{Map, Value};

/// Beginning and end of the arguments, which are a JSON object.
const TAGS: [&str; 2] = ["<sd_cpp_extra_args>", "</sd_cpp_extra_args>"];

/// Takes the arguments out of a prompt, adds them to a job, and returns the rest of the prompt.
///
/// # Errors
/// A refusal of arguments that are no JSON object, or of a value of another type.
pub(super) fn take(prompt: &str, job: &mut Map<String, Value>, notes: &mut Vec<String>) -> Result<String, Refusal> {
    let parts = prompt.split_once(TAGS[0]).and_then(|(before, rest)| Some((before, rest.split_once(TAGS[1])?)));
    let Some((before, (arguments, after))) = parts else { return Ok(prompt.to_owned()) };
    let wrong = |refusal: Refusal| Refusal::field("prompt", format!("sd_cpp_extra_args: {}", refusal.sentence));
    let mut fields = Fields::parse(arguments.as_bytes()).map_err(wrong)?;
    let mut sample = fields.part("sample_params")?;
    let mut guidance = sample.part("guidance")?;
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            job.insert(name.into(), value);
        }
    };
    put("negative", fields.text("negative_prompt")?.map(Value::from));
    for (name, field) in [("seed", "seed"), ("width", "width"), ("height", "height")] {
        put(name, fields.whole(field)?.map(Value::from));
    }
    put("strength", fields.number("strength")?.map(Value::from));
    let steps = sample.whole("sample_steps")?;
    put("steps", steps.or(fields.whole("sample_steps")?).or(fields.whole("steps")?).map(Value::from));
    let scale = guidance.number("txt_cfg")?;
    put("guidance_scale", scale.or(fields.number("cfg_scale")?).map(Value::from));
    let method = sample.word("sample_method")?.or(fields.word("sample_method")?);
    let scheduler = sample.word("scheduler")?.or(fields.word("scheduler")?).filter(|name| name != "discrete");
    if let Some(method) = method {
        // The names there have no space in DPM++2M.
        let sampler = method.replace("dpm++", "dpm++ ");
        let spaced = scheduler.as_ref().map(|scheduler| format!("{sampler} {scheduler}"));
        let known = spaced.filter(|name| solver::by_name(name).is_ok());
        if known.is_none() {
            notes.extend(scheduler.map(|name| format!("the scheduler {name:?} is not known, and is not used")));
        }
        put("sampler", Some(known.unwrap_or(sampler).into()));
    } else if let Some(scheduler) = scheduler {
        notes.push(format!("the scheduler {scheduler:?} is not used without a sample_method"));
    }
    let others: Vec<&str> = fields.names().chain(sample.names()).chain(guidance.names()).collect();
    if !others.is_empty() {
        notes.push(format!("these sd_cpp_extra_args are not used: {}", others.join(", ")));
    }
    Ok(format!("{}{after}", before.trim_end()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use serde_json::json;

    fn taken(arguments: &str) -> Result<(String, Value, Vec<String>), Refusal> {
        let (mut job, mut notes) = (Map::new(), Vec::new());
        let prompt = format!("a fox <sd_cpp_extra_args>{arguments}</sd_cpp_extra_args>");
        let prompt = take(&prompt, &mut job, &mut notes)?;
        Ok((prompt, job.into(), notes))
    }

    #[test]
    fn arguments_become_fields_of_a_job() {
        let arguments = json!({
            "seed": 7, "negative_prompt": "blurry", "clip_skip": 2,
            "sample_params": {
                "sample_steps": 8, "sample_method": "dpm++2m", "scheduler": "karras", "guidance": { "txt_cfg": 1.0 },
            },
        });
        let (prompt, job, notes) = taken(&arguments.to_string()).unwrap();
        let expected = json!({
            "seed": 7, "negative": "blurry", "steps": 8, "sampler": "dpm++ 2m karras", "guidance_scale": 1.0,
        });
        assert_eq!((prompt.as_str(), job), ("a fox", expected));
        assert_eq!(notes, ["these sd_cpp_extra_args are not used: clip_skip"]);
        let (_, job, notes) = taken(r#"{"steps": 4, "sample_method": "euler_a", "scheduler": "gits"}"#).unwrap();
        assert_eq!((&job["sampler"], &job["steps"]), (&json!("euler_a"), &json!(4)));
        assert!(notes[0].contains("gits"), "{notes:?}");
    }

    #[test]
    fn broken_arguments_are_named() {
        assert!(taken("{").unwrap_err().sentence.starts_with("sd_cpp_extra_args: "));
        assert!(taken(r#"{"steps": "many"}"#).unwrap_err().sentence.contains("steps is \"many\""));
        let (mut job, mut notes) = (Map::new(), Vec::new());
        let open = "a <sd_cpp_extra_args>{}";
        assert_eq!(take(open, &mut job, &mut notes).unwrap(), open);
    }
}
