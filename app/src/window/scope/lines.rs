//! The panels that are lines and bars rather than maps: state norms, half-lives, surprise.

use egui::{Color32, Rect, RichText, Ui, vec2};
use egui_plot::{AxisHints, Bar, BarChart, HLine, HoverPosition, Line, Plot, PlotPoints, VLine};
use mambascope_lessons::widgets::{Colormap, number};

use super::ScopePage;
use super::panels::{Scene, named};
use super::pictures::Histogram;
use crate::window::palette;
use mambascope_lessons::widgets::plots::{
    axis, line_key, marks, over_tokens, show_plot, value_axis, value_marks,
};

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
        let of_heads = self.pictures.delta_of == "head";
        let token = named(&self.pictures.texts, scene.focus);
        let Some(histogram) = self
            .pictures
            .half_life(scene.watched, scene.model, scene.focus)
        else {
            return;
        };
        let title = format!("Half-life, layer {layer}, token {token}");
        // In Mamba-2 all slots and channels of a head forget at one pace.
        let counted = match of_heads {
            true => "heads",
            false => "channel–slot pairs",
        };
        let colours = palette(ui);
        let bar = |&(log, count): &(f64, usize)| {
            Bar::new(log, count as f64).width(Histogram::WIDTH * 0.92)
        };
        let chart = BarChart::new("pairs", histogram.bars.iter().map(bar).collect())
            .color(colours.series[0]);
        let chart = chart.element_formatter(Box::new(move |bar, _| {
            let edge =
                |side: f64| number(10f64.powf(bar.argument + side * Histogram::WIDTH / 2.0) as f32);
            format!(
                "{} to {} tokens\n{} {counted}",
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
            .custom_y_axes(vec![value_axis(ui, counted)])
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

/// Where the token looked at is.
fn token_marker(ui: &Ui, scene: &Scene<'_>) -> VLine {
    VLine::new("token looked at", scene.focus as f64)
        .color(palette(ui).accent)
        .width(1.0)
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
