//! The notebook as its reader meets it: committing to an answer, running an experiment, writing a note, sharing a preset, coming
//! back after a restart.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use egui::Key;
use egui::accesskit::Role;
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable;
use mambascope_core::backend::NaiveBackend;
use mambascope_core::engine::Engine;
use mambascope_core::job::Workshop;
use mambascope_lessons::demo::Around;
use mambascope_lessons::notebook::settings::{Guess, NotebookSettings};
use mambascope_lessons::notebook::{Notebook, NotebookRequest};
use mambascope_lessons::theme;
use mambascope_lessons::widgets::formula::Typeset;

/// The notebook, what it remembers, and what it has asked of the window.
struct State {
    notebook: Notebook,
    settings: NotebookSettings,
    requests: Vec<NotebookRequest>,
}

struct Reader {
    window: Harness<'static, State>,
    engine: Arc<Engine>,
}

impl Reader {
    fn open(lesson: &str, folder: Option<&Path>) -> Self {
        let settings = NotebookSettings {
            lesson: lesson.to_owned(),
            ..Default::default()
        };
        Self::with(settings, folder)
    }

    fn with(settings: NotebookSettings, folder: Option<&Path>) -> Self {
        // So high that every cell is drawn.
        Self::in_window(6000.0, settings, folder)
    }

    fn in_window(height: f32, settings: NotebookSettings, folder: Option<&Path>) -> Self {
        let workshop = Workshop::new(vec![Box::new(NaiveBackend::default())]);
        let engine = Arc::new(Engine::start(workshop, || {}).unwrap());
        let asked = Arc::clone(&engine);
        let around = Around::default();
        let state = State {
            notebook: Notebook::new(folder),
            settings,
            requests: Vec::new(),
        };
        let window = Harness::builder()
            .with_size([1280.0, height])
            .with_max_steps(64)
            .with_context_setup(theme::apply)
            .build_ui_state(
                move |ui, state: &mut State| {
                    let State {
                        notebook,
                        settings,
                        requests,
                    } = state;
                    notebook.show(ui, &asked, &around, settings, requests);
                },
                state,
            );
        let mut reader = Self { window, engine };
        reader.settle();
        reader
    }

    /// Frames until nothing is computed any more.
    fn settle(&mut self) {
        let start = Instant::now();
        let mut rest = 0;
        while rest < 3 {
            self.window.run_steps(2);
            rest = if self.engine.is_busy() { 0 } else { rest + 1 };
            assert!(
                start.elapsed() < Duration::from_secs(30),
                "never came to rest"
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Whether there is a control of this role and name.
    fn has(&self, role: Role, label: &str) -> bool {
        let found = self.window.query_all_by_role_and_label(role, label);
        found.count() > 0
    }

    /// Types an answer to the first question that takes a number, and commits to it.
    fn answer(&mut self, text: &str) {
        let field = |reader: &Self| {
            let found = reader
                .window
                .query_all_by_role_and_label(Role::TextInput, "Your answer");
            found.into_iter().next().unwrap().focus();
        };
        field(self);
        self.window.run_steps(2);
        let focused = self.window.get_by(|node| node.is_focused());
        focused.type_text(text);
        self.settle();
        self.click("Commit");
    }

    /// Clicks the first of this name.
    fn click(&mut self, label: &str) {
        let found = self.window.query_all_by_label(label).next();
        found.unwrap_or_else(|| panic!("no {label}")).click();
        self.settle();
    }
}

const LESSON: &str = "leaky-integrator";

#[test]
fn an_answer_is_shown_after_the_reader_has_committed() {
    let mut reader = Reader::open(LESSON, None);
    assert!(reader.window.query_by_label_contains("You said").is_none());
    let field = reader
        .window
        .get_by_role_and_label(Role::TextInput, "Your answer");
    field.focus();
    reader.window.run_steps(2);
    reader
        .window
        .get_by_role_and_label(Role::TextInput, "Your answer")
        .type_text("20");
    reader.settle();
    reader.click("Commit");
    reader.window.get_by_label_contains("Not quite.");
    reader
        .window
        .get_by_label_contains("You said 20 tokens; computed just now: 17.33 tokens.");
    assert_eq!(
        reader.window.state().settings.guesses["half-life"],
        Guess::Number(20.0)
    );
    reader.click("Answer again");
    assert!(reader.window.query_by_label_contains("You said").is_none());
}

#[test]
fn an_answer_is_there_after_a_restart_and_judged_anew() {
    let mut settings = NotebookSettings {
        lesson: LESSON.to_owned(),
        ..Default::default()
    };
    settings
        .guesses
        .insert("half-life".to_owned(), Guess::Number(17.3));
    let reader = Reader::with(settings, None);
    reader.window.get_by_label_contains("Right.");
}

#[test]
fn an_answer_of_another_kind_is_asked_again() {
    let mut settings = NotebookSettings {
        lesson: LESSON.to_owned(),
        ..Default::default()
    };
    settings
        .guesses
        .insert("half-life".to_owned(), Guess::Order(vec![9, 9, 9]));
    let reader = Reader::with(settings, None);
    assert_eq!(reader.window.query_all_by_label("Commit").count(), 2);
}

/// A page with a demo that shows what its question asks for, and a button of the demo.
const WAITING: (&str, &str) = ("why-compress", "Go to the crossing");

#[test]
fn a_demo_that_gives_the_answer_away_waits_for_the_reader() {
    let (lesson, button) = WAITING;
    let mut reader = Reader::open(lesson, None);
    assert!(!reader.has(Role::Button, button));
    reader
        .window
        .get_by_label_contains("the question above asks for");
    reader.answer("500");
    assert!(reader.has(Role::Button, button));
    // Asked anew, it is covered anew.
    reader.click("Answer again");
    assert!(!reader.has(Role::Button, button));
}

#[test]
fn a_demo_that_waits_can_be_seen_all_the_same() {
    let (lesson, button) = WAITING;
    let mut reader = Reader::open(lesson, None);
    reader.click("Show it anyway");
    assert!(reader.has(Role::Button, button));
    let kept = reader.window.state().settings.clone();
    assert!(kept.guesses.is_empty());
    let later = Reader::with(kept, None);
    assert!(later.has(Role::Button, button));
}

#[test]
fn a_demo_that_is_led_to_is_not_covered() {
    let (_, button) = WAITING;
    let mut reader = Reader::open(LESSON, None);
    let engine = Arc::clone(&reader.engine);
    let State {
        notebook, settings, ..
    } = reader.window.state_mut();
    let gone = notebook.go_to_demo(&engine, settings, "state-and-cache");
    gone.unwrap();
    reader.settle();
    assert!(reader.has(Role::Button, button));
}

#[test]
fn an_answer_stays_in_sight_when_a_demo_opens_over_it() {
    let settings = NotebookSettings {
        lesson: "delta-is-the-gate".to_owned(),
        ..Default::default()
    };
    let mut reader = Reader::in_window(800.0, settings, None);
    // Until the question is wholly in the window.
    let is_seen = |reader: &Reader| {
        let mut found = reader.window.query_all_by_label("Commit");
        found
            .next()
            .is_some_and(|button| button.rect().bottom() < 780.0)
    };
    for _ in 0..40 {
        if is_seen(&reader) {
            break;
        }
        reader.window.key_press(Key::ArrowDown);
        reader.settle();
    }
    reader.answer("4");
    let verdict = reader.window.get_by_label_contains("You said 4").rect();
    assert!(verdict.top() > 0.0 && verdict.bottom() < 800.0, "{verdict}");
    reader.window.key_press(Key::PageUp);
    reader.settle();
    assert!(reader.has(Role::Slider, "z, what the token asks for"));
}

#[test]
fn an_experiment_runs_and_says_whether_it_holds() {
    let mut reader = Reader::open(LESSON, None);
    reader.click("Run");
    let held = reader.window.query_all_by_label("✔ holds").count();
    assert!(held >= 3, "{held} findings hold");
    assert!(reader.window.state().settings.proven.contains("half-life"));
    reader.window.get_by_label("Run again");
}

#[test]
fn controls_that_were_moved_are_there_after_a_restart() {
    let mut reader = Reader::open(LESSON, None);
    reader.click("Clear the taps");
    let kept = reader.window.state().settings.clone();
    assert!(kept.demos["one-slot"].contains("\"taps\":[]"));
    let mut later = Reader::with(kept, None);
    assert!(later.window.state().settings.demos.contains_key("one-slot"));
    later.click("Reset");
    assert!(later.window.state().settings.demos.is_empty());
}

#[test]
fn a_preset_goes_out_as_a_line_and_comes_back() {
    let mut reader = Reader::open(LESSON, None);
    reader.click("Clear the taps");
    reader.click("Copy preset");
    let requests = &reader.window.state().requests;
    let [NotebookRequest::Copy(line)] = requests.as_slice() else {
        panic!("nothing was copied");
    };
    assert!(line.starts_with("one-slot {"), "{line}");
}

#[test]
fn a_preset_leads_to_the_lesson_that_shows_its_demo() {
    let mut reader = Reader::open("hybrids", None);
    let engine = Arc::clone(&reader.engine);
    let State {
        notebook, settings, ..
    } = reader.window.state_mut();
    assert!(
        notebook
            .go_to_demo(&engine, settings, "no-such-demo {}")
            .is_err()
    );
    assert!(
        notebook
            .go_to_demo(&engine, settings, "one-slot {\"a\": 0}")
            .is_err()
    );
    let preset = r#"one-slot {"a":-2.0,"b":1.0,"c":1.0,"skip":0.0,"delta":0.25,"taps":[7]}"#;
    notebook.go_to_demo(&engine, settings, preset).unwrap();
    reader.settle();
    let settings = &reader.window.state().settings;
    assert_eq!(settings.lesson, LESSON);
    assert!(settings.demos["one-slot"].contains("[7]"));
}

#[test]
fn a_symbol_under_the_pointer_says_what_it_means_and_is() {
    let mut reader = Reader::open(LESSON, None);
    let formula = r"\text{half-life} = \frac{\ln 2}{\Delta\,|A|} \ \text{tokens}";
    let rect = reader.window.get_by_label(formula).rect();
    let typeset = Typeset::new(formula, false).unwrap();
    let delta = typeset
        .glyphs
        .iter()
        .find(|glyph| glyph.symbol == "Δ")
        .unwrap();
    let em = rect.width() / typeset.size().x;
    let place = rect.min + delta.rect.center().to_vec2() * em;
    reader.window.hover_at(place);
    reader.window.run_steps(4);
    reader
        .window
        .get_by_label_contains("step size: how long a token lasts");
    reader.window.get_by_label_contains("now: 0.1");
}

#[test]
fn the_next_lesson_follows_and_the_first_is_read() {
    let mut reader = Reader::open("why-compress", None);
    let next = reader.window.get_all_by_label_contains("→").last().unwrap();
    next.click();
    reader.settle();
    assert_eq!(reader.window.state().settings.lesson, LESSON);
    assert!(reader.window.state().settings.read.contains("why-compress"));
}

#[test]
fn a_note_is_kept_in_the_data_folder() {
    let folder = tempfile::tempdir().unwrap();
    let mut reader = Reader::open(LESSON, Some(folder.path()));
    let note = "Write a note of your own at this cell";
    reader.window.get_all_by_label(note).next().unwrap().click();
    reader.settle();
    let field = || Role::MultilineTextInput;
    reader.window.get_by_role(field()).focus();
    reader.window.run_steps(2);
    reader.window.get_by_role(field()).type_text("A is a rate");
    let start = Instant::now();
    while !folder.path().join("notes.json").exists() {
        reader.settle();
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "the note was never written"
        );
    }
    reader.settle();
    let again = Reader::open(LESSON, Some(folder.path()));
    assert!(
        again
            .window
            .state()
            .notebook
            .notes
            .markdown()
            .contains("A is a rate")
    );
}
