//! What a session remembers between tokens: small, of fixed size, and open to inspection.

use ndarray::Array2;
use thiserror::Error;

use crate::model::Config;

/// Recurrent state of one block.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerState {
    /// The last `k` inputs of the convolution before it, oldest first, zeros before the text's start; `[d, k]`.
    pub conv_dk: Array2<f32>,
    /// h after the last token, `[d, n]`.
    pub ssm_dn: Array2<f32>,
}

/// State of a whole model after `position` tokens. A plain value: clone it to keep it, change it, give it back to a session.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// Tokens seen.
    pub position: usize,
    /// One a block.
    pub layers: Vec<LayerState>,
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

impl State {
    /// The state before the first token.
    pub fn zeros(config: &Config) -> Self {
        let dims = config.mamba;
        let layer = LayerState {
            conv_dk: Array2::zeros((dims.d_inner, dims.d_conv)),
            ssm_dn: Array2::zeros((dims.d_inner, dims.d_state)),
        };
        Self {
            position: 0,
            layers: vec![layer; config.n_layers],
        }
    }

    /// Bytes of the arrays: the same however long the text.
    pub fn bytes(&self) -> usize {
        self.layers
            .iter()
            .map(|layer| (layer.conv_dk.len() + layer.ssm_dn.len()) * size_of::<f32>())
            .sum()
    }

    /// Whether the arrays have the model's sizes.
    ///
    /// # Errors
    /// Names the first part that does not.
    pub fn check(&self, config: &Config) -> Result<(), StateError> {
        let dims = config.mamba;
        let fail = |what: String, wanted: String, found: String| {
            Err(StateError {
                what,
                wanted,
                found,
            })
        };
        if self.layers.len() != config.n_layers {
            return fail(
                "number of layers".into(),
                config.n_layers.to_string(),
                self.layers.len().to_string(),
            );
        }
        for (i, layer) in self.layers.iter().enumerate() {
            for (name, found, wanted) in [
                (
                    "convolution window",
                    layer.conv_dk.dim(),
                    (dims.d_inner, dims.d_conv),
                ),
                (
                    "hidden state",
                    layer.ssm_dn.dim(),
                    (dims.d_inner, dims.d_state),
                ),
            ] {
                if found != wanted {
                    return fail(
                        format!("layer {i}, {name}"),
                        format!("{wanted:?}"),
                        format!("{found:?}"),
                    );
                }
            }
        }
        Ok(())
    }

    /// The largest absolute difference of any entry; NaN when either holds one.
    ///
    /// # Errors
    /// When the two have different sizes.
    pub fn max_difference(&self, other: &State) -> Result<f32, StateError> {
        let sizes = |state: &State| -> Vec<_> {
            state
                .layers
                .iter()
                .map(|l| (l.conv_dk.dim(), l.ssm_dn.dim()))
                .collect()
        };
        let (wanted, found) = (sizes(self), sizes(other));
        if wanted != found {
            let what = "sizes of two states to compare".into();
            return Err(StateError {
                what,
                wanted: format!("{wanted:?}"),
                found: format!("{found:?}"),
            });
        }
        let pairs = self.layers.iter().zip(&other.layers);
        let differences = pairs.flat_map(|(left, right)| {
            let conv = left.conv_dk.iter().zip(&right.conv_dk);
            conv.chain(left.ssm_dn.iter().zip(&right.ssm_dn))
                .map(|(l, r)| (l - r).abs())
        });
        // `f32::max` would drop a NaN, and a NaN must not pass for agreement.
        Ok(differences.fold(
            0.0,
            |worst, d| if d.is_nan() || worst < d { d } else { worst },
        ))
    }
}
