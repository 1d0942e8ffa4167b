//! Where a model runs. A [`Backend`] opens sessions; a [`Session`] carries one text forward.

pub(crate) mod fast;
mod naive;

use std::ops::ControlFlow;
use std::sync::Arc;

use thiserror::Error;

pub use fast::FastBackend;
pub use naive::{NaiveBackend, Precision};

use crate::model::Model;
use crate::scan::{ScanError, ScanInput, ScanOutput};
use crate::state::{State, StateError};
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
}

/// One text on one model: the recurrent state, and the scores of the token to come.
pub trait Session: Send {
    /// Reads several tokens at once and continues the state. Memory grows with the number of tokens:
    /// [`prefill_in_chunks`] keeps it small.
    ///
    /// # Errors
    /// When there are no ids, or one is outside the vocabulary; the state is then unchanged.
    fn prefill(&mut self, ids: &[u32], tap: &mut dyn Tap) -> Result<(), BackendError>;

    /// Reads one token.
    ///
    /// # Errors
    /// As [`Session::prefill`].
    fn step(&mut self, id: u32, tap: &mut dyn Tap) -> Result<(), BackendError> {
        self.prefill(&[id], tap)
    }

    /// Scores after the last token read, `[v]`; zeros before the first, and after a state was set.
    fn logits(&self) -> &[f32];

    /// The model it runs.
    fn model(&self) -> &Arc<Model>;

    /// A snapshot of the state.
    fn state(&self) -> State;

    /// Bytes of the buffers that hold the state, as allocated.
    fn state_bytes(&self) -> usize;

    /// Continues from a snapshot. It holds no scores: there are none until the next token is read.
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
}

/// Checks ids before anything is changed by them.
pub(crate) fn check_ids(ids: &[u32], vocab_size: usize) -> Result<(), BackendError> {
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
