//! [`Registry`]: the readers of recipes, by kind and name.

use super::Recipe;
use crate::error::{Error, Result};
use crate::wording::{QUOTED, excerpt};
use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// A kind of value that recipes describe, such as `dyn Guidance`.
///
/// ```
/// use impasto::recipe::Kind;
/// trait Brush {}
/// impl Kind for dyn Brush {
///     const NAME: &'static str = "brush";
/// }
/// ```
pub trait Kind: 'static {
    /// Name of the kind in errors, such as "guidance method".
    const NAME: &'static str;
}

/// Makes a value from its recipe. The registry makes values that the recipe contains.
type Read<T> = Box<dyn Fn(Recipe, &Registry) -> Result<Box<T>> + Send + Sync>;

/// The readers of recipes, by kind and name. A pipeline has a registry ([`Pipeline::registry_mut`]), by which
/// [`Request::from_png`] makes the guidance methods, saliencies, solver and combination of a run again. The default
/// registry reads all that this crate has.
///
/// This guidance method of a program comes back from the files of its pictures:
///
/// ```
/// # fn main() -> impasto::Result<()> {
/// # let path = std::env::temp_dir().join("impasto-registry.png");
/// use impasto::diffusion::Denoised;
/// use impasto::guidance::{Guidance, GuidanceRun, Setup};
/// use impasto::pipeline::{Pipeline, Request};
/// use impasto::{Recipe, Result, Step};
///
/// /// Scales the clean picture.
/// #[derive(Clone, serde::Serialize, serde::Deserialize)]
/// struct Contrast(f64);
///
/// impl Guidance for Contrast {
///     fn begin(&self, _: &mut Setup, _: Option<Box<dyn GuidanceRun>>) -> Result<Box<dyn GuidanceRun>> {
///         Ok(Box::new(self.clone()))
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
/// let mut pipeline = Pipeline::builder().build()?;
/// pipeline.registry_mut().add::<dyn Guidance>("Contrast", |recipe, _| Ok(Box::new(recipe.read::<Contrast>()?)));
/// let output = pipeline.request("a red boat").seed(7).steps(2).guide(Contrast(1.1)).run()?;
/// output.save(0, &path)?;
/// assert_eq!(Request::from_png(&pipeline, &path)?.run()?.image(0)?, output.image(0)?);
/// # std::fs::remove_file(path).ok();
/// # Ok(()) }
/// ```
///
/// [`Pipeline::registry_mut`]: crate::Pipeline::registry_mut
/// [`Request::from_png`]: crate::pipeline::Request::from_png
#[derive(Clone)]
pub struct Registry {
    /// A [`Read`] for each kind and name.
    readers: HashMap<(TypeId, String), Arc<dyn Any + Send + Sync>>,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names: Vec<&str> = self.readers.keys().map(|(_, name)| name.as_str()).collect();
        names.sort_unstable();
        f.debug_tuple("Registry").field(&names).finish()
    }
}

impl Registry {
    /// Creates a registry that reads nothing.
    pub(crate) fn empty() -> Self {
        Self { readers: HashMap::new() }
    }

    /// Adds the reader of a kind's recipes with a name, in place of an earlier reader. The reader may hold a value that
    /// a recipe only names, such as the net of an [`IpAdapter`](crate::methods::IpAdapter).
    pub fn add<T: ?Sized + Kind>(
        &mut self,
        name: impl Into<String>,
        read: impl Fn(Recipe, &Self) -> Result<Box<T>> + Send + Sync + 'static,
    ) {
        let read: Read<T> = Box::new(read);
        self.readers.insert((TypeId::of::<T>(), name.into()), Arc::new(read));
    }

    /// Makes the value that a recipe describes.
    ///
    /// ```
    /// use impasto::guidance::Guidance;
    /// use impasto::recipe::Registry;
    /// use impasto::saliency::Daam;
    ///
    /// let recipe = Daam::of("eyes").recipe()?;
    /// let again = Registry::default().make::<dyn Guidance>(recipe.clone())?;
    /// assert_eq!(again.recipe()?, recipe);
    /// # Ok::<(), impasto::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NotRepeatable`] if no reader has the recipe's name; [`Error::Malformed`] if the settings do not fit.
    pub fn make<T: ?Sized + Kind>(&self, recipe: Recipe) -> Result<Box<T>> {
        let reader = self.readers.get(&(TypeId::of::<T>(), recipe.name.clone()));
        match reader.and_then(|reader| reader.downcast_ref::<Read<T>>()) {
            Some(read) => read(recipe, self),
            None => {
                let name = excerpt(&recipe.name, QUOTED);
                Err(Error::NotRepeatable { what: format!("{name}, which is no {} in the registry,", T::NAME) })
            }
        }
    }

    /// Returns true if a reader has the kind and the name.
    pub(crate) fn reads<T: ?Sized + Kind>(&self, name: &str) -> bool {
        self.readers.contains_key(&(TypeId::of::<T>(), name.to_owned()))
    }

    /// Returns the names of a kind's readers, in the order of the alphabet.
    pub fn names<T: ?Sized + Kind>(&self) -> Vec<&str> {
        let own = self.readers.keys().filter(|(kind, _)| *kind == TypeId::of::<T>());
        let mut names: Vec<&str> = own.map(|(_, name)| name.as_str()).collect();
        names.sort_unstable();
        names
    }
}
