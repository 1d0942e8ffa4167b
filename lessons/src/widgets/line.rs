//! Text on a painter, no wider than its place.

use egui::text::{LayoutJob, TextWrapping};
use egui::{Align2, Color32, Pos2, TextStyle, Ui};

/// A line of text that ends in an ellipsis where it does not fit.
pub fn line(
    ui: &Ui,
    at: Pos2,
    anchor: Align2,
    text: &str,
    (style, ink): (TextStyle, Color32),
    width: f32,
) {
    let mut job = LayoutJob::simple_singleline(text.to_owned(), style.resolve(ui.style()), ink);
    job.wrap = TextWrapping::truncate_at_width(width);
    let galley = ui.painter().layout_job(job);
    let place = anchor.anchor_size(at, galley.size());
    ui.painter().galley(place.min, galley, ink);
}
