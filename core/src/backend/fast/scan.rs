//! The selective scan over blocks of channels: lanes are channels, so nothing is summed across lanes.

use ndarray::parallel::prelude::*;
use ndarray::{ArrayView2, ArrayViewMut1, ArrayViewMut2, ArrayViewMut3, Axis, s};
use pulp::{Arch, Simd, WithSimd};

use super::math::exp;

/// Slots of one channel block held at once: with their A, as much as the registers take.
const TILE: usize = 16;
/// Below this many state updates a second thread costs more than it brings.
const PARALLEL_FROM: usize = 1 << 16;
/// Channels a task takes: four lines of memory of f32.
const TASK_CHANNELS: usize = 64;

/// B or C as the kernel reads them.
#[derive(Clone, Copy)]
pub(crate) enum Coefficient<'a> {
    /// `[l, n]`: the same for all channels.
    PerToken(ArrayView2<'a, f32>),
    /// `[n, d]`: the same for all tokens.
    PerChannel(ArrayView2<'a, f32>),
}

impl<'a> Coefficient<'a> {
    fn columns(self, from: usize, to: usize) -> Self {
        match self {
            Coefficient::PerToken(ln) => Coefficient::PerToken(ln),
            Coefficient::PerChannel(nd) => Coefficient::PerChannel(nd.slice_move(s![.., from..to])),
        }
    }

    /// The values for token `l`, slot `n`, channels `d..d + width`.
    #[inline(always)]
    fn load<S: Simd>(&self, simd: S, l: usize, n: usize, d: usize, width: usize) -> S::f32s {
        match self {
            Coefficient::PerToken(ln) => simd.splat_f32s(ln[[l, n]]),
            Coefficient::PerChannel(nd) => load(simd, &row(nd, n)[d..d + width]),
        }
    }
}

/// What the recurrence reads: Δ is final (bias and softplus done), A transposed to `[n, d]`.
#[derive(Clone, Copy)]
pub(crate) struct Channels<'a> {
    pub(crate) u_ld: ArrayView2<'a, f32>,
    pub(crate) delta_ld: ArrayView2<'a, f32>,
    pub(crate) a_nd: ArrayView2<'a, f32>,
    pub(crate) b: Coefficient<'a>,
    pub(crate) c: Coefficient<'a>,
}

impl<'a> Channels<'a> {
    fn columns(&self, from: usize, to: usize) -> Channels<'a> {
        let part = s![.., from..to];
        Channels {
            u_ld: self.u_ld.slice_move(part),
            delta_ld: self.delta_ld.slice_move(part),
            a_nd: self.a_nd.slice_move(part),
            b: self.b.columns(from, to),
            c: self.c.columns(from, to),
        }
    }
}

/// y[l,d] = Σ_n C·h with h ← exp(ΔA)·h + Δ·B·u, from and into `h_nd`; `h_ldn`, where given, takes every state on the way.
pub(super) fn scan_channels(
    input: &Channels<'_>,
    mut h_nd: ArrayViewMut2<'_, f32>,
    mut y_ld: ArrayViewMut2<'_, f32>,
    mut h_ldn: Option<ArrayViewMut3<'_, f32>>,
) {
    let (tokens, d_inner) = input.u_ld.dim();
    if tokens == 1 {
        Arch::new().dispatch(Step {
            input: *input,
            h_nd: h_nd.view_mut(),
            y_d: y_ld.row_mut(0),
        });
        if let Some(mut h_dn) = h_ldn.as_mut().map(|h_ldn| h_ldn.index_axis_mut(Axis(0), 0)) {
            h_dn.assign(&h_nd.t());
        }
        return;
    }
    if tokens * input.a_nd.len() < PARALLEL_FROM || rayon::current_num_threads() == 1 {
        let h_ldn = h_ldn.as_mut().map(|h| h.view_mut());
        return run_kernel(*input, h_nd.view_mut(), y_ld.view_mut(), h_ldn);
    }
    let task = |i: usize| {
        let from = i * TASK_CHANNELS;
        input.columns(from, (from + TASK_CHANNELS).min(d_inner))
    };
    let parts = h_nd
        .axis_chunks_iter_mut(Axis(1), TASK_CHANNELS)
        .into_par_iter();
    let parts = parts.zip(
        y_ld.axis_chunks_iter_mut(Axis(1), TASK_CHANNELS)
            .into_par_iter(),
    );
    match &mut h_ldn {
        Some(h_ldn) => parts
            .zip(
                h_ldn
                    .axis_chunks_iter_mut(Axis(1), TASK_CHANNELS)
                    .into_par_iter(),
            )
            .enumerate()
            .for_each(|(i, ((h_nd, y_ld), h_ldn))| run_kernel(task(i), h_nd, y_ld, Some(h_ldn))),
        None => parts
            .enumerate()
            .for_each(|(i, (h_nd, y_ld))| run_kernel(task(i), h_nd, y_ld, None)),
    }
}

/// [`scan_channels`] on the caller's own thread.
pub(crate) fn run_kernel<'o>(
    input: Channels<'_>,
    h_nd: ArrayViewMut2<'o, f32>,
    y_ld: ArrayViewMut2<'o, f32>,
    h_ldn: Option<ArrayViewMut3<'o, f32>>,
) {
    Arch::new().dispatch(Kernel {
        input,
        h_nd,
        y_ld,
        h_ldn,
    });
}

/// One token: a slot's row of the state at a time, from one end to the other. State and A come from memory, where a block of channels
/// over all slots would be a line here and a line there, which no processor fetches ahead.
struct Step<'i, 'o> {
    input: Channels<'i>,
    h_nd: ArrayViewMut2<'o, f32>,
    y_d: ArrayViewMut1<'o, f32>,
}

impl WithSimd for Step<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let input = self.input;
        let (u, delta) = (row(&input.u_ld, 0), row(&input.delta_ld, 0));
        self.y_d.fill(0.0);
        let Some(y) = self.y_d.as_slice_mut() else {
            return;
        };
        for n in 0..input.a_nd.nrows() {
            let a = row(&input.a_nd, n);
            let h = row_mut(&mut self.h_nd, n);
            let lanes = S::F32_LANES;
            let channels = h.chunks_mut(lanes).zip(y.chunks_mut(lanes));
            let read = delta
                .chunks(lanes)
                .zip(u.chunks(lanes))
                .zip(a.chunks(lanes));
            for (i, ((h, y), ((delta, u), a))) in channels.zip(read).enumerate() {
                let delta = load(simd, delta);
                let delta_u = simd.mul_f32s(delta, load(simd, u));
                let decay = exp(simd, simd.mul_f32s(delta, load(simd, a)));
                let b = input.b.load(simd, 0, n, i * lanes, h.len());
                let c = input.c.load(simd, 0, n, i * lanes, h.len());
                let next = simd.mul_add_e_f32s(decay, load(simd, h), simd.mul_f32s(delta_u, b));
                let sum = simd.mul_add_e_f32s(c, next, load(simd, y));
                store(simd, h, next);
                store(simd, y, sum);
            }
        }
    }
}

/// As many values as there are lanes, or the last fewer: what is whole is one instruction.
#[inline(always)]
fn load<S: Simd>(simd: S, values: &[f32]) -> S::f32s {
    match S::as_simd_f32s(values).0.first() {
        Some(whole) => *whole,
        None => simd.partial_load_f32s(values),
    }
}

#[inline(always)]
fn store<S: Simd>(simd: S, values: &mut [f32], lanes: S::f32s) {
    if let Some(whole) = S::as_mut_simd_f32s(values).0.first_mut() {
        *whole = lanes;
    } else {
        simd.partial_store_f32s(values, lanes);
    }
}

struct Kernel<'i, 'o> {
    input: Channels<'i>,
    h_nd: ArrayViewMut2<'o, f32>,
    y_ld: ArrayViewMut2<'o, f32>,
    h_ldn: Option<ArrayViewMut3<'o, f32>>,
}

impl WithSimd for Kernel<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let d_inner = self.input.u_ld.ncols();
        let d_state = self.input.a_nd.nrows();
        self.y_ld.fill(0.0);
        for d in (0..d_inner).step_by(S::F32_LANES) {
            let width = S::F32_LANES.min(d_inner - d);
            for n in (0..d_state).step_by(TILE) {
                self.tile(simd, d..d + width, n..(n + TILE).min(d_state));
            }
        }
    }
}

impl Kernel<'_, '_> {
    /// All tokens for one block of channels and one tile of slots.
    #[inline(always)]
    fn tile<S: Simd>(
        &mut self,
        simd: S,
        channels: std::ops::Range<usize>,
        slots: std::ops::Range<usize>,
    ) {
        let input = &self.input;
        let zero = simd.splat_f32s(0.0);
        let (mut h, mut a) = ([zero; TILE], [zero; TILE]);
        for (i, n) in slots.clone().enumerate() {
            h[i] = load(simd, &row(&self.h_nd.view(), n)[channels.clone()]);
            a[i] = load(simd, &row(&input.a_nd, n)[channels.clone()]);
        }
        for l in 0..input.u_ld.nrows() {
            let delta = load(simd, &row(&input.delta_ld, l)[channels.clone()]);
            let u = load(simd, &row(&input.u_ld, l)[channels.clone()]);
            let delta_u = simd.mul_f32s(delta, u);
            let y_d = &mut row_mut(&mut self.y_ld, l)[channels.clone()];
            let mut y = load(simd, y_d);
            for (i, n) in slots.clone().enumerate() {
                let decay = exp(simd, simd.mul_f32s(delta, a[i]));
                let b = input.b.load(simd, l, n, channels.start, channels.len());
                let c = input.c.load(simd, l, n, channels.start, channels.len());
                h[i] = simd.mul_add_e_f32s(decay, h[i], simd.mul_f32s(delta_u, b));
                y = simd.mul_add_e_f32s(c, h[i], y);
            }
            store(simd, y_d, y);
            if let Some(h_ldn) = &mut self.h_ldn {
                for (i, n) in slots.clone().enumerate() {
                    let lanes: &[f32] = bytemuck::cast_slice(std::slice::from_ref(&h[i]));
                    for (d, value) in channels.clone().zip(lanes) {
                        h_ldn[[l, d, n]] = *value;
                    }
                }
            }
        }
        for (i, n) in slots.enumerate() {
            store(
                simd,
                &mut row_mut(&mut self.h_nd, n)[channels.clone()],
                h[i],
            );
        }
    }
}

/// A row of a view whose rows are contiguous, as all operands of the kernel are.
#[inline(always)]
#[expect(
    clippy::expect_used,
    reason = "every operand is laid out by this backend, row by row"
)]
fn row<'a>(view: &'a ArrayView2<'_, f32>, index: usize) -> &'a [f32] {
    view.row(index).to_slice().expect("contiguous rows")
}

#[inline(always)]
#[expect(
    clippy::expect_used,
    reason = "every operand is laid out by this backend, row by row"
)]
fn row_mut<'a>(view: &'a mut ArrayViewMut2<'_, f32>, index: usize) -> &'a mut [f32] {
    view.row_mut(index).into_slice().expect("contiguous rows")
}
