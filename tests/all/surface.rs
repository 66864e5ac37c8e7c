//! The size of the public interface, which readers of the documentation have to find their way through.

use super::layering::is_test;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use syn::{ImplItem, Item, UseTree, Visibility};

/// Crates with a public interface: the folder, and the largest numbers of public items (functions, methods, types,
/// traits and constants), of public fields, and of names in a public module, without the names of its modules.
const CRATES: &[(&str, usize, usize, usize)] = &[
    ("", 1084, 899, 30),
    ("crates/impasto-kernels", 33, 4, 30),
    ("crates/impasto-report", 21, 2, 30),
    ("crates/impasto-studio", 109, 83, 30),
    ("crates/impasto-tiny", 2, 0, 30),
    ("crates/impasto-tiny-colorizer", 2, 0, 30),
    ("crates/impasto-tiny-fast", 2, 0, 30),
    ("crates/impasto-tiny-flow", 2, 0, 30),
    ("crates/impasto-train", 167, 73, 40),
    ("crates/impasto-worker", 81, 51, 30),
    ("crates/impasto-yardstick", 256, 290, 30),
];
/// The public items of a crate.
#[derive(Default)]
struct Surface {
    /// Number of public items in all modules, private modules included.
    items: usize,
    /// Number of public fields of structs in all modules.
    fields: usize,
    /// Number of names of each module that is public up to the root.
    names: BTreeMap<String, usize>,
    /// Number of public traits.
    traits: usize,
    /// Public traits whose own documentation has no example that is compiled.
    bare_traits: Vec<String>,
}

const fn is_public(visibility: &Visibility) -> bool {
    matches!(visibility, Visibility::Public(_))
}

/// Returns the number of names that a `use` brings into its module.
fn leaves(tree: &UseTree) -> usize {
    match tree {
        UseTree::Path(path) => leaves(&path.tree),
        UseTree::Name(_) | UseTree::Rename(_) => 1,
        UseTree::Group(group) => group.items.iter().map(leaves).sum(),
        UseTree::Glob(_) => panic!("a public `use` of `*` hides how many names a module has; list the names"),
    }
}

/// Returns the attributes and the visibility of an item that counts.
fn counted(item: &Item) -> Option<(&[syn::Attribute], &Visibility)> {
    Some(match item {
        Item::Const(item) => (&item.attrs, &item.vis),
        Item::Enum(item) => (&item.attrs, &item.vis),
        Item::Fn(item) => (&item.attrs, &item.vis),
        Item::Static(item) => (&item.attrs, &item.vis),
        Item::Struct(item) => (&item.attrs, &item.vis),
        Item::Trait(item) => (&item.attrs, &item.vis),
        Item::Type(item) => (&item.attrs, &item.vis),
        _ => return None,
    })
}

/// Returns true if documentation has a block of code that `cargo test` compiles.
fn has_example(attributes: &[syn::Attribute]) -> bool {
    let line = |attribute: &syn::Attribute| match &attribute.meta.require_name_value().ok()?.value {
        syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) => Some(text.value()),
        _ => None,
    };
    let docs = attributes.iter().filter(|attribute| attribute.path().is_ident("doc")).filter_map(line);
    let text = docs.collect::<Vec<_>>().join("\n");
    let mut fences = text.lines().filter_map(|line| line.trim().strip_prefix("```")).step_by(2);
    fences.any(|kind| ["", "rust", "no_run", "should_panic"].contains(&kind))
}

impl Surface {
    /// Reads a crate from its root, `lib.rs`. Modules that are compiled for tests alone are left out.
    fn read(root: &Path) -> Self {
        let mut surface = Self::default();
        let folder = root.parent().expect("a folder").to_owned();
        surface.file(root, folder, "impasto", true);
        surface
    }

    fn file(&mut self, path: &Path, folder: PathBuf, module: &str, open: bool) {
        let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let file = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        self.module(&file.items, &folder, module, open);
    }

    /// Counts the items of a module. Files of modules below it are in `folder`; `open` is true for a public module.
    fn module(&mut self, items: &[Item], folder: &Path, module: &str, open: bool) {
        let mut names = 0;
        for item in items {
            match item {
                Item::Use(item) if is_public(&item.vis) && !is_test(&item.attrs) => names += leaves(&item.tree),
                Item::Impl(item) if item.trait_.is_none() && !is_test(&item.attrs) => {
                    self.items += item.items.iter().filter(|item| is_public_member(item)).count();
                }
                Item::Mod(item) if !is_test(&item.attrs) => self.below(item, folder, module, open),
                item => {
                    if let Item::Trait(item) = item
                        && is_public(&item.vis)
                        && !is_test(&item.attrs)
                    {
                        self.traits += 1;
                        let bare = (!has_example(&item.attrs)).then(|| format!("{module}::{}", item.ident));
                        self.bare_traits.extend(bare);
                    }
                    if let Item::Struct(item) = item
                        && is_public(&item.vis)
                        && !is_test(&item.attrs)
                    {
                        self.fields += item.fields.iter().filter(|field| is_public(&field.vis)).count();
                    }
                    let public = counted(item).is_some_and(|(attrs, vis)| is_public(vis) && !is_test(attrs));
                    self.items += usize::from(public);
                    names += usize::from(public);
                }
            }
        }
        if open {
            self.names.insert(module.to_owned(), names);
        }
    }

    fn below(&mut self, item: &syn::ItemMod, folder: &Path, module: &str, open: bool) {
        let (name, open) = (item.ident.to_string(), open && is_public(&item.vis));
        let (inside, path) = (folder.join(&name), format!("{module}::{name}"));
        match &item.content {
            Some((_, items)) => self.module(items, &inside, &path, open),
            None => {
                let file = [folder.join(format!("{name}.rs")), inside.join("mod.rs")];
                let file = file.into_iter().find(|file| file.is_file());
                self.file(&file.unwrap_or_else(|| panic!("{path} has no file")), inside, &path, open);
            }
        }
    }

    /// Returns what exceeds the limits, one line each.
    fn excess(&self, most_items: usize, most_fields: usize, most_names: usize) -> Vec<String> {
        let mut excess = Vec::new();
        for (what, count, most) in [("items", self.items, most_items), ("fields", self.fields, most_fields)] {
            if count > most {
                excess.push(format!(
                    "the crate has {count} public {what}, expected {most} at most; make crate-private what no user \
                     needs, and let public fields or `tune` say what setters say"
                ));
            }
        }
        for (module, names) in self.names.iter().filter(|(_, names)| **names > most_names) {
            excess.push(format!(
                "{module} has {names} names, expected {most_names} at most; move names that belong together to a \
                 public module of their own, or make them crate-private"
            ));
        }
        excess
    }
}

/// Returns true for a public method or constant of a type.
fn is_public_member(item: &ImplItem) -> bool {
    match item {
        ImplItem::Fn(item) => is_public(&item.vis) && !is_test(&item.attrs),
        ImplItem::Const(item) => is_public(&item.vis) && !is_test(&item.attrs),
        ImplItem::Type(item) => is_public(&item.vis),
        _ => false,
    }
}

#[test]
fn public_items_and_names_stay_few() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut excess = Vec::new();
    for (folder, most_items, most_fields, most_names) in CRATES {
        let surface = Surface::read(&root.join(folder).join("src/lib.rs"));
        let own = surface.excess(*most_items, *most_fields, *most_names);
        excess.extend(own.into_iter().map(|line| format!("{folder}/src: {line}")));
    }
    assert!(excess.is_empty(), "\n{}", excess.join("\n"));
}

#[test]
fn every_public_trait_has_a_compiled_example() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let crates = fs::read_dir(root.join("crates")).expect("a folder").map(|entry| entry.expect("an entry").path());
    let roots = crates.chain([root.to_owned()]).map(|folder| folder.join("src/lib.rs")).filter(|root| root.is_file());
    let surfaces: Vec<Surface> = roots.map(|root| Surface::read(&root)).collect();
    assert!(surfaces.len() > 5 && surfaces.iter().map(|surface| surface.traits).sum::<usize>() >= 13);
    let bare: Vec<&String> = surfaces.iter().flat_map(|surface| &surface.bare_traits).collect();
    assert!(bare.is_empty(), "add an example to the documentation of each of these traits: {bare:?}");
}

#[test]
fn trait_without_a_compiled_example_is_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let example = |kind: &str| format!("/// Text.\n/// ```{kind}\n/// let x = 1;\n/// ```\n");
    let [plain, text, slow] = ["", "text", "no_run"].map(example);
    let inner = format!("mod inner {{ pub trait A {{}} {text} pub trait B {{}} trait Own {{}} }}");
    let tests = "#[cfg(test)] mod tests { pub trait C {} }";
    let traits = format!("{plain} pub trait D {{}} {slow} pub trait E {{}} {text}{plain} pub trait F {{}}");
    fs::write(folder.path().join("lib.rs"), format!("{inner} {tests} {traits}")).expect("written");
    let surface = Surface::read(&folder.path().join("lib.rs"));
    assert_eq!(
        (surface.traits, surface.bare_traits),
        (5, ["A", "B"].map(|name| format!("impasto::inner::{name}")).into())
    );
}

#[test]
fn excess_items_and_names_are_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, text).expect("written");
    };
    write("lib.rs", "pub mod mask; mod hidden; pub use hidden::{A, B as C}; pub use mask::{Region, region::Drawn};");
    write(
        "mask/mod.rs",
        "pub mod region; #[cfg(test)] mod tests; pub struct Region { pub side: u8, own: u8 } pub(crate) fn blur() {}",
    );
    write("mask/region.rs", "pub const SIDE: u8 = 1; pub struct Drawn; impl Drawn { pub fn new() {} fn own() {} }");
    write("mask/tests.rs", "pub fn helper() {}");
    write(
        "hidden.rs",
        "pub type A = u8; pub enum B {} pub trait T { fn f(); } impl T for B { fn f() {} } static S: u8 = 0; \
         #[cfg(test)] mod tests { pub fn helper() {} } mod inner { pub static OPEN: u8 = 0; }",
    );
    let surface = Surface::read(&folder.path().join("lib.rs"));
    let names = [("impasto", 4), ("impasto::mask", 1), ("impasto::mask::region", 2)];
    assert_eq!(surface.names, names.map(|(module, names)| (module.to_owned(), names)).into());
    assert_eq!(surface.items, 8, "Region, SIDE, Drawn, new, A, B, T and OPEN");
    assert_eq!(surface.fields, 1, "the side of Region");
    assert_eq!(surface.excess(8, 1, 4), [""; 0]);
    let excess = surface.excess(7, 0, 3);
    assert!(excess.len() == 3 && excess[0].contains("has 8 public items, expected 7 at most"), "{excess:?}");
    assert!(excess[1].contains("has 1 public fields, expected 0 at most"), "{excess:?}");
    assert!(excess[2].starts_with("impasto has 4 names, expected 3 at most"), "{excess:?}");
}
