//! Which rung of the selective scan a model takes: the one that is quickest by estimates from what v3, v4 and v5 took on H100
//! and H200 cards of 132 multiprocessors (MEASURED.md has the times, and how far the estimates lie from them).

use mambascope_core::backend::BackendError;

use crate::gpu::{Chip, Gpu};
use crate::once::{Form, OncePlan, launch_once};
use crate::scan::{Operand, Plan, ScanArgs, ScanKernel, launch_segments};
use crate::slots::{SlotsPlan, launch_slots};

/// Nanoseconds that v3 and v4 take for the launch of one kernel; in v5's they are counted.
const LAUNCH: f64 = 7e3;

/// Nanoseconds of v3: 0.8 for each token and channel a multiprocessor has, 0.67 more in all segments but the last, a third more
/// where a thread has one channel, and 16 µs more for three launches than for one.
fn of_segments(chip: Chip, [batch, tokens, channels]: [usize; 3], plan: &Plan) -> f64 {
    let work = (batch * tokens * channels) as f64 / chip.multiprocessors as f64;
    let again = (plan.segments - 1) as f64 / plan.segments as f64;
    let alone = if plan.held == 1 { 1.3 } else { 1.0 };
    let launches = if plan.segments > 1 { 16e3 } else { 0.0 };
    LAUNCH + launches + work * (0.8 + 0.67 * again) * alone
}

/// Nanoseconds of v4: 15.6 for a token of a round of blocks, however full the round is. Nothing where blocks are on fewer than
/// 0.6 of the multiprocessors: it was not measured to be the quicker one there.
fn of_slots(chip: Chip, tokens: usize, plan: &SlotsPlan) -> Option<f64> {
    let is_filling = plan.blocks * 5 >= chip.multiprocessors * 3;
    is_filling.then_some(LAUNCH + 15.6 * (tokens * plan.rounds) as f64)
}

/// Nanoseconds of v5. A resident block waits for memory first: 1.5 for each token and channel a multiprocessor has, and 190 for
/// a token of a segment. A streamed one goes over its own tokens and channels twice, however many blocks there are. A round of
/// blocks more is taken for a launch more.
fn of_once(chip: Chip, [batch, tokens, channels]: [usize; 3], plan: &OncePlan) -> f64 {
    let rounds = plan.rounds as f64;
    let of_a_block = (plan.block_tokens() * plan.form.width()) as f64;
    match plan.form {
        Form::Resident => {
            let work = (batch * tokens * channels) as f64 / chip.multiprocessors as f64;
            rounds * (9.2e3 + 190.0 * plan.segment as f64) + 1.5 * work
        }
        Form::Streamed16 => rounds * (14.5e3 + 1.8 * of_a_block),
        Form::Streamed32 => rounds * (14.5e3 + 1.4 * of_a_block),
    }
}

/// The quickest of v3, and v4 and v5 where they take the shape.
fn quickest(
    chip: Chip,
    sizes: [usize; 3],
    plan: &Plan,
    slots: Option<&SlotsPlan>,
    once: Option<&OncePlan>,
) -> ScanKernel {
    let [_, tokens, _] = sizes;
    let estimates = [
        (ScanKernel::V3, Some(of_segments(chip, sizes, plan))),
        (
            ScanKernel::V4,
            slots.and_then(|plan| of_slots(chip, tokens, plan)),
        ),
        (ScanKernel::V5, once.map(|plan| of_once(chip, sizes, plan))),
    ];
    let known = estimates
        .into_iter()
        .filter_map(|(kernel, nanos)| Some((kernel, nanos?)));
    known
        .min_by(|(_, one), (_, other)| one.total_cmp(other))
        .map_or(ScanKernel::V3, |(kernel, _)| kernel)
}

/// Runs the quickest rung, v3 as `plan` cuts it. `args` has room for what any of them keeps.
pub(crate) fn launch_quickest(
    gpu: &Gpu,
    args: &ScanArgs,
    plan: &Plan,
    operand: Operand,
    batch: usize,
) -> Result<(), BackendError> {
    let chip = gpu.chip();
    let sizes = [batch, args.tokens as usize, args.channels as usize];
    let slots = SlotsPlan::new(chip, args, plan, operand, batch);
    let once = OncePlan::of_scan(chip, args, plan, operand, batch);
    let choice = quickest(chip, sizes, plan, slots.as_ref(), once.as_ref());
    match (choice, slots, once) {
        // Asked now, for it loads the kernel.
        (ScanKernel::V5, _, Some(once)) if once.can_meet(gpu)? => {
            launch_once(gpu, args, &once, batch)
        }
        (ScanKernel::V4, Some(slots), _) => launch_slots(gpu, args, &slots, batch),
        _ => launch_segments(gpu, args, plan, operand, batch),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::LEAN_HELD;

    const H100: Chip = Chip::HOPPER;

    /// Plans of all three for a scan in f32 with one group.
    fn plans(sizes: [usize; 3]) -> (Plan, Option<SlotsPlan>, Option<OncePlan>) {
        let [batch, tokens, channels] = sizes;
        let held = if channels < 64 { 1 } else { LEAN_HELD };
        (
            Plan::new([batch, tokens, channels, 16], channels, 132, 0, Some(held)),
            SlotsPlan::of(H100, Operand::F32, batch, [channels; 2]),
            OncePlan::new(H100, sizes, channels),
        )
    }

    fn chosen(sizes: [usize; 3]) -> ScanKernel {
        let (plan, slots, once) = plans(sizes);
        quickest(H100, sizes, &plan, slots.as_ref(), once.as_ref())
    }

    /// Sizes, and what v3, v4 (where it was in question) and v5 took in one visit, in µs.
    const MEASURED: [([usize; 3], f64, Option<f64>, f64); 35] = [
        ([1, 2048, 16], 19.2, None, 10.3),
        ([1, 4096, 16], 21.8, None, 11.5),
        ([1, 9000, 16], 18.5, None, 11.5),
        ([1, 16_384, 16], 21.0, None, 14.1),
        ([1, 65_536, 16], 38.9, Some(1000.0), 24.6),
        ([4, 16_384, 16], 36.1, Some(259.0), 24.2),
        ([8, 65_536, 16], 140.7, Some(998.0), 132.0),
        ([1, 2048, 32], 22.0, None, 10.7),
        ([1, 4096, 32], 29.8, None, 12.3),
        ([1, 9000, 32], 18.8, None, 14.0),
        ([1, 16_384, 32], 23.6, None, 17.6),
        ([1, 65_536, 32], 54.6, None, 40.8),
        ([8, 4096, 32], 44.5, Some(69.0), 23.2),
        ([1, 2048, 64], 29.7, None, 10.7),
        ([1, 4096, 64], 37.5, None, 13.2),
        ([1, 9000, 64], 42.2, None, 18.2),
        ([1, 16_384, 64], 48.5, None, 23.8),
        ([1, 65_536, 64], 90.1, None, 63.6),
        ([16, 4096, 64], 73.5, Some(69.3), 59.6),
        ([1, 2048, 128], 32.4, None, 11.6),
        ([1, 4096, 128], 39.6, None, 16.3),
        ([1, 9000, 128], 50.8, None, 32.6),
        ([1, 16_384, 128], 60.1, None, 42.1),
        ([1, 65_536, 128], 133.0, None, 106.0),
        ([1, 2048, 256], 34.8, Some(37.0), 15.3),
        ([1, 4096, 256], 49.1, None, 23.0),
        ([1, 9000, 256], 63.3, None, 44.1),
        ([1, 16_384, 256], 84.0, None, 60.9),
        ([1, 65_536, 256], 218.7, None, 205.0),
        ([1, 2048, 512], 41.8, Some(38.0), 23.1),
        ([1, 16_384, 512], 117.0, Some(267.0), 102.0),
        ([1, 4096, 768], 58.6, Some(70.7), 53.3),
        ([1, 2048, 1024], 49.1, Some(38.2), 36.6),
        ([1, 2048, 1536], 58.8, Some(41.4), 56.6),
        ([2, 512, 1536], 47.1, Some(27.6), 37.5),
    ];

    #[test]
    fn what_was_quickest_is_taken() {
        for (sizes, v3, v4, v5) in MEASURED {
            let v4 = v4.unwrap_or(f64::INFINITY);
            let wanted = if v5 < v3.min(v4) {
                ScanKernel::V5
            } else if v4 < v3 {
                ScanKernel::V4
            } else {
                ScanKernel::V3
            };
            assert_eq!(chosen(sizes), wanted, "{sizes:?}");
        }
    }

    #[test]
    fn the_estimate_of_v5_meets_what_it_took() {
        for (sizes, .., v5) in MEASURED {
            let (.., once) = plans(sizes);
            let estimate = of_once(H100, sizes, &once.unwrap()) / 1e3;
            let off = estimate / v5 - 1.0;
            assert!(off.abs() < 0.13, "{sizes:?}: {estimate}, took {v5}");
        }
    }

    /// What was the quickest on an H200, or by its time for a token would be.
    #[test]
    fn many_channels_are_for_v4_or_v3() {
        for (sizes, kernel) in [
            ([1, 16_384, 1536], ScanKernel::V4),
            ([1, 65_536, 1536], ScanKernel::V4),
            ([8, 4096, 2048], ScanKernel::V4),
            // A model's short chunks.
            ([1, 128, 1536], ScanKernel::V4),
            ([1, 512, 1536], ScanKernel::V4),
            // v3 takes them in one segment.
            ([1, 16, 1536], ScanKernel::V3),
            ([64, 4096, 2048], ScanKernel::V3),
        ] {
            assert_eq!(chosen(sizes), kernel, "{sizes:?}");
        }
        let sizes = [1, 65_536, 16];
        let (plan, slots, _) = plans(sizes);
        let without = quickest(H100, sizes, &plan, slots.as_ref(), None);
        assert_eq!(without, ScanKernel::V3, "where v5 does not take it");
    }
}
