//! The Compare page: two to four models on one text, side by side.

mod attention;
mod charts;
mod controls;
mod recall;
mod table;

use std::path::PathBuf;
use std::sync::Arc;

use egui::{CentralPanel, ScrollArea, Ui, UiBuilder, Vec2, vec2};
use mambascope_core::checkpoint::{EMBEDDED, Embedded};
use mambascope_core::compare::{CompareJob, Compared, Lane};
use mambascope_core::engine::{Engine, Reply};
use mambascope_core::generate::Sampling;
use mambascope_core::job::{Answer, Job, ModelRef};
use mambascope_core::model::Model;
use mambascope_core::recall::{RecallJob, RecallTable};
use serde::{Deserialize, Serialize};

use self::attention::MapChoice;
use super::board::Board;
use super::{Request, controls_panel};

/// The slots in which the page's models are loaded, one a lane.
const MODELS: [&str; MOST_LANES] = [
    "compared model 1",
    "compared model 2",
    "compared model 3",
    "compared model 4",
];
/// The most models side by side.
const MOST_LANES: usize = 4;
/// The slot in which they run.
const COMPARE: &str = "compare";
/// The slot in which they are asked for facts.
const RECALL: &str = "recall";
/// The smallest chart worth looking at.
const LEAST_CHART: Vec2 = vec2(330.0, 250.0);
/// Numbers of facts asked for.
const FACTS: [usize; 8] = [2, 4, 8, 16, 32, 48, 64, 96];

/// A model to compare.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LaneChoice {
    /// One compiled into the program, by name.
    Embedded(String),
    /// One in a folder.
    Folder(PathBuf),
}

/// A model on the page. Its place is its slot and its colour, and stays when others go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChosenLane {
    /// The model.
    pub choice: LaneChoice,
    /// Below the most there can be, and its own.
    pub place: usize,
}

impl LaneChoice {
    /// What to call it before it is loaded.
    fn name(&self) -> String {
        match self {
            LaneChoice::Embedded(name) => name.clone(),
            LaneChoice::Folder(path) => path.file_name().map_or_else(
                || path.display().to_string(),
                |name| name.to_string_lossy().into_owned(),
            ),
        }
    }

    fn load(&self) -> Job {
        match self {
            LaneChoice::Embedded(name) => {
                let known = EMBEDDED.iter().find(|embedded| embedded.name == name);
                Job::LoadEmbedded(known.unwrap_or(&EMBEDDED[0]).name)
            }
            LaneChoice::Folder(path) => Job::Load(path.clone()),
        }
    }
}

/// What the page remembers from one start to the next.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CompareSettings {
    /// The models.
    pub lanes: Vec<ChosenLane>,
    /// What all read.
    pub text: String,
    /// How many tokens each writes after it.
    pub write: usize,
    /// How they are chosen.
    pub sampling: Sampling,
    /// Whether losses are means over the text so far, or over the last few tokens.
    pub cumulative: bool,
    /// Up to how many tokens the byte ledger is drawn.
    pub context: usize,
    /// Rows of the recall test.
    pub rows: usize,
    /// Its seed.
    pub seed: u64,
}

impl Default for CompareSettings {
    fn default() -> Self {
        let lane = |(place, embedded): (usize, &Embedded)| ChosenLane {
            choice: LaneChoice::Embedded(embedded.name.to_owned()),
            place,
        };
        Self {
            lanes: EMBEDDED.iter().enumerate().map(lane).collect(),
            text: controls::PROSE.to_owned(),
            write: 0,
            sampling: Sampling::default(),
            cumulative: true,
            context: 4096,
            rows: 16,
            seed: 0,
        }
    }
}

impl CompareSettings {
    /// Adds a model in the first place that is free; there may be none.
    pub fn add(&mut self, choice: LaneChoice) {
        let is_free = |place: &usize| self.lanes.iter().all(|lane| lane.place != *place);
        if let Some(place) = (0..MOST_LANES).find(is_free) {
            self.lanes.push(ChosenLane { choice, place });
        }
    }
}

/// What the window lends to the page for a frame.
pub(super) struct Around<'a> {
    pub(super) engine: &'a Engine,
    /// Name of the backend in force.
    pub(super) backend: &'a str,
    pub(super) hide_timings: bool,
    pub(super) recent: &'a [PathBuf],
    pub(super) requests: &'a mut Vec<Request>,
}

/// The page.
pub struct ComparePage {
    models: [Reply; MOST_LANES],
    /// What runs or has run; nothing before the first.
    asked: Option<CompareJob>,
    reply: Reply,
    compared: Option<Arc<Compared>>,
    /// Whether that is of an earlier run than the last one asked for.
    is_old: bool,
    recalled: Option<Arc<RecallTable>>,
    /// The place of every model that is or was on the page, as long as something shows it.
    places: Vec<(ModelRef, usize)>,
    /// Counts what was compared, for pictures that are kept.
    version: u64,
    asked_recall: Option<RecallJob>,
    recall_reply: Reply,
    map: MapChoice,
    /// Whether to run as soon as the models are there.
    autorun: bool,
    /// Where the charts are, to cut them out of a picture of the window.
    charts_rect: egui::Rect,
    settled: bool,
}

impl ComparePage {
    pub(super) fn new(autorun: bool) -> Self {
        Self {
            models: Default::default(),
            asked: None,
            reply: Reply::default(),
            compared: None,
            is_old: false,
            recalled: None,
            places: Vec::new(),
            version: 0,
            asked_recall: None,
            recall_reply: Reply::default(),
            map: MapChoice::default(),
            autorun,
            charts_rect: egui::Rect::NOTHING,
            settled: true,
        }
    }

    /// Whether what is drawn is what was last asked for.
    pub fn is_settled(&self) -> bool {
        self.settled
    }

    /// Stops what runs, as when the reader leaves the page; what there is stays.
    pub(super) fn leave(&mut self, engine: &Engine) {
        for (slot, busy) in [(COMPARE, self.reply.busy), (RECALL, self.recall_reply.busy)] {
            if busy {
                engine.cancel(slot);
            }
        }
        self.settled = true;
    }

    pub(super) fn show(
        &mut self,
        ui: &mut Ui,
        settings: &mut CompareSettings,
        around: &mut Around<'_>,
    ) {
        self.ask(settings, around);
        controls_panel(ui, "compare controls", |ui| {
            self.controls(ui, settings, around)
        });
        CentralPanel::default().show(ui, |ui| {
            self.charts_rect = ui.max_rect().expand(8.0);
            ScrollArea::vertical()
                .auto_shrink(false)
                .show(ui, |ui| self.pictures(ui, settings, around));
        });
    }

    /// Derives the jobs from the state of the page and takes what answers there are.
    fn ask(&mut self, settings: &CompareSettings, around: &Around<'_>) {
        let engine = around.engine;
        for (place, slot) in MODELS.into_iter().enumerate() {
            let lane = settings.lanes.iter().find(|lane| lane.place == place);
            self.models[place] = match lane {
                Some(lane) => engine.ask(slot, lane.choice.load()),
                None => {
                    engine.forget(slot);
                    Reply::default()
                }
            };
        }
        self.remember_places();
        let loading = self.models.iter().any(|reply| reply.busy);
        if self.autorun && !loading {
            self.autorun = false;
            self.run(settings, around);
        }
        if let Some(job) = &self.asked {
            self.reply = engine.ask(COMPARE, Job::Compare(job.clone()));
            if let Some(Answer::Compared(compared)) = &self.reply.answer
                && self
                    .compared
                    .as_ref()
                    .is_none_or(|seen| !Arc::ptr_eq(seen, compared))
            {
                self.compared = Some(Arc::clone(compared));
                self.is_old = false;
                self.version += 1;
            }
        }
        if let Some(job) = &self.asked_recall {
            self.recall_reply = engine.ask(RECALL, Job::Recall(job.clone()));
            if let Some(Answer::Recall(table)) = &self.recall_reply.answer {
                self.recalled = Some(Arc::clone(table));
            }
        }
        self.settled = !loading && !self.reply.busy && !self.recall_reply.busy;
    }

    /// Notes which model stands where, and forgets those that nothing shows any more.
    fn remember_places(&mut self) {
        for place in 0..MOST_LANES {
            if let Some(model) = self.model(place) {
                let model = ModelRef(Arc::clone(model));
                if self.places.iter().all(|(known, _)| *known != model) {
                    self.places.push((model, place));
                }
            }
        }
        let loaded: Vec<ModelRef> = (0..MOST_LANES)
            .filter_map(|place| Some(ModelRef(Arc::clone(self.model(place)?))))
            .collect();
        let (compared, recalled) = (self.compared.as_ref(), self.recalled.as_ref());
        self.places.retain(|(model, _)| {
            let in_lanes =
                compared.is_some_and(|it| it.lanes.iter().any(|lane| lane.model == *model));
            let in_rows = recalled.is_some_and(|it| it.rows.iter().any(|row| row.model == *model));
            loaded.contains(model) || in_lanes || in_rows
        });
    }

    /// The colour of a model: that of the place it has or had.
    fn colour(&self, ui: &Ui, model: &ModelRef) -> egui::Color32 {
        let place = self.places.iter().find(|(known, _)| known == model);
        colour(ui, place.map_or(MOST_LANES, |(_, place)| *place))
    }

    /// The model in a place, once it is loaded.
    fn model(&self, place: usize) -> Option<&Arc<Model>> {
        match &self.models.get(place)?.answer {
            Some(Answer::Model(model)) => Some(model),
            _ => None,
        }
    }

    /// The models of all lanes, once every one of them is loaded.
    fn loaded(&self, settings: &CompareSettings) -> Option<Vec<ModelRef>> {
        let model = |place: usize| {
            let is_there = !self.models.get(place)?.busy;
            is_there.then(|| self.model(place)).flatten()
        };
        let lanes = settings.lanes.iter();
        lanes
            .map(|lane| Some(ModelRef(Arc::clone(model(lane.place)?))))
            .collect()
    }

    /// The job of the page as it stands.
    fn job(&self, settings: &CompareSettings, backend: &str) -> Option<CompareJob> {
        Some(CompareJob {
            models: self.loaded(settings)?,
            backend: backend.to_owned(),
            text: settings.text.as_str().into(),
            write: settings.write,
            sampling: settings.sampling,
        })
    }

    fn run(&mut self, settings: &CompareSettings, around: &Around<'_>) {
        if let Some(job) = self.job(settings, around.backend) {
            // Either would wait for the other.
            around.engine.cancel(RECALL);
            self.is_old = self.compared.is_some();
            self.asked = Some(job);
            around.engine.allow_again(COMPARE);
        }
    }

    fn run_recall(&mut self, settings: &CompareSettings, around: &Around<'_>) {
        if let Some(models) = self.loaded(settings) {
            self.asked_recall = Some(RecallJob {
                models,
                backend: around.backend.to_owned(),
                facts: FACTS.to_vec(),
                rows: settings.rows,
                seed: settings.seed,
            });
            around.engine.allow_again(RECALL);
        }
    }

    fn pictures(&mut self, ui: &mut Ui, settings: &mut CompareSettings, around: &mut Around<'_>) {
        let Some(compared) = self.compared.clone() else {
            let text = if self.reply.busy {
                "Reading the text…"
            } else if self.models.iter().any(|reply| reply.busy) {
                "Loading the models…"
            } else {
                "Choose two to four models on the left, a text for them to read, and press Run: their losses, their memory \
                 and their pace appear here."
            };
            ui.add_space(ui.available_height() * 0.4);
            ui.vertical_centered(|ui| ui.label(text));
            return;
        };
        if self.is_old && self.reply.busy {
            ui.set_opacity(0.45);
        }
        self.table(ui, &compared, around.hide_timings);
        ui.add_space(12.0);
        let room = vec2(
            ui.available_width() - ui.spacing().scroll.bar_width,
            ui.available_height(),
        );
        let board = Board::new(room, Chart::ALL.len(), LEAST_CHART);
        let (_, area) = ui.allocate_space(vec2(room.x, board.height()));
        for (nth, chart) in Chart::ALL.into_iter().enumerate() {
            let place = UiBuilder::new()
                .id_salt(nth)
                .max_rect(board.place(nth, area.min));
            self.chart(chart, &mut ui.new_child(place), &compared, settings, around);
        }
    }

    fn chart(
        &mut self,
        chart: Chart,
        ui: &mut Ui,
        compared: &Arc<Compared>,
        settings: &mut CompareSettings,
        around: &mut Around<'_>,
    ) {
        match chart {
            Chart::Texts => self.texts(ui, compared),
            Chart::Loss => self.loss(ui, compared, &mut settings.cumulative),
            Chart::Ledger => self.ledger(ui, compared, &mut settings.context),
            Chart::Pace => self.pace(ui, compared, around.hide_timings),
            Chart::Recall => self.recall(ui, settings, around),
            Chart::Attention => self.attention(ui, compared, around),
        }
    }
}

#[derive(Clone, Copy)]
enum Chart {
    Loss,
    Ledger,
    Pace,
    Recall,
    Attention,
    Texts,
}

impl Chart {
    /// In reading order.
    const ALL: [Chart; 6] = [
        Chart::Loss,
        Chart::Ledger,
        Chart::Recall,
        Chart::Pace,
        Chart::Attention,
        Chart::Texts,
    ];
}

/// The colour of a place.
fn colour(ui: &Ui, place: usize) -> egui::Color32 {
    let series = &super::palette(ui).series;
    series[place % series.len()]
}

/// Name of a lane's model, with its number where another has the same.
fn lane_name(lanes: &[Lane], lane: usize) -> String {
    let name = &lanes[lane].model.name;
    let same = lanes
        .iter()
        .filter(|other| other.model.name == *name)
        .count();
    if same > 1 {
        format!("{name} ({})", lane + 1)
    } else {
        name.clone()
    }
}
