//! Claims that are computed: what is expected, what this machine measures, and how far apart they may be.

use std::ops::ControlFlow;

use mambascope_core::job::{JobError, Progress, Workshop};
use mambascope_core::study::Study;

/// What a number should be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Expected {
    /// This, give or take `tolerance`.
    Near {
        /// The number.
        value: f64,
        /// How far from it is still right, in its own unit.
        tolerance: f64,
    },
    /// This or less.
    AtMost(f64),
    /// This or more.
    AtLeast(f64),
}

impl Expected {
    /// `value`, give or take `tolerance`.
    pub const fn near(value: f64, tolerance: f64) -> Self {
        Self::Near { value, tolerance }
    }

    /// Exactly `value`.
    pub const fn exactly(value: f64) -> Self {
        Self::near(value, 0.0)
    }

    /// Whether a measured number is what it should be; never of one that is not a number.
    pub fn holds(self, measured: f64) -> bool {
        match self {
            Self::Near { value, tolerance } => (measured - value).abs() <= tolerance,
            Self::AtMost(most) => measured <= most,
            Self::AtLeast(least) => measured >= least,
        }
    }
}

/// One number of an experiment.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// Its name within the experiment, for the links of the pages: lower case with dashes.
    pub name: &'static str,
    /// What was measured, in words.
    pub what: String,
    /// Its unit, or nothing.
    pub unit: &'static str,
    /// What it should be.
    pub expected: Expected,
    /// What it is.
    pub measured: f64,
}

impl Finding {
    /// A finding without a unit.
    pub fn new(
        name: &'static str,
        what: impl Into<String>,
        expected: Expected,
        measured: f64,
    ) -> Self {
        Self {
            name,
            what: what.into(),
            unit: "",
            expected,
            measured,
        }
    }

    /// With its unit.
    #[must_use]
    pub fn in_unit(mut self, unit: &'static str) -> Self {
        self.unit = unit;
        self
    }

    /// Whether it is what it should be.
    pub fn holds(&self) -> bool {
        self.expected.holds(self.measured)
    }
}

/// What an experiment may use while it runs.
pub struct Bench<'a> {
    /// The backends.
    pub workshop: &'a mut Workshop,
    /// Hears how far it is, and may stop it.
    pub progress: &'a mut dyn FnMut(Progress) -> ControlFlow<()>,
}

impl Bench<'_> {
    /// Reports counted work.
    ///
    /// # Errors
    /// When the experiment is to stop.
    pub fn report(
        &mut self,
        what: &'static str,
        done: usize,
        total: usize,
    ) -> Result<(), JobError> {
        match (self.progress)(Progress::Count { what, done, total }) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(JobError::Study("stopped before it was done".into())),
        }
    }
}

/// An experiment.
#[derive(Clone, Copy)]
pub struct Experiment {
    /// Its name, for `mambascope prove` and the pages: lower case with dashes.
    pub name: &'static str,
    /// What it shows, in a sentence.
    pub title: &'static str,
    /// Runs the real computation.
    pub run: fn(&mut Bench<'_>) -> Result<Vec<Finding>, JobError>,
}

/// The run of an experiment, as a job.
#[derive(Clone, Copy)]
pub struct Trial(pub &'static Experiment);

impl PartialEq for Trial {
    fn eq(&self, other: &Self) -> bool {
        self.0.name == other.0.name
    }
}

impl std::fmt::Debug for Trial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Trial({})", self.0.name)
    }
}

impl Study for Trial {
    type Answer = Vec<Finding>;

    fn compute(
        &self,
        workshop: &mut Workshop,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Vec<Finding>, JobError> {
        (self.0.run)(&mut Bench { workshop, progress })
    }
}
