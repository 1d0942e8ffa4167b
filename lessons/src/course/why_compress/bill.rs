//! The bill of a pair of models: its parts, its curves over the tokens, and what is measured of the pair in this program.

use std::ops::{ControlFlow, RangeInclusive};
use std::sync::Arc;

use mambascope_core::backend::Backend;
use mambascope_core::checkpoint::{Embedded, LoadError};
use mambascope_core::job::{JobError, ModelRef, Progress, Workshop};
use mambascope_core::model::{Config, Model};
use mambascope_core::study::Study;
use serde::{Deserialize, Serialize};

use super::ledger::{Sizes, Stored, crossing};
use super::pairs::PairId;
use super::weights::layer_weights;
use crate::course::reading_a_trained_mamba::records::chosen;
use crate::course::shared::refused;

/// Tokens the curves reach over.
pub const TOKENS: RangeInclusive<u64> = 1..=1_048_576;
/// Points of a curve.
const POINTS: usize = 160;
/// Lengths at which the embedded pair is measured.
const MEASURED: [usize; 8] = [1, 2, 4, 8, 16, 32, 64, 128];

/// What the curves are computed from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bill {
    /// Which pair.
    pub pair: PairId,
    /// Slots of a channel, `n`.
    pub slots: u64,
    /// Inner channels for each of the width.
    pub expand: u64,
    /// Layers of the model.
    pub layers: u64,
    /// How many of them are attention.
    pub attention: u64,
    /// How values of the state are stored.
    pub state: Stored,
    /// How values of the cache are stored.
    pub cache: Stored,
    /// Columns kept of a convolution's window.
    pub columns: u64,
    /// Texts at once.
    pub batch: u64,
}

impl Bill {
    /// Of a pair as it was published.
    pub fn of(pair: PairId) -> Self {
        let sizes = pair.pair().sizes;
        let is_own = pair == PairId::Own;
        Self {
            pair,
            slots: sizes.slots,
            expand: sizes.expand,
            layers: sizes.scans + sizes.attentions,
            attention: sizes.attentions,
            state: Stored::F32,
            // This program keeps all in four bytes, and a window of as many columns as the convolution has taps.
            cache: if is_own { Stored::F32 } else { Stored::F16 },
            columns: if is_own { 4 } else { 3 },
            batch: 1,
        }
    }

    /// Sizes of the model as the controls have them.
    pub fn sizes(&self) -> Sizes {
        let pair = self.pair.pair();
        Sizes {
            scans: self.layers.saturating_sub(self.attention),
            expand: self.expand,
            slots: self.slots,
            attentions: self.attention,
            kv_width: pair.sizes.kv_width.max(pair.other_sizes.kv_width),
            ..pair.sizes
        }
    }

    /// The parts of the bill, in bytes, all texts of the batch together.
    pub fn parts(&self) -> Parts {
        let (sizes, other) = (self.sizes(), self.pair.pair().other_sizes);
        let bytes = |values: u64, stored: Stored| (values * stored.bytes() * self.batch) as f64;
        Parts {
            hidden: bytes(sizes.hidden(), self.state),
            windows: bytes(sizes.windows(self.columns), self.state),
            own_of_a_token: bytes(sizes.kv_of_a_token(), self.cache),
            cache_of_a_token: bytes(other.kv_of_a_token(), self.cache),
        }
    }
}

/// Bytes by what they are for.
#[derive(Clone, Copy)]
pub struct Parts {
    /// Of the hidden states.
    pub hidden: f64,
    /// Of the convolutions' windows.
    pub windows: f64,
    /// What a token adds to the model's own cache.
    pub own_of_a_token: f64,
    /// What a token adds to the Transformer's.
    pub cache_of_a_token: f64,
}

impl Parts {
    /// All of the fixed state.
    pub fn state(&self) -> f64 {
        self.hidden + self.windows
    }

    /// Tokens after which both are equal.
    pub fn crossing(&self) -> Option<f64> {
        crossing(self.state(), self.cache_of_a_token, self.own_of_a_token)
    }
}

/// The bill, and where the embedded pair is measured for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// The bill.
    pub bill: Bill,
    /// Name of the backend.
    pub backend: String,
}

/// What the controls give. Curves are points (log10 of tokens, log2 of bytes).
pub struct Towers {
    /// The parts of the bill.
    pub parts: Parts,
    /// Of the model.
    pub model: Vec<[f64; 2]>,
    /// Of the Transformer.
    pub cache: Vec<[f64; 2]>,
    /// Tokens after which both are equal.
    pub crossing: Option<f64>,
    /// Bytes of the buffers of the embedded pair, at the same kind of points.
    pub measured: Vec<[f64; 2]>,
    /// A sentence that says on which backend it was; none where nothing was measured.
    pub measured_on: Option<String>,
    /// Bytes of the weights of all layers in two bytes each, where the model is scans alone.
    pub weights: Option<f64>,
}

fn at(tokens: f64, bytes: f64) -> [f64; 2] {
    [tokens.log10(), bytes.max(1.0).log2()]
}

impl Study for Asked {
    type Answer = Towers;

    fn compute(
        &self,
        workshop: &mut Workshop,
        _: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Towers, JobError> {
        let bill = &self.bill;
        let parts = bill.parts();
        let last = (*TOKENS.end() as f64).log10();
        let curve = |bytes: &dyn Fn(f64) -> f64| {
            (0..=POINTS)
                .map(|i| 10f64.powf(last * i as f64 / POINTS as f64))
                .map(|tokens| at(tokens, bytes(tokens)))
                .collect()
        };
        let (mut measured, mut measured_on) = (Vec::new(), None);
        let config = if bill.pair == PairId::Own {
            let model = ModelRef(Arc::new(own("novel-mamba-3m")?));
            if *bill == Bill::of(PairId::Own) {
                let other = ModelRef(Arc::new(own("novel-transformer-4m")?));
                for model in [&model, &other] {
                    let (backend, elsewhere) = chosen(workshop, &self.backend, model)?;
                    measured.extend(measure(backend, model)?);
                    let on = || format!("Measured on the backend \"{}\".", backend.name());
                    measured_on = elsewhere.or(measured_on).or_else(|| Some(on()));
                }
            }
            model.config.clone()
        } else {
            Config::from_json(bill.pair.pair().config).map_err(refused)?
        };
        Ok(Towers {
            parts,
            model: curve(&|tokens| parts.state() + parts.own_of_a_token * tokens),
            cache: curve(&|tokens| parts.cache_of_a_token * tokens),
            crossing: parts.crossing(),
            measured,
            measured_on,
            weights: layer_weights(&config, &bill.sizes()).map(|weights| 2.0 * weights as f64),
        })
    }
}

/// A model of this program.
pub fn own(name: &str) -> Result<Model, JobError> {
    let found =
        Embedded::named(name).ok_or_else(|| refused(format!("there is no model {name}")))?;
    found.load().map_err(LoadError::into)
}

/// Bytes of a session's buffers while it reads.
fn measure(backend: &mut dyn Backend, model: &Arc<Model>) -> Result<Vec<[f64; 2]>, JobError> {
    let mut session = backend.open(model)?;
    let mut read = 0;
    let mut points = Vec::new();
    for tokens in MEASURED {
        let ids: Vec<u32> = (read..tokens).map(|i| i as u32 % 256).collect();
        session.prefill(&ids, &mut ())?;
        read = tokens;
        points.push(at(tokens as f64, session.state_bytes().total() as f64));
    }
    Ok(points)
}
