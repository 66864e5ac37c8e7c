//! The registry rows of the combinations of branches.

use super::{Apg, Cfg, CfgPlusPlus, CfgZeroStar, Combine, FrequencyDecoupled, RescaledCfg};
use crate::recipe::Registry;

/// Adds the readers of this crate's combinations.
pub(crate) fn add_combinations(registry: &mut Registry) {
    registry.add::<dyn Combine>("Cfg", |recipe, _| Ok(Box::new(recipe.into_read::<Cfg>()?)));
    registry.add::<dyn Combine>("RescaledCfg", |recipe, _| Ok(Box::new(recipe.into_read::<RescaledCfg>()?)));
    registry.add::<dyn Combine>("Apg", |recipe, _| Ok(Box::new(recipe.into_read::<Apg>()?)));
    registry.add::<dyn Combine>("CfgPlusPlus", |recipe, _| Ok(Box::new(recipe.into_read::<CfgPlusPlus>()?)));
    registry
        .add::<dyn Combine>("FrequencyDecoupled", |recipe, _| Ok(Box::new(recipe.into_read::<FrequencyDecoupled>()?)));
    registry.add::<dyn Combine>("CfgZeroStar", |recipe, _| Ok(Box::new(recipe.into_read::<CfgZeroStar>()?)));
}
