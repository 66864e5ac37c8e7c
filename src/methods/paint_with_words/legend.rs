//! Pictures that explain a painting: its maps, and each area with its phrase.

use super::area::Area;
use super::canvas::Canvas;
use crate::color::Rgb;
use crate::error::Result;
use crate::guidance::Picture;
use crate::mask::Resample;
use crate::raster::{Filter, Raster};
use crate::size::Size;
use crate::step::Grid;
use tch::{Device, Tensor};

const PAPER: Rgb = Rgb(245, 245, 245);
/// Color in which drawn masks are shown, because a mask has no color in a map.
const INK: Rgb = Rgb(60, 60, 60);
/// Length of a panel's longer side in pixels.
const SIDE: u32 = 192;

/// Draws the panels of a painting. `aspect` is the picture's aspect, used for a painting without maps.
pub(super) fn legend(canvas: &Canvas, aspect: Grid) -> Result<Vec<Picture>> {
    let grid = |Size { width, height }| Grid::new(height.into(), width.into());
    let maps = canvas.maps.iter().map(|(map, _)| (grid(map.size()), map));
    let maps: Vec<(Grid, &Raster)> = maps.collect();
    let size = maps.first().map_or(aspect, |(size, _)| *size);
    let longer = size.h.max(size.w).max(1) as f64;
    let scaled = |side: i64| ((side as f64 * f64::from(SIDE) / longer).round() as i64).max(1);
    let panel = Grid::new(scaled(size.h), scaled(size.w));
    let mut panels = Vec::new();
    for (number, (_, map)) in (1..).zip(&maps) {
        let caption = if maps.len() == 1 { "map".to_owned() } else { format!("map of image {number}") };
        panels.push(Picture::new(caption, map.resize((panel.w as u32, panel.h as u32), Filter::Nearest)?));
    }
    for area in &canvas.areas {
        let masks = canvas.region(area)?.resample(panel, Resample::Area)?;
        for image in 0..masks.size4()?.0 {
            let paper = Raster::flat(PAPER, (panel.w as u32, panel.h as u32));
            panels.push(Picture::new(caption(area), tint(&masks.f_get(image)?, &paper, area.rgb().unwrap_or(INK))?));
        }
    }
    Ok(panels)
}

/// Returns a caption such as `house 1.5`, `sky -1 seed 7` or `not blurry 1`.
fn caption(area: &Area) -> String {
    let not = if area.negative { "not " } else { "" };
    let seed = area.seed.map(|seed| format!(" seed {seed}")).unwrap_or_default();
    format!("{not}{} {}{seed}", area.phrase, area.strength)
}

/// Blends a color over a picture by a mask, [1, h, w] in 0..=1 of the picture's size.
pub(crate) fn tint(mask: &Tensor, under: &Raster, color: Rgb) -> Result<Raster> {
    let under = under.to_tensor(Device::Cpu)?;
    let ink = Raster::flat(color, (1, 1)).to_tensor(Device::Cpu)?;
    Raster::from_tensor(&under.f_add(&ink.f_sub(&under)?.f_mul(mask)?)?)
}
