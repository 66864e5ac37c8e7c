//! [`Outputs`]: a folder that gets every finished picture.

use crate::embedded::{KEYWORD, REPORT};
use crate::finished::Finished;
use crate::options::Options;
use crate::wording::Page;
use impasto::pipeline::Infotext;
use impasto::{Error, Raster, Result, files};
use serde_json::{Value, json};
use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Number of milliseconds of a second. The other lengths follow from it.
const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
/// Largest time of a file's name, which has four digits for the year: the end of the year 9999.
const LATEST: u64 = 253_402_300_800_000;

/// A folder that gets every finished picture.
#[derive(Clone, Debug)]
pub(crate) struct Outputs {
    folder: PathBuf,
    /// Largest size of a file that is read, in bytes.
    most: usize,
}

/// The name of a file in the folder, such as `20261128-143325-123-0-7.png`. Its parts are the date and the time in UTC,
/// the milliseconds, the index of the picture in its run, and its seed. Names sort by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name {
    /// Time of the run in milliseconds since 1970.
    pub(crate) time: u64,
    pub(crate) image: usize,
    pub(crate) seed: Option<u64>,
}

impl Outputs {
    /// Uses a folder.
    ///
    /// # Errors
    /// An error of the operating system if there is no such folder.
    pub(crate) fn of(folder: &Path, options: &Options) -> std::io::Result<Self> {
        std::fs::read_dir(folder)?;
        Ok(Self { folder: folder.into(), most: options.file() })
    }

    /// Writes the pictures of a run, each completely or not at all, and never over another file. A picture that cannot
    /// be written makes a note of the run.
    pub(crate) fn write(&self, finished: &mut Finished) {
        for image in 0..finished.count() {
            let name = Name { time: finished.time(), image, seed: finished.seed_of(image) };
            let written = finished.png(image).and_then(|png| {
                let png = png.unwrap_or_default();
                files::write_new(&self.folder.join(name.to_string()), &png)
            });
            // A run of a queue is read again after a restart, and its file has the same name then.
            let is_there =
                |error: &Error| matches!(error, Error::Io { source, .. } if source.kind() == ErrorKind::AlreadyExists);
            if let Err(error) = written
                && !is_there(&error)
            {
                finished.note(format!("the picture is not in the folder of outputs: {}", error.worded(&Page)));
            }
        }
    }

    /// Lists the newest `most` pictures before `before`, the newest one first. Other files of the folder are left out.
    ///
    /// # Errors
    /// An error of the operating system if the folder cannot be read.
    pub(crate) fn list(&self, before: Option<Name>, most: usize) -> std::io::Result<Vec<Name>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.folder)? {
            let name = entry?.file_name().to_str().and_then(|name| name.parse::<Name>().ok());
            names.extend(name.filter(|name| before.is_none_or(|before| *name < before)));
        }
        names.sort_unstable_by(|a, b| b.cmp(a));
        names.truncate(most);
        Ok(names)
    }

    /// Returns the bytes of a picture.
    ///
    /// # Errors
    /// [`Io`](impasto::Error::Io) if the folder has no such file, [`Malformed`](impasto::Error::Malformed) if the file
    /// is too large.
    pub(crate) fn read(&self, name: Name) -> Result<Vec<u8>> {
        files::read(&self.folder.join(name.to_string()), self.most as u64)
    }

    /// Returns the prompt and the report of a picture's run. The report is null for a picture without one.
    ///
    /// # Errors
    /// The errors of [`read`](Self::read), and of [`Raster::texts_named`].
    pub(crate) fn report(&self, name: Name) -> Result<Value> {
        let keywords = [&[KEYWORD, REPORT], Infotext::KEYWORDS].concat();
        let texts = Raster::texts_named(&self.read(name)?, &keywords, self.most)?;
        let json = |keyword: &str| {
            let (_, text) = texts.iter().find(|(known, _)| known == keyword)?;
            impasto::json::parse::<Value>(text).ok()
        };
        let own = json(KEYWORD).and_then(|request| Some(request.get("prompt")?.as_str()?.to_owned()));
        let prompt = own.or_else(|| Some(Infotext::of(&texts)?.prompt)).unwrap_or_default();
        Ok(json!({ "prompt": prompt, "report": json(REPORT) }))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = self.time.min(LATEST - 1);
        let (year, month, day) = date(time / DAY);
        let [hours, minutes, seconds] = [time % DAY / HOUR, time % HOUR / MINUTE, time % MINUTE / SECOND];
        write!(
            f,
            "{year:04}{month:02}{day:02}-{hours:02}{minutes:02}{seconds:02}-{:03}-{}",
            time % SECOND,
            self.image
        )?;
        self.seed.map_or(Ok(()), |seed| write!(f, "-{seed}"))?;
        f.write_str(".png")
    }
}

impl FromStr for Name {
    type Err = ();

    /// Reads a name that `Display` writes. No other name is accepted, so no name leads out of the folder.
    fn from_str(text: &str) -> std::result::Result<Self, ()> {
        let read = || {
            let mut parts = text.strip_suffix(".png")?.split('-');
            let digits =
                |part: Option<&str>, count: usize| part.filter(|part| part.len() == count)?.parse::<u64>().ok();
            let (date, clock) = (digits(parts.next(), 8)?, digits(parts.next(), 6)?);
            let milliseconds = digits(parts.next(), 3)?;
            let image = parts.next()?.parse().ok()?;
            let seed = parts.next().map(str::parse).transpose().ok()?;
            let days = days(date / 10_000, date / 100 % 100, date % 100)?;
            let time = days * DAY + clock / 10_000 * HOUR + clock / 100 % 100 * MINUTE + clock % 100 * SECOND;
            Some(Self { time: time + milliseconds, image, seed })
        };
        read().filter(|name| name.to_string() == text).ok_or(())
    }
}

/// Returns year, month and day of a number of days since 1970, in the Gregorian calendar.
///
/// Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
const fn date(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468; // days since March 1 of the year 0
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year + era * 400 + if month <= 2 { 1 } else { 0 }, month, day)
}

/// Returns the number of days since 1970 of a date. `None` before 1970. Source: see [`date`], `days_from_civil`.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    let year = year.checked_sub(u64::from(month <= 2))?;
    let (era, of_era) = (year / 400, year % 400);
    let shifted_month = (month + 9) % 12;
    let of_year = ((153 * shifted_month + 2) / 5 + day).checked_sub(1)?;
    (era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year).checked_sub(719_468)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_the_time_and_are_read_again() {
        let first = Name { time: 0, image: 0, seed: None };
        assert_eq!(first.to_string(), "19700101-000000-000-0.png");
        let leap = Name { time: 1_709_210_096_007, image: 3, seed: Some(u64::MAX) };
        assert_eq!(leap.to_string(), "20240229-123456-007-3-18446744073709551615.png");
        let last = Name { time: LATEST - 1, image: 0, seed: Some(7) };
        assert_eq!(last.to_string(), "99991231-235959-999-0-7.png");
        for name in [first, leap, last] {
            assert_eq!(name.to_string().parse(), Ok(name));
        }
        for day in (0..LATEST / DAY).step_by(9973) {
            let (year, month, of_month) = date(day);
            assert_eq!(days(year, month, of_month), Some(day));
        }
    }

    #[test]
    fn other_names_are_refused() {
        let others = [
            "",
            "../19700101-000000-000-0.png",
            "19700101-000000-000-0.jpg",
            "19700101-000000-000-0-.png",
            "19700101-000000-000-00.png",
            "19700101-000000-000-0-7-7.png",
            "19700230-000000-000-0.png",
            "19700101-250000-000-0.png",
            "19691231-000000-000-0.png",
            "00000000-000000-000-0.png",
            "19700101-000000-000-0-07.png",
            "٢٩٧٠-000000-000-0.png",
            "impasto-7.png",
        ];
        for name in others {
            assert_eq!(name.parse::<Name>(), Err(()), "{name}");
        }
    }
}
