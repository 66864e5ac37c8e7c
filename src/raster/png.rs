//! Texts in picture files, and pictures stored in texts as data URLs.

use super::{Layer, Raster, check_length, decode, decoder, exif};
use crate::error::{Error, Result};
use crate::files;
use crate::size::Size;
use crate::wording::Remedy;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader};
use png::text_metadata::{ITXtChunk, TEXtChunk, ZTXtChunk};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use std::borrow::Cow;
use std::io::{BufRead, BufReader, Cursor, Seek, SeekFrom};
use std::path::Path;

/// Limit in bytes of all texts of a file together, as UTF-8, because a few compressed bytes may unpack to gigabytes.
const LONGEST: usize = 1 << 28;
/// Longest text in bytes that is written uncompressed. Many programs read pictures with Pillow. Pillow refuses
/// compressed texts of more than 2^20 bytes, and texts of more than 2^26 bytes in all.
const PLAIN: usize = 1 << 25;
/// Limit in bytes of the pixels of a picture in a data URL, for the same reason as [`LONGEST`].
const LARGEST: usize = 1 << 28;
/// The value of [`LARGEST`] as text for messages.
const MOST: &str = "256 MiB";
const DATA_URL: &str = "data:image/png;base64,";

impl Raster {
    /// Returns the bytes of a PNG file with texts, each under a keyword.
    ///
    /// Texts are stored as other programs store them: in Latin-1 (`tEXt`) if Latin-1 has all characters of the text, or
    /// else in UTF-8 (`iTXt`). Texts longer than 32 MiB are compressed.
    ///
    /// ```
    /// use impasto::{Raster, Rgb};
    /// let png = Raster::flat(Rgb(255, 215, 0), (8, 8)).to_png(&[("Title", "gold")])?;
    /// assert_eq!(Raster::texts(&png)?, [("Title".to_owned(), "gold".to_owned())]);
    /// # Ok::<(), impasto::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Parameter`] unless keywords have 1 to 79 Latin-1 letters, and texts have at most 256 MiB in all.
    pub fn to_png(&self, texts: &[(&str, &str)]) -> Result<Vec<u8>> {
        check(texts, LONGEST)?;
        self.png(texts)
    }

    /// Writes the bytes of [`to_png`](Self::to_png) to a file by `write`, such as [`files::write_whole`].
    ///
    /// # Errors
    /// The errors of [`to_png`](Self::to_png) and `write`; [`Error::Parameter`] if `path` does not end in .png.
    pub(crate) fn save_with_texts(&self, path: &Path, texts: &[(&str, &str)], write: files::Write) -> Result<()> {
        if !path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("png")) {
            let expected = Remedy::PictureAlone.after("a name that ends in .png, as only PNG holds texts");
            return Err(Error::parameter("path", path.display(), expected));
        }
        write(path, &self.to_png(texts)?)
    }

    /// Returns the texts of a PNG, JPEG or WebP with their keywords, in no particular order. `file` are the bytes of
    /// the file. Texts in EXIF metadata have the names of their tags as keywords: `ImageDescription`, `Make`, `Model`,
    /// `Software`, `UserComment`.
    ///
    /// # Errors
    /// [`Error::Malformed`] if the bytes are no such file, are broken, or have texts of more than 256 MiB in all.
    pub fn texts(file: &[u8]) -> Result<Vec<(String, String)>> {
        Self::texts_within(Path::new("picture"), Cursor::new(file), LONGEST, |_| true)
    }

    /// Returns the texts of a PNG, JPEG or WebP file as [`texts`](Self::texts) does. No pixel is decoded.
    ///
    /// # Errors
    /// The errors of [`texts`](Self::texts), with the name of the file; [`Error::Io`] if the file cannot be read or is
    /// no regular file.
    pub fn texts_of(path: impl AsRef<Path>) -> Result<Vec<(String, String)>> {
        let path = path.as_ref();
        Self::texts_within(path, BufReader::new(files::open(path)?), LONGEST, |_| true)
    }

    /// Returns the texts of a PNG, JPEG or WebP under `keywords`, as [`texts`](Self::texts) does. The texts may have
    /// `most` bytes in all. Other texts are not decompressed.
    ///
    /// # Errors
    /// [`Error::Malformed`] if the bytes are no such file, are broken, or have longer texts under `keywords`.
    pub fn texts_named(file: &[u8], keywords: &[&str], most: usize) -> Result<Vec<(String, String)>> {
        let most = most.min(LONGEST);
        Self::texts_within(Path::new("picture"), Cursor::new(file), most, |keyword| keywords.contains(&keyword))
    }

    /// Returns the texts under `keywords` in a file. Other texts are not decompressed.
    pub(crate) fn texts_under(path: &Path, keywords: &[&str]) -> Result<Vec<(String, String)>> {
        Self::texts_within(path, BufReader::new(files::open(path)?), LONGEST, |keyword| keywords.contains(&keyword))
    }

    /// Returns the texts with `wanted` keywords from the picture in `file`. These texts may have `left` bytes in all.
    /// Errors name `path`.
    fn texts_within(
        path: &Path,
        mut file: impl BufRead + Seek,
        left: usize,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Vec<(String, String)>> {
        let at = |error| Error::io(path, error);
        let length = file.seek(SeekFrom::End(0)).map_err(at)?;
        file.rewind().map_err(at)?;
        let reader = ImageReader::new(file).with_guessed_format().map_err(at)?;
        match reader.format() {
            Some(ImageFormat::Png) => Self::texts_of_png(path, reader.into_inner(), left, wanted),
            Some(ImageFormat::Jpeg | ImageFormat::WebP) => {
                check_length(path, length)?; // the decoder of JPEG reads the whole file
                let exif = decoder(reader, length).and_then(|(mut decoder, _)| decoder.exif_metadata());
                let exif = exif.map_err(|error| malformed(path, error))?.unwrap_or_default();
                let texts = exif::texts(&exif, left, wanted).ok_or_else(|| too_long(path, left))?;
                Ok(texts.into_iter().map(|(name, text)| (name.to_owned(), text)).collect())
            }
            _ => Err(malformed(
                path,
                "the file is no picture; expected a PNG, JPEG or WebP; check that the path is right",
            )),
        }
    }

    /// Returns the texts of a PNG; see [`texts_within`](Self::texts_within).
    fn texts_of_png(
        path: &Path,
        file: impl BufRead + Seek,
        mut left: usize,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Vec<(String, String)>> {
        let most = left;
        let too_long = || too_long(path, most);
        let broken = |problem: png::DecodingError| match problem {
            png::DecodingError::LimitsExceeded => too_long(),
            png::DecodingError::IoError(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => {
                Error::io(path, error)
            }
            problem => malformed(path, problem),
        };
        // The decoder counts a chunk when it reads the chunk and again when it stores the text, and its buffers grow by
        // doubling.
        let limits = png::Limits { bytes: 3 * left.max(PLAIN) };
        let mut decoder = png::Decoder::new_with_limits(file, limits);
        decoder.set_ignore_iccp_chunk(true); // color profiles are compressed, too
        let mut reader = decoder.read_info().map_err(broken)?;
        reader.finish().map_err(broken)?; // texts may stand after the pixels
        let info = reader.info();
        let mut texts: Vec<(String, String)> = Vec::new();
        let exif = info.exif_metadata.as_deref().unwrap_or_default();
        for (name, text) in exif::texts(exif, left, &wanted).ok_or_else(too_long)? {
            left = left.checked_sub(text.len()).ok_or_else(too_long)?;
            texts.push((name.to_owned(), text));
        }
        for TEXtChunk { keyword, text } in info.uncompressed_latin1_text.iter().filter(|chunk| wanted(&chunk.keyword)) {
            left = left.checked_sub(text.len()).ok_or_else(too_long)?;
            texts.push((keyword.clone(), text.clone()));
        }
        for chunk in info.compressed_latin1_text.iter().filter(|chunk| wanted(&chunk.keyword)) {
            let mut chunk: ZTXtChunk = chunk.clone();
            chunk.decompress_text_with_limit(left).map_err(|_| too_long())?;
            let text = chunk.get_text().map_err(broken)?;
            left = left.checked_sub(text.len()).ok_or_else(too_long)?;
            texts.push((chunk.keyword, text));
        }
        for chunk in info.utf8_text.iter().filter(|chunk| wanted(&chunk.keyword)) {
            let mut chunk: ITXtChunk = chunk.clone();
            chunk.decompress_text_with_limit(left).map_err(|_| too_long())?;
            let text = chunk.get_text().map_err(broken)?;
            left = left.checked_sub(text.len()).ok_or_else(too_long)?;
            texts.push((chunk.keyword, text));
        }
        Ok(texts)
    }

    /// Returns the bytes of the picture as a PNG file with `texts`.
    pub(crate) fn png(&self, texts: &[(&str, &str)]) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut info = png::Info::with_size(self.pixels.width(), self.pixels.height());
        (info.color_type, info.bit_depth) = (png::ColorType::Rgb, png::BitDepth::Eight);
        for (keyword, text) in texts {
            let compressed = text.len() > PLAIN;
            match (latin1(text), compressed) {
                (true, false) => info.uncompressed_latin1_text.push(TEXtChunk::new(*keyword, *text)),
                (true, true) => info.compressed_latin1_text.push(ZTXtChunk::new(*keyword, *text)),
                (false, _) => {
                    let mut chunk = ITXtChunk::new(*keyword, *text);
                    chunk.compressed = compressed;
                    info.utf8_text.push(chunk);
                }
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

    /// Returns the picture as a PNG in a data URL.
    pub fn data_url(&self) -> Result<String> {
        Ok(DATA_URL.to_owned() + &BASE64_STANDARD.encode(self.png(&[])?))
    }
}

/// Returns the error for a file that cannot be read.
fn malformed(path: &Path, problem: impl ToString) -> Error {
    Error::Malformed { file: path.display().to_string(), problem: problem.to_string() }
}

/// Returns the error for a file whose texts have more than `most` bytes.
fn too_long(path: &Path, most: usize) -> Error {
    let problem = format!(
        "the file's texts are broken or have more than {most} bytes in all; expected at most {most} bytes; remove texts \
         from the file"
    );
    malformed(path, problem)
}

/// Checks that a PNG file can hold these texts, of at most `longest` bytes in all.
fn check(texts: &[(&str, &str)], longest: usize) -> Result<()> {
    let fits = |keyword: &str| latin1(keyword) && !keyword.contains('\0') && (1..80).contains(&keyword.chars().count());
    if let Some((keyword, _)) = texts.iter().find(|(keyword, _)| !fits(keyword)) {
        return Err(Error::parameter("keyword", format!("{keyword:?}"), "1 to 79 Latin-1 letters"));
    }
    let bytes: usize = texts.iter().map(|(_, text)| text.len()).sum();
    if bytes > longest {
        let expected = Remedy::PictureAlone.after(format!("at most {} MiB in all", longest >> 20));
        return Err(Error::parameter("texts", format!("{bytes} bytes"), expected));
    }
    Ok(())
}

fn latin1(text: &str) -> bool {
    text.chars().all(|letter| u32::from(letter) < 256)
}

/// Returns the picture in a data URL; `None` if `url` has no picture, or a picture with transparency.
pub(crate) fn read_embedded_picture(url: &str) -> Option<Raster> {
    match embedded(url) {
        Ok(DynamicImage::ImageRgb8(picture)) => Some(picture.into()),
        _ => None,
    }
}

/// Returns the number of bytes of the pixels of a picture in a data URL, as the picture's header says; 0 if `url` has
/// no PNG.
pub(crate) fn unpacked(url: &str) -> u64 {
    // The first 24 bytes hold the signature, the first chunk's length and name, and width and height.
    let head = url.strip_prefix(DATA_URL).and_then(|encoded| encoded.get(..32));
    let head = head.and_then(|head| BASE64_STANDARD.decode(head).ok()).unwrap_or_default();
    match *head {
        [.., a, b, c, d, e, f, g, h] => {
            let [width, height] = [[a, b, c, d], [e, f, g, h]].map(|side| u64::from(u32::from_be_bytes(side)));
            width.saturating_mul(height).saturating_mul(3)
        }
        _ => 0,
    }
}

/// Stores the picture as a PNG in a data URL, up to 256 MiB of pixels.
impl Serialize for Raster {
    fn serialize<S: Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        if self.bytes().len() > LARGEST {
            let Size { width, height } = self.size();
            let problem =
                format!("a picture of {width}×{height} pixels is too large; expected at most {MOST}; make it smaller");
            return Err(ser::Error::custom(problem));
        }
        self.data_url().map_err(ser::Error::custom)?.serialize(to)
    }
}

impl<'de> Deserialize<'de> for Raster {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        Ok(embedded(&Cow::<str>::deserialize(from)?).map_err(de::Error::custom)?.into())
    }
}

/// Stores the layer as a PNG in a data URL, up to 256 MiB of pixels.
impl Serialize for Layer {
    fn serialize<S: Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        if self.bytes().len() > LARGEST {
            let problem =
                format!("a layer of {} pixels is too large; expected at most {MOST}; make it smaller", self.size());
            return Err(ser::Error::custom(problem));
        }
        let png = self.png().map_err(ser::Error::custom)?;
        (DATA_URL.to_owned() + &BASE64_STANDARD.encode(png)).serialize(to)
    }
}

impl<'de> Deserialize<'de> for Layer {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        Ok(embedded(&Cow::<str>::deserialize(from)?).map_err(de::Error::custom)?.into_rgba8().into())
    }
}

/// Decodes the picture in a data URL.
fn embedded(url: &str) -> std::result::Result<DynamicImage, String> {
    let encoded = url.strip_prefix(DATA_URL).ok_or("the text is no picture; expected a PNG in a data URL")?;
    let bytes = BASE64_STANDARD.decode(encoded).map_err(|error| error.to_string())?;
    let length = bytes.len() as u64;
    decode(ImageReader::with_format(Cursor::new(bytes), ImageFormat::Png), length).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::color::Rgb;

    fn within(path: &Path, left: usize, wanted: impl Fn(&str) -> bool) -> Result<Vec<(String, String)>> {
        Raster::texts_within(path, BufReader::new(files::open(path)?), left, wanted)
    }

    fn picture() -> Raster {
        Raster::from_bytes((0..=255).chain(0..=127).collect(), (16, 8)).unwrap()
    }

    #[test]
    fn texts_of_any_letters_survive_beside_the_pixels() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.PNG");
        let long = "猫 ".repeat(20_000);
        picture().save_with_texts(
            &path,
            &[("parameters", "1girl, naïve\nSteps: 28"), ("long", &long)],
            files::write_whole,
        )?;
        let mut texts = Raster::texts(&std::fs::read(&path).unwrap())?;
        texts.sort();
        let own = |text: (&str, &str)| (text.0.to_owned(), text.1.to_owned());
        assert_eq!(texts, [own(("long", &long)), own(("parameters", "1girl, naïve\nSteps: 28"))]);
        assert_eq!(Raster::open(&path)?, picture());
        Ok(())
    }

    #[test]
    fn long_texts_survive_and_too_long_ones_are_refused() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        for (letter, chunk) in [("é", b"zTXt"), ("猫", b"iTXt")] {
            let long = letter.repeat(PLAIN / letter.len() + 8);
            picture().save_with_texts(&path, &[("long", &long), ("short", "x")], files::write_whole)?;
            let bytes = std::fs::read(&path).unwrap();
            assert!(bytes.len() < PLAIN / 8 && bytes.windows(4).any(|name| name == chunk));
            assert!(Raster::texts_under(&path, &["long"])? == [("long".to_owned(), long)]);
        }
        let long = "x".repeat(PLAIN);
        // This text is stored uncompressed, and is longer than the decoder's default limit.
        picture().save_with_texts(&path, &[("long", &long)], files::write_whole)?;
        assert!(within(&path, LONGEST, |_| true)? == [("long".to_owned(), long)]);

        let texts = [("a", "1234"), ("b", "猫")];
        assert!(check(&texts, 7).is_ok() && matches!(check(&texts, 6), Err(Error::Parameter { .. })));
        picture().save_with_texts(&path, &texts, files::write_whole)?;
        assert_eq!(within(&path, 7, |_| true)?.len(), 2);
        assert!(matches!(within(&path, 6, |_| true), Err(Error::Malformed { .. })));
        Ok(())
    }

    #[test]
    fn only_wanted_compressed_texts_count_in_the_budget() -> Result<()> {
        let mut bytes = Vec::new();
        let mut info = png::Info::with_size(1, 1);
        (info.color_type, info.bit_depth) = (png::ColorType::Rgb, png::BitDepth::Eight);
        for keyword in ["impasto", "bomb", "bomb"] {
            info.compressed_latin1_text.push(ZTXtChunk::new(keyword, "0".repeat(1000)));
        }
        let mut writer = png::Encoder::with_info(&mut bytes, info).unwrap().write_header().unwrap();
        writer.write_image_data(&[0; 3]).unwrap();
        writer.finish().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(within(&path, 3000, |_| true)?.len(), 3);
        assert!(matches!(within(&path, 2999, |_| true), Err(Error::Malformed { .. })));
        assert_eq!(within(&path, 1000, |keyword| keyword == "impasto")?.len(), 1);
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(Raster::texts_named(&bytes, &["impasto"], 1000)?.len(), 1);
        let error = Raster::texts_named(&bytes, &["impasto"], 999).unwrap_err().to_string();
        assert!(error.contains("more than 999 bytes in all"), "{error}");
        Ok(())
    }

    #[test]
    fn broken_png_and_bad_keyword_are_errors() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        assert!(matches!(Raster::texts_under(&path, &["a"]), Err(Error::Io { .. })));
        assert!(matches!(Raster::texts(b"GIF89a"), Err(Error::Malformed { .. })));
        let whole = picture().png(&[("a", "b")])?;
        for cut in [20, whole.len() / 2] {
            std::fs::write(&path, &whole[..cut]).unwrap();
            assert!(matches!(Raster::texts(&whole[..cut]), Err(Error::Malformed { .. })), "{cut}");
            assert!(matches!(Raster::texts_under(&path, &["a"]), Err(Error::Malformed { .. })), "{cut}");
        }
        let error = picture()
            .save_with_texts(&folder.path().join("a.jpg"), &[], files::write_whole)
            .expect_err("no PNG")
            .to_string();
        assert!(error.contains(".png"), "{error}");
        for keyword in ["", "a\0b", "猫", &"k".repeat(80)] {
            let error = picture().save_with_texts(&path, &[(keyword, "text")], files::write_whole);
            assert!(matches!(error, Err(Error::Parameter { .. })), "{keyword}");
        }
        Ok(())
    }

    #[test]
    fn exif_of_every_format_is_read() -> Result<()> {
        use image::codecs::{jpeg::JpegEncoder, png::PngEncoder, webp::WebPEncoder};
        use image::{ExtendedColorType, ImageEncoder};
        fn write(mut encoder: impl ImageEncoder) {
            // One entry: 6 letters under the tag of the user comment, which begin at byte 26.
            let exif = b"II*\0\x08\0\0\0\x01\0\x86\x92\x02\0\x06\0\0\0\x1a\0\0\0\0\0\0\0a cat\0";
            encoder.set_exif_metadata(exif.to_vec()).unwrap();
            encoder.write_image(picture().bytes(), 16, 8, ExtendedColorType::Rgb8).unwrap();
        }
        let mut files = [Vec::new(), Vec::new(), Vec::new()];
        let [png, jpeg, webp] = &mut files;
        write(PngEncoder::new(png));
        write(JpegEncoder::new(jpeg));
        write(WebPEncoder::new_lossless(webp));
        for file in files {
            assert_eq!(Raster::texts(&file)?, [("UserComment".to_owned(), "a cat".to_owned())]);
            let named = |keyword: &str, most: usize| Raster::texts_named(&file, &[keyword], most);
            assert_eq!((named("UserComment", 6)?.len(), named("Model", 0)?.len()), (1, 0));
            let error = named("UserComment", 5).unwrap_err().to_string();
            assert!(error.starts_with("picture") && error.contains("more than 5 bytes in all"), "{error}");
            assert!(Raster::texts(&file[..20]).is_err());
        }
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
        assert_eq!(Raster::flat(Rgb(1, 2, 3), (1, 1)).data_url()?.split(',').count(), 2);
        Ok(())
    }
}
