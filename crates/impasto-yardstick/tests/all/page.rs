//! Tests that the report agrees with the figures.

use crate::*;
use mock::{METHODS, Mock, SIDE, plan, ran};

#[test]
fn page_and_csv_agree_with_the_records() {
    let folder = tempfile::tempdir().unwrap();
    let records = ran(&plan(&Suite::new("public", 3), &METHODS), folder.path(), Mock::Null);
    let summary = Summary::new(&records, About::default(), None).unwrap();
    report::write(folder.path(), &summary, &records).unwrap();
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    let page = read("report.html");
    for word in ["<link", "<script src", "@import", "url(", "href="] {
        assert!(!page.contains(word), "{word}");
    }
    let outside = page.replace("http://www.w3.org/2000/svg", "");
    assert!(!outside.contains("http:") && !outside.contains("https:"));
    let mut images = 0;
    for source in page.split("src=\"").skip(1) {
        let code = source.split('"').next().unwrap().strip_prefix("data:image/png;base64,").unwrap();
        let bytes = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, code).unwrap();
        assert!(image::load_from_memory(&bytes).unwrap().width() >= 4 * SIDE as u32);
        images += 1;
    }
    assert!(images >= 4);
    for verdict in &summary.verdicts {
        assert!(page.contains(&verdict.value.to_string()), "{verdict:?}");
    }
    for (open, close) in [("<div", "</div>"), ("<table", "</table>"), ("<svg", "</svg>"), ("<figure", "</figure>")] {
        assert_eq!(page.matches(open).count(), page.matches(close).count(), "{open}");
    }
    let stored: Value = serde_json::from_str(&read("summary.json")).unwrap();
    assert_eq!(stored["verdicts"].as_array().unwrap().len(), summary.verdicts.len());
    assert!(serde_json::from_value::<Summary>(stored).unwrap() == summary);
    let csv = read("runs.csv");
    assert_eq!(csv.lines().count(), 1 + records.len());
    let mut rows = csv::Reader::from_reader(csv.as_bytes());
    let at = |name: &str| csv.lines().next().unwrap().split(',').position(|column| column == name).unwrap();
    let stored = record::read(&folder.path().join("runs.jsonl")).unwrap();
    for row in rows.records().map(Result::unwrap) {
        let record = stored.iter().find(|record| record.key == row[at("key")]).unwrap();
        assert_eq!((&row[at("prompt")], &row[at("part")]), (record.prompt.as_str(), record.part.as_str()));
        let delta_e = record.parts.iter().map(|part| part.delta_e()).fold(f64::NEG_INFINITY, f64::max);
        assert_eq!(row[at("delta_e")].parse().ok(), Some(delta_e).filter(|delta_e| delta_e.is_finite()));
    }
}
