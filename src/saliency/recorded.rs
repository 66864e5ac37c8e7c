//! [`Recorded`]: maps of an earlier run.

use crate::error::{Error, Result};
use crate::guidance::{Guidance, GuidanceRun, Plan, Setup};
use crate::recipe::{Recipe, SharedTensor};
use crate::saliency::{Saliency, SaliencyRun};
use crate::step::{Grid, Step};
use crate::weights::{Tensors, read_safetensors, write_safetensors};
use serde::{Deserialize, Serialize};
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// The maps that another guidance method used, step by step, from
/// [`ForceRun::recorded`](crate::methods::color_force::ForceRun::recorded).
///
/// With the same prompt, size, sampler and seed the maps give the same picture, bit for bit, without reading any
/// attention. With another seed the maps act as a fixed stencil. For a picture of another size the maps are resized
/// bilinearly.
///
/// ```no_run
/// # fn main() -> impasto::Result<()> {
/// use impasto::{Pipeline, Rgb};
/// use impasto::methods::ColorForce;
/// use impasto::methods::color_force::ForceRun;
/// use impasto::saliency::Recorded;
/// let pipeline = Pipeline::builder().build()?;
/// let gold = ColorForce::exact("hair", Rgb(255, 215, 0));
/// let output = pipeline.request("1girl, hair, shirt").seed(7).guide(gold).run()?;
/// output.details::<ForceRun>("hair")?.recorded()?.save("hair.safetensors".as_ref())?;
///
/// let mask = Recorded::load("hair.safetensors".as_ref())?;
/// let blue = ColorForce::exact("hair", Rgb(0, 0, 139)).replay(mask); // one pass, the same mask
/// pipeline.request("1girl, hair, shirt").seed(7).guide(blue).run()?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recorded {
    /// Timesteps of the maps, as windows count them.
    timesteps: Vec<f64>,
    /// Maps, one per timestep, [timesteps, n, h, w] f32 in 0..=`range`.
    maps: SharedTensor,
    range: f64,
    /// The content that the run of the maps held; its force takes it when it replays the maps.
    #[serde(skip)]
    pub(crate) seen: Option<Seen>,
}

/// The state of one run.
struct Replay {
    timesteps: Vec<f64>,
    /// Maps at the size of this run, for each of its images, [timesteps, n, h, w].
    maps: Tensor,
    range: f64,
    /// Index of this step's map.
    current: Option<usize>,
    /// Index of the map after the one that was used last.
    next: usize,
}

/// The findings of a first pass: clean latents, the object's map, and the protected cells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Seen {
    /// The clean latent at the first step of a force, [n, c, h, w] f32.
    pub first: SharedTensor,
    /// The clean latent at the end, [n, c, h, w] f32.
    pub last: SharedTensor,
    /// The map of the force's object, [n, 1, h, w] f32.
    pub found: SharedTensor,
    /// The protected cells, [n, 1, h, w] of 0 and 1.
    pub spared: SharedTensor,
}

impl Seen {
    /// Returns the tensors on a device; on their own device, they share memory.
    pub(crate) fn on(&self, device: Device) -> Result<Self> {
        let on = |x: &SharedTensor| Ok::<_, Error>(x.get().f_to_device(device)?.into());
        Ok(Self { first: on(&self.first)?, last: on(&self.last)?, found: on(&self.found)?, spared: on(&self.spared)? })
    }

    /// Returns true if the run of these tensors had this grid and this number of images.
    pub(crate) fn fits(&self, grid: Grid, images: i64) -> bool {
        matches!(self.last.get().size().as_slice(), [n, _, h, w] if (*n, *h, *w) == (images, grid.h, grid.w))
    }
}

impl Recorded {
    /// Creates recorded maps. `maps`, [timesteps, n, h, w] in 0..=`range`, has a map for every image at every timestep;
    /// with n = 1 all images use the same map. A timestep is [`Step::sd_timestep`], the training timestep of Stable
    /// Diffusion with the same noise level.
    ///
    /// # Errors
    /// [`Error::Shape`] if the number of maps is not the number of timesteps.
    pub fn new(timesteps: Vec<f64>, maps: Tensor, range: f64) -> Result<Self> {
        match maps.size().as_slice() {
            [count, _, _, _] if *count == timesteps.len() as i64 => {
                let maps = maps.f_to_kind(Kind::Float)?.into();
                Ok(Self { timesteps, maps, range, seen: None })
            }
            got => {
                let expected = format!("[{}, n, h, w], a map for every timestep", timesteps.len());
                Err(Error::Shape { what: "recorded maps", got: got.to_vec(), expected })
            }
        }
    }

    /// Writes the maps into a `.safetensors` file. The file is written completely or not at all.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Torch`] if the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let named = [
            ("timesteps", Tensor::f_from_slice(&self.timesteps)?),
            ("range", Tensor::f_from_slice(&[self.range])?),
            ("maps", self.maps.get()),
        ];
        let seen = self.seen.iter().flat_map(|Seen { first, last, found, spared }| {
            let named = [("first", first), ("last", last), ("found", found), ("spared", spared)];
            named.map(|(name, tensor)| (name, tensor.get()))
        });
        let tensors: Tensors = named.into_iter().chain(seen).map(|(name, tensor)| (name.to_owned(), tensor)).collect();
        write_safetensors(&tensors, path)
    }

    /// Reads maps that [`Recorded::save`] wrote.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Malformed`] if the file has no recorded maps.
    pub fn load(path: &Path) -> Result<Self> {
        let mut tensors = read_safetensors(path)?;
        let mut take = |name: &str| {
            let problem = format!("the file has no tensor \"{name}\"; expected a file that Recorded::save wrote");
            tensors.remove(name).ok_or(Error::Malformed { file: path.display().to_string(), problem })
        };
        let numbers = |tensor: Tensor| -> Result<Vec<f64>> { Ok(Vec::try_from(&tensor.f_to_kind(Kind::Double)?)?) };
        let (timesteps, range) = (numbers(take("timesteps")?)?, numbers(take("range")?)?);
        let maps = Self::new(timesteps, take("maps")?, range.first().copied().unwrap_or(1.0))?;
        let (first, last, found, spared) = (take("first"), take("last"), take("found"), take("spared"));
        let seen = match (first, last, found, spared) {
            (Ok(first), Ok(last), Ok(found), Ok(spared)) => {
                Some(Seen { first: first.into(), last: last.into(), found: found.into(), spared: spared.into() })
            }
            _ => None,
        };
        Ok(Self { seen, ..maps })
    }
}

impl Guidance for Recorded {
    fn begin(&self, setup: &mut Setup<'_>, _: Option<Box<dyn GuidanceRun>>) -> Result<Box<dyn GuidanceRun>> {
        Ok(self.find(setup)?)
    }

    fn recipe(&self) -> Result<Recipe> {
        Recipe::of("Recorded", self)
    }

    fn name(&self) -> &'static str {
        "Recorded"
    }
}

impl Saliency for Recorded {
    fn find(&self, setup: &mut Setup<'_>) -> Result<Box<dyn SaliencyRun>> {
        let maps = self.maps.get();
        let (_, n, h, w) = maps.size4()?;
        if n != 1 && n != setup.images {
            let expected =
                format!("[timesteps, 1 or {}, h, w], one map for all images or for each image", setup.images);
            return Err(Error::Shape { what: "recorded maps", got: maps.size(), expected });
        }
        let Grid { h: to_h, w: to_w } = setup.grid;
        let maps = match (h, w) == (to_h, to_w) {
            true => maps,
            false => maps.f_upsample_bilinear2d([to_h, to_w], false, None, None)?,
        };
        let maps = maps.f_to_device(setup.device)?.f_expand([-1, setup.images, to_h, to_w], false)?;
        Ok(Box::new(Replay { timesteps: self.timesteps.clone(), maps, range: self.range, current: None, next: 0 }))
    }
}

impl GuidanceRun for Replay {
    fn plan(&mut self, step: &Step, _: &mut Plan) -> Result<()> {
        if step.eval > 0 {
            return Ok(());
        }
        // Stable Diffusion's last timestep stands for all higher noise, so several steps of a flow share it.
        let here = |(_, timestep): &(usize, &f64)| (*timestep - step.sd_timestep).abs() < 1e-6;
        let all = || self.timesteps.iter().enumerate().filter(here).map(|(index, _)| index);
        self.current = all().find(|index| *index >= self.next).or_else(|| all().next_back());
        self.next = self.current.map_or(self.next, |index| index + 1);
        Ok(())
    }
}

impl SaliencyRun for Replay {
    fn map(&self) -> Result<Option<Tensor>> {
        let Some(step) = self.current else { return Ok(None) };
        Ok(Some(self.maps.f_select(0, step as i64)?.f_unsqueeze(1)?))
    }

    fn range(&self) -> f64 {
        self.range
    }
}
