//! [`ConceptAttention`]: maps of a phrase by the outputs of joint attention.

use super::heat_map::HeatMap;
use super::series::{Accumulate, Series};
use super::{Saliency, SaliencyRun};
use crate::attention::{At, AttentionSite, CrossAttentionHook, Interest, SiteKind};
use crate::branch::Branch;
use crate::error::{Error, Result};
use crate::guidance::{Guidance, GuidanceRun, Report, Setup};
use crate::prompt::{Prompt, TokenSpan};
use crate::recipe::{Function, Recipe};
use crate::step::Step;
use crate::window::Window;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use tch::{Kind, Tensor};

/// A choice of attention sites.
type Sites = Function<dyn Fn(&AttentionSite) -> bool + Send + Sync>;

/// Saliency of a phrase in a network with joint attention (Stable Diffusion 3): the phrase's share of a softmax over
/// the words of the prompt. The scores are inner products of the attention's outputs at a cell of the picture and at
/// each word. The map is the mean over sites and steps. Reading does not change a bit of the picture.
///
/// [`Daam`](super::Daam) reads the attention itself, in any network. This saliency compares what the attention brings
/// to both streams; its authors report clearer maps.
///
/// ```no_run
/// # fn main() -> impasto::Result<()> {
/// use impasto::saliency::{ConceptAttention, ConceptAttentionRun};
/// use impasto::{Pipeline, Source};
///
/// let pipeline = Pipeline::builder().source(Source::file("sd3.5_medium.safetensors")).build()?;
/// let output = pipeline.request("a red boat, sky").seed(7).guide(ConceptAttention::of("boat")).run()?;
/// let map = output.details::<ConceptAttentionRun>("boat")?.heat_map(0)?;
/// # Ok(()) }
/// ```
///
/// Source: Helbling et al. (2025), "ConceptAttention: Diffusion Transformers Learn Highly Interpretable Features". The
/// authors add words that the picture does not read; here, the words of the prompt are the concepts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[must_use]
pub struct ConceptAttention {
    phrase: String,
    #[serde(default)]
    sites: Option<Sites>,
    window: Window,
}

impl ConceptAttention {
    /// Creates the saliency of `phrase`. Every place of the phrase in the prompt counts.
    pub fn of(phrase: impl Into<String>) -> Self {
        Self { phrase: phrase.into(), sites: None, window: Window::WHOLE }
    }

    /// Reads only sites of joint attention that `select` accepts. Default: the sites that find words
    /// ([`AttentionSite::finds_words`]).
    pub fn sites(mut self, select: impl Fn(&AttentionSite) -> bool + Send + Sync + 'static) -> Self {
        self.sites = Some(Function(Arc::new(select)));
        self
    }

    /// Records only in this window. Default: the whole run.
    pub fn window(mut self, window: Window) -> Self {
        self.window = window;
        self
    }

    fn reads(&self, site: &AttentionSite) -> bool {
        site.kind == SiteKind::Joint && self.sites.as_ref().map_or(site.finds_words, |select| select(site))
    }
}

/// The words of a text, by their columns of the context.
#[derive(Debug)]
struct Words {
    /// Columns of all words.
    columns: Vec<i64>,
    /// True for the columns of the phrase.
    own: Vec<bool>,
}

impl Words {
    /// Finds the words of each text of a prompt, and the index of each step's text, which is 0 for a prompt that stays
    /// the same.
    fn of(prompt: &Prompt, phrase: &[TokenSpan], steps: &[usize]) -> (Vec<Self>, Vec<usize>) {
        let columns =
            |spans: &[TokenSpan]| -> BTreeSet<i64> { spans.iter().flat_map(|span| span.start..span.end).collect() };
        let phrase = columns(phrase);
        let words = |columns: Vec<i64>| Self { own: columns.iter().map(|at| phrase.contains(at)).collect(), columns };
        match prompt.changes() {
            None => (vec![words(columns(&prompt.content()).into_iter().collect())], Vec::new()),
            Some(changes) => (
                changes.columns().map(|columns| words(columns.to_vec())).collect(),
                steps.iter().map(|step| changes.text_at(*step)).collect(),
            ),
        }
    }
}

/// A [`ConceptAttention`] in one run, from [`Output::details`](crate::pipeline::Output::details) with the phrase as
/// label.
pub struct ConceptAttentionRun {
    settings: ConceptAttention,
    /// Branch of the prompt that has the phrase.
    branch: Branch,
    texts: Vec<Words>,
    by_step: Vec<usize>,
    images: i64,
    maps: Series,
}

impl fmt::Debug for ConceptAttentionRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConceptAttentionRun").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl ConceptAttentionRun {
    /// Returns the mean map over all recorded steps for image `image` of the batch, with values in 0..=1.
    ///
    /// # Errors
    /// [`Error::NoMaps`] before the first recorded step, [`Error::Parameter`] if there is no such image.
    pub fn heat_map(&self, image: usize) -> Result<HeatMap> {
        let map = self.map()?.ok_or(Error::NoMaps("ConceptAttention"))?;
        if image as i64 >= self.images {
            let expected = format!("an index below {}, the number of images in the run", self.images);
            return Err(Error::parameter("image", image, expected));
        }
        HeatMap::new(&self.settings.phrase, &map.f_select(0, image as i64)?.f_select(0, 0)?)
    }
}

impl CrossAttentionHook for ConceptAttentionRun {
    fn interest(&self, site: &AttentionSite, branch: Branch) -> Interest {
        if branch == self.branch && self.settings.reads(site) { Interest::OUTPUT } else { Interest::NONE }
    }

    fn active(&self, step: &Step) -> bool {
        self.settings.window.contains(step)
    }

    fn output(&mut self, at: &At<'_>, output: &mut Tensor) -> Result<()> {
        let text = self.by_step.get(at.step.index).copied().unwrap_or_default();
        let (Some(words), Some(states)) = (self.texts.get(text), at.text_output()) else { return Ok(()) };
        if !words.own.contains(&true) {
            return Ok(()); // this step's text has other words
        }
        let device = output.device();
        // A step may read fewer columns than the prompt has, if its text is a shorter one.
        let count = states.size3()?.1;
        let read = words.columns.iter().zip(&words.own).filter(|(column, _)| **column < count);
        let (columns, own): (Vec<i64>, Vec<f32>) =
            read.map(|(column, own)| (*column, f32::from(u8::from(*own)))).unzip();
        let rows = states.f_index_select(1, &Tensor::f_from_slice(&columns)?.f_to_device(device)?)?;
        // The sums over thousands of channels are large, and half precision would round them by whole numbers.
        let [cells, rows] = [&*output, &rows].map(|states| states.f_to_kind(Kind::Float));
        let scores = cells?.f_matmul(&rows?.f_transpose(1, 2)?)?; // [n, cells, words]
        let own = Tensor::f_from_slice(&own)?.f_to_device(device)?;
        let map = scores.f_softmax(-1, Kind::Float)?.f_matmul(&own)?; // [n, cells]
        let rows = (at.images.start, at.images.end - at.images.start);
        let map = map.f_reshape([rows.1, 1, at.grid.h, at.grid.w])?;
        self.maps.turn_to(at.step.index)?;
        self.maps.add(at.grid, rows, &map, 1)
    }
}

impl Guidance for ConceptAttention {
    fn check(&self) -> Result<()> {
        self.window.check()
    }

    fn begin(&self, setup: &mut Setup<'_>, _: Option<Box<dyn GuidanceRun>>) -> Result<Box<dyn GuidanceRun>> {
        Ok(self.find(setup)?)
    }

    fn recipe(&self) -> Result<Recipe> {
        Recipe::of("ConceptAttention", self)
    }

    fn name(&self) -> &'static str {
        "ConceptAttention"
    }

    fn label(&self) -> String {
        self.phrase.clone()
    }
}

impl Saliency for ConceptAttention {
    fn find(&self, setup: &mut Setup<'_>) -> Result<Box<dyn SaliencyRun>> {
        let mut joint = setup.sites.iter().filter(|site| site.kind == SiteKind::Joint).peekable();
        if joint.peek().is_none() {
            let expected = "a network with joint attention, such as Stable Diffusion 3; `Daam` reads other networks";
            return Err(Error::parameter("ConceptAttention", "for another network", expected));
        }
        if !joint.clone().any(|site| self.reads(site)) {
            return Err(Error::NoSites { names: joint.map(|site| site.name.clone()).collect() });
        }
        let (branch, prompt) = setup.part_with(&self.phrase);
        let steps: Vec<usize> = setup.schedule.steps().map(|step| step.index).collect();
        let (texts, by_step) = Words::of(prompt, &prompt.find(&self.phrase)?, &steps);
        Ok(Box::new(ConceptAttentionRun {
            settings: self.clone(),
            branch,
            texts,
            by_step,
            images: setup.images,
            maps: Series::new(setup.grid, setup.images, Accumulate::Mean),
        }))
    }
}

impl GuidanceRun for ConceptAttentionRun {
    fn hooks(&mut self) -> Vec<&mut dyn CrossAttentionHook> {
        vec![self]
    }

    fn report(&self) -> Result<Option<Report>> {
        if self.maps.last().is_none() {
            return Ok(None);
        }
        let phrase = &self.settings.phrase;
        let picture = |image: usize| Ok(self.heat_map(image)?.picture()?.image(image));
        let pictures = (0..self.images as usize).map(picture).collect::<Result<_>>()?;
        let data = serde_json::json!({ "phrase": phrase });
        Ok(Some(Report { data, pictures, ..Report::new(format!("ConceptAttention \"{phrase}\"")) }))
    }
}

impl SaliencyRun for ConceptAttentionRun {
    fn map(&self) -> Result<Option<Tensor>> {
        let map = self.maps.read()?;
        Ok(map.map(|map| map.f_clamp_max(1.0)).transpose()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attention::{Call, HookTable, KvCache, Probs, Tap};
    use crate::nn::ConfigFile;
    use crate::nn::mmdit::{Sd3Config, Sd3Transformer};
    use crate::step::Grid;
    use crate::weights::{Tensors, Weights, read_safetensors};
    use std::path::Path;
    use tch::Device;

    /// Rows and columns of the reference case's tokens.
    const GRID: Grid = Grid::new(4, 5);

    /// Calls the transformer of the reference case with a hook, and returns the case's tensors.
    fn call(hook: &mut dyn CrossAttentionHook) -> Result<Tensors> {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
        let tensors = read_safetensors(&golden.join("sd35_attention/tensors.safetensors"))?;
        let model = golden.join("models/sd35-medium");
        let config = Sd3Config::from_json("config.json", &std::fs::read_to_string(model.join("config.json")).unwrap())?;
        let weights = Weights::open(&model.join("diffusion_pytorch_model.safetensors"), Kind::Float, Device::Cpu)?;
        let network = Sd3Transformer::new(&weights, &config)?;
        let input = |name: &str| &tensors[&format!("in.{name}")];
        let (step, branches, mut cache) = (Step::new(0, 1, 1.0, 0.0, 500.0), [Branch::Cond], KvCache::default());
        let call = Call { step: &step, branches: &branches, images: 0..2, grid: Grid::new(8, 10) };
        let table = HookTable::new(&[&mut *hook], network.sites(), &branches)?;
        let mut tap = Tap::new(call, vec![hook], &table, &mut cache)?;
        let [sample, timestep, context] = ["sample", "timestep", "encoder_hidden_states"].map(input);
        let _ = network.forward(sample, timestep, context, input("pooled"), &[], &mut tap)?;
        drop(tap);
        Ok(tensors)
    }

    fn apart(a: &Tensor, b: &Tensor) -> f64 {
        (a - b).abs().max().double_value(&[])
    }

    #[test]
    fn map_of_a_word_is_its_share_in_the_reference() -> Result<()> {
        let site = "transformer_blocks.1.attn";
        for column in [0, 4, 8] {
            let words = Words { columns: (0..9).collect(), own: (0..9).map(|other| other == column).collect() };
            let mut run = ConceptAttentionRun {
                settings: ConceptAttention::of("word").sites(move |other| other.name == site),
                branch: Branch::Cond,
                texts: vec![words],
                by_step: Vec::new(),
                images: 2,
                maps: Series::new(GRID, 2, Accumulate::Mean),
            };
            let tensors = call(&mut run)?;
            let want = &tensors[&format!("out.saliency_softmax.{site}")];
            let want = want.select(2, column).reshape([2, 1, GRID.h, GRID.w]);
            let got = run.map()?.expect("a map");
            assert!(apart(&got, &want) < 1e-4, "column {column}: {}", apart(&got, &want));
        }
        Ok(())
    }

    /// Records how much of the picture's attention goes to the picture, summed over the heads.
    #[derive(Default)]
    struct Mass(Vec<(String, Tensor)>);

    impl CrossAttentionHook for Mass {
        fn interest(&self, site: &AttentionSite, _: Branch) -> Interest {
            if site.kind == SiteKind::Joint { Interest::PROBS } else { Interest::NONE }
        }
        fn probs(&mut self, at: &At<'_>, probs: &Probs<'_>) -> Result<()> {
            let own = probs.own_over_heads()?.expect("a joint site");
            let mass = own.f_sum_dim_intlist([2i64].as_slice(), false, Kind::Float)?;
            self.0.push((at.site.name.clone(), mass.f_mean_dim([1i64].as_slice(), false, Kind::Float)?));
            Ok(())
        }
    }

    #[test]
    fn attention_to_the_picture_has_the_references_mass() -> Result<()> {
        let mut mass = Mass::default();
        let tensors = call(&mut mass)?;
        assert_eq!(mass.0.len(), 4);
        for (site, got) in mass.0 {
            // The reference has the mass of picture to picture first, for each head.
            let want = tensors[&format!("out.mass.{site}")].select(2, 0);
            let want = want.sum_dim_intlist([1i64].as_slice(), false, Kind::Float);
            assert!(apart(&got, &want) < 1e-4, "{site}: {got} {want}");
        }
        Ok(())
    }
}
