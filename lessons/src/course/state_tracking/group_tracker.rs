//! Words of a group, and machines that follow them: which transitions can, and which notice an order.

use std::ops::{ControlFlow, RangeInclusive};

use egui::Ui;
use egui_plot::{GridMark, HLine, Line, Plot, Points, VLine};
use mambascope_core::job::{JobError, Progress, Workshop};
use mambascope_core::noise::Noise;
use mambascope_core::study::Study;
use serde::{Deserialize, Serialize};

use super::group::{Group, Machine, Permutation, Transition, accuracy};
use crate::demo::{Around, Demo, Scene};
use crate::theme;
use crate::widgets::controls::{choice, clamped, columns, controls, picture, slider};
use crate::widgets::plots::{
    guess_key, line_key, log_axis, log_marks, show_plot, value_axis, value_marks,
};
use crate::widgets::{Axis, Colormap, Grid, Heatmap, Ribbon, RibbonToken, Scale, number};

/// The lengths of words that are scored, as powers of two.
const POWERS: RangeInclusive<u32> = 0..=8;
/// Words the reader has seen, and words it is asked for.
const WORDS: [usize; 2] = [240, 120];

const LENGTH: RangeInclusive<usize> = 4..=40;
const DECAY: RangeInclusive<f64> = 0.5..=1.0;
const SEED: RangeInclusive<u64> = 0..=999;
/// Height of a word of one line, with its legend.
const RIBBON: f32 = 60.0;

/// The controls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupTracker {
    group: Group,
    transition: Transition,
    /// Tokens of the word that is shown.
    length: usize,
    /// What the diagonal machine keeps a token.
    decay: f64,
    /// The token that is exchanged with the next.
    swap: usize,
    seed: u64,
}

impl Default for GroupTracker {
    fn default() -> Self {
        Self {
            group: Group::S3,
            transition: Transition::Sign,
            length: 16,
            decay: 0.9,
            swap: 0,
            seed: 1,
        }
    }
}

/// What became of the words.
pub struct Tracked {
    group: Group,
    transition: Transition,
    /// The word that is shown.
    word: Vec<usize>,
    /// State after each token, `[n, l]`, one slot after the other.
    h_nl: Vec<f32>,
    slots: usize,
    /// For each of [`Transition::ALL`]: log₂ of the length, share of words that came out right.
    curves: Vec<Vec<[f64; 2]>>,
    /// The product of the word, and of the word with two neighbours exchanged.
    products: [Permutation; 2],
    /// The largest difference an exchange makes to the product of the transitions, and to the last state.
    noticed: [f64; 2],
    version: u64,
}

impl Study for GroupTracker {
    type Answer = Tracked;

    fn compute(
        &self,
        _: &mut Workshop,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Tracked, JobError> {
        let mut curves = Vec::new();
        for (done, transition) in Transition::ALL.into_iter().enumerate() {
            let (what, total) = ("machines", Transition::ALL.len());
            if progress(Progress::Count { what, done, total }).is_break() {
                return Err(JobError::Study("stopped before it was done".into()));
            }
            let machine = Machine::new(self.group, transition, self.decay);
            let point = |power: u32| {
                let share = accuracy(self.group, &machine, 1 << power, WORDS, self.seed);
                [f64::from(power), share]
            };
            curves.push(POWERS.map(point).collect());
        }
        let machine = Machine::new(self.group, self.transition, self.decay);
        let noise = Noise::new(self.seed, "the word shown");
        let word = self.group.words(self.length, 1, noise).remove(0);
        let mut other = word.clone();
        other.swap(self.swap, self.swap + 1);
        let slots = machine.start_n.len();
        let mut h_nl = vec![0.0; slots * word.len()];
        let mut h_n = machine.start_n.clone();
        for (l, &token) in word.iter().enumerate() {
            h_n = machine.step(&h_n, token);
            for (n, &h) in h_n.iter().enumerate() {
                h_nl[n * word.len() + l] = h as f32;
            }
        }
        let most = |values: &mut dyn Iterator<Item = f64>| values.fold(0.0, f64::max);
        let of_products = machine.product(&word) - machine.product(&other);
        let of_states = h_n - machine.state(&other);
        Ok(Tracked {
            group: self.group,
            transition: self.transition,
            products: [self.group.product(&word), self.group.product(&other)],
            noticed: [
                most(&mut of_products.iter().map(|x| x.abs())),
                most(&mut of_states.iter().map(|x| x.abs())),
            ],
            word,
            h_nl,
            slots,
            curves,
            version: self.version(),
        })
    }
}

impl Demo for GroupTracker {
    const ID: &'static str = "group-tracker";
    const TITLE: &'static str = "Keeping track of a shuffle";
    type Study = Self;

    fn study(&self, _: &Around) -> Option<Self> {
        Some(self.clone())
    }

    fn ui(&mut self, ui: &mut Ui, scene: &Scene<'_, Tracked>) {
        let groups = Group::ALL.map(|group| (group, group.title()));
        choice(ui, "To track:", &mut self.group, &groups);
        let kinds = Transition::ALL.map(|kind| (kind, kind.title()));
        choice(ui, "A token may do:", &mut self.transition, &kinds);
        controls(ui, |ui| {
            slider(ui, "tokens of the word", &mut self.length, LENGTH);
            self.swap = self.swap.min(self.length - 2);
            let last = self.length - 2;
            slider(ui, "exchanged from token", &mut self.swap, 0..=last);
            slider(ui, "decay, kept a token", &mut self.decay, DECAY);
            if ui.button("Other words").clicked() {
                self.seed = (self.seed + 1) % (SEED.end() + 1);
            }
        });
        match scene.answer {
            Some(answer) => ribbon(ui, answer, self.swap),
            None => picture(ui, RIBBON, |_| ()),
        }
        let guess = scene.guess("s3-by-sign");
        let guess = guess.filter(|_| self.group == Group::S3);
        keys(ui, guess.is_some());
        columns(ui, 270.0, 2, |column, ui| match (scene.answer, column) {
            (Some(answer), 0) => states(ui, answer, self.swap),
            (Some(answer), _) => plot(ui, answer, guess),
            (None, _) => {}
        });
        picture(ui, 40.0, |ui| {
            if let Some(answer) = scene.answer {
                ui.label(self.verdict(answer));
            }
        });
    }

    fn clamp(&mut self) {
        self.length = self.length.clamp(*LENGTH.start(), *LENGTH.end());
        self.swap = self.swap.min(self.length - 2);
        self.decay = clamped(self.decay, DECAY);
        self.seed = self.seed.min(*SEED.end());
    }

    fn ends() -> Vec<Self> {
        let at = |group, transition, length: usize, decay, swap, seed| Self {
            group,
            transition,
            length,
            decay,
            swap,
            seed,
        };
        let (short, long) = (*LENGTH.start(), *LENGTH.end());
        let (low, high) = (*DECAY.start(), *DECAY.end());
        vec![
            at(Group::Parity, Transition::Decay, short, low, 0, 0),
            at(Group::Mod3, Transition::Rotation, long, high, 0, 0),
            at(Group::S3, Transition::Reflection, short, low, 2, 0),
            at(
                Group::A5,
                Transition::Permutation,
                long,
                high,
                long - 2,
                *SEED.end(),
            ),
            at(Group::A5, Transition::Sign, short, low, 0, 0),
        ]
    }
}

impl GroupTracker {
    fn version(&self) -> u64 {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let mut hasher = DefaultHasher::new();
        (self.group, self.transition, self.length, self.seed).hash(&mut hasher);
        self.decay.to_bits().hash(&mut hasher);
        hasher.finish()
    }

    /// What the exchange did, in words.
    fn verdict(&self, answer: &Tracked) -> String {
        let [before, after] = answer
            .products
            .map(|product| order_text(answer.group, product));
        let answers = if before == after {
            format!("Exchanging the two changes nothing: the order is {before} both ways.")
        } else {
            format!("Exchanging the two changes the order at the end from {before} to {after}.")
        };
        let [product, state] = answer.noticed;
        let seen = if product < 1e-9 && state < 1e-9 {
            "This machine does not notice: its state is the same.".to_owned()
        } else if product < 1e-9 {
            format!(
                "The product of its transitions is the same; only what was written differs, by {}.",
                number(state as f32)
            )
        } else {
            format!(
                "This machine notices: its state differs by {}.",
                number(state as f32)
            )
        };
        format!("{answers} {seen}")
    }
}

/// An order of things, as 2 1 3.
fn order_text(group: Group, product: Permutation) -> String {
    let mut things = vec![String::new(); group.things()];
    for (thing, &place) in product.iter().enumerate().take(group.things()) {
        if let Some(at) = things.get_mut(usize::from(place)) {
            *at = (thing + 1).to_string();
        }
    }
    things.join(" ")
}

fn ribbon(ui: &mut Ui, answer: &Tracked, swap: usize) {
    let chip = |(l, &token): (usize, &usize)| RibbonToken {
        text: answer.group.text(token),
        value: if l == swap || l == swap + 1 { 1.0 } else { 0.0 },
        generated: false,
    };
    let tokens: Vec<RibbonToken<'_>> = answer.word.iter().enumerate().map(chip).collect();
    let hover = |l: usize| format!("token {l}");
    Ribbon::new("word", &tokens)
        .title("The word")
        .value_name("1: of the pair that is exchanged")
        .scale(Scale::linear(0.0, 1.0))
        .max_height(64.0)
        .hover(&hover)
        .show(ui);
}

fn states(ui: &mut Ui, answer: &Tracked, swap: usize) {
    let title = format!("State under “{}”", answer.transition.title());
    let grid = Grid::row_major(&answer.h_nl, answer.slots, answer.word.len());
    Heatmap::new("states", &title, grid)
        .data_version(answer.version)
        .rows(Axis::new("slot"))
        .cols(Axis::new("token"))
        .value_name("state h")
        .colormap(Colormap::Diverging)
        .fit(crate::widgets::ScaleKind::Symmetric)
        .selected_col(Some(swap))
        .height(270.0)
        .scroll_zooms(false)
        .show(ui);
}

/// Which machine has which colour: too many names for the line over the plot.
fn keys(ui: &mut Ui, has_guess: bool) {
    let palette = theme::palette(ui.visuals());
    let right = egui::Layout::right_to_left(egui::Align::Center);
    ui.allocate_ui_with_layout(egui::vec2(ui.available_width(), 20.0), right, |ui| {
        for (kind, &colour) in Transition::ALL.iter().zip(&palette.series).rev() {
            line_key(ui, colour, kind.title().to_owned());
        }
        if has_guess {
            guess_key(ui);
        }
    });
}

/// `guess` is what the reader thought ±1 can do.
fn plot(ui: &mut Ui, answer: &Tracked, guess: Option<f64>) {
    let palette = theme::palette(ui.visuals());
    let chance = 1.0 / answer.group.order() as f64;
    let plot = Plot::new("tracked")
        .custom_x_axes(vec![log_axis(ui, true, "tokens of a word", |power| {
            format!("{}", power.exp2().round())
        })])
        .custom_y_axes(vec![value_axis(ui, "share right")])
        .x_grid_spacer(|_| -> Vec<GridMark> { log_marks((0.0, 8.0)) })
        .y_grid_spacer(value_marks(ui))
        .include_x(-0.1)
        .include_x(8.1)
        .include_y(0.0)
        .include_y(1.04)
        .allow_drag(false)
        .allow_zoom(false)
        .allow_double_click_reset(false);
    let here = (answer.word.len() as f64).log2();
    let title = "Share of words whose product is read off";
    show_plot(
        ui,
        title,
        |_| (),
        plot,
        |plot| {
            plot.hline(
                HLine::new("chance", chance)
                    .color(palette.weak_text)
                    .width(1.0),
            );
            plot.vline(
                VLine::new("word shown", here)
                    .color(palette.weak_text)
                    .width(0.6),
            );
            if let Some(guess) = guess {
                let line = HLine::new("your guess", guess);
                plot.hline(line.color(palette.accent).width(2.0));
            }
            let all = answer
                .curves
                .iter()
                .zip(Transition::ALL)
                .zip(&palette.series);
            for (nth, ((curve, transition), &colour)) in all.enumerate() {
                // The later the narrower, so that lines that coincide are all seen.
                let width = 7.0 - 1.4 * nth as f32;
                let line = Line::new(transition.title(), curve.clone());
                plot.line(line.color(colour).width(width));
                if transition == answer.transition {
                    let dots = Points::new(transition.title(), curve.clone());
                    plot.points(dots.color(colour).radius(5.0));
                }
            }
        },
    );
}
