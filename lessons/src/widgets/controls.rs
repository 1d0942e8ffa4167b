//! The controls of demos: sliders in a row, a choice of a few, room for a picture.

use std::ops::RangeInclusive;

use egui::emath::Numeric;
use egui::{Align, Layout, Response, Slider, Ui, UiBuilder, vec2};

/// Width of a slider with its name and its value.
const KNOB: f32 = 290.0;

/// Controls side by side, wrapped where they do not fit.
pub fn controls<R>(ui: &mut Ui, contents: impl FnOnce(&mut Ui) -> R) -> R {
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing = vec2(16.0, 6.0);
        contents(ui)
    })
    .inner
}

/// A slider with its name behind it.
pub fn slider<N: Numeric>(
    ui: &mut Ui,
    name: &str,
    value: &mut N,
    range: RangeInclusive<N>,
) -> Response {
    knob(ui, Slider::new(value, range).text(name))
}

/// A slider over several powers of ten.
pub fn log_slider<N: Numeric>(
    ui: &mut Ui,
    name: &str,
    value: &mut N,
    range: RangeInclusive<N>,
) -> Response {
    knob(
        ui,
        Slider::new(value, range)
            .text(name)
            .logarithmic(true)
            .max_decimals(4),
    )
}

/// A slider in room of its own, as wide as all, so that the line is broken between two of them.
fn knob(ui: &mut Ui, slider: Slider<'_>) -> Response {
    let size = vec2(KNOB, ui.spacing().interact_size.y);
    let layout = Layout::left_to_right(Align::Center);
    ui.allocate_ui_with_layout(size, layout, |ui| {
        ui.set_min_width(KNOB);
        ui.spacing_mut().item_spacing.x = 8.0;
        ui.spacing_mut().slider_width = 110.0;
        ui.add(slider)
    })
    .inner
}

/// A choice of a few, each with its name, behind the name of the choice.
pub fn choice<T: PartialEq + Copy>(ui: &mut Ui, name: &str, value: &mut T, choices: &[(T, &str)]) {
    ui.horizontal(|ui| {
        ui.spacing_mut().item_spacing.x = 6.0;
        if !name.is_empty() {
            ui.label(name);
        }
        for &(choice, text) in choices {
            ui.selectable_value(value, choice, text);
        }
    });
}

/// Room of this height over the whole width, for one picture.
pub fn picture<R>(ui: &mut Ui, height: f32, contents: impl FnOnce(&mut Ui) -> R) -> R {
    let (rect, _) =
        ui.allocate_exact_size(vec2(ui.available_width(), height), egui::Sense::hover());
    let mut room = ui.new_child(UiBuilder::new().max_rect(rect));
    contents(&mut room)
}

/// Room of this height, cut into `count` equal columns with a gap between them.
pub fn columns<R>(
    ui: &mut Ui,
    height: f32,
    count: usize,
    mut contents: impl FnMut(usize, &mut Ui) -> R,
) {
    const GAP: f32 = 16.0;
    picture(ui, height, |ui| {
        let all = ui.max_rect();
        let width = (all.width() - GAP * (count.max(1) - 1) as f32) / count.max(1) as f32;
        for i in 0..count {
            let left = all.left() + i as f32 * (width + GAP);
            let rect = egui::Rect::from_min_size(egui::pos2(left, all.top()), vec2(width, height));
            let mut room = ui.new_child(UiBuilder::new().max_rect(rect));
            contents(i, &mut room);
        }
    });
}

/// A value into its range; the lower end where it is not a number.
pub fn clamped(value: f64, range: RangeInclusive<f64>) -> f64 {
    if value.is_nan() {
        *range.start()
    } else {
        value.clamp(*range.start(), *range.end())
    }
}
