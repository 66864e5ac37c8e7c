//! OpenAI's API for images, as its clients use it.

use crate::running::{Answer, Running};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use impasto::image::ImageFormat;
use impasto::raster::Layer;
use impasto::{Raster, Rgb};
use impasto_studio::Options;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Posts a small request for pictures.
fn generate(studio: &Running, more: Value) -> Answer {
    let mut body = json!({ "prompt": "1girl, hair", "size": "64x64", "seed": 7, "impasto": { "steps": 2 } });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    studio.post("/v1/images/generations", "application/json", body.to_string().as_bytes())
}

/// The body of a form. Fields with the names of pictures are files.
fn form(parts: &[(&str, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, bytes) in parts {
        let file = if ["image", "image[]", "mask"].contains(name) { "; filename=\"a.png\"" } else { "" };
        body.extend(format!("--form\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n").into_bytes());
        body.extend(*bytes);
        body.extend(b"\r\n");
    }
    body.extend(b"--form--\r\n");
    body
}

fn edit(studio: &Running, parts: &[(&str, &[u8])]) -> Answer {
    studio.post("/v1/images/edits", "multipart/form-data; boundary=form", &form(parts))
}

fn file(answer: &Value, index: usize) -> Vec<u8> {
    BASE64_STANDARD.decode(answer["data"][index]["b64_json"].as_str().unwrap_or_else(|| panic!("{answer}"))).unwrap()
}

fn picture(file: &[u8]) -> Raster {
    impasto::image::load_from_memory(file).unwrap().into()
}

/// The events of a stream: names and data.
fn events(studio: &Running, path: &str, kind: &str, body: &[u8]) -> Vec<(String, Value)> {
    let response = ureq::post(&studio.url(path)).set("content-type", kind).send_bytes(body).unwrap();
    assert_eq!(response.content_type(), "text/event-stream");
    let (mut events, mut name) = (Vec::new(), String::new());
    for line in BufReader::new(response.into_reader()).lines() {
        let line = line.unwrap();
        if let Some(named) = line.strip_prefix("event: ") {
            name = named.to_owned();
        } else if let Some(data) = line.strip_prefix("data: ") {
            events.push((std::mem::take(&mut name), serde_json::from_str(data).unwrap()));
        }
    }
    events
}

#[test]
fn answer_has_the_fields_of_openai() {
    let studio = Running::start(Options::default());
    let answer = generate(&studio, json!({ "model": "gpt-image-1", "n": 2, "style": "vivid", "user": "me" })).json();
    let (first, second) = (file(&answer, 0), file(&answer, 1));
    let expected = json!({
        "created": answer["created"],
        "data": [{ "b64_json": BASE64_STANDARD.encode(&first) }, { "b64_json": BASE64_STANDARD.encode(&second) }],
        "background": "opaque",
        "output_format": "png",
        "size": "64x64",
        "impasto": answer["impasto"],
    });
    assert_eq!(answer, expected);
    assert!(answer["created"].as_u64().unwrap() > 1_700_000_000 && first != second);
    let notes = answer["impasto"]["notes"].to_string();
    assert!(notes.contains("not used: style") && notes.contains("and not \\\"gpt-image-1\\\""), "{notes}");
    assert_eq!(answer["impasto"]["report"]["pictures"][1]["seed"], 8);
    // The file restores its request on the studio's page.
    let restored = studio.post("/api/recipes", "image/png", &second).json()["request"].take();
    assert_eq!((&restored["prompt"], &restored["seed"]), (&json!("1girl, hair"), &json!(8)));
}

#[test]
fn pictures_have_the_format_that_was_asked_for() {
    let studio = Running::start(Options::default());
    let png = picture(&file(&generate(&studio, json!({})).json(), 0));
    for (name, format) in [("jpeg", ImageFormat::Jpeg), ("webp", ImageFormat::WebP)] {
        let answer = generate(&studio, json!({ "output_format": name, "output_compression": 90 })).json();
        assert_eq!(answer["output_format"], name);
        let file = file(&answer, 0);
        assert_eq!(impasto::image::guess_format(&file).unwrap(), format);
        assert_eq!(picture(&file).size(), png.size());
    }
    let answer = generate(&studio, json!({ "response_format": "url" })).json();
    let url = answer["data"][0]["url"].as_str().unwrap();
    assert!(url.starts_with(&studio.url("/api/jobs/")), "{url}");
    assert_eq!(picture(&studio.get(url.strip_prefix(&studio.url("")).unwrap()).body), png);
    assert!(answer["data"][0]["b64_json"].is_null());
    let own = generate(&studio, json!({ "size": "auto", "impasto": { "steps": 1 } })).json();
    assert_eq!(own["size"], "256x256");
}

#[test]
fn stream_has_partial_and_finished_pictures() {
    let studio = Running::start(Options::default());
    let body = json!({
        "prompt": "1girl, hair", "size": "64x64", "n": 2, "stream": true, "partial_images": 2, "impasto": { "steps": 60 },
    });
    let told = events(&studio, "/v1/images/generations", "application/json", body.to_string().as_bytes());
    let names: Vec<&str> = told.iter().map(|(name, _)| name.as_str()).collect();
    let (partial, completed) = ("image_generation.partial_image", "image_generation.completed");
    assert_eq!(names, [partial, partial, completed, completed]);
    for (index, (name, data)) in told.iter().enumerate() {
        assert!(data["type"] == *name && data["output_format"] == "png" && data["created_at"].is_u64(), "{name}");
        let png = BASE64_STANDARD.decode(data["b64_json"].as_str().unwrap()).unwrap();
        assert_eq!(picture(&png).size(), (64, 64).into());
        assert_eq!(data["partial_image_index"].as_u64(), (index < 2).then_some(index as u64));
    }
    assert_eq!((&told[3].1["size"], &told[3].1["usage"]["total_tokens"]), (&json!("64x64"), &json!(0)));
    let body = json!({ "prompt": "a boat", "stream": true, "impasto": { "forces": ["hat=red"] } });
    let failed = events(&studio, "/v1/images/generations", "application/json", body.to_string().as_bytes());
    assert_eq!((failed.len(), failed[0].0.as_str()), (1, "error"));
    assert!(failed[0].1["error"]["message"].as_str().unwrap().contains("\"hat\" is not in the prompt"), "{failed:?}");
}

#[test]
fn transparent_parts_are_repainted() {
    let studio = Running::start(Options::default());
    let red = Raster::flat(Rgb(255, 0, 0), (64, 64));
    let png = red.to_png(&[]).unwrap();
    let mut mask = Layer::new((64, 64));
    (32..64).for_each(|x| (0..64).for_each(|y| mask.set(x, y, Rgb(0, 0, 0), 255)));
    let folder = tempfile::tempdir().unwrap();
    mask.save(folder.path().join("mask.png")).unwrap();
    let mask = std::fs::read(folder.path().join("mask.png")).unwrap();
    let own = br#"{"steps": 4, "seed": 7}"#;
    let parts: [(&str, &[u8]); 4] = [("prompt", b"a boat"), ("image", &png), ("mask", &mask), ("impasto", own)];
    let answer = edit(&studio, &parts).json();
    let edited = picture(&file(&answer, 0));
    let kept = (32..64).all(|x| (0..64).all(|y| edited.pixel(x, y) == red.pixel(x, y)));
    assert!(kept && edited.pixel(8, 8) != red.pixel(8, 8), "{}", answer["impasto"]);
    let whole: [(&str, &[u8]); 4] = [("prompt", b"a boat"), ("image[]", &png), ("n", b"2"), ("impasto", own)];
    let answer = edit(&studio, &whole).json();
    assert!(picture(&file(&answer, 1)) != red && answer["size"] == "64x64");
    let streamed: Vec<(&str, &[u8])> = parts.iter().copied().chain([("stream", &b"true"[..])]).collect();
    let told = events(&studio, "/v1/images/edits", "multipart/form-data; boundary=form", &form(&streamed));
    assert_eq!((told.len(), told[0].0.as_str()), (1, "image_edit.completed"));
}

#[test]
fn models_are_the_one_of_the_studio() {
    let studio = Running::start(Options::default());
    let list = studio.get("/v1/models").json();
    let model = json!({ "id": "the embedded model", "object": "model", "created": 0, "owned_by": "impasto" });
    assert_eq!(list, json!({ "object": "list", "data": [model] }));
    assert_eq!(studio.get("/v1/models/the%20embedded%20model").json(), model);
    let other = studio.get("/v1/models/dall-e-3");
    assert!(other.status == 404 && other.json()["error"]["param"] == "model", "{other:?}");
}

#[test]
fn errors_have_the_form_of_openai() {
    let studio = Running::start(Options { queue: 0, body: 200_000, ..Options::default() });
    let wrong = [
        (json!({ "prompt": null }), 400, json!("prompt"), "prompt is missing"),
        (json!({ "size": "wide" }), 400, json!("size"), "expected WIDTHxHEIGHT"),
        (json!({ "n": 99 }), 400, Value::Null, "Pictures is 99; expected 1 to 4"),
        (json!({ "prompt": "a".repeat(300_000) }), 413, Value::Null, "at most 200000 bytes"),
    ];
    for (body, status, field, words) in wrong {
        let answer = generate(&studio, body);
        let error = answer.json()["error"].take();
        assert_eq!((answer.status, &error["param"]), (status, &field), "{answer:?}");
        assert_eq!((&error["type"], &error["code"]), (&json!("invalid_request_error"), &Value::Null));
        assert!(error["message"].as_str().unwrap().contains(words), "{error}");
    }
    let full = generate(&studio, json!({}));
    let error = full.json()["error"].take();
    assert_eq!((full.status, &error["code"], &error["type"]), (429, &json!("rate_limit_exceeded"), &json!("requests")));
    assert_eq!(studio.post("/v1/images/edits", "application/json", b"{}").status, 415);
    let empty = edit(&studio, &[("prompt", b"a boat")]);
    assert!(empty.status == 400 && empty.json()["error"]["param"] == "image", "{empty:?}");
    assert!(studio.get("/v1/chat/completions").json()["error"]["message"].as_str().unwrap().contains("not a part"));
    assert_eq!(studio.get("/v1/images/edits").status, 405);
    let guarded = Running::start(Options { token: Some("secret".into()), ..Options::default() });
    let error = guarded.get("/v1/models").json()["error"].take();
    assert_eq!(error["code"], "invalid_api_key");
}

#[test]
fn client_that_leaves_a_stream_ends_its_job() {
    let studio = Running::start(Options { abandoned: Some(Duration::from_millis(500)), ..Options::default() });
    let body = json!({ "prompt": "a boat", "stream": true, "impasto": { "steps": 150 } }).to_string();
    let head = format!(
        "POST /v1/images/generations HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        studio.address,
        body.len()
    );
    let mut stream = TcpStream::connect(studio.address).unwrap();
    stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
    BufReader::new(&stream).read_line(&mut String::new()).unwrap();
    drop(stream);
    let begun = Instant::now();
    assert_eq!(studio.ended(1)["state"], "cancelled");
    assert!(begun.elapsed() < Duration::from_secs(30));
}
