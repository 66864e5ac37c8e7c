//! The search for libtorch. This crate's build script searches first; the build scripts of crates that link programs
//! search again.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The libtorch version that tch 0.24 is made for.
const VERSION: &str = "2.11.0";

/// Returns an environment variable. Cargo runs the build script again when the variable changes.
pub(crate) fn variable(name: &str) -> Option<String> {
    println!("cargo:rerun-if-env-changed={name}");
    std::env::var(name).ok()
}

/// Returns the folder of libtorch's libraries, or `None` if torch-sys will download them. `variable` reads an
/// environment variable.
///
/// # Errors
/// A sentence that says what is wrong; [`ways`] says what to do.
pub(crate) fn libraries(variable: impl Fn(&str) -> Option<String>) -> Result<Option<PathBuf>, String> {
    let bypass = variable("LIBTORCH_BYPASS_VERSION_CHECK").is_some();
    if variable("LIBTORCH_USE_PYTORCH").is_some() {
        return pytorch(variable("VIRTUAL_ENV").is_some(), bypass).map(Some);
    }
    if let Some(root) = variable("LIBTORCH") {
        let part = |own: &str, name: &str| Path::new(&variable(own).unwrap_or_else(|| root.clone())).join(name);
        let (lib, include) = (part("LIBTORCH_LIB", "lib"), part("LIBTORCH_INCLUDE", "include"));
        if let Some(missing) = [&lib, &include].into_iter().find(|folder| !folder.is_dir()) {
            let missing = missing.display();
            return Err(format!(
                "LIBTORCH is {root}, but there is no folder {missing}; set LIBTORCH to a libtorch {VERSION}, or unset \
                 LIBTORCH"
            ));
        }
        if let Ok(version) = std::fs::read_to_string(Path::new(&root).join("build-version")) {
            check_version(version.trim(), &format!("LIBTORCH is {root}, which"), bypass)?;
        }
        return Ok(Some(lib));
    }
    let system = Path::new("/usr/lib/libtorch.so");
    if variable("CARGO_CFG_TARGET_OS").is_some_and(|os| os == "linux") && system.exists() {
        return Ok(system.parent().map(Path::to_path_buf));
    }
    if cfg!(feature = "download-libtorch") {
        return Ok(None);
    }
    Err(format!("libtorch {VERSION}, which impasto computes with, was not found"))
}

/// Returns the library folder of the torch that the active Python has. The lookup does not import torch, because the
/// import takes seconds.
fn pytorch(in_virtual_environment: bool, bypass: bool) -> Result<PathBuf, String> {
    let python = match (cfg!(windows), in_virtual_environment) {
        (true, _) => "python.exe",
        (false, true) => "python",
        (false, false) => "python3",
    };
    let ask = "import importlib.metadata as m, importlib.util as u; print(m.version('torch')); \
               print(u.find_spec('torch').submodule_search_locations[0])";
    let answer = Command::new(python).args(["-c", ask]).output();
    let answer = answer.ok().filter(|answer| answer.status.success()).ok_or_else(|| {
        let cure = format!("run `{python} -m pip install torch=={VERSION}`, or unset LIBTORCH_USE_PYTORCH");
        format!("LIBTORCH_USE_PYTORCH is set, but {python} has no torch; {cure}")
    })?;
    let answer = String::from_utf8_lossy(&answer.stdout).into_owned();
    let (version, folder) = answer.trim().split_once('\n').unwrap_or_default();
    check_version(version.trim(), &format!("LIBTORCH_USE_PYTORCH is set, but the torch of {python}"), bypass)?;
    Ok(Path::new(folder.trim()).join("lib"))
}

fn check_version(version: &str, what: &str, bypass: bool) -> Result<(), String> {
    let number = version.split('+').next().unwrap_or(version);
    if number == VERSION || bypass {
        return Ok(());
    }
    Err(format!("{what} is version {version}; tch 0.24 needs {VERSION}"))
}

/// Lists the ways to get libtorch.
#[cfg_attr(not(test), allow(dead_code, reason = "build.rs, which includes this file too, alone calls this"))]
pub(crate) fn ways() -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("libtorch.py");
    format!(
        "Get libtorch in one of these ways:\n\
         \n  * python3 {} .\n    run it in your crate's folder: it fetches a CPU build (544 MB, once) \
         and sets LIBTORCH in .cargo/config.toml\n\
         \n  * pip install torch=={VERSION} && export LIBTORCH_USE_PYTORCH=1\n    \
         the libtorch of PyTorch, on Linux with CUDA\n\
         \n  * export LIBTORCH=/path/to/libtorch\n    an unpacked archive of PyTorch's libtorch {VERSION}\n\
         \n  * cargo add impasto --features download-libtorch\n    lets cargo download a CPU build\n\
         \nThe documentation builds without libtorch: cargo doc --features impasto/doc-only\n",
        script.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn of<'v>(variables: &'v [(&'v str, &'v str)]) -> impl Fn(&str) -> Option<String> + 'v {
        move |name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    }

    /// Makes a folder that looks like a libtorch of this version.
    fn folder(name: &str, version: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("impasto-libtorch-{}-{name}", std::process::id()));
        fs::create_dir_all(folder.join("lib")).unwrap();
        fs::create_dir_all(folder.join("include")).unwrap();
        fs::write(folder.join("build-version"), version).unwrap();
        folder
    }

    #[test]
    fn named_folder_is_checked_before_it_is_taken() {
        let whole = folder("whole", "2.11.0+cpu\n");
        let root = whole.to_str().unwrap();
        assert_eq!(libraries(of(&[("LIBTORCH", root)])), Ok(Some(whole.join("lib"))));
        fs::write(whole.join("build-version"), "2.9.1").unwrap();
        let older = libraries(of(&[("LIBTORCH", root)])).unwrap_err();
        assert!(older.ends_with("which is version 2.9.1; tch 0.24 needs 2.11.0"), "{older}");
        assert!(libraries(of(&[("LIBTORCH", root), ("LIBTORCH_BYPASS_VERSION_CHECK", "1")])).is_ok());
        fs::remove_dir(whole.join("include")).unwrap();
        let half = libraries(of(&[("LIBTORCH", root)])).unwrap_err();
        assert!(
            half.contains("there is no folder") && half.contains("include; set LIBTORCH to a libtorch 2.11.0"),
            "{half}"
        );
        fs::remove_dir_all(whole).unwrap();
    }

    #[test]
    #[cfg(not(feature = "download-libtorch"))]
    fn missing_libtorch_is_named_with_every_way_to_get_it() {
        // macOS, because a Linux machine may have a libtorch of its own.
        let missing = libraries(of(&[("CARGO_CFG_TARGET_OS", "macos")])).unwrap_err();
        assert!(missing.contains("libtorch 2.11.0, which impasto computes with, was not found"), "{missing}");
        let ways = ways();
        for way in ["libtorch.py .", "LIBTORCH_USE_PYTORCH=1", "export LIBTORCH=", "download-libtorch", "doc-only"] {
            assert!(ways.contains(way), "{ways}");
        }
        let script = ways.split("python3 ").nth(1).and_then(|rest| rest.split(" .").next()).unwrap();
        assert!(Path::new(script).is_file(), "{script}");
    }
}
