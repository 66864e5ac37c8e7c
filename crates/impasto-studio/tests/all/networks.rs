//! Tests of requests that name the networks of a studio: ControlNets, T2I adapters and an IP-Adapter.

use crate::engine;
use crate::running::Running;
use impasto::{Raster, Rgb};
use impasto_studio::Options;
use serde_json::{Value, json};

/// A picture with a line across.
fn line() -> String {
    let mut lines = Raster::flat(Rgb(255, 255, 255), (64, 64));
    (16..48).for_each(|at| lines.set(at, at, Rgb(0, 0, 0)));
    lines.data_url().unwrap()
}

fn red() -> String {
    Raster::flat(Rgb(200, 30, 30), (40, 30)).data_url().unwrap()
}

/// Requests that a network changes, with what they have beside a prompt.
pub fn requests() -> [(&'static str, Value); 4] {
    [
        ("a ControlNet", json!({ "controls": [{ "net": "lines", "picture": line() }] })),
        ("a picture to draw like", json!({ "ip_adapter_pictures": [red()], "ip_adapter_strength": 0.7 })),
        (
            "a picture for a phrase",
            json!({ "ip_adapter_pictures": [{ "picture": red(), "phrase": "hair", "strength": 2 }] }),
        ),
        ("a picture under a mask", json!({ "ip_adapter_pictures": [{ "picture": red(), "mask": line() }] })),
    ]
}

/// Returns a small job with further fields.
pub fn job(more: &Value) -> Value {
    let mut request = json!({ "prompt": "1girl, hair, shirt", "seed": 7, "steps": 4, "size": "128x128" });
    request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    request
}

#[test]
fn named_networks_change_the_picture_and_return() {
    let studio = Running::start_with(engine::with_networks(), Options::default());
    let model = studio.get("/api/model").json();
    assert_eq!(model["nets"], json!([{ "name": "lines", "union": false }]));
    assert_eq!((&model["ip_adapter"], &model["draws"]), (&json!(true), &json!(true)));
    let paint = |more: &Value| {
        let ended = studio.ended(studio.submit(&job(more)));
        assert_eq!(ended["state"], "finished", "{ended}");
        studio.get(ended["result"]["pictures"][0]["url"].as_str().unwrap()).body
    };
    let picture_of = |png: &[u8]| Raster::from(impasto::image::load_from_memory(png).unwrap());
    let mut known = vec![picture_of(&paint(&json!({})))];
    for (name, more) in requests() {
        let png = paint(&more);
        let picture = picture_of(&png);
        assert!(known.iter().all(|other| *other != picture), "{name} changed nothing");
        // The picture brings its request back.
        let restored = studio.post("/api/recipes", "image/png", &png).json()["request"].clone();
        for (field, value) in more.as_object().unwrap() {
            let count = |value: &Value| value.as_array().map(Vec::len);
            assert_eq!(count(&restored[field]), count(value), "{name}: {field}");
        }
        assert_eq!(picture_of(&paint(&restored)), picture, "{name}");
        known.push(picture);
    }
    let live = paint(&json!({ "live": "view", "controls": [{ "net": "lines", "picture": line() }] }));
    assert!(!live.is_empty());
}

#[test]
fn networks_that_a_studio_lacks_are_named() {
    let studio = Running::start_with(engine::with_networks(), Options::default());
    let failed = |studio: &Running, more: Value| {
        let ended = studio.ended(studio.submit(&job(&more)));
        ended["error"].as_str().unwrap_or_else(|| panic!("{ended}")).to_owned()
    };
    let other = failed(&studio, json!({ "controls": [{ "net": "depth", "picture": line() }] }));
    assert!(other.contains("is \"depth\"; expected embedded, lines; start the studio with the network"), "{other}");
    let bare = Running::start(Options::default());
    assert_eq!(bare.get("/api/model").json()["nets"], json!([]));
    let like = failed(&bare, json!({ "ip_adapter_pictures": [red()] }));
    assert!(like.contains("start the studio with an IP-Adapter (--ip-adapter"), "{like}");
    let refused = |more: Value| studio.post("/api/jobs", "application/json", job(&more).to_string().as_bytes()).error();
    let file = refused(json!({ "ip_adapter_pictures": ["/etc/passwd"] }));
    assert!(file.starts_with("Likeness is no picture; expected a PNG in a data URL"), "{file}");
    let file = refused(json!({ "ip_adapter_pictures": [format!("hair={}", red())] }));
    assert!(file.starts_with("Likeness is no picture"), "{file}");
    let many = refused(json!({ "ip_adapter_pictures": vec![red(); 17] }));
    assert!(many.starts_with("Likeness is 17; expected 0 to 16"), "{many}");
    let large = Raster::flat(Rgb(0, 0, 0), (4096, 1)).data_url().unwrap();
    let large = refused(json!({ "ip_adapter_pictures": [large] }));
    assert!(large.starts_with("Likeness has 4096×1 pixels"), "{large}");
}
