//! The panels that are lines and bars rather than maps: state norms, half-lives, surprise.

use egui::accesskit::Role;
use egui::{
    Align, Align2, Color32, Layout, Rect, RichText, TextStyle, Ui, UiBuilder, WidgetInfo, vec2,
};
use egui_plot::{
    AxisHints, Bar, BarChart, GridInput, GridMark, HLine, HoverPosition, Line, Plot, PlotPoints,
    VLine,
};
use mambascope_lessons::widgets::{Colormap, number};

use super::ScopePage;
use super::panels::{Scene, named};
use super::pictures::Histogram;
use crate::window::palette;

/// Height of the line with a plot's title, and the room under it: as a heatmap has them, so that neighbours line up.
const TITLE: f32 = 26.0;
const TITLE_GAP: f32 = 8.0;
/// What the labels and the name of the x axis take of a plot's height.
const X_AXIS: f32 = 38.0;

impl ScopePage {
    pub(super) fn norms(&self, ui: &mut Ui, scene: &Scene<'_>) {
        let slots = self.pictures.norms.len();
        let title = format!("State norm of each slot, layer {}", scene.watched.layer);
        let line = |(n, points): (usize, &Vec<[f64; 2]>)| {
            Line::new(format!("slot {n}"), PlotPoints::from(points.clone()))
                .color(slot_colour(ui, n, slots))
                .width(1.3)
        };
        let lines: Vec<Line<'_>> = self.pictures.norms.iter().enumerate().map(line).collect();
        let marker = token_marker(ui, scene);
        let plot = over_tokens(ui, "norms", "‖h[·, slot]‖").label_formatter(|hover| match hover {
            HoverPosition::NearDataPoint {
                plot_name,
                position,
                ..
            } => Some(format!(
                "{plot_name}\ntoken {:.0}\n‖h‖ {}",
                position.x,
                number(position.y as f32)
            )),
            HoverPosition::Elsewhere { .. } => None,
        });
        let key = |ui: &mut Ui| slot_key(ui, slots);
        show_plot(ui, &title, key, plot, |plot| {
            for line in lines {
                plot.line(line);
            }
            plot.vline(marker);
        });
    }

    pub(super) fn half_life(&mut self, ui: &mut Ui, scene: &Scene<'_>) {
        let layer = scene.watched.layer;
        let token = named(&self.pictures.texts, scene.focus);
        let Some(histogram) = self
            .pictures
            .half_life(scene.watched, scene.model, scene.focus)
        else {
            return;
        };
        let title = format!("Half-life, layer {layer}, token {token}");
        let colours = palette(ui);
        let bar = |&(log, count): &(f64, usize)| {
            Bar::new(log, count as f64).width(Histogram::WIDTH * 0.92)
        };
        let chart = BarChart::new("pairs", histogram.bars.iter().map(bar).collect())
            .color(colours.series[0]);
        let chart = chart.element_formatter(Box::new(|bar, _| {
            let edge =
                |side: f64| number(10f64.powf(bar.argument + side * Histogram::WIDTH / 2.0) as f32);
            format!(
                "{} to {} tokens\n{} pairs",
                edge(-1.0),
                edge(1.0),
                bar.value
            )
        }));
        let median = histogram.median;
        let colour = colours.series[1];
        let marker = VLine::new("median", median.log10()).color(colour);
        let plot = Plot::new("half-life")
            .custom_x_axes(vec![
                axis(AxisHints::new_x(), ui, "half-life ln 2 / (Δ·|A|) (tokens)")
                    .formatter(|mark, _| number(10f64.powf(mark.value) as f32)),
            ])
            .custom_y_axes(vec![value_axis(ui, "channel–slot pairs")])
            .x_grid_spacer(|input| marks(input.bounds, 40.0, 1.0))
            .y_grid_spacer(value_marks(ui))
            .label_formatter(|_| None);
        let text = format!("median {} tokens", number(median as f32));
        let key = |ui: &mut Ui| line_key(ui, colour, text);
        show_plot(ui, &title, key, plot, |plot| {
            plot.bar_chart(chart);
            plot.vline(marker);
        });
    }

    pub(super) fn surprise(&self, ui: &mut Ui, scene: &Scene<'_>) {
        let colours = palette(ui);
        let watched = scene.watched;
        let surprises = (watched.first..).zip(&watched.records);
        let points: Vec<[f64; 2]> = surprises
            .filter_map(|(token, record)| {
                record
                    .surprise
                    .map(|surprise| [token as f64, f64::from(surprise)])
            })
            .collect();
        let mean = points.iter().map(|point| point[1]).sum::<f64>() / points.len() as f64;
        let texts = &self.pictures.texts;
        let line = Line::new("surprise", PlotPoints::from(points))
            .color(colours.series[0])
            .width(1.3);
        let marker = token_marker(ui, scene);
        let colour = colours.series[1];
        let level = HLine::new("mean", mean).color(colour);
        let plot = over_tokens(ui, "surprise", "−ln p (nats)")
            .include_y(0.0)
            .label_formatter(|hover| match hover {
                HoverPosition::NearDataPoint { position, .. } => {
                    let token = named(texts, position.x as usize);
                    Some(format!(
                        "token {token}\n−ln p {} nats",
                        number(position.y as f32)
                    ))
                }
                HoverPosition::Elsewhere { .. } => None,
            });
        let key = |ui: &mut Ui| {
            if mean.is_finite() {
                line_key(ui, colour, format!("mean {} nats", number(mean as f32)));
            }
        };
        show_plot(ui, "Surprise −ln p of each token", key, plot, |plot| {
            plot.line(line);
            if mean.is_finite() {
                plot.hline(level);
            }
            plot.vline(marker);
        });
    }
}

/// A plot whose x axis counts tokens.
fn over_tokens<'a>(ui: &Ui, name: &'static str, value: &'a str) -> Plot<'a> {
    Plot::new(name)
        .custom_x_axes(vec![axis(AxisHints::new_x(), ui, "token")])
        .x_grid_spacer(|input| marks(input.bounds, 8.0, 1.0))
        .custom_y_axes(vec![value_axis(ui, value)])
        .y_grid_spacer(value_marks(ui))
}

/// Where the token looked at is.
fn token_marker(ui: &Ui, scene: &Scene<'_>) -> VLine {
    VLine::new("token looked at", scene.focus as f64)
        .color(palette(ui).accent)
        .width(1.0)
}

/// An axis with its name; labels are shown or not, never half faded.
fn axis<'a>(hints: AxisHints<'a>, ui: &Ui, name: &str) -> AxisHints<'a> {
    hints
        .label(name)
        .label_spacing(24.0..=25.0)
        .tick_label_color(palette(ui).weak_text)
}

/// A y axis: its marks are as far apart as they should be, so all are labelled.
fn value_axis<'a>(ui: &Ui, name: &str) -> AxisHints<'a> {
    axis(AxisHints::new_y(), ui, name)
        .label_spacing(8.0..=9.0)
        .formatter(|mark, _| number(mark.value as f32))
}

/// Marks for a y axis of the height that is left in `ui`.
fn value_marks(ui: &Ui) -> impl Fn(GridInput) -> Vec<GridMark> + use<> {
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
fn marks((from, to): (f64, f64), most: f64, least: f64) -> Vec<GridMark> {
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
fn show_plot<'a>(
    ui: &mut Ui,
    title: &str,
    key: impl FnOnce(&mut Ui),
    plot: Plot<'a>,
    draw: impl FnOnce(&mut egui_plot::PlotUi<'a>) + 'a,
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
    line.painter().galley(at.min, galley, palette(&line).text);
    let body = outer.with_min_y(head.bottom() + TITLE_GAP);
    let mut ui = ui.new_child(UiBuilder::new().max_rect(body));
    // egui_plot writes its axes in the body style; heatmaps label theirs smaller.
    let small = TextStyle::Small.resolve(ui.style());
    ui.style_mut().text_styles.insert(TextStyle::Body, small);
    let grid = palette(&ui).border;
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
fn line_key(ui: &mut Ui, colour: Color32, text: String) {
    ui.label(RichText::new(text).small().color(palette(ui).weak_text));
    let (rect, _) = ui.allocate_exact_size(vec2(16.0, 8.0), egui::Sense::hover());
    let stroke = egui::Stroke::new(2.0, colour);
    ui.painter().hline(rect.x_range(), rect.center().y, stroke);
}

/// The colour of slot `n`: viridis without the end that the background would swallow.
fn slot_colour(ui: &Ui, n: usize, slots: usize) -> Color32 {
    let share = n as f32 / (slots.max(2) - 1) as f32;
    let shade = if ui.visuals().dark_mode {
        0.25 + 0.75 * share
    } else {
        0.85 * share
    };
    Colormap::Viridis.color(shade, palette(ui))
}

/// Which colour is which slot.
fn slot_key(ui: &mut Ui, slots: usize) {
    let text = |text: String| RichText::new(text).small().color(palette(ui).weak_text);
    let (first, last) = (
        text("slot 0".to_owned()),
        text(slots.saturating_sub(1).to_string()),
    );
    ui.label(last);
    let (rect, _) = ui.allocate_exact_size(vec2(72.0, 8.0), egui::Sense::hover());
    let width = rect.width() / slots.max(1) as f32;
    for n in 0..slots {
        let cell = Rect::from_min_size(
            rect.min + vec2(n as f32 * width, 0.0),
            vec2(width, rect.height()),
        );
        ui.painter()
            .rect_filled(cell, 0.0, slot_colour(ui, n, slots));
    }
    ui.label(first);
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
