//! The Scope page: a model writes, and everything that moves inside it is on the screen.

mod attention;
mod backend_menu;
mod controls;
mod lines;
mod measuring;
mod model_bar;
mod panels;
mod parity;
mod pictures;
mod weights_menu;

use std::path::PathBuf;
use std::sync::Arc;

use egui::{CentralPanel, Key, Panel, Ui};
use mambascope_core::engine::{Engine, Reply};
use mambascope_core::generate::Finish;
use mambascope_core::job::{Answer, Job, ModelRef};
use mambascope_core::model::Model;
use mambascope_core::watch::{WatchJob, Watched};

use self::backend_menu::Speeds;
use self::parity::ParityCheck;
use self::pictures::Pictures;
use self::weights_menu::Precisions;
use super::{Reading, Request, ScopeSettings, Settings, Stored, controls_panel};
use crate::backends::BackendChoice;

pub use self::backend_menu::{BackendClick, backend_rows};
pub(super) use self::model_bar::progress;
pub use self::model_bar::{bytes_text, count_text, mixers_text};
pub use self::parity::parity_badge;
pub(super) use self::pictures::token_text;
pub use self::weights_menu::{WeightsClick, weights_rows};

/// Prompts that show something, for the embedded model's taste.
pub const EXAMPLES: [&str; 5] = [
    "It was a cold and rainy evening when Mr. Holt came down to the harbour, and",
    "\"You do not understand me,\" said Elizabeth. \"I never",
    "The old house stood at the end of the lane. In the first room there was a table, in the second a bed, and in the third",
    "river stone, garden letter, window money, garden letter, river",
    "CHAPTER I.\n\nIn the year 1815",
];

/// The slot in which the text is written.
const WATCH: &str = "watch";
/// The slot in which the prompt becomes ids.
const PROMPT: &str = "prompt";

/// What the window lends to the page for a frame.
pub(super) struct Around<'a> {
    pub(super) engine: &'a Engine,
    pub(super) backends: &'a [BackendChoice],
    pub(super) model: Option<&'a Arc<Model>>,
    /// The model as it is stored, and the form of it that is open.
    pub(super) stored: Option<&'a Stored>,
    pub(super) loading: Reply,
    pub(super) hide_timings: bool,
    pub(super) recent: &'a [PathBuf],
    /// Whether something lies over the page and wants the keys.
    pub(super) covered: bool,
    pub(super) requests: &'a mut Vec<Request>,
}

/// What is going on with the text.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Motion {
    /// Nothing moves by itself.
    Still,
    /// The selection walks along the text, and the text grows when it reaches the end. Seconds since the last step.
    Playing(f64),
}

/// What the reader's Cancel holds back, until they go on.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stop {
    /// Nothing.
    No,
    /// The text stays as it is; another layer or token of it can be looked at, for that is read from records.
    Writing,
    /// The rest of the prompt stays unread: jobs only look at what there is.
    Reading,
}

/// The page.
pub struct ScopePage {
    /// Whether the model has no tokenizer, so that prompts are ids.
    by_ids: bool,
    /// The prompt in force; what is typed takes its place when something is started.
    prompt: Option<Arc<str>>,
    /// How many tokens are to be written by now.
    goal: usize,
    /// The token looked at; the last one when absent.
    selected: Option<usize>,
    motion: Motion,
    stop: Stop,
    /// Whether the answer to a cancelled job is still to come: until then the worker may have written more than is known here.
    stopping: bool,
    /// Since when the panels show another layer or token than was asked for.
    stale_since: Option<f64>,
    watched: Option<Arc<Watched>>,
    reply: Reply,
    prompt_reply: Reply,
    parity: ParityCheck,
    speeds: Speeds,
    precisions: Precisions,
    pictures: Pictures,
    autoplay: bool,
    settled: bool,
    /// Whether a prompt too long to be shown is shown all the same, to be edited.
    edits_long_prompt: bool,
    /// Whether the ribbon had the keyboard in the last frame; it takes the arrows itself and leaves the space bar.
    ribbon_focused: bool,
}

impl ScopePage {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            by_ids: false,
            prompt: None,
            goal: 0,
            selected: None,
            motion: Motion::Still,
            stop: Stop::No,
            stopping: false,
            stale_since: None,
            watched: None,
            reply: Reply::default(),
            prompt_reply: Reply::default(),
            parity: ParityCheck::default(),
            speeds: Speeds::default(),
            precisions: Precisions::default(),
            pictures: Pictures::default(),
            autoplay: settings.autoplay,
            settled: false,
            edits_long_prompt: false,
            ribbon_focused: false,
        }
    }

    /// Whether what is drawn is what was last asked for, and nothing moves by itself.
    pub fn is_settled(&self) -> bool {
        self.settled
    }

    /// Stops what runs, so that something else need not wait for it.
    pub(super) fn halt(&mut self, engine: &Engine) {
        if self.reply.busy {
            self.cancel(engine);
        }
        self.parity.halt(engine);
        self.speeds.halt(engine);
        self.precisions.halt(engine);
    }

    /// Starts over with another model.
    pub(super) fn model_changed(
        &mut self,
        model: &Model,
        settings: &mut ScopeSettings,
        engine: &Engine,
    ) {
        engine.forget(WATCH);
        engine.forget(PROMPT);
        self.parity.forget(engine);
        self.speeds.forget(engine);
        self.reply = Reply::default();
        self.prompt_reply = Reply::default();
        settings.layer = settings.layer.min(model.config.n_layers() - 1);
        if !model.config.has_scans() {
            // The only reading there is without Δ.
            settings.reading = Reading::Surprise;
        }
        self.watched = None;
        self.restart();
        self.pictures = Pictures::default();
        self.by_ids = model.tokenizer.is_none();
        self.prompt = Some(self.typed(settings).into());
        self.motion = if std::mem::take(&mut self.autoplay) {
            Motion::Playing(0.0)
        } else {
            Motion::Still
        };
    }

    pub(super) fn show(
        &mut self,
        ui: &mut Ui,
        settings: &mut ScopeSettings,
        around: &mut Around<'_>,
    ) {
        self.ask(settings, around);
        let parity_job = self.parity_job(settings, around);
        self.parity.ask(around.engine, parity_job.as_ref());
        self.speeds.ask(around.engine);
        self.precisions.ask(around.engine, around.stored);
        self.keys(ui, settings, around);
        self.advance(ui, settings);
        Panel::top("model").show(ui, |ui| self.model_bar(ui, settings, around));
        controls_panel(ui, "controls", |ui| self.controls(ui, settings, around));
        CentralPanel::default().show(ui, |ui| self.pictures(ui, settings, around));
    }

    /// Derives the jobs from the state of the page and takes what answers there are.
    fn ask(&mut self, settings: &ScopeSettings, around: &Around<'_>) {
        let (Some(model), Some(prompt)) = (around.model, &self.prompt) else {
            return;
        };
        let tokenize = Job::Tokenize {
            model: ModelRef(Arc::clone(model)),
            text: Arc::clone(prompt),
        };
        self.prompt_reply = around.engine.ask(PROMPT, tokenize);
        self.settled = self.prompt_reply.error.is_some();
        if self.prompt_reply.busy || self.settled {
            return;
        }
        let Some(Answer::Ids(ids)) = &self.prompt_reply.answer else {
            return;
        };
        let ids = Arc::clone(ids);
        if self.stopping {
            self.take(around.engine.reply(WATCH), model);
            if self.reply.busy {
                self.settled = false;
                return;
            }
            self.stopped(&ids);
            around.engine.allow_again(WATCH);
        }
        let job = self.watch_job(settings, model, &ids);
        let job = if self.stop == Stop::Reading {
            Job::Look(job)
        } else {
            Job::Watch(job)
        };
        self.take(around.engine.ask(WATCH, job), model);
        self.settled = !self.reply.busy && !matches!(self.motion, Motion::Playing(_));
    }

    /// Takes a reply and, if it has a new answer, that.
    fn take(&mut self, reply: Reply, model: &Arc<Model>) {
        // The answer may still be one of the model that was open before.
        if let Some(Answer::Watched(watched)) = &reply.answer
            && Arc::ptr_eq(&watched.model, model)
            && self
                .watched
                .as_ref()
                .is_none_or(|seen| !Arc::ptr_eq(seen, watched))
        {
            self.watched = Some(Arc::clone(watched));
        }
        self.reply = reply;
    }

    /// The cancelled job has answered. What it wrote stays: a goal below that would mean writing it all again.
    fn stopped(&mut self, prompt: &[u32]) {
        self.stopping = false;
        let watched = self.watched.as_ref();
        let of_prompt = watched.filter(|watched| watched.ids.starts_with(prompt));
        let read = of_prompt.is_some_and(|watched| watched.end() >= watched.prompt_len);
        if of_prompt.is_some() {
            self.goal = self.goal.max(self.written());
        }
        if self.stop != Stop::No && !read {
            self.stop = Stop::Reading;
        }
    }

    fn watch_job(
        &self,
        settings: &ScopeSettings,
        model: &Arc<Model>,
        prompt: &Arc<[u32]>,
    ) -> WatchJob {
        WatchJob {
            model: ModelRef(Arc::clone(model)),
            backend: settings.backend.clone(),
            prompt: Arc::clone(prompt),
            write: self.goal,
            sampling: settings.sampling,
            layer: settings.layer,
            token: self.selected,
            window: WatchJob::affordable_window(&model.config, settings.window, settings.budget()),
        }
    }

    /// The prompt as it stands in the box.
    fn typed<'a>(&self, settings: &'a ScopeSettings) -> &'a str {
        if self.by_ids {
            &settings.prompt_ids
        } else {
            &settings.prompt
        }
    }

    /// The text so far, prompt and all, as far as it is recorded.
    pub fn text(&self) -> String {
        self.pictures.texts.concat()
    }

    /// Tokens written so far.
    pub fn written(&self) -> usize {
        self.watched
            .as_ref()
            .map_or(0, |watched| watched.ids.len() - watched.prompt_len)
    }

    /// Whether the text cannot go on by itself.
    fn is_at_end(&self, settings: &ScopeSettings) -> bool {
        let ended = self
            .watched
            .as_ref()
            .is_some_and(|watched| watched.finish == Some(Finish::EndOfText));
        ended || self.written() >= settings.limit
    }

    /// Takes over the typed prompt, and starts the text anew if it or the model's text had ended.
    fn take_prompt(&mut self, settings: &ScopeSettings, around: &Around<'_>) {
        let typed = self.typed(settings);
        if self.prompt.as_deref() != Some(typed) {
            // The new prompt would wait behind the old text.
            around.engine.cancel(WATCH);
            self.prompt = Some(typed.into());
            self.restart();
        }
        self.stop = Stop::No;
    }

    fn restart(&mut self) {
        self.goal = 0;
        self.selected = None;
        self.stop = Stop::No;
        self.stopping = false;
    }

    /// Writes to the limit at full speed.
    fn run(&mut self, settings: &ScopeSettings, around: &Around<'_>) {
        self.take_prompt(settings, around);
        if self.is_at_end(settings) && self.goal >= settings.limit {
            self.restart();
        }
        self.motion = Motion::Still;
        self.selected = None;
        self.goal = settings.limit;
    }

    /// Writes one token, or walks to the next one.
    fn step(&mut self, settings: &ScopeSettings, around: &Around<'_>) {
        self.take_prompt(settings, around);
        self.motion = Motion::Still;
        self.walk(settings);
    }

    fn toggle_play(&mut self, settings: &ScopeSettings, around: &Around<'_>) {
        if matches!(self.motion, Motion::Playing(_)) {
            self.motion = Motion::Still;
            return;
        }
        self.take_prompt(settings, around);
        let last = self
            .watched
            .as_ref()
            .map_or(0, |watched| watched.end().saturating_sub(1));
        if self.is_at_end(settings) && self.selected.is_none_or(|token| token >= last) {
            self.selected = self.watched.as_ref().map(|watched| watched.first);
        }
        self.motion = Motion::Playing(0.0);
    }

    /// Stops what runs; what has been written stays.
    fn cancel(&mut self, engine: &Engine) {
        engine.cancel(WATCH);
        // The answer says how far the text has come.
        self.goal = 0;
        self.motion = Motion::Still;
        self.stop = Stop::Writing;
        self.stopping = true;
    }

    /// One step of the selection; at the end, one token more. False when there is nowhere to go.
    fn walk(&mut self, settings: &ScopeSettings) -> bool {
        let last = self
            .watched
            .as_ref()
            .map_or(0, |watched| watched.end().saturating_sub(1));
        if let Some(token) = self.selected.filter(|&token| token < last) {
            self.selected = Some(token + 1);
            return true;
        }
        if self.is_at_end(settings) {
            return false;
        }
        self.selected = None;
        // Never less than was asked for: that would be another, shorter text.
        self.goal = self.goal.max(self.written() + 1);
        true
    }

    /// Moves the text along while it plays; asks for a frame only when the next step is due.
    fn advance(&mut self, ui: &Ui, settings: &ScopeSettings) {
        let Motion::Playing(waited) = self.motion else {
            return;
        };
        let pause = 1.0 / f64::from(settings.speed.max(0.1));
        let waited = waited + f64::from(ui.input(|input| input.stable_dt)).min(pause);
        if self.reply.busy || self.watched.is_none() {
            // The engine's answer wakes the window.
            self.motion = Motion::Playing(waited.min(pause));
        } else if waited >= pause {
            self.motion = if self.walk(settings) {
                Motion::Playing(waited - pause)
            } else {
                Motion::Still
            };
            ui.request_repaint();
        } else {
            self.motion = Motion::Playing(waited);
            ui.request_repaint_after(std::time::Duration::from_secs_f64(pause - waited));
        }
        if self.prompt_reply.error.is_some() || self.reply.error.is_some() {
            self.motion = Motion::Still;
        }
    }

    /// Space plays, arrows walk, unless something that wants the keys has the focus or lies over the page.
    fn keys(&mut self, ui: &Ui, settings: &ScopeSettings, around: &Around<'_>) {
        if around.covered || egui::Popup::is_any_open(ui.ctx()) {
            return;
        }
        let focused = ui.memory(|memory| memory.focused().is_some());
        if focused && !self.ribbon_focused {
            return;
        }
        let pressed = |key| ui.input(|input| input.modifiers.is_none() && input.key_pressed(key));
        if pressed(Key::Space) {
            self.toggle_play(settings, around);
        }
        if focused {
            return;
        }
        let Some(watched) = &self.watched else { return };
        if watched.records.is_empty() {
            return;
        }
        let (first, last) = (watched.first, watched.end() - 1);
        let at = self.selected.unwrap_or(last);
        let target = [
            (Key::ArrowLeft, at.saturating_sub(1)),
            (Key::ArrowRight, at + 1),
            (Key::Home, first),
            (Key::End, last),
        ];
        if let Some((_, token)) = target.into_iter().find(|(key, _)| pressed(*key)) {
            self.select(token.clamp(first, last));
        }
    }

    /// Looks at one token; the last one means following the text.
    fn select(&mut self, token: usize) {
        let last = self
            .watched
            .as_ref()
            .map_or(0, |watched| watched.end().saturating_sub(1));
        self.selected = (token < last).then_some(token);
        if matches!(self.motion, Motion::Playing(_)) {
            self.motion = Motion::Still;
        }
    }

    /// The position of the token looked at.
    fn focus(&self) -> Option<usize> {
        let watched = self
            .watched
            .as_ref()
            .filter(|watched| !watched.records.is_empty())?;
        let last = watched.end() - 1;
        Some(self.selected.unwrap_or(last).clamp(watched.first, last))
    }
}
