//! Outlines of things: closed shapes and open lines, in the coordinates of the caller.

use tiny_skia::{Path, PathBuilder, Point, Transform};

/// A point or offset: x to the right, y downward.
pub(super) type At = [f32; 2];

/// A path, or `None` if its points make no path. Drawing an empty shape is not an error.
#[derive(Clone, Debug)]
pub(super) struct Shape(pub(super) Option<Path>);

impl Shape {
    /// Returns a closed polygon of straight lines between points.
    pub(super) fn polygon(points: &[At]) -> Self {
        Pen::along(points, |pen, [x, y]| pen.line_to(x, y)).closed()
    }

    /// Returns an ellipse around `center`; `radii` are half its width and height.
    pub(super) fn ellipse(center: At, radii: At) -> Self {
        let oval = tiny_skia::Rect::from_ltrb(
            center[0] - radii[0],
            center[1] - radii[1],
            center[0] + radii[0],
            center[1] + radii[1],
        );
        Self(oval.and_then(PathBuilder::from_oval))
    }

    /// Returns a polygon with rounded corners; `radius` is the distance from a corner at which its curve begins.
    pub(super) fn rounded(corners: &[At], radius: f32) -> Self {
        let mut pen = PathBuilder::new();
        let after = corners.iter().cycle().skip(1);
        let before = corners.iter().cycle().skip(corners.len().saturating_sub(1));
        for (index, ((&corner, &after), &before)) in corners.iter().zip(after).zip(before).enumerate() {
            let ([x0, y0], [x1, y1]) = (toward(corner, before, radius), toward(corner, after, radius));
            if index == 0 {
                pen.move_to(x0, y0);
            } else {
                pen.line_to(x0, y0);
            }
            pen.quad_to(corner[0], corner[1], x1, y1);
        }
        Pen(pen).closed()
    }

    /// Returns a smooth open curve through all points, to be stroked.
    pub(super) fn curve(points: &[At]) -> Self {
        let (Some(&first), Some(&last)) = (points.first(), points.last()) else { return Self(None) };
        let mut pen = PathBuilder::new();
        pen.move_to(first[0], first[1]);
        let padded: Vec<At> = [first].into_iter().chain(points.iter().copied()).chain([last]).collect();
        for window in padded.windows(4) {
            if let &[before, from, to, after] = window {
                spline(&mut pen, before, from, to, after);
            }
        }
        Self(pen.finish())
    }

    /// Returns the closed shape that `draw` draws with a pen from `start`.
    pub(super) fn drawn(start: At, draw: impl FnOnce(&mut Pen)) -> Self {
        let mut pen = Pen(PathBuilder::new());
        pen.0.move_to(start[0], start[1]);
        draw(&mut pen);
        pen.closed()
    }

    /// Joins two shapes to one shape, which is painted in one go. A translucent paint therefore has the same strength
    /// where the two shapes overlap as elsewhere, if both outlines run in the same direction.
    pub(super) fn and(&self, other: &Self) -> Self {
        let mut pen = PathBuilder::new();
        for path in [&self.0, &other.0].into_iter().flatten() {
            pen.push_path(path);
        }
        Self(pen.finish())
    }

    /// Returns the shape in other coordinates.
    pub(super) fn placed(&self, frame: Transform) -> Self {
        Self(self.0.clone().and_then(|path| path.transform(frame)))
    }

    /// Returns the shape moved by an offset.
    pub(super) fn moved(&self, by: At) -> Self {
        self.placed(Transform::from_translate(by[0], by[1]))
    }

    /// Returns the shape mirrored at the vertical line `x`.
    pub(super) fn mirrored(&self, x: f32) -> Self {
        self.placed(Transform::from_row(-1.0, 0.0, 0.0, 1.0, 2.0 * x, 0.0))
    }
}

/// A pen that draws curves one after the other.
pub(super) struct Pen(PathBuilder);

impl Pen {
    fn along(points: &[At], mut draw: impl FnMut(&mut PathBuilder, At)) -> Self {
        let mut pen = PathBuilder::new();
        for (index, &[x, y]) in points.iter().enumerate() {
            if index == 0 { pen.move_to(x, y) } else { draw(&mut pen, [x, y]) }
        }
        Self(pen)
    }

    pub(super) fn line(&mut self, to: At) -> &mut Self {
        self.0.line_to(to[0], to[1]);
        self
    }

    /// Draws a quadratic curve to `to`, with the control point `by`.
    pub(super) fn bend(&mut self, by: At, to: At) -> &mut Self {
        self.0.quad_to(by[0], by[1], to[0], to[1]);
        self
    }

    /// Draws a cubic curve to `to`, which leaves toward `out` and arrives from `back`.
    pub(super) fn curve(&mut self, out: At, back: At, to: At) -> &mut Self {
        self.0.cubic_to(out[0], out[1], back[0], back[1], to[0], to[1]);
        self
    }

    fn closed(mut self) -> Shape {
        if self.0.is_empty() {
            return Shape(None);
        }
        self.0.close();
        Shape(self.0.finish())
    }
}

/// Draws a curve from `from` to `to`, with tangents parallel to the lines between neighbors.
fn spline(pen: &mut PathBuilder, before: At, from: At, to: At, after: At) {
    let sixth = |a: f32, b: f32| (b - a) / 6.0;
    let [out_x, out_y] = [from[0] + sixth(before[0], to[0]), from[1] + sixth(before[1], to[1])];
    let [back_x, back_y] = [to[0] - sixth(from[0], after[0]), to[1] - sixth(from[1], after[1])];
    pen.cubic_to(out_x, out_y, back_x, back_y, to[0], to[1]);
}

/// Returns the point at `distance` from `from` toward `to`, at most half the way.
fn toward(from: At, to: At, distance: f32) -> At {
    let mut step = Point::from_xy(to[0] - from[0], to[1] - from[1]);
    let distance = distance.min(step.length() / 2.0);
    step.set_length(distance);
    [from[0] + step.x, from[1] + step.y]
}

/// Returns the point at distance 1 in a direction: 0 to the right, 90 downward.
///
/// The point comes from Taylor's series, because the last digit of the system's mathematics library differs between
/// machines.
pub(super) fn heading(degrees: f32) -> At {
    let turns = f64::from(degrees) / 90.0;
    let quarter = turns.round();
    let angle = (turns - quarter) * std::f64::consts::FRAC_PI_2;
    let square = angle * angle;
    let series = |first: f64| {
        // 1 − a²/(n(n+1))·(1 − a²/((n+2)(n+3))·(…)): seven terms are exact to 1e-13 up to 45°.
        (0..7).rev().fold(1.0, |rest, term| {
            let n = first + 2.0 * f64::from(term);
            1.0 - square / (n * (n + 1.0)) * rest
        })
    };
    let (sine, cosine) = ((angle * series(2.0)) as f32, series(1.0) as f32);
    match (quarter as i64).rem_euclid(4) {
        0 => [cosine, sine],
        1 => [-sine, cosine],
        2 => [-cosine, -sine],
        _ => [sine, -cosine],
    }
}

/// Returns the point in a direction from `center`, on the ellipse of `radii`.
pub(super) fn around(center: At, radii: At, degrees: f32) -> At {
    let [x, y] = heading(degrees);
    [center[0] + radii[0] * x, center[1] + radii[1] * y]
}

/// Returns points of an ellipse's arc, the first at `from` degrees, the last at `to`.
pub(super) fn arc(center: At, radii: At, from: f32, to: f32, points: u16) -> Vec<At> {
    let step = (to - from) / f32::from(points.saturating_sub(1).max(1));
    (0..points).map(|index| around(center, radii, from + f32::from(index) * step)).collect()
}

/// Returns coordinates turned around `center`, clockwise.
pub(super) fn turned(degrees: f32, center: At) -> Transform {
    let ([x, y], [cosine, sine]) = (center, heading(degrees));
    Transform::from_row(cosine, sine, -sine, cosine, x - cosine * x + sine * y, y - sine * x - cosine * y)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headings_are_sine_and_cosine() {
        for degrees in -400..400 {
            let (sine, cosine) = f64::from(degrees).to_radians().sin_cos();
            let [x, y] = heading(degrees as f32);
            assert!((f64::from(x) - cosine).abs() < 1e-6 && (f64::from(y) - sine).abs() < 1e-6, "{degrees}");
        }
    }

    #[test]
    fn turning_keeps_the_center() {
        let mut points = [Point::from_xy(3.0, 4.0), Point::from_xy(4.0, 4.0)];
        turned(90.0, [3.0, 4.0]).map_points(&mut points);
        assert!((points[0] - Point::from_xy(3.0, 4.0)).length() < 1e-5);
        assert!((points[1] - Point::from_xy(3.0, 5.0)).length() < 1e-5, "clockwise, as y points downward");
    }

    #[test]
    fn shape_without_points_is_empty() {
        for shape in [Shape::polygon(&[]), Shape::rounded(&[], 1.0), Shape::curve(&[])] {
            assert!(shape.0.is_none());
        }
    }
}
