//! A memory of fixed size and one softmax beside it, asked the same questions. Nothing is trained.
//!
//! A pair is a key and a value. The memory adds the product of both to a matrix S of 64 × N numbers and reads it with the key. The
//! attention is a softmax over the keys it may look back at and one place more, whose score is fixed and whose value is what the memory
//! read: where no key matches, the memory's answer passes.

use mambascope_core::noise::Noise;

/// Values there are to choose from, and the width of each.
pub const VALUES: usize = 64;
/// Width of the keys of the attention.
const KEY: usize = 64;
/// Sharpness of the softmax: a key scores this against itself.
const SHARPNESS: f32 = 64.0;
/// Score of the place that holds the memory's answer.
const THRESHOLD: f32 = 0.75 * SHARPNESS;

/// Pairs written, in order.
pub struct Pairs {
    /// Values as vectors of length one, `[VALUES, VALUES]`, a row a value.
    codes: Vec<f32>,
    /// Which value each pair has.
    values: Vec<usize>,
    /// Keys as the memory sees them, `[pairs, slots]`.
    memory_keys: Vec<f32>,
    /// Keys as the attention sees them, `[pairs, KEY]`.
    attention_keys: Vec<f32>,
    slots: usize,
}

/// Which answers were right, a pair each, in the order they were written.
pub struct Answers {
    /// Of the memory alone.
    pub memory: Vec<bool>,
    /// Of the memory with attention over the last `window` pairs.
    pub window: Vec<bool>,
    /// Of the memory with attention over all pairs.
    pub all: Vec<bool>,
    /// Pairs behind the window whose answer is not the memory's.
    pub changed: usize,
}

/// Vectors of length one in random directions, a row each.
fn directions(rows: usize, width: usize, seed: u64, name: &str) -> Vec<f32> {
    let noise = Noise::new(seed, name);
    let mut all: Vec<f32> = (0..rows * width).map(|i| noise.normal(i)).collect();
    for row in all.chunks_mut(width) {
        let length = dot(row, row).sqrt().max(f32::MIN_POSITIVE);
        row.iter_mut().for_each(|x| *x /= length);
    }
    all
}

fn dot(left: &[f32], right: &[f32]) -> f32 {
    left.iter().zip(right).map(|(l, r)| l * r).sum()
}

impl Pairs {
    /// So many random pairs for a memory of so many slots.
    pub fn new(count: usize, slots: usize, seed: u64) -> Self {
        let noise = Noise::new(seed, "value");
        Self {
            codes: directions(VALUES, VALUES, seed, "code"),
            values: (0..count)
                .map(|i| (noise.bits(i) % VALUES as u64) as usize)
                .collect(),
            memory_keys: directions(count, slots, seed, "memory key"),
            attention_keys: directions(count, KEY, seed, "attention key"),
            slots,
        }
    }

    fn code(&self, value: usize) -> &[f32] {
        &self.codes[value * VALUES..(value + 1) * VALUES]
    }

    fn memory_key(&self, pair: usize) -> &[f32] {
        &self.memory_keys[pair * self.slots..(pair + 1) * self.slots]
    }

    fn attention_key(&self, pair: usize) -> &[f32] {
        &self.attention_keys[pair * KEY..(pair + 1) * KEY]
    }

    /// S after all pairs, `[VALUES, slots]`.
    fn state(&self) -> Vec<f32> {
        let mut state = vec![0.0; VALUES * self.slots];
        for (pair, &value) in self.values.iter().enumerate() {
            let (code, key) = (self.code(value), self.memory_key(pair));
            for (row, v) in state.chunks_mut(self.slots).zip(code) {
                row.iter_mut().zip(key).for_each(|(s, k)| *s += v * k);
            }
        }
        state
    }

    /// What the softmax gives for the key of `pair` over the pairs from `first` on, with `read` in the place beside them.
    fn attend(&self, pair: usize, first: usize, read: &[f32]) -> Vec<f32> {
        let query = self.attention_key(pair);
        // The place beside has weight one; the others are weighed against it.
        let mut sum = 1.0;
        let mut out = read.to_vec();
        for (other, &value) in self.values.iter().enumerate().skip(first) {
            let score = SHARPNESS * dot(self.attention_key(other), query);
            let weight = (score - THRESHOLD).exp();
            sum += weight;
            let code = self.code(value);
            out.iter_mut().zip(code).for_each(|(o, v)| *o += weight * v);
        }
        out.iter_mut().for_each(|o| *o /= sum);
        out
    }

    /// The value a vector is nearest to.
    fn decoded(&self, vector: &[f32]) -> usize {
        let scores = self.codes.chunks(VALUES).map(|code| dot(code, vector));
        let best = scores
            .enumerate()
            .max_by(|(_, left), (_, right)| left.total_cmp(right));
        best.map_or(0, |(value, _)| value)
    }

    /// Asks for every pair once all are written.
    pub fn ask(&self, window: usize) -> Answers {
        let state = self.state();
        let count = self.values.len();
        let first = count.saturating_sub(window);
        let mut answers = Answers {
            memory: Vec::new(),
            window: Vec::new(),
            all: Vec::new(),
            changed: 0,
        };
        for (pair, &value) in self.values.iter().enumerate() {
            let key = self.memory_key(pair);
            let read: Vec<f32> = state.chunks(self.slots).map(|row| dot(row, key)).collect();
            let from_memory = self.decoded(&read);
            let from_window = self.decoded(&self.attend(pair, first, &read));
            let from_all = self.decoded(&self.attend(pair, 0, &read));
            answers.memory.push(from_memory == value);
            answers.window.push(from_window == value);
            answers.all.push(from_all == value);
            answers.changed += usize::from(pair < first && from_window != from_memory);
        }
        answers
    }
}

/// The share of answers that were right.
pub fn share(answers: &[bool]) -> f64 {
    let right = answers.iter().filter(|&&right| right).count();
    right as f64 / answers.len().max(1) as f64
}
