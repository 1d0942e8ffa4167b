//! Names and keys: the window without eyes, and without a pointer.

use eframe::egui::accesskit::Action;

use super::*;

/// Whatever can take the focus and has no name.
pub(super) fn nameless(scope: &Scope) -> Vec<String> {
    let nodes = scope.root().children_recursive();
    let reachable = nodes
        .map(|node| node.accesskit_node())
        .filter(|node| node.data().supports_action(Action::Focus) && !node.is_hidden());
    reachable
        .filter(|node| node.label().is_none_or(|label| label.trim().is_empty()))
        .map(|node| format!("{:?} at {:?}", node.role(), node.raw_bounds()))
        .collect()
}

#[test]
fn whatever_takes_the_focus_has_a_name() {
    let mut scope = small();
    assert_eq!(nameless(&scope), [""; 0], "with everything closed");
    let menus = [
        "Settings",
        "Open",
        "Runs on: naive CPU",
        "Examples",
        "Save trace",
        "Sampling",
        "Menu of All layers: mean Δ",
        "Colour",
        "Layer",
        "Channels by",
        "Δ as",
        "Model card",
    ];
    for menu in menus {
        let button = scope.query_all_by_label(menu).next_back();
        button.unwrap_or_else(|| panic!("no {menu}")).click();
        scope.run_ok();
        assert_eq!(nameless(&scope), [""; 0], "with {menu} open");
        if menu != "Sampling" {
            scope.key_press(Key::Escape);
            scope.run_ok();
        }
    }
    for click in ["Open", "Open a folder…"] {
        scope.get_by_label(click).click();
        scope.run_ok();
    }
    assert_eq!(nameless(&scope), [""; 0], "with the dialog open");
}

#[test]
fn whatever_takes_the_focus_on_the_compare_page_has_a_name() {
    let mut start = settings();
    start.page = mambascope::window::Page::Compare;
    start.autoplay = true;
    start.compare.lanes.pop();
    let mut scope = open(start, Theme::Light, [1280.0, 800.0]);
    assert_eq!(nameless(&scope), [""; 0], "with everything closed");
    for menu in [
        "Add",
        "Presets",
        "Loss over",
        "Attention of",
        "Layer of attention",
        "Head",
    ] {
        let button = scope.query_all_by_label(menu).next_back();
        button.unwrap_or_else(|| panic!("no {menu}")).click();
        scope.run_ok();
        assert_eq!(nameless(&scope), [""; 0], "with {menu} open");
        scope.key_press(Key::Escape);
        scope.run_ok();
    }
}

/// The name of what has the focus.
fn focused(scope: &Scope) -> Option<String> {
    let mut nodes = scope.root().children_recursive();
    let node = nodes.find(|node| {
        node.is_focused() && node.accesskit_node().data().supports_action(Action::Focus)
    })?;
    node.accesskit_node().label()
}

#[test]
fn tab_walks_through_the_page_in_reading_order() {
    let mut scope = small();
    let mut met: Vec<String> = Vec::new();
    for _ in 0..80 {
        scope.key_press(Key::Tab);
        scope.run_ok();
        let Some(name) = focused(&scope) else {
            continue;
        };
        if met.first() == Some(&name) && met.len() > 20 {
            break;
        }
        met.push(name);
    }
    let place = |name: &str| {
        let found = met.iter().position(|met| met == name);
        found.unwrap_or_else(|| panic!("{name} is not reached: {met:#?}"))
    };
    let expected = [
        "Scope",
        "Reading the pictures",
        "Settings",
        "Open",
        "Runs on: naive CPU",
        "Model card",
        "Examples",
        "Prompt",
        "Run",
        "Play",
        "Step",
        "Reset",
        "tokens to write",
        "Sampling",
        "Colour",
        "Layer",
        "Channels by",
        "Save trace",
        "Tokens of the text",
        "All layers: mean Δ",
        "State norm of each slot, layer 2",
        "Surprise −ln p of each token",
    ];
    for pair in expected.windows(2) {
        assert!(place(pair[0]) < place(pair[1]), "{pair:?}: {met:#?}");
    }
}

#[test]
fn keys_rest_while_something_lies_over_the_page() {
    for opened in ["Model card", "Settings"] {
        let mut scope = small();
        let before = scope.query_by_label_contains("after token 0,").is_some();
        assert!(!before);
        scope.get_by_label(opened).click();
        scope.run_ok();
        scope.key_press(Key::Home);
        scope.run_ok();
        scope.key_press(Key::Space);
        scope.run_ok();
        assert!(scope.query_by_label("Pause").is_none(), "{opened}");
        settle(&mut scope);
        let after = scope.query_by_label_contains("after token 0,").is_some();
        assert!(!after, "{opened}");
    }
}

#[test]
fn the_theme_is_switched_and_kept() {
    let mut scope = small();
    assert_eq!(scope.ctx.theme(), Theme::Light);
    scope.get_by_label("Settings").click();
    scope.run_ok();
    scope
        .get_by_role_and_label(Role::RadioButton, "Dark")
        .click();
    scope.run_ok();
    assert_eq!(scope.ctx.theme(), Theme::Dark);
    assert_eq!(scope.state().settings().theme, Theme::Dark.into());
}

#[test]
fn the_delta_map_can_be_shown_as_it_is() {
    let mut scope = small();
    scope.get_by_label("Relative step size Δ, layer 2");
    scope.get_by_role_and_label(Role::ComboBox, "Δ as").click();
    scope.run_ok();
    scope.get_by_label("absolute").click();
    scope.run_ok();
    scope.get_by_label("Step size Δ, layer 2");
}
