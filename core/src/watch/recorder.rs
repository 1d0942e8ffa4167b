//! The tap behind a [`super::Watched`]: collects a chunk's arrays, then turns them into one record a token.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use ndarray::{Array2, ArrayViewD, Ix2};

use super::{BLOCK, LayerRecord, NEXT_TOKENS, Reading, TokenRecord};
use crate::backend::fast::{dot, mean_decay};
use crate::generate::{log_sum_exp, most_likely};
use crate::model::Model;
use crate::state::State;
use crate::trace::{Probe, Site, Tap};

/// Records of the last tokens of one text.
pub(super) struct Recorder {
    /// A = −exp(A_log) of every layer, `[n, d]`.
    pub(super) a_nd: Vec<Array2<f32>>,
    /// Position of the first record; a multiple of [`BLOCK`] once something was dropped.
    pub(super) first: usize,
    pub(super) records: VecDeque<Arc<TokenRecord>>,
    /// States before the tokens `first`, `first + BLOCK`, …
    pub(super) snapshots: VecDeque<Arc<State>>,
    window: usize,
    chunk: BTreeMap<Site, Array2<f32>>,
    /// Scores after the last recorded token.
    last_logits_v: Vec<f32>,
}

impl Tap for Recorder {
    fn wants(&self, site: Site) -> bool {
        matches!(
            site.probe,
            Probe::Delta | Probe::ConvOut | Probe::B | Probe::C | Probe::Logits
        )
    }

    fn record(&mut self, site: Site, value: ArrayViewD<'_, f32>) {
        if let Ok(value) = value.into_dimensionality::<Ix2>() {
            self.chunk.insert(site, value.to_owned());
        }
    }
}

impl Recorder {
    pub(super) fn new(model: &Model, window: usize, first: usize) -> Self {
        let a_nd = model.layers.iter().map(|layer| layer.mixer.a_nd());
        Self {
            a_nd: a_nd.collect(),
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
    pub(super) fn before_chunk(&mut self, state: impl FnOnce() -> State) {
        if self.records.len().is_multiple_of(BLOCK) {
            self.snapshots.push_back(Arc::new(state()));
        }
    }

    /// Makes records of the chunk that has just passed, whose tokens were `ids`, and drops what is older than the window.
    pub(super) fn after_chunk(&mut self, ids: &[u32]) {
        let Some(logits_lv) = self.chunk.remove(&Site::model(Probe::Logits)) else {
            return;
        };
        let surprise = |scores: &[f32], id: u32| log_sum_exp(scores) - scores[id as usize];
        for (l, &id) in ids.iter().enumerate() {
            let before = (!self.last_logits_v.is_empty()).then_some(self.last_logits_v.as_slice());
            let record = TokenRecord {
                id,
                surprise: before.map(|scores| surprise(scores, id)),
                layers: (0..self.a_nd.len())
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
        let row = |probe| -> Box<[f32]> {
            self.chunk
                .get(&Site::layer(layer, probe))
                .map_or_else(Box::default, |value| value.row(l).iter().copied().collect())
        };
        let (delta_d, u_d, b_n) = (row(Probe::Delta), row(Probe::ConvOut), row(Probe::B));
        // ‖Δ·u ⊗ B‖ over channels and slots is ‖Δ·u‖ · ‖B‖.
        let delta_u: Box<[f32]> = delta_d
            .iter()
            .zip(&u_d)
            .map(|(delta, u)| delta * u)
            .collect();
        let reading = Reading {
            mean_delta: delta_d.iter().sum::<f32>() / delta_d.len() as f32,
            write: (dot(&delta_u, &delta_u) * dot(&b_n, &b_n)).sqrt(),
            retention: self.a_nd[layer]
                .as_slice()
                .map_or(f32::NAN, |a_nd| mean_decay(&delta_d, a_nd)),
        };
        LayerRecord {
            delta_d,
            u_d,
            b_n,
            c_n: row(Probe::C),
            reading,
        }
    }
}
