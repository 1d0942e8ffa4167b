//! "How to read the pictures": one page of text.

use egui::Ui;
use egui_commonmark::{CommonMarkCache, CommonMarkViewer};

/// The page, as Markdown.
const TEXT: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../assets/lessons/en/reading-the-scope.md"
));

/// The page that explains what the heatmaps, the ribbon and the plots show.
#[derive(Default)]
pub struct ReadingGuide {
    cache: CommonMarkCache,
}

impl ReadingGuide {
    /// Draw the text over the available width, at most as wide as reads well.
    pub fn show(&mut self, ui: &mut Ui) {
        /// About eighty characters of body text.
        const LINE_WIDTH: f32 = 640.0;
        ui.scope(|ui| {
            ui.set_max_width(LINE_WIDTH.min(ui.available_width()));
            CommonMarkViewer::new().show(ui, &mut self.cache, TEXT);
        });
    }
}
