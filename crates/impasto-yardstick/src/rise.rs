//! The change of likeness and palette at each step of a guide's strength.

use crate::guides::{Guided, STRENGTHS};
use crate::record::Record;
use std::collections::HashMap;

/// Changes of likeness and palette in each step of strength, with the record of the greater strength. A step is left
/// out unless both of its ends were measured.
pub fn steps(records: &[Record]) -> Vec<(&Record, [f64; 2])> {
    let number = |strength: f64| STRENGTHS.iter().position(|known| *known == strength);
    let at = |record: &Record, number: usize| (record.prompt.clone(), record.seed, number);
    let all = || records.iter().filter_map(|record| Some((record, record.guided?)));
    let known: HashMap<_, Guided> =
        all().filter_map(|(record, guided)| Some((at(record, number(guided.strength)?), guided))).collect();
    let step = |(record, guided): (&'_ Record, Guided)| {
        let before = known.get(&at(record, number(guided.strength)?.checked_sub(1)?))?;
        Some([guided.clip - before.clip, guided.palette - before.palette])
    };
    all().filter_map(|(record, guided)| Some((record, step((record, guided))?))).collect()
}
