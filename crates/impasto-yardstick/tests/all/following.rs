//! Tests of objects that follow a map, and of pictures that follow a drawing.

use crate::*;
use guides::{Guide, Guided, STRENGTHS, Subject, kept, palette};
use mock::{METHODS, Mock, plan, ran};
use rise::steps;
use suite::Job;

#[test]
fn palettes_equal_the_reference() {
    let stripes = |(y, x)| (7 * x + 3 * y, x * y, 200 + 2 * y);
    let rings = |(y, x)| (255 - (x * x) % 256, 40, 5 * x + 11 * y);
    let drawn = |size: &Value, color: &dyn Fn((usize, usize)) -> (usize, usize, usize)| {
        let (h, w): (usize, usize) = serde_json::from_value(size.clone()).unwrap();
        Array2::from_shape_fn((h, w), |at| {
            let (r, g, b) = color(at);
            Rgb((r % 256) as u8, (g % 256) as u8, (b % 256) as u8)
        })
    };
    let golden = golden("yardstick_guides");
    for case in golden["palette"].as_array().unwrap() {
        let (a, b) = (drawn(&case["stripes"], &stripes), drawn(&case["rings"], &rings));
        same(&case.to_string(), &json!(palette(&a, &b)), &case["distance"], 1e-6);
        assert_eq!((palette(&a, &a), palette(&a, &b)), (0.0, palette(&b, &a)));
    }
}

#[test]
fn class_with_half_its_area_left_is_kept() {
    let columns = |ends: [usize; 2]| {
        Array2::from_shape_fn((20, 20), |(_, x)| if x < ends[0] { 9 } else { 10 * u8::from(x < ends[1]) })
    };
    // The first class has ten columns, the second has four.
    let unguided = columns([10, 14]);
    for (ends, want) in [([10, 14], 1.0), ([5, 7], 1.0), ([5, 6], 0.5), ([4, 6], 0.5), ([4, 5], 0.0), ([20, 20], 0.5)] {
        assert_eq!(kept(&unguided, &columns(ends), &[9, 10]), Some(want), "{ends:?}");
    }
    assert_eq!(kept(&unguided, &columns([10, 14]), &[11, 12]), None, "neither is there");
    assert_eq!(kept(&unguided, &columns([10, 10]), &[9, 11]), Some(1.0), "a class that was never there cannot go");
    // A class below 1 % of the picture counts as absent.
    let mut speck = unguided.mapv(|_| 0);
    (0..3).for_each(|x| speck[(0, x)] = 9);
    assert_eq!(kept(&speck, &unguided, &[9]), None);
    speck[(0, 3)] = 9;
    assert_eq!(kept(&speck, &unguided, &[9]), Some(1.0));
}

#[test]
fn a_prompt_names_the_ends_of_its_tags() {
    let prompt = "1girl, brown hair bow, hair, a house, red sky";
    for (phrase, named) in [("hair bow", true), ("hair", true), ("house", true), ("sky", true), ("bow", true)] {
        assert_eq!(guides::names(prompt, phrase), named, "{phrase}");
    }
    for phrase in ["use", "girl", "brown", "eyes", "red"] {
        assert!(!guides::names(prompt, phrase), "{phrase}");
    }
}

fn image_jobs(suite: &Suite, i: usize) -> Vec<Job> {
    let choice = Choice { tasks: vec![Task::Image], methods: METHODS.to_vec(), ..Choice::default() };
    suite.jobs(i, &choice)
}

#[test]
fn guides_alternate_between_portraits_and_scenes() {
    let [public, heldout] = ["public", "heldout"].map(|split| Suite::new(split, 3));
    let mut objects = HashSet::new();
    let mut seeds = HashSet::new();
    for (suite, odd) in [(&public, 0), (&heldout, 1)] {
        for i in 0..20 {
            let jobs = image_jobs(suite, i);
            let guides: Vec<Guide> = jobs.iter().map(|job| job.guide.unwrap()).collect();
            assert_eq!(guides.iter().map(|guide| guide.strength).collect::<Vec<_>>(), STRENGTHS);
            assert_eq!(jobs.iter().map(Job::part).collect::<Vec<_>>(), ["0", "0.15", "0.35", "0.7"]);
            let (prompt, seed) = &jobs[0].pairs[0];
            assert!(jobs.iter().all(|job| job.method == Method::Image && job.pairs == [(prompt.clone(), *seed)]));
            assert!(
                guides
                    .iter()
                    .all(|guide| guide.seed == guides[0].seed && (guide.subject == Subject::Portrait) == (i % 2 == 0))
            );
            assert_eq!(guides[0].seed % 2, odd, "public and other drawings never meet");
            let _ = seeds.insert(guides[0].seed);
            match guides[0].subject == Subject::Portrait {
                true => {
                    assert_eq!((prompt, *seed), (&suite.plain[i], suite.seeds[i]), "the unforced picture is shared")
                }
                false => drop(objects.insert((odd, prompt.clone()))),
            }
        }
    }
    assert_eq!((objects.len(), seeds.len()), (20, 40), "all ten objects, and every drawing once");
}

#[test]
fn a_step_is_between_neighbors_of_one_seed() {
    let folder = tempfile::tempdir().unwrap();
    let mut records = ran(&plan(&Suite::new("public", 3), &[Method::Image]), folder.path(), Mock::Perfect);
    assert_eq!(records.len(), 3 * STRENGTHS.len());
    let figures = |strength: f64, clip: f64, palette: f64| Guided { strength, clip, palette, kept: None };
    let values = [(0.2, 30.0), (0.5, 28.0), (0.4, 29.0), (0.45, 20.0)];
    for (record, (strength, (clip, palette))) in records.iter_mut().zip(STRENGTHS.into_iter().zip(values)) {
        record.guided = Some(figures(strength, clip, palette));
    }
    let first = |records: &[Record]| {
        let of = steps(records).into_iter().filter(|(record, _)| record.wanted == 0);
        of.map(|(record, [clip, palette])| (record.part.clone(), (clip * 100.0).round(), palette)).collect::<Vec<_>>()
    };
    let all = [("0.15".to_owned(), 30.0, -2.0), ("0.35".to_owned(), -10.0, 1.0), ("0.7".to_owned(), 5.0, -9.0)];
    assert_eq!(first(&records), all);
    records[1].guided = None; // a run that failed
    assert_eq!(first(&records), all[2..], "its steps are not known");
}

#[test]
fn unguided_pictures_follow_neither_map_nor_drawing() {
    let summary = |mock: Mock| {
        let folder = tempfile::tempdir().unwrap();
        let records = ran(&plan(&Suite::new("public", 3), &METHODS), folder.path(), mock);
        Summary::new(&records, About::default(), None).unwrap()
    };
    let (perfect, null) = (summary(Mock::Perfect), summary(Mock::Null));
    let figure = |summary: &Summary, group: &str, method, part: &str, name: &str| {
        let figure = summary.row(group, method, part).unwrap().figures[name];
        (figure.value.unwrap(), figure.n)
    };
    assert_eq!(figure(&perfect, "swap", Method::Pww, ALL, "followed"), (1.0, 3));
    assert_eq!(figure(&perfect, "swap", Method::Pww, ALL, "placed"), (1.0, 6));
    assert_eq!(figure(&perfect, "swap", Method::PwwOff, ALL, "followed"), (0.0, 3));
    assert_eq!(figure(&perfect, "image", Method::Image, "0.35", "kept"), (1.0, 3));
    assert_eq!(figure(&perfect, "image, portraits", Method::Image, "0.35", "clip").1, 2);
    assert_eq!(figure(&null, "image", Method::Image, "0.7", "clip_step"), (0.0, 3));
    let missed: Vec<&str> = null.verdicts.iter().filter(|v| !v.met).map(|v| v.what.as_str()).collect();
    for what in
        ["likeness to the guide, smallest change", "palette distance, worst change", "both placed, in both orders"]
    {
        assert!(missed.contains(&what), "{what}: {missed:?}");
        assert!(perfect.verdicts.iter().any(|verdict| verdict.what == what && verdict.met), "{what}");
    }
}

#[test]
fn swap_placed_in_one_order_only_is_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    let choice = Choice { tasks: vec![Task::Swap], ..Choice::default() };
    let plan = Plan { choice, ..plan(&Suite::new("public", 3), &[]) };
    let mut records = ran(&plan, folder.path(), Mock::Perfect);
    records.retain(|record| record.method == Method::Pww);
    assert_eq!(records.len(), 6);
    records[0].things[1].placement.placed = false;
    let summary = Summary::new(&records, About::default(), None).unwrap();
    let row = summary.row("swap", Method::Pww, ALL).unwrap();
    assert_eq!((row.figures["placed"].value, row.figures["followed"].value), (Some(5.0 / 6.0), Some(2.0 / 3.0)));
    let _ = records.pop();
    let summary = Summary::new(&records, About::default(), None).unwrap();
    let followed = summary.row("swap", Method::Pww, ALL).unwrap().figures["followed"];
    assert_eq!((followed.value, followed.n), (Some(0.5), 2), "one order alone tells nothing");
}

#[test]
fn object_in_half_a_picture_is_painted_in_its_middle() {
    assert_eq!(placement::painted([0.5, 0.0, 1.0, 0.5]), [0.5, 0.0, 1.0, 0.5]);
    assert_eq!(placement::painted([0.5, 0.0, 1.0, 1.0]).map(|share| 128.0 * share), [68.0, 36.0, 124.0, 92.0]);
    let half = placement::inside([0.5, 0.0, 1.0, 1.0], (3, 4));
    assert!(half.indexed_iter().all(|((_, x), inside)| *inside == (x >= 2)));
}
