//! A trace as a safetensors file: what a pass left behind, readable from numpy.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use ndarray::ArrayD;
use safetensors::tensor::{Dtype, View};

use crate::backend::{Backend, BackendError, DEFAULT_CHUNK, prefill_in_chunks};
use crate::export::{ExportError, write_file};
use crate::generate::{Sampling, generate};
use crate::job::{JobError, ModelRef, Progress};
use crate::trace::{Probe, TracePlan, TraceTap};

/// What to run, and what of it to keep.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceJob {
    /// The model.
    pub model: ModelRef,
    /// Name of the backend.
    pub backend: String,
    /// The text.
    pub ids: Arc<[u32]>,
    /// Layers to keep.
    pub layers: Vec<usize>,
    /// Stages to keep, beside the states at the end.
    pub probes: Vec<Probe>,
    /// Tokens to write greedily after the text; they are kept as ids alone.
    pub write: usize,
    /// Most bytes the record may take.
    pub budget: u64,
}

impl TraceJob {
    /// The stages a trace file holds unless others are asked for.
    pub const PROBES: [Probe; 5] = [
        Probe::Delta,
        Probe::B,
        Probe::C,
        Probe::BlockOutput,
        Probe::Logits,
    ];
}

/// Named arrays, ready to write.
pub struct TraceFile {
    arrays: Vec<(String, Array)>,
}

enum Array {
    Floats(ArrayD<f32>),
    Ids(Vec<u32>, [usize; 1]),
}

impl Array {
    fn ids(ids: Vec<u32>) -> Self {
        let shape = [ids.len()];
        Array::Ids(ids, shape)
    }
}

impl TraceFile {
    /// Runs the text and keeps what was asked for. Names and shapes as in the README; no batch axis.
    ///
    /// # Errors
    /// When the record would be over the budget (checked before anything is allocated), or the backend refuses.
    pub fn record(
        job: &TraceJob,
        backend: &mut dyn Backend,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Self, JobError> {
        let plan = TracePlan {
            layers: job.layers.clone(),
            probes: job.probes.clone(),
            tokens: job.ids.len(),
            budget: job.budget,
        };
        let mut tap = TraceTap::new(&plan, &job.model.config)?;
        let mut session = backend.open(&job.model)?;
        let total = job.ids.len();
        prefill_in_chunks(
            &mut *session,
            &job.ids,
            DEFAULT_CHUNK,
            &mut tap,
            &mut |done| {
                progress(Progress::Count {
                    what: "recording",
                    done,
                    total,
                })
            },
        )?;
        let state = session.state();

        let mut arrays = vec![("input_ids".to_owned(), Array::ids(job.ids.to_vec()))];
        let trace = tap.finish();
        arrays.extend(
            trace
                .into_arrays()
                .map(|(site, value)| (site.name(), Array::Floats(value))),
        );
        for &i in &job.layers.iter().copied().collect::<BTreeSet<_>>() {
            let layer = &state.layers[i];
            for (name, value) in [("ssm_state", &layer.ssm_dn), ("conv_state", &layer.conv_dk)] {
                arrays.push((
                    format!("layers.{i}.{name}"),
                    Array::Floats(value.clone().into_dyn()),
                ));
            }
        }
        if job.write > 0 {
            let mut ids = job.ids.to_vec();
            let mut written = 0;
            // Greedy, to the full length: a trace is compared with others, and they do not stop at an end-of-text token.
            while written < job.write {
                generate(
                    &mut *session,
                    &mut ids,
                    &Sampling::greedy(),
                    1,
                    &mut (),
                    &mut |_| ControlFlow::Continue(()),
                )?;
                written += 1;
                if progress(Progress::Count {
                    what: "writing",
                    done: written,
                    total: job.write,
                })
                .is_break()
                {
                    return Err(BackendError::Cancelled {
                        done: written,
                        total: job.write,
                    }
                    .into());
                }
                if written < job.write {
                    session.step(ids[ids.len() - 1], &mut ())?;
                }
            }
            arrays.push((
                "gen_ids".to_owned(),
                Array::ids(ids.split_off(job.ids.len())),
            ));
        }
        Ok(Self { arrays })
    }

    /// Names and shapes, in the order they were recorded.
    pub fn contents(&self) -> impl Iterator<Item = (&str, &[usize])> {
        self.arrays
            .iter()
            .map(|(name, array)| (name.as_str(), array.shape()))
    }

    /// Writes the file, or nothing.
    ///
    /// # Errors
    /// When the folder cannot be written or the disk is full.
    pub fn write(&self, path: &Path) -> Result<(), ExportError> {
        write_file(path, |file| {
            let views = self
                .arrays
                .iter()
                .map(|(name, array)| (name.as_str(), array));
            let bytes = safetensors::serialize(views, None).map_err(std::io::Error::other)?;
            file.write_all(&bytes)
        })
    }
}

impl Array {
    fn shape(&self) -> &[usize] {
        match self {
            Array::Floats(values) => values.shape(),
            Array::Ids(_, shape) => shape,
        }
    }
}

impl View for &Array {
    fn dtype(&self) -> Dtype {
        match self {
            Array::Floats(_) => Dtype::F32,
            Array::Ids(..) => Dtype::I64,
        }
    }

    fn shape(&self) -> &[usize] {
        Array::shape(self)
    }

    fn data(&self) -> Cow<'_, [u8]> {
        match self {
            Array::Floats(values) => {
                Cow::Owned(values.iter().flat_map(|x| x.to_le_bytes()).collect())
            }
            Array::Ids(ids, _) => Cow::Owned(
                ids.iter()
                    .flat_map(|&id| i64::from(id).to_le_bytes())
                    .collect(),
            ),
        }
    }

    fn data_len(&self) -> usize {
        match self {
            Array::Floats(values) => values.len() * 4,
            Array::Ids(ids, _) => ids.len() * 8,
        }
    }
}
