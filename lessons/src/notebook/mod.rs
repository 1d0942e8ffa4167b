//! The notebook: the contents on the left, a page of cells beside it. What the cells compute is asked of the engine; the page
//! that is left forgets its jobs.

mod cells;
pub mod check;
pub mod notes;
mod open_page;
pub mod settings;
pub mod text;
pub mod trial;

use std::path::Path;

use egui::{Align, Key, Layout, Panel, RichText, ScrollArea, Ui, vec2};
use mambascope_core::engine::Engine;

use self::cells::{Desk, cell_ui, experiment};
use self::notes::Notes;
use self::open_page::{OpenPage, Target};
use self::settings::{Guess, NotebookSettings};
use self::text::Followed;
use crate::course::{LESSONS, Lesson};
use crate::demo::{Around, PresetError};
use crate::glossary;
use crate::page::{CellKind, Check, Page};
use crate::theme;

/// Widest column of a page: demos need room for two pictures side by side.
const COLUMN: f32 = 900.0;
/// Room beside the column, for the button of a note.
const NOTE_ROOM: f32 = 52.0;
/// Widest line of text in it, about a hundred characters.
const LINE: f32 = 720.0;

/// Why a demo could not be gone to.
#[derive(Debug, thiserror::Error)]
pub enum GoError {
    /// No lesson shows it.
    #[error("no lesson shows a demo {0:?}")]
    Demo(String),
    /// Its controls could not be read.
    #[error(transparent)]
    Preset(#[from] PresetError),
}

/// What the notebook asks of the window around it.
pub enum NotebookRequest {
    /// Ask where to, then write this Markdown.
    ExportNotes(String),
    /// Put this line on the clipboard.
    Copy(String),
}

/// The notebook.
pub struct Notebook {
    open: Option<OpenPage>,
    /// The reader's notes.
    pub notes: Notes,
    /// Whether the page is to begin at its top.
    go_to_top: bool,
}

impl Notebook {
    /// A notebook whose notes are in this data folder.
    pub fn new(data_folder: Option<&Path>) -> Self {
        Self {
            open: None,
            notes: Notes::open(data_folder),
            go_to_top: false,
        }
    }

    /// Opens a lesson, with a demo's preset where there is one.
    pub fn go(&mut self, settings: &mut NotebookSettings, lesson: &str) {
        if settings.lesson != lesson {
            settings.lesson = lesson.to_owned();
            self.go_to_top = true;
        }
    }

    /// Opens the lesson that shows a demo, at the demo, uncovered, with the controls of a preset such as [`crate::demo::AnyDemo::preset`] writes.
    ///
    /// # Errors
    /// When no lesson shows the demo, or the preset cannot be read.
    pub fn go_to_demo(
        &mut self,
        engine: &Engine,
        settings: &mut NotebookSettings,
        preset: &str,
    ) -> Result<(), GoError> {
        let preset = preset.trim();
        let id = preset.split([' ', '{']).next().unwrap_or(preset);
        let shows = |lesson: &&Lesson| lesson.demos.iter().any(|demo| demo.id == id);
        let lesson = LESSONS.iter().find(shows);
        let lesson = lesson.ok_or_else(|| GoError::Demo(id.to_owned()))?;
        self.go(settings, lesson.id);
        self.turn_page(engine, settings);
        let Some(open) = &mut self.open else {
            return Err(GoError::Demo(id.to_owned()));
        };
        let is_it =
            |kind: &CellKind| matches!(kind, CellKind::Demo { id: other, .. } if other == id);
        let cells = open.page.as_ref().map_or(&[][..], |page| &page.cells);
        open.go_to = cells
            .iter()
            .position(|cell| is_it(&cell.kind))
            .map(Target::Cell);
        self.go_to_top = false;
        settings.uncovered.insert(id.to_owned());
        if let Some(live) = open.demos.get_mut(id)
            && preset.len() > id.len()
        {
            live.demo.load_preset(preset)?;
        }
        Ok(())
    }

    /// Forgets what the page that is open has asked for.
    pub fn leave(&mut self, engine: &Engine) {
        if let Some(open) = &mut self.open {
            open.slots().for_each(|slot| engine.forget(slot));
            // Coming back runs no experiment by itself.
            open.asked.clear();
        }
    }

    /// Whether everything typed has been written.
    pub fn is_settled(&self) -> bool {
        self.notes.is_kept()
    }

    /// Draws contents and page.
    pub fn show(
        &mut self,
        ui: &mut Ui,
        engine: &Engine,
        around: &Around,
        settings: &mut NotebookSettings,
        requests: &mut Vec<NotebookRequest>,
    ) {
        if !LESSONS.iter().any(|lesson| lesson.id == settings.lesson) {
            settings.lesson = LESSONS.first().map_or("", |lesson| lesson.id).to_owned();
        }
        Panel::left("contents")
            .resizable(true)
            .default_size(250.0)
            .size_range(200.0..=380.0)
            .show(ui, |ui| self.contents(ui, settings, requests));
        self.turn_page(engine, settings);
        egui::CentralPanel::default().show(ui, |ui| {
            let mut scroll = ScrollArea::vertical()
                .auto_shrink(false)
                .id_salt(&settings.lesson);
            if std::mem::take(&mut self.go_to_top) {
                scroll = scroll.vertical_scroll_offset(0.0);
            }
            scroll.show(ui, |ui| {
                scroll_by_keys(ui);
                self.page(ui, engine, around, settings, requests);
            });
        });
        let now = ui.input(|input| input.time);
        if let Some(seconds) = self.notes.keep(engine, now) {
            let wait = std::time::Duration::from_secs_f64(seconds.max(0.0));
            ui.ctx().request_repaint_after(wait);
        }
    }

    /// Opens the page the settings name, if it is not open.
    fn turn_page(&mut self, engine: &Engine, settings: &NotebookSettings) {
        let is_open = self
            .open
            .as_ref()
            .is_some_and(|open| open.lesson.id == settings.lesson);
        if is_open {
            return;
        }
        self.leave(engine);
        let lesson = LESSONS.iter().find(|lesson| lesson.id == settings.lesson);
        self.open = lesson.map(|lesson| OpenPage::new(lesson, settings));
    }

    fn contents(
        &mut self,
        ui: &mut Ui,
        settings: &mut NotebookSettings,
        requests: &mut Vec<NotebookRequest>,
    ) {
        let palette = theme::palette(ui.visuals());
        ui.add_space(8.0);
        ui.horizontal(|ui| {
            ui.label(RichText::new("Lessons").strong().size(16.0));
            let read = LESSONS
                .iter()
                .filter(|lesson| settings.read.contains(lesson.id))
                .count();
            let count = format!("{read} of {} read", LESSONS.len());
            ui.label(RichText::new(count).small().color(palette.weak_text));
        });
        ui.add_space(4.0);
        let mut chosen = None;
        ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
            for (i, lesson) in LESSONS.iter().enumerate() {
                let is_here = settings.lesson == lesson.id;
                let mark = if settings.read.contains(lesson.id) {
                    "✔"
                } else {
                    ""
                };
                let text = format!("{}  {}  {mark}", i + 1, title(lesson));
                let label = egui::Button::selectable(is_here, text)
                    .wrap()
                    .min_size(vec2(ui.available_width(), 0.0));
                if ui.add(label).clicked() {
                    chosen = Some(lesson.id);
                }
            }
            ui.add_space(12.0);
            let export = egui::Button::new("Export my notes…");
            if ui.add_enabled(!self.notes.is_empty(), export).clicked() {
                requests.push(NotebookRequest::ExportNotes(self.notes.markdown()));
            }
            if let Some(notice) = &self.notes.notice {
                ui.label(RichText::new(notice).small().color(palette.warning));
            }
        });
        if let Some(chosen) = chosen {
            self.go(settings, chosen);
        }
    }

    fn page(
        &mut self,
        ui: &mut Ui,
        engine: &Engine,
        around: &Around,
        settings: &mut NotebookSettings,
        requests: &mut Vec<NotebookRequest>,
    ) {
        let Some(open) = &mut self.open else { return };
        let page = match &open.page {
            Ok(page) => page.clone(),
            Err(error) => {
                ui.colored_label(theme::palette(ui.visuals()).error, error.to_string());
                return;
            }
        };
        let width = COLUMN.min(ui.available_width() - 16.0 - NOTE_ROOM);
        let margin = ((ui.available_width() - width) / 2.0).clamp(8.0, NOTE_ROOM + 16.0);
        let mut go = None;
        ui.horizontal_top(|ui| {
            ui.add_space(margin);
            ui.vertical(|ui| {
                ui.set_width(width);
                let mut desk = Desk {
                    engine,
                    around,
                    guesses: guesses(&page, settings),
                    settings,
                    requests,
                };
                head(ui, &page);
                for (i, cell) in page.cells.iter().enumerate() {
                    cell_ui(ui, open, i, &cell.kind, &mut self.notes, &mut desk);
                }
                sources(ui, open, &page);
                go = foot(ui, open.lesson, desk.settings);
            });
        });
        follow(open, &page);
        symbol_tip(ui, open, &page, engine);
        if let Some(lesson) = go {
            self.go(settings, lesson);
        }
    }
}

/// Scrolls the page by keys, unless a control has them.
fn scroll_by_keys(ui: &Ui) {
    /// Points of an arrow key.
    const LINE_STEP: f32 = 60.0;
    if ui.memory(|memory| memory.focused().is_some()) {
        return;
    }
    let screen = ui.clip_rect().height();
    let steps = [
        (Key::ArrowDown, LINE_STEP),
        (Key::ArrowUp, -LINE_STEP),
        (Key::PageDown, 0.9 * screen),
        (Key::PageUp, -0.9 * screen),
    ];
    for (key, step) in steps {
        if ui.input(|input| input.key_pressed(key)) {
            ui.scroll_with_delta(vec2(0.0, -step));
        }
    }
}

/// A lesson's title: from its settings, without reading the rest.
fn title(lesson: &Lesson) -> &'static str {
    let line = lesson
        .text
        .lines()
        .find(|line| line.starts_with("title = "));
    line.and_then(|line| line.split('"').nth(1))
        .unwrap_or(lesson.id)
}

/// The numbers committed to in the checks of a page.
fn guesses(page: &Page, settings: &NotebookSettings) -> Vec<(String, f64)> {
    let number = |check: &Check| match settings.guesses.get(&check.id) {
        Some(Guess::Number(guess)) => Some((check.id.clone(), *guess)),
        _ => None,
    };
    page.checks().filter_map(number).collect()
}

fn head(ui: &mut Ui, page: &Page) {
    let palette = theme::palette(ui.visuals());
    ui.add_space(20.0);
    ui.label(RichText::new(&page.title).strong().size(26.0));
    ui.add_space(6.0);
    ui.scope(|ui| {
        ui.set_max_width(LINE.min(ui.available_width()));
        ui.label(
            RichText::new(&page.objective)
                .color(palette.weak_text)
                .size(15.0),
        );
    });
    let minutes = format!("about {} minutes", page.minutes);
    ui.label(RichText::new(minutes).small().color(palette.weak_text));
    ui.add_space(10.0);
}

fn sources(ui: &mut Ui, open: &mut OpenPage, page: &Page) {
    if page.sources.is_empty() {
        return;
    }
    let palette = theme::palette(ui.visuals());
    ui.add_space(16.0);
    let title = ui.label(RichText::new("Sources").strong().size(18.0));
    if open.go_to == Some(Target::Sources) {
        title.scroll_to_me(Some(Align::TOP));
        open.go_to = None;
    }
    ui.add_space(4.0);
    for source in &page.sources {
        ui.scope(|ui| {
            ui.set_max_width(LINE.min(ui.available_width()));
            ui.horizontal_wrapped(|ui| {
                ui.label(&source.text);
                ui.hyperlink_to(
                    RichText::new(&source.url).small().color(palette.accent),
                    &source.url,
                );
            });
        });
    }
}

/// The foot of a page: that it has been read, and where to go from here.
fn foot(
    ui: &mut Ui,
    lesson: &'static Lesson,
    settings: &mut NotebookSettings,
) -> Option<&'static str> {
    let here = LESSONS.iter().position(|other| other.id == lesson.id)?;
    let mut go = None;
    ui.add_space(24.0);
    ui.separator();
    ui.horizontal(|ui| {
        if let Some(before) = here.checked_sub(1).and_then(|i| LESSONS.get(i))
            && ui.button(format!("← {}", title(before))).clicked()
        {
            go = Some(before.id);
        }
        let mut is_read = settings.read.contains(lesson.id);
        if ui.checkbox(&mut is_read, "I have read this").changed() {
            if is_read {
                settings.read.insert(lesson.id.to_owned());
            } else {
                settings.read.remove(lesson.id);
            }
        }
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
            if let Some(next) = LESSONS.get(here + 1)
                && ui.button(format!("{} →", title(next))).clicked()
            {
                settings.read.insert(lesson.id.to_owned());
                go = Some(next.id);
            }
        });
    });
    ui.add_space(32.0);
    go
}

/// Goes where a link of the page leads.
fn follow(open: &mut OpenPage, page: &Page) {
    let target = match open.texts.followed.take() {
        Some(Followed::Experiment(name)) => {
            let is_it =
                |kind: &CellKind| matches!(kind, CellKind::Experiment(other) if *other == name);
            let place = page.cells.iter().position(|cell| is_it(&cell.kind));
            if let Some(experiment) = experiment(&name) {
                open.asked.insert(experiment.name);
            }
            place.map(Target::Cell)
        }
        Some(Followed::Source(_)) => Some(Target::Sources),
        None => return,
    };
    open.go_to = target;
}

/// What the symbol under the pointer means, and what it is now.
fn symbol_tip(ui: &Ui, open: &OpenPage, page: &Page, engine: &Engine) {
    let Some(symbol) = open.texts.take_hovered() else {
        return;
    };
    let own = page.symbols.get(&symbol).cloned();
    let general = glossary::meaning(&symbol).map(|(meaning, shape)| format!("{meaning}; {shape}"));
    let Some(meaning) = own.or(general) else {
        return;
    };
    let live = open.demos.values().find_map(|live| {
        let reply = engine.reply(live.demo.id());
        let value = live.demo.live(&symbol, reply.answer.as_ref())?;
        Some(format!("in “{}” now: {value}", live.demo.title()))
    });
    let id = egui::Id::unique("symbol");
    egui::Tooltip::always_open(
        ui.ctx().clone(),
        ui.layer_id(),
        id,
        egui::PopupAnchor::Pointer,
    )
    .gap(12.0)
    .show(|ui| {
        ui.set_max_width(360.0);
        ui.horizontal(|ui| {
            crate::widgets::formula::formula(ui, &symbol_tex(&symbol));
            ui.label(meaning);
        });
        if let Some(live) = live {
            ui.label(RichText::new(live).small());
        }
    });
}

/// A symbol as TeX: a Greek letter by its name.
fn symbol_tex(symbol: &str) -> String {
    symbol
        .replace('Δ', r"\Delta")
        .replace('σ', r"\sigma")
        .replace('α', r"\alpha")
}
