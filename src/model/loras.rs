//! LoRAs beside the weights of a model: their strengths in the branches of a call.

use super::{Model, groups};
use crate::attention::Tap;
use crate::conditioning::{LoraStrengths, UnmergedLoras};
use crate::diffusion::{Input, Predictions};
use crate::error::{Error, Result};
use crate::nn::loras::{self, Acting, Place};
use crate::wording::{QUOTED, Remedy, excerpt};

impl UnmergedLoras for Model {
    fn check_lora(&self, name: &str) -> Result<()> {
        self.index_of(name).map(drop)
    }
}

impl Model {
    /// Calls `evaluate` for each group of inputs in which the LoRAs beside the weights have the same strengths.
    pub(super) fn by_loras(
        &self,
        inputs: &[Input<'_>],
        tap: &mut Tap<'_>,
        mut evaluate: impl FnMut(&[Input<'_>], &mut Tap<'_>) -> Result<Predictions>,
    ) -> Result<Predictions> {
        let strengths =
            |input: &Input<'_>| input.conditioning.extras.get::<LoraStrengths>().cloned().unwrap_or_default();
        groups::by_key(inputs, tap, strengths, LoraStrengths::equal, |strengths, group, tap| {
            loras::within(self.find_acting(strengths, group)?, || evaluate(group, tap))
        })
    }

    /// Returns the LoRAs that act at these strengths.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a LoRA that the model does not have, [`Error::Shape`] for a place of other cells than
    /// the latents of `inputs`.
    fn find_acting(&self, strengths: &LoraStrengths, inputs: &[Input<'_>]) -> Result<Vec<Acting>> {
        if strengths.iter_acting().next().is_none() {
            return Ok(Vec::new());
        }
        let levels = self.backbone.grids()?;
        let cells = inputs.first().map(|input| input.x.size()).unwrap_or_default();
        let cells = cells.get(2..).unwrap_or_default();
        let mut acting = Vec::new();
        for lora in strengths.iter_acting() {
            let index = self.index_of(&lora.lora)?;
            let place = match &lora.place {
                None => None,
                Some(place) => match place.get()? {
                    Some(shares) if shares.size().get(2..) != Some(cells) => {
                        let expected = format!("[1 or n, 1] and the latent's cells, {cells:?}");
                        return Err(Error::Shape { what: "the place of a LoRA", got: shares.size(), expected });
                    }
                    Some(shares) => Some(Place::new(&shares, levels)?),
                    None => continue, // The LoRA acts in no cell.
                },
            };
            acting.push(Acting { lora: index, strength: lora.strength, place });
        }
        Ok(acting)
    }

    fn index_of(&self, name: &str) -> Result<usize> {
        let index = self.unmerged.iter().position(|lora| lora.name == name);
        index.ok_or_else(|| {
            let names: Vec<&str> = self.unmerged.iter().map(|lora| lora.name.as_str()).collect();
            let known = match names.is_empty() {
                true => "none, because the model has no LoRA beside its weights".to_owned(),
                false => format!("one of {}", names.join(", ")),
            };
            let name = format!("\"{}\"", excerpt(name, QUOTED));
            Error::parameter("lora", name, Remedy::UnmergedLora.after(known))
        })
    }
}
