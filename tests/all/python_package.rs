//! The Python package (`crates/impasto-python`), which is no member of the workspace: its versions, its stubs, and,
//! with torch, its own tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn package() -> PathBuf {
    root().join("crates/impasto-python")
}

/// Returns the text between quotes after `start` in a file.
fn quoted_after(file: &Path, start: &str) -> String {
    let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let rest = text.split(start).nth(1).unwrap_or_else(|| panic!("{} has no {start}", file.display()));
    rest.split('"').next().unwrap().to_owned()
}

#[test]
fn python_package_has_the_versions_of_the_library() {
    let version = quoted_after(&package().join("Cargo.toml"), "\nversion = \"");
    assert_eq!(version, env!("CARGO_PKG_VERSION"), "crates/impasto-python/Cargo.toml");
    let torch = quoted_after(&root().join("crates/impasto-libtorch/src/find.rs"), "const VERSION: &str = \"");
    let wanted = quoted_after(&package().join("python/impasto/_torch.py"), "WANTED = \"");
    assert_eq!(torch.rsplit_once('.').unwrap().0, wanted, "crates/impasto-python/python/impasto/_torch.py");
    let project = fs::read_to_string(package().join("pyproject.toml")).unwrap();
    assert_eq!(project.matches(&format!("\"torch=={wanted}.*\"")).count(), 2, "crates/impasto-python/pyproject.toml");
    let versions = |folder: &Path| {
        let lock = fs::read_to_string(folder.join("Cargo.lock")).unwrap();
        let package = |name: &str| format!("\nname = \"{name}\"\nversion = \"");
        ["tch", "torch-sys"].map(|name| {
            lock.split(&package(name)).nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default().to_owned()
        })
    };
    assert_eq!(versions(&package()), versions(root()), "crates/impasto-python/Cargo.lock");
}

#[test]
fn python_stubs_have_every_class_and_field() {
    let stubs = fs::read_to_string(package().join("python/impasto/_impasto.pyi")).unwrap();
    let mut described = 0;
    for entry in fs::read_dir(package().join("src")).unwrap() {
        let source = syn::parse_file(&fs::read_to_string(entry.unwrap().path()).unwrap()).unwrap();
        for item in source.items {
            let syn::Item::Struct(item) = item else { continue };
            let Some(class) = item.attrs.iter().find(|attribute| attribute.path().is_ident("pyclass")) else {
                continue;
            };
            let name = item.ident.to_string();
            let stub = stubs.split(&format!("\nclass {name}:\n")).nth(1);
            let stub = stub.unwrap_or_else(|| panic!("_impasto.pyi has no class {name}"));
            let stub = stub.split("\nclass ").next().unwrap();
            if !class.meta.require_list().unwrap().tokens.to_string().contains("get_all") {
                continue;
            }
            for field in item.fields.iter().filter_map(|field| field.ident.as_ref()) {
                assert!(stub.contains(&format!("    def {field}(self)")), "_impasto.pyi: {name} has no {field}");
                described += 1;
            }
        }
    }
    assert!(described > 20, "{described} fields");
}

#[test]
#[ignore = "builds a wheel and downloads torch once; run `make test-python`, or this test with --ignored"]
fn python_package_passes_its_own_tests() {
    let made = Command::new("make").arg("test-python").current_dir(root()).output().unwrap();
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(made.status.success(), "{}\n{}", said(&made.stdout), said(&made.stderr));
}
