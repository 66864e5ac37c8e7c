//! Solvers by the names that A1111, ComfyUI, diffusers and k-diffusion give them.

use super::Solver;
use super::registry::{Row, SOLVERS};
use crate::diffusion::spacing::Spacing;
use crate::error::{Error, Result};

/// Spacing names that may follow a solver's name. `None` leaves the spacing open. The first match counts, so "sgm
/// uniform" comes before "uniform".
const SPACINGS: [(&str, Option<Spacing>); 22] = [
    ("karras", Some(Spacing::Karras)),
    ("ka", Some(Spacing::Karras)),
    ("exponential", Some(Spacing::Exponential)),
    ("polyexponential", Some(Spacing::Exponential)),
    ("sgm uniform", Some(Spacing::SgmUniform)),
    ("sgmuniform", Some(Spacing::SgmUniform)),
    ("ddim uniform", Some(Spacing::DdimUniform)),
    ("ddim", Some(Spacing::DdimUniform)),
    ("normal", Some(Spacing::Normal)),
    ("uniform", Some(Spacing::Normal)),
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

impl Row {
    /// Returns true if `name`, in the form that [`words`] gives, is one of the solver's names or its diffusers class.
    fn is(&self, name: &str) -> bool {
        self.names.contains(&name) || self.classes.iter().any(|class| class.name.to_lowercase() == name)
    }
}

/// Finds the solver of a name, and the spacing if the name ends with a spacing.
///
/// The name is that of A1111 ("Euler a Karras"), ComfyUI ("euler_ancestral"), k-diffusion ("sample_euler_ancestral") or
/// diffusers ("EulerAncestralDiscreteScheduler"). Case and punctuation do not matter.
///
/// ```
/// use impasto::diffusion::{Spacing, solver};
///
/// let (solver, spacing) = solver::by_name("Euler a Karras")?;
/// assert_eq!((solver.name(), spacing), ("EulerAncestral", Some(Spacing::Karras)));
/// let error = solver::by_name("Eular").err().map(|error| error.to_string());
/// assert!(error.is_some_and(|error| error.contains("did you mean \"Euler\"")));
/// # Ok::<(), impasto::Error>(())
/// ```
///
/// # Errors
/// [`Error::UnknownSolver`] with the nearest names.
pub fn by_name(name: &str) -> Result<(Box<dyn Solver>, Option<Spacing>)> {
    let words = words(name);
    let find = |name: &str| SOLVERS.iter().find(|row| row.is(name)).map(|row| (row.make)());
    if let Some(solver) = find(&words) {
        return Ok((solver, None));
    }
    let spaced = SPACINGS.iter().find_map(|(suffix, spacing)| {
        let rest = words.strip_suffix(suffix)?.strip_suffix(' ')?;
        Some((find(rest)?, *spacing))
    });
    spaced.ok_or_else(|| Error::UnknownSolver { name: name.into(), nearest: nearest(&words) })
}

/// Returns one name for every solver: the name in the AUTOMATIC1111 web UI, or this crate's own name if the web UI
/// lacks the solver. [`by_name`] understands every name.
///
/// ```
/// use impasto::diffusion::solver;
///
/// assert!(solver::labels().any(|label| label == "Euler a"));
/// assert!(solver::labels().all(|label| solver::by_name(label).is_ok()));
/// ```
pub fn labels() -> impl Iterator<Item = &'static str> {
    SOLVERS.iter().map(|row| row.label)
}

/// Returns a name in lower case, without punctuation, prefixes and "gpu": "k_DPM++ 2M (gpu)" → "dpmpp 2m".
fn words(name: &str) -> String {
    let name = name.to_lowercase().replace("++", "pp");
    let decorated = name.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty() && *word != "gpu");
    let mut words = decorated.map(|word| if word == "ancestral" { "a" } else { word }).peekable();
    words.next_if_eq(&"sample");
    words.next_if_eq(&"k");
    words.collect::<Vec<_>>().join(" ")
}

/// Longest name, in bytes, for which similar names are searched. The limit exists because a comparison takes time in
/// proportion to the product of both lengths.
const LONGEST: usize = 64;

/// The three most similar names, with or without a spacing, as the web UI writes them.
fn nearest(words: &str) -> Vec<String> {
    if words.len() > LONGEST {
        return Vec::new();
    }
    let mut ranked: Vec<(usize, String)> = Vec::new();
    for Row { label, names, .. } in SOLVERS {
        for name in *names {
            ranked.push((strsim::damerau_levenshtein(words, name), (*label).to_owned()));
            for (ending, spacing) in &SPACINGS {
                let distance = strsim::damerau_levenshtein(words, &format!("{name} {ending}"));
                let named = spacing.map_or_else(|| "Automatic".to_owned(), |spacing| spacing_label(spacing).to_owned());
                ranked.push((distance, format!("{label} {named}")));
            }
        }
    }
    ranked.sort();
    let mut nearest: Vec<String> = Vec::new();
    for (_, label) in ranked {
        if nearest.len() < 3 && !nearest.contains(&label) {
            nearest.push(label);
        }
    }
    nearest
}

/// Returns the label of a solver, as in [`labels`], for a name that [`Solver::name`] gives. A name that is not in the
/// table is returned as given.
pub(crate) fn solver_label(name: &str) -> &str {
    SOLVERS.iter().find(|row| (row.make)().name() == name).map_or(name, |row| row.label)
}

/// The label of a spacing, as the AUTOMATIC1111 web UI writes it.
pub(crate) const fn spacing_label(spacing: Spacing) -> &'static str {
    match spacing {
        Spacing::Leading => "Leading",
        Spacing::Linspace => "Linspace",
        Spacing::Trailing => "Trailing",
        Spacing::Karras => "Karras",
        Spacing::Exponential => "Exponential",
        Spacing::Beta => "Beta",
        Spacing::BetaTimesteps => "Beta timesteps",
        Spacing::Normal => "Normal",
        Spacing::SgmUniform => "SGM Uniform",
        Spacing::Simple => "Simple",
        Spacing::DdimUniform => "DDIM Uniform",
        Spacing::KlOptimal => "KL Optimal",
        Spacing::AlignYourSteps => "Align Your Steps",
        Spacing::AlignYourStepsXl => "Align Your Steps XL",
    }
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
                Err(error) => assert!(want.is_null(), "{name}: {error}"),
            }
        }
        assert_eq!(known, 47);
        let classes = [
            ("KDPM2AncestralDiscreteScheduler", "Dpm2Ancestral"),
            ("DPMSolverSinglestepScheduler", "Dpmpp2S"),
            ("DPMSolverSDEScheduler", "DpmppSde"),
            ("UniPCMultistepScheduler", "UniPcBh2"),
            ("PNDMScheduler", "Pndm"),
            ("SASolverScheduler", "SaSolver"),
            ("sa_solver", "SaSolver"),
            ("res_multistep", "ResMultistep"),
            ("res_multistep_ancestral", "ResMultistepAncestral"),
            ("er_sde", "ErSde"),
            ("sample_dpmpp_3m_sde", "Dpmpp3MSde"),
        ];
        for (class, name) in classes {
            assert_eq!(by_name(class).unwrap().0.name(), name);
        }
        assert_eq!(by_name("dpmpp_2m ays_sdxl").unwrap().1, Some(Spacing::AlignYourStepsXl));
        assert_eq!(by_name("Euler a DDIM").unwrap().1, Some(Spacing::DdimUniform));
        let (solver, spacing) = by_name("EulerAncestralDiscreteScheduler").unwrap();
        assert_eq!((solver.name(), spacing), ("EulerAncestral", None));
        assert_eq!(by_name("Euler a Automatic").unwrap().1, None);
    }

    #[test]
    fn unknown_name_gives_the_nearest_names() {
        for name in ["DPM fast", "", "karras"] {
            assert!(matches!(by_name(name), Err(Error::UnknownSolver { .. })), "{name}");
        }
        let error = by_name("ddmi").err().unwrap().to_string();
        assert!(error.starts_with("solver \"ddmi\" is not known; did you mean \"DDIM\""), "{error}");
        for (typed, meant) in [
            ("DPM++ 2M Karas", "DPM++ 2M Karras"),
            ("dpmpp_2m_kerras", "DPM++ 2M Karras"),
            ("Eular a", "Euler a"),
            ("UniPC Exponentiel", "UniPC Exponential"),
            ("DPM++ 3M SDE Karass", "DPM++ 3M SDE Karras"),
        ] {
            let Some(Error::UnknownSolver { nearest, .. }) = by_name(typed).err() else { panic!("{typed} is known") };
            assert_eq!(nearest[0], meant, "{typed}");
            assert!(by_name(meant).is_ok());
        }
        let long = by_name(&"DPM++ ".repeat(200_000)).err().unwrap().to_string();
        assert!(long.len() < 400 && long.contains("a name such as"), "{long}");
    }

    #[test]
    fn labels_are_understood_as_names() {
        for row in SOLVERS {
            let made = (row.make)();
            let label = solver_label(made.name());
            assert_eq!(by_name(label).unwrap().0.name(), made.name(), "{label}");
        }
        for name in [
            "karras",
            "exponential",
            "sgm uniform",
            "normal",
            "simple",
            "ddim uniform",
            "kl optimal",
            "beta",
            "beta timesteps",
            "align your steps",
            "align your steps xl",
            "leading",
            "linspace",
            "trailing",
        ] {
            let spacing = by_name(&format!("euler {name}")).unwrap().1.unwrap();
            let named = format!("Euler {}", spacing_label(spacing));
            assert_eq!(by_name(&named).unwrap().1, Some(spacing), "{named}");
        }
    }
}
