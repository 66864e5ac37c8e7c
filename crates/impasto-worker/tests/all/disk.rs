//! A store on a disk without room: a small file system in memory, which only the worker sees.

use crate::stage::Stage;
use impasto_worker::State;
use serde_json::json;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// Mounts a file system of 64 KiB in the folder `$1`, leaves room for one block of 4 KiB, and becomes the program `$0`.
const MOUNT: &str = r#"mount -t tmpfs -o size=64k impasto "$1" && head -c 60K /dev/zero > "$1/ballast" && exec "$0""#;

/// Returns a command whose file systems only itself sees.
fn apart(script: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script]);
    command
}

/// Returns true if a user may mount a file system that only a program sees, as the test does.
pub fn can_be_mounted() -> bool {
    let mut command = apart("mount -t tmpfs -o size=64k impasto /mnt");
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Lists the files below a folder by their names.
fn files(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            names.extend(files(&entry.path()));
        } else {
            names.push(entry.file_name().into_string().unwrap());
        }
    }
    names.sort_unstable();
    names
}

pub fn job_waits_for_room_on_the_disk(stage: Stage) {
    let large = stage.submit(json!({ "prompt": "large", "bytes": 20_000 })).key;
    let small = stage.submit(json!({ "prompt": "small" })).key;
    let mut command = apart(MOUNT);
    command.arg(std::env::current_exe().unwrap()).arg(stage.folder.path().join("store"));
    let worker = stage.program_by(command, &stage.address);
    let full = stage.wait(&large, |entry| !entry.reason.is_empty());
    assert_eq!((full.state, full.tries), (State::Running, 1), "{full:?}");
    assert!(full.reason.contains("No space left on device"), "{full:?}");
    let seen = stage.folder.path().join("store");
    let store = Path::new("/proc").join(worker.id().to_string()).join("root").join(seen.strip_prefix("/").unwrap());
    assert_eq!(files(&store), ["ballast"], "a file is there whole or not at all");
    fs::remove_file(store.join("ballast")).unwrap();
    // The worker does not paint again, and goes on with the next job.
    for key in [&large, &small] {
        let done = stage.wait_for(key, State::Done);
        assert_eq!((done.tries, done.reason.as_str()), (1, ""), "{done:?}");
        let folder = store.join("pictures").join(key.as_str());
        assert_eq!(files(&folder), ["0.png", "1.png", "record.json"]);
        assert_eq!(fs::read_to_string(folder.join("1.png")).unwrap(), done.title);
    }
    assert_eq!(fs::metadata(store.join("pictures").join(large.as_str()).join("0.png")).unwrap().len(), 20_000);
}
