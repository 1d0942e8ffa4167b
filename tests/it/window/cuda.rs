//! The pages on a graphics card: they say there what they say on the CPU.

use mambascope::window::Page;
use mambascope_lessons::course::LESSONS;

use super::parity::{badge, choose_backend};
use super::*;

/// Name of the backend, and its title.
const CUDA: (&str, &str) = ("cuda", "CUDA");

/// The words the window says, in the order they are read, but for what names a backend, and times that are measured; a number's
/// last digits are rounding, and where a line ends depends on them.
fn words(scope: &Scope) -> Vec<String> {
    let names = [CUDA.0, CUDA.1, "naive"];
    let mut words = Vec::new();
    for node in scope.root().children_recursive() {
        let node = node.accesskit_node();
        let Some(said) = node.label().or_else(|| node.value()) else {
            continue;
        };
        if !names.iter().any(|name| said.contains(name)) {
            let all = said.split_whitespace();
            let is_number = |word: &str| word.contains(|c: char| c.is_ascii_digit());
            let is_time = |word: &str| ["s", "ms", "µs", "ns"].contains(&word);
            let said = all.filter(|word| !is_number(word) && !is_time(word));
            words.extend(said.map(str::to_owned));
        }
    }
    words
}

#[track_caller]
fn agree(what: &str, found: &[String], wanted: &[String]) {
    let pairs = found.iter().zip(wanted);
    let same = pairs.take_while(|(found, wanted)| found == wanted).count();
    let next = |all: &[String]| all[same..].iter().take(20).cloned().collect::<Vec<_>>();
    let [found, wanted] = [found, wanted].map(next);
    assert_eq!(found, wanted, "{what}");
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn a_text_on_the_scope_is_the_one_of_the_cpu() {
    for model in [
        "novel-mamba-3m",
        "novel-mamba2-3m",
        "novel-jamba-4m",
        "novel-transformer-4m",
    ] {
        let mut scope = small();
        scope.get_by_label("Open").click();
        scope.run_ok();
        let choice = scope.query_all_by_label(model).next_back();
        choice.unwrap().click();
        settle(&mut scope);
        scope.get_by_label(model);
        let written = |scope: &mut Scope| {
            scope.get_by_label("Run").click();
            settle(scope);
            scope.get_by_label_contains("40 of 40 tokens written");
            (scope.state().scope().text(), words(scope))
        };
        let wanted = written(&mut scope);
        choose_backend(&mut scope, "naive CPU", CUDA.1);
        scope.get_by_label(&format!("Runs on: {}", CUDA.1));
        let found = written(&mut scope);
        assert_eq!(found.0, wanted.0, "{model}");
        agree(model, &found.1, &wanted.1);
        scope.get_by_label("Check parity").click();
        settle(&mut scope);
        let badge = badge(&scope).unwrap();
        assert!(badge.contains("vs naive ✔"), "{model}: {badge}");
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn other_pages_say_what_they_say_on_the_cpu() {
    assert_eq!(mambascope::backends::unavailable(CUDA.0), None);
    let compare = [(Page::Compare, "")];
    let lessons = LESSONS.iter().map(|lesson| (Page::Lessons, lesson.id));
    for (page, lesson) in lessons.chain(compare) {
        let on = |backend: &str| {
            let mut settings = settings();
            (settings.page, settings.autoplay) = (page, page == Page::Compare);
            settings.scope.backend = backend.to_owned();
            settings.notebook.lesson = lesson.to_owned();
            let demos = LESSONS.iter().flat_map(|lesson| lesson.demos);
            settings.notebook.uncovered = demos.map(|demo| demo.id.to_owned()).collect();
            // So high that every cell is drawn.
            words(&open(settings, Theme::Light, [1280.0, 9000.0]))
        };
        let wanted = on("naive");
        assert!(wanted.len() > 100, "{page:?} {lesson}");
        agree(&format!("{page:?} {lesson}"), &on(CUDA.0), &wanted);
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn it_is_measured_in_its_menu() {
    let mut scope = open(
        Settings {
            hide_timings: false,
            ..settings()
        },
        Theme::Light,
        [1280.0, 800.0],
    );
    scope.get_by_label_contains("Runs on:").click();
    settle(&mut scope);
    let button = format!("Measure {}", CUDA.1);
    scope.get_by_label(&button).click();
    settle(&mut scope);
    scope.get_by_label_contains("tokens/s, writes");
    scope.get_by_label(&format!("{button} again"));
}
