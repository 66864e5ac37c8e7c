//! The things that scenes show.
//!
//! A thing is drawn around the origin and fits into [-1, 1] in both directions. Its light comes from the upper left.

use super::canvas::Canvas;
use super::class::Class;
use super::dice::Dice;
use super::palette::{edge, is_dark, mixed};
use super::shape::{At, Shape, arc, around, heading, turned};
use impasto::Rgb;

const CREAM: Rgb = Rgb(252, 246, 226);
const GLASS: Rgb = Rgb(206, 234, 246);
const WOOD: Rgb = Rgb(122, 82, 48);
const LEAF: Rgb = Rgb(62, 140, 60);
const INK: Rgb = Rgb(30, 24, 36);

/// Returns the extent of a thing from the origin: left and right, up, down.
pub(super) fn reach(class: Class) -> [f32; 3] {
    match class {
        Class::House => [0.86, 0.94, 0.84],
        Class::Tree => [0.76, 0.98, 0.96],
        Class::Boat => [0.97, 0.97, 0.8],
        Class::Fish => [0.99, 0.72, 0.62],
        Class::Flower => [0.72, 0.98, 0.98],
        Class::Car => [0.98, 0.6, 0.64],
        Class::Cup => [0.96, 0.72, 0.8],
        _ => [0.98, 0.98, 0.98],
    }
}

/// Returns true if a thing belongs in the sky.
pub(super) fn flies(class: Class) -> bool {
    matches!(class, Class::Star | Class::Moon | Class::Sun)
}

/// Draws a thing in the canvas's frame.
pub(super) fn draw(canvas: &mut Canvas, dice: &mut Dice, class: Class, color: Rgb) {
    match class {
        Class::House => house(canvas, dice, color),
        Class::Tree => tree(canvas, dice, color),
        Class::Boat => boat(canvas, dice, color),
        Class::Fish => fish(canvas, dice, color),
        Class::Flower => flower(canvas, dice, color),
        Class::Moon => moon(canvas, dice, color),
        Class::Sun => sun(canvas, dice, color),
        Class::Car => car(canvas, dice, color),
        Class::Cup => cup(canvas, dice, color),
        _ => star(canvas, dice, color),
    }
}

fn rectangle([x0, y0]: At, [x1, y1]: At, radius: f32) -> Shape {
    Shape::rounded(&[[x0, y0], [x1, y0], [x1, y1], [x0, y1]], radius)
}

/// Draws two eyes and a smile in three of ten cases.
fn smile(canvas: &mut Canvas, dice: &mut Dice, [x, y]: At, size: f32, color: Rgb) {
    if !dice.chance(0.3) {
        return;
    }
    let ink = if is_dark(color) { CREAM } else { INK };
    for side in [-1.0, 1.0] {
        canvas.detail(&Shape::ellipse([x + side * 0.24 * size, y], [0.075 * size, 0.1 * size]), ink);
    }
    let mouth = Shape::drawn([x - 0.15 * size, y + 0.12 * size], |pen| {
        pen.bend([x, y + 0.26 * size], [x + 0.15 * size, y + 0.12 * size]);
        pen.bend([x, y + 0.42 * size], [x - 0.15 * size, y + 0.12 * size]);
    });
    canvas.detail(&mouth, ink);
}

fn house(canvas: &mut Canvas, dice: &mut Dice, color: Rgb) {
    let (class, look) = (Class::House, canvas.look);
    let side = dice.sign();
    let line = look.edge(color);
    let smoke = rectangle([side * 0.5 - 0.11, -0.86], [side * 0.5 + 0.11, -0.3], 0.02);
    canvas.part(class, color, &[&smoke]);
    let walls = rectangle([-0.64, -0.24], [0.64, 0.82], 0.03);
    canvas.part(class, color, &[&walls]);
    canvas.fade(&walls, [0.48, 0.0], [0.62, 0.0], look.dark(color), 0.9);
    let eave = Shape::polygon(&[[-0.64, -0.2], [0.64, -0.2], [0.64, -0.13], [-0.64, -0.13]]);
    canvas.tint(&eave, INK, 0.3);
    let peak = dice.between(-0.9, -0.78);
    let roof = if dice.chance(0.7) {
        Shape::rounded(&[[-0.84, -0.2], [0.0, peak], [0.84, -0.2]], 0.08)
    } else {
        Shape::rounded(&[[-0.84, -0.2], [-0.52, -0.7], [0.52, -0.7], [0.84, -0.2]], 0.08)
    };
    canvas.solid(class, color, &roof);
    // Two rows of tiles.
    for (y, tiles) in [(-0.36, [-0.4, 0.0, 0.4]), (-0.56, [-0.2, 0.2, f32::NAN])] {
        for x in tiles.into_iter().filter(|x| x.is_finite()) {
            let tile = Shape::curve(&[[x - 0.11, y - 0.03], [x, y + 0.03], [x + 0.11, y - 0.03]]);
            canvas.line(&tile, mixed(color, line, 0.7), look.line);
        }
    }
    let door_at = if dice.chance(0.5) { 0.0 } else { side * -0.3 };
    let round = dice.chance(0.5);
    let door = Shape::drawn([door_at - 0.15, 0.8], |pen| {
        pen.line([door_at - 0.15, 0.4]);
        if round {
            pen.curve([door_at - 0.15, 0.22], [door_at + 0.15, 0.22], [door_at + 0.15, 0.4]);
        } else {
            pen.line([door_at - 0.15, 0.3]).line([door_at + 0.15, 0.3]);
        }
        pen.line([door_at + 0.15, 0.8]);
    });
    canvas.line(&door, line, look.line);
    canvas.detail(&door, edge(color, 0.7));
    canvas.detail(&Shape::ellipse([door_at + 0.08, 0.56], [0.035, 0.035]), Rgb(250, 220, 120));
    let lamp = dice.pick([Rgb(255, 244, 190), GLASS]);
    let windows = if door_at == 0.0 { [[-0.4, 0.16], [0.4, 0.16]] } else { [[side * 0.28, 0.16], [-side * 0.3, 0.02]] };
    for [x, y] in windows {
        let pane = rectangle([x - 0.16, y - 0.13], [x + 0.16, y + 0.16], 0.03);
        canvas.line(&pane, line, 1.8 * look.line);
        canvas.detail(&pane, lamp);
        canvas.line(&Shape::curve(&[[x, y - 0.11], [x, y + 0.13]]), line, look.line);
        if door_at != 0.0 {
            break;
        }
    }
}

fn tree(canvas: &mut Canvas, dice: &mut Dice, color: Rgb) {
    let class = Class::Tree;
    let trunk = Shape::drawn([-0.11, 0.0], |pen| {
        pen.bend([-0.1, 0.7], [-0.22, 0.93]).line([0.22, 0.93]).bend([0.1, 0.7], [0.11, 0.0]);
    });
    let wood = if WOOD.delta_e(color) < 15.0 { mixed(WOOD, INK, 0.45) } else { WOOD };
    canvas.part(class, wood, &[&trunk]);
    match dice.unit() {
        ..0.45 => {
            // A cloud of leaves.
            let wobble = dice.between(0.0, 60.0);
            let puffs: Vec<Shape> = (0..6u8)
                .map(|puff| around([0.0, -0.27], [0.38, 0.36], wobble + 60.0 * f32::from(puff)))
                .map(|center| Shape::ellipse(center, [0.33, 0.31]))
                .chain([Shape::ellipse([0.0, -0.27], [0.5, 0.48])])
                .collect();
            canvas.part(class, color, &puffs.iter().collect::<Vec<_>>());
            let crown = Shape::ellipse([0.0, -0.27], [0.62, 0.6]);
            canvas.lit(&crown, color);
            let leaf = canvas.look.edge(color);
            for [x, y] in [[-0.22, -0.42], [0.2, -0.2]] {
                let curl = arc([x, y], [0.14, 0.12], 20.0, 150.0, 6);
                canvas.line(&Shape::curve(&curl), leaf, canvas.look.line);
            }
        }
        ..0.8 => {
            // A fir of three tiers, the lowest first.
            for (top, low, wide) in [(-0.3, 0.46, 0.74), (-0.62, 0.12, 0.6), (-0.95, -0.24, 0.45)] {
                let tier = Shape::drawn([0.0, top], |pen| {
                    pen.bend([wide * 0.4, low - 0.28], [wide, low - 0.06])
                        .bend([wide * 0.98, low + 0.02], [wide * 0.8, low]);
                    pen.bend([0.0, low + 0.1], [-wide * 0.8, low])
                        .bend([-wide * 0.98, low + 0.02], [-wide, low - 0.06]);
                    pen.bend([-wide * 0.4, low - 0.28], [0.0, top]);
                });
                canvas.part(class, color, &[&tier]);
                let shade = canvas.look.dark(color);
                canvas.fade(&tier, [0.3 * wide, low - 0.1], [wide, low], shade, 0.8);
            }
        }
        _ => {
            let egg = Shape::drawn([0.0, -0.94], |pen| {
                pen.curve([0.5, -0.94], [0.72, -0.2], [0.62, 0.1]).curve([0.52, 0.48], [-0.52, 0.48], [-0.62, 0.1]);
                pen.curve([-0.72, -0.2], [-0.5, -0.94], [0.0, -0.94]);
            });
            canvas.solid(class, color, &egg);
        }
    }
}

fn boat(canvas: &mut Canvas, dice: &mut Dice, color: Rgb) {
    let (class, look) = (Class::Boat, canvas.look);
    let side = dice.sign();
    let turn = |shape: Shape| if side < 0.0 { shape.mirrored(0.0) } else { shape };
    canvas.part(class, WOOD, &[&rectangle([-0.045, -0.9], [0.045, 0.3], 0.02)]);
    let main = turn(Shape::drawn([0.07, -0.86], |pen| {
        pen.curve([0.5, -0.6], [0.8, -0.2], [0.8, 0.14]).bend([0.4, 0.06], [0.07, 0.14]);
    }));
    canvas.solid(class, color, &main);
    let jib = turn(Shape::drawn([-0.08, -0.7], |pen| {
        pen.curve([-0.2, -0.4], [-0.45, -0.1], [-0.66, 0.14]).bend([-0.3, 0.06], [-0.08, 0.14]);
    }));
    canvas.line(&jib, look.edge(CREAM), 1.6 * look.line);
    canvas.detail(&jib, CREAM);
    let hull = turn(Shape::drawn([-0.92, 0.24], |pen| {
        pen.bend([0.0, 0.36], [0.94, 0.2]).curve([0.86, 0.56], [0.74, 0.78], [0.5, 0.78]);
        pen.line([-0.52, 0.78]).curve([-0.74, 0.78], [-0.86, 0.5], [-0.92, 0.24]);
    }));
    canvas.solid(class, color, &hull);
    if dice.chance(0.5) {
        let rail = turn(Shape::curve(&[[-0.78, 0.4], [0.0, 0.47], [0.78, 0.38]]));
        canvas.line(&rail, mixed(color, CREAM, 0.75), 4.0);
    } else {
        for x in [-0.36, 0.0, 0.36] {
            canvas.detail(&Shape::ellipse([x, 0.53], [0.085, 0.085]), CREAM);
        }
    }
}

fn star(canvas: &mut Canvas, dice: &mut Dice, color: Rgb) {
    let (start, plump) = (dice.between(-14.0, 14.0) - 90.0, dice.between(0.47, 0.56));
    let corners: Vec<At> = (0..10u8)
        .map(|corner| {
            let radius = if corner % 2 == 0 { 1.0 } else { plump };
            around([0.0, 0.04], [radius, radius], start + 36.0 * f32::from(corner))
        })
        .collect();
    let star = Shape::rounded(&corners, dice.between(0.08, 0.2));
    canvas.solid(Class::Star, color, &star);
    smile(canvas, dice, [0.0, -0.02], 1.0, color);
}

fn fish(canvas: &mut Canvas, dice: &mut Dice, color: Rgb) {
    let (class, look) = (Class::Fish, canvas.look);
    let side = dice.sign();
    let turn = |shape: Shape| if side < 0.0 { shape.mirrored(0.0) } else { shape };
    let fin_color = if is_dark(color) { mixed(color, CREAM, 0.2) } else { mixed(color, INK, 0.2) };
    let tail = turn(Shape::drawn([0.42, 0.0], |pen| {
        pen.curve([0.6, -0.16], [0.75, -0.5], [0.95, -0.46]).bend([0.86, -0.1], [0.84, 0.02]);
        pen.bend([0.88, 0.2], [0.95, 0.5]).curve([0.75, 0.54], [0.6, 0.2], [0.42, 0.05]);
    }));
    canvas.solid(class, color, &tail);
    let back = turn(Shape::drawn([-0.4, -0.36], |pen| {
        pen.curve([-0.2, -0.74], [0.2, -0.74], [0.36, -0.56]).bend([0.28, -0.4], [0.36, -0.2]);
    }));
    canvas.part(class, fin_color, &[&back]);
    let plump = dice.between(0.5, 0.58);
    let body = turn(Shape::drawn([-0.95, 0.02], |pen| {
        pen.curve([-0.8, -plump * 1.1], [0.1, -plump * 1.2], [0.6, -0.02]);
        pen.curve([0.1, plump * 1.25], [-0.8, plump * 1.1], [-0.95, 0.02]);
    }));
    canvas.solid(class, color, &body);
    if dice.chance(0.35) {
        for x in [-0.05, 0.22] {
            let deep = 0.3 - 0.5 * x * x - 0.3 * x;
            let stripe = turn(Shape::drawn([x - 0.06, -deep], |pen| {
                pen.bend([x + 0.06, 0.0], [x - 0.06, deep]).line([x + 0.05, deep - 0.04]);
                pen.bend([x + 0.17, 0.0], [x + 0.05, 0.04 - deep]);
            }));
            canvas.detail(&stripe, mixed(color, CREAM, 0.7));
        }
    } else {
        let wing = turn(Shape::drawn([-0.05, 0.08], |pen| {
            pen.curve([0.15, 0.0], [0.3, 0.1], [0.3, 0.26]).curve([0.14, 0.32], [0.0, 0.26], [-0.05, 0.08]);
        }));
        canvas.part(class, color, &[&wing]);
    }
    let gill = turn(Shape::curve(&[[-0.34, -0.3], [-0.24, 0.0], [-0.34, 0.3]]));
    canvas.line(&gill, look.edge(color), look.line);
    let eye = [-0.58 * side, -0.1];
    canvas.detail(&Shape::ellipse(eye, [0.14, 0.15]), Rgb(252, 252, 252));
    canvas.detail(&Shape::ellipse([eye[0] - 0.03 * side, eye[1] + 0.01], [0.075, 0.085]), INK);
    let mouth = turn(Shape::curve(&[[-0.84, 0.16], [-0.76, 0.21], [-0.66, 0.2]]));
    canvas.line(&mouth, look.edge(color), look.line);
}

fn flower(canvas: &mut Canvas, dice: &mut Dice, color: Rgb) {
    let (class, head) = (Class::Flower, [0.0, -0.3]);
    let leaf_color = if LEAF.delta_e(color) < 12.0 { mixed(LEAF, INK, 0.4) } else { LEAF };
    let bend = dice.between(-0.1, 0.1);
    let stem = Shape::drawn([-0.05, -0.2], |pen| {
        pen.bend([bend - 0.06, 0.5], [-0.06, 0.94]).line([0.06, 0.94]).bend([bend + 0.06, 0.5], [0.05, -0.2]);
    });
    let leaf = Shape::drawn([0.02, 0.86], |pen| {
        pen.curve([0.1, 0.5], [0.4, 0.44], [0.56, 0.5]).curve([0.52, 0.72], [0.3, 0.88], [0.02, 0.86]);
    });
    let leaves = [leaf.mirrored(0.0).moved([0.0, dice.between(-0.12, 0.04)]), leaf];
    canvas.part(class, leaf_color, &[&stem, &leaves[0], &leaves[1]]);
    for leaf in &leaves {
        canvas.mark(leaf, Class::Detail);
    }
    let (count, start) = (dice.pick([5u8, 6, 7]), dice.between(0.0, 70.0));
    let step = 360.0 / f32::from(count);
    let wide = [0.32, 0.28, 0.25].get(usize::from(count - 5)).copied().unwrap_or(0.25);
    let pointed = dice.chance(0.4);
    let petal = if pointed {
        Shape::drawn([0.0, 0.0], |pen| {
            pen.curve([0.2, -wide * 1.4], [0.5, -wide * 1.1], [0.68, 0.0]).curve(
                [0.5, wide * 1.1],
                [0.2, wide * 1.4],
                [0.0, 0.0],
            );
        })
    } else {
        Shape::ellipse([0.38, 0.0], [0.29, wide])
    };
    for index in 0..count {
        let turn = turned(start + f32::from(index) * step, [0.0, 0.0]).post_translate(head[0], head[1]);
        let petal = petal.placed(turn);
        canvas.part(class, color, &[&petal]);
        // Petals are darker toward the middle.
        let [x, y] = heading(start + f32::from(index) * step);
        let shade = canvas.look.dark(color);
        canvas.fade(&petal, [x * 0.33, head[1] + y * 0.33], [x * 0.2, head[1] + y * 0.2], shade, 0.8);
    }
    let yellow = Rgb(255, 222, 84);
    let middle = if yellow.delta_e(color) < 22.0 { Rgb(128, 74, 36) } else { yellow };
    let disc = Shape::ellipse(head, [0.21, 0.21]);
    canvas.line(&disc, canvas.look.edge(middle), 1.6 * canvas.look.line);
    canvas.detail(&disc, middle);
}

fn moon(canvas: &mut Canvas, dice: &mut Dice, color: Rgb) {
    // A disc of radius R around the origin without a disc of radius r around (d, 0). The rims cross at (x, ±y) with
    // x = (d² + R² − r²)/2d.
    let (outer, inner, apart) = (0.88f32, dice.between(0.7, 0.78), dice.between(0.4, 0.48));
    let x = (apart * apart + outer * outer - inner * inner) / (2.0 * apart);
    let y = (outer * outer - x * x).max(0.0).sqrt();
    let crescent = Shape::drawn([x, y], |pen| {
        // The outer arc runs through the far left; the inner arc runs back.
        for [px, py] in rim([0.0, 0.0], outer, [x, y]).into_iter().rev() {
            pen.line([px, py]);
        }
        for [px, py] in rim([apart, 0.0], inner, [x, y]) {
            pen.line([px, py]);
        }
    });
    let side = dice.sign();
    let turn = turned(side * dice.between(-8.0, 28.0), [0.0, 0.0]).pre_translate(side * 0.2, 0.0);
    let crescent = if side < 0.0 { crescent.mirrored(0.0) } else { crescent };
    let crescent = crescent.placed(turn);
    canvas.solid(Class::Moon, color, &crescent);
    let [cx, cy] = [side * -0.42, 0.0];
    if dice.chance(0.4) {
        let dent = mixed(color, canvas.look.edge(color), 0.35);
        for ([x, y], radius) in [([cx + 0.02 * side, cy - 0.26], 0.1), ([cx - 0.02 * side, cy + 0.3], 0.13)] {
            canvas.fill(&Shape::ellipse([x, y], [radius, radius]), dent);
        }
    }
}

/// Returns points of a circle from the mirror image of `tip` (above) by the left to `tip` (below).
fn rim(center: At, radius: f32, tip: At) -> Vec<At> {
    // Bisection finds the tip's direction in degrees: 0 is right, 90 is down, 180 is left.
    let aim = (tip[0] - center[0]) / radius;
    let (mut low, mut high) = (0.0f32, 180.0f32);
    for _ in 0..24 {
        let middle = (low + high) / 2.0;
        let [cosine, _] = heading(middle);
        if cosine > aim { low = middle } else { high = middle }
    }
    let mut points = arc(center, [radius, radius], low, 360.0 - low, 36);
    points.reverse();
    points
}

fn sun(canvas: &mut Canvas, dice: &mut Dice, color: Rgb) {
    let (count, start) = (dice.pick([8u8, 9, 10]), dice.between(0.0, 45.0));
    let step = 360.0 / f32::from(count);
    let (half, round) = (if count == 8 { 16.0 } else { 13.0 }, dice.pick([0.03, 0.07]));
    let rays: Vec<Shape> = (0..count)
        .map(|ray| {
            let middle = start + f32::from(ray) * step;
            let foot = |degrees: f32| around([0.0, 0.0], [0.7, 0.7], middle + degrees);
            Shape::rounded(&[foot(-half), around([0.0, 0.0], [0.98, 0.98], middle), foot(half)], round)
        })
        .collect();
    canvas.part(Class::Sun, color, &rays.iter().collect::<Vec<_>>());
    let disc = Shape::ellipse([0.0, 0.0], [0.6, 0.6]);
    canvas.solid(Class::Sun, color, &disc);
    smile(canvas, dice, [0.0, -0.06], 0.95, color);
}

fn car(canvas: &mut Canvas, dice: &mut Dice, color: Rgb) {
    let (class, look) = (Class::Car, canvas.look);
    let side = dice.sign();
    let turn = |shape: Shape| if side < 0.0 { shape.mirrored(0.0) } else { shape };
    let (back, front) = (dice.between(-0.62, -0.46), dice.between(0.22, 0.36));
    let body = turn(Shape::drawn([-0.95, 0.34], |pen| {
        pen.line([-0.95, 0.0]).bend([-0.93, -0.14], [-0.76, -0.15]);
        pen.curve([back, -0.2], [back - 0.04, -0.56], [back + 0.26, -0.57]).line([front - 0.1, -0.57]);
        pen.curve([front + 0.16, -0.56], [front + 0.2, -0.2], [front + 0.32, -0.14]);
        pen.curve([0.86, -0.1], [0.96, 0.0], [0.96, 0.2]).bend([0.98, 0.4], [0.86, 0.4]).line([-0.86, 0.4]);
        pen.bend([-0.95, 0.4], [-0.95, 0.34]);
    }));
    canvas.solid(class, color, &body);
    let middle = (back + front) / 2.0 + 0.06;
    let rear = turn(Shape::rounded(
        &[[back + 0.06, -0.14], [back + 0.2, -0.46], [middle - 0.05, -0.46], [middle - 0.05, -0.14]],
        0.06,
    ));
    let fore = turn(Shape::rounded(
        &[[middle + 0.05, -0.14], [middle + 0.05, -0.46], [front - 0.04, -0.46], [front + 0.16, -0.14]],
        0.06,
    ));
    for pane in [rear, fore] {
        canvas.line(&pane, look.edge(color), 1.4 * look.line);
        canvas.detail(&pane, GLASS);
    }
    let lamp = turn(Shape::ellipse([0.86, 0.1], [0.07, 0.09]));
    canvas.detail(&lamp, Rgb(255, 240, 150));
    canvas.line(&turn(Shape::curve(&[[middle, -0.06], [middle, 0.2], [middle, 0.3]])), look.edge(color), look.line);
    for x in [-0.52, 0.54] {
        let at = [side * x, 0.4];
        canvas.line(&Shape::ellipse(at, [0.21, 0.21]), look.edge(color), 1.6 * look.line);
        canvas.fill(&Shape::ellipse(at, [0.22, 0.22]), Rgb(44, 42, 50));
        canvas.mark(&Shape::ellipse(at, [0.22, 0.22]), class);
        canvas.detail(&Shape::ellipse(at, [0.1, 0.1]), Rgb(214, 216, 222));
    }
}

fn cup(canvas: &mut Canvas, dice: &mut Dice, color: Rgb) {
    let class = Class::Cup;
    let side = dice.sign();
    let turn = |shape: Shape| if side < 0.0 { shape.mirrored(0.0) } else { shape };
    // A ring: the outer rim runs clockwise and the inner rim counterclockwise, so that the middle stays open.
    let (mut rim, hole) =
        (arc([0.54, 0.04], [0.4, 0.38], 0.0, 360.0, 33), arc([0.54, 0.04], [0.23, 0.21], 360.0, 0.0, 33));
    rim.extend(hole);
    canvas.part(class, color, &[&turn(Shape::polygon(&rim))]);
    let taper = dice.between(0.36, 0.52);
    let body = turn(Shape::drawn([-0.62, -0.52], |pen| {
        pen.line([0.62, -0.52]).curve([0.62, 0.1], [taper + 0.14, 0.5], [taper, 0.7]);
        pen.bend([0.0, 0.86], [-taper, 0.7]).curve([-taper - 0.14, 0.5], [-0.62, 0.1], [-0.62, -0.52]);
    }));
    canvas.solid(class, color, &body);
    let drink = dice.pick([Rgb(104, 62, 40), Rgb(150, 92, 52), CREAM]);
    let opening = Shape::ellipse([0.0, -0.52], [0.62, 0.16]);
    canvas.part(class, mixed(color, CREAM, 0.35), &[&opening]);
    canvas.detail(&Shape::ellipse([0.0, -0.49], [0.5, 0.11]), drink);
    if dice.chance(0.35) {
        let heart = Shape::drawn([0.0, 0.06], |pen| {
            pen.curve([0.08, -0.1], [0.32, -0.08], [0.26, 0.14]).bend([0.2, 0.28], [0.0, 0.42]);
            pen.bend([-0.2, 0.28], [-0.26, 0.14]).curve([-0.32, -0.08], [-0.08, -0.1], [0.0, 0.06]);
        });
        canvas.detail(&heart, if CREAM.delta_e(color) < 25.0 { Rgb(226, 70, 90) } else { CREAM });
    } else {
        smile(canvas, dice, [0.0, 0.08], 0.95, color);
    }
}
