//! Contact sheets: pictures side by side, each over its caption.
//!
//! ```
//! use impasto::{Raster, Rgb, sheet::Sheet};
//! let (plain, forced) = (Raster::flat(Rgb(90, 90, 90), (64, 64)), Raster::flat(Rgb(255, 215, 0), (64, 64)));
//! let sheet = Sheet::new(2).add("plain", &plain).add("forced", &forced).draw()?;
//! assert_eq!(sheet.width(), 64 + 64 + 3 * Sheet::GAP);
//! # Ok::<(), impasto::Error>(())
//! ```

use crate::color::Rgb;
use crate::error::{Error, Result};
use crate::raster::{Filter, Raster};
use font8x8::UnicodeFonts;

const PAPER: Rgb = Rgb(255, 255, 255);
const INK: Rgb = Rgb(0, 0, 0);
/// Pixels of the longest sheet.
const LARGEST: u64 = 1 << 15;
/// Pixels of a letter, either way.
const LETTER: u32 = 8;
/// Pixels from one line of a caption to the next.
const LINE: u32 = 10;

/// Pictures in rows, the height of a row being that of its highest picture.
#[derive(Clone, Debug)]
#[must_use]
pub struct Sheet<'a> {
    columns: usize,
    magnify: u32,
    cells: Vec<(String, &'a Raster)>,
}

impl<'a> Sheet<'a> {
    /// Pixels between and around pictures.
    pub const GAP: u32 = 8;

    /// A sheet of `columns` pictures a row, at least one.
    pub fn new(columns: usize) -> Self {
        Self { columns: columns.max(1), magnify: 1, cells: Vec::new() }
    }

    /// Shows every pixel as a square of `times` pixels, at least one; for pictures smaller than their captions.
    pub fn magnify(mut self, times: u32) -> Self {
        self.magnify = times.max(1);
        self
    }

    /// Adds a picture. Its caption may be empty; it is broken where it is wider than the column.
    pub fn add(mut self, caption: impl Into<String>, picture: &'a Raster) -> Self {
        self.cells.push((caption.into(), picture));
        self
    }

    /// The sheet as a picture.
    ///
    /// # Errors
    /// [`Error::Parameter`] if it has no pictures, or if it would have more than 2¹⁵ pixels in a row or column.
    pub fn draw(&self) -> Result<Raster> {
        let widest = self.cells.iter().map(|(_, picture)| picture.width()).max();
        let highest = self.cells.iter().map(|(_, picture)| picture.height()).max();
        let (Some(widest), Some(highest)) = (widest, highest) else {
            return Err(Error::parameter("sheet", "empty", "at least one picture; add it with Sheet::add"));
        };
        let columns = self.columns.min(self.cells.len()) as u64;
        let sides = [(columns, widest), (self.cells.len().div_ceil(self.columns) as u64, highest)];
        if sides.iter().any(|(count, side)| count * u64::from(*side) * u64::from(self.magnify) > LARGEST) {
            let value = format!("{} pictures magnified {} times", self.cells.len(), self.magnify);
            return Err(Error::parameter("sheet", value, format!("at most {LARGEST} pixels in a row or column")));
        }
        let column = widest * self.magnify;
        let letters = (column / LETTER).max(1) as usize;
        let rows: Vec<Row<'_>> =
            self.cells.chunks(self.columns).map(|cells| Row::new(cells, letters, self.magnify)).collect();

        let shown = self.columns.min(self.cells.len()) as u32;
        let height = Self::GAP + rows.iter().map(|row| row.height() + Self::GAP).sum::<u32>();
        let mut sheet = Raster::flat(PAPER, (Self::GAP + shown * (column + Self::GAP), height));
        let mut y = Self::GAP;
        for row in &rows {
            let mut x = Self::GAP;
            for (lines, picture) in &row.cells {
                let (h, w) = (picture.height() * self.magnify, picture.width() * self.magnify);
                sheet.paste(&picture.resize((w, h), Filter::Nearest)?, x, y);
                for (line, top) in lines.iter().zip((y + row.pictures + LINE - LETTER..).step_by(LINE as usize)) {
                    write(&mut sheet, line, x, top);
                }
                x += column + Self::GAP;
            }
            y += row.height() + Self::GAP;
        }
        Ok(sheet)
    }
}

/// Pictures of the same height on the sheet, and the lines of their captions.
struct Row<'a> {
    cells: Vec<(Vec<Vec<char>>, &'a Raster)>,
    pictures: u32,
    captions: u32,
}

impl<'a> Row<'a> {
    fn new(cells: &[(String, &'a Raster)], letters: usize, magnify: u32) -> Self {
        let cells: Vec<(Vec<Vec<char>>, &Raster)> =
            cells.iter().map(|(caption, picture)| (broken(caption, letters), *picture)).collect();
        let pictures = cells.iter().map(|(_, picture)| picture.height() * magnify).max().unwrap_or(0);
        let lines = cells.iter().map(|(lines, _)| lines.len() as u32).max().unwrap_or(0);
        Self { cells, pictures, captions: lines * LINE }
    }

    fn height(&self) -> u32 {
        self.pictures + self.captions
    }
}

/// A caption in lines of so many letters, broken between words where there are any.
fn broken(caption: &str, letters: usize) -> Vec<Vec<char>> {
    let (mut lines, mut line) = (Vec::new(), Vec::new());
    for word in caption.split_whitespace() {
        let word: Vec<char> = word.chars().collect();
        if !line.is_empty() && line.len() + 1 + word.len() > letters {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        for letter in word {
            if line.len() == letters {
                lines.push(std::mem::take(&mut line));
            }
            line.push(letter);
        }
    }
    lines.extend((!line.is_empty()).then_some(line));
    lines
}

/// Draws one line of text with its upper left corner at (`x`, `y`); letters the font has not are question marks.
fn write(sheet: &mut Raster, line: &[char], x: u32, y: u32) {
    for (&letter, left) in line.iter().zip((x..).step_by(LETTER as usize)) {
        for (row, top) in glyph(letter).into_iter().zip(y..) {
            for bit in (0..LETTER).filter(|bit| row >> bit & 1 == 1) {
                sheet.set(left + bit, top, INK);
            }
        }
    }
}

/// Rows of a letter from the top; the lowest bit is the leftmost pixel.
fn glyph(letter: char) -> [u8; LETTER as usize] {
    let fonts = [font8x8::BASIC_FONTS.get(letter), font8x8::LATIN_FONTS.get(letter), font8x8::GREEK_FONTS.get(letter)];
    fonts.into_iter().flatten().next().or_else(|| font8x8::BASIC_FONTS.get('?')).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOLD: Rgb = Rgb(255, 215, 0);

    fn ink(sheet: &Raster) -> usize {
        sheet.bytes().chunks(3).filter(|pixel| *pixel == [0, 0, 0]).count()
    }

    #[test]
    fn pictures_stand_in_rows_over_their_captions() -> Result<()> {
        let (small, large) = (Raster::flat(GOLD, (16, 16)), Raster::flat(Rgb(1, 2, 3), (32, 24)));
        let sheet = Sheet::new(2).add("a", &small).add("", &large).add("long caption", &small).draw()?;
        // Rows: 24 + one line; 16 + three lines of four letters.
        assert_eq!((sheet.width(), sheet.height()), (8 + 2 * (32 + 8), 8 + (24 + 10 + 8) + (16 + 30 + 8)));
        assert_eq!((sheet.pixel(8, 8), sheet.pixel(24, 8)), (Some(GOLD), Some(PAPER)));
        assert_eq!(sheet.pixel(48, 31), Some(Rgb(1, 2, 3)));
        assert_eq!(sheet.pixel(8, 50), Some(GOLD));
        assert!(ink(&sheet.crop(32..42, 8..16)?) > 5, "the letter a");
        Ok(())
    }

    #[test]
    fn captions_are_broken_between_words() {
        let lines =
            |caption: &str| broken(caption, 6).iter().map(|line| line.iter().collect()).collect::<Vec<String>>();
        assert_eq!(lines("a red boat, sky"), ["a red", "boat,", "sky"]);
        assert_eq!(lines("on background"), ["on", "backgr", "ound"]);
        assert_eq!(lines(""), [""; 0]);
    }

    #[test]
    fn magnified_pixels_stay_sharp() -> Result<()> {
        let mut picture = Raster::flat(PAPER, (2, 2));
        picture.set(1, 1, GOLD);
        let sheet = Sheet::new(1).magnify(4).add("", &picture).draw()?;
        assert_eq!((sheet.width(), sheet.height()), (24, 24));
        assert_eq!(sheet.bytes().chunks(3).filter(|pixel| *pixel == [255, 215, 0]).count(), 16);
        Ok(())
    }

    #[test]
    fn letters_without_a_glyph_are_question_marks() -> Result<()> {
        let picture = Raster::flat(GOLD, (16, 16));
        let drawn = |caption: &str| Sheet::new(1).add(caption, &picture).draw();
        assert_eq!(drawn("猫")?, drawn("?")?);
        assert_ne!(drawn("ä")?, drawn("?")?);
        Ok(())
    }

    #[test]
    fn an_empty_sheet_is_an_error() {
        assert!(Sheet::new(3).draw().expect_err("empty").to_string().contains("at least one picture"));
    }
}
