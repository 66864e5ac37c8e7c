//! A mock of the model, which tests suite, records, statistics and report without libtorch.

use crate::*;

/// The way in which the mock answers a request.
#[derive(Clone, Copy, PartialEq)]
pub enum Mock {
    /// Draws exactly what was asked for.
    Perfect,
    /// Draws the unforced picture.
    Null,
    Fails,
}

pub const SIDE: usize = 64;
/// Color of the sky in the mock's scenes. No portrait has this color in its corner.
pub const SKY: Rgb = Rgb(170, 215, 255);

pub fn portrait() -> Labels {
    Array2::from_shape_fn((SIDE, SIDE), |at| match at {
        (4..20, 4..16) => 4,
        (24..36, 4..18) => 3,
        (4..20, 24..60) => 2,
        (24..40, 24..60) => 1,
        (44..62, 10..54) => 6,
        _ => 0,
    })
}

impl Generator for Mock {
    fn make(&mut self, request: &Request<'_>) -> Result<Shot, Failure> {
        if *self == Self::Fails && request.method != Method::Unforced {
            return Err("the mock always fails".into());
        }
        if request.prompt.contains("sky") {
            return Ok(Shot { picture: scene(*self, request), ..Shot::default() });
        }
        if let (Some((drawing, strength)), Self::Perfect) = (request.guide, *self) {
            let unguided = self.make(&Request { guide: None, ..request.clone() })?.picture;
            return Ok(Shot { picture: mixed(&unguided, drawing, strength), ..Shot::default() });
        }
        let labels = portrait();
        let shade = |(y, x): (usize, usize)| 1.0 + 0.06 * (0.9 * x as f64 + 0.4 * y as f64 + request.seed as f64).sin();
        let base = |class: u8| {
            let part = impasto_train::dataset::Class::ALL[usize::from(class)].name();
            let word = suite::color_word(request.prompt, part);
            let named = word.and_then(|word| colors::PALETTE.iter().find(|(name, _)| *name == word));
            named.map_or(Rgb(90 + 15 * class, 120, 160 - 10 * class), |(_, color)| *color)
        };
        let unforced = Array2::from_shape_fn(labels.dim(), |at| {
            let channel = |value: u8| (f64::from(value) * shade(at)).clamp(0.0, 255.0).round() as u8;
            let Rgb(r, g, b) = base(labels[at]);
            Rgb(channel(r), channel(g), channel(b))
        });
        let mut picture = unforced.clone();
        for asked in request.asked.iter().filter(|_| *self == Self::Perfect) {
            let part = of_class(&labels, class(&asked.part));
            let (mean, goal) = (picture::mean_linear(&unforced, &part), picture::light(asked.rgb));
            for (pixel, _) in picture.iter_mut().zip(&part).filter(|(_, inside)| **inside) {
                let light = picture::light(*pixel);
                let [r, g, b] =
                    picture::encoded([0, 1, 2].map(|c| light[c] / mean[c] * goal[c])).map(|x| x.round() as u8);
                *pixel = Rgb(r, g, b);
            }
        }
        let own = |asked: &task::Asked| Own {
            delta_e: Some(0.5),
            converged: Some(true),
            mask: Some(of_class(&labels, class(&asked.part))),
            under_stroke: None,
        };
        let map = |phrase: &String| {
            (phrase.clone(), of_class(&labels, class(phrase)).mapv(|inside| f32::from(u8::from(inside))))
        };
        let maps = request.phrases.iter().map(map).collect();
        Ok(Shot { picture, own: request.asked.iter().map(own).collect(), maps })
    }

    fn drawing(&mut self, guide: &guides::Guide) -> Result<Picture, Failure> {
        let tone = |y: usize| (40 + 3 * y as u64 + guide.seed % 7) as u8;
        Ok(Array2::from_shape_fn((SIDE, SIDE), |(y, _)| Rgb(tone(y), 30, 90)))
    }

    fn likeness(&mut self, a: &Picture, b: &Picture) -> Result<f64, Failure> {
        let apart = |(a, b): (&Rgb, &Rgb)| f64::from(a.0.abs_diff(b.0)) + f64::from(a.1.abs_diff(b.1));
        Ok(1.0 - a.iter().zip(b).map(apart).sum::<f64>() / (510.0 * a.len() as f64))
    }
}

/// Moves the pixels that the mock judge ignores towards a drawing: a scene's sky except its corner, and all of a
/// portrait.
fn mixed(unguided: &Picture, drawing: &Picture, strength: f64) -> Picture {
    let scene = unguided[(0, 0)] == SKY;
    Array2::from_shape_fn(unguided.dim(), |at| {
        let (u, d) = (unguided[at], drawing[at]);
        let channel = |u: u8, d: u8| (f64::from(u) + strength * (f64::from(d) - f64::from(u))).round() as u8;
        let free = !scene || (u == SKY && at != (0, 0));
        if free { Rgb(channel(u.0, d.0), channel(u.1, d.1), channel(u.2, d.2)) } else { u }
    })
}

/// Draws the objects where they are painted, or small in the middle.
pub fn scene(mock: Mock, request: &Request<'_>) -> Picture {
    let mut picture = Array2::from_elem((SIDE, SIDE), SKY);
    let objects = task::OBJECTS.into_iter().filter(|object| request.prompt.contains(object));
    for object in objects {
        let area = request.painted.iter().find(|painted| painted.object == object);
        let [left, top, right, bottom] = match area {
            Some(painted) if mock == Mock::Perfect => painted.area,
            _ => [0.4, 0.4, 0.6, 0.6],
        };
        let place = |from: f64, to: f64| (SIDE as f64 * from) as usize + 4..(SIDE as f64 * to) as usize - 4;
        for (y, x) in place(top, bottom).flat_map(|y| place(left, right).map(move |x| (y, x))) {
            picture[(y, x)] = class_color(class(object));
        }
    }
    picture
}

/// A judge that sees exactly what the mock draws.
pub struct MockJudge;

impl Judge for MockJudge {
    fn look(&mut self, view: &View<'_>) -> Result<Option<Seen>, Failure> {
        let class = |pixel: &Rgb| (8..20).find(|class| class_color(*class) == *pixel).unwrap_or(8);
        let labels = if view.picture[(0, 0)] == SKY { view.picture.map(class) } else { portrait() };
        Ok(Some(Seen { labels, sure: BTreeMap::new() }))
    }
}

pub fn made() -> Made {
    Made { model: "mock".into(), judge: "mock".into(), settings: "s".into(), version: "0".into() }
}

pub fn plan(suite: &Suite, methods: &[Method]) -> Plan<'static> {
    let suite: &'static Suite = Box::leak(Box::new(suite.clone()));
    let choice = Choice { tasks: Task::ALL.to_vec(), methods: methods.to_vec(), ..Choice::default() };
    let (seeds, made) = (Seeds::Exactly(3), made());
    Plan { suite, choice, made, seeds, unsteady: vec![], limit: None, workers: 1, shard: (0, 1), only: None }
}

pub fn ran(plan: &Plan<'_>, folder: &Path, mock: Mock) -> Vec<Record> {
    let (mut records, mut known) = Records::open(&folder.join("runs.jsonl")).unwrap();
    let mut gallery = Gallery::open(folder, Pictures::Worst(4), &known).unwrap();
    let mut fresh = Vec::new();
    let _ = runner::run(
        plan,
        &known,
        &mut records,
        || Ok((mock, MockJudge)),
        |record, strip, _| {
            fresh.push(record.clone());
            gallery.keep(record, strip)
        },
    )
    .unwrap();
    known.append(&mut fresh);
    of_maker(known, &plan.made)
}

/// A summary without times.
pub fn timeless(mut records: Vec<Record>) -> String {
    records.iter_mut().for_each(|record| (record.ms, record.ms_unforced) = (0.0, None));
    serde_json::to_string(&Summary::new(&records, About::default(), None).unwrap()).unwrap()
}

pub const METHODS: [Method; 6] =
    [Method::Unforced, Method::DocParts, Method::Exact, Method::PwwOff, Method::Pww, Method::Image];

#[test]
fn a_perfect_generator_meets_every_target() {
    let folder = tempfile::tempdir().unwrap();
    let records = ran(&plan(&Suite::new("public", 3), &METHODS), folder.path(), Mock::Perfect);
    let summary = Summary::new(&records, About::default(), None).unwrap();
    for verdict in &summary.verdicts {
        assert!(verdict.met, "{verdict:?}");
    }
    assert!(summary.verdicts.len() >= 20, "{}", summary.verdicts.len());
    assert_eq!((summary.failed, summary.seeds), (0, 3));
}

#[test]
fn a_generator_that_does_nothing_misses_every_color() {
    let folder = tempfile::tempdir().unwrap();
    let records = ran(&plan(&Suite::new("public", 3), &METHODS), folder.path(), Mock::Null);
    let summary = Summary::new(&records, About::default(), None).unwrap();
    let colors = summary.verdicts.iter().filter(|verdict| verdict.what.starts_with("ΔE") || verdict.what == "retry");
    assert!(colors.clone().count() >= 9 && colors.clone().all(|verdict| !verdict.met));
    assert!(summary.verdicts.iter().any(|verdict| verdict.what == "placed" && !verdict.met));
    assert!(!summary.met());
}

#[test]
fn a_generator_that_fails_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let records = ran(&plan(&Suite::new("public", 3), &[Method::Doc]), folder.path(), Mock::Fails);
    assert!(records.iter().all(|record| record.status == Status::Failed));
    let summary = Summary::new(&records, About::default(), None).unwrap();
    assert_eq!(summary.row("color", Method::Doc, ALL).unwrap().figures["delta_e"].value, None, "+∞");
    report::write(folder.path(), &summary, &records).unwrap();
    assert!(folder.path().join("report.html").exists());
}
