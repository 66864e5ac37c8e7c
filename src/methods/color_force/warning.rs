//! Warnings about a force, as sentences.

use crate::window::Window;
use serde::Serialize;

/// A warning about a force, which is no error. Its `Display` text is a sentence.
#[derive(Clone, Debug, PartialEq, Serialize, thiserror::Error)]
#[non_exhaustive]
pub enum ColorWarning {
    /// No step of the schedule is inside the window.
    #[error("no step of this schedule is in the window, {window}, so nothing was forced")]
    NeverActive {
        /// The window.
        window: Window,
    },
    /// No map can reach the cutoff.
    #[error("saliency_cutoff is {cutoff}, but this saliency reaches {range} at most")]
    CutoffOutOfReach {
        /// The cutoff.
        cutoff: f64,
        /// The largest value of a map.
        range: f64,
    },
    /// `color_var` is far from the values that are known to work.
    #[error("color_var is {color_var}; below 10 regions turn into solid blocks, above 200 little happens")]
    UnusualVariance {
        /// The variance.
        color_var: f64,
    },
    /// The VAE cannot show the color.
    #[error("the VAE shows this color no closer than CIEDE2000 {delta_e:.1}")]
    ColorNotRepresentable {
        /// CIEDE2000 of the round trip.
        delta_e: f64,
    },
    /// The saliency had no map when one was needed.
    #[error("the saliency had no map at timestep {timestep:.0}; does its window cover that of the force?")]
    NoSaliency {
        /// Training timestep.
        timestep: f64,
    },
    /// No cell reached the cutoff.
    #[error("image {image}: nothing reached the cutoff in {steps} of {of} forced steps; lower saliency_cutoff")]
    EmptyMask {
        /// Index in the batch.
        image: usize,
        /// Number of steps with an empty mask.
        steps: usize,
        /// Number of forced steps.
        of: usize,
    },
    /// The mask covers most of the picture.
    #[error("image {image}: the mask covers more than 80 % in {steps} of {of} forced steps; raise saliency_cutoff")]
    LargeMask {
        /// Index in the batch.
        image: usize,
        /// Number of steps in which the mask covers more than 80 %.
        steps: usize,
        /// Number of forced steps.
        of: usize,
    },
    /// An automatic cutoff was moved because it would have left almost nothing or almost everything.
    #[error("the automatic cutoff was moved to leave between .1 % and 70 % of the picture; look at the masks")]
    AreaClamped,
    /// The protected objects cover most of the forced region.
    #[error("more than half of the mask is protected and was left alone; look at the masks")]
    MostlyProtected,
    /// Feedback cannot measure colors with this VAE.
    #[error("feedback does not work with this VAE: its colors are seen with an error of CIEDE2000 {delta_e:.1}")]
    FeedbackBlind {
        /// Root-mean-square CIEDE2000 over 64 colors.
        delta_e: f64,
    },
    /// The color got worse as the force grew.
    #[error(
        "image {image}: the color got worse as the force grew, so feedback went back to its best; look at the mask"
    )]
    FeedbackDiverged {
        /// Index in the batch.
        image: usize,
    },
    /// The force did not reach the color.
    #[error("image {image}: the color was met to CIEDE2000 {delta_e:.1} only")]
    NotConverged {
        /// Index in the batch.
        image: usize,
        /// Best CIEDE2000 that was reached.
        delta_e: f64,
    },
    /// The region has the color asked for on the whole, but other colors too.
    #[error(
        "image {image}: the region has other colors too: its mean is {mean_delta_e:.1} off, {:.0} % of it is near the color asked for, and \
         {:.0} % of the piece of which least is; look at the mask",
        100.0 * coverage,
        100.0 * least_covered
    )]
    Uneven {
        /// Index in the batch.
        image: usize,
        /// CIEDE2000 of the region's mean to the color asked for.
        mean_delta_e: f64,
        /// Share of the region's pixels within CIEDE2000 10 of the color asked for.
        coverage: f64,
        /// Smallest share of such pixels in a connected piece of the region and its remainder; `coverage` without a
        /// first pass.
        least_covered: f64,
    },
    /// The mask covers only a part of its object.
    #[error(
        "image {image}: beside the region {:.0} % as much still has its old color, so the mask covers a part of the thing only; look at the \
         mask, or name its parts with except()",
        100.0 * remainder
    )]
    Cut {
        /// Index in the batch.
        image: usize,
        /// Pixels with the old color beside the region, as a share of the region's pixels.
        remainder: f64,
    },
    /// The map hardly locates the object.
    #[error(
        "image {image}: the maps hardly tell it apart ({undecided:.1} undecided cells for each of the region), so another thing may have been \
         forced; look at the mask, try best_of(4), or name its rivals with among()"
    )]
    Undecided {
        /// Index in the batch.
        image: usize,
        /// Cells whose saliency is near the cutoff, as a share of those above it.
        undecided: f64,
    },
    /// Saliency is the same everywhere and reaches the cutoff nowhere.
    #[error("the saliency is the same everywhere in {steps} of {of} forced steps")]
    FlatSaliency {
        /// Number of steps with such a saliency.
        steps: usize,
        /// Number of forced steps.
        of: usize,
    },
}
