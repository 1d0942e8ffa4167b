//! Feed-forward networks over a chunk of tokens; with experts, all tokens of one expert at a time.

use super::math::{gate, multiply_add_scalar, softmax};
use super::matmul::{ProductScratch, Products, Rows, linear};
use super::session::{Pass, record, room};
use crate::model::{FeedForward, Mlp};
use crate::tensor::Tensor;
use crate::trace::{Probe, Site};

/// Buffers of a chunk.
#[derive(Default)]
pub(super) struct FeedForwardScratch {
    gate: Vec<f32>,
    up: Vec<f32>,
    /// Scores of the experts, then their shares, `[l, x]`.
    shares_lx: Vec<f32>,
    /// Which tokens go through the expert at hand.
    chosen: Vec<usize>,
    /// Those tokens, `[m, e]`, and what comes of them.
    gathered: Vec<f32>,
    out: Vec<f32>,
}

/// `out_le` = network(`norm_le`); with experts, each token through the `top` its router prefers.
pub(super) fn feed_forward(pass: &mut Pass<'_>, i: usize, network: &FeedForward, top: usize) {
    match network {
        FeedForward::Dense(mlp) => {
            let width = pass.width();
            let scratch = &mut *pass.scratch;
            let FeedForwardScratch { gate, up, .. } = &mut scratch.feed_forward;
            let x = Rows::whole(&scratch.norm_le, width);
            swiglu(
                mlp,
                x,
                pass.tokens,
                &mut scratch.out_le,
                gate,
                up,
                &mut scratch.products,
                pass.products,
            );
        }
        FeedForward::Experts { router, experts } => {
            route(pass, i, router, top);
            mix_experts(pass, experts);
        }
    }
}

/// Shares of the experts: softmax over all, then zero but for the `top` largest, whose shares stay as they are.
fn route(pass: &mut Pass<'_>, i: usize, router: &Tensor, top: usize) {
    let (width, count, tokens) = (pass.width(), router.shape()[0], pass.tokens);
    let scratch = &mut *pass.scratch;
    let shares_lx = room(&mut scratch.feed_forward.shares_lx, tokens * count);
    let x = Rows::whole(&scratch.norm_le, width);
    let products = &mut scratch.products;
    linear(shares_lx, x, router, None, products, pass.products);
    let site = Site::layer(i, Probe::RouterLogits);
    record(pass.tap, site, shares_lx, &[tokens, count]);
    for shares_x in shares_lx.chunks_exact_mut(count) {
        softmax(shares_x);
        // Of equals the first counts as larger.
        let rank = |x: usize, all: &[f32]| {
            let ahead = |(y, share): (usize, &f32)| *share > all[x] || (*share == all[x] && y < x);
            all.iter().enumerate().filter(|&other| ahead(other)).count()
        };
        let chosen = &mut scratch.feed_forward.chosen;
        chosen.clear();
        chosen.extend((0..count).filter(|&x| rank(x, shares_x) >= top));
        for &x in &*chosen {
            shares_x[x] = 0.0;
        }
    }
}

/// Each expert on the tokens that have a share of it.
fn mix_experts(pass: &mut Pass<'_>, experts: &[Mlp]) {
    let width = pass.width();
    let scratch = &mut *pass.scratch;
    let FeedForwardScratch {
        gate,
        up,
        shares_lx,
        chosen,
        gathered,
        out,
    } = &mut scratch.feed_forward;
    scratch.out_le.fill(0.0);
    let shares_lx = &shares_lx[..pass.tokens * experts.len()];
    for (x, expert) in experts.iter().enumerate() {
        let shares = shares_lx.iter().skip(x).step_by(experts.len());
        chosen.clear();
        // Written so that a share that is not a number counts: it must not vanish.
        chosen.extend(
            shares
                .enumerate()
                .filter(|(_, share)| **share != 0.0)
                .map(|(l, _)| l),
        );
        if chosen.is_empty() {
            continue;
        }
        let len = chosen.len() * width;
        let rows = room(gathered, len);
        for (row, &l) in rows.chunks_exact_mut(width).zip(&*chosen) {
            row.copy_from_slice(&scratch.norm_le[l * width..][..width]);
        }
        let (tokens, out) = (chosen.len(), room(out, len));
        swiglu(
            expert,
            Rows::whole(rows, width),
            tokens,
            out,
            gate,
            up,
            &mut scratch.products,
            pass.products,
        );
        for (out_e, &l) in out.chunks_exact(width).zip(&*chosen) {
            let sum = &mut scratch.out_le[l * width..][..width];
            multiply_add_scalar(sum, shares_lx[l * experts.len() + x], out_e);
        }
    }
}

/// down(SiLU(gate x) · up x).
fn swiglu(
    mlp: &Mlp,
    x: Rows<'_>,
    tokens: usize,
    out: &mut [f32],
    gate_buffer: &mut Vec<f32>,
    up_buffer: &mut Vec<f32>,
    products: &mut ProductScratch,
    how: Products,
) {
    let width = mlp.gate.shape()[0];
    let gated = room(gate_buffer, tokens * width);
    let up = room(up_buffer, tokens * width);
    linear(gated, x, &mlp.gate, mlp.gate_bias.as_ref(), products, how);
    linear(up, x, &mlp.up, mlp.up_bias.as_ref(), products, how);
    gate(up, gated);
    linear(
        out,
        Rows::whole(up, width),
        &mlp.down,
        mlp.down_bias.as_ref(),
        products,
        how,
    );
}
