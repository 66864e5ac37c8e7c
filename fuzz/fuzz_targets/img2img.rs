#![no_main]

#[path = "../src/orders.rs"]
#[allow(dead_code)]
mod orders;

libfuzzer_sys::fuzz_target!(|data: &[u8]| orders::img2img(data));
