//! v5 of the selective scan (scan_once.cu): which shapes it takes, and how it lays them out. Where it is the quicker one:
//! choose.rs.

use std::sync::Arc;

use mambascope_core::backend::BackendError;
use mambascope_core::scan::ScanShape;

use crate::buffer::Buffer;
use crate::gpu::{Chip, Gpu, Grid, Kernel, Use};
use crate::scan::{Operand, Plan, ScanArgs};
use crate::source::Source;

/// Slots of a channel.
pub(crate) const SLOTS: usize = 16;
/// `ONCE_THREADS`, `ONCE_TILE` and `ONCE_BLOCKS` in scan_once.cu.
const THREADS: usize = 512;
const TILE: usize = 4;
const MOST_BLOCKS: usize = 160;
/// Segments of a block, in any form.
const SEGMENTS: usize = 32;
/// Tokens of a segment that a block has room for in the resident form.
const RESIDENT_TOKENS: usize = 16;
/// Blocks of a launch: a counter has room for `1 << 16`, and a grid for one less in any direction but the first.
const MOST_BLOCKS_OF_ALL: usize = (1 << 16) - 1;
/// Shared memory that a kernel has beside what it is given, in whole lines.
const FIXED: usize = 128;
/// Words of `meet` before its packets, and words of packets that a row of a block takes.
const COUNTER: usize = 32;
const WORDS_OF_A_ROW: usize = 3;

/// Whether a block reads its operands once and keeps them, or for each of the two passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Resident,
    Streamed16,
    Streamed32,
}

impl Form {
    const ALL: [Form; 3] = [Form::Resident, Form::Streamed16, Form::Streamed32];

    /// Channels of a block.
    pub(crate) fn width(self) -> usize {
        match self {
            Form::Resident | Form::Streamed16 => 16,
            Form::Streamed32 => 32,
        }
    }

    fn kernel(self) -> &'static str {
        match self {
            Form::Resident => "scan_once_f32_resident",
            Form::Streamed16 => "scan_once_f32_16",
            Form::Streamed32 => "scan_once_f32_32",
        }
    }

    /// Bytes of shared memory for a block: `OnceShape` in scan_once.cu.
    fn shared(self) -> usize {
        let width = self.width();
        let held = width / 16;
        let ring = if self == Form::Streamed32 { 2 } else { 4 };
        let (values, rows) = (TILE * 32 * held, width * SLOTS);
        // A warp has two segments.
        let tile = 3 * values + 2 * TILE * 2 * SLOTS;
        let tiles = THREADS / 32 * ring * tile;
        let ends = SEGMENTS * (rows + width) + 16;
        let starts = match self {
            Form::Resident => 2 * rows + 16,
            Form::Streamed16 | Form::Streamed32 => 0,
        };
        (tiles + ends + starts) * size_of::<f32>()
    }

    /// Tiles that share a group's B and C, tiles of all sequences, and the most blocks that one of these is cut into.
    fn cut(self, chip: Chip, [batch, channels, group_channels]: [usize; 3]) -> [usize; 3] {
        let tiles = group_channels.div_ceil(self.width());
        let sequences = batch * (channels / group_channels) * tiles;
        let most = (chip.multiprocessors / sequences).clamp(1, MOST_BLOCKS);
        [tiles, sequences, most]
    }

    /// Words that the blocks of so many tiles tell one another what they found in.
    fn meeting_len(self, sequences: usize, blocks: usize) -> usize {
        COUNTER + sequences * blocks * self.width() * SLOTS * WORDS_OF_A_ROW
    }
}

/// How v5 lays out a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OncePlan {
    pub(crate) form: Form,
    /// Channels that share B and C, and tiles of channels that share these.
    group_channels: usize,
    tiles: usize,
    /// Tiles of all sequences, blocks of each, and tokens of a block's segments.
    sequences: usize,
    blocks: usize,
    pub(crate) segment: usize,
    /// Blocks a multiprocessor has after one another.
    pub(crate) rounds: usize,
}

/// Whether there are channels, in fours.
fn is_in_fours(group_channels: usize) -> bool {
    group_channels > 0 && group_channels.is_multiple_of(4)
}

/// Whether a block finds its shared memory.
fn has_room(chip: Chip) -> bool {
    Form::ALL
        .into_iter()
        .all(|form| form.shared() + FIXED <= chip.shared_limit)
}

/// Whether rows of u, delta and z begin, and stay, on 16 bytes; of B and C the lean form of v3 asks it too.
fn is_aligned(args: &ScanArgs) -> bool {
    let rows = [
        (args.u, args.u_row),
        (args.delta, args.delta_row),
        (args.z, args.z_row),
    ];
    let mut rows = rows.into_iter();
    rows.all(|(at, row)| at.is_multiple_of(16) && row % 4 == 0)
}

impl OncePlan {
    /// For a scan that v3 would cut as `plan` does; nothing for a shape that v5 does not take, or a chip whose blocks have no
    /// room for it.
    pub(crate) fn of_scan(
        chip: Chip,
        args: &ScanArgs,
        plan: &Plan,
        operand: Operand,
        batch: usize,
    ) -> Option<Self> {
        let is_taken = plan.is_lean && operand == Operand::F32 && is_aligned(args);
        let tokens = usize::try_from(args.tokens).unwrap_or(0);
        let sizes = [batch, tokens, args.channels as usize];
        is_taken
            .then(|| Self::new(chip, sizes, plan.group_channels))
            .flatten()
    }

    /// The same, and nothing where the device cannot keep all blocks at once.
    ///
    /// # Errors
    /// When the device refuses the kernel.
    pub(crate) fn ready(
        gpu: &Gpu,
        args: &ScanArgs,
        plan: &Plan,
        operand: Operand,
        batch: usize,
    ) -> Result<Option<Self>, BackendError> {
        match Self::of_scan(gpu.chip(), args, plan, operand, batch) {
            Some(once) if once.can_meet(gpu)? => Ok(Some(once)),
            _ => Ok(None),
        }
    }

    /// For so many sequences, tokens and channels, so many of which share B and C, in the usual shape.
    pub(crate) fn new(
        chip: Chip,
        [batch, tokens, channels]: [usize; 3],
        group_channels: usize,
    ) -> Option<Self> {
        if !is_in_fours(group_channels) || batch == 0 || tokens == 0 || !has_room(chip) {
            return None;
        }
        let of = |form: Form| {
            let [tiles, sequences, most] = form.cut(chip, [batch, channels, group_channels]);
            let segment = tokens.div_ceil(most * SEGMENTS).next_multiple_of(TILE);
            let blocks = tokens.div_ceil(SEGMENTS * segment);
            Self {
                form,
                group_channels,
                tiles,
                sequences,
                blocks,
                segment,
                rounds: (sequences * blocks).div_ceil(chip.multiprocessors),
            }
        };
        let resident = of(Form::Resident);
        let plan = if resident.segment <= RESIDENT_TOKENS {
            resident
        } else if group_channels >= Form::Streamed32.width() {
            of(Form::Streamed32)
        } else {
            of(Form::Streamed16)
        };
        plan.is_countable().then_some(plan)
    }

    /// Whether tokens fit 32 bits, those behind the text's end and those copied ahead included; and whether the counter has room
    /// for all blocks.
    fn is_countable(&self) -> bool {
        let tokens = (self.blocks + 1) * self.block_tokens();
        tokens <= i32::MAX as usize && self.sequences * self.blocks <= MOST_BLOCKS_OF_ALL
    }

    /// Tokens of a block, those behind the text's end included.
    pub(crate) fn block_tokens(&self) -> usize {
        SEGMENTS * self.segment
    }

    fn grid(&self, batch: usize) -> Grid {
        Grid {
            blocks: [self.blocks, self.sequences / batch, batch],
            threads: [THREADS, 1, 1],
            shared: self.form.shared(),
            // Alone it has nothing to read before the launch before it is done.
            overlaps: false,
            // Blocks of one sequence wait for each other.
            stays: self.blocks > 1,
        }
    }

    fn kernel(&self) -> Kernel {
        Kernel(Source::ScanOnce, self.form.kernel())
    }

    /// Whether all blocks can be there at once, if they have to be. Loads the kernel.
    ///
    /// # Errors
    /// When the device refuses it.
    pub(crate) fn can_meet(&self, gpu: &Gpu) -> Result<bool, BackendError> {
        let grid = self.grid(1);
        Ok(!grid.stays || gpu.can_stay(self.kernel(), grid)?)
    }

    /// Words of `meet`.
    fn meeting_len(&self) -> usize {
        self.form.meeting_len(self.sequences, self.blocks)
    }
}

/// Words of `meet` that are enough for any number of tokens; none where v5 does not take the shape.
pub(crate) fn meeting_len(chip: Chip, sizes: [usize; 3]) -> usize {
    let [_, _, group_channels] = sizes;
    if !is_in_fours(group_channels) || !has_room(chip) {
        return 0;
    }
    let len = |form: Form| {
        let [_, sequences, most] = form.cut(chip, sizes);
        form.meeting_len(sequences, most)
    };
    Form::ALL.into_iter().map(len).max().unwrap_or(0)
}

/// A place for the blocks of a plan to meet. Not for two launches at once: those of one stream follow one another.
pub(crate) fn meeting(
    gpu: &Arc<Gpu>,
    plan: Option<&OncePlan>,
) -> Result<Buffer<u64>, BackendError> {
    let len = plan.map_or(0, OncePlan::meeting_len);
    Buffer::zeros(gpu, Use::Activations, len)
}

/// Runs v5. `args.meet` has room for the plan, and was zeros before the first launch.
pub(crate) fn launch_once(
    gpu: &Gpu,
    args: &ScanArgs,
    plan: &OncePlan,
    batch: usize,
) -> Result<(), BackendError> {
    let args = ScanArgs {
        group_channels: plan.group_channels as i32,
        tiles: plan.tiles as i32,
        segment: plan.segment as i32,
        ..*args
    };
    gpu.launch(plan.kernel(), plan.grid(batch), &args)
}

/// Why a scan cannot be run by v5.
pub(crate) fn not_taken(chip: Chip, shape: &ScanShape, operand: Operand) -> BackendError {
    let said = if has_room(chip) {
        let format = match operand {
            Operand::F32 => "f32",
            Operand::Bf16 => "bf16",
        };
        format!(
            "The scan's kernel v5 takes f32, {SLOTS} slots, groups of channels in fours, and a device that keeps all its blocks at once; this scan has {format}, {} slots and groups of {} channels: choose v3.",
            shape.slots,
            shape.channels / shape.groups
        )
    } else {
        let wanted = Form::ALL.into_iter().map(Form::shared).max().unwrap_or(0);
        format!(
            "The scan's kernel v5 needs {} KiB of shared memory for a block, and a block of this device can have {}: choose v3.",
            (wanted + FIXED).div_ceil(1 << 10),
            chip.shared_limit >> 10
        )
    };
    BackendError::Device(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    const H100: Chip = Chip::HOPPER;

    fn plan(sizes: [usize; 3], group_channels: usize) -> OncePlan {
        OncePlan::new(H100, sizes, group_channels).unwrap()
    }

    /// As the blocks take them (`OnceTile` and `begin` in scan_once.cu).
    #[test]
    fn every_channel_and_token_has_one_block() {
        for batch in [1, 3] {
            for group_channels in [4, 16, 20, 32, 36, 100, 1536] {
                for tokens in [1, 4, 33, 1000, 2048, 9001, 65_537] {
                    for groups in [1, 3] {
                        let channels = groups * group_channels;
                        let plan = plan([batch, tokens, channels], group_channels);
                        let grid = plan.grid(batch);
                        let width = plan.form.width();
                        assert_eq!(grid.blocks[1..], [groups * plan.tiles, batch]);
                        let mut taken = vec![0; channels];
                        for tile in 0..grid.blocks[1] {
                            let (group, own) = (tile / plan.tiles, tile % plan.tiles);
                            let live = (group_channels - own * width).min(width);
                            assert!(live.is_multiple_of(4), "copies of four channels");
                            let first = group * group_channels + own * width;
                            for times in &mut taken[first..first + live] {
                                *times += 1;
                            }
                        }
                        assert!(taken.iter().all(|times| *times == 1), "{plan:?}");
                        let of_a_block = plan.block_tokens();
                        assert!(plan.segment > 0 && plan.segment.is_multiple_of(TILE));
                        assert!(plan.blocks * of_a_block >= tokens, "{plan:?}");
                        assert!((plan.blocks - 1) * of_a_block < tokens, "{plan:?}");
                        let all = grid.blocks.iter().product::<usize>();
                        assert!(!grid.stays || all <= H100.multiprocessors, "{plan:?}");
                        assert!(plan.blocks <= MOST_BLOCKS);
                        let is_resident = plan.form == Form::Resident;
                        assert!(!is_resident || plan.segment <= RESIDENT_TOKENS);
                    }
                }
            }
        }
    }

    #[test]
    fn shapes_have_their_forms() {
        for (sizes, form, blocks, segment) in [
            ([1, 65_536, 16], Form::Resident, [128, 1, 1], 16),
            ([1, 9001, 16], Form::Resident, [71, 1, 1], 4),
            ([1, 33, 16], Form::Resident, [1, 1, 1], 4),
            ([1, 65_537, 32], Form::Streamed32, [129, 1, 1], 16),
            ([8, 65_536, 16], Form::Streamed16, [16, 1, 8], 128),
            ([16, 4096, 64], Form::Streamed32, [4, 2, 16], 32),
            ([1, 512, 1536], Form::Resident, [1, 96, 1], 16),
            ([1, 2048, 1536], Form::Streamed32, [2, 48, 1], 32),
        ] {
            let [batch, _, channels] = sizes;
            let plan = plan(sizes, channels);
            let found = (plan.form, plan.grid(batch).blocks, plan.segment);
            assert_eq!(found, (form, blocks, segment), "{sizes:?}");
        }
    }

    #[test]
    fn what_a_session_has_to_meet_in_is_enough_for_any_text() {
        for (batch, channels) in [(1, 4), (1, 16), (1, 1536), (1, 5120), (40, 64)] {
            let sizes = [batch, channels, channels];
            let most = meeting_len(H100, sizes);
            for tokens in (1..3000).chain([9001, 65_536, 1 << 22]) {
                let plan = plan([batch, tokens, channels], channels);
                assert!(plan.meeting_len() <= most, "{tokens}: {plan:?}");
            }
        }
        // A counter of 256 bytes, and 24 for a row of a block.
        let plan = plan([1, 65_536, 16], 16);
        assert_eq!(8 * plan.meeting_len(), 256 + 128 * 256 * 24);
        assert_eq!(meeting_len(H100, [1, 6, 6]), 0);
        let small = Chip {
            shared_limit: 163 << 10,
            ..H100
        };
        assert_eq!(meeting_len(small, [1, 16, 16]), 0);
    }

    #[test]
    fn other_shapes_and_smaller_chips_are_left_to_v3() {
        for group_channels in [1, 2, 6, 18] {
            let sizes = [1, 100, group_channels];
            assert_eq!(OncePlan::new(H100, sizes, group_channels), None);
        }
        // More blocks than the counter has room for, and more tokens than 32 bits.
        assert_eq!(OncePlan::new(H100, [1 << 17, 9, 16], 16), None);
        assert_eq!(OncePlan::new(H100, [1, 1 << 31, 16], 16), None);
        for shared_limit in [99, 163, 195].map(|kib| kib << 10) {
            let chip = Chip {
                shared_limit,
                ..H100
            };
            assert_eq!(OncePlan::new(chip, [1, 100, 16], 16), None);
        }
    }

    /// The sums that scan_once.cu asserts.
    #[test]
    fn shared_memory_is_what_the_kernels_lay_out() {
        let found = Form::ALL.map(Form::shared);
        assert_eq!(found, [200_832, 198_720, 200_768]);
    }

    #[test]
    fn a_refusal_says_what_is_missing() {
        let shape = ScanShape {
            batch: 1,
            channels: 24,
            tokens: 9,
            slots: 8,
            groups: 4,
        };
        let said = not_taken(H100, &shape, Operand::F32).to_string();
        assert!(said.contains("8 slots") && said.contains("6 channels"));
        let small = Chip {
            shared_limit: 99 << 10,
            ..H100
        };
        let said = not_taken(small, &shape, Operand::F32).to_string();
        assert!(said.contains("197 KiB") && said.contains("99"), "{said}");
    }
}
