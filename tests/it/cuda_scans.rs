//! The rungs of the selective scan on a device, held to double precision in every shape and form they take.

use std::sync::Arc;

use mambascope_core::backend::Backend;
use mambascope_core::scan::{ScanInput, ScanOperands, ScanShape, sequential};
use mambascope_kernels::bench::ScanBench;
use mambascope_kernels::{CudaBackend, Gpu, Operand, ScanKernel};
use ndarray::{Array1, Array3, ArrayD, Axis, s};

use crate::scans::in_double;
use crate::support::{Tolerance, assert_close, cuda};

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn a_scan_of_too_many_slots_is_told_how_many_there_may_be() {
    let shape = ScanShape {
        batch: 1,
        channels: 4,
        tokens: 3,
        slots: 300,
        groups: 1,
    };
    let operands = ScanOperands::seeded(shape, 1);
    for mut backend in cuda() {
        let refused = backend.scan(&operands.input(0).unwrap()).unwrap_err();
        let said = refused.to_string();
        assert!(said.contains("256") && said.contains("300"), "{said}");
    }
}

/// Few channels and many, one group and several, and a text long enough for hundreds of segments.
const SHAPES: [ScanShape; 4] = [
    shape(1, 96, 700, 1),
    shape(1, 96, 700, 3),
    shape(1, 24, 700, 3),
    shape(1, 24, 9000, 1),
];

const fn shape(batch: usize, channels: usize, tokens: usize, groups: usize) -> ScanShape {
    ScanShape {
        batch,
        channels,
        tokens,
        slots: 16,
        groups,
    }
}

/// With a gate v2 and v3 take their lean form, and v4 and v5 are taken; without one the general, and v3 is in their place.
#[test]
#[ignore = "needs an NVIDIA GPU"]
fn both_forms_of_a_scan_follow_double_precision() {
    let mut backend = CudaBackend::default();
    for shape in SHAPES {
        let operands = ScanOperands::seeded(shape, 1);
        let gated = operands.input(0).unwrap();
        let plain = ScanInput {
            z_ld: None,
            ..operands.input(0).unwrap()
        };
        for (input, form) in [(gated, "lean"), (plain, "general")] {
            let wanted = in_double(&input);
            for kernel in ScanKernel::ALL {
                backend.scan_kernel = kernel;
                let found = backend.scan(&input).unwrap();
                let what = format!("{} {form}, {shape:?}", kernel.name());
                for (found, wanted) in
                    [(found.y_ld, &wanted.y_ld), (found.last_dn, &wanted.last_dn)]
                {
                    let wanted = wanted.clone().into_dyn();
                    assert_close(&what, found, &wanted, Tolerance::OfLargest(1e-5));
                }
            }
        }
    }
}

/// Holds what rungs make of operands, several sequences of them, to double precision; `is_in_place`: from states that the last
/// ones replace.
fn check_measured(
    gpu: &Arc<Gpu>,
    mut operands: ScanOperands,
    operand: Operand,
    kernels: &[ScanKernel],
    is_in_place: bool,
) {
    let shape = operands.shape;
    // y is rounded to the operands' format at the end, by half a unit of its last place.
    let mut of_y = 1e-5;
    if operand == Operand::Bf16 {
        of_y += 1.0 / 256.0;
        let ScanOperands {
            u, delta, z, b, c, ..
        } = &mut operands;
        for x in [u, delta, z, b, c].into_iter().flatten() {
            // The upper half of a number is one of bf16.
            *x = f32::from_bits(x.to_bits() & 0xffff_0000);
        }
    }
    let states = [shape.batch, shape.channels, shape.slots];
    // As large as the states that grow from the operands: what is kept of it has the rounding of every token on the way.
    let initial = Array3::from_shape_fn(states, |(b, d, n)| {
        ((7 * b + 3 * d + n) % 11) as f32 / 5.0 - 1.0
    });
    let wanted = (0..shape.batch).map(|sequence| {
        let output = in_double(&ScanInput {
            initial_dn: is_in_place.then(|| initial.index_axis(Axis(0), sequence)),
            ..operands.input(sequence).unwrap()
        });
        [output.y_ld.into_dyn(), output.last_dn.into_dyn()]
    });
    let wanted: Vec<_> = wanted.collect();
    let mut bench = ScanBench::new(gpu, &operands, operand, 0).unwrap();
    for kernel in kernels {
        if *kernel == ScanKernel::V5 && !takes_v5(&bench, operand) {
            continue;
        }
        let found = match is_in_place {
            true => bench.results_in_place(*kernel, initial.as_slice().unwrap()),
            false => bench.results(*kernel),
        };
        let found = found.unwrap();
        for (part, tolerance) in [of_y, 1e-5].into_iter().enumerate() {
            let len = wanted[0][part].len();
            assert_eq!(found[part].len(), shape.batch * len);
            for (found, wanted) in found[part].chunks(len).zip(&wanted) {
                let what = format!("{}, {operand:?}, {shape:?}, {is_in_place}", kernel.name());
                let found = found.iter().copied();
                let tolerance = Tolerance::OfLargest(tolerance);
                assert_close(&what, found, &wanted[part], tolerance);
            }
        }
    }
}

/// Whether a bench of a shape that v5 takes takes it: not in bf16, and not where blocks have too little shared memory.
fn takes_v5(bench: &ScanBench, operand: Operand) -> bool {
    let Some(refused) = bench.refusal(ScanKernel::V5) else {
        return true;
    };
    let said = refused.to_string();
    let is_small = said.contains("KiB of shared memory");
    assert!(is_small || operand == Operand::Bf16, "{said}");
    false
}

/// What is timed is right: several sequences at once, in both number formats.
#[test]
#[ignore = "needs an NVIDIA GPU"]
fn measured_scans_follow_double_precision() {
    let gpu = CudaBackend::default().gpu().unwrap();
    for (channels, groups) in [(24, 1), (96, 3)] {
        let shape = shape(3, channels, 700, groups);
        for operand in [Operand::F32, Operand::Bf16] {
            for is_in_place in [false, true] {
                let operands = ScanOperands::seeded(shape, 2);
                check_measured(&gpu, operands, operand, &ScanKernel::ALL, is_in_place);
            }
        }
    }
}

/// More than a grid counts to, by every rung that takes any number: v5 does not.
#[test]
#[ignore = "needs an NVIDIA GPU"]
fn more_sequences_than_a_launch_takes_follow_double_precision() {
    let gpu = CudaBackend::default().gpu().unwrap();
    let rungs = [
        ScanKernel::V1,
        ScanKernel::V2,
        ScanKernel::V3,
        ScanKernel::V4,
    ];
    for operand in [Operand::F32, Operand::Bf16] {
        for is_in_place in [false, true] {
            let operands = ScanOperands::seeded(shape(65_537, 8, 3, 1), 2);
            check_measured(&gpu, operands, operand, &rungs, is_in_place);
        }
    }
    // Cut into segments too, what is carried between them lying where the first sequences had it.
    let operands = ScanOperands::seeded(shape(65_537, 4, 16, 1), 2);
    let of = |kernel, segments| {
        let bench = ScanBench::new(&gpu, &operands, Operand::F32, segments).unwrap();
        bench.results(kernel).unwrap()
    };
    for (found, wanted) in of(ScanKernel::V3, 2).into_iter().zip(of(ScanKernel::V1, 1)) {
        let wanted: Array1<f64> = wanted.into_iter().map(f64::from).collect();
        let tolerance = Tolerance::OfLargest(1e-5);
        assert_close(
            "v3 in two segments, v1",
            found,
            &wanted.into_dyn(),
            tolerance,
        );
    }
}

/// v4 in blocks of two warps and of three, as is quicker on 132 multiprocessors, alone on one and two beside each other; channels
/// that fill the last block and that do not; texts shorter than a chunk, of whole chunks, and of neither.
#[test]
#[ignore = "needs an NVIDIA GPU"]
fn slots_across_lanes_follow_double_precision() {
    let gpu = CudaBackend::default().gpu().unwrap();
    for shape in [
        shape(1, 8, 1031, 1),
        shape(2, 20, 1, 1),
        shape(60, 20, 97, 1),
        shape(2, 36, 1031, 1),
        shape(40, 36, 64, 1),
        shape(3, 96, 33, 3),
        shape(12, 96, 200, 3),
        shape(60, 20, 1, 1),
        shape(1, 1540, 97, 1),
        shape(1, 1536, 300, 1),
        shape(1, 24, 9000, 1),
        // More blocks than multiprocessors.
        shape(1, 2048, 97, 1),
        shape(2, 1540, 97, 1),
        shape(3, 1536, 33, 3),
    ] {
        for operand in [Operand::F32, Operand::Bf16] {
            for is_in_place in [false, true] {
                let operands = ScanOperands::seeded(shape, 2);
                check_measured(&gpu, operands, operand, &[ScanKernel::V4], is_in_place);
            }
        }
    }
}

/// v5 in all its forms on 132 multiprocessors: blocks of one sequence and of many, texts that fill the last segment and that do
/// not, channels that fill the last block and that do not, and more blocks than multiprocessors.
#[test]
#[ignore = "needs an NVIDIA GPU"]
fn one_launch_for_all_segments_follows_double_precision() {
    let gpu = CudaBackend::default().gpu().unwrap();
    let v5 = [ScanKernel::V5];
    for shape in [
        shape(1, 16, 65_536, 1),
        shape(1, 16, 9001, 1),
        shape(1, 16, 33, 1),
        shape(1, 16, 1, 1),
        shape(1, 4, 5000, 1),
        shape(3, 40, 1000, 2),
        shape(3, 96, 700, 3),
        shape(40, 64, 300, 1),
        shape(1, 1536, 300, 1),
        // Longer than a block keeps, in tiles of 16 channels and of 32.
        shape(8, 16, 9000, 1),
        shape(10, 20, 7001, 1),
        shape(1, 36, 30_001, 1),
        shape(2, 160, 9001, 2),
    ] {
        for is_in_place in [false, true] {
            let operands = ScanOperands::seeded(shape, 2);
            check_measured(&gpu, operands, Operand::F32, &v5, is_in_place);
        }
    }
    // Steps so small that what a segment leaves is kept through many.
    for tokens in [1000, 9001, 65_536] {
        let mut operands = ScanOperands::seeded(shape(1, 16, tokens, 1), 2);
        for bias in &mut operands.delta_bias_d {
            *bias -= 3.0;
        }
        check_measured(&gpu, operands, Operand::F32, &v5, false);
    }
}

/// Launch after launch at one place to meet gives the same bits.
#[test]
#[ignore = "needs an NVIDIA GPU"]
fn blocks_meet_again_and_again() {
    let gpu = CudaBackend::default().gpu().unwrap();
    for shape in [shape(1, 16, 9001, 1), shape(2, 64, 20_000, 2)] {
        let operands = ScanOperands::seeded(shape, 3);
        let bench = ScanBench::new(&gpu, &operands, Operand::F32, 0).unwrap();
        if !takes_v5(&bench, Operand::F32) {
            return;
        }
        let first = bench.results(ScanKernel::V5).unwrap();
        bench.time(ScanKernel::V5, 200).unwrap();
        assert!(bench.results(ScanKernel::V5).unwrap() == first, "{shape:?}");
    }
}

/// Asked for alone they say that they do not take a shape; asked for by a backend v3 takes their place.
#[test]
#[ignore = "needs an NVIDIA GPU"]
fn shapes_that_v4_or_v5_does_not_take() {
    let mut backend = CudaBackend::default();
    let gpu = backend.gpu().unwrap();
    let of_eight = ScanShape {
        slots: 8,
        ..shape(1, 24, 100, 1)
    };
    for (kernel, shapes) in [
        (
            ScanKernel::V4,
            [of_eight, shape(1, 26, 100, 1), shape(1, 24, 100, 6)],
        ),
        (
            ScanKernel::V5,
            [of_eight, shape(1, 26, 100, 1), shape(1, 24, 100, 12)],
        ),
    ] {
        backend.scan_kernel = kernel;
        for shape in shapes {
            let operands = ScanOperands::seeded(shape, 4);
            let bench = ScanBench::new(&gpu, &operands, Operand::F32, 0).unwrap();
            let refused = bench.results(kernel).unwrap_err().to_string();
            let parts = [kernel.name(), "choose v3"];
            assert!(parts.iter().all(|part| refused.contains(part)), "{refused}");
            assert!(bench.refusal(kernel).is_some());
            assert!(bench.refusal(ScanKernel::V3).is_none());
            let input = operands.input(0).unwrap();
            let (found, wanted) = (backend.scan(&input).unwrap(), in_double(&input));
            let wanted = wanted.y_ld.into_dyn();
            assert_close("v3", found.y_ld, &wanted, Tolerance::OfLargest(1e-5));
        }
    }
    let operands = ScanOperands::seeded(shape(1, 24, 100, 1), 4);
    let bench = ScanBench::new(&gpu, &operands, Operand::Bf16, 0).unwrap();
    assert!(bench.refusal(ScanKernel::V5).is_some(), "bf16");
    assert!(bench.refusal(ScanKernel::V4).is_none());
}

/// The states of some channels in the middle, after every token.
#[test]
#[ignore = "needs an NVIDIA GPU"]
fn states_of_chosen_channels_are_recorded() {
    let operands = ScanOperands::seeded(shape(1, 40, 90, 2), 3);
    let input = operands.input(0).unwrap();
    let watched = 17..22;
    let mut wanted = Vec::new();
    let keep = watched.clone();
    sequential(&input, |_, h_dn| {
        let rows = h_dn.slice(s![keep.clone(), ..]);
        wanted.extend(rows.iter().copied().map(f64::from));
    })
    .unwrap();
    let wanted = ArrayD::from_shape_vec(vec![90, 5, 16], wanted).unwrap();
    let mut backend = CudaBackend::default();
    for kernel in ScanKernel::ALL {
        backend.scan_kernel = kernel;
        let (output, states) = backend.scan_watched(&input, watched.clone()).unwrap();
        assert_close(kernel.name(), states, &wanted, Tolerance::OfLargest(1e-5));
        let y = in_double(&input).y_ld.into_dyn();
        assert_close(kernel.name(), output.y_ld, &y, Tolerance::OfLargest(1e-5));
    }
    let refused = backend.scan_watched(&input, 38..41).unwrap_err();
    assert!(refused.to_string().contains("40 channels"), "{refused}");
}

/// What the device goes on from at the borders of its segments, in the shape the lean kernels take and in another.
#[test]
#[ignore = "needs an NVIDIA GPU"]
fn a_segment_begins_with_the_state_before_it() {
    for (channels, slots) in [(1536, 16), (40, 8)] {
        let sizes = ScanShape {
            slots,
            ..shape(1, channels, 900, 1)
        };
        let operands = ScanOperands::seeded(sizes, 5);
        let input = operands.input(0).unwrap();
        let mut backend = CudaBackend::default();
        let starts = backend.scan_segments(&input).unwrap().unwrap();
        let segments = starts.h_sdn.dim().0;
        assert!(segments > 1 && segments == 900usize.div_ceil(starts.segment));
        // Before the first there is none.
        let mut wanted = vec![0.0f64; channels * slots];
        sequential(&input, |l, h_dn| {
            if (l + 1) % starts.segment == 0 && l + 1 < 900 {
                wanted.extend(h_dn.iter().copied().map(f64::from));
            }
        })
        .unwrap();
        let wanted = ArrayD::from_shape_vec(vec![segments, channels, slots], wanted).unwrap();
        assert_close("starts", starts.h_sdn, &wanted, Tolerance::OfLargest(1e-5));
    }
}
