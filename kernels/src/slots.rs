//! v4 of the selective scan (scan_slots.cu): which shapes it takes, and how it lays them out. Where it is the quicker one:
//! choose.rs.

use mambascope_core::backend::BackendError;
use mambascope_core::scan::ScanShape;

use crate::gpu::{Chip, Gpu, Grid, Kernel};
use crate::scan::{Operand, Plan, ScanArgs};
use crate::source::Source;

const WARP: usize = 32;
/// Slots of a channel.
const SLOTS: usize = 16;
/// `CHUNK`, `AHEAD` and `FINISHERS` in scan_slots.cu.
const CHUNK: usize = 32;
const AHEAD: usize = 6;
const FINISHERS: usize = 4;
/// Channels that a warp carries the states of.
const CHANNELS_OF_A_WARP: usize = 4;
/// Warps with states that a block can have.
const WIDTHS: [usize; 2] = [2, 3];

/// How v4 lays out a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SlotsPlan {
    /// Warps of a block that carry states.
    pub(crate) warps: usize,
    operand: Operand,
    /// Channels that share B and C, and blocks that share these channels.
    group_channels: usize,
    tiles: usize,
    /// Blocks of the whole scan, and how many a multiprocessor gets after one another.
    pub(crate) blocks: usize,
    pub(crate) rounds: usize,
}

/// Bytes of shared memory for a block: `SlotsRoom` in scan_slots.cu.
fn shared(warps: usize, operand: Operand) -> usize {
    let channels = CHANNELS_OF_A_WARP * warps;
    let float = size_of::<f32>();
    let raw = (AHEAD + 1) * CHUNK * (2 * SLOTS + 3 * channels) * operand.bytes();
    let gates = 4 * 2 * CHUNK * channels * float;
    let steps = 3 * channels * (CHUNK + 2) * 2 * float;
    let parts = 2 * CHUNK * channels * (SLOTS / 2) * float;
    raw + gates + steps + parts
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
        // The last chunk is counted to its end.
        let is_countable = args.tokens <= i32::MAX - CHUNK as i32;
        let is_taken = plan.is_lean && is_countable && is_in_fours(args, operand);
        let channels = [args.channels as usize, plan.group_channels];
        is_taken
            .then(|| Self::of(chip, operand, batch, channels))
            .flatten()
    }

    /// For so many channels in all and in a group, in the usual shape. A round takes about as long with two warps as with three
    /// (each channel's recurrence is what is waited for), so two are taken where they need no more rounds.
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
            let plan = Self {
                warps,
                operand,
                group_channels,
                tiles,
                blocks,
                rounds: blocks.div_ceil(chip.multiprocessors),
            };
            let fits = group_channels >= width && shared(warps, operand) <= chip.shared_limit;
            fits.then_some(plan)
        });
        plans.min_by_key(|plan| plan.rounds)
    }

    fn grid(&self, batch: usize, channels: usize) -> Grid {
        Grid {
            blocks: [channels / self.group_channels * self.tiles, 1, batch],
            threads: [WARP * (self.warps + 1 + FINISHERS), 1, 1],
            shared: shared(self.warps, self.operand),
            // Alone it has nothing to read before the launch before it is done.
            overlaps: false,
            stays: false,
        }
    }

    fn kernel(&self) -> &'static str {
        match (self.operand, self.warps) {
            (Operand::F32, 2) => "scan_slots_f32_2",
            (Operand::F32, _) => "scan_slots_f32_3",
            (Operand::Bf16, 2) => "scan_slots_bf16_2",
            (Operand::Bf16, _) => "scan_slots_bf16_3",
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
    let args = ScanArgs {
        group_channels: plan.group_channels as i32,
        tiles: plan.tiles as i32,
        ..*args
    };
    let grid = plan.grid(batch, args.channels as usize);
    gpu.launch(Kernel(Source::ScanSlots, plan.kernel()), grid, &args)
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

    /// The sums that scan_slots.cu asserts.
    #[test]
    fn shared_memory_is_what_the_kernel_lays_out() {
        let of = |operand| [2, 3].map(|warps| shared(warps, operand));
        assert_eq!(of(Operand::F32), [81_280, 107_584]);
        assert_eq!(of(Operand::Bf16), [56_192, 77_120]);
    }
}
