//! What a stack of layers costs: weights, bytes of state and cache, multiplications. Exact counts, no model of speed. Norms, biases
//! and the nonlinearities are not multiplications of a matrix and are left out of the counts of work.

use super::stack::{Feed, Mixer, Scan, Sizes, Stack};

/// Bytes of a weight and of a value of the cache.
const F16: f64 = 2.0;
/// Bytes of a value of a state.
const F32: f64 = 4.0;

/// Counts from which every bill follows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// Weights.
    pub weights: f64,
    /// Weights a token goes through.
    pub active: f64,
    /// Weights outside of experts, read for any batch.
    shared: f64,
    /// Weights of the experts of all layers, if only one of them were read in each.
    one_expert: f64,
    experts: f64,
    top: f64,
    /// Multiplications of a token that do not depend on how long the text is, without the head.
    fixed: f64,
    /// Multiplications for each earlier token.
    of_earlier: f64,
    head: f64,
    /// Bytes of hidden states and windows of a text.
    pub state: f64,
    /// Bytes a token adds to the cache.
    pub cache_of_a_token: f64,
}

impl Cost {
    /// Of a stack.
    pub fn of(stack: &Stack, sizes: &Sizes) -> Self {
        let [scans, attentions] =
            [Mixer::Mamba, Mixer::Attention].map(|mixer| stack.mixers(mixer) as u64);
        let [mlps, expert_layers] = [Feed::Mlp, Feed::Experts].map(|feed| stack.feeds(feed) as u64);
        let e = sizes.width;
        let mlp = sizes.mlp_matrices * e * sizes.mlp_width;
        let router = e * sizes.experts;
        let attention = 2 * e * sizes.query_width + 2 * e * sizes.kv_width;
        let (scan_weights, scan_work, window) = scan(sizes);
        // A norm before each half of a layer and one at the end.
        let norms = e * (scans + attentions + mlps + expert_layers + 1);
        let embedding = e * sizes.vocab;
        let shared = scans * scan_weights
            + attentions * attention
            + mlps * mlp
            + expert_layers * router
            + norms
            + 2 * embedding;
        let experts = expert_layers * mlp;
        let fixed = scans * scan_work
            + attentions * attention
            + mlps * mlp
            + expert_layers * (router + sizes.top * mlp);
        let state = scans * (sizes.d_inner * sizes.slots + window);
        Self {
            weights: (shared + experts * sizes.experts) as f64,
            active: (shared + experts * sizes.top) as f64,
            // Of the embedding a token reads a row.
            shared: (shared - embedding + e) as f64,
            one_expert: experts as f64,
            experts: sizes.experts as f64,
            top: sizes.top as f64,
            fixed: fixed as f64,
            of_earlier: (attentions * 2 * sizes.query_width) as f64,
            head: embedding as f64,
            state: F32 * state as f64,
            cache_of_a_token: F16 * (attentions * 2 * sizes.kv_width) as f64,
        }
    }

    /// Bytes of cache after so many tokens.
    pub fn cache(&self, tokens: f64) -> f64 {
        self.cache_of_a_token * tokens
    }

    /// Bytes a text keeps after so many tokens.
    pub fn memory(&self, tokens: f64) -> f64 {
        self.state + self.cache(tokens)
    }

    /// Multiplications of one token written behind so many, itself included; with the head.
    pub fn decode_work(&self, tokens: f64) -> f64 {
        self.fixed + self.of_earlier * tokens + self.head
    }

    /// Multiplications a token when so many are read at once, on average: each looks at itself and those before it. Without the
    /// head, which only the last token needs.
    pub fn prefill_work(&self, tokens: f64) -> f64 {
        self.fixed + self.of_earlier * (tokens + 1.0) / 2.0
    }

    /// Bytes moved for one step of a batch: weights once, and of every text the state in and out, the cache in, a token's row out.
    /// Experts are counted as if no two tokens shared one, until all are read: an upper bound that is exact for one text.
    pub fn decode_bytes(&self, tokens: f64, batch: f64) -> f64 {
        let read = (self.top * batch).min(self.experts);
        let weights = F16 * (self.shared + read * self.one_expert);
        weights + batch * (2.0 * self.state + self.cache(tokens) + self.cache_of_a_token)
    }

    /// Operations (two a multiplication) for each byte moved in a step.
    pub fn intensity(&self, tokens: f64, batch: f64) -> f64 {
        2.0 * batch * self.decode_work(tokens) / self.decode_bytes(tokens, batch)
    }

    /// Tokens behind which looking back costs as much as all other layers' work: while writing, and when read at once.
    pub fn crossings(&self) -> Option<(f64, f64)> {
        let tokens = self.fixed / self.of_earlier;
        tokens.is_finite().then_some((tokens, 2.0 * tokens))
    }
}

/// Weights of a scan's layer, its multiplications a token, and the values of its window.
fn scan(sizes: &Sizes) -> (u64, u64, u64) {
    let (e, d, n, k) = (sizes.width, sizes.d_inner, sizes.slots, sizes.taps);
    // Δ·A, Ā·h, Δu·B and C·h, for every channel and slot.
    let steps = 4 * d * n;
    match sizes.scan {
        Scan::One { rank } => {
            let projections = e * 2 * d + d * (rank + 2 * n) + rank * d + d * e;
            // Beside them the convolution and its bias, Δ's bias, A, D, and the norms of dt, B and C.
            let others = d * k + d + d + d * n + d + rank + 2 * n;
            (
                projections + others,
                projections + d * k + steps,
                d * (k - 1),
            )
        }
        Scan::Two { groups, heads } => {
            let channels = d + 2 * groups * n;
            let projections = e * (d + channels + heads) + d * e;
            // Beside them the convolution and its bias, Δ's bias, A and D a head, and the gated norm.
            let others = channels * k + channels + 3 * heads + d;
            (
                projections + others,
                projections + channels * k + steps,
                channels * (k - 1),
            )
        }
    }
}
