//! Does the documentation run? Every file of `examples/` is executed, in an empty folder, and must leave a picture or
//! say something.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Where cargo puts built examples, found from this test's own place.
fn examples() -> PathBuf {
    let test = std::env::current_exe().expect("this test is a file");
    test.ancestors().nth(2).expect("target/<profile>/deps/<test>").join("examples")
}

#[test]
fn every_example_runs() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut names: Vec<String> = std::fs::read_dir(sources)
        .expect("examples/ is there")
        .filter_map(|entry| Some(entry.ok()?.path().file_stem()?.to_str()?.to_owned()))
        .collect();
    names.sort();
    assert!(names.len() >= 6, "{names:?}");
    for name in names {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let run = Command::new(examples().join(&name)).current_dir(folder.path()).output();
        let run = run.unwrap_or_else(|error| panic!("{name} does not start ({error}); run `cargo build --examples`"));
        let said = String::from_utf8_lossy(&run.stdout).into_owned();
        assert!(run.status.success(), "{name}: {said}{}", String::from_utf8_lossy(&run.stderr));
        assert!(!said.is_empty(), "{name} says nothing");
        for picture in said.split([' ', ',', '\n']).filter(|word| word.ends_with(".png")) {
            let picture =
                impasto::Raster::open(folder.path().join(picture)).expect("what it says it wrote is a picture");
            assert!(picture.width() >= 128);
        }
    }
}
