//! A memory that overflows, and one layer of attention that catches what it lost.

use std::ops::{ControlFlow, RangeInclusive};

use egui::{Align2, Rect, Sense, TextStyle, Ui, WidgetInfo, accesskit::Role, pos2, vec2};
use egui_plot::{HLine, Line, LineStyle, Plot, Points, VLine};
use mambascope_core::job::{JobError, Progress, Workshop};
use mambascope_core::study::Study;
use serde::{Deserialize, Serialize};

use super::composite::{Pairs, VALUES, share};
use crate::demo::{Around, Demo, Scene};
use crate::theme;
use crate::widgets::amounts::count_text;
use crate::widgets::controls::{controls, picture, slider};
use crate::widgets::plots::{axis, footnote, line_key, log_axis, marks, show_plot};

const SLOTS: RangeInclusive<usize> = 4..=128;
const PAIRS: RangeInclusive<usize> = 1..=256;
const WINDOW: RangeInclusive<usize> = 0..=256;
const SEED: RangeInclusive<u64> = 0..=99;
/// Numbers of pairs the curves are measured at.
const COUNTS: [usize; 14] = [1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256];
/// Questions a point of the curves rests on, if so many draws are enough for them.
const QUESTIONS: usize = 384;
const DRAWS: usize = 48;

/// The controls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CompositeRecall {
    slots: usize,
    pairs: usize,
    window: usize,
    seed: u64,
}

impl Default for CompositeRecall {
    fn default() -> Self {
        Self {
            slots: 16,
            pairs: 128,
            window: 32,
            seed: 1,
        }
    }
}

/// What the controls give.
pub struct Recalled {
    /// Which answers were right: of the memory, with a window, with all.
    strips: [Vec<bool>; 3],
    /// Share of right answers over the number of pairs, log2: the same three.
    curves: [Vec<[f64; 2]>; 3],
}

impl Study for CompositeRecall {
    type Answer = Recalled;

    fn compute(
        &self,
        _: &mut Workshop,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Recalled, JobError> {
        let answers = Pairs::new(self.pairs, self.slots, self.seed).ask(self.window);
        let mut curves = [const { Vec::new() }; 3];
        for (done, count) in COUNTS.into_iter().enumerate() {
            let heard = progress(Progress::Count {
                what: "points of the curves",
                done,
                total: COUNTS.len(),
            });
            if heard.is_break() {
                return Err(JobError::Study("stopped before it was done".into()));
            }
            let shares = shares(count, self.slots, self.window, self.seed);
            for (curve, share) in curves.iter_mut().zip(shares) {
                curve.push([(count as f64).log2(), share]);
            }
        }
        Ok(Recalled {
            strips: [answers.memory, answers.window, answers.all],
            curves,
        })
    }
}

/// Shares of right answers of memory, window and all, over several draws.
fn shares(count: usize, slots: usize, window: usize, seed: u64) -> [f64; 3] {
    let draws = QUESTIONS.div_ceil(count).min(DRAWS);
    let mut sums = [0.0; 3];
    for draw in 0..draws {
        let answers = Pairs::new(count, slots, seed + 1000 * (1 + draw as u64)).ask(window);
        let found = [&answers.memory, &answers.window, &answers.all].map(|list| share(list));
        sums.iter_mut().zip(found).for_each(|(sum, x)| *sum += x);
    }
    sums.map(|sum| sum / draws as f64)
}

impl Demo for CompositeRecall {
    const ID: &'static str = "composite-recall";
    const TITLE: &'static str = "A full memory, and one layer of attention";
    type Study = Self;

    fn study(&self, _: &Around) -> Option<Self> {
        Some(self.clone())
    }

    fn ui(&mut self, ui: &mut Ui, scene: &Scene<'_, Recalled>) {
        controls(ui, |ui| {
            slider(ui, "N, memory slots", &mut self.slots, SLOTS);
            slider(ui, "K, pairs written", &mut self.pairs, PAIRS);
            slider(ui, "w, pairs in view", &mut self.window, WINDOW);
            slider(ui, "seed", &mut self.seed, SEED);
        });
        let strips = scene.answer.map(|answer| &answer.strips);
        for (i, (name, kept)) in self.rows().into_iter().enumerate() {
            let answers = strips.map_or(&[][..], |strips| &strips[i][..]);
            self.strip(ui, &name, &kept, answers, i);
        }
        let weak = theme::palette(ui.visuals()).weak_text;
        footnote(
            ui,
            "A cell is a pair, from the first written to the last; it is coloured where the question for its key is answered right.",
            weak,
        );
        picture(ui, 260.0, |ui| self.plot(ui, scene.answer));
        footnote(
            ui,
            &format!(
                "Random keys of length one, {VALUES} values, the nearest one is the answer. A point is measured on about {QUESTIONS} \
                 questions, or on {DRAWS} draws where pairs are few. Nothing is trained."
            ),
            weak,
        );
    }

    fn clamp(&mut self) {
        self.slots = self.slots.clamp(*SLOTS.start(), *SLOTS.end());
        self.pairs = self.pairs.clamp(*PAIRS.start(), *PAIRS.end());
        self.window = self.window.min(*WINDOW.end());
        self.seed = self.seed.min(*SEED.end());
    }

    fn ends() -> Vec<Self> {
        let at = |slots, pairs, window, seed| Self {
            slots,
            pairs,
            window,
            seed,
        };
        vec![
            at(*SLOTS.start(), *PAIRS.end(), *WINDOW.start(), *SEED.start()),
            at(*SLOTS.end(), *PAIRS.start(), *WINDOW.end(), *SEED.end()),
        ]
    }

    fn live(&self, symbol: &str, _: Option<&Recalled>) -> Option<String> {
        match symbol {
            "N" => Some(self.slots.to_string()),
            "K" => Some(self.pairs.to_string()),
            "w" => Some(self.window.to_string()),
            _ => None,
        }
    }
}

impl CompositeRecall {
    /// Name of each reader, and how many numbers it keeps.
    fn rows(&self) -> [(String, String); 3] {
        let state = VALUES * self.slots;
        let seen = self.window.min(self.pairs);
        let kept = |pairs: usize| {
            let numbers = state + 2 * VALUES * pairs;
            format!("{} numbers kept", count_text(numbers as f64))
        };
        [
            ("memory alone".to_owned(), kept(0)),
            (format!("with attention over the last {seen}"), kept(seen)),
            ("with attention over all".to_owned(), kept(self.pairs)),
        ]
    }

    /// One reader's answers as a row of cells, under its name.
    fn strip(&self, ui: &mut Ui, name: &str, kept: &str, answers: &[bool], reader: usize) {
        let palette = theme::palette(ui.visuals());
        let (rect, response) =
            ui.allocate_exact_size(vec2(ui.available_width(), 38.0), Sense::hover());
        let small = TextStyle::Small.resolve(ui.style());
        let score = match answers {
            [] => String::new(),
            answers => format!("{:.0} % right", 100.0 * share(answers)),
        };
        let head = rect.top() + 7.0;
        let painter = ui.painter();
        let write = |x: f32, anchor: Align2, text: &str, ink| {
            painter.text(pos2(x, head), anchor, text, small.clone(), ink);
        };
        write(rect.left(), Align2::LEFT_CENTER, name, palette.text);
        write(
            rect.center().x,
            Align2::CENTER_CENTER,
            kept,
            palette.weak_text,
        );
        write(rect.right(), Align2::RIGHT_CENTER, &score, palette.text);
        let pitch = rect.width() / answers.len().max(1) as f32;
        let gap = if pitch > 4.0 { 1.0 } else { 0.0 };
        for (i, &right) in answers.iter().enumerate() {
            let left = rect.left() + i as f32 * pitch;
            let cell = Rect::from_min_max(
                pos2(left, rect.top() + 16.0),
                pos2(left + pitch - gap, rect.bottom() - 2.0),
            );
            let colour = if right {
                palette.series[reader]
            } else {
                palette.control
            };
            painter.rect_filled(cell, 0, colour);
        }
        let said = format!("{name}: {kept}, {score}");
        response.widget_info(|| WidgetInfo::labeled(Role::Image, true, &said));
    }

    fn plot(&self, ui: &mut Ui, answer: Option<&Recalled>) {
        let palette = theme::palette(ui.visuals());
        let [memory, window, all, ..] = palette.series;
        let names = ["memory alone", "with the window", "with all"];
        let colours = [memory, window, all];
        let key = |ui: &mut Ui| {
            line_key(ui, palette.weak_text, "guessing".to_owned());
            for (name, colour) in names.into_iter().zip(colours) {
                line_key(ui, colour, name.to_owned());
            }
        };
        let pairs_axis = log_axis(ui, true, "K, pairs written", |mark| count_text(mark.exp2()));
        let share_axis = axis(egui_plot::AxisHints::new_y(), ui, "answered right")
            .label_spacing(8.0..=9.0)
            .formatter(|mark, _| format!("{:.0} %", 100.0 * mark.value));
        let plot = Plot::new("recall over pairs")
            .custom_x_axes(vec![pairs_axis])
            .x_grid_spacer(|input| marks(input.bounds, 20.0, 1.0))
            .custom_y_axes(vec![share_axis])
            .y_grid_spacer(|input| marks(input.bounds, 6.0, 0.2))
            .include_y(0.0)
            .include_y(1.05)
            .include_x(0.0)
            .include_x(8.0)
            .allow_drag(false)
            .allow_zoom(false)
            .allow_double_click_reset(false);
        let here = (self.pairs as f64).log2();
        show_plot(ui, "Recall over the number of pairs", key, plot, |plot| {
            plot.vline(VLine::new("K", here).color(palette.weak_text).width(1.0));
            let chance = HLine::new("guessing", 1.0 / VALUES as f64).color(palette.weak_text);
            plot.hline(chance.style(LineStyle::dashed_loose()));
            let Some(answer) = answer else { return };
            let lines = answer.curves.iter().zip(names).zip(colours);
            for ((curve, name), colour) in lines {
                plot.line(Line::new(name, curve.clone()).color(colour).width(2.0));
                let dots = Points::new(format!("{name}, measured"), curve.clone());
                plot.points(dots.color(colour).radius(2.5));
            }
        });
    }
}
