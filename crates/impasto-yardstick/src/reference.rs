//! Pictures in the colors of a reference: how near each part comes to the reference's part, and how much of the layout
//! stays.

use crate::acceptance::dominant;
use crate::failure::Failure;
use crate::judge::class;
use crate::picture::raster;
use crate::picture::{Picture, lab, unit};
use crate::regions::{Labels, core, of_class};
use impasto::hint::{Canny, Drawing, Strokes};
use impasto_train::Adherence;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Figures of how a picture took the colors of a reference.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Colored {
    /// CIEDE2000 between the dominant colors of each part that both pictures show.
    pub parts: BTreeMap<String, f64>,
    /// F1 of the picture's edges against those of the unforced picture, within a pixel.
    pub edge_f1: f64,
}

/// The edges of a picture, without colors.
pub fn lines(picture: &Picture) -> Result<Drawing, Failure> {
    let picture = raster(picture)?;
    Ok(Drawing { sketch: Canny::default().edges(&picture)?, strokes: Strokes::new(picture.size()) })
}

/// Compares a picture with its reference, and its edges with those of the unforced picture.
pub fn colored(
    reference: (&Picture, &Labels),
    picture: (&Picture, &Labels),
    unforced: &Picture,
    phrases: &[String],
) -> Result<Colored, Failure> {
    let color = |(picture, labels): (&Picture, &Labels), phrase: &str| {
        let (radius, inside) = core(&of_class(labels, class(phrase, phrases)), unit(picture.dim()));
        (radius >= 1).then(|| dominant(&picture.mapv(lab), &inside))?
    };
    let both = |phrase: &String| Some((phrase.clone(), color(reference, phrase)?.delta_e(color(picture, phrase)?)));
    let edge_f1 = Adherence::measure(&raster(unforced)?, &lines(unforced)?, &raster(picture.0)?)?.edge_f1;
    Ok(Colored { parts: phrases.iter().filter_map(both).collect(), edge_f1 })
}
