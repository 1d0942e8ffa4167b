//! Two things that finite precision does to a state: in bf16 a slow slot stops leaking, and in any precision a leaky one cannot be
//! run backwards.

use std::ops::{ControlFlow, RangeInclusive};

use egui::Ui;
use egui_plot::{HLine, Line, Plot, VLine};
use mambascope_core::job::{JobError, Progress, Workshop};
use mambascope_core::study::Study;
use serde::{Deserialize, Serialize};

use super::bf16::{Kept, bf16};
use super::rewind::{LOST, rewind_errors, usual_steps};
use crate::demo::{Around, Demo, Scene};
use crate::theme;
use crate::widgets::controls::{clamped, columns, controls, log_slider, slider};
use crate::widgets::number;
use crate::widgets::plots::{
    axis, footnote, guess_key, line_key, log_axis, log_marks, marks, over_tokens, show_plot,
};

/// 1 − decay.
const LEAK: RangeInclusive<f64> = 0.0005..=0.2;
const STEPS: RangeInclusive<usize> = 100..=6000;
/// −ln of the decay that is rewound: Δ·|A|.
const RATE: RangeInclusive<f64> = 0.01..=8.0;
/// Points of a curve on the plot.
const POINTS: usize = 600;
/// Steps back at most.
const BACK: usize = 400;
/// Draws whose median is told.
const DRAWS: u64 = 101;
/// What the logarithmic plot begins with.
const FLOOR: f64 = 1e-9;

/// The controls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FrozenMemory {
    /// 1 − decay of the slot that leaks.
    leak: f64,
    steps: usize,
    /// Δ·|A| of the slot that is rewound.
    rate: f64,
}

impl Default for FrozenMemory {
    fn default() -> Self {
        Self {
            leak: 0.003,
            steps: 3000,
            rate: 1.6,
        }
    }
}

/// What the controls give.
pub struct Frozen {
    /// Curves by what is rounded: token, h; and the last value.
    curves: Vec<(Kept, Vec<[f64; 2]>, f32)>,
    /// The decay, as bf16 holds it.
    rounded: f32,
    /// e^(−rate) and, step by step back, log10 of the error over the state's size.
    decay: f32,
    errors: Vec<[f64; 2]>,
    /// Steps back until lost, median of the draws.
    usual: usize,
}

impl Study for FrozenMemory {
    type Answer = Frozen;

    fn compute(
        &self,
        _: &mut Workshop,
        _: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Frozen, JobError> {
        let slow = (1.0 - self.leak) as f32;
        let stride = self.steps.div_ceil(POINTS).max(1);
        let curves = Kept::ALL.map(|kept| {
            let values = kept.run(slow, self.steps);
            let last = values.last().copied().unwrap_or(1.0);
            let points = values.iter().enumerate().step_by(stride);
            let points = points.map(|(t, &h)| [t as f64, f64::from(h)]).collect();
            (kept, points, last)
        });
        let decay = (-self.rate).exp() as f32;
        let errors = rewind_errors(decay, BACK, 0);
        // Behind a state that is lost a thousand times over there is nothing to see.
        let seen = errors
            .iter()
            .enumerate()
            .take_while(|(_, error)| **error < 1e6);
        Ok(Frozen {
            curves: curves.into(),
            rounded: bf16(slow),
            decay,
            errors: seen
                .map(|(t, &error)| [t as f64, error.max(FLOOR).log10()])
                .collect(),
            usual: usual_steps(decay, BACK, DRAWS),
        })
    }
}

impl Demo for FrozenMemory {
    const ID: &'static str = "frozen-memory";
    const TITLE: &'static str = "A memory that freezes, and one that cannot be rewound";
    type Study = Self;

    fn study(&self, _: &Around) -> Option<Self> {
        Some(self.clone())
    }

    fn ui(&mut self, ui: &mut Ui, scene: &Scene<'_, Frozen>) {
        controls(ui, |ui| {
            log_slider(ui, "leak, 1 − decay", &mut self.leak, LEAK);
            slider(ui, "tokens", &mut self.steps, STEPS);
            log_slider(ui, "Δ·|A| to rewind", &mut self.rate, RATE);
        });
        let Some(answer) = scene.answer else {
            ui.add_space(400.0);
            return;
        };
        columns(ui, 320.0, 2, |i, ui| match i {
            0 => self.freezing(ui, answer, scene.guess("bf16-stuck")),
            _ => rewinding(ui, answer, scene.guess("rewind-steps")),
        });
        let weak = theme::palette(ui.visuals()).weak_text;
        let lasts: Vec<String> = answer
            .curves
            .iter()
            .map(|(kept, _, last)| format!("{} {}", kept.title(), number(*last)))
            .collect();
        footnote(
            ui,
            &format!(
                "Left: decay {}, which bf16 holds as {}. After {} tokens: {}.",
                number((1.0 - self.leak) as f32),
                number(answer.rounded),
                self.steps,
                lasts.join(", ")
            ),
            weak,
        );
        let lost = if answer.usual >= BACK {
            format!("It is not lost within {BACK} steps (median of {DRAWS} draws).")
        } else {
            format!(
                "It is lost after {} steps (median of {DRAWS} draws).",
                answer.usual
            )
        };
        footnote(
            ui,
            &format!(
                "Right: Ā = {}, all in f32, random input; lost means off by more than a tenth of the state's usual size. {lost}",
                number(answer.decay)
            ),
            weak,
        );
    }

    fn clamp(&mut self) {
        self.leak = clamped(self.leak, LEAK);
        self.steps = self.steps.clamp(*STEPS.start(), *STEPS.end());
        self.rate = clamped(self.rate, RATE);
    }

    fn ends() -> Vec<Self> {
        let at = |leak: f64, steps: usize, rate: f64| Self { leak, steps, rate };
        vec![
            at(*LEAK.start(), *STEPS.start(), *RATE.start()),
            at(*LEAK.end(), *STEPS.end(), *RATE.end()),
        ]
    }
}

impl FrozenMemory {
    fn freezing(&self, ui: &mut Ui, answer: &Frozen, guess: Option<f64>) {
        let palette = theme::palette(ui.visuals());
        let series = palette.series;
        let key = |ui: &mut Ui| {
            if guess.is_some() {
                guess_key(ui);
            }
            for (i, (kept, ..)) in answer.curves.iter().enumerate().rev() {
                line_key(ui, series[i], kept.title().to_owned());
            }
        };
        let plot = over_tokens(ui, "freezing", "h, first 1")
            .x_grid_spacer(|input| marks(input.bounds, 5.0, 1.0))
            .include_y(0.0)
            .include_y(1.05)
            .allow_drag(false)
            .allow_zoom(false)
            .allow_double_click_reset(false);
        show_plot(ui, "A slot leaks", key, plot, |plot| {
            for (i, (kept, points, _)) in answer.curves.iter().enumerate() {
                let line = Line::new(kept.title(), points.clone()).color(series[i]);
                plot.line(line.width(2.0));
            }
            if let Some(guess) = guess {
                plot.hline(HLine::new("your guess", guess).color(palette.accent));
            }
        });
    }
}

fn rewinding(ui: &mut Ui, answer: &Frozen, guess: Option<f64>) {
    let palette = theme::palette(ui.visuals());
    let [colour, ..] = palette.series;
    let key = |ui: &mut Ui| {
        if guess.is_some() {
            guess_key(ui);
        }
        line_key(ui, palette.warning, "lost".to_owned());
        line_key(ui, colour, "error".to_owned());
    };
    let power = |log: f64| format!("1e{}", log.round()).replace('-', "\u{2212}");
    let x = axis(egui_plot::AxisHints::new_x(), ui, "steps back");
    let plot = Plot::new("rewinding")
        .custom_x_axes(vec![x])
        .x_grid_spacer(|input| marks(input.bounds, 6.0, 1.0))
        .custom_y_axes(vec![log_axis(
            ui,
            false,
            "error / size of the state",
            power,
        )])
        .y_grid_spacer(|input| log_marks(input.bounds))
        .include_y(FLOOR.log10())
        .include_y(1.0)
        .include_x(0.0)
        .include_x(4.0)
        .allow_drag(false)
        .allow_zoom(false)
        .allow_double_click_reset(false);
    show_plot(ui, "A slot is rewound", key, plot, |plot| {
        plot.hline(HLine::new("lost", LOST.log10()).color(palette.warning));
        if let Some(guess) = guess {
            plot.vline(VLine::new("your guess", guess).color(palette.accent));
        }
        plot.line(
            Line::new("error", answer.errors.clone())
                .color(colour)
                .width(2.0),
        );
    });
}
