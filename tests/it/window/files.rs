//! Files that come and go.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use eframe::egui::{DroppedFile, HoveredFile, Modifiers, OutputCommand};

use super::*;

#[derive(Debug)]
struct Dropped(PathBuf);

impl DroppedFile for Dropped {
    fn path(&self) -> &Path {
        &self.0
    }

    fn bytes(&self) -> Result<Vec<u8>, String> {
        Err("a folder has none".to_owned())
    }
}

#[test]
fn a_folder_dropped_on_the_window_is_opened() {
    let mut scope = small();
    scope.input_mut().hovered_files.push(HoveredFile::default());
    scope.step();
    scope.step();
    scope.get_by_label_contains("Drop a model");
    let folder = crate::support::fixture("mamba1-tiny");
    scope.input_mut().hovered_files.clear();
    scope
        .input_mut()
        .dropped_files
        .push(Arc::new(Dropped(folder)));
    wait_for(&mut scope, "the other model", |scope| {
        scope.query_by_label("mamba1-tiny").is_some()
    });
    assert!(scope.query_by_label_contains("Drop a model").is_none());
}

/// Writes a path over what stands in the field, and confirms it.
pub(super) fn enter_path(scope: &mut Scope, path: &Path) {
    let field = scope.get_by_role_and_label(Role::TextInput, "Path");
    assert!(field.is_focused());
    scope.key_press_modifiers(Modifiers::COMMAND, Key::A);
    scope.run_ok();
    let field = scope.get_by_role_and_label(Role::TextInput, "Path");
    field.type_text(&path.display().to_string());
    scope.run_ok();
    scope.key_press(Key::Enter);
}

#[test]
fn a_typed_path_is_opened_with_enter() {
    let mut scope = small();
    for label in ["Open", "Open a folder…"] {
        scope.get_by_label(label).click();
        scope.run_ok();
    }
    enter_path(&mut scope, &crate::support::fixture("mamba1-odd"));
    wait_for(&mut scope, "the other model", |scope| {
        scope.query_by_label("mamba1-odd").is_some()
    });
}

/// Saves through menus and the dialog; what was written.
fn saved(scope: &mut Scope, clicks: &[&str], name: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    for label in clicks {
        scope.get_by_label(label).click();
        scope.run_ok();
    }
    enter_path(scope, &path);
    scope.run_ok();
    settle(scope);
    scope.get_by_label_contains(&format!("Saved {}", path.display()));
    std::fs::read(path).unwrap()
}

#[test]
fn pictures_tables_and_traces_are_saved() {
    let mut scope = small();
    let menu = "Menu of All layers: mean Δ";
    let png = saved(&mut scope, &[menu, "Save picture…"], "overview.png");
    let picture = image::load_from_memory(&png).unwrap();
    assert!(picture.width() >= 1800 && picture.height() >= 840);

    let csv = saved(&mut scope, &[menu, "Save data as CSV…"], "overview.csv");
    let csv = String::from_utf8(csv).unwrap();
    let mut lines = csv.lines();
    assert!(lines.next().unwrap().starts_with("layer / token,0,1,2,"));
    assert_eq!(lines.count(), 6);

    let clicks = ["Save trace", "Layer 2 only…"];
    let trace = saved(&mut scope, &clicks, "trace.safetensors");
    let trace = safetensors::SafeTensors::deserialize(&trace).unwrap();
    assert!(trace.names().contains(&"layers.2.delta"));
    assert!(!trace.names().contains(&"layers.1.delta"));
}

fn copies(scope: &Scope) -> usize {
    let commands = &scope.output().platform_output.commands;
    let copy = |command: &&OutputCommand| matches!(command, OutputCommand::CopyImage(_));
    commands.iter().filter(copy).count()
}

/// The frame of the click hands the worker a job; the picture comes with a later one.
#[test]
fn a_picture_is_painted_elsewhere_and_then_copied() {
    let mut scope = small();
    scope.get_by_label("Menu of All layers: mean Δ").click();
    scope.run_ok();
    scope.get_by_label("Copy picture").click();
    // Pointer down, pointer up.
    scope.step();
    assert_eq!(copies(&scope), 0);
    assert!(!scope.state().is_idle(), "nothing was asked of the worker");
    let start = Instant::now();
    while copies(&scope) == 0 {
        assert!(start.elapsed() < Duration::from_secs(30));
        scope.step();
        std::thread::sleep(Duration::from_millis(5));
    }
    settle(&mut scope);
    scope.get_by_label_contains("Copied a picture");
}

#[test]
fn changed_settings_are_written_soon_and_once() {
    let mut scope = small();
    let soonest = |scope: &Scope| {
        let viewports = scope.output().viewport_output.values();
        viewports.map(|viewport| viewport.repaint_delay).min()
    };
    let minute = Duration::from_secs(60);
    assert!(soonest(&scope).is_none_or(|delay| delay > minute));
    scope.get_by_label("mean of all layers").click();
    scope.run_ok();
    let delay = soonest(&scope).unwrap();
    assert!(
        delay > Duration::ZERO && delay < Duration::from_secs(4),
        "{delay:?}"
    );
    // Frames are a quarter of a second apart here.
    scope.run_steps(20);
    assert!(soonest(&scope).is_none_or(|delay| delay > minute));
}
