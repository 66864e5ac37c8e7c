//! Requests in the forms of other programs' APIs, as the studio reads them.

use impasto_studio::{JobRequest, Options, Restored};

/// Memory in bytes that reading a request may take: for the values of its JSON, several copies of its texts, and the
/// pixels of its pictures.
const MOST: u64 = 96 << 20;
/// Type of the forms.
const FORM: &str = "multipart/form-data; boundary=form";

/// Reads the body of a request, and checks what comes of it.
fn read(parse: impl FnOnce(&Options) -> Result<Restored, String>) {
    let options = Options { body: 1 << 20, side: 256, ..Options::default() };
    let work = allocation_counter::measure(|| match parse(&options) {
        Ok(Restored { request, .. }) => {
            let config = &request.job.config;
            assert!(config.prompt.len() <= 4096 && config.images <= 4 && request.job.paths().is_empty(), "{request:?}");
        }
        Err(sentence) => assert!(!sentence.is_empty()),
    });
    assert!(work.bytes_max <= MOST, "{work:?}");
}

/// A body of `/sdapi/v1/txt2img`.
pub fn txt2img(data: &[u8]) {
    read(|options| JobRequest::from_txt2img(data, options));
}

/// A body of `/sdapi/v1/img2img`.
pub fn img2img(data: &[u8]) {
    read(|options| JobRequest::from_img2img(data, options));
}

/// A body of `/v1/images/generations`.
pub fn generations(data: &[u8]) {
    read(|options| JobRequest::from_generations(data, options));
}

/// A body of `/v1/images/edits` with the boundary `form`.
pub fn edits(data: &[u8]) {
    read(|options| JobRequest::from_edits(FORM, data, options));
}
