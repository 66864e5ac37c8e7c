//! Solvers from their recipes.

use super::{
    Ddim, Ddpm, Deis, Dpm2, Dpmpp2SAncestral, DpmppSde, Euler, EulerAncestral, Heun, Lcm, Lms, Multistep, Pndm,
    Singlestep, Solver, Tcd, UniPc,
};
use crate::error::Result;
use crate::recipe::Recipe;

impl Recipe {
    /// The solver it is of.
    ///
    /// # Errors
    /// [`Error::NotRepeatable`](crate::error::Error::NotRepeatable) if it is no solver of this crate,
    /// [`Error::Malformed`](crate::error::Error::Malformed) if its settings are not.
    pub fn solver(&self) -> Result<Box<dyn Solver>> {
        Ok(match self.name.as_str() {
            "Ddim" => Box::new(self.read::<Ddim>()?),
            "Ddpm" => Box::new(self.read::<Ddpm>()?),
            "Deis" => Box::new(self.read::<Deis>()?),
            "Dpm2" => Box::new(self.read::<Dpm2>()?),
            "Dpmpp2SAncestral" => Box::new(self.read::<Dpmpp2SAncestral>()?),
            "DpmppSde" => Box::new(self.read::<DpmppSde>()?),
            "Euler" => Box::new(self.read::<Euler>()?),
            "EulerAncestral" => Box::new(self.read::<EulerAncestral>()?),
            "Heun" => Box::new(self.read::<Heun>()?),
            "Lcm" => Box::new(self.read::<Lcm>()?),
            "Lms" => Box::new(self.read::<Lms>()?),
            "Multistep" => Box::new(self.read::<Multistep>()?),
            "Pndm" => Box::new(self.read::<Pndm>()?),
            "Singlestep" => Box::new(self.read::<Singlestep>()?),
            "Tcd" => Box::new(Tcd::default().gamma(self.read()?)),
            "UniPc" => Box::new(self.read::<UniPc>()?),
            _ => return Err(self.unknown("solver")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Correction, Eval, SdeNoise, Variance, by_name};
    use super::*;
    use crate::diffusion::Transition;
    use crate::step::Step;
    use tch::Tensor;

    fn again(solver: &dyn Solver) -> Box<dyn Solver> {
        let written = serde_json::to_string(&solver.recipe().unwrap()).unwrap();
        serde_json::from_str::<Recipe>(&written).unwrap().solver().unwrap()
    }

    #[test]
    fn every_solver_is_made_again_with_its_settings() {
        let names =
            ["euler", "euler a", "heun", "lms", "dpm2", "dpm2 a", "dpmpp 2s a", "dpmpp 2s", "dpmpp 2m", "dpmpp 2m sde"];
        let more =
            ["dpmpp 2m sde heun", "dpmpp 3m", "dpmpp 3m sde", "dpmpp sde", "ddim", "ddpm", "plms", "deis", "unipc"];
        let last = ["uni pc bh2", "lcm", "tcd"];
        let named = names.into_iter().chain(more).chain(last).map(|name| by_name(name).unwrap().0);
        let set: [Box<dyn Solver>; 10] = [
            Box::new(EulerAncestral { eta: 0.1, s_noise: 1.003 }),
            Box::new(Ddim { eta: 1.0 / 3.0 }),
            Box::new(Ddpm { variance: Variance::Large }),
            Box::new(DpmppSde { r: 0.25, noise: SdeNoise::Independent, ..DpmppSde::default() }),
            Box::new(Multistep::dpmpp_2m_sde().order(3).eta(0.3).s_noise(1.01).correction(Correction::Heun)),
            Box::new(Singlestep::dpmpp_2s().order(3)),
            Box::new(UniPc::bh2().order(3)),
            Box::new(Lms::order(2)),
            Box::new(Deis::order(3)),
            Box::new(Tcd::default().gamma(0.1)),
        ];
        let mut count = 0;
        for solver in named.chain(set) {
            let made = again(&solver);
            assert_eq!((made.name(), made.recipe().unwrap()), (solver.name(), solver.recipe().unwrap()));
            count += 1;
        }
        assert_eq!(count, 32);
        assert_eq!(again(&Ddim { eta: 0.1 + 0.2 }).recipe().unwrap().settings["eta"], 0.1 + 0.2);
    }

    #[test]
    fn one_of_a_users_own_is_named() {
        struct Own;
        impl Solver for Own {
            fn step(&mut self, step: &Step, x: &Tensor, eval: &mut dyn Eval) -> Result<Transition> {
                Euler.step(step, x, eval)
            }
            fn name(&self) -> &'static str {
                "Own"
            }
        }
        let error = Own.recipe().unwrap_err().to_string();
        assert_eq!(error, "the solver Own cannot be repeated from a file");
        assert!(Recipe::of("Own", &()).unwrap().solver().is_err());
    }
}
