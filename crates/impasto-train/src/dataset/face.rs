//! Faces: head, ears, eyes, nose and mouth.
//!
//! The unit of length is half the width of the face; the origin is the face's center.

use super::canvas::Canvas;
use super::class::Class;
use super::dice::Dice;
use super::palette::{is_dark, mixed};
use super::record::Who;
use super::shape::{At, Shape, arc};
use impasto::Rgb;

const WHITE: Rgb = Rgb(252, 252, 252);
const INK: Rgb = Rgb(30, 22, 34);

/// The colors of a face.
pub(super) struct Colors {
    pub(super) skin: Rgb,
    pub(super) eyes: Rgb,
    pub(super) mouth: Rgb,
    pub(super) hair: Rgb,
}

/// The features of a face.
pub(super) struct Face {
    outline: Shape,
    /// Center of the right eye; `iris` is half the width and height of the iris.
    eye: At,
    iris: At,
    lashes: Lashes,
    mouth: Mouth,
    mouth_at: At,
    blush: bool,
}

#[derive(Clone, Copy)]
enum Lashes {
    /// A line that grows toward the outer corner.
    Winged,
    /// A line of one width.
    Plain,
}

#[derive(Clone, Copy)]
enum Mouth {
    Laughing,
    Round,
    Smiling,
    Lips,
}

impl Face {
    pub(super) fn any(dice: &mut Dice, who: Who) -> Self {
        let (jaw, chin) = (dice.between(0.5, 0.72), dice.between(0.3, 0.55));
        let height = dice.between(0.98, 1.06);
        let outline = Shape::drawn([0.0, -height], |pen| {
            pen.curve([0.56, -height], [1.0, -0.55], [1.0, 0.05]).curve([1.0, jaw], [chin, height], [0.0, height]);
            pen.curve([-chin, height], [-1.0, jaw], [-1.0, 0.05]).curve(
                [-1.0, -0.55],
                [-0.56, -height],
                [0.0, -height],
            );
        });
        let wide = dice.between(0.22, 0.25);
        let winged = dice.chance(if who == Who::Girl { 0.75 } else { 0.15 });
        let mouth = match dice.unit() {
            ..0.35 => Mouth::Laughing,
            ..0.45 => Mouth::Round,
            ..0.8 => Mouth::Smiling,
            _ => Mouth::Lips,
        };
        Self {
            outline,
            eye: [dice.between(0.43, 0.48), dice.between(0.18, 0.26)],
            iris: [wide, (wide * dice.between(1.14, 1.36)).min(0.31)],
            lashes: if winged { Lashes::Winged } else { Lashes::Plain },
            mouth,
            mouth_at: [0.0, dice.between(0.63, 0.7)],
            blush: dice.chance(0.65),
        }
    }

    /// Draws the face without the hair.
    pub(super) fn draw(&self, canvas: &mut Canvas, dice: &mut Dice, colors: &Colors, hidden_ears: bool) {
        let (skin, edge, line) = (colors.skin, canvas.look.edge(colors.skin), canvas.look.line);
        if !hidden_ears {
            for side in [-1.0, 1.0] {
                canvas.part(Class::Skin, skin, &[&Shape::ellipse([side * 1.0, 0.16], [0.15, 0.21])]);
                canvas.fill(&Shape::ellipse([side * 1.03, 0.17], [0.07, 0.11]), canvas.look.dark(skin));
            }
        }
        canvas.part(Class::Skin, skin, &[&self.outline]);
        let shade = canvas.look.dark(skin);
        canvas.fade(&self.outline, [0.62, 0.5], [1.0, 0.85], shade, if shade == skin { 0.0 } else { 0.8 });
        if self.blush {
            let rose = if is_dark(skin) { Rgb(200, 80, 90) } else { Rgb(255, 90, 100) };
            for side in [-1.0, 1.0] {
                canvas.glow([side * 0.64, 0.54], [0.19, 0.13], rose, 0.4);
            }
        }
        self.eyes(canvas, dice, colors);
        // The nose's shadow.
        let side = dice.sign();
        let nose = Shape::drawn([0.0, 0.4], |pen| {
            pen.bend([side * 0.03, 0.44], [side * 0.06, 0.47]).bend([0.0, 0.51], [-side * 0.045, 0.475]);
        });
        canvas.fill(&nose, mixed(skin, edge, 0.65));
        self.mouth(canvas, dice, colors.mouth, line);
    }

    fn eyes(&self, canvas: &mut Canvas, dice: &mut Dice, colors: &Colors) {
        let ([x, y], [w, h]) = (self.eye, self.iris);
        let gaze = [dice.between(-0.025, 0.025), dice.between(-0.01, 0.03)];
        let lash = if is_dark(colors.hair) || dice.chance(0.5) { INK } else { mixed(colors.hair, INK, 0.72) };
        let lash = if is_dark(colors.skin) { mixed(lash, WHITE, 0.12) } else { lash };
        let pupil = [w * dice.between(0.34, 0.42), h * dice.between(0.36, 0.44)];
        let (brow, lift) = (dice.between(0.0, 0.06), dice.between(1.55, 1.68));
        let twinkle = dice.chance(0.6);
        let rim = canvas.look.edge(colors.eyes);
        for side in [-1.0, 1.0] {
            let white = Shape::ellipse([side * x, y], [w * 1.3, h * 1.1]);
            canvas.detail(&white, WHITE);
            let at = [side * x + gaze[0], y + gaze[1]];
            let iris = Shape::ellipse(at, [w, h]);
            canvas.part(Class::Eyes, colors.eyes, &[&iris]);
            // The lid's shadow covers the upper fifth of the iris.
            canvas.fade(&iris, [at[0], at[1] - 0.5 * h], [at[0], at[1] - 1.0 * h], rim, 0.75);
            canvas.detail(&Shape::ellipse([at[0], at[1] + 0.06 * h], pupil), INK);
            canvas.detail(&Shape::ellipse([at[0] - 0.36 * w, at[1] - 0.4 * h], [w * 0.3, h * 0.26]), WHITE);
            if twinkle {
                canvas.detail(&Shape::ellipse([at[0] + 0.36 * w, at[1] + 0.48 * h], [w * 0.16, h * 0.13]), WHITE);
            }
            self.lash(canvas, side, lash);
            let arch = [
                [side * (x - 0.8 * w), y - lift * h - 0.02],
                [side * x, y - lift * h - 0.05 - brow],
                [side * (x + 1.1 * w), y - lift * h + 0.02],
            ];
            canvas.line(&Shape::curve(&arch), mixed(colors.hair, INK, 0.55), 3.6);
        }
    }

    /// Draws the upper lid as a crescent.
    fn lash(&self, canvas: &mut Canvas, side: f32, color: Rgb) {
        let ([x, y], [w, h]) = (self.eye, self.iris);
        let mut points = arc([x, y], [w * 1.32, h * 1.1], 196.0, 352.0, 14);
        let (thick, outer) = match self.lashes {
            Lashes::Winged => (0.055, arc([x, y], [w * 1.44, h * 1.36], 344.0, 202.0, 14)),
            Lashes::Plain => (0.04, arc([x, y], [w * 1.39, h * 1.29], 348.0, 198.0, 14)),
        };
        if matches!(self.lashes, Lashes::Winged) {
            points.push([x + w * 1.5, y - h * 0.02]);
            points.push([x + w * 1.82, y - h * 0.56]);
        }
        points.extend(outer.into_iter().map(|[x, y]| [x, y - thick * 0.4]));
        let lid = Shape::polygon(&points);
        let lid = if side < 0.0 { lid.mirrored(0.0) } else { lid };
        canvas.detail(&lid, color);
    }

    fn mouth(&self, canvas: &mut Canvas, dice: &mut Dice, color: Rgb, line: f32) {
        let [x, y] = self.mouth_at;
        let w = dice.between(0.21, 0.29);
        let at = |across: f32, down: f32| [x + across * w, y + down];
        let shape = match self.mouth {
            Mouth::Laughing => {
                let deep = dice.between(0.24, 0.32);
                Shape::drawn(at(-1.0, -0.03), |pen| {
                    pen.bend(at(0.0, 0.06), at(1.0, -0.03));
                    pen.curve(at(0.95, deep * 0.75), at(0.5, deep), at(0.0, deep * 0.92));
                    pen.curve(at(-0.5, deep), at(-0.95, deep * 0.75), at(-1.0, -0.03));
                })
            }
            Mouth::Round => Shape::ellipse(at(0.0, 0.08), [dice.between(0.19, 0.21), dice.between(0.13, 0.17)]),
            Mouth::Smiling => {
                let (thick, bow) = (dice.between(0.27, 0.34), dice.between(0.1, 0.18));
                Shape::drawn(at(-1.1, -0.02), |pen| {
                    pen.bend(at(0.0, bow), at(1.1, -0.02)).bend(at(0.0, bow + thick), at(-1.1, -0.02));
                })
            }
            Mouth::Lips => {
                let full = dice.between(0.11, 0.15);
                Shape::drawn(at(-1.05, 0.05), |pen| {
                    pen.curve(at(-0.6, 0.0), at(-0.45, 0.05 - full), at(0.0, 0.1 - full));
                    pen.curve(at(0.45, 0.05 - full), at(0.6, 0.0), at(1.05, 0.05));
                    pen.bend(at(0.0, 0.08 + 2.2 * full), at(-1.05, 0.05));
                })
            }
        };
        let edge = canvas.look.edge(color);
        canvas.line(&shape, edge, 1.6 * line);
        canvas.fill(&shape, color);
        canvas.mark(&shape, Class::Mouth);
        if matches!(self.mouth, Mouth::Laughing) {
            let teeth = Shape::drawn(at(-0.72, 0.0), |pen| {
                pen.bend(at(0.0, 0.07), at(0.72, 0.0)).bend(at(0.0, 0.17), at(-0.72, 0.0));
            });
            canvas.detail(&teeth, WHITE);
        }
    }
}
