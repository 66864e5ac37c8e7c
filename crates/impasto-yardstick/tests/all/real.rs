//! Tests with a few seeds of the embedded model and with the real judge.

use crate::*;
use guides::{Guide, STRENGTHS, Subject};
use impasto::Source;
use mock::plan;

#[test]
fn real_model_takes_named_colors() {
    let suite = Suite::new("public", 0);
    let choice = Choice {
        tasks: vec![Task::Named],
        methods: vec![Method::Unforced, Method::Doc, Method::Recolor, Method::Paste],
        ..Choice::default()
    };
    let plan = Plan { choice, seeds: Seeds::Exactly(1), workers: 2, ..plan(&suite, &[]) };
    let folder = tempfile::tempdir().unwrap();
    let (mut records, _) = Records::open(&folder.path().join("runs.jsonl")).unwrap();
    let mut all = Vec::new();
    tch::set_num_threads(1);
    let settings = Settings { steps: 14, ..Settings::default() };
    let bench = || Ok((Real::new(&settings)?, Evaluator::open()?));
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

#[test]
fn painted_objects_are_placed_and_guided_ones_kept() {
    let suite = Suite::new("public", 2);
    let choice = Choice {
        tasks: vec![Task::Place, Task::Swap, Task::Image],
        methods: vec![Method::PwwOff, Method::Pww, Method::Image],
        ..Choice::default()
    };
    let plan = Plan { choice, seeds: Seeds::Exactly(1), ..plan(&suite, &[]) };
    let folder = tempfile::tempdir().unwrap();
    let (mut records, _) = Records::open(&folder.path().join("runs.jsonl")).unwrap();
    let mut all = Vec::new();
    tch::set_num_threads(1);
    let settings = Settings { steps: 14, ..Settings::default() };
    let bench = || Ok((Real::new(&settings)?, Evaluator::open()?));
    let _ = runner::run(&plan, &[], &mut records, bench, |record, _, _| {
        all.push(record.clone());
        Ok(())
    })
    .unwrap();
    assert!(all.iter().all(|record| record.status == Status::Measured), "{all:?}");
    let summary = Summary::new(&of_maker(all, &plan.made), About::default(), None).unwrap();
    report::print(&summary, false);
    let figure = |group: &str, method, part: &str, name: &str| {
        summary.row(group, method, part).unwrap().figures[name].value.unwrap()
    };
    assert!(figure("place", Method::Pww, ALL, "placed") >= 0.75);
    assert!(figure("place", Method::PwwOff, ALL, "placed") <= 0.25, "one thing is in one quadrant");
    assert!(figure("swap", Method::Pww, ALL, "placed") >= 0.5);
    assert_eq!(figure("swap", Method::PwwOff, ALL, "followed"), 0.0, "the same picture either way");
    assert!(figure("image", Method::Image, "0.15", "kept") >= 0.8);
}

#[test]
fn a_guide_of_no_strength_is_the_unguided_picture() {
    let mut real = Real::new(&Settings { steps: 3, ..Settings::default() }).unwrap();
    tch::set_num_threads(1);
    for (subject, prompt) in [(Subject::Portrait, "1girl, eyes, hair"), (Subject::Scene, "a house, ground, sky")] {
        let drawing = real.drawing(&Guide { subject, seed: 950_000_000, strength: 0.0 }).unwrap();
        let mut made = |strength: Option<f64>| {
            let guide = strength.map(|strength| (&drawing, strength));
            let (method, empty) = (Method::Image, (&[], &[], &[], &[]));
            let (asked, painted, phrases, regions) = empty;
            real.make(&Request { prompt, seed: 5, method, asked, painted, guide, unforced: None, phrases, regions })
                .unwrap()
                .picture
        };
        let unguided = made(None);
        assert_eq!(made(Some(STRENGTHS[0])), unguided);
        assert_ne!(made(Some(STRENGTHS[1])), unguided);
        assert!((real.likeness(&drawing, &drawing).unwrap() - 1.0).abs() < 1e-6);
    }
}

#[test]
fn concepts_are_found_in_joint_attention() {
    let folder = tempfile::tempdir().unwrap();
    for (part, model) in small_models::SD3 {
        small_models::put(folder.path(), part, model);
    }
    let phrases = ["hat".to_owned()];
    let make = |model: Source| {
        let mut real = Real::new(&Settings { model, steps: 2, size: Some((64, 96)), ..Settings::default() }).unwrap();
        let (prompt, method, guide, unforced) = ("a cat, red hat", Method::Concept, None, None);
        let (asked, painted, phrases, regions) = (&[], &[], &phrases, &[]);
        real.make(&Request { prompt, seed: 5, method, asked, painted, guide, unforced, phrases, regions })
    };
    let maps = make(Source::dir(folder.path())).unwrap().maps;
    let (phrase, map) = &maps[0];
    assert!(phrase == "hat" && map.dim() == (64, 64) && map.iter().any(|value| *value > map[(0, 0)]));
    let refused = make(Source::embedded()).err().unwrap().to_string();
    assert!(refused.contains("a network with joint attention"), "{refused}");
}

#[test]
fn drawings_show_their_subject_and_repeat() {
    let (mut real, judge) = (Real::new(&Settings::default()).unwrap(), Evaluator::open().unwrap());
    let subjects = [Subject::Portrait, Subject::Scene, Subject::SceneOf("boat")];
    for (subject, seed) in subjects.into_iter().flat_map(|subject| [(subject, 950_000_000), (subject, 950_000_001)]) {
        let guide = Guide { subject, seed, strength: 0.15 };
        let portrait = subject == Subject::Portrait;
        let drawing = real.drawing(&guide).unwrap();
        assert_eq!(drawing, real.drawing(&guide).unwrap());
        let labels = judge.see(&drawing).unwrap().labels;
        assert_eq!(placement::is_there(&labels, class("hair")), portrait, "{guide:?}");
        assert_eq!(placement::is_there(&labels, class("sky")), !portrait, "{guide:?}");
        if let Subject::SceneOf(object) = subject {
            assert!(placement::is_there(&labels, class(object)), "{guide:?}");
        }
    }
}

#[test]
fn controlnet_is_measured_against_its_own_drawing() {
    let suite = Suite::new("public", 2);
    let methods = vec![Method::Unforced, Method::Control, Method::ControlStrokes];
    let choice = Choice { tasks: vec![Task::Edges], methods, ..Choice::default() };
    let plan = Plan { choice, seeds: Seeds::Exactly(1), ..plan(&suite, &[]) };
    let folder = tempfile::tempdir().unwrap();
    let (mut records, _) = Records::open(&folder.path().join("runs.jsonl")).unwrap();
    let (mut all, mut strips) = (Vec::new(), 0);
    tch::set_num_threads(1);
    let settings = Settings { steps: 14, ..Settings::default() };
    let bench = || Ok((Real::new(&settings)?, Evaluator::open()?));
    let _ = runner::run(&plan, &[], &mut records, bench, |record, strip, _| {
        all.push(record.clone());
        strips += usize::from(strip.is_some());
        Ok(())
    })
    .unwrap();
    assert!(all.iter().all(|record| record.status == Status::Measured), "{all:?}");
    assert_eq!((all.len(), strips), (3, 3), "each with the drawing beside it");
    let summary = Summary::new(&of_maker(all, &plan.made), About::default(), None).unwrap();
    let figure = |method, name: &str| summary.row("edges", method, ALL).unwrap().figures[name].value.unwrap();
    assert!(figure(Method::Control, "edge_f1") >= 0.75 && figure(Method::Unforced, "edge_f1") <= 0.5);
    assert!(figure(Method::Control, "objects") < figure(Method::Unforced, "objects"));
    assert!(scenes::lines(&summary).iter().any(|line| line.starts_with("edges, control-strokes: edge F1")));
}

#[test]
fn pictures_take_the_colors_of_a_reference() {
    let suite = Suite::new("public", 2);
    let methods = vec![Method::Unforced, Method::Reference, Method::ReferenceLike];
    let choice = Choice { tasks: vec![Task::Reference], methods, ..Choice::default() };
    let plan = Plan { choice, seeds: Seeds::Exactly(2), ..plan(&suite, &[]) };
    let folder = tempfile::tempdir().unwrap();
    let (mut records, _) = Records::open(&folder.path().join("runs.jsonl")).unwrap();
    let mut all = Vec::new();
    tch::set_num_threads(1);
    let settings = Settings { steps: 14, ..Settings::default() };
    let bench = || Ok((Real::new(&settings)?, Evaluator::open()?));
    let _ = runner::run(&plan, &[], &mut records, bench, |record, _, _| {
        all.push(record.clone());
        Ok(())
    })
    .unwrap();
    assert!(all.iter().all(|record| record.status == Status::Measured), "{all:?}");
    let summary = Summary::new(&of_maker(all, &plan.made), About::default(), None).unwrap();
    let figure = |method, name: &str| summary.row("reference", method, ALL).unwrap().figures[name].value.unwrap();
    assert!(figure(Method::Unforced, "delta_e") > 20.0 && figure(Method::Unforced, "edge_f1") == 1.0);
    assert!(figure(Method::Reference, "delta_e") <= 8.0 && figure(Method::Reference, "edge_f1") >= 0.7);
    assert!(figure(Method::ReferenceLike, "delta_e") <= 2.0 && figure(Method::ReferenceLike, "edge_f1") >= 0.7);
    let lines = scenes::lines(&summary);
    assert!(lines.iter().any(|line| line.starts_with("reference, reference-like: ΔE of parts")), "{lines:?}");
}
