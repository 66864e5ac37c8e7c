//! Checkpoint files and the tensors in them.
mod report;
pub use report::LoadReport;
