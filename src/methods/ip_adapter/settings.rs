//! [`Settings`]: the settings of an [`IpAdapter`](super::IpAdapter).

use super::blocks::Blocks;
use super::prompt::ImagePrompt;
use crate::vision::View;
use crate::window::Window;
use serde::{Deserialize, Serialize};

/// The settings of the method without its net.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Settings {
    /// Name of the adapter's file.
    pub adapter: String,
    pub pictures: Vec<ImagePrompt>,
    pub strength: f64,
    #[serde(default)]
    pub blocks: Blocks,
    #[serde(default)]
    pub view: View,
    pub window: Window,
}
