//! How quickly a model is read and written on this machine, and how much of what the machine gives that is.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use crate::backend::{
    Backend, BackendError, Cost, FastBackend, Limits, Session, prefill_in_chunks,
};
use crate::generate::{Sampler, Sampling};
use crate::job::{JobError, ModelRef, Progress, Workshop};
use crate::model::Model;
use crate::study::Study;
use crate::tensor::Dtype;

/// Tokens read, unless that takes too long.
const PROMPT: usize = 256;
/// Tokens written.
const TOKENS: usize = 32;
/// Tokens read before anything counts: weights are brought where they are needed, and the length of the rest is chosen by it.
const FIRST: usize = 16;
/// How often each is measured; the best counts, for others on the machine only ever take away.
const TURNS: usize = 3;
/// Seconds all reading together may take: a slow backend reads less.
const READING: f64 = 1.0;
/// Seconds after which no other turn is begun.
const PATIENCE: f64 = 2.0;
/// Tokens read between two reports.
const CHUNK: usize = 64;

/// Ids spread over a vocabulary, always the same: to what takes time the text does not matter, and these do not favour a cache.
pub fn spread_ids(vocab_size: usize, count: usize) -> Vec<u32> {
    let vocab_size = u32::try_from(vocab_size).unwrap_or(u32::MAX).max(1);
    let spread = |i: u32| i.wrapping_mul(2_654_435_761) % vocab_size;
    (0..u32::MAX).take(count).map(spread).collect()
}

/// Seconds of one text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Turn {
    /// Reading, the choice of the first token included.
    pub prefill: f64,
    /// Writing.
    pub decode: f64,
}

/// Reads `ids`, `chunk` at once, and writes `tokens` greedily. Each of the two ends with the token that follows: a device works on
/// after a call has returned, and a token is known when it has finished. `progress` hears the tokens done, and may stop it.
///
/// # Errors
/// As [`Session::prefill`], or [`BackendError::Cancelled`].
pub fn read_and_write(
    session: &mut dyn Session,
    ids: &[u32],
    chunk: usize,
    tokens: usize,
    progress: &mut dyn FnMut(usize) -> ControlFlow<()>,
) -> Result<Turn, BackendError> {
    let (mut sampler, greedy) = (Sampler::default(), Sampling::greedy());
    let tokenizer = session.model().tokenizer.as_ref();
    let known = tokenizer.map_or(0, |ids| ids.len());
    let mut history = ids.to_vec();

    let start = Instant::now();
    prefill_in_chunks(session, ids, chunk, &mut (), progress)?;
    let mut id = session.pick(&mut sampler, &history, &greedy, known)?;
    let prefill = start.elapsed().as_secs_f64();

    let start = Instant::now();
    for written in 0..tokens {
        let done = ids.len() + written;
        if progress(done).is_break() {
            let total = ids.len() + tokens;
            return Err(BackendError::Cancelled { done, total });
        }
        history.push(id);
        session.step(id, &mut ())?;
        id = session.pick(&mut sampler, &history, &greedy, known)?;
    }
    let decode = start.elapsed().as_secs_f64();
    Ok(Turn { prefill, decode })
}

/// How quickly a backend reads and writes with a model.
#[derive(Clone, Debug, PartialEq)]
pub struct SpeedStudy {
    /// The model.
    pub model: ModelRef,
    /// Name of the backend.
    pub backend: String,
}

/// What was measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Speed {
    /// Name of the backend.
    pub backend: String,
    /// Tokens read in a turn.
    pub prompt: usize,
    /// Tokens written in a turn.
    pub tokens: usize,
    /// Turns, the best of which counts.
    pub turns: usize,
    /// Tokens read a second.
    pub prefill_tokens_per_s: f64,
    /// Tokens written a second.
    pub decode_tokens_per_s: f64,
    /// The number format most weights are stored in.
    pub dtype: Dtype,
    /// Bytes of the weights as they are stored.
    pub weight_bytes: usize,
    /// What the processor gives, and the share of it reached; nothing for a backend on a device of its own.
    pub reach: Option<Reach>,
}

/// A model's speed held against its machine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reach {
    /// Threads the limits were measured with.
    pub threads: usize,
    /// What the machine gives.
    pub limits: Limits,
    /// Bytes of weights read a second while writing, as a share of the bandwidth.
    pub decode_share: f64,
    /// Operations a second of the products while reading, as a share of the rate of a large product.
    pub prefill_share: f64,
}

impl Study for SpeedStudy {
    type Answer = Speed;

    fn compute(
        &self,
        workshop: &mut Workshop,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Speed, JobError> {
        let backend = workshop.backend(&self.backend)?;
        let measured = Measured::of(&self.model, backend, progress)?;
        // A backend that holds nothing on a device runs on the processor, whose limits are then its own.
        let on_device = backend.device_bytes().is_some();
        Ok(measured.speed(&self.model, &self.backend, on_device))
    }
}

/// The best of the turns so far.
struct Measured {
    prompt: usize,
    turns: usize,
    best: Turn,
    fast: FastBackend,
    limits: Limits,
}

impl Measured {
    fn of(
        model: &Arc<Model>,
        backend: &mut dyn Backend,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Self, JobError> {
        let count = |done, total| Progress::Count {
            what: "tokens timed",
            done,
            total,
        };
        let ids = spread_ids(model.config.vocab_size, PROMPT);
        let begin = |backend: &mut dyn Backend| backend.open(model);
        let largest = TURNS * (PROMPT + TOKENS);
        let mut session = begin(backend)?;
        // Twice: only the second time everything is in its place.
        let mut first = 0.0;
        for _ in 0..2 {
            let report = &mut |done: usize| progress(count(done.min(FIRST), largest));
            first = read_and_write(&mut *session, &ids[..FIRST], FIRST, 1, report)?.prefill;
        }
        let affordable = READING / TURNS as f64 / first * FIRST as f64;
        let prompt = (affordable as usize).clamp(FIRST, PROMPT);
        let fast = FastBackend::new(0)?;
        let mut found = Self {
            prompt,
            turns: 0,
            best: Turn {
                prefill: f64::INFINITY,
                decode: f64::INFINITY,
            },
            limits: measure_limits(&fast, model)?,
            fast,
        };
        let start = Instant::now();
        let (a_turn, total) = (prompt + TOKENS, TURNS * (prompt + TOKENS));
        while found.turns < TURNS {
            let before = found.turns * a_turn;
            let report = &mut |done: usize| progress(count(before + done, total));
            let mut session = begin(backend)?;
            match read_and_write(&mut *session, &ids[..prompt], CHUNK, TOKENS, report) {
                // What is measured by then is an answer.
                Err(BackendError::Cancelled { .. }) if found.turns > 0 => break,
                Err(reason) => return Err(reason.into()),
                Ok(turn) => found.take(turn),
            }
            if start.elapsed().as_secs_f64() > PATIENCE {
                break;
            }
            // In turns: a noisy moment is one for the limits and for what is held against them.
            found.limits = found.limits.or_better(measure_limits(&found.fast, model)?);
        }
        Ok(found)
    }

    fn take(&mut self, turn: Turn) {
        self.turns += 1;
        self.best.prefill = self.best.prefill.min(turn.prefill);
        self.best.decode = self.best.decode.min(turn.decode);
    }

    fn speed(&self, model: &Model, backend: &str, on_device: bool) -> Speed {
        let prefill_tokens_per_s = self.prompt as f64 / self.best.prefill;
        let decode_tokens_per_s = TOKENS as f64 / self.best.decode;
        let cost = Cost::of(model);
        let reach = Reach {
            threads: self.fast.threads(),
            limits: self.limits,
            decode_share: cost.decode_share(decode_tokens_per_s, &self.limits),
            prefill_share: cost.prefill_share(prefill_tokens_per_s, &self.limits),
        };
        Speed {
            backend: backend.to_owned(),
            prompt: self.prompt,
            tokens: TOKENS,
            turns: self.turns,
            prefill_tokens_per_s,
            decode_tokens_per_s,
            dtype: model.main_dtype(),
            weight_bytes: model.stored_bytes(),
            reach: (!on_device).then_some(reach),
        }
    }
}

fn measure_limits(fast: &FastBackend, model: &Model) -> Result<Limits, JobError> {
    let found = fast.limits(model);
    found.map_err(|reason| JobError::Study(reason.to_string()))
}
