//! Ends the build if libtorch is missing. Cargo runs this script within seconds, before it compiles anything that needs
//! libtorch: this crate has no dependencies, and every crate that needs libtorch depends on it.

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
