//! Least squares by the normal equations, with a little of the identity added where columns are nearly dependent.

use ndarray::{Array1, Array2, ArrayView1};

/// Solves (G + `ridge` · (largest diagonal entry of G) · I) x = r for a symmetric G, `[n, n]`, without negative directions.
/// None where even that has a direction of length zero, or a number is not finite.
pub fn solve_ridge(
    mut gram_nn: Array2<f64>,
    right_n: ArrayView1<'_, f64>,
    ridge: f64,
) -> Option<Array1<f64>> {
    let largest = gram_nn
        .diag()
        .fold(0.0, |most: f64, &entry| most.max(entry));
    gram_nn
        .diag_mut()
        .mapv_inplace(|entry| entry + ridge * largest);
    let lower_nn = cholesky(gram_nn)?;
    let slots = right_n.len();
    let mut x_n = right_n.to_owned();
    for i in 0..slots {
        let known: f64 = (0..i).map(|j| lower_nn[[i, j]] * x_n[j]).sum();
        x_n[i] = (x_n[i] - known) / lower_nn[[i, i]];
    }
    for i in (0..slots).rev() {
        let known: f64 = (i + 1..slots).map(|j| lower_nn[[j, i]] * x_n[j]).sum();
        x_n[i] = (x_n[i] - known) / lower_nn[[i, i]];
    }
    x_n.iter().all(|x| x.is_finite()).then_some(x_n)
}

/// The lower triangle R with R Rᵀ = G; what is above the diagonal is of G still.
fn cholesky(mut gram_nn: Array2<f64>) -> Option<Array2<f64>> {
    for i in 0..gram_nn.nrows() {
        for j in 0..=i {
            let known: f64 = (0..j).map(|k| gram_nn[[i, k]] * gram_nn[[j, k]]).sum();
            let rest = gram_nn[[i, j]] - known;
            if i == j && !(rest > 0.0) {
                return None;
            }
            gram_nn[[i, j]] = if i == j {
                rest.sqrt()
            } else {
                rest / gram_nn[[j, j]]
            };
        }
    }
    Some(gram_nn)
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn a_system_is_solved_and_a_singular_one_only_with_a_ridge() {
        let gram = array![[4.0, 2.0], [2.0, 3.0]];
        let found = solve_ridge(gram, array![10.0, 9.0].view(), 0.0).unwrap();
        assert!((found[0] - 1.5).abs() < 1e-14 && (found[1] - 2.0).abs() < 1e-14);
        let flat = array![[1.0, 1.0], [1.0, 1.0]];
        assert!(solve_ridge(flat.clone(), array![1.0, 1.0].view(), 0.0).is_none());
        let found = solve_ridge(flat, array![1.0, 1.0].view(), 1e-9).unwrap();
        assert!((found.sum() - 1.0).abs() < 1e-6);
    }
}
