//! Looking inside a forward pass: which values can be asked for, how many bytes they take, and the record of them.

use std::collections::{BTreeMap, BTreeSet};

use ndarray::{ArrayD, ArrayViewD, Axis, IxDyn, Slice};
use thiserror::Error;

use crate::model::{BlockDims, Config, FeedForwardDims, MixerDims};

/// A stage of the model whose value can be recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Probe {
    /// The tokens' embeddings, before the first block.
    Embedded,
    /// RMSNorm of the residual stream: what the mixer reads.
    NormOut,
    /// What goes into the convolution: x, the first half of in_proj; in Mamba-2 x, B and C.
    X,
    /// z, the gate before SiLU: the second half of in_proj; in Mamba-2 its first rows.
    Gate,
    /// After the convolution and SiLU: u, the scan's input; in Mamba-2 x, B and C.
    ConvOut,
    /// Δ before its up-projection, bias and softplus.
    DtLow,
    /// Δ.
    Delta,
    /// B.
    B,
    /// C.
    C,
    /// The hidden state after each token.
    H,
    /// The scan's output with the skip, before the gate.
    ScanOut,
    /// The scan's output times SiLU(z); in Mamba-2 after the norm that follows.
    GatedOut,
    /// Softmax attention: how much each query head takes from each token so far.
    Attention,
    /// out_proj: what the mixer adds to the residual stream.
    MixerOutput,
    /// Scores of the experts, before softmax.
    RouterLogits,
    /// The residual stream after the block.
    BlockOutput,
    /// The residual stream after the last norm.
    FinalHidden,
    /// Scores of the next token, before softmax.
    Logits,
}

impl Probe {
    /// All probes, in the order a forward pass reaches them.
    pub const ALL: [Probe; 18] = [
        Probe::Embedded,
        Probe::NormOut,
        Probe::X,
        Probe::Gate,
        Probe::ConvOut,
        Probe::DtLow,
        Probe::Delta,
        Probe::B,
        Probe::C,
        Probe::H,
        Probe::ScanOut,
        Probe::GatedOut,
        Probe::Attention,
        Probe::MixerOutput,
        Probe::RouterLogits,
        Probe::BlockOutput,
        Probe::FinalHidden,
        Probe::Logits,
    ];

    /// Name in files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Probe::Embedded => "embedded",
            Probe::NormOut => "norm_out",
            Probe::X => "x",
            Probe::Gate => "gate",
            Probe::ConvOut => "conv_out",
            Probe::DtLow => "dt_low",
            Probe::Delta => "delta",
            Probe::B => "B",
            Probe::C => "C",
            Probe::H => "h",
            Probe::ScanOut => "scan_out",
            Probe::GatedOut => "gated_out",
            Probe::Attention => "attention",
            Probe::MixerOutput => "mixer_output",
            Probe::RouterLogits => "router_logits",
            Probe::BlockOutput => "block_output",
            Probe::FinalHidden => "final_hidden",
            Probe::Logits => "logits",
        }
    }

    /// Letters of its axes (the crate's glossary) in a block, or in the model as a whole; the first is always the token.
    /// `None` where there is no such value: attention has no Δ.
    pub fn axes(self, block: Option<&BlockDims>) -> Option<&'static str> {
        let Some(block) = block else {
            return match self {
                Probe::Embedded | Probe::FinalHidden => Some("le"),
                Probe::Logits => Some("lv"),
                _ => None,
            };
        };
        match self {
            Probe::Embedded | Probe::FinalHidden | Probe::Logits => None,
            Probe::NormOut | Probe::MixerOutput | Probe::BlockOutput => Some("le"),
            Probe::RouterLogits => {
                matches!(block.feed_forward, Some(FeedForwardDims::Experts { .. })).then_some("lx")
            }
            _ => match block.mixer {
                MixerDims::Mamba(_) => self.axes_in_mamba(),
                MixerDims::Mamba2(_) => self.axes_in_mamba2(),
                MixerDims::Attention(_) => (self == Probe::Attention).then_some("lqm"),
            },
        }
    }

    fn axes_in_mamba(self) -> Option<&'static str> {
        match self {
            Probe::X
            | Probe::Gate
            | Probe::ConvOut
            | Probe::Delta
            | Probe::ScanOut
            | Probe::GatedOut => Some("ld"),
            Probe::DtLow => Some("lr"),
            Probe::B | Probe::C => Some("ln"),
            Probe::H => Some("ldn"),
            _ => None,
        }
    }

    fn axes_in_mamba2(self) -> Option<&'static str> {
        match self {
            Probe::Gate | Probe::ScanOut | Probe::GatedOut => Some("ld"),
            Probe::X | Probe::ConvOut => Some("lw"),
            Probe::Delta => Some("lh"),
            Probe::B | Probe::C => Some("lgn"),
            Probe::H => Some("lhpn"),
            _ => None,
        }
    }

    /// Whether blocks have it, or the model as a whole.
    pub fn is_per_layer(self) -> bool {
        !matches!(self, Probe::Embedded | Probe::FinalHidden | Probe::Logits)
    }
}

/// Length of an axis of a block (or of the model) for `tokens` tokens.
fn axis_length(axis: char, config: &Config, block: Option<&BlockDims>, tokens: usize) -> usize {
    match (axis, block.map(|block| block.mixer)) {
        ('l' | 'm', _) => tokens,
        ('e', _) => config.d_model,
        ('v', _) => config.vocab_size,
        ('x', _) => match block.and_then(|block| block.feed_forward) {
            Some(FeedForwardDims::Experts { count, .. }) => count,
            _ => 0,
        },
        ('d', Some(MixerDims::Mamba(dims))) => dims.d_inner,
        ('n', Some(MixerDims::Mamba(dims))) => dims.d_state,
        ('r', Some(MixerDims::Mamba(dims))) => dims.dt_rank,
        ('d', Some(MixerDims::Mamba2(dims))) => dims.d_inner(),
        ('n', Some(MixerDims::Mamba2(dims))) => dims.d_state,
        ('h', Some(MixerDims::Mamba2(dims))) => dims.heads,
        ('p', Some(MixerDims::Mamba2(dims))) => dims.head_dim,
        ('g', Some(MixerDims::Mamba2(dims))) => dims.groups,
        ('w', Some(MixerDims::Mamba2(dims))) => dims.conv_channels(),
        ('q', Some(MixerDims::Attention(dims))) => dims.heads,
        _ => 0,
    }
}

/// A probe at its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Site {
    /// The block, or `None` for probes the model has only one of.
    pub layer: Option<usize>,
    /// What is recorded there.
    pub probe: Probe,
}

impl Site {
    /// A probe of one block.
    pub fn layer(layer: usize, probe: Probe) -> Self {
        Self {
            layer: Some(layer),
            probe,
        }
    }

    /// A probe of the whole model.
    pub fn model(probe: Probe) -> Self {
        Self { layer: None, probe }
    }

    /// Letters of the axes; `None` where the model has no such value.
    pub fn axes(self, config: &Config) -> Option<&'static str> {
        match self.layer {
            Some(layer) => self.probe.axes(Some(config.blocks.get(layer)?)),
            None => self.probe.axes(None),
        }
    }

    /// Axis lengths for `tokens` tokens, read from the first on.
    pub fn shape(self, config: &Config, tokens: usize) -> Option<Vec<usize>> {
        let block = self.layer.and_then(|layer| config.blocks.get(layer));
        let axes = self.axes(config)?.chars();
        Some(
            axes.map(|axis| axis_length(axis, config, block, tokens))
                .collect(),
        )
    }

    /// Name in a saved trace: `layers.3.delta`, `logits`.
    pub fn name(self) -> String {
        match self.layer {
            Some(layer) => format!("layers.{layer}.{}", self.probe.name()),
            None => self.probe.name().to_owned(),
        }
    }
}

/// Watches a forward pass. A backend asks `wants` before it spends anything on a value.
pub trait Tap: Send {
    /// Whether the value of this site is to be recorded.
    fn wants(&self, site: Site) -> bool;
    /// Takes the value for the tokens of one chunk; the axes are [`Probe::axes`]. Attention's last axis is as long as the
    /// text so far.
    fn record(&mut self, site: Site, value: ArrayViewD<'_, f32>);
}

/// Watches nothing.
impl Tap for () {
    fn wants(&self, _site: Site) -> bool {
        false
    }
    fn record(&mut self, _site: Site, _value: ArrayViewD<'_, f32>) {}
}

/// What to record, and how much memory it may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TracePlan {
    /// Blocks to record.
    pub layers: Vec<usize>,
    /// Stages to record.
    pub probes: Vec<Probe>,
    /// Tokens that will pass.
    pub tokens: usize,
    /// Most bytes the record may take.
    pub budget: u64,
}

/// One gibibyte.
pub const DEFAULT_BUDGET: u64 = 1 << 30;

/// A trace that cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TraceError {
    /// The record would be larger than allowed.
    #[error(
        "this trace would take {bytes} bytes ({} MiB) and the budget is {budget} bytes ({} MiB): \
         ask for fewer layers, fewer probes or a shorter text (h, the hidden state, is the largest), or raise the budget",
        bytes >> 20, budget >> 20
    )]
    OverBudget {
        /// Bytes the record would take.
        bytes: u128,
        /// Bytes allowed.
        budget: u64,
    },
    /// A stage that none of the layers has.
    #[error(
        "there is no {probe} in this model's layers {layers:?}: choose other probes or other layers"
    )]
    NoSuchProbe {
        /// Name of the stage asked for.
        probe: &'static str,
        /// The layers asked for.
        layers: Vec<usize>,
    },
    /// A layer the model does not have.
    #[error("there is no layer {layer}: this model has layers 0 to {last}", last = layers.saturating_sub(1))]
    NoSuchLayer {
        /// The layer asked for.
        layer: usize,
        /// How many there are.
        layers: usize,
    },
}

impl TracePlan {
    /// The places to record that the model has; a layer or probe named twice is recorded once.
    pub fn sites(&self, config: &Config) -> BTreeSet<Site> {
        let of_model = self
            .probes
            .iter()
            .filter(|p| !p.is_per_layer())
            .map(|&p| Site::model(p));
        let of_layers = self.layers.iter().flat_map(|&layer| {
            self.probes
                .iter()
                .filter(|p| p.is_per_layer())
                .map(move |&p| Site::layer(layer, p))
        });
        let all = of_model.chain(of_layers);
        all.filter(|site| site.axes(config).is_some()).collect()
    }

    /// Bytes the record will take.
    pub fn bytes(&self, config: &Config) -> u128 {
        let elements = |site: &Site| {
            let shape = site.shape(config, self.tokens).unwrap_or_default();
            shape.iter().map(|&n| n as u128).product::<u128>()
        };
        self.sites(config).iter().map(elements).sum::<u128>() * size_of::<f32>() as u128
    }

    /// Whether every stage asked for by name is there to record.
    ///
    /// # Errors
    /// Names the first that no chosen layer has.
    pub fn check_each_probe(&self, config: &Config) -> Result<(), TraceError> {
        let sites = self.sites(config);
        let absent = |probe: &&Probe| sites.iter().all(|site| site.probe != **probe);
        match self.probes.iter().find(absent) {
            None => Ok(()),
            Some(probe) => Err(TraceError::NoSuchProbe {
                probe: probe.name(),
                layers: self.layers.clone(),
            }),
        }
    }

    /// Checks layers and budget.
    ///
    /// # Errors
    /// When a layer does not exist, or the record would be over the budget.
    pub fn check(&self, config: &Config) -> Result<(), TraceError> {
        let layers = config.n_layers();
        if let Some(&layer) = self.layers.iter().find(|&&layer| layer >= layers) {
            return Err(TraceError::NoSuchLayer { layer, layers });
        }
        let bytes = self.bytes(config);
        if bytes > u128::from(self.budget) {
            return Err(TraceError::OverBudget {
                bytes,
                budget: self.budget,
            });
        }
        Ok(())
    }
}

/// The values a pass left behind, by place; each array holds the tokens that passed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trace {
    values: BTreeMap<Site, ArrayD<f32>>,
}

impl Trace {
    /// The value at a place, if it was asked for.
    pub fn get(&self, site: Site) -> Option<&ArrayD<f32>> {
        self.values.get(&site)
    }

    /// All places and values.
    pub fn into_arrays(self) -> impl Iterator<Item = (Site, ArrayD<f32>)> {
        self.values.into_iter()
    }
}

/// Records what a plan asks for, chunk after chunk, into arrays allocated once.
pub struct TraceTap {
    trace: Trace,
    filled: BTreeMap<Site, usize>,
}

impl TraceTap {
    /// Checks the plan, then allocates.
    ///
    /// # Errors
    /// As [`TracePlan::check`].
    pub fn new(plan: &TracePlan, config: &Config) -> Result<Self, TraceError> {
        plan.check(config)?;
        let allocate = |site: Site| {
            let shape = site.shape(config, plan.tokens)?;
            Some((site, ArrayD::zeros(IxDyn(&shape))))
        };
        Ok(Self {
            trace: Trace {
                values: plan
                    .sites(config)
                    .into_iter()
                    .filter_map(allocate)
                    .collect(),
            },
            filled: BTreeMap::new(),
        })
    }

    /// The record; tokens that never passed are cut off.
    pub fn finish(mut self) -> Trace {
        for (site, value) in &mut self.trace.values {
            let filled = self.filled.get(site).copied().unwrap_or(0);
            if filled < value.len_of(Axis(0)) {
                *value = value.slice_axis(Axis(0), Slice::from(..filled)).to_owned();
            }
        }
        self.trace
    }
}

impl Tap for TraceTap {
    fn wants(&self, site: Site) -> bool {
        self.trace.values.contains_key(&site)
    }

    fn record(&mut self, site: Site, value: ArrayViewD<'_, f32>) {
        let Some(whole) = self.trace.values.get_mut(&site) else {
            return;
        };
        let start = self.filled.entry(site).or_default();
        let end = (*start + value.len_of(Axis(0))).min(whole.len_of(Axis(0)));
        let rows = Slice::from(..end - *start);
        let mut value = value.slice_axis_move(Axis(0), rows);
        let mut target = whole.slice_axis_mut(Axis(0), Slice::from(*start..end));
        if site.probe == Probe::Attention {
            // The text so far is shorter than the whole: what is to come has no weight.
            let seen = Slice::from(..value.len_of(Axis(2)).min(target.len_of(Axis(2))));
            value = value.slice_axis_move(Axis(2), seen);
            target = target.slice_axis_move(Axis(2), seen);
        }
        target.assign(&value);
        *start = end;
    }
}
