//! The Compare page: two to four models on one text, side by side.

mod attention;
mod charts;
mod controls;
mod recall;
mod table;

use std::path::PathBuf;
use std::sync::Arc;

use egui::{CentralPanel, Panel, ScrollArea, Ui, UiBuilder, Vec2, vec2};
use mambascope_core::checkpoint::EMBEDDED;
use mambascope_core::compare::{CompareJob, Compared, Lane};
use mambascope_core::engine::{Engine, Reply};
use mambascope_core::generate::Sampling;
use mambascope_core::job::{Answer, Job, ModelRef};
use mambascope_core::model::Model;
use mambascope_core::recall::{RecallJob, RecallTable};
use serde::{Deserialize, Serialize};

use self::attention::MapChoice;
use super::Request;
use super::board::Board;

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
    /// The models, each with the colour of its place.
    pub lanes: Vec<LaneChoice>,
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
        let embedded = EMBEDDED.iter().map(|embedded| embedded.name.to_owned());
        Self {
            lanes: embedded.map(LaneChoice::Embedded).collect(),
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
        Panel::left("compare controls")
            .resizable(true)
            .default_size(320.0)
            .size_range(260.0..=560.0)
            .show(ui, |ui| {
                ScrollArea::vertical()
                    .auto_shrink(false)
                    .show(ui, |ui| self.controls(ui, settings, around));
            });
        CentralPanel::default().show(ui, |ui| {
            self.charts_rect = ui.max_rect();
            ScrollArea::vertical()
                .auto_shrink(false)
                .show(ui, |ui| self.pictures(ui, settings, around));
        });
    }

    /// Derives the jobs from the state of the page and takes what answers there are.
    fn ask(&mut self, settings: &CompareSettings, around: &Around<'_>) {
        let engine = around.engine;
        for (i, slot) in MODELS.into_iter().enumerate() {
            self.models[i] = match settings.lanes.get(i) {
                Some(choice) => engine.ask(slot, choice.load()),
                None => {
                    engine.forget(slot);
                    Reply::default()
                }
            };
        }
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
                self.version += 1;
            }
        }
        if let Some(job) = &self.asked_recall {
            self.recall_reply = engine.ask(RECALL, Job::Recall(job.clone()));
        }
        self.settled = !loading && !self.reply.busy && !self.recall_reply.busy;
    }

    /// The model of a lane, once it is loaded.
    fn model(&self, lane: usize) -> Option<&Arc<Model>> {
        match &self.models.get(lane)?.answer {
            Some(Answer::Model(model)) => Some(model),
            _ => None,
        }
    }

    /// The models of all lanes, once every one of them is loaded.
    fn loaded(&self, settings: &CompareSettings) -> Option<Vec<ModelRef>> {
        let lanes = 0..settings.lanes.len();
        let busy = |lane: &usize| self.models.get(*lane).is_none_or(|reply| reply.busy);
        if lanes.clone().any(|lane| busy(&lane)) {
            return None;
        }
        lanes
            .map(|lane| Some(ModelRef(Arc::clone(self.model(lane)?))))
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
            self.compared = None;
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

    /// What the last recall test found so far, and of which models.
    fn recalled(&self) -> Option<(&RecallJob, &RecallTable)> {
        match (&self.asked_recall, &self.recall_reply.answer) {
            (Some(job), Some(Answer::Recall(table))) => Some((job, table)),
            _ => None,
        }
    }

    fn pictures(&mut self, ui: &mut Ui, settings: &mut CompareSettings, around: &mut Around<'_>) {
        let Some(compared) = self.compared.clone() else {
            let text = if self.models.iter().any(|reply| reply.busy) || self.reply.busy {
                "Loading the models…"
            } else {
                "Choose two to four models on the left, a text for them to read, and press Run: their losses, their memory \
                 and their pace appear here."
            };
            ui.add_space(ui.available_height() * 0.4);
            ui.vertical_centered(|ui| ui.label(text));
            return;
        };
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
            Chart::Texts => table::texts(ui, compared),
            Chart::Loss => charts::loss(ui, compared, &mut settings.cumulative),
            Chart::Ledger => charts::ledger(ui, compared, &mut settings.context),
            Chart::Pace => charts::pace(ui, compared, around.hide_timings),
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

/// The colour of a lane, the same in every picture of the page.
fn colour(ui: &Ui, lane: usize) -> egui::Color32 {
    let series = &super::palette(ui).series;
    series[lane % series.len()]
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
