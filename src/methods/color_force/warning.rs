//! Warnings about a force, as sentences.

use crate::window::Window;
use crate::wording::{Note, Remedy};
use serde::Serialize;
use std::fmt;

/// A warning about a force, which is no error. The `Display` text is a sentence.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub enum ColorWarning {
    /// No step of the schedule is inside the window.
    NeverActive {
        /// The window.
        window: Window,
    },
    /// No map can reach the cutoff.
    CutoffOutOfReach {
        /// The cutoff.
        cutoff: f64,
        /// The largest value of a map.
        range: f64,
    },
    /// `color_var` is far from the values that are known to work.
    UnusualVariance {
        /// The variance.
        color_var: f64,
    },
    /// The VAE cannot show the color.
    ColorNotRepresentable {
        /// CIEDE2000 between the color and the color after encoding and decoding by the VAE.
        delta_e: f64,
    },
    /// The saliency had no map when one was needed.
    NoSaliency {
        /// Timestep of Stable Diffusion with the step's noise level, as windows count.
        timestep: f64,
    },
    /// The mask was empty: no cell that may be forced reached the cutoff.
    EmptyMask {
        /// Index in the batch.
        image: usize,
        /// Number of forced steps in which the mask was empty.
        steps: usize,
        /// Number of forced steps.
        of: usize,
    },
    /// The mask covers most of the picture.
    LargeMask {
        /// Index in the batch.
        image: usize,
        /// Number of forced steps in which the mask covers more than 80 % of the picture.
        steps: usize,
        /// Number of forced steps.
        of: usize,
    },
    /// An automatic cutoff was moved because it would have left almost nothing or almost everything.
    AreaClamped,
    /// The protected objects cover most of the forced region.
    MostlyProtected,
    /// Feedback cannot measure colors with this VAE.
    FeedbackBlind {
        /// Root-mean-square CIEDE2000 over 64 colors.
        delta_e: f64,
    },
    /// The color got worse as the force grew.
    FeedbackDiverged {
        /// Index in the batch.
        image: usize,
    },
    /// The force did not reach the color.
    NotConverged {
        /// Index in the batch.
        image: usize,
        /// Best CIEDE2000 that was reached.
        delta_e: f64,
    },
    /// The region has the color asked for on the whole, but other colors too.
    Uneven {
        /// Index in the batch.
        image: usize,
        /// CIEDE2000 of the region's mean to the color asked for.
        mean_delta_e: f64,
        /// Share of the region's pixels within CIEDE2000 10 of the color asked for.
        coverage: f64,
        /// Smallest share of pixels near the color asked for in one connected piece of the region and its remainder.
        /// Equals `coverage` without a first pass.
        least_covered: f64,
    },
    /// The mask covers only a part of its object.
    Cut {
        /// Index in the batch.
        image: usize,
        /// Pixels with the old color beside the region, as a share of the region's pixels.
        remainder: f64,
    },
    /// Lines in and around the region are gone.
    LinesLost {
        /// Index in the batch.
        image: usize,
        /// Share of the lines that are still there.
        kept: f64,
    },
    /// The color spread beyond the object.
    Grown {
        /// Index in the batch.
        image: usize,
        /// Pixels around the region that took the color, as a share of the region's pixels.
        share: f64,
    },
    /// Another thing beside the object changed its color, or is gone.
    NeighborChanged {
        /// Index in the batch.
        image: usize,
        /// CIEDE2000 between the thing's mean colors before and after.
        delta_e: f64,
    },
    /// The map hardly locates the object.
    Undecided {
        /// Index in the batch.
        image: usize,
        /// Number of cells whose saliency is near the cutoff, per cell above the cutoff.
        undecided: f64,
    },
    /// The saliency is the same everywhere and reaches the cutoff nowhere.
    FlatSaliency {
        /// Number of forced steps in which the saliency was the same everywhere.
        steps: usize,
        /// Number of forced steps.
        of: usize,
    },
}

impl ColorWarning {
    /// Returns the warning as a note: the sentence, and what the user can do.
    pub(super) fn note(&self) -> Note {
        match self {
            Self::NeverActive { window } => {
                let problem = format!("no step of the schedule is in the window ({window}), so nothing was forced");
                Remedy::Window.after(problem)
            }
            Self::CutoffOutOfReach { cutoff, range } => Remedy::LowerCutoff
                .after(format!("saliency_cutoff is {cutoff}, but this saliency reaches {range} at most")),
            Self::UnusualVariance { color_var } => format!(
                "color_var is {color_var}; expected 10 to 200; smaller values give solid blocks, larger values little \
                 effect"
            )
            .into(),
            Self::ColorNotRepresentable { delta_e } => {
                Remedy::Color.after(format!("the VAE shows this color no closer than CIEDE2000 {delta_e:.1}"))
            }
            Self::NoSaliency { timestep } => {
                Remedy::Window.after(format!("the saliency had no map at timestep {timestep:.0} in its own window"))
            }
            Self::EmptyMask { image, steps, of } => {
                Remedy::LowerCutoff.after(format!("image {image}: the mask was empty in {steps} of {of} forced steps"))
            }
            Self::LargeMask { image, steps, of } => Remedy::RaiseCutoff.after(format!(
                "image {image}: the mask covers more than 80 % of the picture in {steps} of {of} forced steps"
            )),
            Self::AreaClamped => Remedy::LookAtMask
                .after("the automatic cutoff was moved so that the mask covers .1 % to 70 % of the picture"),
            Self::MostlyProtected => {
                Remedy::LookAtMask.after("more than half of the mask is protected and was not forced")
            }
            Self::FeedbackBlind { delta_e } => Remedy::NoFeedback.after(format!(
                "feedback does not work with this VAE, because colors are measured with an error of CIEDE2000 \
                 {delta_e:.1}"
            )),
            Self::FeedbackDiverged { image } => Remedy::LookAtMask.after(format!(
                "image {image}: the color got worse as the force grew, so feedback returned to the best force"
            )),
            Self::NotConverged { image, delta_e } => {
                Remedy::LookAtMask.after(format!("image {image}: the color came no closer than CIEDE2000 {delta_e:.1}"))
            }
            Self::Uneven { image, mean_delta_e, coverage, least_covered } => Remedy::LookAtMask.after(format!(
                "image {image}: the region has other colors too; the mean is CIEDE2000 {mean_delta_e:.1} off; {:.0} % \
                 of the region and {:.0} % of the worst piece are near the color asked for",
                100.0 * coverage,
                100.0 * least_covered
            )),
            Self::Cut { image, remainder } => Remedy::MaskOrParts.after(format!(
                "image {image}: pixels of the old color beside the region are {:.0} % of the region's pixels, so the \
                 mask covers only a part of the thing",
                100.0 * remainder
            )),
            Self::LinesLost { image, kept } => Remedy::OtherSeed.after(format!(
                "image {image}: only {:.0} % of the dark lines in and around the thing are still there",
                100.0 * kept
            )),
            Self::Grown { image, share } => Remedy::OtherSeed.after(format!(
                "image {image}: the color spread beyond the thing, to {:.0} % of its pixels around it",
                100.0 * share
            )),
            Self::NeighborChanged { image, delta_e } => Remedy::OtherSeed
                .after(format!("image {image}: another thing beside it changed by CIEDE2000 {delta_e:.0}, or is gone")),
            Self::Undecided { image, undecided } => Remedy::MaskOrRivals.after(format!(
                "image {image}: the maps hardly tell the thing apart ({undecided:.1} undecided cells for each cell of \
                 the region), so another thing may have been forced"
            )),
            Self::FlatSaliency { steps, of } => {
                Remedy::Phrase.after(format!("the saliency is the same everywhere in {steps} of {of} forced steps"))
            }
        }
    }
}

impl fmt::Display for ColorWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.note().fmt(f)
    }
}

impl std::error::Error for ColorWarning {}
