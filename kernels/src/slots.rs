//! v4 of the selective scan (scan_slots.cu): which shapes it takes, and how it lays them out. Where it is the quicker one:
//! choose.rs.

use cudarc::driver::sys::CUtensorMap;
use mambascope_core::backend::BackendError;
use mambascope_core::scan::ScanShape;

use crate::gpu::{Chip, Gpu, Grid, Kernel, KernelArgs};
use crate::scan::{Operand, Plan, ScanArgs};
use crate::source::Source;
use crate::tiles::{Matrix, tiles};

const WARP: usize = 32;
/// Slots of a channel.
const SLOTS: usize = 16;
/// `CHUNK`, `AHEAD` and `CHUNKS_A_ROUND` in scan_slots.cu.
const CHUNK: usize = 32;
const AHEAD: usize = 6;
const CHUNKS_A_ROUND: usize = 2;
/// Warps of a block that make Δ and the gates, and that bring operands.
const HELPERS: usize = 3;
/// Channels that a warp carries the states of.
const CHANNELS_OF_A_WARP: usize = 4;
/// Bytes of shared memory that the driver keeps for itself of each block; a multiprocessor has as many more than a block can ask for.
const KEPT_BACK: usize = 1 << 10;
/// Warps with states that a block can have.
const WIDTHS: [usize; 2] = [2, 3];

/// How v4 lays out a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SlotsPlan {
    /// Warps of a block that carry states.
    warps: usize,
    operand: Operand,
    /// Channels that share B and C, and blocks that share these channels.
    group_channels: usize,
    tiles: usize,
    /// Blocks of the whole scan.
    blocks: usize,
    /// Whether two of them are beside each other on a multiprocessor: where there are more than multiprocessors, and room.
    is_paired: bool,
}

/// `SlotsArgs` of scan_slots.cu.
#[repr(C)]
struct SlotsArgs {
    u: CUtensorMap,
    delta: CUtensorMap,
    z: CUtensorMap,
    scan: ScanArgs,
    /// To the 64 bytes on which a map begins.
    rest: [u64; 6],
}

#[expect(unsafe_code, reason = "laid out as in scan_slots.cu")]
// SAFETY: the same fields in the same order: three maps of 128 bytes on 64, and `ScanArgs`, which is laid out as there; what is
// left of the last 64 bytes is a field here.
unsafe impl KernelArgs for SlotsArgs {}

/// Bytes of shared memory for a block: `SlotsRoom` in scan_slots.cu.
fn shared(warps: usize, operand: Operand) -> usize {
    let channels = CHANNELS_OF_A_WARP * warps;
    let float = size_of::<f32>();
    let raw = (AHEAD + 1) * CHUNK * (2 * SLOTS + 3 * channels) * operand.bytes();
    let gates = 4 * channels * (CHUNK + 2) * 2 * float;
    let steps = 3 * channels * (CHUNK + 4) * 2 * float;
    let parts = 2 * CHUNK * channels * (SLOTS / 2) * float;
    let arrivals = (AHEAD + 1) * size_of::<u64>();
    raw + gates + steps + parts + arrivals
}

/// Whether rows begin, and stay, on the bytes of four values at every fourth channel.
fn is_in_fours(args: &ScanArgs, operand: Operand) -> bool {
    let rows = [
        (args.u, args.u_row),
        (args.delta, args.delta_row),
        (args.z, args.z_row),
    ];
    let is_aligned =
        |pointer: u64, row: i32| pointer.is_multiple_of(4 * operand.bytes() as u64) && row % 4 == 0;
    rows.into_iter().all(|(at, row)| is_aligned(at, row))
}

impl SlotsPlan {
    /// For a scan that v3 would cut as `plan` does; nothing for a shape that v4 does not take.
    pub(crate) fn new(
        chip: Chip,
        args: &ScanArgs,
        plan: &Plan,
        operand: Operand,
        batch: usize,
    ) -> Option<Self> {
        // Rounds are counted to their end, and what is brought ahead beyond it.
        let is_countable = args.tokens <= i32::MAX - ((CHUNKS_A_ROUND + AHEAD) * CHUNK) as i32;
        let is_taken = plan.is_lean && is_countable && is_in_fours(args, operand);
        let channels = [args.channels as usize, plan.group_channels];
        is_taken
            .then(|| Self::of(chip, operand, batch, channels))
            .flatten()
    }

    /// For so many channels in all and in a group, in the usual shape, with as many warps as are quicker.
    pub(crate) fn of(
        chip: Chip,
        operand: Operand,
        batch: usize,
        [channels, group_channels]: [usize; 2],
    ) -> Option<Self> {
        if !group_channels.is_multiple_of(4) {
            return None;
        }
        let plans = WIDTHS.into_iter().filter_map(|warps| {
            let width = CHANNELS_OF_A_WARP * warps;
            let tiles = group_channels.div_ceil(width);
            let blocks = batch * (channels / group_channels) * tiles;
            let shared = shared(warps, operand);
            let has_room_for_two = 2 * (shared + KEPT_BACK) <= chip.shared_limit + KEPT_BACK;
            let plan = Self {
                warps,
                operand,
                group_channels,
                tiles,
                blocks,
                is_paired: blocks > chip.multiprocessors && has_room_for_two,
            };
            (group_channels >= width && shared <= chip.shared_limit).then_some(plan)
        });
        plans.min_by(|one, other| {
            let nanos = |plan: &Self| plan.nanos_a_token(chip);
            nanos(one).total_cmp(&nanos(other))
        })
    }

    /// Nanoseconds of a token of all sequences, by what an H100 took: a block alone on its multiprocessor, and two beside each
    /// other.
    pub(crate) fn nanos_a_token(&self, chip: Chip) -> f64 {
        let [alone, two] = match (self.operand, self.warps) {
            (Operand::F32, 2) => [12.1, 21.1],
            (Operand::F32, _) => [14.4, 27.5],
            (Operand::Bf16, 2) => [14.0, 25.5],
            (Operand::Bf16, _) => [17.2, 29.4],
        };
        let at_once = chip.multiprocessors * if self.is_paired { 2 } else { 1 };
        let [rounds, rest] = [self.blocks / at_once, self.blocks % at_once];
        let last = match rest {
            0 => 0.0,
            rest if rest <= chip.multiprocessors => alone,
            _ => two,
        };
        rounds as f64 * if self.is_paired { two } else { alone } + last
    }

    fn grid(&self, batch: usize, channels: usize) -> Grid {
        Grid {
            blocks: [channels / self.group_channels * self.tiles, 1, batch],
            threads: [WARP * (2 * self.warps + HELPERS), 1, 1],
            shared: shared(self.warps, self.operand),
            // Alone it has nothing to read before the launch before it is done.
            overlaps: false,
            stays: false,
        }
    }

    /// u, Δ and z as the copy engine sees them, of which a block has tiles.
    fn maps(&self, args: &ScanArgs, batch: usize) -> Result<[CUtensorMap; 3], BackendError> {
        let sizes = [batch, args.tokens as usize, args.channels as usize];
        let map = |pointer, row| {
            let matrix = Matrix {
                pointer,
                sizes,
                row: row as usize,
            };
            tiles(&matrix, [CHUNK, CHANNELS_OF_A_WARP * self.warps])
        };
        Ok([
            map(args.u, args.u_row)?,
            map(args.delta, args.delta_row)?,
            map(args.z, args.z_row)?,
        ])
    }

    fn kernel(&self) -> &'static str {
        match (self.operand, self.warps, self.is_paired) {
            (Operand::F32, 2, false) => "scan_slots_f32_2",
            (Operand::F32, _, false) => "scan_slots_f32_3",
            (Operand::F32, 2, true) => "scan_slots_f32_2_pair",
            (Operand::F32, _, true) => "scan_slots_f32_3_pair",
            (Operand::Bf16, 2, false) => "scan_slots_bf16_2",
            (Operand::Bf16, _, false) => "scan_slots_bf16_3",
            (Operand::Bf16, 2, true) => "scan_slots_bf16_2_pair",
            (Operand::Bf16, _, true) => "scan_slots_bf16_3_pair",
        }
    }
}

/// Runs v4.
pub(crate) fn launch_slots(
    gpu: &Gpu,
    args: &ScanArgs,
    plan: &SlotsPlan,
    batch: usize,
) -> Result<(), BackendError> {
    let scan = ScanArgs {
        group_channels: plan.group_channels as i32,
        tiles: plan.tiles as i32,
        ..*args
    };
    // Of bf16 a row of twelve channels has 24 bytes; the engine takes 16, 32, 48.
    let has_engine = gpu.has_copy_engine() && plan.operand == Operand::F32;
    for (scan, batch) in scan.parts(plan.operand, batch) {
        let [u, delta, z] = match has_engine {
            true => plan.maps(&scan, batch)?,
            false => [CUtensorMap { opaque: [0; 16] }; 3],
        };
        let args = SlotsArgs {
            u,
            delta,
            z,
            scan,
            rest: [0; 6],
        };
        let grid = plan.grid(batch, scan.channels as usize);
        gpu.launch(Kernel(Source::ScanSlots, plan.kernel()), grid, &args)?;
    }
    Ok(())
}

/// Why a scan cannot be run by v4.
pub(crate) fn not_taken(shape: &ScanShape, operand: Operand) -> BackendError {
    BackendError::Device(format!(
        "The scan's kernel v4 takes {SLOTS} slots, groups of 8, 12, 16 or more channels in fours, and a device whose blocks can have {} KiB of shared memory; this scan has {} slots and groups of {} channels: choose v3.",
        shared(WIDTHS[0], operand).div_ceil(1 << 10),
        shape.slots,
        shape.channels / shape.groups
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const H200: Chip = Chip::HOPPER;

    fn plan(batch: usize, channels: [usize; 2]) -> Option<SlotsPlan> {
        SlotsPlan::of(H200, Operand::F32, batch, channels)
    }

    /// As the blocks take them (`first_channel` and `first_own` in scan_slots.cu).
    #[test]
    fn every_channel_is_written_once() {
        for group_channels in [8, 12, 16, 20, 36, 40, 100, 1536, 1540] {
            for groups in [1, 3] {
                let channels = groups * group_channels;
                let plan = plan(2, [channels, group_channels]).unwrap();
                let (width, blocks) = (4 * plan.warps, plan.grid(2, channels).blocks);
                assert_eq!(blocks.iter().product::<usize>(), plan.blocks);
                let mut written = vec![0; channels];
                for block in 0..blocks[0] {
                    let start = block / plan.tiles * group_channels;
                    let tile = block % plan.tiles * width;
                    let first = start + tile.min(group_channels - width);
                    assert!(first.is_multiple_of(4), "loads of four channels");
                    assert_eq!(first / group_channels, start / group_channels);
                    assert_eq!((first + width - 1) / group_channels, start / group_channels);
                    for channel in (first..first + width).filter(|d| *d >= start + tile) {
                        written[channel] += 1;
                    }
                }
                assert!(written.iter().all(|times| *times == 1), "{plan:?}");
            }
        }
    }

    #[test]
    fn narrow_and_odd_groups_are_left_to_v3() {
        for channels in [1, 4, 6, 10, 1538] {
            assert_eq!(plan(1, [channels, channels]), None);
        }
        // A block of such a chip has no room for three warps, or for two.
        let of = |kib: usize| {
            let chip = Chip {
                shared_limit: kib << 10,
                ..H200
            };
            SlotsPlan::of(chip, Operand::F32, 1, [1536; 2]).map(|plan| plan.warps)
        };
        assert_eq!([of(64), of(99), of(163)], [None, Some(2), Some(3)]);
    }

    #[test]
    fn what_the_kernel_takes_has_no_holes() {
        let maps = 3 * size_of::<CUtensorMap>();
        assert_eq!(std::mem::offset_of!(SlotsArgs, scan), maps);
        assert_eq!(size_of::<ScanArgs>() + 6 * 8, 256);
        assert_eq!(size_of::<SlotsArgs>(), maps + 256);
    }

    /// Blocks of three warps where all of them have a multiprocessor each, of two where these are as quick, and two beside each
    /// other where there are more; on a chip without room for two, after one another.
    #[test]
    fn as_many_warps_are_taken_as_are_quicker() {
        let found = |batch, channels| {
            let plan = plan(batch, [channels; 2]).unwrap();
            (plan.warps, plan.is_paired)
        };
        assert_eq!(found(1, 1536), (3, false));
        assert_eq!(found(16, 64), (2, false));
        assert_eq!(found(1, 2048), (2, true));
        assert_eq!(found(8, 2048), (3, true));
        let small = Chip {
            multiprocessors: 128,
            shared_limit: 99 << 10,
        };
        let plan = SlotsPlan::of(small, Operand::F32, 1, [1536; 2]).unwrap();
        assert_eq!((plan.warps, plan.is_paired), (2, false));
        assert_eq!(plan.nanos_a_token(small), 2.0 * 12.1);
    }

    /// The sums that scan_slots.cu asserts.
    #[test]
    fn shared_memory_is_what_the_kernel_lays_out() {
        let of = |operand| [2, 3].map(|warps| shared(warps, operand));
        assert_eq!(of(Operand::F32), [82_232, 108_984]);
        assert_eq!(of(Operand::Bf16), [57_144, 78_520]);
    }
}
