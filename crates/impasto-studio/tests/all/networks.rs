//! Tests of requests that name the networks of a studio: ControlNets, T2I adapters and an IP-Adapter.

use crate::engine;
use crate::running::{Answer, Running};
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

/// The answer to a small request of the web UI's API with units of its extension for ControlNets.
fn with_units(studio: &Running, units: Value) -> Answer {
    let body = json!({
        "prompt": "1girl, hair", "steps": 4, "width": 64, "height": 64, "seed": 7,
        "alwayson_scripts": { "controlnet": { "args": units } },
    });
    studio.post("/sdapi/v1/txt2img", "application/json", body.to_string().as_bytes())
}

#[test]
fn units_of_the_web_ui_name_networks() {
    let studio = Running::start_with(engine::with_networks(), Options::default());
    let list = |name: &str| studio.get(&format!("/controlnet/{name}")).json();
    assert_eq!(list("model_list"), json!({ "model_list": ["embedded", "lines", "ip-adapter"] }));
    assert_eq!(list("module_list")["module_list"], json!(["none"]));
    assert_eq!((list("version"), list("settings")), (json!({ "version": 2 }), json!({ "control_net_unit_count": 16 })));
    assert_eq!(list("control_types")["control_types"]["All"]["default_model"], "None");
    let pictures = |units: Value| {
        let answer = with_units(&studio, units);
        assert_eq!(answer.status, 200, "{:?}", answer.error_text());
        (answer.json()["images"][0].clone(), answer.json()["impasto"]["notes"].to_string())
    };
    let (bare, notes) = pictures(json!([{ "enabled": false, "model": "lines" }, { "model": "None", "image": line() }]));
    assert!(notes.contains("unit 1 of controlnet has no model"), "{notes}");
    let unit = |more: Value| {
        let mut unit =
            json!({ "image": line(), "model": "lines.safetensors [0123abcd]", "weight": 0.8, "lowvram": true });
        unit.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!([unit])
    };
    let mut known = vec![bare];
    for (name, units) in [
        ("whole", unit(json!({}))),
        ("half", unit(json!({ "guidance_end": 0.5 }))),
        ("first", unit(json!({ "control_mode": "ControlNet is more important" }))),
        ("like", unit(json!({ "model": "ip-adapter", "module": "ip-adapter_clip_sd15", "image": { "image": red() } }))),
    ] {
        let (picture, notes) = pictures(units);
        assert!(!known.contains(&picture), "{name} changed nothing");
        assert!(!notes.contains("not used") && !notes.contains("is not there"), "{name}: {notes}");
        known.push(picture);
    }
    let (same, notes) = pictures(unit(json!({ "module": "canny", "control_mode": 1, "resize_mode": 2 })));
    assert!(known[1] == same && notes.contains("the preprocessor \\\"canny\\\" is not there"), "{notes}");
    assert!(notes.contains("control_mode 1 is not there") && notes.contains("not used: resize_mode"), "{notes}");
}

#[test]
fn unfit_units_of_the_web_ui_are_named() {
    let studio = Running::start_with(engine::with_networks(), Options::default());
    let refused = |units: Value| with_units(&studio, units).detail();
    assert!(refused(json!([7])).starts_with("unit 0 of controlnet is no object"));
    assert!(refused(json!([{ "model": "lines" }])).starts_with("unit 0 of controlnet has no picture"));
    assert!(refused(json!([{ "model": "lines", "image": "/etc/passwd" }])).starts_with("image is no"));
    assert!(
        refused(json!([{ "model": "lines", "image": line(), "weight": "much" }])).starts_with("weight is \"much\"")
    );
    assert!(refused(json!([{ "model": "depth", "image": line() }])).contains("is \"depth\"; expected embedded, lines"));
    assert!(refused(json!(vec![json!({}); 17])).contains("has 17 units; expected at most 16"));
    // A unit without a picture follows the picture to start from.
    let body = json!({
        "prompt": "1girl", "steps": 2, "init_images": [line()], "alwayson_scripts": {
            "ControlNet": { "args": [{ "model": "lines" }] }, "impasto": { "args": [{ "seed": 5 }] },
        },
    });
    let answer = studio.post("/sdapi/v1/img2img", "application/json", body.to_string().as_bytes());
    assert_eq!(answer.status, 200, "{:?}", answer.error_text());
}
