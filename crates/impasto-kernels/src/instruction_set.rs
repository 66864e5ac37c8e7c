//! The choice of an instruction set, by the processor or by the variable `IMPASTO_KERNELS`.

#[cfg(target_arch = "x86_64")]
use crate::isa::{amx, avx2, avx512};
use std::env;
use std::fmt;
use std::sync::OnceLock;
use tch::Kind;

/// Name of the environment variable that chooses an instruction set.
const VARIABLE: &str = "IMPASTO_KERNELS";

/// An instruction set that the kernels can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InstructionSet {
    /// No vector instructions. This set is for tests: all processors have it, and libtorch is faster.
    Scalar,
    /// AVX2 with FMA and F16C, on x86-64.
    Avx2,
    /// AVX-512, on x86-64. For bf16 the processor also needs the instructions for bf16 (AVX512-BF16).
    Avx512,
    /// AVX-512 with its instructions for bf16, and AMX for products of bf16, on x86-64 with Linux.
    Amx,
    /// AVX-512 with its instructions for bf16, and a model of AMX in software.
    #[cfg(test)]
    AmxModel,
}

impl InstructionSet {
    /// All instruction sets.
    pub const ALL: &[Self] = &[Self::Scalar, Self::Avx2, Self::Avx512, Self::Amx];

    /// Returns the name of the set in the variable `IMPASTO_KERNELS`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Amx => "amx",
            #[cfg(test)]
            Self::AmxModel => "model of amx",
        }
    }

    /// Lists the instructions for numbers of a kind, f32 or bf16, that this processor lacks.
    fn lacking(self, kind: Kind) -> Vec<&'static str> {
        match self {
            Self::Scalar => Vec::new(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => avx2::lacking(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => avx512::lacking(kind),
            #[cfg(target_arch = "x86_64")]
            Self::Amx => amx::lacking(),
            #[cfg(all(test, target_arch = "x86_64"))]
            Self::AmxModel => avx512::lacking(Kind::BFloat16),
            #[cfg(not(target_arch = "x86_64"))]
            _ => vec!["x86-64"],
        }
    }
}

/// A value of the variable `IMPASTO_KERNELS` that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InvalidChoice {
    /// The value.
    pub value: String,
    /// The values that can be used, and advice.
    pub expected: String,
}

impl fmt::Display for InvalidChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{VARIABLE} is {}; expected {}", self.value, self.expected)
    }
}

impl std::error::Error for InvalidChoice {}

/// Returns the instruction set with which the kernels of this process compute f32; `None` if libtorch computes instead.
/// Numbers in bf16 use the same set or libtorch, which computes bf16 on processors with AMX.
///
/// The environment variable `IMPASTO_KERNELS` chooses: `off` for libtorch, and `scalar`, `avx2`, `avx512` or `amx` for
/// a set. Without the variable, kernels need AVX2 or AVX-512, and an optimized build. The variable is read once.
///
/// # Errors
/// [`InvalidChoice`] if the variable has another value, or names a set that this processor lacks. libtorch computes
/// then.
pub fn in_use() -> Result<Option<InstructionSet>, InvalidChoice> {
    choice().map(|choice| choice.set(Kind::Float)).map_err(InvalidChoice::clone)
}

/// Returns the instruction set that an optimized build of this crate would use here, if the present build is compiled
/// without optimization and so leaves the set unused. A program tells its user, who otherwise waits twice as long.
#[must_use]
pub fn missed() -> Option<InstructionSet> {
    let unset = env::var_os(VARIABLE).is_none_or(|value| value.is_empty());
    (unset && !cfg!(optimized)).then(|| Choice::best(true).f32).flatten()
}

/// Returns the set that computes numbers of a kind; `None` if there is none.
pub(crate) fn set_for(kind: Kind) -> Option<InstructionSet> {
    choice().ok()?.set(kind)
}

/// Sets for f32 and for bf16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    f32: Option<InstructionSet>,
    bf16: Option<InstructionSet>,
}

impl Choice {
    /// No set, so that libtorch computes.
    pub(crate) const OFF: Self = Self { f32: None, bf16: None };

    /// Chooses one set, for all kinds for which the processor has its instructions.
    pub(crate) fn one(set: InstructionSet) -> Self {
        let suits = |kind| set.lacking(kind).is_empty().then_some(set);
        Self { f32: suits(Kind::Float), bf16: suits(Kind::BFloat16) }
    }

    /// Chooses the sets that are faster than libtorch on this processor, in an optimized build or another.
    fn best(optimized: bool) -> Self {
        // Without optimization, kernels take a hundred times as long as libtorch.
        #[cfg(target_arch = "x86_64")]
        if optimized {
            let (wide, narrow) = (Self::one(InstructionSet::Avx512), Self::one(InstructionSet::Avx2));
            if wide.f32.is_none() {
                return narrow;
            }
            // libtorch multiplies bf16 by AMX, which is faster than AVX-512. Without the instructions for bf16, AVX2
            // multiplies bf16 as f32, several times as fast as libtorch.
            return Self { bf16: if avx512::has_amx() { None } else { wide.bf16.or(narrow.bf16) }, ..wide };
        }
        Self::OFF
    }

    /// Chooses by the value of the variable.
    fn by_name(value: &str) -> Result<Self, InvalidChoice> {
        let invalid = |expected: String| {
            let expected = format!("{expected}; unset {VARIABLE} to use the best kernels of this processor");
            Err(InvalidChoice { value: value.to_owned(), expected })
        };
        match InstructionSet::ALL.iter().find(|set| set.name() == value) {
            None if value.is_empty() => Ok(Self::best(cfg!(optimized))),
            None if value == "off" => Ok(Self::OFF),
            None => {
                let names: Vec<&str> = InstructionSet::ALL.iter().map(|set| set.name()).collect();
                invalid(format!("off, {}", names.join(", ")))
            }
            Some(&set) => match set.lacking(Kind::Float).as_slice() {
                [] => Ok(Self::one(set)),
                lacking => invalid(format!("instructions of this processor, which lacks {}", lacking.join(", "))),
            },
        }
    }

    fn set(self, kind: Kind) -> Option<InstructionSet> {
        match kind {
            Kind::Float => self.f32,
            Kind::BFloat16 => self.bf16,
            _ => None,
        }
    }
}

/// Returns the choice of this process; in a test, that of the test's thread.
fn choice() -> Result<Choice, &'static InvalidChoice> {
    static CHOICE: OnceLock<Result<Choice, InvalidChoice>> = OnceLock::new();
    #[cfg(test)]
    if let Some(choice) = tested::CHOICE.get() {
        return Ok(choice);
    }
    let by_variable = || Choice::by_name(&env::var_os(VARIABLE).unwrap_or_default().to_string_lossy());
    CHOICE.get_or_init(by_variable).as_ref().copied()
}

#[cfg(test)]
pub(crate) mod tested {
    use super::Choice;
    use std::cell::Cell;

    thread_local!(pub(super) static CHOICE: Cell<Option<Choice>> = const { Cell::new(None) });

    /// The end of a choice, also for a test that panics: the thread may run other tests.
    struct Ends;

    impl Drop for Ends {
        fn drop(&mut self) {
            CHOICE.set(None);
        }
    }

    /// Runs a test on this thread with kernels of a choice.
    pub(crate) fn with<T>(choice: Choice, test: impl FnOnce() -> T) -> T {
        CHOICE.set(Some(choice));
        let _ends = Ends;
        test()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variable_names_a_set_or_none() {
        assert_eq!(Choice::by_name("off"), Ok(Choice::OFF));
        assert_eq!(Choice::by_name(""), Ok(Choice::best(cfg!(optimized))));
        let scalar = Some(InstructionSet::Scalar);
        assert_eq!(Choice::by_name("scalar"), Ok(Choice { f32: scalar, bf16: scalar }));
    }

    #[test]
    fn best_choice_has_its_instructions_and_is_not_slow() {
        for kind in [Kind::Float, Kind::BFloat16] {
            let set = Choice::best(cfg!(optimized)).set(kind);
            assert!(set.is_none_or(|set| set != InstructionSet::Scalar && set.lacking(kind).is_empty()), "{set:?}");
        }
        let best = match () {
            () if cfg!(all(avx512, optimized)) => Some(InstructionSet::Avx512),
            () if cfg!(all(avx2, optimized)) => Some(InstructionSet::Avx2),
            () => None,
        };
        assert_eq!(Choice::best(cfg!(optimized)).set(Kind::Float), best);
        assert!(missed().is_none() || in_use() == Ok(None), "a set is left unused or used");
        assert!(!cfg!(optimized) || missed().is_none());
    }

    #[test]
    fn unknown_value_is_an_error_with_the_names() {
        let error = Choice::by_name("avx1024").unwrap_err().to_string();
        assert!(
            error.contains("IMPASTO_KERNELS is avx1024; expected off, scalar, avx2, avx512, amx; unset"),
            "{error}"
        );
    }

    #[test]
    fn set_that_the_processor_lacks_is_an_error() {
        for &set in InstructionSet::ALL {
            let (lacking, choice) = (set.lacking(Kind::Float), Choice::by_name(set.name()));
            match lacking.first() {
                None => assert_eq!(choice.unwrap().set(Kind::Float), Some(set)),
                Some(feature) => assert!(choice.unwrap_err().expected.contains(&format!("lacks {feature}"))),
            }
        }
    }

    #[test]
    fn set_named_for_this_run_is_there() {
        // A variable that names a set makes the lack of the set a failure; the other tests choose sets by themselves.
        assert!(in_use().is_ok(), "{:?}", in_use());
    }
}
