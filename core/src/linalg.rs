//! What is asked of a matrix beside products: its singular values, and how many of them are more than rounding.

use faer::Mat;
use ndarray::ArrayView2;
use thiserror::Error;

/// The iteration for the singular values did not end, as with a matrix that holds NaN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "the singular values of a matrix of {rows} by {columns} could not be found: are all its values finite?"
)]
pub struct SingularError {
    /// Its rows.
    pub rows: usize,
    /// Its columns.
    pub columns: usize,
}

/// Singular values, the largest first; as many as the shorter side is long.
///
/// # Errors
/// When the iteration does not end.
pub fn singular_values(matrix: ArrayView2<'_, f64>) -> Result<Vec<f64>, SingularError> {
    let (rows, columns) = matrix.dim();
    let error = SingularError { rows, columns };
    if matrix.iter().any(|value| !value.is_finite()) {
        return Err(error);
    }
    Mat::from_fn(rows, columns, |i, j| matrix[[i, j]])
        .singular_values()
        .map_err(|_| error)
}

/// How many singular values stand above rounding: above the largest, times the longer side, times the spacing of numbers at 1.
/// The usual convention (NumPy's and MATLAB's).
pub fn numerical_rank(singular: &[f64], longer_side: usize) -> usize {
    let largest = singular.iter().copied().fold(0.0, f64::max);
    let rounding = largest * longer_side as f64 * f64::EPSILON;
    singular.iter().filter(|&&value| value > rounding).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, array};

    #[test]
    fn singular_values_of_a_scaled_rotation_are_its_scales() {
        let (cos, sin) = (0.3f64.cos(), 0.3f64.sin());
        let matrix = array![[5.0 * cos, -2.0 * sin], [5.0 * sin, 2.0 * cos]];
        let found = singular_values(matrix.view()).unwrap();
        assert!((found[0] - 5.0).abs() < 1e-14 && (found[1] - 2.0).abs() < 1e-14);
    }

    #[test]
    fn the_rank_is_that_of_the_factors() {
        let noise = crate::noise::Noise::new(3, "rank");
        let factor = |from: usize| {
            Array2::from_shape_fn((9, 4), |(i, j)| f64::from(noise.normal(from + 4 * i + j)))
        };
        let matrix = factor(0).dot(&factor(36).t());
        let found = singular_values(matrix.view()).unwrap();
        assert_eq!((found.len(), numerical_rank(&found, 9)), (9, 4));
        assert_eq!(numerical_rank(&[0.0, 0.0], 2), 0);
        assert!(singular_values(array![[f64::NAN]].view()).is_err());
    }
}
