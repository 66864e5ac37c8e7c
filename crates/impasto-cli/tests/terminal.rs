//! The program as its users start it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

#[path = "terminal/hostile.rs"]
mod hostile;
#[path = "terminal/killed.rs"]
mod killed;
#[path = "terminal/mcp.rs"]
mod mcp;
#[path = "terminal/outputs.rs"]
mod outputs;
#[path = "terminal/queue.rs"]
mod queue;
#[cfg(feature = "otel")]
#[path = "terminal/traces.rs"]
mod traces;

use impasto::raster::Layer;
use impasto::{Pipeline, Raster, Rgb};
use serde_json::Value;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn impasto(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_impasto"));
    command.current_dir(folder).args(arguments).env("HF_HUB_CACHE", folder.join("hub")).env("HF_HUB_OFFLINE", "1");
    command
}

/// Runs the program and returns its output, which must be a success.
fn run(folder: &Path, arguments: &[&str]) -> Output {
    let output = impasto(folder, arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    output
}

/// Runs the program and returns its message, after a failure with exit status `status`.
fn failure(folder: &Path, arguments: &[&str], status: i32) -> String {
    let output = impasto(folder, arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(status), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stderr)
}

/// Puts the index of the model owner/name into the cache of the hub.
fn cache_model(folder: &Path) {
    let snapshot = folder.join("hub/models--owner--name/snapshots/abc");
    std::fs::create_dir_all(&snapshot).unwrap();
    std::fs::write(snapshot.join("model_index.json"), r#"{"_class_name": "StableDiffusionPipeline"}"#).unwrap();
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn json_lines(output: &Output) -> Vec<Value> {
    text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn painted_picture_repeats_and_shows_its_words() {
    let folder = tempfile::tempdir().unwrap();
    let prompt = "1girl, #ffd700 eyes, hair, shirt";
    let output =
        run(folder.path(), &["paint", prompt, "--seed", "7", "--steps", "8", "-o", "a.png", "--report", "a.html"]);
    assert_eq!(text(&output.stdout), "a.png\n");
    assert!(text(&output.stderr).contains("eyes: asked #ffd700"), "{}", text(&output.stderr));
    assert!(std::fs::read_to_string(folder.path().join("a.html")).unwrap().contains("ffd700"));

    let again = run(folder.path(), &["again", "a.png", "-o", "b.png"]);
    assert!(text(&again.stderr).contains("equal to a.png in every pixel"), "{}", text(&again.stderr));
    let changed = run(folder.path(), &["again", "a.png", "-o", "c.png", "--seed", "8", "--json"]);
    assert_eq!(json_lines(&changed)[0]["seed"], 8);
    let [a, b, c] = ["a.png", "b.png", "c.png"].map(|file| Raster::open(folder.path().join(file)).unwrap());
    assert!(a == b && a != c);

    run(folder.path(), &["look", "a.png", "hair"]);
    assert_eq!(Raster::open(folder.path().join("a-look.png")).unwrap().size().width, 2 * 256 + 3 * 8);
    assert!(text(&run(folder.path(), &["info", "a.png"]).stdout).contains("Seed: 7"));
}

#[test]
fn json_has_seed_size_and_colors() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["paint", "1girl, hair", "--force", "hair=teal", "--steps", "8", "--seed", "3", "--json"];
    let lines = json_lines(&run(folder.path(), &arguments));
    let [line] = &lines[..] else { panic!("one picture") };
    assert_eq!((&line["file"], &line["seed"], &line["width"]), (&"impasto-3.png".into(), &3.into(), &256.into()));
    assert_eq!(line["colors"][0]["asked"], "#008080");
    assert!(line["colors"][0]["delta_e"].as_f64().unwrap() < 3.0, "{line}");
}

#[test]
fn estimate_paints_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let told = |steps: &str, images: &str| {
        let common = ["paint", "a red boat", "--seed", "7", "--estimate", "--json", "--steps", steps];
        json_lines(&run(folder.path(), &[&common[..], &["--images", images]].concat())).remove(0)
    };
    let [one, two] = [told("40", "1"), told("40", "2")];
    assert!(one["seconds"].as_f64() > told("4", "1")["seconds"].as_f64(), "{one}");
    assert!(two["seconds"].as_f64() > one["seconds"].as_f64() && two["bytes"] == one["bytes"], "{one}, {two}");
    assert!(one["bytes"].as_u64() > Some(1 << 20), "{one}");
    let line = text(&run(folder.path(), &["paint", "a red boat", "--estimate"]).stdout);
    assert!(line.starts_with("1 picture: ") && line.ends_with(" MiB of memory beside the model\n"), "{line}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "no file is written");
}

#[test]
fn prompts_find_loras_and_words_in_folders() {
    let folder = tempfile::tempdir().unwrap();
    let loras = folder.path().join("loras");
    std::fs::create_dir(&loras).unwrap();
    std::fs::write(loras.join("ink.safetensors"), "no weights").unwrap();
    fn paint<'a>(prompt: &'a str, options: &[&'a str]) -> Vec<&'a str> {
        let fixed = ["paint", prompt, "--seed", "3", "--steps", "1", "--size", "64x64", "-o", "a.png", "--overwrite"];
        [&fixed[..], options].concat()
    }
    let message = failure(folder.path(), &paint("a boat <lora:ink>", &[]), 1);
    assert!(message.contains("the NAME of <lora:NAME> in the prompt is \"ink\""), "{message}");
    assert!(message.contains("name a folder with --lora-dir, or remove the tag"), "{message}");
    let message = failure(folder.path(), &paint("a boat <lora:inc>", &["--lora-dir", "loras"]), 1);
    assert!(message.contains("such as \"ink\""), "{message}");
    let message = failure(folder.path(), &paint("a boat <lora:ink>", &["--lora-dir", "loras"]), 1);
    assert!(message.contains("ink.safetensors"), "{message}");
    let message = failure(folder.path(), &paint("a boat, ink", &["--embedding-dir", "loras"]), 1);
    assert!(message.contains("ink.safetensors"), "{message}");
    run(folder.path(), &paint("a [red|blue] boat <lora:ink>", &["--syntax", "plain", "--weights", "comfy"]));
    run(folder.path(), &paint("a [red|blue] boat AND sea :0.5", &["--lora-dir", "loras", "--embedding-dir", "loras"]));
    let again = run(folder.path(), &["again", "a.png", "-o", "b.png"]);
    assert!(text(&again.stderr).contains("equal to a.png in every pixel"), "{}", text(&again.stderr));
}

#[test]
fn kernels_are_those_that_the_variable_names() {
    let folder = tempfile::tempdir().unwrap();
    let paint = |kernels| {
        let arguments = ["paint", "1girl", "--seed", "3", "--steps", "1", "-o", "a.png", "--overwrite"];
        impasto(folder.path(), &arguments).env("IMPASTO_KERNELS", kernels).output().unwrap()
    };
    assert!(paint("off").status.success());
    let message = text(&paint("avx1024").stderr);
    assert!(message.contains("IMPASTO_KERNELS is avx1024; expected off, scalar, avx2, avx512"), "{message}");
}

#[test]
fn several_images_have_seeds_in_their_names() {
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), &["paint", "a red boat", "--seed", "7", "--images", "2", "--steps", "2", "-o", "out.png"]);
    run(folder.path(), &["paint", "a red boat", "--seed", "8", "--steps", "2", "-o", "one.png"]);
    let [second, alone] = ["out-8.png", "one.png"].map(|file| Raster::open(folder.path().join(file)).unwrap());
    assert_eq!(second, alone);
    assert!(folder.path().join("out-7.png").exists());
}

#[test]
fn file_of_prompts_is_checked_before_it_is_painted() {
    let folder = tempfile::tempdir().unwrap();
    let lines = "{\"prompt\": \"a red boat\"}\n\n{\"prompt\": \"a blue boat\", \"seed\": 9, \"size\": \"128x128\"}\n";
    std::fs::write(folder.path().join("prompts.jsonl"), lines).unwrap();
    let arguments = ["paint", "--prompts", "prompts.jsonl", "--seed", "7", "--steps", "2", "--json"];
    let painted = json_lines(&run(folder.path(), &arguments));
    assert_eq!(
        painted.iter().map(|line| line["file"].as_str().unwrap()).collect::<Vec<_>>(),
        ["impasto-1-7.png", "impasto-3-9.png"]
    );
    assert_eq!((&painted[0]["seed"], &painted[1]["seed"], &painted[1]["width"]), (&7.into(), &9.into(), &128.into()));

    std::fs::write(folder.path().join("broken.jsonl"), format!("{lines}{{\"promt\": \"a boat\"}}\n")).unwrap();
    let message = failure(folder.path(), &["paint", "--prompts", "broken.jsonl", "-o", "no.png"], 1);
    assert!(message.contains("broken.jsonl, line 4: unknown field `promt`"), "{message}");
    assert!(!folder.path().join("no-1.png").exists());
    std::fs::write(folder.path().join("empty.jsonl"), "\n\n").unwrap();
    assert!(failure(folder.path(), &["paint", "--prompts", "empty.jsonl"], 1).contains("the file has no prompts"));
}

#[test]
fn prompts_are_read_from_the_standard_input() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = impasto(folder.path(), &["paint", "--prompts", "-", "--steps", "1", "-o", "in.png"])
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"{\"prompt\": \"a red boat\"}\n").unwrap();
    assert!(child.wait().unwrap().success());
    assert!(folder.path().join("in.png").exists());
}

#[test]
fn map_and_areas_place_things() {
    let folder = tempfile::tempdir().unwrap();
    let mut map = Raster::flat(Rgb(0, 0, 255), (256, 256));
    map.paste(&Raster::flat(Rgb(255, 0, 0), (96, 96)), 16, 128);
    map.save(folder.path().join("map.png")).unwrap();
    let arguments = ["paint", "a house, sky", "--seed", "7", "--steps", "4", "--map", "map.png"];
    let plain = ["paint", "a house, sky", "--seed", "7", "--steps", "4", "-o", "plain.png"];
    run(folder.path(), &[&arguments[..], &["--area", "red=house:1.5", "--area", "blue=sky"]].concat());
    run(folder.path(), &plain);
    let [painted, plain] = ["impasto-7.png", "plain.png"].map(|file| Raster::open(folder.path().join(file)).unwrap());
    assert!(painted != plain);
    let message = failure(folder.path(), &[&arguments[..], &["--area", "green=house"]].concat(), 1);
    assert!(message.contains("not in the map"), "{message}");
    let near = [&arguments[..], &["--area", "#f00a0a=house", "--area", "blue=sky", "-o", "near.png"]].concat();
    assert!(failure(folder.path(), &near, 1).contains("color #f00a0a is not in the map"));
    run(folder.path(), &[&near[..], &["--tolerance", "30"]].concat());
}

#[test]
fn drawing_steers_by_the_embedded_controlnet() {
    let folder = tempfile::tempdir().unwrap();
    let mut lines = Raster::flat(Rgb(255, 255, 255), (256, 256));
    (64..192).for_each(|at| {
        [(at, 64), (at, 191), (64, at), (191, at)].iter().for_each(|(x, y)| lines.set(*x, *y, Rgb(0, 0, 0)))
    });
    lines.save(folder.path().join("lines.png")).unwrap();
    let arguments = ["paint", "a house", "--seed", "7", "--steps", "2", "--control", "embedded=lines.png:0.9"];
    run(folder.path(), &arguments);
    run(folder.path(), &["paint", "a house", "--seed", "7", "--steps", "2", "-o", "plain.png"]);
    let [drawn, plain] = ["impasto-7.png", "plain.png"].map(|file| Raster::open(folder.path().join(file)).unwrap());
    assert!(drawn != plain);
    let colored = ["paint", "--model", "embedded-colorizer", "--sketch", "lines.png", "--reference", "plain.png"];
    run(folder.path(), &[&colored[..], &["--seed", "7", "--steps", "2", "-o", "colored.png"]].concat());
    // Line art alone is followed by the embedded ControlNet at its own scale.
    let same = ["paint", "a house", "--seed", "7", "--steps", "2", "-o"];
    run(folder.path(), &[&same[..], &["named.png", "--control", "embedded=lines.png"]].concat());
    run(folder.path(), &[&same[..], &["alone.png", "--line-art", "lines.png"]].concat());
    let [named, alone] = ["named.png", "alone.png"].map(|file| Raster::open(folder.path().join(file)).unwrap());
    assert!(named == alone && named != plain);
}

#[test]
fn picture_of_another_program_repeats_its_text() {
    let folder = tempfile::tempdir().unwrap();
    let jpeg = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/recipe/exif.jpg");
    assert!(text(&run(folder.path(), &["info", jpeg]).stdout).contains("Sampler: Euler a"));
    let again =
        run(folder.path(), &["again", jpeg, "--model", "embedded", "--steps", "1", "-o", "again.png", "--json"]);
    let line = &json_lines(&again)[0];
    assert_eq!((&line["prompt"], &line["seed"]), (&"1girl, gold eyes, red hair".into(), &77.into()));
    // The text is shown as its program wrote it, although its color is no exact color.
    let png = Raster::flat(Rgb(9, 9, 9), (64, 32))
        .to_png(&[("parameters", "#fab \\(fan art\\)\nSteps: 1, Seed: 7, Size: 64x32")]);
    std::fs::write(folder.path().join("web.png"), png.unwrap()).unwrap();
    let told = text(&run(folder.path(), &["info", "web.png"]).stdout);
    assert!(told.starts_with("web.png: 64×32\n  #fab \\(fan art\\)\n"), "{told}");
}

#[test]
fn mask_in_alpha_repaints_its_shape() {
    let folder = tempfile::tempdir().unwrap();
    Raster::flat(Rgb(90, 130, 60), (64, 64)).save(folder.path().join("start.png")).unwrap();
    let mut hole = Layer::new((64, 64));
    (0..64).for_each(|x| (0..32).for_each(|y| hole.set(x, y, Rgb(0, 0, 0), 255)));
    hole.save(folder.path().join("mask.png")).unwrap();
    let arguments = ["paint", "a boat", "--start", "start.png", "--mask", "mask.png", "--steps", "2", "--json"];
    let line = &json_lines(&run(folder.path(), &arguments))[0];
    assert!(line["notes"][0].as_str().unwrap().contains("transparent parts are repainted"), "{line}");
}

#[test]
fn repainting_keeps_the_pixels_outside_of_the_mask() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let prompt = "1girl, red hair, blue shirt, green background";
    run(folder.path(), &["paint", prompt, "--seed", "7", "--steps", "8", "-o", "first.png"]);
    let first = Raster::open(file("first.png")).unwrap();
    first.crop(0..251, 0..203).unwrap().save(file("odd.png")).unwrap(); // a size that no cell divides
    let mut mask = Raster::flat(Rgb(0, 0, 0), (203, 251));
    mask.paste(&Raster::flat(Rgb(255, 255, 255), (203, 70)), 0, 181);
    mask.save(file("mask.png")).unwrap();
    let lower =
        ["paint", "1girl, yellow shirt", "--start", "odd.png", "--strength", "1", "--steps", "8", "-o", "lower.png"];
    let told = text(&run(folder.path(), &[&lower[..], &["--mask", "mask.png", "--seed", "1"]].concat()).stderr);
    assert!(told.contains("seam: ΔE ") && told.contains("203×251"), "{told}");
    let [given, lower] = ["odd.png", "lower.png"].map(|name| Raster::open(file(name)).unwrap());
    let upper = |picture: &Raster| picture.crop(0..181, 0..203).unwrap();
    assert!(upper(&given) == upper(&lower) && given != lower);
    let told = text(&run(folder.path(), &["again", "lower.png"]).stderr);
    assert!(told.contains("equal to lower.png in every pixel"), "{told}");

    let arguments =
        ["paint", "1girl, yellow shirt", "--start", "first.png", "--strength", "1", "--seed", "1", "--steps", "8"];
    let thing = ["--mask-where", "shirt:4", "--soften", "0", "--feather", "2", "--json", "-o", "thing.png"];
    let line = &json_lines(&run(folder.path(), &[&arguments[..], &thing].concat()))[0];
    assert!(line["seam"]["result"].is_number() || line["seam"].is_null(), "{line}");
    let thing = Raster::open(file("thing.png")).unwrap();
    assert!(thing.crop(0..40, 0..256).unwrap() == first.crop(0..40, 0..256).unwrap() && thing != first);
}

#[test]
fn details_and_second_runs_are_painted() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    run(
        folder.path(),
        &["paint", "1girl, red hair, eyes, blue shirt", "--seed", "7", "--steps", "8", "-o", "first.png"],
    );
    let detail =
        ["paint", "1girl, red hair, eyes, blue shirt", "--start", "first.png", "--strength", "0", "--seed", "7"];
    let more = ["--detail", "hair=1girl, #20c0a0 hair, eyes:0.5", "--steps", "8", "-o", "detail.png", "--json"];
    let line = &json_lines(&run(folder.path(), &[&detail[..], &more].concat()))[0];
    assert_eq!(line["colors"][0]["asked"], "#20c0a0", "{line}");
    let [first, detail] = ["first.png", "detail.png"].map(|name| Raster::open(file(name)).unwrap());
    let below = |picture: &Raster| picture.crop(240..256, 110..150).unwrap();
    assert!(first != detail && below(&first) == below(&detail));
    let large =
        ["paint", "a red boat", "--size", "64x48", "--steps", "4", "--hires", "1.5:0.5", "--seamless", "across"];
    let line = &json_lines(&run(folder.path(), &[&large[..], &["--json"]].concat()))[0];
    assert_eq!((&line["width"], &line["height"]), (&96.into(), &72.into()));
    let told = text(&run(folder.path(), &["info", line["file"].as_str().unwrap()]).stdout);
    assert!(told.contains("Hires upscale: 1.5"), "{told}");
}

#[test]
fn mistakes_are_named_with_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let message = |arguments: &[&str], status| failure(folder.path(), arguments, status);
    assert!(message(&["paint"], 2).contains("no prompt is given"));
    assert!(
        message(&["paint", "a boat", "--area", "red=boat"], 2).contains("--area is given without --map; give both")
    );
    assert!(message(&["paint", "a boat", "--steps", "0"], 2).contains("--steps is 0; expected 1 to 1000"));
    assert!(message(&["paint", "a boat", "--scale", "-1"], 2).contains("--scale is -1; expected 0 or more"));
    assert!(message(&["paint", "a boat", "-o", "boat.jpg"], 2).contains("ends in .png"));
    assert!(message(&["paint", "a boat", "--preview", "boat.bmp"], 2).contains("ends in .png or .jpg"));
    assert!(message(&["look", "missing.png", "-o", "look.bmp"], 2).contains("ends in .png or .jpg"));
    assert!(message(&["look", "missing.png", "--opacity", "nan"], 2).contains("expected 0 to 1"));
    assert!(message(&["paint", "a boat", "--start", "none.png"], 1).contains("none.png"));
    assert!(message(&["paint", "a boat", "-o", "none/boat.png"], 1).contains("none: this folder does not exist"));
    assert!(message(&["paint", "a boat", "--report", "none/a.html"], 1).contains("create it first"));
    assert!(message(&["paint", "a boat", "--mask-where", "boat"], 2).contains("--mask-where is given without --start"));
    assert!(message(&["paint", "a boat", "--feather", "3"], 2).contains("without --mask, --mask-where or --detail"));
    assert!(message(&["paint", "a boat", "--hires", "0.5"], 1).contains("the SCALE of --hires is 0.5"));
    assert!(message(&["paint", "a boat", "--hires", "big"], 2).contains("SCALE:STRENGTH"));
    assert!(message(&["paint", "a boat", "--detail", "boat:2"], 1).contains("the STRENGTH of --detail is 2"));
    assert!(message(&["paint", "a boat", "--strength", "0", "--start", "x.png"], 2).contains("--strength is 0"));
    assert!(message(&["paint", "a boat", "--force", "boat"], 2).contains("PHRASE=COLOR"));
    assert!(message(&["paint", "a boat", "--size", "wide"], 2).contains("512x768"));
    assert!(message(&["paint", "a boat", "--device", "gpu"], 2).contains("cuda"));
    assert!(message(&["paint", "a boat", "--model", "nowhere"], 1).contains("embedded-colorizer"));
    assert!(message(&["paint", "a boat", "--model", "owner/name"], 1).contains("hf download owner/name"));
    assert!(message(&["paint", "a boat", "--force", "house=red"], 1).contains("\"house\" is not in the prompt"));
    assert!(message(&["paint", "a boat", "--sampler", "Eulr"], 2).contains("--sampler \"Eulr\" is not known; did you"));
    assert!(message(&["again", "missing.png"], 1).contains("missing.png"));
    assert!(message(&["again", "missing.png", "--report", "none/a.html"], 1).contains("create it first"));
    assert!(message(&["look", "missing.png", "-o", "none/look.png"], 1).contains("create it first"));
    Raster::flat(Rgb(0, 0, 0), (8, 8)).save(folder.path().join("bare.png")).unwrap();
    assert!(message(&["again", "bare.png"], 1).contains("has no recipe"));
    // Settings are checked before the picture is read and the model is loaded.
    for (setting, fault) in [
        (["--steps", "0"], "--steps is 0; expected 1 to 1000"),
        (["--scale", "-1"], "--scale is -1; expected 0 or more"),
        (["--size", "65x64"], "the width of --size is 65; expected a multiple of 8"),
        (["--sampler", "Eulr"], "--sampler \"Eulr\" is not known; did you mean"),
    ] {
        assert!(message(&[&["again", "missing.png"][..], &setting].concat(), 2).contains(fault), "{fault}");
        if setting[0] == "--steps" || setting[0] == "--size" {
            assert!(message(&[&["bench", "--model", "missing"][..], &setting].concat(), 2).contains(fault), "{fault}");
        }
    }
}

#[test]
fn options_of_other_programs_work_or_are_explained() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["paint", "a red boat", "--size", "64", "--steps", "1", "--json"];
    let painted = |more: &[&str]| json_lines(&run(folder.path(), &[&arguments[..], more].concat())).remove(0);
    assert_ne!(painted(&["--seed", "-1"])["seed"], painted(&["--seed", "-1"])["seed"]);
    let file = painted(&["--cfg", "3.5", "--negative-prompt", "blurry"])["file"].as_str().unwrap().to_owned();
    let told = text(&run(folder.path(), &["info", &file]).stdout);
    assert!(told.contains("CFG scale: 3.5") && told.contains("Negative prompt: blurry"), "{told}");
    for (more, tip) in [
        (&["--width", "64"][..], "--size WIDTHxHEIGHT"),
        (&["-H64"], "--size WIDTHxHEIGHT"),
        (&["-s", "20"], "--steps NUMBER sets the number of steps"),
        (&["-n", "2"], "--images NUMBER"),
        (&["--prompt", "a boat"], "impasto paint \"a red boat\""),
    ] {
        let message = failure(folder.path(), &[&arguments[..], more].concat(), 2);
        assert!(message.contains(tip) && !message.contains("a similar argument"), "{message}");
    }
}

#[test]
fn notes_are_told_once_and_before_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["paint", "a red zyzzyva", "--seed", "7", "--images", "2", "--size", "64", "--steps", "1"];
    let told = text(&run(folder.path(), &arguments).stderr);
    let notes: Vec<usize> = told.match_indices("zyzzyva").map(|(at, _)| at).collect();
    let [note] = notes[..] else { panic!("one note: {told}") };
    assert!(told[..note].contains("note: ") && note < told.find("seed 7").unwrap(), "{told}");
    for command in ["again", "look"] {
        let told = text(&run(folder.path(), &[command, "impasto-7.png"]).stderr);
        assert_eq!(told.matches("zyzzyva").count(), 1, "{told}");
    }
    let bench = ["bench", "--prompt", "a red zyzzyva", "--rounds", "2", "--steps", "1", "--size", "64"];
    let told = text(&run(folder.path(), &bench).stderr);
    assert_eq!(told.matches("zyzzyva").count(), 1, "{told}");
    // Each line of a file of prompts has its own notes.
    let line = "{\"prompt\": \"a zyzzyva\", \"images\": 2}\n";
    std::fs::write(folder.path().join("lines.jsonl"), line.repeat(2)).unwrap();
    let lines = ["paint", "--prompts", "lines.jsonl", "--steps", "1", "--size", "64"];
    let told = text(&run(folder.path(), &lines).stderr);
    assert_eq!(told.matches("zyzzyva").count(), 2, "{told}");
    assert!(told.contains("line 1: note: ") && told.contains("line 2: note: "), "{told}");
}

#[test]
fn seed_of_again_is_that_of_the_picture() {
    let folder = tempfile::tempdir().unwrap();
    let pipeline = Pipeline::builder().build().unwrap();
    let output = pipeline.request("a red boat").size((64, 64)).seed(7).images(3).steps(1).run().unwrap();
    output.save(2, folder.path().join("third.png")).unwrap();
    let again = json_lines(&run(folder.path(), &["again", "third.png", "--seed", "20", "--json"]));
    assert_eq!((&again[0]["seed"], &again[0]["file"]), (&20.into(), &"third-again.png".into()));
    let told = text(&run(folder.path(), &["info", "third-again.png"]).stdout);
    assert!(told.contains("Seed: 20,"), "{told}");
    // The first picture of the batch has a seed below 0, and so the seeds go round.
    let again = json_lines(&run(folder.path(), &["again", "third.png", "--seed", "1", "--json"]));
    assert_eq!(again[0]["seed"], 1);
}

#[test]
fn models_of_the_cache_are_listed() {
    let folder = tempfile::tempdir().unwrap();
    cache_model(folder.path());
    let listed = text(&run(folder.path(), &["models"]).stdout);
    assert!(listed.contains("owner/name") && listed.contains("StableDiffusionPipeline"), "{listed}");
    assert_eq!(json_lines(&run(folder.path(), &["models", "--json"]))[0]["repository"], "owner/name");
}

#[test]
fn bench_completions_and_man_page_are_printed() {
    let folder = tempfile::tempdir().unwrap();
    let lines = json_lines(&run(folder.path(), &["bench", "--rounds", "1", "--steps", "2", "--json"]));
    assert!(lines[0]["step"].as_f64().unwrap() > 0.0 && lines[0]["size"] == "256×256");
    assert!(text(&run(folder.path(), &["completions", "bash"]).stdout).contains("--best-of"));
    assert!(text(&run(folder.path(), &["man"]).stdout).contains(".TH impasto 1"));
    run(folder.path(), &["man", "."]);
    assert!(std::fs::read_to_string(folder.path().join("impasto-paint.1")).unwrap().contains("best"));
}

#[test]
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn help_and_mistakes_do_not_wait_for_libtorch() {
    let folder = tempfile::tempdir().unwrap();
    let starts_libtorch = |arguments: &[&str]| {
        let output = impasto(folder.path(), arguments).env("LD_DEBUG", "files").output().unwrap();
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        log.lines().any(|line| line.contains("calling init:") && line.contains("libtorch_cpu"))
    };
    assert!(starts_libtorch(&["models"]));
    for arguments in
        [&["--version"][..], &["paint", "--help"], &["completions", "zsh"], &["man"], &["paint", "--stpes"]]
    {
        assert!(!starts_libtorch(arguments), "{arguments:?}");
    }
}

/// Writes a LoRA of zeros with the given tensors, and the metadata of a trainer.
fn write_lora(path: &Path, tensors: &[(&str, &[usize])]) {
    let metadata = serde_json::json!({
        "ss_dataset_dirs": r#"{"10_zzq boat": {"n_repeats": 10}}"#,
        "ss_tag_frequency": r#"{"10_zzq boat": {"sea": 3, "1girl": 9}}"#,
        "ss_resolution": "(768, 512)",
    });
    let (mut header, mut end) = (serde_json::Map::from_iter([("__metadata__".into(), metadata)]), 0);
    for (name, shape) in tensors {
        let start = end;
        end += 4 * shape.iter().product::<usize>();
        let entry = serde_json::json!({ "dtype": "F32", "shape": shape, "data_offsets": [start, end] });
        header.insert((*name).into(), entry);
    }
    let header = Value::Object(header).to_string();
    let length = (header.len() as u64).to_le_bytes();
    std::fs::write(path, [&length[..], header.as_bytes(), &vec![0; end]].concat()).unwrap();
}

#[test]
fn flow_paints_with_another_shift_and_offloaded() {
    let folder = tempfile::tempdir().unwrap();
    let picture = |file: &str, options: &[&str]| {
        let paint = ["paint", "a red boat", "--model", "embedded-flow", "--seed", "7", "--steps", "3", "-o", file];
        run(folder.path(), &[&paint, options].concat());
        Raster::open(folder.path().join(file)).unwrap()
    };
    let own = picture("own.png", &[]);
    assert!(picture("shifted.png", &["--shift", "1"]) != own);
    assert!(picture("same.png", &["--shift", "3"]) == own, "3 is the model's own shift");
    let apart =
        own.bytes().iter().zip(picture("offloaded.png", &["--offload"]).bytes()).map(|(a, b)| a.abs_diff(*b)).max();
    assert!(apart <= Some(3), "{apart:?}");
}

#[test]
fn three_files_of_anima_paint() {
    let folder = tempfile::tempdir().unwrap();
    let golden = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden"));
    for file in ["anima.safetensors", "qwen_3_06b_base.safetensors", "qwen_image_vae.safetensors"] {
        std::fs::copy(golden.join("single_file_anima").join(file), folder.path().join(file)).unwrap();
    }
    let paint = ["paint", "1girl, (red bow:1.2)", "--size", "64x64", "--steps", "2", "--seed", "3", "-o", "a.png"];
    let model = [&paint[..], &["--model", "anima.safetensors", "--vae", "qwen_image_vae.safetensors"]].concat();
    let lost = failure(folder.path(), &model, 1);
    assert!(lost.contains("add a text encoder with --text-encoder"), "{lost}");
    let model = [&model[..], &["--text-encoder", "qwen_3_06b_base.safetensors"]].concat();
    let lost = failure(folder.path(), &model, 1);
    assert!(lost.contains("tokenizer/tokenizer.json") && lost.contains("Qwen/Qwen3-0.6B"), "{lost}");
    for (tokenizer, files) in [
        ("tokenizer", &["vocab.json", "merges.txt", "tokenizer_config.json"][..]),
        ("t5_tokenizer", &["tokenizer.json"]),
    ] {
        std::fs::create_dir(folder.path().join(tokenizer)).unwrap();
        let from = if tokenizer == "tokenizer" { "models/tokenizer-qwen" } else { "models/tokenizer-t5" };
        for file in files {
            std::fs::copy(golden.join(from).join(file), folder.path().join(tokenizer).join(file)).unwrap();
        }
    }
    run(folder.path(), &model);
    assert_eq!(Raster::open(folder.path().join("a.png")).unwrap().size().to_string(), "64×64");
    let told = text(&run(folder.path(), &["info", "anima.safetensors"]).stdout);
    assert!(told.contains("is an Anima model") && told.contains("transformer: 67 tensors"), "{told}");
}

#[test]
fn info_describes_a_lora() {
    let folder = tempfile::tempdir().unwrap();
    let lokr: [(&str, &[usize]); 5] = [
        ("lora_unet_mid_block_attentions_0_proj_in.lokr_w1", &[2, 2]),
        ("lora_unet_mid_block_attentions_0_proj_in.lokr_w2_a", &[4, 3]),
        ("lora_unet_mid_block_attentions_0_proj_in.lokr_w2_b", &[3, 4]),
        ("lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight", &[16, 8]),
        ("lora_te_text_model_encoder_layers_0_mlp_fc1.lora_up.weight", &[8, 16]),
    ];
    write_lora(&folder.path().join("ink.safetensors"), &lokr);
    let told = text(&run(folder.path(), &["info", "ink.safetensors"]).stdout);
    for line in [
        "  algorithms: LoKr (1 module), LoRA (1 module)",
        "  changes: text_encoder (1 module), unet (1 module)",
        "  ranks: 3 to 16",
        "  trigger words: zzq boat",
        "  frequent tags: 1girl, sea",
        "  trained at: 768×512",
    ] {
        assert!(told.lines().any(|other| other == line), "{line}: {told}");
    }
    write_lora(&folder.path().join("half.safetensors"), &lokr[..2]);
    let told = text(&run(folder.path(), &["info", "half.safetensors"]).stdout);
    assert!(
        told.contains("\n  the module lora_unet_mid_block_attentions_0_proj_in lacks the tensor lokr_w2_b"),
        "{told}"
    );
}
