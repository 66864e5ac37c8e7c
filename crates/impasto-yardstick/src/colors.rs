//! The colors that a suite asks for: by name and by number, public and held out.

use crate::random::{Rng, on_side};
use crate::task::LABEL;
use crate::values::repeated;
use impasto::Rgb;
use std::str::FromStr;

/// The color words of the embedded model's captions, each with its central color.
pub const PALETTE: [(&str, Rgb); 24] = [
    ("black", Rgb(25, 25, 30)),
    ("white", Rgb(245, 245, 245)),
    ("gray", Rgb(128, 128, 128)),
    ("red", Rgb(215, 20, 35)),
    ("tomato", Rgb(255, 99, 71)),
    ("orange", Rgb(255, 140, 0)),
    ("gold", Rgb(255, 215, 0)),
    ("yellow", Rgb(250, 250, 90)),
    ("lime", Rgb(150, 230, 40)),
    ("green", Rgb(30, 140, 50)),
    ("olive", Rgb(120, 125, 30)),
    ("teal", Rgb(0, 128, 128)),
    ("cyan", Rgb(30, 220, 230)),
    ("azure", Rgb(110, 185, 250)),
    ("blue", Rgb(35, 90, 230)),
    ("navy", Rgb(0, 0, 139)),
    ("purple", Rgb(125, 30, 150)),
    ("lavender", Rgb(190, 155, 240)),
    ("magenta", Rgb(230, 30, 210)),
    ("pink", Rgb(255, 105, 180)),
    ("brown", Rgb(125, 72, 30)),
    ("tan", Rgb(215, 175, 130)),
    ("pale", Rgb(252, 228, 208)),
    ("maroon", Rgb(110, 10, 35)),
];

/// The named colors of the public split.
const PUBLIC: [(&str, Rgb); 8] = [
    ("gold", Rgb(255, 215, 0)),
    ("hotpink", Rgb(255, 105, 180)),
    ("tomato", Rgb(255, 99, 71)),
    ("darkblue", Rgb(0, 0, 139)),
    ("teal", Rgb(0, 128, 128)),
    ("darkorange", Rgb(255, 140, 0)),
    ("gray", Rgb(128, 128, 128)),
    ("mediumseagreen", Rgb(60, 179, 113)),
];

/// A color that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Color {
    pub rgb: Rgb,
    /// CSS name of the color; `None` for a color by number.
    pub name: Option<String>,
}

impl FromStr for Color {
    type Err = impasto::Error;

    fn from_str(text: &str) -> impasto::Result<Self> {
        Ok(Self { rgb: text.parse()?, name: (!text.starts_with('#')).then(|| text.to_owned()) })
    }
}

/// A choice of colors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Colors {
    /// All sixteen colors of a suite.
    All,
    /// Colors that the user lists.
    Listed(Vec<Color>),
}

impl FromStr for Colors {
    type Err = String;

    /// Reads `all`, or names and numbers with commas between them.
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "all" {
            return Ok(Self::All);
        }
        let colors = text.split(',').map(|color| color.trim().parse()).collect::<impasto::Result<Vec<Color>>>();
        let colors = colors.map_err(|error| error.to_string())?;
        match repeated(&colors) {
            Some(color) => Err(format!(
                "{} is named twice; name each color once",
                color.name.clone().unwrap_or(color.rgb.to_string())
            )),
            None => Ok(Self::Listed(colors)),
        }
    }
}

/// Bands of the colors by number: range of L*, range of C*, and true if a channel is at its lowest or highest value.
const BANDS: [(f64, f64, f64, f64, bool); 8] = [
    (20.0, 45.0, 50.0, 999.0, false),
    (45.0, 70.0, 50.0, 999.0, false),
    (70.0, 95.0, 50.0, 999.0, false),
    (20.0, 45.0, 25.0, 50.0, false),
    (45.0, 70.0, 25.0, 50.0, false),
    (70.0, 95.0, 25.0, 50.0, false),
    (45.0, 80.0, 0.0, 25.0, false),
    (20.0, 95.0, 50.0, 999.0, true),
];

/// Returns true if a channel is so near to its lowest or highest value that texture pulls the mean inward.
pub fn is_corner(Rgb(r, g, b): Rgb) -> bool {
    r.min(g).min(b) <= 8 || r.max(g).max(b) >= 247
}

/// Chooses `n` colors without names, one of each band in turn.
pub fn numeric(split: &str, suite: u64, n: usize) -> Vec<Rgb> {
    let mut rng = Rng::new(&format!("{LABEL}/{split}/{suite}/colours"));
    let fixed = if split == "public" { &[][..] } else { &PUBLIC };
    let mut colors: Vec<Rgb> = Vec::with_capacity(n);
    while colors.len() < n {
        let (l0, l1, c0, c1, corner) = BANDS[colors.len() % 8];
        let mut channel = || rng.below(256) as u8;
        let color = Rgb(channel(), channel(), channel());
        let Rgb(r, g, b) = color;
        let lab = color.lab();
        let fits = (l0..l1).contains(&lab.l) && (c0..c1).contains(&lab.a.hypot(lab.b));
        let interior = r.min(g).min(b) >= 24 && r.max(g).max(b) <= 231;
        let in_place = if corner { is_corner(color) } else { interior };
        let sum = u64::from(r) + u64::from(g) + u64::from(b);
        if fits
            && in_place
            && on_side(split, sum)
            && colors.iter().all(|other| color.delta_e(*other) >= 12.0)
            && fixed.iter().all(|(_, other)| color.delta_e(*other) >= 5.0)
        {
            colors.push(color);
        }
    }
    colors
}

/// Chooses eight CSS keywords: the public ones, or others whose colors differ from these and from each other.
pub fn named(split: &str, suite: u64) -> Vec<(String, Rgb)> {
    if split == "public" {
        return PUBLIC.map(|(name, color)| (name.to_owned(), color)).to_vec();
    }
    let mut all: Vec<(&str, Rgb)> =
        palette::named::entries().map(|(name, color)| (name, Rgb(color.red, color.green, color.blue))).collect();
    all.sort_unstable_by_key(|(name, _)| *name);
    let mut keywords: Vec<(&str, Rgb)> = Vec::new();
    for (name, color) in all {
        if keywords.iter().all(|(_, known)| *known != color) {
            keywords.push((name, color));
        }
    }
    Rng::new(&format!("{LABEL}/{split}/{suite}/named")).shuffle(&mut keywords);
    let mut chosen: Vec<(String, Rgb)> = Vec::new();
    for (name, color) in keywords {
        let new = PUBLIC.iter().all(|(_, other)| color.delta_e(*other) >= 5.0);
        if chosen.len() < 8 && new && chosen.iter().all(|(_, other)| color.delta_e(*other) >= 12.0) {
            chosen.push((name.to_owned(), color));
        }
    }
    chosen
}

/// Returns the palette's name nearest to a color, by Euclidean distance in CIELAB, as in the captions.
pub fn nearest_name(color: impasto::Lab) -> &'static str {
    let distance = |other: Rgb| {
        let other = other.lab();
        (color.l - other.l).powi(2) + (color.a - other.a).powi(2) + (color.b - other.b).powi(2)
    };
    let nearest = PALETTE.iter().min_by(|a, b| distance(a.1).total_cmp(&distance(b.1)));
    nearest.map_or("gray", |(name, _)| name)
}
