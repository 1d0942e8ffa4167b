//! The widgets as a user meets them: by name, by pointer and by key.

mod gallery;
mod heatmap;
mod ribbon;

use egui_kittest::Harness;
use mambascope_lessons::theme;

/// A window of this size with a margin, around what `ui` draws.
fn window<'a>(size: [f32; 2], ui: impl FnMut(&mut egui::Ui) + 'a) -> Harness<'a> {
    let mut ui = ui;
    Harness::builder()
        .with_size(size)
        // Two clicks in a row are to be a double click.
        .with_step_dt(0.05)
        .with_max_steps(40)
        .with_context_setup(theme::apply)
        .build_ui(move |root| {
            egui::Frame::central_panel(root.style()).show(root, &mut ui);
        })
}
