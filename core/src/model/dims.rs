//! The sizes of a block: what its mixer and its feed-forward part are, and how wide.

/// One block: a mixer of tokens, and behind it, in some families, a feed-forward part.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BlockDims {
    /// What mixes tokens.
    pub mixer: MixerDims,
    /// What works on each token alone; Mamba's blocks have none.
    pub feed_forward: Option<FeedForwardDims>,
}

/// Sizes of a mixer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MixerDims {
    /// Mamba-1: a selective scan.
    Mamba(MambaDims),
    /// Mamba-2: a scan with one A a head.
    Mamba2(Mamba2Dims),
    /// Softmax attention.
    Attention(AttentionDims),
}

/// Sizes of a Mamba-1 mixer (Mamba section 3.4).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MambaDims {
    /// Inner channels, `d`.
    pub d_inner: usize,
    /// Slots of the state a channel, `n`.
    pub d_state: usize,
    /// Taps of the short convolution, `k`.
    pub d_conv: usize,
    /// Rank of the Δ projection, `r`.
    pub dt_rank: usize,
    /// Whether in_proj and out_proj have a bias.
    pub proj_bias: bool,
    /// Whether the convolution has a bias.
    pub conv_bias: bool,
    /// The norms of dt, B and C between x_proj and the scan, where the family has them.
    pub inner_norm: Option<InnerNorm>,
}

/// RMSNorms of dt (over `r`), B and C (over `n`), before dt_proj and the scan.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InnerNorm {
    /// ε under the root.
    pub eps: f32,
    /// Whether each has a weight (Jamba) or none (FalconMamba).
    pub weighted: bool,
}

/// Sizes of a Mamba-2 mixer (Mamba-2 section 7). `d` = `heads` · `head_dim`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mamba2Dims {
    /// Heads, `h`; each has one A, one Δ.
    pub heads: usize,
    /// Channels of a head, `p`.
    pub head_dim: usize,
    /// Slots of the state a channel, `n`.
    pub d_state: usize,
    /// Groups of heads that share B and C, `g`; the gated norm has as many parts.
    pub groups: usize,
    /// Taps of the short convolution, `k`.
    pub d_conv: usize,
    /// Tokens the chunked scan takes at once.
    pub chunk: usize,
    /// Least and greatest Δ of a prefill. The one-token step does not clamp: neither reference does.
    pub dt_limit: (f32, f32),
    /// Whether in_proj and out_proj have a bias.
    pub proj_bias: bool,
    /// Whether the convolution has a bias.
    pub conv_bias: bool,
}

impl Mamba2Dims {
    /// Inner channels, `d`.
    pub fn d_inner(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Channels of the convolution: x, then B and C of every group.
    pub fn conv_channels(&self) -> usize {
        self.d_inner() + 2 * self.groups * self.d_state
    }

    /// Rows of in_proj: z, then the convolution's channels, then dt.
    pub fn in_rows(&self) -> usize {
        self.d_inner() + self.conv_channels() + self.heads
    }
}

/// Sizes of an attention mixer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionDims {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; query head q reads number q / (`heads` / `kv_heads`).
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// θ of the rotary positions; without, attention knows no positions (Jamba).
    pub rope_theta: Option<f64>,
    /// Whether the four projections have a bias.
    pub bias: bool,
}

impl AttentionDims {
    /// Width of a token's keys, and of its values: `kv_heads` · `head_dim`.
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// Width of a token's queries: `heads` · `head_dim`.
    pub fn query_width(&self) -> usize {
        self.heads * self.head_dim
    }
}

/// Sizes of a feed-forward part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedForwardDims {
    /// One SwiGLU network.
    Dense {
        /// Width between its two halves.
        width: usize,
        /// Whether its projections have a bias.
        bias: bool,
    },
    /// Several, of which a router picks a few for each token.
    Experts {
        /// Width of each.
        width: usize,
        /// How many there are.
        count: usize,
        /// How many a token goes through.
        top: usize,
    },
}

/// What the states of the two kinds of scan have in common.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecurrentDims {
    /// Channels of the convolution's window.
    pub conv_channels: usize,
    /// Taps, `k`.
    pub d_conv: usize,
    /// Channels of the hidden state, `d`.
    pub d_inner: usize,
    /// Slots of each, `n`.
    pub d_state: usize,
    /// Values of Δ a token has: one a channel, or one a head.
    pub delta_width: usize,
    /// Groups of channels that share B and C, `g`.
    pub groups: usize,
}

impl MixerDims {
    /// Sizes of the fixed state, for a mixer that has one.
    pub fn recurrent(&self) -> Option<RecurrentDims> {
        match self {
            MixerDims::Mamba(dims) => Some(RecurrentDims {
                conv_channels: dims.d_inner,
                d_conv: dims.d_conv,
                d_inner: dims.d_inner,
                d_state: dims.d_state,
                delta_width: dims.d_inner,
                groups: 1,
            }),
            MixerDims::Mamba2(dims) => Some(RecurrentDims {
                conv_channels: dims.conv_channels(),
                d_conv: dims.d_conv,
                d_inner: dims.d_inner(),
                d_state: dims.d_state,
                delta_width: dims.heads,
                groups: dims.groups,
            }),
            MixerDims::Attention(_) => None,
        }
    }

    /// Sizes of the growing cache, for a mixer that has one.
    pub fn attention(&self) -> Option<AttentionDims> {
        match self {
            MixerDims::Attention(dims) => Some(*dims),
            MixerDims::Mamba(_) | MixerDims::Mamba2(_) => None,
        }
    }

    /// Name for a reader.
    pub fn title(&self) -> &'static str {
        match self {
            MixerDims::Mamba(_) => "Mamba",
            MixerDims::Mamba2(_) => "Mamba-2",
            MixerDims::Attention(_) => "attention",
        }
    }
}
