//! Tests of acceptance: what a person would keep or send back.

use crate::*;
use impasto_train::dataset::Class;
use impasto_yardstick::acceptance::{Acceptance, acceptance};
use impasto_yardstick::papers::papers;
use labeled::{Answer, Judged};
use std::path::Path;

const SKIN: Rgb = Rgb(230, 180, 140);
const BLACK: Rgb = Rgb(20, 18, 22);
const BLUE: Rgb = Rgb(50, 90, 200);
const GOLD: Rgb = Rgb(255, 215, 0);
const RED: Rgb = Rgb(200, 40, 50);

/// An eye in a face of 128 × 128 pixels, with a rim and a pupil, above a mouth; and its labels.
fn face() -> (Picture, Labels) {
    let at = |y: usize, x: usize, radius: f64| (y as f64 - 50.0).hypot(x as f64 - 64.0) <= radius;
    let mouth = |y: usize, x: usize| (95..107).contains(&y) && (50..78).contains(&x);
    let picture = Array2::from_shape_fn((128, 128), |(y, x)| match (y, x) {
        (y, x) if mouth(y, x) => RED,
        (y, x) if !at(y, x, 22.0) => SKIN,
        (y, x) if at(y, x, 20.0) && !at(y, x, 5.0) => BLUE,
        _ => BLACK,
    });
    let labels = Array2::from_shape_fn((128, 128), |(y, x)| match (y, x) {
        (y, x) if mouth(y, x) => Class::Mouth.index(),
        (y, x) if at(y, x, 20.0) => Class::Eyes.index(),
        _ => Class::Skin.index(),
    });
    (picture, labels)
}

/// Judges the face after each pixel was changed by its place and its color.
fn judged(change: impl Fn((usize, usize), Rgb) -> Rgb) -> Acceptance {
    let (unforced, labels) = face();
    let forced = Array2::from_shape_fn(unforced.dim(), |at| change(at, unforced[at]));
    let pair = Pair {
        unforced: &unforced,
        forced: &forced,
        labels_unforced: &labels,
        labels_forced: &labels,
        unit: picture::unit(unforced.dim()),
    };
    acceptance(&pair, Class::Eyes.index(), GOLD, &[]).expect("the eye is large enough")
}

#[test]
fn exact_color_with_its_lines_is_accepted() {
    let exact = judged(|_, color| if color == BLUE { GOLD } else { color });
    assert!(exact.accepted, "{exact:?}");
    assert_eq!((exact.whole, exact.lines, exact.neighbor, exact.grown), (1.0, Some(1.0), 0.0, 0.0));
    let nothing = judged(|_, color| color);
    assert!(!nothing.accepted && nothing.material > Some(40.0) && nothing.whole == 0.0, "{nothing:?}");
}

#[test]
fn each_reason_of_a_person_has_its_figure() {
    let blurred = judged(|_, color| if [BLUE, BLACK].contains(&color) { GOLD } else { color });
    assert!(!blurred.accepted && blurred.lines < Some(0.3) && blurred.neighbor < 1.0, "{blurred:?}");
    let mouth = judged(|_, color| match color {
        BLUE => GOLD,
        RED => Rgb(240, 200, 170),
        color => color,
    });
    assert!(!mouth.accepted && mouth.neighbor > 30.0 && mouth.lines == Some(1.0), "{mouth:?}");
    let spilled = judged(|(y, _), color| match color {
        BLUE => GOLD,
        SKIN if (20..30).contains(&y) => GOLD,
        color => color,
    });
    assert!(!spilled.accepted && spilled.grown > 0.5, "{spilled:?}");
    let half = judged(|(_, x), color| if color == BLUE && x < 64 { GOLD } else { color });
    assert!(!half.accepted && (0.4..0.6).contains(&half.whole), "{half:?}");
}

#[test]
fn dark_material_beside_a_highlight_is_no_mark() {
    // An eye as dark as its rim, with a highlight: the dark pixels beside the highlight are its material.
    let dark = |color| if [BLUE, BLACK].contains(&color) { Rgb(28, 26, 30) } else { color };
    let (unforced, labels) = face();
    let shine = |(y, x): (usize, usize)| (y as f64 - 44.0).hypot(x as f64 - 58.0) <= 5.0;
    let unforced =
        Array2::from_shape_fn(unforced.dim(), |at| if shine(at) { Rgb(255, 255, 255) } else { dark(unforced[at]) });
    // Redrawn in white, where no highlight is seen.
    let forced = unforced.mapv(|color| if color == dark(BLUE) { Rgb(250, 250, 250) } else { color });
    let unit = picture::unit(unforced.dim());
    let pair = Pair { unforced: &unforced, forced: &forced, labels_unforced: &labels, labels_forced: &labels, unit };
    let white = acceptance(&pair, Class::Eyes.index(), Rgb(250, 250, 250), &[]).expect("the eye is large enough");
    assert!(white.lines.is_none(), "{white:?}");
}

#[test]
fn labels_are_read_and_counted() {
    let folder = tempfile::tempdir().expect("a folder");
    let problem = |text: &str| {
        std::fs::write(folder.path().join("labels.json"), text).expect("written");
        Judged::open(folder.path()).err().map(|error| error.to_string()).unwrap_or_default()
    };
    assert!(Judged::open(folder.path()).is_err_and(|error| error.to_string().contains("labels.json")));
    assert!(problem("[{}]").contains("missing field `file`"));
    let label = |file: &str, verdict: &str| json!({ "file": file, "part": "eyes", "asked": "#ffd700", "verdict": verdict, "reason": "a test" });
    let flat = impasto::Raster::flat(SKIN, (260, 128));
    flat.save(folder.path().join("flat.png")).expect("saved");
    impasto::Raster::flat(SKIN, (200, 128)).save(folder.path().join("narrow.png")).expect("saved");
    let narrow = problem(&json!([label("narrow.png", "accept")]).to_string());
    assert!(narrow.contains("narrow.png has 200×128 pixels; expected two squares"), "{narrow}");
    assert_eq!(problem(&json!([label("flat.png", "reject"), label("flat.png", "unsure")]).to_string()), "");
    let all = Judged::open(folder.path()).expect("readable");
    assert_eq!((all.rejected(Answer::Reject), all.rejected(Answer::Accept)), (Some(1.0), None));
    let text = all.to_string();
    assert!(text.contains("too little of the part; a test") && text.contains("sensitivity  1.00 of 1"), "{text}");
}

#[test]
fn verdicts_agree_with_people() {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("labels");
    let text = std::fs::read(all.join("labels.json")).expect("readable");
    let labels: Vec<serde_json::Value> = serde_json::from_slice(&text).expect("labels");
    assert!(labels.len() >= 100, "{}", labels.len());
    // A fifth of them, for time; the command `judge` has all.
    let some: Vec<_> = labels.into_iter().step_by(5).collect();
    let folder = tempfile::tempdir().expect("a folder");
    for file in some.iter().filter_map(|label| label["file"].as_str()) {
        let _ = std::fs::copy(all.join(file), folder.path().join(file)).expect("copied");
    }
    std::fs::write(folder.path().join("labels.json"), json!(some).to_string()).expect("written");
    let judged = Judged::open(folder.path()).expect("readable");
    assert!(judged.rejected(Answer::Reject) >= Some(0.85), "{judged}");
    assert!(judged.rejected(Answer::Accept) <= Some(0.08), "{judged}");
}

#[test]
fn papers_measure_an_object_by_their_rules() {
    // Four fifths of the object are gold, and a fifth is black.
    let picture = Array2::from_shape_fn((10, 10), |(y, _)| if y < 8 { GOLD } else { BLACK });
    let object = Array2::from_elem((10, 10), true);
    let found = papers(&picture, &object, GOLD).expect("an object");
    assert!(found.cluster < 0.1, "the nearest cluster is gold: {found:?}");
    assert!((5.0..30.0).contains(&found.object), "the mean is darker: {found:?}");
    assert!(found.hue.is_some_and(|hue| hue < 5.0), "and has gold's hue: {found:?}");
    let blue = papers(&picture, &object, BLUE).expect("an object");
    assert!(blue.cluster > 20.0 && blue.hue > Some(90.0), "{blue:?}");
    assert_eq!(papers(&picture, &Array2::from_elem((10, 10), false), GOLD), None);
}
