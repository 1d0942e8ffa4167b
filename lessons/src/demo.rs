//! What a live demo is: controls that are one plain value, a computation derived from them, and a drawing of its answer.

use std::fmt::Debug;

use egui::Ui;
use mambascope_core::job::{Answer, Job, ModelRef};
use mambascope_core::study::{Study, StudyJob};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use thiserror::Error;

/// What a demo may look at beside its own controls.
#[derive(Clone, Debug, Default)]
pub struct Around {
    /// The model that is open; absent while it is loading.
    pub model: Option<ModelRef>,
    /// The backend chosen in the menu.
    pub backend: String,
}

/// What a demo draws from.
pub struct Scene<'a, A> {
    /// The newest answer there is; absent before the first, of slightly older controls while a slider moves.
    pub answer: Option<&'a A>,
    /// Numbers the reader has committed to in the checks of the page, by the check's name.
    pub guesses: &'a [(String, f64)],
    /// The model and the backend.
    pub around: &'a Around,
}

impl<A> Scene<'_, A> {
    /// What the reader guessed in this check, once it is committed: to stay drawn on the plot.
    pub fn guess(&self, check: &str) -> Option<f64> {
        let found = self.guesses.iter().find(|(name, _)| name == check)?;
        Some(found.1)
    }
}

/// A demo: its value is the state of its controls, which a preset string saves.
pub trait Demo:
    Clone + PartialEq + Debug + Default + Serialize + DeserializeOwned + Send + Sync + 'static
{
    /// Its name in pages and presets.
    const ID: &'static str;
    /// What it says over itself.
    const TITLE: &'static str;
    /// What it has computed on the worker.
    type Study: Study;

    /// The computation these controls ask for; none while something it needs is missing. Quick: called every frame.
    fn study(&self, around: &Around) -> Option<Self::Study>;

    /// Draws controls and pictures over the available width. Computes nothing that grows with the problem.
    fn ui(&mut self, ui: &mut Ui, scene: &Scene<'_, <Self::Study as Study>::Answer>);

    /// Brings every control into its range: a preset may say anything.
    fn clamp(&mut self);

    /// Every control at one end and at the other, one value for each, for the tests.
    fn ends() -> Vec<Self>;

    /// The present value of a symbol of the page's formulas, such as "Δ", where this demo has one.
    fn live(
        &self,
        _symbol: &str,
        _answer: Option<&<Self::Study as Study>::Answer>,
    ) -> Option<String> {
        None
    }
}

/// Why a preset was refused.
#[derive(Debug, Error)]
pub enum PresetError {
    /// Of another demo, or of none.
    #[error(
        "this is not a preset of {wanted:?}: one begins with {wanted:?} and has the controls behind it, in braces"
    )]
    Form {
        /// The demo's name.
        wanted: &'static str,
    },
    /// The controls could not be read.
    #[error("the controls in this preset of {demo:?} could not be read: {reason}")]
    Controls {
        /// The demo's name.
        demo: &'static str,
        /// What was wrong where.
        reason: String,
    },
}

/// A demo whose type is not known: what a page holds.
pub trait AnyDemo {
    /// Its name.
    fn id(&self) -> &'static str;
    /// What it says over itself.
    fn title(&self) -> &'static str;
    /// The job its controls ask for.
    fn job(&self, around: &Around) -> Option<Job>;
    /// Draws it.
    fn ui(
        &mut self,
        ui: &mut Ui,
        answer: Option<&Answer>,
        guesses: &[(String, f64)],
        around: &Around,
    );
    /// The controls as a value.
    fn save(&self) -> Value;
    /// The controls from a value, brought into range.
    ///
    /// # Errors
    /// When the value is not of this demo.
    fn load(&mut self, controls: Value) -> Result<(), PresetError>;
    /// Back to where it began.
    fn reset(&mut self);
    /// Whether no control has been moved.
    fn is_untouched(&self) -> bool;
    /// As [`Demo::live`].
    fn live(&self, symbol: &str, answer: Option<&Answer>) -> Option<String>;

    /// The controls as a line of text that can be pasted elsewhere.
    fn preset(&self) -> String {
        format!("{} {}", self.id(), self.save())
    }

    /// The controls from such a line.
    ///
    /// # Errors
    /// When the line is of another demo, or cannot be read.
    fn load_preset(&mut self, preset: &str) -> Result<(), PresetError> {
        let wanted = self.id();
        let controls = preset.trim().strip_prefix(wanted).map(str::trim);
        let controls = controls.filter(|controls| controls.starts_with('{'));
        let controls = controls.ok_or(PresetError::Form { wanted })?;
        self.load(
            serde_json::from_str(controls).map_err(|error| PresetError::Controls {
                demo: wanted,
                reason: error.to_string(),
            })?,
        )
    }
}

/// Holds a demo for a page that knows no types.
#[derive(Default)]
struct Stage<D>(D);

fn answer_of<S: Study>(answer: Option<&Answer>) -> Option<&S::Answer> {
    match answer {
        Some(Answer::Study(answer)) => answer.of::<S>(),
        _ => None,
    }
}

impl<D: Demo> AnyDemo for Stage<D> {
    fn id(&self) -> &'static str {
        D::ID
    }

    fn title(&self) -> &'static str {
        D::TITLE
    }

    fn job(&self, around: &Around) -> Option<Job> {
        Some(Job::Study(StudyJob::new(self.0.study(around)?)))
    }

    fn ui(
        &mut self,
        ui: &mut Ui,
        answer: Option<&Answer>,
        guesses: &[(String, f64)],
        around: &Around,
    ) {
        let scene = Scene {
            answer: answer_of::<D::Study>(answer),
            guesses,
            around,
        };
        self.0.ui(ui, &scene);
    }

    fn save(&self) -> Value {
        serde_json::to_value(&self.0).unwrap_or(Value::Null)
    }

    fn load(&mut self, controls: Value) -> Result<(), PresetError> {
        let mut demo: D =
            serde_json::from_value(controls).map_err(|error| PresetError::Controls {
                demo: D::ID,
                reason: error.to_string(),
            })?;
        demo.clamp();
        self.0 = demo;
        Ok(())
    }

    fn reset(&mut self) {
        self.0 = D::default();
    }

    fn is_untouched(&self) -> bool {
        self.0 == D::default()
    }

    fn live(&self, symbol: &str, answer: Option<&Answer>) -> Option<String> {
        self.0.live(symbol, answer_of::<D::Study>(answer))
    }
}

/// An entry of a lesson's list of demos.
#[derive(Clone, Copy)]
pub struct DemoEntry {
    /// Its name in pages and presets.
    pub id: &'static str,
    /// Makes one, as it begins.
    pub make: fn() -> Box<dyn AnyDemo>,
    /// Its controls at their ends, for the tests.
    pub ends: fn() -> Vec<Value>,
}

impl DemoEntry {
    /// The entry of a demo.
    pub const fn of<D: Demo>() -> Self {
        Self {
            id: D::ID,
            make: || Box::new(Stage(D::default())),
            ends: || {
                let ends = D::ends().into_iter();
                ends.map(|demo| Stage(demo).save()).collect()
            },
        }
    }
}
