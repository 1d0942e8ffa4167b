//! Build a circuit: the knobs of one selective cell, a behaviour that is wanted, and its score over strings of three lengths.

use std::ops::{ControlFlow, RangeInclusive};

use egui::{DragValue, Ui};
use egui_plot::{HLine, Line, Points};
use mambascope_core::job::{JobError, Progress, Workshop};
use mambascope_core::scan::softplus;
use mambascope_core::study::Study;
use serde::{Deserialize, Serialize};

use super::cell::{Cell, KINDS, Knobs, Run, SLOTS};
use super::puzzle::{Example, LENGTHS, Puzzle, is_right};
use crate::demo::{Around, Demo, Scene};
use crate::theme;
use crate::widgets::controls::{choice, clamped, controls, picture};
use crate::widgets::plots::{footnote, line_key, over_tokens, show_plot};
use crate::widgets::{Bar, Bars, Ribbon, RibbonToken, Scale, number};

/// Strings a score is of, for each of [`LENGTHS`].
const SAMPLES: [usize; 3] = [64, 64, 24];

const Z: RangeInclusive<f64> = -20.0..=8.0;
const WEIGHT: RangeInclusive<f64> = -64.0..=64.0;
const A: RangeInclusive<f64> = -16.0..=-0.01;
const SEED: RangeInclusive<u64> = 0..=999;
/// Height of a string of one line, with its legend.
const RIBBON: f32 = 60.0;

/// The controls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SelectionPuzzles {
    puzzle: Puzzle,
    /// One for each kind of token; the last stands for all where the cell is time-invariant.
    kinds: [Knobs; KINDS],
    /// Whether Δ and B are set by the token before.
    sees_previous: bool,
    /// Whether one Δ, B and C serve all tokens.
    is_invariant: bool,
    a: f64,
    seed: u64,
}

impl Default for SelectionPuzzles {
    fn default() -> Self {
        Self {
            puzzle: Puzzle::Hold,
            kinds: [
                Knobs::first(2.0, 0.5, 1.0),
                Knobs::first(-3.0, 0.5, 1.0),
                Knobs::first(-3.0, 0.5, 1.0),
            ],
            sees_previous: false,
            is_invariant: false,
            a: -1.0,
            seed: 1,
        }
    }
}

/// How the cell did.
pub struct Scored {
    puzzle: Puzzle,
    example: Example,
    run: Run,
    /// Which strings, right, all.
    scores: Vec<(String, usize, usize)>,
}

impl SelectionPuzzles {
    fn cell(&self) -> Cell {
        if self.is_invariant {
            return Cell::invariant(self.a, self.kinds[KINDS - 1]);
        }
        Cell {
            a: self.a,
            kinds: self.kinds,
            sees_previous: self.sees_previous,
        }
    }
}

impl Study for SelectionPuzzles {
    type Answer = Scored;

    fn compute(
        &self,
        _: &mut Workshop,
        _: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Scored, JobError> {
        let cell = self.cell();
        let refuse = |error: mambascope_core::scan::ScanError| JobError::Study(error.to_string());
        let right = |examples: &[Example]| -> Result<usize, JobError> {
            let mut right = 0;
            for example in examples {
                let y = cell.last(&example.tokens).map_err(refuse)?;
                right += usize::from(is_right(y, example.wanted));
            }
            Ok(right)
        };
        let short = self.puzzle.all_short();
        let mut scores = vec![("all short strings".to_owned(), right(&short)?, short.len())];
        let mut example = short.into_iter().next_back();
        for (length, count) in LENGTHS.into_iter().zip(SAMPLES) {
            let samples = self.puzzle.samples(length, count, self.seed);
            scores.push((format!("L = {length}"), right(&samples)?, count));
            if length == LENGTHS[0] {
                example = samples.into_iter().next().or(example);
            }
        }
        let example = example.ok_or_else(|| JobError::Study("there is no string".into()))?;
        Ok(Scored {
            puzzle: self.puzzle,
            run: cell.run(&example.tokens).map_err(refuse)?,
            example,
            scores,
        })
    }
}

impl Demo for SelectionPuzzles {
    const ID: &'static str = "selection-puzzles";
    const TITLE: &'static str = "Build the circuit";
    type Study = Self;

    fn study(&self, _: &Around) -> Option<Self> {
        Some(self.clone())
    }

    fn ui(&mut self, ui: &mut Ui, scene: &Scene<'_, Scored>) {
        let weak = theme::palette(ui.visuals()).weak_text;
        self.choose(ui);
        ui.label(self.puzzle.task());
        self.knobs(ui);
        controls(ui, |ui| {
            let text = "LTI: one Δ, B, C for all tokens";
            ui.checkbox(&mut self.is_invariant, text);
            if self.puzzle == Puzzle::Induction {
                let text = "conv tap: Δ and B are set by the token before";
                ui.add_enabled(
                    !self.is_invariant,
                    egui::Checkbox::new(&mut self.sees_previous, text),
                );
            }
            ui.horizontal(|ui| {
                let name = ui.label("A");
                ui.add(DragValue::new(&mut self.a).range(A).speed(0.02))
                    .labelled_by(name.id);
            });
            if ui.button("Show a solution").clicked() {
                (self.kinds, self.sees_previous) = self.puzzle.solution();
                (self.a, self.is_invariant) = (-1.0, false);
            }
            if ui.button("Other strings").clicked() {
                self.seed = (self.seed + 1) % (SEED.end() + 1);
            }
        });
        match scene.answer {
            Some(answer) => ribbon(ui, answer),
            None => picture(ui, RIBBON, |_| ()),
        }
        picture(ui, 190.0, |ui| {
            if let Some(answer) = scene.answer {
                plot(ui, answer);
            }
        });
        picture(ui, 24.0 * (LENGTHS.len() + 1) as f32, |ui| {
            if let Some(answer) = scene.answer {
                scores(ui, answer);
            }
        });
        let note = if self.is_invariant {
            self.puzzle.refutation()
        } else if self.puzzle == Puzzle::Parity {
            "With exp(ΔA) alone it cannot be solved: of the string 1, 11, 111 … such a cell's state only rises or only falls. “Flip” \
             makes a kind's decay negative."
        } else {
            "Score: the share of strings with an output on the right side of zero and at least ½ away from it. The short ones are \
             all there are; the others are drawn."
        };
        footnote(ui, note, weak);
    }

    fn clamp(&mut self) {
        for knobs in &mut self.kinds {
            knobs.z = clamped(knobs.z, Z);
            for weight in knobs.b_n.iter_mut().chain(&mut knobs.c_n) {
                *weight = clamped(*weight, WEIGHT);
            }
        }
        self.a = clamped(self.a, A);
        self.seed = self.seed.min(*SEED.end());
    }

    fn ends() -> Vec<Self> {
        let at = |puzzle, z, weight, flag: bool, a, seed| Self {
            puzzle,
            kinds: [Knobs {
                z,
                b_n: [weight; SLOTS],
                c_n: [weight; SLOTS],
                flips: flag,
            }; KINDS],
            sees_previous: flag,
            is_invariant: !flag,
            a,
            seed,
        };
        let (low, high) = (*WEIGHT.start(), *WEIGHT.end());
        vec![
            at(Puzzle::Hold, *Z.start(), low, false, *A.start(), 0),
            at(Puzzle::Reset, *Z.end(), high, true, *A.end(), *SEED.end()),
            at(Puzzle::Induction, *Z.end(), high, true, *A.start(), 0),
            at(Puzzle::Parity, *Z.start(), low, true, *A.end(), 0),
            at(Puzzle::Parity, *Z.end(), high, false, *A.end(), 0),
        ]
    }

    fn live(&self, symbol: &str, _: Option<&Scored>) -> Option<String> {
        (symbol == "A").then(|| number(self.a as f32))
    }
}

impl SelectionPuzzles {
    /// The choice of a puzzle; another one begins with its knobs as they were.
    fn choose(&mut self, ui: &mut Ui) {
        let choices = Puzzle::ALL.map(|puzzle| (puzzle, puzzle.title()));
        choice(ui, "Wanted:", &mut self.puzzle, &choices);
    }

    /// A row of knobs for each kind of token, or one for all.
    fn knobs(&mut self, ui: &mut Ui) {
        let all = [(KINDS - 1, "all tokens")];
        let rows = if self.is_invariant {
            &all[..]
        } else {
            self.puzzle.kinds()
        };
        let (slots, a) = (self.puzzle.slots(), self.a);
        let flips = self.puzzle == Puzzle::Parity;
        egui::Grid::new("knobs")
            .spacing(egui::vec2(14.0, 4.0))
            .show(ui, |ui| {
                for &(kind, name) in rows {
                    if let Some(knobs) = self.kinds.get_mut(kind) {
                        row(ui, name, knobs, (slots, a, flips));
                    }
                    ui.end_row();
                }
            });
    }
}

/// The knobs of one kind of token.
fn row(ui: &mut Ui, name: &str, knobs: &mut Knobs, (slots, a, flips): (usize, f64, bool)) {
    let label = ui.label(name).id;
    let drag = |ui: &mut Ui, value: &mut f64, prefix: &str, range, speed| {
        let drag = DragValue::new(value)
            .range(range)
            .speed(speed)
            .max_decimals(3)
            .prefix(prefix);
        ui.add_sized([84.0, 22.0], drag).labelled_by(label);
    };
    drag(ui, &mut knobs.z, "z ", Z, 0.05);
    let names = if slots == 1 {
        [["B ", ""], ["C ", ""]]
    } else {
        [["B1 ", "B2 "], ["C1 ", "C2 "]]
    };
    for (weights, names) in [&mut knobs.b_n, &mut knobs.c_n].into_iter().zip(names) {
        for (weight, name) in weights.iter_mut().zip(names).take(slots) {
            drag(ui, weight, name, WEIGHT, 0.02);
        }
    }
    if flips {
        ui.checkbox(&mut knobs.flips, "flip");
    }
    let delta = softplus(knobs.z);
    let text = format!(
        "Δ = {}, keeps {}",
        number(delta as f32),
        kept_text((delta * a).exp())
    );
    let weak = theme::palette(ui.visuals()).weak_text;
    footnote(ui, &text, weak);
}

/// A share near one, by what is missing to it.
fn kept_text(kept: f64) -> String {
    if kept > 0.999 && kept < 1.0 {
        format!("1 − {}", number((1.0 - kept) as f32))
    } else {
        number(kept as f32)
    }
}

fn ribbon(ui: &mut Ui, answer: &Scored) {
    let chip = |(token, &kept): (&super::puzzle::Token, &f64)| RibbonToken {
        text: answer.puzzle.text(*token),
        value: kept.abs() as f32,
        generated: false,
    };
    let tokens: Vec<RibbonToken<'_>> = answer
        .example
        .tokens
        .iter()
        .zip(&answer.run.kept_l)
        .map(chip)
        .collect();
    let hover = |l: usize| {
        let kept = answer.run.kept_l.get(l).copied().unwrap_or_default();
        format!("token {l}: keeps {} of the state", kept_text(kept))
    };
    Ribbon::new("string", &tokens)
        .title("The string")
        .value_name("share of the state that is kept, |exp(ΔA)|")
        .scale(Scale::linear(0.0, 1.0))
        .max_height(62.0)
        .hover(&hover)
        .show(ui);
}

fn plot(ui: &mut Ui, answer: &Scored) {
    let palette = theme::palette(ui.visuals());
    let [first, output, second, target, ..] = palette.series;
    let slots = answer.puzzle.slots();
    let wanted = answer.example.wanted;
    let key = |ui: &mut Ui| {
        line_key(
            ui,
            target,
            format!(
                "wanted at the end: {}1",
                if wanted > 0.0 { "+" } else { "−" }
            ),
        );
        line_key(ui, output, "output y".to_owned());
        if slots > 1 {
            line_key(ui, second, "slot 2".to_owned());
        }
        let name = if slots > 1 { "slot 1" } else { "state h" };
        line_key(ui, first, name.to_owned());
    };
    let plot = over_tokens(ui, "puzzle", "value")
        .include_x(-0.5)
        .include_y(1.15)
        .include_y(-1.15)
        .allow_drag(false)
        .allow_zoom(false)
        .allow_double_click_reset(false);
    show_plot(
        ui,
        "State and output; an answer lies beyond ±½",
        key,
        plot,
        |plot| {
            for half in [-0.5, 0.5] {
                let line = HLine::new("read as an answer from here", half);
                plot.hline(line.color(palette.weak_text).width(0.8));
            }
            for (slot, colour) in [first, second].into_iter().enumerate().take(slots) {
                let h: Vec<[f64; 2]> = answer
                    .run
                    .h_ln
                    .column(slot)
                    .iter()
                    .enumerate()
                    .map(|(l, &h)| [l as f64, h])
                    .collect();
                // Wide, so that it is seen under an output that is the same.
                let line = Line::new(format!("state, slot {}", slot + 1), h);
                plot.line(line.color(colour).width(5.0));
            }
            let y: Vec<[f64; 2]> = answer
                .run
                .y_l
                .iter()
                .enumerate()
                .map(|(l, &y)| [l as f64, y])
                .collect();
            let last = y.len().saturating_sub(1) as f64;
            plot.line(Line::new("output y", y).color(output).width(2.0));
            let point = Points::new("wanted", vec![[last, wanted]]);
            plot.points(point.color(target).radius(5.0));
        },
    );
}

fn scores(ui: &mut Ui, answer: &Scored) {
    let label = |(name, right, all): &(String, usize, usize)| format!("{name}: {right} of {all}");
    let labels: Vec<String> = answer.scores.iter().map(label).collect();
    let bars: Vec<Bar<'_>> = answer
        .scores
        .iter()
        .zip(&labels)
        .map(|((_, right, all), label)| Bar {
            label,
            value: *right as f32 / (*all).max(1) as f32,
            came: right == all,
        })
        .collect();
    Bars::new("Share of strings answered right", &bars).show(ui);
}
