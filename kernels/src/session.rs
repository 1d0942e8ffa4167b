//! One text on the device: its state stays there, and so do the scores until someone asks for them.

use std::sync::Arc;

use cudarc::driver::sys::{CUgraphInstantiate_flags, CUresult, CUstreamCaptureMode};
use cudarc::driver::{CudaGraph, DriverError};
use mambascope_core::backend::{BackendError, Session, check_ids};
use mambascope_core::generate::{Sampler, Sampling};
use mambascope_core::model::{BlockDims, FeedForwardDims, MixerDims, Model};
use mambascope_core::state::{LayerState, RecurrentState, State, StateBytes};
use mambascope_core::trace::{Probe, Site, Tap};

use crate::blocks::attention::Cache;
use crate::blocks::mamba::Memory;
use crate::blocks::{attention, feed_forward, mamba, mamba2};
use crate::buffer::{Buffer, Mailbox};
use crate::gpu::{Gpu, Use, refusal};
use crate::library::hold_still;
use crate::ops::{self, End, Product, Rows};
use crate::pass::{Pass, Scratch};
use crate::sample::{Drawer, can_draw};
use crate::token::TokenPass;
use crate::weights::{DeviceModel, MixerWeights};
use crate::{scan, ssd};

/// Tokens a chunk has at most: enough for the tensor cores, little enough for the memory.
pub(crate) const MOST_TOKENS: usize = 2048;
/// Bytes that the buffers of a chunk leave free for each of its tokens: the driver loads a kernel, with memory for its threads,
/// when it is first asked for, and a small chunk is better than none.
const KEPT_FREE: u64 = 64 << 10;

/// What one block remembers.
enum Block {
    Scan(Memory),
    Attention(Cache),
}

/// A token's pass through the model, captured once and launched again and again.
struct Captured(CudaGraph);

#[expect(
    unsafe_code,
    reason = "the graph holds raw pointers, which says nothing about threads"
)]
// SAFETY: the graph is used by whoever holds the session, one at a time; a driver's graph may move between threads.
unsafe impl Send for Captured {}

/// Which of the session's numbers this machine has seen.
#[derive(Default)]
struct Seen {
    /// Whether `logits` are those of the last token.
    logits: bool,
    /// The most likely token, which is also the id that lies ready on the device.
    choice: Option<u32>,
}

pub(crate) struct CudaSession {
    gpu: Arc<Gpu>,
    model: Arc<Model>,
    weights: Arc<DeviceModel>,
    blocks: Vec<Block>,
    scratch: Scratch,
    position: usize,
    /// The same on the device.
    device_position: Buffer<i32>,
    /// Ids of a chunk; after it, the first is the most likely token to come.
    ids: Buffer<i32>,
    /// The most likely token to come, where this machine sees it.
    choice: Mailbox,
    device_logits: Buffer<f32>,
    logits: Vec<f32>,
    seen: Seen,
    step: Option<Captured>,
    /// All blocks in one launch, for a token that nobody watches; looked for when the first one comes, and then known or known
    /// not to be there.
    token: Option<Option<TokenPass>>,
    drawer: Option<Drawer>,
    /// Whether a token has gone through uncaptured, so that all its kernels are loaded.
    is_warm: bool,
    /// Whether a pass failed on its way: the state is then neither of before it nor of after it.
    is_torn: bool,
    is_poisoning: bool,
}

impl CudaSession {
    pub(crate) fn new(
        gpu: &Arc<Gpu>,
        model: &Arc<Model>,
        weights: Arc<DeviceModel>,
        is_poisoning: bool,
    ) -> Result<Self, BackendError> {
        let dims = model.config.blocks.iter();
        dims.enumerate().try_for_each(|(i, dims)| check(i, dims))?;
        let blocks = model.config.blocks.iter().map(|block| match &block.mixer {
            MixerDims::Mamba(dims) => {
                let memory = Memory::new(
                    gpu,
                    [dims.d_inner, dims.d_conv],
                    [dims.d_inner, dims.d_state],
                )?;
                Ok(Block::Scan(memory))
            }
            MixerDims::Mamba2(dims) => Ok(Block::Scan(mamba2::memory(gpu, dims)?)),
            MixerDims::Attention(dims) => Ok(Block::Attention(Cache::new(gpu, dims)?)),
        });
        let vocab = model.config.vocab_size;
        let blocks = blocks.collect::<Result<Vec<_>, BackendError>>()?;
        Ok(Self {
            blocks,
            scratch: Scratch::new(gpu, model, 1)?,
            position: 0,
            device_position: Buffer::zeros(gpu, Use::Activations, 1)?,
            ids: Buffer::zeros(gpu, Use::Activations, MOST_TOKENS)?,
            choice: Mailbox::new(gpu)?,
            device_logits: Buffer::zeros(gpu, Use::Activations, vocab)?,
            logits: vec![0.0; vocab],
            seen: Seen {
                logits: true,
                choice: None,
            },
            step: None,
            token: None,
            drawer: None,
            is_warm: false,
            is_torn: false,
            is_poisoning,
            weights,
            model: Arc::clone(model),
            gpu: Arc::clone(gpu),
        })
    }

    /// Makes room in the buffers for a chunk of `wanted` tokens, or for as many as the device has memory for; how many.
    fn make_room(&mut self, wanted: usize) -> Result<usize, BackendError> {
        let mut tokens = wanted.min(MOST_TOKENS);
        while tokens > self.scratch.tokens {
            match self.room_for(tokens)? {
                Some(scratch) => {
                    self.scratch = scratch;
                    // The captured pass names the old buffers.
                    self.step = None;
                }
                // At the latest the buffers there are do.
                None => tokens = (tokens / 2).max(self.scratch.tokens),
            }
        }
        Ok(tokens)
    }

    /// Buffers for a chunk of so many, if they leave memory for its kernels.
    fn room_for(&self, tokens: usize) -> Result<Option<Scratch>, BackendError> {
        let kept = tokens as u64 * KEPT_FREE;
        match Scratch::new(&self.gpu, &self.model, tokens) {
            Ok(scratch) if self.gpu.free_bytes() >= kept => return Ok(Some(scratch)),
            Ok(_) | Err(BackendError::DeviceMemory { .. }) => {}
            Err(error) => return Err(error),
        }
        // Until then the driver's pool keeps what was let go, in pieces.
        self.gpu.wait()?;
        Ok(None)
    }

    /// Makes room in the caches for `tokens` more.
    fn grow_caches(&mut self, tokens: usize) -> Result<(), BackendError> {
        for block in &mut self.blocks {
            if let Block::Attention(cache) = block
                && cache.grow(self.position + tokens, self.position)?
            {
                self.step = None;
            }
        }
        Ok(())
    }

    /// Reads up to a chunk of ids, and says how many.
    fn read_some(
        &mut self,
        ids: &[u32],
        is_step: bool,
        tap: Option<&mut (dyn Tap + '_)>,
    ) -> Result<usize, BackendError> {
        let tokens = self.make_room(ids.len())?;
        let ids = &ids[..tokens];
        if tokens != 1 || self.seen.choice != Some(ids[0]) {
            let signed: Vec<i32> = ids.iter().map(|&id| id as i32).collect();
            self.ids.upload(&signed)?;
        }
        if tokens == 1 && tap.is_none() && self.token.is_none() {
            self.token = Some(self.token_pass()?);
        }
        self.seen = Seen::default();
        if self.is_poisoning {
            // Poison would be captured with the pass.
            self.step = None;
            self.is_warm = false;
        }
        self.is_torn = true;
        match (&self.step, is_step && tap.is_none()) {
            (Some(Captured(graph)), true) => graph
                .launch()
                .map_err(|error| refusal("launching the pass of a token", error))?,
            (None, true) if self.is_warm => match self.capture()? {
                Some(captured) => {
                    let launched = captured.0.launch();
                    launched.map_err(|error| refusal("launching the pass of a token", error))?;
                    self.step = Some(captured);
                }
                None => self.pass(tokens, is_step, tap)?,
            },
            (_, may_capture) => {
                self.pass(tokens, is_step, tap)?;
                self.is_warm |= may_capture;
            }
        }
        self.is_torn = false;
        self.position += tokens;
        Ok(tokens)
    }

    /// All blocks in one launch, where the model and the device are so.
    fn token_pass(&self) -> Result<Option<TokenPass>, BackendError> {
        let memories: Option<Vec<&Memory>> = self
            .blocks
            .iter()
            .map(|block| match block {
                Block::Scan(memory) => Some(memory),
                Block::Attention(_) => None,
            })
            .collect();
        match memories {
            Some(memories) => {
                TokenPass::new(&self.gpu, &self.model, &self.weights, &memories, &self.ids)
            }
            None => Ok(None),
        }
    }

    /// Records the launches of a token's pass instead of making them. Nothing where other work ended the recording, as all does
    /// that waits for the whole device: the next token is tried again. (cuBLAS's own waiting keeps out of the way.)
    fn capture(&mut self) -> Result<Option<Captured>, BackendError> {
        let _still = hold_still();
        let stream = Arc::clone(self.gpu.stream());
        let refused = |error| refusal("capturing the pass of a token", error);
        stream
            .begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)
            .map_err(refused)?;
        let passed = self.pass(1, true, None);
        // The capture ends in any case; a pass that failed is what there is to say.
        let graph = stream.end_capture(CUgraphInstantiate_flags(0));
        if let Err(DriverError(CUresult::CUDA_ERROR_STREAM_CAPTURE_INVALIDATED)) = graph {
            self.gpu.count_ended_recording();
            return Ok(None);
        }
        passed?;
        match graph.map_err(refused)? {
            Some(graph) => Ok(Some(Captured(graph))),
            None => Err(BackendError::Device(
                "CUDA captured nothing of a token's pass. Choose a CPU backend and report the sentence.".to_owned(),
            )),
        }
    }

    /// The pass itself: `tokens` ids that lie ready, to the scores and the most likely token.
    fn pass(
        &mut self,
        tokens: usize,
        is_step: bool,
        tap: Option<&mut (dyn Tap + '_)>,
    ) -> Result<(), BackendError> {
        let Self {
            gpu,
            model,
            weights,
            scratch,
            ..
        } = self;
        let mut pass = Pass {
            gpu,
            model,
            tokens,
            position: &self.device_position,
            past: self.position,
            is_step,
            is_poisoning: self.is_poisoning,
            scratch,
            tap: tap.map(|tap| tap as &mut dyn Tap),
        };
        match self.token.as_ref().and_then(Option::as_ref) {
            Some(token) if pass.may_fuse() => {
                if pass.is_poisoning {
                    scratch.poison()?;
                    // Begun from nothing here, where blocks in launches of their own go on from it.
                    scratch.x.fill(0xff)?;
                }
                token.run(gpu, &scratch.x)?;
            }
            _ => {
                ops::embed(gpu, &self.ids, &weights.embedding, &scratch.x, tokens)?;
                pass.record_stream(Site::model(Probe::Embedded))?;
                for (i, block) in self.blocks.iter().enumerate() {
                    run_block(&mut pass, i, weights, block)?;
                }
            }
        }
        let overlaps = pass.may_fuse();
        head(&mut pass, weights, &mut self.device_logits)?;
        self.end(tokens, overlaps)
    }

    /// The most likely token to come, and `tokens` more read.
    fn end(&self, tokens: usize, overlaps: bool) -> Result<(), BackendError> {
        let end = End {
            scores: &self.device_logits,
            id: &self.ids,
            seen: &self.choice,
            position: &self.device_position,
            tokens,
            overlaps,
        };
        end.run(&self.gpu)
    }

    /// Reads all ids, in as many chunks as it takes.
    fn read(&mut self, ids: &[u32], is_step: bool, tap: &mut dyn Tap) -> Result<(), BackendError> {
        check_ids(ids, self.model.config.vocab_size)?;
        if self.is_torn {
            return Err(BackendError::Device(
                "The text before was not read to its end, because CUDA failed in it: begin the text again.".to_owned(),
            ));
        }
        // Of the whole text at once: without memory for it, nothing is read.
        self.grow_caches(ids.len())?;
        let is_watched = wants_any(tap, &self.model);
        let mut done = 0;
        while done < ids.len() {
            let tap: Option<&mut dyn Tap> = if is_watched { Some(&mut *tap) } else { None };
            done += self.read_some(&ids[done..], is_step, tap)?;
        }
        Ok(())
    }
}

/// Whether the kernels have room for a block: said before anything is read, for a pass that stops in the middle would leave a
/// state that is neither of before nor of after.
fn check(i: usize, block: &BlockDims) -> Result<(), BackendError> {
    let limits = match block.mixer {
        MixerDims::Mamba(dims) => ("slots a channel", dims.d_state, scan::MOST_SLOTS),
        MixerDims::Mamba2(dims) => ("slots a channel", dims.d_state, ssd::MOST_SLOTS),
        MixerDims::Attention(dims) => ("values a head", dims.head_dim, attention::WIDEST_HEAD),
    };
    let experts = match block.feed_forward {
        Some(FeedForwardDims::Experts { count, .. }) => count,
        _ => 0,
    };
    for (what, found, most) in [limits, ("experts", experts, feed_forward::MOST_EXPERTS)] {
        if found > most {
            return Err(BackendError::Device(format!(
                "CUDA's kernels have room for {most} {what}, and layer {i} of this model has {found}: choose a CPU backend."
            )));
        }
    }
    Ok(())
}

/// Whether anything of a pass is to be recorded.
fn wants_any(tap: &dyn Tap, model: &Model) -> bool {
    let layers = 0..model.config.n_layers();
    Probe::ALL.into_iter().any(|probe| {
        if probe.is_per_layer() {
            layers
                .clone()
                .any(|layer| tap.wants(Site::layer(layer, probe)))
        } else {
            tap.wants(Site::model(probe))
        }
    })
}

/// x ← x + mixer(RMSNorm(x)), then in some families x ← x + ff(RMSNorm(x)).
fn run_block(
    pass: &mut Pass<'_>,
    i: usize,
    weights: &DeviceModel,
    block: &Block,
) -> Result<(), BackendError> {
    let (layer, dims) = (&weights.layers[i], &pass.model.config.blocks[i]);
    if pass.is_poisoning {
        pass.scratch.poison()?;
    }
    let norm = &layer.norm;
    match (&layer.mixer, &dims.mixer, block) {
        (MixerWeights::Mamba(weights), MixerDims::Mamba(dims), Block::Scan(memory)) => {
            mamba::run(pass, i, norm, weights, dims, memory)?;
        }
        (MixerWeights::Mamba2(weights), MixerDims::Mamba2(dims), Block::Scan(memory)) => {
            mamba2::run(pass, i, norm, weights, dims, memory)?;
        }
        (MixerWeights::Attention(weights), MixerDims::Attention(dims), Block::Attention(cache)) => {
            attention::run(pass, i, norm, weights, dims, cache)?;
        }
        (_, dims, _) => {
            return Err(BackendError::Device(format!(
                "Layer {i} is said to be {} and has other weights: load the checkpoint again.",
                dims.title()
            )));
        }
    }
    if let Some((norm, network)) = &layer.feed_forward {
        let top = match dims.feed_forward {
            Some(FeedForwardDims::Experts { top, .. }) => top,
            _ => 0,
        };
        feed_forward::run(pass, i, norm, network, top)?;
    }
    pass.record_stream(Site::layer(i, Probe::BlockOutput))
}

/// Scores of the last token, or of all when they are watched.
fn head(
    pass: &mut Pass<'_>,
    weights: &DeviceModel,
    logits: &mut Buffer<f32>,
) -> Result<(), BackendError> {
    let (tokens, width, vocab) = (pass.tokens, pass.width(), logits.len());
    let scratch = pass.scratch;
    let row_of_scores = Rows::of(logits, 0, vocab);
    let (hidden, scores) = (Site::model(Probe::FinalHidden), Site::model(Probe::Logits));
    if !pass.wants(hidden) && !pass.wants(scores) {
        let last = Rows::of(&scratch.x, (tokens - 1) * width, width);
        let product = Product {
            rows: 1,
            ..pass.matrix_product(last, weights.head(), row_of_scores)
        };
        return product.run_normed(pass.gpu, pass.norm_with(&weights.final_norm));
    }
    pass.norm(&weights.final_norm, Some(hidden))?;
    if !pass.wants(scores) {
        let last = Rows::of(&scratch.norm, (tokens - 1) * width, width);
        let product = Product {
            rows: 1,
            ..pass.matrix_product(last, weights.head(), row_of_scores)
        };
        return product.run(pass.gpu);
    }
    let all = Buffer::<f32>::new(scratch.x.gpu(), Use::Activations, tokens * vocab)?;
    pass.matrix_product(pass.normed(), weights.head(), Rows::of(&all, 0, vocab))
        .run(pass.gpu)?;
    pass.record(scores, &all, [0, vocab], &[tokens, vocab])?;
    logits.copy_from(&all, (tokens - 1) * vocab, vocab)
}

impl Drop for CudaSession {
    /// The weights may go with the last session; nothing may still read them then.
    fn drop(&mut self) {
        // Who drops a session whose device has failed has heard of it.
        let _ = self.gpu.wait();
    }
}

impl Session for CudaSession {
    fn prefill(&mut self, ids: &[u32], tap: &mut dyn Tap) -> Result<(), BackendError> {
        self.read(ids, false, tap)
    }

    fn step(&mut self, id: u32, tap: &mut dyn Tap) -> Result<(), BackendError> {
        self.read(&[id], true, tap)
    }

    fn logits(&mut self) -> Result<&[f32], BackendError> {
        if !self.seen.logits {
            self.device_logits.download_to(0, &mut self.logits)?;
            self.seen.logits = true;
        }
        Ok(&self.logits)
    }

    fn pick(
        &mut self,
        sampler: &mut Sampler,
        history: &[u32],
        sampling: &Sampling,
        known: usize,
    ) -> Result<u32, BackendError> {
        let is_greedy = !(sampling.temperature > 0.0) && sampling.repetition_penalty == 1.0;
        if self.position > 0 && can_draw(sampling) {
            let drawer = match &mut self.drawer {
                Some(drawer) => drawer,
                None => self
                    .drawer
                    .insert(Drawer::new(&self.gpu, self.device_logits.len())?),
            };
            let drawn = drawer.draw(&self.device_logits, history, sampling, known)?;
            if let Some(id) = drawn {
                return Ok(id);
            }
        }
        if !is_greedy || self.position == 0 {
            return Ok(sampler.pick(self.logits()?, history, sampling, known));
        }
        let choice = match self.seen.choice {
            Some(choice) => choice,
            None => self.choice.read()? as u32,
        };
        self.seen.choice = Some(choice);
        Ok(choice)
    }

    fn model(&self) -> &Arc<Model> {
        &self.model
    }

    fn state(&self) -> Result<State, BackendError> {
        let layers = self.blocks.iter().map(|block| match block {
            Block::Scan(memory) => Ok(LayerState::Recurrent(memory.state()?)),
            Block::Attention(cache) => Ok(LayerState::Attention(cache.state(self.position)?)),
        });
        let logits_v = if self.position == 0 {
            None
        } else if self.seen.logits {
            Some(self.logits.clone())
        } else {
            Some(self.device_logits.download(0, self.device_logits.len())?)
        };
        Ok(State {
            position: self.position,
            layers: layers.collect::<Result<_, BackendError>>()?,
            logits_v,
        })
    }

    fn scan_states(&self) -> Result<Vec<Option<RecurrentState>>, BackendError> {
        let states = self.blocks.iter().map(|block| match block {
            Block::Scan(memory) => memory.state().map(Some),
            Block::Attention(_) => Ok(None),
        });
        states.collect()
    }

    fn state_bytes(&self) -> StateBytes {
        let mut bytes = StateBytes::default();
        for block in &self.blocks {
            match block {
                Block::Scan(memory) => {
                    let (conv, ssm) = memory.bytes();
                    bytes.conv += conv;
                    bytes.ssm += ssm;
                }
                Block::Attention(cache) => bytes.kv += cache.bytes_of(self.position),
            }
        }
        bytes
    }

    fn set_state(&mut self, state: &State) -> Result<(), BackendError> {
        state.check(&self.model.config)?;
        // The captured pass names buffers that may move.
        self.step = None;
        for (block, layer) in self.blocks.iter_mut().zip(&state.layers) {
            if let (Block::Attention(cache), LayerState::Attention(state)) = (block, layer) {
                cache.grow(state.keys.nrows(), self.position)?;
            }
        }
        self.is_torn = true;
        for (block, layer) in self.blocks.iter_mut().zip(&state.layers) {
            match (block, layer) {
                (Block::Scan(memory), LayerState::Recurrent(state)) => memory.set_state(state)?,
                (Block::Attention(cache), LayerState::Attention(state)) => {
                    cache.set_state(state)?
                }
                // The check above has refused what does not fit.
                _ => {}
            }
        }
        self.position = state.position;
        self.device_position.upload(&[state.position as i32])?;
        match &state.logits_v {
            Some(logits_v) => self.logits.copy_from_slice(logits_v),
            None => self.logits.fill(0.0),
        }
        self.device_logits.upload(&self.logits)?;
        self.end(0, false)?;
        self.seen = Seen {
            logits: true,
            choice: None,
        };
        self.is_torn = false;
        Ok(())
    }
}
