//! The time of a scan over the length of the text, measured on the reader's machine: a loop, a tree, the kernel's chunks, the fast
//! backend, a graphics card where there is one; against attention.

use std::ops::ControlFlow;

use egui::{Color32, Sense, Stroke, Ui, vec2};
use egui_plot::{Line, PlotPoints, Points};
use mambascope_core::job::{JobError, Progress, Workshop};
use mambascope_core::study::Study;
use serde::{Deserialize, Serialize};

use super::stopwatch::{CHANNELS, RUNS, Row, SHORTEST, SLOTS, Way, measure};
use crate::demo::{Around, Demo, Scene};
use crate::theme::{self, Palette};
use crate::widgets::controls::{choice, controls, picture};
use crate::widgets::number;
use crate::widgets::plots::{footnote, log_axis, log_marks, show_plot};

const LONGEST: [(usize, &str); 5] = [
    (1024, "1,024"),
    (2048, "2,048"),
    (4096, "4,096"),
    (8192, "8,192"),
    (16384, "16,384"),
];
/// Measurements that can be told apart; then the count begins again.
const MOST_RUNS: u32 = 1000;

/// The controls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SpeedLadder {
    longest: usize,
    /// Counts the measurements asked for: another number is another job.
    run: u32,
}

impl Default for SpeedLadder {
    fn default() -> Self {
        Self {
            longest: 4096,
            run: 0,
        }
    }
}

impl Study for SpeedLadder {
    type Answer = Vec<Row>;

    fn compute(
        &self,
        workshop: &mut Workshop,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Vec<Row>, JobError> {
        measure(self.longest, workshop, progress)
    }
}

impl Demo for SpeedLadder {
    const ID: &'static str = "speed-ladder";
    const TITLE: &'static str = "Measured here: time over length";
    type Study = Self;

    fn study(&self, _: &Around) -> Option<Self> {
        Some(self.clone())
    }

    fn ui(&mut self, ui: &mut Ui, scene: &Scene<'_, Vec<Row>>) {
        controls(ui, |ui| {
            choice(ui, "Longest text, tokens", &mut self.longest, &LONGEST);
            if ui.button("Measure again").clicked() {
                self.run = (self.run + 1) % MOST_RUNS;
            }
        });
        picture(ui, 300.0, |ui| {
            if let Some(rows) = scene.answer {
                plot(ui, rows);
            }
        });
        picture(ui, 176.0, |ui| {
            if let Some(rows) = scene.answer {
                table(ui, rows);
            }
        });
        let weak = theme::palette(ui.visuals()).weak_text;
        // A line is there in every case, so that nothing moves.
        footnote(ui, &not_measured(scene.answer), weak);
        footnote(
            ui,
            &format!(
                "One text, {CHANNELS} channels, {SLOTS} slots, f32; attention with a head of {CHANNELS} channels. The quickest of up to {RUNS} runs each, on this machine, while it may have other things to do. Times of a graphics card include the copies there and back."
            ),
            weak,
        );
    }

    fn clamp(&mut self) {
        let near = LONGEST
            .iter()
            .min_by_key(|choice| choice.0.abs_diff(self.longest));
        self.longest = near.map_or(SHORTEST, |choice| choice.0);
        self.run %= MOST_RUNS;
    }

    fn ends() -> Vec<Self> {
        vec![
            Self {
                longest: 1024,
                run: 0,
            },
            Self {
                longest: 16384,
                run: MOST_RUNS - 1,
            },
        ]
    }

    fn live(&self, symbol: &str, _: Option<&Vec<Row>>) -> Option<String> {
        (symbol == "L").then(|| self.longest.to_string())
    }
}

fn colour(way: Way, palette: &Palette) -> Color32 {
    match way {
        Way::Attention => palette.series[7],
        way => palette.series[way as usize % palette.series.len()],
    }
}

fn plot(ui: &mut Ui, rows: &[Row]) {
    let palette = theme::palette(ui.visuals());
    let key = |ui: &mut Ui| {
        let last = rows
            .iter()
            .filter_map(|row| row.times.last())
            .map(|last| last.0);
        let text = last.max().map_or(String::new(), |most| {
            format!("dots: measured, up to {most} tokens; lines join them")
        });
        ui.label(egui::RichText::new(text).small().color(palette.weak_text));
    };
    let power = |log: f64| format!("{:.0}", 10f64.powf(log));
    let seconds = |log: f64| match log.round() as i32 {
        log @ -9..=-7 => format!("{} ns", 10u64.pow((log + 9) as u32)),
        log @ -6..=-4 => format!("{} µs", 10u64.pow((log + 6) as u32)),
        log @ -3..=-1 => format!("{} ms", 10u64.pow((log + 3) as u32)),
        _ => format!("{:.0} s", 10f64.powf(log)),
    };
    let plot = egui_plot::Plot::new("speed ladder")
        .custom_x_axes(vec![log_axis(ui, true, "L, tokens", power)])
        .x_grid_spacer(|input| doublings(input.bounds))
        .custom_y_axes(vec![log_axis(ui, false, "time", seconds)])
        .y_grid_spacer(|input| log_marks(input.bounds))
        .allow_drag(false)
        .allow_zoom(false)
        .allow_double_click_reset(false)
        .show_x(false)
        .show_y(false);
    show_plot(ui, "Time of one pass", key, plot, |plot| {
        for row in rows {
            let colour = colour(row.way, palette);
            let dots = || -> PlotPoints<'static> {
                let times = row.times.iter();
                times
                    .map(|&(tokens, seconds)| [(tokens as f64).log10(), seconds.max(1e-9).log10()])
                    .collect()
            };
            let name = row.way.name();
            plot.line(Line::new(name, dots()).color(colour).width(1.5));
            plot.points(
                Points::new(name, dots())
                    .color(colour)
                    .radius(5.0 - 0.5 * row.way as usize as f32),
            );
        }
    });
}

/// Marks at the lengths that are measured.
fn doublings((from, to): (f64, f64)) -> Vec<egui_plot::GridMark> {
    (0..20)
        .map(|power| (SHORTEST as f64 * 2f64.powi(power)).log10())
        .filter(|log| (from..=to).contains(log))
        .map(|value| egui_plot::GridMark {
            value,
            step_size: 1.0,
        })
        .collect()
}

/// A line a way: what it took for the longest text, how it grows, how far its answer is from the loop's.
fn table(ui: &mut Ui, rows: &[Row]) {
    let palette = theme::palette(ui.visuals());
    let base = rows
        .iter()
        .find(|row| row.way == Way::Loop)
        .and_then(|row| row.times.last())
        .map(|last| last.1);
    let small = |text: String| egui::RichText::new(text).small();
    egui::Grid::new("speed ladder table")
        .num_columns(6)
        .spacing([18.0, 4.0])
        .min_row_height(20.0)
        .show(ui, |ui| {
            for name in [
                "",
                "way",
                "longest text",
                "loop = 1",
                "grows as",
                "y off by",
            ] {
                ui.label(small(name.to_owned()).color(palette.weak_text));
            }
            ui.end_row();
            for row in rows {
                swatch(ui, colour(row.way, palette));
                ui.label(small(row.way.name().to_owned()));
                if let Some(&(_, seconds)) = row.times.last() {
                    ui.label(small(duration(seconds)));
                    let share = base.map_or(String::new(), |base| number((seconds / base) as f32));
                    ui.label(small(share));
                    let slope = row.slope.map(|slope| format!("L^{slope:.2}"));
                    ui.label(small(slope.unwrap_or_default()));
                    let off = row.off.map(|off| format!("{off:.1e}"));
                    ui.label(small(off.unwrap_or_else(|| "\u{2013}".to_owned())));
                } else {
                    let told = small("not measured".to_owned());
                    ui.label(told.color(palette.weak_text));
                    for _ in 0..3 {
                        ui.label(small("\u{2013}".to_owned()));
                    }
                }
                ui.end_row();
            }
        });
}

/// Why a way has no times.
fn not_measured(rows: Option<&Vec<Row>>) -> String {
    let reason = |row: &Row| {
        let reason = row.reason.as_ref()?;
        Some(format!("{}: not measured. {reason}", row.way.name()))
    };
    rows.into_iter()
        .flatten()
        .find_map(reason)
        .unwrap_or_default()
}

/// A stroke of the line's colour.
fn swatch(ui: &mut Ui, colour: Color32) {
    let (rect, _) = ui.allocate_exact_size(vec2(18.0, 14.0), Sense::hover());
    let stroke = Stroke::new(2.5, colour);
    ui.painter().hline(rect.x_range(), rect.center().y, stroke);
}

/// Seconds in the unit that fits.
fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 1e-3 => format!("{:.0} µs", s * 1e6),
        s if s < 1.0 => format!("{:.1} ms", s * 1e3),
        s => format!("{s:.2} s"),
    }
}
