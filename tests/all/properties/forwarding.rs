//! Laws of wrappers: a wrapper of a guidance method or hook forwards every phase to the value inside.

use super::{GOLD, Probe, latent, sampler, schedule, start};
use impasto::attention::{CrossAttentionHook, Interest};
use impasto::diffusion::solver::Euler;
use impasto::diffusion::{Denoised, Predictions, Transition};
use impasto::guidance::{Guidance, GuidanceRun, Plan, Report, Setup};
use impasto::methods::ColorForce;
use impasto::saliency::{Competition, Saliency, SaliencyRun};
use impasto::sampler::Sampler;
use impasto::testing::ToyModel;
use impasto::wording::Note;
use impasto::{BranchInfo, Codec, Conditioning, Recipe, Result, Step, Window};
use proc_macro2::{TokenStream, TokenTree};
use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use tch::{Device, Kind, Tensor};

/// A guidance method that writes down its calls by the name of the phase. Settings and states write into one diary.
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
    /// Returns [`read`](Self::read) without the calls of some names.
    fn without(&self, names: &[&str]) -> Vec<(&'static str, usize)> {
        self.read().into_iter().filter(|(name, _)| !names.contains(name)).collect()
    }
}

impl Guidance for Diary {
    fn check(&self) -> Result<()> {
        self.note("check");
        Ok(())
    }
    fn first_pass(&self) -> Option<f64> {
        self.note("first pass");
        Some(500.0)
    }
    fn replaces_context(&self) -> bool {
        self.note("replaces context");
        false
    }
    fn begin(&self, _: &mut Setup, first_pass: Option<Box<dyn GuidanceRun>>) -> Result<Box<dyn GuidanceRun>> {
        self.note("begin");
        if first_pass.is_some_and(|run| (run as Box<dyn Any>).is::<Self>()) {
            self.note("state of first pass");
        }
        Ok(Box::new(self.clone()))
    }
    fn recipe(&self) -> Result<Recipe> {
        self.note("recipe");
        Recipe::of("Diary", &())
    }
    fn name(&self) -> &'static str {
        self.note("name");
        "Diary"
    }
    fn label(&self) -> String {
        self.note("label");
        "diary".into()
    }
}

impl Saliency for Diary {
    fn find(&self, _: &mut Setup) -> Result<Box<dyn SaliencyRun>> {
        self.note("begin");
        Ok(Box::new(self.clone()))
    }
}

impl GuidanceRun for Diary {
    fn outlook(&self, _: &dyn Codec) -> Result<Vec<f64>> {
        self.note("outlook");
        Ok(vec![0.5])
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
    fn exact_cells(&self) -> Result<Option<Tensor>> {
        self.note("exact cells");
        Ok(Some(Tensor::zeros([1, 1, 8, 6], (Kind::Float, Device::Cpu))))
    }
    fn spare(&mut self, _: &Tensor) -> Result<()> {
        self.note("spare");
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
    fn details(&self) -> Result<Vec<Box<dyn Any + Send>>> {
        self.note("details");
        Ok(Vec::new())
    }
    fn name(&self) -> &'static str {
        self.note("name");
        "Diary"
    }
}

impl SaliencyRun for Diary {
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

/// A sampler of two steps; a diary asks for a first pass of one step.
fn two_steps<'g>() -> Sampler<'g> {
    Sampler::new(schedule(2), Euler)
}

/// Makes a run with a first pass, and asks the run for its notes, reports and details.
fn finish(sampler: Sampler<'_>) -> Result<()> {
    let model = ToyModel::new(3)?;
    let mut run = sampler.start(&model, start(1))?;
    let _ = run.decode()?;
    run.notes();
    run.reports()?;
    run.into_details().map(drop)
}

/// Asks a guidance method for its recipe, and makes a run with it.
fn diary_of(guidance: impl Guidance + 'static) -> Result<()> {
    guidance.recipe()?;
    finish(two_steps().guide(guidance))
}

#[test]
fn wrappers_forward_every_phase() -> Result<()> {
    let plain = Diary::default();
    diary_of(plain.clone())?;
    let wanted = plain.read();
    let names: Vec<&str> = wanted.iter().map(|(name, _)| *name).collect();
    assert_eq!(
        names,
        [
            "recipe",
            "first pass",
            "check",
            "name",
            "replaces context",
            "begin",
            "condition",
            "hooks",
            "noise",
            "plan",
            "predicted",
            "denoised",
            "transition",
            "state of first pass",
            "exact cells",
            "spare",
            "finish",
            "decoded",
            "notes",
            "report",
            "label",
            "details"
        ]
    );

    let boxed = Diary::default();
    diary_of(Box::new(boxed.clone()) as Box<dyn Guidance>)?;
    assert_eq!(boxed.read(), wanted, "Box");

    let shared = Diary::default();
    diary_of(Arc::new(shared.clone()) as Arc<dyn Guidance>)?;
    assert_eq!(shared.read(), wanted, "Arc");

    let [boxed, shared] = [(); 2].map(|()| Diary::default());
    diary_of(Box::new(boxed.clone()) as Box<dyn Saliency>)?;
    diary_of(Arc::new(shared.clone()) as Arc<dyn Saliency>)?;
    assert_eq!([boxed.read(), shared.read()], [(); 2].map(|()| wanted.clone()), "Box and Arc of a saliency");

    // A pair has a name and a label of its own, and asks by itself which method begins first.
    let (a, b) = (Diary::default(), Diary::default());
    diary_of((a.clone(), b.clone()))?;
    let own = ["name", "label", "replaces context"];
    assert!([&a, &b].iter().all(|each| each.read().iter().any(|(call, _)| *call == "replaces context")));
    assert_eq!([a, b].map(|each| each.without(&own)), [(); 2].map(|()| plain.without(&own)), "(A, B)");

    // A value that is lent to a run has no settings, and the run returns no details of it.
    let (plain, mut lent) = (Diary::default(), Diary::default());
    finish(two_steps().guide(plain.clone()).attach(&mut lent))?;
    let of_settings = ["first pass", "check", "name", "replaces context", "state of first pass", "label", "details"];
    assert_eq!(lent.without(&["name"]), plain.without(&of_settings), "attach");
    Ok(())
}

#[test]
fn force_forwards_phases_to_its_saliencies() -> Result<()> {
    let plain = Diary::default();
    diary_of(plain.clone())?;
    // A color force asks its saliencies for everything but what the force itself is asked for, because the force's own
    // report holds the maps. In the first pass that the saliencies ask for, the force itself does nothing.
    let (own, protected) = (Diary::default(), Diary::default());
    let force = ColorForce::published("eyes", GOLD).saliency(own.clone()).window(Window::WHOLE);
    diary_of(force.protect_where("hair", protected.clone(), 0.5))?;
    let called = |diary: &Diary| -> BTreeMap<&'static str, usize> {
        let of_force = ["name", "label", "state of first pass", "exact cells", "spare", "report", "details"];
        // Calls that only a saliency gets, and calls that a force makes in its own way.
        let others = ["first pass", "replaces context", "map", "range", "competitions"];
        diary.without(&[&of_force[..], &others].concat()).into_iter().collect()
    };
    for saliency in [own, protected] {
        let asks = |call: &str| saliency.read().iter().any(|(name, _)| *name == call);
        assert!(asks("first pass") && asks("replaces context"), "the force passes on what the saliency says");
        assert_eq!(called(&saliency), called(&plain), "ColorForce");
    }
    Ok(())
}

/// Items of a source file of this repository.
fn items(file: &str) -> Vec<syn::Item> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let source = std::fs::read_to_string(path).expect("a source file");
    syn::parse_file(&source).expect("Rust").items
}

/// Names of the methods of a trait, or of every implementation of it in a file.
fn methods(file: &str, of_trait: &str, implementations: bool) -> Vec<BTreeSet<String>> {
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
    items(file).into_iter().filter_map(of_item).collect()
}

/// Names of the functions that a macro of a file writes.
fn written(file: &str, by_macro: &str) -> BTreeSet<String> {
    fn add(tokens: TokenStream, names: &mut BTreeSet<String>) {
        let mut follows_fn = false;
        for token in tokens {
            match &token {
                TokenTree::Group(group) => add(group.stream(), names),
                TokenTree::Ident(name) if follows_fn => drop(names.insert(name.to_string())),
                _ => {}
            }
            follows_fn = matches!(&token, TokenTree::Ident(word) if word == "fn");
        }
    }
    let mut names = BTreeSet::new();
    for item in items(file) {
        if let syn::Item::Macro(own) = item
            && own.ident.as_ref().is_some_and(|ident| ident == by_macro)
        {
            add(own.mac.tokens, &mut names);
        }
    }
    names
}

#[test]
fn wrappers_have_every_method_of_their_trait() {
    let guide = "src/methods/image_guidance/mod.rs";
    let diary = "tests/all/properties/forwarding.rs";
    // A pair has a name and a label of its own, so it keeps the trait's defaults. A state that settings made has begun,
    // so the state of a pair or force does not begin again.
    let wrappers: [(&str, &str, &str, &[&str]); 12] = [
        ("src/conditioning/codec.rs", "Codec", "src/model/controlled.rs", &[]),
        ("src/diffusion/denoiser.rs", "Denoiser", "src/model/controlled.rs", &[]),
        ("src/diffusion/solver/mod.rs", "Solver", "src/diffusion/solver/mod.rs", &[]),
        ("src/guidance/method.rs", "Guidance", "src/guidance/pair.rs", &["name", "label"]),
        ("src/guidance/run.rs", "GuidanceRun", "src/guidance/pair.rs", &["begin", "name"]),
        ("src/guidance/run.rs", "GuidanceRun", "src/methods/color_force/forcing.rs", &["begin", "name"]),
        ("src/saliency/mod.rs", "SaliencyRun", "src/saliency/mod.rs", &[]),
        ("src/guidance/cfg.rs", "Combine", "src/guidance/cfg.rs", &[]),
        ("src/attention/hook.rs", "CrossAttentionHook", "src/attention/hook.rs", &[]),
        ("src/guidance/method.rs", "Guidance", diary, &[]),
        ("src/guidance/run.rs", "GuidanceRun", diary, &[]),
        ("src/saliency/mod.rs", "SaliencyRun", diary, &[]),
    ];
    for (file, of_trait, wrapper, own) in wrappers {
        let all = methods(file, of_trait, false).remove(0);
        let first = methods(wrapper, of_trait, true).remove(0); // the wrapper comes first in each file
        let missing: Vec<_> = all.difference(&first).filter(|name| !own.contains(&name.as_str())).collect();
        assert!(
            missing.is_empty(),
            "{wrapper}: the wrapper of {of_trait} does not forward {missing:?}; add these methods"
        );
    }
    let settings = methods("src/guidance/method.rs", "Guidance", false).remove(0);
    assert_eq!(written("src/guidance/method.rs", "forward_guidance"), settings, "`forward_guidance!` writes these");
    let found = methods("src/saliency/mod.rs", "Saliency", false).remove(0);
    for wrapper in methods("src/saliency/mod.rs", "Saliency", true) {
        assert_eq!(wrapper, found, "a wrapper of a saliency");
    }
    // A region's prompt is guided in the phases of a guide. The report of the regions holds what the guide found.
    let guiding = methods(guide, "GuidanceRun", true).remove(0);
    let placing = methods("src/methods/region_prompts.rs", "GuidanceRun", true).remove(0);
    let missing: Vec<_> = guiding.difference(&placing).filter(|name| *name != "details").collect();
    assert!(missing.is_empty(), "RegionPrompts does not forward {missing:?} to the guides of regions");
}

/// A value that begins a saliency, and asks it for its map, competitions, range and outlook.
struct Asker<S> {
    saliency: S,
    /// The range and the outlook.
    told: Option<(f64, Vec<f64>)>,
}

impl<S: Saliency + 'static> GuidanceRun for Asker<S> {
    fn begin(&mut self, setup: &mut Setup) -> Result<()> {
        let run = self.saliency.find(setup)?;
        let _ = (run.map()?, run.competitions()?);
        self.told = Some((run.range(), run.outlook(setup.codec)?));
        Ok(())
    }
}

/// Asks a saliency for its map, competitions, range and outlook, and returns the range and the outlook.
fn asked(saliency: impl Saliency + 'static) -> Result<(f64, Vec<f64>)> {
    let (model, mut asker) = (ToyModel::new(3)?, Asker { saliency, told: None });
    let _ = sampler().attach(&mut asker).start(&model, start(1))?;
    Ok(asker.told.expect("the run has begun"))
}

#[test]
fn wrappers_forward_what_a_saliency_knows() -> Result<()> {
    let wanted = vec![("begin", 1), ("map", 1), ("competitions", 1), ("range", 1), ("outlook", 1)];
    let (boxed, shared) = (Diary::default(), Diary::default());
    assert_eq!(asked(Box::new(boxed.clone()) as Box<dyn Saliency>)?, (2.0, vec![0.5]));
    assert_eq!(boxed.read(), wanted, "Box");
    assert_eq!(asked(Arc::new(shared.clone()) as Arc<dyn Saliency>)?, (2.0, vec![0.5]));
    assert_eq!(shared.read(), wanted, "Arc");
    let (a, b) = (Diary::default(), Diary::default());
    assert_eq!(asked((a.clone(), b.clone()))?, (4.0, vec![0.25]), "ranges add up, and outlooks are multiplied");
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
