//! The numbers of a drill, drawn one after another.

use mambascope_core::noise::Noise;

/// A stream of draws: the same seed and drill give the same ones.
#[derive(Clone, Debug)]
pub struct Draw {
    noise: Noise,
    drawn: usize,
}

impl Draw {
    /// The draws of a drill.
    pub fn new(seed: u64, drill: &str) -> Self {
        Self {
            noise: Noise::new(seed, drill),
            drawn: 0,
        }
    }

    /// Evenly spread between two ends, the upper one excluded.
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        let value = f64::from(self.noise.uniform(self.drawn));
        self.drawn += 1;
        low + (high - low) * value
    }

    /// One of a few, each as likely; the first of one, and of none the type's own beginning.
    pub fn pick<T: Copy + Default>(&mut self, choices: &[T]) -> T {
        let index = self.between(0.0, choices.len() as f64) as usize;
        choices.get(index).copied().unwrap_or_default()
    }

    /// The same items in another order.
    pub fn shuffled<T: Clone>(&mut self, items: &[T]) -> Vec<T> {
        let mut items = items.to_vec();
        for last in (1..items.len()).rev() {
            let other = self.between(0.0, (last + 1) as f64) as usize;
            items.swap(last, other.min(last));
        }
        items
    }
}
