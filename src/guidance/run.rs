//! [`GuidanceRun`]: the part of a guidance method in one run.

use super::{Plan, Report, Setup};
use crate::attention::CrossAttentionHook;
use crate::branch::BranchInfo;
use crate::conditioning::{Codec, Conditioning};
use crate::diffusion::{Denoised, Predictions, Transition};
use crate::error::Result;
use crate::step::Step;
use crate::wording::Note;
use std::any::Any;
use tch::Tensor;

/// The state of a guidance method in one run, which steers the run. Every phase has a default; override the phases you
/// need.
///
/// Phases are called in this order, and within a phase the methods in attach order:
///
/// 1. `recipe` and `first_pass`, when a request begins
/// 2. for each pass: `check` and `begin` of every method, `condition` of every branch, `noise`
/// 3. per evaluation: `plan`, the hooks, `predicted`, `denoised`
/// 4. per step: `transition`
/// 5. after the last step of a whole run: `exact_cells`, `spare` and `finish`; if the picture is decoded, `exact_cells`
///    again and `decoded`
/// 6. after every run: `notes`, `report` and `details`
///
/// The functions `recipe`, `check` and `first_pass` are those of [`Guidance`](super::Guidance).
///
/// ```
/// use impasto::diffusion::Transition;
/// use impasto::guidance::GuidanceRun;
/// use impasto::{Pipeline, Result, Step};
///
/// /// Measures the contrast of the predicted clean picture at every step.
/// #[derive(Default)]
/// struct Contrast(Vec<f64>);
///
/// impl GuidanceRun for Contrast {
///     fn transition(&mut self, _: &Step, transition: &mut Transition) -> Result<()> {
///         self.0.push(transition.x0.f_std(true)?.f_double_value(&[])?);
///         Ok(())
///     }
/// }
///
/// # fn main() -> Result<()> {
/// let mut contrast = Contrast::default();
/// Pipeline::builder().build()?.request("a red boat").seed(7).steps(3).attach(&mut contrast).run()?;
/// assert_eq!(contrast.0.len(), 3);
/// # Ok(()) }
/// ```
///
/// [`Request::attach`](crate::pipeline::Request::attach) lends a value to one run, as here. A function that makes the
/// value is a guidance method for any number of runs: `.guide(Contrast::default)`.
#[allow(unused_variables)]
pub trait GuidanceRun: Any + Send {
    /// Rates how well each image of the first pass that has just ended suits this method, 0..=1; 1 is best. Ratings of
    /// several methods are multiplied. Called if a run chooses the best of several first passes. An empty list, the
    /// default, rates no image.
    ///
    /// # Errors
    /// Any error that prevents the rating.
    fn outlook(&self, codec: &dyn Codec) -> Result<Vec<f64>> {
        let _ = codec;
        Ok(Vec::new())
    }

    /// Prepares a pass before its first step: looks phrases up, encodes texts, adds branches. A value that is lent to
    /// several runs, or to a run with two passes, must drop its earlier state here. A state that [`Guidance::begin`]
    /// made is prepared already, so this function is not called.
    ///
    /// [`Guidance::begin`]: super::Guidance::begin
    fn begin(&mut self, setup: &mut Setup<'_>) -> Result<()> {
        Ok(())
    }

    /// Reads or edits the conditioning of a branch. Called once per branch, after `begin` of every method.
    fn condition(&mut self, branch: &BranchInfo, conditioning: &mut Conditioning, codec: &dyn Codec) -> Result<()> {
        Ok(())
    }

    /// Reads or edits the noise that the run begins with, [n, c, h, w] of mean 0 and variance 1. Called before the
    /// noise is scaled or added to a picture. Not called for a run that continues from the latent of another run.
    fn noise(&mut self, noise: &mut Tensor) -> Result<()> {
        Ok(())
    }

    /// Requests extra branches. Called once per evaluation.
    fn plan(&mut self, step: &Step, plan: &mut Plan) -> Result<()> {
        Ok(())
    }

    /// Returns the method's attention hooks. The number of hooks must stay the same throughout a run.
    fn hooks(&mut self) -> Vec<&mut dyn CrossAttentionHook> {
        Vec::new()
    }

    /// Reads or edits x0 (and ε) of every branch before the branches are combined.
    fn predicted(&mut self, step: &Step, predictions: &mut Predictions) -> Result<()> {
        Ok(())
    }

    /// Reads or moves the combined x0 before the solver sees it. Called once per evaluation.
    fn denoised(&mut self, step: &Step, denoised: &mut Denoised) -> Result<()> {
        Ok(())
    }

    /// Reads or moves the Gaussian that the next latent is drawn from. Called once per step.
    fn transition(&mut self, step: &Step, transition: &mut Transition) -> Result<()> {
        Ok(())
    }

    /// Learns the share of each cell to which methods of the run give an exact color, [1 or n, 1, h, w] in 0..=1: what
    /// their [`exact_cells`](Self::exact_cells) returned. A method that changes colors everywhere leaves these cells.
    /// Called before `finish`, unless no method gives an exact color.
    ///
    /// # Errors
    /// Any error that prevents the run.
    fn spare(&mut self, exact: &Tensor) -> Result<()> {
        Ok(())
    }

    /// Reads or edits the finished latent, [n, c, h, w], before it is decoded. Not called if another run continues from
    /// this latent.
    fn finish(&mut self, latent: &mut Tensor, codec: &dyn Codec) -> Result<()> {
        Ok(())
    }

    /// Returns the share of each cell, [n, 1, h, w] in 0..=1, to which the method gave an exact color. The tone of
    /// these cells is not changed after decoding. `None`, the default, stands for no cells. Called before
    /// [`spare`](Self::spare) and before [`decoded`](Self::decoded).
    ///
    /// # Errors
    /// Any error that prevents the answer.
    fn exact_cells(&self) -> Result<Option<Tensor>> {
        Ok(None)
    }

    /// Reads the picture, [n, 3, H, W] in about -1..=1, to measure the effect of the method. In a run that repaints a
    /// part of a picture, the rest is the picture that was given.
    fn decoded(&mut self, picture: &Tensor) -> Result<()> {
        Ok(())
    }

    /// Returns messages about the run for the user: warnings and findings, in whole sentences. A run sets
    /// [`Note::origin`] to the method's name.
    fn notes(&self) -> Vec<Note> {
        Vec::new()
    }

    /// Returns a report of the run in numbers and pictures, for files, web pages and programs. A caller that needs
    /// typed results gets them from [`details`](Self::details). Called after every run, so return maps as they are
    /// ([`Picture::map`]) and do not draw them.
    fn report(&self) -> Result<Option<Report>> {
        Ok(None)
    }

    /// Returns typed results beside this value itself, for
    /// [`Output::details`](crate::pipeline::Output::details). Called once, after the run. Default: none.
    ///
    /// # Errors
    /// Any error that prevents a result.
    fn details(&self) -> Result<Vec<Box<dyn Any + Send>>> {
        Ok(Vec::new())
    }

    /// Returns the method's name in errors, notes and reports.
    fn name(&self) -> &'static str {
        std::any::type_name::<Self>()
    }
}
