//! Softmax attention with grouped queries, and with rotary positions where a model has any (arXiv:1706.03762, 2104.09864, 2305.13245).

use ndarray::{Array2, Array3, Axis, concatenate};

use super::layers::linear;
use super::record;
use crate::model::{AttentionDims, AttentionMixer};
use crate::scan::Real;
use crate::trace::{Probe, Site, Tap};

/// Keys and values of every token so far.
pub(super) struct Cache<T> {
    /// `[tokens, kv_heads · head_dim]`, rotated.
    pub(super) keys: Array2<T>,
    /// `[tokens, kv_heads · head_dim]`.
    pub(super) values: Array2<T>,
}

impl<T: Real> Cache<T> {
    pub(super) fn empty(dims: &AttentionDims) -> Self {
        Self {
            keys: Array2::zeros((0, dims.kv_width())),
            values: Array2::zeros((0, dims.kv_width())),
        }
    }
}

/// Mixes tokens: `[l, e]` → `[l, e]`; the cache grows by a row a token.
pub(super) fn attention_mixer<T: Real>(
    x_le: &Array2<T>,
    weights: &AttentionMixer,
    dims: &AttentionDims,
    cache: &mut Cache<T>,
    layer: usize,
    tap: &mut dyn Tap,
) -> Array2<T> {
    let (tokens, past) = (x_le.nrows(), cache.keys.nrows());
    let (heads, width) = (dims.heads, dims.head_dim);

    // 1. queries, keys, values
    let mut queries = linear(x_le, &weights.q_proj, weights.q_bias.as_ref());
    let mut keys = linear(x_le, &weights.k_proj, weights.k_bias.as_ref());
    let values = linear(x_le, &weights.v_proj, weights.v_bias.as_ref());

    // 2. positions turn queries and keys; the first token of a text is at 0
    if let Some(theta) = dims.rope_theta {
        rotate(&mut queries, width, past, theta);
        rotate(&mut keys, width, past, theta);
    }

    // 3. the cache: what makes attention's memory grow
    cache.keys = appended(&cache.keys, &keys);
    cache.values = appended(&cache.values, &values);

    // 4. for each head: softmax(q·kᵀ / √width) over the tokens up to its own, then the values weighted by it
    let scale = T::of(width as f32).sqrt().recip();
    let site = Site::layer(layer, Probe::Attention);
    let mut watched = tap
        .wants(site)
        .then(|| Array3::zeros((tokens, heads, past + tokens)));
    let mut mixed = Array2::zeros((tokens, heads * width));
    for l in 0..tokens {
        for head in 0..heads {
            let kv = head / (heads / dims.kv_heads);
            let (q, k) = (head * width, kv * width);
            let scores: Vec<T> = (0..=past + l)
                .map(|m| {
                    let product = (0..width).map(|i| queries[[l, q + i]] * cache.keys[[m, k + i]]);
                    product.sum::<T>() * scale
                })
                .collect();
            for (m, weight) in softmax(scores).into_iter().enumerate() {
                for i in 0..width {
                    mixed[[l, q + i]] += weight * cache.values[[m, k + i]];
                }
                if let Some(watched) = &mut watched {
                    watched[[l, head, m]] = weight;
                }
            }
        }
    }
    if let Some(watched) = &watched {
        record(tap, site, watched);
    }

    // 5. out
    let out_le = linear(&mixed, &weights.o_proj, weights.o_bias.as_ref());
    record(tap, Site::layer(layer, Probe::MixerOutput), &out_le);
    out_le
}

/// exp(x − max) / Σ.
pub(super) fn softmax<T: Real>(scores: Vec<T>) -> Vec<T> {
    let most = scores.iter().copied().fold(T::neg_infinity(), T::max);
    let weights: Vec<T> = scores.into_iter().map(|x| (x - most).exp()).collect();
    let total: T = weights.iter().copied().sum();
    weights.into_iter().map(|weight| weight / total).collect()
}

/// Rotary positions: within each head, entries i and i + width/2 are a pair, turned by position · θ^(−2i/width).
fn rotate<T: Real>(x: &mut Array2<T>, width: usize, past: usize, theta: f64) {
    let half = width / 2;
    for (l, mut row) in x.rows_mut().into_iter().enumerate() {
        for start in (0..row.len()).step_by(width) {
            for i in 0..half {
                let (sin, cos) = turn::<T>(past + l, i, width, theta);
                let (a, b) = (row[start + i], row[start + half + i]);
                row[start + i] = a * cos - b * sin;
                row[start + half + i] = b * cos + a * sin;
            }
        }
    }
}

/// Sine and cosine of the angle of pair `i` at a position.
fn turn<T: Real>(position: usize, i: usize, width: usize, theta: f64) -> (T, T) {
    let angle = crate::backend::rotary_angle(position, i, width, theta);
    (T::of(angle.sin()), T::of(angle.cos()))
}

fn appended<T: Real>(past: &Array2<T>, new: &Array2<T>) -> Array2<T> {
    // Both are as wide as the cache.
    concatenate(Axis(0), &[past.view(), new.view()]).unwrap_or_else(|_| new.clone())
}
