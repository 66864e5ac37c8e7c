//! Canny's edge detector, equal to OpenCV's to the bit.

use super::sketch::Sketch;
use crate::error::{Error, Result};
use crate::raster::Raster;
use crate::size::Size;

/// Canny's edge detector as `cv2.Canny` computes it with an aperture of 3.
///
/// The picture is not blurred first. Gradients come from Sobel's filter; in a color picture, each pixel uses the
/// channel with the largest gradient.
///
/// ```
/// use impasto::{Raster, Rgb};
/// use impasto::hint::Canny;
/// let mut picture = Raster::flat(Rgb(0, 0, 0), (16, 16));
/// picture.paste(&Raster::flat(Rgb(255, 255, 255), (8, 16)), 8, 0);
/// let edges = Canny::default().edges(&picture)?;
/// assert!(edges.is_line(7, 5) && !edges.is_line(3, 5));
/// # Ok::<(), impasto::Error>(())
/// ```
///
/// Source: Canny (1986), "A Computational Approach to Edge Detection"; OpenCV 4.10 and 5.0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Canny {
    /// Gradient above which a pixel can continue an edge, 0 or more.
    pub low: f64,
    /// Gradient above which a pixel begins an edge, 0 or more. If `high` is smaller than `low`, the two are exchanged.
    pub high: f64,
    /// Measures gradients by their Euclidean length (`L2gradient`) instead of |dx| + |dy|.
    pub l2: bool,
}

/// The thresholds 100 and 200 of the application in ControlNet's first release.
impl Default for Canny {
    fn default() -> Self {
        Self { low: 100.0, high: 200.0, l2: false }
    }
}

/// tan 22.5° · 2¹⁵, which tells horizontal gradients from diagonal ones.
const TAN: i64 = 13573;
/// Largest width and height of a picture in pixels.
const LARGEST: u32 = 16384;
/// Largest number of pixels of a picture.
const MOST_PIXELS: u64 = 8192 * 8192;

/// State of a pixel while edges are followed.
#[derive(Clone, Copy, PartialEq)]
enum Pixel {
    None,
    /// A pixel that becomes part of an edge if the pixel touches an edge.
    Weak,
    Edge,
}

impl Canny {
    /// Finds the edges of a picture.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a threshold that is negative or not a number, and for a picture without pixels or with
    /// a side above 16384 pixels or more than 67 million pixels (8192×8192).
    pub fn edges(self, picture: &Raster) -> Result<Sketch> {
        let Size { width, height } = picture.size();
        let is_large = width > LARGEST || height > LARGEST || u64::from(width) * u64::from(height) > MOST_PIXELS;
        if width == 0 || height == 0 || is_large {
            let expected =
                format!("sides of 1 to {LARGEST} pixels and at most 8192×8192 pixels; resize the picture first");
            return Err(Error::parameter("the picture's size", picture.size(), expected));
        }
        let (low, high) = self.thresholds()?;
        let (w, h) = (width as usize, height as usize);
        let gradients = Gradients::of(picture, self.l2);
        let mut pixels = vec![Pixel::None; w * h];
        for y in 0..h {
            for x in 0..w {
                let size = gradients.size(x as i64, y as i64);
                if size <= low || !gradients.is_ridge(x as i64, y as i64) {
                    continue;
                }
                if let Some(pixel) = pixels.get_mut(y * w + x) {
                    *pixel = if size > high { Pixel::Edge } else { Pixel::Weak };
                }
            }
        }
        // Weak pixels that touch an edge become edges.
        let mut reached = Vec::new();
        for edge in 0..pixels.len() {
            reached.extend((pixels.get(edge) == Some(&Pixel::Edge)).then_some((edge % w, edge / w)));
            while let Some((x, y)) = reached.pop() {
                for next_y in y.saturating_sub(1)..(y + 2).min(h) {
                    for next_x in x.saturating_sub(1)..(x + 2).min(w) {
                        if let Some(pixel) = pixels.get_mut(next_y * w + next_x)
                            && *pixel == Pixel::Weak
                        {
                            *pixel = Pixel::Edge;
                            reached.push((next_x, next_y));
                        }
                    }
                }
            }
        }
        Ok(Sketch::new(pixels.into_iter().map(|pixel| pixel == Pixel::Edge).collect(), picture.size()))
    }

    /// Returns the two thresholds as whole numbers, the smaller one first. They are squared if `l2` is set.
    fn thresholds(self) -> Result<(i64, i64)> {
        for (name, value) in [("low", self.low), ("high", self.high)] {
            if value.is_nan() || value < 0.0 {
                return Err(Error::parameter(name, value, "a threshold of 0 or more; 100 and 200 are usual"));
            }
        }
        let whole = |value: f64| if self.l2 { value.min(32767.0).powi(2).floor() } else { value.floor() } as i64;
        Ok((whole(self.low.min(self.high)), whole(self.low.max(self.high))))
    }
}

impl Sketch {
    /// Returns the edges of a picture, as [`Canny`] finds them with its default thresholds.
    ///
    /// # Errors
    /// The errors of [`Canny::edges`].
    pub fn of_edges(picture: &Raster) -> Result<Self> {
        Canny::default().edges(picture)
    }
}

/// Sobel's gradients of a picture; each pixel uses the channel with the largest gradient.
struct Gradients {
    width: i64,
    height: i64,
    /// dx and dy of each pixel's gradient, in −1020..=1020.
    pixels: Vec<(i16, i16)>,
    l2: bool,
}

impl Gradients {
    fn of(picture: &Raster, l2: bool) -> Self {
        let [width, height] = [picture.size().width, picture.size().height].map(i64::from);
        let bytes = picture.bytes();
        // Borders are repeated.
        let value = |x: i64, y: i64, channel: usize| {
            let (x, y) = (x.clamp(0, width - 1), y.clamp(0, height - 1));
            bytes.get(3 * (y * width + x) as usize + channel).map_or(0, |value| i64::from(*value))
        };
        let gradient = |x: i64, y: i64, channel: usize| {
            let at = |dx: i64, dy: i64| value(x + dx, y + dy, channel);
            let dx = at(1, -1) - at(-1, -1) + 2 * (at(1, 0) - at(-1, 0)) + at(1, 1) - at(-1, 1);
            let dy = at(-1, 1) - at(-1, -1) + 2 * (at(0, 1) - at(0, -1)) + at(1, 1) - at(1, -1);
            (dx as i16, dy as i16)
        };
        // Among equal gradients, the first channel is used.
        let largest = |x, y| {
            let [red, green, blue] = [0, 1, 2].map(|channel| gradient(x, y, channel));
            let two = if length(green, l2) > length(red, l2) { green } else { red };
            if length(blue, l2) > length(two, l2) { blue } else { two }
        };
        let mut pixels = Vec::with_capacity(bytes.len() / 3);
        (0..height).for_each(|y| pixels.extend((0..width).map(|x| largest(x, y))));
        Self { width, height, pixels, l2 }
    }

    /// Returns dx and dy; 0 outside of the picture.
    fn get(&self, x: i64, y: i64) -> (i16, i16) {
        let inside = (0..self.width).contains(&x) && (0..self.height).contains(&y);
        let pixel = inside.then(|| self.pixels.get((y * self.width + x) as usize)).flatten();
        pixel.copied().unwrap_or_default()
    }

    /// Returns the size of a gradient; 0 outside of the picture.
    fn size(&self, x: i64, y: i64) -> i64 {
        length(self.get(x, y), self.l2)
    }

    /// Returns true if the pixel's gradient is the largest across the edge. Of two equal neighbors, the left or upper
    /// one counts as larger; of two equal diagonal neighbors, neither one is the largest.
    fn is_ridge(&self, x: i64, y: i64) -> bool {
        let ((dx, dy), size) = (self.get(x, y), self.size(x, y));
        let (dx, dy) = (i64::from(dx), i64::from(dy));
        let (flat, steep) = (dx.abs() * TAN, dy.abs() << 15);
        if steep < flat {
            return size > self.size(x - 1, y) && size >= self.size(x + 1, y);
        }
        if steep > flat + (dx.abs() << 16) {
            return size > self.size(x, y - 1) && size >= self.size(x, y + 1);
        }
        let side = if (dx ^ dy) < 0 { -1 } else { 1 };
        size > self.size(x - side, y - 1) && size > self.size(x + side, y + 1)
    }
}

/// Returns the size of a gradient: |dx| + |dy|, or the square of the Euclidean length if `l2` is set.
fn length((dx, dy): (i16, i16), l2: bool) -> i64 {
    let (dx, dy) = (i64::from(dx), i64::from(dy));
    if l2 { dx * dx + dy * dy } else { dx.abs() + dy.abs() }
}
