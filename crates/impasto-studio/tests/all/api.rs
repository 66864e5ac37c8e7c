//! Jobs, their events and pictures.

use crate::running::Running;
use impasto::raster::Layer;
use impasto::{Raster, Rgb};
use impasto_studio::Options;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::time::{Duration, Instant};

/// The events of a job: names and data, until the stream ends.
fn events(studio: &Running, id: u64) -> Vec<(String, Value)> {
    let response = ureq::get(&studio.url(&format!("/api/jobs/{id}/events"))).call().unwrap();
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
fn job_tells_its_steps_and_has_exact_colors() {
    let studio = Running::start(Options::default());
    let request = json!({ "prompt": "1girl, #ffd700 eyes, hair, shirt", "seed": 7, "steps": 14 });
    let id = studio.submit(&request);
    let events = events(&studio, id);
    let step = events.iter().find(|(name, _)| name == "step").unwrap();
    assert!(step.1["picture"].as_str().unwrap().starts_with("data:image/png;base64,"));
    assert_eq!(step.1["total"], 28, "two passes of 14 steps");
    let (name, last) = events.last().unwrap();
    assert_eq!(name, "finished");
    let color = &last["result"]["colors"][0];
    assert!(color["label"] == "eyes" && color["delta_e"].as_f64().unwrap() < 3.0, "{color}");
    assert_eq!(studio.ended(id), *last);

    let png = studio.get(last["result"]["pictures"][0]["url"].as_str().unwrap()).body;
    let mut restored = studio.post("/api/recipes", "image/png", &png).json()["request"].take();
    assert_eq!((&restored["prompt"], &restored["seed"]), (&request["prompt"], &request["seed"]));
    let again = studio.ended(studio.submit(&restored));
    let same = studio.get(again["result"]["pictures"][0]["url"].as_str().unwrap()).body;
    assert!(png == same, "the restored request makes the same file");
    restored["seed"] = json!(8);
    let other = studio.ended(studio.submit(&restored));
    assert!(png != studio.get(other["result"]["pictures"][0]["url"].as_str().unwrap()).body);
}

#[test]
fn recipe_of_a_jpeg_is_restored() {
    let studio = Running::start(Options::default());
    let jpeg = include_bytes!("../../../../fuzz/corpus/recipe/exif.jpg");
    let json = studio.post("/api/recipes", "image/jpeg", jpeg).json();
    let restored = &json["request"];
    assert_eq!(restored["prompt"], "1girl, gold eyes, red hair");
    assert_eq!(
        (&restored["seed"], &restored["steps"], &restored["size"]["width"]),
        (&json!(77), &json!(12), &json!(256))
    );
    assert_eq!(restored["sampler"], "Euler a Normal");
    assert!(json["notes"].to_string().contains("noise may be a GPU's"), "{}", json["notes"]);
}

#[test]
fn transparency_of_start_and_mask_is_noted() {
    let studio = Running::start(Options::default());
    let mut brush = Layer::new((64, 64));
    (0..32).for_each(|x| (0..64).for_each(|y| brush.set(x, y, Rgb(255, 255, 255), 255)));
    let brush = serde_json::to_value(&brush).unwrap();
    let request = json!({ "prompt": "a boat", "steps": 2, "start": brush, "mask": brush, "width": 64, "height": 64 });
    let notes = studio.ended(studio.submit(&request))["result"]["notes"].to_string();
    let says = |words: &str| notes.contains(words);
    assert!(says("opaque parts are repainted") && says("picture to start from became black"), "{notes}");
}

#[test]
fn drawn_layers_reach_the_run() {
    let studio = Running::start(Options::default());
    let url = |picture: &Raster| picture.data_url().unwrap();
    let flat = |color| Raster::flat(color, (64, 64));
    let mut lines = flat(Rgb(255, 255, 255));
    (16..48).for_each(|at| lines.set(at, at, Rgb(0, 0, 0)));
    let mut strokes = Layer::new((256, 256));
    (100..156).for_each(|x| (56..72).for_each(|y| strokes.set(x, y, Rgb(0, 128, 128), 255)));
    let base = json!({ "prompt": "1girl, hair, shirt", "seed": 7, "steps": 4 });
    let pictures = |more: Value| {
        let mut request = base.clone();
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let job = studio.ended(studio.submit(&request));
        assert_eq!(job["state"], "finished", "{job}");
        studio.get(job["result"]["pictures"][0]["url"].as_str().unwrap()).body
    };
    let picture_of = |png: &[u8]| Raster::from(impasto::image::load_from_memory(png).unwrap());
    let plain = picture_of(&pictures(json!({})));
    let mask = Raster::flat(Rgb(255, 255, 255), (64, 64));
    for (name, more) in [
        ("line art", json!({ "line_art": url(&lines) })),
        ("strokes", json!({ "strokes": serde_json::to_value(&strokes).unwrap() })),
        ("guiding strokes", json!({ "strokes": serde_json::to_value(&strokes).unwrap(), "exact_strokes": false })),
        ("areas", json!({ "areas": [{ "phrase": "hair", "strength": 2, "mask": url(&mask) }] })),
        ("start", json!({ "start": url(&flat(Rgb(255, 0, 0))), "strength": 0.5 })),
        ("start and mask", json!({ "start": url(&flat(Rgb(255, 0, 0))), "mask": url(&mask) })),
        ("reference", json!({ "reference": url(&flat(Rgb(0, 0, 255))) })),
    ] {
        assert!(picture_of(&pictures(more)) != plain, "{name} changed nothing");
    }
}

#[test]
fn four_pictures_have_consecutive_seeds_and_own_maps() {
    let studio = Running::start(Options::default());
    let job = studio.ended(studio.submit(&json!({ "prompt": "1girl, hair", "seed": 3, "images": 4, "steps": 2 })));
    let pictures = job["result"]["pictures"].as_array().unwrap();
    assert_eq!(pictures.iter().map(|picture| picture["seed"].as_u64().unwrap()).collect::<Vec<_>>(), [3, 4, 5, 6]);
    let third = studio.get(pictures[2]["url"].as_str().unwrap()).body;
    let restored = studio.post("/api/recipes", "image/png", &third).json()["request"].take();
    assert_eq!((&restored["seed"], &restored["images"]), (&json!(5), &json!(1)));
    let words = job["result"]["words"].as_array().unwrap();
    assert!((0..4).all(|image| words.iter().any(|word| word["image"] == image && word["word"] == "hair")));
}

#[test]
fn running_and_waiting_jobs_are_cancelled() {
    let studio = Running::start(Options::default());
    let long = json!({ "prompt": "a boat", "steps": 150 });
    let (running, waiting) = (studio.submit(&long), studio.submit(&long));
    assert_eq!(studio.delete(&format!("/api/jobs/{waiting}")).status, 204);
    assert_eq!(studio.ended(waiting)["state"], "cancelled");
    let begun = Instant::now();
    assert_eq!(studio.delete(&format!("/api/jobs/{running}")).status, 204);
    assert_eq!(studio.ended(running)["state"], "cancelled");
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert_eq!(studio.metric("impasto_jobs_cancelled_total"), 2.0);
}

#[test]
fn later_live_request_replaces_earlier_ones() {
    let studio = Running::start(Options::default());
    let live = |seed: u64| json!({ "prompt": "a boat", "steps": 20, "seed": seed, "live": "view" });
    let ids: Vec<u64> = (0..5).map(|seed| studio.submit(&live(seed))).collect();
    let states: Vec<Value> = ids.iter().map(|id| studio.ended(*id)["state"].clone()).collect();
    assert_eq!(states.last().unwrap(), "finished");
    assert!(states[..4].iter().all(|state| state == "cancelled"), "{states:?}");
}

#[test]
fn live_view_is_painted_by_the_model_for_few_steps() {
    let studio = Running::start(Options::default());
    assert_eq!(studio.get("/api/model").json()["live_steps"], 4);
    let seen = |live: Value| {
        let job = studio.ended(studio.submit(&json!({ "prompt": "a boat", "seed": 7, "live": live, "steps": null })));
        let picture = studio.get(job["result"]["pictures"][0]["url"].as_str().unwrap());
        let texts = Raster::texts(&picture.body).unwrap();
        texts.into_iter().find(|(keyword, _)| keyword == "parameters").unwrap().1
    };
    let text = seen("view".into());
    assert!(text.contains("Steps: 4, Sampler: Euler") && text.contains("Model: the embedded fast model"), "{text}");
    assert!(seen(Value::Null).contains("Steps: 28"));
}

#[test]
fn long_run_is_given_up() {
    let studio = Running::start(Options { run: Duration::from_millis(300), ..Options::default() });
    let job = studio.ended(studio.submit(&json!({ "prompt": "a boat", "steps": 150 })));
    assert!(job["error"].as_str().unwrap().contains("ask for fewer steps"), "{job}");
    let next = studio.ended(studio.submit(&json!({ "prompt": "a boat", "steps": 1 })));
    assert_eq!(next["state"], "finished");
}

#[test]
fn studio_ends_while_a_job_runs() {
    let mut studio = Running::start(Options::default());
    let id = studio.submit(&json!({ "prompt": "a boat", "steps": 150 }));
    let url = studio.url(&format!("/api/jobs/{id}/events"));
    let listener = std::thread::spawn(move || ureq::get(&url).call().unwrap().into_string().unwrap());
    std::thread::sleep(Duration::from_millis(300));
    let begun = Instant::now();
    studio.end();
    assert!(begun.elapsed() < Duration::from_secs(6));
    assert!(listener.join().unwrap().contains("event: cancelled"));
}

#[test]
fn request_without_words_is_painted() {
    let studio = Running::start(Options::default());
    let picture = Raster::flat(Rgb(255, 0, 0), (64, 64)).data_url().unwrap();
    for more in [
        json!({}),
        json!({ "prompt": " ," }),
        json!({ "prompt": "!!!" }),
        json!({ "reference": picture }),
        json!({ "line_art": picture }),
        json!({ "start": picture }),
    ] {
        let mut request = json!({ "steps": 2, "width": 64, "height": 64 });
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let job = studio.ended(studio.submit(&request));
        assert!(job["state"] == "finished" && job["result"]["words"] == json!([]), "{more}: {job}");
    }
}

#[test]
fn jobs_are_listed_without_results() {
    let studio = Running::start(Options::default());
    let [first, second] = ["a boat", "a house"].map(|prompt| {
        studio.submit(&json!({ "prompt": prompt, "steps": 1, "width": 64, "height": 64, "live": prompt }))
    });
    events(&studio, second);
    let list = studio.get("/api/jobs").json();
    let job = |id: u64, prompt: &str| json!({ "id": id, "state": "finished", "prompt": prompt, "live": prompt });
    assert_eq!(list, json!([job(first, "a boat"), job(second, "a house")]));
}

#[test]
fn abandoned_job_is_cancelled() {
    let studio = Running::start(Options { abandoned: Some(Duration::from_secs(1)), ..Options::default() });
    let long = json!({ "prompt": "a boat", "steps": 150, "width": 64, "height": 64, "images": 4 });
    let [alone, waiting] = [(); 2].map(|()| studio.submit(&long));
    // A listener comes and leaves.
    let mut stream = std::net::TcpStream::connect(studio.address).unwrap();
    let head = format!("GET /api/jobs/{waiting}/events HTTP/1.1\r\nHost: {}\r\n\r\n", studio.address);
    std::io::Write::write_all(&mut stream, head.as_bytes()).unwrap();
    BufReader::new(&stream).read_line(&mut String::new()).unwrap();
    drop(stream);
    assert_eq!(studio.ended(waiting)["state"], "cancelled");
    assert_eq!(studio.ended(alone)["state"], "finished", "a job that never had listeners runs to its end");
}

#[test]
fn latest_result_stays_beside_cancelled_jobs() {
    let studio = Running::start(Options { memory: 1000, kept: 2, ..Options::default() });
    let result = studio.submit(&json!({ "prompt": "a boat", "steps": 1, "width": 64, "height": 64 }));
    assert_eq!(studio.ended(result)["state"], "finished");
    for _ in 0..3 {
        let id = studio.submit(&json!({ "prompt": "a boat", "steps": 150 }));
        studio.delete(&format!("/api/jobs/{id}"));
        assert_eq!(studio.ended(id)["state"], "cancelled");
    }
    assert_eq!(studio.get(&format!("/api/jobs/{result}/pictures/0")).status, 200);
    assert_eq!(studio.get("/api/jobs").json().as_array().unwrap().len(), 2);
    let large =
        studio.post("/api/jobs", "application/json", json!({ "prompt": "a".repeat(1000) }).to_string().as_bytes());
    assert!(large.status == 413 && large.error().contains("at most 1000 bytes"), "{large:?}");
}

#[test]
fn largest_limits_are_no_limits() {
    let studio = Running::start(Options {
        queue: usize::MAX,
        kept: usize::MAX,
        memory: usize::MAX,
        abandoned: Some(Duration::MAX),
        body: usize::MAX,
        side: u32::MAX,
        steps: usize::MAX,
        images: usize::MAX,
        connections: usize::MAX,
        arrival: Duration::MAX,
        run: Duration::MAX,
        ..Options::default()
    });
    let id = studio.submit(&json!({ "prompt": "a boat", "steps": 1, "width": 64, "height": 64 }));
    assert_eq!(events(&studio, id).last().unwrap().0, "finished");
    let png = studio.get(&format!("/api/jobs/{id}/pictures/0")).body;
    assert_eq!(studio.post("/api/recipes", "image/png", &png).json()["request"]["prompt"], "a boat");
}

/// Returns a square picture of noise, which takes as much memory encoded as decoded.
fn noise(side: u32) -> String {
    let mut dice = 1u64;
    let bytes = std::iter::repeat_with(|| {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (dice >> 56) as u8
    });
    let count = 3 * side as usize * side as usize;
    Raster::from_bytes(bytes.take(count).collect(), (side, side)).unwrap().data_url().unwrap()
}

#[test]
fn results_are_bounded_and_hold_pictures_once() {
    const MEMORY: usize = 2 << 20;
    let studio = Running::start(Options { memory: MEMORY, ..Options::default() });
    let url = noise(300);
    let request = json!({ "prompt": "a", "reference": url, "images": 4, "width": 64, "height": 64, "steps": 1 });
    let ids: Vec<u64> = (0..8)
        .map(|_| {
            let id = studio.submit(&request);
            assert_eq!(studio.ended(id)["state"], "finished");
            id
        })
        .collect();
    let kept = studio.get("/api/jobs").json().as_array().unwrap().len();
    assert!((3..=6).contains(&kept), "{kept} results of {} bytes are kept in {MEMORY} bytes", url.len());
    assert_eq!(studio.get(&format!("/api/jobs/{}", ids[0])).status, 404);
    for index in 0..4 {
        let png = studio.get(&format!("/api/jobs/{}/pictures/{index}", ids[7])).body;
        assert!(png.len() < url.len() * 5 / 4, "{} bytes for a reference of {}", png.len(), url.len());
        let restored = studio.post("/api/recipes", "image/png", &png).json()["request"].take();
        assert!(restored["reference"] == url && restored["images"] == 1, "picture {index} restores its request");
    }
}

#[test]
fn own_file_is_read_even_if_larger_than_a_request() {
    const BODY: usize = 70_000;
    let studio = Running::start(Options { body: BODY, side: 256, ..Options::default() });
    let url = noise(128);
    let job = studio.ended(studio.submit(&json!({ "prompt": "a", "start": url, "steps": 4 })));
    let png = studio.get(job["result"]["pictures"][0]["url"].as_str().unwrap()).body;
    assert!(png.len() > BODY, "{} bytes", png.len());
    assert_eq!(studio.post("/api/recipes", "image/png", &png).json()["request"]["start"], url);
    assert_eq!(studio.post("/api/jobs", "application/json", &[b' '; BODY + 1]).status, 413);
    assert_eq!(studio.post("/api/recipes", "image/png", &[b' '; 600_000]).status, 413);
}
