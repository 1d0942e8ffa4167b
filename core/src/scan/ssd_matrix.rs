//! Mamba-2's scan as what it is to a whole text: one matrix a head, by which the tokens are mixed; and the block algorithm, which
//! multiplies by that matrix without ever having it (Mamba-2, arXiv:2405.21060, sections 3 and 6). In double precision, to be read
//! and to be measured against; the fast backend has its own form.
//!
//! With X = Δ·x and a[l] = exp(Δ[l]·A), for every head:
//!
//! ```text
//! L[i,j] = a[j+1] · … · a[i]  for j ≤ i, and 0 above the diagonal
//! M      = L ∘ (C Bᵀ)
//! Y      = M X
//! ```

use ndarray::{Array1, Array2, Array3, ArrayView1, ArrayView2, s};

use super::{ScanError, SsdInput, SsdOutput};

/// L: how much of what token j wrote is left at token i, `[l, l]`, from the decay of every token. Products only, never quotients: a
/// product of many decays may be 0, and must not be divided by.
pub fn decay_mask(decay_l: ArrayView1<'_, f64>) -> Array2<f64> {
    let tokens = decay_l.len();
    let mut mask_ll = Array2::zeros((tokens, tokens));
    for j in 0..tokens {
        let mut left = 1.0;
        mask_ll[[j, j]] = left;
        for i in j + 1..tokens {
            left *= decay_l[i];
            mask_ll[[i, j]] = left;
        }
    }
    mask_ll
}

/// The operands of one head.
struct Head<'a> {
    /// exp(Δ·A), `[l]`.
    decay_l: Array1<f64>,
    /// Δ·x, `[l, p]`.
    x_lp: Array2<f64>,
    /// `[l, n]`.
    b_ln: ArrayView2<'a, f64>,
    /// `[l, n]`.
    c_ln: ArrayView2<'a, f64>,
    /// The state it begins with, `[p, n]`.
    h_pn: Array2<f64>,
}

impl<'a> Head<'a> {
    fn of(input: &SsdInput<'a, f64>, h: usize) -> Self {
        let (tokens, heads, head_dim, d_state) = input.dims();
        let group = h / (heads / input.b_lgn.dim().1);
        let delta_l = Array1::from_shape_fn(tokens, |l| input.delta(l, h));
        Self {
            decay_l: delta_l.mapv(|delta| (delta * input.a_h[h]).exp()),
            x_lp: Array2::from_shape_fn((tokens, head_dim), |(l, p)| {
                delta_l[l] * input.x_lhp[[l, h, p]]
            }),
            b_ln: input.b_lgn.slice_move(s![.., group, ..]),
            c_ln: input.c_lgn.slice_move(s![.., group, ..]),
            h_pn: input.initial_hpn.map_or_else(
                || Array2::zeros((head_dim, d_state)),
                |h_hpn| h_hpn.slice(s![h, .., ..]).to_owned(),
            ),
        }
    }

    /// Y of `from..to` as `[l, p]`, and the state behind it, by the four steps.
    fn block(&mut self, from: usize, to: usize) -> Array2<f64> {
        let part = s![from..to, ..];
        let decay_l = self.decay_l.slice(s![from..to]);
        let (x_lp, b_ln, c_ln) = (
            self.x_lp.slice(part),
            self.b_ln.slice(part),
            self.c_ln.slice(part),
        );
        let mask_ll = decay_mask(decay_l);
        // How much of the state before the block is left at each token: its decay, and what is left of the block's first.
        let since_start_l = &mask_ll.column(0) * decay_l[0];
        // How much of what each token wrote is left at the end of the block.
        let until_end_l = mask_ll.row(to - from - 1).to_owned();

        // 1. Inside the block: the masked matrix.
        let mut y_lp = (&mask_ll * &c_ln.dot(&b_ln.t())).dot(&x_lp);
        // 2. What the block writes into a state that was empty.
        let kept_ln = &b_ln * &until_end_l.insert_axis(ndarray::Axis(1));
        let written_pn = x_lp.t().dot(&kept_ln);
        // 4. What its tokens read from the state before it.
        let read_lp = c_ln.dot(&self.h_pn.t());
        y_lp += &(&read_lp * &since_start_l.view().insert_axis(ndarray::Axis(1)));
        // 3. From block to block: the recurrence.
        self.h_pn = &self.h_pn * since_start_l[to - from - 1] + written_pn;
        y_lp
    }
}

/// M of head `h`, `[l, l]`: y = M X, with X = Δ·x.
///
/// # Errors
/// When an operand's shape does not fit, or there is no such head.
pub fn ssd_matrix(input: &SsdInput<'_, f64>, h: usize) -> Result<Array2<f64>, ScanError> {
    input.validate()?;
    if h >= input.a_h.len() {
        return Err(ScanError {
            operand: "A",
            wanted: format!("[more than {h}]"),
            found: input.a_h.shape().to_vec(),
        });
    }
    let head = Head::of(input, h);
    Ok(decay_mask(head.decay_l.view()) * head.c_ln.dot(&head.b_ln.t()))
}

/// The scan as one product with the whole matrix: quadratic in the tokens.
///
/// # Errors
/// When an operand's shape does not fit.
pub fn ssd_quadratic(input: &SsdInput<'_, f64>) -> Result<SsdOutput<f64>, ScanError> {
    ssd_blocks(input, input.dims().0)
}

/// The scan in blocks of `chunk` tokens: quadratic in a block, linear in the text.
///
/// # Errors
/// When an operand's shape does not fit.
pub fn ssd_blocks(input: &SsdInput<'_, f64>, chunk: usize) -> Result<SsdOutput<f64>, ScanError> {
    input.validate()?;
    let (tokens, heads, head_dim, d_state) = input.dims();
    let mut y_lhp = Array3::zeros((tokens, heads, head_dim));
    let mut last_hpn = Array3::zeros((heads, head_dim, d_state));
    for h in 0..heads {
        let mut head = Head::of(input, h);
        for from in (0..tokens).step_by(chunk.max(1)) {
            let to = from.saturating_add(chunk.max(1)).min(tokens);
            let y_lp = head.block(from, to);
            y_lhp.slice_mut(s![from..to, h, ..]).assign(&y_lp);
        }
        last_hpn.slice_mut(s![h, .., ..]).assign(&head.h_pn);
        if let Some(skip_h) = &input.d_skip_h {
            let mut y_lp = y_lhp.slice_mut(s![.., h, ..]);
            y_lp.scaled_add(skip_h[h], &input.x_lhp.slice(s![.., h, ..]));
        }
    }
    Ok(SsdOutput { y_lhp, last_hpn })
}

/// Multiplications of the block algorithm, a token and head.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SsdMacs {
    /// Inside the blocks: Q·N for C Bᵀ and Q·P for the product with X, the whole square computed.
    pub inside: f64,
    /// The blocks' states, and reading them: N·P each.
    pub states: f64,
    /// The recurrence from block to block: N·P a block.
    pub between: f64,
}

impl SsdMacs {
    /// With blocks of `chunk` tokens (at least one).
    pub fn of(chunk: usize, d_state: usize, head_dim: usize) -> Self {
        let [chunk, n, p] = [chunk.max(1), d_state, head_dim].map(|size| size as f64);
        Self {
            inside: chunk * (n + p),
            states: 2.0 * n * p,
            between: n * p / chunk,
        }
    }

    /// All of them.
    pub fn total(&self) -> f64 {
        self.inside + self.states + self.between
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::Noise;
    use crate::scan::ssd_sequential;

    #[test]
    fn every_block_size_gives_what_the_recurrence_gives() {
        let values = |name: &str, shape: (usize, usize, usize)| {
            let noise = Noise::new(5, name);
            Array3::from_shape_fn(shape, |(i, j, k)| {
                f64::from(noise.normal((i * shape.1 + j) * shape.2 + k))
            })
        };
        for (tokens, heads, head_dim, d_state, groups) in [(1, 1, 1, 1, 1), (37, 4, 3, 5, 2)] {
            let x_lhp = values("x", (tokens, heads, head_dim));
            let (b_lgn, c_lgn) = (
                values("b", (tokens, groups, d_state)),
                values("c", (tokens, groups, d_state)),
            );
            let dt = values("dt", (tokens, heads, 1));
            let initial = values("initial", (heads, head_dim, d_state));
            let a_h = Array1::from_shape_fn(heads, |h| -1.0 - h as f64);
            let skip_h = Array1::from_elem(heads, 0.5);
            let input = SsdInput {
                x_lhp: x_lhp.view(),
                dt_lh: dt.slice(s![.., .., 0]),
                dt_bias_h: None,
                dt_softplus: true,
                dt_limit: (0.0, f64::INFINITY),
                a_h: a_h.view(),
                b_lgn: b_lgn.view(),
                c_lgn: c_lgn.view(),
                d_skip_h: Some(skip_h.view()),
                initial_hpn: Some(initial.view()),
            };
            let wanted = ssd_sequential(&input, |_, _| {}).unwrap();
            for chunk in [1, 2, 8, 37, 64, usize::MAX] {
                let found = ssd_blocks(&input, chunk).unwrap();
                let pairs = found.y_lhp.iter().zip(&wanted.y_lhp);
                let pairs = pairs.chain(found.last_hpn.iter().zip(&wanted.last_hpn));
                for (found, wanted) in pairs {
                    assert!((found - wanted).abs() < 1e-12, "{chunk}: {found} {wanted}");
                }
            }
            let empty = SsdInput {
                initial_hpn: None,
                d_skip_h: None,
                ..input
            };
            let wanted = ssd_sequential(&empty, |_, _| {}).unwrap();
            for h in 0..heads {
                let mixed = ssd_matrix(&empty, h)
                    .unwrap()
                    .dot(&Head::of(&empty, h).x_lp);
                let wanted = wanted.y_lhp.slice(s![.., h, ..]);
                assert!((&mixed - &wanted).iter().all(|x| x.abs() < 1e-12));
            }
            assert!(ssd_matrix(&input, heads).is_err());
        }
    }

    #[test]
    fn macs_are_those_counted_by_hand() {
        let macs = SsdMacs::of(64, 128, 64);
        assert_eq!(
            (macs.inside, macs.states, macs.between),
            (12_288.0, 16_384.0, 128.0)
        );
        assert_eq!(macs.total(), 28_800.0);
    }
}
