//! Hair: the layer behind the head and the layer in front of the face.
//!
//! The unit of length is half the width of the face; the origin is the face's center.

use super::canvas::Canvas;
use super::class::Class;
use super::dice::Dice;
use super::palette::{is_dark, mixed};
use super::record::{HairStyle, Who};
use super::shape::{At, Pen, Shape, arc, around};
use impasto::Rgb;

/// The middle of the skull.
const SKULL: At = [0.0, -0.12];

/// The cut of the hair over the forehead.
#[derive(Clone, Copy, PartialEq)]
enum Fringe {
    /// Locks that end in points.
    Locks,
    /// A straight cut.
    Blunt,
    /// Hair swept from one side to the other.
    Swept,
    /// Hair parted in the middle.
    Curtains,
    /// Many short points.
    Messy,
}

/// One head of hair.
pub(super) struct Hair {
    style: HairStyle,
    color: Rgb,
    fringe: Fringe,
    /// Side to which the hair leans, -1 or 1.
    side: f32,
    /// Height at which the locks beside the face end; `None` without locks.
    locks: Option<f32>,
    shine: bool,
    /// True for curls in short hair and for plaits in two tails.
    fancy: bool,
}

impl Hair {
    pub(super) fn any(dice: &mut Dice, style: HairStyle, who: Who, color: Rgb) -> Self {
        let fringe = match style {
            HairStyle::Spiky => dice.pick([Fringe::Messy, Fringe::Messy, Fringe::Locks]),
            HairStyle::Short if who == Who::Boy => dice.pick([Fringe::Messy, Fringe::Swept, Fringe::Locks]),
            HairStyle::Bob => dice.pick([Fringe::Blunt, Fringe::Locks, Fringe::Swept, Fringe::Blunt]),
            _ => dice.pick([Fringe::Locks, Fringe::Swept, Fringe::Curtains, Fringe::Blunt, Fringe::Locks]),
        };
        let locks = match style {
            HairStyle::Long => Some(if dice.chance(0.6) { dice.between(1.2, 1.7) } else { dice.between(0.7, 1.0) }),
            HairStyle::Bob => Some(dice.between(0.62, 0.86)),
            HairStyle::Twintails | HairStyle::Ponytail => dice.chance(0.6).then(|| dice.between(0.5, 0.9)),
            HairStyle::Short => (who == Who::Girl && dice.chance(0.6)).then(|| dice.between(0.35, 0.6)),
            HairStyle::Spiky => None,
        };
        Self { style, color, fringe, side: dice.sign(), locks, shine: dice.chance(0.7), fancy: dice.chance(0.3) }
    }

    pub(super) fn covers_ears(&self) -> bool {
        matches!(self.style, HairStyle::Long | HairStyle::Bob) || self.locks.is_some_and(|end| end > 0.55)
    }

    /// Draws the hair behind head and body.
    pub(super) fn behind(&self, canvas: &mut Canvas, dice: &mut Dice) {
        let skull = skull();
        match self.style {
            HairStyle::Short if self.fancy => {
                let curls = curls(dice);
                let shapes: Vec<&Shape> = curls.iter().chain([&skull]).collect();
                self.part(canvas, &shapes);
            }
            HairStyle::Short => self.part(canvas, &[&skull, &nape(dice)]),
            HairStyle::Long => {
                let fall = fall(dice);
                self.part(canvas, &[&fall, &skull]);
                self.shadow(canvas, &fall);
            }
            HairStyle::Bob => {
                let cut = bob(dice);
                self.part(canvas, &[&cut, &skull]);
                self.shadow(canvas, &cut);
            }
            // Plaits hang in front of the body and are drawn later.
            HairStyle::Twintails if self.fancy => self.part(canvas, &[&skull, &nape(dice)]),
            HairStyle::Twintails => {
                let tail = twintail(dice);
                for tail in [tail.mirrored(0.0), tail] {
                    canvas.solid(Class::Hair, self.color, &tail);
                }
                self.part(canvas, &[&skull]);
            }
            HairStyle::Ponytail => {
                let tail = ponytail(dice);
                let tail = if self.side < 0.0 { tail.mirrored(0.0) } else { tail };
                canvas.solid(Class::Hair, self.color, &tail);
                self.part(canvas, &[&skull, &nape(dice)]);
            }
            HairStyle::Spiky => self.part(canvas, &[&spikes(dice), &skull]),
        }
    }

    /// Draws the hair in front of the face.
    pub(super) fn before(&self, canvas: &mut Canvas, dice: &mut Dice) {
        if self.style == HairStyle::Twintails && self.fancy {
            for knot in plait(dice) {
                canvas.solid(Class::Hair, self.color, &knot.mirrored(0.0));
                canvas.solid(Class::Hair, self.color, &knot);
            }
        }
        let fringe = self.fringe(dice);
        let shadow = fringe.moved([0.0, 0.075]);
        canvas.tint(&shadow, Rgb(50, 8, 40), 0.2);
        let lock = self.locks.map(|end| side_lock(dice, end));
        let mirrored = lock.as_ref().map(|lock| lock.mirrored(0.0));
        let shapes: Vec<&Shape> = [&lock, &mirrored].into_iter().flatten().chain([&fringe]).collect();
        self.part(canvas, &shapes);
        // Strands begin at the crown and follow the skull.
        let (edge, line) = (canvas.look.edge(self.color), 0.9 * canvas.look.line);
        let strand = mixed(self.color, edge, 0.7);
        for x in [-0.55, 0.5] {
            let x = x + dice.between(-0.12, 0.12);
            let strand_of = [[0.45 * x, -1.12], [0.8 * x, -0.9], [x, -0.62]];
            canvas.line(&Shape::curve(&strand_of), strand, line);
        }
        if self.shine {
            let light = mixed(self.color, Rgb(255, 252, 240), if is_dark(self.color) { 0.25 } else { 0.42 });
            let (from, to) = (dice.between(212.0, 222.0), dice.between(240.0, 258.0));
            let shine = |from: f32, to: f32| Shape::curve(&arc(SKULL, [0.88, 0.86], from, to, 7));
            canvas.line(&shine(from, to), light, 6.0);
            if dice.chance(0.5) {
                canvas.line(&shine(to + 11.0, to + 15.0), light, 6.0);
            }
        }
    }

    fn part(&self, canvas: &mut Canvas, shapes: &[&Shape]) {
        canvas.part(Class::Hair, self.color, shapes);
    }

    /// Draws light, shade and the head's shadow on hair behind the neck.
    fn shadow(&self, canvas: &mut Canvas, shape: &Shape) {
        canvas.lit(shape, self.color);
        canvas.glow([0.0, 0.95], [0.85, 0.6], Rgb(24, 10, 48), 0.32);
    }

    /// Returns the hair on top of the head, down to its lower edge over the forehead.
    fn fringe(&self, dice: &mut Dice) -> Shape {
        let low = dice.between(0.0, 0.12);
        let shape = Shape::drawn([-1.17, low], |pen| {
            pen.curve([-1.2, -0.75], [-0.7, -1.26], [0.0, -1.26]).curve([0.7, -1.26], [1.2, -0.75], [1.17, low]);
            match self.fringe {
                Fringe::Locks => {
                    let count = dice.pick([3u8, 4, 5]);
                    let lean = dice.between(-0.35, 0.35);
                    points(pen, dice, count, [-0.44, -0.2], lean);
                }
                Fringe::Messy => {
                    let lean = self.side * dice.between(0.3, 0.7);
                    let count = dice.pick([4u8, 5, 6]);
                    points(pen, dice, count, [-0.5, -0.22], lean);
                }
                Fringe::Blunt => {
                    let cut = dice.between(-0.34, -0.24);
                    pen.bend([1.02, -0.1], [0.93, cut + 0.04]);
                    pen.bend([0.62, cut - 0.02], [0.36, cut]).line([0.3, cut - 0.13]).line([0.24, cut]);
                    pen.bend([0.0, cut + 0.02], [-0.3, cut]).line([-0.35, cut - 0.12]).line([-0.42, cut]);
                    pen.bend([-0.66, cut - 0.02], [-0.93, cut + 0.04]).bend([-1.02, -0.1], [-1.17, low]);
                }
                Fringe::Swept => {
                    let part = dice.between(0.3, 0.55);
                    pen.bend([0.98, 0.0], [0.92, -0.22]).bend([0.86, -0.62], [part, -0.82]);
                    pen.curve([part - 0.2, -0.42], [-0.4, -0.26], [-0.86, -0.08]);
                    pen.bend([-0.86, -0.2], [-0.84, -0.26]).bend([-0.94, -0.05], [-1.0, 0.12]).line([-1.17, low]);
                }
                Fringe::Curtains => {
                    let part = dice.between(-0.12, 0.12);
                    pen.bend([1.0, 0.06], [0.9, -0.1]).bend([0.84, -0.5], [part, -0.84]);
                    pen.bend([-0.84, -0.5], [-0.9, -0.1]).bend([-1.0, 0.06], [-1.17, low]);
                }
            }
        });
        if self.side < 0.0 { shape.mirrored(0.0) } else { shape }
    }
}

/// Draws locks from the right temple to the left. `parting` is the height at which locks part and `tip` the height at
/// which they end, both downward.
fn points(pen: &mut Pen, dice: &mut Dice, count: u8, [parting, tip]: At, lean: f32) {
    let step = 1.86 / f32::from(count);
    pen.bend([1.0, 0.0], [0.93, -0.18]);
    let mut x = 0.93;
    for lock in 1..=count {
        let next = x - step;
        let (end, up) = (tip + dice.between(-0.07, 0.05), parting + dice.between(-0.08, 0.06));
        let point = [x - step * (0.5 + lean * 0.6), end];
        pen.bend([x - step * 0.12, end - 0.2], point);
        let arrive = if lock == count { [-0.93, -0.18] } else { [next, up] };
        pen.bend([next + step * 0.2, end - 0.06], arrive);
        x = next;
    }
    pen.bend([-1.0, 0.0], [-1.17, 0.04]);
}

/// Returns a lock beside the right cheek that ends in a point at height `end`.
fn side_lock(dice: &mut Dice, end: f32) -> Shape {
    let wide = dice.between(0.74, 0.82);
    let tip = if end > 1.1 { dice.between(0.92, 1.1) } else { dice.between(0.86, 1.0) };
    Shape::drawn([0.98, -0.6], |pen| {
        pen.curve([1.2, -0.3], [1.34, end * 0.62], [tip, end]);
        pen.curve([wide + 0.12, end * 0.66], [wide + 0.1, 0.1], [wide, -0.4]);
    })
}

/// Returns short hair all over the head, down to the beginning of the jaw.
fn skull() -> Shape {
    Shape::drawn([-1.17, -0.1], |pen| {
        pen.curve([-1.17, -0.75], [-0.66, -1.26], [0.0, -1.26]).curve([0.66, -1.26], [1.17, -0.75], [1.17, -0.1]);
        pen.curve([1.17, 0.2], [1.08, 0.42], [0.8, 0.5]).line([-0.8, 0.5]);
        pen.curve([-1.08, 0.42], [-1.17, 0.2], [-1.17, -0.1]);
    })
}

/// Returns a cloud of curls around the skull.
fn curls(dice: &mut Dice) -> Vec<Shape> {
    let (count, radius) = (dice.pick([9u8, 10, 11]), dice.between(0.29, 0.34));
    let step = 256.0 / f32::from(count - 1);
    (0..count)
        .map(|curl| around(SKULL, [1.08, 1.04], 142.0 + f32::from(curl) * step))
        .map(|center| Shape::ellipse(center, [radius, radius]))
        .collect()
}

/// Returns the right one of two plaits in front of the shoulders: knots one below the other, the last one pointed.
fn plait(dice: &mut Dice) -> Vec<Shape> {
    let out = dice.between(1.02, 1.16);
    let mut knots: Vec<Shape> = [(0.55, 0.21), (0.84, 0.23), (1.13, 0.2)]
        .into_iter()
        .map(|(y, radius)| Shape::ellipse([out + 0.08 * y, y], [radius, 0.2]))
        .collect();
    let (x, y) = (out + 0.1, 1.28);
    knots.push(Shape::drawn([x - 0.13, y], |pen| {
        pen.curve([x - 0.22, y + 0.2], [x - 0.1, y + 0.34], [x, y + 0.44]);
        pen.curve([x + 0.1, y + 0.34], [x + 0.22, y + 0.2], [x + 0.13, y]);
    }));
    knots
}

/// Returns the ends of short hair beside the neck.
fn nape(dice: &mut Dice) -> Shape {
    let low = dice.between(0.5, 0.74);
    let half = Shape::drawn([0.0, -0.6], |pen| {
        pen.line([1.1, -0.5]).curve([1.26, 0.0], [1.22, low * 0.6], [1.12, low]);
        pen.bend([0.98, low + 0.02], [0.9, low - 0.1]).line([0.0, low - 0.1]);
    });
    half.and(&half.mirrored(0.0))
}

/// Returns long hair down to the shoulders or below.
fn fall(dice: &mut Dice) -> Shape {
    let (end, wide) = (dice.between(1.45, 2.15), dice.between(1.3, 1.48));
    let waves = dice.chance(0.4);
    Shape::drawn([-1.1, -0.6], |pen| {
        if waves {
            pen.curve([-1.4, -0.1], [-1.3, 0.2], [-1.3, 0.45]).curve(
                [-1.6, 0.7],
                [-1.2, 0.95],
                [-wide - 0.05, end * 0.8],
            );
            pen.bend([-wide - 0.12, end - 0.05], [-wide + 0.14, end]);
        } else {
            pen.curve([-1.35, 0.1], [-wide, 0.6], [-wide, end - 0.1]).bend([-wide, end], [-wide + 0.18, end + 0.04]);
        }
        pen.bend([-0.8, end - 0.16], [-0.4, end + 0.05]).bend([0.0, end - 0.14], [0.4, end + 0.05]);
        pen.bend([0.8, end - 0.16], [wide - 0.16, end + 0.02]);
        if waves {
            pen.bend([wide + 0.12, end - 0.05], [wide + 0.05, end * 0.8]);
            pen.curve([1.2, 0.95], [1.6, 0.7], [1.3, 0.45]).curve([1.3, 0.2], [1.4, -0.1], [1.1, -0.6]);
        } else {
            pen.bend([wide, end], [wide, end - 0.1]).curve([wide, 0.6], [1.35, 0.1], [1.1, -0.6]);
        }
    })
}

/// Returns a bob whose ends are turned inward or outward.
fn bob(dice: &mut Dice) -> Shape {
    let (end, flare) = (dice.between(0.86, 1.08), dice.between(1.24, 1.46));
    let half = Shape::drawn([0.0, -0.6], |pen| {
        pen.line([1.1, -0.5]).curve([1.28, 0.1], [flare + 0.08, end - 0.35], [flare, end - 0.1]);
        pen.bend([flare - 0.04, end + 0.06], [flare - 0.26, end + 0.05]).bend([0.7, end], [0.0, end - 0.04]);
    });
    half.and(&half.mirrored(0.0))
}

/// Returns the right one of two tails.
fn twintail(dice: &mut Dice) -> Shape {
    let (long, out) = (dice.between(0.85, 1.25), dice.between(-0.08, 0.12));
    let curl = dice.between(-0.12, 0.25);
    Shape::drawn([0.95, -0.78], |pen| {
        pen.curve([1.4, -1.12], [1.95 + out, -0.6], [1.86 + out, 0.3 * long]);
        pen.curve([1.84 + out, 0.8 * long], [1.7 + curl, 1.1 * long], [1.5 + curl, 1.45 * long]);
        pen.curve([1.42, 1.2 * long], [1.3, 1.1 * long], [1.25, 0.9 * long]);
        pen.curve([1.2, 0.5], [1.15, 0.1], [1.0, -0.2]);
    })
}

/// Returns a ponytail to the right.
fn ponytail(dice: &mut Dice) -> Shape {
    let (long, out) = (dice.between(0.8, 1.2), dice.between(-0.05, 0.15));
    Shape::drawn([0.3, -1.1], |pen| {
        pen.curve([0.85, -1.62], [1.8 + out, -1.35], [1.82 + out, -0.35]);
        pen.curve([1.84 + out, 0.25 * long], [1.7, 0.7 * long], [1.36, 1.2 * long]);
        pen.curve([1.42, 0.85 * long], [1.3, 0.7 * long], [1.22, 0.5 * long]);
        pen.curve([1.26, 0.2], [1.16, -0.1], [0.95, -0.4]);
    })
}

/// Returns a crown of bent spikes.
fn spikes(dice: &mut Dice) -> Shape {
    let count = dice.pick([7u8, 8, 9, 10]);
    let (from, to) = (152.0, 388.0);
    let step = (to - from) / f32::from(count);
    let (bend, long) = (dice.between(-0.3, 0.3), dice.between(1.36, 1.5));
    Shape::drawn(around(SKULL, [1.1, 1.07], from), |pen| {
        for spike in 0..count {
            let start = from + f32::from(spike) * step;
            let radius = long + dice.between(-0.08, 0.08);
            let tip = around(SKULL, [radius, radius * 0.95], start + step * (0.5 + bend));
            pen.bend(around(SKULL, [1.22, 1.19], start + step * (0.12 + 0.3 * bend)), tip);
            pen.bend(
                around(SKULL, [1.22, 1.19], start + step * (0.82 + 0.3 * bend)),
                around(SKULL, [1.1, 1.07], start + step),
            );
        }
    })
}
