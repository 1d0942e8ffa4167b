//! A claim: the learner judges it, says how sure, and sees what decides.

use egui::{Key, RichText, Ui, vec2};

use super::desk::{Desk, Extra, experiment};
use super::parts::{
    Stopwatch, capital, card, confidence, describe, digit, free_key, heading, kicker, large_lines,
    lines, main_button, rating, small, sources,
};
use super::proof::{experiment_card, followed, hint};
use super::question::prove;
use super::record::Logged;
use crate::practice::bank::{Claim, Verdict};
use crate::practice::claims::{Judged, LEAST_CONFIDENCE};
use crate::practice::schedule::Evidence;
use crate::theme;

/// Seconds a judgement may take.
const SECONDS: f64 = 45.0;
/// How sure one is unless one says otherwise.
const BEGIN: f64 = 0.7;

/// A judgement of a claim.
#[derive(Clone, Debug)]
pub(super) struct ClaimAttempt {
    watch: Stopwatch,
    confidence: Option<f64>,
    judged: Option<(Verdict, Judged)>,
    logged: Option<Logged>,
}

impl ClaimAttempt {
    pub(super) fn new(now: i64) -> Self {
        Self {
            watch: Stopwatch::new(now),
            confidence: Some(BEGIN),
            judged: None,
            logged: None,
        }
    }

    /// Out of sight: its time does not run.
    pub(super) fn pause(&mut self, now: i64) {
        self.watch.pause(now);
    }

    /// Whether it has been judged and counted.
    pub(super) fn is_logged(&self) -> bool {
        self.logged.is_some()
    }

    /// Whether the judgement was right, once there is one.
    pub(super) fn correct(&self) -> Option<bool> {
        self.judged.map(|(_, judged)| judged.correct)
    }

    fn judge(&mut self, claim: &Claim, verdict: Verdict, desk: &mut Desk<'_>) {
        let sure = self.confidence.unwrap_or(BEGIN);
        let judged = claim.judge(verdict, sure);
        let evidence = Evidence {
            grade: judged.grade,
            seconds: self.watch.read(desk.now),
            expected_seconds: SECONDS,
            confidence: Some(sure),
        };
        let extra = Extra {
            correct: judged.correct,
            answer: Some(verdict.name().to_owned()),
            ..Extra::default()
        };
        self.logged = Some(desk.log(&claim.id, evidence, extra));
        self.judged = Some((verdict, judged));
        // What decides is run on the spot.
        if let Some(experiment) = claim.experiment.as_deref().and_then(experiment) {
            desk.asked.insert(experiment.name);
        }
    }

    /// The bar under the claim. Gives the judgement when the learner goes on.
    pub(super) fn actions(
        &mut self,
        ui: &mut Ui,
        claim: &Claim,
        desk: &mut Desk<'_>,
    ) -> Option<Logged> {
        self.watch.go_on(desk.now);
        let Some(logged) = &mut self.logged else {
            let key = digit(ui).and_then(|digit| Verdict::ALL.get(usize::from(digit) - 1));
            let mut verdict = key.copied();
            ui.horizontal(|ui| {
                small(ui, "This claim is");
                for (i, each) in Verdict::ALL.into_iter().enumerate() {
                    let text = format!("{}  {}", i + 1, capital(each.name()));
                    let button = egui::Button::new(text).min_size(vec2(110.0, 30.0));
                    if ui.add(button).clicked() {
                        verdict = Some(each);
                    }
                }
                small(ui, "Imprecise: right only with a correction.");
            });
            if let Some(verdict) = verdict {
                self.judge(claim, verdict, desk);
                ui.ctx().request_repaint();
            }
            return None;
        };
        let preview = desk.record.preview(&logged.before, logged.review.at);
        let mut goes_on = false;
        ui.horizontal_wrapped(|ui| {
            goes_on = main_button(ui, true, "Go on") || free_key(ui, Key::Space);
            small(ui, "Comes back in:");
            if let Some(chosen) = rating(ui, preview, logged.review.rating) {
                desk.record.correct(&mut logged.review, chosen);
                goes_on = true;
            }
        });
        if !goes_on {
            return None;
        }
        logged.clone().into()
    }

    /// The claim and, once judged, what is right.
    pub(super) fn body(&mut self, ui: &mut Ui, claim: &Claim, desk: &mut Desk<'_>) {
        card(ui, |ui| {
            kicker(ui, &describe("Claim", claim.level, &claim.topic));
            ui.add_space(4.0);
            large_lines(ui, |ui| desk.texts.show(ui, &claim.text));
            ui.add_space(8.0);
            match &self.judged {
                None => confidence(ui, LEAST_CONFIDENCE, &mut self.confidence),
                Some((verdict, judged)) => {
                    self.verdict(ui, claim, *verdict, *judged);
                }
            }
        });
        if self.judged.is_some() {
            card(ui, |ui| lines(ui, |ui| correction(ui, claim, desk)));
            let decisive = claim.experiment.as_deref();
            if let Some(experiment) = decisive.and_then(experiment) {
                experiment_card(ui, experiment, desk);
            }
            followed(ui, claim.texts(), decisive, desk);
        }
    }

    fn verdict(&self, ui: &mut Ui, claim: &Claim, verdict: Verdict, judged: Judged) {
        let palette = theme::palette(ui.visuals());
        let sure = 100.0 * self.confidence.unwrap_or(BEGIN);
        ui.horizontal_wrapped(|ui| {
            let (word, colour) = if judged.correct {
                ("Right.", palette.accent)
            } else {
                ("Not so.", palette.warning)
            };
            ui.label(RichText::new(word).strong().color(colour));
            ui.label(format!(
                "It is {}. You said {}, {sure:.0} % sure: a Brier score of {:.2} (0 is best, 1 worst).",
                claim.verdict.name(),
                verdict.name(),
                judged.brier
            ));
        });
    }
}

fn correction(ui: &mut Ui, claim: &Claim, desk: &mut Desk<'_>) {
    ui.horizontal(|ui| {
        kicker(ui, "How it is right");
        hint(ui, claim.texts());
    });
    ui.add_space(4.0);
    desk.texts.show(ui, &claim.correction);
    heading(ui, "What decides it");
    desk.texts.show(ui, &claim.decides);
    ui.add_space(4.0);
    prove(ui, &claim.demo, desk);
    sources(ui, &claim.sources);
}
