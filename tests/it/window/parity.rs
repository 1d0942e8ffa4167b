//! The badge that says how far a backend lies from the naive one.

use eframe::egui::Frame;
use mambascope::window::parity_badge;
use mambascope_core::parity::{Apart, NotFinite, Parity};

use super::*;

fn on_the_fast_backend() -> Settings {
    let mut fast = settings();
    fast.scope.backend = "fast".to_owned();
    fast
}

/// The text of the badge, if there is one.
pub(super) fn badge(scope: &Scope) -> Option<String> {
    let badge = scope.query_by_label_contains(" vs naive ");
    badge.and_then(|node| node.accesskit_node().label())
}

pub(super) fn choose_backend(scope: &mut Scope, now: &str, then: &str) {
    scope.get_by_label(&format!("Runs on: {now}")).click();
    scope.run_ok();
    scope.get_by_role_and_label(Role::RadioButton, then).click();
    settle(scope);
    scope.key_press(Key::Escape);
    settle(scope);
}

fn write_in_the_prompt(scope: &mut Scope, text: &str) {
    let prompt = |scope: &Scope| {
        let field = scope.get_by_role_and_label(Role::MultilineTextInput, "Prompt");
        field.focus();
    };
    prompt(scope);
    scope.run_ok();
    let field = scope.get_by_role_and_label(Role::MultilineTextInput, "Prompt");
    field.type_text(text);
    scope.run_ok();
}

#[test]
fn the_badge_is_about_this_backend_and_this_prompt() {
    let mut scope = open(on_the_fast_backend(), Theme::Light, [1280.0, 800.0]);
    assert_eq!(badge(&scope), None, "nothing is measured unasked");
    scope.get_by_label("Check parity").click();
    settle(&mut scope);
    let first = badge(&scope).unwrap();
    assert!(first.ends_with("vs naive ✔ (24 tokens)"), "{first}");
    assert!(scope.query_by_label("Check parity").is_none());

    // What is written and looked at is not what was measured.
    scope.get_by_label("Step").click();
    settle(&mut scope);
    assert_eq!(badge(&scope).as_ref(), Some(&first));

    choose_backend(&mut scope, "fast CPU", "naive CPU");
    assert_eq!(badge(&scope), None);
    let button = scope.get_by_label("Check parity");
    assert!(button.accesskit_node().is_disabled());
    button.hover();
    wait_for(&mut scope, "the reason", |scope| {
        let reason = scope.query_by_label_contains("there is nothing to compare it with");
        reason.is_some()
    });
    choose_backend(&mut scope, "naive CPU", "fast CPU");
    assert_eq!(badge(&scope).as_ref(), Some(&first), "it still holds");

    write_in_the_prompt(&mut scope, "Once ");
    assert_eq!(badge(&scope).as_ref(), Some(&first), "not in force yet");
    scope.get_by_label("Step").click();
    settle(&mut scope);
    assert_eq!(badge(&scope), None, "another prompt");
    scope.get_by_label("Check parity").click();
    settle(&mut scope);
    assert!(badge(&scope).is_some_and(|second| second != first));
}

#[test]
fn what_is_typed_is_what_is_measured() {
    let mut scope = open(on_the_fast_backend(), Theme::Light, [1280.0, 800.0]);
    write_in_the_prompt(&mut scope, "Once upon a time ");
    scope.get_by_label("Check parity").click();
    settle(&mut scope);
    assert!(scope.state().scope().text().contains("Once upon a time"));
    let found = badge(&scope).unwrap();
    assert!(!found.contains("(24 tokens)"), "{found}");

    let mut bare = on_the_fast_backend();
    bare.scope.prompt.clear();
    let mut scope = open(bare, Theme::Light, [1280.0, 800.0]);
    scope.get_by_label("Check parity").click();
    settle(&mut scope);
    assert_eq!(badge(&scope), None);
    let said = scope.query_all_by_label_contains("the prompt is empty");
    assert_eq!(said.count(), 2, "beside the prompt and beside the button");
}

#[test]
fn a_long_measurement_is_cancelled_or_overtaken() {
    let mut long = on_the_fast_backend();
    long.scope.prompt = "It was the best of times, it was the worst of times. ".repeat(200);
    let mut scope = open(long, Theme::Light, [1280.0, 800.0]);
    let under_way = |scope: &Scope| {
        let counted = scope.query_by_label_contains("tokens compared: ");
        counted.is_some()
    };
    scope.get_by_label("Check parity").click();
    wait_for(&mut scope, "a report", under_way);
    scope.get_by_label("Cancel check").click();
    settle(&mut scope);
    let part = badge(&scope).unwrap();
    assert!(part.contains("✔ (first "), "{part}");

    // It can be asked for again; another prompt does not wait for what it makes moot.
    scope.get_by_label("Check parity").click();
    wait_for(&mut scope, "a report", under_way);
    write_in_the_prompt(&mut scope, "Once ");
    scope.get_by_label("Step").click();
    scope.run_ok();
    assert!(!under_way(&scope) && badge(&scope).is_none());
    settle(&mut scope);
    scope.get_by_label("Check parity");
}

fn found() -> Parity {
    Parity {
        backend: "fast".to_owned(),
        tokens: 512,
        total: 512,
        logits: Apart {
            max: 3.04e-5,
            scale: 18.24,
        },
        token: 337,
        ln_p: 2.2e-5,
        states: Some(Apart {
            max: 5.1e-6,
            scale: 9.3,
        }),
        not_finite: None,
    }
}

/// With numbers that are the same on every machine.
#[test]
fn pictures_of_the_badge() {
    let mut results = egui_kittest::SnapshotResults::new();
    let far = Parity {
        logits: Apart {
            max: 0.0312,
            scale: 18.24,
        },
        ln_p: 0.0287,
        tokens: 96,
        token: 71,
        states: None,
        ..found()
    };
    let broken = Parity {
        not_finite: Some(NotFinite {
            backend: "fast".to_owned(),
            token: 12,
        }),
        ..found()
    };
    for (theme, name) in [(Theme::Light, "light"), (Theme::Dark, "dark")] {
        for (kind, last) in [("within", found()), ("far", far.clone())] {
            let all = [far.clone(), broken.clone(), last];
            let mut harness = Harness::builder()
                .with_size([460.0, 340.0])
                .with_theme(theme)
                .with_render_cursor(false)
                .build_ui(move |ui| {
                    mambascope_lessons::theme::apply(ui.ctx());
                    Frame::central_panel(ui.style()).show(ui, |ui| {
                        ui.set_min_size(ui.available_size());
                        let badges = all.iter().map(|found| parity_badge(ui, found));
                        badges.for_each(drop);
                    });
                });
            harness.run_ok();
            let badges = harness.query_all_by_role(Role::Button);
            badges.last().unwrap().hover();
            harness.run_ok();
            assert!(harness.query_by_label_contains("have both read").is_some());
            let name = format!("parity-{kind}-{name}");
            results.add(harness.try_snapshot_options(name, &options()));
        }
    }
}
