//! The predictions a step is made of.

/// One of the predictions a step is made of.
///
/// Branches are evaluated in the order of this enum: what a hook records from an `Extra` branch is there when
/// `Uncond` and `Cond` come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Branch {
    /// Added by a guidance with `Setup::add`.
    Extra(u8),
    /// The negative or empty prompt.
    Uncond,
    /// The prompt.
    Cond,
}

/// What a branch is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BranchInfo {
    /// Its name.
    pub branch: Branch,
    /// `Cond` or `Uncond`: what it is a variation of. Whatever is done to that one is to be done to this one. Itself, if it is
    /// no variation of either.
    pub like: Branch,
    /// How others find it: a `Combine` looks for the role, never for a number.
    pub role: &'static str,
    /// Its prompt.
    pub prompt: String,
    /// Do all who ask for its role and prompt have it? Else it is somebody's alone.
    pub shared: bool,
}
