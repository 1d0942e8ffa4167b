//! The recall test: how many facts of its context a model still knows.

use egui::{DragValue, RichText, Ui};
use egui_plot::{HoverPosition, Line, MarkerShape, Plot, PlotPoints, Points};
use mambascope_core::backend::BackendError;
use mambascope_core::job::JobError;
use mambascope_lessons::widgets::number;

use super::{Around, COMPARE, ComparePage, CompareSettings, FACTS, RECALL, colour};
use crate::window::palette;
use crate::window::plots::{footnote, log_axis, over_note, show_plot, value_axis, value_marks};
use crate::window::scope::progress;

impl ComparePage {
    pub(super) fn recall(
        &mut self,
        ui: &mut Ui,
        settings: &mut CompareSettings,
        around: &mut Around<'_>,
    ) {
        let (mut above, mut below) = over_note(ui);
        let ui = &mut above;
        let found = self.recalled();
        let mut series = Vec::new();
        if let Some((job, table)) = found {
            for (lane, (model, scores)) in job.models.iter().zip(&table.models).enumerate() {
                let points = scores.iter().map(|score| {
                    let facts = (score.facts as f64).log2();
                    (facts, score.accuracy(), score.standard_error)
                });
                series.push((lane, model.name.clone(), points.collect::<Vec<_>>()));
            }
        }
        let lines: Vec<_> = series
            .into_iter()
            .map(|(lane, name, points)| lane_marks(ui, lane, name, &points))
            .collect();
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
            .label_formatter(|hover| match hover {
                HoverPosition::NearDataPoint {
                    plot_name,
                    position,
                    ..
                } => Some(format!(
                    "{plot_name}\n{:.0} facts\n{:.3} known",
                    2f64.powf(position.x),
                    position.y
                )),
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
    ui: &Ui,
    lane: usize,
    name: String,
    points: &[(f64, f64, f64)],
) -> (Line<'static>, Points<'static>, Vec<Line<'static>>) {
    let colour = colour(ui, lane);
    let means: Vec<[f64; 2]> = points.iter().map(|&(x, y, _)| [x, y]).collect();
    let line = Line::new(name.clone(), PlotPoints::from(means.clone()))
        .color(colour)
        .width(1.5);
    let dots = Points::new(name.clone(), means)
        .shape(MarkerShape::Circle)
        .radius(3.0)
        .color(colour);
    let errors = points.iter().map(|&(x, y, error)| {
        let ends = vec![[x, (y - error).max(0.0)], [x, (y + error).min(1.0)]];
        Line::new(name.clone(), PlotPoints::from(ends))
            .color(colour)
            .width(3.0)
    });
    (line, dots, errors.collect())
}

/// A reminder of what the page is about, for the controls.
pub(super) fn fine_print(ui: &mut Ui) {
    ui.label(
        RichText::new(
            "The four embedded siblings share corpus, tokenizer, tokens, batch and learning rate. Their parameter counts \
             differ by up to 43 %, and so does the number of short recall steps.",
        )
        .small()
        .color(palette(ui).weak_text),
    );
}
