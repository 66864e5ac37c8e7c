//! A model that has only cross-attention sites, to read the weights of painted areas without a network.
//!
//! The figures are in `tests/golden/specs/paint_with_words.json`; numpy made them in double precision.

use impasto::attention::{
    At, AttentionSite, Call, CrossAttentionHook, HookTable, Interest, KvCache, Place, SiteKind, Tap,
};
use impasto::diffusion::solver::Euler;
use impasto::diffusion::{Denoiser, Input, Noise, Predictions, Schedule, Spacing, TrainingSchedule};
use impasto::guidance::{Guidance, GuidanceRun, Setup};
use impasto::methods::PaintWithWords;
use impasto::methods::paint_with_words::PaintReport;
use impasto::sampler::{Sampler, Start};
use impasto::testing::ToyModel;
use impasto::wording::Note;
use impasto::{Branch, BranchInfo, Codec, Conditioning, Grid, Prompt, Result, Rgb, Step, Texts};
use serde_json::Value;
use std::any::Any;
use tch::{Device, Kind, Tensor};

pub fn golden() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/specs/paint_with_words.json");
    serde_json::from_slice(&std::fs::read(path).expect("the file is there")).expect("it is JSON")
}

pub fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(values) => values.iter().flat_map(numbers).collect(),
        value => vec![value.as_f64().expect("a number")],
    }
}

pub fn tensor(value: &Value, shape: &[i64]) -> Tensor {
    Tensor::from_slice(&numbers(value)).to_kind(Kind::Float).reshape(shape)
}

pub fn apart(a: &Tensor, b: &Tensor) -> f64 {
    (a - b).abs().max().double_value(&[])
}

#[track_caller]
pub fn close(got: &Tensor, want: &Value, tolerance: f64) {
    let want = Tensor::from_slice(&numbers(want)).reshape(got.size());
    let apart = (got.to_kind(Kind::Double) - want).abs().max().double_value(&[]);
    assert!(apart <= tolerance, "{apart:e} apart, {tolerance:e} allowed");
}

/// The golden case's prompt, one token a word: ids 5 6 7 5 8 9 10 5 11 12 13 5 12 between start and padding.
pub const PROMPT: &str = "a sea under a red boat with a full moon above a moon";
pub const RED: Rgb = Rgb(255, 0, 0);
pub const GREEN: Rgb = Rgb(0, 255, 0);
pub const BLUE: Rgb = Rgb(0, 0, 255);
pub const GRAY: Rgb = Rgb(128, 128, 128);

/// A model that has only cross-attention sites: at 0 to 3 halvings of the latent, with two heads and 16 tokens each.
pub struct AttentionOnly {
    sites: Vec<AttentionSite>,
}

pub const TOKENS: i64 = 16;

impl AttentionOnly {
    pub fn new() -> Self {
        let site = |halvings: u32| {
            let name = format!("level{halvings}");
            let mut site = AttentionSite::new(name, SiteKind::Cross, Place::Up, halvings, 2);
            site.index = halvings as usize;
            site
        };
        Self { sites: (0..4).map(site).collect() }
    }

    /// Begins a run of two images, and takes no step.
    pub fn begin(&self, prompt: &str, grid: Grid, sampler: Sampler<'_>) -> Result<()> {
        let mut start = Start::new(prompt, grid, Noise::seeded(1));
        start.images = 2;
        self.begin_at(start, sampler)
    }

    /// Begins a run from any start, and takes no step.
    pub fn begin_at(&self, start: Start<'_>, sampler: Sampler<'_>) -> Result<()> {
        sampler.start(self, start).map(drop)
    }
}

impl Denoiser for AttentionOnly {
    fn sites(&self) -> &[AttentionSite] {
        &self.sites
    }
    fn denoise(&self, step: &Step, inputs: &[Input<'_>], _: &mut Tap<'_>) -> Result<Predictions> {
        Ok(Predictions::new(step, inputs, inputs.iter().map(|input| input.x.shallow_clone())))
    }
}

impl Codec for AttentionOnly {
    fn prompt(&self, texts: Texts<'_>) -> Result<Prompt> {
        let text = texts.first;
        let mut end = 0;
        let words = text.split_whitespace().map(|word| {
            let start = end + text[end..].find(word).expect("it is there");
            end = start + word.len();
            start..end
        });
        Ok(Prompt::new(text, words.collect(), 75))
    }
    fn text(&self, _: Texts<'_>) -> Result<Conditioning> {
        Ok(Conditioning::new(Tensor::zeros([1, TOKENS, 8], (Kind::Float, Device::Cpu))))
    }
    fn encode(&self, picture: &Tensor) -> Result<Tensor> {
        ToyModel::new(1)?.encode(picture)
    }
    fn decode(&self, latent: &Tensor) -> Result<Tensor> {
        ToyModel::new(1)?.decode(latent)
    }
    fn cell(&self) -> i64 {
        1
    }
}

/// A sampler of four steps, for [`AttentionOnly::begin`].
pub fn four_steps<'g>() -> Sampler<'g> {
    Sampler::new(
        Schedule::new(&TrainingSchedule::stable_diffusion(), 4, Spacing::Karras).expect("steps in range"),
        Euler,
    )
}

/// Paint with Words that is lent to a run, so that a test can call the hook of the run's state and read its report.
pub struct Painter {
    settings: PaintWithWords,
    state: Option<Box<dyn GuidanceRun>>,
}

impl Painter {
    pub fn new(settings: PaintWithWords) -> Self {
        Self { settings, state: None }
    }

    /// The attention hook of the run that began last.
    pub fn hook(&mut self) -> &mut dyn CrossAttentionHook {
        self.hooks().pop().expect("paint has a hook")
    }

    /// The report of the run that began last.
    pub fn details(&self) -> Result<PaintReport> {
        let found = self.state().details()?.into_iter().find_map(|one| (one as Box<dyn Any>).downcast().ok());
        Ok(*found.expect("paint reports its areas"))
    }

    fn state(&self) -> &dyn GuidanceRun {
        self.state.as_deref().expect("a run has begun")
    }

    fn state_mut(&mut self) -> &mut dyn GuidanceRun {
        self.state.as_deref_mut().expect("a run has begun")
    }
}

impl GuidanceRun for Painter {
    fn begin(&mut self, setup: &mut Setup<'_>) -> Result<()> {
        self.settings.check()?;
        self.state = Some(self.settings.begin(setup, None)?);
        Ok(())
    }
    fn condition(&mut self, branch: &BranchInfo, conditioning: &mut Conditioning, codec: &dyn Codec) -> Result<()> {
        self.state_mut().condition(branch, conditioning, codec)
    }
    fn noise(&mut self, noise: &mut Tensor) -> Result<()> {
        self.state_mut().noise(noise)
    }
    fn hooks(&mut self) -> Vec<&mut dyn CrossAttentionHook> {
        self.state_mut().hooks()
    }
    fn notes(&self) -> Vec<Note> {
        self.state().notes()
    }
    fn name(&self) -> &'static str {
        self.settings.name()
    }
}

/// A hook that reads the biased scores, so that attention takes the explicit kernel.
#[derive(Default)]
pub struct Reader(pub Option<Tensor>);

impl CrossAttentionHook for Reader {
    fn interest(&self, _: &AttentionSite, _: Branch) -> Interest {
        Interest::SCORES
    }
    fn scores(&mut self, _: &At, scores: &mut Tensor) -> Result<()> {
        self.0 = Some(scores.copy());
        Ok(())
    }
}

/// Makes one attention call with hooks that have begun, at noise level `sigma` → [b, cells, heads · d].
pub fn attend(
    mut hooks: Vec<&mut dyn CrossAttentionHook>,
    (site, grid, branch): (usize, Grid, Branch),
    sigma: f64,
    [q, k, v]: [&Tensor; 3],
) -> Result<Tensor> {
    let (easel, step) = (AttentionOnly::new(), Step::new(0, 1, sigma, 0.0, 0.0));
    let mut cache = KvCache::default();
    let table = HookTable::new(&hooks, &easel.sites, &[branch])?;
    let branches = [branch];
    let call = Call { step: &step, branches: &branches, images: 0..q.size()[0], grid };
    let lent: Vec<&mut dyn CrossAttentionHook> = hooks.iter_mut().map(|hook| hook as _).collect();
    let mut tap = Tap::new(call, lent, &table, &mut cache)?;
    let context = Tensor::zeros([q.size()[0], TOKENS, 8], (Kind::Float, Device::Cpu));
    tap.attend(&easel.sites[site], q, &context, |_| Ok((k.shallow_clone(), v.shallow_clone())))
}

/// Returns the weights w at a site, [cells, tokens]: the values that a flat weight function adds to scores of 0.
pub fn weights(paint: &mut Painter, grid: Grid, site: usize, branch: Branch) -> Result<Tensor> {
    Ok(each_weights(paint, grid, site, branch, 1)?.select(0, 0))
}

/// Returns the weights w at a site for each of the first images, [images, cells, tokens].
pub fn each_weights(paint: &mut Painter, grid: Grid, site: usize, branch: Branch, images: i64) -> Result<Tensor> {
    let cells = grid.halved(site as u32).cells();
    let zeros = |n| Tensor::zeros([images, 2, n, 4], (Kind::Float, Device::Cpu));
    let mut reader = Reader::default();
    let mut hooks = paint.hooks();
    hooks.push(&mut reader);
    let _ = attend(hooks, (site, grid, branch), 1.0, [&zeros(cells), &zeros(TOKENS), &zeros(TOKENS)])?;
    Ok(reader.0.expect("it was called").select(1, 0))
}
