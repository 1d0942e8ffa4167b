//! How this program's own CUDA kernel lays a scan out (`kernels/src/scan.rs`, v3): the text is cut into segments that run at the same
//! time, and inside a segment a thread goes from token to token. Three launches:
//!
//! 1. `scan_ends`: every segment but the last, begun at zero, for what it would leave behind;
//! 2. `scan_carry`: the true state before each segment, from what they leave;
//! 3. `scan_full`: every segment from its true beginning.

use mambascope_core::scan::{Cost, Geometry, Stage, WARP as LANES, chunked_scan};

use super::operands::CHANNELS;

// The numbers of the kernel, read from its source when this is built.
mod numbers {
    include!(concat!(env!("OUT_DIR"), "/own_kernel.rs"));
}
use numbers::{FEWEST_CHANNELS, SHORTEST_SEGMENT, TILE, WARPS_WANTED};
pub use numbers::{LEAN_HELD, LEAN_TILE, WARP};

/// Slots of a channel in the layout that is shown: the shape most models have.
pub const SLOTS: usize = 16;
/// Multiprocessors of an H200, on which the kernel was measured (`kernels/MEASURED.md`).
pub const H200: usize = 132;
/// Segments that a thread of `scan_carry` would go over, and the most threads that share a row.
const CARRIED_BY_A_THREAD: usize = 8;
const MOST_PARTS: usize = 32;

/// How a text is cut for a layer of [`CHANNELS`] channels with [`SLOTS`] slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Tokens of a segment.
    pub segment: usize,
    /// Segments, the last of which may be shorter.
    pub segments: usize,
    /// How `scan_carry` deals out what the segments leave: threads, and segments of a thread.
    pub carry: Geometry,
}

impl Cut {
    /// Of so many tokens, on a device with so many multiprocessors. The same steps as `Plan::new` in `kernels/src/scan.rs`.
    pub fn new(tokens: usize, multiprocessors: usize) -> Self {
        let warp_channels = CHANNELS
            .div_ceil(LEAN_HELD)
            .next_power_of_two()
            .clamp(FEWEST_CHANNELS.min(WARP), WARP);
        let warps = CHANNELS.div_ceil(warp_channels * LEAN_HELD);
        let of_a_warp = WARP / warp_channels;
        let wanted = (multiprocessors * WARPS_WANTED).div_ceil(warps) * of_a_warp;
        let most = tokens.div_ceil(SHORTEST_SEGMENT);
        let segments = wanted.min(most).max(1);
        let segment = tokens.div_ceil(segments).next_multiple_of(TILE);
        let segments = tokens.div_ceil(segment).max(1);
        let before = segments - 1;
        let threads = before.div_ceil(CARRIED_BY_A_THREAD).clamp(1, MOST_PARTS);
        Self {
            segment,
            segments,
            carry: Geometry {
                threads,
                items: before.div_ceil(threads).max(1),
            },
        }
    }

    /// The first round of each launch, and behind them the number of all rounds. With one segment there is only the last launch.
    pub fn launches(self) -> [usize; 4] {
        let carry = if self.segments == 1 {
            0
        } else {
            let lanes = (self.segments - 1).div_ceil(self.carry.items).min(LANES);
            let among = lanes.next_power_of_two().ilog2() as usize;
            // Own totals, among the threads, across, true states.
            (self.carry.items - 1) + among + 1 + self.carry.items
        };
        let ends = if self.segments == 1 {
            0
        } else {
            self.segment - 1
        };
        // The first round is the loading.
        let full = 1 + ends + carry;
        [0, 1 + ends, full, full + self.segment]
    }
}

/// What has just been done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Launch {
    /// The steps of the tokens are there.
    Loaded,
    /// Every segment but the last has put its tokens up to this one together.
    Ends {
        /// Which of its tokens, from 0.
        item: usize,
    },
    /// A round of the scan over what the segments leave.
    Carry(Stage),
    /// Every segment has written this one of its tokens.
    Full {
        /// Which of its tokens, from 0.
        item: usize,
    },
}

/// A look between two rounds.
pub struct Look<'a, P> {
    /// What was just done.
    pub launch: Launch,
    /// What stands at each token.
    pub cells: &'a [P],
    /// The state before each segment, as far as it is known; empty before the carry.
    pub starts: &'a [Option<P>],
    /// Of all so far.
    pub cost: Cost,
}

fn round(cost: &mut Cost, combines: usize) {
    cost.combines += combines as u64;
    cost.depth += u64::from(combines > 0);
}

/// Every prefix of `steps`, the place itself included, in the order of the three launches; `combine` takes the earlier, then the
/// later. `observe` sees every round.
pub fn segmented_scan<P: Copy>(
    steps: &[P],
    cut: Cut,
    combine: impl Fn(P, P) -> P,
    mut observe: impl FnMut(Look<'_, P>),
) -> (Vec<P>, Cost) {
    let (mut cells, mut cost) = (steps.to_vec(), Cost::default());
    let mut look = |launch, cells: &[P], starts: &[Option<P>], cost| {
        observe(Look {
            launch,
            cells,
            starts,
            cost,
        });
    };
    look(Launch::Loaded, &cells, &[], cost);
    let before = (cut.segments - 1) * cut.segment;
    if before > 0 {
        for item in 1..cut.segment {
            for i in (item..before).step_by(cut.segment) {
                cells[i] = combine(cells[i - 1], cells[i]);
            }
            round(&mut cost, cut.segments - 1);
            look(Launch::Ends { item }, &cells, &[], cost);
        }
    }
    let ends: Vec<P> = cells[..before]
        .chunks(cut.segment)
        .filter_map(<[P]>::last)
        .copied()
        .collect();
    // Nothing is carried into the first segment.
    let starts_of = |ends: &[P]| -> Vec<Option<P>> {
        let first = std::iter::once(None);
        first.chain(ends.iter().copied().map(Some)).collect()
    };
    let so_far = cost;
    let (ends, carried) = chunked_scan(&ends, cut.carry, &combine, |moment| {
        if !matches!(moment.stage, Stage::Loaded | Stage::Carried) {
            let cost = Cost {
                combines: so_far.combines + moment.cost.combines,
                depth: so_far.depth + moment.cost.depth,
            };
            let starts = starts_of(moment.cells);
            look(Launch::Carry(moment.stage), &cells, &starts, cost);
        }
    });
    cost.combines += carried.combines;
    cost.depth += carried.depth;
    let starts = starts_of(&ends);
    for item in 0..cut.segment {
        let mut combines = 0;
        for (segment, &start) in starts.iter().enumerate() {
            let i = segment * cut.segment + item;
            let Some(&step) = steps.get(i) else { continue };
            let before = match item {
                0 => start,
                _ => cells.get(i - 1).copied(),
            };
            combines += usize::from(before.is_some());
            cells[i] = before.map_or(step, |before| combine(before, step));
        }
        round(&mut cost, combines);
        look(Launch::Full { item }, &cells, &starts, cost);
    }
    (cells, cost)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CASES: [(usize, usize); 7] = [
        (1, 132),
        (33, 132),
        (600, 132),
        (600, 1),
        (600, 16),
        (4096, 132),
        (4096, 24),
    ];

    #[test]
    fn every_token_has_its_prefix_and_every_round_its_place() {
        // Values that know their place: a combine of two that are no neighbours would be seen.
        let join = |one: (usize, usize), other: (usize, usize)| {
            if one.1 == other.0 {
                (one.0, other.1)
            } else {
                (1, 0)
            }
        };
        for (tokens, multiprocessors) in CASES {
            let cut = Cut::new(tokens, multiprocessors);
            let steps: Vec<_> = (0..tokens).map(|l| (l, l + 1)).collect();
            let mut seen = Vec::new();
            let (prefixes, cost) = segmented_scan(&steps, cut, join, |look| {
                seen.push((look.launch, look.cost.depth));
            });
            assert!(
                prefixes.iter().enumerate().all(|(l, &p)| p == (0, l + 1)),
                "{cut:?}"
            );
            let [_, carry, full, all] = cut.launches();
            assert_eq!(seen.len(), all, "{cut:?}");
            assert_eq!(seen[full].0, Launch::Full { item: 0 }, "{cut:?}");
            if cut.segments > 1 {
                assert!(matches!(seen[carry].0, Launch::Carry(_)), "{cut:?}");
            }
            assert_eq!(seen.last().map(|last| last.1), Some(cost.depth));
        }
    }

    #[test]
    fn the_cut_is_the_kernels() {
        let of = |tokens, multiprocessors| {
            let cut = Cut::new(tokens, multiprocessors);
            (cut.segments, cut.segment)
        };
        // As `Plan::new` gives them for [1, tokens, 1536, 16], one group, two channels a thread.
        assert_eq!(of(600, 132), (19, 32));
        assert_eq!(of(4096, 132), (64, 64));
        assert_eq!(of(4096, 1), (1, 4096));
        // The steps that are taken over word for word; where they change there, they change here.
        let kernel = include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../kernels/src/scan.rs"
        ));
        for step in [
            "let tiles = group_channels.div_ceil(warp_channels * held);",
            "let wanted = (multiprocessors * WARPS_WANTED).div_ceil(warps) * of_a_warp;",
            "let most = tokens.div_ceil(SHORTEST_SEGMENT);",
            "wanted.min(most).max(1)",
            "let segment = tokens.div_ceil(segments).next_multiple_of(TILE);",
            "let (side, most_parts) = if is_few { (4, 256) } else { (WARP, 32) };",
            "let parts = (plan.segments - 1).div_ceil(8).min(most_parts);",
        ] {
            assert!(kernel.contains(step), "no longer in the kernel: {step}");
        }
        assert!((CARRIED_BY_A_THREAD, MOST_PARTS) == (8, 32));
        // Enough rows on any device of the slider: `is_few` is for fewer than these.
        const { assert!(CHANNELS * SLOTS >= 160 * WARP) };
    }
}
