//! The request inside a picture, as the studio reads it.

use impasto::{Raster, Rgb};
use impasto_studio::{JobRequest, Options, Restored};

/// Memory in bytes that reading a request may take: for the values of its JSON, several copies of its texts, and the
/// pixels of its pictures.
const MOST: u64 = 96 << 20;

/// A PNG, JPEG or WebP; or, if it does not begin as one, the text that a PNG holds: a request of the studio, or else a
/// text of the web UI. A zero byte separates a request from the recipe beside it.
pub fn request(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (first, recipe) = text.split_once('\0').unwrap_or((&text, "{}"));
    let keyword = if first.starts_with('{') { "impasto-studio" } else { "parameters" };
    let own = Raster::flat(Rgb(1, 2, 3), (8, 8)).to_png(&[(keyword, first), ("impasto", recipe)]).expect("a PNG");
    let is_picture = [&b"\x89PNG"[..], b"\xff\xd8\xff", b"RIFF"].iter().any(|start| data.starts_with(start));
    let picture = if is_picture { data } else { &own };
    let options = Options { body: 1 << 20, side: 256, ..Options::default() };
    let work = allocation_counter::measure(|| {
        if let Ok(Restored { request, .. }) = JobRequest::from_picture(picture, &options) {
            assert!(request.job.config.prompt.len() <= 4096 && request.job.areas.len() <= 16, "{request:?}");
        }
    });
    assert!(work.bytes_max <= MOST, "{work:?}");
}
