//! Parts of the flow-matching families: kind `anima_transformer`.

use super::networks::{hooked, load};
use super::{Case, Outputs, Result};
use impasto::nn::{ConfigFile, CosmosConfig, CosmosTransformer};

/// Computes Anima's transformer, with hooks that read and bias attention.
pub fn anima_transformer(case: &Case) -> Result<Outputs> {
    let (config, w) = load(case.model("model")?)?;
    let transformer = CosmosTransformer::new(&w, &CosmosConfig::from_json("config.json", &config)?)?;
    assert_eq!(w.report().unused, []);
    let [sample, timestep, context] = ["sample", "timestep", "encoder_hidden_states"].map(|name| case.input(name));
    let (sample, timestep, context) = (sample?, timestep?, context?);
    hooked(case, transformer.sites(), "velocity", |tap| Ok(transformer.forward(sample, timestep, context, tap)?))
}
