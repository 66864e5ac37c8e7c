//! [`Layer`]: a picture with alpha.

use super::transparency::{over, read_mask};
use super::{Raster, decode_file};
use crate::color::Rgb;
use crate::error::{Error, Result};
use crate::files::write_whole;
use crate::size::Size;
use image::{ImageFormat, RgbaImage};
use std::io::Cursor;
use std::path::Path;

/// A picture of 8 bits per channel with alpha, which is 0 for transparent and 255 for opaque. Colors are straight, not
/// multiplied by alpha.
///
/// ```
/// use impasto::Rgb;
/// use impasto::raster::Layer;
/// let mut layer = Layer::new((4, 4));
/// layer.set(1, 2, Rgb(255, 215, 0), 128);
/// assert_eq!(layer.pixel(1, 2), Some((Rgb(255, 215, 0), 128)));
/// assert_eq!(layer.on(Rgb(0, 0, 0)).pixel(1, 2), Some(Rgb(128, 108, 0)));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Layer(RgbaImage);

impl From<RgbaImage> for Layer {
    fn from(picture: RgbaImage) -> Self {
        Self(picture)
    }
}

impl From<Layer> for RgbaImage {
    fn from(layer: Layer) -> Self {
        layer.0
    }
}

impl Layer {
    /// Creates a fully transparent layer.
    pub fn new(size: impl Into<Size>) -> Self {
        let size = size.into();
        Self(RgbaImage::new(size.width, size.height))
    }

    /// Creates a layer from `bytes`, 4 per pixel (red, green, blue, alpha) and row by row.
    ///
    /// # Errors
    /// [`Error::Shape`] if the number of bytes is not 4 · width · height.
    pub fn from_bytes(bytes: Vec<u8>, size: impl Into<Size>) -> Result<Self> {
        let Size { width: w, height: h } = size.into();
        let got = vec![bytes.len() as i64];
        // `from_raw` also accepts too many bytes, which belong to a layer of another size.
        let fits = bytes.len() as u64 == 4 * u64::from(h) * u64::from(w);
        let picture = fits.then(|| RgbaImage::from_raw(w, h, bytes)).flatten();
        let expected = || format!("4 bytes for each pixel of {h} rows and {w} columns");
        picture.map(Self).ok_or_else(|| Error::Shape { what: "the layer's bytes", got, expected: expected() })
    }

    /// Opens a PNG, JPEG or WebP file and keeps its alpha; a file without alpha is opaque. 16 bits per channel become
    /// 8. For an animation, the first frame is read.
    ///
    /// # Errors
    /// The errors of [`Raster::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Ok(Self(decode_file(path.as_ref())?.into_rgba8()))
    }

    /// Saves the layer as PNG. The file is written completely or not at all.
    ///
    /// # Errors
    /// [`Error::Parameter`] for an extension other than `.png`, [`Error::Io`] if the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        if !path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("png")) {
            return Err(Error::parameter("path", path.display(), "a name that ends in .png, which keeps alpha"));
        }
        let bytes = self.png().map_err(|source| Error::Image { path: path.into(), source })?;
        write_whole(path, &bytes)
    }

    /// Returns the bytes of the layer as a PNG file.
    pub(super) fn png(&self) -> std::result::Result<Vec<u8>, image::ImageError> {
        let mut bytes = Cursor::new(Vec::new());
        self.0.write_to(&mut bytes, ImageFormat::Png)?;
        Ok(bytes.into_inner())
    }

    /// Returns width and height in pixels.
    pub fn size(&self) -> Size {
        Size::new(self.0.width(), self.0.height())
    }

    /// Returns red, green, blue and alpha of every pixel, row by row.
    pub fn bytes(&self) -> &[u8] {
        self.0.as_raw()
    }

    /// Returns color and alpha `x` columns from the left and `y` rows from the top; `None` outside the layer.
    pub fn pixel(&self, x: u32, y: u32) -> Option<(Rgb, u8)> {
        self.0.get_pixel_checked(x, y).map(|&image::Rgba([red, green, blue, alpha])| (Rgb(red, green, blue), alpha))
    }

    /// Sets color and alpha of one pixel. Outside the layer, nothing happens.
    pub fn set(&mut self, x: u32, y: u32, color: Rgb, alpha: u8) {
        if let Some(pixel) = self.0.get_pixel_mut_checked(x, y) {
            *pixel = image::Rgba([color.0, color.1, color.2, alpha]);
        }
    }

    /// Returns the layer as a mask, white inside the mask, for [`Request::mask`](crate::pipeline::Request::mask). Notes
    /// of the request say which of these readings was taken:
    ///
    /// - opaque everywhere, or in black and white: the white parts;
    /// - in one color, such as white: the opaque parts;
    /// - in black alone, or a picture with a hole, as ComfyUI and GIMP write masks: the transparent parts.
    ///
    /// ```
    /// use impasto::Rgb;
    /// use impasto::raster::Layer;
    /// let mut brush = Layer::new((4, 4));
    /// brush.set(1, 2, Rgb(255, 255, 255), 255);
    /// let mask = brush.mask();
    /// assert_eq!((mask.pixel(1, 2), mask.pixel(0, 0)), (Some(Rgb(255, 255, 255)), Some(Rgb(0, 0, 0))));
    /// ```
    ///
    /// Source: ComfyUI's `LoadImage`, whose mask is 1 − alpha.
    pub fn mask(&self) -> Raster {
        let (pixels, transparency) = read_mask(&self.0);
        Raster { pixels, transparency }
    }

    /// Returns the layer mixed with a background of one color. The transformers library puts transparent pictures on
    /// white before CLIP reads them: `Layer::open(path)?.on(Rgb(255, 255, 255))`.
    pub fn on(&self, background: Rgb) -> Raster {
        over(&self.0, background).into()
    }
}

/// Prints width × height instead of all pixels.
impl std::fmt::Debug for Layer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Layer({})", self.size())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn saved_layer_keeps_its_alpha() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("layer.png");
        let layer = Layer::from_bytes((0..48).collect(), (4, 3))?;
        layer.save(&path)?;
        assert_eq!(Layer::open(&path)?, layer);
        assert!(layer.save(folder.path().join("layer.jpg")).unwrap_err().to_string().contains(".png"));
        let opaque = folder.path().join("opaque.png");
        Raster::flat(Rgb(1, 2, 3), (2, 2)).save(&opaque)?;
        assert_eq!(Layer::open(&opaque)?.pixel(1, 1), Some((Rgb(1, 2, 3), 255)));
        Ok(())
    }

    #[test]
    fn deep_colors_become_bytes() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep.png");
        let deep = image::ImageBuffer::from_pixel(2, 2, image::Rgba([0x0102u16, 0x8000, 0xffff, 0x7f7f]));
        image::DynamicImage::ImageRgba16(deep).save(&path).unwrap();
        assert_eq!(Layer::open(&path)?.pixel(0, 0), Some((Rgb(1, 128, 255), 127)));
        Ok(())
    }

    #[test]
    fn bytes_of_another_size_are_refused() {
        assert!(Layer::from_bytes(vec![0; 12], (2, 2)).unwrap_err().to_string().contains("4 bytes for each pixel"));
    }
}
