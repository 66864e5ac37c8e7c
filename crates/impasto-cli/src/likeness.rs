//! Options for pictures as prompts, by an IP-Adapter.

use crate::failure::Failure;
use crate::loading::source;
use crate::outputs::Named;
use clap::Args;
use impasto::guidance::Guidance;
use impasto::methods::IpAdapter;
use impasto::nn::ip_adapter::IpAdapterNet;
use impasto::{Pipeline, Raster};
use std::path::PathBuf;

/// An IP-Adapter and its image encoder.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Pictures as prompts")]
pub struct Adapter {
    /// A file of an IP-Adapter for the model: plain, Plus, Plus face or full face.
    #[arg(long, value_name = "FILE", requires = "image_encoder")]
    ip_adapter: Option<PathBuf>,
    /// The image encoder that the IP-Adapter was trained with: a folder, or a file of its weights.
    #[arg(long, value_name = "MODEL", requires = "ip_adapter")]
    image_encoder: Option<String>,
}

/// Pictures to draw like.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Pictures as prompts")]
pub struct Likeness {
    #[command(flatten)]
    adapter: Adapter,
    /// A picture to draw like. May be given several times; the pictures are mixed.
    #[arg(long, value_name = "PICTURE", requires = "ip_adapter")]
    ip_adapter_picture: Vec<PathBuf>,
    /// Strength of the pictures beside the text, -10 to 10. 0.5 to 0.8 leaves room for the text.
    #[arg(long, value_name = "NUMBER", requires = "ip_adapter", default_value_t = 1.0, value_parser = strength)]
    #[arg(allow_negative_numbers = true)]
    ip_adapter_strength: f64,
}

impl Adapter {
    /// Loads the IP-Adapter for the model of a pipeline; `None` if the options name none.
    fn net(&self, pipeline: &Pipeline) -> Result<Option<IpAdapterNet>, Failure> {
        let (Some(file), Some(encoder)) = (&self.ip_adapter, &self.image_encoder) else { return Ok(None) };
        Ok(Some(pipeline.model().ip_adapter(file, &source("--image-encoder", encoder)?)?))
    }

    /// Lets repeated runs use the IP-Adapter, which their pictures do not hold.
    pub fn add_to(&self, pipeline: &mut Pipeline) -> Result<(), Failure> {
        if let Some(net) = self.net(pipeline)? {
            let read = move |recipe, _: &_| Ok(Box::new(IpAdapter::from_recipe(&net, &recipe)?) as Box<dyn Guidance>);
            pipeline.registry_mut().add("IpAdapter", read);
        }
        Ok(())
    }

    /// Returns the files that the options name.
    pub fn files(&self) -> impl Iterator<Item = Named> {
        let encoder = self.image_encoder.iter().map(|encoder| Named::new("--image-encoder", encoder));
        // Other sources are embedded or repositories.
        let encoder = encoder.filter(|encoder| encoder.file.exists());
        encoder.chain(self.ip_adapter.iter().map(|file| Named::new("--ip-adapter", file)))
    }
}

impl Likeness {
    /// Guides all runs of a pipeline by the pictures.
    pub fn guide(&self, pipeline: Pipeline) -> Result<Pipeline, Failure> {
        let Some(net) = self.adapter.net(&pipeline)? else { return Ok(pipeline) };
        let pictures = self.ip_adapter_picture.iter().map(Raster::open).collect::<impasto::Result<Vec<_>>>()?;
        let like = IpAdapter::pictures(&net, &pictures).strength(self.ip_adapter_strength);
        like.check()?;
        Ok(pipeline.guide(like))
    }

    /// Returns the files that the options name.
    pub fn files(&self) -> impl Iterator<Item = Named> {
        let pictures = self.ip_adapter_picture.iter().map(|picture| Named::new("--ip-adapter-picture", picture));
        self.adapter.files().chain(pictures)
    }
}

/// Reads a strength.
fn strength(text: &str) -> Result<f64, String> {
    let number = text.trim().parse().ok();
    number.filter(|number| (-10.0..=10.0).contains(number)).ok_or_else(|| "expected a number in -10 to 10".into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use clap::Parser;
    use impasto::Rgb;
    use impasto::attention::Place;
    use impasto::diffusion::Denoiser;
    use impasto::pipeline::Request;
    use impasto::vision::{View, VisionEncoder};
    use std::path::Path;
    use tch::{Device, Kind, Tensor};

    #[derive(Debug, Parser)]
    struct Alone {
        #[command(flatten)]
        likeness: Likeness,
    }

    fn parse(options: &[&str]) -> Result<Likeness, String> {
        let parsed = Alone::try_parse_from([&["impasto"], options].concat());
        parsed.map(|alone| alone.likeness).map_err(|error| error.to_string())
    }

    #[test]
    fn adapter_encoder_and_pictures_belong_together() {
        assert_eq!(parse(&[]).unwrap().files().count(), 0);
        assert!(parse(&["--ip-adapter", "a.bin"]).unwrap_err().contains("--image-encoder"));
        assert!(parse(&["--ip-adapter-picture", "fox.png"]).unwrap_err().contains("--ip-adapter"));
        let adapter = ["--ip-adapter", "a.bin", "--image-encoder", "embedded"];
        let strength = |number| parse(&[&adapter[..], &["--ip-adapter-strength", number]].concat());
        assert_eq!(strength("-0.5").unwrap().ip_adapter_strength, -0.5);
        assert!(strength("11").unwrap_err().contains("-10 to 10"));
        let both = [&adapter[..], &["--ip-adapter-picture", "fox.png", "--ip-adapter-picture", "b.png"]].concat();
        let files: Vec<PathBuf> = parse(&both).unwrap().files().map(|named| named.file).collect();
        assert_eq!(files, ["a.bin", "fox.png", "b.png"].map(PathBuf::from));
    }

    /// Writes a plain IP-Adapter of random weights for the embedded model.
    fn adapter(pipeline: &Pipeline, file: &Path) {
        let model = pipeline.model();
        let seen = model.vision(&Raster::flat(Rgb(9, 9, 9), (8, 8)), View::default()).unwrap();
        let draw = |rows: i64, columns: i64| {
            let wave = Tensor::arange(rows * columns, (Kind::Double, Device::Cpu)) * 12.9898;
            ((wave.sin() * 43758.5).frac() * (1.2 / (columns as f64).sqrt()))
                .to_kind(Kind::Float)
                .reshape([rows, columns])
        };
        let unet = model.tensors("unet").unwrap();
        let of = |place| model.sites().iter().filter(move |site| site.is_cross() && site.place == place);
        let (mut tensors, mut width) = (Vec::new(), 0);
        for (i, site) in of(Place::Down).chain(of(Place::Up)).chain(of(Place::Mid)).enumerate() {
            let (rows, columns) = unet.get(&format!("{}.to_k.weight", site.name)).unwrap().size2().unwrap();
            for end in ["to_k_ip", "to_v_ip"] {
                tensors.push((format!("ip_adapter.{}.{end}.weight", 2 * i + 1), draw(rows, columns)));
            }
            width = columns;
        }
        tensors.push(("image_proj.proj.weight".into(), draw(4 * width, seen.tokens.size3().unwrap().2)));
        tensors.push(("image_proj.proj.bias".into(), draw(1, 4 * width).squeeze()));
        tensors.push(("image_proj.norm.weight".into(), draw(1, width).squeeze() + 1.0));
        tensors.push(("image_proj.norm.bias".into(), draw(1, width).squeeze()));
        Tensor::write_safetensors(&tensors, file).unwrap();
    }

    #[test]
    fn pictures_guide_a_run_and_its_repetition() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let mut pipeline = Pipeline::builder().build().unwrap();
        adapter(&pipeline, &path("adapter.safetensors"));
        Raster::flat(Rgb(200, 30, 30), (40, 30)).save(path("red.png")).unwrap();
        let run = |pipeline: &Pipeline| pipeline.request("1girl, hair").seed(7).steps(2).run().unwrap();
        let bare = run(&pipeline);
        let (file, picture) =
            (path("adapter.safetensors").display().to_string(), path("red.png").display().to_string());
        let options = ["--ip-adapter", &file, "--image-encoder", "embedded", "--ip-adapter-picture", &picture];
        let likeness = parse(&[&options[..], &["--ip-adapter-strength", "0.7"]].concat()).unwrap();
        let like = run(&likeness.guide(Pipeline::builder().build().unwrap()).unwrap());
        assert_ne!(like.latents, bare.latents);
        like.save(0, path("like.png")).unwrap();
        likeness.adapter.add_to(&mut pipeline).unwrap();
        let request = Request::from_png(&pipeline, path("like.png")).unwrap();
        assert_eq!(request.notes().unwrap(), []);
        assert_eq!(request.run().unwrap().latents, like.latents);
    }

    #[test]
    fn files_of_another_kind_are_named() {
        let pipeline = || Pipeline::builder().build().unwrap();
        let file = tempfile::NamedTempFile::with_suffix(".bin").unwrap();
        std::fs::write(file.path(), "<!DOCTYPE html>").unwrap();
        let path = file.path().display().to_string();
        let likeness = parse(&["--ip-adapter", &path, "--image-encoder", "embedded"]).unwrap();
        let message = likeness.guide(pipeline()).err().unwrap().to_string();
        assert!(message.contains(&path) && message.contains("HTML"), "{message}");
        let likeness = parse(&["--ip-adapter", &path, "--image-encoder", "nowhere"]).unwrap();
        assert!(likeness.adapter.add_to(&mut pipeline()).is_err());
        assert!(parse(&[]).unwrap().guide(pipeline()).is_ok());
    }
}
