//! The lessons in the window: a picture of every page in both themes, and a name for whatever takes the focus.

use mambascope::window::Page;
use mambascope_lessons::course::LESSONS;

use super::reach::nameless;
use super::*;

fn open_lesson(id: &str, theme: Theme) -> Scope {
    let mut settings = settings();
    settings.page = Page::Lessons;
    settings.notebook.lesson = id.to_owned();
    open(settings, theme, [1280.0, 800.0])
}

#[test]
fn pictures_of_every_page() {
    let mut results = egui_kittest::SnapshotResults::new();
    for lesson in LESSONS {
        for (name, theme) in [("light", Theme::Light), ("dark", Theme::Dark)] {
            let mut scope = open_lesson(lesson.id, theme);
            let name = format!("lessons/{}-{name}", lesson.id);
            results.add(scope.try_snapshot_options(name, &options()));
        }
    }
}

#[test]
fn pictures_of_a_demo_that_waits_for_an_answer() {
    let mut results = egui_kittest::SnapshotResults::new();
    for (name, theme) in [("light", Theme::Light), ("dark", Theme::Dark)] {
        let mut scope = open_lesson("why-compress", theme);
        let is_seen = |scope: &Scope| {
            let mut found = scope.query_all_by_label("Show it anyway");
            found
                .next()
                .is_some_and(|button| button.rect().bottom() < 780.0)
        };
        for _ in 0..60 {
            if is_seen(&scope) {
                break;
            }
            scope.key_press(Key::ArrowDown);
            settle(&mut scope);
        }
        assert!(is_seen(&scope));
        let name = format!("lessons/covered-{name}");
        results.add(scope.try_snapshot_options(name, &options()));
    }
}

#[test]
fn whatever_takes_the_focus_on_a_lesson_has_a_name() {
    for lesson in LESSONS {
        let mut settings = settings();
        settings.page = Page::Lessons;
        settings.notebook.lesson = lesson.id.to_owned();
        let demos = lesson.demos.iter().map(|demo| demo.id.to_owned());
        settings.notebook.uncovered = demos.collect();
        // So high that every cell is drawn.
        let scope = open(settings, Theme::Light, [1280.0, 9000.0]);
        let mut nameless = nameless(&scope);
        // The second line of a link is a widget to egui, without a role or a name; the link itself has both.
        nameless.retain(|found| !found.starts_with("Unknown"));
        assert_eq!(nameless, [""; 0], "{}", lesson.id);
    }
}

#[test]
fn a_page_that_is_left_forgets_its_jobs() {
    let mut scope = open_lesson("leaky-integrator", Theme::Light);
    scope.get_by_label("Compare").click();
    settle(&mut scope);
    scope.get_by_label("Lessons").click();
    settle(&mut scope);
    scope.get_by_label_contains("A bucket with a hole");
}
