//! Random values by counting: value `i` of a stream is a hash of `i`, so that threads can make the values of one array in any order
//! and a hundred million of them take less than a second. Not for draws that have to withstand anyone: sampling uses ChaCha.

/// Weyl increment of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): 2⁶⁴ over the golden ratio, made odd.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// A stream of values.
#[derive(Clone, Copy, Debug)]
pub struct Noise(u64);

impl Noise {
    /// The stream called `name`. The same seed and name give the same values, another name values that have nothing to do with them.
    pub fn new(seed: u64, name: &str) -> Self {
        // FNV-1a, from a start that the seed decides.
        let start = 0xcbf2_9ce4_8422_2325 ^ mix(seed);
        let hash = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        Self(mix(name.bytes().fold(start, hash)))
    }

    /// Value `i`, 64 random bits.
    pub fn bits(self, i: usize) -> u64 {
        mix(self.0.wrapping_add((i as u64).wrapping_mul(GOLDEN)))
    }

    /// Value `i`, evenly spread over 0 to 1, 1 excluded.
    pub fn uniform(self, i: usize) -> f32 {
        (self.bits(i) >> 40) as f32 / (1u32 << 24) as f32
    }

    /// Value `i` of mean 0 and deviation 1: four uniform values added up, which is near the normal distribution and ends at ±3.5.
    pub fn normal(self, i: usize) -> f32 {
        let bits = self.bits(i);
        let sum: u32 = [0, 16, 32, 48]
            .map(|shift| (bits >> shift) as u16)
            .map(u32::from)
            .iter()
            .sum();
        // The four have the variance 1/3 together, and the mean of this sum is an integer.
        (sum as i32 - 2 * 0xffff) as f32 * (3f32.sqrt() / 65_536.0)
    }

    /// Value `i` of what softplus turns into steps Δ between 0.001 and 0.1, evenly spread in their logarithm: where the training of
    /// Mamba's biases starts.
    pub fn step_bias(self, i: usize) -> f32 {
        let step = 0.001 * 100f32.powf(self.uniform(i));
        step.exp_m1().ln()
    }
}

/// SplitMix64's output function.
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(values: impl Iterator<Item = f32>) -> (f64, f64) {
        let values: Vec<f64> = values.map(f64::from).collect();
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let square = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
        (mean, square.sqrt())
    }

    #[test]
    fn streams_have_the_moments_they_say_and_nothing_in_common() {
        const COUNT: usize = 100_000;
        let (one, other) = (Noise::new(1, "a"), Noise::new(1, "b"));
        let (mean, deviation) = moments((0..COUNT).map(|i| one.normal(i)));
        assert!(mean.abs() < 0.02 && (deviation - 1.0).abs() < 0.02);
        let (mean, deviation) = moments((0..COUNT).map(|i| one.uniform(i)));
        assert!((mean - 0.5).abs() < 0.01 && (deviation - 1.0 / 12f64.sqrt()).abs() < 0.01);
        let (product, _) = moments((0..COUNT).map(|i| one.normal(i) * other.normal(i)));
        let (next, _) = moments((0..COUNT).map(|i| one.normal(i) * one.normal(i + 1)));
        assert!(product.abs() < 0.02 && next.abs() < 0.02);
        assert_ne!(Noise::new(2, "a").bits(0), one.bits(0));
    }
}
