//! Refusals as OpenAI describes an error.

use crate::refusal::Refusal;
use axum::http::StatusCode;
use serde_json::{Value, json};

/// Describes a refusal as OpenAI describes an error.
pub(crate) fn describe_refusal(refusal: &Refusal) -> Value {
    let (kind, code) = match refusal.status {
        StatusCode::UNAUTHORIZED => ("invalid_request_error", Some("invalid_api_key")),
        StatusCode::TOO_MANY_REQUESTS => ("requests", Some("rate_limit_exceeded")),
        status if status.is_server_error() => ("server_error", None),
        _ => ("invalid_request_error", None),
    };
    json!({ "error": { "message": refusal.sentence, "type": kind, "param": refusal.field, "code": code } })
}
