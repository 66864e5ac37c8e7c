//! Four seeds of the embedded model, through the real judge.

use crate::*;
use mock::plan;

#[test]
fn four_seeds_of_the_real_model() {
    let suite = Suite::new("public", 0);
    let choice = Choice {
        tasks: vec![Task::Named, Task::Numeric],
        methods: vec![Method::Unforced, Method::Doc, Method::Recolor, Method::Paste],
        ..Arguments::default().choice
    };
    let plan = Plan { choice, seeds: Seeds::Exactly(4), workers: 2, ..plan(&suite, &[]) };
    let folder = tempfile::tempdir().unwrap();
    let (mut records, _) = Records::open(&folder.path().join("runs.jsonl")).unwrap();
    let mut all = Vec::new();
    tch::set_num_threads(1);
    let bench = || Ok((Real::new(&Settings::default())?, Evaluator::open()?));
    let _ = runner::run(&plan, &[], &mut records, bench, |record, _, _| {
        all.push(record.clone());
        Ok(())
    })
    .unwrap();
    let summary = Summary::new(&of_maker(all, &plan.made), About::default(), None).unwrap();
    report::print(&summary, false);
    let figure = |method, name: &str| summary.row("color", method, ALL).unwrap().figures[name].value.unwrap();
    assert!(figure(Method::Doc, "delta_e") < 0.7 * figure(Method::Unforced, "delta_e"));
    assert!(figure(Method::Recolor, "delta_e") <= 3.0 && figure(Method::Recolor, "leak") <= 0.5);
    assert!(figure(Method::Paste, "delta_e") <= 3.0 && figure(Method::Paste, "block") > 0.5);
    assert_eq!(figure(Method::Unforced, "retry"), 1.0);
}
