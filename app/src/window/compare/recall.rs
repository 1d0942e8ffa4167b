//! The recall test: how many facts of its context a model still knows.

use egui::{Color32, DragValue, RichText, Ui};
use egui_plot::{HoverPosition, Line, MarkerShape, Plot, PlotPoints, Points};
use mambascope_core::backend::BackendError;
use mambascope_core::job::JobError;
use mambascope_core::recall::{RecallRow, RecallScore, RecallTable};
use mambascope_lessons::widgets::number;

use super::{Around, COMPARE, ComparePage, CompareSettings, FACTS, MOST_LANES, RECALL};
use crate::window::palette;
use crate::window::scope::progress;
use mambascope_lessons::widgets::plots::{
    footnote, log_axis, over_note, show_plot, value_axis, value_marks,
};

impl ComparePage {
    pub(super) fn recall(
        &mut self,
        ui: &mut Ui,
        settings: &mut CompareSettings,
        around: &mut Around<'_>,
    ) {
        let (mut above, mut below) = over_note(ui);
        let ui = &mut above;
        let rows = self.recalled.as_ref().map_or(&[][..], |table| &table.rows);
        let marks = |(nth, row): (usize, &RecallRow)| {
            // At a perfect score all lines are one: a little beside each other they can be told apart.
            let shift = (nth as f64 - 1.5) * 0.03;
            lane_marks(self.colour(ui, &row.model), row, shift)
        };
        let lines: Vec<_> = rows.iter().enumerate().map(marks).collect();
        let known = self.recalled.clone();
        let is_empty = lines.is_empty();
        let plot = Plot::new("recall")
            .custom_x_axes(vec![log_axis(ui, true, "facts in the context", |x| {
                number(2f64.powf(x) as f32)
            })])
            .custom_y_axes(vec![value_axis(ui, "share known")])
            .x_grid_spacer(|_| {
                let mark = |&facts: &usize| egui_plot::GridMark {
                    value: (facts as f64).log2(),
                    step_size: 1.0,
                };
                FACTS.iter().map(mark).collect()
            })
            .y_grid_spacer(value_marks(ui))
            .include_y(0.0)
            .include_y(1.02)
            .include_x(1.0)
            .include_x(6.7)
            .label_formatter(move |hover| match hover {
                HoverPosition::NearDataPoint {
                    plot_name,
                    position,
                    ..
                } => score_text(known.as_deref()?, plot_name, position.x),
                HoverPosition::Elsewhere { .. } => None,
            });
        let busy = self.recall_reply.busy;
        let mut pressed = false;
        let key = |ui: &mut Ui| {
            pressed = if busy {
                ui.button("Cancel").clicked()
            } else {
                ui.button("Ask for facts").clicked()
            };
            ui.add(DragValue::new(&mut settings.seed).prefix("seed "))
                .on_hover_text("The same seed asks for the same facts.");
            ui.add(
                DragValue::new(&mut settings.rows)
                    .range(2..=1024)
                    .suffix(" rows"),
            )
            .on_hover_text("Rows for each model and number of facts: more rows, smaller errors.");
        };
        show_plot(ui, "Recall of facts", key, plot, |plot| {
            for (line, points, errors) in lines {
                plot.line(line);
                plot.points(points);
                for error in errors {
                    plot.line(error);
                }
            }
        });
        self.recall_note(&mut below, is_empty);
        if pressed && busy {
            around.engine.cancel(RECALL);
        } else if pressed {
            // A comparison on its way would make the test wait.
            around.engine.cancel(COMPARE);
            self.run_recall(settings, around);
        }
    }

    /// Whether the scores are of other models than those on the page.
    fn recall_is_old(&self) -> bool {
        let rows = self.recalled.as_ref().map_or(&[][..], |table| &table.rows);
        let here: Vec<_> = (0..MOST_LANES)
            .filter_map(|place| self.model(place))
            .collect();
        rows.len() != here.len()
            || rows.iter().any(|row| {
                here.iter()
                    .all(|model| !std::sync::Arc::ptr_eq(model, &row.model))
            })
    }

    fn recalled_names(&self) -> String {
        let rows = self.recalled.as_ref().map_or(&[][..], |table| &table.rows);
        let names: Vec<&str> = rows.iter().map(|row| row.model.name.as_str()).collect();
        names.join(", ")
    }

    /// What there is to know about the test, or how far it is.
    fn recall_note(&self, ui: &mut Ui, is_empty: bool) {
        if self.recall_reply.busy {
            ui.scope(|ui| progress(ui, &self.recall_reply, "asking"));
            return;
        }
        let (text, tone) = match &self.recall_reply.error {
            Some(error) => match **error {
                JobError::Backend(BackendError::Cancelled { done, total }) => (
                    format!("Stopped after {done} of {total} rows."),
                    palette(ui).warning,
                ),
                ref other => (other.to_string(), palette(ui).error),
            },
            None if is_empty => (
                "K pairs “key value,” are written into the context and asked again in another order. Press “Ask for facts”.".to_owned(),
                palette(ui).weak_text,
            ),
            None if self.recall_is_old() => (
                format!("Measured with {}: ask again for the models chosen now.", self.recalled_names()),
                palette(ui).warning,
            ),
            None => (
                "Bars: one standard error. The siblings were trained on at most 64 facts, so 96 is beyond what they saw; \
                 their parameters and their numbers of recall steps differ."
                    .to_owned(),
                palette(ui).weak_text,
            ),
        };
        footnote(ui, &text, tone);
    }
}

/// A line, its points, and a bar of one standard error either way for each.
fn lane_marks(
    colour: Color32,
    row: &RecallRow,
    shift: f64,
) -> (Line<'static>, Points<'static>, Vec<Line<'static>>) {
    let name = &row.model.name;
    let x = |score: &RecallScore| (score.facts as f64).log2() + shift;
    let means: Vec<[f64; 2]> = row
        .scores
        .iter()
        .map(|score| [x(score), score.accuracy()])
        .collect();
    let line = Line::new(name.clone(), PlotPoints::from(means.clone()))
        .color(colour)
        .allow_hover(false)
        .width(1.5);
    let dots = Points::new(name.clone(), means)
        .shape(MarkerShape::Circle)
        .radius(3.0)
        .color(colour);
    let errors = row.scores.iter().flat_map(|score| {
        let (x, y, error) = (x(score), score.accuracy(), score.standard_error);
        let ends = [(y - error).max(0.0), (y + error).min(1.0)];
        let bar = vec![[x, ends[0]], [x, ends[1]]];
        let caps = ends.map(|end| vec![[x - 0.05, end], [x + 0.05, end]]);
        let stroke = |points: Vec<[f64; 2]>| {
            Line::new(name.clone(), PlotPoints::from(points))
                .color(colour)
                .allow_hover(false)
                .width(1.2)
        };
        std::iter::once(bar)
            .chain(caps)
            .map(stroke)
            .collect::<Vec<_>>()
    });
    (line, dots, errors.collect())
}

/// The score a dot stands for.
fn score_text(table: &RecallTable, model: &str, x: f64) -> Option<String> {
    let row = table.rows.iter().find(|row| row.model.name == model)?;
    let gap = |score: &&RecallScore| ((score.facts as f64).log2() - x).abs();
    let score = row.scores.iter().min_by(|a, b| gap(a).total_cmp(&gap(b)))?;
    Some(format!(
        "{model}\n{} facts\n{:.3} ± {:.3} known ({} of {})",
        score.facts,
        score.accuracy(),
        score.standard_error,
        score.right,
        score.asked
    ))
}

/// A reminder of what the page is about, for the controls.
pub(super) fn fine_print(ui: &mut Ui) {
    ui.label(
        RichText::new(
            "The four embedded siblings share corpus, tokenizer, tokens, batch and learning rate. Their parameter counts \
             differ by up to 43 %, and so does the number of short recall steps. They were trained on rows of 512 tokens: a longer text \
             is beyond what they saw.",
        )
        .small()
        .color(palette(ui).weak_text),
    );
}
