//! PNG beyond pixels: text beside them, and pictures inside of texts.

use super::{Raster, write_whole};
use crate::error::{Error, Result};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use image::ImageFormat;
use png::text_metadata::{ITXtChunk, TEXtChunk, ZTXtChunk};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use std::borrow::Cow;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

/// Bytes of the longest compressed text: a few may stand for gigabytes.
const LONGEST: usize = 1 << 26;
const DATA_URL: &str = "data:image/png;base64,";

impl Raster {
    /// Saves as PNG with texts, each under a keyword, as other programs do: Latin-1 where that has all letters (`tEXt`), else
    /// UTF-8 (`iTXt`). The file is there complete or not at all.
    ///
    /// ```
    /// use impasto::{Raster, Rgb};
    /// # let path = std::env::temp_dir().join("impasto-texts.png");
    /// Raster::flat(Rgb(255, 215, 0), 8, 8).save_with_texts(&path, &[("Title", "gold")])?;
    /// assert_eq!(Raster::texts(&path)?, [("Title".to_owned(), "gold".to_owned())]);
    /// # std::fs::remove_file(path).ok();
    /// # Ok::<(), impasto::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Parameter`] unless `path` ends in .png and keywords are 1 to 79 Latin-1 letters, [`Error::Io`].
    pub fn save_with_texts(&self, path: impl AsRef<Path>, texts: &[(&str, &str)]) -> Result<()> {
        let path = path.as_ref();
        if !path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("png")) {
            let expected = "a name that ends in .png; other formats have no place for texts, save has them";
            return Err(Error::parameter("path", path.display(), expected));
        }
        write_whole(path, &self.png(texts)?)
    }

    /// The texts of a PNG file with their keywords, in no particular order.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read, [`Error::Malformed`] if it is no PNG or broken.
    pub fn texts(path: impl AsRef<Path>) -> Result<Vec<(String, String)>> {
        let path = path.as_ref();
        let malformed = |problem: png::DecodingError| match problem {
            png::DecodingError::IoError(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => {
                Error::io(path, error)
            }
            problem => Error::Malformed { file: path.display().to_string(), problem: problem.to_string() },
        };
        let file = BufReader::new(File::open(path).map_err(|error| Error::io(path, error))?);
        let mut reader = png::Decoder::new(file).read_info().map_err(malformed)?;
        reader.finish().map_err(malformed)?; // texts may stand after the pixels
        let info = reader.info();
        let mut texts: Vec<(String, String)> = Vec::new();
        for TEXtChunk { keyword, text } in &info.uncompressed_latin1_text {
            texts.push((keyword.clone(), text.clone()));
        }
        for chunk in &info.compressed_latin1_text {
            let mut chunk: ZTXtChunk = chunk.clone();
            chunk.decompress_text_with_limit(LONGEST).map_err(malformed)?;
            texts.push((chunk.keyword.clone(), chunk.get_text().map_err(malformed)?));
        }
        for chunk in &info.utf8_text {
            let mut chunk = chunk.clone();
            chunk.decompress_text_with_limit(LONGEST).map_err(malformed)?;
            texts.push((chunk.keyword.clone(), chunk.get_text().map_err(malformed)?));
        }
        Ok(texts)
    }

    /// The bytes of a PNG file.
    pub(crate) fn png(&self, texts: &[(&str, &str)]) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut info = png::Info::with_size(self.width(), self.height());
        (info.color_type, info.bit_depth) = (png::ColorType::Rgb, png::BitDepth::Eight);
        for (keyword, text) in texts {
            if text.chars().all(|letter| u32::from(letter) < 256) {
                info.uncompressed_latin1_text.push(TEXtChunk::new(*keyword, *text));
            } else {
                info.utf8_text.push(ITXtChunk::new(*keyword, *text));
            }
        }
        let written = png::Encoder::with_info(&mut bytes, info)
            .and_then(png::Encoder::write_header)
            .and_then(|mut writer| writer.write_image_data(self.bytes()).and_then(|()| writer.finish()));
        match written {
            Ok(()) => Ok(bytes),
            Err(problem) => Err(Error::Malformed { file: "PNG".into(), problem: problem.to_string() }),
        }
    }

    /// The picture as a PNG in a URL.
    pub(crate) fn data_url(&self) -> Result<String> {
        Ok(DATA_URL.to_owned() + &BASE64_STANDARD.encode(self.png(&[])?))
    }
}

/// As a PNG in a data URL.
impl Serialize for Raster {
    fn serialize<S: Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        self.data_url().map_err(ser::Error::custom)?.serialize(to)
    }
}

impl<'de> Deserialize<'de> for Raster {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        let url = Cow::<str>::deserialize(from)?;
        let encoded = url.strip_prefix(DATA_URL).ok_or_else(|| de::Error::custom("expected a PNG in a data URL"))?;
        let bytes = BASE64_STANDARD.decode(encoded).map_err(de::Error::custom)?;
        let picture = image::load_from_memory_with_format(&bytes, ImageFormat::Png).map_err(de::Error::custom)?;
        Ok(Self(picture.into_rgb8()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::color::Rgb;

    fn picture() -> Raster {
        Raster::from_bytes((0..=255).chain(0..=127).collect(), 8, 16).unwrap()
    }

    #[test]
    fn texts_of_any_letters_survive_beside_the_pixels() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.PNG");
        let long = "猫 ".repeat(20_000);
        picture().save_with_texts(&path, &[("parameters", "1girl, naïve\nSteps: 28"), ("long", &long)])?;
        let mut texts = Raster::texts(&path)?;
        texts.sort();
        let own = |text: (&str, &str)| (text.0.to_owned(), text.1.to_owned());
        assert_eq!(texts, [own(("long", &long)), own(("parameters", "1girl, naïve\nSteps: 28"))]);
        assert_eq!(Raster::open(&path)?, picture());
        Ok(())
    }

    #[test]
    fn what_is_no_png_says_so() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        assert!(matches!(Raster::texts(&path), Err(Error::Io { .. })));
        std::fs::write(&path, b"GIF89a").unwrap();
        assert!(matches!(Raster::texts(&path), Err(Error::Malformed { .. })));
        let whole = picture().png(&[("a", "b")])?;
        for cut in [20, whole.len() / 2] {
            std::fs::write(&path, &whole[..cut]).unwrap();
            assert!(matches!(Raster::texts(&path), Err(Error::Malformed { .. })), "{cut}");
        }
        let error = picture().save_with_texts(folder.path().join("a.jpg"), &[]).expect_err("no PNG").to_string();
        assert!(error.contains(".png"), "{error}");
        assert!(picture().save_with_texts(&path, &[("", "no keyword")]).is_err());
        Ok(())
    }

    #[test]
    fn serde_keeps_every_pixel() -> Result<()> {
        let written = serde_json::to_string(&picture()).unwrap();
        assert!(written.starts_with("\"data:image/png;base64,"));
        assert_eq!(serde_json::from_str::<Raster>(&written).unwrap(), picture());
        for wrong in ["\"data:image/gif;base64,AAAA\"", "\"data:image/png;base64,AAAA\"", "7"] {
            assert!(serde_json::from_str::<Raster>(wrong).is_err());
        }
        assert_eq!(Raster::flat(Rgb(1, 2, 3), 1, 1).data_url()?.split(',').count(), 2);
        Ok(())
    }
}
