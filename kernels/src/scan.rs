//! The selective scan on the device: the rungs, and how v1 to v3 cut the work. A scan on operands of its own: alone.rs.

use mambascope_core::backend::BackendError;

use crate::gpu::{Gpu, Grid, Kernel, KernelArgs};
use crate::source::Source;

/// Most slots a channel can have.
pub const MOST_SLOTS: usize = 256;

/// Threads of a warp, the scan's block.
const WARP: usize = 32;
/// Tokens that are staged at once (`TILE` in scan.cu).
const TILE: usize = 8;
/// The same of a lean scan, which stages two tiles ahead (`LEAN_TILE` and `LEAN_AHEAD` in scan.cu), and its channels a thread.
const LEAN_TILE: usize = 4;
pub(crate) const LEAN_HELD: usize = 2;
/// Below so many channels a thread has one.
const FEW_CHANNELS: usize = 64;
/// Fewest channels a warp makes room for, so that what it stages for its segments fits shared memory.
const FEWEST_CHANNELS: usize = 4;
/// Warps each multiprocessor should have: three for each of its four schedulers.
const WARPS_WANTED: usize = 12;
/// Fewest tokens of a segment: below, the carry costs more than the segments bring.
const SHORTEST_SEGMENT: usize = 32;
/// Blocks of a grid in any direction but the first.
const MOST_BLOCKS: usize = 65_535;

/// A rung of the ladder (scan.cu says what each changed).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScanKernel {
    /// One thread a channel, plain.
    V1,
    /// Fused, the state in registers.
    V2,
    /// Parallel over the sequence too.
    V3,
    /// A channel's slots across lanes, each exponential once; takes the usual shape only (slots.rs).
    V4,
    /// Parallel over the sequence in one launch; takes the usual shape only, in f32 (once.rs).
    V5,
}

impl ScanKernel {
    /// All, in the order they were written.
    pub const ALL: [ScanKernel; 5] = [
        ScanKernel::V1,
        ScanKernel::V2,
        ScanKernel::V3,
        ScanKernel::V4,
        ScanKernel::V5,
    ];

    /// Name as on the command line.
    pub fn name(self) -> &'static str {
        match self {
            ScanKernel::V1 => "v1",
            ScanKernel::V2 => "v2",
            ScanKernel::V3 => "v3",
            ScanKernel::V4 => "v4",
            ScanKernel::V5 => "v5",
        }
    }
}

/// Number format of u, delta, z, B, C and y. State, A, Δ and sums are always f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    /// Single precision.
    F32,
    /// The upper half of it.
    Bf16,
}

impl Operand {
    /// Of a value.
    pub(crate) fn bytes(self) -> usize {
        match self {
            Operand::F32 => 4,
            Operand::Bf16 => 2,
        }
    }
}

/// `ScanArgs` of scan.cuh.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct ScanArgs {
    pub u: u64,
    pub delta: u64,
    pub z: u64,
    pub bias: u64,
    pub a: u64,
    pub skip: u64,
    pub b: u64,
    pub c: u64,
    pub initial: u64,
    pub y: u64,
    pub last: u64,
    pub record: u64,
    pub starts: u64,
    pub sums: u64,
    pub u_row: i32,
    pub delta_row: i32,
    pub z_row: i32,
    pub y_row: i32,
    pub b_token: i32,
    pub b_group: i32,
    pub b_channels: i32,
    pub c_token: i32,
    pub c_group: i32,
    pub c_channels: i32,
    pub tokens: i32,
    pub channels: i32,
    pub slots: i32,
    pub softplus: i32,
    pub segment: i32,
    pub segments: i32,
    pub lanes: i32,
    pub warp_channels: i32,
    pub group_channels: i32,
    pub tiles: i32,
    pub record_from: i32,
    pub record_count: i32,
    pub meet: u64,
}

#[expect(unsafe_code, reason = "laid out as in scan.cuh")]
// SAFETY: the same fields in the same order as `ScanArgs` there: 14 pointers, 22 ints, a pointer.
unsafe impl KernelArgs for ScanArgs {}

impl ScanArgs {
    /// The same for no more sequences at once than a launch takes, from the first on, with how many there are. What is carried
    /// between segments lies where the part before had it.
    pub(crate) fn parts(
        self,
        operand: Operand,
        batch: usize,
    ) -> impl Iterator<Item = (Self, usize)> {
        let part = move |first| (self.behind(first, operand), MOST_BLOCKS.min(batch - first));
        (0..batch).step_by(MOST_BLOCKS).map(part)
    }

    /// Those of the sequences behind the first few.
    fn behind(self, sequences: usize, operand: Operand) -> Self {
        let after = |pointer: u64, values: usize, bytes: usize| match pointer {
            0 => 0,
            _ => pointer + (sequences * values * bytes) as u64,
        };
        let tokens = self.tokens as usize;
        let operands = |pointer, row: i32| after(pointer, tokens * row as usize, operand.bytes());
        let states =
            |pointer, rows: usize| after(pointer, rows * self.slots as usize, size_of::<f32>());
        let channels = self.channels as usize;
        Self {
            u: operands(self.u, self.u_row),
            delta: operands(self.delta, self.delta_row),
            z: operands(self.z, self.z_row),
            b: operands(self.b, self.b_token),
            c: operands(self.c, self.c_token),
            y: operands(self.y, self.y_row),
            initial: states(self.initial, channels),
            last: states(self.last, channels),
            record: states(self.record, tokens * self.record_count as usize),
            ..self
        }
    }
}

/// How a scan is cut into warps and segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Slots a thread holds, and channels.
    slots: usize,
    pub(crate) held: usize,
    pub(crate) is_lean: bool,
    lanes: usize,
    warp_channels: usize,
    /// Channels that share B and C.
    pub(crate) group_channels: usize,
    tiles: usize,
    pub(crate) segment: usize,
    pub(crate) segments: usize,
    /// No fewer than any plan for fewer tokens has.
    most_segments: usize,
}

impl Plan {
    /// For `batch` sequences of `tokens`; `segments` is 1 for v2, and found for v3 from the size of the chip where it is 0.
    /// `lean`: the channels of a thread, where the lean kernels take it.
    pub(crate) fn new(
        [batch, tokens, channels, slots]: [usize; 4],
        group_channels: usize,
        multiprocessors: usize,
        segments: usize,
        lean: Option<usize>,
    ) -> Self {
        let of_a_thread = if slots <= 4 { 4 } else { 16 };
        let held = lean.unwrap_or(1);
        let lanes = slots.div_ceil(of_a_thread).next_power_of_two();
        let warp_channels = group_channels
            .div_ceil(held)
            .next_power_of_two()
            .clamp(FEWEST_CHANNELS.min(WARP / lanes), WARP / lanes);
        let tiles = group_channels.div_ceil(warp_channels * held);
        // Segments that share a warp are no more warps.
        let of_a_warp = WARP / (lanes * warp_channels);
        let warps = batch * (channels / group_channels) * tiles;
        let wanted = (multiprocessors * WARPS_WANTED).div_ceil(warps) * of_a_warp;
        let most = tokens.div_ceil(SHORTEST_SEGMENT);
        let segments = if segments == 0 {
            wanted.min(most).max(1)
        } else {
            let most = tokens.div_ceil(TILE).min(MOST_BLOCKS * of_a_warp);
            segments.min(most)
        };
        // Whole tiles, so that no segment begins in the middle of one.
        let segment = tokens.div_ceil(segments).next_multiple_of(TILE);
        Self {
            slots: of_a_thread,
            held,
            is_lean: lean.is_some(),
            lanes,
            warp_channels,
            group_channels,
            tiles,
            segment,
            segments: tokens.div_ceil(segment),
            most_segments: segments,
        }
    }

    /// Values the carried states take: `[batch, segments, d, n]`, and the sums of Δ: `[batch, segments, d]`; enough for a
    /// plan for fewer tokens too.
    pub(crate) fn carried(&self, batch: usize, channels: usize, slots: usize) -> (usize, usize) {
        if self.most_segments == 1 {
            return (0, 0);
        }
        let sums = batch * self.most_segments * channels;
        (sums * slots, sums)
    }

    /// Segments that share a warp.
    fn of_a_warp(&self) -> usize {
        WARP / (self.lanes * self.warp_channels)
    }

    /// Whether the kernels can count its tokens, those of a warp's idle segments included, in 32 bits.
    fn is_countable(&self) -> bool {
        let segments = self.segments.next_multiple_of(self.of_a_warp());
        segments * self.segment <= i32::MAX as usize
    }

    fn grid(
        &self,
        segments: usize,
        batch: usize,
        channels: usize,
        rows: usize,
        bytes: usize,
    ) -> Grid {
        let of_a_warp = self.of_a_warp();
        // Buffers of a tile: `rows` rows (B, and C) for each of the warp's segments, and in a lean scan its other operands.
        let shared = if self.is_lean {
            let operands = (rows + 1) * WARP * self.held;
            3 * LEAN_TILE * (of_a_warp * rows * self.slots + operands) * bytes
        } else {
            2 * of_a_warp * TILE * rows * self.slots * self.lanes * bytes
        };
        Grid {
            blocks: [
                channels / self.group_channels * self.tiles,
                segments.div_ceil(of_a_warp),
                batch,
            ],
            threads: [WARP, 1, 1],
            shared,
            overlaps: false,
            stays: false,
        }
    }
}

/// Runs v1.
pub(crate) fn launch_plain(
    gpu: &Gpu,
    args: &ScanArgs,
    operand: Operand,
    batch: usize,
) -> Result<(), BackendError> {
    const THREADS: usize = 128;
    let name = match operand {
        Operand::F32 => "scan_plain_f32",
        Operand::Bf16 => "scan_plain_bf16",
    };
    for (args, batch) in args.parts(operand, batch) {
        let grid = Grid {
            blocks: [(args.channels as usize).div_ceil(THREADS), batch, 1],
            threads: [THREADS, 1, 1],
            shared: 0,
            overlaps: false,
            stays: false,
        };
        gpu.launch(Kernel(Source::Scan, name), grid, &args)?;
    }
    Ok(())
}

/// Channels of a thread where a scan has the usual shape, which the lean kernels take (`scan_lean` in scan.cu).
pub(crate) fn lean(args: &ScanArgs, operand: Operand) -> Option<usize> {
    let is_aligned = |pointer: u64, row: i32| {
        pointer.is_multiple_of(16) && (row as usize * operand.bytes()).is_multiple_of(16)
    };
    let is_even =
        |pointer: u64, row: i32| row % 2 == 0 && pointer.is_multiple_of(2 * operand.bytes() as u64);
    let is_usual = args.slots == 16
        && args.softplus == 1
        && args.z != 0
        && args.record == 0
        && args.b_channels % 2 == 0
        && args.c_channels % 2 == 0
        && is_aligned(args.b, args.b_token)
        && is_aligned(args.b, args.b_group)
        && is_aligned(args.c, args.c_token)
        && is_aligned(args.c, args.c_group)
        && is_even(args.u, args.u_row)
        && is_even(args.delta, args.delta_row)
        && is_even(args.z, args.z_row)
        && is_even(args.y, args.y_row);
    // Few channels: a warp's time is its own, and half the work in twice the warps takes half as long.
    let held = if operand == Operand::F32 && (args.channels as usize) < FEW_CHANNELS {
        1
    } else {
        LEAN_HELD
    };
    is_usual.then_some(held)
}

/// The kernels of a scan's first and last pass.
fn segment_kernels(plan: &Plan, operand: Operand) -> [&'static str; 2] {
    match (operand, plan.is_lean, plan.slots) {
        (Operand::F32, true, _) if plan.held == 1 => ["scan_ends_f32_lean1", "scan_full_f32_lean1"],
        (Operand::F32, true, _) => ["scan_ends_f32_lean2", "scan_full_f32_lean2"],
        (Operand::F32, false, 4) => ["scan_ends_f32_4", "scan_full_f32_4"],
        (Operand::F32, false, _) => ["scan_ends_f32_16", "scan_full_f32_16"],
        (Operand::Bf16, true, _) => ["scan_ends_bf16_lean2", "scan_full_bf16_lean2"],
        (Operand::Bf16, false, 4) => ["scan_ends_bf16_4", "scan_full_bf16_4"],
        (Operand::Bf16, false, _) => ["scan_ends_bf16_16", "scan_full_bf16_16"],
    }
}

/// Runs v2 or v3: one segment or several. `args.starts` and `args.sums` have room for [`Plan::carried`].
pub(crate) fn launch_segments(
    gpu: &Gpu,
    args: &ScanArgs,
    plan: &Plan,
    operand: Operand,
    batch: usize,
) -> Result<(), BackendError> {
    if !plan.is_countable() {
        return Err(BackendError::Device(format!(
            "CUDA's scan counts the tokens of a warp in 32 bits, and {} are too many for segments of {}: cut the text into more.",
            args.tokens, plan.segment
        )));
    }
    let args = ScanArgs {
        segment: plan.segment as i32,
        segments: plan.segments as i32,
        lanes: plan.lanes as i32,
        warp_channels: plan.warp_channels as i32,
        group_channels: plan.group_channels as i32,
        tiles: plan.tiles as i32,
        ..*args
    };
    args.parts(operand, batch)
        .try_for_each(|(args, batch)| launch_passes(gpu, &args, plan, operand, batch))
}

/// The passes of v2 or v3: what each segment leaves, what is carried between them, and the outputs.
fn launch_passes(
    gpu: &Gpu,
    args: &ScanArgs,
    plan: &Plan,
    operand: Operand,
    batch: usize,
) -> Result<(), BackendError> {
    let (channels, rows) = (
        args.channels as usize,
        (args.channels * args.slots) as usize,
    );
    let bytes = operand.bytes();
    let [ends, full] = segment_kernels(plan, operand);
    if plan.segments > 1 {
        let grid = plan.grid(plan.segments - 1, batch, channels, 1, bytes);
        gpu.launch(Kernel(Source::Scan, ends), grid, args)?;
        // Few rows are cut into more parts, so that no thread goes over many segments.
        let is_few = rows * batch < gpu.multiprocessors() * WARP;
        let (side, most_parts) = if is_few { (4, 256) } else { (WARP, 32) };
        let parts = (plan.segments - 1).div_ceil(8).min(most_parts);
        let grid = Grid {
            blocks: [rows.div_ceil(side), batch, 1],
            threads: [side, parts, 1],
            shared: 0,
            overlaps: true,
            stays: false,
        };
        gpu.launch(Kernel(Source::Scan, "scan_carry"), grid, args)?;
    }
    let mut grid = plan.grid(plan.segments, batch, channels, 2, bytes);
    // Behind the carry it may read its operands early: they were there before the ends. Alone it may not.
    grid.overlaps = plan.segments > 1;
    gpu.launch(Kernel(Source::Scan, full), grid, args)
}

pub(crate) fn too_many_slots(slots: usize) -> BackendError {
    BackendError::Device(format!(
        "The CUDA scan has room for {MOST_SLOTS} slots a channel, and this one has {slots}: choose a CPU backend."
    ))
}

pub(crate) fn greatest_common_divisor(a: usize, b: usize) -> usize {
    if b == 0 {
        a
    } else {
        greatest_common_divisor(b, a % b)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every channel, slot and token has exactly one thread, whatever the sizes.
    #[test]
    fn plans_cover_the_work() {
        for tokens in [1, 7, 32, 33, 1000, 65_536] {
            for slots in [1, 4, 5, 16, 17, 64, 255, 256] {
                for group_channels in [1, 3, 4, 16, 100, 1536] {
                    let channels = 2 * group_channels;
                    for (segments, lean) in [0, 1]
                        .into_iter()
                        .flat_map(|segments| [None, Some(1), Some(2)].map(|lean| (segments, lean)))
                    {
                        if lean.is_some() && (slots != 16 || group_channels % 2 == 1) {
                            continue;
                        }
                        let sizes = [3, tokens, channels, slots];
                        let plan = Plan::new(sizes, group_channels, 132, segments, lean);
                        assert!(plan.slots * plan.lanes >= slots, "{plan:?}");
                        assert!(plan.lanes * plan.warp_channels <= WARP, "{plan:?}");
                        assert!(
                            WARP.is_multiple_of(plan.lanes * plan.warp_channels),
                            "{plan:?}"
                        );
                        assert!(
                            plan.tiles * plan.warp_channels * plan.held >= group_channels,
                            "{plan:?}"
                        );
                        assert!(plan.segments * plan.segment >= tokens, "{plan:?}");
                        assert!((plan.segments - 1) * plan.segment < tokens, "{plan:?}");
                        assert!(segments == 0 || plan.segments == 1);
                        assert!(plan.segments <= plan.most_segments, "{plan:?}");
                        let grid = plan.grid(plan.segments, 3, channels, 2, 4);
                        assert!(grid.shared <= 48 << 10, "{plan:?} {grid:?}");
                        assert!(grid.blocks[1] <= 65_535);
                    }
                }
            }
        }
    }

    #[test]
    fn few_channels_are_cut_into_more_segments() {
        let segments = |channels: usize, tokens: usize| {
            Plan::new([1, tokens, channels, 16], channels, 132, 0, None).segments
        };
        assert_eq!(segments(1536, 65_536), 33);
        assert!(segments(16, 65_536) > 1000);
        assert_eq!(segments(1536, 16), 1);
    }

    #[test]
    fn more_tokens_than_can_be_counted_are_noticed() {
        let plan = |tokens, segments| Plan::new([1, tokens, 1, 1], 1, 132, segments, None);
        assert!(plan(200_000_000, 1).is_countable());
        assert!(!plan(400_000_000, 1).is_countable(), "eight in a warp");
        assert!(plan(400_000_000, 0).is_countable());
    }

    #[test]
    fn no_more_segments_are_cut_than_there_are_tiles_and_blocks() {
        let segments = |tokens, channels| {
            let sizes = [1, tokens, channels, 16];
            Plan::new(sizes, channels, 132, usize::MAX, None).segments
        };
        assert_eq!(segments(65, 1), 9);
        assert_eq!(segments(1_000_000, 64), 1_000_000usize.div_ceil(16));
        assert_eq!(segments(1_000_000, 16), 1_000_000 / 8, "two in a warp");
    }

    /// A scan of the usual shape, in one form or the other.
    #[test]
    fn few_channels_have_a_thread_each() {
        let of = |channels: i32, operand| {
            let args = ScanArgs {
                z: 256,
                u_row: channels,
                delta_row: channels,
                z_row: channels,
                y_row: channels,
                b_token: 16,
                b_channels: channels,
                c_token: 16,
                c_channels: channels,
                channels,
                slots: 16,
                softplus: 1,
                ..ScanArgs::default()
            };
            lean(&args, operand)
        };
        assert_eq!(of(62, Operand::F32), Some(1));
        assert_eq!(of(64, Operand::F32), Some(LEAN_HELD));
        assert_eq!(of(62, Operand::Bf16), Some(LEAN_HELD));
        assert_eq!(of(63, Operand::F32), None, "rows that begin anywhere");
    }

    /// All pointers of each part, apart from those that all sequences share.
    #[test]
    fn more_sequences_than_a_launch_takes_are_cut_into_parts() {
        let args = ScanArgs {
            u: 1 << 40,
            delta: 2 << 40,
            z: 0,
            a: 3 << 40,
            b: 4 << 40,
            c: 5 << 40,
            initial: 6 << 40,
            y: 7 << 40,
            last: 8 << 40,
            record: 9 << 40,
            u_row: 6,
            delta_row: 7,
            z_row: 8,
            y_row: 9,
            b_token: 10,
            c_token: 11,
            tokens: 5,
            channels: 3,
            slots: 4,
            record_count: 2,
            ..ScanArgs::default()
        };
        let counts = |batch| args.parts(Operand::F32, batch).map(|(_, n)| n);
        assert!(counts(65_535).eq([65_535]));
        assert!(counts(140_000).eq([65_535, 65_535, 8930]));
        let (first, _) = args.parts(Operand::Bf16, 65_536).next().unwrap();
        let (second, _) = args.parts(Operand::Bf16, 65_536).nth(1).unwrap();
        let moved = |of: fn(&ScanArgs) -> u64| {
            assert_eq!(of(&first), of(&args));
            let bytes = of(&second) - of(&args);
            assert!(bytes.is_multiple_of(65_535));
            bytes / 65_535
        };
        assert_eq!(moved(|args| args.u), 5 * 6 * 2);
        assert_eq!(moved(|args| args.delta), 5 * 7 * 2);
        assert_eq!(moved(|args| args.b), 5 * 10 * 2);
        assert_eq!(moved(|args| args.c), 5 * 11 * 2);
        assert_eq!(moved(|args| args.y), 5 * 9 * 2);
        assert_eq!(moved(|args| args.initial), 3 * 4 * 4);
        assert_eq!(moved(|args| args.last), 3 * 4 * 4);
        assert_eq!(moved(|args| args.record), 5 * 2 * 4 * 4);
        assert_eq!(
            [second.z, second.a],
            [0, args.a],
            "none, and every sequence's"
        );
    }

    #[test]
    fn the_arguments_have_no_holes() {
        assert_eq!(size_of::<ScanArgs>(), 15 * 8 + 22 * 4);
    }
}
