//! Bytes a text costs while it is being written: plain arithmetic over the sizes of a model. An experiment holds it against the
//! engine's own formula and against the buffers of live sessions.

use serde::{Deserialize, Serialize};

/// How wide a stored value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stored {
    /// Four bytes.
    F32,
    /// Two bytes.
    F16,
}

impl Stored {
    /// Bytes of one value.
    pub fn bytes(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
        }
    }
}

/// The sizes that decide what a model remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Layers with a scan.
    pub scans: u64,
    /// Width of the residual stream, `e`.
    pub width: u64,
    /// Inner channels for each of the width.
    pub expand: u64,
    /// Slots of a channel, `n`.
    pub slots: u64,
    /// Groups whose B and C go through the convolution too, `g`: none in Mamba-1.
    pub groups: u64,
    /// Layers with attention.
    pub attentions: u64,
    /// Values of a token's keys, and of its values, in a layer.
    pub kv_width: u64,
}

impl Sizes {
    /// A stack of attention layers alone.
    pub const fn transformer(attentions: u64, kv_width: u64) -> Self {
        Self {
            scans: 0,
            width: 0,
            expand: 0,
            slots: 0,
            groups: 0,
            attentions,
            kv_width,
        }
    }

    /// A stack of scans alone.
    pub const fn scans(scans: u64, width: u64, slots: u64, groups: u64) -> Self {
        Self {
            scans,
            width,
            expand: 2,
            slots,
            groups,
            attentions: 0,
            kv_width: 0,
        }
    }

    /// Values of all hidden states.
    pub fn hidden(&self) -> u64 {
        self.scans * self.expand * self.width * self.slots
    }

    /// Values of all windows of the convolutions, of so many columns each.
    pub fn windows(&self, columns: u64) -> u64 {
        self.scans * (self.expand * self.width + 2 * self.groups * self.slots) * columns
    }

    /// Values of keys and values a token adds.
    pub fn kv_of_a_token(&self) -> u64 {
        2 * self.attentions * self.kv_width
    }
}

/// Tokens after which the growing cache has the size of the fixed state: `state` and what a token adds on either side, in bytes.
/// None where the cache grows no faster than what it is compared with.
pub fn crossing(state: f64, cache_of_a_token: f64, own_of_a_token: f64) -> Option<f64> {
    let gain = cache_of_a_token - own_of_a_token;
    (gain > 0.0).then(|| state / gain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_that_does_not_grow_faster_never_crosses() {
        assert_eq!(crossing(100.0, 4.0, 4.0), None);
        assert_eq!(crossing(100.0, 6.0, 4.0), Some(50.0));
    }
}
