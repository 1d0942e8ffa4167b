//! The practice page as its learner meets it: rating by keys, drills, claims, the interview, coming back after a restart.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use egui::accesskit::{Action, Role};
use egui::{Key, Modifiers};
use egui_kittest::Harness;
use egui_kittest::kittest::{NodeT, Queryable};
use mambascope_core::backend::NaiveBackend;
use mambascope_core::engine::Engine;
use mambascope_core::job::Workshop;
use mambascope_core::study::Study;
use mambascope_lessons::notebook::Notebook;
use mambascope_lessons::notebook::settings::NotebookSettings;
use mambascope_lessons::practice::bank::{Bank, Level};
use mambascope_lessons::practice::drill::{DRILLS, DrillEntry, Response, Task, drill};
use mambascope_lessons::practice::log::{FILE, Review, ReviewLog};
use mambascope_lessons::practice::page::settings::{Part, PracticeSettings};
use mambascope_lessons::practice::page::{Export, PracticePage, PracticeRequest};
use mambascope_lessons::practice::schedule::{DAY, Rating, Zone};
use mambascope_lessons::theme;

use crate::workshop;

/// A moment to begin at.
const NOW: i64 = 1_795_633_500;

/// A small bank: its claims do not depend on the files.
const SMALL: &str = r#"
[[question]]
id = "half-life-of-a-slot"
level = "basic"
question = "What is the half-life of a slot?"
answer = "$\\ln 2 / (\\Delta |A|)$ tokens."
listens_for = ["A is a rate", "Δ is a time"]
common_wrong = "It is 1 / A."
sources = [{ text = "Mamba", url = "https://arxiv.org/abs/2312.00752" }]
lesson = "leaky-integrator"
demo = "one-slot"

[[claim]]
id = "slots-never-leak"
topic = "small"
level = "basic"
text = "A slot with $A < 0$ never leaks."
verdict = "false"
correction = "It leaks at every token, by $e^{\\Delta A}$."
sources = [{ text = "Mamba", url = "https://arxiv.org/abs/2312.00752" }]
lesson = "leaky-integrator"
demo = "one-slot"
decides = "The half-life of a slot is finite."
experiment = "half-life"

[[claim]]
id = "delta-is-a-step"
topic = "small"
level = "basic"
text = "Δ is a step size."
verdict = "true"
correction = "It says how long a token lasts."
sources = [{ text = "Mamba", url = "https://arxiv.org/abs/2312.00752" }]
lesson = "leaky-integrator"
demo = "one-slot"
decides = "A token with Δ = 0 changes nothing."
"#;

fn small_bank() -> Bank {
    Bank::parse(&[("small.toml", SMALL)]).unwrap()
}

fn bank() -> Bank {
    Bank::load().unwrap()
}

fn page(folder: Option<&Path>) -> PracticePage {
    PracticePage::with_bank(Ok(bank()), folder)
}

struct State {
    page: PracticePage,
    settings: PracticeSettings,
    requests: Vec<PracticeRequest>,
    now: i64,
    zone: Zone,
}

struct Learner {
    window: Harness<'static, State>,
    engine: Arc<Engine>,
}

impl Learner {
    fn open(part: Part, folder: Option<&Path>) -> Self {
        Self::with(page(folder), part, [1280.0, 764.0])
    }

    fn small(part: Part, folder: Option<&Path>) -> Self {
        let page = PracticePage::with_bank(Ok(small_bank()), folder);
        Self::with(page, part, [1280.0, 764.0])
    }

    fn with(page: PracticePage, part: Part, size: [f32; 2]) -> Self {
        let workshop = Workshop::new(vec![Box::new(NaiveBackend::default())]);
        let engine = Arc::new(Engine::start(workshop, || {}).unwrap());
        let asked = Arc::clone(&engine);
        let state = State {
            page,
            settings: PracticeSettings {
                part,
                ..Default::default()
            },
            requests: Vec::new(),
            now: NOW,
            zone: Zone::UTC,
        };
        let window = Harness::builder()
            .with_size(size)
            .with_max_steps(64)
            .with_render_cursor(false)
            .with_context_setup(theme::apply)
            .build_ui_state(
                move |ui, state: &mut State| {
                    let State {
                        page,
                        settings,
                        requests,
                        now,
                        zone,
                    } = state;
                    let fill = theme::palette(ui.visuals()).bg;
                    egui::Frame::new().fill(fill).show(ui, |ui| {
                        page.show(ui, &asked, *now, *zone, settings, requests);
                    });
                },
                state,
            );
        let mut learner = Self { window, engine };
        learner.settle();
        learner
    }

    fn settle(&mut self) {
        let start = Instant::now();
        let mut rest = 0;
        while rest < 2 {
            self.window.run_steps(2);
            rest = if self.engine.is_busy() { 0 } else { rest + 1 };
            assert!(
                start.elapsed() < Duration::from_secs(30),
                "never came to rest"
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn press(&mut self, key: Key) {
        self.window.key_press(key);
        self.settle();
    }

    fn click(&mut self, label: &str) {
        let found = self.window.query_all_by_label(label).next();
        found.unwrap_or_else(|| panic!("no {label}")).click();
        self.settle();
    }

    fn click_on(&mut self, label: &str) {
        let found = self.window.query_all_by_label_contains(label).next();
        found.unwrap_or_else(|| panic!("no {label}")).click();
        self.settle();
    }

    fn write(&mut self, role: Role, label: &str, text: &str) {
        self.window.get_by_role_and_label(role, label).focus();
        self.window.run_steps(2);
        self.window
            .get_by_role_and_label(role, label)
            .type_text(text);
        self.settle();
    }

    /// Replaces what stands in a field.
    fn write_anew(&mut self, label: &str, text: &str) {
        let field = |learner: &Self| {
            let field = learner.window.get_by_role_and_label(Role::TextInput, label);
            field.focus();
        };
        field(self);
        self.window.run_steps(2);
        self.window.key_press_modifiers(Modifiers::COMMAND, Key::A);
        self.window.run_steps(2);
        self.write(Role::TextInput, label, text);
    }

    fn says(&self, text: &str) -> bool {
        self.window
            .query_all_by_label_contains(text)
            .next()
            .is_some()
    }

    fn reviews(&self) -> &[Review] {
        self.window.state().page.reviews()
    }

    fn wait(&mut self, seconds: i64) {
        self.window.state_mut().now += seconds;
        self.settle();
    }
}

#[test]
fn a_review_is_rated_by_key_and_comes_back_later() {
    let folder = tempfile::tempdir().unwrap();
    let mut learner = Learner::open(Part::Review, Some(folder.path()));
    learner.press(Key::Space);
    assert!(learner.says("Model answer"));
    learner.press(Key::Num3);
    let review = &learner.reviews()[0];
    assert_eq!((review.rating, review.correct), (Rating::Good, true));
    let first = review.item.clone();
    assert!(!learner.says("Model answer"), "the next one is asked");
    let page = &learner.window.state().page;
    assert_eq!(page.due(NOW, Zone::UTC), 0);
    assert_eq!(page.due(NOW + 60 * DAY, Zone::UTC), 1);
    learner.wait(60 * DAY);
    learner.click_on("Review  (1 due");
    learner.press(Key::Space);
    learner.press(Key::Num1);
    // The one that is shown was left open while time went by: the due one may come next.
    assert_eq!(learner.reviews().len(), 2);
    let log = ReviewLog::open(folder.path()).unwrap();
    assert_eq!(log.reviews, learner.reviews());
    assert!(log.reviews.iter().any(|review| review.item == first));
}

#[test]
fn a_rating_can_be_corrected() {
    let mut learner = Learner::small(Part::Review, None);
    learner.press(Key::Space);
    learner.press(Key::Num4);
    learner.click("The one before was again");
    let ratings: Vec<Rating> = learner
        .reviews()
        .iter()
        .map(|review| review.rating)
        .collect();
    assert_eq!(ratings, [Rating::Easy, Rating::Again]);
    assert_eq!(learner.reviews()[1].revision, 1);
    // Forgotten: back in ten minutes.
    assert_eq!(learner.window.state().page.due(NOW + 601, Zone::UTC), 1);
}

#[test]
fn space_is_a_letter_while_one_writes() {
    let mut learner = Learner::small(Part::Review, None);
    learner.write(Role::MultilineTextInput, "Your answer", "ln 2 over");
    learner.press(Key::Space);
    learner.press(Key::Num3);
    assert!(!learner.says("Model answer"));
    assert!(learner.reviews().is_empty());
    learner
        .window
        .key_press_modifiers(Modifiers::COMMAND, Key::Enter);
    learner.settle();
    assert!(learner.says("Model answer"));
    learner.press(Key::Enter);
    let review = &learner.reviews()[0];
    assert_eq!(review.rating, review.suggested);
    assert_eq!(review.answer.as_deref(), Some("ln 2 over"));
}

#[test]
fn arrows_go_from_one_question_to_the_next() {
    let mut learner = Learner::open(Part::Review, None);
    assert!(learner.says("1 of 10 to answer"));
    learner.press(Key::ArrowRight);
    learner.press(Key::ArrowRight);
    assert!(learner.says("3 of 10 to answer"));
    learner.press(Key::ArrowLeft);
    assert!(learner.says("2 of 10 to answer"));
}

#[test]
fn every_proof_opens_its_demo() {
    let bank = bank();
    let topics = bank.topics();
    for claim in &bank.claims {
        assert!(topics.contains(&claim.topic.as_str()), "{}", claim.id);
    }
    let workshop = Workshop::new(vec![Box::new(NaiveBackend::default())]);
    let engine = Engine::start(workshop, || {}).unwrap();
    let mut notebook = Notebook::new(None);
    let mut settings = NotebookSettings::default();
    let questions = bank.questions.iter().map(|it| (&it.id, it.preset_line()));
    let claims = bank.claims.iter().map(|it| (&it.id, it.demo.clone()));
    for (id, preset) in questions.chain(claims) {
        let gone = notebook.go_to_demo(&engine, &mut settings, &preset);
        assert!(gone.is_ok(), "{id}: {preset}: {gone:?}");
    }
}

#[test]
fn a_proof_is_asked_of_the_window() {
    let mut learner = Learner::small(Part::Review, None);
    learner.press(Key::Space);
    learner.click("Prove it");
    let requests = &learner.window.state().requests;
    let [PracticeRequest::Prove(line)] = requests.as_slice() else {
        panic!("{requests:?}");
    };
    assert!(line.starts_with("one-slot {"), "{line}");
}

/// A drill's title up to letters that are not drawn as they are written.
fn titled(entry: &DrillEntry) -> &'static str {
    let title = entry.title;
    title.split(" B\u{304}").next().unwrap_or(title)
}

/// Opens a drill of the list.
fn open_drill(learner: &mut Learner, id: &str) -> u64 {
    let title = titled(drill(id).unwrap());
    learner.click_on(title);
    NOW.unsigned_abs() % 100_000
}

#[test]
fn every_drill_accepts_the_computed_answer_typed_in() {
    let mut learner = Learner::open(Part::Drills, None);
    for entry in DRILLS {
        let seed = open_drill(&mut learner, entry.id);
        let drawn = entry.draw(seed).unwrap();
        let is_typed = match drawn.answer() {
            Response::Number(answer) => {
                learner.write(Role::TextInput, "Your number", &answer.to_string());
                true
            }
            Response::Code(formulas) => {
                let Task::Code(task) = &drawn.task else {
                    panic!("{} has no fields", entry.id);
                };
                for (field, formula) in task.fields.iter().zip(formulas) {
                    learner.write_anew(&format!("{} =", field.label), &formula);
                }
                true
            }
            // Dragged in a test of its own; here the flat line it begins with is checked.
            Response::Curve(_) => false,
        };
        learner.click("Check");
        assert!(learner.says("The calculation"), "{}", entry.id);
        let review = learner.reviews().last().unwrap().clone();
        assert_eq!((review.item.as_str(), review.seed), (entry.id, Some(seed)));
        assert_eq!(review.correct, is_typed, "{}", entry.id);
        assert_eq!(learner.says("Right:"), is_typed, "{}", entry.id);
        learner.press(Key::Space);
        assert!(!learner.says("The calculation"), "{}", entry.id);
    }
    assert_eq!(learner.reviews().len(), DRILLS.len());
}

#[test]
fn a_drill_accepts_the_formulas_of_its_solution_and_counts_once() {
    let mut learner = Learner::open(Part::Drills, None);
    let id = "code-write-the-step";
    let seed = open_drill(&mut learner, id);
    let drawn = drill(id).unwrap().draw(seed).unwrap();
    let Response::Code(fields) = drawn.answer() else {
        panic!("no formulas");
    };
    learner.write(Role::TextInput, "new h =", "h +");
    learner.write(Role::TextInput, "y =", &fields[1]);
    learner.press(Key::Enter);
    assert!(learner.says("This cannot be checked yet"));
    assert!(
        learner.reviews().is_empty(),
        "what cannot be read is no answer"
    );
    let rest = format!(" 0 * ({})", "x");
    learner.write(Role::TextInput, "new h =", &rest);
    learner.click("Check");
    assert!(learner.says("Not yet:"));
    assert_eq!(learner.reviews().len(), 1);
    assert_eq!(learner.reviews()[0].rating, Rating::Again);
    learner.click("Check again");
    assert_eq!(learner.reviews().len(), 1);
    learner.click("New numbers");
    learner.write(Role::TextInput, "new h =", &fields[0]);
    learner.write(Role::TextInput, "y =", &fields[1]);
    learner.press(Key::Enter);
    assert!(learner.says("Right:"));
    assert_eq!(learner.reviews().len(), 2);
}

#[test]
fn a_curve_is_drawn_with_the_pointer() {
    let mut learner = Learner::open(Part::Drills, None);
    let seed = open_drill(&mut learner, "drill-curve-leak");
    let drawn = drill("drill-curve-leak").unwrap().draw(seed).unwrap();
    let Response::Curve(expected) = drawn.answer() else {
        panic!("no curve");
    };
    let rect = learner
        .window
        .get_by_role_and_label(Role::Image, "The curve you expect")
        .rect();
    let centre = rect.center();
    learner.window.hover_at(centre);
    learner.window.run_steps(1);
    learner.window.drag_at(centre);
    learner.window.run_steps(1);
    // From the centre to both ends, along the upper edge.
    let steps = 80;
    let way = (0..=steps)
        .chain((0..steps).rev())
        .chain((1..=steps).map(|i| -i));
    for i in way {
        let x = centre.x + 0.5 * rect.width() * i as f32 / steps as f32;
        learner.window.hover_at(egui::pos2(x, rect.top() + 1.0));
        learner.window.run_steps(1);
    }
    learner.window.drop_at(rect.left_top());
    learner.settle();
    learner.click("Check");
    let review = &learner.reviews()[0];
    let curve = review.answer.clone().unwrap();
    assert_eq!(curve, vec!["1.000"; expected.len()].join(" "));
    assert!(!review.correct);
}

#[test]
fn a_judgement_changes_the_brier_score_and_the_experiment_runs_on_the_spot() {
    let mut learner = Learner::small(Part::Court, None);
    assert!(learner.says("Brier score: none yet"));
    learner.press(Key::Num1);
    assert!(learner.says("Not so."));
    assert!(learner.says("Brier score 0.490"));
    assert!(learner.says("✔ holds"));
    learner.press(Key::Space);
    learner.press(Key::Num1);
    assert!(learner.says("Right."));
    // (0.7² + 0.3²) / 2
    assert!(learner.says("Brier score 0.290"));
    learner.press(Key::Space);
    assert!(learner.says("The court rises"));
    learner.click("Another session");
    assert!(learner.says("never leaks"), "the mistake comes first");
}

#[test]
fn a_restart_finds_the_same_due_count() {
    let folder = tempfile::tempdir().unwrap();
    let mut learner = Learner::open(Part::Review, Some(folder.path()));
    for key in [Key::Num1, Key::Num3, Key::Num1, Key::Num2] {
        learner.press(Key::Space);
        learner.press(key);
    }
    let later = NOW + 20 * 60;
    let due = learner.window.state().page.due(later, Zone::UTC);
    assert_eq!(due, 2);
    let again = page(Some(folder.path()));
    assert_eq!(again.due(later, Zone::UTC), due);
    assert_eq!(again.reviews(), learner.reviews());
}

#[test]
fn a_damaged_log_is_told_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE);
    std::fs::write(&path, "no line\n{\"schema\": 9}\n{\"schema\":1,\"it").unwrap();
    let mut learner = Learner::open(Part::Progress, Some(folder.path()));
    assert!(learner.says("set aside as"));
    assert!(learner.says("of a newer Mambascope"));
    assert!(learner.says("was not written to its end"));
    learner.click("I have read this");
    assert_eq!(
        learner
            .window
            .query_all_by_label("I have read this")
            .count(),
        2
    );
}

#[test]
fn a_log_goes_out_and_comes_in_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let mut learner = Learner::open(Part::Review, Some(folder.path()));
    learner.press(Key::Space);
    learner.press(Key::Num3);
    learner.click("Export…");
    let requests = &learner.window.state().requests;
    let [PracticeRequest::Export(log)] = requests.as_slice() else {
        panic!("{requests:?}");
    };
    let to = folder.path().join("taken.jsonl");
    let export = Export {
        log: log.clone(),
        to: to.clone(),
    };
    let mut workshop = workshop();
    let written = export.compute(&mut workshop, &mut |_| ControlFlow::Continue(()));
    assert_eq!(written.unwrap(), to);
    let other = tempfile::tempdir().unwrap();
    let mut elsewhere = Learner::open(Part::Review, Some(other.path()));
    elsewhere.click("Import…");
    assert_eq!(elsewhere.window.state().requests, [PracticeRequest::Import]);
    elsewhere.window.state_mut().page.import(to);
    elsewhere.settle();
    assert!(elsewhere.says("Answers added: 1; there already: 0."));
    assert_eq!(elsewhere.reviews(), learner.reviews());
    let nowhere = folder.path().join("no folder").join("taken.jsonl");
    let export = Export {
        to: nowhere,
        ..export
    };
    let refused = export.compute(&mut workshop, &mut |_| ControlFlow::Continue(()));
    assert!(refused.unwrap_err().to_string().contains("no folder"));
    elsewhere
        .window
        .state_mut()
        .page
        .import(other.path().join("none"));
    elsewhere.settle();
    assert!(elsewhere.says("could not read"));
}

#[test]
fn a_day_ends_at_the_midnight_of_the_learner() {
    // 19:05 UTC: before midnight there, after midnight nine hours to the east.
    for (offset, is_new_day) in [(0, false), (9 * 3_600, true), (-9 * 3_600, false)] {
        let mut learner = Learner::open(Part::Review, None);
        let state = learner.window.state_mut();
        state.zone = Zone::Fixed(offset);
        state.settings.new_per_day = 3;
        // Five hours before, all that is new that day is answered.
        state.now = NOW - 5 * 3_600;
        learner.settle();
        for _ in 0..3 {
            learner.press(Key::Space);
            learner.press(Key::Num4);
        }
        assert!(learner.says("0 new"), "{offset}");
        learner.wait(5 * 3_600);
        assert_eq!(learner.says("3 new"), is_new_day, "{offset}");
    }
}

#[test]
fn an_interview_is_kept_while_the_window_is_closed() {
    let mut learner = Learner::open(Part::Interview, None);
    learner.click("Begin the interview");
    learner.write(Role::MultilineTextInput, "Your answer", "states are fixed");
    learner.wait(600);
    learner.click("Next question");
    learner.wait(90);
    // What the files of the settings and of the interview hold.
    let kept = |learner: &mut Learner| -> PracticeSettings {
        let State {
            page,
            settings,
            now,
            ..
        } = learner.window.state_mut();
        page.keep(*now, settings);
        let rest = serde_json::to_string(settings).unwrap();
        let interview = serde_json::to_string(&settings.interview).unwrap();
        PracticeSettings {
            interview: serde_json::from_str(&interview).unwrap(),
            ..serde_json::from_str(&rest).unwrap()
        }
    };
    let settings = kept(&mut learner);
    let reopen = |settings: PracticeSettings, later: i64| {
        let mut learner = Learner::open(Part::Interview, None);
        let state = learner.window.state_mut();
        (state.settings, state.now) = (settings, NOW + later);
        learner.settle();
        learner
    };
    // A day later the clock has not moved.
    let mut again = reopen(settings.clone(), DAY);
    assert!(again.says("Mock interview  (waiting)"));
    assert!(again.says("18:30 of 30 minutes are left"));
    assert!(again.says("at question 2 of"));
    again.click("Go on with the interview");
    assert!(again.says("18:30"));
    again.wait(19 * 60);
    assert!(again.says("Model answer") && again.says("states are fixed"));
    again.press(Key::Num2);
    let settings = kept(&mut again);
    // So is the grading, and a grade that is changed then corrects the one before.
    let mut graded = reopen(settings, 2 * DAY);
    assert!(graded.says("The interview took 30:00 of 30 minutes. 1 of"));
    graded.wait(3);
    graded.click("← Previous");
    graded.press(Key::Num1);
    let review = graded.reviews().last().unwrap();
    assert_eq!((review.rating, review.revision), (Rating::Again, 1));
    graded.click("Close the interview");
    assert!(graded.window.state().settings.interview.is_none());
    assert!(graded.says("Begin the interview"));
    // Given up, or of questions that are no longer there.
    let settings = kept(&mut learner);
    let mut given_up = reopen(settings.clone(), DAY);
    given_up.click("Give it up");
    assert!(given_up.says("Begin the interview"));
    let mut stale = settings;
    stale.interview.as_mut().unwrap().answers[0].id = "gone".to_owned();
    let stale = reopen(stale, DAY);
    assert!(stale.says("Begin the interview") && stale.says("was given up"));
}

#[test]
fn an_interview_is_kept_when_something_is_written_and_every_ten_seconds() {
    let mut learner = Learner::open(Part::Interview, None);
    learner.click("Begin the interview");
    let spent = |learner: &Learner| {
        let kept = &learner.window.state().settings.interview;
        kept.as_ref().map(|kept| (kept.spent, kept.written()))
    };
    assert_eq!(spent(&learner), Some((0, 0)));
    learner.wait(9);
    assert_eq!(spent(&learner), Some((0, 0)));
    learner.wait(1);
    assert_eq!(spent(&learner), Some((10, 0)));
    learner.wait(1);
    learner.write(Role::MultilineTextInput, "Your answer", "a");
    assert_eq!(spent(&learner), Some((11, 1)));
}

#[test]
fn a_number_of_an_answer_leads_to_its_experiment() {
    let text = SMALL.replace(
        r"$\\ln 2 / (\\Delta |A|)$ tokens.",
        "It is [17.3](prove:half-life/example) tokens.",
    );
    let bank = Bank::parse(&[("small.toml", &text)]);
    let page = PracticePage::with_bank(bank, None);
    let mut learner = Learner::with(page, Part::Review, [1280.0, 764.0]);
    learner.press(Key::Space);
    assert!(!learner.says("mambascope prove half-life"));
    learner.click("17.3");
    assert!(learner.says("mambascope prove half-life"));
    assert!(learner.says("✔ holds"));
}

#[test]
fn an_interview_ends_with_the_clock_and_is_graded() {
    let mut learner = Learner::open(Part::Interview, None);
    learner.click("Begin the interview");
    assert!(learner.says("30:00"));
    learner.write(Role::MultilineTextInput, "Your answer", "states are fixed");
    learner.wait(60);
    assert!(learner.says("29:00"));
    learner
        .window
        .key_press_modifiers(Modifiers::COMMAND, Key::Enter);
    learner.settle();
    assert!(learner.says("2 of "));
    let field = learner
        .window
        .get_by_role_and_label(Role::MultilineTextInput, "Your answer");
    assert!(field.is_focused());
    assert!(!learner.says("Model answer"));
    learner.wait(30 * 60);
    assert!(learner.says("Model answer"));
    assert!(learner.says("states are fixed"));
    learner.press(Key::Num3);
    learner.click("Save the report…");
    let review = learner.reviews()[0].clone();
    assert_eq!(review.seconds, 60.0);
    let requests = &learner.window.state().requests;
    let [PracticeRequest::Save { name, text, .. }] = requests.as_slice() else {
        panic!("{requests:?}");
    };
    assert_eq!(name, "mock-interview-2026-11-25.md");
    assert!(text.contains("> states are fixed") && text.contains("2026-11-25 19:05"));
}

#[test]
fn parts_are_drawn_without_a_data_folder_and_every_control_has_a_name() {
    let check = |learner: &Learner, what: &str| {
        let nodes = learner.window.root().children_recursive();
        let nameless: Vec<String> = nodes
            .map(|node| node.accesskit_node())
            .filter(|node| node.data().supports_action(Action::Focus) && !node.is_hidden())
            .filter(|node| node.label().is_none_or(|label| label.trim().is_empty()))
            .map(|node| format!("{:?} at {:?}", node.role(), node.raw_bounds()))
            .collect();
        assert_eq!(nameless, [""; 0], "{what}");
    };
    for part in Part::ALL {
        let mut learner = Learner::open(part, None);
        assert!(learner.says("There is no data folder"), "{part:?}");
        check(&learner, part.title());
        if part == Part::Review {
            learner.press(Key::Space);
            check(&learner, "answer");
        }
    }
    let mut learner = Learner::open(Part::Drills, None);
    for entry in DRILLS {
        learner.click_on(titled(entry));
        check(&learner, entry.id);
    }
}

#[test]
fn filters_leave_what_they_say() {
    let mut learner = Learner::open(Part::Drills, None);
    let topic = DRILLS[0].topic;
    let count = |level: Level| {
        let of = DRILLS.iter().filter(|entry| entry.topic == topic);
        of.filter(|entry| entry.level == level).count()
    };
    for level in Level::ALL {
        let settings = &mut learner.window.state_mut().settings;
        settings.topic = Some(topic.to_owned());
        settings.level = Some(level);
        learner.settle();
        let line = match count(level) {
            0 => "No drills here".to_owned(),
            count => format!("1 of {count} drills"),
        };
        assert!(learner.says(&line), "{line}");
    }
    let bank = bank();
    let settings = &mut learner.window.state_mut().settings;
    (settings.part, settings.level) = (Part::Court, Some(Level::Advanced));
    settings.topic = Some("limits".to_owned());
    learner.settle();
    let claims = bank.claims.iter();
    let admitted = claims.filter(|it| it.topic == "limits" && it.level == Level::Advanced);
    assert!(learner.says(&format!("1 of {} claims", admitted.count())));
    learner.window.state_mut().settings.topic = Some("no such topic".to_owned());
    learner.settle();
    assert!(learner.says("No claims here"));
    // An interview keeps to the topic, and mixes levels.
    let settings = &mut learner.window.state_mut().settings;
    settings.part = Part::Interview;
    learner.settle();
    assert!(learner.says("No questions here"));
    learner.window.state_mut().settings.topic = Some("ssd".to_owned());
    learner.settle();
    learner.click("Begin the interview");
    let kept = learner.window.state().settings.interview.as_ref().unwrap();
    let asked = kept.plan.questions.iter();
    assert!(kept.plan.questions.len() > 4 && asked.clone().all(|it| it.topic == "ssd"));
    assert!(asked.clone().any(|it| it.level == Level::Basic));
    assert!(asked.clone().any(|it| it.level == Level::Advanced));
    let settings = &mut learner.window.state_mut().settings;
    settings.part = Part::Review;
    settings.topic = Some("no such topic".to_owned());
    learner.settle();
    assert!(learner.says("Nothing to ask"));
}

#[test]
fn every_text_is_drawn() {
    let bank = bank();
    // A letter that no font has stops the drawing.
    let size = [1280.0, 3000.0];
    let mut learner = Learner::with(page(None), Part::Review, size);
    learner.window.state_mut().settings.new_per_day = 200;
    learner.settle();
    for _ in &bank.questions {
        learner.press(Key::Space);
        assert!(learner.says("Model answer"));
        learner.press(Key::Num3);
    }
    assert_eq!(learner.reviews().len(), bank.questions.len());
    let mut learner = Learner::with(page(None), Part::Court, size);
    for claim in &bank.claims {
        learner.press(Key::Num2);
        assert!(learner.says("What decides it"), "{}", claim.id);
        learner.press(Key::Space);
    }
    assert_eq!(learner.reviews().len(), bank.claims.len());
}
