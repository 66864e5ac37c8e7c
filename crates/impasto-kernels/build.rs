//! Lets the crate's tests find libtorch, and says which of them this processor can run, and whether the kernels are
//! compiled with optimization.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-check-cfg=cfg(optimized, avx512, avx512_bf16)");
    impasto_libtorch::link();
    if std::env::var("OPT_LEVEL").is_ok_and(|level| !matches!(level.as_str(), "0" | "1")) {
        println!("cargo:rustc-cfg=optimized");
    }
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx512f") {
        println!("cargo:rustc-cfg=avx512");
        if std::arch::is_x86_feature_detected!("avx512bf16") {
            println!("cargo:rustc-cfg=avx512_bf16");
        }
    }
}
