//! The layers of a stack as a strip of two rows: what mixes tokens, and what works on each alone. A click changes a half.

use egui::{
    Align2, Color32, Rect, Sense, StrokeKind, TextStyle, Ui, WidgetInfo, accesskit::Role, pos2,
    vec2,
};

use super::stack::{Feed, Mixer, Stack};
use crate::theme::{self, Palette};

/// Height of a row.
const ROW: f32 = 30.0;
/// Room for the numbers of the layers.
const NUMBERS: f32 = 16.0;
/// Between two layers.
const GAP: f32 = 2.0;

/// The colour of a mixer.
pub fn mixer_colour(mixer: Mixer, palette: &Palette) -> Color32 {
    match mixer {
        Mixer::None => palette.control,
        Mixer::Mamba => palette.series[0],
        Mixer::Attention => palette.series[1],
    }
}

/// The colour of a second half.
pub fn feed_colour(feed: Feed, palette: &Palette) -> Color32 {
    match feed {
        Feed::None => palette.control,
        Feed::Mlp => palette.series[7],
        Feed::Experts => palette.series[4],
    }
}

/// Draws the strip over the whole width and lets its halves be clicked.
pub fn strip(ui: &mut Ui, stack: &mut Stack) {
    let size = vec2(ui.available_width(), 2.0 * ROW + GAP + NUMBERS);
    let (rect, _) = ui.allocate_exact_size(size, Sense::hover());
    let pitch = rect.width() / stack.0.len().max(1) as f32;
    for (i, layer) in stack.0.iter_mut().enumerate() {
        let left = rect.left() + i as f32 * pitch;
        let cell = |row: f32| {
            let top = rect.top() + row * (ROW + GAP);
            Rect::from_min_size(pos2(left, top), vec2(pitch - GAP, ROW))
        };
        let palette = theme::palette(ui.visuals());
        let mixer = (layer.mixer.title(), mixer_colour(layer.mixer, palette));
        if half(ui, cell(0.0), (i, 0), mixer) {
            layer.mixer = layer.mixer.next();
        }
        let feed = (layer.feed.title(), feed_colour(layer.feed, palette));
        if half(ui, cell(1.0), (i, 1), feed) {
            layer.feed = layer.feed.next();
        }
        if i % 8 == 7 || i == 0 {
            let at = pos2(left + (pitch - GAP) / 2.0, rect.bottom());
            let font = TextStyle::Small.resolve(ui.style());
            let number = (i + 1).to_string();
            ui.painter()
                .text(at, Align2::CENTER_BOTTOM, number, font, palette.weak_text);
        }
    }
}

/// One half of a layer; says whether it was clicked.
fn half(
    ui: &Ui,
    rect: Rect,
    (layer, row): (usize, usize),
    (title, colour): (&str, Color32),
) -> bool {
    let id = ui.scope_id().with(("layer", layer, row));
    let response = ui.interact(rect, id, Sense::click());
    let name = match row {
        0 => format!("layer {}, mixer: {title}", layer + 1),
        _ => format!("layer {}, then: {title}", layer + 1),
    };
    response.widget_info(|| WidgetInfo::labeled(Role::Button, true, &name));
    ui.painter().rect_filled(rect, 3, colour);
    if response.hovered() || response.has_focus() {
        let stroke = egui::Stroke::new(2.0, theme::palette(ui.visuals()).text);
        ui.painter()
            .rect_stroke(rect, 3, stroke, StrokeKind::Inside);
    }
    let clicked = response.clicked();
    response.on_hover_text(name);
    clicked
}
