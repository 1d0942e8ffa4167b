//! The scan as a tree. A token does the affine map h ← a·h + b to a slot; the maps of two runs of tokens make one map again, so
//! the maps can be put together in any grouping, only not in another order.
//!
//! ```text
//! (a₂, b₂) after (a₁, b₁) = (a₂·a₁, a₂·b₁ + b₂)
//! ```
//!
//! The scans here count what they do, and take any way to put two values together, so that a page can show what a wrong one gives.

use ndarray::Array2;

use super::{Real, ScanError, ScanInput, ScanOutput, silu, softplus};

/// What some tokens do to a slot: h ← a·h + b.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Affine<T> {
    /// What is kept of the slot: the product of the tokens' Ā.
    pub a: T,
    /// What is added to it.
    pub b: T,
}

impl<T: Real> Affine<T> {
    /// Leaves the slot as it is.
    pub fn identity() -> Self {
        Self {
            a: T::one(),
            b: T::zero(),
        }
    }

    /// First `earlier`, then `later`, as one map. Associative, and not commutative.
    #[inline]
    pub fn compose(earlier: Self, later: Self) -> Self {
        Self {
            a: later.a * earlier.a,
            b: later.a * earlier.b + later.b,
        }
    }

    /// The slot afterwards.
    #[inline]
    pub fn apply(self, h: T) -> T {
        self.a * h + self.b
    }
}

/// What a scan took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Pairs put together, in all.
    pub combines: u64,
    /// Combines on the longest chain of which each waits for the one before: the time it takes with no end of processors.
    pub depth: u64,
}

impl Cost {
    /// One round of independent combines.
    pub(super) fn round(&mut self, combines: usize) {
        self.combines += combines as u64;
        self.depth += u64::from(combines > 0);
    }
}

/// In which tree a scan is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tree {
    /// One after the other: L − 1 combines, each waiting for the last.
    Loop,
    /// Hillis and Steele: everyone reaches back 1, 2, 4, … places. The fewest rounds, L·log₂ L combines.
    HillisSteele,
    /// Blelloch: totals up a tree, prefixes down it. Twice the rounds, 2·L combines.
    Blelloch,
}

impl Tree {
    /// Every prefix of `steps`, the place itself included; `combine` takes the earlier, then the later.
    pub fn scan<P: Copy>(
        self,
        steps: &[P],
        identity: P,
        combine: impl Fn(P, P) -> P,
    ) -> (Vec<P>, Cost) {
        match self {
            Tree::Loop => in_a_loop(steps, combine),
            Tree::HillisSteele => hillis_steele(steps, combine),
            Tree::Blelloch => blelloch(steps, identity, combine),
        }
    }
}

fn in_a_loop<P: Copy>(steps: &[P], combine: impl Fn(P, P) -> P) -> (Vec<P>, Cost) {
    let mut prefixes = steps.to_vec();
    let mut cost = Cost::default();
    for i in 1..prefixes.len() {
        prefixes[i] = combine(prefixes[i - 1], prefixes[i]);
        cost.round(1);
    }
    (prefixes, cost)
}

fn hillis_steele<P: Copy>(steps: &[P], combine: impl Fn(P, P) -> P) -> (Vec<P>, Cost) {
    let mut prefixes = steps.to_vec();
    let mut cost = Cost::default();
    let mut distance = 1;
    while distance < prefixes.len() {
        // From the right, so that what is read is still that of the round before.
        for i in (distance..prefixes.len()).rev() {
            prefixes[i] = combine(prefixes[i - distance], prefixes[i]);
        }
        cost.round(prefixes.len() - distance);
        distance *= 2;
    }
    (prefixes, cost)
}

/// Lengths that are no power of two are filled up with the identity, whose combines count.
fn blelloch<P: Copy>(steps: &[P], identity: P, combine: impl Fn(P, P) -> P) -> (Vec<P>, Cost) {
    let mut cost = Cost::default();
    if steps.is_empty() {
        return (Vec::new(), cost);
    }
    let size = steps.len().next_power_of_two();
    let mut tree = steps.to_vec();
    tree.resize(size, identity);
    let mut half = 1;
    while half < size {
        for right in (2 * half - 1..size).step_by(2 * half) {
            tree[right] = combine(tree[right - half], tree[right]);
        }
        cost.round(size / (2 * half));
        half *= 2;
    }
    // Down: a node hands what comes before it to its left child, and that with the left child's total to its right.
    let total = std::mem::replace(&mut tree[size - 1], identity);
    while half > 1 {
        half /= 2;
        for right in (2 * half - 1..size).step_by(2 * half) {
            let before = tree[right];
            tree[right] = combine(before, tree[right - half]);
            tree[right - half] = before;
        }
        cost.round(size / (2 * half));
    }
    // What comes before a place is the prefix of its neighbour; the last place of a full tree has the total.
    tree.push(total);
    (tree[1..=steps.len()].to_vec(), cost)
}

impl<T: Real> ScanInput<'_, T> {
    /// Δ of token `l`, channel `d`.
    pub fn delta(&self, l: usize, d: usize) -> T {
        let mut delta = self.delta_ld[[l, d]];
        if let Some(bias_d) = &self.delta_bias_d {
            delta += bias_d[d];
        }
        if self.delta_softplus {
            softplus(delta)
        } else {
            delta
        }
    }

    /// What each token does to slot `n` of channel `d`, `[l]`.
    pub fn steps(&self, d: usize, n: usize) -> Vec<Affine<T>> {
        let (tokens, d_inner, _) = self.dims();
        let step = |l: usize| {
            let delta = self.delta(l, d);
            Affine {
                a: (delta * self.a_dn[[d, n]]).exp(),
                b: delta * self.b.at(l, d, d_inner, n) * self.u_ld[[l, d]],
            }
        };
        (0..tokens).map(step).collect()
    }

    /// Runs `scan` over the steps of every channel and slot, and reads y. The cost is that of one channel and slot.
    pub(super) fn by_slots(
        &self,
        mut scan: impl FnMut(&[Affine<T>]) -> (Vec<Affine<T>>, Cost),
    ) -> Result<(ScanOutput<T>, Cost), ScanError> {
        self.validate()?;
        let (tokens, d_inner, d_state) = self.dims();
        let mut y_ld = Array2::zeros((tokens, d_inner));
        let mut last_dn = Array2::zeros((d_inner, d_state));
        let mut cost = Cost::default();
        for d in 0..d_inner {
            for n in 0..d_state {
                let before = self.initial_dn.map_or(T::zero(), |h_dn| h_dn[[d, n]]);
                last_dn[[d, n]] = before;
                let prefixes;
                (prefixes, cost) = scan(&self.steps(d, n));
                for (l, prefix) in prefixes.into_iter().enumerate() {
                    let h = prefix.apply(before);
                    y_ld[[l, d]] += self.c.at(l, d, d_inner, n) * h;
                    last_dn[[d, n]] = h;
                }
            }
            for l in 0..tokens {
                if let Some(skip_d) = &self.d_skip_d {
                    y_ld[[l, d]] += skip_d[d] * self.u_ld[[l, d]];
                }
                if let Some(z_ld) = &self.z_ld {
                    y_ld[[l, d]] = y_ld[[l, d]] * silu(z_ld[[l, d]]);
                }
            }
        }
        Ok((ScanOutput { y_ld, last_dn }, cost))
    }
}

/// The scan of [`super`] by a tree; the cost is that of one channel and slot.
///
/// # Errors
/// When an operand's shape does not fit.
pub fn associative<T: Real>(
    input: &ScanInput<'_, T>,
    tree: Tree,
) -> Result<(ScanOutput<T>, Cost), ScanError> {
    input.by_slots(|steps| tree.scan(steps, Affine::identity(), Affine::compose))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::noise::Noise;
    use crate::scan::{Projection, ScanOperands, ScanShape, sequential};
    use ndarray::{Array, Dimension};

    /// Operands of odd sizes, with a state to begin from, in f32 and f64: compares a scan with the loop.
    pub(in super::super) fn agrees_with_the_loop(
        single: &dyn Fn(&ScanInput<'_, f32>) -> ScanOutput<f32>,
        double: &dyn Fn(&ScanInput<'_, f64>) -> ScanOutput<f64>,
    ) {
        for (tokens, channels, slots) in [(1, 1, 1), (2, 3, 1), (7, 2, 4), (97, 1, 1), (333, 2, 3)]
        {
            let shape = ScanShape {
                batch: 1,
                channels,
                tokens,
                slots,
                groups: 1,
            };
            let operands = ScanOperands::seeded(shape, 7);
            let plain = operands.input(0).unwrap();
            let noise = Noise::new(7, "initial");
            let h_dn =
                Array2::from_shape_fn((channels, slots), |(d, n)| noise.normal(d * slots + n));
            let started = ScanInput {
                initial_dn: Some(h_dn.view()),
                ..plain
            };
            for input in [plain, started] {
                let wanted = sequential(&input, |_, _| {}).unwrap();
                close(&single(&input), &wanted, 1e-5);
                in_double(&input, |input| {
                    let wanted = sequential(input, |_, _| {}).unwrap();
                    close(&double(input), &wanted, 1e-12);
                });
            }
        }
    }

    fn in_double(input: &ScanInput<'_, f32>, run: impl FnOnce(&ScanInput<'_, f64>)) {
        fn wide<D: Dimension>(values: ndarray::ArrayView<'_, f32, D>) -> Array<f64, D> {
            values.mapv(f64::from)
        }
        let of = |projection: &Projection<'_, f32>| match projection {
            Projection::Selective(lgn) => wide(*lgn),
            Projection::Constant(_) => panic!("these operands are selective"),
        };
        let (u_ld, delta_ld, a_dn) = (wide(input.u_ld), wide(input.delta_ld), wide(input.a_dn));
        let (b_lgn, c_lgn) = (of(&input.b), of(&input.c));
        let (bias_d, skip_d) = (input.delta_bias_d.map(wide), input.d_skip_d.map(wide));
        let (z_ld, initial_dn) = (input.z_ld.map(wide), input.initial_dn.map(wide));
        run(&ScanInput {
            u_ld: u_ld.view(),
            delta_ld: delta_ld.view(),
            delta_bias_d: bias_d.as_ref().map(|v| v.view()),
            delta_softplus: true,
            a_dn: a_dn.view(),
            b: Projection::Selective(b_lgn.view()),
            c: Projection::Selective(c_lgn.view()),
            d_skip_d: skip_d.as_ref().map(|v| v.view()),
            z_ld: z_ld.as_ref().map(|v| v.view()),
            initial_dn: initial_dn.as_ref().map(|v| v.view()),
        });
    }

    fn close<T: Real>(found: &ScanOutput<T>, wanted: &ScanOutput<T>, tolerance: f64) {
        let pairs = found.y_ld.iter().zip(&wanted.y_ld);
        for (found, wanted) in pairs.chain(found.last_dn.iter().zip(&wanted.last_dn)) {
            let difference = (*found - *wanted).abs().to_f64().unwrap();
            let size = wanted.abs().to_f64().unwrap().max(1.0);
            assert!(difference <= tolerance * size, "{found:?} {wanted:?}");
        }
    }

    #[test]
    fn every_tree_gives_what_the_loop_gives() {
        for tree in [Tree::Loop, Tree::HillisSteele, Tree::Blelloch] {
            agrees_with_the_loop(&|input| associative(input, tree).unwrap().0, &|input| {
                associative(input, tree).unwrap().0
            });
        }
    }

    #[test]
    fn order_is_kept_and_costs_are_those_counted_by_hand() {
        let join = |one: (usize, usize), other: (usize, usize)| {
            // Neighbours only: whoever swaps two or leaves one out is found. The identity is (0, 0).
            assert!(one == (0, 0) || other == (0, 0) || one.1 == other.0);
            if one == (0, 0) {
                other
            } else if other == (0, 0) {
                one
            } else {
                (one.0, other.1)
            }
        };
        for length in [0, 1, 2, 5, 8, 13] {
            let steps: Vec<_> = (0..length).map(|i| (i + 1, i + 2)).collect();
            for tree in [Tree::Loop, Tree::HillisSteele, Tree::Blelloch] {
                let (prefixes, _) = tree.scan(&steps, (0, 0), join);
                let wanted: Vec<_> = (0..length).map(|i| (1, i + 2)).collect();
                assert_eq!(prefixes, wanted, "{tree:?} {length}");
            }
        }
        let cost = |tree: Tree| tree.scan(&[0u8; 8], 0, |_, _| 0).1;
        let counted = |combines, depth| Cost { combines, depth };
        assert_eq!(cost(Tree::Loop), counted(7, 7));
        assert_eq!(cost(Tree::HillisSteele), counted(7 + 6 + 4, 3));
        assert_eq!(cost(Tree::Blelloch), counted(7 + 7, 6));
    }
}
