//! The heatmap under pointer and keys.

use std::cell::Cell;

use egui::{Event, Key, Modifiers, MouseWheelSource, MouseWheelUnit, Pos2, Rect, TouchPhase, vec2};
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable as _;
use mambascope_lessons::widgets::{Axis, Grid, Heatmap, HeatmapAction, HeatmapResponse};

use super::window;

const ROWS: usize = 10;
const COLS: usize = 20;
const TITLE: &str = "Retention";

/// What the widget last answered, other than nothing.
#[derive(Default)]
struct Heard {
    clicked: Cell<Option<(usize, usize)>>,
    hovered: Cell<Option<(usize, usize)>>,
    action: Cell<Option<HeatmapAction>>,
}

impl Heard {
    fn listen(&self, said: &HeatmapResponse) {
        self.hovered.set(said.hovered);
        self.clicked.set(said.clicked.or(self.clicked.get()));
        self.action.set(said.action.or(self.action.get()));
    }
}

fn harness<'a>(values: &'a [f32], heard: &'a Heard) -> Harness<'a> {
    window([640.0, 320.0], move |ui| {
        let map = Heatmap::new("map", TITLE, Grid::row_major(values, ROWS, COLS))
            .rows(Axis::new("channel"))
            .cols(Axis::new("token"))
            .value_name("exp(Δ·A)");
        heard.listen(&map.show(ui));
    })
}

fn values() -> Vec<f32> {
    (0..ROWS * COLS).map(|i| i as f32).collect()
}

fn map(harness: &Harness<'_>) -> Rect {
    harness.get_by_label(TITLE).rect()
}

/// The middle of a cell of the whole map.
fn cell(map: Rect, row: usize, col: usize) -> Pos2 {
    let t = vec2(
        (col as f32 + 0.5) / COLS as f32,
        (row as f32 + 0.5) / ROWS as f32,
    );
    map.min + t * map.size()
}

fn click(harness: &mut Harness<'_>, pos: Pos2) {
    harness.drag_at(pos);
    harness.drop_at(pos);
    harness.run();
}

fn wheel(harness: &mut Harness<'_>, pos: Pos2, modifiers: Modifiers) {
    harness.hover_at(pos);
    harness.event(Event::ModifiersChanged(modifiers));
    harness.event(Event::MouseWheel {
        unit: MouseWheelUnit::Point,
        delta: vec2(0.0, 300.0),
        phase: TouchPhase::Move,
        source: MouseWheelSource::Wheel,
        modifiers,
    });
    // The wheel is smoothed over many frames.
    harness.run_steps(40);
    harness.event(Event::ModifiersChanged(Modifiers::NONE));
    harness.run();
}

/// The cells at two corners of the map, to tell which part is shown.
fn corners(harness: &mut Harness<'_>, heard: &Heard) -> [Option<(usize, usize)>; 2] {
    let map = map(harness).shrink(2.0);
    [map.min, map.max].map(|pos| {
        harness.hover_at(pos);
        harness.run();
        heard.hovered.get()
    })
}

const WHOLE: [Option<(usize, usize)>; 2] = [Some((0, 0)), Some((ROWS - 1, COLS - 1))];

#[test]
fn a_click_names_its_cell() {
    let (values, heard) = (values(), Heard::default());
    let mut harness = harness(&values, &heard);
    let place = cell(map(&harness), 3, 12);
    click(&mut harness, place);
    assert_eq!(heard.clicked.get(), Some((3, 12)));
}

#[test]
fn hovering_tells_the_value() {
    let (values, heard) = (values(), Heard::default());
    let mut harness = harness(&values, &heard);
    harness.hover_at(cell(map(&harness), 3, 12));
    harness.run();
    assert_eq!(heard.hovered.get(), Some((3, 12)));
    assert!(harness.query_by_label_contains("exp(Δ·A) = 72").is_some());
    assert!(harness.query_by_label_contains("token 12").is_some());
}

#[test]
fn the_wheel_zooms_and_a_double_click_shows_all_again() {
    let (values, heard) = (values(), Heard::default());
    let mut harness = harness(&values, &heard);
    assert_eq!(corners(&mut harness, &heard), WHOLE);
    let place = cell(map(&harness), 3, 12);
    wheel(&mut harness, place, Modifiers::NONE);
    let [first, last] = corners(&mut harness, &heard);
    assert!(
        first > Some((0, 0)) && last < WHOLE[1],
        "{first:?} {last:?}"
    );
    harness.hover_at(place);
    harness.run();
    assert_eq!(
        heard.hovered.get(),
        Some((3, 12)),
        "the cell stays in place"
    );

    for _ in 0..2 {
        harness.drag_at(place);
        harness.drop_at(place);
    }
    harness.run();
    assert_eq!(corners(&mut harness, &heard), WHOLE);
}

#[test]
fn shift_zooms_columns_and_alt_rows() {
    for (modifiers, rows, cols) in [
        (Modifiers::SHIFT, false, true),
        (Modifiers::ALT, true, false),
    ] {
        let (values, heard) = (values(), Heard::default());
        let mut harness = harness(&values, &heard);
        let place = cell(map(&harness), 5, 10);
        wheel(&mut harness, place, modifiers);
        let [first, last] = corners(&mut harness, &heard).map(|cell| cell.unwrap_or_default());
        assert_eq!(
            first.0 > 0 && last.0 < ROWS - 1,
            rows,
            "{modifiers:?} {first:?} {last:?}"
        );
        assert_eq!(
            first.1 > 0 && last.1 < COLS - 1,
            cols,
            "{modifiers:?} {first:?} {last:?}"
        );
    }
}

#[test]
fn a_drag_moves_the_zoomed_map() {
    let (values, heard) = (values(), Heard::default());
    let mut harness = harness(&values, &heard);
    let place = cell(map(&harness), 5, 10);
    wheel(&mut harness, place, Modifiers::NONE);
    let [before, _] = corners(&mut harness, &heard);
    harness.drag_at(place);
    harness.run();
    harness.hover_at(place + vec2(80.0, 60.0));
    harness.run();
    harness.drop_at(place + vec2(80.0, 60.0));
    harness.run();
    let [after, _] = corners(&mut harness, &heard);
    assert!(after < before, "{before:?} {after:?}");
}

#[test]
fn keys_zoom_move_and_reset() {
    let (values, heard) = (values(), Heard::default());
    let mut harness = harness(&values, &heard);
    harness.get_by_label(TITLE).focus();
    harness.run();
    for _ in 0..4 {
        harness.key_press(Key::Plus);
        harness.run();
    }
    let [first, _] = corners(&mut harness, &heard);
    assert!(first > Some((0, 0)));
    harness.key_press(Key::ArrowRight);
    harness.run();
    let [moved, _] = corners(&mut harness, &heard);
    assert!(moved > first, "{first:?} {moved:?}");
    harness.key_press(Key::Num0);
    harness.run();
    assert_eq!(corners(&mut harness, &heard), WHOLE);
}

#[test]
fn both_menus_report_what_was_chosen() {
    let (values, heard) = (values(), Heard::default());
    let mut harness = harness(&values, &heard);
    harness.get_by_label("Menu of Retention").click();
    harness.run();
    harness.get_by_label("Save picture…").click();
    harness.run();
    assert_eq!(heard.action.get(), Some(HeatmapAction::SavePicture));

    harness.get_by_label(TITLE).click_secondary();
    harness.run();
    harness.get_by_label("Save data as CSV…").click();
    harness.run();
    assert_eq!(heard.action.get(), Some(HeatmapAction::SaveCsv));
}

#[test]
fn a_menu_is_not_covered_by_the_value_under_it() {
    let (values, heard) = (values(), Heard::default());
    let mut harness = harness(&values, &heard);
    let place = cell(map(&harness), 3, 12);
    harness.hover_at(place);
    harness.run();
    assert!(harness.query_by_label_contains("exp(Δ·A) = 72").is_some());
    harness.get_by_label(TITLE).click_secondary();
    harness.run();
    // The menu lies to the right of and below the middle of the map, where it was asked for.
    harness.hover_at(cell(map(&harness), 1, 1));
    harness.run();
    assert!(harness.query_by_label("Save picture…").is_some());
    assert!(harness.query_by_label_contains("exp(Δ·A) = ").is_none());
    assert_eq!(heard.hovered.get(), None);
    harness.key_press(Key::Escape);
    harness.run();
    harness.hover_at(place);
    harness.run();
    assert_eq!(heard.hovered.get(), Some((3, 12)));
}

#[test]
fn the_menu_resets_the_zoom() {
    let (values, heard) = (values(), Heard::default());
    let mut harness = harness(&values, &heard);
    let place = cell(map(&harness), 5, 10);
    wheel(&mut harness, place, Modifiers::NONE);
    assert_ne!(corners(&mut harness, &heard), WHOLE);
    harness.get_by_label("Menu of Retention").click();
    harness.run();
    harness.get_by_label("Reset zoom").click();
    harness.run();
    assert_eq!(heard.action.get(), None);
    assert_eq!(corners(&mut harness, &heard), WHOLE);
}

#[test]
fn a_shared_pixel_reports_its_loudest_cell() {
    let (rows, cols) = (4000, 3);
    let mut values = vec![0.5; rows * cols];
    values[1234 * cols + 1] = -8.0;
    let heard = Heard::default();
    let mut harness = window([400.0, 300.0], |ui| {
        let grid = Grid::row_major(&values, rows, cols);
        heard.listen(&Heatmap::new("map", TITLE, grid).show(ui));
    });
    let map = map(&harness);
    harness.hover_at(map.min + vec2(0.5, 1234.0 / rows as f32) * map.size());
    harness.run();
    assert_eq!(heard.hovered.get(), Some((1234, 1)));
}

#[test]
fn without_cells_there_is_a_message() {
    let mut harness = window([400.0, 200.0], |ui| {
        Heatmap::new("map", TITLE, Grid::row_major(&[], 0, 5))
            .empty("Run the model first.")
            .show(ui);
    });
    harness.run();
    assert!(
        harness
            .query_by_label_contains("Run the model first.")
            .is_some()
    );
}

#[test]
fn no_space_is_too_small() {
    let values = values();
    for size in [[30.0, 30.0], [80.0, 400.0], [500.0, 40.0]] {
        let mut harness = window(size, |ui| {
            let height = ui.available_height();
            let grid = Grid::row_major(&values, ROWS, COLS);
            Heatmap::new("map", TITLE, grid).height(height).show(ui);
        });
        harness.run();
        assert!(harness.query_by_label(TITLE).is_some(), "{size:?}");
    }
}
