//! Drills: tasks whose numbers are drawn from a seed and whose answers the engine computes.
//!
//! A [`DrillEntry`] draws a [`Drill`]; [`Drill::check`] holds what was entered against it. The same seed draws the same numbers.

mod code;
mod curves;
mod draw;
pub mod expr;
mod scans;
mod sizes;
mod slots;

use mambascope_core::discretize::DiscretizeError;
use mambascope_core::model::ConfigError;
use mambascope_core::scan::ScanError;
use thiserror::Error;

use super::bank::Level;
use crate::notebook::trial::exact_number;

pub use code::CodeTask;
pub use draw::Draw;
use expr::ExprError;

/// Why a drill could not be drawn or checked.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum DrillError {
    /// A formula that cannot be read.
    #[error("{field}: {error}")]
    Formula {
        /// Which field it is in.
        field: String,
        /// Where it goes wrong.
        error: ExprError,
    },
    /// An answer of another kind than the drill asks for, or with too many or too few parts.
    #[error("the answer is {found}, wanted {wanted}")]
    Kind {
        /// What the drill asks for.
        wanted: String,
        /// What was given.
        found: String,
    },
    /// A model that the engine refuses.
    #[error("the sizes drawn are of no model: {0}")]
    Config(String),
    /// A step that the engine refuses.
    #[error("the step drawn cannot be taken: {0}")]
    Step(#[from] DiscretizeError),
    /// Operands that the engine refuses.
    #[error("the scan drawn cannot be run: {0}")]
    Scan(#[from] ScanError),
}

impl From<ConfigError> for DrillError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error.to_string())
    }
}

/// An entry of the list of drills.
#[derive(Clone, Copy)]
pub struct DrillEntry {
    /// Its name, unique among everything that is asked.
    pub id: &'static str,
    /// What it is about: a topic of the bank's, or `code`.
    pub topic: &'static str,
    /// How hard it is.
    pub level: Level,
    /// What it asks for, in a few words.
    pub title: &'static str,
    /// The lesson that teaches it.
    pub lesson: &'static str,
    draw: fn(&mut Draw) -> Result<Drawn, DrillError>,
}

/// What an entry makes of a seed.
struct Drawn {
    text: String,
    task: Task,
    working: String,
}

/// A drill with its numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Drill {
    /// Its name.
    pub id: &'static str,
    /// What it is about.
    pub topic: &'static str,
    /// How hard it is.
    pub level: Level,
    /// Draws the same numbers again: to be shown.
    pub seed: u64,
    /// The task with its numbers, as Markdown.
    pub text: String,
    /// What is asked for, and the answer.
    pub task: Task,
    /// The calculation with the numbers in it, as Markdown.
    pub working: String,
}

/// What a drill asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Task {
    /// A number.
    Number(NumberTask),
    /// A curve to drag.
    Curve(CurveTask),
    /// Formulas to fill in.
    Code(CodeTask),
}

impl Task {
    /// Asks for a number of this unit, right up to this share of it.
    fn number(unit: &'static str, tolerance: f64, answer: f64) -> Self {
        Self::Number(NumberTask {
            unit,
            tolerance,
            answer,
        })
    }
}

/// Asks for a number.
#[derive(Clone, Debug, PartialEq)]
pub struct NumberTask {
    /// Its unit, or nothing.
    pub unit: &'static str,
    /// How far from the answer is still right, as a share of it.
    pub tolerance: f64,
    /// What the engine computes.
    pub answer: f64,
}

/// Asks for the curve one expects.
#[derive(Clone, Debug, PartialEq)]
pub struct CurveTask {
    /// What goes to the right, with its unit.
    pub x_name: &'static str,
    /// What goes up, with its unit.
    pub y_name: &'static str,
    /// Where the points stand.
    pub x: Vec<f64>,
    /// What the engine computes there, as many.
    pub expected: Vec<f64>,
    /// The range in which points can be dragged.
    pub y_range: [f64; 2],
    /// The mean distance that is still right, as a share of the curve's mean height.
    pub tolerance: f64,
}

impl CurveTask {
    /// The mean distance of a curve from the expected one.
    pub fn mean_error(&self, curve: &[f64]) -> f64 {
        let pairs = self.expected.iter().zip(curve);
        mean(pairs.map(|(expected, guess)| (expected - guess).abs()))
    }

    /// The mean height of the expected curve.
    pub fn mean_height(&self) -> f64 {
        mean(self.expected.iter().map(|value| value.abs()))
    }
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    if count > 0.0 { sum / count } else { 0.0 }
}

/// What was entered.
#[derive(Clone, Debug, PartialEq)]
pub enum Response {
    /// A number, in the drill's unit.
    Number(f64),
    /// The curve at the drill's points.
    Curve(Vec<f64>),
    /// The formulas, one a field.
    Code(Vec<String>),
}

/// What the check says.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Whether it is right.
    pub correct: bool,
    /// How far off it is, as a share of the answer; infinite where the answer or the attempt is not a number.
    pub error: f64,
    /// How far off, and how far is still right, in a sentence.
    pub feedback: String,
}

impl DrillEntry {
    /// Whether it asks for a curve, which takes a pointer to enter.
    pub fn is_curve(&self) -> bool {
        self.id.starts_with("drill-curve-")
    }

    /// The drill with the numbers of that seed.
    ///
    /// # Errors
    /// When the engine refuses what was drawn: never, as a test over many seeds finds.
    pub fn draw(&self, seed: u64) -> Result<Drill, DrillError> {
        let drawn = (self.draw)(&mut Draw::new(seed, self.id))?;
        Ok(Drill {
            id: self.id,
            topic: self.topic,
            level: self.level,
            seed,
            text: drawn.text,
            task: drawn.task,
            working: drawn.working,
        })
    }
}

impl Drill {
    /// The computed answer, as it would be entered.
    pub fn answer(&self) -> Response {
        match &self.task {
            Task::Number(task) => Response::Number(task.answer),
            Task::Curve(task) => Response::Curve(task.expected.clone()),
            Task::Code(task) => Response::Code(task.solution()),
        }
    }

    /// Holds what was entered against the answer.
    ///
    /// # Errors
    /// When it is of another kind than asked for, or a formula cannot be read.
    pub fn check(&self, response: &Response) -> Result<Outcome, DrillError> {
        match (&self.task, response) {
            (Task::Number(task), Response::Number(guess)) => Ok(check_number(task, *guess)),
            (Task::Curve(task), Response::Curve(curve)) => check_curve(task, curve),
            (Task::Code(task), Response::Code(fields)) => task.check(fields, self.seed),
            (task, response) => Err(DrillError::Kind {
                wanted: match task {
                    Task::Number(_) => "a number",
                    Task::Curve(_) => "a curve",
                    Task::Code(_) => "formulas",
                }
                .into(),
                found: match response {
                    Response::Number(_) => "a number",
                    Response::Curve(_) => "a curve",
                    Response::Code(_) => "formulas",
                }
                .into(),
            }),
        }
    }
}

/// How far a number is from the right one, as a share of that.
fn share_off(guess: f64, answer: f64) -> f64 {
    let off = (guess - answer).abs() / answer.abs();
    if off.is_nan() { f64::INFINITY } else { off }
}

/// Right or not, with a sentence that says how far off.
fn outcome(off: f64, tolerance: f64, what: &str) -> Outcome {
    let correct = off <= tolerance;
    let verdict = if correct { "Right" } else { "Not yet" };
    let distance = if off.is_finite() {
        format!("off by {} %", exact_number((off * 1000.0).round() / 10.0))
    } else {
        "not a number".to_owned()
    };
    Outcome {
        correct,
        error: off,
        feedback: format!(
            "{verdict}: {what} is {distance}; up to {} % counts as right.",
            exact_number(tolerance * 100.0)
        ),
    }
}

fn check_number(task: &NumberTask, guess: f64) -> Outcome {
    let what = format!("{} {}", exact_number(guess), task.unit);
    outcome(share_off(guess, task.answer), task.tolerance, what.trim())
}

fn check_curve(task: &CurveTask, curve: &[f64]) -> Result<Outcome, DrillError> {
    if curve.len() != task.expected.len() {
        return Err(DrillError::Kind {
            wanted: format!("a curve of {} points", task.expected.len()),
            found: format!("one of {}", curve.len()),
        });
    }
    let off = task.mean_error(curve) / task.mean_height();
    let off = if off.is_nan() { f64::INFINITY } else { off };
    Ok(outcome(off, task.tolerance, "the curve, on average,"))
}

/// All drills.
pub const DRILLS: &[DrillEntry] = &[
    sizes::STATE_BYTES,
    sizes::KV_CROSSING,
    sizes::SERVER_POOL,
    sizes::BREAK_EVEN_BATCH,
    sizes::MAC_SHARE,
    slots::HALF_LIFE,
    slots::GATE_LADDER,
    slots::HOLD_THRESHOLD,
    slots::EULER_RATIO,
    scans::SCAN_COMBINES,
    scans::SSD_CHUNK,
    scans::FUSED_BYTES,
    curves::LEAK,
    curves::FILL,
    code::WRITE_THE_STEP,
    code::FIX_THE_SCAN,
    code::DERIVE_THE_CHUNK,
    code::SIZE_THE_POOL,
];

/// The drill of that name.
pub fn drill(id: &str) -> Option<&'static DrillEntry> {
    DRILLS.iter().find(|drill| drill.id == id)
}
