//! exp and what is built on it, many lanes at a time; instructions are chosen when the program runs.

use std::marker::PhantomData;

use pulp::{Arch, Simd, WithSimd};

use super::matmul::Rows;

/// e^x lane by lane, relative error about 1e-7.
///
/// x = n·ln 2 + r with |r| ≤ ln 2 / 2; e^r by a polynomial of degree 7 (Cephes' coefficients), times 2^n put straight into the
/// exponent bits. Below −87.3 the result stays at the smallest normal number instead of reaching 0.
#[inline(always)]
pub(super) fn exp<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    const COEFFICIENTS: [f32; 6] = [
        1.987_569_2e-4,
        1.398_199_9e-3,
        8.333_452e-3,
        4.166_579_6e-2,
        1.666_666_5e-1,
        0.5,
    ];
    // Adding 1.5 · 2^23 rounds to an integer and leaves it in the low bits.
    let magic = simd.splat_f32s(12_582_912.0);
    let x = simd.max_f32s(
        simd.splat_f32s(-87.3),
        simd.min_f32s(simd.splat_f32s(88.3), x),
    );
    let shifted = simd.mul_add_e_f32s(x, simd.splat_f32s(std::f32::consts::LOG2_E), magic);
    let n = simd.sub_f32s(shifted, magic);
    // ln 2 in two parts: the first is exact in few bits, so that n times it is exact too.
    let r = simd.mul_add_e_f32s(n, simd.splat_f32s(-0.693_359_4), x);
    let r = simd.mul_add_e_f32s(n, simd.splat_f32s(2.121_944_4e-4), r);
    let mut p = simd.splat_f32s(COEFFICIENTS[0]);
    for coefficient in &COEFFICIENTS[1..] {
        p = simd.mul_add_e_f32s(p, r, simd.splat_f32s(*coefficient));
    }
    let p = simd.mul_add_e_f32s(
        simd.mul_f32s(p, r),
        r,
        simd.add_f32s(r, simd.splat_f32s(1.0)),
    );
    let exponent =
        simd.wrapping_dyn_shl_u32s(simd.transmute_u32s_f32s(shifted), simd.splat_u32s(23));
    simd.transmute_f32s_u32s(simd.add_u32s(simd.transmute_u32s_f32s(p), exponent))
}

/// A function of one number, as the vector code writes it.
trait Function {
    fn of<S: Simd>(simd: S, x: S::f32s) -> S::f32s;
}

struct Silu;

impl Function for Silu {
    #[inline(always)]
    fn of<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
        silu(simd, x)
    }
}

struct Softplus;

impl Function for Softplus {
    #[inline(always)]
    fn of<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
        softplus(simd, x)
    }
}

/// x ← f(x), element by element.
fn apply<F: Function>(values: &mut [f32]) {
    struct Op<'a, F>(&'a mut [f32], PhantomData<F>);
    impl<F: Function> WithSimd for Op<'_, F> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let (vectors, tail) = S::as_mut_simd_f32s(self.0);
            for x in vectors {
                *x = F::of(simd, *x);
            }
            let last = simd.partial_load_f32s(tail);
            simd.partial_store_f32s(tail, F::of(simd, last));
        }
    }
    Arch::new().dispatch(Op(values, PhantomData::<F>));
}

/// x ← x · sigmoid(x).
pub(super) fn silu_in_place(values: &mut [f32]) {
    apply::<Silu>(values);
}

/// Δ = softplus of each element.
pub(super) fn activate_delta(values: &mut [f32]) {
    apply::<Softplus>(values);
}

/// y ← y · z · sigmoid(z), element by element.
pub(super) fn gate(y: &mut [f32], z: &[f32]) {
    struct Op<'a>(&'a mut [f32], &'a [f32]);
    impl WithSimd for Op<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let (y_vectors, y_tail) = S::as_mut_simd_f32s(self.0);
            let (z_vectors, z_tail) = S::as_simd_f32s(self.1);
            for (y, z) in y_vectors.iter_mut().zip(z_vectors) {
                *y = simd.mul_f32s(*y, silu(simd, *z));
            }
            let gated = simd.mul_f32s(
                simd.partial_load_f32s(y_tail),
                silu(simd, simd.partial_load_f32s(z_tail)),
            );
            simd.partial_store_f32s(y_tail, gated);
        }
    }
    Arch::new().dispatch(Op(y, z));
}

#[inline(always)]
fn silu<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let one = simd.splat_f32s(1.0);
    simd.div_f32s(x, simd.add_f32s(one, exp(simd, simd.neg_f32s(x))))
}

/// ln(1 + e^x) = max(x, 0) + ln(1 + e^−|x|), exact to about 1e-7 of the result for any x.
///
/// With s = e/(2 + e), ln(1 + e) = 2·artanh(s) = 2·(s + s³/3 + s⁵/5 + …). For e ≤ 1, s ≤ 1/3 and eight terms reach 1e-9; near
/// e = 0 the first term keeps full precision, where a plain logarithm of 1 + e would have lost it.
#[inline(always)]
fn softplus<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let zero = simd.splat_f32s(0.0);
    let e = exp(simd, simd.neg_f32s(simd.max_f32s(x, simd.neg_f32s(x))));
    let s = simd.div_f32s(e, simd.add_f32s(simd.splat_f32s(2.0), e));
    let square = simd.mul_f32s(s, s);
    let mut series = simd.splat_f32s(1.0 / 15.0);
    for odd in [13.0, 11.0, 9.0, 7.0, 5.0, 3.0, 1.0] {
        series = simd.mul_add_e_f32s(series, square, simd.splat_f32s(1.0 / odd));
    }
    let positive = simd.max_f32s(zero, x);
    let sum = simd.mul_add_e_f32s(simd.add_f32s(s, s), series, positive);
    // The maximum above may have dropped a NaN. A product with x would keep it, but make one of an infinity too.
    simd.select_f32s(simd.equal_f32s(x, x), sum, x)
}

/// Σ a·b.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    struct Op<'a>(&'a [f32], &'a [f32]);
    impl WithSimd for Op<'_> {
        type Output = f32;
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) -> f32 {
            product(simd, self.0, self.1)
        }
    }
    Arch::new().dispatch(Op(a, b))
}

/// Σ a·b, inside of other vector code.
#[inline(always)]
pub(super) fn product<S: Simd>(simd: S, a: &[f32], b: &[f32]) -> f32 {
    let (a_vectors, a_tail) = S::as_simd_f32s(a);
    let (b_vectors, b_tail) = S::as_simd_f32s(b);
    // Four sums side by side hide the latency of the multiply-add.
    let mut sums = [simd.splat_f32s(0.0); 4];
    let (a_fours, a_rest) = a_vectors.as_chunks::<4>();
    let (b_fours, b_rest) = b_vectors.as_chunks::<4>();
    for (a, b) in a_fours.iter().zip(b_fours) {
        for i in 0..4 {
            sums[i] = simd.mul_add_e_f32s(a[i], b[i], sums[i]);
        }
    }
    for (a, b) in a_rest.iter().zip(b_rest) {
        sums[0] = simd.mul_add_e_f32s(*a, *b, sums[0]);
    }
    // Loading a part is a call, dearer than a short row.
    if !a_tail.is_empty() {
        let (a, b) = (
            simd.partial_load_f32s(a_tail),
            simd.partial_load_f32s(b_tail),
        );
        sums[1] = simd.mul_add_e_f32s(a, b, sums[1]);
    }
    let left = simd.add_f32s(sums[0], sums[1]);
    let right = simd.add_f32s(sums[2], sums[3]);
    simd.reduce_sum_f32s(simd.add_f32s(left, right))
}

/// y ← y + a·b, element by element.
pub(super) fn multiply_add(y: &mut [f32], a: &[f32], b: &[f32]) {
    struct Op<'a>(&'a mut [f32], &'a [f32], &'a [f32]);
    impl WithSimd for Op<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let (y_vectors, y_tail) = S::as_mut_simd_f32s(self.0);
            let (a_vectors, a_tail) = S::as_simd_f32s(self.1);
            let (b_vectors, b_tail) = S::as_simd_f32s(self.2);
            for ((y, a), b) in y_vectors.iter_mut().zip(a_vectors).zip(b_vectors) {
                *y = simd.mul_add_e_f32s(*a, *b, *y);
            }
            for ((y, a), b) in y_tail.iter_mut().zip(a_tail).zip(b_tail) {
                *y += a * b;
            }
        }
    }
    Arch::new().dispatch(Op(y, a, b));
}

/// y ← y + a·b, `a` the same for all elements.
pub(super) fn multiply_add_scalar(y: &mut [f32], a: f32, b: &[f32]) {
    struct Op<'a>(&'a mut [f32], f32, &'a [f32]);
    impl WithSimd for Op<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            add_scaled(simd, self.0, self.1, self.2);
        }
    }
    Arch::new().dispatch(Op(y, a, b));
}

#[inline(always)]
fn add_scaled<S: Simd>(simd: S, y: &mut [f32], a: f32, b: &[f32]) {
    let factor = simd.splat_f32s(a);
    let (y_vectors, y_tail) = S::as_mut_simd_f32s(y);
    let (b_vectors, b_tail) = S::as_simd_f32s(b);
    for (y, b) in y_vectors.iter_mut().zip(b_vectors) {
        *y = simd.mul_add_e_f32s(factor, *b, *y);
    }
    for (y, b) in y_tail.iter_mut().zip(b_tail) {
        *y += a * b;
    }
}

/// x ← exp(x)·by, element by element.
pub(super) fn exp_multiply(x: &mut [f32], by: &[f32]) {
    struct Op<'a>(&'a mut [f32], &'a [f32]);
    impl WithSimd for Op<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let (x_vectors, x_tail) = S::as_mut_simd_f32s(self.0);
            let (by_vectors, by_tail) = S::as_simd_f32s(self.1);
            for (x, by) in x_vectors.iter_mut().zip(by_vectors) {
                *x = simd.mul_f32s(exp(simd, *x), *by);
            }
            let last = exp(simd, simd.partial_load_f32s(x_tail));
            let last = simd.mul_f32s(last, simd.partial_load_f32s(by_tail));
            simd.partial_store_f32s(x_tail, last);
        }
    }
    Arch::new().dispatch(Op(x, by));
}

/// x ← exp(x − max x) / Σ.
pub(super) fn softmax(x: &mut [f32]) {
    struct Op<'a>(&'a mut [f32]);
    impl WithSimd for Op<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            soften(simd, self.0);
        }
    }
    Arch::new().dispatch(Op(x));
}

#[inline(always)]
fn soften<S: Simd>(simd: S, x: &mut [f32]) {
    let most = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let most = simd.splat_f32s(most);
    let (vectors, tail) = S::as_mut_simd_f32s(&mut *x);
    let mut sum = simd.splat_f32s(0.0);
    for x in vectors {
        *x = exp(simd, simd.sub_f32s(*x, most));
        sum = simd.add_f32s(sum, *x);
    }
    let last = exp(simd, simd.sub_f32s(simd.partial_load_f32s(tail), most));
    simd.partial_store_f32s(tail, last);
    let total = simd.reduce_sum_f32s(sum) + tail.iter().sum::<f32>();
    x.iter_mut().for_each(|x| *x /= total);
}

/// One query against every cached key: `weights` takes the softmax of the scaled products, `out` the values weighted by it.
pub(super) fn attend(
    query: &[f32],
    keys: &Rows<'_>,
    values: &Rows<'_>,
    scale: f32,
    weights: &mut [f32],
    out: &mut [f32],
) {
    struct Op<'a> {
        query: &'a [f32],
        keys: &'a Rows<'a>,
        values: &'a Rows<'a>,
        scale: f32,
        weights: &'a mut [f32],
        out: &'a mut [f32],
    }
    impl WithSimd for Op<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            for (m, weight) in self.weights.iter_mut().enumerate() {
                *weight = product(simd, self.query, self.keys.row(m)) * self.scale;
            }
            soften(simd, self.weights);
            self.out.fill(0.0);
            for (m, weight) in self.weights.iter().enumerate() {
                add_scaled(simd, self.out, *weight, self.values.row(m));
            }
        }
    }
    Arch::new().dispatch(Op {
        query,
        keys,
        values,
        scale,
        weights,
        out,
    });
}

/// One token of Mamba-2's recurrence for one head: h ← decay·h + (Δ·x) ⊗ B, y = h·C. `h_pn` is `[p, n]`.
pub(crate) fn recur(
    h_pn: &mut [f32],
    y_p: &mut [f32],
    decay: f32,
    delta: f32,
    x_p: &[f32],
    b_n: &[f32],
    c_n: &[f32],
) {
    struct Op<'a> {
        h_pn: &'a mut [f32],
        y_p: &'a mut [f32],
        decay: f32,
        delta: f32,
        x_p: &'a [f32],
        b_n: &'a [f32],
        c_n: &'a [f32],
    }
    impl WithSimd for Op<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let decay = simd.splat_f32s(self.decay);
            let (b, b_tail) = S::as_simd_f32s(self.b_n);
            let (c, c_tail) = S::as_simd_f32s(self.c_n);
            let rows = self.h_pn.chunks_exact_mut(self.b_n.len());
            for ((h_n, y), x) in rows.zip(self.y_p).zip(self.x_p) {
                let written = self.delta * x;
                let splat = simd.splat_f32s(written);
                let (h, h_tail) = S::as_mut_simd_f32s(h_n);
                let mut sum = simd.splat_f32s(0.0);
                for ((h, b), c) in h.iter_mut().zip(b).zip(c) {
                    *h = simd.mul_add_e_f32s(decay, *h, simd.mul_f32s(splat, *b));
                    sum = simd.mul_add_e_f32s(*c, *h, sum);
                }
                *y = simd.reduce_sum_f32s(sum);
                for ((h, b), c) in h_tail.iter_mut().zip(b_tail).zip(c_tail) {
                    *h = self.decay * *h + written * b;
                    *y += c * *h;
                }
            }
        }
    }
    Arch::new().dispatch(Op {
        h_pn,
        y_p,
        decay,
        delta,
        x_p,
        b_n,
        c_n,
    });
}

/// Mean over channels and slots of exp(Δ·A): the share of the state one token leaves in place. `delta_d` `[d]`, `a_nd` `[n·d]`.
pub(crate) fn mean_decay(delta_d: &[f32], a_nd: &[f32]) -> f32 {
    struct Op<'a>(&'a [f32], &'a [f32]);
    impl WithSimd for Op<'_> {
        type Output = f32;
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) -> f32 {
            let (delta, delta_tail) = S::as_simd_f32s(self.0);
            let mut sum = simd.splat_f32s(0.0);
            let mut rest = 0.0;
            for a_d in self.1.chunks_exact(self.0.len()) {
                let (a, a_tail) = S::as_simd_f32s(a_d);
                for (delta, a) in delta.iter().zip(a) {
                    sum = simd.add_f32s(sum, exp(simd, simd.mul_f32s(*delta, *a)));
                }
                rest += delta_tail
                    .iter()
                    .zip(a_tail)
                    .map(|(delta, a)| (delta * a).exp())
                    .sum::<f32>();
            }
            simd.reduce_sum_f32s(sum) + rest
        }
    }
    Arch::new().dispatch(Op(delta_d, a_nd)) / a_nd.len() as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exp_in_place(values: &mut [f32]) {
        struct Op<'a>(&'a mut [f32]);
        impl WithSimd for Op<'_> {
            type Output = ();
            fn with_simd<S: Simd>(self, simd: S) {
                for x in self.0.chunks_mut(S::F32_LANES) {
                    let e = exp(simd, simd.partial_load_f32s(x));
                    simd.partial_store_f32s(x, e);
                }
            }
        }
        Arch::new().dispatch(Op(values));
    }

    /// Checks `fast` at many points of a range against f64, as a share of the exact value.
    fn assert_within(share: f64, from: f32, to: f32, fast: fn(&mut [f32]), exact: fn(f64) -> f64) {
        let x: Vec<f32> = (0..200_001)
            .map(|i| from + (to - from) * i as f32 / 200_000.0)
            .collect();
        let mut found = x.clone();
        fast(&mut found);
        for (x, found) in x.iter().zip(&found) {
            let wanted = exact(f64::from(*x));
            assert!(
                (f64::from(*found) - wanted).abs() <= share * wanted.abs(),
                "at {x}: {found}, wanted {wanted}"
            );
        }
    }

    #[test]
    fn exp_and_what_is_built_on_it_are_as_exact_as_f32() {
        assert_within(2.4e-7, -87.0, 87.0, exp_in_place, f64::exp);
        assert_within(4e-7, -60.0, 60.0, activate_delta, |x| {
            x.max(0.0) + (-x.abs()).exp().ln_1p()
        });
        assert_within(4e-7, -60.0, 60.0, silu_in_place, |x| x / (1.0 + (-x).exp()));
    }

    #[test]
    fn the_ends_of_the_range_are_tame() {
        let mut ends = [f32::NEG_INFINITY, -1e30, -100.0, 0.0];
        exp_in_place(&mut ends);
        assert!(
            ends.iter().take(3).all(|&e| (0.0..2e-38).contains(&e)) && ends[3] == 1.0,
            "{ends:?}"
        );
        let mut delta = [f32::NEG_INFINITY, -1e30, -100.0, 1e30, f32::INFINITY];
        activate_delta(&mut delta);
        assert!(
            delta[..3].iter().all(|d| (0.0..2e-38).contains(d))
                && delta[3..] == [1e30, f32::INFINITY],
            "{delta:?}"
        );
    }

    #[test]
    fn nan_stays_nan() {
        for work in [silu_in_place, activate_delta] {
            let mut values = vec![1.0; 21];
            values[2] = f32::INFINITY;
            values[3] = f32::NAN;
            values[20] = f32::NAN;
            work(&mut values);
            let lost: Vec<_> = (0..21)
                .filter(|&i| values[i].is_nan() != [3, 20].contains(&i))
                .collect();
            assert!(lost.is_empty(), "{lost:?}");
        }
        assert!(dot(&[1.0, f32::NAN], &[1.0, 0.0]).is_nan());
    }
}
