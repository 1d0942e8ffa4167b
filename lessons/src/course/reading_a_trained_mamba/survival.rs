//! What is left of one token in the state, after each later token.

use super::records::Scan;

/// An entry of the state that still holds the token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Holder {
    pub channel: usize,
    pub slot: usize,
    /// Its share of all that the layer still holds of the token.
    pub share: f32,
    /// ln 2 / (|A| · mean Δ of the text), in tokens.
    pub half_life: f32,
}

/// One layer's memory of a token.
pub(super) struct Survival {
    pub layer: usize,
    /// Σ |contribution to h| over channels and slots, as a share of the same at the token itself; from that token on.
    pub stored: Vec<f32>,
    /// Σ over channels of |what C reads of it|, as a share of the same at the token itself.
    pub read: Vec<f32>,
    /// After each of these tokens, the entries that hold most.
    pub holders: Vec<Vec<Holder>>,
}

/// Follows what token `j` wrote. Decays come from differences of running sums of Δ.
pub(super) fn survival(scan: &Scan, j: usize, most_holders: usize) -> Survival {
    let (tokens, channels, slots) = scan.dims();
    let clock_ld = scan.clock_ld();
    let mut found = Survival {
        layer: scan.layer,
        stored: Vec::new(),
        read: Vec::new(),
        holders: Vec::new(),
    };
    let written: Vec<f32> = (0..channels * slots)
        .map(|i| {
            let (d, n) = (i / slots, i % slots);
            scan.delta_ld[[j, d]] * scan.b_ln[[j, n]] * scan.u_ld[[j, d]]
        })
        .collect();
    let mut held = vec![0.0f32; written.len()];
    for t in j..tokens {
        let (mut stored, mut read) = (0.0, 0.0);
        for d in 0..channels {
            let passed = (clock_ld[[t, d]] - clock_ld[[j, d]]) as f32;
            let mut of_channel = 0.0;
            for n in 0..slots {
                let left = written[d * slots + n] * (passed * scan.a_dn[[d, n]]).exp();
                held[d * slots + n] = left;
                stored += left.abs();
                of_channel += scan.c_ln[[t, n]] * left;
            }
            read += of_channel.abs();
        }
        found.stored.push(stored);
        found.read.push(read);
        let mean_delta = |d: usize| (clock_ld[[tokens - 1, d]] / tokens as f64) as f32;
        let holders = strongest(&held, most_holders).into_iter().map(|i| {
            let (channel, slot) = (i / slots, i % slots);
            let rate = mean_delta(channel) * scan.a_dn[[channel, slot]].abs();
            Holder {
                channel,
                slot,
                share: held[i].abs() / stored.max(f32::MIN_POSITIVE),
                half_life: std::f32::consts::LN_2 / rate,
            }
        });
        found.holders.push(holders.collect());
    }
    for curve in [&mut found.stored, &mut found.read] {
        let first = curve.first().copied().unwrap_or(1.0).max(f32::MIN_POSITIVE);
        curve.iter_mut().for_each(|value| *value /= first);
    }
    found
}

/// Places of the largest magnitudes, largest first.
pub(super) fn strongest(values: &[f32], most: usize) -> Vec<usize> {
    if most == 0 {
        return Vec::new();
    }
    let mut places: Vec<usize> = (0..values.len()).collect();
    let larger = |&i: &usize, &k: &usize| values[k].abs().total_cmp(&values[i].abs());
    if most < places.len() {
        places.select_nth_unstable_by(most, larger);
        places.truncate(most);
    }
    places.sort_unstable_by(larger);
    places
}

/// The median of some numbers; nothing of none.
pub(super) fn median(values: impl Iterator<Item = f32>) -> Option<f32> {
    let mut sorted: Vec<f32> = values.collect();
    sorted.sort_unstable_by(f32::total_cmp);
    let middle = sorted.len().checked_sub(1)? / 2;
    let upper = sorted.len() / 2;
    Some((sorted.get(middle)? + sorted.get(upper)?) / 2.0)
}
