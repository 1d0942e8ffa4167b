//! Mamba-2's scan on the device: the recurrence, the chunked form, one token, and a scan on operands of its own.

use std::sync::Arc;

use mambascope_core::backend::BackendError;
use mambascope_core::scan::{SsdInput, SsdOutput, ssd_sequential};
use ndarray::{Array2, Array3};

use crate::buffer::Buffer;
use crate::gpu::{Gpu, Grid, Kernel, KernelArgs, Use};
use crate::ops::address;
use crate::source::Source;

/// Tokens of a chunk (`CHUNK` in ssd.cu).
pub(crate) const CHUNK: usize = 64;
/// Most slots of the recurrence.
pub(crate) const MOST_SLOTS: usize = 1024;

/// Sizes of a scan.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SsdShape {
    pub heads: usize,
    pub head_dim: usize,
    pub groups: usize,
    pub d_state: usize,
}

impl SsdShape {
    /// Whether the tensor cores' tiles fit; other shapes take the recurrence.
    pub(crate) fn fits_chunks(&self) -> bool {
        let fits = |size: usize, most: usize| size.is_multiple_of(16) && size <= most;
        fits(self.head_dim, 128) && fits(self.d_state, 256)
    }

    /// Values of the states before each chunk, of their decays, and of the products C·B.
    pub(crate) fn chunk_lens(&self, tokens: usize) -> [usize; 3] {
        if !self.fits_chunks() {
            return [0; 3];
        }
        let chunks = tokens.div_ceil(CHUNK);
        [
            chunks * self.heads * self.head_dim * self.d_state,
            chunks * self.heads,
            chunks * self.groups * CHUNK * CHUNK,
        ]
    }
}

/// `SsdArgs` of ssd.cu.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct SsdArgs {
    pub x: u64,
    pub delta: u64,
    pub a: u64,
    pub b: u64,
    pub c: u64,
    pub d_skip: u64,
    pub state: u64,
    pub y: u64,
    pub record: u64,
    pub chunk_states: u64,
    pub chunk_decay: u64,
    pub scores: u64,
    pub tokens: i32,
    pub heads: i32,
    pub head_dim: i32,
    pub groups: i32,
    pub d_state: i32,
    pub x_row: i32,
    pub b_row: i32,
    pub c_row: i32,
    pub y_row: i32,
    pub chunks: i32,
}
#[expect(unsafe_code, reason = "laid out as in ssd.cu")]
// SAFETY: the same fields in the same order: 12 pointers, 10 ints.
unsafe impl KernelArgs for SsdArgs {}

impl SsdArgs {
    /// The sizes, and nothing else.
    pub(crate) fn of(shape: &SsdShape, tokens: usize) -> Self {
        Self {
            tokens: tokens as i32,
            heads: shape.heads as i32,
            head_dim: shape.head_dim as i32,
            groups: shape.groups as i32,
            d_state: shape.d_state as i32,
            chunks: tokens.div_ceil(CHUNK) as i32,
            ..Self::default()
        }
    }

    fn rows(&self) -> usize {
        self.heads as usize * self.head_dim as usize
    }
}

/// v1: the recurrence, any shape; can record every state.
pub(crate) fn launch_plain(gpu: &Gpu, args: &SsdArgs) -> Result<(), BackendError> {
    let grid = Grid::line(args.rows().div_ceil(4), 128);
    gpu.launch(Kernel(Source::Ssd, "ssd_plain"), grid, args)
}

/// One token.
pub(crate) fn launch_step(gpu: &Gpu, args: &SsdArgs) -> Result<(), BackendError> {
    let grid = Grid::line(args.rows().div_ceil(4), 128);
    gpu.launch(Kernel(Source::Ssd, "ssd_step"), grid, args)
}

/// v2: chunks on tensor cores, for shapes that fit them.
pub(crate) fn launch_chunked(
    gpu: &Gpu,
    shape: &SsdShape,
    args: &SsdArgs,
) -> Result<(), BackendError> {
    let chunks = args.chunks as usize;
    let tiles = |size: usize| size.div_ceil(CHUNK);
    let grid = |blocks| Grid {
        blocks,
        threads: [128, 1, 1],
        shared: 0,
        overlaps: false,
        stays: false,
    };
    let (p, n) = (tiles(shape.head_dim), tiles(shape.d_state));
    let kernel = |name| Kernel(Source::Ssd, name);
    let states = grid([chunks, shape.heads + shape.groups, p * n]);
    gpu.launch(kernel("ssd_chunk_states"), states, args)?;
    let values = args.rows() * shape.d_state;
    gpu.launch(
        kernel("ssd_carry"),
        grid([values.div_ceil(512), 1, 1]),
        args,
    )?;
    gpu.launch(
        kernel("ssd_chunk_out"),
        grid([chunks, shape.heads, p]),
        args,
    )
}

fn check_slots(slots: usize) -> Result<(), BackendError> {
    if slots <= MOST_SLOTS {
        return Ok(());
    }
    Err(BackendError::Device(format!(
        "CUDA's scan of Mamba-2 has room for {MOST_SLOTS} slots a channel, and this one has {slots}: choose a CPU backend."
    )))
}

/// One sequence, its operands copied there and its results back; chunked where the shape fits and `chunk` asks for more than
/// a token at once.
///
/// # Errors
/// When an operand does not fit, there are too many slots, or the device refuses.
pub(crate) fn ssd_alone(
    gpu: &Arc<Gpu>,
    input: &SsdInput<'_, f32>,
    chunk: usize,
) -> Result<SsdOutput<f32>, BackendError> {
    input.validate()?;
    let (tokens, heads, head_dim, d_state) = input.dims();
    let shape = SsdShape {
        heads,
        head_dim,
        groups: input.b_lgn.dim().1,
        d_state,
    };
    check_slots(d_state)?;
    if tokens == 0 || heads * head_dim * d_state == 0 {
        // Nothing to launch for; the skip may be all there is.
        return Ok(ssd_sequential(input, |_, _| ())?);
    }
    let initial = input.initial_hpn.map_or_else(
        || Array3::zeros((heads, head_dim, d_state)),
        |h| h.to_owned(),
    );
    // Δ is two operations a head; it is activated where its clamp is defined, in the reference's own words.
    let delta = Array2::from_shape_fn((tokens, heads), |(l, h)| input.delta(l, h));
    let [x, b, c] = [input.x_lhp, input.b_lgn, input.c_lgn]
        .map(|values| Buffer::of_array(gpu, Use::Activations, values));
    let (x, b, c) = (x?, b?, c?);
    let (delta, a) = (
        Buffer::of_array(gpu, Use::Activations, delta.view())?,
        Buffer::of_array(gpu, Use::Activations, input.a_h)?,
    );
    let skip = input
        .d_skip_h
        .map(|skip| Buffer::of_array(gpu, Use::Activations, skip))
        .transpose()?;
    let state = Buffer::of_array(gpu, Use::Activations, initial.view())?;
    let y = Buffer::<f32>::new(gpu, Use::Activations, tokens * heads * head_dim)?;
    y.fill(0xff)?;
    let scratch = shape.chunk_lens(tokens).map(|len| {
        let buffer = Buffer::<f32>::new(gpu, Use::Activations, len)?;
        buffer.fill(0xff)?;
        Ok::<_, BackendError>(buffer)
    });
    let [states, decay, scores] = scratch;
    let (states, decay, scores) = (states?, decay?, scores?);
    let args = SsdArgs {
        x: x.pointer(),
        delta: delta.pointer(),
        a: a.pointer(),
        b: b.pointer(),
        c: c.pointer(),
        d_skip: address(skip.as_ref()),
        state: state.pointer(),
        y: y.pointer(),
        chunk_states: states.pointer(),
        chunk_decay: decay.pointer(),
        scores: scores.pointer(),
        x_row: (heads * head_dim) as i32,
        b_row: (shape.groups * d_state) as i32,
        c_row: (shape.groups * d_state) as i32,
        y_row: (heads * head_dim) as i32,
        ..SsdArgs::of(&shape, tokens)
    };
    if chunk > 1 && shape.fits_chunks() {
        launch_chunked(gpu, &shape, &args)?;
    } else if tokens == 1 {
        launch_step(gpu, &args)?;
    } else {
        launch_plain(gpu, &args)?;
    }
    let y = y.download(0, tokens * heads * head_dim)?;
    let last = state.download(0, heads * head_dim * d_state)?;
    Ok(SsdOutput {
        y_lhp: Array3::from_shape_fn((tokens, heads, head_dim), |(l, h, p)| {
            y[(l * heads + h) * head_dim + p]
        }),
        last_hpn: Array3::from_shape_fn((heads, head_dim, d_state), |(h, p, n)| {
            last[(h * head_dim + p) * d_state + n]
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_have_no_holes() {
        assert_eq!(size_of::<SsdArgs>(), 12 * 8 + 10 * 4);
    }
}
