//! [`PackageDaam`]: DAAM as its authors' package computes it, including its quirks, for comparison.

use impasto::attention::{At, AttentionSite, CrossAttentionHook, Interest, Place, Probs};
use impasto::guidance::{GuidanceRun, Setup};
use impasto::saliency::HeatMap;
use impasto::{Branch, Codec, Error, Prompt, Result};
use std::collections::BTreeMap;
use tch::{Kind, Tensor};

/// Resize factors that enter a global map. The package drops all others.
const FACTORS: [i64; 8] = [0, 1, 2, 4, 8, 16, 32, 64];

/// DAAM as the package `daam` 0.2.0 computes it. For everything but comparisons use
/// `impasto::saliency::Daam`. The package has these quirks:
///
/// * Per-head maps are summed over steps, not averaged.
/// * Pictures are square, and a run has one image.
/// * The middle block and sites with a resize factor of 8 are left out.
/// * Runs without guidance use only the second half of the heads.
///
/// Source: castorini/daam 0.2.0 (`trace.py`, `heatmap.py`).
#[derive(Debug)]
pub struct PackageDaam {
    cells: i64,
    run: Option<Record>,
}

#[derive(Debug)]
struct Record {
    prompt: Prompt,
    /// True if the negative prompt was evaluated. The conditional half of the batch then has all its heads.
    guided: bool,
    /// Layer numbers in the package's order, by site name.
    layers: BTreeMap<String, i64>,
    /// Maps summed over evaluations, [tokens, side, side] each.
    sums: BTreeMap<PackageKey, Tensor>,
}

/// Key of a map in the package. Keys are ordered as the package sorts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackageKey {
    /// Side of the global map divided by the side of the site's grid, rounded down.
    pub factor: i64,
    /// Position of the site, counted through the up blocks and then the down blocks.
    pub layer: i64,
    /// Position among the heads that the package keeps.
    pub head: i64,
}

/// Filter of the recorded keys to average. `None` accepts all.
#[derive(Clone, Debug, Default)]
pub struct KeyFilter {
    /// Accepted resize factors; `None`: all of 0, 1, 2, 4, 8, 16, 32 and 64.
    pub factors: Option<Vec<i64>>,
    /// Accepted head; `None`: all.
    pub head: Option<i64>,
    /// Accepted layer, counted through the up blocks and then the down blocks; `None`: all.
    pub layer: Option<i64>,
}

impl PackageDaam {
    /// Creates a recorder with maps of `cells` cells, the package's `latent_hw`: 4096 for pictures of 512 and 1024
    /// pixels a side, else 9216. Maps have √cells rows and columns.
    pub const fn new(cells: i64) -> Self {
        Self { cells, run: None }
    }

    /// Returns the recorded keys with their sums, [tokens, side, side].
    pub fn keys(&self) -> impl Iterator<Item = (PackageKey, &Tensor)> {
        self.run.iter().flat_map(|run| run.sums.iter().map(|(key, sum)| (*key, sum)))
    }

    /// Returns the mean maps of the start token, of every token of the prompt and of the token that follows the prompt,
    /// [tokens + 2, √cells, √cells].
    ///
    /// # Errors
    /// [`Error::NoMaps`] if no recorded key passes `filter`.
    pub fn heat_maps(&self, filter: &KeyFilter) -> Result<Tensor> {
        let run = self.run.as_ref().ok_or(Error::NoMaps("PackageDaam"))?;
        let accepts = |PackageKey { factor, layer, head }: &PackageKey| {
            let factors = filter.factors.as_deref().unwrap_or(&FACTORS);
            factors.contains(factor)
                && filter.layer.is_none_or(|wanted| wanted == *layer)
                && filter.head.is_none_or(|wanted| wanted == *head)
        };
        let side = self.side();
        let mut maps = Vec::new();
        for (_, sum) in run.sums.iter().filter(|(key, _)| accepts(key)) {
            let map = sum.f_unsqueeze(1)?.f_upsample_bicubic2d([side, side], false, None, None)?;
            maps.push(map.f_squeeze_dim(1)?.f_clamp_min(0.0)?);
        }
        if maps.is_empty() {
            return Err(Error::NoMaps("PackageDaam"));
        }
        let mean = Tensor::f_stack(&maps, 0)?.f_mean_dim([0i64].as_slice(), false, Kind::Float)?;
        let tokens = run.prompt.tokens().len() as i64 + 2;
        Ok(mean.f_narrow(0, 0, tokens.min(mean.size3()?.0))?)
    }

    /// Returns [`PackageDaam::heat_maps`] of all keys, each divided by the sum of all maps but the first and last, plus
    /// 1e-6.
    pub fn normalized(&self) -> Result<Tensor> {
        let maps = self.heat_maps(&KeyFilter::default())?;
        let rows = maps.size3()?.0;
        let sum = maps.f_narrow(0, 1, rows - 2)?.f_sum_dim_intlist([0i64].as_slice(), true, Kind::Float)?;
        Ok(maps.f_div(&sum.f_add_scalar(1e-6)?)?)
    }

    /// Returns the mean map of a word's tokens. Every place counts where these tokens follow each other in the prompt,
    /// even inside other words. Tokens of overlapping places count twice.
    ///
    /// # Errors
    /// [`Error::PhraseNotFound`] for a word that is not in the prompt, [`Error::PhraseTruncated`] for a word that the
    /// text encoder does not read.
    pub fn word(&self, word: &str, codec: &dyn Codec) -> Result<HeatMap> {
        let run = self.run.as_ref().ok_or(Error::NoMaps("PackageDaam"))?;
        let (prompt, wanted) = (pieces(&run.prompt), pieces(&codec.prompt(word.into())?));
        let places = prompt.windows(wanted.len().max(1)).enumerate().filter(|(_, window)| *window == wanted.as_slice());
        let rows: Vec<i64> =
            places.flat_map(|(start, window)| (0..window.len()).map(move |i| (start + i + 1) as i64)).collect();
        if rows.is_empty() {
            let (phrase, prompt) = (word.to_owned(), run.prompt.text().to_owned());
            return Err(Error::PhraseNotFound { phrase, prompt, nearest: Vec::new() });
        }
        let maps = self.heat_maps(&KeyFilter::default())?;
        let limit = maps.size3()?.0;
        if rows.iter().any(|row| *row >= limit) {
            return Err(Error::PhraseTruncated { phrase: word.into(), limit: limit as usize - 2 });
        }
        let index = Tensor::f_from_slice(&rows)?.f_to_device(maps.device())?;
        HeatMap::new(word, &maps.f_index_select(0, &index)?.f_mean_dim([0i64].as_slice(), false, Kind::Float)?)
    }

    fn side(&self) -> i64 {
        (self.cells as f64).sqrt() as i64
    }

    fn factor(&self, queries: i64) -> i64 {
        ((self.cells / queries.max(1)) as f64).sqrt() as i64
    }
}

/// Returns the letters of each token of a prompt, in lower case.
fn pieces(prompt: &Prompt) -> Vec<String> {
    let text = prompt.text();
    prompt.tokens().iter().map(|token| text.get(token.clone()).unwrap_or_default().to_lowercase()).collect()
}

impl CrossAttentionHook for PackageDaam {
    fn interest(&self, site: &AttentionSite, branch: Branch) -> Interest {
        let traced = site.is_cross() && site.place != Place::Mid;
        if traced && matches!(branch, Branch::Cond | Branch::Uncond) { Interest::PROBS } else { Interest::NONE }
    }

    fn probs(&mut self, at: &At<'_>, probs: &Probs<'_>) -> Result<()> {
        let factor = self.factor(at.grid.cells());
        let Some(run) = &mut self.run else { return Ok(()) };
        if at.branch == Branch::Uncond {
            run.guided = true;
            return Ok(());
        }
        if factor == 8 {
            return Ok(());
        }
        let Some(&layer) = run.layers.get(&at.site.name) else { return Ok(()) };
        let all = probs.columns(probs.tokens())?; // [1, heads, queries, tokens]
        let heads = all.size4()?.1;
        // The package keeps the second half of all heads of the batch, and takes that half for the prompt's heads.
        let first = if run.guided { 0 } else { heads / 2 };
        for (kept, head) in (first..heads).enumerate() {
            let map =
                all.f_select(0, 0)?.f_select(0, head)?.f_transpose(0, 1)?.f_reshape([-1, at.grid.h, at.grid.w])?;
            let key = PackageKey { factor, layer, head: kept as i64 };
            let sum = match run.sums.get(&key) {
                Some(sum) => sum.f_add(&map)?,
                None => map.f_contiguous()?,
            };
            run.sums.insert(key, sum);
        }
        Ok(())
    }
}

impl GuidanceRun for PackageDaam {
    fn begin(&mut self, setup: &mut Setup<'_>) -> Result<()> {
        self.run = None;
        if self.cells < 1 {
            return Err(Error::parameter("cells", self.cells, "1 or more; 4096 for pictures of 512 pixels a side"));
        }
        if setup.images != 1 {
            return Err(Error::parameter(
                "number of images",
                setup.images,
                "1, because the daam package mixes the images of a batch; use Daam",
            ));
        }
        if setup.grid.h != setup.grid.w {
            let size = format!("{} × {} cells", setup.grid.h, setup.grid.w);
            return Err(Error::parameter(
                "size",
                size,
                "a square, because the daam package has no other shapes; use Daam",
            ));
        }
        let chunks = setup.prompt.content().len();
        if chunks > 1 {
            let expected = "one chunk of up to 75 tokens without BREAK, as the daam package reads no more; use Daam";
            return Err(Error::parameter("prompt", format!("{chunks} chunks long"), expected));
        }
        // The package counts up blocks before down blocks; a network runs down blocks first.
        let cross = |place| setup.sites.iter().filter(move |site| site.is_cross() && site.place == place);
        let order = cross(Place::Up).chain(cross(Place::Down));
        let layers = order.enumerate().map(|(layer, site)| (site.name.clone(), layer as i64)).collect();
        self.run = Some(Record { prompt: setup.prompt.clone(), guided: false, layers, sums: BTreeMap::new() });
        Ok(())
    }
    fn hooks(&mut self) -> Vec<&mut dyn CrossAttentionHook> {
        vec![self]
    }
    fn name(&self) -> &'static str {
        "PackageDaam"
    }
}
