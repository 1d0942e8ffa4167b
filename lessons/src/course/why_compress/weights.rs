//! How many weights a stack of scans has, by the engine's own list of tensors.

use mambascope_core::model::{Config, MixerDims};

use super::ledger::Sizes;

/// Weights of all layers of `config` when its scans have `sizes`; none where there is anything but scans. Embedding, head and last
/// norm are not counted.
pub fn layer_weights(config: &Config, sizes: &Sizes) -> Option<u64> {
    let mut config = config.clone();
    let mut block = *config.blocks.first()?;
    if sizes.attentions > 0 || block.feed_forward.is_some() {
        return None;
    }
    let d_inner = usize::try_from(sizes.expand * sizes.width).ok()?;
    let d_state = usize::try_from(sizes.slots).ok()?;
    match &mut block.mixer {
        MixerDims::Mamba(dims) => {
            dims.d_inner = d_inner;
            dims.d_state = d_state;
        }
        MixerDims::Mamba2(dims) => {
            dims.heads = d_inner / dims.head_dim;
            dims.d_state = d_state;
        }
        MixerDims::Attention(_) => return None,
    }
    config.blocks = vec![block];
    let scans = sizes.scans;
    Some(scans * (weights(&config) - outer_weights(&config)))
}

/// Weights of a model, those of embedding and head counted once where they are tied.
pub fn weights(config: &Config) -> u64 {
    let entry = config.family.entry();
    let tensors = entry.tensors(config).into_iter();
    let counted = tensors.filter(|spec| !(config.tied && spec.name == entry.head_name()));
    counted
        .map(|spec| spec.shape.iter().map(|&axis| axis as u64).product::<u64>())
        .sum()
}

/// Weights outside of the layers.
fn outer_weights(config: &Config) -> u64 {
    let bare = Config {
        blocks: Vec::new(),
        ..config.clone()
    };
    weights(&bare)
}
