//! Several models on one text: what each token cost them in nats, in time, and in memory.
//!
//! The models stream in step: the one that has read the smallest part of the text goes next, token by token, so that models with
//! different tokenizers are at the same place. Then each may write on, from the same seed.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ndarray::{ArrayViewD, Axis};

use crate::backend::{Backend, BackendError, Session};
use crate::generate::{Sampler, Sampling, log_sum_exp};
use crate::job::{Answer, JobError, ModelRef, Progress, prompt_ids};
use crate::model::Model;
use crate::state::StateBytes;
use crate::trace::{Probe, Site, Tap};

/// Attention is recorded for so many tokens: a map of more could not be looked at, and its memory grows with the square.
pub const MAP_TOKENS: usize = 512;

/// Partial answers are handed out no more often than this.
const PARTIAL_EVERY: Duration = Duration::from_millis(100);

/// Which models, and on what.
#[derive(Clone, Debug, PartialEq)]
pub struct CompareJob {
    /// The models, each a lane.
    pub models: Vec<ModelRef>,
    /// Name of the backend.
    pub backend: String,
    /// What all read.
    pub text: Arc<str>,
    /// How many tokens each writes after it.
    pub write: usize,
    /// How they are chosen.
    pub sampling: Sampling,
}

/// One token in one lane.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// The token.
    pub id: u32,
    /// −ln p(token | text before), in nats; absent for the first.
    pub nats: Option<f32>,
    /// Bytes of text it stands for; 0 where a model has no tokenizer.
    pub bytes: u32,
    /// How long the model took to read it.
    pub time: Duration,
    /// Bytes in use in the state's buffers after it.
    pub state: StateBytes,
}

/// What one model made of the text.
#[derive(Clone, Debug)]
pub struct Lane {
    /// The model.
    pub model: ModelRef,
    /// Tokens of the text that was given.
    pub given: usize,
    /// One a token read, given and then written.
    pub points: Vec<Point>,
    /// Attention of the first [`MAP_TOKENS`] tokens by layer: for each token its heads' weights, as many a head as tokens so far.
    pub attention: BTreeMap<usize, Vec<Arc<[f32]>>>,
}

/// Sums over the tokens of the given text that were predicted.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Total {
    /// Tokens predicted: all but the first.
    pub tokens: usize,
    /// −ln p of them all together.
    pub nats: f64,
    /// Bytes they stand for.
    pub bytes: usize,
}

impl Total {
    /// Nats a token.
    pub fn nats_a_token(&self) -> f64 {
        self.nats / self.tokens as f64
    }

    /// Bits a byte: what can be compared between tokenizers.
    pub fn bits_a_byte(&self) -> f64 {
        self.nats / std::f64::consts::LN_2 / self.bytes as f64
    }
}

impl Lane {
    /// Over the given text as far as it has been read.
    pub fn total(&self) -> Total {
        let mut total = Total::default();
        for point in self.points.iter().take(self.given) {
            if let Some(nats) = point.nats {
                total.tokens += 1;
                total.nats += f64::from(nats);
                total.bytes += point.bytes as usize;
            }
        }
        total
    }

    /// Whether the buffers hold after every token exactly what the sizes of the model say.
    pub fn ledger_agrees(&self) -> bool {
        let config = &self.model.config;
        let mut points = self.points.iter().enumerate();
        points.all(|(i, point)| point.state == StateBytes::formula(config, i + 1))
    }

    /// Median time of the last `count` tokens.
    pub fn pace(&self, count: usize) -> Option<Duration> {
        let last = self.points.iter().rev().take(count);
        let mut times: Vec<Duration> = last.map(|point| point.time).collect();
        times.sort_unstable();
        times.get(times.len() / 2).copied()
    }

    /// What was written after the given text.
    pub fn written(&self) -> String {
        let ids: Vec<u32> = self
            .points
            .iter()
            .skip(self.given)
            .map(|point| point.id)
            .collect();
        match &self.model.tokenizer {
            Some(tokenizer) => tokenizer.decode(&ids),
            None => ids.iter().map(|id| format!(" {id}")).collect(),
        }
    }
}

/// What was compared so far.
#[derive(Clone, Debug, Default)]
pub struct Compared {
    /// One a model, in the job's order.
    pub lanes: Vec<Lane>,
    /// Whether all models cut the given text into the same tokens, so that nats a token can be compared.
    pub same_tokens: bool,
    /// Whether it was stopped on request.
    pub cancelled: bool,
}

impl Compared {
    /// Every number of every lane, a row a token.
    pub fn csv(&self) -> String {
        let mut text =
            "model,position,token_id,given,nats,bytes,microseconds,conv_bytes,ssm_bytes,kv_bytes\n"
                .to_owned();
        for lane in &self.lanes {
            for (i, point) in lane.points.iter().enumerate() {
                let nats = point.nats.map_or_else(String::new, |nats| nats.to_string());
                text += &format!(
                    "{},{i},{},{},{nats},{},{},{},{},{}\n",
                    lane.model.name.replace([',', '"', '\n'], " "),
                    point.id,
                    i < lane.given,
                    point.bytes,
                    point.time.as_micros(),
                    point.state.conv,
                    point.state.ssm,
                    point.state.kv,
                );
            }
        }
        text
    }
}

/// After how many tokens the cache of `growing` is larger than the state of `other`, if it ever is and was not from the start.
pub fn crossing(growing: &Model, other: &Model) -> Option<usize> {
    let bytes = |model: &Model, tokens: usize| StateBytes::formula(&model.config, tokens).total();
    let gap = bytes(other, 0).checked_sub(bytes(growing, 0))?;
    let rate = |model: &Model| bytes(model, 1) - bytes(model, 0);
    let gain = rate(growing)
        .checked_sub(rate(other))
        .filter(|&gain| gain > 0)?;
    Some(gap / gain + 1)
}

/// One model at work.
struct Runner {
    session: Box<dyn Session>,
    ids: Vec<u32>,
    sampler: Sampler,
    lane: Lane,
    /// Bytes of text read, and of the text.
    bytes: usize,
    text_bytes: usize,
    ended: bool,
}

/// Keeps the weights of attention.
struct Maps<'a>(&'a mut BTreeMap<usize, Vec<Arc<[f32]>>>);

impl Tap for Maps<'_> {
    fn wants(&self, site: Site) -> bool {
        site.probe == Probe::Attention
    }

    fn record(&mut self, site: Site, value: ArrayViewD<'_, f32>) {
        if let Some(layer) = site.layer {
            let of_token = value.index_axis(Axis(0), 0);
            let weights = of_token.iter().copied().collect();
            self.0.entry(layer).or_default().push(weights);
        }
    }
}

impl Runner {
    fn open(model: &ModelRef, text: &str, backend: &mut dyn Backend) -> Result<Self, JobError> {
        let ids = prompt_ids(model, text)
            .map_err(|error| JobError::Prompt(format!("{}: {error}", model.name)))?;
        crate::backend::check_ids(&ids, model.config.vocab_size)?;
        Ok(Self {
            session: backend.open(model)?,
            lane: Lane {
                model: model.clone(),
                given: ids.len(),
                points: Vec::new(),
                attention: BTreeMap::new(),
            },
            ids,
            sampler: Sampler::default(),
            bytes: 0,
            text_bytes: text.len(),
            ended: false,
        })
    }

    /// The share of the given text that has been read: by bytes, or by tokens where a model has no tokenizer to tell.
    fn share(&self) -> f64 {
        if self.lane.model.tokenizer.is_some() {
            self.bytes as f64 / self.text_bytes.max(1) as f64
        } else {
            self.lane.points.len() as f64 / self.lane.given as f64
        }
    }

    fn is_reading(&self) -> bool {
        self.lane.points.len() < self.lane.given
    }

    /// Tokens written so far.
    fn written(&self) -> usize {
        self.lane.points.len().saturating_sub(self.lane.given)
    }

    /// Reads the next given token, or one chosen now.
    fn advance(&mut self, sampling: &Sampling) -> Result<(), BackendError> {
        let position = self.lane.points.len();
        let model = self.lane.model.clone();
        let is_given = position < self.ids.len();
        if !is_given {
            let known = model
                .tokenizer
                .as_ref()
                .map_or(0, |tokenizer| tokenizer.len());
            let id = self
                .session
                .pick(&mut self.sampler, &self.ids, sampling, known)?;
            self.ids.push(id);
            self.ended = model.config.eos.contains(&id);
        }
        let id = self.ids[position];
        let scores = self.session.logits()?;
        let nats = (position > 0).then(|| log_sum_exp(scores) - scores[id as usize]);
        let start = Instant::now();
        let mut maps = Maps(&mut self.lane.attention);
        let tap: &mut dyn Tap = if position < MAP_TOKENS {
            &mut maps
        } else {
            &mut ()
        };
        if is_given {
            self.session.prefill(&[id], tap)?;
        } else {
            self.session.step(id, tap)?;
        }
        let time = start.elapsed();
        let bytes = model
            .tokenizer
            .as_ref()
            .and_then(|tokenizer| tokenizer.bytes_of(id))
            .map_or(0, <[u8]>::len);
        self.bytes += bytes;
        self.lane.points.push(Point {
            id,
            nats,
            bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
            time,
            state: self.session.state_bytes(),
        });
        Ok(())
    }
}

/// Runs the models in step; `progress` may stop them, which gives what there is.
///
/// # Errors
/// When the text is none for one of the models, or the backend refuses one.
pub fn compare(
    job: &CompareJob,
    backend: &mut dyn Backend,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Compared, JobError> {
    let mut runners: Vec<Runner> = job
        .models
        .iter()
        .map(|model| Runner::open(model, &job.text, backend))
        .collect::<Result<_, _>>()?;
    let total: usize = runners
        .iter()
        .map(|runner| runner.ids.len() + job.write)
        .sum();
    let (mut done, mut last_partial) = (0, Instant::now());
    loop {
        // While there is text to read, by the share of it; then by tokens written.
        let reading = runners.iter_mut().filter(|runner| runner.is_reading());
        let next = match reading.min_by(|a, b| a.share().total_cmp(&b.share())) {
            Some(runner) => runner,
            None => {
                let writing = runners
                    .iter_mut()
                    .filter(|runner| !runner.ended && runner.written() < job.write);
                match writing.min_by_key(|runner| runner.written()) {
                    Some(runner) => runner,
                    None => break,
                }
            }
        };
        next.advance(&job.sampling)?;
        done += 1;
        let mut flow = progress(Progress::Count {
            what: "tokens",
            done,
            total,
        });
        if last_partial.elapsed() >= PARTIAL_EVERY && flow.is_continue() {
            let partial = Answer::Compared(Arc::new(collect(&runners, false)));
            flow = progress(Progress::Partial(partial));
            last_partial = Instant::now();
        }
        if flow.is_break() {
            return Ok(collect(&runners, true));
        }
    }
    Ok(collect(&runners, false))
}

fn collect(runners: &[Runner], cancelled: bool) -> Compared {
    let given = |runner: &Runner| runner.ids.get(..runner.lane.given).map(<[u32]>::to_vec);
    Compared {
        same_tokens: runners
            .windows(2)
            .all(|pair| given(&pair[0]) == given(&pair[1])),
        lanes: runners.iter().map(|runner| runner.lane.clone()).collect(),
        cancelled,
    }
}
