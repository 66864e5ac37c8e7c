//! Tests of records: runs that are killed, resumed, sharded or mixed, and a full disk.

use crate::*;
use mock::{METHODS, Mock, made, plan, ran, timeless};

#[test]
fn a_killed_run_goes_on_as_if_nothing_had_happened() {
    let suite = Suite::new("public", 2);
    let plan = plan(&suite, &METHODS);
    let whole = tempfile::tempdir().unwrap();
    let all = timeless(ran(&plan, whole.path(), Mock::Perfect));
    let text = std::fs::read(whole.path().join("runs.jsonl")).unwrap();
    let ends: Vec<usize> = text.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1).collect();
    for cut in [ends[0], ends[6] + 40, text.len() - 1] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("runs.jsonl"), &text[..cut]).unwrap();
        assert!(timeless(ran(&plan, folder.path(), Mock::Perfect)) == all, "cut at {cut}");
        let lines = std::fs::read(folder.path().join("runs.jsonl")).unwrap();
        assert_eq!(lines.iter().filter(|byte| **byte == b'\n').count(), ends.len(), "no line twice");
    }
}

#[test]
fn records_of_other_settings_are_not_mixed() {
    let suite = Suite::new("public", 2);
    let mut plan = plan(&suite, &[Method::Doc]);
    let folder = tempfile::tempdir().unwrap();
    let first = ran(&plan, folder.path(), Mock::Perfect).len();
    plan.made.settings = "other".into();
    let second = ran(&plan, folder.path(), Mock::Null);
    assert_eq!(second.len(), first);
    assert!(second.iter().all(|record| record.made.settings == "other"));
    assert_eq!(record::read(&folder.path().join("runs.jsonl")).unwrap().len(), 2 * first);
}

#[test]
fn shards_and_workers_change_nothing() {
    let suite = Suite::new("public", 2);
    let mut plan = plan(&suite, &METHODS);
    let folder = || tempfile::tempdir().unwrap();
    let all = timeless(ran(&plan, folder().path(), Mock::Perfect));
    plan.workers = 3;
    assert!(timeless(ran(&plan, folder().path(), Mock::Perfect)) == all);
    let mut merged = Vec::new();
    for shard in 0..2 {
        plan.shard = (shard, 2);
        merged.extend(ran(&plan, folder().path(), Mock::Perfect));
    }
    merged.extend(merged.clone());
    assert!(timeless(of_maker(merged, &made())) == all);
}

#[test]
fn time_limit_still_gives_a_report() {
    let mut plan = plan(&Suite::new("public", 2), &METHODS);
    plan.limit = Some(Duration::ZERO);
    let records = ran(&plan, tempfile::tempdir().unwrap().path(), Mock::Perfect);
    assert_eq!(records.len(), 1);
    assert!(Summary::new(&records, About::default(), None).is_some());
}

#[test]
fn targets_below_the_judges_error_are_raised() {
    let records = ran(&plan(&Suite::new("public", 2), &METHODS), tempfile::tempdir().unwrap().path(), Mock::Perfect);
    let row = calibration::Row { delta_e_decoded: Some(4.5), retry_decoded: Some(0.2), ..Default::default() };
    let calibration = calibration::Calibration { pairs: 1, parts: [("eyes".to_owned(), row)].into(), drawn: None };
    let summary = Summary::new(&records, About::default(), Some(&calibration)).unwrap();
    let target =
        |what: &str| summary.verdicts.iter().find(|v| v.what == what && v.method == Method::Exact).unwrap().target;
    assert_eq!((target("ΔE of eyes, median"), target("ΔE of hair, median"), target("retry")), (4.5, 2.0, 0.22));
}

#[test]
fn a_run_is_repeated_by_its_key() {
    let suite = Suite::new("public", 2);
    let mut plan = plan(&suite, &METHODS);
    let all = ran(&plan, tempfile::tempdir().unwrap().path(), Mock::Perfect);
    let wanted = all.iter().rfind(|record| record.method == Method::Exact).unwrap();
    let found = runner::wanted_of(&suite, &plan.choice, &wanted.key).unwrap();
    assert_eq!(found, wanted.wanted);
    plan.only = Some((found, wanted.key.clone()));
    let again = ran(&plan, tempfile::tempdir().unwrap().path(), Mock::Perfect);
    assert_eq!((again.len(), &again[0].parts), (1, &wanted.parts));
}

#[test]
fn invalid_record_is_named_and_file_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("runs.jsonl");
    std::fs::write(&path, "{}\n").unwrap();
    let message = Records::open(&path).unwrap_err().to_string();
    assert!(message.contains("line 1") && message.contains("not a record"), "{message}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "{}\n", "the file is intact");
}

/// Environment variable with the folder in which the child of [`a_full_disk_is_an_error_and_the_file_is_intact`]
/// writes.
const FULL: &str = "YARDSTICK_TEST_FULL_DISK";

/// Runs as the child of another test. Its files may have 24 KiB; more is refused as on a full disk.
#[test]
#[ignore = "a child of another test"]
fn writing_to_a_full_disk() {
    let Some(folder) = std::env::var_os(FULL) else { return };
    let folder = Path::new(&folder);
    let suite = Suite::new("public", 2);
    let (mut records, _) = Records::open(&folder.join("runs.jsonl")).unwrap();
    let bench = || Ok((Mock::Perfect, mock::MockJudge));
    let failed = runner::run(&plan(&suite, &METHODS), &[], &mut records, bench, |_, _, _| Ok(())).unwrap_err();
    std::fs::write(folder.join("message"), failed.to_string()).unwrap();
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error_and_the_file_is_intact() {
    let folder = tempfile::tempdir().unwrap();
    let test = std::env::current_exe().unwrap();
    // The limit is in bash's blocks of 1 KiB. A process that ignores the signal gets the error.
    let child = "trap '' XFSZ; ulimit -f 24; exec \"$0\" --ignored --exact records::writing_to_a_full_disk";
    let done =
        std::process::Command::new("bash").args(["-c", child]).arg(test).env(FULL, folder.path()).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
    let message = std::fs::read_to_string(folder.path().join("message")).unwrap();
    assert!(message.contains("runs.jsonl") && message.contains("large"), "{message}");
    let text = std::fs::read(folder.path().join("runs.jsonl")).unwrap();
    assert!(text.len() > 1024 && text.ends_with(b"\n"), "{} bytes, whole lines", text.len());
    // A run continues the file once there is room again.
    let plan = plan(&Suite::new("public", 2), &METHODS);
    let whole = tempfile::tempdir().unwrap();
    let all = timeless(ran(&plan, whole.path(), Mock::Perfect));
    assert!(timeless(ran(&plan, folder.path(), Mock::Perfect)) == all);
}

#[test]
fn a_file_that_cannot_be_opened_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let message = Records::open(folder.path()).unwrap_err().to_string();
    assert!(message.contains(folder.path().to_str().unwrap()), "{message}");
}

#[test]
fn unsteady_part_is_measured_in_the_shared_region() {
    /// A judge that sees the shirt ten columns to the left in every picture that differs from the first.
    struct Moves(Option<Picture>);
    impl Judge for Moves {
        fn look(&mut self, view: &View<'_>) -> Result<Option<Seen>, Failure> {
            let first = self.0.get_or_insert_with(|| view.picture.clone());
            let moved = if *first == *view.picture { 0 } else { 10 };
            let labels = Array2::from_shape_fn((mock::SIDE, mock::SIDE), |(y, x)| {
                let label = mock::portrait()[(y, (x + moved) % mock::SIDE)];
                if label == class("shirt") { label } else { 0 }
            });
            Ok(Some(Seen { labels, sure: BTreeMap::new() }))
        }
    }
    let choice = Choice {
        tasks: vec![Task::Named, Task::Numeric],
        methods: vec![Method::Doc],
        parts: vec!["shirt".into()],
        full: false,
    };
    let overlap = |unsteady: Vec<String>| {
        let suite = Suite::new("public", 2);
        let plan = Plan { choice: choice.clone(), seeds: Seeds::Exactly(1), unsteady, ..plan(&suite, &[]) };
        let folder = tempfile::tempdir().unwrap();
        let (mut records, _) = Records::open(&folder.path().join("runs.jsonl")).unwrap();
        let bench = || Ok((Mock::Perfect, Moves(None)));
        let _ = runner::run(&plan, &[], &mut records, bench, |_, _, _| Ok(())).unwrap();
        let part = record::read(&folder.path().join("runs.jsonl")).unwrap().remove(0).parts.remove(0);
        (part.unsteady, part.measure.area_unforced, part.measure.area)
    };
    let (columns, rows) = (44, 18);
    assert_eq!(overlap(vec![]), (false, columns * rows, columns * rows));
    assert_eq!(overlap(vec!["shirt".into()]), (true, columns * rows, (columns - 10) * rows));
    let row = calibration::Row { pair_decoded: Some(0.79), ..Default::default() };
    let calibration = calibration::Calibration { parts: [("eyes".to_owned(), row)].into(), ..Default::default() };
    assert_eq!(calibration.unsteady(), ["eyes"]);
}

#[test]
fn tuned_settings_are_read_from_the_parent_folder() {
    let folder = tempfile::tempdir().unwrap();
    let below = folder.path().join("public-0");
    std::fs::create_dir(&below).unwrap();
    let message = tuning::read(&below).unwrap_err().to_string();
    assert!(message.contains("run `tune` first"), "{message}");
    // A part that vanished under every setting has no distance.
    let tuned = json!({ "split": "public", "suite": 0, "seeds": 8, "parts": {
        "eyes": { "color_var": 15.0, "cutoff": 0.2, "differential": true, "delta_e": null, "leak": 1.5 }
    } });
    std::fs::write(folder.path().join("tuned.json"), tuned.to_string()).unwrap();
    let eyes = generator::Preset { color_var: 15.0, cutoff: 0.2, differential: true };
    assert_eq!(tuning::read(&below).unwrap(), [("eyes".to_owned(), eyes)].into());
}
