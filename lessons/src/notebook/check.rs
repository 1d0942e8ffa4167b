//! A question: the reader commits to an answer before the right one is shown.

use egui::{RichText, Ui};
use mambascope_core::engine::Reply;
use mambascope_core::job::Answer;

use super::settings::Guess;
use super::text::Texts;
use crate::experiment::{Finding, Trial};
use crate::page::{Check, CheckKind};
use crate::theme;
use crate::widgets::number;

/// An answer being made up.
#[derive(Clone, Debug, Default)]
pub struct Draft {
    number: String,
    choice: Option<usize>,
    order: Vec<usize>,
}

impl Draft {
    /// For this question: options to be ordered begin shuffled, the same way every time.
    pub fn of(check: &Check) -> Self {
        let count = check.options.len();
        let mut order: Vec<usize> = (0..count).collect();
        if check.kind == CheckKind::Order {
            let seed = check.id.bytes().map(usize::from).sum::<usize>();
            (1..count).for_each(|i| order.swap(i, (seed * (i + 7)) % (i + 1)));
            // Never the answer itself.
            if order.is_sorted() {
                order.rotate_left(1);
            }
        }
        Self {
            order,
            ..Self::default()
        }
    }
}

/// The truth of a number, as far as it is known.
fn truth(check: &Check, reply: &Reply) -> Option<Finding> {
    let (_, name) = check.finding.as_deref()?.split_once('/')?;
    let Some(Answer::Study(answer)) = &reply.answer else {
        return None;
    };
    let findings = answer.of::<Trial>()?;
    findings
        .iter()
        .find(|finding| finding.name == name)
        .cloned()
}

/// Draws a question. A number's truth is in `reply`, of the experiment it is a finding of.
pub fn show(
    ui: &mut Ui,
    texts: &mut Texts,
    check: &Check,
    draft: &mut Draft,
    committed: &mut Option<Guess>,
    reply: &Reply,
) {
    texts.show(ui, &check.ask);
    ui.add_space(4.0);
    match committed.clone() {
        None => answer_ui(ui, texts, check, draft, committed),
        Some(guess) => {
            verdict(ui, texts, check, &guess, reply);
            ui.add_space(4.0);
            texts.show(ui, &check.why);
            ui.add_space(4.0);
            if ui.button("Answer again").clicked() {
                *committed = None;
                *draft = Draft::of(check);
            }
        }
    }
}

fn answer_ui(
    ui: &mut Ui,
    texts: &mut Texts,
    check: &Check,
    draft: &mut Draft,
    committed: &mut Option<Guess>,
) {
    let ready = match check.kind {
        CheckKind::Number => number_ui(ui, check, draft),
        CheckKind::Choice => choice_ui(ui, texts, check, draft),
        CheckKind::Order => {
            order_ui(ui, texts, check, draft);
            Some(Guess::Order(draft.order.clone()))
        }
    };
    ui.add_space(4.0);
    ui.horizontal(|ui| {
        let commit = ui.add_enabled(ready.is_some(), egui::Button::new("Commit"));
        if commit.clicked() {
            *committed = ready;
        }
        let weak = theme::palette(ui.visuals()).weak_text;
        ui.label(
            RichText::new("The answer is shown once you have committed to yours.")
                .small()
                .color(weak),
        );
    });
}

fn number_ui(ui: &mut Ui, check: &Check, draft: &mut Draft) -> Option<Guess> {
    ui.horizontal(|ui| {
        let field = egui::TextEdit::singleline(&mut draft.number)
            .desired_width(110.0)
            .hint_text("a number");
        let edit = ui.add(field);
        edit.widget_info(|| {
            egui::WidgetInfo::labeled(egui::accesskit::Role::TextInput, true, "Your answer")
        });
        ui.label(&check.unit);
    });
    let typed = draft.number.trim().replace('−', "-").replace(',', "");
    let value: f64 = typed.parse().ok()?;
    value.is_finite().then_some(Guess::Number(value))
}

fn choice_ui(ui: &mut Ui, texts: &mut Texts, check: &Check, draft: &mut Draft) -> Option<Guess> {
    for (i, option) in check.options.iter().enumerate() {
        ui.horizontal_top(|ui| {
            let radio = ui.radio(draft.choice == Some(i), "");
            radio.widget_info(|| {
                let is_chosen = draft.choice == Some(i);
                egui::WidgetInfo::selected(
                    egui::accesskit::Role::RadioButton,
                    true,
                    is_chosen,
                    option,
                )
            });
            if radio.clicked() {
                draft.choice = Some(i);
            }
            ui.vertical(|ui| {
                // Beside the middle of the circle.
                ui.add_space(3.0);
                texts.show(ui, option);
            });
        });
    }
    draft.choice.map(Guess::Choice)
}

fn order_ui(ui: &mut Ui, texts: &mut Texts, check: &Check, draft: &mut Draft) {
    let mut swap = None;
    for place in 0..draft.order.len() {
        ui.horizontal_top(|ui| {
            let up = ui.add_enabled(place > 0, egui::Button::new("⬆"));
            if up.on_hover_text("Move up").clicked() {
                swap = Some((place, place - 1));
            }
            let is_last = place + 1 == draft.order.len();
            let down = ui.add_enabled(!is_last, egui::Button::new("⬇"));
            if down.on_hover_text("Move down").clicked() {
                swap = Some((place, place + 1));
            }
            if let Some(option) = draft.order.get(place).and_then(|&i| check.options.get(i)) {
                ui.vertical(|ui| {
                    // Beside the middle of the buttons.
                    ui.add_space(4.0);
                    texts.show(ui, &format!("{}\\. {option}", place + 1));
                });
            }
        });
    }
    if let Some((from, to)) = swap {
        draft.order.swap(from, to);
    }
}

/// Says whether the answer is right, and what would have been.
fn verdict(ui: &mut Ui, texts: &mut Texts, check: &Check, guess: &Guess, reply: &Reply) {
    let (is_right, line) = match guess {
        Guess::Number(guess) => {
            if let Some(error) = &reply.error {
                let colour = theme::palette(ui.visuals()).error;
                ui.colored_label(colour, error.to_string());
                return;
            }
            let Some(truth) = truth(check, reply) else {
                ui.horizontal(|ui| {
                    ui.spinner();
                    ui.label("The answer is being computed…");
                });
                return;
            };
            let line = format!(
                "You said {} {unit}; computed just now: {} {unit}.",
                number(*guess as f32),
                number(truth.measured as f32),
                unit = check.unit
            );
            (check.accepts(*guess, truth.measured), line)
        }
        Guess::Choice(choice) => (check.answer == Some(*choice), String::new()),
        Guess::Order(order) => (order.is_sorted(), String::new()),
    };
    let palette = theme::palette(ui.visuals());
    ui.horizontal_wrapped(|ui| {
        let (word, colour) = if is_right {
            ("Right.", palette.accent)
        } else {
            ("Not quite.", palette.warning)
        };
        ui.label(RichText::new(word).strong().color(colour));
        ui.label(line);
    });
    match guess {
        Guess::Number(_) => {}
        Guess::Choice(choice) => {
            let mut said = |ui: &mut Ui, name: &str, i: Option<usize>| {
                if let Some(option) = i.and_then(|i| check.options.get(i)) {
                    texts.show(ui, &format!("*{name}:* {option}"));
                }
            };
            if !is_right {
                said(ui, "You said", Some(*choice));
            }
            said(ui, "Answer", check.answer);
        }
        Guess::Order(order) => {
            for (i, option) in check.options.iter().enumerate() {
                let yours = order
                    .iter()
                    .position(|&j| j == i)
                    .map_or(0, |place| place + 1);
                texts.show(ui, &format!("{}. {option} *(you: {yours})*", i + 1));
            }
        }
    }
}

/// Whether a committed answer is right, where that needs no computation.
pub fn is_settled(check: &Check, guess: Option<&Guess>) -> bool {
    match (check.kind, guess) {
        (_, None) => false,
        (CheckKind::Number, Some(Guess::Number(_)))
        | (CheckKind::Choice, Some(Guess::Choice(_)))
        | (CheckKind::Order, Some(Guess::Order(_))) => true,
        _ => false,
    }
}
