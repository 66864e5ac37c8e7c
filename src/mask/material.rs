//! The material of an object: its own color, in any shade.

use super::histogram::{Histogram, is_around, middle};
use crate::color::Lab;

/// Distance in CIELAB by which a shade's chroma may differ from its material's.
const CHROMA: f64 = 14.0;
/// Share of its light, in L\* + 16, that a material may lose to shade. Lines are darker.
const SHADE: f64 = 0.3;
/// Lightness that a material may gain in light.
const LIGHT: f64 = 20.0;
/// Lightness that a dark gray material may gain in light. Black hair has a sheen.
const SHEEN: f64 = 40.0;
/// Least share of a material's chroma that a lighter shade has. Highlights take the color of the light.
const PALE: f64 = 0.5;
/// Chroma below which a material has no hue.
const GRAY: f64 = 15.0;
/// Lightness of a material that may be a line. Lines are dark, and their own material is no darker.
const DARK: f64 = 30.0;
/// Lightness of a material that may be a highlight.
const BRIGHT: f64 = 85.0;
/// Least share of a dark material's score that a lighter material must have to be preferred.
const PREFERRED: f64 = 0.4;

/// A material, by its color in full light.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Material(pub Lab);

/// A pixel's color with its bin of a histogram and a weight.
#[derive(Clone, Copy)]
pub(super) struct Seen {
    pub color: Lab,
    pub bin: usize,
    /// Weight of the pixel, smaller at edges.
    pub weight: f64,
}

impl Material {
    /// Finds the material of an object: the color that many of the object's pixels have and few of its surroundings,
    /// whose counts are `outside`. A dark color that a lighter color can replace is the color of lines. `None` for an
    /// object without pixels.
    pub(super) fn of(own: &[Seen], outside: &Histogram) -> Option<Self> {
        let inside = Histogram::of(own.iter().map(|seen| (seen.bin, seen.weight))).spread();
        // Pixels of a color times the share of the pixels around in that color that the object has.
        let score = |(bin, mine): (usize, f64)| (mine > 0.0).then(|| (mine * mine / (mine + outside.at(bin)), bin));
        let mut scores: Vec<(f64, usize)> = inside.bins().filter_map(score).collect();
        scores.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let mut best: Option<(f64, Self)> = None;
        let mut tried: Vec<Lab> = Vec::new();
        for (score, bin) in scores {
            let color = middle(bin);
            if tried.iter().any(|other| is_near(other, &color)) {
                continue;
            }
            tried.push(color);
            let Some(material) = Self::around(own, bin) else { continue };
            match best {
                None => best = Some((score, material)),
                Some((most, dark)) if score >= PREFERRED * most => {
                    if dark.0.l < DARK && material.0.l > dark.0.l + 8.0 && material.0.l < BRIGHT {
                        return Some(material);
                    }
                }
                Some(_) => break,
            }
        }
        best.map(|(_, material)| material)
    }

    /// Returns the mean of the colors around a bin.
    fn around(own: &[Seen], bin: usize) -> Option<Self> {
        let near = own.iter().filter(|seen| is_around(&seen.color, bin));
        let (sum, all) = near.fold(([0.0; 3], 0.0), |([l, a, b], all), Seen { color, weight, .. }| {
            ([l + weight * color.l, a + weight * color.a, b + weight * color.b], all + weight)
        });
        let [l, a, b] = sum.map(|sum: f64| sum / all);
        (all > 0.0).then_some(Self(Lab { l, a, b }))
    }

    /// Returns the distance of a color from the shades of the material: up to 1 for a shade of the material.
    ///
    /// A darker shade has the material's chroma in proportion to its light, or up to the whole chroma. A lighter shade
    /// is as colorful as the material or paler: what is lighter and more colorful, such as a mouth, is another thing.
    pub(crate) fn distance(&self, color: &Lab) -> f64 {
        let Self(Lab { l, a, b }) = *self;
        let (light, gain) = (self.light(color), color.l - l);
        let along = (color.a * a + color.b * b) / (a * a + b * b).max(1e-9);
        let along = if gain < 0.0 { along.clamp(light.min(1.0), 1.0) } else { along.clamp(PALE, 1.0) };
        let chroma = (color.a - a * along).hypot(color.b - b * along) / CHROMA;
        let most = if self.is_dark() && self.is_gray() { SHEEN } else { LIGHT };
        chroma.max(if gain < 0.0 { (1.0 - light) / SHADE } else { gain / most })
    }

    /// Returns the signed distance of a color's chroma from the line of the material's hue, in CIELAB; 0 for a material
    /// without a hue.
    pub(super) fn hue_across(&self, color: &Lab) -> f64 {
        let Self(Lab { a, b, .. }) = *self;
        let chroma = a.hypot(b);
        if self.is_gray() { 0.0 } else { (color.a * b - color.b * a) / chroma }
    }

    /// Returns true if the material has no hue.
    pub(super) fn is_gray(&self) -> bool {
        self.0.a.hypot(self.0.b) < GRAY
    }

    /// Returns the light that falls on a color, as a share of the light on the material: a ratio of L\* + 16.
    pub(crate) fn light(&self, color: &Lab) -> f64 {
        (color.l + 16.0) / (self.0.l + 16.0)
    }

    pub(super) fn has(&self, color: &Lab) -> bool {
        self.distance(color) <= 1.0
    }

    /// Returns true if the material is as dark as lines.
    pub(super) fn is_dark(&self) -> bool {
        self.0.l < DARK
    }
}

/// Returns true if two middles of bins have bins in common around them.
fn is_near(a: &Lab, b: &Lab) -> bool {
    [a.l - b.l, a.a - b.a, a.b - b.b].iter().all(|apart| apart.abs() <= 18.5)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::color::Rgb;

    const SKIN: Rgb = Rgb(240, 190, 160);

    fn is_shade(material: Rgb, color: Rgb) -> bool {
        Material(material.lab()).has(&color.lab())
    }

    #[test]
    fn shades_and_highlights_are_of_the_material() {
        assert!(is_shade(SKIN, Rgb(200, 155, 130)), "shade");
        assert!(is_shade(SKIN, Rgb(250, 225, 210)), "light");
        assert!(is_shade(Rgb(20, 60, 160), Rgb(12, 40, 120)), "shade of a dark color");
        assert!(is_shade(Rgb(15, 12, 14), Rgb(80, 78, 84)), "sheen of black hair");
        assert!(!is_shade(Rgb(15, 12, 14), Rgb(255, 255, 255)), "a highlight in a black eye");
        assert!(!is_shade(Rgb(60, 20, 20), Rgb(170, 60, 60)), "a mouth in dark red skin");
    }

    #[test]
    fn lines_and_other_things_are_not_of_the_material() {
        assert!(!is_shade(SKIN, Rgb(90, 60, 50)), "a line in the skin's own hue");
        assert!(!is_shade(SKIN, Rgb(225, 110, 100)), "a mouth");
        assert!(!is_shade(Rgb(180, 60, 50), Rgb(255, 70, 60)), "a mouth on red skin, lighter and more colorful");
        assert!(!is_shade(Rgb(40, 80, 180), Rgb(255, 255, 255)), "a highlight in an eye");
    }

    #[test]
    fn color_that_the_surroundings_lack_is_the_material() {
        let seen = |color: Rgb| {
            let color = color.lab();
            Seen { color, bin: super::super::histogram::bin(&color), weight: 1.0 }
        };
        // Most of the place is skin, which the surroundings have too.
        let iris = Rgb(30, 90, 200);
        let own: Vec<Seen> = [seen(SKIN); 60].into_iter().chain([seen(iris); 40]).collect();
        let outside = Histogram::of([seen(SKIN); 500].iter().map(|seen| (seen.bin, seen.weight))).spread();
        let Some(Material(found)) = Material::of(&own, &outside) else { panic!("no material") };
        assert!(found.delta_e(iris.lab()) < 1.0, "{found:?}");
        assert_eq!(Material::of(&[], &outside), None);
    }
}
