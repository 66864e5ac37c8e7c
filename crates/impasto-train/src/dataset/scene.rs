//! Scenes: one to three things outdoors.

use super::canvas::{Canvas, Look, SIDE};
use super::class::Class;
use super::dice::Dice;
use super::object::{self, flies, reach};
use super::palette::{NamedColor, is_dark, mixed, pick_apart, pick_color, pick_of};
use super::record::{Bounds, Object, Part, Record};
use super::shape::{At, Shape, heading};
use super::style::Style;
use impasto::Result;
use impasto::Rgb;
use ndarray::Array2;
use tiny_skia::Transform;

/// Minimum distance of a thing from the border and from other things, in 256ths of the side. Outlines lie within this
/// distance.
const MARGIN: f32 = 7.0;
/// Minimum CIEDE2000 between a thing and what is behind the thing, so that the thing stays visible.
const APART: f64 = 20.0;

/// A thing with its place in the picture.
struct Placed {
    class: Class,
    at: At,
    /// Half the side of the square in which the thing is drawn.
    size: f32,
}

impl Placed {
    /// Returns the left, top, right and bottom edge.
    fn edges(&self) -> [f32; 4] {
        let ([x, y], [wide, up, down]) = (self.at, reach(self.class).map(|reach| reach * self.size));
        [x - wide, y - up, x + wide, y + down]
    }

    fn meets(&self, other: &Self) -> bool {
        let ([l, t, r, b], [left, top, right, bottom]) = (self.edges(), other.edges());
        l < right + MARGIN && left < r + MARGIN && t < bottom + MARGIN && top < b + MARGIN
    }
}

/// Draws a scene of `size` pixels in both directions. The scene `like`, if given, determines the things and the colors.
pub(super) fn draw(dice: &mut Dice, size: u32, in_style: Style, like: Option<&Record>) -> Result<(Canvas, Record)> {
    let given = |class: Class, own: NamedColor| like.and_then(|like| like.color_of(class)).unwrap_or(own);
    let usual = dice.chance(0.4);
    let sky = match usual {
        true => pick_of(dice, ["azure", "azure", "blue", "navy", "cyan", "white"]),
        false => pick_color(dice),
    };
    let usual = dice.chance(0.4);
    let ground = pick_apart(&[sky.rgb], 9.0, || match usual {
        true => pick_of(dice, ["green", "lime", "olive", "brown", "tan"]),
        false => pick_color(dice),
    });
    let (sky, ground) = (given(Class::Sky, sky), given(Class::Ground, ground));
    let horizon = dice.between(140.0, 206.0);
    let mut canvas = Canvas::new(size, Look::any(dice, in_style), Class::Sky, sky.rgb)?;
    behind(&mut canvas, dice, sky.rgb, ground.rgb, horizon);

    let mut things = place(dice, horizon, like);
    // Near things cover far things.
    things.sort_by(|a, b| a.edges()[3].total_cmp(&b.edges()[3]));
    let mut colors = Vec::new();
    for thing in &things {
        let [_, top, _, bottom] = thing.edges();
        let mut backs = Vec::new();
        if top < horizon {
            backs.push(sky.rgb);
        }
        if bottom > horizon - 12.0 {
            backs.push(ground.rgb);
        }
        let color = given(thing.class, pick_apart(&backs, APART, || pick_color(dice)));
        colors.push(color);
        let [x, y] = thing.at;
        if !flies(thing.class) && bottom > horizon {
            let wide = 0.9 * reach(thing.class)[0] * thing.size;
            canvas.glow([x, bottom - 1.0], [wide, 7.0], Rgb(10, 6, 30), 0.4);
        }
        canvas.frame(Transform::from_translate(x, y).pre_scale(thing.size, thing.size));
        object::draw(&mut canvas, dice, thing.class, color.rgb);
        canvas.frame(Transform::identity());
    }
    let objects = things.iter().zip(colors).map(|(thing, color)| thing_of(thing, color)).collect();
    let parts = vec![Part { class: Class::Sky, color: sky }, Part { class: Class::Ground, color: ground }];
    Ok((canvas, Record::Scene { objects, parts }))
}

/// Returns the record of a thing. Its bounds are measured later, from the mask.
fn thing_of(thing: &Placed, color: NamedColor) -> Object {
    let bounds = Bounds { center_x: 0.0, center_y: 0.0, width: 0.0, height: 0.0 };
    Object { class: thing.class, color, bounds }
}

/// Sets every object's bounds to the pixels of its class.
pub(super) fn measure(record: &mut Record, mask: &Array2<u8>) {
    let Record::Scene { objects, .. } = record else { return };
    let (h, w) = mask.dim();
    for object in objects {
        let (mut left, mut top, mut right, mut bottom) = (w, h, 0, 0);
        for ((y, x), &index) in mask.indexed_iter() {
            if index == object.class.index() {
                (left, right) = (left.min(x), right.max(x + 1));
                (top, bottom) = (top.min(y), bottom.max(y + 1));
            }
        }
        let (left, right) = (left as f32 / w as f32, right as f32 / w as f32);
        let (top, bottom) = (top as f32 / h as f32, bottom as f32 / h as f32);
        object.bounds = Bounds {
            center_x: (left + right) / 2.0,
            center_y: (top + bottom) / 2.0,
            width: right - left,
            height: bottom - top,
        };
    }
}

/// Places one to three things of different classes, or the things of the scene `like`, apart from each other and from
/// the border.
fn place(dice: &mut Dice, horizon: f32, like: Option<&Record>) -> Vec<Placed> {
    // Some things are small, because a model learns no places from things that always fill the picture.
    let (count, sizes) = match dice.unit() {
        ..0.5 => (1, [34.0, 92.0]),
        ..0.9 => (2, [40.0, 72.0]),
        _ => (3, [40.0, 54.0]),
    };
    let mut classes = Class::OBJECTS.to_vec();
    dice.shuffle(&mut classes);
    let (count, sizes) = match like {
        Some(Record::Scene { objects, .. }) => {
            classes.retain(|class| objects.iter().any(|object| object.class == *class));
            (classes.len(), if classes.len() > 2 { [40.0, 54.0] } else { [40.0, 72.0] })
        }
        _ => (count, sizes),
    };
    let mut shrunk = 1.0;
    loop {
        let mut placed: Vec<Placed> = Vec::new();
        for &class in classes.iter().take(count) {
            let size = shrunk * dice.between(sizes[0], sizes[1]);
            let thing = Placed { class, at: spot(dice, class, size, horizon), size };
            if placed.iter().any(|other| thing.meets(other)) {
                break;
            }
            placed.push(thing);
        }
        // Things that do not all fit are tried a little smaller. At a third of the size, one thing always fits.
        if placed.len() == count || shrunk < 0.33 {
            return placed;
        }
        shrunk *= 0.998;
    }
}

/// Returns a random place inside the picture. Half of the things are where they belong, above the horizon or below. A
/// model that has seen things only where they belong ignores words for any other place.
fn spot(dice: &mut Dice, class: Class, size: f32, horizon: f32) -> At {
    let [wide, up, down] = reach(class).map(|reach| reach * size + MARGIN);
    let x = dice.between(wide, SIDE - wide);
    let (highest, lowest) = (up, SIDE - down);
    let at_home = dice.chance(0.5);
    let y = if at_home && flies(class) {
        dice.between(highest, lowest.min((horizon - 0.7 * down).max(highest + 4.0)))
    } else if at_home {
        dice.between(highest.max((horizon + 14.0 - down).min(lowest - 4.0)), lowest)
    } else {
        dice.between(highest, lowest)
    };
    [x, y]
}

/// Draws sky and ground: clouds, light over the horizon or neither, and a flat or hilly ground.
fn behind(canvas: &mut Canvas, dice: &mut Dice, sky: Rgb, ground: Rgb, horizon: f32) {
    let pale = mixed(sky, Rgb(255, 255, 255), if is_dark(sky) { 0.22 } else { 0.45 });
    match dice.unit() {
        ..0.3 if sky.lab().l < 88.0 => {
            for _ in 0..dice.pick([2u8, 3]) {
                let ([x, y], wide) = ([dice.between(10.0, 246.0), dice.between(18.0, 110.0)], dice.between(16.0, 26.0));
                for (across, up, radius) in [(-1.0, 0.0, 0.55), (-0.2, -0.28, 0.75), (0.7, -0.05, 0.6)] {
                    let radius = radius * wide;
                    canvas.fill(&Shape::ellipse([x + across * wide, y + up * wide], [radius, radius]), pale);
                }
                let foot = [
                    [x - 1.4 * wide, y],
                    [x + 1.2 * wide, y],
                    [x + 1.2 * wide, y + 0.55 * wide],
                    [x - 1.4 * wide, y + 0.55 * wide],
                ];
                canvas.fill(&Shape::rounded(&foot, 0.3 * wide), pale);
            }
        }
        ..0.6 => {
            // Light over the horizon.
            let air = Shape::polygon(&[[0.0, 0.0], [SIDE, 0.0], [SIDE, SIDE], [0.0, SIDE]]);
            canvas.fade(&air, [0.0, horizon - 38.0], [0.0, horizon + 4.0], mixed(sky, Rgb(255, 244, 224), 0.7), 0.6);
        }
        _ => {}
    }
    let (wave, phase) = (if dice.chance(0.4) { 0.0 } else { dice.between(3.0, 10.0) }, dice.between(0.0, 360.0));
    let pace = dice.between(0.8, 1.6);
    let crest = |x: f32| horizon + wave * heading(phase + pace * x)[1];
    let line: Vec<At> = (-1..=18).map(|step| [16.0 * step as f32, crest(16.0 * step as f32)]).collect();
    let mut hill = line.clone();
    hill.extend([[300.0, SIDE + 30.0], [-30.0, SIDE + 30.0]]);
    let hill = Shape::polygon(&hill);
    canvas.part(Class::Ground, ground, &[&hill]);
    let shade = canvas.look.dark(ground);
    canvas.fade(&hill, [0.0, SIDE - 0.22 * (SIDE - horizon)], [0.0, SIDE], shade, 0.7);
    // Tufts stand for grass.
    if dice.chance(0.4) {
        let tuft_color = mixed(ground, canvas.look.edge(ground), 0.45);
        for _ in 0..dice.pick([3u8, 4, 5]) {
            let [x, y] = [dice.between(12.0, 244.0), dice.between(horizon + 18.0, 250.0_f32.max(horizon + 20.0))];
            let tuft = Shape::drawn([x - 8.0, y], |pen| {
                pen.bend([x - 6.0, y - 5.0], [x - 9.0, y - 9.0]).bend([x - 3.0, y - 8.0], [x - 2.0, y - 3.0]);
                pen.bend([x - 1.0, y - 9.0], [x + 1.0, y - 12.0]).bend([x + 3.0, y - 8.0], [x + 2.0, y - 3.0]);
                pen.bend([x + 4.0, y - 8.0], [x + 9.0, y - 9.0]).bend([x + 6.0, y - 5.0], [x + 8.0, y]);
            });
            canvas.fill(&tuft, tuft_color);
        }
    }
}
