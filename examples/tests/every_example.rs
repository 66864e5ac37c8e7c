//! Runs every example in an empty folder. An example must print something, and every picture that the output names must
//! exist.

use libtest_mimic::{Arguments, Failed, Trial};
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    let names = names();
    assert!(names.len() >= 20, "examples are missing: {names:?}");
    let trials = names.into_iter().map(|name| Trial::test(name.clone(), move || runs(&name))).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

/// Returns the names of the source files, so that an example without an entry in `Cargo.toml` fails.
fn names() -> Vec<String> {
    let sources = std::fs::read_dir(env!("CARGO_MANIFEST_DIR")).expect("the folder of this package");
    let sources = sources.filter_map(|entry| Some(entry.ok()?.path()));
    let sources = sources.filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    let names = sources.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()));
    let mut names: Vec<String> = names.filter(|name| name != "build").collect();
    names.sort();
    names
}

/// Returns the folder where cargo puts built examples, found from the path of this program.
fn built() -> PathBuf {
    let test = std::env::current_exe().expect("this test is a file");
    test.ancestors().nth(2).expect("target/<profile>/deps/<test>").join("examples")
}

fn runs(name: &str) -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let run = Command::new(built().join(name)).current_dir(folder.path()).output();
    let run = run.map_err(|error| {
        format!("{name} does not start ({error}); add it to examples/Cargo.toml, and run `cargo build --examples`")
    })?;
    let said = String::from_utf8_lossy(&run.stdout);
    if !run.status.success() || said.is_empty() {
        return Err(format!("{name} failed or said nothing: {said}{}", String::from_utf8_lossy(&run.stderr)).into());
    }
    for picture in said.split([' ', ',', '\n']).filter(|word| word.ends_with(".png")) {
        check(&folder.path().join(picture))?;
    }
    Ok(())
}

fn check(picture: &Path) -> Result<(), Failed> {
    let width = impasto::Raster::open(picture)?.size().width;
    if width < 128 {
        return Err(format!("{} is {width} pixels wide; expected at least 128", picture.display()).into());
    }
    Ok(())
}
