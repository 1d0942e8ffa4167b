//! Where a model runs. A [`Backend`] opens sessions; a [`Session`] carries one text forward.

pub(crate) mod fast;
mod naive;

use std::ops::ControlFlow;
use std::sync::Arc;

use thiserror::Error;

pub use fast::{Cost, FastBackend, Limits, Rounding};
pub use naive::{NaiveBackend, Precision, open_ruled};

use crate::generate::{Sampler, Sampling};
use crate::model::Model;
use crate::scan::{ScanError, ScanInput, ScanOutput, SegmentStarts, SsdInput, SsdOutput};
use crate::state::{RecurrentState, State, StateBytes, StateError};
use crate::tensor::WidenError;
use crate::trace::Tap;

/// Tokens a prefill takes at once: enough for the matrix products, little enough to cancel between.
pub const DEFAULT_CHUNK: usize = 128;

/// Something that can run models.
pub trait Backend: Send {
    /// Short name, as on the command line.
    fn name(&self) -> &'static str;

    /// Starts a text on a model.
    ///
    /// # Errors
    /// When the model cannot run here.
    fn open(&mut self, model: &Arc<Model>) -> Result<Box<dyn Session>, BackendError>;

    /// Runs a selective scan on its own.
    ///
    /// # Errors
    /// When an operand does not fit.
    fn scan(&mut self, input: &ScanInput<'_, f32>) -> Result<ScanOutput<f32>, BackendError>;

    /// Runs a selective scan on its own, as [`Backend::scan`] does, and tells what it found before each of its segments; nothing
    /// for a backend that cuts no text.
    ///
    /// # Errors
    /// As [`Backend::scan`].
    fn scan_segments(
        &mut self,
        _: &ScanInput<'_, f32>,
    ) -> Result<Option<SegmentStarts>, BackendError> {
        Ok(None)
    }

    /// Runs Mamba-2's scan on its own; a backend that works in chunks takes `chunk` tokens at once (at least one).
    ///
    /// # Errors
    /// When an operand does not fit.
    fn ssd(
        &mut self,
        input: &SsdInput<'_, f32>,
        chunk: usize,
    ) -> Result<SsdOutput<f32>, BackendError>;

    /// What it holds in the memory of a device; nothing for a backend that has none.
    fn device_bytes(&self) -> Option<DeviceBytes> {
        None
    }

    /// How it came to run as it does, a line each: what a device is, where its kernels come from. For a report.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Bytes a backend holds in the memory of a device, all of its sessions together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceBytes {
    /// Of the models' weights.
    pub weights: u64,
    /// Of what the sessions remember.
    pub state: u64,
    /// Of what a forward pass writes down on its way.
    pub activations: u64,
    /// What the device says is allocated by this backend, its own needs included.
    pub in_use: u64,
}

/// How tokens come in. The two differ in one thing: Mamba-2's limits of Δ hold in a prefill and not in a step, as in both
/// reference implementations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// Several at once, or one of a text that is given.
    Prefill,
    /// One that was just written.
    Step,
}

/// One text on one model: the recurrent state, and the scores of the token to come.
pub trait Session: Send {
    /// Reads several tokens at once and continues the state. Memory grows with the number of tokens:
    /// [`prefill_in_chunks`] keeps it small.
    ///
    /// # Errors
    /// When there are no ids, or one is outside the vocabulary; the state is then unchanged.
    fn prefill(&mut self, ids: &[u32], tap: &mut dyn Tap) -> Result<(), BackendError>;

    /// Reads one token that was just written. The same as a prefill of one, except that a Mamba-2 model's limits of Δ are
    /// not applied: neither the original code nor transformers applies them here, so with finite limits a text written token
    /// by token is another than one read as a whole.
    ///
    /// # Errors
    /// As [`Session::prefill`].
    fn step(&mut self, id: u32, tap: &mut dyn Tap) -> Result<(), BackendError>;

    /// Scores after the last token read, `[v]`; zeros before the first, and after a state without scores was set. They live
    /// where the model runs: a device fetches them when they are asked for, and once a token.
    ///
    /// # Errors
    /// When a device fails while they are fetched.
    fn logits(&mut self) -> Result<&[f32], BackendError>;

    /// Chooses the token after `history` by the scores, as [`Sampler::pick`] would: a session on a device may choose there, so
    /// that its scores need not travel.
    ///
    /// # Errors
    /// As [`Session::logits`].
    fn pick(
        &mut self,
        sampler: &mut Sampler,
        history: &[u32],
        sampling: &Sampling,
        known: usize,
    ) -> Result<u32, BackendError> {
        Ok(sampler.pick(self.logits()?, history, sampling, known))
    }

    /// The model it runs.
    fn model(&self) -> &Arc<Model>;

    /// A snapshot of the state.
    ///
    /// # Errors
    /// When a device fails while it is fetched.
    fn state(&self) -> Result<State, BackendError>;

    /// The states of the scans alone, without the caches of attention, which may be large.
    ///
    /// # Errors
    /// As [`Session::state`].
    fn scan_states(&self) -> Result<Vec<Option<RecurrentState>>, BackendError>;

    /// Bytes in use in the buffers that hold the state.
    fn state_bytes(&self) -> StateBytes;

    /// Continues from a snapshot, its scores included.
    ///
    /// # Errors
    /// When the state has another model's sizes.
    fn set_state(&mut self, state: &State) -> Result<(), BackendError>;
}

/// Why a backend could not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BackendError {
    /// Nothing to read.
    #[error("there are no tokens to read: type a prompt")]
    NoTokens,
    /// An id without a row in the embedding.
    #[error("token id {id} at position {position} is outside the vocabulary: this model has ids 0 to {last}", last = vocab_size - 1)]
    IdOutOfRange {
        /// The id.
        id: u32,
        /// Where it stands among the ids given.
        position: usize,
        /// Rows of the embedding.
        vocab_size: usize,
    },
    /// No memory for the weights as numbers of this backend.
    #[error("{0}: close other programs, or open a smaller model")]
    Memory(#[from] WidenError),
    /// A snapshot of another model.
    #[error(transparent)]
    State(#[from] StateError),
    /// Operands of a scan that do not fit each other.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// Stopped on request between two chunks; the state is that of the tokens read so far.
    #[error("stopped after {done} of {total} tokens")]
    Cancelled {
        /// Tokens read.
        done: usize,
        /// Tokens asked for.
        total: usize,
    },
    /// The machine refused threads.
    #[error("could not start {threads} threads: {reason}")]
    Threads {
        /// Threads asked for.
        threads: usize,
        /// What the system said.
        reason: String,
    },
    /// A device, or its driver, could not go on: a whole sentence made by the device's backend, with what they said and what
    /// to do about it.
    #[error("{0}")]
    Device(String),
    /// A device without the memory a model takes.
    #[error(
        "the device has no memory for {wanted} bytes ({free} bytes are free, and its driver gives them out in pieces of several MiB): close other programs that use it, or open a smaller model"
    )]
    DeviceMemory {
        /// Bytes asked for.
        wanted: u64,
        /// Bytes the device said are free.
        free: u64,
    },
}

/// The angle by which rotary positions turn pair `i` of a head a token: θ^(−2i/width), in single precision as the reference
/// computes it (transformers' `LlamaRotaryEmbedding`).
pub fn rotary_frequency(i: usize, width: usize, theta: f64) -> f32 {
    let exponent = (2 * i) as f32 / width as f32;
    1.0 / (theta as f32).powf(exponent)
}

/// The angle at a position.
pub(crate) fn rotary_angle(position: usize, i: usize, width: usize, theta: f64) -> f32 {
    position as f32 * rotary_frequency(i, width, theta)
}

/// Checks ids before anything is changed by them.
///
/// # Errors
/// When there are none, or one is outside the vocabulary.
pub fn check_ids(ids: &[u32], vocab_size: usize) -> Result<(), BackendError> {
    if ids.is_empty() {
        return Err(BackendError::NoTokens);
    }
    match ids.iter().position(|&id| id as usize >= vocab_size) {
        Some(position) => Err(BackendError::IdOutOfRange {
            id: ids[position],
            position,
            vocab_size,
        }),
        None => Ok(()),
    }
}

/// Reads `ids` in chunks of at most `chunk` tokens; after each, `progress(done)` may stop it.
///
/// # Errors
/// As [`Session::prefill`] (nothing is read then), or [`BackendError::Cancelled`].
pub fn prefill_in_chunks(
    session: &mut dyn Session,
    ids: &[u32],
    chunk: usize,
    tap: &mut dyn Tap,
    progress: &mut dyn FnMut(usize) -> ControlFlow<()>,
) -> Result<(), BackendError> {
    check_ids(ids, session.model().config.vocab_size)?;
    let mut done = 0;
    for part in ids.chunks(chunk.max(1)) {
        session.prefill(part, tap)?;
        done += part.len();
        if progress(done).is_break() && done < ids.len() {
            return Err(BackendError::Cancelled {
                done,
                total: ids.len(),
            });
        }
    }
    Ok(())
}
