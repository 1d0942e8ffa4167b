//! A stack of layers that can be rearranged, and the sizes its layers have.

use serde::{Deserialize, Serialize};

/// Most layers of a stack.
pub const MOST_LAYERS: usize = 64;

/// What mixes tokens in a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mixer {
    /// Nothing does.
    None,
    /// A scan.
    Mamba,
    /// Softmax attention over all tokens.
    Attention,
}

/// What works on each token alone in a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feed {
    /// Nothing does.
    None,
    /// One network.
    Mlp,
    /// Several, of which a token goes through a few.
    Experts,
}

/// A layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Its first half.
    pub mixer: Mixer,
    /// Its second half.
    pub feed: Feed,
}

impl Mixer {
    /// The next one, for who clicks.
    pub fn next(self) -> Self {
        match self {
            Self::Mamba => Self::Attention,
            Self::Attention => Self::None,
            Self::None => Self::Mamba,
        }
    }

    /// Its name.
    pub fn title(self) -> &'static str {
        match self {
            Self::None => "nothing",
            Self::Mamba => "Mamba",
            Self::Attention => "attention",
        }
    }
}

impl Feed {
    /// The next one, for who clicks.
    pub fn next(self) -> Self {
        match self {
            Self::None => Self::Mlp,
            Self::Mlp => Self::Experts,
            Self::Experts => Self::None,
        }
    }

    /// Its name.
    pub fn title(self) -> &'static str {
        match self {
            Self::None => "nothing",
            Self::Mlp => "MLP",
            Self::Experts => "experts",
        }
    }
}

/// Layers from the first to the last. As text two letters a layer: M, A or - for the mixer, then f, e or - for what follows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Stack(pub Vec<Layer>);

impl TryFrom<String> for Stack {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let letters: Vec<char> = text.chars().take(2 * MOST_LAYERS).collect();
        let layer = |pair: &[char]| {
            let mixer = match pair.first() {
                Some('M') => Mixer::Mamba,
                Some('A') => Mixer::Attention,
                Some('-') => Mixer::None,
                other => return Err(format!("{other:?} is no mixer: M, A or -")),
            };
            let feed = match pair.get(1) {
                Some('f') => Feed::Mlp,
                Some('e') => Feed::Experts,
                Some('-') => Feed::None,
                other => return Err(format!("{other:?} is no second half of a layer: f, e or -")),
            };
            Ok(Layer { mixer, feed })
        };
        letters
            .chunks(2)
            .map(layer)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl From<Stack> for String {
    fn from(stack: Stack) -> Self {
        let letters = stack.0.iter().flat_map(|layer| {
            let mixer = match layer.mixer {
                Mixer::None => '-',
                Mixer::Mamba => 'M',
                Mixer::Attention => 'A',
            };
            let feed = match layer.feed {
                Feed::None => '-',
                Feed::Mlp => 'f',
                Feed::Experts => 'e',
            };
            [mixer, feed]
        });
        letters.collect()
    }
}

impl Stack {
    /// Jamba's 32 layers with attention where `is_attention` says; experts in every second layer.
    pub fn jamba_with(is_attention: impl Fn(usize) -> bool) -> Self {
        let layer = |i: usize| Layer {
            mixer: if is_attention(i) {
                Mixer::Attention
            } else {
                Mixer::Mamba
            },
            feed: if i % 2 == 1 { Feed::Experts } else { Feed::Mlp },
        };
        Self((0..32).map(layer).collect())
    }

    /// Jamba v0.1: attention is the fifth of every eight layers.
    pub fn jamba() -> Self {
        Self::jamba_with(|i| i % 8 == 4)
    }

    /// NVIDIA's hybrid: 24 layers of Mamba-2, 4 of attention and 28 MLPs, each a layer of its own, in the order that Megatron-LM's
    /// page about it gives (examples/mamba/README.md).
    pub fn nvidia() -> Self {
        const ORDER: &str = "M-M-M--M-M*-M-M-M-M--M*-M-M-M-M-M*--M-M-M-M-M*-M--M-M-M-";
        let layer = |letter: char| {
            let (mixer, feed) = match letter {
                'M' => (Mixer::Mamba, Feed::None),
                '*' => (Mixer::Attention, Feed::None),
                _ => (Mixer::None, Feed::Mlp),
            };
            Layer { mixer, feed }
        };
        Self(ORDER.chars().map(layer).collect())
    }

    /// How many layers have this mixer.
    pub fn mixers(&self, wanted: Mixer) -> usize {
        self.0.iter().filter(|layer| layer.mixer == wanted).count()
    }

    /// How many layers have this second half.
    pub fn feeds(&self, wanted: Feed) -> usize {
        self.0.iter().filter(|layer| layer.feed == wanted).count()
    }

    /// The same with one mixer wherever there is one.
    pub fn with_all(&self, mixer: Mixer) -> Self {
        let layers = self.0.iter().map(|layer| Layer {
            mixer: match layer.mixer {
                Mixer::None => Mixer::None,
                Mixer::Mamba | Mixer::Attention => mixer,
            },
            feed: layer.feed,
        });
        Self(layers.collect())
    }
}

/// Whose sizes the layers have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Maker {
    /// Jamba v0.1.
    Jamba,
    /// NVIDIA's 8B hybrid.
    Nvidia,
}

/// Sizes of the layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Width of the residual stream, `e`.
    pub width: u64,
    /// Rows of embedding and of head.
    pub vocab: u64,
    /// Inner channels of a scan, `d`.
    pub d_inner: u64,
    /// Slots of a channel, `n`.
    pub slots: u64,
    /// Taps of the convolution, `k`.
    pub taps: u64,
    /// How B, C and Δ come about.
    pub scan: Scan,
    /// Width of a token's queries.
    pub query_width: u64,
    /// Width of its keys, and of its values.
    pub kv_width: u64,
    /// Width of an MLP, or of an expert.
    pub mlp_width: u64,
    /// Matrices of an MLP: three where it is gated.
    pub mlp_matrices: u64,
    /// Experts of a layer.
    pub experts: u64,
    /// How many a token goes through.
    pub top: u64,
}

/// What differs between the two kinds of scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scan {
    /// Mamba-1: from the convolution's output; Δ through so small a rank.
    One {
        /// Rank of the Δ projection, `r`.
        rank: u64,
    },
    /// Mamba-2: from the block's input.
    Two {
        /// Groups that share B and C, `g`.
        groups: u64,
        /// Heads, `h`.
        heads: u64,
    },
}

impl Maker {
    /// The sizes.
    pub fn sizes(self) -> Sizes {
        let jamba = Sizes {
            width: 4096,
            vocab: 65_536,
            d_inner: 8192,
            slots: 16,
            taps: 4,
            scan: Scan::One { rank: 256 },
            query_width: 4096,
            kv_width: 1024,
            mlp_width: 14_336,
            mlp_matrices: 3,
            experts: 16,
            top: 2,
        };
        match self {
            Self::Jamba => jamba,
            // Width, heads and groups are those of Megatron-LM's script for this model, which names no width of an MLP: that is four
            // times the model's then, not gated. The tokenizer's file is called 256k, which is taken for 256,000.
            Self::Nvidia => Sizes {
                vocab: 256_000,
                slots: 128,
                scan: Scan::Two {
                    groups: 8,
                    heads: 128,
                },
                mlp_width: 16_384,
                mlp_matrices: 2,
                ..jamba
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nvidias_layers_are_as_many_as_published() {
        let stack = Stack::nvidia();
        let mixers = [Mixer::Mamba, Mixer::Attention].map(|mixer| stack.mixers(mixer));
        assert_eq!(
            (stack.0.len(), mixers, stack.feeds(Feed::Mlp)),
            (56, [24, 4], 28)
        );
    }
}
