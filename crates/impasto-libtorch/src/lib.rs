//! Finds the libtorch that [impasto](https://docs.rs/impasto) computes with.
//!
//! Its build script looks where torch-sys looks, in the same order, and ends the build with the ways to get libtorch where there is
//! none. [`link`] is for the build scripts of crates with programs, tests or examples, which find libtorch when they run by it.

mod find;

/// Lets the programs, tests and examples of the crate whose build script calls this find libtorch when they run: prints cargo's
/// directives for a search path in what is linked. Prints nothing where libtorch is not known, as torch-sys downloads it, and on
/// Windows, whose programs have no such path.
///
/// It is called in `main` of a `build.rs`, with `impasto-libtorch` among the build-dependencies:
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
    // A GPU needs libtorch_cuda.so, which linkers drop as unused.
    if find::variable("CARGO_CFG_TARGET_OS").is_some_and(|os| os == "linux") {
        println!("cargo:rustc-link-arg=-Wl,--no-as-needed,-ltorch");
    }
}
