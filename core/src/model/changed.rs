//! Models made of another: some of its weights changed, all others shared.

use ndarray::Array2;

use super::{InnerNorms, Layer, Mamba2Mixer, MambaMixer, Mixer, MixerDims, Model, Source};
use crate::tensor::{Tensor, TensorError};

impl Model {
    /// The same weights without a tokenizer and a card. Their bytes are shared, so this costs next to nothing.
    fn shared(&self, layers: Vec<Layer>) -> Self {
        Self {
            name: self.name.clone(),
            source: Source::Memory,
            config: self.config.clone(),
            embedding: self.embedding.clone(),
            layers,
            final_norm: self.final_norm.clone(),
            head: self.head.clone(),
            tokenizer: None,
            card: None,
            warnings: Vec::new(),
            bytes_on_disk: 0,
        }
    }

    /// The model whose Δ is `by` times as large in these blocks, where they are Mamba-1.
    ///
    /// Δ is used twice, in exp(Δ·A) and in Δ·B: so A and B are scaled instead, which is the same but for rounding. What such a model
    /// records as Δ is the old one.
    ///
    /// # Errors
    /// Never for a model whose shapes were checked.
    pub fn with_delta_times(&self, layers: &[usize], by: f32) -> Result<Self, TensorError> {
        let mut changed = self.shared(self.layers.clone());
        for &layer in layers {
            let dims = self.config.blocks.get(layer).map(|block| &block.mixer);
            if let (Some(Mixer::Mamba(mixer)), Some(MixerDims::Mamba(dims))) = (
                changed.layers.get_mut(layer).map(|layer| &mut layer.mixer),
                dims,
            ) {
                let slots = dims.d_state;
                mixer.a_log = mapped(&mixer.a_log, |_, a_log| a_log + by.ln())?;
                if dims.inner_norm.is_some() {
                    // B is normed behind its projection: the norm's weight is scaled, or made where there is none.
                    let ones = |width: usize| Tensor::from_f32(vec![width], &vec![1.0; width]);
                    let norms = match &mixer.inner_norms {
                        Some(norms) => norms.clone(),
                        None => InnerNorms {
                            dt: ones(dims.dt_rank)?,
                            b: ones(slots)?,
                            c: ones(slots)?,
                        },
                    };
                    let b = mapped(&norms.b, |_, weight| weight * by)?;
                    mixer.inner_norms = Some(InnerNorms { b, ..norms });
                } else {
                    let rows = dims.dt_rank..dims.dt_rank + slots;
                    let of_b = |i: usize| rows.contains(&(i / dims.d_inner));
                    let scaled = |i, weight| if of_b(i) { weight * by } else { weight };
                    mixer.x_proj = mapped(&mixer.x_proj, scaled)?;
                }
            }
        }
        Ok(changed)
    }

    /// What is behind the mixer of a block, as a model of its own: its token `l` is row `l` of `x_le`, `[l, e]`, the residual stream
    /// behind that mixer. The block is still there for its feed-forward part; its mixer adds nothing.
    ///
    /// # Errors
    /// When `x_le` is not as wide as the model.
    pub fn behind_mixer(&self, layer: usize, x_le: &Array2<f32>) -> Result<Self, TensorError> {
        let mut layers: Vec<Layer> = self.layers.iter().skip(layer).cloned().collect();
        if let Some(first) = layers.first_mut() {
            silence(&mut first.mixer)?;
        }
        let mut behind = self.shared(layers);
        behind
            .config
            .blocks
            .drain(..layer.min(self.config.blocks.len()));
        behind.head = Some(self.head().clone());
        behind.config.tied = false;
        let values: Vec<f32> = x_le.iter().copied().collect();
        behind.embedding = Tensor::from_f32(vec![x_le.nrows(), self.config.d_model], &values)?;
        Ok(behind)
    }
}

/// A tensor of the same shape in f32; `change` is given the place of each element and the element.
fn mapped(tensor: &Tensor, change: impl Fn(usize, f32) -> f32) -> Result<Tensor, TensorError> {
    let values = tensor.iter_f32().enumerate();
    let values: Vec<f32> = values.map(|(i, value)| change(i, value)).collect();
    Tensor::from_f32(tensor.shape().to_vec(), &values)
}

/// Zeroes the last projection of a mixer: whatever it makes of its tokens, nothing of it comes out.
fn silence(mixer: &mut Mixer) -> Result<(), TensorError> {
    let (weight, bias) = match mixer {
        Mixer::Mamba(mixer) => {
            let MambaMixer {
                out_proj,
                out_proj_bias,
                ..
            } = &mut **mixer;
            (out_proj, out_proj_bias)
        }
        Mixer::Mamba2(mixer) => {
            let Mamba2Mixer {
                out_proj,
                out_proj_bias,
                ..
            } = &mut **mixer;
            (out_proj, out_proj_bias)
        }
        Mixer::Attention(mixer) => (&mut mixer.o_proj, &mut mixer.o_bias),
    };
    *weight = mapped(weight, |_, _| 0.0)?;
    if let Some(bias) = bias {
        *bias = mapped(bias, |_, _| 0.0)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ndarray::Ix2;

    use super::*;
    use crate::backend::{Backend, FastBackend};
    use crate::checkpoint::EMBEDDED;
    use crate::trace::{Probe, Site, TracePlan, TraceTap};

    /// Scores after some tokens, and a stage of a block where one is asked for.
    fn read(
        model: Model,
        ids: &[u32],
        site: Option<(usize, Probe)>,
    ) -> (Vec<f32>, Option<Array2<f32>>) {
        let plan = TracePlan {
            layers: site.iter().map(|site| site.0).collect(),
            probes: site.iter().map(|site| site.1).collect(),
            tokens: ids.len(),
            budget: 1 << 28,
        };
        let mut tap = TraceTap::new(&plan, &model.config).unwrap();
        let model = Arc::new(model);
        let mut session = FastBackend::new(1).unwrap().open(&model).unwrap();
        session.prefill(ids, &mut tap).unwrap();
        let scores = session.logits().unwrap().to_vec();
        let trace = tap.finish();
        let value = site.map(|(layer, probe)| {
            let value = trace.get(Site::layer(layer, probe)).unwrap();
            value
                .view()
                .into_dimensionality::<Ix2>()
                .unwrap()
                .to_owned()
        });
        (scores, value)
    }

    fn apart(one: &[f32], other: &[f32]) -> f32 {
        let most = other
            .iter()
            .fold(0.0f32, |most, value| most.max(value.abs()));
        let pairs = one.iter().zip(other);
        // A NaN would be lost in max: the sum keeps it.
        pairs.map(|(a, b)| (a - b).abs()).sum::<f32>() / most / one.len() as f32
    }

    #[test]
    fn what_is_behind_a_block_of_a_mixer_alone_gives_the_scores_of_the_whole() {
        let ids: Vec<u32> = (40..52).collect();
        for embedded in &EMBEDDED {
            let model = embedded.load().unwrap();
            for layer in 0..model.config.n_layers() {
                // Behind a feed-forward part nothing records what was before it; the lessons' debugger tests those blocks.
                if model.layers[layer].feed_forward.is_some() {
                    continue;
                }
                let site = Some((layer, Probe::BlockOutput));
                let (scores, x_le) = read(embedded.load().unwrap(), &ids, site);
                let behind = model.behind_mixer(layer, &x_le.unwrap()).unwrap();
                let places: Vec<u32> = (0..12).collect();
                let (again, _) = read(behind, &places, None);
                assert!(
                    apart(&again, &scores) < 1e-5,
                    "{} layer {layer}",
                    model.name
                );
            }
        }
    }

    #[test]
    fn a_scaled_clock_is_the_same_at_one_and_another_elsewhere() {
        let ids: Vec<u32> = (40..52).collect();
        let scores = |by: f32| {
            let model = EMBEDDED[0].load().unwrap();
            read(model.with_delta_times(&[1, 3], by).unwrap(), &ids, None).0
        };
        let whole = read(EMBEDDED[0].load().unwrap(), &ids, None).0;
        assert!(apart(&scores(1.0), &whole) < 1e-6);
        assert!(apart(&scores(0.25), &whole) > 1e-3);
    }
}
