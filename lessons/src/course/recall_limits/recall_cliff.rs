//! A matrix of N slots is told K facts and asked for all of them; attention answers the same questions beside it. The facts are
//! drawn at random, or typed.

use std::ops::{ControlFlow, RangeInclusive};

use egui::Ui;
use egui_plot::{GridMark, Line, Plot, VLine};
use mambascope_core::job::{JobError, Progress, Workshop};
use mambascope_core::study::Study;
use serde::{Deserialize, Serialize};

use super::memory::{Answers, Facts};
use super::typed::{CHARACTERS, HEIGHT, Memories, OF_A_KEY, Typed, candidates, fields, tidy};
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

/// Where the facts come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Source {
    Drawn,
    Typed,
}

/// The controls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RecallCliff {
    /// Whose facts are told.
    source: Source,
    /// The reader's own, "key=value key=value".
    pairs: String,
    /// Which of their keys is asked for.
    asked: String,
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
            source: Source::Drawn,
            pairs: "cat=3 dog=7 hen=2 fox=9 owl=5 cow=1 bee=8 elk=4 ant=6 bat=3 eel=7 pig=2"
                .to_owned(),
            asked: "cat".to_owned(),
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
    /// What the reader told and asked; none of facts that are drawn.
    typed: Option<Typed>,
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
        (self.source == Source::Typed, &self.pairs).hash(&mut hasher);
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
        if self.source == Source::Typed {
            return Ok(self.recall_typed());
        }
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
            typed: None,
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
        let sources = [
            (Source::Drawn, "drawn at random"),
            (Source::Typed, "your own"),
        ];
        controls(ui, |ui| {
            choice(ui, "Facts", &mut self.source, &sources);
            let other = match self.source {
                Source::Drawn => "Other facts",
                Source::Typed => "Other vectors",
            };
            if ui.button(other).clicked() {
                self.seed = (self.seed + 1) % (SEED.end() + 1);
            }
        });
        let is_typed = self.source == Source::Typed;
        controls(ui, |ui| {
            choice(
                ui,
                "N, slots of a key",
                &mut self.slots,
                &SIZES.map(|size| (size, slots_text(size))),
            );
            if !is_typed {
                slider(ui, "K, facts", &mut self.facts, COUNT);
            }
            slider(ui, "decay a fact", &mut self.decay, DECAY);
            share_slider(ui, "likeness of keys", &mut self.correlation, CORRELATION);
            slider(ui, "sharpness of attention", &mut self.sharpness, SHARPNESS);
        });
        // The other source's answer is still there while this one's is computed.
        let answer = scene.answer.filter(|it| it.typed.is_some() == is_typed);
        match self.source {
            Source::Drawn => self.drawn(ui, answer, scene),
            Source::Typed => self.typed(ui, answer),
        }
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
        self.pairs = tidy(&self.pairs, CHARACTERS);
        self.asked = tidy(&self.asked, OF_A_KEY);
    }

    fn ends() -> Vec<Self> {
        let many: Vec<String> = (0..80).map(|i| format!("k{i}=v{i}")).collect();
        let typed = |slots, pairs: &str, asked: &str| Self {
            source: Source::Typed,
            slots,
            pairs: pairs.to_owned(),
            asked: asked.to_owned(),
            decay: *DECAY.start(),
            ..Self::default()
        };
        vec![
            typed(16, "", ""),
            typed(128, &many.join(" "), "k0"),
            typed(16, "cat=3", "yak"),
            Self {
                slots: 16,
                facts: *COUNT.start(),
                decay: *DECAY.start(),
                correlation: *CORRELATION.start(),
                sharpness: *SHARPNESS.start(),
                seed: *SEED.start(),
                ..Self::default()
            },
            Self {
                slots: 128,
                facts: *COUNT.end(),
                decay: *DECAY.end(),
                correlation: *CORRELATION.end(),
                sharpness: *SHARPNESS.end(),
                seed: *SEED.end(),
                ..Self::default()
            },
        ]
    }

    fn live(&self, symbol: &str, answer: Option<&Recalled>) -> Option<String> {
        match symbol {
            "N" => Some(self.slots.to_string()),
            "K" if self.source == Source::Typed => Some(answer?.wanted_k.len().to_string()),
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

/// What both memories know of every fact; gives the fact that was clicked.
fn both_grids(ui: &mut Ui, height: f32, answer: Option<&Recalled>) -> Option<usize> {
    let mut clicked = None;
    columns(ui, height, 2, |column, ui| {
        let Some(answer) = answer else { return };
        let (name, answers) = match column {
            0 => ("Linear memory", &answer.linear),
            _ => ("Softmax attention", &answer.attention),
        };
        clicked = clicked.or(grid(ui, name, answers, answer, height));
    });
    clicked
}

/// The margin of every fact, in room of this height; gives the fact that was clicked.
fn grid(ui: &mut Ui, name: &str, answers: &Answers, all: &Recalled, height: f32) -> Option<usize> {
    let count = all.wanted_k.len();
    let (cols, rows) = (count.min(ROW), count.div_ceil(ROW));
    let title = format!("{name}: {} of {count} right", answers.right());
    let typed = all.typed.as_ref();
    let word = |value: &usize| match typed {
        Some(typed) => typed.values[*value].clone(),
        None => value.to_string(),
    };
    let key = |fact: usize| typed.and_then(|typed| Some(&typed.told.pairs.get(fact)?.0));
    let hover = |row: usize, col: usize, margin: f32| {
        let fact = row * ROW + col;
        match (all.wanted_k.get(fact), answers.named_k.get(fact)) {
            (Some(wanted), Some(named)) => format!(
                "fact {}{}\nits value: {}\nanswered: {}\nahead by {}",
                fact + 1,
                key(fact).map_or(String::new(), |key| format!(": {key}")),
                word(wanted),
                word(named),
                crate::widgets::number(margin)
            ),
            _ => "no fact".to_owned(),
        }
    };
    let label = |fact: usize| key(fact).map_or(String::new(), |key| tidy(key, 5));
    let nothing = |_| String::new();
    let (rows_axis, cols_axis) = match typed {
        // One row has room for the keys.
        Some(_) if rows == 1 => (
            Axis::new("").labels(&nothing),
            Axis::new("key").labels(&label),
        ),
        _ => (Axis::new("row of 16"), Axis::new("fact in its row")),
    };
    let asked = typed.and_then(Typed::fact);
    let map = Heatmap::new(name, &title, Grid::row_major(&answers.margin_k, rows, cols))
        .data_version(all.version)
        .rows(rows_axis)
        .cols(cols_axis)
        .selected_row(asked.filter(|_| rows > 1).map(|fact| fact / ROW))
        .selected_col(asked.map(|fact| fact % ROW))
        .value_name("ahead by")
        .colormap(Colormap::Diverging)
        .scale(Scale::symmetric(1.0))
        .gaps()
        .hover(&hover)
        .empty("No fact has been told.")
        .height(height)
        .scroll_zooms(false);
    let (row, col) = map.show(ui).clicked?;
    Some(row * ROW + col)
}

impl RecallCliff {
    /// Tells both memories what was typed.
    fn recall_typed(&self) -> Recalled {
        let with = Memories {
            slots: self.slots,
            decay: self.decay,
            correlation: self.correlation,
            sharpness: self.sharpness,
            seed: self.seed,
        };
        let (typed, facts) = Typed::ask(&self.pairs, &self.asked, &with);
        Recalled {
            linear: facts.ask_linear(self.decay),
            attention: facts.ask_attention(self.sharpness),
            wanted_k: facts.values_k,
            typed: Some(typed),
            curves: Vec::new(),
            attention_curve: Vec::new(),
            version: self.version(),
        }
    }

    /// Facts drawn at random: what is known of each, and how much of so many.
    fn drawn(&self, ui: &mut Ui, answer: Option<&Recalled>, scene: &Scene<'_, Recalled>) {
        both_grids(ui, 200.0, answer);
        picture(ui, 240.0, |ui| {
            if let Some(answer) = answer {
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

    /// The reader's own facts: what is known of each, and the candidates for the one asked.
    fn typed(&mut self, ui: &mut Ui, answer: Option<&Recalled>) {
        let typed = answer.and_then(|answer| answer.typed.as_ref());
        fields(ui, &mut self.pairs, &mut self.asked, typed);
        let clicked = both_grids(ui, 160.0, answer);
        let pairs = typed.map(|typed| &typed.told.pairs);
        if let Some((key, _)) = clicked.and_then(|fact| pairs?.get(fact)) {
            self.asked = tidy(key, OF_A_KEY);
        }
        columns(ui, HEIGHT, 2, |column, ui| {
            let Some(typed) = typed else { return };
            let (name, ranked) = match column {
                0 => ("Linear memory", &typed.linear),
                _ => ("Softmax attention", &typed.attention),
            };
            candidates(ui, name, ranked, typed);
        });
        let weak = theme::palette(ui.visuals()).weak_text;
        footnote(
            ui,
            "A bar is a candidate's score: its vector times what the memory gave back; the highest is the answer, and the tick marks \
             the value told. The vectors are drawn from a word's letters, without its meaning. Click a cell to ask for its key.",
            weak,
        );
    }

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
