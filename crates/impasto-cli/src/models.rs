//! `impasto models`: the models in the cache of the Hugging Face hub.

use crate::console;
use crate::failure::Failure;
use clap::Args;
use impasto::weights::CachedModel;

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
    for model in &models {
        let line = if arguments.json {
            serde_json::to_string(model).map_err(|error| Failure::Message(error.to_string()))?
        } else {
            let size = format!("{:.2} GB", model.bytes as f64 / 1e9);
            format!("{:<50} {size:>10}  {}", model.repository, model.kind)
        };
        console::print(line)?;
    }
    if models.is_empty() && !arguments.json {
        let fetch = "`impasto paint --model OWNER/NAME …` fetches one; `embedded` is built in";
        console::tell(format_args!("the cache has no models; {fetch}"));
    }
    Ok(())
}
