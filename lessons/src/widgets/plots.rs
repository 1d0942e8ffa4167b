//! The measures and colours all plots share.

use super::number;
use crate::theme;
use egui::accesskit::Role;
use egui::{
    Align, Align2, Color32, Layout, Rect, RichText, TextStyle, Ui, UiBuilder, WidgetInfo, vec2,
};
use egui_plot::{AxisHints, GridInput, GridMark, Line, MarkerShape, Plot, PlotUi, Points};

/// Height of the line with a plot's title, and the room under it: as a heatmap has them, so that neighbours line up.
const TITLE: f32 = 26.0;
const TITLE_GAP: f32 = 8.0;
/// What the labels and the name of the x axis take of a plot's height.
const X_AXIS: f32 = 38.0;

/// A plot whose x axis counts tokens.
pub fn over_tokens<'a>(ui: &Ui, name: &'static str, value: &'a str) -> Plot<'a> {
    Plot::new(name)
        .custom_x_axes(vec![axis(AxisHints::new_x(), ui, "token")])
        .x_grid_spacer(|input| marks(input.bounds, 8.0, 1.0))
        .custom_y_axes(vec![value_axis(ui, value)])
        .y_grid_spacer(value_marks(ui))
}

/// An axis with its name; labels are shown or not, never half faded.
pub fn axis<'a>(hints: AxisHints<'a>, ui: &Ui, name: &str) -> AxisHints<'a> {
    hints
        .label(name)
        .label_spacing(24.0..=25.0)
        .tick_label_color(theme::palette(ui.visuals()).weak_text)
}

/// A y axis: its marks are as far apart as they should be, so all are labelled.
pub fn value_axis<'a>(ui: &Ui, name: &str) -> AxisHints<'a> {
    axis(AxisHints::new_y(), ui, name)
        .label_spacing(8.0..=9.0)
        .formatter(|mark, _| number(mark.value as f32))
}

/// Marks for a y axis of the height that is left in `ui`.
pub fn value_marks(ui: &Ui) -> impl Fn(GridInput) -> Vec<GridMark> + use<> {
    /// From one label to the next, in points.
    const PITCH: f32 = 22.0;
    let height = ui.available_height() - TITLE - TITLE_GAP - X_AXIS;
    let most = f64::from((height / PITCH).clamp(2.0, 10.0));
    move |input| {
        // One mark tells no scale: better some too many than that.
        let tried = [most, 2.0 * most, 4.0 * most].map(|most| marks(input.bounds, most, 0.0));
        let found = tried.into_iter().find(|marks| marks.len() > 1);
        found.unwrap_or_default()
    }
}

/// Grid marks in steps of 1, 2 or 5 times a power of ten, about `most` of them and no closer than `least`.
pub fn marks((from, to): (f64, f64), most: f64, least: f64) -> Vec<GridMark> {
    let rough = ((to - from) / most).max(least);
    if !(rough.is_finite() && rough > 0.0) {
        return Vec::new();
    }
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .map(|factor| factor * power)
        .into_iter()
        .find(|&step| step >= rough * (1.0 - 1e-9))
        .unwrap_or(10.0 * power);
    let first = (from / step).ceil();
    (0..64)
        .map(|i| (first + f64::from(i)) * step)
        .take_while(|&value| value <= to)
        .map(|value| GridMark {
            value,
            step_size: step,
        })
        .collect()
}

/// Shows a plot in the room left, in the measures and colours all plots share: its title and `key`, which explains its
/// colours, over it.
pub fn show_plot<'a>(
    ui: &mut Ui,
    title: &str,
    key: impl FnOnce(&mut Ui),
    plot: Plot<'a>,
    draw: impl FnOnce(&mut PlotUi<'a>) + 'a,
) {
    let outer = ui.available_rect_before_wrap();
    let head = Rect::from_min_size(outer.min, vec2(outer.width(), TITLE));
    let right = Layout::right_to_left(Align::Center);
    let mut line = ui.new_child(UiBuilder::new().max_rect(head).layout(right));
    key(&mut line);
    // Painted, like a heatmap's: the plot below has it as its name, and nobody wants to hear it twice.
    let room = line.available_rect_before_wrap();
    let text = egui::WidgetText::from(title);
    let cut = Some(egui::TextWrapMode::Truncate);
    let galley = text.into_galley(&line, cut, room.width(), TextStyle::Body);
    let at = Align2::LEFT_CENTER.anchor_size(room.left_center(), galley.size());
    line.painter()
        .galley(at.min, galley, theme::palette(line.visuals()).text);
    let body = outer.with_min_y(head.bottom() + TITLE_GAP);
    let mut ui = ui.new_child(UiBuilder::new().max_rect(body));
    // egui_plot writes its axes in the body style; heatmaps label theirs smaller.
    let small = TextStyle::Small.resolve(ui.style());
    ui.style_mut().text_styles.insert(TextStyle::Body, small);
    let grid = theme::palette(ui.visuals()).border;
    let shown = plot
        .height(body.height())
        .width(body.width())
        .allow_scroll(false)
        .grid_color(grid)
        .show(&mut ui, draw);
    shown
        .response
        .widget_info(|| WidgetInfo::labeled(Role::Image, true, title));
}

/// What a line of this colour is.
pub fn line_key(ui: &mut Ui, colour: Color32, text: String) {
    ui.label(
        RichText::new(text)
            .small()
            .color(theme::palette(ui.visuals()).weak_text),
    );
    let (rect, _) = ui.allocate_exact_size(vec2(16.0, 8.0), egui::Sense::hover());
    let stroke = egui::Stroke::new(2.0, colour);
    ui.painter().hline(rect.x_range(), rect.center().y, stroke);
}

/// What the line in the colour of guesses is.
pub fn guess_key(ui: &mut Ui) {
    let accent = theme::palette(ui.visuals()).accent;
    line_key(ui, accent, "your guess".to_owned());
}

/// A guess that is one point of a plot: a diamond, which no curve has.
pub fn guess_point(at: [f64; 2], accent: Color32) -> Points<'static> {
    Points::new("your guess", vec![at])
        .color(accent)
        .shape(MarkerShape::Diamond)
        .radius(6.0)
}

/// What that diamond is a guess of.
pub fn guess_point_key(ui: &mut Ui, text: &str) {
    let palette = theme::palette(ui.visuals());
    footnote(ui, text, palette.weak_text);
    let (rect, _) = ui.allocate_exact_size(vec2(12.0, 12.0), egui::Sense::hover());
    let (middle, reach) = (rect.center(), 5.0);
    let corners = [(0.0, -reach), (reach, 0.0), (0.0, reach), (-reach, 0.0)];
    let corners = corners.map(|(x, y)| middle + vec2(x, y));
    ui.painter().add(egui::Shape::convex_polygon(
        corners.to_vec(),
        palette.accent,
        egui::Stroke::NONE,
    ));
}

/// One curve for each of some layers, which are counted among all blocks; `more` is drawn over them.
pub fn of_layers(
    ui: &mut Ui,
    title: &str,
    plot: Plot<'_>,
    curves: &[(usize, Vec<[f64; 2]>)],
    more: impl FnOnce(&mut PlotUi<'_>),
) {
    let palette = theme::palette(ui.visuals());
    let colour = |i: usize| palette.series[i % palette.series.len()];
    // Of a deep model the key would not fit: the curves then go unnamed but for the pointer.
    let named = curves.len() <= 8;
    let key = |ui: &mut Ui| {
        if named {
            for (i, (layer, _)) in curves.iter().enumerate().rev() {
                line_key(ui, colour(i), layer.to_string());
            }
        }
        footnote(ui, "layers", palette.weak_text);
    };
    show_plot(ui, title, key, plot, |plot| {
        for (i, (layer, points)) in curves.iter().enumerate() {
            let line = Line::new(format!("layer {layer}"), points.clone());
            plot.line(line.color(colour(i)).width(1.5));
        }
        more(plot);
    });
}

/// A logarithmic axis: its marks stand at powers of ten, named by `text` of the logarithm.
pub fn log_axis<'a>(
    ui: &Ui,
    is_x: bool,
    name: &str,
    text: impl Fn(f64) -> String + 'a,
) -> AxisHints<'a> {
    let hints = if is_x {
        AxisHints::new_x()
    } else {
        AxisHints::new_y()
    };
    axis(hints, ui, name)
        .label_spacing(8.0..=9.0)
        .formatter(move |mark, _| text(mark.value))
}

/// Marks at every whole number of a logarithmic axis.
pub fn log_marks((from, to): (f64, f64)) -> Vec<GridMark> {
    marks((from, to), 40.0, 1.0)
}

/// Room for the small print under a plot: two lines.
const NOTE: f32 = 32.0;

/// The room for a plot, and that for small print under it.
pub fn over_note(ui: &mut Ui) -> (Ui, Ui) {
    let outer = ui.available_rect_before_wrap();
    let edge = outer.bottom() - NOTE;
    let part = |ui: &mut Ui, rect: Rect| ui.new_child(UiBuilder::new().max_rect(rect));
    let above = part(ui, outer.with_max_y(edge - 4.0));
    (above, part(ui, outer.with_min_y(edge)))
}

/// What a menu that shows only its choice is for.
pub fn named_menu(menu: &egui::Response, name: &str) {
    menu.widget_info(|| WidgetInfo::labeled(Role::ComboBox, true, name));
}

/// Small print.
pub fn footnote(ui: &mut Ui, text: &str, colour: Color32) {
    ui.label(RichText::new(text).small().color(colour));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(bounds: (f64, f64), most: f64, least: f64) -> Vec<f64> {
        let found = marks(bounds, most, least);
        found.into_iter().map(|mark| mark.value).collect()
    }

    #[test]
    fn marks_are_round_and_few() {
        assert_eq!(values((-0.1, 2.4), 4.0, 0.0), [0.0, 1.0, 2.0]);
        assert_eq!(values((0.0, 720.0), 4.0, 0.0), [0.0, 200.0, 400.0, 600.0]);
        assert_eq!(values((0.0, 3.0), 8.0, 1.0), [0.0, 1.0, 2.0, 3.0]);
        assert!(values((0.0, 0.0), 4.0, 0.0).is_empty());
        assert!(values((f64::NAN, 1.0), 4.0, 0.0).is_empty());
    }

    #[test]
    fn a_y_axis_has_two_labels_at_least() {
        let ctx = egui::Context::default();
        let mut output = ctx.run_ui(egui::RawInput::default(), |ui| {
            for height in [60.0, 168.0, 400.0, 975.0] {
                ui.set_max_height(height);
                let spacer = value_marks(ui);
                for top in [0.037, 0.9, 1.1, 1.96, 2.1, 4.99, 7.3, 720.0, 99_000.0] {
                    let marks = spacer(GridInput {
                        bounds: (-0.05 * top, top),
                        base_step_size: 1.0,
                    });
                    assert!(marks.len() > 1, "{height} {top}: {marks:?}");
                    assert!(marks.len() < 24, "{height} {top}: {marks:?}");
                }
            }
        });
        output.textures_delta.clear();
    }
}
