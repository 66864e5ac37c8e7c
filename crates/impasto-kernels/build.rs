//! Lets the crate's tests find libtorch, and says which of them this processor can run, and whether the kernels are
//! compiled with optimization.

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-check-cfg=cfg(optimized, avx2, avx512, avx512_bf16)");
    impasto_libtorch::link();
    if env::var("OPT_LEVEL").is_ok_and(|level| !matches!(level.as_str(), "0" | "1")) {
        println!("cargo:rustc-cfg=optimized");
    }
    // Tests for another architecture do not run on this processor.
    #[cfg(target_arch = "x86_64")]
    if env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|target| target == "x86_64") {
        tell_instructions();
    }
}

/// Tells which instruction sets of `src/isa` this processor has.
#[cfg(target_arch = "x86_64")]
fn tell_instructions() {
    use std::arch::is_x86_feature_detected as has;
    if has!("avx2") && has!("fma") && has!("f16c") {
        println!("cargo:rustc-cfg=avx2");
    }
    if has!("avx512f") && has!("avx512bw") && has!("avx512vl") && has!("avx512dq") && has!("fma") {
        println!("cargo:rustc-cfg=avx512");
        if has!("avx512bf16") {
            println!("cargo:rustc-cfg=avx512_bf16");
        }
    }
}
