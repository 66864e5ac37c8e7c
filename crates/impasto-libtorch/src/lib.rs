//! Finds the libtorch that [impasto](https://docs.rs/impasto) computes with.
//!
//! The crate's build script looks where torch-sys looks, in the same order. If libtorch is missing, the script ends the
//! build and prints the ways to get libtorch. The build scripts of crates with programs, tests or examples call
//! [`link`], so that the programs, tests and examples find libtorch when they run.

mod find;

/// Lets a crate's programs, tests and examples find libtorch when they run. The crate's build script calls this
/// function.
///
/// Prints cargo's directives that add the library folder to the search path of the linked files. Prints nothing in two
/// cases:
///
/// * The folder is unknown because torch-sys downloads libtorch.
/// * The target is Windows, where programs have no such search path.
///
/// Call this function in `main` of a `build.rs`, with `impasto-libtorch` among the build-dependencies:
///
/// ```no_run
/// impasto_libtorch::link();
/// ```
pub fn link() {
    let Ok(Some(lib)) = find::libraries(find::variable) else { return };
    if find::variable("CARGO_CFG_UNIX").is_none() {
        return;
    }
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", lib.display());
    // A GPU needs libtorch_cuda.so, which linkers otherwise drop as unused.
    if find::variable("CARGO_CFG_TARGET_OS").is_some_and(|os| os == "linux") {
        println!("cargo:rustc-link-arg=-Wl,--no-as-needed,-ltorch");
    }
}
