//! The page: static files inside the program.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// Content policy of the page: everything comes from the studio itself, and no other page can show it in a frame.
const POLICY: &str =
    "default-src 'self'; img-src 'self' data: blob:; style-src 'self'; frame-ancestors 'none'; base-uri 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Lists files of the folder `page`, each with its path and type.
macro_rules! files {
    ($($name:literal: $kind:expr),* $(,)?) => {
        &[$((concat!("/", $name), $kind, include_str!(concat!("../page/", $name)))),*]
    };
}

/// The files by their paths, with their types.
const FILES: &[(&str, &str, &str)] = files! {
    "index.html": HTML,
    "studio.css": CSS,
    "api.js": SCRIPT,
    "areas.js": SCRIPT,
    "canvas.js": SCRIPT,
    "color.js": SCRIPT,
    "compare.js": SCRIPT,
    "database.js": SCRIPT,
    "dom.js": SCRIPT,
    "download.js": SCRIPT,
    "draft.js": SCRIPT,
    "drawing.js": SCRIPT,
    "exif.js": SCRIPT,
    "figures.js": SCRIPT,
    "followed.js": SCRIPT,
    "gallery.js": SCRIPT,
    "grid.js": SCRIPT,
    "history.js": SCRIPT,
    "infotext.js": SCRIPT,
    "jobs.js": SCRIPT,
    "keypen.js": SCRIPT,
    "layers.js": SCRIPT,
    "lines.js": SCRIPT,
    "loras.js": SCRIPT,
    "messages.js": SCRIPT,
    "models.js": SCRIPT,
    "more.js": SCRIPT,
    "numbers.js": SCRIPT,
    "past.js": SCRIPT,
    "picture.js": SCRIPT,
    "pictures.js": SCRIPT,
    "plots.js": SCRIPT,
    "progress.js": SCRIPT,
    "prompt.js": SCRIPT,
    "recall.js": SCRIPT,
    "report.js": SCRIPT,
    "runs.js": SCRIPT,
    "saved.js": SCRIPT,
    "seed.js": SCRIPT,
    "settings.js": SCRIPT,
    "shortcuts.js": SCRIPT,
    "stroke.js": SCRIPT,
    "studio.js": SCRIPT,
    "tabs.js": SCRIPT,
    "theme.js": SCRIPT,
    "timeleft.js": SCRIPT,
    "toolbar.js": SCRIPT,
    "undo.js": SCRIPT,
    "vocabulary.js": SCRIPT,
    "zoom.js": SCRIPT,
};

/// Answers with a file of the page.
pub fn file(path: &str) -> Response {
    let path = if path == "/" { "/index.html" } else { path };
    match FILES.iter().find(|(known, ..)| *known == path) {
        Some((_, kind, text)) => {
            let headers = [
                (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
                (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
                (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
                (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
                (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
            ];
            (headers, *text).into_response()
        }
        None => {
            let sentence = format!("{path} is not a page of the studio; the API is described at /api/openapi.json");
            crate::refusal::Refusal::new(StatusCode::NOT_FOUND, sentence).into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use impasto::Source;

    #[test]
    fn words_are_shown_for_all_embedded_painters() {
        let script = FILES.iter().find(|(name, ..)| *name == "/vocabulary.js").map_or("", |(.., text)| *text);
        let models = script.lines().find(|line| line.starts_with("const MODELS")).unwrap_or_default();
        for model in [Source::embedded(), Source::embedded_fast(), Source::embedded_flow()] {
            assert!(models.contains(&format!("\"{model}\"")), "{model} is not in {models}");
        }
        assert!(!models.contains(&Source::embedded_colorizer().to_string()), "{models}");
    }
}
