//! A signal to paint, and what four memories of N numbers can give back of it.

use std::ops::{ControlFlow, RangeInclusive};

use egui::{Color32, Ui};
use egui_plot::{AxisHints, Line, PlotPoint};
use mambascope_core::job::{JobError, Progress, Workshop};
use mambascope_core::study::Study;
use serde::{Deserialize, Serialize};

use super::memories::Kind;
use super::signal::{SAMPLES, Start, rounded};
use crate::course::shared::relative_error;
use crate::demo::{Around, Demo, Scene};
use crate::theme::{self, Palette};
use crate::widgets::controls::{clamped, controls, log_slider, picture, slider};
use crate::widgets::number;
use crate::widgets::plots::{
    axis, footnote, line_key, marks, over_tokens, show_plot, value_axis, value_marks,
};

const SLOTS: RangeInclusive<usize> = 4..=128;
const SPAN: RangeInclusive<f64> = 0.25..=16.0;
const VALUE: RangeInclusive<f64> = -1.5..=1.5;

/// The controls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PaintASignal {
    /// Painted samples, oldest first.
    samples: Vec<f64>,
    slots: usize,
    /// Time units the whole signal lasts, for the memories without 1/t.
    span: f64,
    /// Which memories are drawn, in the order of [`Kind::ALL`].
    shown: [bool; 4],
}

impl Default for PaintASignal {
    fn default() -> Self {
        Self {
            samples: Start::Tones.samples(),
            slots: 32,
            span: 4.0,
            shown: [true, true, false, false],
        }
    }
}

/// What the memories give back.
pub struct Readings {
    /// For each memory that is shown.
    found: [Option<Reading>; 4],
}

/// What one memory gives back.
struct Reading {
    /// Sample, value; oldest first.
    line: Vec<[f64; 2]>,
    /// Age in samples, root of the mean squared error around it.
    by_age: Vec<[f64; 2]>,
    /// Over all samples.
    error: f64,
}

/// Samples on either side that the error by age is averaged over.
const AROUND: usize = 6;
/// Room for the names and marks of both y axes, so that a sample stands over its age.
const Y_AXIS: f32 = 54.0;

impl Reading {
    fn new(found_l: &[f64], wanted_l: &[f64]) -> Self {
        let squared: Vec<f64> = found_l
            .iter()
            .zip(wanted_l)
            .map(|(found, wanted)| (found - wanted).powi(2))
            .collect();
        let last = squared.len().saturating_sub(1);
        let near = |i: usize| {
            let part = &squared[i.saturating_sub(AROUND)..(i + AROUND + 1).min(squared.len())];
            (part.iter().sum::<f64>() / part.len() as f64).sqrt()
        };
        let sample = |(i, &value): (usize, &f64)| [i as f64, value];
        Self {
            line: found_l.iter().enumerate().map(sample).collect(),
            by_age: (0..squared.len())
                .map(|i| [(last - i) as f64, near(i)])
                .collect(),
            error: relative_error(found_l, wanted_l),
        }
    }
}

impl Study for PaintASignal {
    type Answer = Readings;

    fn compute(
        &self,
        _: &mut Workshop,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Readings, JobError> {
        let mut found = [None, None, None, None];
        for (done, kind) in Kind::ALL.into_iter().enumerate() {
            let what = "Writing and reading memories";
            let told = Progress::Count {
                what,
                done,
                total: Kind::ALL.len(),
            };
            if progress(told).is_break() {
                return Err(JobError::Study("stopped before it was done".to_owned()));
            }
            if self.shown[done] {
                let read = kind.reconstruct(&self.samples, self.slots, self.span)?;
                found[done] = Some(Reading::new(&read, &self.samples));
            }
        }
        Ok(Readings { found })
    }
}

/// The colour of each memory, in the order of [`Kind::ALL`].
fn colours(palette: &Palette) -> [Color32; 4] {
    let [blue, orange, green, pink, ..] = palette.series;
    [blue, orange, green, pink]
}

impl Demo for PaintASignal {
    const ID: &'static str = "paint-a-signal";
    const TITLE: &'static str = "Paint a past, and read it back from N numbers";
    type Study = Self;

    fn study(&self, _: &Around) -> Option<Self> {
        Some(self.clone())
    }

    fn ui(&mut self, ui: &mut Ui, scene: &Scene<'_, Readings>) {
        controls(ui, |ui| {
            slider(ui, "N, slots", &mut self.slots, SLOTS);
            log_slider(ui, "length in time units", &mut self.span, SPAN);
            for (start, name) in Start::ALL {
                if ui.button(name).clicked() {
                    self.samples = start.samples();
                }
            }
        });
        controls(ui, |ui| {
            for (shown, kind) in self.shown.iter_mut().zip(Kind::ALL) {
                ui.checkbox(shown, kind.title());
            }
        });
        let stroke = picture(ui, 260.0, |ui| self.paint(ui, scene));
        if let Some((from, to)) = stroke {
            self.draw(from, to);
        }
        ui.add_space(6.0);
        picture(ui, 170.0, |ui| errors(ui, scene));
        footnote(
            ui,
            "Drag on the upper plot to paint. The memories without 1/t count time: the length says how much of it passes while the \
             signal is written. Ladder and random A have no polynomials to be read by: theirs is the best linear decoder for white \
             noise, of a state known to about six digits.",
            theme::palette(ui.visuals()).weak_text,
        );
    }

    fn clamp(&mut self) {
        self.samples.resize(SAMPLES, 0.0);
        for sample in &mut self.samples {
            *sample = if sample.is_nan() {
                0.0
            } else {
                clamped(*sample, VALUE)
            };
        }
        self.slots = self.slots.clamp(*SLOTS.start(), *SLOTS.end());
        self.span = clamped(self.span, SPAN);
    }

    fn ends() -> Vec<Self> {
        let at = |samples, slots: &usize, span: &f64, shown| Self {
            samples,
            slots: *slots,
            span: *span,
            shown,
        };
        vec![
            at(
                vec![*VALUE.end(); SAMPLES],
                SLOTS.start(),
                SPAN.start(),
                [false; 4],
            ),
            at(
                vec![*VALUE.start(); SAMPLES],
                SLOTS.end(),
                SPAN.end(),
                [true; 4],
            ),
            at(vec![0.0; SAMPLES], SLOTS.start(), SPAN.end(), [true; 4]),
            at(Start::Noise.samples(), SLOTS.end(), SPAN.start(), [true; 4]),
        ]
    }

    fn live(&self, symbol: &str, _: Option<&Readings>) -> Option<String> {
        (symbol == "N").then(|| self.slots.to_string())
    }
}

impl PaintASignal {
    /// Draws the signal and what is read back of it; gives the two ends of a stroke of the pointer.
    fn paint(&self, ui: &mut Ui, scene: &Scene<'_, Readings>) -> Option<(PlotPoint, PlotPoint)> {
        let palette = theme::palette(ui.visuals());
        let colours = colours(palette);
        let found = scene.answer.map(|answer| &answer.found);
        let shown = || {
            let all = found.into_iter().flatten().zip(Kind::ALL).zip(colours);
            all.filter_map(|((reading, kind), colour)| Some((reading.as_ref()?, kind, colour)))
        };
        let key = |ui: &mut Ui| {
            for (reading, kind, colour) in shown().collect::<Vec<_>>().into_iter().rev() {
                let text = format!("{}: {}", kind.short(), number(two_digits(reading.error)));
                line_key(ui, colour, text);
            }
            line_key(ui, palette.weak_text, "painted".to_owned());
        };
        let plot = over_tokens(ui, "painted signal", "value")
            .custom_x_axes(vec![axis(
                AxisHints::new_x(),
                ui,
                "sample, the newest at the right",
            )])
            .x_grid_spacer(|input| marks(input.bounds, 8.0, 1.0))
            .custom_y_axes(vec![value_axis(ui, "value").min_thickness(Y_AXIS)])
            .default_x_bounds(-2.0, SAMPLES as f64 + 1.0)
            .default_y_bounds(*VALUE.start(), *VALUE.end())
            .auto_bounds([false, false])
            .allow_drag(false)
            .allow_zoom(false)
            .allow_boxed_zoom(false)
            .allow_double_click_reset(false);
        let samples = self.samples.iter().enumerate();
        let painted: Vec<[f64; 2]> = samples.map(|(i, &value)| [i as f64, value]).collect();
        let mut stroke = None;
        show_plot(ui, "Signal, and relative errors", key, plot, |plot| {
            plot.line(
                Line::new("painted", painted)
                    .color(palette.weak_text)
                    .width(3.5),
            );
            for (reading, kind, colour) in shown() {
                plot.line(
                    Line::new(kind.short(), reading.line.clone())
                        .color(colour)
                        .width(1.75),
                );
            }
            let response = plot.response();
            if response.dragged() || response.clicked() {
                let moved = response.drag_delta();
                stroke = response
                    .interact_pointer_pos()
                    .map(|at| (plot.plot_from_screen(at - moved), plot.plot_from_screen(at)));
            }
        });
        stroke
    }

    /// Sets the samples under a stroke.
    fn draw(&mut self, from: PlotPoint, to: PlotPoint) {
        let (left, right) = if from.x <= to.x {
            (from, to)
        } else {
            (to, from)
        };
        let last = SAMPLES as f64 - 1.0;
        if right.x < -0.5 || left.x > last + 0.5 {
            return;
        }
        let first = left.x.round().clamp(0.0, last) as usize;
        let end = right.x.round().clamp(0.0, last) as usize;
        for i in first..=end {
            let part = (i as f64 - left.x) / (right.x - left.x).max(1e-9);
            let value = left.y + (right.y - left.y) * part.clamp(0.0, 1.0);
            if let Some(sample) = self.samples.get_mut(i) {
                *sample = clamped(rounded(value), VALUE);
            }
        }
    }
}

/// Two digits, as a key has room for them.
fn two_digits(value: f64) -> f32 {
    let unit = 10f64.powf(value.abs().max(1e-12).log10().floor() - 1.0);
    ((value / unit).round() * unit) as f32
}

/// Error by age, aligned with the signal over it.
fn errors(ui: &mut Ui, scene: &Scene<'_, Readings>) {
    let palette = theme::palette(ui.visuals());
    let plot = over_tokens(ui, "error by age", "error")
        .custom_x_axes(vec![axis(AxisHints::new_x(), ui, "age, samples ago")])
        .x_grid_spacer(|input| marks(input.bounds, 8.0, 1.0))
        .custom_y_axes(vec![value_axis(ui, "error").min_thickness(Y_AXIS)])
        .y_grid_spacer(value_marks(ui))
        .default_x_bounds(-2.0, SAMPLES as f64 + 1.0)
        .include_y(0.0)
        .include_y(0.5)
        .auto_bounds([false, true])
        .invert_x(true)
        .allow_drag(false)
        .allow_zoom(false)
        .allow_boxed_zoom(false)
        .allow_double_click_reset(false);
    let key = |ui: &mut Ui| {
        ui.label(
            egui::RichText::new("root mean square over 13 samples, colours as above")
                .small()
                .color(palette.weak_text),
        );
    };
    show_plot(ui, "Error by age", key, plot, |plot| {
        let Some(answer) = scene.answer else { return };
        let all = answer.found.iter().zip(Kind::ALL).zip(colours(palette));
        for ((reading, kind), colour) in all {
            let Some(reading) = reading else { continue };
            plot.line(Line::new(kind.short(), reading.by_age.clone()).color(colour));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stroke_sets_every_sample_under_it() {
        let mut demo = PaintASignal {
            samples: vec![0.0; SAMPLES],
            ..PaintASignal::default()
        };
        demo.draw(PlotPoint::new(20.0, 1.0), PlotPoint::new(10.0, 0.0));
        assert_eq!(demo.samples[9..12], [0.0, 0.0, 0.1]);
        assert_eq!(demo.samples[19..22], [0.9, 1.0, 0.0]);
        // A click is a stroke of no length; beyond the edge nothing is painted, above it the edge is.
        demo.draw(PlotPoint::new(100.0, 9.0), PlotPoint::new(100.0, 9.0));
        assert_eq!(demo.samples[100], 1.5);
        let before = demo.clone();
        demo.draw(PlotPoint::new(300.0, 1.0), PlotPoint::new(290.0, 1.0));
        assert_eq!(demo, before);
    }

    #[test]
    fn hostile_controls_come_into_range() {
        let mut demo = PaintASignal {
            samples: vec![f64::NAN; 100_000],
            slots: usize::MAX,
            span: f64::NAN,
            shown: [true; 4],
        };
        demo.clamp();
        assert_eq!(demo.samples, vec![0.0; SAMPLES]);
        assert_eq!((demo.slots, demo.span), (128, 0.25));
    }
}
