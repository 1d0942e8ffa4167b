//! What can be taken home from a heatmap.

use std::path::PathBuf;
use std::sync::Arc;

use egui::Ui;
use mambascope_core::export::{Later, Picture};
use mambascope_core::job::Job;
use mambascope_lessons::widgets::{Heatmap, HeatmapAction};

use super::Request;

/// Does what was chosen from a heatmap's menu; painting and printing are left to the worker.
pub(super) fn take_home(
    map: &Heatmap<'_>,
    action: Option<HeatmapAction>,
    ui: &Ui,
    name: &str,
    requests: &mut Vec<Request>,
) {
    match action {
        None => {}
        Some(HeatmapAction::CopyPicture) => {
            let map = map.takeaway(ui.ctx());
            let picture = Later::new(move || picture(&map.clipboard_picture()));
            requests.push(Request::Copy(picture));
        }
        Some(HeatmapAction::SavePicture) => {
            let map = map.takeaway(ui.ctx());
            let picture = Later::new(move || picture(&map.picture()));
            save(requests, name, "png", move |path| Job::SavePicture {
                path,
                picture,
            });
        }
        Some(HeatmapAction::SaveCsv) => {
            let map = map.takeaway(ui.ctx());
            let text = Later::new(move || map.csv());
            save(requests, name, "csv", move |path| Job::SaveText {
                path,
                text,
            });
        }
    }
}

/// The pixels in the form the worker writes.
fn picture(image: &egui::ColorImage) -> Picture {
    let [width, height] = image
        .size
        .map(|side| u32::try_from(side).unwrap_or(u32::MAX));
    let pixels = image.pixels.iter();
    Picture {
        width,
        height,
        rgba: pixels
            .flat_map(egui::Color32::to_srgba_unmultiplied)
            .collect(),
    }
}

fn save(
    requests: &mut Vec<Request>,
    name: &str,
    ending: &'static str,
    job: impl FnOnce(PathBuf) -> Job + 'static,
) {
    requests.push(Request::Save {
        name: format!("{name}.{ending}"),
        ending,
        job: Box::new(job),
    });
}

/// A part of a picture of the window.
pub(super) fn part_of(
    image: &Arc<egui::ColorImage>,
    rect: egui::Rect,
    pixels_per_point: f32,
) -> Later<Picture> {
    let image = Arc::clone(image);
    Later::new(move || picture(&image.region(&rect, Some(pixels_per_point))))
}
