//! A question: the learner answers in words, then sees the model answer and says how it went.

use egui::{Key, Ui};

use super::PracticeRequest;
use super::desk::{Desk, Extra};
use super::parts::{
    Stopwatch, capital, card, confidence, describe, done_keys, free_key, heading, kicker,
    large_lines, lines, main_button, rating, small, sources, words,
};
use super::proof::{followed, hint};
use super::record::Logged;
use crate::practice::bank::Question;
use crate::practice::mock;
use crate::practice::schedule::{Evidence, Grade, Rating};
use crate::widgets::controls::choice;

/// An attempt at a question.
#[derive(Clone, Debug)]
pub(super) struct QuestionAttempt {
    watch: Stopwatch,
    is_revealed: bool,
    text: String,
    confidence: Option<f64>,
    /// How right the learner finds it.
    grade: Option<Grade>,
}

impl QuestionAttempt {
    pub(super) fn new(now: i64) -> Self {
        Self {
            watch: Stopwatch::new(now),
            is_revealed: false,
            text: String::new(),
            confidence: None,
            grade: None,
        }
    }

    /// Out of sight: its time does not run.
    pub(super) fn pause(&mut self, now: i64) {
        self.watch.pause(now);
    }

    fn evidence(&self, question: &Question, now: i64) -> Evidence {
        Evidence {
            grade: self.grade.unwrap_or(Grade::Right),
            seconds: self.watch.read(now),
            expected_seconds: f64::from(mock::seconds(question.level)),
            confidence: self.confidence,
        }
    }

    /// The bar under the question. Gives the answer once it is rated.
    pub(super) fn actions(
        &mut self,
        ui: &mut Ui,
        question: &Question,
        desk: &mut Desk<'_>,
    ) -> Option<Logged> {
        if !self.is_revealed {
            self.watch.go_on(desk.now);
            ui.horizontal(|ui| {
                let pressed = main_button(ui, true, "Show the answer");
                small(
                    ui,
                    "Space; while you write, Ctrl+Enter. Say or write your answer first.",
                );
                if pressed || free_key(ui, Key::Space) || done_keys(ui) {
                    self.is_revealed = true;
                    self.watch.pause(desk.now);
                    ui.memory_mut(|memory| {
                        if let Some(id) = memory.focused() {
                            memory.surrender_focus(id);
                        }
                    });
                }
            });
            return None;
        }
        let evidence = self.evidence(question, desk.now);
        let card = desk.record.deck.card(&question.id);
        let preview = desk.record.preview(&card, desk.now);
        let mut rated = None;
        ui.horizontal_wrapped(|ui| {
            small(ui, "My answer was");
            let mut grade = self.grade.unwrap_or(Grade::Right);
            let before = grade;
            let grades = [
                (Grade::Wrong, "wrong"),
                (Grade::Partly, "right in part"),
                (Grade::Right, "right"),
            ];
            choice(ui, "", &mut grade, &grades);
            if grade != before || self.grade.is_some() {
                self.grade = Some(grade);
            }
            ui.add_space(12.0);
            rated = rating(ui, preview, evidence.rating());
        });
        let chosen: Rating = rated?;
        let correct = match self.grade {
            Some(grade) => grade == Grade::Right,
            None => chosen > Rating::Again,
        };
        let extra = Extra {
            correct,
            rating: Some(chosen),
            seed: None,
            answer: Some(self.text.clone()),
        };
        Some(desk.log(&question.id, evidence, extra))
    }

    /// The question and, once revealed, what there is to compare with.
    pub(super) fn body(&mut self, ui: &mut Ui, question: &Question, desk: &mut Desk<'_>) {
        card(ui, |ui| {
            kicker(ui, &describe("Question", question.level, &question.topic));
            ui.add_space(4.0);
            large_lines(ui, |ui| desk.texts.show(ui, &question.question));
            ui.add_space(8.0);
            let hint = "In your own words, as you would say it. Nobody reads it but you.";
            words(ui, "Your answer", hint, 4, &mut self.text);
            ui.add_space(4.0);
            if !self.is_revealed {
                confidence(ui, 0.0, &mut self.confidence);
            } else if let Some(sure) = self.confidence {
                small(ui, format!("You were {:.0} % sure.", 100.0 * sure));
            }
        });
        if self.is_revealed {
            solution(ui, question, desk);
        }
    }
}

/// The model answer, with what belongs to it.
pub(super) fn solution(ui: &mut Ui, question: &Question, desk: &mut Desk<'_>) {
    card(ui, |ui| lines(ui, |ui| model_answer(ui, question, desk)));
    followed(ui, question.texts(), None, desk);
}

fn model_answer(ui: &mut Ui, question: &Question, desk: &mut Desk<'_>) {
    ui.horizontal(|ui| {
        kicker(ui, "Model answer");
        prove(ui, &question.preset_line(), desk);
        if let Some(scope) = &question.scope {
            let button = ui.button("See it in the Scope");
            let tip = "Opens the Scope page on a model of this program, with a text and a layer that show it";
            if button.on_hover_text(tip).clicked() {
                desk.requests.push(PracticeRequest::Scope(scope.clone()));
            }
        }
        hint(ui, question.texts());
    });
    ui.add_space(4.0);
    desk.texts.show(ui, &question.answer);
    heading(ui, "What interviewers listen for");
    desk.texts.show(ui, &bullets(&question.listens_for));
    heading(ui, "Often answered wrongly");
    desk.texts.show(ui, &bullets(&question.common_wrong));
    sources(ui, &question.sources);
}

/// The button that leads to the demo which shows it.
pub(super) fn prove(ui: &mut Ui, preset: &str, desk: &mut Desk<'_>) {
    let button = ui.button("Prove it");
    let tip = "Opens the lesson's demo with the controls where they show it";
    if button.on_hover_text(tip).clicked() {
        desk.requests
            .push(PracticeRequest::Prove(preset.to_owned()));
    }
}

fn bullets(points: &[String]) -> String {
    if let [one] = points {
        return capital(one);
    }
    let lines = points.iter().map(|point| format!("- {point}"));
    lines.collect::<Vec<_>>().join("\n")
}
