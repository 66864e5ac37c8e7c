//! The pictures of a report as they are shown: equal neighbors become one frame.

use impasto::guidance::{Picture, Report};
use impasto::{Raster, Result};

/// A picture and the last step at which it was unchanged.
pub struct Frame<'a> {
    pub picture: &'a Picture,
    /// The picture as [`Picture::raster`] draws it.
    pub raster: Raster,
    last: Option<usize>,
}

impl Frame<'_> {
    /// Returns the caption with the frame's steps, counted from 1.
    pub fn caption(&self) -> String {
        let caption = &self.picture.caption;
        match (self.picture.step, self.last) {
            (Some(first), Some(last)) if last > first => format!("steps {} to {}: {caption}", first + 1, last + 1),
            (Some(step), _) => format!("step {}: {caption}", step + 1),
            (None, _) => caption.clone(),
        }
    }
}

/// Returns the pictures of the images that `wanted` accepts; equal neighbors become one frame.
pub fn frames(report: &Report, wanted: impl Fn(Option<usize>) -> bool) -> Result<Vec<Frame<'_>>> {
    let mut frames: Vec<Frame<'_>> = Vec::new();
    for picture in report.pictures.iter().filter(|picture| wanted(picture.image)) {
        let raster = picture.raster()?;
        let about = |one: &Picture| (one.image, one.caption.clone(), one.is_map());
        match frames.last_mut() {
            Some(before)
                if picture.step.is_some() && about(before.picture) == about(picture) && before.raster == raster =>
            {
                before.last = picture.step;
            }
            _ => frames.push(Frame { picture, raster, last: None }),
        }
    }
    Ok(frames)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Tensor;

    #[test]
    fn equal_neighbors_are_shown_once() -> Result<()> {
        let map = |value: f32| Tensor::from_slice(&[value]).reshape([1, 1]);
        let mut report = Report::new("x");
        for (step, value) in [1.0, 1.0, 1.0, 0.0, 1.0].into_iter().enumerate() {
            report.pictures.push(Picture::map("mask", &map(value)).image(0).step(step));
        }
        report.pictures.push(Picture::map("whole", &map(1.0)));
        let captions = |image| -> Result<Vec<String>> {
            Ok(frames(&report, |one| one == image)?.iter().map(Frame::caption).collect())
        };
        assert_eq!(captions(Some(0))?, ["steps 1 to 3: mask", "step 4: mask", "step 5: mask"]);
        assert_eq!(captions(None)?, ["whole"]);
        Ok(())
    }
}
