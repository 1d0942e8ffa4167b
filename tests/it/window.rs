//! The window as its users meet it: controls by name, keys, and pictures of the Scope page.
//!
//! Pictures are made with the naive backend, whose sums have one order on every machine, and without measured times.
//! After a change that is meant to be seen: `UPDATE_SNAPSHOTS=1 cargo test -p mambascope-tests window`, then look at each.

mod compare;
mod cuda;
mod demos;
mod files;
mod going_on;
mod lessons;
mod measuring;
mod parity;
mod practice;
mod reach;

use std::time::{Duration, Instant};

use eframe::egui::accesskit::Role;
use eframe::egui::{Key, Theme};
use egui_kittest::kittest::{NodeT, Queryable};
use egui_kittest::{Harness, SnapshotOptions};
use mambascope::window::{Settings, Window};

type Scope = Harness<'static, Window>;

fn settings() -> Settings {
    let mut settings = Settings {
        autoplay: false,
        hide_timings: true,
        ..Settings::default()
    };
    settings.scope.backend = "naive".to_owned();
    settings.scope.limit = 40;
    settings
}

/// A window of `size` points; the first frame has been drawn and the model is loaded.
fn open(settings: Settings, theme: Theme, size: [f32; 2]) -> Scope {
    let mut harness = window(settings, theme, size);
    settle(&mut harness);
    harness
}

fn open_without_waiting(settings: Settings) -> Scope {
    window(settings, Theme::Light, [1280.0, 800.0])
}

fn window(settings: Settings, theme: Theme, size: [f32; 2]) -> Scope {
    let settings = Settings {
        theme: theme.into(),
        ..settings
    };
    Harness::builder()
        .with_size(size)
        .with_theme(theme)
        .with_max_steps(64)
        .with_render_cursor(false)
        .build_eframe(move |creation| Window::new(&creation.egui_ctx, settings).unwrap())
}

fn options() -> SnapshotOptions {
    SnapshotOptions::new()
        .max_failed_pixels(40usize)
        .output_path(concat!(env!("CARGO_MANIFEST_DIR"), "/snapshots"))
}

/// Draws frames until nothing is being computed any more.
fn settle(harness: &mut Scope) {
    let start = Instant::now();
    loop {
        harness.run_ok();
        if harness.state().is_idle() {
            harness.run_ok();
            if harness.state().is_idle() {
                return;
            }
        }
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "the page never came to rest"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn small() -> Scope {
    open(settings(), Theme::Light, [1280.0, 800.0])
}

/// Waits until the model's text has moved on to what `done` wants to see.
fn wait_for(scope: &mut Scope, what: &str, done: impl Fn(&Scope) -> bool) {
    let start = Instant::now();
    while !done(scope) {
        assert!(
            start.elapsed() < Duration::from_secs(30),
            "waited in vain for {what}"
        );
        scope.run_ok();
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn step_writes_one_token_and_reset_none() {
    let mut scope = small();
    scope.get_by_label_contains("0 of 40 tokens written");
    for written in 1..=3 {
        scope.get_by_label("Step").click();
        settle(&mut scope);
        scope.get_by_label_contains(&format!("{written} of 40 tokens written"));
    }
    scope.get_by_label("Reset").click();
    settle(&mut scope);
    scope.get_by_label_contains("0 of 40 tokens written");
}

#[test]
fn space_plays_and_arrows_select() {
    let mut scope = small();
    scope.key_press(Key::Space);
    scope.run_ok();
    scope.get_by_label("Pause");
    wait_for(&mut scope, "three tokens", |scope| {
        scope
            .query_by_label_contains("3 of 40 tokens written")
            .is_some()
    });
    scope.key_press(Key::Space);
    scope.run_ok();
    scope.get_by_label("Play");
    settle(&mut scope);

    scope.key_press(Key::Home);
    settle(&mut scope);
    scope.get_by_label_contains("after token 0,");
    scope.key_press(Key::ArrowRight);
    settle(&mut scope);
    scope.get_by_label("after token 1, ·was");
}

#[test]
fn space_plays_after_a_click_on_a_token() {
    let mut scope = small();
    scope.get_by_label_contains("·evening").click();
    settle(&mut scope);
    scope.key_press(Key::Space);
    scope.run_ok();
    scope.get_by_label("Pause");
}

#[test]
fn a_click_in_the_overview_picks_layer_and_token() {
    let mut scope = small();
    let map = scope.get_by_label("All layers: mean Δ").rect();
    // Two thirds down is the fifth of six layers; one third across, a token of the prompt.
    let place = map.min + map.size() * eframe::egui::vec2(0.34, 0.7);
    scope.drag_at(place);
    scope.drop_at(place);
    settle(&mut scope);
    scope.get_by_label("Relative step size Δ, layer 4");
    scope.get_by_label_contains("after token 8,");
}

#[test]
fn run_writes_to_the_limit_and_the_same_again() {
    let mut scope = small();
    scope.get_by_label("Run").click();
    settle(&mut scope);
    scope.get_by_label_contains("40 of 40 tokens written");
    let first = scope.state().scope().text();
    scope.get_by_label("Run").click();
    settle(&mut scope);
    assert_eq!(
        scope.state().scope().text(),
        first,
        "the same seed gives the same text"
    );
    assert!(
        first.starts_with("It was a cold and rainy evening"),
        "{first}"
    );
}

#[test]
fn nothing_moves_when_nothing_happens() {
    let mut scope = small();
    scope.get_by_label("Run").click();
    settle(&mut scope);
    scope.run();
    let soonest = scope
        .output()
        .viewport_output
        .values()
        .map(|viewport| viewport.repaint_delay)
        .min();
    assert!(
        soonest.is_none_or(|delay| delay > Duration::from_secs(60)),
        "a repaint is due in {soonest:?}"
    );
}

#[test]
fn an_absent_backend_says_why() {
    let mut scope = small();
    scope.get_by_label_contains("Runs on:").click();
    scope.run_ok();
    let cuda = scope.get_by_role_and_label(Role::RadioButton, "CUDA");
    let reason = mambascope::backends::unavailable("cuda");
    assert_eq!(cuda.accesskit_node().is_disabled(), reason.is_some());
    if let Some(reason) = reason {
        scope.get_by_label(&reason);
    }
}

#[test]
fn a_broken_folder_is_described_and_the_model_stays() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.json"), "{").unwrap();
    let mut scope = open(
        Settings {
            model: Some(folder.path().into()),
            ..settings()
        },
        Theme::Light,
        [1280.0, 800.0],
    );
    scope.get_by_label_contains("config.json");
    scope.get_by_label("novel-mamba-3m");
    scope.get_by_label("Step").click();
    settle(&mut scope);
    scope.get_by_label_contains("1 of 40 tokens written");
}

#[test]
fn a_model_without_a_tokenizer_runs_on_ids() {
    let folder = crate::support::fixture("mamba1-tiny");
    let mut scope = open(
        Settings {
            model: Some(folder),
            ..settings()
        },
        Theme::Light,
        [1280.0, 800.0],
    );
    scope.get_by_label("Prompt (token ids)");
    scope.get_by_label("Run").click();
    settle(&mut scope);
    scope.get_by_label_contains("after 8 of prompt");
    assert!(
        scope
            .state()
            .settings()
            .recent
            .iter()
            .any(|path| path.ends_with("mamba1-tiny"))
    );
}

#[test]
fn an_empty_prompt_says_what_to_do() {
    let mut bare = settings();
    bare.scope.prompt.clear();
    let mut scope = open(bare, Theme::Light, [1280.0, 800.0]);
    scope.get_by_label("Run").click();
    settle(&mut scope);
    scope.get_by_label_contains("the prompt is empty");
}

#[test]
fn settings_survive_a_restart() {
    let mut scope = small();
    scope.get_by_label("Reading the pictures").click();
    settle(&mut scope);
    scope.get_by_label_contains("How to read the pictures");
    let kept = serde_json::to_string(scope.state().settings()).unwrap();
    let again: Settings = serde_json::from_str(&kept).unwrap();
    assert_eq!(
        again,
        Settings {
            hide_timings: false,
            ..scope.state().settings().clone()
        }
    );
    let older: Settings = serde_json::from_str("{}").unwrap();
    assert_eq!(older, Settings::default());
}

/// What lies under the window's edge is scrolled to; a screen of four thousand pixels is filled.
#[test]
fn pictures_of_the_smallest_and_the_largest_window() {
    let mut results = egui_kittest::SnapshotResults::new();
    let mut scope = open(settings(), Theme::Light, [1280.0, 800.0]);
    scope.get_by_label("Run").click();
    settle(&mut scope);
    scope
        .get_by_label("Surprise −ln p of each token")
        .scroll_to_me();
    settle(&mut scope);
    results.add(scope.try_snapshot_options("scope-1280-bottom", &options()));

    let mut scope = open(settings(), Theme::Dark, [3840.0, 2160.0]);
    scope.get_by_label("Run").click();
    settle(&mut scope);
    results.add(scope.try_snapshot_options("scope-3840-dark", &options()));
}

#[test]
fn pictures_of_the_scope_page() {
    let mut results = egui_kittest::SnapshotResults::new();
    for (theme, name) in [(Theme::Light, "light"), (Theme::Dark, "dark")] {
        for size in [[1280.0, 800.0], [2560.0, 1440.0]] {
            let mut scope = open(settings(), theme, size);
            scope.get_by_label("Run").click();
            settle(&mut scope);
            let name = format!("scope-{}-{name}", size[0]);
            results.add(scope.try_snapshot_options(name, &options()));
        }
    }
}

#[test]
fn pictures_of_other_families() {
    let mut results = egui_kittest::SnapshotResults::new();
    for (model, layer, theme, name) in [
        ("novel-mamba2-3m", 2, Theme::Light, "scope-mamba2"),
        ("novel-jamba-4m", 4, Theme::Dark, "scope-jamba-attention"),
        ("novel-transformer-4m", 1, Theme::Light, "scope-transformer"),
    ] {
        let mut start = settings();
        start.scope.layer = layer;
        let mut scope = open(start, theme, [1280.0, 800.0]);
        scope.get_by_label("Open").click();
        scope.run_ok();
        scope.get_by_label(model).click();
        wait_for(&mut scope, model, |scope| {
            scope.query_by_label(model).is_some()
        });
        settle(&mut scope);
        scope.get_by_label("Run").click();
        settle(&mut scope);
        results.add(scope.try_snapshot_options(name, &options()));
    }
}

#[test]
fn another_model_takes_the_place_of_the_one_before() {
    for (before, after) in [
        (None, Some("mamba1-tiny")),
        (Some("mamba1-tiny"), None),
        (Some("mamba1-odd"), Some("mamba1-tiny")),
    ] {
        let before = before.map(crate::support::fixture);
        let mut start = Settings {
            model: before,
            ..settings()
        };
        start.scope.layer = 5;
        start.scope.limit = 2000;
        start.recent = after.map(crate::support::fixture).into_iter().collect();
        let mut scope = open(start, Theme::Light, [1280.0, 800.0]);
        // While the first still writes.
        scope.get_by_label("Run").click();
        scope.run_ok();
        scope.get_by_label("Open").click();
        scope.run_ok();
        let name = after.unwrap_or("novel-mamba-3m");
        scope.get_by_label(name).click();
        wait_for(&mut scope, "the other model", |scope| {
            scope
                .query_by_label(after.unwrap_or("novel-mamba-3m"))
                .is_some()
        });
        settle(&mut scope);
        scope.get_by_label_contains("0 of 2000 tokens written");
        scope.get_by_label("Step").click();
        settle(&mut scope);
        scope.get_by_label_contains("1 of 2000 tokens written");
    }
}

#[test]
fn another_prompt_does_not_wait_for_the_old_text() {
    let mut long = settings();
    long.scope.limit = 2000;
    let mut scope = open(long, Theme::Light, [1280.0, 800.0]);
    scope.get_by_label("Run").click();
    scope.run_ok();
    let prompt = scope.get_by_role_and_label(Role::MultilineTextInput, "Prompt");
    prompt.focus();
    scope.run_ok();
    let prompt = scope.get_by_role_and_label(Role::MultilineTextInput, "Prompt");
    prompt.type_text("Once upon a time ");
    scope.run_ok();
    scope.get_by_label("Step").click();
    wait_for(&mut scope, "the new prompt", |scope| {
        scope
            .query_by_label_contains("1 of 2000 tokens written")
            .is_some()
    });
    settle(&mut scope);
    assert!(scope.state().scope().text().contains("Once upon a time"));
}

/// What lies over the page, or beside it.
#[test]
fn pictures_of_menus_and_dialogs() {
    let mut results = egui_kittest::SnapshotResults::new();
    let steps: [(&str, Theme, &[&str]); 5] = [
        ("guide", Theme::Light, &["Reading the pictures"]),
        ("open", Theme::Dark, &["Open", "Open a folder…"]),
        ("card", Theme::Light, &["Model card"]),
        ("backends", Theme::Dark, &["Runs on: naive CPU"]),
        ("sampling", Theme::Light, &["Sampling", "Step"]),
    ];
    for (name, theme, clicks) in steps {
        let mut scope = open(settings(), theme, [1280.0, 800.0]);
        for label in clicks {
            scope.get_by_label(label).click();
            settle(&mut scope);
        }
        results.add(scope.try_snapshot_options(name, &options()));
    }
}
