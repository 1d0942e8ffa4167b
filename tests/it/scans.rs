//! The selective scan alone, against plain loops in float64: every fixture, every backend.

use mambascope_core::backend::{Backend, FastBackend, NaiveBackend};
use mambascope_core::scan::{
    Projection, Real, ScanInput, ScanOperands, ScanOutput, ScanShape, sequential,
};
use ndarray::{Array1, Array2, Array3, ArrayD, ArrayView1, ArrayView2, Axis, Ix1, Ix2, Ix3};

use crate::parity::{cube, matrix, noise};
use crate::support::{
    Arrays, Backends, Tolerance, assert_close, compare, fixture, on_every_backend,
};

on_every_backend!(
    single_precision_on_every_backend,
    operands_that_do_not_fit_are_named,
    sizes_at_the_edges,
);

/// One sequence of a fixture's batch, token-major, in the number type of the test.
struct Sequence<T> {
    u: Array2<T>,
    delta: Array2<T>,
    delta_bias: Option<Array1<T>>,
    softplus: bool,
    a: Array2<T>,
    b: Matrix<T>,
    c: Matrix<T>,
    d_skip: Option<Array1<T>>,
    z: Option<Array2<T>>,
    initial: Option<Array2<T>>,
}

enum Matrix<T> {
    Selective(Array3<T>),
    Constant(Array2<T>),
}

impl<T: Real> Matrix<T> {
    /// From `[n, l]`, `[g, n, l]`, or `[d, n]` without a batch axis.
    fn new(array: &ArrayD<f64>, batch: usize) -> Self {
        let cast = |x: f64| T::from(x).unwrap();
        if array.ndim() == 2 {
            return Matrix::Constant(array.mapv(cast).into_dimensionality::<Ix2>().unwrap());
        }
        let one = array.index_axis(Axis(0), batch).mapv(cast);
        let gnl = if one.ndim() == 2 {
            one.insert_axis(Axis(0))
        } else {
            one
        };
        let gnl = gnl.into_dimensionality::<Ix3>().unwrap();
        Matrix::Selective(
            gnl.permuted_axes([2, 0, 1])
                .as_standard_layout()
                .into_owned(),
        )
    }

    fn projection(&self) -> Projection<'_, T> {
        match self {
            Matrix::Selective(lgn) => Projection::Selective(lgn.view()),
            Matrix::Constant(dn) => Projection::Constant(dn.view()),
        }
    }
}

impl<T: Real> Sequence<T> {
    fn new(file: &Arrays, batch: usize) -> Self {
        let cast = |x: f64| T::from(x).unwrap();
        let matrix = |name: &str| {
            file.get(name)
                .index_axis(Axis(0), batch)
                .mapv(cast)
                .into_dimensionality::<Ix2>()
                .unwrap()
        };
        let tokens_first = |name: &str| {
            matrix(name)
                .reversed_axes()
                .as_standard_layout()
                .into_owned()
        };
        let vector = |name: &str| {
            file.values
                .get(name)
                .map(|v| v.mapv(cast).into_dimensionality::<Ix1>().unwrap())
        };
        Self {
            u: tokens_first("u"),
            delta: tokens_first("delta"),
            delta_bias: vector("delta_bias"),
            softplus: file.metadata["delta_softplus"] == "1",
            a: file
                .get("A")
                .mapv(cast)
                .into_dimensionality::<Ix2>()
                .unwrap(),
            b: Matrix::new(file.get("B"), batch),
            c: Matrix::new(file.get("C"), batch),
            d_skip: vector("D"),
            z: file.values.contains_key("z").then(|| tokens_first("z")),
            initial: file
                .values
                .contains_key("initial_state")
                .then(|| matrix("initial_state")),
        }
    }

    fn input(&self) -> ScanInput<'_, T> {
        ScanInput {
            u_ld: self.u.view(),
            delta_ld: self.delta.view(),
            delta_bias_d: self.delta_bias.as_ref().map(|v| v.view()),
            delta_softplus: self.softplus,
            a_dn: self.a.view(),
            b: self.b.projection(),
            c: self.c.projection(),
            d_skip_d: self.d_skip.as_ref().map(|v| v.view()),
            z_ld: self.z.as_ref().map(|v| v.view()),
            initial_dn: self.initial.as_ref().map(|v| v.view()),
        }
    }
}

/// The recurrence over single-precision operands, every value of it in double precision.
pub fn in_double(input: &ScanInput<'_, f32>) -> ScanOutput<f64> {
    let matrix = |values: ArrayView2<'_, f32>| values.mapv(f64::from);
    let vector = |values: ArrayView1<'_, f32>| values.mapv(f64::from);
    let projection = |of: &Projection<'_, f32>| match of {
        Projection::Selective(lgn) => Matrix::Selective(lgn.mapv(f64::from)),
        Projection::Constant(dn) => Matrix::Constant(dn.mapv(f64::from)),
    };
    let sequence = Sequence {
        u: matrix(input.u_ld),
        delta: matrix(input.delta_ld),
        delta_bias: input.delta_bias_d.map(vector),
        softplus: input.delta_softplus,
        a: matrix(input.a_dn),
        b: projection(&input.b),
        c: projection(&input.c),
        d_skip: input.d_skip_d.map(vector),
        z: input.z_ld.map(matrix),
        initial: input.initial_dn.map(matrix),
    };
    sequential(&sequence.input(), |_, _| ()).unwrap()
}

/// Every fixture's name, file, and number of sequences.
fn fixtures() -> Vec<(String, Arrays, usize)> {
    let mut names: Vec<_> = std::fs::read_dir(fixture("scan"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    names.retain(|path| {
        path.file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with("s6_")
    });
    names.sort();
    assert_eq!(names.len(), 10, "all scan fixtures are there");
    let open = |path: std::path::PathBuf| {
        let file = Arrays::read(path.clone());
        let batch = file.get("u").len_of(Axis(0));
        (
            path.file_stem().unwrap().to_str().unwrap().to_owned(),
            file,
            batch,
        )
    };
    names.into_iter().map(open).collect()
}

/// Expected y `[l, d]` and last state `[d, n]` of one sequence.
fn wanted(file: &Arrays, batch: usize) -> (ArrayD<f64>, ArrayD<f64>) {
    let y = file
        .get("y")
        .index_axis(Axis(0), batch)
        .reversed_axes()
        .as_standard_layout()
        .into_owned();
    (
        y,
        file.get("last_state").index_axis(Axis(0), batch).to_owned(),
    )
}

fn single_precision_on_every_backend(backends: Backends) {
    for (name, file, batches) in fixtures() {
        for batch in 0..batches {
            let sequence = Sequence::<f32>::new(&file, batch);
            let (y, last) = wanted(&file, batch);
            for mut backend in backends() {
                let what = format!("{name}[{batch}] on {}", backend.name());
                let output = backend.scan(&sequence.input()).unwrap();
                assert_close(&what, output.y_ld, &y, Tolerance::OfLargest(1e-5));
                assert_close(&what, output.last_dn, &last, Tolerance::OfLargest(1e-5));
            }
        }
    }
}

#[test]
fn double_precision_of_the_reference() {
    for (name, file, batches) in fixtures() {
        for batch in 0..batches {
            let output =
                sequential(&Sequence::<f64>::new(&file, batch).input(), |_, _| ()).unwrap();
            let (y, last) = wanted(&file, batch);
            // Two files hold y as f32: what rounding to it may change is allowed on top.
            let y_tolerance =
                if ["s6_1x64x1000x16", "s6_long_1x16x4096x16"].contains(&name.as_str()) {
                    6e-8
                } else {
                    1e-11
                };
            for (found, wanted, tolerance) in
                [(output.y_ld, y, y_tolerance), (output.last_dn, last, 1e-11)]
            {
                let (found, wanted): (Vec<f64>, Vec<f64>) =
                    (found.into_iter().collect(), wanted.into_iter().collect());
                compare(&found, &wanted, Tolerance::OfLargest(tolerance))
                    .unwrap_or_else(|why| panic!("{name}: {why}"));
            }
        }
    }
}

fn operands_that_do_not_fit_are_named(backends: Backends) {
    let (_, file, _) = fixtures().swap_remove(0);
    let mut sequence = Sequence::<f32>::new(&file, 0);
    sequence.d_skip = Some(Array1::zeros(7));
    for mut backend in backends() {
        let error = backend.scan(&sequence.input()).unwrap_err().to_string();
        assert!(
            error.contains("operand D") && error.contains("[7]"),
            "{error}"
        );
    }
}

/// One, primes, a slot more than fits a register file, few channels and many tokens: against the loop in double precision.
fn sizes_at_the_edges(backends: Backends) {
    // tokens, channels, slots, groups of B, groups of C
    let sizes = [
        [1, 1, 1, 1, 1],
        [1, 33, 16, 1, 1],
        [257, 1, 16, 1, 1],
        [131, 3, 5, 3, 1],
        [97, 40, 17, 2, 4],
        [61, 6, 256, 1, 2],
        [1009, 16, 16, 1, 1],
        [300, 70, 64, 1, 1],
        [40, 130, 3, 2, 2],
        [6, 4, 0, 1, 1],
    ];
    for (seed, size) in (0u64..).zip(sizes) {
        let [tokens, channels, slots, b_groups, c_groups] = size;
        let has = |bit: u64| (seed >> bit) & 1 == 0;
        let vector = |salt, count| Array1::from_vec(noise(seed * 31 + salt, count));
        let matrix = |salt, rows, columns| matrix(seed * 31 + salt, rows, columns);
        let three = |salt, groups| cube(seed * 31 + salt, [tokens, groups, slots]);
        let sequence = Sequence::<f32> {
            u: matrix(1, tokens, channels),
            delta: matrix(2, tokens, channels).mapv(|x| 3.0 * x - 2.0),
            delta_bias: has(0).then(|| vector(3, channels)),
            softplus: true,
            a: matrix(4, channels, slots).mapv(|x| -4.0 * x.abs()),
            b: Matrix::Selective(three(5, b_groups)),
            c: Matrix::Selective(three(6, c_groups)),
            d_skip: has(1).then(|| vector(7, channels)),
            z: has(2).then(|| matrix(8, tokens, channels)),
            initial: has(0).then(|| matrix(9, channels, slots)),
        };
        let wanted = in_double(&sequence.input());
        for (i, mut backend) in backends().into_iter().enumerate() {
            let what = format!("{size:?} on {} ({i})", backend.name());
            let found = backend.scan(&sequence.input()).unwrap();
            for (found, wanted) in [(found.y_ld, &wanted.y_ld), (found.last_dn, &wanted.last_dn)] {
                assert_close(
                    &what,
                    found,
                    &wanted.clone().into_dyn(),
                    Tolerance::OfLargest(1e-5),
                );
            }
        }
    }
}

#[test]
fn operands_of_a_measurement_are_a_layers() {
    let shape = ScanShape {
        batch: 2,
        channels: 12,
        tokens: 9,
        slots: 5,
        groups: 3,
    };
    let operands = ScanOperands::seeded(shape, 1);
    assert_eq!(operands, ScanOperands::seeded(shape, 1));
    assert_ne!(operands, ScanOperands::seeded(shape, 2));
    let mut last = Vec::new();
    for sequence in 0..2 {
        let input = operands.input(sequence).unwrap();
        assert!(input.delta_softplus && input.z_ld.is_some() && input.d_skip_d.is_some());
        let plain = NaiveBackend::default().scan(&input).unwrap();
        let quick = FastBackend::new(2).unwrap().scan(&input).unwrap();
        assert!(plain.y_ld.iter().all(|y| y.is_finite() && y.abs() < 100.0));
        let difference = &plain.y_ld - &quick.y_ld;
        assert!(difference.iter().all(|d| d.abs() < 1e-5));
        last.push(plain.last_dn);
    }
    assert_ne!(last[0], last[1], "sequences differ");
    let error = operands.input(2).unwrap_err().to_string();
    assert!(
        error.contains("operand u") && error.contains("3 times"),
        "{error}"
    );
    let undivided = ScanShape { groups: 5, ..shape };
    let operands = ScanOperands::seeded(undivided, 1);
    let refused = NaiveBackend::default().scan(&operands.input(0).unwrap());
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .contains("groups that divide 12")
    );
}
