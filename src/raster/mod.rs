//! Pictures as bytes: opened from files, drawn on, and saved.
//!
//! ```
//! use impasto::{Rgb, raster::{Filter, Raster}};
//! # let folder = std::env::temp_dir();
//! let mut picture = Raster::flat(Rgb(255, 215, 0), (48, 32));
//! picture.set(0, 0, Rgb(0, 0, 0));
//! picture.resize((96, 64), Filter::Nearest)?.save(folder.join("gold.png"))?;
//! # std::fs::remove_file(folder.join("gold.png")).ok();
//! # Ok::<(), impasto::Error>(())
//! ```

mod exif;
mod layer;
mod png;
mod resample;
mod transparency;

pub(crate) use self::png::{read_embedded_picture, unpacked};
pub(crate) use transparency::Transparency;

use crate::color::Rgb;
use crate::error::{Error, Result};
use crate::files::{self, write_new, write_whole};
use image::codecs::jpeg::JpegEncoder;
use image::error::{DecodingError, ImageFormatHint};
use image::metadata::Orientation;
use image::{
    DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, ImageResult, Limits, RgbImage, imageops,
};
pub use layer::Layer;
pub use resample::Filter;

use crate::size::Size;
use crate::wording::Remedy;
use ndarray::Array3;
use resample::resample;
use std::borrow::Cow;
use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, Seek};
use std::ops::Range;
use std::path::Path;
use tch::{Device, Kind, Tensor};
use transparency::flatten;

/// Quality of JPEG files, 1..=100; 95 shows no blocks in flat colors.
const JPEG_QUALITY: u8 = 95;

/// An RGB picture of 8 bits per channel.
///
/// A [`Size`] is given as width, then height; a part of a picture is given as rows, then columns. A pixel is at `x`,
/// `y` from the upper left corner. Pictures are equal if all pixels are equal.
#[derive(Clone)]
pub struct Raster {
    pixels: RgbImage,
    /// The treatment of transparency when the picture was opened, for notes.
    pub(crate) transparency: Transparency,
}

impl PartialEq for Raster {
    fn eq(&self, other: &Self) -> bool {
        self.pixels == other.pixels
    }
}

impl Eq for Raster {}

impl From<RgbImage> for Raster {
    fn from(pixels: RgbImage) -> Self {
        Self { pixels, transparency: Transparency::None }
    }
}

impl<'p> From<&'p Raster> for Cow<'p, Raster> {
    fn from(picture: &'p Raster) -> Self {
        Self::Borrowed(picture)
    }
}

impl From<Raster> for Cow<'_, Raster> {
    fn from(picture: Raster) -> Self {
        Self::Owned(picture)
    }
}

impl From<Raster> for RgbImage {
    fn from(picture: Raster) -> Self {
        picture.pixels
    }
}

/// Conversion of any picture to 8 bits of red, green and blue. Transparent parts become white, as in [`Raster::open`];
/// [`Layer::on`] puts another color behind them.
impl From<DynamicImage> for Raster {
    fn from(picture: DynamicImage) -> Self {
        let (pixels, transparency) = flatten(picture);
        Self { pixels, transparency }
    }
}

impl From<Raster> for DynamicImage {
    fn from(picture: Raster) -> Self {
        Self::ImageRgb8(picture.pixels)
    }
}

/// Conversion to an array of rows × columns × 3 (red, green, blue).
impl From<&Raster> for Array3<u8> {
    fn from(picture: &Raster) -> Self {
        let [width, height] = [picture.pixels.width(), picture.pixels.height()].map(|side| side as usize);
        let pixel = |(y, x, channel): (usize, usize, usize)| {
            picture.bytes().get(3 * (y * width + x) + channel).copied().unwrap_or_default()
        };
        Self::from_shape_fn((height, width, 3), pixel)
    }
}

/// # Errors
/// [`Error::Shape`] unless the array is rows × columns × 3.
impl TryFrom<&Array3<u8>> for Raster {
    type Error = Error;

    fn try_from(pixels: &Array3<u8>) -> Result<Self> {
        let (h, w, channels) = pixels.dim();
        match (u32::try_from(h), u32::try_from(w), channels) {
            (Ok(h), Ok(w), 3) => Self::from_bytes(pixels.iter().copied().collect(), (w, h)),
            _ => {
                let got = vec![h as i64, w as i64, channels as i64];
                Err(Error::Shape { what: "the picture's pixels", got, expected: "[rows, columns, 3]".into() })
            }
        }
    }
}

impl Raster {
    /// Creates a picture of one color.
    pub fn flat(color: Rgb, size: impl Into<Size>) -> Self {
        let size = size.into();
        RgbImage::from_pixel(size.width, size.height, image::Rgb([color.0, color.1, color.2])).into()
    }

    /// Creates a picture from `bytes`, 3 per pixel (red, green, blue) and row by row.
    ///
    /// # Errors
    /// [`Error::Shape`] if the number of bytes is not 3 · width · height.
    pub fn from_bytes(bytes: Vec<u8>, size: impl Into<Size>) -> Result<Self> {
        let Size { width: w, height: h } = size.into();
        let got = vec![bytes.len() as i64];
        // `from_raw` also accepts too many bytes, which belong to a picture of another size.
        let fits = bytes.len() as u64 == 3 * u64::from(h) * u64::from(w);
        let picture = fits.then(|| RgbImage::from_raw(w, h, bytes)).flatten();
        let expected = || format!("3 bytes for each pixel of {h} rows and {w} columns");
        picture.map(Self::from).ok_or_else(|| Error::Shape { what: "the picture's bytes", got, expected: expected() })
    }

    /// Creates a picture from a tensor in -1..=1, [3, H, W] or [1, 3, H, W], of any kind and on any device. Values
    /// outside that range are clamped.
    ///
    /// Values are rounded to the nearest byte, and halves to the even byte, as in diffusers' `VaeImageProcessor`.
    ///
    /// # Errors
    /// [`Error::Shape`] for other shapes, [`Error::Parameter`] if a value is not a number.
    pub fn from_tensor(picture: &Tensor) -> Result<Self> {
        let (h, w) = match *picture.size() {
            [3, h, w] | [1, 3, h, w] if h > 0 && w > 0 => (h, w),
            _ => {
                let expected = "[3, H, W] or [1, 3, H, W]; take one picture of a batch with get(i)".into();
                return Err(Error::Shape { what: "the picture", got: picture.size(), expected });
            }
        };
        let picture = picture.f_reshape([3, h, w])?.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?;
        if picture.f_isnan()?.f_any()?.f_int64_value(&[])? != 0 {
            let expected = Remedy::VaePrecision.after("a number in every pixel");
            return Err(Error::parameter("picture", "not a number in some pixels", expected));
        }
        let unit = picture.f_div_scalar(2)?.f_add_scalar(0.5)?.f_clamp(0, 1)?;
        let rows = unit.f_mul_scalar(255)?.f_round()?.f_to_kind(Kind::Uint8)?.f_permute([1, 2, 0])?.f_contiguous()?;
        let mut bytes = vec![0; rows.numel()];
        let count = bytes.len();
        rows.f_copy_data_u8(&mut bytes, count)?;
        Self::from_bytes(bytes, (w as u32, h as u32))
    }

    /// Creates the pictures of a batch in -1..=1, [n, 3, H, W], as [`from_tensor`](Self::from_tensor) does.
    pub(crate) fn each(pictures: &Tensor) -> Result<Vec<Self>> {
        (0..pictures.size4()?.0).map(|image| Self::from_tensor(&pictures.f_select(0, image)?)).collect()
    }

    /// Converts the picture to a tensor [1, 3, H, W] of f32 in -1..=1.
    ///
    /// # Errors
    /// Errors of libtorch, such as a missing device.
    pub fn to_tensor(&self, device: Device) -> Result<Tensor> {
        let Size { width, height } = self.size();
        let size = [1, i64::from(height), i64::from(width), 3];
        let bytes = Tensor::f_from_data_size(self.pixels.as_raw(), &size, Kind::Uint8)?.f_to_device(device)?;
        let unit = bytes.f_permute([0, 3, 1, 2])?.f_contiguous()?.f_to_kind(Kind::Float)?.f_div_scalar(255)?;
        Ok(unit.f_mul_scalar(2)?.f_sub_scalar(1)?)
    }

    /// Opens a PNG, JPEG or WebP file and turns it upright by the orientation in its metadata. The format is recognized
    /// by the content, not by the file's name. For an animation, the first frame is read.
    ///
    /// Transparent parts become white; if all other parts are white, black. [`Layer::open`] keeps transparency, and
    /// [`Layer::mask`] reads the shape of a mask from it.
    ///
    /// # Errors
    /// - [`Error::Io`] if the file cannot be read or is no regular file.
    /// - [`Error::Image`] if the file cannot be decoded, or decoding takes more than 512 MiB. For a file shorter than
    ///   32 kB the limit is 16,384 bytes per byte of the file, but at least 16 MiB.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Ok(decode_file(path.as_ref())?.into())
    }

    /// Returns the size of the picture in a file, turned upright as by [`open`](Self::open). No pixel is decoded.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read or is no regular file; [`Error::Image`] if its header cannot be
    /// decoded.
    pub fn size_of(path: impl AsRef<Path>) -> Result<Size> {
        let path = path.as_ref();
        let (reader, length) = reader(path)?;
        let upright = || -> ImageResult<Size> {
            let (mut decoder, _) = decoder(reader, length)?;
            let (width, height) = decoder.dimensions();
            let lies = matches!(
                decoder.orientation()?,
                Orientation::Rotate90
                    | Orientation::Rotate270
                    | Orientation::Rotate90FlipH
                    | Orientation::Rotate270FlipH
            );
            Ok(if lies { Size::new(height, width) } else { Size::new(width, height) })
        };
        upright().map_err(|source| Error::Image { path: path.into(), source })
    }

    /// Saves as PNG, JPEG (quality 95) or WebP (lossless), by the extension of `path`.
    ///
    /// The file is written completely or not at all: a temporary file beside `path` is moved into place.
    ///
    /// # Errors
    /// [`Error::Parameter`] for another extension, [`Error::Io`] if the folder is missing or cannot be written to,
    /// [`Error::Image`] if the format cannot hold the picture.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        write_whole(path.as_ref(), &self.encoded(path.as_ref())?)
    }

    /// Saves as [`save`](Self::save) does, but never replaces a file, as
    /// [`files::write_new`] explains.
    ///
    /// # Errors
    /// The errors of [`save`](Self::save); [`Error::Io`] with [`AlreadyExists`](std::io::ErrorKind::AlreadyExists) if a
    /// file has the name `path` already.
    pub fn save_new(&self, path: impl AsRef<Path>) -> Result<()> {
        write_new(path.as_ref(), &self.encoded(path.as_ref())?)
    }

    /// Returns the bytes of a file of the format that the extension of `path` names.
    fn encoded(&self, path: &Path) -> Result<Vec<u8>> {
        let extension = path.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase());
        let mut bytes = Cursor::new(Vec::new());
        let encoded = match extension.as_deref() {
            Some("png") => self.pixels.write_to(&mut bytes, ImageFormat::Png),
            Some("jpg" | "jpeg") => {
                self.pixels.write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY))
            }
            Some("webp") => self.pixels.write_to(&mut bytes, ImageFormat::WebP),
            _ => {
                return Err(Error::parameter("path", path.display(), "a name that ends in .png, .jpg, .jpeg or .webp"));
            }
        };
        encoded.map_err(|source| Error::Image { path: path.into(), source })?;
        Ok(bytes.into_inner())
    }

    /// Returns width and height in pixels.
    pub fn size(&self) -> Size {
        Size::new(self.pixels.width(), self.pixels.height())
    }

    /// Returns red, green and blue of every pixel, row by row.
    pub fn bytes(&self) -> &[u8] {
        self.pixels.as_raw()
    }

    /// Returns the color `x` columns from the left and `y` rows from the top; `None` outside the picture.
    pub fn pixel(&self, x: u32, y: u32) -> Option<Rgb> {
        self.pixels.get_pixel_checked(x, y).map(|&image::Rgb([red, green, blue])| Rgb(red, green, blue))
    }

    /// Sets the color of one pixel. Outside the picture, nothing happens.
    pub fn set(&mut self, x: u32, y: u32, color: Rgb) {
        if let Some(pixel) = self.pixels.get_pixel_mut_checked(x, y) {
            *pixel = image::Rgb([color.0, color.1, color.2]);
        }
    }

    /// Returns the picture resized to `size`.
    ///
    /// # Errors
    /// [`Error::Parameter`] if width or height is 0.
    pub fn resize(&self, size: impl Into<Size>, filter: Filter) -> Result<Self> {
        let size = size.into();
        self.resize_part(size, 0..size.height, 0..size.width, filter)
    }

    /// Returns the part `rows` × `columns` of the picture resized to `size`. The rest is not computed.
    ///
    /// # Errors
    /// [`Error::Parameter`] if width or height is 0.
    pub(crate) fn resize_part(
        &self,
        size: Size,
        rows: Range<u32>,
        columns: Range<u32>,
        filter: Filter,
    ) -> Result<Self> {
        if size.width == 0 || size.height == 0 {
            return Err(Error::parameter("size", size, "at least one row and one column"));
        }
        let (rows, columns) = (rows.start..rows.end.min(size.height), columns.start..columns.end.min(size.width));
        let part = Size::new(columns.len() as u32, rows.len() as u32);
        Self::from_bytes(resample(self.bytes(), self.size(), size, (rows, columns), filter), part)
    }

    /// Returns a part of the picture.
    ///
    /// # Errors
    /// [`Error::Parameter`] if the part is empty or reaches beyond the picture.
    pub fn crop(&self, rows: Range<u32>, columns: Range<u32>) -> Result<Self> {
        if rows.is_empty() || columns.is_empty() || rows.end > self.pixels.height() || columns.end > self.pixels.width()
        {
            let value = format!("rows {rows:?}, columns {columns:?} of {self:?}");
            return Err(Error::parameter("crop", value, "rows and columns inside the picture, at least one of each"));
        }
        let (w, h) = (columns.end - columns.start, rows.end - rows.start);
        Ok(imageops::crop_imm(&self.pixels, columns.start, rows.start, w, h).to_image().into())
    }

    /// Draws `other` with its upper left corner at (`x`, `y`). Pixels beyond the picture are left out.
    pub fn paste(&mut self, other: &Self, x: u32, y: u32) {
        imageops::replace(&mut self.pixels, &other.pixels, x.into(), y.into());
    }
}

/// Prints width × height instead of all pixels.
impl std::fmt::Debug for Raster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Raster({})", self.size())
    }
}

/// Limit in bytes of a picture's file, and of the memory to decode it, including its pixels as RGB. The limit is needed
/// because a file of 100 kB may decode to gigabytes of pixels.
pub(crate) const LARGEST: u64 = 512 << 20;
/// Bytes that decoding may always take, even for a very short file.
const SMALL: u64 = 16 << 20;
/// Bytes of pixels to which each byte of a longer file may decode. The value is sixteen times the highest ratio that
/// the compression of PNG files with 8 bits per channel can reach.
const DENSEST: u64 = 1 << 14;

/// Opens a picture and turns it upright.
fn decode_file(path: &Path) -> Result<DynamicImage> {
    let (reader, length) = reader(path)?;
    decode(reader, length).map_err(|source| Error::Image { path: path.into(), source })
}

/// Opens a picture's file, and returns its length in bytes too.
fn reader(path: &Path) -> Result<(ImageReader<BufReader<File>>, u64)> {
    let file = files::open(path)?;
    let length = file.metadata().map_err(|source| Error::io(path, source))?.len();
    check_length(path, length)?;
    let reader = ImageReader::new(BufReader::new(file)).with_guessed_format();
    Ok((reader.map_err(|source| Error::io(path, source))?, length))
}

/// Checks the length in bytes of a picture's file.
fn check_length(path: &Path, length: u64) -> Result<()> {
    if length <= LARGEST {
        return Ok(());
    }
    let problem =
        format!("the file has {length} bytes; expected at most {} MiB; make the picture smaller", LARGEST >> 20);
    Err(Error::Malformed { file: path.display().to_string(), problem })
}

/// Returns the decoder of a picture whose file has `length` bytes, and the number of bytes that decoding may take.
fn decoder<'r>(
    mut reader: ImageReader<impl BufRead + Seek + 'r>,
    length: u64,
) -> ImageResult<(impl ImageDecoder + 'r, u64)> {
    let most = length.saturating_mul(DENSEST).clamp(SMALL, LARGEST);
    let mut limits = Limits::default();
    limits.max_alloc = Some(most);
    reader.limits(limits); // limits decoders' memory beside the pixels
    Ok((reader.into_decoder()?, most))
}

/// Decodes a picture whose file has `length` bytes, and turns it upright. Decoding takes at most [`LARGEST`] bytes, and
/// fewer for a short file. A header of a hundred bytes may claim a huge picture, and decoders allocate memory for that
/// picture before they find the file too short.
fn decode(reader: ImageReader<impl BufRead + Seek>, length: u64) -> ImageResult<DynamicImage> {
    let format = reader.format().map_or(ImageFormatHint::Unknown, ImageFormatHint::Exact);
    let (mut decoder, most) = decoder(reader, length)?;
    let (width, height) = decoder.dimensions();
    let bytes = decoder.total_bytes().max(3 * u64::from(width) * u64::from(height));
    if bytes > most {
        let [bytes, most] = [bytes, most].map(|bytes| bytes >> 20);
        let problem = format!(
            "{width}×{height} pixels take {bytes} MiB; expected at most {most} MiB for a file of {length} bytes; make the \
             picture smaller"
        );
        return Err(ImageError::Decoding(DecodingError::new(format, problem)));
    }
    let orientation = decoder.orientation()?;
    let mut picture = DynamicImage::from_decoder(decoder)?;
    picture.apply_orientation(orientation);
    Ok(picture)
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::ImageEncoder;

    fn names(folder: &Path) -> Vec<String> {
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// Returns a picture in which red grows to the right and green grows downward.
    fn slope(h: u32, w: u32) -> Raster {
        let mut picture = Raster::flat(Rgb(0, 0, 7), (w, h));
        for (x, y) in (0..h).flat_map(|y| (0..w).map(move |x| (x, y))) {
            picture.set(x, y, Rgb(x as u8 * 10, y as u8 * 10, 7));
        }
        picture
    }

    #[test]
    fn every_byte_survives_a_tensor() -> Result<()> {
        let picture = Raster::from_bytes((0..=255).chain(0..=127).collect(), (16, 8))?;
        let tensor = picture.to_tensor(Device::Cpu)?;
        assert_eq!(tensor.size(), [1, 3, 8, 16]);
        assert_eq!(Raster::from_tensor(&tensor)?, picture);
        assert_eq!(Raster::from_tensor(&tensor.get(0))?, picture);
        Ok(())
    }

    #[test]
    fn values_are_clamped_and_rounded_as_diffusers_does() -> Result<()> {
        // 0.0 is byte 127.5, which rounds to the even 128. The bytes 0.6 and 0.4 round to 1 and 0.
        let values = [0.0, -9.0, 9.0, -1.0 + 1.2 / 255.0, -1.0 + 0.8 / 255.0, 1.0f64];
        let tensor = Tensor::from_slice(&values).reshape([3, 1, 2]);
        assert_eq!(Raster::from_tensor(&tensor)?.bytes(), [128, 255, 0, 0, 1, 255]);
        Ok(())
    }

    #[test]
    fn tensors_that_are_no_picture_are_refused() {
        let message = |tensor: &Tensor| Raster::from_tensor(tensor).expect_err("refused").to_string();
        assert!(message(&Tensor::zeros([2, 3, 4, 4], (Kind::Float, Device::Cpu))).contains("one picture of a batch"));
        assert!(message(&Tensor::full([3, 4, 4], f64::NAN, (Kind::Float, Device::Cpu))).contains("not a number"));
        assert!(Raster::from_bytes(vec![0; 13], (2, 2)).is_err());
    }

    #[test]
    fn saved_file_keeps_the_picture() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let picture = slope(12, 20);
        for name in ["a.png", "a.WEBP"] {
            let path = folder.path().join(name);
            picture.save(&path)?;
            assert_eq!(Raster::open(&path)?, picture);
        }
        let path = folder.path().join("a.jpg");
        picture.save(&path)?;
        let (got, want) = (Raster::open(&path)?.to_tensor(Device::Cpu)?, picture.to_tensor(Device::Cpu)?);
        assert!((got - want).abs().mean(Kind::Float).double_value(&[]) < 0.05);
        Ok(())
    }

    #[test]
    fn size_of_file_is_that_of_upright_picture() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jpg");
        // A list of one tag: the orientation.
        let tag = |orientation: u8| {
            [&b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0"[..], &[orientation, 0, 0, 0, 0, 0, 0]].concat()
        };
        for (orientation, want) in [(1, (20, 12)), (3, (20, 12)), (6, (12, 20)), (8, (12, 20))] {
            let mut bytes = Vec::new();
            let mut encoder = JpegEncoder::new(&mut bytes);
            encoder.set_exif_metadata(tag(orientation)).unwrap();
            slope(12, 20).pixels.write_with_encoder(encoder).unwrap();
            std::fs::write(&path, bytes).unwrap();
            assert_eq!((Raster::size_of(&path)?, Raster::open(&path)?.size()), (want.into(), want.into()));
        }
        std::fs::write(&path, "no picture").unwrap();
        assert!(matches!(Raster::size_of(&path), Err(Error::Image { .. })));
        Ok(())
    }

    #[test]
    fn save_over_an_existing_file_replaces_it_whole() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        std::fs::write(&path, vec![1; 100_000]).unwrap();
        slope(4, 4).save(&path)?;
        assert_eq!(Raster::open(&path)?, slope(4, 4));
        assert_eq!(names(folder.path()), ["a.png"]);
        Ok(())
    }

    #[test]
    fn save_of_a_new_file_keeps_an_old_one() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        slope(4, 4).save_new(&path)?;
        let error = slope(8, 8).save_new(&path).expect_err("taken").to_string();
        assert!(error.contains("a file has this name already and stays unchanged"), "{error}");
        assert_eq!((Raster::open(&path)?, names(folder.path())), (slope(4, 4), vec!["a.png".into()]));
        Ok(())
    }

    #[test]
    fn a_failed_save_leaves_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("taken.png");
        std::fs::create_dir(&place).unwrap();
        let picture = slope(4, 4);
        assert!(picture.save(&place).is_err(), "a folder is in its place");
        let message = picture.save(folder.path().join("none/a.png")).expect_err("no folder").to_string();
        assert!(message.contains("none: this folder does not exist; create it first"), "{message}");
        for name in ["a.bmp", "a", ".png"] {
            let message = picture.save(folder.path().join(name)).expect_err(name).to_string();
            assert!(message.contains("ends in .png, .jpg, .jpeg or .webp"), "{message}");
        }
        // A JPEG is at most 65535 pixels wide.
        assert!(Raster::flat(Rgb(0, 0, 0), (70_000, 1)).save(folder.path().join("wide.jpg")).is_err());
        assert_eq!(names(folder.path()), ["taken.png"]);
    }

    #[test]
    fn missing_or_broken_picture_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        assert!(Raster::open(&path).expect_err("missing").to_string().contains("a.png"));
        std::fs::write(&path, "text").unwrap();
        assert!(matches!(Raster::open(&path), Err(Error::Image { .. })));
    }

    #[test]
    fn a_background_shows_where_a_picture_is_transparent() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        let pixel = |alpha: u32| image::Rgba([200, 100, 0, [0, 51, 255][alpha as usize]]);
        image::RgbaImage::from_fn(3, 1, |x, _| pixel(x)).save(&path).unwrap();
        let white = Layer::open(&path)?.on(Rgb(255, 255, 255));
        assert_eq!(Raster::open(&path)?, white);
        assert_eq!(white.bytes(), [255, 255, 255, 244, 224, 204, 200, 100, 0]); // a fifth: 255 − 55/5, 155/5, 255/5
        assert_eq!(Layer::open(&path)?.on(Rgb(0, 10, 9)).bytes()[..6], [0, 10, 9, 40, 28, 7]);

        slope(4, 4).save(&path)?;
        assert_eq!(Layer::open(&path)?.on(Rgb(1, 2, 3)), slope(4, 4));
        assert!(matches!(Layer::open(folder.path().join("none")), Err(Error::Io { .. })));
        Ok(())
    }

    #[test]
    fn crop_and_resize_keep_pixels() -> Result<()> {
        let picture = slope(6, 8);
        let part = picture.crop(1..4, 2..7)?;
        assert_eq!(part.size(), Size::new(5, 3));
        assert_eq!((part.pixel(0, 0), part.pixel(5, 0)), (picture.pixel(2, 1), None));
        assert!(picture.crop(0..7, 0..8).is_err() && picture.crop(3..3, 0..8).is_err());

        let large = picture.resize((16, 12), Filter::Nearest)?;
        assert_eq!(large.pixel(15, 11), picture.pixel(7, 5));
        assert_eq!(large.resize((8, 6), Filter::Nearest)?, picture);
        assert_eq!(
            Raster::flat(Rgb(9, 8, 7), (5, 5)).resize((9, 3), Filter::Bilinear)?,
            Raster::flat(Rgb(9, 8, 7), (9, 3))
        );
        assert!(picture.resize((4, 0), Filter::Bilinear).is_err());
        assert_eq!(format!("{picture:?}"), "Raster(8×6)");
        Ok(())
    }

    #[test]
    fn pictures_and_arrays_convert_without_loss() -> Result<()> {
        let pixels = Array3::from_shape_fn((2, 3, 3), |(y, x, channel)| (100 * y + 10 * x + channel) as u8);
        let picture = Raster::try_from(&pixels)?;
        assert_eq!((picture.size(), picture.pixel(2, 1)), (Size::new(3, 2), Some(Rgb(120, 121, 122))));
        assert_eq!(Array3::from(&picture), pixels);
        assert_eq!(Raster::from(RgbImage::from(picture.clone())), picture);
        assert_eq!(Raster::from(DynamicImage::from(picture.clone())), picture);
        let gray = Array3::zeros((2, 3, 1));
        assert!(Raster::try_from(&gray).unwrap_err().to_string().contains("[rows, columns, 3]"));
        Ok(())
    }
}
