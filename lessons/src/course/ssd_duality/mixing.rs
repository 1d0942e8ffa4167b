//! Matrices that mix tokens, by their masks, and the rank of their blocks.

use mambascope_core::linalg::{numerical_rank, singular_values};
use mambascope_core::noise::Noise;
use mambascope_core::scan::decay_mask;
use ndarray::{Array1, Array2, Axis, s};
use serde::{Deserialize, Serialize};

use mambascope_core::job::JobError;

/// What stands over C Bᵀ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mask {
    /// All ones: linear attention.
    Ones,
    /// The same decay at every token: RetNet.
    Retention,
    /// A decay of each token's own: Mamba-2.
    Selective,
    /// None: exp of the scores, every row brought to a sum of one.
    Softmax,
}

/// Random B or C, `[l, n]`.
pub fn projection(name: &str, tokens: usize, slots: usize) -> Array2<f64> {
    // Drawn by slot: with more slots the first ones stay what they were.
    let noise = Noise::new(2, name);
    Array2::from_shape_fn((tokens, slots), |(l, n)| {
        f64::from(noise.normal(n * tokens + l))
    })
}

/// A matrix and what made it.
pub struct Mixing {
    /// M, `[l, l]`; 0 above the diagonal.
    pub m_ll: Array2<f64>,
    /// The masks: one, or one a slot.
    pub masks: Vec<Array2<f64>>,
}

impl Mixing {
    /// L ∘ (C Bᵀ) with one mask made of these decays, `[l]`.
    pub fn masked(decay_l: &Array1<f64>, b_ln: &Array2<f64>, c_ln: &Array2<f64>) -> Self {
        let mask_ll = decay_mask(decay_l.view());
        Self {
            m_ll: &mask_ll * &c_ln.dot(&b_ln.t()),
            masks: vec![mask_ll],
        }
    }

    /// As Mamba-1: slot n decays n + 1 times as fast, so every slot has its own mask, and M is a sum over the slots.
    pub fn diagonal(decay_l: &Array1<f64>, b_ln: &Array2<f64>, c_ln: &Array2<f64>) -> Self {
        let tokens = decay_l.len();
        let mut m_ll = Array2::zeros((tokens, tokens));
        let mut masks = Vec::new();
        for n in 0..b_ln.ncols() {
            let mask_ll = decay_mask(decay_l.mapv(|a| a.powi(n as i32 + 1)).view());
            let (c_l1, b_1l) = (c_ln.slice(s![.., n..=n]), b_ln.slice(s![.., n]));
            let outer_ll = &c_l1 * &b_1l.insert_axis(Axis(0));
            m_ll += &(&mask_ll * &outer_ll);
            masks.push(mask_ll);
        }
        Self { m_ll, masks }
    }

    /// Softmax attention's matrix of the same scores.
    pub fn softmax(b_ln: &Array2<f64>, c_ln: &Array2<f64>) -> Self {
        let scale = (b_ln.ncols() as f64).sqrt().recip();
        let scores_ll = c_ln.dot(&b_ln.t()) * scale;
        let tokens = scores_ll.nrows();
        let mut m_ll = Array2::zeros((tokens, tokens));
        for i in 0..tokens {
            let seen = scores_ll.slice(s![i, ..=i]);
            let most = seen.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let raised = seen.mapv(|score| (score - most).exp());
            m_ll.slice_mut(s![i, ..=i])
                .assign(&(&raised / raised.sum()));
        }
        Self {
            m_ll,
            masks: vec![decay_mask(Array1::ones(tokens).view())],
        }
    }
}

/// Singular values of a block, the largest first, and its numerical rank.
///
/// # Errors
/// When they cannot be found.
pub fn spectrum(block: ndarray::ArrayView2<'_, f64>) -> Result<(Vec<f64>, usize), JobError> {
    let singular = singular_values(block).map_err(|error| JobError::Study(error.to_string()))?;
    let rank = numerical_rank(&singular, block.nrows().max(block.ncols()));
    Ok((singular, rank))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_agree_where_they_should() {
        let (b_ln, c_ln) = (projection("B", 9, 1), projection("C", 9, 1));
        let decay_l = Array1::from_shape_fn(9, |l| 1.0 / (1.0 + l as f64));
        // One slot: a diagonal A is a scalar.
        let (one, other) = (
            Mixing::masked(&decay_l, &b_ln, &c_ln),
            Mixing::diagonal(&decay_l, &b_ln, &c_ln),
        );
        assert!((&one.m_ll - &other.m_ll).iter().all(|x| x.abs() < 1e-15));
        let softmax = Mixing::softmax(&b_ln, &c_ln);
        for row in softmax.m_ll.rows() {
            assert!((row.sum() - 1.0).abs() < 1e-14);
        }
    }
}
