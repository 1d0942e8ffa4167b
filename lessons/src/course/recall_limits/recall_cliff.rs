//! A matrix of N slots is told K facts and asked for all of them; attention answers the same questions beside it.

use std::ops::{ControlFlow, RangeInclusive};

use egui::Ui;
use egui_plot::{GridMark, Line, Plot, VLine};
use mambascope_core::job::{JobError, Progress, Workshop};
use mambascope_core::study::Study;
use serde::{Deserialize, Serialize};

use super::memory::{Answers, Facts};
use crate::demo::{Around, Demo, Scene};
use crate::theme;
use crate::widgets::controls::{choice, clamped, columns, controls, picture, share_slider, slider};
use crate::widgets::plots::{
    footnote, guess_point, guess_point_key, line_key, log_axis, log_marks, show_plot, value_axis,
    value_marks,
};
use crate::widgets::{Axis, Colormap, Grid, Heatmap, Scale};

/// The sizes of memory the curves are drawn for.
const SIZES: [usize; 4] = [16, 32, 64, 128];
/// The numbers of facts the curves are drawn for, as powers of two.
const POWERS: RangeInclusive<u32> = 0..=8;
/// Facts in a row of the grid.
const ROW: usize = 16;
/// Questions behind every point of a curve, at least.
const QUESTIONS: usize = 512;

/// Facts in the page's question.
const ASKED_FACTS: f64 = 64.0;

const COUNT: RangeInclusive<usize> = 1..=256;
const DECAY: RangeInclusive<f64> = 0.8..=1.0;
const CORRELATION: RangeInclusive<f64> = 0.0..=0.95;
const SHARPNESS: RangeInclusive<f64> = 1.0..=100.0;
const SEED: RangeInclusive<u64> = 0..=999;

/// The controls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecallCliff {
    /// N.
    slots: usize,
    /// K.
    facts: usize,
    /// What every new fact multiplies the older ones with.
    decay: f64,
    /// Share of the keys that is common to all.
    correlation: f64,
    /// What attention multiplies its scores with.
    sharpness: f64,
    seed: u64,
}

impl Default for RecallCliff {
    fn default() -> Self {
        Self {
            slots: 16,
            facts: 48,
            decay: 1.0,
            correlation: 0.0,
            sharpness: 32.0,
            seed: 1,
        }
    }
}

/// What was remembered.
pub struct Recalled {
    /// The value of every fact.
    wanted_k: Vec<usize>,
    linear: Answers,
    attention: Answers,
    /// For each of [`SIZES`]: log₂ K, share known.
    curves: Vec<Vec<[f64; 2]>>,
    /// Of attention with keys of N numbers.
    attention_curve: Vec<[f64; 2]>,
    /// Tells one answer from another.
    version: u64,
}

impl RecallCliff {
    fn draw(&self, slots: usize, facts: usize, draw: usize) -> Facts {
        let seed = self.seed + 1000 * draw as u64;
        Facts::random(slots, facts, self.correlation, seed)
    }

    /// Share known of each number of facts.
    fn curve(&self, slots: usize, ask: impl Fn(&Facts) -> Answers) -> Vec<[f64; 2]> {
        let point = |power: u32| {
            let facts = 1usize << power;
            let draws = (QUESTIONS / facts).max(2);
            let right: usize = (0..draws)
                .map(|draw| ask(&self.draw(slots, facts, draw)).right())
                .sum();
            [f64::from(power), right as f64 / (facts * draws) as f64]
        };
        POWERS.map(point).collect()
    }

    fn version(&self) -> u64 {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let mut hasher = DefaultHasher::new();
        (self.slots, self.facts, self.seed).hash(&mut hasher);
        for value in [self.decay, self.correlation, self.sharpness] {
            value.to_bits().hash(&mut hasher);
        }
        hasher.finish()
    }
}

impl Study for RecallCliff {
    type Answer = Recalled;

    fn compute(
        &self,
        _: &mut Workshop,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Recalled, JobError> {
        let facts = self.draw(self.slots, self.facts, 0);
        let mut curves = Vec::new();
        for (done, slots) in SIZES.into_iter().enumerate() {
            let what = "curves";
            let total = SIZES.len() + 1;
            if progress(Progress::Count { what, done, total }).is_break() {
                return Err(JobError::Study("stopped before it was done".into()));
            }
            curves.push(self.curve(slots, |facts| facts.ask_linear(self.decay)));
        }
        Ok(Recalled {
            linear: facts.ask_linear(self.decay),
            attention: facts.ask_attention(self.sharpness),
            wanted_k: facts.values_k,
            curves,
            attention_curve: self.curve(self.slots, |facts| facts.ask_attention(self.sharpness)),
            version: self.version(),
        })
    }
}

impl Demo for RecallCliff {
    const ID: &'static str = "recall-cliff";
    const TITLE: &'static str = "How many facts fit into a matrix?";
    type Study = Self;

    fn study(&self, _: &Around) -> Option<Self> {
        Some(self.clone())
    }

    fn ui(&mut self, ui: &mut Ui, scene: &Scene<'_, Recalled>) {
        controls(ui, |ui| {
            choice(
                ui,
                "N, slots of a key",
                &mut self.slots,
                &SIZES.map(|size| (size, slots_text(size))),
            );
            slider(ui, "K, facts", &mut self.facts, COUNT);
            slider(ui, "decay a fact", &mut self.decay, DECAY);
            share_slider(ui, "likeness of keys", &mut self.correlation, CORRELATION);
            slider(ui, "sharpness of attention", &mut self.sharpness, SHARPNESS);
            if ui.button("Other facts").clicked() {
                self.seed = (self.seed + 1) % (SEED.end() + 1);
            }
        });
        columns(ui, 200.0, 2, |column, ui| {
            let Some(answer) = scene.answer else { return };
            let (name, answers) = match column {
                0 => ("Linear memory", &answer.linear),
                _ => ("Softmax attention", &answer.attention),
            };
            grid(ui, name, answers, answer);
        });
        picture(ui, 240.0, |ui| {
            if let Some(answer) = scene.answer {
                self.plot(ui, answer, scene);
            }
        });
        let weak = theme::palette(ui.visuals()).weak_text;
        footnote(
            ui,
            "A cell is a fact, in the order told. Red: the right value was ahead of the best wrong one by so much; blue: it was \
             behind, and the answer wrong. Every point of a curve is 512 questions or more.",
            weak,
        );
    }

    fn clamp(&mut self) {
        if !SIZES.contains(&self.slots) {
            self.slots = SIZES[0];
        }
        self.facts = self.facts.clamp(*COUNT.start(), *COUNT.end());
        self.decay = clamped(self.decay, DECAY);
        self.correlation = clamped(self.correlation, CORRELATION);
        self.sharpness = clamped(self.sharpness, SHARPNESS);
        self.seed = self.seed.min(*SEED.end());
    }

    fn ends() -> Vec<Self> {
        vec![
            Self {
                slots: 16,
                facts: *COUNT.start(),
                decay: *DECAY.start(),
                correlation: *CORRELATION.start(),
                sharpness: *SHARPNESS.start(),
                seed: *SEED.start(),
            },
            Self {
                slots: 128,
                facts: *COUNT.end(),
                decay: *DECAY.end(),
                correlation: *CORRELATION.end(),
                sharpness: *SHARPNESS.end(),
                seed: *SEED.end(),
            },
        ]
    }

    fn live(&self, symbol: &str, _: Option<&Recalled>) -> Option<String> {
        match symbol {
            "N" => Some(self.slots.to_string()),
            "K" => Some(self.facts.to_string()),
            _ => None,
        }
    }
}

fn slots_text(size: usize) -> &'static str {
    match size {
        16 => "16",
        32 => "32",
        64 => "64",
        _ => "128",
    }
}

/// The margin of every fact.
fn grid(ui: &mut Ui, name: &str, answers: &Answers, all: &Recalled) {
    let count = all.wanted_k.len();
    let (cols, rows) = (count.min(ROW), count.div_ceil(ROW));
    let title = format!("{name}: {} of {count} right", answers.right());
    let hover = |row: usize, col: usize, margin: f32| {
        let fact = row * ROW + col;
        match (all.wanted_k.get(fact), answers.named_k.get(fact)) {
            (Some(wanted), Some(named)) => format!(
                "fact {}\nits value: {wanted}\nanswered: {named}\nahead by {}",
                fact + 1,
                crate::widgets::number(margin)
            ),
            _ => "no fact".to_owned(),
        }
    };
    Heatmap::new(name, &title, Grid::row_major(&answers.margin_k, rows, cols))
        .data_version(all.version)
        .rows(Axis::new("row of 16"))
        .cols(Axis::new("fact in its row"))
        .value_name("ahead by")
        .colormap(Colormap::Diverging)
        .scale(Scale::symmetric(1.0))
        .gaps()
        .hover(&hover)
        .height(200.0)
        .scroll_zooms(false)
        .show(ui);
}

impl RecallCliff {
    fn plot(&self, ui: &mut Ui, answer: &Recalled, scene: &Scene<'_, Recalled>) {
        let palette = theme::palette(ui.visuals());
        let [one, two, three, four, attention, ..] = palette.series;
        let colours = [one, two, three, four];
        let guess = scene.guess("recall-of-64");
        let key = |ui: &mut Ui| {
            if guess.is_some() {
                guess_point_key(ui, "your guess for N = 16");
            }
            line_key(ui, attention, "softmax".to_owned());
            for (size, colour) in SIZES.iter().zip(colours).rev() {
                line_key(ui, colour, format!("N = {size}"));
            }
        };
        let marks_x = |_| {
            let mut marks: Vec<GridMark> = log_marks((0.0, 8.0));
            marks.retain(|mark| mark.value.fract() == 0.0);
            marks
        };
        let plot = Plot::new("recall cliff")
            .custom_x_axes(vec![log_axis(ui, true, "facts K", |power| {
                format!("{}", power.exp2().round())
            })])
            .custom_y_axes(vec![value_axis(ui, "share known")])
            .x_grid_spacer(marks_x)
            .y_grid_spacer(value_marks(ui))
            .include_y(0.0)
            .include_y(1.03)
            .include_x(-0.1)
            .include_x(8.1)
            .allow_drag(false)
            .allow_zoom(false)
            .allow_double_click_reset(false);
        let here = (self.facts as f64).log2();
        show_plot(ui, "Share of facts known", key, plot, |plot| {
            plot.vline(VLine::new("K", here).color(palette.weak_text).width(1.0));
            for ((curve, size), colour) in answer.curves.iter().zip(SIZES).zip(colours) {
                let width = if size == self.slots { 3.0 } else { 1.5 };
                let name = format!("linear memory, N = {size}");
                plot.line(Line::new(name, curve.clone()).color(colour).width(width));
            }
            let line = Line::new("softmax attention", answer.attention_curve.clone());
            plot.line(line.color(attention).width(1.5));
            if let Some(guess) = guess {
                plot.points(guess_point([ASKED_FACTS.log2(), guess], palette.accent));
            }
        });
    }
}
