//! [`Upload`]: a picture that a client of another program's API sends.

use crate::options::Options;
use crate::refusal::Refusal;
use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::prelude::BASE64_STANDARD;
use impasto::image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader};
use std::io::Cursor;

/// Beginning of the data URLs that a job takes.
const PNG: &str = "data:image/png;base64,";
/// Base64 of careless clients, who leave out the padding.
const CARELESS: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A picture that a client sends as a PNG, JPEG or WebP file. Its header says that its size is within the limits.
pub(crate) struct Upload {
    field: &'static str,
    file: Vec<u8>,
    format: ImageFormat,
}

impl Upload {
    /// Reads a file in base64, which may be the end of a data URL.
    ///
    /// # Errors
    /// A refusal of a text that is no base64, or of more than the size of a request; the refusals of
    /// [`from_file`](Self::from_file).
    pub(crate) fn from_base64(field: &'static str, text: &str, options: &Options) -> Result<Self, Refusal> {
        let expected = "expected a PNG, JPEG or WebP file in base64";
        if text.starts_with("http://") || text.starts_with("https://") {
            let sentence = format!("{field} is an address, and the studio loads nothing from elsewhere; {expected}");
            return Err(Refusal::field(field, sentence));
        }
        let encoded = match text.split_once("base64,") {
            Some((head, encoded)) if head.starts_with("data:") => encoded,
            _ => text,
        };
        if encoded.len() / 4 > options.file() / 3 {
            return Err(Refusal::too_large(options.file()));
        }
        let file = CARELESS.decode(encoded.trim());
        let file =
            file.map_err(|error| Refusal::field(field, format!("{field} is no base64 ({error}); {expected}")))?;
        Self::from_file(field, file, options)
    }

    /// Reads the header of a file.
    ///
    /// # Errors
    /// A refusal of bytes that are no picture, and of a picture with a side of more than twice the limit for a run.
    pub(crate) fn from_file(field: &'static str, file: Vec<u8>, options: &Options) -> Result<Self, Refusal> {
        let most = options.side.saturating_mul(2);
        let unknown = || Refusal::field(field, format!("{field} is no picture; expected a PNG, JPEG or WebP file"));
        let reader = ImageReader::new(Cursor::new(&file)).with_guessed_format().map_err(|_| unknown())?;
        let format = reader.format().ok_or_else(unknown)?;
        if ![ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP].contains(&format) {
            return Err(unknown());
        }
        let (width, height) = reader.into_dimensions().map_err(|error| broken(field, &error))?;
        if width.max(height) > most || width.min(height) == 0 {
            let sentence = format!("{field} has {width}×{height} pixels; expected sides of 1 to {most}");
            return Err(Refusal::field(field, sentence));
        }
        Ok(Self { field, file, format })
    }

    /// Returns the bytes of the file.
    pub(crate) fn into_file(self) -> Vec<u8> {
        self.file
    }

    /// Decodes the picture, turned upright.
    ///
    /// # Errors
    /// A refusal of a broken file.
    pub(crate) fn decode(&self) -> Result<DynamicImage, Refusal> {
        let decoded = || -> Result<DynamicImage, ImageError> {
            let mut decoder = ImageReader::with_format(Cursor::new(&self.file), self.format).into_decoder()?;
            let orientation = decoder.orientation()?;
            let mut picture = DynamicImage::from_decoder(decoder)?;
            picture.apply_orientation(orientation);
            Ok(picture)
        };
        decoded().map_err(|error| broken(self.field, &error))
    }

    /// Returns the picture as a job takes it.
    ///
    /// # Errors
    /// A refusal of a broken file.
    pub(crate) fn data_url(&self) -> Result<String, Refusal> {
        match self.format {
            ImageFormat::Png => Ok(PNG.to_owned() + &BASE64_STANDARD.encode(&self.file)),
            _ => encode(self.field, &self.decode()?.into_rgb8().into()),
        }
    }

    /// Returns a picture that was made of the upload, as a job takes it.
    ///
    /// # Errors
    /// A refusal of a picture that cannot be encoded.
    pub(crate) fn url_of(&self, made: impl Into<DynamicImage>) -> Result<String, Refusal> {
        encode(self.field, &made.into())
    }
}

/// Refuses a broken file.
fn broken(field: &'static str, error: &ImageError) -> Refusal {
    Refusal::field(field, format!("{field} cannot be read: {error}"))
}

/// Returns a picture as PNG in a data URL.
fn encode(field: &'static str, picture: &DynamicImage) -> Result<String, Refusal> {
    let mut png = Cursor::new(Vec::new());
    picture.write_to(&mut png, ImageFormat::Png).map_err(|error| broken(field, &error))?;
    Ok(PNG.to_owned() + &BASE64_STANDARD.encode(png.into_inner()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use impasto::{Raster, Rgb};

    fn refused(text: &str) -> String {
        Upload::from_base64("mask", text, &Options::default()).err().unwrap().sentence
    }

    #[test]
    fn picture_is_read_with_and_without_its_type() {
        let url = Raster::flat(Rgb(9, 8, 7), (4, 2)).data_url().unwrap();
        let bare = url.strip_prefix(PNG).unwrap();
        for text in [url.as_str(), bare, bare.trim_end_matches('='), &format!("{bare}\n")] {
            let upload = Upload::from_base64("mask", text, &Options::default()).unwrap();
            assert_eq!(upload.data_url().unwrap(), url);
        }
    }

    #[test]
    fn jpeg_becomes_a_png() {
        let mut jpeg = Cursor::new(Vec::new());
        DynamicImage::from(Raster::flat(Rgb(200, 100, 50), (8, 4))).write_to(&mut jpeg, ImageFormat::Jpeg).unwrap();
        let upload = Upload::from_file("image", jpeg.into_inner(), &Options::default()).unwrap();
        assert!(upload.data_url().unwrap().starts_with(PNG));
        assert_eq!((upload.decode().unwrap().width(), upload.decode().unwrap().height()), (8, 4));
    }

    #[test]
    fn unfit_pictures_are_named() {
        let mut png = Raster::flat(Rgb(0, 0, 0), (2, 2)).to_png(&[]).unwrap();
        png.splice(16..24, [65536_u32.to_be_bytes(), 65536_u32.to_be_bytes()].concat());
        assert!(refused(&BASE64_STANDARD.encode(png)).contains("mask"), "a large picture by its header");
        let wide = Raster::flat(Rgb(0, 0, 0), (4096, 1)).data_url().unwrap();
        assert_eq!(refused(&wide), "mask has 4096×1 pixels; expected sides of 1 to 2048");
        assert!(refused("https://example.com/a.png").contains("loads nothing from elsewhere"));
        assert!(refused("!").contains("no base64") && refused("AAAA").contains("no picture"));
    }
}
