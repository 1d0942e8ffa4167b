//! A token through all blocks of a Mamba-1 model in one launch (token.cu): which models it takes, and how it lays them out.

use std::sync::Arc;

use mambascope_core::backend::BackendError;
use mambascope_core::model::{MambaDims, MixerDims, Model};

use crate::blocks::mamba::Memory;
use crate::buffer::Buffer;
use crate::gpu::{Chip, Gpu, Grid, Kernel, KernelArgs, Use};
use crate::ops::address;
use crate::source::Source;
use crate::weights::{DeviceModel, LayerWeights, MambaWeights, MixerWeights};

const KERNEL: Kernel = Kernel(Source::Token, "token_bf16");

/// `TOKEN_WARPS`, `COPIES` and `RANK_HELD` in token.cu.
const WARPS: usize = 24;
const COPIES: usize = 4;
const MOST_RANK: usize = 4 * WARP;
const WARP: usize = 32;
/// Rows that a warp multiplies at once.
const TILE: usize = 16;
/// Shared memory that the kernel has beside what it is given: its barriers, in whole lines.
const BARRIERS: usize = 128;
/// Bytes that copies come in.
const PIECE: usize = 16;

/// Sizes of a model whose blocks are all the same: e, d, n and r.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    width: usize,
    channels: usize,
    slots: usize,
    rank: usize,
}

/// What each block has, and where in its shared memory, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Layout {
    blocks: usize,
    own_channels: usize,
    own_rows: usize,
    own_selects: usize,
    in_proj: usize,
    out_proj: usize,
    norm: usize,
    x: usize,
    y: usize,
    in_sums: usize,
    out_sums: usize,
    values: usize,
    /// From here twice what follows, for two layers.
    small: usize,
    small_bytes: usize,
    conv: usize,
    window: usize,
    conv_bias: usize,
    x_proj: usize,
    dt_proj: usize,
    dt_bias: usize,
    a: usize,
    skip: usize,
    state: usize,
    shared: usize,
}

/// Gives out bytes, one piece behind the other.
struct Room(usize);

impl Room {
    fn take(&mut self, bytes: usize) -> usize {
        let at = self.0;
        self.0 += bytes.next_multiple_of(PIECE);
        at
    }
}

impl Layout {
    /// Nothing for a shape the kernel does not take, or a chip whose blocks have no room for it.
    fn of(chip: Chip, shape: Shape) -> Option<Self> {
        let Shape {
            width,
            channels,
            slots,
            rank,
        } = shape;
        let is_taken = width.is_multiple_of(16)
            && channels.is_multiple_of(16)
            && rank.is_multiple_of(2)
            && (2..=MOST_RANK).contains(&rank)
            && (1..=WARP).contains(&slots);
        if !is_taken || width == 0 || channels == 0 {
            return None;
        }
        // In fours: what a block has of any tensor then begins and ends on 16 bytes.
        let own_channels = channels.div_ceil(chip.multiprocessors).next_multiple_of(4);
        let blocks = channels.div_ceil(own_channels);
        let selects = rank + 2 * slots;
        let (own_rows, own_selects) = (width.div_ceil(blocks), selects.div_ceil(blocks));
        // A warp a channel, and a warp a tile of rows.
        if own_channels > WARPS || own_rows > TILE * WARPS {
            return None;
        }
        let (float, half) = (size_of::<f32>(), size_of::<u16>());
        // Rows that tensor cores read are a piece longer; x and y lie there in three parts.
        let line = |values: usize| values * half + PIECE;
        let mut small = Room(0);
        small.take(LAYER_WORDS * size_of::<u64>());
        let mut layout = Self {
            blocks,
            own_channels,
            own_rows,
            own_selects,
            conv: small.take(own_channels * 4 * float),
            window: small.take(own_channels * 4 * float),
            conv_bias: small.take(own_channels * float),
            x_proj: small.take(own_selects * channels * half),
            dt_proj: small.take(own_channels * rank * half),
            dt_bias: small.take(own_channels * float),
            a: small.take(own_channels * slots * float),
            skip: small.take(own_channels * float),
            state: small.take(own_channels * slots * float),
            ..Self::default()
        };
        let mut room = Room(0);
        layout.in_proj = room.take(2 * own_channels * line(width));
        layout.out_proj = room.take(own_rows * line(channels));
        layout.norm = room.take(width * float);
        layout.x = room.take(3 * line(width));
        layout.y = room.take(3 * line(channels));
        layout.in_sums = room.take(2 * own_channels * WARPS * float);
        layout.out_sums = room.take(own_rows * WARPS * float);
        layout.values = room.take((2 * WARPS + 2 * own_channels + selects) * float);
        layout.small_bytes = small.0;
        layout.small = room.take(2 * small.0);
        layout.shared = room.0;
        (layout.shared + BARRIERS <= chip.shared_limit).then_some(layout)
    }

    /// As `TokenArgs` of token.cu has them.
    fn places(&self) -> [usize; 10] {
        [
            self.in_proj,
            self.out_proj,
            self.norm,
            self.x,
            self.y,
            self.in_sums,
            self.out_sums,
            self.values,
            self.small,
            self.small_bytes,
        ]
    }

    fn small_places(&self) -> [usize; 9] {
        [
            self.conv,
            self.window,
            self.conv_bias,
            self.x_proj,
            self.dt_proj,
            self.dt_bias,
            self.a,
            self.skip,
            self.state,
        ]
    }
}

/// Pointers in `TokenLayer` of token.cu, the spare one too.
const LAYER_WORDS: usize = 18;

/// `TokenLayer` of token.cu.
fn layer_words(norm: &Buffer<f32>, weights: &MambaWeights, memory: &Memory) -> [u64; LAYER_WORDS] {
    let inner = |part: usize| address(weights.inner_norms.as_ref().map(|norms| &norms[part]));
    [
        norm.pointer(),
        weights.in_proj.weight.pointer(),
        address(weights.in_proj.bias.as_ref()),
        weights.conv.pointer(),
        address(weights.conv_bias.as_ref()),
        memory.window.pointer(),
        weights.x_proj.pointer(),
        inner(0),
        inner(1),
        inner(2),
        weights.dt_proj.weight.pointer(),
        address(weights.dt_proj.bias.as_ref()),
        weights.a.pointer(),
        weights.skip.pointer(),
        memory.h.pointer(),
        weights.out_proj.weight.pointer(),
        address(weights.out_proj.bias.as_ref()),
        0,
    ]
}

/// `TokenArgs` of token.cu.
#[repr(C)]
#[derive(Clone, Copy)]
struct TokenArgs {
    layers: u64,
    id: u64,
    embedding: u64,
    x: u64,
    u: u64,
    projected: u64,
    y: u64,
    stream: u64,
    launches: u64,
    layer_count: i32,
    width: i32,
    channels: i32,
    slots: i32,
    rank: i32,
    own: [i32; 3],
    has_norm: i32,
    eps: f32,
    inner_eps: f32,
    per_width: f32,
    per_rank: f32,
    per_slot: f32,
    at: [i32; 10],
    small_at: [i32; 9],
    spare: i32,
}
#[expect(unsafe_code, reason = "laid out as in token.cu")]
// SAFETY: the same fields in the same order: 9 pointers, 9 ints, 5 floats, 20 ints.
unsafe impl KernelArgs for TokenArgs {}

/// A model's blocks as one launch.
pub(crate) struct TokenPass {
    args: TokenArgs,
    grid: Grid,
    /// What the arguments point to.
    _tables: [Buffer<u64>; 3],
}

/// The dimensions all blocks of a model share, where they are Mamba-1 and nothing else, with a window of four.
fn dims_of(model: &Model) -> Option<&MambaDims> {
    let dims = |block: usize| match &model.config.blocks.get(block)?.mixer {
        MixerDims::Mamba(dims) => Some(dims),
        _ => None,
    };
    let first = dims(0)?;
    let is_same = |block: usize| {
        model.config.blocks[block].feed_forward.is_none() && dims(block) == Some(first)
    };
    ((0..model.config.blocks.len()).all(is_same) && first.d_conv == 4).then_some(first)
}

/// A layer's weights, where the matrices are bf16.
fn mamba_of(layer: &LayerWeights) -> Option<&MambaWeights> {
    let MixerWeights::Mamba(weights) = &layer.mixer else {
        return None;
    };
    let matrices = [
        &weights.in_proj.weight,
        &weights.x_proj,
        &weights.dt_proj.weight,
        &weights.out_proj.weight,
    ];
    matrices
        .iter()
        .all(|matrix| matrix.is_bf16)
        .then_some(weights)
}

impl TokenPass {
    /// For a model and what a session remembers of it; `ids` begins with the token's. Nothing where the kernel does not take the
    /// model, or the device cannot keep all its blocks at once.
    ///
    /// # Errors
    /// When the device has no memory for it, or refuses the kernel.
    pub(crate) fn new(
        gpu: &Arc<Gpu>,
        model: &Model,
        weights: &DeviceModel,
        memories: &[&Memory],
        ids: &Buffer<i32>,
    ) -> Result<Option<Self>, BackendError> {
        let shape = |dims: &MambaDims| Shape {
            width: model.config.d_model,
            channels: dims.d_inner,
            slots: dims.d_state,
            rank: dims.dt_rank,
        };
        let mixers: Option<Vec<_>> = weights.layers.iter().map(mamba_of).collect();
        let (Some(dims), Some(mixers), true) = (dims_of(model), mixers, weights.embedding.is_bf16)
        else {
            return Ok(None);
        };
        let Some(layout) = Layout::of(gpu.chip(), shape(dims)) else {
            return Ok(None);
        };
        // It does not wait for the launch before it, and must not begin sooner.
        let grid = Grid {
            shared: layout.shared,
            stays: true,
            ..Grid::line(layout.blocks, WARP * (WARPS + 1))
        };
        if memories.len() != mixers.len() || !gpu.can_stay_on_hopper(KERNEL, grid)? {
            return Ok(None);
        }
        let layers = weights.layers.iter().zip(mixers).zip(memories);
        let layers: Vec<u64> = layers
            .flat_map(|((layer, mixer), memory)| layer_words(&layer.norm, mixer, memory))
            .collect();
        let [width, channels] = [model.config.d_model, dims.d_inner];
        let selects = dims.dt_rank + 2 * dims.d_state;
        let layers = Buffer::of(gpu, Use::Activations, &layers)?;
        // Turns begin at one: what is zero has none.
        let packets = COPIES * (channels + selects + channels + width);
        let packets = Buffer::<u64>::zeros(gpu, Use::Activations, packets)?;
        let launches = Buffer::<u64>::zeros(gpu, Use::Activations, 1)?;
        let args = TokenArgs {
            layers: layers.pointer(),
            id: ids.pointer(),
            embedding: weights.embedding.pointer(),
            x: 0,
            u: packets.at(0),
            projected: packets.at(COPIES * channels),
            y: packets.at(COPIES * (channels + selects)),
            stream: packets.at(COPIES * (channels + selects + channels)),
            launches: launches.pointer(),
            layer_count: memories.len() as i32,
            width: width as i32,
            channels: channels as i32,
            slots: dims.d_state as i32,
            rank: dims.dt_rank as i32,
            own: [layout.own_channels, layout.own_rows, layout.own_selects].map(|n| n as i32),
            has_norm: dims.inner_norm.is_some().into(),
            eps: model.config.norm_eps,
            inner_eps: dims.inner_norm.map_or(0.0, |norm| norm.eps),
            per_width: (width as f32).recip(),
            per_rank: (dims.dt_rank as f32).recip(),
            per_slot: (dims.d_state as f32).recip(),
            at: layout.places().map(|at| at as i32),
            small_at: layout.small_places().map(|at| at as i32),
            spare: 0,
        };
        Ok(Some(Self {
            args,
            grid,
            _tables: [layers, packets, launches],
        }))
    }

    /// The stream behind the last block to `x`, `[e]`, and every block's memory moved on.
    ///
    /// # Errors
    /// What the device said.
    pub(crate) fn run(&self, gpu: &Gpu, x: &Buffer<f32>) -> Result<(), BackendError> {
        let args = TokenArgs {
            x: x.pointer(),
            ..self.args
        };
        gpu.launch(KERNEL, self.grid, &args)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const H200: Chip = Chip::HOPPER;

    fn shape([width, channels, slots, rank]: [usize; 4]) -> Shape {
        Shape {
            width,
            channels,
            slots,
            rank,
        }
    }

    /// mamba-130m and -370m, and odd ones.
    const TAKEN: [[usize; 4]; 6] = [
        [768, 1536, 16, 48],
        [1024, 2048, 16, 64],
        [64, 128, 16, 4],
        [48, 272, 7, 10],
        [2048, 32, 32, 128],
        [16, 16, 1, 2],
    ];

    #[test]
    fn every_channel_row_and_selection_has_a_block() {
        for sizes in TAKEN {
            let [width, channels, slots, rank] = sizes;
            let layout = Layout::of(H200, shape(sizes)).unwrap();
            assert!(layout.blocks <= H200.multiprocessors, "{layout:?}");
            // Each block has a channel: who has none would not be waited for.
            assert!((layout.blocks - 1) * layout.own_channels < channels);
            assert!(layout.blocks * layout.own_channels >= channels);
            assert!(layout.blocks * layout.own_rows >= width);
            assert!(layout.blocks * layout.own_selects >= rank + 2 * slots);
            assert!(layout.own_channels.is_multiple_of(4));
        }
    }

    #[test]
    fn places_follow_each_other_on_pieces() {
        for sizes in TAKEN {
            let layout = Layout::of(H200, shape(sizes)).unwrap();
            let [places @ .., small_bytes] = layout.places();
            assert!(places.is_sorted(), "{layout:?}");
            assert!(places.iter().all(|at| at.is_multiple_of(PIECE)));
            let small = layout.small_places();
            assert!(small[0] >= LAYER_WORDS * size_of::<u64>() && small.is_sorted());
            assert!(small.iter().all(|at| at.is_multiple_of(PIECE)));
            assert!(small[8] < small_bytes, "{layout:?}");
            assert_eq!(layout.shared, layout.small + 2 * small_bytes);
        }
        let layout = Layout::of(H200, shape(TAKEN[0])).unwrap();
        assert_eq!(
            (layout.blocks, layout.own_channels, layout.own_rows),
            (128, 12, 6)
        );
        assert_eq!(layout.in_proj, 0);
        assert_eq!(layout.out_proj, 24 * (768 + 8) * 2);
        assert_eq!(layout.norm, layout.out_proj + 6 * (1536 + 8) * 2);
    }

    #[test]
    fn other_shapes_are_left_to_four_launches() {
        for sizes in [
            [760, 1536, 16, 48],
            [768, 1544, 16, 48],
            [768, 1536, 33, 48],
            [768, 1536, 16, 47],
            [768, 1536, 16, 130],
            // More rows than the warps have tiles for.
            [4096, 32, 16, 32],
            // More than shared memory holds, and more channels than warps.
            [1536, 3072, 16, 96],
            [2560, 5120, 16, 96],
        ] {
            assert_eq!(Layout::of(H200, shape(sizes)), None, "{sizes:?}");
        }
        let small = Chip {
            shared_limit: 64 << 10,
            ..H200
        };
        assert_eq!(Layout::of(small, shape(TAKEN[0])), None);
    }

    #[test]
    fn the_arguments_have_no_holes() {
        assert_eq!(size_of::<TokenArgs>(), 9 * 8 + 34 * 4);
        assert!((LAYER_WORDS * size_of::<u64>()).is_multiple_of(PIECE));
    }
}
