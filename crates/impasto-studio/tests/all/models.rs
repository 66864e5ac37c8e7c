//! Tests of a studio whose clients choose the model.

use crate::engine;
use crate::running::{Answer, Running};
use impasto::{Pipeline, Raster, Result, Source};
use impasto_studio::{Engine, Models, Options};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn start() -> Running {
    Running::start_with(engine::with_choice(), Options::default())
}

fn choose(studio: &Running, name: &str) -> Answer {
    studio.post("/api/model", "application/json", json!({ "name": name }).to_string().as_bytes())
}

/// Loads a model, and returns the ended job.
fn loaded(studio: &Running, name: &str) -> Value {
    let answer = choose(studio, name);
    assert_eq!(answer.status, 202, "{answer:?}");
    studio.ended(answer.json()["id"].as_u64().unwrap())
}

/// Paints a small picture, and returns the PNG.
fn paint(studio: &Running, model: &Value) -> Vec<u8> {
    let job = json!({ "prompt": "a boat", "seed": 7, "steps": 2, "size": "64x64", "model": model });
    let ended = studio.ended(studio.submit(&job));
    assert_eq!(ended["state"], "finished", "{ended}");
    studio.get(ended["result"]["pictures"][0]["url"].as_str().unwrap()).body
}

/// The name of the model that another program would read in a picture.
fn model_in(png: &[u8]) -> String {
    let texts = Raster::texts(png).unwrap();
    let text = &texts.iter().find(|(keyword, _)| keyword == "parameters").unwrap().1;
    text.split("Model: ").nth(1).unwrap().split(',').next().unwrap().to_owned()
}

#[test]
fn model_in_use_is_chosen_and_described() {
    let studio = start();
    let model = || studio.get("/api/model").json();
    let before = model();
    assert_eq!(before["choices"], json!(["embedded", "embedded-fast", "broken"]));
    assert_eq!((&before["choice"], &before["steps"]), (&json!("embedded"), &json!(28)));
    let job = loaded(&studio, "embedded-fast");
    assert_eq!((&job["state"], &job["result"]), (&json!("loaded"), &Value::Null));
    let after = model();
    assert_eq!((&after["choice"], &after["steps"]), (&json!("embedded-fast"), &json!(4)));
    assert_eq!(after["started"], before["started"], "the studio was not restarted");
    assert_eq!(model_in(&paint(&studio, &Value::Null)), "the embedded fast model");
    assert_eq!(studio.metric("impasto_jobs_finished_total"), 2.0);
}

#[test]
fn request_names_its_model() {
    let studio = start();
    loaded(&studio, "embedded-fast");
    let png = paint(&studio, &"embedded".into());
    assert_eq!(model_in(&png), "the embedded model");
    assert_eq!(studio.get("/api/model").json()["choice"], "embedded");
    let restored = studio.post("/api/recipes", "image/png", &png).json();
    assert_eq!(restored["request"]["model"], "embedded");
    // A picture tells its model even if the request did not.
    let png = paint(&studio, &Value::Null);
    assert_eq!(studio.post("/api/recipes", "image/png", &png).json()["request"]["model"], "embedded");
}

#[test]
fn model_that_fails_leaves_the_former_one() {
    let studio = start();
    let refused = choose(&studio, "other");
    assert_eq!(refused.status, 400);
    assert_eq!(refused.error(), "name is \"other\"; expected one of embedded, embedded-fast, broken");
    assert!(choose(&studio, "").error().starts_with("name is \"\""));
    let job = loaded(&studio, "broken");
    assert_eq!((&job["state"], &job["error"]), (&json!("failed"), &json!("the file ends too early")));
    assert_eq!(studio.get("/api/model").json()["choice"], "embedded");
    assert_eq!(model_in(&paint(&studio, &Value::Null)), "the embedded model");
    let other = studio.ended(studio.submit(&json!({ "prompt": "a boat", "model": "other" })));
    let expected = "Model is \"other\"; expected one of embedded, embedded-fast, broken";
    assert_eq!(other["error"], expected);
}

/// The embedded model, and a copy of it for larger pictures in a folder.
struct Sizes(PathBuf);

impl Models for Sizes {
    fn names(&self) -> Vec<String> {
        ["embedded", "large"].map(String::from).into()
    }

    fn load(&self, name: &str) -> Result<Engine> {
        let source = if name == "large" { Source::dir(&self.0) } else { Source::embedded() };
        Pipeline::builder().source(source).build().map(Engine::from)
    }
}

/// Returns an engine of the embedded model, whose pictures have 256×256 pixels. In its place clients can choose the
/// model "large" in a folder, whose pictures have 320×320.
fn with_larger(folder: &Path) -> Engine {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../impasto-tiny/model");
    for entry in std::fs::read_dir(&own).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()) {
        let part = folder.join(entry.file_name().unwrap());
        std::fs::create_dir(&part).unwrap();
        for file in std::fs::read_dir(entry).unwrap().map(|file| file.unwrap().path()) {
            std::fs::copy(&file, part.join(file.file_name().unwrap())).unwrap();
        }
    }
    std::fs::copy(own.join("model_index.json"), folder.join("model_index.json")).unwrap();
    std::fs::write(folder.join("impasto.json"), r#"{ "width": 320, "height": 320 }"#).unwrap();
    let models = Sizes(folder.to_owned());
    models.load("embedded").unwrap().with_models("embedded", Arc::new(models))
}

#[test]
fn largest_side_is_that_of_the_model_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { side: 128, side_grows: true, ..Options::default() };
    let studio = Running::start_with(with_larger(folder.path()), options);
    let side = || studio.get("/api/model").json()["limits"]["side"].clone();
    let job = |width: u32, model: &str| json!({ "prompt": "a boat", "seed": 7, "steps": 1, "width": width, "height": 64, "model": model });
    assert_eq!(side(), 512);
    let refused = studio.ended(studio.submit(&job(640, "embedded")));
    let expected = "Width is 640; expected 1 to 512; the program's option --side allows longer sides";
    assert_eq!(refused["error"], expected);
    // The request may come before its model is loaded.
    assert_eq!(studio.ended(studio.submit(&job(640, "large")))["state"], "finished");
    assert_eq!(side(), 640);
    let wide = studio.post("/api/jobs", "application/json", job(4096, "large").to_string().as_bytes());
    assert!(wide.status == 400 && wide.error().contains("--side allows longer sides"), "{wide:?}");
    let ended = studio.ended(studio.submit(&job(648, "large")));
    assert!(ended["error"].as_str().unwrap().contains("expected 1 to 640"), "{ended}");
}

#[test]
fn studio_of_one_model_has_no_choice() {
    let studio = Running::start(Options::default());
    let model = studio.get("/api/model").json();
    assert_eq!((&model["choice"], &model["choices"]), (&Value::Null, &json!([])));
    let refused = choose(&studio, "embedded-fast").error();
    assert!(
        refused.contains("expected the embedded model, the only model; start the studio with folders"),
        "{refused}"
    );
    let folder = tempfile::tempdir().unwrap();
    let queued = Running::start_on(folder.path(), Options::default());
    assert_eq!(choose(&queued, "embedded-fast").status, 400);
    let job = json!({ "prompt": "a boat", "model": "embedded-fast" }).to_string();
    let refused = queued.post("/api/jobs", "application/json", job.as_bytes()).error();
    assert!(refused.contains("expected \"embedded\", the model of this studio's workers"), "{refused}");
}

#[test]
fn web_ui_clients_choose_a_model() {
    let studio = start();
    let post = |path: &str, body: Value| studio.post(path, "application/json", body.to_string().as_bytes());
    let titles = studio.get("/sdapi/v1/sd-models").json();
    let titles: Vec<&Value> = titles.as_array().unwrap().iter().map(|model| &model["title"]).collect();
    assert_eq!(titles, ["embedded", "embedded-fast", "broken"]);
    let option = || studio.get("/sdapi/v1/options").json()["sd_model_checkpoint"].clone();
    assert_eq!(option(), "embedded");
    let set = post("/sdapi/v1/options", json!({ "sd_model_checkpoint": "embedded-fast.safetensors [0123abcd]" }));
    assert_eq!((set.status, option()), (200, json!("embedded-fast")));
    let broken = post("/sdapi/v1/options", json!({ "sd_model_checkpoint": "broken" }));
    assert_eq!((broken.status, option()), (422, json!("embedded-fast")));
    let small = json!({ "prompt": "a boat", "steps": 2, "width": 64, "height": 64 });
    let painted = |override_settings: Value| {
        let mut body = small.clone();
        body["override_settings"] = override_settings;
        let answer = post("/sdapi/v1/txt2img", body).json();
        let info: Value = serde_json::from_str(answer["info"].as_str().unwrap()).unwrap();
        (info["sd_model_name"].clone(), answer["impasto"]["notes"].to_string())
    };
    assert_eq!(painted(json!({ "sd_model_checkpoint": "embedded" })).0, "the embedded model");
    let (model, notes) = painted(json!({ "sd_model_checkpoint": "other" }));
    assert!(model == "the embedded model" && notes.contains("sd_model_checkpoint is not used"), "{notes}");
}

#[test]
fn open_ai_clients_choose_a_model() {
    let studio = start();
    let list = studio.get("/v1/models").json();
    assert_eq!(list["data"].as_array().unwrap().len(), 3);
    assert_eq!(studio.get("/v1/models/embedded-fast").json()["id"], "embedded-fast");
    assert_eq!(studio.get("/v1/models/other").status, 404);
    let body = json!({
        "prompt": "a boat", "size": "64x64", "model": "embedded-fast", "impasto": { "steps": 2 },
    });
    let answer = studio.post("/v1/images/generations", "application/json", body.to_string().as_bytes());
    assert_eq!(answer.status, 200, "{:?}", answer.error_text());
    assert!(!answer.error_text().contains("not used"));
    assert_eq!(studio.get("/api/model").json()["choice"], "embedded-fast");
}
