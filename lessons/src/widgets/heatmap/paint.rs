//! The strokes and letters around and over the cells.

use std::f32::consts::FRAC_PI_2;
use std::sync::Arc;

use egui::emath::GuiRounding as _;
use egui::epaint::TextShape;
use egui::text::{LayoutJob, TextWrapping};
use egui::{
    Align2, Color32, CornerRadius, FontId, Galley, Painter, Pos2, Rect, Response, Shape, Stroke,
    StrokeKind, TextStyle, TextureHandle, Ui, pos2, vec2,
};

use super::Heatmap;
use super::grid::{Bins, Pooling};
use super::layout::{Layout, Wants};
use super::view::{Part, Projection};
use crate::theme::{self, Palette};
use crate::widgets::colormap::{Scale, Tick, round_step, strip};

/// The longest row or column label, in points.
const LONGEST_LABEL: f32 = 76.0;
/// Between the middles of two row labels or two upright column labels, at least.
const LABEL_PITCH: f32 = 15.0;
/// Clear space between two column labels that lie flat.
const LABEL_GAP: f32 = 12.0;
/// From one tick of the colour bar to the next.
const BAR_PITCH: f32 = 32.0;
/// The width of the menu button.
const MENU: f32 = 28.0;
/// How many labels are measured to learn how wide they get.
const SAMPLES: usize = 48;

/// One line of text, ended with "…" where it is wider than `width`.
pub(super) fn line(
    painter: &Painter,
    text: String,
    font: &FontId,
    ink: Color32,
    width: f32,
) -> Arc<Galley> {
    let mut job = LayoutJob::simple_singleline(text, font.clone(), ink);
    job.wrap = TextWrapping::truncate_at_width(width.max(0.0));
    painter.layout_job(job)
}

/// Where the menu button goes in the line of the title.
pub(super) fn menu_place(title: Rect) -> Rect {
    let size = vec2(MENU, title.height());
    Rect::from_min_size(pos2(title.right() - size.x, title.top()), size)
}

/// Three dots on the menu button.
pub(super) fn dots(ui: &Ui, button: &Response) {
    let ink = ui.style().interact(button).fg_stroke.color;
    for step in [-1.0, 0.0, 1.0] {
        let centre = button.rect.center() + vec2(step * 5.0, 0.0);
        ui.painter().circle_filled(centre, 1.5, ink);
    }
}

/// The frame and the message of a map without cells.
pub(super) fn empty(map: &Heatmap<'_>, ui: &Ui, outer: Rect) {
    let palette = theme::palette(ui.visuals());
    let stroke = Stroke::new(1.0, palette.border);
    ui.painter()
        .rect(outer, 8, palette.surface, stroke, StrokeKind::Inside);
    let painter = ui.painter().with_clip_rect(outer.intersect(ui.clip_rect()));
    let body = TextStyle::Body.resolve(ui.style());
    let small = TextStyle::Small.resolve(ui.style());
    let width = outer.width() - 32.0;
    let title = line(&painter, map.title.to_owned(), &body, palette.text, width);
    let message = painter.layout(map.empty.to_owned(), small, palette.weak_text, width);
    let gap = 6.0;
    let height = title.size().y + gap + message.size().y;
    let top = outer.center().y - height / 2.0;
    let place = |galley: &Galley, y: f32| pos2(outer.center().x - galley.size().x / 2.0, y);
    painter.galley(place(&title, top), title.clone(), palette.text);
    let below = top + title.size().y + gap;
    painter.galley(place(&message, below), message.clone(), palette.weak_text);
}

/// Whether the column labels have to stand upright; decided for the whole map, so that zooming
/// does not move it.
fn upright(map: &Heatmap<'_>, widest: f32, width: f32) -> bool {
    let pitch = width * 0.8 / map.grid.cols().max(1) as f32;
    map.cols.label.is_some() && pitch < widest + LABEL_GAP
}

/// The width of the widest label of an axis, from evenly spread samples.
fn widest(axis: &super::Axis<'_>, len: usize, painter: &Painter, font: &FontId) -> f32 {
    let every = if axis.label.is_some() {
        len.div_ceil(SAMPLES).max(1)
    } else {
        len.max(1)
    };
    (0..len)
        .step_by(every)
        .chain(len.checked_sub(1))
        .map(|index| {
            let text = axis.label(index);
            line(painter, text, font, Color32::PLACEHOLDER, LONGEST_LABEL)
                .size()
                .x
        })
        .fold(0.0, f32::max)
}

/// How much room the texts of this map want.
pub(super) fn wants(map: &Heatmap<'_>, ui: &Ui, outer: Rect, scale: &Scale) -> Wants {
    let font = TextStyle::Small.resolve(ui.style());
    let painter = ui.painter();
    let row_labels = widest(&map.rows, map.grid.rows(), painter, &font);
    let widest_col = widest(&map.cols, map.grid.cols(), painter, &font);
    let flat = ui.text_style_height(&TextStyle::Small);
    let bar_labels = bar_ticks(scale, outer.height())
        .into_iter()
        .map(|tick| {
            let width = LONGEST_LABEL;
            line(painter, tick.label, &font, Color32::PLACEHOLDER, width)
                .size()
                .x
        })
        .fold(0.0, f32::max);
    Wants {
        row_labels,
        col_labels: if upright(map, widest_col, outer.width()) {
            widest_col
        } else {
            flat
        },
        bar_labels,
    }
}

fn bar_ticks(scale: &Scale, height: f32) -> Vec<Tick> {
    scale.ticks((height / BAR_PITCH).clamp(2.0, 8.0) as usize)
}

/// By so much of a pixel colours are taken beside where they are drawn, for a number of cells beside each other: a whole number
/// of their parts of a pixel and a quarter; more than rounding, less than can be seen.
fn nudge(cells: usize) -> f32 {
    const ABOUT: f32 = 0.02;
    let cells = cells.max(1) as f32;
    ((ABOUT * cells).floor() + 0.25) / cells
}

/// Everything that is drawn for one map in one frame.
pub(super) struct Canvas<'a> {
    pub map: &'a Heatmap<'a>,
    pub layout: &'a Layout,
    pub projection: Projection,
    pub scale: Scale,
    pub bins: (Bins, Bins),
    pub palette: &'static Palette,
}

impl Canvas<'_> {
    pub fn paint(
        &self,
        ui: &Ui,
        texture: &TextureHandle,
        response: &Response,
        hovered: Option<(usize, usize)>,
    ) {
        let painter = ui.painter();
        let font = TextStyle::Small.resolve(ui.style());
        let inside = ui.painter_at(self.layout.map.intersect(ui.clip_rect()));
        self.cells(&inside, texture);
        if let Some(cell) = hovered {
            self.crosshair(&inside, cell);
        }
        self.selection(painter);
        self.edge(painter, response);
        self.title(ui, &font);
        self.row_texts(painter, &font);
        self.col_texts(painter, &font);
        self.bar(painter, &font);
    }

    fn cells(&self, painter: &Painter, texture: &TextureHandle) {
        let (rows, cols) = self.bins;
        let start = |bins: Bins| bins.first as f64;
        let end = |bins: Bins| (bins.first + bins.count * bins.size) as f64;
        let at = |row, col| pos2(self.projection.x(col), self.projection.y(row));
        let rect = Rect::from_min_max(at(start(rows), start(cols)), at(end(rows), end(cols)));
        let per_point = painter.ctx().pixels_per_point();
        // From pixel to pixel: edges of cells are then Nths of a pixel from a pixel's middle, and a quarter of an Nth moved by the
        // nudge. So no edge meets a middle, where graphics drivers would round differently.
        let rect = rect.round_to_pixels(per_point);
        if !rect.is_positive() {
            return;
        }
        let nudge = vec2(nudge(cols.count), nudge(rows.count)) / (rect.size() * per_point);
        let uv = Rect::from_min_size(nudge.to_pos2(), vec2(1.0, 1.0));
        painter.image(texture.id(), rect, uv, Color32::WHITE);
    }

    /// Frame of the map; it shows the keyboard focus.
    fn edge(&self, painter: &Painter, response: &Response) {
        let stroke = if response.has_focus() {
            Stroke::new(2.0, self.palette.accent)
        } else {
            Stroke::new(1.0, self.palette.border)
        };
        let sharp = CornerRadius::ZERO;
        painter.rect_stroke(self.layout.map, sharp, stroke, StrokeKind::Outside);
    }

    /// Lines through the hovered cell: dark under pale, to be seen on every colour.
    fn crosshair(&self, painter: &Painter, (row, col): (usize, usize)) {
        let map = self.layout.map;
        let cell = self.cell_rect(row, col);
        let lines = [
            (self.palette.shadow.to_opaque(), 3.0, 0.35),
            (theme::DARK.text, 1.0, 0.8),
        ];
        for (colour, width, strength) in lines {
            let stroke = Stroke::new(width, colour.gamma_multiply(strength));
            for range in [map.left()..=cell.left(), cell.right()..=map.right()] {
                painter.hline(range, cell.center().y, stroke);
            }
            for range in [map.top()..=cell.top(), cell.bottom()..=map.bottom()] {
                painter.vline(cell.center().x, range, stroke);
            }
            painter.rect_stroke(cell, 0, stroke, StrokeKind::Outside);
        }
    }

    /// A cell on screen, at least large enough to be framed.
    fn cell_rect(&self, row: usize, col: usize) -> Rect {
        let (r, c) = (row as f64, col as f64);
        let p = &self.projection;
        let rect = Rect::from_min_max(pos2(p.x(c), p.y(r)), pos2(p.x(c + 1.0), p.y(r + 1.0)));
        let grow = |length: f32| (3.0 - length).max(0.0) / 2.0;
        rect.expand2(vec2(grow(rect.width()), grow(rect.height())))
    }

    /// Frames around the selected row and column, with a pointer outside the map.
    fn selection(&self, painter: &Painter) {
        let map = self.layout.map;
        let inside = painter.with_clip_rect(map.expand(2.0).intersect(painter.clip_rect()));
        let frame = |band: Rect| {
            let paper = Stroke::new(1.0, self.palette.surface);
            let accent = Stroke::new(2.0, self.palette.accent);
            inside.rect_stroke(band, 0, paper, StrokeKind::Inside);
            inside.rect_stroke(band, 0, accent, StrokeKind::Outside);
        };
        let (rows, cols) = (self.map.grid.rows(), self.map.grid.cols());
        if let Some(col) = self.map.selected_col.filter(|col| *col < cols) {
            let x_range = self.cell_rect(0, col).x_range();
            frame(Rect::from_x_y_ranges(x_range, map.y_range()));
            if map.x_range().contains(x_range.center()) {
                let tip = pos2(x_range.center(), map.top() - 1.0);
                self.arrow(
                    painter,
                    [tip, tip + vec2(-4.5, -6.0), tip + vec2(4.5, -6.0)],
                );
            }
        }
        if let Some(row) = self.map.selected_row.filter(|row| *row < rows) {
            let y_range = self.cell_rect(row, 0).y_range();
            frame(Rect::from_x_y_ranges(map.x_range(), y_range));
            if map.y_range().contains(y_range.center()) {
                let tip = pos2(map.right() + 1.0, y_range.center());
                self.arrow(painter, [tip, tip + vec2(6.0, -4.5), tip + vec2(6.0, 4.5)]);
            }
        }
    }

    fn arrow(&self, painter: &Painter, corners: [Pos2; 3]) {
        let fill = self.palette.accent;
        painter.add(Shape::convex_polygon(corners.into(), fill, Stroke::NONE));
    }

    /// The title, and how many cells share a pixel where they do.
    fn title(&self, ui: &Ui, font: &FontId) {
        let Some(title) = self.layout.title else {
            return;
        };
        let painter = ui.painter();
        let mut room = title.width() - MENU - 8.0;
        let body = TextStyle::Body.resolve(ui.style());
        let text = self.map.title.to_owned();
        let galley = line(painter, text, &body, self.palette.text, room);
        room -= galley.size().x + 24.0;
        let y = title.center().y;
        let place = Align2::LEFT_CENTER.anchor_size(pos2(title.left(), y), galley.size());
        painter.galley(place.min, galley, self.palette.text);

        let (rows, cols) = self.bins;
        if rows.size > 1 || cols.size > 1 {
            let kind = match self.map.pooling {
                Pooling::Loudest => "loudest",
                Pooling::Mean => "mean",
            };
            let note = format!("1 px = {kind} of {} × {} cells", rows.size, cols.size);
            let galley = line(painter, note, font, self.palette.weak_text, f32::INFINITY);
            if galley.size().x <= room {
                let corner = pos2(title.right() - MENU - 8.0, y);
                let place = Align2::RIGHT_CENTER.anchor_size(corner, galley.size());
                painter.galley(place.min, galley, self.palette.weak_text);
            }
        }
    }

    fn row_texts(&self, painter: &Painter, font: &FontId) {
        let (part, height) = (self.projection.rows, self.layout.map.height());
        if let Some(room) = self.layout.row_labels {
            let chosen = self.map.selected_row;
            let named = self.map.rows.label.is_some();
            for row in marks(part, height, LABEL_PITCH, named, chosen) {
                let y = self.projection.y(row as f64 + 0.5);
                let ink = self.label_ink(chosen == Some(row));
                let galley = line(painter, self.map.rows.label(row), font, ink, room.width());
                let place = Align2::RIGHT_CENTER.anchor_size(pos2(room.right(), y), galley.size());
                painter.galley(place.min, galley, ink);
                let notch = room.right() + 2.0..=self.layout.map.left() - 1.0;
                painter.hline(notch, y, Stroke::new(1.0, self.palette.border));
            }
        }
        if let Some(room) = self.layout.row_name {
            let centre = pos2(room.left() + 7.0, room.center().y);
            self.upright_name(painter, font, self.map.rows.name, room, centre);
        }
    }

    fn label_ink(&self, chosen: bool) -> Color32 {
        if chosen {
            self.palette.accent
        } else {
            self.palette.weak_text
        }
    }

    fn upright_name(&self, painter: &Painter, font: &FontId, name: &str, room: Rect, at: Pos2) {
        let ink = self.palette.text;
        let galley = line(painter, name.to_owned(), font, ink, room.height());
        painter.add(turned(galley, at, Align2::CENTER_CENTER, ink));
    }

    fn col_texts(&self, painter: &Painter, font: &FontId) {
        let map = self.layout.map;
        if let Some(room) = self.layout.col_labels {
            let (len, custom) = (self.map.grid.cols(), self.map.cols.label.is_some());
            let widest = widest(&self.map.cols, len, painter, font);
            let upright = room.height() > 1.5 * font.size;
            let pitch = if upright {
                LABEL_PITCH
            } else {
                widest + LABEL_GAP
            };
            let (part, chosen) = (self.projection.cols, self.map.selected_col);
            for col in marks(part, map.width(), pitch, custom, chosen) {
                let x = self.projection.x(col as f64 + 0.5);
                let ink = self.label_ink(chosen == Some(col));
                let limit = if upright { room.height() } else { pitch };
                let galley = line(painter, self.map.cols.label(col), font, ink, limit);
                let top = pos2(x, room.top());
                if upright {
                    painter.add(turned(galley, top, Align2::RIGHT_CENTER, ink));
                } else {
                    let place = Align2::CENTER_TOP.anchor_size(top, galley.size());
                    painter.galley(place.min, galley, ink);
                }
                let notch = map.bottom() + 1.0..=room.top() - 2.0;
                painter.vline(x, notch, Stroke::new(1.0, self.palette.border));
            }
        }
        if let Some(room) = self.layout.col_name {
            let name = self.map.cols.name.to_owned();
            let galley = line(painter, name, font, self.palette.text, room.width());
            let foot = pos2(room.center().x, room.bottom());
            let place = Align2::CENTER_BOTTOM.anchor_size(foot, galley.size());
            painter.galley(place.min, galley, self.palette.text);
        }
    }

    fn bar(&self, painter: &Painter, font: &FontId) {
        let Some(bar) = self.layout.bar else {
            return;
        };
        painter.add(strip(bar, self.map.colormap, self.palette));
        let border = Stroke::new(1.0, self.palette.border);
        painter.rect_stroke(bar, 0, border, StrokeKind::Outside);
        let ink = self.palette.weak_text;
        if let Some(room) = self.layout.bar_labels {
            for tick in bar_ticks(&self.scale, bar.height()) {
                let y = egui::lerp(bar.bottom()..=bar.top(), tick.position);
                let galley = line(painter, tick.label, font, ink, room.width() + 1.0);
                // Labels at the very ends stay beside the bar.
                let half = galley.size().y / 2.0 - 2.0;
                let y = y.clamp(
                    bar.top() + half,
                    (bar.bottom() - half).max(bar.top() + half),
                );
                let place = Align2::LEFT_CENTER.anchor_size(pos2(room.left(), y), galley.size());
                painter.galley(place.min, galley, ink);
            }
        }
        if let Some(room) = self.layout.bar_name {
            let centre = pos2(room.right() - 7.0, room.center().y);
            self.upright_name(painter, font, self.map.value_name, room, centre);
        }
    }
}

/// Text that reads upwards, with `anchor` of the text at `at`.
fn turned(galley: Arc<Galley>, at: Pos2, anchor: Align2, ink: Color32) -> TextShape {
    let place = anchor.anchor_size(at, galley.size());
    TextShape::new(place.min, galley, ink).with_angle_and_anchor(-FRAC_PI_2, anchor)
}

/// The cells of a part to label, so that neighbours are at least `pitch` points apart.
///
/// Indices go in round steps; names, where no step is rounder than another, as densely as fits.
/// A `chosen` cell gets its label in any case, and takes the place of those too near.
fn marks(
    part: Part,
    length: f32,
    pitch: f32,
    named: bool,
    chosen: Option<usize>,
) -> impl Iterator<Item = usize> {
    let least = f64::from(pitch) * part.span / f64::from(length.max(1.0));
    let step = if named { least } else { round_step(least) };
    let step = step.ceil().max(1.0) as usize;
    let first = (part.start - 0.5).ceil().max(0.0) as usize;
    let end = (part.end() - 0.5).ceil().max(0.0) as usize;
    let chosen = chosen.filter(|cell| (first..end).contains(cell));
    (first.next_multiple_of(step)..end)
        .step_by(step)
        .filter(move |cell| chosen.is_none_or(|c| c.abs_diff(*cell) as f64 >= least))
        .chain(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marked(start: f64, span: f64, pitch: f32, named: bool) -> Vec<usize> {
        marks(Part { start, span }, 100.0, pitch, named, None).collect()
    }

    #[test]
    fn indices_are_marked_in_round_steps() {
        assert_eq!(marked(0.0, 5.0, 20.0, false), [0, 1, 2, 3, 4]);
        assert_eq!(marked(0.0, 16.0, 18.0, false), [0, 5, 10, 15]);
        assert_eq!(marked(100.0, 50.0, 18.0, false), [100, 110, 120, 130, 140]);
    }

    #[test]
    fn names_are_marked_as_densely_as_fits() {
        assert_eq!(marked(0.0, 16.0, 18.0, true), [0, 3, 6, 9, 12, 15]);
        assert_eq!(marked(2.0, 3.0, 18.0, true), [2, 3, 4]);
    }

    #[test]
    fn the_chosen_cell_is_marked_in_any_case() {
        let part = Part {
            start: 0.0,
            span: 16.0,
        };
        let chosen = |cell| marks(part, 100.0, 18.0, false, Some(cell)).collect::<Vec<_>>();
        assert_eq!(chosen(6), [0, 10, 15, 6]);
        assert_eq!(chosen(10), [0, 5, 15, 10]);
        assert_eq!(chosen(99), [0, 5, 10, 15]);
    }

    #[test]
    fn only_cells_whose_middle_shows_are_marked() {
        assert_eq!(marked(0.6, 3.0, 10.0, false), [1, 2, 3]);
    }

    /// Between whole pixels no edge of a cell meets the middle of a pixel, where graphics drivers round differently.
    #[test]
    fn edges_keep_from_the_middles_of_pixels() {
        for cells in [1, 2, 3, 7, 16, 64, 100, 511, 512, 1000] {
            let nudge = f64::from(nudge(cells));
            assert!((0.0..=0.25).contains(&nudge), "{cells} cells: {nudge}");
            for pixels in [1, 15, 64, 333, 512, 768, 777, 1500] {
                let edges = (0..=cells).map(|i| (i * pixels) as f64 / cells as f64 - nudge);
                let nearest = edges
                    .map(|edge| (edge.rem_euclid(1.0) - 0.5).abs())
                    .fold(1.0, f64::min);
                let enough = 0.24 / cells as f64;
                assert!(nearest > enough, "{cells} cells on {pixels}: {nearest}");
            }
        }
    }
}
