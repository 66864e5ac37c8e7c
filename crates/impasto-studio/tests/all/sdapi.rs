//! The web API of AUTOMATIC1111's stable-diffusion-webui, as its clients use it.

use crate::running::{Answer, Running};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use impasto::raster::Layer;
use impasto::{Raster, Rgb};
use impasto_studio::Options;
use serde_json::{Value, json};
use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Posts a request for pictures.
fn post(studio: &Running, path: &str, body: &Value) -> Answer {
    studio.post(&format!("/sdapi/v1/{path}"), "application/json", body.to_string().as_bytes())
}

/// Posts a small request for pictures, and returns its answer.
fn painted(studio: &Running, path: &str, more: Value) -> Value {
    let mut body = json!({ "prompt": "1girl, hair", "steps": 2, "width": 64, "height": 64, "seed": 7 });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let answer = post(studio, path, &body);
    assert_eq!(answer.status, 200, "{:?}", answer.error_text());
    answer.json()
}

fn info(answer: &Value) -> Value {
    serde_json::from_str(answer["info"].as_str().unwrap()).unwrap()
}

fn picture(answer: &Value, index: usize) -> Raster {
    let png = BASE64_STANDARD.decode(answer["images"][index].as_str().unwrap()).unwrap();
    impasto::image::load_from_memory(&png).unwrap().into()
}

fn notes(answer: &Value) -> String {
    answer["impasto"]["notes"].to_string()
}

fn url(picture: &Raster) -> String {
    picture.data_url().unwrap()
}

#[test]
fn answer_has_the_fields_of_the_web_ui() {
    let studio = Running::start(Options::default());
    let answer = painted(
        &studio,
        "txt2img",
        json!({
            "negative_prompt": "blurry", "cfg_scale": 5, "sampler_name": "Euler a", "scheduler": "Karras",
            "batch_size": 2, "n_iter": 2, "restore_faces": true, "auth": "secret", "url": "http://localhost",
        }),
    );
    let info = info(&answer);
    let expected = json!({
        "prompt": "1girl, hair",
        "all_prompts": ["1girl, hair", "1girl, hair", "1girl, hair", "1girl, hair"],
        "negative_prompt": "blurry",
        "all_negative_prompts": ["blurry", "blurry", "blurry", "blurry"],
        "seed": 7,
        "all_seeds": [7, 8, 9, 10],
        "subseed": -1,
        "all_subseeds": [-1, -1, -1, -1],
        "subseed_strength": 0,
        "width": 64,
        "height": 64,
        "sampler_name": "Euler a",
        "cfg_scale": 5,
        "steps": 2,
        "batch_size": 2,
        "restore_faces": false,
        "face_restoration_model": null,
        "sd_model_name": "the embedded model",
        "sd_model_hash": null,
        "sd_vae_name": null,
        "sd_vae_hash": null,
        "seed_resize_from_w": -1,
        "seed_resize_from_h": -1,
        "denoising_strength": null,
        "extra_generation_params": {},
        "index_of_first_image": 0,
        "infotexts": info["infotexts"],
        "styles": [],
        "job_timestamp": "0",
        "clip_skip": 1,
        "is_using_inpainting_conditioning": false,
        "version": info["version"],
    });
    assert_eq!(info, expected);
    let third = info["infotexts"][2].as_str().unwrap();
    let line = "Steps: 2, Sampler: Euler a, Schedule type: Karras, CFG scale: 5, Seed: 9, Size: 64x64";
    assert!(third.starts_with(&format!("1girl, hair\nNegative prompt: blurry\n{line}")), "{third}");
    assert_eq!(answer["images"].as_array().unwrap().len(), 4);
    // The text is in the file too, and the studio's page restores the request from it.
    let png = answer["images"][2].as_str().unwrap();
    let told = post(&studio, "png-info", &json!({ "image": format!("data:image/png;base64,{png}") })).json();
    assert_eq!((&told["info"], &told["parameters"]["Seed"]), (&json!(third), &json!("9")));
    assert_eq!((&told["parameters"]["Size-1"], &told["parameters"]["Prompt"]), (&json!("64"), &json!("1girl, hair")));
    // Fields that the studio knows are repeated, and the others are named.
    let parameters = &answer["parameters"];
    assert_eq!((&parameters["cfg_scale"], &parameters["auth"]), (&json!(5), &Value::Null));
    let notes = notes(&answer);
    assert!(notes.contains("not used: restore_faces") && notes.contains("not known: auth, url"), "{notes}");
}

#[test]
fn random_seed_is_told_and_repeats_the_picture() {
    let studio = Running::start(Options::default());
    let first = painted(&studio, "txt2img", json!({ "seed": -1 }));
    let seed = info(&first)["seed"].clone();
    assert!(seed.is_u64() && info(&first)["all_seeds"] == json!([seed]), "{seed}");
    let again = painted(&studio, "txt2img", json!({ "seed": seed }));
    assert!(first["images"] == again["images"]);
    let varied = painted(&studio, "txt2img", json!({ "seed": seed, "subseed": 3, "subseed_strength": 0.5 }));
    assert!(varied["images"] != again["images"]);
    assert_eq!((&info(&varied)["subseed"], &info(&varied)["subseed_strength"]), (&json!(3), &json!(0.5)));
    let without = painted(&studio, "txt2img", json!({ "send_images": false }));
    assert_eq!(without["images"], json!([]));
}

#[test]
fn exact_colors_are_painted_and_reported() {
    let studio = Running::start(Options::default());
    for more in [
        json!({ "prompt": "1girl, #ffd700 eyes, hair, shirt", "steps": 14 }),
        json!({
            "prompt": "1girl, eyes, hair, shirt", "steps": 20,
            "alwayson_scripts": { "impasto": { "args": [{ "forces": ["eyes=gold"], "steps": 14 }] } },
        }),
    ] {
        let mut body = json!({ "seed": 7 });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let answer = post(&studio, "txt2img", &body).json();
        let color = &answer["impasto"]["report"]["colors"][0];
        assert!(color["label"] == "eyes" && color["delta_e"].as_f64().unwrap() < 3.0, "{color}");
        assert_eq!(info(&answer)["steps"], 14);
        assert!(color["mask"].is_null() && answer["impasto"].to_string().len() < 2000, "{}", answer["impasto"]);
    }
}

#[test]
fn second_run_enlarges_the_picture() {
    let studio = Running::start(Options::default());
    let more = json!({
        "enable_hr": true, "hr_scale": 1.5, "hr_upscaler": "Lanczos", "hr_second_pass_steps": 2,
        "denoising_strength": 0.5,
    });
    let answer = painted(&studio, "txt2img", more);
    assert_eq!(picture(&answer, 0).size(), (96, 96).into());
    let info = info(&answer);
    assert_eq!((&info["width"], &info["denoising_strength"]), (&json!(64), &json!(0.5)));
    assert!(info["infotexts"][0].as_str().unwrap().contains("Hires upscale: 1.5, Hires steps: 2"), "{info}");
}

#[test]
fn picture_is_changed_in_its_mask_alone() {
    let studio = Running::start(Options::default());
    let red = Raster::flat(Rgb(255, 0, 0), (64, 64));
    let mut mask = Raster::flat(Rgb(0, 0, 0), (64, 64));
    mask.paste(&Raster::flat(Rgb(255, 255, 255), (32, 64)), 0, 0);
    let whole = painted(&studio, "img2img", json!({ "init_images": [url(&red)], "denoising_strength": 0.5 }));
    assert!(picture(&whole, 0) != red);
    assert_eq!(info(&whole)["denoising_strength"], 0.5);
    assert!(whole["parameters"]["init_images"].is_null());
    for is_part in [false, true] {
        let answer = painted(
            &studio,
            "img2img",
            json!({
                "init_images": [url(&red)], "mask": url(&mask), "denoising_strength": 0.75, "steps": 4, "mask_blur": 4,
                "inpaint_full_res": is_part, "inpaint_full_res_padding": 8, "include_init_images": true,
            }),
        );
        let picture = picture(&answer, 0);
        let kept = (32..64).all(|x| (0..64).all(|y| picture.pixel(x, y) == red.pixel(x, y)));
        assert!(kept && picture != red, "inpaint_full_res {is_part}: {}", notes(&answer));
        assert_eq!(notes(&answer).contains("width and height are not used"), is_part, "{}", notes(&answer));
        assert_eq!(answer["parameters"]["mask"], url(&mask));
    }
    let missing = post(&studio, "img2img", &json!({ "prompt": "a boat" }));
    assert!(missing.status == 400 && missing.detail().contains("init_images has 0 pictures"), "{missing:?}");
}

#[test]
fn clip_skip_reads_another_layer() {
    let studio = Running::start(Options::default());
    let own = painted(&studio, "txt2img", json!({ "clip_skip": 1 }));
    let other = painted(&studio, "txt2img", json!({ "override_settings": { "CLIP_stop_at_last_layers": 2 } }));
    assert_eq!((&info(&own)["clip_skip"], &info(&other)["clip_skip"]), (&json!(1), &json!(2)));
    assert_ne!(picture(&own, 0), picture(&other, 0));
    assert_eq!((notes(&own), notes(&other)), ("[]".into(), "[]".into()));
}

#[test]
fn lists_say_what_a_request_may_choose() {
    let studio = Running::start(Options::default());
    let list = |name: &str| studio.get(&format!("/sdapi/v1/{name}")).json();
    let names = |name: &str| -> Vec<String> {
        let list = list(name);
        list.as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(list("sd-models")[0]["title"], list("options")["sd_model_checkpoint"]);
    assert_eq!(list("options")["CLIP_stop_at_last_layers"], 1);
    for sampler in names("samplers") {
        let answer = painted(&studio, "txt2img", json!({ "sampler_name": sampler }));
        assert_eq!(info(&answer)["sampler_name"], sampler);
    }
    for scheduler in names("schedulers") {
        let answer = painted(&studio, "txt2img", json!({ "sampler_name": "Euler", "scheduler": scheduler }));
        assert!(answer["images"][0].is_string(), "{scheduler}");
    }
    assert_eq!(names("upscalers"), ["None", "Lanczos"]);
    assert_eq!(names("latent-upscale-modes"), ["Latent (bicubic)"]);
    for empty in ["loras", "sd-vae", "sd-modules", "hypernetworks", "face-restorers", "prompt-styles", "extensions"] {
        assert_eq!(list(empty), json!([]), "{empty}");
    }
    assert_eq!(list("embeddings"), json!({ "loaded": {}, "skipped": {} }));
    assert!(list("memory")["ram"].is_object() && list("scripts")["txt2img"] == json!(["impasto"]));
    let model = list("options")["sd_model_checkpoint"].clone();
    let set = |body: Value| post(&studio, "options", &body);
    assert_eq!(set(json!({ "sd_model_checkpoint": model })).json(), json!({ "impasto": { "notes": [] } }));
    assert!(set(json!({ "samples_format": "jpg" })).json().to_string().contains("not used: samples_format"));
    assert!(set(json!({ "sd_model_checkpoint": "other" })).detail().contains("\"other\"; expected the embedded model"));
    assert_eq!(post(&studio, "refresh-loras", &json!({})).json(), json!({}));
}

#[test]
fn loras_of_the_folder_are_listed() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["ink.safetensors", "a/twin.pt", "b/twin.pt", "readme.txt"] {
        let file = folder.path().join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, b"").unwrap();
    }
    let pipeline = impasto::Pipeline::builder().build().unwrap().lora_folder(folder.path());
    assert_eq!(pipeline.lora_names().unwrap(), ["a/twin", "b/twin", "ink"]);
    let studio = Running::start_with(pipeline, Options::default());
    let loras = studio.get("/sdapi/v1/loras").json();
    assert_eq!(loras[2], json!({ "name": "ink", "alias": "ink", "path": "ink", "metadata": {} }));
}

#[test]
fn progress_shows_the_run_and_interrupt_ends_it() {
    let studio = Running::start(Options::default());
    let progress = |query: &str| studio.get(&format!("/sdapi/v1/progress{query}")).json();
    assert_eq!((&progress("")["progress"], &progress("")["state"]["job_count"]), (&json!(0.0), &json!(0)));
    let page = studio.submit(&json!({ "prompt": "a boat", "steps": 2 }));
    studio.ended(page);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| post(&studio, "txt2img", &json!({ "prompt": "a boat", "steps": 150 })));
        let begun = Instant::now();
        let seen = loop {
            let seen = progress("");
            if seen["current_image"].is_string() {
                break seen;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "{seen}");
            std::thread::sleep(Duration::from_millis(20));
        };
        assert!(seen["progress"].as_f64().unwrap() > 0.0 && seen["eta_relative"].as_f64().unwrap() > 0.0, "{seen}");
        assert_eq!((&seen["state"]["sampling_steps"], &seen["state"]["job_count"]), (&json!(150), &json!(1)));
        let png = BASE64_STANDARD.decode(seen["current_image"].as_str().unwrap()).unwrap();
        assert!(impasto::image::load_from_memory(&png).is_ok());
        assert!(progress("?skip_current_image=true")["current_image"].is_null());
        // Requests are answered while the job runs.
        assert_eq!(studio.get("/api/health").json()["running"], true);
        assert_eq!(post(&studio, "interrupt", &json!({})).json(), json!({}));
        let answer = waiting.join().unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        let png = BASE64_STANDARD.decode(answer.json()["images"][0].as_str().unwrap()).unwrap();
        assert_eq!(impasto::image::load_from_memory(&png).unwrap().width(), 256);
        assert!(answer.json()["impasto"].to_string().contains("the run was ended after"), "{answer:?}");
    });
    // The jobs of the page are not interrupted.
    let page = studio.submit(&json!({ "prompt": "a boat", "steps": 20 }));
    post(&studio, "interrupt", &json!({}));
    assert_eq!(studio.ended(page)["state"], "finished");
}

#[test]
fn client_that_leaves_ends_its_job() {
    let studio = Running::start(Options { abandoned: Some(Duration::from_millis(500)), ..Options::default() });
    let body = json!({ "prompt": "a boat", "steps": 150, "batch_size": 4 }).to_string();
    let head = format!(
        "POST /sdapi/v1/txt2img HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        studio.address,
        body.len()
    );
    let mut stream = TcpStream::connect(studio.address).unwrap();
    stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
    let begun = Instant::now();
    let running = || studio.get("/api/jobs").json()[0]["state"] == "running";
    while !running() {
        assert!(begun.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(stream);
    assert_eq!(studio.ended(1)["state"], "cancelled");
}

#[test]
fn waiting_outlasts_the_time_for_arrival() {
    let studio = Running::start(Options { arrival: Duration::from_millis(300), ..Options::default() });
    let begun = Instant::now();
    let answer = post(&studio, "txt2img", &json!({ "prompt": "a boat", "steps": 60 }));
    assert!(answer.status == 200 && begun.elapsed() > Duration::from_millis(300), "{:?}", begun.elapsed());
    let mut stream = TcpStream::connect(studio.address).unwrap();
    let head = format!("Host: {}\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{{", studio.address);
    stream.write_all(format!("POST /sdapi/v1/txt2img HTTP/1.1\r\n{head}").as_bytes()).unwrap();
    let mut late = String::new();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let _ = std::io::Read::read_to_string(&mut stream, &mut late);
    assert!(late.starts_with("HTTP/1.1 408") && late.contains("\"detail\":\"the request took longer"), "{late}");
}

#[test]
fn errors_have_the_form_of_the_web_ui() {
    let studio = Running::start(Options { queue: 0, body: 200_000, ..Options::default() });
    let wrong = [
        (json!({ "steps": "many" }), 400, "steps is \"many\"; expected a whole number"),
        (json!({ "n_iter": 99 }), 400, "Pictures is 99; expected 1 to 4"),
        (json!({ "sampler_name": "Eulr" }), 400, "Sampler \"Eulr\" is not known; did you mean \"Euler\""),
        (json!({ "scheduler": "turbo" }), 400, "scheduler \"turbo\" is not known"),
        (json!({ "prompt": "a".repeat(300_000) }), 413, "at most 200000 bytes"),
        (json!([]), 400, "no JSON object"),
        (json!({ "alwayson_scripts": { "impasto": { "args": [{ "sed": 7 }] } } }), 400, "did you mean `seed`?"),
        (json!({ "prompt": "a boat" }), 429, "0 jobs wait"),
    ];
    for (body, status, words) in wrong {
        let answer = post(&studio, "txt2img", &body);
        assert!(answer.status == status && answer.detail().contains(words), "{answer:?}");
        assert_eq!(answer.json()["detail"], answer.json()["errors"]);
        assert!(answer.json()["error"].is_string());
    }
    assert_eq!(studio.post("/sdapi/v1/txt2img", "text/plain", b"{}").status, 415);
    assert!(studio.get("/sdapi/v1/txt2img").status == 405 && studio.get("/sdapi/v1/txt2img").detail().contains("GET"));
    assert!(studio.get("/sdapi/v1/unknown").detail().contains("/sdapi/v1/unknown is not a part"));
    let answer = post(&studio, "interrogate", &json!({ "image": "" }));
    assert!(answer.status == 501 && answer.detail().contains("describes pictures"), "{answer:?}");
    for (path, body, words) in [
        ("extra-single-image", json!({}), "image is missing"),
        ("extra-single-image", json!({ "image": "!" }), "image is no base64"),
        ("extra-batch-images", json!({ "imageList": [] }), "imageList has 0 pictures; expected 1 to 4"),
        ("extra-batch-images", json!({ "imageList": [7] }), "imageList is 7; expected a text"),
    ] {
        let answer = post(&studio, path, &body);
        assert!(answer.status == 400 && answer.detail().contains(words), "{answer:?}");
    }
    assert!(post(&studio, "png-info", &json!({ "image": "!" })).detail().contains("image is no base64"));
    let bare = url(&Raster::flat(Rgb(0, 0, 0), (8, 8)));
    let none = post(&studio, "png-info", &json!({ "image": bare })).json();
    assert_eq!(none, json!({ "info": "", "items": {}, "parameters": {} }));
}

#[test]
fn pictures_are_enlarged_without_a_run() {
    let studio = Running::start(Options::default());
    let picture = url(&Raster::flat(Rgb(200, 30, 30), (24, 16)));
    let size = |data: &Value| {
        let file = BASE64_STANDARD.decode(data.as_str().unwrap()).unwrap();
        let picture = impasto::image::load_from_memory(&file).unwrap();
        (picture.width(), picture.height())
    };
    let one = post(&studio, "extra-single-image", &json!({ "image": picture, "upscaler_1": "Lanczos" }));
    assert_eq!((size(&one.json()["image"]), one.json()["html_info"].clone()), ((48, 32), json!("")));
    let list = json!([{ "data": picture, "name": "a.png" }, { "data": picture, "name": "b.png" }]);
    let body = json!({ "imageList": list, "upscaler_1": "Lanczos", "upscaling_resize": 3, "gfpgan_visibility": 1 });
    let both = post(&studio, "extra-batch-images", &body).json();
    assert_eq!([&both["images"][0], &both["images"][1]].map(size), [(72, 48), (72, 48)]);
    assert_eq!(both["html_info"], "these fields are not used: gfpgan_visibility");
}

#[test]
fn job_that_fails_says_why() {
    let studio = Running::start(Options::default());
    let own = json!({ "impasto": { "args": [{ "forces": ["hat=red"] }] } });
    let failed = post(&studio, "txt2img", &json!({ "prompt": "a boat", "alwayson_scripts": own }));
    assert!(failed.status == 422 && failed.detail().contains("\"hat\" is not in the prompt"), "{failed:?}");
}

#[test]
fn guard_holds_for_every_api() {
    let studio = Running::start(Options { token: Some("secret".into()), ..Options::default() });
    let get = |path: &str, name: &str, value: &str| {
        let answer = ureq::get(&studio.url(path)).set(name, value).call();
        answer.map_or_else(|error| error.into_response().unwrap().status(), |answer| answer.status())
    };
    for path in ["/sdapi/v1/options", "/v1/models", "/internal/ping"] {
        assert_eq!(studio.get(path).status, 401, "{path}");
        assert_eq!(get(path, "authorization", "Bearer secret"), 200);
        // The web UI's clients send a name and a password, here the token.
        assert_eq!(get(path, "authorization", &format!("Basic {}", BASE64_STANDARD.encode("user:secret"))), 200);
        assert_eq!(get(path, "authorization", &format!("Basic {}", BASE64_STANDARD.encode("secret:"))), 401);
    }
    assert!(studio.get("/sdapi/v1/options").detail().contains("token is missing"));
    let open = Running::start(Options::default());
    let foreign = |path: &str, name: &str, value: &str| {
        let answer = ureq::get(&open.url(path)).set(name, value).call();
        answer.map_or_else(|error| error.into_response().unwrap().status(), |answer| answer.status())
    };
    for path in ["/sdapi/v1/progress", "/v1/models"] {
        assert_eq!(foreign(path, "origin", "http://evil.example"), 403, "{path}");
        assert_eq!(foreign(path, "sec-fetch-site", "cross-site"), 403, "{path}");
        assert_eq!(foreign(path, "host", "evil.example"), 403, "{path}");
        assert_eq!(ureq::request("HEAD", &open.url(path)).call().unwrap().status(), 200);
        let allowed = ureq::request("OPTIONS", &open.url(path)).call().unwrap();
        assert_eq!((allowed.status(), allowed.header("allow")), (204, Some("GET,HEAD")), "{path}");
    }
    let posts = ureq::request("OPTIONS", &open.url("/sdapi/v1/txt2img")).call().unwrap();
    assert_eq!((posts.status(), posts.header("allow")), (204, Some("POST")));
}

#[test]
fn waiting_clients_are_few() {
    let studio = Running::start(Options { connections: 8, ..Options::default() });
    let long = json!({ "prompt": "a boat", "steps": 150 });
    std::thread::scope(|scope| {
        let waiting: Vec<_> = (0..2).map(|_| scope.spawn(|| post(&studio, "txt2img", &long))).collect();
        let begun = Instant::now();
        while studio.get("/api/jobs").json().as_array().unwrap().len() < 2 {
            assert!(begun.elapsed() < Duration::from_secs(30));
        }
        let third = post(&studio, "txt2img", &long);
        assert!(third.status == 503 && third.detail().contains("too many clients"), "{third:?}");
        (1..=2).for_each(|id| drop(studio.delete(&format!("/api/jobs/{id}"))));
        assert!(waiting.into_iter().all(|waiting| waiting.join().unwrap().status == 410));
    });
}

#[test]
fn transparency_of_a_mask_is_its_shape() {
    let studio = Running::start(Options::default());
    let red = Raster::flat(Rgb(255, 0, 0), (64, 64));
    let mut layer = Layer::new((64, 64));
    (0..32).for_each(|x| (0..64).for_each(|y| layer.set(x, y, Rgb(0, 0, 0), 255)));
    let more = json!({
        "init_images": [url(&red)], "mask": serde_json::to_value(&layer).unwrap(), "inpaint_full_res": false,
    });
    let picture = picture(&painted(&studio, "img2img", more), 0);
    assert!((32..64).all(|x| picture.pixel(x, 9) == red.pixel(x, 9)) && picture.pixel(4, 9) != red.pixel(4, 9));
}
