//! The window as its users meet it: controls by name, keys, and pictures of the Scope page.
//!
//! Pictures are made with the naive backend, whose sums have one order on every machine, and without measured times.
//! After a change that is meant to be seen: `UPDATE_SNAPSHOTS=1 cargo test -p mambascope-tests window`, then look at each.

use std::time::{Duration, Instant};

use eframe::egui::Theme;
use egui_kittest::kittest::Queryable;
use egui_kittest::{Harness, SnapshotOptions};
use mambascope::window::{Settings, Window};

type Scope = Harness<'static, Window>;

fn settings() -> Settings {
    let mut settings = Settings { autoplay: false, hide_timings: true, ..Settings::default() };
    settings.scope.backend = "naive".to_owned();
    settings.scope.limit = 40;
    settings
}

/// A window of `size` points; the first frame has been drawn and the model is loaded.
fn open(settings: Settings, theme: Theme, size: [f32; 2]) -> Scope {
    let settings = Settings { theme: theme.into(), ..settings };
    let mut harness = Harness::builder()
        .with_size(size)
        .with_theme(theme)
        .with_max_steps(64)
        .with_render_cursor(false)
        .build_eframe(move |creation| Window::new(&creation.egui_ctx, settings).unwrap());
    settle(&mut harness);
    harness
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
        assert!(start.elapsed() < Duration::from_secs(60), "the page never came to rest");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn pictures_of_the_scope_page() {
    let mut results = egui_kittest::SnapshotResults::new();
    for (theme, name) in [(Theme::Light, "light"), (Theme::Dark, "dark")] {
        for size in [[1280.0, 800.0], [2560.0, 1440.0]] {
            let mut scope = open(settings(), theme, size);
            scope.get_by_label("Run").click();
            settle(&mut scope);
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/snapshots");
            let options = SnapshotOptions::new().max_failed_pixels(40usize).output_path(folder);
            results.add(scope.try_snapshot_options(format!("scope-{}-{name}", size[0]), &options));
        }
    }
}
