//! Horizontal bars for the probabilities of what may come next.

use egui::accesskit::Role;
use egui::text::{LayoutJob, TextWrapping};
use egui::{
    Align2, Color32, FontId, Galley, Painter, Rect, Response, Sense, Shape, Stroke, TextStyle, Ui,
    UiBuilder, WidgetInfo, pos2, vec2,
};
use std::sync::Arc;

use crate::theme::{self, Palette};

/// From one bar to the next.
const PITCH: f32 = 24.0;
/// Thickness of a bar.
const THICKNESS: f32 = 12.0;
/// Between label, bar and percentage.
const GAP: f32 = 10.0;
/// Room for "100.0 %".
const PERCENT: f32 = 54.0;
/// Room for the check mark.
const CHECK: f32 = 20.0;

/// One row of [`Bars`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bar<'a> {
    /// The text in front, usually a token.
    pub label: &'a str,
    /// A share of one.
    pub value: f32,
    /// Whether this is the one that came: it gets the accent and a check mark.
    pub came: bool,
}

impl Bar<'_> {
    /// The share as a percentage, with enough digits to tell rare from rarer.
    fn percent(&self) -> String {
        let percent = self.value * 100.0;
        match percent {
            p if !p.is_finite() => "–".to_owned(),
            p if p == 0.0 || p >= 0.1 => format!("{p:.1} %"),
            p if p >= 0.001 => format!("{p:.3} %"),
            _ => "<0.001 %".to_owned(),
        }
    }
}

/// A list of labelled bars; the full width is a probability of one.
#[must_use = "a widget does nothing until it is shown"]
pub struct Bars<'a> {
    title: &'a str,
    bars: &'a [Bar<'a>],
}

impl<'a> Bars<'a> {
    /// Bars in the order given, named `title` for those who hear the page.
    pub fn new(title: &'a str, bars: &'a [Bar<'a>]) -> Self {
        Self { title, bars }
    }

    /// Draw the bars over the available width.
    pub fn show(&self, ui: &mut Ui) -> Response {
        let palette = theme::palette(ui.visuals());
        let font = TextStyle::Monospace.resolve(ui.style());
        let size = vec2(ui.available_width(), self.bars.len() as f32 * PITCH);
        let (_, outer) = ui.allocate_space(size);
        let list = UiBuilder::new()
            .id_salt(self.title)
            .max_rect(outer)
            .accessibility_role(Role::List)
            .accessibility_label(self.title);
        let ui = &mut ui.new_child(list);
        let label_width = self.label_width(ui.painter(), &font, outer.width());
        for (i, bar) in self.bars.iter().enumerate() {
            let top = outer.top() + i as f32 * PITCH;
            let row = Rect::from_min_size(pos2(outer.left(), top), vec2(outer.width(), PITCH));
            if ui.is_rect_visible(row) {
                paint(ui.painter(), bar, row, label_width, &font, palette);
            }
            let response = ui.interact(row, ui.unique_id().with(i), Sense::hover());
            let came = if bar.came { ", came" } else { "" };
            let name = format!("{} {}{came}", bar.label, bar.percent());
            response.widget_info(|| WidgetInfo::labeled(Role::ListItem, true, &name));
        }
        ui.interact(outer, ui.unique_id().with("whole"), Sense::hover())
    }

    /// The width of the widest label, but never more than a third of the whole.
    fn label_width(&self, painter: &Painter, font: &FontId, width: f32) -> f32 {
        let widest = self.bars.iter().map(|bar| {
            line(
                painter,
                bar.label,
                font,
                Color32::PLACEHOLDER,
                f32::INFINITY,
            )
            .size()
            .x
        });
        widest.fold(0.0, f32::max).min(width / 3.0)
    }
}

fn line(painter: &Painter, text: &str, font: &FontId, ink: Color32, width: f32) -> Arc<Galley> {
    let mut job = LayoutJob::simple_singleline(text.to_owned(), font.clone(), ink);
    job.wrap = TextWrapping::truncate_at_width(width);
    painter.layout_job(job)
}

fn paint(
    painter: &Painter,
    bar: &Bar<'_>,
    row: Rect,
    label_width: f32,
    font: &FontId,
    palette: &Palette,
) {
    let y = row.center().y;
    let ink = if bar.came {
        palette.accent
    } else {
        palette.text
    };
    let label = line(painter, bar.label, font, ink, label_width);
    let at = pos2(row.left() + label_width, y);
    let place = Align2::RIGHT_CENTER.anchor_size(at, label.size());
    painter.galley(place.min, label, ink);

    let left = row.left() + label_width + GAP;
    let right = row.right() - PERCENT - CHECK - GAP;
    if right > left {
        let track = Rect::from_x_y_ranges(left..=right, y - THICKNESS / 2.0..=y + THICKNESS / 2.0);
        painter.rect_filled(track, 3, palette.control);
        let share = bar.value.clamp(0.0, 1.0);
        if share > 0.0 {
            // At least a sliver, so that rare does not look like never.
            let width = (track.width() * share).max(2.0);
            let fill = Rect::from_min_size(track.min, vec2(width, track.height()));
            let colour = if bar.came {
                palette.accent
            } else {
                palette.series[7]
            };
            painter.rect_filled(fill, 3, colour);
        }
    }
    let percent = line(painter, &bar.percent(), font, ink, f32::INFINITY);
    let place = Align2::RIGHT_CENTER.anchor_size(pos2(row.right() - CHECK, y), percent.size());
    painter.galley(place.min, percent, ink);
    if bar.came {
        let corner = pos2(row.right() - CHECK + 8.0, y);
        let tick = [vec2(0.0, 0.5), vec2(3.5, 4.0), vec2(10.0, -4.5)].map(|by| corner + by);
        painter.add(Shape::line(tick.into(), Stroke::new(2.0, palette.accent)));
    }
}

#[cfg(test)]
mod tests {
    use super::Bar;

    #[test]
    fn percentages_tell_rare_from_rarer() {
        let percent = |value| {
            let bar = Bar {
                label: "",
                value,
                came: false,
            };
            bar.percent()
        };
        assert_eq!(percent(0.4213), "42.1 %");
        assert_eq!(percent(1.0), "100.0 %");
        assert_eq!(percent(0.00042), "0.042 %");
        assert_eq!(percent(1e-9), "<0.001 %");
        assert_eq!(percent(0.0), "0.0 %");
        assert_eq!(percent(f32::NAN), "–");
    }
}
