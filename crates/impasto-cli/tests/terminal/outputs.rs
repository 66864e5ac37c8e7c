//! Files that the program writes: names, files that stay, and going on after Ctrl-C.

use super::{failure, impasto, json_lines, run, text};
use impasto::{Raster, Rgb};
use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::Stdio;

/// Arguments of a small picture.
const SMALL: [&str; 8] = ["paint", "a red boat", "--seed", "7", "--steps", "1", "--size", "64"];

fn with<'a>(arguments: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [arguments, more].concat()
}

/// Returns the names and contents of a folder's files, without folders. A running program may rename a file that it
/// writes before the file is read here; such files are left out.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap()).filter(|entry| !entry.path().is_dir());
    let read = |entry: fs::DirEntry| match fs::read(entry.path()) {
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        bytes => Some((entry.file_name().into_string().unwrap(), bytes.unwrap())),
    };
    entries.filter_map(read).collect()
}

#[test]
fn default_names_replace_no_file() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["impasto-7.png", "impasto-7-2.png", "impasto-7-3.png"] {
        assert_eq!(text(&run(folder.path(), &SMALL).stdout), format!("{name}\n"));
    }
    for (command, names) in [("again", ["a-again.png", "a-again-2.png"]), ("look", ["a-look.png", "a-look-2.png"])] {
        fs::rename(folder.path().join("impasto-7.png"), folder.path().join("a.png")).ok();
        for name in names {
            assert_eq!(text(&run(folder.path(), &[command, "a.png"]).stdout), format!("{name}\n"));
        }
    }
    assert_eq!(contents(folder.path()).len(), 7);
}

#[test]
fn folder_as_output_gets_the_default_name() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("pictures")).unwrap();
    let lines = |arguments: &[&str]| text(&run(folder.path(), arguments).stdout);
    assert_eq!(lines(&with(&SMALL, &["-o", "pictures"])), "pictures/impasto-7.png\n");
    assert_eq!(lines(&["again", "pictures/impasto-7.png", "-o", "."]), "./impasto-7-again.png\n");
    assert_eq!(lines(&["look", "pictures/impasto-7.png", "-o", "pictures/"]), "pictures/impasto-7-look.png\n");
    assert!(failure(folder.path(), &with(&SMALL, &["-o", "none/"]), 2).contains("ends in .png"));
}

#[test]
fn given_name_is_replaced_only_by_overwrite() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.png", "a.html", "a-8.png", "link.png"] {
        fs::write(folder.path().join(name), "old").unwrap();
    }
    let before = contents(folder.path());
    for more in [
        &["-o", "a.png"][..],
        &["-o", "new.png", "--report", "a.html"],
        &["-o", "new.png", "--preview", "a.png"],
        &["-o", "a.png", "--images", "2"],
    ] {
        let message = failure(folder.path(), &with(&SMALL, more), 1);
        assert!(message.contains("exists already") && message.contains("--overwrite"), "{message}");
    }
    assert_eq!(contents(folder.path()), before);
    let all = ["-o", "a.png", "--report", "a.html", "--preview", "link.png", "--overwrite"];
    run(folder.path(), &with(&SMALL, &all));
    let after = contents(folder.path());
    assert!(["a.png", "a.html", "link.png"].iter().all(|name| after[*name] != before[*name]));
    assert_eq!(after.len(), before.len());
    for command in ["again", "look"] {
        assert!(failure(folder.path(), &[command, "a.png", "-o", "link.png"], 1).contains("exists already"));
        run(folder.path(), &[command, "a.png", "-o", "link.png", "--overwrite"]);
    }
}

#[test]
fn outputs_equal_to_inputs_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), &with(&SMALL, &["-o", "in.png"]));
    fs::create_dir(folder.path().join("inner")).unwrap();
    let before = contents(folder.path());
    let start = with(&SMALL, &["--start", "in.png", "--overwrite"]);
    for (arguments, option) in [
        (with(&start, &["-o", "inner/../in.png"]), "--start"),
        (with(&start, &["--report", "in.png"]), "--start"),
        (with(&start, &["--preview", "./in.png"]), "--start"),
        (with(&SMALL, &["-o", "new.png", "--report", "inner/../new.png"]), "--output"),
        (with(&SMALL, &["-o", "new.png", "--preview", "new.png"]), "--output"),
        (with(&SMALL, &["-o", "new.png", "--images", "2", "--preview", "new-8.png"]), "--output"),
        (vec!["again", "in.png", "-o", "in.png", "--overwrite"], "the picture"),
        (vec!["again", "in.png", "-o", "new.png", "--report", "in.png", "--overwrite"], "the picture"),
        (vec!["look", "in.png", "-o", "./in.png", "--overwrite"], "the picture"),
    ] {
        let message = failure(folder.path(), &arguments, 2);
        assert!(message.contains(&format!("is both {option} and ")), "{arguments:?}: {message}");
    }
    assert_eq!(contents(folder.path()), before);
}

#[test]
fn programs_at_the_same_time_keep_all_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let prompts: Vec<String> = (0..4).map(|number| format!("a red boat, {number}")).collect();
    let start = |prompt: &String| {
        let mut command = impasto(folder.path(), &["paint", prompt, "-o", "a.png", "--seed", "7", "--size", "64"]);
        command.args(["--steps", "1", "--images", "2", "--threads", "1"]).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let programs: Vec<_> = prompts.iter().map(start).collect();
    let (mut named, mut refused) = (0, 0);
    for program in programs {
        let output = program.wait_with_output().unwrap();
        named += text(&output.stdout).lines().count();
        refused += usize::from(!output.status.success()); // another program was faster
    }
    let pictures = contents(folder.path());
    assert_eq!((pictures.len(), refused * 2 + named), (named, 8));
    for name in pictures.keys() {
        Raster::open(folder.path().join(name)).unwrap();
    }
}

/// Interrupts a command after its first picture, follows the advice, and compares the folder with that of the command
/// `whole`, which is not interrupted. `{seed}` in `whole` stands for the seed of the advice.
#[cfg(unix)]
fn assert_advice_completes(prepare: impl Fn(&Path), arguments: &[&str], whole: &[&str]) {
    use std::time::Duration;
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    folders.iter().for_each(|folder| prepare(folder.path()));
    let folder = folders[0].path();
    let mut command = impasto(folder, arguments);
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let pictures = || contents(folder).keys().filter(|name| name.contains('-') && name.ends_with(".png")).count();
    for _ in 0..1200 {
        if pictures() > 0 {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let output = child.wait_with_output().unwrap();
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{message}");
    assert!(message.contains(&format!("interrupted; {} of ", pictures())), "{message}");
    let (_, advice) = message.split_once("repeat the command with ").unwrap();
    let advice: Vec<&str> = advice.split([';', '\n']).next().unwrap().split(' ').collect();
    let again: Vec<&str> = arguments.iter().chain(&advice).copied().collect();
    run(folder, &again);
    let seed = advice.iter().skip_while(|word| **word != "--seed").nth(1).copied().unwrap_or_default();
    let whole: Vec<&str> = whole.iter().map(|word| if *word == "{seed}" { seed } else { *word }).collect();
    run(folders[1].path(), &whole);
    let [resumed, whole] = [0, 1].map(|index| contents(folders[index].path()));
    assert_eq!(resumed.keys().collect::<Vec<_>>(), whole.keys().collect::<Vec<_>>());
    for (name, bytes) in resumed.iter().filter(|(name, _)| name.ends_with(".png")) {
        assert!(*bytes == whole[name], "{name} differs");
    }
}

#[cfg(unix)]
#[test]
fn advice_after_ctrl_c_completes_the_pictures() {
    let several = ["paint", "a red boat", "--images", "4", "--steps", "20", "--size", "128"];
    let seeded = with(&several, &["--seed", "7", "-o", "out.png", "--report", "r.html", "--preview", "p.png"]);
    assert_advice_completes(|_| {}, &seeded, &seeded);
    // A random seed, and names that the program chose.
    for random in [&several[..], &with(&several, &["--seed", "-1"])] {
        assert_advice_completes(|_| {}, random, &with(&several, &["--seed", "{seed}"]));
    }
}

#[cfg(unix)]
#[test]
fn advice_completes_a_search_for_the_best_seeds() {
    let best = ["paint", "1girl, hair, eyes", "--force", "hair=teal", "--images", "3", "--best-of", "2", "--seed", "7"];
    let best = with(&best, &["--steps", "8", "--size", "128", "-o", "out.png"]);
    assert_advice_completes(|_| {}, &best, &best);
}

#[test]
fn best_of_several_seeds_has_the_chosen_name() {
    let folder = tempfile::tempdir().unwrap();
    let best = ["paint", "1girl, hair", "--force", "hair=teal", "--best-of", "2", "--steps", "2", "--size", "64"];
    let run = run(folder.path(), &with(&best, &["-o", "out.png", "--report", "run.html"]));
    assert!(run.status.success(), "{}", text(&run.stderr));
    assert!(["out.png", "run.html"].iter().all(|file| folder.path().join(file).exists()));
}

#[cfg(unix)]
#[test]
fn advice_completes_a_file_of_prompts() {
    let lines = r#"
        {"prompt": "a red boat", "seed": 3, "images": 2}

        {"prompt": "a blue boat", "images": 2}
        {"prompt": "a green boat", "start": "start.png"}"#;
    let prepare = |folder: &Path| {
        fs::write(folder.join("lines.jsonl"), lines).unwrap();
        Raster::flat(Rgb(90, 160, 90), (128, 128)).save(folder.join("start.png")).unwrap();
    };
    let arguments = ["paint", "--prompts", "lines.jsonl", "--seed", "7", "--steps", "20", "--size", "128"];
    assert_advice_completes(prepare, &arguments, &arguments);
    let named = with(&arguments, &["-o", "out.png"]);
    assert_advice_completes(prepare, &named, &named);
}

#[cfg(unix)]
#[test]
fn interrupted_repetition_says_nothing_was_written() {
    use std::io::{BufRead, BufReader, Read};
    let folder = tempfile::tempdir().unwrap();
    let run = "a zyzzyva\nSteps: 1000, Sampler: Euler, Seed: 1, Size: 64x64, Model: the embedded model, RNG: CPU";
    let png = Raster::flat(Rgb(9, 9, 9), (64, 64)).to_png(&[("parameters", run)]).unwrap();
    fs::write(folder.path().join("a.png"), png).unwrap();
    for command in ["again", "look"] {
        let mut child = impasto(folder.path(), &[command, "a.png"]).stderr(Stdio::piped()).spawn().unwrap();
        let (mut stderr, mut told) = (BufReader::new(child.stderr.take().unwrap()), String::new());
        stderr.read_line(&mut told).unwrap(); // a note on the unknown word, just before the run
        std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
        stderr.read_to_string(&mut told).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(130), "{told}");
        assert!(told.ends_with("interrupted; nothing was written; to go on, repeat the command\n"), "{told}");
        assert_eq!(contents(folder.path()).len(), 1);
    }
}

#[test]
fn error_after_finished_pictures_says_how_to_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let lines = "{\"prompt\": \"a red boat\"}\n{\"prompt\": \"a boat\", \"force\": [\"house=red\"]}";
    fs::write(folder.path().join("lines.jsonl"), lines).unwrap();
    let arguments = ["paint", "--prompts", "lines.jsonl", "--seed", "7", "--steps", "1", "--size", "64", "-o", "a.png"];
    let message = failure(folder.path(), &arguments, 1);
    assert!(message.contains("line 2: ") && message.contains("1 of 2 pictures are finished"), "{message}");
    assert!(message.contains("repeat the command with --skip 1"), "{message}");
    fs::write(folder.path().join("lines.jsonl"), lines.replace("house", "boat")).unwrap();
    run(folder.path(), &with(&arguments, &["--skip", "1"]));
    assert!(folder.path().join("a-2.png").exists());
}

#[test]
fn skipped_pictures_leave_names_and_seeds_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let several = with(&SMALL, &["--images", "3", "--json"]);
    let lines = json_lines(&run(folder.path(), &with(&several, &["--skip", "2"])));
    assert_eq!((lines.len(), &lines[0]["file"], &lines[0]["seed"]), (1, &"impasto-9.png".into(), &9.into()));
    let message = failure(folder.path(), &with(&several, &["--skip", "3"]), 2);
    assert!(message.contains("--skip is 3, but the command has 3 pictures"), "{message}");
}
