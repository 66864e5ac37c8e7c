//! Solvers by the names that A1111, ComfyUI, diffusers and k-diffusion give them.

use super::{
    Correction, Ddim, Ddpm, Deis, Dpm2, Dpmpp2SAncestral, DpmppSde, Euler, EulerAncestral, Heun, Lcm, Lms, Multistep,
    Pndm, Singlestep, Solver, Tcd, UniPc,
};
use crate::diffusion::spacing::Spacing;
use crate::error::{Error, Result};

/// Makes a solver.
type Make = fn() -> Box<dyn Solver>;

/// Every solver with its names in the form that [`words`] gives; the first is the one in messages.
const SOLVERS: [(&[&str], Make); 22] = [
    (&["euler", "eulerdiscretescheduler"], || Box::new(Euler)),
    (&["euler a", "eulerancestraldiscretescheduler"], || Box::new(EulerAncestral::default())),
    (&["heun", "heundiscretescheduler"], || Box::new(Heun)),
    (&["lms", "lmsdiscretescheduler"], || Box::new(Lms::default())),
    (&["dpm2", "dpm 2", "kdpm2discretescheduler"], || Box::new(Dpm2::default())),
    (&["dpm2 a", "dpm 2 a", "kdpm2ancestraldiscretescheduler"], || Box::new(Dpm2::ancestral())),
    (&["dpmpp 2s a"], || Box::new(Dpmpp2SAncestral::default())),
    (&["dpmpp 2s", "dpmsolversinglestepscheduler"], || Box::new(Singlestep::dpmpp_2s())),
    (&["dpmpp 2m", "dpmsolvermultistepscheduler"], || Box::new(Multistep::dpmpp_2m())),
    (&["dpmpp 2m sde"], || Box::new(Multistep::dpmpp_2m_sde())),
    (&["dpmpp 2m sde heun"], || Box::new(Multistep::dpmpp_2m_sde().correction(Correction::Heun))),
    (&["dpmpp 3m"], || Box::new(Multistep::dpmpp_3m())),
    (&["dpmpp 3m sde"], || Box::new(Multistep::dpmpp_3m_sde())),
    (&["dpmpp sde", "dpmsolversdescheduler"], || Box::new(DpmppSde::default())),
    (&["ddim", "ddimscheduler"], || Box::new(Ddim::default())),
    (&["ddpm", "ddpmscheduler"], || Box::new(Ddpm::default())),
    (&["plms", "pndm", "pndmscheduler"], || Box::new(Pndm::default())),
    (&["deis", "deismultistepscheduler"], || Box::new(Deis::default())),
    (&["unipc", "uni pc"], || Box::new(UniPc::bh1())),
    (&["uni pc bh2", "unipcmultistepscheduler"], || Box::new(UniPc::bh2())),
    (&["lcm", "lcmscheduler"], || Box::new(Lcm::default())),
    (&["tcd", "tcdscheduler"], || Box::new(Tcd::default())),
];

/// What may stand after a solver's name, the longer of two endings first.
const SPACINGS: [(&str, Option<Spacing>); 21] = [
    ("karras", Some(Spacing::Karras)),
    ("ka", Some(Spacing::Karras)),
    ("polyexponential", Some(Spacing::Exponential)),
    ("exponential", Some(Spacing::Exponential)),
    ("sgm uniform", Some(Spacing::SgmUniform)),
    ("sgmuniform", Some(Spacing::SgmUniform)),
    ("ddim uniform", Some(Spacing::DdimUniform)),
    ("uniform", Some(Spacing::Normal)),
    ("normal", Some(Spacing::Normal)),
    ("simple", Some(Spacing::Simple)),
    ("beta timesteps", Some(Spacing::BetaTimesteps)),
    ("beta", Some(Spacing::Beta)),
    ("kl optimal", Some(Spacing::KlOptimal)),
    ("align your steps xl", Some(Spacing::AlignYourStepsXl)),
    ("align your steps", Some(Spacing::AlignYourSteps)),
    ("ays sdxl", Some(Spacing::AlignYourStepsXl)),
    ("ays", Some(Spacing::AlignYourSteps)),
    ("leading", Some(Spacing::Leading)),
    ("linspace", Some(Spacing::Linspace)),
    ("trailing", Some(Spacing::Trailing)),
    ("automatic", None),
];

/// The solver of a name, and the spacing if one is named with it.
///
/// Names of A1111 ("Euler a Karras"), ComfyUI ("euler_ancestral"), k-diffusion ("sample_euler_ancestral") and diffusers
/// ("EulerAncestralDiscreteScheduler"), whatever their case and punctuation.
///
/// ```
/// use impasto::diffusion::{Spacing, solver};
///
/// let (solver, spacing) = solver::by_name("Euler a Karras")?;
/// assert_eq!((solver.name(), spacing), ("EulerAncestral", Some(Spacing::Karras)));
/// let error = solver::by_name("Eular").err().map(|error| error.to_string());
/// assert!(error.is_some_and(|error| error.contains("did you mean \"euler\"")));
/// # Ok::<(), impasto::Error>(())
/// ```
///
/// # Errors
/// [`Error::UnknownSolver`] with the nearest names.
pub fn by_name(name: &str) -> Result<(Box<dyn Solver>, Option<Spacing>)> {
    let words = words(name);
    let find = |name: &str| SOLVERS.iter().find(|(names, _)| names.contains(&name)).map(|(_, make)| make());
    if let Some(solver) = find(&words) {
        return Ok((solver, None));
    }
    let spaced = SPACINGS.iter().find_map(|(suffix, spacing)| {
        let rest = words.strip_suffix(suffix)?.strip_suffix(' ')?;
        Some((find(rest)?, *spacing))
    });
    spaced.ok_or_else(|| Error::UnknownSolver { name: name.into(), nearest: nearest(&words) })
}

/// A name in lower case and without decoration: "k_DPM++ 2M (gpu)" → "dpmpp 2m".
fn words(name: &str) -> String {
    let name = name.to_lowercase().replace("++", "pp");
    let decorated = name.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty() && *word != "gpu");
    let mut words = decorated.map(|word| if word == "ancestral" { "a" } else { word }).peekable();
    words.next_if_eq(&"sample");
    words.next_if_eq(&"k");
    words.collect::<Vec<_>>().join(" ")
}

/// The three most similar names.
fn nearest(words: &str) -> Vec<String> {
    let mut names: Vec<&str> = SOLVERS.iter().filter_map(|(names, _)| names.first().copied()).collect();
    names.sort_by_key(|name| strsim::damerau_levenshtein(words, name));
    names.into_iter().take(3).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn names_of_other_programs_are_understood() {
        let golden: Value = serde_json::from_str(include_str!("../../../tests/golden/specs/sampling.json")).unwrap();
        let mut known = 0;
        for (name, want) in golden["names"].as_object().unwrap() {
            match by_name(name) {
                Ok((solver, spacing)) => {
                    let spacing = spacing.map(|spacing| format!("{spacing:?}"));
                    assert_eq!(serde_json::json!([solver.name(), spacing]), *want, "{name}");
                    known += 1;
                }
                Err(error) => assert!(want.is_null() || want[0] == "Restart", "{name}: {error}"),
            }
        }
        assert_eq!(known, 46);
        let classes = [
            ("KDPM2AncestralDiscreteScheduler", "Dpm2Ancestral"),
            ("DPMSolverSinglestepScheduler", "Dpmpp2S"),
            ("DPMSolverSDEScheduler", "DpmppSde"),
            ("UniPCMultistepScheduler", "UniPcBh2"),
            ("PNDMScheduler", "Pndm"),
        ];
        for (class, name) in classes {
            assert_eq!(by_name(class).unwrap().0.name(), name);
        }
        assert_eq!(by_name("dpmpp_2m ays_sdxl").unwrap().1, Some(Spacing::AlignYourStepsXl));
        let (solver, spacing) = by_name("EulerAncestralDiscreteScheduler").unwrap();
        assert_eq!((solver.name(), spacing), ("EulerAncestral", None));
        assert_eq!(by_name("Euler a Automatic").unwrap().1, None);
    }

    #[test]
    fn an_unknown_name_names_the_nearest() {
        for name in ["DPM fast", "", "karras", "Restart"] {
            assert!(matches!(by_name(name), Err(Error::UnknownSolver { .. })), "{name}");
        }
        let error = by_name("ddmi").err().unwrap().to_string();
        assert!(error.starts_with("solver \"ddmi\" is not known; did you mean \"ddim\""), "{error}");
    }
}
