//! exp and what is built on it, many lanes at a time; instructions are chosen when the program runs.

use pulp::{Arch, Simd, WithSimd};

use crate::scan::softplus;

/// e^x lane by lane, relative error about 1e-7.
///
/// x = n·ln 2 + r with |r| ≤ ln 2 / 2; e^r by a polynomial of degree 7 (Cephes' coefficients), times 2^n put straight into the
/// exponent bits. Below −87.3 the result stays at the smallest normal number instead of reaching 0.
#[inline(always)]
pub(super) fn exp<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    const COEFFICIENTS: [f32; 6] =
        [1.987_569_2e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];
    // Adding 1.5 · 2^23 rounds to an integer and leaves it in the low bits.
    let magic = simd.splat_f32s(12_582_912.0);
    let x = simd.max_f32s(simd.splat_f32s(-87.3), simd.min_f32s(simd.splat_f32s(88.3), x));
    let shifted = simd.mul_add_e_f32s(x, simd.splat_f32s(std::f32::consts::LOG2_E), magic);
    let n = simd.sub_f32s(shifted, magic);
    // ln 2 in two parts: the first is exact in few bits, so that n times it is exact too.
    let r = simd.mul_add_e_f32s(n, simd.splat_f32s(-0.693_359_4), x);
    let r = simd.mul_add_e_f32s(n, simd.splat_f32s(2.121_944_4e-4), r);
    let mut p = simd.splat_f32s(COEFFICIENTS[0]);
    for coefficient in &COEFFICIENTS[1..] {
        p = simd.mul_add_e_f32s(p, r, simd.splat_f32s(*coefficient));
    }
    let p = simd.mul_add_e_f32s(simd.mul_f32s(p, r), r, simd.add_f32s(r, simd.splat_f32s(1.0)));
    let exponent = simd.wrapping_dyn_shl_u32s(simd.transmute_u32s_f32s(shifted), simd.splat_u32s(23));
    simd.transmute_f32s_u32s(simd.add_u32s(simd.transmute_u32s_f32s(p), exponent))
}

/// x ← x · sigmoid(x).
pub(super) fn silu_in_place(values: &mut [f32]) {
    struct Op<'a>(&'a mut [f32]);
    impl WithSimd for Op<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let (vectors, tail) = S::as_mut_simd_f32s(self.0);
            for x in vectors {
                *x = silu(simd, *x);
            }
            let last = simd.partial_load_f32s(tail);
            simd.partial_store_f32s(tail, silu(simd, last));
        }
    }
    Arch::new().dispatch(Op(values));
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
            let gated = simd.mul_f32s(simd.partial_load_f32s(y_tail), silu(simd, simd.partial_load_f32s(z_tail)));
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

/// Δ = softplus of each element.
pub(super) fn activate_delta(values: &mut [f32]) {
    for x in values {
        *x = softplus(*x);
    }
}

/// Σ a·b.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    struct Op<'a>(&'a [f32], &'a [f32]);
    impl WithSimd for Op<'_> {
        type Output = f32;
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) -> f32 {
            let (a_vectors, a_tail) = S::as_simd_f32s(self.0);
            let (b_vectors, b_tail) = S::as_simd_f32s(self.1);
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
            let tail = simd.mul_f32s(simd.partial_load_f32s(a_tail), simd.partial_load_f32s(b_tail));
            let left = simd.add_f32s(sums[0], sums[1]);
            let right = simd.add_f32s(sums[2], sums[3]);
            simd.reduce_sum_f32s(simd.add_f32s(simd.add_f32s(left, right), tail))
        }
    }
    Arch::new().dispatch(Op(a, b))
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
                rest += delta_tail.iter().zip(a_tail).map(|(delta, a)| (delta * a).exp()).sum::<f32>();
            }
            simd.reduce_sum_f32s(sum) + rest
        }
    }
    Arch::new().dispatch(Op(delta_d, a_nd)) / a_nd.len() as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_two_units_in_the_last_place() {
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
        let x: Vec<f32> = (0..200_001).map(|i| -87.0 + i as f32 * 8.7e-4).collect();
        let mut fast = x.clone();
        Arch::new().dispatch(Op(&mut fast));
        for (x, fast) in x.iter().zip(&fast) {
            let exact = f64::from(*x).exp();
            let relative = (f64::from(*fast) - exact).abs() / exact;
            assert!(relative <= 2.4e-7, "exp({x}) = {fast}, wanted {exact}");
        }
    }
}
