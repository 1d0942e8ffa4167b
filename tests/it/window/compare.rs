//! The Compare page: four siblings on one text, the recall test, and what can be taken home.

use mambascope::window::{ChosenLane, LaneChoice, Page};

use super::*;

fn comparing(theme: Theme, size: [f32; 2], change: impl FnOnce(&mut Settings)) -> Scope {
    let mut settings = Settings {
        page: Page::Compare,
        autoplay: true,
        ..settings()
    };
    change(&mut settings);
    open(settings, theme, size)
}

fn page() -> Scope {
    comparing(Theme::Light, [1280.0, 800.0], |_| ())
}

#[test]
fn it_opens_with_something_to_look_at() {
    let page = page();
    for name in [
        "novel-mamba-3m",
        "novel-mamba2-3m",
        "novel-jamba-4m",
        "novel-transformer-4m",
    ] {
        assert!(
            page.query_all_by_label(name).count() >= 2,
            "{name}: in the list and in the table"
        );
    }
    page.get_by_label("Loss, mean of the text so far (nats a token)");
    page.get_by_label("Bytes of state as the text grows");
    page.get_by_label_contains("equal to the formula after every token");
}

#[test]
fn a_changed_text_waits_for_run() {
    let mut page = page();
    page.get_by_label("Presets").click();
    page.run_ok();
    page.get_by_label("A story each writes on").click();
    settle(&mut page);
    assert_eq!(page.state().settings().compare.write, 80);
    assert!(
        page.query_by_label_contains("press Run").is_none(),
        "a preset runs at once"
    );
    assert_eq!(
        page.query_all_by_label_contains("nats a token of its own")
            .count(),
        4
    );
    page.get_by_role_and_label(Role::MultilineTextInput, "Text all read")
        .focus();
    page.run_ok();
    page.get_by_role_and_label(Role::MultilineTextInput, "Text all read")
        .type_text("Once ");
    settle(&mut page);
    page.get_by_label_contains("press Run");
    page.get_by_label("Run").click();
    settle(&mut page);
    assert!(page.query_by_label_contains("press Run").is_none());
}

#[test]
fn models_come_and_go() {
    let mut page = comparing(Theme::Light, [1280.0, 800.0], |settings| {
        settings.compare.lanes.truncate(2);
        settings.recent = vec![crate::support::fixture("mamba2-tiny")];
    });
    assert!(
        page.get_all_by_label_contains("Remove ")
            .next()
            .unwrap()
            .accesskit_node()
            .is_disabled()
    );
    page.get_by_label("Add").click();
    page.run_ok();
    page.get_by_label("mamba2-tiny").click();
    settle(&mut page);
    assert_eq!(page.state().settings().compare.lanes.len(), 3);
    // It knows no words, so a text of words is refused, and the page says why.
    page.get_by_label("Run").click();
    settle(&mut page);
    page.get_by_label_contains("mamba2-tiny: ");
    page.get_all_by_label_contains("Remove ")
        .last()
        .unwrap()
        .click();
    settle(&mut page);
    let lanes = &page.state().settings().compare.lanes;
    let is_embedded = |lane: &ChosenLane| matches!(lane.choice, LaneChoice::Embedded(_));
    assert!(lanes.iter().all(is_embedded) && lanes.len() == 2);
}

#[test]
fn facts_are_asked_for_and_can_be_stopped() {
    let mut page = comparing(Theme::Light, [1280.0, 800.0], |settings| {
        settings.scope.backend = "fast".to_owned();
        settings.compare.rows = 2;
        settings.compare.lanes.remove(2);
        settings.compare.lanes.remove(1);
    });
    page.get_by_label("Ask for facts").click();
    wait_for(&mut page, "a report", |page| {
        page.query_by_label_contains("rows asked").is_some()
    });
    let cancel = page.query_all_by_label("Cancel").last().unwrap();
    cancel.click();
    settle(&mut page);
    page.get_by_label_contains("Stopped after");
    page.get_by_label("Ask for facts").click();
    settle(&mut page);
    page.get_by_label_contains("96 is beyond what they saw");
}

#[test]
fn pages_do_not_wait_for_each_other() {
    let mut page = page();
    page.get_by_label("Ask for facts").click();
    page.run_ok();
    page.get_by_label("Scope").click();
    settle(&mut page);
    page.get_by_label("Step").click();
    settle(&mut page);
    page.get_by_label("Compare").click();
    settle(&mut page);
    page.get_by_label_contains("equal to the formula after every token");
}

#[test]
fn pictures_of_the_compare_page() {
    let mut results = egui_kittest::SnapshotResults::new();
    for (name, theme, size) in [
        ("compare-1280-light", Theme::Light, [1280.0, 800.0]),
        ("compare-1280-dark", Theme::Dark, [1280.0, 800.0]),
        ("compare-2560-dark", Theme::Dark, [2560.0, 1440.0]),
        ("compare-2560-light", Theme::Light, [2560.0, 1440.0]),
    ] {
        let mut page = comparing(theme, size, |settings| {
            if size[0] > 2000.0 {
                settings.compare.text =
                    "It was a cold and rainy evening when Mr. Holt came down to the harbour, and"
                        .to_owned();
                settings.compare.write = 60;
            }
        });
        results.add(page.try_snapshot_options(name, &options()));
        if name == "compare-1280-light" {
            page.get_by_label("Written after the text").scroll_to_me();
            settle(&mut page);
            results.add(page.try_snapshot_options("compare-1280-bottom", &options()));
        }
    }
}
