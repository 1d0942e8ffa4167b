//! Starting, stopping, and going on.

use std::cell::Cell;

use super::*;

/// Starts a text of 2000 tokens, and stops it after a few.
fn cancelled() -> Scope {
    let mut long = settings();
    long.scope.limit = 2000;
    let mut scope = open(long, Theme::Light, [1280.0, 800.0]);
    scope.get_by_label("Run").click();
    scope.run_ok();
    wait_for(&mut scope, "some tokens", |scope| {
        scope.state().scope().written() > 2
    });
    scope.get_by_label("Cancel").click();
    scope
}

#[test]
fn cancel_keeps_what_is_written() {
    let mut scope = cancelled();
    settle(&mut scope);
    scope.get_by_label_contains("cancelled");
    let written = scope.state().scope().written();
    assert!(written < 2000, "it ran to the end");
    scope.get_by_label("Step").click();
    settle(&mut scope);
    assert_eq!(scope.state().scope().written(), written + 1);
    assert!(scope.query_by_label_contains("cancelled").is_none());
}

#[test]
fn after_a_cancel_the_panels_still_follow() {
    let mut scope = cancelled();
    settle(&mut scope);
    let (text, written) = {
        let page = scope.state().scope();
        (page.text(), page.written())
    };
    let map = scope.get_by_label("All layers: mean Δ").rect();
    let place = map.min + map.size() * eframe::egui::vec2(0.34, 0.7);
    scope.drag_at(place);
    scope.drop_at(place);
    settle(&mut scope);
    scope.get_by_label_contains("State norm of each slot, layer 4");
    scope.get_by_label_contains("Menu of Hidden state h, layer 4");
    scope.get_by_label_contains("cancelled");
    scope.key_press(Key::Home);
    settle(&mut scope);
    scope.get_by_label_contains("Menu of Hidden state h, layer 4, after token 0 ");

    scope.get_by_label("Runs on: naive CPU").click();
    scope.run_ok();
    scope
        .get_by_role_and_label(Role::RadioButton, "fast CPU")
        .click();
    settle(&mut scope);
    assert_eq!(scope.state().scope().written(), written);
    assert_eq!(scope.state().scope().text(), text);
}

#[test]
fn play_after_a_cancel_goes_on_from_there() {
    for wait_for_the_answer in [true, false] {
        let mut scope = cancelled();
        if wait_for_the_answer {
            settle(&mut scope);
        } else {
            scope.step();
        }
        let before = scope.state().scope().written();
        let text = scope.state().scope().text();
        scope.get_by_label("Play").click();
        let most = Cell::new(before);
        wait_for(&mut scope, "more tokens", |scope| {
            let now = scope.state().scope().written();
            assert!(now >= most.get(), "{now} of {} are left", most.get());
            most.set(now);
            now > before + 3
        });
        assert!(scope.state().scope().text().starts_with(&text));
    }
}

#[test]
fn a_step_while_it_writes_takes_nothing_back() {
    let mut long = settings();
    long.scope.limit = 2000;
    let mut scope = open(long, Theme::Light, [1280.0, 800.0]);
    scope.get_by_label("Run").click();
    scope.run_ok();
    let mut most = 0;
    for frame in 0..160 {
        let written = scope.state().scope().written();
        assert!(written >= most, "{written} of {most} are left");
        most = written;
        if frame % 20 == 10 {
            scope.get_by_label("Step").click();
        }
        scope.run_ok();
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(most > 8);
}

#[test]
fn a_prompt_of_a_megabyte_is_read_and_can_be_stopped() {
    let mut long = settings();
    long.scope.backend = "fast".to_owned();
    long.scope.prompt = "It was the best of times, it was the worst of times. ".repeat(20_000);
    let mut scope = open_without_waiting(long);
    wait_for(&mut scope, "the prompt to be read", |scope| {
        scope
            .query_by_label_contains("reading the prompt")
            .is_some()
    });
    scope.get_by_label("Cancel").click();
    settle(&mut scope);
    scope.get_by_label("Run");
    scope.get_by_label_contains("The prompt was not read");
    scope.get_by_label_contains("cancelled before it was read");
    for nonsense in ["Reading the prompt", "the last 0 tokens", "of records"] {
        assert!(
            scope.query_by_label_contains(nonsense).is_none(),
            "{nonsense}"
        );
    }
    scope.get_by_label("Play").click();
    wait_for(&mut scope, "the rest of the prompt", |scope| {
        scope
            .query_by_label_contains("reading the prompt: ")
            .is_some()
    });
}

#[test]
fn a_long_prompt_is_described_and_can_be_edited_or_cleared() {
    let mut long = settings();
    long.scope.prompt = "A first line.\n".repeat(4000);
    let mut scope = window(long, Theme::Light, [1280.0, 800.0]);
    scope.run_ok();
    let field = |scope: &Scope| {
        scope
            .query_by_role_and_label(Role::MultilineTextInput, "Prompt")
            .is_some()
    };
    scope.get_by_label_contains("55 KiB of text: “A first line.…”");
    assert!(!field(&scope));
    scope.get_by_label("Edit").click();
    scope.run_ok();
    assert!(field(&scope));

    let mut long = settings();
    long.scope.prompt = "A first line.\n".repeat(4000);
    let mut scope = window(long, Theme::Light, [1280.0, 800.0]);
    scope.run_ok();
    scope.get_by_label("Clear").click();
    scope.run_ok();
    assert!(field(&scope));
    assert!(scope.state().settings().scope.prompt.is_empty());
}
