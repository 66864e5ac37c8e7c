//! [`Engine`]: what paints the jobs.

use impasto::job::Nets;
use impasto::model::ControlNetwork;
use impasto::{Model, Pipeline, Result, Source};
use serde_json::{Value, json};
use std::sync::Arc;

/// A pipeline, and the networks that jobs can name: ControlNets, T2I adapters and an IP-Adapter. A pipeline alone is an
/// engine without networks of its own.
///
/// ```no_run
/// use impasto::job::Nets;
/// use impasto::{Pipeline, Source};
/// use impasto_studio::{Engine, Options, Studio};
///
/// # async fn start() -> Result<(), Box<dyn std::error::Error>> {
/// let pipeline = Pipeline::builder().source(Source::file("sd15.safetensors")).build()?;
/// let mut nets = Nets::default();
/// nets.open("depth", &Source::file("control_v11f1p_sd15_depth.safetensors"), pipeline.model())?;
/// let encoder = Source::dir("image_encoder");
/// nets.set_ip_adapter(pipeline.model().ip_adapter("ip-adapter-plus_sd15.safetensors", &encoder)?);
/// let studio = Studio::bind(Engine::new(pipeline, nets), Options::default()).await?;
/// # Ok(())
/// # }
/// ```
pub struct Engine {
    pub(crate) pipeline: Pipeline,
    pub(crate) nets: Nets,
    pub(crate) choice: Option<Choice>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (nets, choice) = (self.nets.names().collect::<Vec<_>>(), self.choice.as_ref().map(|choice| &choice.name));
        f.debug_struct("Engine").field("nets", &nets).field("choice", &choice).finish_non_exhaustive()
    }
}

/// The name of an engine's model, and the models that can take its place.
#[derive(Clone)]
pub(crate) struct Choice {
    pub name: String,
    pub models: Arc<dyn Models>,
}

/// Models that the clients of a studio can choose, such as those of a folder. One model is in memory at a time: the
/// former one is dropped before another is loaded.
///
/// ```
/// use impasto::{Pipeline, Result, Source};
/// use impasto_studio::{Engine, Models};
/// use std::sync::Arc;
///
/// /// The two embedded models that paint prompts.
/// struct Embedded;
///
/// impl Models for Embedded {
///     fn names(&self) -> Vec<String> {
///         ["embedded", "embedded-fast"].map(String::from).into()
///     }
///
///     fn load(&self, name: &str) -> Result<Engine> {
///         Pipeline::builder().source(name.parse()?).build().map(Engine::from)
///     }
/// }
///
/// # fn main() -> Result<()> {
/// let engine = Embedded.load("embedded")?.with_models("embedded", Arc::new(Embedded));
/// # Ok(()) }
/// ```
pub trait Models: Send + Sync {
    /// Returns the names of the models. A client chooses one of them.
    fn names(&self) -> Vec<String>;

    /// Checks without much time or memory whether the model of one of these names can be loaded, as far as the headers
    /// of files tell. The model in use is given up only after this check. The default finds no fault.
    ///
    /// # Errors
    /// The reason why the model cannot be loaded, which the client is told.
    fn check(&self, name: &str) -> Result<()> {
        let _ = name;
        Ok(())
    }

    /// Loads the model of one of these names, with its networks.
    ///
    /// # Errors
    /// The reason why the model cannot be loaded, which the client is told.
    fn load(&self, name: &str) -> Result<Engine>;
}

impl Engine {
    /// Creates an engine. The networks are for the pipeline's model. A network with the name [`Nets::EMBEDDED`] follows
    /// line art and strokes; the embedded model gets its own.
    pub const fn new(pipeline: Pipeline, nets: Nets) -> Self {
        Self { pipeline, nets, choice: None }
    }

    /// Lets clients choose other models. `name` is the name of this engine's own model among them.
    pub fn with_models(mut self, name: impl Into<String>, models: Arc<dyn Models>) -> Self {
        self.choice = Some(Choice { name: name.into(), models });
        self
    }

    /// Adds the ControlNet for line art and strokes, if the model has one and the engine none.
    pub(crate) fn with_drawing(mut self) -> Result<Self> {
        let model = self.pipeline.model();
        let is_known = self.nets.names().any(|name| name == Nets::EMBEDDED);
        if !is_known && is_embedded(model) {
            self.nets.open(Nets::EMBEDDED, &Source::embedded(), model)?;
        }
        Ok(self)
    }

    /// Returns true if the engine follows line art and strokes.
    pub(crate) fn draws(&self) -> bool {
        self.nets.names().any(|name| name == Nets::EMBEDDED)
    }

    /// Describes the networks that a request can name in its controls.
    pub(crate) fn controls(&self) -> Value {
        let named = self.nets.names().filter(|name| *name != Nets::EMBEDDED);
        let is_union = |name: &str| match self.nets.get(name) {
            Ok(ControlNetwork::ControlNet(net)) => net.config().num_control_type.is_some(),
            _ => false,
        };
        named.map(|name| json!({ "name": name, "union": is_union(name) })).collect()
    }
}

/// Returns true for the embedded models that paint prompts. They alone have a ControlNet that is embedded too.
pub(crate) fn is_embedded(model: &Model) -> bool {
    let embedded = [Source::embedded(), Source::embedded_fast()].map(|source| source.to_string());
    !model.colorizes() && model.identity().is_ok_and(|identity| embedded.contains(&identity.name))
}

impl From<Pipeline> for Engine {
    fn from(pipeline: Pipeline) -> Self {
        Self::new(pipeline, Nets::default())
    }
}
