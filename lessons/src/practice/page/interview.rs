//! The mock interview: half an hour of questions against the clock, then grading next to the model answers, then a report. It is
//! kept with the settings: closing the window stops its clock.

use std::time::Duration;

use egui::{Color32, RichText, Ui, vec2};

use super::PracticeRequest;
use super::desk::{Desk, Extra};
use super::parts::{
    bar, capital, card, date, describe, digit, done_keys, empty, heading, kicker, large_lines,
    lines, main_button, neighbours, sheet, small, topic_title, words,
};
use super::question::solution;
use super::settings::PracticeSettings;
use crate::practice::log::Review;
use crate::practice::mock::{Answered, Kept, MINUTES, Plan, report};
use crate::practice::schedule::{Evidence, Grade, Rating};
use crate::theme;

/// Seconds of an interview.
const WHOLE: i64 = 60 * MINUTES as i64;
/// The clock alone is kept this often, in seconds; what is written and chosen, at once.
const KEEP_EVERY: i64 = 10;

/// An interview that has begun.
struct Sitting {
    plan: Plan,
    answers: Vec<Answered>,
    place: usize,
    /// The question whose field has been given the keys: one writes without reaching for it.
    focused: Option<usize>,
    /// When it began, by the calendar.
    begun: i64,
    /// When it would have begun had it never been interrupted.
    started: i64,
    /// Up to when the time has been given to questions.
    counted: i64,
    /// When it ended; the grading follows.
    ended: Option<i64>,
    /// What the grades were counted as.
    counted_as: Vec<Option<Review>>,
}

/// The part of the page.
#[derive(Default)]
pub(super) struct InterviewPart {
    sitting: Option<Sitting>,
}

impl InterviewPart {
    /// How an interview stands, in a word, if there is one.
    pub(super) fn standing(&self, settings: &PracticeSettings) -> Option<&'static str> {
        match (&self.sitting, &settings.interview) {
            (Some(sitting), _) if sitting.ended.is_none() => Some("running"),
            (Some(_), _) => Some("to grade"),
            (None, Some(kept)) if kept.ended => Some("to grade"),
            (None, Some(_)) => Some("waiting"),
            (None, None) => None,
        }
    }

    /// Keeps it as it is now.
    pub(super) fn keep(&self, now: i64, settings: &mut PracticeSettings) {
        if let Some(sitting) = &self.sitting {
            settings.interview = Some(sitting.kept(now));
        }
    }

    /// Draws it.
    pub(super) fn show(
        &mut self,
        ui: &mut Ui,
        desk: &mut Desk<'_>,
        settings: &mut PracticeSettings,
    ) {
        if self.sitting.is_none() {
            self.take_kept(ui, desk, settings);
        }
        let leaves = match &mut self.sitting {
            None => false,
            Some(sitting) => {
                sitting.tick(desk.now);
                if sitting.ended.is_none() {
                    sitting.ask(ui, desk);
                    ui.ctx().request_repaint_after(Duration::from_millis(500));
                    false
                } else {
                    sitting.grade(ui, desk)
                }
            }
        };
        if leaves {
            self.sitting = None;
            settings.interview = None;
            ui.ctx().request_repaint();
        }
        let kept = settings.interview.as_ref();
        if let Some(sitting) = &self.sitting
            && !kept.is_some_and(|kept| sitting.is_kept(kept, desk.now))
        {
            self.keep(desk.now, settings);
        }
    }

    /// Goes on with the interview that was kept, if there is one; offers to begin one if not.
    fn take_kept(&mut self, ui: &mut Ui, desk: &mut Desk<'_>, settings: &mut PracticeSettings) {
        match settings.interview.take_if(|kept| !kept.is_sound(desk.bank)) {
            Some(_) => {
                let notice = "The interview that was kept does not fit the questions of this program, and was given up.";
                desk.record.notices.push(notice.to_owned());
                ui.ctx().request_repaint();
            }
            None => match &settings.interview {
                None => self.begin(ui, desk, settings.topic.as_deref()),
                Some(kept) if kept.ended => self.sitting = Some(Sitting::of(kept, desk.now)),
                Some(kept) => match waiting(ui, kept, desk) {
                    Some(true) => self.sitting = Some(Sitting::of(kept, desk.now)),
                    Some(false) => settings.interview = None,
                    None => {}
                },
            },
        }
    }

    fn begin(&mut self, ui: &mut Ui, desk: &Desk<'_>, topic: Option<&str>) {
        let mut questions = desk.bank.questions.iter();
        if !questions.any(|question| topic.is_none_or(|topic| topic == question.topic)) {
            let text = "No question is of this topic. Choose another on the left.";
            sheet(ui, "no interview", |ui| {
                empty(ui, "No questions here", text)
            });
            return;
        }
        let begins = bar(ui, |ui| main_button(ui, true, "Begin the interview"));
        sheet(ui, "interview", |ui| {
            let about = topic.map_or_else(String::new, |topic| {
                format!(" about one topic, {}", topic_title(topic))
            });
            let text = format!(
                "{MINUTES} minutes, questions of all levels{about}, easier ones first. Write or say each answer; model answers come only \
                 at the end, next to yours, for you to grade. The grades count in the schedule, and the whole can be saved as a \
                 report to print. The clock goes on while you look at other pages; it stands still while the window is closed."
            );
            empty(ui, "Mock interview", &text);
        });
        if begins {
            let seed = desk.now.unsigned_abs();
            let plan = Plan::about(desk.bank, topic, seed, MINUTES);
            let blank = |id: &String| Answered {
                id: id.clone(),
                ..Answered::default()
            };
            let ids = plan.questions.iter().map(|question| &question.id);
            self.sitting = Some(Sitting {
                answers: ids.map(blank).collect(),
                counted_as: vec![None; plan.questions.len()],
                plan,
                place: 0,
                focused: None,
                begun: desk.now,
                started: desk.now,
                counted: desk.now,
                ended: None,
            });
            ui.ctx().request_repaint();
        }
    }
}

/// An interview that was interrupted: whether to go on with it, once that is chosen.
fn waiting(ui: &mut Ui, kept: &Kept, desk: &Desk<'_>) -> Option<bool> {
    let mut chosen = None;
    bar(ui, |ui| {
        ui.horizontal(|ui| {
            if main_button(ui, true, "Go on with the interview") {
                chosen = Some(true);
            }
            if ui.button("Give it up").clicked() {
                chosen = Some(false);
            }
        });
    });
    sheet(ui, "interview waits", |ui| {
        let text = format!(
            "You began it on {}. {} of {MINUTES} minutes are left; you were at question {} of {} and have written about {}. \
             The clock has stood still since, and goes on when you do.",
            date(kept.begun, desk.zone),
            clock_text(kept.left()),
            kept.place + 1,
            kept.answers.len(),
            kept.written(),
        );
        empty(ui, "An interview is waiting", &text);
    });
    if chosen.is_some() {
        ui.ctx().request_repaint();
    }
    chosen
}

impl Sitting {
    /// The one that was kept, going on from now.
    fn of(kept: &Kept, now: i64) -> Self {
        Self {
            plan: kept.plan.clone(),
            answers: kept.answers.clone(),
            place: kept.place,
            focused: None,
            begun: kept.begun,
            started: now - kept.spent,
            counted: now,
            ended: kept.ended.then_some(now),
            counted_as: kept.counted.clone(),
        }
    }

    /// Seconds of it that are over.
    fn spent(&self, now: i64) -> i64 {
        (self.ended.unwrap_or(now) - self.started).clamp(0, WHOLE)
    }

    fn kept(&self, now: i64) -> Kept {
        Kept {
            plan: self.plan.clone(),
            answers: self.answers.clone(),
            place: self.place,
            begun: self.begun,
            spent: self.spent(now),
            ended: self.ended.is_some(),
            counted: self.counted_as.clone(),
        }
    }

    /// Whether that is what has been kept, but for a few seconds.
    fn is_kept(&self, kept: &Kept, now: i64) -> bool {
        let same = |(own, kept): (&Answered, &Answered)| {
            own.id == kept.id && own.text == kept.text && own.grade == kept.grade
        };
        self.place == kept.place
            && self.begun == kept.begun
            && self.ended.is_some() == kept.ended
            && (0..KEEP_EVERY).contains(&(self.spent(now) - kept.spent))
            && self.answers.len() == kept.answers.len()
            && self.answers.iter().zip(&kept.answers).all(same)
            && self.counted_as == kept.counted
    }

    /// Gives the time since the last frame to the question that is open; ends when there is none left.
    fn tick(&mut self, now: i64) {
        if self.ended.is_some() {
            return;
        }
        let end = self.started + WHOLE;
        let until = now.min(end);
        if let Some(answer) = self.answers.get_mut(self.place) {
            answer.seconds += (until - self.counted).max(0) as f64;
        }
        self.counted = until.max(self.counted);
        if now >= end {
            self.end(end);
        }
    }

    fn end(&mut self, at: i64) {
        self.ended = Some(at);
        self.place = 0;
    }

    /// A question against the clock.
    fn ask(&mut self, ui: &mut Ui, desk: &mut Desk<'_>) {
        let (place, count) = (self.place, self.answers.len());
        let left = WHOLE - self.spent(desk.now);
        let Some((planned, answer)) = self
            .plan
            .questions
            .get(place)
            .zip(self.answers.get_mut(place))
        else {
            self.end(desk.now);
            return;
        };
        let is_last = place + 1 >= count;
        let (mut next, mut ends) = (done_keys(ui), false);
        bar(ui, |ui| {
            ui.horizontal(|ui| {
                let text = if is_last {
                    "Done: to the grading"
                } else {
                    "Next question"
                };
                next |= main_button(ui, true, text);
                small(ui, "Ctrl+Enter");
                ends = !is_last && ui.button("End the interview").clicked();
            });
        });
        let mut go = None;
        sheet(ui, ("asking", place), |ui| {
            go = neighbours(ui, place, count, "questions");
            clock(ui, left, answer.seconds, f64::from(planned.seconds));
            card(ui, |ui| {
                kicker(ui, &describe("Question", planned.level, &planned.topic));
                ui.add_space(4.0);
                if let Some(question) = desk.bank.question(&planned.id) {
                    large_lines(ui, |ui| desk.texts.show(ui, &question.question));
                }
                ui.add_space(8.0);
                ui.push_id(&planned.id, |ui| {
                    let hint = "What you would say";
                    let field = words(ui, "Your answer", hint, 10, &mut answer.text);
                    if self.focused.replace(place) != Some(place) {
                        field.request_focus();
                    }
                });
            });
        });
        if ends || (next && is_last) {
            self.end(desk.now);
        } else if next {
            self.place += 1;
        } else if let Some(place) = go {
            self.place = place;
        } else {
            return;
        }
        ui.ctx().request_repaint();
    }

    /// An answer next to the model answer. Gives whether the learner is through with the interview.
    fn grade(&mut self, ui: &mut Ui, desk: &mut Desk<'_>) -> bool {
        let (place, count) = (self.place, self.answers.len());
        let mut leaves = false;
        // Who was writing a number when the time ran out did not mean to grade.
        let is_fresh = self.ended.is_some_and(|ended| desk.now < ended + 2);
        let mut chosen = digit(ui).filter(|_| !is_fresh).and_then(Rating::of_key);
        bar(ui, |ui| {
            ui.horizontal_wrapped(|ui| {
                let grade = self.answers.get(place).and_then(|answer| answer.grade);
                small(ui, "This answer was");
                for (i, rating) in Rating::ALL.into_iter().enumerate() {
                    let text = format!("{}  {}", i + 1, capital(grade_name(rating)));
                    let is_it = grade == Some(rating);
                    let button = egui::Button::selectable(is_it, text)
                        .frame_when_inactive(true)
                        .min_size(vec2(0.0, 30.0));
                    if ui.add(button).clicked() {
                        chosen = Some(rating);
                    }
                }
                ui.add_space(16.0);
                if main_button(ui, true, "Save the report…") {
                    let at = date(self.begun, desk.zone);
                    desk.requests.push(PracticeRequest::Save {
                        name: format!("mock-interview-{}.md", at.get(..10).unwrap_or("report")),
                        ending: "md",
                        text: report(desk.bank, &self.plan, &self.answers, &at),
                    });
                }
                leaves = ui.button("Close the interview").clicked();
            });
        });
        let mut go = None;
        sheet(ui, ("grading", place), |ui| {
            go = neighbours(ui, place, count, "answers");
            self.summary(ui);
            self.compare(ui, desk);
        });
        if let Some(rating) = chosen {
            self.rate(rating, desk);
            // On to the next that has no grade.
            let open = |place: &usize| {
                let answer = self.answers.get(*place);
                answer.is_some_and(|answer| answer.grade.is_none())
            };
            go = (place..count).chain(0..place).find(open);
            ui.ctx().request_repaint();
        }
        if let Some(place) = go {
            self.place = place;
            ui.ctx().request_repaint();
        }
        leaves
    }

    fn summary(&self, ui: &mut Ui) {
        let graded = self.answers.iter().filter_map(|answer| answer.grade);
        let (all, good) = graded.fold((0, 0), |(all, good), grade| {
            (all + 1, good + usize::from(grade >= Rating::Good))
        });
        let took = self.spent(self.started);
        let text = format!(
            "The interview took {} of {MINUTES} minutes. {all} of {} answers graded, {good} of them good or better.",
            clock_text(took),
            self.answers.len()
        );
        small(ui, text);
    }

    fn compare(&self, ui: &mut Ui, desk: &mut Desk<'_>) {
        let bank = desk.bank;
        let Some(answer) = self.answers.get(self.place) else {
            return;
        };
        let Some(question) = bank.question(&answer.id) else {
            return;
        };
        card(ui, |ui| {
            kicker(ui, &describe("Question", question.level, &question.topic));
            large_lines(ui, |ui| desk.texts.show(ui, &question.question));
            heading(ui, "Your answer");
            let text = answer.text.trim();
            if text.is_empty() {
                small(ui, "Nothing was written.");
            } else {
                lines(ui, |ui| ui.label(text));
            }
            let took = clock_text(answer.seconds as i64);
            small(ui, format!("It took {took} minutes."));
        });
        solution(ui, question, desk);
    }

    /// Grades the answer that is shown; the grade counts in the schedule, and so does another one later.
    fn rate(&mut self, rating: Rating, desk: &mut Desk<'_>) {
        let place = self.place;
        let parts = self
            .answers
            .get_mut(place)
            .zip(self.counted_as.get_mut(place))
            .zip(self.plan.questions.get(place));
        let Some(((answer, counted), planned)) = parts else {
            return;
        };
        answer.grade = Some(rating);
        if let Some(review) = counted {
            desk.record.correct(review, rating);
            return;
        }
        let grade = match rating {
            Rating::Again => Grade::Wrong,
            Rating::Hard => Grade::Partly,
            Rating::Good | Rating::Easy => Grade::Right,
        };
        let evidence = Evidence {
            grade,
            seconds: answer.seconds,
            expected_seconds: f64::from(planned.seconds),
            confidence: None,
        };
        let extra = Extra {
            correct: grade == Grade::Right,
            rating: Some(rating),
            seed: None,
            answer: Some(answer.text.clone()),
        };
        *counted = Some(desk.log(&planned.id, evidence, extra).review);
    }
}

/// What a grade says of an answer.
fn grade_name(rating: Rating) -> &'static str {
    match rating {
        Rating::Again => "wrong",
        Rating::Hard => "right in part",
        Rating::Good => "good",
        Rating::Easy => "easy",
    }
}

fn clock_text(seconds: i64) -> String {
    let seconds = seconds.max(0);
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

/// The time that is left, and what the question has taken of its own.
fn clock(ui: &mut Ui, left: i64, spent: f64, planned: f64) {
    let palette = theme::palette(ui.visuals());
    let colour = |is_short: bool| -> Color32 {
        if is_short {
            palette.warning
        } else {
            palette.text
        }
    };
    ui.horizontal(|ui| {
        let text = RichText::new(clock_text(left)).monospace().size(22.0);
        ui.label(text.color(colour(left < 120)));
        small(ui, "minutes left");
        ui.add_space(16.0);
        let text = format!(
            "this question: {} of {}",
            clock_text(spent as i64),
            clock_text(planned as i64)
        );
        ui.colored_label(colour(spent > planned), text);
    });
}
