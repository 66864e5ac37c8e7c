//! Portraits: heads with shoulders.

use super::canvas::{Canvas, Look, SIDE};
use super::class::Class;
use super::dice::Dice;
use super::face::{self, Face};
use super::hair::Hair;
use super::palette::{NamedColor, is_dark, mixed, pick_apart, pick_color, pick_of};
use super::record::{HairStyle, Part, Record, Who};
use super::shape::{At, Shape, around, turned};
use super::style::Style;
use impasto::Result;
use impasto::Rgb;
use tiny_skia::Transform;

/// The colors of a portrait's parts.
struct Colors {
    background: NamedColor,
    skin: NamedColor,
    hair: NamedColor,
    eyes: NamedColor,
    bow: NamedColor,
    shirt: NamedColor,
    mouth: NamedColor,
}

impl Colors {
    /// Returns random colors that differ between neighboring parts.
    fn any(dice: &mut Dice) -> Self {
        let background = pick_color(dice);
        let natural = dice.chance(0.6);
        let skin = pick_apart(&[background.rgb], 8.0, || match natural {
            true => pick_of(dice, ["pale", "pale", "pale", "tan", "tan", "brown"]),
            false => pick_color(dice),
        });
        let hair = pick_apart(&[background.rgb, skin.rgb], 10.0, || pick_color(dice));
        let eyes = pick_apart(&[skin.rgb, Rgb(250, 250, 250)], 8.0, || pick_color(dice));
        let bow = pick_apart(&[hair.rgb, background.rgb], 14.0, || pick_color(dice));
        let shirt = pick_apart(&[background.rgb, skin.rgb], 8.0, || pick_color(dice));
        let mouth = pick_apart(&[skin.rgb], 18.0, || pick_of(dice, ["red", "pink", "maroon", "tomato"]));
        Self { background, skin, hair, eyes, bow, shirt, mouth }
    }

    /// Returns the colors of the portrait `like`, and these colors for parts that `like` lacks.
    fn of(self, like: &Record) -> Self {
        let of = |class, own| like.color_of(class).unwrap_or(own);
        Self {
            background: of(Class::Background, self.background),
            skin: of(Class::Skin, self.skin),
            hair: of(Class::Hair, self.hair),
            eyes: of(Class::Eyes, self.eyes),
            bow: of(Class::HairBow, self.bow),
            shirt: of(Class::Shirt, self.shirt),
            mouth: of(Class::Mouth, self.mouth),
        }
    }

    fn parts(&self, bow: bool) -> Vec<Part> {
        let of = |class| match class {
            Class::Eyes => self.eyes,
            Class::HairBow => self.bow,
            Class::Hair => self.hair,
            Class::Skin => self.skin,
            Class::Shirt => self.shirt,
            Class::Mouth => self.mouth,
            _ => self.background,
        };
        let shown = Class::OF_PORTRAITS.into_iter().filter(|class| bow || *class != Class::HairBow);
        shown.map(|class| Part { class, color: of(class) }).collect()
    }
}

/// Draws a portrait of `size` pixels in both directions. The portrait `like`, if given, determines the parts and the
/// colors.
pub(super) fn draw(dice: &mut Dice, size: u32, in_style: Style, like: Option<&Record>) -> Result<(Canvas, Record)> {
    let colors = Colors::any(dice);
    let colors = match like {
        Some(like) => colors.of(like),
        None => colors,
    };
    let style = dice.pick(HairStyle::ALL);
    let boyish = matches!(style, HairStyle::Short | HairStyle::Spiky);
    let who = if boyish && dice.chance(0.5) { Who::Boy } else { Who::Girl };
    let bow = dice.chance(0.65);
    let bow = like.map_or(bow, |like| like.color_of(Class::HairBow).is_some());

    let mut canvas = Canvas::new(size, Look::any(dice, in_style), Class::Background, colors.background.rgb)?;
    backdrop(&mut canvas, dice, colors.background.rgb);

    let center = [dice.between(116.0, 140.0), dice.between(116.0, 127.0)];
    let half = dice.between(56.0, 67.0);
    let tilt = dice.bell(3.5) as f32;
    // The unit of this frame is half the face's width; its origin is the face's center.
    let head = turned(tilt, [center[0], center[1] + half]).pre_translate(center[0], center[1]).pre_scale(half, half);

    let face = Face::any(dice, who);
    let hair = Hair::any(dice, style, who, colors.hair.rgb);
    canvas.frame(head);
    hair.behind(&mut canvas, dice);
    canvas.frame(Transform::identity());
    body(&mut canvas, dice, center, half, &colors);
    canvas.frame(head);
    face.draw(
        &mut canvas,
        dice,
        &face::Colors { skin: colors.skin.rgb, eyes: colors.eyes.rgb, mouth: colors.mouth.rgb, hair: colors.hair.rgb },
        hair.covers_ears(),
    );
    hair.before(&mut canvas, dice);
    if bow {
        let lean = dice.pick([0.0, 0.0, -45.0, 45.0]) + dice.between(-12.0, 12.0);
        let [x, y] = around(center, [1.02 * half, 1.06 * half], lean - 90.0);
        let place = turned(tilt, [center[0], center[1] + half]).pre_translate(x, y - 0.1 * half);
        canvas.frame(place.pre_concat(turned(0.7 * lean, [0.0, 0.0])));
        tie(&mut canvas, dice, colors.bow.rgb);
    }
    canvas.frame(Transform::identity());
    Ok((canvas, Record::Portrait { who, style, parts: colors.parts(bow) }))
}

/// Draws a flat backdrop, or one with a faint pattern or darker corners. Patterns and corners cover less than half of
/// it.
fn backdrop(canvas: &mut Canvas, dice: &mut Dice, color: Rgb) {
    let toward = if is_dark(color) || (color.lab().l < 75.0 && dice.chance(0.5)) { 255 } else { 30 };
    let faint = mixed(color, Rgb(toward, toward, toward), dice.between(0.07, 0.14));
    match dice.unit() {
        ..0.1 => {
            let (period, slant) = (dice.between(34.0, 60.0), dice.pick([0.0, 0.0, 70.0, -70.0]));
            let mut x = dice.between(-100.0, -100.0 + period);
            while x < SIDE + 80.0 {
                let wide = 0.32 * period;
                let stripe = [[x, 0.0], [x + wide, 0.0], [x + wide + slant, SIDE], [x + slant, SIDE]];
                canvas.fill(&Shape::polygon(&stripe), faint);
                x += period;
            }
        }
        ..0.2 => {
            let (period, radius) = (dice.between(36.0, 54.0), dice.between(5.0, 11.0));
            let start = [dice.between(0.0, period), dice.between(0.0, period)];
            for row in 0..8u8 {
                let shift = if row % 2 == 0 { 0.0 } else { period / 2.0 };
                for column in 0..9u8 {
                    let x = start[0] - period + f32::from(column) * period + shift;
                    let y = start[1] - period + f32::from(row) * period * 0.86;
                    canvas.fill(&Shape::ellipse([x, y], [radius, radius]), faint);
                }
            }
        }
        ..0.4 => canvas.vignette(dice.between(146.0, 156.0), Rgb(20, 10, 40), dice.between(0.15, 0.3)),
        _ => {}
    }
}

/// Draws neck and shirt below a head.
fn body(canvas: &mut Canvas, dice: &mut Dice, [x, y]: At, half: f32, colors: &Colors) {
    let (skin, shirt) = (colors.skin.rgb, colors.shirt.rgb);
    let (wide, top) = (half * dice.between(1.15, 1.5), y + half * 1.16);
    let neck = Shape::rounded(
        &[
            [x - 0.27 * half, y + 0.6 * half],
            [x + 0.27 * half, y + 0.6 * half],
            [x + 0.28 * half, top - 6.0],
            [x + 0.62 * half, top + 6.0],
            [x + 0.3 * half, top + 44.0],
            [x - 0.3 * half, top + 44.0],
            [x - 0.62 * half, top + 6.0],
            [x - 0.28 * half, top - 6.0],
        ],
        6.0,
    );
    canvas.part(Class::Skin, skin, &[&neck]);
    let shadow = Shape::ellipse([x, y + 0.98 * half], [0.36 * half, 0.24 * half]);
    canvas.tint(&shadow, Rgb(60, 10, 40), 0.22);

    let (pointed, depth) = (dice.chance(0.4), dice.between(10.0, 28.0));
    let opening = half * dice.between(0.4, 0.5);
    let blouse = Shape::drawn([x - opening, top - 2.0], |pen| {
        pen.curve([x - wide * 0.7, top + 4.0], [x - wide, top + 6.0], [x - wide - 4.0, top + 34.0]);
        pen.line([x - wide - 12.0, SIDE + 12.0])
            .line([x + wide + 12.0, SIDE + 12.0])
            .line([x + wide + 4.0, top + 34.0]);
        pen.curve([x + wide, top + 6.0], [x + wide * 0.7, top + 4.0], [x + opening, top - 2.0]);
        if pointed {
            pen.line([x, top + depth + 4.0]);
        } else {
            pen.curve([x + opening * 0.8, top + depth], [x - opening * 0.8, top + depth], [x - opening, top - 2.0]);
        }
    });
    canvas.solid(Class::Shirt, shirt, &blouse);
    let (edge, line) = (canvas.look.edge(shirt), canvas.look.line);
    let pale = mixed(shirt, Rgb(255, 255, 255), if is_dark(shirt) { 0.5 } else { 0.55 });
    match dice.unit() {
        // A collar of two flaps.
        ..0.3 => {
            let tip = top + depth + dice.between(2.0, 8.0);
            let flap = Shape::rounded(
                &[
                    [x - opening - 3.0, top - 5.0],
                    [x - 1.0, tip],
                    [x - opening * 0.75, tip + 14.0],
                    [x - opening - 10.0, top + 6.0],
                ],
                3.0,
            );
            for flap in [flap.mirrored(x), flap] {
                canvas.part(Class::Shirt, pale, &[&flap]);
            }
            if dice.chance(0.6) {
                for button in [tip + 10.0, tip + 28.0] {
                    canvas.fill(&Shape::ellipse([x, button], [3.6, 3.6]), pale);
                }
            }
        }
        // A band along the collar.
        ..0.5 => {
            let low = if pointed { [x, top + depth + 4.0] } else { [x, top + depth * 0.75] };
            let band = Shape::curve(&[[x - opening, top], [x - opening * 0.6, top + depth * 0.55], low]);
            for band in [band.mirrored(x), band] {
                canvas.line(&band, pale, 7.0);
            }
        }
        // A stripe across the chest.
        ..0.65 => {
            // The stripe ends at the sides, which lean outward below the shoulders.
            let y = (top + depth + 10.0).max(top + 34.0) + dice.between(0.0, 6.0);
            let reach = wide + 3.0 + 8.0 * (y - top - 34.0) / (SIDE - top - 22.0);
            let bar = [[x - reach, y], [x + reach, y], [x + reach + 1.0, y + 9.0], [x - reach - 1.0, y + 9.0]];
            let bar = Shape::polygon(&bar);
            canvas.fill(&bar, pale);
        }
        _ => {}
    }
    // Seams at which the sleeves begin.
    if dice.chance(0.6) {
        let seam = Shape::curve(&[
            [x - wide * 0.78, SIDE + 4.0],
            [x - wide * 0.76, SIDE - 12.0],
            [x - wide * 0.7, SIDE - 24.0],
        ]);
        for seam in [seam.mirrored(x), seam] {
            canvas.line(&seam, edge, line);
        }
    }
}

/// Draws a bow around the origin, 48 to 60 of 256 wide.
fn tie(canvas: &mut Canvas, dice: &mut Dice, color: Rgb) {
    let (w, h) = (dice.between(24.0, 28.5), dice.between(14.0, 18.0));
    let pinch = dice.between(0.85, 1.3);
    let loop_of = Shape::drawn([2.0, -4.0], |pen| {
        pen.curve([w * 0.35, -h * pinch], [w * 0.9, -h * 1.3], [w, -h * 0.7]);
        pen.bend([w * 1.08, 0.0], [w, h * 0.7]);
        pen.curve([w * 0.9, h * 1.3], [w * 0.35, h * pinch], [2.0, 4.0]);
    });
    if dice.chance(0.4) {
        let (far, low) = (w * dice.between(0.45, 0.7), h * dice.between(1.6, 2.0));
        let tail = Shape::drawn([0.0, 0.0], |pen| {
            pen.bend([far * 0.9, h * 0.5], [far + 5.0, low]);
            pen.line([far - 3.0, low - 3.0]).line([far - 11.0, low + 2.0]);
            pen.bend([far * 0.2, h * 0.8], [-3.0, 2.0]);
        });
        for tail in [tail.mirrored(0.0), tail] {
            canvas.part(Class::HairBow, color, &[&tail]);
        }
    }
    let (edge, line) = (canvas.look.edge(color), canvas.look.line);
    for (side, wing) in [(-1.0, loop_of.mirrored(0.0)), (1.0, loop_of)] {
        canvas.solid(Class::HairBow, color, &wing);
        let fold = Shape::curve(&[[side * 7.0, -1.0], [side * w * 0.35, -1.5], [side * w * 0.55, -3.5]]);
        canvas.line(&fold, edge, line);
    }
    let knot = Shape::rounded(&[[-6.0, -6.5], [6.0, -6.5], [6.0, 6.5], [-6.0, 6.5]], 5.0);
    canvas.part(Class::HairBow, color, &[&knot]);
}
