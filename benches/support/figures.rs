//! Record of the figures of a bench, from which `benches/figures.py` makes the tables of `docs/performance.md`.

use std::fs::OpenOptions;
use std::io::Write;

/// One figure of a bench.
pub struct Figure<'a> {
    /// Name of the bench.
    pub bench: &'a str,
    /// Group of rows that were measured in turns.
    pub group: &'a str,
    /// Row of the group.
    pub row: &'a str,
    /// Measured quantity with its unit, such as `ms` or `ratio`.
    pub measure: &'a str,
    /// Median over the rounds.
    pub value: f64,
    /// The 95 % interval of the median, where there is one.
    pub interval: Option<(f64, f64)>,
    /// Number of rounds.
    pub rounds: usize,
}

impl Figure<'_> {
    /// Appends the figure as a line of CSV to the file that `IMPASTO_FIGURES` names, if that variable is set.
    pub fn record(&self) {
        let Some(file) = std::env::var_os("IMPASTO_FIGURES") else { return };
        let (low, high) =
            self.interval.map_or_else(Default::default, |(low, high)| (low.to_string(), high.to_string()));
        let Self { bench, group, row, measure, value, rounds, .. } = self;
        let threads = tch::get_num_threads();
        let line = format!("{bench},{group},{row},{measure},{value},{low},{high},{rounds},{threads}\n");
        let written = OpenOptions::new().append(true).create(true).open(file).and_then(|mut file| {
            // One call, so that a line is never cut in two.
            file.write_all(line.as_bytes())
        });
        written.expect("the figure is written to the file that IMPASTO_FIGURES names");
    }
}
