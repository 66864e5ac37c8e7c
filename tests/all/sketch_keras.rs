//! Comparison with the lines that sketchKeras' network draws.
//!
//! `tests/golden/specs/gen_sketch_keras.py` is the generator of the numbers.

use super::closed_form::{tensors, unit};
use impasto::hint::SketchKeras;
use impasto::weights::{Tensors, write_safetensors};
use impasto::{Raster, Rgb};
use serde_json::Value;
use tch::Device;
use tempfile::TempDir;

fn golden() -> Value {
    serde_json::from_str(include_str!("../golden/specs/sketch_keras.json")).unwrap()
}

fn weights(golden: &Value) -> Tensors {
    let names: Vec<&str> = golden["keys"].as_array().unwrap().iter().map(|key| key[0].as_str().unwrap()).collect();
    let variance = |name: &str| name.rsplit_once('.').map(|(path, _)| format!("{path}.running_var"));
    let is_norm = |key: &Value| {
        let name = key[0].as_str().unwrap();
        name.ends_with(".weight") && variance(name).is_some_and(|variance| names.contains(&variance.as_str()))
    };
    let change = |(name, tensor): (String, tch::Tensor)| {
        let tensor = match name.as_str() {
            "last_conv.weight" => tensor * golden["gain"].as_f64().unwrap(),
            "last_conv.bias" => tensor * 0.0,
            name if name.ends_with("running_var") => tensor.abs() + 1.0,
            _ => tensor,
        };
        (format!("module.{name}"), tensor)
    };
    tensors(&golden["keys"], is_norm).into_iter().map(change).collect()
}

/// Returns a picture of blocks of 8 × 8 pixels in random colors.
fn blocks(stream: u64, (height, width): (u32, u32)) -> Raster {
    let colors: Vec<u8> =
        unit(1_000_000 + stream, (3 * (height / 8) * (width / 8)).into()).iter().map(|u| (256.0 * u) as u8).collect();
    let mut picture = Raster::flat(Rgb(0, 0, 0), (width, height));
    for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
        let block = 3 * ((y / 8) * (width / 8) + x / 8) as usize;
        picture.set(x, y, Rgb(colors[block], colors[block + 1], colors[block + 2]));
    }
    picture
}

#[test]
fn lines_equal_sketch_keras_output() {
    let (golden, folder) = (golden(), TempDir::new().unwrap());
    let file = folder.path().join("lines.safetensors");
    write_safetensors(&weights(&golden), &file).unwrap();
    let network = SketchKeras::open(&file, Device::Cpu).unwrap().side(128);
    for case in golden["cases"].as_array().unwrap() {
        let side = |name: &str| case[name].as_u64().unwrap() as u32;
        let (height, width) = (side("height"), side("width"));
        let lines = network.of(&blocks(case["stream"].as_u64().unwrap(), (height, width))).unwrap();
        let (mut most, mut mean) = (0, 0.0);
        for (y, row) in case["rows"].as_object().unwrap() {
            for (x, want) in (0..).zip(row.as_array().unwrap()) {
                let Rgb(got, ..) = lines.pixel(x, y.parse().unwrap()).unwrap();
                most = most.max((i64::from(got) - want.as_i64().unwrap()).abs());
            }
        }
        lines.bytes().iter().for_each(|&byte| mean += f64::from(byte) / lines.bytes().len() as f64);
        assert!(most <= 1, "off by {most} of 255");
        assert!((mean - case["mean"].as_f64().unwrap()).abs() < 0.01, "{mean}");
    }
}

#[test]
fn flat_pictures_have_no_lines_and_bad_input_is_named() {
    let golden = golden();
    let kind = tch::Kind::Float;
    let network = || {
        let plain = weights(&golden).into_iter().map(|(name, tensor)| (name["module.".len()..].to_owned(), tensor));
        SketchKeras::new(&impasto::weights::Weights::new("lines", plain.collect(), kind, Device::Cpu)).unwrap()
    };
    let paper = Raster::flat(Rgb(200, 10, 10), (70, 33));
    assert_eq!(network().of(&paper).unwrap(), Raster::flat(Rgb(255, 255, 255), (70, 33)));
    assert!(network().side(20).of(&paper).unwrap_err().to_string().contains("64..=2048"));
    assert!(network().of(&Raster::flat(Rgb(0, 0, 0), (0, 9))).unwrap_err().to_string().contains("a picture with"));
    let bare = impasto::weights::Weights::new("bare.safetensors", Tensors::new(), kind, Device::Cpu);
    assert!(SketchKeras::new(&bare).unwrap_err().to_string().contains("bare.safetensors"));
}
