//! Captions: lines of text in a vector font.

use ab_glyph::{Font, FontRef, PxScale, ScaleFont, point};
use impasto::{Error, Raster, Result, Rgb};

/// Height of the letters in pixels, from the highest ascender to the lowest descender.
const HEIGHT: f32 = 15.0;

/// The font of captions, with the letters of Latin, Greek and Cyrillic.
pub(crate) struct Lettering {
    font: FontRef<'static>,
}

impl Lettering {
    /// Pixels from one line to the next.
    pub(crate) const LINE: u32 = 16;

    pub(crate) fn new() -> Result<Self> {
        let font = FontRef::try_from_slice(epaint_default_fonts::HACK_REGULAR);
        let font = font.map_err(|error| Error::custom(format!("the font of captions cannot be read: {error}")))?;
        Ok(Self { font })
    }

    /// Breaks a caption into lines of at most `width` pixels. Lines break between words, and inside words that are
    /// wider than a line.
    pub(crate) fn lines(&self, caption: &str, width: u32) -> Vec<String> {
        let (mut lines, mut line) = (Vec::new(), String::new());
        for word in caption.split_whitespace() {
            let longer = if line.is_empty() { word.to_owned() } else { format!("{line} {word}") };
            if self.width(&longer) <= width {
                line = longer;
                continue;
            }
            lines.extend((!line.is_empty()).then(|| std::mem::take(&mut line)));
            for letter in word.chars() {
                line.push(letter);
                if line.chars().nth(1).is_some() && self.width(&line) > width {
                    line.pop();
                    lines.push(std::mem::replace(&mut line, letter.into()));
                }
            }
        }
        lines.extend((!line.is_empty()).then_some(line));
        lines
    }

    /// Draws a line of text in black with its upper left corner at (`x`, `y`). Letters that the font lacks become
    /// question marks.
    pub(crate) fn draw(&self, line: &str, onto: &mut Raster, x: u32, y: u32) {
        let font = self.font.as_scaled(PxScale::from(HEIGHT));
        let (mut left, baseline) = (x as f32, y as f32 + font.ascent());
        for letter in line.chars() {
            let glyph = self.glyph(letter).with_scale_and_position(font.scale(), point(left, baseline));
            left += font.h_advance(glyph.id);
            let Some(outline) = self.font.outline_glyph(glyph) else { continue };
            let corner = outline.px_bounds().min;
            outline.draw(|column, row, coverage| {
                let at = (corner.x as i64 + i64::from(column), corner.y as i64 + i64::from(row));
                let (Ok(x), Ok(y)) = (u32::try_from(at.0), u32::try_from(at.1)) else { return };
                let Some(Rgb(r, g, b)) = onto.pixel(x, y) else { return };
                let darker = |value: u8| (f32::from(value) * (1.0 - coverage.clamp(0.0, 1.0))).round() as u8;
                onto.set(x, y, Rgb(darker(r), darker(g), darker(b)));
            });
        }
    }

    /// Returns the width of a line of text in pixels.
    pub(crate) fn width(&self, line: &str) -> u32 {
        let font = self.font.as_scaled(PxScale::from(HEIGHT));
        line.chars().map(|letter| font.h_advance(self.glyph(letter))).sum::<f32>().ceil() as u32
    }

    fn glyph(&self, letter: char) -> ab_glyph::GlyphId {
        let id = self.font.glyph_id(letter);
        if id.0 == 0 { self.font.glyph_id('?') } else { id }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_caption_breaks_between_words() -> Result<()> {
        let lettering = Lettering::new()?;
        let six = lettering.width("mmmmmm");
        assert_eq!(lettering.lines("a red boat, sky", six), ["a red", "boat,", "sky"]);
        assert_eq!(lettering.lines("on background", six), ["on", "backgr", "ound"]);
        assert_eq!(lettering.lines("", six), [""; 0]);
        assert_eq!(lettering.lines("ab", 1), ["a", "b"]);
        Ok(())
    }

    #[test]
    fn missing_letter_becomes_a_question_mark() -> Result<()> {
        let lettering = Lettering::new()?;
        let drawn = |line: &str| {
            let mut paper = Raster::flat(Rgb(255, 255, 255), (40, 20));
            lettering.draw(line, &mut paper, 2, 2);
            paper
        };
        assert_eq!(drawn("猫"), drawn("?"));
        assert_ne!(drawn("ä"), drawn("?"));
        assert_ne!(drawn("?"), drawn(""));
        Ok(())
    }
}
