//! Everything that can be asked of the engine, as plain values, and the one function that computes the answers.

use std::ops::{ControlFlow, Deref};
use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;

use crate::backend::{Backend, BackendError};
use crate::checkpoint::{self, EMBEDDED, Embedded, LoadError, RecastError};
use crate::compare::{CompareJob, Compared, compare};
use crate::export::{ExportError, Later, Picture, write_file};
use crate::model::Model;
use crate::parity::{Parity, ParityJob, REFERENCE, parity};
use crate::recall::{RecallError, RecallJob, RecallTable, recall};
use crate::study::{StudyAnswer, StudyJob};
use crate::tensor::Dtype;
use crate::trace::TraceError;
use crate::trace_file::{TraceFile, TraceJob};
use crate::watch::{Watch, WatchJob, Watched};

/// A model as part of a job: two are equal when they are the same load, so that comparing jobs is quick.
#[derive(Clone, Debug)]
pub struct ModelRef(pub Arc<Model>);

impl PartialEq for ModelRef {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Deref for ModelRef {
    type Target = Arc<Model>;
    fn deref(&self) -> &Arc<Model> {
        &self.0
    }
}

/// All inputs of a computation. Equal jobs have equal answers, unless one was stopped on the way.
#[derive(Clone, Debug, PartialEq)]
pub enum Job {
    /// Load a model compiled into the program, by its name.
    LoadEmbedded(&'static str),
    /// Load a folder, or the folder of a file.
    Load(PathBuf),
    /// Bring a model's matrices to a number format; without one, give it as it is stored.
    Recast {
        /// The model as it is stored.
        model: ModelRef,
        /// The format.
        dtype: Option<Dtype>,
        /// Whether the int8 form is to be kept in a file beside the checkpoint.
        keep: bool,
    },
    /// Read and write a text, and look at it.
    Watch(WatchJob),
    /// Look at what there is of a text, and read or write nothing more of it.
    Look(WatchJob),
    /// Run several models on one text.
    Compare(CompareJob),
    /// Ask several models for facts in their context.
    Recall(RecallJob),
    /// Measure a backend against the naive one.
    Parity(ParityJob),
    /// A computation of a page's own: a demo, an experiment.
    Study(StudyJob),
    /// Turn a prompt into ids; counts as work because a prompt may be a megabyte.
    Tokenize {
        /// Whose tokenizer.
        model: ModelRef,
        /// The text; ids in decimal when the model has no tokenizer.
        text: Arc<str>,
    },
    /// Write a table.
    SaveText {
        /// Where to.
        path: PathBuf,
        /// The contents.
        text: Later<String>,
    },
    /// Write a picture as PNG.
    SavePicture {
        /// Where to.
        path: PathBuf,
        /// The picture.
        picture: Later<Picture>,
    },
    /// Paint a picture for whoever asks.
    Paint(Later<Picture>),
    /// Run a text again with everything recorded, and write that.
    SaveTrace {
        /// Where to.
        path: PathBuf,
        /// What to record.
        trace: TraceJob,
    },
}

/// What a job gives.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Of a load.
    Model(Arc<Model>),
    /// Of a watch.
    Watched(Arc<Watched>),
    /// Of a comparison.
    Compared(Arc<Compared>),
    /// Of a recall test.
    Recall(Arc<RecallTable>),
    /// Of a comparison of backends.
    Parity(Arc<Parity>),
    /// Of a page's own computation.
    Study(StudyAnswer),
    /// Of a tokenisation.
    Ids(Arc<[u32]>),
    /// Of a save: the file, and its bytes.
    Saved(PathBuf, u64),
    /// Of a painting.
    Picture(Arc<Picture>),
}

/// How far a job is.
#[derive(Clone, Debug)]
pub enum Progress {
    /// Counted work.
    Count {
        /// What is being done.
        what: &'static str,
        /// How much of it is.
        done: usize,
        /// How much there is.
        total: usize,
    },
    /// An answer that is not finished.
    Partial(Answer),
}

/// Why a job has no answer.
#[derive(Debug, Error)]
pub enum JobError {
    /// A model could not be loaded.
    #[error(transparent)]
    Load(Box<LoadError>),
    /// A backend refused.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// A trace would be too large, or of a layer that does not exist.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// A model cannot be asked for facts.
    #[error(transparent)]
    Recall(#[from] RecallError),
    /// A file could not be written.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// A model could not be brought to another number format.
    #[error(transparent)]
    Recast(#[from] RecastError),
    /// The prompt could not be turned into ids.
    #[error("{0}")]
    Prompt(String),
    /// A page's own computation cannot be done as it was asked.
    #[error("{0}")]
    Study(String),
    /// No backend of that name.
    #[error("there is no backend {wanted:?}; there are {found}")]
    NoBackend {
        /// The name asked for.
        wanted: String,
        /// The names there are.
        found: String,
    },
    /// A defect of this program; the engine goes on.
    #[error(
        "this computation failed inside: {0}. The rest of the program goes on; please report it"
    )]
    Panicked(String),
}

impl From<LoadError> for JobError {
    fn from(error: LoadError) -> Self {
        Self::Load(Box::new(error))
    }
}

/// Who computes: the backends, and what is worth keeping between jobs.
pub struct Workshop {
    backends: Vec<Box<dyn Backend>>,
    watch: Option<Watch>,
}

impl Workshop {
    /// With these backends.
    pub fn new(backends: Vec<Box<dyn Backend>>) -> Self {
        Self {
            backends,
            watch: None,
        }
    }

    /// The backend of that name.
    ///
    /// # Errors
    /// When there is none.
    pub fn backend(&mut self, name: &str) -> Result<&mut dyn Backend, JobError> {
        let found = self
            .backends
            .iter()
            .position(|backend| backend.name() == name);
        match found {
            Some(index) => Ok(&mut *self.backends[index]),
            None => {
                let names: Vec<_> = self.backends.iter().map(|backend| backend.name()).collect();
                Err(JobError::NoBackend {
                    wanted: name.to_owned(),
                    found: names.join(", "),
                })
            }
        }
    }

    /// Forgets what was kept between jobs, as after a panic.
    pub fn reset(&mut self) {
        self.watch = None;
    }

    /// Computes a job. `progress` hears how far it is and may stop it.
    ///
    /// # Errors
    /// As [`JobError`].
    pub fn run(
        &mut self,
        job: &Job,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Answer, JobError> {
        match job {
            Job::LoadEmbedded(name) => {
                let embedded = Embedded::named(name).unwrap_or(&EMBEDDED[0]);
                Ok(Answer::Model(Arc::new(embedded.load()?)))
            }
            Job::Load(path) => {
                let report = std::cell::RefCell::new(progress);
                let share = |part: f32| {
                    let done = (part.clamp(0.0, 1.0) * 100.0) as usize;
                    report.borrow_mut()(Progress::Count {
                        what: "percent of the weights checked",
                        done,
                        total: 100,
                    })
                };
                Ok(Answer::Model(Arc::new(checkpoint::load(path, &share)?)))
            }
            Job::Recast { model, dtype, keep } => Ok(Answer::Model(match dtype {
                Some(dtype) => Arc::new(recast(model, *dtype, *keep, progress)?),
                None => Arc::clone(model),
            })),
            Job::Watch(watch) => self.watch(watch, |text| text.run(watch, progress)),
            Job::Look(watch) => self.watch(watch, |text| Ok(text.look(watch))),
            Job::Compare(job) => {
                let compared = compare(job, self.backend(&job.backend)?, progress)?;
                Ok(Answer::Compared(Arc::new(compared)))
            }
            Job::Recall(job) => {
                let table = recall(job, self.backend(&job.backend)?, progress)?;
                Ok(Answer::Recall(Arc::new(table)))
            }
            Job::Parity(job) => {
                let mut chosen = self.backend(&job.backend)?.open(&job.model)?;
                let mut naive = self.backend(REFERENCE)?.open(&job.model)?;
                let found = parity(job, &mut *chosen, &mut *naive, progress)?;
                Ok(Answer::Parity(Arc::new(found)))
            }
            Job::Study(study) => Ok(Answer::Study(study.compute(self, progress)?)),
            Job::Tokenize { model, text } => Ok(Answer::Ids(prompt_ids(model, text)?.into())),
            Job::SaveText { path, text } => {
                let text = text.make();
                write_file(path, |file| file.write_all(text.as_bytes()))?;
                Ok(saved(path))
            }
            Job::SavePicture { path, picture } => {
                let picture = picture.make();
                write_file(path, |file| picture.write_png(file))?;
                Ok(saved(path))
            }
            Job::Paint(picture) => Ok(Answer::Picture(Arc::new(picture.make()))),
            Job::SaveTrace { path, trace } => {
                TraceFile::record(trace, self.backend(&trace.backend)?, progress)?.write(path)?;
                Ok(saved(path))
            }
        }
    }

    /// Does something with the text a job is about: the one kept from the last job, where it is the same.
    fn watch(
        &mut self,
        job: &WatchJob,
        look: impl FnOnce(&mut Watch) -> Result<Watched, BackendError>,
    ) -> Result<Answer, JobError> {
        let mut watch = match self.watch.take().filter(|watch| watch.serves(job)) {
            Some(watch) => watch,
            None => Watch::open(job, self.backend(&job.backend)?)?,
        };
        let watched = look(&mut watch)?;
        self.watch = Some(watch);
        Ok(Answer::Watched(Arc::new(watched)))
    }
}

/// The model in another number format, which its name then says.
fn recast(
    model: &Arc<Model>,
    dtype: Dtype,
    keep: bool,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Model, JobError> {
    let report = &mut |what, done, total| progress(Progress::Count { what, done, total });
    let name = format!("{} ({})", model.name, dtype.name().to_lowercase());
    match checkpoint::recast(model, dtype, keep, report)? {
        Some(recast) => Ok(Model { name, ..recast }),
        None => Err(LoadError::Cancelled { file: name }.into()),
    }
}

fn saved(path: &std::path::Path) -> Answer {
    Answer::Saved(
        path.to_owned(),
        std::fs::metadata(path).map_or(0, |data| data.len()),
    )
}

/// The ids of a prompt: by the model's tokenizer, or written in decimal when it has none.
///
/// # Errors
/// When the text is empty, cannot be tokenised, or is not numbers.
pub fn prompt_ids(model: &Model, text: &str) -> Result<Vec<u32>, JobError> {
    if text.is_empty() || (model.tokenizer.is_none() && text.trim().is_empty()) {
        return Err(JobError::Prompt(
            "the prompt is empty: type a few words for the model to continue".to_owned(),
        ));
    }
    match &model.tokenizer {
        Some(tokenizer) => tokenizer
            .encode(text)
            .map_err(|error| JobError::Prompt(error.to_string())),
        None => text
            .split(|c: char| c == ',' || c.is_whitespace())
            .filter(|part| !part.is_empty())
            .map(decimal_id)
            .collect(),
    }
}

fn decimal_id(part: &str) -> Result<u32, JobError> {
    part.parse().map_err(|_| {
        let shown: String = part.chars().take(40).collect();
        JobError::Prompt(format!(
            "{shown:?} is not a token id: this model has no tokenizer.json, so a prompt is ids such as 12, 7, 40"
        ))
    })
}
