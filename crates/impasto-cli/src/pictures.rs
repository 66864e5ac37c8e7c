//! Pictures and ControlNets that a painting follows.

use crate::failure::Failure;
use crate::loading::source;
use crate::painting::{EMBEDDED, Painting};
use crate::values::Hint;
use impasto::hint::{Drawing, Sketch, Strokes};
use impasto::nn::ControlNet;
use impasto::raster::Layer;
use impasto::{Control, Pipeline, Raster};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The pictures of a painting, opened.
pub struct Pictures {
    pub map: Option<Raster>,
    pub start: Option<Raster>,
    pub mask: Option<Raster>,
    pub reference: Option<Raster>,
    pub sketch: Option<Raster>,
    /// A hint for each ControlNet of the painting, in order.
    pub hints: Vec<HintPicture>,
}

/// A hint in the form that its ControlNet reads.
pub enum HintPicture {
    Picture(Raster),
    Drawing(Drawing),
}

/// Number of hint channels of a ControlNet for lines and strokes.
const DRAWING: i64 = 5;

impl Pictures {
    /// Opens the pictures that the painting names.
    pub fn open(painting: &Painting, nets: &Nets) -> Result<Self, Failure> {
        let open = |path: &Option<PathBuf>| path.as_ref().map(Raster::open).transpose();
        let hint = |control: &Hint| -> Result<HintPicture, Failure> {
            let lines = Raster::open(&control.picture)?;
            if nets.get(&control.net)?.config().conditioning_channels != DRAWING {
                return Ok(HintPicture::Picture(lines));
            }
            // The embedded net was trained on the edges of pictures, so line art is converted to edges too.
            let sketch = if control.net == EMBEDDED { Sketch::of_edges(&lines)? } else { Sketch::of_line_art(&lines)? };
            let strokes = painting.strokes.as_ref().map(Strokes::open).transpose()?;
            let strokes = strokes.unwrap_or_else(|| Strokes::new(lines.size()));
            Ok(HintPicture::Drawing(Drawing { sketch, strokes }))
        };
        let hints = painting.control.iter().map(hint);
        Ok(Self {
            map: open(&painting.map)?,
            start: open(&painting.start)?,
            mask: painting.mask.as_ref().map(|path| Ok::<_, Failure>(Layer::open(path)?.mask())).transpose()?,
            reference: open(&painting.reference)?,
            sketch: open(&painting.sketch)?,
            hints: hints.collect::<Result<_, _>>()?,
        })
    }
}

impl HintPicture {
    /// Returns the control of `net` by this hint.
    pub const fn control<'c>(&'c self, net: &'c ControlNet) -> Control<'c> {
        match self {
            Self::Picture(picture) => Control::picture(net, picture),
            Self::Drawing(drawing) => Control::drawing(net, drawing),
        }
    }
}

/// ControlNets by the names that the command line gives them. Each is loaded once.
#[derive(Default)]
pub struct Nets(BTreeMap<String, ControlNet>);

impl Nets {
    /// Loads the nets of a painting that are not loaded yet.
    pub fn load(&mut self, painting: &Painting, pipeline: &Pipeline) -> Result<(), Failure> {
        for control in &painting.control {
            if !self.0.contains_key(&control.net) {
                let net = pipeline.model().controlnet(&source("the NET of --control", &control.net)?)?;
                self.0.insert(control.net.clone(), net);
            }
        }
        Ok(())
    }

    /// Returns a net that was loaded.
    pub fn get(&self, name: &str) -> Result<&ControlNet, Failure> {
        self.0.get(name).ok_or_else(|| Failure::Message(format!("the ControlNet {name} is not loaded")))
    }
}
