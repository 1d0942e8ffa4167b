//! Drills on bytes: of states, of caches, of a server, and what they cost beside the weights.

use std::fmt;

use mambascope_core::model::Config;
use mambascope_core::state::StateBytes;
use mambascope_core::tensor::Dtype;

use super::{Draw, Drawn, DrillEntry, DrillError, Task};
use crate::notebook::trial::exact_number;
use crate::practice::bank::Level;

/// Bytes of a mebibyte.
pub(super) const MIB: f64 = 1_048_576.0;
const GIB: f64 = 1024.0 * MIB;
/// Layers and width of the models that were published as Mamba-1.
const SHAPES: [(usize, usize); 5] = [(24, 768), (48, 1024), (48, 1536), (48, 2048), (64, 2560)];
/// Bytes of a value, and what the form is called.
const DTYPES: [(usize, &str); 3] = [(4, "float32"), (2, "bfloat16"), (2, "float16")];

/// The sizes of a Mamba-1 model.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub layers: usize,
    pub width: usize,
    pub slots: usize,
}

impl Shape {
    pub fn draw(draw: &mut Draw) -> Self {
        let (layers, width) = draw.pick(&SHAPES);
        Self {
            layers,
            width,
            slots: draw.pick(&[8, 16, 32, 64]),
        }
    }

    /// Channels of a block: expand is 2.
    pub fn inner(self) -> usize {
        2 * self.width
    }

    /// As the engine would read it from a checkpoint.
    pub fn config(self) -> Result<Config, DrillError> {
        let json = serde_json::json!({
            "model_type": "mamba",
            "num_hidden_layers": self.layers,
            "hidden_size": self.width,
            "state_size": self.slots,
            "conv_kernel": 4,
            "expand": 2,
            "vocab_size": 1024,
        });
        Ok(Config::from_json(&json.to_string())?)
    }

    /// Bytes of the hidden states of all layers, in f32.
    pub fn hidden_bytes(self) -> Result<f64, DrillError> {
        Ok(StateBytes::formula(&self.config()?, 0).ssm as f64)
    }

    /// How [`Self::session_bytes`] is worked out.
    fn session_in_words(self) -> String {
        format!(
            "{} · {} · ({} + 3) · 4",
            self.layers,
            self.inner(),
            self.slots
        )
    }

    /// Bytes of hidden states and the last three inputs of each convolution, in f32. The engine keeps a fourth.
    pub fn session_bytes(self) -> Result<f64, DrillError> {
        let bytes = StateBytes::formula(&self.config()?, 0);
        Ok(bytes.ssm as f64 + bytes.conv as f64 * 3.0 / 4.0)
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            layers,
            width,
            slots,
        } = self;
        write!(
            f,
            "Mamba-1 model ({layers} layers, width {width}, expand 2, N = {slots})"
        )
    }
}

/// Bytes that one token of a Transformer's cache takes, in f32.
fn cache_bytes(layers: usize, width: usize) -> Result<f64, DrillError> {
    let json = serde_json::json!({
        "model_type": "llama",
        "num_hidden_layers": layers,
        "hidden_size": width,
        "intermediate_size": width,
        "num_attention_heads": width / 64,
        "num_key_value_heads": width / 64,
        "vocab_size": 1024,
        "rms_norm_eps": 1e-5,
    });
    let config = Config::from_json(&json.to_string())?;
    Ok(StateBytes::formula(&config, 1).kv as f64)
}

pub(super) const STATE_BYTES: DrillEntry = DrillEntry {
    id: "drill-state-bytes",
    topic: "foundations",
    level: Level::Basic,
    title: "Size of a hidden state",
    lesson: "why-compress",
    draw: |draw| {
        let shape = Shape::draw(draw);
        let (bytes, name) = draw.pick(&DTYPES);
        let share = bytes as f64 / Dtype::F32.size() as f64;
        let answer = shape.hidden_bytes()? * share / MIB;
        Ok(Drawn {
            text: format!(
                "How large are the hidden states of one sequence of a {shape} in {name}, all layers together, without the \
                 convolutions' windows?"
            ),
            task: Task::number("MiB", 0.03, answer),
            working: format!(
                "layers · (2 · width) · N · bytes of a value = {} · {} · {} · {bytes} = {} bytes; over 2²⁰ that is **{} MiB**.",
                shape.layers,
                shape.inner(),
                shape.slots,
                exact_number(answer * MIB),
                exact_number(answer)
            ),
        })
    },
};

pub(super) const KV_CROSSING: DrillEntry = DrillEntry {
    id: "drill-kv-crossing",
    topic: "foundations",
    level: Level::Intermediate,
    title: "Tokens until the cache passes the state",
    lesson: "why-compress",
    draw: |draw| {
        let shape = Shape::draw(draw);
        let ratio = draw.pick(&[1usize, 2]);
        let attention_layers = shape.layers / ratio;
        let state = shape.session_bytes()?;
        // Half the engine's f32.
        let token = cache_bytes(attention_layers, shape.width)? / 2.0;
        let answer = state / token;
        Ok(Drawn {
            text: format!(
                "A {shape} keeps its hidden states and the last 3 inputs \
                 of each convolution in float32. A Transformer of {attention_layers} layers and the same width keeps keys and values \
                 in float16, a head of its own for every query head. After how many tokens is the cache as large as the state?"
            ),
            task: Task::number("tokens", 0.04, answer),
            working: format!(
                "State: {} = {} bytes. Cache: 2 · {attention_layers} · {} · 2 = {} bytes a token. The one over the other is \
                 **{} tokens**; the width cancels.",
                shape.session_in_words(),
                exact_number(state),
                shape.width,
                exact_number(token),
                exact_number(answer)
            ),
        })
    },
};

pub(super) const SERVER_POOL: DrillEntry = DrillEntry {
    id: "drill-server-pool",
    topic: "deployment",
    level: Level::Intermediate,
    title: "A server's pool of states",
    lesson: "why-compress",
    draw: |draw| {
        let shape = Shape::draw(draw);
        let sessions = draw.pick(&[64usize, 128, 256, 512, 1024]);
        let one = shape.session_bytes()?;
        let answer = one * sessions as f64 / GIB;
        Ok(Drawn {
            text: format!(
                "A server holds {sessions} sessions of a {shape} in float32: for each the hidden states and the last 3 inputs of every convolution. How much memory is that?"
            ),
            task: Task::number("GiB", 0.03, answer),
            working: format!(
                "One session: {} = {} bytes, {} MiB. Times {sessions}, over 2³⁰: **{} GiB**, however long the texts are.",
                shape.session_in_words(),
                exact_number(one),
                exact_number(one / MIB),
                exact_number(answer)
            ),
        })
    },
};

/// Parameters of one block, as the engine lists its tensors.
fn block_parameters(config: &Config) -> f64 {
    let entry = config.family.entry();
    let tensors = entry.tensors(config);
    let all: usize = tensors
        .iter()
        .map(|spec| spec.shape.iter().product::<usize>())
        .sum();
    // Embedding and head, and the last norm.
    let outside = 2 * config.vocab_size * config.d_model + config.d_model;
    (all - outside.min(all)) as f64 / config.n_layers().max(1) as f64
}

pub(super) const BREAK_EVEN_BATCH: DrillEntry = DrillEntry {
    id: "drill-break-even-batch",
    topic: "deployment",
    level: Level::Advanced,
    title: "The batch at which states cost as much as weights",
    lesson: "why-compress",
    draw: |draw| {
        let shape = Shape::draw(draw);
        let config = shape.config()?;
        let weights = 2.0 * block_parameters(&config);
        let state = shape.hidden_bytes()? / shape.layers as f64;
        let answer = weights / (2.0 * state);
        let (width, slots) = (shape.width, shape.slots);
        Ok(Drawn {
            text: format!(
                "One decoding step reads each block's weights once for the whole batch, in float16, and reads and writes the hidden state \
                 of each sequence, in float32. For Mamba-1 of width {width}, expand 2, N = {slots}: at which batch do the states move as \
                 many bytes as the weights? A block has {} parameters.",
                exact_number(weights / 2.0)
            ),
            task: Task::number("sequences", 0.04, answer),
            working: format!(
                "Weights of a block: {} · 2 = {} bytes. State of one sequence, read and written: 2 · {} · {slots} · 4 = {} bytes. \
                 The one over the other is **{} sequences**.",
                exact_number(weights / 2.0),
                exact_number(weights),
                shape.inner(),
                exact_number(2.0 * state),
                exact_number(answer)
            ),
        })
    },
};

pub(super) const MAC_SHARE: DrillEntry = DrillEntry {
    id: "drill-mac-share",
    topic: "foundations",
    level: Level::Intermediate,
    title: "The scan's share of the multiplications",
    lesson: "mamba-block",
    draw: |draw| {
        let shape = Shape::draw(draw);
        let (width, slots) = (shape.width, shape.slots);
        let (inner, rank) = (shape.inner(), width.div_ceil(16));
        let projections = 3 * width * inner;
        let small = inner * (rank + 2 * slots) + rank * inner;
        let conv = 4 * inner;
        let scan = 4 * inner * slots;
        let all = projections + small + conv + scan;
        let answer = 100.0 * scan as f64 / all as f64;
        Ok(Drawn {
            text: format!(
                "A Mamba-1 block of width {width} has expand 2, N = {slots}, rank ⌈width/16⌉ = {rank} for Δ and a convolution over 4 tokens. \
                 Count the multiplications of one token; the scan's are Δ·A, Δu·B, Ā·h and C·h for each channel and slot. Which share of \
                 them is the scan's?"
            ),
            task: Task::number("%", 0.04, answer),
            working: format!(
                "in and out projections {} · {width} · 3 = {}; B, C and Δ {inner} · ({rank} + 2 · {slots}) + {rank} · {inner} = {}; \
                 convolution 4 · {inner} = {}; scan 4 · {inner} · {slots} = {}. The scan's share of {} is **{} %**.",
                inner,
                exact_number(projections as f64),
                exact_number(small as f64),
                exact_number(conv as f64),
                exact_number(scan as f64),
                exact_number(all as f64),
                exact_number(answer)
            ),
        })
    },
};
