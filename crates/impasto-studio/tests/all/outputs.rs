//! Tests of the folder of outputs.

use crate::running::Running;
use impasto::{Pipeline, Raster};
use impasto_studio::{Options, Studio, StudioError};
use serde_json::{Value, json};
use std::path::Path;

fn studio(folder: &Path) -> Running {
    Running::start(Options { outputs: Some(folder.into()), ..Options::default() })
}

fn files(studio: &Running) -> Vec<Value> {
    studio.get("/api/outputs").json()["pictures"].as_array().unwrap().clone()
}

#[test]
fn folder_keeps_pictures_for_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = studio(folder.path());
    assert_eq!(first.get("/api/model").json()["outputs"], true);
    let painted = first.submit(&json!({ "prompt": "1girl, #ffd700 eyes", "steps": 2, "seed": 7, "images": 2 }));
    let job = first.ended(painted);
    first.ended(first.submit(&json!({ "prompt": "a boat", "steps": 1, "seed": 9 })));
    first.ended(first.submit(&json!({ "prompt": "a boat", "steps": 1, "live": "view" })));
    let fetched = first.get("/api/jobs/1/pictures/1").body;
    first.end();

    std::fs::write(folder.path().join("notes.txt"), "mine").unwrap();
    let mut next = studio(folder.path());
    let listed = files(&next);
    let seeds: Vec<&Value> = listed.iter().map(|picture| &picture["seed"]).collect();
    assert_eq!(seeds, [9, 8, 7], "the newest first, and none of a live view: {listed:?}");
    let second = &listed[1];
    assert_eq!((&second["time"], &second["image"]), (&job["result"]["time"], &json!(1)));
    let png = next.get(second["url"].as_str().unwrap()).body;
    assert!(png == fetched, "the file is the picture that the job had");

    // The report is that of the picture alone.
    let told = next.get(&format!("{}/report", second["url"].as_str().unwrap())).json();
    assert_eq!(told["prompt"], "1girl, #ffd700 eyes");
    let (report, result) = (&told["report"], &job["result"]);
    assert_eq!((&report["image"], &report["notes"]), (&json!(1), &result["notes"]));
    assert!(report["seconds"].is_null(), "the same request makes the same file");
    let of_second = |name: &str| -> Vec<Value> {
        let all = result[name].as_array().unwrap().iter();
        all.filter(|part| part["image"] == 1 || part["image"].is_null()).cloned().collect()
    };
    assert_eq!(report["colors"], Value::from(of_second("colors")));
    assert_eq!(report["words"], Value::from(of_second("words")));
    assert!(!of_second("words").is_empty());

    // Older pictures follow by the name of a newer one.
    let older = next.get(&format!("/api/outputs?before={}", listed[1]["file"].as_str().unwrap())).json();
    assert_eq!(older["pictures"], json!([listed[2]]));
    // A picture that was removed is missed by nothing.
    std::fs::remove_file(folder.path().join(listed[0]["file"].as_str().unwrap())).unwrap();
    assert_eq!(next.get(listed[0]["url"].as_str().unwrap()).status, 404);
    assert_eq!(files(&next).len(), 2);
    next.end();
}

#[tokio::test]
async fn missing_folder_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let outputs = folder.path().join("none");
    let options = Options { address: ([127, 0, 0, 1], 0).into(), outputs: Some(outputs.clone()), ..Options::default() };
    let error = Studio::bind(Pipeline::builder().build().unwrap(), options).await.unwrap_err();
    let StudioError::Folder(named, _) = &error else { panic!("{error}") };
    assert!(*named == outputs && error.to_string().ends_with("create it, or give another one"), "{error}");
}

#[test]
fn picture_without_a_place_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let studio = studio(folder.path());
    folder.close().unwrap();
    let job = studio.ended(studio.submit(&json!({ "prompt": "a boat", "steps": 1 })));
    let note = job["result"]["notes"][0].as_str().unwrap();
    assert!(note.starts_with("the picture is not in the folder of outputs: "), "{note}");
    let id = job["id"].as_u64().unwrap();
    let png = studio.get(&format!("/api/jobs/{id}/pictures/0")).body;
    assert!(!Raster::texts(&png).unwrap().is_empty(), "the job has its picture");
    assert_eq!(studio.get("/api/outputs").status, 500);
}

#[test]
fn names_lead_to_no_other_file() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("secret.png"), "mine").unwrap();
    let name = "20261128-143325-123-0-7.png";
    std::fs::write(folder.path().join(name), "no picture").unwrap();
    let studio = studio(folder.path());
    for file in ["secret.png", "..%2Fsecret.png", "%2Fetc%2Fpasswd", "19700101-000000-000-0.png"] {
        for path in [format!("/api/outputs/{file}"), format!("/api/outputs/{file}/report")] {
            let answer = studio.get(&path);
            assert!(answer.status == 404 && !answer.error().is_empty(), "{path}: {answer:?}");
        }
        assert!([200, 404].contains(&studio.get(&format!("/api/outputs?before={file}")).status));
    }
    let broken = studio.get(&format!("/api/outputs/{name}/report"));
    assert!(broken.status == 404 && broken.error().contains("no picture"), "{broken:?}");

    let without = Running::start(Options::default());
    assert_eq!(without.get("/api/model").json()["outputs"], false);
    assert!(without.get("/api/outputs").error().contains("--outputs FOLDER"));
    assert_eq!(without.get(&format!("/api/outputs/{name}")).status, 404);
}
