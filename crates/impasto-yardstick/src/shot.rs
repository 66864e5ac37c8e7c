//! [`Generator`]: what makes the pictures of a run, from a [`Request`] to a [`Shot`].

use crate::failure::Failure;
use crate::guides::Guide;
use crate::picture::Picture;
use crate::regions::Mask;
use crate::task::{Asked, Method, Painted};
use impasto::Rgb;
use ndarray::Array2;

/// A request to a generator.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    pub prompt: &'a str,
    pub seed: u64,
    pub method: Method,
    pub asked: &'a [Asked],
    pub painted: &'a [Painted],
    /// The picture to follow, and the strength of guidance.
    pub guide: Option<(&'a Picture, f64)>,
    /// The unforced picture, for a method that keeps its lines.
    pub unforced: Option<&'a Picture>,
    /// Phrases whose attention is wanted.
    pub phrases: &'a [String],
    /// Region of each asked part in the unforced picture, for methods that are told the region.
    pub regions: &'a [Mask],
}

/// The result of a request.
#[derive(Clone, Debug, Default)]
pub struct Shot {
    pub picture: Picture,
    /// The method's own report on each asked color, if the method makes one.
    pub own: Vec<Own>,
    /// Attention to each phrase, 64 × 64 in 0..=1.
    pub maps: Vec<(String, Array2<f32>)>,
}

/// The report of a method on one of its colors.
#[derive(Clone, Debug, Default)]
pub struct Own {
    pub delta_e: Option<f64>,
    pub converged: Option<bool>,
    /// Mask of the last forced step, at the picture's size.
    pub mask: Option<Mask>,
    /// Median CIEDE2000 of the pixels under the stroke, for a method that paints a stroke.
    pub under_stroke: Option<f64>,
}

/// Makes pictures.
///
/// ```
/// use impasto_yardstick::guides::Guide;
/// use impasto_yardstick::picture::Picture;
/// use impasto_yardstick::failure::Failure;
/// use impasto_yardstick::shot::{Generator, Request, Shot};
/// use impasto::Rgb;
/// use ndarray::Array2;
///
/// /// Paints every picture in the first color that was asked for.
/// struct Flat;
///
/// impl Generator for Flat {
///     fn make(&mut self, request: &Request<'_>) -> Result<Shot, Failure> {
///         let color = request.asked.first().map_or(Rgb(128, 128, 128), |asked| asked.rgb);
///         Ok(Shot { picture: Array2::from_elem((64, 64), color), ..Shot::default() })
///     }
///     fn drawing(&mut self, _: &Guide) -> Result<Picture, Failure> {
///         Err("this generator draws no guides".into())
///     }
///     fn likeness(&mut self, a: &Picture, b: &Picture) -> Result<f64, Failure> {
///         Ok(if a == b { 1.0 } else { 0.0 })
///     }
/// }
/// ```
pub trait Generator {
    /// Makes the picture of a request.
    fn make(&mut self, request: &Request<'_>) -> Result<Shot, Failure>;

    /// Returns the seed to use: the request's seed, or the seed that a method finds by a search.
    fn chosen(&mut self, request: &Request<'_>) -> Result<u64, Failure> {
        Ok(request.seed)
    }

    /// Draws the picture of a guide.
    fn drawing(&mut self, guide: &Guide) -> Result<Picture, Failure>;

    /// Cosine of CLIP's embeddings of two pictures.
    fn likeness(&mut self, a: &Picture, b: &Picture) -> Result<f64, Failure>;

    /// CIEDE2000 between a color and a flat picture of it after the decoder; `None` if unknown.
    fn round_trip(&mut self, _: Rgb) -> Option<f64> {
        None
    }
}
