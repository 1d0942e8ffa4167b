//! The readable backend: plain loops in the order of the formulas, one thread, f32 or f64.
//!
//! [`mamba`] is the file to read beside the paper; [`layers`] holds the pieces every network has.

mod layers;
mod mamba;

use std::sync::Arc;

use ndarray::{Array1, Array2};

use self::layers::{linear, rms_norm, row};
use self::mamba::{MixerState, mamba_mixer};
use super::{Backend, BackendError, Session, check_ids};
use crate::model::Model;
use crate::scan::{Real, ScanInput, ScanOutput, sequential};
use crate::state::{LayerState, State};
use crate::trace::{Probe, Site, Tap};

/// Number type of the computation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// As models run.
    #[default]
    Single,
    /// To see what rounding does. A snapshot of the state is still rounded to f32.
    Double,
}

/// The readable backend.
#[derive(Clone, Copy, Debug, Default)]
pub struct NaiveBackend {
    /// Number type of the computation.
    pub precision: Precision,
}

impl Backend for NaiveBackend {
    fn name(&self) -> &'static str {
        "naive"
    }

    fn open(&mut self, model: &Arc<Model>) -> Result<Box<dyn Session>, BackendError> {
        Ok(match self.precision {
            Precision::Single => {
                model.widen();
                Box::new(NaiveSession::<f32>::new(model))
            }
            Precision::Double => Box::new(NaiveSession::<f64>::new(model)),
        })
    }

    fn scan(&mut self, input: &ScanInput<'_, f32>) -> Result<ScanOutput<f32>, BackendError> {
        Ok(sequential(input, |_, _| {})?)
    }
}

struct NaiveSession<T> {
    model: Arc<Model>,
    position: usize,
    layers: Vec<MixerState<T>>,
    logits_v: Vec<f32>,
}

impl<T: Real> NaiveSession<T> {
    fn new(model: &Arc<Model>) -> Self {
        let dims = &model.config.mamba;
        Self {
            model: Arc::clone(model),
            position: 0,
            layers: (0..model.config.n_layers)
                .map(|_| MixerState::zeros(dims))
                .collect(),
            logits_v: vec![0.0; model.config.vocab_size],
        }
    }
}

impl<T: Real> Session for NaiveSession<T> {
    fn prefill(&mut self, ids: &[u32], tap: &mut dyn Tap) -> Result<(), BackendError> {
        let model = Arc::clone(&self.model);
        let config = &model.config;
        check_ids(ids, config.vocab_size)?;

        // x[l] = embedding[id[l]]
        let embedding_ve = T::weights(&model.embedding);
        let mut x_le = Array2::from_shape_fn((ids.len(), config.d_model), |(l, e)| {
            embedding_ve[ids[l] as usize * config.d_model + e]
        });
        record(tap, Site::model(Probe::Embedded), &x_le);

        // x ← x + mixer(RMSNorm(x)), block after block
        for (i, (layer, state)) in model.layers.iter().zip(&mut self.layers).enumerate() {
            let norm_le = rms_norm(&x_le, &layer.norm, config.norm_eps);
            record(tap, Site::layer(i, Probe::NormOut), &norm_le);
            let out_le = mamba_mixer(&norm_le, &layer.mixer, &config.mamba, state, i, tap)?;
            x_le += &out_le;
            record(tap, Site::layer(i, Probe::BlockOutput), &x_le);
        }

        // logits = RMSNorm(x) · Wᵀ; only the last token's unless all are asked for
        let hidden_le = rms_norm(&x_le, &model.final_norm, config.norm_eps);
        record(tap, Site::model(Probe::FinalHidden), &hidden_le);
        let wanted_le = if tap.wants(Site::model(Probe::Logits)) {
            hidden_le
        } else {
            row(&hidden_le, ids.len() - 1)
        };
        let logits_lv = linear(&wanted_le, model.head(), None);
        record(tap, Site::model(Probe::Logits), &logits_lv);
        let last_v: Array1<f32> = logits_lv.row(logits_lv.nrows() - 1).mapv(T::to_single);
        self.logits_v = last_v.to_vec();
        self.position += ids.len();
        Ok(())
    }

    fn logits(&self) -> &[f32] {
        &self.logits_v
    }

    fn model(&self) -> &Arc<Model> {
        &self.model
    }

    fn state(&self) -> State {
        let layer = |state: &MixerState<T>| LayerState {
            conv_dk: state.conv_dk.mapv(T::to_single),
            ssm_dn: state.ssm_dn.mapv(T::to_single),
        };
        State {
            position: self.position,
            layers: self.layers.iter().map(layer).collect(),
        }
    }

    fn state_bytes(&self) -> usize {
        self.layers
            .iter()
            .map(|state| (state.conv_dk.len() + state.ssm_dn.len()) * size_of::<T>())
            .sum()
    }

    fn set_state(&mut self, state: &State) -> Result<(), BackendError> {
        state.check(&self.model.config)?;
        self.position = state.position;
        self.logits_v.fill(0.0);
        for (mine, given) in self.layers.iter_mut().zip(&state.layers) {
            mine.conv_dk = given.conv_dk.mapv(T::of);
            mine.ssm_dn = given.ssm_dn.mapv(T::of);
        }
        Ok(())
    }
}

/// Hands a value to the tap, rounded to what a trace holds, if it is wanted at all.
fn record<T: Real, D: ndarray::Dimension>(
    tap: &mut dyn Tap,
    site: Site,
    value: &ndarray::Array<T, D>,
) {
    if tap.wants(site) {
        tap.record(site, value.mapv(T::to_single).view().into_dyn());
    }
}
