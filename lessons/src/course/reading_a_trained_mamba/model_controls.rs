//! Controls that several demos about the open model share.

use std::ops::RangeInclusive;

use egui::{TextEdit, Ui};

use crate::widgets::controls::slider;

/// A line for the text the model reads, of at most so many characters.
pub(in crate::course) fn text_to_read(ui: &mut Ui, text: &mut String, most: usize) {
    let edit = TextEdit::singleline(text)
        .char_limit(most)
        .desired_width(f32::INFINITY);
    ui.add(edit).widget_info(|| {
        egui::WidgetInfo::labeled(egui::accesskit::Role::TextInput, true, "text to read")
    });
}

/// A slider whose range depends on the model or the text: it shows the value brought into range, and changes it only when moved, so
/// that a preset made for a larger model is kept.
pub(in crate::course) fn capped(
    ui: &mut Ui,
    name: &str,
    value: &mut usize,
    range: RangeInclusive<usize>,
) {
    let mut shown = (*value).clamp(*range.start(), (*range.end()).max(*range.start()));
    if slider(ui, name, &mut shown, range).changed() {
        *value = shown;
    }
}
