//! [`Recording`]: the attention of one run to some tokens.

use crate::attention::{At, AttentionSite, Interest, Probs};
use crate::diffusion::Schedule;
use crate::error::{Error, Result, is_finite};
use crate::prompt::{Prompt, TokenSpan};
use crate::recipe::Function;
use crate::saliency::heat_map::HeatMap;
use crate::saliency::series::{Accumulate, Series};
use crate::step::{Grid, Step};
use crate::window::Window;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

/// A choice of attention sites.
pub(super) type Sites = Function<dyn Fn(&AttentionSite) -> bool + Send + Sync>;

/// Sites and steps at which attention is recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Recorder {
    /// Recorded sites; `None`: those that the network says find words.
    pub sites: Option<Sites>,
    pub window: Window,
    /// True if every step is recorded when the schedule has no step in the window.
    #[serde(default)]
    pub or_whole_run: bool,
}

impl Default for Recorder {
    fn default() -> Self {
        Self { sites: None, window: Window::WHOLE, or_whole_run: false }
    }
}

impl Recorder {
    pub(super) fn reads(&self, site: &AttentionSite) -> bool {
        match &self.sites {
            Some(select) => select(site),
            None => site.finds_words,
        }
    }

    pub(super) fn check(&self) -> Result<()> {
        self.window.check()
    }

    /// Checks that there is a site to record.
    pub(super) fn check_sites(&self, sites: &[AttentionSite]) -> Result<()> {
        let mut cross = sites.iter().filter(|site| site.is_cross());
        if cross.clone().any(|site| self.reads(site)) {
            return Ok(());
        }
        Err(Error::NoSites { names: cross.by_ref().map(|site| site.name.clone()).collect() })
    }

    pub(super) fn interest(&self, site: &AttentionSite) -> Interest {
        let recorded = site.is_cross() && self.reads(site);
        if recorded { Interest::PROBS } else { Interest::NONE }
    }

    /// Returns the recorder of a run with a schedule.
    pub(super) fn on(&self, schedule: &Schedule) -> Self {
        let is_outside = !schedule.steps().any(|step| self.window.contains(&step));
        Self { window: if self.or_whole_run && is_outside { Window::WHOLE } else { self.window }, ..self.clone() }
    }

    pub(super) fn active(&self, step: &Step) -> bool {
        self.window.contains(step)
    }
}

/// The subjects of a recording. A subject is a name with tokens, for which one map is recorded.
pub(super) struct Subjects {
    pub labels: Vec<String>,
    /// Span from the first to the last token of all subjects.
    hull: TokenSpan,
    /// Weight of each token for each subject, [subjects, tokens of the hull], for each text of a prompt that changes
    /// during a run: 0 for tokens that the text lacks.
    shares: Vec<Tensor>,
    /// Index of the share of each step; empty for a prompt that stays the same.
    by_step: Vec<usize>,
}

impl Subjects {
    /// Creates subjects, each from a name and its tokens in `prompt`. A subject's map is the mean or the sum over these
    /// tokens.
    pub(super) fn new(
        subjects: Vec<(String, Vec<TokenSpan>, Merge)>,
        prompt: &Prompt,
        schedule: &Schedule,
        device: Device,
    ) -> Result<Self> {
        let spans = || subjects.iter().flat_map(|(_, spans, _)| spans);
        let hull = TokenSpan {
            start: spans().map(|span| span.start).min().unwrap_or_default(),
            end: spans().map(|span| span.end).max().unwrap_or_default(),
        };
        let share = Tensor::f_zeros([subjects.len() as i64, hull.len()], (Kind::Float, Device::Cpu))?;
        for (subject, (_, spans, merge)) in subjects.iter().enumerate() {
            let tokens: i64 = spans.iter().map(|span| span.len()).sum();
            let each = if *merge == Merge::Mean { 1.0 / tokens.max(1) as f64 } else { 1.0 };
            for span in spans {
                let mut own = share.f_narrow(0, subject as i64, 1)?.f_narrow(1, span.start - hull.start, span.len())?;
                let _ = own.f_fill_(each)?;
            }
        }
        let labels = subjects.into_iter().map(|(label, ..)| label).collect();
        let (mut shares, mut by_step) = (Vec::new(), Vec::new());
        if let Some(changes) = prompt.changes() {
            by_step.extend(schedule.steps().map(|step| changes.text_at(step.index)));
            for columns in changes.columns() {
                let here = |column: i64| f32::from(u8::from(columns.binary_search(&column).is_ok()));
                let present: Vec<f32> = (hull.start..hull.end).map(here).collect();
                let present = Tensor::f_from_slice(&present)?;
                shares.push(share.f_mul(&present)?.f_to_device(device)?);
            }
        } else {
            shares.push(share.f_to_device(device)?);
        }
        Ok(Self { labels, hull, shares, by_step })
    }

    /// Returns the weights of the tokens at a step, [subjects, tokens of the hull].
    fn shares(&self, step: &Step) -> Result<&Tensor> {
        let text = self.by_step.get(step.index).copied().unwrap_or_default();
        self.shares.get(text).ok_or(Error::NoMaps("Daam"))
    }
}

/// Way to merge the maps of a subject's tokens into one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Merge {
    Mean,
    Sum,
}

/// The attention recorded in one run. Maps have a channel per subject.
pub(super) struct Recording {
    pub images: i64,
    pub subjects: Subjects,
    pub maps: Series,
    /// Per recorded site, the sum of every head's maps, [n, heads, subjects, h, w], and the number of calls. `None`
    /// unless requested.
    heads: Option<Vec<(AttentionSite, Tensor, f64)>>,
}

impl Recording {
    /// Creates an empty recording whose maps are read at `grid`.
    pub(super) fn new(grid: Grid, images: i64, subjects: Subjects, accumulate: Accumulate, per_head: bool) -> Self {
        Self { images, subjects, maps: Series::new(grid, images, accumulate), heads: per_head.then(Vec::new) }
    }

    /// Adds the attention of one call.
    pub(super) fn add(&mut self, at: &At<'_>, probs: &Probs<'_>) -> Result<()> {
        let rows = (at.images.start, at.images.end - at.images.start);
        let (mut hull, shares) = (self.subjects.hull, self.subjects.shares(at.step)?);
        self.maps.turn_to(at.step.index)?;
        // A step may read fewer columns than the prompt has, if its text is a shorter one.
        hull.end = hull.end.min(probs.tokens().end);
        if hull.end <= hull.start {
            return Ok(()); // none of the words
        }
        let shares = &shares.f_narrow(-1, 0, hull.len())?;
        if let Some(heads) = &mut self.heads {
            let Grid { h, w } = at.grid;
            let maps = shares.f_matmul(&probs.columns(hull)?.f_transpose(2, 3)?)?; // [n, heads, subjects, queries]
            let (n, count, subjects, _) = maps.size4()?;
            let maps = maps.f_reshape([n, count, subjects, h, w])?;
            let known = heads.iter().position(|(site, ..)| site.index == at.site.index);
            let position = match known {
                Some(position) => position,
                None => {
                    let zeros = Tensor::f_zeros([self.images, count, subjects, h, w], (Kind::Float, maps.device()))?;
                    heads.push((at.site.clone(), zeros, 0.0));
                    heads.len() - 1
                }
            };
            if let Some((_, sum, calls)) = heads.get_mut(position) {
                let _ = sum.f_narrow(0, rows.0, rows.1)?.f_add_(&maps)?;
                *calls += if rows.0 == 0 { 1.0 } else { 0.0 };
            }
        }
        let mut sums = self.maps.sums(at.grid, rows, self.subjects.labels.len() as i64, shares.device())?;
        probs.add_to(&mut sums, hull, shares)?;
        self.maps.count(rows, at.site.heads);
        Ok(())
    }

    /// Returns the mean map of one subject and image.
    pub(super) fn heat_map(&self, subject: usize, image: usize) -> Result<HeatMap> {
        let (Some(step), Some(label)) = (self.maps.last(), self.subjects.labels.get(subject)) else {
            return Err(Error::NoMaps("Daam"));
        };
        if image as i64 >= self.images {
            let expected = format!("an index below {}, the number of images in the run", self.images);
            return Err(Error::parameter("image", image, expected));
        }
        let map = self.maps.mean()?.ok_or(Error::NoMaps("Daam"))?;
        let map = map.f_select(0, image as i64)?.f_select(0, subject as i64)?;
        if !is_finite(&map)? {
            return Err(Error::NonFinite { what: format!("the attention to \"{label}\""), step });
        }
        HeatMap::new(label, &map)
    }

    /// Returns the mean maps of the heads of every recorded site, [n, heads, subjects, h, w], in the order in which the
    /// sites run. `None` unless requested.
    pub(super) fn heads(&self) -> Result<Option<Vec<(AttentionSite, Tensor)>>> {
        let Some(heads) = &self.heads else { return Ok(None) };
        let means = heads.iter().map(|(site, sum, calls)| Ok((site.clone(), sum.f_div_scalar(*calls)?)));
        means.collect::<Result<_>>().map(Some)
    }
}
