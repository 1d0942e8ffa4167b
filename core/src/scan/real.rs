//! The number type of the readable code, and its three activation functions.

use std::borrow::Cow;
use std::fmt::Debug;
use std::iter::Sum;
use std::ops::AddAssign;

use num_traits::Float;

use crate::tensor::Tensor;

/// f32 as the model runs, or f64 as a test of it.
pub trait Real: Float + AddAssign + Sum + Debug + Send + Sync + 'static {
    /// From a stored weight.
    fn of(value: f32) -> Self;
    /// To what a trace records.
    fn to_single(self) -> f32;
    /// All elements of a tensor; f32 where they lie.
    fn weights(tensor: &Tensor) -> Cow<'_, [Self]>;
}

impl Real for f32 {
    fn of(value: f32) -> Self {
        value
    }
    fn to_single(self) -> f32 {
        self
    }
    fn weights(tensor: &Tensor) -> Cow<'_, [Self]> {
        Cow::Borrowed(tensor.as_f32())
    }
}

impl Real for f64 {
    fn of(value: f32) -> Self {
        value.into()
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "rounding to what a trace holds is the purpose"
    )]
    fn to_single(self) -> f32 {
        self as f32
    }
    fn weights(tensor: &Tensor) -> Cow<'_, [Self]> {
        Cow::Owned(tensor.iter_f32().map(f64::from).collect())
    }
}

/// 1 / (1 + e^−x), from the side on which e^… cannot overflow.
pub fn sigmoid<T: Real>(x: T) -> T {
    let e = (-x.abs()).exp();
    if x >= T::zero() {
        T::one() / (T::one() + e)
    } else {
        e / (T::one() + e)
    }
}

/// x · sigmoid(x).
pub fn silu<T: Real>(x: T) -> T {
    x * sigmoid(x)
}

/// ln(1 + e^x); x itself above 20, where the difference is below 2.1e-9 (the threshold PyTorch and the kernels use).
pub fn softplus<T: Real>(x: T) -> T {
    if x > T::of(20.0) { x } else { x.exp().ln_1p() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ln(exp(x) + 1), as some kernels write it, is 0 below −16.6 in single precision and infinite above 88.
    #[test]
    fn softplus_keeps_its_digits_at_both_ends() {
        for x in [-80.0f32, -30.0, -17.0, -1.0, 0.0, 1.0, 19.9, 20.1, 100.0] {
            let wanted = f64::from(x).max(0.0) + (-f64::from(x).abs()).exp().ln_1p();
            let found = f64::from(softplus(x));
            assert!(
                (found - wanted).abs() <= 2e-7 * wanted,
                "{x}: {found} {wanted}"
            );
        }
        assert_eq!(
            (-17f32).exp() + 1.0,
            1.0,
            "the other way has nothing left there"
        );
    }
}
