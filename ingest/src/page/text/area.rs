//! Rectangles along lines of any direction.

use super::BBox;

/// A rectangle in a frame turned with the text: `u` runs along the line, `v` down to the next line, in points.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Area {
    /// Where the line runs to, in degrees clockwise from rightwards: 0 for upright text.
    pub turn: i16,
    pub u0: f64,
    pub u1: f64,
    pub v0: f64,
    pub v1: f64,
}

impl Area {
    fn corner(&self, u: f64, v: f64) -> (f64, f64) {
        let (sin, cos) = f64::from(self.turn).to_radians().sin_cos();
        (u * cos - v * sin, u * sin + v * cos)
    }

    /// Its centre in points from the top left corner of the page.
    pub fn center(&self) -> (f64, f64) {
        self.corner((self.u0 + self.u1) / 2.0, (self.v0 + self.v1) / 2.0)
    }

    /// The smallest area of the same direction around both.
    pub fn union(&self, other: &Self) -> Self {
        Self {
            turn: self.turn,
            u0: self.u0.min(other.u0),
            u1: self.u1.max(other.u1),
            v0: self.v0.min(other.v0),
            v1: self.v1.max(other.v1),
        }
    }

    /// The upright box around it on a page of `width` x `height` points.
    pub fn on_page(&self, width: f64, height: f64) -> BBox {
        let corners = [(self.u0, self.v0), (self.u1, self.v0), (self.u0, self.v1), (self.u1, self.v1)];
        let mut bbox = BBox { x0: 1.0, y0: 1.0, x1: 0.0, y1: 0.0 };
        for (u, v) in corners {
            let (x, y) = self.corner(u, v);
            let (x, y) = ((x / width).clamp(0.0, 1.0) as f32, (y / height).clamp(0.0, 1.0) as f32);
            bbox = BBox { x0: bbox.x0.min(x), y0: bbox.y0.min(y), x1: bbox.x1.max(x), y1: bbox.y1.max(y) };
        }
        bbox
    }
}
