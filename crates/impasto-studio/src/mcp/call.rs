//! Calls of the tools that paint, as jobs of the studio.

use super::pictures::Pictures;
use super::tools::Kind;
use super::words::Agent;
use crate::options::Options;
use crate::queue::{Api, Submission};
use crate::refusal::Refusal;
use crate::request::JobRequest;
use serde_json::{Map, Value, json};

/// Reads the arguments of a call as a job for the queue.
///
/// # Errors
/// A refusal that names the field, its value and what is expected.
pub(super) fn read(
    kind: Kind,
    mut job: Map<String, Value>,
    pictures: &Pictures,
    options: &Options,
) -> Result<Submission, Refusal> {
    if job.contains_key("live") {
        return Err(Refusal::field("live", "live is given; expected none, because it is no field of this tool"));
    }
    if let Some(forces) = job.get_mut("forces") {
        list_forces(forces);
    }
    let has = |name: &str| job.get(name).is_some_and(|value| !value.is_null() && *value != json!([]));
    if let Some(missing) = kind.required().iter().find(|name| !has(name)) {
        return Err(Refusal::field(missing, format!("{missing} is missing; {} needs it", kind.name())));
    }
    pictures.fill_in(&mut job)?;
    let json = serde_json::to_vec(&job).map_err(|error| Refusal::wrong(error.to_string()))?;
    let request = JobRequest::read_worded(job.into(), options, &Agent).map_err(Refusal::wrong)?;
    Ok(Submission { json, prompt: request.job.config.prompt, api: Api::Mcp, ..Submission::default() })
}

/// Turns colors by phrase into the list of forces that a job has.
fn list_forces(forces: &mut Value) {
    if let Value::Object(colors) = forces {
        let colors = std::mem::take(colors).into_iter();
        *forces = colors.map(|(phrase, color)| json!({ "phrase": phrase, "color": color })).collect();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::queue::Queue;
    use impasto::job::{Force, Job};
    use impasto::{Raster, Rgb};
    use std::sync::Arc;

    fn submit(kind: Kind, arguments: Value) -> Result<Submission, String> {
        let options = Options::default();
        let pictures = Pictures::new(Arc::new(Queue::new(&options)), options.clone(), Vec::new()).unwrap();
        let Value::Object(arguments) = arguments else { return Err("no object".into()) };
        read(kind, arguments, &pictures, &options).map_err(|refusal| refusal.sentence)
    }

    #[test]
    fn colors_by_phrase_become_forces() {
        let colors = json!({ "prompt": "1girl, hair bow", "forces": { "hair bow": "gold" } });
        let submission = submit(Kind::PaintExact, colors).unwrap();
        let job: Job = serde_json::from_slice(&submission.json).unwrap();
        assert_eq!(job.forces, [Force { phrase: "hair bow".into(), color: Rgb(255, 215, 0) }]);
        assert!(submission.api == Api::Mcp && submission.prompt == "1girl, hair bow");
    }

    #[test]
    fn repaint_starts_from_a_picture_by_value() {
        let jpeg = {
            let mut file = std::io::Cursor::new(Vec::new());
            let picture = impasto::image::DynamicImage::from(Raster::flat(Rgb(9, 8, 7), (64, 64)));
            picture.write_to(&mut file, impasto::image::ImageFormat::Jpeg).unwrap();
            use base64::Engine;
            format!("data:image/jpeg;base64,{}", base64::prelude::BASE64_STANDARD.encode(file.into_inner()))
        };
        let call = json!({ "start": jpeg, "prompt": "a boat", "mask_where": "boat", "forces": {} });
        let job: Job = serde_json::from_slice(&submit(Kind::Repaint, call).unwrap().json).unwrap();
        assert_eq!(job.start.unwrap().open().unwrap().size(), (64, 64).into());
        assert_eq!(job.config.mask_where.unwrap().phrase, "boat");
    }

    #[test]
    fn unfit_arguments_are_named_in_fields() {
        let refused = |kind, arguments| submit(kind, arguments).unwrap_err();
        assert_eq!(refused(Kind::Paint, json!({})), "prompt is missing; paint needs it");
        assert_eq!(
            refused(Kind::PaintExact, json!({ "prompt": "a", "forces": {} })),
            "forces is missing; paint_exact needs it"
        );
        assert_eq!(refused(Kind::Repaint, json!({ "prompt": "a" })), "start is missing; repaint needs it");
        assert_eq!(refused(Kind::Paint, json!({ "prompt": "a", "steps": 0 })), "steps is 0; expected 1 to 150");
        assert!(refused(Kind::Paint, json!({ "prompt": "a", "sed": 7 })).contains("did you mean `seed`?"));
        assert!(refused(Kind::Paint, json!({ "prompt": "a", "until": 0.5 })).contains("until is given"));
        assert!(refused(Kind::Paint, json!({ "prompt": "a", "live": "x" })).starts_with("live is given"));
        assert!(refused(Kind::Paint, json!({ "prompt": "a", "sampler": "Eulr" })).starts_with("sampler \"Eulr\""));
        let shiny = json!({ "prompt": "a hat", "forces": { "hat": "shiny" } });
        assert!(refused(Kind::PaintExact, shiny).contains("shiny"));
        let guided = refused(Kind::Paint, json!({ "prompt": "a", "guiders": ["pog"] }));
        assert!(guided.contains("guiders is \"pog\"") && !guided.contains("Kinds of guidance"), "{guided}");
        let followed = json!({ "prompt": "a", "controls": ["embedded=/etc/passwd"] });
        assert!(refused(Kind::Paint, followed).starts_with("controls is no picture"));
    }
}
