//! The state of an [`IpAdapter`](super::IpAdapter) in one run.

use super::decoupled::{Cells, Decoupled, Group};
use super::prompt::{ImagePrompt, Shown};
use super::settings::Settings;
use crate::attention::CrossAttentionHook;
use crate::branch::{Branch, BranchInfo};
use crate::conditioning::{Codec, Conditioning};
use crate::diffusion::{Denoised, Predictions, Transition};
use crate::error::{Error, Result};
use crate::guidance::{GuidanceRun, Picture, Plan, Report, Setup};
use crate::mask::{Region, Resample};
use crate::methods::place::{PART, Place};
use crate::nn::ip_adapter::IpAdapterNet;
use crate::saliency::{Saliency, SaliencyRun};
use crate::step::{Grid, Step};
use crate::wording::{Note, QUOTED, Remedy, excerpt};
use std::collections::HashMap;
use tch::{Kind, Tensor};

/// The state of one run.
pub(super) struct Prompting {
    settings: Settings,
    hook: Decoupled,
    /// The search for the phrase of each group; `None` for a group without a phrase.
    looks: Vec<Option<Box<dyn SaliencyRun>>>,
    /// Phrase of each search.
    phrases: Vec<Option<String>>,
    /// Tokens of pictures, by the place of the picture in the settings.
    tokens: HashMap<usize, Tensor>,
    /// True if the method acts in at least one step of the schedule.
    acts: bool,
}

impl Prompting {
    /// Encodes the pictures, and finds the sites and cells that attend to them. The pictures are encoded already if
    /// there was a pass `before`.
    pub(super) fn new(
        net: &IpAdapterNet,
        settings: &Settings,
        setup: &mut Setup<'_>,
        before: Option<Self>,
    ) -> Result<Self> {
        let mut known = before.map(|before| before.tokens).unwrap_or_default();
        let numbered = net.sites(setup.sites)?;
        settings.blocks.check_sites(&numbered)?;
        let strength = |site| settings.strength * settings.blocks.strength(site);
        let sites = numbered.iter().enumerate().map(|(number, site)| (site.index, (number, strength(site))));
        let sites: HashMap<usize, _> = sites.filter(|(_, (_, strength))| *strength != 0.0).collect();
        let (mut groups, mut looks, mut phrases, mut shared) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (index, prompt) in settings.pictures.iter().enumerate() {
            let cells = match &prompt.place {
                Place::Everywhere => None,
                Place::Region(region) => Some(Cells::Map(on_picture(region, setup)?)),
                Place::Phrase { .. } => Some(Cells::None),
            };
            if sites.is_empty() || prompt.strength == 0.0 {
                continue; // Without strength nothing is encoded or searched.
            }
            let tokens = match known.get(&index) {
                Some(tokens) => tokens.shallow_clone(),
                None => encode(net, settings, prompt)?.f_to_device(setup.device)?,
            };
            known.insert(index, tokens.shallow_clone());
            let Some(cells) = cells else {
                shared.push(tokens);
                continue;
            };
            groups.push(Group { tokens, strength: prompt.strength, cells });
            let (look, phrase) = match &prompt.place {
                Place::Phrase { phrase, look } => (Some(look.find(setup)?), Some(phrase.clone())),
                Place::Everywhere | Place::Region(_) => (None, None),
            };
            looks.push(look);
            phrases.push(phrase);
        }
        if !shared.is_empty() {
            groups.push(Group { tokens: Tensor::f_cat(&shared, 1)?, strength: 1.0, cells: Cells::All });
            looks.push(None);
            phrases.push(None);
        }
        let nothing = match groups.is_empty() {
            true => Tensor::f_zeros([1, 1, net.width()], (Kind::Float, setup.device))?,
            false => net.unconditional()?.f_to_device(setup.device)?,
        };
        let acts = setup.schedule.steps().any(|step| settings.window.contains(&step));
        let sites = if groups.is_empty() { HashMap::new() } else { sites };
        let hook = Decoupled::new(net.clone(), sites, groups, nothing, settings.window);
        Ok(Self { settings: settings.clone(), hook, looks, phrases, tokens: known, acts })
    }

    /// Returns the searches for phrases.
    fn looks(&mut self) -> impl Iterator<Item = &mut Box<dyn SaliencyRun>> {
        self.looks.iter_mut().flatten()
    }
}

/// Returns the tokens of a picture, [1, tokens, width].
fn encode(net: &IpAdapterNet, settings: &Settings, prompt: &ImagePrompt) -> Result<Tensor> {
    match &prompt.shown {
        Shown::Picture(picture) => net.encode(picture, settings.view),
        Shown::Tokens(tokens) => {
            let (tokens, width) = (tokens.get(), net.width());
            if tokens.size().last() != Some(&width) {
                let expected = format!("[1, tokens, {width}], as this IP-Adapter makes them");
                return Err(Error::Shape { what: "the tokens of a picture", got: tokens.size(), expected });
            }
            Ok(tokens.f_to_kind(Kind::Float)?)
        }
    }
}

/// Returns a region in the picture's size, [1 or n, 1, H, W]. The region's aspect is checked.
fn on_picture(region: &Region, setup: &Setup<'_>) -> Result<Tensor> {
    let (Grid { h, w }, cell) = (setup.grid, setup.codec.cell());
    let _ = region.for_images(setup.grid, setup.images)?;
    Ok(region.resample(Grid::new(h * cell, w * cell), Resample::Area)?.f_to_device(setup.device)?)
}

impl GuidanceRun for Prompting {
    fn condition(&mut self, branch: &BranchInfo, conditioning: &mut Conditioning, codec: &dyn Codec) -> Result<()> {
        match branch.like {
            Branch::Cond => drop(self.hook.branches.insert(branch.branch, true)),
            Branch::Uncond => drop(self.hook.branches.insert(branch.branch, false)),
            Branch::Extra(_) => {}
        }
        self.looks().try_for_each(|look| look.condition(branch, conditioning, codec))
    }

    fn plan(&mut self, step: &Step, plan: &mut Plan) -> Result<()> {
        for (index, look) in self.looks.iter_mut().enumerate() {
            let Some(look) = look else { continue };
            look.plan(step, plan)?;
            let map = look.map()?.map(|map| map.f_ge(PART)?.f_to_kind(Kind::Float)).transpose()?;
            self.hook.place(index, map.map_or(Cells::None, Cells::Map));
        }
        Ok(())
    }

    fn hooks(&mut self) -> Vec<&mut dyn CrossAttentionHook> {
        let hook = std::iter::once(&mut self.hook as &mut dyn CrossAttentionHook);
        hook.chain(self.looks.iter_mut().flatten().flat_map(|look| look.hooks())).collect()
    }

    fn predicted(&mut self, step: &Step, predictions: &mut Predictions) -> Result<()> {
        self.looks().try_for_each(|look| look.predicted(step, predictions))
    }

    fn denoised(&mut self, step: &Step, denoised: &mut Denoised) -> Result<()> {
        self.looks().try_for_each(|look| look.denoised(step, denoised))
    }

    fn transition(&mut self, step: &Step, transition: &mut Transition) -> Result<()> {
        self.looks().try_for_each(|look| look.transition(step, transition))
    }

    fn notes(&self) -> Vec<Note> {
        if self.hook.groups.is_empty() {
            return vec!["every strength is 0, so the method did nothing; raise the strength".into()];
        }
        if !self.acts {
            let idle =
                format!("no step of this run is in the window ({}), so the method did nothing", self.settings.window);
            return vec![Remedy::Window.after(idle)];
        }
        let lost = |(look, phrase): (&Option<Box<dyn SaliencyRun>>, &Option<String>)| {
            let (map, phrase) = (look.as_ref()?.map().ok().flatten()?, excerpt(phrase.as_ref()?, QUOTED));
            let found = map.f_ge(PART).and_then(|part| part.f_any()?.f_int64_value(&[])).ok()?;
            let lost = || format!("\"{phrase}\" was not found in the picture, so its picture had no effect");
            (found == 0).then(|| Remedy::Phrase.after(lost()))
        };
        self.looks.iter().zip(&self.phrases).filter_map(lost).collect()
    }

    fn report(&self) -> Result<Option<Report>> {
        let Settings { adapter, pictures, strength, blocks, window, .. } = &self.settings;
        let data = serde_json::json!({
            "adapter": adapter,
            "strength": strength,
            "blocks": blocks,
            "window": window,
            "pictures": pictures.len(),
        });
        let shown = pictures.iter().filter_map(|prompt| match &prompt.shown {
            Shown::Picture(picture) => Some(Picture::new("a picture as a prompt", picture.clone())),
            Shown::Tokens(_) => None,
        });
        let pictures = shown.collect();
        Ok(Some(Report { data, pictures, ..Report::new("IpAdapter") }))
    }
}
