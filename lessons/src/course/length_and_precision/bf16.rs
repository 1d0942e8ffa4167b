//! Numbers of eight significant bits, and a state that is kept in them.

/// The nearest bf16: the upper half of an f32, halves to even. Finite numbers only.
pub(super) fn bf16(value: f32) -> f32 {
    let bits = value.to_bits();
    let half = 0x7fff + ((bits >> 16) & 1);
    f32::from_bits(bits.wrapping_add(half) & 0xffff_0000)
}

/// Which numbers are rounded to bf16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// Neither decay nor state: all in f32.
    Single,
    /// The state, after each token.
    State,
    /// The decay alone.
    Decay,
}

impl Kept {
    pub const ALL: [Kept; 3] = [Kept::Single, Kept::State, Kept::Decay];

    /// What a reader calls it.
    pub fn title(self) -> &'static str {
        match self {
            Kept::Single => "f32",
            Kept::State => "state in bf16",
            Kept::Decay => "decay in bf16",
        }
    }

    /// A slot that begins at 1 and is multiplied by the decay `steps` times; its value after each, the first included.
    pub fn run(self, decay: f32, steps: usize) -> Vec<f32> {
        let decay = match self {
            Kept::Decay => bf16(decay),
            _ => decay,
        };
        let mut h = 1.0;
        let mut values = vec![h];
        for _ in 0..steps {
            h *= decay;
            if self == Kept::State {
                h = bf16(h);
            }
            values.push(h);
        }
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_goes_to_the_nearest_and_halves_to_even() {
        // Between 1 and 2 neighbours are 1/128 apart, below 1 they are 1/256 apart.
        assert_eq!(bf16(1.0), 1.0);
        assert_eq!(bf16(1.0 + 1.0 / 256.0), 1.0);
        assert_eq!(bf16(1.0 + 3.0 / 256.0), 1.0 + 2.0 / 128.0);
        assert_eq!(bf16(0.999), 1.0);
        assert_eq!(bf16(0.997), 1.0 - 1.0 / 256.0);
        assert_eq!(bf16(-0.999), -1.0);
        assert_eq!(bf16(0.0), 0.0);
    }
}
