//! Animations: several pictures in one file.

use impasto::{Error, Raster, Result, Size, files};
use std::path::Path;
use std::time::Duration;

/// Writes pictures of one size as an animated PNG. Browsers play the animation; other programs show its first picture.
///
/// Each picture stays for `duration`, at most a minute. The last picture stays four times as long, at most 65.5 s; then
/// the animation begins again. The file is written completely or not at all.
///
/// ```
/// use impasto::{Raster, Rgb};
/// # let path = std::env::temp_dir().join("impasto-animation.png");
/// let pictures = [Rgb(255, 215, 0), Rgb(255, 99, 71)].map(|color| Raster::flat(color, (32, 32)));
/// impasto_report::animation(&pictures, std::time::Duration::from_millis(400), &path)?;
/// assert_eq!(Raster::open(&path)?.pixel(9, 9), Some(Rgb(255, 215, 0)));
/// # std::fs::remove_file(path).ok();
/// # Ok::<(), impasto::Error>(())
/// ```
///
/// # Errors
/// [`Error::Parameter`] for no picture, for pictures of different sizes, or for a duration over a minute;
/// [`Error::Io`].
pub fn animation(pictures: &[Raster], duration: Duration, path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    let Some(first) = pictures.first() else {
        return Err(Error::parameter("pictures", "none", "at least one picture"));
    };
    if let Some(other) = pictures.iter().find(|picture| picture.size() != first.size()) {
        return Err(Error::parameter(
            "pictures",
            other.size(),
            format!("{}, the size of the first picture", first.size()),
        ));
    }
    let stays = u16::try_from(duration.as_millis())
        .ok()
        .filter(|stays| *stays <= 60_000)
        .ok_or_else(|| Error::parameter("duration", format!("{duration:?}"), "at most a minute"))?;
    let encode = || -> std::result::Result<Vec<u8>, png::EncodingError> {
        let mut bytes = Vec::new();
        let Size { width, height } = first.size();
        let mut encoder = png::Encoder::new(&mut bytes, width, height);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        encoder.set_animated(pictures.len() as u32, 0)?;
        encoder.set_frame_delay(stays, 1000)?;
        let mut writer = encoder.write_header()?;
        for (number, picture) in pictures.iter().enumerate() {
            if number + 1 == pictures.len() {
                writer.set_frame_delay(stays.saturating_mul(4), 1000)?;
            }
            writer.write_image_data(picture.bytes())?;
        }
        writer.finish()?;
        Ok(bytes)
    };
    let bytes = encode().map_err(|error| Error::Io { path: path.into(), source: std::io::Error::other(error) })?;
    files::write_whole(path, &bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use impasto::Rgb;

    #[test]
    fn every_picture_is_in_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("three.png");
        let colors = [Rgb(255, 0, 0), Rgb(0, 255, 0), Rgb(0, 0, 255)];
        animation(&colors.map(|color| Raster::flat(color, (5, 3))), Duration::from_millis(250), &path).unwrap();
        let mut reader =
            png::Decoder::new(std::io::BufReader::new(std::fs::File::open(&path).unwrap())).read_info().unwrap();
        assert_eq!(reader.info().animation_control().map(|control| control.num_frames), Some(3));
        let mut delays = Vec::new();
        for color in colors {
            let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
            reader.next_frame(&mut pixels).unwrap();
            assert_eq!(pixels[..3], [color.0, color.1, color.2]);
            delays.push(reader.info().frame_control().unwrap().delay_num);
        }
        assert_eq!(delays, [250, 250, 1000]);
    }

    #[test]
    fn unfit_pictures_and_duration_are_refused() {
        let flat = |side: u32| Raster::flat(Rgb(1, 2, 3), (side, 4));
        let fails = |pictures: &[Raster], seconds| {
            animation(pictures, Duration::from_secs(seconds), "never.png").unwrap_err().to_string()
        };
        assert!(fails(&[], 1).contains("pictures is none; expected at least one picture"));
        assert!(
            fails(&[flat(4), flat(5)], 1).contains("pictures is 5×4; expected 4×4"),
            "{}",
            fails(&[flat(4), flat(5)], 1)
        );
        assert!(fails(&[flat(4)], 90).contains("duration is 90s"));
    }
}
