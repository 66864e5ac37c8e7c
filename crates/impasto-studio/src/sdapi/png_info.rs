//! The text about a run inside a picture, as the web UI shows it.

use crate::fields::Fields;
use crate::refusal::Refusal;
use crate::shared::Shared;
use crate::upload::Upload;
use crate::wording::Page;
use crate::work::JSON;
use axum::Json;
use axum::extract::{Request, State};
use impasto::Raster;
use impasto::pipeline::Infotext;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Keyword of the web UI's own text.
const PARAMETERS: &str = "parameters";

/// Answers with the text about a run that a picture holds, and with its fields.
pub(super) async fn png_info(State(shared): State<Arc<Shared>>, request: Request) -> Result<Json<Value>, Refusal> {
    let options = shared.options.clone();
    // Base64 has four letters for three bytes.
    let most = options.file().saturating_add(options.file() / 3).saturating_add(1024);
    let body = shared.work.read(request, JSON, most).await?;
    let read = move || {
        let picture = Fields::parse(&body.bytes)?.text("image")?;
        let picture = picture.ok_or_else(|| Refusal::field("image", "image is missing; expected a file in base64"))?;
        let file = Upload::from_base64("image", picture.trim(), &options)?.into_file();
        let texts = Raster::texts_named(&file, Infotext::KEYWORDS, options.file());
        let mut texts = texts.map_err(|error| Refusal::field("image", error.worded(&Page)))?;
        let info = Infotext::of(&texts);
        let own = texts.iter().position(|(keyword, _)| keyword == PARAMETERS).map(|at| texts.swap_remove(at).1);
        let text = own.or_else(|| Some(info.as_ref()?.to_string())).unwrap_or_default();
        let parameters = info.as_ref().map(describe).unwrap_or_default();
        let items: Map<String, Value> = texts.into_iter().map(|(name, text)| (name, text.into())).collect();
        Ok(Json(json!({ "info": text, "items": items, "parameters": parameters })))
    };
    shared.work.run(read).await
}

/// Returns the fields of a text under the web UI's names.
fn describe(info: &Infotext) -> Map<String, Value> {
    let mut fields: Map<String, Value> =
        info.fields.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect();
    if let Some((width, height)) = info.field("Size").and_then(|size| size.split_once('x')) {
        fields.insert("Size-1".into(), width.into());
        fields.insert("Size-2".into(), height.into());
    }
    fields.insert("Prompt".into(), info.prompt.clone().into());
    fields.insert("Negative prompt".into(), info.negative.clone().into());
    fields
}
