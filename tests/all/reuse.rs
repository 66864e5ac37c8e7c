//! Deep layers of the network that are computed once for several steps.

use impasto::attention::{At, AttentionSite, CrossAttentionHook, Interest, Probs};
use impasto::guidance::GuidanceRun;
use impasto::hint::{Drawing, Sketch, Strokes};
use impasto::model::Controlled;
use impasto::pipeline::Request;
use impasto::saliency::Daam;
use impasto::sampler::Batching;
use impasto::testing::ToyModel;
use impasto::{Branch, Control, Output, Pipeline, Raster, Result, Rgb, Source};
use tch::Kind;

const PROMPT: &str = "1girl, red hair, blue eyes, white shirt";

fn paint<'p>(pipeline: &'p Pipeline, reuse: usize, set: impl FnOnce(Request<'p>) -> Request<'p>) -> Result<Output> {
    set(pipeline.request(PROMPT).seed(7).steps(8).tune(|config| config.reuse = reuse)).run()
}

fn apart(a: &Output, b: &Output) -> f64 {
    (&a.latents - &b.latents).abs().mean(Kind::Float).double_value(&[])
}

/// A hook that reads attention at the sites whose names begin with a text.
#[derive(Default)]
struct Reads(&'static str, usize);

impl CrossAttentionHook for Reads {
    fn interest(&self, site: &AttentionSite, _: Branch) -> Interest {
        if site.name.starts_with(self.0) { Interest::PROBS } else { Interest::NONE }
    }
    fn probs(&mut self, _: &At<'_>, _: &Probs<'_>) -> Result<()> {
        self.1 += 1;
        Ok(())
    }
}

impl GuidanceRun for Reads {
    fn hooks(&mut self) -> Vec<&mut dyn CrossAttentionHook> {
        vec![self]
    }
}

#[test]
fn picture_stays_near_to_that_of_all_layers() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let whole = paint(&pipeline, 1, |request| request)?;
    let other = paint(&pipeline, 1, |request| request.seed(8))?;
    let [two, three] = [2, 3].map(|reuse| paint(&pipeline, reuse, |request| request));
    let (two, three) = (two?, three?);
    assert!(two.notes.is_empty() && apart(&two, &whole) > 1e-3, "{:?}", two.notes);
    assert!(apart(&two, &whole) < 0.5 * apart(&other, &whole), "{}", apart(&two, &whole));
    assert!(apart(&two, &whole) < apart(&three, &whole), "{} {}", apart(&two, &whole), apart(&three, &whole));
    // A run after another one begins anew, and the order of calls changes only the rounding.
    assert_eq!(paint(&pipeline, 2, |request| request)?.latents, two.latents);
    let apart_calls = paint(&pipeline, 2, |request| request.tune(|config| config.batching = Batching::OneByOne))?;
    assert!(apart(&apart_calls, &two) < 1e-3, "{}", apart(&apart_calls, &two));
    Ok(())
}

#[test]
fn hooks_in_deep_layers_see_every_step() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let whole = paint(&pipeline, 1, |request| request)?;
    let read = paint(&pipeline, 2, |request| request.guide(Daam::of("hair")))?;
    assert_eq!(read.latents, whole.latents);
    assert!(read.notes.iter().any(|note| note.text.contains("reuse did nothing")), "{:?}", read.notes);
    // A hook in the first level alone is called in every step, too, and deep layers are used again beside it.
    let two = paint(&pipeline, 2, |request| request)?;
    let shallow = paint(&pipeline, 2, |request| request.guide(|| Reads("down_blocks.0.", 0)))?;
    assert_eq!(shallow.latents, two.latents);
    Ok(())
}

#[test]
fn controlnets_and_second_order_solvers_take_part() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let net = pipeline.model().controlnet(&Source::embedded())?;
    let mut face = Raster::flat(Rgb(255, 255, 255), (256, 256));
    face.paste(&Raster::flat(Rgb(0, 0, 0), (90, 110)), 80, 60);
    let drawing = Drawing { sketch: Sketch::of_edges(&face)?, strokes: Strokes::new((256, 256)) };
    let run = |reuse| paint(&pipeline, reuse, |request| request.control(Control::drawing(&net, &drawing)));
    let (whole, two) = (run(1)?, run(2)?);
    assert!(apart(&whole, &two) > 1e-3 && apart(&whole, &two) < 0.3, "{}", apart(&whole, &two));
    let heun = |reuse| paint(&pipeline, reuse, |request| request.solver_named("Heun"));
    let (whole, two) = (heun(1)?, heun(2)?);
    assert!(apart(&whole, &two) > 1e-3 && apart(&whole, &two) < 0.3, "{}", apart(&whole, &two));
    Ok(())
}

#[test]
fn values_that_no_run_can_use_are_told() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    for reuse in [0, 11] {
        let error = paint(&pipeline, reuse, |request| request).expect_err("a value outside the range").to_string();
        assert!(error.contains(&format!("reuse is {reuse}; expected 1 to 10")), "{error}");
    }
    let toy = ToyModel::new(1)?;
    let error = Controlled::new(&toy, &[])?.reuse(2).expect_err("a network without levels").to_string();
    assert!(error.contains("expected 1 for this network"), "{error}");
    Ok(())
}
