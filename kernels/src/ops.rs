//! The stages of a forward pass as calls: each checks nothing but the choice of a kernel, and asks for one launch.
//! Shapes are the callers' promise; they come from a model whose every tensor was checked when it was loaded.

use mambascope_core::backend::BackendError;

use crate::buffer::{Buffer, Mailbox};
use crate::gpu::{Gpu, Grid, Kernel, KernelArgs};
use crate::library::SplitProduct;
use crate::source::Source;
use crate::weights::Matrix;

/// Rows of f32 on the device: the address of the first, and how far apart they are, in values.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows {
    pub at: u64,
    pub row: usize,
}

impl Rows {
    /// Columns from `from` on of a buffer whose rows are `row` wide.
    pub(crate) fn of(buffer: &Buffer<f32>, from: usize, row: usize) -> Self {
        Self {
            at: buffer.at(from),
            row,
        }
    }
}

/// An RMSNorm: its weight `[width]`, where it has one, and ε.
#[derive(Clone, Copy)]
pub(crate) struct Norm<'a> {
    pub weight: Option<&'a Buffer<f32>>,
    pub eps: f32,
}

/// The address of what may be absent; kernels take 0 for nothing.
pub(crate) fn address(buffer: Option<&Buffer<f32>>) -> u64 {
    buffer.map_or(0, Buffer::pointer)
}

/// Up to so many values of `in` a block has hardly begun when it is done: many small ones hide that better.
const SHALLOW: usize = 64;

/// Values of `in` that are worth a block of their own.
const DEEP: usize = 256;

/// Up to so many rows a product is cheaper a row at a time.
const FEW_ROWS: usize = 4;

/// `MatmulArgs` of matmul.cu.
#[repr(C)]
#[derive(Clone, Copy)]
struct MatmulArgs {
    x: u64,
    w: u64,
    bias: u64,
    norm: u64,
    y: u64,
    row_count: u64,
    rows: i32,
    out: i32,
    inputs: i32,
    x_row: i32,
    y_row: i32,
    adds: i32,
    has_norm: i32,
    out_tiles: i32,
    eps: f32,
    split_depth: i32,
    partial: u64,
}

#[expect(unsafe_code, reason = "laid out as in matmul.cu")]
// SAFETY: the same fields in the same order: 6 pointers, 8 ints, a float, an int, a pointer.
unsafe impl KernelArgs for MatmulArgs {}

/// A product of rows with a weight.
pub(crate) struct Product<'a> {
    /// `[rows, in]`.
    pub x: Rows,
    pub rows: usize,
    pub weight: &'a Matrix,
    pub bias: Option<&'a Buffer<f32>>,
    /// `[rows, out]`.
    pub y: Rows,
    /// Added to what is there, instead of written.
    pub adds: bool,
    /// How many rows there are really, where only the device knows; at most `rows`.
    pub row_count: Option<u64>,
    /// Whether it may begin before the launch before it is done (of few rows; see [`Grid::overlaps`]).
    pub overlaps: bool,
    /// Whether the rows of x lie in two bf16 parts ([`split_rows`]).
    pub is_split: bool,
    /// Room for the parts of a product that several blocks share.
    pub partial: Option<&'a Buffer<f32>>,
}

/// What a block of a product makes, and the kernels that do.
struct Tile {
    rows: usize,
    outs: usize,
    threads: usize,
    bf16: &'static str,
    f32: &'static str,
}

/// From the largest on (`MATMUL_KERNELS` in matmul.cu).
const TILES: [Tile; 3] = [
    Tile {
        rows: 128,
        outs: 128,
        threads: 256,
        bf16: "matmul_big_bf16",
        f32: "matmul_big_f32",
    },
    Tile {
        rows: 128,
        outs: 64,
        threads: 128,
        bf16: "matmul_middle_bf16",
        f32: "matmul_middle_f32",
    },
    Tile {
        rows: 32,
        outs: 64,
        threads: 128,
        bf16: "matmul_small_bf16",
        f32: "matmul_small_f32",
    },
];

/// For rows that begin anywhere.
const NARROW: Tile = Tile {
    rows: 32,
    outs: 64,
    threads: 128,
    bf16: "matmul_narrow_bf16",
    f32: "matmul_narrow_f32",
};

impl Tile {
    fn count(&self, product: &Product<'_>) -> usize {
        product.rows.div_ceil(self.rows) * product.weight.out.div_ceil(self.outs)
    }
}

impl Product<'_> {
    fn args(&self) -> MatmulArgs {
        MatmulArgs {
            x: self.x.at,
            w: self.weight.pointer(),
            bias: address(self.bias),
            norm: 0,
            y: self.y.at,
            row_count: self.row_count.unwrap_or(0),
            rows: self.rows as i32,
            out: self.weight.out as i32,
            inputs: self.weight.inputs as i32,
            x_row: self.x.row as i32,
            y_row: self.y.row as i32,
            adds: self.adds.into(),
            has_norm: 0,
            out_tiles: 1,
            eps: 0.0,
            split_depth: self.weight.inputs as i32,
            partial: 0,
        }
    }

    /// y = x · Wᵀ + bias.
    pub(crate) fn run(&self, gpu: &Gpu) -> Result<(), BackendError> {
        if self.rows <= FEW_ROWS {
            return self.matvec(gpu, self.args());
        }
        if self.is_split {
            return self.run_split(gpu);
        }
        let tile = self.tile(gpu);
        let (parts_x, parts_w, depth, name) = if self.weight.is_bf16 {
            (2, 1, 32, tile.bf16)
        } else {
            (3, 3, 16, tile.f32)
        };
        let (count, inputs) = (tile.count(self), self.weight.inputs);
        let split_depth = match self.partial {
            Some(partial) if count < gpu.multiprocessors() => {
                let wanted = gpu.multiprocessors().div_ceil(count);
                let room = partial.len() / (self.rows * self.weight.out);
                let splits = wanted.min(room).min(inputs / DEEP).max(1);
                inputs.div_ceil(splits).next_multiple_of(depth)
            }
            _ => inputs,
        };
        let splits = inputs.div_ceil(split_depth);
        let mut grid = Grid::line(count, tile.threads);
        grid.blocks[1] = splits;
        // Two buffers of the parts of x and W, each line 8 values longer than it needs (`Cut` and `LINE` in matmul.cu).
        grid.shared = 2 * (parts_x * tile.rows + parts_w * tile.outs) * (depth + 8) * 2;
        let args = MatmulArgs {
            out_tiles: self.weight.out.div_ceil(tile.outs) as i32,
            split_depth: split_depth as i32,
            partial: if splits > 1 { address(self.partial) } else { 0 },
            ..self.args()
        };
        gpu.launch(Kernel(Source::Matmul, name), grid, &args)?;
        if splits == 1 {
            return Ok(());
        }
        let grid = Grid::line((self.rows * self.weight.out).div_ceil(256), 256);
        gpu.launch(Kernel(Source::Matmul, "matmul_sum"), grid, &args)
    }

    /// Whether x in two parts is quicker: many rows, weights in bf16, and rows that fit [`split_rows`].
    pub(crate) fn likes_split(&self) -> bool {
        self.rows > FEW_ROWS
            && self.weight.is_bf16
            && self.row_count.is_none()
            && self.weight.inputs.is_multiple_of(8)
            && self.weight.inputs <= WIDEST_SPLIT
            && self.x.row.is_multiple_of(4)
            && self.x.at.is_multiple_of(16)
    }

    /// By cuBLAS where there is one, which has no place for a bias, and by `matmul_split` elsewhere.
    fn run_split(&self, gpu: &Gpu) -> Result<(), BackendError> {
        if self.bias.is_none() {
            let product = SplitProduct {
                x: self.x.at,
                // A value of f32 is two of bf16.
                x_row: 2 * self.x.row,
                weight: self.weight.pointer(),
                y: self.y.at,
                y_row: self.y.row,
                rows: self.rows,
                out: self.weight.out,
                inputs: self.weight.inputs,
                adds: self.adds,
            };
            if gpu.ask_library(&product)? {
                return Ok(());
            }
        }
        // `matmul_split_big` and `matmul_split_middle` in matmul.cu; three tiles of 32 values, each line 8 longer than it needs.
        let tiles =
            |rows: usize, outs: usize| self.rows.div_ceil(rows) * self.weight.out.div_ceil(outs);
        let (name, rows, outs, threads) = if tiles(128, 128) >= gpu.multiprocessors() {
            ("matmul_split_big", 128, 128, 256)
        } else {
            ("matmul_split_middle", 64, 128, 128)
        };
        let mut grid = Grid::line(tiles(rows, outs), threads);
        grid.shared = 3 * (2 * rows + outs) * (32 + 8) * 2;
        let args = MatmulArgs {
            out_tiles: self.weight.out.div_ceil(outs) as i32,
            ..self.args()
        };
        gpu.launch(Kernel(Source::Matmul, name), grid, &args)
    }

    /// The largest tile of which there are enough for the chip, with a part of `in` each where they are too few otherwise.
    fn tile(&self, gpu: &Gpu) -> &'static Tile {
        let is_wide = self.weight.inputs.is_multiple_of(8)
            && self.x.row.is_multiple_of(4)
            && self.x.at.is_multiple_of(16);
        if !is_wide {
            return &NARROW;
        }
        let parts = match self.partial {
            Some(_) => (self.weight.inputs / DEEP).max(1),
            None => 1,
        };
        let fills = |parts: usize| {
            let blocks = |tile: &&Tile| tile.count(self) * parts >= gpu.multiprocessors();
            TILES.iter().find(blocks)
        };
        let [.., smallest] = &TILES;
        if self.weight.inputs <= SHALLOW {
            return smallest;
        }
        fills(1).or_else(|| fills(parts)).unwrap_or(smallest)
    }

    /// y = RMSNorm(x) · Wᵀ + bias, for few rows, in one launch.
    pub(crate) fn run_normed(&self, gpu: &Gpu, norm: Norm<'_>) -> Result<(), BackendError> {
        let args = MatmulArgs {
            norm: address(norm.weight),
            has_norm: 1,
            eps: norm.eps,
            ..self.args()
        };
        self.matvec(gpu, args)
    }

    fn matvec(&self, gpu: &Gpu, args: MatmulArgs) -> Result<(), BackendError> {
        // `MATVEC_WARPS` and `MATVEC_ROWS` in matmul.cu.
        const ROWS_OF_A_BLOCK: usize = 4 * 2;
        const BLOCKS_OF_A_MULTIPROCESSOR: usize = 4;
        const SHORT: usize = 768;
        let blocks = self.weight.out.div_ceil(ROWS_OF_A_BLOCK);
        let grid = Grid {
            blocks: [
                blocks.min(gpu.multiprocessors() * BLOCKS_OF_A_MULTIPROCESSOR),
                self.rows,
                1,
            ],
            overlaps: self.overlaps,
            ..Grid::line(1, 128)
        };
        let name = match (self.weight.is_bf16, self.weight.inputs <= SHORT) {
            (true, true) => "matvec_short_bf16",
            (true, false) => "matvec_bf16",
            (false, _) => "matvec_f32",
        };
        gpu.launch(Kernel(Source::Matmul, name), grid, &args)
    }
}

/// `EmbedArgs` of layers.cu.
#[repr(C)]
struct EmbedArgs {
    ids: u64,
    table: u64,
    x: u64,
    tokens: i32,
    width: i32,
}
#[expect(unsafe_code, reason = "laid out as in layers.cu")]
// SAFETY: the same fields in the same order.
unsafe impl KernelArgs for EmbedArgs {}

/// x[l] = table[ids[l]], `[tokens, width]`.
pub(crate) fn embed(
    gpu: &Gpu,
    ids: &Buffer<i32>,
    table: &Matrix,
    x: &Buffer<f32>,
    tokens: usize,
) -> Result<(), BackendError> {
    let args = EmbedArgs {
        ids: ids.pointer(),
        table: table.pointer(),
        x: x.pointer(),
        tokens: tokens as i32,
        width: table.inputs as i32,
    };
    let name = if table.is_bf16 {
        "embed_bf16"
    } else {
        "embed_f32"
    };
    gpu.launch(Kernel(Source::Layers, name), Grid::line(tokens, 256), &args)
}

/// `NormArgs` of layers.cu.
#[repr(C)]
struct NormArgs {
    x: u64,
    weight: u64,
    y: u64,
    width: i32,
    x_row: i32,
    y_row: i32,
    eps: f32,
    has_norm: i32,
    is_split: i32,
}
#[expect(unsafe_code, reason = "laid out as in layers.cu")]
// SAFETY: the same fields in the same order.
unsafe impl KernelArgs for NormArgs {}

/// Widest row that is split: a block holds it in registers (`rms_norm` in layers.cu).
const WIDEST_SPLIT: usize = 2048;

/// Rows of x, each as two bf16 parts: `width` values of the first, then `width` of what it leaves over. In place.
pub(crate) fn split_rows(
    gpu: &Gpu,
    x: Rows,
    [tokens, width]: [usize; 2],
) -> Result<(), BackendError> {
    let args = NormArgs {
        x: x.at,
        weight: 0,
        y: x.at,
        width: width as i32,
        x_row: x.row as i32,
        y_row: x.row as i32,
        eps: 0.0,
        has_norm: 0,
        is_split: 1,
    };
    gpu.launch(
        Kernel(Source::Layers, "rms_norm"),
        Grid::line(tokens, 256),
        &args,
    )
}

/// y = RMSNorm(x), rows of `width`, as they are or in two bf16 parts; y may be x.
pub(crate) fn rms_norm(
    gpu: &Gpu,
    x: Rows,
    y: Rows,
    [tokens, width]: [usize; 2],
    norm: Norm<'_>,
    is_split: bool,
) -> Result<(), BackendError> {
    let args = NormArgs {
        x: x.at,
        weight: address(norm.weight),
        y: y.at,
        width: width as i32,
        x_row: x.row as i32,
        y_row: y.row as i32,
        eps: norm.eps,
        has_norm: 1,
        is_split: is_split.into(),
    };
    let grid = Grid::line(tokens, if width <= 128 { 32 } else { 256 });
    gpu.launch(Kernel(Source::Layers, "rms_norm"), grid, &args)
}

/// `ConvArgs` of layers.cu.
#[repr(C)]
struct ConvArgs {
    x: u64,
    weight: u64,
    bias: u64,
    window: u64,
    u: u64,
    tokens: i32,
    channels: i32,
    taps: i32,
    x_row: i32,
    u_row: i32,
    spare: i32,
}
#[expect(unsafe_code, reason = "laid out as in layers.cu")]
// SAFETY: the same fields in the same order.
unsafe impl KernelArgs for ConvArgs {}

/// The short convolution's weights `[channels, k]` and bias `[channels]`.
pub(crate) struct Conv<'a> {
    pub weight: &'a Buffer<f32>,
    pub bias: Option<&'a Buffer<f32>>,
    pub channels: usize,
    pub taps: usize,
}

impl Conv<'_> {
    /// u = SiLU(conv(x)), and the window `[channels, k]` moved behind the chunk.
    pub(crate) fn run(
        &self,
        gpu: &Gpu,
        x: Rows,
        window: &Buffer<f32>,
        u: Rows,
        tokens: usize,
    ) -> Result<(), BackendError> {
        // `CONV_TOKENS` in layers.cu.
        const TOKENS_OF_A_THREAD: usize = 8;
        let args = ConvArgs {
            x: x.at,
            weight: self.weight.pointer(),
            bias: address(self.bias),
            window: window.pointer(),
            u: u.at,
            tokens: tokens as i32,
            channels: self.channels as i32,
            taps: self.taps as i32,
            x_row: x.row as i32,
            u_row: u.row as i32,
            spare: 0,
        };
        let mut grid = Grid::line(self.channels.div_ceil(128), 128);
        grid.blocks[1] = tokens.div_ceil(TOKENS_OF_A_THREAD);
        gpu.launch(Kernel(Source::Layers, "conv_silu"), grid, &args)?;
        grid.blocks[1] = 1;
        gpu.launch(Kernel(Source::Layers, "conv_shift"), grid, &args)
    }
}

/// `PairArgs` of layers.cu.
#[repr(C)]
struct PairArgs {
    z: u64,
    y: u64,
    tokens: i32,
    width: i32,
    z_row: i32,
    y_row: i32,
}
#[expect(unsafe_code, reason = "laid out as in layers.cu")]
// SAFETY: the same fields in the same order.
unsafe impl KernelArgs for PairArgs {}

/// A stage that reads z and writes y, value by value.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pairwise {
    /// y ← y · SiLU(z).
    Gate,
    /// y ← y + z.
    Add,
    /// y ← softplus(z).
    ActivateDelta,
}

impl Pairwise {
    /// Over rows of `width`.
    pub(crate) fn run(
        self,
        gpu: &Gpu,
        z: Rows,
        y: Rows,
        [tokens, width]: [usize; 2],
    ) -> Result<(), BackendError> {
        let args = PairArgs {
            z: z.at,
            y: y.at,
            tokens: tokens as i32,
            width: width as i32,
            z_row: z.row as i32,
            y_row: y.row as i32,
        };
        let name = match self {
            Pairwise::Gate => "gate",
            Pairwise::Add => "add",
            Pairwise::ActivateDelta => "activate_delta",
        };
        let mut grid = Grid::line(width.div_ceil(256), 256);
        grid.blocks[1] = tokens;
        gpu.launch(Kernel(Source::Layers, name), grid, &args)
    }
}

/// `EndArgs` of layers.cu.
#[repr(C)]
struct EndArgs {
    scores: u64,
    id: u64,
    seen: u64,
    position: u64,
    vocab: i32,
    tokens: i32,
}
#[expect(unsafe_code, reason = "laid out as in layers.cu")]
// SAFETY: the same fields in the same order.
unsafe impl KernelArgs for EndArgs {}

/// What ends a pass.
pub(crate) struct End<'a> {
    pub scores: &'a Buffer<f32>,
    /// Gets the most likely token.
    pub id: &'a Buffer<i32>,
    /// So does this machine.
    pub seen: &'a Mailbox,
    /// Tokens read, which grow by the pass's.
    pub position: &'a Buffer<i32>,
    pub tokens: usize,
    /// Whether it may begin before the scores are there ([`Grid::overlaps`]).
    pub overlaps: bool,
}

impl End<'_> {
    pub(crate) fn run(&self, gpu: &Gpu) -> Result<(), BackendError> {
        let args = EndArgs {
            scores: self.scores.pointer(),
            id: self.id.pointer(),
            seen: self.seen.pointer(),
            position: self.position.pointer(),
            vocab: self.scores.len() as i32,
            tokens: self.tokens as i32,
        };
        let grid = Grid {
            overlaps: self.overlaps,
            ..Grid::line(1, 1024)
        };
        gpu.launch(Kernel(Source::Layers, "end_pass"), grid, &args)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_have_no_holes() {
        assert_eq!(size_of::<MatmulArgs>(), 7 * 8 + 10 * 4);
        assert_eq!(size_of::<ConvArgs>(), 5 * 8 + 6 * 4);
        assert_eq!(size_of::<PairArgs>(), 2 * 8 + 4 * 4);
        assert_eq!(size_of::<NormArgs>(), 3 * 8 + 6 * 4);
        assert_eq!(size_of::<EmbedArgs>(), 3 * 8 + 2 * 4);
        assert_eq!(size_of::<EndArgs>(), 4 * 8 + 2 * 4);
    }
}
