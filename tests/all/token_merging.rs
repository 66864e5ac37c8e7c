//! Self-attention in which similar cells are computed as one. The golden case `tests/golden/tiny_txt2img_token_merging`
//! compares its numbers with tomesd.

use super::unmerged_lora::model_beside;
use impasto::attention::{At, AttentionSite, CrossAttentionHook, Interest, Probs};
use impasto::diffusion::solver::Euler;
use impasto::guidance::GuidanceRun;
use impasto::mask::Region;
use impasto::methods::{ColorForce, PerturbedAttention, SmoothedEnergy, UnmergedLora};
use impasto::model::Controlled;
use impasto::pipeline::Request;
use impasto::saliency::Daam;
use impasto::sampler::Batching;
use impasto::testing::ToyModel;
use impasto::{Branch, Output, Pipeline, Result, Rgb};
use tch::Kind;

const PROMPT: &str = "a red boat, blue sky, green ground";

fn paint<'p>(pipeline: &'p Pipeline, share: f64, set: impl FnOnce(Request<'p>) -> Request<'p>) -> Result<Output> {
    set(pipeline.request(PROMPT).seed(7).steps(8).tune(|config| config.merge_tokens = share)).run()
}

fn apart(a: &Output, b: &Output) -> f64 {
    (&a.latents - &b.latents).abs().mean(Kind::Float).double_value(&[])
}

fn merges_nothing(output: &Output) -> bool {
    output.notes.iter().any(|note| note.text.contains("merge_tokens did nothing"))
}

/// A hook that reads attention of the prompt's branch at the sites whose names contain a text, and keeps the numbers of
/// queries.
struct Reads(&'static str, Vec<i64>);

impl CrossAttentionHook for Reads {
    fn interest(&self, site: &AttentionSite, branch: Branch) -> Interest {
        let reads = branch == Branch::Cond && site.name.contains(self.0);
        if reads { Interest::PROBS } else { Interest::NONE }
    }
    fn probs(&mut self, at: &At<'_>, _: &Probs<'_>) -> Result<()> {
        self.1.push(at.query().size()[2]);
        Ok(())
    }
}

impl GuidanceRun for Reads {
    fn hooks(&mut self) -> Vec<&mut dyn CrossAttentionHook> {
        vec![self]
    }
}

#[test]
fn picture_keeps_its_layout() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let run = |share| paint(&pipeline, share, |request| request.steps(28));
    let whole = pipeline.request(PROMPT).seed(7).steps(28).run()?;
    assert_eq!(run(0.0)?.latents, whole.latents);
    let other = paint(&pipeline, 0.0, |request| request.steps(28).seed(8))?;
    let (quarter, half) = (run(0.25)?, run(0.5)?);
    assert!(half.notes.is_empty(), "{:?}", half.notes);
    let [quarter, most, other] = [&quarter, &half, &other].map(|output| apart(output, &whole));
    assert!(1e-3 < quarter && quarter < most && most < 0.5 * other, "{quarter} {most} {other}");
    assert_eq!(run(0.5)?.latents, half.latents, "the same seed, the same picture");
    Ok(())
}

#[test]
fn image_of_a_batch_equals_the_image_alone() -> Result<()> {
    fn one_by_one(request: Request<'_>) -> Request<'_> {
        request.tune(|config| config.batching = Batching::OneByOne)
    }
    let pipeline = Pipeline::builder().build()?;
    let batch = paint(&pipeline, 0.5, |request| one_by_one(request.images(2)))?;
    let second = paint(&pipeline, 0.5, |request| one_by_one(request.seed(8)))?;
    assert_eq!(batch.latents.narrow(0, 1, 1), second.latents);
    let together = paint(&pipeline, 0.5, |request| request.images(2))?;
    assert!(apart(&together, &batch) < 0.02, "{}", apart(&together, &batch));
    Ok(())
}

#[test]
fn run_in_two_parts_has_the_draws_of_the_whole_run() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let whole = paint(&pipeline, 0.5, |request| request.solver(Euler))?;
    let first = paint(&pipeline, 0.5, |request| request.solver(Euler).until(0.5))?;
    let rest = |seed| paint(&pipeline, 0.5, |request| request.solver(Euler).seed(seed).resume(&first.latents, 0.5));
    let (same, other) = (rest(7)?, rest(8)?);
    assert!(apart(&same, &whole) < 0.1 * apart(&other, &whole), "{} {}", apart(&same, &whole), apart(&other, &whole));
    Ok(())
}

#[test]
fn sites_with_hooks_compute_each_cell() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let whole = paint(&pipeline, 0.0, |request| request)?;
    let half = paint(&pipeline, 0.5, |request| request)?;
    for batching in [Batching::Together, Batching::OneByOne] {
        let run = |share| {
            paint(&pipeline, share, |request| {
                request.guide(|| Reads("attn1", Vec::new())).tune(|config| config.batching = batching)
            })
        };
        let read = run(0.5)?;
        assert_eq!(read.latents, run(0.0)?.latents, "{batching:?}");
        assert!(merges_nothing(&read), "{:?}", read.notes);
    }
    // A hook at one site sees each cell, and the others merge cells.
    let (mut at_one, cells) = (Reads("down_blocks.1.attentions.0.transformer_blocks.0.attn1", Vec::new()), 16 * 16);
    let one = paint(&pipeline, 0.5, |request| request.attach(&mut at_one))?;
    assert!(apart(&one, &whole) > 1e-3 && apart(&one, &half) > 1e-3, "{}", apart(&one, &half));
    assert!(at_one.1.len() == 8 && at_one.1.iter().all(|queries| *queries == cells), "{:?}", at_one.1);
    // Hooks in cross-attention change nothing, and see each cell.
    let mut across = Reads("down_blocks.1.attentions.0.transformer_blocks.0.attn2", Vec::new());
    assert_eq!(paint(&pipeline, 0.5, |request| request.attach(&mut across))?.latents, half.latents);
    assert!(across.1.len() == 8 && across.1.iter().all(|queries| *queries == cells), "{:?}", across.1);
    assert_eq!(paint(&pipeline, 0.5, |request| request.guide(Daam::of("boat")))?.latents, half.latents);
    Ok(())
}

#[test]
fn methods_see_self_attention_of_each_cell() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let perturbed = |share| paint(&pipeline, share, |r| r.guide(PerturbedAttention::new(2.0).sites(|_| true)));
    let smoothed = |share| paint(&pipeline, share, |r| r.guide(SmoothedEnergy::new(2.0).sites(|_| true)));
    for (half, whole) in [(perturbed(0.5)?, perturbed(0.0)?), (smoothed(0.5)?, smoothed(0.0)?)] {
        assert!(half.latents == whole.latents && merges_nothing(&half), "{:?}", half.notes);
    }
    // An exact color reads self-attention in some steps, and the others merge cells.
    let exact = paint(&pipeline, 0.5, |request| request.guide(ColorForce::exact("boat", Rgb(30, 160, 60))))?;
    let swatch = exact.reports.iter().find_map(|report| report.swatches.first()).expect("a forced color");
    assert!(!merges_nothing(&exact) && swatch.delta_e < 3.0, "{swatch:?} {:?}", exact.notes);
    Ok(())
}

#[test]
fn loras_in_places_compute_each_cell() -> Result<()> {
    let pipeline = Pipeline::new(model_beside()?);
    let run = |share, lora: UnmergedLora| paint(&pipeline, share, |request| request.guide(lora));
    let placed = || UnmergedLora::new("ink", 0.5).within(Region::rect(0.0..0.5, 0.0..1.0));
    let (half, whole) = (run(0.5, placed())?, run(0.0, placed())?);
    assert!(half.latents == whole.latents && merges_nothing(&half), "{:?}", half.notes);
    let everywhere = run(0.5, UnmergedLora::new("ink", 0.5))?;
    assert!(!merges_nothing(&everywhere), "{:?}", everywhere.notes);
    Ok(())
}

#[test]
fn other_options_of_speed_and_solvers_take_part() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let reused = |share| paint(&pipeline, share, |request| request.tune(|config| config.reuse = 2));
    let heun = |share| paint(&pipeline, share, |request| request.solver_named("Heun"));
    for (whole, half) in [(reused(0.0)?, reused(0.5)?), (heun(0.0)?, heun(0.5)?)] {
        assert!(apart(&whole, &half) > 1e-3 && apart(&whole, &half) < 0.3, "{}", apart(&whole, &half));
    }
    Ok(())
}

#[test]
fn values_that_no_run_can_use_are_told() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    for share in [-0.5, 0.76, f64::NAN] {
        let error = paint(&pipeline, share, |request| request).expect_err("a share outside the range").to_string();
        assert!(error.contains(&format!("merge_tokens is {share}; expected 0 to 0.75; 0.5 is usual")), "{error}");
    }
    let toy = ToyModel::new(1)?;
    let error = Controlled::new(&toy, &[])?.merge_tokens(0.5).expect_err("a network without a UNet").to_string();
    assert!(error.contains("expected 0 for this network"), "{error}");
    let _ = Controlled::new(&toy, &[])?.merge_tokens(0.0)?;
    Ok(())
}
