//! The suite of a run: prompts, colors, seeds, and the jobs of each seed. A label determines every random choice.

use crate::choice::Choice;
use crate::colors::{Color, PALETTE, named, nearest_name, numeric};
use crate::guides::{Guide, STRENGTHS, Subject};
use crate::listing::Listed;
use crate::random::{Rng, fnv, on_side};
use crate::task::{Asked, LABEL, Method, OBJECTS, PARTS, Painted, Style, Task};
use crate::wording::{Form, Wording, document, own};
use impasto::Rgb;

const SKINS: [&str; 3] = ["pale", "tan", "brown"];
const HAIR_OF_BOYS: [&str; 2] = ["short hair", "spiky hair"];
const HAIR: [&str; 6] = ["short hair", "long hair", "twintails", "bob", "ponytail", "spiky hair"];

/// Number of pairs of a prompt and a seed in a suite. A quarter of the pairs is wanted; the others are replacements.
pub const PAIRS: usize = 1000;
/// Largest number of pairs that are tried for one wanted pair, the first one included. A pair is replaced if its
/// unforced picture does not show the part.
pub const TRIES: usize = 4;

/// The noise seeds of a suite.
pub fn seeds(split: &str, suite: u64, n: usize) -> Vec<u64> {
    if split == "public" {
        return (0..n as u64).map(|i| 1000 * suite + i).collect();
    }
    let mut rng = Rng::new(&format!("{LABEL}/{split}/{suite}/seeds"));
    let mut seeds = Vec::with_capacity(n);
    while seeds.len() < n {
        let seed = (1 << 32) + (rng.u64() >> 33);
        if !seeds.contains(&seed) {
            seeds.push(seed);
        }
    }
    seeds
}

/// The prompts of a suite's portraits, worded like the training captions.
pub fn portraits(split: &str, suite: u64, n: usize, style: Style) -> Vec<String> {
    let mut rng = Rng::new(&format!("{LABEL}/{split}/{suite}/portrait-{}", style.name()));
    let names = PALETTE.map(|(name, _)| name);
    let mut prompts: Vec<String> = Vec::with_capacity(n);
    while prompts.len() < n {
        let boy = rng.unit() < 0.3;
        let mut tags: Vec<String> = Vec::new();
        for part in PARTS {
            let colored = style == Style::Dressed && rng.unit() < 0.7;
            tags.push(match colored {
                true => format!("{} {part}", rng.pick(if part == "skin" { &SKINS } else { &names })),
                false => part.to_owned(),
            });
        }
        if rng.unit() < 0.4 {
            tags.push("mouth".to_owned());
        }
        if rng.unit() < 0.35 {
            tags.push(rng.pick(if boy { &HAIR_OF_BOYS } else { &HAIR }).to_owned());
        }
        rng.shuffle(&mut tags);
        let prompt = format!("{}, {}", if boy { "1boy" } else { "1girl" }, tags.join(", "));
        if on_side(split, Rng::new(&prompt).u64()) && !prompts.contains(&prompt) {
            prompts.push(prompt);
        }
    }
    prompts
}

/// One measurement to make. Its pairs are tried in order until a picture shows the part.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    pub task: Task,
    pub method: Method,
    pub style: Style,
    /// Number of the wanted pair, the unit that the bootstrap resamples.
    pub wanted: usize,
    pub asked: Vec<Asked>,
    pub painted: Vec<Painted>,
    pub guide: Option<Guide>,
    /// Phrases for everything that can be named in the picture.
    pub phrases: Vec<String>,
    /// Pairs of a prompt and a seed, in the order in which they are tried.
    pub pairs: Vec<(String, u64)>,
    /// The prompt with its color words, if a list of prompts has one.
    worded: Option<String>,
}

impl Job {
    /// The prompt of the method `word`, with the nearest color words before the parts. A list's own prompt with color
    /// words is used instead, if there is one.
    pub fn worded(&self, prompt: &str) -> String {
        let word = |prompt: String, asked: &Asked| dressed(&prompt, &asked.part, nearest_name(asked.rgb.lab()));
        self.worded.clone().unwrap_or_else(|| self.asked.iter().fold(prompt.to_owned(), word))
    }

    /// The subject of the job in keys and tables: painted objects with their places, `drawing`, a guide's strength, or
    /// parts.
    pub fn part(&self) -> String {
        if !self.painted.is_empty() {
            let place = |painted: &Painted| format!("{}@{:.1},{:.1}", painted.object, painted.area[0], painted.area[1]);
            return self.painted.iter().map(place).collect::<Vec<_>>().join("+");
        }
        if let Some(guide) = self.guide {
            return match self.task {
                Task::Edges | Task::Reference => "drawing".into(),
                _ => guide.strength.to_string(),
            };
        }
        self.asked.iter().map(|asked| asked.part.as_str()).collect::<Vec<_>>().join("+")
    }

    /// The asked colors in the form that keys use: `255,215,0`, with `+` between two colors.
    pub fn colors(&self) -> String {
        let color = |asked: &Asked| format!("{},{},{}", asked.rgb.0, asked.rgb.1, asked.rgb.2);
        self.asked.iter().map(color).collect::<Vec<_>>().join("+")
    }

    /// The key of the job's record with one of its pairs.
    pub fn key(&self, suite: &Suite, pair: usize) -> String {
        let (prompt, seed) = &self.pairs[pair];
        let (task, method, style) = (self.task.name(), self.method.name(), self.style.name());
        let (part, colors) = (self.part(), self.colors());
        let text =
            format!("{LABEL}|{}|{}|{task}|{method}|{style}|{part}|{colors}|{prompt}|{seed}", suite.split, suite.number);
        format!("{:016x}", fnv(text))
    }
}

/// The suite of one split and number, from which all jobs follow.
#[derive(Clone, Debug)]
pub struct Suite {
    pub split: String,
    pub number: u64,
    pub seeds: Vec<u64>,
    pub plain: Vec<String>,
    pub dressed: Vec<String>,
    pub colors: Vec<Color>,
    /// Prompts of a file, used instead of portraits and scenes.
    pub listed: Option<Vec<Listed>>,
    /// The wording of the portraits' prompts.
    pub wording: Wording,
}

/// One question of a task. Each method that can do the task gets a job for the question.
struct Ask {
    style: Style,
    asked: Vec<Asked>,
    painted: Vec<Painted>,
    guide: Option<Guide>,
    phrases: Vec<String>,
    pairs: Vec<(String, u64)>,
    worded: Option<String>,
}

impl Ask {
    fn of(style: Style, asked: Vec<Asked>, pairs: Vec<(String, u64)>) -> Self {
        let phrases = PARTS.map(str::to_owned).to_vec();
        Self { style, asked, painted: Vec::new(), guide: None, phrases, pairs, worded: None }
    }

    fn scene(painted: Vec<Painted>, pairs: Vec<(String, u64)>) -> Self {
        let phrases = OBJECTS.iter().chain(&["ground", "sky"]).map(|phrase| (*phrase).to_owned()).collect();
        Self { style: Style::Scene, asked: Vec::new(), painted, guide: None, phrases, pairs, worded: None }
    }
}

impl Suite {
    pub fn new(split: &str, number: u64) -> Self {
        let named = named(split, number).into_iter().take(4).map(|(name, rgb)| Color { rgb, name: Some(name) });
        let bands = numeric(split, number, 8).into_iter().step_by(2).map(|rgb| Color { rgb, name: None });
        Self {
            split: split.to_owned(),
            number,
            seeds: seeds(split, number, PAIRS),
            plain: portraits(split, number, PAIRS, Style::Plain),
            dressed: portraits(split, number, PAIRS, Style::Dressed),
            colors: named.chain(bands).collect(),
            listed: None,
            wording: Wording::default(),
        }
    }

    /// Returns the suite with all sixteen of its colors.
    pub fn with_all_colors(mut self) -> Self {
        let named = named(&self.split, self.number).into_iter().map(|(name, rgb)| Color { rgb, name: Some(name) });
        let numeric = numeric(&self.split, self.number, 8).into_iter().map(|rgb| Color { rgb, name: None });
        self.colors = named.chain(numeric).collect();
        self
    }

    /// Number of wanted pairs.
    pub fn pair_count(&self) -> usize {
        if self.seeds.len() == PAIRS { PAIRS / TRIES } else { self.seeds.len() }
    }

    /// Wanted pair `i`, then the pairs that can replace it.
    fn pairs(&self, i: usize, prompts: &[String]) -> Vec<(String, u64)> {
        let pair = |t: usize| {
            let at = i + t * self.pair_count();
            Some((prompts.get(at % prompts.len())?.clone(), *self.seeds.get(at)?))
        };
        (0..TRIES).map_while(pair).collect()
    }

    fn label(&self, what: &str) -> Rng {
        Rng::new(&format!("{LABEL}/{}/{}/{what}", self.split, self.number))
    }

    /// Every job of wanted pair `i`, in the order of the chosen tasks and methods.
    pub fn jobs(&self, i: usize, choice: &Choice) -> Vec<Job> {
        let mut jobs = Vec::new();
        for task in &choice.tasks {
            let asks = match &self.listed {
                Some(list) => self.asks_of(&list[i % list.len()], *task, i, choice),
                None => self.asks(*task, i, choice),
            };
            for ask in asks {
                for method in choice.methods.iter().filter(|method| method.does(*task)) {
                    jobs.push(Job {
                        task: *task,
                        method: *method,
                        style: ask.style,
                        wanted: i,
                        asked: ask.asked.clone(),
                        painted: ask.painted.clone(),
                        guide: ask.guide,
                        phrases: ask.phrases.clone(),
                        pairs: ask.pairs.clone(),
                        worded: ask.worded.clone(),
                    });
                }
            }
        }
        jobs
    }

    /// The pairs of portraits in which colors are asked for parts, in the suite's wording.
    fn portraits(&self, i: usize, asked: &[Asked]) -> Vec<(String, u64)> {
        let parts: Vec<&str> = asked.iter().map(|asked| asked.part.as_str()).collect();
        match (self.wording.form, parts.as_slice()) {
            (Form::Document | Form::Own, [part]) => self.pairs(i, &self.of_documents(part)),
            _ => self.worded(self.pairs(i, &self.plain), &parts),
        }
    }

    /// The prompts of documents that name a part.
    fn of_documents(&self, part: &str) -> Vec<String> {
        match self.wording.form {
            Form::Own => own(part),
            _ => document(part).into_iter().collect(),
        }
    }

    fn worded(&self, mut pairs: Vec<(String, u64)>, parts: &[&str]) -> Vec<(String, u64)> {
        pairs.iter_mut().for_each(|(prompt, _)| *prompt = self.wording.of(prompt, parts));
        pairs
    }

    fn plain(&self, i: usize, asked: Vec<Asked>) -> Ask {
        let pairs = self.portraits(i, &asked);
        Ask::of(Style::Plain, asked, pairs)
    }

    fn asks(&self, task: Task, i: usize, choice: &Choice) -> Vec<Ask> {
        // Each of the documents' prompts is about one part, so only these two tasks can use them.
        let of_document = matches!(self.wording.form, Form::Document | Form::Own);
        if of_document && !matches!(task, Task::Named | Task::Numeric) {
            return Vec::new();
        }
        let parts = || {
            let chosen = move |part: &str| {
                choice.parts.iter().any(|chosen| chosen == part)
                    && (!of_document || !self.of_documents(part).is_empty())
            };
            PARTS.iter().enumerate().filter(move |(_, part)| chosen(part))
        };
        let asked = |part: &str, color: &Color| vec![Asked { part: part.to_owned(), rgb: color.rgb }];
        match task {
            Task::Named | Task::Numeric => parts()
                .flat_map(|(number, part)| self.colors_at(i + number, choice).map(move |color| (*part, color)))
                .filter(|(_, color)| color.name.is_some() == (task == Task::Named))
                .map(|(part, color)| self.plain(i, asked(part, color)))
                .collect(),
            Task::Binding => parts()
                .filter(|(number, _)| choice.full || *number == i % PARTS.len())
                .map(|(number, part)| {
                    let color = &self.colors[(i + number) % self.colors.len()];
                    let mut pairs = self.pairs(i, &self.dressed);
                    pairs.iter_mut().for_each(|(prompt, _)| *prompt = undressed(prompt, part));
                    Ask::of(Style::Dressed, asked(part, color), self.worded(pairs, &[part]))
                })
                .collect(),
            Task::Many => (2..=4).map(|count| self.plain(i, self.many(i, count, &PARTS))).collect(),
            Task::Same => vec![self.plain(i, self.same(i, &PARTS))],
            Task::Saliency => vec![self.plain(i, vec![])],
            Task::Place => {
                let object = self.object("place", i);
                let prompt = [format!("a {object}, ground, sky")];
                (0..4)
                    .map(|quadrant| {
                        let (left, top) = (f64::from(quadrant % 2) / 2.0, f64::from(quadrant / 2) / 2.0);
                        let painted = vec![Painted { object, area: [left, top, left + 0.5, top + 0.5] }];
                        Ask::scene(painted, self.pairs(i, &prompt)[..1].to_vec())
                    })
                    .collect()
            }
            Task::Swap => {
                let mut rng = self.label(&format!("swap-{i}"));
                let mut objects = OBJECTS;
                rng.shuffle(&mut objects);
                let [a, b, ..] = objects;
                let names = PALETTE.map(|(name, _)| name);
                let mut word =
                    |place: &str| if i % 2 == 1 { format!("{} {place}", rng.pick(&names)) } else { place.to_owned() };
                let prompt = [format!("a {a} and a {b}, {}, {}", word("ground"), word("sky"))];
                let halves = |left, right| {
                    let left = Painted { object: left, area: [0.0, 0.0, 0.5, 1.0] };
                    vec![left, Painted { object: right, area: [0.5, 0.0, 1.0, 1.0] }]
                };
                let pairs = self.pairs(i, &prompt)[..1].to_vec();
                [halves(a, b), halves(b, a)].map(|painted| Ask::scene(painted, pairs.clone())).into()
            }
            Task::Image => STRENGTHS.map(|strength| self.guided("image", i, strength)).into(),
            Task::Edges => vec![self.guided("edges", i, 1.0)],
            Task::Reference => vec![self.guided("reference", i, 1.0)],
        }
    }

    /// Asks for a portrait and a scene in turn, each guided by a drawing of its kind. `what` is the name of the task,
    /// which gives each task its own drawings and objects.
    fn guided(&self, what: &str, i: usize, strength: f64) -> Ask {
        // The public split has even seeds and other splits have odd ones, so they share no drawing. Nothing was trained
        // on these seeds.
        let seed = 950_000_000 + 2 * self.label(&format!("{what}-{i}")).below(10_000_000);
        let seed = seed + u64::from(self.split != "public");
        let object = self.object(what, i / 2);
        let subject = match what {
            // Only portraits have parts to compare.
            "reference" => Subject::Portrait,
            _ if i.is_multiple_of(2) => Subject::Portrait,
            // Lines of another object would contradict the prompt.
            "edges" => Subject::SceneOf(object),
            _ => Subject::Scene,
        };
        let ask = match subject {
            Subject::Portrait => {
                let ask = self.plain(i, vec![]);
                Ask { pairs: ask.pairs[..1].to_vec(), ..ask }
            }
            _ => {
                let prompt = [format!("a {object}, ground, sky")];
                Ask::scene(vec![], self.pairs(i, &prompt)[..1].to_vec())
            }
        };
        Ask { guide: Some(Guide { subject, seed, strength }), ..ask }
    }

    /// The questions of a task with a prompt of a file.
    fn asks_of(&self, listed: &Listed, task: Task, i: usize, choice: &Choice) -> Vec<Ask> {
        // A picture that does not show the part is replaced by a picture of the same prompt with another seed.
        let seeds = (0..TRIES).map_while(|t| self.seeds.get(i + t * self.pair_count()));
        let pairs: Vec<(String, u64)> = seeds.map(|seed| (listed.prompt.clone(), *seed)).collect();
        let ask = |asked: Vec<Asked>| Ask {
            style: Style::Listed,
            asked,
            painted: Vec::new(),
            guide: None,
            phrases: listed.phrases.clone(),
            pairs: pairs.clone(),
            worded: listed.worded.clone(),
        };
        if let Some((its, asked)) = &listed.fixed {
            return if *its == task { vec![ask(asked.clone())] } else { Vec::new() };
        }
        let phrases: Vec<&str> = listed.phrases.iter().map(String::as_str).collect();
        match task {
            Task::Named | Task::Numeric => self
                .colors_at(i, choice)
                .filter(|color| color.name.is_some() == (task == Task::Named))
                .map(|color| ask(vec![Asked { part: listed.phrases[0].clone(), rgb: color.rgb }]))
                .collect(),
            Task::Many => (2..=phrases.len().min(4)).map(|count| ask(self.many(i, count, &phrases))).collect(),
            Task::Same if phrases.len() > 1 => vec![ask(self.same(i, &phrases))],
            Task::Saliency => vec![ask(Vec::new())],
            Task::Same | Task::Binding | Task::Place | Task::Swap => Vec::new(),
            Task::Image | Task::Edges | Task::Reference => Vec::new(),
        }
    }

    /// Returns all colors if the choice is full, otherwise the one color of this turn.
    fn colors_at(&self, turn: usize, choice: &Choice) -> impl Iterator<Item = &Color> {
        let (from, count) = if choice.full { (0, self.colors.len()) } else { (turn % self.colors.len(), 1) };
        self.colors[from..].iter().take(count)
    }

    fn same(&self, i: usize, parts: &[&str]) -> Vec<Asked> {
        let mut rng = self.label(&format!("same-{i}"));
        let rgb = self.colors[rng.below(self.colors.len() as u64) as usize].rgb;
        let mut parts = parts.to_vec();
        rng.shuffle(&mut parts);
        parts[..2].iter().map(|part| Asked { part: (*part).to_owned(), rgb }).collect()
    }

    /// Chooses `count` parts and their colors, which are CIEDE2000 20 or more apart.
    fn many(&self, i: usize, count: usize, parts: &[&str]) -> Vec<Asked> {
        let mut rng = self.label(&format!("many-{i}-{count}"));
        let (mut parts, mut colors) = (parts.to_vec(), self.colors.clone());
        rng.shuffle(&mut parts);
        rng.shuffle(&mut colors);
        let mut chosen: Vec<Rgb> = Vec::new();
        for color in &colors {
            if chosen.iter().all(|other| color.rgb.delta_e(*other) >= 20.0) {
                chosen.push(color.rgb);
            }
        }
        parts.iter().zip(chosen).take(count).map(|(part, rgb)| Asked { part: (*part).to_owned(), rgb }).collect()
    }

    /// The object of wanted pair `i`. Each block of ten pairs has all ten objects.
    fn object(&self, what: &str, i: usize) -> &'static str {
        let mut objects = OBJECTS;
        self.label(&format!("{what}-{}", i / objects.len())).shuffle(&mut objects);
        objects[i % objects.len()]
    }
}

/// The color word before `part` in its tag, if there is one.
pub fn color_word<'a>(prompt: &'a str, part: &str) -> Option<&'a str> {
    let word = prompt.split(", ").find_map(|tag| tag.strip_suffix(part)?.strip_suffix(' '))?;
    PALETTE.iter().any(|(name, _)| *name == word).then_some(word)
}

/// The prompt without the color word of a tag.
pub fn undressed(prompt: &str, part: &str) -> String {
    match color_word(prompt, part) {
        Some(word) => replaced(prompt, &format!("{word} {part}"), part),
        None => prompt.to_owned(),
    }
}

/// The prompt with a color word before the tag `part`. Without such a tag the word goes before the first `part` in the
/// text.
pub fn dressed(prompt: &str, part: &str, word: &str) -> String {
    let by = format!("{word} {part}");
    match prompt.split(", ").any(|tag| tag == part) {
        true => replaced(prompt, part, &by),
        false => prompt.replacen(part, &by, 1),
    }
}

fn replaced(prompt: &str, tag: &str, by: &str) -> String {
    prompt.split(", ").map(|each| if each == tag { by } else { each }).collect::<Vec<_>>().join(", ")
}
