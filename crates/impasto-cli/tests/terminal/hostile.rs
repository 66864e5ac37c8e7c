//! Closed pipes, full disks, and files that were made to harm.

use super::{cache_model, failure, impasto, run, text};
use impasto::{Raster, Rgb};
use serde_json::{Value, json};
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;

/// Writes a small PNG with the text that other programs read.
fn png(folder: &Path, name: &str, parameters: &str) {
    let bytes = Raster::flat(Rgb(9, 9, 9), (64, 64)).to_png(&[("parameters", parameters)]).unwrap();
    fs::write(folder.join(name), bytes).unwrap();
}

/// Writes a file of weights with the learned word of a text encoder, and the given metadata.
fn weights(folder: &Path, name: &str, metadata: &Value) {
    let tensor = json!({ "dtype": "F32", "shape": [1, 768], "data_offsets": [0, 3072] });
    let header = json!({ "__metadata__": metadata, "emb_params": tensor }).to_string();
    let length = (header.len() as u64).to_le_bytes();
    fs::write(folder.join(name), [&length[..], header.as_bytes(), &[0; 3072]].concat()).unwrap();
}

/// Text of a run that the embedded model repeats in an instant.
const TEXT: &str = "a boat\nSteps: 1, Sampler: Euler, Seed: 1, Size: 64x64, Model: the embedded model, RNG: CPU";

#[test]
fn closed_pipe_ends_commands_without_a_word() {
    let folder = tempfile::tempdir().unwrap();
    png(folder.path(), "a.png", TEXT);
    cache_model(folder.path());
    for arguments in [
        &["info", "a.png"][..],
        &["completions", "bash"],
        &["completions", "zsh"],
        &["man"],
        &["models", "--json"],
        &["bench", "--rounds", "1", "--steps", "1", "--size", "64"],
        &["--help"],
        &["look", "a.png"],
        &["again", "a.png"],
        &["paint", "a boat", "--steps", "1", "--size", "64", "--images", "2", "--seed", "7", "--json"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = impasto(folder.path(), arguments).stdout(writer).output().unwrap();
        let told = text(&output.stderr);
        assert!(output.status.success() && !told.contains("panicked"), "{arguments:?}: {told}");
    }
    for name in ["impasto-7.png", "impasto-8.png", "a-again.png", "a-look.png"] {
        assert!(folder.path().join(name).exists(), "{name}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn full_disk_behind_an_output_is_an_error_at_most() {
    let folder = tempfile::tempdir().unwrap();
    png(folder.path(), "a.png", TEXT);
    let full = || fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    for arguments in [&["info", "a.png"][..], &["completions", "bash"], &["man"], &["--help"]] {
        let output = impasto(folder.path(), arguments).stdout(full()).output().unwrap();
        let told = text(&output.stderr);
        assert!(output.status.code() == Some(1) && told.contains("cannot write to the standard output"), "{told}");
        assert!(impasto(folder.path(), arguments).stderr(full()).output().unwrap().status.success(), "{arguments:?}");
    }
    let paint = ["paint", "a zyzzyva", "--steps", "1", "--size", "64", "--seed", "7", "-o", "b.png"];
    assert!(impasto(folder.path(), &paint).stderr(full()).output().unwrap().status.success());
    assert!(folder.path().join("b.png").exists());
    assert_eq!(impasto(folder.path(), &["info", "none"]).stderr(full()).output().unwrap().status.code(), Some(1));
}

#[test]
fn control_characters_of_files_are_escaped() {
    let folder = tempfile::tempdir().unwrap();
    let evil = "a\u{1b}]0;owned\u{7}\u{9b}2J\u{202e}";
    png(folder.path(), "evil.png", &format!("{evil}\nSteps: 1, Sampler: {evil}, Seed: 1, Size: 64x64, Model: {evil}"));
    png(folder.path(), "own.png", &TEXT.replace("a boat", evil));
    let shown = r"a\u001b]0;owned\u0007\u009b2J\u202e";
    weights(folder.path(), "evil.safetensors", &json!({ evil: evil }));
    fs::write(folder.path().join("lines.jsonl"), json!({ evil: 1 }).to_string()).unwrap();
    let [metadata, written] = [format!("{shown}: {shown}"), format!(r#""file":"{shown}.png""#)];
    for (arguments, status, expected) in [
        (&["info", "evil.png"][..], 0, shown),
        (&["info", "evil.safetensors"], 0, &metadata),
        (&["info", evil], 1, shown),
        (&["again", "evil.png"], 1, shown),
        (&["again", "own.png", "--json"], 0, &format!(r#""prompt":"{shown}""#)),
        (&["look", "own.png", &format!("hat {evil}")], 1, &format!("phrase \"hat {shown}\" is not in the prompt")),
        (&["paint", "--prompts", "lines.jsonl"], 1, &format!("unknown field `{shown}`")),
        (&["paint", evil, "--sampler", evil], 2, &format!("--sampler \"{shown}\" is not known")),
        (&["paint", &format!("--{evil}")], 2, "unexpected argument '--a"), // some features of clap drop the rest
        (&["paint", evil, "--steps", "1", "--size", "64", "-o", &format!("{evil}.png"), "--json"], 0, &written),
    ] {
        let output = impasto(folder.path(), arguments).output().unwrap();
        let told = text(&output.stdout) + &text(&output.stderr);
        assert!(!told.contains(|c: char| c == '\u{202e}' || c.is_control() && c != '\n' && c != '\t'), "{told:?}");
        assert!(output.status.code() == Some(status) && told.contains(expected), "{arguments:?}: {told}");
    }
}

#[cfg(unix)]
#[test]
fn info_opens_regular_files_and_each_folder_once() {
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir_all(at("loop/inner")).unwrap();
    weights(folder.path(), "loop/inner/a.safetensors", &json!({}));
    png(folder.path(), "loop/b.png", TEXT);
    for (to, link) in [(".", "loop/one"), (".", "loop/two"), ("..", "loop/inner/up"), ("inner", "loop/same")] {
        symlink(to, at(link)).unwrap();
    }
    let told = text(&run(folder.path(), &["info", "loop"]).stdout);
    assert_eq!((told.matches("a.safetensors").count(), told.matches("b.png").count()), (1, 1), "{told}");

    for (name, config) in [("fifo", None), ("zero", Some("/dev/zero"))] {
        fs::create_dir(at(name)).unwrap();
        weights(folder.path(), &format!("{name}/a.safetensors"), &json!({}));
        let place = at(name).join("config.json");
        match config {
            Some(device) => symlink(device, place).unwrap(),
            None => assert!(std::process::Command::new("mkfifo").arg(place).status().unwrap().success()),
        }
        let told = text(&run(folder.path(), &["info", name]).stdout);
        assert!(told.contains("a.safetensors: 1 tensors"), "{told}");
    }
    for path in ["fifo/config.json", "zero/config.json", "/dev/zero"] {
        assert!(failure(folder.path(), &["info", path], 1).contains("expected a regular file"));
    }
    symlink("/dev/zero", at("zero.png")).unwrap();
    assert!(failure(folder.path(), &["info", "zero.png"], 1).contains("expected a regular file"));
}

#[test]
fn info_says_that_a_folder_has_nothing_to_describe() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("folder")).unwrap();
    let told = || failure(folder.path(), &["info", "folder"], 1);
    assert!(told().contains("folder: the folder has no file of weights and no picture"), "{}", told());
    fs::write(folder.path().join("folder/model.ckpt"), "cposix\nsystem\n(tR.").unwrap();
    assert!(told().contains("model.ckpt: the file is neither a safetensors file nor a checkpoint"), "{}", told());
}

#[test]
fn model_of_a_png_is_neither_fetched_nor_opened() {
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let hub = format!("http://{}", listener.local_addr().unwrap());
    fs::create_dir(folder.path().join("folder")).unwrap();
    for model in ["attacker/model", "/etc", "/etc/passwd", "..", "../etc", "folder", "a/..", "owner/name?x=1", "sd15"] {
        png(folder.path(), "a.png", &TEXT.replace("the embedded model", model));
        for command in ["again", "look"] {
            let mut command = impasto(folder.path(), &[command, "a.png"]);
            let output = command.env_remove("HF_HUB_OFFLINE").env("HF_ENDPOINT", &hub).env("HF_TOKEN", "secret");
            let output = output.output().unwrap();
            let told = text(&output.stderr);
            assert!(output.status.code() == Some(1) && told.contains("--model") && told.contains(model), "{told}");
        }
    }
    assert!(listener.accept().is_err(), "the hub was asked");
}

#[cfg(unix)]
#[test]
fn model_of_a_png_in_the_cache_is_used() {
    let folder = tempfile::tempdir().unwrap();
    let repository = folder.path().join("hub/models--owner--name");
    fs::create_dir_all(repository.join("snapshots")).unwrap();
    fs::create_dir_all(repository.join("refs")).unwrap();
    fs::write(repository.join("refs/main"), "abc").unwrap();
    let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("../impasto-tiny/model").canonicalize().unwrap();
    std::os::unix::fs::symlink(tiny, repository.join("snapshots/abc")).unwrap();
    let small = ["--steps", "1", "--size", "64", "--seed", "7", "-o", "a.png"];
    run(folder.path(), &[&["paint", "a boat", "--model", "owner/name"][..], &small].concat());
    let mut again = impasto(folder.path(), &["again", "a.png"]);
    let output = again.env_remove("HF_HUB_OFFLINE").env("HF_ENDPOINT", "http://127.0.0.1:9").output().unwrap();
    assert!(text(&output.stderr).contains("equal to a.png in every pixel"), "{}", text(&output.stderr));
}

#[cfg(unix)]
#[test]
fn studio_serves_without_a_reader_of_its_output() {
    let folder = tempfile::tempdir().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = impasto(folder.path(), &["studio", "--address", "127.0.0.1:0"]);
    let mut child = command.stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
    let mut told = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stderr.take().unwrap()), &mut told).unwrap();
    assert_eq!(told, "Ctrl-C ends the studio.\n");
    std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(child.wait().unwrap().success());
}
