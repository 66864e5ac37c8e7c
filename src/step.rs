//! Position in a run: its steps, and the grids of latents and attention sites.

/// Rows and columns of a latent or of an attention site. The fields have the names of the tensor's axes, [.., h, w].
///
/// ```
/// use impasto::Grid;
///
/// let grid = Grid::new(24, 32); // the latent of a picture that is 256 pixels wide and 192 high
/// assert_eq!((grid.h, grid.w, grid.cells()), (24, 32, 768));
/// assert_eq!(grid.halved(1), Grid { h: 12, w: 16 });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Grid {
    /// Rows.
    pub h: i64,
    /// Columns.
    pub w: i64,
}

impl Grid {
    /// Creates a grid of `h` rows and `w` columns.
    pub const fn new(h: i64, w: i64) -> Self {
        Self { h, w }
    }

    /// Returns the number of cells, which are indexed row by row.
    pub const fn cells(self) -> i64 {
        self.h * self.w
    }

    /// Returns the grid after `halvings` stride-2 convolutions with padding 1 (sizes round up).
    #[must_use]
    pub fn halved(self, halvings: u32) -> Self {
        (0..halvings).fold(self, |grid, _| Self::new((grid.h + 1) / 2, (grid.w + 1) / 2))
    }
}

/// The noising process that a model was trained on, which decides the scale of the latents that its network sees.
///
/// ```
/// use impasto::diffusion::Process;
///
/// // A flow's latent at t = 0.75 has the noise level 3, and is a quarter of the latent of sigma space.
/// assert_eq!(Process::Flow.size(3.0), 4.0);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Process {
    /// Diffusion: the network sees √ᾱ·x0 + √(1 − ᾱ)·noise, which is x/√(1 + σ²).
    #[default]
    Diffusion,
    /// Rectified flow: the network sees (1 − t)·x0 + t·noise, which is x/(1 + σ) with σ = t/(1 − t).
    Flow,
}

impl Process {
    /// Returns the size of a latent of sigma space in the unit of the network's latents: √(1 + σ²) or 1 + σ.
    pub fn size(self, sigma: f64) -> f64 {
        match self {
            Self::Diffusion => sigma.hypot(1.0),
            Self::Flow => 1.0 + sigma,
        }
    }
}

/// One step of a run and, within it, one evaluation of the model.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Step {
    /// 0-based index of the step.
    pub index: usize,
    /// Number of steps in the run.
    pub count: usize,
    /// Number of requested steps; more than `count` if a run starts or ends inside its schedule.
    pub nominal: usize,
    /// Number of steps of the schedule before the run's first one, if the run starts from a picture or continues
    /// another run.
    pub before: usize,
    /// Number of steps of the schedule after the run's last one, if another run continues this run.
    pub after: usize,
    /// Noise level the step starts at.
    pub from: f64,
    /// Noise level the step ends at; 0 for the last.
    pub to: f64,
    /// Noise level of this evaluation. Equals `from` except in inner evaluations of second-order solvers.
    pub sigma: f64,
    /// Training timestep of this evaluation, possibly fractional: 0..=999 for diffusion models. A flow's timestep is
    /// its time, 0..=1, or a multiple.
    pub timestep: f64,
    /// Timestep of Stable Diffusion with the noise level of this evaluation, for a flow; otherwise the timestep itself.
    /// Windows in timesteps compare it, so that they mean the same noise levels for every model.
    pub sd_timestep: f64,
    /// Noising process of the model.
    pub process: Process,
    /// 0-based index of this evaluation within the step.
    pub eval: usize,
}

impl Step {
    /// Creates the first evaluation of step `index` of `count`, from one noise level to the next.
    pub const fn new(index: usize, count: usize, from: f64, to: f64, timestep: f64) -> Self {
        Self {
            index,
            count,
            nominal: count,
            before: 0,
            after: 0,
            from,
            to,
            sigma: from,
            timestep,
            sd_timestep: timestep,
            process: Process::Diffusion,
            eval: 0,
        }
    }

    /// Returns the 0-based index of the step in the whole schedule, even if only a part of the schedule is run.
    pub const fn place(&self) -> usize {
        self.before + self.index
    }

    /// Returns the number of steps from this step to the end of the whole schedule, both included.
    pub const fn left(&self) -> usize {
        self.count.saturating_sub(self.index) + self.after
    }
}
