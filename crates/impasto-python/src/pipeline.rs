//! [`Pipeline`]: a model that paints.

use crate::attention::Site;
use crate::errors::{exception, message};
use crate::failure::Failure;
use crate::hook::Hook;
use crate::output::Output;
use crate::progress::tell;
use impasto::diffusion::Denoiser;
use impasto::job::{Job, Nets};
use impasto::{Codec, Error, Precision, Source};
use pyo3::prelude::*;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, TryLockError};
use tch::{Device, Kind};

/// A model, its IP-Adapter, and the ControlNets that jobs have named. One thread paints at a time.
#[pyclass(frozen, module = "impasto._impasto")]
pub struct Pipeline(Mutex<Painter>);

/// The places of a model's parts that do not come with it.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct Parts {
    vae: Option<String>,
    text_encoder: Option<String>,
    text_encoder_2: Option<String>,
    text_encoder_3: Option<String>,
}

struct Painter {
    pipeline: impasto::Pipeline,
    nets: Nets,
}

#[pymethods]
impl Pipeline {
    /// Loads a model.
    #[new]
    #[pyo3(signature = (model, parts, ip_adapter, device, precision, shift, offload, lora_folders, embedding_folders))]
    #[allow(clippy::too_many_arguments, reason = "Python's side names them")]
    fn new(
        py: Python<'_>,
        model: Option<String>,
        parts: Parts,
        ip_adapter: Option<(PathBuf, String)>,
        device: Option<String>,
        precision: Option<String>,
        shift: Option<f64>,
        offload: bool,
        lora_folders: Vec<PathBuf>,
        embedding_folders: Vec<PathBuf>,
    ) -> PyResult<Self> {
        let load = || -> impasto::Result<Painter> {
            let main = model.as_deref().map(|name| source("model", name)).transpose()?;
            let part = |name, part: &Option<String>| part.as_deref().map(|text| source(name, text)).transpose();
            let vae = part("vae", &parts.vae)?;
            let text_encoder = part("text_encoder", &parts.text_encoder)?;
            let text_encoder_2 = part("text_encoder_2", &parts.text_encoder_2)?;
            let text_encoder_3 = part("text_encoder_3", &parts.text_encoder_3)?;
            let device = device.as_deref().map(read_device).transpose()?;
            let precision = precision.as_deref().map(read_precision).transpose()?;
            let builder = impasto::Pipeline::builder().source(main.unwrap_or_else(Source::embedded));
            let pipeline = builder.tune(|options| {
                options.vae = vae;
                options.text_encoder = text_encoder;
                options.text_encoder_2 = text_encoder_2;
                options.text_encoder_3 = text_encoder_3;
                options.shift = shift;
                options.offload = offload;
                options.device = device.unwrap_or(options.device);
                options.precision = precision.unwrap_or(options.precision);
            });
            let pipeline = lora_folders.into_iter().fold(pipeline.build()?, impasto::Pipeline::lora_folder);
            let pipeline = embedding_folders.into_iter().fold(pipeline, impasto::Pipeline::embedding_folder);
            let mut nets = Nets::default();
            if let Some((file, encoder)) = ip_adapter {
                nets.set_ip_adapter(pipeline.model().ip_adapter(&file, &source("image_encoder", &encoder)?)?);
            }
            Ok(Painter { pipeline, nets })
        };
        let painter = py.allow_threads(load).map_err(|error| exception(&error))?;
        Ok(Self(Mutex::new(painter)))
    }

    /// Paints a job, given as JSON. `hooks` are objects with methods of a hook; `on_step` is called after every step.
    /// Other threads of Python run while the network computes.
    #[pyo3(signature = (job, hooks, on_step))]
    fn paint(
        &self,
        py: Python<'_>,
        job: &str,
        hooks: Vec<Bound<'_, PyAny>>,
        on_step: Option<PyObject>,
    ) -> PyResult<Output> {
        let job: Job = impasto::json::parse(job).map_err(|error| message(without_place(&error)))?;
        let failure = Failure::default();
        let hooks = hooks.iter().map(|hook| Hook::new(hook, &failure)).collect::<PyResult<Vec<_>>>()?;
        let painted = py.allow_threads(|| {
            let mut painter = self.painter()?;
            painter.paint(&job, hooks, on_step.as_ref(), &failure)
        });
        match (failure.take(), painted) {
            (Some(raised), _) => Err(raised),
            (None, painted) => painted.map(Output::from).map_err(|error| exception(&error)),
        }
    }

    /// Returns the attention sites of the model.
    fn sites(&self) -> PyResult<Vec<Site>> {
        let painter = self.painter().map_err(|error| exception(&error))?;
        Ok(painter.pipeline.model().sites().iter().map(Site::from).collect())
    }

    /// Returns the tokens of a phrase in a prompt: for each place, the first token and the token after the last.
    fn find(&self, prompt: &str, phrase: &str) -> PyResult<Vec<(i64, i64)>> {
        let find = || {
            let painter = self.painter()?;
            painter.pipeline.model().prompt(prompt.into())?.find(phrase)
        };
        let spans = find().map_err(|error| exception(&error))?;
        Ok(spans.into_iter().map(|span| (span.start, span.end)).collect())
    }
}

impl Pipeline {
    /// Returns the painter. Waiting for it would never end if a hook of the running picture asked.
    fn painter(&self) -> impasto::Result<MutexGuard<'_, Painter>> {
        match self.0.try_lock() {
            Ok(painter) => Ok(painter),
            Err(TryLockError::Poisoned(poisoned)) => Ok(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => {
                Err(Error::custom("this pipeline is painting; wait for its picture, or make another Pipeline"))
            }
        }
    }
}

impl Painter {
    fn paint(
        &mut self,
        job: &Job,
        hooks: Vec<Hook>,
        on_step: Option<&PyObject>,
        failure: &Failure,
    ) -> impasto::Result<impasto::Output> {
        job.check()?;
        self.nets.load(job, self.pipeline.model())?;
        let request = job.request(&self.pipeline, &self.nets)?.cancel(failure.token());
        let request = request.on_step(|progress| tell(on_step, progress, failure));
        hooks.into_iter().fold(request, impasto::pipeline::Request::hook).run()
    }
}

/// Returns the source that an argument names. Errors name the argument.
fn source(argument: &'static str, text: &str) -> impasto::Result<Source> {
    text.parse().map_err(|error| match error {
        Error::Parameter { value, expected, .. } => Error::Parameter { name: argument, value, expected },
        other => other,
    })
}

/// Reads PyTorch's name of a device.
fn read_device(text: &str) -> impasto::Result<Device> {
    let number = || text.strip_prefix("cuda:")?.parse().ok().map(Device::Cuda);
    match text {
        "cpu" => Ok(Device::Cpu),
        "cuda" => Ok(Device::Cuda(0)),
        "mps" => Ok(Device::Mps),
        _ => number().ok_or_else(|| Error::parameter("device", format!("{text:?}"), "cpu, cuda, cuda:NUMBER or mps")),
    }
}

/// Reads the name of a precision, or PyTorch's name of a kind of number.
fn read_precision(text: &str) -> impasto::Result<Precision> {
    Ok(match text {
        "reproducible" => Precision::Reproducible,
        "fastest" => Precision::Fastest,
        "f32" | "torch.float32" => Kind::Float.into(),
        "bf16" | "torch.bfloat16" => Kind::BFloat16.into(),
        "f16" | "torch.float16" => Kind::Half.into(),
        _ => {
            let expected = "reproducible, fastest, f32, bf16 or f16";
            return Err(Error::parameter("precision", format!("{text:?}"), expected));
        }
    })
}

/// Returns the message of an error in a job without its place in the JSON, which Python's users did not write.
fn without_place(error: &serde_json::Error) -> String {
    let (message, place) = (error.to_string(), format!(" at line {} column {}", error.line(), error.column()));
    message.strip_suffix(&place).unwrap_or(&message).to_owned()
}
