//! Options for the networks beside the model: an IP-Adapter, and ControlNets and T2I adapters by name.

use crate::failure::Failure;
use crate::loading::source;
use crate::outputs::Named;
use clap::Args;
use impasto::guidance::Guidance;
use impasto::job::{Job, Nets};
use impasto::methods::IpAdapter;
use impasto::nn::ip_adapter::IpAdapterNet;
use impasto::{Model, Pipeline, Source};
use impasto_studio::Engine;
use std::path::PathBuf;
use std::str::FromStr;

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

/// The networks that jobs can name.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Pictures to follow")]
pub struct Networks {
    /// A ControlNet or T2I adapter for the model, and the name that jobs give it: depth=control_depth.safetensors.
    /// May be given several times.
    #[arg(long, value_name = "NAME=MODEL")]
    net: Vec<NamedNet>,
    #[command(flatten)]
    adapter: Adapter,
}

/// A ControlNet or T2I adapter, and its name.
#[derive(Clone, Debug, PartialEq)]
struct NamedNet {
    name: String,
    source: Source,
}

/// Longest name of a network in bytes.
const LONGEST: usize = 64;

impl FromStr for NamedNet {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, model) = text.split_once('=').unwrap_or_default();
        let (name, model) = (name.trim(), model.trim());
        if name.is_empty() || model.is_empty() || name.len() > LONGEST || name.chars().any(char::is_control) {
            let form = "NAME=MODEL, such as depth=control_depth.safetensors, with a name of at most 64 bytes";
            return Err(format!("expected {form}"));
        }
        let source = source("--net", model).map_err(|error| error.to_string())?;
        Ok(Self { name: name.into(), source })
    }
}

impl Networks {
    /// Loads the networks for the model of a pipeline.
    pub fn engine(&self, pipeline: Pipeline) -> Result<Engine, Failure> {
        let mut nets = self.adapter.nets(pipeline.model())?;
        for NamedNet { name, source } in &self.net {
            nets.open(name, source, pipeline.model())?;
        }
        Ok(Engine::new(pipeline, nets))
    }

    /// Loads the networks that fit the model of a pipeline. Another model than the one that they were given for may be
    /// of another family.
    pub fn fitting(&self, pipeline: Pipeline) -> Engine {
        let mut nets = self.adapter.nets(pipeline.model()).unwrap_or_default();
        for NamedNet { name, source } in &self.net {
            let _ = nets.open(name, source, pipeline.model()); // the description of the model names those that fit
        }
        Engine::new(pipeline, nets)
    }
}

impl Adapter {
    /// Loads the IP-Adapter for a model; `None` if the options name none.
    fn net(&self, model: &Model) -> Result<Option<IpAdapterNet>, Failure> {
        let (Some(file), Some(encoder)) = (&self.ip_adapter, &self.image_encoder) else { return Ok(None) };
        Ok(Some(model.ip_adapter(file, &source("--image-encoder", encoder)?)?))
    }

    /// Returns an error if a job has pictures to draw like and no option names an IP-Adapter, or if no job has any and
    /// an option names one.
    pub fn check<'a>(&self, jobs: impl IntoIterator<Item = &'a Job>) -> Result<(), Failure> {
        let has_pictures = jobs.into_iter().any(|job| !job.ip_adapter_pictures.is_empty());
        match (&self.ip_adapter, has_pictures) {
            (None, true) => Nets::default().ip_adapter().map(|_| ()).map_err(Failure::of_command_line),
            (Some(file), false) => {
                let problem = "expected pictures to draw like; give them with --ip-adapter-picture";
                Err(Failure::CommandLine(format!("--ip-adapter is {}; {problem}", file.display())))
            }
            _ => Ok(()),
        }
    }

    /// Returns networks with the IP-Adapter for a model, if the options name one.
    pub fn nets(&self, model: &Model) -> Result<Nets, Failure> {
        let mut nets = Nets::default();
        if let Some(net) = self.net(model)? {
            nets.set_ip_adapter(net);
        }
        Ok(nets)
    }

    /// Lets repeated runs use the IP-Adapter, which their pictures do not hold.
    pub fn add_to(&self, pipeline: &mut Pipeline) -> Result<(), Failure> {
        if let Some(net) = self.net(pipeline.model())? {
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use clap::Parser;
    use impasto::attention::Place;
    use impasto::diffusion::Denoiser;
    use impasto::job::Image;
    use impasto::pipeline::Request;
    use impasto::vision::{View, VisionEncoder};
    use impasto::{Raster, Rgb};
    use std::path::Path;
    use tch::{Device, Kind, Tensor};

    #[derive(Debug, Parser)]
    struct Alone {
        #[command(flatten)]
        job: Job,
        #[command(flatten)]
        networks: Networks,
    }

    fn parse(options: &[&str]) -> Result<Alone, String> {
        Alone::try_parse_from([&["impasto", "1girl, hair"], options].concat()).map_err(|error| error.to_string())
    }

    #[test]
    fn adapter_encoder_and_pictures_are_read() {
        assert_eq!(parse(&[]).unwrap().networks.adapter.files().count(), 0);
        assert!(parse(&["--ip-adapter", "a.bin"]).unwrap_err().contains("--image-encoder"));
        let both = ["--ip-adapter", "a.bin", "--image-encoder", "embedded", "--net", "depth=embedded"];
        let pictures = ["--ip-adapter-picture", "fox.png", "--ip-adapter-picture", "hair=b.png:0.8"];
        let Alone { job, networks } =
            parse(&[&both[..], &pictures, &["--ip-adapter-strength", "-0.5"]].concat()).unwrap();
        let files: Vec<PathBuf> = networks.adapter.files().map(|named| named.file).collect();
        assert_eq!(files, [PathBuf::from("a.bin")]);
        assert_eq!(networks.net, [NamedNet { name: "depth".into(), source: Source::embedded() }]);
        assert_eq!(job.ip_adapter_pictures[0].picture, Image::Path("fox.png".into()));
        assert_eq!((job.ip_adapter_pictures[1].strength, job.ip_adapter_strength), (0.8, Some(-0.5)));
    }

    #[test]
    fn unfit_names_of_networks_are_refused() {
        for net in ["depth", "=embedded", "depth=", "a\nb=embedded", &format!("{}=embedded", "a".repeat(65))] {
            let message = parse(&["--net", net]).unwrap_err();
            assert!(message.contains("expected NAME=MODEL"), "{message}");
        }
        let message = parse(&["--net", "depth=nowhere"]).unwrap_err();
        assert!(message.contains("--net is nowhere"), "{message}");
    }

    #[test]
    fn pictures_and_adapter_come_together() {
        let check = |options: &[&str]| {
            let Alone { job, networks } = parse(options).unwrap();
            networks.adapter.check([&job]).map_err(|failure| (failure.status(), failure.to_string()))
        };
        let adapter = ["--ip-adapter", "a.bin", "--image-encoder", "embedded"];
        let picture = ["--ip-adapter-picture", "fox.png"];
        assert_eq!(check(&[]), Ok(()));
        assert_eq!(check(&[adapter, [picture[0], picture[1], "--seed", "1"]].concat()), Ok(()));
        let (status, message) = check(&adapter).unwrap_err();
        assert_eq!((status, message.contains("give them with --ip-adapter-picture")), (2, true), "{message}");
        let (status, message) = check(&picture).unwrap_err();
        assert_eq!((status, message.contains("with --ip-adapter")), (2, true), "{message}");
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
        let file = path("adapter.safetensors").display().to_string();
        let place = format!("hair={}:0.7", path("red.png").display());
        let options = ["--ip-adapter", &file, "--image-encoder", "embedded", "--seed", "7", "--steps", "4"];
        let Alone { job, networks } = parse(&[&options[..], &["--ip-adapter-picture", &place]].concat()).unwrap();
        let run = |job: &Job, nets: &Nets| job.request(&pipeline, nets)?.run();
        let nets = networks.adapter.nets(pipeline.model()).unwrap();
        let like = run(&job, &nets).unwrap();
        let message = run(&job, &Nets::default()).unwrap_err().to_string();
        assert!(message.starts_with("ip_adapter_pictures is given; expected no picture to draw like"), "{message}");
        let mut bare = job.clone();
        bare.ip_adapter_pictures.clear();
        assert_ne!(run(&bare, &nets).unwrap().latents, like.latents);
        like.save(0, path("like.png")).unwrap();
        networks.adapter.add_to(&mut pipeline).unwrap();
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
        let refused = |options: &[&str]| parse(options).unwrap().networks.engine(pipeline()).unwrap_err().to_string();
        for options in [&["--ip-adapter", &path, "--image-encoder", "embedded"][..], &["--net", &format!("a={path}")]] {
            let message = refused(options);
            assert!(message.contains(&path) && message.contains("HTML"), "{message}");
        }
        let networks = parse(&["--ip-adapter", &path, "--image-encoder", "nowhere"]).unwrap().networks;
        assert!(networks.adapter.add_to(&mut pipeline()).is_err());
        assert!(parse(&[]).unwrap().networks.engine(pipeline()).is_ok());
    }
}
