//! [`Region`]: a region of the picture that the user draws.

use super::Resample;
use super::guided_filter::follow_outlines;
use super::label_map::{self, LabelMap};
use crate::color::Rgb;
use crate::error::{Error, Result};
use crate::raster::Raster;
use crate::recipe;
use crate::step::Grid;
use ndarray::Array2;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

/// A fixed region of the picture: saliency that the user draws. A region needs no hooks and no calls of the network.
///
/// ```
/// use impasto::mask::Region;
/// use impasto::methods::ColorForce;
/// use impasto::Rgb;
/// use ndarray::Array2;
///
/// let left = Array2::from_shape_fn((64, 64), |(_, column)| if column < 32 { 1.0 } else { 0.0 });
/// let force = ColorForce::published("the left half", Rgb(0, 128, 128)).saliency(Region::new(left));
/// let force = ColorForce::published("the upper third", Rgb(0, 128, 128)).saliency(Region::rect(0.0..1.0, 0.0..0.33));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Region {
    shape: Shape,
}

/// The shape of a region.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    /// Values in 0..=1, and their name in errors.
    Drawn(#[serde(with = "recipe::plane")] Array2<f32>, #[serde(skip, default = "mask")] &'static str),
    /// Pixels of one label.
    Label {
        #[serde(with = "label_map")]
        map: Arc<LabelMap>,
        label: u8,
    },
    /// Box in shares of the picture.
    Rect { x: Range<f64>, y: Range<f64> },
    /// Union of shapes: the largest value counts.
    Any(Vec<Shape>),
    /// One shape for each image.
    Each(Vec<Shape>),
}

/// Returns the usual name of drawn values in errors.
const fn mask() -> &'static str {
    "mask"
}

impl Region {
    /// Creates a region from `values`: rows × columns in 0..=1, of the latent's size or of any size with its aspect
    /// (within 1 %). Values of another size are averaged over areas.
    pub const fn new(values: Array2<f32>) -> Self {
        Self::of(Shape::Drawn(values, mask()))
    }

    /// Creates a region from a mask with the aspect of the run's picture: white belongs to the region, black does not,
    /// and gray belongs to it by its share of white. The channels of a colored pixel are averaged.
    ///
    /// ```
    /// use impasto::mask::Region;
    /// use impasto::{Raster, Rgb};
    /// let mut mask = Raster::flat(Rgb(0, 0, 0), (64, 64));
    /// mask.paste(&Raster::flat(Rgb(255, 255, 255), (32, 64)), 0, 0);
    /// let left = Region::gray(&mask);
    /// ```
    pub fn gray(mask: &Raster) -> Self {
        let (width, height) = (mask.size().width, mask.size().height);
        let share = |(y, x): (usize, usize)| {
            let Rgb(red, green, blue) = mask.pixel(x as u32, y as u32).unwrap_or(Rgb(0, 0, 0));
            [red, green, blue].into_iter().map(f32::from).sum::<f32>() / (3.0 * 255.0)
        };
        Self::new(Array2::from_shape_fn((height as usize, width as usize), share))
    }

    /// Creates a box from `x.start` to `x.end` of the picture's width and `y.start` to `y.end` of its height, each
    /// 0..=1 from the upper left corner. Cells at the edges count by the share that the box covers.
    pub const fn rect(x: Range<f64>, y: Range<f64>) -> Self {
        Self::of(Shape::Rect { x, y })
    }

    /// Creates a region from a map of latent cells, sharpened along the outlines of `picture`. The region has the
    /// picture's size. `map` is [h, w] (or [1, 1, h, w]) in 0..=1, as
    /// [`SaliencyRun::map`](crate::saliency::SaliencyRun::map) returns it.
    ///
    /// ```
    /// # fn main() -> impasto::Result<()> {
    /// use impasto::mask::Region;
    /// use impasto::saliency::{Accumulate, Daam, DaamRun, Refine, SaliencyRun};
    /// let pipeline = impasto::Pipeline::builder().build()?;
    /// let look = Daam::of("hair").tune(|options| {
    ///     (options.accumulate, options.refine) = (Accumulate::Mean, Refine::contrast());
    /// });
    /// let output = pipeline.request("1girl, eyes, hair, shirt").seed(7).steps(8).guide(look).run()?;
    /// let map = output.details::<DaamRun>("hair")?.map()?.expect("the run had steps");
    /// let hair = Region::along_outlines(&map, output.image(0)?)?; // to inpaint, to force, to paint with
    /// # Ok(()) }
    /// ```
    ///
    /// Source: He, Sun and Tang, "Guided Image Filtering" (ECCV 2010).
    ///
    /// # Errors
    /// [`Error::Shape`] if `map` is not of one image, or the picture's sides are not a whole multiple of the map's.
    pub fn along_outlines(map: &Tensor, picture: &Raster) -> Result<Self> {
        let [width, height] = [picture.size().width, picture.size().height].map(i64::from);
        let size = map.size();
        let cell = match size.as_slice() {
            &[h, w] | &[1, 1, h, w] if h > 0 && w > 0 && height % h == 0 && width == height / h * w => height / h,
            _ => {
                let expected =
                    format!("[h, w] whose cells are squares of whole pixels in the picture of {width}x{height} pixels");
                return Err(Error::Shape { what: "map", got: size, expected });
            }
        };
        let map = map.f_to_device(Device::Cpu)?.f_reshape([1, 1, height / cell, width / cell])?;
        let found = follow_outlines(&map, &picture.to_tensor(Device::Cpu)?, cell)?;
        let values = Vec::<f32>::try_from(&found.f_flatten(0, -1)?)?;
        Ok(Self::new(Array2::from_shape_fn((height as usize, width as usize), |(y, x)| {
            values.get(y * width as usize + x).copied().unwrap_or_default()
        })))
    }

    /// Creates a region with a shape of its own for each image of the batch. There must be as many regions as images.
    pub fn each(regions: impl IntoIterator<Item = Self>) -> Self {
        Self::of(Shape::Each(regions.into_iter().map(|region| region.shape).collect()))
    }

    /// Unites two regions. In each cell the larger of the two values counts.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self::of(match self.shape {
            Shape::Any(mut shapes) => {
                shapes.push(other.shape);
                Shape::Any(shapes)
            }
            shape => Shape::Any(vec![shape, other.shape]),
        })
    }

    const fn of(shape: Shape) -> Self {
        Self { shape }
    }

    /// Creates a region like [`new`](Self::new), with another name in errors.
    pub(crate) const fn named(values: Array2<f32>, what: &'static str) -> Self {
        Self::of(Shape::Drawn(values, what))
    }

    /// Creates the regions of a map's labels, in the order of the labels.
    pub(crate) fn of_labels(map: &Arc<LabelMap>) -> Vec<Self> {
        (1..=map.count()).map(|label| Self::of(Shape::Label { map: Arc::clone(map), label })).collect()
    }

    /// Returns the label map and the label of the region; `None` if the region has no label.
    pub(crate) const fn label_map(&self) -> Option<(&Arc<LabelMap>, u8)> {
        match &self.shape {
            Shape::Label { map, label } => Some((map, *label)),
            _ => None,
        }
    }

    /// Returns the other regions of the region's label map.
    pub(crate) fn other_labels(&self) -> Vec<Self> {
        let all = self.label_map().map(|(map, own)| (Self::of_labels(map), own));
        let others = |(regions, own): (Vec<Self>, u8)| {
            regions.into_iter().zip(1..).filter(move |(_, label)| *label != own).map(|(region, _)| region)
        };
        all.into_iter().flat_map(others).collect()
    }

    /// Returns the drawn values, rows × columns in 0..=1; `None` if the region is no drawing.
    pub const fn values(&self) -> Option<&Array2<f32>> {
        match &self.shape {
            Shape::Drawn(values, _) => Some(values),
            _ => None,
        }
    }

    /// Checks values and boxes before a run.
    ///
    /// # Errors
    /// [`Error::Parameter`] for values or a box outside 0..=1.
    pub fn check(&self) -> Result<()> {
        self.shape.check()
    }

    /// Returns the region at latent resolution, [1 or n, 1, h, w] f32.
    ///
    /// # Errors
    /// [`Error::Shape`] if the aspect differs by more than 1 %, [`Error::Parameter`] for values or a box outside 0..=1.
    pub(crate) fn on(&self, grid: Grid) -> Result<Tensor> {
        self.check_for(grid)?;
        self.resample(grid, Resample::Area)
    }

    /// Checks that the region fits a latent of `latent` cells.
    ///
    /// # Errors
    /// The errors of [`on`](Self::on).
    pub(crate) fn check_for(&self, latent: Grid) -> Result<()> {
        self.check()?;
        self.shape.fits(latent)
    }

    /// Returns the region on any grid of the picture, [1 or n, 1, h, w] f32. The aspect is not checked, because grids
    /// of attention sites are halved rounding up, so their aspects differ a little.
    pub(crate) fn resample(&self, grid: Grid, resample: Resample) -> Result<Tensor> {
        self.shape.on(grid, resample)
    }

    /// Returns the region on a latent's cells, [n, 1, h, w] f32 for `images` images. The result is a view if all images
    /// have one shape.
    ///
    /// # Errors
    /// [`Error::Shape`] if the aspect differs by more than 1 %; [`Error::Parameter`] for values or a box outside 0..=1,
    /// or if the region has shapes for another number of images.
    pub fn for_images(&self, grid: Grid, images: i64) -> Result<Tensor> {
        let map = self.on(grid)?;
        has_images("regions", &map, images)?;
        Ok(map.f_expand([images, 1, grid.h, grid.w], false)?)
    }
}

/// Copies the shape of a region, without its map of the current run.
impl Shape {
    fn check(&self) -> Result<()> {
        match self {
            Self::Drawn(values, what) => match values.iter().find(|value| !(0.0..=1.0).contains(*value)) {
                Some(bad) => Err(Error::parameter(what, bad, "values in 0..=1")),
                None => Ok(()),
            },
            Self::Label { map, label } if (1..=map.count()).contains(label) => Ok(()),
            Self::Label { map, label } => {
                Err(Error::parameter("label", label, format!("a label of the map, 1 to {}", map.count())))
            }
            Self::Rect { x, y } => {
                let fits = |side: &Range<f64>| 0.0 <= side.start && side.start < side.end && side.end <= 1.0;
                if fits(x) && fits(y) {
                    return Ok(());
                }
                let value = format!("{x:?} across, {y:?} down");
                let expected = "shares of the picture in 0..=1, the start of each range smaller than the range's end";
                Err(Error::parameter("rect", value, expected))
            }
            Self::Each(shapes) if shapes.is_empty() => {
                Err(Error::parameter("each", "empty", "one region for each image"))
            }
            Self::Each(shapes) if shapes.iter().any(Self::differs) => {
                let expected = "one plain region for each image; do not put Region::each into Region::each";
                Err(Error::parameter("each", "a list with a region of Region::each", expected))
            }
            Self::Any(shapes) | Self::Each(shapes) => shapes.iter().try_for_each(Self::check),
        }
    }

    /// Returns true if the shape differs from image to image.
    fn differs(&self) -> bool {
        match self {
            Self::Drawn(..) | Self::Label { .. } | Self::Rect { .. } => false,
            Self::Any(shapes) => shapes.iter().any(Self::differs),
            Self::Each(_) => true,
        }
    }

    /// Checks that every drawing has the latent's aspect, within 1 %.
    fn fits(&self, latent: Grid) -> Result<()> {
        match self {
            Self::Drawn(values, what) => has_aspect(values.dim(), latent, what),
            Self::Label { map, .. } => has_aspect(map.dim(), latent, mask()),
            Self::Rect { .. } => Ok(()),
            Self::Any(shapes) | Self::Each(shapes) => shapes.iter().try_for_each(|shape| shape.fits(latent)),
        }
    }

    /// Returns the shape on `grid`, [1 or n, 1, h, w].
    fn on(&self, grid: Grid, resample: Resample) -> Result<Tensor> {
        match self {
            Self::Drawn(values, _) => {
                let (rows, columns) = (values.nrows() as i64, values.ncols() as i64);
                let flat: Vec<f32> = values.iter().copied().collect();
                resample.apply(&Tensor::f_from_slice(&flat)?.f_reshape([1, 1, rows, columns])?, grid)
            }
            Self::Label { map, label } if resample == Resample::Area => {
                Ok(map.cells(grid)?.f_narrow(0, i64::from(*label) - 1, 1)?)
            }
            Self::Label { map, label } => resample.apply(&map.pixels(*label)?, grid),
            Self::Rect { x, y } => {
                let (down, across) = (resample.interval(y, grid.h), resample.interval(x, grid.w));
                let side = |covered: &[f32], shape: [i64; 4]| Tensor::f_from_slice(covered)?.f_reshape(shape);
                Ok(side(&down, [1, 1, grid.h, 1])?.f_mul(&side(&across, [1, 1, 1, grid.w])?)?)
            }
            Self::Any(shapes) => {
                let maps = shapes.iter().map(|shape| shape.on(grid, resample));
                let union = maps.reduce(|all, one| Ok(all?.f_maximum(&one?)?));
                union.unwrap_or_else(|| Ok(Tensor::f_zeros([1, 1, grid.h, grid.w], (Kind::Float, tch::Device::Cpu))?))
            }
            Self::Each(shapes) => {
                let maps: Vec<Tensor> = shapes.iter().map(|shape| shape.on(grid, resample)).collect::<Result<_>>()?;
                Ok(Tensor::f_cat(&maps, 0)?)
            }
        }
    }
}

/// Checks that a drawing of rows × columns has the latent's aspect, within 1 %.
fn has_aspect((rows, columns): (usize, usize), latent: Grid, what: &'static str) -> Result<()> {
    let (rows, columns) = (rows as i64, columns as i64);
    let aspect = (rows * latent.w) as f64 / (columns * latent.h).max(1) as f64;
    if (0.99..=1.01).contains(&aspect) {
        return Ok(());
    }
    let expected = format!("{} rows × {} columns, or another size of the same aspect", latent.h, latent.w);
    Err(Error::Shape { what, got: vec![rows, columns], expected })
}

/// Checks that `map`, [n, …], has one row for all images, or one row for each image. `name` is what a message calls the
/// number of rows.
///
/// # Errors
/// [`Error::Parameter`] for another number of rows.
pub(crate) fn has_images(name: &'static str, map: &Tensor, images: i64) -> Result<()> {
    match map.size().first() {
        Some(&rows) if rows == 1 || rows == images => Ok(()),
        rows => {
            let value = format!("{} for {images} images", rows.unwrap_or(&0));
            Err(Error::parameter(name, value, "one for all images, or one for each image"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(map: &Tensor) -> Vec<f32> {
        Vec::try_from(map.flatten(0, -1)).unwrap()
    }

    #[test]
    fn a_map_that_does_not_fit_its_picture_is_an_error() {
        let picture = Raster::flat(crate::color::Rgb(9, 9, 9), (64, 32));
        let try_size =
            |size: &[i64]| Region::along_outlines(&Tensor::zeros(size, (Kind::Float, Device::Cpu)), &picture);
        assert!(try_size(&[4, 8]).is_ok() && try_size(&[1, 1, 4, 8]).is_ok());
        for size in [&[8i64, 8][..], &[5, 10], &[0, 0], &[2, 1, 4, 8], &[8]] {
            let error = try_size(size).unwrap_err().to_string();
            assert!(error.contains("64x32 pixels"), "{size:?}: {error}");
        }
    }

    #[test]
    fn larger_drawing_is_averaged_wrong_aspect_refused() -> Result<()> {
        let drawing = Array2::from_shape_fn((4, 8), |(_, column)| if column < 3 { 1.0 } else { 0.0 });
        let map = Region::new(drawing.clone()).on(Grid::new(2, 4))?;
        assert_eq!(values(&map), [1.0, 0.5, 0.0, 0.0, 1.0, 0.5, 0.0, 0.0]);
        let error = Region::new(drawing).on(Grid::new(4, 4)).expect_err("another aspect").to_string();
        assert!(error.contains("4 rows × 4 columns"), "{error}");
        assert!(Region::new(Array2::from_elem((2, 2), f32::NAN)).on(Grid::new(2, 2)).is_err());
        Ok(())
    }

    #[test]
    fn each_refuses_empty_lists_and_nested_regions() {
        let half = || Region::rect(0.0..0.5, 0.0..1.0);
        for bad in [Region::each([]), Region::each([Region::each([half()]).or(half()), half()])] {
            assert!(bad.check().expect_err("no regions, or nested ones").to_string().contains("each"));
        }
        assert!(Region::each([half().or(half()), half()]).check().is_ok());
    }

    #[test]
    fn box_counts_its_share_of_each_cell_at_any_size() -> Result<()> {
        let rect = Region::rect(0.25..0.875, 0.0..0.5);
        assert_eq!(values(&rect.on(Grid::new(2, 4))?), [0.0, 1.0, 1.0, 0.5, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(values(&rect.on(Grid::new(1, 2))?), [0.25, 0.375]);
        assert_eq!(values(&rect.resample(Grid::new(1, 2), Resample::Cover)?), [1.0, 1.0]);
        for (x, y) in [(0.5..1.2, 0.0..1.0), (0.0..1.0, 0.5..0.5), (f64::NAN..1.0, 0.0..1.0), (-0.1..1.0, 0.0..1.0)] {
            let message = Region::rect(x, y).on(Grid::new(2, 2)).expect_err("no box").to_string();
            assert!(message.contains("rect is") && message.contains("shares of the picture"), "{message}");
        }
        Ok(())
    }

    #[test]
    fn regions_unite_and_differ_from_image_to_image() -> Result<()> {
        let (grid, left, top) =
            (Grid::new(2, 2), || Region::rect(0.0..0.5, 0.0..1.0), || Region::rect(0.0..1.0, 0.0..0.5));
        assert_eq!(values(&left().or(top()).on(grid)?), [1.0, 1.0, 1.0, 0.0]);
        let each = Region::each([left(), top()]);
        assert_eq!(values(&each.for_images(grid, 2)?), [1.0, 0.0, 1.0, 0.0, 1.0, 1.0, 0.0, 0.0]);
        let message = each.for_images(grid, 3).expect_err("two for three").to_string();
        let says = |words: &str| message.contains(words);
        assert!(says("regions is 2 for 3 images") && says("one for each"), "{message}");
        assert_eq!(left().for_images(grid, 3)?.size(), [3, 1, 2, 2]);
        assert!(Region::each([each, top()]).check().is_err(), "each of each");
        Ok(())
    }
}
