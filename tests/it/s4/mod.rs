//! Discretisation, HiPPO, S4 and S4D: each identity of the theory, to the digit it holds to.

mod discretization;
mod kernels;
mod memory;

use mambascope_core::discretize::Discretization;
use mambascope_core::hippo::Measure;
use mambascope_core::s4::{KernelBy, S4dInit, View};
use ndarray::Array1;
use num_complex::Complex64;

use crate::support::{Tolerance, compare};

/// Largest difference, which may not exceed `tolerance`.
#[track_caller]
fn close<'a>(
    what: &str,
    found: impl IntoIterator<Item = &'a f64>,
    wanted: impl IntoIterator<Item = &'a f64>,
    tolerance: f64,
) -> f64 {
    let found: Vec<f64> = found.into_iter().copied().collect();
    let wanted: Vec<f64> = wanted.into_iter().copied().collect();
    let worst = compare(&found, &wanted, Tolerance::Absolute(tolerance))
        .unwrap_or_else(|why| panic!("{what}: {why}"));
    println!("{what}: {worst:.3e} of {tolerance:.1e}");
    worst
}

/// Pseudo-random numbers of variance one, the same in every run: SplitMix64, and a sum of twelve uniform numbers.
fn noise(seed: u64) -> impl FnMut() -> f64 {
    let mut state = seed;
    let mut uniform = move || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    };
    move || (0..12).map(|_| uniform()).sum::<f64>() - 6.0
}

fn random(seed: u64, length: usize) -> Array1<f64> {
    let mut next = noise(seed);
    Array1::from_shape_simple_fn(length, &mut next)
}

fn random_complex(seed: u64, length: usize) -> Array1<Complex64> {
    let mut next = noise(seed);
    Array1::from_shape_simple_fn(length, || Complex64::new(next(), next()))
}

/// Evenly spaced, both ends included.
fn linspace(from: f64, to: f64, count: usize) -> Vec<f64> {
    Array1::linspace(from, to, count).to_vec()
}

#[test]
fn every_choice_has_its_own_name_and_text() {
    let rules = Discretization::ALL.map(|r| [r.name(), r.title(), r.formula(), r.used_by()]);
    let texts: [(&str, Vec<[&str; 3]>); 5] = [
        (
            "rules",
            rules
                .map(|[name, title, formula, _]| [name, title, formula])
                .to_vec(),
        ),
        (
            "measures",
            Measure::ALL
                .map(|m| [m.name(), m.title(), m.formula()])
                .to_vec(),
        ),
        (
            "inits",
            S4dInit::ALL
                .map(|i| [i.name(), i.title(), i.formula()])
                .to_vec(),
        ),
        (
            "views",
            View::ALL
                .map(|v| [v.name(), v.title(), v.formula()])
                .to_vec(),
        ),
        (
            "kernels",
            KernelBy::ALL
                .map(|k| [k.name(), k.title(), k.formula()])
                .to_vec(),
        ),
    ];
    assert!(rules.iter().all(|[.., user]| !user.is_empty()));
    for (menu, rows) in texts {
        for column in 0..3 {
            let mut entries: Vec<_> = rows.iter().map(|row| row[column]).collect();
            entries.sort_unstable();
            entries.dedup();
            assert_eq!(entries.len(), rows.len(), "{menu} column {column}");
            assert!(entries.iter().all(|text| !text.is_empty()));
        }
    }
}
