//! The registry with all that this crate has.

use crate::diffusion::solver::add_solvers;
use crate::guidance::add_combinations;
use crate::methods::registry::add_methods;
use crate::recipe::Registry;
use crate::saliency::registry::add_saliencies;

impl Default for Registry {
    /// Creates a registry that reads the guidance methods, saliencies, solvers and combinations of this crate.
    fn default() -> Self {
        let mut registry = Self::empty();
        add_solvers(&mut registry);
        add_combinations(&mut registry);
        add_saliencies(&mut registry);
        add_methods(&mut registry);
        registry
    }
}
