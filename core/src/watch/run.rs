//! Running a [`WatchJob`]: what a session has read and written stays, only the rest is computed.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::recorder::Recorder;
use super::rerun::Rerun;
use super::{BLOCK, Focus, LayerRecord, Speed, WatchJob, Watched};
use crate::backend::{Backend, BackendError, DEFAULT_CHUNK, Session, check_ids};
use crate::generate::{Finish, Sampler};
use crate::job::{Answer, Progress};

/// Partial answers are handed out no more often than this.
const PARTIAL_EVERY: Duration = Duration::from_millis(33);

/// One text being watched, kept between jobs.
pub struct Watch {
    /// The job's part that decides the text; what it asks to look at may change.
    text: WatchJob,
    session: Box<dyn Session>,
    sampler: Sampler,
    ids: Vec<u32>,
    /// How many of `ids` the session has read.
    read: usize,
    recorder: Recorder,
    replay: Option<Replay>,
    speed: Speed,
    finish: Option<Finish>,
}

/// The states of one layer, run again from the records to measure them.
struct Replay {
    layer: usize,
    /// Position of the next token to run.
    next: usize,
    state: Rerun,
    /// One a token from `from` on.
    from: usize,
    slot_norms: Vec<Arc<[f32]>>,
}

impl Watch {
    /// Starts a text.
    ///
    /// # Errors
    /// When the prompt is empty, holds an id outside the vocabulary, or the backend cannot run the model.
    pub fn open(job: &WatchJob, backend: &mut dyn Backend) -> Result<Self, BackendError> {
        check_ids(&job.prompt, job.model.config.vocab_size)?;
        let session = backend.open(&job.model)?;
        // Only the prompt's last tokens are recorded; the rest is read without looking.
        let unseen = job.prompt.len().saturating_sub(job.window.max(BLOCK)) / BLOCK * BLOCK;
        Ok(Self {
            recorder: Recorder::new(&job.model, job.window, unseen),
            text: job.clone(),
            session,
            sampler: Sampler::default(),
            ids: job.prompt.to_vec(),
            read: 0,
            replay: None,
            speed: Speed::default(),
            finish: None,
        })
    }

    /// Whether `job` is about this text, as far as it has been written.
    pub fn serves(&self, job: &WatchJob) -> bool {
        let WatchJob {
            model,
            backend,
            prompt,
            sampling,
            window,
            ..
        } = &self.text;
        (model, backend, prompt, sampling, window)
            == (
                &job.model,
                &job.backend,
                &job.prompt,
                &job.sampling,
                &job.window,
            )
            && job.write >= self.written()
    }

    fn written(&self) -> usize {
        self.ids.len() - self.text.prompt.len()
    }

    /// Reads and writes what is missing, then looks where `job` asks; `progress` may stop it between two tokens or chunks,
    /// which gives what there is, marked as cancelled.
    ///
    /// # Errors
    /// As the session's.
    pub fn run(
        &mut self,
        job: &WatchJob,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Watched, BackendError> {
        self.text.write = job.write;
        if self.finish != Some(Finish::EndOfText) {
            self.finish = None;
        }
        let mut last_partial = Instant::now();
        while self.finish.is_none() && self.advance(job.write)? {
            let prompt_len = job.prompt.len();
            let mut flow = progress(if self.written() == 0 {
                Progress::Count {
                    what: "reading the prompt",
                    done: self.read.min(prompt_len),
                    total: prompt_len,
                }
            } else {
                Progress::Count {
                    what: "writing",
                    done: self.written(),
                    total: job.write,
                }
            });
            if last_partial.elapsed() >= PARTIAL_EVERY {
                let partial = Answer::Watched(Arc::new(self.look(job)));
                flow = if progress(Progress::Partial(partial)).is_break() {
                    ControlFlow::Break(())
                } else {
                    flow
                };
                last_partial = Instant::now();
            }
            if flow.is_break() {
                self.finish = Some(Finish::Cancelled);
            }
        }
        Ok(self.look(job))
    }

    /// One chunk of the prompt, or one token of the text. False when there is nothing left to do.
    fn advance(&mut self, write: usize) -> Result<bool, BackendError> {
        let start = Instant::now();
        let prompt_len = self.text.prompt.len();
        if self.read < self.recorder.first && self.recorder.records.is_empty() {
            let end = (self.read + DEFAULT_CHUNK).min(self.recorder.first);
            self.session.prefill(&self.ids[self.read..end], &mut ())?;
            self.speed.prefill.0 += end - self.read;
            self.speed.prefill.1 += start.elapsed();
            self.read = end;
        } else if self.read < prompt_len {
            let end = ((self.read / BLOCK + 1) * BLOCK).min(prompt_len);
            let tokens = end - self.read;
            self.read_recorded(end)?;
            self.speed.prefill.0 += tokens;
            self.speed.prefill.1 += start.elapsed();
        } else if self.written() < write {
            let model = &self.text.model;
            let known = model
                .tokenizer
                .as_ref()
                .map_or(0, |tokenizer| tokenizer.len());
            let sampling = &self.text.sampling;
            let id = self
                .session
                .pick(&mut self.sampler, &self.ids, sampling, known)?;
            let end_of_text = model.config.eos.contains(&id);
            self.ids.push(id);
            self.recorder.before_chunk(|| self.session.scan_states())?;
            self.session.step(id, &mut self.recorder)?;
            self.recorder.after_chunk(&[id]);
            self.read = self.ids.len();
            self.speed.decode.0 += 1;
            self.speed.decode.1 += start.elapsed();
            if end_of_text {
                self.finish = Some(Finish::EndOfText);
            }
        } else {
            self.finish = Some(Finish::Limit);
            return Ok(false);
        }
        Ok(true)
    }

    /// Reads the ids up to `end`, which lies in the block of the next one, and records them.
    fn read_recorded(&mut self, end: usize) -> Result<(), BackendError> {
        let ids = &self.ids[self.read..end];
        self.recorder.before_chunk(|| self.session.scan_states())?;
        self.session.prefill(ids, &mut self.recorder)?;
        self.recorder.after_chunk(ids);
        self.read = end;
        Ok(())
    }

    /// What the job asks to see, of what there is.
    pub(crate) fn look(&mut self, job: &WatchJob) -> Watched {
        let layer = job.layer.min(self.text.model.config.n_layers() - 1);
        let recorded = self.recorder.first..self.recorder.end();
        let slot_norms = self.slot_norms(layer);
        let last = recorded.clone().next_back();
        let focus = last.and_then(|last| {
            let token = job
                .token
                .map_or(last, |token| token.clamp(recorded.start, last));
            Some(Focus {
                token,
                layer,
                h_nd: self.state_after(layer, token)?,
            })
        });
        Watched {
            model: self.text.model.clone(),
            ids: self.ids.as_slice().into(),
            prompt_len: self.text.prompt.len(),
            first: recorded.start,
            records: self.recorder.records.iter().cloned().collect(),
            layer,
            slot_norms,
            focus,
            state_bytes: self.session.state_bytes(),
            speed: self.speed,
            finish: self.finish,
        }
    }

    /// ‖h[·, n]‖ after every recorded token; continues where the last call stopped.
    fn slot_norms(&mut self, layer: usize) -> Vec<Arc<[f32]>> {
        let (first, end) = (self.recorder.first, self.recorder.end());
        if self.recorder.records.is_empty() {
            return Vec::new();
        }
        let mut replay = match self.replay.take() {
            Some(replay)
                if replay.layer == layer && replay.next >= first && replay.from <= first =>
            {
                replay
            }
            _ => match self.rerun(layer, 0) {
                Some(state) => Replay {
                    layer,
                    next: first,
                    state,
                    from: first,
                    slot_norms: Vec::new(),
                },
                None => return Vec::new(),
            },
        };
        replay.slot_norms.drain(..first - replay.from);
        replay.from = first;
        for position in replay.next..end {
            let record = &self.recorder.records[position - first].layers[layer];
            if let LayerRecord::Scan(record) = record {
                replay.state.apply(record);
            }
            replay.slot_norms.push(replay.state.slot_norms());
        }
        replay.next = end;
        let norms = replay.slot_norms.clone();
        self.replay = Some(replay);
        norms
    }

    /// h after the token at `position`, from the nearest kept state before it. `[n · d]`.
    fn state_after(&self, layer: usize, position: usize) -> Option<Arc<[f32]>> {
        let index = position - self.recorder.first;
        let mut state = self.rerun(layer, index / BLOCK)?;
        for record in self.recorder.records.range(index / BLOCK * BLOCK..=index) {
            if let LayerRecord::Scan(record) = &record.layers[layer] {
                state.apply(record);
            }
        }
        Some(state.into_h_nd())
    }

    /// The state of a layer before block `block`, as it was kept.
    fn rerun(&self, layer: usize, block: usize) -> Option<Rerun> {
        let model = &self.text.model;
        let kept = self.recorder.snapshots.get(block);
        let start = kept.and_then(|layers| layers.get(layer)?.as_ref());
        Rerun::new(&model.layers[layer], &model.config.blocks[layer], start)
    }
}
