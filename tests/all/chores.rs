//! Chores that come with a new guidance method or saliency, checked for every name of the registry.
//!
//! CONTRIBUTING.md lists the chores. The test is in `properties/methods.rs`, which has the list of methods with laws.

#[path = "../../benches/support/rows.rs"]
mod rows;

use impasto::guidance::Guidance;
use impasto::recipe::Registry;
use impasto::saliency::Saliency;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// A place that a new guidance method has to be added to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chore {
    Laws,
    Bench,
    Readme,
    Docs,
}

impl Chore {
    const ALL: [Self; 4] = [Self::Laws, Self::Bench, Self::Readme, Self::Docs];

    /// Returns the place in words for messages.
    const fn place(self) -> &'static str {
        match self {
            Self::Laws => "line in `methods` of tests/all/properties/methods.rs",
            Self::Bench => "row in `ROWS` or `COLORIZER_ROWS` of benches/support/rows.rs",
            Self::Readme => "row in the README's table of guidance methods",
            Self::Docs => "mention on a page under \"Methods\" in docs/SUMMARY.md",
        }
    }
}

/// Chores that a method does not need, with the reason.
const EXEMPTIONS: &[(&str, Chore, &str)] = &[
    ("Colorize", Chore::Laws, "it needs a model that colors sketches; tests/all/colorizer_model.rs has its tests"),
    (
        "ConceptAttention",
        Chore::Laws,
        "it reads joint attention, which the model of the laws does not have; tests/all/sd3.rs has its tests",
    ),
    ("ConceptAttention", Chore::Bench, "it needs joint attention, which the embedded models do not have"),
    (
        "FreeU",
        Chore::Laws,
        "it changes a UNet, which the model of the laws does not have; tests/all/guiders.rs has its tests",
    ),
    ("IpAdapter", Chore::Bench, "it needs the weights of an IP-Adapter, which the embedded models do not have"),
    ("Recorded", Chore::Bench, "its maps exist before the run, so a step computes nothing"),
    ("Region", Chore::Bench, "its map exists before the first step, so a step computes nothing"),
    ("SkipLayers", Chore::Laws, "it needs blocks that can be left out; tests/all/sd3.rs has its tests"),
    ("SkipLayers", Chore::Bench, "it needs blocks that can be left out, which the embedded models do not have"),
    ("UnmergedLora", Chore::Laws, "it needs a model with a LoRA; tests/all/unmerged_lora.rs has its tests"),
    ("UnmergedLora", Chore::Bench, "it needs a model with a LoRA; benches/lora.rs measures it"),
    ("Sum", Chore::Bench, "a pair calls its two methods and computes nothing itself"),
    ("Sum", Chore::Readme, "a pair is a tuple and no type of the crate"),
];

/// Methods that a document names otherwise than the registry, with the name in documents.
const NAMES_IN_DOCUMENTS: &[(&str, &str)] = &[("Sum", "(a, b)"), ("WordMaps", "Daam::words")];

/// Returns the names of methods as the registry has them. A method with a function among its settings has no recipe,
/// and so counts by the name in its messages.
fn registry_names<'a>(methods: impl IntoIterator<Item = &'a dyn Guidance>) -> BTreeSet<String> {
    let name = |method: &dyn Guidance| method.recipe().map_or_else(|_| method.name().into(), |recipe| recipe.name);
    methods.into_iter().map(name).collect()
}

/// Returns the names of the methods in the rows of the overhead bench.
fn benched() -> BTreeSet<String> {
    let methods: Vec<_> = rows::ROWS.into_iter().chain(rows::COLORIZER_ROWS).flat_map(rows::methods).collect();
    registry_names(methods.iter().map(|method| &**method))
}

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns the rows of the README's table of guidance methods.
fn readme_table() -> String {
    let text = read("README.md");
    let table = text.lines().skip_while(|line| !line.starts_with("| guidance method or type |"));
    table.take_while(|line| line.starts_with('|')).collect::<Vec<_>>().join("\n")
}

/// Returns the text of all pages under "Methods" in the book's summary.
fn method_pages() -> String {
    let summary = read("docs/SUMMARY.md");
    let methods = summary.split("\n# ").find(|part| part.starts_with("Methods\n")).expect("a part about methods");
    let pages = methods.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    pages.map(|page| read(&format!("docs/{page}"))).collect()
}

/// Returns true if `text` has the name in backticks after `before`, alone or before `::`.
fn is_named(text: &str, before: &str, name: &str) -> bool {
    ["`", "::"].iter().any(|after| text.contains(&format!("{before}`{name}{after}")))
}

/// Asserts that every registered guidance method and saliency has all its chores done, and that no exemption is idle.
///
/// `listed` are the methods with laws.
pub fn assert_done<'a>(listed: impl IntoIterator<Item = &'a dyn Guidance>) {
    let (with_laws, benched) = (registry_names(listed), benched());
    let (table, pages) = (readme_table(), method_pages());
    let is_done = |name: &str, chore: Chore| {
        let written = NAMES_IN_DOCUMENTS.iter().find(|(own, _)| *own == name).map_or(name, |(_, written)| *written);
        match chore {
            Chore::Laws => with_laws.contains(name),
            Chore::Bench => benched.contains(name),
            Chore::Readme => is_named(&table, "[", written),
            Chore::Docs => is_named(&pages, "", written),
        }
    };
    let registry = Registry::default();
    let mut names: BTreeSet<&str> = registry.names::<dyn Guidance>().into_iter().collect();
    names.extend(registry.names::<dyn Saliency>());
    assert!(names.len() >= 15, "{names:?}");
    let mut wrong = Vec::new();
    for &name in &names {
        for chore in Chore::ALL {
            let is_exempt = EXEMPTIONS.iter().any(|(exempt, of, _)| (*exempt, *of) == (name, chore));
            match (is_done(name, chore), is_exempt) {
                (false, false) => wrong.push(format!("{name} has no {}; add one", chore.place())),
                (true, true) => wrong.push(format!("{name} has a {}; remove its exemption", chore.place())),
                _ => {}
            }
        }
    }
    let unknown = EXEMPTIONS.iter().map(|(name, ..)| name).chain(NAMES_IN_DOCUMENTS.iter().map(|(name, _)| name));
    let unknown = unknown.filter(|name| !names.contains(**name));
    wrong.extend(unknown.map(|name| format!("{name} is not registered; remove it from the constants of chores.rs")));
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
