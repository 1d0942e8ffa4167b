//! What a session remembers between tokens: of fixed size for a scan, growing for attention, and open to inspection.

use ndarray::Array2;
use thiserror::Error;

use crate::model::{Config, MixerDims};

/// What one block remembers.
#[derive(Clone, Debug, PartialEq)]
pub enum LayerState {
    /// Of a scan: the same size however long the text.
    Recurrent(RecurrentState),
    /// Of attention: a row a token.
    Attention(KvCache),
}

/// State of a Mamba-1 or Mamba-2 block. For Mamba-2, `d` = h · p and the convolution runs over `d` + 2gn channels.
#[derive(Clone, Debug, PartialEq)]
pub struct RecurrentState {
    /// The last `k` inputs of the convolution, `[channels, k]`, oldest first; zeros before the text.
    pub conv_dk: Array2<f32>,
    /// h after the last token, `[d, n]`.
    pub ssm_dn: Array2<f32>,
}

/// Keys and values of every token read, as attention uses them (rotated where there are positions).
#[derive(Clone, Debug, PartialEq)]
pub struct KvCache {
    /// `[tokens, kv_heads · head_dim]`.
    pub keys: Array2<f32>,
    /// `[tokens, kv_heads · head_dim]`.
    pub values: Array2<f32>,
}

/// State of a whole model after `position` tokens. A plain value: clone it to keep it, change it, give it back to a session.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// Tokens seen.
    pub position: usize,
    /// One a block.
    pub layers: Vec<LayerState>,
    /// Scores of the token to come, `[v]`; none before the first token. They are of the state as it was: whoever edits the layers
    /// clears them.
    pub logits_v: Option<Vec<f32>>,
}

/// Bytes of a state, by what they are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateBytes {
    /// Windows of the convolutions.
    pub conv: usize,
    /// Hidden states of the scans.
    pub ssm: usize,
    /// Keys and values of attention.
    pub kv: usize,
}

impl StateBytes {
    /// All of them.
    pub fn total(self) -> usize {
        self.conv + self.ssm + self.kv
    }

    /// What the sizes of a model say: fixed for the scans, and for attention so much for each of `tokens` tokens.
    /// The formula to hold against a session's buffers.
    pub fn formula(config: &Config, tokens: usize) -> Self {
        const F32: usize = size_of::<f32>();
        let mut bytes = Self::default();
        for block in &config.blocks {
            if let Some(dims) = block.mixer.recurrent() {
                bytes.conv += dims.conv_channels * dims.d_conv * F32;
                bytes.ssm += dims.d_inner * dims.d_state * F32;
            }
            if let Some(dims) = block.mixer.attention() {
                bytes.kv += 2 * tokens * dims.kv_width() * F32;
            }
        }
        bytes
    }
}

impl std::ops::AddAssign for StateBytes {
    fn add_assign(&mut self, other: Self) {
        self.conv += other.conv;
        self.ssm += other.ssm;
        self.kv += other.kv;
    }
}

/// A state that belongs to a model of other sizes.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "this state does not fit the model: {what}: wanted {wanted}, found {found}; take a snapshot from a session of the same model"
)]
pub struct StateError {
    /// Which part.
    pub what: String,
    /// What the model asks for.
    pub wanted: String,
    /// What the state holds.
    pub found: String,
}

impl StateError {
    fn new(what: String, wanted: impl std::fmt::Debug, found: impl std::fmt::Debug) -> Self {
        Self {
            what,
            wanted: format!("{wanted:?}"),
            found: format!("{found:?}"),
        }
    }
}

impl LayerState {
    fn zeros(mixer: &MixerDims) -> Self {
        match (mixer.recurrent(), mixer.attention()) {
            (Some(dims), _) => Self::Recurrent(RecurrentState {
                conv_dk: Array2::zeros((dims.conv_channels, dims.d_conv)),
                ssm_dn: Array2::zeros((dims.d_inner, dims.d_state)),
            }),
            (None, attention) => {
                let width = attention.map_or(0, |dims| dims.kv_width());
                Self::Attention(KvCache {
                    keys: Array2::zeros((0, width)),
                    values: Array2::zeros((0, width)),
                })
            }
        }
    }

    /// The state of a scan, if this is one.
    pub fn recurrent(&self) -> Option<&RecurrentState> {
        match self {
            Self::Recurrent(state) => Some(state),
            Self::Attention(_) => None,
        }
    }

    /// The state of a scan, to edit.
    pub fn recurrent_mut(&mut self) -> Option<&mut RecurrentState> {
        match self {
            Self::Recurrent(state) => Some(state),
            Self::Attention(_) => None,
        }
    }

    /// The cache of attention, if this is one.
    pub fn attention(&self) -> Option<&KvCache> {
        match self {
            Self::Attention(cache) => Some(cache),
            Self::Recurrent(_) => None,
        }
    }

    /// Its two arrays, each with a name for a reader.
    fn arrays(&self) -> [(&'static str, &Array2<f32>); 2] {
        match self {
            Self::Recurrent(state) => [
                ("convolution window", &state.conv_dk),
                ("hidden state", &state.ssm_dn),
            ],
            Self::Attention(cache) => [("keys", &cache.keys), ("values", &cache.values)],
        }
    }

    /// Bytes of its arrays.
    pub fn bytes(&self) -> StateBytes {
        let size = |array: &Array2<f32>| array.len() * size_of::<f32>();
        match self {
            Self::Recurrent(state) => StateBytes {
                conv: size(&state.conv_dk),
                ssm: size(&state.ssm_dn),
                kv: 0,
            },
            Self::Attention(cache) => StateBytes {
                kv: size(&cache.keys) + size(&cache.values),
                ..StateBytes::default()
            },
        }
    }
}

impl State {
    /// The state before the first token.
    pub fn zeros(config: &Config) -> Self {
        let layers = config.blocks.iter();
        Self {
            position: 0,
            layers: layers
                .map(|block| LayerState::zeros(&block.mixer))
                .collect(),
            logits_v: None,
        }
    }

    /// Bytes of the arrays.
    pub fn bytes(&self) -> StateBytes {
        let mut bytes = StateBytes::default();
        self.layers.iter().for_each(|layer| bytes += layer.bytes());
        bytes
    }

    /// Whether the arrays have the model's sizes, and every cache a row for each token seen.
    ///
    /// # Errors
    /// Names the first part that does not.
    pub fn check(&self, config: &Config) -> Result<(), StateError> {
        if self.layers.len() != config.n_layers() {
            let what = "number of layers".into();
            return Err(StateError::new(what, config.n_layers(), self.layers.len()));
        }
        if let Some(logits_v) = &self.logits_v
            && logits_v.len() != config.vocab_size
        {
            let what = "number of scores".into();
            return Err(StateError::new(what, config.vocab_size, logits_v.len()));
        }
        for (i, (layer, block)) in self.layers.iter().zip(&config.blocks).enumerate() {
            let wanted = match (block.mixer.recurrent(), block.mixer.attention(), layer) {
                (Some(dims), _, LayerState::Recurrent(_)) => [
                    (dims.conv_channels, dims.d_conv),
                    (dims.d_inner, dims.d_state),
                ],
                (_, Some(dims), LayerState::Attention(_)) => [(self.position, dims.kv_width()); 2],
                _ => {
                    let found = match layer {
                        LayerState::Recurrent(_) => "the state of a scan",
                        LayerState::Attention(_) => "keys and values",
                    };
                    let wanted = format!("that of {}", block.mixer.title());
                    return Err(StateError {
                        what: format!("layer {i}"),
                        wanted,
                        found: found.into(),
                    });
                }
            };
            for ((name, found), wanted) in layer.arrays().into_iter().zip(wanted) {
                if found.dim() != wanted {
                    return Err(StateError::new(
                        format!("layer {i}, {name}"),
                        wanted,
                        found.dim(),
                    ));
                }
            }
        }
        Ok(())
    }

    /// The largest absolute value of any entry of the layers; a NaN among them does not count.
    pub fn max_abs(&self) -> f32 {
        let arrays = self.layers.iter().flat_map(|layer| layer.arrays());
        let values = arrays.flat_map(|(_, array)| array.iter());
        values.fold(0.0, |most, value| most.max(value.abs()))
    }

    /// The largest absolute difference of any entry of the layers; NaN when either holds one.
    ///
    /// # Errors
    /// When the two have different sizes.
    pub fn max_difference(&self, other: &State) -> Result<f32, StateError> {
        let sizes = |state: &State| -> Vec<_> {
            let layers = state.layers.iter();
            layers
                .map(|layer| layer.arrays().map(|(name, array)| (name, array.dim())))
                .collect()
        };
        let (wanted, found) = (sizes(self), sizes(other));
        if wanted != found {
            let what = "sizes of two states to compare".into();
            return Err(StateError::new(what, wanted, found));
        }
        let pairs = self.layers.iter().zip(&other.layers);
        let arrays = pairs.flat_map(|(left, right)| left.arrays().into_iter().zip(right.arrays()));
        let differences = arrays.flat_map(|((_, left), (_, right))| {
            let pairs = left.iter().zip(right);
            pairs.map(|(l, r)| (l - r).abs())
        });
        // `f32::max` would drop a NaN, and a NaN must not pass for agreement.
        Ok(differences.fold(
            0.0,
            |worst, d| if d.is_nan() || worst < d { d } else { worst },
        ))
    }
}
