//! The notebook: the contents on the left, a page of cells beside it. What the cells compute is asked of the engine; the page
//! that is left forgets its jobs.

pub mod check;
pub mod notes;
pub mod settings;
pub mod text;
pub mod trial;

use std::collections::{HashMap, HashSet};
use std::path::Path;

use egui::{Align, Frame, Layout, Panel, RichText, ScrollArea, Ui, vec2};
use mambascope_core::engine::{Engine, Reply};
use mambascope_core::job::Job;
use mambascope_core::study::StudyJob;

use self::check::Draft;
use self::notes::Notes;
use self::settings::{Guess, NotebookSettings};
use self::text::{Followed, Texts};
use crate::course::{self, LESSONS, Lesson};
use crate::demo::{AnyDemo, Around};
use crate::experiment::{Experiment, Trial};
use crate::glossary;
use crate::page::{CellKind, Check, Excerpt, Page, PageError};
use crate::theme;

/// Widest column of a page: demos need room for two pictures side by side.
const COLUMN: f32 = 900.0;
/// Room beside the column, for the button of a note.
const NOTE_ROOM: f32 = 52.0;
/// Widest line of text in it, about a hundred characters.
const LINE: f32 = 720.0;

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

/// The page that is open.
struct OpenPage {
    lesson: &'static Lesson,
    page: Result<Page, PageError>,
    texts: Texts,
    demos: HashMap<String, LiveDemo>,
    drafts: HashMap<String, Draft>,
    /// Experiments that are to run, or have.
    asked: HashSet<&'static str>,
    /// Height of each cell when it was last drawn.
    heights: Vec<f32>,
    /// Cells whose note is open though it is empty.
    noting: HashSet<usize>,
    /// A cell to scroll to.
    go_to: Option<Target>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Target {
    Cell(usize),
    Sources,
}

struct LiveDemo {
    demo: Box<dyn AnyDemo>,
    /// The controls it begins with on this page.
    first: serde_json::Value,
    /// The preset being pasted, while the field is open.
    pasting: Option<String>,
    error: Option<String>,
}

impl OpenPage {
    fn new(lesson: &'static Lesson, settings: &NotebookSettings) -> Self {
        let page = Page::parse(lesson.id, lesson.text);
        let mut texts = Texts::default();
        let (mut demos, mut drafts) = (HashMap::new(), HashMap::new());
        let mut cells = 0;
        if let Ok(page) = &page {
            texts = Texts::of(page);
            cells = page.cells.len();
            for cell in &page.cells {
                match &cell.kind {
                    CellKind::Demo { id, preset } => {
                        if let Some(live) = LiveDemo::new(id, preset.as_ref(), settings) {
                            demos.insert(id.clone(), live);
                        }
                    }
                    CellKind::Check(check) => {
                        drafts.insert(check.id.clone(), Draft::of(check));
                    }
                    _ => {}
                }
            }
        }
        Self {
            lesson,
            page,
            texts,
            demos,
            drafts,
            asked: HashSet::new(),
            heights: vec![0.0; cells],
            noting: HashSet::new(),
            go_to: None,
        }
    }

    /// The slots of the engine it uses.
    fn slots(&self) -> impl Iterator<Item = &'static str> {
        let demos = self.demos.values().map(|live| live.demo.id());
        demos.chain(self.asked.iter().copied())
    }
}

impl LiveDemo {
    fn new(
        id: &str,
        preset: Option<&serde_json::Value>,
        settings: &NotebookSettings,
    ) -> Option<Self> {
        let mut demo = (course::demo(id)?.make)();
        if let Some(preset) = preset {
            // A page's own preset is tested; were it wrong, the demo would begin as it is made.
            let _ = demo.load(preset.clone());
        }
        let first = demo.save();
        let kept = settings.demos.get(id);
        let kept = kept.and_then(|kept| serde_json::from_str(kept).ok());
        if let Some(kept) = kept {
            // Controls of an older version of the demo are let go.
            let _ = demo.load(kept);
        }
        Some(Self {
            demo,
            first,
            pasting: None,
            error: None,
        })
    }
}

/// What a cell needs while it is drawn.
struct Desk<'a> {
    engine: &'a Engine,
    around: &'a Around,
    settings: &'a mut NotebookSettings,
    requests: &'a mut Vec<NotebookRequest>,
    /// Numbers committed to on this page.
    guesses: Vec<(String, f64)>,
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

    /// Forgets what the page that is open has asked for.
    pub fn leave(&mut self, engine: &Engine) {
        if let Some(open) = &self.open {
            open.slots().for_each(|slot| engine.forget(slot));
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
            scroll.show(ui, |ui| self.page(ui, engine, around, settings, requests));
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
    page.cells
        .iter()
        .filter_map(|cell| match &cell.kind {
            CellKind::Check(check) => number(check),
            _ => None,
        })
        .collect()
}

fn head(ui: &mut Ui, page: &Page) {
    let palette = theme::palette(ui.visuals());
    ui.add_space(20.0);
    ui.label(RichText::new(&page.title).strong().size(26.0));
    ui.add_space(6.0);
    ui.scope(|ui| {
        ui.set_max_width(LINE);
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

/// What a cell is called in the reader's notes.
fn cell_name(kind: &CellKind, index: usize) -> String {
    match kind {
        CellKind::Prose(text) => {
            let heading = text.lines().find_map(|line| line.strip_prefix("## "));
            heading.map_or_else(|| format!("text {index}"), str::to_owned)
        }
        CellKind::Demo { id, .. } => format!("demo {id}"),
        CellKind::Check(check) => format!("question {}", check.id),
        CellKind::Experiment(name) => format!("experiment {name}"),
        CellKind::Excerpt(excerpt) => format!("{} {}", excerpt.file, excerpt.from),
    }
}

/// Draws one cell and the note under it; only the room of a cell that is out of sight.
fn cell_ui(
    ui: &mut Ui,
    open: &mut OpenPage,
    index: usize,
    kind: &CellKind,
    notes: &mut Notes,
    desk: &mut Desk<'_>,
) {
    let top = ui.cursor().min;
    let known = open.heights.get(index).copied().unwrap_or(0.0);
    let room = egui::Rect::from_min_size(top, vec2(ui.available_width(), known));
    let is_target = open.go_to == Some(Target::Cell(index));
    if known > 0.0 && !ui.is_rect_visible(room.expand(200.0)) && !is_target {
        ui.allocate_space(room.size());
        return;
    }
    let drawn = ui
        .push_id(index, |ui| {
            ui.vertical(|ui| {
                match kind {
                    CellKind::Prose(text) => {
                        ui.scope(|ui| {
                            ui.set_max_width(LINE.min(ui.available_width()));
                            open.texts.show(ui, text);
                        });
                    }
                    CellKind::Demo { id, .. } => card(ui, |ui| demo_ui(ui, open, id, desk)),
                    CellKind::Check(check) => card(ui, |ui| check_ui(ui, open, check, desk)),
                    CellKind::Experiment(name) => {
                        card(ui, |ui| experiment_ui(ui, open, name, desk));
                    }
                    CellKind::Excerpt(excerpt) => excerpt_ui(ui, excerpt),
                }
                note_ui(ui, open, index, &cell_name(kind, index), notes);
            })
        })
        .response
        .rect;
    if is_target {
        ui.scroll_to_rect(drawn, Some(Align::TOP));
        open.go_to = None;
    }
    note_button(ui, open, index, drawn);
    if let Some(height) = open.heights.get_mut(index) {
        *height = drawn.height();
    }
}

/// The frame around what is not text.
fn card(ui: &mut Ui, contents: impl FnOnce(&mut Ui)) {
    let palette = theme::palette(ui.visuals());
    ui.add_space(6.0);
    Frame::new()
        .fill(palette.panel)
        .stroke(egui::Stroke::new(1.0, palette.border))
        .corner_radius(6)
        .inner_margin(12)
        .show(ui, |ui| {
            ui.set_width(ui.available_width());
            contents(ui);
        });
    ui.add_space(6.0);
}

fn demo_ui(ui: &mut Ui, open: &mut OpenPage, id: &str, desk: &mut Desk<'_>) {
    let palette = theme::palette(ui.visuals());
    let Some(live) = open.demos.get_mut(id) else {
        ui.colored_label(palette.error, format!("there is no demo {id:?}"));
        return;
    };
    let mut is_reset = false;
    ui.horizontal(|ui| {
        ui.label(RichText::new(live.demo.title()).strong().size(15.0));
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
            is_reset = ui.small_button("Reset").clicked();
            if ui.small_button("Paste preset").clicked() {
                live.pasting = match live.pasting {
                    Some(_) => None,
                    None => Some(String::new()),
                };
            }
            let copy = ui.small_button("Copy preset");
            if copy
                .on_hover_text("A line of text that brings this demo back as it is")
                .clicked()
            {
                desk.requests
                    .push(NotebookRequest::Copy(live.demo.preset()));
            }
        });
    });
    paste_ui(ui, live);
    if is_reset && live.demo.load(live.first.clone()).is_err() {
        live.demo.reset();
    }
    ui.add_space(4.0);
    let slot = live.demo.id();
    let job = live.demo.job(desk.around);
    let reply = match job {
        Some(job) => desk.engine.ask(slot, job),
        None => Reply::default(),
    };
    let before = live.demo.save();
    live.demo
        .ui(ui, reply.answer.as_ref(), &desk.guesses, desk.around);
    if reply.busy && (reply.answer.is_none() || reply.progress.is_some()) {
        trial::progress(ui, &reply);
    }
    if let Some(error) = &reply.error {
        ui.colored_label(palette.error, error.to_string());
    }
    let after = live.demo.save();
    if before != after {
        ui.ctx().request_repaint();
    }
    if after == live.first {
        desk.settings.demos.remove(id);
    } else if desk
        .settings
        .demos
        .get(id)
        .is_none_or(|kept| before != after || kept.is_empty())
    {
        desk.settings.demos.insert(id.to_owned(), after.to_string());
    }
}

/// The field a preset is pasted into.
fn paste_ui(ui: &mut Ui, live: &mut LiveDemo) {
    let Some(text) = &mut live.pasting else {
        return;
    };
    let mut is_done = false;
    ui.horizontal(|ui| {
        let hint = format!("{} {{…}}", live.demo.id());
        let field = egui::TextEdit::singleline(text).hint_text(hint);
        ui.add(field.desired_width(ui.available_width() - 80.0));
        if ui.button("Load").clicked() {
            match live.demo.load_preset(text) {
                Ok(()) => (is_done, live.error) = (true, None),
                Err(error) => live.error = Some(error.to_string()),
            }
        }
    });
    if let Some(error) = &live.error {
        ui.colored_label(theme::palette(ui.visuals()).error, error);
    }
    if is_done {
        live.pasting = None;
    }
}

/// What an experiment's slot holds; asks for it if it is to run.
fn ask_experiment(open: &OpenPage, experiment: &'static Experiment, desk: &mut Desk<'_>) -> Reply {
    if !open.asked.contains(experiment.name) {
        return Reply::default();
    }
    let job = Job::Study(StudyJob::new(Trial(experiment)));
    let reply = desk.engine.ask(experiment.name, job);
    if trial::findings(&reply).is_some_and(|found| found.iter().all(|finding| finding.holds())) {
        desk.settings.proven.insert(experiment.name.to_owned());
    }
    reply
}

fn experiment(name: &str) -> Option<&'static Experiment> {
    course::experiments().find(|experiment| experiment.name == name)
}

fn check_ui(ui: &mut Ui, open: &mut OpenPage, check: &Check, desk: &mut Desk<'_>) {
    let palette = theme::palette(ui.visuals());
    ui.label(
        RichText::new("Before you read on")
            .small()
            .strong()
            .color(palette.accent),
    );
    let mut committed = desk.settings.guesses.get(&check.id).cloned();
    if !check::is_settled(check, committed.as_ref()) {
        committed = None;
    }
    let name = check
        .finding
        .as_deref()
        .and_then(|finding| finding.split('/').next());
    let source = name.and_then(experiment);
    let reply = match source {
        Some(experiment) if committed.is_some() => {
            open.asked.insert(experiment.name);
            ask_experiment(open, experiment, desk)
        }
        _ => Reply::default(),
    };
    let draft = open
        .drafts
        .entry(check.id.clone())
        .or_insert_with(|| Draft::of(check));
    check::show(ui, &mut open.texts, check, draft, &mut committed, &reply);
    match committed {
        Some(guess) => desk.settings.guesses.insert(check.id.clone(), guess),
        None => desk.settings.guesses.remove(&check.id),
    };
}

fn experiment_ui(ui: &mut Ui, open: &mut OpenPage, name: &str, desk: &mut Desk<'_>) {
    let palette = theme::palette(ui.visuals());
    let Some(experiment) = experiment(name) else {
        ui.colored_label(palette.error, format!("there is no experiment {name:?}"));
        return;
    };
    let reply = ask_experiment(open, experiment, desk);
    ui.label(
        RichText::new("Experiment")
            .small()
            .strong()
            .color(palette.accent),
    );
    match trial::show(ui, experiment, &reply) {
        Some(trial::Asked::Run) => {
            open.asked.insert(experiment.name);
            desk.engine.allow_again(experiment.name);
            ui.ctx().request_repaint();
        }
        Some(trial::Asked::Stop) => desk.engine.cancel(experiment.name),
        None => {}
    }
}

fn excerpt_ui(ui: &mut Ui, excerpt: &Excerpt) {
    let palette = theme::palette(ui.visuals());
    let lines = match excerpt.read() {
        Ok(lines) => lines,
        Err(reason) => {
            ui.colored_label(palette.error, reason);
            return;
        }
    };
    card(ui, |ui| {
        let first = lines.first().map_or(0, |line| line.number);
        let place = format!("{}, from line {first}", excerpt.file);
        ui.label(RichText::new(place).small().color(palette.weak_text));
        ui.add_space(4.0);
        ScrollArea::horizontal().show(ui, |ui| {
            ui.vertical(|ui| {
                ui.spacing_mut().item_spacing.y = 1.0;
                for line in &lines {
                    let mut text =
                        RichText::new(format!("{:>4}  {}", line.number, line.text)).monospace();
                    if line.is_marked {
                        text = text
                            .background_color(palette.accent_soft)
                            .color(palette.on_accent_soft);
                    }
                    ui.add(egui::Label::new(text).extend());
                }
            });
        });
    });
}

/// The reader's note under a cell, if there is one.
fn note_ui(ui: &mut Ui, open: &mut OpenPage, index: usize, cell: &str, notes: &mut Notes) {
    let palette = theme::palette(ui.visuals());
    let lesson = open.lesson.id;
    let kept = notes.get(lesson, cell).map(str::to_owned);
    if kept.is_none() && !open.noting.contains(&index) {
        return;
    }
    let mut text = kept.unwrap_or_default();
    let note = Frame::new()
        .fill(palette.accent_soft)
        .corner_radius(4)
        .inner_margin(6);
    note.show(ui, |ui| {
        let field = egui::TextEdit::multiline(&mut text)
            .desired_width(f32::INFINITY)
            .desired_rows(2)
            .hint_text("Your note");
        let edit = ui.add(field);
        if edit.changed() {
            let now = ui.input(|input| input.time);
            notes.set(lesson, cell, &text, now);
            // Emptied, it stays open until it is left.
            open.noting.insert(index);
        }
        if edit.lost_focus() && text.is_empty() {
            open.noting.remove(&index);
        }
    });
    ui.add_space(8.0);
}

/// The button beside a cell that begins a note; seen while the pointer is at the cell.
fn note_button(ui: &mut Ui, open: &mut OpenPage, index: usize, cell: egui::Rect) {
    let palette = theme::palette(ui.visuals());
    let place = egui::Rect::from_min_size(
        cell.right_top() + vec2(6.0, 4.0),
        vec2(NOTE_ROOM - 6.0, 20.0),
    );
    let button = ui.interact(
        place,
        ui.scope_id().with(("note", index)),
        egui::Sense::click(),
    );
    let name = "Write a note of your own at this cell";
    button.widget_info(|| egui::WidgetInfo::labeled(egui::accesskit::Role::Button, true, name));
    let near = egui::Rect::from_min_max(cell.min, place.right_bottom().max(cell.max));
    if button.has_focus() || ui.rect_contains_pointer(near) {
        let colour = if button.hovered() || button.has_focus() {
            palette.accent
        } else {
            palette.weak_text
        };
        let font = egui::TextStyle::Small.resolve(ui.style());
        ui.painter().text(
            place.left_center(),
            egui::Align2::LEFT_CENTER,
            "+ note",
            font,
            colour,
        );
    }
    if button.on_hover_text(name).clicked() {
        open.noting.insert(index);
    }
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
            ui.set_max_width(LINE);
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
