//! The ribbon and the bars under pointer and keys.

use std::cell::Cell;

use egui::Key;
use egui_kittest::Harness;
use egui_kittest::kittest::{NodeT as _, Queryable as _};
use mambascope_lessons::widgets::{Bar, Bars, Ribbon, RibbonToken, Scale};

use super::window;

fn tokens<'a>(texts: &[&'a str]) -> Vec<RibbonToken<'a>> {
    texts
        .iter()
        .enumerate()
        .map(|(i, text)| RibbonToken {
            text,
            value: if i == 0 { f32::NAN } else { i as f32 },
            generated: i >= 3,
        })
        .collect()
}

const WORDS: [&str; 6] = ["A", " ser", "pent", "\n", " slid", " by"];

/// A ribbon whose selection lives in `selected`.
fn harness<'a>(
    tokens: &'a [RibbonToken<'a>],
    width: f32,
    selected: &'a Cell<Option<usize>>,
) -> Harness<'a> {
    window([width, 240.0], move |ui| {
        let shown = Ribbon::new("ribbon", tokens)
            .value_name("surprise (nats)")
            .scale(Scale::linear(0.0, 6.0))
            .selected(selected.get())
            .max_height(120.0)
            .show(ui);
        selected.set(shown.selected);
    })
}

#[test]
fn a_click_selects_a_chip() {
    let (tokens, selected) = (tokens(&WORDS), Cell::new(None));
    let mut harness = harness(&tokens, 500.0, &selected);
    harness.get_by_label("pent 2").click();
    harness.run();
    assert_eq!(selected.get(), Some(2));
    harness.get_by_label("A").click();
    harness.run();
    assert_eq!(
        selected.get(),
        Some(0),
        "a chip without a value has its text as name"
    );
}

#[test]
fn arrows_move_the_selection_once_the_ribbon_has_the_focus() {
    let (tokens, selected) = (tokens(&WORDS), Cell::new(Some(1)));
    let mut harness = harness(&tokens, 500.0, &selected);
    harness.key_press(Key::ArrowRight);
    harness.run();
    assert_eq!(selected.get(), Some(1), "not before it has the focus");

    harness.key_press(Key::Tab);
    harness.run();
    assert!(harness.get_by_label("Tokens").is_focused());
    let mut press = |key| {
        harness.key_press(key);
        harness.run();
        selected.get()
    };
    assert_eq!(press(Key::ArrowRight), Some(2));
    assert_eq!(press(Key::ArrowLeft), Some(1));
    assert_eq!(press(Key::Home), Some(0));
    assert_eq!(press(Key::ArrowLeft), Some(0));
    assert_eq!(press(Key::End), Some(5));
    assert_eq!(press(Key::ArrowRight), Some(5));
    assert_eq!(press(Key::ArrowUp), Some(1));
    assert_eq!(press(Key::ArrowDown), Some(5));
}

#[test]
fn a_click_brings_the_focus_for_the_keys() {
    let (tokens, selected) = (tokens(&WORDS), Cell::new(None));
    let mut harness = harness(&tokens, 500.0, &selected);
    harness.get_by_label("pent 2").click();
    harness.run();
    harness.key_press(Key::ArrowRight);
    harness.run();
    assert_eq!(selected.get(), Some(3));
}

#[test]
fn tab_goes_past_the_chips() {
    let tokens = tokens(&WORDS);
    let mut harness = window([500.0, 240.0], |ui| {
        Ribbon::new("ribbon", &tokens).show(ui);
        let _button = ui.button("Next");
    });
    for name in ["Tokens", "Next"] {
        harness.key_press(Key::Tab);
        harness.run();
        assert!(harness.get_by_label(name).is_focused(), "{name}");
    }
}

#[test]
fn chips_break_lines_and_wrap() {
    let (tokens, selected) = (tokens(&WORDS), Cell::new(None));
    let harness = harness(&tokens, 500.0, &selected);
    let top = |name| harness.get_by_label(name).rect().top();
    assert_eq!(top("A"), top("↵ 3"));
    assert!(top("·slid 4") > top("↵ 3"));
    assert_eq!(top("·slid 4"), top("·by 5"));
}

#[test]
fn hovering_tells_the_reading() {
    let (tokens, selected) = (tokens(&WORDS), Cell::new(None));
    let mut harness = harness(&tokens, 500.0, &selected);
    harness.get_by_label("pent 2").hover();
    harness.run();
    assert!(
        harness
            .query_by_label_contains("surprise (nats) = 2")
            .is_some()
    );
}

#[test]
fn a_selection_from_outside_scrolls_into_view() {
    let texts: Vec<String> = (0..4000).map(|i| format!(" w{i}")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let (tokens, selected) = (tokens(&texts), Cell::new(Some(0)));
    let mut harness = harness(&tokens, 400.0, &selected);
    harness.run();
    assert!(harness.query_by_label("·w3500 3500").is_none(), "far below");
    selected.set(Some(3500));
    for _ in 0..8 {
        harness.run_steps(4);
    }
    let chip = harness.get_by_label("·w3500 3500").rect();
    let whole = harness.get_by_label("Tokens").rect();
    assert!(
        whole.expand(1.0).contains_rect(chip),
        "{chip:?} in {whole:?}"
    );
    assert_eq!(selected.get(), Some(3500));
}

#[test]
fn only_the_visible_lines_of_a_long_text_are_laid_out() {
    let texts = vec![" word"; 4000];
    let (tokens, selected) = (tokens(&texts), Cell::new(None));
    let harness = harness(&tokens, 400.0, &selected);
    let chips = harness
        .root()
        .children_recursive()
        .filter(|node| node.accesskit_node().role() == egui::accesskit::Role::ListBoxOption)
        .count();
    assert!((10..80).contains(&chips), "{chips}");
}

#[test]
fn a_selection_past_the_end_is_dropped() {
    let (tokens, selected) = (tokens(&WORDS), Cell::new(Some(99)));
    let mut harness = harness(&tokens, 500.0, &selected);
    harness.run();
    assert_eq!(selected.get(), None);
}

#[test]
fn bars_are_read_out_with_what_came() {
    let bars = [
        Bar {
            label: "·that",
            value: 0.42,
            came: true,
        },
        Bar {
            label: "·which",
            value: 0.2,
            came: false,
        },
    ];
    let harness = window([300.0, 120.0], |ui| {
        Bars::new("Next token", &bars).show(ui);
    });
    assert!(harness.query_by_label("·that 42.0 %, came").is_some());
    assert!(harness.query_by_label("·which 20.0 %").is_some());
    assert!(harness.query_by_label("Next token").is_some());
}
