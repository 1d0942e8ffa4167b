//! The loss at every position of a text, and what the state does meanwhile.

use std::ops::ControlFlow;

use mambascope_core::backend::Backend;
use mambascope_core::generate::log_sum_exp;
use mambascope_core::job::{JobError, ModelRef};
use mambascope_core::trace::{DEFAULT_BUDGET, Probe, Site, TracePlan, TraceTap};

use crate::course::reading_a_trained_mamba::records::{matrix, scan_layers};

/// Tokens read between two looks at the state.
pub(super) const STRIDE: usize = 32;

/// A text, read once.
pub(super) struct Curve {
    /// −ln of the probability of each token but the first, in nats: entry i is token i + 1.
    pub loss: Vec<f32>,
    /// Of each Mamba layer: its number, and after every [`STRIDE`] tokens the norm of h.
    pub norm: Vec<(usize, Vec<f32>)>,
    /// Of each Mamba layer: the running sum of Δ, mean over channels, after every [`STRIDE`] tokens.
    pub delta: Vec<(usize, Vec<f32>)>,
}

/// Reads a text; the state begins anew after every `fresh` tokens, if that is asked.
///
/// # Errors
/// When the backend fails, or `report` says to stop.
pub(super) fn read(
    model: &ModelRef,
    ids: &[u32],
    fresh: Option<usize>,
    backend: &mut dyn Backend,
    report: &mut dyn FnMut(usize) -> ControlFlow<()>,
) -> Result<Curve, JobError> {
    let layers = scan_layers(model);
    let mut session = backend.open(model)?;
    let empty = session.state()?;
    let each = || layers.iter().map(|&layer| (layer, Vec::new())).collect();
    let mut curve = Curve {
        loss: Vec::new(),
        norm: each(),
        delta: each(),
    };
    let mut sums = vec![0.0f32; layers.len()];
    let plan = TracePlan {
        layers: layers.clone(),
        probes: vec![Probe::Logits, Probe::Delta],
        tokens: STRIDE,
        budget: DEFAULT_BUDGET,
    };
    for (part, chunk) in ids.chunks(STRIDE).enumerate() {
        let from = part * STRIDE;
        if fresh.is_some_and(|fresh| from > 0 && from.is_multiple_of(fresh)) {
            session.set_state(&empty)?;
        }
        let mut tap = TraceTap::new(&plan, &model.config)?;
        session.prefill(chunk, &mut tap)?;
        let trace = tap.finish();
        let logits_lv = matrix(&trace, Site::model(Probe::Logits))?;
        for (l, row) in logits_lv.rows().into_iter().enumerate() {
            let Some(&next) = ids.get(from + l + 1) else {
                continue;
            };
            let scores = row.to_vec();
            let score = scores.get(next as usize).copied().unwrap_or(f32::NAN);
            curve.loss.push(log_sum_exp(&scores) - score);
        }
        let states = session.scan_states()?;
        for (i, &layer) in layers.iter().enumerate() {
            let delta_ld = matrix(&trace, Site::layer(layer, Probe::Delta))?;
            sums[i] += delta_ld.sum() / delta_ld.ncols().max(1) as f32;
            curve.delta[i].1.push(sums[i]);
            if let Some(Some(state)) = states.get(layer) {
                let square: f32 = state.ssm_dn.iter().map(|h| h * h).sum();
                curve.norm[i].1.push(square.sqrt());
            }
        }
        if report(from + chunk.len()).is_break() {
            return Err(JobError::Study("stopped before the text was read".into()));
        }
    }
    Ok(curve)
}

/// Means over the last `width` entries, from the entry that has as many behind it.
pub(super) fn smoothed(values: &[f32], width: usize) -> Vec<[f64; 2]> {
    let width = width.max(1);
    let windows = values.windows(width).enumerate();
    windows
        .map(|(start, window)| {
            let mean = window.iter().sum::<f32>() / width as f32;
            // Entry i is about token i + 1.
            [(start + width) as f64, f64::from(mean)]
        })
        .collect()
}

/// The mean of the losses of tokens `from..to`.
pub(super) fn mean_between(loss: &[f32], from: usize, to: usize) -> f64 {
    let part = loss
        .get(from.min(loss.len())..to.min(loss.len()))
        .unwrap_or(&[]);
    part.iter().map(|&value| f64::from(value)).sum::<f64>() / part.len().max(1) as f64
}
