//! The second half of a block: a SwiGLU network (arXiv:2002.05202), or several of which a router picks (Jamba, arXiv:2403.19887).

use ndarray::{Array1, Array2};

use super::attention::softmax;
use super::layers::{linear, row};
use super::record;
use crate::model::{FeedForward, Mlp};
use crate::scan::{Real, silu};
use crate::trace::{Probe, Site, Tap};

/// `[l, e]` → `[l, e]`, each token alone; with experts, each through the `top` its router prefers.
pub(super) fn feed_forward<T: Real>(
    x_le: &Array2<T>,
    network: &FeedForward,
    top: usize,
    layer: usize,
    tap: &mut dyn Tap,
) -> Array2<T> {
    match network {
        FeedForward::Dense(mlp) => swiglu(x_le, mlp),
        FeedForward::Experts { router, experts } => {
            let scores_lx = linear(x_le, router, None);
            record(tap, Site::layer(layer, Probe::RouterLogits), &scores_lx);
            let mut y_le = Array2::zeros(x_le.dim());
            for l in 0..x_le.nrows() {
                // p = softmax over all experts; the chosen ones keep their p, which then do not sum to one
                let p_x = softmax(scores_lx.row(l).to_vec());
                for x in most(&p_x, top) {
                    let out = swiglu(&row(x_le, l), &experts[x]);
                    let weighted: Array1<T> = out.row(0).mapv(|value| value * p_x[x]);
                    let mut y_e = y_le.row_mut(l);
                    y_e += &weighted;
                }
            }
            y_le
        }
    }
}

/// down(SiLU(gate x) · up x).
fn swiglu<T: Real>(x_le: &Array2<T>, mlp: &Mlp) -> Array2<T> {
    let gate = linear(x_le, &mlp.gate, mlp.gate_bias.as_ref()).mapv(silu);
    let up = linear(x_le, &mlp.up, mlp.up_bias.as_ref());
    linear(&(gate * up), &mlp.down, mlp.down_bias.as_ref())
}

/// Indices of the `top` largest, in rising order of index; of equals the first.
fn most<T: Real>(p_x: &[T], top: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..p_x.len()).collect();
    order.sort_by(|&a, &b| {
        let order = p_x[b].partial_cmp(&p_x[a]);
        order.unwrap_or(std::cmp::Ordering::Equal)
    });
    order.truncate(top);
    order.sort_unstable();
    order
}
