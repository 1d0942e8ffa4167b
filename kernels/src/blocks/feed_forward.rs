//! Feed-forward networks over a chunk of tokens. With experts, the device itself finds which tokens go through which: the
//! lists and their lengths never leave it.

use mambascope_core::backend::BackendError;
use mambascope_core::trace::{Probe, Site};

use crate::buffer::Buffer;
use crate::gpu::{Grid, Kernel, KernelArgs};
use crate::ops::{Product, Rows};
use crate::pass::Pass;
use crate::source::Source;
use crate::weights::{FeedForwardWeights, MlpWeights};

/// Most experts (`route` in experts.cu).
pub(crate) const MOST_EXPERTS: usize = 64;

/// x ← x + network(RMSNorm(x)) for block `i`; with experts, each token through the `top` its router prefers.
pub(crate) fn run(
    pass: &mut Pass<'_>,
    i: usize,
    norm: &Buffer<f32>,
    weights: &FeedForwardWeights,
    top: usize,
) -> Result<(), BackendError> {
    pass.norm(norm, None)?;
    match weights {
        FeedForwardWeights::Dense(mlp) => {
            let up = swiglu(pass, mlp, pass.normed(), None)?;
            pass.add_product(up, &mlp.down, None)
        }
        FeedForwardWeights::Experts { router, experts } => {
            let scores = Rows::of(&pass.scratch.projected, 0, experts.len());
            let product = Product {
                overlaps: false,
                ..pass.matrix_product(pass.normed(), router, scores)
            };
            product.run(pass.gpu)?;
            let shape = [pass.tokens, experts.len()];
            let site = Site::layer(i, Probe::RouterLogits);
            pass.record(site, &pass.scratch.projected, [0, experts.len()], &shape)?;
            route(pass, experts.len(), top)?;
            (0..experts.len()).try_for_each(|x| mix_expert(pass, experts, x))
        }
    }
}

/// The columns of the two halves' output: gate, up.
fn swiglu(
    pass: &Pass<'_>,
    mlp: &MlpWeights,
    x: Rows,
    count: Option<u64>,
) -> Result<Rows, BackendError> {
    let width = mlp.gate.weight.out;
    let row = 2 * width;
    let [gate, up] = [0, width].map(|from| Rows::of(&pass.scratch.wide, from, row));
    for (linear, y) in [(&mlp.gate, gate), (&mlp.up, up)] {
        let product = Product {
            row_count: count,
            ..pass.product(x, linear, y)
        };
        product.run(pass.gpu)?;
    }
    let args = SwigluArgs {
        gate: gate.at,
        up: up.at,
        count: count.unwrap_or(0),
        rows: pass.tokens as i32,
        width: width as i32,
        gate_row: row as i32,
        up_row: row as i32,
    };
    launch_rows(pass, "swiglu", width, &args)?;
    Ok(up)
}

/// Shares of the experts, `[l, x]`, behind their scores; then who goes where.
fn route(pass: &Pass<'_>, experts: usize, top: usize) -> Result<(), BackendError> {
    let args = RouteArgs {
        logits: pass.scratch.projected.pointer(),
        shares: shares(pass, experts),
        tokens: pass.tokens as i32,
        experts: experts as i32,
        top: top as i32,
        logits_row: experts as i32,
    };
    let grid = Grid::line(pass.tokens.div_ceil(4), 128);
    pass.gpu
        .launch(Kernel(Source::Experts, "route"), grid, &args)?;
    let args = GatherRowsArgs {
        shares: shares(pass, experts),
        lists: pass.scratch.lists.pointer(),
        counts: pass.scratch.counts.pointer(),
        tokens: pass.tokens as i32,
        experts: experts as i32,
    };
    let grid = Grid::line(experts, 256);
    pass.gpu
        .launch(Kernel(Source::Experts, "gather_rows"), grid, &args)
}

fn shares(pass: &Pass<'_>, experts: usize) -> u64 {
    pass.scratch.projected.at(pass.tokens * experts)
}

/// x ← x + share · expert(tokens that have one), for expert `x`.
fn mix_expert(pass: &Pass<'_>, experts: &[MlpWeights], x: usize) -> Result<(), BackendError> {
    let (width, scratch) = (pass.width(), pass.scratch);
    let mlp = &experts[x];
    let gathered = Rows::of(&scratch.gathered, 0, width);
    let args = GatherArgs {
        from: pass.normed().at,
        lists: scratch.lists.pointer(),
        counts: scratch.counts.pointer(),
        rows: gathered.at,
        tokens: pass.tokens as i32,
        width: width as i32,
        expert: x as i32,
        from_row: width as i32,
    };
    launch_rows(pass, "gather", width, &args)?;
    let count = Some(scratch.counts.at(x));
    let up = swiglu(pass, mlp, gathered, count)?;
    let mixed = Rows::of(&scratch.mixed, 0, width);
    let product = Product {
        row_count: count,
        ..pass.product(up, &mlp.down, mixed)
    };
    product.run(pass.gpu)?;
    let args = ScatterAddArgs {
        rows: mixed.at,
        shares: shares(pass, experts.len()),
        lists: scratch.lists.pointer(),
        counts: scratch.counts.pointer(),
        out: scratch.x.pointer(),
        tokens: pass.tokens as i32,
        width: width as i32,
        experts: experts.len() as i32,
        expert: x as i32,
        out_row: width as i32,
        spare: 0,
    };
    launch_rows(pass, "scatter_add", width, &args)
}

/// A kernel that goes over rows of `width` values, however many blocks there are.
fn launch_rows<A: KernelArgs>(
    pass: &Pass<'_>,
    name: &'static str,
    width: usize,
    args: &A,
) -> Result<(), BackendError> {
    let mut grid = Grid::line(pass.tokens.min(1024), 256);
    grid.blocks[1] = width.div_ceil(256);
    pass.gpu.launch(Kernel(Source::Experts, name), grid, args)
}

/// `RouteArgs` of experts.cu.
#[repr(C)]
struct RouteArgs {
    logits: u64,
    shares: u64,
    tokens: i32,
    experts: i32,
    top: i32,
    logits_row: i32,
}
#[expect(unsafe_code, reason = "laid out as in experts.cu")]
// SAFETY: the same fields in the same order.
unsafe impl KernelArgs for RouteArgs {}

/// `GatherRowsArgs` of experts.cu.
#[repr(C)]
struct GatherRowsArgs {
    shares: u64,
    lists: u64,
    counts: u64,
    tokens: i32,
    experts: i32,
}
#[expect(unsafe_code, reason = "laid out as in experts.cu")]
// SAFETY: the same fields in the same order.
unsafe impl KernelArgs for GatherRowsArgs {}

/// `GatherArgs` of experts.cu.
#[repr(C)]
struct GatherArgs {
    from: u64,
    lists: u64,
    counts: u64,
    rows: u64,
    tokens: i32,
    width: i32,
    expert: i32,
    from_row: i32,
}
#[expect(unsafe_code, reason = "laid out as in experts.cu")]
// SAFETY: the same fields in the same order.
unsafe impl KernelArgs for GatherArgs {}

/// `ScatterAddArgs` of experts.cu.
#[repr(C)]
struct ScatterAddArgs {
    rows: u64,
    shares: u64,
    lists: u64,
    counts: u64,
    out: u64,
    tokens: i32,
    width: i32,
    experts: i32,
    expert: i32,
    out_row: i32,
    spare: i32,
}
#[expect(unsafe_code, reason = "laid out as in experts.cu")]
// SAFETY: the same fields in the same order.
unsafe impl KernelArgs for ScatterAddArgs {}

/// `SwigluArgs` of experts.cu.
#[repr(C)]
struct SwigluArgs {
    gate: u64,
    up: u64,
    count: u64,
    rows: i32,
    width: i32,
    gate_row: i32,
    up_row: i32,
}
#[expect(unsafe_code, reason = "laid out as in experts.cu")]
// SAFETY: the same fields in the same order.
unsafe impl KernelArgs for SwigluArgs {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_have_no_holes() {
        assert_eq!(size_of::<RouteArgs>(), 2 * 8 + 4 * 4);
        assert_eq!(size_of::<GatherRowsArgs>(), 3 * 8 + 2 * 4);
        assert_eq!(size_of::<GatherArgs>(), 4 * 8 + 4 * 4);
        assert_eq!(size_of::<ScatterAddArgs>(), 5 * 8 + 6 * 4);
        assert_eq!(size_of::<SwigluArgs>(), 3 * 8 + 4 * 4);
    }
}
