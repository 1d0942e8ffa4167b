//! Which part of a heatmap is on screen.

use egui::{Pos2, Rect, Vec2};

/// The fewest cells that may fill the map, so that one does not get lost in a single colour.
const CLOSEST: f64 = 2.0;

/// A stretch of one axis, in cells.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Part {
    pub start: f64,
    pub span: f64,
}

impl Part {
    pub fn end(&self) -> f64 {
        self.start + self.span
    }
}

/// What the user zoomed to; `None` is an axis in full, however long it grows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct View {
    pub rows: Option<Part>,
    pub cols: Option<Part>,
}

impl View {
    pub fn is_zoomed(&self) -> bool {
        self.rows.is_some() || self.cols.is_some()
    }

    /// Make the cells larger by `factor`, keeping in place the point `at` (0 to 1 of the map).
    pub fn zoom(&mut self, factor: Vec2, at: Vec2, rows: usize, cols: usize) {
        self.cols = zoomed(self.cols, factor.x, at.x, cols);
        self.rows = zoomed(self.rows, factor.y, at.y, rows);
    }

    /// Move the content by `by` (1 is the width or height of the map).
    pub fn pan(&mut self, by: Vec2, rows: usize, cols: usize) {
        self.cols = panned(self.cols, by.x, cols);
        self.rows = panned(self.rows, by.y, rows);
    }
}

/// The stretch to show of an axis of `len` cells.
pub(super) fn shown(part: Option<Part>, len: usize) -> Part {
    let len = len as f64;
    let whole = Part {
        start: 0.0,
        span: len,
    };
    part.map_or(whole, |part| {
        let span = part.span.min(len);
        let start = part.start.clamp(0.0, len - span);
        Part { start, span }
    })
}

fn zoomed(part: Option<Part>, factor: f32, at: f32, len: usize) -> Option<Part> {
    let old = shown(part, len);
    let (at, most) = (f64::from(at), len as f64);
    let span = (old.span / f64::from(factor)).clamp(CLOSEST.min(most), most);
    if span >= most {
        return None;
    }
    let start = (old.start + (old.span - span) * at).clamp(0.0, most - span);
    Some(Part { start, span })
}

fn panned(part: Option<Part>, by: f32, len: usize) -> Option<Part> {
    let old = shown(Some(part?), len);
    let start = old.start - f64::from(by) * old.span;
    let start = start.clamp(0.0, len as f64 - old.span);
    Some(Part { start, ..old })
}

/// Between cells and points of the screen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Projection {
    pub rect: Rect,
    pub rows: Part,
    pub cols: Part,
}

impl Projection {
    /// The left edge of a column.
    pub fn x(&self, col: f64) -> f32 {
        let t = (col - self.cols.start) / self.cols.span;
        self.rect.left() + t as f32 * self.rect.width()
    }

    /// The top edge of a row.
    pub fn y(&self, row: f64) -> f32 {
        let t = (row - self.rows.start) / self.rows.span;
        self.rect.top() + t as f32 * self.rect.height()
    }

    /// The cell at a point of the map, as (row, col).
    pub fn cell(&self, pos: Pos2, rows: usize, cols: usize) -> Option<(usize, usize)> {
        if !self.rect.contains(pos) || rows == 0 || cols == 0 {
            return None;
        }
        let t = (pos - self.rect.min) / self.rect.size();
        let row = self.rows.start + f64::from(t.y) * self.rows.span;
        let col = self.cols.start + f64::from(t.x) * self.cols.span;
        Some(((row as usize).min(rows - 1), (col as usize).min(cols - 1)))
    }
}

#[cfg(test)]
mod tests {
    use egui::{pos2, vec2};

    use super::*;

    #[test]
    fn zooming_keeps_the_cell_under_the_pointer() {
        let at = vec2(0.25, 0.75);
        let under = |view: View| {
            let (rows, cols) = (shown(view.rows, 40), shown(view.cols, 80));
            (
                rows.start + rows.span * f64::from(at.y),
                cols.start + cols.span * f64::from(at.x),
            )
        };
        let mut view = View::default();
        let before = under(view);
        view.zoom(Vec2::splat(3.0), at, 40, 80);
        let after = under(view);
        assert!(view.is_zoomed());
        assert!((before.0 - after.0).abs() < 1e-9 && (before.1 - after.1).abs() < 1e-9);
        view.zoom(Vec2::splat(0.1), at, 40, 80);
        assert_eq!(view, View::default(), "zooming out ends at the whole map");
    }

    #[test]
    fn one_axis_can_be_zoomed_alone() {
        let mut view = View::default();
        view.zoom(vec2(2.0, 1.0), vec2(0.5, 0.5), 40, 80);
        assert_eq!(view.rows, None);
        let cols = Part {
            start: 20.0,
            span: 40.0,
        };
        assert_eq!(view.cols, Some(cols));
    }

    #[test]
    fn panning_and_zooming_stay_inside() {
        let mut view = View::default();
        view.pan(vec2(0.5, 0.5), 40, 80);
        assert_eq!(view, View::default(), "nothing to pan in full view");
        view.zoom(Vec2::splat(1e9), vec2(1.0, 1.0), 40, 80);
        assert_eq!(shown(view.cols, 80).span, CLOSEST);
        view.pan(vec2(-100.0, 100.0), 40, 80);
        assert_eq!(shown(view.cols, 80).end(), 80.0);
        assert_eq!(shown(view.rows, 40).start, 0.0);
        // The data shrank under a zoomed view.
        assert_eq!(shown(view.cols, 1).span, 1.0);
    }

    #[test]
    fn points_find_their_cells() {
        let whole = |len| shown(None, len);
        let projection = Projection {
            rect: Rect::from_min_size(pos2(100.0, 50.0), vec2(80.0, 40.0)),
            rows: whole(4),
            cols: whole(8),
        };
        let cell = |x, y| projection.cell(pos2(x, y), 4, 8);
        assert_eq!(cell(100.0, 50.0), Some((0, 0)));
        assert_eq!(cell(125.0, 75.0), Some((2, 2)));
        assert_eq!(cell(180.0, 90.0), Some((3, 7)));
        assert_eq!(cell(99.0, 60.0), None);
        assert_eq!(projection.x(2.0), 120.0);
        assert_eq!(projection.y(2.0), 70.0);
    }
}
