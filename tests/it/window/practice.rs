//! The practice in the window: a picture of every part and state in both themes, at a moment that does not move and with answers
//! that are the same every time; and what leads from it to files and other pages.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use mambascope::window::Page;
use mambascope_lessons::practice::bank::Bank;
use mambascope_lessons::practice::drill::{DRILLS, Response, drill};
use mambascope_lessons::practice::log::{FILE, Review, ReviewLog};
use mambascope_lessons::practice::page::settings::Part;
use mambascope_lessons::practice::schedule::{DAY, Rating};

use super::files::enter_path;
use super::reach::nameless;
use super::*;

/// The moment of all pictures.
const NOW: i64 = 1_795_633_500;

/// A window on a part of the practice, its answers in this folder, at that moment.
fn practice(part: Part, theme: Theme, folder: Option<&Path>) -> Scope {
    let mut settings = settings();
    settings.page = Page::Practice;
    settings.practice.part = part;
    with(settings, theme, folder)
}

fn with(settings: Settings, theme: Theme, folder: Option<&Path>) -> Scope {
    let settings = Settings {
        theme: theme.into(),
        ..settings
    };
    let folder = folder.map(Path::to_owned);
    let mut scope = Harness::builder()
        .with_size([1280.0, 800.0])
        .with_theme(theme)
        .with_max_steps(64)
        .with_render_cursor(false)
        .build_eframe(move |creation| {
            let mut window = Window::new(&creation.egui_ctx, settings).unwrap();
            window.keep_notes_in(folder.as_deref());
            window.stop_clock(NOW, 0);
            window
        });
    settle(&mut scope);
    scope
}

fn press(scope: &mut Scope, key: Key) {
    scope.key_press(key);
    settle(scope);
}

fn click(scope: &mut Scope, label: &str) {
    let button = scope.query_all_by_label_contains(label).next();
    button.unwrap_or_else(|| panic!("no {label}")).click();
    settle(scope);
}

/// Writes into a field, and leaves it: a blinking cursor would be in some pictures and not in others.
fn write(scope: &mut Scope, role: Role, label: &str, text: &str) {
    scope.get_by_role_and_label(role, label).focus();
    scope.run_ok();
    scope.get_by_role_and_label(role, label).type_text(text);
    settle(scope);
    press(scope, Key::Escape);
}

/// Answers as of some weeks of practice.
fn practised(folder: &Path) {
    let log = ReviewLog::open(folder).unwrap().log;
    let bank = Bank::load().unwrap();
    let questions = bank.questions.iter().map(|question| question.id.as_str());
    let drills = DRILLS.iter().map(|entry| entry.id);
    let claims = bank.claims.iter().map(|claim| claim.id.as_str());
    for (i, item) in questions.chain(drills).chain(claims).enumerate() {
        // Every third is still new.
        if i % 3 == 2 {
            continue;
        }
        for round in 0..3 {
            let days = 1 + (i as i64 * 7) % 24 - 6 * round;
            if days < 0 {
                continue;
            }
            let noise = (i * 31 + round as usize * 17) % 10;
            let confidence = 0.35 + 0.065 * ((i * 13) % 10) as f64;
            let correct = (noise as f64) < 10.0 * confidence - 0.5;
            let rating = match (correct, noise) {
                (false, _) => Rating::Again,
                (true, 0..2) => Rating::Hard,
                (true, 2..7) => Rating::Good,
                _ => Rating::Easy,
            };
            log.append(&Review {
                item: item.to_owned(),
                at: NOW - days * DAY,
                revision: 0,
                rating,
                suggested: rating,
                correct,
                confidence: Some(confidence),
                seconds: 60.0,
                seed: None,
                answer: None,
            })
            .unwrap();
        }
    }
}

/// The answers to the drills whose fields are filled in.
fn answer_drill(scope: &mut Scope, id: &str) {
    let drawn = drill(id).unwrap();
    let drawn = drawn.draw(NOW.unsigned_abs() % 100_000).unwrap();
    match drawn.answer() {
        Response::Number(answer) => {
            write(scope, Role::TextInput, "Your number", &answer.to_string())
        }
        Response::Code(_) | Response::Curve(_) => {}
    }
    click(scope, "Check");
}

/// A part in a state: how it is come to from a window that has just been opened.
struct Picture {
    name: &'static str,
    part: Part,
    /// Whether there are answers of weeks.
    is_practised: bool,
    come_to: fn(&mut Scope),
}

const PICTURES: &[Picture] = &[
    Picture {
        name: "review-hidden",
        part: Part::Review,
        is_practised: true,
        come_to: |_| {},
    },
    Picture {
        name: "review-revealed",
        part: Part::Review,
        is_practised: true,
        come_to: |scope| {
            let text = "The state is a sum: every token is mixed into it, none can be taken out.";
            write(scope, Role::MultilineTextInput, "Your answer", text);
            press(scope, Key::Space);
        },
    },
    Picture {
        name: "review-corrected",
        part: Part::Review,
        is_practised: false,
        come_to: |scope| {
            press(scope, Key::Space);
            press(scope, Key::Num3);
        },
    },
    Picture {
        name: "drill-before",
        part: Part::Drills,
        is_practised: true,
        come_to: |scope| click(scope, "Tokens until the cache"),
    },
    Picture {
        name: "drill-right",
        part: Part::Drills,
        is_practised: true,
        come_to: |scope| {
            click(scope, "Tokens until the cache");
            answer_drill(scope, "drill-kv-crossing");
        },
    },
    Picture {
        name: "drill-curve",
        part: Part::Drills,
        is_practised: true,
        come_to: |scope| {
            let curve = drill("drill-curve-leak").unwrap();
            click(scope, curve.title);
            click(scope, "Check");
        },
    },
    Picture {
        name: "drill-code",
        part: Part::Drills,
        is_practised: true,
        come_to: |scope| {
            click(scope, drill("code-fix-the-scan").unwrap().title);
            click(scope, "Check");
        },
    },
    Picture {
        name: "claim-before",
        part: Part::Court,
        is_practised: false,
        come_to: |scope| click(scope, "Next"),
    },
    Picture {
        name: "claim-judged",
        part: Part::Court,
        is_practised: false,
        come_to: |scope| {
            click(scope, "Next");
            press(scope, Key::Num1);
        },
    },
    Picture {
        name: "interview-begin",
        part: Part::Interview,
        is_practised: false,
        come_to: |_| {},
    },
    Picture {
        name: "interview-running",
        part: Part::Interview,
        is_practised: false,
        come_to: |scope| {
            click(scope, "Begin the interview");
            scope.state_mut().stop_clock(NOW + 75, 0);
            let text = "For training yes. To write a token there is nothing to scan.";
            write(scope, Role::MultilineTextInput, "Your answer", text);
        },
    },
    Picture {
        name: "interview-graded",
        part: Part::Interview,
        is_practised: false,
        come_to: |scope| {
            click(scope, "Begin the interview");
            let text = "For training yes. To write a token there is nothing to scan.";
            write(scope, Role::MultilineTextInput, "Your answer", text);
            scope.state_mut().stop_clock(NOW + 1_900, 0);
            settle(scope);
            press(scope, Key::Num3);
            press(scope, Key::ArrowLeft);
        },
    },
    Picture {
        name: "progress",
        part: Part::Progress,
        is_practised: true,
        come_to: |_| {},
    },
    Picture {
        name: "progress-empty",
        part: Part::Progress,
        is_practised: false,
        come_to: |_| {},
    },
    Picture {
        name: "import",
        part: Part::Progress,
        is_practised: true,
        come_to: |scope| {
            click(scope, "Import…");
            press(scope, Key::Tab);
        },
    },
];

#[test]
fn pictures_of_the_practice() {
    let mut results = egui_kittest::SnapshotResults::new();
    let only = std::env::var("PICTURE").ok();
    let practised_folder = tempfile::tempdir().unwrap();
    practised(practised_folder.path());
    let log = std::fs::read(practised_folder.path().join(FILE)).unwrap();
    for picture in PICTURES {
        if only.as_ref().is_some_and(|only| only != picture.name) {
            continue;
        }
        for (theme_name, theme) in [("light", Theme::Light), ("dark", Theme::Dark)] {
            let folder = tempfile::tempdir().unwrap();
            if picture.is_practised {
                std::fs::write(folder.path().join(FILE), &log).unwrap();
            }
            let mut scope = practice(picture.part, theme, Some(folder.path()));
            (picture.come_to)(&mut scope);
            let name = format!("practice/{}-{theme_name}", picture.name);
            results.add(scope.try_snapshot_options(name, &options()));
        }
    }
}

/// A damaged log names its file: one folder for everyone.
fn damaged_folder() -> PathBuf {
    let folder = PathBuf::from("../target/practice-pictures");
    if folder.exists() {
        std::fs::remove_dir_all(&folder).unwrap();
    }
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

#[test]
fn pictures_of_what_went_wrong_and_of_nothing_to_do() {
    let mut results = egui_kittest::SnapshotResults::new();
    for (name, theme) in [("light", Theme::Light), ("dark", Theme::Dark)] {
        let folder = damaged_folder();
        let lines = "no line\n{\"schema\": 9}\n{\"schema\":1,\"it";
        std::fs::write(folder.join(FILE), lines).unwrap();
        let mut scope = practice(Part::Progress, theme, Some(&folder));
        scope.get_by_label_contains("set aside as");
        results.add(scope.try_snapshot_options(format!("practice/damaged-{name}"), &options()));

        let mut settings = settings();
        settings.page = Page::Practice;
        settings.practice.new_per_day = 0;
        let empty = tempfile::tempdir().unwrap();
        let mut scope = with(settings.clone(), theme, Some(empty.path()));
        results.add(scope.try_snapshot_options(format!("practice/done-{name}"), &options()));

        settings.practice.part = Part::Court;
        settings.practice.topic = Some("code".to_owned());
        let mut scope = with(settings, theme, Some(empty.path()));
        results.add(scope.try_snapshot_options(format!("practice/no-claims-{name}"), &options()));

        let mut scope = practice(Part::Interview, theme, Some(empty.path()));
        click(&mut scope, "Begin the interview");
        scope.state_mut().stop_clock(NOW + 690, 0);
        let text = "A is a table of rates.";
        write(&mut scope, Role::MultilineTextInput, "Your answer", text);
        let mut scope = with(scope.state().settings().clone(), theme, Some(empty.path()));
        results.add(scope.try_snapshot_options(format!("practice/waiting-{name}"), &options()));
    }
}

/// Settings in memory, in the form in which they are kept on a disk.
#[derive(Default)]
struct Memory(BTreeMap<String, String>);

impl eframe::Storage for Memory {
    fn get_string(&self, key: &str) -> Option<String> {
        self.0.get(key).cloned()
    }

    fn set_string(&mut self, key: &str, value: String) {
        self.0.insert(key.to_owned(), value);
    }

    fn remove_string(&mut self, key: &str) {
        self.0.remove(key);
    }

    fn flush(&mut self) {}
}

#[test]
fn an_interview_is_there_when_the_window_opens_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut scope = practice(Part::Interview, Theme::Light, Some(folder.path()));
    click(&mut scope, "Begin the interview");
    scope.state_mut().stop_clock(NOW + 595, 0);
    write(&mut scope, Role::MultilineTextInput, "Your answer", "a");
    click(&mut scope, "Next question");
    // The window is closed: the clock is kept to the second.
    scope.state_mut().stop_clock(NOW + 600, 0);
    let mut memory = Memory::default();
    eframe::App::save(scope.state_mut(), &mut memory);
    drop(scope);
    let (kept, lost) = Settings::read(&memory);
    assert_eq!(lost, None);
    // One that cannot be read, as of a later program, takes nothing else with it.
    let mut torn = Memory(memory.0.clone());
    let whole = eframe::Storage::get_string(&memory, "interview").unwrap();
    for text in [&whole[..whole.len() / 2], "Some((plan:7))", "\u{0}"] {
        eframe::Storage::set_string(&mut torn, "interview", text.to_owned());
        let (read, lost) = Settings::read(&torn);
        assert!(
            lost.unwrap()
                .contains("interview that was kept cannot be read")
        );
        assert_eq!(read.practice.interview, None);
        let mut rest = kept.clone();
        rest.practice.interview = None;
        assert!(read == rest && read.practice.part == Part::Interview);
    }
    // And the other way round.
    eframe::Storage::set_string(&mut torn, eframe::APP_KEY, "(page:".to_owned());
    eframe::Storage::set_string(&mut torn, "interview", whole);
    let (read, lost) = Settings::read(&torn);
    assert!(lost.unwrap().contains("as at the first start"));
    assert_eq!(read.practice.interview, kept.practice.interview);
    assert_eq!(
        Settings::read(&Memory::default()),
        (Settings::default(), None)
    );
    let kept = Settings {
        hide_timings: true,
        ..kept
    };
    let mut again = with(kept, Theme::Light, Some(folder.path()));
    again.get_by_label_contains("20:00 of 30 minutes are left");
    click(&mut again, "Go on with the interview");
    again.get_by_label("20:00");
}

#[test]
fn a_log_is_exported_and_imported_through_dialogs() {
    let folder = tempfile::tempdir().unwrap();
    practised(folder.path());
    let log = std::fs::read(folder.path().join(FILE)).unwrap();
    let mut scope = practice(Part::Progress, Theme::Light, Some(folder.path()));
    let to = folder.path().join("taken.jsonl");
    scope.get_by_label("Export…").click();
    scope.run_ok();
    enter_path(&mut scope, &to);
    scope.run_ok();
    settle(&mut scope);
    scope.get_by_label_contains(&format!("Saved the answers to {}", to.display()));
    assert!(std::fs::read(&to).unwrap() == log);

    let other = tempfile::tempdir().unwrap();
    let mut scope = practice(Part::Progress, Theme::Light, Some(other.path()));
    scope.get_by_label("Import…").click();
    scope.run_ok();
    scope.get_by_label("Browse…");
    enter_path(&mut scope, &to);
    scope.run_ok();
    settle(&mut scope);
    scope.get_by_label_contains("there already: 0.");
    assert!(std::fs::read(other.path().join(FILE)).unwrap() == log);

    // What cannot be written is said.
    scope.get_by_label("Export…").click();
    scope.run_ok();
    enter_path(&mut scope, &other.path().join("none").join("log.jsonl"));
    scope.run_ok();
    settle(&mut scope);
    scope.get_by_label_contains("could not export to");
}

/// Every state of the Scope page that the bank names shows a layer there is.
#[test]
fn a_proof_opens_the_scope_in_its_state() {
    let bank = Bank::load().unwrap();
    let mut seen = 0;
    for question in &bank.questions {
        let Some(state) = &question.scope else {
            continue;
        };
        let model = state.model().unwrap().load().unwrap();
        assert!(state.layer < model.config.n_layers(), "{}", question.id);
        seen += 1;
    }
    assert!(seen >= 4);
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings();
    settings.page = Page::Practice;
    settings.practice.new_per_day = 200;
    settings.practice.topic = Some("hybrids".to_owned());
    let mut scope = with(settings, Theme::Light, Some(folder.path()));
    // The design of Jamba comes first: it is one of the note's own questions.
    press(&mut scope, Key::Space);
    click(&mut scope, "See it in the Scope");
    wait_for(&mut scope, "the model", |scope| {
        scope.query_by_label("novel-jamba-4m").is_some()
    });
    settle(&mut scope);
    let wanted = bank.question("jamba-design").unwrap().scope.as_ref();
    let shown = &scope.state().settings().scope;
    assert_eq!(
        wanted.map(|it| (&it.prompt, it.layer)),
        Some((&shown.prompt, shown.layer))
    );
}

#[test]
fn a_proof_opens_its_lesson_with_the_preset() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings();
    settings.page = Page::Practice;
    settings.practice.topic = Some("discretization".to_owned());
    settings.practice.new_per_day = 200;
    let mut scope = with(settings, Theme::Light, Some(folder.path()));
    let bank = Bank::load().unwrap();
    let of_topic = bank
        .questions
        .iter()
        .filter(|it| it.topic == "discretization");
    let place = of_topic
        .clone()
        .position(|it| it.id == "which-rule-explodes")
        .unwrap();
    for _ in 0..place {
        press(&mut scope, Key::ArrowRight);
    }
    press(&mut scope, Key::Space);
    click(&mut scope, "Prove it");
    assert_eq!(scope.state().settings().page, Page::Lessons);
    let demos = &scope.state().settings().notebook.demos;
    assert!(demos["four-rules"].contains("\"delta\":2.2"), "{demos:?}");
}

#[test]
fn whatever_takes_the_focus_on_the_practice_page_has_a_name() {
    for picture in PICTURES {
        let folder = tempfile::tempdir().unwrap();
        let mut scope = practice(picture.part, Theme::Light, Some(folder.path()));
        (picture.come_to)(&mut scope);
        let mut nameless = nameless(&scope);
        // The second line of a link is a widget to egui, without a role or a name; the link itself has both.
        nameless.retain(|found| !found.starts_with("Unknown"));
        assert_eq!(nameless, [""; 0], "{}", picture.name);
    }
}
