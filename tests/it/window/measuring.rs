//! The menus of the model bar that measure: how quick a backend is, and what coarser weights do.

use eframe::egui::Frame;
use mambascope::backends::BackendChoice;
use mambascope::window::{BackendClick, WeightsClick, backend_rows, weights_rows};
use mambascope_core::backend::Limits;
use mambascope_core::precision::{Divergence, Form};
use mambascope_core::speed::{Reach, Speed};
use mambascope_core::tensor::Dtype;

use super::*;
use crate::support::embedded;

/// A window that shows times.
fn timed() -> Scope {
    let settings = Settings {
        hide_timings: false,
        ..settings()
    };
    open(settings, Theme::Light, [1280.0, 800.0])
}

fn press(scope: &mut Scope, label: &str) {
    scope.get_by_label_contains(label).click();
    settle(scope);
}

#[test]
fn a_backend_is_measured_in_its_menu() {
    let mut scope = timed();
    press(&mut scope, "Runs on:");
    scope.get_by_label_contains("is not known until it is measured");
    press(&mut scope, "Measure fast CPU");
    scope.get_by_label_contains("tokens/s, writes");
    scope.get_by_label_contains("of a large product");
    scope.get_by_label("Measure naive CPU");
    press(&mut scope, "Measure fast CPU again");
    // The figures stay when the menu is closed and another backend is chosen.
    let radio = scope.get_by_role_and_label(Role::RadioButton, "fast CPU");
    radio.click();
    settle(&mut scope);
    press(&mut scope, "Runs on: fast CPU");
    scope.get_by_label_contains("tokens/s, writes");
    // They are of this model.
    scope.key_press(Key::Escape);
    settle(&mut scope);
    press(&mut scope, "Weights:");
    scope.get_by_label("int8").click();
    settle(&mut scope);
    press(&mut scope, "Runs on:");
    assert!(scope.query_by_label_contains("tokens/s, writes").is_none());
}

#[test]
fn coarser_weights_are_measured_chosen_and_left_again() {
    let mut scope = small();
    scope.get_by_label("Step").click();
    settle(&mut scope);
    press(&mut scope, "Weights: bf16");
    scope.get_by_label_contains("is not known until it is measured");
    press(&mut scope, "Measure the forms");
    scope.get_by_label_contains("in nats, over");
    assert!(scope.query_by_label("Measure the forms").is_none());

    scope.get_by_label("int8").click();
    settle(&mut scope);
    scope.get_by_label("novel-mamba-3m (int8)");
    for written in 1..=2 {
        scope.get_by_label("Step").click();
        settle(&mut scope);
        scope.get_by_label_contains(&format!("{written} of 40 tokens written"));
    }
    // What was measured is of the stored form, and is still there.
    press(&mut scope, "Weights: int8");
    scope.get_by_label_contains("in nats, over");
    scope.get_by_label("bf16, as stored").click();
    settle(&mut scope);
    scope.get_by_label("novel-mamba-3m");
    scope.get_by_label("Weights: bf16");
    scope.get_by_label("Step").click();
    settle(&mut scope);
    scope.get_by_label_contains("1 of 40 tokens written");
}

fn speed() -> Speed {
    Speed {
        backend: "fast".to_owned(),
        prompt: 256,
        tokens: 32,
        turns: 3,
        prefill_tokens_per_s: 12_345.0,
        decode_tokens_per_s: 1_234.5,
        dtype: Dtype::Bf16,
        weight_bytes: 6_400_000,
        reach: Some(Reach {
            threads: 2,
            limits: Limits {
                bandwidth_bytes_per_s: 12.3e9,
                gemm_flops_per_s: 123e9,
            },
            decode_share: 0.64,
            prefill_share: 0.5,
        }),
    }
}

fn forms() -> Vec<Form> {
    let form = |dtype, rounds, mean, most, flips| Form {
        dtype,
        rounds,
        weight_bytes: 3_400_000,
        divergence: Divergence {
            tokens: 100,
            mean,
            most,
            flips,
        },
    };
    vec![
        form(Dtype::Bf16, true, 1.2e-5, 1.1e-4, 0),
        form(Dtype::Int8, false, 2.3e-4, 1.9e-3, 3),
    ]
}

fn choices() -> Vec<BackendChoice> {
    let choice = |name, title, unavailable: Option<&str>| BackendChoice {
        name,
        title,
        unavailable: unavailable.map(str::to_owned),
    };
    vec![
        choice("fast", "fast CPU", None),
        choice("naive", "naive CPU", None),
        choice("cuda", "CUDA", Some("There is no NVIDIA driver here.")),
    ]
}

/// With numbers that are the same on every machine: what is in the menus when all is measured.
#[test]
fn pictures_of_measured_menus() {
    let mut results = egui_kittest::SnapshotResults::new();
    let (model, choices, speed, forms) = (embedded(), choices(), speed(), forms());
    for (theme, theme_name) in [(Theme::Light, "light"), (Theme::Dark, "dark")] {
        for (kind, size) in [("backends", [440.0, 190.0]), ("weights", [560.0, 270.0])] {
            let (model, choices, speed) = (model.clone(), choices.clone(), speed.clone());
            let forms = forms.clone();
            let mut harness = Harness::builder()
                .with_size(size)
                .with_theme(theme)
                .with_render_cursor(false)
                .build_ui(move |ui| {
                    mambascope_lessons::theme::apply(ui.ctx());
                    Frame::central_panel(ui.style()).show(ui, |ui| {
                        ui.set_min_size(ui.available_size());
                        if kind == "backends" {
                            backend_rows(ui, &choices, "fast", std::slice::from_ref(&speed), false);
                        } else {
                            weights_rows(ui, &model, Some(Dtype::Int8), Some(&forms), false);
                        }
                    });
                });
            harness.run_ok();
            let name = format!("measured-{kind}-{theme_name}");
            results.add(harness.try_snapshot_options(name, &options()));
        }
    }
}

#[test]
fn clicks_in_the_menus_are_told() {
    let clicked = std::rc::Rc::new(std::cell::RefCell::new((None, None)));
    let seen = std::rc::Rc::clone(&clicked);
    let (model, choices) = (embedded(), choices());
    let mut harness = Harness::builder()
        .with_size([700.0, 700.0])
        .build_ui(move |ui| {
            let mut seen = seen.borrow_mut();
            let backend = backend_rows(ui, &choices, "fast", &[], false);
            let weights = weights_rows(ui, &model, None, None, false);
            seen.0 = backend.or(seen.0);
            seen.1 = weights.or(seen.1);
        });
    harness.run_ok();
    harness.get_by_label("Measure naive CPU").click();
    harness.get_by_label("int8").click();
    harness.run_ok();
    let expected = (
        Some(BackendClick::Measure("naive")),
        Some(WeightsClick::Choose(Some(Dtype::Int8))),
    );
    assert_eq!(*clicked.borrow(), expected);
    assert!(harness.query_by_label("Measure CUDA").is_none());
}

/// The menus as they lie over the page, before anything is measured.
#[test]
fn picture_of_the_weights_menu() {
    let mut scope = open(settings(), Theme::Dark, [1280.0, 800.0]);
    press(&mut scope, "Weights:");
    scope.snapshot_options("weights", &options());
}

/// A model in a folder has a place for its int8 form; one of this program has none, and is offered none.
#[test]
fn the_int8_form_is_kept_when_that_is_ticked() {
    const TICK: &str = "Keep the int8 form beside the checkpoint";
    let folder = tempfile::tempdir().unwrap();
    crate::tiny::Tiny::new().write(folder.path());
    let file = folder.path().join(mambascope_core::checkpoint::KEPT);
    let in_folder = || Settings {
        model: Some(folder.path().to_owned()),
        ..settings()
    };
    let mut scope = open(settings(), Theme::Light, [1280.0, 800.0]);
    press(&mut scope, "Weights:");
    assert!(scope.query_by_label(TICK).is_none());

    let mut scope = open(in_folder(), Theme::Light, [1280.0, 800.0]);
    press(&mut scope, "Weights: f32");
    scope
        .get_by_role_and_label(Role::RadioButton, "int8")
        .click();
    settle(&mut scope);
    scope.get_by_label("Weights: int8");
    assert!(!file.exists(), "nobody asked for it");
    // Ticked now, with the form chosen before.
    press(&mut scope, "Weights: int8");
    scope.get_by_label(TICK).click();
    settle(&mut scope);
    assert!(file.exists());
    press(&mut scope, "2 notes");
    scope.get_by_label_contains("made and kept in");

    // Read when the form is chosen again; what cannot be written is said, and the model stays.
    let mut scope = open(in_folder(), Theme::Light, [1280.0, 800.0]);
    press(&mut scope, "Weights: f32");
    scope
        .get_by_role_and_label(Role::RadioButton, "int8")
        .click();
    settle(&mut scope);
    press(&mut scope, "2 notes");
    scope.get_by_label_contains("was read from");
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    press(&mut scope, "Weights: int8");
    scope.get_by_label(TICK).click();
    settle(&mut scope);
    scope.get_by_label_contains("the int8 form could not be kept");
    scope.get_by_label("Weights: int8");
}
