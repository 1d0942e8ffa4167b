//! The readable backend: plain loops in the order of the formulas, one thread, f32 or f64.
//!
//! [`mamba`], [`mamba2`] and [`attention`] are the files to read beside the papers; [`layers`] holds the pieces every network has.

mod attention;
mod feed_forward;
mod layers;
mod mamba;
mod mamba2;

use std::sync::Arc;

use ndarray::{Array1, Array2};

use self::attention::{Cache, attention_mixer};
use self::feed_forward::feed_forward;
use self::layers::{linear, rms_norm, row};
use self::mamba::{MixerState, mamba_mixer};
use self::mamba2::{Place, mamba2_mixer};
use super::{Backend, BackendError, Reading, Session, check_ids};
use crate::model::{BlockDims, FeedForwardDims, Layer, Mixer, MixerDims, Model};
use crate::scan::{
    Real, Rule, ScanError, ScanInput, ScanOutput, SsdInput, SsdOutput, sequential, ssd_sequential,
};
use crate::state::{KvCache, LayerState, RecurrentState, State, StateBytes};
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
                model.widen()?;
                Box::new(NaiveSession::<f32>::new(model, None))
            }
            Precision::Double => Box::new(NaiveSession::<f64>::new(model, None)),
        })
    }

    fn scan(&mut self, input: &ScanInput<'_, f32>) -> Result<ScanOutput<f32>, BackendError> {
        Ok(sequential(input, |_, _| {})?)
    }

    fn ssd(
        &mut self,
        input: &SsdInput<'_, f32>,
        _chunk: usize,
    ) -> Result<SsdOutput<f32>, BackendError> {
        Ok(ssd_sequential(input, |_, _| {})?)
    }
}

/// A session of the readable backend, in single precision, whose Mamba-1 layers move their state by `rule`; Mamba-2's and attention
/// are as ever. A snapshot holds no input of the past: behind [`Session::set_state`] a rule that looks back begins as at the first
/// token.
///
/// # Errors
/// When there is no memory for the weights as f32.
pub fn open_ruled(model: &Arc<Model>, rule: Rule) -> Result<Box<dyn Session>, BackendError> {
    model.widen()?;
    Ok(Box::new(NaiveSession::<f32>::new(model, Some(rule))))
}

/// What one block remembers.
enum Memory<T> {
    Recurrent(MixerState<T>),
    Attention(Cache<T>),
}

impl<T: Real> Memory<T> {
    fn empty(mixer: &MixerDims) -> Self {
        match mixer {
            MixerDims::Attention(dims) => Memory::Attention(Cache::empty(dims)),
            MixerDims::Mamba(_) | MixerDims::Mamba2(_) => {
                let dims = mixer.recurrent().unwrap_or_default();
                Memory::Recurrent(MixerState::zeros(&dims))
            }
        }
    }
}

struct NaiveSession<T> {
    model: Arc<Model>,
    /// How Mamba-1's scan moves, where not as usual.
    rule: Option<Rule>,
    position: usize,
    layers: Vec<Memory<T>>,
    logits_v: Vec<f32>,
}

impl<T: Real> NaiveSession<T> {
    fn new(model: &Arc<Model>, rule: Option<Rule>) -> Self {
        let blocks = model.config.blocks.iter();
        Self {
            model: Arc::clone(model),
            rule,
            position: 0,
            layers: blocks.map(|block| Memory::empty(&block.mixer)).collect(),
            logits_v: vec![0.0; model.config.vocab_size],
        }
    }

    fn forward(
        &mut self,
        ids: &[u32],
        reading: Reading,
        tap: &mut dyn Tap,
    ) -> Result<(), BackendError> {
        let model = Arc::clone(&self.model);
        let config = &model.config;
        check_ids(ids, config.vocab_size)?;

        // x[l] = embedding[id[l]]
        let embedding_ve = T::weights(&model.embedding);
        let mut x_le = Array2::from_shape_fn((ids.len(), config.d_model), |(l, e)| {
            embedding_ve[ids[l] as usize * config.d_model + e]
        });
        record(tap, Site::model(Probe::Embedded), &x_le);

        // x ← x + mixer(RMSNorm(x)), then in some families x ← x + ff(RMSNorm(x)); block after block
        let blocks = model.layers.iter().zip(&config.blocks);
        for (i, ((layer, dims), memory)) in blocks.zip(&mut self.layers).enumerate() {
            let norm_le = rms_norm(&x_le, Some(&layer.norm), config.norm_eps);
            record(tap, Site::layer(i, Probe::NormOut), &norm_le);
            let place = Place {
                layer: i,
                eps: config.norm_eps,
                reading,
                tap: &mut *tap,
            };
            x_le += &mix(&norm_le, layer, dims, memory, self.rule, place)?;
            if let Some(part) = &layer.feed_forward {
                let norm_le = rms_norm(&x_le, Some(&part.norm), config.norm_eps);
                let top = match dims.feed_forward {
                    Some(FeedForwardDims::Experts { top, .. }) => top,
                    _ => 0,
                };
                x_le += &feed_forward(&norm_le, &part.network, top, i, tap);
            }
            record(tap, Site::layer(i, Probe::BlockOutput), &x_le);
        }

        // logits = RMSNorm(x) · Wᵀ; only the last token's unless all are asked for
        let hidden_le = rms_norm(&x_le, Some(&model.final_norm), config.norm_eps);
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
}

/// The block's mixer, whichever it is.
fn mix<T: Real>(
    x_le: &Array2<T>,
    layer: &Layer,
    dims: &BlockDims,
    memory: &mut Memory<T>,
    rule: Option<Rule>,
    place: Place<'_>,
) -> Result<Array2<T>, ScanError> {
    match (&layer.mixer, &dims.mixer, memory) {
        (Mixer::Mamba(weights), MixerDims::Mamba(dims), Memory::Recurrent(state)) => {
            mamba_mixer(x_le, weights, dims, state, rule, place.layer, place.tap)
        }
        (Mixer::Mamba2(weights), MixerDims::Mamba2(dims), Memory::Recurrent(state)) => {
            mamba2_mixer(x_le, weights, dims, state, place)
        }
        (Mixer::Attention(weights), MixerDims::Attention(dims), Memory::Attention(cache)) => Ok(
            attention_mixer(x_le, weights, dims, cache, place.layer, place.tap),
        ),
        _ => Err(ScanError {
            operand: "the block's weights",
            wanted: dims.mixer.title().to_owned(),
            found: Vec::new(),
        }),
    }
}

impl<T: Real> Session for NaiveSession<T> {
    fn prefill(&mut self, ids: &[u32], tap: &mut dyn Tap) -> Result<(), BackendError> {
        self.forward(ids, Reading::Prefill, tap)
    }

    fn step(&mut self, id: u32, tap: &mut dyn Tap) -> Result<(), BackendError> {
        self.forward(&[id], Reading::Step, tap)
    }

    fn logits(&mut self) -> Result<&[f32], BackendError> {
        Ok(&self.logits_v)
    }

    fn model(&self) -> &Arc<Model> {
        &self.model
    }

    fn state(&self) -> Result<State, BackendError> {
        let layer = |memory: &Memory<T>| match memory {
            Memory::Recurrent(state) => LayerState::Recurrent(state.to_single()),
            Memory::Attention(cache) => LayerState::Attention(KvCache {
                keys: cache.keys.mapv(T::to_single),
                values: cache.values.mapv(T::to_single),
            }),
        };
        Ok(State {
            position: self.position,
            layers: self.layers.iter().map(layer).collect(),
            logits_v: (self.position > 0).then(|| self.logits_v.clone()),
        })
    }

    fn scan_states(&self) -> Result<Vec<Option<RecurrentState>>, BackendError> {
        let state = |memory: &Memory<T>| match memory {
            Memory::Recurrent(state) => Some(state.to_single()),
            Memory::Attention(_) => None,
        };
        Ok(self.layers.iter().map(state).collect())
    }

    fn state_bytes(&self) -> StateBytes {
        let mut bytes = StateBytes::default();
        for memory in &self.layers {
            match memory {
                Memory::Recurrent(state) => {
                    bytes.conv += state.conv_dk.len() * size_of::<T>();
                    bytes.ssm += state.ssm_dn.len() * size_of::<T>();
                }
                Memory::Attention(cache) => {
                    bytes.kv += (cache.keys.len() + cache.values.len()) * size_of::<T>();
                }
            }
        }
        bytes
    }

    fn set_state(&mut self, state: &State) -> Result<(), BackendError> {
        state.check(&self.model.config)?;
        self.position = state.position;
        match &state.logits_v {
            Some(logits_v) => self.logits_v.copy_from_slice(logits_v),
            None => self.logits_v.fill(0.0),
        }
        for (mine, given) in self.layers.iter_mut().zip(&state.layers) {
            match (mine, given) {
                (Memory::Recurrent(mine), LayerState::Recurrent(given)) => {
                    mine.conv_dk = given.conv_dk.mapv(T::of);
                    mine.ssm_dn = given.ssm_dn.mapv(T::of);
                    mine.written_dn = None;
                }
                (Memory::Attention(mine), LayerState::Attention(given)) => {
                    mine.keys = given.keys.mapv(T::of);
                    mine.values = given.values.mapv(T::of);
                }
                // The check above has refused what does not fit.
                _ => {}
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::embedded;
    use crate::discretize::Discretization;

    fn scores(session: &mut dyn Session, chunk: usize) -> Vec<f32> {
        let ids: Vec<u32> = (5..17).collect();
        for part in ids.chunks(chunk) {
            session.prefill(part, &mut ()).unwrap();
        }
        session.logits().unwrap().to_vec()
    }

    #[test]
    fn the_usual_rule_changes_nothing_and_another_something() {
        let model = Arc::new(embedded().unwrap());
        let wanted = scores(&mut *NaiveBackend::default().open(&model).unwrap(), 12);
        let by = |rule, chunk| scores(&mut *open_ruled(&model, rule).unwrap(), chunk);
        assert_eq!(by(Rule::default(), 12), wanted);
        let looking_back = Rule {
            discretization: Discretization::ExponentialTrapezoidal { lambda: 0.5 },
            ..Rule::default()
        };
        let other = by(looking_back, 12);
        assert_ne!(other, wanted);
        assert_eq!(by(looking_back, 5), other);
    }
}
