//! Runs every conformance case: the numbers of diffusers, transformers and DAAM on tiny models.
//!
//! Cases are the folders with a `case.json` in `tests/golden` and in the folders that the environment variable
//! `IMPASTO_FIXTURES` lists (separated as in `PATH`). `tests/golden/README.md` describes them.
//!
//! Arguments are those of `cargo test`; `--nocapture` also prints how near each case came to its tolerance. Each case
//! says by which path the CPU computes: the instruction set of impasto's kernels, or libtorch. Environment variables
//! change the run:
//!
//! * `IMPASTO_DEVICE` (`cpu`, `cuda`, `cuda:1`, `mps`) is the device of networks.
//! * `IMPASTO_KIND` (`bf16`, and on a GPU `f16`) is the kind in which the cases of networks are computed. Each output
//!   is then compared as a whole, within [`HALF`] or [`HALF_OF_PROBS`].
//! * `IMPASTO_KERNELS` (`off`, `scalar`, `avx512`) is the path. `ONEDNN_MAX_CPU_ISA` (`AVX2`) makes oneDNN compute as
//!   on an older processor.

#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::indexing_slicing)]

mod conformance;

use conformance::{Case, KINDS, Outputs, Result, Stance, Wanted};
use libtest_mimic::{Arguments, Completion, Trial};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tch::{Device, Kind, Tensor};

/// Maximum distance of an output in half precision from the output in f32: ‖got − want‖ / ‖want‖.
///
/// With random weights, rounding errors do not average out. diffusers' own networks in bf16 are off by .03 to .05, and
/// by .12 if the timestep is rounded too. A trained network is off by .004.
const HALF: f64 = 0.1;
/// Maximum distance of attention probabilities, measured as for [`HALF`]. Rounded queries and keys can make steep
/// attention select another token.
const HALF_OF_PROBS: f64 = 0.15;

fn main() -> Result<ExitCode> {
    let arguments = Arguments::from_args();
    let roots = std::env::var_os("IMPASTO_FIXTURES");
    let roots = roots.iter().flat_map(std::env::split_paths).filter(|root| !root.as_os_str().is_empty());
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    if let Ok(name) = std::env::var("IMPASTO_DEVICE") {
        conformance::choose(&name)?;
    }
    if let Ok(name) = std::env::var("IMPASTO_KIND") {
        conformance::choose_kind(&name)?;
    }
    let tells = arguments.nocapture;
    let path = path()?;
    let trial = |(name, dir): (String, PathBuf)| {
        Trial::ignorable_test(name.clone(), move || match tch::no_grad(|| run(&dir)) {
            Ok(Verdict::Passed(nearest)) => {
                if let Some(nearest) = nearest.filter(|_| tells) {
                    println!("{name}: {nearest}");
                }
                Ok(Completion::Completed)
            }
            Ok(Verdict::Skipped(why)) => Ok(Completion::ignored_with(why)),
            Err(error) => Err(error.to_string().into()),
        })
        .with_kind(path.clone())
    };
    let trials = discover(std::iter::once(own).chain(roots))?.into_iter().map(trial).collect();
    Ok(libtest_mimic::run(&arguments, trials).exit_code())
}

/// Returns the path by which the CPU computes.
fn path() -> Result<String> {
    let kernels = impasto_kernels::in_use().map_err(|error| error.to_string())?;
    let isa = std::env::var("ONEDNN_MAX_CPU_ISA").map(|isa| format!(" on {isa}")).unwrap_or_default();
    Ok(kernels.map_or_else(|| format!("libtorch{isa}"), |set| format!("kernels {}", set.name())))
}

enum Verdict {
    /// The case passed, with the element that came nearest to its tolerance, of all outputs compared.
    Passed(Option<Distance>),
    Skipped(String),
}

/// Distance of an element from its expected value, and the tolerance of the distance.
#[derive(Clone, Copy)]
struct Distance {
    error: f64,
    tolerance: f64,
}

impl std::fmt::Display for Distance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.tolerance {
            0.0 => write!(f, "exact"),
            tolerance => write!(f, "{:.1e} of {tolerance:.1e}", self.error),
        }
    }
}

impl Distance {
    fn share(&self) -> f64 {
        if self.error == 0.0 { 0.0 } else { self.error / self.tolerance }
    }
}

fn run(dir: &Path) -> Result<Verdict> {
    let (mut case, stance) = Case::open(dir, conformance::missing)?;
    if let Stance::Skip(why) = stance {
        return Ok(Verdict::Skipped(why));
    }
    let half = conformance::kind() != Kind::Float;
    if half && !conformance::NETWORKS.contains(&case.kind.as_str()) {
        return Ok(Verdict::Skipped("in half precision only cases of one network are computed".into()));
    }
    let networks = !conformance::ON_CPU.contains(&case.kind.as_str());
    case.load(if networks { conformance::device() } else { Device::Cpu })?;
    for (_, input) in case.inputs.iter_mut().filter(|(name, x)| half && *name != "timestep" && x.is_floating_point()) {
        *input = input.f_to_kind(conformance::kind())?;
    }
    let unreachable = conformance::UNREACHABLE.iter().filter(|(kind, _)| *kind == case.kind);
    unreachable.flat_map(|(_, names)| *names).for_each(|name| drop(case.wanted.remove(*name)));
    let (_, compute, _) = KINDS.iter().find(|(kind, ..)| *kind == case.kind).ok_or("unknown kind")?;
    compare(&case.wanted, compute(&case)?).map(Verdict::Passed)
}

/// Compares every wanted output. The error names all outputs that differ.
fn compare(wanted: &BTreeMap<String, Wanted>, outputs: Outputs) -> Result<Option<Distance>> {
    let outputs: BTreeMap<String, Tensor> = outputs.into_iter().collect();
    let (mut nearest, mut wrong) = (None::<Distance>, Vec::new());
    for (name, want) in wanted {
        match outputs.get(name).ok_or("not computed".into()).and_then(|got| distance(name, got, want)) {
            Ok(distance) if nearest.is_none_or(|nearest| distance.share() > nearest.share()) => {
                nearest = Some(distance)
            }
            Ok(_) => {}
            Err(error) => wrong.push(format!("{name}: {error}")),
        }
    }
    match wrong.len() {
        0 => Ok(nearest),
        1..=8 => Err(wrong.join("; ").into()),
        more => Err(format!("{}; and {} more of {} outputs", wrong[..8].join("; "), more - 8, wanted.len()).into()),
    }
}

/// Returns the distance of the element that is nearest to its tolerance. Integers must be equal. Where f32 is expected,
/// any floating-point kind is accepted.
fn distance(name: &str, got: &Tensor, want: &Wanted) -> Result<Distance> {
    let Wanted { tensor, atol, rtol } = want;
    if got.size() != tensor.size() {
        return Err(format!("shape {:?}, expected {:?}", got.size(), tensor.size()).into());
    }
    if got.kind() != tensor.kind() && (tensor.kind() != Kind::Float || !got.is_floating_point()) {
        return Err(format!("kind {:?}, expected {:?}", got.kind(), tensor.kind()).into());
    }
    let numel = tensor.numel();
    if numel == 0 {
        return Ok(Distance { error: 0.0, tolerance: *atol });
    }
    if !tensor.is_floating_point() {
        let got = got.f_to_device(Device::Cpu)?;
        let differing = got.f_not_equal_tensor(tensor)?.f_sum(Kind::Int64)?.f_int64_value(&[])?;
        return match differing {
            0 => Ok(Distance { error: 0.0, tolerance: 0.0 }),
            _ => Err(format!("{differing} of {numel} integers differ").into()),
        };
    }
    if conformance::kind() != Kind::Float {
        let [got, want] = [got, tensor].map(|x| x.to_device(Device::Cpu).to_kind(Kind::Double));
        let error = ((got - &want).norm() / want.norm()).f_double_value(&[])?;
        let tolerance = if name.starts_with("probs.") { HALF_OF_PROBS } else { HALF };
        let far = || format!("off by {error:.4} of its norm, expected {tolerance} at most");
        return if error <= tolerance { Ok(Distance { error, tolerance }) } else { Err(far().into()) };
    }
    let flat = |tensor: &Tensor| tensor.f_to_kind(Kind::Double)?.f_to_device(Device::Cpu)?.f_reshape([-1]);
    let (got, want) = (flat(got)?, flat(tensor)?);
    let equal = got.f_eq_tensor(&want)?; // infinities too
    let error = got.f_sub(&want)?.f_abs()?.f_masked_fill(&equal, 0)?;
    let tolerance = want.f_abs()?.f_mul_scalar(*rtol)?.f_add_scalar(*atol)?;
    let share = error.f_div(&tolerance)?.f_masked_fill(&equal, 0)?; // a NaN is the largest
    let place = share.f_argmax(None, false)?.f_int64_value(&[])?;
    let at = |tensor: &Tensor| tensor.f_double_value(&[place]);
    let distance = Distance { error: at(&error)?, tolerance: at(&tolerance)? };
    if at(&share)? <= 1.0 {
        return Ok(distance);
    }
    let outside = numel as i64 - share.f_le(1)?.f_sum(Kind::Int64)?.f_int64_value(&[])?;
    let (got, want) = (at(&got)?, at(&want)?);
    Err(format!("{outside} of {numel} values; the worst is {got:.6e}, expected {want:.6e}: {distance}").into())
}

/// Returns the folders of cases by name, in the order of names. A case that a later root repeats is run once.
fn discover(roots: impl Iterator<Item = PathBuf>) -> Result<Vec<(String, PathBuf)>> {
    let mut cases: Vec<(String, PathBuf)> = Vec::new();
    for root in roots {
        let entries = std::fs::read_dir(&root).map_err(|error| format!("{}: {error}", root.display()))?;
        let mut dirs = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<PathBuf>>>()?;
        dirs.retain(|dir| dir.join("case.json").is_file());
        for dir in dirs {
            let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let text = std::fs::read(dir.join("case.json"))?;
            let same = |other: &Path| std::fs::read(other.join("case.json")).is_ok_and(|other| other == text);
            if !cases.iter().any(|(_, other)| other.file_name() == dir.file_name() && same(other)) {
                let taken = cases.iter().any(|(other, _)| *other == name);
                cases.push((if taken { format!("{name} ({})", root.display()) } else { name }, dir));
            }
        }
    }
    cases.sort();
    Ok(cases)
}
