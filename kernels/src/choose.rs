//! Which rung of the selective scan a model takes: the one that is quickest by estimates from what v3, v4 and v5 took on H100
//! and H200 cards of 132 multiprocessors (MEASURED.md has the times, and how far the estimates lie from them).

use mambascope_core::backend::BackendError;

use crate::gpu::{Chip, Gpu};
use crate::once::{Form, OncePlan, launch_once};
use crate::scan::{Operand, Plan, ScanArgs, ScanKernel, launch_segments};
use crate::slots::{SlotsPlan, launch_slots};

/// Nanoseconds of v3: 9 µs for a launch and its beginning, 0.8 for each token and channel a multiprocessor has, 0.67 more in all
/// segments but the last, a third more where a thread has one channel, and 16 µs more for three launches than for one.
fn of_segments(chip: Chip, [batch, tokens, channels]: [usize; 3], plan: &Plan) -> f64 {
    let work = (batch * tokens * channels) as f64 / chip.multiprocessors as f64;
    let again = (plan.segments - 1) as f64 / plan.segments as f64;
    let alone = if plan.held == 1 { 1.3 } else { 1.0 };
    let launches = if plan.segments > 1 { 16e3 } else { 0.0 };
    9e3 + launches + work * (0.8 + 0.67 * again) * alone
}

/// Nanoseconds of v4: 7.5 µs for its launch and its beginning, and what its blocks take for a token.
fn of_slots(chip: Chip, tokens: usize, plan: &SlotsPlan) -> f64 {
    7.5e3 + plan.nanos_a_token(chip) * tokens as f64
}

/// Nanoseconds of v5. A resident block waits for memory first: 1.45 for each token and channel a multiprocessor has, 190 for a
/// token of a segment, and 2.2 µs for a round of blocks behind the first. A streamed one goes over its own tokens and channels
/// twice, however many blocks there are; a round more is taken for a launch more.
fn of_once(chip: Chip, [batch, tokens, channels]: [usize; 3], plan: &OncePlan) -> f64 {
    let rounds = plan.rounds as f64;
    let of_a_block = (plan.block_tokens() * plan.form.width()) as f64;
    match plan.form {
        Form::Resident => {
            let work = (batch * tokens * channels) as f64 / chip.multiprocessors as f64;
            let segments = 190.0 * plan.segment as f64 * rounds;
            9.2e3 + 2.2e3 * (rounds - 1.0) + segments + 1.45 * work
        }
        Form::Streamed16 => rounds * (14.5e3 + 1.8 * of_a_block),
        Form::Streamed32 => rounds * (17.5e3 + 1.27 * of_a_block),
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
            slots.map(|plan| of_slots(chip, tokens, plan)),
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
    const MEASURED: [([usize; 3], f64, Option<f64>, f64); 56] = [
        ([1, 2048, 16], 19.2, None, 10.3),
        ([1, 4096, 16], 21.8, None, 11.5),
        ([1, 9000, 16], 18.5, None, 11.5),
        ([1, 16_384, 16], 21.0, None, 14.1),
        ([1, 65_536, 16], 40.6, Some(805.7), 24.4),
        ([4, 16_384, 16], 37.7, Some(205.5), 23.7),
        ([8, 65_536, 16], 153.1, Some(807.2), 132.7),
        ([1, 2048, 32], 22.0, None, 10.7),
        ([1, 4096, 32], 29.8, None, 12.3),
        ([1, 9000, 32], 18.8, None, 14.0),
        ([1, 16_384, 32], 23.6, None, 17.6),
        ([1, 65_536, 32], 54.6, None, 40.8),
        ([8, 4096, 32], 44.2, Some(56.2), 22.8),
        ([1, 2048, 64], 29.7, None, 10.7),
        ([1, 4096, 64], 37.5, None, 13.2),
        ([1, 9000, 64], 42.2, None, 18.2),
        ([1, 16_384, 64], 48.5, None, 23.8),
        ([1, 65_536, 64], 90.1, None, 63.6),
        ([16, 4096, 64], 73.4, Some(57.4), 59.1),
        ([1, 2048, 128], 32.4, None, 11.6),
        ([1, 4096, 128], 39.6, None, 16.3),
        ([1, 9000, 128], 50.8, None, 32.6),
        ([1, 16_384, 128], 60.1, None, 42.1),
        ([1, 65_536, 128], 133.0, None, 106.0),
        ([1, 2048, 256], 34.9, Some(30.9), 15.0),
        ([1, 4096, 256], 49.1, None, 23.0),
        ([1, 9000, 256], 63.3, None, 44.1),
        ([1, 16_384, 256], 84.0, None, 60.9),
        ([1, 65_536, 256], 218.7, None, 205.0),
        ([1, 2048, 512], 42.0, Some(31.1), 21.5),
        ([1, 16_384, 512], 116.1, Some(205.4), 100.0),
        ([1, 4096, 768], 59.3, Some(56.6), 51.6),
        ([1, 2048, 1024], 49.0, Some(32.0), 36.2),
        ([1, 2048, 1536], 59.4, Some(37.9), 54.8),
        ([2, 512, 1536], 46.7, Some(24.1), 35.4),
        ([1, 16_384, 1536], 308.0, Some(242.3), 343.3),
        ([1, 65_536, 1536], 1090.0, Some(943.2), 1340.1),
        ([8, 4096, 2048], 799.0, Some(580.3), 748.2),
        ([4, 2048, 1536], 171.5, Some(118.5), 187.6),
        ([2, 2048, 1536], 91.2, Some(64.6), 94.5),
        ([1, 4096, 2048], 117.3, Some(93.9), 98.1),
        ([1, 2048, 2560], 82.5, Some(61.8), 94.8),
        ([3, 4096, 1536], 229.0, Some(173.7), 354.8),
        ([1, 16, 1536], 9.2, Some(7.2), 10.4),
        ([1, 32, 1536], 13.0, Some(7.5), 10.6),
        ([1, 64, 1536], 23.1, Some(7.4), 10.5),
        ([1, 128, 1536], 24.5, Some(9.2), 11.4),
        ([1, 512, 1536], 35.2, Some(14.8), 20.3),
        ([1, 128, 1024], 24.0, Some(8.1), 10.7),
        ([1, 512, 1024], 29.5, Some(13.1), 14.8),
        ([1, 512, 768], 28.9, Some(12.7), 14.0),
        ([1, 128, 768], 23.4, Some(7.9), 10.4),
        ([1, 128, 2048], 24.7, Some(10.0), 12.1),
        ([8, 4096, 128], 73.9, Some(57.9), 58.6),
        ([4, 8192, 256], 118.1, Some(107.8), 100.7),
        ([64, 4096, 2048], 3197.5, Some(5465.3), 5712.9),
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
            assert!(off.abs() < 0.12, "{sizes:?}: {estimate}, took {v5}");
        }
    }

    #[test]
    fn the_estimate_of_v4_meets_what_it_took() {
        for (sizes, _, v4, _) in MEASURED {
            let Some(v4) = v4 else { continue };
            let (_, slots, _) = plans(sizes);
            let estimate = of_slots(H100, sizes[1], &slots.unwrap()) / 1e3;
            let off = estimate / v4 - 1.0;
            assert!(off.abs() < 0.15, "{sizes:?}: {estimate}, took {v4}");
        }
    }

    #[test]
    fn without_v5_few_channels_are_for_v3() {
        let sizes = [1, 65_536, 16];
        let (plan, slots, _) = plans(sizes);
        let without = quickest(H100, sizes, &plan, slots.as_ref(), None);
        assert_eq!(without, ScanKernel::V3, "where v5 does not take it");
    }
}
