//! Lets the crate's own tests, examples and benches find libtorch when they run.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    impasto_libtorch::link();
}
