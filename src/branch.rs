//! Branches: the predictions that a step combines.

/// One of the predictions that a step combines.
///
/// Branches are evaluated in the order of this enum, so a hook's recordings from an `Extra` branch are available to
/// `Uncond` and `Cond`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Branch {
    /// An additional branch, added by a guidance method with `Setup::add`.
    Extra(u8),
    /// The branch of the negative or empty prompt.
    Uncond,
    /// The branch of the prompt.
    Cond,
}

/// Role of the branches of the further prompts that `AND` combines.
pub(crate) const AND: &str = "and";

/// Description of a branch.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BranchInfo {
    /// Identifier of the branch.
    pub branch: Branch,
    /// Branch that this branch is a variation of, `Cond` or `Uncond`. Edits to that branch also apply to this branch.
    /// Equals `branch` for an independent branch.
    pub like: Branch,
    /// Role by which other parts of a run find the branch. A `Combine` looks for the role, not for the number of
    /// `Branch::Extra`.
    pub role: &'static str,
    /// Prompt of the branch.
    pub prompt: String,
    /// Prompt of the second text encoder (SDXL, SD 3). `None`: the encoder reads `prompt`.
    pub second_prompt: Option<String>,
    /// Prompt of the third text encoder (SD 3). `None`: the encoder reads `prompt`.
    pub third_prompt: Option<String>,
    /// True if all guidance methods that ask for the same role and prompt share the branch. False if it belongs to one
    /// method alone.
    pub shared: bool,
}
