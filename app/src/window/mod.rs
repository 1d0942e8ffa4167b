//! The window: pages, the engine behind them, files that come and go. Models run on the worker; here answers are laid out and drawn.

mod board;
mod compare;
mod files;
mod learn;
mod scope;
mod settings;
mod take_home;

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use egui::{Align, Context, Frame, Layout, Panel, RichText, ScrollArea, Ui, ViewportBuilder};
use mambascope_core::checkpoint::LoadError;
use mambascope_core::engine::Engine;
use mambascope_core::export::{Later, Picture};
use mambascope_core::job::{Answer, Job, JobError, ModelRef, Workshop};
use mambascope_core::model::Model;
use mambascope_core::tensor::Dtype;
use mambascope_lessons::notebook::Notebook;
use mambascope_lessons::practice::page::PracticePage;
use mambascope_lessons::practice::schedule::Zone;
use mambascope_lessons::reading_guide::ReadingGuide;
use mambascope_lessons::theme::{self, Palette};

pub use self::compare::{ChosenLane, ComparePage, CompareSettings, LaneChoice};
use self::files::{AskPath, Asked};
pub use self::scope::{
    BackendClick, ScopePage, WeightsClick, backend_rows, bytes_text, mixers_text, parity_badge,
    weights_rows,
};
pub use self::settings::{ChannelOrder, DeltaView, Page, Reading, ScopeSettings, Settings};
use crate::backends::{self, BackendChoice};

/// What the system knows the program by; its data folder is named after it.
pub(crate) const APP_ID: &str = "mambascope";
/// The slot in which models are loaded.
const MODEL: &str = "model";
/// What is shown unless something else is asked for.
const DEFAULT: Job = Job::LoadEmbedded("novel-mamba-3m");
/// The slot in which files are written.
const SAVE: &str = "save";
/// The slot in which a picture for the clipboard is painted.
const COPY: &str = "copy";
/// Changed settings are written this long after the last change, in seconds: not every letter of a prompt, and not only
/// when the window is closed, which a crash never does.
const SAVE_AFTER: f64 = 2.0;

/// Opens the window and stays until it is closed.
pub fn open(model: Option<PathBuf>) -> ExitCode {
    let options = eframe::NativeOptions {
        viewport: ViewportBuilder::default()
            .with_app_id(APP_ID)
            .with_title("Mambascope")
            .with_inner_size([1280.0, 800.0])
            .with_min_inner_size([720.0, 480.0]),
        ..Default::default()
    };
    let run = eframe::run_native(
        APP_ID,
        options,
        Box::new(|creation| {
            let (mut settings, lost) = creation.storage.map(Settings::read).unwrap_or_default();
            if let Some(model) = model {
                settings.model = Some(model);
            }
            let mut window = Window::new(&creation.egui_ctx, settings)?;
            window.keep_notes_in(eframe::storage_dir(APP_ID).as_deref());
            let is_error = true;
            window.notice = lost.map(|text| Notice { text, is_error });
            Ok(Box::new(window))
        }),
    );
    match run {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!(
                "mambascope: the window could not be opened: {}; the commands run, trace, check and bench work without one (mambascope --help)",
                reason(&error.to_string())
            );
            ExitCode::from(2)
        }
    }
}

/// What went wrong, in one line, without the place in the window library's source where it did.
fn reason(error: &str) -> String {
    const PLACE: &str = "os error at ";
    let reason = error
        .split_once(PLACE)
        .and_then(|(_, place_and_reason)| place_and_reason.split_once(": "))
        .map_or(error, |(_, reason)| reason);
    let display = ["WAYLAND_DISPLAY", "DISPLAY"]
        .iter()
        .filter_map(|name| Some((name, std::env::var(name).ok()?)))
        .find(|(_, value)| !value.is_empty());
    let line = reason.lines().collect::<Vec<_>>().join(" ");
    match display {
        Some((name, value)) => format!("{line} ({name}={value})"),
        None => line,
    }
}

/// The colours of the theme in force.
fn palette(ui: &Ui) -> &'static Palette {
    theme::palette(ui.visuals())
}

/// The side of a page where it is told what to do; its width is kept under the name.
fn controls_panel(ui: &mut Ui, name: &'static str, contents: impl FnOnce(&mut Ui)) {
    Panel::left(name)
        .resizable(true)
        .default_size(320.0)
        .size_range(260.0..=560.0)
        .show(ui, |ui| {
            ScrollArea::vertical().auto_shrink(false).show(ui, contents);
        });
}

/// What a page may ask of the window around it.
enum Request {
    /// Ask which model to open.
    AskModel,
    /// Open this folder.
    Open(PathBuf),
    /// Bring the open model's matrices to this number format; without one, back to how they are stored. The second says whether the
    /// int8 form is to be kept in a file.
    Recast(Option<Dtype>, bool),
    /// Open a model compiled into the program.
    OpenEmbedded(&'static str),
    /// Ask where to, then write what `job` makes of the path.
    Save {
        name: String,
        ending: &'static str,
        job: Box<dyn FnOnce(PathBuf) -> Job>,
    },
    /// Ask for a folder to compare.
    AskLane,
    /// Go on with the model there is.
    StopLoading,
    /// Ask where to, then write a picture of this part of the window.
    SaveScreen { name: String, rect: egui::Rect },
    /// Put this picture on the clipboard.
    Copy(Later<Picture>),
    /// Show the model card.
    ShowCard,
}

/// The open model as it is stored: what a coarser form of it is made of, and what there is to go back to.
pub(crate) struct Stored {
    model: Arc<Model>,
    /// The number format of the form that is open, where that is another.
    dtype: Option<Dtype>,
}

/// A file on its way: where to is being asked.
struct Saving {
    ask: AskPath,
    job: Box<dyn FnOnce(PathBuf) -> Job>,
}

/// A picture of the window, part of which is to be saved.
struct Screen {
    image: Arc<egui::ColorImage>,
    name: String,
    rect: egui::Rect,
    pixels_per_point: f32,
}

/// The rows of the backend menu.
struct Backends {
    choices: Vec<BackendChoice>,
    /// The rows to come: looking for a device starts its driver, which can take a second.
    found: Option<Receiver<Vec<BackendChoice>>>,
}

impl Backends {
    fn look(ctx: &Context) -> io::Result<Self> {
        let (sender, receiver) = channel();
        let ctx = ctx.clone();
        let look = move || {
            // The window may be gone before the driver has started.
            let _ = sender.send(backends::choices());
            ctx.request_repaint();
        };
        std::thread::Builder::new()
            .name("devices".to_owned())
            .spawn(look)?;
        Ok(Self {
            choices: backends::choices_before_looking(),
            found: Some(receiver),
        })
    }

    fn take(&mut self) {
        if let Some(Ok(choices)) = self.found.as_ref().map(Receiver::try_recv) {
            self.choices = choices;
            self.found = None;
        }
    }
}

/// The whole window.
pub struct Window {
    engine: Engine,
    backends: Backends,
    settings: Settings,
    /// The model to show; the embedded one when absent.
    load: Job,
    /// Whether the last load failed and that has been said.
    load_failed: bool,
    model: Option<Arc<Model>>,
    stored: Option<Stored>,
    scope: ScopePage,
    compare: ComparePage,
    notebook: Notebook,
    practice: PracticePage,
    guide: ReadingGuide,
    opening: Option<AskPath>,
    saving: Option<Saving>,
    /// The log of answers that is being asked for.
    importing: Option<AskPath>,
    /// Where the clock of the practice has been stopped.
    clock: Option<(i64, Zone)>,
    /// Files to write, the first of which is being written; each keeps its place until its answer has been read.
    writing: VecDeque<Job>,
    /// The page that was shown last.
    seen_page: Page,
    /// Whether the folder being asked for is one to compare.
    asking_for_lane: bool,
    /// Pictures of the window on their way from the renderer, each with the job it is for.
    screens: (Sender<Screen>, Receiver<Screen>),
    /// The picture on its way to the clipboard.
    copying: Option<Later<Picture>>,
    notice: Option<Notice>,
    /// The settings as they were in the last frame, and when those that changed since are due to be written.
    seen_settings: Settings,
    write_settings_at: Option<f64>,
    card: Option<egui_commonmark::CommonMarkCache>,
}

/// A line at the foot of the window about something that has just happened.
struct Notice {
    text: String,
    is_error: bool,
}

impl Window {
    /// A window with these settings.
    ///
    /// # Errors
    /// When the system refuses the threads that compute.
    pub fn new(
        ctx: &Context,
        settings: Settings,
    ) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        theme::apply(ctx);
        ctx.set_theme(settings.theme);
        let wake = ctx.clone();
        let engine = Engine::start(Workshop::new(backends::available(0)?), move || {
            wake.request_repaint()
        })?;
        let load = settings.model.clone().map_or(DEFAULT, Job::Load);
        Ok(Self {
            scope: ScopePage::new(&settings),
            compare: ComparePage::new(settings.autoplay),
            screens: channel(),
            asking_for_lane: false,
            engine,
            backends: Backends::look(ctx)?,
            seen_settings: settings.clone(),
            seen_page: settings.page,
            write_settings_at: None,
            settings,
            load,
            load_failed: false,
            model: None,
            stored: None,
            notebook: Notebook::new(None),
            practice: PracticePage::new(None),
            guide: ReadingGuide::default(),
            opening: None,
            saving: None,
            importing: None,
            clock: None,
            writing: VecDeque::new(),
            copying: None,
            notice: None,
            card: None,
        })
    }

    /// Reads the notes and the answers kept in this data folder, and keeps them there from now on.
    pub fn keep_notes_in(&mut self, data_folder: Option<&Path>) {
        self.notebook = Notebook::new(data_folder);
        self.practice = PracticePage::new(data_folder);
    }

    /// Draws everything. Called for every frame.
    pub fn show(&mut self, ui: &mut Ui) {
        self.backends.take();
        self.take_model();
        self.take_dropped(ui.ctx());
        self.take_written(ui.ctx());
        self.take_copied(ui.ctx());
        self.take_screen();
        self.top_bar(ui);
        self.leave_page();
        self.notice_bar(ui);
        let mut requests = Vec::new();
        let covered = self.opening.is_some() || self.saving.is_some() || self.card.is_some();
        match self.settings.page {
            Page::Scope => {
                let mut around = scope::Around {
                    engine: &self.engine,
                    backends: &self.backends.choices,
                    model: self.model.as_ref(),
                    stored: self.stored.as_ref(),
                    loading: self.engine.reply(MODEL),
                    hide_timings: self.settings.hide_timings,
                    recent: &self.settings.recent,
                    covered,
                    requests: &mut requests,
                };
                self.scope.show(ui, &mut self.settings.scope, &mut around);
            }
            Page::Compare => {
                let mut around = compare::Around {
                    engine: &self.engine,
                    backend: &self.settings.scope.backend,
                    hide_timings: self.settings.hide_timings,
                    recent: &self.settings.recent,
                    requests: &mut requests,
                };
                self.compare
                    .show(ui, &mut self.settings.compare, &mut around);
            }
            Page::Lessons => self.lessons_page(ui, &mut requests),
            Page::Practice => self.practice_page(ui, &mut requests),
            Page::Guide => self.guide_page(ui),
        }
        for request in requests {
            self.serve(request, ui.ctx());
            // What was asked for begins with the next frame.
            ui.request_repaint();
        }
        self.dialogs(ui.ctx());
        self.drop_hint(ui.ctx());
        self.plan_to_write_settings(ui.ctx());
    }

    /// Wakes the window once after the last change, for settings are written at the end of a frame.
    fn plan_to_write_settings(&mut self, ctx: &Context) {
        let now = ctx.input(|input| input.time);
        if self.settings != self.seen_settings {
            self.seen_settings = self.settings.clone();
            // Somewhat later than the least time between two writings, so that the frame then does write.
            self.write_settings_at = Some(now + 1.25 * SAVE_AFTER);
        }
        match self.write_settings_at {
            Some(due) if due > now => {
                ctx.request_repaint_after(Duration::from_secs_f64(due - now));
            }
            _ => self.write_settings_at = None,
        }
    }

    /// Whether nothing is being computed: the pictures are final.
    pub fn is_idle(&self) -> bool {
        let delivered = self.writing.is_empty() && self.copying.is_none();
        let is_settled = match self.settings.page {
            Page::Scope => self.scope.is_settled(),
            Page::Compare => self.compare.is_settled(),
            Page::Lessons | Page::Practice | Page::Guide => true,
        };
        let is_settled = is_settled && self.notebook.is_settled() && self.practice.is_settled();
        !self.engine.is_busy() && is_settled && self.backends.found.is_none() && delivered
    }

    /// The settings as they are now, to be kept.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The Scope page.
    pub fn scope(&self) -> &ScopePage {
        &self.scope
    }

    fn take_model(&mut self) {
        let reply = self.engine.ask(MODEL, self.load.clone());
        if reply.busy {
            return;
        }
        if let Some(error) = reply.error {
            if !std::mem::replace(&mut self.load_failed, true) {
                let text = error.to_string();
                let path = match &self.load {
                    Job::Load(path) => path.display().to_string(),
                    _ => String::new(),
                };
                let text = if text.contains(&path) {
                    text
                } else {
                    format!("{path}: {text}")
                };
                let stopped = matches!(
                    &*error,
                    JobError::Load(reason) if matches!(**reason, LoadError::Cancelled { .. })
                );
                self.notice = Some(Notice {
                    text,
                    is_error: !stopped,
                });
            }
            // Without any model there would be nothing to look at.
            if self.model.is_none() {
                self.load = DEFAULT;
            }
            return;
        }
        if let Some(Answer::Model(model)) = reply.answer
            && self
                .model
                .as_ref()
                .is_none_or(|open| !Arc::ptr_eq(open, &model))
        {
            self.settings.model = folder(&model);
            if let Some(path) = folder(&model) {
                self.settings.remember(path);
            }
            self.card = None;
            self.scope
                .model_changed(&model, &mut self.settings.scope, &self.engine);
            self.stored = Some(match &self.load {
                Job::Recast {
                    model: stored,
                    dtype,
                    ..
                } => Stored {
                    model: Arc::clone(stored),
                    dtype: *dtype,
                },
                _ => Stored {
                    model: Arc::clone(&model),
                    dtype: None,
                },
            });
            self.model = Some(model);
        }
    }

    fn take_dropped(&mut self, ctx: &Context) {
        let dropped = ctx.input(|input| {
            input.raw.dropped_files.iter().find_map(|file| {
                Some(file.path().to_owned()).filter(|path| !path.as_os_str().is_empty())
            })
        });
        if let Some(path) = dropped {
            self.serve(Request::Open(path), ctx);
        }
    }

    /// While a file is dragged over the window: that it may be dropped.
    fn drop_hint(&self, ctx: &Context) {
        if ctx.input(|input| input.raw.hovered_files.is_empty()) {
            return;
        }
        egui::Area::new(egui::Id::unique("drop hint"))
            .order(egui::Order::Foreground)
            .anchor(egui::Align2::CENTER_CENTER, egui::Vec2::ZERO)
            .interactable(false)
            .show(ctx, |ui| {
                Frame::popup(ui.style()).inner_margin(24).show(ui, |ui| {
                    ui.label(RichText::new("Drop a model's folder to open it").size(18.0));
                });
            });
    }

    /// Says what became of the last file.
    fn take_written(&mut self, ctx: &Context) {
        let Some(job) = self.writing.front() else {
            return;
        };
        let reply = self.engine.ask(SAVE, job.clone());
        if reply.busy {
            return;
        }
        self.writing.pop_front();
        self.notice = match (reply.error, reply.answer) {
            (Some(error), _) => Some(Notice {
                text: error.to_string(),
                is_error: true,
            }),
            (None, Some(Answer::Saved(path, bytes))) => Some(Notice {
                text: format!("Saved {} ({}).", path.display(), bytes_text(bytes)),
                is_error: false,
            }),
            (None, Some(answer)) => learn::written(&answer),
            (None, None) => None,
        };
        self.engine.forget(SAVE);
        ctx.request_repaint();
    }

    /// Asks where to put a picture of the window once it is there.
    fn take_screen(&mut self) {
        let Ok(screen) = self.screens.1.try_recv() else {
            return;
        };
        let picture = take_home::part_of(&screen.image, screen.rect, screen.pixels_per_point);
        self.saving = Some(Saving {
            ask: AskPath::save(&files::save_folder(), screen.name, "png"),
            job: Box::new(move |path| Job::SavePicture { path, picture }),
        });
    }

    /// Stops what the page that was left had running: there is one worker, and it is wanted elsewhere.
    fn leave_page(&mut self) {
        let left = std::mem::replace(&mut self.seen_page, self.settings.page);
        if left == self.settings.page {
            return;
        }
        match left {
            Page::Scope => self.scope.halt(&self.engine),
            Page::Compare => self.compare.leave(&self.engine),
            Page::Lessons => self.notebook.leave(&self.engine),
            Page::Practice => self.practice.leave(&self.engine),
            Page::Guide => {}
        }
    }

    /// Puts a picture on the clipboard once it is painted.
    fn take_copied(&mut self, ctx: &Context) {
        let Some(picture) = &self.copying else { return };
        let reply = self.engine.ask(COPY, Job::Paint(picture.clone()));
        if reply.busy {
            return;
        }
        self.copying = None;
        self.engine.forget(COPY);
        let (text, is_error) = match (reply.error, reply.answer) {
            (Some(error), _) => (error.to_string(), true),
            (None, Some(Answer::Picture(picture))) => {
                let size = [picture.width as usize, picture.height as usize];
                let image = egui::ColorImage::from_rgba_unmultiplied(size, &picture.rgba);
                ctx.copy_image(image);
                let [width, height] = size;
                let text = format!("Copied a picture of {width} × {height} pixels.");
                (text, false)
            }
            _ => return,
        };
        self.notice = Some(Notice { text, is_error });
        ctx.request_repaint();
    }

    fn serve(&mut self, request: Request, ctx: &Context) {
        match request {
            Request::AskModel => {
                let path = self
                    .settings
                    .model
                    .as_ref()
                    .map_or_else(String::new, |path| path.display().to_string());
                self.asking_for_lane = false;
                self.opening = Some(AskPath::open(path));
            }
            Request::StopLoading => self.engine.cancel(MODEL),
            Request::AskLane => {
                self.asking_for_lane = true;
                self.opening = Some(AskPath::add());
            }
            Request::SaveScreen { name, rect } => {
                let sender = self.screens.0.clone();
                let pixels_per_point = ctx.pixels_per_point();
                ctx.request_screenshot(move |image| {
                    // The window may be gone by then.
                    let _ = sender.send(Screen {
                        image,
                        name,
                        rect,
                        pixels_per_point,
                    });
                });
            }
            Request::Open(path) => self.load(Job::Load(path)),
            Request::OpenEmbedded(name) => self.load(Job::LoadEmbedded(name)),
            Request::Recast(dtype, keep) => {
                let stored = self.stored.as_ref();
                if let Some(stored) = stored.filter(|stored| keep || stored.dtype != dtype) {
                    let model = ModelRef(Arc::clone(&stored.model));
                    self.load(Job::Recast { model, dtype, keep });
                }
            }
            Request::Save { name, ending, job } => {
                self.saving = Some(Saving {
                    ask: AskPath::save(&files::save_folder(), name, ending),
                    job,
                });
            }
            Request::Copy(picture) => self.copying = Some(picture),
            Request::ShowCard => self.card = Some(egui_commonmark::CommonMarkCache::default()),
        }
    }

    fn load(&mut self, load: Job) {
        self.notice = None;
        self.load_failed = false;
        self.scope.halt(&self.engine);
        self.load = load;
        self.engine.allow_again(MODEL);
    }

    fn top_bar(&mut self, ui: &mut Ui) {
        Panel::top("pages").show(ui, |ui| {
            ui.horizontal(|ui| {
                ui.label(RichText::new("Mambascope").strong().size(16.0));
                ui.add_space(12.0);
                for page in Page::ALL {
                    ui.selectable_value(&mut self.settings.page, page, page.title());
                }
                ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                    self.settings_menu(ui)
                });
            });
        });
    }

    fn settings_menu(&mut self, ui: &mut Ui) {
        let before = self.settings.theme;
        ui.menu_button("Settings", |ui| {
            ui.label(RichText::new("Theme").color(palette(ui).weak_text));
            for (theme, name) in [
                (egui::ThemePreference::System, "As the system"),
                (egui::ThemePreference::Light, "Light"),
                (egui::ThemePreference::Dark, "Dark"),
            ] {
                ui.radio_value(&mut self.settings.theme, theme, name);
            }
            ui.separator();
            ui.checkbox(&mut self.settings.autoplay, "Write when the window opens");
        });
        if self.settings.theme != before {
            ui.ctx().set_theme(self.settings.theme);
        }
    }

    fn notice_bar(&mut self, ui: &mut Ui) {
        let saving = self.engine.reply(SAVE);
        if saving.busy {
            Panel::bottom("saving").show(ui, |ui| {
                ui.horizontal(|ui| {
                    if ui.button("Cancel saving").clicked() {
                        self.engine.cancel(SAVE);
                    }
                    scope::progress(ui, &saving, "saving");
                });
            });
        }
        let Some(notice) = &self.notice else { return };
        let colour = if notice.is_error {
            palette(ui).error
        } else {
            palette(ui).text
        };
        let mut close = false;
        Panel::bottom("notice").show(ui, |ui| {
            ui.horizontal_wrapped(|ui| {
                close = ui.button("Close").clicked();
                ui.colored_label(colour, &notice.text);
            });
        });
        if close {
            self.notice = None;
        }
    }

    fn guide_page(&mut self, ui: &mut Ui) {
        egui::CentralPanel::default().show(ui, |ui| {
            ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
                ui.vertical_centered(|ui| {
                    ui.add_space(16.0);
                    self.guide.show(ui);
                });
            });
        });
    }

    fn dialogs(&mut self, ctx: &Context) {
        if let Some(ask) = &mut self.opening {
            match ask.show(ctx) {
                Asked::Open => {}
                Asked::Closed => self.opening = None,
                Asked::Path(path) => {
                    self.opening = None;
                    if std::mem::take(&mut self.asking_for_lane) {
                        self.settings.compare.add(LaneChoice::Folder(path));
                    } else {
                        self.serve(Request::Open(path), ctx);
                    }
                }
            }
        }
        if let Some(saving) = &mut self.saving {
            let asked = saving.ask.show(ctx);
            if matches!(asked, Asked::Open) {
                return;
            }
            if let (Some(saving), Asked::Path(path)) = (self.saving.take(), asked) {
                self.writing.push_back((saving.job)(path));
            }
        }
        self.import_dialog(ctx);
        self.card_window(ctx);
    }

    fn card_window(&mut self, ctx: &Context) {
        let Some(cache) = &mut self.card else { return };
        let card = self.model.as_ref().and_then(|model| model.card.clone());
        let modal = files::modal("model card", ctx).show(ctx, |ui| {
            let room = ui.ctx().content_rect().size() - egui::vec2(96.0, 160.0);
            ui.set_width(room.x.min(760.0));
            ScrollArea::vertical()
                .max_height(room.y)
                // More than the modal would leave it.
                .min_scrolled_height(room.y)
                .auto_shrink([false, true])
                .show(ui, |ui| {
                    let text = card
                        .as_deref()
                        .unwrap_or("This model's folder has no MODEL_CARD.md or README.md.");
                    egui_commonmark::CommonMarkViewer::new().show(ui, cache, text);
                });
            ui.add_space(8.0);
            ui.button("Close").clicked()
        });
        if modal.inner || modal.should_close() {
            self.card = None;
        }
    }
}

impl eframe::App for Window {
    fn ui(&mut self, ui: &mut Ui, _frame: &mut eframe::Frame) {
        Frame::new()
            .fill(palette(ui).bg)
            .show(ui, |ui| self.show(ui));
    }

    fn save(&mut self, storage: &mut dyn eframe::Storage) {
        self.keep_learning();
        self.settings.write(storage);
    }

    fn auto_save_interval(&self) -> Duration {
        Duration::from_secs_f64(SAVE_AFTER)
    }
}

/// The folder a model came from.
fn folder(model: &Model) -> Option<PathBuf> {
    match &model.source {
        mambascope_core::model::Source::Folder(path) => Some(path.clone()),
        _ => None,
    }
}
