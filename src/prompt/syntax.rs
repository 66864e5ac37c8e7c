//! [`PromptSyntax`]: the syntax beyond weights that a prompt is read with.

use serde::{Deserialize, Serialize};

/// Syntax beyond weights that a prompt is read with. Weights, `BREAK` and backslashes are an option of the text encoder
/// ([`TextOptions`](crate::text::TextOptions)), and exact colors are read with every syntax.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[non_exhaustive]
pub enum PromptSyntax {
    /// The AUTOMATIC1111 web UI's: `[a:b:0.5]`, `[a|b]`, `a AND b :1.2`, `<lora:name:0.8>`.
    #[default]
    WebUi,
    /// The syntax of the web UI before version 1.6, in which a number below 1 is a share of the steps, and any other
    /// number a step.
    OldWebUi,
    /// None: this syntax is plain text.
    Plain,
}
