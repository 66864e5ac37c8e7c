//! The runner of jobs: makes the pictures, has them judged, and writes the figures into records.

use crate::acceptance::acceptance;
use crate::choice::Choice;
use crate::colors;
use crate::edges;
use crate::failure::Failure;
use crate::guides::{self, Guided};
use crate::judge::{Judge, Seen, View, class};
use crate::measure::{self, Pair};
use crate::papers::papers;
use crate::picture::{self, Picture, mean_lab, mean_linear};
use crate::placement::{inside, is_there, painted, placement};
use crate::record::{Found, Made, Names, PartFigures, Record, Records, Status, Thing};
use crate::reference;
use crate::regions::{Labels, Mask, ceiling, core, iou, of_class};
use crate::shot::{Generator, Request, Shot};
use crate::suite::{self, Job, Suite};
use crate::task::{Asked, LABEL, Method, OBJECTS, Style, Task};
use impasto::Rgb;
use ndarray::Array2;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

/// Thresholds at which attention is compared with regions, in hundredths.
const THRESHOLDS: [u8; 8] = [15, 20, 25, 30, 35, 40, 50, 60];
/// Side of the grid on which attention is compared with regions, in cells.
const GRID: usize = 64;
/// Side of a latent cell in pixels.
const CELL: usize = 8;
/// Share of a budget that goes into runs. The rest is for the report.
const RUNNING: f64 = 0.95;
/// Least number of whole seeds that every budget runs.
pub const LEAST_SEEDS: usize = 8;

/// The number of seeds that a run takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Seeds {
    /// Exactly this many seeds.
    Exactly(usize),
    /// The seeds that fit into this time, at least [`LEAST_SEEDS`].
    Within(Duration),
}

/// Returns true if seed number `next` must still run, after `done` seeds took `elapsed`.
pub fn another(next: usize, done: usize, elapsed: Duration, workers: usize, seeds: Seeds) -> bool {
    match seeds {
        Seeds::Exactly(seeds) => next < seeds,
        Seeds::Within(_) if next < LEAST_SEEDS => true,
        Seeds::Within(budget) => {
            // Every worker runs one seed at a time.
            let each = elapsed.as_secs_f64() * workers as f64 / done.max(1) as f64;
            elapsed.as_secs_f64() + each <= RUNNING * budget.as_secs_f64()
        }
    }
}

/// The plan of a run.
pub struct Plan<'a> {
    pub suite: &'a Suite,
    pub choice: Choice,
    pub made: Made,
    pub seeds: Seeds,
    /// Unsteady parts: their region moves with the color, for the judge. They are measured where the judge sees them in
    /// both pictures.
    pub unsteady: Vec<String>,
    /// Time after which the run ends between two pictures.
    pub limit: Option<Duration>,
    pub workers: usize,
    /// Shard of the seeds that this run measures: i of n.
    pub shard: (usize, usize),
    /// Wanted pair and key of the only run to measure, if there is just one.
    pub only: Option<(usize, String)>,
}

/// The wanted pair that has the run with this key.
pub fn wanted_of(suite: &Suite, choice: &Choice, key: &str) -> Option<usize> {
    let has = |job: &Job| (0..job.pairs.len()).any(|pair| job.key(suite, pair) == key);
    (0..suite.pair_count()).find(|i| suite.jobs(*i, choice).iter().any(has))
}

/// The progress of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Progress {
    pub seeds: usize,
    /// Number of runs without a record, because the judge has not seen their pictures yet.
    pub waiting: usize,
    pub elapsed: Duration,
    /// True if the time was up before all seeds that were begun were done.
    pub stopped: bool,
}

/// Pictures of a run for people, in one strip: unforced, forced, regions, and mask, map or drawing.
pub struct Strip(pub Vec<Picture>);

/// Runs a plan. `bench` makes a generator and a judge for each worker. `keep` gets every new record with its pictures.
pub fn run<G: Generator, J: Judge>(
    plan: &Plan<'_>,
    done: &[Record],
    records: &mut Records,
    bench: impl Fn() -> Result<(G, J), Failure> + Sync,
    mut keep: impl FnMut(&Record, Option<Strip>, &Progress) -> Result<(), Failure>,
) -> Result<Progress, Failure> {
    let known: HashMap<&str, Status> = done
        .iter()
        .filter(|record| record.made == plan.made)
        .map(|record| (record.key.as_str(), record.status))
        .collect();
    let begun = Instant::now();
    let (next, finished, waiting) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    let (stop, stopped) = (AtomicBool::new(false), AtomicBool::new(false));
    let broken: Mutex<Option<Failure>> = Mutex::new(None);
    let (shard, shards) = plan.shard;
    let (send, receive) = mpsc::sync_channel::<(Record, Option<Strip>)>(64);

    std::thread::scope(|scope| -> Result<(), Failure> {
        for _ in 0..plan.workers {
            let (send, known, next, finished, waiting, stop, stopped, broken, bench) =
                (send.clone(), &known, &next, &finished, &waiting, &stop, &stopped, &broken, &bench);
            let work = move || -> Result<(), Failure> {
                let (mut generator, mut judge) = bench()?;
                let mut begun_any = false;
                loop {
                    let ours = next.fetch_add(1, Ordering::Relaxed);
                    let i = ours * shards + shard;
                    let time =
                        another(ours, finished.load(Ordering::Relaxed), begun.elapsed(), plan.workers, plan.seeds);
                    let more = match plan.seeds {
                        Seeds::Exactly(seeds) => i < seeds,
                        Seeds::Within(_) => time,
                    };
                    if !more || i >= plan.suite.pair_count() {
                        return Ok(());
                    }
                    if plan.only.as_ref().is_some_and(|(wanted, _)| *wanted != i) {
                        continue;
                    }
                    let mut unit = Unit::new(plan, &mut generator, &mut judge);
                    // The limit counts after the first run, because a report needs at least one run.
                    let time_is_up = |begun_any| begun_any && plan.limit.is_some_and(|limit| begun.elapsed() >= limit);
                    let whole = unit.all(i, known, |made| match made {
                        None if stop.load(Ordering::Relaxed) || time_is_up(begun_any) => {
                            stopped.store(true, Ordering::Relaxed);
                            false
                        }
                        None => {
                            begun_any = true;
                            true
                        }
                        Some(made) => send.send(made).is_ok(),
                    })?;
                    let _ = waiting.fetch_add(unit.waiting, Ordering::Relaxed);
                    if !whole {
                        return Ok(());
                    }
                    let _ = finished.fetch_add(1, Ordering::Relaxed);
                }
            };
            let _ = scope.spawn(move || {
                if let Err(failure) = work() {
                    stop.store(true, Ordering::Relaxed);
                    let _ = broken.lock().map(|mut broken| broken.get_or_insert(failure).to_string());
                }
            });
        }
        drop(send);
        let written = (|| {
            for (record, strip) in &receive {
                records.append(&record)?;
                let (seeds, waiting) = (finished.load(Ordering::Relaxed), waiting.load(Ordering::Relaxed));
                let progress = Progress { seeds, waiting, elapsed: begun.elapsed(), stopped: false };
                keep(&record, strip, &progress)?;
            }
            Ok::<(), Failure>(records.sync()?)
        })();
        if written.is_err() {
            stop.store(true, Ordering::Relaxed);
            receive.into_iter().for_each(drop); // so that no worker waits to send
        }
        written
    })?;
    if let Some(failure) = broken.into_inner().ok().flatten() {
        return Err(failure);
    }
    let (seeds, waiting, elapsed) = (finished.into_inner(), waiting.into_inner(), begun.elapsed());
    Ok(Progress { seeds, waiting, elapsed, stopped: stopped.into_inner() })
}

/// Measures every job of a wanted pair, without their pictures. `go_on` is called before each job; `None` if it
/// returned false.
///
/// # Errors
/// A judge that is broken, or that has not seen a picture.
pub fn seed<G: Generator, J: Judge>(
    plan: &Plan<'_>,
    generator: &mut G,
    judge: &mut J,
    wanted: usize,
    mut go_on: impl FnMut() -> bool,
) -> Result<Option<Vec<Record>>, Failure> {
    let mut records = Vec::new();
    let mut unit = Unit::new(plan, generator, judge);
    let whole = unit.all(wanted, &HashMap::new(), |made| match made {
        None => go_on(),
        Some((record, _)) => {
            records.push(record);
            true
        }
    })?;
    if unit.waiting > 0 {
        return Err("the judge has not seen the pictures of a seed".into());
    }
    Ok(whole.then_some(records))
}

/// The reason why a run has no figures.
#[derive(Clone, Debug)]
enum Trouble {
    /// An error of the method, which goes into its record.
    Failed(String),
    /// The judge has not seen the picture yet.
    Waiting,
    /// An error of the judge, which goes into no record and ends the run.
    Broken(String),
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure.to_string())
    }
}

/// The pictures of one seed. Each unforced picture is made once.
struct Unit<'a, G, J> {
    plan: &'a Plan<'a>,
    generator: &'a mut G,
    judge: &'a mut J,
    unforced: HashMap<(String, u64), Result<Rc<Known>, Trouble>>,
    waiting: usize,
}

struct Known {
    shot: Shot,
    seen: Seen,
    ms: f64,
}

impl<'a, G: Generator, J: Judge> Unit<'a, G, J> {
    fn new(plan: &'a Plan<'a>, generator: &'a mut G, judge: &'a mut J) -> Self {
        Self { plan, generator, judge, unforced: HashMap::new(), waiting: 0 }
    }

    /// Measures every job of a wanted pair that has no record yet. `go_on` is called with `None` before each job and
    /// with its record after it. If it returns false, the measurement ends.
    fn all(
        &mut self,
        i: usize,
        known: &HashMap<&str, Status>,
        mut go_on: impl FnMut(Option<(Record, Option<Strip>)>) -> bool,
    ) -> Result<bool, Failure> {
        let plan = self.plan;
        for job in plan.suite.jobs(i, &plan.choice) {
            for pair in 0..job.pairs.len() {
                let key = job.key(plan.suite, pair);
                if plan.only.as_ref().is_some_and(|(_, only)| *only != key) {
                    continue;
                }
                let status = match known.get(key.as_str()) {
                    Some(status) => *status,
                    None if !go_on(None) => return Ok(false),
                    None => {
                        let Some(made) = self.measured(&job, pair, key)? else {
                            self.waiting += 1;
                            break;
                        };
                        let status = made.0.status;
                        if !go_on(Some(made)) {
                            return Ok(false);
                        }
                        status
                    }
                };
                if status != Status::Missing {
                    break;
                }
            }
        }
        Ok(true)
    }

    /// Measures a job with one of its pairs; `None` while the judge has not seen the pictures.
    fn measured(&mut self, job: &Job, pair: usize, key: String) -> Result<Option<(Record, Option<Strip>)>, Failure> {
        let (prompt, seed) = job.pairs[pair].clone();
        let mut record = Record {
            key,
            label: LABEL.into(),
            split: self.plan.suite.split.clone(),
            suite: self.plan.suite.number,
            task: job.task,
            method: job.method,
            style: job.style,
            part: job.part(),
            rgb: job.colors(),
            prompt,
            seed,
            wanted: job.wanted,
            made: self.plan.made.clone(),
            status: Status::Measured,
            error: None,
            parts: Vec::new(),
            names: None,
            found: Vec::new(),
            things: Vec::new(),
            left_out: None,
            guided: None,
            followed: None,
            colored: None,
            ms: 0.0,
            ms_unforced: None,
        };
        match self.fill(job, &mut record) {
            Ok(strip) => Ok(Some((record, strip))),
            Err(Trouble::Failed(error)) => {
                record.status = Status::Failed;
                record.error = Some(error);
                Ok(Some((record, None)))
            }
            Err(Trouble::Waiting) => Ok(None),
            Err(Trouble::Broken(error)) => Err(error.into()),
        }
    }

    fn fill(&mut self, job: &Job, record: &mut Record) -> Result<Option<Strip>, Trouble> {
        record.seed = self.chosen(job, record)?;
        let unforced = self.unforced(job, &record.prompt, record.seed)?;
        record.ms_unforced = Some(unforced.ms);
        let class = |phrase: &str| class(phrase, &job.phrases);
        let classes: Vec<u8> = job.asked.iter().map(|asked| class(&asked.part)).collect();
        let shown = |class: &u8| {
            core(&of_class(&unforced.seen.labels, *class), picture::unit(unforced.shot.picture.dim())).0 >= 1
        };
        if !classes.iter().all(shown) {
            record.status = Status::Missing;
            record.ms = unforced.ms;
            return Ok(None);
        }
        let drawing = job.guide.map(|guide| self.generator.drawing(&guide)).transpose()?;
        let known = self.forced(job, record, &unforced, drawing.as_ref())?;
        record.ms = known.ms;
        let (h, w) = known.shot.picture.dim();
        if known.shot.picture.dim() != unforced.shot.picture.dim() {
            return Err(Trouble::Failed(format!(
                "the picture has {w}×{h} pixels, but the unforced picture has another size"
            )));
        }
        if known.shot.picture.iter().all(|pixel| *pixel == known.shot.picture[(0, 0)]) {
            return Err(Trouble::Failed("the picture has only one color".into()));
        }
        let mut labels_forced = known.seen.labels.clone();
        for part in &self.plan.unsteady {
            let part = class(part);
            let alone = |(forced, unforced): &(&mut u8, &u8)| **forced == part && **unforced != part;
            let both = labels_forced.iter_mut().zip(&unforced.seen.labels);
            both.filter(alone).for_each(|(forced, _)| *forced = measure::DETAIL);
        }
        let pair = Pair {
            unforced: &unforced.shot.picture,
            forced: &known.shot.picture,
            labels_unforced: &unforced.seen.labels,
            labels_forced: &labels_forced,
            unit: picture::unit((h, w)),
        };
        for (i, asked) in job.asked.iter().enumerate() {
            let class = classes[i];
            let others: Vec<u8> = classes.iter().copied().filter(|other| *other != class).collect();
            let region = of_class(&unforced.seen.labels, class);
            let own = known.shot.own.get(i);
            record.parts.push(PartFigures {
                part: asked.part.clone(),
                target: asked.rgb,
                corner: colors::is_corner(asked.rgb),
                unsteady: self.plan.unsteady.contains(&asked.part),
                round_trip: self.generator.round_trip(asked.rgb),
                uncertain: known.seen.sure.get(&class).is_some_and(|sure| *sure < 0.6),
                ceiling: ceiling(&region, CELL).0,
                iou_mask: own.and_then(|own| own.mask.as_ref()).map(|mask| iou(mask, &region)),
                own_delta_e: own.and_then(|own| own.delta_e),
                converged: own.and_then(|own| own.converged),
                under_stroke: own.and_then(|own| own.under_stroke),
                acceptance: acceptance(&pair, class, asked.rgb, &others),
                papers: papers(pair.forced, &of_class(pair.labels_forced, class), asked.rgb),
                measure: measure::measure(&pair, class, asked.rgb, &others),
            });
        }
        if job.task == Task::Binding {
            record.names = Some(names(job, &record.prompt, &pair));
        }
        if job.task == Task::Saliency {
            record.found = found(&known.shot, &known.seen.labels, class);
        }
        for painted in &job.painted {
            let placement = placement(&known.seen.labels, class(painted.object), &inside(painted.area, (h, w)));
            record.things.push(Thing { object: painted.object.to_owned(), placement });
        }
        if !job.painted.is_empty() {
            record.left_out = Some(!has_stranger(&known.seen.labels, &record.prompt, class));
        }
        if let (Task::Edges, Some(original)) = (job.task, &drawing) {
            let lines = edges::drawing(original, record.seed)?;
            record.followed = Some(edges::followed(original, &lines, &known.shot.picture)?);
            return Ok(Some(strip(job, &unforced, &known, Some(&edges::shown(&lines)?))));
        }
        if let (Task::Reference, Some(drawing)) = (job.task, &drawing) {
            let of_drawing = self.seen(drawing, job, &unforced.shot)?.labels;
            let (own, base) = (&known.shot.picture, &unforced.shot.picture);
            let colored = reference::colored((drawing, &of_drawing), (own, &known.seen.labels), base, &job.phrases)?;
            record.colored = Some(colored);
            return Ok(Some(strip(job, &unforced, &known, Some(drawing))));
        }
        if let (Some(guide), Some(drawing)) = (job.guide, &drawing) {
            let named = job.phrases.iter().filter(|phrase| guides::names(&record.prompt, phrase));
            let named: Vec<u8> = named.map(|phrase| class(phrase)).collect();
            record.guided = Some(Guided {
                strength: guide.strength,
                clip: self.generator.likeness(&known.shot.picture, drawing)?,
                palette: guides::palette(&known.shot.picture, drawing),
                kept: guides::kept(&unforced.seen.labels, &known.seen.labels, &named),
            });
        }
        let shown = job.method != Method::Unforced || !job.asked.is_empty();
        Ok(shown.then(|| strip(job, &unforced, &known, drawing.as_ref())))
    }

    /// The seed that the pictures of a record are made from.
    fn chosen(&mut self, job: &Job, record: &Record) -> Result<u64, Trouble> {
        let request = Request {
            prompt: &record.prompt,
            seed: record.seed,
            method: job.method,
            asked: &job.asked,
            painted: &job.painted,
            guide: None,
            unforced: None,
            phrases: &[],
            regions: &[],
        };
        self.generator.chosen(&request).map_err(|error| Trouble::Failed(error.to_string()))
    }

    /// The picture without guidance, with the attention that the judge or the task `saliency` needs.
    fn unforced(&mut self, job: &Job, prompt: &str, seed: u64) -> Result<Rc<Known>, Trouble> {
        let at = (prompt.to_owned(), seed);
        if let Some(known) = self.unforced.get(&at) {
            return known.clone();
        }
        let measured = matches!(job.style, Style::Plain | Style::Listed);
        let look = self.judge.wants_attention() || measured && self.plan.choice.tasks.contains(&Task::Saliency);
        let phrases: &[String] = if look { &job.phrases } else { &[] };
        let (asked, painted, guide, regions) = (&[], &[], None, &[]);
        let method = Method::Unforced;
        let request = Request { prompt, seed, method, asked, painted, guide, unforced: None, phrases, regions };
        let known = self.made(&request, job, None).map(Rc::new);
        let _ = self.unforced.insert(at, known.clone());
        known
    }

    fn forced(
        &mut self,
        job: &Job,
        record: &Record,
        unforced: &Rc<Known>,
        drawing: Option<&Picture>,
    ) -> Result<Rc<Known>, Trouble> {
        let strength = job.guide.map_or(0.0, |guide| guide.strength);
        let region = |asked: &Asked| of_class(&unforced.seen.labels, class(&asked.part, &job.phrases));
        let regions: Vec<Mask> = job.asked.iter().map(region).collect();
        let begun = Instant::now();
        let picture = match job.method {
            Method::Unforced | Method::PwwOff => return Ok(unforced.clone()),
            Method::Image if strength == 0.0 => return Ok(unforced.clone()),
            Method::Recolor => recolored(&unforced.shot.picture, &job.asked, &regions),
            Method::Paste => pasted(&unforced.shot.picture, &job.asked, &regions),
            method => {
                let worded = (method == Method::Word).then(|| job.worded(&record.prompt));
                let request = Request {
                    prompt: worded.as_ref().unwrap_or(&record.prompt),
                    seed: record.seed,
                    method,
                    asked: &job.asked,
                    painted: &job.painted,
                    guide: drawing.map(|drawing| (drawing, strength)),
                    unforced: Some(&unforced.shot.picture),
                    phrases: if job.task == Task::Saliency { &job.phrases } else { &[] },
                    regions: &regions,
                };
                return Ok(Rc::new(self.made(&request, job, Some(unforced))?));
            }
        };
        let ms = begun.elapsed().as_secs_f64() * 1e3;
        let shot = Shot { picture, ..Shot::default() };
        Ok(Rc::new(Known { seen: self.seen(&shot.picture, job, &unforced.shot)?, shot, ms }))
    }

    /// Makes a picture and has it judged. The judge gets the attention of the unforced twin, or the picture's own if
    /// the picture is unforced.
    fn made(&mut self, request: &Request<'_>, job: &Job, unforced: Option<&Known>) -> Result<Known, Trouble> {
        let begun = Instant::now();
        let shot = self.generator.make(request)?;
        let ms = begun.elapsed().as_secs_f64() * 1e3;
        let seen = self.seen(&shot.picture, job, unforced.map_or(&shot, |known| &known.shot))?;
        Ok(Known { seen, shot, ms })
    }

    fn seen(&mut self, picture: &Picture, job: &Job, unforced: &Shot) -> Result<Seen, Trouble> {
        let view = View { picture, phrases: &job.phrases, attention: &unforced.maps };
        let seen = self.judge.look(&view).map_err(|failure| Trouble::Broken(failure.to_string()))?;
        seen.ok_or(Trouble::Waiting)
    }
}

/// Recolors a picture as an editor would: every asked region times target / mean in linear light.
fn recolored(u: &Picture, asked: &[Asked], regions: &[Mask]) -> Picture {
    let mut picture = u.clone();
    for (Asked { rgb, .. }, region) in asked.iter().zip(regions) {
        let mean = mean_linear(u, &core(region, picture::unit(u.dim())).1);
        let goal = picture::light(*rgb);
        for (pixel, _) in picture.iter_mut().zip(region).filter(|(_, inside)| **inside) {
            let light = picture::light(*pixel);
            // A channel without light has no shading to keep.
            let scaled = [0, 1, 2].map(|c| if mean[c] > 1e-4 { light[c] / mean[c] * goal[c] } else { goal[c] });
            let [r, g, b] = picture::encoded(scaled).map(|channel| channel.round() as u8);
            *pixel = Rgb(r, g, b);
        }
    }
    picture
}

fn pasted(u: &Picture, asked: &[Asked], regions: &[Mask]) -> Picture {
    let mut picture = u.clone();
    for (Asked { rgb, .. }, region) in asked.iter().zip(regions) {
        picture.iter_mut().zip(region).filter(|(_, inside)| **inside).for_each(|(pixel, _)| *pixel = *rgb);
    }
    picture
}

/// Counts the parts that have the color of their word, unforced and forced.
fn names(job: &Job, prompt: &str, pair: &Pair<'_>) -> Names {
    let mut names = Names::default();
    for part in job.phrases.iter().filter(|part| job.asked.iter().all(|asked| asked.part != **part)) {
        let Some(word) = suite::color_word(prompt, part) else { continue };
        let name = |picture: &Picture, labels: &Labels| {
            let (k, inside) = core(&of_class(labels, class(part, &job.phrases)), pair.unit);
            (k >= 1).then(|| colors::nearest_name(mean_lab(picture, &inside)))
        };
        if name(pair.unforced, pair.labels_unforced) == Some(word) {
            names.right += 1;
            names.kept += usize::from(name(pair.forced, pair.labels_forced) == Some(word));
        }
    }
    names
}

fn found(shot: &Shot, labels: &Labels, class: impl Fn(&str) -> u8) -> Vec<Found> {
    let (h, w) = labels.dim();
    let unit = picture::unit((h, w));
    let mut all = Vec::new();
    for (part, map) in &shot.maps {
        let region = of_class(labels, class(part));
        if core(&region, unit).0 == 0 {
            continue;
        }
        let small = Array2::from_shape_fn((GRID, GRID), |(y, x)| region[(y * h / GRID, x * w / GRID)]);
        let at = |threshold: u8| {
            (threshold.to_string(), iou(&map.mapv(|value| f64::from(value) > f64::from(threshold) / 100.0), &small))
        };
        let iou = THRESHOLDS.into_iter().map(at).collect();
        all.push(Found { part: part.clone(), iou, ceiling: ceiling(&region, CELL).0 });
    }
    all
}

/// Returns true if an object that the prompt does not name covers 1 % of the picture or more.
fn has_stranger(labels: &Labels, prompt: &str, class: impl Fn(&str) -> u8) -> bool {
    let named = |object: &str| prompt.split(|c: char| !c.is_alphanumeric()).any(|word| word == object);
    OBJECTS.iter().any(|object| !named(object) && is_there(labels, class(object)))
}

/// The color in which the region of a class is shown.
pub fn class_color(class: u8) -> Rgb {
    const COLORS: [Rgb; 20] = [
        Rgb(235, 235, 235),
        Rgb(255, 205, 165),
        Rgb(120, 70, 30),
        Rgb(0, 120, 255),
        Rgb(255, 60, 160),
        Rgb(200, 0, 40),
        Rgb(60, 170, 120),
        Rgb(20, 20, 20),
        Rgb(170, 215, 255),
        Rgb(125, 190, 90),
        Rgb(190, 80, 60),
        Rgb(20, 110, 40),
        Rgb(110, 60, 160),
        Rgb(255, 200, 0),
        Rgb(255, 130, 40),
        Rgb(240, 120, 220),
        Rgb(250, 245, 150),
        Rgb(255, 230, 40),
        Rgb(30, 60, 200),
        Rgb(0, 170, 180),
    ];
    // Phrases that the evaluator does not know share the colors of scenes.
    let class = usize::from(class);
    COLORS[if class < COLORS.len() { class } else { 8 + class % 12 }]
}

/// Makes a strip of four pictures: unforced, forced, as judged, and the mask, map or drawing that was asked for.
fn strip(job: &Job, unforced: &Known, forced: &Known, drawing: Option<&Picture>) -> Strip {
    let mut mask = forced.seen.labels.mapv(|_| Rgb(24, 24, 24));
    for (own, asked) in forced.shot.own.iter().zip(&job.asked) {
        for (pixel, inside) in mask.iter_mut().zip(own.mask.iter().flatten()) {
            *pixel = if *inside { asked.rgb } else { *pixel };
        }
    }
    let areas = job.painted.iter().map(|each| (each, inside(painted(each.area), mask.dim()))).collect::<Vec<_>>();
    for (each, area) in areas {
        let color = class_color(class(each.object, &job.phrases));
        mask.iter_mut().zip(&area).filter(|(_, inside)| **inside).for_each(|(pixel, _)| *pixel = color);
    }
    let mask = drawing.cloned().unwrap_or(mask);
    let pictures = [&unforced.shot.picture, &forced.shot.picture].map(Clone::clone);
    Strip(pictures.into_iter().chain([forced.seen.labels.mapv(class_color), mask]).collect())
}
