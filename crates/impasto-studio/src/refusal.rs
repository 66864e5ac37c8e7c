//! [`Refusal`]: an answer that says why a request is refused.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// An answer with a status of 400 or more, and a sentence that says what is wrong and what to do.
#[derive(Debug)]
pub struct Refusal {
    status: StatusCode,
    sentence: String,
}

/// Number of letters at the start and at the end of a sentence that are always shown.
const SHOWN: (usize, usize) = (150, 350);

impl Refusal {
    /// Refuses a request. The middle of a long sentence is left out, because it quotes the request.
    pub fn new(status: StatusCode, sentence: impl Into<String>) -> Self {
        let mut sentence = sentence.into();
        let cut = |number: usize| sentence.char_indices().nth(number).map(|(at, _)| at);
        if let (Some(start), Some(_)) = (cut(SHOWN.0), cut(SHOWN.0 + SHOWN.1)) {
            let end = sentence.char_indices().rev().nth(SHOWN.1 - 1).map_or(0, |(at, _)| at);
            sentence.replace_range(start..end, "…");
        }
        Self { status, sentence }
    }

    /// The request is wrong.
    pub fn wrong(sentence: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, sentence)
    }

    /// The request has more than `limit` bytes.
    pub fn too_large(limit: usize) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the request is too large; expected at most {limit} bytes"))
    }

    /// No job has the number `id`.
    pub fn no_job(id: u64) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("job {id} is not known; only the latest jobs are kept"))
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(json!({ "error": self.sentence }))).into_response();
        if [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE].contains(&self.status) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_quote_few_letters() {
        let long = Refusal::wrong(format!("unknown field `{}`, expected `prompt`", "猫".repeat(1 << 20))).sentence;
        assert!(long.starts_with("unknown field `猫") && long.ends_with("猫`, expected `prompt`"), "{long}");
        assert_eq!(long.chars().count(), 501);
        for length in [0, 500] {
            let sentence = "é".repeat(length);
            assert_eq!(Refusal::wrong(sentence.clone()).sentence, sentence);
        }
    }
}
