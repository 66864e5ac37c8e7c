//! [`Bytes`]: the bytes of a pickle, read once and in order.

use super::flaw::{Checked, Flaw};
use std::io::{self, BufRead, Read};

/// Longest pickle that is read, in bytes. The pickle of SDXL with the state of its training has some megabytes.
pub(super) const LONGEST: u64 = 256 << 20;
/// Longest line with the name of a class or module, in bytes.
const LONGEST_LINE: u64 = 256;

/// The bytes of a pickle, or of several in a row.
pub(super) struct Bytes<R> {
    source: R,
    position: u64,
    /// Number of bytes that may still be read.
    left: u64,
}

impl<R: BufRead> Bytes<R> {
    /// Wraps a source that has `length` bytes.
    pub(super) fn new(source: R, length: u64) -> Self {
        Self { source, position: 0, left: length.min(LONGEST) }
    }

    /// Returns the source, at any position.
    pub(super) fn into_source(self) -> R {
        self.source
    }

    /// Returns the number of bytes that were read.
    pub(super) const fn position(&self) -> u64 {
        self.position
    }

    /// Counts bytes that are about to be read.
    fn count(&mut self, bytes: u64) -> Checked<()> {
        self.left = self.left.checked_sub(bytes).ok_or_else(|| self.end_flaw())?;
        self.position += bytes;
        Ok(())
    }

    fn end_flaw(&self) -> Flaw {
        match self.position + self.left {
            LONGEST => format!("the pickle has more than {LONGEST} bytes, which no checkpoint needs").into(),
            _ => {
                let at = self.position;
                format!("the pickle is cut off behind byte {at}; download the file again").into()
            }
        }
    }

    /// Reads bytes that were counted.
    fn fill(&mut self, bytes: &mut [u8]) -> Checked<()> {
        self.source.read_exact(bytes).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => self.end_flaw(),
            _ => error.into(),
        })
    }

    pub(super) fn array<const N: usize>(&mut self) -> Checked<[u8; N]> {
        let mut bytes = [0; N];
        self.count(N as u64)?;
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    pub(super) fn byte(&mut self) -> Checked<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// Reads an unsigned number of `bytes` bytes.
    pub(super) fn length(&mut self, bytes: usize) -> Checked<u64> {
        let mut number = [0; 8];
        self.count(bytes as u64)?;
        self.fill(number.get_mut(..bytes).unwrap_or_default())?;
        Ok(u64::from_le_bytes(number))
    }

    pub(super) fn take(&mut self, length: u64) -> Checked<Vec<u8>> {
        self.count(length)?;
        let mut bytes = Vec::new();
        let read = self.source.by_ref().take(length).read_to_end(&mut bytes)?;
        if read as u64 == length { Ok(bytes) } else { Err(self.end_flaw()) }
    }

    pub(super) fn skip(&mut self, length: u64) -> Checked<()> {
        self.count(length)?;
        let read = io::copy(&mut self.source.by_ref().take(length), &mut io::sink())?;
        if read == length { Ok(()) } else { Err(self.end_flaw()) }
    }

    /// Reads the rest of a line, without its end.
    pub(super) fn line(&mut self) -> Checked<String> {
        let mut bytes = Vec::new();
        let read = self.source.by_ref().take(self.left.min(LONGEST_LINE)).read_until(b'\n', &mut bytes)?;
        self.count(read as u64)?;
        match bytes.pop() {
            Some(b'\n') => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            _ if read as u64 == LONGEST_LINE => {
                Err(format!("the pickle has a name of more than {LONGEST_LINE} bytes; download the file again").into())
            }
            _ => Err(self.end_flaw()),
        }
    }
}
