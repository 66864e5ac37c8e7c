//! Engines of the embedded model: with networks that requests can name, and with models to choose from.

use impasto::attention::Place;
use impasto::diffusion::Denoiser;
use impasto::job::Nets;
use impasto::vision::{View, VisionEncoder};
use impasto::{Error, Pipeline, Raster, Result, Rgb, Source};
use impasto_studio::{Engine, Models};
use serde_json::{Map, Value, json};
use std::path::Path;
use std::sync::Arc;

/// Returns an engine with the ControlNet `lines`, and an IP-Adapter.
pub fn with_networks() -> Engine {
    let pipeline = Pipeline::builder().build().unwrap();
    let mut nets = Nets::default();
    nets.open("lines", &Source::embedded(), pipeline.model()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("adapter.safetensors");
    write_adapter(&pipeline, &file);
    nets.set_ip_adapter(pipeline.model().ip_adapter(&file, &Source::embedded()).unwrap());
    Engine::new(pipeline, nets)
}

/// The embedded models, and one that cannot be loaded.
struct Embedded;

impl Models for Embedded {
    fn names(&self) -> Vec<String> {
        ["embedded", "embedded-fast", "broken"].map(String::from).into()
    }

    fn load(&self, name: &str) -> Result<Engine> {
        if name == "broken" {
            return Err(Error::custom("the file ends too early"));
        }
        Pipeline::builder().source(name.parse()?).build().map(Engine::from)
    }
}

/// Returns an engine of the embedded model, in place of which clients can choose the fast one.
pub fn with_choice() -> Engine {
    Embedded.load("embedded").unwrap().with_models("embedded", Arc::new(Embedded))
}

/// Writes a plain IP-Adapter of random weights for the embedded model.
fn write_adapter(pipeline: &Pipeline, file: &Path) {
    let model = pipeline.model();
    let seen = model.vision(&Raster::flat(Rgb(9, 9, 9), (8, 8)), View::default()).unwrap();
    let unet = model.tensors("unet").unwrap();
    let of = |place| model.sites().iter().filter(move |site| site.is_cross() && site.place == place);
    let (mut tensors, mut width) = (Vec::new(), 0);
    for (i, site) in of(Place::Down).chain(of(Place::Up)).chain(of(Place::Mid)).enumerate() {
        let (rows, columns) = unet.get(&format!("{}.to_k.weight", site.name)).unwrap().size2().unwrap();
        for end in ["to_k_ip", "to_v_ip"] {
            tensors.push((format!("ip_adapter.{}.{end}.weight", 2 * i + 1), vec![rows, columns]));
        }
        width = columns;
    }
    let hidden = seen.tokens.size3().unwrap().2;
    tensors.push(("image_proj.proj.weight".into(), vec![4 * width, hidden]));
    tensors.push(("image_proj.proj.bias".into(), vec![4 * width]));
    tensors.push(("image_proj.norm.weight".into(), vec![width]));
    tensors.push(("image_proj.norm.bias".into(), vec![width]));
    let (mut header, mut data) = (Map::new(), Vec::new());
    for (name, shape) in tensors {
        let (begin, count) = (data.len(), shape.iter().product::<i64>());
        let scale = 1.2 / (*shape.last().unwrap() as f64).sqrt();
        let wave = (0..count).map(|at| ((at as f64 * 12.9898).sin() * 43758.5).fract() * scale);
        data.extend(wave.flat_map(|value| (value as f32).to_le_bytes()));
        header.insert(name, json!({ "dtype": "F32", "shape": shape, "data_offsets": [begin, data.len()] }));
    }
    let header = Value::from(header).to_string();
    let file_of = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &data].concat();
    std::fs::write(file, file_of).unwrap();
}
