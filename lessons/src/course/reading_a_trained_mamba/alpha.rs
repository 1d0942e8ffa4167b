//! Hidden attention: how much of an earlier token's input is in a later token's output, channel by channel.
//!
//! ```text
//! α[i,j,d] = Σ_n C[i,n] · exp(A[d,n] · Σ_{k=j+1..i} Δ[k,d]) · Δ[j,d] · B[j,n]        for j ≤ i
//! y[i,d]   = Σ_{j≤i} α[i,j,d] · u[j,d] + D[d] · u[i,d]
//! ```

use ndarray::Array2;

use super::records::Scan;

/// α of one channel, `[i, j]`, zero above the diagonal. Every decay is made by multiplying one token's after another's.
pub(super) fn alpha_of_channel(scan: &Scan, d: usize) -> Array2<f32> {
    let (tokens, _, slots) = scan.dims();
    let decay_ln = Array2::from_shape_fn((tokens, slots), |(l, n)| {
        (scan.delta_ld[[l, d]] * scan.a_dn[[d, n]]).exp()
    });
    let mut alpha_ij = Array2::zeros((tokens, tokens));
    let mut held_n = vec![0.0f32; slots];
    for j in 0..tokens {
        for (n, held) in held_n.iter_mut().enumerate() {
            *held = scan.delta_ld[[j, d]] * scan.b_ln[[j, n]];
        }
        for i in j..tokens {
            let mut sum = 0.0;
            for (n, held) in held_n.iter_mut().enumerate() {
                if i > j {
                    *held *= decay_ln[[i, n]];
                }
                sum += scan.c_ln[[i, n]] * *held;
            }
            alpha_ij[[i, j]] = sum;
        }
    }
    alpha_ij
}

/// One entry of α by running sums of Δ: their difference is the logarithm of the decay.
pub(super) fn alpha_by_sums(scan: &Scan, clock_ld: &Array2<f64>, [i, j, d]: [usize; 3]) -> f64 {
    let passed = clock_ld[[i, d]] - clock_ld[[j, d]];
    let slots = 0..scan.a_dn.ncols();
    slots
        .map(|n| {
            let decay = (passed * f64::from(scan.a_dn[[d, n]])).exp();
            let write = f64::from(scan.delta_ld[[j, d]]) * f64::from(scan.b_ln[[j, n]]);
            f64::from(scan.c_ln[[i, n]]) * decay * write
        })
        .sum()
}

/// What stands around the scan of a layer, for one text.
pub(super) struct Around {
    /// Input of the convolution, `[l, d]`.
    pub x_ld: Array2<f32>,
    /// What is multiplied onto the output: SiLU(z), `[l, d]`.
    pub gate_ld: Array2<f32>,
    /// Taps of the convolution, the last meets the token itself, `[d, k]`.
    pub taps_dk: Array2<f32>,
    /// Its bias, `[d]`.
    pub bias_d: Vec<f32>,
}

/// How much of what stands around the scan is in the matrix, from 0 (the scan alone) to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Included {
    pub conv: f32,
    pub gate: f32,
}

impl Around {
    /// SiLU of the convolution is c · σ(c): with σ(c) of the text as it is, u is a weighted sum of the last inputs, and so is y.
    /// What the convolution's bias adds belongs to no token and is left out.
    pub fn widen(&self, alpha_ij: &Array2<f32>, d: usize, of: Included) -> Array2<f32> {
        let tokens = alpha_ij.nrows();
        let taps = self.taps_dk.ncols();
        let mut wide_ij = alpha_ij * (1.0 - of.conv);
        for j in (0..tokens).filter(|_| of.conv > 0.0) {
            let seen = (0..taps).filter(|tap| j + tap + 1 >= taps);
            let sum: f32 = seen
                .clone()
                .map(|tap| self.taps_dk[[d, tap]] * self.x_ld[[j + tap + 1 - taps, d]])
                .sum();
            let open = (1.0 + (-sum - self.bias_d[d]).exp()).recip();
            for tap in seen {
                let weight = of.conv * open * self.taps_dk[[d, tap]];
                for i in j..tokens {
                    wide_ij[[i, j + tap + 1 - taps]] += weight * alpha_ij[[i, j]];
                }
            }
        }
        for (i, mut row) in wide_ij.rows_mut().into_iter().enumerate() {
            row *= 1.0 + of.gate * (self.gate_ld[[i, d]] - 1.0);
        }
        wide_ij
    }
}

/// Channels that count as the strongest.
pub(super) const STRONGEST: usize = 16;

/// α of a layer, gathered over its channels.
pub(super) struct Gathered {
    /// Mean of |α| over the channels, `[i, j]`.
    pub mean_abs: Array2<f32>,
    /// Mean of α with its sign, `[i, j]`.
    pub mean: Array2<f32>,
    /// Mean of α with its sign over the [`STRONGEST`] channels, those with the largest Σ|α|, `[i, j]`.
    pub strongest: Array2<f32>,
    /// α of the channel asked for, `[i, j]`.
    pub channel: Array2<f32>,
    /// Share of the entries on and below the diagonal, over all channels, that are below zero.
    pub negative: f64,
    /// Largest |Σ_j α u_j + D u_i − y_i| over all tokens and channels.
    pub worst: f32,
    /// Largest |y|, to hold the former against.
    pub largest: f32,
}

/// Puts α of a channel among the strongest so far, the strongest first, if it is one of them.
fn keep_strongest(kept: &mut Vec<(f32, Array2<f32>)>, alpha_ij: &Array2<f32>) {
    let strength: f32 = alpha_ij.iter().map(|alpha| alpha.abs()).sum();
    let place = kept.partition_point(|(other, _)| *other >= strength);
    if place < STRONGEST {
        kept.insert(place, (strength, alpha_ij.clone()));
        kept.truncate(STRONGEST);
    }
}

/// Gathers α over all channels, with what stands around the scan where that is asked for, and rebuilds the scan's own output from α.
pub(super) fn gather(
    scan: &Scan,
    channel: usize,
    widened: Option<(&Around, Included)>,
) -> Gathered {
    let (tokens, channels, _) = scan.dims();
    let zeros = || Array2::<f32>::zeros((tokens, tokens));
    let mut gathered = Gathered {
        mean_abs: zeros(),
        mean: zeros(),
        strongest: zeros(),
        channel: zeros(),
        negative: 0.0,
        worst: 0.0,
        largest: 0.0,
    };
    let mut below = 0usize;
    let mut kept = Vec::new();
    for d in 0..channels {
        let of_scan_ij = alpha_of_channel(scan, d);
        let rebuilt_l = of_scan_ij.dot(&scan.u_ld.column(d));
        let alpha_ij = match widened {
            Some((around, of)) => around.widen(&of_scan_ij, d, of),
            None => of_scan_ij,
        };
        below += alpha_ij.iter().filter(|&&alpha| alpha < 0.0).count();
        gathered
            .mean_abs
            .zip_mut_with(&alpha_ij, |sum, alpha| *sum += alpha.abs());
        gathered.mean += &alpha_ij;
        keep_strongest(&mut kept, &alpha_ij);
        for l in 0..tokens {
            let rebuilt = rebuilt_l[l] + scan.skip_d[d] * scan.u_ld[[l, d]];
            let y = scan.y_ld[[l, d]];
            gathered.worst = gathered.worst.max((rebuilt - y).abs());
            gathered.largest = gathered.largest.max(y.abs());
        }
        if d == channel {
            gathered.channel = alpha_ij;
        }
    }
    gathered.mean_abs /= channels.max(1) as f32;
    gathered.mean /= channels.max(1) as f32;
    for (_, alpha_ij) in &kept {
        gathered
            .strongest
            .scaled_add(1.0 / kept.len() as f32, alpha_ij);
    }
    let entries = channels * tokens * (tokens + 1) / 2;
    gathered.negative = below as f64 / entries.max(1) as f64;
    gathered
}
