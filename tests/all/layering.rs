//! Arrows point down only. Files name what they use by module path, so this test can read it.

use std::{fs, path::Path};

const VOCABULARY: &[&str] = &[
    "error",
    "files",
    "branch",
    "step",
    "prompt",
    "conditioning",
    "micro_conditioning",
    "latent_colors",
    "color",
    "raster",
    "recipe",
    "sheet",
    "vision",
];

/// Each layer's modules, and the layers it may use, from the bottom up. `docs/architecture.md` draws it.
const LAYERS: &[(&str, &[&str], &[&str])] = &[
    ("vocabulary", VOCABULARY, &["weights"]), // the error carries the weights' report
    ("attention", &["attention"], &["vocabulary"]),
    ("weights", &["weights"], &["vocabulary"]),
    ("nn", &["nn"], &["weights", "attention", "vocabulary"]),
    ("diffusion", &["diffusion"], &["attention", "vocabulary"]),
    ("guidance", &["guidance"], &["diffusion", "attention", "weights", "vocabulary"]), // maps are kept in files of tensors
    ("sampler", &["sampler"], &["guidance", "diffusion", "attention", "vocabulary"]),
    ("model", &["text", "model"], &["nn", "weights", "diffusion", "attention", "vocabulary"]),
    (
        "pipeline",
        &["pipeline"],
        &["model", "nn", "sampler", "guidance", "diffusion", "attention", "weights", "vocabulary"],
    ),
    ("testing", &["testing"], &["diffusion", "attention", "vocabulary"]),
];

fn layer_of(module: &str) -> Option<&'static (&'static str, &'static [&'static str], &'static [&'static str])> {
    LAYERS.iter().find(|(_, modules, _)| modules.contains(&module))
}

#[test]
fn arrows_point_down_only() {
    let (mut files, mut wrong) = (0, Vec::new());
    visit(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), None, &mut files, &mut wrong);
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(files > 30, "only {files} files were read");
}

/// Reads every source under `folder`, which belongs to `module` (`None`: the root).
fn visit(folder: &Path, module: Option<&str>, files: &mut usize, wrong: &mut Vec<String>) {
    for entry in fs::read_dir(folder).expect("src is readable") {
        let path = entry.expect("src is readable").path();
        let name = path.file_stem().and_then(|name| name.to_str()).expect("names are text");
        let here = module.unwrap_or(name);
        if path.is_dir() {
            visit(&path, Some(here), files, wrong);
        } else if path.extension().is_some_and(|extension| extension == "rs") && here != "lib" {
            *files += 1;
            check(&path, here, wrong);
        }
    }
}

fn check(path: &Path, module: &str, wrong: &mut Vec<String>) {
    let Some((layer, modules, allowed)) = layer_of(module) else {
        wrong.push(format!("{} has no layer; give it one here", path.display()));
        return;
    };
    let text = fs::read_to_string(path).expect("sources are text");
    let names = text.split("crate::").skip(1);
    for used in names.filter_map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next()) {
        let fine = modules.contains(&used) || layer_of(used).is_some_and(|(layer, ..)| allowed.contains(layer));
        if !fine {
            wrong.push(format!("{} uses crate::{used}; {layer} may use {}", path.display(), allowed.join(", ")));
        }
    }
}

#[test]
fn an_arrow_that_points_up_is_seen() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("daam.rs");
    fs::write(&path, "use crate::model::Model;").expect("written");
    let mut wrong = Vec::new();
    check(&path, "guidance", &mut wrong);
    assert!(wrong.len() == 1 && wrong[0].contains("guidance may use diffusion"), "{wrong:?}");
}
