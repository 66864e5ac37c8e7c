//! Laws of wrappers: a wrapper of a guidance method or hook forwards every phase to the value inside.

use super::{GOLD, Probe, latent, sampler, schedule, start};
use impasto::attention::{CrossAttentionHook, Interest};
use impasto::diffusion::solver::Euler;
use impasto::diffusion::{Denoised, Predictions, Transition};
use impasto::guidance::{Guidance, Plan, Report, Setup};
use impasto::methods::ColorForce;
use impasto::saliency::{Competition, Saliency};
use impasto::sampler::Sampler;
use impasto::testing::ToyModel;
use impasto::wording::Note;
use impasto::{BranchInfo, Codec, Conditioning, Prompt, Recipe, Result, Step, Window};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use tch::Tensor;

/// A guidance method that writes down its calls by the name of the phase.
#[derive(Clone, Default)]
struct Diary(Arc<Mutex<Vec<&'static str>>>);

impl Diary {
    fn note(&self, call: &'static str) {
        self.0.lock().expect("the lock is not poisoned").push(call);
    }
    /// Returns how often each phase was called, in the order of the first calls.
    fn read(&self) -> Vec<(&'static str, usize)> {
        let mut counted: Vec<(&'static str, usize)> = Vec::new();
        for call in self.0.lock().expect("the lock is not poisoned").iter() {
            match counted.iter_mut().find(|(known, _)| known == call) {
                Some((_, count)) => *count += 1,
                None => counted.push((call, 1)),
            }
        }
        counted
    }
}

impl Guidance for Diary {
    fn first_pass(&self) -> Option<f64> {
        self.note("first pass");
        Some(500.0)
    }
    fn outlook(&self, _: &dyn Codec) -> Result<Vec<f64>> {
        self.note("outlook");
        Ok(vec![0.5])
    }
    fn prompt(&mut self, _: &Prompt, _: &dyn Codec) -> Result<Option<Prompt>> {
        self.note("prompt");
        Ok(None)
    }
    fn recipe(&self) -> Result<Recipe> {
        self.note("recipe");
        Recipe::of("Diary", &())
    }
    fn name(&self) -> &'static str {
        self.note("name");
        "Diary"
    }
    fn check(&self) -> Result<()> {
        self.note("check");
        Ok(())
    }
    fn begin(&mut self, _: &mut Setup) -> Result<()> {
        self.note("begin");
        Ok(())
    }
    fn condition(&mut self, _: &BranchInfo, _: &mut Conditioning, _: &dyn Codec) -> Result<()> {
        self.note("condition");
        Ok(())
    }
    fn noise(&mut self, _: &mut Tensor) -> Result<()> {
        self.note("noise");
        Ok(())
    }
    fn plan(&mut self, _: &Step, _: &mut Plan) -> Result<()> {
        self.note("plan");
        Ok(())
    }
    fn hooks(&mut self) -> Vec<&mut dyn CrossAttentionHook> {
        self.note("hooks");
        Vec::new()
    }
    fn predicted(&mut self, _: &Step, _: &mut Predictions) -> Result<()> {
        self.note("predicted");
        Ok(())
    }
    fn denoised(&mut self, _: &Step, _: &mut Denoised) -> Result<()> {
        self.note("denoised");
        Ok(())
    }
    fn transition(&mut self, _: &Step, _: &mut Transition) -> Result<()> {
        self.note("transition");
        Ok(())
    }
    fn finish(&mut self, _: &mut Tensor, _: &dyn Codec) -> Result<()> {
        self.note("finish");
        Ok(())
    }
    fn decoded(&mut self, _: &Tensor) -> Result<()> {
        self.note("decoded");
        Ok(())
    }
    fn notes(&self) -> Vec<Note> {
        self.note("notes");
        Vec::new()
    }
    fn report(&self) -> Result<Option<Report>> {
        self.note("report");
        Ok(None)
    }
}

impl Saliency for Diary {
    fn map(&self) -> Result<Option<Tensor>> {
        self.note("map");
        Ok(None)
    }
    fn range(&self) -> f64 {
        self.note("range");
        2.0
    }
    fn competitions(&self) -> Result<Vec<Competition>> {
        self.note("competitions");
        Ok(Vec::new())
    }
}

/// Makes a run of two steps after a first pass of one step, and asks the run for its notes and reports.
fn diary_of<'g>(guidance: impl Guidance + 'g) -> Result<()> {
    let model = ToyModel::new(3)?;
    guidance.recipe()?;
    let mut run = Sampler::new(schedule(2), Euler).guide(guidance).start(&model, start(1))?;
    let _ = run.decode()?;
    run.notes();
    run.reports().map(drop)
}

#[test]
fn wrappers_forward_every_phase() -> Result<()> {
    let plain = Diary::default();
    diary_of(plain.clone())?;
    // A pair asks both parts for their names too, so calls of `name` are not counted.
    let unnamed = |diary: Vec<(&'static str, usize)>| -> Vec<(&'static str, usize)> {
        diary.into_iter().filter(|(name, _)| *name != "name").collect()
    };
    let wanted = plain.read();
    let names: Vec<&str> = wanted.iter().map(|(name, _)| *name).collect();
    assert_eq!(
        names,
        [
            "recipe",
            "first pass",
            "check",
            "name",
            "prompt",
            "begin",
            "condition",
            "hooks",
            "noise",
            "plan",
            "predicted",
            "denoised",
            "transition",
            "finish",
            "decoded",
            "notes",
            "report"
        ]
    );

    let mut lent = Diary::default();
    diary_of(&mut lent)?;
    assert_eq!(lent.read(), wanted, "&mut");

    let boxed = Diary::default();
    diary_of(Box::new(boxed.clone()) as Box<dyn Guidance>)?;
    assert_eq!(boxed.read(), wanted, "Box");

    let (a, b) = (Diary::default(), Diary::default());
    diary_of((a.clone(), b.clone()))?;
    assert_eq!([a, b].map(|each| unnamed(each.read())), [(); 2].map(|()| unnamed(wanted.clone())), "(A, B)");

    // A color force asks its saliency for everything but its name and report, because the force's own report holds the
    // maps. In the first pass that the saliency asks for, the force itself does nothing.
    let inner = Diary::default();
    diary_of(ColorForce::published("eyes", GOLD).saliency(inner.clone()).window(Window::WHOLE))?;
    let called = |diary: Vec<(&'static str, usize)>| -> BTreeMap<&'static str, usize> {
        // Calls that only a saliency gets, and calls that a force makes in its own way.
        let others = ["report", "name", "first pass", "map", "range", "competitions"];
        diary.into_iter().filter(|(name, _)| !others.contains(name)).collect()
    };
    assert!(
        inner.read().iter().any(|(name, _)| *name == "first pass"),
        "the force passes on the saliency's first pass"
    );
    assert_eq!(called(inner.read()), called(wanted), "ColorForce");
    Ok(())
}

/// Names of the methods of a trait, or of every implementation of it in a file.
fn methods(file: &str, of_trait: &str, implementations: bool) -> Vec<BTreeSet<String>> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let source = std::fs::read_to_string(path).expect("a source file");
    let named = |path: &syn::Path| path.segments.last().is_some_and(|segment| segment.ident == of_trait);
    let of_item = |item: syn::Item| match item {
        syn::Item::Trait(own) if !implementations && own.ident == of_trait => {
            let names = own.items.into_iter().filter_map(|item| match item {
                syn::TraitItem::Fn(method) => Some(method.sig.ident.to_string()),
                _ => None,
            });
            Some(names.collect())
        }
        syn::Item::Impl(own) if implementations && own.trait_.as_ref().is_some_and(|(_, path, _)| named(path)) => {
            let names = own.items.into_iter().filter_map(|item| match item {
                syn::ImplItem::Fn(method) => Some(method.sig.ident.to_string()),
                _ => None,
            });
            Some(names.collect())
        }
        _ => None,
    };
    syn::parse_file(&source).expect("Rust").items.into_iter().filter_map(of_item).collect()
}

#[test]
fn wrappers_have_every_method_of_their_trait() {
    // A pair has no name of its own, so it keeps the trait's default of `name`.
    let wrappers = [
        ("src/conditioning/codec.rs", "Codec", "src/model/controlled.rs", None),
        ("src/diffusion/denoiser.rs", "Denoiser", "src/model/controlled.rs", None),
        ("src/diffusion/solver/mod.rs", "Solver", "src/diffusion/solver/mod.rs", None),
        ("src/guidance/mod.rs", "Guidance", "src/guidance/pair.rs", Some("name")),
        ("src/guidance/cfg.rs", "Combine", "src/guidance/cfg.rs", None),
        ("src/attention/hook.rs", "CrossAttentionHook", "src/attention/hook.rs", None),
    ];
    for (file, of_trait, wrapper, own) in wrappers {
        let all = methods(file, of_trait, false).remove(0);
        let first = methods(wrapper, of_trait, true).remove(0); // the wrapper comes first in each file
        let missing: Vec<_> = all.difference(&first).filter(|name| Some(name.as_str()) != own).collect();
        assert!(
            missing.is_empty(),
            "{wrapper}: the wrapper of {of_trait} does not forward {missing:?}; add these methods"
        );
    }
}

/// Asks a saliency for its maps, competitions, range and outlook, and returns the range and the outlook.
fn asked(saliency: &impl Saliency) -> Result<(f64, Vec<f64>)> {
    let _ = (saliency.map()?, saliency.competitions()?);
    Ok((saliency.range(), saliency.outlook(&ToyModel::new(3)?)?))
}

#[test]
fn wrappers_forward_what_a_saliency_knows() -> Result<()> {
    let wanted = vec![("map", 1), ("competitions", 1), ("range", 1), ("outlook", 1)];
    let (mut lent, boxed) = (Diary::default(), Diary::default());
    assert_eq!(asked(&&mut lent)?, (2.0, vec![0.5]));
    assert_eq!(lent.read(), wanted, "&mut");
    assert_eq!(asked(&(Box::new(boxed.clone()) as Box<dyn Saliency>))?, (2.0, vec![0.5]));
    assert_eq!(boxed.read(), wanted, "Box");
    let (a, b) = (Diary::default(), Diary::default());
    assert_eq!(asked(&(a.clone(), b.clone()))?, (4.0, vec![0.25]), "ranges add up, and outlooks are multiplied");
    assert_eq!([a.read(), b.read()], [wanted.clone(), wanted], "(A, B)");
    Ok(())
}

#[test]
fn lent_hook_forwards_every_phase() -> Result<()> {
    for phase in [Interest::CONTEXT, Interest::BIAS, Interest::SCORES, Interest::PROBS, Interest::OUTPUT] {
        let (mut plain, mut lent) = (Probe::wanting(phase), Probe::wanting(phase));
        let once = latent(sampler().hook(&mut plain))?;
        let twice = latent(sampler().hook(&mut &mut lent))?;
        assert_eq!((once, plain.calls), (twice, lent.calls), "{phase:?}");
    }
    Ok(())
}
