//! Pictures as guides: how near a picture comes to its guide, and how much of the prompt the picture keeps.

use crate::picture::{Picture, light, sliced};
use crate::placement::is_there;
use crate::regions::{Labels, area, of_class};
use impasto::Lab;
use serde::{Deserialize, Serialize};

/// Strengths of a guide, as `max_guidance` of `ImageGuidance`. 0 is the picture without guidance.
pub const STRENGTHS: [f64; 4] = [0.0, 0.15, 0.35, 0.7];
/// Highest strength at which a verdict requires that the prompt's objects stay.
pub const KEEPS: f64 = 0.35;
/// Side of the grid on which colors are compared, in cells.
const GRID: usize = 64;

/// The subject of a drawing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    Portrait,
    /// A scene of any objects.
    Scene,
    /// A scene with this object in it.
    SceneOf(&'static str),
}

/// A drawing that a picture follows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Guide {
    pub subject: Subject,
    /// Seed of the drawing. If its drawing is of another kind, the next seeds with the same last bit are tried.
    pub seed: u64,
    pub strength: f64,
}

/// Figures of a guide's effect.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Guided {
    pub strength: f64,
    /// Cosine of CLIP's embeddings of the picture and its guide.
    pub clip: f64,
    /// Distance in Lab by which colors must be moved to become the guide's colors, regardless of their place.
    pub palette: f64,
    /// Share of the prompt's objects that keep half of their unguided area or more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept: Option<f64>,
}

/// Distance of two pictures' palettes in Lab: [`sliced`] of both at 64 × 64 cells.
pub fn palette(a: &Picture, b: &Picture) -> f64 {
    sliced(&small(a), &small(b))
}

/// Mean color of each cell of the grid, averaged in linear light.
fn small(picture: &Picture) -> Vec<Lab> {
    let (h, w) = picture.dim();
    let cell = |i: usize, side: usize| {
        let from = i * side / GRID;
        from..((i + 1) * side / GRID).max(from + 1)
    };
    let mean = |i: usize| {
        let (rows, columns) = (cell(i / GRID, h), cell(i % GRID, w));
        let (mut sum, count) = ([0.0; 3], (rows.len() * columns.len()) as f64);
        for at in rows.flat_map(|y| columns.clone().map(move |x| (y, x))) {
            let light = light(picture[at]);
            (0..3).for_each(|channel| sum[channel] += light[channel]);
        }
        Lab::from_linear(sum.map(|sum| sum / count))
    };
    (0..GRID * GRID).map(mean).collect()
}

/// Share of the classes in the unguided picture that keep half of their area or more in the guided one. `None` if the
/// unguided picture has none of the classes.
pub fn kept(unguided: &Labels, guided: &Labels, classes: &[u8]) -> Option<f64> {
    let there: Vec<u8> = classes.iter().copied().filter(|class| is_there(unguided, *class)).collect();
    let stays = |class: &&u8| 2 * area(&of_class(guided, **class)) >= area(&of_class(unguided, **class));
    (!there.is_empty()).then(|| there.iter().filter(stays).count() as f64 / there.len() as f64)
}

/// Returns true if the prompt names a phrase, alone or at the end of a tag.
pub fn names(prompt: &str, phrase: &str) -> bool {
    let ends = |tag: &str| tag.strip_suffix(phrase).is_some_and(|rest| rest.is_empty() || rest.ends_with(' '));
    prompt.split(", ").any(ends)
}
