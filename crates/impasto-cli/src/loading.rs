//! Options that choose the model and the way it computes.

use crate::failure::Failure;
use crate::outputs::Named;
use clap::{Args, ValueEnum};
use impasto::text::Emphasis;
use impasto::weights::{Contents, Embedding, Lora, ModelFamily, SingleFile};
use impasto::{Error, Model, Pipeline, Precision, Source};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use tch::{Cuda, Device, Kind};

/// The model and the way it computes.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Model")]
pub struct Loading {
    /// The model: `embedded`, `embedded-fast` (four steps), `embedded-flow` (a transformer), `embedded-colorizer`, a
    /// folder, a .safetensors or .ckpt file, or OWNER/NAME on the Hugging Face hub.
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// Another VAE: a folder or a file.
    #[arg(long, value_name = "MODEL")]
    pub vae: Option<String>,
    /// Another text encoder: a folder or a file, such as the Qwen3 of Anima's files.
    #[arg(long, value_name = "MODEL")]
    pub text_encoder: Option<String>,
    /// Another second text encoder, of SDXL or SD 3: a folder or a file.
    #[arg(long, value_name = "MODEL")]
    pub text_encoder_2: Option<String>,
    /// T5, the third text encoder of SD 3: a folder or a file, with its tokenizer in a folder tokenizer_3 beside the
    /// file.
    #[arg(long, value_name = "MODEL")]
    pub text_encoder_3: Option<String>,
    /// A LoRA that is merged into the model, with a strength if it is not 1, and with another strength for the text
    /// encoders if theirs differs. May be given several times; each file changes what the ones before it left.
    #[arg(long, value_name = "FILE[:STRENGTH[:TEXT_STRENGTH]]")]
    pub lora: Vec<Weighted>,
    /// A LoRA that stays beside the weights of the model, so that it can act in a part of the steps or of the picture:
    /// see --lora-steps, --lora-on and --lora-mask. May be given several times.
    #[arg(long, value_name = "FILE[:STRENGTH]")]
    pub lora_apart: Vec<Weighted>,
    /// A learned word (textual inversion). Its name is in the file, or is the file's name. May be given several times.
    #[arg(long, value_name = "FILE")]
    pub embedding: Vec<PathBuf>,
    /// A folder of LoRAs, which tags in prompts add by their names: <lora:ink:0.8>. May be given several times.
    #[arg(long, value_name = "FOLDER")]
    pub lora_dir: Vec<PathBuf>,
    /// A folder of learned words. A word of a prompt that is the name of a file in the folder is read with the file.
    /// May be given several times.
    #[arg(long, value_name = "FOLDER")]
    pub embedding_dir: Vec<PathBuf>,
    /// Effect of weights such as (word:1.3), as in another program.
    #[arg(long, value_enum, default_value_t = WeightsName::A1111)]
    pub weights: WeightsName,
    /// Shift of the noise levels to higher noise, for a model with flow matching such as Anima or SD 3. The default is
    /// the model's own, which is usually 3; 1 shifts nothing.
    #[arg(long, value_name = "NUMBER")]
    pub shift: Option<f64>,
    /// Leaves the weights in their files, so that a model may be larger than memory. Steps take longer.
    #[arg(long)]
    pub offload: bool,
    /// The device: `cpu`, `cuda` or `cuda:1`.
    #[arg(long, value_name = "DEVICE", default_value = "cpu", value_parser = device)]
    pub device: Device,
    /// Precision in which the networks compute.
    #[arg(long, value_enum, default_value_t = PrecisionName::Reproducible)]
    pub precision: PrecisionName,
    /// Number of threads that libtorch computes with. The default is one per core.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
    /// True for the options of a model that is chosen in place of the model of these options.
    #[arg(skip)]
    is_another: bool,
}

/// The name of an [`Emphasis`].
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum WeightsName {
    /// States times weights, with the mean restored, as in the AUTOMATIC1111 web UI.
    A1111,
    /// States times weights, as in the web UI with the emphasis "No norm".
    NoNorm,
    /// States moved away from those of an empty prompt, as in ComfyUI.
    Comfy,
}

impl From<WeightsName> for Emphasis {
    fn from(name: WeightsName) -> Self {
        match name {
            WeightsName::A1111 => Self::Original,
            WeightsName::NoNorm => Self::NoNorm,
            WeightsName::Comfy => Self::Interpolate,
        }
    }
}

/// The name of a [`Precision`].
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum PrecisionName {
    /// f16 on a GPU, f32 elsewhere: the same picture on every CPU.
    Reproducible,
    /// The reproducible precision, but bf16 on CPUs that are faster in bf16.
    Fastest,
    F32,
    Bf16,
    F16,
}

impl From<PrecisionName> for Precision {
    fn from(name: PrecisionName) -> Self {
        match name {
            PrecisionName::Reproducible => Self::Reproducible,
            PrecisionName::Fastest => Self::Fastest,
            PrecisionName::F32 => Kind::Float.into(),
            PrecisionName::Bf16 => Kind::BFloat16.into(),
            PrecisionName::F16 => Kind::Half.into(),
        }
    }
}

/// A file and its strengths: `FILE[:STRENGTH[:TEXT_STRENGTH]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Weighted {
    pub file: PathBuf,
    pub strength: f64,
    /// Strength in the text encoders, if it differs.
    pub text_strength: Option<f64>,
}

impl FromStr for Weighted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // A text without a number at its end stays whole, such as a Windows path.
        let numbered = |text: &'_ str| -> Option<(usize, f64)> {
            let (file, number) = text.rsplit_once(':')?;
            Some((file.len(), number.trim().parse().ok()?))
        };
        let (mut file, mut strengths) = (text, Vec::new());
        while let Some((end, strength)) = numbered(file).filter(|_| strengths.len() < 2) {
            if !strength.is_finite() {
                return Err(format!("`{text}` has the strength {strength}; expected a finite number"));
            }
            (file, _) = file.split_at(end);
            strengths.insert(0, strength);
        }
        let text_strength = strengths.get(1).copied();
        let strength = strengths.first().copied().unwrap_or(1.0);
        Ok(Self { file: file.trim_end().into(), strength, text_strength })
    }
}

impl Weighted {
    /// Opens the file as a LoRA of these strengths.
    fn open(&self) -> impasto::Result<Lora> {
        let lora = Lora::open(&self.file)?.scale(self.strength);
        Ok(match self.text_strength {
            Some(strength) => lora.text_scale(strength),
            None => lora,
        })
    }
}

impl Loading {
    /// Loads the model, or `otherwise` if the options name none, with its LoRAs, learned words and folders.
    pub fn pipeline(&self, otherwise: Source) -> Result<Pipeline, Failure> {
        if let Some(threads) = self.threads {
            tch::set_num_threads(i32::from(threads));
        }
        let main = self.model.as_deref().map_or(Ok(otherwise), |model| source("--model", model))?;
        let mut model = self.load(&main)?;
        model = self.add_loras(model, &self.lora, Model::with_lora)?;
        model = self.add_loras(model, &self.lora_apart, Model::with_unmerged)?;
        for file in &self.embedding {
            match model.with_embedding(&Embedding::open(file)?) {
                // Another model may be of a family whose text encoder cannot read the embedding.
                Err(Error::Parameter { .. } | Error::Malformed { .. }) if self.is_another => {}
                learned => model = learned?,
            }
        }
        let pipeline = self.lora_dir.iter().fold(Pipeline::new(model), Pipeline::lora_folder);
        Ok(self.embedding_dir.iter().fold(pipeline, Pipeline::embedding_folder))
    }

    /// Loads the model without LoRAs. Another model has its own VAE if the given one is of another kind.
    fn load(&self, main: &Source) -> impasto::Result<Model> {
        let options = self.options()?;
        let given = options.vae.is_some();
        match Model::load_with(main, options) {
            Err(Error::Config { .. }) if self.is_another && given => {
                let mut own = self.options()?;
                own.vae = None;
                Model::load_with(main, own)
            }
            loaded => loaded,
        }
    }

    /// Adds LoRAs to a model by `add`. LoRAs that do not fit another model are left out.
    fn add_loras(
        &self,
        model: Model,
        given: &[Weighted],
        add: fn(&Model, &[Lora]) -> impasto::Result<Model>,
    ) -> impasto::Result<Model> {
        let mut loras = given.iter().map(Weighted::open).collect::<impasto::Result<Vec<_>>>()?;
        let mut files: Vec<String> = given.iter().map(|lora| lora.file.display().to_string()).collect();
        while !loras.is_empty() {
            match add(&model, &loras) {
                // Another model may be of a family that the LoRA was not trained for.
                Err(Error::Malformed { file, problem }) if self.is_another => {
                    let misfit = files.iter().position(|known| *known == file);
                    let Some(index) = misfit else { return Err(Error::Malformed { file, problem }) };
                    files.remove(index);
                    drop(loras.remove(index));
                }
                added => return added,
            }
        }
        Ok(model)
    }

    /// Returns the options for another model. The shift belongs to the model that it was given for. The text encoders
    /// belong to single files of that model's family, which share them. A VAE beside text encoders does too, because
    /// such files are the parts of one model. A VAE alone is for every model whose family is not known to have another
    /// VAE. LoRAs and embeddings that do not fit the model are left out.
    pub fn for_another(&self, model: String) -> Self {
        let encoders = [&self.text_encoder, &self.text_encoder_2, &self.text_encoder_3];
        let is_split = encoders.into_iter().any(Option::is_some);
        let own = self.model.as_deref().and_then(family_of_file);
        let other = family_of_file(&model);
        let is_alike = own.is_some() && own == other;
        let shares_vae = own.zip(other).is_none_or(|(own, other)| vae_of(own) == vae_of(other));
        let of_family = |part: Option<&String>| part.filter(|_| is_alike).cloned();
        Self {
            model: Some(model),
            vae: self.vae.clone().filter(|_| is_alike || !is_split && shares_vae),
            text_encoder: of_family(self.text_encoder.as_ref()),
            text_encoder_2: of_family(self.text_encoder_2.as_ref()),
            text_encoder_3: of_family(self.text_encoder_3.as_ref()),
            shift: None,
            is_another: true,
            ..self.clone()
        }
    }

    /// Returns the files that the options name.
    pub fn files(&self) -> impl Iterator<Item = Named> {
        let sources = self.model.iter().map(|model| Named::new("--model", model));
        let parts = self.parts().into_iter().filter_map(|(option, part)| Some(Named::new(option, part?)));
        let sources = sources.chain(parts);
        // Other sources are embedded or repositories.
        let files = sources.filter(|source| source.file.exists());
        let loras = self.lora.iter().map(|lora| Named::new("--lora", &lora.file));
        let apart = self.lora_apart.iter().map(|lora| Named::new("--lora-apart", &lora.file));
        files.chain(loras).chain(apart).chain(self.embedding.iter().map(|file| Named::new("--embedding", file)))
    }

    /// Returns the parts that come from sources of their own, with the options that name them.
    fn parts(&self) -> [(&'static str, Option<&str>); 4] {
        [
            ("--vae", self.vae.as_deref()),
            ("--text-encoder", self.text_encoder.as_deref()),
            ("--text-encoder-2", self.text_encoder_2.as_deref()),
            ("--text-encoder-3", self.text_encoder_3.as_deref()),
        ]
    }

    fn options(&self) -> impasto::Result<impasto::LoadOptions> {
        let mut options = impasto::LoadOptions::default();
        options.device = self.device;
        options.precision = self.precision.into();
        (options.shift, options.offload) = (self.shift, self.offload);
        let parts = self.parts().map(|(option, part)| part.map(|part| source(option, part)).transpose());
        let [vae, text_encoder, text_encoder_2, text_encoder_3] = parts;
        (options.vae, options.text_encoder) = (vae?, text_encoder?);
        (options.text_encoder_2, options.text_encoder_3) = (text_encoder_2?, text_encoder_3?);
        options.text.emphasis = self.weights.into();
        Ok(options)
    }
}

/// Returns the family whose VAE the models of a family have.
const fn vae_of(family: ModelFamily) -> ModelFamily {
    match family {
        ModelFamily::Sd2 => ModelFamily::Sd1,
        ModelFamily::SdxlRefiner => ModelFamily::Sdxl,
        own => own,
    }
}

/// Returns true if a file is a model, as its header tells.
pub fn is_model_file(path: &Path) -> bool {
    let contents = SingleFile::open(path).and_then(|file| file.contents());
    matches!(contents, Ok(Contents::Model { .. } | Contents::Colorizer))
}

/// Returns the family of a model that is a single file; `None` for another model, which has its own parts.
fn family_of_file(model: &str) -> Option<ModelFamily> {
    let Ok(Source::File(path)) = model.parse() else { return None };
    match SingleFile::open(&path).ok()?.contents().ok()? {
        Contents::Model { family, .. } => Some(family),
        _ => None,
    }
}

/// Returns the source that an option names. Errors name the option.
pub fn source(option: &'static str, text: &str) -> impasto::Result<Source> {
    text.parse().map_err(|error| match error {
        Error::Parameter { value, expected, .. } => Error::Parameter { name: option, value, expected },
        other => other,
    })
}

/// Reads the name of a device.
fn device(text: &str) -> Result<Device, String> {
    match text {
        "cpu" => Ok(Device::Cpu),
        "cuda" => Ok(Device::Cuda(0)),
        _ => {
            let number = text.strip_prefix("cuda:").and_then(|number| number.parse().ok());
            let gpus = || format!("this libtorch finds {} GPUs", Cuda::device_count());
            number.map(Device::Cuda).ok_or_else(|| format!("expected cpu, cuda or cuda:NUMBER; {}", gpus()))
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use clap::Parser;
    use impasto::Codec;
    use impasto::weights::{Tensors, write_safetensors};
    use tch::Tensor;

    #[derive(Parser)]
    struct Alone {
        #[command(flatten)]
        loading: Loading,
    }

    #[test]
    fn another_model_learns_the_words_that_fit() {
        let folder = tempfile::tempdir().unwrap();
        let text = Model::load(&Source::embedded()).unwrap().tensors("text_encoder").unwrap();
        let width = text["text_model.embeddings.token_embedding.weight"].size()[1];
        let write = |name: &str, width: i64| {
            let rows = Tensor::ones([3, width], (Kind::Float, Device::Cpu));
            let file = folder.path().join(name);
            write_safetensors(&Tensors::from([("emb_params".to_owned(), rows)]), &file).unwrap();
            file.display().to_string()
        };
        let (fits, other) = (write("zzqx.safetensors", width), write("easynegative.safetensors", 768));
        let options = |words: &[&str]| {
            let options = words.iter().flat_map(|word| ["--embedding", *word]);
            Alone::parse_from(["impasto"].into_iter().chain(options)).loading
        };
        let another = options(&[&other, &fits]).for_another("embedded".into());
        let pipeline = another.pipeline(Source::embedded()).map_err(|error| error.to_string()).unwrap();
        assert_eq!(pipeline.model().prompt("a zzqx".into()).unwrap().find("zzqx").unwrap()[0].len(), 3);
        let error = options(&[&other]).pipeline(Source::embedded()).map(drop).unwrap_err().to_string();
        assert!(error.contains("the embedding is 768 wide"), "{error}");
        let taken = write("hair.safetensors", width);
        let error = options(&[&taken]).for_another("embedded".into()).pipeline(Source::embedded());
        let error = error.map(drop).unwrap_err().to_string();
        assert!(error.contains("hair"), "a fault of the word itself is told: {error}");
    }

    #[test]
    fn another_model_has_the_loras_that_fit() {
        let folder = tempfile::tempdir().unwrap();
        let model = Model::load(&Source::embedded()).unwrap();
        let (bare, tensors) = (model.identity().unwrap(), model.tensors("unet").unwrap());
        let name = tensors.keys().find(|name| name.ends_with("attn2.to_k.weight")).unwrap();
        let (rows, columns) = tensors[name].size2().unwrap();
        let layer = name.trim_end_matches(".weight");
        let write = |file: &str, columns: i64| {
            let ones = |shape: [i64; 2]| Tensor::ones(shape, (Kind::Float, Device::Cpu));
            let pair = [("lora_A", ones([2, columns])), ("lora_B", ones([rows, 2]))];
            let pair = pair.map(|(end, x)| (format!("unet.{layer}.{end}.weight"), x));
            let file = folder.path().join(file);
            write_safetensors(&Tensors::from(pair), &file).unwrap();
            file.display().to_string()
        };
        let (fits, other) = (write("ink.safetensors", columns), write("glow.safetensors", columns + 8));
        let parse = |words: [&str; 4]| Alone::parse_from(["impasto"].into_iter().chain(words)).loading;
        let load = |loading: &Loading| loading.pipeline(Source::embedded()).map_err(|error| error.to_string());
        for option in ["--lora", "--lora-apart"] {
            let given = parse([option, &other, option, &fits]);
            let error = load(&given).map(drop).unwrap_err();
            assert!(error.contains("glow.safetensors"), "{option}: {error}");
            let another = load(&given.for_another("embedded".into())).unwrap().model().identity().unwrap();
            assert!(another != bare, "{option}: the LoRA that fits is used");
        }
    }

    #[test]
    fn vae_is_shared_by_families_that_have_it_alike() {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/models");
        let file = |part: &str| golden.join(part).join("diffusion_pytorch_model.safetensors").display().to_string();
        let (z_image, sd3) = (file("z-image"), file("sd35-medium"));
        let given = Alone::parse_from(["impasto", "--model", &z_image, "--vae", "embedded"]).loading;
        let vae = |model: &str| given.for_another(model.to_owned()).vae;
        assert_eq!(vae(&z_image).as_deref(), Some("embedded"));
        assert_eq!(vae("embedded-flow").as_deref(), Some("embedded"), "nothing is known before the model is loaded");
        assert_eq!(vae(&sd3), None);
        assert_eq!(vae_of(ModelFamily::Sd2), vae_of(ModelFamily::Sd1));
        assert_ne!(vae_of(ModelFamily::Sdxl), vae_of(ModelFamily::Sd1));
    }

    #[test]
    fn strengths_follow_the_last_colons() {
        let weighted = |text: &str| {
            text.parse::<Weighted>()
                .map(|Weighted { file, strength, text_strength }| (file.display().to_string(), strength, text_strength))
        };
        assert_eq!(weighted("ink.safetensors:0.8"), Ok(("ink.safetensors".into(), 0.8, None)));
        assert_eq!(weighted("ink.safetensors:0.8:-1"), Ok(("ink.safetensors".into(), 0.8, Some(-1.0))));
        assert_eq!(weighted("2:1:0.8:0.5"), Ok(("2:1".into(), 0.8, Some(0.5))));
        assert_eq!(weighted("C:\\ink"), Ok(("C:\\ink".into(), 1.0, None)));
        assert!(weighted("ink.safetensors:inf").unwrap_err().contains("expected a finite number"));
        assert!(weighted("ink.safetensors:1:nan").unwrap_err().contains("expected a finite number"));
    }
}
