//! A request for pictures from a prompt.

use super::common::{self, Wishes};
use crate::fields::Fields;
use crate::options::Options;
use crate::order::Order;
use crate::refusal::Refusal;
use crate::request::{JobRequest, Restored};
use serde_json::Map;

/// Reads a request.
///
/// # Errors
/// A refusal that names the field, its value and what is expected.
pub(super) fn read(body: &[u8], options: &Options) -> Result<(Order, Wishes), Refusal> {
    let mut fields = Fields::parse(body)?;
    let (mut job, mut notes) = (Map::new(), Vec::new());
    let wishes = common::take(&mut fields, &mut job, &mut notes)?;
    if job.remove("strength").is_some() {
        notes.push("strength is not used without a picture".into());
    }
    common::take_own(&mut fields, &mut job)?;
    common::take_unused(&mut fields, &mut notes);
    Ok((Order::read(job, notes, options)?, wishes))
}

impl JobRequest {
    /// Reads the body of `/v1/images/generations`, a request of OpenAI's API. Notes tell what the request does not
    /// have.
    ///
    /// # Errors
    /// A sentence that names the field, its value, and what is expected.
    pub fn from_generations(body: &[u8], options: &Options) -> Result<Restored, String> {
        read(body, options).map(|(order, _)| order.restored()).map_err(|refusal| refusal.sentence)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use impasto::Size;
    use serde_json::{Value, json};

    fn read(body: Value) -> Result<Restored, String> {
        JobRequest::from_generations(body.to_string().as_bytes(), &Options::default())
    }

    #[test]
    fn fields_become_those_of_a_job() {
        let body = json!({
            "prompt": "1girl, #ffd700 eyes", "n": 2, "size": "64x96", "seed": 7, "quality": "auto", "user": "me",
            "impasto": { "steps": 4, "forces": ["eyes=gold"] }, "style": "vivid", "temperature": 1,
        });
        let Restored { request, notes } = read(body).unwrap();
        let config = &request.job.config;
        assert_eq!((config.prompt.as_str(), config.images, config.seed), ("1girl, #ffd700 eyes", 2, Some(7)));
        assert_eq!((config.size, config.steps, request.job.forces.len()), (Some(Size::new(64, 96)), Some(4), 1));
        assert_eq!(notes, ["these fields are not used: style", "these fields are not known: temperature"]);
        let tagged = json!({ "prompt": "a<sd_cpp_extra_args>{\"steps\": 3, \"strength\": 0.5}</sd_cpp_extra_args>" });
        let Restored { request, notes } = read(tagged).unwrap();
        assert_eq!((request.job.config.prompt.as_str(), request.job.config.steps), ("a", Some(3)));
        assert_eq!(notes, ["strength is not used without a picture"]);
        assert_eq!(read(json!({ "prompt": "a", "size": "auto" })).unwrap().request.job.config.size, None);
    }

    #[test]
    fn wrong_fields_are_named() {
        for (body, words) in [
            (json!({}), "prompt is missing"),
            (json!({ "prompt": "a", "size": "wide" }), "size is \"wide\"; expected WIDTHxHEIGHT"),
            (json!({ "prompt": "a", "n": 99 }), "Pictures is 99; expected 1 to 4"),
            (json!({ "prompt": "a", "response_format": "file" }), "expected b64_json or url"),
            (json!({ "prompt": "a", "output_format": "gif" }), "expected png, jpeg or webp"),
            (json!({ "prompt": "a", "output_compression": 101 }), "output_compression is 101"),
            (json!({ "prompt": "a", "partial_images": 4 }), "partial_images is 4; expected 0 to 3"),
            (json!({ "prompt": "a", "impasto": [] }), "impasto: no object"),
            (json!({ "prompt": "a", "impasto": { "sed": 1 } }), "did you mean `seed`?"),
        ] {
            let error = read(body).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}
