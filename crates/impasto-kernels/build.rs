//! Lets the crate's tests find libtorch, and says whether the kernels are compiled with optimization.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-check-cfg=cfg(kernels)");
    impasto_libtorch::link();
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|found| found == value);
    // Without optimization the kernels take a hundred times as long as libtorch's.
    let optimized = std::env::var("OPT_LEVEL").is_ok_and(|level| !matches!(level.as_str(), "0" | "1"));
    if optimized && is("CARGO_CFG_TARGET_ARCH", "x86_64") && is("CARGO_CFG_TARGET_OS", "linux") {
        println!("cargo:rustc-cfg=kernels");
    }
}
