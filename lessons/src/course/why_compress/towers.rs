//! Towers of bytes beside each other, to one scale.

use egui::accesskit::Role;
use egui::{Align2, Color32, Rect, Sense, TextStyle, Ui, WidgetInfo, pos2, vec2};

use crate::theme;
use crate::widgets::amounts::bytes_text;
use crate::widgets::line::line;

/// What a tower is made of.
pub struct Part {
    /// What it is.
    pub name: &'static str,
    /// How much.
    pub bytes: f64,
    /// Its colour.
    pub colour: Color32,
}

/// A tower, its parts from the ground up.
pub struct Tower {
    /// Whose it is.
    pub name: &'static str,
    /// Its parts.
    pub parts: Vec<Part>,
}

impl Tower {
    fn bytes(&self) -> f64 {
        self.parts.iter().map(|part| part.bytes).sum()
    }
}

/// Room over the towers for the title, the key and the numbers, and under them for the names.
const HEAD: f32 = 74.0;
const FOOT: f32 = 38.0;
/// Most width of a tower.
const WIDTH: f32 = 84.0;

/// What the whole height stands for, so that a tower of `still` bytes does not shrink with every byte of a taller one: `still`,
/// doubled until the tallest has room.
fn reach(still: f64, most: f64) -> f64 {
    if !(still >= 1.0 && most > still) {
        return most;
    }
    still * (most / still).log2().ceil().exp2()
}

/// Draws towers into the room left. The one of `still` bytes keeps its height until another outgrows the room, and then halves it.
pub fn towers(ui: &mut Ui, title: &str, still: f64, towers: &[Tower]) {
    let palette = theme::palette(ui.visuals());
    let (rect, response) = ui.allocate_exact_size(ui.available_size(), Sense::hover());
    let most = reach(still, towers.iter().map(Tower::bytes).fold(1.0, f64::max));
    line(
        ui,
        rect.left_top() + vec2(0.0, 13.0),
        Align2::LEFT_CENTER,
        title,
        (TextStyle::Body, palette.text),
        rect.width(),
    );
    key(ui, rect.left_top() + vec2(0.0, 36.0), towers);
    let ground = rect.bottom() - FOOT;
    let room = ground - rect.top() - HEAD;
    let pitch = rect.width() / towers.len().max(1) as f32;
    ui.painter().hline(
        rect.x_range(),
        ground,
        egui::Stroke::new(1.0, palette.border),
    );
    for (i, tower) in towers.iter().enumerate() {
        let centre = rect.left() + (i as f32 + 0.5) * pitch;
        let half = WIDTH.min(0.7 * pitch) / 2.0;
        let scale = room / most as f32;
        let top = stand(ui, &tower.parts, pos2(centre, ground), half, scale);
        let above = pos2(centre, top - 4.0);
        line(
            ui,
            above,
            Align2::CENTER_BOTTOM,
            &bytes_text(tower.bytes()),
            (TextStyle::Body, palette.text),
            pitch,
        );
        let below = pos2(centre, ground + 6.0);
        line(
            ui,
            below,
            Align2::CENTER_TOP,
            tower.name,
            (TextStyle::Small, palette.weak_text),
            pitch - 4.0,
        );
    }
    let said = said(title, towers);
    response.widget_info(|| WidgetInfo::labeled(Role::Image, true, &said));
    response.on_hover_text(said);
}

/// Draws the parts of a tower on each other, from the ground up; gives its top.
fn stand(ui: &Ui, parts: &[Part], ground: egui::Pos2, half: f32, scale: f32) -> f32 {
    let mut top = ground.y;
    for part in parts {
        let mut height = part.bytes as f32 * scale;
        if part.bytes > 0.0 {
            // A sliver, so that little does not look like nothing.
            height = height.max(1.0);
        }
        let (left, right) = (ground.x - half, ground.x + half);
        let block = Rect::from_min_max(pos2(left, top - height), pos2(right, top));
        ui.painter().rect_filled(block, 1, part.colour);
        top -= height;
    }
    top
}

/// What the colours are, each once, in a line.
fn key(ui: &Ui, at: egui::Pos2, towers: &[Tower]) {
    let palette = theme::palette(ui.visuals());
    let font = TextStyle::Small.resolve(ui.style());
    let mut left = at.x;
    let mut seen: Vec<Color32> = Vec::new();
    for part in towers.iter().flat_map(|tower| &tower.parts) {
        if part.bytes == 0.0 || seen.contains(&part.colour) {
            continue;
        }
        seen.push(part.colour);
        let square = Rect::from_center_size(pos2(left + 4.0, at.y), vec2(8.0, 8.0));
        ui.painter().rect_filled(square, 1, part.colour);
        let place = pos2(left + 13.0, at.y);
        let ink = palette.weak_text;
        let drawn = ui
            .painter()
            .text(place, Align2::LEFT_CENTER, part.name, font.clone(), ink);
        left = drawn.right() + 14.0;
    }
}

/// All numbers, for who hears the page or rests the pointer on it.
fn said(title: &str, towers: &[Tower]) -> String {
    let mut text = title.to_owned();
    for tower in towers {
        text += &format!("\n{}:", tower.name);
        for part in tower.parts.iter().filter(|part| part.bytes > 0.0) {
            text += &format!(" {} {};", part.name, bytes_text(part.bytes));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tower_that_does_not_grow_stands_still() {
        assert_eq!(reach(8.0, 8.0), 8.0);
        assert_eq!([9.0, 12.0, 16.0].map(|most| reach(8.0, most)), [16.0; 3]);
        assert_eq!(reach(8.0, 17.0), 32.0);
        // Without a state there is nothing to stand still.
        assert_eq!(reach(0.0, 17.0), 17.0);
    }
}
