//! The scan as the published CUDA kernel lays it out (`selective_scan_fwd_kernel.cuh` of state-spaces/mamba): a block of threads
//! takes a chunk of the tokens, a few neighbouring tokens a thread. Inside a chunk:
//!
//! 1. every thread puts its own tokens together, one after the other;
//! 2. the threads of a warp scan their totals among themselves, reaching back 1, 2, 4, 8 and 16 threads;
//! 3. the warps' totals are put behind the prefix that the chunks before have left, one warp after the other;
//! 4. every thread goes through its tokens again, from the prefix of all tokens before its first.
//!
//! The chunks themselves come one after the other: the next one begins with the prefix this one leaves. The kernel's library
//! (CUB's block scan by warp scans) puts the carried prefix before each thread's instead of before each warp's; that is the same
//! product, grouped in another way.

use super::associative::Cost;
use super::{Affine, Real, ScanError, ScanInput, ScanOutput};

/// Threads of a warp.
pub const WARP: usize = 32;

/// How tokens are dealt out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Threads of the block.
    pub threads: usize,
    /// Neighbouring tokens a thread takes of each chunk.
    pub items: usize,
}

impl Geometry {
    /// What the published kernel takes for that many tokens: chunks of 128 to 2048.
    pub fn of_kernel(tokens: usize) -> Self {
        let (threads, items) = match tokens {
            0..=128 => (32, 4),
            129..=256 => (32, 8),
            257..=512 => (32, 16),
            513..=1024 => (64, 16),
            _ => (128, 16),
        };
        Self { threads, items }
    }

    /// Tokens of a chunk.
    pub fn chunk(self) -> usize {
        self.threads.max(1) * self.items.max(1)
    }
}

/// What has just been done to the chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The steps of its tokens are there, nothing is combined.
    Loaded,
    /// Every thread has put its tokens up to and including this one together.
    Serial {
        /// Which of its tokens, from 0.
        item: usize,
    },
    /// Every thread has added what the one so far back in its warp had.
    Warp {
        /// How many threads back.
        distance: usize,
    },
    /// Every thread knows the prefix of all before its first token.
    Across,
    /// Every thread has written the prefix of this one of its tokens.
    Written {
        /// Which of its tokens, from 0.
        item: usize,
    },
    /// The prefix of the whole text so far is left for the next chunk.
    Carried,
}

/// A look into a scan between two rounds.
#[derive(Clone, Copy, Debug)]
pub struct Moment<'a, P> {
    /// Which chunk, from 0.
    pub chunk: usize,
    /// What has just been done.
    pub stage: Stage,
    /// What stands at each token of the chunk: at first its step, then what its thread had put together on reaching it, at last
    /// its prefix.
    pub cells: &'a [P],
    /// What each thread holds: its total, then that with the threads before it in the warp, then the prefix it begins with. One
    /// less when it is the first of all.
    pub threads: &'a [Option<P>],
    /// The prefix of all chunks done; none in the first.
    pub running: Option<P>,
    /// Of all so far.
    pub cost: Cost,
}

/// Every prefix of `steps`, the place itself included, chunk by chunk; `combine` takes the earlier, then the later. `observe` sees
/// every round.
pub fn chunked_scan<P: Copy>(
    steps: &[P],
    geometry: Geometry,
    combine: impl Fn(P, P) -> P,
    mut observe: impl FnMut(Moment<'_, P>),
) -> (Vec<P>, Cost) {
    let mut prefixes = steps.to_vec();
    let (mut running, mut cost) = (None, Cost::default());
    for (chunk, cells) in prefixes.chunks_mut(geometry.chunk()).enumerate() {
        let mut look = |stage, cells: &[P], threads: &[Option<P>], running, cost| {
            observe(Moment {
                chunk,
                stage,
                cells,
                threads,
                running,
                cost,
            });
        };
        running = one_chunk(
            cells,
            geometry.items.max(1),
            running,
            &combine,
            &mut cost,
            &mut look,
        );
    }
    (prefixes, cost)
}

/// Sees what was done, the cells, what each thread holds, what is carried, and the cost so far.
type Look<'a, P> = &'a mut dyn FnMut(Stage, &[P], &[Option<P>], Option<P>, Cost);

/// Scans a chunk from the prefix of those before, and gives the prefix for the next.
fn one_chunk<P: Copy>(
    cells: &mut [P],
    items: usize,
    running: Option<P>,
    combine: &impl Fn(P, P) -> P,
    cost: &mut Cost,
    look: Look<'_, P>,
) -> Option<P> {
    let steps = cells.to_vec();
    look(Stage::Loaded, cells, &[], running, *cost);
    for item in 1..items {
        let mut combines = 0;
        for i in (item..cells.len()).step_by(items) {
            cells[i] = combine(cells[i - 1], cells[i]);
            combines += 1;
        }
        cost.round(combines);
        look(Stage::Serial { item }, cells, &[], running, *cost);
    }
    let ends = cells.chunks(items).filter_map(<[P]>::last);
    let mut threads: Vec<Option<P>> = ends.copied().map(Some).collect();
    scan_warps(&mut threads, combine, cost, &mut |stage, threads, cost| {
        look(stage, cells, threads, running, cost);
    });
    let carried = across(&mut threads, running, combine, cost);
    look(Stage::Across, cells, &threads, running, *cost);
    for item in 0..items {
        let mut combines = 0;
        for (thread, &start) in threads.iter().enumerate() {
            let i = thread * items + item;
            let before = if item == 0 {
                start
            } else {
                cells.get(i.wrapping_sub(1)).copied()
            };
            let Some(&step) = steps.get(i) else { continue };
            combines += usize::from(before.is_some());
            cells[i] = before.map_or(step, |before| combine(before, step));
        }
        cost.round(combines);
        look(Stage::Written { item }, cells, &threads, running, *cost);
    }
    look(Stage::Carried, cells, &threads, carried, *cost);
    carried
}

/// Sees what was done, what each thread holds, and the cost so far.
type LookAtThreads<'a, P> = &'a mut dyn FnMut(Stage, &[Option<P>], Cost);

/// The totals of the threads of each warp, up to and including each.
fn scan_warps<P: Copy>(
    threads: &mut [Option<P>],
    combine: &impl Fn(P, P) -> P,
    cost: &mut Cost,
    look: LookAtThreads<'_, P>,
) {
    let mut distance = 1;
    while distance < WARP.min(threads.len()) {
        let mut combines = 0;
        for warp in threads.chunks_mut(WARP) {
            for lane in (distance..warp.len()).rev() {
                warp[lane] = joined(warp[lane - distance], warp[lane], combine);
                combines += 1;
            }
        }
        cost.round(combines);
        look(Stage::Warp { distance }, threads, *cost);
        distance *= 2;
    }
}

/// Turns the totals within warps into the prefix before each thread's first token, and gives the prefix behind the last.
fn across<P: Copy>(
    threads: &mut [Option<P>],
    running: Option<P>,
    combine: &impl Fn(P, P) -> P,
    cost: &mut Cost,
) -> Option<P> {
    let mut carried = running;
    let mut combines = 0;
    for warp in threads.chunks_mut(WARP) {
        let before = carried;
        let total = warp.last().copied().flatten();
        carried = joined(before, total, combine);
        // The warps wait for one another: a round each.
        cost.round(usize::from(before.is_some()));
        for lane in (0..warp.len()).rev() {
            let earlier = if lane == 0 { None } else { warp[lane - 1] };
            combines += usize::from(before.is_some() && earlier.is_some());
            warp[lane] = joined(before, earlier, combine);
        }
    }
    cost.round(combines);
    carried
}

/// Both together, or the one there is.
fn joined<P: Copy>(
    earlier: Option<P>,
    later: Option<P>,
    combine: &impl Fn(P, P) -> P,
) -> Option<P> {
    match (earlier, later) {
        (Some(earlier), Some(later)) => Some(combine(earlier, later)),
        (one, other) => one.or(other),
    }
}

/// The scan of [`super`] chunk by chunk; the cost is that of one channel and slot.
///
/// # Errors
/// When an operand's shape does not fit.
pub fn chunked<T: Real>(
    input: &ScanInput<'_, T>,
    geometry: Geometry,
) -> Result<(ScanOutput<T>, Cost), ScanError> {
    input.by_slots(|steps| chunked_scan(steps, geometry, Affine::compose, |_| {}))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::associative::tests::agrees_with_the_loop;

    #[test]
    fn every_geometry_gives_what_the_loop_gives() {
        for (threads, items) in [(1, 1), (1, 5), (4, 1), (33, 2), (64, 3), (128, 16)] {
            let geometry = Geometry { threads, items };
            agrees_with_the_loop(&|input| chunked(input, geometry).unwrap().0, &|input| {
                chunked(input, geometry).unwrap().0
            });
        }
    }

    #[test]
    fn order_is_kept_and_rounds_are_seen() {
        let join = |one: (usize, usize), other: (usize, usize)| {
            assert_eq!(one.1, other.0, "neighbours only");
            (one.0, other.1)
        };
        let steps: Vec<_> = (0..101).map(|i| (i, i + 1)).collect();
        for (threads, items) in [(1, 1), (3, 2), (40, 1), (7, 5)] {
            let mut rounds = Vec::new();
            let (prefixes, cost) =
                chunked_scan(&steps, Geometry { threads, items }, join, |moment| {
                    rounds.push((moment.chunk, moment.stage, moment.cost));
                });
            assert!(
                prefixes
                    .iter()
                    .enumerate()
                    .all(|(i, &span)| span == (0, i + 1))
            );
            assert_eq!(rounds.last().map(|last| last.2), Some(cost));
            assert!(
                rounds
                    .windows(2)
                    .all(|two| two[0].2.combines <= two[1].2.combines)
            );
        }
    }

    #[test]
    fn costs_are_those_counted_by_hand() {
        // 2 chunks of 2 threads with 3 tokens. The first: 4 serial, 1 in the warp, 5 written (thread 0 begins with nothing).
        // The second: 4, 1, then 1 for the warp and 1 for its second thread, 6 written.
        let geometry = Geometry {
            threads: 2,
            items: 3,
        };
        let (_, cost) = chunked_scan(&[(); 12], geometry, |(), ()| (), |_| {});
        assert_eq!(cost.combines, 10 + 4 + 1 + 2 + 6);
        assert_eq!(cost.depth, (2 + 1 + 3) + (2 + 1 + 2 + 3));
    }
}
