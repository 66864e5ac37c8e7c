//! Dependencies between modules: a layer of the library uses lower layers only, and in every crate no two files use
//! each other.
//!
//! `docs/architecture.md` draws the layers.

use impasto::diffusion::solver::Solver;
use impasto::guidance::{Combine, Guidance};
use impasto::recipe::Registry;
use impasto::saliency::Saliency;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use syn::visit::{self, Visit};

const VOCABULARY: &[&str] = &[
    "error",
    "files",
    "json",
    "branch",
    "step",
    "prompt",
    "conditioning",
    "family",
    "micro_conditioning",
    "window",
    "size",
    "latent_colors",
    "color",
    "raster",
    "recipe",
    "reference",
    "vision",
    "wording",
];

/// Each layer's modules, and the layers it may use, from the bottom up.
const LAYERS: &[(&str, &[&str], &[&str])] = &[
    ("vocabulary", VOCABULARY, &["weights"]), // the error carries the weights' report
    ("mask", &["mask"], &["vocabulary"]),
    ("repaint", &["repaint"], &["mask", "vocabulary"]),
    ("attention", &["attention"], &["vocabulary"]),
    ("weights", &["weights"], &["vocabulary"]),
    ("hint", &["hint"], &["mask", "weights", "vocabulary"]), // sketchKeras' network reads weights
    ("nn", &["nn"], &["weights", "attention", "vocabulary"]),
    ("diffusion", &["diffusion"], &["attention", "vocabulary"]),
    ("guidance", &["guidance"], &["diffusion", "attention", "vocabulary"]),
    // Saliency uses weights, because maps are kept in files of tensors.
    ("saliency", &["saliency"], &["guidance", "mask", "diffusion", "attention", "weights", "vocabulary"]),
    // Methods use networks, because an IP-Adapter is a network of its own beside the model.
    ("methods", &["methods"], &["saliency", "guidance", "mask", "hint", "nn", "diffusion", "attention", "vocabulary"]),
    ("sampler", &["sampler"], &["guidance", "diffusion", "attention", "vocabulary"]),
    ("model", &["text", "model"], &["hint", "nn", "weights", "diffusion", "attention", "vocabulary"]),
    (
        "pipeline",
        &["pipeline", "composition"],
        &[
            "model",
            "nn",
            "sampler",
            "methods",
            "saliency",
            "guidance",
            "repaint",
            "hint",
            "mask",
            "diffusion",
            "attention",
            "weights",
            "vocabulary",
        ],
    ),
    ("compat", &["compat"], &["methods", "saliency", "diffusion", "vocabulary"]),
    ("testing", &["testing"], &["model", "diffusion", "attention", "vocabulary"]),
];

fn layer_of(module: &str) -> Option<&'static (&'static str, &'static [&'static str], &'static [&'static str])> {
    let module = module.split("::").next().unwrap_or_default();
    LAYERS.iter().find(|(_, modules, _)| modules.contains(&module))
}

/// The sources of a crate, module by module.
#[derive(Default)]
struct Sources {
    files: BTreeMap<String, syn::File>,
    /// Items that a module exports from other modules, by module and name: the path as the module writes it.
    exports: BTreeMap<(String, String), Vec<String>>,
}

/// Paths of a file, without its tests.
#[derive(Default)]
struct Paths {
    /// Paths of `use`: the path, the name that the item gives, and true if the item is exported.
    uses: Vec<(Vec<String>, String, bool)>,
    /// Paths of all other code.
    paths: BTreeSet<Vec<String>>,
    /// Number of the file's inline modules around the current item.
    depth: usize,
}

impl Paths {
    fn of(file: &syn::File) -> Self {
        let mut paths = Self::default();
        paths.visit_file(file);
        paths
    }

    /// Returns the path as the file's own module would write it.
    fn here(&self, mut path: Vec<String>) -> Vec<String> {
        for _ in 0..self.depth {
            match path.first().map(String::as_str) {
                Some("super") => drop(path.remove(0)),
                _ => return path,
            }
        }
        if !path.is_empty() && path.first().is_some_and(|first| first != "super" && first != "crate") && self.depth > 0
        {
            path.insert(0, "self".into());
        }
        path
    }

    fn leaves(&mut self, tree: &syn::UseTree, before: &[String], exported: bool) {
        let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => self.leaves(&path.tree, &with(&path.ident), exported),
            syn::UseTree::Name(name) => {
                self.uses.push((self.here(with(&name.ident)), name.ident.to_string(), exported));
            }
            syn::UseTree::Rename(name) => {
                self.uses.push((self.here(with(&name.ident)), name.rename.to_string(), exported));
            }
            syn::UseTree::Glob(_) => self.uses.push((self.here(before.to_vec()), "*".into(), exported)),
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.leaves(tree, before, exported)),
        }
    }

    /// Reads the tokens of a macro as words between `::`.
    fn tokens(&mut self, tokens: proc_macro2::TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                proc_macro2::TokenTree::Group(group) => self.tokens(group.stream()),
                proc_macro2::TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                proc_macro2::TokenTree::Ident(name) => {
                    if colons != 2 {
                        self.paths.insert(self.here(std::mem::take(&mut path)));
                    }
                    path.push(name.to_string());
                    colons = 0;
                }
                _ => colons = 0,
            }
        }
        self.paths.insert(self.here(path));
    }
}

pub(super) fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.meta.require_list().is_ok_and(|list| list.tokens.to_string() == "test")
    })
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        if !is_test(&module.attrs) {
            self.depth += 1;
            visit::visit_item_mod(self, module);
            self.depth -= 1;
        }
    }
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let exported = !matches!(item.vis, syn::Visibility::Inherited);
        if !is_test(&item.attrs) {
            self.leaves(&item.tree, &[], exported);
        }
    }
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {} // `pub(super)` uses nothing
    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.paths.insert(self.here(path.segments.iter().map(|segment| segment.ident.to_string()).collect()));
        visit::visit_path(self, path);
    }
    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.tokens(call.tokens.clone());
        visit::visit_macro(self, call);
    }
}

impl Sources {
    /// Reads every file under `folder` except files of tests.
    fn read(folder: &Path) -> Self {
        let mut sources = Self::default();
        sources.visit(folder, "");
        for (module, file) in &sources.files {
            // A file exports its own macro by a path that is the macro's name alone.
            let is_other = |path: &[String], name: &String| path != std::slice::from_ref(name);
            let exports = Paths::of(file).uses.into_iter();
            let exports = exports.filter(|(path, name, exported)| *exported && is_other(path, name));
            sources.exports.extend(exports.map(|(path, name, _)| ((module.clone(), name), path)));
        }
        sources
    }

    fn visit(&mut self, folder: &Path, module: &str) {
        for entry in fs::read_dir(folder).expect("sources are readable") {
            let path: PathBuf = entry.expect("sources are readable").path();
            let name = path.file_stem().and_then(|name| name.to_str()).expect("names are text").to_owned();
            let inside = if module.is_empty() { name.clone() } else { format!("{module}::{name}") };
            if path.is_dir() {
                self.visit(&path, &inside);
            } else if path.extension().is_some_and(|extension| extension == "rs") && name != "tests" {
                let text = fs::read_to_string(&path).expect("sources are text");
                let file = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                let here = if name == "mod" || name == "lib" { module.to_owned() } else { inside };
                self.files.insert(here, file);
            }
        }
    }

    /// Returns the module of the file that defines the item which `path` names in `module`.
    ///
    /// The result is `None` for items of other crates and for items that the module itself defines.
    fn resolve(&self, module: &str, path: &[String]) -> Option<String> {
        if matches!(path, [only] if ["crate", "self", "super"].contains(&only.as_str())) {
            return None;
        }
        let mut at: Vec<String> = module.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect();
        let mut rest = path;
        let child = |at: &[String], name: &str| [at, &[name.to_owned()]].concat().join("::");
        match rest.first()?.as_str() {
            "crate" => (at, rest) = (Vec::new(), &rest[1..]),
            "self" => rest = &rest[1..],
            "super" => {
                while rest.first().is_some_and(|part| part == "super") {
                    at.pop();
                    rest = &rest[1..];
                }
            }
            first if path.len() > 1 && self.files.contains_key(&child(&at, first)) => {}
            first => {
                let exported = self.exports.get(&(module.to_owned(), first.to_owned()))?;
                return self.resolve(module, &[exported, &rest[1..]].concat());
            }
        }
        while let Some(name) = rest.first() {
            if self.files.contains_key(&child(&at, name)) {
                at.push(name.clone());
                rest = &rest[1..];
            } else if let Some(exported) = self.exports.get(&(at.join("::"), name.clone())) {
                return self.resolve(&at.join("::"), &[exported, &rest[1..]].concat());
            } else {
                break;
            }
        }
        Some(at.join("::"))
    }

    /// Returns the files that each file uses. A module does not use an item that it only exports.
    fn arrows(&self) -> BTreeMap<&str, BTreeSet<String>> {
        let mut arrows: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        for (module, file) in &self.files {
            let paths = Paths::of(file);
            let named = paths.uses.into_iter().filter(|(_, _, exported)| !exported).map(|(path, ..)| path);
            let used = named.chain(paths.paths).filter_map(|path| self.resolve(module, &path));
            arrows.insert(module, used.filter(|used| used != module).collect());
        }
        arrows
    }
}

/// Finds files that use each other, directly or through others.
///
/// The result has one line for each such file: a path of uses from the file back to itself.
fn circles(arrows: &BTreeMap<&str, BTreeSet<String>>) -> Vec<String> {
    let mut circles = Vec::new();
    for (&start, used) in arrows {
        // The search is breadth first, so that the path is as short as possible.
        let mut before: BTreeMap<&str, &str> = used.iter().map(|next| (next.as_str(), start)).collect();
        let mut open: Vec<&str> = before.keys().copied().collect();
        while let Some(here) = (!open.is_empty()).then(|| open.remove(0)) {
            for next in arrows.get(here).into_iter().flatten() {
                if !before.contains_key(next.as_str()) {
                    before.insert(next, here);
                    open.push(next);
                }
            }
        }
        if before.contains_key(start) {
            let (mut way, mut here) = (vec![start], before[start]);
            while here != start {
                way.push(here);
                here = before[here];
            }
            way.push(start);
            way.reverse();
            circles.push(way.join(" → "));
        }
    }
    circles
}

fn wrong_arrows(arrows: &BTreeMap<&str, BTreeSet<String>>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (module, used) in arrows.iter().filter(|(module, _)| !module.is_empty()) {
        let Some((layer, _, allowed)) = layer_of(module) else {
            wrong.push(format!("{module} has no layer; add it to `LAYERS`"));
            continue;
        };
        for used in used {
            let fine = layer_of(used).is_some_and(|(below, ..)| below == layer || allowed.contains(below));
            if !fine {
                wrong.push(format!("{module} uses {used}; {layer} may use {}", allowed.join(", ")));
            }
        }
    }
    wrong
}

#[test]
fn layers_use_lower_layers_only() {
    let sources = Sources::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    let arrows = sources.arrows();
    let wrong = wrong_arrows(&arrows);
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(arrows.len() > 100, "only {} files were read", arrows.len());
}

#[test]
fn no_two_files_use_each_other() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let crates = fs::read_dir(root.join("crates")).expect("a folder").map(|entry| entry.expect("an entry").path());
    let folders: Vec<PathBuf> = crates.chain([root.to_owned()]).map(|folder| folder.join("src")).collect();
    let mut found = Vec::new();
    for folder in folders.iter().filter(|folder| folder.is_dir()) {
        let name = folder.strip_prefix(root).expect("inside").display();
        let circles = circles(&Sources::read(folder).arrows());
        found.extend(circles.into_iter().map(|circle| format!("{name}: {circle}")));
    }
    assert!(folders.len() > 8, "{folders:?}");
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

/// Sources of files with the given names and texts.
fn written(files: &[(&str, &str)]) -> Sources {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().expect("it has one")).expect("made");
        fs::write(path, text).expect("written");
    }
    Sources::read(folder.path())
}

#[test]
fn use_of_a_higher_layer_is_found() {
    for text in [
        "use crate::model::Model;",
        "fn f() { super::model::Model::new() }",
        "fn f() { println!(\"{}\", crate::model::X); }",
    ] {
        let sources = written(&[("guidance.rs", text), ("model.rs", "pub struct Model;")]);
        let wrong = wrong_arrows(&sources.arrows());
        assert!(wrong.len() == 1 && wrong[0].contains("guidance may use diffusion"), "{text}: {wrong:?}");
    }
    let sources = written(&[("guidance.rs", "#[cfg(test)] mod tests { use crate::model::Model; }"), ("model.rs", "")]);
    assert!(wrong_arrows(&sources.arrows()).is_empty(), "tests may use everything");
    let own = "mod inner { use super::Own; pub fn f(model: u8) -> u8 { model } } struct Own;";
    let sources = written(&[("guidance.rs", own), ("model.rs", "")]);
    assert!(wrong_arrows(&sources.arrows()).is_empty(), "a module inside a file may use the file");
}

#[test]
fn circle_through_an_export_is_found() {
    let mut files = vec![
        ("mask/mod.rs", "mod region; mod blur; pub use region::Region; pub(crate) use blur::blur;"),
        ("mask/region.rs", "use super::blur; pub struct Region;"),
        ("mask/blur.rs", "pub fn blur(_: &Region) {}"),
    ];
    assert!(circles(&written(&files).arrows()).is_empty(), "a module does not use an item that it only exports");
    files[2].1 = "use crate::mask::Region; pub fn blur(_: &Region) {}";
    let found = circles(&written(&files).arrows());
    assert_eq!(found, ["mask::blur → mask::region → mask::blur", "mask::region → mask::blur → mask::region"]);
}

/// Names of the types in `folder` that implement a trait.
fn implementors(trait_name: &str, folder: &str) -> BTreeSet<String> {
    let sources = Sources::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(folder));
    let mut found = BTreeSet::new();
    for item in sources.files.into_values().flat_map(|file| file.items) {
        let syn::Item::Impl(item) = item else { continue };
        let of = item.trait_.as_ref().and_then(|(_, path, _)| path.segments.last()).map(|last| last.ident.to_string());
        if let (true, syn::Type::Path(this)) = (of.as_deref() == Some(trait_name), &*item.self_ty) {
            found.extend(this.path.segments.last().map(|last| last.ident.to_string()));
        }
    }
    found
}

#[test]
fn every_part_of_a_run_has_a_reader_in_the_registry() {
    let registry = Registry::default();
    let methods: BTreeSet<String> =
        ["methods", "saliency"].into_iter().flat_map(|f| implementors("Guidance", f)).collect();
    let combinations = ["guidance", "methods"].into_iter().flat_map(|f| implementors("Combine", f)).collect();
    let kinds = [
        (methods, registry.names::<dyn Guidance>(), 13),
        (implementors("Saliency", "saliency"), registry.names::<dyn Saliency>(), 5),
        (implementors("Solver", "diffusion/solver"), registry.names::<dyn Solver>(), 19),
        (combinations, registry.names::<dyn Combine>(), 5),
    ];
    for (mut parts, readers, least) in kinds {
        // The recipe of a wrapper is that of its content, and a function has none.
        parts.retain(|part| !["Arc", "Box", "F"].contains(&part.as_str()));
        assert!(parts.len() >= least, "{parts:?}");
        for part in parts {
            assert!(readers.contains(&&*part), "{part} has no reader, so no file of a picture brings it back; add one");
        }
    }
}
