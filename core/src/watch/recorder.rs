//! The tap behind a [`super::Watched`]: collects a chunk's arrays, then turns them into one record a token.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use ndarray::{Array2, ArrayD, ArrayViewD, Axis, Ix2};

use super::{AttentionRecord, BLOCK, LayerRecord, NEXT_TOKENS, Reading, ScanRecord, TokenRecord};
use crate::backend::BackendError;
use crate::backend::fast::{dot, mean_decay};
use crate::generate::{log_sum_exp, most_likely};
use crate::model::{Config, Model, RecurrentDims};
use crate::state::RecurrentState;
use crate::trace::{Probe, Site, Tap};

/// Records of the last tokens of one text.
pub(super) struct Recorder {
    config: Config,
    /// A of every layer, as [`crate::model::Mixer::decay`] gives it.
    decay: Vec<Option<Array2<f32>>>,
    /// Position of the first record; a multiple of [`BLOCK`] once something was dropped.
    pub(super) first: usize,
    pub(super) records: VecDeque<Arc<TokenRecord>>,
    /// States before the tokens `first`, `first + BLOCK`, …
    pub(super) snapshots: VecDeque<Arc<[Option<RecurrentState>]>>,
    window: usize,
    chunk: BTreeMap<Site, ArrayD<f32>>,
    /// Scores after the last recorded token.
    last_logits_v: Vec<f32>,
}

impl Tap for Recorder {
    fn wants(&self, site: Site) -> bool {
        matches!(
            site.probe,
            Probe::Delta | Probe::ConvOut | Probe::B | Probe::C | Probe::Attention | Probe::Logits
        )
    }

    fn record(&mut self, site: Site, value: ArrayViewD<'_, f32>) {
        self.chunk.insert(site, value.to_owned());
    }
}

impl Recorder {
    pub(super) fn new(model: &Model, window: usize, first: usize) -> Self {
        let layers = model.layers.iter();
        Self {
            decay: layers.map(|layer| layer.mixer.decay()).collect(),
            config: model.config.clone(),
            first,
            records: VecDeque::new(),
            snapshots: VecDeque::new(),
            window,
            chunk: BTreeMap::new(),
            last_logits_v: Vec::new(),
        }
    }

    /// Position after the last record.
    pub(super) fn end(&self) -> usize {
        self.first + self.records.len()
    }

    /// Keeps the state before the next token, where one is due; call before every chunk, which must not cross a block.
    pub(super) fn before_chunk(
        &mut self,
        states: impl FnOnce() -> Result<Vec<Option<RecurrentState>>, BackendError>,
    ) -> Result<(), BackendError> {
        if self.records.len().is_multiple_of(BLOCK) {
            self.snapshots.push_back(states()?.into());
        }
        Ok(())
    }

    /// Makes records of the chunk that has just passed, whose tokens were `ids`, and drops what is older than the window.
    pub(super) fn after_chunk(&mut self, ids: &[u32]) {
        let logits = self.chunk.remove(&Site::model(Probe::Logits));
        let Some(logits_lv) = logits.and_then(|value| value.into_dimensionality::<Ix2>().ok())
        else {
            return;
        };
        let surprise = |scores: &[f32], id: u32| log_sum_exp(scores) - scores[id as usize];
        for (l, &id) in ids.iter().enumerate() {
            let before = (!self.last_logits_v.is_empty()).then_some(self.last_logits_v.as_slice());
            let record = TokenRecord {
                id,
                surprise: before.map(|scores| surprise(scores, id)),
                layers: (0..self.decay.len())
                    .map(|layer| self.layer_record(layer, l))
                    .collect(),
                next: logits_lv
                    .row(l)
                    .to_slice()
                    .map_or_else(Vec::new, |scores| most_likely(scores, NEXT_TOKENS)),
            };
            self.last_logits_v.clear();
            self.last_logits_v.extend(logits_lv.row(l));
            self.records.push_back(Arc::new(record));
        }
        while self.records.len() >= self.window + BLOCK {
            self.records.drain(..BLOCK);
            self.snapshots.pop_front();
            self.first += BLOCK;
        }
    }

    fn layer_record(&self, layer: usize, l: usize) -> LayerRecord {
        match self.config.blocks[layer].mixer.recurrent() {
            Some(dims) => LayerRecord::Scan(self.scan_record(layer, &dims, l)),
            None => LayerRecord::Attention(self.attention_record(layer, l)),
        }
    }

    /// The values of token `l` of the chunk.
    fn row(&self, layer: usize, probe: Probe, l: usize) -> Box<[f32]> {
        let value = self.chunk.get(&Site::layer(layer, probe));
        value.map_or_else(Box::default, |value| {
            value.index_axis(Axis(0), l).iter().copied().collect()
        })
    }

    fn scan_record(&self, layer: usize, dims: &RecurrentDims, l: usize) -> ScanRecord {
        let (delta, b) = (
            self.row(layer, Probe::Delta, l),
            self.row(layer, Probe::B, l),
        );
        // Mamba-2's convolution puts out B and C behind x.
        let mut u_d = self.row(layer, Probe::ConvOut, l).into_vec();
        u_d.truncate(dims.d_inner);
        let reading = Reading {
            mean_delta: delta.iter().sum::<f32>() / delta.len() as f32,
            write: write_strength(&delta, &u_d, &b, dims),
            retention: self.decay[layer]
                .as_ref()
                .and_then(|decay| Some(mean_decay(&delta, decay.as_slice()?)))
                .unwrap_or(f32::NAN),
        };
        ScanRecord {
            delta,
            u_d: u_d.into(),
            b,
            c: self.row(layer, Probe::C, l),
            reading,
        }
    }

    fn attention_record(&self, layer: usize, l: usize) -> AttentionRecord {
        let Some(weights) = self.chunk.get(&Site::layer(layer, Probe::Attention)) else {
            return AttentionRecord {
                first: 0,
                weights: Box::default(),
            };
        };
        // The chunk's last token sees all of the axis, those before it one less each.
        let tokens = weights.len_of(Axis(0));
        let seen = weights.len_of(Axis(2)) + l + 1 - tokens;
        let first = seen.saturating_sub(self.window.max(BLOCK));
        let of_token = weights.index_axis(Axis(0), l);
        let of_heads = of_token.outer_iter();
        let kept = of_heads.flat_map(|head| {
            head.iter()
                .take(seen)
                .skip(first)
                .copied()
                .collect::<Vec<_>>()
        });
        AttentionRecord {
            first,
            weights: kept.collect(),
        }
    }
}

/// ‖Δ·B·u‖ over channels and slots: for the channels of one group, ‖Δ·u ⊗ B‖ is ‖Δ·u‖ · ‖B‖.
fn write_strength(delta: &[f32], u_d: &[f32], b: &[f32], dims: &RecurrentDims) -> f32 {
    let a_delta = dims.d_inner / dims.delta_width.max(1);
    let delta_u: Vec<f32> = delta
        .iter()
        .zip(u_d.chunks_exact(a_delta.max(1)))
        .flat_map(|(delta, u)| u.iter().map(move |u| delta * u))
        .collect();
    let a_group = dims.d_inner / dims.groups.max(1);
    let groups = delta_u
        .chunks_exact(a_group)
        .zip(b.chunks_exact(dims.d_state));
    groups
        .map(|(written, b_n)| dot(written, written) * dot(b_n, b_n))
        .sum::<f32>()
        .sqrt()
}
