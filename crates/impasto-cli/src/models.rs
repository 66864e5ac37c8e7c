//! `impasto models`: the models in the cache of the Hugging Face hub.

use crate::failure::Failure;
use clap::Args;
use impasto::weights::CachedModel;
use std::io::{self, Write};

/// Arguments of `impasto models`.
#[derive(Args, Debug)]
pub struct Models {
    /// Prints a line of JSON for each model.
    #[arg(long)]
    json: bool,
}

/// Lists the models.
pub fn models(arguments: &Models) -> Result<(), Failure> {
    let models = CachedModel::all()?;
    let mut out = io::stdout().lock();
    for model in &models {
        let line = if arguments.json {
            serde_json::to_string(model).map_err(|error| Failure::Message(error.to_string()))?
        } else {
            let size = format!("{:.2} GB", model.bytes as f64 / 1e9);
            format!("{:<50} {size:>10}  {}", model.repository, model.kind)
        };
        writeln!(out, "{line}").map_err(Failure::output)?;
    }
    if models.is_empty() && !arguments.json {
        eprintln!("the cache has no models; `impasto paint --model OWNER/NAME …` fetches one; `embedded` is built in");
    }
    Ok(())
}
