//! Computations that are defined where they are shown: a demo of a lesson, an experiment. To the engine they are jobs like any
//! other, equal when their inputs are equal.

use std::any::Any;
use std::fmt::Debug;
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::job::{JobError, Progress, Workshop};

/// A computation as one plain value: all its inputs. Equal values have equal answers.
pub trait Study: Clone + PartialEq + Debug + Send + Sync + 'static {
    /// What it gives.
    type Answer: Send + Sync + 'static;

    /// Computes. `progress` hears how far it is and may stop it; work of more than half a second reports.
    ///
    /// # Errors
    /// As [`JobError`]; [`JobError::Study`] for a reason of its own.
    fn compute(
        &self,
        workshop: &mut Workshop,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Self::Answer, JobError>;
}

/// The same without its type, so that a job can hold any of them.
trait AnyStudy: Debug + Send + Sync {
    fn compute(
        &self,
        workshop: &mut Workshop,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<StudyAnswer, JobError>;
    fn equals(&self, other: &dyn AnyStudy) -> bool;
    fn as_any(&self) -> &dyn Any;
}

impl<S: Study> AnyStudy for S {
    fn compute(
        &self,
        workshop: &mut Workshop,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<StudyAnswer, JobError> {
        Ok(StudyAnswer(Arc::new(Study::compute(
            self, workshop, progress,
        )?)))
    }

    fn equals(&self, other: &dyn AnyStudy) -> bool {
        other.as_any().downcast_ref::<S>() == Some(self)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// A study as part of a job.
#[derive(Clone, Debug)]
pub struct StudyJob(Arc<dyn AnyStudy>);

impl StudyJob {
    /// Of these inputs.
    pub fn new(study: impl Study) -> Self {
        Self(Arc::new(study))
    }

    /// Computes it.
    ///
    /// # Errors
    /// As [`Study::compute`].
    pub fn compute(
        &self,
        workshop: &mut Workshop,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<StudyAnswer, JobError> {
        self.0.compute(workshop, progress)
    }
}

impl PartialEq for StudyJob {
    fn eq(&self, other: &Self) -> bool {
        self.0.equals(&*other.0)
    }
}

/// What a study gave.
#[derive(Clone)]
pub struct StudyAnswer(Arc<dyn Any + Send + Sync>);

impl StudyAnswer {
    /// The answer, if it is of this study.
    pub fn of<S: Study>(&self) -> Option<&S::Answer> {
        self.0.downcast_ref()
    }
}

impl Debug for StudyAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StudyAnswer")
    }
}
