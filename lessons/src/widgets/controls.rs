//! The controls of demos: sliders in a row, a choice of a few, room for a picture.

use std::ops::RangeInclusive;

use egui::emath::Numeric;
use egui::{Align, Layout, Response, Slider, TextStyle, Ui, UiBuilder, vec2};

/// Width of a slider with its name and its value: three of them stand side by side in the column of a page.
const KNOB: f32 = 278.0;
/// Of that: the rail, a gap on either side of the value, and the value.
const RAIL: f32 = 92.0;
const GAP: f32 = 8.0;
const VALUE: f32 = 46.0;
/// What is left for the name.
const NAME: f32 = KNOB - RAIL - VALUE - 2.0 * GAP;

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
    knob(ui, name, Slider::new(value, range).text(name))
}

/// A slider of a share, in percent.
pub fn share_slider(
    ui: &mut Ui,
    name: &str,
    share: &mut f64,
    range: RangeInclusive<f64>,
) -> Response {
    let percent = |share: f64, _: RangeInclusive<usize>| format!("{:.0} %", 100.0 * share);
    let typed = |text: &str| Some(text.trim_end_matches('%').trim().parse::<f64>().ok()? / 100.0);
    let slider = Slider::new(share, range)
        .text(name)
        .step_by(0.01)
        .custom_formatter(percent)
        .custom_parser(typed);
    knob(ui, name, slider)
}

/// A slider over several powers of ten; of whole numbers where `N` is.
pub fn log_slider<N: Numeric>(
    ui: &mut Ui,
    name: &str,
    value: &mut N,
    range: RangeInclusive<N>,
) -> Response {
    let slider = Slider::new(value, range).text(name).logarithmic(true);
    // Whole numbers have no decimals already, and this would give them some.
    let slider = if N::INTEGRAL {
        slider
    } else {
        slider.max_decimals(4)
    };
    knob(ui, name, slider)
}

/// A slider over several powers of ten, of whole numbers in whatever type.
pub fn whole_log_slider<N: Numeric>(
    ui: &mut Ui,
    name: &str,
    value: &mut N,
    range: RangeInclusive<N>,
) -> Response {
    let slider = Slider::new(value, range).text(name).logarithmic(true);
    knob(ui, name, slider.integer())
}

/// A slider in room of its own, as wide as all, so that the line is broken between two of them and they stand in columns. One with
/// a long name has the room of two.
fn knob(ui: &mut Ui, name: &str, slider: Slider<'_>) -> Response {
    let font = TextStyle::Body.resolve(ui.style());
    let colour = ui.visuals().text_color();
    let galley = ui.painter().layout_no_wrap(name.to_owned(), font, colour);
    let width = if galley.size().x > NAME {
        2.0 * KNOB + ui.spacing().item_spacing.x
    } else {
        KNOB
    };
    let size = vec2(width, ui.spacing().interact_size.y);
    let layout = Layout::left_to_right(Align::Center);
    ui.allocate_ui_with_layout(size, layout, |ui| {
        ui.set_min_width(width);
        ui.spacing_mut().item_spacing.x = GAP;
        ui.spacing_mut().slider_width = RAIL;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_keeps_the_columns() {
        let ctx = egui::Context::default();
        let mut output = ctx.run_ui(egui::RawInput::default(), |ui| {
            let mut value = 3usize;
            let mut left = |ui: &mut Ui, name: &str| {
                let response = ui.scope(|ui| slider(ui, name, &mut value, 1..=9)).response;
                response.rect.width()
            };
            controls(ui, |ui| {
                ui.set_width(900.0);
                let short = left(ui, "N, slots");
                let long = left(ui, "a name that goes on and on for longer than a column");
                assert_eq!(short, KNOB);
                assert_eq!(long, 2.0 * KNOB + 16.0);
            });
        });
        output.textures_delta.clear();
    }
}
