//! The request inside a PNG, beside the recipe of its run. A picture that the recipe holds too is written once.

use serde_json::{Map, Value};

/// Keyword of the text in a PNG that holds a request.
pub const KEYWORD: &str = "impasto-studio";
/// Keyword of the text in a PNG that holds the run's recipe.
pub const RECIPE: &str = "impasto";
/// Keyword of the text in a PNG that holds the report of the picture.
pub(crate) const REPORT: &str = "impasto-report";
/// Keyword of the text in a PNG that describes the run to other programs.
pub const INFOTEXT: &str = "parameters";
/// Beginning of a picture's place in the recipe, which is a JSON pointer (RFC 6901).
const PLACE: &str = "recipe:";
/// Beginning of a picture among the strings of a request or a recipe.
const PICTURE: &str = "data:image/png;base64,";

/// Fields of a request that hold a picture. Any other field is text that a user writes, and stays as it is.
pub(crate) const FIELDS: [&str; 7] = ["line_art", "strokes", "start", "mask", "map", "reference", "palette_of"];

/// Returns the fields of a request that hold a picture, with their names.
fn picture_fields(request: &mut Map<String, Value>) -> impl Iterator<Item = (&String, &mut Value)> {
    request.iter_mut().filter(|(name, _)| FIELDS.contains(&name.as_str()))
}

/// Replaces the pictures of a request that are also in `recipe` by their places there.
pub fn share_pictures(request: &mut Map<String, Value>, recipe: &Value) {
    let mut pictures = Vec::new();
    list_pictures(recipe, String::new(), &mut pictures);
    for (_, field) in picture_fields(request) {
        // Each picture is shared with one field only, as `take_pictures` takes it out of the recipe.
        if let Some(at) = pictures.iter().position(|(picture, _)| field == picture) {
            let (_, place) = pictures.swap_remove(at);
            *field = format!("{PLACE}{place}").into();
        }
    }
}

/// Lists the pictures in `value` with their places below `place`.
fn list_pictures<'a>(value: &'a Value, place: String, pictures: &mut Vec<(&'a str, String)>) {
    match value {
        Value::String(text) if text.starts_with(PICTURE) => pictures.push((text, place)),
        Value::Array(values) => {
            for (index, value) in values.iter().enumerate() {
                list_pictures(value, format!("{place}/{index}"), pictures);
            }
        }
        Value::Object(fields) => {
            for (name, value) in fields {
                let name = name.replace('~', "~0").replace('/', "~1");
                list_pictures(value, format!("{place}/{name}"), pictures);
            }
        }
        _ => {}
    }
}

/// Moves the pictures that a request shares with its run's recipe back into the request.
///
/// # Errors
/// A sentence that names a picture that the recipe does not hold.
pub fn take_pictures(request: &mut Value, recipe: Option<&str>) -> Result<(), String> {
    // The recipe is parsed for the first picture.
    let mut parsed = None;
    for (name, field) in request.as_object_mut().into_iter().flat_map(picture_fields) {
        let Some(place) = field.as_str().and_then(|text| text.strip_prefix(PLACE)) else { continue };
        let recipe: &mut Value =
            parsed.get_or_insert_with(|| recipe.and_then(|text| impasto::json::parse(text).ok()).unwrap_or_default());
        // Each picture is taken out, so that a short text cannot name one picture many times.
        let picture = recipe.pointer_mut(place).map(Value::take).filter(Value::is_string);
        *field = picture.ok_or_else(|| {
            format!("{name} is not in the file's recipe at {place}; use a file that the studio wrote")
        })?;
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn shared_pictures_return_to_their_fields() {
        let [a, b, c] = ["A", "B", "C"].map(|letter| format!("{PICTURE}{letter}"));
        let recipe = json!({ "guidances": [{ "a/b~": { "picture": a } }, { "sketch": b }] });
        let request = json!({ "prompt": "a boat", "reference": a, "start": a, "line_art": b, "mask": c, "seed": null });
        let mut shared = request.clone();
        share_pictures(shared.as_object_mut().unwrap(), &recipe);
        assert_eq!(shared.to_string().matches(&a).count(), 1, "{shared}");
        assert!(shared["line_art"] == "recipe:/guidances/1/sketch" && shared["mask"] == c, "{shared}");
        take_pictures(&mut shared, Some(&recipe.to_string())).unwrap();
        assert_eq!(shared, request);
    }

    #[test]
    fn texts_are_never_taken_for_pictures() {
        let picture = format!("{PICTURE}A");
        let recipe = json!({ "sketch": picture });
        let request = json!({ "prompt": "recipe: two eggs", "negative": picture, "live": "recipe:/sketch" });
        let mut shared = request.clone();
        share_pictures(shared.as_object_mut().unwrap(), &recipe);
        assert_eq!(shared, request);
        take_pictures(&mut shared, Some(&recipe.to_string())).unwrap();
        assert_eq!(shared, request);
    }

    #[test]
    fn every_picture_of_a_request_can_be_shared() {
        let api: Value = serde_json::from_str(crate::OPENAPI).unwrap();
        let fields = api["components"]["schemas"]["Request"]["properties"].as_object().unwrap();
        let pictures = fields.iter().filter(|(_, field)| field["anyOf"][0]["$ref"] == "#/components/schemas/Picture");
        let mut known = FIELDS;
        known.sort_unstable();
        assert_eq!(pictures.map(|(name, _)| name).collect::<Vec<_>>(), known);
    }

    #[test]
    fn picture_that_the_recipe_lacks_is_named() {
        for recipe in [None, Some("{"), Some("{}"), Some(r#"{"x": {"picture": 7}}"#)] {
            let mut request = json!({ "reference": "recipe:/x/picture" });
            let error = take_pictures(&mut request, recipe).unwrap_err();
            assert!(error.starts_with("reference is not in the file's recipe at /x/picture"), "{error}");
        }
        // A picture cannot be multiplied.
        let mut twice = json!({ "reference": "recipe:/x", "start": "recipe:/x" });
        assert!(take_pictures(&mut twice, Some(r#"{"x": "data:image/png;base64,"}"#)).is_err());
    }
}
