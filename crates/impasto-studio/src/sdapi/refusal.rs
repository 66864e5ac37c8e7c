//! Refusals as the web UI describes an error.

use crate::refusal::Refusal;
use serde_json::{Value, json};

/// Describes a refusal as the web UI describes an error.
pub(crate) fn describe_refusal(refusal: &Refusal) -> Value {
    let Refusal { status, sentence, .. } = refusal;
    let name = status.canonical_reason().unwrap_or_default();
    json!({ "error": name, "detail": sentence, "body": "", "errors": sentence })
}
