//! Contact sheets: pictures side by side, each above its caption.

use crate::lettering::Lettering;
use impasto::guidance::Picture;
use impasto::raster::Filter;
use impasto::{Error, Raster, Result, Rgb};

const PAPER: Rgb = Rgb(255, 255, 255);
/// Maximum number of pixels that the pictures of a row or column take together.
const LARGEST: u64 = 1 << 15;

/// A contact sheet: pictures in rows, each above its caption. A row is as high as its highest picture.
///
/// ```
/// use impasto::{Raster, Rgb};
/// use impasto_report::Sheet;
/// let (plain, forced) = (Raster::flat(Rgb(90, 90, 90), (64, 64)), Raster::flat(Rgb(255, 215, 0), (64, 64)));
/// let sheet = Sheet::new(2).add("plain", &plain).add("forced", &forced).draw()?;
/// assert_eq!(sheet.size().width, 64 + 64 + 3 * Sheet::GAP);
/// # Ok::<(), impasto::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Sheet {
    columns: usize,
    magnify: u32,
    cells: Vec<(String, Raster)>,
}

impl Sheet {
    /// Pixels between and around pictures.
    pub const GAP: u32 = 8;

    /// Creates a sheet with `columns` pictures a row, at least one.
    pub fn new(columns: usize) -> Self {
        Self { columns: columns.max(1), magnify: 1, cells: Vec::new() }
    }

    /// Shows every pixel as a square of `times`×`times` pixels, at least 1×1. Magnify pictures that are smaller than
    /// their captions.
    pub fn magnify(mut self, times: u32) -> Self {
        self.magnify = times.max(1);
        self
    }

    /// Adds a picture. The caption may be empty; a long caption is broken into lines as wide as the column.
    pub fn add(mut self, caption: impl Into<String>, picture: &Raster) -> Self {
        self.cells.push((caption.into(), picture.clone()));
        self
    }

    /// Adds pictures that have captions, such as those of
    /// [`PaintWithWords::legend`](impasto::methods::PaintWithWords::legend).
    ///
    /// # Errors
    /// The errors of [`Picture::raster`].
    pub fn add_all(mut self, pictures: &[Picture]) -> Result<Self> {
        for picture in pictures {
            self.cells.push((picture.caption.clone(), picture.raster()?));
        }
        Ok(self)
    }

    /// Draws the sheet.
    ///
    /// # Errors
    /// [`Error::Parameter`] if the sheet has no pictures, or if the pictures of a row or column would take more than
    /// 2¹⁵ pixels.
    pub fn draw(&self) -> Result<Raster> {
        let widest = self.cells.iter().map(|(_, picture)| picture.size().width).max();
        let highest = self.cells.iter().map(|(_, picture)| picture.size().height).max();
        let (Some(widest), Some(highest)) = (widest, highest) else {
            return Err(Error::parameter("sheet", "empty", "at least one picture; add one with `Sheet::add`"));
        };
        let columns = self.columns.min(self.cells.len()) as u64;
        let sides = [(columns, widest), (self.cells.len().div_ceil(self.columns) as u64, highest)];
        if sides.iter().any(|(count, side)| count * u64::from(*side) * u64::from(self.magnify) > LARGEST) {
            let value = format!("{} pictures magnified {} times", self.cells.len(), self.magnify);
            return Err(Error::parameter("sheet", value, format!("at most {LARGEST} pixels in a row or column")));
        }
        let lettering = Lettering::new()?;
        let column = widest * self.magnify;
        let rows: Vec<Row<'_>> =
            self.cells.chunks(self.columns).map(|cells| Row::new(cells, &lettering, column, self.magnify)).collect();

        let shown = self.columns.min(self.cells.len()) as u32;
        let height = Self::GAP + rows.iter().map(|row| row.height() + Self::GAP).sum::<u32>();
        let mut sheet = Raster::flat(PAPER, (Self::GAP + shown * (column + Self::GAP), height));
        let mut y = Self::GAP;
        for row in &rows {
            let mut x = Self::GAP;
            for (lines, picture) in &row.cells {
                let [w, h] = [picture.size().width, picture.size().height].map(|side| side * self.magnify);
                sheet.paste(&picture.resize((w, h), Filter::Nearest)?, x, y);
                for (line, top) in lines.iter().zip((y + row.pictures..).step_by(Lettering::LINE as usize)) {
                    lettering.draw(line, &mut sheet, x, top);
                }
                x += column + Self::GAP;
            }
            y += row.height() + Self::GAP;
        }
        Ok(sheet)
    }
}

/// Pictures side by side, and the lines of their captions.
struct Row<'a> {
    cells: Vec<(Vec<String>, &'a Raster)>,
    pictures: u32,
    captions: u32,
}

impl<'a> Row<'a> {
    fn new(cells: &'a [(String, Raster)], lettering: &Lettering, width: u32, magnify: u32) -> Self {
        let cells: Vec<(Vec<String>, &Raster)> =
            cells.iter().map(|(caption, picture)| (lettering.lines(caption, width), picture)).collect();
        let pictures = cells.iter().map(|(_, picture)| picture.size().height * magnify).max().unwrap_or(0);
        let lines = cells.iter().map(|(lines, _)| lines.len() as u32).max().unwrap_or(0);
        Self { cells, pictures, captions: lines * Lettering::LINE }
    }

    fn height(&self) -> u32 {
        self.pictures + self.captions
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use impasto::Size;

    const GOLD: Rgb = Rgb(255, 215, 0);

    fn ink(sheet: &Raster) -> usize {
        sheet.bytes().chunks(3).filter(|pixel| pixel.iter().all(|value| *value < 100)).count()
    }

    #[test]
    fn pictures_stand_in_rows_over_captions() -> Result<()> {
        let (small, large) = (Raster::flat(GOLD, (16, 16)), Raster::flat(Rgb(101, 102, 103), (60, 24)));
        let sheet = Sheet::new(2).add("a", &small).add("", &large).add("first second", &small).draw()?;
        assert_eq!(sheet.size().width, 8 + 2 * (60 + 8));
        assert_eq!(sheet.size().height, 8 + (24 + 16 + 8) + (16 + 2 * 16 + 8), "one line of caption, then two");
        assert_eq!((sheet.pixel(8, 8), sheet.pixel(24, 8)), (Some(GOLD), Some(PAPER)));
        assert_eq!(sheet.pixel(76, 31), Some(Rgb(101, 102, 103)));
        assert_eq!(sheet.pixel(8, 8 + 24 + 16 + 8), Some(GOLD), "the second row");
        assert!(ink(&sheet.crop(32..48, 8..20)?) > 5, "the letter a");
        assert_eq!(ink(&sheet.crop(32..48, 76..136)?), 0, "no caption");
        Ok(())
    }

    #[test]
    fn magnified_pixels_stay_sharp() -> Result<()> {
        let mut picture = Raster::flat(PAPER, (2, 2));
        picture.set(1, 1, GOLD);
        let sheet = Sheet::new(1).magnify(4).add("", &picture).draw()?;
        assert_eq!(sheet.size(), Size::new(24, 24));
        assert_eq!(sheet.bytes().chunks(3).filter(|pixel| *pixel == [255, 215, 0]).count(), 16);
        Ok(())
    }

    #[test]
    fn empty_sheet_is_an_error() {
        assert!(Sheet::new(3).draw().expect_err("empty").to_string().contains("at least one picture"));
    }
}
