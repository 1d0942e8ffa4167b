//! A picture of every demo of the lessons, in both themes, with the guesses of its page drawn, as wide as the column of a page and
//! as high as the demo.

use std::cell::Cell;
use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::Arc;

use mambascope_core::backend::{FastBackend, NaiveBackend};
use mambascope_core::checkpoint::embedded;
use mambascope_core::job::{Answer, ModelRef, Workshop};
use mambascope_lessons::course::{LESSONS, demo};
use mambascope_lessons::demo::{AnyDemo, Around};
use mambascope_lessons::page::{CellKind, Page};
use mambascope_lessons::theme;

use super::*;

/// Width of a demo in a window of 1280 points.
const WIDTH: f32 = 904.0;
/// Higher than any of them.
const ROOM: f32 = 1400.0;

/// Demos that show times measured on the machine: no two pictures of them are alike.
const MEASURED: [&str; 2] = ["speed-ladder", "cost-of-structure"];

/// What a reader might have guessed, by the check's name.
const GUESSES: [(&str, f64); 12] = [
    ("crossing-2-8b", 500.0),
    ("half-life", 25.0),
    ("euler-explodes", 1.0),
    ("fourth-tap", 0.5),
    ("euler-weight", 1.0),
    ("scan-share", 20.0),
    ("rank-below", 12.0),
    ("s3-by-sign", 0.5),
    ("recall-of-64", 0.25),
    ("jamba-attention", 8.0),
    ("bf16-stuck", 0.2),
    ("rewind-steps", 6.0),
];

/// States beside the one each begins with: a name, and the controls.
const STATES: [(&str, &str, &str); 4] = [
    (
        "recall-cliff",
        "typed",
        r#"{"source": "Typed", "decay": 0.8}"#,
    ),
    (
        "scan-theatre",
        "own",
        r#"{"layout": "Own", "multiprocessors": 132, "step": 40}"#,
    ),
    ("kernel-editor", "selective", r#"{"selective": true}"#),
    (
        "state-and-cache",
        "own",
        r#"{"pair": "own", "slots": 16, "expand": 2, "layers": 6, "attention": 0, "state": "f32", "cache": "f32", "columns": 4, "batch": 1, "tokens": 64}"#,
    ),
];

fn around() -> Around {
    Around {
        model: Some(ModelRef(Arc::new(embedded().unwrap()))),
        backend: "naive".to_owned(),
    }
}

/// The demos of the pages as these have them, and the other states.
fn demos() -> Vec<(String, Box<dyn AnyDemo>)> {
    let mut found = Vec::new();
    for lesson in LESSONS {
        let page = Page::parse(lesson.id, lesson.text).unwrap();
        for cell in page.cells {
            let CellKind::Demo { id, preset, .. } = cell.kind else {
                continue;
            };
            let mut made = (demo(&id).unwrap().make)();
            if let Some(preset) = preset {
                made.load(preset).unwrap();
            }
            if !MEASURED.contains(&id.as_str()) {
                found.push((id, made));
            }
        }
    }
    for (id, state, controls) in STATES {
        let mut made = (demo(id).unwrap().make)();
        made.load_preset(&format!("{id} {controls}")).unwrap();
        found.push((format!("{id}-{state}"), made));
    }
    found
}

/// A window with a demo and nothing else; `height` is set to what it takes.
fn stage(
    demo: Rc<std::cell::RefCell<Box<dyn AnyDemo>>>,
    answer: Rc<Answer>,
    theme: Theme,
    height: Rc<Cell<f32>>,
) -> Harness<'static> {
    let around = around();
    let guesses = GUESSES.map(|(check, guess)| (check.to_owned(), guess));
    let size = [WIDTH, height.get()];
    let mut harness = Harness::builder()
        .with_size(size)
        .with_max_steps(64)
        .with_render_cursor(false)
        .with_context_setup(theme::apply)
        .build_ui(move |root| {
            let all = root.max_rect().expand(WIDTH);
            let fill = theme::palette(root.visuals()).bg;
            root.painter().rect_filled(all, 0, fill);
            eframe::egui::Frame::central_panel(root.style()).show(root, |ui| {
                let mut demo = demo.borrow_mut();
                demo.ui(ui, Some(&answer), &guesses, &around);
                // The frame has a margin on either side.
                height.set(ui.min_rect().bottom() + ui.min_rect().top());
            });
        });
    harness.ctx.set_theme(theme);
    harness.run_steps(6);
    harness
}

#[test]
fn pictures_of_every_demo() {
    let mut workshop = Workshop::new(vec![
        Box::new(NaiveBackend::default()),
        Box::new(FastBackend::new(2).unwrap()),
    ]);
    let only = std::env::var("DEMO").ok();
    let mut results = egui_kittest::SnapshotResults::new();
    for (name, demo) in demos() {
        if only.as_ref().is_some_and(|only| *only != name) {
            continue;
        }
        let job = demo.job(&around()).unwrap();
        let answer = workshop.run(&job, &mut |_| ControlFlow::Continue(()));
        let answer = Rc::new(answer.unwrap_or_else(|error| panic!("{name}: {error}")));
        let demo = Rc::new(std::cell::RefCell::new(demo));
        let height = Rc::new(Cell::new(ROOM));
        drop(stage(
            Rc::clone(&demo),
            Rc::clone(&answer),
            Theme::Light,
            Rc::clone(&height),
        ));
        let fit = height.get().ceil();
        assert!(fit < ROOM, "{name} is {fit} points high");
        for (theme_name, theme) in [("light", Theme::Light), ("dark", Theme::Dark)] {
            let fit = Rc::new(Cell::new(fit));
            let mut window = stage(Rc::clone(&demo), Rc::clone(&answer), theme, fit);
            let name = format!("lessons/demos/{name}-{theme_name}");
            // A few digits of rounding differ from one processor to another; whatever is cut or moved is more than that.
            let options = options().max_failed_pixels(200usize);
            results.add(window.try_snapshot_options(name, &options));
        }
    }
}
