//! Checks of a [`Job`] before a model is loaded.

use super::{Guider, Job};
use crate::diffusion::solver;
use crate::error::{Error, Result};
use crate::sampler::MaskedContent;
use std::fmt::Display;
use std::ops::RangeInclusive;

impl Job {
    /// Checks what can be checked without the model: that numbers are in their ranges, that the sampler is known, and
    /// that each setting has the other one that it needs, such as areas their map. A program calls this on each of many
    /// jobs before it paints the first one. [`request`](Self::request) calls it too.
    ///
    /// # Errors
    /// [`Error::Parameter`] and [`Error::GivenAlone`] with the name of the field; [`Error::UnknownSolver`].
    pub fn check(&self) -> Result<()> {
        self.check_ranges()?;
        Guider::check(&self.guiders)?;
        if !self.palette.is_empty() && self.palette_of.is_some() {
            return Err(Error::parameter("palette", "given beside a picture of a palette", "one of both"));
        }
        self.check_companions()
    }

    /// Checks each number.
    fn check_ranges(&self) -> Result<()> {
        let config = &self.config;
        range("images", Some(config.images), 1..=usize::MAX, "1 or more")?;
        range("best_of", Some(config.best_of), 1..=1024, "1 to 1024; 4 to 16 is usual")?;
        range("steps", config.steps, 1..=1000, "1 to 1000; 20 to 50 is usual")?;
        range("guidance_scale", config.guidance_scale, 0.0..=f64::MAX, "0 or more; 7.5 is usual")?;
        range("tolerance", self.tolerance, 0.0..=100.0, "0 to 100; 30 also accepts smooth edges")?;
        let least = if config.details.is_empty() { f64::MIN_POSITIVE } else { 0.0 };
        let strength = self.strength.map(|strength| strength.share());
        range("strength", strength, least..=1.0, "more than 0, up to 1; 0.5 to 0.8 is usual")?;
        let grow = config.mask_where.as_ref().map(|thing| thing.grow);
        for (name, pixels) in [("grow", grow), ("soften", config.soften), ("feather", config.feather)] {
            range(name, pixels, 0.0..=4096.0, "0 to 4096 pixels; 8 is usual")?;
        }
        let like = "-10 to 10; 0.5 to 0.8 leaves room for the text";
        range("ip_adapter_strength", self.ip_adapter_strength, -10.0..=10.0, like)?;
        let step = if self.start.is_some() { 1 } else { 8 };
        for (side, name) in config.size.iter().flat_map(|size| [(size.width, "width"), (size.height, "height")]) {
            if side % step != 0 || !(step..=4096).contains(&side) {
                return Err(Error::parameter(name, side, "a multiple of 8 from 8 to 4096, such as 512x768"));
            }
        }
        config.solver_named.as_deref().map_or(Ok(()), |name| solver::by_name(name).map(drop))
    }

    /// Checks that each setting has the other one that it needs.
    fn check_companions(&self) -> Result<()> {
        let config = &self.config;
        let colored = self.areas.iter().any(|area| area.color.is_some());
        let has_borders = self.mask.is_some() || config.mask_where.is_some() || !config.details.is_empty();
        let (map, start) = (self.map.is_some(), self.start.is_some());
        let needs = [
            ("map", map, "areas", colored),
            ("areas", colored, "map", map),
            ("tolerance", self.tolerance.is_some(), "map", map),
            ("strength", self.strength.is_some(), "start", start),
            ("mask", self.mask.is_some(), "start", start),
            ("mask_where", config.mask_where.is_some(), "start", start),
            ("keep_colors", config.keep_colors, "start", start),
            ("soften", config.soften.is_some(), "mask, mask_where or details", has_borders),
            ("feather", config.feather.is_some(), "mask, mask_where or details", has_borders),
            (
                "masked_content",
                config.masked_content != MaskedContent::Picture,
                "mask, mask_where or details",
                has_borders,
            ),
            (
                "ip_adapter_strength",
                self.ip_adapter_strength.is_some(),
                "ip_adapter_pictures",
                !self.ip_adapter_pictures.is_empty(),
            ),
            ("exact_strokes", self.exact_strokes, "strokes", self.strokes.is_some()),
        ];
        if let Some((name, _, needed, _)) = needs.into_iter().find(|(_, given, _, there)| *given && !there) {
            return Err(Error::GivenAlone { name, needed });
        }
        let placed = |area: &super::Area| area.color.is_some() != area.mask.is_some();
        if let Some(area) = self.areas.iter().find(|area| !placed(area)) {
            let expected = "either a color of the map or a mask";
            return Err(Error::parameter("areas", format_args!("given {:?} without one place", area.phrase), expected));
        }
        if self.ip_adapter_pictures.iter().any(|like| like.phrase.is_some() && like.mask.is_some()) {
            let expected = "a phrase, a mask, or neither for each picture";
            return Err(Error::parameter("ip_adapter_pictures", "given with a phrase and a mask", expected));
        }
        Ok(())
    }
}

/// Checks that a value is in its range, which `expected` describes.
fn range<N: Display + PartialOrd>(
    name: &'static str,
    value: Option<N>,
    range: RangeInclusive<N>,
    expected: &'static str,
) -> Result<()> {
    match value {
        Some(value) if !range.contains(&value) => Err(Error::parameter(name, value, expected)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unfit_settings_are_named() {
        let refused = |json: &str| {
            let job: Job = serde_json::from_str(json).expect("a job");
            job.check().expect_err("refused").to_string()
        };
        assert!(refused(r#"{"areas": ["red=a"]}"#).starts_with("areas is given without map; give both"));
        assert!(refused(r#"{"map": "a.png"}"#).starts_with("map is given without areas"));
        assert!(refused(r#"{"mask": "m.png"}"#).starts_with("mask is given without start"));
        assert!(refused(r#"{"tolerance": 9}"#).starts_with("tolerance is given without map"));
        assert!(refused(r#"{"feather": 9}"#).starts_with("feather is given without mask, mask_where or details"));
        assert!(refused(r#"{"areas": [{"phrase": "a"}]}"#).contains("either a color of the map or a mask"));
        assert!(
            refused(r#"{"ip_adapter_strength": 1}"#).starts_with("ip_adapter_strength is given without ip_adapter")
        );
        let like = r#"{"ip_adapter_pictures": ["a.png"], "ip_adapter_strength": 11}"#;
        assert!(refused(like).starts_with("ip_adapter_strength is 11; expected -10 to 10"));
        let like = r#"{"ip_adapter_pictures": [{"picture": "a.png", "phrase": "hair", "mask": "m.png"}]}"#;
        assert!(refused(like).contains("a phrase, a mask, or neither"));
        assert!(refused(r#"{"images": 0}"#).contains("images is 0; expected 1 or more"));
        assert!(refused(r#"{"steps": 1001}"#).contains("steps is 1001; expected 1 to 1000"));
        assert!(refused(r#"{"guidance_scale": -1}"#).contains("guidance_scale is -1; expected 0 or more"));
        assert!(refused(r#"{"size": "65x64"}"#).contains("width is 65"));
        assert!(refused(r#"{"start": "a.png", "strength": 0}"#).contains("strength is 0"));
        assert!(refused(r#"{"sampler": "Eulr"}"#).contains("did you mean \"Euler"));
        assert!(refused(r#"{"guiders": ["apg", "fdg"]}"#).contains("apg and fdg"));
        assert!(refused(r#"{"palette": ["red"], "palette_of": "a.png"}"#).starts_with("palette is given beside"));
        let free: Job = serde_json::from_str(r#"{"start": "a.png", "size": "65x64"}"#).expect("a job");
        assert!(free.check().is_ok());
    }
}
