//! Refusals in the form of the API that a request was for.

use crate::refusal::Refusal;
use crate::{openai, sdapi};
use axum::body::Body;
use axum::extract::Request;
use axum::http::header;
use axum::middleware::Next;
use axum::response::Response;
use serde_json::Value;

/// A form of refusals: the body of the answer.
type Form = fn(&Refusal) -> Value;

/// Beginnings of the paths of other programs' APIs, and the form of their refusals.
const FORMS: [(&str, Form); 2] = [("/sdapi/", sdapi::describe_refusal), ("/v1/", openai::describe_refusal)];

/// Gives a refusal the form of the API that the request was for.
pub(crate) async fn translate(request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let form = FORMS.iter().find(|(beginning, _)| path.starts_with(beginning)).map(|(_, form)| *form);
    let mut response = next.run(request).await;
    let (Some(form), Some(refusal)) = (form, response.extensions_mut().remove::<Refusal>()) else { return response };
    let (mut parts, _) = response.into_parts();
    parts.headers.remove(header::CONTENT_LENGTH); // of the other form
    Response::from_parts(parts, Body::from(form(&refusal).to_string()))
}
