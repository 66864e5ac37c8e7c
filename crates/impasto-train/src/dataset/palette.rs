//! Colors with names.

use super::dice::Dice;
use impasto::{Lab, Rgb};
use palette::{Hsv, IntoColor, Srgb};
use serde::Serialize;
use std::sync::LazyLock;

/// A color and the name nearest to the color.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct NamedColor {
    /// The color as it is drawn.
    pub rgb: Rgb,
    /// One of the names in [`PALETTE`].
    pub name: &'static str,
}

/// The 24 color names of captions, each with its central color.
pub const PALETTE: [NamedColor; 24] = [
    named("black", 25, 25, 30),
    named("white", 245, 245, 245),
    named("gray", 128, 128, 128),
    named("red", 215, 20, 35),
    named("tomato", 255, 99, 71),
    named("orange", 255, 140, 0),
    named("gold", 255, 215, 0),
    named("yellow", 250, 250, 90),
    named("lime", 150, 230, 40),
    named("green", 30, 140, 50),
    named("olive", 120, 125, 30),
    named("teal", 0, 128, 128),
    named("cyan", 30, 220, 230),
    named("azure", 110, 185, 250),
    named("blue", 35, 90, 230),
    named("navy", 0, 0, 139),
    named("purple", 125, 30, 150),
    named("lavender", 190, 155, 240),
    named("magenta", 230, 30, 210),
    named("pink", 255, 105, 180),
    named("brown", 125, 72, 30),
    named("tan", 215, 175, 130),
    named("pale", 252, 228, 208),
    named("maroon", 110, 10, 35),
];

/// Other spellings of palette names, which captions sometimes use.
pub const ALIASES: [(&str, &str); 4] =
    [("navy", "dark blue"), ("azure", "light blue"), ("pink", "hot pink"), ("gold", "golden")];

/// Standard deviation of a channel around the palette color, in 0..=255.
const JITTER: f64 = 9.0;

const fn named(name: &'static str, red: u8, green: u8, blue: u8) -> NamedColor {
    NamedColor { rgb: Rgb(red, green, blue), name }
}

impl NamedColor {
    /// Returns `rgb` with the name of the nearest palette color, by Euclidean distance in CIELAB.
    pub fn nearest(rgb: Rgb) -> Self {
        static LABS: LazyLock<[(Lab, &'static str); 24]> =
            LazyLock::new(|| PALETTE.map(|color| (color.rgb.lab(), color.name)));
        let lab = rgb.lab();
        let distance = |other: Lab| (lab.l - other.l).powi(2) + (lab.a - other.a).powi(2) + (lab.b - other.b).powi(2);
        let nearest = LABS.iter().min_by(|(a, _), (b, _)| distance(*a).total_cmp(&distance(*b)));
        Self { rgb, name: nearest.map_or("gray", |(_, name)| name) }
    }
}

/// Returns any color: three times of four a slightly changed palette color, otherwise any hue.
pub(super) fn pick_color(dice: &mut Dice) -> NamedColor {
    if dice.chance(0.25) {
        // Exponents of 0.6 and 0.7, below 1, make vivid and light colors likelier than gray and dark ones.
        let (hue, saturation, value) = (360.0 * dice.unit(), dice.unit().powf(0.6), 0.1 + 0.9 * dice.unit().powf(0.7));
        let free: Srgb<f64> = Hsv::new(hue, saturation, value).into_color();
        let [red, green, blue] = [free.red, free.green, free.blue].map(|channel| (255.0 * channel) as u8);
        return NamedColor::nearest(Rgb(red, green, blue));
    }
    let Rgb(red, green, blue) = dice.pick(PALETTE).rgb;
    jittered(dice, Rgb(red, green, blue))
}

/// Returns a slightly changed palette color with one of these names.
pub(super) fn pick_of<const N: usize>(dice: &mut Dice, names: [&str; N]) -> NamedColor {
    let name = dice.pick(names);
    let base = PALETTE.iter().find(|color| color.name == name).map_or(Rgb(128, 128, 128), |color| color.rgb);
    jittered(dice, base)
}

/// Draws with `pick` until the color differs from all of `others` by a CIEDE2000 of `least`. After twelve draws,
/// returns the color that differs most.
pub(super) fn pick_apart(others: &[Rgb], least: f64, mut pick: impl FnMut() -> NamedColor) -> NamedColor {
    let apart = |color: Rgb| others.iter().map(|other| color.delta_e(*other)).fold(f64::INFINITY, f64::min);
    let mut best = pick();
    for _ in 1..12 {
        if apart(best.rgb) >= least {
            break;
        }
        let next = pick();
        if apart(next.rgb) > apart(best.rgb) {
            best = next;
        }
    }
    best
}

fn jittered(dice: &mut Dice, base: Rgb) -> NamedColor {
    let mut near = |channel: u8| (f64::from(channel) + dice.bell(JITTER)).clamp(0.0, 255.0) as u8;
    NamedColor::nearest(Rgb(near(base.0), near(base.1), near(base.2)))
}

/// Mixes colors: `amount` of the way to `other`, 0..=1, in sRGB as painters mix.
pub(super) fn mixed(color: Rgb, other: Rgb, amount: f32) -> Rgb {
    let mix = |from: u8, to: u8| (f32::from(from) + (f32::from(to) - f32::from(from)) * amount + 0.5) as u8;
    Rgb(mix(color.0, other.0), mix(color.1, other.1), mix(color.2, other.2))
}

/// Returns true if a color is so dark that a darker color would not be visible on it.
pub(super) fn is_dark(color: Rgb) -> bool {
    color.lab().l < 22.0
}

/// Returns the color of an edge around a color: the same hue, darker by `amount`, or lighter for a dark color.
pub(super) fn edge(color: Rgb, amount: f32) -> Rgb {
    if is_dark(color) { mixed(color, Rgb(255, 255, 255), 0.45 * amount) } else { mixed(color, Rgb(18, 8, 24), amount) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn palette_colors_are_nearest_to_their_own_names() {
        for color in PALETTE {
            assert_eq!(NamedColor::nearest(color.rgb), color);
        }
    }

    #[test]
    fn three_of_four_colors_are_near_the_palette() {
        let mut dice = Dice::seeded(3);
        let near = |color: NamedColor| {
            PALETTE.iter().any(|base| {
                let gap = |a: u8, b: u8| a.abs_diff(b);
                let (a, b) = (color.rgb, base.rgb);
                gap(a.0, b.0).max(gap(a.1, b.1)).max(gap(a.2, b.2)) < 30
            })
        };
        let share = (0..2000).filter(|_| near(pick_color(&mut dice))).count() as f64 / 2000.0;
        assert!((0.74..0.88).contains(&share), "{share}");
    }

    #[test]
    fn color_picked_apart_differs_from_others() {
        let mut dice = Dice::seeded(5);
        let sky = Rgb(110, 185, 250);
        assert!((0..100).all(|_| pick_apart(&[sky], 20.0, || pick_color(&mut dice)).rgb.delta_e(sky) >= 20.0));
    }
}
