//! Ends the build where libtorch is missing. Cargo runs this within seconds, before it compiles anything that needs libtorch: the
//! crate depends on nothing, and much depends on it.

use std::process::exit;

#[path = "src/find.rs"]
mod find;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=src/find.rs");
    // Documentation needs no libtorch.
    if cfg!(feature = "doc-only") || find::variable("DOCS_RS").is_some() {
        return;
    }
    if let Err(problem) = find::libraries(find::variable) {
        eprintln!("\nimpasto: {problem}\n\n{}", find::ways());
        exit(1);
    }
}
