//! Asking for a file: a path to type, and the system's dialog beside it where there is one.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::{Duration, Instant};

use egui::{Context, Key, TextEdit, Ui};

/// A dialog that came back sooner than a person can close it was never shown.
const TOO_QUICK: Duration = Duration::from_millis(250);

/// What the system's dialog should offer.
#[derive(Clone, Debug)]
pub enum Browse {
    /// Choose a folder.
    Folder,
    /// Choose a file with this ending.
    File(&'static str),
    /// Choose where to write, beginning with this name and this ending.
    Save {
        /// Proposed file name.
        name: String,
        /// Ending of the file name.
        ending: &'static str,
    },
}

/// A window that asks for a path; typing works everywhere, browsing where the system has a dialog.
pub struct AskPath {
    title: &'static str,
    action: &'static str,
    path: String,
    browse: Browse,
    dialog: Option<(Instant, Receiver<Option<PathBuf>>)>,
    note: Option<&'static str>,
    fresh: bool,
}

/// What came of asking.
pub enum Asked {
    /// Still open.
    Open,
    /// Closed without a path.
    Closed,
    /// This one.
    Path(PathBuf),
}

impl AskPath {
    /// Asks for a folder to open.
    pub fn open(path: String) -> Self {
        Self::new("Open a model", "Open", path, Browse::Folder)
    }

    /// Asks for a folder to compare with others.
    pub fn add() -> Self {
        Self::new(
            "Add a model to compare",
            "Add",
            String::new(),
            Browse::Folder,
        )
    }

    /// Asks for a log of answers to add to the one there is.
    pub fn log() -> Self {
        let title = "Add the answers of another log";
        Self::new(title, "Add", String::new(), Browse::File("jsonl"))
    }

    /// Asks where to write a file called `name`.
    pub fn save(folder: &std::path::Path, name: String, ending: &'static str) -> Self {
        let path = folder.join(&name).display().to_string();
        Self::new("Save as", "Save", path, Browse::Save { name, ending })
    }

    fn new(title: &'static str, action: &'static str, path: String, browse: Browse) -> Self {
        Self {
            title,
            action,
            path,
            browse,
            dialog: None,
            note: None,
            fresh: true,
        }
    }

    /// Shows the window over the page.
    pub fn show(&mut self, ctx: &Context) -> Asked {
        if let Some(chosen) = self.poll_dialog() {
            return Asked::Path(chosen);
        }
        let mut asked = Asked::Open;
        let modal = modal("ask path", ctx).show(ctx, |ui| {
            ui.set_width(520.0_f32.min(ui.ctx().content_rect().width() - 64.0));
            ui.heading(self.title);
            ui.add_space(4.0);
            match self.browse {
                Browse::Folder => {
                    ui.label("A folder with a config.json, a model.safetensors or pytorch_model.bin, and a tokenizer.json if there is one.");
                }
                Browse::File(_) => {
                    ui.label("A file that Export has written, here or elsewhere. What is in this log already is not added again.");
                }
                Browse::Save { .. } => {}
            }
            asked = self.fields(ui);
        });
        if modal.should_close() && matches!(asked, Asked::Open) {
            return Asked::Closed;
        }
        asked
    }

    fn fields(&mut self, ui: &mut Ui) -> Asked {
        let label = ui.label("Path");
        let edit = TextEdit::singleline(&mut self.path)
            .desired_width(f32::INFINITY)
            .hint_text(match self.browse {
                Browse::Folder => "/home/you/models/mamba-130m-hf",
                Browse::File(_) => "/home/you/mambascope-reviews.jsonl",
                Browse::Save { .. } => "",
            });
        let field = ui.add(edit).labelled_by(label.id);
        if std::mem::take(&mut self.fresh) {
            field.request_focus();
        }
        let entered = field.lost_focus() && ui.input(|input| input.key_pressed(Key::Enter));
        if let Some(note) = self.note {
            ui.colored_label(super::palette(ui).warning, note);
        }
        ui.add_space(8.0);
        let mut asked = Asked::Open;
        ui.horizontal(|ui| {
            let ready = !self.path.trim().is_empty();
            if ui
                .add_enabled(ready, egui::Button::new(self.action))
                .clicked()
                || (entered && ready)
            {
                asked = Asked::Path(PathBuf::from(self.path.trim()));
            }
            let waiting = self.dialog.is_some();
            if ui
                .add_enabled(!waiting, egui::Button::new("Browse…"))
                .clicked()
            {
                self.browse(ui.ctx());
            }
            if ui.button("Cancel").clicked() {
                asked = Asked::Closed;
            }
        });
        asked
    }

    /// Opens the system's dialog; waiting for it happens on a thread of its own.
    fn browse(&mut self, ctx: &Context) {
        let (sender, receiver) = channel();
        let ctx = ctx.clone();
        let dialog = rfd::AsyncFileDialog::new();
        let browse = self.browse.clone();
        let wait = move || {
            let chosen = match browse {
                Browse::Folder => pollster::block_on(dialog.pick_folder()),
                Browse::File(ending) => {
                    pollster::block_on(dialog.add_filter(ending, &[ending]).pick_file())
                }
                Browse::Save { name, ending } => pollster::block_on(
                    dialog
                        .set_file_name(name)
                        .add_filter(ending, &[ending])
                        .save_file(),
                ),
            };
            // The window may have gone in the meantime; then nobody waits for the answer.
            let _ = sender.send(chosen.map(|file| file.path().to_owned()));
            ctx.request_repaint();
        };
        match std::thread::Builder::new()
            .name("file dialog".to_owned())
            .spawn(wait)
        {
            Ok(_) => self.dialog = Some((Instant::now(), receiver)),
            Err(_) => {
                self.note =
                    Some("The system refused a thread for the dialog; type the path instead.")
            }
        }
    }

    fn poll_dialog(&mut self) -> Option<PathBuf> {
        let (opened, receiver) = self.dialog.as_ref()?;
        match receiver.try_recv() {
            Err(TryRecvError::Empty) => None,
            Ok(Some(path)) => {
                self.dialog = None;
                Some(path)
            }
            Ok(None) | Err(TryRecvError::Disconnected) => {
                if opened.elapsed() < TOO_QUICK {
                    self.note = Some(
                        "This system has no file dialog (it needs xdg-desktop-portal or zenity); type the path instead.",
                    );
                }
                self.dialog = None;
                None
            }
        }
    }
}

/// A window over the page, with room around its contents.
pub fn modal(name: &'static str, ctx: &Context) -> egui::Modal {
    let frame = egui::Frame::popup(&ctx.global_style()).inner_margin(20);
    egui::Modal::new(egui::Id::unique(name)).frame(frame)
}

/// Where saved files go unless the reader says otherwise: the downloads or home folder, else here.
pub fn save_folder() -> PathBuf {
    let home = std::env::home_dir().filter(|home| home.is_dir());
    let downloads = home
        .as_ref()
        .map(|home| home.join("Downloads"))
        .filter(|folder| folder.is_dir());
    downloads.or(home).unwrap_or_else(|| PathBuf::from("."))
}
