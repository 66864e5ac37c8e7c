//! [`Guidance`]: the settings of a guidance method.

use super::{GuidanceRun, Setup};
use crate::error::{Error, Result};
use crate::recipe::{Kind, Recipe};
use std::any::Any;
use std::sync::Arc;

/// The settings of a guidance method, from which every run makes a state of its own. Settings never change, so a value
/// can guide any number of runs, also at the same time.
///
/// A function that makes a [`GuidanceRun`] is a guidance method, too: `.guide(Contrast::default)`. For such a method,
/// [`begin`](Self::begin) calls the function and then [`GuidanceRun::begin`].
///
/// ```
/// use impasto::diffusion::Denoised;
/// use impasto::guidance::{Guidance, GuidanceRun, Setup};
/// use impasto::{Pipeline, Recipe, Result, Step};
///
/// /// Scales the clean picture of every step.
/// #[derive(Clone, serde::Serialize)]
/// struct Contrast(f64);
///
/// impl Guidance for Contrast {
///     fn begin(&self, _: &mut Setup, _: Option<Box<dyn GuidanceRun>>) -> Result<Box<dyn GuidanceRun>> {
///         Ok(Box::new(self.clone())) // the method needs no other state than its settings
///     }
///     fn recipe(&self) -> Result<Recipe> {
///         Recipe::of("Contrast", self)
///     }
/// }
///
/// impl GuidanceRun for Contrast {
///     fn denoised(&mut self, _: &Step, denoised: &mut Denoised) -> Result<()> {
///         denoised.x0 = denoised.x0.f_mul_scalar(self.0)?;
///         Ok(())
///     }
/// }
///
/// # fn main() -> Result<()> {
/// let pipeline = Pipeline::builder().build()?;
/// pipeline.request("a red boat").seed(7).steps(3).guide(Contrast(1.1)).run()?;
/// # Ok(()) }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no guidance method",
    note = "a value with settings implements `Guidance`; for a `GuidanceRun`, pass a function that makes the value"
)]
pub trait Guidance: Any + Send + Sync {
    /// Checks the settings, and returns an error if no run can use them. Called when a pipeline is built and before
    /// `begin`.
    ///
    /// # Errors
    /// Any error that names the setting.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// Returns the training timestep down to which the method wants a first pass, or `None` for no first pass. The
    /// first pass is the same run over the same noise, made before the run itself so that the method can measure.
    /// Timestep 0 makes the first pass as long as the run. If several methods want a first pass, the longest is
    /// made.
    ///
    /// Methods that want no first pass act in both passes, so that the first pass shows their effects, too. A first
    /// pass ends without [`GuidanceRun::finish`] and [`GuidanceRun::decoded`].
    fn first_pass(&self) -> Option<f64> {
        None
    }

    /// Returns true for a method that replaces the context of the text encoder. Such methods begin before the others,
    /// which then find their words in the new context ([`Setup::replace_prompt`]). Default: false.
    fn replaces_context(&self) -> bool {
        false
    }

    /// Makes the state of a pass before its first step: looks phrases up, encodes texts, adds branches.
    ///
    /// `first_pass` is the state that this method had in the first pass, if there was one. The state of the run may use
    /// what that state measured. `first_pass as Box<dyn Any>` leads to the type of the state.
    ///
    /// # Errors
    /// Any error that prevents the run.
    fn begin(&self, setup: &mut Setup<'_>, first_pass: Option<Box<dyn GuidanceRun>>) -> Result<Box<dyn GuidanceRun>>;

    /// Returns a recipe that is stored in files, and from which this value can be made again. Called before a run.
    /// Methods of your own can return [`Recipe::of`]: a program that reads the file gets the name and the settings, and
    /// builds the value from them.
    ///
    /// # Errors
    /// [`Error::NotRepeatable`], which this default returns. Files then name the method and say that it cannot be
    /// repeated.
    fn recipe(&self) -> Result<Recipe> {
        Err(Error::NotRepeatable { what: self.name().into() })
    }

    /// Returns the method's name in errors, notes and reports.
    fn name(&self) -> &'static str {
        std::any::type_name::<Self>()
    }

    /// Returns the text by which [`Output::details`](crate::pipeline::Output::details) finds the method's results, such
    /// as the phrase of a color force. Default: the [`name`](Self::name).
    fn label(&self) -> String {
        self.name().into()
    }
}

impl Kind for dyn Guidance {
    const NAME: &'static str = "guidance method";
}

/// A function that makes the state of a run.
impl<F, R> Guidance for F
where
    F: Fn() -> R + Send + Sync + 'static,
    R: GuidanceRun,
{
    fn begin(&self, setup: &mut Setup<'_>, _: Option<Box<dyn GuidanceRun>>) -> Result<Box<dyn GuidanceRun>> {
        let mut run = self();
        run.begin(setup)?;
        Ok(Box::new(run))
    }

    fn name(&self) -> &'static str {
        std::any::type_name::<R>()
    }
}

/// Forwards to the guidance method inside.
macro_rules! forward_guidance {
    ($($wrapper:ty),*) => {$(
        impl Guidance for $wrapper {
            fn check(&self) -> Result<()> {
                (**self).check()
            }
            fn first_pass(&self) -> Option<f64> {
                (**self).first_pass()
            }
            fn replaces_context(&self) -> bool {
                (**self).replaces_context()
            }
            fn begin(
                &self,
                setup: &mut Setup<'_>,
                first_pass: Option<Box<dyn GuidanceRun>>,
            ) -> Result<Box<dyn GuidanceRun>> {
                (**self).begin(setup, first_pass)
            }
            fn recipe(&self) -> Result<Recipe> {
                (**self).recipe()
            }
            fn name(&self) -> &'static str {
                (**self).name()
            }
            fn label(&self) -> String {
                (**self).label()
            }
        }
    )*};
}

// A method that is known only when the program runs, such as one from a recipe, is a guidance method too.
forward_guidance!(Box<dyn Guidance>, Arc<dyn Guidance>);
pub(crate) use forward_guidance;
