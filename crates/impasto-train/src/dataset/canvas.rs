//! The canvas of a drawing: the picture and its mask.
//!
//! Coordinates are those of a 256×256 picture at every true size, so that strokes scale with the picture. The picture
//! is anti-aliased. The mask is not, because nothing lies between two classes.

use super::class::Class;
use super::dice::Dice;
use super::palette::{edge, mixed};
use super::shape::{At, Shape};
use super::style::Style;
use impasto::Raster;
use impasto::Rgb;
use impasto::{Error, Result};
use ndarray::Array2;
use tiny_skia::{
    Color, FillRule, GradientStop, LineCap, LineJoin, LinearGradient, Paint, Pixmap, Point, RadialGradient, Shader,
    SpreadMode, Stroke, Transform,
};

/// Side of the picture in the coordinates of drawings.
pub(super) const SIDE: f32 = 256.0;

/// Color of shade: darker and a little bluer.
const SHADE: Rgb = Rgb(24, 10, 48);

/// The look of a drawing: lines, light and shade are the same everywhere in one picture.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    /// Width of outlines, in 256ths of the side.
    pub(super) line: f32,
    /// Darkness of outlines relative to the color that they surround, 0..=1.
    ink: f32,
    /// Darkness of the shade, 0..=1; 0 is flat.
    shade: f32,
    /// Strength of the light, 0..=1.
    light: f32,
    style: Style,
}

impl Look {
    pub(super) fn any(dice: &mut Dice, style: Style) -> Self {
        let flat = dice.chance(0.15);
        Self {
            line: dice.between(2.4, 3.8),
            ink: if dice.chance(0.7) { dice.between(0.45, 0.65) } else { dice.between(0.82, 0.95) },
            shade: if flat { 0.0 } else { dice.between(0.18, 0.36) },
            light: if flat { 0.0 } else { dice.between(0.1, 0.4) },
            style,
        }
    }

    /// Returns the color of the outline around `color`.
    pub(super) fn edge(&self, color: Rgb) -> Rgb {
        edge(color, self.ink)
    }

    /// Returns `color` in the shade.
    pub(super) fn dark(&self, color: Rgb) -> Rgb {
        mixed(color, SHADE, self.shade.max(0.12))
    }
}

/// A picture and its mask while they are drawn.
pub(super) struct Canvas {
    picture: Pixmap,
    /// The mask, with the class's number in the red channel.
    classes: Pixmap,
    /// Transform from the drawing's coordinates, whose side is 256, to pixels.
    pixels: Transform,
    /// Transform from the current frame's coordinates to the drawing's.
    frame: Transform,
    pub(super) look: Look,
}

impl Canvas {
    /// Creates a canvas of `size` pixels in both directions, filled with `color` and `class`.
    pub(super) fn new(size: u32, look: Look, class: Class, color: Rgb) -> Result<Self> {
        let blank = || Pixmap::new(size, size).ok_or_else(|| Error::parameter("size", size, "at least one pixel"));
        let (mut picture, mut classes) = (blank()?, blank()?);
        picture.fill(opaque(look.style.surface(color)));
        classes.fill(opaque(Rgb(class.index(), 0, 0)));
        let scale = size as f32 / SIDE;
        let pixels = Transform::from_scale(scale, scale);
        Ok(Self { picture, classes, pixels, frame: Transform::identity(), look })
    }

    /// Sets the frame in whose coordinates later shapes are given.
    pub(super) fn frame(&mut self, frame: Transform) {
        self.frame = frame;
    }

    /// Draws a part: its outline, its color, and the mask.
    ///
    /// Several shapes make one part without lines where they overlap.
    pub(super) fn part(&mut self, class: Class, color: Rgb, shapes: &[&Shape]) {
        let (edge, line) = (self.look.edge(color), self.look.line);
        for shape in shapes {
            self.line(shape, edge, 2.0 * line);
        }
        for shape in shapes {
            self.fill(shape, color);
            self.mark(shape, class);
        }
    }

    /// Draws a part with light on its upper left and shade on its lower right. Light and shade together cover less than
    /// a third of the part.
    pub(super) fn solid(&mut self, class: Class, color: Rgb, shape: &Shape) {
        self.part(class, color, &[shape]);
        self.lit(shape, color);
    }

    /// Draws light and shade over a shape.
    pub(super) fn lit(&mut self, shape: &Shape, color: Rgb) {
        let Some(bounds) = shape.0.as_ref().map(|path| path.bounds()) else { return };
        // The gradient is in fractions of the bounds, so that flat and tall shapes have the same share of light and
        // shade.
        let place = Transform::from_row(bounds.width(), 0.0, 0.0, bounds.height(), bounds.left(), bounds.top());
        let (shade, light) = (self.look.shade, self.look.light);
        self.fade_in(place, shape, [[0.67, 0.73], [0.98, 1.0]], SHADE, shade);
        // Nearly white colors have no room for light.
        if color.lab().l < 90.0 {
            self.fade_in(place, shape, [[0.25, 0.2], [0.03, 0.0]], Rgb(255, 250, 235), light);
        }
    }

    /// Colors a shape in the picture, not in the mask.
    pub(super) fn fill(&mut self, shape: &Shape, color: Rgb) {
        self.tint(shape, color, 1.0);
    }

    /// Colors a shape in the picture, not in the mask; `opacity` is 0..=1.
    pub(super) fn tint(&mut self, shape: &Shape, color: Rgb, opacity: f32) {
        if opacity >= 1.0 || self.look.style.is_shaded() {
            self.paint(shape, Shader::SolidColor(veil(self.look.style.surface(color), opacity)));
        }
    }

    /// Colors a shape in the picture, not in the mask, with a soft gradient from opacity 0 at `from` to `opacity` at
    /// `to`.
    pub(super) fn fade(&mut self, shape: &Shape, from: At, to: At, color: Rgb, opacity: f32) {
        self.fade_in(Transform::identity(), shape, [from, to], color, opacity);
    }

    /// Colors a shape as `fade` does, with the ends in the coordinates of `place`.
    fn fade_in(&mut self, place: Transform, shape: &Shape, ends: [At; 2], color: Rgb, opacity: f32) {
        if opacity > 0.0 && self.look.style.is_shaded() {
            let stops = vec![
                GradientStop::new(0.0, veil(color, 0.0)),
                GradientStop::new(0.35, veil(color, 0.6 * opacity)),
                GradientStop::new(1.0, veil(color, opacity)),
            ];
            let [from, to] = ends.map(|[x, y]| Point::from_xy(x, y));
            if let Some(shader) = LinearGradient::new(from, to, stops, SpreadMode::Pad, place) {
                self.paint(shape, shader);
            }
        }
    }

    /// Colors an ellipse in the picture, not in the mask: `opacity` at the center, 0 at the rim.
    pub(super) fn glow(&mut self, center: At, radii: At, color: Rgb, opacity: f32) {
        if !self.look.style.is_shaded() {
            return;
        }
        let stops = vec![
            GradientStop::new(0.0, veil(color, opacity)),
            GradientStop::new(0.4, veil(color, 0.8 * opacity)),
            GradientStop::new(1.0, veil(color, 0.0)),
        ];
        let ellipse = Transform::from_row(radii[0], 0.0, 0.0, radii[1], center[0], center[1]);
        let origin = Point::from_xy(0.0, 0.0);
        if let Some(shader) = RadialGradient::new(origin, origin, 1.0, stops, SpreadMode::Pad, ellipse) {
            self.paint(&Shape::ellipse(center, radii), shader);
        }
    }

    /// Darkens the picture's corners, not the mask.
    pub(super) fn vignette(&mut self, from: f32, color: Rgb, opacity: f32) {
        if !self.look.style.is_shaded() {
            return;
        }
        // 183 is a little more than half the diagonal.
        let stops = vec![
            GradientStop::new(0.0, veil(color, 0.0)),
            GradientStop::new(from / 183.0, veil(color, 0.0)),
            GradientStop::new(1.0, veil(color, opacity)),
        ];
        let middle = Point::from_xy(SIDE / 2.0, SIDE / 2.0);
        if let Some(shader) = RadialGradient::new(middle, middle, 183.0, stops, SpreadMode::Pad, Transform::identity())
        {
            self.paint(&Shape::polygon(&[[0.0, 0.0], [SIDE, 0.0], [SIDE, SIDE], [0.0, SIDE]]), shader);
        }
    }

    /// Draws a line or an outline in the picture, not in the mask. `width` is in 256ths of the side, in every frame.
    pub(super) fn line(&mut self, shape: &Shape, color: Rgb, width: f32) {
        let Some(path) = shape.placed(self.frame).0 else { return };
        let stroke = Stroke { width, line_cap: LineCap::Round, line_join: LineJoin::Round, ..Stroke::default() };
        let color = opaque(self.look.style.line(color));
        self.picture.stroke_path(&path, &paint(Shader::SolidColor(color), true), &stroke, self.pixels, None);
    }

    /// Marks a shape in the mask, not in the picture.
    pub(super) fn mark(&mut self, shape: &Shape, class: Class) {
        let Some(path) = &shape.0 else { return };
        let number = Shader::SolidColor(opaque(Rgb(class.index(), 0, 0)));
        self.classes.fill_path(path, &paint(number, false), FillRule::Winding, self.place(), None);
    }

    /// Colors a shape in the picture and marks it as [`Class::Detail`], without an outline.
    pub(super) fn detail(&mut self, shape: &Shape, color: Rgb) {
        self.paint(shape, Shader::SolidColor(opaque(self.look.style.detail(color))));
        self.mark(shape, Class::Detail);
    }

    /// Returns the picture and the class of each of its pixels.
    pub(super) fn finish(self) -> Result<(Raster, Array2<u8>)> {
        let (h, w) = (self.picture.height(), self.picture.width());
        let rgb = self.picture.pixels().iter().flat_map(|pixel| [pixel.red(), pixel.green(), pixel.blue()]);
        let picture = Raster::from_bytes(rgb.collect(), (w, h))?;
        let numbers: Vec<u8> = self.classes.pixels().iter().map(|pixel| pixel.red()).collect();
        let got = vec![numbers.len() as i64];
        let mask = Array2::from_shape_vec((h as usize, w as usize), numbers);
        mask.map(|mask| (picture, mask)).map_err(|_| Error::Shape {
            what: "the mask",
            got,
            expected: format!("{h}·{w}"),
        })
    }

    fn paint(&mut self, shape: &Shape, shader: Shader<'_>) {
        let Some(path) = &shape.0 else { return };
        self.picture.fill_path(path, &paint(shader, true), FillRule::Winding, self.place(), None);
    }

    fn place(&self) -> Transform {
        self.frame.post_concat(self.pixels)
    }
}

fn paint(shader: Shader<'_>, anti_alias: bool) -> Paint<'_> {
    Paint { shader, anti_alias, ..Paint::default() }
}

fn opaque(color: Rgb) -> Color {
    Color::from_rgba8(color.0, color.1, color.2, 255)
}

fn veil(color: Rgb, opacity: f32) -> Color {
    Color::from_rgba8(color.0, color.1, color.2, (255.0 * opacity) as u8)
}
