//! The practice page: on the left its parts and what they choose from, beside it the part that is open. The clock is passed in.

mod claim;
mod court;
mod desk;
mod drill;
mod drills;
mod interview;
mod log_ui;
mod parts;
mod progress;
mod proof;
mod question;
mod record;
mod review;
pub mod settings;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use egui::{Panel, RichText, ScrollArea, Ui, vec2};
use mambascope_core::engine::Engine;

pub use self::log_ui::{Export, exported};

use self::court::CourtPart;
use self::desk::Desk;
use self::drills::DrillsPart;
use self::interview::InterviewPart;
use self::log_ui::LogBox;
use self::parts::{filter, small, topic_title};
use self::progress::ProgressPart;
use self::record::Record;
use self::review::{ReviewPart, queue};
use self::settings::{Part, PracticeSettings};
use super::bank::{Bank, BankError, Level, ScopeState};
use super::items;
use super::log::ReviewLog;
use super::schedule::Zone;
use crate::notebook::text::Texts;
use crate::theme;

/// Most new questions a day there can be.
const MOST_NEW: usize = 200;

/// What the page asks of the window around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PracticeRequest {
    /// Go to the demo of this preset, a line such as [`crate::demo::AnyDemo::preset`] writes.
    Prove(String),
    /// Go to the Scope page in this state.
    Scope(ScopeState),
    /// Go to this lesson.
    Lesson(String),
    /// Ask where to, then write this text.
    Save {
        /// Proposed file name.
        name: String,
        /// Ending of the file name.
        ending: &'static str,
        /// The contents.
        text: String,
    },
    /// Ask where to, then do [`Export`].
    Export(ReviewLog),
    /// Ask for a log, then hand it to [`PracticePage::import`].
    Import,
}

/// The page.
pub struct PracticePage {
    bank: Result<Bank, BankError>,
    record: Record,
    texts: Texts,
    /// Experiments that are to run, or have.
    asked: HashSet<&'static str>,
    /// The one of them to be scrolled to when it has something to show.
    go_to: Option<&'static str>,
    review: ReviewPart,
    drills: DrillsPart,
    court: CourtPart,
    interview: InterviewPart,
    progress: ProgressPart,
    log: LogBox,
}

impl PracticePage {
    /// The page with the questions of this program, its answers in this data folder.
    pub fn new(data_folder: Option<&Path>) -> Self {
        Self::with_bank(Bank::load(), data_folder)
    }

    /// The page with these questions.
    pub fn with_bank(bank: Result<Bank, BankError>, data_folder: Option<&Path>) -> Self {
        let texts = bank.iter().flat_map(Bank::texts).map(String::as_str);
        Self {
            texts: Texts::of_all(texts),
            bank,
            record: Record::open(data_folder),
            asked: HashSet::new(),
            go_to: None,
            review: ReviewPart::default(),
            drills: DrillsPart::default(),
            court: CourtPart::default(),
            interview: InterviewPart::default(),
            progress: ProgressPart::default(),
            log: LogBox::default(),
        }
    }

    /// How many items are due, of all topics and levels.
    pub fn due(&self, now: i64, zone: Zone) -> usize {
        let Ok(bank) = &self.bank else { return 0 };
        let queue = self.record.deck.queue(&items(bank), now, zone, 0);
        queue.due.len()
    }

    /// All answers, with their corrections.
    pub fn reviews(&self) -> &[super::log::Review] {
        self.record.reviews()
    }

    /// Forgets what the page has asked of the engine.
    pub fn leave(&mut self, engine: &Engine) {
        self.asked.drain().for_each(|name| engine.forget(name));
        self.go_to = None;
    }

    /// Adds the answers of another log to this one, on the worker; what came of it is said beside the log.
    pub fn import(&mut self, from: PathBuf) {
        if let Some(log) = self.record.log() {
            self.log.import(log.clone(), from);
        }
    }

    /// Keeps an interview that is going on as it is at this moment.
    pub fn keep(&self, now: i64, settings: &mut PracticeSettings) {
        self.interview.keep(now, settings);
    }

    /// Whether nothing is on its way between the log and another file.
    pub fn is_settled(&self) -> bool {
        self.log.is_settled()
    }

    /// Draws the page. `now` is in seconds since 1970, `zone` the learner's.
    pub fn show(
        &mut self,
        ui: &mut Ui,
        engine: &Engine,
        now: i64,
        zone: Zone,
        settings: &mut PracticeSettings,
        requests: &mut Vec<PracticeRequest>,
    ) {
        let bank = match &self.bank {
            Ok(bank) => bank,
            Err(error) => {
                egui::CentralPanel::default().show(ui, |ui| {
                    let text = format!("The questions cannot be read: {error}");
                    ui.colored_label(theme::palette(ui.visuals()).error, text);
                });
                return;
            }
        };
        let mut desk = Desk {
            engine,
            now,
            zone,
            bank,
            record: &mut self.record,
            texts: &mut self.texts,
            asked: &mut self.asked,
            go_to: &mut self.go_to,
            requests,
        };
        let standing = self.interview.standing(settings);
        Panel::left("parts of practice")
            .resizable(true)
            .default_size(232.0)
            .size_range(200.0..=360.0)
            .show(ui, |ui| {
                ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
                    parts_ui(ui, &desk, settings, standing);
                    filters_ui(ui, &desk, settings);
                    self.log.show(ui, &mut desk);
                });
            });
        match settings.part {
            Part::Review => self.review.show(ui, &mut desk, settings),
            Part::Drills => self.drills.show(ui, &mut desk, settings),
            Part::Court => self.court.show(ui, &mut desk, settings),
            Part::Interview => self.interview.show(ui, &mut desk, settings),
            Part::Progress => self.progress.show(ui, &mut desk, settings),
        }
    }
}

/// The list of parts.
fn parts_ui(
    ui: &mut Ui,
    desk: &Desk<'_>,
    settings: &mut PracticeSettings,
    interview: Option<&'static str>,
) {
    ui.add_space(8.0);
    ui.label(RichText::new("Practice").strong().size(16.0));
    ui.add_space(4.0);
    let waiting = queue(desk, settings);
    for part in Part::ALL {
        let title = part.title();
        let text = match part {
            Part::Review => format!(
                "{title}  ({} due, {} new)",
                waiting.due.len(),
                waiting.new.len()
            ),
            Part::Interview => match interview {
                Some(standing) => format!("{title}  ({standing})"),
                None => title.to_owned(),
            },
            _ => title.to_owned(),
        };
        let button = egui::Button::selectable(settings.part == part, text)
            .wrap()
            .min_size(vec2(ui.available_width(), 0.0));
        if ui.add(button).clicked() {
            settings.part = part;
        }
    }
}

/// What the parts choose from.
fn filters_ui(ui: &mut Ui, desk: &Desk<'_>, settings: &mut PracticeSettings) {
    ui.add_space(10.0);
    ui.separator();
    small(ui, "What is asked").on_hover_text(
        "An interview keeps to the topic and mixes levels; the progress is that of everything",
    );
    let mut topics: Vec<String> = Vec::new();
    for item in items(desk.bank) {
        if !topics.iter().any(|topic| topic == item.topic) {
            topics.push(item.topic.to_owned());
        }
    }
    let topics = topics.into_iter().map(|topic| {
        let title = topic_title(&topic);
        (topic, title)
    });
    filter(ui, "Topic", "all topics", &mut settings.topic, topics);
    let levels = Level::ALL.map(|level| (level, level.name().to_owned()));
    filter(
        ui,
        "Level",
        "all levels",
        &mut settings.level,
        levels.into_iter(),
    );
    ui.add_space(4.0);
    ui.horizontal(|ui| {
        let label = ui.label("New ones a day");
        let field = egui::DragValue::new(&mut settings.new_per_day).range(0..=MOST_NEW);
        ui.add(field).labelled_by(label.id);
    });
}
