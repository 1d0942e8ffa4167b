//! The model that is open is told facts and asked for them: the engine's own recall test.

use std::ops::{ControlFlow, RangeInclusive};
use std::sync::Arc;

use egui::{Color32, Ui};
use egui_plot::{GridMark, Line, Plot, Points};
use mambascope_core::checkpoint::Embedded;
use mambascope_core::job::{JobError, ModelRef, Progress, Workshop};
use mambascope_core::recall::{RecallJob, RecallRow, RecallScore, recall};
use mambascope_core::study::Study;
use serde::{Deserialize, Serialize};

use crate::demo::{Around, Demo, Scene};
use crate::theme;
use crate::widgets::controls::{choice, controls, picture, slider};
use crate::widgets::number;
use crate::widgets::plots::{footnote, line_key, log_axis, show_plot, value_axis, value_marks};

/// The numbers of facts that may be asked.
const FACTS: [usize; 5] = [4, 16, 32, 64, 96];
const ROWS: RangeInclusive<usize> = 1..=16;
const SEED: RangeInclusive<u64> = 0..=999;
/// The embedded sibling that keeps every token.
const SIBLING: &str = "novel-transformer-4m";

/// The controls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Phonebook {
    /// The most facts that are asked.
    most: usize,
    /// Rows for each number of facts.
    rows: usize,
    /// Whether the embedded Transformer is asked too.
    beside: bool,
    seed: u64,
}

impl Default for Phonebook {
    fn default() -> Self {
        Self {
            most: 64,
            rows: 1,
            beside: false,
            seed: 1,
        }
    }
}

/// The test as a job: all it depends on.
#[derive(Clone, Debug, PartialEq)]
pub struct Test {
    model: ModelRef,
    backend: String,
    controls: Phonebook,
}

/// What each model knew.
pub struct Known {
    /// One a model: the one that is open first.
    rows: Vec<RecallRow>,
}

impl Study for Test {
    type Answer = Known;

    fn compute(
        &self,
        workshop: &mut Workshop,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Known, JobError> {
        let mut models = vec![self.model.clone()];
        if let Some(sibling) = Embedded::named(SIBLING).filter(|_| self.controls.beside) {
            models.push(ModelRef(Arc::new(sibling.load()?)));
        }
        let most = self.controls.most;
        let job = RecallJob {
            models,
            backend: self.backend.clone(),
            facts: FACTS.into_iter().filter(|&facts| facts <= most).collect(),
            rows: self.controls.rows,
            seed: self.controls.seed,
        };
        let backend = workshop.backend(&job.backend)?;
        // Tables that are not complete are of no use here, the count is.
        let table = recall(&job, backend, &mut |report| match report {
            Progress::Partial(_) => ControlFlow::Continue(()),
            count => progress(count),
        })?;
        Ok(Known { rows: table.rows })
    }
}

impl Demo for Phonebook {
    const ID: &'static str = "phonebook";
    const TITLE: &'static str = "What the open model can look up";
    type Study = Test;

    fn study(&self, around: &Around) -> Option<Test> {
        Some(Test {
            model: around.model.clone()?,
            backend: around.backend.clone(),
            controls: self.clone(),
        })
    }

    fn ui(&mut self, ui: &mut Ui, scene: &Scene<'_, Known>) {
        controls(ui, |ui| {
            let texts = ["4", "16", "32", "64", "96"];
            let mut choices = [(0, ""); FACTS.len()];
            for ((place, facts), text) in choices.iter_mut().zip(FACTS).zip(texts) {
                *place = (facts, text);
            }
            choice(ui, "facts, at most", &mut self.most, &choices);
            slider(ui, "rows of each", &mut self.rows, ROWS);
            ui.checkbox(&mut self.beside, "Ask the small Transformer too");
            if ui.button("Other facts").clicked() {
                self.seed = (self.seed + 1) % (SEED.end() + 1);
            }
        });
        picture(ui, 280.0, |ui| match scene.answer {
            Some(answer) => plot(ui, answer),
            None => {
                let weak = theme::palette(ui.visuals()).weak_text;
                let text = if scene.around.model.is_some() {
                    "Asking …"
                } else {
                    "No model is open yet."
                };
                footnote(ui, text, weak);
            }
        });
        let weak = theme::palette(ui.visuals()).weak_text;
        let text = match scene.answer.and_then(|answer| summary(&answer.rows)) {
            Some(text) => text,
            None => "Pairs “key value,” are written into the context, then asked in another order."
                .to_owned(),
        };
        footnote(ui, &text, weak);
    }

    fn clamp(&mut self) {
        if !FACTS.contains(&self.most) {
            self.most = Self::default().most;
        }
        self.rows = self.rows.clamp(*ROWS.start(), *ROWS.end());
        self.seed = self.seed.min(*SEED.end());
    }

    fn ends() -> Vec<Self> {
        // No two costly ends at once: the slowest backend has to get through all of these.
        let at = |most, rows, beside, seed| Self {
            most,
            rows,
            beside,
            seed,
        };
        let (least, most) = (FACTS[0], FACTS[FACTS.len() - 1]);
        vec![
            at(least, *ROWS.end(), false, *SEED.start()),
            at(most, *ROWS.start(), false, *SEED.end()),
            at(least, *ROWS.start(), true, *SEED.start()),
        ]
    }
}

/// The last score of each model, in words.
fn summary(rows: &[RecallRow]) -> Option<String> {
    let text = |row: &RecallRow| {
        let last = row.scores.last()?;
        Some(format!(
            "{}: {} of {} values at {} facts",
            row.model.name, last.right, last.asked, last.facts
        ))
    };
    let texts: Vec<String> = rows.iter().filter_map(text).collect();
    (!texts.is_empty()).then(|| {
        format!(
            "{}. Bars: one standard error. More rows, smaller errors.",
            texts.join("; ")
        )
    })
}

fn plot(ui: &mut Ui, answer: &Known) {
    let palette = theme::palette(ui.visuals());
    let [first, second, ..] = palette.series;
    let colours = [first, second];
    let key = |ui: &mut Ui| {
        for (row, colour) in answer.rows.iter().zip(colours).rev() {
            line_key(ui, colour, row.model.name.clone());
        }
    };
    let marks = |_| {
        let mark = |&facts: &usize| GridMark {
            value: (facts as f64).log2(),
            step_size: 1.0,
        };
        FACTS.iter().map(mark).collect()
    };
    let plot = Plot::new("phonebook")
        .custom_x_axes(vec![log_axis(ui, true, "facts in the context", |x| {
            number(x.exp2().round() as f32)
        })])
        .custom_y_axes(vec![value_axis(ui, "share known")])
        .x_grid_spacer(marks)
        .y_grid_spacer(value_marks(ui))
        .include_y(0.0)
        .include_y(1.04)
        .include_x(1.8)
        .include_x(6.8)
        .allow_drag(false)
        .allow_zoom(false)
        .allow_double_click_reset(false);
    show_plot(ui, "Recall of facts", key, plot, |plot| {
        for (row, colour) in answer.rows.iter().zip(colours) {
            let (line, dots, errors) = marks_of(row, colour);
            plot.line(line);
            plot.points(dots);
            for error in errors {
                plot.line(error);
            }
        }
    });
}

/// A line, its dots, and a bar of one standard error either way for each.
fn marks_of(
    row: &RecallRow,
    colour: Color32,
) -> (Line<'static>, Points<'static>, Vec<Line<'static>>) {
    let name = &row.model.name;
    let x = |score: &RecallScore| (score.facts as f64).log2();
    let means: Vec<[f64; 2]> = row
        .scores
        .iter()
        .map(|score| [x(score), score.accuracy()])
        .collect();
    let error = |score: &RecallScore| {
        let (share, error) = (score.accuracy(), score.standard_error);
        let ends = [(share - error).max(0.0), (share + error).min(1.0)];
        Line::new(name.clone(), vec![[x(score), ends[0]], [x(score), ends[1]]])
            .color(colour)
            .width(1.2)
            .allow_hover(false)
    };
    (
        Line::new(name.clone(), means.clone())
            .color(colour)
            .width(1.5),
        Points::new(name.clone(), means).color(colour).radius(3.5),
        row.scores.iter().map(error).collect(),
    )
}
