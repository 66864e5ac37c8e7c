//! [`Refusal`]: an answer that says why a request is refused.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use impasto::wording::shortened;
use serde_json::json;

/// An answer with a status of 400 or more, and a sentence that says what is wrong and what to do.
#[derive(Clone, Debug)]
pub struct Refusal {
    pub status: StatusCode,
    pub sentence: String,
    /// Field of the request that is wrong, where it is known.
    pub field: Option<&'static str>,
}

impl Refusal {
    /// Refuses a request. The middle of a long sentence is left out, because it quotes the request.
    pub fn new(status: StatusCode, sentence: impl Into<String>) -> Self {
        Self { status, sentence: shortened(&sentence.into()).into_owned(), field: None }
    }

    /// The request is wrong.
    pub fn wrong(sentence: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, sentence)
    }

    /// The value of a field is wrong.
    pub fn field(field: &'static str, sentence: impl Into<String>) -> Self {
        Self { field: Some(field), ..Self::wrong(sentence) }
    }

    /// The request has more than `limit` bytes.
    pub fn too_large(limit: usize) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the request is too large; expected at most {limit} bytes"))
    }

    /// No job has the number `id`.
    pub fn no_job(id: u64) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            format!(
                "job {id} is not known; the studio forgets the oldest jobs when there are many, or large ones; submit the \
                 request again"
            ),
        )
    }
}

/// Makes the answer in the form of the studio's own API. The refusal is an extension of the answer, from which another
/// API's form can be made.
impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(json!({ "error": self.sentence }))).into_response();
        if [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE].contains(&self.status) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response.extensions_mut().insert(self);
        response
    }
}
