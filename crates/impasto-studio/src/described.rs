//! [`Described`]: what clients learn about the model in use.

use crate::engine::Engine;
use crate::options::Options;
use impasto::diffusion::solver;
use impasto::model::ModelInfo;
use impasto::{Codec, Pipeline, Result};
use serde_json::{Value, json};
use std::sync::{Arc, PoisonError, RwLock};

/// The description of the model in use. Clones are cheap.
#[derive(Clone)]
pub(crate) struct Described {
    /// The answer of `/api/model`, without the models to choose from.
    pub model: Arc<Value>,
    /// Name of the model for clients that choose one by its name.
    pub name: Arc<str>,
    /// Names of the LoRAs that prompts can name.
    pub loras: Arc<[String]>,
    /// Names of the networks that controls can name.
    pub networks: Arc<[String]>,
    /// Number of the text encoder's layer that prompts are read from, counted from the last one.
    pub clip_skip: usize,
    /// True if the model has CLIP, so that prompts can be read from its layers.
    pub has_clip: bool,
    /// Largest side in pixels that a request may name.
    pub side: u32,
}

impl Described {
    /// Describes an engine, the pipeline of live views if it is another, and the limits of a request. The studio was
    /// started at the time `started`.
    pub(crate) fn of(engine: &Engine, live: Option<&Pipeline>, options: &Options, started: u64) -> Result<Self> {
        let (model, loras) = (engine.pipeline.model(), engine.pipeline.lora_names()?);
        let (defaults, name) = (model.defaults(), model.identity()?.name);
        let choice = engine.choice.as_ref().map(|choice| choice.name.as_str());
        let described = json!({
            "name": name,
            "choice": choice,
            "width": defaults.width,
            "height": defaults.height,
            "multiple": model.cell(),
            "steps": defaults.steps,
            "guidance_scale": defaults.guidance_scale,
            "live_steps": live.map(|live| live.model().defaults().steps),
            "samplers": solver::labels().collect::<Vec<_>>(),
            "colorizes": model.colorizes(),
            "draws": engine.draws(),
            "nets": engine.controls(),
            "ip_adapter": engine.nets.ip_adapter().is_ok(),
            "loras": loras,
            "outputs": options.outputs.is_some(),
            "started": started,
            "limits": {
                "side": options.side_of(defaults),
                "steps": options.steps,
                "images": options.images,
                "body": options.body,
                "queue": options.queue,
            },
        });
        let (clip_skip, has_clip) = (model.clip_skip().unwrap_or(1), model.has_clip_layer(1));
        let name = choice.unwrap_or(&name).into();
        let networks = engine.nets.names().map(str::to_owned).collect();
        let side = options.side_to_read(engine);
        Ok(Self { model: Arc::new(described), name, loras: loras.into(), networks, clip_skip, has_clip, side })
    }
}

/// The place where the worker shows which model is in use.
pub(crate) struct Board(RwLock<Described>);

impl Board {
    pub(crate) const fn new(described: Described) -> Self {
        Self(RwLock::new(described))
    }

    /// Returns the description of the model in use.
    pub(crate) fn read(&self) -> Described {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Shows another model.
    pub(crate) fn write(&self, described: Described) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = described;
    }
}
