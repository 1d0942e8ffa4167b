//! A trace as a safetensors file: what a pass left behind, readable from numpy.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use ndarray::{Array2, Array3, ArrayD};
use safetensors::SafeTensorError;
use safetensors::tensor::{Dtype, Metadata, TensorInfo};

use crate::backend::{Backend, BackendError, DEFAULT_CHUNK, Session, prefill_in_chunks};
use crate::export::{ExportError, write_safetensors};
use crate::generate::{Sampling, generate};
use crate::job::{JobError, ModelRef, Progress};
use crate::model::MixerDims;
use crate::state::LayerState;
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
    pub const PROBES: [Probe; 6] = [
        Probe::Delta,
        Probe::B,
        Probe::C,
        Probe::RouterLogits,
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

/// What the model writes after the text: greedy, to the full length. A trace is compared with others, and they do not stop at an
/// end-of-text token.
fn write_on(
    job: &TraceJob,
    session: &mut dyn Session,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Vec<u32>, JobError> {
    let (mut ids, total) = (job.ids.to_vec(), job.write);
    for done in 1..=total {
        let go_on = &mut |_| ControlFlow::Continue(());
        generate(session, &mut ids, &Sampling::greedy(), 1, &mut (), go_on)?;
        let count = Progress::Count {
            what: "writing",
            done,
            total,
        };
        if progress(count).is_break() {
            return Err(BackendError::Cancelled { done, total }.into());
        }
        if done < total {
            // Read as a text that is given, not as one being written: the record of a model with limits of Δ is then that of the
            // whole text read at once.
            session.prefill(&ids[ids.len() - 1..], &mut ())?;
        }
    }
    Ok(ids.split_off(job.ids.len()))
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
        let state = session.state()?;

        let mut arrays = vec![("input_ids".to_owned(), Array::ids(job.ids.to_vec()))];
        let trace = tap.finish();
        arrays.extend(
            trace
                .into_arrays()
                .map(|(site, value)| (site.name(), Array::Floats(value))),
        );
        for &i in &job.layers.iter().copied().collect::<BTreeSet<_>>() {
            let mixer = job.model.config.blocks[i].mixer;
            for (name, value) in state_arrays(&state.layers[i], &mixer) {
                arrays.push((format!("layers.{i}.{name}"), Array::Floats(value)));
            }
        }
        if job.write > 0 {
            // Beside the other ids: eight-byte numbers before four-byte ones keeps each at a multiple of its size.
            let written = Array::ids(write_on(job, &mut *session, progress)?);
            arrays.insert(1, ("gen_ids".to_owned(), written));
        }
        Ok(Self { arrays })
    }

    /// Names and shapes, in the order they were recorded.
    pub fn contents(&self) -> impl Iterator<Item = (&str, &[usize])> {
        self.arrays
            .iter()
            .map(|(name, array)| (name.as_str(), array.shape()))
    }

    /// Writes the file, or nothing. Array after array, so that no second copy of the record is made.
    ///
    /// # Errors
    /// When the folder cannot be written or the disk is full.
    pub fn write(&self, path: &Path) -> Result<(), ExportError> {
        write_safetensors(path, self.header(), |file| {
            let mut arrays = self.arrays.iter();
            arrays.try_for_each(|(_, array)| array.write(file))
        })
    }

    /// Names, dtypes, shapes and places, in the order of the data.
    fn header(&self) -> Result<Metadata, SafeTensorError> {
        let mut end = 0;
        let entries = self.arrays.iter().map(|(name, array)| {
            let start = end;
            end += array.byte_len();
            let info = TensorInfo {
                dtype: array.dtype(),
                shape: array.shape().to_vec(),
                data_offsets: (start, end),
            };
            (name.clone(), info)
        });
        Metadata::new(None, entries.collect())
    }
}

/// What a layer remembers, under the names and in the shapes of the references: `ssm_state` `[d, n]` or `[h, p, n]` and
/// `conv_state` `[channels, k]`; `k_cache` and `v_cache` `[kv_heads, tokens, head_dim]`.
fn state_arrays(state: &LayerState, mixer: &MixerDims) -> Vec<(&'static str, ArrayD<f32>)> {
    match state {
        LayerState::Recurrent(state) => {
            let ssm = state.ssm_dn.clone().into_dyn();
            let ssm = match mixer {
                MixerDims::Mamba2(dims) => {
                    let shape = vec![dims.heads, dims.head_dim, dims.d_state];
                    ssm.clone().into_shape_with_order(shape).unwrap_or(ssm)
                }
                MixerDims::Mamba(_) | MixerDims::Attention(_) => ssm,
            };
            vec![
                ("ssm_state", ssm),
                ("conv_state", state.conv_dk.clone().into_dyn()),
            ]
        }
        LayerState::Attention(cache) => {
            let heads = mixer.attention().map_or(1, |dims| dims.kv_heads);
            let by_head = |rows: &Array2<f32>| {
                let width = rows.ncols() / heads;
                let entry = |(head, token, i)| rows[[token, head * width + i]];
                Array3::from_shape_fn((heads, rows.nrows(), width), entry).into_dyn()
            };
            vec![
                ("k_cache", by_head(&cache.keys)),
                ("v_cache", by_head(&cache.values)),
            ]
        }
    }
}

impl Array {
    fn shape(&self) -> &[usize] {
        match self {
            Array::Floats(values) => values.shape(),
            Array::Ids(_, shape) => shape,
        }
    }

    fn dtype(&self) -> Dtype {
        match self {
            Array::Floats(_) => Dtype::F32,
            Array::Ids(..) => Dtype::I64,
        }
    }

    fn byte_len(&self) -> usize {
        match self {
            Array::Floats(values) => values.len() * 4,
            Array::Ids(ids, _) => ids.len() * 8,
        }
    }

    fn write(&self, file: &mut dyn Write) -> io::Result<()> {
        match self {
            Array::Floats(values) => values
                .iter()
                .try_for_each(|x| file.write_all(&x.to_le_bytes())),
            Array::Ids(ids, _) => ids
                .iter()
                .try_for_each(|&id| file.write_all(&i64::from(id).to_le_bytes())),
        }
    }
}
