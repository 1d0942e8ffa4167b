//! The line about the model: what it is, how large, where it runs, and which other could be opened.

use std::path::{Path, PathBuf};

use egui::{RichText, Ui};
use mambascope_core::checkpoint::EMBEDDED;
use mambascope_core::engine::Reply;
use mambascope_core::model::{Config, MixerDims, Model, Source};

use super::{Around, ScopePage};
use crate::window::{Request, ScopeSettings, palette};

impl ScopePage {
    pub(super) fn model_bar(
        &mut self,
        ui: &mut Ui,
        settings: &mut ScopeSettings,
        around: &mut Around<'_>,
    ) {
        ui.horizontal_wrapped(|ui| {
            open_menu(ui, around);
            let Some(model) = around.model else {
                ui.label("loading the model…");
                return;
            };
            self.backend_menu(ui, settings, around);
            self.weights_menu(ui, around);
            self.parity(ui, settings, around);
            if ui.button("Model card").clicked() {
                around.requests.push(Request::ShowCard);
            }
            ui.label(RichText::new(&model.name).strong()).on_hover_text(source_text(model));
            for fact in facts(model) {
                item(ui, &fact.text).on_hover_text(fact.meaning);
            }
            if let Some(watched) = &self.watched {
                let bytes = watched.state_bytes;
                item(ui, &format!("state {}", bytes_text(bytes.total() as u64)))
                    .on_hover_text(format!(
                        "Bytes of the buffers that hold what the model remembers of this text, all layers together: {} of hidden states \
                         and {} of convolution windows, which do not grow, and {} of keys and values, which grow with every token.",
                        bytes_text(bytes.ssm as u64),
                        bytes_text(bytes.conv as u64),
                        bytes_text(bytes.kv as u64),
                    ));
            }
            warnings(ui, model);
        });
        // At the start there is something to tell, and to stop, only once a folder is being looked through.
        let loading = &around.loading;
        if loading.busy && (around.model.is_some() || loading.progress.is_some()) {
            ui.horizontal(|ui| {
                if ui.button("Cancel loading").clicked() {
                    around.requests.push(Request::StopLoading);
                }
                progress(ui, &around.loading, "loading the model");
            });
        }
    }
}

/// One fact of the line, with a dot between it and what is before; it goes to the next line whole, and without the dot.
pub(super) fn item(ui: &mut Ui, text: &str) -> egui::Response {
    let text = text.replace(' ', "\u{a0}");
    let dotted = format!("·\u{a0}{text}");
    let laid_out = egui::WidgetText::from(dotted.as_str()).into_galley(
        ui,
        Some(egui::TextWrapMode::Extend),
        f32::INFINITY,
        egui::TextStyle::Body,
    );
    if laid_out.size().x <= ui.available_size_before_wrap().x {
        return ui.label(dotted);
    }
    ui.end_row();
    ui.label(text)
}

/// How far a job is, in words and as a share.
pub(super) fn progress_text(reply: &Reply, otherwise: &str) -> (String, f32) {
    match reply.progress {
        Some((what, done, total)) if total > 0 => (
            format!("{what}: {done} of {total}"),
            done as f32 / total as f32,
        ),
        _ => (format!("{otherwise}…"), 0.0),
    }
}

/// A bar for a job on its way.
pub(in crate::window) fn progress(ui: &mut Ui, reply: &Reply, otherwise: &str) {
    let (what, share) = progress_text(reply, otherwise);
    ui.add(
        egui::ProgressBar::new(share)
            .text(what)
            .desired_height(18.0),
    );
}

fn open_menu(ui: &mut Ui, around: &mut Around<'_>) {
    ui.menu_button("Open", |ui| {
        if ui.button("Open a folder…").clicked() {
            around.requests.push(Request::AskModel);
        }
        ui.separator();
        ui.label(RichText::new("In this program").color(palette(ui).weak_text));
        for embedded in &EMBEDDED {
            if ui.button(embedded.name).clicked() {
                around.requests.push(Request::OpenEmbedded(embedded.name));
            }
        }
        if !around.recent.is_empty() {
            ui.separator();
            ui.label(RichText::new("Opened before").color(palette(ui).weak_text));
        }
        for path in around.recent {
            if ui
                .button(short_name(path, around.recent))
                .on_hover_text(path.display().to_string())
                .clicked()
            {
                around.requests.push(Request::Open(path.clone()));
            }
        }
        ui.separator();
        ui.label(RichText::new("Or drop a folder on the window.").color(palette(ui).weak_text));
    });
}

/// The name of a folder, with its parent's where another of `paths` is called the same.
fn short_name(path: &Path, paths: &[PathBuf]) -> String {
    let Some(name) = path.file_name() else {
        return path.display().to_string();
    };
    let same = paths.iter().filter(|other| other.file_name() == Some(name));
    let parent = path.parent().and_then(Path::file_name);
    match parent.filter(|_| same.count() > 1) {
        Some(parent) => format!("{}/{}", parent.display(), name.display()),
        None => name.display().to_string(),
    }
}

struct Fact {
    text: String,
    meaning: &'static str,
}

fn facts(model: &Model) -> Vec<Fact> {
    let config = &model.config;
    vec![
        Fact {
            text: config.family.entry().title.to_owned(),
            meaning: "The family of the model.",
        },
        Fact {
            text: format!("{} layers × {}", config.n_layers(), config.d_model),
            meaning: "Blocks, and the width of the residual stream between them.",
        },
        Fact {
            text: mixers_text(config),
            meaning: "What mixes tokens: for a scan the hidden state of one layer, for attention its heads and those of its cache.",
        },
        Fact {
            text: format!(
                "{} parameters in {}",
                count_text(model.parameters()),
                bytes_text(model.stored_bytes() as u64)
            ),
            meaning: "Weights, a tied head counted once, and their bytes.",
        },
    ]
}

/// The kinds of mixers there are, and the sizes of what each remembers.
pub fn mixers_text(config: &Config) -> String {
    let mut kinds: Vec<(MixerDims, usize)> = Vec::new();
    for block in &config.blocks {
        match kinds.iter_mut().find(|(kind, _)| *kind == block.mixer) {
            Some((_, count)) => *count += 1,
            None => kinds.push((block.mixer, 1)),
        }
    }
    let several = kinds.len() > 1;
    let texts = kinds.iter().map(|(kind, count)| {
        let sizes = match kind {
            MixerDims::Mamba(dims) => format!("{} channels × {} slots", dims.d_inner, dims.d_state),
            MixerDims::Mamba2(dims) => format!(
                "{} heads × {} channels × {} slots",
                dims.heads, dims.head_dim, dims.d_state
            ),
            MixerDims::Attention(dims) => {
                format!("{} heads, {} of keys and values", dims.heads, dims.kv_heads)
            }
        };
        if several {
            format!("{count} × {} ({sizes})", kind.title())
        } else {
            sizes
        }
    });
    texts.collect::<Vec<_>>().join(" + ")
}

fn warnings(ui: &mut Ui, model: &Model) {
    if model.warnings.is_empty() {
        return;
    }
    let count = model.warnings.len();
    let text = if count == 1 {
        "1 note".to_owned()
    } else {
        format!("{count} notes")
    };
    let label = RichText::new(text).color(palette(ui).warning);
    ui.menu_button(label, |ui| {
        ui.set_max_width(520.0);
        for warning in &model.warnings {
            ui.label(warning);
        }
    });
}

fn source_text(model: &Model) -> String {
    match &model.source {
        Source::Embedded => "Compiled into this program.".to_owned(),
        Source::Folder(path) => path.display().to_string(),
        Source::Memory => "Built in memory.".to_owned(),
    }
}

/// "3.15 M", "129 M": three digits that matter.
pub fn count_text(count: usize) -> String {
    let count = count as f64;
    match count {
        c if c >= 1e9 => format!("{:.2} G", c / 1e9),
        c if c >= 1e8 => format!("{:.0} M", c / 1e6),
        c if c >= 1e6 => format!("{:.2} M", c / 1e6),
        c => format!("{:.1} k", c / 1e3),
    }
}

/// Bytes for a person: "240 KiB", "6.1 MiB".
pub fn bytes_text(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if value < 10.0 {
        format!("{value:.1} {}", UNITS[unit])
    } else {
        format!("{value:.0} {}", UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_one_name_are_told_apart() {
        let paths = ["/a/tiny", "/b/tiny", "/b/large"].map(PathBuf::from);
        let names = paths.each_ref().map(|path| short_name(path, &paths));
        assert_eq!(names, ["a/tiny", "b/tiny", "large"]);
    }
}
