//! Watching a model write: what every token did in every layer, kept for the last tokens of a text.
//!
//! A [`WatchJob`] says which text (prompt, sampling, how many tokens to write) and what to look at (layer, token); a
//! [`Watched`] holds what was seen. The job is a plain value and the text a function of it, so a page asks again whenever one of
//! its controls moves: [`Watch`] keeps the session and works only on what is new.

mod recorder;
mod rerun;
mod run;

use std::sync::Arc;
use std::time::Duration;

pub use run::Watch;

use crate::generate::{Finish, Sampling};
use crate::job::ModelRef;
use crate::model::{BlockDims, Config};
use crate::state::StateBytes;

/// Tokens between two kept snapshots of the state; records are dropped by as many.
pub const BLOCK: usize = 64;

/// How many next tokens a record names.
pub const NEXT_TOKENS: usize = 10;

/// Which text to write, and what to look at.
#[derive(Clone, Debug, PartialEq)]
pub struct WatchJob {
    /// The model.
    pub model: ModelRef,
    /// Name of the backend.
    pub backend: String,
    /// What is read first.
    pub prompt: Arc<[u32]>,
    /// How many tokens to write after it.
    pub write: usize,
    /// How they are chosen.
    pub sampling: Sampling,
    /// The layer whose state is shown.
    pub layer: usize,
    /// The token whose state is shown; the last one when absent.
    pub token: Option<usize>,
    /// Keep at least the last so many tokens' records; the memory is [`WatchJob::bytes_per_token`].
    pub window: usize,
}

impl WatchJob {
    /// Bytes one token's record takes in a model, among `window` others.
    pub fn bytes_per_token(config: &Config, window: usize) -> usize {
        let layer = |block: &BlockDims| match (block.mixer.recurrent(), block.mixer.attention()) {
            (Some(dims), _) => {
                let values = dims.delta_width + dims.d_inner + 2 * dims.groups * dims.d_state;
                let snapshot = dims.d_inner * dims.d_state + dims.conv_channels * dims.d_conv;
                values + snapshot / BLOCK
            }
            (None, Some(dims)) => dims.heads * window,
            (None, None) => 0,
        };
        let values: usize = config.blocks.iter().map(layer).sum();
        let frames = config.n_layers() * size_of::<LayerRecord>()
            + NEXT_TOKENS * size_of::<(u32, f32)>()
            + size_of::<TokenRecord>();
        values * size_of::<f32>() + frames
    }

    /// The window that fits `wanted` tokens and a budget in bytes; never less than a block, for there must be something to see.
    pub fn affordable_window(config: &Config, wanted: usize, budget: u64) -> usize {
        let budget = usize::try_from(budget).unwrap_or(usize::MAX);
        let fits = |window: usize| {
            let bytes = Self::bytes_per_token(config, window).checked_mul(window);
            bytes.is_some_and(|bytes| bytes <= budget)
        };
        // What attention records grows with the window too, so that the most that fits is searched for.
        let (mut most, mut too_much) = (0, wanted.saturating_add(1));
        while most + 1 < too_much {
            let middle = most + (too_much - most) / 2;
            if fits(middle) {
                most = middle;
            } else {
                too_much = middle;
            }
        }
        most.max(BLOCK)
    }
}

/// What one token did in one layer, in three numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// Mean of Δ over channels.
    pub mean_delta: f32,
    /// ‖Δ·B·u‖ over channels and slots: how much it wrote.
    pub write: f32,
    /// Mean of exp(Δ·A) over channels and slots: how much of the past it left in place.
    pub retention: f32,
}

/// What one token did in one layer, in full.
#[derive(Clone, Debug, PartialEq)]
pub enum LayerRecord {
    /// In a layer with a hidden state.
    Scan(ScanRecord),
    /// In a layer of attention.
    Attention(AttentionRecord),
}

/// What one token did to a hidden state.
#[derive(Clone, Debug, PartialEq)]
pub struct ScanRecord {
    /// Δ, `[d]` for Mamba-1 and `[h]` for Mamba-2.
    pub delta: Box<[f32]>,
    /// The scan's input, `[d]`.
    pub u_d: Box<[f32]>,
    /// B, `[n]`, or `[g · n]` for Mamba-2.
    pub b: Box<[f32]>,
    /// C, as B.
    pub c: Box<[f32]>,
    /// The same in three numbers.
    pub reading: Reading,
}

/// Where one token looked.
#[derive(Clone, Debug, PartialEq)]
pub struct AttentionRecord {
    /// Position of the first token there is a weight of.
    pub first: usize,
    /// Weights by head: as many for each as there are tokens from `first` to this one.
    pub weights: Box<[f32]>,
}

impl LayerRecord {
    /// Of a layer with a hidden state.
    pub fn scan(&self) -> Option<&ScanRecord> {
        match self {
            Self::Scan(record) => Some(record),
            Self::Attention(_) => None,
        }
    }

    /// Of a layer of attention.
    pub fn attention(&self) -> Option<&AttentionRecord> {
        match self {
            Self::Attention(record) => Some(record),
            Self::Scan(_) => None,
        }
    }
}

/// What one token did.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenRecord {
    /// The token.
    pub id: u32,
    /// −ln p(token | text before), in nats; absent for the first.
    pub surprise: Option<f32>,
    /// One a layer.
    pub layers: Vec<LayerRecord>,
    /// The most likely tokens after it, with probabilities, most likely first.
    pub next: Vec<(u32, f32)>,
}

/// The hidden state of one layer after one token.
#[derive(Clone, Debug, PartialEq)]
pub struct Focus {
    /// Position of the token in the text.
    pub token: usize,
    /// The layer.
    pub layer: usize,
    /// `[n · d]`, slot by slot.
    pub h_nd: Arc<[f32]>,
}

/// How long the reading and the writing took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Speed {
    /// Tokens of the prompt read, and the time that took.
    pub prefill: (usize, Duration),
    /// Tokens written, and the time that took.
    pub decode: (usize, Duration),
}

impl Speed {
    /// Tokens a second; `None` before the first.
    pub fn rate((tokens, time): (usize, Duration)) -> Option<f64> {
        (tokens > 0 && !time.is_zero()).then(|| tokens as f64 / time.as_secs_f64())
    }
}

/// What was seen of a text so far.
#[derive(Clone, Debug)]
pub struct Watched {
    /// The model it was seen in.
    pub model: ModelRef,
    /// The whole text: prompt, then what was written.
    pub ids: Arc<[u32]>,
    /// Tokens of the prompt.
    pub prompt_len: usize,
    /// Position of the first record.
    pub first: usize,
    /// Records of the last tokens, in order.
    pub records: Vec<Arc<TokenRecord>>,
    /// The layer the norms are of.
    pub layer: usize,
    /// ‖h[·, n]‖ over channels after each recorded token, `[n]` each; none for a layer of attention.
    pub slot_norms: Vec<Arc<[f32]>>,
    /// The state of the chosen layer after the chosen token; none for a layer of attention.
    pub focus: Option<Focus>,
    /// Bytes of the session's state.
    pub state_bytes: StateBytes,
    /// Tokens a second.
    pub speed: Speed,
    /// Why the text ended, once it has.
    pub finish: Option<Finish>,
}

impl Watched {
    /// The record of the token at a position of the text, where it is kept.
    pub fn record(&self, token: usize) -> Option<&Arc<TokenRecord>> {
        self.records.get(token.checked_sub(self.first)?)
    }

    /// One past the position of the last record.
    pub fn end(&self) -> usize {
        self.first + self.records.len()
    }
}
